//! SCIM changes: a PatchOp of what differs, or the whole record where the server has no PATCH; conditional where it has ETags.

use http::{HeaderValue, Method};
use serde_json::{Map, Value, json};

use super::rest_write::{Exchange, merge, read, status_of, to_send_back};
use crate::{
    connector::{Get, ResourceDef},
    upstream::{Failure, Written, write::Said},
};

const PATCH_OP: &str = "urn:ietf:params:scim:api:messages:2.0:PatchOp";
/// Attributes that are the server's own.
const OWN: &[&str] = &["id", "meta", "schemas"];

/// Changes a record: only what differs from the record as it is.
pub(super) async fn update(exchange: &Exchange<'_>, def: &ResourceDef) -> Result<Written, Failure> {
    let get = def.get.as_ref();
    let (before, tag) = read(exchange, get, false).await?;
    let written = change(exchange, get, &before, tag).await?;
    Ok(Written { before: Some(Value::Array(vec![before]).to_string().into()), ..written })
}

async fn change(
    exchange: &Exchange<'_>,
    get: Option<&Get>,
    before: &Value,
    tag: Option<HeaderValue>,
) -> Result<Written, Failure> {
    let mut after = before.clone();
    apply(exchange, &mut after);
    let operations = differences(before, &after);
    if operations.is_empty() {
        return Ok(Written::said(Said::Unasked));
    }
    if has_patch(exchange) {
        let body = json!({ "schemas": [PATCH_OP], "Operations": operations });
        let sent = exchange.send(Method::PATCH, Some(&body), condition(exchange, tag)).await;
        if !sent.as_ref().is_err_and(is_without_patch) {
            return exchange.finish(sent);
        }
    }
    let (mut whole, tag) = read(exchange, get, true).await?;
    apply(exchange, &mut whole);
    replace(exchange, whole, tag).await
}

fn apply(exchange: &Exchange<'_>, record: &mut Value) {
    exchange.ask.changes.iter().for_each(|change| change.apply(record));
    merge(record, &exchange.ask.remote_data);
}

/// Sends a PatchOp of the connector's own; on a server without PATCH its operations are done here, on the whole record.
pub(super) async fn members(exchange: &Exchange<'_>, mut body: Value) -> Result<Written, Failure> {
    let operations = body.get("Operations").cloned().unwrap_or_default();
    merge(&mut body, &exchange.ask.remote_data);
    if has_patch(exchange) {
        let sent = exchange.send(Method::PATCH, Some(&body), None).await;
        if !sent.as_ref().is_err_and(is_without_patch) {
            return exchange.finish(sent);
        }
    }
    let answer = exchange.send(Method::GET, None, None).await?;
    let tag = answer.headers.get(http::header::ETAG).cloned();
    let mut whole = to_send_back(&answer.body)?;
    let before = whole.clone();
    for operation in operations.as_array().into_iter().flatten() {
        operate(&mut whole, operation);
    }
    match whole == before {
        true => Ok(Written::said(Said::Unasked)),
        false => replace(exchange, whole, tag).await,
    }
}

async fn replace(exchange: &Exchange<'_>, mut whole: Value, tag: Option<HeaderValue>) -> Result<Written, Failure> {
    whole.as_object_mut().map(|members| members.shift_remove("meta"));
    name_extensions(&mut whole);
    exchange.finish(exchange.send(Method::PUT, Some(&whole), condition(exchange, tag)).await)
}

/// `schemas` names every extension that has attributes in the record (RFC 7643 §3).
pub(super) fn name_extensions(record: &mut Value) {
    let Some(members) = record.as_object_mut() else { return };
    let used: Vec<Value> = members.keys().filter(|name| name.contains(':')).map(|name| name.as_str().into()).collect();
    if let Some(schemas) = members.get_mut("schemas").and_then(Value::as_array_mut) {
        let missing: Vec<Value> = used.into_iter().filter(|name| !schemas.contains(name)).collect();
        schemas.extend(missing);
    }
}

fn fact(exchange: &Exchange<'_>, name: &str) -> Option<bool> {
    exchange.access.facts.get(name).and_then(Value::as_bool)
}

/// A server that did not say is asked; many that say nothing have it.
fn has_patch(exchange: &Exchange<'_>) -> bool {
    fact(exchange, "patch") != Some(false)
}

fn condition(exchange: &Exchange<'_>, tag: Option<HeaderValue>) -> Option<HeaderValue> {
    tag.filter(|_| fact(exchange, "etag") == Some(true))
}

fn is_without_patch(failure: &Failure) -> bool {
    matches!(status_of(failure), Some(405 | 501))
}

/// One operation for each attribute that differs, and for each part of an attribute that is a record.
fn differences(before: &Value, after: &Value) -> Vec<Value> {
    let empty = Map::new();
    let (before, after) = (before.as_object().unwrap_or(&empty), after.as_object().unwrap_or(&empty));
    let mut operations = Vec::new();
    let names = after.keys().chain(before.keys().filter(|name| !after.contains_key(*name)));
    for name in names.filter(|name| !OWN.contains(&name.as_str())) {
        match (before.get(name), after.get(name)) {
            (Some(Value::Object(old)), Some(Value::Object(new))) => {
                // An attribute of an extension stands behind a colon, a part of an attribute behind a dot.
                let joint = if name.contains(':') { ':' } else { '.' };
                let parts = new.keys().chain(old.keys().filter(|part| !new.contains_key(*part)));
                operations
                    .extend(parts.filter_map(|part| operation(&format!("{name}{joint}{part}"), old.get(part), new.get(part))));
            }
            (None, Some(Value::Object(new))) if name.contains(':') => {
                operations.extend(new.iter().filter_map(|(part, value)| operation(&format!("{name}:{part}"), None, Some(value))));
            }
            (old, new) => operations.extend(operation(name, old, new)),
        }
    }
    operations
}

fn operation(path: &str, before: Option<&Value>, after: Option<&Value>) -> Option<Value> {
    let before = before.filter(|value| !value.is_null());
    match (before, after.filter(|value| !value.is_null())) {
        (None, None) => None,
        (Some(_), None) => Some(json!({ "op": "remove", "path": path })),
        (Some(before), Some(after)) if before == after => None,
        (Some(_), Some(after)) => Some(json!({ "op": "replace", "path": path, "value": after })),
        (None, Some(after)) => Some(json!({ "op": "add", "path": path, "value": after })),
    }
}

/// Does `add` to a list and `remove` of a list's elements, the forms connectors use for members.
fn operate(record: &mut Value, operation: &Value) {
    let path = operation["path"].as_str().unwrap_or_default();
    let (name, condition) = path.split_once('[').map_or((path, None), |(name, rest)| (name, rest.strip_suffix(']')));
    let Some(members) = record.as_object_mut() else { return };
    let list = members.entry(name.to_owned()).or_insert_with(|| Value::Array(Vec::new()));
    if list.is_null() {
        *list = Value::Array(Vec::new());
    }
    let Some(items) = list.as_array_mut() else { return };
    let wanted = condition.and_then(|condition| condition.split_once(" eq "));
    let wanted = wanted.and_then(|(name, text)| Some((name, serde_json::from_str::<String>(text).ok()?)));
    match (operation["op"].as_str(), wanted) {
        (Some("remove"), Some((name, text))) => items.retain(|item| item[name] != text),
        (Some("remove"), None) => {
            let named = operation["value"].as_array().map(Vec::as_slice).unwrap_or_default();
            items.retain(|item| !named.iter().any(|gone| gone["value"] == item["value"]));
        }
        (Some("add"), None) => {
            for new in operation["value"].as_array().into_iter().flatten() {
                if !items.iter().any(|item| item["value"] == new["value"]) {
                    items.push(new.clone());
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_is_sent_with_the_path_of_its_attribute() {
        let before = json!({
            "schemas": ["s"], "id": "1", "meta": {"version": "1"}, "userName": "a", "title": "x", "name": {"givenName": "A", "familyName": "B"},
            "emails": [{"value": "a@x"}],
        });
        let after = json!({
            "schemas": ["s"], "id": "1", "meta": {"version": "2"}, "userName": "a", "name": {"givenName": "C", "familyName": "B"},
            "emails": [{"value": "b@x"}], "active": false, "urn:x:User": {"organization": "O"},
        });
        assert_eq!(
            Value::Array(differences(&before, &after)),
            json!([
                {"op": "replace", "path": "name.givenName", "value": "C"},
                {"op": "replace", "path": "emails", "value": [{"value": "b@x"}]},
                {"op": "add", "path": "active", "value": false},
                {"op": "add", "path": "urn:x:User:organization", "value": "O"},
                {"op": "remove", "path": "title"},
            ])
        );
        assert!(differences(&before, &before).is_empty());
    }

    #[test]
    fn members_are_added_once_and_removed_by_their_value() {
        let mut group = json!({"displayName": "G", "members": [{"value": "1"}]});
        operate(&mut group, &json!({"op": "add", "path": "members", "value": [{"value": "2\""}]}));
        operate(&mut group, &json!({"op": "add", "path": "members", "value": [{"value": "2\""}]}));
        assert_eq!(group["members"], json!([{"value": "1"}, {"value": "2\""}]));
        operate(&mut group, &json!({"op": "remove", "path": "members[value eq \"2\\\"\"]"}));
        assert_eq!(group["members"], json!([{"value": "1"}]));
        operate(&mut group, &json!({"op": "remove", "path": "members", "value": [{"value": "1"}]}));
        assert_eq!(group["members"], json!([]));
        let mut bare = json!({"displayName": "G"});
        operate(&mut bare, &json!({"op": "add", "path": "members", "value": [{"value": "2"}]}));
        assert_eq!(bare["members"], json!([{"value": "2"}]));
    }
}
