//! Work on accounts that is asked for by name, as Truto's clients do.

use std::sync::Arc;

use actix_web::{
    HttpRequest, patch, post,
    web::{Data, Path},
};
use serde_json::{Map, Value};

use super::integrated_account::view;
use crate::{
    error::{Code, Error, Result},
    http::{
        Answer, State, act, envelope,
        extract::{Caller, WriteAccounts},
        schema::IntegratedAccount,
        schema_account::{BulkDelete, ChangeCredentials, RefreshCredentials, RunPostInstallActions, Success},
        write::Write,
    },
    service::{DeleteAccounts, Run, Services},
};

/// Deletes several accounts and their credentials for good: the named ones, or all of one label. Where one of them is not there,
/// nothing is deleted.
#[utoipa::path(tag = "accounts", security(("bearer" = ["accounts:write"])), request_body = BulkDelete,
    responses((status = 200, description = "The accounts are gone.", body = Success)))]
#[post("/integrated-account/bulk-delete")]
pub async fn delete_accounts(
    caller: Caller<WriteAccounts>,
    request: HttpRequest,
    write: Write<BulkDelete>,
    state: Data<State>,
) -> Answer {
    let (environment, by) = (caller.environment, act::deleter(&request, &caller, &state));
    let work = async move |services: Arc<Services>, body: BulkDelete, run: Run| {
        services.accounts.delete_many(environment, which(body)?, run.again, by).await?;
        envelope::changed(&Success { success: true })
    };
    write.answer(&caller, &state, work).await
}

fn which(body: BulkDelete) -> Result<DeleteAccounts> {
    match (body.ids, body.tenant_id) {
        (Some(ids), None) => Ok(DeleteAccounts::Ids(ids)),
        (None, Some(tenant_id)) => Ok(DeleteAccounts::Tenant(tenant_id)),
        _ => Err(Error::new(Code::InvalidBody, "Exactly one of `ids` and `tenant_id` says which accounts.").field("ids")),
    }
}

/// Gets a new access token for an account now, where its way to link has one; any other credential is tested at the vendor.
#[utoipa::path(tag = "accounts", security(("bearer" = ["accounts:write"])), request_body = RefreshCredentials,
    responses((status = 200, description = "The vendor accepts the account's credential.", body = Success)))]
#[post("/integrated-account/refresh-credentials")]
pub async fn refresh_credentials(caller: Caller<WriteAccounts>, write: Write<RefreshCredentials>, state: Data<State>) -> Answer {
    let environment = caller.environment;
    let work = async move |services: Arc<Services>, body: RefreshCredentials, _: Run| {
        services.accounts.refresh_credentials(environment, &body.id).await.map_err(named_by_id)?;
        envelope::changed(&Success { success: true })
    };
    write.answer(&caller, &state, work).await
}

/// Truto's call for an account whose first steps failed. Connectors here have no steps but the check of the credential: it is
/// made at the vendor now, and an account that was refused before comes back when it is accepted.
#[utoipa::path(tag = "accounts", security(("bearer" = ["accounts:write"])), request_body = RunPostInstallActions,
    responses((status = 200, description = "The vendor accepts the account's credential.", body = Success)))]
#[post("/integrated-account/run-post-install-actions")]
pub async fn run_post_install_actions(
    caller: Caller<WriteAccounts>,
    write: Write<RunPostInstallActions>,
    state: Data<State>,
) -> Answer {
    let environment = caller.environment;
    let work = async move |services: Arc<Services>, body: RunPostInstallActions, _: Run| {
        services.accounts.refresh(environment, &body.id).await.map_err(named_by_id)?;
        envelope::changed(&Success { success: true })
    };
    write.answer(&caller, &state, work).await
}

/// The account is named in the body.
fn named_by_id(error: Error) -> Error {
    match error.code() {
        Code::NotFound => error.field("id"),
        _ => error,
    }
}

/// Changes secrets of the credential and nothing else. The vendor is asked first; what it refuses replaces nothing.
#[utoipa::path(tag = "accounts", security(("bearer" = ["accounts:write"])), params(("id" = String, Path, description = "The account's id.")),
    request_body = ChangeCredentials, responses((status = 200, description = "The account, with the new credential.", body = IntegratedAccount)))]
#[patch("/integrated-account/{id}/credentials")]
pub async fn change_credentials(
    caller: Caller<WriteAccounts>,
    id: Path<String>,
    write: Write<ChangeCredentials>,
    state: Data<State>,
) -> Answer {
    let environment = caller.environment;
    let work = async move |services: Arc<Services>, ChangeCredentials(body): ChangeCredentials, run: Run| {
        let (secrets, is_bare) = unwrapped(body)?;
        let changed = services.accounts.change_secrets(environment, &id, secrets, run).await;
        let (account, warnings) = changed.map_err(|error| if is_bare { without_context(error) } else { error })?;
        envelope::changed(&view(&services, account, warnings).await?)
    };
    write.answer(&caller, &state, work).await
}

/// What stands in `context`, or the body itself when it has none, as Truto's pages and its manual have it.
fn unwrapped(mut body: Map<String, Value>) -> Result<(Map<String, Value>, bool)> {
    let invalid = |field: &str, detail: String| Err(Error::new(Code::InvalidBody, detail).field(field));
    let (secrets, is_bare) = match body.remove("context") {
        None => (body, true),
        Some(Value::Object(secrets)) => match body.keys().next() {
            None => (secrets, false),
            Some(beside) => return invalid(beside, format!("`{beside}` stands beside `context`, not in it.")),
        },
        Some(_) => return invalid("context", "`context` takes an object.".to_owned()),
    };
    match secrets.is_empty() {
        true => invalid("context", "Nothing is to be changed: the body names no credential.".to_owned()),
        false => Ok((secrets, is_bare)),
    }
}

/// The field as the caller wrote it.
fn without_context(error: Error) -> Error {
    match error.field_name().and_then(|name| name.strip_prefix("context.")).map(str::to_owned) {
        Some(name) => error.field(name),
        None => error,
    }
}
