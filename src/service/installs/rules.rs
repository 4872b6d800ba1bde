//! What an environment lays over a connector, and one account over that: changed key by key, never replaced as a whole.

use serde_json::{Map, Value};

use crate::{
    connector::{MapProblem, Maps},
    error::{Code, Error, Result},
};

/// The longest JSON of all rules of one object.
const MAX_MAPS: usize = 64 * 1024;
/// Mistakes that one answer tells.
const TOLD: usize = 10;

/// The members of an object that changes key by key.
pub(in crate::service) fn members<'v>(value: &'v Value, path: &str, known: &[&str]) -> Result<&'v Map<String, Value>> {
    let there_are = || known.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" and ");
    let Value::Object(members) = value else {
        let detail = format!("`{path}` is an object of {}; null takes away the one it stands for.", there_are());
        return Err(Error::new(Code::InvalidBody, detail).field(path));
    };
    match members.keys().find(|name| !known.contains(&name.as_str())) {
        None => Ok(members),
        Some(name) => {
            let name: String = name.chars().take(64).collect();
            let detail = format!(
                "`{path}` has no `{name}`: there is {}. Hosts, authentication, base addresses, limits and proxy rules are the \
                 connector's.",
                there_are()
            );
            Err(Error::new(Code::InvalidBody, detail).field(format!("{path}.{name}")))
        }
    }
}

/// The rules after a change of some of them: objects are merged at every depth, null removes, anything else replaces.
pub(in crate::service) fn changed_maps(before: &Map<String, Value>, change: &Value, path: &str) -> Result<Map<String, Value>> {
    let change = match change {
        Value::Null => return Ok(Map::new()),
        Value::Object(change) => change,
        _ => {
            let detail = format!("`{path}` is an object of resources, for example `{{\"users\": {{\"map\": {{…}}}}}}`.");
            return Err(Error::new(Code::InvalidBody, detail).field(path));
        }
    };
    let mut maps = before.clone();
    merge(&mut maps, change);
    // What nothing is left of goes.
    maps.retain(|_, resource| match resource {
        Value::Object(members) => {
            members.retain(|name, value| name != "map" || !value.as_object().is_some_and(Map::is_empty));
            !members.is_empty()
        }
        _ => true,
    });
    let length = serde_json::to_string(&maps).map_or(usize::MAX, |text| text.len());
    if length > MAX_MAPS {
        let detail = format!("`{path}` holds at most {MAX_MAPS} bytes of JSON, not {length}.");
        return Err(Error::new(Code::InvalidBody, detail).field(path));
    }
    Ok(maps)
}

/// RFC 7396.
fn merge(target: &mut Map<String, Value>, change: &Map<String, Value>) {
    for (name, value) in change {
        match value {
            Value::Null => drop(target.remove(name)),
            Value::Object(inner) => {
                let below = target.entry(name.clone()).or_insert_with(|| Value::Object(Map::new()));
                if !below.is_object() {
                    *below = Value::Object(Map::new());
                }
                if let Value::Object(below) = below {
                    merge(below, inner);
                }
            }
            value => drop(target.insert(name.clone(), value.clone())),
        }
    }
}

/// Refuses rules that cannot be read or do not fit what they are laid over.
pub(in crate::service) fn check_maps(
    maps: &Map<String, Value>,
    path: &str,
    check: impl FnOnce(&Maps) -> Vec<MapProblem>,
) -> Result<()> {
    let (maps, mut problems) = Maps::read(maps);
    if problems.is_empty() {
        problems = check(&maps);
    }
    let Some(first) = problems.first() else { return Ok(()) };
    let field = format!("{path}.{}", first.path);
    let told: Vec<String> = problems.iter().take(TOLD).map(ToString::to_string).collect();
    let more = if problems.len() > TOLD { format!("; and {} more", problems.len() - TOLD) } else { String::new() };
    Err(Error::new(Code::InvalidBody, format!("In `{path}`: {}{more}.", told.join("; "))).field(field))
}
