//! The server: time-outs, sizes, workers, and the app that each worker runs.

use std::{net::TcpListener, sync::Arc, time::Duration};

use actix_web::{App, HttpServer, dev::Server, web::Data};
use utoipa_actix_web::AppExt;

use super::{State, gate::Gate, routes};


/// Where and how wide to listen.
#[derive(Clone, Debug)]
pub struct Listen {
    /// The address.
    pub addr: std::net::SocketAddr,
    /// The public address, when the operator named one; any other `Host` is refused then.
    pub public_url: Option<url::Url>,
    /// Threads that serve.
    pub workers: usize,
}

/// A request's head must be here by then.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an idle connection is kept.
const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// How long a closing connection may take to take its last bytes.
const LINGER: Duration = Duration::from_secs(2);
/// How long running requests may take after a signal, seconds.
const SHUTDOWN: u64 = 30;

/// Starts serving on a bound listener. The server ends when its handle is told to stop; signals are the caller's affair.
pub fn serve(listener: TcpListener, state: Arc<State>, workers: usize) -> std::io::Result<Server> {
    let data = Data::from(state);
    let server = HttpServer::new(move || {
        App::new()
            .into_utoipa_app()
            .app_data(data.clone())
            .configure(routes::configure)
            .into_app()
            .wrap(Gate::new(data.public_host.as_deref()))
    });
    // Nagle makes the second write of a streamed body wait 40 ms for the client's delayed acknowledgement.
    let server = server.tcp_nodelay(true).workers(workers.max(1)).client_request_timeout(HEAD_TIMEOUT);
    let server = server.keep_alive(KEEP_ALIVE).client_disconnect_timeout(LINGER).shutdown_timeout(SHUTDOWN);
    Ok(server.disable_signals().listen(listener)?.run())
}
