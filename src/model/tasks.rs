//! The one place that starts tasks, so that shutdown can wait for them.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::sync::{Notify, oneshot};

/// Tasks that outlive the request that started them.
#[derive(Clone, Debug, Default)]
pub struct Tasks(Arc<Running>);

#[derive(Debug, Default)]
struct Running {
    count: AtomicUsize,
    ended: Notify,
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
        self.0.count.fetch_add(1, Ordering::AcqRel);
        let ends = Ends(self.0.clone());
        #[expect(clippy::disallowed_methods, reason = "the one place")]
        tokio::spawn(async move {
            let _ends = ends;
            task.await;
        });
    }

    /// Does work that must come to its end even if whoever waits for it goes away; `None` when it panicked.
    pub async fn finish<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> Option<T> {
        let (done, outcome) = oneshot::channel();
        self.spawn(async move {
            // Nobody waits any more: as good.
            let _ = done.send(work.await);
        });
        outcome.await.ok()
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
