//! How much was sealed under each account's data key, so that no key seals more than its cipher allows.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::model::{AccountId, EnvironmentId};

/// One count for all copies of an account's data key in this process.
#[derive(Default)]
pub(super) struct Seals(Mutex<HashMap<(EnvironmentId, AccountId), Arc<AtomicU64>>>);

impl Seals {
    /// The account's count.
    pub(super) fn of(&self, environment: EnvironmentId, account: AccountId) -> Arc<AtomicU64> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(counts.entry((environment, account)).or_default())
    }

    /// Counts that have grown to `at_least`, and those of keys that are gone; each begins again.
    pub(super) fn take(&self, at_least: u64) -> Vec<(EnvironmentId, AccountId, u64)> {
        let mut taken = Vec::new();
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.retain(|(environment, account), count| {
            let in_memory = Arc::strong_count(count) > 1;
            let sealed = count.load(Ordering::Relaxed);
            if sealed > 0 && (sealed >= at_least || !in_memory) {
                taken.push((*environment, *account, count.swap(0, Ordering::Relaxed)));
            }
            in_memory
        });
        taken
    }
}
