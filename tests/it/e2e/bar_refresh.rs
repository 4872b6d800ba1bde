//! R-01 … R-11: refresh tokens are used once however many need a new access token, and survive what can be survived.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::{
    bar_vendor::answer,
    rotating::{Mood, Rotating, Rotation},
    vendor::problem,
};
use crate::support::{
    gateway::{ADMIN, Gateway, Kept, client},
    long,
};

pub const METHOD: &str = "oauth2";

pub async fn status(gateway: &Gateway, account: &str) -> Value {
    gateway.get(&format!("/integrated-account/{account}")).await.json()
}

/// Links so many accounts, each with a grant of its own.
pub async fn link_all(gateway: &Gateway, vendor: &Rotating, count: u64, life: i64) -> Vec<String> {
    let mut accounts = Vec::new();
    for number in 0..count {
        accounts.push(gateway.link("scim", METHOD, vendor.grant(number, life)).await);
    }
    accounts
}

#[tokio::test]
async fn r_01_one_refresh_per_expiry() {
    let (accounts, callers, latency) = if long() { (50, 500, 0..19_000) } else { (12, 120, 0..1_500) };
    let vendor = Rotating::start(Rotation::Strict, latency.clone());
    let kept = Kept::redis();
    let nodes: Vec<_> = (0..3).map(|_| Gateway::start(&kept, &vendor.vendor.authority())).collect();
    let life = i64::try_from(accounts).unwrap() / 4 + 3;
    let begun = Instant::now();
    let linked = link_all(&nodes[0], &vendor, accounts, life).await;
    let until = begun + Duration::from_secs(u64::try_from(life).unwrap() * 2);
    tokio::time::sleep_until(until.into()).await;
    let calls = (0..callers * nodes.len()).map(|number| {
        let (node, account) = (&nodes[number % nodes.len()], &linked[number / 3 % linked.len()]);
        async move {
            let begun = Instant::now();
            let reply = match number % 2 {
                0 => node.users(account).await,
                _ => node.get(&format!("/passthrough/{account}/Users")).await,
            };
            assert_eq!(reply.status, 200, "{}", reply.text());
            begun.elapsed()
        }
    });
    let mut took = join_all(calls).await;
    took.sort();
    let all = vendor.all();
    assert!(all.iter().all(|grant| grant.shown == [1]), "each refresh token is used once: {all:?}");
    assert!(all.iter().all(|grant| !grant.revoked), "no grant is revoked");
    let p99 = took[took.len() * 99 / 100];
    println!("{callers} callers x 3 nodes, {accounts} accounts: p99 {p99:?} at up to {} ms", latency.end);
    let most = Duration::from_millis(latency.end) + if long() { Duration::from_millis(500) } else { Duration::from_secs(4) };
    assert!(p99 <= most, "p99 {p99:?} is over {most:?}");
}

#[tokio::test]
async fn r_02_rotation_survives() {
    let redis = [(Rotation::Strict, Kept::redis())];
    let embedded = [Rotation::Strict, Rotation::Never, Rotation::Same].map(|rotation| (rotation, Kept::embedded()));
    for (rotation, kept) in redis.into_iter().chain(embedded) {
        let vendor = Rotating::start(rotation, 0..5);
        let mut gateway = Gateway::start(&kept, &vendor.vendor.authority());
        let accounts = link_all(&gateway, &vendor, 2, 3600).await;
        // The last one after the last restart: what was kept is the vendor's newest.
        for turn in 1..=21 {
            vendor.end_access();
            for account in &accounts {
                let reply = gateway.users(account).await;
                let what = || format!("{rotation:?}, refresh {turn}: {}\n{}", reply.text(), vendor.last_asked(8));
                assert_eq!(reply.status, 200, "{}\n{}", what(), gateway.said());
            }
            if turn % 5 == 0 {
                assert!(gateway.stop());
                gateway = Gateway::start(&kept, &vendor.vendor.authority());
            }
        }
        for grant in vendor.all() {
            let rotates = rotation == Rotation::Strict;
            let expected: Vec<u64> = (1..=21).map(|turn| if rotates { turn } else { 1 }).collect();
            assert_eq!((grant.shown, grant.revoked), (expected, false), "{rotation:?}");
            assert_eq!((grant.current, grant.given), (if rotates { 22 } else { 1 }, 22), "{rotation:?}");
        }
    }
}

/// How often the end of an account's credential was told, once it was told so often at least.
pub async fn ends_told(gateway: &Gateway, account: &str, at_least: usize) -> usize {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        let events = gateway.walk(&format!("/event?integrated_account_id={account}&limit=1000")).await;
        let told = events.iter().filter(|event| event["event"] == "integrated_account:authentication_error").count();
        if told >= at_least || Instant::now() >= end {
            return told;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Whether an account is lost; one that is says why.
pub async fn settled(gateway: &Gateway, account: &str, end: Instant) -> bool {
    loop {
        let reply = gateway.users(account).await;
        if reply.status == 200 {
            return false;
        }
        if reply.code() == "reauth_required" {
            let shown = status(gateway, account).await;
            assert_eq!(shown["status"], "needs_reauth", "{shown}");
            let why = shown["last_error"].as_str().unwrap();
            assert!(why.starts_with("refresh_outcome_unknown"), "{why}");
            return true;
        }
        assert!(Instant::now() < end, "stuck: {}", reply.text());
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

/// A node is stopped while the vendor answers it, for twice the lease; another one goes on meanwhile.
async fn outlived(rotation: Rotation) {
    let vendor = Rotating::start(rotation, 1_000..1_001);
    let kept = Kept::redis();
    let nodes = [Gateway::start(&kept, &vendor.vendor.authority()), Gateway::start(&kept, &vendor.vendor.authority())];
    let account = nodes[0].link("scim", METHOD, vendor.grant(0, 3600)).await;
    vendor.end_access();
    let pid = rustix::process::Pid::from_raw(nodes[0].pid.cast_signed()).unwrap();
    let signal = |signal| rustix::process::kill_process(pid, signal).unwrap();
    let url = format!("{}/unified/user-directory/users?integrated_account_id={account}", nodes[0].base);
    let call =
        tokio::spawn(async move { client().get(url).bearer_auth(ADMIN).send().await.map(|reply| reply.status().as_u16()) });
    while vendor.of(0).shown.is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    signal(rustix::process::Signal::STOP);
    let other = async {
        let end = Instant::now() + Duration::from_secs(60);
        settled(&nodes[1], &account, end).await
    };
    let lost = other.await;
    tokio::time::sleep(Duration::from_secs(if long() { 30 } else { 1 })).await;
    signal(rustix::process::Signal::CONT);
    let _ = call.await;
    assert_eq!(lost, rotation == Rotation::Strict);
    for _ in 0..20 {
        for node in &nodes {
            let reply = node.users(&account).await;
            assert_eq!(reply.status, if lost { 401 } else { 200 }, "{}", reply.text());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let grant = vendor.of(0);
    assert_eq!(grant.shown, [1, 1], "what came late is neither kept nor used: {grant:?}");
    assert_eq!(status(&nodes[0], &account).await["status"], if lost { "needs_reauth" } else { "active" });
}

#[tokio::test]
async fn r_04_a_late_writer_does_not_overwrite_a_newer_token() {
    outlived(Rotation::Grace).await;
}

#[tokio::test]
async fn r_04_a_late_writer_does_not_hide_that_a_grant_is_over() {
    outlived(Rotation::Strict).await;
}

#[tokio::test]
async fn r_05_clients_that_leave_cost_no_token() {
    let vendor = Rotating::start(Rotation::Strict, 400..600);
    let gateway = Gateway::start(&Kept::embedded(), &vendor.vendor.authority());
    let accounts = link_all(&gateway, &vendor, 20, 3600).await;
    vendor.end_access();
    let leaving = (0..200).map(|number| {
        let path = format!("{}/unified/user-directory/users?integrated_account_id={}", gateway.base, accounts[number % 20]);
        let call = client().get(path).bearer_auth(ADMIN).send();
        tokio::time::timeout(Duration::from_millis(100 + number as u64), call)
    });
    assert!(join_all(leaving).await.iter().any(Result::is_err), "nobody left");
    for account in &accounts {
        assert_eq!(gateway.users(account).await.status, 200);
    }
    for grant in vendor.all() {
        assert_eq!((grant.shown.as_slice(), grant.revoked), (&[1][..], false));
    }
}

#[tokio::test]
async fn r_06_a_shutdown_costs_no_token() {
    for round in 0..if long() { 5 } else { 1 } {
        let vendor = Rotating::start(Rotation::Strict, 300..1_500);
        let kept = Kept::embedded();
        let gateway = Gateway::start(&kept, &vendor.vendor.authority());
        let accounts = link_all(&gateway, &vendor, if long() { 100 } else { 30 }, 3600).await;
        vendor.end_access();
        let (base, paths) = (gateway.base.clone(), accounts.clone());
        let calls = tokio::spawn(async move {
            let url = |account: &String| format!("{base}/unified/user-directory/users?integrated_account_id={account}");
            join_all(paths.iter().map(|account| client().get(url(account)).bearer_auth(ADMIN).send())).await.len()
        });
        tokio::time::sleep(Duration::from_millis(200 + 150 * round)).await;
        let begun = Instant::now();
        assert!(gateway.stop(), "it ends well");
        assert!(begun.elapsed() <= Duration::from_secs(30), "{:?}", begun.elapsed());
        calls.await.unwrap();
        let gateway = Gateway::start(&kept, &vendor.vendor.authority());
        for account in &accounts {
            let reply = gateway.users(account).await;
            assert_eq!(reply.status, 200, "{}", reply.text());
        }
        assert!(vendor.all().iter().all(|grant| !grant.revoked && grant.shown.len() == 1), "each was used once");
    }
}

#[tokio::test]
async fn r_07_transient_is_not_terminal() {
    let vendor = Rotating::start(Rotation::Strict, 0..5);
    let gateway = Gateway::start(&Kept::embedded(), &vendor.vendor.authority());
    // One whose access token ends, and one whose own is good for long.
    let over = gateway.link("scim", METHOD, vendor.grant(0, 2)).await;
    let good = gateway.link("scim", METHOD, vendor.grant(1, 3600)).await;
    tokio::time::sleep(Duration::from_millis(2_100)).await;
    times_out(&gateway, &vendor, &over, &good).await;
    let html = b"<html>busy</html>";
    let moods = [
        answer(500, &[], b"{}"),
        answer(502, &[("content-type", "text/html")], html),
        answer(429, &[("retry-after", "1")], b""),
        answer(400, &[("content-type", "application/json")], b"{\"error\": \"try_it_tomorrow\"}"),
        answer(200, &[("content-type", "text/html")], html),
        answer(302, &[("location", "http://127.0.0.1:9/elsewhere")], b""),
        Vec::new(),
    ];
    let turn = Duration::from_secs(if long() { 85 } else { 4 });
    for mood in moods {
        vendor.set_mood(Some(Mood::Answer(mood.clone())));
        let (begun, before) = (Instant::now(), vendor.of(0).shown.len());
        while begun.elapsed() < turn {
            let reply = gateway.users(&over).await;
            // Until the next try everybody gets what the last one found: that of before was a time-out.
            let is_of_before = vendor.of(0).shown == [1];
            assert!(matches!(reply.status, 429 | 502 | 503) || (is_of_before && reply.status == 504), "{}", reply.text());
            assert_eq!(gateway.users(&good).await.status, 200, "with a good access token all goes on");
            assert_eq!(status(&gateway, &over).await["status"], "active");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let tries = vendor.of(0).shown.len() - before;
        assert!(tries <= 2 + turn.as_secs() as usize / 20, "{tries} tries within {turn:?}: {}", String::from_utf8_lossy(&mood));
    }
    vendor.set_mood(None);
    let end = Instant::now() + Duration::from_secs(90);
    while gateway.users(&over).await.status != 200 {
        assert!(Instant::now() < end, "it does not come back");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert!(!vendor.of(0).revoked);
}

/// The token endpoint takes what it is asked and says nothing for longer than it may.
async fn times_out(gateway: &Gateway, vendor: &Rotating, over: &str, good: &str) {
    vendor.set_mood(Some(Mood::Late(Duration::from_secs(25))));
    let (begun, late) = (Instant::now(), gateway.users(over));
    let meanwhile = async {
        let (mut served, mut beat) = (0, tokio::time::interval(Duration::from_millis(300)));
        while begun.elapsed() < Duration::from_secs(15) {
            beat.tick().await;
            assert_eq!(gateway.users(good).await.status, 200, "with a good access token all goes on");
            assert_eq!(status(gateway, over).await["status"], "active");
            served += 1;
        }
        served
    };
    let (reply, served) = tokio::join!(late, meanwhile);
    assert!(matches!(reply.status, 502 | 504), "{}", reply.text());
    assert!(begun.elapsed() > Duration::from_secs(15) && begun.elapsed() < Duration::from_secs(25), "{:?}", begun.elapsed());
    assert!(served > 20 && vendor.of(0).shown == [1], "{served} good calls, one try");
}

#[tokio::test]
async fn r_08_terminal_is_terminal_once() {
    let vendor = Rotating::start(Rotation::Strict, 0..5);
    let kept = Kept::redis();
    let nodes = [Gateway::start(&kept, &vendor.vendor.authority()), Gateway::start(&kept, &vendor.vendor.authority())];
    let account = nodes[0].link("scim", METHOD, vendor.grant(0, 3600)).await;
    vendor.end_grants();
    for turn in 0..if long() { 700 } else { 30 } {
        problem(&nodes[turn % 2].users(&account).await, 401, "reauth_required", "vendor");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(vendor.of(0).shown, [1], "one token call, and none until it is linked again");
    let shown = status(&nodes[1], &account).await;
    assert_eq!(shown["status"], "needs_reauth");
    assert!(shown["last_error"].as_str().unwrap().contains("invalid_grant"), "{shown}");
    // New tokens from the customer's new agreement.
    let context = json!({"context": {"oauth": vendor.grant(7, 3600)["oauth"]}});
    let linked = nodes[0].call("PATCH", &format!("/integrated-account/{account}"), Some(&context)).await;
    assert_eq!((linked.status, &linked.json()["status"]), (200, &json!("active")), "{}", linked.text());
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    assert_eq!(nodes[1].users(&account).await.status, 200);
}

#[tokio::test]
async fn r_09_odd_lives_make_no_loop() {
    let lives = [json!(null), json!(0), json!(-1), json!("3600"), json!(1e12), json!("soon"), json!(true), json!({})];
    for life in lives {
        let vendor = Rotating::start(Rotation::Strict, 0..5);
        vendor.set_life(life.clone());
        let gateway = Gateway::start(&Kept::embedded(), &vendor.vendor.authority());
        let account = gateway.link("scim", METHOD, vendor.grant(0, 3600)).await;
        vendor.end_access();
        for _ in 0..30 {
            let reply = gateway.users(&account).await;
            assert_eq!(reply.status, 200, "{life}: {}", reply.text());
        }
        assert_eq!(vendor.of(0).shown.len(), 1, "{life}");
        // What the vendor calls over is shown to it once.
        vendor.end_access();
        let before = vendor.vendor.asked().iter().filter(|asked| asked.header("authorization").ends_with("access-0-2")).count();
        assert_eq!(gateway.users(&account).await.status, 200, "{life}");
        let after = vendor.vendor.asked().iter().filter(|asked| asked.header("authorization").ends_with("access-0-2")).count();
        assert_eq!((vendor.of(0).shown.len(), after - before), (2, 1), "{life}");
    }
}

/// Two nodes whose clocks are two days apart share a token: each believes the one that got it, neither asks in circles, and the
/// vendor, which goes by its own clock, is shown a token that is over once.
#[tokio::test]
async fn r_09_clocks_that_differ_make_no_loop() {
    let (life, rounds) = if long() { (60, 2) } else { (6, 2) };
    let vendor = Rotating::start(Rotation::Strict, 0..5);
    vendor.set_life(json!(life));
    vendor.end_by_the_clock();
    let kept = Kept::redis();
    let library = std::fs::read_dir("/usr/lib").unwrap().flatten();
    let library = library.map(|folder| folder.path().join("faketime/libfaketimeMT.so.1")).find(|file| file.exists());
    let library = library.expect("faketime is installed by tests/run");
    let at = |shift: &'static str| {
        let faked = [("LD_PRELOAD", library.to_str().unwrap()), ("FAKETIME", shift), ("FAKETIME_DONT_FAKE_MONOTONIC", "1")];
        Gateway::start_with(&kept, &vendor.vendor.authority(), &faked)
    };
    let nodes = [at("+24h"), at("-24h")];
    let account = nodes[0].link("scim", METHOD, vendor.grant(0, 3600)).await;
    vendor.end_access();
    let begun = Instant::now();
    for round in 0..rounds {
        // Each of them is the first to come back after a pause in which the token ends.
        let turns = [&nodes[round % 2], &nodes[(round + 1) % 2]];
        let (length, begun) = (Duration::from_secs(life), Instant::now());
        while begun.elapsed() < length {
            for node in turns {
                let reply = node.users(&account).await;
                assert_eq!(reply.status, 200, "{}", reply.text());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        tokio::time::sleep(length + Duration::from_secs(1)).await;
        assert_eq!(turns[1].users(&account).await.status, 200);
    }
    let (grant, length) = (vendor.of(0), begun.elapsed());
    // Half of a life after the last one at the earliest, and one more for each node after a pause.
    let most = 2 + rounds * 2 + 2 * length.as_secs() as usize / life as usize;
    assert!(grant.shown.len() <= most && !grant.revoked, "{} refreshes within {length:?}, not {most}", grant.shown.len());
    let late = vendor.shown_late();
    assert!(!late.is_empty(), "no token ended by the vendor's clock");
    assert!(late.values().all(|times| *times == 1), "tokens were shown again after the vendor had called them over: {late:?}");
}

#[tokio::test]
async fn r_10_one_refresh_and_one_replay_after_a_401() {
    let vendor = Rotating::start(Rotation::Strict, 0..5);
    let gateway = Gateway::start(&Kept::embedded(), &vendor.vendor.authority());
    let account = gateway.link("scim", METHOD, vendor.grant(0, 3600)).await;
    for (turn, (method, path)) in [
        ("GET", format!("/unified/user-directory/users?integrated_account_id={account}")),
        ("GET", format!("/custom/Users?integrated_account_id={account}")),
        ("POST", format!("/passthrough/{account}/Users")),
    ]
    .iter()
    .enumerate()
    {
        vendor.end_access();
        let before = vendor.vendor.count();
        let reply = gateway.call(method, path, (*method == "POST").then(|| json!({"a": 1})).as_ref()).await;
        assert!(matches!(reply.status, 200 | 201), "{}", reply.text());
        assert_eq!(vendor.of(0).shown.len(), turn + 1);
        assert_eq!(vendor.vendor.count() - before, 3, "the call, the token, the replay");
    }
}

#[tokio::test]
async fn r_11_what_is_deleted_or_linked_anew_during_a_refresh_stays_so() {
    let vendor = Rotating::start(Rotation::Strict, 20..120);
    let gateway = Gateway::start(&Kept::embedded(), &vendor.vendor.authority());
    let rounds: u64 = if long() { 200 } else { 20 };
    for round in 0..rounds {
        let account = gateway.link("scim", METHOD, vendor.grant(round, 3600)).await;
        vendor.end_access();
        let path = format!("/integrated-account/{account}");
        let again = json!({"context": {"oauth": vendor.grant(1_000 + round, 3600)["oauth"]}});
        let meanwhile = async {
            tokio::time::sleep(Duration::from_millis(round * 7 % 130)).await;
            match round % 2 {
                0 => gateway.call("DELETE", &path, None).await,
                _ => gateway.call("PATCH", &path, Some(&again)).await,
            }
        };
        let (called, changed) = tokio::join!(gateway.users(&account), meanwhile);
        assert!(matches!(called.status, 200 | 401 | 404 | 409), "{}", called.text());
        assert_eq!(changed.status, 200, "{}", changed.text());
        tokio::time::sleep(Duration::from_millis(150)).await;
        let shown = gateway.get(&path).await;
        match round % 2 {
            0 => assert_eq!(shown.status, 404, "deleted stays deleted"),
            _ => {
                assert_eq!(shown.json()["status"], "active", "{}", shown.text());
                let reply = gateway.users(&account).await;
                assert_eq!(reply.status, 200, "the new link counts: {}", reply.text());
                assert!(vendor.of(1_000 + round).shown.is_empty(), "its tokens are untouched");
            }
        }
    }
}

/// The vendor rotates and says nothing: the old token is tried again, which a strict vendor takes for theft.
#[tokio::test]
async fn an_answer_that_never_came_is_why_an_account_must_be_linked_again() {
    let vendor = Rotating::start(Rotation::Strict, 0..5);
    let gateway = Gateway::start(&Kept::embedded(), &vendor.vendor.authority());
    let account = gateway.link("scim", METHOD, vendor.grant(0, 3600)).await;
    vendor.end_access();
    vendor.set_mood(Some(Mood::Silence));
    assert_eq!(gateway.users(&account).await.status, 502);
    assert_eq!(status(&gateway, &account).await["status"], "active", "nobody knows yet");
    vendor.set_mood(None);
    assert!(settled(&gateway, &account, Instant::now() + Duration::from_secs(30)).await, "the grant is over");
    assert_eq!(vendor.of(0).shown, [1, 1]);
}

#[tokio::test]
async fn a_04_a_deleted_accounts_token_is_given_back_to_the_vendor() {
    let vendor = Rotating::start(Rotation::Strict, 0..5);
    let gateway = Gateway::start(&Kept::embedded(), &vendor.vendor.authority());
    let with_revocation = |number: u64| {
        let mut context = vendor.grant(number, 3600);
        context["revoke_url"] = json!(vendor.vendor.at("/revoke"));
        context
    };
    let plain = gateway.link("scim", METHOD, vendor.grant(0, 3600)).await;
    let mut kept = Vec::new();
    for number in 1..4 {
        kept.push(gateway.link("scim", METHOD, with_revocation(number)).await);
    }
    vendor.end_access();
    assert_eq!(gateway.users(&kept[1]).await.status, 200);
    for account in [&plain, &kept[0], &kept[1]] {
        assert_eq!(gateway.call("DELETE", &format!("/integrated-account/{account}"), None).await.status, 200);
    }
    let end = Instant::now() + Duration::from_secs(5);
    while vendor.revocations().len() < 2 && Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut revoked = vendor.revocations();
    revoked.sort();
    assert_eq!(revoked, ["refresh-1-1", "refresh-2-2"], "the newest of each, and of nobody else");
    assert_eq!(gateway.users(&kept[2]).await.status, 200);
    // A vendor that is not there at that moment is asked again.
    vendor.refuse_revocations(2);
    assert_eq!(gateway.call("DELETE", &format!("/integrated-account/{}", kept[2]), None).await.status, 200);
    let end = Instant::now() + Duration::from_secs(15);
    while vendor.revocations().len() < 3 {
        assert!(Instant::now() < end, "it was not asked again: {:?}", vendor.revocations());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(vendor.revocations()[2], "refresh-3-2");
}
