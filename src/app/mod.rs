//! Wiring: from settings to a running gateway, and to its end.

mod services;

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwap;
use metrics::Unit;

use self::services::Tools;
use crate::{
    config::{Settings, StoreSetting},
    connector::{Catalog, Overlay, Problem},
    error::Code,
    model::{Clock, EnvironmentId, Scope, Scopes, Secret, Slug, Tasks},
    service::{Act, Administrator, ListTokens, NewToken, OAuthApps, OAuthAppsError, RingChange, Services},
    store::{
        Store, StoreError,
        embedded::Embedded,
        metered::Metered,
        redis::{Redis, RedisUrl},
        repo,
    },
    upstream::{Allow, Guard},
    vault::{FileStamp, KeyRing, RingError, SystemKeys, SystemKeysError, TokenText, Vault},
};

/// Why the gateway does not start. The text is for the operator and holds no secret.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store.
    #[error("the store cannot be used: {0}")]
    Store(#[from] StoreError),
    /// The key ring file.
    #[error("the key ring cannot be used: {0}")]
    Ring(#[from] RingError),
    /// The key ring and the store do not belong together.
    #[error("{0}")]
    Keys(#[from] SystemKeysError),
    /// The built-in connectors.
    #[error("the built-in connectors do not load: {}", .0.first().map(ToString::to_string).unwrap_or_default())]
    Connectors(Vec<Problem>),
    /// The operator's OAuth apps.
    #[error("{0}")]
    Apps(#[from] OAuthAppsError),
    /// Anything else, in a sentence.
    #[error("{0}")]
    Other(String),
}

/// Everything below the ways in, opened.
pub struct Core {
    /// What the ways in call.
    pub services: Arc<Services>,
    /// Every outgoing socket passes it.
    pub guard: Arc<Guard>,
    /// Tasks that shutdown waits for.
    pub tasks: Tasks,
    /// The environment of the first start.
    pub environment: EnvironmentId,
    /// The key ring, replaced when its file changes.
    pub ring: Arc<ArcSwap<KeyRing>>,
    /// Where the ring was read from.
    pub keys_file: PathBuf,
    /// A new key ring was made at this start.
    pub made_ring: bool,
    /// What the file was when it was read.
    pub stamp: FileStamp,
    /// What the operator should mend.
    pub warnings: Vec<String>,
    overlay: Option<Arc<Mutex<Overlay>>>,
    apps: Apps,
    /// Changes of the ring that do not stand in the audit log yet.
    unnoted: Arc<Mutex<Vec<RingChange>>>,
}

/// The operator's OAuth apps, replaced when their file changes.
struct Apps {
    file: Option<PathBuf>,
    stamp: FileStamp,
    current: Arc<ArcSwap<OAuthApps>>,
}

impl Core {
    /// Opens store, keys and connectors. `run_token` is an administrator for this run only; `own` are stand-ins for
    /// vendors that this process serves, called beside what the operator allows.
    pub async fn open(
        settings: &Settings,
        clock: Arc<dyn Clock>,
        run_token: Option<&Secret>,
        own: &[String],
    ) -> Result<Core, StartError> {
        let guard = Arc::new(guard(settings, own)?);
        let overlay = settings.connectors_dir.as_deref().map(|dir| Arc::new(Mutex::new(Overlay::watch(dir))));
        let catalog = Catalog::load(settings.connectors_dir.as_deref()).map_err(StartError::Connectors)?;
        begin_with(&catalog);
        let apps = Apps::load(settings.oauth_apps_file.clone(), &catalog)?;
        let catalog = Arc::new(ArcSwap::from_pointee(catalog));
        // The ring is judged before the store is touched wherever it must exist already.
        let kept_ring = load_ring(settings)?;
        let store = open_store(settings, clock.clone()).await?;
        let mut warnings = store.health().await?.warnings;
        warnings.extend(apps.unused(&catalog.load()));
        let installation = repo::Installation::new(store.clone());
        installation.check().await?;
        let (ring, stamp, made_ring) = match kept_ring {
            Some((ring, stamp)) => (ring, stamp, false),
            None => make_ring(settings, &installation, clock.as_ref()).await?,
        };
        let keys = Arc::new(system_keys(&installation, &ring).await?);
        installation.note_format().await?;
        let environment = installation.default_environment(clock.now()).await?.id;
        let ring = Arc::new(ArcSwap::from_pointee(ring));
        let tasks = Tasks::default();
        let administrators = [settings.admin_token.as_ref(), run_token].into_iter().flatten();
        let administrators = administrators.map(|text| Administrator::new(&keys, text, environment)).collect();
        let vault = Arc::new(Vault::new(ring.clone()));
        let tools = Tools { store, catalog, vault, guard: guard.clone(), keys, clock, tasks: tasks.clone(), environment };
        let services = tools.services(settings, administrators, apps.current.clone());
        Ok(Core {
            services: Arc::new(services),
            guard,
            tasks,
            environment,
            ring,
            keys_file: settings.keys_file.clone(),
            made_ring,
            stamp,
            warnings,
            overlay,
            apps,
            unnoted: Arc::default(),
        })
    }

    /// A token for an embedded installation that nobody could administer otherwise; to be shown once.
    pub async fn first_token(&self, settings: &Settings) -> Result<Option<TokenText>, StartError> {
        let other = |error: crate::error::Error| StartError::Other(error.to_string());
        let embedded = matches!(settings.store, StoreSetting::Embedded(_));
        let tokens = &self.services.tokens;
        let any = ListTokens { limit: 1, ..ListTokens::default() };
        if !embedded || settings.admin_token.is_some() {
            return Ok(None);
        }
        let known = tokens.readable(self.environment, any).await.map_err(other)?.0;
        if known.records.len() + known.unreadable > 0 {
            return Ok(None);
        }
        let new = NewToken { name: "first administrator".to_owned(), scopes: Scopes([Scope::Admin].into()), expires_at: None };
        let act = Act { target_kind: Some("api_token".to_owned()), ..Act::of_gateway(self.environment, "api_token.create") };
        let made = async { Ok(tokens.create(self.environment, new).await?.1) };
        Ok(Some(self.services.audit.around(act, true, made).await.map_err(other)?))
    }

    /// Reads the key ring again when its file has changed; a file that cannot be used keeps the ring and is the error.
    pub fn refresh_ring(&mut self) -> Result<(), RingError> {
        if let Some(ring) = KeyRing::reload_if_changed(&self.keys_file, &mut self.stamp)? {
            held(&self.unnoted).extend(RingChange::of_rings(&self.ring.load(), &ring));
            self.ring.store(Arc::new(ring));
        }
        Ok(())
    }

    /// Notes in the audit log what became of the ring while no node ran; where that cannot be done, the next start does it.
    pub async fn note_ring(&self) {
        for _ in 0..TRIES {
            match self.services.keys.note_ring(&self.services.audit).await {
                Err(error) if error.code() == Code::Busy => tokio::time::sleep(BREATH).await,
                Err(error) => return tracing::warn!(%error, "{UNNOTED}"),
                Ok(()) => return,
            }
        }
    }

    /// Notes in the audit log, beside all else, what of the ring was taken up; what cannot be noted now is noted later.
    pub fn note_ring_changes(&self) {
        let changes = std::mem::take(&mut *held(&self.unnoted));
        if changes.is_empty() {
            return;
        }
        let (services, tasks, unnoted) = (self.services.clone(), self.tasks.clone(), self.unnoted.clone());
        self.tasks.spawn(async move {
            let Err(error) = services.keys.note_changes(&services.audit, &changes).await else { return };
            let pause = if error.code() == Code::Busy { BREATH } else { PAUSE };
            if error.code() != Code::Busy {
                tracing::warn!(%error, "{UNNOTED}; it is tried again");
            }
            tasks.spawn_later(pause, async move { drop(held(&unnoted).splice(0..0, changes)) });
        });
    }

    /// Reads the operator's OAuth apps again when their file has changed; one that cannot be used keeps those there are and is
    /// the error, once. Whether a change was taken up.
    pub fn refresh_oauth_apps(&mut self) -> Result<bool, OAuthAppsError> {
        self.apps.refresh(&self.services.catalog.load())
    }

    /// Takes up a change of the connectors' overlay. One with mistakes changes nothing and gives them, once; `None` when
    /// there is no change. Calls that have begun keep the connectors they began with.
    pub async fn refresh_connectors(&self) -> Option<Result<(), Vec<Problem>>> {
        let overlay = self.overlay.clone()?;
        let look = move || overlay.lock().unwrap_or_else(PoisonError::into_inner).look();
        let looked = tokio::task::spawn_blocking(look).await.ok().flatten()?;
        let mistakes = looked.as_ref().err().map_or(0, Vec::len);
        metrics::gauge!(MISTAKES).set(mistakes as f64);
        metrics::counter!(RELOADS, "outcome" => if mistakes == 0 { "applied" } else { "refused" }).increment(1);
        Some(looked.map(|catalog| self.take_up(catalog)).inspect_err(|problems| log(problems, "the running connectors stay")))
    }

    fn take_up(&self, catalog: Catalog) {
        let count = catalog.all().count();
        metrics::gauge!(CONNECTORS).set(count as f64);
        self.services.catalog.store(Arc::new(catalog));
        self.services.accounts.reopen();
        tracing::info!(connectors = count, "a change of the connectors was taken up");
    }
}

impl Apps {
    fn load(file: Option<PathBuf>, catalog: &Catalog) -> Result<Apps, OAuthAppsError> {
        let mut apps = Apps { file, stamp: FileStamp::default(), current: Arc::default() };
        apps.refresh(catalog).map(|_| apps)
    }

    /// Those that no way to link uses, in a sentence each.
    fn unused(&self, catalog: &Catalog) -> Vec<String> {
        let uses = |slug: &Slug| catalog.get(slug.as_str()).is_some_and(|connector| connector.uses_app());
        let current = self.current.load();
        let unused = current.connectors().filter(|slug| !uses(slug));
        unused
            .map(|slug| {
                format!("`{slug}` has no way to link that uses an OAuth app of yours; the one that is named has no effect")
            })
            .collect()
    }

    fn refresh(&mut self, catalog: &Catalog) -> Result<bool, OAuthAppsError> {
        let Some(file) = &self.file else { return Ok(false) };
        let known: Vec<&str> = catalog.all().map(|connector| connector.slug.as_str()).collect();
        let changed = OAuthApps::read_if_changed(file, &mut self.stamp, &known)?;
        let is_changed = changed.is_some();
        if let Some(apps) = changed {
            self.current.store(Arc::new(apps));
        }
        Ok(is_changed)
    }
}
/// Tries to store what another node may store at the same time.
const TRIES: usize = 10;
/// While another node is at it.
const BREATH: Duration = Duration::from_millis(300);
/// After a failure to note a change of the ring.
const PAUSE: Duration = Duration::from_secs(5);
const UNNOTED: &str = "a change of the key ring is not in the audit log yet";

/// Calls of the transparent proxy that one account may have in flight at the least.
const MIN_PASSING: usize = 64;

const CONNECTORS: &str = "rollcall_connectors";
const MISTAKES: &str = "rollcall_connector_mistakes";
const RELOADS: &str = "rollcall_connector_reloads_total";

fn held(changes: &Mutex<Vec<RingChange>>) -> MutexGuard<'_, Vec<RingChange>> {
    changes.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Says what is wrong with the overlay from the start, and shows operators every number of the connectors from then on.
fn begin_with(catalog: &Catalog) {
    metrics::describe_gauge!(CONNECTORS, Unit::Count, "Connectors that are loaded.");
    metrics::describe_gauge!(MISTAKES, Unit::Count, "Mistakes in the connectors' overlay as it was read last.");
    metrics::describe_counter!(RELOADS, Unit::Count, "Changes of the connectors' overlay, taken up or refused for mistakes.");
    metrics::gauge!(CONNECTORS).set(catalog.all().count() as f64);
    metrics::gauge!(MISTAKES).set(catalog.problems().len() as f64);
    for outcome in ["applied", "refused"] {
        metrics::counter!(RELOADS, "outcome" => outcome).increment(0);
    }
    log(catalog.problems(), "the folder is left out; a built-in connector of its name serves instead");
}

fn log(problems: &[Problem], effect: &str) {
    for problem in problems {
        tracing::error!(hint = problem.hint.as_deref(), effect, "mistake in the connectors' overlay: {problem}");
    }
}

fn guard(settings: &Settings, own: &[String]) -> Result<Guard, StartError> {
    let own = Allow::parse(&own.join(",")).map_err(StartError::Other)?;
    let mut allow = settings.egress_allow.clone();
    allow.extend(own.clone());
    let guard = Guard::new(allow).through(settings.egress_proxy.clone(), own);
    // One account must leave room for others.
    guard.pass_at_most((settings.max_in_flight / 8).max(MIN_PASSING).min(settings.max_in_flight));
    Ok(guard)
}

/// The store of the settings, made where it is embedded and missing.
pub async fn open_store(settings: &Settings, clock: Arc<dyn Clock>) -> Result<Arc<dyn Store>, StartError> {
    match &settings.store {
        StoreSetting::Embedded(folder) => Ok(Arc::new(Metered::new(Arc::new(Embedded::open(folder, clock)?), "embedded"))),
        StoreSetting::Redis(address) => {
            let url = RedisUrl::parse(address.expose()).map_err(StartError::Other)?;
            let redis = Redis::connect(&url, settings.redis_ca_file.as_deref()).await?.waiting_for(settings.redis_replicas);
            Ok(Arc::new(Metered::new(Arc::new(redis), "redis")))
        }
    }
}

/// The ring of an existing file; `None` when one may be made.
fn load_ring(settings: &Settings) -> Result<Option<(KeyRing, FileStamp)>, StartError> {
    let may_be_made = matches!(settings.store, StoreSetting::Embedded(_)) && !settings.keys_file.exists();
    if may_be_made {
        return Ok(None);
    }
    let mut stamp = FileStamp::default();
    match KeyRing::reload_if_changed(&settings.keys_file, &mut stamp)? {
        Some(ring) => Ok(Some((ring, stamp))),
        None => Ok(Some((KeyRing::load(&settings.keys_file)?, stamp))),
    }
}

/// A ring is only made for a store that was never used: anything else would lose what the old ring sealed.
async fn make_ring(
    settings: &Settings,
    installation: &repo::Installation,
    clock: &dyn Clock,
) -> Result<(KeyRing, FileStamp, bool), StartError> {
    let file = settings.keys_file.display();
    if !installation.is_empty().await? {
        return Err(RingError::Unusable(format!(
            "the store was made with a key ring, but {file} does not exist; put the ring back or name it in `ROLLCALL_KEYS_FILE`"
        ))
        .into());
    }
    KeyRing::create(&settings.keys_file, clock.now())?;
    let mut stamp = FileStamp::default();
    let ring = KeyRing::reload_if_changed(&settings.keys_file, &mut stamp)?;
    let ring = ring.ok_or_else(|| StartError::Other(format!("{file} vanished while it was made")))?;
    Ok((ring, stamp, true))
}

/// The keys of the installation; those that are missing are made and stored. Of nodes that start together one is first, and
/// what it stored counts.
async fn system_keys(installation: &repo::Installation, ring: &KeyRing) -> Result<SystemKeys, StartError> {
    for _ in 0..TRIES {
        let (keys, stored) = match installation.system_keys().await? {
            Some(stored) => {
                let mut keys = SystemKeys::open(ring, &stored.value)?;
                if !keys.complete() {
                    return Ok(keys);
                }
                let sealed = keys.seal(ring);
                (keys, installation.replace_system_keys(&sealed, stored.version).await.map(|_| ()))
            }
            None => {
                let (keys, sealed) = SystemKeys::generate(ring);
                (keys, installation.put_system_keys(&sealed).await)
            }
        };
        match stored {
            Err(StoreError::Conflict(_)) => {}
            stored => return Ok(stored.map(|()| keys)?),
        }
    }
    Err(StartError::Other("the system keys in the store change all the time".to_owned()))
}
