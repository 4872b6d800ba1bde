//! The command line's way to a running Rollcall. The operator names the address, so the egress guard has no say here; the
//! client follows no redirects and uses no proxy all the same.

use std::{error::Error, path::Path, time::Duration};

use http::Method;
use rustls::ClientConfig;
use serde_json::Value;

use super::{Failure, tls, trust};
use crate::model::Secret;

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
        let unreachable = |error: reqwest::Error| {
            Failure::Unreachable(format!("{} does not answer: {}", self.base, bottom(&error.without_url())))
        };
        let answer = request.send().await.map_err(unreachable)?;
        let status = answer.status().as_u16();
        let bytes = answer.bytes().await.map_err(unreachable)?;
        Ok((status, serde_json::from_slice(&bytes).unwrap_or(Value::Null)))
    }
}

/// The error below all others: the system's own words.
fn bottom(error: &(dyn Error + 'static)) -> String {
    let mut error = error;
    while let Some(below) = error.source() {
        error = below;
    }
    error.to_string()
}
