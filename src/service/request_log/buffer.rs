//! Where a worker leaves its lines: bounded, and locked for no longer than it takes to put one down.

use std::sync::{Mutex, PoisonError};

use super::Line;

/// Lines one worker can leave between two writings.
const ROOM: usize = 8 * 1024;

/// The lines of one worker that nobody has taken yet.
#[derive(Default)]
pub struct Buffer(Mutex<Held>);

#[derive(Default)]
struct Held {
    lines: Vec<Line>,
    lost: u64,
}

impl Buffer {
    /// Leaves a line, or counts it where there is no room.
    pub fn push(&self, line: Line) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if held.lines.len() < ROOM {
            held.lines.push(line);
        } else {
            held.lost += 1;
        }
    }

    /// The lines, for the room of others; and how many found no room.
    pub(super) fn take(&self, empty: Vec<Line>) -> (Vec<Line>, u64) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (std::mem::replace(&mut held.lines, empty), std::mem::take(&mut held.lost))
    }
}

#[cfg(test)]
mod tests {
    use std::{
        borrow::Cow,
        time::{Duration, Instant},
    };

    use super::*;
    use crate::service::request_log::RequestId;

    #[test]
    fn what_finds_no_room_is_counted() {
        let buffer = Buffer::default();
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
        (0..ROOM + 5).for_each(|n| buffer.push(line(n)));
        let (lines, lost) = buffer.take(Vec::new());
        assert_eq!((lines.len(), lost), (ROOM, 5));
        buffer.push(line(7));
        let (lines, lost) = buffer.take(lines);
        assert_eq!((lines.len(), lost, &lines[0].request_id), (1, 0, &RequestId::of("7")));
    }
}
