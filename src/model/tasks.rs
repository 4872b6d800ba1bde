//! The one place that starts tasks, so that shutdown can wait for them.

use std::{
    future::Future,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Notify, Semaphore, oneshot},
    time::timeout,
};

use super::Trace;

/// How long work goes on after whoever waited for it has left.
const LEFT_FOR: Duration = Duration::from_secs(60);

/// How much such work there is at once.
const LEFT_AT_ONCE: usize = 64;

/// Tasks that outlive the request that started them.
#[derive(Clone, Debug, Default)]
pub struct Tasks(Arc<Running>);

#[derive(Debug)]
struct Running {
    count: AtomicUsize,
    ended: Notify,
    left: Semaphore,
    left_for: Duration,
}

impl Default for Running {
    fn default() -> Self {
        Self::bounded(LEFT_AT_ONCE, LEFT_FOR)
    }
}

impl Running {
    fn bounded(left_at_once: usize, left_for: Duration) -> Self {
        Self { count: AtomicUsize::new(0), ended: Notify::new(), left: Semaphore::new(left_at_once), left_for }
    }
}

struct Ends(Arc<Running>);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.count.fetch_sub(1, Ordering::AcqRel);
        self.0.ended.notify_waiters();
    }
}

impl Tasks {
    /// Starts a task; a panic in it ends only it.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let ends = self.begin();
        #[expect(clippy::disallowed_methods, reason = "the one place")]
        tokio::spawn(async move {
            let _ends = ends;
            task.await;
        });
    }

    /// Starts a task after a pause that nobody waits for: whoever stops in the midst of it leaves the task out.
    pub fn spawn_later(&self, pause: Duration, task: impl Future<Output = ()> + Send + 'static) {
        let tasks = self.clone();
        #[expect(clippy::disallowed_methods, reason = "the one place")]
        tokio::spawn(async move {
            tokio::time::sleep(pause).await;
            let _ends = tasks.begin();
            task.await;
        });
    }

    fn begin(&self) -> Ends {
        self.0.count.fetch_add(1, Ordering::AcqRel);
        Ends(self.0.clone())
    }

    /// Does work that must come to its end even if whoever waits for it goes away; `None` when it panicked. Then it has a
    /// bounded time left, and only so much work is left at once, so that vendors which never answer do not gather it.
    pub async fn finish<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> Option<T> {
        let (done, outcome) = oneshot::channel();
        self.spawn(traced(Trace::current(), self.clone().bring_to_end(work, done)));
        outcome.await.ok()
    }

    /// The same for work that must not be cut short at all, because it has used up what nobody gives twice: it goes on for as long
    /// as it takes, and must end by itself.
    pub async fn complete<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> Option<T> {
        let (done, outcome) = oneshot::channel();
        self.spawn(traced(Trace::current(), async move {
            // Whoever waited may have left.
            let _ = done.send(work.await);
        }));
        outcome.await.ok()
    }

    /// What `finish` does, for work that stays on this thread.
    pub async fn finish_here<T: 'static>(&self, work: impl Future<Output = T> + 'static) -> Option<T> {
        let (done, outcome) = oneshot::channel();
        let (ends, task) = (self.begin(), traced(Trace::current(), self.clone().bring_to_end(work, done)));
        tokio::task::spawn_local(async move {
            let _ends = ends;
            task.await;
        });
        outcome.await.ok()
    }

    async fn bring_to_end<T>(self, work: impl Future<Output = T>, mut done: oneshot::Sender<T>) {
        let mut work = pin!(work);
        tokio::select! {
            outcome = &mut work => {
                let _ = done.send(outcome);
                return;
            }
            () = done.closed() => {}
        }
        if let Ok(_place) = self.0.left.try_acquire() {
            let _ = timeout(self.0.left_for, work).await;
        }
    }

    /// Waits until no task runs, at most this long; whether none is left.
    pub async fn wait(&self, at_most: Duration) -> bool {
        let all_ended = async {
            loop {
                let ended = self.0.ended.notified();
                if self.0.count.load(Ordering::Acquire) == 0 {
                    return;
                }
                ended.await;
            }
        };
        tokio::time::timeout(at_most, all_ended).await.is_ok()
    }
}

/// The work, noting for the request it is done for.
async fn traced<T>(trace: Option<Arc<Trace>>, work: impl Future<Output = T>) -> T {
    match trace {
        Some(trace) => trace.within(work).await,
        None => work.await,
    }
}

#[cfg(test)]
mod tests {
    use std::{future::pending, sync::Arc};

    use super::*;

    fn bounded(left_at_once: usize, left_for: Duration) -> Tasks {
        Tasks(Arc::new(Running::bounded(left_at_once, left_for)))
    }

    /// Starts the work and leaves.
    async fn leave(tasks: &Tasks, work: impl Future<Output = ()> + Send + 'static) {
        assert!(timeout(Duration::from_millis(20), tasks.finish(work)).await.is_err(), "the work was done at once");
    }

    #[tokio::test]
    async fn work_ends_well_without_its_caller() {
        let tasks = bounded(1, Duration::from_secs(30));
        let (tell, told) = oneshot::channel();
        leave(&tasks, async {
            tokio::time::sleep(Duration::from_millis(60)).await;
            tell.send(()).unwrap();
        })
        .await;
        timeout(Duration::from_secs(10), told).await.expect("in time").expect("to its end");
        assert!(tasks.wait(Duration::from_secs(10)).await);
    }

    #[tokio::test]
    async fn work_for_nobody_is_bounded_in_time() {
        let tasks = bounded(10, Duration::from_millis(100));
        for _ in 0..10 {
            leave(&tasks, pending()).await;
        }
        assert!(tasks.wait(Duration::from_secs(10)).await, "work goes on for ever");
    }

    #[tokio::test]
    async fn work_for_nobody_is_bounded_in_number() {
        let tasks = bounded(2, Duration::from_secs(3600));
        for _ in 0..10 {
            leave(&tasks, pending()).await;
        }
        let end = tokio::time::Instant::now() + Duration::from_secs(10);
        while tasks.0.count.load(Ordering::Acquire) > 2 {
            assert!(tokio::time::Instant::now() < end, "more than two go on");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(tasks.0.count.load(Ordering::Acquire), 2);
        let waited_for = tasks.finish(async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            7
        });
        assert_eq!(waited_for.await, Some(7), "work that is waited for is not bounded");
    }

    #[tokio::test]
    async fn work_that_must_not_be_cut_short_is_not() {
        let tasks = bounded(0, Duration::ZERO);
        let (tell, told) = oneshot::channel();
        let work = async {
            tokio::time::sleep(Duration::from_millis(60)).await;
            tell.send(()).unwrap();
        };
        assert!(timeout(Duration::from_millis(20), tasks.complete(work)).await.is_err(), "the work was done at once");
        timeout(Duration::from_secs(10), told).await.expect("in time").expect("to its end");
        assert_eq!(tasks.complete(async { 7 }).await, Some(7));
        assert!(tasks.wait(Duration::from_secs(10)).await);
    }

    #[tokio::test]
    async fn work_of_this_thread_ends_well_without_its_caller() {
        let tasks = bounded(1, Duration::from_secs(30));
        let (tell, told) = oneshot::channel();
        let work = async {
            tokio::time::sleep(Duration::from_millis(60)).await;
            tell.send(()).unwrap();
        };
        let local = tokio::task::LocalSet::new();
        let left = async { timeout(Duration::from_millis(20), tasks.finish_here(work)).await.is_err() };
        assert!(local.run_until(left).await);
        let ended = local.run_until(timeout(Duration::from_secs(10), told)).await;
        ended.expect("in time").expect("to its end");
    }
}
