//! The shapes of what is asked about one account or several beside import, change and delete.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::model::Scope;

/// `POST /integrated-account/token`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MakeAccountToken {
    /// The account it shall reach.
    pub integrated_account_id: String,
    /// Fewer rights than the caller's own over an account: those over directory, proxy and usage, and over accounts for
    /// `/integrated-account/me`.
    #[serde(default)]
    #[schema(min_items = 1, nullable = false)]
    pub scopes: Option<Vec<Scope>>,
}

/// A new account token. Its text is not stored and cannot be shown again.
#[derive(Serialize, ToSchema)]
pub struct AccountToken<'a> {
    /// The token.
    pub integrated_account_token: &'a str,
    /// The same, for clients that look for it under this name.
    pub token: &'a str,
    /// Seconds until it ends.
    pub expires_in: i64,
    /// When it ends.
    pub expires_at: Timestamp,
}

/// `PATCH /integrated-account/me`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeOwnAccount {
    /// Labels, merged at the top level; null removes. A field the account was linked by is refused.
    pub context: Map<String, Value>,
}

/// `POST /integrated-account/bulk-delete`: exactly one of both.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BulkDelete {
    /// These accounts.
    #[serde(default)]
    #[schema(min_items = 1, max_items = 500, nullable = false)]
    pub ids: Option<Vec<String>>,
    /// Every account with this label.
    #[serde(default)]
    #[schema(min_length = 1, nullable = false)]
    pub tenant_id: Option<String>,
}

/// `POST /integrated-account/refresh-credentials`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RefreshCredentials {
    /// The account.
    pub id: String,
}

/// `POST /integrated-account/run-post-install-actions`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RunPostInstallActions {
    /// The account.
    pub id: String,
}

/// `PATCH /integrated-account/{id}/credentials`: the secret fields of the account's link method, and `oauth.token` where a
/// customer agreed at the vendor; bare, or all of them within `context`. What is left out stays.
#[derive(Deserialize, ToSchema)]
#[serde(transparent)]
#[schema(example = json!({"token": "the-next-token-of-the-directory"}))]
pub struct ChangeCredentials(pub Map<String, Value>);

/// It is done.
#[derive(Serialize, ToSchema)]
pub struct Success {
    /// Always true: what was not done is an error.
    pub success: bool,
}
