//! What there is once: environments and the sealed system keys, in the slot `rollcall`.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Listed, batch, decode, delete, encode, key, put, single};
use crate::{
    model::{EnvironmentId, Later},
    store::{Entry, Expect, Hold, Slot, Store, StoreError, Write},
};

pub(super) const SLOT: &str = "rollcall";
pub(super) const SYSTEM_KEYS: &str = "system-keys";
pub(super) const ENVIRONMENT: &str = "environment/";
const NAME: &str = "environment-name/";
const ENDED: &str = "ended-environment/";
const DEFAULT: &str = "default";
const FORMAT: &str = "format";
pub(super) const RESTORING: &str = "restoring";
/// More environments than anybody has.
const MOST: usize = 10_000;
const RING: &str = "key-ring";
/// How long one node may take to note a change of the ring.
const RING_LEASE: Duration = Duration::from_secs(15);

/// The form this release stores records in, and the newest it reads. It grows only where a release before could not pass over
/// what is new.
pub const STORED_FORMAT: u32 = 1;

/// A wall between tenants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Environment {
    /// What tokens and accounts refer to.
    pub id: EnvironmentId,
    /// For people; unique.
    pub name: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When its name changed last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub updated_at: Option<Timestamp>,
    /// Members that a later release wrote.
    #[serde(flatten)]
    pub later: Later,
}

/// The key ring as the last node took it up that saw it changed: no key, only which there are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownRing {
    /// The id of the key that writes.
    pub primary: String,
    /// Every key's id, and when it was made.
    pub keys: BTreeMap<String, Timestamp>,
}

/// An environment that is gone, and of which something may be left that has its own time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndedEnvironment {
    /// What it was.
    pub id: EnvironmentId,
    /// When it was ended.
    pub ended_at: Timestamp,
}

/// The installation itself.
#[derive(Clone)]
pub struct Installation {
    store: Arc<dyn Store>,
}

impl Installation {
    /// Over any backend.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store }
    }

    /// Whether nothing was ever set up here; only then may keys be made.
    pub async fn is_empty(&self) -> Result<bool, StoreError> {
        Ok(self.store.scan(&Slot::new(SLOT), "", None, 1).await?.is_empty())
    }

    /// Refuses a store that this release cannot serve: one of a newer form, or one that a restore has not finished.
    pub async fn check(&self) -> Result<(), StoreError> {
        if self.restoring().await?.is_some() {
            return Err(StoreError::Refused(
                "A restore into this store was begun and has not ended. Run `rollcall restore` again with the same files, or give \
                 it an empty store."
                    .into(),
            ));
        }
        // Before there was a number, it was 1.
        let format = self.store.get(&key(Slot::new(SLOT), FORMAT)).await?;
        let format: u32 = format.map_or(Ok(1), |entry| decode(&entry.value, "the store's format"))?;
        if format <= STORED_FORMAT {
            return Ok(());
        }
        Err(StoreError::Refused(format!(
            "The store has format {format}; this release ({}) reads format {STORED_FORMAT} and older ones. Run the release that \
             wrote it, or a newer one.",
            env!("CARGO_PKG_VERSION")
        )))
    }

    /// Notes the form of a new store; one that has a form keeps it while nodes of the release before may still run.
    pub async fn note_format(&self) -> Result<(), StoreError> {
        if self.store.get(&key(Slot::new(SLOT), FORMAT)).await?.is_some() {
            return Ok(());
        }
        let write = put(FORMAT, encode(&STORED_FORMAT)?, Expect::Absent);
        match self.store.commit(batch(Slot::new(SLOT), vec![write])).await {
            // Another node was faster.
            Ok(_) | Err(StoreError::Conflict(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// What is being restored into this store.
    pub async fn restoring(&self) -> Result<Option<String>, StoreError> {
        let found = self.store.get(&key(Slot::new(SLOT), RESTORING)).await?;
        found.map(|entry| decode(&entry.value, "the mark of a restore")).transpose()
    }

    /// From now on the store cannot be served until the restore has ended.
    pub async fn begin_restore(&self, what: &str) -> Result<(), StoreError> {
        self.store.commit(batch(Slot::new(SLOT), vec![put(RESTORING, encode(&what)?, Expect::Any)])).await.map(|_| ())
    }

    /// Puts the system keys back and lets the store be served.
    pub async fn end_restore(&self, system_keys: Bytes) -> Result<(), StoreError> {
        let writes = vec![put(SYSTEM_KEYS, system_keys, Expect::Any), delete(RESTORING)];
        self.store.commit(batch(Slot::new(SLOT), writes)).await.map(|_| ())
    }

    /// The environment `default`, made by the first call; nodes that start together agree on one.
    pub async fn default_environment(&self, now: Timestamp) -> Result<Environment, StoreError> {
        if let Some(found) = self.environment_named(DEFAULT).await? {
            return Ok(found);
        }
        let made = Environment {
            id: EnvironmentId::generate(),
            name: DEFAULT.into(),
            created_at: now,
            updated_at: None,
            later: Later::default(),
        };
        match self.create_environment(&made).await {
            Err(StoreError::Conflict(_)) => {
                let found = self.environment_named(DEFAULT).await?;
                found.ok_or_else(|| StoreError::Damaged("the default environment has a name but no record".into()))
            }
            outcome => outcome.map(|()| made),
        }
    }

    /// Stores a new environment; a name or id that exists is `Conflict`, and so is the id of one that has not quite gone.
    pub async fn create_environment(&self, environment: &Environment) -> Result<(), StoreError> {
        let name = put(format!("{NAME}{}", environment.name), encode(&environment.id)?, Expect::Absent);
        let record = put(format!("{ENVIRONMENT}{}", environment.id), encode(environment)?, Expect::Absent);
        let unended = Write::Check { name: format!("{ENDED}{}", environment.id), expect: Expect::Absent };
        self.store.commit(batch(Slot::new(SLOT), vec![name, record, unended])).await.map(|_| ())
    }

    /// Gives an environment another name, with what else changes; `Conflict` when the name is taken or the record is no longer
    /// of this version.
    pub async fn rename_environment(&self, before: &Environment, now: &Environment, expected: u64) -> Result<(), StoreError> {
        let record = put(format!("{ENVIRONMENT}{}", now.id), encode(now)?, Expect::Version(expected));
        let mut writes = vec![record];
        if before.name != now.name {
            writes.push(put(format!("{NAME}{}", now.name), encode(&now.id)?, Expect::Absent));
            writes.push(delete(format!("{NAME}{}", before.name)));
        }
        self.store.commit(batch(Slot::new(SLOT), writes)).await.map(|_| ())
    }

    /// Removes an environment and notes that it was ended; `Conflict` when its record is no longer of this version.
    pub async fn delete_environment(
        &self,
        environment: &Environment,
        expected: u64,
        ended_at: Timestamp,
    ) -> Result<(), StoreError> {
        let ended = EndedEnvironment { id: environment.id, ended_at };
        let name = format!("{ENVIRONMENT}{}", environment.id);
        let record = Write::Delete { name, expect: Expect::Version(expected) };
        let note = put(format!("{ENDED}{}", environment.id), encode(&ended)?, Expect::Any);
        let writes = vec![record, delete(format!("{NAME}{}", environment.name)), note];
        self.store.commit(batch(Slot::new(SLOT), writes)).await.map(|_| ())
    }

    /// The environment of this id and the version of its record.
    pub async fn environment_versioned(&self, id: EnvironmentId) -> Result<Option<(Environment, u64)>, StoreError> {
        let found = self.store.get(&key(Slot::new(SLOT), format!("{ENVIRONMENT}{id}"))).await?;
        found.map(|entry| Ok((decode(&entry.value, "an environment")?, entry.version))).transpose()
    }

    /// Whether there is one of this id, whatever release wrote it.
    pub async fn has_environment(&self, id: EnvironmentId) -> Result<bool, StoreError> {
        Ok(self.store.get(&key(Slot::new(SLOT), format!("{ENVIRONMENT}{id}"))).await?.is_some())
    }

    /// The environment of this id.
    pub async fn environment(&self, id: EnvironmentId) -> Result<Option<Environment>, StoreError> {
        Ok(self.environment_versioned(id).await?.map(|(environment, _)| environment))
    }

    /// The environment of this name.
    pub async fn environment_named(&self, name: &str) -> Result<Option<Environment>, StoreError> {
        match self.store.get(&key(Slot::new(SLOT), format!("{NAME}{name}"))).await? {
            Some(entry) => self.environment(decode(&entry.value, "an environment's name")?).await,
            None => Ok(None),
        }
    }

    /// Every environment, in id order.
    pub async fn environments(&self) -> Result<Vec<Environment>, StoreError> {
        self.readable().await?.whole()
    }

    /// Every environment that this release can read, in id order.
    pub async fn readable(&self) -> Result<Listed<Environment>, StoreError> {
        let entries = self.store.scan(&Slot::new(SLOT), ENVIRONMENT, None, MOST).await?;
        Listed::of(entries.iter().map(|(_, entry)| decode(&entry.value, "an environment")))
    }

    /// The ids of every environment, in order, whether this release can read its record or not.
    pub async fn environment_ids(&self) -> Result<Vec<EnvironmentId>, StoreError> {
        let entries = self.store.scan(&Slot::new(SLOT), ENVIRONMENT, None, MOST).await?;
        let id = |name: &str| name[ENVIRONMENT.len()..].parse();
        let odd = |_| StoreError::Damaged("an environment has an odd name".into());
        entries.iter().map(|(name, _)| id(name).map_err(odd)).collect()
    }

    /// The ring that is known, and the version of that knowledge.
    pub async fn known_ring(&self) -> Result<Option<(KnownRing, u64)>, StoreError> {
        let found = self.store.get(&key(Slot::new(SLOT), RING)).await?;
        found.map(|entry| Ok((decode(&entry.value, "the known key ring")?, entry.version))).transpose()
    }

    /// From now on this ring is known; `Conflict` when another one is than that of this version.
    pub async fn put_known_ring(&self, ring: &KnownRing, before: Option<u64>) -> Result<(), StoreError> {
        let write = put(RING, encode(ring)?, before.map_or(Expect::Absent, Expect::Version));
        self.store.commit(batch(Slot::new(SLOT), vec![write])).await.map(|_| ())
    }

    /// The right to note changes of the ring, unless another node has it.
    pub async fn hold_ring(&self) -> Result<Option<Hold>, StoreError> {
        self.store.hold(&key(Slot::new(SLOT), RING), RING_LEASE).await
    }

    /// Gives that right back.
    pub async fn release(&self, hold: &Hold) -> Result<(), StoreError> {
        self.store.release(hold).await
    }

    /// Environments that were ended and of which something may be left, in id order.
    pub async fn ended(&self) -> Result<Vec<EndedEnvironment>, StoreError> {
        let entries = self.store.scan(&Slot::new(SLOT), ENDED, None, 10_000).await?;
        entries.iter().map(|(_, entry)| decode(&entry.value, "the note of an environment's end")).collect()
    }

    /// Nothing is left of an environment that was ended.
    pub async fn forget_ended(&self, id: EnvironmentId) -> Result<(), StoreError> {
        self.store.commit(batch(Slot::new(SLOT), vec![delete(format!("{ENDED}{id}"))])).await.map(|_| ())
    }

    /// The sealed system keys and their version.
    pub async fn system_keys(&self) -> Result<Option<Entry>, StoreError> {
        self.store.get(&key(Slot::new(SLOT), SYSTEM_KEYS)).await
    }

    /// Stores the first system keys; `Conflict` when another node was faster, whose keys are then the ones to use.
    pub async fn put_system_keys(&self, sealed: &[u8]) -> Result<(), StoreError> {
        self.write_system_keys(sealed, Expect::Absent).await.map(|_| ())
    }

    /// Replaces them, sealed anew under another root key; `Conflict` when they are no longer of this version.
    pub async fn replace_system_keys(&self, sealed: &[u8], expected: u64) -> Result<u64, StoreError> {
        self.write_system_keys(sealed, Expect::Version(expected)).await
    }

    async fn write_system_keys(&self, sealed: &[u8], expect: Expect) -> Result<u64, StoreError> {
        let writes = vec![put(SYSTEM_KEYS, Bytes::copy_from_slice(sealed), expect)];
        Ok(single(&self.store.commit(batch(Slot::new(SLOT), writes)).await?))
    }
}
