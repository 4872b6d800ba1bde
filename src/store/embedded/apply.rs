//! What each writing verb does to the tables, inside a transaction the writer opened.

use std::time::Duration;

use bytes::Bytes;
use redb::ReadableTable;

use super::tables::{NEVER, Tables};
use crate::store::{Batch, Claimed, Expect, Key, Settle, StoreError, Write};

/// One call that changes the file.
pub(super) enum Op {
    Commit(Batch),
    Push { queue: Key, id: String, value: Bytes, delay: Duration },
    Claim { queue: Key, lease: Duration, limit: usize },
    Settle { queue: Key, id: String, lease: String, outcome: Settle },
    Probe,
}

/// What it answers.
pub(super) enum Done {
    Nothing,
    Versions(Vec<u64>),
    Claimed(Vec<Claimed>),
    Settled(bool),
}

/// An answer, and whether the tables were changed for it.
pub(super) struct Applied {
    pub answer: Result<Done, StoreError>,
    pub changed: bool,
}

impl Applied {
    fn changed(done: Done) -> Self {
        Self { answer: Ok(done), changed: true }
    }
    fn unchanged(answer: Result<Done, StoreError>) -> Self {
        Self { answer, changed: false }
    }
}

pub(super) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX / 2).max(1)
}

/// Applies one call. A refusal leaves the tables as they were; an outer error spoils the whole transaction.
pub(super) fn apply(op: &Op, tables: &mut Tables<'_>, now: u64) -> Result<Applied, redb::Error> {
    match op {
        Op::Commit(batch) => commit(batch, tables, now),
        Op::Push { queue, id, value, delay } => push(queue, id, value, *delay, tables, now),
        Op::Claim { queue, lease, limit } => claim(queue, *lease, *limit, tables, now),
        Op::Settle { queue, id, lease, outcome } => settle(queue, (id, lease), *outcome, tables, now),
        Op::Probe => {
            let epoch = tables.counter("epoch")?;
            tables.counters.insert("epoch", epoch)?;
            Ok(Applied::changed(Done::Nothing))
        }
    }
}

fn commit(batch: &Batch, tables: &mut Tables<'_>, now: u64) -> Result<Applied, redb::Error> {
    let slot = batch.slot.as_str();
    for write in &batch.writes {
        let (name, expect) = match write {
            Write::Put { name, expect, .. } | Write::Delete { name, expect } | Write::Check { name, expect } => (name, expect),
        };
        let present = tables.stamp(slot, name)?.filter(|(_, expiry)| *expiry > now).map(|(version, _)| version);
        let holds = match expect {
            Expect::Any => true,
            Expect::Absent => present.is_none(),
            Expect::Version(version) => present == Some(*version),
        };
        if !holds {
            return Ok(Applied::unchanged(Err(StoreError::Conflict(name.clone()))));
        }
    }
    let mut version = tables.counter("version")?;
    let mut versions = Vec::with_capacity(batch.writes.len());
    for write in &batch.writes {
        versions.push(match write {
            Write::Put { name, value, ttl, .. } => {
                version += 1;
                let expiry = ttl.map_or(NEVER, |ttl| now.saturating_add(micros(ttl)).min(NEVER - 1));
                tables.put((slot, name), version, expiry, value)?;
                version
            }
            Write::Delete { name, .. } => {
                tables.delete((slot, name))?;
                0
            }
            Write::Check { .. } => 0,
        });
    }
    let changed = batch.writes.iter().any(|write| !matches!(write, Write::Check { .. }));
    if changed {
        tables.counters.insert("version", version)?;
    }
    Ok(Applied { answer: Ok(Done::Versions(versions)), changed })
}

fn push(queue: &Key, id: &str, value: &[u8], delay: Duration, tables: &mut Tables<'_>, now: u64) -> Result<Applied, redb::Error> {
    let (slot, name) = (queue.slot.as_str(), queue.name.as_str());
    let due = if delay.is_zero() { now } else { now.saturating_add(micros(delay)) };
    let there = tables.items.get((slot, name, id))?.map(|item| {
        let (due, attempts, proof, value) = item.value();
        (due, attempts, proof.is_empty(), Bytes::copy_from_slice(value))
    });
    match there {
        None => tables.items.insert((slot, name, id), (due, 0, "", value))?,
        Some((later, attempts, true, value)) if due < later => {
            tables.due.remove((slot, name, later, id))?;
            tables.items.insert((slot, name, id), (due, attempts, "", &*value))?
        }
        Some(_) => return Ok(Applied::unchanged(Ok(Done::Nothing))),
    };
    tables.due.insert((slot, name, due, id), ())?;
    Ok(Applied::changed(Done::Nothing))
}

fn claim(queue: &Key, lease: Duration, limit: usize, tables: &mut Tables<'_>, now: u64) -> Result<Applied, redb::Error> {
    let (slot, name) = (queue.slot.as_str(), queue.name.as_str());
    let mut ready = Vec::new();
    let range = (slot, name, 0, "")..(slot, name, now.saturating_add(1), "");
    for found in tables.due.range(range)?.take(limit) {
        let (key, _) = found?;
        let (_, _, due, id) = key.value();
        ready.push((due, id.to_owned()));
    }
    let until = now.saturating_add(micros(lease));
    let mut claimed = Vec::with_capacity(ready.len());
    for (due, id) in ready {
        let Some((attempt, value)) = tables.items.get((slot, name, id.as_str()))?.map(|item| {
            let (_, attempts, _, value) = item.value();
            (attempts.saturating_add(1), Bytes::copy_from_slice(value))
        }) else {
            continue;
        };
        let proof = super::random();
        tables.due.remove((slot, name, due, id.as_str()))?;
        tables.due.insert((slot, name, until, id.as_str()), ())?;
        tables.items.insert((slot, name, id.as_str()), (until, attempt, proof.as_str(), &*value))?;
        claimed.push(Claimed { id, value, attempt, lease: proof });
    }
    Ok(Applied { changed: !claimed.is_empty(), answer: Ok(Done::Claimed(claimed)) })
}

fn settle(
    queue: &Key,
    (id, lease): (&str, &str),
    outcome: Settle,
    tables: &mut Tables<'_>,
    now: u64,
) -> Result<Applied, redb::Error> {
    let (slot, name) = (queue.slot.as_str(), queue.name.as_str());
    let found = tables.items.get((slot, name, id))?.and_then(|item| {
        let (until, attempts, proof, value) = item.value();
        (!proof.is_empty() && proof == lease && until > now).then(|| (until, attempts, Bytes::copy_from_slice(value)))
    });
    let Some((until, attempts, value)) = found else {
        return Ok(Applied::unchanged(Ok(Done::Settled(false))));
    };
    tables.due.remove((slot, name, until, id))?;
    match outcome {
        Settle::Done => {
            tables.items.remove((slot, name, id))?;
        }
        Settle::Retry(delay) => {
            let due = if delay.is_zero() { now } else { now.saturating_add(micros(delay)) };
            tables.items.insert((slot, name, id), (due, attempts, "", &*value))?;
            tables.due.insert((slot, name, due, id), ())?;
        }
    }
    Ok(Applied::changed(Done::Settled(true)))
}
