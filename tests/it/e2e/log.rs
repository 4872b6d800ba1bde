//! Why did this call fail? `GET /log` on one node and on several, on both stores, through outages and ends.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::vendor::{Mood, SECRET, Vendor, is_sound, names};
use crate::support::gateway::{ADMIN, Answer, Gateway, Kept};

const USERS: &str = "/unified/user-directory/users";

/// The one line of a request; it must be there within a second.
async fn line_of(gateway: &Gateway, request_id: &str) -> Value {
    let asked = Instant::now();
    loop {
        let begun = asked.elapsed();
        let answer = gateway.get(&format!("/log?request_id={request_id}")).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let page = answer.json();
        let lines = page["result"].as_array().unwrap();
        if let [line] = lines.as_slice() {
            assert_eq!((&line["request_id"], &page["next_cursor"]), (&json!(request_id), &Value::Null));
            return line.clone();
        }
        assert!(lines.is_empty(), "{page}");
        assert!(begun < Duration::from_secs(1), "no line of {request_id} after a second: {}", gateway.said());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn id_of(answer: &Answer) -> String {
    let id = answer.header("x-request-id").or_else(|| answer.header("rollcall-request-id"));
    id.unwrap_or_else(|| panic!("no id on {}: {}", answer.status, answer.text())).to_owned()
}

#[tokio::test]
async fn the_id_of_any_error_finds_its_line_within_a_second_on_any_node() {
    for kept in Kept::each() {
        let vendor = Vendor::start();
        let gateway = Gateway::start(&kept, &vendor.authority());
        let second = matches!(kept, Kept::Redis(..)).then(|| Gateway::start(&kept, &vendor.authority()));
        let account = gateway.link("scim", "bearer", vendor.context()).await;
        let reader = gateway.token(&["directory:read"]).await;
        let list = format!("{USERS}?integrated_account_id={account}");
        let missing = uuid::Uuid::now_v7().to_string();
        let calls = [
            (ADMIN, "GET", format!("{list}&limit=0"), 400, "/unified/user-directory/users", "invalid_parameter"),
            (ADMIN, "GET", format!("{list}&nonsense=1"), 400, "/unified/user-directory/users", "invalid_filter"),
            (ADMIN, "GET", format!("{USERS}?integrated_account_id={missing}"), 404, USERS, "not_found"),
            (
                ADMIN,
                "GET",
                format!("{USERS}/none?integrated_account_id={account}"),
                404,
                "/unified/user-directory/users/{id}",
                "*",
            ),
            (&reader, "GET", "/api-token".to_owned(), 403, "/api-token", "scope_missing"),
            (&reader, "GET", format!("/passthrough/{account}/Users"), 403, "/passthrough/{account_id}/{path}", "scope_missing"),
            (ADMIN, "GET", format!("/passthrough/{account}//x"), 400, "other", "invalid_path"),
            (ADMIN, "GET", format!("/passthrough/{account}/Nothing"), 404, "/passthrough/{account_id}/{path}", ""),
            (ADMIN, "GET", format!("/integrated-account/{missing}"), 404, "/integrated-account/{id}", "not_found"),
            (ADMIN, "PATCH", format!("/integrated-account/{account}"), 400, "/integrated-account/{id}", "invalid_body"),
            ("nonsense", "GET", list.clone(), 401, USERS, "invalid_token"),
            (ADMIN, "GET", "/no-such-route".to_owned(), 404, "other", "route_not_found"),
        ];
        for (token, method, path, status, route, code) in calls {
            let answer = gateway.call_as(Some(token), method, &path, None).await;
            assert_eq!(answer.status, status, "{path}: {}", answer.text());
            let line = line_of(second.as_ref().unwrap_or(&gateway), &id_of(&answer)).await;
            assert_eq!((&line["route"], &line["status"]), (&json!(route), &json!(status)), "{path}: {line}");
            let expected = if code.is_empty() { Value::Null } else { json!(code) };
            assert!(code == "*" || line["code"] == expected, "{path}: {line}");
            let actor = match token {
                ADMIN => json!("administrator"),
                "nonsense" => Value::Null,
                _ => json!("test"),
            };
            assert!(line["actor"] == actor || route == "other", "{path}: {line}");
            if path.contains(&missing) {
                assert_eq!((&line["integrated_account_id"], &line["tenant_id"]), (&json!(missing), &Value::Null), "{line}");
            }
        }
        is_sound(&gateway);
    }
}

#[tokio::test]
async fn a_line_says_what_the_vendor_did() {
    let (kept, vendor) = (Kept::embedded(), Vendor::start());
    let gateway = Gateway::start(&kept, &vendor.authority());
    let account = gateway.link("scim", "bearer", vendor.context()).await;
    let list = format!("{USERS}?integrated_account_id={account}");
    vendor.set(Mood::Slow);
    let read = gateway.get(&format!("{list}&limit=2&truto_ignore_limit=true")).await;
    let line = line_of(&gateway, &id_of(&read)).await;
    let common = json!({"actor": "administrator", "tenant_id": "acme", "integrated_account_id": account, "integration": "scim",
        "method": "GET", "status": 200, "code": null, "vendor_status": 200, "cut": false, "bytes": read.body.len()});
    for (name, value) in common.as_object().unwrap() {
        assert_eq!(&line[name], value, "{name}: {line}");
    }
    let (took, vendor_took) = (line["duration_ms"].as_f64().unwrap(), line["vendor_duration_ms"].as_f64().unwrap());
    assert!((290.0..=took).contains(&vendor_took) && line["pages"].as_u64().unwrap() >= 1, "{line}");
    let lines = gateway.call_with(ADMIN, &[("accept", "application/x-ndjson")], "GET", &format!("{list}&limit=2"), None).await;
    let line = line_of(&gateway, &id_of(&lines)).await;
    assert_eq!((&line["pages"], &line["bytes"]), (&json!(3), &json!(lines.body.len())), "the pages of the body count: {line}");
    assert!(line["vendor_duration_ms"].as_f64().unwrap() >= 870.0, "{line}");

    let through = gateway.get(&format!("/passthrough/{account}/Users?count=1&secret=canary-of-the-query")).await;
    let line = line_of(&gateway, &id_of(&through)).await;
    assert_eq!(
        (&line["vendor_status"], &line["status"], &line["tenant_id"]),
        (&json!(200), &json!(200), &json!("acme")),
        "{line}"
    );
    assert!(line["vendor_duration_ms"].as_f64().unwrap() >= 290.0, "{line}");
    vendor.set(Mood::Html);
    let broken = gateway.get(&list).await;
    let line = line_of(&gateway, &id_of(&broken)).await;
    assert_eq!((&line["status"], &line["code"], &line["vendor_status"]), (&json!(502), &json!("vendor_bad_answer"), &json!(200)));
    vendor.set(Mood::Unauthorized);
    gateway.get(&list).await;
    let shut = gateway.get(&list).await;
    let line = line_of(&gateway, &id_of(&shut)).await;
    assert_eq!((&line["status"], &line["code"], &line["tenant_id"]), (&json!(401), &json!("reauth_required"), &json!("acme")));
    assert_eq!(
        (&line["integration"], &line["vendor_status"]),
        (&json!("scim"), &Value::Null),
        "the vendor was not asked: {line}"
    );
    let everything = gateway.get("/log?limit=5000").await.text();
    assert!(!everything.contains(SECRET) && !everything.contains("canary") && !everything.contains(ADMIN), "{everything}");
    is_sound(&gateway);
}

#[tokio::test]
async fn every_field_is_a_filter_and_a_bad_one_is_named() {
    let (kept, vendor) = (Kept::embedded(), Vendor::start());
    let gateway = Gateway::start(&kept, &vendor.authority());
    let account = gateway.link("scim", "bearer", vendor.context()).await;
    for path in [format!("{USERS}?integrated_account_id={account}"), "/api-token".into(), format!("/passthrough/{account}/No")] {
        gateway.get(&path).await;
    }
    let all = gateway.walk("/log?limit=2").await;
    assert!(all.len() >= 4, "{all:?}");
    let find = async |query: String| {
        let answer = gateway.get(&format!("/log?limit=5000&{query}")).await;
        assert_eq!(answer.status, 200, "{query}: {}", answer.text());
        answer.json()["result"].as_array().unwrap().clone()
    };
    for line in &all {
        for (name, value) in line.as_object().unwrap() {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            if value.is_null() || matches!(name.as_str(), "id" | "cut" | "duration_ms" | "vendor_duration_ms") {
                continue;
            }
            let text: String = url::form_urlencoded::byte_serialize(text.as_bytes()).collect();
            let found = find(format!("{name}={text}")).await;
            assert!(found.contains(line), "{name}={text} does not find {line}");
            assert!(found.iter().all(|other| &other[name] == value), "{name}={text} finds others");
        }
        for name in ["duration_ms", "vendor_duration_ms"] {
            let Some(took) = line[name].as_f64() else { continue };
            let (below, above) = (took.floor() as u64, took.floor() as u64 + 1);
            assert!(find(format!("{name}[gte]={below}&{name}[lt]={above}")).await.contains(line), "{name} {took}");
            assert!(!find(format!("{name}[gt]={above}")).await.contains(line), "{name} {took}");
        }
    }
    let failed = find("status[gte]=400".into()).await;
    assert!(!failed.is_empty() && failed.iter().all(|line| line["status"].as_u64().unwrap() >= 400));
    assert_eq!(find("status[in]=404,200&route[contains]=PASSTHROUGH".into()).await.len(), 1);
    assert!(find("created_at[lt]=2020-01-01T00:00:00Z".into()).await.is_empty());
    assert!(find("actor=nobody".into()).await.is_empty());
    for (query, code, field) in [
        ("statsu=400", "invalid_parameter", "statsu"),
        ("status=x", "invalid_filter", "status"),
        ("status[contains]=4", "invalid_filter", "status"),
        ("status[odd]=4", "invalid_filter", "status[odd]"),
        ("created_at[gte]=yesterday", "invalid_filter", "created_at"),
        ("actor[gt]=a", "invalid_filter", "actor"),
        ("truto_nonsense=1", "invalid_parameter", "truto_nonsense"),
        ("limit=5001", "invalid_parameter", "limit"),
    ] {
        names(&gateway.get(&format!("/log?{query}")).await, 400, code, field);
    }
    let next = gateway.get("/log?limit=1").await.json()["next_cursor"].as_str().unwrap().to_owned();
    names(&gateway.get(&format!("/log?limit=1&status=200&next_cursor={next}")).await, 400, "invalid_cursor", "next_cursor");
    let reader = gateway.token(&["events:read", "accounts:read"]).await;
    assert_eq!(gateway.call_as(Some(&reader), "GET", "/log", None).await.code(), "scope_missing");
}

#[tokio::test]
async fn an_end_on_purpose_loses_no_line() {
    for kept in Kept::each() {
        let gateway = Gateway::start(&kept, "");
        let mut asked = Vec::new();
        for _ in 0..20 {
            asked.push(id_of(&gateway.get("/integration/none").await));
        }
        assert!(gateway.stop());
        let gateway = Gateway::start(&kept, "");
        for id in asked {
            assert_eq!(line_of(&gateway, &id).await["status"], 404);
        }
    }
}

#[tokio::test]
async fn an_outage_of_the_store_loses_no_request() {
    let (mut kept, vendor) = (Kept::redis(), Vendor::start());
    let gateway = Gateway::start(&kept, &vendor.authority());
    let account = gateway.link("scim", "bearer", vendor.context()).await;
    let token = gateway.token(&["proxy:read"]).await;
    let path = format!("/passthrough/{account}/Users?count=1");
    assert_eq!(gateway.call_as(Some(&token), "GET", &path, None).await.status, 200);
    let Kept::Redis(server, _) = &mut kept else { unreachable!() };
    server.kill();
    let mut asked = Vec::new();
    for _ in 0..20 {
        let answer = gateway.call_as(Some(&token), "GET", &path, None).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        asked.push(id_of(&answer));
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    server.restart();
    let end = Instant::now() + Duration::from_secs(20);
    while gateway.get("/readyz").await.status != 200 {
        assert!(Instant::now() < end, "{}", gateway.said());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    for id in asked {
        assert_eq!(line_of(&gateway, &id).await["actor"], "test", "what fits into memory is written when the store is back");
    }
    assert!(gateway.said().contains("the log of requests cannot be written"), "{}", gateway.said());
    is_sound(&gateway);
}
