//! Gathers lines into pieces and writes those that have changed, all pieces of an environment together.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::{
    LIFE, Line,
    piece::{Piece, window_of},
};
use crate::{
    model::EnvironmentId,
    store::{
        StoreError,
        repo::{self, PieceName},
    },
    vault::{SealMark, SystemKeys},
};

/// Lines that wait for a store that does not answer.
const WAITING: u64 = 50_000;
/// Pieces written at once; each is some 50 kB at most.
const TOGETHER: usize = 8;
/// Lines without a caller taken between two writings: whoever has no token must not fill the store.
const STRANGERS: usize = 32;
/// Room for lines that is kept from one writing to the next.
const SPARE: usize = 1024;
/// Windows after which a piece is not added to any more.
const OPEN: u32 = 1;

/// A piece and how much of it is written.
struct Open {
    name: PieceName,
    piece: Piece,
    written: u64,
    is_new: bool,
}

impl Open {
    fn unwritten(&self) -> u64 {
        self.piece.count() - self.written
    }
}

/// What waits to be written, and what may still grow.
pub(super) struct Writer {
    node: u32,
    parts: u32,
    growing: BTreeMap<(EnvironmentId, u32), Open>,
    whole: BTreeMap<EnvironmentId, Vec<Open>>,
    known: BTreeSet<EnvironmentId>,
    spare: Vec<Line>,
    strangers: usize,
    is_failing: bool,
}

impl Writer {
    pub(super) fn new() -> Self {
        // The random end of an id tells this run from others and from other nodes.
        let node = uuid::Uuid::now_v7().as_u64_pair().1 as u32;
        Self {
            node,
            parts: 0,
            growing: BTreeMap::new(),
            whole: BTreeMap::new(),
            known: BTreeSet::new(),
            spare: Vec::new(),
            strangers: 0,
            is_failing: false,
        }
    }

    /// Empty room for lines.
    pub(super) fn spare(&mut self) -> Vec<Line> {
        std::mem::take(&mut self.spare)
    }

    /// Takes the room back, unless it has grown large.
    pub(super) fn keep_spare(&mut self, mut lines: Vec<Line>) {
        lines.clear();
        if lines.capacity() <= SPARE {
            self.spare = lines;
        }
    }

    /// Whether one more line without a caller has room.
    pub(super) fn takes_stranger(&mut self) -> bool {
        self.strangers += 1;
        self.strangers <= STRANGERS
    }

    /// Every environment that had a line in this run.
    pub(super) fn environments(&self) -> Vec<EnvironmentId> {
        self.known.iter().copied().collect()
    }

    pub(super) fn add(&mut self, environment: EnvironmentId, at: i64, line: &Line) {
        let (window, millis) = window_of(at);
        let open = self.open(environment, window);
        open.piece.add(millis, line);
        open.is_new = true;
    }

    /// Notes that lines are missing.
    pub(super) fn lose(&mut self, environment: EnvironmentId, at: i64, lines: u64) {
        if lines > 0 {
            let open = self.open(environment, window_of(at).0);
            open.piece.lose(lines);
            open.is_new = true;
        }
    }

    fn open(&mut self, environment: EnvironmentId, window: u32) -> &mut Open {
        self.known.insert(environment);
        let key = (environment, window);
        if self.growing.get(&key).is_some_and(|open| open.piece.is_full())
            && let Some(full) = self.growing.remove(&key)
        {
            self.whole.entry(environment).or_default().push(full);
        }
        let (node, parts) = (self.node, &mut self.parts);
        self.growing.entry(key).or_insert_with(|| {
            *parts += 1;
            Open { name: PieceName { window, node, part: *parts }, piece: Piece::default(), written: 0, is_new: false }
        })
    }

    /// What can grow no more is only kept until it is written.
    pub(super) fn forget_before(&mut self, now: u32) {
        let ended: Vec<_> = self.growing.keys().filter(|(_, window)| window + OPEN < now).copied().collect();
        for key in ended {
            if let Some(open) = self.growing.remove(&key) {
                self.whole.entry(key.0).or_default().push(open);
            }
        }
    }

    /// Writes what has changed; how many lines that were, and how many had to be given up.
    pub(super) async fn write(&mut self, records: &repo::Log, keys: &SystemKeys) -> (u64, u64) {
        let mut written = 0;
        self.strangers = 0;
        for environment in self.environments() {
            match self.write_of(environment, records, keys).await {
                Ok(lines) => written += lines,
                Err(error) => {
                    if !std::mem::replace(&mut self.is_failing, true) {
                        tracing::warn!(cause = %error, "the log of requests cannot be written; requests go on without it");
                    }
                    return (written, self.give_up());
                }
            }
        }
        if std::mem::take(&mut self.is_failing) {
            tracing::info!("the log of requests is written again");
        }
        (written, 0)
    }

    async fn write_of(&mut self, environment: EnvironmentId, records: &repo::Log, keys: &SystemKeys) -> Result<u64, StoreError> {
        let mut whole = self.whole.remove(&environment).unwrap_or_default();
        whole.retain(|open| open.is_new);
        let range = (environment, u32::MIN)..=(environment, u32::MAX);
        let growing = self.growing.range_mut(range).map(|(_, open)| open).filter(|open| open.is_new);
        let mut changed: Vec<&mut Open> = whole.iter_mut().chain(growing).collect();
        let mut outcome = Ok(0);
        for some in changed.chunks_mut(TOGETHER) {
            let pieces = some.iter().map(|open| (open.name, sealed(environment, open, keys))).collect();
            if let Err(error) = records.put(environment, pieces, LIFE).await {
                outcome = Err(error);
                break;
            }
            for open in some {
                outcome = outcome.map(|lines: u64| lines + open.unwritten());
                (open.written, open.is_new) = (open.piece.count(), false);
            }
        }
        whole.retain(|open| open.is_new);
        if !whole.is_empty() {
            self.whole.insert(environment, whole);
        }
        outcome
    }

    /// Lets go of the oldest while too much waits; how many lines that were.
    fn give_up(&mut self) -> u64 {
        let mut waiting: u64 = self.growing.values().chain(self.whole.values().flatten()).map(Open::unwritten).sum();
        let mut lost = 0;
        while waiting > WAITING
            && let Some((environment, all)) = self.whole.iter_mut().find(|(_, all)| !all.is_empty())
        {
            let (environment, oldest) = (*environment, all.remove(0));
            let lines = oldest.unwritten();
            // What is not written at all must still be missed.
            let missed = lines + oldest.piece.lost();
            waiting -= lines;
            lost += lines;
            self.whole.retain(|_, all| !all.is_empty());
            let open = self.open(environment, oldest.name.window);
            open.piece.lose(missed);
            open.is_new = true;
        }
        lost
    }
}

fn sealed(environment: EnvironmentId, open: &Open, keys: &SystemKeys) -> Bytes {
    // None can be put into another environment or another time.
    let name = open.name.to_string();
    keys.seal_for(SealMark::Log, &[environment.0.as_bytes(), name.as_bytes()], &open.piece.bytes()).into()
}
