//! The contract on real Redis: single, Sentinel, Cluster, TLS.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use rollcall::store::{
    Batch, Slot, Store, StoreError, Write,
    redis::{Redis, RedisUrl},
};

use super::{
    clocks, concurrency, contract,
    fixture::{Fixture, put, put_for, run_all},
};
use crate::support::redis::{Certificates, Cluster, SentinelSet, Server, valkey};

async fn run_contract(url: &RedisUrl, ca: Option<&Path>) {
    let store: Arc<dyn Store> = Arc::new(Redis::connect(url, ca).await.unwrap());
    let other: Arc<dyn Store> = Arc::new(Redis::connect(url, ca).await.unwrap());
    let cases = [contract::all(), clocks::all(), concurrency::all()].concat();
    assert!(cases.len() >= 60);
    run_all(cases, |case| Fixture::shared(store.clone(), other.clone(), case)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_contract_holds_on_one_server() {
    let server = Server::start();
    run_contract(&server.url(), None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_contract_holds_behind_sentinel() {
    let set = SentinelSet::start();
    run_contract(&set.url(), None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_contract_holds_on_a_cluster() {
    let cluster = Cluster::start();
    run_contract(&cluster.url(), None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_contract_holds_over_tls() {
    let certificates = Certificates::make();
    let server = Server::with(&certificates.args());
    over_tls(&server.url(), &certificates).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_contract_holds_behind_sentinel_over_tls() {
    let certificates = Certificates::make();
    let set = SentinelSet::with(&certificates.args());
    over_tls(&set.url(), &certificates).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_contract_holds_on_a_cluster_over_tls() {
    let certificates = Certificates::make();
    let cluster = Cluster::with(&certificates.args());
    over_tls(&cluster.url(), &certificates).await;
}

async fn over_tls(url: &RedisUrl, certificates: &Certificates) {
    run_contract(url, Some(&certificates.ca())).await;
    let stranger = Certificates::make();
    for ca in [None, Some(stranger.ca())] {
        let outcome = Redis::connect(url, ca.as_deref()).await;
        assert!(outcome.is_err(), "a certificate of an unknown authority must not be trusted");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_contract_holds_on_valkey() {
    let server = valkey(&["--save", "", "--appendonly", "yes", "--appendfsync", "everysec"]);
    run_contract(&server.url(), None).await;
    let health = Redis::connect(&server.url(), None).await.unwrap().health().await.unwrap();
    assert!(health.description.starts_with("Valkey") && health.warnings.is_empty(), "{health:?}");
}

/// A runtime that stands still, as a busy worker's does, holds up nobody else's commands.
#[test]
fn each_worker_has_a_connection_of_its_own() {
    let server = Server::start();
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let stands_still = runtime();
    let store = Arc::new(stands_still.block_on(Redis::connect(&server.url(), None)).unwrap());
    let write = || Batch { slot: Slot::new("s"), fence: None, writes: vec![put_for("a", "1", Duration::from_secs(60))] };
    // Workers live as long as the process: a thread that ends would leave its place to the next one.
    let all_done = Arc::new(std::sync::Barrier::new(3));
    let workers: Vec<_> = (0..3)
        .map(|_| {
            let (store, write, all_done) = (store.clone(), write(), all_done.clone());
            std::thread::spawn(move || {
                let (runtime, begun) = (runtime(), Instant::now());
                let outcome = runtime.block_on(store.commit(write));
                let took = begun.elapsed();
                all_done.wait();
                outcome.unwrap();
                took
            })
        })
        .collect();
    for worker in workers {
        let took = worker.join().unwrap();
        assert!(took < Duration::from_millis(600), "it waited {took:?} for another's runtime");
    }
    stands_still.block_on(store.commit(write())).unwrap();
}

#[tokio::test]
async fn what_lives_for_ever_waits_for_the_append_only_file() {
    let server = valkey(&["--save", "", "--appendonly", "yes", "--appendfsync", "everysec"]);
    let store = Redis::connect(&server.url(), None).await.unwrap();
    let commit = async |writes: Vec<Write>| store.commit(Batch { slot: Slot::new("s"), fence: None, writes }).await;
    let waits = || {
        let info: String = ::redis::cmd("INFO").arg("commandstats").query(&mut server.connection()).unwrap();
        info.contains("cmdstat_waitaof")
    };
    commit(vec![put_for("a", "1", Duration::from_secs(60))]).await.unwrap();
    assert!(!waits(), "what ends by itself need not wait");
    commit(vec![put("a", "1")]).await.unwrap();
    assert!(waits());
    let mut command = ::redis::cmd("CONFIG");
    let _: () = command.arg("SET").arg("appendfsync").arg("no").query(&mut server.connection()).unwrap();
    let started = Instant::now();
    assert!(matches!(commit(vec![put("a", "2")]).await, Err(StoreError::Unavailable(_))), "not on disk is not acknowledged");
    assert!(started.elapsed() < Duration::from_millis(2_500));
}
