//! Values read from the store at most a second ago, so that a change on any node holds on every node within a second.

use std::{
    cell::RefCell,
    collections::HashMap,
    future::Future,
    hash::Hash,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use moka::future::Cache;
use thread_local::ThreadLocal;

use super::meters::CacheMeter;
use crate::error::{Code, Error, Result};

/// How long a value is used without asking the store again.
const FRESH: Duration = Duration::from_millis(900);
/// Values a thread keeps at hand.
const AT_HAND: usize = 1024;

/// A cache whose values are re-read after a second. While the store is away the last confirmed value serves a little longer.
///
/// Each thread keeps the values it uses at hand, so that a request pays for no lock and no bookkeeping of the shared cache.
pub struct Fresh<K: Send, V: Send + Sync> {
    at_hand: ThreadLocal<RefCell<AtHand<K, V>>>,
    /// Counts what was forgotten; what a thread kept under another number is void.
    era: AtomicU64,
    fresh: Cache<K, Dated<V>>,
    kept: Cache<K, Arc<V>>,
    meter: CacheMeter,
}

/// A value, and when it must be read again.
struct Dated<V> {
    value: Arc<V>,
    until: Instant,
}

impl<V> Clone for Dated<V> {
    fn clone(&self) -> Self {
        Self { value: Arc::clone(&self.value), until: self.until }
    }
}

/// The values of one thread. It does not own them: a thread that has nothing to do would keep them for ever.
struct AtHand<K, V> {
    era: u64,
    values: HashMap<K, (Weak<V>, Instant)>,
}

impl<K, V> Default for AtHand<K, V> {
    fn default() -> Self {
        Self { era: 0, values: HashMap::new() }
    }
}

impl<K, V> Fresh<K, V>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    /// `name` is for operators; `kept_for` is how long a confirmed value may serve while the store does not answer.
    pub fn new(name: &'static str, capacity: u64, kept_for: Duration) -> Self {
        Self {
            at_hand: ThreadLocal::new(),
            era: AtomicU64::new(0),
            meter: CacheMeter::new(name),
            fresh: Cache::builder().max_capacity(capacity).time_to_live(FRESH).build(),
            kept: Cache::builder().max_capacity(capacity).time_to_live(kept_for).build(),
        }
    }

    /// The value, if this thread has it at hand.
    pub fn at_hand(&self, key: &K) -> Option<Arc<V>> {
        let at_hand = self.at_hand.get()?.borrow();
        let found = at_hand.values.get(key).filter(|_| at_hand.era == self.era.load(Ordering::Acquire))?;
        let (value, until) = found;
        let value = if Instant::now() < *until { value.upgrade() } else { None };
        self.meter.count(Some(value?))
    }

    /// The value, from memory or by `load`; many callers at once load once. `load` gets the last confirmed value, so that
    /// it need not decode again what has not changed.
    pub async fn get<F, Fut>(&self, key: &K, load: F) -> Result<Arc<V>>
    where
        F: FnOnce(Option<Arc<V>>) -> Fut,
        Fut: Future<Output = Result<Arc<V>>>,
    {
        if let Some(value) = self.at_hand(key) {
            return Ok(value);
        }
        // Boxed: a caller that finds the value must not carry the room to load it.
        Box::pin(self.find(key, load)).await
    }

    async fn find<F, Fut>(&self, key: &K, load: F) -> Result<Arc<V>>
    where
        F: FnOnce(Option<Arc<V>>) -> Fut,
        Fut: Future<Output = Result<Arc<V>>>,
    {
        let era = self.era.load(Ordering::Acquire);
        let found = match self.meter.count(self.fresh.get(key).await) {
            Some(found) => found,
            None => self.reload(key, load).await?,
        };
        self.keep_at_hand(era, key, &found);
        Ok(found.value)
    }

    fn keep_at_hand(&self, era: u64, key: &K, found: &Dated<V>) {
        let mut at_hand = self.at_hand.get_or_default().borrow_mut();
        if at_hand.era != era || at_hand.values.len() >= AT_HAND {
            at_hand.values.clear();
            at_hand.era = era;
        }
        at_hand.values.insert(key.clone(), (Arc::downgrade(&found.value), found.until));
    }

    async fn reload<F, Fut>(&self, key: &K, load: F) -> Result<Dated<V>>
    where
        F: FnOnce(Option<Arc<V>>) -> Fut,
        Fut: Future<Output = Result<Arc<V>>>,
    {
        let reload = async {
            let kept = self.kept.get(key).await;
            let loaded = match load(kept.clone()).await {
                Ok(value) => {
                    self.kept.insert(key.clone(), value.clone()).await;
                    Ok(value)
                }
                Err(error) if error.code() == Code::StoreUnavailable => kept.ok_or(error),
                Err(error) => {
                    self.kept.invalidate(key).await;
                    Err(error)
                }
            };
            loaded.map(|value| Dated { value, until: Instant::now() + FRESH })
        };
        self.fresh.try_get_with_by_ref(key, reload).await.map_err(|shared: Arc<Error>| (*shared).clone())
    }

    /// Lets go of values whose time is over. The caches do so when they are used; one that nobody uses must be told.
    pub async fn evict(&self) {
        self.fresh.run_pending_tasks().await;
        self.kept.run_pending_tasks().await;
    }

    /// Loads every value again before its next use.
    pub fn refresh(&self) {
        self.fresh.invalidate_all();
        self.era.fetch_add(1, Ordering::AcqRel);
    }

    /// Forgets a value that this node has just changed.
    pub async fn forget(&self, key: &K) {
        self.fresh.invalidate(key).await;
        self.kept.invalidate(key).await;
        self.era.fetch_add(1, Ordering::AcqRel);
    }
}
