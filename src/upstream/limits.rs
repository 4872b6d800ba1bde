//! What vendors say about their rate limits, in the many ways they say it.

use http::{HeaderMap, HeaderName, HeaderValue, header};
use jiff::{Timestamp, fmt::rfc2822};

use crate::model::{Clock, SystemClock};

const LIMIT: HeaderName = HeaderName::from_static("ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("ratelimit-reset");

const LIMIT_FORMS: [&str; 3] = ["x-ratelimit-limit", "x-rate-limit-limit", "x-ratelimit-limit-requests"];
const REMAINING_FORMS: [&str; 3] = ["x-ratelimit-remaining", "x-rate-limit-remaining", "x-ratelimit-remaining-requests"];
const RESET_FORMS: [&str; 4] =
    ["x-ratelimit-reset", "x-rate-limit-reset", "x-ratelimit-reset-after", "x-ratelimit-reset-requests"];

/// Longest wait that is believed; beyond it a header is taken for a mistake.
const LONGEST: u64 = 7 * 86_400;

/// Adds `ratelimit-limit`, `-remaining` and `-reset` (seconds) where the vendor says them under another name.
pub(super) fn announce(headers: &mut HeaderMap) {
    if !headers.keys().any(|name| name.as_str().starts_with("x-rate")) {
        return;
    }
    let add = |headers: &mut HeaderMap, name: HeaderName, value: Option<u64>| {
        if let Some(value) = value
            && !headers.contains_key(&name)
        {
            headers.insert(name, HeaderValue::from(value));
        }
    };
    let limit = first(headers, &LIMIT_FORMS).and_then(|text| text.parse().ok());
    let remaining = first(headers, &REMAINING_FORMS).and_then(|text| text.parse().ok());
    let reset = first(headers, &RESET_FORMS).and_then(|text| seconds(text, sent_at(headers)));
    add(headers, LIMIT, limit);
    add(headers, REMAINING, remaining);
    add(headers, RESET, reset);
}

/// How many seconds a vendor asks to wait: the connector's own headers, `Retry-After`, then the reset forms.
pub(super) fn wait(headers: &HeaderMap, own: &[HeaderName]) -> Option<u64> {
    let now = || sent_at(headers);
    let text = |name: &HeaderName| headers.get(name).and_then(|v| v.to_str().ok()).map(str::trim);
    own.iter()
        .find_map(|name| text(name).and_then(|t| seconds(t, now())))
        .or_else(|| text(&header::RETRY_AFTER).and_then(|t| seconds(t, now())))
        .or_else(|| structured(headers))
        .or_else(|| text(&RESET).and_then(|t| seconds(t, now())))
        .or_else(|| first(headers, &RESET_FORMS).and_then(|t| seconds(t, now())))
}

/// The wait a sentence names: "try again in 30 seconds", "in 2 minutes".
pub(super) fn wait_in_text(body: &[u8]) -> Option<u64> {
    let text = String::from_utf8_lossy(&body[..body.len().min(4096)]).to_ascii_lowercase();
    let at = ["try again in ", "retry in ", "retry after ", "try again after ", "wait "]
        .iter()
        .find_map(|w| text.find(w).map(|at| at + w.len()))?;
    let rest = text[at..].trim_start_matches(['~', ' ']);
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let number: u64 = rest[..end].parse().ok()?;
    let unit = rest[end..].trim_start_matches(['.', ' ', '-']);
    let factor = match unit {
        u if u.starts_with("hour") || u.starts_with("h ") => 3600,
        u if u.starts_with("min") || u.starts_with("m ") => 60,
        u if u.starts_with("ms") || u.starts_with("milli") => return Some(number.div_ceil(1000).max(1)),
        _ => 1,
    };
    number.checked_mul(factor).filter(|s| *s <= LONGEST)
}

fn first<'h>(headers: &'h HeaderMap, names: &[&'static str]) -> Option<&'h str> {
    names.iter().find_map(|name| headers.get(*name)).and_then(|value| value.to_str().ok()).map(str::trim)
}

/// `RateLimit: "default";r=0;t=30`.
fn structured(headers: &HeaderMap) -> Option<u64> {
    let text = headers.get("ratelimit")?.to_str().ok()?;
    let waits = text.split(',').filter_map(|item| {
        let parameter =
            |name: &str| item.split(';').find_map(|p| p.trim().strip_prefix(name)).and_then(|v| v.parse::<u64>().ok());
        (parameter("r=") == Some(0)).then(|| parameter("t=")).flatten()
    });
    waits.max().filter(|s| *s <= LONGEST)
}

/// The moment the answer was made: the vendor's own clock where it is sent, because its dates follow that clock.
fn sent_at(headers: &HeaderMap) -> Timestamp {
    let date = headers.get(header::DATE).and_then(|value| value.to_str().ok()).and_then(http_date);
    date.unwrap_or_else(|| SystemClock.now())
}

fn http_date(text: &str) -> Option<Timestamp> {
    rfc2822::DateTimeParser::new().parse_timestamp(text).ok()
}

/// Seconds from now: a number of seconds, an epoch in seconds or milliseconds, or an HTTP date.
fn seconds(text: &str, now: Timestamp) -> Option<u64> {
    let until = |second: i64| u64::try_from(second.saturating_sub(now.as_second())).unwrap_or(0);
    let wait = match text.parse::<f64>() {
        Ok(number) if !number.is_finite() || number < 0.0 => return None,
        Ok(number) if number > 1e12 => until((number / 1000.0).ceil() as i64),
        Ok(number) if number > 1e9 => until(number.ceil() as i64),
        Ok(number) => number.ceil() as u64,
        Err(_) => until(http_date(text)?.as_second()),
    };
    (wait <= LONGEST).then_some(wait)
}
