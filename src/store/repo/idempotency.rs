//! Repeatable writes of an environment: what has begun under a key, and the reply it ended with, both opaque here.
//!
//! Who runs holds a lock of the key's name; every change is committed under it, so that a node that was stopped for longer than
//! its lease changes nothing any more. A start removes a reply and an end removes the start: a batch that removes something is
//! confirmed on disk where the server can say so, although what it writes lives for a while only.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use super::{key, single};
use crate::{
    model::EnvironmentId,
    store::{Batch, Entry, Expect, Hold, Key, Slot, Store, StoreError, Write},
};

const STARTED: &str = "started/";
const REPLY: &str = "reply/";
/// How long a key is remembered.
const LIFE: Duration = Duration::from_secs(24 * 60 * 60);
/// Live names that are passed when ended ones are looked for.
const NEIGHBOURS: usize = 4;

/// The repeatable writes of all environments.
#[derive(Clone)]
pub struct Idempotency {
    store: Arc<dyn Store>,
}

fn slot(environment: EnvironmentId) -> Slot {
    Slot::new(format!("idempotency:{environment}"))
}

fn place(environment: EnvironmentId, kind: &str, name: &str) -> Key {
    key(slot(environment), format!("{kind}{name}"))
}

impl Idempotency {
    /// Over any backend.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store }
    }

    /// The reply the key's call ended with.
    pub async fn reply(&self, environment: EnvironmentId, name: &str) -> Result<Option<Bytes>, StoreError> {
        Ok(self.store.get(&place(environment, REPLY, name)).await?.map(|entry| entry.value))
    }

    /// What has begun under the key and not ended.
    pub async fn started(&self, environment: EnvironmentId, name: &str) -> Result<Option<Entry>, StoreError> {
        self.store.get(&place(environment, STARTED, name)).await
    }

    /// The right to run under the key, for `lease`; none while somebody has it.
    pub async fn hold(&self, environment: EnvironmentId, name: &str, lease: Duration) -> Result<Option<Hold>, StoreError> {
        self.store.hold(&place(environment, "", name), lease).await
    }

    /// Prolongs the right; false when it has ended.
    pub async fn renew(&self, hold: &Hold, lease: Duration) -> Result<bool, StoreError> {
        self.store.renew(hold, lease).await
    }

    /// Gives the right back.
    pub async fn release(&self, hold: &Hold) -> Result<(), StoreError> {
        self.store.release(hold).await
    }

    /// Notes that the call begins, over the start that `expected` is the version of; answers the new version.
    pub async fn start(&self, hold: &Hold, value: Bytes, expected: Option<u64>) -> Result<u64, StoreError> {
        let name = &hold.key.name;
        let expect = expected.map_or(Expect::Absent, Expect::Version);
        let writes = vec![
            Write::Put { name: format!("{STARTED}{name}"), value, ttl: Some(LIFE), expect },
            Write::Delete { name: format!("{REPLY}{name}"), expect: Expect::Absent },
        ];
        Ok(single(&self.commit(hold, writes).await?))
    }

    /// Keeps the reply instead of the start of this version.
    pub async fn finish(&self, hold: &Hold, value: Bytes, started: u64) -> Result<(), StoreError> {
        let name = &hold.key.name;
        let writes = vec![
            Write::Put { name: format!("{REPLY}{name}"), value, ttl: Some(LIFE), expect: Expect::Absent },
            Write::Delete { name: format!("{STARTED}{name}"), expect: Expect::Version(started) },
        ];
        self.commit(hold, writes).await.map(|_| ())
    }

    async fn commit(&self, hold: &Hold, writes: Vec<Write>) -> Result<Vec<u64>, StoreError> {
        self.store.commit(Batch { slot: hold.key.slot.clone(), fence: Some(hold.clone()), writes }).await
    }

    /// Lets the store forget the names of ended keys beside this one: a backend that lists names drops, as it reads them,
    /// those whose value has ended. Each key looks at a few, so the list does not grow.
    pub async fn tidy(&self, hold: &Hold) -> Result<(), StoreError> {
        for kind in [STARTED, REPLY] {
            let after = format!("{kind}{}", hold.key.name);
            self.store.scan(&hold.key.slot, kind, Some(&after), NEIGHBOURS).await?;
        }
        Ok(())
    }
}
