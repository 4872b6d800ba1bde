//! A store in front of which somebody else is faster, once, at a point that the test names.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use rollcall::store::{Batch, Claimed, Entry, Health, Hold, Key, Lasting, Settle, Slot, Spent, Store, StoreError, Write};

/// When somebody else is faster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Point {
    /// This slot was read from its beginning.
    Scanned(Slot),
    /// A value whose name begins so is about to be removed.
    Removing(&'static str),
    /// A value of this name was written.
    Written(&'static str),
}

type Deed = BoxFuture<'static, ()>;

/// The store.
pub struct Meddled {
    inner: Arc<dyn Store>,
    point: Point,
    deed: Mutex<Option<Deed>>,
}

impl Meddled {
    /// `deed` is done once, at the first such point.
    pub fn at(inner: Arc<dyn Store>, point: Point, deed: impl Future<Output = ()> + Send + 'static) -> Arc<Meddled> {
        Arc::new(Meddled { inner, point, deed: Mutex::new(Some(Box::pin(deed))) })
    }

    /// Whether the point came.
    pub fn is_done(&self) -> bool {
        self.deed.lock().unwrap().is_none()
    }

    async fn meddle(&self, is_point: bool) {
        let deed = if is_point { self.deed.lock().unwrap().take() } else { None };
        if let Some(deed) = deed {
            deed.await;
        }
    }
}

#[async_trait]
impl Store for Meddled {
    async fn get(&self, key: &Key) -> Result<Option<Entry>, StoreError> {
        self.inner.get(key).await
    }
    async fn scan(
        &self,
        slot: &Slot,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Entry)>, StoreError> {
        let found = self.inner.scan(slot, prefix, after, limit).await;
        self.meddle(prefix.is_empty() && self.point == Point::Scanned(slot.clone())).await;
        found
    }
    async fn commit(&self, batch: Batch) -> Result<Vec<u64>, StoreError> {
        let removes =
            |start: &str| batch.writes.iter().any(|w| matches!(w, Write::Delete { name, .. } if name.starts_with(start)));
        let writes = |wanted: &str| batch.writes.iter().any(|w| matches!(w, Write::Put { name, .. } if name == wanted));
        let (before, after) = match &self.point {
            Point::Removing(start) => (removes(start), false),
            Point::Written(name) => (false, writes(name)),
            Point::Scanned(_) => (false, false),
        };
        self.meddle(before).await;
        let done = self.inner.commit(batch).await;
        self.meddle(after).await;
        done
    }
    async fn hold(&self, key: &Key, ttl: Duration) -> Result<Option<Hold>, StoreError> {
        self.inner.hold(key, ttl).await
    }
    async fn renew(&self, hold: &Hold, ttl: Duration) -> Result<bool, StoreError> {
        self.inner.renew(hold, ttl).await
    }
    async fn release(&self, hold: &Hold) -> Result<(), StoreError> {
        self.inner.release(hold).await
    }
    async fn push(&self, queue: &Key, id: &str, value: Bytes, delay: Duration) -> Result<(), StoreError> {
        self.inner.push(queue, id, value, delay).await
    }
    async fn claim(&self, queue: &Key, lease: Duration, limit: usize) -> Result<Vec<Claimed>, StoreError> {
        self.inner.claim(queue, lease, limit).await
    }
    async fn settle(&self, queue: &Key, item: &Claimed, outcome: Settle) -> Result<bool, StoreError> {
        self.inner.settle(queue, item, outcome).await
    }
    async fn spend(&self, bucket: &Key, capacity: u32, period: Duration) -> Result<Spent, StoreError> {
        self.inner.spend(bucket, capacity, period).await
    }
    async fn slots(&self) -> Result<Vec<Slot>, StoreError> {
        self.inner.slots().await
    }
    async fn lasting(&self, slot: &Slot, after: Option<&str>) -> Result<Lasting, StoreError> {
        self.inner.lasting(slot, after).await
    }
    async fn health(&self) -> Result<Health, StoreError> {
        self.inner.health().await
    }
}
