//! The Redis backend: one server, Sentinel or Cluster, with or without TLS; Redis 7.0 or later, or Valkey.
//!
//! All keys of a slot share the hash tag `{<slot>}`: `rollcall:{<slot>}/<name>` holds `<version>:<value>`; `#index` is a
//! sorted set of the names, for `scan`; `#version` and `#fence` count (never behind the server's clock in µs, so that they
//! do not go back when a fail-over loses the counter); `#lock/…`, `#queue/…`, `#items/…`, `#leases/…`, `#bucket/…` are the
//! other verbs. Every write is one script, so it happens as a whole. Where the append-only file is on and the server has
//! `WAITAOF` (7.2), a commit of something that lives for ever, and a push, return when the file has it; where the operator wants
//! replicas to have it too, when they do (`WAIT`).

mod confirm;
mod health;
mod link;
mod node;
mod survey;
mod url;

use std::{
    path::Path,
    sync::{
        LazyLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use redis::{Script, Value};
use tokio::time::Instant;

pub use self::url::RedisUrl;
use self::{
    confirm::{Wanted, Witness},
    link::{How, Kind, Link, deadline},
};
use super::{Batch, Claimed, Entry, Expect, Health, Hold, Key, Lasting, Settle, Slot, Spent, Store, StoreError, Write};

macro_rules! scripts {
    ($($name:ident $file:literal)*) => {
        $(static $name: LazyLock<Code> = LazyLock::new(|| Code::new(include_str!(concat!("lua/", $file, ".lua"))));)*
    };
}

/// A script and the name servers know it by.
struct Code {
    text: &'static str,
    hashed: Script,
}

impl Code {
    fn new(text: &'static str) -> Self {
        Self { text, hashed: Script::new(text) }
    }
}

scripts! { COMMIT "commit" FORGET "forget" HOLD "hold" RENEW "renew" PUSH "push" CLAIM "claim" SETTLE "settle" SPEND "spend" LASTING "lasting" }

/// Names read from the index at once.
const PAGE: usize = 256;

/// A store shared by all nodes of an installation.
pub struct Redis {
    link: Link,
    confirms: AtomicBool,
    replicas: u8,
    confirmations: confirm::Confirmations,
}

impl Redis {
    /// Connects and examines the servers: `Refused` when one of them would lose data or cannot be used, with a sentence
    /// for people; `Unavailable` when none answers within 2 s.
    pub async fn connect(url: &RedisUrl, ca: Option<&Path>) -> Result<Redis, StoreError> {
        let roots = match ca {
            Some(path) => Some(
                std::fs::read(path)
                    .map_err(|error| StoreError::Refused(format!("The CA file {} cannot be read: {error}", path.display())))?,
            ),
            None => None,
        };
        let redis = Self {
            link: Link::new(url.clone(), roots),
            confirms: AtomicBool::new(false),
            replicas: 0,
            confirmations: confirm::Confirmations::default(),
        };
        redis.health().await?;
        Ok(redis)
    }

    /// From now on a durable write is acknowledged only when so many replicas have it, so that a fail-over loses none.
    pub fn waiting_for(self, replicas: u8) -> Redis {
        Self { replicas, ..self }
    }

    async fn run(&self, slot: &str, script: &Code, keys: &[String], args: &[&[u8]], how: How) -> Result<Value, StoreError> {
        let command = |name: &str, body: &str| {
            let mut command = redis::cmd(name);
            command.arg(body).arg(keys.len()).arg(keys);
            for arg in args {
                command.arg(arg);
            }
            command
        };
        if let Some(value) = self.link.call(slot, &command("EVALSHA", script.hashed.get_hash()), how).await? {
            return Ok(value);
        }
        let answer = self.link.call(slot, &command("EVAL", script.text), how).await?;
        answer.ok_or_else(|| odd("a script"))
    }

    /// Who can say that a write that begins now is where it is wanted; nobody where nobody needs to.
    async fn witness(&self, slot: &str, times: (Instant, Instant)) -> Result<Option<Witness>, StoreError> {
        let wanted = Wanted { file: self.confirms.load(Ordering::Relaxed), replicas: self.replicas };
        if !wanted.file && wanted.replicas == 0 {
            return Ok(None);
        }
        self.confirmations.witness(&self.link, slot, wanted, times).await.map(Some)
    }

    async fn confirm(&self, slot: &str, witness: Option<Witness>) -> Result<(), StoreError> {
        match witness {
            Some(witness) => witness.wait(&self.link, slot).await,
            None => Ok(()),
        }
    }
}

fn key(slot: &Slot, kind: &str, name: &str) -> String {
    format!("rollcall:{{{slot}}}{kind}{name}")
}

fn queue_keys(queue: &Key) -> [String; 3] {
    ["#queue/", "#items/", "#leases/"].map(|kind| key(&queue.slot, kind, &queue.name))
}

fn odd(what: &str) -> StoreError {
    StoreError::Unavailable(format!("Redis answered {what} in an unknown form"))
}

fn parse<T: redis::FromRedisValue>(value: Value, what: &str) -> Result<T, StoreError> {
    redis::from_redis_value(value).map_err(|_| odd(what))
}

fn millis(duration: Duration) -> String {
    duration.as_micros().div_ceil(1000).max(1).to_string()
}

fn micros(duration: Duration) -> String {
    duration.as_micros().to_string()
}

fn read_entry(stored: &[u8]) -> Result<Entry, StoreError> {
    let damaged = || StoreError::Damaged("a Redis value without its version".into());
    let colon = stored.iter().position(|byte| *byte == b':').ok_or_else(damaged)?;
    let version = std::str::from_utf8(&stored[..colon]).ok().and_then(|text| text.parse().ok()).ok_or_else(damaged)?;
    Ok(Entry { value: Bytes::copy_from_slice(&stored[colon + 1..]), version })
}

/// The keys and arguments of the commit script.
fn commit_script(batch: &Batch) -> (Vec<String>, Vec<Bytes>) {
    let index = key(&batch.slot, "#index", "");
    let lock = batch.fence.as_ref().map_or_else(|| index.clone(), |hold| key(&hold.key.slot, "#lock/", &hold.key.name));
    let fence = batch.fence.as_ref().map_or_else(String::new, |hold| format!("{}:{}", hold.owner, hold.fence));
    let mut keys = vec![index, key(&batch.slot, "#version", ""), lock];
    let mut args = vec![Bytes::from(fence)];
    for write in &batch.writes {
        let (kind, name, expect, ttl, value) = match write {
            Write::Put { name, value, ttl, expect } => ("P", name, expect, ttl.map_or_else(|| "0".into(), millis), value.clone()),
            Write::Delete { name, expect } => ("D", name, expect, "0".into(), Bytes::new()),
            Write::Check { name, expect } => ("C", name, expect, "0".into(), Bytes::new()),
        };
        let expect = match expect {
            Expect::Any => "*".into(),
            Expect::Absent => "-".into(),
            Expect::Version(version) => version.to_string(),
        };
        keys.push(key(&batch.slot, "/", name));
        args.extend([Bytes::from(kind), Bytes::from(expect), Bytes::from(name.clone()), Bytes::from(ttl), value]);
    }
    (keys, args)
}

#[async_trait]
impl Store for Redis {
    async fn get(&self, place: &Key) -> Result<Option<Entry>, StoreError> {
        let mut command = redis::cmd("GET");
        command.arg(key(&place.slot, "/", &place.name));
        let answer = self.link.call(place.slot.as_str(), &command, (Kind::Read, deadline())).await?.ok_or_else(|| odd("GET"))?;
        parse::<Option<Vec<u8>>>(answer, "GET")?.map(|stored| read_entry(&stored)).transpose()
    }

    async fn scan(
        &self,
        slot: &Slot,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Entry)>, StoreError> {
        let mut from = match after {
            Some(after) if after >= prefix => format!("({after}"),
            _ => format!("[{prefix}"),
        };
        let mut found = Vec::new();
        while found.len() < limit {
            let page = self.scan_page(slot, &from, (limit - found.len()).min(PAGE)).await?;
            let Some((last, _)) = page.last() else { break };
            from = format!("({last}");
            let whole = page.len();
            let ours: Vec<_> = page.into_iter().take_while(|(name, _)| name.starts_with(prefix)).collect();
            let ended = ours.len() < whole;
            found.extend(ours.into_iter().filter_map(|(name, entry)| Some((name, entry?))));
            if ended {
                break;
            }
        }
        Ok(found)
    }

    async fn commit(&self, batch: Batch) -> Result<Vec<u64>, StoreError> {
        let slot = batch.slot.as_str();
        if batch.fence.as_ref().is_some_and(|hold| hold.key.slot != batch.slot) {
            return Err(StoreError::Fenced);
        }
        let (keys, args) = commit_script(&batch);
        let args: Vec<&[u8]> = args.iter().map(AsRef::as_ref).collect();
        let lasting = |write: &Write| matches!(write, Write::Put { ttl: None, .. } | Write::Delete { .. });
        let (begun, end) = (Instant::now(), deadline());
        let witness = if batch.writes.iter().any(lasting) { self.witness(slot, (begun, end)).await? } else { None };
        let answer: Vec<String> = parse(self.run(slot, &COMMIT, &keys, &args, (Kind::Write, end)).await?, "a commit")?;
        match answer.split_first() {
            Some((word, versions)) if word == "ok" => {
                self.confirm(slot, witness).await?;
                versions.iter().map(|version| version.parse().map_err(|_| odd("a commit"))).collect()
            }
            Some((word, rest)) if word == "conflict" => Err(StoreError::Conflict(rest.first().cloned().unwrap_or_default())),
            Some((word, _)) if word == "fenced" => Err(StoreError::Fenced),
            _ => Err(odd("a commit")),
        }
    }

    async fn hold(&self, place: &Key, ttl: Duration) -> Result<Option<Hold>, StoreError> {
        let owner = uuid::Uuid::now_v7().simple().to_string();
        let keys = [key(&place.slot, "#lock/", &place.name), key(&place.slot, "#fence", "")];
        let ttl = millis(ttl);
        let args: [&[u8]; 2] = [owner.as_bytes(), ttl.as_bytes()];
        let answer = self.run(place.slot.as_str(), &HOLD, &keys, &args, (Kind::Write, deadline())).await?;
        let fence: Option<u64> = parse(answer, "a lock")?;
        Ok(fence.map(|fence| Hold { key: place.clone(), owner, fence }))
    }

    async fn renew(&self, hold: &Hold, ttl: Duration) -> Result<bool, StoreError> {
        let proof = format!("{}:{}", hold.owner, hold.fence);
        let keys = [key(&hold.key.slot, "#lock/", &hold.key.name)];
        let ttl = millis(ttl);
        let args: [&[u8]; 2] = [proof.as_bytes(), ttl.as_bytes()];
        parse(self.run(hold.key.slot.as_str(), &RENEW, &keys, &args, (Kind::Write, deadline())).await?, "a lock")
    }

    async fn release(&self, hold: &Hold) -> Result<(), StoreError> {
        let proof = format!("{}:{}", hold.owner, hold.fence);
        let keys = [key(&hold.key.slot, "#lock/", &hold.key.name)];
        self.run(hold.key.slot.as_str(), &RENEW, &keys, &[proof.as_bytes(), b"0"], (Kind::Write, deadline())).await.map(|_| ())
    }

    async fn push(&self, queue: &Key, id: &str, value: Bytes, delay: Duration) -> Result<(), StoreError> {
        let (begun, end) = (Instant::now(), deadline());
        let (slot, delay) = (queue.slot.as_str(), micros(delay));
        let args: [&[u8]; 3] = [id.as_bytes(), &value, delay.as_bytes()];
        let witness = self.witness(slot, (begun, end)).await?;
        self.run(slot, &PUSH, &queue_keys(queue), &args, (Kind::Write, end)).await?;
        self.confirm(slot, witness).await
    }

    async fn claim(&self, queue: &Key, lease: Duration, limit: usize) -> Result<Vec<Claimed>, StoreError> {
        let proof = uuid::Uuid::now_v7().simple().to_string();
        let (lease, limit) = (micros(lease), limit.to_string());
        let args: [&[u8]; 3] = [proof.as_bytes(), lease.as_bytes(), limit.as_bytes()];
        let answer = self.run(queue.slot.as_str(), &CLAIM, &queue_keys(queue), &args, (Kind::Write, deadline())).await?;
        let items: Vec<(String, Vec<u8>, u32)> = parse(answer, "a claim")?;
        let claimed = |(id, value, attempt)| Claimed { id, value: Bytes::from(value), attempt, lease: proof.clone() };
        Ok(items.into_iter().map(claimed).collect())
    }

    async fn settle(&self, queue: &Key, item: &Claimed, outcome: Settle) -> Result<bool, StoreError> {
        let delay = match outcome {
            Settle::Done => "-1".into(),
            Settle::Retry(delay) => micros(delay),
        };
        let args: [&[u8]; 3] = [item.id.as_bytes(), item.lease.as_bytes(), delay.as_bytes()];
        parse(self.run(queue.slot.as_str(), &SETTLE, &queue_keys(queue), &args, (Kind::Write, deadline())).await?, "a settlement")
    }

    async fn spend(&self, bucket: &Key, capacity: u32, period: Duration) -> Result<Spent, StoreError> {
        if capacity == 0 {
            return Ok(Spent { allowed: false, remaining: 0, wait: period });
        }
        let step = (period.as_micros() / u128::from(capacity)).max(1).to_string();
        let keys = [key(&bucket.slot, "#bucket/", &bucket.name)];
        let capacity = capacity.to_string();
        let args: [&[u8]; 2] = [step.as_bytes(), capacity.as_bytes()];
        let answer = self.run(bucket.slot.as_str(), &SPEND, &keys, &args, (Kind::Write, deadline())).await?;
        let (allowed, remaining, wait): (bool, u32, u64) = parse(answer, "a bucket")?;
        Ok(Spent { allowed, remaining, wait: Duration::from_micros(wait) })
    }

    async fn slots(&self) -> Result<Vec<Slot>, StoreError> {
        survey::slots(&self.link).await
    }

    async fn lasting(&self, slot: &Slot, after: Option<&str>) -> Result<Lasting, StoreError> {
        self.lasting_of(slot, after).await
    }

    async fn health(&self) -> Result<Health, StoreError> {
        let found = health::examine(&self.link).await?;
        self.confirms.store(found.confirms, Ordering::Relaxed);
        Ok(found.health)
    }
}

impl Redis {
    /// One page of the index with the values; names whose value is gone are taken out of the index on the way.
    async fn scan_page(&self, slot: &Slot, from: &str, limit: usize) -> Result<Vec<(String, Option<Entry>)>, StoreError> {
        let how = (Kind::Read, deadline());
        let index = key(slot, "#index", "");
        let mut command = redis::cmd("ZRANGE");
        command.arg(&index).arg(from).arg("+").arg("BYLEX").arg("LIMIT").arg(0).arg(limit);
        let answer = self.link.call(slot.as_str(), &command, how).await?.ok_or_else(|| odd("ZRANGE"))?;
        let names: Vec<String> = parse(answer, "ZRANGE")?;
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let keys: Vec<_> = names.iter().map(|name| key(slot, "/", name)).collect();
        let mut command = redis::cmd("MGET");
        command.arg(&keys);
        let answer = self.link.call(slot.as_str(), &command, how).await?.ok_or_else(|| odd("MGET"))?;
        let values: Vec<Option<Vec<u8>>> = parse(answer, "MGET")?;
        let dead: Vec<&str> =
            names.iter().zip(&values).filter(|(_, value)| value.is_none()).map(|(name, _)| name.as_str()).collect();
        if !dead.is_empty() {
            let keys: Vec<_> = std::iter::once(index).chain(dead.iter().map(|name| key(slot, "/", name))).collect();
            let args: Vec<&[u8]> = dead.iter().map(|name| name.as_bytes()).collect();
            // Tidying must not fail a read; what is left is tidied by the next one.
            let _ = self.run(slot.as_str(), &FORGET, &keys, &args, how).await;
        }
        let entries = values.into_iter().map(|value| value.map(|stored| read_entry(&stored)).transpose());
        names.into_iter().zip(entries).map(|(name, entry)| Ok((name, entry?))).collect()
    }
}
