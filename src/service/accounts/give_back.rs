//! What a vendor granted is given back when the account is deleted, or when it is not linked after all (RFC 7009): nobody could use
//! it any more, but it would live on at the vendor.

use std::{sync::Arc, time::Duration};

use futures_util::{FutureExt, future::BoxFuture};
use tokio::time::sleep;

use super::{Accounts, verify::Verified};
use crate::{
    connector::ACCESS_TOKEN,
    model::{Account, AccountStatus, Clock, Secret, Tasks},
    upstream::{Access, Failure, Upstream},
};

/// Pauses before the vendor is asked again. In memory alone, and over within two minutes, even where each try waits for its
/// answer as long as it may: what is deleted is neither stored anew nor kept at hand.
const PAUSES: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(5), Duration::from_secs(15)];

/// A token on its way back.
struct GivingBack {
    granted: Arc<Access>,
    token: Secret,
    upstream: Arc<Upstream>,
    clock: Arc<dyn Clock>,
    tasks: Tasks,
}

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

    /// Gives back what the vendor granted for a link that did not come about. Many vendors end with it all that the same customer
    /// granted the same client: where that is what an account of this id works with, it stays.
    pub(super) async fn give_unused_back(&self, granted: Arc<Access>) {
        match self.records.get(granted.account).await {
            Ok(Some((account, _))) if account.status == AccountStatus::Active => {}
            Ok(_) => self.give_all_back(granted),
            Err(error) => {
                tracing::warn!(account = %granted.account, %error, "a grant that nobody uses is left to end at the vendor")
            }
        }
    }

    /// Gives back what a customer has just agreed to and the store did not take, beside the call. Where it is not known whether the
    /// store took it, that is found out first.
    pub(super) fn give_back_unless_kept(self: &Arc<Self>, verified: &Verified) {
        let Some(token) = &verified.token else { return };
        let (this, granted, sealed) = (Arc::clone(self), Arc::clone(&verified.access), token.sealed.clone());
        self.opened.tasks.spawn(async move {
            let account = granted.account;
            for pause in PAUSES {
                match this.records.token(account).await {
                    Ok(Some((kept, _))) if kept == sealed => return,
                    Ok(_) => return this.give_unused_back(granted).await,
                    Err(_) => sleep(pause).await,
                }
            }
            tracing::warn!(%account, "the store does not say whether it keeps a new grant; it was not given back");
        });
    }

    /// Gives a token back beside the call; a vendor that cannot be reached is asked again a few times. Nobody uses it whatever it
    /// says.
    pub(super) fn give_back(&self, granted: Arc<Access>, token: Secret) {
        let (upstream, clock, tasks) = (Arc::clone(&self.upstream), Arc::clone(&self.clock), self.opened.tasks.clone());
        let giving = GivingBack { granted, token, upstream, clock, tasks };
        self.opened.tasks.spawn(giving.attempt(0));
    }
}

impl GivingBack {
    /// One try, and the next after a pause.
    fn attempt(self, number: usize) -> BoxFuture<'static, ()> {
        async move {
            let Err(error) = self.upstream.revoke(&self.granted, &self.token, self.clock.now()).await else { return };
            let is_final = matches!(error, Failure::BadAnswer(_) | Failure::Egress(_) | Failure::Distrusted { .. });
            if let Some(pause) = PAUSES.get(number).filter(|_| !is_final) {
                return self.tasks.clone().spawn_later(*pause, self.attempt(number + 1));
            }
            let (account, connector) = (self.granted.account, &self.granted.connector.slug);
            tracing::warn!(%account, %connector, %error, "the vendor did not take back a token that nobody uses");
        }
        .boxed()
    }
}
