//! Whether the log is the one that was written: every entry in its place and unchanged, and as many as the head says.

use std::{fmt, str::FromStr};

use serde::Serialize;
use utoipa::ToSchema;

use super::{
    Audit,
    entry::{AuditEntry, Begun, Head, opened},
};
use crate::{
    error::Result,
    model::EnvironmentId,
    vault::{AuditMark, hex},
};

/// Entries looked at in one piece.
const PIECE: usize = 1_000;
/// Beginnings looked at.
const OPEN: usize = 1_000;

/// One way in which the log is not what was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct AuditProblem {
    /// The number of the entry, or of the first of several; 0 for the head, and for what has begun and not ended.
    pub number: u64,
    /// The last of several; the same where it is one.
    pub last: u64,
    /// `changed`, `missing`, `moved`, `unlinked`, `head_changed`, `head_missing`, `beyond_head` or `open_changed`.
    pub what: String,
    /// A sentence.
    pub detail: String,
}

/// How many entries there are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct AuditHead {
    /// The number of the last.
    pub number: u64,
    /// Its hash: kept elsewhere, it tells a log that was rolled back as a whole from this one.
    pub hash: String,
    /// The first that is kept.
    pub first: u64,
}

/// What was found in a piece of the log.
#[derive(Debug)]
pub struct Verified {
    /// The number of the last entry that was looked at.
    pub verified_to: u64,
    /// Entries of this piece.
    pub entries: u64,
    /// The head; none before the first entry.
    pub head: Option<AuditHead>,
    /// What is wrong, in order.
    pub problems: Vec<AuditProblem>,
    /// Where to go on; none at the end.
    pub next: Option<VerifyPlace>,
}

/// How far the log was looked at: the last number, and its hash where it was genuine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifyPlace {
    number: u64,
    hash: Option<String>,
}

impl fmt::Display for VerifyPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.number, self.hash.as_deref().unwrap_or_default())
    }
}

impl FromStr for VerifyPlace {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        let (number, hash) = text.split_once('-').ok_or(())?;
        let hash = Some(hash.to_owned()).filter(|hash| !hash.is_empty());
        Ok(Self { number: number.parse().map_err(|_| ())?, hash })
    }
}

/// A walk along the entries.
struct Walk {
    at: VerifyPlace,
    problems: Vec<AuditProblem>,
}

impl Walk {
    fn find(&mut self, (number, last): (u64, u64), what: &str, detail: &str) {
        self.problems.push(AuditProblem { number, last, what: what.to_owned(), detail: detail.to_owned() });
    }

    /// Says that entries are missing behind the last one, up to this.
    fn miss(&mut self, to: u64) {
        let from = self.at.number + 1;
        if from <= to {
            let detail =
                if from == to { format!("Entry {from} is missing.") } else { format!("Entries {from} to {to} are missing.") };
            self.find((from, to), "missing", &detail);
            self.at = VerifyPlace { number: to, hash: None };
        }
    }

    /// Looks at what lies under this number.
    fn step(&mut self, number: u64, entry: Option<(AuditEntry, String)>) {
        self.miss(number - 1);
        let hash = match entry {
            None => {
                self.find((number, number), "changed", &format!("Entry {number} was changed."));
                None
            }
            Some((entry, _)) if entry.number != number => {
                let detail = format!("Where entry {number} should be lies entry {}.", entry.number);
                self.find((number, number), "moved", &detail);
                None
            }
            Some((entry, hash)) => {
                if self.at.hash.as_ref().is_some_and(|before| *before != entry.previous) {
                    let detail = format!("Entry {number} does not follow the entry before it: one of them is of another time.");
                    self.find((number, number), "unlinked", &detail);
                }
                Some(hash)
            }
        };
        self.at = VerifyPlace { number, hash };
    }

    /// Holds the end of the walk against the head, which must say the same: the one read before the entries may lack some of
    /// them, the one read afterwards must not.
    fn end(&mut self, before: &Stored, after: &Stored) {
        let Some(head) = &before.record else {
            match before.is_there {
                true => self.find((0, 0), "head_changed", "The record that says how many entries there are was changed."),
                false if self.at.number == 0 => {}
                false => self.find((0, 0), "head_missing", "The record that says how many entries there are is missing."),
            }
            return;
        };
        if self.at.number < head.number {
            self.miss(head.number);
        } else if self.at.number == head.number && self.at.hash.as_ref().is_some_and(|hash| *hash != head.hash) {
            let detail = format!("Entry {} is not the one the head speaks of.", head.number);
            self.find((head.number, head.number), "unlinked", &detail);
        }
        let last = after.record.as_ref().map_or(head.number, |head| head.number);
        if self.at.number > last {
            let detail = format!("The head says {last} entries, but there are more: it is of another time.");
            self.find((last + 1, self.at.number), "beyond_head", &detail);
        }
    }
}

/// The head as it lies in the store, where it is genuine.
struct Stored {
    is_there: bool,
    record: Option<Head>,
}

impl Audit {
    /// Looks at the piece of the log behind this place.
    pub async fn verify(&self, environment: EnvironmentId, from: Option<VerifyPlace>) -> Result<Verified> {
        self.chain.settle(environment).await;
        loop {
            let head = self.stored_head(environment).await?;
            let start = head.record.clone().unwrap_or_else(Head::of_nothing);
            let known = head.record.is_some();
            let goes_on = from.clone().filter(|from| from.number >= start.first);
            let is_begin = goes_on.is_none();
            let begin = VerifyPlace { number: start.first - 1, hash: Some(start.before).filter(|_| known) };
            let mut walk = Walk { at: goes_on.unwrap_or(begin), problems: Vec::new() };
            let found = self.chain.records.entries(environment, walk.at.number, PIECE).await?;
            let now = self.stored_head(environment).await?;
            if now.record.as_ref().is_some_and(|now| now.first > start.first && now.first > walk.at.number + 1) {
                // Old entries went in between.
                continue;
            }
            if is_begin {
                self.look_at_open(environment, &mut walk).await?;
            }
            let (entries, is_last) = (found.len() as u64, found.len() < PIECE);
            for (number, bytes) in found {
                let entry = opened::<AuditEntry>(&self.chain.keys, AuditMark::Entry, environment, &bytes);
                walk.step(number, entry.map(|(entry, mark)| (entry, hex(&mark))));
            }
            if is_last {
                walk.end(&head, &now);
            }
            let next = (!is_last).then(|| walk.at.clone());
            let head = head.record.map(|Head { number, hash, first, .. }| AuditHead { number, hash, first });
            return Ok(Verified { verified_to: walk.at.number, entries, head, problems: walk.problems, next });
        }
    }

    async fn stored_head(&self, environment: EnvironmentId) -> Result<Stored> {
        let stored = self.chain.records.head(environment).await?;
        let genuine = |bytes: &[u8]| opened::<Head>(&self.chain.keys, AuditMark::Head, environment, bytes).map(|(head, _)| head);
        Ok(Stored { is_there: stored.is_some(), record: stored.and_then(|entry| genuine(&entry.value)) })
    }

    /// What has begun must be what was noted, or its entry will be of something else.
    async fn look_at_open(&self, environment: EnvironmentId, walk: &mut Walk) -> Result<()> {
        for (id, entry) in self.chain.records.opened(environment, OPEN).await? {
            let begun = opened::<Begun>(&self.chain.keys, AuditMark::Open, environment, &entry.value);
            if begun.is_none_or(|(begun, _)| begun.id != id) {
                walk.find((0, 0), "open_changed", &format!("The note that action {id} has begun was changed."));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_again() {
        for place in [VerifyPlace { number: 0, hash: None }, VerifyPlace { number: 7, hash: Some("ab01".into()) }] {
            assert_eq!(place.to_string().parse(), Ok(place));
        }
        for odd in ["", "7", "-", "x-ab"] {
            assert_eq!(odd.parse::<VerifyPlace>(), Err(()), "{odd}");
        }
    }
}
