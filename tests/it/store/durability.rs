//! C-01: what was acknowledged survives `kill -9` and a power cut, whole.

use std::{
    collections::HashMap,
    fs::OpenOptions,
    io::{self, BufRead, BufReader, Write as _},
    ops::Bound,
    path::Path,
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use powercut::{Checker, Scenario, ScratchDir, SyncJournal, SyncKind, Tier, Verdict};
use redb::{BackendError, StorageBackend, backends::FileBackend};
use rollcall::{
    model::SystemClock,
    store::{Batch, Key, Slot, Store, embedded::Embedded},
};
use tokio::task::JoinSet;

use super::fixture::put;
use crate::support::long;

const WRITERS: usize = 4;
const CHILD: &str = "ROLLCALL_TEST_STORE_CHILD";
/// Over before anybody looks again.
const LEASE: Duration = Duration::from_micros(1);

fn key(slot: &str, name: &str) -> Key {
    Key { slot: Slot::new(slot), name: name.into() }
}

async fn number(store: &dyn Store, slot: &str, name: &str) -> u64 {
    let found = store.get(&key(slot, name)).await.unwrap();
    found.map_or(0, |entry| std::str::from_utf8(&entry.value).unwrap().parse().unwrap())
}

/// One step of a writer: an account-like pair, a token-like record of its own, an outbox item.
async fn step(store: &dyn Store, writer: usize, n: u64) {
    let (slot, text) = (format!("w{writer}"), n.to_string());
    let writes = vec![put("record", &text), put("data-key", &text), put(&format!("token/{n:08}"), &"t".repeat(300))];
    store.commit(Batch { slot: Slot::new(slot.clone()), fence: None, writes }).await.unwrap();
    store.push(&key(&slot, "outbox"), &format!("{n:08}"), text.into(), Duration::ZERO).await.unwrap();
}

/// Finds what of `acknowledged` is missing or half there.
async fn losses(store: &dyn Store, acknowledged: &HashMap<usize, u64>) -> Vec<String> {
    let mut lost = Vec::new();
    for writer in 0..WRITERS {
        let slot = format!("w{writer}");
        let acked = acknowledged.get(&writer).copied().unwrap_or(0);
        let (record, data_key) = (number(store, &slot, "record").await, number(store, &slot, "data-key").await);
        if record != data_key {
            lost.push(format!("{slot}: half a transaction, {record} and {data_key}"));
        }
        if record < acked {
            lost.push(format!("{slot}: {acked} was acknowledged, {record} is there"));
        }
        let tokens = store.scan(&Slot::new(slot.clone()), "token/", None, 1_000_000).await.unwrap().len() as u64;
        if tokens != record {
            lost.push(format!("{slot}: {tokens} tokens for {record} commits"));
        }
        let items = store.claim(&key(&slot, "outbox"), LEASE, 1_000_000).await.unwrap().len() as u64;
        if items < acked {
            lost.push(format!("{slot}: {items} outbox items, {acked} were acknowledged"));
        }
    }
    lost
}

/// The process that is killed: writes and says on stdout what was acknowledged.
fn child(folder: &Path) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let store = Arc::new(Embedded::open(folder, Arc::new(SystemClock)).unwrap());
        let mut writers = JoinSet::new();
        for writer in 0..WRITERS {
            let store = store.clone();
            writers.spawn(async move {
                // A kill between commit and push leaves one item unsaid; it is pushed again, which is one item.
                let mut n = number(&*store, &format!("w{writer}"), "record").await;
                if n > 0 {
                    store
                        .push(&key(&format!("w{writer}"), "outbox"), &format!("{n:08}"), "".into(), Duration::ZERO)
                        .await
                        .unwrap();
                }
                loop {
                    n += 1;
                    step(&*store, writer, n).await;
                    let line = format!("ack {writer} {n}\n");
                    io::stdout().lock().write_all(line.as_bytes()).unwrap();
                }
            });
        }
        writers.join_next().await;
    });
}

#[test]
fn c_01_acknowledged_means_durable_when_killed() {
    if let Some(folder) = std::env::var_os(CHILD) {
        return child(Path::new(&folder));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut folder = tempfile::tempdir().unwrap();
    let mut acknowledged = HashMap::new();
    for cycle in 0..if long() { 500_u64 } else { 15 } {
        if cycle > 0 && cycle % 25 == 0 {
            // Else the check of all that was ever written takes longer than the writing.
            folder = tempfile::tempdir().unwrap();
            acknowledged.clear();
        }
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "store::durability::c_01_acknowledged_means_durable_when_killed", "--nocapture"])
            .env(CHILD, folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        // From the first acknowledgement of this cycle on, a different moment each time.
        let mut seen = 0;
        let until = 1 + cycle * 7 % 40;
        while seen < until {
            let line = lines.next().expect("the child ended by itself").unwrap();
            seen += u64::from(note(&line, &mut acknowledged));
        }
        std::thread::sleep(Duration::from_micros(cycle * 997 % 6_000));
        process.kill().unwrap();
        process.wait().unwrap();
        for line in lines.map_while(Result::ok) {
            note(&line, &mut acknowledged);
        }
        runtime.block_on(async {
            let started = Instant::now();
            let store = Embedded::open(folder.path(), Arc::new(SystemClock)).unwrap();
            assert!(started.elapsed() < Duration::from_secs(5), "cycle {cycle}: opened in {:?}", started.elapsed());
            let lost = losses(&store, &acknowledged).await;
            assert!(lost.is_empty(), "cycle {cycle}: {lost:?}");
        });
    }
    assert_eq!(acknowledged.len(), WRITERS, "every writer was heard");
    runtime.block_on(the_check_can_fail(folder.path(), &acknowledged));
}

/// Takes a line of the child in; a line cut by the kill is none.
fn note(line: &str, acknowledged: &mut HashMap<usize, u64>) -> bool {
    let words: Vec<&str> = line.split(' ').collect();
    let ["ack", writer, n] = words[..] else { return false };
    let (Ok(writer), Ok(n)) = (writer.parse(), n.parse::<u64>()) else { return false };
    let last = acknowledged.entry(writer).or_insert(0);
    *last = n.max(*last);
    true
}

async fn the_check_can_fail(folder: &Path, acknowledged: &HashMap<usize, u64>) {
    let store = Embedded::open(folder, Arc::new(SystemClock)).unwrap();
    let torn = Batch { slot: Slot::new("w1"), fence: None, writes: vec![put("data-key", "0")] };
    store.commit(torn).await.unwrap();
    let mut more = acknowledged.clone();
    *more.get_mut(&0).unwrap() += 1_000;
    let lost = losses(&store, &more).await;
    assert!(lost.iter().any(|line| line.starts_with("w0: ") && line.contains("was acknowledged")), "{lost:?}");
    assert!(lost.iter().any(|line| line.starts_with("w1: half")), "{lost:?}");
}

/// A file that tells a journal of its syncs, or forgets to sync.
#[derive(Debug)]
struct Journalled {
    inner: FileBackend,
    journal: SyncJournal,
    path: std::path::PathBuf,
    syncs: bool,
}

impl StorageBackend for Journalled {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.inner.read(offset, out)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.inner.set_len(len)
    }
    fn sync_data(&self) -> io::Result<()> {
        if self.syncs {
            self.inner.sync_data()?;
            self.journal.record(&self.path, SyncKind::Data, self.inner.len().ok());
        }
        Ok(())
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.inner.write(offset, data)
    }
    fn close(&self) -> io::Result<()> {
        self.inner.close()
    }
    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.try_lock_range(start, end)
    }
    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.unlock_range(start, end)
    }
}

fn journalled(folder: &Path, journal: &SyncJournal, syncs: bool) -> Embedded {
    let (path, journal) = (folder.join("rollcall.redb"), journal.clone());
    let storage = move || {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path)?;
        let inner = FileBackend::new(file).map_err(io::Error::other)?;
        Ok(Journalled { inner, journal: journal.clone(), path: path.clone(), syncs })
    };
    Embedded::with_backend(storage, Arc::new(SystemClock)).unwrap()
}

/// Commits `points` times; at each acknowledgement the power goes and a new process looks at what is left.
fn cut_power(points: u64, syncs: bool) -> Vec<Verdict> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let place = ScratchDir::new("rollcall-store").unwrap();
    let journal = SyncJournal::complete();
    let store = journalled(place.path(), &journal, true);
    runtime.block_on(step(&store, 0, 1));
    journal.sync_dir(place.path()).unwrap();
    drop(store);
    let store = journalled(place.path(), &journal, syncs);
    let verdict = |n| {
        let report = Scenario::new(place.path(), journal.clone())
            .label(format!("embedded store, commit {n}"))
            .tier(Tier::PowerCut)
            .ack(|| {
                runtime.block_on(step(&store, 0, n));
                n
            })
            .unwrap()
            .check(|crash, acked| {
                let mut checker = Checker::new();
                let quiet = SyncJournal::complete();
                let left = runtime.block_on(async {
                    let store = journalled(crash.dir(), &quiet, true);
                    losses(&store, &HashMap::from([(0, *acked)])).await
                });
                checker.survives("commit", Some(Vec::<String>::new()), Some(left));
                checker.finish()
            });
        report.verdict()
    };
    (2..2 + points).map(verdict).collect()
}

#[test]
fn c_01_acknowledged_means_durable_when_the_power_goes() {
    let verdicts = cut_power(if long() { 200 } else { 20 }, true);
    assert!(verdicts.iter().all(|verdict| *verdict == Verdict::Survived), "{verdicts:?}");
}

#[test]
fn c_01_a_store_that_does_not_sync_is_found_out() {
    let verdicts = cut_power(3, false);
    assert!(verdicts.contains(&Verdict::Lost), "{verdicts:?}");
}

/// What reached the disk, in order.
#[derive(Clone, Debug)]
enum Event {
    Write(u64, Vec<u8>),
    Length(u64),
    Sync,
}

#[derive(Clone, Debug, Default)]
struct Recorder(Arc<Mutex<(Vec<u8>, Vec<Event>)>>);

impl StorageBackend for Recorder {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().unwrap().0.len() as u64)
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let inner = self.0.lock().unwrap();
        let start = usize::try_from(offset).unwrap();
        let bytes = inner.0.get(start..start + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(bytes);
        Ok(())
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut inner = self.0.lock().unwrap();
        inner.0.resize(usize::try_from(len).unwrap(), 0);
        inner.1.push(Event::Length(len));
        Ok(())
    }
    fn sync_data(&self) -> io::Result<()> {
        self.0.lock().unwrap().1.push(Event::Sync);
        Ok(())
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut inner = self.0.lock().unwrap();
        overlay(&mut inner.0, offset, data);
        inner.1.push(Event::Write(offset, data.to_vec()));
        Ok(())
    }
}

fn overlay(image: &mut Vec<u8>, offset: u64, data: &[u8]) {
    let start = usize::try_from(offset).unwrap();
    if image.len() < start + data.len() {
        image.resize(start + data.len(), 0);
    }
    image[start..start + data.len()].copy_from_slice(data);
}

/// The disk after a power cut before event `cut`: everything synced, and of the rest what chance lets through, each write
/// possibly torn at a sector.
fn image_at(events: &[Event], cut: usize, seed: u64) -> Vec<u8> {
    let synced = events[..cut].iter().rposition(|event| matches!(event, Event::Sync)).map_or(0, |last| last + 1);
    let (mut image, mut chance) = (Vec::new(), seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    for (at, event) in events[..cut].iter().enumerate() {
        chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        match event {
            Event::Length(length) => image.resize(usize::try_from(*length).unwrap(), 0),
            Event::Write(offset, data) if at < synced => overlay(&mut image, *offset, data),
            Event::Write(offset, data) => {
                let kept = match (chance >> 40) % 3 {
                    0 => 0,
                    1 => data.len(),
                    _ => ((chance >> 43) as usize % (data.len() / 512 + 1)) * 512,
                };
                overlay(&mut image, *offset, &data[..kept]);
            }
            Event::Sync => {}
        }
    }
    image
}

#[tokio::test]
async fn c_01_torn_writes_lose_nothing_acknowledged() {
    let disk = Recorder::default();
    let storage = disk.clone();
    let store = Embedded::with_backend(move || Ok(storage.clone()), Arc::new(SystemClock)).unwrap();
    step(&store, 0, 1).await;
    let first = disk.0.lock().unwrap().1.len();
    let mut acked = vec![(first, 1)];
    for n in 2..=12 {
        step(&store, 0, n).await;
        acked.push((disk.0.lock().unwrap().1.len(), n));
    }
    let events = disk.0.lock().unwrap().1.clone();
    let points = if long() { 1_000 } else { 60 };
    for point in 0..points {
        let cut = first + point * 31 % (events.len() - first + 1);
        let image = image_at(&events, cut, point as u64);
        let left = Recorder(Arc::new(Mutex::new((image, Vec::new()))));
        let store = Embedded::with_backend(move || Ok(left.clone()), Arc::new(SystemClock))
            .unwrap_or_else(|error| panic!("point {point}, event {cut} of {}: {error}", events.len()));
        let expected = acked.iter().rfind(|(at, _)| *at <= cut).map_or(0, |(_, n)| *n);
        let lost = losses(&store, &HashMap::from([(0, expected)])).await;
        assert!(lost.is_empty(), "point {point}, event {cut}: {lost:?}");
    }
    // The same check on a disk that stopped at the first acknowledgement.
    let stale = Recorder(Arc::new(Mutex::new((image_at(&events, first, 0), Vec::new()))));
    let store = Embedded::with_backend(move || Ok(stale.clone()), Arc::new(SystemClock)).unwrap();
    assert!(!losses(&store, &HashMap::from([(0, 12)])).await.is_empty(), "a lost write must be noticed");
}
