//! I-01: writes that are sent again. One effect for each key, whatever the parallelism, the node, the store or the crash.

use std::{
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::{
    bar_vendor::{Vendor as Stand, json_answer, scim},
    vendor::{Mood, SECRET, Vendor, accounts, is_sound, names, problem},
};
use crate::support::{
    gateway::{ADMIN, Answer, Gateway, Kept},
    long,
};

const KEY: &str = "Idempotency-Key";
/// The longest a lost node keeps a key, and some time for the machine.
const FREED: Duration = Duration::from_secs(20);

async fn send(gateway: &Gateway, key: &str, method: &str, path: &str, body: Option<&Value>) -> Answer {
    gateway.call_with(ADMIN, &[(KEY, key)], method, path, body).await
}

fn new_token(name: &str) -> Value {
    json!({"name": name, "scopes": ["directory:read"]})
}

async fn tokens(gateway: &Gateway, name: &str) -> Vec<String> {
    let list = gateway.get("/api-token?limit=5000").await.json();
    let named = list["result"].as_array().unwrap().iter().filter(|token| token["name"] == name);
    named.map(|token| token["id"].as_str().unwrap().to_owned()).collect()
}

fn replayed(answer: &Answer) -> bool {
    answer.header("idempotent-replayed") == Some("true")
}

fn restarted(answer: &Answer) -> bool {
    answer.header("idempotent-restarted") == Some("true")
}

/// Sends until the key is free or its reply is there; what comes before is 409 that says it may be sent again.
async fn until_answered(gateway: &Gateway, key: &str, method: &str, path: &str, body: Option<&Value>) -> Answer {
    let begun = Instant::now();
    loop {
        let answer = send(gateway, key, method, path, body).await;
        if answer.status != 409 {
            return answer;
        }
        assert_eq!(names(&answer, 409, "idempotency_in_progress", KEY)["retryable"], true);
        assert!(begun.elapsed() < FREED, "the key is not freed");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Whether bytes stand in any file below the folder.
fn on_disk(folder: &Path, text: &str) -> bool {
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            } else if entry.file_type().unwrap().is_file() {
                let bytes = std::fs::read(entry.path()).unwrap();
                if bytes.windows(text.len()).any(|window| window == text.as_bytes()) {
                    return true;
                }
            }
        }
    }
    false
}

fn store_folder(kept: &Kept) -> &Path {
    match kept {
        Kept::Embedded(folder) => folder.path(),
        Kept::Redis(server, _) => server.folder(),
    }
}

#[tokio::test]
async fn i_01_one_key_a_hundred_times_at_once_is_one_effect() {
    for kept in Kept::each() {
        let vendor = Vendor::start();
        // Over Redis two nodes share the burst.
        let nodes: Vec<Gateway> = match kept {
            Kept::Embedded(_) => vec![Gateway::start(&kept, &vendor.authority())],
            Kept::Redis(..) => (0..2).map(|_| Gateway::start(&kept, &vendor.authority())).collect(),
        };
        for round in 0..if long() { 20 } else { 2 } {
            let (key, name) = (format!("burst {round}"), format!("burst-{round}"));
            let body = new_token(&name);
            let burst = (0..100).map(|n| send(&nodes[n % nodes.len()], &key, "POST", "/api-token", Some(&body)));
            let answers = join_all(burst).await;
            let done: Vec<&Answer> = answers.iter().filter(|answer| answer.status == 201).collect();
            assert_eq!(done.iter().filter(|answer| !replayed(answer)).count(), 1, "one ran");
            assert!(done.iter().all(|answer| answer.body == done[0].body && !restarted(answer)), "one reply");
            for refused in answers.iter().filter(|answer| answer.status != 201) {
                assert_eq!(names(refused, 409, "idempotency_in_progress", KEY)["retryable"], true);
            }
            assert_eq!(tokens(&nodes[0], &name).await.len(), 1, "one token");
        }
        vendor.set(Mood::Slow);
        let burst = join_all((0..100).map(|n| {
            let (gateway, body) = (&nodes[n % nodes.len()], vendor.import());
            async move { send(gateway, "link", "POST", "/integrated-account", Some(&body)).await }
        }));
        let linked: Vec<String> = burst.await.iter().filter(|a| a.status == 201).map(Answer::text).collect();
        assert!(!linked.is_empty() && linked.iter().all(|text| *text == linked[0]), "{linked:?}");
        assert_eq!(accounts(&nodes[0]).await.len(), 1);
        nodes.iter().for_each(is_sound);
    }
}

#[tokio::test]
async fn i_01_another_request_under_a_key_is_refused_and_another_caller_has_keys_of_his_own() {
    for kept in Kept::each() {
        let (gateway, vendor) = (Gateway::start(&kept, ""), Vendor::start());
        let body = new_token("one");
        let first = send(&gateway, "k", "POST", "/api-token", Some(&body)).await;
        assert_eq!((first.status, replayed(&first)), (201, false), "{}", first.text());
        let id = first.json()["id"].as_str().unwrap().to_owned();
        for (method, path, body) in [
            ("POST", "/api-token".to_owned(), Some(new_token("two"))),
            ("POST", "/api-token".to_owned(), Some(json!({"scopes": ["directory:read"], "name": "one"}))),
            ("POST", "/integrated-account".to_owned(), Some(vendor.import())),
            ("DELETE", format!("/api-token/{id}"), None),
        ] {
            let refused = names(&send(&gateway, "k", method, &path, body.as_ref()).await, 422, "idempotency_key_reused", KEY);
            assert_eq!(refused["retryable"], false);
        }
        assert_eq!((tokens(&gateway, "one").await, tokens(&gateway, "two").await), (vec![id], vec![]));
        assert_eq!(vendor.asked(), 0);

        let other = gateway.token(&["admin"]).await;
        let theirs = gateway.call_with(&other, &[(KEY, "k")], "POST", "/api-token", Some(&new_token("two"))).await;
        assert_eq!((theirs.status, replayed(&theirs)), (201, false), "{}", theirs.text());
        // Who may not do it learns nothing of the reply.
        let weak = gateway.token(&["directory:read"]).await;
        let refused = gateway.call_with(&weak, &[(KEY, "k")], "POST", "/api-token", Some(&body)).await;
        problem(&refused, 403, "scope_missing", "gateway");
        assert_eq!(send(&gateway, "k", "GET", "/api-token", None).await.status, 200, "reading has no keys");
        assert_eq!(gateway.call("POST", "/api-token", Some(&body)).await.status, 201);
        assert_eq!(tokens(&gateway, "one").await.len(), 2, "without a key every call counts");
        is_sound(&gateway);
    }
}

#[tokio::test]
async fn i_01_replies_outlive_a_restart_sealed_and_failures_in_passing_are_not_kept() {
    for kept in Kept::each() {
        let vendor = Vendor::start();
        let gateway = Gateway::start(&kept, &vendor.authority());
        let (token, import) = (new_token("kept"), vendor.import());
        let wrong = json!({"tenant_id": "acme", "integration": "scim", "authentication_method": "bearer",
            "context": {"base_url": vendor.base(), "token": "not-the-one"}});
        let made = send(&gateway, "token-key-in-the-clear", "POST", "/api-token", Some(&token)).await;
        let refused = send(&gateway, "wrong", "POST", "/integrated-account", Some(&wrong)).await;
        problem(&refused, 422, "credential_refused", "vendor");
        vendor.set(Mood::Html);
        let failed = send(&gateway, "import", "POST", "/integrated-account", Some(&import)).await;
        assert!(failed.status >= 500, "{}", failed.text());
        vendor.set(Mood::Good);
        let linked = send(&gateway, "import", "POST", "/integrated-account", Some(&import)).await;
        assert!(linked.status == 201 && restarted(&linked) && !replayed(&linked), "{}", linked.text());
        let account = linked.json()["id"].as_str().unwrap().to_owned();
        let path = format!("/integrated-account/{account}");
        let change = json!({"tenant_id": "zenith"});
        let changed = send(&gateway, "change", "PATCH", &path, Some(&change)).await;
        assert_eq!((changed.status, &changed.json()["tenant_id"]), (200, &json!("zenith")));
        let asked = vendor.asked();
        assert!(gateway.stop());

        let text = made.json()["token"].as_str().unwrap().to_owned();
        for clear in [text.as_str(), "token-key-in-the-clear", SECRET, "not-the-one"] {
            assert!(!on_disk(store_folder(&kept), clear), "`{clear}` is readable in the store");
        }
        let gateway = Gateway::start(&kept, &vendor.authority());
        for (key, method, path, body, first) in [
            ("token-key-in-the-clear", "POST", "/api-token", Some(&token), &made),
            ("import", "POST", "/integrated-account", Some(&import), &linked),
            ("change", "PATCH", path.as_str(), Some(&change), &changed),
        ] {
            let again = send(&gateway, key, method, path, body).await;
            assert!(replayed(&again) && !restarted(&again), "{key}");
            assert_eq!((again.status, &again.body), (first.status, &first.body), "{key}");
            assert_eq!(again.header("content-type"), first.header("content-type"), "{key}");
        }
        let again = send(&gateway, "wrong", "POST", "/integrated-account", Some(&wrong)).await;
        let (mut before, mut now) = (refused.json(), problem(&again, 422, "credential_refused", "vendor"));
        assert!(replayed(&again));
        assert_eq!(now["request_id"], again.header("x-request-id").unwrap(), "the problem names the request it answers");
        assert_ne!(before["request_id"].take(), now["request_id"].take());
        assert_eq!(before, now);
        assert_eq!(vendor.asked(), asked, "nothing ran again");
        assert_eq!((accounts(&gateway).await, tokens(&gateway, "kept").await.len()), (vec![account.clone()], 1));
        assert_eq!(
            gateway.call_as(Some(&text), "GET", "/unified/user-directory/users", None).await.status,
            400,
            "the token lives"
        );

        let gone = send(&gateway, "delete", "DELETE", &path, None).await;
        let still = send(&gateway, "delete", "DELETE", &path, None).await;
        assert_eq!((gone.status, still.status, &gone.body, replayed(&still)), (200, 200, &still.body, true));
        problem(&gateway.call("DELETE", &path, None).await, 404, "not_found", "gateway");
        is_sound(&gateway);
    }
}

/// The gateway is killed while the vendor is asked about the new credential; the same request makes the account then, once.
#[tokio::test]
async fn i_01_a_killed_node_frees_its_key_and_nothing_is_made_twice() {
    for kept in Kept::each() {
        let vendor = Vendor::start();
        for round in 0..if long() { 10 } else { 1 } {
            let gateway = Gateway::start(&kept, &vendor.authority());
            vendor.set(Mood::Late);
            let (key, import, asked) = (format!("crash-{round}"), vendor.import(), vendor.asked());
            {
                let call = send(&gateway, &key, "POST", "/integrated-account", Some(&import));
                let seen = async {
                    while vendor.asked() == asked {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                };
                tokio::select! { _ = call => panic!("it answered"), () = seen => {} }
                let refused = send(&gateway, &key, "POST", "/integrated-account", Some(&import)).await;
                assert_eq!(names(&refused, 409, "idempotency_in_progress", KEY)["retryable"], true, "whoever asked went away");
                let other = send(&gateway, &key, "POST", "/api-token", Some(&new_token("x"))).await;
                names(&other, 422, "idempotency_key_reused", KEY);
            }
            gateway.kill();
            vendor.set(Mood::Good);
            let gateway = Gateway::start(&kept, &vendor.authority());
            let other = send(&gateway, &key, "POST", "/api-token", Some(&new_token("x"))).await;
            names(&other, 422, "idempotency_key_reused", KEY);
            let answer = until_answered(&gateway, &key, "POST", "/integrated-account", Some(&import)).await;
            assert!(answer.status == 201 && restarted(&answer), "{}", answer.text());
            let again = send(&gateway, &key, "POST", "/integrated-account", Some(&import)).await;
            assert!(replayed(&again) && again.body == answer.body);
            assert_eq!(accounts(&gateway).await.len(), round + 1);
            assert!(gateway.said().contains("runs again under its idempotency key"), "not silently");
            is_sound(&gateway);
        }
    }
}

/// Of a call in the vendor's own words nothing can be read again; cut off it is not made a second time, in a batch either.
#[tokio::test]
async fn i_01_a_cut_off_call_in_the_vendors_own_words_is_not_made_twice() {
    let (kept, vendor) = (Kept::embedded(), Vendor::start());
    let gateway = Gateway::start(&kept, &vendor.authority());
    let account =
        gateway.call("POST", "/integrated-account", Some(&vendor.import())).await.json()["id"].as_str().unwrap().to_owned();
    vendor.set(Mood::Late);
    let user = json!({"userName": "ada@acme.example"});
    let batch = json!({"integrated_account_id": account, "resources": [{"name": "one", "resource": "Users", "method": "create", "body": user}]});
    let calls = [
        ("proxy", format!("/proxy/Users?integrated_account_id={account}"), user.clone()),
        ("custom", format!("/custom/Users?integrated_account_id={account}"), user.clone()),
        ("batch", "/batch-request".to_owned(), batch),
    ];
    let asked = vendor.asked();
    {
        let all = join_all(calls.iter().map(|(key, path, body)| send(&gateway, key, "POST", path, Some(body))));
        let seen = async {
            while vendor.asked() < asked + calls.len() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! { _ = all => panic!("they answered"), () = seen => {} }
    }
    gateway.kill();
    vendor.set(Mood::Good);
    let gateway = Gateway::start(&kept, &vendor.authority());
    let asked = vendor.asked();
    for (key, path, body) in &calls {
        let answer = until_answered(&gateway, key, "POST", path, Some(body)).await;
        assert!(restarted(&answer), "{}", answer.text());
        if *key == "batch" {
            assert_eq!(answer.status, 200, "{}", answer.text());
            assert_eq!(answer.json()["errors"]["one"][0]["code"], "write_unconfirmed", "{}", answer.text());
        } else {
            assert_eq!(problem(&answer, 502, "write_unconfirmed", "vendor")["field"], KEY);
        }
        let again = send(&gateway, key, "POST", path, Some(body)).await;
        assert!(
            replayed(&again)
                && (again.status, again.json()["detail"].clone()) == (answer.status, answer.json()["detail"].clone())
        );
    }
    assert_eq!(vendor.asked(), asked, "the vendor is not asked again");
    is_sound(&gateway);
}

/// Killed behind the vendor's effect: what only one record can be called is found again, and of what several may be called
/// nothing is guessed.
#[tokio::test]
async fn i_01_a_cut_off_unified_create_is_not_made_twice() {
    let (records, is_late) = (Arc::new(Mutex::new(Vec::<Value>::new())), Arc::new(AtomicBool::new(true)));
    let (known, late) = (records.clone(), is_late.clone());
    let vendor = Stand::start(move |asked| {
        let (kind, id) = match asked.path().strip_prefix("/scim/").unwrap_or_default().split_once('/') {
            Some((kind, id)) => (kind.to_owned(), Some(id.to_owned())),
            None => (asked.path().trim_start_matches("/scim/").to_owned(), None),
        };
        if !matches!(kind.as_str(), "Users" | "Groups") {
            return scim(asked, 0);
        }
        if asked.method == "POST" {
            let mut record: Value = serde_json::from_slice(&asked.body).unwrap();
            let mut known = known.lock().unwrap();
            (record["id"], record["kind"]) = (json!(format!("{}", known.len() + 1)), json!(kind));
            known.push(record.clone());
            drop(known);
            if late.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_secs(5));
            }
            return json_answer(201, &record);
        }
        let found: Vec<Value> = known.lock().unwrap().iter().filter(|record| record["kind"] == kind).cloned().collect();
        match id {
            Some(id) => match found.iter().find(|record| record["id"] == id) {
                Some(record) => json_answer(200, record),
                None => json_answer(404, &json!({})),
            },
            None => json_answer(200, &json!({"totalResults": found.len(), "startIndex": 1, "Resources": found})),
        }
    });
    let kept = Kept::embedded();
    let gateway = Gateway::start(&kept, &vendor.authority());
    let account = gateway.link("scim", "bearer", json!({"base_url": vendor.at("/scim"), "token": SECRET})).await;
    let path = |plural: &str| format!("/unified/user-directory/{plural}?integrated_account_id={account}");
    let calls = [
        ("user", path("users"), json!({"username": "ada@acme.example", "status": "active"})),
        ("group", path("groups"), json!({"name": "Analysts"})),
    ];
    {
        let all = join_all(calls.iter().map(|(key, path, body)| send(&gateway, key, "POST", path, Some(body))));
        let made = async {
            while records.lock().unwrap().len() < calls.len() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! { _ = all => panic!("they answered"), () = made => {} }
    }
    gateway.kill();
    is_late.store(false, Ordering::SeqCst);
    let gateway = Gateway::start(&kept, &vendor.authority());
    let [(_, users, user), (_, groups, group)] = &calls;
    let found = until_answered(&gateway, "user", "POST", users, Some(user)).await;
    assert_eq!((found.status, found.header("rollcall-warning")), (201, Some("already_there")), "{}", found.text());
    assert!(restarted(&found) && found.json()["username"] == "ada@acme.example", "{}", found.text());
    let unknown = until_answered(&gateway, "group", "POST", groups, Some(group)).await;
    problem(&unknown, 502, "write_unconfirmed", "vendor");
    assert!(restarted(&unknown) && unknown.text().contains("nothing tells it"), "{}", unknown.text());
    assert_eq!(records.lock().unwrap().len(), 2, "nothing was made twice");
    let next = send(&gateway, "another", "POST", groups, Some(group)).await;
    assert_eq!(next.status, 201, "under another key it is another group: {}", next.text());
    is_sound(&gateway);
}

/// A vendor that takes longer than the lease of a lost node does not look like one.
#[tokio::test]
async fn i_01_a_long_run_keeps_its_key() {
    let checks = Kept::each().into_iter().map(|kept| async move {
        let vendor = Vendor::start();
        let gateway = Gateway::start(&kept, &vendor.authority());
        vendor.set(Mood::Silent);
        let import = vendor.import();
        let later = async {
            tokio::time::sleep(Duration::from_secs(17)).await;
            let refused = send(&gateway, "long", "POST", "/integrated-account", Some(&import)).await;
            names(&refused, 409, "idempotency_in_progress", KEY);
        };
        let (answer, ()) = tokio::join!(send(&gateway, "long", "POST", "/integrated-account", Some(&import)), later);
        assert!(answer.status == 201 && !restarted(&answer), "{}", answer.text());
        assert_eq!(accounts(&gateway).await.len(), 1);
    });
    join_all(checks).await;
}

/// Killed at any moment of a short write, the tokens that are there are those whose replies came or come.
#[tokio::test]
async fn i_01_tokens_survive_kills_at_any_moment_once_each() {
    for kept in Kept::each() {
        for round in (0..40).step_by(if long() { 1 } else { 10 }) {
            let gateway = Gateway::start(&kept, "");
            let (key, name) = (format!("moment-{round}"), format!("moment-{round}"));
            let body = new_token(&name);
            let before = {
                let headers = [(KEY, key.as_str())];
                let call = gateway.try_call_with(ADMIN, &headers, "POST", "/api-token", Some(&body));
                let moment = tokio::time::sleep(Duration::from_secs_f64(0.0005 * 1.22_f64.powi(round)));
                tokio::select! { answer = call => answer, () = moment => None }
            };
            gateway.kill();
            let gateway = Gateway::start(&kept, "");
            let answer = until_answered(&gateway, &key, "POST", "/api-token", Some(&body)).await;
            assert_eq!(answer.status, 201, "{}", answer.text());
            if let Some(before) = before {
                assert!(replayed(&answer) && before.body == answer.body, "the reply that left is the reply that is kept");
            }
            assert_eq!(tokens(&gateway, &name).await, [answer.json()["id"].as_str().unwrap()], "round {round}");
            let text = answer.json()["token"].as_str().unwrap().to_owned();
            let works = gateway.call_as(Some(&text), "GET", "/unified/user-directory/users", None).await;
            names(&works, 400, "invalid_parameter", "integrated_account_id");
            is_sound(&gateway);
        }
    }
}

/// Waits until the gateway has found its store again.
async fn until_ready(gateway: &Gateway) {
    let begun = Instant::now();
    while gateway.get("/readyz").await.status != 200 {
        assert!(begun.elapsed() < Duration::from_secs(5), "the store is not found again");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn without_the_store_nothing_runs_and_one_that_goes_in_the_middle_doubles_nothing() {
    let (mut kept, vendor) = (Kept::redis(), Vendor::start());
    let gateway = Gateway::start(&kept, &vendor.authority());
    let import = vendor.import();
    assert_eq!(gateway.get("/integrated-account").await.status, 200);
    let asked = vendor.asked();
    let Kept::Redis(server, _) = &mut kept else { unreachable!() };
    server.kill();
    let answer = send(&gateway, "away", "POST", "/integrated-account", Some(&import)).await;
    problem(&answer, 503, "store_unavailable", "gateway");
    assert!(answer.header("retry-after").is_some());
    assert_eq!(vendor.asked(), asked, "the vendor is not asked");
    server.restart();
    until_ready(&gateway).await;
    let answer = until_answered(&gateway, "away", "POST", "/integrated-account", Some(&import)).await;
    assert!(answer.status == 201 && !replayed(&answer), "{}", answer.text());

    vendor.set(Mood::Slow);
    let asked = vendor.asked();
    let lost = async {
        while vendor.asked() == asked {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        server.kill();
    };
    let (answer, ()) = tokio::join!(send(&gateway, "lost", "POST", "/integrated-account", Some(&import)), lost);
    problem(&answer, 503, "store_unavailable", "gateway");
    server.restart();
    until_ready(&gateway).await;
    let answer = until_answered(&gateway, "lost", "POST", "/integrated-account", Some(&import)).await;
    assert!(answer.status == 201 && restarted(&answer), "{}", answer.text());
    assert_eq!(accounts(&gateway).await.len(), 2);
    is_sound(&gateway);
}

#[tokio::test]
async fn keys_of_another_form_are_named_and_nothing_happens() {
    let (kept, vendor) = (Kept::embedded(), Vendor::start());
    let gateway = Gateway::start(&kept, &vendor.authority());
    let account = gateway.link("scim", "bearer", vendor.context()).await;
    let asked = vendor.asked();
    let path = format!("/integrated-account/{account}");
    let body = new_token("bad");
    let long = "k".repeat(256);
    for bad in ["", &long, "sch\u{f6}n", "a\tb", "\u{1f511}"] {
        for (method, path, body) in [
            ("POST", "/api-token", Some(body.clone())),
            ("POST", "/integrated-account", Some(vendor.import())),
            ("PATCH", path.as_str(), Some(json!({"tenant_id": "x"}))),
            ("DELETE", path.as_str(), None),
        ] {
            let answer = send(&gateway, bad, method, path, body.as_ref()).await;
            let detail = names(&answer, 400, "invalid_header", KEY)["detail"].to_string();
            assert!(detail.contains("255") && detail.contains("printable ASCII"), "{detail}");
        }
        assert_eq!(send(&gateway, bad, "GET", &path, None).await.status, 200, "ignored where nothing is written");
    }
    let twice = gateway.call_with(ADMIN, &[(KEY, "a"), (KEY, "b")], "POST", "/api-token", Some(&body)).await;
    names(&twice, 400, "invalid_header", KEY);
    let nobody = gateway.call_with("nonsense", &[(KEY, "")], "POST", "/api-token", Some(&body)).await;
    problem(&nobody, 401, "invalid_token", "gateway");
    assert_eq!((vendor.asked(), tokens(&gateway, "bad").await.len()), (asked, 0));
    // What cannot be read uses up no key.
    names(&send(&gateway, "good", "POST", "/api-token", Some(&json!({"name": "bad"}))).await, 400, "invalid_body", "scopes");
    for good in ["good", "k", &long[..255], "\"quoted\"", "a b~!"] {
        assert_eq!(send(&gateway, good, "POST", "/api-token", Some(&body)).await.status, 201, "{good}");
    }
    assert_eq!(tokens(&gateway, "bad").await.len(), 5);
    is_sound(&gateway);
}

/// The vendor fails, somebody else takes the id, and the write is sent again.
#[tokio::test]
async fn a_repeated_import_does_not_take_another_customers_account_over() {
    let (kept, vendor) = (Kept::embedded(), Vendor::start());
    let gateway = Gateway::start(&kept, &vendor.authority());
    let mut body = vendor.import();
    body["id"] = json!("0198f0c2-a1b0-7c1e-9a51-d2b53c1f0e77");
    vendor.set(Mood::CutJson);
    let failed = send(&gateway, "mine", "POST", "/integrated-account", Some(&body)).await;
    assert!(failed.status >= 500, "{}", failed.text());
    vendor.set(Mood::Good);
    let mut other = body.clone();
    other["tenant_id"] = json!("globex");
    let made = gateway.call("POST", "/integrated-account", Some(&other)).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let again = until_answered(&gateway, "mine", "POST", "/integrated-account", Some(&body)).await;
    names(&again, 422, "id_taken", "id");
    let there = gateway.get("/integrated-account/0198f0c2-a1b0-7c1e-9a51-d2b53c1f0e77").await.json();
    for member in ["tenant_id", "created_at", "updated_at"] {
        assert!(!there[member].is_null() && there[member] == made.json()[member], "it is as it was: {there}");
    }
    // Where nobody came between, it is linked.
    body["id"] = json!("0198f0c2-a1b0-7c1e-9a51-d2b53c1f0e78");
    vendor.set(Mood::CutJson);
    assert!(send(&gateway, "next", "POST", "/integrated-account", Some(&body)).await.status >= 500);
    vendor.set(Mood::Good);
    let again = until_answered(&gateway, "next", "POST", "/integrated-account", Some(&body)).await;
    assert_eq!((again.status, restarted(&again)), (201, true), "{}", again.text());
    assert_eq!(accounts(&gateway).await.len(), 2);
}
