//! The transparent client: hyper's connection API with a pool per worker.
//!
//! A pool stays on the thread that made it. Connections are driven by tasks of that thread, so a request and its
//! connection never wake each other across threads, and nothing here is locked.

mod body;
mod connect;
mod idle;

use std::{rc::Rc, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri, header, uri::PathAndQuery};
use http_body::Body;
use tokio::time::Instant;

pub use body::{Cut, Pace, PassthroughBody};
use body::{Progress, Upload};
use idle::{Connection, Hosts, Lease, Side};

use super::{Access, Failure, Guard, egress::DialError, load::Lane, meters::Meters, rate};

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
        let side = Side::of(access);
        let ready = self.hosts.host_header(side, access.base.authority()).map(|host| (self.draft(request, host.clone()), host));
        async move {
            let (draft, host) = ready?;
            self.exchange(access, draft, side, host).await
        }
    }

    /// The request as it goes out. Boxed: it is handed on several times while it waits for its answer.
    fn draft<B>(&self, request: Request<B>, host: HeaderValue) -> Box<Draft>
    where
        B: Body<Data = Bytes> + 'static,
        B::Error: Into<BodyError>,
    {
        let (head, body) = request.into_parts();
        let mut headers = head.headers;
        for name in [header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::CONNECTION, header::UPGRADE] {
            headers.remove(name);
        }
        headers.insert(header::HOST, host);
        let target = head.uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
        Box::new(Draft { method: head.method, target, headers, upload: Upload::new(body, self.pace) })
    }

    async fn exchange(
        &self,
        access: &Access,
        mut draft: Box<Draft>,
        side: Side,
        host: HeaderValue,
    ) -> Result<Response<PassthroughBody>, Failure> {
        let load = self.guard.load.of(access);
        let permit = match load.try_enter(Lane::Passing) {
            Some(permit) => permit,
            None => Box::pin(load.enter(Lane::Passing)).await?,
        };
        let words = &access.method.limits.rate;
        let _under_way = if words.hold { Some(Box::pin(load.within_quota(None)).await?) } else { None };
        load.admit()?;
        let mut timed = self.meters.start(access);
        let mut may_reuse = true;
        loop {
            let connected = self.connection(access, side, may_reuse).await;
            let failed = |failure: &Failure| {
                timed.failed(failure);
                load.ended(failure);
            };
            let (mut connection, reused) = connected.inspect_err(failed)?;
            match exchange(&mut connection, draft, reused, access.method.limits.timeout).await {
                Ok((response, upload)) => {
                    let (head, incoming) = response.into_parts();
                    let status = head.status.as_u16();
                    let took = timed.answered(status);
                    load.answered(status, head.headers.contains_key(header::RETRY_AFTER));
                    if rate::speaks(&head.headers, words) {
                        load.overhear(&rate::read(status, &head.headers, words));
                    }
                    let lease = Lease::new(connection, self.hosts.clone(), side, host, upload, permit);
                    return Ok(Response::from_parts(head, PassthroughBody::new(incoming, lease, self.pace, took)));
                }
                // The vendor closed the connection while it was idle: once more, on a new one.
                Err(Broken { draft: Some(again), .. }) if reused => {
                    draft = again;
                    may_reuse = false;
                }
                Err(Broken { failure, .. }) => {
                    timed.failed(&failure);
                    load.ended(&failure);
                    return Err(failure);
                }
            }
        }
    }

    /// A connection that is ready, and whether it served before.
    async fn connection(&self, access: &Access, side: Side, may_reuse: bool) -> Result<(Connection, bool), Failure> {
        while may_reuse && let Some(mut connection) = self.hosts.take(side, access.base.authority()) {
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

/// One request on one connection, until the head of its answer.
async fn exchange(
    connection: &mut Connection,
    draft: Box<Draft>,
    reused: bool,
    limit: Duration,
) -> Result<(Response<hyper::body::Incoming>, Progress), Broken> {
    let upload = draft.upload.progress();
    let spare = draft.spare(reused);
    let sent = connection.sender.try_send_request(draft.into_request());
    tokio::pin!(sent);
    let mut deadline = Instant::now() + limit;
    loop {
        match tokio::time::timeout_at(deadline, &mut sent).await {
            Ok(Ok(response)) => return Ok((response, upload)),
            Ok(Err(mut error)) => {
                let unsent = error.take_message().map(Draft::from_request);
                let failure = failure(error.error(), &upload);
                let repeatable = matches!(failure, Failure::Unreachable(_)) && !upload.touched();
                return Err(Broken { failure, draft: unsent.or(spare.filter(|_| repeatable)) });
            }
            // The vendor's time runs from the end of the request, which may take long.
            Err(_) => {
                let ended = if upload.is_over() { upload.ended_at().unwrap_or(deadline - limit) } else { Instant::now() };
                if ended + limit <= Instant::now() {
                    connection.task.abort();
                    return Err(Broken { failure: Failure::TimedOut(limit.as_secs().max(1)), draft: None });
                }
                deadline = ended + limit;
            }
        }
    }
}

/// A request that can be sent again as long as its body was not touched.
struct Draft {
    method: Method,
    target: PathAndQuery,
    headers: HeaderMap,
    upload: Upload,
}

/// Why an exchange failed, and the request where it may be sent again.
struct Broken {
    failure: Failure,
    draft: Option<Box<Draft>>,
}

impl Draft {
    /// A copy for one more try, for methods that may be repeated.
    fn spare(&self, reused: bool) -> Option<Box<Draft>> {
        let repeatable = matches!(self.method, Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE);
        (reused && repeatable).then(|| {
            Box::new(Draft {
                method: self.method.clone(),
                target: self.target.clone(),
                headers: self.headers.clone(),
                upload: self.upload.again(),
            })
        })
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
        Some(reason) => Failure::Upload(reason.into()),
        None if error.is_user() => Failure::Upload("the request body ended early".into()),
        None if error.is_parse() => Failure::BadAnswer("the answer is not HTTP, or its headers are too large".into()),
        None => Failure::Unreachable("the connection closed before an answer came".into()),
    }
}
