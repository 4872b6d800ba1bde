//! Retries are at most a tenth of the requests to a host.

use std::sync::atomic::{AtomicI64, Ordering};

/// Each retry is paid with this many tenths of a request.
const PRICE: i64 = 10;
/// A host may save up for ten, and begins with them.
const MOST: i64 = 100;

/// What a host's requests saved up for retries.
pub(super) struct Budget(AtomicI64);

impl Default for Budget {
    fn default() -> Self {
        Self(AtomicI64::new(MOST))
    }
}

impl Budget {
    pub(super) fn earn(&self) {
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |saved| (saved < MOST).then_some(saved + 1));
    }

    pub(super) fn spend(&self) -> bool {
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |saved| (saved >= PRICE).then_some(saved - PRICE)).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_its_savings_a_host_gets_one_retry_for_ten_requests() {
        let budget = Budget::default();
        let tried = |requests: usize| {
            (0..requests)
                .filter(|_| {
                    budget.earn();
                    budget.spend()
                })
                .count()
        };
        assert_eq!((0..20).filter(|_| budget.spend()).count(), 10);
        assert_eq!(tried(1_000), 100);
    }
}
