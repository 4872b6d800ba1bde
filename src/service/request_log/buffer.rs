//! Where a worker leaves its lines: bounded, and locked for no longer than it takes to put one down.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use super::Line;

/// Lines one worker can leave between two writings.
const ROOM: usize = 8 * 1024;
/// So many are worth being taken: many more at once would keep their taker's core from requests for milliseconds.
const SOME: usize = 256;

/// The lines of one worker that nobody has taken yet.
pub struct Buffer {
    held: Mutex<Held>,
    some: Arc<Notify>,
}

#[derive(Default)]
struct Held {
    lines: Vec<Line>,
    lost: u64,
}

impl Buffer {
    /// Tells when it holds some.
    pub(super) fn new(some: Arc<Notify>) -> Self {
        Self { held: Mutex::default(), some }
    }

    /// Leaves a line, or counts it where there is no room.
    pub fn push(&self, line: Line) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.lines.len() >= ROOM {
            held.lost += 1;
            return;
        }
        held.lines.push(line);
        if held.lines.len() == SOME {
            drop(held);
            self.some.notify_one();
        }
    }

    /// The lines, for the room of others; and how many found no room.
    pub(super) fn take(&self, empty: Vec<Line>) -> (Vec<Line>, u64) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        (std::mem::replace(&mut held.lines, empty), std::mem::take(&mut held.lost))
    }
}

#[cfg(test)]
mod tests {
    use std::{
        borrow::Cow,
        time::{Duration, Instant},
    };

    use futures_util::FutureExt;

    use super::*;
    use crate::service::request_log::RequestId;

    #[test]
    fn what_finds_no_room_is_counted() {
        let some = Arc::new(Notify::new());
        let buffer = Buffer::new(some.clone());
        let line = |n: usize| Line {
            ended: Instant::now(),
            request_id: RequestId::of(&n.to_string()),
            caller: None,
            about: None,
            route: Cow::Borrowed("/ping"),
            method: Cow::Borrowed("GET"),
            status: 200,
            code: None,
            vendor_status: None,
            took: Duration::ZERO,
            vendor_took: None,
            pages: 0,
            bytes: 0,
            cut: false,
        };
        let mut told = std::pin::pin!(some.notified());
        (0..SOME - 1).for_each(|n| buffer.push(line(n)));
        assert!((&mut told).now_or_never().is_none(), "a few are not worth it");
        (SOME - 1..ROOM + 5).for_each(|n| buffer.push(line(n)));
        assert!(told.now_or_never().is_some());
        let (lines, lost) = buffer.take(Vec::new());
        assert_eq!((lines.len(), lost), (ROOM, 5));
        buffer.push(line(7));
        let (lines, lost) = buffer.take(lines);
        assert_eq!((lines.len(), lost, &lines[0].request_id), (1, 0, &RequestId::of("7")));
    }
}
