//! Finds what was forgotten when a node ended between two steps, and what was made before there were queues: at the start and
//! once a day. Ended events go with it, and what ended environments have left.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::Job;
use crate::{error::Result, model::EnvironmentId, service::Care};

/// The time between two times that the list of an environment is read.
const EVERY: Duration = Duration::from_secs(24 * 3600);

/// The loop that reads the whole list of accounts. What failed, or was under way on another node, which may have ended in the
/// midst of it, is tried again soon.
pub struct Sweep {
    care: Arc<Care>,
    /// When the list of each environment was read to its end, and under none what ended environments have left.
    done: Mutex<HashMap<Option<EnvironmentId>, Instant>>,
}

impl Sweep {
    /// Everything is due.
    pub fn new(care: Arc<Care>) -> Self {
        Self { care, done: Mutex::default() }
    }

    fn done(&self) -> MutexGuard<'_, HashMap<Option<EnvironmentId>, Instant>> {
        self.done.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_due(&self, what: Option<EnvironmentId>) -> bool {
        self.done().get(&what).is_none_or(|done| done.elapsed() >= EVERY)
    }

    fn note(&self, what: Option<EnvironmentId>) {
        self.done().insert(what, Instant::now());
    }
}

impl Job for Sweep {
    const NAME: &'static str = "sweep";
    const PAUSE: Duration = Duration::from_secs(600);

    async fn run_once(&self) -> Result<bool> {
        let environments = self.care.environments().await?;
        self.done().retain(|of, _| of.is_none_or(|of| environments.contains(&of)));
        for environment in environments {
            if !self.is_due(Some(environment)) {
                continue;
            }
            // One environment's trouble is not the others'.
            match self.care.find_forgotten(environment).await {
                Ok(true) => self.note(Some(environment)),
                Ok(false) => {}
                Err(error) => tracing::error!(%environment, %error, "what was forgotten in an environment stays for now"),
            }
        }
        if self.is_due(None) && self.care.clear_ended().await? {
            self.note(None);
        }
        Ok(false)
    }
}
