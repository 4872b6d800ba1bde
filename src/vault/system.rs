//! System keys: random, kept in the store, sealed by the ring. The check value tells a wrong ring at start.

use zeroize::Zeroizing;

use super::{KeyRing, OpenError};

/// Keys that belong to the installation, not to an account.
pub struct SystemKeys {
    _token_pepper: Zeroizing<[u8; 32]>,
    _cursor_key: Zeroizing<[u8; 32]>,
}

/// Why the system keys cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum SystemKeysError {
    /// The ring is not the one the store was made with.
    #[error("the key ring does not open this store ({0}); give the ring the store was made with")]
    WrongRing(OpenError),
}

impl SystemKeys {
    /// New random keys, and their sealed form for the store.
    pub fn generate(_ring: &KeyRing) -> (SystemKeys, Vec<u8>) {
        todo!()
    }

    /// Opens the stored form.
    pub fn open(_ring: &KeyRing, _sealed: &[u8]) -> Result<SystemKeys, SystemKeysError> {
        todo!()
    }

    /// The keyed hash of an API token's secret.
    pub fn token_hash(&self, _secret: &[u8]) -> [u8; 32] {
        todo!()
    }

    /// Seals a cursor; `bound` is associated data.
    pub fn seal_cursor(&self, _bound: &[u8], _plain: &[u8]) -> Vec<u8> {
        todo!()
    }

    /// Opens a cursor.
    pub fn open_cursor(&self, _bound: &[u8], _sealed: &[u8]) -> Result<Vec<u8>, OpenError> {
        todo!()
    }
}
