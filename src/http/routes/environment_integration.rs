//! Truto's installs: every connector is installed in every environment.

use actix_web::{
    get,
    web::{Data, Path},
};

use crate::{
    connector::Connector,
    error::Error,
    http::{
        Answer, State,
        envelope::{self, Platform},
        extract::{Caller, ReadAccounts},
        query::PlatformList,
        schema::{EnvironmentIntegration, EnvironmentIntegrationPage, IntegrationLabel, IntegrationRef, PageParams},
    },
    model::{EnvironmentId, environment_integration_id},
};

/// The connectors of this environment.
#[utoipa::path(tag = "integrations", security(("bearer" = ["accounts:read"])), params(PageParams), responses(
    (status = 200, description = "A page of connectors, by slug.", body = EnvironmentIntegrationPage)
))]
#[get("/environment-integration")]
pub async fn list_environment_integrations(caller: Caller<ReadAccounts, PlatformList>, state: Data<State>) -> Answer {
    let catalog = state.services.catalog.load();
    let all = catalog.all().map(|c| (c.slug.to_string(), view(c, caller.environment)));
    Platform::new(&state.services, caller.environment, "environment-integration", &caller.query).slice(all)
}

/// One connector of this environment.
#[utoipa::path(tag = "integrations", security(("bearer" = ["accounts:read"])),
    params(("id" = String, Path, description = "The connector's id within this environment.")),
    responses((status = 200, description = "The connector.", body = EnvironmentIntegration)))]
#[get("/environment-integration/{id}")]
pub async fn get_environment_integration(caller: Caller<ReadAccounts>, id: Path<String>, state: Data<State>) -> Answer {
    let catalog = state.services.catalog.load();
    let found = catalog.all().map(|c| view(c, caller.environment)).find(|v| v.id.to_string().eq_ignore_ascii_case(&id));
    envelope::object(&found.ok_or_else(Error::not_found)?)
}

fn view(connector: &Connector, environment: EnvironmentId) -> EnvironmentIntegration {
    EnvironmentIntegration {
        id: environment_integration_id(environment, &connector.slug),
        integration_id: connector.id,
        environment_id: environment,
        is_enabled: true,
        show_in_catalog: true,
        integration: IntegrationRef {
            id: connector.id,
            name: connector.slug.to_string(),
            category: connector.file.category.clone(),
            config: IntegrationLabel { label: connector.file.title.clone() },
        },
    }
}
