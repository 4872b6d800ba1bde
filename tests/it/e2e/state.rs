//! States, switches, tests and events of accounts, as callers meet them: the real binary, several of it over one Redis, and
//! one that is killed.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::vendor::{Mood, SECRET, Vendor, is_sound, names, problem};
use crate::{
    connector::replay::{Replay, Reply},
    support::{
        gateway::{ADMIN, Gateway, Kept},
        long,
    },
};

pub(super) const NO_PROBES: (&str, &str) = ("ROLLCALL_PROBE_EVERY", "0");

/// The kinds of an account's events, the oldest first.
pub(super) async fn events(gateway: &Gateway, account: &str) -> Vec<String> {
    let mut events = gateway.walk(&format!("/event?integrated_account_id={account}&limit=1000")).await;
    events.reverse();
    let kind = |event: &Value| event["event"].as_str().unwrap().trim_start_matches("integrated_account:").to_owned();
    events.iter().map(kind).collect()
}

/// Waits until the events are these.
pub(super) async fn until_events(gateway: &Gateway, account: &str, seconds: u64, expected: &[&str]) {
    let end = Instant::now() + Duration::from_secs(seconds);
    loop {
        let now = events(gateway, account).await;
        if now == expected {
            return;
        }
        assert!(Instant::now() < end, "{now:?}, not {expected:?}\n{}", gateway.said());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn patch(gateway: &Gateway, account: &str, body: Value) -> Value {
    let answer = gateway.call("PATCH", &format!("/integrated-account/{account}"), Some(&body)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn r_08_callers_of_two_gateways_who_are_refused_make_one_event() {
    let (vendor, kept) = (Vendor::start(), Kept::redis());
    let gateways = [0, 1].map(|_| Gateway::start_with(&kept, &vendor.authority(), &[NO_PROBES]));
    let account = gateways[0].link("scim", "bearer", vendor.context()).await;
    let users = format!("/unified/user-directory/users?integrated_account_id={account}");
    assert_eq!(gateways[1].get(&users).await.status, 200);
    vendor.set(Mood::Unauthorized);
    let callers = (0..500).map(|caller| gateways[caller % 2].get(&users));
    for answer in join_all(callers).await {
        assert!(answer.code() == "reauth_required" || answer.status == 503, "{}", answer.text());
        assert_eq!(answer.header("www-authenticate"), None);
    }
    until_events(&gateways[0], &account, 20, &["created", "active", "authentication_error"]).await;
    assert_eq!(events(&gateways[1], &account).await.len(), 3, "every node shows the same");
    // Calls on a broken account are answered without its vendor.
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        let asked = vendor.asked();
        problem(&gateways[1].get(&users).await, 401, "reauth_required", "vendor");
        if vendor.asked() == asked {
            break;
        }
        assert!(Instant::now() < end, "the vendor is asked all the time");
    }
    vendor.set(Mood::Good);
    // A test that ended a moment ago is shared.
    while gateways[1].call("POST", &format!("/integrated-account/{account}/test"), None).await.status != 200 {
        assert!(Instant::now() < end, "the account does not come back");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    until_events(&gateways[0], &account, 20, &["created", "active", "authentication_error", "reactivated"]).await;
    gateways.iter().for_each(is_sound);
}

#[tokio::test]
async fn calls_that_are_stopped_are_stopped_on_every_node_within_a_second() {
    let (vendor, kept) = (Vendor::start(), Kept::redis());
    let gateways = [0, 1].map(|_| Gateway::start_with(&kept, &vendor.authority(), &[NO_PROBES]));
    let account = gateways[0].link("scim", "bearer", vendor.context()).await;
    patch(&gateways[0], &account, json!({"context": {"plan": "gold"}})).await;
    let paths = [
        format!("/unified/user-directory/users?integrated_account_id={account}"),
        format!("/proxy/Users?integrated_account_id={account}"),
        format!("/custom/Users?integrated_account_id={account}"),
        format!("/passthrough/{account}/Users"),
    ];
    for path in &paths {
        assert_eq!(gateways[1].get(path).await.status, 200, "{path}");
    }
    let off = patch(&gateways[0], &account, json!({"is_enabled": false})).await;
    let stopped = Instant::now();
    assert_eq!((&off["is_enabled"], &off["status"], &off["next_sync_at"]), (&json!(false), &json!("active"), &Value::Null));
    problem(&gateways[0].get(&paths[0]).await, 403, "account_disabled", "gateway");
    while gateways[1].get(&paths[3]).await.status != 403 {
        assert!(stopped.elapsed() < Duration::from_secs(1), "the other node goes on");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let asked = vendor.asked();
    for (gateway, path) in gateways.iter().flat_map(|gateway| paths.iter().map(move |path| (gateway, path))) {
        assert_eq!(gateway.get(path).await.code(), "account_disabled", "{path}");
    }
    for path in ["test", "status-refresh"] {
        let answer = gateways[1].call("POST", &format!("/integrated-account/{account}/{path}"), None).await;
        problem(&answer, 403, "account_disabled", "gateway");
    }
    let capabilities = gateways[1].get(&format!("/integrated-account/{account}/capabilities")).await.json();
    assert_eq!(capabilities["account"]["is_blocked"], true, "{capabilities}");
    assert_eq!(vendor.asked(), asked, "its vendor was asked");
    let on = patch(&gateways[1], &account, json!({"is_enabled": true})).await;
    assert_eq!(
        (&on["status"], &on["context"]["plan"], &on["context"]["token"]),
        (&json!("active"), &json!("gold"), &json!("***"))
    );
    for path in &paths {
        assert_eq!(gateways[1].get(path).await.status, 200, "{path}");
    }
    until_events(&gateways[0], &account, 20, &["created", "active", "updated", "disabled", "enabled"]).await;
    gateways.iter().for_each(is_sound);
}

#[tokio::test]
async fn a_killed_gateway_loses_no_event_and_doubles_none() {
    let (vendor, kept) = (Vendor::start(), Kept::embedded());
    let start = || Gateway::start_with(&kept, &vendor.authority(), &[NO_PROBES]);
    let mut gateway = start();
    let account = gateway.link("scim", "bearer", vendor.context()).await;
    let (mut changes, mut is_enabled) = (0, true);
    for round in 0..if long() { 100 } else { 6 } {
        let path = format!("/integrated-account/{account}");
        let switching = async {
            loop {
                let body = json!({"is_enabled": !is_enabled});
                match gateway.try_call_with(ADMIN, &[], "PATCH", &path, Some(&body)).await {
                    Some(answer) => assert_eq!(answer.status, 200, "{}", answer.text()),
                    None => break,
                }
                (changes, is_enabled) = (changes + 1, !is_enabled);
            }
        };
        // Each round ends at another point, in the midst of a change.
        let _ = tokio::time::timeout(Duration::from_millis(150 + 37 * round), switching).await;
        gateway.kill();
        gateway = start();
        let now = gateway.get(&path).await.json()["is_enabled"] == true;
        if now != is_enabled {
            // The one that was under way was done.
            (changes, is_enabled) = (changes + 1, now);
        }
        let end = Instant::now() + Duration::from_secs(20);
        let switches: Vec<String> = loop {
            let told = events(&gateway, &account).await;
            let switches: Vec<_> = told.into_iter().filter(|kind| ["disabled", "enabled"].contains(&kind.as_str())).collect();
            if switches.len() >= changes {
                break switches;
            }
            assert!(Instant::now() < end, "{} of {changes} changes are told", switches.len());
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        let in_turn = (0..changes).map(|at| if at % 2 == 0 { "disabled" } else { "enabled" });
        assert_eq!(switches, in_turn.collect::<Vec<_>>(), "an event is lost, or told twice");
        let ids: Vec<_> = gateway.walk("/event?limit=1000").await.iter().map(|event| event["id"].to_string()).collect();
        assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len(), "an event stands twice in the log");
    }
    let path = format!("/integrated-account/{account}");
    assert_eq!(gateway.call("DELETE", &path, None).await.status, 200);
    gateway.kill();
    gateway = start();
    let end = Instant::now() + Duration::from_secs(20);
    while events(&gateway, &account).await.last().is_none_or(|kind| kind != "deleted") {
        assert!(Instant::now() < end, "the end of an account is not told");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    is_sound(&gateway);
}

/// A SCIM vendor that counts how many ask at once, and refuses when told to.
fn counting() -> (Replay, Arc<AtomicUsize>, Arc<AtomicUsize>) {
    let (most, refusals) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (peak, refusing, at_once) = (most.clone(), refusals.clone(), AtomicUsize::new(0));
    let vendor = Replay::start(move |seen| {
        peak.fetch_max(at_once.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(40));
        at_once.fetch_sub(1, Ordering::SeqCst);
        match (refusing.load(Ordering::SeqCst), seen.path.ends_with("/Users")) {
            (0, true) => Reply::json(200, r#"{"totalResults": 0, "Resources": []}"#),
            (0, false) => Reply::json(404, "{}"),
            _ => Reply::json(401, r#"{"detail": "revoked"}"#),
        }
    });
    (vendor, most, refusals)
}

#[tokio::test]
async fn a_revoked_key_is_found_without_a_caller_by_one_node_of_two() {
    let (vendor, most, refusals) = counting();
    let kept = Kept::redis();
    let authority = format!("127.0.0.1:{}", vendor.port);
    let gateways = [0, 1].map(|_| Gateway::start_with(&kept, &authority, &[("ROLLCALL_PROBE_EVERY", "1s")]));
    let context = json!({"base_url": format!("http://{authority}"), "token": SECRET});
    let account = gateways[0].link("scim", "bearer", context).await;
    let linked = vendor.seen().len();
    let end = Instant::now() + Duration::from_secs(30);
    while vendor.seen().len() < linked + 6 {
        assert!(Instant::now() < end, "nobody looks at the account");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let shown = gateways[1].get(&format!("/integrated-account/{account}")).await.json();
    let time = |member: &str| shown[member].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    assert!(time("created_at") < time("last_synced_at") && time("last_synced_at") < time("next_sync_at"), "{shown}");
    refusals.store(1, Ordering::SeqCst);
    until_events(&gateways[0], &account, 30, &["created", "active", "authentication_error"]).await;
    refusals.store(0, Ordering::SeqCst);
    until_events(&gateways[1], &account, 30, &["created", "active", "authentication_error", "reactivated"]).await;
    assert_eq!(most.load(Ordering::SeqCst), 1, "two nodes looked at one account at the same time");
    // Whatever is under way, the end is a good one.
    for gateway in gateways {
        is_sound(&gateway);
        assert!(gateway.stop());
    }
}

#[tokio::test]
async fn what_is_tried_leaves_nothing_in_the_store() {
    let (vendor, kept) = (Vendor::start(), Kept::redis());
    let gateway = Gateway::start_with(&kept, &vendor.authority(), &[NO_PROBES]);
    let keys = || -> BTreeSet<String> {
        let Kept::Redis(server, _) = &kept else { panic!("not Redis") };
        let keys: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut server.connection()).unwrap();
        // The logs of requests and of actions grow by the request itself; locks of loops come and go.
        let is_beside = |key: &String| ["{log:", "{audit:", "#lock", "#fence"].iter().any(|part| key.contains(part));
        keys.into_iter().filter(|key| !is_beside(key)).collect()
    };
    assert_eq!(gateway.get("/integrated-account").await.status, 200);
    let before = keys();
    let mut body = json!({"integration": "scim", "authentication_method": "bearer", "context": vendor.context()});
    let tried = gateway.call("POST", "/integrated-account/test", Some(&body)).await;
    assert_eq!(tried.status, 200, "{}", tried.text());
    let tried = tried.json();
    assert_eq!((&tried["ok"], &tried["sees"]["facts"]["page"]), (&json!(true), &json!("index")));
    assert_eq!(tried["sees"]["counts"], json!([{"resource": "users", "count": 5, "at_least": false}]));
    vendor.set(Mood::Unauthorized);
    let refused =
        problem(&gateway.call("POST", "/integrated-account/test", Some(&body)).await, 422, "credential_refused", "vendor");
    assert!(refused["raw_response"].to_string().contains("The token has ended"), "{refused}");
    body["context"]["base_url"] = json!("https://127.0.0.1:1/scim");
    assert_eq!(gateway.call("POST", "/integrated-account/test", Some(&body)).await.status, 422);
    body["tenant_id"] = json!("acme");
    assert_eq!(gateway.call("POST", "/integrated-account/test", Some(&body)).await.code(), "invalid_body");
    assert_eq!(keys(), before, "something of it is in the store");
    // The same where it was to be linked: an account is never stored before its vendor has taken the credential.
    let refused = gateway.call("POST", "/integrated-account", Some(&vendor.import())).await;
    problem(&refused, 422, "credential_refused", "vendor");
    vendor.set(Mood::Html);
    let unanswered = gateway.call("POST", "/integrated-account", Some(&vendor.import())).await;
    assert!(unanswered.status >= 400, "{}", unanswered.text());
    for status in ["connecting", "active", "post_install_error", "validation_error", "needs_reauth"] {
        let found = gateway.get(&format!("/integrated-account?status={status}")).await;
        assert_eq!((found.status, &found.json()["result"]), (200, &json!([])), "{status}");
    }
    assert!(gateway.walk("/integrated-account").await.is_empty() && gateway.walk("/event").await.is_empty());
    is_sound(&gateway);
}

#[tokio::test]
async fn a_test_of_a_linked_account_says_what_it_sees_or_what_the_vendor_said() {
    let (vendor, kept) = (Vendor::start(), Kept::embedded());
    let gateway = Gateway::start_with(&kept, &vendor.authority(), &[NO_PROBES]);
    let account = gateway.link("scim", "bearer", vendor.context()).await;
    let path = |what: &str| format!("/integrated-account/{account}/{what}");
    let tested = gateway.call("POST", &path("test"), None).await;
    assert_eq!(tested.json()["sees"]["counts"][0]["count"], 5, "{}", tested.text());
    let refreshed = gateway.call("POST", &path("status-refresh"), None).await;
    assert_eq!((refreshed.status, &refreshed.json()["pending_changes"]), (200, &json!(0)), "{}", refreshed.text());
    for member in ["last_synced_at", "next_sync_at", "expires_at", "data_version", "is_enabled"] {
        assert!(refreshed.json().get(member).is_some(), "{member}");
    }
    assert_eq!(refreshed.json()["next_sync_at"], Value::Null, "nobody looks by itself here");
    vendor.set(Mood::Unauthorized);
    // What was found a moment ago is what everybody gets for a few seconds.
    let end = Instant::now() + Duration::from_secs(20);
    while gateway.call("POST", &path("test"), None).await.code() != "reauth_required" {
        assert!(Instant::now() < end, "the refusal is not seen");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let refused = gateway.call("POST", &path("test"), None).await;
    problem(&refused, 401, "reauth_required", "vendor");
    vendor.set(Mood::Good);
    // Asked by the word of Truto's clients: the vendor decides.
    let end = Instant::now() + Duration::from_secs(20);
    while patch(&gateway, &account, json!({"status": "needs_reauth"})).await["status"] != "active" {
        assert!(Instant::now() < end, "the account does not come back");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    until_events(&gateway, &account, 20, &["created", "active", "authentication_error", "reactivated"]).await;
    is_sound(&gateway);
}

#[tokio::test]
async fn bad_words_are_named() {
    let (vendor, kept) = (Vendor::start(), Kept::embedded());
    let gateway = Gateway::start_with(&kept, &vendor.authority(), &[NO_PROBES]);
    let account = gateway.link("scim", "bearer", vendor.context()).await;
    let path = format!("/integrated-account/{account}");
    let before = gateway.get(&path).await.text();
    for (body, field) in [
        (json!({"status": "active"}), "status"),
        (json!({"status": "connecting"}), "status"),
        (json!({"status": "needs_reauth", "tenant_id": "other"}), "status"),
        (json!({"expires_at": "2001-01-01T00:00:00Z"}), "expires_at"),
    ] {
        names(&gateway.call("PATCH", &path, Some(&body)).await, 400, "invalid_body", field);
    }
    for body in
        [json!({"status": "broken"}), json!({"expires_at": "soon"}), json!({"is_enabled": "no"}), json!({"checked_at": null})]
    {
        assert_eq!(gateway.call("PATCH", &path, Some(&body)).await.code(), "invalid_body", "{body}");
    }
    assert_eq!(gateway.get(&path).await.text(), before, "something was changed");
    for (query, field) in [
        ("event=account:created", "event"),
        ("event=", "event"),
        ("since=yesterday", "since"),
        ("since=", "since"),
        ("integrated_account_id=", "integrated_account_id"),
        ("integrated_account_id=nonsense", "integrated_account_id"),
        ("tenant_id", "tenant_id"),
        ("kind=x", "kind"),
    ] {
        names(&gateway.get(&format!("/event?{query}")).await, 400, "invalid_parameter", field);
    }
    let of_nobody = format!("/event?integrated_account_id={}", uuid::Uuid::now_v7());
    assert_eq!(gateway.walk(&of_nobody).await, Vec::<Value>::new());
    let set = patch(&gateway, &account, json!({"expires_at": "2100-01-01T00:00:00Z"})).await;
    assert_eq!(set["expires_at"], "2100-01-01T00:00:00Z");
    assert_eq!(patch(&gateway, &account, json!({"tenant_id": "other"})).await["expires_at"], "2100-01-01T00:00:00Z");
    assert_eq!(patch(&gateway, &account, json!({"expires_at": null})).await["expires_at"], Value::Null);
    until_events(&gateway, &account, 20, &["created", "active", "updated", "updated", "updated"]).await;
    let reader = gateway.token(&["accounts:read"]).await;
    assert_eq!(gateway.call_as(Some(&reader), "GET", "/event", None).await.code(), "scope_missing");
    let listener = gateway.token(&["events:read"]).await;
    let first = gateway.call_as(Some(&listener), "GET", "/event?limit=1&event=integrated_account:created", None).await.json();
    let id = first["result"][0]["id"].as_str().unwrap();
    assert_eq!(gateway.call_as(Some(&listener), "GET", &format!("/event/{id}"), None).await.json(), first["result"][0]);
    assert_eq!(first["result"][0]["payload"]["status"], "active", "{first}");
    is_sound(&gateway);
}
