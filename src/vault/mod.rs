//! Secrets at rest: envelope encryption, each ciphertext bound to its place.
//!
//! A ring of root keys (file) wraps one random data key per account; the data key seals fields. What is bound is the
//! associated data: a record moved, swapped or given another destination does not open.

mod bound;
mod cipher;
mod envelope;
mod hygiene;
mod ring;
mod system;
mod token_text;

pub use envelope::{DataKey, Place, Vault, wrapping_key_id};
pub use hygiene::harden_process;
pub use ring::{FileStamp, KeyRing, RingError};
pub use system::{RequestMark, SystemKeys, SystemKeysError, same_secret};
pub use token_text::{LinkText, TokenText};

/// SHA-256, for the rooms that need a fingerprint but no cipher: only the vault meets the cryptography crate.
pub fn fingerprint(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes).as_ref());
    out
}

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

impl OpenError {
    /// The row of the error table it becomes.
    pub fn code(&self) -> crate::error::Code {
        crate::error::Code::CredentialUnreadable
    }
}

impl From<OpenError> for crate::error::Error {
    fn from(error: OpenError) -> Self {
        crate::error::Error::new(error.code(), "The stored credential of this account does not open.").because(error)
    }
}
