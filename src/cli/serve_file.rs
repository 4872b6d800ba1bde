//! How the commands of this machine find the gateway that runs here.

use std::path::PathBuf;

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
    /// An administrator's token of this run.
    pub token: String,
}

impl ServeFile {
    /// Where it stands for this store.
    pub fn path(settings: &Settings) -> Option<PathBuf> {
        match &settings.store {
            StoreSetting::Embedded(folder) => Some(folder.join("serve.json")),
            StoreSetting::Redis(_) => None,
        }
    }

    /// What it says; none when it is missing or not readable.
    pub fn read(settings: &Settings) -> Option<ServeFile> {
        serde_json::from_str(&std::fs::read_to_string(ServeFile::path(settings)?).ok()?).ok()
    }

    /// The way to the gateway it names.
    pub fn api(self) -> Result<OwnApi, Failure> {
        Ok(OwnApi::new(&self.url, Secret::new(self.token))?.with_host(self.host))
    }
}
