//! Secrets at rest: envelope encryption, each ciphertext bound to its place.
//!
//! A ring of root keys (file) wraps one random data key per account; the data key seals fields. What is bound is the
//! associated data: a record moved, swapped or given another destination does not open.

mod envelope;
mod ring;
mod system;

pub use envelope::{DataKey, Place, Vault};
pub use ring::{KeyRing, RingError};
pub use system::{SystemKeys, SystemKeysError};

/// Why something sealed does not open. Says nothing of the content.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Not of our format, or cut.
    #[error("the sealed value is damaged")]
    Damaged,
    /// The ring does not have the key that sealed it.
    #[error("the key ring has no key `{0}`")]
    UnknownKey(String),
    /// Changed, moved or bound to another place.
    #[error("the sealed value does not belong here")]
    Refused,
}
