//! The audit log: numbered entries, the head that says how many there are, and what has begun and not ended, all opaque here and
//! in a slot of each environment, so that an entry is written, the head moved and its beginning removed in one step.

use std::{ops::Range, sync::Arc, time::Duration};

use bytes::Bytes;
use uuid::Uuid;

use super::{batch, delete, key, put};
use crate::{
    model::EnvironmentId,
    store::{Entry, Expect, Slot, Store, StoreError, Write},
};

const HEAD: &str = "head";
const ENTRY: &str = "entry/";
const OPEN: &str = "open/";
/// Whose turn it is to append, while there is somebody whom the others were always faster than.
const TURN: &str = "turn";
/// How long the others wait for whoever has the turn and does not use it.
const TURN_LIFE: Duration = Duration::from_secs(3);
/// How long a beginning is kept for whoever writes its end. What lives for a while only need not be on disk before a write goes
/// on: where the write itself is, what was sent before it is too.
const OPEN_LIFE: Duration = Duration::from_secs(366 * 24 * 60 * 60);
/// What of a log goes at once, when all of it does.
const CLEARED: usize = 256;

/// The audit logs of all environments.
#[derive(Clone)]
pub struct Audit {
    store: Arc<dyn Store>,
}

/// Entries to be written behind the head of this version, and what goes with it.
pub struct Append {
    /// The number of the first.
    pub first: u64,
    /// The entries.
    pub entries: Vec<Bytes>,
    /// The head after them.
    pub head: Bytes,
    /// The version of the head before; none while there is none.
    pub expected: Option<u64>,
    /// Beginnings that end, by id and version; one that is gone is a conflict.
    pub ended: Vec<(Uuid, u64)>,
    /// Entries that are old enough to go.
    pub expired: Range<u64>,
    /// The turn, which ends with this; without it nobody else may have one.
    pub turn: Option<u64>,
}

fn slot(environment: EnvironmentId) -> Slot {
    Slot::new(format!("audit:{environment}"))
}

/// Numbers in one length, so that names sort as they do.
fn entry_name(number: u64) -> String {
    format!("{ENTRY}{number:016}")
}

fn open_name(id: Uuid) -> String {
    format!("{OPEN}{id}")
}

impl Audit {
    /// Over any backend.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store }
    }

    /// Whether other nodes append too.
    pub fn is_shared(&self) -> bool {
        self.store.is_shared()
    }

    /// The head and its version.
    pub async fn head(&self, environment: EnvironmentId) -> Result<Option<Entry>, StoreError> {
        self.store.get(&key(slot(environment), HEAD)).await
    }

    /// Notes that something begins; answers the note's version.
    pub async fn open(&self, environment: EnvironmentId, id: Uuid, value: Bytes) -> Result<u64, StoreError> {
        let write = Write::Put { name: open_name(id), value, ttl: Some(OPEN_LIFE), expect: Expect::Absent };
        Ok(super::single(&self.store.commit(batch(slot(environment), vec![write])).await?))
    }

    /// Up to `limit` of what has begun and not ended, the oldest first.
    pub async fn opened(&self, environment: EnvironmentId, limit: usize) -> Result<Vec<(Uuid, Entry)>, StoreError> {
        let found = self.store.scan(&slot(environment), OPEN, None, limit).await?;
        Ok(found.into_iter().filter_map(|(name, entry)| Some((name[OPEN.len()..].parse().ok()?, entry))).collect())
    }

    /// Which beginning a conflict is about; none where it is about the head.
    pub fn conflicting(name: &str) -> Option<Uuid> {
        name.strip_prefix(OPEN)?.parse().ok()
    }

    /// Whether a conflict is about the turn.
    pub fn is_about_turn(name: &str) -> bool {
        name == TURN
    }

    /// Takes the turn to append, so that nobody else does before this one has or a little time is over; none where another has it.
    pub async fn take_turn(&self, environment: EnvironmentId) -> Result<Option<u64>, StoreError> {
        let write = Write::Put { name: TURN.to_owned(), value: Bytes::new(), ttl: Some(TURN_LIFE), expect: Expect::Absent };
        match self.store.commit(batch(slot(environment), vec![write])).await {
            Err(StoreError::Conflict(_)) => Ok(None),
            taken => Ok(Some(super::single(&taken?))),
        }
    }

    /// Writes all of it or nothing.
    pub async fn append(&self, environment: EnvironmentId, append: Append) -> Result<(), StoreError> {
        let Append { first, entries, head, expected, ended, expired, turn } = append;
        let mut writes = vec![put(HEAD, head, expected.map_or(Expect::Absent, Expect::Version))];
        let numbered = (first..).zip(entries);
        writes.extend(numbered.map(|(number, value)| put(entry_name(number), value, Expect::Any)));
        writes.extend(
            ended.into_iter().map(|(id, version)| Write::Delete { name: open_name(id), expect: Expect::Version(version) }),
        );
        writes.extend(expired.map(|number| delete(entry_name(number))));
        writes.push(match turn {
            Some(version) => Write::Delete { name: TURN.to_owned(), expect: Expect::Version(version) },
            None => Write::Check { name: TURN.to_owned(), expect: Expect::Absent },
        });
        self.store.commit(batch(slot(environment), writes)).await.map(|_| ())
    }

    /// Removes the whole log of an environment that was ended.
    pub async fn clear(&self, environment: EnvironmentId) -> Result<(), StoreError> {
        loop {
            let found = self.store.scan(&slot(environment), "", None, CLEARED).await?;
            if found.is_empty() {
                return Ok(());
            }
            let gone = found.into_iter().map(|(name, _)| delete(name)).collect();
            self.store.commit(batch(slot(environment), gone)).await?;
        }
    }

    /// Up to `limit` entries after a number, in order, as they lie there.
    pub async fn entries(&self, environment: EnvironmentId, after: u64, limit: usize) -> Result<Vec<(u64, Bytes)>, StoreError> {
        let found = self.store.scan(&slot(environment), ENTRY, Some(&entry_name(after)), limit).await?;
        Ok(found.into_iter().filter_map(|(name, entry)| Some((name[ENTRY.len()..].parse().ok()?, entry.value))).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_sort_as_numbers_do_and_conflicts_are_told_apart() {
        let names = [0, 1, 9, 10, 99, 1_000_000, 9_999_999_999_999_999].map(entry_name);
        assert!(names.is_sorted(), "{names:?}");
        let id = Uuid::now_v7();
        assert_eq!(Audit::conflicting(&open_name(id)), Some(id));
        assert_eq!([HEAD, TURN, &entry_name(1)].map(Audit::conflicting), [None; 3]);
    }
}
