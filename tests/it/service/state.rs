//! What vendors' refusals and looks at them leave on an account, and what they do not.

use std::sync::{
    Arc,
    atomic::{AtomicU16, Ordering},
};

use rollcall::{
    model::{Account, AccountStatus, Resource},
    service::{ChangeAccount, ListQuery, SeenCount},
    store::repo::{Accounts, environment_slot},
};
use serde_json::json;

use super::*;

/// A vendor whose users answer with this status; it says which rights are missing.
fn denying() -> (Replay, Arc<AtomicU16>) {
    let status = Arc::new(AtomicU16::new(200));
    let now = status.clone();
    let vendor = Replay::start(move |seen| {
        let users = r#"{"totalResults": 1, "Resources": [{"id": "1", "userName": "u", "active": true}]}"#;
        match (seen.path.ends_with("/Users"), now.load(Ordering::SeqCst)) {
            (true, 200) => Reply::json(200, users),
            (true, status) => {
                let mut reply = Reply::json(status, "{}");
                let challenge = r#"Bearer error="insufficient_scope", scope="users:read groups:read""#;
                reply.headers.push(("www-authenticate".to_owned(), challenge.to_owned()));
                reply
            }
            (false, _) => Reply::json(404, "{}"),
        }
    });
    (vendor, status)
}

fn at_port(port: u16, token: &str) -> NewAccount {
    new_account("bearer", json!({"base_url": format!("http://127.0.0.1:{port}"), "token": token}))
}

#[tokio::test]
async fn a_403_names_the_missing_rights_and_a_good_call_takes_it_back() {
    let (vendor, status) = denying();
    let (_folder, _clock, core) = inside_of(format!("127.0.0.1:{}", vendor.port)).await;
    let accounts = &core.services.accounts;
    let (account, _) = accounts.import(core.environment, at_port(vendor.port, SECRET)).await.unwrap();
    let id = account.id.to_string();
    let list = async |resource| {
        let linked = accounts.open(core.environment, &id).await.unwrap();
        core.services.directory.list(&linked, resource, None, ListQuery::default()).await.map(|_| ()).map_err(|e| e.code())
    };
    let records = Accounts::new(core.services.store.clone());
    let read = async || records.get(account.id).await.unwrap().unwrap();
    status.store(403, Ordering::SeqCst);
    assert_eq!(list(Resource::User).await, Err(Code::VendorDenied));
    let (denied, version) = read().await;
    let last = denied.last_forbidden.unwrap();
    assert_eq!((denied.status, last.resource.as_str(), last.method.as_str()), (AccountStatus::Active, "users", "list"));
    assert_eq!(last.missing_scopes, ["users:read", "groups:read"]);
    assert_eq!(list(Resource::User).await, Err(Code::VendorDenied));
    assert_eq!(read().await.1, version, "noted once");
    status.store(200, Ordering::SeqCst);
    assert_eq!(list(Resource::User).await, Ok(()));
    let (cleared, version) = read().await;
    assert_eq!((cleared.status, cleared.last_forbidden), (AccountStatus::Active, None));
    for _ in 0..3 {
        assert_eq!(list(Resource::User).await, Ok(()));
    }
    assert_eq!(read().await.1, version, "good calls write nothing");
    assert_eq!(told(&core, account.id).await, ["created", "active"], "a refused right is no event");
}

#[tokio::test]
async fn what_is_tried_is_not_stored() {
    let vendor = Vendor::start();
    let (_folder, _clock, core) = inside(&vendor).await;
    let slot = environment_slot(core.environment);
    let accounts = &core.services.accounts;
    let names = async || core.services.store.scan(&slot, "", None, 1000).await.unwrap();
    let before = names().await;
    let new = |token: &str| new_account("bearer", json!({"base_url": vendor.base(), "token": token}));
    let seen = accounts.try_out(core.environment, new(SECRET)).await.unwrap();
    assert_eq!(seen.facts["page"], "index");
    assert_eq!(seen.counts, [SeenCount { resource: "users", count: 5, at_least: false }]);
    let codes: Vec<_> = seen.warnings.iter().map(|warning| (warning.code.as_str(), warning.field.as_deref())).collect();
    assert_eq!(codes, [("no_service_provider_config", None), ("cannot_list", Some("groups"))]);
    let refused = accounts.try_out(core.environment, new("another-token")).await.unwrap_err();
    assert_eq!(refused.code(), Code::CredentialRefused);
    let odd = NewAccount { authentication_method: "magic".to_owned(), ..new(SECRET) };
    assert_eq!(accounts.try_out(core.environment, odd).await.unwrap_err().field_name(), Some("authentication_method"));
    assert!(core.tasks.wait(Duration::from_secs(10)).await);
    assert_eq!(names().await, before, "something of it is in the store");
    assert_eq!(core.services.care.tell(core.environment).await.unwrap(), 0, "something of it is told");
}

#[tokio::test]
async fn a_failed_test_changes_the_status_alone() {
    let vendor = Vendor::start();
    let (_folder, clock, core) = inside(&vendor).await;
    let id = link(&core, &vendor).await.account.id;
    let (text, accounts) = (id.to_string(), &core.services.accounts);
    let end = clock.now() + jiff::SignedDuration::from_hours(24 * 90);
    let change = ChangeAccount { expires_at: Some(Some(end)), ..ChangeAccount::default() };
    let (before, _) = accounts.change(core.environment, &text, change).await.unwrap();
    clock.advance(Duration::from_secs(60));
    vendor.set(Mood::Unauthorized);
    assert_eq!(accounts.test(core.environment, &text).await.unwrap_err().code(), Code::ReauthRequired);
    let after = accounts.get(core.environment, &text).await.unwrap();
    assert_eq!(after.status, AccountStatus::NeedsReauth);
    let (last_error, updated_at) = (after.last_error.clone(), after.updated_at);
    assert_eq!(after, Account { status: AccountStatus::NeedsReauth, last_error, updated_at, ..before.clone() });
    // A vendor that does not answer says nothing about the credential.
    clock.advance(Duration::from_secs(60));
    vendor.set(Mood::Html);
    assert!(accounts.test(core.environment, &text).await.is_err());
    assert_eq!(accounts.get(core.environment, &text).await.unwrap(), after);
    clock.advance(Duration::from_secs(60));
    vendor.set(Mood::Good);
    let refreshed = accounts.refresh(core.environment, &text).await.unwrap();
    assert_eq!((refreshed.status, refreshed.checked_at), (AccountStatus::Active, Some(clock.now())));
    assert_eq!((refreshed.is_enabled, refreshed.expires_at, refreshed.last_error), (true, Some(end), None));
    assert_eq!(told(&core, id).await[2..], ["updated", "authentication_error", "reactivated"]);
}

#[tokio::test]
async fn what_is_learned_of_the_other_side_counts() {
    let vendor = Vendor::start();
    let (_folder, clock, core) = inside(&vendor).await;
    let linked = link(&core, &vendor).await;
    let (id, accounts) = (linked.account.id.to_string(), &core.services.accounts);
    clock.advance(Duration::from_secs(60));
    let same = accounts.refresh(core.environment, &id).await.unwrap();
    assert_eq!(same.data_version, linked.account.data_version, "nothing was news");
    assert_eq!((same.updated_at, same.checked_at), (linked.account.updated_at, Some(clock.now())));
    // The record says what was true of an earlier release of the vendor.
    let records = Accounts::new(core.services.store.clone());
    let (mut old, version) = records.get(linked.account.id).await.unwrap().unwrap();
    old.facts.insert("page".to_owned(), "cursor".into());
    records.update(&old, version, &[]).await.unwrap();
    clock.advance(Duration::from_secs(60));
    let learned = accounts.refresh(core.environment, &id).await.unwrap();
    assert_eq!((&learned.facts["page"], learned.data_version), (&json!("index"), same.data_version + 1));
}

#[tokio::test]
async fn a_signed_token_is_known_to_end() {
    use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
    let (vendor, _status) = denying();
    let (_folder, clock, core) = inside_of(format!("127.0.0.1:{}", vendor.port)).await;
    let end = clock.now() + jiff::SignedDuration::from_hours(24 * 2);
    let claims = json!({"sub": "rollcall", "exp": end.as_second()}).to_string();
    let token = format!("eyJhbGciOiJSUzI1NiJ9.{}.c2lnbmF0dXJl", BASE64_URL_SAFE_NO_PAD.encode(claims));
    let (account, _) = core.services.accounts.import(core.environment, at_port(vendor.port, &token)).await.unwrap();
    assert_eq!(account.expires_at.map(|end| end.as_second()), Some(end.as_second()));
    assert_eq!(told(&core, account.id).await, ["created", "active", "expiring"], "it ends in two days");
    // A credential without such a word has no end of the old one.
    let change = ChangeAccount { context: json!({"token": SECRET}).as_object().cloned(), ..ChangeAccount::default() };
    let (changed, _) = core.services.accounts.change(core.environment, &account.id.to_string(), change).await.unwrap();
    assert_eq!(changed.expires_at, None);
}
