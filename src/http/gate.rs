//! The first middleware: refuses what is framed unsafely, names the request, catches panics, makes problems complete and
//! writes one log line and two metrics for each request.

use std::{
    cell::Cell,
    fmt::Display,
    future::{Ready, ready},
    panic::AssertUnwindSafe,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, Instant, SystemTime},
};

use actix_web::{
    Error as ActixError, HttpMessage, HttpResponse, ResponseError,
    body::{BodySize, BoxBody, EitherBody, MessageBody},
    dev::{Service, ServiceRequest, ServiceResponse, Transform, forward_ready},
    http::{
        ConnectionType, Method, Uri, Version,
        header::{CONTENT_LENGTH, HeaderName, HeaderValue, TRANSFER_ENCODING, UPGRADE},
        uri::PathAndQuery,
    },
};
use bytes::Bytes;
use futures_util::{
    FutureExt,
    future::{Either, LocalBoxFuture},
};
use tokio::time::{Sleep, sleep};
use uuid::Uuid;

use super::{
    flow::{self, Flows},
    framing, limits,
    problem::{self, Problem},
    turn::Turn,
    watch::{Entry, Meters, Watched, Way},
};
use crate::error::{Code, Error, Origin};

/// Between two lines of the log that say that requests are refused.
const WARN_EVERY: Duration = Duration::from_secs(1);
/// How long the last answer of a connection has to leave.
const LEAVE: Duration = Duration::from_millis(20);

/// The id of the request, in its extensions.
#[derive(Clone, Debug)]
pub struct RequestId(pub Rc<str>);

/// Makes the middleware; one per worker.
#[derive(Clone, Debug, Default)]
pub struct Gate {
    public_host: Option<Rc<str>>,
    flows: Arc<Flows>,
}

impl Gate {
    /// `public_host` is `host[:port]` of the public address, when the operator named one.
    pub fn new(public_host: Option<&str>) -> Self {
        Self { public_host: public_host.map(Rc::from), flows: Arc::default() }
    }

    /// Within these bounds.
    pub fn within(self, flows: Arc<Flows>) -> Self {
        Self { flows, ..self }
    }
}

impl<S, B> Transform<S, ServiceRequest> for Gate
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = ActixError> + 'static,
    S::Future: 'static,
    B: MessageBody + Unpin + 'static,
{
    type Response = ServiceResponse<Watched<EitherBody<B>>>;
    type Error = ActixError;
    type Transform = Gated<S>;
    type InitError = ();
    type Future = Ready<Result<Self::Transform, ()>>;

    fn new_transform(&self, service: S) -> Self::Future {
        let ids = Ids { worker: Uuid::now_v7().as_u64_pair().1, count: Cell::new(0) };
        let meters = Rc::new(Meters::of(self.flows.worker()));
        ready(Ok(Gated { service, public_host: self.public_host.clone(), meters, ids, warned: Cell::new(None) }))
    }
}

/// The middleware itself.
pub struct Gated<S> {
    service: S,
    public_host: Option<Rc<str>>,
    meters: Rc<Meters>,
    ids: Ids,
    warned: Cell<Option<Instant>>,
}

/// Request ids: UUIDv7 in form and order, their random part drawn once per worker and counted on from there, because a system
/// call for each request is a price nobody needs to pay for a name that is no secret.
struct Ids {
    worker: u64,
    count: Cell<u64>,
}

impl Ids {
    fn next(&self) -> Rc<str> {
        let count = self.count.replace(self.count.get().wrapping_add(1));
        let random = self.worker.wrapping_add(count.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let millis = u64::try_from(since.as_millis()).unwrap_or_default();
        let mut bytes = [0; 10];
        bytes[..8].copy_from_slice(&random.to_be_bytes());
        bytes[8..].copy_from_slice(&count.to_be_bytes()[6..]);
        let id = uuid::Builder::from_unix_timestamp_millis(millis, &bytes).into_uuid();
        Rc::from(id.simple().encode_lower(&mut Uuid::encode_buffer()) as &str)
    }
}

impl<S, B> Service<ServiceRequest> for Gated<S>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = ActixError> + 'static,
    S::Future: 'static,
    B: MessageBody + Unpin + 'static,
{
    type Response = ServiceResponse<Watched<EitherBody<B>>>;
    type Error = ActixError;
    type Future = LocalBoxFuture<'static, Result<Self::Response, ActixError>>;

    forward_ready!(service);

    fn call(&self, mut request: ServiceRequest) -> Self::Future {
        let started = Instant::now();
        let id: Rc<str> = match framing::sane_id(request.headers()) {
            Some(id) => Rc::from(id),
            None => self.ids.next(),
        };
        self.meters.join(&request);
        let way = match request.path() {
            path if framing::is_probe(path) => Way::Probe,
            path if self.meters.is_full(framing::is_operators(path)) => Way::Shed,
            _ => Way::Call,
        };
        let turn = request.conn_data::<Turn>().cloned();
        if let Some(turn) = &turn {
            turn.begin(request.headers());
        }
        let mut entry = Entry::new(started, Rc::clone(&id), request.method(), Rc::clone(&self.meters), way, turn);
        if way == Way::Shed {
            let response = self.shed(started, &request, &id);
            entry.refused(response.status());
            let response = request.into_response(response).map_into_right_body();
            return Box::pin(ready(Ok(response.map_body(|_, body| Watched::new(body, entry)))));
        }
        if let Err(error) = self.admit(&mut request, entry.turn()) {
            log(&error, &id);
            entry.failed(error.code().row().name);
            let response = Problem::from(error).closing().for_request(Rc::clone(&id)).error_response();
            let response =
                if leaves_http(&request) { response.map_body(|_, body| BoxBody::new(Last::new(body))) } else { response };
            entry.refused(response.status());
            if let Some(turn) = entry.turn() {
                turn.close();
            }
            let response = request.into_response(response).map_into_right_body();
            return Box::pin(ready(Ok(response.map_body(|_, body| Watched::new(body, entry)))));
        }
        request.extensions_mut().insert(RequestId(Rc::clone(&id)));
        // The passthrough notes for itself, at less cost.
        let trace = (!request.path().starts_with(framing::PASSTHROUGH)).then(|| entry.trace());
        let answer = self.service.call(request);
        let answer = match trace {
            Some(trace) => Either::Left(trace.within(answer)),
            None => Either::Right(answer),
        };
        Box::pin(async move {
            let answer = match AssertUnwindSafe(answer).catch_unwind().await {
                Ok(answer) => answer?,
                Err(panic) => {
                    entry.failed(Code::Internal.row().name);
                    return Err(after_panic(panic.as_ref(), &id).into());
                }
            };
            let mut answer = finish(answer, &id, &mut entry);
            if answer.request().version() < Version::HTTP_11 && answer.response().body().size() == BodySize::Stream {
                end_with_connection(answer.response_mut());
            }
            if entry.is_last() {
                answer.response_mut().head_mut().set_connection_type(ConnectionType::Close);
            }
            entry.answered(&answer);
            limits::tell(entry.vendor_limit(), entry.allowance(), answer.headers_mut());
            Ok(answer.map_body(|_, body| Watched::new(body, entry)))
        })
    }
}

impl<S> Gated<S> {
    /// Refuses at once: what is under way shall be finished. What was not read of the request ends its connection.
    fn shed(&self, started: Instant, request: &ServiceRequest, id: &Rc<str>) -> HttpResponse {
        flow::count_shed();
        if self.warned.get().is_none_or(|last| started.saturating_duration_since(last) >= WARN_EVERY) {
            self.warned.set(Some(started));
            tracing::warn!("as many requests are under way as may; others are refused");
        }
        let error = Error::new(Code::Overloaded, "As many requests are under way as this node takes at once.");
        let problem = Problem::from(error).for_request(Rc::clone(id));
        let has_body = [CONTENT_LENGTH, TRANSFER_ENCODING].iter().any(|name| request.headers().contains_key(name));
        if has_body { problem.closing() } else { problem }.error_response()
    }

    fn admit(&self, request: &mut ServiceRequest, turn: Option<&Turn>) -> Result<(), Error> {
        if turn.is_some_and(Turn::is_closing) {
            return Err(Error::new(Code::InvalidRequest, "A request before this one ended the connection."));
        }
        let head = request.head();
        framing::check(&head.method, &head.uri, head.version, &head.headers, self.public_host.as_deref())?;
        let collapsed = framing::collapse(head.uri.path());
        let path = collapsed.unwrap_or(head.uri.path());
        first_segment(path)?;
        // The server itself leaves the body of an answer to HEAD out. The transparent proxy hands HEAD on.
        let is_head = head.method == Method::HEAD && !path.starts_with(framing::PASSTHROUGH);
        if collapsed.is_some() {
            let target = match head.uri.query() {
                Some(query) => format!("{path}?{query}"),
                None => path.to_owned(),
            };
            let uri = Uri::from(PathAndQuery::try_from(target).map_err(Error::internal)?);
            request.match_info_mut().get_mut().update(&uri);
            request.head_mut().uri = uri;
        }
        if is_head {
            request.head_mut().method = Method::GET;
        }
        Ok(())
    }
}

/// Whether what follows this request's head is not HTTP any more, so that no end of it can be waited for.
fn leaves_http(request: &ServiceRequest) -> bool {
    request.head().method == Method::CONNECT || request.headers().contains_key(UPGRADE)
}

/// The last answer of a connection that is then closed, although the client may go on sending. The server itself would go on
/// reading for a while.
struct Last {
    body: BoxBody,
    /// Time for the answer to leave.
    leaves: Option<Pin<Box<Sleep>>>,
}

impl Last {
    fn new(body: BoxBody) -> Self {
        Self { body, leaves: None }
    }
}

impl MessageBody for Last {
    type Error = Box<dyn std::error::Error>;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        let this = self.get_mut();
        if this.leaves.is_none()
            && let Some(next) = ready!(Pin::new(&mut this.body).poll_next(cx))
        {
            return Poll::Ready(Some(next));
        }
        let leaves = this.leaves.get_or_insert_with(|| Box::pin(sleep(LEAVE)));
        leaves.as_mut().poll(cx).map(|()| Some(Err("the connection ends with its last answer".into())))
    }
}

/// Routes are named literally: `/%70roxy/…` is not `/proxy/…`, whatever a router decodes.
fn first_segment(path: &str) -> Result<(), Error> {
    let first = path[1..].split('/').next().unwrap_or_default();
    if first.contains('%') { Err(Error::new(Code::RouteNotFound, "There is no such route.")) } else { Ok(()) }
}

/// HTTP/1.0 knows no chunks: what has no known length ends with the connection. The server's library would send chunks.
fn end_with_connection<B>(response: &mut HttpResponse<B>) {
    response.head_mut().no_chunking(true);
    response.head_mut().set_connection_type(ConnectionType::Close);
}

/// Puts the id on the answer, and makes a problem of every error, whoever made it.
fn finish<B: MessageBody + 'static>(
    answer: ServiceResponse<B>,
    id: &Rc<str>,
    entry: &mut Entry,
) -> ServiceResponse<EitherBody<B, BoxBody>> {
    let transparent = answer.request().path().starts_with(framing::PASSTHROUGH);
    let problem = answer.response().error().map(|error| match error.as_error::<Problem>() {
        Some(problem) => problem.for_request(Rc::clone(id)),
        None => Problem::from(problem::foreign(error, answer.status())).for_request(Rc::clone(id)),
    });
    let mut answer = match problem {
        Some(problem) => {
            log(problem.error(), id);
            entry.failed(problem.error().code().row().name);
            answer.into_response(problem.error_response()).map_into_right_body()
        }
        None => answer.map_into_left_body(),
    };
    if let Ok(value) = HeaderValue::from_str(id) {
        let headers = answer.headers_mut();
        if transparent {
            headers.insert(HeaderName::from_static("rollcall-request-id"), value);
        } else {
            headers.insert(HeaderName::from_static("x-request-id"), value);
        }
    }
    answer
}

fn after_panic(panic: &(dyn std::any::Any + Send), id: &Rc<str>) -> Problem {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    let error = Error::internal(format_args!("panic: {}", text.unwrap_or("without a text")));
    log(&error, id);
    Problem::from(error).for_request(Rc::clone(id))
}

/// The one place where errors are logged; those of an answer that has begun already come here by themselves.
pub fn log(error: &Error, id: &str) {
    let (code, status, detail) = (error.code().row().name, error.http_status(), error.detail());
    let cause: &dyn Display = match error.cause() {
        Some(cause) => &{ cause },
        None => &"",
    };
    if status >= 500 && error.code().row().origin == Origin::Gateway {
        tracing::error!(request_id = id, code, status, detail, cause = %cause, "failed");
    } else if status >= 500 {
        tracing::warn!(request_id = id, code, status, detail, cause = %cause, "the vendor failed");
    } else {
        tracing::debug!(request_id = id, code, status, detail, cause = %cause, "refused");
    }
}
