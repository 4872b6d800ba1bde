//! Stores for tests: one that does not answer, and what stands in front of another and does some of its work differently.

use std::{ops::Deref, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use rollcall::store::{Batch, Claimed, Entry, Health, Hold, Key, Lasting, Settle, Slot, Spent, Store, StoreError};

type Answer<T> = Result<T, StoreError>;

/// What stands in front of a store. All that it does not say itself is done by the store as it is.
#[async_trait]
pub trait Between: Send + Sync {
    fn inner(&self) -> &Arc<dyn Store>;

    async fn get(&self, key: &Key) -> Answer<Option<Entry>> {
        self.inner().get(key).await
    }
    async fn scan(&self, slot: &Slot, prefix: &str, after: Option<&str>, limit: usize) -> Answer<Vec<(String, Entry)>> {
        self.inner().scan(slot, prefix, after, limit).await
    }
    async fn commit(&self, batch: Batch) -> Answer<Vec<u64>> {
        self.inner().commit(batch).await
    }
    async fn push(&self, queue: &Key, id: &str, value: Bytes, delay: Duration) -> Answer<()> {
        self.inner().push(queue, id, value, delay).await
    }
    async fn claim(&self, queue: &Key, lease: Duration, limit: usize) -> Answer<Vec<Claimed>> {
        self.inner().claim(queue, lease, limit).await
    }
    async fn settle(&self, queue: &Key, item: &Claimed, outcome: Settle) -> Answer<bool> {
        self.inner().settle(queue, item, outcome).await
    }
}

/// The store with that in front of it.
pub struct Through<B>(pub B);

impl<B> Deref for Through<B> {
    type Target = B;

    fn deref(&self) -> &B {
        &self.0
    }
}

#[async_trait]
impl<B: Between> Store for Through<B> {
    async fn get(&self, key: &Key) -> Answer<Option<Entry>> {
        self.0.get(key).await
    }
    async fn scan(&self, slot: &Slot, prefix: &str, after: Option<&str>, limit: usize) -> Answer<Vec<(String, Entry)>> {
        self.0.scan(slot, prefix, after, limit).await
    }
    async fn commit(&self, batch: Batch) -> Answer<Vec<u64>> {
        self.0.commit(batch).await
    }
    async fn hold(&self, key: &Key, ttl: Duration) -> Answer<Option<Hold>> {
        self.0.inner().hold(key, ttl).await
    }
    async fn renew(&self, hold: &Hold, ttl: Duration) -> Answer<bool> {
        self.0.inner().renew(hold, ttl).await
    }
    async fn release(&self, hold: &Hold) -> Answer<()> {
        self.0.inner().release(hold).await
    }
    async fn push(&self, queue: &Key, id: &str, value: Bytes, delay: Duration) -> Answer<()> {
        self.0.push(queue, id, value, delay).await
    }
    async fn claim(&self, queue: &Key, lease: Duration, limit: usize) -> Answer<Vec<Claimed>> {
        self.0.claim(queue, lease, limit).await
    }
    async fn settle(&self, queue: &Key, item: &Claimed, outcome: Settle) -> Answer<bool> {
        self.0.settle(queue, item, outcome).await
    }
    async fn spend(&self, bucket: &Key, capacity: u32, period: Duration) -> Answer<Spent> {
        self.0.inner().spend(bucket, capacity, period).await
    }
    async fn slots(&self) -> Answer<Vec<Slot>> {
        self.0.inner().slots().await
    }
    async fn lasting(&self, slot: &Slot, after: Option<&str>) -> Answer<Lasting> {
        self.0.inner().lasting(slot, after).await
    }
    fn is_shared(&self) -> bool {
        self.0.inner().is_shared()
    }
    async fn health(&self) -> Answer<Health> {
        self.0.inner().health().await
    }
}

/// For tests that need no store.
pub struct NoStore;

fn none<T>() -> Answer<T> {
    Err(StoreError::Unavailable("these tests have no store".to_owned()))
}

#[async_trait]
impl Store for NoStore {
    async fn get(&self, _: &Key) -> Answer<Option<Entry>> {
        none()
    }
    async fn scan(&self, _: &Slot, _: &str, _: Option<&str>, _: usize) -> Answer<Vec<(String, Entry)>> {
        none()
    }
    async fn commit(&self, _: Batch) -> Answer<Vec<u64>> {
        none()
    }
    async fn hold(&self, _: &Key, _: Duration) -> Answer<Option<Hold>> {
        none()
    }
    async fn renew(&self, _: &Hold, _: Duration) -> Answer<bool> {
        none()
    }
    async fn release(&self, _: &Hold) -> Answer<()> {
        none()
    }
    async fn push(&self, _: &Key, _: &str, _: Bytes, _: Duration) -> Answer<()> {
        none()
    }
    async fn claim(&self, _: &Key, _: Duration, _: usize) -> Answer<Vec<Claimed>> {
        none()
    }
    async fn settle(&self, _: &Key, _: &Claimed, _: Settle) -> Answer<bool> {
        none()
    }
    async fn spend(&self, _: &Key, _: u32, _: Duration) -> Answer<Spent> {
        none()
    }
    async fn slots(&self) -> Answer<Vec<Slot>> {
        none()
    }
    async fn lasting(&self, _: &Slot, _: Option<&str>) -> Answer<Lasting> {
        none()
    }
    async fn health(&self) -> Answer<Health> {
        none()
    }
}
