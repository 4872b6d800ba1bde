//! The connectors' overlay is changed under a running gateway.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use serde_json::Value;

use super::vendor::{Mood, Vendor, is_sound, overlay, problem, put};
use crate::support::{
    gateway::{Gateway, Kept},
    metrics::Scrape,
};

const RELOADS: &str = "rollcall_connector_reloads_total";
/// A change holds by then.
const SOON: Duration = Duration::from_secs(2);

fn users(account: &str) -> String {
    format!("/unified/user-directory/users?integrated_account_id={account}&limit=1")
}

/// What the map of the running connector makes of the first user's type.
async fn mark(gateway: &Gateway, account: &str) -> Value {
    let answer = gateway.get(&users(account)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["result"][0]["type"].clone()
}

/// Lays a copy of the connector `scim` whose map says this word.
fn lay(folder: &Path, word: &str) {
    overlay(folder, |name, text| match name {
        "users.yaml" => text.replace("  type: userType\n", &format!("  type: {{ const: {word} }}\n")),
        _ => text,
    });
}

/// Asks until the answer is as it shall be; how long that took.
async fn until(mut holds: impl AsyncFnMut() -> bool) -> Duration {
    let began = Instant::now();
    while !holds().await {
        assert!(began.elapsed() < 4 * SOON, "the change does not come");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    began.elapsed()
}

struct Stand {
    kept: Kept,
    vendor: Vendor,
    folder: PathBuf,
}

impl Stand {
    fn new() -> Stand {
        let kept = Kept::embedded();
        let folder = kept.folder().join("connectors");
        lay(&folder, "first");
        Stand { vendor: Vendor::start(), folder, kept }
    }

    fn gateway(&self) -> Gateway {
        Gateway::start_with(&self.kept, &self.vendor.authority(), &[("ROLLCALL_CONNECTORS_DIR", self.folder.to_str().unwrap())])
    }
}

/// What else runs on the machine may slow a change down: one of three must hold soon.
async fn soon(change: impl AsyncFn() -> Duration) {
    let mut tried = Vec::new();
    while tried.len() < 3 && tried.last().is_none_or(|took| *took >= SOON) {
        tried.push(change().await);
    }
    assert!(tried.last().is_some_and(|took| *took < SOON), "{tried:?}");
}

#[tokio::test]
async fn a_change_holds_within_two_seconds_and_a_broken_one_changes_nothing() {
    soon(change_and_break).await;
}

async fn change_and_break() -> Duration {
    let stand = Stand::new();
    let gateway = stand.gateway();
    let account = gateway.link("scim", "bearer", stand.vendor.context()).await;
    assert_eq!(mark(&gateway, &account).await, "first");

    lay(&stand.folder, "second");
    let took = until(async || mark(&gateway, &account).await == "second").await;
    let scrape = Scrape::of(&gateway).await;
    assert_eq!(scrape.sum(RELOADS, &[("outcome", "applied")]), 1.0);
    let meta = gateway.get(&format!("/unified/user-directory/users/meta/list?integrated_account_id={account}")).await.json();
    assert!(meta["response_mapping"]["type"].to_string().contains("second"), "{meta}");

    // Broken: told once in the log, shown to the operator, and without effect.
    let users_file = stand.folder.join("scim/users.yaml");
    let good = fs::read_to_string(&users_file).unwrap();
    put(&users_file, &good.replace("style: scim", "style: telepathy").replace("const: second", "const: third"));
    let refused = async || Scrape::of(&gateway).await.sum(RELOADS, &[("outcome", "refused")]) == 1.0;
    until(refused).await;
    tokio::time::sleep(SOON).await;
    assert_eq!(mark(&gateway, &account).await, "second");
    let scrape = Scrape::of(&gateway).await;
    assert_eq!((scrape.sum(RELOADS, &[]), scrape.sum("rollcall_connector_mistakes", &[])), (2.0, 1.0), "once, not at every look");
    let ready = gateway.get("/readyz").await;
    let shown = ready.json();
    assert_eq!((ready.status, &shown["status"], &shown["connectors"]["ok"]), (200, &"ready".into(), &true.into()));
    assert!(shown["connectors"]["detail"].as_str().unwrap().contains("the connectors before it stay"), "{shown}");
    let warnings = shown["connectors"]["warnings"].to_string();
    assert!(warnings.contains("scim/users.yaml:7:") && warnings.contains("telepathy"), "{warnings}");
    let said = gateway.said();
    let told: Vec<&str> = said.lines().filter(|line| line.contains("scim/users.yaml:7:")).collect();
    assert!(told.len() == 1 && told[0].contains("hint"), "{told:?}");

    // Mended.
    put(&users_file, &good.replace("const: second", "const: third"));
    until(async || mark(&gateway, &account).await == "third").await;
    let shown = gateway.get("/readyz").await.json();
    assert_eq!(shown["connectors"]["warnings"], serde_json::json!([]), "{shown}");
    assert_eq!(Scrape::of(&gateway).await.sum("rollcall_connector_mistakes", &[]), 0.0);
    is_sound(&gateway);
    took
}

#[tokio::test]
async fn a_call_that_has_begun_ends_with_the_connector_it_began_with() {
    soon(change_under_a_call).await;
}

async fn change_under_a_call() -> Duration {
    let stand = Stand::new();
    let gateway = stand.gateway();
    let account = gateway.link("scim", "bearer", stand.vendor.context()).await;
    let other = gateway.link("scim", "bearer", stand.vendor.context()).await;
    stand.vendor.set(Mood::Late);
    let (path, asked) = (users(&account), stand.vendor.asked());
    let (late, took) = tokio::join!(gateway.get(&path), async {
        until(async || stand.vendor.asked() > asked).await;
        // The vendor looks at its mood a moment after it was asked.
        tokio::time::sleep(Duration::from_millis(200)).await;
        stand.vendor.set(Mood::Good);
        lay(&stand.folder, "second");
        until(async || mark(&gateway, &other).await == "second").await
    });
    assert_eq!(late.json()["result"][0]["type"], "first", "{}", late.text());
    assert_eq!(mark(&gateway, &account).await, "second");
    is_sound(&gateway);
    took
}

#[tokio::test]
async fn accounts_of_a_connector_that_is_taken_away_say_so() {
    let stand = Stand::new();
    lay(&stand.folder, "kept");
    fs::rename(stand.folder.join("scim"), stand.folder.join("acme")).unwrap();
    let head = stand.folder.join("acme/connector.yaml");
    fs::write(&head, fs::read_to_string(&head).unwrap().replacen("connector: scim", "connector: acme", 1)).unwrap();
    let gateway = stand.gateway();
    let account = gateway.link("acme", "bearer", stand.vendor.context()).await;
    assert_eq!(mark(&gateway, &account).await, "kept");
    let passed = format!("/passthrough/{account}/Users");
    assert_eq!(gateway.get(&passed).await.status, 200);

    fs::rename(stand.folder.join("acme"), stand.kept.folder().join("away")).unwrap();
    until(async || gateway.get(&users(&account)).await.status != 200).await;
    for path in [&users(&account), &passed, &format!("/integrated-account/{account}/capabilities")] {
        let document = problem(&gateway.get(path).await, 404, "resource_not_supported", "gateway");
        assert!(document["detail"].as_str().unwrap().contains("`acme`"), "{document}");
    }
    assert_eq!(gateway.get(&format!("/integrated-account/{account}")).await.json()["status"], "active");
    assert_eq!(gateway.get("/integration/acme").await.status, 404);
    assert_eq!(gateway.get("/readyz").await.status, 200);

    fs::rename(stand.kept.folder().join("away"), stand.folder.join("acme")).unwrap();
    until(async || gateway.get(&users(&account)).await.status == 200).await;
    assert_eq!(gateway.get(&passed).await.status, 200);
    is_sound(&gateway);
}
