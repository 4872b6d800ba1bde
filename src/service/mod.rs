//! The product: what the ways in call. No web server, no network client here.

pub mod accounts;
pub mod audit;
pub mod authorize;
pub mod backup;
mod care;
pub mod cursor;
pub mod directory;
mod environments;
pub mod events;
pub mod export;
mod fresh;
pub mod idempotency;
mod installs;
pub mod keys;
mod lease;
mod lines;
pub mod link;
mod members;
mod meters;
pub mod passthrough;
pub mod rates;
pub mod request_log;
pub mod tokens;

use std::sync::Arc;

use arc_swap::ArcSwap;
use jiff::Timestamp;

pub use accounts::{
    Accounts, ChangeAccount, DeleteAccounts, Deleter, Granted, GrantedTokens, IfThere, Leave, Linked, ListAccounts, MOST_SEALS,
    MadeAccountToken, NewAccount, OUTCOME_UNKNOWN, Opened, Seen, SeenCount,
};
pub use audit::{Act, Audit};
pub use authorize::{Authorizations, AuthorizeAsk, Begun, CameBack};
pub use backup::Backups;
pub use care::Care;
pub use cursor::PlatformCursors;
pub use directory::{
    ChangeAsk, Directory, Doing, Filter, FilterOp, ListPage, ListQuery, OneQuery, OneRecord, Order, ResponseFormat, Snapshots,
    VendorSaid, VendorWrite,
};
pub use environments::Environments;
pub use events::{Events, ListEvents};
pub use export::Export;
pub use idempotency::{Asked, Idempotency, IdempotencyKey, KEY_HEADER, Reply, Run, Told};
pub use installs::{ChangeInstall, Installed, Installing, Installs, NewInstall, OAuthApp, OAuthApps, OAuthAppsError};
pub use keys::{KeyStatus, Keys, RingChange, RootKey, Rotate, Rotated};
pub use lines::{Lines, ListEnd};
pub use link::Links;
pub use passthrough::{COMPANY_HEADER, CustomAsk, CustomReply, Look, Passthrough};
pub use rates::Rates;
pub use request_log::RequestLog;
pub use tokens::{Administrator, ListTokens, NewToken, ShownToken, Tokens};

use crate::{
    connector::Catalog,
    error::{Code, Error, Result},
    model::{AccountId, EnvironmentId, Scope, Scopes, TokenId},
    store::Store,
};

/// What stands in place of a secret that is kept.
pub const REDACTED: &str = "***";

/// Everything a handler can ask for.
pub struct Services {
    /// API tokens.
    pub tokens: Arc<Tokens>,
    /// The walls between tenants.
    pub environments: Environments,
    /// Connectors within environments.
    pub installs: Arc<Installs>,
    /// Linked accounts.
    pub accounts: Arc<Accounts>,
    /// What happened to them.
    pub events: Arc<Events>,
    /// What is done for them without a caller.
    pub care: Arc<Care>,
    /// Customers that are agreeing at a vendor just now.
    pub authorizations: Arc<Authorizations>,
    /// Link tokens.
    pub links: Links,
    /// The unified user directory and `/proxy/{resource}`.
    pub directory: Directory,
    /// The transparent proxy.
    pub passthrough: Passthrough,
    /// The operator's own limits.
    pub rates: Rates,
    /// Writes that can be repeated.
    pub idempotency: Idempotency,
    /// What was asked in the last 14 days.
    pub log: Arc<RequestLog>,
    /// Root keys and data keys.
    pub keys: Keys,
    /// The whole store, for the operator.
    pub backups: Backups,
    /// Who did what.
    pub audit: Arc<Audit>,
    /// Everything that is kept of a customer.
    pub export: Export,
    /// Where lists of the gateway's own objects go on.
    pub cursors: PlatformCursors,
    /// The connectors; replaced when the overlay changes.
    pub catalog: Arc<ArcSwap<Catalog>>,
    /// For health only.
    pub store: Arc<dyn Store>,
}

/// Who calls: made from a token, never from a request.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The wall.
    pub environment: EnvironmentId,
    /// The token; of an account token, the one it was made with.
    pub token: TokenId,
    /// The person's or service's name.
    pub actor: String,
    /// The rights.
    pub scopes: Scopes,
    /// What alone an account token reaches.
    pub bound: Option<Bound>,
}

/// The one account that an account token reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// The account.
    pub account: AccountId,
    /// When the token was made: an account that came later under the same id is another one.
    pub since: Timestamp,
    /// When the account was made that is meant, to the instant; tokens of an earlier release do not say.
    pub made_at: Option<Timestamp>,
}

impl Caller {
    /// The account a call is for that names none.
    pub fn own_account(&self) -> Option<String> {
        self.bound.map(|bound| bound.account.to_string())
    }

    /// Refuses unless the right is held.
    pub fn require(&self, scope: Scope) -> Result<()> {
        if self.scopes.allow(scope) {
            return Ok(());
        }
        Err(Error::new(Code::ScopeMissing, format!("This call needs the scope `{scope}`.")).field(scope.as_str()))
    }
}

/// The error for work at a vendor that ended without an outcome.
fn cut_short() -> Error {
    Error::internal("a task at the vendor panicked")
}
