//! Writing entries: those that wait are written together behind the head, which only moves from the version that was read, so
//! that many nodes and many callers make one row. Whom the others were faster than several times takes the turn: until it has
//! written, or has let a moment pass, nobody else does.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    sync::{Notify, oneshot},
    time::{Instant, sleep, timeout},
};
use uuid::Uuid;

use super::entry::{AuditEntry, AuditOutcome, Begun, Ended, Head, opened, sealed};
use crate::{
    error::{Code, Error, Result},
    model::{Clock, EnvironmentId, Tasks},
    store::{
        StoreError,
        repo::{self, Append},
    },
    vault::{AuditMark, SystemKeys, hex},
};

/// Entries written together.
const TOGETHER: usize = 64;
/// Writers of one environment where a store takes a while to say that it has something on disk: the next need not wait for that.
const WRITERS: usize = 4;
/// How long entries are tried to be written before whoever waits is told that they could not: several times what a busy store
/// takes to say that it did not answer, and less than callers wait.
const PATIENCE: Duration = Duration::from_secs(15);
/// Tries that lost against others before the turn is taken.
const UNLUCKY: u32 = 6;
/// How long a reader waits for what this node is about to write.
const SETTLING: Duration = Duration::from_secs(3);
/// Ends that wait in memory for a store to come back. What is beyond them is found by its beginning.
const LATE: usize = 1_000;
/// Entries read at once when one is looked for.
const PAGE: usize = 500;

/// An entry on its way.
pub(super) struct Item {
    pub begun: Begun,
    pub ended: Ended,
    /// The version of its beginning, while that is in the store.
    pub open: Option<u64>,
    /// Somebody else's beginning: when it is gone, that one has ended it.
    pub is_left: bool,
    /// Who waits for it.
    pub tell: Option<oneshot::Sender<Result<()>>>,
    /// The last number there was when it was first tried; it may stand after that.
    pub since: Option<u64>,
}

/// Old entries that go when the next is written.
pub(super) struct Cut {
    /// The first that stays.
    pub first: u64,
    /// The hash of the one before it.
    pub before: String,
}

/// What is known of the tries to write some entries.
#[derive(Default)]
struct Tries {
    /// Beginnings that were found to be gone.
    gone: HashSet<Uuid>,
    /// Tries that others were faster than.
    lost: u32,
    /// The turn, while these entries have it.
    turn: Option<u64>,
}

impl Tries {
    fn are_unlucky(&self) -> bool {
        self.turn.is_none() && self.lost >= UNLUCKY
    }
}

/// The rows of all environments.
pub(super) struct Chain {
    pub records: repo::Audit,
    pub keys: Arc<SystemKeys>,
    pub clock: Arc<dyn Clock>,
    tasks: Tasks,
    desks: Mutex<HashMap<EnvironmentId, Arc<Desk>>>,
}

/// What this node has to write into one row.
#[derive(Default)]
struct Desk {
    held: Mutex<Held>,
    ended: Notify,
}

#[derive(Default)]
struct Held {
    waiting: Vec<Item>,
    late: Vec<Item>,
    unfinished: HashSet<Uuid>,
    writers: usize,
    looked: Option<Instant>,
}

impl Desk {
    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is to be written next; the writer ends when there is nothing.
    fn take(&self) -> Vec<Item> {
        let mut held = self.held();
        let count = held.waiting.len().min(TOGETHER);
        if count == 0 {
            held.writers -= 1;
        }
        held.waiting.drain(..count).collect()
    }

    fn finish(&self, item: Item, outcome: Result<()>) {
        self.held().unfinished.remove(&item.begun.id);
        self.ended.notify_waiters();
        if let Some(tell) = item.tell {
            let _ = tell.send(outcome);
        }
    }
}

/// Gives a writer's place back when it ends by a panic.
struct Place<'d> {
    desk: &'d Desk,
    has_left: bool,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if !self.has_left {
            self.desk.held().writers -= 1;
        }
    }
}

impl Chain {
    pub fn new(records: repo::Audit, keys: Arc<SystemKeys>, clock: Arc<dyn Clock>, tasks: Tasks) -> Self {
        Self { records, keys, clock, tasks, desks: Mutex::default() }
    }

    fn desk(&self, environment: EnvironmentId) -> Arc<Desk> {
        self.desks.lock().unwrap_or_else(PoisonError::into_inner).entry(environment).or_default().clone()
    }

    /// The head and its version. One that was changed, or taken away from its entries, is an error: nothing may be written behind it.
    pub async fn head(&self, environment: EnvironmentId) -> Result<(Head, Option<u64>)> {
        let mut found = self.records.head(environment).await?;
        if found.is_none() {
            if self.records.entries(environment, 0, 1).await?.is_empty() {
                return Ok((Head::of_nothing(), None));
            }
            // The first entry of all may have come between both looks, and the head with it.
            found = self.records.head(environment).await?;
        }
        let entry = found.ok_or_else(damaged)?;
        match opened::<Head>(&self.keys, AuditMark::Head, environment, &entry.value) {
            Some((head, _)) => Ok((head, Some(entry.version))),
            None => Err(damaged()),
        }
    }

    /// Lets an entry be written, in a task that ends although whoever asked goes away.
    pub fn push(self: &Arc<Self>, environment: EnvironmentId, item: Item) {
        let desk = self.desk(environment);
        let most = if self.records.is_shared() { WRITERS } else { 1 };
        let mut held = desk.held();
        let mut late = std::mem::take(&mut held.late);
        held.unfinished.extend(late.iter().chain([&item]).map(|item| item.begun.id));
        held.waiting.append(&mut late);
        held.waiting.push(item);
        if held.writers >= most {
            return;
        }
        held.writers += 1;
        drop(held);
        let chain = Arc::clone(self);
        self.tasks.spawn(async move {
            let mut place = Place { desk: &desk, has_left: false };
            loop {
                let items = desk.take();
                if items.is_empty() {
                    place.has_left = true;
                    return;
                }
                chain.write(environment, &desk, items).await;
            }
        });
    }

    /// Waits until what was pushed before is written, for a while.
    pub async fn settle(&self, environment: EnvironmentId) {
        let desk = self.desk(environment);
        let mine = desk.held().unfinished.clone();
        let written = async {
            loop {
                let ended = desk.ended.notified();
                if desk.held().unfinished.is_disjoint(&mine) {
                    return;
                }
                ended.await;
            }
        };
        let _ = timeout(SETTLING, written).await;
    }

    /// Whether it is time to look for what others left; every answer `true` begins the time anew.
    pub fn is_time_to_look(&self, environment: EnvironmentId, every: Duration) -> bool {
        let desk = self.desk(environment);
        let mut held = desk.held();
        let is_time = held.looked.is_none_or(|looked| looked.elapsed() >= every);
        if is_time {
            held.looked = Some(Instant::now());
        }
        is_time
    }

    async fn write(&self, environment: EnvironmentId, desk: &Desk, mut items: Vec<Item>) {
        let end = Instant::now() + PATIENCE;
        let mut tries = Tries::default();
        loop {
            let failure = match self.try_write(environment, desk, &mut items, &mut tries).await {
                Ok(()) => return items.into_iter().for_each(|item| desk.finish(item, Ok(()))),
                Err(failure) => failure,
            };
            let may_pass = matches!(failure.code(), Code::Conflict | Code::StoreUnavailable);
            if !may_pass || Instant::now() >= end {
                return give_up(desk, items, &failure);
            }
            if failure.code() == Code::Conflict && tries.are_unlucky() {
                tries.turn = self.records.take_turn(environment).await.unwrap_or_default();
                if tries.turn.is_some() {
                    continue;
                }
            }
            let pause = if failure.code() == Code::Conflict { 20 } else { 200 };
            sleep(Duration::from_millis(1 + Uuid::now_v7().as_u64_pair().1 % pause)).await;
        }
    }

    /// One try. What may have been written by an earlier one, and beginnings that are gone, are looked at first.
    async fn try_write(&self, environment: EnvironmentId, desk: &Desk, items: &mut Vec<Item>, tries: &mut Tries) -> Result<()> {
        let (head, version) = self.head(environment).await?;
        if let Some(since) = items.iter().filter_map(|item| item.since).min()
            && since < head.number
        {
            self.drop_written(environment, (since, head.number), desk, items).await?;
        }
        for item in std::mem::take(items) {
            match tries.gone.contains(&item.begun.id) {
                true if item.is_left => desk.finish(item, Ok(())),
                true => items.push(Item { open: None, ..item }),
                false => items.push(item),
            }
        }
        tries.gone.clear();
        if items.is_empty() {
            return Ok(());
        }
        let append = Append { turn: tries.turn, ..self.append_of(environment, (head.clone(), version), items, None)? };
        match self.records.append(environment, append).await {
            Ok(()) => Ok(()),
            Err(StoreError::Conflict(name)) => {
                tries.lost += 1;
                if repo::Audit::is_about_turn(&name) {
                    tries.turn = None;
                }
                if let Some(id) = repo::Audit::conflicting(&name) {
                    tries.gone.insert(id);
                    items.iter_mut().for_each(|item| item.since = Some(item.since.unwrap_or(head.number)));
                }
                Err(StoreError::Conflict(name).into())
            }
            Err(why) => {
                items.iter_mut().for_each(|item| item.since = Some(item.since.unwrap_or(head.number)));
                Err(why.into())
            }
        }
    }

    /// Takes out what stands among these entries already.
    async fn drop_written(
        &self,
        environment: EnvironmentId,
        (since, last): (u64, u64),
        desk: &Desk,
        items: &mut Vec<Item>,
    ) -> Result<()> {
        let (mut after, mut seen) = (since, HashSet::new());
        while after < last {
            let page = self.records.entries(environment, after, PAGE).await?;
            let Some((number, _)) = page.last() else { break };
            after = *number;
            for (_, bytes) in page {
                if let Some((entry, _)) = opened::<AuditEntry>(&self.keys, AuditMark::Entry, environment, &bytes) {
                    seen.insert((entry.id, entry.outcome));
                }
            }
        }
        let is_written = |item: &mut Item| seen.contains(&(item.begun.id, item.ended.outcome));
        items.extract_if(.., is_written).for_each(|item| desk.finish(item, Ok(())));
        Ok(())
    }

    /// The entries of these items behind the head, and the head after them.
    pub fn append_of(
        &self,
        environment: EnvironmentId,
        (head, expected): (Head, Option<u64>),
        items: &[Item],
        cut: Option<Cut>,
    ) -> Result<Append> {
        let now = self.clock.now();
        let (mut last, mut entries) = (head.clone(), Vec::with_capacity(items.len()));
        for item in items {
            let Begun { id, began_at, actor, token_id, action, target_kind, target_id, account, tenant, request_id } =
                item.begun.clone();
            let entry = AuditEntry {
                number: last.number + 1,
                id,
                created_at: now,
                began_at,
                actor,
                token_id,
                action,
                target_kind,
                target_id,
                integrated_account_id: account,
                tenant,
                outcome: item.ended.outcome,
                code: item.ended.code.map(str::to_owned),
                request_id,
                previous: last.hash,
                hash: String::new(),
            };
            let (bytes, mark) = sealed(&self.keys, AuditMark::Entry, environment, &entry)?;
            entries.push(Bytes::from(bytes));
            last = Head { number: entry.number, hash: hex(&mark), ..last };
        }
        let expired = cut.as_ref().map_or(0..0, |cut| head.first..cut.first);
        if let Some(Cut { first, before }) = cut {
            last = Head { first, before, ..last };
        }
        let (bytes, _) = sealed(&self.keys, AuditMark::Head, environment, &last)?;
        let ended = items.iter().filter_map(|item| Some((item.begun.id, item.open?))).collect();
        Ok(Append { first: head.number + 1, entries, head: bytes.into(), expected, ended, expired, turn: None })
    }
}

/// Whoever waits is told; ends of what has begun are written when the store is back, if this node lives until then.
fn give_up(desk: &Desk, items: Vec<Item>, failure: &Error) {
    tracing::error!(entries = items.len(), cause = %failure, "the audit log cannot be written");
    for mut item in items {
        let tell = item.tell.take();
        {
            let mut held = desk.held();
            held.unfinished.remove(&item.begun.id);
            let is_worth_it = item.open.is_some() && item.ended.outcome != AuditOutcome::Unknown;
            if is_worth_it && held.late.len() < LATE {
                held.late.push(item);
            }
        }
        if let Some(tell) = tell {
            let _ = tell.send(Err(failure.clone()));
        }
    }
    desk.ended.notify_waiters();
}

/// The log itself was changed from outside. That does not pass.
pub(super) fn damaged() -> Error {
    let detail = "The audit log was changed from outside, so that nothing more can be written to it. `rollcall audit verify` says \
                  what is wrong; restore the store from a backup.";
    Error::new(Code::Internal, detail).because("the head of the audit log is missing or was changed")
}
