//! Backups: everything that lives for ever in any store, in a form that any store takes back.
//!
//! A backup is two files of JSON lines, because they live for different times: what the vault sealed, and the keys it is sealed
//! under, wrapped by the ring. An account that was deleted is gone from every backup of the data as soon as no copy of its key is
//! kept. The ring itself is in neither.

mod part;
mod restore;

use std::{collections::VecDeque, sync::Arc};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use self::{
    part::{Part, PartReader, PartSum, PartWriter},
    restore::{Checked, Restored},
};
use super::Caller;
use crate::{
    error::{Code, Error, Result},
    model::{Clock, EnvironmentId, Scope},
    store::{
        Store, StoreError,
        repo::{
            Installation, STORED_FORMAT,
            backup::{self, Survey},
        },
    },
    vault::SystemKeysError,
};

/// The form of the files, and the newest this release reads.
pub const FORMAT: u32 = 1;
/// Bytes of lines that are handed out together, at least.
const TOGETHER: usize = 64 * 1024;

/// Why a backup cannot be used, in a sentence for the operator.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// A file that is cut, changed, newer, or not of this backup.
    #[error("{0}")]
    File(String),
    /// A ring that does not open it.
    #[error("{0}")]
    Ring(String),
    /// The store that is written to.
    #[error("the store cannot be used: {0}")]
    Store(#[from] StoreError),
}

impl From<SystemKeysError> for BackupError {
    fn from(error: SystemKeysError) -> Self {
        BackupError::Ring(error.to_string())
    }
}

/// What a backup is of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// The form of the file.
    pub format: u32,
    /// The release that made it.
    pub release: String,
    /// The form of the records in it.
    pub store_format: u32,
    /// When it was begun.
    pub created_at: Timestamp,
    /// The installation: its first environment.
    pub installation: EnvironmentId,
    /// Every environment that the release could read, by name.
    pub environments: Vec<String>,
}

/// One stored value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Where it lives.
    pub slot: String,
    /// Its name there.
    pub name: String,
    /// Its bytes, in base64.
    pub value: String,
}

impl Entry {
    fn of(slot: &str, name: String, value: &[u8]) -> Self {
        Self { slot: slot.to_owned(), name, value: BASE64_STANDARD.encode(value) }
    }

    /// Its bytes.
    pub fn bytes(&self) -> Result<Bytes, BackupError> {
        let odd = |_| BackupError::File("a value of the backup is not base64".to_owned());
        BASE64_STANDARD.decode(&self.value).map(Bytes::from).map_err(odd)
    }
}

/// A line of a backup on its way out of a gateway.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Line {
    /// The first.
    Backup(Header),
    /// A value of the data.
    Entry(Entry),
    /// A wrapped key.
    Key(Entry),
    /// The last, when everything was read: how many values and keys there were.
    End {
        /// Values of the data.
        entries: u64,
        /// Wrapped keys.
        keys: u64,
    },
    /// The last, when it broke off.
    Failed {
        /// A code of the error table.
        code: String,
        /// Its sentence.
        detail: String,
    },
}

/// What can be backed up by whom.
pub struct Backups {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    /// The first environment, whose administrators are the operator's.
    environment: EnvironmentId,
}

/// A backup on its way out.
pub struct Dump {
    survey: Survey,
    first: Option<Header>,
    ready: VecDeque<Line>,
    entries: u64,
    keys: u64,
}

impl Backups {
    /// Of the whole store.
    pub fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>, environment: EnvironmentId) -> Self {
        Self { store, clock, environment }
    }

    /// Begins one, for an administrator of the first environment: it holds every environment.
    pub async fn begin(&self, caller: &Caller) -> Result<Dump> {
        if caller.environment != self.environment {
            let detail = "A backup holds every environment; only administrators of the environment `default` may have it.";
            return Err(Error::new(Code::ScopeMissing, detail).field(Scope::Admin.as_str()));
        }
        let survey = Survey::begin(self.store.clone()).await?;
        let environments = Installation::new(self.store.clone()).readable().await?.records;
        let header = Header {
            format: FORMAT,
            release: env!("CARGO_PKG_VERSION").to_owned(),
            store_format: STORED_FORMAT,
            created_at: self.clock.now(),
            installation: self.environment,
            environments: environments.into_iter().map(|environment| environment.name).collect(),
        };
        Ok(Dump { survey, first: Some(header), ready: VecDeque::new(), entries: 0, keys: 0 })
    }
}

impl Dump {
    /// Some more lines; none when everything was read.
    pub async fn read(&mut self) -> Result<Option<Bytes>> {
        let mut lines = Vec::new();
        while lines.len() < TOGETHER {
            let Some(line) = self.line().await? else { break };
            write_line(&mut lines, &line)?;
        }
        Ok((!lines.is_empty()).then(|| lines.into()))
    }

    /// The last line: how much there was, or the code and the sentence of what it broke off with.
    pub fn end(&self, failure: Option<(String, String)>) -> Bytes {
        let last = match failure {
            None => Line::End { entries: self.entries, keys: self.keys },
            Some((code, detail)) => Line::Failed { code, detail },
        };
        let mut line = Vec::new();
        // A cut file is found out all the same.
        let _ = write_line(&mut line, &last);
        line.into()
    }

    async fn line(&mut self) -> Result<Option<Line>> {
        if let Some(header) = self.first.take() {
            return Ok(Some(Line::Backup(header)));
        }
        if self.ready.is_empty()
            && let Some((slot, found)) = self.survey.next().await?
        {
            self.take_up(slot.as_str(), found);
        }
        Ok(self.ready.pop_front())
    }

    fn take_up(&mut self, slot: &str, found: Vec<(String, Bytes)>) {
        for (name, value) in found {
            let is_key = backup::is_key(slot, &name);
            let entry = Entry::of(slot, name, &value);
            *(if is_key { &mut self.keys } else { &mut self.entries }) += 1;
            self.ready.push_back(if is_key { Line::Key(entry) } else { Line::Entry(entry) });
        }
    }
}

fn write_line(lines: &mut Vec<u8>, line: &Line) -> Result<()> {
    serde_json::to_writer(&mut *lines, line).map_err(Error::internal)?;
    lines.push(b'\n');
    Ok(())
}
