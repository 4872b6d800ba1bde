//! A whole list as `application/x-ndjson`: a line for each record, then one that says whether the list is complete. The client's
//! pace is the walk's: the next page is asked for when this one was taken, and a client that leaves ends it.

use std::sync::Arc;

use actix_web::{
    HttpRequest,
    http::header::{Accept, Header},
};
use bytes::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;

use super::{
    Answer,
    extract::{OrAccount, ReadDirectory, reopen},
    pieces::{self, MEDIA_TYPE, Pieces},
};
use crate::{
    error::Result,
    service::{Lines, Linked, ListEnd, ListQuery, ResponseFormat, Services},
};

/// The last line: how the list ended, and the problem it broke off with.
#[derive(Serialize)]
struct LastLine<'a> {
    #[serde(flatten)]
    end: &'a ListEnd,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<&'a RawValue>,
}

/// A list on its way out.
struct Listed {
    lines: Lines,
    linked: Arc<Linked>,
}

/// Whether the caller prefers lines to a page.
pub fn are_wanted(request: &HttpRequest, query: &ListQuery) -> bool {
    query.format == ResponseFormat::Stream || are_accepted(request)
}

/// Whether the caller says that it prefers lines to JSON.
pub fn are_accepted(request: &HttpRequest) -> bool {
    let preferred = || {
        let accept = Accept::parse(request).ok()?;
        accept
            .ranked()
            .into_iter()
            .find(|kind| matches!(kind.essence_str(), MEDIA_TYPE | "application/json" | "application/*" | "*/*"))
    };
    preferred().is_some_and(|kind| kind.essence_str() == MEDIA_TYPE)
}

/// The answer. What goes wrong before the first line is a problem like any other.
pub async fn answer(lines: Lines, linked: Arc<Linked>, request: HttpRequest) -> Answer {
    pieces::answer(Listed { lines, linked }, request).await
}

impl Pieces for Listed {
    type Right = OrAccount<ReadDirectory>;

    /// A caller whose right or account is gone meanwhile gets no more.
    async fn readmit(&mut self, request: &HttpRequest) -> Result<()> {
        self.linked = reopen::<Self::Right>(request, &self.linked.account.id.to_string()).await?;
        Ok(())
    }

    async fn next(&mut self, services: &Services) -> Result<Option<Bytes>> {
        self.lines.read(&services.directory, &self.linked).await
    }

    async fn end(&mut self, services: &Services, problem: Option<&RawValue>) -> Bytes {
        let end = match problem {
            Some(_) => self.lines.broken_off(&services.directory, &self.linked).await,
            None => self.lines.end(),
        };
        let mut line = serde_json::to_vec(&LastLine { end, problem }).unwrap_or_else(|_| br#"{"complete":false}"#.to_vec());
        line.push(b'\n');
        line.into()
    }
}
