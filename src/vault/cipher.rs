//! AES-256-GCM-SIV with random nonces, and the bytes it is fed with. The only file that meets the cipher.

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use zeroize::{Zeroize, Zeroizing};

use super::OpenError;

/// Bytes of every key.
pub(super) const KEY_LEN: usize = 32;
/// Bytes a sealed value is longer than its content.
pub(super) const OVERHEAD: usize = NONCE_LEN + TAG_LEN;
const TAG_LEN: usize = 16;

/// A key's bytes: in one place on the heap, so that moving the owner leaves no copies, and wiped when dropped.
pub(super) struct KeyBytes(Box<Zeroizing<[u8; KEY_LEN]>>);

impl KeyBytes {
    /// All zero, to be filled; never used as it is.
    fn empty() -> Self {
        Self(Box::new(Zeroizing::new([0; KEY_LEN])))
    }

    /// A new random key.
    pub(super) fn random() -> Self {
        let mut key = Self::empty();
        fill_random(&mut key.0[..]);
        key
    }

    /// Takes a key of exactly the right length.
    pub(super) fn copied(bytes: &[u8]) -> Option<Self> {
        let mut key = Self::empty();
        (bytes.len() == KEY_LEN).then(|| key.0.copy_from_slice(bytes))?;
        Some(key)
    }

    /// The bytes, for the cipher, a MAC or another layer of sealing.
    pub(super) fn bytes(&self) -> &[u8; KEY_LEN] {
        &self.0
    }
}

/// Fills a buffer from the operating system's generator.
pub(super) fn fill_random(buffer: &mut [u8]) {
    or_end(aws_lc_rs::rand::fill(buffer).ok(), "no randomness");
}

/// `nonce | ciphertext | tag`.
pub(super) fn seal(key: &KeyBytes, bound: &[u8], plain: &[u8]) -> Vec<u8> {
    let mut nonce = [0; NONCE_LEN];
    fill_random(&mut nonce);
    let mut out = Vec::with_capacity(OVERHEAD + plain.len());
    out.extend_from_slice(&nonce);
    out.extend_from_slice(plain);
    let tag = cipher(key).and_then(|cipher| {
        let (_, content) = out.split_at_mut_checked(NONCE_LEN)?;
        cipher.seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(bound), content).ok()
    });
    out.extend_from_slice(or_end(tag, "the cipher does not work").as_ref());
    out
}

/// Opens what [`seal`] made.
pub(super) fn open(key: &KeyBytes, bound: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, OpenError> {
    if sealed.len() < OVERHEAD {
        return Err(OpenError::Damaged);
    }
    let (nonce, content) = sealed.split_first_chunk::<NONCE_LEN>().ok_or(OpenError::Damaged)?;
    let mut buffer = Zeroizing::new(content.to_vec());
    let cipher = cipher(key).ok_or(OpenError::Refused)?;
    let length = cipher
        .open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(bound), &mut buffer)
        .map_err(|_| OpenError::Refused)?
        .len();
    buffer[length..].zeroize();
    buffer.truncate(length);
    Ok(buffer)
}

fn cipher(key: &KeyBytes) -> Option<LessSafeKey> {
    UnboundKey::new(&AES_256_GCM_SIV, key.bytes()).ok().map(LessSafeKey::new)
}

/// Without randomness or cipher there is nothing safe left to do: secrets would be stored readable or lost.
fn or_end<T>(value: Option<T>, what: &str) -> T {
    value.unwrap_or_else(|| {
        eprintln!("rollcall: {what}; the process ends rather than store a secret unprotected");
        std::process::abort()
    })
}
