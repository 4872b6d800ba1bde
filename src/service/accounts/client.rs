//! The client that a credential's tokens are got as, where it is an OAuth app of the operator's or the environment's.
//!
//! What a customer agreed to for one app is worth nothing with another, and a refresh token that another app shows may be ended
//! for it. An account therefore goes on with the app it was linked with for as long as that is registered, whatever app new links
//! use; once it is gone the account says so, and keeps its tokens in case it comes back.

use super::{Accounts, grant::Granted};
use crate::{
    connector::LinkMethod,
    error::{Code, Error, Result},
    model::{Account, Slug},
    service::{Linked, OAuthApp},
    upstream::Access,
};

impl Accounts {
    /// The credential of a link that begins, with the app that links use now, where it needs one.
    pub(super) async fn with_app(&self, access: Access) -> Result<Access> {
        if !access.method.needs_oauth_app() {
            return Ok(access);
        }
        let app = self.app_now(&access).await?;
        Ok(access.with_app(&app.client_id, &app.client_secret))
    }

    /// The same for what is verified: with the app that the customer agreed to. The account remembers it.
    pub(super) async fn with_app_of(&self, account: &mut Account, grant: Option<&Granted>, access: Access) -> Result<Access> {
        let before = account.oauth_client.take();
        if !access.method.needs_oauth_app() {
            return Ok(access);
        }
        let wanted = match grant {
            Some(Granted::Code(code)) => code.app.clone(),
            Some(Granted::Kept(_) | Granted::Own(..)) => before,
            Some(Granted::Tokens(_)) | None => None,
        };
        let app = match &wanted {
            None => self.app_now(&access).await?,
            Some(id) => self.app_called(&access, id).await?.ok_or_else(changed)?,
        };
        account.oauth_client = access.method.needs_browser().then(|| app.client_id.clone());
        Ok(access.with_app(&app.client_id, &app.client_secret))
    }

    /// The same for an account as it is kept. One whose app is gone opens without: its access token may be good for a while.
    pub(super) async fn with_its_app(&self, account: &Account, access: Access) -> Result<Access> {
        if !access.method.needs_oauth_app() {
            return Ok(access);
        }
        let app = match &account.oauth_client {
            Some(id) => self.app_called(&access, id).await?,
            None => self.installs.oauth_app(access.environment, &access.connector.slug).await?,
        };
        Ok(match app {
            Some(app) => access.with_app(&app.client_id, &app.client_secret),
            None => access,
        })
    }

    /// Refuses to ask for a token without the app it is got with. A new link would not help where there is none at all.
    pub(super) async fn check_app(&self, linked: &Linked) -> Result<()> {
        let access = &linked.access;
        if !access.method.needs_oauth_app() || access.app_id().is_some() {
            return Ok(());
        }
        self.app_now(access).await?;
        Err(gone(&linked.account))
    }

    async fn app_now(&self, access: &Access) -> Result<OAuthApp> {
        let slug = &access.connector.slug;
        self.installs.oauth_app(access.environment, slug).await?.ok_or_else(|| missing(slug, &access.method))
    }

    async fn app_called(&self, access: &Access, id: &str) -> Result<Option<OAuthApp>> {
        self.installs.oauth_app_called(access.environment, &access.connector.slug, id).await
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

fn gone(account: &Account) -> Error {
    let detail = format!(
        "This account was linked with the OAuth app `{}` of {}, which is registered no more, and its tokens are good for no other: \
         register that app again, and the account goes on, or link the account anew.",
        account.oauth_client.as_deref().unwrap_or_default(),
        account.connector
    );
    Error::new(Code::ReauthRequired, detail)
}

fn changed() -> Error {
    Error::new(
        Code::AuthorizationRefused,
        "The OAuth app was taken away while the customer was at the vendor; open the link again.",
    )
}
