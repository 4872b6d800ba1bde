//! A whole list as `application/x-ndjson`: a line for each record, then one that says whether the list is complete. The client's
//! pace is the walk's: the next page is asked for when this one was taken, and a client that leaves ends it.

use std::{convert::Infallible, rc::Rc, sync::Arc};

use actix_web::{
    HttpMessage, HttpRequest, HttpResponse,
    http::header::{Accept, Header},
};
use bytes::Bytes;
use futures_util::stream;
use serde::Serialize;
use serde_json::value::RawValue;

use super::{
    Answer,
    extract::{OrAccount, ReadDirectory, reopen, state},
    gate::{self, RequestId},
    problem,
};
use crate::{
    error::{Code, Error, Result},
    service::{Lines, Linked, ListEnd, ListQuery, ResponseFormat},
};

/// The media type of lines.
pub const MEDIA_TYPE: &str = "application/x-ndjson";

/// The last line: how the list ended, and the problem it broke off with.
#[derive(Serialize)]
struct LastLine<'a> {
    #[serde(flatten)]
    end: &'a ListEnd,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<&'a RawValue>,
}

/// A list on its way out.
struct Streamed {
    lines: Lines,
    linked: Arc<Linked>,
    request: HttpRequest,
    has_ended: bool,
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
pub async fn answer(mut lines: Lines, linked: Arc<Linked>, request: HttpRequest) -> Answer {
    let first = lines.read(&state(&request)?.services.directory, &linked).await?;
    let streamed = Streamed { lines, linked, request, has_ended: false };
    let body = stream::unfold((first, streamed), |(ready, mut streamed)| async move {
        let bytes = match ready {
            Some(bytes) => bytes,
            None => streamed.next().await?,
        };
        Some((Ok::<_, Infallible>(bytes), (None, streamed)))
    });
    Ok(HttpResponse::Ok().content_type(MEDIA_TYPE).streaming(body))
}

impl Streamed {
    /// The next piece; after the last, and after what went wrong, the last line.
    async fn next(&mut self) -> Option<Bytes> {
        if self.has_ended {
            return None;
        }
        match self.read().await {
            Ok(Some(bytes)) => Some(bytes),
            Ok(None) => {
                self.has_ended = true;
                Some(line(self.lines.end(), None))
            }
            Err(error) => {
                self.has_ended = true;
                Some(self.break_off(&error).await)
            }
        }
    }

    /// A caller whose right or account is gone meanwhile gets no more.
    async fn read(&mut self) -> Result<Option<Bytes>> {
        let state = state(&self.request)?;
        if state.readiness.is_draining() {
            return Err(Error::new(Code::ShuttingDown, "The gateway is being stopped before the list has ended."));
        }
        self.linked = reopen::<OrAccount<ReadDirectory>>(&self.request, &self.linked.account.id.to_string()).await?;
        self.lines.read(&state.services.directory, &self.linked).await
    }

    async fn break_off(&mut self, error: &Error) -> Bytes {
        let id: Option<Rc<str>> = self.request.extensions().get::<RequestId>().map(|id| Rc::clone(&id.0));
        gate::log(error, id.as_deref().unwrap_or_default());
        let document = problem::text(error, id.as_deref());
        let problem: Option<&RawValue> = serde_json::from_slice(&document).ok();
        match state(&self.request) {
            Ok(state) => line(self.lines.broken_off(&state.services.directory, &self.linked).await, problem),
            Err(_) => line(&ListEnd::default(), problem),
        }
    }
}

fn line(end: &ListEnd, problem: Option<&RawValue>) -> Bytes {
    let mut line = serde_json::to_vec(&LastLine { end, problem }).unwrap_or_else(|_| br#"{"complete":false}"#.to_vec());
    line.push(b'\n');
    line.into()
}
