//! Work that waits for whichever node has time, in queues of each environment, and locks for work that one node does for all.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use super::{environment_slot, key};
use crate::{
    model::{AccountId, EnvironmentId, EventId},
    store::{Claimed, Hold, Key, Settle, Store, StoreError},
};

/// The queues there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queue {
    /// Accounts that have events to tell.
    Outbox,
    /// Accounts to look at, at their times.
    Care,
    /// Tokens to renew before they end.
    Tokens,
}

impl Queue {
    const fn name(self) -> &'static str {
        match self {
            Queue::Outbox => "outbox",
            Queue::Care => "care",
            Queue::Tokens => "tokens",
        }
    }
}

/// The queues of all environments.
#[derive(Clone)]
pub struct Queues {
    store: Arc<dyn Store>,
}

fn place(environment: EnvironmentId, queue: Queue) -> Key {
    key(environment_slot(environment), queue.name())
}

impl Queues {
    /// Over any backend.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store }
    }

    /// Says that an account has an event to tell. Each event is an item of its own: one that comes while another is worked on
    /// is not taken for it.
    pub async fn announce(&self, environment: EnvironmentId, account: AccountId, event: EventId) -> Result<(), StoreError> {
        let (id, value) = (event.to_string(), Bytes::from(account.to_string()));
        self.store.push(&place(environment, Queue::Outbox), &id, value, Duration::ZERO).await
    }

    /// Adds an item, unless one of this id is there already: then it is due at the earlier of both times.
    pub async fn push(&self, environment: EnvironmentId, queue: Queue, id: &str, delay: Duration) -> Result<(), StoreError> {
        self.store.push(&place(environment, queue), id, Bytes::new(), delay).await
    }

    /// Takes up to `limit` items whose time has come; nobody else gets them before the lease ends.
    pub async fn claim(
        &self,
        environment: EnvironmentId,
        queue: Queue,
        lease: Duration,
        limit: usize,
    ) -> Result<Vec<Claimed>, StoreError> {
        self.store.claim(&place(environment, queue), lease, limit).await
    }

    /// Says what becomes of an item that was taken; false when its lease had ended.
    pub async fn settle(
        &self,
        environment: EnvironmentId,
        queue: Queue,
        item: &Claimed,
        outcome: Settle,
    ) -> Result<bool, StoreError> {
        self.store.settle(&place(environment, queue), item, outcome).await
    }

    /// The right to do what one node does for all, unless another has it.
    pub async fn hold(&self, environment: EnvironmentId, work: &str, life: Duration) -> Result<Option<Hold>, StoreError> {
        self.store.hold(&key(environment_slot(environment), format!("work/{work}")), life).await
    }

    /// Gives that right back.
    pub async fn release(&self, hold: &Hold) -> Result<(), StoreError> {
        self.store.release(hold).await
    }
}
