//! Work on accounts that is asked for by name, as Truto's clients do.

use std::sync::Arc;

use actix_web::{HttpRequest, post, web::Data};

use crate::{
    error::{Code, Error, Result},
    http::{
        Answer, State, act, envelope,
        extract::{Caller, WriteAccounts},
        schema_account::{BulkDelete, RefreshCredentials, Success},
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
        services.accounts.refresh_credentials(environment, &body.id).await.map_err(|error| match error.code() {
            Code::NotFound => error.field("id"),
            _ => error,
        })?;
        envelope::changed(&Success { success: true })
    };
    write.answer(&caller, &state, work).await
}
