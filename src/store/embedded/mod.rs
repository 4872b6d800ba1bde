//! The embedded backend: one redb file in one directory, open in one process.
//!
//! Reads run where they are called (a page lookup); everything that writes goes through one thread, which puts all calls
//! that wait into one transaction and so shares one fsync among them. After an I/O error the file is opened anew, by
//! itself, and what was committed before is still there. Locks and rate buckets live in memory: they cannot outlive the
//! only process that could hold them.

mod apply;
mod file;
mod limits;
mod survey;
mod tables;
mod writer;

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread::JoinHandle,
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use redb::{Database, ReadTransaction, ReadableDatabase, StorageBackend};
use tokio::sync::oneshot;

use self::{
    apply::{Done, Op},
    limits::{Buckets, Locks},
    writer::Job,
};
use super::{Batch, Claimed, Entry, Health, Hold, Key, Lasting, Settle, Slot, Spent, Store, StoreError};
use crate::model::Clock;

type Opener = Box<dyn Fn() -> Result<Database, redb::Error> + Send + Sync>;

/// Reads of more entries than this leave the async worker.
const LONG_SCAN: usize = 64;

/// A durable store in one directory, for installations without Redis.
pub struct Embedded {
    shared: Arc<Shared>,
    jobs: Option<mpsc::Sender<Job>>,
    writer: Option<JoinHandle<()>>,
}

struct Shared {
    /// `None` after an I/O error, until the writer has opened the file anew.
    database: RwLock<Option<Arc<Database>>>,
    opener: Opener,
    clock: Arc<dyn Clock>,
    locks: Mutex<Locks>,
    buckets: Mutex<Buckets>,
    trouble: Mutex<Option<String>>,
}

impl Embedded {
    /// Whether a store was ever made in this directory, for whoever must not make one by looking.
    pub fn is_made(path: &Path) -> bool {
        file::place(path).exists()
    }

    /// Opens the store in this directory, making both when they are missing. Another process that has it open is
    /// `InUse`, with a sentence for people.
    pub fn open(path: &Path, clock: Arc<dyn Clock>) -> Result<Embedded, StoreError> {
        let file = file::prepare(path)?;
        let shown = path.to_path_buf();
        let again = AtomicBool::new(false);
        let opener = move || if again.swap(true, Ordering::Relaxed) { file::reopen(&file) } else { file::open(&file) };
        Self::start(Box::new(opener), clock).map_err(|error| name_the_place(error, &shown))
    }

    /// A store over any storage, for tests of power cuts and failing disks; `storage` is called for each (re)opening.
    pub fn with_backend<B, F>(storage: F, clock: Arc<dyn Clock>) -> Result<Embedded, StoreError>
    where
        B: StorageBackend,
        F: Fn() -> io::Result<B> + Send + Sync + 'static,
    {
        Self::start(Box::new(move || Ok(file::builder().create_with_backend(storage()?)?)), clock)
    }

    /// Writes a consistent copy of everything committed so far into the new directory `to`, while the store is in use.
    /// The copy is itself a store: restoring is opening it.
    pub async fn backup(&self, to: &Path) -> Result<PathBuf, StoreError> {
        let (shared, to) = (self.shared.clone(), to.to_path_buf());
        tokio::task::spawn_blocking(move || file::backup(&shared, &to))
            .await
            .map_err(|error| StoreError::Unavailable(format!("the backup ended early: {error}")))?
    }

    fn start(opener: Opener, clock: Arc<dyn Clock>) -> Result<Embedded, StoreError> {
        let database = opener().map_err(refusal)?;
        let epoch = file::initialise(&database)?;
        let shared = Arc::new(Shared {
            database: RwLock::new(Some(Arc::new(database))),
            opener,
            clock,
            locks: Mutex::new(Locks::new(epoch)),
            buckets: Mutex::default(),
            trouble: Mutex::default(),
        });
        let (jobs, queue) = mpsc::channel();
        let writer = std::thread::Builder::new()
            .name("store-writer".into())
            .spawn({
                let shared = shared.clone();
                move || writer::run(&shared, &queue)
            })
            .map_err(|error| StoreError::Unavailable(format!("no thread for the store: {error}")))?;
        Ok(Self { shared, jobs: Some(jobs), writer: Some(writer) })
    }

    async fn write(&self, op: Op) -> Result<Done, StoreError> {
        let (answer, reply) = oneshot::channel();
        let sent = self.jobs.as_ref().is_some_and(|jobs| jobs.send(Job { op, answer }).is_ok());
        let gone = || StoreError::Unavailable("the store is closing".into());
        if sent { reply.await.map_err(|_| gone())? } else { Err(gone()) }
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

impl Shared {
    fn now(&self) -> u64 {
        u64::try_from(self.clock.now().as_microsecond()).unwrap_or(0)
    }

    fn database(&self) -> Option<Arc<Database>> {
        self.database.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Lets go of the file after an I/O error; the writer opens it anew.
    fn give_up(&self, failed: &Arc<Database>, error: &str) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.to_owned());
        let mut current = self.database.write().unwrap_or_else(PoisonError::into_inner);
        if current.as_ref().is_some_and(|database| Arc::ptr_eq(database, failed)) {
            *current = None;
        }
    }

    fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn unavailable(&self) -> StoreError {
        StoreError::Unavailable(self.trouble().unwrap_or_else(|| "the file is being opened anew".into()))
    }

    fn read<T>(&self, ask: impl FnOnce(&ReadTransaction) -> Result<T, redb::Error>) -> Result<T, StoreError> {
        let database = self.database().ok_or_else(|| self.unavailable())?;
        let outcome = database.begin_read().map_err(redb::Error::from).and_then(|transaction| ask(&transaction));
        outcome.map_err(|error| {
            self.give_up(&database, &error.to_string());
            refusal(error)
        })
    }

    fn scan(&self, slot: &Slot, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<(String, Entry)>, StoreError> {
        let now = self.now();
        let from = after.filter(|after| *after >= prefix).unwrap_or(prefix);
        self.read(|transaction| {
            let entries = transaction.open_table(tables::ENTRIES)?;
            let mut found = Vec::new();
            for entry in entries.range((slot.as_str(), from)..)? {
                let (key, stored) = entry?;
                let (here, name) = key.value();
                if found.len() >= limit || here != slot.as_str() || !name.starts_with(prefix) {
                    break;
                }
                let (version, expiry, value) = stored.value();
                if expiry > now && after != Some(name) {
                    found.push((name.to_owned(), Entry { value: Bytes::copy_from_slice(value), version }));
                }
            }
            Ok(found)
        })
    }

    fn has_due(&self, queue: &Key) -> Result<bool, StoreError> {
        let (slot, name, now) = (queue.slot.as_str(), queue.name.as_str(), self.now());
        self.read(|transaction| {
            let due = transaction.open_table(tables::DUE)?;
            let first = due.range((slot, name, 0, "")..(slot, name, now.saturating_add(1), ""))?.next().transpose()?;
            Ok(first.is_some())
        })
    }
}

/// A long read, off the async worker.
async fn aside<T: Send + 'static>(read: impl FnOnce() -> Result<T, StoreError> + Send + 'static) -> Result<T, StoreError> {
    let read = tokio::task::spawn_blocking(read).await;
    read.map_err(|error| StoreError::Unavailable(format!("the read ended early: {error}")))?
}

/// Text nobody can guess, for owners of locks and leases.
fn random() -> String {
    uuid::Uuid::now_v7().simple().to_string()
}

fn refusal(error: redb::Error) -> StoreError {
    match error {
        redb::Error::DatabaseAlreadyOpen | redb::Error::LockProtocolMismatch => StoreError::InUse(
            "The embedded store is already open in another process. Stop that process, or let it do the work: set \
             `ROLLCALL_URL` and `ROLLCALL_TOKEN`."
                .into(),
        ),
        redb::Error::UpgradeRequired(version) => {
            StoreError::Refused(format!("The embedded store has file format {version}, which this version does not read."))
        }
        redb::Error::Corrupted(what) => StoreError::Damaged(what),
        other => StoreError::Unavailable(other.to_string()),
    }
}

fn name_the_place(error: StoreError, path: &Path) -> StoreError {
    match error {
        StoreError::Refused(text) => StoreError::Refused(format!("{text} ({})", path.display())),
        StoreError::InUse(text) => StoreError::InUse(format!("{text} ({})", path.display())),
        StoreError::Unavailable(text) => StoreError::Unavailable(format!("{}: {text}", path.display())),
        other => other,
    }
}

#[async_trait]
impl Store for Embedded {
    async fn get(&self, key: &Key) -> Result<Option<Entry>, StoreError> {
        let now = self.shared.now();
        self.shared.read(|transaction| {
            let entries = transaction.open_table(tables::ENTRIES)?;
            let found = entries.get((key.slot.as_str(), key.name.as_str()))?;
            Ok(found.and_then(|stored| {
                let (version, expiry, value) = stored.value();
                (expiry > now).then(|| Entry { value: Bytes::copy_from_slice(value), version })
            }))
        })
    }

    async fn scan(
        &self,
        slot: &Slot,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Entry)>, StoreError> {
        if limit <= LONG_SCAN {
            return self.shared.scan(slot, prefix, after, limit);
        }
        let (shared, slot) = (self.shared.clone(), slot.clone());
        let (prefix, after) = (prefix.to_owned(), after.map(str::to_owned));
        aside(move || shared.scan(&slot, &prefix, after.as_deref(), limit)).await
    }

    async fn commit(&self, batch: Batch) -> Result<Vec<u64>, StoreError> {
        match self.write(Op::Commit(batch)).await? {
            Done::Versions(versions) => Ok(versions),
            _ => Ok(Vec::new()),
        }
    }

    async fn hold(&self, key: &Key, ttl: Duration) -> Result<Option<Hold>, StoreError> {
        Ok(self.shared.locks.lock().unwrap_or_else(PoisonError::into_inner).hold(key, ttl, self.shared.now()))
    }

    async fn renew(&self, hold: &Hold, ttl: Duration) -> Result<bool, StoreError> {
        Ok(self.shared.locks.lock().unwrap_or_else(PoisonError::into_inner).renew(hold, ttl, self.shared.now()))
    }

    async fn release(&self, hold: &Hold) -> Result<(), StoreError> {
        self.shared.locks.lock().unwrap_or_else(PoisonError::into_inner).release(hold, self.shared.now());
        Ok(())
    }

    async fn push(&self, queue: &Key, id: &str, value: Bytes, delay: Duration) -> Result<(), StoreError> {
        self.write(Op::Push { queue: queue.clone(), id: id.to_owned(), value, delay }).await.map(|_| ())
    }

    async fn claim(&self, queue: &Key, lease: Duration, limit: usize) -> Result<Vec<Claimed>, StoreError> {
        if !self.shared.has_due(queue)? {
            return Ok(Vec::new());
        }
        match self.write(Op::Claim { queue: queue.clone(), lease, limit }).await? {
            Done::Claimed(items) => Ok(items),
            _ => Ok(Vec::new()),
        }
    }

    async fn settle(&self, queue: &Key, item: &Claimed, outcome: Settle) -> Result<bool, StoreError> {
        let op = Op::Settle { queue: queue.clone(), id: item.id.clone(), lease: item.lease.clone(), outcome };
        Ok(matches!(self.write(op).await?, Done::Settled(true)))
    }

    async fn spend(&self, bucket: &Key, capacity: u32, period: Duration) -> Result<Spent, StoreError> {
        Ok(self.shared.buckets.lock().unwrap_or_else(PoisonError::into_inner).spend(bucket, capacity, period, self.shared.now()))
    }

    async fn slots(&self) -> Result<Vec<Slot>, StoreError> {
        let shared = self.shared.clone();
        aside(move || survey::slots(&shared)).await
    }

    async fn lasting(&self, slot: &Slot, after: Option<&str>) -> Result<Lasting, StoreError> {
        let (shared, slot, after) = (self.shared.clone(), slot.clone(), after.map(str::to_owned));
        aside(move || survey::lasting(&shared, &slot, after.as_deref())).await
    }

    fn is_shared(&self) -> bool {
        false
    }

    async fn health(&self) -> Result<Health, StoreError> {
        if self.shared.trouble().is_some() {
            self.write(Op::Probe).await?;
        } else {
            self.shared.read(|transaction| Ok(transaction.open_table(tables::COUNTERS)?.get("format")?.is_some()))?;
        }
        Ok(Health { description: "embedded store (redb file)".into(), warnings: Vec::new() })
    }
}
