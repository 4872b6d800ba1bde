//! What the vendor's side of one request came to, noted on the way for the request's line in the log.

use std::{
    future::Future,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use super::VendorLimit;

tokio::task_local! {
    static CURRENT: Arc<Trace>;
}

/// The sums of one request. Outside a request nothing is noted.
#[derive(Debug, Default)]
pub struct Trace {
    status: AtomicU32,
    calls: AtomicU32,
    pages: AtomicU32,
    micros: AtomicU64,
    limit: Mutex<Option<VendorLimit>>,
}

impl Trace {
    /// Notes for this trace whatever the work does, also in tasks that [`super::Tasks`] finishes for it.
    pub async fn within<F: Future>(self: Arc<Self>, work: F) -> F::Output {
        CURRENT.scope(self, work).await
    }

    /// The same for a step that does not wait.
    pub fn step<T>(self: &Arc<Self>, work: impl FnOnce() -> T) -> T {
        CURRENT.sync_scope(Arc::clone(self), work)
    }

    /// The trace of the request this task works for.
    pub fn current() -> Option<Arc<Trace>> {
        CURRENT.try_with(Arc::clone).ok()
    }

    /// The vendor answered, or did not, after this time.
    pub fn vendor(status: Option<u16>, took: Duration) {
        let _ = CURRENT.try_with(|trace| {
            trace.calls.fetch_add(1, Ordering::Relaxed);
            trace.micros.fetch_add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
            trace.status.store(status.map_or(0, u32::from), Ordering::Relaxed);
        });
    }

    /// The vendor said what is left of its limit.
    pub fn limited(limit: VendorLimit) {
        let _ = CURRENT.try_with(|trace| *trace.limit.lock().unwrap_or_else(PoisonError::into_inner) = Some(limit));
    }

    /// What the vendor said last of its limit.
    pub fn vendor_limit(&self) -> Option<VendorLimit> {
        *self.limit.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A page of a vendor's list was read.
    pub fn page() {
        let _ = CURRENT.try_with(|trace| trace.pages.fetch_add(1, Ordering::Relaxed));
    }

    /// The status of the vendor's last answer.
    pub fn vendor_status(&self) -> Option<u16> {
        u16::try_from(self.status.load(Ordering::Relaxed)).ok().filter(|status| *status > 0)
    }

    /// How long the vendor took in all; nothing when it was not asked.
    pub fn vendor_took(&self) -> Option<Duration> {
        let asked = self.calls.load(Ordering::Relaxed) > 0;
        asked.then(|| Duration::from_micros(self.micros.load(Ordering::Relaxed)))
    }

    /// How many pages of vendors' lists were read.
    pub fn pages(&self) -> u32 {
        self.pages.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Tasks;

    #[tokio::test]
    async fn what_a_request_has_done_for_it_counts_for_it_alone() {
        let (one, other) = (Arc::new(Trace::default()), Arc::new(Trace::default()));
        let asks = |status: u16| async move {
            Trace::page();
            Tasks::default().finish(async move { Trace::vendor(Some(status), Duration::from_millis(2)) }).await
        };
        one.clone().within(async { asks(500).await.and(asks(404).await) }).await.unwrap();
        asks(200).await.unwrap();
        other.step(Trace::page);
        assert_eq!((one.vendor_status(), one.vendor_took(), one.pages()), (Some(404), Some(Duration::from_millis(4)), 2));
        assert_eq!((other.vendor_status(), other.vendor_took(), other.pages()), (None, None, 1));
    }
}
