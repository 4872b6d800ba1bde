//! `methodConfig` in the body of a `/custom` call: another method, path, query or body for this one call, and what of the
//! answer is wanted. What it says goes through the same checks as if the call had been made so; whatever else Truto's method
//! definitions know would change hosts, credentials or forms, and is refused by name.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::Method;
use serde::Deserialize;
use serde_json::{Value, value::RawValue};

use super::{CustomAsk, without};
use crate::{
    error::{Code, Error, Result},
    mapping::Path,
    service::members::Members,
    upstream::query::Query,
};

/// The member of the body, and the field problems name.
const MEMBER: &str = "methodConfig";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MethodConfig {
    method: Option<String>,
    path: Option<String>,
    #[serde(default)]
    query: BTreeMap<String, Value>,
    body: Option<Box<RawValue>>,
    body_format: Option<String>,
    response_path: Option<String>,
}

/// The call with what its body's `methodConfig` says, which is taken out of it. A call that may only read cannot have one,
/// because it would choose its method after its right was asked for.
pub(super) fn applied(ask: CustomAsk) -> Result<CustomAsk> {
    let Some((config, rest)) = taken_out(&ask)? else { return Ok(ask) };
    if ask.method.is_safe() {
        return Err(refused("is taken with POST, PUT, PATCH or DELETE only"));
    }
    if config.body_format.as_deref().is_some_and(|format| format != "json") {
        return Err(refused("takes no other `body_format` than `json`"));
    }
    let result = config.response_path.map(|path| Path::parse(&path)).transpose();
    let result = result.map_err(|_| refused("has a `response_path` that is not a path like `data.items`"))?;
    let body = config.body.map_or(rest, |body| Bytes::from(String::from(body.get())));
    let raw_query = joined(ask.raw_query, &config.query)?;
    let method = config.method.map_or(Ok(ask.method), |method| named(&method))?;
    let raw_path = config.path.map_or(Ok(ask.raw_path), plain)?;
    Ok(CustomAsk { method, raw_path, raw_query, body, result, ..ask })
}

/// The member and the body without it, byte for byte but for that.
fn taken_out(ask: &CustomAsk) -> Result<Option<(MethodConfig, Bytes)>> {
    if !ask.body.trim_ascii_start().starts_with(b"{") || !ask.is_json() {
        return Ok(None);
    }
    let Ok(object) = serde_json::from_slice::<Members<'_>>(&ask.body) else { return Ok(None) };
    let mut found = object.0.iter().filter(|(name, _)| name == MEMBER);
    let Some((_, config)) = found.next() else { return Ok(None) };
    if found.next().is_some() {
        return Err(refused("stands in the body twice"));
    }
    let config = serde_json::from_str(config.get()).map_err(|error| {
        let known = "`method`, `path`, `query`, `body`, `body_format` and `response_path`";
        match error.to_string().split('`').nth(1).filter(|_| error.to_string().starts_with("unknown field")) {
            Some(name) => refused(&format!("cannot say `{}`; it takes {known}", name.chars().take(64).collect::<String>())),
            None => refused(&format!("is not an object of {known}")),
        }
    })?;
    Ok(Some((config, without(&object, &[MEMBER])?)))
}

fn named(method: &str) -> Result<Method> {
    let upper = method.to_ascii_uppercase();
    let known = ["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"].iter().find(|known| **known == upper);
    let method = known.and_then(|known| Method::from_bytes(known.as_bytes()).ok());
    method.ok_or_else(|| refused("names a `method` that is none of GET, POST, PUT, PATCH and DELETE"))
}

/// A path below the account's base, for the same check as that of the call; addresses and placeholders are no paths.
fn plain(path: String) -> Result<String> {
    if !path.starts_with('/') || path.contains(['{', '}', '?', '#']) {
        return Err(refused("takes as `path` one below the vendor's base address: a slash first, no placeholders, no query"));
    }
    Ok(path)
}

fn joined(raw: Option<String>, more: &BTreeMap<String, Value>) -> Result<Option<String>> {
    let mut query = Query::default();
    for (name, value) in more {
        match value {
            Value::String(text) => query.add(name, text),
            Value::Number(_) | Value::Bool(_) => query.add(name, &value.to_string()),
            _ => return Err(refused("takes as `query` texts, numbers and booleans")),
        }
    }
    let more = query.text();
    Ok(match raw {
        _ if more.is_empty() => raw,
        Some(raw) if !raw.is_empty() => Some(format!("{raw}&{more}")),
        _ => Some(more),
    })
}

fn refused(what: &str) -> Error {
    Error::new(Code::InvalidBody, format!("`{MEMBER}` {what}.")).field(MEMBER)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(body: &str) -> CustomAsk {
        CustomAsk {
            method: Method::POST,
            raw_path: "/a".into(),
            raw_query: Some("x=1".into()),
            headers: vec![("content-type".into(), b"application/json".to_vec())],
            body: Bytes::from(body.to_owned()),
            company: None,
            result: None,
        }
    }

    #[test]
    fn what_it_says_takes_the_place_of_the_calls_own() {
        let body = r#"{"a":9007199254740993,"methodConfig":{"method":"put","path":"/b/c","query":{"y":2},"response_path":"d"}, "b":1.10}"#;
        let made = applied(ask(body)).unwrap();
        assert_eq!((made.method, made.raw_path.as_str(), made.raw_query.as_deref()), (Method::PUT, "/b/c", Some("x=1&y=2")));
        assert_eq!(made.body, r#"{"a":9007199254740993,"b":1.10}"#);
        assert_eq!(made.result.unwrap().as_str(), "d");
        assert_eq!(applied(ask(r#"{"methodConfig":{"method":"get"}}"#)).unwrap().body, "");
        assert_eq!(applied(ask(r#"{"methodConfig":{"body":[1]}}"#)).unwrap().body, "[1]");
        assert_eq!(applied(ask(r#"{"other":1}"#)).unwrap().body, r#"{"other":1}"#);
    }

    #[test]
    fn what_cannot_be_honoured_is_refused_by_name() {
        for config in [
            r#"{"base_url":"https://evil.example"}"#,
            r#"{"headers":{"a":"b"}}"#,
            r#"{"authorization":null}"#,
            r#"{"no_auth":true}"#,
            r#"{"body_format":"xml"}"#,
            r#"{"method":"CONNECT"}"#,
            r#"{"path":"https://evil.example/"}"#,
            r#"{"path":"/users/{{id}}"}"#,
            r#"{"path":"/a?b=c"}"#,
            r#"{"query":{"a":[1]}}"#,
            r#"{"response_path":"a["}"#,
            r#""text""#,
            r#"{"method":"GET"},"methodConfig":{}"#,
        ] {
            let error = applied(ask(&format!(r#"{{"methodConfig":{config}}}"#))).err().unwrap_or_else(|| panic!("{config}"));
            assert_eq!((error.code(), error.field_name()), (Code::InvalidBody, Some("methodConfig")), "{config}");
        }
        let safe = CustomAsk { method: Method::GET, ..ask(r#"{"methodConfig":{"method":"DELETE"}}"#) };
        assert_eq!(applied(safe).err().unwrap().field_name(), Some("methodConfig"));
    }
}
