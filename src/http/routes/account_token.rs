//! Account tokens: made for one account, and what their holder sees and changes of it.

use std::sync::Arc;

use actix_web::{get, patch, post, web::Data};

use super::integrated_account::view;
use crate::{
    error::Code,
    http::{
        Answer, State, envelope,
        extract::{ACCOUNT_PARAMETER, Caller, OnlyAccount, ReadAccounts, WriteAccounts},
        schema::IntegratedAccount,
        schema_account::{AccountToken, ChangeOwnAccount, MakeAccountToken},
        write::Write,
    },
    service::{Run, Services},
};

/// Makes a token for one account that can be handed to a browser or another service: it lives for 15 minutes, has no more rights
/// than the token it is made with, and ends with that.
#[utoipa::path(tag = "accounts", security(("bearer" = ["accounts:read"])), request_body = MakeAccountToken, responses(
    (status = 200, description = "The token, with its text.", body = AccountToken)
))]
#[post("/integrated-account/token")]
pub async fn make_account_token(caller: Caller<ReadAccounts>, write: Write<MakeAccountToken>, state: Data<State>) -> Answer {
    let by = Arc::clone(&caller.caller);
    let work = async move |services: Arc<Services>, body: MakeAccountToken, _: Run| {
        let account =
            services.accounts.get(by.environment, &body.integrated_account_id).await.map_err(|error| match error.code() {
                Code::NotFound => error.field(ACCOUNT_PARAMETER),
                _ => error,
            })?;
        let wanted = body.scopes.map(|scopes| scopes.into_iter().collect());
        let made = services.tokens.make_for_account(&by, &account, wanted).await?;
        let (text, expires_in, expires_at) = (made.text.expose(), made.expires_in, made.expires_at);
        envelope::changed(&AccountToken { integrated_account_token: text, token: text, expires_in, expires_at })
            .map(envelope::shown_once)
    };
    write.answer(&caller, &state, work).await
}

/// The account of an account token, never with a secret.
#[utoipa::path(tag = "accounts", security(("bearer" = ["accounts:read"])),
    responses((status = 200, description = "The account.", body = IntegratedAccount)))]
#[get("/integrated-account/me")]
pub async fn get_own_account(caller: Caller<OnlyAccount<ReadAccounts>>, state: Data<State>) -> Answer {
    let account = state.services.accounts.own(&caller).await?;
    envelope::object(&view(&state.services, account, Vec::new()).await?)
}

/// Changes labels of the account of an account token; never a field the account was linked by.
#[utoipa::path(tag = "accounts", security(("bearer" = ["accounts:write"])), request_body = ChangeOwnAccount,
    responses((status = 200, description = "The changed account.", body = IntegratedAccount)))]
#[patch("/integrated-account/me")]
pub async fn change_own_account(
    caller: Caller<OnlyAccount<WriteAccounts>>,
    write: Write<ChangeOwnAccount>,
    state: Data<State>,
) -> Answer {
    let by = Arc::clone(&caller.caller);
    let work = async move |services: Arc<Services>, body: ChangeOwnAccount, _: Run| {
        let account = services.accounts.change_own(&by, body.context).await?;
        envelope::changed(&view(&services, account, Vec::new()).await?)
    };
    write.answer(&caller, &state, work).await
}
