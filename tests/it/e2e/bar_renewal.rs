//! where they last: no storm when a token endpoint is back, and a refusal that no new token ends.

use std::time::{Duration, Instant};

use futures_util::future::join_all;

use super::{
    bar_vendor::answer,
    rotating::{Mood, Rotating, Rotation},
    vendor::problem,
};
use crate::support::{
    gateway::{Answer, Gateway, Kept},
    long,
};

const METHOD: &str = "oauth2";

async fn users(gateway: &Gateway, account: &str) -> Answer {
    gateway.get(&format!("/unified/user-directory/users?integrated_account_id={account}")).await
}

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
        let calls = accounts.iter().map(|account| users(&gateway, account));
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
            problem(&users(&gateway, &account).await, 401, "reauth_required", "vendor");
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
        assert_eq!(users(&gateway, &account).await.status, 200, "{path}");
    }
}
