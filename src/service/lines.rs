//! A whole list as lines: one record each, read and written page by page, so that it takes no more room than a page; what is
//! known of it at its end is said in a last line.

use bytes::Bytes;
use serde::Serialize;

use super::{
    Directory, Linked, ListQuery, ResponseFormat,
    cursor::{Cursor, MAX_LOST},
    directory::{
        filter::Unsaid,
        offered,
        source::Source,
        walk::Walk,
        write::{MAX_WARNINGS, Writer, Writing},
    },
};
use crate::{
    error::{Code, Error, Result},
    model::{FilterReport, Resource, Warning},
};

/// The last line of a list given out as lines: whether it is whole.
#[derive(Debug, Default, Serialize)]
pub struct ListEnd {
    /// Everything was read, without known loss. False beside `problem`, or beside a warning naming what is missing.
    pub complete: bool,
    /// Lines before this one.
    pub result_count: u64,
    /// Where to go on after a `problem`; null at the end.
    pub next_cursor: Option<String>,
    /// Records lack fields that `get` has.
    pub is_partial_response: bool,
    /// What a caller should know.
    pub warnings: Vec<Warning>,
    /// Who evaluated which filter.
    pub filters: FilterReport,
}

/// A list being given out as lines.
pub struct Lines {
    resource: Resource,
    parent: Option<String>,
    query: ListQuery,
    /// Before the first piece, and again after the last one, there is none.
    cursor: Option<Cursor>,
    has_ended: bool,
    end: ListEnd,
    unsaid: Unsaid,
}

impl Lines {
    /// Refuses what only makes sense for a page.
    pub fn new(resource: Resource, parent: Option<String>, query: ListQuery) -> Result<Self> {
        let refused =
            [("truto_key_by", query.key_by.is_some()), ("truto_response_format", query.format == ResponseFormat::Debug)];
        if let Some((name, _)) = refused.iter().find(|(_, is_asked)| *is_asked) {
            let detail = format!("`{name}` changes how one page is written; it cannot be asked for together with lines.");
            return Err(Error::new(Code::InvalidParameter, detail).field(*name));
        }
        Ok(Self { resource, parent, query, cursor: None, has_ended: false, end: ListEnd::default(), unsaid: Unsaid::default() })
    }

    /// The next records, one per line; `None` after the last. A piece in which nothing is wanted is empty. After an error the
    /// same piece can be read again.
    pub async fn read(&mut self, directory: &Directory, linked: &Linked) -> Result<Option<Bytes>> {
        if self.has_ended {
            return Ok(None);
        }
        let walk = self.walk(directory, linked)?;
        let def = offered(linked, self.resource)?;
        let mut cursor = match &self.cursor {
            Some(cursor) => cursor.clone(),
            None => walk.begin()?,
        };
        let mut writer = Writer::new(def, Writing::lines(&self.query, def)?, &walk.plan);
        let next = walk.read_piece(&mut cursor, &mut writer).await?;
        let count = writer.count;
        self.unsaid.and(std::mem::take(&mut writer.unsaid));
        let (bytes, warnings) = writer.finish();
        self.end.result_count += count as u64;
        self.end.is_partial_response = def.partial;
        self.end.filters = walk.plan.report.clone();
        self.note(warnings.into_iter().chain(cursor.lost.iter().cloned()));
        cursor.lost.truncate(MAX_LOST);
        self.end.complete = next.is_none() && cursor.lost.is_empty();
        self.has_ended = next.is_none();
        if self.has_ended {
            if self.end.result_count == 0 {
                let unsaid = std::mem::take(&mut self.unsaid);
                self.note(unsaid.warnings(self.resource));
            }
            directory.walk_ended(linked, def, self.end.complete);
        }
        self.cursor = next.map(|at| Cursor { at, ..cursor });
        Ok(Some(bytes.into()))
    }

    /// What the last line says of a list that was read to its end.
    pub fn end(&self) -> &ListEnd {
        &self.end
    }

    /// What it says of one that broke off, with the place where to go on, if that can still be told.
    pub async fn broken_off(&mut self, directory: &Directory, linked: &Linked) -> &ListEnd {
        if let (Some(cursor), Ok(walk)) = (self.cursor.clone(), self.walk(directory, linked)) {
            self.end.next_cursor = walk.seal(cursor).await.ok();
        }
        self.end.complete = false;
        &self.end
    }

    fn walk<'a>(&self, directory: &'a Directory, linked: &'a Linked) -> Result<Walk<'a>> {
        let def = offered(linked, self.resource)?;
        let source = Source::new(directory, linked, def, self.parent.as_deref(), self.resource.plural())?;
        Walk::new(source, self.query.clone(), Writing::lines(&self.query, def)?)
    }

    fn note(&mut self, warnings: impl Iterator<Item = Warning>) {
        for warning in warnings {
            if self.end.warnings.len() < MAX_WARNINGS && !self.end.warnings.contains(&warning) {
                self.end.warnings.push(warning);
            }
        }
    }
}
