//! What a caller that is bound to one account reaches: that account, and none beside it.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::{Accounts, ChangeAccount, Linked, find_method, split_change};
use crate::{
    error::{Code, Error, Result},
    model::{Account, EnvironmentId},
    service::{Bound, Caller, tokens::invalid},
};

/// Clocks of nodes may differ by so many seconds.
const APART: i64 = 5;

impl Accounts {
    /// Opens an account for a caller's calls. One that its token does not reach is as good as missing.
    pub async fn open_for(self: &Arc<Self>, caller: &Caller, id: &str) -> Result<Arc<Linked>> {
        match caller.bound {
            None => self.open(caller.environment, id).await,
            Some(bound) => Box::pin(self.open_bound(caller.environment, bound, id)).await,
        }
    }

    async fn open_bound(self: &Arc<Self>, environment: EnvironmentId, bound: Bound, id: &str) -> Result<Arc<Linked>> {
        if id.parse() != Ok(bound.account) {
            return Err(Error::not_found());
        }
        let linked = self.open(environment, id).await.map_err(or_over)?;
        bound.is_of(&linked.account)?;
        Ok(linked)
    }

    /// The account that a caller is bound to.
    pub async fn own(&self, caller: &Caller) -> Result<Account> {
        let bound = caller.bound.ok_or_else(Error::not_found)?;
        let account = self.get(caller.environment, &bound.account.to_string()).await.map_err(or_over)?;
        bound.is_of(&account)?;
        Ok(account)
    }

    /// Changes the labels of the account that a caller is bound to, merged at the top level; never a field it was linked by.
    pub async fn change_own(&self, caller: &Caller, context: Map<String, Value>) -> Result<Account> {
        let id = self.own(caller).await?.id.to_string();
        let (account, version) = self.find(caller.environment, &id).await?;
        let method = find_method(self.connector_of(&account)?.as_ref(), &account.method)?;
        let change = ChangeAccount { context: Some(context), ..ChangeAccount::default() };
        let (labels, fields) = split_change(&method, change, self.clock.now())?;
        match fields.keys().next() {
            None => self.relabel(account, version, &labels).await,
            Some(name) => {
                let detail = format!(
                    "`{name}` is a field the account was linked by. An account token changes labels only; the credential is changed \
                     by `PATCH /integrated-account/{{id}}` with an API token."
                );
                Err(Error::new(Code::InvalidField, detail).field(format!("context.{name}")))
            }
        }
    }
}

impl Bound {
    /// Refuses another account under the same id. Where the token does not say when its own was made, that is one that was made
    /// after it.
    fn is_of(&self, account: &Account) -> Result<()> {
        let is_it = match self.made_at {
            Some(made_at) => account.created_at == made_at,
            None => account.created_at.as_second() <= self.since.as_second() + APART,
        };
        if is_it { Ok(()) } else { Err(invalid()) }
    }
}

/// A token whose account is gone is over.
fn or_over(error: Error) -> Error {
    if error.code() == Code::NotFound { invalid() } else { error }
}
