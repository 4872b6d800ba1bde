//! One parameter of every handler that changes an object of ours: the body, and the key under which the write can be repeated.

use std::sync::Arc;

use actix_web::{
    FromRequest, HttpRequest, HttpResponse,
    dev::Payload,
    http::{
        StatusCode,
        header::{HeaderMap, HeaderValue},
    },
};
use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use serde::de::DeserializeOwned;

use super::{
    Answer, Problem, State,
    act::{self, Noted},
    body::{JsonBody, RawBody, parse},
    envelope,
};
use crate::{
    error::{Code, Error, Result},
    service::{Asked, COMPANY_HEADER, Caller, IdempotencyKey, KEY_HEADER, Reply, Run, Services, Told},
    upstream::headers::modifies,
};

/// Marks the kept reply of an earlier call.
pub const REPLAYED: &str = "idempotent-replayed";

/// Marks the reply of a run after one that was cut off or failed in passing.
pub const RESTARTED: &str = "idempotent-restarted";

/// A write that takes no body.
pub struct NoBody;

/// A body that is handed on as it is.
pub struct Raw(pub Bytes);

/// What a write reads of its body; the bytes tell it from another write.
pub trait WriteBody: Send + Sized + 'static {
    /// Reads it.
    fn read(request: &HttpRequest, payload: &mut Payload) -> LocalBoxFuture<'static, Result<(Self, Bytes), Problem>>;
}

impl WriteBody for NoBody {
    fn read(_: &HttpRequest, _: &mut Payload) -> LocalBoxFuture<'static, Result<(Self, Bytes), Problem>> {
        Box::pin(async { Ok((Self, Bytes::new())) })
    }
}

impl WriteBody for Raw {
    fn read(request: &HttpRequest, payload: &mut Payload) -> LocalBoxFuture<'static, Result<(Self, Bytes), Problem>> {
        let read = <RawBody>::from_request(request, payload);
        Box::pin(async move { read.await.map(|RawBody(raw)| (Self(raw.clone()), raw)) })
    }
}

/// A JSON object that is handed on as it was written; nothing, too, where that is allowed.
pub struct JsonText<const MAY_BE_EMPTY: bool>(pub Bytes);

impl<const MAY_BE_EMPTY: bool> WriteBody for JsonText<MAY_BE_EMPTY> {
    fn read(request: &HttpRequest, payload: &mut Payload) -> LocalBoxFuture<'static, Result<(Self, Bytes), Problem>> {
        let read = <RawBody>::from_request(request, payload);
        Box::pin(async move {
            let RawBody(raw) = read.await?;
            if !(MAY_BE_EMPTY && raw.is_empty()) {
                parse::<serde_json::Map<String, serde_json::Value>>(&raw)?;
            }
            Ok((Self(raw.clone()), raw))
        })
    }
}

impl<T: DeserializeOwned + Send + 'static> WriteBody for T {
    fn read(request: &HttpRequest, payload: &mut Payload) -> LocalBoxFuture<'static, Result<(Self, Bytes), Problem>> {
        let read = JsonBody::<T>::from_request(request, payload);
        Box::pin(async move { read.await.map(|JsonBody(body, raw)| (body, raw)) })
    }
}

/// A change of an object of ours, as it was asked for.
pub struct Write<B = NoBody> {
    body: B,
    raw: Bytes,
    /// Judged once the caller is known: who may not write is told that first.
    key: Result<Option<IdempotencyKey>>,
    method: String,
    target: String,
    headers: Vec<u8>,
    request: HttpRequest,
}

impl<B: WriteBody> FromRequest for Write<B> {
    type Error = Problem;
    type Future = LocalBoxFuture<'static, Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let key = key(request.headers());
        let method = request.method().to_string();
        let target = request.uri().to_string();
        let headers = telling(request.headers());
        let (body, request) = (B::read(request, payload), request.clone());
        Box::pin(async move {
            let (body, raw) = body.await?;
            Ok(Self { body, raw, key, method, target, headers, request })
        })
    }
}

/// The headers without which a write would be another one.
fn telling(headers: &HeaderMap) -> Vec<u8> {
    let values = [COMPANY_HEADER, "content-type"].map(|name| headers.get(name).map_or(&b""[..], HeaderValue::as_bytes));
    let mut telling = values.join(&b'\n');
    let mut changing: Vec<_> = headers.iter().filter(|(name, _)| modifies(name.as_str())).collect();
    changing.sort_by_key(|(name, _)| name.as_str());
    for (name, value) in changing {
        telling.extend([b"\n", name.as_str().as_bytes(), b":", value.as_bytes()].concat());
    }
    telling
}

fn key(headers: &HeaderMap) -> Result<Option<IdempotencyKey>> {
    let mut values = headers.get_all(KEY_HEADER);
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => IdempotencyKey::parse(value.as_bytes()).map(Some),
        _ => Err(Error::new(Code::InvalidHeader, "`Idempotency-Key` stands in one header only.").field(KEY_HEADER)),
    }
}

impl<B: WriteBody> Write<B> {
    /// Whether its reply will be kept.
    pub fn is_keyed(&self) -> bool {
        !matches!(self.key, Ok(None))
    }

    /// Does the work, once for each key, and answers. Each run stands in the audit log; a kept reply is no run.
    pub async fn answer<W, F>(self, caller: &Caller, state: &State, work: W) -> Answer
    where
        W: FnOnce(Arc<Services>, B, Run) -> F + Send + 'static,
        F: Future<Output = Result<Reply>> + Send + 'static,
    {
        let Self { body, raw, key, method, target, headers, request } = self;
        let services = Arc::clone(&state.services);
        let key = key?;
        let noted = act::of_write(&request, caller, &raw)?;
        let needs_an_end = noted.as_ref().is_some_and(Noted::needs_an_end);
        let work = async move |run: Run| {
            let work = Box::pin(work(Arc::clone(&services), body, run));
            match noted {
                Some(noted) => noted.around(services, run, work).await,
                None => work.await,
            }
        };
        let Some(key) = key else {
            let work = Box::pin(work(Run::only()));
            let outcome = if needs_an_end { state.services.audit.to_end(work).await } else { work.await };
            return told(outcome, Told::First);
        };
        let asked = Asked::by(caller, key, &method, &target, headers, raw);
        let (outcome, how) = state.services.idempotency.once(asked, work).await?;
        told(outcome, how)
    }
}

/// Marks a reply that did not come of the only run.
pub fn mark(how: Told) -> Option<(&'static str, &'static str)> {
    match how {
        Told::First => None,
        Told::Restarted => Some((RESTARTED, "true")),
        Told::Replayed => Some((REPLAYED, "true")),
    }
}

fn told(outcome: Result<Reply>, how: Told) -> Answer {
    let Reply { status, body, warnings, headers } = outcome.map_err(|error| Problem::from(error).told(how))?;
    let status = StatusCode::from_u16(status).map_err(Error::internal)?;
    let mut answer = HttpResponse::build(status);
    mark(how).map(|header| answer.insert_header(header));
    for warning in warnings {
        answer.append_header((envelope::WARNING_HEADER, warning));
    }
    if !body.is_empty() {
        answer.content_type(envelope::JSON);
    }
    for header in headers {
        answer.insert_header(header);
    }
    Ok(answer.body(body))
}
