//! Link tokens: each in a slot of its own, found by the hash of its text and gone with its time. What is kept is opaque here.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use super::{batch, environment_slot, index, key, single};
use crate::{
    model::{EnvironmentId, LinkId},
    store::{Batch, Entry, Expect, Hold, Slot, Store, StoreError, Write},
};

pub(super) const RECORD: &str = "link";
/// Stands beside the record until the link has ended. A batch that removes something is confirmed on disk where the server
/// can say so, although what it writes lives for a while only: an ended link does not come back.
const UNENDED: &str = "unended";
/// The lock under which the link is used.
const ATTEMPT: &str = "attempt";
const KIND: &str = "link/";

/// The link tokens of all environments.
#[derive(Clone)]
pub struct Links {
    store: Arc<dyn Store>,
}

fn slot(link: LinkId) -> Slot {
    Slot::new(format!("link:{link}"))
}

fn entry(link: LinkId) -> String {
    format!("{KIND}{link}")
}

fn put(name: impl Into<String>, value: Bytes, ttl: Duration, expect: Expect) -> Write {
    Write::Put { name: name.into(), value, ttl: Some(ttl), expect }
}

impl Links {
    /// Over any backend.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store }
    }

    /// Keeps a new link for `ttl`, and its entry in the environment's list for as long.
    pub async fn create(&self, link: LinkId, owner: EnvironmentId, value: Bytes, ttl: Duration) -> Result<(), StoreError> {
        let listed = vec![put(entry(link), Bytes::new(), ttl, Expect::Any)];
        self.store.commit(batch(environment_slot(owner), listed)).await?;
        let writes = vec![put(RECORD, value, ttl, Expect::Absent), put(UNENDED, Bytes::new(), ttl, Expect::Any)];
        self.store.commit(batch(slot(link), writes)).await.map(|_| ())
    }

    /// What is kept of the link.
    pub async fn get(&self, link: LinkId) -> Result<Option<Entry>, StoreError> {
        self.store.get(&key(slot(link), RECORD)).await
    }

    /// Whether the link stands behind this wall, to be asked first.
    pub async fn listed(&self, owner: EnvironmentId, link: LinkId) -> Result<bool, StoreError> {
        index::has(&*self.store, owner, entry(link)).await
    }

    /// Replaces what is kept if it still has this version, under the right to use the link.
    pub async fn update(
        &self,
        link: LinkId,
        (value, expected): (Bytes, u64),
        ttl: Duration,
        hold: &Hold,
    ) -> Result<u64, StoreError> {
        let writes = vec![put(RECORD, value, ttl, Expect::Version(expected))];
        let done = self.store.commit(Batch { slot: slot(link), fence: Some(hold.clone()), writes }).await?;
        Ok(single(&done))
    }

    /// The same for the last state of a link; whoever takes it back does so whether it is used or not, and has no such right.
    pub async fn end(
        &self,
        link: LinkId,
        (value, expected): (Bytes, u64),
        ttl: Duration,
        hold: Option<&Hold>,
    ) -> Result<(), StoreError> {
        let ended = Write::Delete { name: UNENDED.to_owned(), expect: Expect::Any };
        let writes = vec![put(RECORD, value, ttl, Expect::Version(expected)), ended];
        self.store.commit(Batch { slot: slot(link), fence: hold.cloned(), writes }).await.map(|_| ())
    }

    /// The right to use the link, for `lease`; none while somebody has it.
    pub async fn hold(&self, link: LinkId, lease: Duration) -> Result<Option<Hold>, StoreError> {
        self.store.hold(&key(slot(link), ATTEMPT), lease).await
    }

    /// Prolongs the right; false when it has ended.
    pub async fn renew(&self, hold: &Hold, lease: Duration) -> Result<bool, StoreError> {
        self.store.renew(hold, lease).await
    }

    /// Gives the right back.
    pub async fn release(&self, hold: &Hold) -> Result<(), StoreError> {
        self.store.release(hold).await
    }
}
