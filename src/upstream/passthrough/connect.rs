//! From a socket to an HTTP/1.1 connection, over TLS where the base says so.

use std::{
    io,
    sync::{Arc, OnceLock},
};

use hyper::{client::conn::http1, rt};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    net::TcpStream,
    time::{Instant, sleep_until},
};
use tokio_rustls::TlsConnector;

use super::{body::Upload, idle::Connection};
use crate::upstream::{Access, Failure, Trust, egress::CONNECT_TIMEOUT, tls};

static CONFIG: OnceLock<Arc<ClientConfig>> = OnceLock::new();

/// Shakes hands and starts the task that drives the connection on this thread.
pub(super) async fn open(stream: TcpStream, access: &Access) -> Result<Connection, Failure> {
    if access.base.scheme() != "https" {
        return shake(TokioIo::new(stream)).await;
    }
    let trust = access.trust.as_ref();
    let host = access.base.host_str().unwrap_or_default();
    let name = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let name = ServerName::try_from(name).map_err(|_| Failure::Egress("the host is not a name TLS can check".into()))?;
    let handshake = TlsConnector::from(config(trust)?).connect(name, stream);
    match tokio::time::timeout(CONNECT_TIMEOUT, handshake).await {
        Ok(Ok(stream)) => shake(TokioIo::new(stream)).await,
        Ok(Err(error)) => Err(failure(&error, trust)),
        Err(_) => Err(Failure::Unreachable(format!("TLS: no handshake within {} s", CONNECT_TIMEOUT.as_secs()))),
    }
}

fn failure(error: &io::Error, trust: Option<&Trust>) -> Failure {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(error) => tls::failure(error, trust),
        None => Failure::Unreachable(format!("TLS: {error}")),
    }
}

fn config(trust: Option<&Trust>) -> Result<Arc<ClientConfig>, Failure> {
    if let Some(trust) = trust {
        return Ok(trust.config.clone());
    }
    if let Some(config) = CONFIG.get() {
        return Ok(config.clone());
    }
    let mut config = (*tls::shared()?).clone();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(CONFIG.get_or_init(|| Arc::new(config)).clone())
}

async fn shake<T>(io: T) -> Result<Connection, Failure>
where
    T: rt::Read + rt::Write + Unpin + Send + 'static,
{
    // Of header fields hyper takes a hundred; asked for another number it allocates room for them at every answer. A vectored
    // write costs the kernel more than a plain one, and a request without a body has nothing to gain from it.
    let shaken = http1::Builder::new().writev(false).handshake::<T, Upload>(io).await;
    let (sender, connection) = shaken.map_err(|_| Failure::Unreachable("the connection closed at once".into()))?;
    let task = tokio::task::spawn_local(async move {
        // Its errors reach whoever waits for the answer.
        let _ = connection.await;
    });
    let since = Instant::now();
    Ok(Connection { sender, task: task.abort_handle(), since, timer: Box::pin(sleep_until(since)) })
}
