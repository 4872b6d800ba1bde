//! Who is held to be down is asked once in an interval instead of at every call.

use std::{
    sync::{
        LazyLock, Mutex,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use metrics::Unit;

use super::lock;
use crate::model::Slug;

/// Failures in a row after which calls are held back.
pub const THRESHOLD: u32 = 20;
/// How often somebody may find out whether calls would pass again.
pub const INTERVAL: Duration = Duration::from_secs(5);

const CHANGES: &str = "rollcall_vendor_circuit_changes_total";
const OPEN: &str = "rollcall_vendor_circuits_open";

/// Tells operators what the numbers are.
pub(super) fn describe() {
    metrics::describe_counter!(CHANGES, Unit::Count, "Accounts and hosts whose calls were held back, or pass again.");
    metrics::describe_gauge!(OPEN, Unit::Count, "Accounts and hosts whose calls are held back because the vendor fails.");
}

/// Shows operators that nothing changed yet at this connector's vendor.
pub(super) fn announce(connector: &Slug) {
    for of in ["account", "host"] {
        for to in ["open", "closed"] {
            metrics::counter!(CHANGES, "connector" => connector.to_string(), "of" => of, "to" => to).increment(0);
        }
        metrics::gauge!(OPEN, "connector" => connector.to_string(), "of" => of).increment(0.0);
    }
}

/// Counts a change; `of` is `account` or `host`.
pub(super) fn count(connector: &Slug, of: &'static str, opened: bool) {
    let connector = connector.to_string();
    let to = if opened { "open" } else { "closed" };
    metrics::counter!(CHANGES, "connector" => connector.clone(), "of" => of, "to" => to).increment(1);
    metrics::gauge!(OPEN, "connector" => connector, "of" => of).increment(if opened { 1.0 } else { -1.0 });
}

/// Counts failures in a row. Closed it costs one load before a call and one after it.
#[derive(Default)]
pub(super) struct Breaker {
    streak: AtomicU32,
    /// One bit for each account that failed since the last success, by a hash.
    marks: AtomicU64,
    /// Bits needed to open.
    witnesses: u32,
    /// When the next call may find out, in ms of this process; 0 while closed.
    until: AtomicU64,
    why: Mutex<Option<String>>,
}

impl Breaker {
    /// Opens when calls of so many accounts have failed.
    pub(super) fn new(witnesses: u32) -> Self {
        Self { witnesses, ..Self::default() }
    }

    pub(super) fn is_open(&self) -> bool {
        self.until.load(Ordering::Relaxed) != 0
    }

    /// How long until somebody may find out; zero when closed, or now.
    pub(super) fn wait(&self) -> Duration {
        match self.until.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            until => Duration::from_millis(until.saturating_sub(now())),
        }
    }

    /// Whether the call that asks may be made: always when closed, once an interval when open.
    pub(super) fn probe(&self) -> bool {
        let (until, now) = (self.until.load(Ordering::Relaxed), now());
        if until == 0 {
            return true;
        }
        let next = now + INTERVAL.as_millis() as u64;
        now >= until && self.until.compare_exchange(until, next, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// What failed last.
    pub(super) fn why(&self) -> Option<String> {
        if self.is_open() { lock(&self.why).clone() } else { None }
    }

    /// Whether this closed it.
    pub(super) fn succeeded(&self) -> bool {
        if self.streak.load(Ordering::Relaxed) == 0 {
            return false;
        }
        self.streak.store(0, Ordering::Relaxed);
        self.marks.store(0, Ordering::Relaxed);
        self.until.swap(0, Ordering::AcqRel) != 0
    }

    /// Whether this opened it.
    pub(super) fn failed(&self, mark: u64, why: &str) -> bool {
        let streak = self.streak.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        let mark = 1 << (mark % 64);
        let marks = self.marks.fetch_or(mark, Ordering::Relaxed) | mark;
        if streak < THRESHOLD || marks.count_ones() < self.witnesses {
            return false;
        }
        *lock(&self.why) = Some(why.to_owned());
        let until = now() + INTERVAL.as_millis() as u64;
        self.until.compare_exchange(0, until, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }
}

/// Milliseconds of this process, never 0.
fn now() -> u64 {
    static BEGUN: LazyLock<Instant> = LazyLock::new(Instant::now);
    u64::try_from(BEGUN.elapsed().as_millis()).unwrap_or(u64::MAX - 1) + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_opens_at_the_threshold_and_lets_one_call_through_an_interval() {
        let breaker = Breaker::new(1);
        for n in 1..THRESHOLD {
            assert!(!breaker.failed(7, "gone") && !breaker.is_open(), "{n}");
        }
        assert!(breaker.failed(7, "gone") && breaker.is_open());
        assert!(!breaker.failed(7, "still gone"), "it opens once");
        assert_eq!(breaker.why().as_deref(), Some("still gone"));
        assert!(!breaker.probe() && breaker.wait() > INTERVAL / 2);
        breaker.until.store(1, Ordering::Relaxed);
        assert!(breaker.wait().is_zero());
        assert_eq!((0..10).filter(|_| breaker.probe()).count(), 1, "one probe");
        assert!(breaker.succeeded() && !breaker.is_open() && breaker.probe());
        assert!(!breaker.succeeded(), "it closes once");
    }

    #[test]
    fn a_success_in_between_begins_anew() {
        let breaker = Breaker::new(1);
        for _ in 0..1_000 {
            (1..THRESHOLD).for_each(|_| assert!(!breaker.failed(1, "")));
            assert!(!breaker.succeeded());
        }
    }

    #[test]
    fn one_account_does_not_speak_for_a_host() {
        let host = Breaker::new(2);
        (0..100).for_each(|_| assert!(!host.failed(1, "")));
        assert!(host.failed(2, ""));
    }
}
