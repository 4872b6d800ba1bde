//! What goes on without a caller: one file per loop, each of which can be run once. Every node runs all of them; the store's
//! queues and locks share the work out.

mod care;
mod outbox;
mod sweep;

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::FutureExt;
use tokio::{sync::watch, time::sleep};

pub use self::{
    care::{Renewals, Visits},
    outbox::Outbox,
    sweep::Sweep,
};
use crate::{
    error::{Error, Result},
    model::Tasks,
    service::Services,
};

/// How long what is under way at the end may go on; requests have about as long.
const GRACE: Duration = Duration::from_secs(15);
/// The longest pause after a failure.
const AFTER_FAILURE: Duration = Duration::from_secs(60);

/// One loop.
pub trait Job: Send + Sync + 'static {
    /// Its name in the log.
    const NAME: &'static str;
    /// How long it waits when there is no more to do.
    const PAUSE: Duration;

    /// Does what there is to do now, a bounded part of it at a time; whether there may be more.
    fn run_once(&self) -> impl Future<Output = Result<bool>> + Send;
}

/// The loops of this node. They end when this value does.
pub struct Jobs {
    ends: watch::Sender<bool>,
}

impl Jobs {
    /// Starts all of them; shutdown waits for `tasks`.
    pub fn start(services: &Arc<Services>, tasks: &Tasks) -> Self {
        let (ends, told) = watch::channel(false);
        let care = || services.care.clone();
        tasks.spawn(repeat(Outbox(care()), told.clone()));
        tasks.spawn(repeat(Visits::new(care(), tasks.clone(), told.clone()), told.clone()));
        tasks.spawn(repeat(Renewals::new(care(), tasks.clone(), told.clone()), told.clone()));
        tasks.spawn(repeat(Sweep::new(care()), told));
        Self { ends }
    }

    /// Nothing new is begun from now on.
    pub fn stop(&self) {
        self.ends.send_replace(true);
    }
}

async fn repeat<J: Job>(job: J, mut ends: watch::Receiver<bool>) {
    let mut is_failing = false;
    loop {
        let outcome = tokio::select! {
            outcome = guarded(&job) => outcome,
            () = left_behind(ends.clone()) => return,
        };
        let pause = match &outcome {
            Ok(true) => Duration::ZERO,
            Ok(false) => J::PAUSE,
            Err(_) => J::PAUSE.min(AFTER_FAILURE),
        };
        match outcome {
            Ok(_) if std::mem::take(&mut is_failing) => tracing::info!(job = J::NAME, "goes on"),
            Err(error) if !std::mem::replace(&mut is_failing, true) => {
                tracing::warn!(job = J::NAME, %error, cause = error.cause(), "cannot be done at the moment; it is tried again");
            }
            _ => {}
        }
        tokio::select! {
            () = sleep(pause) => {}
            _ = ends.changed() => {}
        }
        if *ends.borrow() || ends.has_changed().is_err() {
            return;
        }
    }
}

/// What a turn came to in all environments: one environment's trouble is not the others', and slows nobody who has something to do.
#[derive(Default)]
struct Turn {
    done: usize,
    failed: Option<Error>,
}

impl Turn {
    fn add(&mut self, outcome: Result<usize>) {
        match outcome {
            Ok(done) => self.done += done,
            Err(error) => self.failed = Some(error),
        }
    }

    /// Whether there was anything.
    fn end(self, name: &str) -> Result<bool> {
        match self.failed {
            Some(error) if self.done == 0 => Err(error),
            Some(error) => {
                tracing::warn!(job = name, %error, "an environment is served later");
                Ok(true)
            }
            None => Ok(self.done > 0),
        }
    }
}

/// A panic fails one turn, and does not end the loop.
async fn guarded<J: Job>(job: &J) -> Result<bool> {
    let turn = AssertUnwindSafe(job.run_once()).catch_unwind().await;
    turn.unwrap_or_else(|_| Err(Error::internal("a turn of a loop panicked")))
}

/// The end, and a while after it.
async fn left_behind(mut ends: watch::Receiver<bool>) {
    let _ = ends.wait_for(|ended| *ended).await;
    sleep(GRACE).await;
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::error::Error;

    struct Counting {
        runs: Arc<AtomicUsize>,
        fails: bool,
    }

    impl Job for Counting {
        const NAME: &'static str = "counting";
        const PAUSE: Duration = Duration::from_secs(3600);

        async fn run_once(&self) -> Result<bool> {
            let runs = self.runs.fetch_add(1, Ordering::SeqCst) + 1;
            if self.fails { Err(Error::internal("always")) } else { Ok(runs < 5) }
        }
    }

    async fn runs_until_the_end(fails: bool) -> usize {
        let (tasks, runs) = (Tasks::default(), Arc::new(AtomicUsize::new(0)));
        let (ends, told) = watch::channel(false);
        tasks.spawn(repeat(Counting { runs: runs.clone(), fails }, told));
        let expected = if fails { 1 } else { 5 };
        while runs.load(Ordering::SeqCst) < expected {
            sleep(Duration::from_millis(2)).await;
        }
        ends.send_replace(true);
        assert!(tasks.wait(Duration::from_secs(10)).await, "the loop does not end");
        runs.load(Ordering::SeqCst)
    }

    #[tokio::test]
    async fn a_loop_runs_while_there_is_more_and_ends_when_told() {
        assert_eq!(runs_until_the_end(false).await, 5);
        assert_eq!(runs_until_the_end(true).await, 1, "a failure is no reason to hurry");
    }

    struct Panicking(Arc<AtomicUsize>);

    impl Job for Panicking {
        const NAME: &'static str = "panicking";
        const PAUSE: Duration = Duration::from_millis(1);

        async fn run_once(&self) -> Result<bool> {
            assert!(self.0.fetch_add(1, Ordering::SeqCst) > 2, "one of the first turns");
            Ok(false)
        }
    }

    #[tokio::test]
    async fn a_panic_does_not_end_a_loop() {
        let (tasks, runs) = (Tasks::default(), Arc::new(AtomicUsize::new(0)));
        let (_ends, told) = watch::channel(false);
        tasks.spawn(repeat(Panicking(runs.clone()), told));
        let goes_on = async {
            while runs.load(Ordering::SeqCst) < 5 {
                sleep(Duration::from_millis(2)).await;
            }
        };
        assert!(tokio::time::timeout(Duration::from_secs(10), goes_on).await.is_ok(), "the loop has ended");
    }

    #[tokio::test]
    async fn a_loop_ends_with_whoever_started_it() {
        let (tasks, runs) = (Tasks::default(), Arc::new(AtomicUsize::new(0)));
        let (ends, told) = watch::channel(false);
        tasks.spawn(repeat(Counting { runs, fails: false }, told));
        drop(ends);
        assert!(tasks.wait(Duration::from_secs(10)).await, "the loop does not end");
    }
}
