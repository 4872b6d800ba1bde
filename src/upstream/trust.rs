//! An account's own trust in its server, in place of the public authorities. Who is trusted changes, nothing else: host
//! names, dates and signatures are checked as ever.

use std::{collections::BTreeMap, fmt, path::Path, sync::Arc};

use aws_lc_rs::digest::{SHA256, digest};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
    server::ParsedCertificate,
};

use super::{Failure, send::Clients, tls};
use crate::connector::{
    FieldProblem,
    trust::{CA_CERTIFICATE, CERTIFICATE_SHA256},
};

/// Trust of an account's own, with the clients that act on it; they end with the account's decoded credential.
pub struct Trust {
    /// Equal for equal trust.
    pub(super) id: [u8; 32],
    pub(super) config: Arc<ClientConfig>,
    pub(super) clients: Clients,
    field: &'static str,
}

impl Trust {
    /// What the account's fields say; `None` when the public authorities are trusted.
    pub fn of(fields: &BTreeMap<String, String>) -> Result<Option<Trust>, FieldProblem> {
        let given = |name: &'static str| fields.get(name).map(|value| (name, value));
        let Some((field, value)) = given(CA_CERTIFICATE).or_else(|| given(CERTIFICATE_SHA256)) else { return Ok(None) };
        let problem = |message: String| FieldProblem { field: field.to_owned(), message };
        let provider = tls::provider();
        let accepted = match field {
            CA_CERTIFICATE => authorities(value, &provider).map(Accepted::Authorities),
            _ => pin(value).map(Accepted::Pin),
        };
        let verifier = Arc::new(Verifier { accepted: accepted.map_err(problem)?, provider: provider.clone() });
        let mut config = tls::trusting(provider, verifier).map_err(problem)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let id = digest(&SHA256, format!("{field} {value}").as_bytes());
        let id = id.as_ref().try_into().map_err(|_| problem("has no digest".to_owned()))?;
        Ok(Some(Trust { id, config: Arc::new(config), clients: Clients::default(), field }))
    }

    /// What a refused certificate is in front of the caller: a matter of the field, because it says whom to trust.
    pub(super) fn failure(&self, error: &CertificateError) -> Failure {
        let reason = match error {
            CertificateError::Other(other) => other.to_string(),
            CertificateError::UnknownIssuer => "the server's certificate is neither this one nor signed by it".to_owned(),
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                format!(
                    "the server's certificate is not for this host ({error}); names are read from its subject alternative names"
                )
            }
            error => format!("the server's certificate is refused: {error}"),
        };
        Failure::Distrusted { field: self.field, reason }
    }
}

/// One certificate of `ca_certificate`.
struct Authority {
    der: CertificateDer<'static>,
    signs: Arc<WebPkiServerVerifier>,
}

enum Accepted {
    Authorities(Vec<Authority>),
    /// SHA-256 of the server's certificate.
    Pin([u8; 32]),
    /// The gateway's own certificate, whatever it says: its file says whose it is.
    Own(CertificateDer<'static>),
}

struct Verifier {
    accepted: Accepted,
    provider: Arc<CryptoProvider>,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("trust in certificates that are named")
    }
}

/// A configuration that takes the first certificate of a file for the server's, and no other; for a gateway of this machine.
pub(super) fn only(file: &Path) -> Result<ClientConfig, Failure> {
    let certificate = CertificateDer::from_pem_file(file)
        .map_err(|_| Failure::Unreachable(format!("{} is not a PEM certificate", file.display())))?;
    let provider = tls::provider();
    let verifier = Arc::new(Verifier { accepted: Accepted::Own(certificate), provider: provider.clone() });
    tls::trusting(provider, verifier).map_err(|reason| Failure::Unreachable(format!("TLS cannot be set up: {reason}")))
}

fn authorities(pem: &str, provider: &Arc<CryptoProvider>) -> Result<Vec<Authority>, String> {
    let read = |der: CertificateDer<'static>| {
        let mut roots = RootCertStore::empty();
        roots.add(der.clone()).map_err(|error| format!("holds a certificate that cannot be trusted by: {error}"))?;
        let signs = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build();
        Ok(Authority { der, signs: signs.map_err(|error| error.to_string())? })
    };
    let all: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes())
        .map(|der| der.map_err(|_| "is not PEM".to_owned()).and_then(read))
        .collect::<Result<_, String>>()?;
    if all.is_empty() { Err("holds no certificate".to_owned()) } else { Ok(all) }
}

fn pin(text: &str) -> Result<[u8; 32], String> {
    let bytes: Option<Vec<u8>> = text.split(':').map(|pair| u8::from_str_radix(pair, 16).ok()).collect();
    bytes.and_then(|bytes| bytes.try_into().ok()).ok_or_else(|| "is not a SHA-256 fingerprint".to_owned())
}

fn refuse(reason: impl Into<String>) -> Error {
    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Reason(String);
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(Reason(reason.into())))))
}

/// Whether the dates of a certificate hold now.
fn in_time(whose: &str, der: &CertificateDer<'_>, now: UnixTime) -> Result<(), Error> {
    let Ok((_, certificate)) = x509_parser::parse_x509_certificate(der) else {
        return Err(Error::InvalidCertificate(CertificateError::BadEncoding));
    };
    let validity = certificate.validity();
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    match () {
        _ if now < validity.not_before.timestamp() => Err(refuse(format!("{whose} is not valid before {}", validity.not_before))),
        _ if now > validity.not_after.timestamp() => Err(refuse(format!("{whose} has expired on {}", validity.not_after))),
        _ => Ok(()),
    }
}

/// The very certificate that was given: nobody need have signed it.
fn verify_same(shown: &CertificateDer<'_>, name: &ServerName<'_>, now: UnixTime) -> Result<ServerCertVerified, Error> {
    in_time("the server's certificate", shown, now)?;
    verify_server_name(&ParsedCertificate::try_from(shown)?, name)?;
    Ok(ServerCertVerified::assertion())
}

/// Whether an authority has nothing to say about a certificate: it did not sign it, or it signed itself.
fn is_of_another(error: &Error) -> bool {
    match error {
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => true,
        Error::InvalidCertificate(CertificateError::Other(other)) => other.to_string().contains("CaUsedAsEndEntity"),
        _ => false,
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let authorities = match &self.accepted {
            Accepted::Pin(pin) if digest(&SHA256, shown).as_ref() == pin => return verify_same(shown, name, now),
            Accepted::Pin(_) => return Err(refuse("the server shows another certificate than this one")),
            Accepted::Own(own) if own == shown => return Ok(ServerCertVerified::assertion()),
            Accepted::Own(_) => return Err(Error::General("another certificate than the gateway's own".to_owned())),
            Accepted::Authorities(authorities) => authorities,
        };
        if authorities.iter().any(|authority| authority.der == *shown) {
            return verify_same(shown, name, now);
        }
        let mut last = Error::InvalidCertificate(CertificateError::UnknownIssuer);
        for authority in authorities {
            match authority.signs.verify_server_cert(shown, between, name, ocsp, now) {
                Ok(verified) => match in_time("the authority's certificate", &authority.der, now) {
                    Ok(()) => return Ok(verified),
                    Err(error) => last = error,
                },
                Err(error) if is_of_another(&error) => {}
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
