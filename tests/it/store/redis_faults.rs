//! Redis behind a proxy that cuts, stalls and swallows; servers that die; servers that are set up badly.

use std::{
    collections::HashSet,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use bytes::Bytes;
use rollcall::store::{
    Batch, Entry, Expect, Key, Settle, Slot, Store, StoreError,
    redis::{Redis, RedisUrl},
};
use tokio::task::JoinSet;

use super::fixture::{put, put_if};
use crate::support::{
    fault_proxy::{Fault, FaultProxy},
    long,
    redis::{Certificates, Cluster, SentinelSet, Server, valkey},
    stores::{Between, Through},
};

const NO_CALL_TAKES_LONGER: Duration = Duration::from_millis(2_500);
const RECOVERY: Duration = Duration::from_secs(5);

fn key(slot: &str, name: &str) -> Key {
    Key { slot: Slot::new(slot), name: name.into() }
}

fn batch(slot: &str, writes: Vec<rollcall::store::Write>) -> Batch {
    Batch { slot: Slot::new(slot), fence: None, writes }
}

fn through(proxy: &FaultProxy) -> RedisUrl {
    RedisUrl::parse(&format!("redis://127.0.0.1:{}", proxy.port)).unwrap()
}

/// What one writer knows: the last acknowledged number and version, and the numbers whose fate nobody told.
struct Writer {
    slot: String,
    acked: (u64, u64),
    unknown: Vec<u64>,
    next: u64,
    wrong: Vec<String>,
}

impl Writer {
    async fn start(store: &dyn Store, n: usize) -> Self {
        let slot = format!("law-{n}");
        let version = store.commit(batch(&slot, vec![put("n", "0"), put("twin", "0")])).await.unwrap()[0];
        Self { slot, acked: (0, version), unknown: Vec::new(), next: 1, wrong: Vec::new() }
    }

    fn see(&mut self, value: u64, version: u64) {
        if version == self.acked.1 && value == self.acked.0 {
            return;
        }
        if version > self.acked.1 && self.unknown.contains(&value) {
            self.acked = (value, version);
            self.unknown.clear();
            return;
        }
        let (known, unknown) = (self.acked, &self.unknown);
        self.wrong.push(format!("{}: read {value} at {version}, acknowledged {known:?}, unknown {unknown:?}", self.slot));
        self.acked = (value, version);
    }

    async fn read(&mut self, store: &dyn Store) {
        match timed(store.get(&key(&self.slot, "n")), &mut self.wrong).await {
            Ok(Some(Entry { value, version })) => self.see(std::str::from_utf8(&value).unwrap().parse().unwrap(), version),
            Err(StoreError::Unavailable(_)) => {}
            other => self.wrong.push(format!("{}: get gave {other:?}", self.slot)),
        }
    }

    async fn write(&mut self, store: &dyn Store) {
        let (n, text) = (self.next, self.next.to_string());
        self.next += 1;
        let writes = vec![put_if("n", &text, Expect::Version(self.acked.1)), put("twin", &text)];
        match timed(store.commit(batch(&self.slot, writes)), &mut self.wrong).await {
            Ok(versions) => {
                self.acked = (n, versions[0]);
                self.unknown.clear();
            }
            Err(StoreError::Unavailable(_)) => self.unknown.push(n),
            Err(StoreError::Conflict(_)) if !self.unknown.is_empty() => {}
            other => self.wrong.push(format!("{}: commit gave {other:?}", self.slot)),
        }
    }
}

async fn timed<T>(call: impl Future<Output = T>, wrong: &mut Vec<String>) -> T {
    let started = Instant::now();
    let outcome = call.await;
    if started.elapsed() > NO_CALL_TAKES_LONGER {
        wrong.push(format!("a call took {:?}", started.elapsed()));
    }
    outcome
}

/// Writers and readers at work while the proxy does its worst; everything that broke the law.
async fn break_things(store: Arc<dyn Store>, direct: Arc<dyn Store>, proxy: &FaultProxy, faults: &[(Fault, u64)]) -> Vec<String> {
    let stop = Arc::new(AtomicBool::new(false));
    let mut writers = JoinSet::new();
    for n in 0..4 {
        let mut writer = Writer::start(&*direct, n).await;
        let (store, stop) = (store.clone(), stop.clone());
        writers.spawn(async move {
            while !stop.load(Ordering::SeqCst) {
                writer.read(&*store).await;
                writer.write(&*store).await;
            }
            writer
        });
    }
    let mut pushers = JoinSet::new();
    let (pushing, over) = (store.clone(), stop.clone());
    pushers.spawn(async move {
        let (mut acked, mut n) = (Vec::new(), 0);
        while !over.load(Ordering::SeqCst) {
            n += 1;
            if pushing.push(&key("law-q", "q"), &n.to_string(), Bytes::new(), Duration::ZERO).await.is_ok() {
                acked.push(n.to_string());
            }
        }
        acked
    });
    let mut wrong = Vec::new();
    for (fault, millis) in faults {
        tokio::time::sleep(Duration::from_millis(150)).await;
        proxy.set(*fault);
        tokio::time::sleep(Duration::from_millis(*millis)).await;
        proxy.set(Fault::None);
        let started = Instant::now();
        while store.get(&key("law-0", "n")).await.is_err() || store.commit(batch("probe", vec![put("p", "")])).await.is_err() {
            if started.elapsed() > RECOVERY {
                wrong.push(format!("not well {RECOVERY:?} after {fault:?}"));
                break;
            }
        }
    }
    stop.store(true, Ordering::SeqCst);
    for mut writer in writers.join_all().await {
        writer.read(&*direct).await;
        let twin = direct.get(&key(&writer.slot, "twin")).await.unwrap().unwrap().value;
        if twin != writer.acked.0.to_string() {
            writer.wrong.push(format!("{}: half a batch, {twin:?} beside {}", writer.slot, writer.acked.0));
        }
        wrong.append(&mut writer.wrong);
    }
    let mut items = HashSet::new();
    loop {
        let page = direct.claim(&key("law-q", "q"), Duration::from_secs(600), 500).await.unwrap();
        if page.is_empty() {
            break;
        }
        items.extend(page.into_iter().map(|item| item.id));
    }
    for acked in pushers.join_all().await.concat() {
        if !items.contains(&acked) {
            wrong.push(format!("item {acked} was acknowledged and is gone"));
        }
    }
    wrong
}

fn faults() -> Vec<(Fault, u64)> {
    let length = if long() { 10_000 } else { 1_500 };
    let one = [(Fault::Cut, length / 3), (Fault::Stall, length), (Fault::Swallow, length), (Fault::Stall, 200), (Fault::Cut, 20)];
    one.repeat(if long() { 4 } else { 1 })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn error_or_correct_never_wrong() {
    let server = Server::start();
    let proxy = FaultProxy::before(server.port);
    let store: Arc<dyn Store> = Arc::new(Redis::connect(&through(&proxy), None).await.unwrap());
    let direct: Arc<dyn Store> = Arc::new(Redis::connect(&server.url(), None).await.unwrap());
    let wrong = break_things(store, direct, &proxy, &faults()).await;
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The same where every commit waits for the disk.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn error_or_correct_never_wrong_with_commits_that_wait() {
    let server = valkey(&["--save", "", "--appendonly", "yes", "--appendfsync", "everysec"]);
    let proxy = FaultProxy::before(server.port);
    let store: Arc<dyn Store> = Arc::new(Redis::connect(&through(&proxy), None).await.unwrap());
    let direct: Arc<dyn Store> = Arc::new(Redis::connect(&server.url(), None).await.unwrap());
    let wrong = break_things(store, direct, &proxy, &faults()).await;
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// A store that takes silence for consent.
struct Careless(Arc<dyn Store>);

#[async_trait]
impl Between for Careless {
    fn inner(&self) -> &Arc<dyn Store> {
        &self.0
    }
    async fn commit(&self, batch: Batch) -> Result<Vec<u64>, StoreError> {
        match self.0.commit(batch.clone()).await {
            Err(StoreError::Unavailable(_)) => Ok(vec![1; batch.writes.len()]),
            other => other,
        }
    }
    async fn push(&self, queue: &Key, id: &str, value: Bytes, delay: Duration) -> Result<(), StoreError> {
        let _ = self.0.push(queue, id, value, delay).await;
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_breaks_the_law_is_found_out() {
    let server = Server::start();
    let proxy = FaultProxy::before(server.port);
    let store: Arc<dyn Store> = Arc::new(Redis::connect(&through(&proxy), None).await.unwrap());
    let direct: Arc<dyn Store> = Arc::new(Redis::connect(&server.url(), None).await.unwrap());
    let wrong = break_things(Arc::new(Through(Careless(store))), direct, &proxy, &[(Fault::Cut, 300)]).await;
    assert!(wrong.iter().any(|line| line.contains("law-")) && wrong.iter().any(|line| line.contains("is gone")), "{wrong:#?}");
}

#[tokio::test]
async fn a_write_without_an_answer_is_unavailable_and_not_repeated() {
    let server = Server::start();
    let proxy = FaultProxy::before(server.port);
    let store = Redis::connect(&through(&proxy), None).await.unwrap();
    let direct = Redis::connect(&server.url(), None).await.unwrap();
    let version = store.commit(batch("s", vec![put("a", "1")])).await.unwrap()[0];
    proxy.set(Fault::Swallow);
    let next = batch("s", vec![put_if("a", "2", Expect::Version(version))]);
    assert!(matches!(store.commit(next).await, Err(StoreError::Unavailable(_))));
    let there = direct.get(&key("s", "a")).await.unwrap().unwrap();
    assert_eq!(there.value, Bytes::from("2"), "the server did execute it");
    let spends = |store: Arc<Redis>| async move { store.spend(&key("s", "b"), 10, Duration::from_secs(600)).await };
    let store = Arc::new(store);
    assert!(spends(store.clone()).await.is_err());
    proxy.set(Fault::None);
    tokio::time::sleep(Duration::from_millis(400)).await;
    let left = spends(store).await.unwrap().remaining;
    assert!(left >= 8, "a write was sent more than once: {left} of 10 tokens left");
}

#[tokio::test]
async fn every_verb_ends_in_time_when_nothing_answers() {
    let server = Server::start();
    let proxy = FaultProxy::before(server.port);
    let store = Redis::connect(&through(&proxy), None).await.unwrap();
    let hold = store.hold(&key("s", "l"), Duration::from_secs(60)).await.unwrap().unwrap();
    store.push(&key("s", "q"), "1", Bytes::new(), Duration::ZERO).await.unwrap();
    let item = store.claim(&key("s", "q"), Duration::from_secs(60), 1).await.unwrap().remove(0);
    for fault in [Fault::Stall, Fault::Cut, Fault::Swallow] {
        proxy.set(fault);
        let mut wrong = Vec::new();
        let (at, second) = (key("s", "x"), Duration::from_secs(1));
        let outcomes = [
            timed(store.get(&at), &mut wrong).await.is_err(),
            timed(store.scan(&at.slot, "", None, 10), &mut wrong).await.is_err(),
            timed(store.commit(batch("s", vec![put("a", "1")])), &mut wrong).await.is_err(),
            timed(store.hold(&at, second), &mut wrong).await.is_err(),
            timed(store.renew(&hold, second), &mut wrong).await.is_err(),
            timed(store.release(&hold), &mut wrong).await.is_err(),
            timed(store.push(&at, "2", Bytes::new(), second), &mut wrong).await.is_err(),
            timed(store.claim(&at, second, 1), &mut wrong).await.is_err(),
            timed(store.settle(&at, &item, Settle::Done), &mut wrong).await.is_err(),
            timed(store.spend(&at, 1, second), &mut wrong).await.is_err(),
            timed(store.health(), &mut wrong).await.is_err(),
        ];
        assert!(outcomes.iter().all(|failed| *failed) && wrong.is_empty(), "{fault:?}: {outcomes:?} {wrong:?}");
    }
}

/// A write that got no answer gives its connection up while another call is busy making a new one.
#[tokio::test]
async fn no_call_waits_for_what_another_one_dials() {
    let server = Server::start();
    let proxy = FaultProxy::before(server.port);
    let store = Arc::new(Redis::connect(&through(&proxy), None).await.unwrap());
    let reads_after = |millis: u64| {
        let store = store.clone();
        async move {
            tokio::time::sleep(Duration::from_millis(millis)).await;
            timed(store.get(&key("s", "a")), &mut Vec::new()).await.is_err()
        }
    };
    proxy.set(Fault::Stall);
    let (reads, later) = (tokio::spawn(reads_after(0)), tokio::spawn(reads_after(2_120)));
    tokio::time::sleep(Duration::from_millis(300)).await;
    let mut wrong = Vec::new();
    assert!(timed(store.commit(batch("s", vec![put("a", "1")])), &mut wrong).await.is_err());
    assert!(wrong.is_empty() && reads.await.unwrap() && later.await.unwrap(), "{wrong:?}");
}

/// Whether commits wait for the disk is decided by what `CONFIG` says; a lost answer must not decide it.
#[tokio::test]
async fn health_without_an_answer_about_persistence_is_an_error() {
    let server = Server::with(&["--save", "", "--appendonly", "yes", "--appendfsync", "everysec"]);
    let proxy = FaultProxy::before(server.port);
    let store = Redis::connect(&through(&proxy), None).await.unwrap();
    proxy.set(Fault::LoseConfig);
    let mut wrong = Vec::new();
    let outcome = timed(store.health(), &mut wrong).await;
    assert!(matches!(outcome, Err(StoreError::Unavailable(_))) && wrong.is_empty(), "{outcome:?} {wrong:?}");
}

/// Tries until a commit succeeds; answers how long that took.
async fn back_after(store: &dyn Store, limit: Duration) -> Duration {
    let started = Instant::now();
    loop {
        match store.commit(batch("back", vec![put("a", "1")])).await {
            Ok(_) => return started.elapsed(),
            Err(error) => assert!(started.elapsed() < limit, "not back within {limit:?}: {error}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_server_that_comes_back_is_used_again_with_all_it_had() {
    let mut server = Server::with(&["--save", "", "--appendonly", "yes", "--appendfsync", "always"]);
    let store = Redis::connect(&server.url(), None).await.unwrap();
    store.commit(batch("s", vec![put("a", "1")])).await.unwrap();
    server.kill();
    assert!(matches!(store.get(&key("s", "a")).await, Err(StoreError::Unavailable(_))));
    server.restart();
    back_after(&store, RECOVERY).await;
    assert_eq!(store.get(&key("s", "a")).await.unwrap().unwrap().value, Bytes::from("1"));
}

#[tokio::test]
async fn a_sentinel_failover_is_followed() {
    follows(SentinelSet::start(), None).await;
}

#[tokio::test]
async fn a_sentinel_failover_is_followed_over_tls() {
    let certificates = Certificates::make();
    follows(SentinelSet::with(&certificates.args()), Some(&certificates.ca())).await;
}

async fn follows(mut set: SentinelSet, ca: Option<&Path>) {
    let store = Redis::connect(&set.url(), ca).await.unwrap();
    let version = store.commit(batch("s", vec![put("a", "1")])).await.unwrap()[0];
    // `WAIT` speaks for what its own connection wrote, and so for all that was written before.
    let mut primary = set.primary.connection();
    ::redis::cmd("SET").arg("mark").arg("1").exec(&mut primary).unwrap();
    let waited: i64 = ::redis::cmd("WAIT").arg(1).arg(10_000).query(&mut primary).unwrap();
    assert_eq!(waited, 1);
    set.primary.kill();
    back_after(&store, Duration::from_secs(20)).await;
    let role: Vec<::redis::Value> = ::redis::cmd("ROLE").query(&mut set.replica.connection()).unwrap();
    assert_eq!(role[0], ::redis::Value::BulkString(b"master".to_vec()));
    let entry = store.get(&key("s", "a")).await.unwrap().unwrap();
    assert_eq!((entry.value, entry.version), (Bytes::from("1"), version));
    assert!(store.commit(batch("s", vec![put("a", "2")])).await.unwrap()[0] > version);
}

#[tokio::test]
async fn a_slot_that_moved_is_found_on_its_new_node() {
    let cluster = Cluster::start();
    let store = Redis::connect(&cluster.url(), None).await.unwrap();
    store.commit(batch("moving", vec![put("before", "1")])).await.unwrap();
    let slot: u16 = ::redis::cmd("CLUSTER").arg("KEYSLOT").arg("{moving}").query(&mut cluster.nodes[0].connection()).unwrap();
    let ids: Vec<String> =
        cluster.nodes.iter().map(|node| ::redis::cmd("CLUSTER").arg("MYID").query(&mut node.connection()).unwrap()).collect();
    let from = usize::from(slot / 5461).min(2);
    let to = (from + 1) % 3;
    let set = |node: usize, state: &str, id: &str| {
        let mut command = ::redis::cmd("CLUSTER");
        let _: () = command.arg("SETSLOT").arg(slot).arg(state).arg(id).query(&mut cluster.nodes[node].connection()).unwrap();
    };
    set(to, "IMPORTING", &ids[from]);
    set(from, "MIGRATING", &ids[to]);
    // In mid-move a new key is asked for at the new node, keys that stayed are still answered by the old one.
    assert_eq!(store.get(&key("moving", "before")).await.unwrap().unwrap().value, Bytes::from("1"));
    assert_eq!(store.get(&key("moving", "not-there")).await.unwrap(), None);
    let mut connection = cluster.nodes[from].connection();
    let keys: Vec<String> = ::redis::cmd("CLUSTER").arg("GETKEYSINSLOT").arg(slot).arg(100).query(&mut connection).unwrap();
    for name in keys {
        let mut migrate = ::redis::cmd("MIGRATE");
        let port = cluster.nodes[to].port;
        let _: () = migrate.arg("127.0.0.1").arg(port).arg(name).arg(0).arg(2000).query(&mut connection).unwrap();
    }
    for node in [to, from] {
        set(node, "NODE", &ids[to]);
    }
    assert_eq!(store.get(&key("moving", "before")).await.unwrap().unwrap().value, Bytes::from("1"));
    store.commit(batch("moving", vec![put("after", "2")])).await.unwrap();
    assert_eq!(store.scan(&Slot::new("moving"), "", None, 10).await.unwrap().len(), 2);
}

async fn refused(url: &str, words: &[&str]) {
    match Redis::connect(&RedisUrl::parse(url).unwrap(), None).await {
        Err(StoreError::Refused(text)) => assert!(words.iter().all(|word| text.contains(word)), "{text}"),
        Err(other) => panic!("{url}: {other:?}"),
        Ok(_) => panic!("{url} was taken"),
    }
}

#[tokio::test]
async fn u_08_a_server_that_evicts_is_refused() {
    for policy in ["allkeys-lru", "volatile-ttl", "allkeys-random"] {
        let server = Server::with(&["--save", "", "--maxmemory", "100mb", "--maxmemory-policy", policy]);
        refused(&format!("redis://127.0.0.1:{}", server.port), &[policy, "noeviction"]).await;
    }
    let server = Server::with(&["--save", "", "--maxmemory", "100mb", "--maxmemory-policy", "noeviction"]);
    let store = Redis::connect(&server.url(), None).await.unwrap();
    let set = |policy: &str| {
        let mut command = ::redis::cmd("CONFIG");
        let _: () = command.arg("SET").arg("maxmemory-policy").arg(policy).query(&mut server.connection()).unwrap();
    };
    set("allkeys-lru");
    assert!(matches!(store.health().await, Err(StoreError::Refused(_))), "found out later too");
    set("noeviction");
    store.health().await.unwrap();
}

#[tokio::test]
async fn u_08_a_full_server_is_unavailable_and_reads_go_on() {
    let server = Server::with(&["--save", "", "--maxmemory", "3mb", "--maxmemory-policy", "noeviction"]);
    let store = Redis::connect(&server.url(), None).await.unwrap();
    store.commit(batch("s", vec![put("a", "1")])).await.unwrap();
    let mut full = false;
    for n in 0..60 {
        match store.commit(batch("s", vec![put(&format!("fill/{n}"), &"x".repeat(200_000))])).await {
            Ok(_) => {}
            Err(StoreError::Unavailable(_)) => full = true,
            Err(other) => panic!("{other:?}"),
        }
    }
    assert!(full);
    assert_eq!(store.get(&key("s", "a")).await.unwrap().unwrap().value, Bytes::from("1"));
}

async fn warnings(args: &[&str]) -> Vec<String> {
    let server = Server::with(args);
    Redis::connect(&server.url(), None).await.unwrap().health().await.unwrap().warnings
}

#[tokio::test]
async fn u_08_missing_persistence_is_warned_about() {
    let nothing = warnings(&["--save", "", "--appendonly", "no"]).await;
    assert!(nothing.len() == 1 && nothing[0].contains("memory only"), "{nothing:?}");
    let snapshots = warnings(&["--save", "60 1", "--appendonly", "no"]).await;
    assert!(snapshots.len() == 1 && snapshots[0].contains("only takes snapshots"), "{snapshots:?}");
    let always = warnings(&["--save", "", "--appendonly", "yes", "--appendfsync", "always"]).await;
    assert!(always.is_empty(), "{always:?}");
    let gone = Server::start().url().clone();
    let error = Redis::connect(&gone, None).await.err();
    assert!(matches!(error, Some(StoreError::Unavailable(_))), "a server that is gone may come back: {error:?}");
}

#[tokio::test]
async fn u_08_a_wrong_database_is_refused() {
    let server = Server::start();
    refused(&format!("redis://127.0.0.1:{}/99", server.port), &["DB index"]).await;
}

#[tokio::test]
async fn u_08_a_replica_is_refused() {
    let primary = Server::start();
    let replica = Server::with(&["--save", "", "--replicaof", "127.0.0.1", &primary.port.to_string()]);
    refused(&format!("redis://127.0.0.1:{}", replica.port), &["read-only replica"]).await;
}

#[tokio::test]
async fn u_08_a_server_that_is_no_cluster_is_refused() {
    let server = Server::start();
    let url = RedisUrl::parse(&format!("redis+cluster://127.0.0.1:{}", server.port)).unwrap();
    assert!(Redis::connect(&url, None).await.is_err());
    let set = SentinelSet::start();
    refused(&format!("redis+sentinel://127.0.0.1:{}/othermaster", set.sentinel.port), &["othermaster"]).await;
}

#[tokio::test]
async fn u_08_a_wrong_password_is_refused_and_not_told() {
    let server = Server::with(&["--save", "", "--requirepass", "right-canary"]);
    for url in ["redis://:wrong-canary@127.0.0.1", "redis://somebody:wrong-canary@127.0.0.1", "redis://127.0.0.1"] {
        let url = RedisUrl::parse(&format!("{url}:{}", server.port)).unwrap();
        let error = Redis::connect(&url, None).await.err().unwrap();
        assert!(matches!(error, StoreError::Refused(_)), "{error:?}");
        assert!(!format!("{error} {error:?} {url} {url:?}").contains("canary"), "{error}");
    }
    let right = RedisUrl::parse(&format!("redis://:right-canary@127.0.0.1:{}", server.port)).unwrap();
    Redis::connect(&right, None).await.unwrap();
}

#[tokio::test]
async fn u_08_config_may_be_forbidden() {
    let server = Server::with(&["--save", "", "--user", "app", "on", ">pw", "~rollcall:*", "+@all", "-config"]);
    let url = RedisUrl::parse(&format!("redis://app:pw@127.0.0.1:{}", server.port)).unwrap();
    let store = Redis::connect(&url, None).await.unwrap();
    let warnings = store.health().await.unwrap().warnings;
    assert!(warnings.len() == 1 && warnings[0].contains("`CONFIG`"), "{warnings:?}");
    store.commit(batch("s", vec![put("a", "1")])).await.unwrap();
    assert_eq!(store.scan(&Slot::new("s"), "", None, 10).await.unwrap().len(), 1);
}

#[test]
fn addresses_of_the_contract_are_understood_and_others_explained() {
    let good = [
        ("redis://127.0.0.1", "redis://127.0.0.1:6379/0"),
        ("redis://h:1/3", "redis://h:1/3"),
        ("rediss://u:p%40ss@h", "rediss://…@h:6379/0"),
        ("redis://[::1]:7", "redis://[::1]:7/0"),
        ("redis+sentinel://a,b:1/mymaster", "redis+sentinel://a:26379,b:1/mymaster/0"),
        ("rediss+sentinel://u:canary@a:26379,b:26379/m/2", "rediss+sentinel://…@a:26379,b:26379/m/2"),
        ("redis+cluster://h1,h2", "redis+cluster://h1:6379,h2:6379"),
        ("rediss+cluster://:canary@h1:1", "rediss+cluster://…@h1:1"),
    ];
    for (text, shown) in good {
        let url = RedisUrl::parse(text).unwrap();
        assert_eq!(url.to_string(), shown);
        assert!(!format!("{url:?}").contains("canary"));
    }
    let bad = [
        "redis:",
        "http://h",
        "redis+other://h",
        "redis://",
        "redis://a,b",
        "redis://h:0",
        "redis://h:x",
        "redis://h/x",
        "redis+sentinel://h",
        "redis+cluster://h/1",
        "redis://canary@h",
        "redis://h?x=1",
        "redis+cluster://,",
    ];
    for text in bad {
        let error = RedisUrl::parse(text).err().unwrap_or_else(|| panic!("{text} was taken"));
        assert!(error.ends_with('.') && !error.contains("canary"), "{error}");
    }
}
