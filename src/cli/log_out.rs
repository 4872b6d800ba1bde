//! How lines of the log leave: those of the access log some together, everything else at once, and always in their order.
//!
//! Where little is going on each line is written as it comes. Under load a write for each request is a price that one for many is
//! not, so a line that follows another within milliseconds waits for more.

use std::{
    io::{self, Stderr, Write},
    mem,
    sync::{Condvar, LazyLock, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use tracing::Metadata;
use tracing_subscriber::fmt::MakeWriter;

use super::Failure;
use crate::http::watch::ACCESS_LOG;

/// The longest a line waits for others.
const TOGETHER: Duration = Duration::from_millis(10);
/// With so many bytes waiting callers write themselves: a slow reader slows the gateway down and loses nothing.
const MOST: usize = 256 * 1024;

static STDERR: LazyLock<Lines<Stderr>> = LazyLock::new(|| Lines::to(io::stderr()));

/// Gives log events the standard error.
pub struct LogOut;

impl LogOut {
    /// Starts what writes lines that wait.
    pub fn start() -> Result<LogOut, Failure> {
        thread::Builder::new().name("log".to_owned()).spawn(|| STDERR.write_what_waits())?;
        Ok(LogOut)
    }

    /// Writes what waits; before the process ends.
    pub fn flush() {
        STDERR.flush();
    }
}

impl<'a> MakeWriter<'a> for LogOut {
    type Writer = Event;

    fn make_writer(&'a self) -> Event {
        Event { may_wait: false }
    }

    fn make_writer_for(&'a self, meta: &Metadata<'_>) -> Event {
        Event { may_wait: meta.target() == ACCESS_LOG }
    }
}

/// Takes the line of one event.
pub struct Event {
    may_wait: bool,
}

impl Write for Event {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        STDERR.put(line, self.may_wait);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Lines on their way to an output.
struct Lines<W> {
    held: Mutex<Held>,
    /// Told when `held` waits for the writing thread.
    waits: Condvar,
    /// Whoever holds this writes; it is taken before `held`, so that lines keep their order.
    out: Mutex<Out<W>>,
}

struct Held {
    bytes: Vec<u8>,
    /// The writing thread will come.
    is_due: bool,
    written: Option<Instant>,
}

struct Out<W> {
    to: W,
    spare: Vec<u8>,
}

impl<W: Write> Lines<W> {
    fn to(to: W) -> Self {
        let held = Held { bytes: Vec::new(), is_due: false, written: None };
        Self { held: Mutex::new(held), waits: Condvar::new(), out: Mutex::new(Out { to, spare: Vec::new() }) }
    }

    fn put(&self, line: &[u8], may_wait: bool) {
        let mut held = lock(&self.held);
        held.bytes.extend_from_slice(line);
        if may_wait && held.bytes.len() < MOST {
            if held.is_due {
                return;
            }
            if held.written.is_some_and(|written| written.elapsed() < TOGETHER) {
                held.is_due = true;
                drop(held);
                return self.waits.notify_one();
            }
        }
        drop(held);
        self.flush();
    }

    fn flush(&self) {
        let mut out = lock(&self.out);
        let spare = mem::take(&mut out.spare);
        let mut bytes = {
            let mut held = lock(&self.held);
            (held.is_due, held.written) = (false, Some(Instant::now()));
            mem::replace(&mut held.bytes, spare)
        };
        // There is no other place to say that the log cannot be written.
        let _ = out.to.write_all(&bytes);
        bytes.clear();
        out.spare = bytes;
    }

    fn write_what_waits(&self) {
        loop {
            let due = self.waits.wait_while(lock(&self.held), |held| !held.is_due);
            drop(due.unwrap_or_else(PoisonError::into_inner));
            thread::sleep(TOGETHER);
            self.flush();
        }
    }
}

fn lock<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    what.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[derive(Clone, Default)]
    struct Seen(Arc<Mutex<Vec<Vec<u8>>>>);

    impl Write for Seen {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            lock(&self.0).push(bytes.to_vec());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Seen {
        fn writes(&self) -> Vec<String> {
            lock(&self.0).iter().map(|bytes| String::from_utf8(bytes.clone()).unwrap()).collect()
        }
    }

    #[test]
    fn a_lone_line_is_written_at_once_and_others_bring_along_what_waits() {
        let seen = Seen::default();
        let lines = Lines::to(seen.clone());
        lines.put(b"1\n", true);
        assert_eq!(seen.writes(), ["1\n"]);
        lines.put(b"2\n", true);
        lines.put(b"3\n", true);
        assert_eq!(seen.writes().len(), 1, "they wait for more");
        lines.put(b"warned\n", false);
        assert_eq!(seen.writes(), ["1\n", "2\n3\nwarned\n"]);
        thread::sleep(TOGETHER);
        lines.put(b"4\n", true);
        assert_eq!(seen.writes().last().unwrap(), "4\n");
    }

    #[test]
    fn lines_of_many_threads_are_all_written_whole_and_in_order_by_few_writes() {
        let seen = Seen::default();
        let lines: &'static Lines<Seen> = Box::leak(Box::new(Lines::to(seen.clone())));
        thread::spawn(|| lines.write_what_waits());
        let put = |worker: usize| (0..5_000).for_each(|n| lines.put(format!("{worker} {n}\n").as_bytes(), true));
        thread::scope(|scope| (0..4).for_each(|worker| drop(scope.spawn(move || put(worker)))));
        let end = Instant::now() + Duration::from_secs(5);
        while lock(&lines.held).is_due && Instant::now() < end {
            thread::sleep(Duration::from_millis(1));
        }
        lines.flush();
        let writes = seen.writes();
        let text = writes.concat();
        for worker in 0..4 {
            let wanted: Vec<String> = (0..5_000).map(|n| format!("{worker} {n}")).collect();
            let found: Vec<&str> = text.lines().filter(|line| line.starts_with(&format!("{worker} "))).collect();
            assert_eq!(found, wanted);
        }
        assert!(writes.len() < 2_000, "{} writes", writes.len());
    }
}
