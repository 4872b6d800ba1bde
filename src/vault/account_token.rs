//! Account tokens: `rca_` and a JWT that reaches one account, made with an API token and signed with a key of the installation.
//!
//! The algorithm is fixed, and what a token says is typed: one whose times are texts, whose audience is a list or which lacks a
//! claim is none. Any of the keys verifies and the newest signs, so that they can be followed by another.

use jiff::Timestamp;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::cipher::{KEY_LEN, KeyBytes};
use crate::{
    error::{Error, Result},
    model::{AccountId, EnvironmentId, Scopes, Secret},
};

const PREFIX: &str = "rca_";
const ALGORITHM: Algorithm = Algorithm::HS256;
const AUDIENCE: &str = "rollcall";
const REQUIRED: [&str; 5] = ["aud", "exp", "iss", "nbf", "sub"];
/// More than any token of ours has.
const MAX_TEXT: usize = 2048;
/// A token is good at once on a node whose clock is so many seconds behind; none is good for longer.
const AHEAD: i64 = 5;

/// What an account token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountPass {
    /// The account it reaches.
    pub account: AccountId,
    /// When that was made: another account may have its id later. Tokens of an earlier release do not say.
    pub made_at: Option<Timestamp>,
    /// The wall that stands behind.
    pub environment: EnvironmentId,
    /// What it was made with, and ends with: the id of an API token, or the mark of an administrator.
    pub made_with: Uuid,
    /// Its rights.
    pub scopes: Scopes,
    /// When it was made, in whole seconds.
    pub issued_at: Timestamp,
    /// When it ends, in whole seconds.
    pub expires_at: Timestamp,
}

/// A pass as it is written. Names without a standard are short, because the token stands in every request.
#[derive(Serialize, Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    sub: AccountId,
    iat: i64,
    nbf: i64,
    exp: i64,
    env: EnvironmentId,
    by: Uuid,
    scopes: Scopes,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    of: Option<Timestamp>,
}

/// The keys of account tokens, the newest first, and what both sides hold tokens against. Wiped when dropped.
pub struct AccountTokenKeys {
    keys: Vec<Key>,
    issuer: String,
    validation: Validation,
}

struct Key {
    bytes: KeyBytes,
    signs: EncodingKey,
    verifies: DecodingKey,
}

impl Key {
    fn of(bytes: KeyBytes) -> Self {
        let (signs, verifies) = (EncodingKey::from_secret(bytes.bytes()), DecodingKey::from_secret(bytes.bytes()));
        Self { bytes, signs, verifies }
    }
}

impl AccountTokenKeys {
    /// Without a key yet; `issuer` names the installation.
    pub(super) fn none(issuer: String) -> Self {
        let mut validation = Validation::new(ALGORITHM);
        validation.set_required_spec_claims(&REQUIRED);
        validation.set_audience(&[AUDIENCE]);
        validation.set_issuer(&[&issuer]);
        // The library would ask the machine's clock; `open` holds the times against ours.
        validation.validate_exp = false;
        Self { keys: Vec::new(), issuer, validation }
    }

    /// Keys from their bytes, one behind the other and the newest first; none unless each is whole.
    pub fn read(issuer: String, bytes: &[u8]) -> Option<Self> {
        let keys = bytes.chunks(KEY_LEN).map(|key| KeyBytes::copied(key).map(Key::of)).collect::<Option<_>>()?;
        Some(Self { keys, ..Self::none(issuer) })
    }

    /// The same keys behind a new random one, which signs from now on.
    pub(super) fn follow(&mut self) {
        self.keys.insert(0, Key::of(KeyBytes::random()));
    }

    /// Whether there is none: a store of an earlier release.
    pub(super) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The bytes of each key, the newest first, to be sealed.
    pub(super) fn bytes(&self) -> impl Iterator<Item = &[u8; KEY_LEN]> {
        self.keys.iter().map(|key| key.bytes.bytes())
    }

    /// The token's text.
    pub fn sign(&self, pass: &AccountPass) -> Result<Secret> {
        let key = self.keys.first().ok_or_else(|| Error::internal("there is no key for account tokens"))?;
        let issued_at = pass.issued_at.as_second();
        let claims = Claims {
            iss: self.issuer.clone(),
            aud: AUDIENCE.to_owned(),
            sub: pass.account,
            iat: issued_at,
            nbf: issued_at,
            exp: pass.expires_at.as_second(),
            env: pass.environment,
            by: pass.made_with,
            scopes: pass.scopes.clone(),
            of: pass.made_at,
        };
        let token = encode(&Header::new(ALGORITHM), &claims, &key.signs).map_err(Error::internal)?;
        Ok(Secret::new(format!("{PREFIX}{token}")))
    }

    /// What a token says, if it is one of ours and good at this time. Whether what it was made with still is, is not known here.
    pub fn open(&self, text: &str, now: Timestamp) -> Option<AccountPass> {
        let token = text.strip_prefix(PREFIX).filter(|_| text.len() <= MAX_TEXT)?;
        let claims = self.keys.iter().find_map(|key| decode::<Claims>(token, &key.verifies, &self.validation).ok())?.claims;
        let (now, begins) = (now.as_second(), claims.nbf.max(claims.iat));
        if now >= claims.exp || now.saturating_add(AHEAD) < begins {
            return None;
        }
        Some(AccountPass {
            account: claims.sub,
            made_at: claims.of,
            environment: claims.env,
            made_with: claims.by,
            scopes: claims.scopes,
            issued_at: Timestamp::from_second(claims.iat).ok()?,
            expires_at: Timestamp::from_second(claims.exp).ok()?,
        })
    }
}

/// Whether a text has the form of an account token. It proves nothing: neither content nor signature are looked at.
pub fn is_like_account_token(text: &str) -> bool {
    let Some(token) = text.strip_prefix(PREFIX).filter(|_| text.len() <= MAX_TEXT) else { return false };
    let is_part = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    token.split('.').count() == 3 && token.split('.').all(is_part)
}
