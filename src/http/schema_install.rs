//! Connectors within an environment, and environments, as they stand on the wire.

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value, json};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{
    schema::{IntegrationLabel, IntegrationRef},
    schema_token::CreatedApiToken,
};
use crate::{
    model::{ApiToken, EnvironmentId, Install, environment_integration_id},
    service::{Installed, REDACTED},
    store::repo,
};

/// `POST /environment-integration`: one of `integration` and `integration_id` names the connector.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"integration": "scim", "show_in_catalog": false}))]
pub struct InstallIntegration {
    /// The connector's slug or id.
    #[serde(default)]
    pub integration: Option<String>,
    /// The connector's id or slug.
    #[serde(default)]
    pub integration_id: Option<String>,
    /// Whether accounts can be linked and called; `true` when left out.
    #[serde(default)]
    pub is_enabled: Option<bool>,
    /// Whether it is offered to whoever does not ask for it by name; `true` when left out.
    #[serde(default)]
    pub show_in_catalog: Option<bool>,
    /// See `PATCH /environment-integration/{id}`.
    #[serde(default, deserialize_with = "written")]
    #[schema(value_type = Map<String, Value>, required = false)]
    pub r#override: Option<Value>,
}

/// `PATCH /environment-integration/{id}`: what is left out stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"override": {"resources": {"users": {"map": {"title": "jobTitle", "avatar": null}}}}}))]
pub struct ChangeEnvironmentIntegration {
    /// Whether accounts can be linked and called.
    #[serde(default)]
    pub is_enabled: Option<bool>,
    /// Whether it is offered to whoever does not ask for it by name.
    #[serde(default)]
    pub show_in_catalog: Option<bool>,
    /// Merged key by key at every depth: null removes a key, lists and plain values replace, what is not named stays.
    /// `credentials.oauth2` (`client_id`, `client_secret`) is the environment's own OAuth app. `resources.<resource>.map` lays rules
    /// over the connector's map, target by target (`users` for every link method, `users.<method>` for one). Nothing else of a
    /// connector can be overridden.
    #[serde(default, deserialize_with = "written")]
    #[schema(value_type = Map<String, Value>, required = false)]
    pub r#override: Option<Value>,
}

/// Tells a written `null` from a missing member.
pub fn written<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

/// A connector within an environment. Every connector is installed, enabled and shown until something else is said.
#[derive(Serialize, ToSchema)]
pub struct EnvironmentIntegration {
    /// Its id.
    pub id: Uuid,
    /// The connector's id.
    pub integration_id: Uuid,
    /// The environment.
    pub environment_id: EnvironmentId,
    /// Whether accounts can be linked and called.
    pub is_enabled: bool,
    /// Whether it is offered to whoever does not ask for it by name.
    pub show_in_catalog: bool,
    /// What is laid over the connector; secrets show as `***`.
    pub r#override: Map<String, Value>,
    /// The connector.
    pub integration: IntegrationRef,
    /// When something was first said of it; null before.
    #[schema(required = true)]
    pub created_at: Option<Timestamp>,
    /// When that last changed.
    #[schema(required = true)]
    pub updated_at: Option<Timestamp>,
}

impl EnvironmentIntegration {
    /// The public view of a connector within an environment.
    pub fn view(installed: Installed) -> Self {
        let Installed { connector, install, is_said } = installed;
        Self {
            id: environment_integration_id(install.environment, &connector.slug),
            integration_id: connector.id,
            environment_id: install.environment,
            is_enabled: install.is_enabled,
            show_in_catalog: install.show_in_catalog,
            integration: IntegrationRef {
                id: connector.id,
                name: connector.slug.to_string(),
                category: connector.file.category.clone(),
                config: IntegrationLabel { label: connector.file.title.clone() },
            },
            created_at: is_said.then_some(install.created_at),
            updated_at: is_said.then_some(install.updated_at),
            r#override: overrides(install),
        }
    }
}

fn overrides(install: Install) -> Map<String, Value> {
    let app = install.oauth_app.map(|app| json!({"oauth2": {"client_id": app.client_id, "client_secret": REDACTED}}));
    let maps = (!install.maps.is_empty()).then_some(Value::Object(install.maps));
    let slots = [("credentials", app), ("resources", maps)];
    slots.into_iter().filter_map(|(name, slot)| Some((name.to_owned(), slot?))).collect()
}

/// `POST /environment` and `PATCH /environment/{id}`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NameEnvironment {
    /// For people; no other environment has it.
    #[schema(min_length = 1, max_length = 100)]
    pub name: String,
}

/// A wall between tenants: accounts, tokens, installed connectors and logs stand behind it.
#[derive(Serialize, ToSchema)]
pub struct Environment {
    /// Its id.
    pub id: EnvironmentId,
    /// For people.
    pub name: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When its name changed last.
    pub updated_at: Timestamp,
}

impl From<repo::Environment> for Environment {
    fn from(environment: repo::Environment) -> Self {
        let repo::Environment { id, name, created_at, updated_at, later: _ } = environment;
        Self { id, name, created_at, updated_at: updated_at.unwrap_or(created_at) }
    }
}

/// A new environment, and the one way into it.
#[derive(Serialize, ToSchema)]
pub struct CreatedEnvironment<'a> {
    /// Its id.
    pub id: EnvironmentId,
    /// For people.
    pub name: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When its name changed last.
    pub updated_at: Timestamp,
    /// Its first administrator's token. Its text is in this answer and never again.
    pub api_token: CreatedApiToken<'a>,
}

impl<'a> CreatedEnvironment<'a> {
    /// An environment and a token of it with its text.
    pub fn of(environment: repo::Environment, token: &'a ApiToken, text: &'a str, created_by: &'a str) -> Self {
        let Environment { id, name, created_at, updated_at } = environment.into();
        Self { id, name, created_at, updated_at, api_token: CreatedApiToken::of(token, text, created_by) }
    }
}
