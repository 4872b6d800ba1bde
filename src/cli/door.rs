//! How a command reaches a gateway: the one named by `ROLLCALL_URL`, the one that runs on this machine, or, when none runs,
//! one opened for the command alone. In every case over the same API.

use std::{net::TcpListener, path::Path, time::Duration};

use http::Method;
use percent_encoding::{NON_ALPHANUMERIC, PercentEncode, utf8_percent_encode};
use serde_json::{Value, json};

use super::{
    Failure, print_json,
    serve::{Patience, Running, announce_ring, reachable},
    serve_file::{ServeFile, own_url},
    settings,
};
use crate::{
    config::{Environment, GlobalArgs, Purpose, Remote, Settings, StoreSetting},
    model::Secret,
    store::embedded::Embedded,
    upstream::own::{Flowing, OwnApi, Said},
    vault::random_text,
};

/// An open way to a gateway.
pub struct Door {
    api: OwnApi,
    own: Option<Running>,
}

/// What a command does to a store that is not there yet.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// It puts something into it, so one is made.
    IsMade,
    /// It only looks or takes away: making one would hide that it looks in the wrong place.
    Fails,
}

impl Door {
    /// Finds or opens a gateway.
    pub async fn open(global: &GlobalArgs, missing: Missing) -> Result<Door, Failure> {
        if let Some(remote) = Remote::load(&Environment::of_process()).map_err(|error| Failure::Usage(error.to_string()))? {
            return Ok(Door { api: OwnApi::new(remote.url.as_str(), remote.token)?, own: None });
        }
        let mut settings = settings(global, Purpose::Tool)?;
        // Nobody but this command calls a gateway that is opened for it.
        settings.public_url = None;
        let mut patience = Patience::begin();
        loop {
            if let Some(api) = running_here(&settings).await? {
                return Ok(Door { api, own: None });
            }
            if let StoreSetting::Embedded(folder) = &settings.store
                && missing == Missing::Fails
                && !Embedded::is_made(folder)
            {
                return Err(nothing_in(folder));
            }
            let token = random_text();
            let listener = TcpListener::bind(("127.0.0.1", 0))?;
            let url = format!("http://{}", listener.local_addr()?);
            match Running::start(&settings, listener, None, Some(&token), &[], 1).await {
                Ok(running) => {
                    announce_ring(&running.core);
                    return Ok(Door { api: OwnApi::new(&url, token)?, own: Some(running) });
                }
                // A gateway that is just starting holds the store a moment before it can be found.
                Err(why) => patience.or_fail(why).await?,
            }
        }
    }

    /// Whether the gateway was opened for this command and is nobody else's.
    pub fn is_own(&self) -> bool {
        self.own.is_some()
    }

    /// Calls the API; a problem answer is the failure, but for one that passes, which is nothing.
    pub async fn try_call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Option<Value>, Failure> {
        match self.api.call(method, path, body).await? {
            (429 | 503, _) => Ok(None),
            (status, answer) if status < 400 => Ok(Some(answer)),
            (status, answer) => Err(refused(status, &answer)),
        }
    }

    /// Calls the API; a problem answer is the failure.
    pub async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, Failure> {
        let (status, answer) = self.api.call(method, path, body).await?;
        if status < 400 { Ok(answer) } else { Err(refused(status, &answer)) }
    }

    /// Calls the API and gives its answer, whatever it is.
    pub async fn ask(&self, method: Method, path: &str, body: &Value) -> Result<Said, Failure> {
        Ok(self.api.ask(method, path, Some(body)).await?)
    }

    /// Begins to read an answer that may be long; a problem answer is the failure.
    pub async fn flow(&self, path: &str) -> Result<Flowing, Failure> {
        let mut flowing = self.api.flow(path).await?;
        if flowing.status < 400 {
            return Ok(flowing);
        }
        let mut problem = Vec::new();
        while let Some(piece) = flowing.next().await? {
            problem.extend_from_slice(&piece);
        }
        Err(refused(flowing.status, &serde_json::from_slice(&problem).unwrap_or(Value::Null)))
    }

    /// Every element of a platform list, which may have filters. Where it lacks some, that is said on the standard error.
    pub async fn read_all(&self, path: &str) -> Result<Vec<Value>, Failure> {
        let join = if path.contains('?') { '&' } else { '?' };
        let (mut all, mut is_lacking) = (Vec::new(), false);
        let mut cursor = String::new();
        loop {
            let asked = self.api.ask(Method::GET, &format!("{path}{join}next_cursor={}", encoded(&cursor)), None).await?;
            let page = if asked.status < 400 { asked.body } else { return Err(refused(asked.status, &asked.body)) };
            is_lacking |= asked.is_lacking;
            all.extend(page["result"].as_array().cloned().unwrap_or_default());
            match page["next_cursor"].as_str() {
                Some(next) => next.clone_into(&mut cursor),
                None => break,
            }
        }
        if is_lacking {
            eprintln!("The list is not whole: a later release wrote records that the gateway which answered cannot read.");
        }
        Ok(all)
    }

    /// Ends the gateway that was opened for this command.
    pub async fn close(self) -> Result<(), Failure> {
        match self.own {
            Some(running) => running.stop().await,
            None => Ok(()),
        }
    }
}

fn refused(status: u16, problem: &Value) -> Failure {
    let text = |name: &str| problem.get(name).and_then(Value::as_str).unwrap_or_default();
    Failure::Failed(format!("{} ({status}): {}", text("code"), text("detail")))
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

fn nothing_in(folder: &Path) -> Failure {
    Failure::Failed(format!(
        "there is no store in {}; `rollcall serve` makes one, `ROLLCALL_STORE` or `--store` names another",
        folder.display()
    ))
}

/// `rollcall healthcheck`: asks `/healthz` of the configured address.
pub async fn healthcheck(global: GlobalArgs) -> Result<(), Failure> {
    let settings = settings(&global, Purpose::Tool)?;
    let address = reachable(settings.listen);
    let certificate = settings.tls.as_ref().map(|files| files.certificate.as_path());
    let api = OwnApi::here(&own_url(&settings, address), Secret::new(String::new()), certificate)?;
    let asked = tokio::time::timeout(Duration::from_secs(5), api.call(Method::GET, "/healthz", None)).await;
    match asked {
        Ok(Ok((200, _))) if global.json => print_json(&json!({"status": "ok", "address": address})),
        Ok(Ok((200, _))) => Ok(()),
        Ok(Ok((status, _))) => Err(Failure::Failed(format!("{address} answers {status}"))),
        Ok(Err(error)) => Err(error.into()),
        Err(_) => Err(Failure::Failed(format!("{address} does not answer within 5 s"))),
    }
}
