//! The operator's own limits: so many requests for each token and for each account, on all nodes together. Off by default.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use super::Caller;
use crate::{
    error::{Code, Error, Result},
    model::{AccountId, Allowance, Rate},
    store::{Spent, Store, repo::Buckets},
};

/// A node that is cut off from the store gives out this part of a limit.
const SHARE: u32 = 4;
/// Buckets kept while the store is away before full ones are looked for.
const MANY: usize = 4096;

/// Both limits.
pub struct Rates {
    buckets: Buckets,
    token: Option<Rate>,
    account: Option<Rate>,
    alone: Mutex<HashMap<String, Instant>>,
}

impl Rates {
    /// Over a store; a limit that is not given is none.
    pub fn new(store: Arc<dyn Store>, token: Option<Rate>, account: Option<Rate>) -> Self {
        Self { buckets: Buckets::new(store), token, account, alone: Mutex::default() }
    }

    /// Counts a request of a token; what is left. The administrators of the configuration have no limit, so that they always
    /// get in.
    pub async fn spend_of_token(&self, caller: &Caller) -> Result<Option<Allowance>> {
        match self.token {
            Some(rate) if !caller.token.0.is_nil() => {
                let spend = async {
                    let spent = self.buckets.of_token(caller.token, rate).await;
                    self.judge("token", format!("token:{}", caller.token), rate, spent.ok())
                };
                Box::pin(spend).await
            }
            _ => Ok(None),
        }
    }

    /// Counts a request to an account; what is left.
    pub async fn spend_of_account(&self, account: AccountId) -> Result<Option<Allowance>> {
        let Some(rate) = self.account else { return Ok(None) };
        let spend = async {
            let spent = self.buckets.of_account(account, rate).await;
            self.judge("account", format!("account:{account}"), rate, spent.ok())
        };
        Box::pin(spend).await
    }

    fn judge(&self, of: &'static str, name: String, rate: Rate, spent: Option<Spent>) -> Result<Option<Allowance>> {
        let spent = spent.unwrap_or_else(|| self.spend_alone(name, rate));
        let (limit, window) = (rate.requests, rate.period.as_secs());
        let allowance = |remaining, reset| Allowance { policy: of, limit, window, remaining, reset };
        if spent.allowed {
            let back = rate.period * limit.saturating_sub(spent.remaining) / limit.max(1);
            return Ok(Some(allowance(spent.remaining, seconds(back))));
        }
        let wait = seconds(spent.wait);
        let detail = format!("{limit} requests in {window} s are what one {of} may ask here.");
        Err(Error::new(Code::RateLimited, detail).retry_after(wait).refused(allowance(0, wait)))
    }

    /// The store is away: a share of the limit from this process's memory.
    fn spend_alone(&self, name: String, rate: Rate) -> Spent {
        let (now, capacity) = (Instant::now(), rate.requests.div_ceil(SHARE));
        let step = rate.period / capacity;
        let mut alone = self.alone.lock().unwrap_or_else(PoisonError::into_inner);
        if alone.len() >= MANY {
            alone.retain(|_, full| *full > now);
        }
        let full = alone.get(&name).copied().unwrap_or(now).max(now) + step;
        let over = full.duration_since(now).saturating_sub(rate.period);
        if !over.is_zero() {
            return Spent { allowed: false, remaining: 0, wait: over };
        }
        alone.insert(name, full);
        Spent { allowed: true, remaining: 0, wait: Duration::ZERO }
    }
}

fn seconds(wait: Duration) -> u64 {
    (wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{model::SystemClock, store::embedded::Embedded};

    fn rates(token: Option<Rate>) -> (tempfile::TempDir, Rates) {
        let folder = tempfile::tempdir().unwrap();
        let store = Embedded::open(&folder.path().join("store"), Arc::new(SystemClock)).unwrap();
        (folder, Rates::new(Arc::new(store), token, None))
    }

    #[test]
    fn a_node_that_is_cut_off_gives_out_a_share() {
        let rate = Rate { requests: 100, period: Duration::from_secs(100) };
        let (_folder, rates) = rates(Some(rate));
        let given = |name: &str| (0..200).filter(|_| rates.spend_alone(name.into(), rate).allowed).count();
        assert_eq!((given("a"), given("b")), (25, 25));
        let refused = rates.judge("token", "a".into(), rate, None).unwrap_err();
        assert_eq!((refused.code(), refused.wait_seconds()), (Code::RateLimited, Some(4)));
    }
}
