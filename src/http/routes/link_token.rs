//! Link tokens: made, shown once, taken back.

use std::sync::Arc;

use actix_web::{
    delete, post,
    web::{Data, Path},
};

use crate::{
    http::{
        Answer, State, envelope,
        extract::{Caller, WriteLinks},
        schema::Deleted,
        schema_link::{CreateLinkToken, CreatedLinkToken},
        ui::link::PLACE,
        write::{NoBody, Write},
    },
    service::{Run, Services, link::NewLink},
};

/// Makes a link token and the address of its page, on which one customer links one account. It is used up by the account
/// that comes of it, by its end, by the end of the API token it was made with, or when it is taken back.
#[utoipa::path(tag = "links", security(("bearer" = ["links:write"])), request_body = CreateLinkToken, responses(
    (status = 201, description = "The token, with its text.", body = CreatedLinkToken)
))]
#[post("/link-token")]
pub async fn create_link_token(caller: Caller<WriteLinks>, write: Write<CreateLinkToken>, state: Data<State>) -> Answer {
    let (by, origin) = (Arc::clone(&caller.caller), Arc::clone(&state.own_origin));
    let work = async move |services: Arc<Services>, body: CreateLinkToken, _: Run| {
        let new = NewLink { maker: services.tokens.shown_by(&by).await?, ..body.into() };
        let made = services.links.create(by.environment, new).await?;
        let link_token = made.text.expose();
        let link_url = format!("{origin}{PLACE}?link_token={link_token}");
        let created = CreatedLinkToken { id: made.id, link_token, link_url, expires_at: made.expires_at };
        envelope::created(&created).map(envelope::shown_once)
    };
    write.answer(&caller, &state, work).await
}

/// Takes a link token back: nobody can use it any more, and a try that runs stores nothing. What was linked by it stays linked.
/// While an account of it is just being stored, that is 409 `conflict`: it is too late then.
#[utoipa::path(tag = "links", security(("bearer" = ["links:write"])), params(("id" = String, Path, description = "The token's id.")),
    responses((status = 200, description = "The token is of no use any more.", body = Deleted)))]
#[delete("/link-token/{id}")]
pub async fn cancel_link_token(caller: Caller<WriteLinks>, id: Path<String>, write: Write, state: Data<State>) -> Answer {
    let environment = caller.environment;
    let work = async move |services: Arc<Services>, _: NoBody, _: Run| {
        services.links.cancel(environment, &id).await?;
        envelope::deleted(&id)
    };
    write.answer(&caller, &state, work).await
}
