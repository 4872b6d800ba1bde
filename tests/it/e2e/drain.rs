//! U-06: the end of a node that is called all the time, by whoever looks at `/readyz`.

use std::{
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use rollcall::sandbox::keeper_commander::Faults;
use serde_json::json;

use super::bar_vendor::{Act, Vendor, address_of, json_answer, scim};
use crate::{
    keeper::bench::stand_in,
    support::{
        gateway::{ADMIN, Gateway, Kept, client},
        house::authority,
        long,
    },
};

/// Answers at once, after a while, or in pieces that take as long.
fn vendor(long_call: Duration) -> Vendor {
    Vendor::start(move |asked| match asked.path().rsplit('/').next() {
        Some("quick") => json_answer(200, &json!({"quick": true})),
        Some("long") => {
            std::thread::sleep(long_call);
            json_answer(200, &json!({"long": true}))
        }
        Some("pieces") => {
            let head = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n".to_vec();
            let pieces = std::iter::once(head).chain((0..10).map(|_| b"x".to_vec())).collect();
            Act::Pieces(pieces, long_call / 11)
        }
        _ => scim(asked, 3),
    })
}

async fn drains(round: usize, long_call: Duration) {
    let vendor = vendor(long_call);
    // Without its key ring a node is not ready.
    let kept = Kept::embedded();
    let gateway = Gateway::start(&kept, &vendor.authority());
    let account = gateway.link("scim", "bearer", json!({"base_url": vendor.at("/scim"), "token": "drained-token"})).await;
    let (broken, good, told) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicBool::new(false));
    let base = gateway.base.clone();
    let call = async |client: &reqwest::Client, path: &str, body: &str| {
        let asked = client.post(format!("{base}/passthrough/{account}/{path}")).bearer_auth(ADMIN).body("{}").send().await;
        let whole = match asked {
            Ok(answer) if answer.status() == 200 => answer.text().await.ok(),
            _ => None,
        };
        match whole {
            Some(text) if text == body => good.fetch_add(1, Ordering::SeqCst),
            _ => broken.fetch_add(1, Ordering::SeqCst),
        };
    };
    // Made before anybody calls: to make one takes a while.
    let (balancers, quick_ones, slow_ones) = (client(), [(); 10].map(|()| client()), [(); 16].map(|()| client()));
    // A load balancer: asks /readyz, and sends nothing more once that says no.
    let balancer = async {
        loop {
            let ready = balancers.get(format!("{base}/readyz")).send().await.expect("/readyz answers before the end");
            if ready.status() == 503 {
                told.store(true, Ordering::SeqCst);
                return Instant::now();
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let quick = async |(n, client): (u64, &reqwest::Client)| {
        tokio::time::sleep(Duration::from_millis(n * 5)).await;
        while !told.load(Ordering::SeqCst) {
            call(client, "quick", r#"{"quick":true}"#).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let slow = async |(n, client): (u64, &reqwest::Client)| {
        tokio::time::sleep(Duration::from_millis(300 + n * 40)).await;
        match n % 2 {
            0 => call(client, "long", r#"{"long":true}"#).await,
            _ => call(client, "pieces", "xxxxxxxxxx").await,
        }
    };
    let pid = rustix::process::Pid::from_raw(gateway.pid as i32).unwrap();
    let end = async {
        // Somewhere between the calls that begin.
        tokio::time::sleep(Duration::from_millis(1_000 + (round as u64 * 37) % 100)).await;
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        Instant::now()
    };
    // Ten callers with a call every 50 ms are 200 in a second.
    let (quick, slow) = ((0..).zip(&quick_ones).map(quick), (0..).zip(&slow_ones).map(slow));
    let (_, _, noticed, ended) = tokio::join!(join_all(quick), join_all(slow), balancer, end);
    assert!(noticed.duration_since(ended) < Duration::from_secs(1), "/readyz says so first");
    assert!(gateway.stop(), "the exit code is 0");
    assert!(ended.elapsed() <= Duration::from_secs(30), "{:?}", ended.elapsed());
    let (broken, good) = (broken.load(Ordering::SeqCst), good.load(Ordering::SeqCst));
    assert!(broken == 0 && good > 100, "round {round}: {broken} broken replies, {good} whole ones");
}

#[tokio::test]
async fn u_06_the_end_breaks_no_reply() {
    let (rounds, long_call) = if long() { (20, Duration::from_secs(20)) } else { (2, Duration::from_secs(4)) };
    for round in 0..rounds {
        drains(round, long_call).await;
    }
}

/// Writes are made to their end, and the lock of a Commander service is given back: the next node need not wait for its lease.
#[tokio::test]
async fn u_06_the_end_cuts_off_no_write_and_keeps_no_lock() {
    let slow = Vendor::start(|asked| {
        if asked.method == "POST" {
            std::thread::sleep(Duration::from_secs(3));
            return json_answer(201, &json!({"id": "u1", "userName": address_of(1), "active": true}));
        }
        scim(asked, 3)
    });
    let faults =
        Faults { users: 2, queue: false, events: 0, is_msp: false, delay: Duration::from_millis(400), ..Faults::default() };
    let (keeper, _control) = stand_in(faults);
    let kept = Kept::embedded();
    let allow = format!("{},{}", slow.authority(), authority(&keeper.base));
    let gateway = Gateway::start(&kept, &allow);
    let scim_account = gateway.link("scim", "bearer", json!({"base_url": slow.at("/scim"), "token": "drained-token"})).await;
    let context = json!({"service_url": keeper.base, "api_key": keeper.token});
    let keeper_account = gateway.link("keeper", "service_mode", context.clone()).await;
    let users = |account: &str| format!("/unified/user-directory/users?integrated_account_id={account}");
    let made = json!({"username": address_of(1), "emails": [{"email": address_of(1), "is_primary": true}]});
    let asked_for = json!({"emails": [{"email": "drained@northwind.example", "is_primary": true}]});
    let command = json!({"command": "enterprise-info --users --format json"});
    let pid = rustix::process::Pid::from_raw(gateway.pid as i32).unwrap();
    let end = async {
        tokio::time::sleep(Duration::from_millis(700)).await;
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    };
    let (scim_users, keeper_users) = (users(&scim_account), users(&keeper_account));
    let passthrough = format!("/passthrough/{keeper_account}/api/v1/executecommand");
    let keyed = [("idempotency-key", "drained-1")];
    let (written, invited, said, ()) = tokio::join!(
        gateway.call_with(ADMIN, &keyed, "POST", &scim_users, Some(&made)),
        gateway.call("POST", &keeper_users, Some(&asked_for)),
        gateway.call("POST", &passthrough, Some(&command)),
        end
    );
    for answer in [&written, &invited, &said] {
        assert!((200..300).contains(&answer.status), "{}", answer.text());
    }
    let posts = slow.asked().iter().filter(|asked| asked.method == "POST").count();
    assert_eq!(posts, 1, "the write was made once");
    assert!(gateway.stop(), "the exit code is 0");

    let next = Gateway::start(&kept, &allow);
    let again = next.call_with(ADMIN, &keyed, "POST", &scim_users, Some(&made)).await;
    assert_eq!((again.status, again.header("idempotent-replayed")), (written.status, Some("true")), "{}", again.text());
    let begun = Instant::now();
    let said = next.call("POST", &passthrough, Some(&command)).await;
    assert_eq!(said.status, 200, "{}", said.text());
    assert!(said.text().contains("drained@northwind.example"), "{}", said.text());
    assert!(begun.elapsed() < Duration::from_secs(10), "the service's lock was kept: {:?}", begun.elapsed());
}

#[tokio::test]
async fn an_idle_node_ends_soon_and_one_that_is_still_called_ends_all_the_same() {
    let gateway = Gateway::start(&Kept::embedded(), "");
    let begun = Instant::now();
    assert!(gateway.stop());
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    let gateway = Gateway::start(&Kept::embedded(), "");
    let (base, over) = (gateway.base.clone(), AtomicBool::new(false));
    let stubborn = async {
        let client = client();
        while !over.load(Ordering::SeqCst) {
            let _ = client.get(format!("{base}/integrated-account")).bearer_auth(ADMIN).send().await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let stop = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let begun = Instant::now();
        let stopped = tokio::task::spawn_blocking(move || gateway.stop()).await.unwrap();
        over.store(true, Ordering::SeqCst);
        assert!(stopped && begun.elapsed() < Duration::from_secs(12), "{:?}", begun.elapsed());
    };
    tokio::join!(stubborn, stop);
}
