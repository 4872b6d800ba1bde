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
    sync::Mutex,
    time::{Instant, timeout_at},
};

use super::{
    link::Link,
    node::{Connection, Node, lock},
    url::Address,
};
use crate::store::StoreError;

/// `appendfsync everysec` writes within a second; two rounds may be needed. Together with the commit this stays under 2.5 s.
const WAIT: Duration = Duration::from_millis(2_200);

#[derive(Default)]
pub(super) struct Confirmations(Plain<HashMap<Address, Arc<Line>>>);

/// The waiting line of one server.
struct Line {
    node: Node,
    written: AtomicU64,
    confirmed: Mutex<u64>,
}

impl Confirmations {
    /// Returns when everything written to the slot's server before this call is in its file.
    pub async fn wait(&self, link: &Link, slot: &str) -> Result<(), StoreError> {
        let deadline = Instant::now() + WAIT;
        let address = link.route(slot, deadline).await?;
        let new = || Arc::new(Line { node: Node::new(address.clone()), written: AtomicU64::new(0), confirmed: Mutex::new(0) });
        let line = lock(&self.0).entry(address.clone()).or_insert_with(new).clone();
        let mine = line.written.fetch_add(1, Ordering::SeqCst) + 1;
        let late = || StoreError::Unavailable(format!("{address} did not confirm the write on disk in time"));
        let mut confirmed = timeout_at(deadline, line.confirmed.lock()).await.map_err(|_| late())?;
        if *confirmed >= mine {
            return Ok(());
        }
        let round = line.written.load(Ordering::SeqCst);
        let connection = line.node.connect(&link.dialer, false, deadline).await?;
        let outcome = line.ask(&connection, slot, deadline).await;
        match outcome {
            Ok(true) => {
                *confirmed = round;
                Ok(())
            }
            other => {
                line.node.forget(connection.id).await;
                other.map(|_| ()).and(Err(late()))
            }
        }
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
