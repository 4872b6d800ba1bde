//! Buckets of the operator's own limits, each in the slot of what it limits.

use std::sync::Arc;

use super::{account_slot, key, tokens};
use crate::{
    model::{AccountId, Rate, TokenId},
    store::{Slot, Spent, Store, StoreError},
};

const NAME: &str = "requests";

/// The buckets of all tokens and accounts.
pub struct Buckets {
    store: Arc<dyn Store>,
}

impl Buckets {
    /// Over any backend.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store }
    }

    /// Takes a request of a token's limit.
    pub async fn of_token(&self, token: TokenId, rate: Rate) -> Result<Spent, StoreError> {
        self.of(tokens::slot(token), rate).await
    }

    /// Takes a request of an account's limit.
    pub async fn of_account(&self, account: AccountId, rate: Rate) -> Result<Spent, StoreError> {
        self.of(account_slot(account), rate).await
    }

    async fn of(&self, slot: Slot, rate: Rate) -> Result<Spent, StoreError> {
        self.store.spend(&key(slot, NAME), rate.requests, rate.period).await
    }
}
