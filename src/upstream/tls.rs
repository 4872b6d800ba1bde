//! One TLS configuration for every client, built at the first https call: reading the roots costs memory that an idle
//! process should not pay.

use std::{
    path::Path,
    sync::{Arc, OnceLock},
};

use rustls::{
    ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{self, CryptoProvider},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
};

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

/// A configuration that takes the first certificate of a file for the server's, and no other.
pub(super) fn only(file: &Path) -> Result<ClientConfig, Failure> {
    let certificate = CertificateDer::from_pem_file(file)
        .map_err(|_| Failure::Unreachable(format!("{} is not a PEM certificate", file.display())))?;
    let mut config = without_roots()?;
    let provider = config.crypto_provider().clone();
    config.dangerous().set_certificate_verifier(Arc::new(Only { certificate, provider }));
    Ok(config)
}

#[derive(Debug)]
struct Only {
    certificate: CertificateDer<'static>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Only {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match *shown == self.certificate {
            true => Ok(ServerCertVerified::assertion()),
            false => Err(Error::General("another certificate than the gateway's own".to_owned())),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        crypto::verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        crypto::verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
