//! What a case of the contract gets: a store and a slot of its own.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use rollcall::store::{Batch, Expect, Key, Slot, Store, StoreError, Write, embedded::Embedded};
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::support::clock::ManualClock;

pub struct Fixture {
    pub store: Arc<dyn Store>,
    /// Another node over the same data.
    pub other: Arc<dyn Store>,
    pub slot: Slot,
    clock: Option<Arc<ManualClock>>,
    _folder: Option<TempDir>,
}

impl Fixture {
    pub fn embedded() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::new());
        let store: Arc<dyn Store> = Arc::new(Embedded::open(folder.path(), clock.clone()).unwrap());
        Self { other: store.clone(), store, slot: Slot::new("case"), clock: Some(clock), _folder: Some(folder) }
    }

    pub fn shared(store: Arc<dyn Store>, other: Arc<dyn Store>, case: &str) -> Self {
        let slot = Slot::new(format!("{case}-{}", uuid::Uuid::now_v7()));
        Self { store, other, slot, clock: None, _folder: None }
    }

    /// Lets time go by: at once where the clock is ours.
    pub async fn pass(&self, time: Duration) {
        match &self.clock {
            Some(clock) => clock.advance(time),
            None => tokio::time::sleep(time).await,
        }
    }

    pub fn key(&self, name: &str) -> Key {
        Key { slot: self.slot.clone(), name: name.into() }
    }

    pub async fn commit(&self, writes: Vec<Write>) -> Result<Vec<u64>, StoreError> {
        self.store.commit(Batch { slot: self.slot.clone(), fence: None, writes }).await
    }

    pub async fn put(&self, name: &str, value: &str) -> u64 {
        self.commit(vec![put(name, value)]).await.unwrap()[0]
    }

    pub async fn text(&self, name: &str) -> Option<String> {
        let found = self.store.get(&self.key(name)).await.unwrap();
        found.map(|entry| String::from_utf8(entry.value.to_vec()).unwrap())
    }

    pub async fn names(&self, prefix: &str, after: Option<&str>, limit: usize) -> Vec<String> {
        let found = self.store.scan(&self.slot, prefix, after, limit).await.unwrap();
        found.into_iter().map(|(name, _)| name).collect()
    }
}

pub fn put(name: &str, value: &str) -> Write {
    put_if(name, value, Expect::Any)
}

pub fn put_if(name: &str, value: &str, expect: Expect) -> Write {
    Write::Put { name: name.into(), value: Bytes::from(value.to_owned()), ttl: None, expect }
}

pub fn put_for(name: &str, value: &str, ttl: Duration) -> Write {
    Write::Put { name: name.into(), value: Bytes::from(value.to_owned()), ttl: Some(ttl), expect: Expect::Any }
}

pub fn delete(name: &str) -> Write {
    Write::Delete { name: name.into(), expect: Expect::Any }
}

pub fn check(name: &str, expect: Expect) -> Write {
    Write::Check { name: name.into(), expect }
}

/// Test time: ten milliseconds of a real server's clock, so that a busy machine does not end a lease too early.
pub fn ms(count: u64) -> Duration {
    Duration::from_millis(count * 10)
}

pub type Case = fn(Fixture) -> Pin<Box<dyn Future<Output = ()> + Send>>;

/// Runs every case, several at a time, and names those that failed.
pub async fn run_all(cases: Vec<(&'static str, Case)>, fixture: impl Fn(&str) -> Fixture) {
    let count = cases.len();
    let (mut failed, mut running) = (Vec::new(), JoinSet::new());
    let mut names = std::collections::HashMap::new();
    for (name, case) in cases {
        let bounded = tokio::time::timeout(Duration::from_secs(30), case(fixture(name)));
        names.insert(running.spawn(async move { bounded.await.expect("the case took more than 30 s") }).id(), name);
    }
    while let Some(ended) = running.join_next_with_id().await {
        if let Err(error) = ended {
            failed.push(names[&error.id()]);
        }
    }
    assert!(failed.is_empty(), "{} of {count} cases failed: {failed:?}", failed.len());
}

/// Declares cases and the list of them.
macro_rules! cases {
    ($($(#[doc = $doc:literal])* async fn $name:ident($fixture:ident) $body:block)*) => {
        $($(#[doc = $doc])* async fn $name($fixture: Fixture) $body)*
        /// Every case of this file by name.
        pub fn all() -> Vec<(&'static str, Case)> {
            vec![$((stringify!($name), |fixture| Box::pin($name(fixture)))),*]
        }
    };
}
pub(crate) use cases;
