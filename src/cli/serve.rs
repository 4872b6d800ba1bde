//! `rollcall serve`: start, watch keys and signals, end.

use std::{
    io::{IsTerminal, Write},
    net::TcpListener,
    os::unix::fs::OpenOptionsExt,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use actix_web::dev::{Server, ServerHandle};
use tracing_subscriber::{EnvFilter, fmt::format::JsonFields, layer::SubscriberExt, util::SubscriberInitExt};

use super::{
    Failure,
    log_line::JsonLine,
    log_out::LogOut,
    serve_file::{ServeFile, own_url},
    signals::Signals,
};
use crate::{
    app::{Core, StartError},
    config::{LogFormat, Settings, StoreSetting},
    http::{Readiness, State, flow::Flows, server, tls::Identity},
    jobs::Jobs,
    model::{Secret, SystemClock},
    store::StoreError,
    vault::{TokenText, harden_process, random_text},
};

/// How often the key ring's file and the connectors' overlay are looked at.
const WATCH: Duration = Duration::from_millis(500);
/// How long after SIGTERM requests may go on; background tasks have 3 s more.
const SHUTDOWN: Duration = Duration::from_secs(26);
/// How long of that new requests are still taken, as long as any come: load balancers must see `/readyz` first.
const GRACE: Duration = Duration::from_secs(5);
/// How long another process may have the store open before that is a failure: a command that works on it alone is soon done.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two looks at a store that is in use.
const LOOK: Duration = Duration::from_millis(200);

/// A gateway that answers.
pub struct Running {
    /// What was opened.
    pub core: Core,
    readiness: Arc<Readiness>,
    flows: Arc<Flows>,
    identity: Option<Arc<Identity>>,
    jobs: Option<Jobs>,
    handle: ServerHandle,
    server: actix_web::rt::task::JoinHandle<std::io::Result<()>>,
}

impl Running {
    /// Opens everything and answers on the listener, over TLS when there is an identity to show.
    pub async fn start(
        settings: &Settings,
        listener: TcpListener,
        identity: Option<Arc<Identity>>,
        run_token: Option<&Secret>,
        egress: &[String],
        workers: usize,
    ) -> Result<Running, StartError> {
        // Whatever is opened makes its metrics at once: the recorder comes first.
        let metrics = server::metrics_recorder();
        let core = Core::open(settings, Arc::new(SystemClock), run_token, egress).await?;
        core.note_ring().await;
        let address = own_url(settings, reachable(listener.local_addr().map_err(listening)?));
        core.services.authorizations.reached_at(&address);
        let readiness = Arc::new(Readiness::default());
        let flows = Arc::new(Flows::bounded(settings.max_in_flight, workers));
        let address = listener.local_addr().map_err(listening)?;
        let public_origin: Option<Arc<str>> = settings.public_url.as_ref().map(|url| url.origin().ascii_serialization().into());
        let state = State {
            services: core.services.clone(),
            guard: core.guard.clone(),
            own_origin: public_origin.clone().unwrap_or_else(|| own_url(settings, reachable(address)).into()),
            public_origin,
            public_host: settings.public_host(),
            metrics,
            metrics_open: address.ip().is_loopback(),
            readiness: readiness.clone(),
            flows: flows.clone(),
        };
        let server: Server = server::serve(listener, identity.as_ref(), Arc::new(state), workers).map_err(listening)?;
        let handle = server.handle();
        core.services.log.start(&core.tasks);
        Ok(Running { core, readiness, flows, identity, jobs: None, handle, server: actix_web::rt::spawn(server) })
    }

    /// From now on the work that needs no caller is done, too. A command that opened the gateway for itself leaves it.
    pub fn start_jobs(&mut self) {
        self.jobs = Some(Jobs::start(&self.core.services, &self.core.tasks));
    }

    /// Keeps serving until a signal, looking at the key ring and the connectors meanwhile.
    pub async fn serve_until_signal(&mut self, signals: &mut Signals) -> Result<(), Failure> {
        loop {
            tokio::select! {
                () = signals.one() => return Ok(()),
                ended = &mut self.server => {
                    let why = ended.map_or_else(|why| why.to_string(), |result| format!("{result:?}"));
                    return Err(Failure::Failed(format!("the server ended by itself: {why}")));
                }
                () = tokio::time::sleep(WATCH) => {
                    self.watch_ring();
                    self.core.note_ring_changes();
                    self.watch_identity();
                    self.watch_oauth_apps();
                    self.watch_connectors().await;
                    self.core.services.accounts.upkeep().await;
                    self.flows.show();
                    // Samples pile up until somebody folds them into their buckets.
                    if let Some(metrics) = server::metrics_recorder() {
                        metrics.run_upkeep();
                    }
                }
            }
        }
    }

    fn watch_ring(&mut self) {
        let problem = self.core.refresh_ring().err().map(|why| why.to_string());
        if problem.as_deref() != self.readiness.keys_problem().as_deref().map(String::as_str) {
            if let Some(why) = &problem {
                tracing::error!(%why, "the key ring cannot be used; the one in memory stays");
            }
            self.readiness.set_keys(problem);
        }
    }

    fn watch_identity(&self) {
        match self.identity.as_ref().map(|identity| identity.refresh()) {
            Some(Ok(true)) => tracing::info!("a new certificate is shown to callers"),
            Some(Err(why)) => tracing::error!(%why, "the new certificate cannot be used; the one in memory is still shown"),
            _ => {}
        }
    }

    fn watch_oauth_apps(&mut self) {
        match self.core.refresh_oauth_apps() {
            Ok(true) => tracing::info!("a change of the OAuth apps was taken up"),
            Ok(false) => {}
            Err(why) => tracing::error!(%why, "the change of the OAuth apps cannot be used; those in memory stay"),
        }
    }

    async fn watch_connectors(&self) {
        if let Some(taken_up) = self.core.refresh_connectors().await {
            self.readiness.set_connectors(taken_up.err());
        }
    }

    /// Drains and ends: first `/readyz` says so while requests are still answered, each ending its connection; then no new
    /// connections, and what is under way is finished, background tasks too.
    pub async fn stop(self) -> Result<(), Failure> {
        let end = Instant::now() + SHUTDOWN;
        self.readiness.drain();
        self.jobs.iter().for_each(Jobs::stop);
        self.flows.drain();
        self.flows.quiet(GRACE).await;
        let left = end.saturating_duration_since(Instant::now());
        let stopped = tokio::time::timeout(left, self.handle.stop(true)).await;
        self.core.services.log.close().await;
        let (tasks, accounts) = (&self.core.tasks, &self.core.services.accounts);
        let (finished, ()) = tokio::join!(tasks.wait(Duration::from_secs(3)), accounts.keep_all_counts());
        match (stopped, finished) {
            (Ok(()), true) => Ok(()),
            _ => Err(Failure::Failed("some work was still running and was cut off".to_owned())),
        }
    }
}

fn listening(why: std::io::Error) -> StartError {
    StartError::Other(format!("cannot listen: {why}"))
}

/// Waits while another process has the store open.
pub struct Patience {
    until: Instant,
    said: bool,
}

impl Patience {
    /// The waiting begins now.
    pub fn begin() -> Patience {
        Patience { until: Instant::now() + PATIENCE, said: false }
    }

    /// After a moment gives back what can be tried again; a failure that will not pass is one at once.
    pub async fn or_fail(&mut self, why: StartError) -> Result<(), Failure> {
        if !matches!(why, StartError::Store(StoreError::InUse(_))) || Instant::now() > self.until {
            return Err(why.into());
        }
        if !std::mem::replace(&mut self.said, true) {
            tracing::info!("another process has the store open; waiting for it");
        }
        tokio::time::sleep(LOOK).await;
        Ok(())
    }
}

/// Runs the gateway.
pub async fn serve(settings: Settings) -> Result<(), Failure> {
    let mut signals = Signals::watch()?;
    start_logs(&settings)?;
    if let Err(why) = harden_process() {
        tracing::warn!(%why, "core dumps could not be switched off");
    }
    for warning in &settings.warnings {
        tracing::warn!("{warning}");
    }
    let identity = settings.tls.as_ref().map(|files| Identity::load(&files.certificate, &files.key)).transpose();
    let identity = identity.map_err(|why| Failure::Failed(format!("TLS cannot be offered: {why}")))?;
    let listener = TcpListener::bind(settings.listen).map_err(|why| {
        let listen = settings.listen;
        Failure::Failed(format!("cannot listen on {listen}: {why}; `--listen` or `ROLLCALL_LISTEN` names another address"))
    })?;
    let address = listener.local_addr()?;
    if let Some(warning) = exposed(&settings, address) {
        tracing::warn!("{warning}");
    }
    let run_token = random_text();
    let mut running = tokio::select! {
        started = start_patiently(&settings, &listener, identity, &run_token) => started?,
        () = signals.one() => return Ok(()),
    };
    announce(&settings, &running.core).await?;
    running.start_jobs();
    let serve_file = ServeFile::path(&settings);
    if let Some(path) = &serve_file {
        let file = ServeFile::of(&settings, reachable(address), &run_token)?;
        write_private(path, &serde_json::to_string(&file)?)?;
    }
    tracing::info!(%address, store = %settings.store, "ready");
    let ended = running.serve_until_signal(&mut signals).await;
    tracing::info!("stopping");
    let stopped = running.stop().await;
    if let Some(path) = &serve_file {
        let _ = std::fs::remove_file(path);
    }
    ended.and(stopped)
}

/// What is odd about an address that others reach.
fn exposed(settings: &Settings, address: std::net::SocketAddr) -> Option<String> {
    let is_plain = settings.tls.is_none() && settings.public_url.is_none();
    (is_plain && !address.ip().is_loopback()).then(|| {
        format!(
            "{address} is reached from other machines by plain http, with tokens in the clear, and any `Host` is accepted: set \
             `ROLLCALL_PUBLIC_URL` where something before it offers https, or `ROLLCALL_TLS_CERT_FILE`; `rollcall doctor` says more"
        )
    })
}

async fn start_patiently(
    settings: &Settings,
    listener: &TcpListener,
    identity: Option<Arc<Identity>>,
    run_token: &Secret,
) -> Result<Running, Failure> {
    let (mut patience, workers) = (Patience::begin(), workers());
    loop {
        match Running::start(settings, listener.try_clone()?, identity.clone(), Some(run_token), &[], workers).await {
            Ok(running) => return Ok(running),
            Err(why) => patience.or_fail(why).await?,
        }
    }
}

/// One worker for each core this process may use.
pub fn workers() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// What is said once on the console.
async fn announce(settings: &Settings, core: &Core) -> Result<(), Failure> {
    announce_ring(core);
    for warning in &core.warnings {
        tracing::warn!("{warning}");
    }
    match core.first_token(settings).await? {
        Some(token) => show_first_token(settings, &token),
        None => Ok(()),
    }
}

/// Says that a key ring was made, whichever command made it: it is said at no other time.
pub fn announce_ring(core: &Core) {
    if core.made_ring {
        let file = core.keys_file.display();
        eprintln!(
            "A new key ring was made: {file}. Without it the stored credentials cannot be read: back it up, apart from the store."
        );
    }
}

fn show_first_token(settings: &Settings, token: &TokenText) -> Result<(), Failure> {
    if std::io::stderr().is_terminal() {
        eprintln!("Administrator token, shown once: {}", token.expose());
        return Ok(());
    }
    let StoreSetting::Embedded(folder) = &settings.store else { return Ok(()) };
    let path = folder.join("admin-token");
    write_private(&path, token.expose())?;
    eprintln!("The administrator token was written to {}.", path.display());
    Ok(())
}

/// A file only this user can read; replaced as a whole.
pub fn write_private(path: &Path, text: &str) -> Result<(), Failure> {
    let new = path.with_extension("new");
    let _ = std::fs::remove_file(&new);
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    writeln!(file, "{text}")?;
    file.sync_all()?;
    std::fs::rename(&new, path)?;
    Ok(())
}

/// Where this machine reaches an address it listens on.
pub fn reachable(mut address: std::net::SocketAddr) -> std::net::SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(if address.is_ipv4() {
            std::net::Ipv4Addr::LOCALHOST.into()
        } else {
            std::net::Ipv6Addr::LOCALHOST.into()
        });
    }
    address
}

/// Logs go to the standard error, so that data on the standard output stays clean.
pub fn start_logs(settings: &Settings) -> Result<(), Failure> {
    let filter = EnvFilter::try_new(&settings.log).map_err(|why| Failure::Usage(format!("log: {why}")))?;
    let registry = tracing_subscriber::registry().with(filter);
    let layer = tracing_subscriber::fmt::layer().with_writer(LogOut::start()?);
    let layer = if std::io::stderr().is_terminal() { layer } else { layer.with_ansi(false) };
    let started = match settings.log_format {
        LogFormat::Json => registry.with(layer.event_format(JsonLine).fmt_fields(JsonFields::new())).try_init(),
        LogFormat::Text => registry.with(layer).try_init(),
    };
    started.map_err(|why| Failure::Failed(why.to_string()))
}
