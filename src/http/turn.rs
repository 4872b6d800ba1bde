//! One request at a time on each connection.
//!
//! The server's library reads requests ahead of their answers and frames an answer by the request it read last: a HEAD that was
//! read ahead takes the body from the answer before it. Therefore what a client sends behind a request waits here until that
//! request is answered. Of a request nothing is looked at but where it ends. The library passes over trailers, too; those that a
//! request announced are kept here.

use std::{
    cell::{Cell, RefCell},
    io::{self, IoSlice},
    mem::MaybeUninit,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker, ready},
};

use actix_web::http::header::{CONTENT_LENGTH, HeaderMap, TRAILER, TRANSFER_ENCODING};
use memchr::memchr;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The most bytes that are read while they have to wait.
const MAX_AHEAD: usize = 16 * 1024;
/// The most bytes of the lines behind a body.
pub const MAX_TRAILER_BYTES: usize = 8 * 1024;

/// Whose turn it is on a connection; its stream and the gate know it.
#[derive(Clone, Debug, Default)]
pub struct Turn(Rc<State>);

#[derive(Debug, Default)]
struct State {
    reading: Cell<Reading>,
    /// The request that was handed on last is answered.
    answered: Cell<bool>,
    /// Bytes wait.
    has_ahead: Cell<bool>,
    /// Who waits to read them.
    waits: RefCell<Option<Waker>>,
    closing: Cell<bool>,
    /// The lines behind the body, the empty one included; kept of a request that announced some.
    trailers: RefCell<Option<Vec<u8>>>,
}

/// Where in a request the next byte stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Reading {
    /// Before its first line.
    #[default]
    Before,
    /// In its head.
    Head(Line),
    /// Behind its head, which nobody has taken yet.
    Untaken,
    /// In a body of which so much is left; of none it is over.
    Body(u64),
    /// In the size of a chunk, or in what stands behind it.
    Size { size: u64, ended: bool },
    /// In a chunk, the end of its line included.
    Chunk(u64),
    /// Behind the last chunk.
    Trailers(Line),
}

/// What of the current line was read. A line feed ends it, with a carriage return before it or without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    Empty,
    Return,
    Text,
}

impl Line {
    /// The line with this byte behind it; nothing when that ends the empty line after all others.
    fn with(self, byte: u8) -> Option<Line> {
        match (self, byte) {
            (Line::Empty | Line::Return, b'\n') => None,
            (Line::Text, b'\n') => Some(Line::Empty),
            (Line::Empty, b'\r') => Some(Line::Return),
            _ => Some(Line::Text),
        }
    }
}

const OVER: Reading = Reading::Body(0);

impl Reading {
    /// How many of these bytes are the current request's; and what comes behind them. `trailing` gets those behind its body.
    fn through(mut self, bytes: &[u8], mut trailing: impl FnMut(&[u8])) -> (usize, Reading) {
        let mut at = 0;
        while at < bytes.len() && !matches!(self, Reading::Untaken | OVER) {
            let rest = &bytes[at..];
            let (read, next) = match self {
                Reading::Body(left) => skip(left, rest.len(), Reading::Body),
                Reading::Chunk(left) => match skip(left, rest.len(), Reading::Chunk) {
                    (read, Reading::Chunk(0)) => (read, Reading::Size { size: 0, ended: false }),
                    going_on => going_on,
                },
                Reading::Head(Line::Text) | Reading::Trailers(Line::Text) => {
                    let last = memchr(b'\n', rest).unwrap_or(rest.len() - 1);
                    (last + 1, self.with(rest[last]))
                }
                _ => (1, self.with(rest[0])),
            };
            if matches!(self, Reading::Trailers(_)) {
                trailing(&rest[..read]);
            }
            (at, self) = (at + read, next);
        }
        (at, self)
    }

    fn with(self, byte: u8) -> Reading {
        match self {
            Reading::Before if matches!(byte, b'\r' | b'\n') => self,
            Reading::Before => Reading::Head(Line::Text),
            Reading::Head(line) => line.with(byte).map_or(Reading::Untaken, Reading::Head),
            Reading::Trailers(line) => line.with(byte).map_or(OVER, Reading::Trailers),
            Reading::Size { size: 0, .. } if byte == b'\n' => Reading::Trailers(Line::Empty),
            Reading::Size { size, .. } if byte == b'\n' => Reading::Chunk(size.saturating_add(2)),
            Reading::Size { size, ended: false } => match (byte as char).to_digit(16) {
                Some(digit) => Reading::Size { size: size.saturating_mul(16).saturating_add(digit.into()), ended: false },
                None => Reading::Size { size, ended: true },
            },
            known => known,
        }
    }
}

fn skip(left: u64, there: usize, of: impl Fn(u64) -> Reading) -> (usize, Reading) {
    let read = usize::try_from(left).map_or(there, |left| left.min(there));
    (read, of(left - read as u64))
}

impl Turn {
    /// A request begins: what follows its head is its body.
    pub fn begin(&self, headers: &HeaderMap) {
        let length = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        let body = match length {
            _ if headers.contains_key(TRANSFER_ENCODING) => Reading::Size { size: 0, ended: false },
            Some(length) => Reading::Body(length),
            None => OVER,
        };
        let trails = matches!(body, Reading::Size { .. }) && headers.contains_key(TRAILER);
        self.0.trailers.replace(trails.then(Vec::new));
        self.0.reading.set(body);
        self.0.answered.set(false);
        if body != OVER {
            self.wake();
        }
    }

    /// The last byte of its answer is on its way.
    pub fn end(&self) {
        self.0.answered.set(true);
        self.0.trailers.take();
        if self.0.has_ahead.get() {
            self.wake();
        }
    }

    /// The lines behind the body, once it was read to its end. Nothing where none were announced, or too many came.
    pub fn trailers(&self) -> Option<Vec<u8>> {
        self.0.trailers.take().filter(|lines| lines.len() <= MAX_TRAILER_BYTES)
    }

    /// Whether a request on this connection was refused: what came with it must reach no handler either.
    pub fn is_closing(&self) -> bool {
        self.0.closing.get()
    }

    /// A request was refused.
    pub fn close(&self) {
        self.0.closing.set(true);
    }

    /// Whether bytes may be handed on.
    fn is_open(&self) -> bool {
        let State { reading, answered, .. } = &*self.0;
        if reading.get() == OVER && answered.get() {
            reading.set(Reading::Before);
        }
        !matches!(reading.get(), Reading::Untaken | OVER)
    }

    /// How many of these bytes may be handed on now.
    fn pass(&self, bytes: &[u8]) -> usize {
        let (count, next) = self.0.reading.get().through(bytes, |lines| self.keep(lines));
        self.0.reading.set(next);
        count
    }

    fn keep(&self, lines: &[u8]) {
        if let Some(kept) = self.0.trailers.borrow_mut().as_mut() {
            // One byte too many tells that there were too many.
            let room = MAX_TRAILER_BYTES + 1 - kept.len();
            kept.extend_from_slice(&lines[..lines.len().min(room)]);
        }
    }

    fn wait(&self, waker: &Waker) {
        let mut waits = self.0.waits.borrow_mut();
        if !waits.as_ref().is_some_and(|known| known.will_wake(waker)) {
            *waits = Some(waker.clone());
        }
    }

    fn wake(&self) {
        if let Some(waker) = self.0.waits.borrow_mut().take() {
            waker.wake();
        }
    }
}

/// A client's connection that hands on one request at a time.
pub struct InTurn<T> {
    stream: T,
    turn: Turn,
    /// Read, and not handed on yet.
    ahead: Vec<u8>,
    ended: bool,
}

impl<T> InTurn<T> {
    /// Nothing was read of it yet.
    pub fn new(stream: T) -> Self {
        Self { stream, turn: Turn::default(), ahead: Vec::new(), ended: false }
    }

    /// For the gate.
    pub fn turn(&self) -> Turn {
        self.turn.clone()
    }

    /// Of what was filled in since `from`, takes back what has to wait.
    fn hold_back(&mut self, from: usize, buffer: &mut ReadBuf<'_>) {
        let given = &buffer.filled()[from..];
        let count = self.turn.pass(given);
        if count < given.len() {
            self.ahead.splice(..0, given[count..].iter().copied());
            self.turn.0.has_ahead.set(true);
            buffer.set_filled(from + count);
        }
    }
}

impl<T: AsyncRead + Unpin> InTurn<T> {
    /// It is not the turn of what comes: reads a little of it, so that the end of the connection is noticed.
    fn poll_ahead(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.turn.wait(cx.waker());
        while self.ahead.len() < MAX_AHEAD && !self.ended {
            let mut piece = [MaybeUninit::uninit(); 2048];
            let mut buffer = ReadBuf::uninit(&mut piece);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer))?;
            self.ended = buffer.filled().is_empty();
            self.ahead.extend_from_slice(buffer.filled());
            self.turn.0.has_ahead.set(!self.ahead.is_empty());
        }
        // An end behind bytes that wait comes after them.
        if self.ended && self.ahead.is_empty() { Poll::Ready(Ok(())) } else { Poll::Pending }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for InTurn<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.turn.is_open() {
            return this.poll_ahead(cx);
        }
        let from = buffer.filled().len();
        if this.ahead.is_empty() {
            if !this.ended {
                ready!(Pin::new(&mut this.stream).poll_read(cx, buffer))?;
            }
        } else {
            let count = this.ahead.len().min(buffer.remaining());
            buffer.put_slice(&this.ahead[..count]);
            this.ahead.drain(..count);
            if this.ahead.is_empty() {
                this.ahead = Vec::new();
            }
            this.turn.0.has_ahead.set(!this.ahead.is_empty());
        }
        this.hold_back(from, buffer);
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for InTurn<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::*;

    /// The pieces that one request each takes of these bytes, whatever parts they come in.
    fn requests(bytes: &[u8], part: usize, bodies: &[Reading]) -> Vec<String> {
        let (mut taken, mut reading, mut bodies) = (vec![Vec::new()], Reading::Before, bodies.iter());
        let mut rest = bytes;
        while !rest.is_empty() {
            let (count, next) = reading.through(&rest[..part.min(rest.len())], |_| ());
            taken.last_mut().unwrap().extend_from_slice(&rest[..count]);
            rest = &rest[count..];
            reading = match next {
                Reading::Untaken => *bodies.next().unwrap(),
                next => next,
            };
            if reading == OVER {
                taken.push(Vec::new());
                reading = Reading::Before;
            }
        }
        taken.into_iter().map(|bytes| String::from_utf8(bytes).unwrap()).filter(|text| !text.is_empty()).collect()
    }

    #[test]
    fn requests_end_where_they_end() {
        let chunked = Reading::Size { size: 0, ended: false };
        let sent = [
            ("\r\n\nGET /a HTTP/1.1\r\nHost: x\r\n\r\n", OVER),
            ("HEAD /b HTTP/1.1\nHost: x\n\n", OVER),
            ("POST /c HTTP/1.1\r\nContent-Length: 7\r\n\r\n\r\n\r\nabc", Reading::Body(7)),
            (
                "POST /d HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b\r\n\r\n\n\r\n00a\r\n0123456789\r\n0\r\nx: y\r\n\r\n",
                chunked,
            ),
            ("POST /e HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", chunked),
            ("GET /f HTTP/1.1\r\nHost: x\r\n\r\n", OVER),
        ];
        let all: String = sent.iter().map(|(text, _)| *text).collect();
        let bodies: Vec<Reading> = sent.iter().map(|(_, body)| *body).collect();
        for part in [1, 2, 3, 7, 64, 100_000] {
            let found = requests(all.as_bytes(), part, &bodies);
            assert_eq!(found, sent.iter().map(|(text, _)| (*text).to_owned()).collect::<Vec<_>>(), "{part}");
        }
    }

    #[test]
    fn announced_trailers_are_kept_within_bounds() {
        let kept = |announced: bool, lines: &str, part: usize| {
            let mut headers = HeaderMap::new();
            headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
            if announced {
                headers.insert(TRAILER, HeaderValue::from_static("x-sum"));
            }
            let turn = Turn::default();
            turn.begin(&headers);
            let body = format!("3\r\nabc\r\n0\r\n{lines}\r\n");
            let read: usize = body.as_bytes().chunks(part).map(|part| turn.pass(part)).sum();
            assert_eq!((read, turn.0.reading.get()), (body.len(), OVER));
            turn.trailers().map(|lines| String::from_utf8(lines).unwrap())
        };
        for part in [1, 2, 5, 100_000] {
            assert_eq!(kept(true, "x-sum: 1\r\nX: 2\n", part).as_deref(), Some("x-sum: 1\r\nX: 2\n\r\n"), "{part}");
            assert_eq!(kept(true, "", part).as_deref(), Some("\r\n"), "{part}");
            assert_eq!(kept(false, "x-sum: 1\r\n", part), None, "{part}");
            assert_eq!(kept(true, &format!("x: {}\r\n", "y".repeat(MAX_TRAILER_BYTES)), part), None, "{part}");
        }
    }
}
