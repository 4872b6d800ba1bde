//! API tokens and what they may do.

use std::{collections::BTreeSet, fmt, str::FromStr};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{EnvironmentId, TokenId};

macro_rules! scopes {
    ($($variant:ident $text:tt $doc:literal;)*) => {
        /// One right of a token.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
        pub enum Scope { $(#[doc = $doc] #[serde(rename = $text)] $variant),* }

        impl Scope {
            /// Every scope.
            pub const ALL: &'static [Scope] = &[$(Scope::$variant),*];
            /// The name used in requests and answers.
            pub const fn as_str(self) -> &'static str {
                match self { $(Scope::$variant => $text),* }
            }
        }

        impl FromStr for Scope {
            type Err = String;
            fn from_str(text: &str) -> Result<Self, String> {
                match text { $($text => Ok(Scope::$variant),)* _ => Err(format!("unknown scope `{text}`")) }
            }
        }
    };
}

scopes! {
    DirectoryRead "directory:read" "Read users, groups, roles and the like.";
    DirectoryWrite "directory:write" "Change them.";
    ProxyRead "proxy:read" "Call a vendor with GET, HEAD and OPTIONS.";
    ProxyWrite "proxy:write" "Call a vendor with any method.";
    UsageRead "usage:read" "Read usage.";
    UsageWrite "usage:write" "Run usage collection.";
    MappingsWrite "mappings:write" "Change mappings to PSA accounts and services.";
    UsageApprove "usage:approve" "Approve reconciliations and pushes.";
    AccountsRead "accounts:read" "See linked accounts, without their secrets.";
    AccountsWrite "accounts:write" "Import, change and delete linked accounts.";
    LinksWrite "links:write" "Make link tokens.";
    WatchesWrite "watches:write" "Change watches.";
    EventsRead "events:read" "Read events.";
    WebhooksWrite "webhooks:write" "Change webhooks.";
    OffboardingApprove "offboarding:approve" "Approve off-boarding.";
    Admin "admin" "Everything, and tokens.";
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The rights of one token.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(transparent)]
pub struct Scopes(pub BTreeSet<Scope>);

impl Scopes {
    /// Whether the right is held; `admin` holds all.
    pub fn allow(&self, scope: Scope) -> bool {
        self.0.contains(&Scope::Admin) || self.0.contains(&scope)
    }
}

/// A token as stored: everything but its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
}
