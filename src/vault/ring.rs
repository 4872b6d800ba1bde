//! The ring of root keys: `{"version": 1, "primary": "k1", "keys": [{"id", "created_at", "key"}]}`, mode 0600.

use std::path::Path;

/// Root keys by id; the primary writes, all read.
pub struct KeyRing {}

/// Why a ring cannot be used; start-up ends with its text.
#[derive(Debug, thiserror::Error)]
pub enum RingError {
    /// Missing, unreadable, wrong form, wrong length, sample key, duplicate id …
    #[error("{0}")]
    Unusable(String),
}

impl KeyRing {
    /// Reads a ring from a file and refuses what is not safe.
    pub fn load(_path: &Path) -> Result<KeyRing, RingError> {
        todo!()
    }

    /// Makes a new ring with one random key and writes it, mode 0600, never over an existing file.
    pub fn create(_path: &Path, _now: jiff::Timestamp) -> Result<KeyRing, RingError> {
        todo!()
    }
}
