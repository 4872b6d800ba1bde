//! What stands in the audit log: entries, the head behind them, and beginnings. Each lies in the store behind its mark, which only
//! this installation can make.

use jiff::Timestamp;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    error::{Code, Error, Result},
    model::{AccountId, EnvironmentId, Later, TokenId},
    vault::{AuditMark, SystemKeys, hex, same_secret},
};

/// The length of a mark.
const MARK: usize = 32;
/// What stands before a name that is only a keyed hash.
const HASHED: &str = "hmac:";
/// Bytes of a hash that are kept of a name.
const NAME: usize = 16;

/// How an action ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AuditOutcome {
    /// It was done.
    Done,
    /// It was refused or went wrong, and left nothing behind but what its code says.
    Failed,
    /// Nobody can say: the node ended in the middle, or store or vendor did not answer; or this node cannot, because a later release
    /// has another word for it.
    #[serde(other)]
    Unknown,
}

/// One action, as `GET /audit` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditEntry {
    /// Its place in the log of its environment: from 1, without gaps.
    pub number: u64,
    /// The action's own id.
    pub id: Uuid,
    /// When the entry was written: the end of the action.
    pub created_at: Timestamp,
    /// When the action began.
    pub began_at: Timestamp,
    /// The name of the token, or what of the gateway itself acted.
    pub actor: String,
    /// The token; null for administrators of the configuration and for the gateway itself.
    #[schema(required = true)]
    pub token_id: Option<TokenId>,
    /// What was done, for example `integrated_account.import`.
    pub action: String,
    /// What it was done to: `integrated_account`, `api_token`, `user` …
    #[schema(required = true)]
    pub target_kind: Option<String>,
    /// Its id: a UUID and the id of a root key as they are, any other text as a keyed hash, `hmac:…`.
    #[schema(required = true)]
    pub target_id: Option<String>,
    /// The linked account it was done through or to.
    #[schema(required = true)]
    pub integrated_account_id: Option<AccountId>,
    /// The customer's label, as a keyed hash, `hmac:…`.
    #[schema(required = true)]
    pub tenant: Option<String>,
    /// How it ended.
    pub outcome: AuditOutcome,
    /// The code of the problem it ended with.
    #[schema(required = true)]
    pub code: Option<String>,
    /// The id of the request.
    #[schema(required = true)]
    pub request_id: Option<String>,
    /// The `hash` of the entry before; zeros in the first.
    pub previous: String,
    /// The keyed hash of this entry.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schema(required = true)]
    pub hash: String,
}

/// An action that has begun.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Begun {
    pub id: Uuid,
    pub began_at: Timestamp,
    pub actor: String,
    pub token_id: Option<TokenId>,
    pub action: String,
    pub target_kind: Option<String>,
    pub target_id: Option<String>,
    pub account: Option<AccountId>,
    pub tenant: Option<String>,
    pub request_id: Option<String>,
}

/// How many entries there are, and which of them are kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Head {
    /// The number of the last; 0 before the first.
    pub number: u64,
    /// Its hash.
    pub hash: String,
    /// The first that is kept.
    pub first: u64,
    /// The hash of the one before that.
    pub before: String,
    /// Members that a later release wrote.
    #[serde(flatten)]
    pub later: Later,
}

impl Head {
    pub fn of_nothing() -> Self {
        let zeros = "0".repeat(2 * MARK);
        Self { number: 0, hash: zeros.clone(), first: 1, before: zeros, later: Later::default() }
    }
}

/// How an action ended, and the code of its problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// How.
    pub outcome: AuditOutcome,
    /// The name of the problem's row in the error table.
    pub code: Option<&'static str>,
}

impl Ended {
    /// It was done.
    pub const DONE: Ended = Ended { outcome: AuditOutcome::Done, code: None };
    /// Nobody can say.
    pub const UNKNOWN: Ended = Ended { outcome: AuditOutcome::Unknown, code: None };

    /// What an outcome tells. A store that does not answer may have taken the write.
    pub fn of<T>(outcome: &Result<T>) -> Self {
        match outcome {
            Ok(_) => Self::DONE,
            Err(error) => Self::with(error),
        }
    }

    /// The same of an error.
    pub fn with(error: &Error) -> Self {
        let outcome = match error.code() {
            Code::WriteUnconfirmed | Code::Internal | Code::StoreUnavailable => AuditOutcome::Unknown,
            _ => AuditOutcome::Failed,
        };
        Self { outcome, code: Some(error.code().row().name) }
    }
}

/// A part of the log as it lies in the store: its mark, then its content. The mark speaks for the very bytes, so that fields this
/// version does not know are held together too.
pub(super) fn sealed<T: Serialize>(
    keys: &SystemKeys,
    purpose: AuditMark,
    environment: EnvironmentId,
    value: &T,
) -> Result<(Vec<u8>, [u8; MARK])> {
    let content = serde_json::to_vec(value).map_err(Error::internal)?;
    let mark = keys.audit_mark(purpose, &[environment.0.as_bytes(), &content]);
    Ok(([&mark[..], &content].concat(), mark))
}

/// Reads it again; nothing where the mark is not of this content.
pub(super) fn opened<T: DeserializeOwned>(
    keys: &SystemKeys,
    purpose: AuditMark,
    environment: EnvironmentId,
    bytes: &[u8],
) -> Option<(T, [u8; MARK])> {
    let (mark, content) = bytes.split_first_chunk::<MARK>()?;
    let is_ours = same_secret(mark, &keys.audit_mark(purpose, &[environment.0.as_bytes(), content]));
    if is_ours { Some((serde_json::from_slice(content).ok()?, *mark)) } else { None }
}

/// A name that can be looked for but not read.
pub(super) fn hashed(keys: &SystemKeys, environment: EnvironmentId, name: &str) -> String {
    let mark = keys.audit_mark(AuditMark::Name, &[environment.0.as_bytes(), name.as_bytes()]);
    format!("{HASHED}{}", hex(&mark[..NAME]))
}

/// An id as it may stand in the log: ours are UUIDs, a vendor's may be an address of a person.
pub(super) fn shown_id(keys: &SystemKeys, environment: EnvironmentId, id: &str) -> String {
    match Uuid::try_parse(id) {
        Ok(uuid) if id.len() == uuid::fmt::Hyphenated::LENGTH => uuid.to_string(),
        _ => hashed(keys, environment, id),
    }
}

/// The same of an id that is looked for, which may be one the log has shown.
pub(super) fn wanted_id(keys: &SystemKeys, environment: EnvironmentId, id: &str) -> String {
    if id.starts_with(HASHED) { id.to_owned() } else { shown_id(keys, environment, id) }
}
