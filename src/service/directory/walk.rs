//! One call of a walk: reads until the page is full, a page boundary is met, or the end.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::{
    DEFAULT_LIMIT, IGNORED_LIMIT, ListPage, ListQuery, MAX_LIMIT, ResponseFormat,
    filter::{Plan, Unsaid},
    order::{self, Order},
    refuse_query, snapshot,
    source::{Batch, Source},
    write::{Writer, Writing},
};
use crate::{
    error::{Code, Error, Result},
    mapping::{Page, Roots},
    model::Resource,
    service::cursor::{Cursor, Cursors, Position, digest},
    upstream::{ADDON_MISSING, Visit},
};

/// A filtered call reads on for this long without a match.
const FILTER_TIME: Duration = Duration::from_secs(20);
/// A call passes over companies without records for this long.
const EMPTY_TIME: Duration = Duration::from_secs(90);

/// One call of a walk.
pub struct Walk<'a> {
    source: Source<'a>,
    query: ListQuery,
    /// Who evaluates which filter.
    pub plan: Plan,
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
        if writing.is_mapped() {
            source.for_mapping();
        }
        if source.is_commanded() {
            refuse_query(&query.remote_query)?;
        }
        let mut plan = Plan::new(&query.filters, source.def, source.linked)?;
        if source.is_per_company()
            && let Some(company) = plan.company().map(str::to_owned)
        {
            source.limit_to(company);
            plan.company_is_pushed();
        }
        if let Some(field) = source.time_field() {
            let seconds = plan.seconds(field);
            source.limit_to_seconds(seconds, !plan.report.gateway.is_empty());
        }
        source.pushed = std::mem::take(&mut plan.pushed);
        source.remote_query = query.remote_query.clone();
        if let Some(order) = &query.order {
            order.check(source.def)?;
            plan.report.gateway.push(order::SORT_BY.to_owned());
        }
        Ok(Self { source, query, plan, writing, limit })
    }

    /// Reads one page for the caller.
    pub async fn run(self) -> Result<ListPage> {
        let mut cursor = self.begin()?;
        let mut writer = Writer::new(self.source.def, self.writing.clone(), &self.plan);
        let (next, pages) = match &self.query.order {
            Some(order) => self.read_in_order(order, &mut cursor, &mut writer, self.limit).await?,
            None => self.read_page(&mut cursor, &mut writer).await?,
        };
        let (lost, found_nothing) = (cursor.lost.clone(), next.is_none() && cursor.seen == 0);
        let next_cursor = match next {
            Some(at) => Some(self.seal(Cursor { at, ..cursor }).await?),
            None => None,
        };
        for warning in &lost {
            writer.warn(warning.clone());
        }
        if found_nothing {
            std::mem::take(&mut writer.unsaid).warnings(self.source.def.resource).for_each(|warning| writer.warn(warning));
        }
        let (is_partial, count) = (self.source.def.partial, writer.count);
        let (result, warnings) = writer.finish();
        let debug = (self.query.format == ResponseFormat::Debug)
            .then(|| debug_of(self.source.def.resource, Some(pages), count, next_cursor.as_deref()));
        let filters = self.plan.report;
        Ok(ListPage { result, count, next_cursor, is_partial, complete: lost.is_empty(), warnings, filters, debug })
    }

    /// Where the caller wants to begin.
    pub fn begin(&self) -> Result<Cursor> {
        match &self.query.cursor {
            Some(text) => self.cursors().open(text),
            None => Ok(Cursor { at: Position::Start, seen: 0, first: None, previous: None, lost: Vec::new() }),
        }
    }

    /// The text with which a caller goes on.
    pub async fn seal(&self, cursor: Cursor) -> Result<String> {
        self.cursors().seal(Cursor { at: self.source.shrink(cursor.at).await?, ..cursor })
    }

    /// Reads one piece, of whatever size, and writes all of it, also if that is nothing; where to go on.
    pub async fn read_piece(&self, cursor: &mut Cursor, writer: &mut Writer<'_>) -> Result<Option<Position>> {
        if let Some(order) = &self.query.order {
            return Ok(self.read_in_order(order, cursor, writer, MAX_LIMIT).await?.0);
        }
        let batch = self.source.read(&cursor.at, self.limit.min(MAX_LIMIT)).await?;
        cursor.lost.extend(batch.lost.iter().cloned());
        let next = take_batch(&self.source, writer, cursor, batch, usize::MAX)?;
        cursor.seen += writer.count as u64;
        self.check_not_empty(cursor, next.as_ref())?;
        Ok(next)
    }

    /// Reads until the page is full, a page boundary is met, or the end; where to go on, and how much was read.
    async fn read_page(&self, cursor: &mut Cursor, writer: &mut Writer<'_>) -> Result<(Option<Position>, usize)> {
        let (started, mut pages) = (Instant::now(), 0);
        let next = loop {
            let batch = self.source.read(&cursor.at, self.limit.min(MAX_LIMIT)).await?;
            pages += 1;
            cursor.lost.extend(batch.lost.iter().cloned());
            let is_vendor_page = batch.is_vendor_page;
            let Some(next) = take_batch(&self.source, writer, cursor, batch, self.limit)? else { break None };
            let same_company = matches!(next, Position::Snapshot { .. });
            let full = writer.count >= self.limit;
            let enough = writer.count > 0 && !self.query.ignore_limit && (is_vendor_page || !same_company);
            if full || enough {
                break Some(next);
            }
            check_time(&self.plan, started, writer.count)?;
            cursor.at = next;
        };
        cursor.seen += writer.count as u64;
        self.check_not_empty(cursor, next.as_ref())?;
        Ok((next, pages))
    }

    /// Writes up to `limit` records of the list in the order that is asked for; where to go on, and how much was read.
    async fn read_in_order(
        &self,
        order: &Order,
        cursor: &mut Cursor,
        writer: &mut Writer<'_>,
        limit: usize,
    ) -> Result<(Option<Position>, usize)> {
        let (directory, linked, resource) = (self.source.directory, self.source.linked, self.source.def.resource);
        let (manifest, mut offset, pages) = match cursor.at {
            Position::Snapshot { id, offset } => {
                (directory.snapshots.manifest(linked, id).await?.ok_or_else(snapshot::ended)?, offset, 0)
            }
            _ => {
                let (list, pages) = self.read_all(order, cursor, &mut writer.unsaid).await?;
                let records = snapshot::records_of(&list)?;
                if records.len() <= limit {
                    records.into_iter().try_for_each(|range| writer.take_placed(&list[range]))?;
                    cursor.seen += writer.count as u64;
                    return Ok((None, pages));
                }
                let visit = Visit { company: None, records: [(resource, list)].into(), rest: Vec::new(), refused: None };
                (directory.snapshots.keep(linked, visit, &[], &Default::default()).await?, 0, pages)
            }
        };
        let part = manifest.parts.get(&resource).cloned().unwrap_or_default();
        while let Some((index, skip)) = part.locate(offset).filter(|_| writer.count < limit) {
            let piece = directory.snapshots.piece(linked, &manifest, index).await?;
            for range in snapshot::records_of(&piece)?.into_iter().skip(skip).take(limit - writer.count) {
                writer.take_placed(&piece[range])?;
                offset += 1;
            }
        }
        cursor.seen += writer.count as u64;
        Ok(((offset < part.total()).then_some(Position::Snapshot { id: manifest.id, offset }), pages))
    }

    /// The whole list, in order; refused when it is longer than the gateway sorts.
    async fn read_all(&self, order: &Order, cursor: &mut Cursor, unsaid: &mut Unsaid) -> Result<(Bytes, usize)> {
        let (started, mut pages) = (Instant::now(), 0);
        let mut writer = Writer::placing(self.source.def, &self.plan, order.clone());
        loop {
            let batch = self.source.read(&cursor.at, MAX_LIMIT).await?;
            pages += 1;
            cursor.lost.extend(batch.lost.iter().cloned());
            let next = take_batch(&self.source, &mut writer, cursor, batch, usize::MAX)?;
            if writer.count > order::MAX_RECORDS {
                return Err(order::too_long(&format!("more than {} records", order::MAX_RECORDS)));
            }
            if writer.kept_bytes() > order::MAX_BYTES {
                return Err(order::too_long(&format!("more than {} MiB", order::MAX_BYTES >> 20)));
            }
            let Some(next) = next else { break };
            if started.elapsed() > Duration::from_secs(order::MAX_SECONDS) {
                return Err(order::too_long(&format!("more than {} s of reading", order::MAX_SECONDS)));
            }
            cursor.at = next;
        }
        if self.source.must_not_be_empty() && writer.count == 0 && self.plan.is_empty() {
            return Err(empty());
        }
        unsaid.and(std::mem::take(&mut writer.unsaid));
        Ok((writer.in_order(), pages))
    }

    fn check_not_empty(&self, cursor: &Cursor, next: Option<&Position>) -> Result<()> {
        let is_over = next.is_none() && cursor.seen == 0;
        if let Some(lost) = cursor.lost.iter().find(|lost| is_over && lost.code == ADDON_MISSING) {
            return Err(Error::new(Code::AddonMissing, &lost.message));
        }
        let is_wrong = self.source.must_not_be_empty() && next.is_none() && cursor.seen == 0 && self.plan.is_empty();
        if is_wrong { Err(empty()) } else { Ok(()) }
    }

    fn cursors(&self) -> Cursors<'_> {
        let (directory, list) = (self.source.directory, &self.source.name);
        let query = query_digest(&self.query, self.limit);
        Cursors::new(&directory.keys, self.source.linked, list, query, directory.clock.now())
    }
}

fn empty() -> Error {
    Error::new(Code::VendorBadAnswer, "The vendor answered an empty list where that means a failure on its side.")
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
    writer.expect(batch.body.len());
    let text = std::str::from_utf8(&batch.body).map_err(Error::internal)?;
    let page = Page { text, records: &batch.records };
    let ranges = &batch.records.ranges;
    let mut ids = Vec::with_capacity(ranges.len());
    let mut stopped = None;
    for (index, range) in ranges.iter().enumerate() {
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
            ids.push(writer.take(&mut mapping, page, index, wanted)?);
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
    let order = query.order.iter().flat_map(|o| ["|order|", o.field.as_str(), if o.descending { "desc" } else { "asc" }]);
    digest(std::iter::once(limit.as_str()).chain(filters).chain(std::iter::once("|")).chain(remote).chain(order))
}

/// What `debug` tells; the pages where they were counted.
pub fn debug_of(resource: Resource, pages: Option<usize>, count: usize, next: Option<&str>) -> Vec<u8> {
    let debug = serde_json::json!({
        "resource": resource.plural(), "vendorPages": pages, "nextCursor": next,
        "isLooping": false, "isEmptyResult": count == 0, "resultCount": count,
    });
    debug.to_string().into_bytes()
}
