//! The OAuth apps that operators registered with vendors.

use futures_util::future::BoxFuture;

use super::accounts::Accounts;
use crate::{
    connector::LinkMethod,
    error::{Code, Error, Result},
    model::{EnvironmentId, Secret, Slug},
    upstream::Access,
};

/// An OAuth app: what a vendor knows this gateway by. Holds a secret, therefore no `Debug`.
#[derive(Clone)]
pub struct OAuthApp {
    /// Its id at the vendor.
    pub client_id: String,
    /// Its secret.
    pub client_secret: Secret,
}

/// Who knows the apps.
pub trait OAuthApps: Send + Sync {
    /// The app that the accounts of an environment and connector are linked by: the environment's own, else the operator's.
    fn app<'a>(&'a self, environment: EnvironmentId, connector: &'a Slug) -> BoxFuture<'a, Result<Option<OAuthApp>>>;
}

/// No apps at all.
pub struct NoApps;

impl OAuthApps for NoApps {
    fn app<'a>(&'a self, _: EnvironmentId, _: &'a Slug) -> BoxFuture<'a, Result<Option<OAuthApp>>> {
        Box::pin(async { Ok(None) })
    }
}

impl Accounts {
    /// The credential with its connector's app, where it needs one.
    pub(super) async fn with_app(&self, access: Access) -> Result<Access> {
        if !access.method.needs_oauth_app() {
            return Ok(access);
        }
        let app = self.apps.app(access.environment, &access.connector.slug).await?;
        let app = app.ok_or_else(|| missing(&access.connector.slug, &access.method))?;
        Ok(access.with_app(&app.client_id, &app.client_secret))
    }
}

fn missing(connector: &Slug, method: &LinkMethod) -> Error {
    let detail = format!(
        "`{}` of {connector} needs an OAuth app that the operator registered with the vendor, and there is none: \
         `ROLLCALL_OAUTH_APPS_FILE` names those of the gateway, the override `credentials.oauth2` of \
         `/environment-integration` one of the environment's own.",
        method.name
    );
    Error::new(Code::OauthAppMissing, detail)
}
