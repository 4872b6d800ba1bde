//! Values written in the connector file itself, checked against what the target holds.

use serde_json::Value;

use super::{compile::Mistake, convert::time, near::hint, text::write_text};
use crate::model::Kind;

/// The value as JSON text.
pub(super) fn fixed(kind: Kind, value: &Value) -> Result<Vec<u8>, Mistake> {
    let mut out = Vec::new();
    write(kind, value, &mut out)?;
    Ok(out)
}

fn write(kind: Kind, value: &Value, out: &mut Vec<u8>) -> Result<(), Mistake> {
    match (kind, value) {
        (_, Value::Null) => out.extend_from_slice(if matches!(kind, Kind::List(_)) { b"[]" } else { b"null" }),
        (Kind::Text, Value::String(text)) => write_text(out, text),
        (Kind::Text, Value::Bool(_) | Value::Number(_)) => write_text(out, &value.to_string()),
        (Kind::Number, Value::Number(number)) => out.extend_from_slice(number.to_string().as_bytes()),
        (Kind::Bool, Value::Bool(_)) => out.extend_from_slice(value.to_string().as_bytes()),
        (Kind::Time, Value::String(text)) => {
            let at = time(text).ok_or("the fixed value is not a date-time")?;
            write_text(out, &at);
        }
        (Kind::Enum(words), Value::String(word)) if words.contains(&word.as_str()) => write_text(out, word),
        (Kind::Enum(words), Value::String(word)) => {
            return Err(Mistake(format!("`{word}` is not a word of this field"), hint(word, words.iter().copied())));
        }
        (Kind::List(item), Value::Array(items)) => {
            out.push(b'[');
            for (at, value) in items.iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                write(*item, value, out)?;
            }
            out.push(b']');
        }
        (Kind::Object(shape), Value::Object(members)) => {
            out.push(b'{');
            for (at, (name, value)) in members.iter().enumerate() {
                let Some(field) = shape.field(name) else {
                    return Err(Mistake(format!("no field `{name}`"), hint(name, shape.fields.iter().map(|f| f.name))));
                };
                if at > 0 {
                    out.push(b',');
                }
                write_text(out, name);
                out.push(b':');
                write(field.kind, value, out)?;
            }
            out.push(b'}');
        }
        _ => return Err("the fixed value is not of the kind the field holds".into()),
    }
    Ok(())
}
