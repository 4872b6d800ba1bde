//! A linked customer account, as it is stored.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::{AccountId, EnvironmentId, Later, Slug};

/// The life of an account; exactly Truto's five words. An account is stored once its vendor has taken the credential: it is
/// `active`, or `needs_reauth` after the vendor refused it. What fails before is answered to whoever links, and nothing is
/// stored, so that no account is `connecting`, `post_install_error` or `validation_error`, and filters by these find nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AccountStatus {
    /// The credential is being verified. Never stored here.
    Connecting,
    /// Calls go through.
    Active,
    /// A step after linking failed. Never stored here: linking has no steps behind it.
    PostInstallError,
    /// Verification after linking failed. Never stored here: it comes before.
    ValidationError,
    /// The vendor refuses the credential; only a new link helps.
    NeedsReauth,
}

/// The last time a vendor said 403: what was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Forbidden {
    /// The resource asked for.
    pub resource: String,
    /// The method asked for.
    pub method: String,
    /// Scopes the vendor named, if any.
    pub missing_scopes: Vec<String>,
    /// When.
    pub occurred_at: Timestamp,
}

/// That the end of a credential was announced: which end, and how long before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExpiryNotice {
    /// The end that was announced.
    pub expires_at: Timestamp,
    /// At most so many days were left.
    pub days: u8,
}

/// One customer's connection to one vendor. Secrets are in `sealed`, each bound to its place by the vault.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Account {
    /// Stable over re-links.
    pub id: AccountId,
    /// The wall it stands behind.
    pub environment: EnvironmentId,
    /// The caller's own label of the end customer; not unique, not a wall.
    pub tenant_id: String,
    /// The connector's slug.
    pub connector: Slug,
    /// The link method's name.
    pub method: String,
    /// Where in its life it is.
    pub status: AccountStatus,
    /// Why it is not active, for people.
    pub last_error: Option<String>,
    /// The last 403.
    pub last_forbidden: Option<Forbidden>,
    /// Counts credential changes; part of what secrets are bound to.
    pub generation: u64,
    /// Every origin and base this account's secrets may be sent to, resolved at link time, in a fixed order.
    pub origins: Vec<String>,
    /// Link fields that are not secret, by name.
    pub fields: BTreeMap<String, String>,
    /// Sealed secret link fields (base64), by name.
    pub sealed: BTreeMap<String, String>,
    /// Free context of the caller; never sent anywhere.
    pub context: Map<String, Value>,
    /// What the link test learned about the vendor (paging style, kind of enterprise …).
    pub facts: Map<String, Value>,
    /// Rules laid over the connector's maps for this account alone, as they were written, by resource.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub maps: Map<String, Value>,
    /// The id of the OAuth app that its customer agreed to, where that is the operator's or the environment's: a refresh token is
    /// good for that app alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oauth_client: Option<String>,
    /// The run of the write that made its credential: when that write is sent again, it finds what it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made_in: Option<Uuid>,
    /// A stand-in vendor of this gateway, not a real one.
    pub is_sandbox: bool,
    /// Whether calls may go to the vendor. Its owner's own switch: credential, mappings and status stay.
    #[serde(default = "enabled")]
    pub is_enabled: bool,
    /// When the credential ends, where it says so itself or somebody entered it.
    #[serde(default)]
    pub expires_at: Option<Timestamp>,
    /// The last announcement of that end.
    #[serde(default)]
    pub expiry_notice: Option<ExpiryNotice>,
    /// When the gateway last looked at the other side by itself and was answered.
    #[serde(default)]
    pub checked_at: Option<Timestamp>,
    /// Grows whenever such a look, or a call, learned something new.
    #[serde(default)]
    pub data_version: u64,
    /// When it was first linked.
    pub created_at: Timestamp,
    /// When anything of it last changed.
    pub updated_at: Timestamp,
    /// Members that a later release wrote.
    #[serde(flatten)]
    pub later: Later,
}

fn enabled() -> bool {
    true
}

impl Account {
    /// An account with nothing but its place: no tenant, no credential, nothing learned.
    pub fn draft(environment: EnvironmentId, connector: Slug, method: String, now: Timestamp) -> Self {
        Self {
            id: AccountId::generate(),
            environment,
            tenant_id: String::new(),
            connector,
            method,
            status: AccountStatus::Active,
            last_error: None,
            last_forbidden: None,
            generation: 1,
            origins: Vec::new(),
            fields: BTreeMap::new(),
            sealed: BTreeMap::new(),
            context: Map::new(),
            facts: Map::new(),
            maps: Map::new(),
            oauth_client: None,
            made_in: None,
            is_sandbox: false,
            is_enabled: true,
            expires_at: None,
            expiry_notice: None,
            checked_at: None,
            data_version: 0,
            created_at: now,
            updated_at: now,
            later: Later::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_of_an_earlier_release_is_enabled_and_ends_never() {
        let draft = Account::draft(EnvironmentId::generate(), "scim".parse().unwrap(), "bearer".into(), Timestamp::UNIX_EPOCH);
        let mut stored = serde_json::to_value(&draft).unwrap();
        for later in ["is_enabled", "expires_at", "expiry_notice", "checked_at", "data_version"] {
            assert!(stored.as_object_mut().unwrap().remove(later).is_some(), "{later}");
        }
        assert_eq!(serde_json::from_value::<Account>(stored).unwrap(), draft);
    }
}
