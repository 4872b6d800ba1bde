//! Environments: seen by those who stand behind their walls, made and ended by whoever administers `default`.

use std::sync::Arc;

use actix_web::{
    delete, get, patch, post,
    web::{Data, Path},
};

use crate::{
    error::Error,
    http::{
        Answer, State,
        envelope::{self, Platform},
        extract::{Admin, AnyToken, Caller},
        query::PlatformList,
        schema::{Deleted, EnvironmentPage, PageParams},
        schema_install::{CreatedEnvironment, Environment, NameEnvironment},
        write::{NoBody, Write},
    },
    service::{Reply, Run, Services},
};

/// Makes an environment and its first administrator's token, whose text is in this answer and never again. For administrators of
/// the environment `default`.
#[utoipa::path(tag = "environments", security(("bearer" = ["admin"])), request_body = NameEnvironment, responses(
    (status = 201, description = "The environment, with its first token.", body = CreatedEnvironment)
))]
#[post("/environment")]
pub async fn create_environment(caller: Caller<Admin>, write: Write<NameEnvironment>, state: Data<State>) -> Answer {
    let by = Arc::clone(&caller.caller);
    let work = async move |services: Arc<Services>, body: NameEnvironment, run: Run| -> Result<Reply, Error> {
        let (environment, token, text) = services.environments.create(&by, run, &body.name, &services.tokens).await?;
        envelope::created(&CreatedEnvironment::of(environment, &token, text.expose(), &by.actor))
    };
    write.answer(&caller, &state, work).await
}

/// The environments this token may see: its own; for administrators of `default`, all.
#[utoipa::path(tag = "environments", security(("bearer" = [])), params(PageParams), responses(
    (status = 200, description = "A page of environments.", body = EnvironmentPage)
))]
#[get("/environment")]
pub async fn list_environments(caller: Caller<AnyToken, PlatformList>, state: Data<State>) -> Answer {
    let list = Platform::new(&state.services, caller.environment, "environment", &caller.query);
    let all = state.services.environments.list(&caller).await?;
    let unreadable = all.unreadable;
    list.slice_of(
        all.records.into_iter().map(|environment| (environment.id.to_string(), Environment::from(environment))),
        unreadable,
    )
}

/// One environment.
#[utoipa::path(tag = "environments", security(("bearer" = [])), params(("id" = String, Path, description = "The environment's id.")),
    responses((status = 200, description = "The environment.", body = Environment)))]
#[get("/environment/{id}")]
pub async fn get_environment(caller: Caller<AnyToken>, id: Path<String>, state: Data<State>) -> Answer {
    envelope::object(&Environment::from(state.services.environments.get(&caller, &id).await?))
}

/// Gives an environment another name. For administrators of the environment `default`, which keeps its own.
#[utoipa::path(tag = "environments", security(("bearer" = ["admin"])), params(("id" = String, Path, description = "The environment's id.")),
    request_body = NameEnvironment, responses((status = 200, description = "The environment.", body = Environment)))]
#[patch("/environment/{id}")]
pub async fn rename_environment(
    caller: Caller<Admin>,
    id: Path<String>,
    write: Write<NameEnvironment>,
    state: Data<State>,
) -> Answer {
    let by = Arc::clone(&caller.caller);
    let work = async move |services: Arc<Services>, body: NameEnvironment, _: Run| -> Result<Reply, Error> {
        let renamed = services.environments.rename(&by, &id, &body.name).await?;
        envelope::changed(&Environment::from(renamed))
    };
    write.answer(&caller, &state, work).await
}

/// Ends an environment; while accounts or tokens are left in it this is 422 `still_in_use`. For administrators of the environment `default`, which stays.
#[utoipa::path(tag = "environments", security(("bearer" = ["admin"])), params(("id" = String, Path, description = "The environment's id.")),
    responses((status = 200, description = "The environment is gone.", body = Deleted)))]
#[delete("/environment/{id}")]
pub async fn delete_environment(caller: Caller<Admin>, id: Path<String>, write: Write, state: Data<State>) -> Answer {
    let by = Arc::clone(&caller.caller);
    let work = async move |services: Arc<Services>, _: NoBody, _: Run| -> Result<Reply, Error> {
        services.environments.delete(&by, &id).await?;
        envelope::deleted(&id)
    };
    write.answer(&caller, &state, work).await
}
