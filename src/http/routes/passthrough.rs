//! `ANY /passthrough/{account_id}/{path}`: transparent, in both directions, byte for byte.

use std::sync::Arc;

use actix_web::{
    HttpRequest, HttpResponseBuilder,
    http::{Method, header::HeaderMap},
    web,
};

use crate::{
    error::{Code, Error, Result},
    http::{
        Answer,
        body::{Pace, read_whole},
        extract::{ACCOUNT_PARAMETER, open, state},
        framing::PASSTHROUGH,
        query::decode_loosely,
        relay::{ReplyBody, RequestBody, method_of, status_of},
        token::{self, Found},
    },
    model::Scope,
    service::{Linked, Look},
    upstream::{
        headers::{request_headers, response_headers},
        passthrough::Pool,
        passthrough_target::build_target,
    },
};

/// Names the account when the path says `-`.
const ACCOUNT_HEADER: &str = "rollcall-account";

/// The account's place in the path when a header or the query names it.
const ELSEWHERE: &str = "-";

/// Adds the route.
pub fn configure(config: &mut web::ServiceConfig) {
    config.route("/passthrough/{rest:.*}", web::to(forward));
}

/// The parts of a request that decide where it goes.
struct Call {
    place: String,
    account: String,
    raw_path: String,
    raw_query: Option<String>,
    found: Found,
}

async fn forward(request: HttpRequest, payload: web::Payload) -> Answer {
    let call = read_call(&request)?;
    let state = state(&request)?;
    let caller = state.services.tokens.authenticate(call.found.token.expose()).await?;
    caller.require(right(request.method()))?;
    let linked = open(&request, &caller, &call.account).await?;
    let target = build_target(
        &linked.access.base,
        &call.raw_path,
        call.raw_query.as_deref(),
        &linked.access.query,
        linked.access.method.proxy.encoded_slashes,
    );
    let target = target.map_err(Error::from)?;
    let target = target.path_and_query().cloned().ok_or_else(|| Error::internal("a target without a path"))?;
    let method = method_of(request.method())?;
    let headers = request_headers(kept(request.headers(), &call.found).into_iter(), &linked.access);
    let look = state.services.passthrough.admit(&linked, &method, &call.raw_path)?;
    let body = match look {
        Look::Nothing => RequestBody::stream(request.headers(), payload),
        Look::Body(limit) => {
            let whole = read_whole(payload, limit, Pace::OWN).await?;
            state.services.passthrough.admit_body(&linked, &call.raw_path, &headers, &whole)?;
            RequestBody::whole(whole)
        }
    };
    let pool = request.app_data::<Pool>().ok_or_else(|| Error::internal("the worker has no pool"))?;
    let reply = pool.send(&linked.access, method, target, headers, body).await.map_err(Error::from)?;
    if reply.status() == http::StatusCode::UNAUTHORIZED {
        state.services.accounts.doubt(Arc::clone(&linked));
    }
    answer(request.method(), &linked, &call.place, reply)
}

fn answer<B>(method: &Method, linked: &Linked, place: &str, reply: http::Response<B>) -> Answer
where
    ReplyBody<B>: actix_web::body::MessageBody + 'static,
{
    let (head, body) = reply.into_parts();
    let status = status_of(head.status)?;
    let headers = response_headers(head.headers, &linked.access, |below| format!("{place}{below}"));
    let body = ReplyBody::new(body, &headers, *method == Method::HEAD, status);
    let mut response = HttpResponseBuilder::new(status);
    for (name, value) in headers.iter().filter(|(name, _)| **name != http::header::CONTENT_LENGTH) {
        response.append_header((name.as_str(), value.as_bytes()));
    }
    Ok(response.body(body))
}

/// GET, HEAD and OPTIONS read; everything else may change something.
fn right(method: &Method) -> Scope {
    if matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS) { Scope::ProxyRead } else { Scope::ProxyWrite }
}

fn read_call(request: &HttpRequest) -> Result<Call> {
    let raw = request.uri().path();
    let rest = raw.strip_prefix(PASSTHROUGH).ok_or_else(|| Error::new(Code::InvalidPath, "The path is not written plainly."))?;
    let (segment, raw_path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    let raw_query = request.uri().query();
    let found = token::anywhere(request.headers(), raw_query)?;
    let account = match segment {
        ELSEWHERE => account_elsewhere(request.headers(), raw_query)?,
        _ => segment.to_owned(),
    };
    let own = if segment == ELSEWHERE { &[ACCOUNT_PARAMETER][..] } else { &[] };
    Ok(Call {
        place: format!("{PASSTHROUGH}{segment}"),
        account,
        raw_path: raw_path.to_owned(),
        raw_query: cut(raw_query, own, &found.query),
        found,
    })
}

fn account_elsewhere(headers: &HeaderMap, raw_query: Option<&str>) -> Result<String> {
    if let Some(value) = headers.get(ACCOUNT_HEADER) {
        return value.to_str().map(str::to_owned).map_err(|_| Error::not_found());
    }
    let pairs = raw_query.unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
    pairs.filter(|(name, _)| decode_loosely(name) == ACCOUNT_PARAMETER).map(|(_, value)| decode_loosely(value)).next().ok_or_else(|| {
        let detail = format!("`-` in the path needs the account in the header `{ACCOUNT_HEADER}` or the parameter `{ACCOUNT_PARAMETER}`.");
        Error::new(Code::InvalidParameter, detail).field(ACCOUNT_PARAMETER)
    })
}

/// The raw query without the pairs of these names; the others stay as they were written.
fn cut(raw: Option<&str>, own: &[&str], tokens: &[String]) -> Option<String> {
    let raw = raw?;
    if own.is_empty() && tokens.is_empty() {
        return Some(raw.to_owned());
    }
    let goes = |pair: &&str| {
        let name = decode_loosely(pair.split_once('=').map_or(*pair, |(name, _)| name));
        own.contains(&name.as_str()) || tokens.contains(&name)
    };
    let kept: Vec<&str> = raw.split('&').filter(|pair| !goes(pair)).collect();
    if kept.is_empty() { None } else { Some(kept.join("&")) }
}

fn kept<'a>(headers: &'a HeaderMap, found: &Found) -> Vec<(&'a str, &'a [u8])> {
    let ours = |name| found.headers.contains(name);
    headers.iter().filter(|(name, _)| !ours(name)).map(|(name, value)| (name.as_str(), value.as_bytes())).collect()
}
