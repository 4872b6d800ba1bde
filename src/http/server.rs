//! The server: time-outs, sizes, workers, and the app that each worker runs.

use std::{
    net::{SocketAddr, TcpListener},
    sync::{Arc, OnceLock},
    time::Duration,
};

use actix_http::{HttpService, Request, error::DispatchError};
use actix_server::{GracefulShutdownSignal, Server};
use actix_service::{IntoServiceFactory, Service, ServiceFactory, ServiceFactoryExt, apply_fn_factory, fn_service, map_config};
use actix_tls::accept::{
    TlsError,
    rustls_0_23::{Acceptor, TlsStream},
};
use actix_web::{
    App,
    body::MessageBody,
    dev::{AppConfig, ServiceResponse},
    web::{self, Data},
};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
#[cfg(target_os = "linux")]
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use utoipa_actix_web::service_config::ServiceConfig;

use super::{State, batch::Inner, flow::Flows, gate::Gate, own_head::detach, routes, tls::Identity, turn::InTurn, watch};
use crate::upstream::passthrough::Pool;

/// A request's head must be here by then.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an idle connection is kept.
const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// How long a closing connection may take to take its last bytes.
const LINGER: Duration = Duration::from_secs(2);
/// A client that takes nothing of what is ready for it is cut after this long.
#[cfg(target_os = "linux")]
const UNTAKEN: Duration = Duration::from_secs(12);
/// What the system keeps of an answer that is not yet on its way, bytes: for a slow client it would keep megabytes.
#[cfg(target_os = "linux")]
const UNSENT: u32 = 128 * 1024;
/// How long running requests may take after a signal, seconds.
const SHUTDOWN: u64 = 30;

/// Upper bounds of the duration histograms, seconds.
const BUCKETS: &[f64] = &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0];

/// The same for the store, whose operations are shorter.
const STORE_BUCKETS: &[f64] =
    &[0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// How long a client may take to agree on TLS.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// Starts serving on a bound listener, over TLS when there is an identity to show. The server ends when its handle is told to
/// stop; signals are the caller's affair.
pub fn serve(
    listener: TcpListener,
    identity: Option<&Arc<Identity>>,
    state: Arc<State>,
    workers: usize,
) -> std::io::Result<Server> {
    let (public_host, flows) = (state.public_host.clone(), Arc::clone(&state.flows));
    let data = Data::from(state);
    run_within(listener, identity, workers, (public_host, flows), move |config| {
        config.app_data(data.clone()).app_data(Pool::new(Arc::clone(&data.guard))).app_data(Inner::default());
        routes::configure(&mut ServiceConfig::new(config));
    })
}

/// A server of any routes behind the gate, of any number of requests at once.
pub fn run<C>(
    listener: TcpListener,
    identity: Option<&Arc<Identity>>,
    workers: usize,
    public_host: Option<String>,
    configure: C,
) -> std::io::Result<Server>
where
    C: Fn(&mut web::ServiceConfig) + Clone + Send + 'static,
{
    run_within(listener, identity, workers, (public_host, Arc::default()), configure)
}

/// A server of any routes behind the gate and within the bounds that every server of ours has.
fn run_within<C>(
    listener: TcpListener,
    identity: Option<&Arc<Identity>>,
    workers: usize,
    (public_host, flows): (Option<String>, Arc<Flows>),
    configure: C,
) -> std::io::Result<Server>
where
    C: Fn(&mut web::ServiceConfig) + Clone + Send + 'static,
{
    #[cfg(target_os = "linux")]
    bound_slow_clients(&listener)?;
    let server = Server::build().workers(workers.max(1)).disable_signals().shutdown_timeout(SHUTDOWN);
    let stopping = server.graceful_shutdown_signal();
    let app = move || {
        let gate = Gate::new(public_host.as_deref()).within(Arc::clone(&flows));
        App::new().configure(&configure).wrap(gate)
    };
    let server = match identity {
        Some(identity) => {
            let mut acceptor = Acceptor::new(identity.config().map_err(std::io::Error::other)?);
            acceptor.set_handshake_timeout(HANDSHAKE);
            server.listen("https", listener, move || {
                let http = http(app.clone(), stopping.clone()).map_err(TlsError::Service);
                acceptor.clone().map_err(TlsError::into_service_error).map(in_turn).and_then(http)
            })?
        }
        None => server.listen("http", listener, move || {
            let plain = fn_service(async |stream: TcpStream| Ok::<_, DispatchError>(in_turn(stream)));
            plain.and_then(http(app.clone(), stopping.clone()))
        })?,
    };
    Ok(server.run())
}

/// Connections inherit both from their listener. Nothing else ends a reply that a client lets stand: the server itself waits for
/// as long as it lives.
#[cfg(target_os = "linux")]
fn bound_slow_clients(listener: &TcpListener) -> std::io::Result<()> {
    let socket = SockRef::from(listener);
    socket.set_tcp_user_timeout(Some(UNTAKEN))?;
    socket.set_tcp_notsent_lowat(UNSENT)
}

/// A connection that was accepted, and whose it is.
fn in_turn<T: Connection>(stream: T) -> (InTurn<T>, Option<SocketAddr>) {
    // Nagle makes the second write of a streamed body wait 40 ms for the client's delayed acknowledgement.
    let _ = stream.socket().set_nodelay(true);
    let peer = stream.socket().peer_addr().ok();
    (InTurn::new(stream), peer)
}

/// A client's connection, with or without TLS.
trait Connection {
    fn socket(&self) -> &TcpStream;
}

impl Connection for TcpStream {
    fn socket(&self) -> &TcpStream {
        self
    }
}

impl Connection for TlsStream<TcpStream> {
    fn socket(&self) -> &TcpStream {
        self.get_ref().0
    }
}

/// HTTP/1 on a connection. What `HttpServer` does, but that it takes connections of sockets alone.
fn http<T, A, F, S, B>(
    app: A,
    stopping: GracefulShutdownSignal,
) -> impl ServiceFactory<(InTurn<T>, Option<SocketAddr>), Config = (), Response = (), Error = DispatchError, InitError = ()>
where
    T: AsyncRead + AsyncWrite + Unpin + 'static,
    A: Fn() -> F,
    F: IntoServiceFactory<S, Request>,
    S: ServiceFactory<Request, Config = AppConfig, Response = ServiceResponse<B>, Error = actix_web::Error, InitError = ()>
        + 'static,
    B: MessageBody + 'static,
{
    let app = apply_fn_factory(app(), |mut request: Request, app: &S::Service| {
        detach(request.head_mut());
        app.call(request)
    });
    let app = app.map_err(|error: actix_web::Error| error.error_response());
    HttpService::build()
        .graceful_shutdown_signal(move || {
            let stopping = stopping.clone();
            async move { stopping.notified().await }
        })
        .keep_alive(KEEP_ALIVE)
        .client_request_timeout(HEAD_TIMEOUT)
        .client_disconnect_timeout(LINGER)
        .on_connect_ext(|stream: &InTurn<T>, connection| {
            connection.insert(stream.turn());
        })
        .h1(map_config(app, |()| AppConfig::default()))
}

/// Installs the metrics recorder of this process, once; every later call gives the same one.
pub fn metrics_recorder() -> Option<PrometheusHandle> {
    static RECORDER: OnceLock<Option<PrometheusHandle>> = OnceLock::new();
    let install = || {
        let durations = Matcher::Suffix("_duration_seconds".to_owned());
        let store = Matcher::Prefix("rollcall_store_".to_owned());
        let builder = PrometheusBuilder::new().set_buckets_for_metric(durations, BUCKETS).ok()?;
        let recorder = builder.set_buckets_for_metric(store, STORE_BUCKETS).ok()?.build_recorder();
        let handle = recorder.handle();
        metrics::set_global_recorder(recorder).ok()?;
        watch::describe();
        Some(handle)
    };
    RECORDER.get_or_init(install).clone()
}
