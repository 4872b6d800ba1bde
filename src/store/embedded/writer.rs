//! The one thread that writes: it takes every call that waits, applies them in one transaction and answers after its fsync.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, PoisonError,
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::Duration,
};

use redb::Database;
use tokio::sync::oneshot;

use super::{
    Shared,
    apply::{Applied, Done, Op, apply},
    refusal,
    tables::Tables,
};
use crate::store::StoreError;

/// Calls that share one fsync at most.
const GROUP: usize = 256;
/// Dead entries removed with each group, and at once when nothing else happens.
const SWEEP: usize = 64;
const IDLE_SWEEP: usize = 4096;
const IDLE: Duration = Duration::from_secs(30);
const REOPEN: Duration = Duration::from_millis(200);

/// A call and where its answer goes.
pub(super) struct Job {
    pub op: Op,
    pub answer: oneshot::Sender<Result<Done, StoreError>>,
}

/// Runs until the store is dropped.
pub(super) fn run(shared: &Arc<Shared>, jobs: &Receiver<Job>) {
    loop {
        let wait = if shared.database().is_some() { IDLE } else { REOPEN };
        let mut group = Vec::new();
        match jobs.recv_timeout(wait) {
            Ok(job) => group.push(job),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        while group.len() < GROUP
            && let Ok(job) = jobs.try_recv()
        {
            group.push(job);
        }
        let Some(database) = shared.database().or_else(|| reopen(shared)) else {
            group.into_iter().for_each(|job| drop(job.answer.send(Err(shared.unavailable()))));
            continue;
        };
        settle(shared, database, group);
    }
}

fn reopen(shared: &Shared) -> Option<Arc<Database>> {
    let opened = catch_unwind(AssertUnwindSafe(|| (shared.opener)()));
    let text = match opened {
        Ok(Ok(database)) => {
            let database = Arc::new(database);
            *shared.database.write().unwrap_or_else(PoisonError::into_inner) = Some(database.clone());
            return Some(database);
        }
        Ok(Err(error)) => error.to_string(),
        Err(_) => "the file cannot be opened anew".into(),
    };
    *shared.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(text);
    None
}

fn settle(shared: &Shared, database: Arc<Database>, group: Vec<Job>) {
    let outcome = catch_unwind(AssertUnwindSafe(|| perform(shared, &database, &group)));
    let failure = match outcome {
        Ok(Ok(answers)) => {
            if !group.is_empty() {
                *shared.trouble.lock().unwrap_or_else(PoisonError::into_inner) = None;
            }
            for (job, answer) in group.into_iter().zip(answers) {
                let _ = job.answer.send(answer);
            }
            return;
        }
        Ok(Err(error)) => error,
        Err(_) => redb::Error::Corrupted("the storage engine gave up".into()),
    };
    shared.give_up(&database, &failure.to_string());
    drop(database);
    let text = refusal(failure).to_string();
    group.into_iter().for_each(|job| drop(job.answer.send(Err(StoreError::Unavailable(text.clone())))));
}

type Answers = Vec<Result<Done, StoreError>>;

fn perform(shared: &Shared, database: &Database, group: &[Job]) -> Result<Answers, redb::Error> {
    let now = shared.now();
    let transaction = database.begin_write()?;
    let mut answers = Vec::with_capacity(group.len());
    let mut changed = false;
    {
        let mut tables = Tables::open(&transaction)?;
        for job in group {
            let applied = if is_fenced(shared, &job.op, now) {
                Applied { answer: Err(StoreError::Fenced), changed: false }
            } else {
                apply(&job.op, &mut tables, now)?
            };
            changed |= applied.changed;
            answers.push(applied.answer);
        }
        if changed || group.is_empty() {
            changed |= tables.sweep(now, if group.is_empty() { IDLE_SWEEP } else { SWEEP })? > 0;
        }
    }
    if changed {
        transaction.commit()?
    } else {
        transaction.abort()?
    }
    Ok(answers)
}

fn is_fenced(shared: &Shared, op: &Op, now: u64) -> bool {
    let Op::Commit(batch) = op else { return false };
    let locks = shared.locks.lock().unwrap_or_else(PoisonError::into_inner);
    batch.fence.as_ref().is_some_and(|hold| hold.key.slot != batch.slot || !locks.is_held(hold, now))
}
