//! The link page in a real browser: by form, by keyboard, without script, in windows and frames, opened by Truto's SDK, by
//! ours, and by strangers. The script is `tests/peers/node/link.mjs`.

use std::collections::BTreeSet;

use rollcall::sandbox::keeper_commander::API_KEY;
use serde_json::Value;

use crate::support::{demo::Demo, gateway::client, peers};

/// What the script does, in its order.
const CHECKS: &[&str] = &[
    "form at 375 light",
    "form at 375 dark",
    "form at 1280 light",
    "form at 1280 dark",
    "mistakes stand beside their fields",
    "without script",
    "keyboard alone",
    "first paint and weight",
    "truto popup",
    "truto same window",
    "truto frame",
    "rollcall popup",
    "rollcall frame",
    "closed",
    "used token",
    "hostile opener",
    "hostile frame",
];

#[tokio::test]
async fn r_14_g_12_the_page_holds_in_a_browser() {
    let demo = Demo::start();
    let account = format!("{}/integrated-account/{}", demo.base(), demo.account("keeper"));
    let shown = client().get(account).bearer_auth(demo.token()).send().await.unwrap().bytes().await.unwrap();
    let shown: Value = serde_json::from_slice(&shown).unwrap();
    let service = shown["context"]["service_url"].as_str().unwrap();
    let mut script = peers::node("link");
    let ended = script.args([demo.base(), demo.token(), service, API_KEY]).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
    assert!(ended.status.success(), "{out}{err}");
    let said: Value = serde_json::from_str(out.trim()).unwrap_or_else(|why| panic!("{why}: {out}{err}"));
    let passed: BTreeSet<&str> = said["passed"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    assert_eq!(passed, CHECKS.iter().copied().collect());
    let tokens = said["tokens"].as_array().unwrap();
    assert!(tokens.len() >= CHECKS.len() - 2, "{said}");
    let log = demo.said();
    for token in tokens {
        assert!(!log.contains(token.as_str().unwrap()), "a link token is in the log");
    }
    assert!(!log.contains("panicked") && !log.contains(API_KEY), "{log}");
}
