//! Whether a record that a caller wants written has the unified form, and whether a record shows what was asked for.

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::{BodyError, convert::time, near::hint};
use crate::model::{Kind, Shape};

/// Checks names and kinds; `remote_data` is the caller's own and not looked at.
pub fn check_body(shape: &'static Shape, body: &Map<String, Value>) -> Result<(), BodyError> {
    object(shape, body.iter().filter(|(name, _)| *name != "remote_data"), "")
}

fn object<'b>(
    shape: &'static Shape,
    members: impl Iterator<Item = (&'b String, &'b Value)>,
    above: &str,
) -> Result<(), BodyError> {
    for (name, value) in members {
        let full = format!("{above}{}", shown(name));
        let Some(field) = shape.field(name) else {
            return Err(BodyError::Unknown { field: full, hint: hint(&shown(name), shape.fields.iter().map(|f| f.name)) });
        };
        check(field.kind, value, &full)?;
    }
    Ok(())
}

fn check(kind: Kind, value: &Value, field: &str) -> Result<(), BodyError> {
    let wrong = |takes: String| Err(BodyError::Wrong { field: field.to_owned(), takes });
    match (kind, value) {
        (_, Value::Null) => Ok(()),
        (Kind::Text, Value::String(text)) if !text.contains('\0') => Ok(()),
        (Kind::Text, _) => wrong("a text without NUL".to_owned()),
        (Kind::Bool, Value::Bool(_)) => Ok(()),
        (Kind::Bool, _) => wrong("`true` or `false`".to_owned()),
        (Kind::Number, Value::Number(_)) => Ok(()),
        (Kind::Number, _) => wrong("a number".to_owned()),
        (Kind::Time, Value::String(text)) if time(text).is_some() => Ok(()),
        (Kind::Time, _) => wrong("a date-time in the form of RFC 3339".to_owned()),
        (Kind::Enum(words), Value::String(word)) if words.contains(&word.as_str()) => Ok(()),
        (Kind::Enum(words), _) => wrong(format!("one of {}", words.join(", "))),
        (Kind::Object(shape), Value::Object(members)) => object(shape, members.iter(), &format!("{field}.")),
        (Kind::Object(_), _) => wrong("an object".to_owned()),
        (Kind::List(item), Value::Array(items)) => items.iter().enumerate().try_for_each(|(at, value)| match value {
            Value::Null => wrong("a list without nulls".to_owned()),
            value => check(*item, value, &format!("{field}[{at}]")),
        }),
        (Kind::List(_), _) => wrong("a list".to_owned()),
    }
}

/// At most so much of a caller's own words stands in an error.
pub(super) fn shown(name: &str) -> String {
    name.chars().take(64).collect()
}

/// The top-level fields of `wanted` that `record` does not show as they were asked for.
pub fn not_shown<'w>(wanted: &'w Map<String, Value>, record: &Value) -> Vec<&'w str> {
    let fields = wanted.iter().filter(|(name, _)| *name != "remote_data");
    let missing = fields.filter(|(name, value)| !shows(record.get(name.as_str()).unwrap_or(&Value::Null), value));
    missing.map(|(name, _)| name.as_str()).collect()
}

fn shows(found: &Value, wanted: &Value) -> bool {
    match (wanted, found) {
        (Value::Null, found) => found.is_null() || found.as_array().is_some_and(Vec::is_empty) || *found == "",
        (Value::Array(wanted), Value::Array(found)) => {
            found.len() == wanted.len() && wanted.iter().all(|wanted| found.iter().any(|found| shows(found, wanted)))
        }
        (Value::Array(wanted), Value::Null) => wanted.is_empty(),
        (Value::Object(wanted), Value::Object(found)) => wanted
            .iter()
            .filter(|(_, value)| !value.is_null())
            .all(|(name, value)| found.get(name).is_some_and(|found| shows(found, value))),
        (Value::String(wanted), Value::String(found)) => is_same_text(wanted, found),
        (wanted, found) => wanted == found,
    }
}

/// Vendors keep addresses in lower case, times in another form, and cut blanks at the ends.
fn is_same_text(wanted: &str, found: &str) -> bool {
    let times = || Some((wanted.parse::<Timestamp>().ok()?, found.parse::<Timestamp>().ok()?));
    wanted.trim() == found.trim()
        || (wanted.contains('@') && wanted.eq_ignore_ascii_case(found))
        || times().is_some_and(|(wanted, found)| wanted == found)
}
