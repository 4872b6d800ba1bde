//! `POST /batch-request`: dependencies, placeholders, pages, rights, failures, repetition.

use serde_json::{Value, json};

use super::vendor::{Mood, SECRET, Vendor, is_sound, names, number, problem};
use crate::{
    connector::replay::{Replay, Reply, Seen},
    support::gateway::{ADMIN, Answer, Gateway, Kept},
};

async fn batch(gateway: &Gateway, token: &str, account: &str, resources: Value) -> Answer {
    let body = json!({"integrated_account_id": account, "args": {"size": 2, "who": {"id": "3"}}, "resources": resources});
    gateway.call_as(Some(token), "POST", "/batch-request", Some(&body)).await
}

fn ids(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|record| record["id"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn entries_follow_pages_and_fill_in_what_earlier_ones_found() {
    let (kept, vendor) = (Kept::embedded(), Vendor::start());
    let gateway = Gateway::start(&kept, &vendor.authority());
    let account = gateway.link("scim", "bearer", vendor.context()).await;
    let answer = batch(
        &gateway,
        ADMIN,
        &account,
        json!([
            {"name": "each", "resource": "user-directory/users", "method": "list", "query": {"id": "{{resources.user-directory.users.id}}"}},
            {"resource": "user-directory/users", "method": "list", "query": {"limit": "{{args.size}}", "status": {"in": "active"}}},
            {"name": "picked", "resource": "user-directory/users", "method": "list", "response_format": "normalized",
                "query": {"filters": {"id": {"in": ["{{resources.user-directory/users[1].id}}", "{{args.who.id}}"]}}}},
            {"name": "hidden", "resource": "Users", "method": "list"},
            {"name": "shown", "resource": "Users", "method": "list", "persist": true, "depends_on": ["hidden"]},
        ]),
    )
    .await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let found = answer.json();
    assert_eq!(found["errors"], json!({}), "{found}");
    assert_eq!(ids(&found["result"]["user-directory/users"]), ["1", "2", "3", "4"], "a list is followed to its end: {found}");
    assert_eq!(ids(&found["result"]["each"]), ["1", "2", "3", "4"], "one call for each record: {found}");
    assert_eq!(ids(&found["result"]["picked"]), ["2", "3"]);
    assert!(found["result"]["picked"][0].get("remote_data").is_none(), "{found}");
    assert!(found["result"]["user-directory/users"][0]["remote_data"].is_object(), "{found}");
    assert_eq!(ids(&found["result"]["shown"]).len(), 5);
    assert!(found["result"].get("hidden").is_none(), "a resource of the vendor's own is shown when that is asked for");
    let entries = found["entries"].as_array().unwrap();
    let named: Vec<_> = entries.iter().map(|entry| entry["name"].as_str().unwrap()).collect();
    assert_eq!(named, ["each", "user-directory/users", "picked", "hidden", "shown"], "in the order they were given");
    assert!(entries.iter().all(|entry| entry["status"] == 200 && entry["complete"] == true), "{found}");
    assert_eq!((&entries[0]["calls"], &entries[0]["result_count"]), (&json!(4), &json!(4)));
    assert!(entries[1]["calls"].as_u64().unwrap() >= 2 && entries[1]["headers"]["content-type"] == "application/json", "{found}");
    let line = gateway.get("/log?route=/batch-request").await.json()["result"][0].clone();
    assert_eq!((&line["integrated_account_id"], &line["tenant_id"]), (&json!(account), &json!("acme")), "{line}");
    assert!(line["pages"].as_u64().unwrap() >= 8 && line["vendor_duration_ms"].is_number(), "{line}");
    is_sound(&gateway);
}

#[tokio::test]
async fn a_failure_stops_only_what_needs_it_and_rights_are_asked_entry_by_entry() {
    let (kept, vendor) = (Kept::embedded(), Vendor::start());
    let gateway = Gateway::start(&kept, &vendor.authority());
    let account = gateway.link("scim", "bearer", vendor.context()).await;
    let resources = json!([
        {"name": "own", "resource": "Users", "method": "list", "persist": true},
        {"name": "unified", "resource": "user-directory/users", "method": "list"},
        {"name": "after", "resource": "user-directory/users", "method": "list", "depends_on": "own"},
        {"name": "later", "resource": "user-directory/users", "method": "list", "query": {"id": "{{resources.after[0].id}}"}},
    ]);
    let reader = gateway.token(&["directory:read"]).await;
    let answer = batch(&gateway, &reader, &account, resources.clone()).await;
    let found = answer.json();
    assert_eq!(answer.status, 200, "{found}");
    let statuses: Vec<_> = found["entries"].as_array().unwrap().iter().map(|entry| entry["status"].as_u64().unwrap()).collect();
    assert_eq!(statuses, [403, 200, 424, 424], "{found}");
    let error = &found["errors"]["own"][0];
    assert_eq!((&error["code"], &error["statusCode"]), (&json!("scope_missing"), &json!(403)), "{found}");
    assert_eq!(error["request_id"].as_str(), answer.header("x-request-id"), "{found}");
    assert_eq!(found["entries"][0]["headers"]["rollcall-error"], "scope_missing");
    assert_eq!(found["errors"]["later"][0]["code"], "dependency_failed");
    assert_eq!((ids(&found["result"]["unified"]).len(), &found["result"]["after"]), (5, &json!([])));
    let proxy = gateway.token(&["proxy:read"]).await;
    let found = batch(&gateway, &proxy, &account, resources.clone()).await.json();
    assert_eq!(found["errors"]["unified"][0]["code"], "scope_missing", "{found}");
    assert_eq!(ids(&found["result"]["own"]).len(), 5);
    assert_eq!(gateway.call_as(None, "POST", "/batch-request", Some(&json!({}))).await.code(), "invalid_token");

    let foreign = batch(&gateway, ADMIN, &uuid::Uuid::now_v7().to_string(), resources.clone()).await.json();
    assert_eq!(foreign["errors"]["unified"][0]["code"], "not_found", "{foreign}");
    let more = json!([
        {"name": "none", "resource": "user-directory/users", "method": "get", "id": "nobody"},
        {"name": "filter", "resource": "user-directory/users", "method": "list", "query": {"nonsense": 1}},
        {"name": "route", "resource": "no-model/x", "method": "list"},
        {"name": "write", "resource": "user-directory/roles", "method": "create", "body": {"name": "x"}},
        {"name": "gone", "resource": "user-directory/users", "method": "get", "id": "{{args.missing}}"},
        {"name": "outside", "resource": "../api-token", "method": "list"},
        {"name": "fine", "resource": "user-directory/users", "method": "list", "query": {"id": "1"}},
    ]);
    let found = batch(&gateway, ADMIN, &account, more).await.json();
    for (name, status) in [("none", 404), ("filter", 400), ("route", 404), ("gone", 422), ("outside", 404)] {
        assert_eq!(found["errors"][name][0]["status"], status, "{name}: {found}");
    }
    assert!(matches!(found["errors"]["write"][0]["status"].as_u64(), Some(404 | 405)), "{found}");
    assert_eq!(found["errors"]["gone"][0]["field"], "resources[4]");
    assert_eq!(ids(&found["result"]["fine"]), ["1"]);
    vendor.set(Mood::Html);
    let found = batch(&gateway, ADMIN, &account, json!([{"resource": "user-directory/users", "method": "list"}])).await.json();
    assert_eq!(found["errors"]["user-directory/users"][0]["code"], "vendor_bad_answer", "{found}");
    assert!(!found.to_string().contains(SECRET));
    is_sound(&gateway);
}

#[tokio::test]
async fn a_batch_that_cannot_be_called_is_refused_as_a_whole() {
    let (kept, vendor) = (Kept::embedded(), Vendor::start());
    let gateway = Gateway::start(&kept, &vendor.authority());
    let account = gateway.link("scim", "bearer", vendor.context()).await;
    let asked = vendor.asked();
    let list = |name: &str, more: Value| {
        let mut entry = json!({"name": name, "resource": "user-directory/users", "method": "list"});
        entry.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        entry
    };
    let plain = || list("a", json!({}));
    for (resources, field) in [
        (json!([list("a", json!({"depends_on": ["b"]})), list("b", json!({"depends_on": ["a"]}))]), "resources[0].depends_on"),
        (json!([plain(), list("b", json!({"depends_on": ["c"]}))]), "resources[1].depends_on"),
        (json!([plain(), list("b", json!({"query": {"id": "{{resources.c.id}}"}}))]), "resources[1].query"),
        (json!([plain(), plain()]), "resources[1].name"),
        (json!([plain(), list("b", json!({"recurse": {}}))]), "resources[1].recurse"),
        (json!([]), "resources"),
    ] {
        names(
            &batch(&gateway, ADMIN, &account, resources).await,
            if field == "resources" { 400 } else { 422 },
            "invalid_body",
            field,
        );
    }
    problem(&gateway.call("POST", "/batch-request", Some(&json!({"resources": []}))).await, 400, "invalid_body", "gateway");
    assert_eq!(vendor.asked(), asked, "something was called");
}

#[tokio::test]
async fn a_batch_is_bounded_and_repeated_under_its_key() {
    let vendor = Replay::start(|seen: &Seen| {
        let (start, count) = (number(seen, "startIndex"), number(seen, "count"));
        let users: Vec<_> =
            (start..=600).take(count).map(|n| json!({"id": n.to_string(), "userName": "u", "active": true})).collect();
        match seen.path.ends_with("/Users") {
            true => {
                let page = json!({"totalResults": 600, "startIndex": start, "Resources": users}).to_string();
                // What no value here can hold exactly is no reason to give up the batch.
                Reply::json(200, page.replace("\"active\":true", "\"active\":true,\"big\":12345678901234567890123"))
            }
            false => Reply::json(404, "{}"),
        }
    });
    let kept = Kept::embedded();
    let authority = format!("127.0.0.1:{}", vendor.port);
    let gateway = Gateway::start(&kept, &authority);
    let context = json!({"base_url": format!("http://{authority}/scim"), "token": SECRET});
    let account = gateway.link("scim", "bearer", context).await;
    let body = json!({"integrated_account_id": account, "resources": [
        {"name": "all", "resource": "user-directory/users", "method": "list", "persist": false},
        {"name": "each", "resource": "user-directory/users", "method": "get", "id": "{{resources.all.id}}"},
    ]});
    let send = || gateway.call_with(ADMIN, &[("idempotency-key", "one")], "POST", "/batch-request", Some(&body));
    let first = send().await;
    let found = first.json();
    assert_eq!(first.status, 200, "{}", first.text());
    assert!(found["result"].get("all").is_none());
    let (all, each) = (&found["entries"][0], &found["entries"][1]);
    assert_eq!(all["calls"].as_u64().unwrap() + each["calls"].as_u64().unwrap(), 500, "{all} {each}");
    assert!(each["complete"] == false && found["errors"]["each"].to_string().contains("at most 500 calls"), "{each}");
    let asked = vendor.seen().len();
    let again = send().await;
    assert_eq!((again.status, again.header("idempotent-replayed"), &again.body), (200, Some("true"), &first.body));
    assert_eq!(vendor.seen().len(), asked, "it ran twice");
    let other = json!({"integrated_account_id": account, "resources": []});
    let reused = gateway.call_with(ADMIN, &[("idempotency-key", "one")], "POST", "/batch-request", Some(&other)).await;
    problem(&reused, 422, "idempotency_key_reused", "gateway");
    is_sound(&gateway);
}

#[tokio::test]
async fn a_batch_is_bounded_in_what_it_holds_and_in_what_it_fills_in() {
    const BIG: usize = 700 * 1024;
    let vendor = Replay::start(|seen: &Seen| {
        let (start, count) = (number(seen, "startIndex"), number(seen, "count").min(2));
        let users: Vec<_> = (start..=60).take(count).map(|n| json!({"id": n.to_string(), "userName": "u".repeat(BIG)})).collect();
        match seen.path.ends_with("/Users") {
            true => Reply::json(200, json!({"totalResults": 60, "startIndex": start, "Resources": users}).to_string()),
            false => Reply::json(200, json!({"id": "1", "userName": "u".repeat(BIG)}).to_string()),
        }
    });
    let authority = format!("127.0.0.1:{}", vendor.port);
    let kept = Kept::embedded();
    let gateway = Gateway::start(&kept, &authority);
    let context = json!({"base_url": format!("http://{authority}/scim"), "token": SECRET});
    let account = gateway.link("scim", "bearer", context).await;
    let answer = batch(
        &gateway,
        ADMIN,
        &account,
        json!([
            {"name": "all", "resource": "user-directory/users", "method": "list", "response_format": "normalized",
                "query": {"limit": 2}},
            {"name": "after", "resource": "user-directory/users", "method": "get", "id": "1", "depends_on": "all"},
        ]),
    )
    .await;
    let found = answer.json();
    assert_eq!(found["errors"]["all"][0]["status"], 422, "{:.300}", found.to_string());
    assert!(
        found["errors"]["all"][0]["detail"].as_str().unwrap().contains("at most 16777216 bytes"),
        "{}",
        found["errors"]["all"]
    );
    assert_eq!((&found["entries"][0]["complete"], &found["errors"]["after"][0]["status"]), (&json!(false), &json!(424)));
    let held = found["result"]["all"].as_array().unwrap().len();
    assert!((24..=26).contains(&held), "{held} records were held");

    let asked = vendor.seen().len();
    let twice = "{{resources.one[0].username}}{{resources.one[0].username}}";
    let pair = json!([
        {"name": "one", "resource": "user-directory/users", "method": "get", "id": "1"},
        {"name": "filled", "resource": "user-directory/users", "method": "create", "body": {"username": twice}},
    ]);
    let found = batch(&gateway, ADMIN, &account, pair).await.json();
    let refused = &found["errors"]["filled"][0];
    assert_eq!((&refused["status"], &refused["field"]), (&json!(422), &json!("resources[1]")), "{refused}");
    assert!(refused["detail"].as_str().unwrap().contains("too large together"), "{refused}");
    assert!(vendor.seen()[asked..].iter().all(|seen| seen.method == "GET"), "something was written");
    is_sound(&gateway);
}
