//! System keys: random, kept in the store, sealed by the ring. The check value tells a wrong ring at start.
//!
//! Stored form: `version | check value | the keys, sealed like a data key`. The check value is a MAC under the root key, so
//! a ring that has another key under the same id is told from a record that is damaged.

use aws_lc_rs::hmac;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::{
    KeyRing, OpenError,
    bound::Bound,
    cipher::{self, KEY_LEN, KeyBytes},
    envelope::{VERSION, open_with_ring, seal_with_ring, wrapping_key_id},
};

const CHECK_LEN: usize = 16;

/// Keys that belong to the installation, not to an account.
pub struct SystemKeys {
    token_pepper: KeyBytes,
    /// The pepper, prepared once: every request with a token needs it.
    token_hasher: hmac::Key,
    cursor_key: KeyBytes,
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
        let keys = SystemKeys::of(KeyBytes::random(), KeyBytes::random());
        let sealed = keys.seal(ring);
        (keys, sealed)
    }

    fn of(token_pepper: KeyBytes, cursor_key: KeyBytes) -> SystemKeys {
        let token_hasher = hasher(&token_pepper);
        SystemKeys { token_pepper, token_hasher, cursor_key }
    }

    /// The form for the store, under the ring's present primary key.
    pub fn seal(&self, ring: &KeyRing) -> Vec<u8> {
        let mut plain = Zeroizing::new(Vec::with_capacity(2 * KEY_LEN));
        plain.extend_from_slice(self.token_pepper.bytes());
        plain.extend_from_slice(self.cursor_key.bytes());
        let mut out = vec![VERSION];
        out.extend_from_slice(&check_value(ring.primary().1));
        out.extend_from_slice(&seal_with_ring(ring, bound(), &plain));
        out
    }

    /// Opens the stored form.
    pub fn open(ring: &KeyRing, sealed: &[u8]) -> Result<SystemKeys, SystemKeysError> {
        let [VERSION, rest @ ..] = sealed else { return Err(SystemKeysError::Damaged) };
        let (check, wrapped) = rest.split_first_chunk::<CHECK_LEN>().ok_or(SystemKeysError::Damaged)?;
        let id = wrapping_key_id(wrapped).ok_or(SystemKeysError::Damaged)?;
        let key = ring.key(id).ok_or_else(|| SystemKeysError::WrongRing(OpenError::UnknownKey(id.to_owned())))?;
        if !same_secret(&check_value(key), check) {
            return Err(SystemKeysError::WrongRing(OpenError::Refused));
        }
        let plain = open_with_ring(ring, bound(), wrapped).map_err(|_| SystemKeysError::Damaged)?;
        let (pepper, cursor) = plain.split_at_checked(KEY_LEN).ok_or(SystemKeysError::Damaged)?;
        match (KeyBytes::copied(pepper), KeyBytes::copied(cursor)) {
            (Some(token_pepper), Some(cursor_key)) => Ok(SystemKeys::of(token_pepper, cursor_key)),
            _ => Err(SystemKeysError::Damaged),
        }
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

    /// The keyed hash of a link token's bits.
    pub fn link_hash(&self, secret: &[u8]) -> [u8; 32] {
        mac(&self.token_hasher, b"rollcall/link-token", secret)
    }

    /// Seals what is kept of a link, or handed to the browser that opened it; `bound` says which of both, and of which link.
    pub fn seal_link(&self, bound: &[&[u8]], plain: &[u8]) -> Vec<u8> {
        let mut sealed = cipher::seal(&self.cursor_key, link_bound(bound).as_bytes(), plain);
        sealed.insert(0, VERSION);
        sealed
    }

    /// Opens what [`SystemKeys::seal_link`] sealed.
    pub fn open_link(&self, bound: &[&[u8]], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        match sealed {
            [VERSION, rest @ ..] => cipher::open(&self.cursor_key, link_bound(bound).as_bytes(), rest),
            _ => Err(OpenError::Damaged),
        }
    }

    /// Seals a cursor; `bound` is associated data.
    pub fn seal_cursor(&self, bound: &[u8], plain: &[u8]) -> Vec<u8> {
        let mut sealed = cipher::seal(&self.cursor_key, cursor_bound(bound).as_bytes(), plain);
        sealed.insert(0, VERSION);
        sealed
    }

    /// A keyed hash of what a repeatable write asks for; `parts` say whose, and what, so that neither its key nor its body
    /// needs to be stored.
    pub fn request_mark(&self, purpose: RequestMark, parts: &[&[u8]]) -> [u8; 32] {
        let message = parts.iter().fold(Bound::new("rollcall/idempotency", VERSION), |bound, part| bound.part(part));
        mac(&self.token_hasher, purpose.name(), message.as_bytes())
    }

    /// Seals the kept reply of a write, which may show a secret, to the request that it answers.
    pub fn seal_reply(&self, bound: &[&[u8]], plain: &[u8]) -> Vec<u8> {
        let mut sealed = cipher::seal(&self.cursor_key, reply_bound(bound).as_bytes(), plain);
        sealed.insert(0, VERSION);
        sealed
    }

    /// Opens the kept reply of a write.
    pub fn open_reply(&self, bound: &[&[u8]], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        match sealed {
            [VERSION, rest @ ..] => cipher::open(&self.cursor_key, reply_bound(bound).as_bytes(), rest),
            _ => Err(OpenError::Damaged),
        }
    }

    /// Seals a piece of the log of requests; `bound` says whose, and where it lies.
    pub fn seal_log(&self, bound: &[&[u8]], plain: &[u8]) -> Vec<u8> {
        let mut sealed = cipher::seal(&self.cursor_key, log_bound(bound).as_bytes(), plain);
        sealed.insert(0, VERSION);
        sealed
    }

    /// Opens a piece of the log of requests.
    pub fn open_log(&self, bound: &[&[u8]], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        match sealed {
            [VERSION, rest @ ..] => cipher::open(&self.cursor_key, log_bound(bound).as_bytes(), rest),
            _ => Err(OpenError::Damaged),
        }
    }

    /// Opens a cursor.
    pub fn open_cursor(&self, bound: &[u8], sealed: &[u8]) -> Result<Vec<u8>, OpenError> {
        match sealed {
            [VERSION, rest @ ..] => {
                cipher::open(&self.cursor_key, cursor_bound(bound).as_bytes(), rest).map(|mut plain| std::mem::take(&mut *plain))
            }
            _ => Err(OpenError::Damaged),
        }
    }
}

/// Compares two hashes in a time that does not tell how much of them agrees.
pub fn same_secret(a: &[u8], b: &[u8]) -> bool {
    a.ct_eq(b).into()
}

fn bound() -> Bound {
    Bound::new("rollcall/system-keys", VERSION)
}

fn cursor_bound(bound: &[u8]) -> Bound {
    Bound::new("rollcall/cursor", VERSION).part(bound)
}

fn reply_bound(bound: &[&[u8]]) -> Bound {
    bound.iter().fold(Bound::new("rollcall/idempotent-reply", VERSION), |all, part| all.part(part))
}

fn link_bound(bound: &[&[u8]]) -> Bound {
    bound.iter().fold(Bound::new("rollcall/link", VERSION), |all, part| all.part(part))
}

fn log_bound(bound: &[&[u8]]) -> Bound {
    bound.iter().fold(Bound::new("rollcall/log", VERSION), |all, part| all.part(part))
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
