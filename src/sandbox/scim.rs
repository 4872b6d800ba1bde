//! A SCIM 2.0 server with users and groups: honest, or lying in one of the ways real ones do.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use actix_web::{
    App, HttpRequest, HttpResponse, HttpServer,
    dev::Server,
    http::{StatusCode, header},
    web::{self, Query},
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Sandbox,
    scim_write::{self, Kind, WriteLie},
};

/// What the stand-in takes as its bearer token.
pub const TOKEN: &str = "sandbox-scim-token-0123456789abcdef";

/// The largest page it gives.
const LARGEST: usize = 100;

/// How pages are found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Paging {
    /// `startIndex` and `count`.
    #[default]
    Index,
    /// RFC 9865 cursors.
    Cursor,
}

/// A way to lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// `startIndex` and `count` are ignored: everything, every time.
    PageIgnored,
    /// Pages are cut at twenty and all called the first.
    FirstPageOnly,
    /// `itemsPerPage` is what was asked for, whatever came.
    ItemsPerPageEchoed,
    /// Beyond the end the first page comes again.
    FirstPageRepeated,
    /// A cursor leads to itself.
    CursorLoop,
    /// An HTML page with status 200.
    HtmlPage,
    /// JSON that ends in the middle.
    CutJson,
    /// No answer at all.
    Silence,
    /// `totalResults` is smaller than what there is.
    TotalTooSmall,
    /// An empty page that promises more.
    EmptyPage,
    /// 429 with `Retry-After: 1`, twice, then the answer.
    SlowDownTwice,
}

/// How it deviates from a server at its best.
#[derive(Clone, Debug)]
pub struct Faults {
    /// How many users there are.
    pub users: usize,
    /// How many groups.
    pub groups: usize,
    /// How pages are found.
    pub paging: Paging,
    /// Whether ServiceProviderConfig exists.
    pub has_config: bool,
    /// Whether `filter` works; when not, it is ignored and ServiceProviderConfig says so.
    pub filters: bool,
    /// The lie, if any.
    pub lie: Option<Lie>,
    /// Whether PATCH works; when not, it is 501 and ServiceProviderConfig says so.
    pub patch: bool,
    /// Whether versions are told and asked for.
    pub etag: bool,
    /// The lie about writes, if any.
    pub write_lie: Option<WriteLie>,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            users: 250,
            groups: 12,
            paging: Paging::Index,
            has_config: true,
            filters: true,
            lie: None,
            patch: true,
            etag: true,
            write_lie: None,
        }
    }
}

/// What the server knows.
pub(super) struct State {
    /// How it deviates.
    pub faults: Faults,
    users: Mutex<Arc<Vec<Value>>>,
    groups: Mutex<Arc<Vec<Value>>>,
    /// Counts requests; versions are made of it.
    pub asked: AtomicU32,
}

impl State {
    fn records(&self, kind: Kind) -> MutexGuard<'_, Arc<Vec<Value>>> {
        let records = if kind == Kind::User { &self.users } else { &self.groups };
        records.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every record of a kind, as it is now.
    pub fn all(&self, kind: Kind) -> Arc<Vec<Value>> {
        self.records(kind).clone()
    }

    /// Changes them.
    pub fn change(&self, kind: Kind, how: impl FnOnce(&mut Vec<Value>)) {
        how(Arc::make_mut(&mut self.records(kind)));
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Ask {
    start_index: Option<i64>,
    count: Option<i64>,
    cursor: Option<String>,
    filter: Option<String>,
    excluded_attributes: Option<String>,
}

/// The same in a body, where attributes are a list.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Search {
    #[serde(default)]
    excluded_attributes: Vec<String>,
    #[serde(flatten)]
    ask: Ask,
}

/// Starts the stand-in on a free port; its base path is `/scim/v2`.
pub fn start(faults: Faults) -> std::io::Result<(Sandbox, Server)> {
    let mut users = (1..=faults.users).map(user).collect::<Vec<_>>();
    let groups = (1..=faults.groups).map(|at| group(at, faults.users)).collect::<Vec<_>>();
    name_groups(&mut users, &groups);
    let (users, groups) = (Mutex::new(Arc::new(users)), Mutex::new(Arc::new(groups)));
    let state = web::Data::from(Arc::new(State { faults, users, groups, asked: AtomicU32::new(0) }));
    let server = HttpServer::new(move || {
        App::new().app_data(state.clone()).service(
            web::scope("/scim/v2")
                .route("/ServiceProviderConfig", web::get().to(config))
                .route("/Users", web::get().to(users_list))
                .route("/Users", web::head().to(users_list))
                .route("/Users", web::post().to(scim_write::create_user))
                .route("/Users/.search", web::post().to(search_users))
                .route("/Users/{id}", web::get().to(one_user))
                .route("/Users/{id}", web::head().to(one_user))
                .route("/Users/{id}", web::delete().to(scim_write::delete_user))
                .route("/Users/{id}", web::patch().to(scim_write::change_user))
                .route("/Users/{id}", web::put().to(scim_write::change_user))
                .route("/Groups", web::get().to(groups_list))
                .route("/Groups", web::head().to(groups_list))
                .route("/Groups", web::post().to(scim_write::create_group))
                .route("/Groups/.search", web::post().to(search_groups))
                .route("/Groups/{id}", web::get().to(one_group))
                .route("/Groups/{id}", web::head().to(one_group))
                .route("/Groups/{id}", web::delete().to(scim_write::delete_group))
                .route("/Groups/{id}", web::patch().to(scim_write::change_group))
                .route("/Groups/{id}", web::put().to(scim_write::change_group))
                .default_service(web::to(async || problem(404, None, "no such resource"))),
        )
    })
    .workers(1)
    .disable_signals()
    .bind(("127.0.0.1", 0))?;
    let addr = server.addrs().first().copied().ok_or_else(|| std::io::Error::other("no address"))?;
    let server = server.run();
    let sandbox = Sandbox { addr, base: format!("http://{addr}/scim/v2"), token: TOKEN.into(), handle: server.handle() };
    Ok((sandbox, server))
}

fn user(at: usize) -> Value {
    let given = ["Ada", "Ben", "Cleo", "Dan", "Eve", "Finn", "Gil"][at % 7];
    let email = format!("user{at:05}@scim.example");
    json!({
        "schemas": ["urn:ietf:params:scim:schemas:core:2.0:User"], "id": format!("u{at:05}"), "externalId": format!("e-{at}"),
        "userName": email, "name": { "givenName": given, "familyName": format!("Number {at}") }, "displayName": format!("{given} Number {at}"),
        "active": !at.is_multiple_of(9), "emails": [{ "value": email, "type": "work", "primary": true }],
        "meta": { "resourceType": "User", "created": "2026-01-02T03:04:05Z", "lastModified": "2026-02-03T04:05:06Z" },
    })
}

fn group(at: usize, users: usize) -> Value {
    let members = (1..=users).filter(|user| user % (at + 1) == 0).take(60);
    let members: Vec<Value> = members
        .map(|user| json!({ "value": format!("u{user:05}"), "display": format!("Number {user}"), "type": "User" }))
        .collect();
    json!({
        "schemas": ["urn:ietf:params:scim:schemas:core:2.0:Group"], "id": format!("g{at:03}"), "displayName": format!("Team {at}"),
        "members": members, "meta": { "resourceType": "Group", "created": "2026-01-02T03:04:05Z", "lastModified": "2026-02-03T04:05:06Z" },
    })
}

/// `groups` of every user (RFC 7643 §4.1.2): what servers read out of their groups.
pub(super) fn name_groups(users: &mut [Value], groups: &[Value]) {
    let mut all: HashMap<&str, Vec<Value>> = HashMap::new();
    for group in groups {
        let members = group["members"].as_array().into_iter().flatten();
        for member in members.filter_map(|member| member["value"].as_str()) {
            let named = json!({ "value": group["id"], "display": group["displayName"], "type": "direct" });
            all.entry(member).or_default().push(named);
        }
    }
    for user in users {
        let found = user["id"].as_str().and_then(|id| all.remove(id));
        if let Some(user) = user.as_object_mut() {
            match found {
                Some(found) => drop(user.insert("groups".into(), found.into())),
                None => drop(user.shift_remove("groups")),
            }
        }
    }
}

pub(super) fn reply(status: u16, body: &Value) -> HttpResponse {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    HttpResponse::build(status).content_type("application/scim+json").body(body.to_string())
}

pub(super) fn problem(status: u16, kind: Option<&str>, detail: &str) -> HttpResponse {
    let mut body =
        json!({ "schemas": ["urn:ietf:params:scim:api:messages:2.0:Error"], "status": status.to_string(), "detail": detail });
    if let Some(kind) = kind {
        body["scimType"] = kind.into();
    }
    reply(status, &body)
}

pub(super) fn refused(request: &HttpRequest) -> Option<HttpResponse> {
    let given = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    if given == Some(&format!("Bearer {TOKEN}")) {
        return None;
    }
    let mut refusal = problem(401, None, "the token is not valid");
    refusal.headers_mut().insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Bearer"));
    Some(refusal)
}

async fn config(state: web::Data<State>, request: HttpRequest) -> HttpResponse {
    if let Some(refusal) = refused(&request) {
        return refusal;
    }
    if !state.faults.has_config {
        return problem(404, None, "no such resource");
    }
    let is_cursor = state.faults.paging == Paging::Cursor;
    reply(
        200,
        &json!({
            "schemas": ["urn:ietf:params:scim:schemas:core:2.0:ServiceProviderConfig"],
            "patch": { "supported": state.faults.patch }, "bulk": { "supported": false, "maxOperations": 0, "maxPayloadSize": 0 },
            "filter": { "supported": state.faults.filters, "maxResults": LARGEST }, "changePassword": { "supported": false },
            "sort": { "supported": false }, "etag": { "supported": state.faults.etag },
            "pagination": { "cursor": is_cursor, "index": !is_cursor, "defaultPaginationMethod": if is_cursor { "cursor" } else { "index" }, "defaultPageSize": 20, "maxPageSize": LARGEST },
            "authenticationSchemes": [{ "type": "oauthbearertoken", "name": "Bearer token", "description": "A token of this stand-in" }],
        }),
    )
}

async fn users_list(state: web::Data<State>, request: HttpRequest, ask: Query<Ask>) -> HttpResponse {
    list(&state, &request, &ask, &state.all(Kind::User)).await
}

async fn groups_list(state: web::Data<State>, request: HttpRequest, ask: Query<Ask>) -> HttpResponse {
    list(&state, &request, &ask, &state.all(Kind::Group)).await
}

async fn search_users(state: web::Data<State>, request: HttpRequest, search: web::Bytes) -> HttpResponse {
    search_in(&state, &request, &search, &state.all(Kind::User)).await
}

async fn search_groups(state: web::Data<State>, request: HttpRequest, search: web::Bytes) -> HttpResponse {
    search_in(&state, &request, &search, &state.all(Kind::Group)).await
}

/// A list asked for by a body (RFC 7644 §3.4.3).
async fn search_in(state: &State, request: &HttpRequest, search: &[u8], all: &[Value]) -> HttpResponse {
    match serde_json::from_slice::<Search>(search) {
        Ok(Search { excluded_attributes, mut ask }) => {
            ask.excluded_attributes = Some(excluded_attributes.join(","));
            list(state, request, &ask, all).await
        }
        Err(why) => problem(400, Some("invalidSyntax"), &format!("the body is no SearchRequest: {why}")),
    }
}

async fn one_user(state: web::Data<State>, request: HttpRequest, id: web::Path<String>) -> HttpResponse {
    one(&request, &state.all(Kind::User), &id, false)
}

async fn one_group(state: web::Data<State>, request: HttpRequest, id: web::Path<String>, ask: Query<Ask>) -> HttpResponse {
    one(&request, &state.all(Kind::Group), &id, ask.without_members())
}

fn one(request: &HttpRequest, all: &[Value], id: &str, bare: bool) -> HttpResponse {
    if let Some(refusal) = refused(request) {
        return refusal;
    }
    match all.iter().find(|item| item["id"] == id) {
        Some(item) => reply(200, &shown(item, bare)),
        None => problem(404, None, &format!("Resource {id} not found")),
    }
}

impl Ask {
    fn without_members(&self) -> bool {
        self.excluded_attributes.as_deref().is_some_and(|names| names.split(',').any(|name| name.trim() == "members"))
    }
}

fn shown(item: &Value, bare: bool) -> Value {
    let mut item = item.clone();
    if bare && let Some(item) = item.as_object_mut() {
        item.shift_remove("members");
    }
    item
}

async fn list(state: &State, request: &HttpRequest, ask: &Ask, all: &[Value]) -> HttpResponse {
    if let Some(refusal) = refused(request) {
        return refusal;
    }
    let asked = state.asked.fetch_add(1, Ordering::Relaxed);
    match state.faults.lie {
        Some(Lie::Silence) => actix_web::rt::time::sleep(Duration::from_secs(3600)).await,
        Some(Lie::HtmlPage) => return HttpResponse::Ok().content_type("text/html").body("<!doctype html><title>Sign in</title>"),
        Some(Lie::CutJson) => {
            return HttpResponse::Ok()
                .content_type("application/scim+json")
                .body("{\"totalResults\":2,\"Resources\":[{\"id\":\"u1\"");
        }
        Some(Lie::SlowDownTwice) if asked < 2 => {
            let mut slow = problem(429, None, "too many requests");
            slow.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static("1"));
            return slow;
        }
        _ => {}
    }
    let found: Vec<&Value> = match ask.filter.as_deref().filter(|_| state.faults.filters) {
        None => all.iter().collect(),
        Some(filter) => match matching(filter, all) {
            Some(found) => found,
            None => return problem(400, Some("invalidFilter"), "only userName, emails.value, displayName, id, externalId eq"),
        },
    };
    match (state.faults.paging, state.faults.lie) {
        (Paging::Cursor, lie) => by_cursor(&found, ask, lie),
        (Paging::Index, lie) => by_index(&found, ask, lie),
    }
}

/// `attribute eq "value"`, text compared without case as RFC 7643 has it for these attributes.
fn matching<'v>(filter: &str, all: &'v [Value]) -> Option<Vec<&'v Value>> {
    let (attribute, value) = filter.trim().split_once(" eq ")?;
    let value: String = serde_json::from_str(value.trim()).ok()?;
    let attribute = attribute.trim().to_lowercase();
    let is_equal = |found: &Value| found.as_str().is_some_and(|found| found.eq_ignore_ascii_case(&value));
    let test: fn(&Value) -> Vec<&Value> = match attribute.as_str() {
        "id" => |item| vec![&item["id"]],
        "externalid" => |item| vec![&item["externalId"]],
        "username" => |item| vec![&item["userName"]],
        "displayname" => |item| vec![&item["displayName"]],
        "emails" | "emails.value" => {
            |item| item["emails"].as_array().into_iter().flatten().map(|email| &email["value"]).collect()
        }
        _ => return None,
    };
    Some(all.iter().filter(|item| test(item).into_iter().any(is_equal)).collect())
}

fn envelope(total: usize, page: &[&Value], bare: bool) -> Value {
    let resources: Vec<Value> = page.iter().map(|item| shown(item, bare)).collect();
    json!({
        "schemas": ["urn:ietf:params:scim:api:messages:2.0:ListResponse"], "totalResults": total, "itemsPerPage": page.len(),
        "Resources": resources,
    })
}

fn by_index(found: &[&Value], ask: &Ask, lie: Option<Lie>) -> HttpResponse {
    let count = usize::try_from(ask.count.unwrap_or(20)).unwrap_or(0).min(LARGEST);
    let start = usize::try_from(ask.start_index.unwrap_or(1)).unwrap_or(1).max(1);
    let (start, count, told) = match lie {
        Some(Lie::PageIgnored) => (1, found.len(), 1),
        Some(Lie::FirstPageOnly) => (1, count.min(20), 1),
        Some(Lie::FirstPageRepeated) if start > found.len() => (1, count, start),
        Some(Lie::EmptyPage) if start > 1 => (found.len() + 1, count, start),
        _ => (start, count, start),
    };
    let page: Vec<&Value> = found.iter().skip(start - 1).take(count).copied().collect();
    let total = if lie == Some(Lie::TotalTooSmall) { found.len().min(30) } else { found.len() };
    let mut body = envelope(total, &page, ask.without_members());
    body["startIndex"] = told.into();
    if lie == Some(Lie::ItemsPerPageEchoed) {
        body["itemsPerPage"] = ask.count.unwrap_or(20).into();
    }
    reply(200, &body)
}

fn by_cursor(found: &[&Value], ask: &Ask, lie: Option<Lie>) -> HttpResponse {
    let count = usize::try_from(ask.count.unwrap_or(20)).unwrap_or(0).min(LARGEST);
    let at = match ask.cursor.as_deref().unwrap_or_default() {
        "" => 0,
        cursor => match cursor.strip_prefix("c").and_then(|at| at.parse::<usize>().ok()) {
            Some(at) => at,
            None => return problem(400, Some("invalidCursor"), "the cursor is not one of this server"),
        },
    };
    let page: Vec<&Value> = found.iter().skip(at).take(count).copied().collect();
    let mut body = envelope(found.len(), &page, ask.without_members());
    let next = at + page.len();
    if lie == Some(Lie::CursorLoop) {
        body["nextCursor"] = format!("c{at}").into();
    } else if next < found.len() && !page.is_empty() {
        body["nextCursor"] = format!("c{next}").into();
    }
    reply(200, &body)
}
