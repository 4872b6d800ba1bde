//! Turns at vendors for what is done without a caller: so many at once at each, so that a vendor which takes its time holds up
//! nobody's accounts but its own.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use crate::upstream::Access;

/// Turns of one kind of work at all vendors.
pub(super) struct Turns {
    at_once: usize,
    patience: Duration,
    vendors: Mutex<HashMap<String, Arc<Semaphore>>>,
}

impl Turns {
    /// So many at once at each vendor; who waits longer than this for one gets none.
    pub(super) fn new(at_once: usize, patience: Duration) -> Self {
        Self { at_once, patience, vendors: Mutex::default() }
    }

    /// A turn at the vendor of an account, given back when it is dropped; none while others take theirs for long.
    pub(super) async fn at(&self, access: &Access) -> Option<OwnedSemaphorePermit> {
        self.take(format!("{} {}", access.connector.slug, access.base.origin().ascii_serialization())).await
    }

    async fn take(&self, vendor: String) -> Option<OwnedSemaphorePermit> {
        let turn = self.turns_of(vendor).acquire_owned();
        timeout(self.patience, turn).await.ok()?.ok()
    }

    /// Vendors are known while somebody has a turn there, or waits for one.
    fn turns_of(&self, vendor: String) -> Arc<Semaphore> {
        let mut vendors = self.vendors.lock().unwrap_or_else(PoisonError::into_inner);
        vendors.retain(|_, turns| Arc::strong_count(turns) > 1);
        Arc::clone(vendors.entry(vendor).or_insert_with(|| Arc::new(Semaphore::new(self.at_once))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_vendor_that_takes_its_time_takes_none_of_anothers() {
        let turns = Turns::new(2, Duration::from_millis(20));
        let take = |vendor: &str| turns.take(vendor.to_owned());
        let (first, second) = (take("slow").await, take("slow").await);
        assert!(first.is_some() && second.is_some());
        assert!(take("slow").await.is_none(), "a third at once");
        assert!(take("quick").await.is_some());
        drop(first);
        assert!(take("slow").await.is_some(), "a turn was given back");
        drop(second);
        drop(take("other").await);
        assert_eq!(turns.vendors.lock().unwrap().len(), 1, "vendors that nobody is at are forgotten");
    }
}
