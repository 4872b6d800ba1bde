//! Link methods whose credential comes by way of the vendor's own pages.

use url::Url;

use super::NewAccount;
use crate::{
    error::{Code, Error, Result},
    model::{Account, EnvironmentId, Secret, Warning},
};

/// Browsers on their way to vendors and back.
#[derive(Default)]
pub struct Authorizations {}

/// What a browser is sent to a vendor for. May hold secrets, therefore no `Debug`.
pub struct AuthorizeAsk {
    /// The wall.
    pub environment: EnvironmentId,
    /// The link it is for, handed back at the end.
    pub link: String,
    /// The account to be: fields, context, and its id.
    pub new: NewAccount,
    /// In place of the connector's own.
    pub scopes: Option<Vec<String>>,
}

/// Where the browser goes, and the secret that binds it: a cookie of its own, for 10 minutes.
pub struct Begun {
    /// The vendor's page.
    pub url: Url,
    /// What the browser must show when it comes back.
    pub binding: Secret,
}

/// What came back.
pub struct Finished {
    /// The link it was for.
    pub link: String,
    /// The account, or why there is none.
    pub outcome: Result<(Account, Vec<Warning>)>,
}

impl Authorizations {
    /// Prepares the way to the vendor's page.
    pub async fn begin(&self, ask: AuthorizeAsk) -> Result<Begun> {
        Err(not_offered(&ask.new.integration))
    }

    /// Takes what the vendor sent back: state, code, iss, error, error_description, as they were given.
    pub async fn finish(&self, connector: &str, _query: Vec<(String, String)>, _binding: Option<&str>) -> Result<Finished> {
        Err(not_offered(connector))
    }
}

fn not_offered(connector: &str) -> Error {
    let name: String = connector.chars().take(64).collect();
    Error::new(Code::MethodNotSupported, format!("No link method of `{name}` leads through the vendor's own pages."))
}
