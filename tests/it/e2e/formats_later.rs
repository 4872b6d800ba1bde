//! N-1 beside N: a release carries along what a later one wrote into records of every kind, and loses nothing of its own.

use std::collections::{BTreeMap, BTreeSet};

use arc_swap::ArcSwap;
use bytes::Bytes;
use rollcall::{
    model::Account,
    store::{Batch, Expect, Slot, Store, Write, repo::backup::account_of},
    vault::{AuditMark, KeyRing, Place, SealMark, SystemKeys, Vault},
};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    backup::{opened, ring},
    link::Browser,
    rotating::{Mood, Rotating, Rotation},
    vendor::Vendor,
};
use crate::support::gateway::{Gateway, Kept};

/// What the later release has besides.
pub const MEMBER: &str = "of_a_later_release";

/// How a stored value may have members that this release does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// A JSON object.
    Object,
    /// One behind its mark.
    Marked(Part),
    /// One that is sealed as links are.
    Link,
    /// One that is sealed as tokens are.
    Token,
    /// An entry of a list, which is empty as yet.
    Entry,
    /// Not at all: bytes, a text, a number, or sealed to the one call it is of.
    Bare,
}

/// Which part of the audit log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Entry,
    Head,
    Open,
}

impl Part {
    fn purpose(self) -> AuditMark {
        match self {
            Self::Entry => AuditMark::Entry,
            Self::Head => AuditMark::Head,
            Self::Open => AuditMark::Open,
        }
    }
}

/// Every kind of value that the store has at rest. Whoever adds one says here what a later release may do with it.
const FORMS: &[(&str, Form)] = &[
    ("account account", Form::Object),
    ("account data-key", Form::Bare),
    ("account data-key/use", Form::Object),
    ("account outbox", Form::Object),
    ("account token", Form::Token),
    ("account token-intent", Form::Object),
    ("audit entry", Form::Marked(Part::Entry)),
    ("audit head", Form::Marked(Part::Head)),
    ("audit open", Form::Marked(Part::Open)),
    ("env account", Form::Entry),
    ("env install", Form::Object),
    ("env link", Form::Entry),
    ("env token", Form::Entry),
    ("events event", Form::Object),
    ("events event-id", Form::Bare),
    ("idempotency reply", Form::Bare),
    ("link link", Form::Link),
    ("link unended", Form::Bare),
    ("log", Form::Bare),
    ("rollcall ended-environment", Form::Object),
    ("rollcall environment", Form::Object),
    ("rollcall environment-name", Form::Bare),
    ("rollcall format", Form::Bare),
    ("rollcall key-ring", Form::Object),
    ("rollcall system-keys", Form::Bare),
    ("token token", Form::Object),
    ("token used", Form::Bare),
];

fn kind(slot: &Slot, name: &str) -> String {
    let of = slot.as_str().split(':').next().unwrap();
    let of = if account_of(of).is_some() { "account" } else { of };
    match (of, name) {
        ("log", _) => "log".to_owned(),
        (_, "data-key/use") => format!("{of} {name}"),
        _ => format!("{of} {}", name.split('/').next().unwrap()),
    }
}

/// A stored value, found again.
type At = (Slot, String);

/// The store of a gateway that does not run, with the keys to what lies in it.
struct Inside {
    store: std::sync::Arc<dyn Store>,
    keys: SystemKeys,
    vault: Vault,
}

impl Inside {
    async fn of(kept: &Kept) -> Inside {
        let store = opened(kept).await;
        let ring = KeyRing::load(&ring(kept)).unwrap();
        let sealed = store.scan(&Slot::new("rollcall"), "system-keys", None, 1).await.unwrap().remove(0).1.value;
        let keys = SystemKeys::open(&ring, &sealed).unwrap();
        Inside { store, keys, vault: Vault::new(std::sync::Arc::new(ArcSwap::from_pointee(ring))) }
    }

    /// Every value that is there.
    async fn all(&self) -> BTreeMap<At, Bytes> {
        let mut all = BTreeMap::new();
        for slot in self.store.slots().await.unwrap() {
            for (name, entry) in self.store.scan(&slot, "", None, 10_000).await.unwrap() {
                all.insert((slot.clone(), name), entry.value);
            }
        }
        all
    }

    async fn put(&self, (slot, name): &At, value: Vec<u8>) {
        // What ends by itself goes on to do so.
        let ends = ["link", "unended", "open/"].iter().any(|kind| name.starts_with(kind));
        let ttl = ends.then_some(std::time::Duration::from_secs(3_600));
        let write = Write::Put { name: name.clone(), value: value.into(), ttl, expect: Expect::Any };
        self.store.commit(Batch { slot: slot.clone(), fence: None, writes: vec![write] }).await.unwrap();
    }

    async fn remove(&self, (slot, name): &At) {
        let write = Write::Delete { name: name.clone(), expect: Expect::Any };
        self.store.commit(Batch { slot: slot.clone(), fence: None, writes: vec![write] }).await.unwrap();
    }

    fn marked(&self, slot: &Slot, part: Part, value: &Value) -> (Vec<u8>, String) {
        let environment: Uuid = slot.as_str().strip_prefix("audit:").unwrap().parse().unwrap();
        let content = value.to_string().into_bytes();
        let mark = self.keys.audit_mark(part.purpose(), &[environment.as_bytes(), &content]);
        (([&mark[..], &content].concat()), mark.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// Opens or seals an account's token.
    async fn token(&self, slot: &Slot, work: impl FnOnce(&rollcall::vault::DataKey, Place<'_>) -> Vec<u8>) -> Vec<u8> {
        let read = async |name: &str| self.store.scan(slot, name, None, 1).await.unwrap().remove(0).1.value;
        let account: Account = serde_json::from_slice(&read("account").await).unwrap();
        let key = self.vault.data_key(account.environment, account.id, &read("data-key").await).unwrap();
        let place = Place {
            environment: account.environment,
            account: account.id,
            connector: &account.connector,
            method: &account.method,
            field: "access_token",
            fields: &account.fields,
            origins: &account.origins,
            generation: account.generation,
        };
        work(&key, place)
    }

    fn link_bound(slot: &Slot) -> Uuid {
        slot.as_str().strip_prefix("link:").unwrap().parse().unwrap()
    }

    /// What of a value is JSON.
    async fn content(&self, (slot, name): &At, form: Form, value: &[u8]) -> Value {
        let text = match form {
            Form::Object | Form::Entry => value.to_vec(),
            Form::Marked(_) => value[32..].to_vec(),
            Form::Link => {
                self.keys.open_for(SealMark::Link, &[b"record", Self::link_bound(slot).as_bytes()], value).unwrap().to_vec()
            }
            Form::Token => self.token(slot, |key, place| key.open(place, value).unwrap().to_vec()).await,
            Form::Bare => panic!("{slot} {name} has no members"),
        };
        serde_json::from_slice(&text).unwrap_or_else(|why| panic!("{slot} {name}: {why}"))
    }

    /// Writes a member into every value that can have one, as a node of the later release would have; the kinds there were.
    async fn plant(&self) -> BTreeSet<String> {
        let (mut met, mut last) = (BTreeSet::new(), BTreeMap::<Slot, String>::new());
        let later = json!({"a": [1, 2], "b": null});
        for (at, value) in self.all().await {
            let kind = kind(&at.0, &at.1);
            let previous = last.entry(at.0.clone()).or_insert_with(|| "0".repeat(64));
            let form = FORMS.iter().find(|(known, _)| *known == kind).unwrap_or_else(|| panic!("`{kind}` is not in FORMS")).1;
            met.insert(kind);
            if form == Form::Bare {
                continue;
            }
            let mut record = if form == Form::Entry { json!({}) } else { self.content(&at, form, &value).await };
            assert!(record.as_object_mut().unwrap().insert(MEMBER.to_owned(), later.clone()).is_none());
            let planted = match form {
                Form::Marked(Part::Entry) => {
                    record["previous"] = json!(previous);
                    let (bytes, mark) = self.marked(&at.0, Part::Entry, &record);
                    *previous = mark;
                    bytes
                }
                // Entries sort before it.
                Form::Marked(Part::Head) => {
                    record["hash"] = json!(previous);
                    self.marked(&at.0, Part::Head, &record).0
                }
                Form::Marked(part) => self.marked(&at.0, part, &record).0,
                Form::Link => {
                    let bound = Self::link_bound(&at.0);
                    self.keys.seal_for(SealMark::Link, &[b"record", bound.as_bytes()], record.to_string().as_bytes())
                }
                Form::Token => self.token(&at.0, |key, place| key.seal(place, record.to_string().as_bytes())).await,
                Form::Object | Form::Entry | Form::Bare => record.to_string().into_bytes(),
            };
            self.put(&at, planted).await;
        }
        met
    }

    /// The kinds of which some value has the member, and those of which some value has lost it.
    async fn carried(&self) -> (BTreeSet<String>, BTreeSet<String>) {
        let (mut carried, mut lost) = (BTreeSet::new(), BTreeSet::new());
        for (at, value) in self.all().await {
            let kind = kind(&at.0, &at.1);
            let Some((_, form)) = FORMS.iter().find(|(known, _)| *known == kind) else { continue };
            if *form == Form::Bare || value.is_empty() {
                continue;
            }
            match self.content(&at, *form, &value).await.get(MEMBER) {
                Some(_) => carried.insert(kind),
                None => lost.insert(kind),
            };
        }
        (carried, lost)
    }

    /// An action that a node of the later release has begun and not ended, and an event that it has not told yet.
    async fn plant_unfinished(&self) {
        let all = self.all().await;
        let audit = all.keys().map(|(slot, _)| slot).find(|slot| slot.as_str().starts_with("audit:")).unwrap().clone();
        let id = Uuid::now_v7();
        let ago = jiff::Timestamp::now() - jiff::SignedDuration::from_mins(20);
        let begun = json!({"id": id, "began_at": ago, "actor": "of-the-later", "token_id": null, "action": "thing.later",
            "target_kind": null, "target_id": null, "account": null, "tenant": null, "request_id": null});
        self.put(&(audit.clone(), format!("open/{id}")), self.marked(&audit, Part::Open, &begun).0).await;
        let ((log, name), event) = all.iter().find(|((_, name), _)| name.starts_with("event/")).unwrap();
        let account = serde_json::from_slice::<Value>(event).unwrap()["integrated_account_id"].as_str().unwrap().to_owned();
        let place = name.strip_prefix("event/").unwrap();
        self.put(&(Slot::new(account), format!("outbox/{place}")), event.to_vec()).await;
        self.remove(&(log.clone(), name.clone())).await;
    }
}

const USERS: &str = "/unified/user-directory/users?integrated_account_id=";

/// What is shown of everything, but for times that go on.
async fn shown(gateway: &Gateway) -> Value {
    let mut all = json!({});
    for list in ["/integrated-account", "/api-token", "/environment", "/environment-integration", "/event?limit=500"] {
        let answer = gateway.get(list).await;
        assert_eq!((answer.status, answer.header("rollcall-warning")), (200, None), "{list}: {}", answer.text());
        let mut records = answer.json()["result"].as_array().unwrap().clone();
        for record in &mut records {
            let record = record.as_object_mut().unwrap();
            let goes_on = |name: &str| name.starts_with("next_") || name.starts_with("last_") || name.ends_with("ed_at");
            record.retain(|name, _| !goes_on(name));
        }
        all[list] = json!(records);
    }
    all
}

async fn done(gateway: &Gateway, method: &str, path: &str, body: &Value) -> Value {
    let answer = gateway.call(method, path, Some(body)).await;
    assert!(answer.status < 300, "{method} {path}: {} {}", answer.status, answer.text());
    answer.json()
}

/// The install of `scim`.
async fn install(gateway: &Gateway) -> String {
    let all = gateway.walk("/environment-integration").await;
    let scim = all.iter().find(|install| install["integration"]["name"] == "scim").unwrap();
    format!("/environment-integration/{}", scim["id"].as_str().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_of_a_later_release_do_no_harm_and_are_carried_along() {
    for kept in Kept::each() {
        let (vendor, rotating) = (Vendor::start(), Rotating::start(Rotation::Grace, 0..5));
        let allow = format!("{},{}", vendor.authority(), rotating.vendor.authority());
        let gateway = Gateway::start(&kept, &allow);
        let plain = gateway.link("scim", "bearer", vendor.context()).await;
        let consent = gateway.link("scim", "oauth2", rotating.grant(7, 3_600)).await;
        let token = gateway.token(&["directory:read"]).await;
        assert_eq!(gateway.call_as(Some(&token), "GET", &format!("{USERS}{plain}"), None).await.status, 200);
        let app = json!({"override": {"credentials": {"oauth2": {"client_id": "mine", "client_secret": "synthetic"}}}});
        done(&gateway, "PATCH", &install(&gateway).await, &app).await;
        let other = done(&gateway, "POST", "/environment", &json!({"name": "second"})).await["id"].as_str().unwrap().to_owned();
        let ended = done(&gateway, "POST", "/environment", &json!({"name": "ended"})).await;
        let (its_token, own) = (ended["api_token"]["token"].as_str().unwrap(), ended["api_token"]["id"].as_str().unwrap());
        let end = format!("/api-token/{own}");
        assert_eq!(gateway.call_as(Some(its_token), "DELETE", &end, None).await.status, 200);
        let place = format!("/environment/{}", ended["id"].as_str().unwrap());
        assert_eq!(gateway.call("DELETE", &place, None).await.status, 200);
        let link = done(&gateway, "POST", "/link-token", &json!({"tenant_id": "acme"})).await;
        let key = [("idempotency-key", "once")];
        let new = json!({"name": "third", "scopes": ["events:read"]});
        let admin = crate::support::gateway::ADMIN;
        assert_eq!(gateway.call_with(admin, &key, "POST", "/api-token", Some(&new)).await.status, 201);
        // A refresh whose end nobody knows leaves its intent.
        rotating.end_access();
        rotating.set_mood(Some(Mood::Silence));
        assert_ne!(gateway.get(&format!("{USERS}{consent}")).await.status, 200);
        rotating.set_mood(None);
        while gateway.get("/event?limit=500").await.json()["result"].as_array().unwrap().len() < 4 {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        let before = shown(&gateway).await;
        assert!(gateway.stop());

        let inside = Inside::of(&kept).await;
        inside.plant_unfinished().await;
        let met = inside.plant().await;
        assert_eq!(met, FORMS.iter().map(|(kind, _)| (*kind).to_owned()).collect(), "every kind was there");
        drop(inside);

        // Everything is read as before, the event that was on its way too.
        let gateway = Gateway::start(&kept, &allow);
        while gateway.get("/event?limit=500").await.json()["result"].as_array().unwrap().len()
            < before["/event?limit=500"].as_array().unwrap().len()
        {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        assert_eq!(shown(&gateway).await, before);
        assert_eq!(gateway.call_as(Some(&token), "GET", &format!("{USERS}{plain}"), None).await.status, 200);
        assert_eq!(gateway.get(&format!("{USERS}{consent}")).await.status, 200, "refreshed after its intent");
        let again = gateway.call_with(admin, &key, "POST", "/api-token", Some(&new)).await;
        assert_eq!((again.status, again.header("idempotent-replayed")), (201, Some("true")), "{}", again.text());
        let entries = gateway.walk("/audit").await;
        let left = entries.iter().find(|entry| entry["action"] == "thing.later").expect("the action that was begun");
        assert_eq!(left["outcome"], "unknown");
        let text = link["link_token"].as_str().unwrap();
        assert_eq!(Browser::new(&gateway).open(text, "").await.status, 200);
        let export = gateway.get("/export?tenant_id=acme").await.text();
        assert!(export.contains("\"complete\":true") && !export.contains(MEMBER), "{export}");

        // Everything is changed.
        for account in [&plain, &consent] {
            let place = format!("/integrated-account/{account}");
            assert_eq!(done(&gateway, "PATCH", &place, &json!({"tenant_id": "other"})).await["tenant_id"], "other");
        }
        let credential = json!({"context": vendor.context()});
        done(&gateway, "PATCH", &format!("/integrated-account/{plain}"), &credential).await;
        let hidden = done(&gateway, "PATCH", &install(&gateway).await, &json!({"show_in_catalog": false})).await;
        assert_eq!(hidden["show_in_catalog"], false);
        assert_eq!(done(&gateway, "PATCH", &format!("/environment/{other}"), &json!({"name": "2"})).await["name"], "2");
        let place = format!("/link-token/{}", link["id"].as_str().unwrap());
        assert_eq!(gateway.call("DELETE", &place, None).await.status, 200);
        assert_eq!(Browser::new(&gateway).open(text, "").await.status, 410);
        assert_eq!(gateway.get("/audit/verify").await.json()["problems"], json!([]));
        assert!(!gateway.said().contains("panicked"), "{}", gateway.said());
        assert!(gateway.stop());

        let inside = Inside::of(&kept).await;
        let (carried, lost) = inside.carried().await;
        let kinds: BTreeSet<&str> = ["account account", "env install", "rollcall environment", "link link", "audit head"].into();
        let there: BTreeSet<&str> = carried.iter().map(String::as_str).collect();
        assert!(kinds.is_subset(&there), "{carried:?}");
        // What is made anew as a whole is as this release makes it: entries, events and the tokens that a vendor gave.
        let anew: BTreeSet<&str> =
            ["account token", "account data-key/use", "account outbox", "audit entry", "events event"].into();
        let lost: BTreeSet<&str> = lost.iter().map(String::as_str).collect();
        assert!(lost.is_subset(&anew), "lost of {lost:?}");
        drop(inside);

        // And under other keys.
        let gateway = Gateway::start(&kept, &allow);
        let rewrapped = done(&gateway, "POST", "/key/rewrap", &json!({"data_keys": true})).await;
        assert_eq!((&rewrapped["rewrapped"], &rewrapped["left"]), (&json!(2), &json!(0)), "{rewrapped}");
        for account in [&plain, &consent] {
            assert_eq!(gateway.get(&format!("{USERS}{account}")).await.status, 200);
            assert_eq!(gateway.call("DELETE", &format!("/integrated-account/{account}"), None).await.status, 200);
        }
        assert!(gateway.stop());
        let left: Vec<At> = Inside::of(&kept).await.all().await.into_keys().filter(|(slot, _)| slot.as_str() == plain).collect();
        assert!(left.iter().all(|(_, name)| name.starts_with("outbox/")), "{left:?}");
    }
}
