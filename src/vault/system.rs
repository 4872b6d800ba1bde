//! System keys: random, kept in the store, sealed by the ring. The check value tells a wrong ring at start.
//!
//! Stored form: `version | check value | the keys, sealed like a data key`. The check value is a MAC under the root key, so
//! a ring that has another key under the same id is told from a record that is damaged. The keys are the pepper of API tokens,
//! the key of cursors, and those of account tokens, of which a store of an earlier release has none.

use aws_lc_rs::hmac;
use jiff::Timestamp;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::{
    KeyRing, OpenError,
    account_token::{AccountPass, AccountTokenKeys},
    bound::Bound,
    cipher::{self, KEY_LEN, KeyBytes},
    digest::hex,
    envelope::{VERSION, open_with_ring, seal_with_ring, wrapping_key_id},
};
use crate::{error, model::Secret};

const CHECK_LEN: usize = 16;

/// Keys that belong to the installation, not to an account.
pub struct SystemKeys {
    token_pepper: KeyBytes,
    /// The pepper, prepared once: every request with a token needs it.
    token_hasher: hmac::Key,
    cursor_key: KeyBytes,
    account_tokens: AccountTokenKeys,
}

/// What a hash of a repeatable write is for; hashes of different purposes never agree.
#[derive(Clone, Copy, Debug)]
pub enum RequestMark {
    /// The name its record is found by.
    Name,
    /// What tells the same request from another one with the same key.
    Fingerprint,
}

impl RequestMark {
    fn name(self) -> &'static [u8] {
        match self {
            RequestMark::Name => b"rollcall/idempotency-name",
            RequestMark::Fingerprint => b"rollcall/idempotency-fingerprint",
        }
    }
}

/// What a mark of the audit log is for; marks of different purposes never agree.
#[derive(Clone, Copy, Debug)]
pub enum AuditMark {
    /// An entry in its place.
    Entry,
    /// The record that says how many entries there are.
    Head,
    /// An action that has begun.
    Open,
    /// A name that is not to be read from the log, only found again.
    Name,
}

impl AuditMark {
    fn name(self) -> &'static [u8] {
        match self {
            AuditMark::Entry => b"rollcall/audit-entry",
            AuditMark::Head => b"rollcall/audit-head",
            AuditMark::Open => b"rollcall/audit-open",
            AuditMark::Name => b"rollcall/audit-name",
        }
    }
}

/// What is sealed; seals of different purposes never open for each other.
#[derive(Clone, Copy, Debug)]
pub enum SealMark {
    /// What is kept of a link, or handed to the browser that opened it; the parts say which of both, and of which link.
    Link,
    /// A cursor, to its list.
    Cursor,
    /// The kept reply of a write, which may show a secret, to the request that it answers.
    Reply,
    /// The secret of an environment's own OAuth app, to whose it is, connector and client.
    App,
    /// A piece of the log of requests, to whose it is and where it lies.
    Log,
    /// What is to happen when a browser comes back from a vendor, to what it comes back with.
    Authorization,
}

impl SealMark {
    fn name(self) -> &'static str {
        match self {
            SealMark::Link => "rollcall/link",
            SealMark::Cursor => "rollcall/cursor",
            SealMark::Reply => "rollcall/idempotent-reply",
            SealMark::App => "rollcall/oauth-app",
            SealMark::Log => "rollcall/log",
            SealMark::Authorization => "rollcall/authorization",
        }
    }

    fn bound(self, parts: &[&[u8]]) -> Bound {
        parts.iter().fold(Bound::new(self.name(), VERSION), |bound, part| bound.part(part))
    }
}

/// Why the system keys cannot be had.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SystemKeysError {
    /// The ring is not the one the store was made with.
    #[error("the key ring does not open this store ({0}); give the ring the store was made with")]
    WrongRing(OpenError),
    /// The ring is right, the record is not.
    #[error("the store's system keys are damaged although the key ring is the right one; restore the store from a backup")]
    Damaged,
}

impl SystemKeys {
    /// New random keys, and their sealed form for the store.
    pub fn generate(ring: &KeyRing) -> (SystemKeys, Vec<u8>) {
        let mut keys = SystemKeys::of(KeyBytes::random(), KeyBytes::random());
        keys.complete();
        let sealed = keys.seal(ring);
        (keys, sealed)
    }

    fn of(token_pepper: KeyBytes, cursor_key: KeyBytes) -> SystemKeys {
        let token_hasher = hasher(&token_pepper);
        let account_tokens = AccountTokenKeys::none(issuer(&token_hasher));
        SystemKeys { token_pepper, token_hasher, cursor_key, account_tokens }
    }

    /// Makes the keys that an earlier release did not have; false when there were all. They must be stored before they are used.
    pub fn complete(&mut self) -> bool {
        let lacks = self.account_tokens.is_empty();
        if lacks {
            self.account_tokens.follow();
        }
        lacks
    }

    /// The form for the store, under the ring's present primary key.
    pub fn seal(&self, ring: &KeyRing) -> Vec<u8> {
        let first = [self.token_pepper.bytes(), self.cursor_key.bytes()];
        // Room for all of them at once: a buffer that grows leaves copies behind.
        let mut plain = Zeroizing::new(Vec::with_capacity((first.len() + self.account_tokens.bytes().count()) * KEY_LEN));
        for key in first.into_iter().chain(self.account_tokens.bytes()) {
            plain.extend_from_slice(key);
        }
        seal_plain(ring, &plain)
    }

    /// The stored form under the ring's present primary key, whatever keys it holds; none when it is already.
    pub fn reseal(ring: &KeyRing, sealed: &[u8]) -> Result<Option<Vec<u8>>, SystemKeysError> {
        if SystemKeys::sealed_by(sealed) == Some(ring.primary_id()) {
            return Ok(None);
        }
        Ok(Some(seal_plain(ring, &open_plain(ring, sealed)?)))
    }

    /// Opens the stored form.
    pub fn open(ring: &KeyRing, sealed: &[u8]) -> Result<SystemKeys, SystemKeysError> {
        let plain = open_plain(ring, sealed)?;
        SystemKeys::read(&plain).ok_or(SystemKeysError::Damaged)
    }

    fn read(plain: &[u8]) -> Option<SystemKeys> {
        let (pepper, rest) = plain.split_at_checked(KEY_LEN)?;
        let (cursor, rest) = rest.split_at_checked(KEY_LEN)?;
        let keys = SystemKeys::of(KeyBytes::copied(pepper)?, KeyBytes::copied(cursor)?);
        let account_tokens = AccountTokenKeys::read(issuer(&keys.token_hasher), rest)?;
        Some(SystemKeys { account_tokens, ..keys })
    }

    /// The id of the root key that sealed the stored form.
    pub fn sealed_by(sealed: &[u8]) -> Option<&str> {
        wrapping_key_id(sealed.get(1 + CHECK_LEN..)?)
    }

    /// The keyed hash of an API token's secret.
    pub fn token_hash(&self, secret: &[u8]) -> [u8; 32] {
        mac(&self.token_hasher, b"rollcall/api-token", secret)
    }

    /// The mark of a token's stored record, without which whoever writes the store could give a token other rights.
    pub fn token_mark(&self, record: &[u8]) -> [u8; 32] {
        mac(&self.token_hasher, b"rollcall/api-token-record", record)
    }

    /// The text of an account token.
    pub fn sign_account_token(&self, pass: &AccountPass) -> error::Result<Secret> {
        self.account_tokens.sign(pass)
    }

    /// What an account token says, if this installation made it and it is good at this time.
    pub fn open_account_token(&self, text: &str, now: Timestamp) -> Option<AccountPass> {
        self.account_tokens.open(text, now)
    }

    /// The keyed hash of a link token's bits.
    pub fn link_hash(&self, secret: &[u8]) -> [u8; 32] {
        mac(&self.token_hasher, b"rollcall/link-token", secret)
    }

    /// Seals something for a purpose; `parts` say what it is bound to, and it opens with the same ones alone.
    pub fn seal_for(&self, purpose: SealMark, parts: &[&[u8]], plain: &[u8]) -> Vec<u8> {
        let mut sealed = cipher::seal(&self.cursor_key, purpose.bound(parts).as_bytes(), plain);
        sealed.insert(0, VERSION);
        sealed
    }

    /// Opens what [`SystemKeys::seal_for`] sealed.
    pub fn open_for(&self, purpose: SealMark, parts: &[&[u8]], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        match sealed {
            [VERSION, rest @ ..] => cipher::open(&self.cursor_key, purpose.bound(parts).as_bytes(), rest),
            _ => Err(OpenError::Damaged),
        }
    }

    /// A keyed hash of what a repeatable write asks for; `parts` say whose, and what, so that neither its key nor its body
    /// needs to be stored.
    pub fn request_mark(&self, purpose: RequestMark, parts: &[&[u8]]) -> [u8; 32] {
        let message = parts.iter().fold(Bound::new("rollcall/idempotency", VERSION), |bound, part| bound.part(part));
        mac(&self.token_hasher, purpose.name(), message.as_bytes())
    }

    /// The mark of a part of the audit log, so that whoever can write the store cannot make up another log.
    pub fn audit_mark(&self, purpose: AuditMark, parts: &[&[u8]]) -> [u8; 32] {
        let message = parts.iter().fold(Bound::new("rollcall/audit", VERSION), |bound, part| bound.part(part));
        mac(&self.token_hasher, purpose.name(), message.as_bytes())
    }
}

/// Compares two hashes in a time that does not tell how much of them agrees.
pub fn same_secret(a: &[u8], b: &[u8]) -> bool {
    a.ct_eq(b).into()
}

fn bound() -> Bound {
    Bound::new("rollcall/system-keys", VERSION)
}

fn seal_plain(ring: &KeyRing, plain: &[u8]) -> Vec<u8> {
    let mut out = vec![VERSION];
    out.extend_from_slice(&check_value(ring.primary().1));
    out.extend_from_slice(&seal_with_ring(ring, bound(), plain));
    out
}

fn open_plain(ring: &KeyRing, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SystemKeysError> {
    let [VERSION, rest @ ..] = sealed else { return Err(SystemKeysError::Damaged) };
    let (check, wrapped) = rest.split_first_chunk::<CHECK_LEN>().ok_or(SystemKeysError::Damaged)?;
    let id = wrapping_key_id(wrapped).ok_or(SystemKeysError::Damaged)?;
    let key = ring.key(id).ok_or_else(|| SystemKeysError::WrongRing(OpenError::UnknownKey(id.to_owned())))?;
    if !same_secret(&check_value(key), check) {
        return Err(SystemKeysError::WrongRing(OpenError::Refused));
    }
    open_with_ring(ring, bound(), wrapped).map_err(|_| SystemKeysError::Damaged)
}

/// What account tokens name as their issuer: this installation, whatever it is called from outside, and no other.
fn issuer(hasher: &hmac::Key) -> String {
    let mark = mac(hasher, b"rollcall/issuer", &[]);
    format!("rollcall:{}", hex(&mark[..8]))
}

fn check_value(key: &KeyBytes) -> [u8; CHECK_LEN] {
    let mut out = [0; CHECK_LEN];
    out.copy_from_slice(&mac(&hasher(key), b"rollcall/check-value", &[])[..CHECK_LEN]);
    out
}

fn hasher(key: &KeyBytes) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, key.bytes())
}

fn mac(key: &hmac::Key, purpose: &[u8], message: &[u8]) -> [u8; 32] {
    let mut context = hmac::Context::with_key(key);
    context.update(&(purpose.len() as u64).to_be_bytes());
    context.update(purpose);
    context.update(message);
    let mut out = [0; 32];
    out.copy_from_slice(context.sign().as_ref());
    out
}
