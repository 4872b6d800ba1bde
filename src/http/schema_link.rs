//! Link tokens as they are asked for and answered.

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{http::body, model::LinkId, service::link::NewLink};

/// `POST /link-token`: a new account of a customer, or one that is linked anew.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"tenant_id": "acme-1", "integrations": ["scim"], "redirect_uri": "https://app.example.com/linked"}))]
pub struct CreateLinkToken {
    /// The caller's own label of the end customer, for a new account; at most 200 bytes, no control characters.
    #[schema(min_length = 1, max_length = 200)]
    #[serde(default)]
    pub tenant_id: Option<String>,
    /// The account that is linked anew; its id, label and connector stay. Exactly one of this and `tenant_id` is given.
    #[serde(default)]
    pub integrated_account_id: Option<String>,
    /// The slugs of the connectors that may be linked; all when left out.
    #[serde(default)]
    pub integrations: Option<Vec<String>>,
    /// In place of the connector's own scopes, where the vendor has scopes.
    #[serde(default)]
    pub scopes: Option<Vec<String>>,
    /// Fields of the link method, which the page then does not ask for, and any context of the caller's own. Wins over what
    /// is filled in.
    #[serde(default)]
    pub context: Option<Map<String, Value>>,
    /// Where the browser goes at the end: https, or http on the customer's own machine; no user name, no fragment.
    #[serde(default)]
    pub redirect_uri: Option<String>,
    /// Origins, as browsers write them, whose pages may frame the page and are told how it ended.
    #[serde(default)]
    pub origins: Option<Vec<String>>,
    /// Whether the context the account has stays when it is linked anew. Yes when left out, where Truto's answer is no: labels,
    /// and fields that are not asked for again, would be lost by a caller who did not think of them.
    #[serde(default)]
    pub persist_previous_context: Option<bool>,
    /// Seconds the token can be used; 1800 when left out.
    #[schema(minimum = 1, maximum = 86400)]
    #[serde(default, deserialize_with = "body::whole")]
    pub expires_in: Option<i64>,
    /// Accepted for Truto's clients; data stays where the gateway runs.
    #[serde(default)]
    pub region: Option<Region>,
    /// Accepted for Truto's clients, without effect; a single id may stand without a list, as its Python SDK has it.
    #[serde(default, deserialize_with = "one_or_more")]
    pub environment_unified_model_id: Option<Vec<String>>,
    /// Accepted for Truto's clients, without effect.
    #[serde(default)]
    pub unified_model_id: Option<Vec<String>>,
    /// Whether the account is one to rehearse with; no when left out, or what it was when it is linked anew.
    #[serde(default)]
    pub is_sandbox: Option<bool>,
    /// Accepted for Truto's clients; the gateway's own proxy settings hold for every call.
    #[serde(default)]
    pub truto_static_gate_id: Option<Uuid>,
}

/// A list of texts, or one text.
fn one_or_more<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<String>>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected a text or a list of texts")]
    enum Given {
        One(String),
        More(Vec<String>),
    }
    Ok(Option::deserialize(deserializer)?.map(|given| match given {
        Given::One(id) => vec![id],
        Given::More(ids) => ids,
    }))
}

/// Truto's regions.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Region {
    /// Western North America.
    Wnam,
    /// Eastern North America.
    Enam,
    /// Asia and Pacific.
    Apac,
    /// Europe.
    Eu,
}

impl From<CreateLinkToken> for NewLink {
    fn from(body: CreateLinkToken) -> Self {
        NewLink {
            tenant_id: body.tenant_id,
            integrated_account_id: body.integrated_account_id,
            integrations: body.integrations,
            scopes: body.scopes,
            context: body.context.unwrap_or_default(),
            redirect_uri: body.redirect_uri,
            origins: body.origins.unwrap_or_default(),
            persist_previous_context: body.persist_previous_context,
            is_sandbox: body.is_sandbox,
            expires_in: body.expires_in,
            maker: None,
        }
    }
}

/// A link token, shown once.
#[derive(Serialize, ToSchema)]
pub struct CreatedLinkToken<'a> {
    /// By which it is taken back.
    pub id: LinkId,
    /// Its text, never shown again.
    pub link_token: &'a str,
    /// The page for the customer, with the token in it: whoever opens it first and fills it in has it.
    pub link_url: String,
    /// When it ends by itself.
    pub expires_at: Timestamp,
}
