//! V-07: a minute after the last call nothing of a customer's credential is left in the process, and the root key is there once.

use std::{
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use memchr::memmem;
use serde_json::json;

use super::bar_vendor::{Vendor, json_answer, scim};
use crate::support::gateway::{ADMIN, Gateway, Kept, client};

const KEY: &str = "cnry-bearer-W7hT2qLzX9vB4nM1";
const CLIENT_SECRET: &str = "cnry-client-secret-R5yU8iO0pA3s";
const ACCESS_TOKEN: &str = "cnry-access-token-D6fG1hJ4kL7z";
/// What a customer's consent brought, and what took its place.
const FIRST_ACCESS: &str = "cnry-first-access-Q2wE9rT4yU6i";
const FIRST_REFRESH: &str = "cnry-first-refresh-N8bV3cX1zL5k";
const NEXT_ACCESS: &str = "cnry-next-access-J7hG2fD9sA4p";
const NEXT_REFRESH: &str = "cnry-next-refresh-M3nB6vC0xZ8l";
const ALL: [&str; 7] = [KEY, CLIENT_SECRET, ACCESS_TOKEN, FIRST_ACCESS, FIRST_REFRESH, NEXT_ACCESS, NEXT_REFRESH];

/// The process's memory, written by `gcore`. Only root may look into it.
fn memory(pid: u32) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let core = folder.path().join("core");
    let script = "gcore -o \"$0\" \"$1\" && chmod 644 \"$0.$1\"";
    let words = ["sh", "-c", script, core.to_str().unwrap(), &pid.to_string()].map(str::to_owned);
    let is_root = rustix::process::geteuid().is_root();
    let words: Vec<String> = (!is_root).then(|| "sudo".to_owned()).into_iter().chain(words).collect();
    let written = Command::new(&words[0]).args(&words[1..]).env("DEBUGINFOD_URLS", "").output().unwrap();
    let said = String::from_utf8_lossy(&written.stderr).into_owned();
    assert!(written.status.success(), "gcore (from the package gdb): {}{said}", String::from_utf8_lossy(&written.stdout));
    std::fs::read(core.with_extension(pid.to_string())).unwrap()
}

fn hits(memory: &[u8], text: &[u8]) -> usize {
    memmem::find_iter(memory, text).count()
}

#[tokio::test]
async fn v_07_secrets_leave_memory() {
    let over = Arc::new(AtomicBool::new(false));
    let ended = over.clone();
    let vendor = Vendor::start(move |asked| match asked.path() {
        "/token" if hits(&asked.body, b"grant_type=refresh_token") > 0 => {
            let next =
                json!({"access_token": NEXT_ACCESS, "refresh_token": NEXT_REFRESH, "token_type": "Bearer", "expires_in": 3600});
            json_answer(200, &next)
        }
        "/token" => json_answer(200, &json!({"access_token": ACCESS_TOKEN, "token_type": "Bearer", "expires_in": 3600})),
        _ if ended.load(Ordering::SeqCst) && asked.header("authorization").ends_with(FIRST_ACCESS) => {
            json_answer(401, &json!({}))
        }
        _ => scim(asked, 3),
    });
    let kept = Kept::embedded();
    let gateway = Gateway::start(&kept, &vendor.authority());
    // A caller's connection keeps what it read as long as it is open: this one is closed.
    let caller = client();
    let mut accounts = Vec::new();
    for (method, context) in [
        ("bearer", json!({"base_url": vendor.at("/scim"), "token": KEY})),
        (
            "oauth2_client_credentials",
            json!({"base_url": vendor.at("/scim"), "token_url": vendor.at("/token"), "client_id": "me", "client_secret": CLIENT_SECRET}),
        ),
        (
            "oauth2",
            json!({"base_url": vendor.at("/scim"), "authorize_url": vendor.at("/auth"), "token_url": vendor.at("/token"),
                "client_id": "me", "client_secret": CLIENT_SECRET,
                "oauth": {"token": {"access_token": FIRST_ACCESS, "refresh_token": FIRST_REFRESH, "expires_in": 3600}}}),
        ),
    ] {
        let body = json!({"tenant_id": "acme", "integration": "scim", "authentication_method": method, "context": context});
        let asked = caller.post(format!("{}/integrated-account", gateway.base)).bearer_auth(ADMIN);
        let answer = asked.header("content-type", "application/json").body(body.to_string()).send().await.unwrap();
        assert_eq!(answer.status(), 201);
        let account: serde_json::Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
        accounts.push(account["id"].as_str().unwrap().to_owned());
    }
    drop(caller);
    for turn in 0..20 {
        // In the midst of it one access token ends, and its refresh token brings the next.
        over.store(turn >= 10, Ordering::SeqCst);
        for account in &accounts {
            for path in [
                format!("/unified/user-directory/users?integrated_account_id={account}"),
                format!("/proxy/Users?integrated_account_id={account}"),
                format!("/custom/Users?integrated_account_id={account}"),
                format!("/passthrough/{account}/Users"),
            ] {
                let answer = gateway.get(&path).await;
                assert_eq!(answer.status, 200, "{path}: {}", answer.text());
            }
        }
    }
    let warm = memory(gateway.pid);
    for secret in ALL.iter().filter(|secret| ![FIRST_ACCESS, FIRST_REFRESH].contains(secret)) {
        assert!(hits(&warm, secret.as_bytes()) > 0, "the search finds what is there: {secret}");
    }
    drop(warm);
    // The bar's own time; nothing is awaited but that it passes.
    tokio::time::sleep(Duration::from_secs(61)).await;
    let idle = memory(gateway.pid);
    for secret in ALL {
        assert_eq!(hits(&idle, secret.as_bytes()), 0, "{secret}");
    }
    let ring: serde_json::Value = serde_json::from_slice(&std::fs::read(kept.folder().join("store.keys")).unwrap()).unwrap();
    let text = ring["keys"][0]["key"].as_str().unwrap();
    let copies = hits(&idle, &STANDARD.decode(text).unwrap()) + hits(&idle, text.as_bytes());
    assert!((1..=2).contains(&copies), "{copies} copies of the root key");
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", gateway.pid)).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().filter(|word| *word == "0").count(), 2, "{core}");
    for account in &accounts {
        let path = format!("/unified/user-directory/users?integrated_account_id={account}");
        assert_eq!(gateway.get(&path).await.status, 200, "it is opened again when it is needed");
    }
}
