//! Everything that leaves the machine: one egress guard, two clients (reqwest for unified calls, hyper with a pool per
//! worker for the passthrough), authentication, paging, limits, and what vendor errors mean.

pub mod access;
pub mod classify;
pub mod client;
mod decode;
pub mod egress;
pub mod egress_proxy;
pub mod headers;
pub mod json_links;
mod limits;
pub mod link_header;
pub mod links;
pub mod load;
mod meters;
pub mod own;
pub mod page;
pub mod passthrough;
pub mod passthrough_target;
pub mod query;
mod ranges;
pub mod rate;
mod redact;
pub mod renewal;
mod report;
mod scopes;
mod send;
mod tls;
pub mod token;
pub mod transport;
pub mod trust;
mod write;

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::{Map, Value};

pub use access::Access;
pub use client::{Context, Upstream};
pub use egress::{Allow, Guard};
pub use egress_proxy::EgressProxy;
pub use meters::ByConnector;
pub use query::Query;
pub use renewal::{Age, CallOf, Renew};
pub use report::{ReportAsk, ReportPage};
pub use send::{CustomAnswer, CustomCall, HttpAnswer, HttpCall};
pub use token::{Authorization, CodeGrant, NoToken, Token, Way, is_token};
pub use transport::keeper_commander::ADDON_MISSING;
pub use trust::Trust;
pub use write::{Said, VerbatimAsk, WriteAsk, WriteVerb, Written, judge};

use crate::{
    connector::Meaning,
    error::{Code, Error, VendorAnswer},
    mapping::Records,
    model::{Resource, Warning},
};

/// Why a call to a vendor gave nothing usable. Never holds a URL's query, a header value or a secret.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The address may not be called.
    #[error("{0}")]
    Egress(String),
    /// No answer: name, connection, TLS.
    #[error("{0}")]
    Unreachable(String),
    /// The server's certificate is not one the account trusts by a field of its own.
    #[error("TLS: `{field}`: {reason}")]
    Distrusted {
        /// The field.
        field: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// The connection broke, and the request may have arrived.
    #[error("{0}")]
    Broken(String),
    /// The connection ended in the midst of the exchange: a request that is safe to repeat may be sent again.
    #[error("the connection closed before the answer was whole")]
    Cut,
    /// No answer in time.
    #[error("no answer within {0} s")]
    TimedOut(u64),
    /// An answer that cannot be read: not JSON, cut, too large, another shape.
    #[error("{0}")]
    BadAnswer(String),
    /// An answer that is an error, classified by the connector's rules.
    #[error("the vendor answered {}", .answer.status.unwrap_or_default())]
    Answered {
        /// What it means.
        meaning: Meaning,
        /// The vendor's words.
        answer: VendorAnswer,
        /// Seconds to wait, where the vendor or the rule says so.
        wait: Option<u64>,
        /// The rule's sentence.
        message: Option<String>,
    },
    /// The caller's own body did not come in time.
    #[error("{0}")]
    Upload(String),
    /// The caller's own body broke off, or is framed wrongly.
    #[error("{0}")]
    UploadBroken(String),
    /// A value that the vendor's protocol cannot carry; nothing was sent.
    #[error("`{field}` cannot be sent: {reason}")]
    Unsendable {
        /// The caller's field.
        field: String,
        /// Why.
        reason: String,
    },
    /// A name that cannot stand in a request's address, so that nothing can have it; nothing was sent.
    #[error("{0}")]
    Unaddressable(String),
    /// What is named cannot be there; nothing was sent.
    #[error("{0}")]
    Absent(String),
    /// What shall be made is there already; nothing was sent.
    #[error("{0}")]
    Exists(String),
    /// The customer's plan at the vendor lacks what this needs.
    #[error("{because}")]
    Lacking {
        /// The fact of the account that is not true; none where it is known of one of many companies only.
        fact: Option<String>,
        /// The connector's sentence.
        because: String,
    },
    /// Paging makes no progress.
    #[error("{0}")]
    PagingBroken(String),
    /// The vendor's session was switched to another company by somebody else.
    #[error("{0}")]
    ContextChanged(String),
    /// The vendor failed so often in a row that it is left alone for a while.
    #[error("the vendor fails again and again (last: {why}); it is asked again in {wait} s")]
    Held {
        /// What failed last.
        why: String,
        /// Seconds until it is asked again.
        wait: u64,
    },
    /// The vendor's limit is used up; it was not asked.
    #[error("the vendor's limit for this account is used up for {wait} s more; it was not asked")]
    Throttled {
        /// Seconds until there is room.
        wait: u64,
    },
    /// Too much waits for the same account or service.
    #[error("{0}")]
    Busy(String),
    /// No new access token could be had for a credential that needs one; the vendor was not asked, or had refused.
    #[error("{}", .0.detail())]
    NotRenewed(Box<Error>),
    /// The store could not do its part (locks).
    #[error(transparent)]
    Store(#[from] crate::store::StoreError),
}

impl Failure {
    /// The row of the error table it becomes.
    pub fn code(&self) -> Code {
        match self {
            Failure::Egress(_) => Code::EgressRefused,
            Failure::Unreachable(_) | Failure::Broken(_) | Failure::Distrusted { .. } | Failure::TimedOut(_) => {
                Code::VendorUnreachable
            }
            Failure::BadAnswer(_) | Failure::Cut => Code::VendorBadAnswer,
            Failure::Answered { meaning, .. } => match meaning {
                Meaning::Reauth => Code::ReauthRequired,
                Meaning::Denied => Code::VendorDenied,
                Meaning::Missing => Code::NotFound,
                Meaning::RateLimited => Code::VendorRateLimited,
                Meaning::NotReady => Code::VendorNotReady,
                Meaning::Failed | Meaning::Fine => Code::VendorError,
            },
            Failure::Upload(_) => Code::RequestTimeout,
            Failure::UploadBroken(_) => Code::InvalidRequest,
            Failure::Unsendable { .. } => Code::FieldNotWritable,
            Failure::Unaddressable(_) => Code::InvalidPath,
            Failure::Exists(_) => Code::AlreadyExists,
            Failure::Absent(_) => Code::NotFound,
            Failure::Lacking { .. } => Code::AddonMissing,
            Failure::PagingBroken(_) => Code::VendorPagingBroken,
            Failure::ContextChanged(_) => Code::VendorContextChanged,
            Failure::Held { .. } => Code::VendorHeld,
            Failure::Throttled { .. } => Code::VendorRateLimited,
            Failure::Busy(_) => Code::Busy,
            Failure::NotRenewed(error) => error.code(),
            Failure::Store(error) => error.code(),
        }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        let code = failure.code();
        let text = failure.to_string();
        match failure {
            Failure::TimedOut(_) => Error::new(code, text).status(504),
            Failure::Store(error) => error.into(),
            Failure::NotRenewed(error) => *error,
            Failure::Held { wait, .. } | Failure::Throttled { wait } => Error::new(code, text).retry_after(wait),
            Failure::Unsendable { field, .. } => Error::new(code, text).field(field),
            Failure::Answered { answer, wait, message, .. } => {
                let error = Error::new(code, message.unwrap_or(text)).vendor(answer);
                match wait {
                    Some(seconds) => error.retry_after(seconds),
                    None => error,
                }
            }
            _ => Error::new(code, text),
        }
    }
}

/// What one page of a vendor's list holds, unmapped.
#[derive(Debug)]
pub struct RawPage {
    /// The vendor's answer.
    pub body: Bytes,
    /// Its records.
    pub records: Records,
    /// What finds the next page; `None` at the end. Opaque to everybody but `page`.
    pub next: Option<String>,
}

/// What a list asks for.
#[derive(Clone, Debug, Default)]
pub struct ListAsk {
    /// `RawPage::next` of the page before.
    pub next: Option<String>,
    /// Records wanted.
    pub limit: usize,
    /// Query parameters of pushed filters, already rendered.
    pub filters: Vec<(String, String)>,
    /// The caller's `remote_query`.
    pub remote_query: Vec<(String, String)>,
    /// Values for `{…}` in paths: `id`, `group_id` …
    pub values: BTreeMap<String, String>,
    /// Whether the records will be mapped by the resource's own table.
    pub mapped: bool,
}

/// Which company a visit reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pick {
    /// The first in order: the own enterprise (or the only company the account is limited to).
    First,
    /// The first after this one.
    After(String),
    /// Exactly this one.
    Exactly(String),
}

/// One company of a vendor that serves many.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Company {
    /// Its id, as text.
    pub id: String,
    /// Its name.
    pub name: String,
}

/// Everything a command transport reads of one company in one visit.
#[derive(Debug)]
pub struct Visit {
    /// Which company; `None` when there was none to pick.
    pub company: Option<Company>,
    /// Raw records by resource, each a JSON array.
    pub records: BTreeMap<Resource, Bytes>,
    /// Companies after this one, in order.
    pub rest: Vec<Company>,
    /// Why the company could not be read (refused, paused …); `records` is empty then.
    pub refused: Option<Warning>,
}

/// What verifying a credential taught.
#[derive(Clone, Debug, Default)]
pub struct Tested {
    /// Kept with the account.
    pub facts: Map<String, Value>,
    /// Shown once to whoever links.
    pub warnings: Vec<Warning>,
}
