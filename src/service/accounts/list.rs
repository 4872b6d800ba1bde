//! The list of linked accounts, and what it can be asked for.

use jiff::Timestamp;

use super::Accounts;
use crate::{
    error::Result,
    model::{Account, AccountId, AccountStatus, EnvironmentId},
    service::directory::filter::{FilterOp, stands},
    store::repo::Listed,
};

/// How many records are read at once.
const PAGE: usize = 500;

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
    /// Only accounts of this environment, which is the caller's or has none to show.
    pub environment: Option<String>,
    /// Only those that were first linked then; all of the comparisons hold.
    pub created_at: Vec<(FilterOp, Timestamp)>,
    /// Only those of which anything last changed then.
    pub updated_at: Vec<(FilterOp, Timestamp)>,
    /// Only those with Truto's SuperQuery, which no account here has.
    pub has_super_query: bool,
    /// At most so many.
    pub limit: usize,
    /// Only those after it, in id order.
    pub after: Option<AccountId>,
}

impl ListAccounts {
    /// Whether no account of this environment can match.
    fn is_vain(&self, environment: EnvironmentId) -> bool {
        self.has_super_query || self.environment.as_ref().is_some_and(|wanted| wanted.parse() != Ok(environment))
    }

    fn matches(&self, account: &Account) -> bool {
        let is_then = |time: Timestamp, wanted: &[(FilterOp, Timestamp)]| wanted.iter().all(|(op, at)| stands(&time, *op, at));
        self.tenant_id.as_ref().is_none_or(|t| *t == account.tenant_id)
            && self.integration.as_ref().is_none_or(|i| i == account.connector.as_str())
            && self.status.is_none_or(|s| s == account.status)
            && self.is_sandbox.is_none_or(|s| s == account.is_sandbox)
            && is_then(account.created_at, &self.created_at)
            && is_then(account.updated_at, &self.updated_at)
    }
}

impl Accounts {
    /// Accounts in id order; the second value continues the list. For whoever must not miss one.
    pub async fn list(&self, environment: EnvironmentId, query: ListAccounts) -> Result<(Vec<Account>, Option<AccountId>)> {
        let (listed, next) = self.readable(environment, query).await?;
        Ok((listed.whole()?, next))
    }

    /// The same of those that this release can read.
    pub async fn readable(
        &self,
        environment: EnvironmentId,
        query: ListAccounts,
    ) -> Result<(Listed<Account>, Option<AccountId>)> {
        let mut after = query.after;
        let mut found = Listed { records: Vec::new(), unreadable: 0 };
        if query.is_vain(environment) {
            return Ok((found, None));
        }
        loop {
            let page = self.records.readable(environment, after, PAGE).await?;
            let last_page = page.records.len() < PAGE;
            found.unreadable += page.unreadable;
            for account in page.records {
                after = Some(account.id);
                if query.matches(&account) {
                    if found.records.len() == query.limit {
                        let next = found.records.last().map(|last| last.id);
                        return Ok((found, next));
                    }
                    found.records.push(account);
                }
            }
            if last_page {
                return Ok((found, None));
            }
        }
    }
}
