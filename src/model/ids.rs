//! Identifiers. Platform ids are UUIDv7; ids of connectors are UUIDv5 so that every node and both Truto forms agree.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! id_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
        #[serde(transparent)]
        #[schema(value_type = String, format = Uuid)]
        pub struct $name(pub Uuid);

        impl $name {
            /// A new, time-ordered id.
            pub fn generate() -> Self {
                Self(Uuid::now_v7())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::try_parse(text).map(Self)
            }
        }
    };
}

id_type! {
    /// The wall between tenants; taken from the token, never from a request.
    EnvironmentId
}
id_type! {
    /// One customer's connection to one vendor.
    AccountId
}
id_type! {
    /// One API token.
    TokenId
}
id_type! {
    /// One link token; a keyed hash of its text, so that it is found by the text and tells nothing of it.
    LinkId
}

id_type! {
    /// One event, the same however often it is told.
    EventId
}

/// A connector's name: lower-case letters, digits and dashes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema, schemars::JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
#[schema(value_type = String, pattern = "^[a-z][a-z0-9-]{0,62}$")]
pub struct Slug(String);

impl Slug {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Slug {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let ok = text.len() <= 63
            && text.starts_with(|c: char| c.is_ascii_lowercase())
            && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
        if ok { Ok(Self(text)) } else { Err("a connector's name is 1 to 63 of a-z, 0-9 and -, and starts with a letter".into()) }
    }
}

impl FromStr for Slug {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        Self::try_from(text.to_owned())
    }
}

impl From<Slug> for String {
    fn from(slug: Slug) -> Self {
        slug.0
    }
}

impl fmt::Display for Slug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The namespace of the two UUIDv5 ids below; never changes.
const NAMESPACE: Uuid = Uuid::from_u128(0x1b0c_5f2e_6a43_5d0e_9d61_7e0c_a11c_0de5);

/// The id of a connector.
pub fn integration_id(slug: &Slug) -> Uuid {
    Uuid::new_v5(&NAMESPACE, slug.as_str().as_bytes())
}

/// The id of a connector within an environment, Truto's `environment_integration_id`.
pub fn environment_integration_id(environment: EnvironmentId, slug: &Slug) -> Uuid {
    Uuid::new_v5(&environment.0, slug.as_str().as_bytes())
}
