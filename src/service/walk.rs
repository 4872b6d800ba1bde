//! One call of a walk: reads until the page is full, a page boundary is met, or the end.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    cursor::{Cursor, Cursors, Position, digest},
    directory::{DEFAULT_LIMIT, IGNORED_LIMIT, ListPage, ListQuery, MAX_LIMIT, ResponseFormat},
    filter::Plan,
    source::{Batch, Source},
    write::{Writer, Writing},
};
use crate::{
    error::{Code, Error, Result},
    mapping::Roots,
};

/// A filtered call reads on for this long without a match.
const FILTER_TIME: Duration = Duration::from_secs(20);
/// A call passes over companies without records for this long.
const EMPTY_TIME: Duration = Duration::from_secs(90);

/// One call of a walk.
pub struct Walk<'a> {
    source: Source<'a>,
    query: ListQuery,
    plan: Plan,
    writing: Writing,
    limit: usize,
}

impl<'a> Walk<'a> {
    /// Checks limit and filters.
    pub fn new(mut source: Source<'a>, query: ListQuery, writing: Writing) -> Result<Self> {
        let asked = query.limit.unwrap_or(DEFAULT_LIMIT);
        if !(1..=MAX_LIMIT).contains(&asked) {
            let detail = format!("`limit` is 1 to {MAX_LIMIT}.");
            return Err(Error::new(Code::InvalidParameter, detail).field("limit"));
        }
        let limit = if query.ignore_limit { IGNORED_LIMIT } else { asked };
        let mut plan = Plan::new(&query.filters, source.def, source.linked)?;
        if source.is_per_company()
            && let Some(company) = plan.company().map(str::to_owned)
        {
            source.limit_to(company);
            plan.company_is_pushed();
        }
        source.pushed = std::mem::take(&mut plan.pushed);
        source.remote_query = query.remote_query.clone();
        Ok(Self { source, query, plan, writing, limit })
    }

    /// Reads one page for the caller.
    pub async fn run(self) -> Result<ListPage> {
        let Self { source, query, plan, writing, limit } = self;
        let directory = source.directory;
        let cursors =
            Cursors::new(&directory.keys, source.linked, &source.name, query_digest(&query, limit), directory.clock.now());
        let mut cursor = match &query.cursor {
            Some(text) => cursors.open(text)?,
            None => Cursor { at: Position::Start, seen: 0, first: None, previous: None, lost: Vec::new() },
        };
        let mut writer = Writer::new(source.def, writing, &plan);
        let started = Instant::now();
        let mut pages = 0;
        let next = loop {
            let batch = source.read(&cursor.at, limit.min(MAX_LIMIT)).await?;
            pages += 1;
            cursor.lost.extend(batch.lost.iter().cloned());
            let is_vendor_page = batch.is_vendor_page;
            let next = take_batch(&source, &mut writer, &mut cursor, batch, limit)?;
            let Some(next) = next else { break None };
            let same_company = matches!(next, Position::Snapshot { .. });
            let full = writer.count >= limit;
            let enough = writer.count > 0 && !query.ignore_limit && (is_vendor_page || !same_company);
            if full || enough {
                break Some(next);
            }
            check_time(&plan, started, writer.count)?;
            cursor.at = next;
        };
        cursor.seen += writer.count as u64;
        if source.must_not_be_empty() && next.is_none() && cursor.seen == 0 && plan.is_empty() {
            return Err(Error::new(
                Code::VendorBadAnswer,
                "The vendor answered an empty list where that means a failure on its side.",
            ));
        }
        let (is_partial, lost) = (source.def.partial, cursor.lost.clone());
        let next_cursor = match next {
            Some(at) => Some(cursors.seal(Cursor { at: source.shrink(at).await?, ..cursor })?),
            None => None,
        };
        for warning in &lost {
            writer.warn(warning.clone());
        }
        let count = writer.count;
        let (result, warnings) = writer.finish();
        let debug = (query.format == ResponseFormat::Debug).then(|| debug_of(&source, pages, count, next_cursor.as_deref()));
        Ok(ListPage { result, count, next_cursor, is_partial, complete: lost.is_empty(), warnings, filters: plan.report, debug })
    }
}

/// Writes a batch's records up to the limit; where to go on.
fn take_batch(
    source: &Source<'_>,
    writer: &mut Writer<'_>,
    cursor: &mut Cursor,
    batch: Batch,
    limit: usize,
) -> Result<Option<Position>> {
    let roots = Roots { account: Some(&source.account), company: batch.company.as_deref(), page: None };
    let mut mapping = writer.begin(roots)?;
    let mut ids = Vec::with_capacity(batch.records.len());
    let mut stopped = None;
    for (index, range) in batch.records.iter().enumerate() {
        let record = &batch.body[range.clone()];
        if stopped.is_none() && writer.count >= limit {
            stopped = Some(index);
            if !batch.is_vendor_page {
                break;
            }
        }
        let wanted = index >= batch.skip && stopped.is_none();
        if wanted && !source.counts(record) {
            ids.push(String::from_utf8_lossy(record).into_owned());
        } else if wanted || batch.is_vendor_page {
            ids.push(writer.take(&mut mapping, record, wanted)?);
        }
    }
    if batch.is_vendor_page && batch.skip == 0 && !ids.is_empty() {
        check_progress(cursor, digest(ids.iter().map(String::as_str)))?;
    }
    Ok(match stopped {
        Some(index) => Some(advance(batch.here, index)),
        None => batch.after,
    })
}

/// A page whose ids were all on the first page or on the page before makes no progress.
fn check_progress(cursor: &mut Cursor, page: u64) -> Result<()> {
    if cursor.first == Some(page) || cursor.previous == Some(page) {
        let detail = "The vendor gave the same records again for the next page.";
        return Err(Error::new(Code::VendorPagingBroken, detail));
    }
    cursor.first.get_or_insert(page);
    cursor.previous = Some(page);
    Ok(())
}

fn advance(here: Position, by: usize) -> Position {
    match here {
        Position::Page { next, .. } => Position::Page { next, skip: by },
        Position::Snapshot { id, offset } => Position::Snapshot { id, offset: offset + by },
        other => other,
    }
}

fn check_time(plan: &Plan, started: Instant, count: usize) -> Result<()> {
    if count > 0 {
        return Ok(());
    }
    if !plan.is_empty() && started.elapsed() > FILTER_TIME {
        let names = plan.names();
        let detail = format!("No record matched within {} s of reading; filtered by {names}.", FILTER_TIME.as_secs());
        return Err(Error::new(Code::FilterTooBroad, detail).field(names));
    }
    if started.elapsed() > EMPTY_TIME {
        let detail = "Many companies without records were read; they are remembered for a minute. Send the same request again.";
        return Err(Error::new(Code::VendorNotReady, detail));
    }
    Ok(())
}

/// Everything that decides which records a walk gives out.
fn query_digest(query: &ListQuery, limit: usize) -> u64 {
    let limit = limit.to_string();
    let filters = query
        .filters
        .iter()
        .flat_map(|f| [f.field.as_str(), f.op.as_str()].into_iter().chain(f.values.iter().map(String::as_str)));
    let remote = query.remote_query.iter().flat_map(|(name, value)| [name.as_str(), value.as_str()]);
    digest(std::iter::once(limit.as_str()).chain(filters).chain(std::iter::once("|")).chain(remote))
}

fn debug_of(source: &Source<'_>, pages: usize, count: usize, next: Option<&str>) -> Vec<u8> {
    let debug = serde_json::json!({
        "resource": source.def.resource.plural(), "vendorPages": pages, "nextCursor": next,
        "isLooping": false, "isEmptyResult": count == 0, "resultCount": count,
    });
    debug.to_string().into_bytes()
}
