//! The end of a connector in an environment, and of the accounts that were linked by it; and that of the environment itself.

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt, TryStreamExt, stream};

use super::{Accounts, Deleter, ListAccounts, verify::Verified};
use crate::{
    connector::Connector,
    error::{Code, Error, Result},
    model::{Account, AccountId, EnvironmentId, Slug},
    service::Act,
    store::repo::TokenRecord,
    upstream::Access,
};

/// Accounts that are deleted at the same time.
const TOGETHER: usize = 16;
/// Accounts or tokens that are looked for at once.
const PAGE: usize = 1000;
/// The pauses, seconds, before it is looked at again whether an account was linked too late, while the store does not say so.
const LOOKS: [u64; 5] = [1, 2, 5, 15, 30];

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
        let mut before = Vec::new();
        loop {
            let left = self.linked_by(environment, connector).await?;
            if left.is_empty() {
                return Ok(());
            }
            if left == before {
                return Err(Error::new(Code::Busy, "Accounts of this connector cannot be deleted. Send the request again."));
            }
            let delete = |account: AccountId| async move {
                match by.delete(self, environment, account).await {
                    Err(error) if error.code() != Code::NotFound => Err(error),
                    _ => Ok(()),
                }
            };
            stream::iter(left.clone()).map(delete).buffer_unordered(TOGETHER).try_collect::<()>().await?;
            before = left;
        }
    }

    /// Takes an account back that was linked while its connector was taken away, or its environment ended; whether it had stood
    /// before or not. It is stored: where the store does not say whether it came too late, that is looked at beside the call.
    pub(super) async fn refuse_late(&self, verified: &Verified) -> Result<()> {
        let (account, access) = (&verified.account, &verified.access);
        match self.why_late(account).await {
            Ok(None) => Ok(()),
            Ok(Some(why)) => self.take_back(account, access).await.and(Err(why)),
            Err(error) => {
                tracing::warn!(account = %account.id, %error, "whether an account was linked too late is looked at once more");
                self.refuse_later(account.clone(), Arc::clone(access));
                Ok(())
            }
        }
    }

    async fn why_late(&self, account: &Account) -> Result<Option<Error>> {
        if !self.stands(account.environment).await? {
            return Ok(Some(Error::new(Code::NotFound, "The environment was ended meanwhile; nothing was linked.")));
        }
        let is_taken_away = self.installs.is_taken_away(account.environment, &account.connector).await?;
        let detail = "The connector was taken away from this environment meanwhile; nothing was linked.";
        Ok(is_taken_away.then(|| Error::new(Code::IntegrationDisabled, detail).field("integration")))
    }

    /// With the connector its client may be gone, too, without which the stored credential cannot be given back: that is why it
    /// comes along.
    async fn take_back(&self, account: &Account, access: &Arc<Access>) -> Result<()> {
        match self.gateway(account.environment).delete_granted(self, account, Some(access)).await {
            // Whoever took the connector away was faster.
            Err(error) if error.code() != Code::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn refuse_later(&self, account: Account, access: Arc<Access>) {
        let Some(this) = self.me.upgrade() else { return };
        self.opened.tasks.spawn(async move {
            for seconds in LOOKS {
                tokio::time::sleep(Duration::from_secs(seconds)).await;
                let Err(error) = this.refuse_unless_anew(&account, &access).await else { return };
                tracing::warn!(account = %account.id, %error, "it is still not known whether an account was linked too late");
            }
        });
    }

    /// An account that was linked anew meanwhile is another link's to judge.
    async fn refuse_unless_anew(&self, account: &Account, access: &Arc<Access>) -> Result<()> {
        if self.why_late(account).await?.is_none() {
            return Ok(());
        }
        match self.records.get(account.id).await? {
            Some((now, _)) if now.generation == account.generation => self.take_back(account, access).await,
            _ => Ok(()),
        }
    }

    /// The gateway, where it deletes accounts of its own accord.
    fn gateway(&self, environment: EnvironmentId) -> Deleter {
        let act = Act::of_gateway(environment, "integrated_account.delete");
        Deleter { audit: Arc::clone(&self.opened.audit), act }
    }

    /// Whether an environment has not been ended.
    pub(in crate::service) async fn stands(&self, environment: EnvironmentId) -> Result<bool> {
        Ok(self.records.installation().has_environment(environment).await?)
    }

    /// Removes what an environment that was ended still has: accounts and tokens that came at its very end, and what it said of
    /// connectors.
    pub(in crate::service) async fn clear(&self, environment: EnvironmentId) -> Result<()> {
        self.clear_tokens(environment).await?;
        let (by, mut after) = (self.gateway(environment), None);
        loop {
            let late = self.records.list(environment, after, PAGE).await?;
            for account in &late {
                match by.delete_granted(self, account, None).await {
                    Err(error) if error.code() != Code::NotFound => return Err(error),
                    _ => {}
                }
            }
            after = late.last().map(|account| account.id);
            if after.is_none() {
                break;
            }
        }
        self.installs.clear(environment).await
    }

    async fn clear_tokens(&self, environment: EnvironmentId) -> Result<()> {
        let (tokens, mut after) = (self.records.tokens(), None);
        loop {
            let late = tokens.list(environment, after, PAGE).await?;
            for TokenRecord { token, .. } in &late {
                let act = Act {
                    target_kind: Some("api_token".to_owned()),
                    target_id: Some(token.id.to_string()),
                    ..Act::of_gateway(environment, "api_token.revoke")
                };
                let revoke = async { Ok(tokens.revoke(token.id, environment).await?) };
                self.opened.audit.around(act, true, revoke).await?;
            }
            after = late.last().map(|record| record.token.id);
            if after.is_none() {
                return Ok(());
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
