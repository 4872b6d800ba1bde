//! One file of a backup: a line that says what it is, a line for each value, and a last line by which a cut or changed file is
//! found out.

use std::{
    fmt,
    io::{self, BufRead, Write},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{BackupError, Entry, FORMAT, Header};
use crate::{store::repo::STORED_FORMAT, vault::Digest};

/// Which of the two files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// What the vault sealed, and everything that is not secret.
    Data,
    /// The keys, wrapped by the ring.
    DataKeys,
}

impl Part {
    /// The file's name.
    pub const fn file(self) -> &'static str {
        match self {
            Part::Data => "data.ndjson",
            Part::DataKeys => "data-keys.ndjson",
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.file())
    }
}

/// What a file holds, once it was read or written as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartSum {
    /// How many values.
    pub entries: u64,
    /// SHA-256 of everything before the last line.
    pub sha256: String,
}

#[derive(Serialize, Deserialize)]
struct First<H> {
    rollcall_backup: Part,
    #[serde(flatten)]
    header: H,
}

/// What every form of the file says of itself.
#[derive(Deserialize)]
struct Form {
    format: u32,
    #[serde(default)]
    release: String,
}

#[derive(Serialize, Deserialize)]
struct Last {
    end: End,
}

#[derive(Serialize, Deserialize)]
struct End {
    entries: u64,
    sha256: String,
}

/// Writes a file.
pub struct PartWriter<W> {
    out: W,
    digest: Digest,
    entries: u64,
}

impl<W: Write> PartWriter<W> {
    /// Begins with what it is.
    pub fn begin(out: W, part: Part, header: &Header) -> io::Result<Self> {
        let mut writer = Self { out, digest: Digest::default(), entries: 0 };
        writer.write(&First { rollcall_backup: part, header })?;
        Ok(writer)
    }

    /// Writes a value.
    pub fn put(&mut self, entry: &Entry) -> io::Result<()> {
        self.entries += 1;
        self.write(entry)
    }

    /// Writes the last line; gives back what was written to, to be made durable.
    pub fn end(self) -> io::Result<(W, PartSum)> {
        let Self { mut out, digest, entries } = self;
        let sum = PartSum { entries, sha256: digest.hex() };
        serde_json::to_writer(&mut out, &Last { end: End { entries, sha256: sum.sha256.clone() } })?;
        out.write_all(b"\n")?;
        Ok((out, sum))
    }

    fn write<T: Serialize>(&mut self, line: &T) -> io::Result<()> {
        let mut line = serde_json::to_vec(line)?;
        line.push(b'\n');
        self.digest.add(&line);
        self.out.write_all(&line)
    }
}

/// Reads a file, and believes it only at its end.
pub struct PartReader<R> {
    input: R,
    part: Part,
    digest: Option<Digest>,
    /// The digest of a file that was read to its end.
    sha256: String,
    entries: u64,
    number: u64,
}

impl<R: BufRead> PartReader<R> {
    /// Reads what it is; another file, and one that a newer release made, is refused.
    pub fn begin(input: R, part: Part) -> Result<(Self, Header), BackupError> {
        let mut reader = Self { input, part, digest: Some(Digest::default()), sha256: String::new(), entries: 0, number: 0 };
        let line = reader.line()?.ok_or_else(|| reader.file("is empty"))?;
        let First { rollcall_backup, header: form } = serde_json::from_slice::<First<Form>>(&line)
            .map_err(|_| reader.file("is not a file of a backup: its first line does not say so"))?;
        if rollcall_backup != part {
            return Err(reader.file(&format!("is a `{rollcall_backup}`")));
        }
        reader.newest("backup", form.format, FORMAT, &form.release)?;
        let First { header, .. } = reader.read::<First<Header>>(&line)?;
        reader.newest("store", header.store_format, STORED_FORMAT, &header.release)?;
        reader.take(&line);
        Ok((reader, header))
    }

    /// The next value; none at the end, and then the whole file is as it was written.
    pub fn entry(&mut self) -> Result<Option<Entry>, BackupError> {
        if self.digest.is_none() {
            return Ok(None);
        }
        let line = self.line()?.ok_or_else(|| self.cut())?;
        if let Ok(last) = serde_json::from_slice::<Last>(&line) {
            return self.end(&last.end).map(|()| None);
        }
        let entry = self.read(&line)?;
        self.take(&line);
        self.entries += 1;
        Ok(Some(entry))
    }

    /// Tells the file from every other one, once it was read to its end.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    fn end(&mut self, end: &End) -> Result<(), BackupError> {
        let found = self.digest.take().map(Digest::hex).unwrap_or_default();
        if end.entries != self.entries || end.sha256 != found {
            return Err(self.file("was changed after it was written: its content is not what its last line says"));
        }
        match self.line()? {
            None => {
                self.sha256 = found;
                Ok(())
            }
            Some(_) => Err(self.file("goes on after its last line")),
        }
    }

    fn take(&mut self, line: &[u8]) {
        if let Some(digest) = &mut self.digest {
            digest.add(line);
        }
    }

    /// A whole line, its end included.
    fn line(&mut self) -> Result<Option<Vec<u8>>, BackupError> {
        let mut line = Vec::new();
        self.number += 1;
        let length = self.input.read_until(b'\n', &mut line).map_err(|why| self.file(&format!("cannot be read: {why}")))?;
        match (length, line.last()) {
            (0, _) => Ok(None),
            (_, Some(b'\n')) => Ok(Some(line)),
            _ => Err(self.cut()),
        }
    }

    fn read<T: DeserializeOwned>(&self, line: &[u8]) -> Result<T, BackupError> {
        serde_json::from_slice(line).map_err(|_| self.file(&format!("is damaged in line {}", self.number)))
    }

    fn newest(&self, what: &str, format: u32, newest: u32, release: &str) -> Result<(), BackupError> {
        if format <= newest {
            return Ok(());
        }
        let own = env!("CARGO_PKG_VERSION");
        Err(self.file(&format!(
            "has {what} format {format}, made by release {release}; this release ({own}) reads {what} format {newest} and older \
             ones. Restore it with the release that made it, or a newer one"
        )))
    }

    fn cut(&self) -> BackupError {
        self.file("is cut off: its last line is missing")
    }

    fn file(&self, what: &str) -> BackupError {
        BackupError::File(format!("{} {what}.", self.part))
    }
}
