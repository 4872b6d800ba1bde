//! The stand-in is held against the real code: the same requests, the same status, content type and shape of the JSON.

use std::{collections::BTreeSet, time::Duration};

use rollcall::sandbox::keeper_commander::Faults;
use serde_json::{Value, json};

use super::{
    bench::stand_in,
    raw::{Answer, V1, V2, send},
};
use crate::support::peers;

/// Names and types, not values; a list is the set of its elements' shapes.
fn shape(value: &Value) -> Value {
    match value {
        Value::Object(members) => members.iter().map(|(name, value)| (name.clone(), shape(value))).collect(),
        Value::Array(items) => {
            let shapes: BTreeSet<String> = items.iter().map(|item| sorted(&shape(item))).collect();
            json!(shapes)
        }
        Value::String(_) => json!("text"),
        Value::Number(_) => json!("number"),
        Value::Bool(_) => json!("bool"),
        Value::Null => json!("null"),
    }
}

fn sorted(value: &Value) -> String {
    match value {
        Value::Object(members) => {
            let members: BTreeSet<String> = members.iter().map(|(name, value)| format!("{name}:{}", sorted(value))).collect();
            format!("{members:?}")
        }
        other => other.to_string(),
    }
}

fn seen(answer: &Answer) -> String {
    let body = match serde_json::from_slice::<Value>(&answer.body) {
        Ok(body) => sorted(&shape(&body)),
        Err(_) if answer.body.starts_with(b"<!doctype html>") => "HTML".to_owned(),
        Err(_) => "bytes".to_owned(),
    };
    format!("{} {} {body}", answer.status, answer.kind)
}

const USERS: &str = "enterprise-info --users --format json -v --columns name,status,transfer_status,node,teams,roles,alias";
const TEAMS: &str =
    "enterprise-info --teams --format json -v --columns restricts,node,user_count,users,queued_user_count,queued_users";

const COMMANDS: &[&str] = &[
    "whoami",
    "msp-down",
    "msp-info --format json",
    "msp-info --format=json -v",
    "enterprise-down",
    "enterprise-info --nodes --format json --columns parent_id",
    "switch-to-msp",
    "switch-to-mc 999",
    "switch-to-mc",
    "switch-to-mc 3861",
    "switch-to-mc 3862",
    "msp-info --format json",
    USERS,
    "enterprise-info --users --format json",
    "enterprise-info --users --format json zzz-nobody",
    "enterprise-info --users --format json --columns name,shoe_size",
    TEAMS,
    "enterprise-info --roles --format json -v --columns visible_below,default_role,admin,node",
    "enterprise-info --nodes --format json --columns parent_node,parent_id",
    "switch-to-msp",
    "msp-info --nope --format json",
    "enterprise-info --users \"abc",
    "ls",
    "ei --users --format json",
    "",
    "msp-info --format json\nlogout",
    "enterprise-info --users --format json '${HOME}'",
    "enterprise-info --users --format json -- x",
    "msp-info --format json --output out.json",
    "get --rollcall-permission-probe",
];

/// Everything asked of one service, with what it answered.
fn ask(base: &str, key: &str, is_queued: bool) -> Vec<(String, String)> {
    let json_kind = ("Content-Type", "application/json");
    let mut all = Vec::new();
    let mut note = |name: &str, answer: &Answer| all.push((name.to_owned(), seen(answer)));
    note("health", &send(base, "GET", "/health", &[], None));
    note("no key", &send(base, "POST", V1, &[json_kind], Some(br#"{"command":"whoami"}"#)));
    note("wrong key", &send(base, "POST", V1, &[json_kind, ("api-key", "nope")], Some(br#"{"command":"whoami"}"#)));
    note("unknown path", &send(base, "GET", "/api/v3/nothing", &[("api-key", key)], None));
    note("wrong method", &send(base, "GET", V1, &[("api-key", key)], None));
    for body in [r#"{"command": "#, "{}", r#"{"cmd":"x"}"#, r#"{"command":["a"]}"#] {
        note(body, &send(base, "POST", V1, &[json_kind, ("api-key", key)], Some(body.as_bytes())));
    }
    note("text", &send(base, "POST", V1, &[("Content-Type", "text/plain"), ("api-key", key)], Some(br#"{"command":"whoami"}"#)));
    note(
        "too long",
        &send(
            base,
            "POST",
            V1,
            &[json_kind, ("api-key", key)],
            Some(json!({"command": "x".repeat(4100)}).to_string().as_bytes()),
        ),
    );
    for command in COMMANDS {
        let body = json!({ "command": command }).to_string();
        note(command, &send(base, "POST", V1, &[json_kind, ("api-key", key)], Some(body.as_bytes())));
    }
    let submitted = send(base, "POST", V2, &[json_kind, ("api-key", key)], Some(br#"{"command":"msp-info --format json"}"#));
    note("submit", &submitted);
    note("unknown request", &send(base, "GET", "/api/v2/result/00000000-0000-0000-0000-000000000000", &[("api-key", key)], None));
    if is_queued {
        let id = serde_json::from_slice::<Value>(&submitted.body).unwrap()["request_id"].as_str().unwrap().to_owned();
        std::thread::sleep(Duration::from_secs(2));
        for kind in ["status", "result"] {
            note(kind, &send(base, "GET", &format!("/api/v2/{kind}/{id}"), &[("api-key", key)], None));
        }
        note("queue", &send(base, "GET", "/api/v2/queue/status", &[("api-key", key)], None));
    }
    all
}

async fn compare(args: &[&str], faults: Faults) {
    let queue = faults.queue;
    let peer = peers::commander(args);
    let (sandbox, _) = stand_in(faults);
    let (base, key) = (sandbox.base.clone(), sandbox.token.clone());
    let ours = tokio::task::spawn_blocking(move || ask(&base, &key, queue)).await.unwrap();
    let real = ask(peer.base(), peer.told("api_key"), queue);
    assert!(ours.len() > 40);
    let different = |((name, ours), (_, real)): (&(String, String), &(String, String))| {
        (ours != real).then(|| format!("{name}\n  stand-in {ours}\n  real     {real}"))
    };
    let different: Vec<String> = ours.iter().zip(&real).filter_map(different).collect();
    assert!(different.is_empty(), "{}", different.join("\n"));
}

#[tokio::test]
async fn the_stand_in_answers_as_the_real_code_with_the_queue() {
    compare(&[], Faults { users: 0, ..Faults::default() }).await;
}

#[tokio::test]
async fn the_stand_in_answers_as_the_real_code_without_the_queue_and_encrypted() {
    let key = "0123456789abcdef0123456789abcdef";
    let faults = Faults { users: 0, queue: false, encryption_key: Some(key.into()), ..Faults::default() };
    compare(&["--queue", "n", "--encryption-key", key], faults).await;
}
