//! An answer of lines that is made a piece at a time, at the client's pace; its last line says whether everything came.

use std::{convert::Infallible, rc::Rc};

use actix_web::{HttpMessage, HttpRequest, HttpResponse};
use bytes::Bytes;
use futures_util::stream;
use serde_json::value::RawValue;

use super::{
    Answer,
    extract::{Right, is_still_admitted, state},
    gate::{self, RequestId},
    lines::MEDIA_TYPE,
    problem,
};
use crate::{
    error::{Code, Error, Result},
    service::Services,
};

/// What is given out in pieces.
pub trait Pieces: 'static {
    /// The next piece, which may be empty; none at the end.
    fn next(&mut self, services: &Services) -> impl Future<Output = Result<Option<Bytes>>>;
    /// The last line, and the problem that it broke off with.
    fn end(&self, problem: Option<&RawValue>) -> Bytes;
}

struct Streamed<P> {
    pieces: P,
    request: HttpRequest,
    has_ended: bool,
}

/// The answer to a caller with the right `R`. What goes wrong before the first piece is a problem like any other.
pub async fn answer<R: Right, P: Pieces>(mut pieces: P, request: HttpRequest) -> Answer {
    let first = pieces.next(&state(&request)?.services).await?;
    let streamed = Streamed { pieces, request, has_ended: false };
    let body = stream::unfold((first, streamed), |(ready, mut streamed)| async move {
        let bytes = match ready {
            Some(bytes) => bytes,
            None => streamed.next::<R>().await?,
        };
        Some((Ok::<_, Infallible>(bytes), (None, streamed)))
    });
    Ok(HttpResponse::Ok().content_type(MEDIA_TYPE).streaming(body))
}

impl<P: Pieces> Streamed<P> {
    /// The next piece that holds something; after the last, and after what went wrong, the last line.
    async fn next<R: Right>(&mut self) -> Option<Bytes> {
        if self.has_ended {
            return None;
        }
        loop {
            match self.read::<R>().await {
                Ok(Some(bytes)) if bytes.is_empty() => {}
                Ok(Some(bytes)) => return Some(bytes),
                Ok(None) => {
                    self.has_ended = true;
                    return Some(self.pieces.end(None));
                }
                Err(error) => {
                    self.has_ended = true;
                    return Some(self.break_off(&error));
                }
            }
        }
    }

    /// A caller whose right is gone meanwhile gets no more.
    async fn read<R: Right>(&mut self) -> Result<Option<Bytes>> {
        let state = state(&self.request)?;
        if state.readiness.is_draining() {
            return Err(Error::new(Code::ShuttingDown, "The gateway is being stopped before everything was read."));
        }
        is_still_admitted::<R>(&self.request).await?;
        self.pieces.next(&state.services).await
    }

    fn break_off(&self, error: &Error) -> Bytes {
        let id: Option<Rc<str>> = self.request.extensions().get::<RequestId>().map(|id| Rc::clone(&id.0));
        gate::log(error, id.as_deref().unwrap_or_default());
        let document = problem::text(error, id.as_deref());
        self.pieces.end(serde_json::from_slice(&document).ok())
    }
}
