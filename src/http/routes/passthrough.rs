//! `ANY /passthrough/{account_id}/{path}`: transparent, in both directions, byte for byte.

use std::{borrow::Cow, sync::Arc, time::Duration};

use actix_web::{
    HttpRequest, HttpResponseBuilder,
    http::{
        Method, Version,
        header::{CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, TRAILER, TRANSFER_ENCODING},
    },
    web,
};

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full, Limited};

use crate::{
    error::{Code, Error, Result},
    http::{
        Answer, act,
        body::{Pace, read_whole},
        extract::{ACCOUNT_PARAMETER, company, open, overrides_method, state},
        framing::PASSTHROUGH,
        query::{cut, decode_loosely},
        relay::{ReplyBody, RequestBody, Trailing, method_of, status_of},
        token::{self, Found},
        turn::Turn,
        watch::Concerned,
    },
    model::Scope,
    service::{COMPANY_HEADER, Linked, Look},
    upstream::{
        Access, CallOf, Failure, Said,
        headers::{announced_trailers, replace_credential, request_headers, request_trailers, response_headers},
        json_links, judge,
        links::Place,
        passthrough::{PassthroughBody, Pool},
        passthrough_target::build_target,
    },
};

/// Names the account when the path says `-`.
const ACCOUNT_HEADER: &str = "rollcall-account";

/// How an answer of no known length is framed.
const CHUNKED: HeaderValue = HeaderValue::from_static("chunked");

/// The account's place in the path when a header or the query names it.
const ELSEWHERE: &str = "-";

/// Adds the route. A scope is found by comparing its name; a pattern would cost a regular expression for each request.
pub fn configure(config: &mut web::ServiceConfig) {
    config.service(web::scope("/passthrough").default_service(web::to(forward)));
}

/// The parts of a request that decide where it goes.
struct Call<'r> {
    /// The account, where the request names one.
    account: Option<Cow<'r, str>>,
    raw_path: &'r str,
    raw_query: Option<Cow<'r, str>>,
    found: Found<'r>,
}

/// A request that may pass: for which account, and as the vendor shall see it.
struct Admitted {
    linked: Arc<Linked>,
    request: http::Request<()>,
    look: Look,
}

async fn forward(request: HttpRequest, payload: web::Payload) -> Answer {
    if right(&request) == Scope::ProxyRead || !state(&request)?.services.audit.notes_passing() {
        return pass(request, payload).await;
    }
    let answer = Box::pin(pass(request.clone(), payload)).await;
    act::note_passing(&request, answer.as_ref().err().map(|problem| problem.error().code().row().name))?;
    answer
}

async fn pass(request: HttpRequest, payload: web::Payload) -> Answer {
    let Admitted { linked, request: outgoing, look } = admit(&request).await?;
    let reply = match look {
        Look::Nothing => {
            let body = RequestBody::stream(request.headers(), payload).followed_by(trailing(&request, outgoing.headers()));
            if linked.access.renewal.is_some() {
                return Box::pin(forward_renewing(request, linked, outgoing, body)).await;
            }
            let again = || toward_vendor(&request, &read_call(&request).ok()?, &linked.access).ok();
            let sent = pool(&request)?.send_repeatable(&linked.access, outgoing.map(|()| body), again).await;
            noted(&request, sent).map_err(|failure| unanswered(&request, failure))?
        }
        Look::Body(limit) => return Box::pin(forward_read(request, payload, linked, outgoing, limit)).await,
    };
    answer(&request, &linked, reply)
}

/// A call whose credential may be renewable: once more with another token where the vendor refuses it, as far as the body could
/// be kept.
async fn forward_renewing(request: HttpRequest, linked: Arc<Linked>, outgoing: http::Request<()>, body: RequestBody) -> Answer {
    let (pool, mut repeated) = (pool(&request)?, outgoing.clone());
    let (body, copy) = body.copied();
    let send = async |access: Arc<Access>, outgoing: http::Request<()>, body: RequestBody| {
        let repeat = || Some(outgoing.clone());
        noted(&request, pool.send_repeatable(&access, outgoing.clone().map(|()| body), repeat).await)
    };
    let again = |renewed: Arc<Access>| {
        replace_credential(repeated.headers_mut(), &renewed);
        Some(send(renewed, repeated, copy.again()?))
    };
    let refuses = |_: &Access, reply: &http::Response<PassthroughBody>| reply.status() == http::StatusCode::UNAUTHORIZED;
    let first = send(Arc::clone(&linked.access), outgoing, body);
    match linked.access.exchange(CallOf::Caller, refuses, first, again).await {
        Ok(reply) => answer(&request, &linked, reply),
        Err(failure @ Failure::NotRenewed(_)) => {
            let accounts = &state(&request)?.services.accounts;
            Err(accounts.note_failure(&linked, "passthrough", "call", failure).await.into())
        }
        Err(failure) => Err(unanswered(&request, failure).into()),
    }
}

/// A call whose body the proxy rules must see.
async fn forward_read(
    request: HttpRequest,
    payload: web::Payload,
    linked: Arc<Linked>,
    mut outgoing: http::Request<()>,
    limit: usize,
) -> Answer {
    outgoing.headers_mut().remove(http::header::TRAILER);
    let passthrough = &state(&request)?.services.passthrough;
    let whole = read_whole(payload, limit, Pace::OWN).await?;
    let raw_path = read_call(&request)?.raw_path;
    passthrough.admit_body(&linked, raw_path, outgoing.headers(), &whole)?;
    let is_exclusive = passthrough.is_exclusive(&linked, &whole);
    let body = RequestBody::whole(whole);
    if is_exclusive {
        let company = company(&request)?;
        let call = call_whole(pool(&request)?.clone(), Arc::clone(&linked), outgoing.map(|()| body));
        let call = state(&request)?.services.directory.spoiling(&linked, call).await?;
        let called = passthrough.exclusively(&linked, company.as_deref(), call).await?;
        let ((head, took), body) = called.map_err(|failure| unanswered(&request, failure))?;
        let vendor = (head.status.as_u16(), took);
        Concerned::note(&request, |concerned| concerned.vendor = Some(vendor));
        return answer(&request, &linked, http::Response::from_parts(head, Full::new(body)));
    }
    forward_renewing(request, linked, outgoing, body).await
}

/// Who calls, for which account, and whether this may pass.
async fn admit(request: &HttpRequest) -> Result<Admitted> {
    let call = read_call(request)?;
    let state = state(request)?;
    let caller = state.services.tokens.authenticate(&call.found.token).await?;
    Concerned::note(request, |concerned| concerned.caller = Some(Arc::clone(&caller)));
    Concerned::spent(request, state.services.rates.spend_of_token(&caller).await?);
    caller.require(right(request))?;
    let account = match &call.account {
        Some(named) => Cow::Borrowed(&**named),
        None => Cow::Owned(caller.own_account().ok_or_else(no_account)?),
    };
    let linked = open(request, &caller, &account).await?;
    let outgoing = toward_vendor(request, &call, &linked.access)?;
    let look = state.services.passthrough.admit(&linked, outgoing.method(), call.raw_path)?;
    Ok(Admitted { request: outgoing, look, linked })
}

/// The request as the vendor shall see it, but for its body.
fn toward_vendor(request: &HttpRequest, call: &Call<'_>, access: &Access) -> Result<http::Request<()>> {
    let slashes = access.method.proxy.encoded_slashes;
    let target = build_target(&access.base, call.raw_path, call.raw_query.as_deref(), &access.query, slashes)?;
    let mut outgoing = http::Request::new(());
    *outgoing.method_mut() = method_of(request.method())?;
    *outgoing.uri_mut() = target;
    *outgoing.headers_mut() = request_headers(kept(request.headers(), &call.found), access);
    announce_trailers(request.headers(), &call.found, access, outgoing.headers_mut());
    Ok(outgoing)
}

/// Tells the vendor which fields stand behind the body, where the client told us.
fn announce_trailers(headers: &HeaderMap, found: &Found<'_>, access: &Access, outgoing: &mut http::HeaderMap) {
    if !(headers.contains_key(TRAILER) && headers.contains_key(TRANSFER_ENCODING)) {
        return;
    }
    let names = request_trailers(kept(headers, found), access);
    let names = names.iter().map(http::HeaderName::as_str).filter(|name| !found.headers.iter().any(|ours| ours == name));
    let names = names.collect::<Vec<_>>().join(", ");
    if let (false, Ok(names)) = (names.is_empty(), http::HeaderValue::try_from(names)) {
        outgoing.insert(http::header::TRAILER, names);
    }
}

/// The fields that the vendor was told of.
fn trailing(request: &HttpRequest, outgoing: &http::HeaderMap) -> Option<Trailing> {
    if !outgoing.contains_key(http::header::TRAILER) {
        return None;
    }
    Some(Trailing { turn: request.conn_data::<Turn>()?.clone(), names: announced_trailers(outgoing) })
}

/// Notes the vendor's answer for the logs.
fn noted(
    request: &HttpRequest,
    reply: std::result::Result<http::Response<PassthroughBody>, Failure>,
) -> std::result::Result<http::Response<PassthroughBody>, Failure> {
    reply.inspect(|reply| {
        let vendor = (reply.status().as_u16(), reply.body().took());
        Concerned::note(request, |concerned| concerned.vendor = Some(vendor));
    })
}

/// A call that changes something may have done so before its answer was lost, and nobody should simply send it again.
fn unanswered(request: &HttpRequest, failure: Failure) -> Error {
    if right(request) == Scope::ProxyRead {
        return failure.into();
    }
    let status = if matches!(failure, Failure::TimedOut(_)) { 504 } else { 502 };
    match judge(failure) {
        Ok(Said::Unknown(failure)) => {
            Error::new(Code::WriteUnconfirmed, format!("The vendor may have done it: {failure}.")).status(status)
        }
        Ok(Said::Failed(failure)) | Err(failure) => failure.into(),
        Ok(Said::Done(_) | Said::Unasked) => Error::internal("a call without an answer was judged as one with"),
    }
}

fn pool(request: &HttpRequest) -> Result<&Pool> {
    request.app_data::<Pool>().ok_or_else(|| Error::internal("the worker has no pool"))
}

/// A call that nobody else's may come between; its answer is read whole, so that the lock ends before the client's reading.
async fn call_whole(
    pool: Pool,
    linked: Arc<Linked>,
    request: http::Request<RequestBody>,
) -> std::result::Result<((http::response::Parts, Duration), Bytes), Failure> {
    let (head, body) = pool.send(&linked.access, request).await?.into_parts();
    let took = body.took();
    let read = Limited::new(body, linked.access.method.limits.max_body).collect().await;
    let body = read.map_err(|why| Failure::BadAnswer(format!("the vendor's answer could not be read: {why}")))?.to_bytes();
    Ok(((head, took), body))
}

/// The vendor's answer as ours. A refused credential casts doubt on the account: the vendor's own test decides.
fn answer<B>(request: &HttpRequest, linked: &Linked, reply: http::Response<B>) -> Answer
where
    ReplyBody<B>: actix_web::body::MessageBody + 'static,
{
    let (head, body) = reply.into_parts();
    if head.status == http::StatusCode::UNAUTHORIZED {
        state(request)?.services.accounts.doubt(linked);
    }
    let status = status_of(head.status)?;
    let path = split(request.uri().path()).map_or("", |(_, path)| path);
    let place = Place { origin: state(request)?.public_origin.as_ref(), access: &linked.access, path };
    let announced = announced_trailers(&head.headers);
    let mut headers = response_headers(head.headers, &place);
    let links = json_links::rewriter(&place, head.status, &mut headers).map_err(Error::from)?;
    let mut body = ReplyBody::new(body, &headers, *request.method() == Method::HEAD, status, links);
    let is_chunked = request.version() == Version::HTTP_11 && body.chunked(&linked.access);
    let mut response = HttpResponseBuilder::new(status);
    for header in retyped(&headers).filter(|(name, _)| *name != CONTENT_LENGTH) {
        response.append_header(header);
    }
    if is_chunked {
        response.append_header((TRANSFER_ENCODING, CHUNKED));
        for name in &announced {
            response.append_header((TRAILER, name.as_str()));
        }
    }
    let mut response = response.body(body);
    response.head_mut().no_chunking(is_chunked);
    Ok(response)
}

/// The headers in the words of the server's library, their values in one piece of memory.
fn retyped(headers: &http::HeaderMap) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
    let mut values = BytesMut::with_capacity(headers.values().map(http::HeaderValue::len).sum());
    headers.values().for_each(|value| values.extend_from_slice(value.as_bytes()));
    let mut values = values.freeze();
    headers.iter().filter_map(move |(name, value)| {
        let value = values.split_to(value.len());
        Some((HeaderName::from_bytes(name.as_str().as_bytes()).ok()?, HeaderValue::from_maybe_shared(value).ok()?))
    })
}

/// GET, HEAD and OPTIONS read; everything else may change something, as may what asks a vendor to take it for something else.
fn right(request: &HttpRequest) -> Scope {
    let reads = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    if reads && !overrides_method(request.headers()) { Scope::ProxyRead } else { Scope::ProxyWrite }
}

/// The path up to the account's place, and the vendor's path behind it.
fn split(raw: &str) -> Option<(&str, &str)> {
    let rest = raw.strip_prefix(PASSTHROUGH)?;
    let at = rest.find('/').unwrap_or(rest.len());
    Some(raw.split_at(PASSTHROUGH.len() + at))
}

fn read_call(request: &HttpRequest) -> Result<Call<'_>> {
    let plain = || Error::new(Code::InvalidPath, "The path is not written plainly.");
    let (place, raw_path) = split(request.uri().path()).ok_or_else(plain)?;
    let segment = &place[PASSTHROUGH.len()..];
    let raw_query = request.uri().query();
    let found = token::anywhere(request.headers(), raw_query)?;
    let (account, own) = match segment {
        ELSEWHERE => (account_elsewhere(request.headers(), raw_query)?.map(Cow::Owned), &[ACCOUNT_PARAMETER][..]),
        _ => (Some(Cow::Borrowed(segment)), &[][..]),
    };
    let raw_query = cut(raw_query, own, &found.query);
    Ok(Call { account, raw_path, raw_query, found })
}

fn account_elsewhere(headers: &HeaderMap, raw_query: Option<&str>) -> Result<Option<String>> {
    if let Some(value) = headers.get(ACCOUNT_HEADER) {
        return value.to_str().map(|id| Some(id.to_owned())).map_err(|_| Error::not_found());
    }
    let mut pairs = raw_query.unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
    let named = pairs.find(|(name, _)| decode_loosely(name) == ACCOUNT_PARAMETER);
    Ok(named.map(|(_, value)| decode_loosely(value)))
}

fn no_account() -> Error {
    let detail = format!(
        "`-` in the path needs the account in the header `{ACCOUNT_HEADER}` or the parameter `{ACCOUNT_PARAMETER}`, or an account \
         token."
    );
    Error::new(Code::InvalidParameter, detail).field(ACCOUNT_PARAMETER)
}

fn kept<'a>(headers: &'a HeaderMap, found: &Found<'_>) -> impl Iterator<Item = (&'a str, &'a [u8])> {
    let ours = |name: &HeaderName| found.headers.contains(name) || name.as_str() == COMPANY_HEADER;
    headers.iter().filter(move |(name, _)| !ours(name)).map(|(name, value)| (name.as_str(), value.as_bytes()))
}
