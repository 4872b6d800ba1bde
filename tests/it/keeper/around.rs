//! A caller's own command: within the lock, within the verified switch, and until a queued one has ended.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rollcall::{
    sandbox::keeper_commander::Faults,
    upstream::{Failure, Pick, transport::keeper_commander::submitted_request_id},
};
use serde_json::{Value, json};

use super::{
    bench::{at, is_context_changed, stand_in},
    raw::{V1, V2, command},
};

const USERS: &str = "enterprise-info --users --format json";

/// The caller's command, sent as the passthrough does.
async fn call(base: String, key: String, path: &'static str) -> Result<(Value, Option<String>), Failure> {
    let (status, body) = tokio::task::spawn_blocking(move || command(&base, &key, path, USERS)).await.unwrap();
    let queued = if status == 202 { submitted_request_id(body.to_string().as_bytes()) } else { None };
    Ok((body, queued))
}

#[tokio::test]
async fn a_command_runs_in_the_company_asked_for() {
    let (sandbox, _) = stand_in(Faults { users: 5, ..Faults::default() });
    let (bench, link) = at(&sandbox);
    let access = bench.linked(&link).await;
    for (company, users) in [(Some("3862"), 3), (Some("3861"), 11), (Some("8560"), 3), (None, 3)] {
        let made = bench.upstream.exclusively(&access, company, call(link.base.clone(), link.api_key.clone(), V1)).await.unwrap();
        assert_eq!(made.value["data"].as_array().unwrap().len(), users, "{company:?}");
        assert!(made.tail.is_none());
    }
    let unknown = bench.upstream.exclusively(&access, Some("999"), call(link.base.clone(), link.api_key.clone(), V1)).await;
    assert!(matches!(unknown.err().expect("a failure"), Failure::Absent(_)));
}

#[tokio::test]
async fn an_answer_from_another_company_is_not_handed_on() {
    let (sandbox, control) = stand_in(Faults { users: 0, ..Faults::default() });
    let (bench, link) = at(&sandbox);
    let access = bench.linked(&link).await;
    let spoiled = async {
        control.switch(Some(3862));
        call(link.base.clone(), link.api_key.clone(), V1).await
    };
    let failure = bench.upstream.exclusively(&access, Some("3861"), spoiled).await.err().expect("a failure");
    assert!(is_context_changed(&failure), "{failure:?}");
}

#[tokio::test]
async fn the_lock_is_kept_until_a_queued_command_has_ended() {
    let (sandbox, _) = stand_in(Faults { users: 0, delay: Duration::from_millis(700), ..Faults::default() });
    let (bench, link) = at(&sandbox);
    let access = link.access(serde_json::from_value(json!({"kind": "msp", "enterprise_id": "8560", "queue": true})).unwrap());
    let made = bench.upstream.exclusively(&access, None, call(link.base.clone(), link.api_key.clone(), V2)).await.unwrap();
    assert_eq!(made.value["status"], "queued");
    let tail = made.tail.expect("a queued command leaves something to do");
    let ended = Arc::new(AtomicBool::new(false));
    let waited = async {
        bench.upstream.exclusively(&access, None, async { Ok((ended.load(Ordering::SeqCst), None)) }).await.unwrap().value
    };
    let driven = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        ended.store(true, Ordering::SeqCst);
        tail.await;
    };
    let (was_after, ()) = tokio::join!(waited, driven);
    assert!(was_after, "the second command did not wait for the first");
}

#[tokio::test]
async fn within_a_company_the_answer_waits_for_the_command() {
    let (sandbox, _) = stand_in(Faults { users: 0, delay: Duration::from_millis(100), ..Faults::default() });
    let (bench, link) = at(&sandbox);
    let access = bench.linked(&link).await;
    let made =
        bench.upstream.exclusively(&access, Some("3862"), call(link.base.clone(), link.api_key.clone(), V2)).await.unwrap();
    assert!(made.tail.is_none());
    let id = made.value["request_id"].as_str().unwrap().to_owned();
    let (base, key) = (link.base.clone(), link.api_key.clone());
    let path = format!("/api/v2/result/{id}");
    let result =
        tokio::task::spawn_blocking(move || super::raw::send(&base, "GET", &path, &[("api-key", &key)], None)).await.unwrap();
    assert_eq!(result.status, 200);
    let users: Value = serde_json::from_slice(&result.body).unwrap();
    assert!(users["data"].as_array().unwrap().iter().all(|user| user["user_id"].as_u64().unwrap() >> 32 == 3862));
    assert_eq!(bench.visit(&access, Pick::First).await.company.unwrap().id, "8560");
}
