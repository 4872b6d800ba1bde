//! One TLS configuration for every client, built at the first https call: reading the roots costs memory that an idle
//! process should not pay.

use std::sync::{Arc, OnceLock};

use rustls::{ClientConfig, RootCertStore, crypto};

use super::Failure;

static SHARED: OnceLock<Result<Arc<ClientConfig>, String>> = OnceLock::new();

/// The configuration with the public roots and those of the machine (`SSL_CERT_FILE` and `SSL_CERT_DIR` are honoured).
pub(super) fn shared() -> Result<Arc<ClientConfig>, Failure> {
    let built = SHARED.get_or_init(|| build(roots()).map(Arc::new));
    built.clone().map_err(|reason| Failure::Unreachable(format!("TLS cannot be set up: {reason}")))
}

/// A configuration that trusts nobody, for clients that only speak http.
pub(super) fn without_roots() -> Result<ClientConfig, Failure> {
    build(RootCertStore::empty()).map_err(|reason| Failure::Unreachable(format!("TLS cannot be set up: {reason}")))
}

fn roots() -> RootCertStore {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    let native = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(native.certs);
    roots
}

fn build(roots: RootCertStore) -> Result<ClientConfig, String> {
    let config = ClientConfig::builder_with_provider(Arc::new(crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config)
}
