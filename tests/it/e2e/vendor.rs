//! A SCIM vendor on loopback that answers well until it is told to misbehave, and what the tests say about problems.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};

use crate::{
    connector::replay::{Replay, Reply, Seen},
    support::gateway::{Answer, Gateway},
};

/// The credential; it must never be seen anywhere.
pub const SECRET: &str = "a-secret-that-nobody-may-see-5f0c";

/// How the vendor behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Mood {
    /// As RFC 7644 says: five users.
    Good,
    /// The same, but takes its time.
    Slow,
    /// The same, but takes a very long time.
    Late,
    /// A page for people instead of an answer, with status 200.
    Html,
    /// JSON that ends in the middle, though its length is right.
    CutJson,
    /// The connection ends in the middle of the body.
    CutBody,
    /// Accepts the request and says nothing.
    Silent,
    /// Repeats the first page past the end, with the index it was asked for.
    Loop,
    /// Answers an empty page in the middle.
    Hole,
    /// Does not accept the credential.
    Unauthorized,
    /// Has nothing at this address.
    Elsewhere,
}

const MOODS: [Mood; 11] = [
    Mood::Good,
    Mood::Slow,
    Mood::Late,
    Mood::Html,
    Mood::CutJson,
    Mood::CutBody,
    Mood::Silent,
    Mood::Loop,
    Mood::Hole,
    Mood::Unauthorized,
    Mood::Elsewhere,
];

/// The vendor.
pub struct Vendor {
    replay: Replay,
    mood: Arc<AtomicU8>,
}

impl Vendor {
    /// In a good mood.
    pub fn start() -> Vendor {
        let mood = Arc::new(AtomicU8::new(Mood::Good as u8));
        let now = mood.clone();
        Vendor { replay: Replay::start(move |seen| answer(MOODS[usize::from(now.load(Ordering::SeqCst))], seen)), mood }
    }

    /// Changes how it behaves.
    pub fn set(&self, mood: Mood) {
        self.mood.store(mood as u8, Ordering::SeqCst);
    }

    /// Its base address.
    pub fn base(&self) -> String {
        format!("http://127.0.0.1:{}/scim", self.replay.port)
    }

    /// `host:port` for `ROLLCALL_EGRESS_ALLOW`.
    pub fn authority(&self) -> String {
        format!("127.0.0.1:{}", self.replay.port)
    }

    /// Requests it has seen.
    pub fn asked(&self) -> usize {
        self.replay.seen().len()
    }

    /// What links it.
    pub fn context(&self) -> Value {
        json!({"base_url": self.base(), "token": SECRET})
    }

    /// The body that links it.
    pub fn import(&self) -> Value {
        json!({"tenant_id": "acme", "integration": "scim", "authentication_method": "bearer", "context": self.context()})
    }
}

fn answer(mood: Mood, seen: &Seen) -> Reply {
    if seen.header("authorization") != Some(&format!("Bearer {SECRET}")) {
        return Reply::json(401, r#"{"schemas":["urn:ietf:params:scim:api:messages:2.0:Error"],"status":"401"}"#);
    }
    match mood {
        Mood::Unauthorized => Reply::json(401, r#"{"detail":"The token has ended."}"#),
        Mood::Elsewhere => Reply::json(404, "{}"),
        Mood::Html => Reply {
            status: 200,
            headers: vec![("content-type".into(), "text/html".into())],
            body: b"<!doctype html><title>Sign in</title>".to_vec(),
            cut: None,
        },
        Mood::CutJson => Reply::json(200, &page(1, 5)[..60]),
        Mood::CutBody => Reply { cut: Some(60), ..Reply::json(200, page(1, 5)) },
        Mood::Silent => {
            std::thread::sleep(Duration::from_secs(20));
            Reply::json(200, page(1, 5))
        }
        _ if seen.path.ends_with("/ServiceProviderConfig") => Reply::json(404, "{}"),
        _ if !seen.path.ends_with("/Users") => Reply::json(404, "{}"),
        Mood::Slow | Mood::Late => {
            std::thread::sleep(Duration::from_millis(if mood == Mood::Slow { 300 } else { 5_000 }));
            answer(Mood::Good, seen)
        }
        Mood::Good => Reply::json(200, page(number(seen, "startIndex"), number(seen, "count"))),
        Mood::Hole if number(seen, "startIndex") > 1 => Reply::json(200, r#"{"totalResults":5,"startIndex":3,"Resources":[]}"#),
        Mood::Hole => Reply::json(200, page(1, number(seen, "count"))),
        Mood::Loop => Reply::json(200, repeated(number(seen, "startIndex"), number(seen, "count"))),
    }
}

/// `startIndex` or `count` of a list's query.
pub fn number(seen: &Seen, name: &str) -> usize {
    let value = seen.query.iter().find(|(key, _)| key == name).and_then(|(_, value)| value.parse().ok());
    value.unwrap_or(if name == "count" { 100 } else { 1 })
}

fn user(id: usize) -> Value {
    json!({"id": id.to_string(), "userName": format!("user{id}@vendor.example"), "active": id != 5,
        "emails": [{"value": format!("user{id}@vendor.example"), "primary": true}]})
}

fn list(first: usize, total: usize, resources: &[Value]) -> String {
    json!({"schemas": ["urn:ietf:params:scim:api:messages:2.0:ListResponse"], "totalResults": total, "startIndex": first,
        "itemsPerPage": resources.len(), "Resources": resources})
    .to_string()
}

fn page(first: usize, count: usize) -> String {
    let resources: Vec<Value> = (first..=5).take(count).map(user).collect();
    list(first, 5, &resources)
}

fn repeated(first: usize, count: usize) -> String {
    let resources: Vec<Value> = (1..=count).map(user).collect();
    list(first, 1_000, &resources)
}

/// Checks that the answer is a problem of this status, code and origin; gives the document.
pub fn problem(answer: &Answer, status: u16, code: &str, origin: &str) -> Value {
    let text = answer.text();
    assert_eq!((answer.status, answer.code().as_str()), (status, code), "{text}");
    assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{text}");
    assert_eq!(answer.header("rollcall-error"), Some(code), "{text}");
    let document = answer.json();
    assert_eq!(document["origin"], origin, "{text}");
    assert_eq!((&document["status"], &document["statusCode"]), (&json!(status), &json!(status)), "{text}");
    assert_eq!(document["type"], format!("/errors/{code}"), "{text}");
    assert!(document["request_id"].as_str().is_some_and(|id| !id.is_empty()), "{text}");
    assert!(document["detail"].as_str().is_some_and(|detail| detail.len() > 10), "{text}");
    assert!(!text.contains(SECRET), "the secret is shown: {text}");
    document
}

/// The same, naming a field.
pub fn names(answer: &Answer, status: u16, code: &str, field: &str) -> Value {
    let document = problem(answer, status, code, "gateway");
    assert_eq!(document["field"], field, "{document}");
    document
}

/// Ids of all linked accounts.
pub async fn accounts(gateway: &Gateway) -> Vec<String> {
    let list = gateway.get("/integrated-account?limit=5000").await.json();
    list["result"].as_array().unwrap().iter().map(|account| account["id"].as_str().unwrap().to_owned()).collect()
}

/// Nothing panicked and no secret was written.
pub fn is_sound(gateway: &Gateway) {
    let said = gateway.said();
    assert!(!said.contains("panicked"), "{said}");
    assert!(!said.contains(SECRET), "a secret is in the log:\n{said}");
}

/// A copy of the built-in connector `scim` in `folder/scim`, each file passed through `change`.
pub fn overlay(folder: &Path, change: impl Fn(&str, String) -> String) {
    let (from, to) = (Path::new(env!("CARGO_MANIFEST_DIR")).join("connectors/scim"), folder.join("scim"));
    std::fs::create_dir_all(&to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap).filter(|entry| entry.path().is_file()) {
        let name = entry.file_name().into_string().unwrap();
        let text = std::fs::read_to_string(entry.path()).unwrap();
        put(&to.join(&name), &change(&name, text));
    }
}

/// Writes a file of an overlay at once: a gateway that looks meanwhile sees the old one or the new one.
pub fn put(path: &Path, text: &str) {
    let aside = tempfile::NamedTempFile::new_in(path.ancestors().nth(3).unwrap()).unwrap();
    std::fs::write(aside.path(), text).unwrap();
    aside.persist(path).unwrap();
}
