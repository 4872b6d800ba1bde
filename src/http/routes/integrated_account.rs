//! Linked accounts: imported, listed, changed, deleted, never with a secret.

use std::sync::Arc;

use actix_web::{
    delete, get, patch, post,
    web::{Data, Path},
};

use crate::{
    error::{Code, Error},
    http::{
        Answer, State,
        capability::{self, AccountCapability, Capabilities},
        envelope::{self, Platform},
        extract::{Caller, ReadAccounts, WriteAccounts},
        query::{AccountList, CapabilityQuery},
        schema::{
            AccountParams, CapabilityParams, ChangeIntegratedAccount, Deleted, ImportIntegratedAccount, IntegratedAccount,
            IntegratedAccountPage, PageParams,
        },
        write::{NoBody, Write},
    },
    model::{Account, AccountId, Install, Warning},
    service::{ChangeAccount, IfThere, ListAccounts, NewAccount, Run, Services},
    store::repo::Listed,
};

/// Links an account with credentials the caller has. They are verified at the vendor first; nothing is stored when they are refused.
#[utoipa::path(tag = "accounts", security(("bearer" = ["accounts:write"])), request_body = ImportIntegratedAccount, responses(
    (status = 201, description = "The account is active.", body = IntegratedAccount)
))]
#[post("/integrated-account")]
pub async fn import_integrated_account(
    caller: Caller<WriteAccounts>,
    write: Write<ImportIntegratedAccount>,
    state: Data<State>,
) -> Answer {
    let environment = caller.environment;
    let work = async move |services: Arc<Services>, body: ImportIntegratedAccount, run: Run| {
        let new = new_account(body, run)?;
        let (account, warnings) = services.accounts.import(environment, new).await?;
        envelope::created(&view(&services, account, warnings).await?)
    };
    write.answer(&caller, &state, work).await
}

/// A run before this one may have made the account already, under the caller's own id too; what stood there before that run is
/// somebody else's.
fn new_account(body: ImportIntegratedAccount, run: Run) -> Result<NewAccount, Error> {
    let ImportIntegratedAccount {
        id,
        tenant_id,
        integration,
        environment_integration_id,
        authentication_method,
        context,
        is_sandbox,
        ..
    } = body;
    let id = id.map_or(Ok(AccountId(run.id)), |id| {
        let detail = "`id` takes a UUID, for example `018f2b6e-7c1a-7d5e-9a3b-5c0f4e2d1a00`; without it one is made.";
        id.parse().map_err(|_| Error::new(Code::InvalidBody, detail).field("id"))
    })?;
    Ok(NewAccount {
        tenant_id,
        integration: named(integration, environment_integration_id)?,
        authentication_method,
        context,
        is_sandbox: is_sandbox.unwrap_or(false),
        id: Some(id),
        if_there: if run.again { IfThere::StaysIfNotOf(run.begun_at()) } else { IfThere::Stays },
        grant: None,
    })
}

/// The connector, by the one of both names that was given.
pub(super) fn named(integration: Option<String>, environment_integration_id: Option<String>) -> Result<String, Error> {
    match (integration, environment_integration_id) {
        (Some(name), None) | (None, Some(name)) => Ok(name),
        _ => {
            let detail = "Exactly one of `integration` and `environment_integration_id` names the connector.";
            Err(Error::new(Code::InvalidBody, detail).field("integration"))
        }
    }
}

/// The linked accounts of this environment.
#[utoipa::path(tag = "accounts", security(("bearer" = ["accounts:read"])), params(PageParams, AccountParams), responses(
    (status = 200, description = "A page of accounts.", body = IntegratedAccountPage)
))]
#[get("/integrated-account")]
pub async fn list_integrated_accounts(caller: Caller<ReadAccounts, AccountList>, state: Data<State>) -> Answer {
    let Caller { caller, query: AccountList { page, wanted }, .. } = caller;
    let list = Platform::new(&state.services, caller.environment, "integrated-account", &page);
    let wanted = ListAccounts { after: list.after()?, ..wanted };
    let (accounts, next) = state.services.accounts.readable(caller.environment, wanted).await?;
    let said = state.services.installs.said(caller.environment).await?;
    let unreadable = accounts.unreadable;
    let shown = accounts.records.into_iter().map(|account| {
        let is_enabled = said.get(&account.connector).is_none_or(Install::is_in_use);
        plain_view(&state.services, account, Vec::new()).within(is_enabled)
    });
    list.page_of(Listed { records: shown.collect(), unreadable }, next)
}

/// One linked account.
#[utoipa::path(tag = "accounts", security(("bearer" = ["accounts:read"])), params(("id" = String, Path, description = "The account's id.")),
    responses((status = 200, description = "The account.", body = IntegratedAccount)))]
#[get("/integrated-account/{id}")]
pub async fn get_integrated_account(caller: Caller<ReadAccounts>, id: Path<String>, state: Data<State>) -> Answer {
    let account = state.services.accounts.get(caller.environment, &id).await?;
    envelope::object(&view(&state.services, account, Vec::new()).await?)
}

/// Changes label, context or credential; a changed credential is verified first.
#[utoipa::path(tag = "accounts", security(("bearer" = ["accounts:write"])), params(("id" = String, Path, description = "The account's id.")),
    request_body = ChangeIntegratedAccount, responses((status = 200, description = "The changed account.", body = IntegratedAccount)))]
#[patch("/integrated-account/{id}")]
pub async fn change_integrated_account(
    caller: Caller<WriteAccounts>,
    id: Path<String>,
    write: Write<ChangeIntegratedAccount>,
    state: Data<State>,
) -> Answer {
    let environment = caller.environment;
    let work = async move |services: Arc<Services>, body: ChangeIntegratedAccount, run: Run| {
        let ChangeIntegratedAccount { tenant_id, context, unified_model_override: overrides, is_enabled, expires_at, status } =
            body;
        let change = ChangeAccount { tenant_id, context, overrides, is_enabled, expires_at, run: Some(run) };
        let (account, warnings) = match status {
            None => services.accounts.change(environment, &id, change).await?,
            Some(_) => {
                check_alone(&change)?;
                (services.accounts.ask_about(environment, &id).await?, Vec::new())
            }
        };
        envelope::changed(&view(&services, account, warnings).await?)
    };
    write.answer(&caller, &state, work).await
}

/// Nothing is changed beside the question to the vendor.
fn check_alone(change: &ChangeAccount) -> Result<(), Error> {
    if change.is_empty() {
        return Ok(());
    }
    let detail = "`status` stands alone: it asks the vendor and changes nothing itself.";
    Err(Error::new(Code::InvalidBody, detail).field("status"))
}

/// Deletes an account and its credentials for good.
#[utoipa::path(tag = "accounts", security(("bearer" = ["accounts:write"])), params(("id" = String, Path, description = "The account's id.")),
    responses((status = 200, description = "The account is gone.", body = Deleted)))]
#[delete("/integrated-account/{id}")]
pub async fn delete_integrated_account(
    caller: Caller<WriteAccounts>,
    id: Path<String>,
    write: Write,
    state: Data<State>,
) -> Answer {
    let environment = caller.environment;
    let work = async move |services: Arc<Services>, _: NoBody, _: Run| {
        services.accounts.delete(environment, &id).await?;
        envelope::deleted(&id)
    };
    write.answer(&caller, &state, work).await
}

/// What an account offers: resources, methods, fields and filters of its link method.
#[utoipa::path(tag = "accounts", security(("bearer" = ["accounts:read"])),
    params(("id" = String, Path, description = "The account's id."), CapabilityParams),
    responses((status = 200, description = "What the account offers.", body = Capabilities)))]
#[get("/integrated-account/{id}/capabilities")]
pub async fn get_account_capabilities(
    caller: Caller<ReadAccounts, CapabilityQuery>,
    id: Path<String>,
    state: Data<State>,
) -> Answer {
    let account = state.services.accounts.get(caller.environment, &id).await?;
    let connector = state.services.accounts.connector_as_laid(&account).await?;
    let shown = AccountCapability::of(account);
    envelope::object(&capability::document(&connector, caller.environment, Some(shown), &caller.query))
}

/// An account as it is shown.
pub(super) async fn view(services: &Services, account: Account, warnings: Vec<Warning>) -> Result<IntegratedAccount, Error> {
    let is_enabled = services.installs.is_enabled(account.environment, &account.connector).await?;
    Ok(plain_view(services, account, warnings).within(is_enabled))
}

fn plain_view(services: &Services, account: Account, warnings: Vec<Warning>) -> IntegratedAccount {
    let catalog = services.catalog.load();
    let connector = catalog.get(account.connector.as_str()).cloned();
    let next = services.care.next_look(&account);
    IntegratedAccount::view(account, connector.as_deref(), warnings, next)
}
