//! The life of API tokens as operators see it: who made one, when it was used, which there are; and two of one name, for a change
//! of keys without a gap.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rollcall::vault::TokenText;
use serde_json::{Value, json};

use super::vendor::{names, problem};
use crate::support::gateway::{ADMIN, Gateway, Kept};

async fn made(gateway: &Gateway, by: &str, body: Value) -> (String, String) {
    let made = gateway.call_as(Some(by), "POST", "/api-token", Some(&body)).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let text = |name: &str| made.json()[name].as_str().unwrap().to_owned();
    (text("id"), text("token"))
}

async fn status(gateway: &Gateway, token: &str) -> u16 {
    gateway.call_as(Some(token), "GET", "/integrated-account", None).await.status
}

async fn listed(gateway: &Gateway, query: &str) -> Vec<String> {
    let list = gateway.get(&format!("/api-token?{query}")).await;
    assert_eq!(list.status, 200, "{}", list.text());
    list.json()["result"].as_array().unwrap().iter().map(|token| token["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn two_tokens_of_one_name_live_side_by_side_until_one_is_revoked() {
    let kept = Kept::redis();
    let nodes = [Gateway::start(&kept, ""), Gateway::start(&kept, "")];
    let body = json!({"name": "backend", "scopes": ["accounts:read"]});
    let (old, old_text) = made(&nodes[0], ADMIN, body.clone()).await;
    let (new, new_text) = made(&nodes[1], ADMIN, body).await;
    for node in &nodes {
        assert_eq!((status(node, &old_text).await, status(node, &new_text).await), (200, 200));
    }
    let mut both = vec![old.clone(), new.clone()];
    both.sort();
    assert_eq!(listed(&nodes[1], "name=backend").await, both);
    assert_eq!(nodes[1].call("DELETE", &format!("/api-token/{old}"), None).await.status, 200);
    let end = tokio::time::Instant::now() + Duration::from_millis(1500);
    while status(&nodes[0], &old_text).await != 401 {
        assert!(tokio::time::Instant::now() < end, "a revoked token goes on");
        assert_eq!(status(&nodes[0], &new_text).await, 200);
    }
    for node in &nodes {
        assert_eq!((status(node, &old_text).await, status(node, &new_text).await), (401, 200));
    }
    assert_eq!(listed(&nodes[0], "name=backend").await, [new]);
}

#[tokio::test]
async fn a_token_shows_who_made_it_and_when_it_was_used_last() {
    for kept in Kept::each() {
        let gateway = Gateway::start(&kept, "");
        let (_, chief) = made(&gateway, ADMIN, json!({"name": "chief", "scopes": ["admin"]})).await;
        let (id, token) = made(&gateway, &chief, json!({"name": "nightly", "scopes": ["accounts:read"]})).await;
        let path = format!("/api-token/{id}");
        let shown = gateway.get(&path).await.json();
        assert_eq!((&shown["created_by"], shown.get("last_used_at")), (&json!("chief"), Some(&Value::Null)), "{shown}");
        let guessed = TokenText::generate_for(id.parse().unwrap());
        assert_eq!(status(&gateway, guessed.expose()).await, 401, "its id with another secret, which is no use of it");

        let before = Timestamp::now();
        assert_eq!(status(&gateway, &token).await, 200);
        let end = tokio::time::Instant::now() + Duration::from_secs(10);
        let used = loop {
            let shown = gateway.get(&path).await.json();
            if let Some(used) = shown["last_used_at"].as_str() {
                break used.parse::<Timestamp>().unwrap();
            }
            assert!(tokio::time::Instant::now() < end, "the use was not noted: {shown}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        let after = Timestamp::now();
        assert!(before - SignedDuration::from_secs(1) <= used && used <= after, "{before} {used} {after}");
        let list = gateway.get("/api-token").await.json();
        let of = |name: &str| list["result"].as_array().unwrap().iter().find(|token| token["name"] == name).unwrap().clone();
        assert_eq!(of("nightly"), gateway.get(&path).await.json(), "the list shows the same");
        assert_eq!(of("chief")["created_by"], "administrator");

        // Each use within the minute is the same use.
        tokio::time::sleep(Duration::from_millis(1100)).await;
        assert_eq!(status(&gateway, &token).await, 200);
        assert_eq!(gateway.get(&path).await.json()["last_used_at"].as_str().unwrap().parse::<Timestamp>().unwrap(), used);

        // The note does not change the record, which is marked, and goes with it.
        assert!(gateway.stop());
        let gateway = Gateway::start(&kept, "");
        assert_eq!(status(&gateway, &token).await, 200);
        assert_eq!(gateway.call("DELETE", &path, None).await.status, 200);
        problem(&gateway.get(&path).await, 404, "not_found", "gateway");
        if let Kept::Redis(server, _) = &kept {
            let left: Vec<String> = redis::cmd("KEYS").arg(format!("*{id}*")).query(&mut server.connection()).unwrap();
            let live = left.iter().filter(|name| name.contains("used"));
            assert_eq!(live.count(), 0, "{left:?}");
        }
    }
}

#[tokio::test]
async fn the_list_of_tokens_is_filtered_and_paged() {
    let gateway = Gateway::start(&Kept::embedded(), "");
    let mut named = Vec::new();
    for number in 0..7 {
        let name = if number % 2 == 0 { "even" } else { "odd" };
        let (id, _) = made(&gateway, ADMIN, json!({"name": name, "scopes": ["accounts:read"]})).await;
        named.push((name, id));
    }
    let of = |wanted: &str| named.iter().filter(|(name, _)| *name == wanted).map(|(_, id)| id.clone()).collect::<Vec<_>>();
    assert_eq!((listed(&gateway, "name=even").await, listed(&gateway, "name=odd").await), (of("even"), of("odd")));
    assert_eq!(listed(&gateway, "name=nobody").await, Vec::<String>::new());
    let environment = gateway.get("/api-token").await.json()["result"][0]["environment_id"].as_str().unwrap().to_owned();
    assert_eq!(listed(&gateway, &format!("environment_id={environment}&name=odd&limit=5000")).await, of("odd"));
    for other in [uuid::Uuid::now_v7().to_string(), "nonsense".to_owned()] {
        assert_eq!(listed(&gateway, &format!("environment_id={other}")).await, Vec::<String>::new());
    }
    let walked: Vec<String> =
        gateway.walk("/api-token?limit=1&name=even").await.iter().map(|t| t["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(walked, of("even"));
    names(&gateway.get("/api-token?nmae=even").await, 400, "invalid_parameter", "nmae");
}
