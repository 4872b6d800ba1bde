//! A caller's own request on the unified side: its target as it was checked, the headers that may pass, and an answer that is
//! read whole or piece by piece.

use std::{sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, Uri, header};
use tokio::time::{Instant, timeout};
use url::Url;

use super::{HttpAnswer, Sender, failure, refused};
use crate::upstream::{
    Access, CallOf, Failure, classify, decode,
    headers::{replace_credential, says_json},
    load::{Lane, Permit},
};

/// The longest silence within a body that is handed on piece by piece.
const SILENCE: Duration = Duration::from_secs(30);

/// A request as the vendor shall see it: checked, and with the account's credential in it.
#[derive(Clone)]
pub struct CustomCall {
    /// The method.
    pub method: Method,
    /// Where to, as `passthrough_target::build_target` made it.
    pub target: Uri,
    /// The headers, as `headers::request_headers` made them.
    pub headers: HeaderMap,
    /// The body; none when empty.
    pub body: Bytes,
}

/// The head of an answer, and its body still to come. It takes one of the account's places until it is dropped.
pub struct CustomAnswer {
    /// The status.
    pub status: u16,
    /// The headers as sent.
    pub headers: HeaderMap,
    response: reqwest::Response,
    access: Arc<Access>,
    until: Instant,
    _turn: Permit,
}

impl Sender {
    /// Sends a caller's own request and gives the answer as soon as its head is there; once more with another token where the
    /// credential has one and the vendor refuses it.
    pub(in crate::upstream) async fn open(&self, access: &Arc<Access>, mut call: CustomCall) -> Result<CustomAnswer, Failure> {
        if access.renewal.is_none() {
            return self.open_once(access, call).await;
        }
        let first = self.open_once(access, call.clone());
        let again = |renewed: Arc<Access>| {
            replace_credential(&mut call.headers, &renewed);
            Some(async move { self.open_once(&renewed, call).await })
        };
        access.exchange(CallOf::Caller, |_, answer| answer.status == 401, first, again).await
    }

    async fn open_once(&self, access: &Arc<Access>, call: CustomCall) -> Result<CustomAnswer, Failure> {
        let url = exact(&call.target)?;
        self.guard.clear(&url).map_err(refused)?;
        let limit = access.method.limits.timeout;
        let load = self.guard.load.of(access);
        load.look()?;
        // As long as its caller reads; the account's other calls must not wait for that.
        let turn = load.enter(Lane::Passing).await?;
        let under_way = load.within_quota(Some(&*self.store)).await?;
        load.admit()?;
        let until = Instant::now() + limit;
        let mut timed = self.meters.start(access);
        let late = |_| Err(Failure::TimedOut(limit.as_secs().max(1)));
        let opened = timeout(limit, self.head(access, url, call)).await.unwrap_or_else(late);
        drop(under_way);
        let mut response = opened.inspect_err(|failure| {
            timed.failed(failure);
            load.ended(failure);
        })?;
        let status = response.status().as_u16();
        let headers = std::mem::take(response.headers_mut());
        timed.answered(status);
        load.answered(status, headers.contains_key(header::RETRY_AFTER));
        let answer = HttpAnswer { status, headers, body: Bytes::new() };
        self.learn(access, &answer).await;
        Ok(CustomAnswer { status, headers: answer.headers, response, access: Arc::clone(access), until, _turn: turn })
    }

    async fn head(&self, access: &Access, url: Url, call: CustomCall) -> Result<reqwest::Response, Failure> {
        let trust = access.trust.as_ref();
        let proxy = self.proxy_before(&url).await?;
        let client = self.client(trust, proxy, &url)?;
        let mut request = client.request(call.method, url).headers(call.headers);
        if !call.body.is_empty() {
            request = request.body(call.body);
        }
        request.send().await.map_err(|error| failure(error, trust))
    }
}

/// The same address for the client's library, which must not write the path another way.
fn exact(target: &Uri) -> Result<Url, Failure> {
    let odd = || Failure::Unaddressable("The path holds a character that must be percent-encoded.".into());
    let url = Url::parse(&target.to_string()).map_err(|_| odd())?;
    match url.path() == target.path() && url.fragment().is_none() && url.username().is_empty() && url.password().is_none() {
        true => Ok(url),
        false => Err(odd()),
    }
}

impl CustomAnswer {
    /// Whether the vendor says that the body is JSON.
    pub fn is_json(&self) -> bool {
        says_json(&self.headers)
    }

    /// The number of bytes of the body, where the vendor says it. Beside chunks it says nothing (RFC 9112 §6.3).
    pub fn length(&self) -> Option<u64> {
        if self.headers.contains_key(header::TRANSFER_ENCODING) {
            return None;
        }
        self.headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok())
    }

    /// The next piece of the body.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Failure> {
        let next = timeout(SILENCE, self.response.chunk()).await.map_err(|_| Failure::TimedOut(SILENCE.as_secs()))?;
        next.map_err(|error| failure(error, self.access.trust.as_ref()))
    }

    /// The whole answer, decoded; at most `most` bytes, within the time the account's calls have.
    pub async fn whole(mut self, most: usize) -> Result<HttpAnswer, Failure> {
        let most = most.min(self.access.method.limits.max_body);
        let late = Failure::TimedOut(self.access.method.limits.timeout.as_secs().max(1));
        let body = tokio::time::timeout_at(self.until, self.gather(most)).await.map_err(|_| late)??;
        let body = decode::decode(&self.headers, body, most)?;
        if self.is_json() {
            decode::check_values(&body)?;
        }
        Ok(HttpAnswer { status: self.status, headers: self.headers, body })
    }

    async fn gather(&mut self, most: usize) -> Result<Bytes, Failure> {
        let mut body = BytesMut::new();
        while let Some(chunk) = self.response.chunk().await.map_err(|error| failure(error, self.access.trust.as_ref()))? {
            if body.len() + chunk.len() > most {
                return Err(Failure::BadAnswer(format!("the answer is larger than {most} bytes")));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body.freeze())
    }
}

impl HttpAnswer {
    /// Whether the vendor says that the body is JSON.
    pub fn is_json(&self) -> bool {
        says_json(&self.headers)
    }

    /// The failure this answer to a caller's own request is, if it is one by the connector's rules or its status.
    pub fn judged(&self, access: &Access) -> Result<(), Failure> {
        match self.status {
            200..=299 if self.body.trim_ascii().is_empty() => Ok(()),
            _ => classify::classify(access, self),
        }
    }
}
