//! The calls of the unified side: list, get, test, visit; over reqwest, without redirects, cookies, proxies or
//! automatic decompression.

use std::sync::Arc;

use bytes::Bytes;

use super::{
    Access, CustomAnswer, CustomCall, Failure, Guard, HttpAnswer, HttpCall, ListAsk, Pick, RawPage, ReportAsk, ReportPage,
    Tested, Visit,
    send::Sender,
    transport::{
        keeper_commander::{self, Around, Wire},
        rest, rest_write, verbatim,
    },
    write::{VerbatimAsk, WriteAsk, Written},
};
use crate::{
    connector::{Request, ResourceDef, Transport, WriteBy, WriteMethod},
    store::Store,
};

/// What a transport works with: requests that are guarded and bounded, and the store for its locks.
pub struct Context {
    pub(super) sender: Sender,
    /// Where service locks live.
    pub store: Arc<dyn Store>,
}

impl Context {
    /// Over the one guard; the store holds service locks.
    pub fn new(guard: Arc<Guard>, store: Arc<dyn Store>) -> Self {
        Self { sender: Sender::new(guard, store.clone()), store }
    }

    /// Sends one request with the account's credential and reads the whole answer; what it means is not judged.
    pub async fn send(&self, access: &Access, call: HttpCall) -> Result<HttpAnswer, Failure> {
        Box::pin(self.sender.send(access, call)).await
    }
}

/// The vendor side of the house. One per process; cheap to share.
pub struct Upstream {
    pub(super) context: Arc<Context>,
}

impl Upstream {
    /// Over the one guard; the store holds service locks and what nodes know of vendors' limits.
    pub fn new(guard: Arc<Guard>, store: Arc<dyn Store>) -> Self {
        guard.load.share(Arc::clone(&store));
        Self { context: Arc::new(Context::new(guard, store)) }
    }

    /// Asks the vendor whether the credential works, and learns what the connector needs to know.
    pub async fn test(&self, access: &Access) -> Result<Tested, Failure> {
        match access.method.transport {
            Transport::KeeperCommander => keeper_commander::test(&*self.context, access).await,
            Transport::Rest => rest::test(&self.context, access).await,
            Transport::Scim => super::transport::scim::test(&self.context, access).await,
        }
    }

    /// One page of a resource whose list is a request.
    pub async fn list(&self, access: &Access, resource: &ResourceDef, ask: &ListAsk) -> Result<RawPage, Failure> {
        Box::pin(rest::list(&self.context, access, resource, ask)).await
    }

    /// One record by id; `None` when the vendor says there is none. Resources with `get: {from: list}` are not asked here.
    pub async fn get(&self, access: &Access, resource: &ResourceDef, ask: &ListAsk) -> Result<Option<Bytes>, Failure> {
        Box::pin(rest::get(&self.context, access, resource, ask)).await
    }

    /// Writes one record. An error says that nothing was changed; what the vendor said otherwise may be a lie.
    pub async fn write(
        &self,
        access: &Access,
        resource: &ResourceDef,
        method: &WriteMethod,
        ask: &WriteAsk,
    ) -> Result<Written, Failure> {
        match access.method.transport {
            Transport::KeeperCommander => keeper_commander::write(&*self.context, access, resource, &method.by, ask).await,
            Transport::Rest | Transport::Scim => rest_write::write(&self.context, access, resource, method, ask).await,
        }
    }

    /// Sends a declared request with the caller's own body, once.
    pub async fn verbatim(&self, access: &Access, request: &Request, ask: &VerbatimAsk) -> Result<HttpAnswer, Failure> {
        verbatim::send(&self.context, access, request, ask).await
    }

    /// Runs a command with the caller's own values. An error says that nothing was done; what the vendor said otherwise may be
    /// a lie.
    pub async fn command(
        &self,
        access: &Access,
        resource: &ResourceDef,
        by: &WriteBy,
        ask: &WriteAsk,
    ) -> Result<Written, Failure> {
        match access.method.transport {
            Transport::KeeperCommander => keeper_commander::write(&*self.context, access, resource, by, ask).await,
            Transport::Rest | Transport::Scim => Err(Failure::BadAnswer("this connector runs no commands".into())),
        }
    }

    /// Sends a caller's own request once; what the answer means is not judged.
    pub async fn custom(&self, access: &Arc<Access>, call: CustomCall) -> Result<CustomAnswer, Failure> {
        self.context.sender.open(access, call).await
    }

    /// Whether answers to a caller's own calls may come encrypted, so that they must be read whole.
    pub fn is_sealed(&self, access: &Access) -> bool {
        access.method.transport == Transport::KeeperCommander && access.secrets.contains_key("encryption_key")
    }

    /// Such an answer in the clear.
    pub fn opened(&self, access: &Access, answer: HttpAnswer) -> Result<HttpAnswer, Failure> {
        match access.method.transport {
            Transport::KeeperCommander => keeper_commander::opened(access, answer),
            Transport::Rest | Transport::Scim => Ok(answer),
        }
    }

    /// Everything of one company, under the service lock. Command transports only.
    pub async fn visit(&self, access: &Access, pick: &Pick) -> Result<Visit, Failure> {
        match access.method.transport {
            Transport::KeeperCommander => keeper_commander::visit(&*self.context, access, pick).await,
            Transport::Rest | Transport::Scim => {
                Err(Failure::BadAnswer("this connector has no companies to visit; its resources are listed".into()))
            }
        }
    }

    /// One page of what a company's report says, under the service lock. Command transports only.
    pub async fn report(&self, access: &Access, resource: &ResourceDef, ask: &ReportAsk) -> Result<ReportPage, Failure> {
        match access.method.transport {
            Transport::KeeperCommander => keeper_commander::report(&*self.context, access, resource, ask).await,
            Transport::Rest | Transport::Scim => Err(Failure::BadAnswer("this connector reports nothing by time".into())),
        }
    }

    /// Makes a caller's own call while nobody else uses the service: under its lock and, with a company, within the
    /// verified switch. The call gives its value and the id of the command it queued, if it did. What is left to do
    /// afterwards is the caller's to drive. Transports without such a service just make the call.
    pub async fn exclusively<T>(
        &self,
        access: &Arc<Access>,
        company: Option<&str>,
        call: impl Future<Output = Result<(T, Option<String>), Failure>>,
    ) -> Result<Around<T>, Failure> {
        match access.method.transport {
            Transport::KeeperCommander => {
                let wire: Arc<dyn Wire> = self.context.clone();
                keeper_commander::around(&wire, access, company, call).await
            }
            Transport::Rest | Transport::Scim => Ok(Around { value: call.await?.0, tail: None }),
        }
    }

    /// The company an id of this transport belongs to, when ids tell (`<company>:<team>`, `user_id >> 32`).
    pub fn company_of(&self, access: &Access, id: &str) -> Option<String> {
        match access.method.transport {
            Transport::KeeperCommander => keeper_commander::company_of(access, id),
            Transport::Rest | Transport::Scim => None,
        }
    }
}
