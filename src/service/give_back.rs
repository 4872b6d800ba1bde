//! What a vendor granted is given back when the account is deleted (RFC 7009): nobody could use it any more, but it would live on
//! at the vendor.

use std::{sync::Arc, time::Duration};

use futures_util::{FutureExt, future::BoxFuture};

use super::accounts::Accounts;
use crate::{
    connector::ACCESS_TOKEN,
    model::{Account, Clock, Tasks},
    upstream::{Access, Failure, Upstream},
};

/// Pauses before the vendor is asked again. In memory alone, and over within half a minute: what is deleted is neither stored
/// anew nor kept at hand.
const PAUSES: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(5), Duration::from_secs(15)];

/// A credential on its way back.
struct GivingBack {
    granted: Arc<Access>,
    upstream: Arc<Upstream>,
    clock: Arc<dyn Clock>,
    tasks: Tasks,
}

impl Accounts {
    /// The credential, if there is something in it that the vendor takes back. One that does not open is not in the way.
    pub(super) async fn granted_by_vendor(&self, account: &Account) -> Option<Arc<Access>> {
        let connector = self.connector_of(account).ok()?;
        connector.method(&account.method)?.token.as_ref()?.revoke.as_ref()?;
        let linked = self.load(account.environment, &account.id.to_string(), None).await.ok()?;
        linked.access.token_urls.as_ref()?.revoke.as_ref()?;
        Some(Arc::clone(&linked.access))
    }

    /// Gives it back beside the call; a vendor that cannot be reached is asked again a few times. The account is gone whatever it
    /// says.
    pub(super) fn give_back(&self, granted: Arc<Access>) {
        let (upstream, clock, tasks) = (Arc::clone(&self.upstream), Arc::clone(&self.clock), self.opened.tasks.clone());
        let giving = GivingBack { granted, upstream, clock, tasks };
        self.opened.tasks.spawn(giving.attempt(0));
    }
}

impl GivingBack {
    /// One try, and the next after a pause.
    fn attempt(self, number: usize) -> BoxFuture<'static, ()> {
        async move {
            // With the refresh token the access tokens of its grant go, too (RFC 7009 §2.1).
            let token = self.granted.refresh_token().or_else(|| self.granted.secrets.get(ACCESS_TOKEN));
            let Some(token) = token else { return };
            let Err(error) = self.upstream.revoke(&self.granted, token, self.clock.now()).await else { return };
            let is_final = matches!(error, Failure::BadAnswer(_) | Failure::Egress(_) | Failure::Distrusted { .. });
            if let Some(pause) = PAUSES.get(number).filter(|_| !is_final) {
                return self.tasks.clone().spawn_later(*pause, self.attempt(number + 1));
            }
            let (account, connector) = (self.granted.account, &self.granted.connector.slug);
            tracing::warn!(%account, %connector, %error, "the vendor did not take a deleted account's token back");
        }
        .boxed()
    }
}
