//! The end of a connector in an environment, and of the accounts that were linked by it.

use futures_util::{StreamExt, TryStreamExt, stream};

use super::{Accounts, ListAccounts};
use crate::{
    error::{Code, Error, Result},
    model::{AccountId, EnvironmentId, Slug},
};

/// Accounts that are deleted at the same time.
const TOGETHER: usize = 16;
/// Accounts that are looked for at once.
const PAGE: usize = 1000;

impl Accounts {
    /// Takes a connector away from the environment. Accounts go with it when that is asked for, and keep it otherwise.
    pub async fn uninstall(&self, environment: EnvironmentId, id: &str, with_accounts: bool) -> Result<()> {
        let connector = self.installs.get(environment, id).await?.connector;
        let accounts = self.linked_by(environment, &connector.slug).await?;
        if !accounts.is_empty() && !with_accounts {
            let count = if accounts.len() < PAGE { accounts.len().to_string() } else { format!("{PAGE} or more") };
            let detail = format!(
                "Accounts that are linked to {}: {count}. Delete them first, or all at once with `delete_accounts=true`.",
                connector.file.title
            );
            return Err(Error::new(Code::StillInUse, detail).field("delete_accounts"));
        }
        // From now on nothing is linked any more, so that the accounts come to an end. What was laid over the connector goes last:
        // with its client the vendor takes back what it granted them.
        if with_accounts && !accounts.is_empty() {
            self.installs.switch_off(environment, &connector).await?;
            self.reopen();
            self.delete_linked(environment, &connector.slug).await?;
        }
        self.installs.take_away(environment, &connector).await?;
        self.reopen();
        // Somebody may have switched it on meanwhile.
        if with_accounts { self.delete_linked(environment, &connector.slug).await } else { Ok(()) }
    }

    async fn delete_linked(&self, environment: EnvironmentId, connector: &Slug) -> Result<()> {
        loop {
            let left = self.linked_by(environment, connector).await?;
            if left.is_empty() {
                return Ok(());
            }
            let delete = |account: AccountId| async move {
                match self.delete(environment, &account.to_string()).await {
                    Err(error) if error.code() != Code::NotFound => Err(error),
                    _ => Ok(()),
                }
            };
            stream::iter(left).map(delete).buffer_unordered(TOGETHER).try_collect::<()>().await?;
        }
    }

    async fn linked_by(&self, environment: EnvironmentId, connector: &Slug) -> Result<Vec<AccountId>> {
        let wanted = ListAccounts { integration: Some(connector.to_string()), limit: PAGE, ..ListAccounts::default() };
        Ok(self.list(environment, wanted).await?.0.into_iter().map(|account| account.id).collect())
    }
}
