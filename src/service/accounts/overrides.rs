//! What an environment lays over a connector, and one account over that: changed key by key, never replaced as a whole.

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Map, Value};

use crate::{
    connector::{MapProblem, Maps},
    error::{Code, Error, Result},
    model::{EnvironmentId, SealedApp, Secret, Slug},
    service::{
        REDACTED,
        oauth_apps::{self, OAuthApp},
    },
    vault::{SealMark, SystemKeys},
};

/// The longest JSON of all rules of one object.
const MAX_MAPS: usize = 64 * 1024;
/// Mistakes that one answer tells.
const TOLD: usize = 10;

/// The members of an object that changes key by key.
pub(in crate::service) fn members<'v>(value: &'v Value, path: &str, known: &[&str]) -> Result<&'v Map<String, Value>> {
    let there_are = || known.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" and ");
    let Value::Object(members) = value else {
        let detail = format!("`{path}` is an object of {}; null takes away the one it stands for.", there_are());
        return Err(Error::new(Code::InvalidBody, detail).field(path));
    };
    match members.keys().find(|name| !known.contains(&name.as_str())) {
        None => Ok(members),
        Some(name) => {
            let name: String = name.chars().take(64).collect();
            let detail = format!(
                "`{path}` has no `{name}`: there is {}. Hosts, authentication, base addresses, limits and proxy rules are the \
                 connector's.",
                there_are()
            );
            Err(Error::new(Code::InvalidBody, detail).field(format!("{path}.{name}")))
        }
    }
}

/// The rules after a change of some of them: objects are merged at every depth, null removes, anything else replaces.
pub(in crate::service) fn changed_maps(before: &Map<String, Value>, change: &Value, path: &str) -> Result<Map<String, Value>> {
    let change = match change {
        Value::Null => return Ok(Map::new()),
        Value::Object(change) => change,
        _ => {
            let detail = format!("`{path}` is an object of resources, for example `{{\"users\": {{\"map\": {{…}}}}}}`.");
            return Err(Error::new(Code::InvalidBody, detail).field(path));
        }
    };
    let mut maps = before.clone();
    merge(&mut maps, change);
    // What nothing is left of goes.
    maps.retain(|_, resource| match resource {
        Value::Object(members) => {
            members.retain(|name, value| name != "map" || !value.as_object().is_some_and(Map::is_empty));
            !members.is_empty()
        }
        _ => true,
    });
    let length = serde_json::to_string(&maps).map_or(usize::MAX, |text| text.len());
    if length > MAX_MAPS {
        let detail = format!("`{path}` holds at most {MAX_MAPS} bytes of JSON, not {length}.");
        return Err(Error::new(Code::InvalidBody, detail).field(path));
    }
    Ok(maps)
}

/// RFC 7396.
fn merge(target: &mut Map<String, Value>, change: &Map<String, Value>) {
    for (name, value) in change {
        match value {
            Value::Null => drop(target.remove(name)),
            Value::Object(inner) => {
                let below = target.entry(name.clone()).or_insert_with(|| Value::Object(Map::new()));
                if !below.is_object() {
                    *below = Value::Object(Map::new());
                }
                if let Value::Object(below) = below {
                    merge(below, inner);
                }
            }
            value => drop(target.insert(name.clone(), value.clone())),
        }
    }
}

/// Refuses rules that cannot be read or do not fit what they are laid over.
pub(in crate::service) fn check_maps(
    maps: &Map<String, Value>,
    path: &str,
    check: impl FnOnce(&Maps) -> Vec<MapProblem>,
) -> Result<()> {
    let (maps, mut problems) = Maps::read(maps);
    if problems.is_empty() {
        problems = check(&maps);
    }
    let Some(first) = problems.first() else { return Ok(()) };
    let field = format!("{path}.{}", first.path);
    let told: Vec<String> = problems.iter().take(TOLD).map(ToString::to_string).collect();
    let more = if problems.len() > TOLD { format!("; and {} more", problems.len() - TOLD) } else { String::new() };
    Err(Error::new(Code::InvalidBody, format!("In `{path}`: {}{more}.", told.join("; "))).field(field))
}

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
