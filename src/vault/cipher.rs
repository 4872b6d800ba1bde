//! AES-256-GCM-SIV with random nonces, and the bytes it is fed with. The only file that meets the cipher.

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, NONCE_LEN, Nonce, Tag, UnboundKey};
use zeroize::{Zeroize, Zeroizing, zeroize_stack};

use super::OpenError;

/// Bytes of every key.
pub(super) const KEY_LEN: usize = 32;
/// Bytes a sealed value is longer than its content.
pub(super) const OVERHEAD: usize = NONCE_LEN + TAG_LEN;
const TAG_LEN: usize = 16;
/// Bytes of the stack below a call of the cipher that are wiped after it.
const STACK: usize = 4096;
/// Bytes that take the cipher through all registers it works in.
const REGISTERS: usize = 256;

/// A key's bytes: in one place on the heap, so that moving the owner leaves no copies, and wiped when dropped.
pub(super) struct KeyBytes(Box<Zeroizing<[u8; KEY_LEN]>>);

impl KeyBytes {
    /// All zero, to be filled; no secret is sealed with it as it is.
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
    let tag = seal_in_place(key, nonce, bound, &mut out[NONCE_LEN..]);
    wipe(|key, zeros| _ = seal_in_place(key, [0; NONCE_LEN], &[], zeros));
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
    let length = open_in_place(key, *nonce, bound, &mut buffer);
    wipe(|key, zeros| _ = open_in_place(key, [0; NONCE_LEN], &[], zeros));
    let length = length.ok_or(OpenError::Refused)?;
    buffer[length..].zeroize();
    buffer.truncate(length);
    Ok(buffer)
}

/// The cipher leaves blocks of what it sealed or opened on the stack and in vector registers, and an idle thread keeps both for as
/// long as it is idle. The registers are overwritten by the same work on zeros.
fn wipe(work: impl FnOnce(&KeyBytes, &mut [u8])) {
    work(&KeyBytes::empty(), &mut [0; REGISTERS]);
    zeroize_stack::<STACK>();
}

// Not inlined: what these leave on the stack must lie below their callers.
#[inline(never)]
fn seal_in_place(key: &KeyBytes, nonce: [u8; NONCE_LEN], bound: &[u8], content: &mut [u8]) -> Option<Tag> {
    cipher(key)?.seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(bound), content).ok()
}

#[inline(never)]
fn open_in_place(key: &KeyBytes, nonce: [u8; NONCE_LEN], bound: &[u8], content: &mut [u8]) -> Option<usize> {
    Some(cipher(key)?.open_in_place(Nonce::assume_unique_for_key(nonce), Aad::from(bound), content).ok()?.len())
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
