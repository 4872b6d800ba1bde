//! What a vendor granted is given back when the account is deleted (RFC 7009): nobody could use it any more, but it would live on
//! at the vendor.

use std::sync::Arc;

use super::accounts::Accounts;
use crate::{
    connector::ACCESS_TOKEN,
    model::{Account, Secret},
    upstream::Access,
};

impl Accounts {
    /// The credential, if there is something in it that the vendor takes back, whether its connector is in use or not. One that
    /// does not open is not in the way.
    pub(super) async fn granted_by_vendor(&self, account: &Account, version: u64) -> Option<Arc<Access>> {
        let connector = self.connector_of(account).ok()?;
        connector.method(&account.method)?.token.as_ref()?.revoke.as_ref()?;
        let linked = self.decode(account.clone(), version, connector).await.ok()?;
        linked.access.token_urls.as_ref()?.revoke.as_ref()?;
        Some(linked.access)
    }

    /// Gives back the newest that an account which is gone had.
    pub(super) fn give_all_back(&self, granted: Arc<Access>) {
        // With the refresh token the access tokens of its grant go, too (RFC 7009 §2.1).
        if let Some(newest) = granted.refresh_token().or_else(|| granted.secrets.get(ACCESS_TOKEN)).cloned() {
            self.give_back(granted, newest);
        }
    }

    /// Gives a token back beside the call, once: the account is gone whatever the vendor says.
    pub(super) fn give_back(&self, granted: Arc<Access>, token: Secret) {
        let (upstream, now) = (Arc::clone(&self.upstream), self.clock.now());
        self.opened.tasks.spawn(async move {
            if let Err(error) = upstream.revoke(&granted, &token, now).await {
                let (account, connector) = (granted.account, &granted.connector.slug);
                tracing::warn!(%account, %connector, %error, "the vendor did not take a deleted account's token back");
            }
        });
    }
}
