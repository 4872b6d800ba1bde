//! Connectors within an environment: installed, disabled, hidden and overridden, on one node and on two.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::{
    bar_canaries::{Canaries, Canary, files},
    vendor::{Vendor, accounts, is_sound, names, problem},
};
use crate::support::gateway::{ADMIN, Answer, Gateway, Kept};

const CLIENT_SECRET: &str = "canary-of-an-oauth-app-9c41";

fn users(account: &str) -> String {
    format!("/unified/user-directory/users?integrated_account_id={account}")
}

/// The connector `scim` within the environment.
async fn install(gateway: &Gateway) -> Value {
    let list = gateway.get("/environment-integration").await.json();
    list["result"].as_array().unwrap().iter().find(|found| found["integration"]["name"] == "scim").unwrap().clone()
}

async fn place(gateway: &Gateway) -> String {
    format!("/environment-integration/{}", install(gateway).await["id"].as_str().unwrap())
}

async fn change(gateway: &Gateway, body: Value) -> Answer {
    gateway.call("PATCH", &place(gateway).await, Some(&body)).await
}

async fn changed(gateway: &Gateway, body: Value) -> Value {
    let answer = change(gateway, body).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

fn map(rules: Value) -> Value {
    json!({"override": {"resources": {"users": {"map": rules}}}})
}

#[tokio::test]
async fn every_connector_is_installed_and_installing_it_again_changes_nothing() {
    let gateway = Gateway::start(&Kept::embedded(), "");
    let before = install(&gateway).await;
    assert_eq!(
        (&before["is_enabled"], &before["show_in_catalog"], &before["override"]),
        (&json!(true), &json!(true), &json!({}))
    );
    assert_eq!((&before["created_at"], &before["updated_at"]), (&Value::Null, &Value::Null));

    let body = json!({"integration": "scim", "show_in_catalog": false});
    let made = gateway.call("POST", "/environment-integration", Some(&body)).await;
    assert_eq!((made.status, &made.json()["id"], &made.json()["show_in_catalog"]), (201, &before["id"], &json!(false)));
    let again = gateway.call("POST", "/environment-integration", Some(&body)).await;
    assert_eq!((again.status, again.header("rollcall-warning")), (200, None), "{}", again.text());
    assert_eq!(again.json(), made.json());
    // Truto's form; what is so stays so, and the answer says that more was asked for.
    let other = json!({"integration_id": before["integration_id"], "is_enabled": false, "override": {}});
    let known = gateway.call("POST", "/environment-integration", Some(&other)).await;
    assert_eq!((known.status, known.header("rollcall-warning")), (200, Some("already_installed")));
    assert_eq!(known.json(), made.json());

    for (body, field) in [
        (json!({}), "integration"),
        (json!({"integration": "scim", "integration_id": "scim"}), "integration"),
        (json!({"integration": "scmi"}), "integration"),
        (json!({"integration": "scim", "version": 1}), "version"),
        (json!({"integration": "keeper", "is_enabled": "yes"}), "is_enabled"),
        (json!({"integration": "keeper", "override": null}), "override"),
        (json!({"integration": "keeper", "override": {"pagination": {}}}), "override.pagination"),
    ] {
        names(&gateway.call("POST", "/environment-integration", Some(&body)).await, 400, "invalid_body", field);
    }
    is_sound(&gateway);
}

#[tokio::test]
async fn an_override_is_merged_key_by_key_and_never_replaced() {
    let gateway = Gateway::start(&Kept::embedded(), "");
    changed(&gateway, map(json!({"title": "jobTitle", "bio": {"from": ["a", "b"], "null_if": ["-"]}}))).await;
    let app = json!({"override": {"credentials": {"oauth2": {"client_id": "mine", "client_secret": CLIENT_SECRET}}}});
    let shown = changed(&gateway, app).await;
    let redacted = json!({"oauth2": {"client_id": "mine", "client_secret": "***"}});
    assert_eq!(shown["override"]["credentials"], redacted);
    assert_eq!(shown["override"]["resources"]["users"]["map"]["title"], "jobTitle", "the other slot stays: {shown}");

    // Deep in objects; lists are replaced; null removes.
    let shown = changed(&gateway, map(json!({"bio": {"from": ["c"]}, "avatar": "photo"}))).await;
    let expected = json!({"title": "jobTitle", "bio": {"from": ["c"], "null_if": ["-"]}, "avatar": "photo"});
    assert_eq!(shown["override"]["resources"]["users"]["map"], expected);
    let shown = changed(&gateway, map(json!({"title": null, "bio": {"null_if": null}, "nothing": null}))).await;
    assert_eq!(shown["override"]["resources"]["users"]["map"], json!({"bio": {"from": ["c"]}, "avatar": "photo"}));
    assert_eq!(shown["override"]["credentials"], redacted);
    let shown = changed(&gateway, json!({"is_enabled": true, "override": {}})).await;
    assert_eq!(shown["override"]["resources"]["users"]["map"].as_object().unwrap().len(), 2);
    let shown = changed(&gateway, json!({"override": {"resources": {"users": null}}})).await;
    assert_eq!(shown["override"], json!({"credentials": redacted}));
    let shown = changed(&gateway, json!({"override": {"credentials": null}})).await;
    assert_eq!(shown["override"], json!({}));
    is_sound(&gateway);
}

#[tokio::test]
async fn an_override_that_is_not_one_is_refused_by_name_and_changes_nothing() {
    let gateway = Gateway::start(&Kept::embedded(), "");
    let before = changed(&gateway, map(json!({"title": "jobTitle"}))).await;
    let app = |app: Value| json!({"override": {"credentials": {"oauth2": app}}});
    let id = "override.credentials.oauth2.client_id";
    let secret = "override.credentials.oauth2.client_secret";
    for (body, field) in [
        (json!({"override": null}), "override"),
        (json!({"override": []}), "override"),
        (json!({"override": "x"}), "override"),
        (json!({"override": {"base": "https://elsewhere.example"}}), "override.base"),
        (json!({"override": {"hosts": {"api": "https://elsewhere.example"}}}), "override.hosts"),
        (json!({"override": {"proxy": {"deny": []}}}), "override.proxy"),
        (json!({"override": {"credentials": {"api_key": "x"}}}), "override.credentials.api_key"),
        (json!({"override": {"credentials": 7}}), "override.credentials"),
        (app(json!("x")), "override.credentials.oauth2"),
        (app(json!({"client_id": "x", "client_secret": "y", "token_url": "z"})), "override.credentials.oauth2.token_url"),
        (app(json!({"client_id": "x"})), secret),
        (app(json!({"client_secret": "x"})), id),
        (app(json!({"client_id": 7, "client_secret": "x"})), id),
        (app(json!({"client_id": "", "client_secret": "x"})), id),
        (app(json!({"client_id": "x", "client_secret": "a\nb"})), secret),
        (app(json!({"client_id": "x", "client_secret": "y".repeat(5_000)})), secret),
        (app(json!({"client_id": "x", "client_secret": "***"})), secret),
        (json!({"override": {"resources": []}}), "override.resources"),
        (json!({"override": {"resources": {"usres": {"map": {"title": "x"}}}}}), "override.resources.usres"),
        (json!({"override": {"resources": {"users": {"list": {"request": "GET /x"}}}}}), "override.resources.users.list"),
        (map(json!({"titel": "x"})), "override.resources.users.map.titel"),
        (map(json!({"id": "x"})), "override.resources.users.map.id"),
        (map(json!({"bio": {"from": "x", "fn": "shell"}})), "override.resources.users.map.bio"),
        (map(json!({"bio": "x".repeat(70_000)})), "override.resources"),
        (json!({"is_enabled": "no"}), "is_enabled"),
        (json!({"is_active": true}), "is_active"),
    ] {
        let answer = change(&gateway, body.clone()).await;
        let document = names(&answer, 400, "invalid_body", field);
        assert!(document["detail"].as_str().unwrap().len() < 1_000, "{document}");
    }
    let slots = change(&gateway, json!({"override": {"rate_limit": {}}})).await.json();
    let detail = slots["detail"].as_str().unwrap();
    assert!(detail.contains("`credentials` and `resources`") && detail.contains("are the connector's"), "{detail}");
    let hint = change(&gateway, map(json!({"titel": "x"}))).await.json();
    assert!(hint["detail"].as_str().unwrap().contains("did you mean `title`?"), "{hint}");
    let after = install(&gateway).await;
    assert_eq!((&after["override"], &after["updated_at"]), (&before["override"], &before["updated_at"]));
    is_sound(&gateway);
}

#[tokio::test]
async fn of_many_changes_at_once_on_two_nodes_none_is_lost() {
    let kept = Kept::redis();
    let nodes = [Gateway::start(&kept, ""), Gateway::start(&kept, "")];
    changed(&nodes[0], map(json!({"type": {"from": "userType", "values": {"w": "w"}}}))).await;
    let place = place(&nodes[0]).await;
    let calls = (0..32_usize).map(|n| {
        let body = match n % 8 {
            7 => json!({"show_in_catalog": false, "override": {"resources": {"groups": {"map": {"description": format!("d{n}")}}}}}),
            _ => map(json!({"type": {"values": {format!("w{n}"): format!("x{n}")}}})),
        };
        let (node, place) = (&nodes[n % 2], &place);
        async move { node.call("PATCH", place, Some(&body)).await }
    });
    for answer in join_all(calls).await {
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    let shown = install(&nodes[1]).await;
    let values = &shown["override"]["resources"]["users"]["map"]["type"]["values"];
    for n in (0..32).filter(|n| n % 8 != 7) {
        assert_eq!(values[format!("w{n}")], format!("x{n}"), "{values}");
    }
    assert_eq!((values.as_object().unwrap().len(), &shown["show_in_catalog"]), (29, &json!(false)));
    assert!(shown["override"]["resources"]["groups"]["map"]["description"].is_string(), "{shown}");
}

/// Asks until the answer is another one than 200; how long after `since` the last good one was asked for.
async fn until_refused(gateway: &Gateway, path: &str, since: Instant) -> (Answer, Duration) {
    let mut last_good = Duration::ZERO;
    loop {
        let asked = since.elapsed();
        let answer = gateway.get(path).await;
        if answer.status != 200 {
            return (answer, last_good);
        }
        last_good = asked;
        assert!(asked < Duration::from_secs(10), "it goes on");
    }
}

#[tokio::test]
async fn a_disabled_connector_is_refused_on_every_node_within_a_second_and_its_vendor_left_alone() {
    let (kept, vendor) = (Kept::redis(), Vendor::start());
    let (one, two) = (Gateway::start(&kept, &vendor.authority()), Gateway::start(&kept, &vendor.authority()));
    let account = one.link("scim", "bearer", vendor.context()).await;
    let list = users(&account);
    assert_eq!((one.get(&list).await.status, two.get(&list).await.status), (200, 200));

    changed(&one, json!({"is_enabled": false})).await;
    let disabled = Instant::now();
    problem(&one.get(&list).await, 403, "integration_disabled", "gateway");
    let (answer, last_good) = until_refused(&two, &list, disabled).await;
    let document = names(&answer, 403, "integration_disabled", "integration");
    assert_eq!(document["retryable"], false);
    assert!(last_good < Duration::from_secs(1), "still called {last_good:?} after it was disabled");

    let asked = vendor.asked();
    for gateway in [&one, &two] {
        for path in [&list, &format!("/passthrough/{account}/Users"), &format!("/proxy/Users?integrated_account_id={account}")] {
            problem(&gateway.get(path).await, 403, "integration_disabled", "gateway");
        }
        let custom = gateway.get(&format!("/custom/Users?integrated_account_id={account}")).await;
        problem(&custom, 403, "integration_disabled", "gateway");
        let link = gateway.call("POST", "/integrated-account", Some(&vendor.import())).await;
        names(&link, 403, "integration_disabled", "integration");
        let trial = json!({"integration": "scim", "authentication_method": "bearer", "context": vendor.context()});
        let tried = gateway.call("POST", "/integrated-account/test", Some(&trial)).await;
        names(&tried, 403, "integration_disabled", "integration");
        let credential = json!({"context": {"token": "another-token"}});
        let changed = gateway.call("PATCH", &format!("/integrated-account/{account}"), Some(&credential)).await;
        problem(&changed, 403, "integration_disabled", "gateway");
        // What needs no vendor goes on.
        let shown = gateway.get(&format!("/integrated-account/{account}")).await.json();
        assert_eq!((&shown["status"], &shown["environment_integration"]["is_enabled"]), (&json!("active"), &json!(false)));
        let label = json!({"tenant_id": "renamed"});
        assert_eq!(gateway.call("PATCH", &format!("/integrated-account/{account}"), Some(&label)).await.status, 200);
        let listed = gateway.get("/integrated-account").await.json();
        assert_eq!(listed["result"][0]["environment_integration"]["is_enabled"], false);
        assert_eq!(gateway.get("/integration/scim").await.json()["is_enabled"], false);
    }
    assert_eq!(vendor.asked(), asked, "the vendor was asked");

    changed(&two, json!({"is_enabled": true})).await;
    for gateway in [&two, &one] {
        assert_eq!(gateway.get(&list).await.status, 200, "the credential is kept");
        is_sound(gateway);
    }
}

#[tokio::test]
async fn a_hidden_connector_is_there_for_whoever_asks_for_it() {
    let vendor = Vendor::start();
    let gateway = Gateway::start(&Kept::embedded(), &vendor.authority());
    let shown = async |query: &str| -> Vec<String> {
        let list = gateway.get(&format!("/integration{query}")).await.json();
        list["result"].as_array().unwrap().iter().map(|found| found["name"].as_str().unwrap().to_owned()).collect()
    };
    let environment = install(&gateway).await["environment_id"].as_str().unwrap().to_owned();
    assert!(shown("").await.contains(&"scim".to_owned()));
    changed(&gateway, json!({"show_in_catalog": false})).await;
    assert!(!shown("").await.contains(&"scim".to_owned()) && !shown("").await.is_empty());
    assert_eq!(shown("?name=scim").await, ["scim"]);
    assert!(shown(&format!("?environment_id={environment}")).await.contains(&"scim".to_owned()));
    assert_eq!(gateway.get("/integration/scim").await.status, 200);
    assert_eq!(shown("?connected=true").await, Vec::<String>::new());
    gateway.link("scim", "bearer", vendor.context()).await;
    assert_eq!(shown("?connected=true&tenant_id=acme").await, ["scim"]);
    assert_eq!(shown("?connected=true&tenant_id=other").await, Vec::<String>::new());
    assert!(!shown("?connected=false").await.contains(&"scim".to_owned()));
    for foreign in ["nonsense", "0198f0c2-a1b0-7c1e-9a51-d2b53c1f0e77"] {
        assert_eq!(shown(&format!("?environment_id={foreign}")).await, Vec::<String>::new());
    }
}

#[tokio::test]
async fn a_connector_is_taken_away_with_its_accounts_only_when_that_is_asked_for() {
    let vendor = Vendor::start();
    let gateway = Gateway::start(&Kept::embedded(), &vendor.authority());
    for _ in 0..3 {
        gateway.link("scim", "bearer", vendor.context()).await;
    }
    changed(&gateway, map(json!({"title": "jobTitle"}))).await;
    let place = place(&gateway).await;
    for query in ["", "?delete_accounts=false"] {
        let document =
            names(&gateway.call("DELETE", &format!("{place}{query}"), None).await, 422, "still_in_use", "delete_accounts");
        assert!(document["detail"].as_str().unwrap().contains(": 3."), "{document}");
    }
    names(
        &gateway.call("DELETE", &format!("{place}?delete_account=true"), None).await,
        400,
        "invalid_parameter",
        "delete_account",
    );
    assert_eq!(accounts(&gateway).await.len(), 3);
    assert_eq!(gateway.get(&place).await.json()["is_enabled"], true, "a refused one changes nothing");

    assert_eq!(gateway.call("DELETE", &format!("{place}?delete_accounts=true"), None).await.status, 200);
    assert_eq!(accounts(&gateway).await, Vec::<String>::new());
    for method in ["GET", "PATCH", "DELETE"] {
        let body = (method == "PATCH").then(|| json!({"is_enabled": true}));
        problem(&gateway.call(method, &place, body.as_ref()).await, 404, "not_found", "gateway");
    }
    names(&gateway.call("POST", "/integrated-account", Some(&vendor.import())).await, 403, "integration_disabled", "integration");
    let definition = gateway.get("/integration/scim").await.json();
    assert_eq!((&definition["is_installed"], &definition["is_enabled"]), (&json!(false), &json!(false)));

    let again = gateway.call("POST", "/environment-integration", Some(&json!({"integration": "scim"}))).await;
    assert_eq!((again.status, &again.json()["override"], &again.json()["is_enabled"]), (201, &json!({}), &json!(true)));
    gateway.link("scim", "bearer", vendor.context()).await;
    is_sound(&gateway);
}

#[tokio::test]
async fn rules_of_environment_and_account_are_laid_over_the_map_wherever_it_counts() {
    let (kept, vendor) = (Kept::redis(), Vendor::start());
    let (one, two) = (Gateway::start(&kept, &vendor.authority()), Gateway::start(&kept, &vendor.authority()));
    let (plain, own) = (one.link("scim", "bearer", vendor.context()).await, one.link("scim", "bearer", vendor.context()).await);
    let first = async |gateway: &Gateway, account: &str| gateway.get(&users(account)).await.json()["result"][0].clone();
    assert_eq!(first(&two, &plain).await["bio"], Value::Null);

    changed(&one, map(json!({"bio": "userName", "timezone": {"const": "UTC"}}))).await;
    assert_eq!(first(&one, &plain).await["bio"], "user1@vendor.example", "on the node that changed it at once");
    let since = Instant::now();
    while first(&two, &plain).await["bio"] != "user1@vendor.example" {
        assert!(since.elapsed() < Duration::from_secs(3), "the other node does not take it up");
    }
    // An account's own rules over those of its environment.
    let place = format!("/integrated-account/{own}");
    let body = json!({"unified_model_override": {"user-directory": {"users": {"map": {"timezone": {"const": "CET"}}}}}});
    let changed_account = one.call("PATCH", &place, Some(&body)).await;
    assert_eq!(changed_account.status, 200, "{}", changed_account.text());
    assert_eq!(changed_account.json()["unified_model_override"], body["unified_model_override"]);
    let user = first(&one, &own).await;
    assert_eq!((&user["bio"], &user["timezone"]), (&json!("user1@vendor.example"), &json!("CET")));
    assert_eq!(first(&one, &plain).await["timezone"], "UTC");

    // Filters, meta and capabilities speak of the same map.
    let found = one.get(&format!("{}&bio=user3@vendor.example", users(&plain))).await.json();
    assert_eq!((&found["result"][0]["id"], found["result"].as_array().unwrap().len()), (&json!("3"), 1), "{found}");
    let meta = one.get(&format!("/unified/user-directory/users/meta/list?integrated_account_id={own}")).await.json();
    assert_eq!(meta["response_mapping"]["timezone"], json!({"const": "CET"}), "{meta}");
    for path in [format!("/integrated-account/{own}/capabilities"), "/integration/scim/capabilities".to_owned()] {
        let offer = one.get(&path).await.json();
        let of =
            |name: &str| offer["unified"].as_array().unwrap().iter().find(|found| found["resource"] == name).unwrap().clone();
        assert_eq!((&of("users")["env_overridden"], &of("groups")["env_overridden"]), (&json!(true), &json!(false)));
        assert!(of("users")["fields"].as_array().unwrap().contains(&json!("bio")), "{offer}");
    }

    for (body, field) in [
        (json!({"unified_model_override": []}), "unified_model_override"),
        (json!({"unified_model_override": {"crm": {}}}), "unified_model_override.crm"),
        (json!({"unified_model_override": {"user-directory": 1}}), "unified_model_override.user-directory"),
        (
            json!({"unified_model_override": {"user-directory": {"users": {"map": {"titel": "x"}}}}}),
            "unified_model_override.user-directory.users.map.titel",
        ),
    ] {
        names(&one.call("PATCH", &place, Some(&body)).await, 400, "invalid_body", field);
    }
    let gone = json!({"unified_model_override": {"user-directory": {"users": {"map": {"timezone": null}}}}});
    assert_eq!(one.call("PATCH", &place, Some(&gone)).await.json()["unified_model_override"], json!({}));
    assert_eq!(first(&one, &own).await["timezone"], "UTC");
    is_sound(&one);
    is_sound(&two);
}

#[tokio::test]
async fn an_own_apps_secret_is_seen_nowhere() {
    let kept = Kept::embedded();
    let gateway = Gateway::start_with(&kept, "", &[("ROLLCALL_LOG", "debug")]);
    let app = json!({"override": {"credentials": {"oauth2": {"client_id": "mine", "client_secret": CLIENT_SECRET}}}});
    let place = place(&gateway).await;
    let headers = [("idempotency-key", "the-key")];
    let mut told = Vec::new();
    for _ in 0..2 {
        told.push(gateway.call_with(ADMIN, &headers, "PATCH", &place, Some(&app)).await);
    }
    let bad = json!({"override": {"credentials": {"oauth2": {"client_id": "mine", "client_secret": CLIENT_SECRET, "more": 1}}}});
    told.push(change(&gateway, bad).await);
    let wrong = json!({"override": {"credentials": {"oauth2": {"client_id": "mine", "client_secret": [CLIENT_SECRET]}}}});
    told.push(change(&gateway, wrong).await);
    for path in [&place, "/environment-integration", "/integration", "/integration/scim/capabilities", "/log", "/metrics"] {
        told.push(gateway.get(path).await);
    }
    let said = gateway.said();
    assert!(gateway.stop());
    let canaries = Canaries::new(vec![Canary::new("the app's secret", CLIENT_SECRET)]);
    let mut hits = canaries.hits("the log", said.as_bytes());
    told.iter().for_each(|answer| hits.extend(canaries.hits("an answer", &answer.body)));
    for (name, content) in files(kept.folder()) {
        hits.extend(canaries.hits(&name, &content));
    }
    assert_eq!(hits, Vec::<String>::new());
}
