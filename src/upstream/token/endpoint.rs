//! A token endpoint as the library calls it.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{FutureExt, TryFutureExt, future::BoxFuture};
use http::{HeaderMap, HeaderValue};
use oauth2::{AsyncHttpClient, HttpRequest, HttpResponse};

use super::answer::{Given, Refused, plain, read};
use crate::{
    model::Secret,
    upstream::{
        Access, Failure, HttpAnswer,
        classify::{KEPT, LONGEST_HEADER},
        redact::Redaction,
        send::Sender,
    },
};

/// The whole exchange.
pub const DEADLINE: Duration = Duration::from_secs(20);
/// Members of a form that are secret and no fields of the account.
const SHOWN_ONCE: [&str; 6] = ["assertion", "client_assertion", "code", "code_verifier", "refresh_token", "token"];

/// Asked once; what it answered is kept for the caller's error.
pub(super) struct Endpoint<'e> {
    sender: &'e Sender,
    pub(super) access: &'e Access,
    pub(super) url: &'e url::Url,
    seen: Mutex<Option<HttpAnswer>>,
    shown: Mutex<Vec<Secret>>,
}

impl<'e> Endpoint<'e> {
    pub(super) fn new(sender: &'e Sender, access: &'e Access, url: &'e url::Url) -> Self {
        Self { sender, access, url, seen: Mutex::new(None), shown: Mutex::new(Vec::new()) }
    }

    /// What an error keeps of the last answer, without what the endpoint was shown, and what takes that out of its words.
    pub(super) fn seen(self) -> Option<(HttpAnswer, Redaction)> {
        let shown = self.shown.into_inner().unwrap_or_else(PoisonError::into_inner);
        let redaction = Redaction::with(self.access, &shown);
        let mut answer = self.seen.into_inner().unwrap_or_else(PoisonError::into_inner)?;
        answer.body = redaction.start(&answer.body, KEPT).into();
        for value in answer.headers.values_mut() {
            let plain = redaction.start(value.as_bytes(), LONGEST_HEADER);
            *value = HeaderValue::from_bytes(&plain).unwrap_or(HeaderValue::from_static("***"));
        }
        Some((answer, redaction))
    }

    /// A request that the library does not make, answered as it answers.
    pub(super) async fn ask(&self, (headers, body): (HeaderMap, Bytes)) -> Result<Given, Refused> {
        let answer = self.send(headers, body).await.map_err(Refused::Request)?;
        let reply = plain(self.access, &answer);
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
        read(&reply)
    }

    pub(super) async fn send(&self, headers: HeaderMap, body: Bytes) -> Result<HttpAnswer, Failure> {
        let members = url::form_urlencoded::parse(&body).filter(|(name, _)| SHOWN_ONCE.contains(&&**name));
        let shown = members.map(|(_, text)| Secret::new(text.into_owned())).collect();
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = shown;
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
