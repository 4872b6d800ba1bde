//! The transparent client: hyper's connection API with a pool per worker.
//!
//! A pool stays on the thread that made it. Connections are driven by tasks of that thread, so a request and its
//! connection never wake each other across threads, and nothing here is locked.

mod body;
mod connect;
mod idle;

use std::{rc::Rc, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::future::{Either, select};
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri, header, uri::PathAndQuery};
use http_body::Body;
use tokio::time::Instant;

pub use body::{Cut, Pace, PassthroughBody};
use body::{Fault, Progress, Upload};
use idle::{Connection, Host, Hosts, Lease};

use super::{
    Access, Failure, Guard,
    egress::DialError,
    load::{AccountLoad, Lane},
    meters::{Meters, Timed},
    rate,
};

const TE: HeaderValue = HeaderValue::from_static("te");
const CHUNKED: HeaderValue = HeaderValue::from_static("chunked");

/// What a request body may fail with.
pub type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// The connections of one worker thread, by scheme, trust, host and port. Lives where tasks can be spawned locally.
#[derive(Clone)]
pub struct Pool {
    guard: Arc<Guard>,
    hosts: Rc<Hosts>,
    pace: Pace,
    meters: Rc<Meters>,
}

impl Pool {
    /// A pool behind the one guard.
    pub fn new(guard: Arc<Guard>) -> Self {
        Self::with_pace(guard, Pace::default())
    }

    /// A pool with other bounds on how slow bodies may be.
    pub fn with_pace(guard: Arc<Guard>, pace: Pace) -> Self {
        Self { guard, hosts: Rc::new(Hosts::default()), pace, meters: Rc::new(Meters::new("passthrough")) }
    }

    /// Sends one request and gives the answer as soon as its head is there. Its target is checked and holds the base path; its
    /// headers are what the vendor shall see, the credential included; lengths and codings of the body are set here.
    pub fn send<B>(
        &self,
        access: &Access,
        request: Request<B>,
    ) -> impl Future<Output = Result<Response<PassthroughBody>, Failure>>
    where
        B: Body<Data = Bytes> + 'static,
        B::Error: Into<BodyError>,
    {
        self.send_repeatable(access, request, || None)
    }

    /// The same. Where the vendor closed an idle connection as the request arrived on it, and its method may be repeated,
    /// `again` makes the request once more; that is rare, and so a copy of each would be dear.
    pub fn send_repeatable<B>(
        &self,
        access: &Access,
        request: Request<B>,
        again: impl Fn() -> Option<Request<()>>,
    ) -> impl Future<Output = Result<Response<PassthroughBody>, Failure>>
    where
        B: Body<Data = Bytes> + 'static,
        B::Error: Into<BodyError>,
    {
        let (head, body) = request.into_parts();
        self.exchange(access, Draft::new(head, Upload::new(body, self.pace)), again)
    }

    async fn exchange(
        &self,
        access: &Access,
        mut draft: Box<Draft>,
        again: impl Fn() -> Option<Request<()>>,
    ) -> Result<Response<PassthroughBody>, Failure> {
        let host = self.hosts.host(access)?;
        let load = self.guard.load.of(access);
        let permit = match load.try_enter(Lane::Passing) {
            Some(permit) => permit,
            None => Box::pin(load.enter(Lane::Passing)).await?,
        };
        let words = &access.method.limits.rate;
        let store = self.guard.load.store();
        let under_way = if words.hold { Some(Box::pin(load.within_quota(store)).await?) } else { None };
        load.admit()?;
        let mut timed = self.meters.start(access);
        let mut may_reuse = true;
        loop {
            let connected = self.connection(access, &host, may_reuse).await;
            let (mut connection, reused) = connected.inspect_err(|failure| ended(&mut timed, load, failure))?;
            draft.headers.insert(header::HOST, host.header.clone());
            match exchange(&mut connection, draft, access.method.limits.timeout).await {
                Ok((response, upload)) => {
                    let (head, incoming) = response.into_parts();
                    let status = head.status.as_u16();
                    let took = timed.answered(status);
                    drop(under_way);
                    load.answered(status, head.headers.contains_key(header::RETRY_AFTER));
                    if rate::speaks(&head.headers, words) {
                        load.overhear(&rate::read(status, &head.headers, words));
                    }
                    let lease = Lease::new(connection, self.hosts.clone(), host, upload, permit);
                    return Ok(Response::from_parts(head, PassthroughBody::new(incoming, lease, self.pace, took)));
                }
                // The vendor closed the connection while it was idle: once more, on a new one.
                Err(broken) if reused => {
                    draft = broken.repeated(&again).inspect_err(|failure| ended(&mut timed, load, failure))?;
                    may_reuse = false;
                }
                Err(Broken { failure, .. }) => {
                    ended(&mut timed, load, &failure);
                    return Err(failure);
                }
            }
        }
    }

    /// A connection that is ready, and whether it served before.
    async fn connection(&self, access: &Access, host: &Host, may_reuse: bool) -> Result<(Connection, bool), Failure> {
        while may_reuse && let Some(mut connection) = self.hosts.take(host) {
            if connection.sender.ready().await.is_ok() {
                return Ok((connection, true));
            }
        }
        Ok((Box::pin(self.open(access)).await?, false))
    }

    async fn open(&self, access: &Access) -> Result<Connection, Failure> {
        self.guard.check(&access.base).map_err(Failure::Egress)?;
        let host = access.base.host_str().unwrap_or_default();
        let port = access.base.port_or_known_default().unwrap_or(443);
        let stream = self.guard.dial(host, port).await.map_err(|error| match error {
            DialError::Refused(text) => Failure::Egress(text),
            DialError::Unreachable(text) => Failure::Unreachable(text),
        })?;
        connect::open(stream, access).await
    }
}

/// Notes that there was no answer.
fn ended(timed: &mut Timed, load: &AccountLoad, failure: &Failure) {
    timed.failed(failure);
    load.ended(failure);
}

/// One request on one connection, until the head of its answer.
async fn exchange(
    connection: &mut Connection,
    draft: Box<Draft>,
    limit: Duration,
) -> Result<(Response<hyper::body::Incoming>, Progress), Broken> {
    let (upload, may_repeat) = (draft.upload.progress(), draft.may_repeat());
    let sent = connection.sender.try_send_request(draft.into_request());
    tokio::pin!(sent);
    let mut deadline = Instant::now() + limit;
    loop {
        connection.timer.as_mut().reset(deadline);
        match select(sent.as_mut(), connection.timer.as_mut()).await {
            Either::Left((Ok(response), _)) => return Ok((response, upload)),
            Either::Left((Err(mut error), _)) => {
                let mut failure = failure(error.error(), &upload);
                let untouched = may_repeat && matches!(failure, Failure::Broken(_)) && !upload.touched();
                let left = match error.take_message() {
                    Some(unsent) => {
                        // The vendor has seen nothing of it.
                        if let Failure::Broken(why) = failure {
                            failure = Failure::Unreachable(why);
                        }
                        Left::Whole(Draft::from_request(unsent))
                    }
                    None if untouched => Left::Body(upload.again()),
                    None => Left::Nothing,
                };
                return Err(Broken { failure, left });
            }
            // The vendor's time runs from the end of the request, which may take long.
            Either::Right(_) => {
                let ended = if upload.is_over() { upload.ended_at().unwrap_or(deadline - limit) } else { Instant::now() };
                if ended + limit <= Instant::now() {
                    connection.task.abort();
                    return Err(Broken { failure: Failure::TimedOut(limit.as_secs().max(1)), left: Left::Nothing });
                }
                deadline = ended + limit;
            }
        }
    }
}

/// A request on its way out. Boxed: it is handed on several times while it waits for its answer.
struct Draft {
    method: Method,
    target: PathAndQuery,
    headers: HeaderMap,
    upload: Upload,
}

/// Why an exchange failed, and what of its request may be sent again.
struct Broken {
    failure: Failure,
    left: Left,
}

/// What is left of a request that got no answer.
enum Left {
    Nothing,
    /// Its body, of which nobody read a byte.
    Body(Upload),
    /// All of it: none of it was sent.
    Whole(Box<Draft>),
}

impl Broken {
    /// The request for one more try.
    fn repeated(self, again: impl Fn() -> Option<Request<()>>) -> Result<Box<Draft>, Failure> {
        let repeated = match self.left {
            Left::Nothing => None,
            Left::Body(upload) => again().map(|request| Draft::new(request.into_parts().0, upload)),
            Left::Whole(draft) => Some(draft),
        };
        repeated.ok_or(self.failure)
    }
}

impl Draft {
    fn new(head: http::request::Parts, upload: Upload) -> Box<Draft> {
        let mut headers = head.headers;
        for name in [header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::CONNECTION, header::UPGRADE] {
            headers.remove(name);
        }
        // What a client takes of one connection is announced as such (RFC 9110 §10.1.4).
        if headers.contains_key(header::TE) {
            headers.insert(header::CONNECTION, TE);
        }
        // hyper itself sends no body of unknown length with the methods that have none as a rule.
        if !upload.is_end_stream() && upload.size_hint().exact().is_none() {
            headers.insert(header::TRANSFER_ENCODING, CHUNKED);
        }
        let target = head.uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
        Box::new(Draft { method: head.method, target, headers, upload })
    }

    /// Whether the vendor may get it twice.
    fn may_repeat(&self) -> bool {
        matches!(self.method, Method::GET | Method::HEAD | Method::OPTIONS)
    }

    fn into_request(self) -> Request<Upload> {
        let mut request = Request::new(self.upload);
        *request.method_mut() = self.method;
        *request.uri_mut() = Uri::from(self.target);
        *request.headers_mut() = self.headers;
        request
    }

    fn from_request(request: Request<Upload>) -> Box<Draft> {
        let (head, upload) = request.into_parts();
        let target = head.uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
        Box::new(Draft { method: head.method, target, headers: head.headers, upload })
    }
}

fn failure(error: &hyper::Error, upload: &Progress) -> Failure {
    match upload.failed() {
        Some(Fault::Late(cut)) => Failure::Upload(cut.to_string()),
        Some(Fault::Broken(why)) => Failure::UploadBroken(why),
        None if error.is_user() => Failure::UploadBroken("the request body broke off".into()),
        None if error.is_parse() => Failure::BadAnswer("the answer is not HTTP, or its headers are too large".into()),
        None => Failure::Broken("the connection closed before an answer came".into()),
    }
}
