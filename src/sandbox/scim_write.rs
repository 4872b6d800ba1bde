//! The changing half of the SCIM stand-in: POST, PUT, PATCH, DELETE, with entity tags, and the ways in which servers lie.

use std::sync::atomic::Ordering;

use actix_web::{HttpRequest, HttpResponse, http::header, web};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::scim::{State, name_groups, problem, refused, reply};

/// A way to lie about a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteLie {
    /// Success, and nothing is done.
    SaysDone,
    /// Done, and 500.
    SaysFailed,
    /// Neither done nor said: 500.
    Fails,
    /// Done, and the answer is an HTML page of a proxy, with 504.
    Lost,
    /// `title` is taken over from nobody; the rest is done.
    DropsTitle,
    /// 400 to every removal of a path.
    NoRemove,
}

/// Which of the two kinds of records.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    User,
    Group,
}

impl Kind {
    fn noun(self) -> &'static str {
        match self {
            Kind::User => "User",
            Kind::Group => "Group",
        }
    }
}

type Body = web::Bytes;

pub(super) async fn create_user(state: web::Data<State>, request: HttpRequest, body: Body) -> HttpResponse {
    create(&state, &request, Kind::User, &body)
}

pub(super) async fn create_group(state: web::Data<State>, request: HttpRequest, body: Body) -> HttpResponse {
    create(&state, &request, Kind::Group, &body)
}

pub(super) async fn change_user(
    state: web::Data<State>,
    request: HttpRequest,
    id: web::Path<String>,
    body: Body,
) -> HttpResponse {
    change(&state, &request, Kind::User, &id, &body)
}

pub(super) async fn change_group(
    state: web::Data<State>,
    request: HttpRequest,
    id: web::Path<String>,
    body: Body,
) -> HttpResponse {
    change(&state, &request, Kind::Group, &id, &body)
}

pub(super) async fn delete_user(state: web::Data<State>, request: HttpRequest, id: web::Path<String>) -> HttpResponse {
    delete(&state, &request, Kind::User, &id)
}

pub(super) async fn delete_group(state: web::Data<State>, request: HttpRequest, id: web::Path<String>) -> HttpResponse {
    delete(&state, &request, Kind::Group, &id)
}

fn read(body: &[u8]) -> Result<Map<String, Value>, Box<HttpResponse>> {
    let object = serde_json::from_slice::<Value>(body).ok().and_then(|value| value.as_object().cloned());
    object.ok_or_else(|| Box::new(problem(400, Some("invalidSyntax"), "the body is not a JSON object")))
}

fn create(state: &State, request: &HttpRequest, kind: Kind, body: &[u8]) -> HttpResponse {
    if let Some(refusal) = refused(request) {
        return refusal;
    }
    let mut record = match read(body) {
        Ok(record) => record,
        Err(refusal) => return *refusal,
    };
    let name = if kind == Kind::User { "userName" } else { "displayName" };
    let Some(text) = record.get(name).and_then(Value::as_str).map(str::to_lowercase) else {
        return problem(400, Some("invalidValue"), &format!("`{name}` is missing"));
    };
    let taken = |item: &Value| item[name].as_str().is_some_and(|other| other.to_lowercase() == text);
    if kind == Kind::User && state.all(kind).iter().any(taken) {
        return problem(409, Some("uniqueness"), "a user of this userName exists");
    }
    let id = Uuid::now_v7().to_string();
    record.insert("id".into(), id.as_str().into());
    if kind == Kind::User {
        record.entry("active").or_insert(true.into());
    }
    record.insert("meta".into(), json!({ "resourceType": kind.noun(), "created": "2026-03-01T00:00:00Z", "lastModified": "2026-03-01T00:00:00Z", "version": "W/\"1\"" }));
    settle(state, kind, &id, Some(Value::Object(record)), 201)
}

fn change(state: &State, request: &HttpRequest, kind: Kind, id: &str, body: &[u8]) -> HttpResponse {
    if let Some(refusal) = refused(request) {
        return refusal;
    }
    let all = state.all(kind);
    let Some(before) = all.iter().find(|item| item["id"] == id) else {
        return problem(404, None, &format!("Resource {id} not found"));
    };
    let given = request.headers().get(header::IF_MATCH).and_then(|tag| tag.to_str().ok());
    if given.is_some_and(|tag| before["meta"]["version"] != tag) {
        return problem(412, None, "the record has another version");
    }
    let body = match read(body) {
        Ok(body) => body,
        Err(refusal) => return *refusal,
    };
    let is_patch = request.method() == actix_web::http::Method::PATCH;
    let mut after = match is_patch {
        true if !state.faults.patch => return problem(501, None, "PATCH is not implemented"),
        true => before.clone(),
        false => Value::Object(body.clone()),
    };
    for operation in body.get("Operations").and_then(Value::as_array).into_iter().flatten().filter(|_| is_patch) {
        if state.faults.write_lie == Some(WriteLie::NoRemove) && operation["op"] == "remove" {
            return problem(400, Some("noTarget"), "there is nothing to remove");
        }
        if let Err(refusal) = operate(&mut after, operation) {
            return *refusal;
        }
    }
    after["id"] = id.into();
    let mut meta = before["meta"].clone();
    meta["lastModified"] = "2026-03-02T00:00:00Z".into();
    meta["version"] = format!("W/\"{}\"", state.asked.fetch_add(1, Ordering::Relaxed) + 2).into();
    after["meta"] = meta;
    settle(state, kind, id, Some(after), 200)
}

fn delete(state: &State, request: &HttpRequest, kind: Kind, id: &str) -> HttpResponse {
    if let Some(refusal) = refused(request) {
        return refusal;
    }
    if !state.all(kind).iter().any(|item| item["id"] == id) {
        return problem(404, None, &format!("Resource {id} not found"));
    }
    settle(state, kind, id, None, 204)
}

/// Does what was asked, or lies.
fn settle(state: &State, kind: Kind, id: &str, mut record: Option<Value>, status: u16) -> HttpResponse {
    let lie = state.faults.write_lie;
    if lie == Some(WriteLie::DropsTitle)
        && let Some(record) = record.as_mut().and_then(Value::as_object_mut)
    {
        record.shift_remove("title");
    }
    let shown = record.clone();
    if !matches!(lie, Some(WriteLie::SaysDone | WriteLie::Fails)) {
        state.change(kind, |all| {
            let at = all.iter().position(|item| item["id"] == id);
            match (record, at) {
                (Some(record), Some(at)) => all[at] = record,
                (Some(record), None) => all.push(record),
                (None, Some(at)) => drop(all.remove(at)),
                (None, None) => {}
            }
        });
        let groups = state.all(Kind::Group);
        state.change(Kind::User, |users| name_groups(users, &groups));
    }
    match (lie, shown) {
        (Some(WriteLie::SaysFailed | WriteLie::Fails), _) => problem(500, None, "an unexpected error"),
        (Some(WriteLie::Lost), _) => {
            HttpResponse::GatewayTimeout().content_type("text/html").body("<!doctype html><title>504</title>")
        }
        (_, Some(record)) => reply(status, &record),
        (_, None) => HttpResponse::NoContent().finish(),
    }
}

fn invalid(path: &str) -> Box<HttpResponse> {
    Box::new(problem(400, Some("invalidPath"), &format!("`{path}` is no path of this server")))
}

/// One operation of a PatchOp (RFC 7644 §3.5.2), as far as attributes, their parts and `members[value eq "…"]` go.
fn operate(record: &mut Value, operation: &Value) -> Result<(), Box<HttpResponse>> {
    let op = operation["op"].as_str().unwrap_or_default().to_lowercase();
    let Some(path) = operation["path"].as_str() else {
        for (name, value) in operation["value"].as_object().into_iter().flatten() {
            record[name] = value.clone();
        }
        return Ok(());
    };
    if let Some((name, condition)) = path.split_once('[') {
        let wanted = condition.strip_suffix(']').and_then(|condition| condition.split_once(" eq "));
        let text = wanted.and_then(|(_, text)| serde_json::from_str::<String>(text).ok()).ok_or_else(|| invalid(path))?;
        let part = wanted.map(|(part, _)| part).unwrap_or_default();
        if let (Some(items), "remove") = (record[name].as_array_mut(), op.as_str()) {
            items.retain(|item| item[part] != text);
        }
        return Ok(());
    }
    let (outer, inner) = match path.rsplit_once(if path.starts_with("urn:") { ':' } else { '.' }) {
        Some((outer, inner)) => (outer, Some(inner)),
        None => (path, None),
    };
    let place = match inner {
        Some(inner) => {
            if !record[outer].is_object() {
                record[outer] = json!({});
            }
            (&mut record[outer], inner)
        }
        None => (record, outer),
    };
    match (op.as_str(), place) {
        ("remove", (object, name)) => drop(object.as_object_mut().and_then(|members| members.shift_remove(name))),
        ("add", (object, name)) if object[name].is_array() => {
            let new = operation["value"].as_array().cloned().unwrap_or_default();
            if let Some(items) = object[name].as_array_mut() {
                for item in new {
                    if !items.contains(&item) {
                        items.push(item);
                    }
                }
            }
        }
        ("add" | "replace", (object, name)) => object[name] = operation["value"].clone(),
        _ => return Err(invalid(path)),
    }
    Ok(())
}
