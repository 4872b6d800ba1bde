//! The client that a credential's tokens are got as, where it is an OAuth app of the operator's or the environment's.

use super::accounts::Accounts;
use crate::{
    connector::LinkMethod,
    error::{Code, Error, Result},
    model::Slug,
    upstream::Access,
};

impl Accounts {
    /// The credential with its connector's app, where it needs one.
    pub(super) async fn with_app(&self, access: Access) -> Result<Access> {
        if !access.method.needs_oauth_app() {
            return Ok(access);
        }
        let app = self.installs.oauth_app(access.environment, &access.connector.slug).await?;
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
