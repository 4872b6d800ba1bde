//! Account tokens as their holders meet them: where they pass, what they reach, when they end, and G-13 against the binary.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use jiff::{SignedDuration, Timestamp};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use rollcall::{
    model::{Scope, Scopes},
    store::{redis::Redis, repo::Installation},
    vault::{AccountPass, KeyRing, SystemKeys},
};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    bar_vendor::{self, scim},
    vendor::{SECRET, Vendor, is_sound, names, problem},
};
use crate::support::{
    gateway::{ADMIN, Answer, Gateway, Kept, client},
    long,
};

const USERS: &str = "/unified/user-directory/users";

async fn made(gateway: &Gateway, by: &str, account: &str, scopes: Option<&[&str]>) -> Answer {
    let mut body = json!({"integrated_account_id": account});
    if let Some(scopes) = scopes {
        body["scopes"] = json!(scopes);
    }
    gateway.call_as(Some(by), "POST", "/integrated-account/token", Some(&body)).await
}

async fn account_token(gateway: &Gateway, by: &str, account: &str) -> String {
    let answer = made(gateway, by, account, None).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["integrated_account_token"].as_str().unwrap().to_owned()
}

async fn get(gateway: &Gateway, token: &str, path: &str) -> Answer {
    gateway.call_as(Some(token), "GET", path, None).await
}

/// An API token's id and text.
async fn api_token(gateway: &Gateway, body: &Value) -> (String, String) {
    let made = gateway.call("POST", "/api-token", Some(body)).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let text = |name: &str| made.json()[name].as_str().unwrap().to_owned();
    (text("id"), text("token"))
}

#[tokio::test]
async fn a_token_for_one_account_passes_wherever_clients_put_it_and_never_reaches_the_vendor() {
    let vendor = bar_vendor::Vendor::start(|asked| scim(asked, 3));
    let gateway = Gateway::start(&Kept::embedded(), &vendor.authority());
    let link = |path: &'static str| gateway.link("scim", "bearer", json!({"base_url": vendor.at(path), "token": SECRET}));
    let (account, other) = (link("/a").await, link("/b").await);
    let answer = made(&gateway, ADMIN, &account, None).await;
    let told = answer.json();
    assert_eq!((answer.status, &told["expires_in"]), (200, &json!(900)), "{told}");
    assert_eq!(told["token"], told["integrated_account_token"]);
    let ends: Timestamp = told["expires_at"].as_str().unwrap().parse().unwrap();
    assert!((880..=900).contains(&(ends.as_second() - Timestamp::now().as_second())), "{told}");
    let token = told["token"].as_str().unwrap();

    for path in [
        USERS.to_owned(),
        format!("{USERS}?integrated_account_id={account}"),
        format!("{USERS}?integrated_account_id={}", account.to_uppercase()),
        format!("{USERS}/u1"),
        "/proxy/Users".to_owned(),
        "/custom/Users".to_owned(),
        "/passthrough/-/Users".to_owned(),
        format!("/passthrough/{account}/Users"),
        "/integrated-account/me".to_owned(),
    ] {
        let answer = get(&gateway, token, &path).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    }
    let lines = format!("{USERS}?truto_response_format=stream");
    let lines = get(&gateway, token, &lines).await;
    assert!(lines.status == 200 && lines.text().lines().count() == 4, "{}", lines.text());

    let basic = |user: &str, password: &str| format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
    for (name, value) in [
        ("authorization", format!("Bearer {token}")),
        ("authorization", format!("SSWS {token}")),
        ("authorization", format!("token {token}")),
        ("authorization", format!("GenieKey {token}")),
        ("authorization", format!("Token token=\"{token}\", email=someone@vendor.example")),
        ("authorization", basic("anybody", token)),
        ("authorization", basic(token, "")),
        ("authorization", basic(token, "x")),
        ("x-api-key", token.to_owned()),
        ("x-vendor-auth", format!("key={token}")),
    ] {
        let base = &gateway.base;
        for place in ["-", account.as_str()] {
            let sent = client().get(format!("{base}/passthrough/{place}/Users")).header(name, &value).send().await.unwrap();
            assert_eq!(sent.status(), 200, "{name}: {value}");
        }
    }
    let by_query = client().get(format!("{}/passthrough/-/Users?count=2&api_key={token}", gateway.base)).send().await.unwrap();
    assert_eq!(by_query.status(), 200);
    for asked in vendor.asked() {
        let seen = format!("{} {:?}", asked.target, asked.headers);
        assert!(!seen.contains("rca_") && !seen.contains(&token[8..40]) && !seen.contains("api_key="), "{seen}");
        assert!(asked.header("authorization") == format!("Bearer {SECRET}"), "{seen}");
    }

    let before = vendor.count();
    for path in [
        format!("{USERS}?integrated_account_id={other}"),
        format!("{USERS}/u1?integrated_account_id={other}"),
        format!("/proxy/Users?integrated_account_id={other}"),
        format!("/custom/Users?integrated_account_id={other}"),
        format!("/passthrough/{other}/Users"),
        format!("/passthrough/-/Users?integrated_account_id={other}"),
    ] {
        problem(&get(&gateway, token, &path).await, 404, "not_found", "gateway");
    }
    assert_eq!(vendor.count(), before, "another account's vendor was asked");
    is_sound(&gateway);
    assert!(!gateway.said().contains(&token[8..40]), "a token is in the log");
}

/// The keys of an installation over Redis.
async fn keys_of(kept: &Kept) -> SystemKeys {
    let Kept::Redis(server, folder) = kept else { unreachable!() };
    let store = Arc::new(Redis::connect(&server.url(), None).await.unwrap());
    let stored = Installation::new(store).system_keys().await.unwrap().unwrap();
    SystemKeys::open(&KeyRing::load(&folder.path().join("keys.json")).unwrap(), &stored.value).unwrap()
}

fn seconds(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap()
}

/// A token with another payload, header or signature.
fn changed(token: &str, part: usize, change: impl Fn(&mut Value)) -> String {
    let mut parts: Vec<String> = token.trim_start_matches("rca_").split('.').map(str::to_owned).collect();
    let mut value: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(&parts[part]).unwrap()).unwrap();
    change(&mut value);
    parts[part] = URL_SAFE_NO_PAD.encode(value.to_string());
    format!("rca_{}", parts.join("."))
}

#[tokio::test]
async fn g_13_what_is_no_account_token_is_refused_on_every_route() {
    let (kept, vendor) = (Kept::redis(), Vendor::start());
    let gateway = Gateway::start(&kept, &vendor.authority());
    let (account, other) =
        (gateway.link("scim", "bearer", vendor.context()).await, gateway.link("scim", "bearer", vendor.context()).await);
    let (id, maker) = api_token(&gateway, &json!({"name": "maker", "scopes": ["admin"]})).await;
    let shown = gateway.get(&format!("/api-token/{id}")).await.json();
    let good = account_token(&gateway, &maker, &account).await;
    let keys = keys_of(&kept).await;
    let now = seconds(Timestamp::now());
    let pass = AccountPass {
        account: account.parse().unwrap(),
        made_at: None,
        environment: shown["environment_id"].as_str().unwrap().parse().unwrap(),
        made_with: id.parse().unwrap(),
        scopes: Scopes([Scope::DirectoryRead, Scope::ProxyRead, Scope::AccountsRead].into()),
        issued_at: now,
        expires_at: now + SignedDuration::from_mins(15),
    };
    let signed = |pass: &AccountPass| keys.sign_account_token(pass).unwrap().expose().to_owned();
    for token in [&good, &signed(&pass)] {
        assert_eq!(get(&gateway, token, USERS).await.status, 200, "what is right passes");
    }
    let hour = SignedDuration::from_hours(1);
    let stranger = EncodingKey::from_secret(b"a key of thirty-two bytes, or so");
    let claims = |token: &str| -> Value {
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap()).unwrap()
    };
    let by_stranger = |algorithm| format!("rca_{}", encode(&Header::new(algorithm), &claims(&good), &stranger).unwrap());
    let (signature, other_pass) =
        (good.rsplit_once('.').unwrap(), AccountPass { account: other.parse().unwrap(), ..pass.clone() });
    let other_token = signed(&other_pass);
    let bad = [
        (
            "expired",
            signed(&AccountPass { issued_at: now - hour, expires_at: now - SignedDuration::from_secs(1), ..pass.clone() }),
        ),
        ("not yet valid", signed(&AccountPass { issued_at: now + hour, expires_at: now + hour + hour, ..pass.clone() })),
        ("another environment", signed(&AccountPass { environment: rollcall::model::EnvironmentId::generate(), ..pass.clone() })),
        ("no maker", signed(&AccountPass { made_with: Uuid::now_v7(), ..pass.clone() })),
        ("another installation's key", by_stranger(Algorithm::HS256)),
        ("HS384 by a stranger", by_stranger(Algorithm::HS384)),
        ("`none`", format!("{}.", changed(&good, 0, |header| header["alg"] = json!("none")).rsplit_once('.').unwrap().0)),
        ("`none` with the signature", changed(&good, 0, |header| header["alg"] = json!("none"))),
        ("RS256", changed(&good, 0, |header| header["alg"] = json!("RS256"))),
        ("HS512", changed(&good, 0, |header| header["alg"] = json!("HS512"))),
        ("another account's id", changed(&good, 1, |claims| claims["sub"] = json!(other))),
        ("more rights", changed(&good, 1, |claims| claims["scopes"] = json!(["admin"]))),
        ("a longer life", changed(&good, 1, |claims| claims["exp"] = json!(4_000_000_000_i64))),
        ("`exp` as a text", changed(&good, 1, |claims| claims["exp"] = json!("4000000000"))),
        ("no audience", changed(&good, 1, |claims| drop(claims.as_object_mut().unwrap().shift_remove("aud")))),
        ("another's payload", format!("{}.{}", other_token.rsplit_once('.').unwrap().0, signature.1)),
        ("no signature", format!("{}.", signature.0)),
        ("no prefix", good.trim_start_matches("rca_").to_owned()),
        ("the other prefix", good.replacen("rca_", "rck_", 1)),
        ("cut", good[..good.len() - 1].to_owned()),
        ("extra long", format!("{good}{}", "A".repeat(8 << 10))),
        ("many parts", format!("rca_{}", "a.".repeat(500))),
    ];
    let asked = vendor.asked();
    for (what, token) in &bad {
        for path in [
            USERS.to_owned(),
            format!("{USERS}?integrated_account_id={account}"),
            "/proxy/Users".to_owned(),
            "/custom/Users".to_owned(),
            "/passthrough/-/Users".to_owned(),
            format!("/passthrough/{account}/Users"),
            "/integrated-account/me".to_owned(),
        ] {
            let answer = get(&gateway, token, &path).await;
            assert_eq!((answer.status, answer.code().as_str()), (401, "invalid_token"), "{what} at {path}: {}", answer.text());
            assert!(answer.header("www-authenticate").is_some_and(|how| how.starts_with("Bearer")), "{what} at {path}");
        }
        problem(&get(&gateway, token, "/integrated-account").await, 401, "invalid_token", "gateway");
    }
    for name in ["token", "access_token", "integrated_account_token", "authorization"] {
        let answer = gateway.call_as(None, "GET", &format!("{USERS}?{name}={good}"), None).await;
        problem(&answer, 401, "invalid_token", "gateway");
    }
    assert_eq!(vendor.asked(), asked, "a vendor was asked with a bad token");

    let nowhere = signed(&AccountPass { account: rollcall::model::AccountId::generate(), ..pass.clone() });
    for path in [USERS, "/proxy/Users", "/custom/Users", "/passthrough/-/Users", "/integrated-account/me"] {
        problem(&get(&gateway, &nowhere, path).await, 401, "invalid_token", "gateway");
    }
    // What it stands on is taken away.
    assert_eq!(gateway.call("DELETE", &format!("/integrated-account/{other}"), None).await.status, 200);
    for path in [USERS, "/passthrough/-/Users", "/integrated-account/me"] {
        problem(&get(&gateway, &other_token, path).await, 401, "invalid_token", "gateway");
    }
    assert_eq!(get(&gateway, &good, USERS).await.status, 200);
    assert_eq!(gateway.call("DELETE", &format!("/api-token/{id}"), None).await.status, 200);
    for path in [USERS, "/passthrough/-/Users", "/integrated-account/me"] {
        problem(&get(&gateway, &good, path).await, 401, "invalid_token", "gateway");
    }
    is_sound(&gateway);
}

#[tokio::test]
async fn g_13_the_end_of_an_api_token_ends_its_account_tokens_on_every_node_within_a_second() {
    let (kept, vendor) = (Kept::redis(), Vendor::start());
    let nodes = [Gateway::start(&kept, &vendor.authority()), Gateway::start(&kept, &vendor.authority())];
    let account = nodes[0].link("scim", "bearer", vendor.context()).await;
    let mut slowest = Duration::ZERO;
    for _ in 0..if long() { 20 } else { 3 } {
        let (id, maker) = api_token(&nodes[0], &json!({"name": "maker", "scopes": ["accounts:read", "directory:read"]})).await;
        let token = account_token(&nodes[0], &maker, &account).await;
        for node in &nodes {
            assert_eq!(get(node, &token, USERS).await.status, 200);
        }
        assert_eq!(nodes[0].call("DELETE", &format!("/api-token/{id}"), None).await.status, 200);
        let ended = Instant::now();
        problem(&get(&nodes[0], &token, USERS).await, 401, "invalid_token", "gateway");
        while get(&nodes[1], &token, USERS).await.status != 401 {
            assert!(ended.elapsed() < Duration::from_secs(5), "the other node goes on");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        slowest = slowest.max(ended.elapsed());
    }
    // A call under way when the second is over is not a use after it; half a second is for a busy machine.
    assert!(slowest <= Duration::from_millis(if long() { 1000 } else { 1500 }), "{slowest:?}");
}

#[tokio::test]
async fn an_administrators_account_tokens_pass_on_every_node_and_end_with_its_text() {
    let (kept, vendor) = (Kept::redis(), Vendor::start());
    let first = Gateway::start(&kept, &vendor.authority());
    let account = first.link("scim", "bearer", vendor.context()).await;
    let token = account_token(&first, ADMIN, &account).await;
    let second = Gateway::start(&kept, &vendor.authority());
    assert_eq!(get(&second, &token, USERS).await.status, 200, "made on another node, by the same administrator");
    assert!(second.stop());
    let changed = [("ROLLCALL_ADMIN_TOKEN", "another-administrator-of-the-end-to-end-tests-0123456789")];
    let third = Gateway::start_with(&kept, &vendor.authority(), &changed);
    problem(&get(&third, &token, USERS).await, 401, "invalid_token", "gateway");
    assert_eq!(get(&first, &token, USERS).await.status, 200);
}

#[tokio::test]
async fn nobody_hands_out_more_than_he_has() {
    let (kept, vendor) = (Kept::embedded(), Vendor::start());
    let gateway = Gateway::start(&kept, &vendor.authority());
    let account = gateway.link("scim", "bearer", vendor.context()).await;
    let reader = gateway.token(&["accounts:read", "directory:read"]).await;
    let token = account_token(&gateway, &reader, &account).await;
    assert_eq!(get(&gateway, &token, USERS).await.status, 200);
    for (method, path, scope) in [
        ("GET", "/proxy/Users", "proxy:read"),
        ("GET", "/passthrough/-/Users", "proxy:read"),
        ("POST", "/passthrough/-/Users", "proxy:write"),
        ("POST", USERS, "directory:write"),
        ("PATCH", "/integrated-account/me", "accounts:write"),
    ] {
        let body = json!({"context": {}});
        let answer = gateway.call_as(Some(&token), method, path, Some(&body)).await;
        names(&answer, 403, "scope_missing", scope);
    }

    let narrow = made(&gateway, ADMIN, &account, Some(&["proxy:read"])).await.json();
    let narrow = narrow["token"].as_str().unwrap();
    assert_eq!(get(&gateway, narrow, "/passthrough/-/Users").await.status, 200);
    names(&get(&gateway, narrow, USERS).await, 403, "scope_missing", "directory:read");
    names(&get(&gateway, narrow, "/integrated-account/me").await, 403, "scope_missing", "accounts:read");

    names(&made(&gateway, &reader, &account, Some(&["directory:write"])).await, 403, "scope_missing", "directory:write");
    for scopes in [&[][..], &["admin"], &["directory:read", "links:write"]] {
        names(&made(&gateway, ADMIN, &account, Some(scopes)).await, 400, "invalid_body", "scopes");
    }
    names(&made(&gateway, ADMIN, "nonsense", None).await, 404, "not_found", "integrated_account_id");
    let blind = gateway.token(&["directory:read", "proxy:write"]).await;
    names(&made(&gateway, &blind, &account, None).await, 403, "scope_missing", "accounts:read");
    let unknown = json!({"integrated_account_id": account, "expires_in": 3600});
    let answer = gateway.call("POST", "/integrated-account/token", Some(&unknown)).await;
    names(&answer, 400, "invalid_body", "expires_in");

    // Nor longer than his own token lives.
    let soon = (Timestamp::now() + SignedDuration::from_secs(60)).to_string();
    let (_, ending) = api_token(&gateway, &json!({"name": "ending", "scopes": ["accounts:read"], "expires_at": soon})).await;
    let short = made(&gateway, &ending, &account, None).await.json();
    assert!(short["expires_in"].as_i64().is_some_and(|left| (1..=60).contains(&left)), "{short}");
    is_sound(&gateway);
}

#[tokio::test]
async fn me_is_the_account_without_its_secrets_and_only_its_labels_change() {
    for kept in Kept::each() {
        let vendor = Vendor::start();
        let gateway = Gateway::start(&kept, &vendor.authority());
        let account = gateway.link("scim", "bearer", vendor.context()).await;
        let token = account_token(&gateway, ADMIN, &account).await;
        let patch = |body: Value| {
            let (gateway, token) = (&gateway, &token);
            async move { gateway.call_as(Some(token), "PATCH", "/integrated-account/me", Some(&body)).await }
        };
        let me = get(&gateway, &token, "/integrated-account/me").await;
        assert_eq!((me.status, me.json()), (200, gateway.get(&format!("/integrated-account/{account}")).await.json()));
        assert_eq!((&me.json()["context"]["token"], me.text().contains(SECRET)), (&json!("***"), false), "{}", me.text());

        let asked = vendor.asked();
        let labelled = patch(json!({"context": {"plan": "gold", "seats": 5}})).await;
        assert_eq!((labelled.status, &labelled.json()["context"]["plan"]), (200, &json!("gold")), "{}", labelled.text());
        let less = patch(json!({"context": {"plan": null}})).await.json();
        assert_eq!((less["context"].get("plan"), &less["context"]["seats"]), (None, &json!(5)), "{less}");
        for (field, value) in [
            ("token", json!("another-token")),
            ("token", Value::Null),
            ("base_url", json!("https://elsewhere.example")),
            ("base_ulr", json!("https://elsewhere.example")),
            ("webhook_secret", json!("s3cret")),
        ] {
            let answer = patch(json!({"context": {"harmless": 1, field: value}})).await;
            names(&answer, 422, "invalid_field", &format!("context.{field}"));
        }
        for (body, field) in [
            (json!({"context": {}, "tenant_id": "other"}), "tenant_id"),
            (json!({"context": {}, "authentication_method": "basic"}), "authentication_method"),
            (json!({}), "context"),
        ] {
            names(&patch(body).await, 400, "invalid_body", field);
        }
        let after = gateway.get(&format!("/integrated-account/{account}")).await.json();
        let shown = |name: &str| after["context"].get(name).cloned();
        assert_eq!((shown("seats"), shown("harmless"), shown("token")), (Some(json!(5)), None, Some(json!("***"))), "{after}");
        assert!(after["context"]["base_url"].as_str().is_some_and(|base| base.starts_with(&vendor.base())), "{after}");
        assert_eq!((vendor.asked(), &after["tenant_id"]), (asked, &json!("acme")), "a label is no credential");

        for method in ["GET", "PATCH"] {
            let body = json!({"context": {}});
            let body = (method == "PATCH").then_some(&body);
            problem(&gateway.call(method, "/integrated-account/me", body).await, 403, "token_kind", "gateway");
        }
        problem(&gateway.call_as(Some(&token), "DELETE", "/integrated-account/me", None).await, 403, "token_kind", "gateway");
        let wrong = gateway.call("PUT", "/integrated-account/me", None).await;
        assert_eq!((wrong.status, wrong.header("allow")), (405, Some("GET, HEAD, PATCH")), "{}", wrong.text());
        is_sound(&gateway);
    }
}

/// Two account tokens of one maker say the same about different accounts; their idempotency keys are not each other's.
#[tokio::test]
async fn idempotency_keys_of_account_tokens_belong_to_their_accounts() {
    let (kept, vendor) = (Kept::embedded(), Vendor::start());
    let gateway = Gateway::start(&kept, &vendor.authority());
    let body = json!({"context": {"plan": "gold"}});
    let mut tokens = Vec::new();
    for _ in 0..2 {
        let account = gateway.link("scim", "bearer", vendor.context()).await;
        let token = account_token(&gateway, ADMIN, &account).await;
        let answer = gateway.call_with(&token, &[("idempotency-key", "k")], "PATCH", "/integrated-account/me", Some(&body)).await;
        assert_eq!((answer.status, answer.header("idempotent-replayed")), (200, None), "{}", answer.text());
        assert_eq!(answer.json()["id"], json!(account));
        tokens.push((account, token));
    }
    for (account, _) in &tokens {
        // Another token for the same account repeats the write.
        let again = account_token(&gateway, ADMIN, account).await;
        let answer = gateway.call_with(&again, &[("idempotency-key", "k")], "PATCH", "/integrated-account/me", Some(&body)).await;
        assert_eq!((answer.header("idempotent-replayed"), &answer.json()["id"]), (Some("true"), &json!(account)));
    }
}
