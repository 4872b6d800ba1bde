//! Which rights a vendor says a credential lacks: by RFC 6750 in a header, or in one of the ways JSON answers say it.

use http::{HeaderMap, header};
use serde_json::Value;

/// Names kept of one answer.
const MOST: usize = 20;
/// The longest name.
const LONGEST: usize = 200;
/// The largest body that is looked into.
const READ: usize = 64 * 1024;
/// How much of a header, and how many headers.
const HEADER: usize = 4096;
const HEADERS: usize = 16;
/// How deep.
const DEPTH: usize = 6;
/// Members that hold nothing else.
const MEMBERS: [&str; 6] =
    ["missing_scopes", "missingScopes", "required_scopes", "requiredScopes", "requiredGranularScopes", "missing_permissions"];
/// Members that mean it beside an error of one of these names.
const BESIDE: [&str; 3] = ["needed", "scope", "scopes"];
const ERRORS: [&str; 2] = ["missing_scope", "insufficient_scope"];

/// The names in a refusal, in their order; none where the vendor names none.
pub(super) fn missing(headers: &HeaderMap, body: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    let challenges = headers.get_all(header::WWW_AUTHENTICATE).iter().take(HEADERS).filter_map(|value| value.to_str().ok());
    for value in challenges.map(|value| &value[..value.len().min(HEADER)]) {
        if parameter(value, "error").as_deref() == Some("insufficient_scope") {
            add(&mut found, &parameter(value, "scope").unwrap_or_default());
        }
    }
    if found.is_empty()
        && body.len() <= READ
        && let Ok(body) = serde_json::from_slice(body)
    {
        look(&mut found, &body, DEPTH);
    }
    found
}

/// A parameter of a challenge: `name="value"` or `name=value`.
fn parameter(challenge: &str, name: &str) -> Option<String> {
    let lower = challenge.to_ascii_lowercase();
    lower.match_indices(name).find_map(|(at, _)| {
        let starts = lower[..at].chars().next_back().is_none_or(|before| before == ',' || before.is_ascii_whitespace());
        let value = challenge[at + name.len()..].trim_start().strip_prefix('=').filter(|_| starts)?;
        Some(first_value(value.trim_start()))
    })
}

fn first_value(text: &str) -> String {
    match text.strip_prefix('"') {
        Some(quoted) => quoted.split('"').next().unwrap_or_default().to_owned(),
        None => text.split([',', ' ']).next().unwrap_or_default().to_owned(),
    }
}

fn look(found: &mut Vec<String>, value: &Value, depth: usize) {
    let members = match value {
        Value::Object(members) if depth > 0 => members,
        Value::Array(elements) if depth > 0 => return elements.iter().take(MOST).for_each(|one| look(found, one, depth - 1)),
        _ => return,
    };
    let is_said = members.values().any(|member| member.as_str().is_some_and(|text| ERRORS.contains(&text)));
    for (name, member) in members {
        match MEMBERS.contains(&name.as_str()) || (is_said && BESIDE.contains(&name.as_str())) {
            true => names(found, member),
            false => look(found, member, depth - 1),
        }
    }
}

fn names(found: &mut Vec<String>, value: &Value) {
    match value {
        Value::String(text) => add(found, text),
        Value::Array(elements) => elements.iter().filter_map(Value::as_str).for_each(|text| add(found, text)),
        _ => {}
    }
}

/// Names apart by blanks or commas, of the characters RFC 6749 §3.3 allows.
fn add(found: &mut Vec<String>, text: &str) {
    let is_allowed = |b: u8| b.is_ascii_graphic() && b != b'"' && b != b'\\';
    for name in text.split([' ', ',']).filter(|name| !name.is_empty() && name.len() <= LONGEST) {
        let is_new = !found.iter().any(|known| known == name);
        if is_new && found.len() < MOST && name.bytes().all(is_allowed) {
            found.push(name.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    fn of(header: Option<&str>, body: &str) -> Vec<String> {
        let mut headers = HeaderMap::new();
        if let Some(header) = header {
            headers.append(header::WWW_AUTHENTICATE, header.parse().unwrap());
        }
        missing(&headers, body.as_bytes())
    }

    #[test]
    fn rfc_6750_names_them_in_the_header() {
        for header in [
            r#"Bearer error="insufficient_scope", scope="users:read groups:read""#,
            r#"Bearer realm="x", error_description="no scope", error="insufficient_scope", scope = "users:read groups:read""#,
            r#"bearer Scope="users:read groups:read",error=insufficient_scope"#,
        ] {
            assert_eq!(of(Some(header), "{}"), ["users:read", "groups:read"], "{header}");
        }
        for header in
            [r#"Bearer error="invalid_token", scope="a""#, "Bearer", "Basic realm=scope", "Bearer error=\"insufficient_scope\""]
        {
            assert_eq!(of(Some(header), "{}"), Vec::<String>::new(), "{header}");
        }
    }

    #[test]
    fn json_names_them_in_several_ways() {
        for body in [
            r#"{"missing_scopes": ["a", "b"]}"#,
            r#"{"ok": false, "error": "missing_scope", "needed": "a,b", "provided": "c"}"#,
            r#"{"category": "MISSING_SCOPES", "errors": [{"context": {"requiredScopes": ["a", "b"]}}]}"#,
            r#"{"error": "insufficient_scope", "scope": "a b"}"#,
        ] {
            assert_eq!(of(None, body), ["a", "b"], "{body}");
        }
        for body in
            ["", "<html>", "[]", "7", r#"{"scope": "a"}"#, r#"{"error": "denied", "needed": "a"}"#, r#"{"missing_scopes": 7}"#]
        {
            assert_eq!(of(None, body), Vec::<String>::new(), "{body}");
        }
    }

    #[test]
    fn a_header_is_looked_into_to_its_first_kilobytes() {
        let challenge = r#"Bearer error="insufficient_scope", scope="users:read""#;
        let behind = |commas: usize| format!("{}{challenge}", ",".repeat(commas));
        assert_eq!(of(Some(&behind(HEADER - challenge.len())), "{}"), ["users:read"]);
        assert_eq!(of(Some(&behind(HEADER)), "{}"), Vec::<String>::new());
        let began = Instant::now();
        for (front, filler) in [("", "error "), ("error=insufficient_scope", ",scope ")] {
            assert_eq!(of(Some(&format!("{front}{}", filler.repeat(60_000))), "{}"), Vec::<String>::new(), "{filler}");
        }
        assert!(began.elapsed() < Duration::from_millis(500), "{:?}", began.elapsed());
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let many: Vec<String> = (0..500).map(|n| format!("s{n}")).collect();
        assert_eq!(of(None, &serde_json::json!({"missing_scopes": many}).to_string()).len(), MOST);
        assert_eq!(of(None, &serde_json::json!({"missing_scopes": ["x".repeat(LONGEST + 1), "a\"b", "é"]}).to_string()).len(), 0);
        let deep = format!("{}{}{}", "[".repeat(100), r#"{"missing_scopes": "a"}"#, "]".repeat(100));
        assert_eq!(of(None, &deep), Vec::<String>::new());
    }
}
