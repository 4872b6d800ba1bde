//! How much a node takes at once, and what callers may ask.

use std::time::Duration;

use super::layers::Given;
use crate::model::Rate;

/// Requests under way at once, unless the operator says otherwise.
pub(super) const IN_FLIGHT: usize = 4096;
/// How often each account is looked at, unless the operator says otherwise; also the longest time.
pub(super) const PROBE_EVERY: Duration = Duration::from_secs(24 * 60 * 60);
/// The longest time a limit may be over.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

pub(super) fn in_flight(given: &Given) -> Result<usize, String> {
    match given.text().parse() {
        Ok(number) if (1..=1_000_000).contains(&number) => Ok(number),
        _ => Err(format!("`{}` is not a number of requests from 1 to 1000000", given.text())),
    }
}

pub(super) fn replicas(given: &Given) -> Result<u8, String> {
    match given.text().parse() {
        Ok(number) if number <= 8 => Ok(number),
        _ => Err(format!("`{}` is not a number of replicas from 0 to 8", given.text())),
    }
}

pub(super) fn days(given: &Given) -> Result<Duration, String> {
    match given.text().parse::<u64>() {
        Ok(days) if (1..=36_500).contains(&days) => Ok(Duration::from_secs(days * 24 * 60 * 60)),
        _ => Err(format!("`{}` is not a number of days from 1 to 36500", given.text())),
    }
}

/// `100/10s`, `600/1m`, `10000/h`.
pub(super) fn rate(given: &Given) -> Result<Rate, String> {
    let bad = || {
        let text = given.text();
        format!("`{text}` is not a limit; write requests and time, for example `100/10s`, `600/1m` or `10000/1h`, at most 24h")
    };
    let (requests, period) = given.text().split_once('/').ok_or_else(bad)?;
    let requests = requests.trim().parse().ok().filter(|requests| (1..=10_000_000).contains(requests)).ok_or_else(bad)?;
    let period = duration(period.trim()).filter(|period| !period.is_zero() && *period <= LONGEST).ok_or_else(bad)?;
    Ok(Rate { requests, period })
}

/// `24h`, `90m`, `30s`; `0` is never.
pub(super) fn probe_every(given: &Given) -> Result<Option<Duration>, String> {
    let text = given.text();
    if text == "0" {
        return Ok(None);
    }
    match duration(text).filter(|every| !every.is_zero() && *every <= PROBE_EVERY) {
        Some(every) => Ok(Some(every)),
        None => Err(format!("`{text}` is not a time; write for example `24h`, `90m` or `30s`, at most 24h, or `0` for never")),
    }
}

/// A number and `s`, `m` or `h`; one of them without a number.
fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        _ => return None,
    };
    let number: u64 = if number.is_empty() { 1 } else { number.parse().ok()? };
    Some(Duration::from_secs(number.saturating_mul(seconds)))
}
