//! TLS at our own door: a certificate and its key from two files, read again when they change.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use arc_swap::ArcSwap;
use rustls::{
    ServerConfig,
    crypto::{self, CryptoProvider},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

/// The identity this gateway shows to callers.
#[derive(Debug)]
pub struct Identity {
    files: [PathBuf; 2],
    /// What the files held when they were looked at last, usable or not.
    seen: Mutex<Result<[Vec<u8>; 2], String>>,
    shown: ArcSwap<CertifiedKey>,
    provider: Arc<CryptoProvider>,
}

impl Identity {
    /// Reads both files; the error is for the operator and names the file.
    pub fn load(certificate: &Path, key: &Path) -> Result<Arc<Identity>, String> {
        let files = [certificate.to_owned(), key.to_owned()];
        let provider = Arc::new(crypto::aws_lc_rs::default_provider());
        let contents = read(&files)?;
        let shown = ArcSwap::from_pointee(pair(&files, &contents, &provider)?);
        Ok(Arc::new(Identity { files, seen: Mutex::new(Ok(contents)), shown, provider }))
    }

    /// Takes up changed files; true when new ones are shown from now on. Files that do not fit each other change nothing and
    /// are the error, once; connections that stand go on.
    pub fn refresh(&self) -> Result<bool, String> {
        let now = read(&self.files);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if *seen == now {
            return Ok(false);
        }
        seen.clone_from(&now);
        self.shown.store(Arc::new(pair(&self.files, &now?, &self.provider)?));
        Ok(true)
    }

    /// What the server needs.
    pub fn config(self: &Arc<Self>) -> Result<ServerConfig, String> {
        let builder = ServerConfig::builder_with_provider(self.provider.clone()).with_safe_default_protocol_versions();
        let builder = builder.map_err(|why| why.to_string())?;
        let mut config = builder.with_no_client_auth().with_cert_resolver(self.clone());
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }
}

impl ResolvesServerCert for Identity {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.shown.load_full())
    }
}

fn read(files: &[PathBuf; 2]) -> Result<[Vec<u8>; 2], String> {
    let read = |file: &PathBuf| std::fs::read(file).map_err(|why| format!("{} cannot be read: {why}", file.display()));
    Ok([read(&files[0])?, read(&files[1])?])
}

fn pair(files: &[PathBuf; 2], contents: &[Vec<u8>; 2], provider: &CryptoProvider) -> Result<CertifiedKey, String> {
    let [certificate, key] = files.each_ref().map(|file| file.display());
    let chain = CertificateDer::pem_slice_iter(&contents[0]).collect::<Result<Vec<_>, _>>();
    let chain = chain.ok().filter(|chain| !chain.is_empty());
    let chain = chain.ok_or_else(|| format!("{certificate} is not a PEM certificate with those that vouch for it"))?;
    let private = PrivateKeyDer::from_pem_slice(&contents[1])
        .map_err(|_| format!("{key} is not a PEM private key without a passphrase"))?;
    CertifiedKey::from_der(chain, private, provider).map_err(|why| format!("{key} is not the key of {certificate}: {why}"))
}
