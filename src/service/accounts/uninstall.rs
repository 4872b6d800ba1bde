//! The end of a connector in an environment, and of the accounts that were linked by it; and that of the environment itself.

use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt, stream};

use super::{Accounts, Deleter, ListAccounts, verify::Verified};
use crate::{
    connector::Connector,
    error::{Code, Error, Result},
    model::{AccountId, EnvironmentId, Slug},
    service::Act,
};

/// Accounts that are deleted at the same time.
const TOGETHER: usize = 16;
/// Accounts that are looked for at once.
const PAGE: usize = 1000;

impl Accounts {
    /// Takes a connector away from the environment. Accounts go with it when there is who deletes them; else it stays where
    /// accounts are linked by it.
    ///
    /// An account that is being linked meanwhile is either seen here, or sees for itself that the connector is gone: it is
    /// listed before that is looked at, and here the list is read after the connector is taken away.
    pub async fn uninstall(&self, environment: EnvironmentId, id: &str, with_accounts: Option<Deleter>) -> Result<()> {
        let connector = self.installs.get(environment, id).await?.connector;
        let accounts = self.linked_by(environment, &connector.slug).await?;
        if !accounts.is_empty() && with_accounts.is_none() {
            return Err(still_in_use(&connector, &accounts));
        }
        // From now on nothing is linked any more, so that the accounts come to an end. What was laid over the connector goes last:
        // with its client the vendor takes back what it granted them.
        if let Some(by) = with_accounts.as_ref().filter(|_| !accounts.is_empty()) {
            self.installs.switch_off(environment, &connector).await?;
            self.reopen();
            self.delete_linked(environment, &connector.slug, by).await?;
        }
        let before = self.installs.take_away(environment, &connector).await?;
        self.reopen();
        if let Some(by) = &with_accounts {
            return self.delete_linked(environment, &connector.slug, by).await;
        }
        let late = self.linked_by(environment, &connector.slug).await?;
        if late.is_empty() {
            return Ok(());
        }
        self.installs.give_again(before).await?;
        self.reopen();
        Err(still_in_use(&connector, &late))
    }

    async fn delete_linked(&self, environment: EnvironmentId, connector: &Slug, by: &Deleter) -> Result<()> {
        loop {
            let left = self.linked_by(environment, connector).await?;
            if left.is_empty() {
                return Ok(());
            }
            let delete = |account: AccountId| async move {
                match by.delete(self, environment, account).await {
                    Err(error) if error.code() != Code::NotFound => Err(error),
                    _ => Ok(()),
                }
            };
            stream::iter(left).map(delete).buffer_unordered(TOGETHER).try_collect::<()>().await?;
        }
    }

    /// Takes an account back that was linked while its connector was taken away, or its environment ended; whether it had stood
    /// before or not.
    pub(super) async fn refuse_late(&self, verified: &Verified) -> Result<()> {
        let environment = verified.account.environment;
        let why = if !self.stands(environment).await? {
            Error::new(Code::NotFound, "The environment was ended meanwhile; nothing was linked.")
        } else if self.installs.is_taken_away(environment, &verified.account.connector).await? {
            let detail = "The connector was taken away from this environment meanwhile; nothing was linked.";
            Error::new(Code::IntegrationDisabled, detail).field("integration")
        } else {
            return Ok(());
        };
        let act = Act::of_gateway(environment, "integrated_account.delete");
        let by = Deleter { audit: Arc::clone(&self.opened.audit), act };
        // With the connector its client may be gone, too, without which the stored credential cannot be given back.
        match by.delete_granted(self, &verified.account, Some(&verified.access)).await {
            // Whoever took the connector away was faster.
            Err(error) if error.code() != Code::NotFound => Err(error),
            _ => Err(why),
        }
    }

    /// Whether an environment has not been ended.
    pub(in crate::service) async fn stands(&self, environment: EnvironmentId) -> Result<bool> {
        Ok(self.records.installation().has_environment(environment).await?)
    }

    /// Removes what an environment that was ended still has: accounts that came at its very end, and what it said of connectors.
    pub(in crate::service) async fn clear(&self, environment: EnvironmentId) -> Result<()> {
        for account in self.records.list(environment, None, PAGE).await? {
            match self.delete(environment, &account.id.to_string()).await {
                Err(error) if error.code() != Code::NotFound => return Err(error),
                _ => {}
            }
        }
        self.installs.clear(environment).await
    }

    async fn linked_by(&self, environment: EnvironmentId, connector: &Slug) -> Result<Vec<AccountId>> {
        let wanted = ListAccounts { integration: Some(connector.to_string()), limit: PAGE, ..ListAccounts::default() };
        Ok(self.list(environment, wanted).await?.0.into_iter().map(|account| account.id).collect())
    }
}

fn still_in_use(connector: &Connector, accounts: &[AccountId]) -> Error {
    let count = if accounts.len() < PAGE { accounts.len().to_string() } else { format!("{PAGE} or more") };
    let detail = format!(
        "Accounts that are linked to {}: {count}. Delete them first, or all at once with `delete_accounts=true`.",
        connector.file.title
    );
    Error::new(Code::StillInUse, detail).field("delete_accounts")
}
