//! The directory, the file in it, and copies of it.

use std::{
    fs::{self, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use redb::{Builder, Database, ReadTransaction, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};

use super::{
    Shared, refusal,
    tables::{COUNTERS, DUE, ENTRIES, EXPIRIES, FORMAT, ITEMS, Tables},
};
use crate::store::StoreError;

const NAME: &str = "rollcall.redb";
/// Enough for the inner pages of 10,000 accounts, small enough for an idle process of 25 MB.
const CACHE: usize = 8 * 1024 * 1024;
/// Entries per transaction of a copy.
const COPY: usize = 2_000;

pub(super) fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE);
    builder
}

/// Where the file of a directory stands.
pub(super) fn place(directory: &Path) -> PathBuf {
    directory.join(NAME)
}

/// Makes the directory (0700) and the file (0600), both durable before anything is promised; answers the file's path.
pub(super) fn prepare(directory: &Path) -> Result<PathBuf, StoreError> {
    let fail =
        |error: io::Error| StoreError::Refused(format!("The embedded store cannot be used: {}: {error}", directory.display()));
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(fail)?;
    let file = place(directory);
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&file).map_err(fail)?;
    sync_directory(directory).map_err(fail)?;
    Ok(file)
}

pub(super) fn open(file: &Path) -> Result<Database, redb::Error> {
    Ok(builder().create(file)?)
}

/// Opens the file after an I/O error. What the kernel failed to write it may still show as if it were on disk; so its
/// cached pages are dropped first, and what is read is what is there.
pub(super) fn reopen(file: &Path) -> Result<Database, redb::Error> {
    let cached = fs::File::open(file).map_err(redb::Error::Io)?;
    rustix::fs::fadvise(&cached, 0, None, rustix::fs::Advice::DontNeed).map_err(|error| redb::Error::Io(error.into()))?;
    drop(cached);
    open(file)
}

/// Makes the tables of a new file, refuses one of another layout, and counts this opening.
pub(super) fn initialise(database: &Database) -> Result<u64, StoreError> {
    let begin = || -> Result<(u64, u64), redb::Error> {
        let transaction = database.begin_write()?;
        let (format, epoch) = {
            let mut tables = Tables::open(&transaction)?;
            let epoch = tables.counter("epoch")? + 1;
            tables.counters.insert("epoch", epoch)?;
            let format = tables.counters.get("format")?.map(|found| found.value());
            if format.is_none() {
                tables.counters.insert("format", FORMAT)?;
            }
            (format.unwrap_or(FORMAT), epoch)
        };
        if format == FORMAT {
            transaction.commit()?
        } else {
            transaction.abort()?
        }
        Ok((format, epoch))
    };
    let (format, epoch) = begin().map_err(refusal)?;
    if format == FORMAT {
        return Ok(epoch);
    }
    Err(StoreError::Refused(format!("The embedded store has layout {format}; this version reads {FORMAT}.")))
}

/// Copies one snapshot of every table into a new directory; the copy gets its name when it is whole and durable.
pub(super) fn backup(shared: &Shared, to: &Path) -> Result<PathBuf, StoreError> {
    let fail = |error: io::Error| StoreError::Unavailable(format!("the copy cannot be written: {}: {error}", to.display()));
    fs::DirBuilder::new().recursive(true).mode(0o700).create(to).map_err(fail)?;
    let (part, whole) = (to.join("rollcall.redb.part"), to.join(NAME));
    if whole.exists() {
        return Err(StoreError::Refused(format!("{} exists already; a backup is written to a new place.", whole.display())));
    }
    if part.exists() {
        fs::remove_file(&part).map_err(fail)?;
    }
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part).map_err(fail)?;
    let copy = open(&part).map_err(refusal)?;
    let source = shared.database().ok_or_else(|| shared.unavailable())?;
    let snapshot = source.begin_read().map_err(|error| refusal(error.into()))?;
    copy_all(&snapshot, &copy).map_err(refusal)?;
    copy.close().map_err(|error| refusal(error.into()))?;
    fs::rename(&part, &whole).map_err(fail)?;
    sync_directory(to).map_err(fail)?;
    Ok(whole)
}

fn copy_all(from: &ReadTransaction, to: &Database) -> Result<(), redb::Error> {
    copy_table(from, to, ENTRIES)?;
    copy_table(from, to, EXPIRIES)?;
    copy_table(from, to, ITEMS)?;
    copy_table(from, to, DUE)?;
    copy_table(from, to, COUNTERS)
}

fn copy_table<K: redb::Key + 'static, V: redb::Value + 'static>(
    from: &ReadTransaction,
    to: &Database,
    definition: TableDefinition<'static, K, V>,
) -> Result<(), redb::Error> {
    let source = from.open_table(definition)?;
    let mut rows = source.iter()?;
    loop {
        let transaction = to.begin_write()?;
        let copied = copy_rows(&mut rows, &transaction, definition)?;
        transaction.commit()?;
        if copied < COPY {
            return Ok(());
        }
    }
}

fn copy_rows<K: redb::Key + 'static, V: redb::Value + 'static>(
    rows: &mut redb::Range<'_, K, V>,
    transaction: &WriteTransaction,
    definition: TableDefinition<'static, K, V>,
) -> Result<usize, redb::Error> {
    let mut table = transaction.open_table(definition)?;
    let mut copied = 0;
    for row in rows.take(COPY) {
        let (key, value) = row?;
        table.insert(key.value(), value.value())?;
        copied += 1;
    }
    Ok(copied)
}

fn sync_directory(directory: &Path) -> io::Result<()> {
    fs::File::open(directory)?.sync_all()
}
