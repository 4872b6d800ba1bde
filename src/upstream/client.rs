//! The calls of the unified side: list, get, test, visit; over reqwest, without redirects, cookies, proxies or
//! automatic decompression.

use std::sync::Arc;

use bytes::Bytes;

use super::{Access, Failure, Guard, ListAsk, Pick, RawPage, Tested, Visit};
use crate::{connector::ResourceDef, store::Store};

/// The vendor side of the house. One per process; cheap to share.
pub struct Upstream {
    _guard: Arc<Guard>,
    _store: Arc<dyn Store>,
}

impl Upstream {
    /// Over the one guard; the store holds service locks.
    pub fn new(guard: Arc<Guard>, store: Arc<dyn Store>) -> Self {
        Self { _guard: guard, _store: store }
    }

    /// Asks the vendor whether the credential works, and learns what the connector needs to know.
    pub async fn test(&self, _access: &Access) -> Result<Tested, Failure> {
        todo!()
    }

    /// One page of a resource whose list is a request.
    pub async fn list(&self, _access: &Access, _resource: &ResourceDef, _ask: &ListAsk) -> Result<RawPage, Failure> {
        todo!()
    }

    /// One record by id; `None` when the vendor says there is none. Resources with `get: {from: list}` are not asked here.
    pub async fn get(&self, _access: &Access, _resource: &ResourceDef, _ask: &ListAsk) -> Result<Option<Bytes>, Failure> {
        todo!()
    }

    /// Everything of one company, under the service lock. Command transports only.
    pub async fn visit(&self, _access: &Access, _pick: &Pick) -> Result<Visit, Failure> {
        todo!()
    }

    /// The company an id of this transport belongs to, when ids tell (`<company>:<team>`, `user_id >> 32`).
    pub fn company_of(&self, _access: &Access, _id: &str) -> Option<String> {
        todo!()
    }
}
