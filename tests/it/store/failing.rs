//! C-02: full disk, I/O errors, a disk that became read-only, below the embedded store.

use std::{
    fs::OpenOptions,
    io,
    ops::Bound,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::{Duration, Instant},
};

use redb::{BackendError, StorageBackend, backends::FileBackend};
use rollcall::{
    model::SystemClock,
    store::{Batch, Key, Slot, Store, StoreError, embedded::Embedded},
};

use super::fixture::put;

const FINE: u8 = 0;
/// Writes fail with ENOSPC.
const FULL: u8 = 1;
/// Reads, writes and syncs fail with EIO.
const BROKEN: u8 = 2;
/// Writes fail with EROFS.
const READ_ONLY: u8 = 3;
/// Writes succeed, syncs fail with EIO.
const NO_SYNC: u8 = 4;
/// Writes are cut in half, then fail with ENOSPC.
const SHORT: u8 = 5;

#[derive(Debug)]
struct Faulty {
    inner: FileBackend,
    fault: Arc<AtomicU8>,
}

impl Faulty {
    fn check(&self, on: &[(u8, i32)]) -> io::Result<()> {
        let now = self.fault.load(Ordering::SeqCst);
        match on.iter().find(|(fault, _)| *fault == now) {
            Some((_, code)) => Err(io::Error::from_raw_os_error(*code)),
            None => Ok(()),
        }
    }
}

const EIO: i32 = 5;
const ENOSPC: i32 = 28;
const EROFS: i32 = 30;

impl StorageBackend for Faulty {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.check(&[(BROKEN, EIO)])?;
        self.inner.read(offset, out)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.check(&[(FULL, ENOSPC), (BROKEN, EIO), (READ_ONLY, EROFS), (SHORT, ENOSPC)])?;
        self.inner.set_len(len)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.check(&[(BROKEN, EIO), (NO_SYNC, EIO)])?;
        self.inner.sync_data()
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        if self.fault.load(Ordering::SeqCst) == SHORT {
            self.inner.write(offset, &data[..data.len() / 2])?;
        }
        self.check(&[(FULL, ENOSPC), (BROKEN, EIO), (READ_ONLY, EROFS), (SHORT, ENOSPC)])?;
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

struct Disk {
    path: PathBuf,
    fault: Arc<AtomicU8>,
    store: Embedded,
}

impl Disk {
    fn new(folder: &Path) -> Self {
        let (path, fault) = (folder.join("rollcall.redb"), Arc::new(AtomicU8::new(FINE)));
        let (file, shared) = (path.clone(), fault.clone());
        let storage = move || {
            let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&file)?;
            Ok(Faulty { inner: FileBackend::new(file).map_err(io::Error::other)?, fault: shared.clone() })
        };
        let store = Embedded::with_backend(storage, Arc::new(SystemClock)).unwrap();
        Self { path, fault, store }
    }

    async fn write(&self, name: &str, value: &str) -> Result<u64, StoreError> {
        let batch =
            Batch { slot: Slot::new("s"), fence: None, writes: vec![put(name, value), put(&format!("{name}.twin"), value)] };
        let started = Instant::now();
        let outcome = self.store.commit(batch).await.map(|versions| versions[0]);
        assert!(started.elapsed() < Duration::from_millis(2_500), "a call hung");
        outcome
    }

    async fn read(&self, name: &str) -> Result<Option<String>, StoreError> {
        let found = self.store.get(&Key { slot: Slot::new("s"), name: name.into() }).await?;
        Ok(found.map(|entry| String::from_utf8(entry.value.to_vec()).unwrap()))
    }

    async fn recovers(&self) {
        let end = Instant::now() + Duration::from_secs(5);
        while let Err(error) = self.store.health().await {
            assert!(Instant::now() < end, "not well again within 5 s: {error}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

async fn survive(fault: u8) {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::new(folder.path());
    let mut last_version = 0;
    for round in 0..4 {
        for n in 0..10 {
            let version = disk.write(&format!("{round}/{n}"), &"x".repeat(5_000)).await.unwrap();
            assert!(version > last_version, "a version came twice");
            last_version = version;
        }
        disk.fault.store(fault, Ordering::SeqCst);
        let mut refused = 0;
        for n in 0..6 {
            let outcome = disk.write(&format!("{round}/fault/{n}"), &"y".repeat(200_000)).await;
            assert!(matches!(outcome, Err(StoreError::Unavailable(_))), "fault {fault}: {outcome:?}");
            refused += 1;
            // A read under the fault is right or an error, never wrong.
            if let Ok(read) = disk.read(&format!("{round}/0")).await {
                assert_eq!(read.unwrap(), "x".repeat(5_000));
            }
        }
        assert_eq!(refused, 6);
        disk.fault.store(FINE, Ordering::SeqCst);
        disk.recovers().await;
        for n in 0..10 {
            assert_eq!(
                disk.read(&format!("{round}/{n}")).await.unwrap().unwrap(),
                "x".repeat(5_000),
                "an acknowledged write is gone"
            );
        }
        for n in 0..6 {
            let name = format!("{round}/fault/{n}");
            assert_eq!(disk.read(&name).await.unwrap(), disk.read(&format!("{name}.twin")).await.unwrap(), "half a transaction");
        }
    }
    let path = disk.path.clone();
    drop(disk);
    assert!(redb::Database::open(path).unwrap().check_integrity().unwrap(), "the file is damaged");
}

#[tokio::test]
async fn c_02_a_full_disk_is_survived() {
    survive(FULL).await;
}

#[tokio::test]
async fn c_02_a_disk_full_in_mid_write_is_survived() {
    survive(SHORT).await;
}

#[tokio::test]
async fn c_02_an_io_error_is_survived() {
    survive(BROKEN).await;
}

#[tokio::test]
async fn c_02_a_failed_fsync_is_not_an_acknowledgement() {
    survive(NO_SYNC).await;
}

#[tokio::test]
async fn c_02_a_read_only_disk_is_survived() {
    survive(READ_ONLY).await;
}

#[tokio::test]
async fn c_02_health_says_when_the_disk_is_full() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::new(folder.path());
    disk.store.health().await.unwrap();
    disk.fault.store(FULL, Ordering::SeqCst);
    assert!(disk.write("a", "1").await.is_err());
    assert!(matches!(disk.store.health().await, Err(StoreError::Unavailable(_))), "not ready while nothing can be written");
    disk.fault.store(FINE, Ordering::SeqCst);
    disk.recovers().await;
}

const CHILD: &str = "ROLLCALL_TEST_STORE_LIMITED";

/// A real file that may not grow, in a process of its own because the limit holds for all its files.
#[test]
fn c_02_a_real_file_that_cannot_grow_is_survived() {
    if let Some(folder) = std::env::var_os(CHILD) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        return runtime.block_on(fill_and_recover(Path::new(&folder)));
    }
    let folder = tempfile::tempdir().unwrap();
    let ended = std::process::Command::new("sh")
        .args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "store::failing::c_02_a_real_file_that_cannot_grow_is_survived", "--nocapture"])
        .env(CHILD, folder.path())
        .output()
        .unwrap();
    assert!(ended.status.success(), "{}{}", String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
    assert!(redb::Database::open(folder.path().join("rollcall.redb")).unwrap().check_integrity().unwrap());
}

async fn fill_and_recover(folder: &Path) {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let store = Embedded::open(folder, Arc::new(SystemClock)).unwrap();
    let before = getrlimit(Resource::Fsize);
    let mut small = before;
    small.current = Some(std::fs::metadata(folder.join("rollcall.redb")).unwrap().len() + 100_000);
    let write = async |n: usize| {
        let value = "x".repeat(30_000);
        store.commit(Batch { slot: Slot::new("s"), fence: None, writes: vec![put(&n.to_string(), &value)] }).await
    };
    let mut acknowledged = Vec::new();
    for round in 0..3 {
        setrlimit(Resource::Fsize, small).unwrap();
        let mut failures = 0;
        for n in (round * 1_000..).take(400) {
            match write(n).await {
                Ok(_) => acknowledged.push(n),
                Err(StoreError::Unavailable(_)) => failures += 1,
                Err(other) => panic!("{other:?}"),
            }
            if failures == 5 {
                break;
            }
        }
        assert_eq!(failures, 5, "the file grew beyond its limit");
        setrlimit(Resource::Fsize, before).unwrap();
        let end = Instant::now() + Duration::from_secs(5);
        while let Err(error) = store.health().await {
            assert!(Instant::now() < end, "not well again within 5 s: {error}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        acknowledged.push(round * 1_000 + 999);
        write(round * 1_000 + 999).await.unwrap();
        for n in &acknowledged {
            let found = store.get(&Key { slot: Slot::new("s"), name: n.to_string() }).await.unwrap();
            assert_eq!(found.unwrap().value.len(), 30_000, "an acknowledged write is gone");
        }
        small.current = Some(std::fs::metadata(folder.join("rollcall.redb")).unwrap().len());
    }
}
