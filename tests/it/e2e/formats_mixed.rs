//! N-1 beside N over one store: what only the later release can read takes nothing else away from the earlier one.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use rollcall::{
    store::{Batch, Expect, Key, Slot, Store, Write},
    vault::{AuditMark, KeyRing, SystemKeys},
};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    backup::{on, opened, ring},
    cli::run,
    vendor::Vendor,
};
use crate::support::{
    gateway::{Answer, Gateway, Kept},
    redis::Server,
};

const USERS: &str = "/unified/user-directory/users?integrated_account_id=";
const SENTENCE: &str = "A later release of the gateway wrote what this needs, and this node cannot read it; nothing was changed.";

/// The words of a later release that stand in the store.
struct Planted {
    account: String,
    install: String,
    token: String,
    token_text: String,
    environment: String,
    event: String,
}

async fn read(store: &dyn Store, slot: &str, name: &str) -> Value {
    let entry = store.get(&Key { slot: Slot::new(slot), name: name.to_owned() }).await.unwrap();
    serde_json::from_slice(&entry.unwrap_or_else(|| panic!("{slot} {name}")).value).unwrap()
}

async fn write(store: &dyn Store, slot: &str, name: &str, value: Vec<u8>) {
    let write = Write::Put { name: name.to_owned(), value: value.into(), ttl: None, expect: Expect::Any };
    store.commit(Batch { slot: Slot::new(slot), fence: None, writes: vec![write] }).await.unwrap();
}

/// Changes one member of a record to a word of a later release.
async fn say(store: &dyn Store, slot: &str, name: &str, pointer: &str, word: Value) {
    let mut record = read(store, slot, name).await;
    *record.pointer_mut(pointer).unwrap() = word;
    write(store, slot, name, record.to_string().into_bytes()).await;
}

/// The last entry of the audit log with another word for how it ended, and the head after it.
async fn say_in_audit(kept: &Kept, store: &dyn Store, environment: &str) {
    let sealed = store.scan(&Slot::new("rollcall"), "system-keys", None, 1).await.unwrap().remove(0).1.value;
    let keys = SystemKeys::open(&KeyRing::load(&ring(kept)).unwrap(), &sealed).unwrap();
    let (slot, wall) = (format!("audit:{environment}"), environment.parse::<Uuid>().unwrap());
    let marked = |purpose, value: &Value| {
        let content = value.to_string().into_bytes();
        let mark = keys.audit_mark(purpose, &[wall.as_bytes(), &content]);
        ([&mark[..], &content].concat(), mark.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
    };
    let entries = store.scan(&Slot::new(slot.as_str()), "entry/", None, 10_000).await.unwrap();
    let (name, last) = entries.last().unwrap();
    let mut entry: Value = serde_json::from_slice(&last.value[32..]).unwrap();
    entry["outcome"] = json!("postponed");
    let (bytes, hash) = marked(AuditMark::Entry, &entry);
    write(store, &slot, name, bytes).await;
    let head = store.get(&Key { slot: Slot::new(slot.as_str()), name: "head".into() }).await.unwrap().unwrap();
    let mut head: Value = serde_json::from_slice(&head.value[32..]).unwrap();
    head["hash"] = json!(hash);
    write(store, &slot, "head", marked(AuditMark::Head, &head).0).await;
}

async fn id_of(gateway: &Gateway, path: &str, body: &Value) -> Value {
    let answer = gateway.call("POST", path, Some(body)).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    answer.json()
}

/// A store in which a later release has written, and what may be read by everybody: the account, and the event ids.
async fn planted(kept: &Kept, vendor: &Vendor) -> (Planted, String, BTreeSet<String>) {
    let gateway = Gateway::start(kept, &vendor.authority());
    let (good, account) =
        (gateway.link("scim", "bearer", vendor.context()).await, gateway.link("scim", "bearer", vendor.context()).await);
    let installs = gateway.walk("/environment-integration").await;
    let keeper = installs.iter().find(|install| install["integration"]["name"] == "keeper").unwrap();
    let install = keeper["id"].as_str().unwrap().to_owned();
    let place = format!("/environment-integration/{install}");
    assert_eq!(gateway.call("PATCH", &place, Some(&json!({"show_in_catalog": true}))).await.status, 200);
    let made = id_of(&gateway, "/api-token", &json!({"name": "of-the-later", "scopes": ["events:read"]})).await;
    let second = id_of(&gateway, "/environment", &json!({"name": "second"})).await["id"].as_str().unwrap().to_owned();
    let mut events = gateway.walk("/event?limit=500").await;
    let end = Instant::now() + Duration::from_secs(20);
    while events.len() < 4 {
        assert!(Instant::now() < end, "{events:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
        events = gateway.walk("/event?limit=500").await;
    }
    let environment = events[0]["environment_id"].as_str().unwrap().to_owned();
    let mut ids: BTreeSet<String> = events.iter().map(|event| event["id"].as_str().unwrap().to_owned()).collect();
    assert!(gateway.stop());

    let store = &*opened(kept).await;
    let event = ids.pop_first().unwrap();
    let place = store.get(&Key { slot: Slot::new(format!("events:{environment}")), name: format!("event-id/{event}") }).await;
    let place = String::from_utf8(place.unwrap().unwrap().value.to_vec()).unwrap();
    let log = format!("events:{environment}");
    say(store, &log, &format!("event/{place}"), "/event", json!("integrated_account:moved")).await;
    // The same on its way, before one that everybody can read.
    let waiting = read(store, &log, &format!("event/{place}")).await.to_string().into_bytes();
    write(store, &good, &format!("outbox/{place}"), waiting).await;
    say(store, &account, "account", "/status", json!("archived")).await;
    say(store, &format!("env:{environment}"), "install/keeper", "/is_enabled", json!("on sundays")).await;
    let token = made["id"].as_str().unwrap().to_owned();
    say(store, &format!("token:{token}"), "token", "/token/scopes", json!(["events:read", "dreams:read"])).await;
    say(store, "rollcall", &format!("environment/{second}"), "/name", json!({"en": "second"})).await;
    say_in_audit(kept, store, &environment).await;
    let queue = |name: &str| Key { slot: Slot::new(format!("env:{environment}")), name: name.to_owned() };
    store.push(&queue("care"), "dream/of-the-later", "".into(), Duration::ZERO).await.unwrap();
    store.push(&queue("outbox"), "told-of-the-later", "webhook/7".into(), Duration::ZERO).await.unwrap();
    let token_text = made["token"].as_str().unwrap().to_owned();
    (Planted { account, install, token, token_text, environment: second, event }, good, ids)
}

/// The records of a list that says that it lacks some.
async fn lacking(node: &Gateway, list: &str) -> Vec<Value> {
    let answer = node.get(list).await;
    assert_eq!((answer.status, answer.header("rollcall-warning")), (200, Some("later_release")), "{list}: {}", answer.text());
    answer.json()["result"].as_array().unwrap().clone()
}

fn cannot_read(answer: &Answer, what: &str) {
    assert_eq!((answer.status, answer.code().as_str()), (503, "later_release"), "{what}: {}", answer.text());
    assert_eq!(answer.json()["detail"], SENTENCE, "{what}");
}

/// Whether some value of the server holds this text: queues are read by nothing else.
fn holds(server: &Server, text: &str) -> bool {
    let mut connection = server.connection();
    let keys: Vec<Vec<u8>> = redis::cmd("KEYS").arg("*").query(&mut connection).unwrap();
    let has = |bytes: &[u8]| bytes.windows(text.len()).any(|window| window == text.as_bytes());
    keys.into_iter().any(|key| {
        let kind: String = redis::cmd("TYPE").arg(&key).query(&mut connection).unwrap();
        let values: Vec<Vec<u8>> = match kind.as_str() {
            "hash" => redis::cmd("HGETALL").arg(&key).query(&mut connection).unwrap(),
            "zset" => redis::cmd("ZRANGE").arg(&key).arg(0).arg(-1).query(&mut connection).unwrap(),
            "string" => vec![redis::cmd("GET").arg(&key).query(&mut connection).unwrap()],
            _ => Vec::new(),
        };
        has(&key) || values.iter().any(|value| has(value))
    })
}

/// What a node of the earlier release answers beside those of a later one.
async fn is_sound_beside(node: &Gateway, of: &Planted, good: &str, events: &BTreeSet<String>) {
    let ids = |records: &[Value]| records.iter().map(|one| one["id"].as_str().unwrap().to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(ids(&lacking(node, "/integrated-account").await), [good.to_owned()].into());
    assert!(ids(&lacking(node, "/event?limit=500").await).is_superset(events), "no other event is passed over");
    assert!(!ids(&lacking(node, "/api-token").await).contains(&of.token));
    assert_eq!(lacking(node, "/environment").await[0]["name"], "default");
    let installs = lacking(node, "/environment-integration").await;
    assert_eq!(installs.iter().map(|one| one["integration"]["name"].clone()).collect::<Vec<_>>(), ["scim"]);
    let account = format!("/integrated-account/{}", of.account);
    let change = json!({"tenant_id": "other"});
    for (method, path, body) in [
        ("GET", account.clone(), None),
        ("PATCH", account.clone(), Some(&change)),
        ("DELETE", account, None),
        ("GET", format!("{USERS}{}", of.account), None),
        ("GET", format!("/passthrough/{}/Users", of.account), None),
        ("GET", format!("/event/{}", of.event), None),
        ("GET", format!("/api-token/{}", of.token), None),
        ("DELETE", format!("/api-token/{}", of.token), None),
        ("GET", format!("/environment/{}", of.environment), None),
        ("PATCH", format!("/environment/{}", of.environment), Some(&json!({"name": "mine"}))),
        ("GET", format!("/environment-integration/{}", of.install), None),
        ("PATCH", format!("/environment-integration/{}", of.install), Some(&json!({"is_enabled": false}))),
    ] {
        cannot_read(&node.call(method, &path, body).await, &format!("{method} {path}"));
    }
    cannot_read(&node.call_as(Some(&of.token_text), "GET", "/event", None).await, "the token");
    // Whoever must not miss one account does nothing.
    let scim = format!("/environment-integration/{}", installs[0]["id"].as_str().unwrap());
    cannot_read(&node.call("DELETE", &scim, None).await, "the end of a connector");
    let tenant = json!({"tenant_id": "acme"});
    cannot_read(&node.call("POST", "/integrated-account/bulk-delete", Some(&tenant)).await, "the end of a customer");
    let export = node.get("/export?tenant_id=acme").await.text();
    assert!(export.contains(good) && export.contains("\"complete\":false"), "{export}");
    // Everybody else is served.
    assert_eq!(node.walk(&format!("{USERS}{good}")).await.len(), 5);
    let entries = node.walk("/audit?limit=1000").await;
    assert!(entries.iter().any(|entry| entry["outcome"] == "unknown" && entry["actor"] == "administrator"), "{entries:?}");
    assert_eq!(node.get("/audit/verify").await.json()["problems"], json!([]));
    let status = node.get("/key?older_than_days=1").await;
    assert_eq!((status.status, &status.json()["data_keys"]), (200, &json!(2)), "{}", status.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn words_of_a_later_release_take_nothing_else_away() {
    for kept in Kept::each() {
        let vendor = Vendor::start();
        let (of, good, events) = planted(&kept, &vendor).await;
        let before = records_of(&kept, &of).await;
        let nodes: Vec<Gateway> = match &kept {
            Kept::Redis(..) => (0..2).map(|_| Gateway::start(&kept, &vendor.authority())).collect(),
            Kept::Embedded(_) => vec![Gateway::start(&kept, &vendor.authority())],
        };
        for node in &nodes {
            is_sound_beside(node, &of, &good, &events).await;
        }
        // What happens now is told, on every node.
        let place = format!("/integrated-account/{good}");
        for (at, node) in nodes.iter().enumerate() {
            assert_eq!(node.call("PATCH", &place, Some(&json!({"tenant_id": format!("t{at}")}))).await.status, 200);
        }
        let end = Instant::now() + Duration::from_secs(20);
        for node in nodes.iter().rev() {
            loop {
                let told = lacking(node, "/event?limit=500").await;
                if told.iter().filter(|event| event["event"] == "integrated_account:updated").count() == nodes.len() {
                    break;
                }
                assert!(Instant::now() < end, "{told:?}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        let saved = kept.folder().join("saved");
        let (code, _, err) = tokio::task::block_in_place(|| run(&mut on(&kept, &["backup", saved.to_str().unwrap()])));
        assert_eq!(code, Some(0), "{err}");
        let (code, out, err) = tokio::task::block_in_place(|| run(&mut on(&kept, &["account", "list"])));
        assert!(code == Some(0) && out.contains(&good) && !out.contains(&of.account), "{code:?} {out} {err}");
        assert!(err.contains("The list is not whole: a later release wrote records"), "{err}");
        if let Kept::Redis(server, _) = &kept {
            assert!(
                holds(server, "dream/of-the-later") && holds(server, "told-of-the-later"),
                "work of the later release is gone"
            );
        }
        for node in nodes {
            assert!(!node.said().contains("panicked"), "{}", node.said());
            assert!(node.stop());
        }
        assert_eq!(records_of(&kept, &of).await, before, "nothing that the later release wrote was changed");
    }
}

/// What the later release wrote, as it lies there.
async fn records_of(kept: &Kept, of: &Planted) -> BTreeMap<String, Vec<u8>> {
    let store = opened(kept).await;
    let mut all = BTreeMap::new();
    for slot in store.slots().await.unwrap() {
        for (name, entry) in store.scan(&slot, "", None, 10_000).await.unwrap() {
            let text = String::from_utf8_lossy(&entry.value).into_owned();
            let is_later = ["\"archived\"", "on sundays", "dreams:read", "{\"en\"", "integrated_account:moved"];
            if is_later.iter().any(|word| text.contains(word)) {
                all.insert(format!("{slot} {name}"), entry.value.to_vec());
            }
        }
    }
    assert_eq!(all.len(), 6, "{:?}, {}", all.keys(), of.account);
    all
}
