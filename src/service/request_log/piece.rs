//! A piece of the log in memory and as bytes: the words its lines use, then the lines, each some 40 bytes.

use std::{collections::HashMap, sync::Arc};

use super::line::{Line, RequestId};
use crate::model::AccountId;

/// Milliseconds of one window; a line's window is that of its end.
pub const WINDOW: i64 = 60_000;
/// A piece that has grown to this is whole.
const FULL: usize = 48 * 1024;
const FORMAT: u8 = 1;
/// Words of a line: actor, tenant, account, integration, route, method, code.
const WORDS: usize = 7;
/// Where the account stands among them.
const ACCOUNT: usize = 2;

/// The window of a time, and the milliseconds within it.
pub fn window_of(millis: i64) -> (u32, u16) {
    let window = u32::try_from(millis.max(0) / WINDOW).unwrap_or(u32::MAX);
    (window, u16::try_from(millis.max(0) % WINDOW).unwrap_or(u16::MAX))
}

/// Lines of one environment and one window, to which more can be added.
#[derive(Default)]
pub struct Piece {
    words: Vec<u8>,
    places: HashMap<Arc<str>, u64>,
    recent: Recent,
    lines: Vec<u8>,
    count: u64,
    lost: u64,
}

/// The words of the line before, by their position, and their places: those of the next line are mostly the same.
#[derive(Default)]
struct Recent {
    account: Option<(AccountId, u64)>,
    words: [Option<(Arc<str>, u64)>; WORDS],
}

impl Piece {
    /// How many lines it has.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Whether the next line belongs into another one.
    pub fn is_full(&self) -> bool {
        self.lines.len() + self.words.len() >= FULL
    }

    /// Says in it that lines are missing.
    pub fn lose(&mut self, lines: u64) {
        self.lost += lines;
    }

    /// How many lines are missing.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Adds a line that ended so many milliseconds after the window began.
    pub fn add(&mut self, millis: u16, line: &Line) {
        let account = line.about.as_ref().map(|about| about.account());
        let names = line.about.as_ref().and_then(|about| about.names());
        let texts = [
            line.caller.as_ref().map(|caller| caller.actor.as_str()),
            names.map(|(tenant, _)| tenant),
            None,
            names.map(|(_, integration)| integration.as_str()),
            Some(&*line.route),
            Some(&*line.method),
            line.code,
        ];
        let mut places = [0; WORDS];
        for (position, text) in texts.into_iter().enumerate() {
            places[position] = text.map_or(0, |text| self.place(position, text));
        }
        places[ACCOUNT] = account.map_or(0, |account| self.place_of_account(account));
        let out = &mut self.lines;
        put(out, u64::from(millis));
        match &line.request_id {
            RequestId::Digits(bytes) => {
                put(out, 0);
                out.extend_from_slice(bytes);
            }
            RequestId::Text(text) => {
                put(out, text.len() as u64 + 1);
                out.extend_from_slice(text.as_bytes());
            }
        }
        let micros = |time: std::time::Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX - 1);
        let numbers = [
            u64::from(line.status),
            line.vendor_status.map_or(0, u64::from),
            micros(line.took),
            line.vendor_took.map_or(0, |took| micros(took) + 1),
            u64::from(line.pages),
            line.bytes,
            u64::from(line.cut),
        ];
        places.into_iter().chain(numbers).for_each(|number| put(out, number));
        self.count += 1;
    }

    /// The number of a word at this position of a line.
    fn place(&mut self, position: usize, text: &str) -> u64 {
        if let Some((_, place)) = self.recent.words[position].as_ref().filter(|(recent, _)| **recent == *text) {
            return *place;
        }
        let known = self.places.get_key_value(text).map(|(word, place)| (Arc::clone(word), *place));
        let (word, place) = known.unwrap_or_else(|| self.add_word(text));
        self.recent.words[position] = Some((word, place));
        place
    }

    fn place_of_account(&mut self, account: AccountId) -> u64 {
        match self.recent.account {
            Some((recent, place)) if recent == account => place,
            _ => {
                let place = self.place(ACCOUNT, &account.to_string());
                self.recent.account = Some((account, place));
                place
            }
        }
    }

    fn add_word(&mut self, text: &str) -> (Arc<str>, u64) {
        put(&mut self.words, text.len() as u64);
        self.words.extend_from_slice(text.as_bytes());
        let (word, place) = (Arc::from(text), self.places.len() as u64 + 1);
        self.places.insert(Arc::clone(&word), place);
        (word, place)
    }

    /// As it is stored, before it is sealed.
    pub fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.words.len() + self.lines.len() + 32);
        out.push(FORMAT);
        for number in [self.lost, self.count, self.places.len() as u64] {
            put(&mut out, number);
        }
        out.extend_from_slice(&self.words);
        out.extend_from_slice(&self.lines);
        out
    }
}

/// A line as it is read, borrowing from its piece.
#[derive(Debug)]
pub struct Seen<'p> {
    /// Its place in the piece.
    pub index: u32,
    /// Milliseconds after the window began.
    pub millis: u16,
    /// The request.
    pub request_id: RequestId,
    /// Its words.
    pub words: [Option<&'p str>; WORDS],
    /// Status, vendor's status, time in µs, vendor's time in µs, pages, bytes.
    pub numbers: [Option<u64>; 6],
    /// The answer did not leave as a whole.
    pub cut: bool,
}

/// What a stored piece says.
#[derive(Debug)]
pub struct Read<'p> {
    /// How many lines are missing beside it.
    pub lost: u64,
    words: Vec<&'p str>,
    rest: &'p [u8],
    left: u64,
    index: u32,
}

impl<'p> Read<'p> {
    /// Begins to read; nothing when it is no piece of this form.
    pub fn new(bytes: &'p [u8]) -> Option<Self> {
        let (format, mut rest) = bytes.split_first()?;
        if *format != FORMAT {
            return None;
        }
        let (lost, left, count) = (take(&mut rest)?, take(&mut rest)?, take(&mut rest)?);
        let mut words = Vec::new();
        for _ in 0..count {
            let length = take(&mut rest)?;
            words.push(text(&mut rest, length)?);
        }
        Some(Self { lost, words, rest, left, index: 0 })
    }

    fn line(&mut self) -> Option<Seen<'p>> {
        let rest = &mut self.rest;
        let millis = u16::try_from(take(rest)?).ok()?;
        let request_id = match take(rest)?.checked_sub(1) {
            None => {
                let (digits, after) = rest.split_first_chunk::<16>()?;
                *rest = after;
                RequestId::Digits(*digits)
            }
            Some(length) => RequestId::Text(text(rest, length)?.into()),
        };
        let mut words = [None; WORDS];
        for word in &mut words {
            if let Some(place) = take(rest)?.checked_sub(1) {
                *word = Some(*self.words.get(usize::try_from(place).ok()?)?);
            }
        }
        let (status, vendor, took, vendor_took) = (take(rest)?, take(rest)?, take(rest)?, take(rest)?);
        let (pages, bytes, cut) = (take(rest)?, take(rest)?, take(rest)? != 0);
        let vendor = Some(vendor).filter(|status| *status > 0);
        let numbers = [Some(status), vendor, Some(took), vendor_took.checked_sub(1), Some(pages), Some(bytes)];
        Some(Seen { index: self.index, millis, request_id, words, numbers, cut })
    }
}

/// A cut line ends the piece: what was written whole is shown.
impl<'p> Iterator for Read<'p> {
    type Item = Seen<'p>;

    fn next(&mut self) -> Option<Seen<'p>> {
        self.left = self.left.checked_sub(1)?;
        let line = self.line();
        match line {
            Some(_) => self.index += 1,
            None => self.left = 0,
        }
        line
    }
}

/// Seven bits at a time, the lowest first.
fn put(out: &mut Vec<u8>, mut number: u64) {
    while number > 0x7f {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn take(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (byte, after) = rest.split_first()?;
        *rest = after;
        number |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

fn text<'p>(rest: &mut &'p [u8], length: u64) -> Option<&'p str> {
    let (text, after) = rest.split_at_checked(usize::try_from(length).ok()?)?;
    *rest = after;
    std::str::from_utf8(text).ok()
}

#[cfg(test)]
mod tests {
    use std::{
        borrow::Cow,
        time::{Duration, Instant},
    };

    use super::*;
    use crate::service::request_log::About;

    fn line(request: &str, status: u16) -> Line {
        let account = "0198f0c2-a1b0-7c1e-9a51-d2b53c1f0e77".parse().unwrap();
        Line {
            ended: Instant::now(),
            request_id: RequestId::of(request),
            caller: None,
            about: Some(About::Known { account, tenant_id: "acme".into(), integration: "scim".parse().unwrap() }),
            route: Cow::Borrowed("/proxy/{resource}"),
            method: Cow::Borrowed("GET"),
            status,
            code: (status >= 400).then_some("busy"),
            vendor_status: None,
            took: Duration::from_micros(300),
            vendor_took: Some(Duration::ZERO),
            pages: 0,
            bytes: u64::MAX,
            cut: true,
        }
    }

    #[test]
    fn lines_are_read_as_they_were_written_and_are_small() {
        let mut piece = Piece::default();
        let ours = "0198f0c2a1b07c1e9a51d2b53c1f0e77";
        piece.add(59_999, &line(ours, 503));
        piece.add(0, &line("a-callers.own_id", 200));
        piece.lose(3);
        let bytes = piece.bytes();
        let mut read = Read::new(&bytes).unwrap();
        assert_eq!(read.lost, 3);
        let (one, two) = (read.next().unwrap(), read.next().unwrap());
        assert!(read.next().is_none());
        assert_eq!((one.index, one.millis, &one.request_id, one.cut), (0, 59_999, &RequestId::of(ours), true));
        let account = Some("0198f0c2-a1b0-7c1e-9a51-d2b53c1f0e77");
        assert_eq!(one.words, [None, Some("acme"), account, Some("scim"), Some("/proxy/{resource}"), Some("GET"), Some("busy")]);
        assert_eq!(one.numbers, [Some(503), None, Some(300), Some(0), Some(0), Some(u64::MAX)]);
        assert_eq!((two.index, &two.request_id, two.words[6]), (1, &RequestId::of("a-callers.own_id"), None));
        for _ in 0..100 {
            piece.add(7, &Line { bytes: 900, ..line(ours, 200) });
        }
        let each = (piece.bytes().len() - bytes.len()) / 100;
        assert!(each <= 40, "{each} bytes a line");
    }

    #[test]
    fn what_is_cut_or_odd_ends_the_piece_without_harm() {
        let mut piece = Piece::default();
        (0..20).for_each(|n| piece.add(n, &line("same", 200)));
        let bytes = piece.bytes();
        for end in 0..bytes.len() {
            let count = Read::new(&bytes[..end]).map_or(0, Iterator::count);
            assert!(count < 20, "{count} of {end} bytes");
        }
        for at in 0..bytes.len() {
            let mut odd = bytes.clone();
            odd[at] ^= 0xff;
            let _ = Read::new(&odd).map(Iterator::count);
        }
        assert_eq!(Read::new(&bytes).unwrap().count(), 20);
    }

    #[test]
    fn a_window_is_a_minute() {
        assert_eq!(window_of(0), (0, 0));
        assert_eq!(window_of(59_999), (0, 59_999));
        assert_eq!(window_of(1_763_800_000_123), (29_396_666, 40_123));
        assert_eq!(window_of(-5), (0, 0));
    }
}
