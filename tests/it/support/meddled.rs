//! A store in front of which somebody else is faster, once, at a point that the test names.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use rollcall::store::{Batch, Claimed, Entry, Key, Settle, Slot, Store, StoreError, Write};

use super::stores::{Between, Through};

/// When somebody else is faster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Point {
    /// This slot was read from its beginning.
    Scanned(Slot),
    /// A value whose name begins so is about to be removed.
    Removing(&'static str),
    /// A value of this name was written.
    Written(&'static str),
    /// What becomes of an item of a queue is about to be said.
    Settling,
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
    pub fn at(inner: Arc<dyn Store>, point: Point, deed: impl Future<Output = ()> + Send + 'static) -> Arc<Through<Meddled>> {
        Arc::new(Through(Meddled { inner, point, deed: Mutex::new(Some(Box::pin(deed))) }))
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
impl Between for Meddled {
    fn inner(&self) -> &Arc<dyn Store> {
        &self.inner
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
            Point::Scanned(_) | Point::Settling => (false, false),
        };
        self.meddle(before).await;
        let done = self.inner.commit(batch).await;
        self.meddle(after).await;
        done
    }
    async fn settle(&self, queue: &Key, item: &Claimed, outcome: Settle) -> Result<bool, StoreError> {
        self.meddle(self.point == Point::Settling).await;
        self.inner.settle(queue, item, outcome).await
    }
}
