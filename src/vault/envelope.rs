//! Sealing and opening, AES-256-GCM-SIV.
//!
//! Stored forms: a data key is `version | length of key id | key id | nonce | ciphertext and tag` (the id in clear, so that
//! rotation is counted without opening anything); a field is `version | nonce | ciphertext and tag`.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use arc_swap::ArcSwap;
use zeroize::Zeroizing;

use super::{
    KeyRing, OpenError,
    bound::Bound,
    cipher::{self, KEY_LEN, KeyBytes},
    seals::Seals,
};
use crate::model::{AccountId, EnvironmentId, Slug};

/// The first byte of everything sealed; another layout or cipher gets another number.
pub(super) const VERSION: u8 = 1;

/// Where a secret belongs; every part is bound to it.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The wall.
    pub environment: EnvironmentId,
    /// The account.
    pub account: AccountId,
    /// The connector.
    pub connector: &'a Slug,
    /// The link method.
    pub method: &'a str,
    /// The field, or `snapshot/…`, `cursor/…` for other sealed data of the account.
    pub field: &'a str,
    /// The link fields beside it: which header carries it, which company it is for; hashed.
    pub fields: &'a BTreeMap<String, String>,
    /// Where it may be sent; hashed.
    pub origins: &'a [String],
    /// The credential's generation.
    pub generation: u64,
}

impl Place<'_> {
    fn bound(&self) -> Bound {
        Bound::new("rollcall/field", VERSION)
            .part(self.environment.0.as_bytes())
            .part(self.account.0.as_bytes())
            .part(self.connector.as_str().as_bytes())
            .part(self.method.as_bytes())
            .part(self.field.as_bytes())
            .list(self.fields.iter().flat_map(|(name, value)| [name, value]))
            .list(self.origins)
            .part(&self.generation.to_be_bytes())
    }
}

/// Data keys before the present one that are remembered.
const FORMER: usize = 4;

/// One account's data key, unwrapped. Wiped when dropped.
pub struct DataKey {
    key: KeyBytes,
    /// Those before it, the latest first: they open what they sealed, and seal nothing.
    former: Vec<KeyBytes>,
    seals: Arc<AtomicU64>,
}

/// A data key in the place of another one, in the forms that are stored.
pub struct NewDataKey {
    /// Seals from now on, and opens what the ones before it sealed.
    pub key: DataKey,
    /// The key, wrapped under the ring's primary key.
    pub wrapped: Vec<u8>,
    /// The keys before it, sealed under it.
    pub former: Vec<u8>,
}

/// Wraps data keys under the ring's keys and seals fields under data keys.
pub struct Vault {
    ring: Arc<ArcSwap<KeyRing>>,
    seals: Seals,
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Vault").field("ring", &**self.ring.load()).finish()
    }
}

impl Vault {
    /// A vault over a ring that may be replaced while it runs.
    pub fn new(ring: Arc<ArcSwap<KeyRing>>) -> Self {
        Self { ring, seals: Seals::default() }
    }

    /// The ring as it is now.
    pub fn ring(&self) -> Arc<KeyRing> {
        self.ring.load_full()
    }

    /// A new data key for an account, and its wrapped form for the store (bound to environment and account).
    pub fn new_data_key(&self, environment: EnvironmentId, account: AccountId) -> (DataKey, Vec<u8>) {
        let key = KeyBytes::random();
        let wrapped = seal_with_ring(&self.ring.load(), data_key_bound(environment, account), key.bytes());
        (self.counted(environment, account, key, Vec::new()), wrapped)
    }

    /// A new data key in the place of `old`.
    pub fn replace_data_key(&self, environment: EnvironmentId, account: AccountId, old: &DataKey) -> NewDataKey {
        let (mut key, wrapped) = self.new_data_key(environment, account);
        let mut plain = Zeroizing::new(Vec::with_capacity(FORMER * KEY_LEN));
        for former in std::iter::once(&old.key).chain(&old.former).take(FORMER) {
            plain.extend_from_slice(former.bytes());
        }
        let former = cipher::seal(&key.key, former_bound(environment, account).as_bytes(), &plain);
        key.former = split_keys(&plain);
        NewDataKey { key, wrapped, former }
    }

    /// Unwraps a stored data key.
    pub fn data_key(&self, environment: EnvironmentId, account: AccountId, wrapped: &[u8]) -> Result<DataKey, OpenError> {
        self.data_key_with(environment, account, wrapped, None)
    }

    /// The same with the keys before it. Those that do not open are none: what they sealed has ended.
    pub fn data_key_with(
        &self,
        environment: EnvironmentId,
        account: AccountId,
        wrapped: &[u8],
        former: Option<&[u8]>,
    ) -> Result<DataKey, OpenError> {
        let plain = open_with_ring(&self.ring.load(), data_key_bound(environment, account), wrapped)?;
        let key = KeyBytes::copied(&plain).ok_or(OpenError::Damaged)?;
        let former = former.and_then(|sealed| cipher::open(&key, former_bound(environment, account).as_bytes(), sealed).ok());
        let former = former.map(|plain| split_keys(&plain)).unwrap_or_default();
        Ok(self.counted(environment, account, key, former))
    }

    /// Wraps a stored data key anew under the ring's primary key; none when it is already.
    pub fn rewrap(&self, environment: EnvironmentId, account: AccountId, wrapped: &[u8]) -> Result<Option<Vec<u8>>, OpenError> {
        let ring = self.ring.load();
        if split(wrapped)?.0 == ring.primary_id() {
            return Ok(None);
        }
        let plain = open_with_ring(&ring, data_key_bound(environment, account), wrapped)?;
        Ok(Some(seal_with_ring(&ring, data_key_bound(environment, account), &plain)))
    }

    /// What was sealed under each account's data key since it was last taken: of keys that sealed at least so much, and of
    /// those that are in memory no longer.
    pub fn take_seals(&self, at_least: u64) -> Vec<(EnvironmentId, AccountId, u64)> {
        self.seals.take(at_least)
    }

    fn counted(&self, environment: EnvironmentId, account: AccountId, key: KeyBytes, former: Vec<KeyBytes>) -> DataKey {
        DataKey { key, former, seals: self.seals.of(environment, account) }
    }
}

impl DataKey {
    /// Seals bytes to a place.
    pub fn seal(&self, place: Place<'_>, plain: &[u8]) -> Vec<u8> {
        self.seals.fetch_add(1, Ordering::Relaxed);
        let mut sealed = cipher::seal(&self.key, place.bound().as_bytes(), plain);
        sealed.insert(0, VERSION);
        sealed
    }

    /// Opens bytes sealed to the same place.
    pub fn open(&self, place: Place<'_>, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        let [VERSION, rest @ ..] = sealed else { return Err(OpenError::Damaged) };
        let bound = place.bound();
        let opened = cipher::open(&self.key, bound.as_bytes(), rest);
        match opened {
            Err(OpenError::Refused) => {
                let mut former = self.former.iter().filter_map(|key| cipher::open(key, bound.as_bytes(), rest).ok());
                former.next().ok_or(OpenError::Refused)
            }
            opened => opened,
        }
    }
}

/// The id of the root key that wrapped a data key or sealed the system keys; read without opening, so that a rotation can
/// count what is left to do.
pub fn wrapping_key_id(wrapped: &[u8]) -> Option<&str> {
    split(wrapped).ok().map(|(id, _)| id)
}

fn data_key_bound(environment: EnvironmentId, account: AccountId) -> Bound {
    Bound::new("rollcall/data-key", VERSION).part(environment.0.as_bytes()).part(account.0.as_bytes())
}

fn former_bound(environment: EnvironmentId, account: AccountId) -> Bound {
    Bound::new("rollcall/former-data-keys", VERSION).part(environment.0.as_bytes()).part(account.0.as_bytes())
}

fn split_keys(plain: &[u8]) -> Vec<KeyBytes> {
    plain.chunks(KEY_LEN).filter_map(KeyBytes::copied).collect()
}

/// Seals under the ring's primary key, its id in clear before the ciphertext and bound to it.
pub(super) fn seal_with_ring(ring: &KeyRing, bound: Bound, plain: &[u8]) -> Vec<u8> {
    let (id, key) = ring.primary();
    let sealed = cipher::seal(key, bound.part(id.as_bytes()).as_bytes(), plain);
    let mut out = Vec::with_capacity(2 + id.len() + sealed.len());
    out.push(VERSION);
    out.push(id.len() as u8);
    out.extend_from_slice(id.as_bytes());
    out.extend_from_slice(&sealed);
    out
}

/// Opens what [`seal_with_ring`] made, under the one key it names.
pub(super) fn open_with_ring(ring: &KeyRing, bound: Bound, wrapped: &[u8]) -> Result<Zeroizing<Vec<u8>>, OpenError> {
    let (id, sealed) = split(wrapped)?;
    let key = ring.key(id).ok_or_else(|| OpenError::UnknownKey(id.to_owned()))?;
    cipher::open(key, bound.part(id.as_bytes()).as_bytes(), sealed)
}

fn split(wrapped: &[u8]) -> Result<(&str, &[u8]), OpenError> {
    let [VERSION, length, rest @ ..] = wrapped else { return Err(OpenError::Damaged) };
    let (id, sealed) = rest.split_at_checked(usize::from(*length)).ok_or(OpenError::Damaged)?;
    let id = std::str::from_utf8(id).map_err(|_| OpenError::Damaged)?;
    if !super::ring::is_key_id(id) || sealed.len() < cipher::OVERHEAD {
        return Err(OpenError::Damaged);
    }
    Ok((id, sealed))
}
