//! How much is under way: what bounds it, and what is waited for before the end.
//!
//! Each worker counts alone, in a place that only it writes, so that a request pays for two plain stores. Beyond its share it takes
//! what the others leave: clients keep their connections, and those of a client may all be with one worker.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use metrics::Unit;

/// How often the end looks whether it has become quiet.
const LOOK: Duration = Duration::from_millis(50);
/// What part of the bound operators have beyond it, so that what is too much can be looked at and stopped.
const RESERVE: usize = 8;
/// No request for so long is quiet: load balancers have looked at `/readyz` by then.
const QUIET: Duration = Duration::from_secs(1);

const SHED: &str = "rollcall_http_requests_shed_total";
const IN_FLIGHT: &str = "rollcall_http_requests_in_flight";

/// What is under way in all workers.
#[derive(Debug)]
pub struct Flows(Arc<Shared>);

/// What every worker sees.
#[derive(Debug)]
struct Shared {
    most: usize,
    /// What a worker takes without a look at the others.
    share: usize,
    draining: AtomicBool,
    /// Requests that workers took beyond their shares. As long as there are none, nobody looks at the others.
    borrowed: AtomicUsize,
    workers: Mutex<Vec<Weak<Flow>>>,
}

impl Shared {
    fn workers(&self) -> MutexGuard<'_, Vec<Weak<Flow>>> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn in_flight(&self) -> usize {
        self.workers().iter().filter_map(Weak::upgrade).map(|flow| flow.now.load(Relaxed)).sum()
    }
}

impl Default for Flows {
    fn default() -> Self {
        Self::bounded(usize::MAX, 1)
    }
}

impl Flows {
    /// At most so many requests at once in so many workers.
    pub fn bounded(most: usize, workers: usize) -> Self {
        metrics::describe_counter!(SHED, Unit::Count, "Requests refused at once because as many as may were under way.");
        metrics::describe_gauge!(IN_FLIGHT, Unit::Count, "Requests under way at this moment, in all workers.");
        metrics::counter!(SHED).increment(0);
        let most = most.max(1);
        Self(Arc::new(Shared {
            most,
            share: most.div_ceil(workers.max(1)),
            draining: AtomicBool::default(),
            borrowed: AtomicUsize::default(),
            workers: Mutex::default(),
        }))
    }

    /// One more worker.
    pub fn worker(&self) -> Arc<Flow> {
        let shared = Arc::clone(&self.0);
        let flow = Arc::new(Flow { shared, now: AtomicUsize::new(0), begun: AtomicU64::new(0) });
        self.0.workers().push(Arc::downgrade(&flow));
        flow
    }

    /// From now on every answer ends its connection.
    pub fn drain(&self) {
        self.0.draining.store(true, Relaxed);
    }

    /// Requests under way.
    pub fn in_flight(&self) -> usize {
        self.0.in_flight()
    }

    /// Shows operators how many are under way.
    pub fn show(&self) {
        metrics::gauge!(IN_FLIGHT).set(self.in_flight() as f64);
    }

    /// Waits until no requests come any more, at most so long. Probes do not count.
    pub async fn quiet(&self, at_most: Duration) {
        let end = Instant::now() + at_most;
        // Nobody who never asked has to notice the end.
        let (mut begun, mut since) = (self.begun(), Instant::now());
        while begun > 0 && since.elapsed() < QUIET && Instant::now() < end {
            tokio::time::sleep(LOOK).await;
            if self.begun() != begun {
                (begun, since) = (self.begun(), Instant::now());
            }
        }
    }

    /// Requests that began so far.
    fn begun(&self) -> u64 {
        self.0.workers().iter().filter_map(Weak::upgrade).map(|flow| flow.begun.load(Relaxed)).sum()
    }
}

/// What is under way in one worker; written by its own thread alone.
#[derive(Debug)]
pub struct Flow {
    shared: Arc<Shared>,
    now: AtomicUsize,
    begun: AtomicU64,
}

impl Flow {
    /// Whether as many are under way as may, of requests that are an operator's or not.
    pub fn is_full(&self, is_operators: bool) -> bool {
        let Shared { most, share, borrowed, .. } = &*self.shared;
        let has_room = self.now.load(Relaxed) < *share && borrowed.load(Relaxed) == 0;
        let reserve = if is_operators { most.div_ceil(RESERVE) } else { 0 };
        !has_room && self.shared.in_flight() >= most.saturating_add(reserve)
    }

    /// Whether connections end with their next answer.
    pub fn is_draining(&self) -> bool {
        self.shared.draining.load(Relaxed)
    }

    /// A request begins; `counts` unless it is a probe.
    pub fn enter(&self, counts: bool) {
        let now = self.now.load(Relaxed);
        self.now.store(now + 1, Relaxed);
        if now >= self.shared.share {
            self.shared.borrowed.fetch_add(1, Relaxed);
        }
        if counts {
            self.begun.store(self.begun.load(Relaxed) + 1, Relaxed);
        }
    }

    /// The last byte of its answer is gone, or its connection.
    pub fn leave(&self) {
        let now = self.now.load(Relaxed);
        self.now.store(now.saturating_sub(1), Relaxed);
        if now > self.shared.share {
            self.shared.borrowed.fetch_sub(1, Relaxed);
        }
    }
}

/// Counts a request that was refused at once.
pub fn count_shed() {
    metrics::counter!(SHED).increment(1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_share_the_bound() {
        let flows = Flows::bounded(4, 2);
        let (one, other) = (flows.worker(), flows.worker());
        for _ in 0..3 {
            assert!(!one.is_full(false));
            one.enter(true);
        }
        assert!(!one.is_full(false) && !other.is_full(false), "one place is left, whoever takes it");
        other.enter(true);
        assert!(one.is_full(false) && other.is_full(false));
        assert_eq!(flows.in_flight(), 4);
        assert!(!one.is_full(true), "an operator gets in");
        one.enter(true);
        assert!(one.is_full(true) && other.is_full(true), "but not any number of them");
        one.leave();
        one.leave();
        assert!(!one.is_full(false) && !other.is_full(false));
        one.leave();
        other.enter(true);
        other.enter(true);
        assert!(one.is_full(false) && other.is_full(false));
        for worker in [&one, &other, &other, &other] {
            worker.leave();
        }
        assert_eq!((flows.in_flight(), flows.0.borrowed.load(Relaxed)), (0, 0));
    }

    #[tokio::test]
    async fn it_is_quiet_a_second_after_the_last_request() {
        let flows = Flows::default();
        let worker = flows.worker();
        worker.enter(false);
        let begun = Instant::now();
        flows.quiet(Duration::from_secs(60)).await;
        assert!(begun.elapsed() < Duration::from_millis(500), "probes are no requests");
    }
}
