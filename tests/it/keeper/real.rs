//! Against the real Commander Service Mode code.

use rollcall::{model::Resource, upstream::Pick};
use serde_json::{Value, json};

use super::bench::{Bench, Link, mapped, records, users};
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
    assert_eq!(access.facts["user"], "msp.admin@acme-msp.example");

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

#[tokio::test]
async fn without_the_queue_and_with_encryption_the_records_are_the_same() {
    let peer = peers::commander(&[]);
    let bench = Bench::new(peer.base());
    let plain = bench.walk(bench.linked(&link(&peer)).await.as_ref()).await;
    for args in [&["--queue", "n"][..], &["--encryption-key", KEY], &["--queue", "n", "--encryption-key", KEY]] {
        let peer = peers::commander(args);
        let bench = Bench::new(peer.base());
        let link = if args.contains(&KEY) { link(&peer).key(KEY) } else { link(&peer) };
        let access = bench.linked(&link).await;
        assert_eq!(access.facts["queue"], !args.contains(&"n"));
        assert_eq!(access.facts["encrypted"], args.contains(&KEY));
        let found = bench.walk(&access).await;
        for (a, b) in plain.iter().zip(&found) {
            assert_eq!(a.company, b.company);
            for (resource, bytes) in &a.records {
                let (a, b): (Value, Value) =
                    (serde_json::from_slice(bytes).unwrap(), serde_json::from_slice(&b.records[resource]).unwrap());
                assert_eq!(a, b, "{resource:?} {args:?}");
            }
        }
    }
}
