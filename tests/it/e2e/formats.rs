//! N-1: what a release has stored the ones after it read. A backup of each format lies here as the first release of that format
//! made it, with the ring it was made with, and is never made anew: a change by which it is not read any more is one that needs
//! another format.

use std::{
    collections::BTreeSet,
    fs,
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rollcall::store::repo::STORED_FORMAT;
use serde_json::{Value, json};

use super::{
    backup::{on, ring},
    bar_vendor::{Act, Asked, Vendor, answer, json_answer, scim},
    cli::run,
};
use crate::support::gateway::{Gateway, Kept, command};

const ACCOUNTS: &str = "/integrated-account";

fn formats() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/e2e/formats")
}

/// What is there of everything that lives for ever.
async fn seen(gateway: &Gateway, token: &str) -> Value {
    let all = |answer: Value| -> BTreeSet<String> {
        answer["result"].as_array().unwrap().iter().map(|record| record["id"].as_str().unwrap().to_owned()).collect()
    };
    let ids = async |path: &str| all(gateway.get(path).await.json());
    let mut accounts = Vec::new();
    for id in ids(ACCOUNTS).await {
        accounts.push(gateway.get(&format!("{ACCOUNTS}/{id}")).await.json());
    }
    let installs = gateway.get("/environment-integration").await.json();
    let own = installs["result"].as_array().unwrap().iter().find(|install| install["show_in_catalog"] == false).cloned();
    let verified = gateway.get("/audit/verify").await.json();
    assert_eq!(verified["problems"], json!([]), "{verified}");
    json!({
        "accounts": accounts,
        "events": ids("/event?limit=500").await,
        "tokens": ids("/api-token").await,
        "environments": ids("/environment").await,
        "install": own,
        "token_works": gateway.call_as(Some(token), "GET", ACCOUNTS, None).await.status == 200,
    })
}

/// Where the vendor of the account with a consent is: what it agreed to is bound to that address.
const CONSENT_PORT: u16 = 18_471;
/// The folder of format 1 with such an account.
const CONSENT: &str = "1-consent";

/// A vendor that takes this refresh token and no other, and gives the tokens named so for it.
fn consent_vendor(takes: &'static str, gives: &'static str) -> Vendor {
    let end = Instant::now() + Duration::from_secs(120);
    let listener = loop {
        match TcpListener::bind(("127.0.0.1", CONSENT_PORT)) {
            Ok(listener) => break listener,
            // Another run of the tests has it for a while.
            Err(why) => assert!(Instant::now() < end, "port {CONSENT_PORT}: {why}"),
        }
        std::thread::sleep(Duration::from_millis(100));
    };
    Vendor::on(listener, move |asked| match (asked.path(), asked.header("authorization")) {
        ("/token", _) if form_of(asked) == takes => {
            let (access, refresh) = (format!("{gives}-access"), format!("{gives}-refresh"));
            json_answer(200, &json!({"access_token": access, "refresh_token": refresh, "expires_in": 3600}))
        }
        ("/token", _) => json_answer(400, &json!({"error": "invalid_grant"})),
        (_, bearer) if bearer == format!("Bearer {gives}-access") || (gives == "second" && bearer == "Bearer first-access") => {
            scim(asked, 3)
        }
        _ => Act::Send(answer(401, &[], b"{}")),
    })
}

/// Makes the backup of an account that a customer agreed to, whose last refresh nobody has used yet.
async fn make_consent(to: &Path) {
    let kept = Kept::embedded();
    let vendor = consent_vendor("first-refresh", "second");
    let gateway = Gateway::start(&kept, &vendor.authority());
    let place = async |slug: &str| {
        let all = gateway.walk("/environment-integration").await;
        let found = all.iter().find(|install| install["integration"]["name"] == slug).unwrap();
        format!("/environment-integration/{}", found["id"].as_str().unwrap())
    };
    let app = json!({"client_id": "an-own-app", "client_secret": "synthetic"});
    let said = json!({"show_in_catalog": false, "override": {"credentials": {"oauth2": app}}});
    assert_eq!(gateway.call("PATCH", &place("scim").await, Some(&said)).await.status, 200);
    let context = json!({"base_url": vendor.at("/scim"), "authorize_url": vendor.at("/auth"), "token_url": vendor.at("/token"),
        "client_id": "consent", "client_secret": "synthetic", "crm": {"id": 7},
        "oauth": {"token": {"access_token": "first-access", "refresh_token": "first-refresh", "expires_in": 3600}}});
    let account = gateway.link("scim", "oauth2", context).await;
    let refresh = json!({"id": account});
    let refreshed = gateway.call("POST", "/integrated-account/refresh-credentials", Some(&refresh)).await;
    assert_eq!(refreshed.status, 200, "{}", refreshed.text());
    let off = gateway.link("scim", "bearer", json!({"base_url": vendor.at("/scim"), "token": "first-access"})).await;
    let change = json!({"is_enabled": false, "expires_at": "2999-01-01T00:00:00Z"});
    assert_eq!(gateway.call("PATCH", &format!("{ACCOUNTS}/{off}"), Some(&change)).await.status, 200);
    let token = gateway.token(&["accounts:read", "events:read"]).await;
    let ends = json!({"name": "ends", "scopes": ["directory:read"], "expires_at": "2999-01-01T00:00:00Z"});
    assert_eq!(gateway.call("POST", "/api-token", Some(&ends)).await.status, 201);
    let link = gateway.call("POST", "/link-token", Some(&json!({"tenant_id": "acme"}))).await.json();
    save(&kept, &gateway, (&token, 5), to).await;
    let data = fs::read_to_string(to.join("data.ndjson")).unwrap();
    assert!(data.contains("\"name\":\"token-previous\""), "the refresh token before is kept");
    let mut expected: Value = serde_json::from_str(&fs::read_to_string(to.join("expected.json")).unwrap()).unwrap();
    (expected["account"], expected["link"]) = (json!(account), link["id"].clone());
    fs::write(to.join("expected.json"), serde_json::to_string_pretty(&expected).unwrap() + "\n").unwrap();
}

/// Saves a store once so many events are in its log, with what is shown of it.
async fn save(kept: &Kept, gateway: &Gateway, (token, events): (&str, usize), to: &Path) {
    while gateway.get("/event?limit=500").await.json()["result"].as_array().unwrap().len() < events {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // None is on its way any more.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let expected = json!({"token": token, "seen": seen(gateway, token).await});
    let (code, _, err) = tokio::task::block_in_place(|| run(&mut on(kept, &["backup", to.to_str().unwrap()])));
    assert_eq!(code, Some(0), "{err}");
    fs::copy(ring(kept), to.join("store.keys")).unwrap();
    fs::write(to.join("expected.json"), serde_json::to_string_pretty(&expected).unwrap() + "\n").unwrap();
}

/// Puts a saved store into this one; what the restore told, and what is expected of it.
fn restored(format: &str, kept: &Kept) -> (Value, Value) {
    let saved = formats().join(format);
    let expected = serde_json::from_str(&fs::read_to_string(saved.join("expected.json")).unwrap()).unwrap();
    fs::copy(saved.join("store.keys"), ring(kept)).unwrap();
    fs::set_permissions(ring(kept), fs::Permissions::from_mode(0o600)).unwrap();
    let mut restore = command(&["restore", saved.to_str().unwrap(), "--json"]);
    let (code, out, err) = tokio::task::block_in_place(|| run(restore.envs(kept.settings()).current_dir(kept.folder())));
    assert_eq!(code, Some(0), "format {format}: {err}");
    (serde_json::from_str(&out).unwrap(), expected)
}

/// Makes the backup of this release's format, where there is none yet.
async fn make(to: &Path) {
    let kept = Kept::embedded();
    let vendor = Vendor::start(|asked| match asked.path() {
        "/token" => json_answer(200, &json!({"access_token": "given", "token_type": "Bearer", "expires_in": 3600})),
        _ => scim(asked, 3),
    });
    let gateway = Gateway::start(&kept, &vendor.authority());
    let base = vendor.at("/scim");
    gateway.link("scim", "bearer", json!({"base_url": base, "token": "a-synthetic-token", "crm": {"id": 7}})).await;
    let context = json!({"base_url": base, "token_url": vendor.at("/token"), "client_id": "me", "client_secret": "synthetic"});
    let second = gateway.link("scim", "oauth2_client_credentials", context).await;
    let gone = gateway.link("scim", "bearer", json!({"base_url": base, "token": "a-synthetic-token"})).await;
    assert_eq!(gateway.get(&format!("/unified/user-directory/users?integrated_account_id={second}")).await.status, 200);
    assert_eq!(gateway.call("DELETE", &format!("{ACCOUNTS}/{gone}"), None).await.status, 200);
    let token = gateway.token(&["accounts:read"]).await;
    let install = gateway.get(&format!("{ACCOUNTS}/{second}")).await.json()["environment_integration_id"].clone();
    let app = json!({"show_in_catalog": false, "override": {"credentials": {"oauth2": {"client_id": "mine", "client_secret": "synthetic"}}}});
    let place = format!("/environment-integration/{}", install.as_str().unwrap());
    assert_eq!(gateway.call("PATCH", &place, Some(&app)).await.status, 200);
    assert_eq!(gateway.call("POST", "/environment", Some(&json!({"name": "second"}))).await.status, 201);
    save(&kept, &gateway, (&token, 7), to).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn n_1_what_every_format_holds_is_read() {
    let own = formats().join(STORED_FORMAT.to_string());
    if !own.exists() && std::env::var_os("ROLLCALL_UPDATE").is_some() {
        make(&own).await;
    }
    assert!(own.exists(), "format {STORED_FORMAT} has its backup here: `ROLLCALL_UPDATE=1` makes one");
    let known: BTreeSet<String> =
        fs::read_dir(formats()).unwrap().map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    let oldest = STORED_FORMAT.saturating_sub(1).max(1);
    assert!((oldest..=STORED_FORMAT).all(|format| known.contains(&format.to_string())), "{known:?}");
    for format in known {
        for kept in Kept::each() {
            let (told, expected) = restored(&format, &kept);
            let count = expected["seen"]["accounts"].as_array().unwrap().len();
            assert_eq!((&told["accounts"], &told["left_out"]), (&json!(count), &json!([])), "{told}");
            assert_eq!((&told["unreadable"], &told["unreadable_apps"]), (&json!([]), &json!([])), "every secret opens: {told}");
            let gateway = Gateway::start(&kept, "");
            let now = seen(&gateway, expected["token"].as_str().unwrap()).await;
            for (name, then) in expected["seen"].as_object().unwrap() {
                assert_same(then, &now[name], &format!("format {format}, {name}"));
            }
            assert!(gateway.stop());
        }
    }
}

/// What a customer agreed to goes on: by the refresh token that is kept, or by the one before it where the vendor does not know that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn n_1_a_consent_of_an_earlier_release_goes_on() {
    let saved = formats().join(CONSENT);
    if !saved.exists() && std::env::var_os("ROLLCALL_UPDATE").is_some() {
        make_consent(&saved).await;
    }
    let stores = Kept::each().into_iter().zip(["second-refresh"; 2]).chain([(Kept::embedded(), "first-refresh")]);
    for (kept, takes) in stores {
        let (told, expected) = restored(CONSENT, &kept);
        assert_eq!((&told["accounts"], &told["left_out"], &told["unreadable"]), (&json!(2), &json!([]), &json!([])), "{told}");
        let vendor = consent_vendor(takes, "third");
        let gateway = Gateway::start(&kept, &vendor.authority());
        let account = expected["account"].as_str().unwrap();
        let users = async || gateway.get(&format!("/unified/user-directory/users?integrated_account_id={account}")).await;
        for _ in 0..2 {
            let answer = users().await;
            assert_eq!((answer.status, answer.json()["result"].as_array().map(Vec::len)), (200, Some(3)), "{}", answer.text());
        }
        let shown: Vec<String> = vendor.asked().iter().filter(|asked| asked.path() == "/token").map(form_of).collect();
        let order: &[&str] = if takes == "second-refresh" { &["second-refresh"] } else { &["second-refresh", "first-refresh"] };
        assert_eq!(shown, order, "each is used once");
        // The app of the environment's own is there, and what nobody uses is off.
        let account = gateway.get(&format!("{ACCOUNTS}/{account}")).await.json();
        assert_eq!(account["status"], "active", "{account}");
        let gone = gateway.call("DELETE", &format!("/link-token/{}", expected["link"].as_str().unwrap()), None).await;
        assert_eq!(gone.status, 404, "links end by themselves, and no backup has them: {}", gone.text());
        assert!(gateway.stop());
    }
}

/// The refresh token that was shown.
fn form_of(asked: &Asked) -> String {
    let mut pairs = url::form_urlencoded::parse(&asked.body);
    pairs.find(|(name, _)| name == "refresh_token").map(|(_, text)| text.into_owned()).unwrap_or_default()
}

/// Everything that was shown then is shown now; there may be more.
fn assert_same(then: &Value, now: &Value, place: &str) {
    match (then, now) {
        (Value::Object(then), Value::Object(_)) => {
            // When the vendor is looked at next is reckoned from now.
            for (name, then) in then.iter().filter(|(name, _)| !name.starts_with("next_")) {
                assert_same(then, &now[name], &format!("{place}.{name}"));
            }
        }
        (Value::Array(then), Value::Array(now)) => {
            assert_eq!(then.len(), now.len(), "{place}");
            then.iter().zip(now).enumerate().for_each(|(at, (then, now))| assert_same(then, now, &format!("{place}.{at}")));
        }
        (then, now) => assert_eq!(then, now, "{place}"),
    }
}
