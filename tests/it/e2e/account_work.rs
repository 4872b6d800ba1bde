//! Accounts deleted together, credentials refreshed, changed and checked by hand, in the words of Truto's clients.

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    rotating::{Rotating, Rotation},
    vendor::{Mood, Vendor, accounts, is_sound, names, problem},
};
use crate::{
    connector::replay::{Replay, Reply},
    support::{
        gateway::{Answer, Gateway, Kept},
        peers,
    },
};

async fn delete(gateway: &Gateway, body: Value) -> Answer {
    gateway.call("POST", "/integrated-account/bulk-delete", Some(&body)).await
}

async fn refresh(gateway: &Gateway, id: &str) -> Answer {
    gateway.call("POST", "/integrated-account/refresh-credentials", Some(&json!({"id": id}))).await
}

async fn import(gateway: &Gateway, vendor: &Vendor, tenant: &str) -> String {
    let mut body = vendor.import();
    body["tenant_id"] = json!(tenant);
    let made = gateway.call("POST", "/integrated-account", Some(&body)).await;
    assert_eq!(made.status, 201, "{}", made.text());
    made.json()["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn several_accounts_are_deleted_or_none() {
    for kept in Kept::each() {
        let vendor = Vendor::start();
        let gateway = Gateway::start(&kept, &vendor.authority());
        let mut ids = Vec::new();
        for tenant in ["acme", "acme", "globex", "globex", "initech"] {
            ids.push(import(&gateway, &vendor, tenant).await);
        }
        let missing = uuid::Uuid::now_v7().to_string();
        for bad in [missing.as_str(), "nonsense", ""] {
            names(&delete(&gateway, json!({"ids": [ids[0], bad, ids[1]]})).await, 404, "not_found", "ids");
        }
        names(&delete(&gateway, json!({"tenant_id": "nobody"})).await, 404, "not_found", "tenant_id");
        for (body, field) in [
            (json!({}), "ids"),
            (json!({"ids": [ids[0]], "tenant_id": "acme"}), "ids"),
            (json!({"ids": []}), "ids"),
            (json!({"ids": vec![ids[0].as_str(); 501]}), "ids"),
            (json!({"ids": ids[0]}), "ids"),
            (json!({"ids": [1]}), "ids"),
            (json!({"tenant": "acme"}), "tenant"),
        ] {
            names(&delete(&gateway, body).await, 400, "invalid_body", field);
        }
        let mut left = ids.clone();
        left.sort();
        assert_eq!(accounts(&gateway).await, left, "nothing was deleted");

        let done = delete(&gateway, json!({"ids": [ids[0], ids[4], ids[0]]})).await;
        assert_eq!((done.status, done.json()), (200, json!({"success": true})), "{}", done.text());
        let done = delete(&gateway, json!({"tenant_id": "globex"})).await;
        assert_eq!((done.status, done.json()), (200, json!({"success": true})), "{}", done.text());
        assert_eq!(accounts(&gateway).await, [ids[1].clone()]);
        for id in [&ids[0], &ids[2], &ids[4]] {
            problem(&gateway.get(&format!("/integrated-account/{id}")).await, 404, "not_found", "gateway");
        }
        let reader = gateway.token(&["accounts:read"]).await;
        let body = json!({"ids": [ids[1]]});
        let refused = gateway.call_as(Some(&reader), "POST", "/integrated-account/bulk-delete", Some(&body)).await;
        names(&refused, 403, "scope_missing", "accounts:write");
        is_sound(&gateway);
    }
}

#[tokio::test]
async fn a_credential_without_tokens_is_tested_and_a_mended_account_is_active_again() {
    let vendor = Vendor::start();
    let gateway = Gateway::start(&Kept::embedded(), &vendor.authority());
    let account = gateway.link("scim", "bearer", vendor.context()).await;
    let status = async || gateway.get(&format!("/integrated-account/{account}")).await.json()["status"].clone();
    let asked = vendor.asked();
    let done = refresh(&gateway, &account).await;
    assert_eq!((done.status, done.json()), (200, json!({"success": true})), "{}", done.text());
    assert!(vendor.asked() > asked, "the vendor was asked");

    vendor.set(Mood::Unauthorized);
    problem(&refresh(&gateway, &account).await, 401, "reauth_required", "vendor");
    assert_eq!(status().await, "needs_reauth");
    vendor.set(Mood::Good);
    assert_eq!(refresh(&gateway, &account).await.status, 200);
    assert_eq!(status().await, "active", "at once, and not with the next probe");
    vendor.set(Mood::Html);
    assert!(refresh(&gateway, &account).await.status >= 500);
    assert_eq!(status().await, "active", "a vendor that is out of order ends nothing");

    names(&refresh(&gateway, "nonsense").await, 404, "not_found", "id");
    names(&gateway.call("POST", "/integrated-account/refresh-credentials", Some(&json!({}))).await, 400, "invalid_body", "id");
    is_sound(&gateway);
}

#[tokio::test]
async fn a_credential_with_tokens_gets_a_new_one_each_time() {
    let mut peer = peers::oidc(600);
    let authority = peer.authority();
    let gateway = Gateway::start(&Kept::embedded(), &authority);
    let client = &peer.ready["client"];
    let context = json!({"base_url": peer.base(), "token_url": peer.told("token_url"), "client_id": client["id"],
        "client_secret": client["secret"], "scope": "scim.read scim.write"});
    let account = gateway.link("scim", "oauth2_client_credentials", context).await;
    let users = format!("/unified/user-directory/users?integrated_account_id={account}");
    for turn in 1..=3 {
        assert_eq!(gateway.get(&users).await.status, 200);
        assert_eq!(peer.order(&json!({}))["asked"], turn, "one token until another is asked for");
        let done = refresh(&gateway, &account).await;
        assert_eq!((done.status, done.json()), (200, json!({"success": true})), "{}", done.text());
        assert_eq!(peer.order(&json!({}))["asked"], turn + 1);
    }
    peer.order(&json!({"revoke": true, "forget": true}));
    problem(&refresh(&gateway, &account).await, 401, "reauth_required", "vendor");
    assert_eq!(gateway.get(&format!("/integrated-account/{account}")).await.json()["status"], "needs_reauth");
}

fn is_warned(made: &Answer) -> bool {
    made.json()["warnings"].as_array().unwrap().iter().any(|warning| warning["code"] == "no_refresh_token")
}

/// An access token that came alone is good until the vendor refuses it: there is nothing to get a new one with.
#[tokio::test]
async fn an_access_token_without_a_refresh_token_is_tested_and_its_status_is_what_the_test_says() {
    let vendor = Rotating::start(Rotation::Strict, 0..5);
    let gateway = Gateway::start(&Kept::embedded(), &vendor.vendor.authority());
    let mut context = vendor.grant(0, 3600);
    context["oauth"] = json!({"token": {"access_token": "access-0-1"}});
    let body = json!({"tenant_id": "acme", "integration": "scim", "authentication_method": "oauth2", "context": context});
    let made = gateway.call("POST", "/integrated-account", Some(&body)).await;
    assert_eq!(made.status, 201, "{}", made.text());
    assert!(is_warned(&made), "{}", made.text());
    let account = made.json()["id"].as_str().unwrap().to_owned();
    let status = async || gateway.get(&format!("/integrated-account/{account}")).await.json()["status"].clone();

    let done = refresh(&gateway, &account).await;
    assert_eq!((done.status, status().await), (200, json!("active")), "{}", done.text());
    assert_eq!(gateway.users(&account).await.status, 200);
    vendor.refuse_calls(true);
    problem(&refresh(&gateway, &account).await, 401, "reauth_required", "vendor");
    assert_eq!(status().await, "needs_reauth");
    vendor.refuse_calls(false);
    let done = refresh(&gateway, &account).await;
    assert_eq!((done.status, status().await), (200, json!("active")), "{}", done.text());
    assert_eq!(vendor.of(0).shown, [0; 0], "no refresh token is made up");

    let body =
        json!({"context": vendor.grant(1, 3600), "tenant_id": "acme", "integration": "scim", "authentication_method": "oauth2"});
    let whole = gateway.call("POST", "/integrated-account", Some(&body)).await;
    assert!(whole.status == 201 && !is_warned(&whole), "{}", whole.text());
}

#[tokio::test]
async fn the_actions_after_an_installation_are_the_check_of_the_credential() {
    let vendor = Vendor::start();
    let gateway = Gateway::start(&Kept::embedded(), &vendor.authority());
    let account = gateway.link("scim", "bearer", vendor.context()).await;
    let status = async || gateway.get(&format!("/integrated-account/{account}")).await.json()["status"].clone();
    let place = "/integrated-account/run-post-install-actions";
    let act = async |body: Value| gateway.call("POST", place, Some(&body)).await;
    // What one look found holds for whoever asks within three seconds.
    let later = async || tokio::time::sleep(Duration::from_millis(3_200)).await;
    later().await;
    let asked = vendor.asked();
    let done = act(json!({"id": account})).await;
    assert_eq!((done.status, done.json()), (200, json!({"success": true})), "{}", done.text());
    assert!(vendor.asked() > asked, "the vendor was asked");

    vendor.set(Mood::Unauthorized);
    later().await;
    problem(&act(json!({"id": account})).await, 401, "reauth_required", "vendor");
    assert_eq!(status().await, "needs_reauth");
    vendor.set(Mood::Good);
    later().await;
    assert_eq!(act(json!({"id": account})).await.status, 200);
    assert_eq!(status().await, "active");

    for (body, code, named) in [
        (json!({"id": "nonsense"}), (404, "not_found"), "id"),
        (json!({}), (400, "invalid_body"), "id"),
        (json!({"id": 1}), (400, "invalid_body"), "id"),
        (json!({"id": account, "steps": []}), (400, "invalid_body"), "steps"),
    ] {
        names(&act(body).await, code.0, code.1, named);
    }
    let reader = gateway.token(&["accounts:read"]).await;
    let refused = gateway.call_as(Some(&reader), "POST", place, Some(&json!({"id": account}))).await;
    names(&refused, 403, "scope_missing", "accounts:write");
    is_sound(&gateway);
}

const FIRST: &str = "the-first-token-of-the-directory-51f0";
const SECOND: &str = "the-second-token-of-the-directory-9b3e";

/// A vendor that takes either token and no other.
fn directory() -> Replay {
    Replay::start(|seen| match seen.header("authorization").and_then(|value| value.strip_prefix("Bearer ")) {
        Some(FIRST | SECOND) if seen.path.ends_with("/Users") => {
            Reply::json(200, r#"{"totalResults": 0, "startIndex": 1, "itemsPerPage": 0, "Resources": []}"#)
        }
        Some(FIRST | SECOND) => Reply::json(404, "{}"),
        _ => Reply::json(401, r#"{"detail": "This token is not one of mine."}"#),
    })
}

#[tokio::test]
async fn a_secret_is_changed_alone_and_only_for_one_the_vendor_takes() {
    for kept in Kept::each() {
        let vendor = directory();
        let gateway = Gateway::start(&kept, &format!("127.0.0.1:{}", vendor.port));
        let address = format!("http://127.0.0.1:{}/scim", vendor.port);
        let account = gateway.link("scim", "bearer", json!({"base_url": address, "token": FIRST, "plan": "gold"})).await;
        let place = format!("/integrated-account/{account}/credentials");
        let change = async |body: Value| gateway.call("PATCH", &place, Some(&body)).await;
        // The token that a call goes out with.
        let used = async || {
            let users = gateway.get(&format!("/unified/user-directory/users?integrated_account_id={account}")).await;
            assert_eq!(users.status, 200, "{}", users.text());
            vendor.seen().last().unwrap().header("authorization").unwrap().to_owned()
        };
        for (body, token) in [(json!({"token": SECOND}), SECOND), (json!({"context": {"token": FIRST}}), FIRST)] {
            let done = change(body).await;
            assert_eq!((done.status, &done.json()["status"]), (200, &json!("active")), "{}", done.text());
            let context = json!({"base_url": address, "token": "***", "plan": "gold"});
            assert_eq!((&done.json()["id"], &done.json()["context"]), (&json!(account), &context));
            assert_eq!(used().await, format!("Bearer {token}"));
        }
        let refused = change(json!({"token": "a-token-the-vendor-never-gave"})).await;
        problem(&refused, 422, "credential_refused", "vendor");
        assert!(!refused.text().contains("a-token-the-vendor"), "{}", refused.text());
        assert_eq!(used().await, format!("Bearer {FIRST}"), "what was refused replaced nothing");

        let asked = vendor.seen().len();
        for (body, code, named) in [
            (json!({}), (400, "invalid_body"), "context"),
            (json!({"context": {}}), (400, "invalid_body"), "context"),
            (json!({"context": FIRST}), (400, "invalid_body"), "context"),
            (json!({"context": {"token": SECOND}, "token": SECOND}), (400, "invalid_body"), "token"),
            (json!({"base_url": "http://127.0.0.1:1/"}), (422, "invalid_field"), "base_url"),
            (json!({"context": {"token": SECOND, "base_url": address}}), (422, "invalid_field"), "context.base_url"),
            (json!({"token": SECOND, "plan": "silver"}), (422, "invalid_field"), "plan"),
            (json!({"api_key": SECOND}), (422, "invalid_field"), "api_key"),
            (json!({"oauth": {"token": {"access_token": SECOND}}}), (422, "invalid_field"), "oauth"),
            (json!({"token": [SECOND]}), (422, "invalid_field"), "token"),
            (json!({"token": null}), (422, "invalid_field"), "token"),
            (json!({"token": "***"}), (422, "invalid_field"), "token"),
            (json!({"context": {"token": 5}}), (422, "invalid_field"), "context.token"),
        ] {
            let shown = body.to_string();
            let said = names(&change(body).await, code.0, code.1, named);
            assert!(!said.to_string().contains(SECOND), "{shown}: {said}");
        }
        let elsewhere = gateway.call("PATCH", "/integrated-account/nonsense/credentials", Some(&json!({"token": SECOND}))).await;
        problem(&elsewhere, 404, "not_found", "gateway");
        let reader = gateway.token(&["accounts:read"]).await;
        let body = json!({"token": SECOND});
        names(&gateway.call_as(Some(&reader), "PATCH", &place, Some(&body)).await, 403, "scope_missing", "accounts:write");
        assert_eq!(vendor.seen().len(), asked, "the vendor is not asked about any of it");
        assert_eq!(used().await, format!("Bearer {FIRST}"));
        is_sound(&gateway);
    }
}
