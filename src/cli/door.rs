//! How a command reaches a gateway: the one named by `ROLLCALL_URL`, the one that runs on this machine, or, when none runs,
//! one opened for the command alone. In every case over the same API.

use std::{
    io::Read,
    net::TcpListener,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use http::Method;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    Failure,
    serve::{Running, random_text, reachable},
    settings,
};
use crate::{
    config::{Environment, GlobalArgs, Purpose, Remote, Settings, StoreSetting},
    model::Secret,
    upstream::own::OwnApi,
};

/// `DIR/serve.json`: where this folder's gateway listens and a token for this run. Mode 0600, removed at the end.
#[derive(Serialize, Deserialize)]
pub struct ServeFile {
    /// The address.
    pub url: String,
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

    /// The file, unless somebody else can have written it: secrets go to the address it names.
    pub fn read(path: &Path) -> Option<ServeFile> {
        let mut file = std::fs::File::open(path).ok()?;
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
}

/// An open way to a gateway.
pub struct Door {
    api: OwnApi,
    own: Option<Running>,
}

impl Door {
    /// Finds or opens a gateway.
    pub async fn open(global: &GlobalArgs) -> Result<Door, Failure> {
        if let Some(remote) = Remote::load(&Environment::of_process()).map_err(|error| Failure::Usage(error.to_string()))? {
            return Ok(Door { api: OwnApi::new(remote.url.as_str(), remote.token)?, own: None });
        }
        let settings = settings(global, Purpose::Tool)?;
        if let Some(api) = running_here(&settings).await? {
            return Ok(Door { api, own: None });
        }
        let token = random_text();
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let url = format!("http://{}", listener.local_addr()?);
        match Running::start(&settings, listener, Some(&token), &[], 1).await {
            Ok(running) => Ok(Door { api: OwnApi::new(&url, token)?, own: Some(running) }),
            // A gateway that is just starting holds the store a moment before it can be found.
            Err(failure) => match found_late(&settings).await? {
                Some(api) => Ok(Door { api, own: None }),
                None => Err(failure),
            },
        }
    }

    /// Calls the API; a problem answer is the failure.
    pub async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, Failure> {
        let (status, answer) = self.api.call(method, path, body).await?;
        if status < 400 {
            return Ok(answer);
        }
        let text = |name: &str| answer.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        Err(Failure::Failed(format!("{} ({status}): {}", text("code"), text("detail"))))
    }

    /// Ends the gateway that was opened for this command.
    pub async fn close(self) -> Result<(), Failure> {
        match self.own {
            Some(running) => running.stop().await,
            None => Ok(()),
        }
    }
}

/// The gateway that `serve.json` names, if it answers; a file left behind by a crash is no gateway.
async fn running_here(settings: &Settings) -> Result<Option<OwnApi>, Failure> {
    let Some(file) = ServeFile::path(settings).and_then(|path| ServeFile::read(&path)) else { return Ok(None) };
    let api = OwnApi::new(&file.url, Secret::new(file.token))?;
    match api.call(Method::GET, "/ping", None).await {
        Ok((200, _)) => Ok(Some(api)),
        _ => Ok(None),
    }
}

async fn found_late(settings: &Settings) -> Result<Option<OwnApi>, Failure> {
    if ServeFile::path(settings).is_none() {
        return Ok(None);
    }
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_millis(200)).await;
        if let Some(api) = running_here(settings).await? {
            return Ok(Some(api));
        }
    }
    Ok(None)
}

/// `rollcall healthcheck`: asks `/healthz` of the configured address.
pub async fn healthcheck(global: GlobalArgs) -> Result<(), Failure> {
    let settings = settings(&global, Purpose::Tool)?;
    let address = reachable(settings.listen);
    let api = OwnApi::new(&format!("http://{address}"), Secret::new(String::new()))?;
    let asked = tokio::time::timeout(Duration::from_secs(5), api.call(Method::GET, "/healthz", None)).await;
    match asked {
        Ok(Ok((200, _))) => Ok(()),
        Ok(Ok((status, _))) => Err(Failure::Failed(format!("{address} answers {status}"))),
        Ok(Err(error)) => Err(error.into()),
        Err(_) => Err(Failure::Failed(format!("{address} does not answer within 5 s"))),
    }
}
