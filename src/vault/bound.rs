//! The canonical form of what a ciphertext is bound to: every part preceded by its length, so that no two lists of parts
//! have the same bytes.

use aws_lc_rs::digest;

/// Parts, each with its length before it.
pub(super) struct Bound(Vec<u8>);

impl Bound {
    /// Starts with what the ciphertext is for and its format version; ciphertexts of different purposes never mix.
    pub(super) fn new(purpose: &str, version: u8) -> Self {
        Self(Vec::with_capacity(256)).part(purpose.as_bytes()).part(&[version])
    }

    /// Adds one part.
    pub(super) fn part(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(&(bytes.len() as u64).to_be_bytes());
        self.0.extend_from_slice(bytes);
        self
    }

    /// Adds a list as the SHA-256 of its length-prefixed members.
    pub(super) fn list<'m>(self, members: impl IntoIterator<Item = &'m String>) -> Self {
        let mut hash = digest::Context::new(&digest::SHA256);
        for member in members {
            hash.update(&(member.len() as u64).to_be_bytes());
            hash.update(member.as_bytes());
        }
        self.part(hash.finish().as_ref())
    }

    /// The bytes.
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}
