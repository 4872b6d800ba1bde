//! Connectors and what they offer.

use std::{collections::BTreeSet, sync::Arc};

use actix_web::{
    get,
    web::{Data, Path},
};

use crate::{
    connector::{Connector, Level},
    error::{Error, Result},
    http::{
        Answer, State,
        capability::{self, Capabilities},
        envelope::{self, Platform},
        extract::{Caller, ReadAccounts},
        query::{CapabilityQuery, IntegrationList},
        schema::{CapabilityParams, Integration, IntegrationLabel, IntegrationPage, IntegrationParams, PageParams},
    },
    model::{EnvironmentId, Install, Slug},
    service::{ListAccounts, Services},
};

/// The connectors of this gateway.
#[utoipa::path(tag = "integrations", security(("bearer" = ["accounts:read"])), params(PageParams, IntegrationParams), responses(
    (status = 200, description = "A page of connectors, by slug.", body = IntegrationPage)
))]
#[get("/integration")]
pub async fn list_integrations(caller: Caller<ReadAccounts, IntegrationList>, state: Data<State>) -> Answer {
    let IntegrationList { page, name, tenant_id, connected, environment_id } = &caller.query;
    let list = Platform::new(&state.services, caller.environment, "integration", page);
    let linked = match (connected, tenant_id) {
        (None, None) => None,
        _ => Some(linked_slugs(&state.services, caller.environment, tenant_id.clone()).await?),
    };
    let wanted = connected.unwrap_or(true);
    let said = state.services.installs.said(caller.environment).await?;
    let is_mine = environment_id.as_deref().map(|id| id.eq_ignore_ascii_case(&caller.environment.to_string()));
    let is_installed = |slug: &Slug| said.get(slug).is_none_or(|install| install.uninstalled_at.is_none());
    // A hidden connector is there for whoever asks for it, for what is installed, or for what is linked.
    let is_asked_for = name.is_some() || environment_id.is_some() || *connected == Some(true);
    let is_shown = |slug: &Slug| is_asked_for || said.get(slug).is_none_or(|install| install.show_in_catalog);
    let catalog = state.services.catalog.load();
    let all = catalog
        .all()
        .filter(|c| is_mine.is_none_or(|is_mine| is_mine && is_installed(&c.slug)) && is_shown(&c.slug))
        .filter(|c| name.as_deref().is_none_or(|name| name == c.slug.as_str()))
        .filter(|c| linked.as_ref().is_none_or(|linked| linked.contains(c.slug.as_str()) == wanted))
        .map(|c| (c.slug.to_string(), view(c, said.get(&c.slug))));
    list.slice(all)
}

async fn linked_slugs(services: &Services, environment: EnvironmentId, tenant_id: Option<String>) -> Result<BTreeSet<String>> {
    let mut slugs = BTreeSet::new();
    let mut after = None;
    loop {
        let query = ListAccounts { tenant_id: tenant_id.clone(), limit: 1000, after, ..ListAccounts::default() };
        let (accounts, next) = services.accounts.list(environment, query).await?;
        slugs.extend(accounts.into_iter().map(|account| account.connector.to_string()));
        match next {
            Some(next) => after = Some(next),
            None => return Ok(slugs),
        }
    }
}

/// One connector.
#[utoipa::path(tag = "integrations", security(("bearer" = ["accounts:read"])),
    params(("slug_or_id" = String, Path, description = "The connector's slug or id.")),
    responses((status = 200, description = "The connector.", body = Integration)))]
#[get("/integration/{slug_or_id}")]
pub async fn get_integration(caller: Caller<ReadAccounts>, name: Path<String>, state: Data<State>) -> Answer {
    let connector = find(&state.services, &name)?;
    let said = state.services.installs.said(caller.environment).await?;
    envelope::object(&view(&connector, said.get(&connector.slug)))
}

/// What a connector offers: link methods, resources, methods, fields and filters.
#[utoipa::path(tag = "integrations", security(("bearer" = ["accounts:read"])),
    params(("slug_or_id" = String, Path, description = "The connector's slug or id."), CapabilityParams),
    responses((status = 200, description = "What the connector offers.", body = Capabilities)))]
#[get("/integration/{slug_or_id}/capabilities")]
pub async fn get_integration_capabilities(
    caller: Caller<ReadAccounts, CapabilityQuery>,
    name: Path<String>,
    state: Data<State>,
) -> Answer {
    let connector = find(&state.services, &name)?;
    let connector = state.services.installs.connector(caller.environment, &connector.slug).await?;
    envelope::object(&capability::document(&connector, caller.environment, None, &caller.query))
}

/// The connector of this slug or id.
pub fn find(services: &Services, name: &str) -> Result<Arc<Connector>> {
    let catalog = services.catalog.load();
    let by_id = || catalog.all().find(|c| c.id.to_string().eq_ignore_ascii_case(name));
    catalog.get(name).or_else(by_id).cloned().ok_or_else(Error::not_found)
}

fn view(connector: &Connector, said: Option<&Install>) -> Integration {
    let file = &connector.file;
    Integration {
        id: connector.id,
        name: connector.slug.to_string(),
        category: file.category.clone(),
        is_beta: file.level != Level::Stable,
        level: file.level,
        is_installed: said.is_none_or(|install| install.uninstalled_at.is_none()),
        is_enabled: said.is_none_or(Install::is_in_use),
        products: file.products.clone(),
        config: IntegrationLabel { label: file.title.clone() },
        authentication_methods: connector.methods.iter().map(|m| m.name.clone()).collect(),
        homepage: file.homepage.clone(),
        docs_url: file.docs_url.clone(),
    }
}
