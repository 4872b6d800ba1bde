//! Secrets at rest: envelope encryption, each ciphertext bound to its place.
//!
//! A ring of root keys (file) wraps one random data key per account; the data key seals fields. What is bound is the
//! associated data: a record moved, swapped or given another destination does not open.

mod account_token;
mod bound;
mod cipher;
mod digest;
mod envelope;
mod hygiene;
mod private_file;
mod ring;
mod ring_change;
mod seals;
mod system;
mod token_text;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

pub use account_token::{AccountPass, AccountTokenKeys, is_like_account_token};
pub use digest::{Digest, hex};
pub use envelope::{DataKey, NewDataKey, Place, Vault, wrapping_key_id};
pub use hygiene::harden_process;
pub use private_file::{FileStamp, read_private};
pub use ring::{KeyRing, RingError};
pub use system::{AuditMark, RequestMark, SealMark, SystemKeys, SystemKeysError, same_secret};
pub use token_text::{LinkText, TokenText};

use crate::model::Secret;

/// 256 random bits as 43 characters that stand in addresses and cookies as they are.
pub fn random_text() -> Secret {
    let mut bytes = Zeroizing::new([0; 32]);
    cipher::fill_random(&mut bytes[..]);
    Secret::new(URL_SAFE_NO_PAD.encode(*bytes))
}

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
