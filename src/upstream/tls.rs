//! One TLS configuration for every client, built at the first https call: reading the roots costs memory that an idle
//! process should not pay. Accounts with a trust of their own have one each.

use std::sync::{Arc, OnceLock};

use rustls::{
    ClientConfig, ConfigBuilder, RootCertStore, WantsVerifier,
    client::danger::ServerCertVerifier,
    crypto::{self, CryptoProvider},
};

use super::{Failure, Trust};

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

/// A configuration in which somebody else decides. Sessions are its own, so that none is resumed that another decided on.
pub(super) fn trusting(provider: Arc<CryptoProvider>, verifier: Arc<dyn ServerCertVerifier>) -> Result<ClientConfig, String> {
    Ok(builder(provider)?.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth())
}

/// The cryptography of every connection.
pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(crypto::aws_lc_rs::default_provider())
}

/// What a failed handshake means for the caller.
pub(super) fn failure(error: &rustls::Error, trust: Option<&Trust>) -> Failure {
    match (error, trust) {
        (rustls::Error::InvalidCertificate(error), Some(trust)) => trust.failure(error),
        (error, _) => Failure::Unreachable(format!("TLS: {error}")),
    }
}

fn roots() -> RootCertStore {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    let native = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(native.certs);
    roots
}

fn build(roots: RootCertStore) -> Result<ClientConfig, String> {
    Ok(builder(provider())?.with_root_certificates(roots).with_no_client_auth())
}

fn builder(provider: Arc<CryptoProvider>) -> Result<ConfigBuilder<ClientConfig, WantsVerifier>, String> {
    ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().map_err(|error| error.to_string())
}
