//! API tokens: each in a slot of its own, so that any node finds it by the id in its text with one read.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{batch, decode, delete, encode, index, key, put};
use crate::{
    model::{ApiToken, EnvironmentId, TokenId},
    store::{Expect, Slot, Store, StoreError},
};

pub(super) const RECORD: &str = "token";
pub(super) const KIND: &str = "token/";

/// A token as stored. The hash is keyed; the secret itself is nowhere.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRecord {
    /// What is shown.
    pub token: ApiToken,
    /// Base64 of the keyed hash of the secret part.
    pub hash: String,
    /// Base64 of the mark that holds the rest of the record together.
    pub mark: String,
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
        index::records(&*self.store, (environment, KIND), after.map(|id| id.to_string()), limit, |id| self.get(id)).await
    }

    /// Removes a token of this environment; false when there is none. Removes what an interrupted call left.
    pub async fn revoke(&self, token: TokenId, environment: EnvironmentId) -> Result<bool, StoreError> {
        let found = self.get(token).await?;
        if found.as_ref().is_some_and(|record| record.token.environment_id != environment) {
            return Ok(false);
        }
        if found.is_some() {
            self.store.commit(batch(slot(token), vec![delete(RECORD)])).await?;
        }
        index::remove(&*self.store, environment, format!("{KIND}{token}")).await?;
        Ok(found.is_some())
    }
}
