//! What vendors say about their rate limits, in the many ways they say it, in one shape.
//!
//! Each part is looked for where the connector says, then in the IETF fields (drafts 05 to 11), then under the common older
//! names. What is malformed, negative or beyond belief is passed over. `Retry-After` wins over every reset.

use http::{HeaderMap, HeaderName, header};
use jiff::{Timestamp, fmt::rfc2822};

use crate::{
    connector::{RateUnit, RateWords},
    model::{Clock, SystemClock},
};

const LIMIT: [&str; 4] = ["ratelimit-limit", "x-ratelimit-limit", "x-rate-limit-limit", "x-ratelimit-limit-requests"];
const REMAINING: [&str; 4] =
    ["ratelimit-remaining", "x-ratelimit-remaining", "x-rate-limit-remaining", "x-ratelimit-remaining-requests"];
const RESET: [&str; 5] =
    ["ratelimit-reset", "x-ratelimit-reset", "x-rate-limit-reset", "x-ratelimit-reset-after", "x-ratelimit-reset-requests"];

/// Longest wait that is believed; beyond it a header is taken for a mistake.
pub(super) const LONGEST: u64 = 7 * 86_400;

/// What an answer says about the vendor's limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Requests of a whole window.
    pub limit: Option<u64>,
    /// Requests left in this one.
    pub remaining: Option<u64>,
    /// Seconds until the vendor counts anew.
    pub reset_after: Option<u64>,
    /// Seconds the vendor asks to wait.
    pub retry_after: Option<u64>,
    /// Seconds a whole window takes.
    pub window: Option<u64>,
    /// Which kind of header spoke of what is left, or else of the wait.
    pub source: Source,
}

/// Where a reading comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Source {
    /// Nothing was said.
    #[default]
    Nothing,
    /// `Retry-After` alone.
    RetryAfter,
    /// Headers the connector names.
    Connector,
    /// `RateLimit` and `RateLimit-Policy`.
    Structured,
    /// `RateLimit-Limit` and the like, with or without `X-`.
    Plain,
}

/// Whether any header speaks of limits; cheap, for answers that say nothing.
pub fn speaks(headers: &HeaderMap, words: &RateWords) -> bool {
    headers.keys().any(|name| {
        let text = name.as_str();
        matches!(text.as_bytes().first(), Some(b'r' | b'x'))
            && (text.starts_with("x-rate") || text.starts_with("ratelimit") || text == "retry-after")
            || words.names(name)
    })
}

/// Reads an answer's headers. `Retry-After` counts where the status says that it is about limits.
pub fn read(status: u16, headers: &HeaderMap, words: &RateWords) -> Reading {
    let now = sent_at(headers);
    let retry_after = matches!(status, 429 | 503).then(|| seconds_of(headers, &header::RETRY_AFTER, None, now)).flatten();
    let own = Reading {
        limit: words.limit.as_ref().and_then(|name| whole(headers, name)),
        remaining: words.remaining.as_ref().and_then(|name| whole(headers, name)),
        reset_after: words.reset.as_ref().and_then(|name| seconds_of(headers, name, words.unit, now)),
        source: Source::Connector,
        ..Reading::default()
    };
    let plain = Reading {
        limit: LIMIT.iter().find_map(|name| limit_of(headers, name)),
        remaining: REMAINING.iter().find_map(|name| whole(headers, *name)),
        reset_after: RESET.iter().find_map(|name| reset_of(headers, name, words.unit, now)),
        window: window_of_plain(headers),
        source: Source::Plain,
        ..Reading::default()
    };
    let structured = structured(headers);
    let mut reading = [own, structured, plain].into_iter().fold(Reading::default(), Reading::or);
    reading.retry_after = retry_after;
    if reading.source == Source::Nothing && retry_after.is_some() {
        reading.source = Source::RetryAfter;
    }
    reading
}

impl Reading {
    /// Whether nothing was said.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether little is left, or nobody knows how much.
    pub fn is_scarce(&self) -> bool {
        let plenty = self.remaining.zip(self.limit).is_some_and(|(remaining, limit)| remaining > 512 || remaining > limit / 2);
        self.remaining.is_some() && !plenty
    }

    /// When the vendor counts anew, or when it asks to come back.
    pub fn reset_at(&self, now: Timestamp) -> Option<Timestamp> {
        let seconds = i64::try_from(self.retry_after.or(self.reset_after)?).ok()?;
        now.checked_add(jiff::SignedDuration::from_secs(seconds)).ok()
    }

    fn or(self, other: Reading) -> Reading {
        let says = |reading: &Reading| reading.limit.or(reading.remaining).or(reading.reset_after).is_some();
        Reading {
            limit: self.limit.or(other.limit),
            remaining: self.remaining.or(other.remaining),
            reset_after: self.reset_after.or(other.reset_after),
            retry_after: None,
            window: self.window.or(other.window),
            source: match self.source {
                Source::Nothing if says(&other) => other.source,
                source => source,
            },
        }
    }
}

/// One item of a structured field: its name and its numbers.
struct Item<'t> {
    name: &'t str,
    parameters: Vec<(&'t str, u64)>,
}

impl<'t> Item<'t> {
    fn parse(text: &'t str) -> Self {
        let mut parts = text.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let number = |part: &'t str| {
            let (key, value) = part.split_once('=')?;
            Some((key.trim(), value.trim().parse().ok()?))
        };
        Self { name, parameters: parts.filter_map(number).collect() }
    }

    fn get(&self, wanted: &str) -> Option<u64> {
        self.parameters.iter().find(|(key, _)| *key == wanted).map(|(_, value)| *value)
    }
}

/// `RateLimit: "default";r=50;t=30` (drafts 08 to 11; of several the tightest), `limit=100, remaining=50, reset=30` (07), with
/// `RateLimit-Policy: "default";q=100;w=60` or `100;w=60`.
fn structured(headers: &HeaderMap) -> Reading {
    let text = joined(headers, "ratelimit");
    let policy = joined(headers, "ratelimit-policy");
    let policies: Vec<Item<'_>> = policy.split(',').map(Item::parse).filter(|item| item.get("w").is_some()).collect();
    let pairs = || text.split(',').filter_map(|part| part.split(';').next()?.split_once('='));
    let pair = |wanted: &str| pairs().find(|(key, _)| key.trim() == wanted).and_then(|(_, value)| value.trim().parse().ok());
    if let Some(remaining) = pair("remaining") {
        let window = policies.iter().filter_map(|item| item.get("w")).min().filter(|seconds| *seconds <= LONGEST);
        let reset_after = pair("reset").filter(|seconds| *seconds <= LONGEST);
        return Reading {
            limit: pair("limit"),
            remaining: Some(remaining),
            reset_after,
            window,
            source: Source::Structured,
            ..Reading::default()
        };
    }
    let items = text.split(',').map(Item::parse).filter(|item| is_string(item.name) && item.get("r").is_some());
    let tightest = items.min_by_key(|item| (item.get("r"), std::cmp::Reverse(item.get("t"))));
    let Some(item) = tightest else { return Reading::default() };
    let policy = policies.iter().find(|policy| policy.name == item.name);
    Reading {
        limit: policy.and_then(|policy| policy.get("q")),
        remaining: item.get("r"),
        reset_after: item.get("t").filter(|seconds| *seconds <= LONGEST),
        window: policy.and_then(|policy| policy.get("w")).filter(|seconds| *seconds <= LONGEST),
        source: Source::Structured,
        ..Reading::default()
    }
}

fn is_string(text: &str) -> bool {
    text.len() >= 2 && text.starts_with('"') && text.ends_with('"')
}

/// All lines of a list field as one.
fn joined(headers: &HeaderMap, name: &str) -> String {
    let lines: Vec<&str> = headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect();
    lines.join(",")
}

/// Drafts 05 and 06 put the policies behind the limit: `100, 100;w=60`.
fn limit_of(headers: &HeaderMap, name: &str) -> Option<u64> {
    let text = headers.get(name)?.to_str().ok()?;
    text.split([',', ';']).next()?.trim().parse().ok()
}

fn window_of_plain(headers: &HeaderMap) -> Option<u64> {
    let text = headers.get("ratelimit-limit")?.to_str().ok()?;
    let limit: u64 = text.split([',', ';']).next()?.trim().parse().ok()?;
    let policy = text.split(',').skip(1).map(Item::parse).find(|item| item.name.parse() == Ok(limit))?;
    policy.get("w").filter(|seconds| *seconds <= LONGEST)
}

/// A whole number. Of several lines the smallest counts, because a limit may be told more than once.
fn whole(headers: &HeaderMap, name: impl header::AsHeaderName) -> Option<u64> {
    let lines = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    lines.filter_map(|text| text.trim().parse().ok()).min()
}

fn reset_of(headers: &HeaderMap, name: &'static str, unit: Option<RateUnit>, now: Timestamp) -> Option<u64> {
    let unit = match name {
        // The drafts' field is a number of seconds; the later `-after` says so in its name.
        "x-ratelimit-reset-after" => Some(RateUnit::DeltaS),
        _ => unit,
    };
    seconds_of(headers, &HeaderName::from_static(name), unit, now)
}

/// Seconds from now. Of several lines the latest counts.
pub(super) fn seconds_of(headers: &HeaderMap, name: &HeaderName, unit: Option<RateUnit>, now: Timestamp) -> Option<u64> {
    let lines = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    lines.filter_map(|text| seconds(text.trim(), unit, now)).max()
}

/// The moment the answer was made: the vendor's own clock where it is sent, because its dates follow that clock.
pub(super) fn sent_at(headers: &HeaderMap) -> Timestamp {
    let date = headers.get(header::DATE).and_then(|value| value.to_str().ok()).and_then(http_date);
    date.unwrap_or_else(|| SystemClock.now())
}

fn http_date(text: &str) -> Option<Timestamp> {
    rfc2822::DateTimeParser::new().parse_timestamp(text).ok()
}

/// Seconds from now in the unit that is declared, or else in the one the number looks like: an epoch in milliseconds or
/// seconds, a number of seconds, an HTTP date.
fn seconds(text: &str, unit: Option<RateUnit>, now: Timestamp) -> Option<u64> {
    let until = |second: f64| (second - now.as_millisecond() as f64 / 1000.0).ceil().max(0.0) as u64;
    let number = text.parse::<f64>().ok().filter(|number| number.is_finite() && *number >= 0.0);
    let wait = match (unit, number) {
        (Some(RateUnit::HttpDate), _) => until(http_date(text)?.as_second() as f64),
        (Some(RateUnit::EpochMs), Some(number)) => until(number / 1000.0),
        (Some(RateUnit::EpochS), Some(number)) => until(number),
        (Some(RateUnit::DeltaS), Some(number)) => number.ceil() as u64,
        (Some(RateUnit::DeltaMs), Some(number)) => (number / 1000.0).ceil() as u64,
        (None, Some(number)) if number > 1e12 => until(number / 1000.0),
        (None, Some(number)) if number > 1e9 => until(number),
        (None, Some(number)) => number.ceil() as u64,
        (None, None) => until(http_date(text)?.as_second() as f64),
        (Some(_), None) => return None,
    };
    (wait <= LONGEST).then_some(wait)
}
