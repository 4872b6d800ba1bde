//! Locks and rate buckets of the one process that has the file open: memory is enough, since they cannot outlive it.

use std::{collections::HashMap, time::Duration};

use super::apply::micros;
use crate::store::{Hold, Key, Spent};

const MANY: usize = 4096;

/// The locks now held. Fencing numbers start above those of every earlier opening of the file.
pub(super) struct Locks {
    held: HashMap<Key, (Hold, u64)>,
    last: u64,
}

impl Locks {
    pub fn new(epoch: u64) -> Self {
        Self { held: HashMap::new(), last: epoch << 32 }
    }

    pub fn hold(&mut self, key: &Key, ttl: Duration, now: u64) -> Option<Hold> {
        if self.held.get(key).is_some_and(|(_, expiry)| *expiry > now) {
            return None;
        }
        if self.held.len() >= MANY {
            self.held.retain(|_, (_, expiry)| *expiry > now);
        }
        self.last += 1;
        let hold = Hold { key: key.clone(), owner: super::random(), fence: self.last };
        self.held.insert(key.clone(), (hold.clone(), now.saturating_add(micros(ttl))));
        Some(hold)
    }

    pub fn is_held(&self, hold: &Hold, now: u64) -> bool {
        self.held.get(&hold.key).is_some_and(|(held, expiry)| held == hold && *expiry > now)
    }

    pub fn renew(&mut self, hold: &Hold, ttl: Duration, now: u64) -> bool {
        let ours = self.is_held(hold, now);
        if ours {
            self.held.insert(hold.key.clone(), (hold.clone(), now.saturating_add(micros(ttl))));
        }
        ours
    }

    pub fn release(&mut self, hold: &Hold, now: u64) {
        if self.is_held(hold, now) {
            self.held.remove(&hold.key);
        }
    }
}

/// Rate buckets, each one number: the time at which it will be full again.
#[derive(Default)]
pub(super) struct Buckets(HashMap<Key, u64>);

impl Buckets {
    pub fn spend(&mut self, bucket: &Key, capacity: u32, period: Duration, now: u64) -> Spent {
        if capacity == 0 {
            return Spent { allowed: false, remaining: 0, wait: period };
        }
        if self.0.len() >= MANY {
            self.0.retain(|_, full| *full > now);
        }
        let step = (micros(period) / u64::from(capacity)).max(1);
        let span = step.saturating_mul(u64::from(capacity));
        let full = self.0.get(bucket).copied().unwrap_or(now).max(now) + step;
        if full - now > span {
            return Spent { allowed: false, remaining: 0, wait: Duration::from_micros(full - now - span) };
        }
        self.0.insert(bucket.clone(), full);
        let remaining = u32::try_from((span - (full - now)) / step).unwrap_or(u32::MAX);
        Spent { allowed: true, remaining, wait: Duration::ZERO }
    }
}
