//! The server: time-outs, sizes, workers, and the app that each worker runs.

use std::{
    net::TcpListener,
    sync::{Arc, OnceLock},
    time::Duration,
};

use actix_web::{
    App, HttpServer,
    dev::Server,
    web::{self, Data},
};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use utoipa_actix_web::service_config::ServiceConfig;

use super::{
    State,
    batch::Inner,
    flow::Flows,
    gate::{Closing, Gate},
    routes,
    tls::Identity,
    watch,
};
use crate::upstream::passthrough::Pool;

/// A request's head must be here by then.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an idle connection is kept.
const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// How long a closing connection may take to take its last bytes.
const LINGER: Duration = Duration::from_secs(2);
/// A client that takes nothing of what is ready for it is cut after this long, milliseconds.
#[cfg(target_os = "linux")]
const UNTAKEN: u32 = 12_000;
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
    // Connections inherit it. Nothing else ends a reply that a client lets stand: the server itself waits for as long as it lives.
    #[cfg(target_os = "linux")]
    rustix::net::sockopt::set_tcp_user_timeout(&listener, UNTAKEN)?;
    let gate = move || Gate::new(public_host.as_deref()).within(Arc::clone(&flows));
    let server = HttpServer::new(move || App::new().configure(&configure).wrap(gate()));
    // Nagle makes the second write of a streamed body wait 40 ms for the client's delayed acknowledgement.
    let server = server.tcp_nodelay(true).client_request_timeout(HEAD_TIMEOUT).keep_alive(KEEP_ALIVE);
    let server = server.client_disconnect_timeout(LINGER).shutdown_timeout(SHUTDOWN).tls_handshake_timeout(HANDSHAKE);
    let server = server.on_connect(|_, connection| {
        connection.insert(Closing::default());
    });
    let server = server.workers(workers.max(1)).disable_signals();
    let server = match identity {
        Some(identity) => server.listen_rustls_0_23(listener, identity.config().map_err(std::io::Error::other)?)?,
        None => server.listen(listener)?,
    };
    Ok(server.run())
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
