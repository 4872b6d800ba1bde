//! Waits until the append-only file on disk has what was written, one wait for all commits of a server at the moment.
//!
//! `WAITAOF` blocks its connection and speaks only for that connection's own writes. So it has a connection of its own
//! and makes one small write there after the commit: when the file has that, it has everything before it.

use std::{
    collections::HashMap,
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
    written: AtomicU64,
    confirmed: AtomicU64,
    lines: [Line; ROUNDS],
}

struct Line {
    node: Node,
    busy: Mutex<()>,
}

impl Confirmations {
    /// Returns when everything written to the slot's server before this call is in its file.
    pub async fn wait(&self, link: &Link, slot: &str, begun: Instant) -> Result<(), StoreError> {
        let deadline = begun + WAIT;
        let address = link.route(slot, deadline).await?;
        let desk = lock(&self.0).entry(address.clone()).or_insert_with(|| Arc::new(Desk::new(&address))).clone();
        let mine = desk.written.fetch_add(1, Ordering::SeqCst) + 1;
        let late = || StoreError::Unavailable(format!("{address} did not confirm the write on disk in time"));
        let (line, _mine_alone) = timeout_at(deadline, desk.queue(mine)).await.map_err(|_| late())?;
        if desk.confirmed.load(Ordering::SeqCst) >= mine {
            return Ok(());
        }
        let round = desk.written.load(Ordering::SeqCst);
        let connection = line.node.connect(&link.dialer, false, deadline).await?;
        match line.ask(&connection, slot, deadline).await {
            Ok(true) => {
                desk.confirmed.fetch_max(round, Ordering::SeqCst);
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
    fn new(address: &Address) -> Self {
        let line = |_| Line { node: Node::new(address.clone()), busy: Mutex::new(()) };
        Self { written: AtomicU64::new(0), confirmed: AtomicU64::new(0), lines: std::array::from_fn(line) }
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
    async fn ask(&self, connection: &Connection, slot: &str, deadline: Instant) -> Result<bool, StoreError> {
        let lost = |_| StoreError::Unavailable(format!("{} did not confirm the write on disk", self.node.address));
        let mut mark = redis::cmd("SET");
        mark.arg(format!("rollcall:{{{slot}}}#confirm")).arg("").arg("PX").arg(1000);
        self.node.send(connection, &mark, false, deadline).await.map_err(lost)?;
        let left = deadline.saturating_duration_since(Instant::now()).as_millis().max(1);
        let mut wait = redis::cmd("WAITAOF");
        wait.arg(1).arg(0).arg(u64::try_from(left).unwrap_or(1));
        let answer = self.node.send(connection, &wait, false, deadline + Duration::from_millis(100)).await.map_err(lost)?;
        let (local, _): (i64, i64) = super::parse(answer, "WAITAOF")?;
        Ok(local >= 1)
    }
}
