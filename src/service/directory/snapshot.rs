//! Snapshots: what a vendor without paging said at once, sealed in the store in pieces, so that any node can give out the
//! rest of it and another resource of the same visit need not ask again.

use std::{collections::BTreeMap, ops::Range, time::Duration};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    connector::Transport,
    error::{Code, Error, Result},
    mapping::Path,
    model::{Resource, Warning},
    service::{Linked, accounts::credential::place, meters::CacheMeter},
    store::repo,
    upstream::{Company, Visit},
};

/// Bytes of records in one piece, unless one record is larger.
const PIECE: usize = 192 * 1024;
/// Bytes of a sealed piece in one chunk of the store.
const CHUNK: usize = 256 * 1024;
/// After its last use.
const LIFE: Duration = Duration::from_secs(3600);
/// How long another list may begin with the same visit.
const RECENT: Duration = Duration::from_secs(60);

/// After a write has been sent: longer than a visit and a pointer live together.
const SPOILED: Duration = Duration::from_secs(3600);

/// The last write before a visit began; visits are only given to others while there is no newer one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mark(Bytes);

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
    /// Chunks of the store that each piece takes.
    chunks: Vec<usize>,
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
    meter: CacheMeter,
}

impl Snapshots {
    /// Over their records.
    pub fn new(records: repo::Snapshots) -> Self {
        Self { records, meter: CacheMeter::new("snapshot") }
    }

    /// Seals and stores what a visit read; further lists of the account begin with it for a minute, found under `names`.
    pub async fn keep(&self, linked: &Linked, visit: Visit, names: &[&str], mark: &Mark) -> Result<Manifest> {
        let mut pieces = Vec::new();
        let mut parts = BTreeMap::new();
        for (resource, records) in visit.records {
            parts.insert(resource, cut(&records, &mut pieces)?);
        }
        let id = Uuid::now_v7();
        let mut chunks = Vec::new();
        let mut chunks_of = Vec::with_capacity(pieces.len());
        for (index, piece) in pieces.iter().enumerate() {
            let mut sealed = self.seal(linked, &piece_name(id, index), piece);
            let before = chunks.len();
            while sealed.len() > CHUNK {
                chunks.push(sealed.split_to(CHUNK));
            }
            chunks.push(sealed);
            chunks_of.push(chunks.len() - before);
        }
        let manifest =
            Manifest { id, company: visit.company, rest: visit.rest, refused: visit.refused, parts, chunks: chunks_of };
        let plain = serde_json::to_vec(&manifest).map_err(Error::internal)?;
        let sealed_manifest = self.seal(linked, &manifest_name(id), &plain);
        self.records.put(linked.account.id, &id.to_string(), &sealed_manifest, chunks, LIFE).await?;
        for name in names {
            let pointer = Bytes::from([&id.as_bytes()[..], &mark.0].concat());
            self.records.put_recent(linked.account.id, &recent_name(linked, name), pointer, RECENT).await?;
        }
        Ok(manifest)
    }

    /// The visit of the last minute under this name.
    pub async fn recent(&self, linked: &Linked, name: &str) -> Result<Option<Manifest>> {
        let manifest = match self.records.recent(linked.account.id, &recent_name(linked, name)).await? {
            Some(pointer) => self.follow(linked, &pointer).await?,
            None => None,
        };
        Ok(self.meter.count(manifest))
    }

    async fn follow(&self, linked: &Linked, pointer: &[u8]) -> Result<Option<Manifest>> {
        let (id, mark) = pointer.split_at_checked(16).ok_or_else(damaged)?;
        match *self.mark(linked).await?.0 == *mark {
            true => self.read(linked, Uuid::from_slice(id).map_err(|_| damaged())?).await,
            false => Ok(None),
        }
    }

    /// The last write to the account's vendor.
    pub async fn mark(&self, linked: &Linked) -> Result<Mark> {
        Ok(self.records.recent(linked.account.id, WRITTEN).await?.map(Mark).unwrap_or_default())
    }

    /// What was read before must not be given to others any more: something is about to be written, or was. Only commands have
    /// visits that are given to others.
    pub fn spoil(&self, linked: &Linked) -> impl Future<Output = Result<()>> + Send + use<> {
        let is_visited = linked.access.method.transport == Transport::KeeperCommander;
        let (records, account) = (self.records.clone(), linked.account.id);
        async move {
            let mark = Bytes::copy_from_slice(Uuid::now_v7().as_bytes());
            if is_visited { Ok(records.put_recent(account, WRITTEN, mark, SPOILED).await?) } else { Ok(()) }
        }
    }

    /// A snapshot by id, its life prolonged; `None` when it has ended.
    pub async fn manifest(&self, linked: &Linked, id: Uuid) -> Result<Option<Manifest>> {
        Ok(self.meter.count(self.read(linked, id).await?))
    }

    async fn read(&self, linked: &Linked, id: Uuid) -> Result<Option<Manifest>> {
        let Some(sealed) = self.records.manifest(linked.account.id, &id.to_string()).await? else { return Ok(None) };
        let plain = self.open(linked, &manifest_name(id), &sealed)?;
        // It is sealed, so that it is whole: one that a node of a later release made, of what this one does not know, is none.
        let Ok(manifest) = serde_json::from_slice::<Manifest>(&plain) else { return Ok(None) };
        self.records.touch(linked.account.id, &id.to_string(), LIFE).await?;
        Ok(Some(manifest))
    }

    /// One piece: a JSON array of records.
    pub async fn piece(&self, linked: &Linked, manifest: &Manifest, index: usize) -> Result<Bytes> {
        let id = manifest.id.to_string();
        let first: usize = manifest.chunks.iter().take(index).sum();
        let mut sealed = Vec::new();
        for chunk in first..first + manifest.chunks.get(index).copied().unwrap_or_default() {
            sealed.extend_from_slice(&self.records.get_chunk(linked.account.id, &id, chunk).await?.ok_or_else(ended)?);
        }
        self.open(linked, &piece_name(manifest.id, index), &sealed)
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
    Error::internal("a pointer to a snapshot is cut")
}

fn piece_name(id: Uuid, index: usize) -> String {
    format!("snapshot/{id}/{index}")
}

fn manifest_name(id: Uuid) -> String {
    format!("snapshot/{id}")
}

/// Where the mark of the last write stands.
const WRITTEN: &str = "written";

/// A visit is only good for the credential it was made with.
fn recent_name(linked: &Linked, name: &str) -> String {
    format!("{}/{name}", linked.account.generation)
}

/// Cuts a JSON array of records into arrays of at most `PIECE` bytes (one record may be larger).
fn cut(records: &Bytes, pieces: &mut Vec<Vec<u8>>) -> Result<Part> {
    let elements = whole()?
        .elements(records)
        .map_err(|why| Error::new(Code::VendorBadAnswer, format!("The records cannot be read: {why}.")))?;
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
    whole()?.elements(piece).map_err(Error::internal)
}

fn whole() -> Result<Path> {
    Path::parse("[*]").map_err(Error::internal)
}
