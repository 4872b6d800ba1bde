//! Against the real Commander Service Mode code.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};
use std::time::Duration;

use rollcall::{
    error::{Code, Error},
    model::Resource,
    upstream::{Access, Pick, Visit, transport::keeper_commander::Command},
};
use serde_json::{Map, Value, json};

use super::{
    bench::{Bench, Link, is_context_changed, mapped, records, users},
    raw::{V1, command},
};
use crate::support::peers;

const KEY: &str = "0123456789abcdef0123456789abcdef";

fn link(peer: &peers::Peer) -> Link {
    Link::new(peer.base(), peer.told("api_key"))
}

#[tokio::test]
async fn every_company_is_read_in_order() {
    let peer = peers::commander(&[]);
    let bench = Bench::new(peer.base());
    let access = bench.linked(&link(&peer)).await;
    assert_eq!(access.facts["kind"], "msp");
    assert_eq!(access.facts["enterprise_id"], "8560");
    assert_eq!(access.facts["queue"], true);
    assert_eq!(access.facts["aram"], true);
    assert!(access.facts["user_digest"].is_string() && !serde_json::to_string(&access.facts).unwrap().contains('@'));

    let visits = bench.walk(&access).await;
    let ids: Vec<&str> = visits.iter().map(|visit| visit.company.as_ref().unwrap().id.as_str()).collect();
    assert_eq!(ids, ["8560", "3861", "3862", "3863"]);
    assert!(visits.iter().all(|visit| visit.refused.is_none()));
    let counts: Vec<usize> = visits.iter().map(|visit| records(visit, Resource::User).len()).collect();
    assert_eq!(counts, [3, 6, 3, 0]);
    let companies = mapped(&access, &visits[0], Resource::Organization, Resource::Organization);
    let companies: Vec<&Value> = companies.iter().map(|(company, _)| &company["id"]).collect();
    assert_eq!(companies, ["8560", "3861", "3862", "3863"]);
    let me = records(&visits[0], Resource::Me);
    assert_eq!(me[0]["email"], "msp.admin@acme-msp.example");
    assert!(!visits[1].records.contains_key(&Resource::Organization));
}

#[tokio::test]
async fn a_company_is_mapped_whole() {
    let peer = peers::commander(&[]);
    let bench = Bench::new(peer.base());
    let access = bench.linked(&link(&peer)).await;
    let visit = bench.visit(&access, Pick::Exactly("3861".into())).await;
    let users = users(&access, &visit);
    let ada = &users["ada@northwind.example"];
    assert_eq!(ada["id"], "16582868730057");
    assert_eq!(ada["is_2fa_enabled"], true);
    assert_eq!(ada["title"], "Practice Manager");
    assert_eq!(ada["aliases"], json!(["ada.old@northwind.example"]));
    assert_eq!(ada["organizations"], json!([{"id": "3861", "name": "Northwind Dental"}]));
    assert_eq!(ada["groups"], json!([{"id": "3861:18opBFrGJyh6FbsK1-WwAQ", "name": "Front Desk", "organization": "3861"}]));
    assert_eq!(users["fay@northwind.example"]["name"], "Fay \"Quote\" O'Neil, Jr.");
    assert_eq!(users["ben@northwind.example"]["name"], "Ben Ünïcode");
    let teams = mapped(&access, &visit, Resource::Group, Resource::Group);
    let states: Vec<(&Value, &Value)> = teams.iter().map(|(team, _)| (&team["name"], &team["status"])).collect();
    assert_eq!(
        states,
        [
            (&json!("Clinicians"), &json!("active")),
            (&json!("Front Desk"), &json!("active")),
            (&json!("SCIM Pending Team"), &json!("pending"))
        ]
    );
    let nodes = mapped(&access, &visit, Resource::Workspace, Resource::Workspace);
    assert_eq!(nodes.len(), 3);
    assert_eq!(nodes[0].0["organization"], json!({"id": "3861", "name": "Northwind Dental"}));
    let roles = mapped(&access, &visit, Resource::Role, Resource::Role);
    assert_eq!(roles[1].0["name"], "Keeper Administrator");
    assert_eq!(roles[1].0["type"], "admin");
}

/// The same company, whatever the service's settings.
async fn northwind(args: &[&str]) -> (Arc<Access>, Visit) {
    let peer = peers::commander(args);
    let bench = Bench::new(peer.base());
    let link = if args.contains(&KEY) { link(&peer).key(KEY) } else { link(&peer) };
    let access = bench.linked(&link).await;
    assert_eq!(access.facts["queue"], !args.contains(&"n"));
    assert_eq!(access.facts["encrypted"], args.contains(&KEY));
    let visit = bench.visit(&access, Pick::Exactly("3861".into())).await;
    (access, visit)
}

#[tokio::test]
async fn without_the_queue_and_with_encryption_the_records_are_the_same() {
    let (plain, direct, sealed) =
        tokio::join!(northwind(&[]), northwind(&["--queue", "n"]), northwind(&["--encryption-key", KEY]));
    for resource in [Resource::User, Resource::Group, Resource::Role, Resource::Workspace] {
        let rows = records(&plain.1, resource);
        assert!(!rows.is_empty());
        assert_eq!(rows, records(&direct.1, resource));
        assert_eq!(rows, records(&sealed.1, resource));
    }
}

#[tokio::test]
async fn encryption_without_the_key_or_with_a_wrong_one_says_so() {
    let peer = peers::commander(&["--encryption-key", KEY]);
    let bench = Bench::new(peer.base());
    for link in [link(&peer), link(&peer).key("ffffffffffffffffffffffffffffffff")] {
        let refusal = bench.refusal(&link).await;
        assert!(refusal.contains("`encryption_key`"), "{refusal}");
    }
}

#[tokio::test]
async fn a_thousand_users_come_whole() {
    let peer = peers::commander(&["--users", "1000"]);
    let bench = Bench::new(peer.base());
    let access = bench.linked(&link(&peer)).await;
    let visit = bench.visit(&access, Pick::Exactly("3861".into())).await;
    assert_eq!(users(&access, &visit).len(), 1006);
}

/// Another client with a key of its own keeps switching the one session.
#[tokio::test]
async fn somebody_elses_switching_never_brings_a_wrong_record() {
    let peer = peers::commander(&[]);
    let bench = Bench::new(peer.base());
    let access = bench.linked(&link(&peer)).await;
    let (base, key) = (peer.base().to_owned(), peer.told("other_api_key").to_owned());
    let stop = Arc::new(AtomicBool::new(false));
    let intruder = std::thread::spawn({
        let (stop, base) = (stop.clone(), base.clone());
        move || {
            let mut switched = 0;
            for at in 0.. {
                if stop.load(Ordering::SeqCst) {
                    return switched;
                }
                let line = ["switch-to-msp", "switch-to-mc 3862"][at % 2];
                switched += u32::from(command(&base, &key, V1, line).0 == 200);
                std::thread::sleep(Duration::from_millis(40 + (at as u64 * 131) % 900));
            }
            switched
        }
    });
    let mut spoiled = 0;
    for _ in 0..if crate::support::long() { 30 } else { 4 } {
        match bench.upstream.visit(&access, &Pick::Exactly("3861".into())).await {
            Ok(visit) => {
                assert!(visit.refused.is_none(), "{:?}", visit.refused);
                assert_right(&visit);
            }
            Err(failure) => {
                spoiled += 1;
                assert!(is_context_changed(&failure), "{failure:?}");
            }
        }
    }
    stop.store(true, Ordering::SeqCst);
    assert!(intruder.join().unwrap() > 3);
    let visit = bench.visit(&access, Pick::Exactly("3861".into())).await;
    assert_right(&visit);
    assert!(spoiled > 0, "the intruder disturbed nothing, so this test showed nothing");
}

fn assert_right(visit: &Visit) {
    let users = records(visit, Resource::User);
    assert_eq!(users.len(), 6);
    assert!(users.iter().all(|user| user["user_id"].as_u64().unwrap() >> 32 == 3861));
    assert_eq!(records(visit, Resource::Group).len(), 3);
    assert_eq!(records(visit, Resource::Role).len(), 2);
}

#[tokio::test]
async fn throttling_and_an_expired_session_are_lived_through() {
    let mut peer = peers::commander(&[]);
    let bench = Bench::new(peer.base());
    let access = bench.linked(&link(&peer)).await;
    peer.order(&json!({"throttle_every": 5, "throttle_text": "Your request has been throttled. Try again in 1 seconds."}));
    assert_right(&bench.visit(&access, Pick::Exactly("3861".into())).await);
    peer.order(&json!({"throttle_every": 0, "session_expired": 1}));
    assert_right(&bench.visit(&access, Pick::Exactly("3861".into())).await);
    peer.order(&json!({"throttle_every": 1, "throttle_text": "Your request has been throttled. Try again in 2 minutes."}));
    let access = link(&peer).timeout(30).access(access.facts.clone());
    let failure = bench.upstream.visit(&access, &Pick::First).await.err().expect("a failure");
    let error = Error::from(failure);
    assert_eq!((error.code(), error.wait_seconds()), (Code::VendorRateLimited, Some(120)));
}

/// Its windows are minutes, so the short form sees the refusal and the long one the wait.
#[tokio::test]
async fn the_services_own_limiter_is_waited_for() {
    if crate::support::long() {
        let peer = peers::commander(&["--rate-limit", "15/minute"]);
        let bench = Bench::new(peer.base());
        let access = bench.linked(&link(&peer)).await;
        assert_right(&bench.visit(&access, Pick::Exactly("3861".into())).await);
        return;
    }
    // So few that the limiter speaks at once, and asks for more time than there is.
    let peer = peers::commander(&["--rate-limit", "3/minute"]);
    let bench = Bench::new(peer.base());
    let failure = bench.upstream.test(&link(&peer).timeout(15).access(Map::new())).await.err().expect("a failure");
    let error = Error::from(failure);
    assert_eq!((error.code(), error.wait_seconds()), (Code::VendorRateLimited, Some(15)));
    assert!(error.detail().contains("3 per 1 minute"), "{}", error.detail());
}

#[tokio::test]
async fn a_company_that_refuses_is_named() {
    let mut peer = peers::commander(&[]);
    let bench = Bench::new(peer.base());
    let access = bench.linked(&link(&peer)).await;
    peer.order(&json!({"refuse": 3862}));
    let visit = bench.visit(&access, Pick::Exactly("3862".into())).await;
    let warning = visit.refused.unwrap();
    assert_eq!(warning.code, "company_refused");
    assert!(warning.message.contains("Contoso Legal, LLP"), "{}", warning.message);
    assert_right(&bench.visit(&access, Pick::Exactly("3861".into())).await);
}

#[tokio::test]
async fn old_shapes_and_every_status_word() {
    let mut peer = peers::commander(&[]);
    let bench = Bench::new(peer.base());
    let access = bench.linked(&link(&peer)).await;
    peer.order(&json!({"old_shapes": true}));
    let words = ["Disabled", "Blocked", "Pending Transfer", "Something New", "Active", "active"];
    for (at, word) in words.iter().enumerate() {
        peer.order(&json!({"status": {"user_id": 16582868730057_u64 + at as u64, "word": word}}));
    }
    let visit = bench.visit(&access, Pick::Exactly("3861".into())).await;
    let users = mapped(&access, &visit, Resource::User, Resource::User);
    let seen: Vec<_> = users
        .iter()
        .map(|(user, warnings)| (user["status"].as_str().unwrap(), user["status_reason"].as_str(), warnings.len()))
        .collect();
    assert_eq!(
        seen,
        [
            ("inactive", Some("idp"), 0),
            ("inactive", Some("transfer"), 0),
            ("unknown", None, 1),
            ("unknown", None, 1),
            ("active", None, 0),
            ("unknown", None, 1)
        ]
    );
    assert_eq!(
        users[1].0["groups"][0],
        json!({"id": "3861:18opBFrGJyh6FbsK1-WwAQ", "name": "Front Desk", "organization": "3861"})
    );
    assert_eq!(users[1].0["workspaces"][0]["name"], "Northwind Dental\\Clinic");
}

#[tokio::test]
async fn quoted_values_arrive_as_they_are() {
    let peer = peers::commander(&[]);
    let (base, key) = (peer.base(), peer.told("api_key"));
    assert_eq!(command(base, key, V1, "switch-to-mc 3861").0, 200);
    for name in [
        r#"O'Neil "the" Quote"#,
        r"back\slash\",
        "$HOME `id` $(id)",
        "&amp; <b> ; | & > x",
        "-v --format",
        "Ünï 日本 🦀",
        "a\tb",
        "''",
        "#x !y",
    ] {
        let line = Command::new("enterprise-user")
            .option("--name", name)
            .unwrap()
            .value("ben@northwind.example")
            .unwrap()
            .finish()
            .unwrap();
        let (status, said) = command(base, key, V1, &line);
        assert_eq!(status, 200, "{line}: {said}");
        let (_, users) = command(base, key, V1, "enterprise-info --users --format json");
        assert_eq!(users["data"][1]["name"], name);
    }
}

#[tokio::test]
async fn a_key_that_may_show_records_is_warned_about() {
    let words = "whoami,enterprise-info,enterprise-down,msp-info,msp-down,switch-to-mc,switch-to-msp,get,ls";
    let peer = peers::commander(&["--commands", words]);
    let bench = Bench::new(peer.base());
    let warnings = bench.warnings(&link(&peer)).await;
    assert_eq!(warnings.len(), 1);
    assert_eq!(warnings[0].code, "vault_commands_permitted");
    assert!(warnings[0].message.contains("may also run get, ls,"), "{}", warnings[0].message);
    drop(peer);
    let peer = peers::commander(&["--commands", "enterprise-info,msp-info,switch-to-msp"]);
    let refusal = Bench::new(peer.base()).refusal(&link(&peer)).await;
    assert!(refusal.contains("may not run whoami, enterprise-down, msp-down, switch-to-mc."), "{refusal}");
}
