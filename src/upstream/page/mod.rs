//! Page styles, one file each, and the signs of paging that lies.
//!
//! A style says what to ask for and reads the answer for what comes next. `RawPage::next` is its own text: what it needs
//! to go on, never a secret. Repeated records across pages are the service room's to see, because it knows their ids.

mod cursor;
mod next_url;
mod none;
mod offset;
mod pages;
mod scim;

use std::ops::Range;

use url::Url;

use super::{Access, Failure, HttpAnswer, ListAsk};
use crate::connector::PageStyle;

/// What a page is asked with.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Parameters beside those of the resource's own request.
    pub(super) params: Vec<(String, String)>,
    /// The whole address instead of the resource's own request.
    pub(super) address: Option<Url>,
    /// Where in the walk this page stands.
    at: Step,
}

/// Where a walk stands; which fields mean something depends on the style.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Step {
    /// Records asked for.
    size: usize,
    /// Records of the pages before.
    seen: u64,
    /// Index, offset or page number.
    number: u64,
    /// The cursor asked with.
    cursor: Option<String>,
    /// What the vendor said on the first page that there is in all.
    promised: Option<u64>,
}

/// An answer and what was asked for it.
pub(super) struct Read<'a> {
    /// Whose.
    pub(super) access: &'a Access,
    /// What was asked.
    pub(super) plan: &'a Plan,
    /// The address it was asked at, without the credential.
    pub(super) asked: &'a Url,
    /// The answer.
    pub(super) answer: &'a HttpAnswer,
    /// Where its records are.
    pub(super) records: &'a [Range<usize>],
}

impl Read<'_> {
    fn step(&self) -> &Step {
        &self.plan.at
    }

    fn count(&self) -> u64 {
        self.records.len() as u64
    }
}

/// What to ask for this page.
pub(super) fn plan(style: &PageStyle, access: &Access, ask: &ListAsk) -> Result<Plan, Failure> {
    match style {
        PageStyle::None => none::plan(ask),
        PageStyle::Scim { max } => scim::plan(*max, access, ask),
        PageStyle::Cursor { param, limit, max, .. } => cursor::plan(param, limit.as_deref(), *max, ask),
        PageStyle::NextUrl { limit, max, .. } | PageStyle::LinkHeader { limit, max } => {
            next_url::plan(limit.as_deref(), *max, access, ask)
        }
        PageStyle::Page { param, first, limit, max, .. } => pages::plan(param, *first, limit, *max, ask),
        PageStyle::Offset { param, limit, max, .. } => offset::plan(param, limit, *max, ask),
    }
}

/// What comes after this page.
pub(super) fn after(style: &PageStyle, read: &Read<'_>) -> Result<Option<String>, Failure> {
    let after = match style {
        PageStyle::None => None,
        PageStyle::Scim { .. } => scim::after(read)?,
        PageStyle::Cursor { next, more, .. } => cursor::after(next, more.as_ref(), read)?,
        PageStyle::NextUrl { next, .. } => next_url::after(next.text(&read.answer.body).as_deref(), read)?,
        PageStyle::LinkHeader { .. } => {
            next_url::after(crate::upstream::link_header::next(&read.answer.headers).as_deref(), read)?
        }
        PageStyle::Page { first, pages, total, .. } => pages::after(*first, pages.as_ref(), total.as_ref(), read)?,
        PageStyle::Offset { total, .. } => offset::after(total.as_ref(), read)?,
    };
    match after.is_some() && read.records.is_empty() {
        true => Err(broken("the page is empty but names a next one")),
        false => Ok(after),
    }
}

fn broken(sign: impl Into<String>) -> Failure {
    Failure::PagingBroken(format!("The vendor's paging cannot be followed: {}.", sign.into()))
}

/// Records to ask for: what is wanted, within what the vendor gives.
fn size(ask: &ListAsk, max: usize) -> usize {
    ask.limit.clamp(1, max.max(1))
}

/// A number of the answer, written as a number or as text.
fn number(path: Option<&crate::mapping::Path>, body: &[u8]) -> Option<u64> {
    path?.text(body)?.trim().parse().ok()
}

/// More records than were asked for mean that the parameters were ignored, unless the answer holds all there are.
fn check_count(read: &Read<'_>, total: Option<u64>) -> Result<(), Failure> {
    let (count, asked) = (read.count(), read.step().size as u64);
    if let Some(total) = total
        && read.step().seen + count > total
    {
        return Err(broken(format!(
            "{count} records after the first {}, although there are said to be {total} in all",
            read.step().seen
        )));
    }
    match count > asked && total != Some(count) {
        true => Err(broken(format!("{count} records were answered where {asked} were asked for"))),
        false => Ok(()),
    }
}

/// At the end of a walk: nothing of what was promised may be missing. Deletions during the walk lower the last number,
/// additions raise it, so the smaller of the first and the last is what must have come.
fn check_end(read: &Read<'_>, total: Option<u64>) -> Result<(), Failure> {
    let promised = match (read.step().promised, total) {
        (Some(first), Some(last)) => first.min(last),
        (None, Some(last)) => last,
        (_, None) => return Ok(()),
    };
    let seen = read.step().seen + read.count();
    match seen < promised {
        true => Err(broken(format!("the list ends after {seen} records, although there are said to be {promised}"))),
        false => Ok(()),
    }
}

/// `<kind>:<size>:<seen>:<promised>:<number>:<cursor>`.
fn write_token(kind: char, step: &Step) -> String {
    let promised = step.promised.map(|n| n.to_string()).unwrap_or_default();
    let cursor = step.cursor.as_deref().unwrap_or_default();
    format!("{kind}:{}:{}:{promised}:{}:{cursor}", step.size, step.seen, step.number)
}

fn read_token(kind: char, token: &str) -> Result<Step, Failure> {
    let step = || {
        let rest = token.strip_prefix(kind)?.strip_prefix(':')?;
        let mut parts = rest.splitn(5, ':');
        let size = parts.next()?.parse().ok()?;
        let seen = parts.next()?.parse().ok()?;
        let promised = match parts.next()? {
            "" => None,
            number => Some(number.parse().ok()?),
        };
        let number = parts.next()?.parse().ok()?;
        let cursor = parts.next().filter(|cursor| !cursor.is_empty()).map(str::to_owned);
        Some(Step { size, seen, number, cursor, promised })
    };
    step().ok_or_else(|| broken("the cursor belongs to another way of paging; start again without it"))
}

/// The step after this page.
fn advance(read: &Read<'_>, total: Option<u64>, number: u64, cursor: Option<String>) -> Step {
    let step = read.step();
    Step { size: step.size, seen: step.seen + read.count(), number, cursor, promised: step.promised.or(total) }
}
