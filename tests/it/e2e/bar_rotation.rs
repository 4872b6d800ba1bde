//! V-04 and V-05: both layers of keys rotate while the gateway serves, and nothing is lost when it is killed in the middle.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::{StreamExt, future::join_all, stream};
use jiff::Timestamp;
use rollcall::vault::KeyRing;
use serde_json::{Value, json};

use super::bar_vendor::{Vendor, json_answer, scim};
use crate::support::{
    gateway::{ADMIN, Answer, Gateway, Kept, client, command},
    long,
};

const PEOPLE: usize = 3;
const TOKEN: &str = "a-token-of-the-rotation-51c7e0";

fn ring(kept: &Kept) -> PathBuf {
    kept.folder().join(match kept {
        Kept::Embedded(_) => "store.keys",
        Kept::Redis(..) => "keys.json",
    })
}

/// `rollcall keys …` against the running gateway: exit code, standard output, standard error.
async fn keys(kept: &Kept, gateway: &Gateway, args: &[&str]) -> (Option<i32>, String, String) {
    let mut command = command(&[&["keys"], args].concat());
    command.envs(kept.settings()).env("ROLLCALL_URL", &gateway.base).env("ROLLCALL_TOKEN", ADMIN);
    let ended = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (ended.status.code(), text(&ended.stdout), text(&ended.stderr))
}

#[track_caller]
fn good(outcome: (Option<i32>, String, String)) -> String {
    assert_eq!(outcome.0, Some(0), "{}{}", outcome.1, outcome.2);
    outcome.1
}

/// Links so many accounts, eight at a time.
async fn link(gateway: &Gateway, vendor: &Vendor, count: usize) -> Vec<String> {
    let context = json!({"base_url": vendor.at("/scim"), "token": TOKEN});
    let links = (0..count).map(|_| gateway.link("scim", "bearer", context.clone()));
    stream::iter(links).buffer_unordered(8).collect().await
}

fn path(account: &str, number: usize) -> String {
    match number % 2 {
        0 => format!("/unified/user-directory/users?integrated_account_id={account}"),
        _ => format!("/passthrough/{account}/Users?count=2"),
    }
}

/// Every account answers from what is stored.
async fn all_readable(gateway: &Gateway, accounts: &[String]) {
    let read = |account: &String| {
        let path = path(account, 0);
        async move {
            let answer = gateway.get(&path).await;
            assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        }
    };
    stream::iter(accounts.iter().map(read)).buffer_unordered(16).collect::<Vec<()>>().await;
}

/// Root keys by id: data keys, and whether the gateway's own keys are under it.
async fn counts(gateway: &Gateway) -> Vec<(String, u64, bool)> {
    let status = gateway.get("/key").await;
    assert_eq!(status.status, 200, "{}", status.text());
    let of = |key: &Value| {
        (key["id"].as_str().unwrap().to_owned(), key["data_keys"].as_u64().unwrap(), key["has_system_keys"] == true)
    };
    status.json()["keys"].as_array().unwrap().iter().map(of).collect()
}

/// About 200 requests a second until it is told to stop.
struct Load {
    stop: Arc<AtomicBool>,
    failed: Arc<AtomicUsize>,
    callers: Vec<tokio::task::JoinHandle<Vec<(Instant, Duration)>>>,
}

impl Load {
    fn start(gateway: &Gateway, accounts: &[String]) -> Load {
        let (stop, failed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let callers = (0..4).map(|caller| {
            let (stop, failed, accounts, base) = (stop.clone(), failed.clone(), accounts.to_vec(), gateway.base.clone());
            tokio::spawn(async move {
                let (client, mut took) = (client(), Vec::new());
                let mut every = tokio::time::interval(Duration::from_millis(20));
                for number in 0.. {
                    every.tick().await;
                    if stop.load(Ordering::SeqCst) {
                        break;
                    }
                    let account = &accounts[(number * 7 + caller * 13) % accounts.len()];
                    let begun = Instant::now();
                    let url = format!("{base}{}", path(account, number));
                    let status = match client.get(&url).bearer_auth(ADMIN).send().await {
                        Ok(response) => Answer::read(response).await.status,
                        Err(_) => 0,
                    };
                    took.push((begun, begun.elapsed()));
                    if status != 200 {
                        failed.fetch_add(1, Ordering::SeqCst);
                    }
                }
                took
            })
        });
        let callers = callers.collect();
        Load { stop, failed, callers }
    }

    /// Failed requests, and the 99th percentiles before and after the moment.
    async fn end(self, moment: Instant) -> (usize, usize, [Duration; 2]) {
        self.stop.store(true, Ordering::SeqCst);
        let took: Vec<_> = join_all(self.callers).await.into_iter().flat_map(Result::unwrap).collect();
        let worst = |after: bool| {
            let mut times: Vec<_> = took.iter().filter(|(begun, _)| (*begun >= moment) == after).map(|(_, took)| *took).collect();
            times.sort();
            times.get(times.len() * 99 / 100).copied().unwrap_or_default()
        };
        (took.len(), self.failed.load(Ordering::SeqCst), [worst(false), worst(true)])
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn v_04_keys_rotate_while_the_gateway_serves() {
    for kept in Kept::each() {
        let vendor = Vendor::start(|asked| scim(asked, PEOPLE));
        let gateway = Gateway::start(&kept, &vendor.authority());
        let accounts = link(&gateway, &vendor, if long() { 20_000 } else { 150 }).await;
        let token = gateway.token(&["directory:read"]).await;
        let first = gateway.get(&format!("{}&limit=2", path(&accounts[0], 0))).await.json();
        let load = Load::start(&gateway, &accounts);
        tokio::time::sleep(Duration::from_secs(if long() { 20 } else { 1 })).await;
        let moment = Instant::now();

        assert_eq!(good(keys(&kept, &gateway, &["add"]).await), "k2\n");
        let early = keys(&kept, &gateway, &["retire", "k1"]).await;
        assert!(early.0 == Some(1) && early.2.contains("promote another one first"), "{early:?}");
        good(keys(&kept, &gateway, &["promote", "k2"]).await);
        let early = keys(&kept, &gateway, &["retire", "k1"]).await;
        assert!(early.0 == Some(1) && early.2.contains("still under the key k1"), "{early:?}");
        let said = good(keys(&kept, &gateway, &["rewrap", "--json"]).await);
        assert_eq!(serde_json::from_str::<Value>(&said).unwrap(), json!({"rewrapped": accounts.len(), "left": 0}));
        let all = accounts.len() as u64;
        assert_eq!(counts(&gateway).await, [("k1".to_owned(), 0, false), ("k2".to_owned(), all, true)]);
        let shown = good(keys(&kept, &gateway, &["status"]).await);
        assert!(shown.contains("k2  primary  ") && shown.contains(&format!("{all} data keys  and the gateway's own")), "{shown}");
        good(keys(&kept, &gateway, &["rewrap", "--data-keys"]).await);
        good(keys(&kept, &gateway, &["retire", "k1"]).await);
        let ring = std::fs::read_to_string(ring(&kept)).unwrap();
        assert!(ring.contains("\"k2\"") && !ring.contains("\"k1\""));
        for line in ring.lines().filter_map(|line| line.split("\"key\": \"").nth(1)) {
            assert!(!gateway.said().contains(&line[..20]) && !shown.contains(&line[..20]), "no key is shown");
        }

        tokio::time::sleep(Duration::from_secs(1)).await;
        let (sent, failed, [before, after]) = load.end(moment).await;
        assert_eq!(failed, 0, "of {sent} requests:\n{}", gateway.said());
        assert!(sent > 400, "{sent}");
        println!("{sent} requests, p99 {before:?} before and {after:?} during the rotation");
        if long() {
            assert!(after <= before * 2, "{before:?} {after:?}");
        }
        let cursor = first["next_cursor"].as_str().unwrap();
        let next = format!("{}&limit=2&next_cursor={cursor}", path(&accounts[0], 0));
        assert_eq!(gateway.get(&next).await.status, 200, "a walk goes on");
        assert!(gateway.stop());

        let gateway = Gateway::start(&kept, &vendor.authority());
        all_readable(&gateway, &accounts).await;
        assert_eq!(gateway.get(&next).await.status, 200, "also after a restart");
        assert_eq!(gateway.call_as(Some(&token), "GET", &path(&accounts[0], 0), None).await.status, 200);
        assert_eq!(counts(&gateway).await, [("k2".to_owned(), all, true)]);
    }
}

/// A number below `most` that looks random and is the same in each run.
fn scattered(seed: &mut u64, most: u64) -> u64 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*seed >> 33) % most
}

/// The gateway comes to write by this key.
async fn until_primary(gateway: &Gateway, id: &str) {
    let end = Instant::now() + Duration::from_secs(5);
    while gateway.get("/key?count=false").await.json()["primary"] != id {
        assert!(Instant::now() < end, "{id} is not taken up:\n{}", gateway.said());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Rewraps piece by piece until it is done, or the gateway is gone.
async fn rewrap(base: String, data_keys: bool, limit: usize) -> u64 {
    let (client, mut cursor, mut done) = (client(), Value::Null, 0);
    loop {
        let body = json!({"data_keys": data_keys, "limit": limit, "next_cursor": cursor}).to_string();
        let asked = client.post(format!("{base}/key/rewrap")).bearer_auth(ADMIN).header("content-type", "application/json");
        let Ok(answer) = asked.body(body).send().await else { return done };
        let Ok(text) = answer.text().await else { return done };
        let answer: Value = serde_json::from_str(&text).unwrap();
        // Who was killed while it made new data keys has the right to do so for a while yet.
        assert!(data_keys || answer["left"] == 0, "{answer}");
        done += answer["rewrapped"].as_u64().unwrap();
        if answer["done"] == true {
            return done;
        }
        cursor = answer["next_cursor"].clone();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn v_05_killed_in_the_middle_of_a_rotation() {
    let (rounds, count) = if long() { (50, 500) } else { (5, 60) };
    for kept in Kept::each() {
        let vendor = Vendor::start(|asked| scim(asked, PEOPLE));
        let mut gateway = Gateway::start(&kept, &vendor.authority());
        let accounts = link(&gateway, &vendor, count).await;
        let (file, mut seed) = (ring(&kept), 7);
        let begun = Instant::now();
        KeyRing::add_key(&file, Some("timed"), Timestamp::UNIX_EPOCH).unwrap();
        KeyRing::promote_key(&file, "timed").unwrap();
        until_primary(&gateway, "timed").await;
        let waited = begun.elapsed();
        assert_eq!(rewrap(gateway.base.clone(), false, 10).await, count as u64);
        let whole = begun.elapsed().saturating_sub(waited);
        for round in 0..rounds {
            let data_keys = round % 3 == 2;
            if !data_keys {
                let id = KeyRing::add_key(&file, None, Timestamp::UNIX_EPOCH).unwrap();
                KeyRing::promote_key(&file, &id).unwrap();
                until_primary(&gateway, &id).await;
            }
            let working = tokio::spawn(rewrap(gateway.base.clone(), data_keys, 10));
            let micros = whole.as_micros() as u64;
            tokio::time::sleep(Duration::from_micros(scattered(&mut seed, micros))).await;
            gateway.kill();
            working.await.unwrap();
            gateway = Gateway::start(&kept, &vendor.authority());
            all_readable(&gateway, &accounts).await;
        }
        rewrap(gateway.base.clone(), false, 500).await;
        let primary = gateway.get("/key?count=false").await.json()["primary"].as_str().unwrap().to_owned();
        for (id, data_keys, has_system_keys) in counts(&gateway).await {
            let expected = if id == primary { (count as u64, true) } else { (0, false) };
            assert_eq!((data_keys, has_system_keys), expected, "{id}");
            if id != primary {
                KeyRing::retire_key(&file, &id).unwrap();
            }
        }
        assert!(gateway.stop());
        let gateway = Gateway::start(&kept, &vendor.authority());
        all_readable(&gateway, &accounts).await;
        assert_eq!(counts(&gateway).await, [(primary, count as u64, true)]);
    }
}

#[tokio::test]
async fn access_tokens_stay_over_new_data_keys() {
    let given = Arc::new(AtomicUsize::new(0));
    let count = given.clone();
    let vendor = Vendor::start(move |asked| match asked.path() {
        "/token" => {
            let number = count.fetch_add(1, Ordering::SeqCst);
            json_answer(200, &json!({"access_token": format!("numbered-{number}"), "token_type": "Bearer", "expires_in": 3600}))
        }
        _ if asked.header("authorization") != "Bearer numbered-0" => json_answer(401, &json!({})),
        _ => scim(asked, PEOPLE),
    });
    for kept in Kept::each() {
        given.store(0, Ordering::SeqCst);
        let gateway = Gateway::start(&kept, &vendor.authority());
        let context = json!({"base_url": vendor.at("/scim"), "token_url": vendor.at("/token"), "client_id": "me",
            "client_secret": "a-secret-of-the-client-77"});
        let account = gateway.link("scim", "oauth2_client_credentials", context).await;
        all_readable(&gateway, std::slice::from_ref(&account)).await;
        for _ in 0..3 {
            let ask = json!({"data_keys": true, "account": account});
            let answer = gateway.call("POST", "/key/rewrap", Some(&ask)).await.json();
            assert_eq!((&answer["rewrapped"], &answer["left"], &answer["done"]), (&json!(1), &json!(0), &json!(true)));
            all_readable(&gateway, std::slice::from_ref(&account)).await;
        }
        assert!(gateway.stop());
        let gateway = Gateway::start(&kept, &vendor.authority());
        all_readable(&gateway, &[account]).await;
        assert_eq!(given.load(Ordering::SeqCst), 1, "the token that was kept is still the one");
    }
}

#[tokio::test]
async fn keys_commands_refuse_what_would_lose_data() {
    let kept = Kept::embedded();
    let nothing = |args: &[&str]| {
        let mut command = command(&[&["keys"], args].concat());
        let ended = command.envs(kept.settings()).output().unwrap();
        (ended.status.code(), String::from_utf8_lossy(&ended.stderr).into_owned())
    };
    let (code, said) = nothing(&["add"]);
    assert!(code == Some(2) && said.contains("store.keys") && said.contains("--keys-file"), "{code:?} {said}");
    for args in [&["promote", "k1"][..], &["retire", "k1"], &["rewrap"], &["status"]] {
        let (code, said) = nothing(args);
        assert!(code == Some(1) && said.contains("there is no store"), "{args:?} {code:?} {said}");
    }
    for args in [
        &["rewrap", "--account", "x"][..],
        &["rewrap", "--older-than-days", "3"],
        &["promote"],
        &["retire"],
        &["status", "--older-than-days", "-1"],
    ] {
        assert_eq!(nothing(args).0, Some(2), "{args:?}");
    }
    let gateway = Gateway::start(&kept, "");
    assert_eq!(gateway.get("/healthz").await.status, 200, "its key ring is made");
    let (code, _, said) = keys(&kept, &gateway, &["retire", "k7"]).await;
    assert!(code == Some(1) && said.contains("has no key `k7`"), "{said}");
    let (code, _, said) = keys(&kept, &gateway, &["promote", "k7"]).await;
    assert!(code == Some(1) && said.contains("has no key `k7`"), "{said}");
    let (code, _, said) = keys(&kept, &gateway, &["rewrap", "--data-keys", "--account", "nonsense"]).await;
    assert!(code == Some(1) && said.contains("invalid_body"), "{said}");
    // A gateway that reads another file has not got the key.
    let other = tempfile::tempdir().unwrap();
    let copy = other.path().join("copy.keys");
    std::fs::copy(ring(&kept), &copy).unwrap();
    KeyRing::add_key(&copy, None, Timestamp::UNIX_EPOCH).unwrap();
    let (code, _, said) = keys(&kept, &gateway, &["promote", "k2", "--keys-file", copy.to_str().unwrap()]).await;
    assert!(code == Some(1) && said.contains("does not have the key k2 yet"), "{said}");
    assert_eq!(KeyRing::load(&copy).unwrap().primary_id(), "k1");
    KeyRing::promote_key(&copy, "k2").unwrap();
    for args in [&["rewrap"][..], &["retire", "k1"]] {
        let args = [args, &["--keys-file", copy.to_str().unwrap()]].concat();
        let (code, _, said) = keys(&kept, &gateway, &args).await;
        assert!(code == Some(1) && said.contains("the gateway's primary key is k1"), "{args:?} {said}");
    }
    assert_eq!(KeyRing::load(&copy).unwrap().ids().count(), 2);
    // A gateway that cannot be asked.
    let base = gateway.base.clone();
    gateway.kill();
    let mut command = command(&["keys", "retire", "k1", "--keys-file", copy.to_str().unwrap()]);
    let ended = command.envs(kept.settings()).env("ROLLCALL_URL", base).env("ROLLCALL_TOKEN", ADMIN).output().unwrap();
    assert_eq!((ended.status.code(), KeyRing::load(&copy).unwrap().ids().count()), (Some(1), 2));
}

#[tokio::test]
async fn keys_without_a_running_gateway_and_over_the_api() {
    let (kept, vendor) = (Kept::embedded(), Vendor::start(|asked| scim(asked, PEOPLE)));
    let gateway = Gateway::start(&kept, &vendor.authority());
    let accounts = link(&gateway, &vendor, 3).await;
    for (body, field) in [
        (json!({"account": accounts[0]}), "account"),
        (json!({"older_than_days": 3}), "older_than_days"),
        (json!({"data_keys": true, "older_than_days": 40_000}), "older_than_days"),
        (json!({"limit": 0}), "limit"),
        (json!({"limit": 5001}), "limit"),
        (json!({"limt": 1}), "limt"),
        (json!({"data_keys": true, "account": "nonsense"}), "account"),
    ] {
        let answer = gateway.call("POST", "/key/rewrap", Some(&body)).await;
        assert_eq!((answer.status, answer.code().as_str()), (400, "invalid_body"), "{body}: {}", answer.text());
        assert!(answer.text().contains(field), "{body}: {}", answer.text());
    }
    let missing = json!({"data_keys": true, "account": "019a0000-0000-7000-8000-000000000000"});
    assert_eq!(gateway.call("POST", "/key/rewrap", Some(&missing)).await.code(), "not_found");
    let cursor = json!({"next_cursor": "nonsense"});
    assert_eq!(gateway.call("POST", "/key/rewrap", Some(&cursor)).await.code(), "invalid_cursor");
    for query in ["older_than_days=x", "older_than_days=-1", "older_than_days=36501", "count=1", "older=1"] {
        let answer = gateway.get(&format!("/key?{query}")).await;
        assert_eq!((answer.status, answer.code().as_str()), (400, "invalid_parameter"), "{query}");
    }
    assert!(gateway.stop());
    // The commands open the store for themselves.
    let alone = |args: &[&str]| {
        let mut command = command(&[&["keys"], args].concat());
        let ended = command.envs(kept.settings()).output().unwrap();
        assert!(ended.status.success(), "{args:?}: {}", String::from_utf8_lossy(&ended.stderr));
        String::from_utf8_lossy(&ended.stdout).into_owned()
    };
    assert_eq!(alone(&["add", "--id", "summer"]), "summer\n");
    alone(&["promote", "summer"]);
    assert_eq!(alone(&["rewrap", "--json"]), "{\"rewrapped\":3,\"left\":0}\n");
    alone(&["retire", "k1"]);
    let shown = alone(&["status", "--older-than-days", "0"]);
    assert!(shown.starts_with("summer  primary  ") && shown.contains("3 data keys"), "{shown}");
    let gateway = Gateway::start(&kept, &vendor.authority());
    all_readable(&gateway, &accounts).await;
}

/// What the audit log says of the ring, the oldest first.
async fn ring_entries(gateway: &Gateway) -> Vec<(String, String)> {
    let mut entries = gateway.walk("/audit?limit=1000").await;
    entries.retain(|entry| entry["target_kind"] == "root_key");
    entries.reverse();
    let text = |entry: &Value, name: &str| entry[name].as_str().unwrap().to_owned();
    assert!(entries.iter().all(|entry| entry["outcome"] == "done" && entry["actor"] == "rollcall"), "{entries:?}");
    entries.iter().map(|entry| (text(entry, "action"), text(entry, "target_id"))).collect()
}

/// Waits until the log says this of the ring, and a while whether it says more.
async fn until_noted(gateways: &[Gateway], expected: &[(&str, &str)]) {
    let end = Instant::now() + Duration::from_secs(10);
    while ring_entries(&gateways[0]).await.len() < expected.len() {
        assert!(Instant::now() < end, "{:?}\n{}", ring_entries(&gateways[0]).await, gateways[0].said());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let expected: Vec<_> = expected.iter().map(|(action, id)| ((*action).to_owned(), (*id).to_owned())).collect();
    assert_eq!(ring_entries(&gateways[1]).await, expected);
}

/// The commands change a file, which no gateway need run for: whichever nodes take it up, each change stands in the log once.
#[tokio::test]
async fn v_09_each_change_of_the_ring_stands_in_the_log_once() {
    let kept = Kept::redis();
    let start = || [Gateway::start(&kept, ""), Gateway::start(&kept, "")];
    let nodes = start();
    good(keys(&kept, &nodes[0], &["add"]).await);
    let mut told = vec![("key.add", "k2")];
    until_noted(&nodes, &told).await;
    good(keys(&kept, &nodes[1], &["promote", "k2"]).await);
    told.push(("key.promote", "k2"));
    until_noted(&nodes, &told).await;
    good(keys(&kept, &nodes[0], &["rewrap"]).await);
    good(keys(&kept, &nodes[0], &["retire", "k1"]).await);
    told.push(("key.retire", "k1"));
    until_noted(&nodes, &told).await;
    let found = nodes[1].walk("/audit?target_id=k2").await;
    assert_eq!(found.len(), 2, "{found:?}");
    // What is changed while no node runs, the next ones find; and what each of them knows already is no change.
    nodes.into_iter().for_each(|node| assert!(node.stop()));
    KeyRing::add_key(&ring(&kept), Some("spare"), Timestamp::now()).unwrap();
    let nodes = start();
    told.push(("key.add", "spare"));
    until_noted(&nodes, &told).await;
    nodes.into_iter().for_each(|node| assert!(node.stop()));
    until_noted(&start(), &told).await;
}
