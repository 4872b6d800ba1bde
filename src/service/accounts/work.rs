//! Work on accounts that is asked for by name: several are deleted, or one gets a new access token or new secrets now.

use std::{collections::BTreeSet, sync::Arc};

use serde_json::{Map, Value};

use super::{
    Accounts, ChangeAccount, credential::field_problems, find_method, grant::OAUTH, list::ListAccounts, open::reauth,
    stands_for_secret,
};
use crate::{
    error::{Code, Error, Result},
    model::{Account, AccountId, AccountStatus, EnvironmentId, Warning},
    service::REDACTED,
    service::audit::{Act, Audit},
    service::idempotency::Run,
    upstream::{Access, renewal::Renewal},
};

/// The most accounts that are named in one request.
pub const MOST: usize = 500;

/// Which accounts are to be deleted.
#[derive(Debug)]
pub enum DeleteAccounts {
    /// These.
    Ids(Vec<String>),
    /// All of one label.
    Tenant(String),
}

/// Who deletes accounts that a request does not name one by one: each has its own entry in the audit log.
#[derive(Clone)]
pub struct Deleter {
    /// The log.
    pub audit: Arc<Audit>,
    /// Who does it, in which request.
    pub act: Act,
}

impl Deleter {
    pub(in crate::service) async fn delete(&self, accounts: &Accounts, environment: EnvironmentId, id: AccountId) -> Result<()> {
        let account = accounts.get(environment, &id.to_string()).await?;
        self.delete_granted(accounts, &account, None).await
    }

    /// The same where it is known what was granted.
    pub(in crate::service) async fn delete_granted(
        &self,
        accounts: &Accounts,
        account: &Account,
        known: Option<&Arc<Access>>,
    ) -> Result<()> {
        let id = account.id.to_string();
        let act = Act {
            action: "integrated_account.delete".into(),
            target_kind: Some("integrated_account".to_owned()),
            target_id: Some(id.clone()),
            account: Some(account.id),
            tenant: Some(account.tenant_id.clone()),
            ..self.act.clone()
        };
        self.audit.around(act, true, accounts.delete_granted(account.environment, &id, known)).await
    }
}

impl Accounts {
    /// Deletes accounts, to the end although the caller leaves. Nothing is deleted where one of them is not there, unless an
    /// earlier run of the same call may have deleted it.
    pub async fn delete_many(
        self: &Arc<Self>,
        environment: EnvironmentId,
        which: DeleteAccounts,
        again: bool,
        by: Deleter,
    ) -> Result<()> {
        let ids = match which {
            DeleteAccounts::Ids(ids) => self.named(environment, ids, again).await?,
            DeleteAccounts::Tenant(tenant_id) => self.of_tenant(environment, tenant_id, again).await?,
        };
        let accounts = Arc::clone(self);
        let work = async move {
            for id in ids {
                match by.delete(&accounts, environment, id).await {
                    // Somebody else was faster.
                    Err(error) if error.code() == Code::NotFound => {}
                    deleted => deleted?,
                }
            }
            Ok(())
        };
        let ended = self.opened.tasks.complete(work).await;
        ended.unwrap_or_else(|| Err(Error::internal("a task that deletes accounts panicked")))
    }

    async fn named(&self, environment: EnvironmentId, ids: Vec<String>, again: bool) -> Result<BTreeSet<AccountId>> {
        if ids.is_empty() || ids.len() > MOST {
            return Err(Error::new(Code::InvalidBody, format!("`ids` names 1 to {MOST} accounts.")).field("ids"));
        }
        let mut found = BTreeSet::new();
        for id in ids {
            match self.find(environment, &id).await {
                Ok((account, _)) => drop(found.insert(account.id)),
                Err(error) if error.code() == Code::NotFound && again => {}
                Err(error) if error.code() == Code::NotFound => return Err(error.field("ids")),
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    async fn of_tenant(&self, environment: EnvironmentId, tenant_id: String, again: bool) -> Result<BTreeSet<AccountId>> {
        let wanted = ListAccounts { tenant_id: Some(tenant_id), limit: usize::MAX, ..ListAccounts::default() };
        let found: BTreeSet<_> = self.list(environment, wanted).await?.0.into_iter().map(|account| account.id).collect();
        if found.is_empty() && !again { Err(Error::not_found().field("tenant_id")) } else { Ok(found) }
    }

    /// Gets a new access token now, where one can be had without the customer, and notes an account that works again as active. Any
    /// other credential is tested at the vendor, an access token that came alone among them: it is good until the vendor refuses it.
    pub async fn refresh_credentials(self: &Arc<Self>, environment: EnvironmentId, id: &str) -> Result<()> {
        let linked = self.open_enabled(environment, id).await?;
        // Nothing can follow it, and why it ended stays said.
        if linked.access.renewal.as_ref().is_some_and(Renewal::is_ended) {
            return Err(reauth(&linked.account));
        }
        let can_renew = linked.access.can_renew();
        self.opened.renewals.forget_refusal(&linked.access).await;
        let linked = if can_renew { self.renew_now(&linked).await? } else { linked };
        if can_renew && linked.account.status == AccountStatus::Active {
            return Ok(());
        }
        self.check_anew(linked).await.map(|_| ())
    }

    /// Changes secrets of the credential alone: whoever may send a new token need not be able to say where it goes.
    pub async fn change_secrets(
        self: &Arc<Self>,
        environment: EnvironmentId,
        id: &str,
        secrets: Map<String, Value>,
        run: Run,
    ) -> Result<(Account, Vec<Warning>)> {
        let (account, _) = self.find(environment, id).await?;
        let method = find_method(&*self.connector_of(&account)?, &account.method)?;
        let own = method.fields.iter().filter(|field| field.kind.is_secret()).map(|field| field.name.as_str());
        let known: Vec<&str> = own.chain(method.needs_browser().then_some(OAUTH)).collect();
        if let Some(other) = secrets.keys().find(|name| !known.contains(&name.as_str())) {
            let other: String = other.chars().take(64).collect();
            let detail = format!("`{other}` is no secret of `{}`; it has: {}.", method.name, known.join(", "));
            return Err(Error::new(Code::InvalidField, detail).field(format!("context.{other}")));
        }
        // Who sends nothing but secrets does not send back what was read.
        if let Some((name, _)) = secrets.iter().find(|(_, value)| value.as_str() == Some(REDACTED)) {
            return Err(field_problems(vec![stands_for_secret(name)]));
        }
        self.change(environment, id, ChangeAccount { context: Some(secrets), run: Some(run), ..ChangeAccount::default() }).await
    }
}
