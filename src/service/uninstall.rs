//! The end of a connector in an environment, and of the accounts that were linked by it.

use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt, stream};

use super::{Accounts, Act, Deleter, ListAccounts};
use crate::{
    connector::Connector,
    error::{Code, Error, Result},
    model::{Account, AccountId, EnvironmentId, Slug},
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

    /// Takes an account back that was linked while its connector was taken away, whether it had stood before or not.
    pub(super) async fn refuse_late(&self, account: &Account) -> Result<()> {
        if !self.installs.is_taken_away(account.environment, &account.connector).await? {
            return Ok(());
        }
        let act = Act::of_gateway(account.environment, "integrated_account.delete");
        let by = Deleter { audit: Arc::clone(&self.opened.audit), act };
        match by.delete(self, account.environment, account.id).await {
            // Whoever took the connector away was faster.
            Err(error) if error.code() != Code::NotFound => Err(error),
            _ => {
                let detail = "The connector was taken away from this environment meanwhile; nothing was linked.";
                Err(Error::new(Code::IntegrationDisabled, detail).field("integration"))
            }
        }
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
