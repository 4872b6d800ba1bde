//! API tokens: made, shown once, listed, ended.

use std::sync::Arc;

use actix_web::{
    delete, get, post,
    web::{Data, Path},
};

use crate::{
    http::{
        Answer, State,
        envelope::{self, Platform},
        extract::{Admin, Caller},
        query::TokenList,
        schema::{ApiTokenPage, Deleted, PageParams, TokenParams},
        schema_token::{ApiToken, CreateApiToken, CreatedApiToken},
        write::{NoBody, Write},
    },
    model::Scopes,
    service::{ListTokens, NewToken, Run, Services},
    store::repo::Listed,
};

/// Makes a token. Its text is in this answer and never again.
#[utoipa::path(tag = "tokens", security(("bearer" = ["admin"])), request_body = CreateApiToken, responses(
    (status = 201, description = "The token, with its text.", body = CreatedApiToken)
))]
#[post("/api-token")]
pub async fn create_api_token(caller: Caller<Admin>, write: Write<CreateApiToken>, state: Data<State>) -> Answer {
    let by = Arc::clone(&caller.caller);
    let work = async move |services: Arc<Services>, body: CreateApiToken, run: Run| {
        let CreateApiToken { name, scopes, expires_at } = body;
        let new = NewToken { name, scopes: Scopes(scopes.into_iter().collect()), expires_at };
        let (token, secret) = services.tokens.create_in(run, &by, new).await?;
        envelope::created(&CreatedApiToken::of(&token, secret.expose(), &by.actor)).map(envelope::shown_once)
    };
    write.answer(&caller, &state, work).await
}

/// The tokens of this environment, without their texts.
#[utoipa::path(tag = "tokens", security(("bearer" = ["admin"])), params(PageParams, TokenParams), responses(
    (status = 200, description = "A page of tokens.", body = ApiTokenPage)
))]
#[get("/api-token")]
pub async fn list_api_tokens(caller: Caller<Admin, TokenList>, state: Data<State>) -> Answer {
    let Caller { caller, query: TokenList { page, wanted }, .. } = caller;
    let list = Platform::new(&state.services, caller.environment, "api-token", &page);
    let wanted = ListTokens { after: list.after()?, ..wanted };
    let (tokens, next) = state.services.tokens.readable(caller.environment, wanted).await?;
    let unreadable = tokens.unreadable;
    list.page_of(Listed { records: tokens.records.into_iter().map(ApiToken::from).collect(), unreadable }, next)
}

/// One token, without its text.
#[utoipa::path(tag = "tokens", security(("bearer" = ["admin"])), params(("id" = String, Path, description = "The token's id.")),
    responses((status = 200, description = "The token.", body = ApiToken)))]
#[get("/api-token/{id}")]
pub async fn get_api_token(caller: Caller<Admin>, id: Path<String>, state: Data<State>) -> Answer {
    envelope::object(&ApiToken::from(state.services.tokens.get(caller.environment, &id).await?))
}

/// Ends a token; it is refused everywhere within a second.
#[utoipa::path(tag = "tokens", security(("bearer" = ["admin"])), params(("id" = String, Path, description = "The token's id.")),
    responses((status = 200, description = "The token is revoked.", body = Deleted)))]
#[delete("/api-token/{id}")]
pub async fn revoke_api_token(caller: Caller<Admin>, id: Path<String>, write: Write, state: Data<State>) -> Answer {
    let environment = caller.environment;
    let work = async move |services: Arc<Services>, _: NoBody, _: Run| {
        services.tokens.revoke(environment, &id).await?;
        envelope::deleted(&id)
    };
    write.answer(&caller, &state, work).await
}
