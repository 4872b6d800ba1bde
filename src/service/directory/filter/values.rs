//! The values of a filter: read once, compared with each record's leaf.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::{Filter, FilterOp, operators};
use crate::{
    error::{Code, Error, Result},
    model::Kind,
    service::members::Seen,
};

/// Texts that people write in any case.
const ANY_CASE: &[&str] = &["email", "emails", "username", "aliases"];

/// What a leaf is compared with.
#[derive(Debug)]
pub(super) enum Values {
    Texts(BTreeSet<String>),
    AnyCase(BTreeSet<String>),
    Part(String),
    Bool(bool),
    Numbers(Vec<f64>),
    Times(Vec<Timestamp>),
}

impl Values {
    /// Reads what the caller wrote, as values of this kind.
    pub(super) fn new(kind: Kind, path: &[String], filter: &Filter) -> Result<Values> {
        let bad = |detail: String| Err(Error::new(Code::InvalidFilter, detail).field(&filter.field));
        let ordered = matches!(filter.op, FilterOp::Gt | FilterOp::Gte | FilterOp::Lt | FilterOp::Lte);
        let is_part = filter.op == FilterOp::Contains;
        if ordered && !matches!(kind, Kind::Time | Kind::Number) || is_part && !matches!(kind, Kind::Text) {
            return bad(format!("`{}` takes {}, not {}.", filter.field, operators(kind).join(", "), filter.op.as_str()));
        }
        let Some(first) = filter.values.first() else {
            return bad(format!("`{}` needs a value.", filter.field));
        };
        match kind {
            Kind::Time => match filter.values.iter().map(|value| parse_time(value)).collect() {
                Some(times) => Ok(Values::Times(times)),
                None => bad(format!("`{}` takes RFC 3339 times, for example 2026-01-31T00:00:00Z.", filter.field)),
            },
            Kind::Number => {
                match filter.values.iter().map(|value| value.parse().ok().filter(|n: &f64| n.is_finite())).collect() {
                    Some(numbers) => Ok(Values::Numbers(numbers)),
                    None => bad(format!("`{}` takes numbers.", filter.field)),
                }
            }
            _ if is_part && first.is_empty() => bad(format!("`{}` needs a text to look for.", filter.field)),
            _ if is_part => Ok(Values::Part(first.to_lowercase())),
            Kind::Bool => match (first.as_str(), filter.op) {
                ("true", FilterOp::Eq) => Ok(Values::Bool(true)),
                ("false", FilterOp::Eq) => Ok(Values::Bool(false)),
                _ => bad(format!("`{}` takes true or false.", filter.field)),
            },
            Kind::Enum(words) => match filter.values.iter().find(|value| !words.contains(&value.as_str())) {
                Some(_) => bad(format!("`{}` takes one of: {}.", filter.field, words.join(", "))),
                None => Ok(Values::Texts(filter.values.iter().cloned().collect())),
            },
            _ if path.first().is_some_and(|first| ANY_CASE.contains(&first.as_str())) => {
                Ok(Values::AnyCase(filter.values.iter().map(|v| v.to_lowercase()).collect()))
            }
            _ => Ok(Values::Texts(filter.values.iter().cloned().collect())),
        }
    }

    /// Whether a leaf stands so to one of them.
    pub(super) fn compare(&self, leaf: &Seen<'_>, op: FilterOp) -> bool {
        match (self, leaf) {
            (Values::Texts(texts), Seen::Text(text)) => texts.contains(text.as_ref()),
            (Values::AnyCase(texts), Seen::Text(text)) => texts.contains(&text.to_lowercase()),
            (Values::Part(part), Seen::Text(text)) => text.to_lowercase().contains(part),
            (Values::Bool(wanted), Seen::Flag(flag)) => wanted == flag,
            (Values::Times(wanted), Seen::Text(text)) => {
                text.parse::<Timestamp>().is_ok_and(|time| wanted.iter().any(|wanted| stands(&time, op, wanted)))
            }
            (Values::Numbers(wanted), Seen::Number(number)) => wanted.iter().any(|wanted| stands(number, op, wanted)),
            _ => false,
        }
    }
}

/// Whether what was found stands so to what is wanted.
pub(in crate::service) fn stands<T: PartialOrd>(found: &T, op: FilterOp, wanted: &T) -> bool {
    match op {
        FilterOp::Eq | FilterOp::In | FilterOp::Contains => found == wanted,
        FilterOp::Gt => found > wanted,
        FilterOp::Gte => found >= wanted,
        FilterOp::Lt => found < wanted,
        FilterOp::Lte => found <= wanted,
    }
}

/// An RFC 3339 time, or a day, which is its beginning in UTC.
pub fn parse_time(text: &str) -> Option<Timestamp> {
    let date = || text.parse::<jiff::civil::Date>().ok()?.to_zoned(jiff::tz::TimeZone::UTC).ok().map(|zoned| zoned.timestamp());
    text.parse().ok().or_else(date)
}
