//! How answers are wrapped. Lists of the data plane are written around the service's bytes without reading them again.

use std::{fmt::Display, str::FromStr};

use actix_web::{
    HttpResponse, HttpResponseBuilder,
    http::{StatusCode, header},
};
use serde::Serialize;
use serde_json::json;

use super::{Answer, Problem, query::PlatformList};
use crate::{
    error::Error,
    model::{EnvironmentId, FilterReport, Warning},
    service::{ListPage, OneRecord, PlatformCursors, Reply, Services},
    store::repo::Listed,
};

/// The media type of everything but errors.
pub const JSON: &str = "application/json";

/// The warning of a list that lacks records of a later release.
const LACKING: &str = "later_release";

/// Names warnings of an answer that has no place for them.
pub const WARNING_HEADER: &str = "rollcall-warning";

#[derive(Serialize)]
struct Tail<'a> {
    next_cursor: Option<&'a str>,
    prev_cursor: Option<&'a str>,
    result_count: usize,
    is_partial_response: bool,
    complete: bool,
    warnings: &'a [Warning],
    filters: &'a FilterReport,
}

/// A page of the data plane.
pub fn list(page: ListPage) -> Answer {
    let tail = Tail {
        next_cursor: page.next_cursor.as_deref(),
        prev_cursor: None,
        result_count: page.count,
        is_partial_response: page.is_partial,
        complete: page.complete,
        warnings: &page.warnings,
        filters: &page.filters,
    };
    let tail = serde_json::to_vec(&tail).map_err(Error::internal)?;
    let mut body = Vec::with_capacity(page.result.len() + tail.len() + 16);
    body.extend_from_slice(b"{\"result\":");
    body.extend_from_slice(&page.result);
    if let Some(debug) = &page.debug {
        body.extend_from_slice(b",\"debug\":");
        body.extend_from_slice(debug);
    }
    body.push(b',');
    body.extend_from_slice(&tail[1..]);
    Ok(HttpResponse::Ok().content_type(JSON).body(body))
}

/// One record: bare, because Truto's SDKs read it so, or in an envelope, which `debug` always has.
pub fn one(record: OneRecord, envelope: bool) -> Answer {
    let mut response = HttpResponse::Ok();
    for warning in &record.warnings {
        response.append_header((WARNING_HEADER, warning.code.as_str()));
    }
    Ok(response.content_type(JSON).body(body_of(record, envelope)?))
}

fn body_of(record: OneRecord, envelope: bool) -> Result<Vec<u8>, Error> {
    if !envelope && record.debug.is_none() {
        return Ok(record.body);
    }
    let warnings = serde_json::to_vec(&record.warnings).map_err(Error::internal)?;
    let mut body = [b"{\"result\":".as_slice(), &record.body, b",\"warnings\":", &warnings].concat();
    if let Some(debug) = &record.debug {
        body.extend_from_slice(b",\"debug\":");
        body.extend_from_slice(debug);
    }
    body.push(b'}');
    Ok(body)
}

/// One call for a list of the gateway's own objects: where it begins, and how its page is wrapped.
pub struct Platform<'a> {
    cursors: &'a PlatformCursors,
    environment: EnvironmentId,
    list: &'static str,
    query: &'a PlatformList,
}

impl<'a> Platform<'a> {
    /// `list` names the list in its cursors.
    pub fn new(services: &'a Services, environment: EnvironmentId, list: &'static str, query: &'a PlatformList) -> Self {
        Self { cursors: &services.cursors, environment, list, query }
    }

    /// The object this page begins after; none for the first page.
    pub fn after<T: FromStr>(&self) -> Result<Option<T>, Error> {
        self.query.cursor.as_deref().map(|text| self.cursors.open(self.environment, self.list, text)).transpose()
    }

    /// The page; `next` is the object the next one begins after.
    pub fn page<T: Serialize>(&self, result: Vec<T>, next: Option<impl Display>) -> Answer {
        self.page_of(Listed { records: result, unreadable: 0 }, next)
    }

    /// The same of records that there may be more of.
    pub fn page_of<T: Serialize>(&self, result: Listed<T>, next: Option<impl Display>) -> Answer {
        #[derive(Serialize)]
        struct Page<T> {
            result: Vec<T>,
            next_cursor: Option<String>,
            limit: usize,
        }
        let next_cursor = next.map(|next| self.cursors.seal(self.environment, self.list, next));
        let page = Page { result: result.records, next_cursor, limit: self.query.limit };
        Ok(lacking(object(&page)?, result.unreadable))
    }

    /// The page, cut out of a list that is in memory as a whole, in the order of its keys.
    pub fn slice<T: Serialize>(&self, all: impl Iterator<Item = (String, T)>) -> Answer {
        self.slice_of(all, 0)
    }

    /// The same of a list that lacks so many records.
    pub fn slice_of<T: Serialize>(&self, all: impl Iterator<Item = (String, T)>, unreadable: usize) -> Answer {
        let after: Option<String> = self.after()?;
        let mut rest = all.filter(|(key, _)| after.as_ref().is_none_or(|after| key > after)).peekable();
        let (keys, records): (Vec<_>, Vec<_>) = rest.by_ref().take(self.query.limit).unzip();
        let more = rest.peek().is_some();
        self.page_of(Listed { records, unreadable }, keys.last().filter(|_| more))
    }
}

/// Says of a list that it lacks records which this release cannot read.
pub fn lacking(mut answer: HttpResponse, unreadable: usize) -> HttpResponse {
    if unreadable > 0 {
        let name = header::HeaderName::from_static(WARNING_HEADER);
        answer.headers_mut().append(name, header::HeaderValue::from_static(LACKING));
    }
    answer
}

/// Any object of ours.
pub fn object<T: Serialize>(value: &T) -> Answer {
    json_answer(StatusCode::OK, value)
}

/// What a write that made an object answers.
pub fn created<T: Serialize>(value: &T) -> Result<Reply, Error> {
    reply(StatusCode::CREATED, value)
}

/// What a write that changed an object answers.
pub fn changed<T: Serialize>(value: &T) -> Result<Reply, Error> {
    reply(StatusCode::OK, value)
}

/// The same with a secret in it, which is shown this once and which nobody on the way keeps.
pub fn shown_once(reply: Reply) -> Reply {
    Reply { headers: vec![(header::CACHE_CONTROL.to_string(), "no-store".to_owned())], ..reply }
}

/// What a delete answers.
pub fn deleted(id: &str) -> Result<Reply, Error> {
    reply(StatusCode::OK, &json!({ "id": id }))
}

fn reply<T: Serialize>(status: StatusCode, value: &T) -> Result<Reply, Error> {
    let body = serde_json::to_vec(value).map_err(Error::internal)?;
    Ok(Reply { status: status.as_u16(), body, ..Reply::default() })
}

/// What a write at a vendor answers: the record as it is, wrapped as [`one`] wraps it.
pub fn written(status: StatusCode, record: OneRecord, envelope: bool) -> Result<Reply, Error> {
    let names = record.warnings.iter().map(|warning| warning.code.clone()).collect();
    Ok(Reply { status: status.as_u16(), body: body_of(record, envelope)?, warnings: names, ..Reply::default() })
}

/// What a delete at a vendor answers.
pub fn taken_away(id: &str, warnings: &[Warning]) -> Result<Reply, Error> {
    let names = warnings.iter().map(|warning| warning.code.clone()).collect();
    Ok(Reply { warnings: names, ..deleted(id)? })
}

fn json_answer<T: Serialize>(status: StatusCode, value: &T) -> Answer {
    let body = serde_json::to_vec(value).map_err(|error| Problem::from(Error::internal(error)))?;
    Ok(HttpResponseBuilder::new(status).content_type(JSON).body(body))
}
