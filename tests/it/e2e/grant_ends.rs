//! What ends a grant, and what does not: the vendor's own word for that alone. Whatever else it says, the refresh token is kept,
//! and the account comes back with what is mended.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{
    bar_refresh::{METHOD, ends_told, status},
    bar_vendor::answer,
    rotating::{Mood, Rotating, Rotation},
    vendor::{overlay, problem},
};
use crate::support::gateway::{Answer, Gateway, Kept};

/// What a token endpoint says of the client or of what it asks for.
const WORDS: [(u16, &str); 5] = [
    (401, "invalid_client"),
    (400, "invalid_scope"),
    (400, "unauthorized_client"),
    (400, "unsupported_grant_type"),
    (403, "access_denied"),
];

fn says(status: u16, word: &str) -> Mood {
    let body = json!({"error": word, "error_description": "says the vendor"}).to_string();
    Mood::Answer(answer(status, &[("content-type", "application/json")], body.as_bytes()))
}

async fn change(gateway: &Gateway, account: &str, secret: &str) -> Answer {
    let change = json!({"context": {"client_secret": secret}});
    gateway.call("PATCH", &format!("/integrated-account/{account}"), Some(&change)).await
}

async fn test(gateway: &Gateway, account: &str) -> Answer {
    gateway.call("POST", &format!("/integrated-account/{account}/test"), None).await
}

/// Gets a new token that no call is made with.
async fn refresh(gateway: &Gateway, account: &str) {
    let reply = gateway.call("POST", "/integrated-account/refresh-credentials", Some(&json!({"id": account}))).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
}

/// Calls until it works again.
async fn comes_back(gateway: &Gateway, account: &str, within: Duration) {
    let end = Instant::now() + within;
    loop {
        let reply = gateway.users(account).await;
        if reply.status == 200 {
            return;
        }
        assert!(Instant::now() < end, "it does not come back: {}", reply.text());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// The account must be linked anew, or its client be mended: it says why, and once.
async fn needs_somebody(gateway: &Gateway, account: &str, why: &str) {
    for _ in 0..5 {
        problem(&gateway.users(account).await, 401, "reauth_required", "vendor");
    }
    let shown = status(gateway, account).await;
    assert_eq!(shown["status"], "needs_reauth", "{why}: {shown}");
    assert!(shown["last_error"].as_str().unwrap().contains(why), "{why}: {shown}");
    assert_eq!(ends_told(gateway, account, 1).await, 1, "{why}");
}

#[tokio::test]
async fn a_refusal_of_the_client_keeps_the_refresh_token() {
    for (code, word) in WORDS {
        let vendor = Rotating::start(Rotation::Strict, 0..5);
        let gateway = Gateway::start(&Kept::embedded(), &vendor.vendor.authority());
        let account = gateway.link("scim", METHOD, vendor.grant(0, 3600)).await;
        vendor.end_access();
        vendor.set_mood(Some(says(code, word)));
        needs_somebody(&gateway, &account, word).await;
        assert_eq!(vendor.of(0).shown, [1], "{word}: the endpoint is not asked again and again");
        let refused = test(&gateway, &account).await;
        assert_eq!((refused.status, refused.code().as_str()), (401, "reauth_required"), "{word}: {}", refused.text());
        // Mended at the vendor: the next look finds that out.
        vendor.set_mood(None);
        let end = Instant::now() + Duration::from_secs(20);
        while test(&gateway, &account).await.status != 200 {
            assert!(Instant::now() < end, "{word}: it does not come back");
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        assert_eq!(status(&gateway, &account).await["status"], "active", "{word}");
        assert_eq!(gateway.users(&account).await.status, 200, "{word}");
        // The look above may have been that of a moment before, which the calls had begun.
        let grant = vendor.of(0);
        assert!((2..=3).contains(&grant.shown.len()) && !grant.revoked, "{word}: refused once or twice, taken once: {grant:?}");
        assert!(grant.shown.iter().all(|shown| *shown == 1), "{word}: {grant:?}");
        assert_eq!(ends_told(&gateway, &account, 1).await, 1, "{word}");
    }
}

#[tokio::test]
async fn a_new_client_secret_brings_an_account_back() {
    for kept in Kept::each() {
        let vendor = Rotating::start(Rotation::Strict, 0..5);
        let gateway = Gateway::start(&kept, &vendor.vendor.authority());
        let account = gateway.link("scim", METHOD, vendor.grant(0, 3600)).await;
        vendor.end_access();
        vendor.set_mood(Some(Mood::Client("another-synthetic-secret")));
        needs_somebody(&gateway, &account, "invalid_client").await;
        let refused = change(&gateway, &account, "wrong-synthetic-secret").await;
        assert_eq!((refused.status, refused.code().as_str()), (422, "credential_refused"), "{}", refused.text());
        assert_eq!(status(&gateway, &account).await["status"], "needs_reauth");
        let changed = change(&gateway, &account, "another-synthetic-secret").await;
        assert_eq!((changed.status, &changed.json()["status"]), (200, &json!("active")), "{}", changed.text());
        assert_eq!(gateway.users(&account).await.status, 200);
        vendor.end_access();
        assert_eq!(gateway.users(&account).await.status, 200);
        let grant = vendor.of(0);
        assert_eq!((grant.shown.as_slice(), grant.revoked), (&[1, 1, 1, 2][..], false), "the grant went on");
    }
}

/// Nobody asks for a look: the one that is made once a minute finds that the client was mended.
#[tokio::test]
async fn a_client_that_is_mended_is_found_by_itself() {
    let vendor = Rotating::start(Rotation::Strict, 0..5);
    let gateway = Gateway::start(&Kept::embedded(), &vendor.vendor.authority());
    let account = gateway.link("scim", METHOD, vendor.grant(0, 3600)).await;
    vendor.end_access();
    vendor.set_mood(Some(says(401, "invalid_client")));
    needs_somebody(&gateway, &account, "invalid_client").await;
    vendor.set_mood(None);
    comes_back(&gateway, &account, Duration::from_secs(130)).await;
    assert_eq!(status(&gateway, &account).await["status"], "active");
    assert!(!vendor.of(0).revoked);
}

#[tokio::test]
async fn a_word_of_the_connectors_own_ends_a_grant() {
    let kept = Kept::embedded();
    let folder = kept.folder().join("connectors");
    overlay(&folder, |name, text| match name {
        "connector.yaml" => text.replace("scope: \"{scope}\", revoke: ", "scope: \"{scope}\", ends: [consent_gone], revoke: "),
        _ => text,
    });
    let vendor = Rotating::start(Rotation::Strict, 0..5);
    let settings = [("ROLLCALL_CONNECTORS_DIR", folder.to_str().unwrap())];
    let gateway = Gateway::start_with(&kept, &vendor.vendor.authority(), &settings);
    let account = gateway.link("scim", METHOD, vendor.grant(0, 3600)).await;
    vendor.end_access();
    vendor.set_mood(Some(says(400, "consent_gone")));
    needs_somebody(&gateway, &account, "consent_gone").await;
    vendor.set_mood(None);
    assert_eq!(test(&gateway, &account).await.status, 401);
    problem(&change(&gateway, &account, "another-synthetic-secret").await, 401, "reauth_required", "vendor");
    assert_eq!(vendor.of(0).shown, [1], "the refresh token is gone");
}

/// An answer in words that nobody knows is a refusal all the same: the vendor did nothing, and what it says later is the reason.
#[tokio::test]
async fn an_unknown_word_leaves_no_doubt_behind() {
    let vendor = Rotating::start(Rotation::Strict, 0..5);
    let gateway = Gateway::start(&Kept::embedded(), &vendor.vendor.authority());
    let account = gateway.link("scim", METHOD, vendor.grant(0, 3600)).await;
    vendor.end_access();
    vendor.set_mood(Some(says(400, "try_it_tomorrow")));
    assert_eq!(gateway.users(&account).await.status, 502);
    assert_eq!(status(&gateway, &account).await["status"], "active");
    vendor.set_mood(None);
    vendor.end_grants();
    let end = Instant::now() + Duration::from_secs(30);
    while gateway.users(&account).await.code() != "reauth_required" {
        assert!(Instant::now() < end, "nobody finds out");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    needs_somebody(&gateway, &account, "invalid_grant").await;
    let shown = status(&gateway, &account).await;
    assert!(!shown["last_error"].as_str().unwrap().contains("refresh_outcome_unknown"), "{shown}");
}

/// Whether the refresh token before the one in force is kept.
fn keeps_the_one_before(kept: &Kept, account: &str) -> bool {
    let Kept::Redis(server, _) = kept else { unreachable!() };
    ::redis::cmd("EXISTS").arg(format!("rollcall:{{{account}}}/token-previous")).query(&mut server.connection()).unwrap()
}

#[tokio::test]
async fn the_refresh_token_before_is_kept_until_the_new_access_token_has_worked() {
    let vendor = Rotating::start(Rotation::Strict, 0..5);
    let kept = Kept::redis();
    let gateway = Gateway::start(&kept, &vendor.vendor.authority());
    let account = gateway.link("scim", METHOD, vendor.grant(0, 3600)).await;
    assert!(!keeps_the_one_before(&kept, &account));
    refresh(&gateway, &account).await;
    assert!(keeps_the_one_before(&kept, &account), "nobody has tried the new one");
    assert_eq!(gateway.users(&account).await.status, 200);
    let end = Instant::now() + Duration::from_secs(5);
    while keeps_the_one_before(&kept, &account) {
        assert!(Instant::now() < end, "a used refresh token is kept although the new one works");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(vendor.of(0).shown, [1]);
}

#[tokio::test]
async fn a_vendor_that_forgot_its_newest_tokens_is_shown_the_one_before() {
    for kept in Kept::each() {
        let vendor = Rotating::start(Rotation::Strict, 0..5);
        let gateway = Gateway::start(&kept, &vendor.vendor.authority());
        let account = gateway.link("scim", METHOD, vendor.grant(0, 3600)).await;
        refresh(&gateway, &account).await;
        vendor.forget_newest();
        assert_eq!(gateway.users(&account).await.status, 200);
        assert_eq!(vendor.of(0).shown, [1, 2, 1]);
        // What came of it is used from then on.
        vendor.end_access();
        assert_eq!(gateway.users(&account).await.status, 200);
        let grant = vendor.of(0);
        assert_eq!((grant.shown.as_slice(), grant.revoked), (&[1, 2, 1, 2][..], false));
        assert_eq!(status(&gateway, &account).await["status"], "active");
    }
}

/// The newest refresh token is refused, and the endpoint has no answer to the one before: that ends nothing.
#[tokio::test]
async fn a_try_with_the_refresh_token_before_that_fails_is_made_again() {
    for (number, failure) in [answer(503, &[], b"{}"), Vec::new()].into_iter().enumerate() {
        let vendor = Rotating::start(Rotation::Strict, 0..5);
        let gateway = Gateway::start(&Kept::embedded(), &vendor.vendor.authority());
        let account = gateway.link("scim", METHOD, vendor.grant(0, 3600)).await;
        refresh(&gateway, &account).await;
        vendor.forget_newest();
        vendor.set_mood(Some(Mood::AnswerTo(1, failure)));
        let reply = gateway.users(&account).await;
        assert!(matches!(reply.status, 502 | 503), "{number}: {}", reply.text());
        let shown: Value = status(&gateway, &account).await;
        assert_eq!(shown["status"], "active", "{number}: {shown}");
        vendor.set_mood(None);
        comes_back(&gateway, &account, Duration::from_secs(30)).await;
        let grant = vendor.of(0);
        assert_eq!((grant.shown.as_slice(), grant.revoked), (&[1, 2, 1, 2, 1][..], false), "{number}");
        assert_eq!(ends_told(&gateway, &account, 0).await, 0, "{number}");
    }
}

#[tokio::test]
async fn a_grant_whose_last_two_refresh_tokens_are_refused_is_over() {
    let vendor = Rotating::start(Rotation::Strict, 0..5);
    let gateway = Gateway::start(&Kept::embedded(), &vendor.vendor.authority());
    let account = gateway.link("scim", METHOD, vendor.grant(0, 3600)).await;
    refresh(&gateway, &account).await;
    vendor.end_grants();
    needs_somebody(&gateway, &account, "invalid_grant").await;
    assert_eq!(vendor.of(0).shown, [1, 2, 1], "each once, and nothing more");
}
