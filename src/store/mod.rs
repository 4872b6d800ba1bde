//! The narrow waist over durable storage: nine verbs on bytes. Typed repositories stand once above it (`repo`).
//!
//! The law, on every backend and under every fault: **an error or the correct answer, never a wrong one**. The contract
//! suite in `tests/it/store/` is the definition of each verb.

pub mod embedded;
pub mod metered;
pub mod redis;
pub mod repo;

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;

/// Keys of one slot live together (one Redis Cluster hash slot) and can be committed together: an account, an
/// environment, the installation.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slot(Arc<str>);

impl Slot {
    /// A slot by name; names hold no braces, no NUL.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        let name = name.into();
        debug_assert!(!name.contains(['{', '}', '\0']), "a slot's name is a Redis hash tag");
        Self(name)
    }
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A slot and a name within it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// Where it lives.
    pub slot: Slot,
    /// Its name there; `/` separates parts so that `scan` can read one kind.
    pub name: String,
}

/// A stored value and its version, which grows with every write of the key and never repeats, not even after a delete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The bytes.
    pub value: Bytes,
    /// The version of this write.
    pub version: u64,
}

/// What a write demands of the present state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Anything.
    Any,
    /// The key must not exist.
    Absent,
    /// The key must have exactly this version.
    Version(u64),
}

/// One change of a batch.
#[derive(Clone, Debug)]
pub enum Write {
    /// Sets a value, for ever or for `ttl`.
    Put {
        /// Within the batch's slot.
        name: String,
        /// The bytes.
        value: Bytes,
        /// How long it lives; `None` is for ever.
        ttl: Option<Duration>,
        /// The condition.
        expect: Expect,
    },
    /// Removes a value; removing nothing is fine under `Expect::Any`.
    Delete {
        /// Within the batch's slot.
        name: String,
        /// The condition.
        expect: Expect,
    },
    /// Changes nothing, but the batch fails unless the condition holds.
    Check {
        /// Within the batch's slot.
        name: String,
        /// The condition.
        expect: Expect,
    },
}

/// Changes of one slot that happen together or not at all, durably, before `commit` returns.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The slot of every name.
    pub slot: Slot,
    /// A lock of the same slot that must still be held with this fencing number.
    pub fence: Option<Hold>,
    /// The changes.
    pub writes: Vec<Write>,
}

/// A held lock. The number grows with every holder, so that a late write of an earlier one can be refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// The lock.
    pub key: Key,
    /// Who holds it: random, unguessable.
    pub owner: String,
    /// The fencing number.
    pub fence: u64,
}

/// An item taken from a queue under a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimed {
    /// The item's id, fixed at `push`.
    pub id: String,
    /// Its bytes.
    pub value: Bytes,
    /// How often it was claimed, this time included.
    pub attempt: u32,
    /// Proof of the lease, for `settle`.
    pub lease: String,
}

/// What becomes of a claimed item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settle {
    /// Done: gone for ever.
    Done,
    /// Again, not before this time from now.
    Retry(Duration),
}

/// The answer of a rate bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spent {
    /// Whether the call may go on.
    pub allowed: bool,
    /// Tokens left.
    pub remaining: u32,
    /// Time until one more is there; zero when allowed.
    pub wait: Duration,
}

/// Names of a slot that one `lasting` looks at, at most.
pub const LOOKED_AT: usize = 4_096;

/// A part of what lives for ever in a slot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lasting {
    /// Names and bytes, in byte order of names.
    pub entries: Vec<(String, Bytes)>,
    /// The name to go on after; none at the end.
    pub next: Option<String>,
}

/// How the backend is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// For people: backend, version, role.
    pub description: String,
    /// What the operator should mend, in sentences; empty when all is well.
    pub warnings: Vec<String>,
}

/// What a store can answer instead.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// An expectation did not hold; nothing was written.
    #[error("the state has changed: {0}")]
    Conflict(String),
    /// The lock of the batch is no longer held; nothing was written.
    #[error("the lock is no longer held")]
    Fenced,
    /// The backend did not answer or refused; the write may or may not have happened.
    #[error("the store does not answer: {0}")]
    Unavailable(String),
    /// The backend is set up in a way that would lose data; start-up must end.
    #[error("{0}")]
    Refused(String),
    /// Another process has it open; it can be had when that one ends.
    #[error("{0}")]
    InUse(String),
    /// A stored value is not what the repository wrote.
    #[error("a stored value is damaged: {0}")]
    Damaged(String),
    /// A stored value is whole, but not of a form that this release reads.
    #[error("a stored value is of another release: {0}")]
    Later(String),
}

impl StoreError {
    /// The row of the error table it becomes.
    pub fn code(&self) -> crate::error::Code {
        use crate::error::Code;
        match self {
            StoreError::Conflict(_) | StoreError::Fenced => Code::Conflict,
            StoreError::Unavailable(_) | StoreError::Refused(_) | StoreError::InUse(_) => Code::StoreUnavailable,
            StoreError::Damaged(_) => Code::Internal,
            StoreError::Later(_) => Code::LaterRelease,
        }
    }
}

/// What a caller is told of a record that this release cannot read.
pub const LATER: &str =
    "A later release of the gateway wrote what this needs, and this node cannot read it; nothing was changed.";

impl From<StoreError> for crate::error::Error {
    fn from(error: StoreError) -> Self {
        let detail = match &error {
            StoreError::Conflict(name) => format!(
                "{} was changed by somebody else at the same time; nothing of this request was written. Read it again and repeat \
                 the change.",
                repo::in_words(name)
            ),
            StoreError::Fenced => {
                "The lock this change was made under has ended; nothing of it was written. Send the request again.".to_owned()
            }
            StoreError::Later(_) => LATER.to_owned(),
            _ => "The store could not do its part.".to_owned(),
        };
        crate::error::Error::new(error.code(), detail).because(error)
    }
}

/// The nine verbs. Values, locks, queues and buckets of one name do not meet: each verb has names of its own.
///
/// `Unavailable` from a verb that writes means that it may have happened, now or, where a server was stalled, shortly
/// after; read again, and write with `Expect::Version`, so that a late write cannot overtake.
#[async_trait]
pub trait Store: Send + Sync {
    /// The value now, or none.
    async fn get(&self, key: &Key) -> Result<Option<Entry>, StoreError>;

    /// Up to `limit` live entries of the slot whose names start with `prefix` and sort after `after`, in byte order of names.
    async fn scan(
        &self,
        slot: &Slot,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Entry)>, StoreError>;

    /// All changes or none, durable when it returns; the new version of each write in order (0 for deletes and checks).
    /// Every expectation looks at the state before the batch; of several writes of one name the last counts. What has a
    /// ttl may be lost with the server's memory.
    async fn commit(&self, batch: Batch) -> Result<Vec<u64>, StoreError>;

    /// Takes the lock for `ttl` unless somebody holds it.
    async fn hold(&self, key: &Key, ttl: Duration) -> Result<Option<Hold>, StoreError>;

    /// Prolongs a lock that is still ours; false when it is not.
    async fn renew(&self, hold: &Hold, ttl: Duration) -> Result<bool, StoreError>;

    /// Gives the lock back if it is still ours.
    async fn release(&self, hold: &Hold) -> Result<(), StoreError>;

    /// Adds an item to a queue, durably; the same id twice is one item (the first), until it is done. While it waits it is due at
    /// the earlier of both times; while it is claimed nothing changes.
    async fn push(&self, queue: &Key, id: &str, value: Bytes, delay: Duration) -> Result<(), StoreError>;

    /// Takes up to `limit` due items, the longest due first, for `lease`; a lease that ends gives the item back.
    async fn claim(&self, queue: &Key, lease: Duration, limit: usize) -> Result<Vec<Claimed>, StoreError>;

    /// Ends a lease; false when it had ended already.
    async fn settle(&self, queue: &Key, item: &Claimed, outcome: Settle) -> Result<bool, StoreError>;

    /// Takes one token from a bucket of `capacity` that refills evenly over `period`; a refused call costs nothing.
    async fn spend(&self, bucket: &Key, capacity: u32, period: Duration) -> Result<Spent, StoreError>;

    /// Every slot that holds an entry, each once, in no order; one whose last entry has ended may be among them.
    async fn slots(&self) -> Result<Vec<Slot>, StoreError>;

    /// What of a slot has no ttl, of the next [`LOOKED_AT`] names after one of them. What is read at once is of one moment.
    async fn lasting(&self, slot: &Slot, after: Option<&str>) -> Result<Lasting, StoreError>;

    /// Whether other nodes may work on the same state.
    fn is_shared(&self) -> bool {
        true
    }

    /// A real round trip to the backend.
    async fn health(&self) -> Result<Health, StoreError>;
}
