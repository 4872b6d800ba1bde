//! The shapes of API tokens on the wire.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    model::{self, EnvironmentId, Scope, Scopes, TokenId},
    service::ShownToken,
};

/// A token as it is shown: everything but its secret.
#[derive(Serialize, ToSchema)]
pub struct ApiToken {
    /// The token's id, part of its text.
    pub id: TokenId,
    /// The person's or service's name, shown as `actor`.
    pub name: String,
    /// The only environment it reaches.
    pub environment_id: EnvironmentId,
    /// Its rights.
    pub scopes: Scopes,
    /// When it ends by itself.
    pub expires_at: Option<Timestamp>,
    /// When it was made.
    pub created_at: Timestamp,
    /// The name of the token it was made with; null of one that was made by the gateway itself.
    #[schema(required = true)]
    pub created_by: Option<String>,
    /// When it was used last, to a minute or so; null where no use was noted.
    #[schema(required = true)]
    pub last_used_at: Option<Timestamp>,
}

impl From<ShownToken> for ApiToken {
    fn from(ShownToken { token, created_by, last_used_at }: ShownToken) -> Self {
        Self {
            id: token.id,
            name: token.name,
            environment_id: token.environment_id,
            scopes: token.scopes,
            expires_at: token.expires_at,
            created_at: token.created_at,
            created_by,
            last_used_at,
        }
    }
}

/// `POST /api-token`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateApiToken {
    /// The person's or service's name, shown as `actor`.
    #[schema(min_length = 1, max_length = 200)]
    pub name: String,
    /// Its rights.
    #[schema(min_items = 1)]
    pub scopes: Vec<Scope>,
    /// When it ends by itself; lies in the future.
    #[serde(default)]
    pub expires_at: Option<Timestamp>,
}

/// A new token: the only answer that ever shows its text.
#[derive(Serialize, ToSchema)]
pub struct CreatedApiToken<'a> {
    /// The token's id.
    pub id: TokenId,
    /// The token itself. It is not stored and cannot be shown again.
    pub token: &'a str,
    /// The name.
    pub name: &'a str,
    /// The only environment it reaches.
    pub environment_id: EnvironmentId,
    /// Its rights.
    pub scopes: Vec<Scope>,
    /// When it ends by itself.
    pub expires_at: Option<Timestamp>,
    /// When it was made.
    pub created_at: Timestamp,
    /// The name of the token it was made with.
    pub created_by: &'a str,
}

impl<'a> CreatedApiToken<'a> {
    /// A new token with its text, and the name of the token it was made with.
    pub fn of(token: &'a model::ApiToken, text: &'a str, created_by: &'a str) -> Self {
        Self {
            id: token.id,
            token: text,
            name: &token.name,
            environment_id: token.environment_id,
            scopes: token.scopes.0.iter().copied().collect(),
            expires_at: token.expires_at,
            created_at: token.created_at,
            created_by,
        }
    }
}
