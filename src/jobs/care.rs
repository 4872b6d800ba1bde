//! Looks at accounts whose time has come: whether the vendor still accepts them, and whether their credential ends soon; and
//! renews tokens before they end. What a vendor takes its time for holds up nothing else: each item is a task of its own, and
//! looks and tokens have places of their own.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::{Job, Turn, left_behind};
use crate::{
    error::{Error, Result},
    model::{EnvironmentId, Tasks},
    service::Care,
    store::{Claimed, repo::Queue},
};

/// Items of one queue that a node works on at once.
const PLACES: usize = 32;
/// Of them begun for one environment before it is the next one's turn.
const BEGUN: usize = 8;

/// The loop that looks at accounts.
pub struct Visits(Places);

/// The loop that renews tokens.
pub struct Renewals(Places);

impl Visits {
    /// Begins nothing once `ends` says so; what is under way then has as long as a loop has.
    pub fn new(care: Arc<Care>, tasks: Tasks, ends: watch::Receiver<bool>) -> Self {
        Self(Places::new(care, Queue::Care, tasks, ends))
    }
}

impl Renewals {
    /// Begins nothing once `ends` says so; what is under way then has as long as a loop has.
    pub fn new(care: Arc<Care>, tasks: Tasks, ends: watch::Receiver<bool>) -> Self {
        Self(Places::new(care, Queue::Tokens, tasks, ends))
    }
}

impl Job for Visits {
    const NAME: &'static str = "care";
    const PAUSE: Duration = Duration::from_secs(2);

    async fn run_once(&self) -> Result<bool> {
        self.0.fill(Self::NAME).await
    }
}

impl Job for Renewals {
    const NAME: &'static str = "tokens";
    const PAUSE: Duration = Duration::from_secs(2);

    async fn run_once(&self) -> Result<bool> {
        self.0.fill(Self::NAME).await
    }
}

/// What this node has room for of one queue, in all environments.
struct Places {
    care: Arc<Care>,
    queue: Queue,
    tasks: Tasks,
    ends: watch::Receiver<bool>,
    free: Arc<Semaphore>,
    /// The environment that was served last: those behind it are next.
    last: Mutex<Option<EnvironmentId>>,
}

impl Places {
    fn new(care: Arc<Care>, queue: Queue, tasks: Tasks, ends: watch::Receiver<bool>) -> Self {
        Self { care, queue, tasks, ends, free: Arc::new(Semaphore::new(PLACES)), last: Mutex::default() }
    }

    /// Waits for a free place, and begins with what is due for as long as there are some; whether there was anything.
    async fn fill(&self, name: &str) -> Result<bool> {
        let mut ends = self.ends.clone();
        tokio::select! {
            free = self.free.acquire() => drop(free.map_err(Error::internal)?),
            _ = ends.wait_for(|ended| *ended) => return Ok(false),
        }
        let mut turn = Turn::default();
        for environment in self.in_turn(self.care.environments().await?) {
            if self.free.available_permits() == 0 {
                break;
            }
            turn.add(self.begin(environment).await);
            *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(environment);
        }
        turn.end(name)
    }

    fn in_turn(&self, mut environments: Vec<EnvironmentId>) -> Vec<EnvironmentId> {
        let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let served = environments.partition_point(|environment| Some(*environment) <= last);
        environments.rotate_left(served);
        environments
    }

    async fn begin(&self, environment: EnvironmentId) -> Result<usize> {
        let free = || Arc::clone(&self.free).try_acquire_owned().ok();
        let places: Vec<OwnedSemaphorePermit> = std::iter::from_fn(free).take(BEGUN).collect();
        let items = self.care.claim(environment, self.queue, places.len()).await?;
        let begun = items.len();
        for (item, place) in items.into_iter().zip(places) {
            self.start(environment, item, place);
        }
        Ok(begun)
    }

    fn start(&self, environment: EnvironmentId, item: Claimed, place: OwnedSemaphorePermit) {
        let (care, queue, ends) = (Arc::clone(&self.care), self.queue, self.ends.clone());
        self.tasks.spawn(async move {
            let _place = place;
            let visit = care.visit_one(environment, queue, &item);
            let visited = tokio::select! {
                visited = visit => visited,
                () = left_behind(ends) => return,
            };
            if let Err(error) = visited {
                tracing::warn!(%environment, item = item.id, %error, cause = error.cause(), "an account is looked after later");
            }
        });
    }
}
