//! U-01: what a vendor that fails on and on is asked beyond the calls themselves.

use futures_util::future::join_all;
use serde_json::json;

use super::{
    bar_vendor::{Act, Vendor, answer, scim},
    vendor::problem,
};
use crate::support::gateway::{Gateway, Kept};

const CALLERS: usize = 8;
const CALLS: usize = 200;
/// Retries that a host has saved up when it begins to fail.
const SAVED: usize = 10;

#[tokio::test]
async fn u_01_retries_are_what_was_saved_and_a_tenth_of_the_calls() {
    // Whoever asks to wait is up, so that calls are not held back; the link test asks for one user and must go well.
    let vendor = Vendor::start(|asked| match asked.path().ends_with("/Users") && asked.number("count", 100) > 1 {
        true => Act::Send(answer(503, &[("retry-after", "0")], b"{}")),
        false => scim(asked, 3),
    });
    let gateway = Gateway::start(&Kept::embedded(), &vendor.authority());
    let account = gateway.link("scim", "bearer", json!({"base_url": vendor.at("/scim"), "token": "retried-token"})).await;
    let path = format!("/unified/user-directory/users?integrated_account_id={account}&limit=5");
    let before = vendor.count();
    let caller = async |_: usize| {
        for _ in 0..CALLS / CALLERS {
            problem(&gateway.get(&path).await, 503, "vendor_not_ready", "vendor");
        }
    };
    join_all((0..CALLERS).map(caller)).await;
    let (sent, most) = (vendor.count() - before, CALLS + SAVED + CALLS / 10);
    assert!(sent <= most, "{sent} requests for {CALLS} calls, {most} at most");
    assert!(sent > CALLS + SAVED, "{sent} requests for {CALLS} calls: what they earn is not spent");
}
