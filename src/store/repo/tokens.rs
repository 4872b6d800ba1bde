//! API tokens: each in a slot of its own, so that any node finds it by the id in its text with one read.

use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Installation, Listed, batch, decode, delete, encode, index, key, put};
use crate::{
    model::{ApiToken, EnvironmentId, TokenId},
    store::{Expect, Slot, Store, StoreError, Write},
};

pub(super) const RECORD: &str = "token";
/// When it was used last; beside the record, so that the record's mark holds.
const USED: &str = "used";
/// Last uses read at the same time.
const TOGETHER: usize = 32;
pub(super) const KIND: &str = "token/";

/// A token as stored. The hash is keyed; the secret itself is nowhere.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRecord {
    /// What is shown.
    pub token: ApiToken,
    /// Base64 of the keyed hash of the secret part.
    pub hash: String,
    /// Base64 of the mark that holds token and hash together.
    pub mark: String,
    /// The name of the token it was made with, for people; beside what is marked, so that nodes of an earlier release, which do
    /// not know it, find the mark right.
    #[serde(default)]
    pub created_by: Option<String>,
}

/// The API tokens of all environments.
#[derive(Clone)]
pub struct Tokens {
    store: Arc<dyn Store>,
}

pub(super) fn slot(token: TokenId) -> Slot {
    Slot::new(format!("token:{token}"))
}

impl Tokens {
    /// Over any backend.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store }
    }

    /// The environments, in the same store.
    pub fn installation(&self) -> Installation {
        Installation::new(self.store.clone())
    }

    /// Stores a new token; an id that exists is `Conflict`.
    pub async fn create(&self, record: &TokenRecord) -> Result<(), StoreError> {
        let id = record.token.id;
        let writes = vec![put(RECORD, encode(record)?, Expect::Absent)];
        index::add(&*self.store, record.token.environment_id, format!("{KIND}{id}")).await?;
        self.store.commit(batch(slot(id), writes)).await.map(|_| ())
    }

    /// The token of this id, expired or not.
    pub async fn get(&self, token: TokenId) -> Result<Option<TokenRecord>, StoreError> {
        let found = self.store.get(&key(slot(token), RECORD)).await?;
        found.map(|entry| decode(&entry.value, "a token")).transpose()
    }

    /// Whether the token stands behind this wall, to be asked first.
    pub async fn listed(&self, environment: EnvironmentId, token: TokenId) -> Result<bool, StoreError> {
        index::has(&*self.store, environment, format!("{KIND}{token}")).await
    }

    /// Up to `limit` tokens of the environment after one of them, in id order.
    pub async fn list(
        &self,
        environment: EnvironmentId,
        after: Option<TokenId>,
        limit: usize,
    ) -> Result<Vec<TokenRecord>, StoreError> {
        self.readable(environment, after, limit).await?.whole()
    }

    /// The same of those that this release can read, none of another environment.
    pub async fn readable(
        &self,
        environment: EnvironmentId,
        after: Option<TokenId>,
        limit: usize,
    ) -> Result<Listed<TokenRecord>, StoreError> {
        let is_of_this = |record: &TokenRecord| record.token.environment_id == environment;
        let read = |id: TokenId| async move { Ok(self.get(id).await?.filter(is_of_this)) };
        index::records(&*self.store, (environment, KIND), after.map(|id| id.to_string()), limit, read).await
    }

    /// Notes a use, unless the token was removed meanwhile.
    pub async fn note_use(&self, token: TokenId, at: Timestamp) -> Result<(), StoreError> {
        let Some(record) = self.store.get(&key(slot(token), RECORD)).await? else { return Ok(()) };
        let check = Write::Check { name: RECORD.into(), expect: Expect::Version(record.version) };
        let noted = self.store.commit(batch(slot(token), vec![check, put(USED, encode(&at)?, Expect::Any)])).await;
        match noted {
            Ok(_) | Err(StoreError::Conflict(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// When each of these tokens was used last, as far as that was noted.
    pub async fn last_uses(&self, tokens: &[TokenId]) -> Result<Vec<Option<Timestamp>>, StoreError> {
        let read = |token: &TokenId| {
            let token = *token;
            async move {
                let found = self.store.get(&key(slot(token), USED)).await?;
                found.map(|entry| decode(&entry.value, "the last use of a token")).transpose()
            }
        };
        stream::iter(tokens.iter().map(read)).buffered(TOGETHER).try_collect().await
    }

    /// Removes a token of this environment; false when there is none. Removes what an interrupted call left.
    pub async fn revoke(&self, token: TokenId, environment: EnvironmentId) -> Result<bool, StoreError> {
        let found = self.get(token).await?;
        if found.as_ref().is_some_and(|record| record.token.environment_id != environment) {
            return Ok(false);
        }
        if found.is_some() {
            self.store.commit(batch(slot(token), vec![delete(RECORD), delete(USED)])).await?;
        }
        index::remove(&*self.store, environment, format!("{KIND}{token}")).await?;
        Ok(found.is_some())
    }
}
