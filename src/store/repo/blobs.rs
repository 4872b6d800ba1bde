//! Short-lived sealed bytes in the account's slot: the vendor's part of cursors that are too large for a URL.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use super::{account_slot, batch, key};
use crate::{
    model::AccountId,
    store::{Expect, Store, StoreError, Write},
};

/// As long as a cursor is valid.
const LIFE: Duration = Duration::from_secs(24 * 60 * 60);

/// The blobs of all accounts.
#[derive(Clone)]
pub struct Blobs {
    store: Arc<dyn Store>,
}

impl Blobs {
    /// Over any backend.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store }
    }

    /// Keeps bytes for 24 hours.
    pub async fn put(&self, account: AccountId, id: &str, value: Bytes) -> Result<(), StoreError> {
        let write = Write::Put { name: format!("blob/{id}"), value, ttl: Some(LIFE), expect: Expect::Any };
        self.store.commit(batch(account_slot(account), vec![write])).await.map(|_| ())
    }

    /// The bytes, while they live.
    pub async fn get(&self, account: AccountId, id: &str) -> Result<Option<Bytes>, StoreError> {
        Ok(self.store.get(&key(account_slot(account), format!("blob/{id}"))).await?.map(|entry| entry.value))
    }
}
