//! Whoever writes something wrong, or meets a vendor that says no, reads what to do about it, in the gateway's own words.

use serde_json::{Value, json};

use super::vendor::{Mood, Vendor, accounts, is_sound, names, problem};
use crate::support::gateway::{Gateway, Kept};

async fn linked(kept: &Kept) -> (Vendor, Gateway, String) {
    let vendor = Vendor::start();
    let gateway = Gateway::start(kept, &vendor.authority());
    let account = gateway.link("scim", "bearer", vendor.context()).await;
    (vendor, gateway, account)
}

#[tokio::test]
async fn what_a_body_or_a_query_takes_is_said_in_words() {
    let kept = Kept::embedded();
    let (vendor, gateway, account) = linked(&kept).await;
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut body = vendor.import();
        change(&mut body);
        body
    };
    let token = json!({"name": "x", "scopes": ["directory:read"], "expires_at": "tomorrow"});
    let mut rehearsed = vendor.import();
    rehearsed["is_sandbox"] = json!("yes");
    let account_path = format!("/integrated-account/{account}");
    for (method, path, body, field, said) in [
        ("POST", "/integrated-account", changed(&|b| b["tenant_id"] = json!(5)), "tenant_id", "`tenant_id` takes a text."),
        ("POST", "/integrated-account", changed(&|b| b["context"] = json!("x")), "context", "`context` takes an object."),
        ("POST", "/integrated-account", rehearsed, "is_sandbox", "`is_sandbox` takes `true` or `false`."),
        (
            "POST",
            "/integrated-account",
            json!({"tenant_id": "acme"}),
            "authentication_method",
            "`authentication_method` is missing.",
        ),
        ("POST", "/integrated-account/bulk-delete", json!({"ids": "x"}), "ids", "`ids` takes a list."),
        ("POST", "/link-token", json!({"tenant_id": "a", "expires_in": "x"}), "expires_in", "`expires_in` takes a number."),
        ("POST", "/api-token", token.clone(), "expires_at", "`expires_at` takes a date-time such as `2026-01-31T12:00:00Z`."),
        (
            "PATCH",
            account_path.as_str(),
            json!({"status": "disabled"}),
            "status",
            "`status` takes `needs_reauth`, upon which the vendor is asked and the status is what it says; `is_enabled` stops and \
             allows calls.",
        ),
    ] {
        let document = names(&gateway.call(method, path, Some(&body)).await, 400, "invalid_body", field);
        assert_eq!(document["detail"], said, "{body}");
    }
    let unknown = gateway.call("POST", "/integrated-account", Some(&changed(&|b| b["surprise"] = json!(1)))).await.json();
    assert!(
        unknown["detail"].as_str().unwrap().starts_with("There is no `surprise` here; there is: `id`, `tenant_id`"),
        "{unknown}"
    );
    for (query, field, said) in [
        ("integration=scim", "integration", "write `integration.name=scim`"),
        ("surprise=1", "surprise", "it takes `created_at`, `environment_id`"),
    ] {
        let document = names(&gateway.get(&format!("/integrated-account?{query}")).await, 400, "invalid_parameter", field);
        assert!(document["detail"].as_str().unwrap().contains(said), "{document}");
    }
    is_sound(&gateway);
}

/// Nobody can tell from `404` that the address is wrong, or from `401` alone that the credential is.
#[tokio::test]
async fn what_a_vendor_refuses_at_linking_is_said_in_a_sentence_that_helps() {
    let kept = Kept::embedded();
    let (vendor, gateway, account) = linked(&kept).await;
    let attempt = async |place: &str, change: &dyn Fn(&mut Value)| {
        let mut body = vendor.import();
        change(&mut body);
        if place.ends_with("/test") {
            body.as_object_mut().unwrap().remove("tenant_id");
        }
        gateway.call("POST", place, Some(&body)).await
    };
    for place in ["/integrated-account", "/integrated-account/test"] {
        let refused = attempt(place, &|body| body["context"]["token"] = json!("another-secret")).await;
        let document = problem(&refused, 422, "credential_refused", "vendor");
        assert_eq!(document["detail"], "The vendor does not accept this credential (401).");
    }
    vendor.set(Mood::Unauthorized);
    let ended = attempt("/integrated-account", &|_| {}).await;
    let document = problem(&ended, 422, "credential_refused", "vendor");
    assert_eq!(document["detail"], "The vendor does not accept this credential (401). It says: The token has ended.");
    vendor.set(Mood::Elsewhere);
    for place in ["/integrated-account", "/integrated-account/test"] {
        let document = problem(&attempt(place, &|_| {}).await, 422, "credential_refused", "vendor");
        let said = "Nothing answers like this vendor's API at this address (404): check `SCIM address`.";
        assert_eq!((&document["field"], &document["detail"]), (&json!("context.base_url"), &json!(said)));
    }
    assert_eq!(accounts(&gateway).await, [account]);
}

/// An account as it is shown can be sent back: what stands for a secret is the secret that is kept.
#[tokio::test]
async fn what_is_read_can_be_sent_back() {
    let kept = Kept::embedded();
    let (vendor, gateway, account) = linked(&kept).await;
    let path = format!("/integrated-account/{account}");
    let mut context = gateway.get(&path).await.json()["context"].clone();
    assert_eq!(context["token"], "***");
    context["plan"] = json!("gold");
    let done = gateway.call("PATCH", &path, Some(&json!({"context": context}))).await;
    assert_eq!((done.status, &done.json()["context"]["plan"]), (200, &json!("gold")), "{}", done.text());
    let asked = vendor.asked();
    let done = gateway.call("PATCH", &path, Some(&json!({"context": {"token": "***", "plan": "silver"}}))).await;
    assert_eq!((done.status, &done.json()["context"]["plan"]), (200, &json!("silver")), "{}", done.text());
    assert_eq!(vendor.asked(), asked, "a label is no credential");
    let moved = json!({"context": {"base_url": format!("{}/v2", vendor.base()), "token": "***"}});
    names(&gateway.call("PATCH", &path, Some(&moved)).await, 422, "secrets_required", "context.token");
    assert_eq!(vendor.asked(), asked, "the secret goes nowhere else");
    assert_eq!(gateway.users(&account).await.status, 200, "the secret is the one that was linked");
    is_sound(&gateway);
}
