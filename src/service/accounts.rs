//! Linked accounts: imported, verified, sealed, shown without secrets, and opened for calls.

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::{
    error::Result,
    model::{Account, AccountStatus, EnvironmentId, Warning},
    upstream::Access,
};

/// `POST /integrated-account`.
#[derive(Debug)]
pub struct NewAccount {
    /// The caller's label of the end customer.
    pub tenant_id: String,
    /// The connector's slug, its id or its `environment_integration_id`.
    pub integration: String,
    /// The link method.
    pub authentication_method: String,
    /// The method's fields and any context of the caller. May hold secrets: no `Debug` of it reaches a log.
    pub context: Map<String, Value>,
}

/// `PATCH /integrated-account/{id}`: what is left out stays.
#[derive(Default)]
pub struct ChangeAccount {
    /// A new label.
    pub tenant_id: Option<String>,
    /// Fields and context, merged at the top level; `null` removes.
    pub context: Option<Map<String, Value>>,
}

/// Filters of the account list.
#[derive(Debug, Default)]
pub struct ListAccounts {
    /// Only this label.
    pub tenant_id: Option<String>,
    /// Only this connector.
    pub integration: Option<String>,
    /// Only this status.
    pub status: Option<AccountStatus>,
    /// Only sandboxes, or only real ones.
    pub is_sandbox: Option<bool>,
    /// At most so many.
    pub limit: usize,
    /// Continues a list.
    pub after: Option<String>,
}

/// An account opened for calls: its record and its decoded credential.
pub struct Linked {
    /// The record.
    pub account: Account,
    /// The credential.
    pub access: Arc<Access>,
}

/// Linked accounts.
pub struct Accounts {}

impl Accounts {
    /// Verifies the credential at the vendor, then stores it; nothing is stored when it is refused.
    pub async fn import(&self, _environment: EnvironmentId, _new: NewAccount) -> Result<(Account, Vec<Warning>)> {
        todo!()
    }

    /// One account.
    pub async fn get(&self, _environment: EnvironmentId, _id: &str) -> Result<Account> {
        todo!()
    }

    /// Accounts in id order; the second value continues the list.
    pub async fn list(&self, _environment: EnvironmentId, _query: ListAccounts) -> Result<(Vec<Account>, Option<String>)> {
        todo!()
    }

    /// Changes label, context or credential; a changed credential is verified first.
    pub async fn change(&self, _environment: EnvironmentId, _id: &str, _change: ChangeAccount) -> Result<(Account, Vec<Warning>)> {
        todo!()
    }

    /// Destroys the data key, then everything else of the account.
    pub async fn delete(&self, _environment: EnvironmentId, _id: &str) -> Result<()> {
        todo!()
    }

    /// Opens an account for calls; cached at most a second. `reauth_required` when the vendor no longer accepts it.
    pub async fn open(&self, _environment: EnvironmentId, _id: &str) -> Result<Arc<Linked>> {
        todo!()
    }
}
