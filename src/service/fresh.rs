//! Values read from the store at most a second ago, so that a change on any node holds on every node within a second.

use std::{future::Future, hash::Hash, sync::Arc, time::Duration};

use moka::future::Cache;

use super::meters::CacheMeter;
use crate::error::{Code, Error, Result};

/// How long a value is used without asking the store again.
const FRESH: Duration = Duration::from_millis(900);

/// A cache whose values are re-read after a second. While the store is away the last confirmed value serves a little longer.
pub struct Fresh<K, V> {
    fresh: Cache<K, Arc<V>>,
    kept: Cache<K, Arc<V>>,
    meter: CacheMeter,
}

impl<K, V> Fresh<K, V>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    /// `name` is for operators; `kept_for` is how long a confirmed value may serve while the store does not answer.
    pub fn new(name: &'static str, capacity: u64, kept_for: Duration) -> Self {
        Self {
            meter: CacheMeter::new(name),
            fresh: Cache::builder().max_capacity(capacity).time_to_live(FRESH).build(),
            kept: Cache::builder().max_capacity(capacity).time_to_live(kept_for).build(),
        }
    }

    /// The value, from memory or by `load`; many callers at once load once. `load` gets the last confirmed value, so that
    /// it need not decode again what has not changed.
    pub async fn get<F, Fut>(&self, key: &K, load: F) -> Result<Arc<V>>
    where
        F: FnOnce(Option<Arc<V>>) -> Fut,
        Fut: Future<Output = Result<Arc<V>>>,
    {
        if let Some(value) = self.meter.count(self.fresh.get(key).await) {
            return Ok(value);
        }
        // Boxed: a caller that finds the value must not carry the room to load it.
        Box::pin(self.reload(key, load)).await
    }

    async fn reload<F, Fut>(&self, key: &K, load: F) -> Result<Arc<V>>
    where
        F: FnOnce(Option<Arc<V>>) -> Fut,
        Fut: Future<Output = Result<Arc<V>>>,
    {
        let reload = async {
            let kept = self.kept.get(key).await;
            match load(kept.clone()).await {
                Ok(value) => {
                    self.kept.insert(key.clone(), value.clone()).await;
                    Ok(value)
                }
                Err(error) if error.code() == Code::StoreUnavailable => kept.ok_or(error),
                Err(error) => {
                    self.kept.invalidate(key).await;
                    Err(error)
                }
            }
        };
        self.fresh.try_get_with_by_ref(key, reload).await.map_err(|shared: Arc<Error>| (*shared).clone())
    }

    /// Loads every value again before its next use.
    pub fn refresh(&self) {
        self.fresh.invalidate_all();
    }

    /// Forgets a value that this node has just changed.
    pub async fn forget(&self, key: &K) {
        self.fresh.invalidate(key).await;
        self.kept.invalidate(key).await;
    }
}
