//! Keeper Commander Service Mode: commands over HTTP, queued, polled, sometimes answered encrypted; one Keeper session per
//! service, shared by everybody, with one company at a time. Every use of it therefore holds the service's lock, and what
//! was read is believed only when the ids in it prove the company.

mod around;
mod command;
mod company;
mod licenses;
mod lock;
mod queue;
mod records;
mod report;
mod test;
mod visit;
mod wire;
mod write;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderValue, header};

use crate::{
    store::Store,
    upstream::{Access, Context, Failure, HttpCall},
};

pub use around::{Around, Tail, around, submitted_request_id};
pub use command::{Command, Unsendable};
pub use company::{company_of, key_of};
pub use report::{ADDON_MISSING, report};
pub use test::test;
pub use visit::visit;
pub use wire::opened;
pub use write::write;

/// The commands a key needs for this connector, as they are typed into the service's allow list (read-only link).
pub const COMMANDS: &str = "whoami,enterprise-down,enterprise-info,msp-down,msp-info,msp-billing-report,switch-to-mc,switch-to-msp,audit-report,user-report";

/// One request to the service, below the account's base address.
pub struct Call {
    /// `GET` or `POST`.
    pub method: http::Method,
    /// With a leading slash, free of anything that needs encoding.
    pub path: String,
    /// A JSON body.
    pub body: Option<Bytes>,
    /// The whole request may take this long.
    pub timeout: Duration,
}

/// One answer of the service.
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// The `Content-Type`, as sent.
    pub content_type: Option<String>,
    /// The body, decoded and bounded.
    pub body: Bytes,
}

/// What the transport needs of the machine: one guarded request at a time, and the store for the lock.
#[async_trait]
pub trait Wire: Send + Sync {
    /// Sends one request with the account's credential in it; any HTTP status is an answer.
    async fn send(&self, access: &Access, call: Call) -> Result<Reply, Failure>;

    /// Where the lock lives.
    fn store(&self) -> &Arc<dyn Store>;

    /// How long everything may take.
    fn times(&self) -> Times {
        Times::default()
    }
}

#[async_trait]
impl Wire for Context {
    async fn send(&self, access: &Access, call: Call) -> Result<Reply, Failure> {
        let json = || (header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let answer = Context::send(
            self,
            access,
            HttpCall {
                method: call.method,
                headers: call.body.iter().map(|_| json()).collect(),
                body: call.body,
                timeout: Some(call.timeout),
                ..HttpCall::get(call.path)
            },
        )
        .await?;
        let content_type = answer.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).map(str::to_owned);
        Ok(Reply { status: answer.status, content_type, body: answer.body })
    }

    fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }
}

/// How long everything may take.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// A lock that is not renewed ends after this.
    pub lock_life: Duration,
    /// The longest wait for somebody else's lock.
    pub lock_wait: Duration,
    /// Between submitting a command and the first look at its result.
    pub first_look: Duration,
    /// The longest pause between two looks.
    pub longest_pause: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            lock_life: Duration::from_secs(30),
            lock_wait: Duration::from_secs(60),
            first_look: Duration::from_millis(300),
            longest_pause: Duration::from_secs(5),
        }
    }
}
