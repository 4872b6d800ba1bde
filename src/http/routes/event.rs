//! Events: what happened to linked accounts.

use actix_web::{
    get,
    web::{Data, Path},
};

use crate::{
    http::{
        Answer, State, envelope,
        extract::{Caller, ReadEvents},
        query::EventList,
        schema::PageParams,
        schema_state::{EventPage, EventParams},
    },
    model::Event,
    store::repo::EventPlace,
};

/// What happened to the accounts of this environment in the last 30 days, the newest first. An event is here within seconds of what
/// it tells; where a node was lost just then, it comes later, at its place in time.
#[utoipa::path(tag = "events", security(("bearer" = ["events:read"])), params(PageParams, EventParams), responses(
    (status = 200, description = "A page of events.", body = EventPage)
))]
#[get("/event")]
pub async fn list_events(caller: Caller<ReadEvents, EventList>, state: Data<State>) -> Answer {
    let (services, environment) = (&state.services, caller.environment);
    let EventList { page, wanted } = &caller.query;
    let list = format!("event|{:x}", wanted.digest());
    let after = page.cursor.as_deref().map(|text| services.cursors.open::<EventPlace>(environment, &list, text)).transpose()?;
    let (found, next) = services.events.readable(environment, wanted, page.limit, after).await?;
    let next_cursor = next.map(|next| services.cursors.seal(environment, &list, next));
    let answer = envelope::object(&EventPage { result: found.records, next_cursor, limit: page.limit })?;
    Ok(envelope::lacking(answer, found.unreadable))
}

/// One event.
#[utoipa::path(tag = "events", security(("bearer" = ["events:read"])), params(("id" = String, Path, description = "The event's id.")),
    responses((status = 200, description = "The event.", body = Event)))]
#[get("/event/{id}")]
pub async fn get_event(caller: Caller<ReadEvents>, id: Path<String>, state: Data<State>) -> Answer {
    envelope::object(&state.services.events.get(caller.environment, &id).await?)
}
