//! What is known of a vendor's rate limit, in the account's slot: short-lived, shared by all nodes.

use std::time::Duration;

use serde::{Serialize, de::DeserializeOwned};

use super::{account_slot, batch, decode, encode, key};
use crate::{
    model::AccountId,
    store::{Expect, Store, StoreError, Write},
};

const NAME: &str = "quota";

/// The records of all accounts.
#[derive(Clone, Copy)]
pub struct Quotas<'s>(pub &'s dyn Store);

impl Quotas<'_> {
    /// The record and its version.
    pub async fn get<T: DeserializeOwned>(&self, account: AccountId) -> Result<Option<(T, u64)>, StoreError> {
        let entry = self.0.get(&key(account_slot(account), NAME)).await?;
        entry.map(|entry| Ok((decode(&entry.value, "a quota")?, entry.version))).transpose()
    }

    /// Keeps it for `life`, if it is still of the version that was read.
    pub async fn put<T: Serialize>(
        &self,
        account: AccountId,
        record: &T,
        version: Option<u64>,
        life: Duration,
    ) -> Result<(), StoreError> {
        let expect = version.map_or(Expect::Absent, Expect::Version);
        let write = Write::Put { name: NAME.to_owned(), value: encode(record)?, ttl: Some(life), expect };
        self.0.commit(batch(account_slot(account), vec![write])).await.map(|_| ())
    }
}
