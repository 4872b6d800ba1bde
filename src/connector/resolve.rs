//! From what a customer filled in to what requests need: fields validated and normalised, base and hosts resolved.

use std::collections::BTreeMap;

use super::LinkMethod;
use crate::model::Secret;

/// One field that is not as the link method wants it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldProblem {
    /// The field.
    pub field: String,
    /// What it takes and what was wrong; never the value of a secret.
    pub message: String,
}

/// The fields of one account, ready for use.
#[derive(Debug)]
pub struct Resolved {
    /// Fields that are not secret, normalised, as stored.
    pub fields: BTreeMap<String, String>,
    /// Secret fields.
    pub secrets: BTreeMap<String, Secret>,
    /// The base address: scheme, host, port and path, no trailing slash, no query.
    pub base: url::Url,
    /// Every origin that may be called.
    pub hosts: Vec<url::Url>,
    /// `hosts`, base and token address as text in a fixed order: what secrets are bound to.
    pub origins: Vec<String>,
}

impl LinkMethod {
    /// Validates and normalises; every problem at once. `loose_hosts` says whether an address the connector does not name
    /// may be used all the same, because the operator allows it (`ROLLCALL_EGRESS_ALLOW`).
    pub fn resolve(&self, _given: &BTreeMap<String, String>, _loose_hosts: &dyn Fn(&url::Url) -> bool) -> Result<Resolved, Vec<FieldProblem>> {
        todo!()
    }

    /// Whether a change of this field changes where requests go (hosts, base, token address).
    pub fn decides_destination(&self, _field: &str) -> bool {
        todo!()
    }
}
