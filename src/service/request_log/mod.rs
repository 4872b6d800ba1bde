//! The log of requests: every request of a caller, findable for 14 days, and never more of it than a line.
//!
//! A worker puts lines into a buffer of its own. They are taken from there when there are some, gathered into pieces of one
//! environment and one minute, and a few times a second sealed and written, the piece of the present minute again and again while
//! it grows. What does not
//! fit, or cannot be written for long, is lost and counted: the log must never hold up a request.

mod buffer;
mod line;
mod piece;
mod read;
mod wanted;
mod writer;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use metrics::{Counter, Unit};
use tokio::{sync::Notify, time::sleep_until};

pub use self::{
    buffer::Buffer,
    line::{About, Line, LogLine, RequestId},
    read::{LogPage, Place},
    wanted::Wanted,
};
use self::{piece::window_of, writer::Writer};
use crate::{
    model::{Clock, EnvironmentId, Tasks},
    store::repo,
    vault::SystemKeys,
};

/// How long lines are kept.
pub const LIFE: Duration = Duration::from_secs(14 * 24 * 3600);
/// How often they are written.
const EVERY: Duration = Duration::from_millis(250);
/// How often ended pieces are looked for.
const TIDY: Duration = Duration::from_secs(3600);

const LINES: &str = "rollcall_log_lines_total";

/// The log of requests.
pub struct RequestLog {
    records: repo::Log,
    keys: Arc<SystemKeys>,
    clock: Arc<dyn Clock>,
    /// Where lines without a caller stand.
    own: EnvironmentId,
    buffers: Mutex<Vec<Arc<Buffer>>>,
    writer: tokio::sync::Mutex<Writer>,
    ends: Arc<Notify>,
    some: Arc<Notify>,
    written: Counter,
    lost: Counter,
}

impl RequestLog {
    /// Over the records. Requests without a valid token are of nobody's environment; whoever runs the gateway finds them in `own`.
    pub fn new(records: repo::Log, keys: Arc<SystemKeys>, clock: Arc<dyn Clock>, own: EnvironmentId) -> Self {
        metrics::describe_counter!(LINES, Unit::Count, "Lines of the log of requests, written, or lost and found in no answer.");
        let counter = |outcome: &'static str| metrics::counter!(LINES, "outcome" => outcome);
        Self {
            records,
            keys,
            clock,
            own,
            buffers: Mutex::default(),
            writer: tokio::sync::Mutex::new(Writer::new()),
            ends: Arc::default(),
            some: Arc::default(),
            written: counter("written"),
            lost: counter("lost"),
        }
    }

    /// A buffer for one worker.
    pub fn buffer(&self) -> Arc<Buffer> {
        let buffer = Arc::new(Buffer::new(self.some.clone()));
        self.buffers.lock().unwrap_or_else(PoisonError::into_inner).push(buffer.clone());
        buffer
    }

    /// Writes what is in the buffers from now on, until `close`, or until nobody else has the log.
    pub fn start(self: &Arc<Self>, tasks: &Tasks) {
        let (log, ends, some) = (Arc::downgrade(self), self.ends.clone(), self.some.clone());
        tasks.spawn(async move {
            let (mut tidied, mut flushed) = (Instant::now(), Instant::now());
            loop {
                let is_time = tokio::select! {
                    () = ends.notified() => return,
                    () = some.notified() => false,
                    () = sleep_until((flushed + EVERY).into()) => true,
                };
                let Some(log) = log.upgrade() else { return };
                if !is_time {
                    log.gather(&mut *log.writer.lock().await);
                    continue;
                }
                log.flush().await;
                flushed = Instant::now();
                if tidied.elapsed() > TIDY {
                    tidied = Instant::now();
                    log.tidy().await;
                }
            }
        });
    }

    /// Writes what there is, and ends the writing.
    pub async fn close(&self) {
        self.flush().await;
        self.ends.notify_one();
    }

    /// Takes the lines out of the buffers and writes them, as far as the store lets it.
    pub async fn flush(&self) {
        let mut writer = self.writer.lock().await;
        self.gather(&mut writer);
        let (written, lost) = writer.write(&self.records, &self.keys).await;
        self.written.increment(written);
        self.lost.increment(lost);
    }

    fn gather(&self, writer: &mut Writer) {
        let buffers = self.buffers.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (now, clock) = (Instant::now(), self.clock.now().as_millisecond());
        let (mut lost, mut turned_away) = (0, 0);
        for buffer in buffers {
            let (lines, overflown) = buffer.take(writer.spare());
            lost += overflown;
            for line in &lines {
                if line.caller.is_none() && !writer.takes_stranger() {
                    turned_away += 1;
                    continue;
                }
                let ago = i64::try_from(now.saturating_duration_since(line.ended).as_millis()).unwrap_or(0);
                let environment = line.caller.as_ref().map_or(self.own, |caller| caller.environment);
                writer.add(environment, clock.saturating_sub(ago), line);
            }
            writer.keep_spare(lines);
        }
        writer.lose(self.own, clock, turned_away);
        // Nobody knows whose the others were.
        writer.environments().into_iter().for_each(|environment| writer.lose(environment, clock, lost));
        self.lost.increment(lost + turned_away);
        writer.forget_before(window_of(clock).0);
    }

    async fn tidy(&self) {
        let life = i64::try_from(LIFE.as_millis()).unwrap_or(i64::MAX);
        let oldest = window_of(self.clock.now().as_millisecond().saturating_sub(life)).0;
        let environments = self.writer.lock().await.environments();
        for environment in environments {
            if let Err(error) = self.records.tidy(environment, oldest).await {
                tracing::debug!(cause = %error, "ended pieces of the log are tidied another time");
            }
        }
    }
}
