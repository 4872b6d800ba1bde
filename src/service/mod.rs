//! The product: what the ways in call. No web server, no network client here.

pub mod accounts;
mod care;
mod change;
mod check;
mod context;
mod credential;
pub mod cursor;
pub mod directory;
pub mod events;
mod expiry;
mod facts;
pub mod filter;
mod fresh;
pub mod idempotency;
mod lines;
mod members;
mod meters;
pub mod open;
mod order;
pub mod passthrough;
pub mod rates;
mod renew;
pub mod request_log;
pub mod snapshot;
mod source;
mod state;
pub mod tokens;
mod walk;
mod write;

use std::sync::Arc;

use arc_swap::ArcSwap;

pub use accounts::{Accounts, ChangeAccount, Linked, ListAccounts, NewAccount};
pub use care::Care;
pub use change::{ChangeAsk, Doing, VendorSaid, VendorWrite};
pub use check::{Seen, SeenCount};
pub use cursor::PlatformCursors;
pub use directory::{Directory, ListPage, ListQuery, OneQuery, OneRecord, ResponseFormat};
pub use events::{Events, ListEvents};
pub use filter::{Filter, FilterOp};
pub use idempotency::{Asked, Idempotency, IdempotencyKey, KEY_HEADER, Reply, Run, Told};
pub use lines::{Lines, ListEnd};
pub use open::Opened;
pub use order::Order;
pub use passthrough::{COMPANY_HEADER, CustomAsk, CustomReply, Look, Passthrough};
pub use rates::Rates;
pub use request_log::RequestLog;
pub use snapshot::Snapshots;
pub use tokens::{Administrator, NewToken, Tokens};

use crate::{
    connector::Catalog,
    error::{Code, Error, Result},
    model::{EnvironmentId, Scope, Scopes, TokenId},
    store::Store,
};

/// Everything a handler can ask for.
pub struct Services {
    /// API tokens.
    pub tokens: Tokens,
    /// Linked accounts.
    pub accounts: Arc<Accounts>,
    /// What happened to them.
    pub events: Arc<Events>,
    /// What is done for them without a caller.
    pub care: Arc<Care>,
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
    /// The token.
    pub token: TokenId,
    /// The person's or service's name.
    pub actor: String,
    /// The rights.
    pub scopes: Scopes,
}

impl Caller {
    /// Refuses unless the right is held.
    pub fn require(&self, scope: Scope) -> Result<()> {
        if self.scopes.allow(scope) {
            return Ok(());
        }
        Err(Error::new(Code::ScopeMissing, format!("This call needs the scope `{scope}`.")).field(scope.as_str()))
    }
}
