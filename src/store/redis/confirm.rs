//! Waits until the append-only file on disk, and as many replicas as the operator wants, have what was written; one wait for
//! all commits of a server at the moment.
//!
//! `WAITAOF` and `WAIT` block their connection and speak only for that connection's own writes. So they have a connection of
//! their own and make one small write there after the commit: where that is, everything before it is. That holds for one
//! process only. So the connection must be older than the commit: a server that was restarted or replaced since has
//! lost it, and perhaps the commit too.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex as Plain,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Mutex, MutexGuard},
    time::{Instant, timeout_at},
};

use super::{
    link::Link,
    node::{Connection, Node, lock},
    url::Address,
};
use crate::store::StoreError;

/// From the beginning of the commit. `appendfsync everysec` writes within a second or a little more.
const WAIT: Duration = Duration::from_millis(2_200);
/// Rounds that may wait at the same time, so that a commit need not wait for an earlier round before its own.
const ROUNDS: usize = 4;

#[derive(Default)]
pub(super) struct Confirmations(Plain<HashMap<Address, Arc<Desk>>>);

/// What is known of one server.
struct Desk {
    address: Address,
    written: AtomicU64,
    confirmed: Plain<Option<Confirmed>>,
    lines: [Line; ROUNDS],
}

/// Every write up to a number, if its connection is older than the write.
struct Confirmed {
    up_to: u64,
    since: Instant,
}

struct Line {
    node: Node,
    busy: Mutex<()>,
}

/// Where a write must be before it is acknowledged.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    /// In the append-only file.
    pub file: bool,
    /// On so many replicas.
    pub replicas: u8,
}

/// Taken before a write: from then on, the connections to its server are there.
pub(super) struct Witness {
    desk: Arc<Desk>,
    wanted: Wanted,
    begun: Instant,
    since: Instant,
}

impl Confirmations {
    /// Connects to the slot's server, if need be.
    pub async fn witness(
        &self,
        link: &Link,
        slot: &str,
        wanted: Wanted,
        (begun, deadline): (Instant, Instant),
    ) -> Result<Witness, StoreError> {
        let address = link.route(slot, deadline).await?;
        let desk = lock(&self.0).entry(address.clone()).or_insert_with(|| Arc::new(Desk::new(address))).clone();
        for line in &desk.lines {
            line.node.connect(&link.dialer, false, deadline).await?;
        }
        Ok(Witness { desk, wanted, begun, since: Instant::now() })
    }
}

impl Witness {
    /// Returns when everything written to the slot's server before this call is where it is wanted.
    pub async fn wait(&self, link: &Link, slot: &str) -> Result<(), StoreError> {
        let (desk, wanted, deadline) = (&self.desk, self.wanted, self.begun + WAIT);
        let replaced = || StoreError::Unavailable(format!("{} was replaced while it was written to", desk.address));
        if link.route(slot, deadline).await? != desk.address {
            return Err(replaced());
        }
        let mine = desk.written.fetch_add(1, Ordering::SeqCst) + 1;
        let late = || StoreError::Unavailable(format!("{} did not confirm the write in time{wanted}", desk.address));
        let (line, _mine_alone) = timeout_at(deadline, desk.queue(mine)).await.map_err(|_| late())?;
        if desk.has_confirmed(mine, self.since) {
            return Ok(());
        }
        let round = desk.written.load(Ordering::SeqCst);
        let connection = line.node.connect(&link.dialer, false, deadline).await?;
        if connection.since > self.since {
            return Err(replaced());
        }
        match line.ask(&connection, slot, wanted, deadline).await {
            Ok(true) => {
                desk.confirm(Confirmed { up_to: round, since: connection.since });
                Ok(())
            }
            outcome => {
                line.node.forget(connection.id);
                outcome.and(Err(late()))
            }
        }
    }
}

impl Desk {
    fn new(address: Address) -> Self {
        let lines = std::array::from_fn(|_| Line { node: Node::shared(address.clone()), busy: Mutex::new(()) });
        Self { address, written: AtomicU64::new(0), confirmed: Plain::new(None), lines }
    }

    fn has_confirmed(&self, write: u64, since: Instant) -> bool {
        lock(&self.confirmed).as_ref().is_some_and(|known| known.up_to >= write && known.since <= since)
    }

    fn confirm(&self, round: Confirmed) {
        let mut known = lock(&self.confirmed);
        if known.as_ref().is_none_or(|known| known.up_to < round.up_to) {
            *known = Some(round);
        }
    }

    /// A line of one's own: a free one, else the next to become free by turn.
    async fn queue(&self, mine: u64) -> (&Line, MutexGuard<'_, ()>) {
        for line in &self.lines {
            if let Ok(guard) = line.busy.try_lock() {
                return (line, guard);
            }
        }
        let turn = usize::try_from(mine).unwrap_or(0) % ROUNDS;
        (&self.lines[turn], self.lines[turn].busy.lock().await)
    }
}

impl Line {
    async fn ask(&self, connection: &Connection, slot: &str, wanted: Wanted, deadline: Instant) -> Result<bool, StoreError> {
        let lost = |_| StoreError::Unavailable(format!("{} did not confirm the write{wanted}", self.node.address));
        let mut mark = redis::cmd("SET");
        mark.arg(format!("rollcall:{{{slot}}}#confirm")).arg("").arg("PX").arg(1000);
        self.node.send(connection, &mark, false, deadline).await.map_err(lost)?;
        let (left, late) = (left_until(deadline), deadline + Duration::from_millis(100));
        if wanted.file {
            let mut wait = redis::cmd("WAITAOF");
            wait.arg(1).arg(0).arg(left);
            let answer = self.node.send(connection, &wait, false, late).await.map_err(lost)?;
            let (local, _): (i64, i64) = super::parse(answer, "WAITAOF")?;
            if local < 1 {
                return Ok(false);
            }
        }
        if wanted.replicas == 0 {
            return Ok(true);
        }
        let mut wait = redis::cmd("WAIT");
        wait.arg(wanted.replicas).arg(left_until(deadline));
        let answer = self.node.send(connection, &wait, false, late).await.map_err(lost)?;
        Ok(super::parse::<i64>(answer, "WAIT")? >= i64::from(wanted.replicas))
    }
}

/// Milliseconds; 0 would mean for ever.
fn left_until(deadline: Instant) -> u64 {
    let left = deadline.saturating_duration_since(Instant::now()).as_millis();
    u64::try_from(left).unwrap_or(1).max(1)
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.file, self.replicas) {
            (_, 0) => f.write_str(" on disk"),
            (true, replicas) => write!(f, " on disk and on {replicas} of its replicas"),
            (false, replicas) => write!(f, " on {replicas} of its replicas"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_connection_vouches_only_for_writes_that_are_younger() {
        let desk = Desk::new(Address { host: "h".into(), port: 1 });
        let before = Instant::now();
        let since = before + Duration::from_secs(1);
        desk.confirm(Confirmed { up_to: 5, since });
        assert!(desk.has_confirmed(5, since) && desk.has_confirmed(4, since + Duration::from_secs(1)));
        assert!(!desk.has_confirmed(6, since), "not written yet");
        assert!(!desk.has_confirmed(5, before), "perhaps another process had it");
    }
}
