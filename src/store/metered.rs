//! Any backend, measured: how long each verb takes and how it ends.

use std::{
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use bytes::Bytes;
use metrics::{Histogram, Unit};

use super::{Batch, Claimed, Entry, Health, Hold, Key, Lasting, Settle, Slot, Spent, Store, StoreError};

const DURATION: &str = "rollcall_store_operation_duration_seconds";

/// The verbs.
#[derive(Clone, Copy)]
enum Verb {
    Get,
    Scan,
    Commit,
    Hold,
    Renew,
    Release,
    Push,
    Claim,
    Settle,
    Spend,
    Slots,
    Lasting,
    Health,
}

impl Verb {
    const WORDS: [&str; 13] =
        ["get", "scan", "commit", "hold", "renew", "release", "push", "claim", "settle", "spend", "slots", "lasting", "health"];
}

/// How an operation ended: `conflict` is an expectation or a lock that no longer held, which callers deal with.
const OUTCOMES: [&str; 4] = ["ok", "conflict", "unavailable", "damaged"];

fn outcome<T>(done: &Result<T, StoreError>) -> usize {
    match done {
        Ok(_) => 0,
        Err(StoreError::Conflict(_) | StoreError::Fenced) => 1,
        Err(StoreError::Unavailable(_) | StoreError::InUse(_) | StoreError::Refused(_)) => 2,
        Err(StoreError::Damaged(_) | StoreError::Later(_)) => 3,
    }
}

/// A store whose operations are measured.
pub struct Metered {
    store: Arc<dyn Store>,
    backend: &'static str,
    histograms: [[OnceLock<Histogram>; OUTCOMES.len()]; Verb::WORDS.len()],
}

impl Metered {
    /// Over a backend of this name.
    pub fn new(store: Arc<dyn Store>, backend: &'static str) -> Self {
        metrics::describe_histogram!(DURATION, Unit::Seconds, "Operations of the store, as the gateway waits for them.");
        let histograms = [const { [const { OnceLock::new() }; OUTCOMES.len()] }; Verb::WORDS.len()];
        Self { store, backend, histograms }
    }

    async fn timed<T>(&self, verb: Verb, work: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        let started = Instant::now();
        let done = work.await;
        let (verb, outcome) = (verb as usize, outcome(&done));
        let histogram = self.histograms[verb][outcome].get_or_init(|| {
            let (operation, outcome) = (Verb::WORDS[verb], OUTCOMES[outcome]);
            metrics::histogram!(DURATION, "backend" => self.backend, "operation" => operation, "outcome" => outcome)
        });
        histogram.record(started.elapsed());
        done
    }
}

#[async_trait]
impl Store for Metered {
    async fn get(&self, key: &Key) -> Result<Option<Entry>, StoreError> {
        self.timed(Verb::Get, self.store.get(key)).await
    }

    async fn scan(
        &self,
        slot: &Slot,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Entry)>, StoreError> {
        self.timed(Verb::Scan, self.store.scan(slot, prefix, after, limit)).await
    }

    async fn commit(&self, batch: Batch) -> Result<Vec<u64>, StoreError> {
        self.timed(Verb::Commit, self.store.commit(batch)).await
    }

    async fn hold(&self, key: &Key, ttl: Duration) -> Result<Option<Hold>, StoreError> {
        self.timed(Verb::Hold, self.store.hold(key, ttl)).await
    }

    async fn renew(&self, hold: &Hold, ttl: Duration) -> Result<bool, StoreError> {
        self.timed(Verb::Renew, self.store.renew(hold, ttl)).await
    }

    async fn release(&self, hold: &Hold) -> Result<(), StoreError> {
        self.timed(Verb::Release, self.store.release(hold)).await
    }

    async fn push(&self, queue: &Key, id: &str, value: Bytes, delay: Duration) -> Result<(), StoreError> {
        self.timed(Verb::Push, self.store.push(queue, id, value, delay)).await
    }

    async fn claim(&self, queue: &Key, lease: Duration, limit: usize) -> Result<Vec<Claimed>, StoreError> {
        self.timed(Verb::Claim, self.store.claim(queue, lease, limit)).await
    }

    async fn settle(&self, queue: &Key, item: &Claimed, outcome: Settle) -> Result<bool, StoreError> {
        self.timed(Verb::Settle, self.store.settle(queue, item, outcome)).await
    }

    async fn spend(&self, bucket: &Key, capacity: u32, period: Duration) -> Result<Spent, StoreError> {
        self.timed(Verb::Spend, self.store.spend(bucket, capacity, period)).await
    }

    async fn slots(&self) -> Result<Vec<Slot>, StoreError> {
        self.timed(Verb::Slots, self.store.slots()).await
    }

    async fn lasting(&self, slot: &Slot, after: Option<&str>) -> Result<Lasting, StoreError> {
        self.timed(Verb::Lasting, self.store.lasting(slot, after)).await
    }

    fn is_shared(&self) -> bool {
        self.store.is_shared()
    }

    async fn health(&self) -> Result<Health, StoreError> {
        self.timed(Verb::Health, self.store.health()).await
    }
}
