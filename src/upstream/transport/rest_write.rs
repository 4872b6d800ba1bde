//! Requests that change something: sent once, with the record in the form the connector says.

use bytes::Bytes;
use http::{HeaderValue, Method, header};
use serde_json::{Map, Value};

use super::{rest, scim_write};
use crate::{
    connector::{BodyTemplate, Get, Position, Request, ResourceDef, Transport, WriteBy, WriteForm, WriteMethod},
    error::VendorAnswer,
    mapping::inexact_number,
    upstream::{
        Access, Context, Failure, HttpAnswer, HttpCall, ListAsk, WriteAsk, WriteVerb, Written, classify,
        write::{Said, judge},
    },
};

/// Writes one record; an error says that nothing was changed.
pub(crate) async fn write(
    context: &Context,
    access: &Access,
    def: &ResourceDef,
    method: &WriteMethod,
    ask: &WriteAsk,
) -> Result<Written, Failure> {
    let WriteBy::Request { request, body, form } = &method.by else {
        return Err(Failure::BadAnswer("this resource is not written by a request".into()));
    };
    let exchange = Exchange { context, access, ask, request };
    if *form == WriteForm::Scim && ask.verb == WriteVerb::Update {
        return scim_write::update(&exchange, def).await;
    }
    let own = body.as_ref().map(|body| exchange.render(body)).transpose()?;
    if *form == WriteForm::Scim && request.method == Method::PATCH {
        return scim_write::members(&exchange, own.unwrap_or_default()).await;
    }
    let sends_record = request.method != Method::DELETE || own.is_some() || !ask.remote_data.is_empty();
    let mut record = own.unwrap_or_else(|| Value::Object(Map::new()));
    for change in &ask.changes {
        match ask.verb {
            WriteVerb::Update => change.put(&mut record),
            _ => change.apply(&mut record),
        }
    }
    merge(&mut record, &ask.remote_data);
    if *form == WriteForm::Scim {
        scim_write::name_extensions(&mut record);
    }
    exchange.finish(exchange.send(request.method.clone(), sends_record.then_some(&record), None).await)
}

/// One write on its way.
pub(super) struct Exchange<'a> {
    pub context: &'a Context,
    pub access: &'a Access,
    pub ask: &'a WriteAsk,
    pub request: &'a Request,
}

impl Exchange<'_> {
    fn value(&self, name: &str) -> Option<&str> {
        self.ask.values.get(name).or_else(|| self.access.fields.get(name)).map(String::as_str)
    }

    fn render(&self, body: &BodyTemplate) -> Result<Value, Failure> {
        body.render(&|name: &str| self.value(name)).map_err(unusable)
    }

    /// Sends the request with this method, body and condition; an answer without a body is as good as one with.
    pub async fn send(&self, method: Method, body: Option<&Value>, if_match: Option<HeaderValue>) -> Result<HttpAnswer, Failure> {
        let path = self.request.path.render(Position::PathSegment, |name| self.value(name)).map_err(unusable)?;
        let mut call = HttpCall { method, ..HttpCall::get(path) };
        for (name, template) in &self.request.query {
            let value = template.render(Position::Query, |name| self.value(name)).map_err(unusable)?;
            call.query.add_rendered(name, &value);
        }
        call.query.add_own(&self.ask.remote_query)?;
        if let Some(body) = body {
            let kind = match self.access.method.transport {
                Transport::Scim => "application/scim+json",
                _ => "application/json",
            };
            call.headers.push((header::CONTENT_TYPE, HeaderValue::from_static(kind)));
            call.body = Some(Bytes::from(body.to_string()));
        }
        call.headers.extend(if_match.map(|tag| (header::IF_MATCH, tag)));
        let answer = self.context.send(self.access, call).await?;
        let is_bare = (200..300).contains(&answer.status) && answer.body.trim_ascii().is_empty();
        match is_bare {
            true => Ok(answer),
            false => classify::classify(self.access, &answer).map(|()| answer),
        }
    }

    /// What the last exchange means for the whole write.
    pub fn finish(&self, sent: Result<HttpAnswer, Failure>) -> Result<Written, Failure> {
        match sent {
            Ok(answer) => {
                let is_record = answer.body.trim_ascii_start().starts_with(b"{");
                let record = is_record.then(|| answer.body.clone());
                Ok(Written { said: Said::Done(classify::vendor_answer(self.access, &answer)), record, before: None })
            }
            Err(failure) => judge(failure).map(Written::said),
        }
    }
}

/// The record as it is, and its entity tag; without the resource's own query when `whole`. An error when there is none.
pub(super) async fn read(
    exchange: &Exchange<'_>,
    get: Option<&Get>,
    whole: bool,
) -> Result<(Value, Option<HeaderValue>), Failure> {
    let Some(Get::Request { request, .. }) = get else {
        return Err(Failure::BadAnswer("this resource is not read one by one".into()));
    };
    let wanted = ListAsk { values: exchange.ask.values.clone(), ..ListAsk::default() };
    let mut call = rest::call(exchange.access, request, &wanted).map_err(unusable)?;
    if whole {
        call.query = Default::default();
    }
    let answer = rest::ask(exchange.context, exchange.access, call, None).await?;
    let record = if whole { to_send_back(&answer.body)? } else { record_of(&answer.body)? };
    let version = record.pointer("/meta/version").and_then(Value::as_str).and_then(|tag| HeaderValue::from_str(tag).ok());
    Ok((record, answer.headers.get(header::ETAG).cloned().or(version)))
}

fn record_of(body: &[u8]) -> Result<Value, Failure> {
    serde_json::from_slice(body).map_err(|_| Failure::BadAnswer("the vendor's record is not JSON".into()))
}

/// A record that goes back as a whole: what this program cannot hold must not come back as something else.
pub(super) fn to_send_back(body: &[u8]) -> Result<Value, Failure> {
    let record = record_of(body)?;
    match inexact_number(body) {
        Some(field) => Err(Failure::BadAnswer(format!("`{field}` has a number that cannot be sent back as it is"))),
        None => Ok(record),
    }
}

fn unusable(error: crate::connector::TemplateError) -> Failure {
    Failure::Unaddressable(error.to_string())
}

/// The caller's own members over the record's, objects within objects.
pub(super) fn merge(record: &mut Value, own: &Map<String, Value>) {
    let Some(members) = record.as_object_mut() else { return };
    for (name, value) in own {
        match (members.get_mut(name), value) {
            (Some(known @ Value::Object(_)), Value::Object(inner)) => merge(known, inner),
            _ => drop(members.insert(name.clone(), value.clone())),
        }
    }
}

/// The status of an answer that is an error.
pub(super) fn status_of(failure: &Failure) -> Option<u16> {
    match failure {
        Failure::Answered { answer: VendorAnswer { status, .. }, .. } => *status,
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_with_a_number_that_would_change_is_not_sent_back() {
        assert_eq!(to_send_back(br#"{"a": 1.10, "b": [18446744073709551615]}"#).unwrap()["a"], 1.1);
        let refused = to_send_back(br#"{"a": {"b": 18446744073709551616}}"#).unwrap_err();
        assert!(matches!(&refused, Failure::BadAnswer(why) if why.contains("`a.b`")), "{refused:?}");
        assert!(to_send_back(b"<html>").is_err());
    }
}
