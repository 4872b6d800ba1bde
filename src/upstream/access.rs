//! A decoded credential, ready for the hot path.

use std::{collections::BTreeMap, sync::Arc};

use http::{HeaderName, HeaderValue};
use serde_json::{Map, Value};

use crate::{
    connector::{Connector, LinkMethod, Resolved},
    model::{AccountId, EnvironmentId, Secret},
};

/// Everything needed to call a vendor for one account. Built once per credential generation, shared by reference.
pub struct Access {
    /// Whose.
    pub account: AccountId,
    /// Behind which wall.
    pub environment: EnvironmentId,
    /// The connector.
    pub connector: Arc<Connector>,
    /// The way it is linked.
    pub method: Arc<LinkMethod>,
    /// The credential's generation.
    pub generation: u64,
    /// Scheme, host, port and base path; no trailing slash, no query.
    pub base: url::Url,
    /// Every origin that may be called.
    pub hosts: Vec<url::Url>,
    /// Headers to inject; values are marked sensitive.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Query parameters to inject, encoded.
    pub query: Vec<(String, Secret)>,
    /// Fields that are not secret.
    pub fields: BTreeMap<String, String>,
    /// Secret fields, for transports that need them beyond the headers.
    pub secrets: BTreeMap<String, Secret>,
    /// What the link test learned.
    pub facts: Map<String, Value>,
}

impl Access {
    /// Builds the headers and parameters of the method's `auth` and `headers` from resolved fields.
    pub fn new(
        _account: AccountId,
        _environment: EnvironmentId,
        _connector: Arc<Connector>,
        _method: Arc<LinkMethod>,
        _generation: u64,
        _resolved: Resolved,
        _facts: Map<String, Value>,
    ) -> Result<Access, crate::connector::FieldProblem> {
        todo!()
    }
}
