//! The shapes of the wire for tests of credentials and for events.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::{
    model::{Event, EventKind},
    service::Seen,
};

/// `POST /integrated-account/test`: one of `integration` and `environment_integration_id` names the connector.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "integration": "scim", "authentication_method": "bearer",
    "context": {"base_url": "https://directory.example.com/scim/v2", "token": "the-token-of-the-directory"}
}))]
pub struct TestCredential {
    /// The connector's slug or id.
    #[serde(default)]
    pub integration: Option<String>,
    /// The connector's id within this environment.
    #[serde(default)]
    pub environment_integration_id: Option<String>,
    /// The link method.
    pub authentication_method: String,
    /// The method's fields, and any context of the caller's own.
    #[serde(default)]
    pub context: Map<String, Value>,
}

/// What a credential that works can see.
#[derive(Serialize, ToSchema)]
pub struct CredentialTested {
    /// Always true: what does not work is an error.
    pub ok: bool,
    /// What it sees.
    pub sees: Seen,
}

/// A page of events.
#[derive(Serialize, ToSchema)]
pub struct EventPage {
    /// The events, the newest first.
    pub result: Vec<Event>,
    /// Where to go on; null at the end.
    #[schema(required = true)]
    pub next_cursor: Option<String>,
    /// The most events of a page.
    pub limit: usize,
}

/// Filters of the list of events.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "for the document only; `query` reads what callers send")]
pub struct EventParams {
    /// Only events of this kind.
    #[param(inline)]
    pub event: Option<EventKind>,
    /// Only events of this account, also of one that is gone.
    pub integrated_account_id: Option<Uuid>,
    /// Only events of accounts that had this label.
    #[param(min_length = 1)]
    pub tenant_id: Option<String>,
    /// Only what happened then or later.
    pub since: Option<jiff::Timestamp>,
}
