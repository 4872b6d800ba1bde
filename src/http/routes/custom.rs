//! `ANY /custom/{path}`: a caller's own request to the vendor; JSON comes back in the envelope, anything else as it is.

use std::{borrow::Cow, sync::Arc};

use actix_web::{
    HttpRequest, HttpResponse, HttpResponseBuilder,
    body::{BodyStream, SizedStream},
    http::{Method, StatusCode, header::HeaderName},
    web::{self, Data},
};
use futures_util::stream::try_unfold;

use crate::{
    error::Result,
    http::{
        Answer, State,
        body::{MAX_BODY, RawBody},
        envelope,
        extract::{ACCOUNT_PARAMETER, Later, LinkedAccount, OrAccount, ReadProxy, WriteProxy, company, overrides_method},
        framing::collapse,
        query::{VendorQuery, cut},
        relay::method_of,
        token,
        write::{Raw, Write},
    },
    model::Scope,
    service::{CustomAsk, CustomReply, KEY_HEADER, Reply, Run, Services},
    upstream::{CustomAnswer, headers::response_headers, links::Place},
};

/// Where it begins.
const CUSTOM: &str = "/custom";

/// Parameters that are ours; the others are the vendor's.
const OURS: &[&str] = &[ACCOUNT_PARAMETER, VendorQuery::AS_IT_IS];

/// Headers of an answer that describe it as the vendor sent it, which the envelope is not.
const OF_THE_BODY: &[&str] =
    &["accept-ranges", "content-disposition", "content-encoding", "content-language", "content-security-policy", "content-type"];

/// Headers that our own server sets.
const OF_THE_SERVER: &[&str] = &["content-length", "date", "server", "x-request-id"];

/// Adds the route for every method.
pub fn configure(config: &mut web::ServiceConfig) {
    config.route("/custom/{path:.*}", web::get().to(read));
    config.route("/custom/{path:.*}", web::method(Method::OPTIONS).to(read));
    config.route("/custom/{path:.*}", web::to(change));
}

type Reads = Later<LinkedAccount<OrAccount<ReadProxy>, VendorQuery>>;
type Changes = Later<LinkedAccount<OrAccount<WriteProxy>, VendorQuery>>;

async fn read(call: Reads, request: HttpRequest, body: RawBody, state: Data<State>) -> Answer {
    let LinkedAccount { caller, linked, .. } = call.0?;
    if overrides_method(request.headers()) {
        caller.require(Scope::ProxyWrite)?;
    }
    let ask = ask(&request, body.0)?;
    let raw_path = ask.raw_path.clone();
    let reply = state.services.passthrough.read_custom(&linked, ask).await?;
    let place = Place { origin: state.public_origin.as_ref(), access: &linked.access, path: &raw_path };
    match reply {
        CustomReply::Other(answer) => stream(answer, &place),
        reply => {
            let Reply { status, body, headers, .. } = whole(reply, &place);
            let mut response = HttpResponseBuilder::new(status_of(status)?);
            for header in headers {
                response.append_header(header);
            }
            Ok(response.body(body))
        }
    }
}

async fn change(call: Changes, request: HttpRequest, write: Write<Raw>, state: Data<State>) -> Answer {
    let LinkedAccount { caller, linked, .. } = call.0?;
    let ask = ask(&request, web::Bytes::new())?;
    let most = if write.is_keyed() { MAX_BODY } else { usize::MAX };
    let origin = state.public_origin.clone();
    let work = async move |services: Arc<Services>, Raw(body): Raw, run: Run| {
        run.only_if_sure()?;
        let raw_path = ask.raw_path.clone();
        let ask = CustomAsk { body, ..ask };
        let (there, vendor) = (Arc::clone(&services), Arc::clone(&linked));
        let written = async move { there.passthrough.write_custom(&vendor, ask, most).await };
        let reply = Box::pin(services.directory.write_to_end(&linked, written)).await??;
        let place = Place { origin: origin.as_ref(), access: &linked.access, path: &raw_path };
        Ok(whole(reply, &place))
    };
    write.answer(&caller, &state, work).await
}

fn ask(request: &HttpRequest, body: web::Bytes) -> Result<CustomAsk> {
    // A token of ours may stand anywhere, and no vendor gets one.
    let found = token::anywhere(request.headers(), request.uri().query())?;
    let is_ours = |name: &HeaderName| found.headers.contains(name) || name.as_str().eq_ignore_ascii_case(KEY_HEADER);
    let headers = request.headers().iter().filter(|(name, _)| !is_ours(name));
    Ok(CustomAsk {
        method: method_of(request.method())?,
        raw_path: below(request.uri().path()).to_owned(),
        raw_query: cut(request.uri().query(), OURS, &found.query).map(Cow::into_owned),
        headers: headers.map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec())).collect(),
        body,
        company: company(request)?,
        result: None,
    })
}

/// The path below the account's base: as on all our own routes, one slash at its front is as good as several.
fn below(path: &str) -> &str {
    let path = path.strip_prefix(CUSTOM).unwrap_or_default();
    collapse(path).unwrap_or(path)
}

fn status_of(status: u16) -> Result<StatusCode> {
    StatusCode::from_u16(status).map_err(crate::error::Error::internal)
}

/// The vendor's headers that are handed on, but for these; links lead to the account's place.
fn headers(headers: http::HeaderMap, place: &Place<'_>, without: &[&str]) -> Vec<(String, String)> {
    let headers = response_headers(headers, place);
    let kept = headers.iter().filter(|(name, _)| !without.contains(&name.as_str()) && !OF_THE_SERVER.contains(&name.as_str()));
    kept.filter_map(|(name, value)| Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned()))).collect()
}

/// An answer that was read whole.
fn whole(reply: CustomReply, place: &Place<'_>) -> Reply {
    match reply {
        CustomReply::Json { status, headers: vendors, body } => {
            let mut headers = headers(vendors, place, OF_THE_BODY);
            headers.push(("content-type".into(), envelope::JSON.into()));
            Reply { status, body, headers, ..Reply::default() }
        }
        CustomReply::Whole(answer) => {
            let headers = headers(answer.headers, place, &["content-encoding"]);
            Reply { status: answer.status, body: answer.body.into(), headers, ..Reply::default() }
        }
        CustomReply::Other(answer) => Reply { status: answer.status, ..Reply::default() },
    }
}

/// An answer that is handed on as it comes.
fn stream(mut answer: CustomAnswer, place: &Place<'_>) -> Answer {
    let status = status_of(answer.status)?;
    let length = answer.length();
    let mut response = HttpResponse::build(status);
    for header in headers(std::mem::take(&mut answer.headers), place, &[]) {
        response.append_header(header);
    }
    if matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
        return Ok(response.finish());
    }
    let body =
        try_unfold(answer, async |mut answer| Ok::<_, crate::upstream::Failure>(answer.chunk().await?.map(|c| (c, answer))));
    Ok(match length {
        Some(length) => response.body(SizedStream::new(length, Box::pin(body))),
        None => response.body(BodyStream::new(Box::pin(body))),
    })
}
