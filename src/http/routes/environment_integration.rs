//! Truto's installs: connectors within an environment. Every one is installed, enabled and shown until something else is said.

use std::sync::Arc;

use actix_web::{
    HttpRequest, delete, get, patch, post,
    web::{Data, Path},
};

use crate::{
    error::{Code, Error},
    http::{
        Answer, State, act,
        envelope::{self, Platform},
        extract::{Admin, Caller, ReadAccounts},
        query::{PlatformList, Uninstall},
        schema::{Deleted, EnvironmentIntegrationPage, PageParams},
        schema_install::{ChangeEnvironmentIntegration, EnvironmentIntegration, InstallIntegration},
        write::{NoBody, Write},
    },
    service::{ChangeInstall, Installing, NewInstall, Reply, Run, Services},
};

/// Says that what was asked for beside the connector has no effect, because the connector was installed already.
const ALREADY_INSTALLED: &str = "already_installed";

/// Installs a connector. One that is installed stays as it is and is the answer; `rollcall-warning: already_installed` says when
/// more was asked for than is so.
#[utoipa::path(tag = "integrations", security(("bearer" = ["admin"])), request_body = InstallIntegration, responses(
    (status = 200, description = "The connector was installed already and stays as it is.", body = EnvironmentIntegration),
    (status = 201, description = "The connector is installed.", body = EnvironmentIntegration)
))]
#[post("/environment-integration")]
pub async fn install_integration(caller: Caller<Admin>, write: Write<InstallIntegration>, state: Data<State>) -> Answer {
    let environment = caller.environment;
    let work = async move |services: Arc<Services>, body: InstallIntegration, _: Run| {
        let installing = services.installs.install(environment, new_install(body)?).await?;
        services.accounts.reopen();
        match installing {
            Installing::Made(installed) => envelope::created(&EnvironmentIntegration::view(installed)),
            Installing::Known { installed, differs } => {
                let warnings = differs.then(|| ALREADY_INSTALLED.to_owned()).into_iter().collect();
                Ok(Reply { warnings, ..envelope::changed(&EnvironmentIntegration::view(installed))? })
            }
        }
    };
    write.answer(&caller, &state, work).await
}

fn new_install(body: InstallIntegration) -> Result<NewInstall, Error> {
    let InstallIntegration { integration, integration_id, is_enabled, show_in_catalog, r#override: overrides } = body;
    match (integration, integration_id) {
        (Some(integration), None) | (None, Some(integration)) => {
            Ok(NewInstall { integration, wanted: ChangeInstall { is_enabled, show_in_catalog, overrides } })
        }
        _ => {
            let detail = "Exactly one of `integration` and `integration_id` names the connector.";
            Err(Error::new(Code::InvalidBody, detail).field("integration"))
        }
    }
}

/// The connectors of this environment.
#[utoipa::path(tag = "integrations", security(("bearer" = ["accounts:read"])), params(PageParams), responses(
    (status = 200, description = "A page of connectors, by slug.", body = EnvironmentIntegrationPage)
))]
#[get("/environment-integration")]
pub async fn list_environment_integrations(caller: Caller<ReadAccounts, PlatformList>, state: Data<State>) -> Answer {
    let all = state.services.installs.list(caller.environment).await?;
    let unreadable = all.unreadable;
    let all = all.records.into_iter().map(|found| (found.connector.slug.to_string(), EnvironmentIntegration::view(found)));
    Platform::new(&state.services, caller.environment, "environment-integration", &caller.query).slice_of(all, unreadable)
}

/// One connector of this environment.
#[utoipa::path(tag = "integrations", security(("bearer" = ["accounts:read"])),
    params(("id" = String, Path, description = "The connector's id within this environment.")),
    responses((status = 200, description = "The connector.", body = EnvironmentIntegration)))]
#[get("/environment-integration/{id}")]
pub async fn get_environment_integration(caller: Caller<ReadAccounts>, id: Path<String>, state: Data<State>) -> Answer {
    envelope::object(&EnvironmentIntegration::view(state.services.installs.get(caller.environment, &id).await?))
}

/// Enables, disables, shows, hides or overrides a connector; it holds on every node within a second. A disabled connector links
/// nothing, and calls on its accounts are 403 `integration_disabled` without a word to the vendor; credentials stay.
#[utoipa::path(tag = "integrations", security(("bearer" = ["admin"])),
    params(("id" = String, Path, description = "The connector's id within this environment.")),
    request_body = ChangeEnvironmentIntegration, responses((status = 200, description = "The connector.", body = EnvironmentIntegration)))]
#[patch("/environment-integration/{id}")]
pub async fn change_environment_integration(
    caller: Caller<Admin>,
    id: Path<String>,
    write: Write<ChangeEnvironmentIntegration>,
    state: Data<State>,
) -> Answer {
    let environment = caller.environment;
    let work = async move |services: Arc<Services>, body: ChangeEnvironmentIntegration, _: Run| {
        let ChangeEnvironmentIntegration { is_enabled, show_in_catalog, r#override: overrides } = body;
        let change = ChangeInstall { is_enabled, show_in_catalog, overrides };
        let installed = services.installs.change(environment, &id, change).await?;
        services.accounts.reopen();
        envelope::changed(&EnvironmentIntegration::view(installed))
    };
    write.answer(&caller, &state, work).await
}

/// Takes a connector away from this environment, with what was laid over it. While accounts are linked by it this is 422
/// `still_in_use` without `delete_accounts=true`, which deletes them for good. `POST /environment-integration` installs it again.
#[utoipa::path(tag = "integrations", security(("bearer" = ["admin"])),
    params(("id" = String, Path, description = "The connector's id within this environment."),
        ("delete_accounts" = Option<bool>, Query, description = "Delete the accounts that are linked by it, too.")),
    responses((status = 200, description = "The connector is not installed any more.", body = Deleted)))]
#[delete("/environment-integration/{id}")]
pub async fn uninstall_integration(
    caller: Caller<Admin, Uninstall>,
    id: Path<String>,
    request: HttpRequest,
    write: Write,
    state: Data<State>,
) -> Answer {
    let environment = caller.environment;
    let with_accounts = caller.query.delete_accounts.then(|| act::deleter(&request, &caller, &state));
    let work = async move |services: Arc<Services>, _: NoBody, _: Run| {
        services.accounts.uninstall(environment, &id, with_accounts).await?;
        envelope::deleted(&id)
    };
    write.answer(&caller, &state, work).await
}
