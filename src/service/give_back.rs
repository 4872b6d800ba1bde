//! What a vendor granted is given back when the account is deleted (RFC 7009): nobody could use it any more, but it would live on
//! at the vendor.

use std::sync::Arc;

use super::accounts::Accounts;
use crate::{connector::ACCESS_TOKEN, model::Account, upstream::Access};

impl Accounts {
    /// The credential, if there is something in it that the vendor takes back. One that does not open is not in the way.
    pub(super) async fn granted_by_vendor(&self, account: &Account) -> Option<Arc<Access>> {
        let connector = self.connector_of(account).ok()?;
        connector.method(&account.method)?.token.as_ref()?.revoke.as_ref()?;
        let linked = self.load(account.environment, &account.id.to_string(), None).await.ok()?;
        linked.access.token_urls.as_ref()?.revoke.as_ref()?;
        Some(Arc::clone(&linked.access))
    }

    /// Gives it back beside the call, once: the account is gone whatever the vendor says.
    pub(super) fn give_back(&self, granted: Arc<Access>) {
        let (upstream, now) = (Arc::clone(&self.upstream), self.clock.now());
        self.opened.tasks.spawn(async move {
            // With the refresh token the access tokens of its grant go, too (RFC 7009 §2.1).
            let token = granted.refresh_token().or_else(|| granted.secrets.get(ACCESS_TOKEN));
            let Some(token) = token else { return };
            if let Err(error) = upstream.revoke(&granted, token, now).await {
                let (account, connector) = (granted.account, &granted.connector.slug);
                tracing::warn!(%account, %connector, %error, "the vendor did not take a deleted account's token back");
            }
        });
    }
}
