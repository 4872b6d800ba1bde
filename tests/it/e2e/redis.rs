//! Everything in Redis: nodes without a disk of their own, and servers that would lose data.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use serde_json::json;

use super::{
    cli::run,
    vendor::{Vendor, accounts, is_sound, problem},
};
use crate::support::{
    gateway::{ADMIN, Gateway, Kept, command, write_ring},
    redis::{Certificates, Cluster, SentinelSet, Server, free_port},
};

const USERS: &str = "/unified/user-directory/users";

/// Starts a node in a folder of its own that holds nothing but a copy of the key ring.
fn node(kept: &Kept, vendor: &Vendor) -> (tempfile::TempDir, Gateway) {
    let own = tempfile::tempdir().unwrap();
    let ring = own.path().join("ring.json");
    std::fs::copy(kept.folder().join("keys.json"), &ring).unwrap();
    let gateway = Gateway::start_with(kept, &vendor.authority(), &[("ROLLCALL_KEYS_FILE", ring.to_str().unwrap())]);
    (own, gateway)
}

#[tokio::test]
async fn a_node_with_an_empty_disk_serves_every_linked_account() {
    let (kept, vendor) = (Kept::redis(), Vendor::start());
    let (folder, first) = node(&kept, &vendor);
    let mut linked = Vec::new();
    for _ in 0..5 {
        linked.push(first.link("scim", "bearer", vendor.context()).await);
    }
    let token = first.token(&["directory:read"]).await;
    let list = format!("{USERS}?integrated_account_id={}&limit=2", linked[0]);
    let cursor = first.get(&list).await.json()["next_cursor"].as_str().unwrap().to_owned();
    assert!(first.stop());
    drop(folder);

    let (_folder, second) = node(&kept, &vendor);
    assert_eq!(accounts(&second).await, linked);
    for account in &linked {
        assert_eq!(second.walk(&format!("{USERS}?integrated_account_id={account}&limit=2")).await.len(), 5);
    }
    assert_eq!(second.call_as(Some(&token), "GET", &list, None).await.status, 200, "tokens come along");
    let next = second.get(&format!("{list}&next_cursor={cursor}")).await.json();
    assert_eq!(next["result"][0]["id"], "3", "cursors come along: {next}");
    is_sound(&second);
}

#[tokio::test]
async fn a_revoked_token_and_a_deleted_account_end_on_every_node_within_a_second() {
    let (kept, vendor) = (Kept::redis(), Vendor::start());
    let ((_one, first), (_two, second)) = (node(&kept, &vendor), node(&kept, &vendor));
    let account = first.link("scim", "bearer", vendor.context()).await;
    let token = first.token(&["directory:read"]).await;
    let list = format!("{USERS}?integrated_account_id={account}");
    for gateway in [&first, &second] {
        assert_eq!(gateway.call_as(Some(&token), "GET", &list, None).await.status, 200);
    }
    let id = first.get("/api-token").await.json()["result"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!(first.call("DELETE", &format!("/api-token/{id}"), None).await.status, 200);
    let revoked = Instant::now();
    loop {
        let asked = revoked.elapsed();
        let answer = second.call_as(Some(&token), "GET", &list, None).await;
        if answer.status != 200 {
            problem(&answer, 401, "invalid_token", "gateway");
            break;
        }
        assert!(asked < Duration::from_secs(1), "still accepted {asked:?} after it was revoked");
    }
    assert_eq!(second.get(&list).await.status, 200);
    assert_eq!(first.call("DELETE", &format!("/integrated-account/{account}"), None).await.status, 200);
    tokio::time::sleep(Duration::from_secs(1)).await;
    problem(&second.get(&list).await, 404, "not_found", "gateway");
}

/// `serve` that must refuse: exit code, what it said.
fn refused(store: &str, ring: Option<&std::path::Path>) -> (Option<i32>, String) {
    let mut serve = command(&["serve"]);
    serve
        .env("ROLLCALL_STORE", store)
        .env("ROLLCALL_ADMIN_TOKEN", ADMIN)
        .env("ROLLCALL_LISTEN", format!("127.0.0.1:{}", free_port()));
    ring.map(|ring| serve.env("ROLLCALL_KEYS_FILE", ring));
    let (code, _, err) = run(&mut serve);
    (code, err)
}

#[tokio::test]
async fn redis_that_evicts_is_refused_and_one_without_persistence_is_warned_about() {
    let folder = tempfile::tempdir().unwrap();
    let ring = folder.path().join("keys.json");
    write_ring(&ring);
    for policy in ["allkeys-lru", "volatile-ttl"] {
        let evicts = Server::with(&["--maxmemory", "100mb", "--maxmemory-policy", policy]);
        let (code, said) = refused(&format!("redis://127.0.0.1:{}", evicts.port), Some(&ring));
        assert!(code == Some(1) && said.contains(policy) && said.contains("noeviction"), "{code:?} {said}");
    }
    let forgets = Kept::Redis(Server::start(), folder);
    let gateway = Gateway::start(&forgets, "");
    assert!(gateway.get("/readyz").await.json()["store"]["warnings"].to_string().contains("appendonly yes"));
    assert!(gateway.said().contains("in memory only"), "{}", gateway.said());
}

#[test]
fn without_keys_an_administrator_or_a_server_it_does_not_start() {
    let server = Server::start();
    let store = format!("redis://127.0.0.1:{}", server.port);
    let (code, said) = refused(&store, None);
    assert!(code == Some(2) && said.contains("ROLLCALL_KEYS_FILE"), "{code:?} {said}");
    let folder = tempfile::tempdir().unwrap();
    let ring = folder.path().join("keys.json");
    let (code, said) = refused(&store, Some(&ring));
    assert!(code == Some(1) && said.contains(ring.to_str().unwrap()), "{code:?} {said}");
    assert!(!ring.exists(), "no ring is made for Redis");
    write_ring(&ring);
    let mut serve = command(&["serve"]);
    let (code, _, said) = run(serve.env("ROLLCALL_STORE", &store).env("ROLLCALL_KEYS_FILE", &ring));
    assert!(code == Some(2) && said.contains("ROLLCALL_ADMIN_TOKEN"), "{code:?} {said}");
    let started = Instant::now();
    let nobody = free_port();
    let (code, said) = refused(&format!("redis://someone:a-password-of-redis@127.0.0.1:{nobody}"), Some(&ring));
    assert!(code == Some(1) && said.contains(&nobody.to_string()) && !said.contains("a-password"), "{code:?} {said}");
    assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
}

#[tokio::test]
async fn another_key_ring_is_refused() {
    let (kept, vendor) = (Kept::redis(), Vendor::start());
    let (_folder, first) = node(&kept, &vendor);
    assert_eq!(first.get("/readyz").await.status, 200);
    assert!(first.stop());
    let other = tempfile::tempdir().unwrap();
    write_ring(&other.path().join("keys.json"));
    let Kept::Redis(server, _) = &kept else { unreachable!() };
    // What else runs on the machine may slow a start down: one of three must be quick.
    let took = (0..3).map(|_| {
        let started = Instant::now();
        let (code, said) = refused(&format!("redis://127.0.0.1:{}", server.port), Some(&other.path().join("keys.json")));
        assert!(code == Some(1) && said.contains("key"), "{code:?} {said}");
        started.elapsed()
    });
    assert!(took.into_iter().any(|took| took < Duration::from_secs(5)));
}

/// Links, lists, stops, starts again and lists: on any form of Redis.
async fn serves(store: &str, ca: Option<&Path>) {
    let (folder, vendor) = (tempfile::tempdir().unwrap(), Vendor::start());
    let ring = folder.path().join("keys.json");
    write_ring(&ring);
    let kept = Kept::Embedded(folder);
    let ca = ca.map_or("", |path| path.to_str().unwrap());
    let settings = [("ROLLCALL_STORE", store), ("ROLLCALL_KEYS_FILE", ring.to_str().unwrap()), ("ROLLCALL_REDIS_CA_FILE", ca)];
    let gateway = Gateway::start_with(&kept, &vendor.authority(), &settings);
    let account = gateway.link("scim", "bearer", vendor.context()).await;
    let list = format!("{USERS}?integrated_account_id={account}&limit=2");
    assert_eq!(gateway.walk(&list).await.len(), 5);
    let token = gateway.token(&["directory:read"]).await;
    assert!(gateway.stop());
    let gateway = Gateway::start_with(&kept, &vendor.authority(), &settings);
    assert_eq!(gateway.walk(&list).await.len(), 5);
    assert_eq!(gateway.call_as(Some(&token), "GET", &list, None).await.status, 200);
    let ready = gateway.get("/readyz").await;
    assert_eq!((ready.status, &ready.json()["store"]["ok"]), (200, &json!(true)), "{}", ready.text());
    is_sound(&gateway);
}

#[tokio::test]
async fn sentinel_serves() {
    let set = SentinelSet::start();
    serves(&set.address(), None).await;
}

#[tokio::test]
async fn sentinel_serves_over_tls() {
    let certificates = Certificates::make();
    let set = SentinelSet::with(&certificates.args());
    serves(&set.address(), Some(&certificates.ca())).await;
}

#[tokio::test]
async fn a_cluster_serves() {
    let cluster = Cluster::start();
    serves(&cluster.address(), None).await;
}

#[tokio::test]
async fn a_cluster_serves_over_tls() {
    let certificates = Certificates::make();
    let cluster = Cluster::with(&certificates.args());
    serves(&cluster.address(), Some(&certificates.ca())).await;
}
