//! The text of an API token: `rck_<id>_<secret><checksum>`, each part in base62 of fixed width.
//!
//! The prefix lets secret scanners find it, the id lets the store find it without a table of hashes, and the checksum lets a
//! typing error be refused without asking the store.

use std::fmt;

use uuid::Uuid;
use zeroize::Zeroizing;

use super::cipher::fill_random;
use crate::model::TokenId;

const PREFIX: &str = "rck_";
const LINK_PREFIX: &str = "lnk_";
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// Digits of 16, 32 and 4 bytes.
const ID_LEN: usize = 22;
const SECRET_LEN: usize = 43;
const CHECKSUM_LEN: usize = 6;
const TEXT_LEN: usize = PREFIX.len() + ID_LEN + 1 + SECRET_LEN + CHECKSUM_LEN;

/// A new token's text, to be shown once.
pub struct TokenText(Zeroizing<String>);

impl TokenText {
    /// A new random token and its id.
    pub fn generate() -> (TokenText, TokenId) {
        let id = TokenId::generate();
        (Self::generate_for(id), id)
    }

    /// A new random token of this id.
    pub fn generate_for(id: TokenId) -> TokenText {
        let mut secret = Zeroizing::new([0; 32]);
        fill_random(&mut secret[..]);
        Self::of(id, &secret)
    }

    /// The text of an id and a secret.
    fn of(id: TokenId, secret: &[u8; 32]) -> TokenText {
        let mut text = Zeroizing::new(String::with_capacity(TEXT_LEN));
        text.push_str(PREFIX);
        push_base62(&mut text, id.0.as_bytes(), ID_LEN);
        text.push('_');
        push_base62(&mut text, secret, SECRET_LEN);
        let sum = checksum(&text);
        push_base62(&mut text, &sum, CHECKSUM_LEN);
        TokenText(text)
    }

    /// The id a text names, if it has the form of a token. It proves nothing: the secret is not looked at.
    pub fn named_id(text: &str) -> Option<TokenId> {
        let rest = text.strip_prefix(PREFIX).filter(|_| text.len() == TEXT_LEN)?;
        let (id, _) = rest.split_at_checked(ID_LEN).filter(|(_, rest)| rest.starts_with('_'))?;
        read_base62::<16>(id).map(|id| TokenId(Uuid::from_bytes(*id)))
    }

    /// Reads a token's text; only what [`TokenText::generate`] can have made is taken.
    pub fn parse(text: &str) -> Option<(TokenId, Zeroizing<[u8; 32]>)> {
        if text.len() != TEXT_LEN || !text.is_ascii() {
            return None;
        }
        let (body, sum) = text.split_at_checked(TEXT_LEN - CHECKSUM_LEN)?;
        if *read_base62::<4>(sum)? != checksum(body) {
            return None;
        }
        let (id, secret) = body.strip_prefix(PREFIX)?.split_at_checked(ID_LEN)?;
        let id = TokenId(Uuid::from_bytes(*read_base62::<16>(id)?));
        Some((id, read_base62::<32>(secret.strip_prefix('_')?)?))
    }

    /// The text itself, for the one answer that shows it and for a file of mode 0600.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for TokenText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenText(…)")
    }
}

/// A link token's text: `lnk_` and 256 random bits. Its record is found by a keyed hash of these, so that no id stands in it.
pub struct LinkText(Zeroizing<String>);

impl LinkText {
    /// A new random token, and the bits in it.
    pub fn generate() -> (LinkText, Zeroizing<[u8; 32]>) {
        let mut secret = Zeroizing::new([0; 32]);
        fill_random(&mut secret[..]);
        let mut text = Zeroizing::new(String::with_capacity(LINK_PREFIX.len() + SECRET_LEN));
        text.push_str(LINK_PREFIX);
        push_base62(&mut text, &secret[..], SECRET_LEN);
        (LinkText(text), secret)
    }

    /// The bits of a text that [`LinkText::generate`] can have made.
    pub fn parse(text: &str) -> Option<Zeroizing<[u8; 32]>> {
        read_base62::<32>(text.strip_prefix(LINK_PREFIX).filter(|digits| digits.len() == SECRET_LEN)?)
    }

    /// The text itself, for the one answer that shows it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for LinkText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LinkText(…)")
    }
}

fn checksum(body: &str) -> [u8; 4] {
    let [a, b, c, d, ..] = super::fingerprint(body.as_bytes());
    [a, b, c, d]
}

/// Writes a big-endian number in `width` digits.
fn push_base62(out: &mut String, bytes: &[u8], width: usize) {
    let mut number = Zeroizing::new([0u8; 32]);
    let number = &mut number[..bytes.len()];
    number.copy_from_slice(bytes);
    let mut digits = Zeroizing::new([b'0'; SECRET_LEN]);
    for digit in digits[..width].iter_mut().rev() {
        let mut remainder = 0u32;
        for byte in number.iter_mut() {
            let value = remainder * 256 + u32::from(*byte);
            *byte = (value / 62) as u8;
            remainder = value % 62;
        }
        *digit = ALPHABET[remainder as usize];
    }
    out.extend(digits[..width].iter().map(|d| char::from(*d)));
}

/// Reads digits as a number of exactly `N` bytes; a number too large for them is none. Every request with a token passes here,
/// therefore 64 bits at a time.
fn read_base62<const N: usize>(digits: &str) -> Option<Zeroizing<[u8; N]>> {
    let mut limbs = Zeroizing::new([0u64; 4]);
    for digit in digits.bytes() {
        let mut carry = u128::from(value_of(digit)?);
        for limb in &mut limbs[..N.div_ceil(8)] {
            let value = u128::from(*limb) * 62 + carry;
            *limb = value as u64;
            carry = value >> 64;
        }
        if carry != 0 {
            return None;
        }
    }
    let mut bytes = Zeroizing::new([0u8; 32]);
    for (place, limb) in bytes.rchunks_exact_mut(8).zip(limbs.iter()) {
        place.copy_from_slice(&limb.to_be_bytes());
    }
    let (above, number) = bytes.split_at(bytes.len().checked_sub(N)?);
    if above.iter().any(|byte| *byte != 0) { None } else { Some(Zeroizing::new(number.try_into().ok()?)) }
}

fn value_of(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'A'..=b'Z' => Some(digit - b'A' + 10),
        b'a'..=b'z' => Some(digit - b'a' + 36),
        _ => None,
    }
}
