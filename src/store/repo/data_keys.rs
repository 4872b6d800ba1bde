//! The wrapped data keys of accounts, each in its account's slot: how they are changed without a new credential.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    account_slot,
    accounts::{DATA_KEY, INTENT, KIND, PREVIOUS, RECORD, TOKEN},
    batch, decode, delete, encode, index, key, put,
};
use crate::{
    model::{Account, AccountId, EnvironmentId, Later},
    store::{Batch, Expect, Hold, Store, StoreError, Write},
};

/// The data keys before the present one, sealed under it.
pub(super) const FORMER: &str = "data-key/former";
/// When the data key was made, and how much it has sealed.
pub(super) const USE: &str = "data-key/use";
/// Longer than anything lives that is not sealed anew: the vendor's part of a cursor, a day.
const FORMER_LIFE: Duration = Duration::from_secs(25 * 60 * 60);

/// How a data key was used so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyUse {
    /// When it was made; not known of keys older than this record.
    pub made_at: Option<Timestamp>,
    /// What it has sealed, in blocks.
    #[serde(default)]
    pub seals: u64,
    /// Members that a later release wrote.
    #[serde(flatten)]
    pub later: Later,
}

/// A data key in the place of another, with everything that was sealed under that one.
pub struct NewKey<'a> {
    /// The record, its fields sealed anew, and the version it was read at.
    pub account: (&'a Account, u64),
    /// The wrapped key, and the version of the one before.
    pub wrapped: (&'a [u8], u64),
    /// The keys before it, sealed under it.
    pub former: &'a [u8],
    /// The access token, sealed anew, and the version it was read at.
    pub token: Option<(Bytes, u64)>,
    /// The refresh token before it, sealed anew.
    pub previous: Option<Bytes>,
    /// When.
    pub now: Timestamp,
}

/// The data keys of all accounts.
#[derive(Clone)]
pub struct DataKeys {
    store: Arc<dyn Store>,
}

impl DataKeys {
    /// Over any backend.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store }
    }

    /// Accounts of the environment after one of them, in id order, and where to go on.
    pub async fn accounts(
        &self,
        environment: EnvironmentId,
        after: Option<AccountId>,
        limit: usize,
    ) -> Result<(Vec<AccountId>, Option<AccountId>), StoreError> {
        let (ids, more) = index::ids(&*self.store, environment, KIND, after.map(|id| id.to_string()), limit).await?;
        Ok((ids, more.and_then(|last| last.parse().ok())))
    }

    /// The wrapped data key and its version.
    pub async fn get(&self, account: AccountId) -> Result<Option<(Bytes, u64)>, StoreError> {
        Ok(self.store.get(&key(account_slot(account), DATA_KEY)).await?.map(|entry| (entry.value, entry.version)))
    }

    /// The keys before it, sealed under it, while they live.
    pub async fn former(&self, account: AccountId) -> Result<Option<Bytes>, StoreError> {
        Ok(self.store.get(&key(account_slot(account), FORMER)).await?.map(|entry| entry.value))
    }

    /// Puts the same key, wrapped anew; `Conflict` when it is no longer of this version.
    pub async fn rewrap(&self, account: AccountId, wrapped: &[u8], expected: u64) -> Result<(), StoreError> {
        let write = put(DATA_KEY, Bytes::copy_from_slice(wrapped), Expect::Version(expected));
        self.store.commit(batch(account_slot(account), vec![write])).await.map(|_| ())
    }

    /// Puts another key and everything sealed under it in one step, under the right to the account's token. `Conflict` when
    /// anything of it was changed since it was read.
    pub async fn replace(&self, new: NewKey<'_>, hold: &Hold) -> Result<(), StoreError> {
        let (account, version) = new.account;
        let former = Bytes::copy_from_slice(new.former);
        let token = match new.token {
            Some((sealed, version)) => put(TOKEN, sealed, Expect::Version(version)),
            None => Write::Check { name: TOKEN.into(), expect: Expect::Absent },
        };
        let writes = vec![
            put(RECORD, encode(account)?, Expect::Version(version)),
            put(DATA_KEY, Bytes::copy_from_slice(new.wrapped.0), Expect::Version(new.wrapped.1)),
            Write::Put { name: FORMER.into(), value: former, ttl: Some(FORMER_LIFE), expect: Expect::Any },
            put(USE, encode(&KeyUse { made_at: Some(new.now), ..KeyUse::default() })?, Expect::Any),
            token,
            new.previous.map_or_else(|| delete(PREVIOUS), |previous| put(PREVIOUS, previous, Expect::Any)),
            Write::Check { name: INTENT.into(), expect: Expect::Absent },
        ];
        let batch = Batch { fence: Some(hold.clone()), ..batch(account_slot(account.id), writes) };
        self.store.commit(batch).await.map(|_| ())
    }

    /// How the account's data key was used so far.
    pub async fn usage(&self, account: AccountId) -> Result<KeyUse, StoreError> {
        Ok(self.usage_and_version(account).await?.map(|(used, _)| used).unwrap_or_default())
    }

    /// Adds to what the account's data key has sealed; answers the sum, or none when there is no such account.
    pub async fn add_seals(&self, account: AccountId, sealed: u64) -> Result<Option<u64>, StoreError> {
        let Some((_, wrapped)) = self.get(account).await? else { return Ok(None) };
        let found = self.usage_and_version(account).await?;
        let (used, expect) = found.map_or((KeyUse::default(), Expect::Absent), |(used, v)| (used, Expect::Version(v)));
        let seals = used.seals.saturating_add(sealed);
        // What was deleted stays deleted, and another key begins at nothing.
        let check = Write::Check { name: DATA_KEY.into(), expect: Expect::Version(wrapped) };
        let writes = vec![check, put(USE, encode(&KeyUse { seals, ..used })?, expect)];
        self.store.commit(batch(account_slot(account), writes)).await.map(|_| Some(seals))
    }

    async fn usage_and_version(&self, account: AccountId) -> Result<Option<(KeyUse, u64)>, StoreError> {
        let found = self.store.get(&key(account_slot(account), USE)).await?;
        found.map(|entry| Ok((decode(&entry.value, "the use of a data key")?, entry.version))).transpose()
    }
}
