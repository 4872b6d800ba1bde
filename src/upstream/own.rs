//! The command line's way to a running Rollcall. The operator names the address, so the egress guard has no say here; the
//! client follows no redirects and uses no proxy all the same.

use std::{error::Error, path::Path, time::Duration};

use bytes::Bytes;
use http::Method;
use rustls::ClientConfig;
use serde_json::Value;

use super::{Failure, tls, trust};
use crate::model::Secret;

/// The longest an answer may flow, and the longest it may pause.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
const SILENCE: Duration = Duration::from_secs(60);

/// What a gateway answered.
pub struct Said {
    /// The status.
    pub status: u16,
    /// The seconds it wants to be left alone.
    pub retry_after: Option<u64>,
    /// A list that lacks records which a later release wrote.
    pub is_lacking: bool,
    /// The JSON answer; null when it is not JSON.
    pub body: Value,
}

/// An answer that is read as it comes, however long that takes.
pub struct Flowing {
    /// The status.
    pub status: u16,
    base: String,
    response: reqwest::Response,
}

/// The API of a running gateway.
pub struct OwnApi {
    client: reqwest::Client,
    base: String,
    host: Option<String>,
    token: Secret,
}

impl OwnApi {
    /// `base` is scheme, host and port.
    pub fn new(base: &str, token: Secret) -> Result<OwnApi, Failure> {
        let config = if base.starts_with("https:") { (*tls::shared()?).clone() } else { tls::without_roots()? };
        Self::over(config, base, token)
    }

    /// A gateway of this machine, which shows the certificate of this file; its name is not looked at, because it is called
    /// by address.
    pub fn here(base: &str, token: Secret, certificate: Option<&Path>) -> Result<OwnApi, Failure> {
        match certificate {
            Some(file) => Self::over(trust::only(file)?, base, token),
            None => Self::new(base, token),
        }
    }

    fn over(config: ClientConfig, base: &str, token: Secret) -> Result<OwnApi, Failure> {
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(config)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .connect_timeout(Duration::from_secs(5))
            .timeout(Duration::from_secs(180))
            .build()
            .map_err(|_| Failure::Unreachable("the http client cannot be set up".into()))?;
        Ok(OwnApi { client, base: base.trim_end_matches('/').to_owned(), host: None, token })
    }

    /// The `Host` a gateway wants to be called by when that is not its address on this machine.
    pub fn with_host(self, host: Option<String>) -> OwnApi {
        OwnApi { host, ..self }
    }

    /// One call; the status and the JSON answer (null when it is not JSON).
    pub async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<(u16, Value), Failure> {
        self.ask(method, path, body).await.map(|said| (said.status, said.body))
    }

    /// One call, and how long to wait before another.
    pub async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Said, Failure> {
        let answer = self.request(method, path, body).send().await.map_err(|error| silent(&self.base, error))?;
        let status = answer.status().as_u16();
        let wait = answer.headers().get(http::header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let is_lacking = answer.headers().get_all("rollcall-warning").iter().any(|warning| warning == "later_release");
        let bytes = answer.bytes().await.map_err(|error| silent(&self.base, error))?;
        Ok(Said { status, retry_after: wait, is_lacking, body: serde_json::from_slice(&bytes).unwrap_or(Value::Null) })
    }

    /// Begins to read a long answer.
    pub async fn flow(&self, path: &str) -> Result<Flowing, Failure> {
        let asked = self.request(Method::GET, path, None).timeout(LONGEST);
        let response = asked.send().await.map_err(|error| silent(&self.base, error))?;
        Ok(Flowing { status: response.status().as_u16(), base: self.base.clone(), response })
    }

    fn request(&self, method: Method, path: &str, body: Option<&Value>) -> reqwest::RequestBuilder {
        let mut request = self.client.request(method, format!("{}{path}", self.base));
        if !self.token.expose().is_empty() {
            request = request.bearer_auth(self.token.expose());
        }
        if let Some(body) = body {
            request = request.header(http::header::CONTENT_TYPE, "application/json").body(body.to_string());
        }
        if let Some(host) = &self.host {
            request = request.header(http::header::HOST, host);
        }
        request
    }
}

impl Flowing {
    /// The next piece; none at the end.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        let waited = tokio::time::timeout(SILENCE, self.response.chunk()).await;
        let piece = waited.map_err(|_| Failure::Unreachable(format!("{} has stopped answering", self.base)))?;
        piece.map_err(|error| silent(&self.base, error))
    }
}

fn silent(base: &str, error: reqwest::Error) -> Failure {
    Failure::Unreachable(format!("{base} does not answer: {}", bottom(&error.without_url())))
}

/// The error below all others: the system's own words.
fn bottom(error: &(dyn Error + 'static)) -> String {
    let mut error = error;
    while let Some(below) = error.source() {
        error = below;
    }
    error.to_string()
}
