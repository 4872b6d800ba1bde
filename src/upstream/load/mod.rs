//! What hosts and accounts can bear: room for calls in flight, breakers, retries, vendors' rate limits.
//!
//! Everything of one account hangs on one handle that its [`super::Access`] keeps, so that a call of the transparent proxy
//! pays for a few atomic operations and for no look-up, lock or clock.

mod breaker;
mod budget;
mod bulkhead;
mod quota;
mod window;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use breaker::Breaker;
pub use breaker::{INTERVAL, THRESHOLD};
use budget::Budget;
use bulkhead::Bulkhead;
pub use bulkhead::Permit;
use quota::{Quota, UnderWay};

use super::{Access, Failure, rate::Reading};
use crate::{
    model::{AccountId, Slug},
    store::Store,
};

/// How long a call waits for its turn.
const TURN: Duration = Duration::from_secs(10);
/// Calls that may wait for their turn, for each that may run.
const LINE: usize = 32;
/// Calls of the transparent proxy in flight for one account, until [`Load::pass_at_most`] says otherwise.
const PASSING: usize = 512;
/// Different accounts whose calls must have failed before a host is held to be down for all of them.
const WITNESSES: u32 = 2;
/// Handles kept before unused ones are looked for.
const MANY: usize = 1024;

/// Two ways to call, each with room of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    /// Unified and proxy calls: as many as the connector says.
    Calls,
    /// The transparent proxy.
    Passing,
}

/// Every account and host that is called at the moment. One per process.
pub struct Load {
    accounts: Mutex<HashMap<AccountId, Arc<AccountLoad>>>,
    hosts: Mutex<HashMap<String, Arc<HostLoad>>>,
    passing: AtomicUsize,
    store: OnceLock<Arc<dyn Store>>,
}

impl Default for Load {
    fn default() -> Self {
        breaker::describe();
        Self { accounts: Mutex::default(), hosts: Mutex::default(), passing: AtomicUsize::new(PASSING), store: OnceLock::new() }
    }
}

impl Load {
    /// From now on accounts that are opened have so much room on the transparent proxy.
    pub fn pass_at_most(&self, in_flight: usize) {
        self.passing.store(in_flight.max(1), Ordering::Relaxed);
    }

    /// From now on the transparent proxy, too, knows what other nodes take of a vendor's limit.
    pub fn share(&self, store: Arc<dyn Store>) {
        let _ = self.store.set(store);
    }

    /// Where nodes share what they know of vendors' limits.
    pub(super) fn store(&self) -> Option<&dyn Store> {
        self.store.get().map(|store| &**store)
    }

    /// The account's part, found once for each opened account.
    pub(super) fn of<'a>(&self, access: &'a Access) -> &'a Arc<AccountLoad> {
        access.load.0.get_or_init(|| self.find(access))
    }

    fn find(&self, access: &Access) -> Arc<AccountLoad> {
        let host = self.host(access);
        let mut accounts = lock(&self.accounts);
        if accounts.len() >= MANY && !accounts.contains_key(&access.account) {
            accounts.retain(|_, load| Arc::strong_count(load) > 1 || !load.is_quiet());
        }
        let known = accounts.get(&access.account).filter(|load| Arc::ptr_eq(&load.host, &host)).cloned();
        let load = known.unwrap_or_else(|| {
            let fresh = Arc::new(AccountLoad::new(access.account, host));
            accounts.insert(access.account, fresh.clone());
            fresh
        });
        drop(accounts);
        load.calls.set_room(access.method.limits.concurrency);
        load.passing.set_room(self.passing.load(Ordering::Relaxed));
        load
    }

    fn host(&self, access: &Access) -> Arc<HostLoad> {
        let (slug, origin) = (&access.connector.slug, access.base.origin().ascii_serialization());
        let mut hosts = lock(&self.hosts);
        let name = format!("{slug} {origin}");
        if hosts.len() >= MANY && !hosts.contains_key(&name) {
            hosts.retain(|_, host| Arc::strong_count(host) > 1 || host.breaker.is_open());
        }
        hosts.entry(name).or_insert_with(|| Arc::new(HostLoad::new(slug.clone(), origin))).clone()
    }
}

/// An account's part of [`Load`], found at its first call.
#[derive(Default)]
pub struct Handle(OnceLock<Arc<AccountLoad>>);

/// What all accounts at one host of one connector share.
struct HostLoad {
    connector: Slug,
    origin: String,
    breaker: Breaker,
    budget: Budget,
}

impl HostLoad {
    fn new(connector: Slug, origin: String) -> Self {
        breaker::announce(&connector);
        Self { connector, origin, breaker: Breaker::new(WITNESSES), budget: Budget::default() }
    }
}

/// What an account's calls share.
pub struct AccountLoad {
    account: AccountId,
    host: Arc<HostLoad>,
    breaker: Breaker,
    calls: Bulkhead,
    passing: Bulkhead,
    quota: Quota,
}

impl AccountLoad {
    fn new(account: AccountId, host: Arc<HostLoad>) -> Self {
        let (calls, passing) = (Bulkhead::default(), Bulkhead::default());
        Self { account, host, breaker: Breaker::new(1), calls, passing, quota: Quota::default() }
    }

    fn is_quiet(&self) -> bool {
        !self.breaker.is_open() && !self.quota.is_known()
    }

    fn room(&self, lane: Lane) -> &Bulkhead {
        match lane {
            Lane::Calls => &self.calls,
            Lane::Passing => &self.passing,
        }
    }

    /// A place among the calls in flight, if there is one and nobody waits for it.
    pub(super) fn try_enter(self: &Arc<Self>, lane: Lane) -> Option<Permit> {
        self.room(lane).try_enter().then(|| Permit::new(self.clone(), lane))
    }

    /// A place among the calls in flight: those who wait are served in their order, and not for ever.
    pub(super) async fn enter(self: &Arc<Self>, lane: Lane) -> Result<Permit, Failure> {
        if let Some(permit) = self.try_enter(lane) {
            return Ok(permit);
        }
        let room = self.room(lane).room();
        let full = |what: &str| Failure::Busy(format!("{room} calls of this account are already running and {what}"));
        let told = bulkhead::queue(self, lane, room * LINE).ok_or_else(|| full("as many wait as may"))?;
        match tokio::time::timeout(TURN, told).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => Err(full(&format!("none ended within {} s", TURN.as_secs()))),
        }
    }

    /// Refuses while account or host are held to be down, without becoming the call that finds out.
    pub(super) fn look(&self) -> Result<(), Failure> {
        if !self.breaker.is_open() && !self.host.breaker.is_open() {
            return Ok(());
        }
        let wait = self.breaker.wait().max(self.host.breaker.wait());
        if wait.is_zero() { Ok(()) } else { Err(self.held(wait)) }
    }

    /// Refuses while account or host are held to be down, but for one call in each interval, which finds out.
    pub(super) fn admit(&self) -> Result<(), Failure> {
        if !self.breaker.is_open() && !self.host.breaker.is_open() {
            return Ok(());
        }
        self.look()?;
        let is_probe = self.host.breaker.probe() && self.breaker.probe();
        if is_probe { Ok(()) } else { Err(self.held(INTERVAL)) }
    }

    fn held(&self, wait: Duration) -> Failure {
        let why = self.breaker.why().or_else(|| self.host.breaker.why()).unwrap_or_default();
        Failure::Held { why, wait: wait.as_secs() + u64::from(wait.subsec_nanos() > 0) }
    }

    /// The vendor answered: whatever it said, host and account are up.
    pub(super) fn answered(&self, status: u16, asks_to_wait: bool) {
        if status >= 500 && !matches!(status, 501 | 505) && !(status == 503 && asks_to_wait) {
            return self.failed(&format!("the vendor answered {status}"));
        }
        if self.breaker.succeeded() {
            tracing::info!(account = %self.account, "the vendor answers this account again; its calls pass");
            breaker::count(&self.host.connector, "account", false);
        }
        if self.host.breaker.succeeded() {
            tracing::info!(host = self.host.origin, "the vendor's host answers again; calls pass");
            breaker::count(&self.host.connector, "host", false);
        }
    }

    /// A call came to nothing. What says nothing about the vendor's health is passed over.
    pub(super) fn ended(&self, failure: &Failure) {
        match failure {
            Failure::Unreachable(why) | Failure::Broken(why) => self.failed(why),
            Failure::TimedOut(_) | Failure::Cut => self.failed(&failure.to_string()),
            _ => {}
        }
    }

    fn failed(&self, why: &str) {
        let mark = self.account.0.as_u64_pair().1;
        if self.breaker.failed(mark, why) {
            tracing::warn!(account = %self.account, why, "the vendor fails this account; its calls are held back");
            breaker::count(&self.host.connector, "account", true);
        }
        if self.host.breaker.failed(mark, why) {
            tracing::warn!(host = self.host.origin, why, "the vendor's host fails; calls are held back");
            breaker::count(&self.host.connector, "host", true);
        }
    }

    /// A first try: pays a tenth of a retry into the host's budget.
    pub(super) fn begin(&self) {
        self.host.budget.earn();
    }

    /// Whether one more try may be paid from what requests to this host saved up.
    pub(super) fn may_retry(&self) -> bool {
        self.host.budget.spend()
    }

    /// Waits until the vendor's own limit has room for one more request, at most as long as for a turn.
    pub(super) async fn within_quota(&self, store: Option<&dyn Store>) -> Result<UnderWay<'_>, Failure> {
        self.quota.take(store, self.account, TURN).await
    }

    /// What the vendor said about its limits; the other nodes are told.
    pub(super) async fn learn(&self, store: &dyn Store, reading: &Reading) {
        self.quota.learn(store, self.account, reading).await;
    }

    /// The same of an answer to the transparent proxy; the next call that waits for room tells the others.
    pub(super) fn overhear(&self, reading: &Reading) {
        self.quota.overheard(reading);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
