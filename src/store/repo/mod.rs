//! Typed repositories, written once above the waist. Records are JSON; secrets in them are sealed before they come here.
//!
//! What belongs to one account lives in the account's slot and commits together. Lists are indexes in the slot of their
//! environment: the entry is written before the record and removed after it, so a record is never missing from its list;
//! readers pass over entries without a record, `sweep_index` removes them.
//!
//! A release reads what the one before it wrote, and writes what that one reads while its nodes may still run: readers pass over
//! members of a record that they do not know, and new members may be missing. Whoever changes a record carries along those that
//! it does not know (`model::Later`). What it cannot read at all is `StoreError::Later`, and a list says that it lacks it.

mod accounts;
mod audit;
mod authorizations;
pub mod backup;
mod blobs;
mod buckets;
mod data_keys;
mod events;
mod idempotency;
mod index;
mod installation;
mod installs;
mod links;
mod log;
mod queues;
mod quotas;
mod snapshots;
mod tokens;

use bytes::Bytes;
use serde::{
    Serialize,
    de::{DeserializeOwned, IgnoredAny},
};

pub use self::{
    accounts::{Accounts, Carried, Renewed, TOKEN_LEASE, TokenIntent},
    audit::{Append, Audit},
    authorizations::Authorizations,
    blobs::Blobs,
    buckets::Buckets,
    data_keys::{DataKeys, KeyUse, NewKey},
    events::{EventPlace, Events, Logged},
    idempotency::Idempotency,
    installation::{EndedEnvironment, Environment, Installation, KnownRing, STORED_FORMAT},
    installs::Installs,
    links::Links,
    log::{Log, PieceName},
    queues::{Queue, Queues},
    quotas::Quotas,
    snapshots::{CHUNK, Snapshots},
    tokens::{TokenRecord, Tokens},
};
use super::{Batch, Expect, Key, Slot, StoreError, Write};
use crate::model::{AccountId, EnvironmentId};

/// What a caller knows the object by that this name is of.
pub(super) fn in_words(name: &str) -> &'static str {
    match name {
        accounts::RECORD | accounts::DATA_KEY | accounts::SWEPT | data_keys::USE => "The account",
        tokens::RECORD => "The API token",
        _ if name.starts_with(installs::KIND) => "The installed connector",
        _ if name.starts_with(installation::ENVIRONMENT) => "The environment",
        links::RECORD => "The link token",
        installation::SYSTEM_KEYS => "The set of system keys",
        _ => "The object",
    }
}

/// Where everything of an account lives.
pub fn account_slot(account: AccountId) -> Slot {
    Slot::new(account.to_string())
}

/// Where the lists of an environment live.
pub fn environment_slot(environment: EnvironmentId) -> Slot {
    Slot::new(format!("env:{environment}"))
}

fn key(slot: Slot, name: impl Into<String>) -> Key {
    Key { slot, name: name.into() }
}

fn batch(slot: Slot, writes: Vec<Write>) -> Batch {
    Batch { slot, fence: None, writes }
}

fn put(name: impl Into<String>, value: Bytes, expect: Expect) -> Write {
    Write::Put { name: name.into(), value, ttl: None, expect }
}

fn delete(name: impl Into<String>) -> Write {
    Write::Delete { name: name.into(), expect: Expect::Any }
}

fn encode<T: Serialize>(value: &T) -> Result<Bytes, StoreError> {
    serde_json::to_vec(value)
        .map(Bytes::from)
        .map_err(|error| StoreError::Damaged(format!("a record cannot be written: {error}")))
}

/// The error names the record, never its content. JSON that is whole is what another release may have written.
fn decode<T: DeserializeOwned>(bytes: &[u8], what: &str) -> Result<T, StoreError> {
    serde_json::from_slice(bytes).map_err(|error| {
        let why = format!("{what} is not a record of this version (line {}, column {})", error.line(), error.column());
        match serde_json::from_slice::<IgnoredAny>(bytes) {
            Ok(_) => StoreError::Later(why),
            Err(_) => StoreError::Damaged(why),
        }
    })
}

/// Records of a list, and how many more there are that this release cannot read.
#[derive(Debug)]
pub struct Listed<T> {
    /// Those that it can.
    pub records: Vec<T>,
    /// The others.
    pub unreadable: usize,
}

impl<T> Listed<T> {
    /// Counts what a later release wrote; any other failure is one of the whole list.
    fn of(read: impl Iterator<Item = Result<T, StoreError>>) -> Result<Self, StoreError> {
        let mut listed = Self { records: Vec::new(), unreadable: 0 };
        for record in read {
            match record {
                Ok(record) => listed.records.push(record),
                Err(StoreError::Later(why)) => {
                    tracing::warn!(cause = why, "a record is left out of a list");
                    listed.unreadable += 1;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(listed)
    }

    /// The records where they are all, for whoever must not miss one.
    pub fn whole(self) -> Result<Vec<T>, StoreError> {
        match self.unreadable {
            0 => Ok(self.records),
            count => Err(StoreError::Later(format!("{count} of the records are not of this version"))),
        }
    }
}

fn single(versions: &[u64]) -> u64 {
    versions.first().copied().unwrap_or_default()
}
