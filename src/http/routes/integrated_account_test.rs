//! Whether a credential works, and what it can see.

use std::sync::Arc;

use actix_web::{
    post,
    web::{Data, Path},
};

use super::integrated_account::{named, view};
use crate::{
    error::Error,
    http::{
        Answer, State, envelope,
        extract::{Caller, WriteAccounts},
        schema::IntegratedAccount,
        schema_state::{CredentialTested, TestCredential},
        write::{NoBody, Write},
    },
    service::{IfThere, NewAccount, Run, Services},
};

/// Tries a credential at the vendor, as linking would, and tells what it can see. Nothing of it is stored; a refusal is 422 with
/// what the vendor said.
#[utoipa::path(tag = "accounts", security(("bearer" = ["accounts:write"])), request_body = TestCredential, responses(
    (status = 200, description = "The vendor accepts the credential.", body = CredentialTested)
))]
#[post("/integrated-account/test")]
pub async fn test_credential(caller: Caller<WriteAccounts>, write: Write<TestCredential>, state: Data<State>) -> Answer {
    let environment = caller.environment;
    let work = async move |services: Arc<Services>, body: TestCredential, _: Run| {
        let sees = services.accounts.try_out(environment, new_account(body)?).await?;
        envelope::changed(&CredentialTested { ok: true, sees })
    };
    write.answer(&caller, &state, work).await
}

fn new_account(body: TestCredential) -> Result<NewAccount, Error> {
    let TestCredential { integration, environment_integration_id, authentication_method, context } = body;
    let integration = named(integration, environment_integration_id)?;
    Ok(NewAccount {
        tenant_id: String::new(),
        integration,
        authentication_method,
        context,
        is_sandbox: false,
        id: None,
        if_there: IfThere::LinkedAnew,
        grant: None,
    })
}

/// Tries the stored credential at the vendor now, and tells what it can see. A refusal is 401 `reauth_required` and marks the
/// account; an account that was refused before comes back when it is accepted. Callers within seconds share one try.
#[utoipa::path(tag = "accounts", security(("bearer" = ["accounts:write"])), params(("id" = String, Path, description = "The account's id.")),
    responses((status = 200, description = "The vendor accepts the credential.", body = CredentialTested)))]
#[post("/integrated-account/{id}/test")]
pub async fn test_integrated_account(
    caller: Caller<WriteAccounts>,
    id: Path<String>,
    write: Write,
    state: Data<State>,
) -> Answer {
    let environment = caller.environment;
    let work = async move |services: Arc<Services>, _: NoBody, _: Run| {
        let sees = services.accounts.test(environment, &id).await?;
        envelope::changed(&CredentialTested { ok: true, sees })
    };
    write.answer(&caller, &state, work).await
}

/// Looks at the other side now: whether the credential works, and what is to be known of the vendor. The answer is the account.
#[utoipa::path(tag = "accounts", security(("bearer" = ["accounts:write"])), params(("id" = String, Path, description = "The account's id.")),
    responses((status = 200, description = "The account as it is now.", body = IntegratedAccount)))]
#[post("/integrated-account/{id}/status-refresh")]
pub async fn refresh_integrated_account_status(
    caller: Caller<WriteAccounts>,
    id: Path<String>,
    write: Write,
    state: Data<State>,
) -> Answer {
    let environment = caller.environment;
    let work = async move |services: Arc<Services>, _: NoBody, _: Run| {
        let account = services.accounts.refresh(environment, &id).await?;
        envelope::changed(&view(&services, account, Vec::new()).await?)
    };
    write.answer(&caller, &state, work).await
}
