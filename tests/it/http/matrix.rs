//! Bar G-06: every operation of the document × ids × rights, and what every list has in common. A new operation without an
//! entry here fails.

use std::{collections::BTreeMap, net::SocketAddr, time::Instant};

use rollcall::{http::openapi, model::Scope};
use serde_json::Value;
use uuid::Uuid;

use super::wire::{Reply, request};

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
    /// An API token's id in the own environment, which nobody needs.
    pub token: String,
    /// An API token's id in the other environment.
    pub foreign_token: String,
    /// The connector's id in the own environment.
    pub install: String,
    /// The connector's id in the other environment.
    pub foreign_install: String,
}

/// What `{id}` in a path stands for.
#[derive(Clone, Copy, PartialEq)]
enum Id {
    None,
    Account,
    Token,
    Install,
    /// A vendor's record; the account is in the query.
    Record,
}

/// How an operation is called: its id, whether the account is in the query, a body it takes.
const ENTRIES: &[(&str, Id, bool, Option<&str>)] = &[
    ("DELETE /api-token/{id}", Id::Token, false, None),
    ("DELETE /integrated-account/{id}", Id::Account, false, None),
    ("GET /api-token", Id::None, false, None),
    ("GET /api-token/{id}", Id::Token, false, None),
    ("GET /environment-integration", Id::None, false, None),
    ("GET /environment-integration/{id}", Id::Install, false, None),
    ("GET /errors", Id::None, false, None),
    ("GET /errors/{code}", Id::None, false, None),
    ("GET /healthz", Id::None, false, None),
    ("GET /integrated-account", Id::None, false, None),
    ("GET /integrated-account/{id}", Id::Account, false, None),
    ("GET /integrated-account/{id}/capabilities", Id::Account, false, None),
    ("GET /integration", Id::None, false, None),
    ("GET /integration/{slug_or_id}", Id::None, false, None),
    ("GET /integration/{slug_or_id}/capabilities", Id::None, false, None),
    ("GET /metrics", Id::None, false, None),
    ("GET /openapi.json", Id::None, false, None),
    ("GET /ping", Id::None, false, None),
    ("GET /proxy/{resource}", Id::None, true, None),
    ("GET /proxy/{resource}/{id}", Id::Record, true, None),
    ("GET /readyz", Id::None, false, None),
    ("GET /unified/user-directory/groups", Id::None, true, None),
    ("GET /unified/user-directory/groups/{id}", Id::Record, true, None),
    ("GET /unified/user-directory/groups/{id}/members", Id::Record, true, None),
    ("GET /unified/user-directory/me", Id::None, true, None),
    ("GET /unified/user-directory/organizations", Id::None, true, None),
    ("GET /unified/user-directory/organizations/{id}", Id::Record, true, None),
    ("GET /unified/user-directory/roles", Id::None, true, None),
    ("GET /unified/user-directory/roles/{id}", Id::Record, true, None),
    ("GET /unified/user-directory/users", Id::None, true, None),
    ("GET /unified/user-directory/users/{id}", Id::Record, true, None),
    ("GET /unified/user-directory/workspaces", Id::None, true, None),
    ("GET /unified/user-directory/workspaces/{id}", Id::Record, true, None),
    ("GET /unified/{model}/{resource}/meta/{method}", Id::None, true, None),
    ("PATCH /integrated-account/{id}", Id::Account, false, Some(r#"{"tenant_id": "changed"}"#)),
    ("POST /api-token", Id::None, false, Some(r#"{"name": "", "scopes": []}"#)),
    ("POST /integrated-account", Id::None, false, Some(r#"{"tenant_id": "t", "authentication_method": "bearer"}"#)),
];

/// A header that makes two answers comparable to the byte.
const SAME_ID: (&str, &str) = ("x-request-id", "same");

struct Operation {
    name: String,
    method: String,
    path: String,
    scope: Option<Scope>,
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
            let scope = operation["x-rollcall-scope"].as_str().filter(|_| path != "/metrics").map(|s| s.parse().unwrap());
            let parameters = operation["parameters"].as_array().map(Vec::as_slice).unwrap_or_default();
            let limit = parameters.iter().find(|p| p["name"] == "limit").and_then(|p| p["schema"]["maximum"].as_u64());
            let in_document = parameters.iter().any(|p| p["name"] == "integrated_account_id");
            assert_eq!(in_document, *in_query, "{name}");
            let (method, path) = (method.to_uppercase(), path.clone());
            all.push(Operation { name, method, path, scope, id: *id, in_query: *in_query, body: *body, limit });
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
        let path = path.replace("{method}", "list").replace("{slug_or_id}", "scim").replace("{code}", "not_found");
        if self.in_query { format!("{path}?integrated_account_id={account}") } else { path }
    }

    fn call(&self, fixture: &Fixture, token: Option<&str>, id: &str, account: &str) -> Reply {
        let bearer = token.map(|t| format!("Bearer {t}"));
        let mut headers = vec![SAME_ID];
        headers.extend(bearer.as_deref().map(|b| ("authorization", b)));
        request(fixture.addr, &self.method, &self.target(id, account), &headers, self.body.map(str::as_bytes))
    }

    fn own_id<'f>(&self, fixture: &'f Fixture) -> &'f str {
        match self.id {
            Id::Account => &fixture.account,
            Id::Token => &fixture.token,
            Id::Install => &fixture.install,
            Id::Record | Id::None => &fixture.user,
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

/// Who may do what.
pub fn check_rights(fixture: &Fixture) {
    let nobody = Uuid::now_v7().to_string();
    for operation in operations() {
        let name = &operation.name;
        // Whatever changes something is tried on an id that does not exist.
        let id = if operation.changes() { nobody.as_str() } else { operation.own_id(fixture) };
        let Some(needed) = operation.scope else {
            let reply = operation.call(fixture, None, id, &fixture.account);
            assert!(reply.status < 400, "{name} without a token: {} {}", reply.status, reply.text());
            continue;
        };
        let near_miss = format!("{}x", &fixture.admin[..fixture.admin.len() - 1]);
        for token in [None, Some("nonsense"), Some(""), Some(near_miss.as_str()), Some(&fixture.revoked), Some(&fixture.expired)]
        {
            let reply = operation.call(fixture, token, id, &fixture.account);
            assert_eq!((reply.status, reply.code().as_str()), (401, "invalid_token"), "{name} {}", reply.text());
            assert!(reply.header("www-authenticate").is_some_and(|w| w.starts_with("Bearer")), "{name}");
        }
        for (scope, token) in &fixture.scoped {
            let reply = operation.call(fixture, Some(token), id, &fixture.account);
            let refused = reply.status == 403 && reply.code() == "scope_missing";
            assert_eq!(!refused, *scope == needed || *scope == Scope::Admin, "{name} with {scope}: {}", reply.text());
            assert!(!refused || reply.json()["detail"].as_str().unwrap().contains(needed.as_str()), "{name}");
            assert!(reply.status != 401 && reply.status < 500, "{name} with {scope}: {}", reply.text());
        }
    }
}

/// Foreign, missing and malformed ids are one and the same, to the byte, and nothing foreign is read or changed.
pub fn check_walls(fixture: &Fixture) {
    let missing = Uuid::now_v7().to_string();
    for operation in operations().iter().filter(|o| o.in_query || !matches!(o.id, Id::None | Id::Record)) {
        let name = &operation.name;
        let foreign = match operation.id {
            Id::Token => &fixture.foreign_token,
            Id::Install => &fixture.foreign_install,
            Id::Account | Id::None | Id::Record => &fixture.foreign_account,
        };
        let call = |id: &str| match operation.in_query {
            true => operation.call(fixture, Some(&fixture.admin), &fixture.user, id),
            false => operation.call(fixture, Some(&fixture.admin), id, &fixture.account),
        };
        let expected = comparable(&call(&missing));
        assert_eq!(expected.0, 404, "{name}: {}", expected.2);
        assert!(expected.2.contains("\"not_found\""), "{name}: {}", expected.2);
        let upper = foreign.to_uppercase();
        for id in [
            foreign.as_str(),
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
            let reply = operation.call(fixture, Some(&fixture.admin), &fixture.user, "");
            assert_eq!((reply.status, reply.code().as_str()), (400, "invalid_parameter"), "{name}");
            assert_eq!(reply.json()["field"], "integrated_account_id", "{name}");
        }
    }
    let stranger = format!("Bearer {}", fixture.stranger);
    for path in [format!("/integrated-account/{}", fixture.foreign_account), format!("/api-token/{}", fixture.foreign_token)] {
        let reply = request(fixture.addr, "GET", &path, &[("authorization", &stranger)], None);
        assert_eq!(reply.status, 200, "{path} was touched from the other side of the wall");
    }
    for path in ["/integrated-account", "/api-token"] {
        let own = request(fixture.addr, "GET", path, &[("authorization", &format!("Bearer {}", fixture.admin))], None).text();
        assert!(!own.contains(&fixture.foreign_account) && !own.contains(&fixture.foreign_token), "{path}");
    }
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
        let target = operation.target(operation.own_id(fixture), &fixture.account);
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
        if operation.in_query {
            let reply = ask("next_cursor=nonsense");
            assert_eq!((reply.status, reply.code().as_str()), (400, "invalid_cursor"), "{name}: {}", reply.text());
        }
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

/// Foreign and missing take the same time.
pub fn check_timing(fixture: &Fixture) {
    let tries = if crate::support::long() { 500 } else { 40 };
    let bearer = format!("Bearer {}", fixture.admin);
    let took = |id: &str| {
        let begun = Instant::now();
        let reply = request(fixture.addr, "GET", &format!("/integrated-account/{id}"), &[("authorization", &bearer)], None);
        assert_eq!(reply.status, 404);
        begun.elapsed().as_secs_f64()
    };
    let (mut foreign, mut missing) = (Vec::new(), Vec::new());
    for _ in 0..tries {
        missing.push(took(&Uuid::now_v7().to_string()));
        foreign.push(took(&fixture.foreign_account));
    }
    let median = |times: &mut Vec<f64>| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    };
    let ratio = median(&mut foreign) / median(&mut missing);
    let tolerance = if crate::support::long() { 0.05 } else { 0.5 };
    assert!((ratio - 1.0).abs() <= tolerance, "foreign ids take {ratio} times as long as missing ones");
}
