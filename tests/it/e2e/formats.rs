//! N-1: what a release has stored the ones after it read. A backup of each format lies here as the first release of that format
//! made it, with the ring it was made with, and is never made anew: a change by which it is not read any more is one that needs
//! another format.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use rollcall::store::repo::STORED_FORMAT;
use serde_json::{Value, json};

use super::{
    bar_vendor::{Vendor, json_answer, scim},
    cli::run,
};
use crate::support::gateway::{Gateway, Kept, command};

const ACCOUNTS: &str = "/integrated-account";

fn formats() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/e2e/formats")
}

fn ring(kept: &Kept) -> PathBuf {
    kept.folder().join(if matches!(kept, Kept::Embedded(_)) { "store.keys" } else { "keys.json" })
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
    while gateway.get("/event?limit=500").await.json()["result"].as_array().unwrap().len() < 7 {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let expected = json!({"token": token, "seen": seen(&gateway, &token).await});
    let args = ["backup", to.to_str().unwrap()];
    let (code, _, err) = tokio::task::block_in_place(|| run(command(&args).envs(kept.settings()).current_dir(kept.folder())));
    assert_eq!(code, Some(0), "{err}");
    fs::copy(ring(&kept), to.join("store.keys")).unwrap();
    fs::write(to.join("expected.json"), serde_json::to_string_pretty(&expected).unwrap() + "\n").unwrap();
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
        let saved = formats().join(&format);
        let expected: Value = serde_json::from_str(&fs::read_to_string(saved.join("expected.json")).unwrap()).unwrap();
        for kept in Kept::each() {
            fs::copy(saved.join("store.keys"), ring(&kept)).unwrap();
            fs::set_permissions(ring(&kept), fs::Permissions::from_mode(0o600)).unwrap();
            let args = ["restore", saved.to_str().unwrap(), "--json"];
            let mut restore = command(&args);
            let (code, out, err) = tokio::task::block_in_place(|| run(restore.envs(kept.settings()).current_dir(kept.folder())));
            assert_eq!(code, Some(0), "format {format}: {err}");
            let told: Value = serde_json::from_str(&out).unwrap();
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
