//! Wiring: from settings to a running gateway, and to its end.

use std::{path::PathBuf, sync::Arc};

use arc_swap::ArcSwap;

use crate::{
    config::{Settings, StoreSetting},
    connector::{Catalog, Problem},
    model::{Clock, EnvironmentId, Scope, Scopes, Secret, Tasks},
    service::{Accounts, Administrator, Directory, NewToken, Opened, Passthrough, Services, Snapshots, Tokens},
    store::{
        Store, StoreError,
        embedded::Embedded,
        redis::{Redis, RedisUrl},
        repo,
    },
    upstream::{Allow, Guard, Upstream},
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
    #[error("the built-in connectors do not load: {}", .0.first().map(|p| format!("{}:{}: {}", p.file, p.line, p.message)).unwrap_or_default())]
    Connectors(Vec<Problem>),
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
}

impl Core {
    /// Opens store, keys and connectors. `run_token` is an administrator for this run only; `egress` is added to what the
    /// operator allows.
    pub async fn open(
        settings: &Settings,
        clock: Arc<dyn Clock>,
        run_token: Option<&Secret>,
        egress: &[String],
    ) -> Result<Core, StartError> {
        let guard = Arc::new(Guard::new(allow(settings, egress)?));
        let catalog =
            Arc::new(ArcSwap::from_pointee(Catalog::load(settings.connectors_dir.as_deref()).map_err(StartError::Connectors)?));
        // The ring is judged before the store is touched wherever it must exist already.
        let kept_ring = load_ring(settings)?;
        let store = open_store(settings, clock.clone()).await?;
        let warnings = store.health().await?.warnings;
        let installation = repo::Installation::new(store.clone());
        let (ring, stamp, made_ring) = match kept_ring {
            Some((ring, stamp)) => (ring, stamp, false),
            None => make_ring(settings, &installation, clock.as_ref()).await?,
        };
        let keys = Arc::new(system_keys(&installation, &ring).await?);
        let environment = installation.default_environment(clock.now()).await?.id;
        let ring = Arc::new(ArcSwap::from_pointee(ring));
        let tasks = Tasks::default();
        let administrators = [settings.admin_token.as_ref(), run_token].into_iter().flatten();
        let administrators: Vec<_> = administrators.map(|text| Administrator::new(&keys, text, environment)).collect();
        let tokens = Tokens::new(repo::Tokens::new(store.clone()), keys.clone(), clock.clone(), administrators);
        let services =
            services(store, catalog, Arc::new(Vault::new(ring.clone())), guard.clone(), keys, clock, tasks.clone(), tokens);
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
        })
    }

    /// A token for an embedded installation that nobody could administer otherwise; to be shown once.
    pub async fn first_token(&self, settings: &Settings) -> Result<Option<TokenText>, StartError> {
        let other = |error: crate::error::Error| StartError::Other(error.to_string());
        let embedded = matches!(settings.store, StoreSetting::Embedded(_));
        let tokens = &self.services.tokens;
        if !embedded
            || settings.admin_token.is_some()
            || !tokens.list(self.environment, 1, None).await.map_err(other)?.0.is_empty()
        {
            return Ok(None);
        }
        let new = NewToken { name: "first administrator".to_owned(), scopes: Scopes([Scope::Admin].into()), expires_at: None };
        Ok(Some(tokens.create(self.environment, new).await.map_err(other)?.1))
    }

    /// Reads the key ring again when its file has changed; a file that cannot be used keeps the ring and is the error.
    pub fn refresh_ring(&mut self) -> Result<(), RingError> {
        if let Some(ring) = KeyRing::reload_if_changed(&self.keys_file, &mut self.stamp)? {
            self.ring.store(Arc::new(ring));
        }
        Ok(())
    }
}

#[expect(clippy::too_many_arguments, reason = "this is where everything meets")]
fn services(
    store: Arc<dyn Store>,
    catalog: Arc<ArcSwap<Catalog>>,
    vault: Arc<Vault>,
    guard: Arc<Guard>,
    keys: Arc<SystemKeys>,
    clock: Arc<dyn Clock>,
    tasks: Tasks,
    tokens: Tokens,
) -> Services {
    let upstream = Arc::new(Upstream::new(guard.clone(), store.clone()));
    let records = repo::Accounts::new(store.clone());
    let accounts = Arc::new(Accounts::new(
        records,
        catalog.clone(),
        vault,
        upstream.clone(),
        guard,
        clock.clone(),
        Opened::new(tasks.clone()),
    ));
    let snapshots = Snapshots::new(repo::Snapshots::new(store.clone()));
    let blobs = repo::Blobs::new(store.clone());
    let directory = Directory::new(accounts.clone(), upstream.clone(), snapshots, blobs, keys, clock);
    let passthrough = Passthrough { accounts: accounts.clone(), upstream, tasks };
    Services { tokens, accounts, directory, passthrough, catalog, store }
}

fn allow(settings: &Settings, extra: &[String]) -> Result<Allow, StartError> {
    let mut allow = settings.egress_allow.clone();
    allow.extend(Allow::parse(&extra.join(",")).map_err(StartError::Other)?);
    Ok(allow)
}

async fn open_store(settings: &Settings, clock: Arc<dyn Clock>) -> Result<Arc<dyn Store>, StartError> {
    match &settings.store {
        StoreSetting::Embedded(folder) => {
            std::fs::create_dir_all(folder)
                .map_err(|why| StartError::Other(format!("the folder {} cannot be made: {why}", folder.display())))?;
            Ok(Arc::new(Embedded::open(folder, clock)?))
        }
        StoreSetting::Redis(address) => {
            let url = RedisUrl::parse(address.expose()).map_err(StartError::Other)?;
            Ok(Arc::new(Redis::connect(&url, settings.redis_ca_file.as_deref()).await?))
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

async fn system_keys(installation: &repo::Installation, ring: &KeyRing) -> Result<SystemKeys, StartError> {
    if let Some(stored) = installation.system_keys().await? {
        return Ok(SystemKeys::open(ring, &stored.value)?);
    }
    let (keys, sealed) = SystemKeys::generate(ring);
    match installation.put_system_keys(&sealed).await {
        Ok(()) => Ok(keys),
        // Another node was first; what it stored counts.
        Err(StoreError::Conflict(_)) => match installation.system_keys().await? {
            Some(stored) => Ok(SystemKeys::open(ring, &stored.value)?),
            None => Err(StartError::Other("the system keys vanished from the store".to_owned())),
        },
        Err(error) => Err(error.into()),
    }
}
