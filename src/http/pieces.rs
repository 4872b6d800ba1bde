//! An answer of lines that is made a piece at a time, at the client's pace; its last line says whether everything came.

use std::{convert::Infallible, rc::Rc};

use actix_web::{HttpMessage, HttpRequest, HttpResponse, web::Data};
use bytes::Bytes;
use futures_util::stream;
use serde_json::value::RawValue;

use super::{
    Answer, State,
    extract::{Right, is_still_admitted, state},
    gate::{self, RequestId},
    problem,
};
use crate::{
    error::{Code, Error, Result},
    service::Services,
};

/// The media type of lines.
pub const MEDIA_TYPE: &str = "application/x-ndjson";

/// What is given out in pieces.
pub trait Pieces: 'static {
    /// What its caller must be allowed, all the while.
    type Right: Right;

    /// Refuses a caller whose right is gone meanwhile.
    fn readmit(&mut self, request: &HttpRequest) -> impl Future<Output = Result<()>> {
        async { is_still_admitted::<Self::Right>(request).await.map(drop) }
    }

    /// The next piece, which may be empty; none at the end.
    fn next(&mut self, services: &Services) -> impl Future<Output = Result<Option<Bytes>>>;

    /// The last line, and the problem that it broke off with.
    fn end(&mut self, services: &Services, problem: Option<&RawValue>) -> impl Future<Output = Bytes>;
}

struct Streamed<P> {
    pieces: P,
    request: HttpRequest,
    state: Data<State>,
    has_ended: bool,
}

/// The answer. What goes wrong before the first piece is a problem like any other.
pub async fn answer<P: Pieces>(mut pieces: P, request: HttpRequest) -> Answer {
    let state = state(&request)?.clone();
    let first = pieces.next(&state.services).await?;
    let streamed = Streamed { pieces, request, state, has_ended: false };
    let body = stream::unfold((first, streamed), |(ready, mut streamed)| async move {
        let bytes = match ready {
            Some(bytes) => bytes,
            None => streamed.next().await?,
        };
        Some((Ok::<_, Infallible>(bytes), (None, streamed)))
    });
    Ok(HttpResponse::Ok().content_type(MEDIA_TYPE).streaming(body))
}

impl<P: Pieces> Streamed<P> {
    /// The next piece that holds something; after the last, and after what went wrong, the last line.
    async fn next(&mut self) -> Option<Bytes> {
        if self.has_ended {
            return None;
        }
        loop {
            match self.read().await {
                Ok(Some(bytes)) if bytes.is_empty() => {}
                Ok(Some(bytes)) => return Some(bytes),
                Ok(None) => {
                    self.has_ended = true;
                    return Some(self.pieces.end(&self.state.services, None).await);
                }
                Err(error) => {
                    self.has_ended = true;
                    return Some(self.break_off(&error).await);
                }
            }
        }
    }

    /// A caller whose right is gone meanwhile gets no more.
    async fn read(&mut self) -> Result<Option<Bytes>> {
        if self.state.readiness.is_draining() {
            return Err(Error::new(Code::ShuttingDown, "The gateway is being stopped before everything was read."));
        }
        self.pieces.readmit(&self.request).await?;
        self.pieces.next(&self.state.services).await
    }

    async fn break_off(&mut self, error: &Error) -> Bytes {
        let id: Option<Rc<str>> = self.request.extensions().get::<RequestId>().map(|id| Rc::clone(&id.0));
        gate::log(error, id.as_deref().unwrap_or_default());
        let document = problem::text(error, id.as_deref());
        self.pieces.end(&self.state.services, serde_json::from_slice(&document).ok()).await
    }
}
