//! Bar G-06: every operation of the document × ids × rights, and what every list has in common. A new operation without an
//! entry here fails.

mod account_tokens;

use std::{collections::BTreeMap, io::Write, net::SocketAddr, time::Instant};

use regex::Regex;
use rollcall::{http::openapi, model::Scope};
use serde_json::Value;
use uuid::Uuid;

pub use self::account_tokens::{check_account_tokens, check_account_tokens_elsewhere};
use super::wire::{Reply, connect, read_reply, request};

/// A gateway and what is needed to ask it everything.
pub struct Fixture {
    /// Where it listens.
    pub addr: SocketAddr,
    /// An administrator of the own environment.
    pub admin: String,
    /// An administrator of another environment.
    pub stranger: String,
    /// A token for each scope that holds that scope alone.
    pub scoped: BTreeMap<Scope, String>,
    /// A token that was revoked.
    pub revoked: String,
    /// A token that has expired.
    pub expired: String,
    /// A linked account of the own environment, with a record of this id among its users.
    pub account: String,
    /// The id of a user of it.
    pub user: String,
    /// A linked account of the other environment.
    pub foreign_account: String,
    /// Another linked account of the own environment.
    pub other_account: String,
    /// A token for the own account, with every right there is over one.
    pub account_token: String,
    /// An API token's id in the own environment, which nobody needs.
    pub token: String,
    /// An API token's id in the other environment.
    pub foreign_token: String,
    /// A link token's id in the own environment, which nobody needs.
    pub link: String,
    /// A link token's id in the other environment.
    pub foreign_link: String,
    /// An event's id in the own environment.
    pub event: String,
    /// An event's id in the other environment.
    pub foreign_event: String,
    /// The connector's id in the own environment.
    pub install: String,
    /// The connector's id in the other environment.
    pub foreign_install: String,
    /// The own environment.
    pub environment: String,
    /// The other one.
    pub foreign_environment: String,
}

/// What `{id}` in a path stands for.
#[derive(Clone, Copy, PartialEq)]
enum Id {
    None,
    Account,
    Token,
    Link,
    Event,
    Install,
    Environment,
    /// A vendor's record; the account is in the query.
    Record,
}

/// How an operation is called: its id, whether the account is in the query, a body it takes, in which `{id}` stands for the id.
const ENTRIES: &[(&str, Id, bool, Option<&str>)] = &[
    ("DELETE /api-token/{id}", Id::Token, false, None),
    ("DELETE /environment-integration/{id}", Id::Install, false, None),
    ("DELETE /environment/{id}", Id::Environment, false, None),
    ("DELETE /integrated-account/{id}", Id::Account, false, None),
    ("DELETE /link-token/{id}", Id::Link, false, None),
    ("DELETE /proxy/{resource}/{id}", Id::Record, true, None),
    ("DELETE /unified/user-directory/groups/{id}", Id::Record, true, None),
    ("DELETE /unified/user-directory/groups/{id}/members/{member_id}", Id::Record, true, None),
    ("DELETE /unified/user-directory/role_assignments/{id}", Id::Record, true, None),
    ("DELETE /unified/user-directory/users/{id}", Id::Record, true, None),
    ("GET /api-token", Id::None, false, None),
    ("GET /api-token/{id}", Id::Token, false, None),
    ("GET /audit", Id::None, false, None),
    ("GET /audit/verify", Id::None, false, None),
    ("GET /environment", Id::None, false, None),
    ("GET /environment/{id}", Id::Environment, false, None),
    ("GET /backup", Id::None, false, None),
    ("GET /environment-integration", Id::None, false, None),
    ("GET /environment-integration/{id}", Id::Install, false, None),
    ("GET /errors", Id::None, false, None),
    ("GET /errors/{code}", Id::None, false, None),
    ("GET /export", Id::None, false, None),
    ("GET /event", Id::None, false, None),
    ("GET /event/{id}", Id::Event, false, None),
    ("GET /healthz", Id::None, false, None),
    ("GET /integrated-account", Id::None, false, None),
    ("GET /integrated-account/me", Id::None, false, None),
    ("GET /integrated-account/{id}", Id::Account, false, None),
    ("GET /integrated-account/{id}/capabilities", Id::Account, false, None),
    ("GET /integrated-account/{id}/tools", Id::Account, false, None),
    ("GET /integration", Id::None, false, None),
    ("GET /integration/{slug_or_id}", Id::None, false, None),
    ("GET /integration/{slug_or_id}/capabilities", Id::None, false, None),
    ("GET /integration/{slug_or_id}/tools", Id::None, false, None),
    ("GET /key", Id::None, false, None),
    ("GET /log", Id::None, false, None),
    ("GET /metrics", Id::None, false, None),
    ("GET /openapi.json", Id::None, false, None),
    ("GET /ping", Id::None, false, None),
    ("GET /proxy/{resource}", Id::None, true, None),
    ("GET /proxy/{resource}/{id}", Id::Record, true, None),
    ("GET /readyz", Id::None, false, None),
    ("GET /unified/user-directory/activities", Id::None, true, None),
    ("GET /unified/user-directory/activities/{id}", Id::Record, true, None),
    ("GET /unified/user-directory/groups", Id::None, true, None),
    ("GET /unified/user-directory/groups/{id}", Id::Record, true, None),
    ("GET /unified/user-directory/groups/{id}/members", Id::Record, true, None),
    ("GET /unified/user-directory/licenses", Id::None, true, None),
    ("GET /unified/user-directory/licenses/{id}", Id::Record, true, None),
    ("GET /unified/user-directory/me", Id::None, true, None),
    ("GET /unified/user-directory/organizations", Id::None, true, None),
    ("GET /unified/user-directory/organizations/{id}", Id::Record, true, None),
    ("GET /unified/user-directory/role_assignments", Id::None, true, None),
    ("GET /unified/user-directory/role_assignments/{id}", Id::Record, true, None),
    ("GET /unified/user-directory/roles", Id::None, true, None),
    ("GET /unified/user-directory/roles/{id}", Id::Record, true, None),
    ("GET /unified/user-directory/users", Id::None, true, None),
    ("GET /unified/user-directory/users/{id}", Id::Record, true, None),
    ("GET /unified/user-directory/workspaces", Id::None, true, None),
    ("GET /unified/user-directory/workspaces/{id}", Id::Record, true, None),
    ("GET /unified/{model}/{resource}/meta/{method}", Id::None, true, None),
    ("PATCH /integrated-account/me", Id::None, false, Some(r#"{"context": {"plan": "gold"}}"#)),
    ("PATCH /environment-integration/{id}", Id::Install, false, Some(r#"{"is_enabled": true}"#)),
    ("PATCH /environment/{id}", Id::Environment, false, Some(r#"{"name": "renamed"}"#)),
    ("PATCH /integrated-account/{id}", Id::Account, false, Some(r#"{"tenant_id": "changed"}"#)),
    ("PATCH /integrated-account/{id}/credentials", Id::Account, false, Some(r#"{"token": "another-token-of-the-vendor"}"#)),
    ("PATCH /proxy/{resource}/{id}", Id::Record, true, Some("{}")),
    ("POST /proxy/{resource}", Id::None, true, Some("{}")),
    ("POST /proxy/{resource}/{id}", Id::Record, true, Some("{}")),
    ("PATCH /unified/user-directory/groups/{id}", Id::Record, true, Some("{}")),
    ("PATCH /unified/user-directory/users/{id}", Id::Record, true, Some("{}")),
    ("POST /unified/user-directory/groups", Id::None, true, Some("{}")),
    ("POST /unified/user-directory/groups/add-user", Id::None, true, Some(r#"{"group_id": "g", "user_id": "u"}"#)),
    ("POST /unified/user-directory/groups/remove-user", Id::None, true, Some(r#"{"group_id": "g", "user_id": "u"}"#)),
    ("POST /unified/user-directory/groups/{id}/members", Id::Record, true, Some("{}")),
    ("POST /unified/user-directory/role_assignments", Id::None, true, Some(r#"{"user_id": "1", "role_id": "2"}"#)),
    ("POST /unified/user-directory/users", Id::None, true, Some("{}")),
    ("POST /environment", Id::None, false, Some(r#"{"name": ""}"#)),
    ("POST /environment-integration", Id::None, false, Some(r#"{"integration": ""}"#)),
    ("POST /api-token", Id::None, false, Some(r#"{"name": "", "scopes": []}"#)),
    (
        "POST /batch-request",
        Id::None,
        false,
        Some(r#"{"integrated_account_id": "x", "resources": [{"resource": "users", "method": "list"}]}"#),
    ),
    ("POST /key/rewrap", Id::None, false, Some("{}")),
    ("POST /link-token", Id::None, false, Some(r#"{"tenant_id": ""}"#)),
    ("POST /integrated-account/test", Id::None, false, Some(r#"{"authentication_method": "bearer"}"#)),
    ("POST /integrated-account/{id}/status-refresh", Id::Account, false, None),
    ("POST /integrated-account/{id}/test", Id::Account, false, None),
    ("POST /integrated-account", Id::None, false, Some(r#"{"tenant_id": "t", "authentication_method": "bearer"}"#)),
    ("POST /integrated-account/bulk-delete", Id::Account, false, Some(r#"{"ids": ["{id}"]}"#)),
    ("POST /integrated-account/refresh-credentials", Id::Account, false, Some(r#"{"id": "{id}"}"#)),
    ("POST /integrated-account/run-post-install-actions", Id::Account, false, Some(r#"{"id": "{id}"}"#)),
    ("POST /integrated-account/token", Id::Account, false, Some(r#"{"integrated_account_id": "{id}"}"#)),
];

/// A header that makes two answers comparable to the byte.
const SAME_ID: (&str, &str) = ("x-request-id", "same");

struct Operation {
    name: String,
    method: String,
    path: String,
    scope: Option<Scope>,
    /// Any valid token will do.
    is_for_all: bool,
    id: Id,
    in_query: bool,
    body: Option<&'static str>,
    limit: Option<u64>,
}

fn operations() -> Vec<Operation> {
    let document = serde_json::to_value(openapi::document()).unwrap();
    let mut all = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let name = format!("{} {path}", method.to_uppercase());
            let entry = ENTRIES.iter().find(|(known, ..)| *known == name);
            let (_, id, in_query, body) = entry.unwrap_or_else(|| panic!("`{name}` has no entry in the isolation matrix"));
            let said = operation["x-rollcall-scope"].as_str().filter(|_| path != "/metrics");
            let is_for_all = said == Some("any");
            let scope = said.filter(|_| !is_for_all).map(|s| s.parse().unwrap());
            let parameters = operation["parameters"].as_array().map(Vec::as_slice).unwrap_or_default();
            let limit = parameters.iter().find(|p| p["name"] == "limit").and_then(|p| p["schema"]["maximum"].as_u64());
            let in_document = parameters.iter().any(|p| p["name"] == "integrated_account_id" && p["required"] == true);
            assert_eq!(in_document, *in_query, "{name}");
            let (method, path) = (method.to_uppercase(), path.clone());
            all.push(Operation { name, method, path, scope, is_for_all, id: *id, in_query: *in_query, body: *body, limit });
        }
    }
    assert_eq!(all.len(), ENTRIES.len(), "an entry of the matrix is of no operation");
    all
}

impl Operation {
    fn changes(&self) -> bool {
        self.method != "GET"
    }

    fn target(&self, id: &str, account: &str) -> String {
        let path = self.path.replace("{id}", id).replace("{resource}", "users").replace("{model}", "user-directory");
        let path = path
            .replace("{method}", "list")
            .replace("{slug_or_id}", "scim")
            .replace("{member_id}", "u1")
            .replace("{code}", "not_found");
        if self.in_query { format!("{path}?integrated_account_id={account}") } else { path }
    }

    fn call(&self, fixture: &Fixture, token: Option<&str>, id: &str, account: &str) -> Reply {
        let bearer = token.map(|t| format!("Bearer {t}"));
        let mut headers = vec![SAME_ID];
        headers.extend(bearer.as_deref().map(|b| ("authorization", b)));
        let body = self.body_with(id);
        request(fixture.addr, &self.method, &self.target(id, account), &headers, body.as_deref().map(str::as_bytes))
    }

    fn body_with(&self, id: &str) -> Option<String> {
        self.body.map(|body| body.replace("{id}", id))
    }

    /// Whether an account token reaches it: written down once more, so that a route is not opened by a slip.
    fn is_open_to_account_tokens(&self) -> bool {
        let is_data = self.path.starts_with("/unified/user-directory/") || self.path.starts_with("/proxy/");
        is_data || self.path == "/integrated-account/me"
    }

    /// The call with one of the ids that the walls are about.
    fn ask(&self, fixture: &Fixture, token: Option<&str>, id: &str) -> Reply {
        match self.in_query {
            true => self.call(fixture, token, &fixture.user, id),
            false => self.call(fixture, token, id, &fixture.account),
        }
    }

    /// Whether it names something that belongs to an environment.
    fn has_walls(&self) -> bool {
        self.in_query || !matches!(self.id, Id::None | Id::Record)
    }

    fn own_id<'f>(&self, fixture: &'f Fixture) -> &'f str {
        match self.id {
            Id::Token => &fixture.token,
            Id::Link => &fixture.link,
            Id::Event => &fixture.event,
            Id::Install => &fixture.install,
            Id::Environment => &fixture.environment,
            Id::Account | Id::None | Id::Record => &fixture.account,
        }
    }

    fn foreign_id<'f>(&self, fixture: &'f Fixture) -> &'f str {
        match self.id {
            Id::Token => &fixture.foreign_token,
            Id::Link => &fixture.foreign_link,
            Id::Event => &fixture.foreign_event,
            Id::Install => &fixture.foreign_install,
            Id::Environment => &fixture.foreign_environment,
            Id::Account | Id::None | Id::Record => &fixture.foreign_account,
        }
    }
}

/// Status, headers but for the date, and body.
fn comparable(reply: &Reply) -> (u16, Vec<(String, String)>, String) {
    let mut headers = reply.headers.clone();
    headers.retain(|(name, _)| name != "date");
    headers.sort();
    (reply.status, headers, reply.text())
}

/// Who may do what: every id for every token.
pub fn check_rights(fixture: &Fixture) {
    for operation in operations() {
        if !operation.is_for_all && operation.scope.is_none() {
            let reply = operation.ask(fixture, None, operation.own_id(fixture));
            assert!(reply.status < 400, "{} without a token: {} {}", operation.name, reply.status, reply.text());
            continue;
        }
        let (front, last) = fixture.admin.split_at(fixture.admin.len() - 1);
        let near_miss = format!("{front}{}", if last == "x" { "y" } else { "x" });
        for token in [None, Some("nonsense"), Some(""), Some(near_miss.as_str()), Some(&fixture.revoked), Some(&fixture.expired)]
        {
            for reply in all_the_same(&operation, fixture, token) {
                assert_eq!((reply.status, reply.code().as_str()), (401, "invalid_token"), "{} {}", operation.name, reply.text());
                assert!(reply.header("www-authenticate").is_some_and(|w| w.starts_with("Bearer")), "{}", operation.name);
            }
        }
        for (scope, token) in &fixture.scoped {
            match operation.scope.filter(|needed| needed != scope && *scope != Scope::Admin) {
                None => check_allowed(&operation, fixture, *scope, token),
                Some(needed) => check_refused(&operation, fixture, (*scope, needed), token),
            }
        }
    }
}

/// Own, foreign, missing and malformed.
fn ids(operation: &Operation, fixture: &Fixture) -> [String; 4] {
    let (own, foreign) = (operation.own_id(fixture), operation.foreign_id(fixture));
    [own.to_owned(), foreign.to_owned(), Uuid::now_v7().to_string(), "nonsense".to_owned()]
}

/// The answers for every id, which a token without the right cannot tell apart.
fn all_the_same(operation: &Operation, fixture: &Fixture, token: Option<&str>) -> [Reply; 4] {
    let replies = ids(operation, fixture).map(|id| operation.ask(fixture, token, &id));
    for other in &replies[1..] {
        assert_eq!(comparable(other), comparable(&replies[0]), "{} tells ids apart", operation.name);
    }
    replies
}

fn check_refused(operation: &Operation, fixture: &Fixture, (scope, needed): (Scope, Scope), token: &str) {
    let name = &operation.name;
    for reply in all_the_same(operation, fixture, Some(token)) {
        assert_eq!((reply.status, reply.code().as_str()), (403, "scope_missing"), "{name} with {scope}: {}", reply.text());
        assert!(reply.json()["detail"].as_str().unwrap().contains(needed.as_str()), "{name}");
    }
}

fn check_allowed(operation: &Operation, fixture: &Fixture, scope: Scope, token: &str) {
    let name = &operation.name;
    let [own, foreign, missing, malformed] = ids(operation, fixture);
    let answered = |id: &str| {
        let reply = operation.ask(fixture, Some(token), id);
        let refused = reply.status == 403 && reply.code() == "scope_missing";
        assert!(!refused && reply.status != 401 && reply.status < 500, "{name} with {scope}: {}", reply.text());
        comparable(&reply)
    };
    // What belongs to the fixture stays as it is.
    if !operation.changes() || !operation.has_walls() {
        answered(&own);
    }
    if operation.has_walls() {
        let expected = answered(&missing);
        assert_eq!(expected.0, 404, "{name} with {scope}: {}", expected.2);
        assert_eq!(answered(&foreign), expected, "{name} with {scope}");
        assert_eq!(answered(&malformed), expected, "{name} with {scope}");
    }
}

/// Foreign, missing and malformed ids are one and the same, to the byte, and own ones are found.
pub fn check_walls(fixture: &Fixture) {
    let missing = Uuid::now_v7().to_string();
    for operation in operations().iter().filter(|o| o.has_walls()) {
        let (name, foreign) = (&operation.name, operation.foreign_id(fixture));
        let call = |id: &str| operation.ask(fixture, Some(&fixture.admin), id);
        let expected = comparable(&call(&missing));
        assert_eq!(expected.0, 404, "{name}: {}", expected.2);
        assert!(expected.2.contains("\"not_found\""), "{name}: {}", expected.2);
        let upper = foreign.to_uppercase();
        for id in [
            foreign,
            &upper,
            "nonsense",
            "0",
            "..%2f..",
            "%00",
            "00000000-0000-0000-0000-000000000000",
            &format!("%7B{foreign}%7D"),
        ] {
            // A control character in a query is refused before anything is looked up.
            if !(operation.in_query && id == "%00") {
                assert_eq!(comparable(&call(id)), expected, "{name} with {id}");
            }
        }
        if !operation.changes() && !operation.in_query {
            let own = call(operation.own_id(fixture));
            assert_eq!(own.status, 200, "{name}: {}", own.text());
        }
        if operation.in_query {
            let reply = call("");
            assert_eq!((reply.status, reply.code().as_str()), (400, "invalid_parameter"), "{name}");
            assert_eq!(reply.json()["field"], "integrated_account_id", "{name}");
        }
    }
    for path in ["/integrated-account", "/api-token"] {
        let own = request(fixture.addr, "GET", path, &[("authorization", &format!("Bearer {}", fixture.admin))], None).text();
        assert!(!own.contains(&fixture.foreign_account) && !own.contains(&fixture.foreign_token), "{path}");
    }
}

/// What the other environment sees of its own: every account and token, to the byte.
pub fn foreign_side(fixture: &Fixture) -> Vec<String> {
    let stranger = format!("Bearer {}", fixture.stranger);
    let (account, token) = (&fixture.foreign_account, &fixture.foreign_token);
    let places = ["/integrated-account".to_owned(), "/api-token".to_owned(), format!("/integrated-account/{account}")];
    let last_use = Regex::new(r#""last_used_at":(null|"[^"]*")"#).unwrap();
    let see = |path: String| {
        let reply = request(fixture.addr, "GET", &path, &[("authorization", &stranger)], None);
        assert_eq!(reply.status, 200, "{path}: {}", reply.text());
        // Looking is a use.
        last_use.replace_all(&reply.text(), "").into_owned()
    };
    let seen: Vec<String> = places.into_iter().chain([format!("/api-token/{token}")]).map(see).collect();
    assert!(seen[0].contains(account) && seen[1].contains(token), "{seen:?}");
    seen
}

/// The transparent proxy is not in the document: the same walls and rights, in both ways to name the account.
pub fn check_passthrough(fixture: &Fixture) {
    let missing = Uuid::now_v7().to_string();
    let call = |method: &str, token: &str, account: &str, by_header: bool| {
        let bearer = format!("Bearer {token}");
        let mut headers = vec![SAME_ID, ("authorization", bearer.as_str())];
        let place = if by_header { "-" } else { account };
        if by_header {
            headers.push(("rollcall-account", account));
        }
        request(fixture.addr, method, &format!("/passthrough/{place}/Users?count=1"), &headers, None)
    };
    for by_header in [false, true] {
        let own = call("GET", &fixture.admin, &fixture.account, by_header);
        assert_eq!((own.status, own.header("rollcall-error")), (200, None), "{}", own.text());
        let expected = comparable(&call("GET", &fixture.admin, &missing, by_header));
        assert_eq!(expected.0, 404);
        for id in [fixture.foreign_account.as_str(), "nonsense", "0"] {
            assert_eq!(comparable(&call("GET", &fixture.admin, id, by_header)), expected, "{id}");
        }
        for (scope, token) in &fixture.scoped {
            for (method, needed) in [
                ("GET", Scope::ProxyRead),
                ("HEAD", Scope::ProxyRead),
                ("POST", Scope::ProxyWrite),
                ("DELETE", Scope::ProxyWrite),
            ] {
                let reply = call(method, token, &missing, by_header);
                let status = if *scope == needed || *scope == Scope::Admin { 404 } else { 403 };
                assert_eq!(reply.status, status, "{method} with {scope}");
                assert!(reply.header("rollcall-error").is_some());
            }
        }
        for token in ["nonsense", &fixture.revoked, &fixture.expired] {
            assert_eq!(call("GET", token, &fixture.account, by_header).status, 401);
        }
    }
}

/// What all lists have in common.
pub fn check_lists(fixture: &Fixture) {
    let bearer = format!("Bearer {}", fixture.admin);
    let headers = [("authorization", bearer.as_str())];
    for operation in operations() {
        let (name, Some(max)) = (&operation.name, operation.limit) else { continue };
        let target = operation.target(&fixture.user, &fixture.account);
        let join = if target.contains('?') { '&' } else { '?' };
        let ask = |query: &str| request(fixture.addr, "GET", &format!("{target}{join}{query}"), &headers, None);
        for limit in ["0", "-1", "abc", "1.5", "", "1&limit=2", &format!("{}", max + 1)] {
            let reply = ask(&format!("limit={limit}"));
            assert_eq!((reply.status, reply.code().as_str()), (400, "invalid_parameter"), "{name} limit={limit}");
            assert_eq!(reply.json()["field"], "limit", "{name}");
        }
        let odd = ask("truto_nonsense=1");
        assert_eq!((odd.status, odd.json()["field"].as_str()), (400, Some("truto_nonsense")), "{name}");
        let first = ask("next_cursor=&limit=1");
        if matches!(first.code().as_str(), "resource_not_supported" | "method_not_supported" | "not_found") {
            continue;
        }
        assert_eq!(first.status, 200, "{name}: {}", first.text());
        walk(name, first.json(), |cursor| ask(&format!("limit=1&next_cursor={cursor}")));
        let reply = ask("next_cursor=nonsense");
        assert_eq!((reply.status, reply.code().as_str()), (400, "invalid_cursor"), "{name}: {}", reply.text());
    }
}

fn walk(name: &str, mut page: Value, next: impl Fn(&str) -> Reply) {
    let mut seen = Vec::new();
    for _ in 0..1000 {
        let records = page["result"].as_array().unwrap();
        assert!(records.len() <= 1, "{name}: more than `limit`");
        seen.extend(records.iter().map(|r| r["id"].to_string()));
        let Some(cursor) = page["next_cursor"].as_str() else {
            let mut unique = seen.clone();
            unique.sort();
            unique.dedup();
            assert_eq!(unique.len(), seen.len(), "{name}: a record twice");
            return;
        };
        assert!(!records.is_empty(), "{name}: an empty page with a cursor");
        let reply = next(cursor);
        assert_eq!(reply.status, 200, "{name}: {}", reply.text());
        page = reply.json();
    }
    panic!("{name}: the walk does not end");
}

/// Foreign and missing take the same time, on every operation that has ids. A busy machine can move a median by as much as
/// the bar allows, so there are three rounds; a difference of the gateway's making is there in each.
pub fn check_timing(fixture: &Fixture) {
    for operation in operations().iter().filter(|o| o.has_walls()) {
        let mut ratios = Vec::new();
        while ratios.last().is_none_or(|ratio: &f64| (ratio - 1.0).abs() > 0.05) {
            assert!(ratios.len() < 3, "{}: foreign ids take {ratios:?} times as long as missing ones", operation.name);
            ratios.push(timing_ratio(operation, fixture));
        }
        println!("{}: {ratios:.3?}", operation.name);
    }
}

/// The median time of a foreign id by that of a missing one.
fn timing_ratio(operation: &Operation, fixture: &Fixture) -> f64 {
    let mut stream = connect(fixture.addr);
    let mut took = |id: &str| {
        let target = match operation.in_query {
            true => operation.target(&fixture.user, id),
            false => operation.target(id, &fixture.account),
        };
        let (method, body) = (&operation.method, operation.body_with(id).unwrap_or_default());
        let (addr, token, length) = (fixture.addr, &fixture.admin, body.len());
        let head = format!("{method} {target} HTTP/1.1\r\nhost: {addr}\r\nauthorization: Bearer {token}");
        let ask = format!("{head}\r\ncontent-length: {length}\r\n\r\n{body}");
        let begun = Instant::now();
        stream.write_all(ask.as_bytes()).unwrap();
        let reply = read_reply(&mut stream, false);
        assert_eq!(reply.status, 404);
        begun.elapsed().as_secs_f64()
    };
    let (mut foreign, mut missing) = (Vec::new(), Vec::new());
    for _ in 0..500 {
        let other = Uuid::now_v7().to_string();
        // By chance: a store has a rhythm of its own, some commits in turn cost more than others, and a fixed order would lay all
        // of these on the same of both.
        let first = Uuid::new_v4().as_bytes()[0].is_multiple_of(2);
        if first {
            missing.push(took(&other));
        }
        foreign.push(took(operation.foreign_id(fixture)));
        if !first {
            missing.push(took(&other));
        }
    }
    let median = |times: &mut Vec<f64>| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    };
    median(&mut foreign) / median(&mut missing)
}
