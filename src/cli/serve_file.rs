//! How the commands of this machine find the gateway that runs here.

use std::{io::Read, net::SocketAddr, os::unix::fs::MetadataExt, path::PathBuf};

use serde::{Deserialize, Serialize};

use super::Failure;
use crate::{
    config::{Settings, StoreSetting},
    model::Secret,
    upstream::own::OwnApi,
};

/// `DIR/serve.json`: where this folder's gateway listens and a token for this run. Mode 0600, removed at the end.
#[derive(Serialize, Deserialize)]
pub struct ServeFile {
    /// The address.
    pub url: String,
    /// The `Host` it wants to be called by, when that is not the address.
    pub host: Option<String>,
    /// The certificate it shows, when it speaks https: the only one that is taken for its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<PathBuf>,
    /// An administrator's token of this run.
    pub token: String,
}

impl ServeFile {
    /// Of the gateway that listens there.
    pub fn of(settings: &Settings, address: SocketAddr, token: &Secret) -> std::io::Result<ServeFile> {
        let certificate = settings.tls.as_ref().map(|files| files.certificate.canonicalize()).transpose()?;
        let (url, host) = (own_url(settings, address), settings.public_host());
        Ok(ServeFile { url, host, certificate, token: token.expose().to_owned() })
    }

    /// Where it stands for this store.
    pub fn path(settings: &Settings) -> Option<PathBuf> {
        match &settings.store {
            StoreSetting::Embedded(folder) => Some(folder.join("serve.json")),
            StoreSetting::Redis(_) => None,
        }
    }

    /// What it says, unless somebody else can have written it: secrets go to the address it names.
    pub fn read(settings: &Settings) -> Option<ServeFile> {
        let path = ServeFile::path(settings)?;
        let mut file = std::fs::File::open(&path).ok()?;
        let about = file.metadata().ok()?;
        let is_ours = about.uid() == rustix::process::geteuid().as_raw() && about.mode() & 0o077 == 0;
        if !is_ours {
            eprintln!("{} is not followed: it is not this user's alone.", path.display());
            return None;
        }
        let mut text = String::new();
        file.read_to_string(&mut text).ok()?;
        serde_json::from_str(&text).ok()
    }

    /// The way to the gateway it names.
    pub fn api(self) -> Result<OwnApi, Failure> {
        let api = OwnApi::here(&self.url, Secret::new(self.token), self.certificate.as_deref())?;
        Ok(api.with_host(self.host))
    }
}

/// The address of a gateway with these settings that listens there.
pub fn own_url(settings: &Settings, address: SocketAddr) -> String {
    let scheme = if settings.tls.is_some() { "https" } else { "http" };
    format!("{scheme}://{address}")
}
