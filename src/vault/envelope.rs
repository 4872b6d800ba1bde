//! Sealing and opening, AES-256-GCM-SIV.
//!
//! Stored forms: a data key is `version | length of key id | key id | nonce | ciphertext and tag` (the id in clear, so that
//! rotation is counted without opening anything); a field is `version | nonce | ciphertext and tag`.

use std::{collections::BTreeMap, sync::Arc};

use arc_swap::ArcSwap;
use zeroize::Zeroizing;

use super::{
    KeyRing, OpenError,
    bound::Bound,
    cipher::{self, KeyBytes},
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

/// One account's data key, unwrapped. Wiped when dropped.
pub struct DataKey(KeyBytes);

/// Wraps data keys under the ring's keys and seals fields under data keys.
pub struct Vault {
    ring: Arc<ArcSwap<KeyRing>>,
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Vault").field("ring", &**self.ring.load()).finish()
    }
}

impl Vault {
    /// A vault over a ring that may be replaced while it runs.
    pub fn new(ring: Arc<ArcSwap<KeyRing>>) -> Self {
        Self { ring }
    }

    /// A new data key for an account, and its wrapped form for the store (bound to environment and account).
    pub fn new_data_key(&self, environment: EnvironmentId, account: AccountId) -> (DataKey, Vec<u8>) {
        let key = KeyBytes::random();
        let wrapped = seal_with_ring(&self.ring.load(), data_key_bound(environment, account), key.bytes());
        (DataKey(key), wrapped)
    }

    /// Unwraps a stored data key.
    pub fn data_key(&self, environment: EnvironmentId, account: AccountId, wrapped: &[u8]) -> Result<DataKey, OpenError> {
        let plain = open_with_ring(&self.ring.load(), data_key_bound(environment, account), wrapped)?;
        KeyBytes::copied(&plain).map(DataKey).ok_or(OpenError::Damaged)
    }
}

impl DataKey {
    /// Seals bytes to a place.
    pub fn seal(&self, place: Place<'_>, plain: &[u8]) -> Vec<u8> {
        let mut sealed = cipher::seal(&self.0, place.bound().as_bytes(), plain);
        sealed.insert(0, VERSION);
        sealed
    }

    /// Opens bytes sealed to the same place.
    pub fn open(&self, place: Place<'_>, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        match sealed {
            [VERSION, rest @ ..] => cipher::open(&self.0, place.bound().as_bytes(), rest),
            _ => Err(OpenError::Damaged),
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
