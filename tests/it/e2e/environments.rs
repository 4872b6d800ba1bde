//! Environments: made and ended by whoever administers `default`, and walls for everybody else.

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::{
    cli::run,
    vendor::{Vendor, is_sound, names, problem},
};
use crate::support::gateway::{ADMIN, Answer, Gateway, Kept, command};

/// A header that makes two answers comparable to the byte.
const SAME_ID: (&str, &str) = ("x-request-id", "same");

/// Makes an environment: its id and its first administrator's token.
async fn make(gateway: &Gateway, name: &str) -> (String, String) {
    let made = gateway.call("POST", "/environment", Some(&json!({"name": name}))).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let made = made.json();
    (made["id"].as_str().unwrap().to_owned(), made["api_token"]["token"].as_str().unwrap().to_owned())
}

async fn named(gateway: &Gateway, token: &str) -> Vec<String> {
    let list = gateway.call_as(Some(token), "GET", "/environment", None).await;
    assert_eq!(list.status, 200, "{}", list.text());
    let list = list.json();
    list["result"].as_array().unwrap().iter().map(|found| found["name"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn environments_are_made_named_and_ended() {
    let gateway = Gateway::start(&Kept::embedded(), "");
    assert_eq!(named(&gateway, ADMIN).await, ["default"]);
    let (id, token) = make(&gateway, "staging").await;
    let place = format!("/environment/{id}");
    assert_eq!(named(&gateway, ADMIN).await, ["default", "staging"]);
    assert_eq!(named(&gateway, &token).await, ["staging"]);
    let shown = gateway.get(&place).await.json();
    assert_eq!((&shown["id"], &shown["name"], &shown["created_at"]), (&json!(id), &json!("staging"), &shown["updated_at"]));
    assert!(shown.get("api_token").is_none(), "a token is shown once");
    let renamed = gateway.call("PATCH", &place, Some(&json!({"name": "production"}))).await;
    assert_eq!((renamed.status, &renamed.json()["name"]), (200, &json!("production")), "{}", renamed.text());
    make(&gateway, "staging").await;
    assert_eq!(gateway.call("PATCH", &place, Some(&json!({"name": "production"}))).await.status, 200, "its own name");

    let left = problem(&gateway.call("DELETE", &place, None).await, 422, "still_in_use", "gateway");
    assert!(left["detail"].as_str().unwrap().contains("accounts: 0, tokens: 1"), "{left}");
    let own = gateway.call_as(Some(&token), "GET", "/api-token", None).await.json()["result"][0].clone();
    let end = format!("/api-token/{}", own["id"].as_str().unwrap());
    assert_eq!(gateway.call_as(Some(&token), "DELETE", &end, None).await.status, 200);
    assert_eq!(gateway.call("DELETE", &place, None).await.status, 200);
    for method in ["GET", "DELETE"] {
        problem(&gateway.call(method, &place, None).await, 404, "not_found", "gateway");
    }
    make(&gateway, "production").await;
    is_sound(&gateway);
}

#[tokio::test]
async fn names_are_one_to_a_hundred_characters_and_nobody_elses() {
    let gateway = Gateway::start(&Kept::embedded(), "");
    let longest = "ü".repeat(100);
    let (id, _) = make(&gateway, &longest).await;
    let post = async |name: Value| gateway.call("POST", "/environment", Some(&json!({"name": name}))).await;
    for name in
        [json!(""), json!("ü".repeat(101)), json!(" x"), json!("x\t"), json!("a\nb"), json!("\u{0}"), json!(7), json!(null)]
    {
        names(&post(name).await, 400, "invalid_body", "name");
    }
    names(
        &gateway.call("POST", "/environment", Some(&json!({"name": "x", "team_id": "y"}))).await,
        400,
        "invalid_body",
        "team_id",
    );
    for name in [longest.as_str(), "default"] {
        names(&post(json!(name)).await, 422, "name_taken", "name");
    }
    let place = format!("/environment/{id}");
    names(&gateway.call("PATCH", &place, Some(&json!({"name": "default"}))).await, 422, "name_taken", "name");
    names(&gateway.call("PATCH", &place, Some(&json!({"name": ""}))).await, 400, "invalid_body", "name");

    let default = gateway.get("/environment").await.json()["result"][0]["id"].as_str().unwrap().to_owned();
    let default = format!("/environment/{default}");
    names(&gateway.call("PATCH", &default, Some(&json!({"name": "other"}))).await, 400, "invalid_body", "name");
    problem(&gateway.call("DELETE", &default, None).await, 422, "still_in_use", "gateway");

    let raced = join_all((0..20).map(|_| post(json!("raced")))).await;
    let made = raced.iter().filter(|answer| answer.status == 201).count();
    assert_eq!(made, 1, "{:?}", raced.iter().map(|answer| answer.status).collect::<Vec<_>>());
    raced.iter().filter(|answer| answer.status != 201).for_each(|answer| drop(names(answer, 422, "name_taken", "name")));
    is_sound(&gateway);
}

#[tokio::test]
async fn under_a_key_an_environment_is_made_once() {
    let gateway = Gateway::start(&Kept::embedded(), "");
    let headers = [("idempotency-key", "make-it-once")];
    let body = json!({"name": "once"});
    let first = gateway.call_with(ADMIN, &headers, "POST", "/environment", Some(&body)).await;
    let again = gateway.call_with(ADMIN, &headers, "POST", "/environment", Some(&body)).await;
    assert_eq!((first.status, first.json()), (201, again.json()));
    let token = first.json()["api_token"]["token"].as_str().unwrap().to_owned();
    assert_eq!(named(&gateway, &token).await, ["once"]);
}

/// What a token sees in every list there is.
async fn everything(gateway: &Gateway, token: &str) -> String {
    let mut all = String::new();
    for path in ["/integrated-account", "/api-token", "/environment-integration", "/integration", "/log", "/environment"] {
        let answer = gateway.call_as(Some(token), "GET", path, None).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        all.push_str(&answer.text());
    }
    all
}

async fn link(gateway: &Gateway, token: &str, vendor: &Vendor) -> String {
    let linked = gateway.call_as(Some(token), "POST", "/integrated-account", Some(&vendor.import())).await;
    assert_eq!(linked.status, 201, "{}", linked.text());
    linked.json()["id"].as_str().unwrap().to_owned()
}

async fn scim(gateway: &Gateway, token: &str) -> Value {
    let list = gateway.call_as(Some(token), "GET", "/environment-integration", None).await.json();
    list["result"].as_array().unwrap().iter().find(|found| found["integration"]["name"] == "scim").unwrap().clone()
}

#[tokio::test]
async fn nothing_of_one_environment_is_seen_from_another() {
    for kept in Kept::each() {
        let vendor = Vendor::start();
        let gateway = Gateway::start(&kept, &vendor.authority());
        let (id, token) = make(&gateway, "theirs").await;
        let (mine, theirs) = (link(&gateway, ADMIN, &vendor).await, link(&gateway, &token, &vendor).await);
        let change = json!({"show_in_catalog": false, "override": {
            "credentials": {"oauth2": {"client_id": "their-own-client", "client_secret": "their-own-secret-551d"}},
            "resources": {"users": {"map": {"bio": {"const": "their-own-rule"}}}},
        }});
        let install = scim(&gateway, &token).await["id"].as_str().unwrap().to_owned();
        let place = format!("/environment-integration/{install}");
        let changed = gateway.call_as(Some(&token), "PATCH", &place, Some(&change)).await;
        assert_eq!(changed.status, 200, "{}", changed.text());
        let users = |account: &str| format!("/unified/user-directory/users?integrated_account_id={account}");
        let (own, foreign) =
            (gateway.get(&users(&mine)).await, gateway.call_as(Some(&token), "GET", &users(&theirs), None).await);
        assert_eq!(
            (own.json()["result"][0]["bio"].clone(), foreign.json()["result"][0]["bio"].clone()),
            (Value::Null, json!("their-own-rule"))
        );

        let (here, there) = (everything(&gateway, ADMIN).await, everything(&gateway, &token).await);
        for word in [&theirs, &install, "their-own-client", "their-own-rule", "their-own-secret-551d"] {
            assert!(!here.contains(word), "{word} is seen from outside: {here}");
        }
        assert!(there.contains(&theirs) && there.contains("their-own-client") && !there.contains("their-own-secret-551d"));
        let default = scim(&gateway, ADMIN).await;
        let default_id = default["environment_id"].as_str().unwrap();
        for word in [&mine, default["id"].as_str().unwrap(), default_id] {
            assert!(!there.contains(word), "{word} is seen from outside: {there}");
        }

        // What one switches off goes on in the other.
        let off = json!({"is_enabled": false});
        let place = format!("/environment-integration/{}", default["id"].as_str().unwrap());
        assert_eq!(gateway.call("PATCH", &place, Some(&off)).await.status, 200);
        problem(&gateway.get(&users(&mine)).await, 403, "integration_disabled", "gateway");
        assert_eq!(gateway.call_as(Some(&token), "GET", &users(&theirs), None).await.status, 200);

        foreign_is_missing(&gateway, &token, default_id).await;
        let left = problem(&gateway.call("DELETE", &format!("/environment/{id}"), None).await, 422, "still_in_use", "gateway");
        assert!(left["detail"].as_str().unwrap().contains("accounts: 1, tokens: 1"), "{left}");
        is_sound(&gateway);
    }
}

/// An administrator of another environment cannot tell that an environment is there, nor make or end one.
async fn foreign_is_missing(gateway: &Gateway, token: &str, foreign: &str) {
    let ask = async |method: &str, id: &str, body: Option<Value>| -> (u16, Vec<u8>) {
        let path = format!("/environment/{id}");
        let Answer { status, body, .. } = gateway.call_with(token, &[SAME_ID], method, &path, body.as_ref()).await;
        (status, body)
    };
    for (method, body) in [("GET", None), ("PATCH", Some(json!({"name": "x"}))), ("DELETE", None)] {
        let missing = ask(method, "0198f0c2-a1b0-7c1e-9a51-d2b53c1f0e77", body.clone()).await;
        assert_eq!(missing.0, 404);
        assert_eq!(ask(method, foreign, body.clone()).await, missing, "{method}");
        assert_eq!(ask(method, "nonsense", body).await, missing, "{method}");
    }
    let own =
        gateway.call_as(Some(token), "GET", "/environment", None).await.json()["result"][0]["id"].as_str().unwrap().to_owned();
    for (method, path, body) in [
        ("POST", "/environment".to_owned(), Some(json!({"name": "default"}))),
        ("PATCH", format!("/environment/{own}"), Some(json!({"name": "default"}))),
        ("DELETE", format!("/environment/{own}"), None),
    ] {
        let refused = gateway.call_as(Some(token), method, &path, body.as_ref()).await;
        let document = problem(&refused, 403, "scope_missing", "gateway");
        assert!(document["detail"].as_str().unwrap().contains("`default`"), "{document}");
    }
    // Any token sees where it stands.
    let weak = json!({"name": "weak", "scopes": ["events:read"]});
    let weak = gateway.call_as(Some(token), "POST", "/api-token", Some(&weak)).await.json();
    assert_eq!(named(gateway, weak["token"].as_str().unwrap()).await, ["theirs"]);
    let end = format!("/api-token/{}", weak["id"].as_str().unwrap());
    assert_eq!(gateway.call_as(Some(token), "DELETE", &end, None).await.status, 200);
}

#[test]
fn the_command_line_makes_and_lists_environments() {
    let kept = Kept::embedded();
    let good = |args: &[&str]| {
        let (code, out, err) = run(command(args).envs(kept.settings()).current_dir(kept.folder()));
        assert_eq!(code, Some(0), "{args:?}: {err}");
        out
    };
    let token = good(&["environment", "add", "staging"]);
    assert!(token.starts_with("rck_") && token.trim().lines().count() == 1, "{token}");
    let made: Value = serde_json::from_str(&good(&["environment", "add", "production", "--json"])).unwrap();
    assert_eq!(made["name"], "production");
    let listed = good(&["environment", "list"]);
    assert!(listed.lines().count() == 3 && listed.contains("staging") && listed.contains("default"), "{listed}");
    let listed: Value = serde_json::from_str(&good(&["environment", "list", "--json"])).unwrap();
    assert_eq!(listed.as_array().unwrap().len(), 3);
    let (code, out, err) = run(command(&["environment", "add", "staging"]).envs(kept.settings()).current_dir(kept.folder()));
    assert!(code == Some(1) && out.is_empty() && err.contains("name_taken"), "{code:?} {err}");
}
