//! An environment's own OAuth app for a connector: changed as a whole or not at all, its secret sealed to its place.

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Map, Value};

use super::{
    oauth_apps::{self, OAuthApp},
    rules::members,
};
use crate::{
    error::{Code, Error, Result},
    model::{EnvironmentId, SealedApp, Secret, Slug},
    service::REDACTED,
    vault::{SealMark, SystemKeys},
};

/// One text of the app's, as a change names it.
enum Said<'v> {
    Nothing,
    Gone,
    Text(&'v str),
}

const APP: &str = "override.credentials.oauth2";

/// Seals and opens the OAuth app of one environment for one connector.
pub(in crate::service) struct AppSeal<'a> {
    pub(in crate::service) keys: &'a SystemKeys,
    pub(in crate::service) environment: EnvironmentId,
    pub(in crate::service) connector: &'a Slug,
}

impl AppSeal<'_> {
    /// The app after a change of `override.credentials`.
    pub(in crate::service) fn changed(&self, before: Option<SealedApp>, change: &Value) -> Result<Option<SealedApp>> {
        if change.is_null() {
            return Ok(None);
        }
        let app = match members(change, "override.credentials", &["oauth2"])?.get("oauth2") {
            None => return Ok(before),
            Some(Value::Null) => return Ok(None),
            Some(app) => members(app, APP, &["client_id", "client_secret"])?,
        };
        let (id, secret) = (said(app, "client_id")?, said(app, "client_secret")?);
        let id = match id {
            Said::Nothing => before.as_ref().map(|app| app.client_id.clone()),
            Said::Gone => None,
            Said::Text(id) => Some(id.to_owned()),
        };
        // The word that stands for a kept secret keeps it.
        let secret = if matches!(secret, Said::Text(REDACTED)) { Said::Nothing } else { secret };
        match (id, secret, before) {
            (Some(id), Said::Text(secret), _) => Ok(Some(self.sealed(id, secret))),
            (Some(id), Said::Nothing, Some(before)) if id == before.client_id => Ok(Some(before)),
            (Some(_), Said::Nothing, Some(_)) => {
                let detail = "Another `client_id` needs its `client_secret` in the same request.";
                Err(Error::new(Code::SecretsRequired, detail).field(format!("{APP}.client_secret")))
            }
            (Some(_), ..) => Err(half("client_secret")),
            (None, Said::Text(_), _) | (None, Said::Nothing, Some(_)) => Err(half("client_id")),
            (None, ..) => Ok(None),
        }
    }

    fn sealed(&self, client_id: String, secret: &str) -> SealedApp {
        let sealed = self.keys.seal_for(SealMark::App, &self.bound(&client_id), secret.as_bytes());
        SealedApp { client_id, client_secret: BASE64_STANDARD.encode(sealed) }
    }

    /// The app with its secret.
    pub(in crate::service) fn open(&self, sealed: SealedApp) -> Result<OAuthApp> {
        let unreadable = |why: String| {
            let detail = format!("The environment's OAuth app for `{}` does not open; give it anew.", self.connector);
            Error::new(Code::CredentialUnreadable, detail).because(why)
        };
        let bytes = BASE64_STANDARD.decode(&sealed.client_secret).map_err(|why| unreadable(why.to_string()))?;
        let plain = self
            .keys
            .open_for(SealMark::App, &self.bound(&sealed.client_id), &bytes)
            .map_err(|why| unreadable(why.to_string()))?;
        let text = std::str::from_utf8(&plain).map_err(|why| unreadable(why.to_string()))?;
        Ok(OAuthApp { client_id: sealed.client_id, client_secret: Secret::new(text.to_owned()), own: true })
    }

    fn bound<'b>(&'b self, client_id: &'b str) -> [&'b [u8]; 3] {
        [self.environment.0.as_bytes(), self.connector.as_str().as_bytes(), client_id.as_bytes()]
    }
}

fn said<'v>(app: &'v Map<String, Value>, name: &str) -> Result<Said<'v>> {
    let wrong = |what: String| Error::new(Code::InvalidBody, format!("`{APP}.{name}` {what}.")).field(format!("{APP}.{name}"));
    match app.get(name) {
        None => Ok(Said::Nothing),
        Some(Value::Null) => Ok(Said::Gone),
        Some(Value::String(text)) => match oauth_apps::text_problem(text) {
            None => Ok(Said::Text(text)),
            Some(problem) => Err(wrong(problem)),
        },
        Some(_) => Err(wrong("takes a text".to_owned())),
    }
}

fn half(missing: &str) -> Error {
    let detail =
        format!("`{APP}` has `client_id` and `client_secret`; `{missing}` is missing. null in place of `oauth2` removes both.");
    Error::new(Code::InvalidBody, detail).field(format!("{APP}.{missing}"))
}
