//! How a command reaches a gateway: the one named by `ROLLCALL_URL`, the one that runs on this machine, or, when none runs,
//! one opened for the command alone. In every case over the same API.

use std::{net::TcpListener, time::Duration};

use http::Method;
use percent_encoding::{NON_ALPHANUMERIC, PercentEncode, utf8_percent_encode};
use serde_json::Value;

use super::{
    Failure,
    serve::{Running, random_text, reachable},
    serve_file::{ServeFile, own_url},
    settings,
};
use crate::{
    config::{Environment, GlobalArgs, Purpose, Remote, Settings},
    model::Secret,
    upstream::own::OwnApi,
};

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
        match Running::start(&settings, listener, None, Some(&token), &[], 1).await {
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

    /// Every element of a platform list.
    pub async fn read_all(&self, path: &str) -> Result<Vec<Value>, Failure> {
        let mut all = Vec::new();
        let mut cursor = String::new();
        loop {
            let page = self.call(Method::GET, &format!("{path}?next_cursor={}", encoded(&cursor)), None).await?;
            all.extend(page["result"].as_array().cloned().unwrap_or_default());
            match page["next_cursor"].as_str() {
                Some(next) => next.clone_into(&mut cursor),
                None => return Ok(all),
            }
        }
    }

    /// Ends the gateway that was opened for this command.
    pub async fn close(self) -> Result<(), Failure> {
        match self.own {
            Some(running) => running.stop().await,
            None => Ok(()),
        }
    }
}

/// A text of the user's as part of a path or query.
pub fn encoded(text: &str) -> PercentEncode<'_> {
    utf8_percent_encode(text, NON_ALPHANUMERIC)
}

/// The gateway that `serve.json` names, if it answers; a file left behind by a crash is no gateway.
async fn running_here(settings: &Settings) -> Result<Option<OwnApi>, Failure> {
    let Some(file) = ServeFile::read(settings) else { return Ok(None) };
    let api = file.api()?;
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
    let certificate = settings.tls.as_ref().map(|files| files.certificate.as_path());
    let api = OwnApi::here(&own_url(&settings, address), Secret::new(String::new()), certificate)?;
    let asked = tokio::time::timeout(Duration::from_secs(5), api.call(Method::GET, "/healthz", None)).await;
    match asked {
        Ok(Ok((200, _))) => Ok(()),
        Ok(Ok((status, _))) => Err(Failure::Failed(format!("{address} answers {status}"))),
        Ok(Err(error)) => Err(error.into()),
        Err(_) => Err(Failure::Failed(format!("{address} does not answer within 5 s"))),
    }
}
