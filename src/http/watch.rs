//! What operators see of requests: one log line each, a counter and a histogram. Never a query string, a header or a body.

use std::{
    borrow::Cow,
    cell::RefCell,
    collections::HashMap,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use actix_web::{
    HttpMessage,
    body::{BodySize, MessageBody},
    dev::ServiceResponse,
    http::{Method, StatusCode},
};
use bytes::Bytes;
use metrics::{Counter, Histogram, Unit};

use super::{flow::Flow, framing};
use crate::model::AccountId;

/// The account a request was for, in its extensions, for the log line.
#[derive(Clone, Copy, Debug)]
pub struct Concerned(pub AccountId);

/// Label values of requests that no route took.
const UNMATCHED: &str = "other";

const REQUESTS: &str = "rollcall_http_requests_total";
const DURATION: &str = "http_server_request_duration_seconds";

/// Tells operators what the numbers of this file are.
pub fn describe() {
    metrics::describe_counter!(REQUESTS, Unit::Count, "Requests by route, method and hundreds of the status.");
    metrics::describe_histogram!(DURATION, Unit::Seconds, "Requests from the first look until the last byte of the answer.");
}

/// Metric handles by label set, so that a request costs no label allocation.
#[derive(Default)]
pub struct Meters {
    flow: Option<Arc<Flow>>,
    handles: RefCell<HashMap<Labels, (Counter, Histogram)>>,
}

/// Route, method, hundreds of the status.
type Labels = (Cow<'static, str>, Method, u16);

impl Meters {
    /// For a worker whose requests under way are counted here.
    pub fn of(flow: Arc<Flow>) -> Self {
        Self { flow: Some(flow), handles: RefCell::default() }
    }

    /// Whether as many requests are under way as may.
    pub fn is_full(&self) -> bool {
        self.flow.as_ref().is_some_and(|flow| flow.is_full())
    }

    fn record(&self, route: Cow<'static, str>, method: &Method, status: StatusCode, seconds: f64) {
        let class = status.as_u16() / 100;
        let mut handles = self.handles.borrow_mut();
        let key = (route, known(method), class);
        let (counter, histogram) = handles.entry(key).or_insert_with_key(|(route, method, class)| {
            let (route, method, class) = (route.to_string(), method.to_string(), format!("{class}xx"));
            (
                metrics::counter!(REQUESTS, "route" => route.clone(), "method" => method.clone(), "status_class" => class.clone()),
                metrics::histogram!(DURATION, "http_route" => route, "http_request_method" => method, "status_class" => class),
            )
        });
        counter.increment(1);
        histogram.record(seconds);
    }
}

/// Methods of a caller's invention do not become label values.
fn known(method: &Method) -> Method {
    match *method {
        Method::GET | Method::HEAD | Method::POST | Method::PUT | Method::PATCH | Method::DELETE | Method::OPTIONS => {
            method.clone()
        }
        _ => Method::from_bytes(b"other").unwrap_or(Method::TRACE),
    }
}

/// One line of the access log, written when the last byte of the answer is gone or the connection broke.
pub struct Entry {
    started: Instant,
    id: Rc<str>,
    method: Method,
    route: Cow<'static, str>,
    status: StatusCode,
    account: Option<AccountId>,
    bytes: u64,
    whole: bool,
    meters: Rc<Meters>,
}

impl Entry {
    /// Begins at the first look at the request.
    pub fn new(started: Instant, id: Rc<str>, method: &Method, meters: Rc<Meters>, is_probe: bool) -> Self {
        if let Some(flow) = &meters.flow {
            flow.enter(!is_probe);
        }
        Self {
            started,
            id,
            method: method.clone(),
            route: Cow::Borrowed(UNMATCHED),
            status: StatusCode::INTERNAL_SERVER_ERROR,
            account: None,
            bytes: 0,
            whole: false,
            meters,
        }
    }

    /// Notes an answer that no route gave.
    pub fn refused(&mut self, status: StatusCode) {
        self.status = status;
    }

    /// Notes route, account and status.
    pub fn answered<B>(&mut self, answer: &ServiceResponse<B>) {
        let request = answer.request();
        self.status = answer.status();
        self.account = request.extensions().get::<Concerned>().map(|c| c.0);
        self.route = if request.path().starts_with(framing::PASSTHROUGH) {
            Cow::Borrowed("/passthrough/{account_id}/{path}")
        } else {
            request.match_pattern().map_or(Cow::Borrowed(UNMATCHED), Cow::Owned)
        };
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if let Some(flow) = &self.meters.flow {
            flow.leave();
        }
        let elapsed = self.started.elapsed();
        self.meters.record(self.route.clone(), &self.method, self.status, elapsed.as_secs_f64());
        tracing::info!(
            target: "rollcall::access",
            request_id = &*self.id,
            method = self.method.as_str(),
            route = &*self.route,
            status = self.status.as_u16(),
            duration_ms = (elapsed.as_micros() as f64) / 1000.0,
            account = self.account.map(tracing::field::display),
            bytes = self.bytes,
            cut = !self.whole,
        );
    }
}

/// A body that counts what leaves.
pub struct Watched<B> {
    body: B,
    entry: Entry,
}

impl<B: MessageBody> Watched<B> {
    /// The entry is written when the body is dropped.
    pub fn new(body: B, mut entry: Entry) -> Self {
        entry.whole = entry.method == Method::HEAD || matches!(body.size(), BodySize::None | BodySize::Sized(0));
        Self { body, entry }
    }
}

impl<B: MessageBody + Unpin> MessageBody for Watched<B> {
    type Error = B::Error;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        let this = self.get_mut();
        let next = Pin::new(&mut this.body).poll_next(cx);
        match &next {
            Poll::Ready(Some(Ok(chunk))) if this.entry.method != Method::HEAD => this.entry.bytes += chunk.len() as u64,
            Poll::Ready(None) => this.entry.whole = true,
            _ => {}
        }
        next
    }
}
