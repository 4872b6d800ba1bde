//! Finds the server of a slot, sends one command there and decides what may be sent again.
//!
//! The rule: a read may be repeated; a write is repeated only when the server said that it did not execute it. A write
//! without an answer is `Unavailable`, because nobody knows.

use std::{
    collections::HashMap,
    future::Future,
    sync::{Arc, Mutex as Plain},
    time::Duration,
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use redis::{Cmd, RedisConnectionInfo, Value};
use tokio::{
    sync::Mutex,
    time::{Instant, sleep, timeout_at},
};

use super::{
    node::{Dialer, Failure, Node, lock, refused_connection},
    url::{Address, Form, RedisUrl},
};
use crate::store::StoreError;

/// No verb takes longer, whatever happens, but for the wait until a write is on disk.
const DEADLINE: Duration = Duration::from_millis(1_500);
/// A read is tried on a new connection after this long.
const FIRST_READ: Duration = Duration::from_millis(700);
/// The same for a server in doubt, connecting included.
const IN_DOUBT: Duration = Duration::from_millis(100);
const TRIES: u32 = 5;

/// When a verb that begins now must be over.
pub(super) fn deadline() -> Instant {
    Instant::now() + DEADLINE
}
const PAUSE: Duration = Duration::from_millis(50);

/// Whether a command may be sent twice.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Read,
    Write,
}

/// That, and when the verb must be over.
pub(super) type How = (Kind, Instant);

/// Every server of the installation.
pub(super) struct Link {
    url: RedisUrl,
    pub dialer: Dialer,
    nodes: Plain<HashMap<Address, Arc<Node>>>,
    routes: Plain<Routes>,
    discovery: Mutex<()>,
}

#[derive(Clone, Default)]
struct Routes {
    /// The primary the Sentinels named.
    primary: Option<Address>,
    /// Cluster: first slot, last slot, primary.
    ranges: Vec<(u16, u16, Address)>,
}

impl Link {
    pub fn new(url: RedisUrl, roots: Option<Vec<u8>>) -> Self {
        let dialer = Dialer::new(&url, roots);
        Self { url, dialer, nodes: Plain::default(), routes: Plain::default(), discovery: Mutex::new(()) }
    }

    /// Sends a command to the primary of a slot. `Ok(None)`: the script is not cached there.
    pub async fn call(&self, slot: &str, command: &Cmd, (kind, deadline): How) -> Result<Option<Value>, StoreError> {
        let mut redirect = None;
        let mut last = StoreError::Unavailable("Redis does not answer".into());
        for attempt in 0..TRIES {
            if Instant::now() >= deadline {
                break;
            }
            let (address, asking) = match redirect.take() {
                Some(target) => target,
                None => (self.route(slot, deadline).await?, false),
            };
            let node = self.node(&address);
            // A server that has just left another call without an answer gets less time from this one.
            let deadline = if attempt == 0 && node.is_in_doubt() { deadline.min(Instant::now() + IN_DOUBT) } else { deadline };
            let first = kind == Kind::Read && attempt == 0;
            let end = if first { deadline.min(Instant::now() + FIRST_READ) } else { deadline };
            match self.attempt(&node, command, (kind, asking), (deadline, end)).await {
                Ok(value) => return Ok(Some(value)),
                Err(Failure::NoScript) => return Ok(None),
                Err(Failure::Said(error) | Failure::Unsent(error)) => return Err(error),
                Err(Failure::Redirect { to, asking }) => {
                    if !asking {
                        self.learn(slot, to.clone());
                    }
                    redirect = Some((to, asking));
                }
                Err(Failure::NotNow(text)) => {
                    self.reroute();
                    last = StoreError::Unavailable(text);
                    sleep(PAUSE).await;
                }
                Err(Failure::Lost(text)) => {
                    self.reroute();
                    last = StoreError::Unavailable(text);
                    if kind == Kind::Write {
                        break;
                    }
                }
            }
        }
        Err(last)
    }

    async fn attempt(
        &self,
        node: &Node,
        command: &Cmd,
        (kind, asking): (Kind, bool),
        (deadline, end): (Instant, Instant),
    ) -> Result<Value, Failure> {
        let primary = matches!(self.url.form, Form::Sentinel { .. });
        let connection = match node.connect(&self.dialer, primary, deadline).await {
            Ok(connection) => connection,
            Err(error) => {
                self.reroute();
                return Err(Failure::Unsent(error));
            }
        };
        if kind == Kind::Write && !node.is_alive(&connection, deadline).await {
            node.forget(connection.id);
            return Err(Failure::NotNow(format!("the connection to {} was lost", node.address)));
        }
        let outcome = node.send(&connection, command, asking, end).await;
        if matches!(outcome, Err(Failure::Lost(_) | Failure::NotNow(_))) {
            node.forget(connection.id);
        }
        outcome
    }

    pub fn node(&self, address: &Address) -> Arc<Node> {
        lock(&self.nodes).entry(address.clone()).or_insert_with(|| Arc::new(Node::new(address.clone()))).clone()
    }

    /// The primary of a slot.
    pub async fn route(&self, slot: &str, deadline: Instant) -> Result<Address, StoreError> {
        let known = |routes: &Routes| match &self.url.form {
            Form::Single => self.url.hosts.first().cloned(),
            Form::Sentinel { .. } => routes.primary.clone(),
            Form::Cluster => {
                let number = cluster_slot(slot.as_bytes());
                let range = routes.ranges.iter().find(|(first, last, _)| (*first..=*last).contains(&number));
                range.map(|(_, _, address)| address.clone())
            }
        };
        if let Some(address) = known(&lock(&self.routes)) {
            return Ok(address);
        }
        let late = || StoreError::Unavailable("nobody says which Redis server is the primary".into());
        let _alone = timeout_at(deadline, self.discovery.lock()).await.map_err(|_| late())?;
        if let Some(address) = known(&lock(&self.routes)) {
            return Ok(address);
        }
        let found = timeout_at(deadline, self.discover()).await.map_err(|_| late())??;
        *lock(&self.routes) = found.clone();
        known(&found).ok_or_else(late)
    }

    /// Every primary now, for health.
    pub async fn primaries(&self, deadline: Instant) -> Result<Vec<Address>, StoreError> {
        let one = self.route("rollcall", deadline).await?;
        let mut all: Vec<_> = lock(&self.routes).ranges.iter().map(|(_, _, address)| address.clone()).collect();
        all.push(one);
        all.sort_by_key(ToString::to_string);
        all.dedup();
        Ok(all)
    }

    /// Asks one server, whatever the routes say.
    pub async fn ask(&self, address: &Address, command: &Cmd, deadline: Instant) -> Result<Value, Failure> {
        self.attempt(&self.node(address), command, (Kind::Read, false), (deadline, deadline)).await
    }

    fn learn(&self, slot: &str, address: Address) {
        let number = cluster_slot(slot.as_bytes());
        lock(&self.routes).ranges.insert(0, (number, number, address));
    }

    fn reroute(&self) {
        *lock(&self.routes) = Routes::default();
    }

    async fn discover(&self) -> Result<Routes, StoreError> {
        if let Form::Sentinel { master } = &self.url.form {
            let asked = self.url.hosts.iter().map(|sentinel| self.ask_sentinel(sentinel, master));
            return Ok(Routes { primary: Some(first_good(asked).await?), ranges: Vec::new() });
        }
        let mut seeds = self.url.hosts.clone();
        seeds.extend(lock(&self.nodes).keys().cloned());
        let ranges = first_good(seeds.iter().map(|seed| self.ask_cluster(seed))).await?;
        Ok(Routes { primary: None, ranges })
    }

    /// Sentinels often ask for no password while the servers do; the password is tried when they want one.
    async fn ask_sentinel(&self, sentinel: &Address, master: &str) -> Result<Address, StoreError> {
        let ask = |login: RedisConnectionInfo| async {
            let mut connection = self.dialer.dial(sentinel, login).await?;
            let mut question = redis::cmd("SENTINEL");
            question.arg("get-master-addr-by-name").arg(master);
            question.query_async::<Option<(String, u16)>>(&mut connection).await
        };
        let mut answer = ask(RedisConnectionInfo::default()).await;
        if answer.as_ref().is_err_and(|error| error.code() == Some("NOAUTH")) {
            answer = ask(self.dialer.login.clone().set_db(0)).await;
        }
        match answer {
            Ok(Some((host, port))) => Ok(Address { host, port }),
            Ok(None) => Err(StoreError::Refused(format!("The Sentinel at {sentinel} knows no master `{master}`."))),
            Err(error) => Err(refused_connection(sentinel, &error)),
        }
    }

    async fn ask_cluster(&self, seed: &Address) -> Result<Vec<(u16, u16, Address)>, StoreError> {
        type Range = (u16, u16, Vec<Value>);
        let mut question = redis::cmd("CLUSTER");
        question.arg("SLOTS");
        let answer = self.ask(seed, &question, deadline()).await?;
        let odd = |_| StoreError::Refused(format!("{seed} does not answer as a member of a Redis Cluster."));
        let rows: Vec<Vec<Value>> = redis::from_redis_value(answer).map_err(odd)?;
        let mut ranges = Vec::with_capacity(rows.len());
        for row in rows {
            let parsed: Range = redis::from_redis_value(Value::Array(row.into_iter().take(3).collect())).map_err(odd)?;
            let (first, last, node) = parsed;
            let host = node.first().and_then(|host| redis::from_redis_value_ref::<Option<String>>(host).ok().flatten());
            let port = node.get(1).and_then(|port| redis::from_redis_value_ref::<u16>(port).ok());
            if let Some(port) = port {
                let host = host.filter(|host| !host.is_empty()).unwrap_or_else(|| seed.host.clone());
                ranges.push((first, last, Address { host, port }));
            }
        }
        if ranges.is_empty() {
            return Err(StoreError::Unavailable(format!("the cluster at {seed} serves no slots yet")));
        }
        Ok(ranges)
    }
}

/// The first good answer of several servers asked at once, else the last error.
async fn first_good<T>(asked: impl Iterator<Item = impl Future<Output = Result<T, StoreError>>>) -> Result<T, StoreError> {
    let mut running: FuturesUnordered<_> = asked.collect();
    let mut last = StoreError::Unavailable("no Redis server is named".into());
    while let Some(answer) = running.next().await {
        match answer {
            Ok(good) => return Ok(good),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// The cluster slot of a hash tag: CRC-16/XMODEM modulo 16384.
fn cluster_slot(tag: &[u8]) -> u16 {
    let crc = tag.iter().fold(0_u16, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 })
    });
    crc % 16_384
}

#[cfg(test)]
mod tests {
    #[test]
    fn slots_are_those_of_the_cluster_specification() {
        assert_eq!(super::cluster_slot(b"123456789"), 0x31C3);
        assert_eq!(super::cluster_slot(b""), 0);
    }
}
