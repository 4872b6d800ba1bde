//! Sealing and opening. Stored form: `version | key id | nonce | ciphertext and tag`, AES-256-GCM-SIV.

use std::sync::Arc;

use zeroize::Zeroizing;

use super::{KeyRing, OpenError};
use crate::model::{AccountId, EnvironmentId, Slug};

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
    /// Where it may be sent; hashed.
    pub origins: &'a [String],
    /// The credential's generation.
    pub generation: u64,
}

/// One account's data key, unwrapped. Wiped when dropped.
pub struct DataKey(Zeroizing<[u8; 32]>);

/// Wraps data keys under the ring's keys and seals fields under data keys.
pub struct Vault {
    ring: Arc<arc_swap::ArcSwap<KeyRing>>,
}

impl Vault {
    /// A vault over a ring that may be replaced while it runs.
    pub fn new(ring: Arc<arc_swap::ArcSwap<KeyRing>>) -> Self {
        Self { ring }
    }

    /// A new data key for an account, and its wrapped form for the store (bound to environment and account).
    pub fn new_data_key(&self, _environment: EnvironmentId, _account: AccountId) -> (DataKey, Vec<u8>) {
        let _ = &self.ring;
        todo!()
    }

    /// Unwraps a stored data key.
    pub fn data_key(&self, _environment: EnvironmentId, _account: AccountId, _wrapped: &[u8]) -> Result<DataKey, OpenError> {
        todo!()
    }
}

impl DataKey {
    /// Seals bytes to a place.
    pub fn seal(&self, _place: Place<'_>, _plain: &[u8]) -> Vec<u8> {
        let _ = &self.0;
        todo!()
    }

    /// Opens bytes sealed to the same place.
    pub fn open(&self, _place: Place<'_>, _sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        todo!()
    }
}
