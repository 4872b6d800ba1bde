//! TLS before a plain server on loopback.

use std::{
    net::SocketAddr,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::oneshot,
};
use tokio_rustls::TlsAcceptor;

use super::redis::Certificates;

/// Takes TLS off and passes the bytes on, until dropped.
pub struct TlsFront {
    pub port: u16,
    _end: oneshot::Sender<()>,
}

impl TlsFront {
    /// On 127.0.0.1, with this certificate.
    pub fn before(target: SocketAddr, certificates: &Certificates) -> Self {
        Self::on(std::net::TcpListener::bind("127.0.0.1:0").unwrap(), target, certificates)
    }

    /// In place of this one, which ends with its connections; at the same port.
    pub fn replaced(self, target: SocketAddr, certificates: &Certificates) -> Self {
        let port = self.port;
        drop(self);
        let end = Instant::now() + Duration::from_secs(10);
        loop {
            match std::net::TcpListener::bind(("127.0.0.1", port)) {
                Ok(listener) => return Self::on(listener, target, certificates),
                Err(error) => assert!(Instant::now() < end, "port {port} is not free again: {error}"),
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn on(listener: std::net::TcpListener, target: SocketAddr, certificates: &Certificates) -> Self {
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let acceptor = TlsAcceptor::from(Arc::new(config(certificates)));
        let (end, ended) = oneshot::channel::<()>();
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                tokio::select! {
                    () = serve(listener, &acceptor, target) => {}
                    _ = ended => {}
                }
            });
        });
        Self { port, _end: end }
    }
}

fn config(certificates: &Certificates) -> ServerConfig {
    let [certificate, key] = certificates.pair();
    ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![CertificateDer::from_pem_file(certificate).unwrap()], PrivateKeyDer::from_pem_file(key).unwrap())
        .unwrap()
}

async fn serve(listener: std::net::TcpListener, acceptor: &TlsAcceptor, target: SocketAddr) {
    let listener = TcpListener::from_std(listener).unwrap();
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let acceptor = acceptor.clone();
        connections.spawn(async move {
            // A client that does not trust us ends here.
            let Ok(mut client) = acceptor.accept(stream).await else { return };
            let Ok(mut server) = TcpStream::connect(target).await else { return };
            let _ = copy_bidirectional(&mut client, &mut server).await;
        });
    }
}
