//! Files of the operator that hold secrets: nobody else may use them, none is larger than there is reason for, and who looks
//! again sees whether they have changed.

use std::{
    fmt,
    fs::{self, File},
    io::Read,
    os::unix::fs::MetadataExt,
    path::Path,
};

use zeroize::Zeroizing;

/// The largest file that is read; keys or apps by the thousand are far below.
pub(super) const MAX_FILE: u64 = 256 * 1024;

/// What is said of one that is not there.
pub(super) const MISSING: &str = "does not exist";

/// What a file was when it was last looked at. A hash of the content, because a time stamp can hide a quick change.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct FileStamp(Option<[u8; 32]>);

impl FileStamp {
    /// What was read, if it is not what it was when this was brought up to date the last time; it is now. Each state of a file
    /// is given once, a bad one too.
    pub fn if_changed(&mut self, read: Result<Zeroizing<Vec<u8>>, String>) -> Option<Result<Zeroizing<Vec<u8>>, String>> {
        let now = Some(super::fingerprint(match &read {
            Ok(content) => content,
            Err(why) => why.as_bytes(),
        }));
        let is_changed = self.0 != now;
        self.0 = now;
        is_changed.then_some(read)
    }
}

impl fmt::Debug for FileStamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FileStamp(…)")
    }
}

/// What the file holds, or why it cannot be used.
pub fn read_private(path: &Path) -> Result<Zeroizing<Vec<u8>>, String> {
    content(path, &open(path)?)
}

/// The file, open for reading.
pub(super) fn open(path: &Path) -> Result<File, String> {
    if !fs::metadata(path).map_err(gone)?.is_file() {
        return Err("is not a regular file".to_owned());
    }
    File::open(path).map_err(gone)
}

/// What it holds, unless others can use it.
pub(super) fn content(path: &Path, file: &File) -> Result<Zeroizing<Vec<u8>>, String> {
    let metadata = file.metadata().map_err(gone)?;
    let mode = metadata.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(format!("can be used by others (mode {mode:04o}); run `chmod 600 {}`", path.display()));
    }
    if metadata.len() > MAX_FILE {
        return Err(format!("is larger than {MAX_FILE} bytes"));
    }
    // Sized once: growing would leave copies of the secrets behind.
    let mut content = Zeroizing::new(Vec::with_capacity(MAX_FILE as usize + 1));
    file.take(MAX_FILE + 1).read_to_end(&mut content).map_err(gone)?;
    Ok(content)
}

fn gone(error: std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => MISSING.to_owned(),
        _ => format!("cannot be read: {error}"),
    }
}
