//! A declared request with the caller's own body, as it is: `/proxy` writes and methods of the vendor's own.

use bytes::Bytes;
use http::{HeaderValue, header};

use super::rest;
use crate::{
    connector::{Request, TemplateError, Transport},
    upstream::{Access, Context, Failure, HttpAnswer, ListAsk, write::VerbatimAsk},
};

/// The value that names the record.
const ID: &str = "id";

/// Sends it once; an answer without a body is as good as one with.
pub(crate) async fn send(
    context: &Context,
    access: &Access,
    request: &Request,
    ask: &VerbatimAsk,
) -> Result<HttpAnswer, Failure> {
    let wanted = ListAsk { values: ask.values.clone(), ..ListAsk::default() };
    let mut call = rest::call(access, request, &wanted).map_err(unusable)?;
    call.query.add_own(&ask.remote_query)?;
    if let Some(body) = &ask.body {
        let kind = match access.method.transport {
            Transport::Scim => "application/scim+json",
            _ => "application/json",
        };
        call.headers.push((header::CONTENT_TYPE, HeaderValue::from_static(kind)));
        call.body = Some(Bytes::clone(body));
    }
    let answer = context.send(access, call).await?;
    answer.judged(access).map(|()| answer)
}

/// Only a value of the caller's keeps a declared request from being made; no record has such an id.
fn unusable(error: TemplateError) -> Failure {
    let reason = format!("the request cannot be made: {error}");
    match error {
        TemplateError::Character(field) if field == ID => Failure::Unaddressable(reason),
        TemplateError::Character(field) | TemplateError::Missing(field) | TemplateError::Syntax(field) => {
            Failure::Unsendable { field, reason }
        }
    }
}
