//! The exclusive lock of one service: the company its session is in belongs to the process there, not to a caller.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep, timeout};

use super::Times;
use crate::{
    store::{Hold, Key, Slot, Store},
    upstream::{Access, Failure},
    vault::{fingerprint, hex},
};

/// A held lock.
pub(super) struct Lock {
    store: Arc<dyn Store>,
    hold: Hold,
    life: Duration,
}

/// The lock of the service at this address: the same for every account, environment and node that uses it.
pub(super) fn key(base: &url::Url) -> Key {
    let digest = fingerprint(base.as_str().trim_end_matches('/').as_bytes());
    Key { slot: Slot::new(format!("service-{}", hex(&digest[..16]))), name: "lock".into() }
}

impl Lock {
    /// Waits for the lock, not longer than `times` says.
    pub async fn take(store: &Arc<dyn Store>, access: &Access, times: Times) -> Result<Lock, Failure> {
        let key = key(&access.base);
        let end = Instant::now() + times.lock_wait;
        let mut pause = Duration::from_millis(20);
        loop {
            if let Some(hold) = store.hold(&key, times.lock_life).await? {
                return Ok(Lock { store: Arc::clone(store), hold, life: times.lock_life });
            }
            if Instant::now() + pause >= end {
                return Err(Failure::Busy(
                    "the Commander service is working for somebody else; it does one thing at a time".into(),
                ));
            }
            sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(500));
        }
    }

    /// Does the work while the lock is renewed; ends the work when the lock is lost.
    pub async fn during<T>(&self, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        tokio::select! {
            done = work => done,
            lost = self.keep() => Err(lost),
        }
    }

    /// Gives the lock back. What cannot be given back ends by itself.
    pub async fn release(self) {
        if let Err(error) = self.store.release(&self.hold).await {
            tracing::warn!(%error, "a service lock could not be released; it ends by itself");
        }
    }

    async fn keep(&self) -> Failure {
        let mut good = Instant::now();
        loop {
            sleep(self.life / 3).await;
            let problem = match timeout(self.life / 3, self.store.renew(&self.hold, self.life)).await {
                Ok(Ok(true)) => {
                    good = Instant::now();
                    continue;
                }
                Ok(Ok(false)) => return Failure::ContextChanged("the lock of the Commander service was lost in mid-work".into()),
                Ok(Err(error)) => Failure::Store(error),
                Err(_) => Failure::Busy("the store did not renew the lock of the Commander service in time".into()),
            };
            if good.elapsed() + self.life / 3 >= self.life {
                return problem;
            }
        }
    }
}
