//! The table of routes and rights, read off the handlers' parameter types, as a snapshot that a reviewer sees change.

use std::{collections::BTreeMap, fmt::Write, path::Path};

use regex::Regex;
use rollcall::http::openapi;

const SNAPSHOT: &str = "\
DELETE /api-token/{id} Admin
DELETE /environment-integration/{id} Admin
DELETE /environment/{id} Admin
DELETE /integrated-account/{id} WriteAccounts
DELETE /link-token/{id} WriteLinks
DELETE /proxy/{resource}/{id} WriteProxy OrAccount
DELETE /unified/user-directory/groups/{id} WriteDirectory OrAccount
DELETE /unified/user-directory/groups/{id}/members/{member_id} WriteDirectory OrAccount
DELETE /unified/user-directory/role_assignments/{id} WriteDirectory OrAccount
DELETE /unified/user-directory/users/{id} WriteDirectory OrAccount
GET /api-token Admin
GET /api-token/{id} Admin
GET /audit Admin
GET /audit/verify Admin
GET /backup Admin
GET /environment AnyToken
GET /environment-integration ReadAccounts
GET /environment-integration/{id} ReadAccounts
GET /environment/{id} AnyToken
GET /errors -
GET /errors/{code} -
GET /event ReadEvents
GET /event/{id} ReadEvents
GET /export Admin
GET /healthz -
GET /integrated-account ReadAccounts
GET /integrated-account/me ReadAccounts OnlyAccount
GET /integrated-account/{id} ReadAccounts
GET /integrated-account/{id}/capabilities ReadAccounts
GET /integrated-account/{id}/tools ReadAccounts
GET /integration ReadAccounts
GET /integration/{slug_or_id} ReadAccounts
GET /integration/{slug_or_id}/capabilities ReadAccounts
GET /integration/{slug_or_id}/tools ReadAccounts
GET /key Admin
GET /log Admin
GET /metrics -
GET /openapi.json -
GET /ping -
GET /proxy/{resource} ReadProxy OrAccount
GET /proxy/{resource}/{id} ReadProxy OrAccount
GET /readyz -
GET /unified/user-directory/activities ReadDirectory OrAccount
GET /unified/user-directory/activities/{id} ReadDirectory OrAccount
GET /unified/user-directory/groups ReadDirectory OrAccount
GET /unified/user-directory/groups/{id} ReadDirectory OrAccount
GET /unified/user-directory/groups/{id}/members ReadDirectory OrAccount
GET /unified/user-directory/licenses ReadDirectory OrAccount
GET /unified/user-directory/licenses/{id} ReadDirectory OrAccount
GET /unified/user-directory/me ReadDirectory OrAccount
GET /unified/user-directory/organizations ReadDirectory OrAccount
GET /unified/user-directory/organizations/{id} ReadDirectory OrAccount
GET /unified/user-directory/role_assignments ReadDirectory OrAccount
GET /unified/user-directory/role_assignments/{id} ReadDirectory OrAccount
GET /unified/user-directory/roles ReadDirectory OrAccount
GET /unified/user-directory/roles/{id} ReadDirectory OrAccount
GET /unified/user-directory/users ReadDirectory OrAccount
GET /unified/user-directory/users/{id} ReadDirectory OrAccount
GET /unified/user-directory/workspaces ReadDirectory OrAccount
GET /unified/user-directory/workspaces/{id} ReadDirectory OrAccount
GET /unified/{model}/{resource}/meta/{method} ReadDirectory
PATCH /environment-integration/{id} Admin
PATCH /environment/{id} Admin
PATCH /integrated-account/me WriteAccounts OnlyAccount
PATCH /integrated-account/{id} WriteAccounts
PATCH /integrated-account/{id}/credentials WriteAccounts
PATCH /proxy/{resource}/{id} WriteProxy OrAccount
PATCH /unified/user-directory/groups/{id} WriteDirectory OrAccount
PATCH /unified/user-directory/users/{id} WriteDirectory OrAccount
POST /api-token Admin
POST /batch-request AnyToken
POST /environment Admin
POST /environment-integration Admin
POST /integrated-account WriteAccounts
POST /integrated-account/bulk-delete WriteAccounts
POST /integrated-account/refresh-credentials WriteAccounts
POST /integrated-account/run-post-install-actions WriteAccounts
POST /integrated-account/test WriteAccounts
POST /integrated-account/token ReadAccounts
POST /integrated-account/{id}/status-refresh WriteAccounts
POST /integrated-account/{id}/test WriteAccounts
POST /key/rewrap Admin
POST /link-token WriteLinks
POST /proxy/{resource} WriteProxy OrAccount
POST /proxy/{resource}/{id} WriteProxy OrAccount
POST /unified/user-directory/groups WriteDirectory OrAccount
POST /unified/user-directory/groups/add-user WriteDirectory OrAccount
POST /unified/user-directory/groups/remove-user WriteDirectory OrAccount
POST /unified/user-directory/groups/{id}/members WriteDirectory OrAccount
POST /unified/user-directory/role_assignments WriteDirectory OrAccount
POST /unified/user-directory/users WriteDirectory OrAccount
";

/// Route → parameters of its handler, from the sources.
fn handlers() -> BTreeMap<String, String> {
    let route = Regex::new(r#"(?s)#\[(get|post|patch|delete)\("([^"]+)"\)\]\npub async fn \w+\((.*?)\) ->"#).unwrap();
    let alias = Regex::new(r"type (\w+) = (\w+<[^;]+>);").unwrap();
    let mut handlers = BTreeMap::new();
    for entry in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/http/routes")).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        let aliases: Vec<(String, String)> = alias.captures_iter(&text).map(|c| (c[1].to_owned(), c[2].to_owned())).collect();
        for found in route.captures_iter(&text) {
            let parameters =
                aliases.iter().fold(found[3].to_owned(), |p, (name, full)| p.replace(&format!(": {name}"), &format!(": {full}")));
            handlers.insert(format!("{} {}", found[1].to_uppercase(), &found[2]), parameters);
        }
    }
    handlers
}

/// Route → right, and whether an account token gives it too, or alone.
fn table() -> BTreeMap<String, String> {
    let right = Regex::new(r"(?:Caller|LinkedAccount)<(?:(OrAccount|OnlyAccount)<)?(\w+)").unwrap();
    let held = |parameters: String| match right.captures(&parameters) {
        Some(found) => found.get(1).map_or(found[2].to_owned(), |kind| format!("{} {}", &found[2], kind.as_str())),
        None => "-".to_owned(),
    };
    handlers().into_iter().map(|(route, parameters)| (route, held(parameters))).collect()
}

#[test]
fn every_write_and_nothing_else_takes_an_idempotency_key_and_says_so() {
    let document = serde_json::to_value(openapi::document()).unwrap();
    let takes = Regex::new(r":\s*Write\b").unwrap();
    let handlers = handlers();
    assert!(handlers.len() > 30, "the handlers were not found");
    for (route, parameters) in handlers {
        let (method, path) = route.split_once(' ').unwrap();
        let is_write = method != "GET";
        assert_eq!(takes.is_match(&parameters), is_write, "{route}");
        let operation = &document["paths"][path][method.to_lowercase()];
        let described = operation["parameters"].as_array().into_iter().flatten().any(|p| p["name"] == "Idempotency-Key");
        let answers = ["409", "422"].iter().all(|status| operation["responses"][status].is_object());
        assert_eq!((described, is_write && answers), (is_write, is_write), "{route}");
    }
}

#[test]
fn every_route_asks_for_the_right_of_the_snapshot() {
    let mut shown = String::new();
    for (route, right) in table() {
        writeln!(shown, "{route} {right}").unwrap();
    }
    assert_eq!(shown, SNAPSHOT, "a route or its right changed; if it shall, change the snapshot too:\n{shown}");
}

#[test]
fn the_document_names_the_same_rights() {
    let scopes: BTreeMap<&str, Option<&str>> = BTreeMap::from([
        ("-", None),
        ("Admin", Some("admin")),
        ("AnyToken", Some("any")),
        ("ReadAccounts", Some("accounts:read")),
        ("ReadDirectory", Some("directory:read")),
        ("ReadEvents", Some("events:read")),
        ("ReadProxy", Some("proxy:read")),
        ("WriteAccounts", Some("accounts:write")),
        ("WriteLinks", Some("links:write")),
        ("WriteDirectory", Some("directory:write")),
        ("WriteProxy", Some("proxy:write")),
    ]);
    let document = serde_json::to_value(openapi::document()).unwrap();
    let mut described = BTreeMap::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let optional =
                operation["security"].as_array().is_none_or(|s| s.iter().any(|way| way.as_object().unwrap().is_empty()));
            let scope = operation["x-rollcall-scope"].as_str();
            assert_eq!(scope.is_none(), operation["security"] == serde_json::json!([{}]), "{method} {path}");
            described.insert(format!("{} {path}", method.to_uppercase()), if optional { None } else { scope.map(str::to_owned) });
        }
    }
    let scope_of = |right: &str| scopes[right.split(' ').next().unwrap()].map(str::to_owned);
    let expected: BTreeMap<_, _> = table().into_iter().map(|(route, right)| (route, scope_of(&right))).collect();
    assert_eq!(described, expected);
}
