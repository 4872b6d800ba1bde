//! A vendor's own rate limit: kept to before it is felt, and divided fairly between the nodes.
//!
//! On a shared store the window is one record that every node takes its requests from, a few at a time; alone, it is in
//! memory. While a vendor says nothing about a limit nothing is counted.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use super::{
    lock,
    window::{Turn, Window},
};
use crate::{
    model::{AccountId, Clock, SystemClock},
    store::{Store, StoreError, repo::Quotas},
    upstream::{Failure, rate::Reading},
};

/// A node that knows of no limit asks the others' record this often.
const LOOK: Duration = Duration::from_secs(1);
/// The most a node takes at once.
const MOST: u64 = 32;
/// A node that is cut off from the store lives off this part of what was left.
const SHARE: u64 = 4;
/// How often a write begins again because another node was faster.
const TRIES: u32 = 16;
/// After that many a node lets others go first for a moment.
const STAND_BACK: i64 = 50;

/// One account's part of it in this process.
#[derive(Default)]
pub(super) struct Quota {
    known: AtomicBool,
    looked: tokio::sync::Mutex<Option<Instant>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The window; with a shared store as it was seen last.
    window: Window,
    /// Requests taken from the shared record and not made yet.
    leased: u64,
    /// When they lapse.
    leased_until: i64,
    /// Requests under way that were taken from no window, because none was known.
    blind: u64,
    /// Requests taken from the shared record that are over, to be told.
    settled: u64,
    /// Something was learned that the others do not know.
    news: bool,
    cut_off: bool,
}

/// A request that the vendor may have counted already, or not yet.
pub(in crate::upstream) struct UnderWay<'q> {
    quota: &'q Quota,
    from: From,
}

/// Where a request was taken from.
#[derive(Clone, Copy)]
enum From {
    Nowhere,
    Own,
    Shared,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let mut state = lock(&self.quota.state);
        match self.from {
            From::Nowhere => state.blind = state.blind.saturating_sub(1),
            From::Own => state.window.settle(1),
            From::Shared => state.settled += 1,
        }
    }
}

impl Quota {
    pub fn is_known(&self) -> bool {
        self.known.load(Ordering::Relaxed)
    }

    /// What an answer to the transparent proxy said. The next call that counts tells the others.
    pub fn overheard(&self, reading: &Reading) {
        let mut state = lock(&self.state);
        if state.learn(reading, now()) {
            state.news = true;
            self.known.store(true, Ordering::Relaxed);
        }
    }

    /// Waits for room in the vendor's window, at most so long. Without a store the window is this process's own.
    pub async fn take(&self, store: Option<&dyn Store>, account: AccountId, patience: Duration) -> Result<UnderWay<'_>, Failure> {
        let shared = store.filter(|store| store.is_shared());
        if self.is_known() || self.look(shared, account).await {
            let last = now().saturating_add(i64::try_from(patience.as_millis()).unwrap_or(i64::MAX));
            while let Turn::Wait(until) = self.turn(shared, account).await {
                if until > last {
                    return Err(Failure::Throttled { wait: until_then(until).as_secs() + 1 });
                }
                tokio::time::sleep(until_then(until)).await;
            }
            if lock(&self.state).window.is_silent(now()) {
                self.known.store(false, Ordering::Relaxed);
                return Ok(self.uncounted());
            }
            let from = if shared.is_some() { From::Shared } else { From::Own };
            return Ok(UnderWay { quota: self, from });
        }
        Ok(self.uncounted())
    }

    fn uncounted(&self) -> UnderWay<'_> {
        lock(&self.state).blind += 1;
        UnderWay { quota: self, from: From::Nowhere }
    }

    async fn turn(&self, shared: Option<&dyn Store>, account: AccountId) -> Turn {
        let leased = lock(&self.state).take_leased(now());
        match (leased, shared) {
            (Some(turn), _) => turn,
            (None, None) => lock(&self.state).window.take(1, now()),
            (None, Some(store)) => self.take_shared(store, account).await,
        }
    }

    /// Whether another node knows of a limit; asked now and then.
    async fn look(&self, shared: Option<&dyn Store>, account: AccountId) -> bool {
        let Some(store) = shared else { return false };
        // Whoever comes meanwhile waits for what the first one finds.
        let mut looked = self.looked.lock().await;
        if self.is_known() || looked.is_some_and(|looked| looked.elapsed() < LOOK) {
            return self.is_known();
        }
        *looked = Some(Instant::now());
        let Ok(Some((window, _))) = Quotas(store).get::<Window>(account).await else { return false };
        let mut state = lock(&self.state);
        state.window.merge(&window);
        let is_known = !state.window.is_silent(now());
        self.known.store(is_known, Ordering::Relaxed);
        is_known
    }

    async fn take_shared(&self, store: &dyn Store, account: AccountId) -> Turn {
        let (news, settled) = {
            let mut state = lock(&self.state);
            let news = std::mem::take(&mut state.news).then(|| state.window.clone());
            (news, std::mem::take(&mut state.settled))
        };
        let mut turn = Turn::Wait(0);
        let taken = change(store, account, |window| {
            window.settle(settled);
            if let Some(news) = &news {
                window.merge(news);
            }
            turn = window.take(MOST, now());
        })
        .await;
        let mut state = lock(&self.state);
        match taken {
            Ok(window) => {
                if let Turn::Go(taken) = turn {
                    (state.leased, state.leased_until) = (taken - 1, window.reset_at);
                }
                (state.window, state.cut_off) = (window, false);
                turn
            }
            Err(why) => {
                state.news |= news.is_some();
                state.settled += settled;
                match why {
                    StoreError::Conflict(_) => Turn::Wait(now() + STAND_BACK),
                    _ => state.take_cut_off(now()),
                }
            }
        }
    }

    /// What an answer said.
    pub async fn learn(&self, store: &dyn Store, account: AccountId, reading: &Reading) {
        let (blind, settled) = {
            let mut state = lock(&self.state);
            let changed = state.learn(reading, now());
            // The others may know less, but while there is plenty nobody needs to know more.
            if !(changed || store.is_shared() && reading.is_scarce()) {
                return;
            }
            let settled = if store.is_shared() { std::mem::take(&mut state.settled) } else { 0 };
            (state.blind, settled)
        };
        self.known.store(true, Ordering::Relaxed);
        if store.is_shared() {
            let told = change(store, account, |window| {
                window.settle(settled);
                window.learn(reading, blind, now());
            })
            .await;
            let mut state = lock(&self.state);
            match told {
                Ok(window) => state.window = window,
                Err(_) => {
                    state.news = true;
                    state.settled += settled;
                }
            }
        }
    }
}

impl State {
    fn learn(&mut self, reading: &Reading, now: i64) -> bool {
        self.give_back(reading.remaining.unwrap_or(u64::MAX));
        self.window.learn(reading, self.blind, now)
    }

    /// Keeps at most so many of the requests that were taken and not made.
    fn give_back(&mut self, keep: u64) {
        let kept = self.leased.min(keep);
        self.settled += self.leased - kept;
        self.leased = kept;
    }

    /// A request that this node has taken already.
    fn take_leased(&mut self, now: i64) -> Option<Turn> {
        if self.leased_until <= now {
            self.give_back(0);
        }
        if self.window.blocked_until > now {
            return Some(Turn::Wait(self.window.blocked_until));
        }
        if self.leased == 0 || self.news {
            return None;
        }
        self.leased -= 1;
        Some(Turn::Go(1))
    }

    /// The store is away: a part of what was left, then of every new window.
    fn take_cut_off(&mut self, now: i64) -> Turn {
        let is_new = self.window.reset_at <= now;
        if is_new {
            self.window.begin_anew(now);
        }
        if !std::mem::replace(&mut self.cut_off, true) || is_new {
            self.window.left = self.window.left.div_ceil(SHARE);
        }
        self.window.take(1, now)
    }
}

/// Changes the shared record, again while others do; gives what it is then.
async fn change(store: &dyn Store, account: AccountId, mut alter: impl FnMut(&mut Window)) -> Result<Window, StoreError> {
    let quotas = Quotas(store);
    let mut last = StoreError::Conflict("quota".into());
    for _ in 0..TRIES {
        let (mut window, version) = match quotas.get::<Window>(account).await? {
            Some((window, version)) => (window, Some(version)),
            None => (Window::default(), None),
        };
        let before = window.clone();
        alter(&mut window);
        if window == before {
            return Ok(window);
        }
        match quotas.put(account, &window, version, window.life(now())).await {
            Ok(()) => return Ok(window),
            Err(conflict @ StoreError::Conflict(_)) => last = conflict,
            Err(error) => return Err(error),
        }
    }
    Err(last)
}

fn now() -> i64 {
    SystemClock.now().as_millisecond()
}

fn until_then(until: i64) -> Duration {
    Duration::from_millis(u64::try_from(until - now()).unwrap_or(0)) + Duration::from_millis(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn after_a_pause_nothing_is_counted_until_a_vendor_speaks_of_a_limit() {
        let (quota, account) = (Quota::default(), AccountId::generate());
        quota.overheard(&Reading { retry_after: Some(1), ..Reading::default() });
        assert!(quota.is_known());
        let begun = Instant::now();
        let taken = quota.take(None, account, Duration::from_secs(5)).await.ok().unwrap();
        assert!(begun.elapsed() > Duration::from_millis(900) && !quota.is_known());
        for _ in 0..50 {
            quota.take(None, account, Duration::ZERO).await.ok().unwrap();
        }
        drop(taken);
        assert_eq!(lock(&quota.state).blind, 0);
        quota.overheard(&Reading { limit: Some(9), remaining: Some(3), reset_after: Some(60), ..Reading::default() });
        assert!(quota.is_known());
    }
}
