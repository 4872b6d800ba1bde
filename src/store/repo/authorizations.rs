//! Customers that are agreeing at a vendor just now: each in a slot of its own, found by the hash of its `state`, for minutes.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use super::{batch, key};
use crate::store::{Expect, Slot, Store, StoreError, Write};

const PENDING: &str = "pending";

/// What is to happen when a browser comes back.
#[derive(Clone)]
pub struct Authorizations {
    store: Arc<dyn Store>,
}

fn slot(state: &str) -> Slot {
    Slot::new(format!("authorization:{state}"))
}

impl Authorizations {
    /// Over any backend.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store }
    }

    /// Keeps what was sealed for `ttl`, under the hash of a `state` in hexadecimal digits.
    pub async fn put(&self, state: &str, sealed: Bytes, ttl: Duration) -> Result<(), StoreError> {
        let write = Write::Put { name: PENDING.to_owned(), value: sealed, ttl: Some(ttl), expect: Expect::Absent };
        self.store.commit(batch(slot(state), vec![write])).await.map(|_| ())
    }

    /// Takes it, once: of many that ask together one gets it.
    pub async fn take(&self, state: &str) -> Result<Option<Bytes>, StoreError> {
        let Some(found) = self.store.get(&key(slot(state), PENDING)).await? else { return Ok(None) };
        let gone = Write::Delete { name: PENDING.to_owned(), expect: Expect::Version(found.version) };
        match self.store.commit(batch(slot(state), vec![gone])).await {
            Ok(_) => Ok(Some(found.value)),
            Err(StoreError::Conflict(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }
}
