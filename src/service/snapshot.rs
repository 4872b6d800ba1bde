//! Snapshots: what a vendor without paging said at once, sealed in the store in pieces, so that any node can give out the
//! rest of it and another resource of the same visit need not ask again.

use std::{collections::BTreeMap, ops::Range, sync::Arc, time::Duration};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Linked, accounts::place};
use crate::{
    error::{Code, Error, Result},
    mapping::Path,
    model::{Resource, Warning},
    store::repo,
    upstream::{Company, Visit},
};

/// Bytes of records in one sealed piece.
const PIECE: usize = 192 * 1024;
/// After its last use.
const LIFE: Duration = Duration::from_secs(3600);
/// How long another list may begin with the same visit.
const RECENT: Duration = Duration::from_secs(60);

/// What a snapshot holds and how it is cut.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Manifest {
    /// The snapshot.
    pub id: Uuid,
    /// The company it is of.
    pub company: Option<Company>,
    /// Companies after it.
    pub rest: Vec<Company>,
    /// Why the company could not be read.
    pub refused: Option<Warning>,
    /// By resource.
    pub parts: BTreeMap<Resource, Part>,
}

/// One resource of a snapshot.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Part {
    /// Its first piece.
    pub first: usize,
    /// Records in each piece.
    pub counts: Vec<usize>,
}

impl Part {
    /// All records.
    pub fn total(&self) -> usize {
        self.counts.iter().sum()
    }

    /// The piece that holds the record at `offset`, and the record's place in it.
    pub fn locate(&self, offset: usize) -> Option<(usize, usize)> {
        let mut left = offset;
        for (index, count) in self.counts.iter().enumerate() {
            if left < *count {
                return Some((self.first + index, left));
            }
            left -= count;
        }
        None
    }
}

/// Snapshots of accounts.
pub struct Snapshots {
    records: repo::Snapshots,
}

impl Snapshots {
    /// Over their records.
    pub fn new(records: repo::Snapshots) -> Self {
        Self { records }
    }

    /// Seals and stores what a visit read; further lists of the account begin with it for a minute, found under `names`.
    pub async fn keep(&self, linked: &Linked, visit: Visit, names: &[&str]) -> Result<Manifest> {
        let mut pieces = Vec::new();
        let mut manifest =
            Manifest { id: Uuid::now_v7(), company: visit.company, rest: visit.rest, refused: visit.refused, parts: BTreeMap::new() };
        for (resource, records) in visit.records {
            let part = cut(&records, &mut pieces)?;
            manifest.parts.insert(resource, part);
        }
        let sealed = pieces.iter().enumerate().map(|(index, piece)| self.seal(linked, &piece_name(manifest.id, index), piece)).collect();
        let plain = serde_json::to_vec(&manifest).map_err(Error::internal)?;
        let sealed_manifest = self.seal(linked, &manifest_name(manifest.id), &plain);
        self.records.put(linked.account.id, manifest.id, sealed_manifest, sealed, LIFE).await?;
        for name in names {
            self.records.set_recent(linked.account.id, &recent_name(linked, name), manifest.id, RECENT).await?;
        }
        Ok(manifest)
    }

    /// The visit of the last minute under this name.
    pub async fn recent(&self, linked: &Linked, name: &str) -> Result<Option<Manifest>> {
        match self.records.recent(linked.account.id, &recent_name(linked, name)).await? {
            Some(id) => self.manifest(linked, id).await,
            None => Ok(None),
        }
    }

    /// A snapshot by id, its life prolonged; `None` when it has ended.
    pub async fn manifest(&self, linked: &Linked, id: Uuid) -> Result<Option<Manifest>> {
        let Some(sealed) = self.records.manifest(linked.account.id, id).await? else { return Ok(None) };
        let plain = self.open(linked, &manifest_name(id), &sealed)?;
        let manifest: Manifest = serde_json::from_slice(&plain).map_err(|_| damaged())?;
        self.records.touch(linked.account.id, id, LIFE).await?;
        Ok(Some(manifest))
    }

    /// One piece: a JSON array of records.
    pub async fn piece(&self, linked: &Linked, id: Uuid, index: usize) -> Result<Bytes> {
        let sealed = self.records.get_chunk(linked.account.id, id, index).await?.ok_or_else(ended)?;
        self.open(linked, &piece_name(id, index), &sealed)
    }

    fn seal(&self, linked: &Linked, name: &str, plain: &[u8]) -> Bytes {
        linked.data_key.seal(place(&linked.account, name), plain).into()
    }

    fn open(&self, linked: &Linked, name: &str, sealed: &[u8]) -> Result<Bytes> {
        let plain = linked.data_key.open(place(&linked.account, name), sealed).map_err(|_| ended())?;
        Ok(Bytes::copy_from_slice(&plain))
    }
}

/// The error for a cursor whose snapshot is gone: the credential changed, or nobody used it for an hour.
pub fn ended() -> Error {
    let detail = "The snapshot behind `next_cursor` has ended (an hour unused, or the credential changed).";
    Error::new(Code::InvalidCursor, detail).field("next_cursor")
}

fn damaged() -> Error {
    Error::internal("a snapshot's manifest does not parse")
}

fn piece_name(id: Uuid, index: usize) -> String {
    format!("snapshot/{id}/{index}")
}

fn manifest_name(id: Uuid) -> String {
    format!("snapshot/{id}")
}

/// A visit is only good for the credential it was made with.
fn recent_name(linked: &Linked, name: &str) -> String {
    format!("{}/{name}", linked.account.generation)
}

/// Cuts a JSON array of records into arrays of at most `PIECE` bytes (one record may be larger).
fn cut(records: &Bytes, pieces: &mut Vec<Vec<u8>>) -> Result<Part> {
    let elements = whole().elements(records).map_err(|why| Error::new(Code::VendorBadAnswer, format!("The records cannot be read: {why}.")))?;
    let mut part = Part { first: pieces.len(), counts: Vec::new() };
    let mut piece: Vec<u8> = Vec::new();
    let mut count = 0;
    for element in elements {
        if count > 0 && piece.len() + element.len() > PIECE {
            piece.push(b']');
            pieces.push(std::mem::take(&mut piece));
            part.counts.push(std::mem::take(&mut count));
        }
        piece.push(if count == 0 { b'[' } else { b',' });
        piece.extend_from_slice(&records[element]);
        count += 1;
    }
    if count > 0 {
        piece.push(b']');
        pieces.push(piece);
        part.counts.push(count);
    }
    Ok(part)
}

/// Where the records of a piece are.
pub fn records_of(piece: &Bytes) -> Result<Vec<Range<usize>>> {
    whole().elements(piece).map_err(Error::internal)
}

fn whole() -> &'static Path {
    static WHOLE: std::sync::OnceLock<Arc<Path>> = std::sync::OnceLock::new();
    WHOLE.get_or_init(|| Arc::new(Path::whole_list()))
}
