//! Requests that a connector file declares: list, get, test.

use std::{
    hash::{BuildHasher, RandomState},
    time::Duration,
};

use bytes::Bytes;
use http::Method;
use tokio::time::Instant;
use url::Url;

use crate::{
    connector::{Get, List, ListSource, Meaning, Position, Request, ResourceDef, TemplateError, Transport},
    mapping::{MapError, Records},
    upstream::{Access, Context, Failure, HttpAnswer, HttpCall, ListAsk, RawPage, Tested, classify, page, send},
};

/// All tries of one call together.
const DEADLINE: Duration = Duration::from_secs(120);
/// The longest `Retry-After` a call waits out itself; longer ones are the caller's to know.
const PATIENCE: u64 = 10;

/// Whether the credential works: the connector's own request.
pub(crate) async fn test(context: &Context, access: &Access) -> Result<Tested, Failure> {
    let Some(test) = &access.method.test else { return Ok(Tested::default()) };
    let Some(request) = &test.request else { return Ok(Tested::default()) };
    let call = call(access, request, &ListAsk::default()).map_err(not_made)?;
    let answer = ask(context, access, call, None).await?;
    for path in &test.expect {
        let found = path.text(&answer.body).is_some() || path.elements(&answer.body).is_ok_and(|records| !records.is_empty());
        if !found {
            return Err(Failure::BadAnswer(format!("the vendor's answer has no `{path}`")));
        }
    }
    match &test.visible {
        Some((path, otherwise)) if !path.elements(&answer.body).is_ok_and(|records| !records.is_empty()) => {
            Err(classify::answered(access, &answer, Meaning::Denied, None, Some(otherwise.clone())))
        }
        _ => Ok(Tested::default()),
    }
}

/// One page.
pub(crate) async fn list(
    context: &Context,
    access: &Access,
    resource: &ResourceDef,
    wanted: &ListAsk,
) -> Result<RawPage, Failure> {
    let list = resource.list.as_ref();
    let Some((list, request)) = list.and_then(|list| match &list.source {
        ListSource::Request(request) => Some((list, request)),
        ListSource::Command(_) | ListSource::Of { .. } => None,
    }) else {
        return Err(Failure::BadAnswer("this resource is not listed by a request".into()));
    };
    let plan = page::plan(&list.page, access, wanted)?;
    let mut call = call(access, request, wanted).map_err(not_made)?;
    for (name, value) in &plan.params {
        call.query.set(name, value);
    }
    call.query.add_own(&wanted.remote_query)?;
    let asked = match &plan.address {
        Some(address) => address.clone(),
        None => send::address(access, &call, false)?,
    };
    let answer = ask(context, access, call, plan.address.clone()).await.map_err(|failure| expired(access, failure))?;
    let found = match wanted.mapped {
        true => resource.table.records(&list.records, &answer.body),
        false => list.records.elements(&answer.body).map(Records::from),
    };
    read(access, list, &plan, asked, answer, found)
}

fn read(
    access: &Access,
    list: &List,
    plan: &page::Plan,
    asked: Url,
    answer: HttpAnswer,
    found: Result<Records, MapError>,
) -> Result<RawPage, Failure> {
    let records = match found {
        Ok(records) => records,
        Err(MapError::Shape(_)) if list.absent_is_empty => Records::default(),
        Err(_) if access.method.transport == Transport::Scim && super::scim::is_empty_list(&answer.body) => Records::default(),
        Err(MapError::Shape(_)) if list.absent_is_empty && answer.body.trim_ascii_start().starts_with(b"{") => Records::default(),
        Err(error) => return Err(Failure::BadAnswer(format!("the vendor's list cannot be read: {error}"))),
    };
    if list.not_if_empty && records.ranges.is_empty() {
        return Err(Failure::BadAnswer("the vendor answered with an empty list, which it never does when all is well".into()));
    }
    let next = page::after(&list.page, &page::Read { access, plan, asked: &asked, answer: &answer, records: &records.ranges })?;
    Ok(RawPage { body: answer.body, records, next })
}

/// A cursor of the vendor's own that ended: not the credential's fault, and no sign of broken paging.
fn expired(access: &Access, failure: Failure) -> Failure {
    match failure {
        Failure::Answered { meaning: Meaning::Failed, answer, wait, .. }
            if access.method.transport == Transport::Scim && super::scim::is_cursor_error(&answer.body) =>
        {
            let message = Some("The vendor's cursor has expired: start again without `next_cursor`.".to_owned());
            Failure::Answered { meaning: Meaning::Failed, answer, wait, message }
        }
        other => other,
    }
}

/// One record; `None` where the vendor says there is none.
pub(crate) async fn get(
    context: &Context,
    access: &Access,
    resource: &ResourceDef,
    wanted: &ListAsk,
) -> Result<Option<Bytes>, Failure> {
    let Some(Get::Request { request, record }) = &resource.get else {
        return Err(Failure::BadAnswer("this resource is not read one by one".into()));
    };
    // Such ids would change the path, so no vendor can have a record of that name.
    if wanted.values.values().any(|value| matches!(value.as_str(), "" | "." | "..")) {
        return Ok(None);
    }
    let mut call = match call(access, request, wanted) {
        Err(TemplateError::Character(_)) => return Ok(None),
        made => made.map_err(not_made)?,
    };
    call.query.add_own(&wanted.remote_query)?;
    let answer = match ask(context, access, call, None).await {
        Ok(answer) => answer,
        Err(Failure::Answered { meaning: Meaning::Missing, .. }) => return Ok(None),
        Err(failure) => return Err(failure),
    };
    let found = record
        .elements(&answer.body)
        .map_err(|error| Failure::BadAnswer(format!("the vendor's record cannot be read: {error}")))?;
    match found.as_slice() {
        [one] => Ok(Some(answer.body.slice(one.clone()))),
        [] => Ok(None),
        _ => Err(Failure::BadAnswer("the vendor answered with several records where one was asked for".into())),
    }
}

/// A declared request with its placeholders filled in.
pub(super) fn call(access: &Access, request: &Request, wanted: &ListAsk) -> Result<HttpCall, TemplateError> {
    let value = |name: &str| wanted.values.get(name).or_else(|| access.fields.get(name)).map(String::as_str);
    let mut call = HttpCall::get(request.path.render(Position::PathSegment, value)?);
    call.method = request.method.clone();
    for (name, template) in &request.query {
        call.query.add_rendered(name, &template.render(Position::Query, value)?);
    }
    for (name, value) in &wanted.filters {
        call.query.add_rendered(name, value);
    }
    Ok(call)
}

/// A read whose request cannot be made.
fn not_made(error: TemplateError) -> Failure {
    match error {
        // Such a name would change the request, so no vendor can have a record of it.
        TemplateError::Character(_) => Failure::Absent(error.to_string()),
        error => Failure::BadAnswer(format!("the request cannot be made: {error}")),
    }
}

/// Sends, tries again where that is safe and the connector says so, and judges the answer.
pub(super) async fn ask(context: &Context, access: &Access, call: HttpCall, at: Option<Url>) -> Result<HttpAnswer, Failure> {
    let started = Instant::now();
    let repeatable = call.method == Method::GET || call.method == Method::HEAD;
    context.sender.begin(access);
    let mut attempt = 1;
    let mut first = None;
    loop {
        let sent = match &at {
            Some(url) => context.sender.send_to(access, url.clone(), call.clone()).await,
            None => context.sender.send(access, call.clone()).await,
        };
        let status = sent.as_ref().ok().map(|answer| answer.status);
        let judged = sent.and_then(|answer| classify::classify(access, &answer).map(|()| answer));
        let Err(failure) = judged else { return judged };
        if let Failure::Answered { meaning: Meaning::RateLimited, wait: Some(seconds), .. } = &failure {
            context.sender.slow_down(access, *seconds).await;
        }
        // A retry that was not made says less than what it was for.
        let failure = match (first.take(), failure) {
            (Some(before), Failure::Held { .. } | Failure::Throttled { .. } | Failure::Busy(_)) => return Err(before),
            (_, failure) => failure,
        };
        let pause = match repeatable && attempt < access.method.limits.tries {
            true => pause(access, &failure, status, attempt),
            false => None,
        };
        match pause {
            Some(pause) if started.elapsed() + pause < DEADLINE && context.sender.may_retry(access) => {
                tokio::time::sleep(pause).await;
                first = Some(failure);
            }
            _ => return Err(failure),
        }
        attempt += 1;
    }
}

/// How long to wait before the next try; `None` when there is none.
fn pause(access: &Access, failure: &Failure, status: Option<u16>, attempt: u32) -> Option<Duration> {
    let backoff = jitter(Duration::from_millis(200 << attempt.min(6)));
    let wait = match failure {
        Failure::Cut => return Some(backoff),
        Failure::Answered { wait, .. } => wait,
        _ => return None,
    };
    let listed = access.method.limits.retry_on.contains(&status?);
    match wait {
        Some(seconds) if *seconds <= PATIENCE && (listed || status == Some(429)) => {
            Some(Duration::from_secs(*seconds) + jitter(Duration::from_millis(250)))
        }
        Some(_) => None,
        None => listed.then_some(backoff),
    }
}

/// Anything from nothing to the whole: callers that failed together must not come back together.
fn jitter(most: Duration) -> Duration {
    let random = RandomState::new().hash_one(0u8);
    most.mul_f64((random >> 11) as f64 / (1u64 << 53) as f64)
}
