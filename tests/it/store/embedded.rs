//! The contract on the embedded backend, and what only it promises.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use rollcall::{
    model::SystemClock,
    store::{Batch, Key, Slot, Store, StoreError, Write, embedded::Embedded},
};
use tokio::task::JoinSet;

use super::{
    clocks, concurrency, contract,
    fixture::{Fixture, put, put_for, run_all},
};
use crate::support::clock::ManualClock;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_contract_holds() {
    run_all([contract::all(), clocks::all(), concurrency::all()].concat(), |_| Fixture::embedded()).await;
}

fn open(path: &std::path::Path) -> Result<Embedded, StoreError> {
    Embedded::open(path, Arc::new(SystemClock))
}

fn key(slot: &str, name: &str) -> Key {
    Key { slot: Slot::new(slot), name: name.into() }
}

async fn commit(store: &dyn Store, slot: &str, writes: Vec<Write>) -> Result<Vec<u64>, StoreError> {
    store.commit(Batch { slot: Slot::new(slot), fence: None, writes }).await
}

#[tokio::test]
async fn a_second_opening_is_refused_with_a_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let first = open(folder.path()).unwrap();
    match open(folder.path()) {
        Err(StoreError::InUse(text)) => assert!(text.contains("already open") && text.contains("ROLLCALL_URL"), "{text}"),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("two at once"),
    }
    drop(first);
    open(folder.path()).unwrap();
}

#[tokio::test]
async fn what_was_committed_is_there_after_reopening_and_versions_and_fences_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).unwrap();
    let first = commit(&store, "s", vec![put("a", "1")]).await.unwrap()[0];
    let fence = store.hold(&key("s", "l"), Duration::from_secs(600)).await.unwrap().unwrap().fence;
    drop(store);
    let store = open(folder.path()).unwrap();
    assert_eq!(store.get(&key("s", "a")).await.unwrap().unwrap().version, first);
    assert!(commit(&store, "s", vec![put("a", "2")]).await.unwrap()[0] > first);
    let again = store.hold(&key("s", "l"), Duration::from_secs(600)).await.unwrap().expect("a lock ends with its process");
    assert!(again.fence > fence);
}

#[tokio::test]
async fn directory_and_file_are_the_owners_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deep/data");
    let _store = open(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(fs::metadata(path.join("rollcall.redb")).unwrap().permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn a_place_that_cannot_be_a_store_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "x").unwrap();
    assert!(matches!(open(&file), Err(StoreError::Refused(text)) if text.contains("file")));
    fs::create_dir(folder.path().join("dir")).unwrap();
    fs::write(folder.path().join("dir/rollcall.redb"), "this is not a database, but long enough to be looked at".repeat(200))
        .unwrap();
    assert!(open(&folder.path().join("dir")).is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_commits_share_an_fsync() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(open(folder.path()).unwrap());
    let mut alone = Duration::ZERO;
    for n in 0..20 {
        let started = Instant::now();
        commit(&*store, "s", vec![put(&format!("alone/{n}"), "x")]).await.unwrap();
        alone += started.elapsed();
    }
    let mut running = JoinSet::new();
    let started = Instant::now();
    for n in 0..2_000 {
        let store = store.clone();
        running.spawn(async move { commit(&*store, &format!("a{n}"), vec![put("account", "x")]).await.unwrap() });
    }
    running.join_all().await;
    let (together, alone) = (started.elapsed() / 2_000, alone / 20);
    assert!(together * 2 < alone, "{together:?} each together, {alone:?} alone");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_accounts_open_in_milliseconds() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(open(folder.path()).unwrap());
    let record = "r".repeat(2_000);
    let mut running = JoinSet::new();
    for n in 0..10_000 {
        let (store, record) = (store.clone(), record.clone());
        running.spawn(async move { commit(&*store, &format!("a{n}"), vec![put("account", &record)]).await.map(|_| ()) });
    }
    running.join_all().await.into_iter().collect::<Result<(), _>>().unwrap();
    drop(store);
    let started = Instant::now();
    let store = open(folder.path()).unwrap();
    let opened = started.elapsed();
    // In a debug build the engine walks every page for its own assertions.
    let limit = Duration::from_millis(if cfg!(debug_assertions) { 5_000 } else { 150 });
    assert!(opened < limit, "{opened:?}");
    assert!(store.get(&key("a9999", "account")).await.unwrap().is_some());
}

#[tokio::test]
async fn the_dead_are_swept_from_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new());
    let store = Embedded::open(folder.path(), clock.clone()).unwrap();
    for round in 0..60 {
        let writes = (0..8).map(|n| put_for(&format!("{round}/{n}"), &"x".repeat(100_000), Duration::from_secs(1))).collect();
        commit(&store, "s", writes).await.unwrap();
        clock.advance(Duration::from_secs(2));
    }
    let size = fs::metadata(folder.path().join("rollcall.redb")).unwrap().len();
    assert!(size < 20_000_000, "48 MB were written, 1 MB lives, the file has {size} bytes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c_03_a_backup_under_load_is_one_moment() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(open(folder.path()).unwrap());
    let stop = Arc::new(AtomicBool::new(false));
    let mut writers = JoinSet::new();
    for writer in 0..4 {
        let (store, stop) = (store.clone(), stop.clone());
        writers.spawn(async move {
            let (slot, mut n) = (format!("w{writer}"), 0);
            while !stop.load(Ordering::SeqCst) {
                n += 1;
                let text = n.to_string();
                commit(&*store, &slot, vec![put("a", &text), put("b", &text)]).await.unwrap();
                store.push(&key(&slot, "q"), &text, "x".into(), Duration::ZERO).await.unwrap();
            }
            n
        });
    }
    tokio::time::sleep(Duration::from_millis(150)).await;
    let number = |entry: Option<rollcall::store::Entry>| {
        entry.map_or(0, |entry| std::str::from_utf8(&entry.value).unwrap().parse::<u32>().unwrap())
    };
    let before = number(store.get(&key("w0", "a")).await.unwrap());
    let copy = tempfile::tempdir().unwrap();
    let file = store.backup(&copy.path().join("restored")).await.unwrap();
    let again = store.backup(&copy.path().join("restored")).await;
    assert!(matches!(again, Err(StoreError::Refused(_))), "a backup must not be overwritten");
    stop.store(true, Ordering::SeqCst);
    let after: Vec<u32> = writers.join_all().await;
    let restored = open(file.parent().unwrap()).unwrap();
    for writer in 0..4 {
        let slot = format!("w{writer}");
        let (a, b) = (restored.get(&key(&slot, "a")).await.unwrap(), restored.get(&key(&slot, "b")).await.unwrap());
        let (a, b) = (number(a), number(b));
        let queued = restored.claim(&key(&slot, "q"), Duration::from_secs(9), 100_000).await.unwrap().len();
        assert_eq!(a, b, "half a transaction in the copy");
        assert!(queued == a as usize || queued + 1 == a as usize, "{queued} items, {a} rounds");
        assert!(a <= *after.iter().max().unwrap() && (writer != 0 || a >= before), "{a} not in {before}..={after:?}");
    }
    let version = commit(&restored, "w0", vec![put("a", "new")]).await.unwrap()[0];
    assert!(version > 0, "the copy is a store of its own");
}
