//! A token endpoint as the library calls it.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{FutureExt, TryFutureExt, future::BoxFuture};
use http::HeaderMap;
use oauth2::{AsyncHttpClient, HttpRequest, HttpResponse};

use super::answer::{Given, Refused, plain, read};
use crate::upstream::{Access, Failure, HttpAnswer, send::Sender};

/// The whole exchange.
const DEADLINE: Duration = Duration::from_secs(20);

/// Asked once; what it answered is kept for the caller's error.
pub(super) struct Endpoint<'e> {
    sender: &'e Sender,
    pub(super) access: &'e Access,
    pub(super) url: &'e url::Url,
    seen: Mutex<Option<HttpAnswer>>,
}

impl<'e> Endpoint<'e> {
    pub(super) fn new(sender: &'e Sender, access: &'e Access, url: &'e url::Url) -> Self {
        Self { sender, access, url, seen: Mutex::new(None) }
    }

    pub(super) fn seen(self) -> Option<HttpAnswer> {
        self.seen.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request that the library does not make, answered as it answers.
    pub(super) async fn ask(&self, (headers, body): (HeaderMap, Bytes)) -> Result<Given, Refused> {
        let answer = self.send(headers, body).await.map_err(Refused::Request)?;
        let reply = plain(self.access, &answer);
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
        read(&reply)
    }

    pub(super) async fn send(&self, headers: HeaderMap, body: Bytes) -> Result<HttpAnswer, Failure> {
        self.sender.token(self.access, self.url.clone(), headers, body, DEADLINE).await
    }
}

impl<'c> AsyncHttpClient<'c> for Endpoint<'_> {
    type Error = Failure;
    type Future = BoxFuture<'c, Result<HttpResponse, Failure>>;

    fn call(&'c self, asked: HttpRequest) -> Self::Future {
        let (parts, body) = asked.into_parts();
        self.send(parts.headers, Bytes::from(body))
            .map_ok(|answer| {
                let reply = plain(self.access, &answer);
                *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
                reply
            })
            .boxed()
    }
}
