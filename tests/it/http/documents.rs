//! What the gateway says about itself: the reference page, the pages of errors, and what each connector offers.

use std::{collections::BTreeSet, net::SocketAddr};

use rollcall::error::Code;
use serde_json::Value;

use super::{
    house::House,
    wire::{Reply, get, request},
};
use crate::support::gateway::Kept;

/// A page a browser shows: with its policy, and with nothing from elsewhere.
#[track_caller]
fn page(addr: SocketAddr, path: &str) -> String {
    let reply = get(addr, path);
    assert_eq!((reply.status, reply.header("content-type")), (200, Some("text/html; charset=utf-8")), "{path}");
    assert_eq!(reply.header("x-content-type-options"), Some("nosniff"), "{path}");
    let policy = reply.header("content-security-policy").unwrap_or_else(|| panic!("{path} has no policy"));
    for part in ["default-src 'none'", "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'"] {
        assert!(policy.contains(part), "{path}: {policy}");
    }
    for part in ["unsafe-eval", "http", "*"] {
        assert!(!policy.contains(part), "{path}: {policy}");
    }
    let text = reply.text();
    assert!(!text.contains("://"), "{path} names another place");
    assert!(text.contains("<meta name=\"viewport\" content=\"width=device-width"), "{path} is laid out for a desk");
    text
}

fn links(page: &str) -> Vec<&str> {
    let after = |opening| page.split(opening).skip(1).filter_map(|rest| rest.split('"').next());
    after("href=\"").chain(after("src=\"")).collect()
}

#[test]
fn the_reference_page_is_whole_offline_and_our_own() {
    let house = House::open(Kept::embedded());
    let addr = house.fixture.addr;
    for path in ["/", "/docs"] {
        let reply = get(addr, path);
        assert_eq!((reply.status, reply.header("location")), (302, Some("/docs/")), "{path}");
    }
    let text = page(addr, "/docs/");
    assert!(text.contains("<title>Rollcall API</title>"), "{text}");
    let policy = get(addr, "/docs/").header("content-security-policy").unwrap().to_owned();
    assert!(policy.contains("script-src 'self';") && !policy.contains("unsafe"), "{policy}");
    let files: Vec<_> = links(&text).into_iter().filter(|link| !link.starts_with("data:")).collect();
    assert_eq!(files.len(), 5, "{files:?}");
    for file in files {
        let (path, kind) = match file.rsplit('.').next().unwrap() {
            "json" => ("/openapi.json".to_owned(), "application/json"),
            "css" => (format!("/docs/{file}"), "text/css"),
            _ => (format!("/docs/{file}"), "text/javascript"),
        };
        let reply = get(addr, &path);
        assert!(reply.status == 200 && reply.header("content-type").unwrap().starts_with(kind), "{file}: {reply:?}");
    }
    for (file, needed) in [("docs.css", "color-scheme: light dark"), ("docs.js", "prefers-color-scheme: dark")] {
        let text = get(addr, &format!("/docs/{file}")).text();
        assert!(text.contains(needed) && !text.contains("://"), "{file}: {text}");
    }
    for file in ["nonsense", "swagger-ui-standalone-preset.js", "swagger-initializer.js", "../openapi.json"] {
        assert_eq!(get(addr, &format!("/docs/{file}")).status, 404, "{file}");
    }
    let refused = request(addr, "POST", "/", &[], None);
    assert_eq!((refused.status, refused.header("allow")), (405, Some("GET, HEAD")));
}

#[test]
fn every_kind_of_error_has_a_page_and_stands_in_the_list() {
    let house = House::open(Kept::embedded());
    let addr = house.fixture.addr;
    let list = page(addr, "/errors");
    assert!(list.contains("color-scheme:light dark"), "the list is white in the dark");
    let listed: Vec<_> = links(&list).into_iter().map(|link| link.trim_start_matches("/errors/").to_owned()).collect();
    let codes: Vec<_> = Code::ALL.iter().map(|code| code.row().name.to_owned()).collect();
    assert_eq!(listed, codes);
    for code in Code::ALL {
        let row = code.row();
        let text = page(addr, &format!("/errors/{}", row.name));
        assert!(text.contains("color-scheme:light dark") && text.contains(&format!("Status {}", row.status)), "{text}");
        assert!(!text.contains('`'), "{text}");
    }
    assert_eq!(get(addr, "/errors/nonsense").status, 404);
}

fn capabilities(house: &House, path: &str) -> Value {
    let bearer = format!("Bearer {}", house.fixture.admin);
    let reply: Reply = request(house.fixture.addr, "GET", path, &[("authorization", &bearer)], None);
    assert_eq!(reply.status, 200, "{path}: {}", reply.text());
    reply.json()
}

#[test]
fn tools_have_names_of_their_own_and_in_english() {
    let house = House::open(Kept::embedded());
    let mut all = BTreeSet::new();
    for connector in capabilities(&house, "/integration")["result"].as_array().unwrap() {
        let slug = connector["name"].as_str().unwrap();
        let offer = capabilities(&house, &format!("/integration/{slug}/capabilities"));
        for resource in offer["proxy"].as_array().unwrap() {
            assert!(!resource["link_methods"].as_array().unwrap().is_empty(), "{resource}");
            for method in resource["methods"].as_array().unwrap() {
                let name = method["name"].as_str().unwrap();
                assert!(all.insert(name.to_owned()), "{name} twice");
                assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'), "{name}");
            }
        }
    }
    for name in [
        "list_all_keeper_users",
        "list_all_keeper_scim_users",
        "get_single_keeper_user_by_id",
        "get_single_keeper_scim_user_by_id",
        "get_single_keeper_company_by_id",
        "list_all_scim_users",
    ] {
        assert!(all.contains(name), "{name} is not in {all:?}");
    }
}

/// The document of an account names its tools as the connector's does, and its filters are the ones that lists take.
#[test]
fn an_accounts_offer_agrees_with_its_connectors_and_with_its_lists() {
    let house = House::open(Kept::embedded());
    let account = &house.fixture.account;
    let offer = capabilities(&house, &format!("/integrated-account/{account}/capabilities"));
    assert_eq!(offer["proxy"][0]["methods"], capabilities(&house, "/integration/scim/capabilities")["proxy"][0]["methods"]);
    let users = offer["unified"].as_array().unwrap().iter().find(|resource| resource["resource"] == "users").unwrap();
    let filters = users["filters"].as_array().unwrap();
    let names: BTreeSet<_> = filters.iter().map(|filter| filter["field"].as_str().unwrap()).collect();
    assert!(names.contains("email") && names.contains("organizations[name]") && names.contains("timezone"), "{names:?}");
    let bearer = format!("Bearer {}", house.fixture.admin);
    let ask = |field: &str, value: &str| {
        let target = format!("/unified/user-directory/users?integrated_account_id={account}&{field}={value}");
        request(house.fixture.addr, "GET", &target, &[("authorization", &bearer)], None)
    };
    for filter in filters {
        let operators: Vec<_> = filter["operators"].as_array().unwrap().iter().map(|o| o.as_str().unwrap()).collect();
        let field = filter["field"].as_str().unwrap();
        let value = match (field, operators.contains(&"gt"), operators.contains(&"in") || filter["evaluated_by"] == "vendor") {
            ("status", ..) => "active",
            (_, true, _) => "2026-01-01",
            (_, _, true) => "x",
            _ => "true",
        };
        assert_eq!(ask(field, value).status, 200, "{field}");
    }
    for (field, value) in
        [("is_2fa_enabled", "true"), ("last_login_at", "2026-01-01"), ("organization_id", "1"), ("workspace", "1")]
    {
        let reply = ask(field, value);
        let problem = reply.json();
        assert_eq!((reply.status, reply.code().as_str(), problem["field"].as_str()), (400, "invalid_filter", Some(field)));
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.starts_with("SCIM 2.0, linked by `bearer`, does not say") && detail.contains(field), "{detail}");
        let listed = detail.split("Filters: ").nth(1).unwrap().trim_end_matches('.').split(", ");
        assert_eq!(listed.collect::<BTreeSet<_>>(), names, "the hint and the offer agree");
    }
}
