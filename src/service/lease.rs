//! Work that one node does at a time, under a lock that outlives whoever was lost with it by little.

use std::{pin::pin, time::Duration};

use futures_util::future::{Either, select};

/// How long a lock is held after the node that has it was lost.
pub(super) const LEASE: Duration = Duration::from_secs(15);
/// How often running work says that it still runs.
const RENEWAL: Duration = Duration::from_secs(5);

/// Works, and prolongs the lease all the while. One that ended all the same is found out when something is kept under its fence.
pub(super) async fn keep_holding<T, R: Future>(renew: impl Fn() -> R, work: impl Future<Output = T>) -> T {
    let renewals = async {
        loop {
            tokio::time::sleep(RENEWAL).await;
            let _ = renew().await;
        }
    };
    match select(pin!(work), pin!(renewals)).await {
        Either::Left((outcome, _)) => outcome,
        Either::Right(((), work)) => work.await,
    }
}
