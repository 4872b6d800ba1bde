//! A connector within an environment, as far as anything is said of it: without a record it is installed, enabled and shown.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{EnvironmentId, Later, Slug};

/// The record of an installed connector.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Install {
    /// The wall it stands behind.
    pub environment: EnvironmentId,
    /// The connector's slug.
    pub connector: Slug,
    /// Whether accounts can be linked and called.
    pub is_enabled: bool,
    /// Whether it is offered to whoever does not ask for it by name.
    pub show_in_catalog: bool,
    /// The environment's own OAuth app.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oauth_app: Option<SealedApp>,
    /// Rules laid over the connector's maps, as they were written, by resource.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub maps: Map<String, Value>,
    /// When it was taken away, until it is installed again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uninstalled_at: Option<Timestamp>,
    /// When something was first said of it.
    pub created_at: Timestamp,
    /// When that last changed.
    pub updated_at: Timestamp,
    /// Members that a later release wrote.
    #[serde(flatten)]
    pub later: Later,
}

/// An OAuth app whose secret is sealed to environment, connector and client id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedApp {
    /// The client's id at the vendor.
    pub client_id: String,
    /// Base64 of its sealed secret.
    pub client_secret: String,
}

impl Install {
    /// What holds of a connector of which nothing is said.
    pub fn unsaid(environment: EnvironmentId, connector: Slug, now: Timestamp) -> Self {
        Self {
            environment,
            connector,
            is_enabled: true,
            show_in_catalog: true,
            oauth_app: None,
            maps: Map::new(),
            uninstalled_at: None,
            created_at: now,
            updated_at: now,
            later: Later::default(),
        }
    }

    /// Whether accounts of it can be linked and called.
    pub fn is_in_use(&self) -> bool {
        self.is_enabled && self.uninstalled_at.is_none()
    }
}
