//! Readings of a text that a target's kind does not imply: times, dates, whole numbers.

use std::borrow::Cow;

use jiff::{
    Timestamp,
    civil::{Date, DateTime},
    tz::TimeZone,
};

/// `as`, with its `format`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ReadAs {
    /// Seconds since 1970.
    EpochSeconds,
    /// Milliseconds since 1970.
    EpochMillis,
    /// A date-time; without a zone it is taken as UTC.
    DateTime(Option<String>),
    /// A date; as a time it is midnight UTC.
    Date(Option<String>),
    /// A whole number.
    Integer,
    /// As it is.
    Text,
}

impl ReadAs {
    /// Every word of `as`.
    pub(super) const WORDS: &'static [&'static str] = &["epoch_s", "epoch_ms", "datetime", "date", "integer", "text"];

    pub(super) fn named(word: &str, format: Option<String>) -> Option<ReadAs> {
        Some(match word {
            "epoch_s" => ReadAs::EpochSeconds,
            "epoch_ms" => ReadAs::EpochMillis,
            "datetime" => ReadAs::DateTime(format),
            "date" => ReadAs::Date(format),
            "integer" => ReadAs::Integer,
            "text" => ReadAs::Text,
            _ => return None,
        })
    }

    /// Whether the reading is a point in time.
    pub(super) fn is_time(&self) -> bool {
        !matches!(self, ReadAs::Integer | ReadAs::Text)
    }

    /// The text in its normal form.
    pub(super) fn read<'t>(&self, text: &'t str) -> Option<Cow<'t, str>> {
        match self {
            ReadAs::Date(format) => date(text, format.as_deref()).map(|date| Cow::Owned(date.to_string())),
            ReadAs::Integer => whole_number(text).map(Cow::Borrowed),
            ReadAs::Text => Some(Cow::Borrowed(text)),
            _ => self.time(text),
        }
    }

    /// The text as RFC 3339 in UTC.
    pub(super) fn time<'t>(&self, text: &'t str) -> Option<Cow<'t, str>> {
        let at = match self {
            ReadAs::EpochSeconds => epoch(text, 1_000_000_000)?,
            ReadAs::EpochMillis => epoch(text, 1_000_000)?,
            ReadAs::DateTime(None) => return time(text),
            ReadAs::DateTime(Some(format)) => {
                let read = jiff::fmt::strtime::parse(format, text).ok()?;
                read.to_timestamp().ok().or_else(|| in_utc(read.to_datetime().ok()?))?
            }
            ReadAs::Date(format) => in_utc(date(text, format.as_deref())?.into())?,
            ReadAs::Integer | ReadAs::Text => return None,
        };
        Some(Cow::Owned(at.to_string()))
    }
}

/// RFC 3339 (or ISO 8601) as RFC 3339 in UTC; a text that is already so stays as it is.
pub(super) fn time(text: &str) -> Option<Cow<'_, str>> {
    if is_utc(text.as_bytes()) {
        return Some(Cow::Borrowed(text));
    }
    let at = text.parse::<Timestamp>().ok().or_else(|| in_utc(text.parse::<DateTime>().ok()?))?;
    Some(Cow::Owned(at.to_string()))
}

fn in_utc(at: DateTime) -> Option<Timestamp> {
    TimeZone::UTC.to_timestamp(at).ok()
}

fn date(text: &str, format: Option<&str>) -> Option<Date> {
    match format {
        Some(format) => Date::strptime(format, text).ok(),
        None => text.parse().ok(),
    }
}

/// `2025-01-02T03:04:05[.123]Z`, with days that every month has; the rest goes through the calendar.
fn is_utc(text: &[u8]) -> bool {
    let number = |at: usize| -> Option<u8> {
        let (tens, ones) = (text.get(at)?, text.get(at + 1)?);
        (tens.is_ascii_digit() && ones.is_ascii_digit()).then(|| (tens - b'0') * 10 + ones - b'0')
    };
    let within = |at: usize, low: u8, high: u8| number(at).is_some_and(|n| (low..=high).contains(&n));
    let (20..=30, Some(b'Z')) = (text.len(), text.last()) else { return false };
    let fraction = &text[19..text.len() - 1];
    let marks = text[4] == b'-' && text[7] == b'-' && text[10] == b'T' && text[13] == b':' && text[16] == b':';
    marks
        && (fraction.is_empty() || fraction.len() > 1 && fraction[0] == b'.' && fraction[1..].iter().all(u8::is_ascii_digit))
        && within(0, 0, 99)
        && within(2, 0, 99)
        && within(5, 1, 12)
        && within(8, 1, 28)
        && within(11, 0, 23)
        && within(14, 0, 59)
        && within(17, 0, 59)
}

/// A decimal number of units of so many nanoseconds since 1970.
fn epoch(text: &str, unit: i128) -> Option<Timestamp> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let negative = whole.starts_with('-');
    let whole: i128 = whole.parse::<i64>().ok()?.into();
    let mut nanos = whole * unit;
    let mut worth = unit;
    for digit in fraction.chars() {
        worth /= 10;
        let part = i128::from(digit.to_digit(10)?) * worth;
        nanos += if negative { -part } else { part };
    }
    Timestamp::from_nanosecond(nanos).ok()
}

/// The digits of a whole number, also of `12.0`; never through a float.
fn whole_number(text: &str) -> Option<&str> {
    let text = text.trim();
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = whole.strip_prefix('-').unwrap_or(whole);
    let is_number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    (is_number && !fraction.is_empty() && fraction.bytes().all(|b| b == b'0')).then_some(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_become_utc() {
        let cases = [
            ("2025-01-02T03:04:05Z", Some("2025-01-02T03:04:05Z")),
            ("2025-01-02T03:04:05.000Z", Some("2025-01-02T03:04:05.000Z")),
            ("2025-01-31T03:04:05Z", Some("2025-01-31T03:04:05Z")),
            ("2025-02-30T03:04:05Z", None),
            ("2025-01-02T05:04:05+02:00", Some("2025-01-02T03:04:05Z")),
            ("2025-01-02 03:04:05+00:00", Some("2025-01-02T03:04:05Z")),
            ("2025-01-02T03:04:05", Some("2025-01-02T03:04:05Z")),
            ("N/A", None),
            ("> 365 DAYS AGO", None),
            ("", None),
            ("2025-13-02T03:04:05Z", None),
            ("2025-01-02T24:04:05Z", None),
            ("2025-01-02T03:04:05.Z", None),
        ];
        for (text, wanted) in cases {
            assert_eq!(time(text).as_deref(), wanted, "{text}");
        }
    }

    #[test]
    fn epochs_keep_their_fraction() {
        assert_eq!(ReadAs::EpochSeconds.time("1735787045").as_deref(), Some("2025-01-02T03:04:05Z"));
        assert_eq!(ReadAs::EpochSeconds.time("1735787045.5").as_deref(), Some("2025-01-02T03:04:05.5Z"));
        assert_eq!(ReadAs::EpochMillis.time("1735787045123").as_deref(), Some("2025-01-02T03:04:05.123Z"));
        assert_eq!(ReadAs::EpochSeconds.time("-0.5").as_deref(), Some("1969-12-31T23:59:59.5Z"));
        for text in ["", "x", "1e9", "9223372036854775807", "1735787045.x"] {
            assert_eq!(ReadAs::EpochSeconds.time(text), None, "{text}");
        }
    }

    #[test]
    fn formats_and_dates() {
        let us = ReadAs::DateTime(Some("%m/%d/%Y %H:%M".to_owned()));
        assert_eq!(us.time("01/02/2025 03:04").as_deref(), Some("2025-01-02T03:04:00Z"));
        let zoned = ReadAs::DateTime(Some("%Y-%m-%d %H:%M:%S%z".to_owned()));
        assert_eq!(zoned.time("2025-01-02 05:04:05+0200").as_deref(), Some("2025-01-02T03:04:05Z"));
        let day = ReadAs::Date(Some("%d.%m.%Y".to_owned()));
        assert_eq!(day.time("02.01.2025").as_deref(), Some("2025-01-02T00:00:00Z"));
        assert_eq!(day.read("02.01.2025").as_deref(), Some("2025-01-02"));
        assert_eq!(ReadAs::Date(None).read("2025-01-02").as_deref(), Some("2025-01-02"));
        assert_eq!(ReadAs::Date(None).read("tomorrow"), None);
    }

    #[test]
    fn whole_numbers_keep_every_digit() {
        assert_eq!(whole_number("12"), Some("12"));
        assert_eq!(whole_number(" -12.00 "), Some("-12"));
        assert_eq!(whole_number("170141183460469231731687303715884105728"), Some("170141183460469231731687303715884105728"));
        for text in ["", "-", "1.5", "12.", "1e3", "0x1", "many"] {
            assert_eq!(whole_number(text), None, "{text}");
        }
    }
}
