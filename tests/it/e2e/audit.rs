//! V-09: every action stands in the audit log once, on any node, and a log that was changed is told by the command.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use rollcall::{
    model::SystemClock,
    store::{Batch, Entry, Expect, Key, Slot, Store, Write, embedded::Embedded},
};
use serde_json::{Value, json};

use super::{
    cli::run,
    vendor::{SECRET, Vendor, is_sound, names},
};
use crate::support::{
    gateway::{ADMIN, Answer, Gateway, Kept, command, write_ring},
    long,
    redis::Server,
};

async fn entries(gateway: &Gateway) -> Vec<Value> {
    gateway.walk("/audit?limit=1000").await
}

/// The log, once it has so many entries; those of what failed follow their answers.
async fn until_written(gateway: &Gateway, count: usize) -> Vec<Value> {
    let end = Instant::now() + Duration::from_secs(15);
    loop {
        let found = entries(gateway).await;
        if found.len() >= count {
            return found;
        }
        assert!(Instant::now() < end, "{} of {count} entries: {found:?}", found.len());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// What one caller did: the id of each request, its action and how that ended.
#[derive(Default)]
struct Done(Vec<(String, &'static str, &'static str)>, Vec<String>);

struct Caller<'g> {
    nodes: &'g [Gateway],
    name: usize,
    count: usize,
    done: Done,
}

impl Caller<'_> {
    async fn call(&mut self, what: (&str, &str, Option<Value>), key: Option<&str>, told: (&'static str, &'static str)) -> Answer {
        self.count += 1;
        let id = format!("v09-{}-{}", self.name, self.count);
        let headers: Vec<(&str, &str)> =
            [("x-request-id", id.as_str())].into_iter().chain(key.map(|key| ("idempotency-key", key))).collect();
        let node = &self.nodes[(self.name + self.count) % self.nodes.len()];
        let answer = node.call_with(ADMIN, &headers, what.0, what.1, what.2.as_ref()).await;
        self.done.0.push((id, told.0, told.1));
        answer
    }

    /// Ten actions, and two repetitions of kept replies, which are none.
    async fn round(&mut self, vendor: &Vendor, round: usize) {
        let key = format!("key-{}-{round}", self.name);
        let new = json!({"name": format!("caller {}", self.name), "scopes": ["accounts:read"]});
        let made = self.call(("POST", "/api-token", Some(new.clone())), Some(&key), ("api_token.create", "done")).await;
        assert_eq!(made.status, 201, "{}", made.text());
        for _ in 0..2 {
            let again = self.call(("POST", "/api-token", Some(new.clone())), Some(&key), ("", "")).await;
            assert_eq!((again.status, again.header("idempotent-replayed")), (201, Some("true")));
            self.done.0.pop();
        }
        self.done.1.push(made.json()["token"].as_str().unwrap().to_owned());
        let token = format!("/api-token/{}", made.json()["id"].as_str().unwrap());
        assert_eq!(self.call(("DELETE", &token, None), None, ("api_token.revoke", "done")).await.status, 200);
        assert_eq!(self.call(("DELETE", &token, None), None, ("api_token.revoke", "failed")).await.status, 404);
        let import = ("POST", "/integrated-account", Some(vendor.import()));
        let linked = self.call(import, None, ("integrated_account.import", "done")).await;
        assert_eq!(linked.status, 201, "{}", linked.text());
        let account = format!("/integrated-account/{}", linked.json()["id"].as_str().unwrap());
        let change = json!({"tenant_id": "moved"});
        let changed = self.call(("PATCH", &account, Some(change)), None, ("integrated_account.change", "done")).await;
        assert_eq!(changed.status, 200, "{}", changed.text());
        let refused = json!({"tenant_id": "acme", "integration": "scim", "authentication_method": "bearer",
            "context": {"base_url": vendor.base(), "token": format!("not-{SECRET}")}});
        let refused = ("POST", "/integrated-account", Some(refused));
        assert_eq!(self.call(refused, None, ("integrated_account.import", "failed")).await.status, 422);
        let bad = ("PATCH", &*account, Some(json!({"context": {"base_url": "https://elsewhere.example"}})));
        assert_eq!(self.call(bad, None, ("integrated_account.change", "failed")).await.status, 422);
        assert_eq!(self.call(("DELETE", &account, None), None, ("integrated_account.delete", "done")).await.status, 200);
        assert_eq!(self.call(("DELETE", &account, None), None, ("integrated_account.delete", "failed")).await.status, 404);
        let odd =
            self.call(("POST", "/api-token", Some(json!({"name": "", "scopes": []}))), None, ("api_token.create", "failed"));
        assert_eq!(odd.await.status, 400);
    }
}

async fn every_action_stands_once(kept: &Kept, nodes: usize, rounds: usize) {
    let vendor = Vendor::start();
    let nodes: Vec<Gateway> = (0..nodes).map(|_| Gateway::start(kept, &vendor.authority())).collect();
    let work = |name: usize| {
        let (nodes, vendor) = (&nodes, &vendor);
        async move {
            let mut caller = Caller { nodes, name, count: 0, done: Done::default() };
            for round in 0..rounds {
                caller.round(vendor, round).await;
            }
            caller.done
        }
    };
    let done = join_all((0..5).map(work)).await;
    let tokens: Vec<String> = done.iter().flat_map(|done| done.1.clone()).collect();
    let mut expected: Vec<_> = done.into_iter().flat_map(|done| done.0).collect();
    assert_eq!(expected.len(), 5 * rounds * 10);
    let found = until_written(&nodes[0], expected.len()).await;
    let text = |entry: &Value, name: &str| entry[name].as_str().unwrap_or_default().to_owned();
    let mut told: Vec<_> = found.iter().map(|e| (text(e, "request_id"), text(e, "action"), text(e, "outcome"))).collect();
    told.sort();
    expected.sort_unstable();
    let expected: Vec<_> =
        expected.into_iter().map(|(id, action, outcome)| (id, action.to_owned(), outcome.to_owned())).collect();
    assert_eq!(told, expected, "every action once, and nothing else");
    let numbers: BTreeSet<u64> = found.iter().map(|entry| entry["number"].as_u64().unwrap()).collect();
    assert!(numbers.into_iter().eq(1..=found.len() as u64), "without gaps");
    for entry in &found {
        let whose = (&entry["actor"], &entry["token_id"]);
        assert_eq!(whose, (&json!("administrator"), &Value::Null), "{entry}");
        let is_account = text(entry, "action").starts_with("integrated_account.");
        assert_eq!(entry["integrated_account_id"].is_string(), is_account, "{entry}");
        assert!(entry["target_id"].is_string(), "{entry}");
    }
    let last = nodes.last().unwrap();
    let verified = last.get("/audit/verify").await.json();
    assert_eq!((&verified["problems"], &verified["next_cursor"]), (&json!([]), &Value::Null), "{verified}");
    assert_eq!((&verified["head"]["number"], &verified["entries"]), (&json!(found.len()), &json!(found.len())));

    let lines = last.call_with(ADMIN, &[("accept", "application/x-ndjson")], "GET", "/audit", None).await;
    assert_eq!(lines.header("content-type"), Some("application/x-ndjson"));
    let lines = lines.text();
    assert_eq!(lines.lines().count(), found.len() + 1);
    let end: Value = serde_json::from_str(lines.lines().last().unwrap()).unwrap();
    assert_eq!(end["complete"], true, "{end}");
    for canary in tokens.iter().map(String::as_str).chain([SECRET, ADMIN]) {
        assert!(!lines.contains(canary), "a secret stands in the audit log");
    }
    assert!(!lines.contains("acme") && !lines.contains("moved"), "labels stand as hashes only");
    nodes.iter().for_each(is_sound);
}

#[tokio::test]
async fn v_09_every_action_of_several_callers_stands_once() {
    every_action_stands_once(&Kept::embedded(), 1, if long() { 10 } else { 2 }).await;
}

#[tokio::test]
async fn v_09_every_action_stands_once_on_two_nodes() {
    let folder = tempfile::tempdir().unwrap();
    write_ring(&folder.path().join("keys.json"));
    every_action_stands_once(&Kept::Redis(Server::start(), folder), 2, if long() { 10 } else { 2 }).await;
    if long() {
        every_action_stands_once(&Kept::redis(), 2, 2).await;
    }
}

/// The store of a gateway that has ended, in the hands of somebody else.
struct Intruder {
    store: Embedded,
    slot: Slot,
}

impl Intruder {
    fn at(kept: &Kept, environment: &str) -> Intruder {
        let store = Embedded::open(&kept.folder().join("store"), Arc::new(SystemClock)).unwrap();
        Intruder { store, slot: Slot::new(format!("audit:{environment}")) }
    }

    async fn all(&self) -> BTreeMap<String, Entry> {
        self.store.scan(&self.slot, "", None, 1_000).await.unwrap().into_iter().collect()
    }

    async fn put(&self, changes: Vec<(&str, Option<Vec<u8>>)>) {
        let write = |(name, value): (&str, Option<Vec<u8>>)| match value {
            Some(value) => Write::Put { name: name.to_owned(), value: value.into(), ttl: None, expect: Expect::Any },
            None => Write::Delete { name: name.to_owned(), expect: Expect::Any },
        };
        let writes = changes.into_iter().map(write).collect();
        self.store.commit(Batch { slot: self.slot.clone(), fence: None, writes }).await.unwrap();
    }
}

#[tokio::test]
async fn v_09_a_log_that_was_changed_is_told_by_the_command() {
    let kept = Kept::embedded();
    let gateway = Gateway::start(&kept, "");
    let mut environment = String::new();
    for number in 0..6 {
        let made = gateway.call("POST", "/api-token", Some(&json!({"name": format!("n{number}"), "scopes": ["admin"]}))).await;
        made.json()["environment_id"].as_str().unwrap().clone_into(&mut environment);
    }
    let verify = |args: &[&str]| {
        let mut command = command(&[&["audit", "verify"], args].concat());
        run(command.envs(kept.settings()).current_dir(kept.folder()))
    };
    let (code, out, err) = verify(&[]);
    assert!(code == Some(0) && out.contains("6 entries"), "beside a running gateway: {code:?} {out}{err}");
    assert!(gateway.stop());
    let (code, out, err) = verify(&["--json"]);
    let whole: Value = serde_json::from_str(&out).unwrap_or_else(|why| panic!("{why}: {out}{err}"));
    assert_eq!((code, &whole["entries"], &whole["problems"]), (Some(0), &json!(6), &json!([])), "{err}");
    let list = |args: &[&str]| {
        let (code, out, err) = run(command(&[&["audit", "list"], args].concat()).envs(kept.settings()));
        assert_eq!(code, Some(0), "{err}");
        out
    };
    let listed: Vec<Value> = serde_json::from_str(&list(&["--json"])).unwrap();
    assert!(listed.len() == 6 && listed[0]["number"] == 6 && listed.iter().all(|e| e["action"] == "api_token.create"));
    let lines = list(&["--target", listed[2]["target_id"].as_str().unwrap()]);
    assert!(lines.lines().count() == 1 && lines.starts_with("4  ") && lines.contains("administrator"), "{lines}");
    assert!(list(&["--action", "api_token.revoke"]).is_empty());

    let name = |number: u64| format!("entry/{number:016}");
    let before = Intruder::at(&kept, &environment).all().await;
    let value = |name: &str| before[name].value.to_vec();
    let edited = String::from_utf8(value(&name(3))[32..].to_vec()).unwrap().replace("administrator", "somebodyelse!");
    let edited = [&value(&name(3))[..32], edited.as_bytes()].concat();
    type Changes = Vec<(String, Option<Vec<u8>>)>;
    let harms: [(Changes, &[&str]); 4] = [
        (vec![(name(3), Some(edited))], &["Entry 3 was changed"]),
        (vec![(name(4), None)], &["Entry 4 is missing"]),
        (
            vec![(name(2), Some(value(&name(5)))), (name(5), Some(value(&name(2))))],
            &["Where entry 2 should be lies entry 5", "Where entry 5 should be lies entry 2"],
        ),
        (vec![(name(6), None)], &["Entry 6 is missing"]),
    ];
    for (harm, said) in harms {
        let intruder = Intruder::at(&kept, &environment);
        intruder.put(harm.iter().map(|(name, value)| (name.as_str(), value.clone())).collect()).await;
        drop(intruder);
        let (code, out, err) = verify(&[]);
        assert!(code == Some(1) && out.is_empty(), "{code:?} {out}{err}");
        assert!(said.iter().all(|part| err.contains(part)), "{said:?}: {err}");
        let (code, out, _) = verify(&["--json"]);
        let found: Value = serde_json::from_str(&out).unwrap();
        assert_eq!((code, found["problems"].as_array().unwrap().len()), (Some(1), said.len()), "{found}");
        let intruder = Intruder::at(&kept, &environment);
        intruder.put(harm.iter().map(|(name, _)| (name.as_str(), Some(value(name)))).collect()).await;
    }
    assert_eq!(verify(&[]).0, Some(0), "as it was");
}

/// A node that is killed in the middle leaves a note that its action began, and a log that others go on with.
#[tokio::test]
async fn v_09_a_killed_node_leaves_its_note() {
    let folder = tempfile::tempdir().unwrap();
    write_ring(&folder.path().join("keys.json"));
    let (kept, vendor) = (Kept::Redis(Server::start(), folder), Vendor::start());
    let gateway = Gateway::start(&kept, &vendor.authority());
    let made = gateway.call("POST", "/api-token", Some(&json!({"name": "before", "scopes": ["admin"]}))).await;
    let Kept::Redis(server, _) = &kept else { unreachable!() };
    let store = rollcall::store::redis::Redis::connect(&server.url(), None).await.unwrap();
    let slot = Slot::new(format!("audit:{}", made.json()["environment_id"].as_str().unwrap()));
    vendor.set(super::vendor::Mood::Late);
    {
        let import = vendor.import();
        let call = gateway.call("POST", "/integrated-account", Some(&import));
        let noted = async {
            while store.scan(&slot, "open/", None, 10).await.unwrap().is_empty() || vendor.asked() == 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! { _ = call => panic!("it answered"), () = noted => {} }
    }
    gateway.kill();
    let gateway = Gateway::start(&kept, &vendor.authority());
    gateway.token(&["directory:read"]).await;
    let left = store.scan(&slot, "open/", None, 10).await.unwrap();
    assert_eq!(left.len(), 1, "its note stays until it is old enough");
    let text = String::from_utf8_lossy(&left[0].1.value[32..]).into_owned();
    assert!(text.contains("integrated_account.import") && !text.contains(SECRET) && !text.contains("acme"), "{text}");
    assert!(store.get(&Key { slot, name: "head".into() }).await.unwrap().is_some());
    let found = entries(&gateway).await;
    assert_eq!(found.iter().map(|entry| entry["action"].as_str().unwrap()).collect::<Vec<_>>(), ["api_token.create"; 2]);
    assert_eq!(gateway.get("/audit/verify").await.json()["problems"], json!([]));
    is_sound(&gateway);
}

#[tokio::test]
async fn calls_that_pass_through_are_noted_where_the_operator_wants_it() {
    for (setting, wanted) in [("off", 0), ("writes", 2)] {
        let (kept, vendor) = (Kept::embedded(), Vendor::start());
        let gateway = Gateway::start_with(&kept, &vendor.authority(), &[("ROLLCALL_AUDIT_PASSTHROUGH", setting)]);
        let account = gateway.link("scim", "bearer", vendor.context()).await;
        let writer = gateway.token(&["proxy:write", "directory:write"]).await;
        let path = format!("/passthrough/{account}/Users?canary=of-the-query");
        assert_eq!(gateway.get(&path).await.status, 200);
        let user = json!({"userName": "canary-of-the-body"});
        assert_eq!(gateway.call_as(Some(&writer), "POST", &path, Some(&user)).await.status, 200);
        assert_eq!(gateway.call_as(Some(ADMIN), "POST", "/passthrough/none/Users", Some(&user)).await.status, 404);
        let custom = format!("/custom/Users?integrated_account_id={account}");
        assert_eq!(gateway.call_as(Some(&writer), "POST", &custom, Some(&user)).await.status, 200);
        let batch = json!({"integrated_account_id": account,
            "resources": [{"name": "one", "resource": "user-directory/users", "method": "create", "body": {"username": "ada@acme.example"}}]});
        let asked = gateway.call_with(&writer, &[("x-request-id", "of-the-batch")], "POST", "/batch-request", Some(&batch)).await;
        assert_eq!(asked.status, 200, "{}", asked.text());
        // Linking, the token and the user of the batch stand there in any case; a call to no account is noted as one that failed.
        let found = until_written(&gateway, 3 + wanted + usize::from(wanted > 0)).await;
        let of = |action: &str| found.iter().filter(|entry| entry["action"] == action).collect::<Vec<_>>();
        let passed: Vec<_> = of("passthrough.call").into_iter().chain(of("custom.call")).collect();
        assert_eq!(passed.len(), wanted + usize::from(wanted > 0), "{setting}: {found:?}");
        let done: Vec<_> = passed.iter().filter(|entry| entry["outcome"] == "done").collect();
        assert_eq!(done.len(), wanted, "{passed:?}");
        assert!(done.iter().all(|entry| entry["target_id"] == json!(account) && entry["actor"] == "test"), "{done:?}");
        let user = of("unified.user.create");
        assert_eq!(user.len(), 1, "{found:?}");
        assert_eq!((&user[0]["request_id"], &user[0]["integrated_account_id"]), (&json!("of-the-batch"), &json!(account)));
        let everything = format!("{found:?}");
        assert!(!everything.contains("canary") && !everything.contains(SECRET) && !everything.contains("ada@"), "{everything}");
        is_sound(&gateway);
    }
}

#[tokio::test]
async fn bad_filters_of_the_audit_log_are_named() {
    let (kept, vendor) = (Kept::embedded(), Vendor::start());
    let gateway = Gateway::start(&kept, &vendor.authority());
    let account = gateway.link("scim", "bearer", vendor.context()).await;
    let reader = gateway.token(&["accounts:read", "events:read"]).await;
    for (query, code, field) in [
        ("since=yesterday", "invalid_parameter", "since"),
        ("until=1", "invalid_parameter", "until"),
        ("actor=", "invalid_parameter", "actor"),
        ("integrated_account_id=x", "invalid_parameter", "integrated_account_id"),
        ("acton=x", "invalid_parameter", "acton"),
        ("limit=5001", "invalid_parameter", "limit"),
        ("next_cursor=nonsense", "invalid_cursor", "next_cursor"),
    ] {
        names(&gateway.get(&format!("/audit?{query}")).await, 400, code, field);
    }
    names(&gateway.get("/audit/verify?next_cursor=nonsense").await, 400, "invalid_cursor", "next_cursor");
    names(&gateway.get("/export").await, 400, "invalid_parameter", "tenant_id");
    names(&gateway.get("/export?tenant_id=").await, 400, "invalid_parameter", "tenant_id");
    for path in ["/audit", "/audit/verify", "/export?tenant_id=acme"] {
        assert_eq!(gateway.call_as(Some(&reader), "GET", path, None).await.code(), "scope_missing", "{path}");
    }
    let next = gateway.get("/audit?limit=1").await.json()["next_cursor"].as_str().unwrap().to_owned();
    let other = gateway.get(&format!("/audit?limit=1&actor=test&next_cursor={next}")).await;
    names(&other, 400, "invalid_cursor", "next_cursor");
    let mine = gateway.get(&format!("/audit?integrated_account_id={account}")).await.json();
    assert_eq!(mine["result"][0]["action"], "integrated_account.import", "{mine}");
    assert_eq!(mine["result"].as_array().unwrap().len(), 1);
    let target = gateway.get(&format!("/audit?target_id={account}&action=integrated_account.import&actor=administrator")).await;
    assert_eq!(target.json()["result"], mine["result"]);
}

/// What was done: request, action, outcome, target and account.
type Told = (String, String, String, Option<String>, Option<String>);

/// One who does something of every kind.
struct Everything<'g> {
    gateway: &'g Gateway,
    done: Vec<Told>,
}

impl Everything<'_> {
    /// Asks under the id that the next entry must have.
    async fn ask(&mut self, token: &str, what: (&str, &str, Option<Value>), status: u16) -> Answer {
        let id = format!("kind-{}", self.done.len());
        let answer = self.gateway.call_with(token, &[("x-request-id", &id)], what.0, what.1, what.2.as_ref()).await;
        assert_eq!(answer.status, status, "{} {}: {}", what.0, what.1, answer.text());
        answer
    }

    fn told(&mut self, action: &str, target: Option<&str>, account: Option<&str>) {
        self.told_as(self.done.len(), action, "done", target, account);
    }

    fn told_as(&mut self, number: usize, action: &str, outcome: &str, target: Option<&str>, account: Option<&str>) {
        let own = |id: Option<&str>| id.map(str::to_owned);
        self.done.push((format!("kind-{number}"), action.to_owned(), outcome.to_owned(), own(target), own(account)));
    }

    async fn round(&mut self, vendor: &Vendor, install: &str, environment: &str, round: usize) {
        let id = |answer: &Answer| answer.json()["id"].as_str().unwrap().to_owned();
        let new = json!({"name": "of every kind", "scopes": ["accounts:read"]});
        let token = id(&self.ask(ADMIN, ("POST", "/api-token", Some(new)), 201).await);
        self.told("api_token.create", Some(&token), None);
        let place = format!("/api-token/{token}");
        self.ask(ADMIN, ("DELETE", &place, None), 200).await;
        self.told("api_token.revoke", Some(&token), None);
        self.ask(ADMIN, ("DELETE", &place, None), 404).await;
        self.told_as(self.done.len(), "api_token.revoke", "failed", Some(&token), None);

        let name = |more: &str| Some(json!({"name": format!("number {round}{more}")}));
        let made = id(&self.ask(ADMIN, ("POST", "/environment", name("")), 201).await);
        self.told("environment.create", Some(&made), None);
        let place = format!("/environment/{made}");
        self.ask(ADMIN, ("PATCH", &place, name(" anew")), 200).await;
        self.told("environment.change", Some(&made), None);
        self.ask(ADMIN, ("DELETE", &place, None), 422).await;
        self.told_as(self.done.len(), "environment.delete", "failed", Some(&made), None);

        let body = Some(json!({"integration": install}));
        self.ask(ADMIN, ("POST", "/environment-integration", body), 201).await;
        self.told("environment_integration.create", Some(install), None);
        let place = format!("/environment-integration/{install}");
        self.ask(ADMIN, ("PATCH", &place, Some(json!({"show_in_catalog": false}))), 200).await;
        self.told("environment_integration.change", Some(install), None);
        self.ask(ADMIN, ("DELETE", &place, None), 200).await;
        self.told("environment_integration.delete", Some(install), None);

        self.accounts(vendor).await;
        self.ask(ADMIN, ("POST", "/key/rewrap", Some(json!({}))), 200).await;
        self.told("key.rewrap", None, None);
        self.ask(ADMIN, ("GET", "/backup", None), 200).await;
        self.told("backup.read", Some(environment), None);
        self.ask(ADMIN, ("GET", "/export?tenant_id=acme", None), 200).await;
        self.told("tenant.export", None, None);
        let link = id(&self.ask(ADMIN, ("POST", "/link-token", Some(json!({"tenant_id": "acme"}))), 201).await);
        self.told("link_token.create", Some(&link), None);
        self.ask(ADMIN, ("DELETE", &format!("/link-token/{link}"), None), 200).await;
        self.told("link_token.delete", Some(&link), None);
    }

    async fn accounts(&mut self, vendor: &Vendor) {
        let id = |answer: &Answer| answer.json()["id"].as_str().unwrap().to_owned();
        let one = id(&self.ask(ADMIN, ("POST", "/integrated-account", Some(vendor.import())), 201).await);
        self.told("integrated_account.import", Some(&one), Some(&one));
        let own = uuid::Uuid::new_v4().to_string();
        let mut body = vendor.import();
        body["id"] = json!(own);
        self.ask(ADMIN, ("POST", "/integrated-account", Some(body)), 201).await;
        self.told("integrated_account.import", Some(&own), Some(&own));
        let place = format!("/integrated-account/{one}");
        self.ask(ADMIN, ("PATCH", &place, Some(json!({"tenant_id": "moved"}))), 200).await;
        self.told("integrated_account.change", Some(&one), Some(&one));
        for (path, action) in [("test", "integrated_account.test"), ("status-refresh", "integrated_account.status_refresh")] {
            self.ask(ADMIN, ("POST", &format!("{place}/{path}"), None), 200).await;
            self.told(action, Some(&one), Some(&one));
        }
        let named = Some(json!({"id": one}));
        self.ask(ADMIN, ("POST", "/integrated-account/refresh-credentials", named), 200).await;
        self.told("integrated_account.refresh_credentials", Some(&one), Some(&one));
        let named = Some(json!({"id": one}));
        self.ask(ADMIN, ("POST", "/integrated-account/run-post-install-actions", named), 200).await;
        self.told("integrated_account.run_post_install_actions", Some(&one), Some(&one));
        let secrets = Some(json!({"token": vendor.context()["token"]}));
        self.ask(ADMIN, ("PATCH", &format!("{place}/credentials"), secrets), 200).await;
        self.told("integrated_account.change_credentials", Some(&one), Some(&one));
        let mut credential = vendor.import();
        credential.as_object_mut().unwrap().remove("tenant_id");
        self.ask(ADMIN, ("POST", "/integrated-account/test", Some(credential)), 200).await;
        self.told("integrated_account.test", None, None);
        let named = Some(json!({"integrated_account_id": one}));
        let made = self.ask(ADMIN, ("POST", "/integrated-account/token", named), 200).await.json();
        self.told("account_token.create", Some(&one), Some(&one));
        let token = made["token"].as_str().unwrap();
        self.ask(token, ("PATCH", "/integrated-account/me", Some(json!({"context": {"a": 1}}))), 200).await;
        self.told("integrated_account.change", Some(&one), Some(&one));
        let user = Some(json!({"username": "ada@acme.example"}));
        let users = format!("/unified/user-directory/users?integrated_account_id={one}");
        // This vendor answers and does nothing.
        self.ask(ADMIN, ("POST", &users, user), 502).await;
        self.told_as(self.done.len(), "unified.user.create", "failed", None, Some(&one));
        let number = self.done.len();
        self.ask(ADMIN, ("POST", "/integrated-account/bulk-delete", Some(json!({"ids": [own]}))), 200).await;
        self.told_as(number, "integrated_account.bulk_delete", "done", None, None);
        self.told_as(number, "integrated_account.delete", "done", Some(&own), Some(&own));
        self.ask(ADMIN, ("DELETE", &place, None), 200).await;
        self.told("integrated_account.delete", Some(&one), Some(&one));
    }
}

#[tokio::test]
async fn v_09_every_kind_of_action_stands_once_and_names_what_was_touched() {
    let (kept, vendor) = (Kept::embedded(), Vendor::start());
    let gateway = Gateway::start(&kept, &vendor.authority());
    let all = gateway.get("/environment-integration").await.json();
    let other = all["result"].as_array().unwrap().iter().find(|install| !install.to_string().contains("scim")).unwrap();
    let environment = gateway.get("/environment").await.json()["result"][0]["id"].as_str().unwrap().to_owned();
    let mut everything = Everything { gateway: &gateway, done: Vec::new() };
    for round in 0..if long() { 20 } else { 4 } {
        everything.round(&vendor, other["id"].as_str().unwrap(), &environment, round).await;
    }
    let mut expected = everything.done;
    assert!(!long() || expected.len() >= 500, "{}", expected.len());
    let found = until_written(&gateway, expected.len()).await;
    let text = |entry: &Value, name: &str| entry[name].as_str().map(str::to_owned);
    let mut told: Vec<Told> = found
        .iter()
        .map(|entry| {
            let [request, action, outcome] =
                ["request_id", "action", "outcome"].map(|name| text(entry, name).unwrap_or_default());
            (request, action, outcome, text(entry, "target_id"), text(entry, "integrated_account_id"))
        })
        .collect();
    told.sort();
    expected.sort();
    for (told, expected) in told.iter().zip(&expected) {
        assert_eq!(told, expected);
    }
    assert_eq!(told.len(), expected.len(), "and nothing else");
    assert_eq!(gateway.get("/audit/verify").await.json()["problems"], json!([]));
}
