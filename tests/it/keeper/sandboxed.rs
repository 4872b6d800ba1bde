//! The transport's own behaviour, at the stand-in: what a key lacks, what a service refuses, what somebody else does.

use std::time::{Duration, Instant};

use rollcall::{
    error::{Code, Error},
    model::Resource,
    sandbox::keeper_commander::Faults,
    upstream::{Failure, Pick},
};
use serde_json::json;

use super::bench::{at, mapped, records, stand_in, users};

const KEY: &str = "0123456789abcdef0123456789abcdef";

fn with(change: impl FnOnce(&mut Faults)) -> Faults {
    // Without the queue a command answers at once; the queue has tests of its own.
    let mut faults = Faults { users: 10, queue: false, ..Faults::default() };
    change(&mut faults);
    faults
}

#[tokio::test]
async fn a_wrong_key_is_refused_in_the_services_words() {
    let (sandbox, _) = stand_in(with(|_| {}));
    let (bench, mut link) = at(&sandbox);
    link.api_key = "nonsense".into();
    let refusal = bench.refusal(&link).await;
    assert!(refusal.contains("Please provide a valid api key"), "{refusal}");
}

#[tokio::test]
async fn missing_commands_are_named_with_the_whole_list() {
    let (sandbox, _) = stand_in(with(|faults| faults.commands.retain(|word| !["msp-down", "whoami"].contains(&word.as_str()))));
    let (bench, link) = at(&sandbox);
    let refusal = bench.refusal(&link).await;
    assert!(refusal.contains("may not run whoami, msp-down"), "{refusal}");
    assert!(refusal.contains("whoami,enterprise-down,enterprise-info,msp-down,msp-info"), "{refusal}");
}

#[tokio::test]
async fn a_key_that_may_show_records_is_warned_about() {
    let (sandbox, _) = stand_in(with(|faults| faults.commands.push("get".into())));
    let (bench, link) = at(&sandbox);
    let warnings = bench.warnings(&link).await;
    assert_eq!(warnings[0].code, "vault_commands_permitted");
    assert!(warnings[0].message.contains("may also run get,"), "{}", warnings[0].message);
    let (sandbox, _) = stand_in(with(|_| {}));
    let (bench, link) = at(&sandbox);
    assert!(bench.warnings(&link).await.is_empty());
}

#[tokio::test]
async fn encryption_needs_the_right_key() {
    let (sandbox, _) = stand_in(with(|faults| faults.encryption_key = Some(KEY.into())));
    let (bench, link) = at(&sandbox);
    for link in [link.clone(), link.clone().key("ffffffffffffffffffffffffffffffff")] {
        let refusal = bench.refusal(&link).await;
        assert!(refusal.contains("`encryption_key`") && refusal.contains("reauth_required"), "{refusal}");
    }
    let access = bench.linked(&link.key(KEY)).await;
    assert_eq!(access.facts["encrypted"], true);
    assert_eq!(bench.visit(&access, Pick::First).await.company.unwrap().id, "8560");
}

#[tokio::test]
async fn a_key_nobody_needs_is_mentioned() {
    let (sandbox, _) = stand_in(with(|_| {}));
    let (bench, link) = at(&sandbox);
    let warnings = bench.warnings(&link.key(KEY)).await;
    assert_eq!(warnings.iter().map(|warning| warning.code.as_str()).collect::<Vec<_>>(), ["encryption_unused"]);
}

#[tokio::test]
async fn an_enterprise_that_manages_nobody_is_read_alone() {
    let (sandbox, _) = stand_in(with(|faults| faults.is_msp = false));
    let (bench, link) = at(&sandbox);
    let access = bench.linked(&link).await;
    assert_eq!((&access.facts["kind"], &access.facts["managed_companies"]), (&json!("enterprise"), &json!(0)));
    let visit = bench.visit(&access, Pick::First).await;
    assert!(visit.rest.is_empty());
    assert_eq!(records(&visit, Resource::Organization).len(), 1);
    assert!(bench.visit(&access, Pick::After("8560".into())).await.company.is_none());
}

#[tokio::test]
async fn an_account_of_one_company_sees_that_company_alone() {
    let (sandbox, _) = stand_in(with(|_| {}));
    let (bench, link) = at(&sandbox);
    let access = bench.linked(&link.clone().company("3862")).await;
    assert_eq!(access.facts["company_name"], "Contoso Legal, LLP");
    let visit = bench.visit(&access, Pick::First).await;
    assert_eq!(visit.company.as_ref().unwrap().id, "3862");
    assert!(visit.rest.is_empty());
    assert_eq!(records(&visit, Resource::User).len(), 3);
    let companies = mapped(&access, &visit, Resource::Organization, Resource::Organization);
    assert_eq!(companies.len(), 1);
    assert_eq!(companies[0].0["id"], "3862");
    for other in ["8560", "3861", "1"] {
        assert!(bench.visit(&access, Pick::Exactly(other.into())).await.company.is_none(), "{other}");
    }
    let refusal = bench.refusal(&link.company("999")).await;
    assert!(refusal.contains("`company_id`") && refusal.contains("999"), "{refusal}");
}

#[tokio::test]
async fn a_refused_company_is_a_warning_and_the_walk_goes_on() {
    let (sandbox, _) = stand_in(with(|faults| faults.refused = vec![3861]));
    let (bench, link) = at(&sandbox);
    let access = bench.linked(&link.clone()).await;
    let visits = bench.walk(&access).await;
    assert_eq!(visits.len(), 4);
    let warning = visits[1].refused.as_ref().unwrap();
    assert_eq!(warning.code, "company_refused");
    assert!(warning.message.contains("Northwind Dental") && warning.message.contains("3861"), "{}", warning.message);
    assert!(visits[1].records.is_empty());
    assert_eq!(records(&visits[2], Resource::User).len(), 3);
    let refusal = bench.refusal(&link.company("3861")).await;
    assert!(refusal.contains("Not an administrator"), "{refusal}");
}

#[tokio::test]
async fn old_shapes_give_the_same_groups() {
    let (old, _) = stand_in(with(|faults| faults.old_shapes = true));
    let (new, _) = stand_in(with(|_| {}));
    let mut seen = Vec::new();
    for sandbox in [&old, &new] {
        let (bench, link) = at(sandbox);
        let access = bench.linked(&link).await;
        let visit = bench.visit(&access, Pick::Exactly("3861".into())).await;
        let users = users(&access, &visit);
        let ben = &users["ben@northwind.example"];
        seen.push((
            ben["groups"].clone(),
            ben["roles"][0]["name"].clone(),
            ben["workspaces"][0]["name"].clone(),
            ben["status"].clone(),
        ));
    }
    assert_eq!(seen[0], seen[1]);
    assert_eq!(seen[0].0[0]["id"], "3861:18opBFrGJyh6FbsK1-WwAQ");
    assert_eq!(seen[0].2, "Northwind Dental\\Clinic");
}

/// Somebody else's switch after any number of commands: the visit is right or an error, never another company's records.
#[tokio::test]
async fn an_intruder_never_brings_a_wrong_record() {
    let (sandbox, control) = stand_in(with(|_| {}));
    let (bench, link) = at(&sandbox);
    let access = bench.linked(&link).await;
    let before = control.runs();
    bench.visit(&access, Pick::Exactly("3861".into())).await;
    let commands = control.runs() - before;
    for intruder in [None, Some(3862), Some(3863)] {
        for after in 0..=commands {
            let (sandbox, _) = stand_in(with(|faults| faults.intruder = Some((after, intruder))));
            let (bench, link) = at(&sandbox);
            let access = link.access(access.facts.clone());
            match bench.upstream.visit(&access, &Pick::Exactly("3861".into())).await {
                Ok(visit) => {
                    assert_eq!(visit.company.as_ref().unwrap().id, "3861");
                    assert!(visit.refused.is_none(), "{after} {:?}", visit.refused);
                    for user in records(&visit, Resource::User) {
                        assert_eq!(user["user_id"].as_u64().unwrap() >> 32, 3861, "after {after}");
                    }
                    assert_eq!(records(&visit, Resource::User).len(), 16);
                    assert_eq!(records(&visit, Resource::Group).len(), 3);
                }
                Err(failure) => assert_eq!(Error::from(failure).code(), Code::VendorContextChanged, "after {after}"),
            }
        }
    }
}

#[tokio::test]
async fn the_limiter_is_waited_for() {
    let (sandbox, _) = stand_in(with(|faults| faults.rate_limit = Some((12, 2))));
    let (bench, link) = at(&sandbox);
    let access = bench.linked(&link).await;
    assert_eq!(bench.walk(&access).await.len(), 4);
}

#[tokio::test]
async fn a_limiter_of_hours_and_a_throttle_beyond_the_deadline_are_told() {
    let (sandbox, _) = stand_in(with(|faults| faults.rate_limit = Some((1, 3600))));
    let (bench, link) = at(&sandbox);
    let error = rate_limited(bench.upstream.test(&link.access(Default::default())).await.err());
    assert_eq!(error.wait_seconds(), Some(300));

    let words = "Due to repeated attempts, your request has been throttled. Try again in 2 minutes.";
    let (sandbox, _) = stand_in(with(|faults| faults.throttle = Some((1, words.into()))));
    let (bench, link) = at(&sandbox);
    let began = Instant::now();
    let error = rate_limited(bench.upstream.test(&link.timeout(20).access(Default::default())).await.err());
    assert_eq!(error.wait_seconds(), Some(120));
    assert_eq!(error.http_status(), 429);
    assert!(error.detail().contains("throttled"));
    assert!(began.elapsed() < Duration::from_secs(15));
}

fn rate_limited(failure: Option<Failure>) -> Error {
    let error = Error::from(failure.expect("a failure"));
    assert_eq!(error.code(), Code::VendorRateLimited);
    error
}

#[tokio::test]
async fn a_short_throttle_is_waited_for() {
    let (sandbox, _) = stand_in(with(|faults| faults.throttle = Some((9, "throttled, try again in 1 second".into()))));
    let (bench, link) = at(&sandbox);
    let access = bench.linked(&link).await;
    assert_eq!(records(&bench.visit(&access, Pick::Exactly("3862".into())).await, Resource::User).len(), 3);
}

#[tokio::test]
async fn an_expired_session_is_asked_once_more_and_a_lost_login_is_reauth() {
    let (sandbox, _) = stand_in(with(|faults| faults.expired_sessions = 1));
    let (bench, link) = at(&sandbox);
    bench.linked(&link).await;
    let (sandbox, _) = stand_in(with(|faults| faults.needs_login = true));
    let (bench, link) = at(&sandbox);
    let refusal = bench.refusal(&link).await;
    assert!(refusal.starts_with("reauth_required") && refusal.contains("sign in again"), "{refusal}");
}

#[tokio::test]
async fn a_queue_is_polled_until_the_command_is_done() {
    let (sandbox, _) = stand_in(with(|faults| (faults.queue, faults.delay) = (true, Duration::from_millis(500))));
    let (bench, link) = at(&sandbox);
    let access = link.access(serde_json::from_value(json!({"kind": "msp", "enterprise_id": "8560"})).unwrap());
    assert_eq!(records(&bench.visit(&access, Pick::First).await, Resource::User).len(), 3);
}

#[tokio::test]
async fn a_slow_service_ends_in_a_time_out() {
    let (sandbox, _) = stand_in(with(|faults| (faults.queue, faults.delay) = (true, Duration::from_secs(60))));
    let (bench, link) = at(&sandbox);
    let failure = bench.upstream.test(&link.timeout(2).access(Default::default())).await.err().expect("a failure");
    assert!(matches!(failure, Failure::TimedOut(2)), "{failure:?}");
}

#[tokio::test]
async fn two_readers_of_one_service_take_turns() {
    let (sandbox, _) = stand_in(with(|faults| faults.delay = Duration::from_millis(20)));
    let (bench, link) = at(&sandbox);
    let facts = bench.linked(&link).await.facts.clone();
    let (one, other) = (link.access(facts.clone()), link.access(facts));
    let (first, second) = (Pick::Exactly("3861".into()), Pick::Exactly("3862".into()));
    let (one, other) = tokio::join!(bench.upstream.visit(&one, &first), bench.upstream.visit(&other, &second));
    assert_eq!(records(&one.unwrap(), Resource::User).len(), 16);
    assert_eq!(records(&other.unwrap(), Resource::User).len(), 3);
}
