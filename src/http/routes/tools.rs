//! Tools: what a language model can be given of a connector or an account.

use actix_web::{
    get,
    web::{Data, Path},
};
use utoipa::IntoParams;

use super::integration::find;
use crate::http::{
    Answer, State,
    capability::AccountCapability,
    envelope,
    extract::{Caller, ReadAccounts},
    query::ToolQuery,
    tools::{self, Tools},
};

/// Which tools are wanted.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "for the document only; `query` reads what callers send")]
pub struct ToolParams {
    /// Only these methods, comma-separated.
    methods: Option<String>,
}

/// The connector's own resources as tools, with a JSON Schema for each.
#[utoipa::path(tag = "integrations", security(("bearer" = ["accounts:read"])),
    params(("slug_or_id" = String, Path, description = "The connector's slug or id."), ToolParams),
    responses((status = 200, description = "The tools.", body = Tools)))]
#[get("/integration/{slug_or_id}/tools")]
pub async fn list_integration_tools(caller: Caller<ReadAccounts, ToolQuery>, name: Path<String>, state: Data<State>) -> Answer {
    let connector = find(&state.services, &name)?;
    envelope::object(&tools::document(&connector, caller.environment, None, caller.query.methods.clone()))
}

/// What the account's link method offers as tools, with a JSON Schema for each.
#[utoipa::path(tag = "accounts", security(("bearer" = ["accounts:read"])),
    params(("id" = String, Path, description = "The account's id."), ToolParams),
    responses((status = 200, description = "The tools.", body = Tools)))]
#[get("/integrated-account/{id}/tools")]
pub async fn list_account_tools(caller: Caller<ReadAccounts, ToolQuery>, id: Path<String>, state: Data<State>) -> Answer {
    let account = state.services.accounts.get(caller.environment, &id).await?;
    let connector = state.services.accounts.connector_as_laid(&account).await?;
    let shown = AccountCapability::of(account);
    envelope::object(&tools::document(&connector, caller.environment, Some(shown), caller.query.methods.clone()))
}
