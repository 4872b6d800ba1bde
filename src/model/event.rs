//! What happened to an account, told once: in the environment's log of events, and to whoever listens.

use std::{fmt, str::FromStr};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::{Account, AccountId, EnvironmentId, EventId, Slug};

macro_rules! kinds {
    ($($variant:ident $text:tt $doc:literal;)*) => {
        /// What happened. `integrated_account:post_install_error` and `integrated_account:validation_error` are Truto's words for
        /// accounts that are stored before they are verified; here none is, and they are never told.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
        pub enum EventKind { $(#[doc = $doc] #[serde(rename = $text)] $variant),* }

        impl EventKind {
            /// Every kind.
            pub const ALL: &'static [EventKind] = &[$(EventKind::$variant),*];
            /// The name used in requests and answers.
            pub const fn as_str(self) -> &'static str {
                match self { $(EventKind::$variant => $text),* }
            }
        }

        impl FromStr for EventKind {
            type Err = String;
            fn from_str(text: &str) -> Result<Self, String> {
                match text { $($text => Ok(EventKind::$variant),)* _ => Err(format!("unknown event `{text}`")) }
            }
        }
    };
}

kinds! {
    Created "integrated_account:created" "An account was linked.";
    Updated "integrated_account:updated" "Its credential, label, context or expiry was changed.";
    Active "integrated_account:active" "Calls go through, after a link or a changed credential.";
    Reactivated "integrated_account:reactivated" "The vendor accepts a credential again that it had refused.";
    AuthenticationError "integrated_account:authentication_error" "The vendor refuses the credential; told once until that ends.";
    PostInstallError "integrated_account:post_install_error" "A step after linking failed; never told here, where linking has none.";
    ValidationError "integrated_account:validation_error" "Verification after linking failed; never told here, where it comes before.";
    Expiring "integrated_account:expiring" "The credential ends soon: 14, 3 or 1 days before.";
    Disabled "integrated_account:disabled" "Calls were stopped.";
    Enabled "integrated_account:enabled" "Calls may go through again.";
    Deleted "integrated_account:deleted" "The account and its credential are gone.";
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One event, as it is stored and shown. It holds no secret and no answer of a vendor's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Event {
    /// The same however often the event is told.
    pub id: EventId,
    /// What happened.
    #[serde(rename = "event")]
    pub kind: EventKind,
    /// The environment it happened in.
    #[serde(rename = "environment_id")]
    pub environment: EnvironmentId,
    /// The account it happened to.
    #[serde(rename = "integrated_account_id")]
    pub account: AccountId,
    /// The caller's own label of the end customer, as it was then.
    pub tenant_id: String,
    /// The connector's slug.
    pub integration: Slug,
    /// When it happened.
    #[serde(rename = "created_at")]
    pub occurred_at: Timestamp,
    /// The account as it was then, without credential and context; of one that is gone its id alone.
    #[serde(rename = "payload")]
    pub data: Map<String, Value>,
}

/// The namespace of the ids of events; never changes.
const NAMESPACE: Uuid = Uuid::from_u128(0x7d3a_1c64_0f5b_5b0e_8f0e_6a52_90c1_7e4b);

impl Event {
    /// An event of an account. `version` is the one its record had before: with it the id is that of one transition, however
    /// often somebody tries to store it.
    pub fn of(account: &Account, version: u64, kind: EventKind, occurred_at: Timestamp, data: Map<String, Value>) -> Self {
        let name = format!("{}|{}|{version}|{kind}", account.id, account.generation);
        Self {
            id: EventId(Uuid::new_v5(&NAMESPACE, name.as_bytes())),
            kind,
            environment: account.environment,
            account: account.id,
            tenant_id: account.tenant_id.clone(),
            integration: account.connector.clone(),
            occurred_at,
            data,
        }
    }
}
