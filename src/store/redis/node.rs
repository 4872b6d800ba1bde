//! One server and the connections to it: made when needed, dropped at the first doubt, made again at the next call.
//!
//! Each worker has a connection of its own, because its work is done by the runtime that opened it: another's would cost a
//! change of thread for each command, and stand still whenever that runtime does.

use std::{
    sync::{Arc, Mutex as Plain, PoisonError},
    time::Duration,
};

use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ErrorKind, IntoConnectionInfo, RedisConnectionInfo, RedisError,
    ServerErrorKind, TlsCertificates, Value, aio::MultiplexedConnection,
};
use thread_local::ThreadLocal;
use tokio::{
    sync::Mutex,
    time::{Instant, timeout, timeout_at},
};

use super::url::{Address, RedisUrl};
use crate::store::StoreError;

/// Name, TCP, TLS and log-in of one connection together.
const CONNECT: Duration = Duration::from_millis(900);
/// A connection that was silent for longer is asked for a sign of life before a write, so that a dead one costs no write.
const SILENT: Duration = Duration::from_secs(1);
const SIGN_OF_LIFE: Duration = Duration::from_millis(500);
/// After a failed connection, calls fail at once for this long instead of each waiting for its own time-out.
const REST: Duration = Duration::from_millis(300);
/// How long a call that need not wait for another's attempt waits all the same.
const BREATH: Duration = Duration::from_millis(10);

/// What went wrong with one command.
pub(super) enum Failure {
    /// Another node has the slot; not executed here.
    Redirect { to: Address, asking: bool },
    /// The script is not cached there; not executed.
    NoScript,
    /// The server is not in a state to execute it; not executed.
    NotNow(String),
    /// No answer: executed or not.
    Lost(String),
    /// The server said no; not executed.
    Said(StoreError),
    /// There is no connection; not sent.
    Unsent(StoreError),
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Said(error) | Failure::Unsent(error) => error,
            Failure::NotNow(text) | Failure::Lost(text) => Self::Unavailable(text),
            Failure::Redirect { to, .. } => Self::Unavailable(format!("Redis says that {to} should be asked instead")),
            Failure::NoScript => Self::Unavailable("Redis does not know a script".into()),
        }
    }
}

#[derive(Clone)]
pub(super) struct Connection {
    pub id: u64,
    /// When it was there at the latest.
    pub since: Instant,
    /// When the server last answered on it.
    heard: Arc<Plain<Instant>>,
    inner: MultiplexedConnection,
}

type Place = Plain<Option<Connection>>;

/// Whose a connection is.
enum Places {
    /// The worker's that made it.
    Workers(Box<ThreadLocal<Place>>),
    /// Everybody's.
    Shared(Place),
}

impl Places {
    fn mine(&self) -> &Place {
        match self {
            Places::Workers(places) => places.get_or_default(),
            Places::Shared(place) => place,
        }
    }

    fn forget(&self, id: u64) {
        let forget = |place: &Place| drop(lock(place).take_if(|connection| connection.id == id));
        match self {
            // What a worker began may end on another thread.
            Places::Workers(places) => places.iter().for_each(forget),
            Places::Shared(place) => forget(place),
        }
    }
}

/// One server.
pub(super) struct Node {
    pub address: Address,
    places: Places,
    /// Held while a connection is made, so that all who wait share one attempt.
    dialling: Mutex<()>,
    failed: Plain<Option<(Instant, String)>>,
    /// When a command was last left without an answer.
    silent: Plain<Option<Instant>>,
    count: std::sync::atomic::AtomicU64,
}

/// How to dial any server of the installation.
pub(super) struct Dialer {
    pub tls: bool,
    pub roots: Option<Vec<u8>>,
    pub login: RedisConnectionInfo,
}

impl Dialer {
    pub fn new(url: &RedisUrl, roots: Option<Vec<u8>>) -> Self {
        let mut login = RedisConnectionInfo::default().set_db(url.database);
        if let Some(name) = &url.username {
            login = login.set_username(name);
        }
        if let Some(password) = &url.password {
            login = login.set_password(password.expose());
        }
        Self { tls: url.tls, roots, login }
    }

    /// Connects with other log-in data than the servers', for Sentinels.
    pub async fn dial(&self, address: &Address, login: RedisConnectionInfo) -> Result<MultiplexedConnection, RedisError> {
        let (host, port) = (address.host.clone(), address.port);
        let place = if self.tls {
            ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None }
        } else {
            ConnectionAddr::Tcp(host, port)
        };
        let info = place.into_connection_info()?.set_redis_settings(login);
        let client = if self.tls {
            Client::build_with_tls(info, TlsCertificates { client_tls: None, root_cert: self.roots.clone() })?
        } else {
            Client::open(info)?
        };
        // Answers are bounded by each call's own deadline.
        let config = AsyncConnectionConfig::new().set_connection_timeout(Some(CONNECT)).set_response_timeout(None);
        match timeout(CONNECT, client.get_multiplexed_async_connection_with_config(&config)).await {
            Ok(connected) => connected,
            Err(_) => Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()),
        }
    }
}

impl Node {
    /// With a connection for each worker.
    pub fn new(address: Address) -> Self {
        Self::with(address, Places::Workers(Box::default()))
    }

    /// With one connection for all.
    pub fn shared(address: Address) -> Self {
        Self::with(address, Places::Shared(Plain::default()))
    }

    fn with(address: Address, places: Places) -> Self {
        Self {
            address,
            places,
            dialling: Mutex::new(()),
            failed: Plain::new(None),
            silent: Plain::new(None),
            count: std::sync::atomic::AtomicU64::new(0),
        }
    }

    /// The connection, made now if there is none. `primary` demands that the server says it is one.
    pub async fn connect(&self, dialer: &Dialer, primary: bool, deadline: Instant) -> Result<Connection, StoreError> {
        let made = || lock(self.places.mine()).clone();
        if let Some(connection) = made() {
            return Ok(connection);
        }
        let late = |_| StoreError::Unavailable(format!("{} does not answer in time", self.address));
        let away = lock(&self.failed).clone();
        let _alone = match (self.dialling.try_lock(), away) {
            (Ok(alone), _) => alone,
            // Somebody finds out already. Callers who try again at once must leave him the processor.
            (Err(_), Some((_, text))) => {
                tokio::time::sleep(BREATH).await;
                return Err(StoreError::Unavailable(text));
            }
            (Err(_), None) => timeout_at(deadline, self.dialling.lock()).await.map_err(late)?,
        };
        if let Some(connection) = made() {
            return Ok(connection);
        }
        if let Some((when, text)) = lock(&self.failed).clone()
            && when.elapsed() < REST
        {
            return Err(StoreError::Unavailable(text));
        }
        let dialled = async {
            match dialer.dial(&self.address, dialer.login.clone()).await {
                Ok(connection) if primary => check_primary(connection).await,
                other => other,
            }
        };
        let dialled = timeout_at(deadline, dialled).await.map_err(late).inspect_err(|error| self.is_away(&error.to_string()));
        match dialled? {
            Ok(inner) => {
                *lock(&self.failed) = None;
                let id = self.count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                let now = Instant::now();
                let connection = Connection { id, since: now, heard: Arc::new(Plain::new(now)), inner };
                *lock(self.places.mine()) = Some(connection.clone());
                Ok(connection)
            }
            Err(error) => {
                let error = refused_connection(&self.address, &error);
                self.is_away(&error.to_string());
                Err(error)
            }
        }
    }

    /// Forgets this connection unless a newer one has taken its place already.
    pub fn forget(&self, id: u64) {
        self.places.forget(id);
    }

    /// Asks a connection that was silent for a while whether it still lives.
    pub async fn is_alive(&self, connection: &Connection, deadline: Instant) -> bool {
        let recent = lock(&connection.heard).elapsed() < SILENT;
        let end = deadline.min(Instant::now() + SIGN_OF_LIFE);
        recent || self.send(connection, &redis::cmd("PING"), false, end).await.is_ok()
    }

    pub async fn send(
        &self,
        connection: &Connection,
        command: &redis::Cmd,
        asking: bool,
        deadline: Instant,
    ) -> Result<Value, Failure> {
        let mut inner = connection.inner.clone();
        let sent = async {
            if asking {
                let mut pair = redis::pipe();
                pair.add_command(redis::cmd("ASKING")).ignore().add_command(command.clone());
                let (value,): (Value,) = pair.query_async(&mut inner).await?;
                return Ok(value);
            }
            command.query_async(&mut inner).await
        };
        let answer = timeout_at(deadline, sent).await;
        let error = match answer {
            Ok(Ok(value)) => {
                *lock(&connection.heard) = Instant::now();
                return Ok(value);
            }
            Ok(Err(error)) => error,
            Err(_) => {
                *lock(&self.silent) = Some(Instant::now());
                return Err(Failure::Lost(format!("{} did not answer in time", self.address)));
            }
        };
        Err(self.failure(&error))
    }

    /// Whether a command was left without an answer just now.
    pub fn is_in_doubt(&self) -> bool {
        lock(&self.silent).is_some_and(|since| since.elapsed() < REST)
    }

    /// Until a connection is made, calls do not wait for each other's attempts.
    fn is_away(&self, text: &str) {
        *lock(&self.failed) = Some((Instant::now(), text.to_owned()));
    }

    fn failure(&self, error: &RedisError) -> Failure {
        use ServerErrorKind as Server;
        let text = || format!("{}: {error}", self.address);
        match error.kind() {
            ErrorKind::Server(kind @ (Server::Moved | Server::Ask)) => {
                match error.redirect_node().and_then(|(to, _)| Address::parse(to, 0)) {
                    Some(to) => Failure::Redirect { to, asking: kind == Server::Ask },
                    None => Failure::NotNow(text()),
                }
            }
            ErrorKind::Server(Server::NoScript) => Failure::NoScript,
            ErrorKind::Server(
                Server::BusyLoading | Server::TryAgain | Server::ClusterDown | Server::MasterDown | Server::ReadOnly,
            ) => Failure::NotNow(text()),
            ErrorKind::Server(_) | ErrorKind::Extension => Failure::Said(refused_connection(&self.address, error)),
            _ => Failure::Lost(text()),
        }
    }
}

async fn check_primary(mut connection: MultiplexedConnection) -> Result<MultiplexedConnection, RedisError> {
    let role: Vec<Value> = match timeout(CONNECT, redis::cmd("ROLE").query_async(&mut connection)).await {
        Ok(role) => role?,
        Err(_) => return Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()),
    };
    match role.first().map(redis::from_redis_value_ref::<String>) {
        Some(Ok(role)) if role == "master" => Ok(connection),
        _ => Err((ErrorKind::Client, "the server the Sentinels name is not a primary yet").into()),
    }
}

/// A log-in, database or TLS mistake will not go away by waiting; everything else may.
pub(super) fn refused_connection(address: &Address, error: &RedisError) -> StoreError {
    let text = error.to_string();
    let by_code = matches!(error.code(), Some("NOAUTH" | "WRONGPASS" | "NOPERM"));
    let by_kind = matches!(error.kind(), ErrorKind::AuthenticationFailed | ErrorKind::InvalidClientConfig);
    if by_code || by_kind || text.contains("DB index") || text.contains("invalid password") {
        StoreError::Refused(format!("Redis at {address} refuses this log-in or database: {text}"))
    } else {
        StoreError::Unavailable(format!("{address}: {text}"))
    }
}

pub(super) fn lock<T>(plain: &Plain<T>) -> std::sync::MutexGuard<'_, T> {
    plain.lock().unwrap_or_else(PoisonError::into_inner)
}
