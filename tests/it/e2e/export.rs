//! A-05: what is kept of one customer, in one call, without a credential and without a word of another customer.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{
    bar_canaries::{Canaries, Canary},
    vendor::{SECRET, Vendor, is_sound},
};
use crate::support::gateway::{ADMIN, Gateway, Kept};

async fn link(gateway: &Gateway, vendor: &Vendor, tenant: &str, label: &str) -> String {
    let mut body = vendor.import();
    body["tenant_id"] = json!(tenant);
    body["context"]["crm"] = json!({"id": label});
    let answer = gateway.call("POST", "/integrated-account", Some(&body)).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    answer.json()["id"].as_str().unwrap().to_owned()
}

/// The export, once the lines of the three lists are there: within a second of their requests.
async fn exported(gateway: &Gateway) -> String {
    let end = Instant::now() + Duration::from_secs(5);
    loop {
        let answer = gateway.get("/export?tenant_id=acme").await;
        assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/x-ndjson")), "{}", answer.text());
        let text = answer.text();
        let has_events = text.contains("integrated_account:deleted") && text.matches("integrated_account:active").count() >= 3;
        if has_events && text.matches(r#""route":"/unified/user-directory/users""#).count() >= 3 {
            return text;
        }
        assert!(Instant::now() < end, "lines are missing: {text}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_05_everything_of_one_customer_and_no_credential() {
    for kept in Kept::each() {
        let vendor = Vendor::start();
        let gateway = Gateway::start(&kept, &vendor.authority());
        let mine =
            [link(&gateway, &vendor, "acme", "crm-number-one").await, link(&gateway, &vendor, "acme", "crm-number-two").await];
        let gone = link(&gateway, &vendor, "acme", "crm-number-gone").await;
        let theirs = link(&gateway, &vendor, "somebody-else", "crm-of-theirs").await;
        let token = gateway.token(&["directory:read"]).await;
        for account in mine.iter().chain([&gone, &theirs]) {
            let list = format!("/unified/user-directory/users?integrated_account_id={account}");
            assert_eq!(gateway.call_as(Some(&token), "GET", &list, None).await.status, 200);
        }
        assert_eq!(gateway.call("DELETE", &format!("/integrated-account/{gone}"), None).await.status, 200);
        let text = exported(&gateway).await;
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let of = |kind: &str| lines.iter().filter(|line| line["kind"] == kind).map(|line| &line["data"]).collect::<Vec<_>>();
        let (begin, end) = (&lines[0], lines.last().unwrap());
        assert_eq!((&begin["kind"], &begin["data"]["tenant_id"]), (&json!("export"), &json!("acme")));
        assert_eq!(
            (&end["kind"], &end["data"]["complete"], &end["data"]["problem"]),
            (&json!("end"), &json!(true), &Value::Null)
        );
        for kind in begin["data"]["kinds"].as_array().unwrap() {
            let kind = kind.as_str().unwrap();
            assert_eq!(end["data"]["counts"][kind], json!(of(kind).len()), "{kind}");
        }
        // The data map, and something of each: snapshots alone there are none of a vendor that gives pages.
        let counts: Vec<_> =
            end["data"]["counts"].as_object().unwrap().iter().map(|(kind, count)| (kind.as_str(), count)).collect();
        assert_eq!(counts.len(), 5, "{counts:?}");
        assert!(counts.iter().all(|(kind, count)| (*kind == "snapshot") == (**count == 0)), "{counts:?}");
        let happened = |account: &str| -> Vec<String> {
            let events = of("event");
            let about = events.iter().filter(|event| event["integrated_account_id"] == json!(account));
            let mut kinds: Vec<_> = about.map(|event| event["event"].as_str().unwrap().to_owned()).collect();
            kinds.sort();
            kinds
        };
        let born = ["integrated_account:active", "integrated_account:created"];
        assert!(mine.iter().all(|account| happened(account) == born), "{text}");
        assert_eq!(happened(&gone), [born[0], born[1], "integrated_account:deleted"]);
        assert!(of("event").iter().all(|event| event["tenant_id"] == "acme" && event["integration"] == "scim"), "{text}");
        let mut ids: Vec<_> = of("account").iter().map(|account| account["id"].as_str().unwrap().to_owned()).collect();
        ids.sort();
        assert_eq!(ids, mine, "ids tell their order");
        for label in ["crm-number-one", "crm-number-two"] {
            assert!(text.contains(label), "{label}");
        }
        let requests = of("request");
        for account in mine.iter().chain([&gone]) {
            let asked = requests.iter().filter(|line| {
                line["integrated_account_id"] == json!(account) && line["route"] == "/unified/user-directory/users"
            });
            assert_eq!(asked.count(), 1, "{account}: {requests:?}");
        }
        let mut seen: Vec<_> = requests.iter().map(|line| line["id"].to_string()).collect();
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), requests.len(), "a line twice");
        let entries = of("audit_entry");
        let actions = |account: &str| {
            let about = entries.iter().filter(|entry| entry["integrated_account_id"] == json!(account));
            about.map(|entry| entry["action"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(actions(&mine[0]), ["integrated_account.import"]);
        assert_eq!(actions(&gone), ["integrated_account.import", "integrated_account.delete"]);
        assert!(entries.iter().any(|entry| entry["action"] == "tenant.export"), "the call itself");

        let canaries = Canaries::new(vec![
            Canary::new("credential", SECRET),
            Canary::new("administrator", ADMIN),
            Canary::new("token", token),
            Canary::new("another customer", "somebody-else"),
            Canary::new("another customer's label", "crm-of-theirs"),
            Canary::new("another customer's account", theirs),
        ]);
        assert_eq!(canaries.hits("export", text.as_bytes()), Vec::<String>::new());
        is_sound(&gateway);
    }
}
