//! Reading the log: the newest first, minute by minute, until the page is full.

use std::{fmt, str::FromStr, time::Duration};

use jiff::Timestamp;
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::{
    LIFE, LogLine, RequestLog,
    piece::{Read, Seen, WINDOW, window_of},
    wanted::Wanted,
};
use crate::{
    error::{Code, Error, Result},
    model::EnvironmentId,
    store::repo::PieceName,
    vault::SealMark,
};

/// How long one call looks for lines.
const TIME: Duration = Duration::from_secs(20);
/// Pieces read at once.
const PIECES: usize = 16;
/// Lines of one minute that are held beyond the page before they are sorted out.
const SLACK: usize = 2_000;

/// Where a line stands; later ones are larger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    millis: i64,
    node: u32,
    part: u32,
    index: u32,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { millis, node, part, index } = self;
        write!(f, "{millis}-{node:x}-{part:x}-{index:x}")
    }
}

impl FromStr for Place {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        let mut parts = text.split('-');
        let millis = parts.next().and_then(|part| part.parse().ok()).ok_or(())?;
        let mut number = || parts.next().and_then(|part| u32::from_str_radix(part, 16).ok()).ok_or(());
        let place = Self { millis, node: number()?, part: number()?, index: number()? };
        if parts.next().is_none() { Ok(place) } else { Err(()) }
    }
}

/// A page of the log, the newest first.
#[derive(Debug)]
pub struct LogPage {
    /// The lines.
    pub lines: Vec<LogLine>,
    /// The line the next page begins after.
    pub next: Option<Place>,
    /// Lines of the time that was looked at which are missing.
    pub lost: u64,
}

/// Lines found so far.
struct Found {
    limit: usize,
    after: Option<Place>,
    lines: Vec<(Place, LogLine)>,
    lost: u64,
}

impl Found {
    fn take(&mut self, name: PieceName, wanted: &Wanted, read: Read<'_>) {
        self.lost += read.lost;
        let begin = i64::from(name.window) * WINDOW;
        for seen in read {
            let millis = begin + i64::from(seen.millis);
            let place = Place { millis, node: name.node, part: name.part, index: seen.index };
            if self.after.is_none_or(|after| place < after) && wanted.holds(begin, &seen) {
                self.lines.push((place, shown(place, &seen)));
            }
        }
        if self.lines.len() > self.limit + SLACK {
            self.keep_newest();
        }
    }

    /// One more than the page holds says that there is another.
    fn keep_newest(&mut self) {
        self.lines.sort_by(|(a, _), (b, _)| b.cmp(a));
        self.lines.truncate(self.limit + 1);
    }

    fn page(mut self) -> LogPage {
        self.keep_newest();
        let has_more = self.lines.len() > self.limit;
        self.lines.truncate(self.limit);
        let next = self.lines.last().map(|(place, _)| *place).filter(|_| has_more);
        LogPage { lines: self.lines.into_iter().map(|(_, line)| line).collect(), next, lost: self.lost }
    }
}

impl RequestLog {
    /// A page of an environment's lines, those of this node's last moments among them.
    pub async fn list(&self, environment: EnvironmentId, wanted: &Wanted, limit: usize, after: Option<Place>) -> Result<LogPage> {
        self.flush().await;
        let now = self.clock.now().as_millisecond();
        let (from, to) = wanted.range(now);
        let oldest = now.saturating_sub(i64::try_from(LIFE.as_millis()).unwrap_or(i64::MAX)).max(from);
        // Other nodes' clocks may be a little ahead.
        let newest = to.min(now.saturating_add(WINDOW)).min(after.map_or(i64::MAX, |place| place.millis));
        let (first, last) = (window_of(newest).0, window_of(oldest).0);
        let mut found = Found { limit, after, lines: Vec::new(), lost: 0 };
        let (begun, mut at) = (Instant::now(), None::<PieceName>);
        if newest < oldest {
            return Ok(found.page());
        }
        loop {
            let pieces = self.records.read(environment, first, at, PIECES).await?;
            let Some((end, _)) = pieces.last() else { break };
            let next = *end;
            for (name, sealed) in pieces.into_iter().filter(|(name, _)| name.window >= last) {
                if at.is_some_and(|at| name.window < at.window) && found.lines.len() > limit {
                    return Ok(found.page());
                }
                at = Some(name);
                let plain = self.open(environment, name, &sealed);
                match plain.as_ref().and_then(|plain| Read::new(plain)) {
                    Some(read) => found.take(name, wanted, read),
                    None => found.lost += 1,
                }
            }
            if next.window < last {
                break;
            }
            if begun.elapsed() > TIME {
                return late(found, next.window, wanted);
            }
            at = Some(next);
        }
        Ok(found.page())
    }

    /// A piece that was moved or changed is none; its lines are missing.
    fn open(&self, environment: EnvironmentId, name: PieceName, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let text = name.to_string();
        let opened = self.keys.open_for(SealMark::Log, &[environment.0.as_bytes(), text.as_bytes()], sealed);
        let say = |_: &_| tracing::error!(piece = text, "a piece of the log of requests was moved or changed; it is left out");
        opened.inspect_err(say).ok()
    }
}

/// Gives out the minutes that were read whole; where they hold nothing, the search was too wide.
fn late(mut found: Found, reading: u32, wanted: &Wanted) -> Result<LogPage> {
    found.lines.retain(|(place, _)| window_of(place.millis).0 > reading);
    let Some(last) = found.lines.iter().map(|(place, _)| *place).min() else {
        let field = wanted.names().first().cloned().unwrap_or_else(|| "created_at".to_owned());
        let detail = "No line was found in the time one call may take. Say when the request was: `created_at[gte]=…` and \
            `created_at[lte]=…`.";
        return Err(Error::new(Code::FilterTooBroad, detail).field(field));
    };
    let page = found.page();
    Ok(LogPage { next: page.next.or(Some(last)), ..page })
}

fn shown(place: Place, seen: &Seen<'_>) -> LogLine {
    let [actor, tenant_id, account, integration, route, method, code] = seen.words.map(|word| word.map(str::to_owned));
    let [status, vendor_status, took, vendor_took, pages, bytes] = seen.numbers;
    let millis = |micros: u64| micros as f64 / 1000.0;
    let status_of = |number: Option<u64>| number.and_then(|number| u16::try_from(number).ok());
    LogLine {
        id: place.to_string(),
        created_at: Timestamp::from_millisecond(place.millis).unwrap_or_default(),
        request_id: seen.request_id.to_string(),
        actor,
        tenant_id,
        integrated_account_id: account,
        integration,
        route: route.unwrap_or_default(),
        method: method.unwrap_or_default(),
        status: status_of(status).unwrap_or_default(),
        code,
        vendor_status: status_of(vendor_status),
        duration_ms: millis(took.unwrap_or_default()),
        vendor_duration_ms: vendor_took.map(millis),
        pages: pages.and_then(|pages| u32::try_from(pages).ok()).unwrap_or_default(),
        bytes: bytes.unwrap_or_default(),
        cut: seen.cut,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_again_and_ordered_by_time() {
        let place = |millis, node, part, index| Place { millis, node, part, index };
        let one = place(1_763_800_000_123, 0xabcd_ef01, 7, 300);
        assert_eq!(one.to_string().parse(), Ok(one));
        for odd in ["", "1", "1-2-3", "1-2-3-4-5", "x-1-1-1", "1-g-1-1", "1--1-1"] {
            assert_eq!(odd.parse::<Place>(), Err(()), "{odd}");
        }
        assert!(place(2, 0, 0, 0) > place(1, 9, 9, 9) && place(1, 1, 1, 2) > place(1, 1, 1, 1));
    }
}
