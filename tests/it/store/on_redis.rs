//! The contract on real Redis: single, Sentinel, Cluster, TLS.

use std::{path::Path, sync::Arc};

use rollcall::store::{
    Store,
    redis::{Redis, RedisUrl},
};

use super::{
    clocks, concurrency, contract,
    fixture::{Fixture, run_all},
};
use crate::support::redis::{Certificates, Cluster, SentinelSet, Server};

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
    let server = certificates.server();
    let url = RedisUrl::parse(&format!("rediss://127.0.0.1:{}", server.port)).unwrap();
    run_contract(&url, Some(&certificates.ca())).await;
    assert!(Redis::connect(&url, None).await.is_err(), "a certificate of an unknown authority must not be trusted");
}
