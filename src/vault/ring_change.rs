//! Changes of the ring's file: one at a time, each whole or not at all. The file is replaced, never written into, so that who
//! reads it meanwhile reads the ring before or the ring after.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::Write,
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown},
    path::Path,
};

use rustix::fs::{FlockOperation, flock};

use super::{
    KeyRing, RingError,
    private_file::{content, open},
    ring::{KeyFile, RingFile, folder_of, hinted, is_key_id, parse, unusable},
};

impl KeyRing {
    /// Adds a new random key, which only reads until it is promoted. Answers its id: the next `k<number>` when none is given.
    pub fn add_key(path: &Path, id: Option<&str>, now: jiff::Timestamp) -> Result<String, RingError> {
        change(path, |file| {
            let id = id.map_or_else(|| next_id(file), str::to_owned);
            if !is_key_id(&id) {
                return Err("takes as a key's id 1 to 64 of A-Z, a-z, 0-9, `.`, `_`, `-`".to_owned());
            }
            if file.keys.iter().any(|key| key.id == id) {
                return Err(format!("has a key `{id}` already"));
            }
            file.keys.push(KeyFile::random(id.clone(), now));
            Ok(id)
        })
    }

    /// Makes a key of the ring the one that writes.
    pub fn promote_key(path: &Path, id: &str) -> Result<(), RingError> {
        change(path, |file| {
            known(file, id)?;
            id.clone_into(&mut file.primary);
            Ok(())
        })
    }

    /// Takes a key out of the ring; what it wrapped cannot be opened any more. Never the one that writes.
    pub fn retire_key(path: &Path, id: &str) -> Result<(), RingError> {
        change(path, |file| {
            known(file, id)?;
            if file.primary == id {
                return Err(format!("has `{id}` as its primary key, which is never retired; promote another one first"));
            }
            file.keys.retain(|key| key.id != id);
            Ok(())
        })
    }
}

fn known(file: &RingFile, id: &str) -> Result<(), String> {
    let ids: Vec<&str> = file.keys.iter().map(|key| key.id.as_str()).collect();
    if ids.contains(&id) {
        return Ok(());
    }
    let all = ids.join(", ");
    Err(format!("has no key `{}`; its keys are: {all}", id.chars().take(64).collect::<String>()))
}

/// One above every number that is taken.
fn next_id(file: &RingFile) -> String {
    let numbers = file.keys.iter().filter_map(|key| key.id.strip_prefix('k')?.parse::<u32>().ok());
    format!("k{}", numbers.max().unwrap_or(0).saturating_add(1))
}

fn change<T>(path: &Path, change: impl FnOnce(&mut RingFile) -> Result<T, String>) -> Result<T, RingError> {
    let changed = || {
        let held = hold(path)?;
        let before = content(path, &held)?;
        parse(&before)?;
        let mut file = RingFile::read(&before)?;
        let outcome = change(&mut file)?;
        let text = file.text();
        parse(text.as_bytes())?;
        replace(path, &held, text.as_bytes()).map_err(|error| format!("cannot be replaced: {error}"))?;
        Ok(outcome)
    };
    changed().map_err(|text: String| unusable(path, &text))
}

/// The file under a lock that all changes take. Whoever waited for it may hold a file that was replaced, and looks again.
fn hold(path: &Path) -> Result<File, String> {
    let odd = |error: std::io::Error| format!("cannot be read: {error}");
    loop {
        if fs::symlink_metadata(path).is_ok_and(|about| about.is_symlink()) {
            return Err("is a symbolic link; name the file it leads to, or change the ring where that file is made".to_owned());
        }
        let file = open(path).map_err(hinted)?;
        rustix::io::retry_on_intr(|| flock(&file, FlockOperation::LockExclusive))
            .map_err(|error| format!("cannot be locked: {error}"))?;
        let (ours, there) = (file.metadata().map_err(odd)?, fs::symlink_metadata(path).map_err(odd)?);
        if (ours.dev(), ours.ino()) == (there.dev(), there.ino()) {
            return Ok(file);
        }
    }
}

/// Puts a new file in the place of the old one, with its owner and mode.
fn replace(path: &Path, old: &File, text: &[u8]) -> std::io::Result<()> {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".new");
    let new = folder_of(path).join(name);
    // Of a command that was cut off; nobody else writes while the lock is held.
    let _ = fs::remove_file(&new);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    let written = same_owner(&file, old)
        .and_then(|()| file.write_all(text))
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::rename(&new, path));
    written.inspect_err(|_| {
        let _ = fs::remove_file(&new);
    })?;
    File::open(folder_of(path))?.sync_all()
}

fn same_owner(new: &File, old: &File) -> std::io::Result<()> {
    let (now, before) = (new.metadata()?, old.metadata()?);
    if (now.uid(), now.gid()) != (before.uid(), before.gid()) {
        fchown(new, Some(before.uid()), Some(before.gid()))?;
    }
    new.set_permissions(fs::Permissions::from_mode(before.mode() & 0o777))
}
