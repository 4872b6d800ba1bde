//! Connectors within an environment: installed, enabled, shown, and what is laid over them. Every connector is installed,
//! enabled and shown where nothing else is said.

pub(in crate::service) mod app;
mod oauth_apps;
pub(in crate::service) mod rules;

use std::{collections::BTreeMap, sync::Arc};

use arc_swap::ArcSwap;
use moka::future::Cache;
use serde_json::Value;

use crate::{
    connector::{Catalog, Connector, Maps},
    error::{Code, Error, Result},
    model::{Clock, EnvironmentId, Install, Slug, environment_integration_id},
    store::{
        StoreError,
        repo::{self, Listed},
    },
    vault::SystemKeys,
};
use app::AppSeal;
pub use oauth_apps::{OAuthApp, OAuthApps, OAuthAppsError};
use rules::{changed_maps, check_maps, members};

/// How often a change begins again because somebody else was faster; each time another change is stored.
const TRIES: usize = 100;
/// Connectors with rules laid over them that are kept compiled.
const KEPT: u64 = 10_000;
const SLOTS: &[&str] = &["credentials", "resources"];

/// `POST /environment-integration`. May hold a secret, therefore no `Debug`.
pub struct NewInstall {
    /// The connector's slug or either of its ids.
    pub integration: String,
    /// What shall hold of it.
    pub wanted: ChangeInstall,
}

/// `PATCH /environment-integration/{id}`: what is left out stays. May hold a secret, therefore no `Debug`.
#[derive(Default)]
pub struct ChangeInstall {
    /// Whether accounts can be linked and called.
    pub is_enabled: Option<bool>,
    /// Whether it is offered to whoever does not ask for it by name.
    pub show_in_catalog: Option<bool>,
    /// Merged key by key.
    pub overrides: Option<Value>,
}

/// A connector within an environment.
pub struct Installed {
    /// The connector, as its files have it.
    pub connector: Arc<Connector>,
    /// What holds of it.
    pub install: Install,
    /// Whether anything was ever said of it.
    pub is_said: bool,
}

/// What installing came to.
pub enum Installing {
    /// It was not there.
    Made(Installed),
    /// It was, and stays as it is; `differs` from what was asked for.
    Known {
        /// As it is.
        installed: Installed,
        /// Whether more was asked for than is so.
        differs: bool,
    },
}

/// A connector with the rules of one version of an environment's record laid over it.
#[derive(Clone)]
struct Laid {
    version: u64,
    base: Arc<Connector>,
    connector: Arc<Connector>,
}

/// The connectors of all environments.
pub struct Installs {
    records: repo::Installs,
    catalog: Arc<ArcSwap<Catalog>>,
    keys: Arc<SystemKeys>,
    clock: Arc<dyn Clock>,
    apps: Arc<ArcSwap<OAuthApps>>,
    laid: Cache<(EnvironmentId, Slug), Laid>,
}

impl Installs {
    /// Over its tools; `apps` are the operator's, replaced when their file changes.
    pub fn new(
        records: repo::Installs,
        catalog: Arc<ArcSwap<Catalog>>,
        keys: Arc<SystemKeys>,
        clock: Arc<dyn Clock>,
        apps: Arc<ArcSwap<OAuthApps>>,
    ) -> Self {
        Self { records, catalog, keys, clock, apps, laid: Cache::new(KEPT) }
    }

    pub(super) fn catalog(&self) -> &Arc<ArcSwap<Catalog>> {
        &self.catalog
    }

    /// A connector by slug or by either of its ids.
    pub fn resolve(&self, environment: EnvironmentId, name: &str) -> Result<Arc<Connector>> {
        let catalog = self.catalog.load();
        if let Some(connector) = catalog.get(name) {
            return Ok(connector.clone());
        }
        let by_id = uuid::Uuid::try_parse(name)
            .ok()
            .and_then(|id| catalog.all().find(|c| c.id == id || environment_integration_id(environment, &c.slug) == id).cloned());
        by_id.ok_or_else(|| {
            let known: Vec<&str> = catalog.all().map(|c| c.slug.as_str()).collect();
            let name: String = name.chars().take(64).collect();
            let detail = format!("No connector is called `{name}`. There are: {}.", known.join(", "));
            Error::new(Code::InvalidBody, detail).field("integration")
        })
    }

    /// The connectors that are installed in the environment, by slug, as far as this release can read what is said of them.
    pub async fn list(&self, environment: EnvironmentId) -> Result<Listed<Installed>> {
        let mut said: BTreeMap<_, _> = self.records.readable(environment).await?.into_iter().collect();
        let (catalog, mut unreadable) = (self.catalog.load(), 0);
        let all = catalog.all().filter_map(|connector| match said.remove(&connector.slug) {
            Some(None) => {
                unreadable += 1;
                None
            }
            said => Some(self.installed(environment, connector, said.flatten())),
        });
        let records = all.filter(|installed| installed.install.uninstalled_at.is_none()).collect();
        Ok(Listed { records, unreadable })
    }

    /// What is said of the environment's connectors, those that were taken away included. Of one whose record this release cannot
    /// read nothing is linked or called here: it shows as switched off.
    pub async fn said(&self, environment: EnvironmentId) -> Result<BTreeMap<Slug, Install>> {
        let unread = |slug: &Slug| {
            let unsaid = Install::unsaid(environment, slug.clone(), self.clock.now());
            Install { is_enabled: false, ..unsaid }
        };
        let records = self.records.readable(environment).await?.into_iter();
        Ok(records.map(|(slug, install)| (slug.clone(), install.unwrap_or_else(|| unread(&slug)))).collect())
    }

    /// One connector of the environment, by its id there.
    pub async fn get(&self, environment: EnvironmentId, id: &str) -> Result<Installed> {
        let connector = self.find(environment, id)?;
        let said = self.records.get(environment, &connector.slug).await?.map(|(install, _)| install);
        let installed = self.installed(environment, &connector, said);
        if installed.install.uninstalled_at.is_some() { Err(Error::not_found()) } else { Ok(installed) }
    }

    fn installed(&self, environment: EnvironmentId, connector: &Arc<Connector>, said: Option<Install>) -> Installed {
        let is_said = said.is_some();
        let install = said.unwrap_or_else(|| Install::unsaid(environment, connector.slug.clone(), self.clock.now()));
        Installed { connector: Arc::clone(connector), install, is_said }
    }

    /// By its id in the environment, or by the connector's own, which Truto's SDKs send where they uninstall.
    fn find(&self, environment: EnvironmentId, id: &str) -> Result<Arc<Connector>> {
        let catalog = self.catalog.load();
        let is_it = |connector: &&Arc<Connector>| {
            let ids = [environment_integration_id(environment, &connector.slug), connector.id];
            ids.iter().any(|own| own.to_string().eq_ignore_ascii_case(id))
        };
        catalog.all().find(is_it).cloned().ok_or_else(Error::not_found)
    }

    /// Installs a connector. One of which something is said already stays as it is.
    pub async fn install(&self, environment: EnvironmentId, new: NewInstall) -> Result<Installing> {
        let connector = self.resolve(environment, &new.integration)?;
        for _ in 0..TRIES {
            let known = self.records.get(environment, &connector.slug).await?;
            let version = known.as_ref().map(|(_, version)| *version);
            if let Some((install, _)) = known.filter(|(install, _)| install.uninstalled_at.is_none()) {
                let differs = new.wanted.asks_for_more(&install);
                return Ok(Installing::Known { installed: self.installed(environment, &connector, Some(install)), differs });
            }
            let mut install = Install::unsaid(environment, connector.slug.clone(), self.clock.now());
            self.lay_over(&connector, &mut install, &new.wanted)?;
            if self.stored(&install, version).await? {
                return Ok(Installing::Made(self.installed(environment, &connector, Some(install))));
            }
        }
        Err(busy())
    }

    /// Changes what holds of a connector, key by key: of two changes at once none is lost.
    pub async fn change(&self, environment: EnvironmentId, id: &str, change: ChangeInstall) -> Result<Installed> {
        let connector = self.find(environment, id)?;
        for _ in 0..TRIES {
            let known = self.records.get(environment, &connector.slug).await?;
            let version = known.as_ref().map(|(_, version)| *version);
            let mut now = self.installed(environment, &connector, known.map(|(install, _)| install));
            if now.install.uninstalled_at.is_some() {
                return Err(Error::not_found());
            }
            self.lay_over(&connector, &mut now.install, &change)?;
            if self.stored(&now.install, version).await? {
                return Ok(Installed { is_said: true, ..now });
            }
        }
        Err(busy())
    }

    /// Takes a connector away: nothing can be linked or called, and what was laid over it is gone, secrets included. Answers what
    /// held of it before.
    pub(super) async fn take_away(&self, environment: EnvironmentId, connector: &Arc<Connector>) -> Result<Install> {
        let end = |install: &mut Install| {
            (install.oauth_app, install.maps) = (None, serde_json::Map::new());
            (install.is_enabled, install.uninstalled_at) = (false, Some(self.clock.now()));
        };
        self.alter(environment, connector, end).await
    }

    /// Nothing can be linked or called from now on; what is laid over it stays.
    pub(super) async fn switch_off(&self, environment: EnvironmentId, connector: &Arc<Connector>) -> Result<()> {
        self.alter(environment, connector, |install| install.is_enabled = false).await.map(drop)
    }

    async fn alter(&self, environment: EnvironmentId, connector: &Arc<Connector>, how: impl Fn(&mut Install)) -> Result<Install> {
        for _ in 0..TRIES {
            let known = self.records.get(environment, &connector.slug).await?;
            let version = known.as_ref().map(|(_, version)| *version);
            let before = self.installed(environment, connector, known.map(|(install, _)| install)).install;
            let mut install = before.clone();
            how(&mut install);
            install.updated_at = self.clock.now();
            if self.stored(&install, version).await? {
                return Ok(before);
            }
        }
        Err(busy())
    }

    /// Puts back what held of a connector that was taken away a moment ago, unless somebody has installed it anew.
    pub(super) async fn give_again(&self, before: Install) -> Result<()> {
        for _ in 0..TRIES {
            let Some((install, version)) = self.records.get(before.environment, &before.connector).await? else { return Ok(()) };
            if install.uninstalled_at.is_none() || self.stored(&before, Some(version)).await? {
                return Ok(());
            }
        }
        Err(busy())
    }

    /// Whether a connector was taken away from the environment.
    pub(super) async fn is_taken_away(&self, environment: EnvironmentId, connector: &Slug) -> Result<bool> {
        Ok(self.records.get(environment, connector).await?.is_some_and(|(install, _)| install.uninstalled_at.is_some()))
    }

    /// Forgets all that an environment said, for its end.
    pub(super) async fn clear(&self, environment: EnvironmentId) -> Result<()> {
        Ok(self.records.clear(environment).await?)
    }

    /// False when somebody was faster.
    async fn stored(&self, install: &Install, version: Option<u64>) -> Result<bool> {
        match self.records.put(install, version).await {
            Ok(_) => Ok(true),
            Err(StoreError::Conflict(_)) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn lay_over(&self, connector: &Connector, install: &mut Install, change: &ChangeInstall) -> Result<()> {
        install.is_enabled = change.is_enabled.unwrap_or(install.is_enabled);
        install.show_in_catalog = change.show_in_catalog.unwrap_or(install.show_in_catalog);
        install.updated_at = self.clock.now();
        let Some(overrides) = &change.overrides else { return Ok(()) };
        let slots = members(overrides, "override", SLOTS)?;
        if let Some(credentials) = slots.get("credentials") {
            let seal = AppSeal { keys: &self.keys, environment: install.environment, connector: &connector.slug };
            install.oauth_app = seal.changed(install.oauth_app.take(), credentials)?;
        }
        if let Some(resources) = slots.get("resources") {
            let path = "override.resources";
            install.maps = changed_maps(&install.maps, resources, path)?;
            check_maps(&install.maps, path, |maps| connector.check_maps(maps))?;
        }
        Ok(())
    }

    /// Whether accounts of a connector can be called.
    pub async fn is_enabled(&self, environment: EnvironmentId, connector: &Slug) -> Result<bool> {
        Ok(self.records.get(environment, connector).await?.is_none_or(|(install, _)| install.is_in_use()))
    }

    /// A connector with the rules of the environment laid over it, whether it is enabled or not.
    pub async fn connector(&self, environment: EnvironmentId, connector: &Slug) -> Result<Arc<Connector>> {
        Ok(self.as_said(environment, connector).await?.0)
    }

    /// The same for calls: refused when it is not enabled. What another node has changed holds at once.
    pub(super) async fn connector_in_use(&self, environment: EnvironmentId, connector: &Slug) -> Result<Arc<Connector>> {
        match self.as_said(environment, connector).await? {
            (connector, true) => Ok(connector),
            (connector, false) => Err(disabled(&connector)),
        }
    }

    async fn as_said(&self, environment: EnvironmentId, slug: &Slug) -> Result<(Arc<Connector>, bool)> {
        let base = self.catalog.load().get(slug.as_str()).cloned().ok_or_else(|| missing_connector(slug))?;
        let Some((install, version)) = self.records.get(environment, slug).await? else { return Ok((base, true)) };
        let is_in_use = install.is_in_use();
        if install.maps.is_empty() {
            return Ok((base, is_in_use));
        }
        let key = (environment, slug.clone());
        let is_current = |laid: &Laid| laid.version == version && Arc::ptr_eq(&laid.base, &base);
        if let Some(laid) = self.laid.get(&key).await.filter(is_current) {
            return Ok((laid.connector, is_in_use));
        }
        let (maps, mut problems) = Maps::read(&install.maps);
        let (connector, unfit) = base.with_maps(&maps);
        problems.extend(unfit);
        for problem in &problems {
            tracing::error!(%environment, connector = %slug, "a rule laid over a map does not fit; its resource is not offered: {problem}");
        }
        let connector = Arc::new(connector);
        self.laid.insert(key, Laid { version, base, connector: Arc::clone(&connector) }).await;
        Ok((connector, is_in_use))
    }

    /// The client that links to this connector and their tokens are got with: the environment's own, else the operator's.
    pub async fn oauth_app(&self, environment: EnvironmentId, connector: &Slug) -> Result<Option<OAuthApp>> {
        let own = self.records.get(environment, connector).await?.and_then(|(install, _)| install.oauth_app);
        match own {
            Some(sealed) => AppSeal { keys: &self.keys, environment, connector }.open(sealed).map(Some),
            None => Ok(self.apps.load().app(connector)),
        }
    }

    /// The app of this id, be it the environment's own or the operator's: what was agreed to for one of them is worth nothing
    /// with the other.
    pub async fn oauth_app_called(
        &self,
        environment: EnvironmentId,
        connector: &Slug,
        client_id: &str,
    ) -> Result<Option<OAuthApp>> {
        let own = self.records.get(environment, connector).await?.and_then(|(install, _)| install.oauth_app);
        match own.filter(|own| own.client_id == client_id) {
            Some(sealed) => AppSeal { keys: &self.keys, environment, connector }.open(sealed).map(Some),
            None => Ok(self.apps.load().app(connector).filter(|app| app.client_id == client_id)),
        }
    }
}

impl ChangeInstall {
    /// Whether it names what is not so. An override always counts: a secret in it is not compared.
    fn asks_for_more(&self, install: &Install) -> bool {
        self.is_enabled.is_some_and(|wanted| wanted != install.is_enabled)
            || self.show_in_catalog.is_some_and(|wanted| wanted != install.show_in_catalog)
            || self.overrides.as_ref().is_some_and(|wanted| wanted.as_object().is_none_or(|slots| !slots.is_empty()))
    }
}

pub(super) fn disabled(connector: &Connector) -> Error {
    let detail = format!("{} is switched off in this environment.", connector.file.title);
    Error::new(Code::IntegrationDisabled, detail).field("integration")
}

/// The error for an account whose connector or link method this node does not have.
pub(super) fn missing_connector(slug: &Slug) -> Error {
    Error::new(Code::ResourceNotSupported, format!("The connector `{slug}` of this account is not installed on this node."))
}

fn busy() -> Error {
    Error::new(Code::Busy, "This connector is being changed all the time; nothing was written. Send the request again.")
}
