//! where they last: no storm when a token endpoint is back, and a refusal that no new token ends.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use serde_json::json;

use super::{
    bar_vendor::{Act, Vendor, answer, scim},
    rotating::{Mood, Rotating, Rotation},
    vendor::problem,
};
use crate::support::{
    gateway::{Gateway, Kept},
    long,
};

const METHOD: &str = "oauth2";

fn tries(vendor: &Rotating) -> usize {
    vendor.all().iter().map(|grant| grant.shown.len()).sum()
}

#[tokio::test]
async fn r_07_no_storm_when_the_endpoint_is_back() {
    let (count, window) = if long() { (50, Duration::from_secs(60)) } else { (12, Duration::from_secs(6)) };
    let vendor = Rotating::start(Rotation::Strict, 0..5);
    let gateway = Gateway::start(&Kept::embedded(), &vendor.vendor.authority());
    let mut accounts = Vec::new();
    for number in 0..count {
        accounts.push(gateway.link("scim", METHOD, vendor.grant(number, 2)).await);
    }
    tokio::time::sleep(Duration::from_millis(2_100)).await;
    let call_all = async || {
        let calls = accounts.iter().map(|account| gateway.users(account));
        join_all(calls).await.into_iter().filter(|reply| reply.status == 200).count()
    };
    // What is asked of it in a window while it is down: everybody calls all the time.
    let down = async |length: Duration| {
        let (begun, before) = (Instant::now(), tries(&vendor));
        while begun.elapsed() < length {
            assert_eq!(call_all().await, 0);
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        tries(&vendor) - before
    };
    vendor.set_mood(Some(Mood::Answer(answer(503, &[], b"{}"))));
    down(window).await;
    let steady = down(window).await;
    assert!(steady > 0, "nobody tries any more");
    vendor.set_mood(None);
    let (end, before) = (Instant::now() + Duration::from_secs(120), tries(&vendor));
    let mut good = 0;
    while good < accounts.len() {
        let (begun, before) = (Instant::now(), tries(&vendor));
        while begun.elapsed() < window {
            good = call_all().await;
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        let tried = tries(&vendor) - before;
        assert!(tried <= 2 * steady, "{tried} tries within {window:?} when it is back, {steady} before");
        assert!(Instant::now() < end, "only {good} of {count} came back");
    }
    assert_eq!(tries(&vendor) - before, accounts.len(), "each comes back with one try");
    assert!(vendor.all().iter().all(|grant| !grant.revoked));
}

/// 401 whatever the token: each kind of call gets one new token and is made once more; then the refusal is the caller's. Whether
/// the account must be linked again is judged by the connector's own test, with a token of its own.
#[tokio::test]
async fn r_10_a_refusal_that_no_new_token_ends_is_passed_on() {
    for path in [
        "/custom/Things?integrated_account_id={id}",
        "/passthrough/{id}/Things",
        "/unified/user-directory/groups?integrated_account_id={id}",
    ] {
        let vendor = Rotating::start(Rotation::Strict, 0..5);
        let gateway = Gateway::start(&Kept::embedded(), &vendor.vendor.authority());
        let account = gateway.link("scim", METHOD, vendor.grant(0, 3600)).await;
        let linked = vendor.vendor.count();
        vendor.refuse_calls(true);
        let refused = gateway.get(&path.replace("{id}", &account)).await;
        assert_eq!(refused.status, 401, "{path}: {}", refused.text());
        let asked = vendor.vendor.asked().split_off(linked);
        let called: Vec<_> =
            asked.iter().filter(|asked| asked.path().ends_with("/Things") || asked.path().ends_with("/Groups")).collect();
        let shown: Vec<_> = called.iter().map(|asked| asked.header("authorization")).collect();
        assert_eq!(shown, ["Bearer access-0-1", "Bearer access-0-2"], "{path}: one call, and one more with the new token");
        assert_eq!(vendor.of(0).shown[0], 1);
        let end = Instant::now() + Duration::from_secs(20);
        let place = format!("/integrated-account/{account}");
        while gateway.get(&place).await.json()["status"] != "needs_reauth" {
            assert!(Instant::now() < end, "{path}: nobody judges it");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let (refreshes, asked) = (vendor.of(0).shown, vendor.vendor.count());
        assert!(refreshes == [1] || refreshes == [1, 2], "{path}: one for the call, at most one for the test: {refreshes:?}");
        for _ in 0..if long() { 300 } else { 10 } {
            problem(&gateway.users(&account).await, 401, "reauth_required", "vendor");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        // A broken account's vendor is asked again once a minute.
        let probes = vendor.vendor.count() - asked;
        assert!(probes <= if long() { 8 } else { 4 }, "{path}: {probes} requests for a broken account");
        assert!(!vendor.of(0).revoked);
        vendor.refuse_calls(false);
        // Who asks within seconds of the last look gets what that found.
        let end = Instant::now() + Duration::from_secs(20);
        while gateway.call("POST", &format!("{place}/test"), None).await.status != 200 {
            assert!(Instant::now() < end, "{path}: it does not come back");
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        assert_eq!(gateway.users(&account).await.status, 200, "{path}");
    }
}

/// Nobody calls: the token is renewed all the same, before it ends, and by one node of two.
#[tokio::test]
async fn a_token_is_kept_warm_without_a_caller_by_one_node_of_two() {
    let vendor = Rotating::start(Rotation::Strict, 0..50);
    let kept = Kept::redis();
    let nodes = [0, 1].map(|_| Gateway::start(&kept, &vendor.vendor.authority()));
    let mut accounts = Vec::new();
    // The last lives too short to be kept at hand for nobody.
    for (number, life) in [(0, 60), (1, 60), (2, 60), (3, 60), (4, 20)] {
        accounts.push(nodes[number as usize % 2].link("scim", METHOD, vendor.grant(number, life)).await);
    }
    let (end, asked) = (Instant::now() + Duration::from_secs(58), vendor.vendor.count());
    while vendor.all()[..4].iter().any(|grant| grant.shown.is_empty()) {
        assert!(Instant::now() < end, "nobody renews them: {:?}", vendor.all());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    // Whoever else had it in mind has come to it by now.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let shown: Vec<_> = vendor.all().into_iter().map(|grant| (grant.shown, grant.revoked)).collect();
    let once = (vec![1], false);
    assert_eq!(shown, [once.clone(), once.clone(), once.clone(), once, (Vec::new(), false)]);
    assert_eq!(vendor.vendor.count() - asked, 4, "the token endpoint is asked, and nothing else");
    for (account, node) in accounts.iter().zip(nodes.iter().cycle()) {
        assert_eq!(node.users(account).await.status, 200);
    }
    assert!(vendor.all()[..4].iter().all(|grant| grant.shown == [1]), "a caller finds the new token");
    nodes.iter().for_each(super::vendor::is_sound);
}

/// A SCIM vendor with a fixed token, which it refuses when it is told to.
fn fixed() -> (Vendor, Arc<AtomicBool>) {
    let refuses = Arc::new(AtomicBool::new(false));
    let refusing = refuses.clone();
    let vendor = Vendor::start(move |asked| match refusing.load(Ordering::SeqCst) {
        true => Act::Send(answer(401, &[], b"{}")),
        false => scim(asked, 3),
    });
    (vendor, refuses)
}

/// Callers of an account whose credential is over do not reach its vendor, however many nodes they call and however often one is
/// started anew: within a minute one background test does.
#[tokio::test]
async fn a_broken_accounts_vendor_is_asked_once_a_minute_by_all_nodes_together() {
    for kept in Kept::each() {
        let (vendor, refuses) = fixed();
        let start = || Gateway::start(&kept, &vendor.authority());
        let mut nodes = vec![start()];
        if matches!(kept, Kept::Redis(..)) {
            nodes.push(start());
        }
        let account = nodes[0].link("scim", "bearer", json!({"base_url": vendor.at("/scim"), "token": "t"})).await;
        refuses.store(true, Ordering::SeqCst);
        problem(&nodes[0].users(&account).await, 401, "reauth_required", "vendor");
        let (before, begun) = (vendor.count(), Instant::now());
        for round in 0..30 {
            if round == 15 {
                // The memory of whoever asked is gone.
                assert!(nodes.remove(0).stop());
                nodes.push(start());
            }
            for node in &nodes {
                problem(&node.users(&account).await, 401, "reauth_required", "vendor");
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let probe: Vec<String> = vendor.asked().split_off(before).into_iter().map(|asked| asked.target).collect();
        let mut each = BTreeMap::new();
        probe.iter().for_each(|target| *each.entry(target).or_insert(0) += 1);
        assert!(!probe.is_empty() && each.values().all(|count| *count == 1), "one test, and no request of it twice: {probe:?}");
        if !long() {
            continue;
        }
        refuses.store(false, Ordering::SeqCst);
        while nodes[0].users(&account).await.status != 200 {
            assert!(begun.elapsed() < Duration::from_secs(90), "it is never asked again");
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        assert!(begun.elapsed() > Duration::from_secs(55), "it was asked again after {:?}", begun.elapsed());
    }
}
