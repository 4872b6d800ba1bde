//! Sealed copies of what a vendor said in one visit, in the account's slot, for vendors that cannot page.
//!
//! The manifest is written last: where it is, all chunks are. Everything lives at least `ttl` after the last `touch`.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use super::{account_slot, batch, key};
use crate::{
    model::AccountId,
    store::{Expect, Store, StoreError, Write},
};

/// The largest chunk, sealed.
pub const CHUNK: usize = 256 * 1024;
const KIND: &str = "snapshot/";
/// Chunks written at once.
const TOGETHER: usize = 8;

/// The snapshots of all accounts.
#[derive(Clone)]
pub struct Snapshots {
    store: Arc<dyn Store>,
}

/// Sorts behind every name of the snapshot.
fn past(snapshot: &str) -> String {
    format!("{KIND}{snapshot}/~")
}

fn chunk_name(snapshot: &str, index: usize) -> String {
    format!("snapshot/{snapshot}/{index:06}")
}

fn manifest_name(snapshot: &str) -> String {
    format!("snapshot/{snapshot}/manifest")
}

/// Lives a quarter of the time; while it is there, nothing needs to be written anew.
fn fresh_name(snapshot: &str) -> String {
    format!("snapshot/{snapshot}/fresh")
}

fn lease(name: String, value: Bytes, ttl: Duration, expect: Expect) -> Write {
    Write::Put { name, value, ttl: Some(ttl), expect }
}

impl Snapshots {
    /// Over any backend.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store }
    }

    /// Stores a snapshot: its chunks, then its manifest, whose content is the caller's.
    pub async fn put(
        &self,
        account: AccountId,
        snapshot: &str,
        manifest: &[u8],
        chunks: Vec<Bytes>,
        ttl: Duration,
    ) -> Result<(), StoreError> {
        if chunks.iter().any(|chunk| chunk.len() > CHUNK) {
            return Err(StoreError::Refused(format!("A snapshot chunk is larger than {CHUNK} bytes.")));
        }
        let slot = account_slot(account);
        let life = ttl + ttl / 4;
        let mut head = u32::try_from(chunks.len()).unwrap_or(u32::MAX).to_be_bytes().to_vec();
        head.extend_from_slice(manifest);
        let named = chunks.into_iter().enumerate().map(|(index, chunk)| (chunk_name(snapshot, index), chunk));
        let mut writes: Vec<Write> = named.map(|(name, chunk)| lease(name, chunk, life, Expect::Any)).collect();
        while writes.len() > TOGETHER {
            let rest = writes.split_off(TOGETHER);
            self.store.commit(batch(slot.clone(), writes)).await?;
            writes = rest;
        }
        self.store.commit(batch(slot.clone(), writes)).await?;
        let last = vec![
            lease(manifest_name(snapshot), Bytes::from(head), life, Expect::Any),
            lease(fresh_name(snapshot), Bytes::new(), ttl / 4, Expect::Any),
        ];
        self.store.commit(batch(slot, last)).await.map(|_| ())
    }

    /// What the caller stored as manifest; none when the snapshot is gone or not whole.
    pub async fn manifest(&self, account: AccountId, snapshot: &str) -> Result<Option<Bytes>, StoreError> {
        let found = self.store.get(&key(account_slot(account), manifest_name(snapshot))).await?;
        found.map(|entry| split(&entry.value).map(|(_, manifest)| manifest)).transpose()
    }

    /// One chunk.
    pub async fn get_chunk(&self, account: AccountId, snapshot: &str, index: usize) -> Result<Option<Bytes>, StoreError> {
        let found = self.store.get(&key(account_slot(account), chunk_name(snapshot, index))).await?;
        Ok(found.map(|entry| entry.value))
    }

    /// The names of the account's snapshots after one of them, in order.
    pub async fn names(&self, account: AccountId, after: Option<&str>, limit: usize) -> Result<Vec<String>, StoreError> {
        let (slot, mut names) = (account_slot(account), Vec::new());
        let mut after = after.map(past);
        while names.len() < limit {
            // One chunk of each is met, the others are passed.
            let found = self.store.scan(&slot, KIND, after.as_deref(), 1).await?;
            let Some(name) = found.first().and_then(|(name, _)| name[KIND.len()..].split('/').next()) else { break };
            after = Some(past(name));
            names.push(name.to_owned());
        }
        Ok(names)
    }

    /// Lets the snapshot live at least `ttl` from now; false when it is gone. Cheap while it was touched a short time ago.
    pub async fn touch(&self, account: AccountId, snapshot: &str, ttl: Duration) -> Result<bool, StoreError> {
        let slot = account_slot(account);
        let Some(head) = self.store.get(&key(slot.clone(), manifest_name(snapshot))).await? else {
            return Ok(false);
        };
        if self.store.get(&key(slot.clone(), fresh_name(snapshot))).await?.is_some() {
            return Ok(true);
        }
        let count = split(&head.value)?.0;
        let names = (0..count).map(|index| chunk_name(snapshot, index)).chain([manifest_name(snapshot)]);
        for name in names {
            let Some(entry) = self.store.get(&key(slot.clone(), name.clone())).await? else {
                return Ok(false);
            };
            let write = lease(name, entry.value, ttl + ttl / 4, Expect::Version(entry.version));
            match self.store.commit(batch(slot.clone(), vec![write])).await {
                // Somebody else touches it at the same time: as good.
                Ok(_) | Err(StoreError::Conflict(_)) => {}
                Err(error) => return Err(error),
            }
        }
        let fresh = lease(fresh_name(snapshot), Bytes::new(), ttl / 4, Expect::Any);
        self.store.commit(batch(slot, vec![fresh])).await.map(|_| true)
    }

    /// Remembers for a short time which snapshot a visit made, so that another resource is read from it too.
    pub async fn put_recent(&self, account: AccountId, name: &str, value: Bytes, ttl: Duration) -> Result<(), StoreError> {
        let write = lease(format!("recent/{name}"), value, ttl, Expect::Any);
        self.store.commit(batch(account_slot(account), vec![write])).await.map(|_| ())
    }

    /// What `put_recent` remembered, while it lives.
    pub async fn recent(&self, account: AccountId, name: &str) -> Result<Option<Bytes>, StoreError> {
        Ok(self.store.get(&key(account_slot(account), format!("recent/{name}"))).await?.map(|entry| entry.value))
    }
}

fn split(head: &Bytes) -> Result<(usize, Bytes), StoreError> {
    let count = head.first_chunk::<4>().ok_or_else(|| StoreError::Damaged("a snapshot's manifest is cut".into()))?;
    Ok((usize::try_from(u32::from_be_bytes(*count)).unwrap_or(usize::MAX), head.slice(4..)))
}
