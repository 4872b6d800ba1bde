//! The operator's OAuth apps, one for each connector that needs one: a file `{"<slug>": {"client_id", "client_secret"}}`, mode
//! 0600, read again when it changes.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use crate::{
    model::{Secret, Slug},
    vault::{FileStamp, read_private},
};

/// The longest id or secret of a client.
pub(super) const LONGEST: usize = 4096;

/// A client registered at a vendor.
pub struct OAuthApp {
    /// Its id.
    pub client_id: String,
    /// Its secret.
    pub client_secret: Secret,
    /// It is the environment's own, not the operator's.
    pub own: bool,
}

/// The operator's apps by connector.
#[derive(Default)]
pub struct OAuthApps(BTreeMap<Slug, AppFile>);

/// Why the file cannot be used, in a sentence without anything of its content but names of connectors.
#[derive(Debug, thiserror::Error)]
#[error("the file of OAuth apps {file} {why}", file = .path.display())]
pub struct OAuthAppsError {
    path: PathBuf,
    why: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AppFile {
    client_id: String,
    client_secret: Secret,
}

impl OAuthApps {
    /// The apps of the file if it is not what it was at `last`, which is brought up to date. Each state of the file is reported
    /// once, a bad one as its error; the caller keeps the apps it has. `known` are the connectors that there are.
    pub fn read_if_changed(path: &Path, last: &mut FileStamp, known: &[&str]) -> Result<Option<OAuthApps>, OAuthAppsError> {
        let Some(read) = last.if_changed(read_private(path)) else { return Ok(None) };
        let apps = read.and_then(|content| parse(&content, known));
        apps.map(Some).map_err(|why| OAuthAppsError { path: path.to_owned(), why })
    }

    /// The app of a connector.
    pub(super) fn app(&self, connector: &Slug) -> Option<OAuthApp> {
        let AppFile { client_id, client_secret } = self.0.get(connector)?;
        Some(OAuthApp { client_id: client_id.clone(), client_secret: client_secret.clone(), own: false })
    }

    /// The connectors that have one.
    pub fn connectors(&self) -> impl Iterator<Item = &Slug> {
        self.0.keys()
    }
}

impl fmt::Debug for OAuthApps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// What is wrong with a client's id or secret; it goes into headers and forms.
pub(super) fn text_problem(text: &str) -> Option<String> {
    let is_good = (1..=LONGEST).contains(&text.len()) && text.trim() == text && !text.chars().any(char::is_control);
    (!is_good).then(|| format!("is 1 to {LONGEST} bytes, without control characters and blanks around it"))
}

fn parse(content: &[u8], known: &[&str]) -> Result<OAuthApps, String> {
    let file: BTreeMap<String, AppFile> = serde_json::from_slice(content).map_err(|error| explain(&error))?;
    let mut apps = BTreeMap::new();
    for (name, app) in file {
        let slug: Slug = name.parse().ok().filter(|_| known.contains(&name.as_str())).ok_or_else(|| {
            let name: String = name.chars().take(64).filter(|c| !c.is_control()).collect();
            format!("names the connector `{name}`, which there is not; there are: {}", known.join(", "))
        })?;
        for (member, text) in [("client_id", app.client_id.as_str()), ("client_secret", app.client_secret.expose())] {
            if let Some(problem) = text_problem(text) {
                return Err(format!("has a `{member}` for `{slug}` that is not one: it {problem}"));
            }
        }
        apps.insert(slug, app);
    }
    Ok(OAuthApps(apps))
}

/// Says what is wrong with the form, never with the content's own words: they could be a secret.
fn explain(error: &serde_json::Error) -> String {
    const FORM: &str = r#"{"<connector>": {"client_id": "…", "client_secret": "…"}}"#;
    let text = error.to_string();
    let what = match error.classify() {
        serde_json::error::Category::Data if text.starts_with("unknown field `") => "has a member that is not known",
        serde_json::error::Category::Data => "is JSON, but not of its form",
        _ => "is not JSON",
    };
    format!("{what} (line {}, column {}); its form is {FORM}", error.line(), error.column())
}
