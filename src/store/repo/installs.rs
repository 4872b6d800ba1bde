//! What environments say of connectors: one record for each connector that anything is said of, in the environment's slot.

use std::sync::Arc;

use super::{Listed, batch, decode, delete, encode, environment_slot, key, put, single};
use crate::{
    model::{EnvironmentId, Install, Slug},
    store::{Entry, Expect, Store, StoreError},
};

pub(super) const KIND: &str = "install/";
/// More connectors than anybody has.
const MOST: usize = 10_000;

/// The installed connectors of all environments.
#[derive(Clone)]
pub struct Installs {
    store: Arc<dyn Store>,
}

impl Installs {
    /// Over any backend.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store }
    }

    /// The record of one connector and its version; none when nothing is said of it.
    pub async fn get(&self, environment: EnvironmentId, connector: &Slug) -> Result<Option<(Install, u64)>, StoreError> {
        let found = self.store.get(&key(environment_slot(environment), format!("{KIND}{connector}"))).await?;
        found.map(|entry| Ok((decode(&entry.value, "an installed connector")?, entry.version))).transpose()
    }

    /// Every record of the environment, by slug; none where this release cannot read it.
    pub async fn readable(&self, environment: EnvironmentId) -> Result<Vec<(Slug, Option<Install>)>, StoreError> {
        let entries = self.store.scan(&environment_slot(environment), KIND, None, MOST).await?;
        let odd = |_| StoreError::Damaged("an installed connector has an odd name".into());
        let read = |(name, entry): &(String, Entry)| {
            let slug = name[KIND.len()..].parse().map_err(odd)?;
            Ok((slug, Listed::of(std::iter::once(decode(&entry.value, "an installed connector")))?.records.pop()))
        };
        entries.iter().map(read).collect()
    }

    /// Stores the record if it still has this version, or if there is none; `Conflict` when somebody was faster.
    pub async fn put(&self, install: &Install, expected: Option<u64>) -> Result<u64, StoreError> {
        let expect = expected.map_or(Expect::Absent, Expect::Version);
        let writes = vec![put(format!("{KIND}{}", install.connector), encode(install)?, expect)];
        Ok(single(&self.store.commit(batch(environment_slot(install.environment), writes)).await?))
    }

    /// Removes every record of an environment, for its end.
    pub async fn clear(&self, environment: EnvironmentId) -> Result<(), StoreError> {
        let entries = self.store.scan(&environment_slot(environment), KIND, None, MOST).await?;
        if entries.is_empty() {
            return Ok(());
        }
        let writes = entries.into_iter().map(|(name, _)| delete(name)).collect();
        self.store.commit(batch(environment_slot(environment), writes)).await.map(|_| ())
    }
}
