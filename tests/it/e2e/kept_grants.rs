//! What a customer agreed to outlives changes of its account, and is spent for nothing but a link.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{
    bar_vendor::answer,
    rotating::{Mood, Rotating, Rotation},
    vendor::{names, overlay, problem},
};
use crate::support::gateway::{Answer, Gateway, Kept};

const METHOD: &str = "oauth2";

async fn status(gateway: &Gateway, account: &str) -> Value {
    gateway.get(&format!("/integrated-account/{account}")).await.json()["status"].clone()
}

/// A change of a field that keeps the customer's grant.
async fn change(gateway: &Gateway, account: &str) -> Answer {
    let change = json!({"context": {"client_secret": "another-synthetic-secret"}});
    gateway.call("PATCH", &format!("/integrated-account/{account}"), Some(&change)).await
}

async fn delete(gateway: &Gateway, path: &str) {
    let deleted = gateway.call("DELETE", path, None).await;
    assert_eq!(deleted.status, 200, "{}", deleted.text());
}

fn with_revocation(vendor: &Rotating, number: u64) -> Value {
    let mut context = vendor.grant(number, 3600);
    context["revoke_url"] = json!(vendor.vendor.at("/revoke"));
    context
}

/// The tokens that were taken back, once there are so many or nothing more is to come.
async fn revocations(vendor: &Rotating, count: usize) -> Vec<String> {
    let end = Instant::now() + Duration::from_secs(5);
    while vendor.revocations().len() < count && Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut revoked = vendor.revocations();
    revoked.sort();
    revoked
}

async fn until_it_is_asked(vendor: &Rotating, number: u64, times: usize) {
    let end = Instant::now() + Duration::from_secs(10);
    while vendor.of(number).shown.len() < times {
        assert!(Instant::now() < end, "the token endpoint is not asked");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// One node gets a new token ahead of time, while another one changes a field of the account.
#[tokio::test]
async fn a_change_during_a_refresh_does_not_bring_the_spent_token_back() {
    let vendor = Rotating::start(Rotation::Strict, 1_200..1_201);
    let kept = Kept::redis();
    let nodes = [Gateway::start(&kept, &vendor.vendor.authority()), Gateway::start(&kept, &vendor.vendor.authority())];
    let account = nodes[0].link("scim", METHOD, vendor.grant(0, 8)).await;
    // From the half of its life on it is renewed beside calls, which go on with it.
    tokio::time::sleep(Duration::from_millis(4_500)).await;
    assert_eq!(nodes[0].users(&account).await.status, 200);
    until_it_is_asked(&vendor, 0, 1).await;
    let changed = change(&nodes[1], &account).await;
    assert_eq!((changed.status, &changed.json()["status"]), (200, &json!("active")), "{}", changed.text());
    assert_eq!(vendor.of(0).shown, [1], "the change uses what the refresh brought");
    vendor.end_access();
    for node in &nodes {
        assert_eq!(node.users(&account).await.status, 200);
    }
    let grant = vendor.of(0);
    assert_eq!((grant.shown.as_slice(), grant.revoked), (&[1, 2][..], false));
}

/// The first calls after a change do not take the old token for a new one.
#[tokio::test]
async fn a_change_renews_an_access_token_that_is_over() {
    let vendor = Rotating::start(Rotation::Strict, 0..5);
    let gateway = Gateway::start(&Kept::embedded(), &vendor.vendor.authority());
    let account = gateway.link("scim", METHOD, vendor.grant(0, 2)).await;
    tokio::time::sleep(Duration::from_millis(2_100)).await;
    // A refusal of what was changed is no end, and costs nothing.
    let refusal = answer(400, &[("content-type", "application/json")], b"{\"error\": \"invalid_client\"}");
    vendor.set_mood(Some(Mood::Answer(refusal)));
    let refused = change(&gateway, &account).await;
    assert_eq!((refused.status, refused.code().as_str()), (422, "credential_refused"), "{}", refused.text());
    assert_eq!(status(&gateway, &account).await, "active");
    vendor.set_mood(None);
    assert_eq!(change(&gateway, &account).await.status, 200);
    assert_eq!(vendor.of(0).shown, [1, 1], "renewed with the change, and not used as it was");
    vendor.end_access();
    assert_eq!(gateway.users(&account).await.status, 200);
    let grant = vendor.of(0);
    assert_eq!((grant.shown.as_slice(), grant.revoked), (&[1, 1, 2][..], false));
}

/// Where the change's own refresh gives a token and the vendor then refuses the account, the new token is kept all the same.
#[tokio::test]
async fn a_refused_change_keeps_the_token_that_came_of_it() {
    let vendor = Rotating::start(Rotation::Strict, 0..5);
    let gateway = Gateway::start(&Kept::embedded(), &vendor.vendor.authority());
    let account = gateway.link("scim", METHOD, vendor.grant(0, 2)).await;
    tokio::time::sleep(Duration::from_millis(2_100)).await;
    vendor.refuse_calls(true);
    let refused = change(&gateway, &account).await;
    assert_eq!((refused.status, refused.code().as_str()), (422, "credential_refused"), "{}", refused.text());
    vendor.refuse_calls(false);
    assert_eq!(gateway.users(&account).await.status, 200);
    let grant = vendor.of(0);
    assert_eq!((grant.shown.as_slice(), grant.revoked), (&[1][..], false), "the one that came is in use");
}

/// A refresh whose answer never came is settled before a change goes on: patient vendors give once more, strict ones end it.
#[tokio::test]
async fn a_change_settles_a_refresh_that_nobody_knows_the_end_of() {
    for (rotation, code, after) in [(Rotation::Grace, 200, "active"), (Rotation::Strict, 401, "needs_reauth")] {
        let vendor = Rotating::start(rotation, 0..5);
        let gateway = Gateway::start(&Kept::embedded(), &vendor.vendor.authority());
        let account = gateway.link("scim", METHOD, vendor.grant(0, 3600)).await;
        vendor.end_access();
        vendor.set_mood(Some(Mood::Silence));
        assert_eq!(gateway.users(&account).await.status, 502);
        vendor.set_mood(None);
        let changed = change(&gateway, &account).await;
        assert_eq!(changed.status, code, "{rotation:?}: {}", changed.text());
        let shown = gateway.get(&format!("/integrated-account/{account}")).await.json();
        assert_eq!(shown["status"], after, "{rotation:?}: {shown}");
        assert_eq!(vendor.of(0).shown, [1, 1]);
        if rotation == Rotation::Strict {
            let why = shown["last_error"].as_str().unwrap();
            assert!(why.starts_with("refresh_outcome_unknown"), "{shown}");
            let wanted = json!({"id": account});
            let refused = gateway.call("POST", "/integrated-account/refresh-credentials", Some(&wanted)).await;
            let document = problem(&refused, 401, "reauth_required", "vendor");
            assert_eq!(document["detail"], why, "the reason is told");
            let still = gateway.get(&format!("/integrated-account/{account}")).await.json();
            assert_eq!((still["last_error"].as_str(), vendor.of(0).shown), (Some(why), vec![1, 1]), "and stays");
        }
    }
}

#[tokio::test]
async fn a_change_does_not_hide_that_a_grant_has_ended() {
    let vendor = Rotating::start(Rotation::Strict, 0..5);
    let gateway = Gateway::start(&Kept::embedded(), &vendor.vendor.authority());
    let account = gateway.link("scim", METHOD, vendor.grant(0, 3600)).await;
    vendor.end_grants();
    problem(&gateway.users(&account).await, 401, "reauth_required", "vendor");
    problem(&change(&gateway, &account).await, 401, "reauth_required", "vendor");
    assert_eq!(status(&gateway, &account).await, "needs_reauth");
    assert_eq!(vendor.of(0).shown, [1], "the vendor is not asked again");
}

#[tokio::test]
async fn a_trial_spends_no_refresh_token() {
    let vendor = Rotating::start(Rotation::Strict, 0..5);
    let gateway = Gateway::start(&Kept::embedded(), &vendor.vendor.authority());
    let grant = vendor.grant(0, 3600);
    let attempt = async |token: Value| {
        let mut context = grant.clone();
        context["oauth"] = json!({ "token": token });
        let body = json!({"integration": "scim", "authentication_method": METHOD, "context": context});
        gateway.call("POST", "/integrated-account/test", Some(&body)).await
    };
    for token in [
        json!({"refresh_token": "refresh-0-1"}),
        json!({"access_token": "access-0-1", "refresh_token": "refresh-0-1", "expires_in": -5}),
        json!({"access_token": "access-0-1", "refresh_token": "refresh-0-1", "expires_at": "2020-01-01T00:00:00Z"}),
    ] {
        let document = names(&attempt(token.clone()).await, 422, "invalid_field", "context.oauth.token");
        assert!(document["detail"].as_str().unwrap().contains("still good"), "{token}: {document}");
    }
    let good = json!({"access_token": "access-0-1", "refresh_token": "refresh-0-1", "expires_in": 3600});
    let tried = attempt(good).await;
    assert_eq!((tried.status, &tried.json()["ok"]), (200, &json!(true)), "{}", tried.text());
    // Good by its word, and refused: that is the outcome, and nothing is done about it.
    let refused = attempt(json!({"access_token": "access-0-9", "refresh_token": "refresh-0-1", "expires_in": 3600})).await;
    assert_eq!((refused.status, refused.code().as_str()), (422, "credential_refused"), "{}", refused.text());
    assert_eq!(vendor.of(0).shown, [0; 0], "the customer's refresh token is as good as before");
}

#[tokio::test]
async fn a_link_spends_the_refresh_token_last() {
    let vendor = Rotating::start(Rotation::Strict, 300..301);
    let gateway = Gateway::start(&Kept::embedded(), &vendor.vendor.authority());
    let taken = gateway.link("scim", METHOD, vendor.grant(1, 3600)).await;
    let mut context = vendor.grant(0, 3600);
    context["oauth"] = json!({"token": {"refresh_token": "refresh-0-1"}});
    let body = |changes: Value| {
        let mut body = json!({"tenant_id": "acme", "integration": "scim", "authentication_method": METHOD, "context": context});
        changes.as_object().unwrap().iter().for_each(|(name, value)| match name.strip_prefix("context.") {
            Some(field) => body["context"][field] = value.clone(),
            None => body[name] = value.clone(),
        });
        body
    };
    for (changes, code) in [
        (json!({"id": taken}), 422),
        (json!({"tenant_id": ""}), 400),
        (json!({"context.base_url": "no address"}), 422),
        (json!({"context.base_url": "http://127.0.0.1:9/scim"}), 422),
        (json!({"context.note": "x".repeat(70_000)}), 400),
    ] {
        let refused = gateway.call("POST", "/integrated-account", Some(&body(changes.clone()))).await;
        assert_eq!(refused.status, code, "{changes}: {}", refused.text());
    }
    assert_eq!(vendor.of(0).shown, [0; 0], "nothing that was refused has cost the refresh token");
    // Of two at once, one is the link, and the other learns that before it asks the vendor.
    let wanted = body(json!({"id": "0198f0c2-a1b0-7c1e-9a51-d2b53c1f0e77"}));
    let import = || gateway.call("POST", "/integrated-account", Some(&wanted));
    let (one, other) = tokio::join!(import(), import());
    let mut codes = [one.status, other.status];
    codes.sort_unstable();
    assert_eq!(codes, [201, 422], "{}\n{}", one.text(), other.text());
    let grant = vendor.of(0);
    assert_eq!((grant.shown.as_slice(), grant.revoked), (&[1][..], false));
}

#[tokio::test]
async fn a_token_that_comes_for_a_deleted_account_is_given_back() {
    let vendor = Rotating::start(Rotation::Strict, 800..801);
    let gateway = Gateway::start(&Kept::embedded(), &vendor.vendor.authority());
    let account = gateway.link("scim", METHOD, with_revocation(&vendor, 0)).await;
    vendor.end_access();
    let meanwhile = async {
        until_it_is_asked(&vendor, 0, 1).await;
        delete(&gateway, &format!("/integrated-account/{account}")).await;
    };
    let (called, ()) = tokio::join!(gateway.users(&account), meanwhile);
    assert!(matches!(called.status, 401 | 404), "{}", called.text());
    assert_eq!(revocations(&vendor, 2).await, ["refresh-0-1", "refresh-0-2"], "the old one, and the one that came");
}

/// A connector whose client is registered with the environment, and which was switched off, or is taken away with its accounts.
#[tokio::test]
async fn what_is_deleted_without_its_connector_is_given_back() {
    let kept = Kept::embedded();
    let folder = kept.folder().join("connectors");
    let vendor = Rotating::start(Rotation::Strict, 0..5);
    // Where an app of the gateway's is shown, the file says.
    let said = ["client_id", "client_secret", "token_url", "revoke_url"];
    overlay(&folder, |name, text| match name {
        "connector.yaml" => {
            let (head, tail) = text.split_once("  - method: oauth2\n").unwrap();
            let is_said = |line: &&str| said.iter().any(|name| line.contains(&format!("{{ name: {name},")));
            let tail: Vec<&str> = tail.lines().filter(|line| !is_said(line)).collect();
            let tail = tail.join("\n").replace("{token_url}", &vendor.vendor.at("/token"));
            format!("{head}  - method: oauth2\n{}\n", tail.replace("{revoke_url}", &vendor.vendor.at("/revoke")))
        }
        _ => text,
    });
    let settings = [("ROLLCALL_CONNECTORS_DIR", folder.to_str().unwrap())];
    let gateway = Gateway::start_with(&kept, &vendor.vendor.authority(), &settings);
    let installs = gateway.get("/environment-integration").await.json();
    let install = installs["result"].as_array().unwrap().iter().find(|found| found["integration"]["name"] == "scim").unwrap();
    let place = format!("/environment-integration/{}", install["id"].as_str().unwrap());
    let app = json!({"override": {"credentials": {"oauth2": {"client_id": "mine", "client_secret": "synthetic-app-secret"}}}});
    assert_eq!(gateway.call("PATCH", &place, Some(&app)).await.status, 200);
    let mut accounts = Vec::new();
    for number in 0..3 {
        let mut context = with_revocation(&vendor, number);
        context.as_object_mut().unwrap().retain(|name, _| !said.contains(&name.as_str()));
        accounts.push(gateway.link("scim", METHOD, context).await);
    }
    assert_eq!(gateway.call("PATCH", &place, Some(&json!({"is_enabled": false}))).await.status, 200);
    delete(&gateway, &format!("/integrated-account/{}", accounts[0])).await;
    assert_eq!(revocations(&vendor, 1).await, ["refresh-0-1"], "its connector is switched off");
    delete(&gateway, &format!("{place}?delete_accounts=true")).await;
    assert_eq!(revocations(&vendor, 3).await, ["refresh-0-1", "refresh-1-1", "refresh-2-1"]);
    assert_eq!(gateway.get(&place).await.status, 404);
}
