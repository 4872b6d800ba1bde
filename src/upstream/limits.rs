//! How long a vendor asks to wait, and its limits announced under the names callers know.

use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::rate::{self, LONGEST, Reading};
use crate::connector::RateWords;

const LIMIT: HeaderName = HeaderName::from_static("ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("ratelimit-reset");

/// Adds `ratelimit-limit`, `-remaining` and `-reset` (seconds) where the vendor says them under another name.
pub(super) fn announce(headers: &mut HeaderMap, reading: &Reading) {
    for (name, value) in [(LIMIT, reading.limit), (REMAINING, reading.remaining), (RESET, reading.reset_after)] {
        if let Some(value) = value
            && !headers.contains_key(&name)
        {
            headers.insert(name, HeaderValue::from(value));
        }
    }
}

/// How many seconds a vendor asks to wait: the connector's own headers, `Retry-After`, then the reset of a limit.
pub(super) fn wait(headers: &HeaderMap, own: &[HeaderName], words: &RateWords) -> Option<u64> {
    let now = rate::sent_at(headers);
    let said = |name: &HeaderName| rate::seconds_of(headers, name, None, now);
    own.iter().find_map(said).or_else(|| said(&header::RETRY_AFTER)).or_else(|| {
        let reading = rate::read(429, headers, words);
        // Room that is left is no reason to wait.
        reading.reset_after.filter(|_| reading.remaining.is_none_or(|remaining| remaining == 0))
    })
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
