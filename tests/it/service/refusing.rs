//! Stores that refuse some of what is written, or tell late or nothing of what they hold.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use rollcall::store::{Batch, Claimed, Entry, Key, Slot, Store, StoreError, Write};

use crate::support::stores::{Between, Through};

/// What of the audit log cannot be written.
pub const NOTHING: u8 = 0;
pub const EVERYTHING: u8 = 1;
pub const ENTRIES: u8 = 2;
/// Nothing can be put into a queue.
pub const QUEUES: u8 = 3;
/// Nothing can be written into a log of events.
pub const FEEDS: u8 = 4;
/// Nothing leaves an account for it.
pub const OUTBOXES: u8 = 5;

/// A store that does not take some of what is written to audit logs and queues, and may tell of their heads late.
pub struct Refusing {
    inner: Arc<dyn Store>,
    pub refuses: AtomicU8,
    /// How long after it was read a head is told.
    late: Duration,
}

impl Refusing {
    pub fn over(inner: Arc<dyn Store>, refuses: u8) -> Refusing {
        Refusing { inner, refuses: AtomicU8::new(refuses), late: Duration::ZERO }
    }

    pub fn late_by(self, late: Duration) -> Refusing {
        Refusing { late, ..self }
    }

    async fn unless(&self, refused: bool, batch: Batch) -> Result<Vec<u64>, StoreError> {
        match refused {
            true => Err(StoreError::Unavailable("the disk is full".to_owned())),
            false => self.inner.commit(batch).await,
        }
    }
}

fn removes_events(batch: &Batch) -> bool {
    batch.writes.iter().any(|write| matches!(write, Write::Delete { name, .. } if name.starts_with("outbox/")))
}

/// A store whose queues of one slot cannot be reached.
pub struct WithoutQueues {
    pub inner: Arc<dyn Store>,
    pub slot: Slot,
}

#[async_trait]
impl Between for WithoutQueues {
    fn inner(&self) -> &Arc<dyn Store> {
        &self.inner
    }
    async fn claim(&self, queue: &Key, lease: Duration, limit: usize) -> Result<Vec<Claimed>, StoreError> {
        match queue.slot == self.slot {
            true => Err(StoreError::Unavailable("this part of the store is away".to_owned())),
            false => self.inner.claim(queue, lease, limit).await,
        }
    }
}

#[async_trait]
impl Between for Refusing {
    fn inner(&self) -> &Arc<dyn Store> {
        &self.inner
    }
    async fn get(&self, key: &Key) -> Result<Option<Entry>, StoreError> {
        let found = self.inner.get(key).await;
        if key.name == "head" && key.slot.as_str().starts_with("audit:") {
            tokio::time::sleep(self.late).await;
        }
        found
    }
    async fn commit(&self, batch: Batch) -> Result<Vec<u64>, StoreError> {
        let is_entry = batch.writes.iter().any(|write| matches!(write, Write::Put { name, .. } if name == "head"));
        let refused = match self.refuses.load(Ordering::SeqCst) {
            NOTHING | QUEUES => false,
            ENTRIES => is_entry,
            FEEDS => return self.unless(batch.slot.as_str().starts_with("events:"), batch).await,
            OUTBOXES => return self.unless(removes_events(&batch), batch).await,
            _ => true,
        };
        if refused && batch.slot.as_str().starts_with("audit:") {
            return Err(StoreError::Unavailable("the disk of the audit log is full".to_owned()));
        }
        self.inner.commit(batch).await
    }
    async fn push(&self, queue: &Key, id: &str, value: Bytes, delay: Duration) -> Result<(), StoreError> {
        if self.refuses.load(Ordering::SeqCst) == QUEUES {
            return Err(StoreError::Unavailable("the queue is full".to_owned()));
        }
        self.inner.push(queue, id, value, delay).await
    }
}

/// How a store that can be cut off takes what is asked of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// As it is.
    There,
    /// Not at all.
    Away,
    /// It takes no note that a try with a refresh token came to nothing.
    Keeping,
    /// It takes the note that such a try begins, does not say so, and is away then.
    Unsure,
    /// It does not say whether an environment stands.
    Unsaid,
    /// It does not know that an account is listed, though it lists it.
    Unlisted,
}

/// The store.
pub struct Cut {
    inner: Arc<dyn Store>,
    how: Mutex<How>,
}

impl Cut {
    /// One that is there as yet, and the store behind it.
    pub fn before(inner: Arc<dyn Store>) -> (Arc<Cut>, Arc<dyn Store>) {
        let cut = Arc::new(Cut { inner, how: Mutex::new(How::There) });
        (cut.clone(), Arc::new(Through(Behind(cut))))
    }

    pub fn set(&self, how: How) {
        *self.how.lock().unwrap() = how;
    }

    fn how(&self) -> How {
        *self.how.lock().unwrap()
    }
}

struct Behind(Arc<Cut>);

fn away<T>() -> Result<T, StoreError> {
    Err(StoreError::Unavailable("it was cut off".to_owned()))
}

#[async_trait]
impl Between for Behind {
    fn inner(&self) -> &Arc<dyn Store> {
        &self.0.inner
    }
    async fn get(&self, key: &Key) -> Result<Option<Entry>, StoreError> {
        match self.0.how() {
            How::Away => away(),
            How::Unsaid if key.name.starts_with("environment/") => away(),
            How::Unlisted if key.name.starts_with("account/") => Ok(None),
            _ => self.0.inner.get(key).await,
        }
    }
    async fn commit(&self, batch: Batch) -> Result<Vec<u64>, StoreError> {
        let is_intent =
            |write: &Write| matches!(write, Write::Put { name, .. } | Write::Delete { name, .. } if name == "token-intent");
        let is_note = batch.writes.iter().any(is_intent);
        match self.0.how() {
            How::Away => away(),
            How::Keeping if is_note && batch.writes.len() == 1 => away(),
            How::Unsure if is_note => {
                self.0.inner.commit(batch).await?;
                self.0.set(How::Away);
                away()
            }
            _ => self.0.inner.commit(batch).await,
        }
    }
}
