//! What operators see of requests: one log line each, a counter and a histogram. Never a query string, a header or a body.

use std::{
    borrow::Cow,
    cell::{OnceCell, RefCell},
    collections::HashMap,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use actix_web::{
    HttpMessage, HttpRequest,
    body::{BodySize, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    http::{Method, StatusCode},
    web::Data,
};
use bytes::Bytes;
use metrics::{Counter, Histogram, Unit};

use super::{State, flow::Flow, framing, turn::Turn};
use crate::{
    model::{Allowance, Trace, VendorLimit},
    service::{
        Caller,
        request_log::{About, Buffer, Line, RequestId},
    },
};

/// Whose request it is and what it is about, in its extensions, for its line in the logs.
#[derive(Default)]
pub struct Concerned {
    /// Who called.
    pub caller: Option<Arc<Caller>>,
    /// The account.
    pub about: Option<About>,
    /// The vendor's answer in the passthrough, and how long it took.
    pub vendor: Option<(u16, Duration)>,
    /// What is left of the operator's limit that is nearest to its end.
    pub allowance: Option<Box<Allowance>>,
}

impl Concerned {
    /// Notes what is left of a limit, where there is one.
    pub fn spent(request: &HttpRequest, allowance: Option<Allowance>) {
        let Some(allowance) = allowance else { return };
        Concerned::note(request, |concerned| {
            if concerned.allowance.as_ref().is_none_or(|other| other.remaining > allowance.remaining) {
                concerned.allowance = Some(Box::new(allowance));
            }
        });
    }

    /// Notes something of the request.
    pub fn note(request: &HttpRequest, change: impl FnOnce(&mut Concerned)) {
        let mut extensions = request.extensions_mut();
        if let Some(known) = extensions.get_mut::<Concerned>() {
            return change(known);
        }
        let mut new = Concerned::default();
        change(&mut new);
        extensions.insert(new);
    }
}

/// The target of the access log's lines.
pub const ACCESS_LOG: &str = "rollcall::access";

/// Routes of one account whose handlers do not open it.
const OF_ACCOUNT: &str = "/integrated-account/{id}";

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
    buffer: OnceCell<Option<Arc<Buffer>>>,
}

/// Route, method, hundreds of the status.
type Labels = (Cow<'static, str>, Method, u16);

impl Meters {
    /// For a worker whose requests under way are counted here.
    pub fn of(flow: Arc<Flow>) -> Self {
        Self { flow: Some(flow), ..Self::default() }
    }

    /// Lines go to the log of the gateway this worker is of, if it has one.
    pub fn join(&self, request: &ServiceRequest) {
        self.buffer.get_or_init(|| request.app_data::<Data<State>>().map(|state| state.services.log.buffer()));
    }

    /// Whether as many requests are under way as may, of those that are an operator's or not.
    pub fn is_full(&self, is_operators: bool) -> bool {
        self.flow.as_ref().is_some_and(|flow| flow.is_full(is_operators))
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

/// The method's name in a line of the log.
fn name_of(method: &Method) -> Cow<'static, str> {
    match *method {
        Method::GET => Cow::Borrowed("GET"),
        Method::POST => Cow::Borrowed("POST"),
        Method::PATCH => Cow::Borrowed("PATCH"),
        Method::PUT => Cow::Borrowed("PUT"),
        Method::DELETE => Cow::Borrowed("DELETE"),
        _ => Cow::Owned(method.to_string()),
    }
}

/// One line of the access log and of the log of requests, written when the last byte of the answer is gone or the connection broke.
pub struct Entry {
    started: Instant,
    id: Rc<str>,
    method: Method,
    route: Cow<'static, str>,
    status: StatusCode,
    code: Option<&'static str>,
    concerned: Concerned,
    trace: Option<Arc<Trace>>,
    bytes: u64,
    whole: bool,
    meters: Rc<Meters>,
    /// It counts as under way.
    counts: bool,
    turn: Option<Turn>,
}

/// How a request counts as under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// As any.
    Call,
    /// As one that the end does not wait for.
    Probe,
    /// Not at all: it is refused because there are too many.
    Shed,
}

impl Entry {
    /// Begins at the first look at the request; its end is the end of its turn on the connection.
    pub fn new(started: Instant, id: Rc<str>, method: &Method, meters: Rc<Meters>, way: Way, turn: Option<Turn>) -> Self {
        let counts = way != Way::Shed;
        if let Some(flow) = meters.flow.as_ref().filter(|_| counts) {
            flow.enter(way == Way::Call);
        }
        Self {
            counts,
            started,
            id,
            method: method.clone(),
            route: Cow::Borrowed(UNMATCHED),
            status: StatusCode::INTERNAL_SERVER_ERROR,
            code: None,
            concerned: Concerned::default(),
            trace: None,
            bytes: 0,
            whole: false,
            meters,
            turn,
        }
    }

    /// The turn on the connection.
    pub fn turn(&self) -> Option<&Turn> {
        self.turn.as_ref()
    }

    /// Notes an answer that no route gave.
    pub fn refused(&mut self, status: StatusCode) {
        self.status = status;
    }

    /// Notes the code of an error of ours.
    pub fn failed(&mut self, code: &'static str) {
        self.code = Some(code);
    }

    /// From now on what vendors do for this request is noted in its trace.
    pub fn trace(&mut self) -> Arc<Trace> {
        Arc::clone(self.trace.get_or_insert_default())
    }

    /// Whether the connection ends with this answer.
    pub fn is_last(&self) -> bool {
        self.meters.flow.as_ref().is_some_and(|flow| flow.is_draining())
    }

    /// Notes route, account and status.
    pub fn answered<B>(&mut self, answer: &ServiceResponse<B>) {
        let request = answer.request();
        self.status = answer.status();
        if let Some(concerned) = request.extensions_mut().remove::<Concerned>() {
            self.concerned = concerned;
        }
        self.route = if request.path().starts_with(framing::PASSTHROUGH) {
            Cow::Borrowed("/passthrough/{account_id}/{path}")
        } else {
            request.match_pattern().map_or(Cow::Borrowed(UNMATCHED), Cow::Owned)
        };
        if self.concerned.about.is_none() && self.route.starts_with(OF_ACCOUNT) {
            let asked = request.match_info().get("id").and_then(|id| id.parse().ok());
            self.concerned.about = asked.map(About::Asked);
        }
    }

    /// What the answer shall say of the operator's limits.
    pub fn allowance(&self) -> Option<&Allowance> {
        self.concerned.allowance.as_deref()
    }

    /// What the vendor said of its limit; the passthrough's answers say it themselves.
    pub fn vendor_limit(&self) -> Option<VendorLimit> {
        self.trace.as_ref()?.vendor_limit()
    }

    /// The line of the log. A call that needs no token and goes well is nobody's: a probe, a document.
    fn line(&mut self, took: Duration) -> Option<Line> {
        let Concerned { caller, about, vendor, .. } = std::mem::take(&mut self.concerned);
        if caller.is_none() && self.status.as_u16() < 400 {
            return None;
        }
        let (vendor_status, vendor_took) = match (&vendor, &self.trace) {
            (Some((status, took)), _) => (Some(*status), Some(*took)),
            (None, Some(trace)) => (trace.vendor_status(), trace.vendor_took()),
            (None, None) => (None, None),
        };
        Some(Line {
            ended: self.started + took,
            request_id: RequestId::of(&self.id),
            caller,
            about,
            route: std::mem::replace(&mut self.route, Cow::Borrowed(UNMATCHED)),
            method: name_of(&self.method),
            status: self.status.as_u16(),
            code: self.code,
            vendor_status,
            took,
            vendor_took,
            pages: self.trace.as_ref().map_or(0, |trace| trace.pages()),
            bytes: self.bytes,
            cut: !self.whole,
        })
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if let Some(turn) = &self.turn {
            turn.end();
        }
        if let Some(flow) = self.meters.flow.as_ref().filter(|_| self.counts) {
            flow.leave();
        }
        let elapsed = self.started.elapsed();
        self.meters.record(self.route.clone(), &self.method, self.status, elapsed.as_secs_f64());
        tracing::info!(
            target: ACCESS_LOG,
            request_id = &*self.id,
            method = self.method.as_str(),
            route = &*self.route,
            status = self.status.as_u16(),
            duration_ms = (elapsed.as_micros() as f64) / 1000.0,
            account = self.concerned.about.as_ref().map(|about| tracing::field::display(about.account())),
            bytes = self.bytes,
            cut = !self.whole,
        );
        let meters = Rc::clone(&self.meters);
        if let Some(buffer) = meters.buffer.get().and_then(Option::as_ref)
            && let Some(line) = self.line(elapsed)
        {
            buffer.push(line);
        }
    }
}

/// What the server gets of a body at once, bytes: it copies each piece, and keeps the copy for as long as a client reads slowly.
const PIECE: usize = 64 * 1024;

/// A body that counts what leaves, and goes in pieces.
pub struct Watched<B> {
    body: B,
    /// What is left of the body's own last piece.
    rest: Bytes,
    entry: Entry,
}

impl<B: MessageBody> Watched<B> {
    /// The entry is written when the body is dropped.
    pub fn new(body: B, mut entry: Entry) -> Self {
        entry.whole = entry.method == Method::HEAD || matches!(body.size(), BodySize::None | BodySize::Sized(0));
        Self { body, rest: Bytes::new(), entry }
    }
}

impl<B: MessageBody + Unpin> MessageBody for Watched<B> {
    type Error = B::Error;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        let this = self.get_mut();
        if this.rest.is_empty() {
            let body = Pin::new(&mut this.body);
            let next = match &this.entry.trace {
                Some(trace) => trace.step(|| body.poll_next(cx)),
                None => body.poll_next(cx),
            };
            match next {
                Poll::Ready(Some(Ok(bytes))) => this.rest = bytes,
                Poll::Ready(None) => {
                    this.entry.whole = true;
                    return Poll::Ready(None);
                }
                other => return other,
            }
        }
        let piece = this.rest.split_to(this.rest.len().min(PIECE));
        if this.entry.method != Method::HEAD {
            this.entry.bytes += piece.len() as u64;
        }
        Poll::Ready(Some(Ok(piece)))
    }
}
