//! Bodies in both directions: streamed, without a bound on size or time, but never idle for long and never a mere drip.

use std::{
    cell::{Cell, RefCell},
    future::Future,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

use super::{BodyError, idle::Lease};

/// How slow a body may be. Only time spent waiting for it counts, not time in which nobody asked.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// The longest wait for the next byte.
    pub idle: Duration,
    /// Waiting time after which `least` bytes must have come, again and again.
    pub window: Duration,
    /// See `window`.
    pub least: u64,
}

impl Default for Pace {
    fn default() -> Self {
        Self { idle: Duration::from_secs(30), window: Duration::from_secs(60), least: 240 }
    }
}

/// A body that is too slow, or ended before its end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Cut(&'static str);

impl Cut {
    /// For whoever reads a body on its way.
    pub(in crate::upstream) fn of(why: &'static str) -> Self {
        Self(why)
    }
}

/// Why a request body did not come whole.
#[derive(Clone)]
pub(super) enum Fault {
    /// Its sender does not keep the pace.
    Late(Cut),
    /// Its sender went away, or framed it wrongly.
    Broken(String),
}

/// Watches one body. Costs nothing while bytes are there when they are asked for.
struct Watch {
    pace: Pace,
    timer: Option<Pin<Box<Sleep>>>,
    since: Option<Instant>,
    waited: Duration,
    bytes: u64,
}

impl Watch {
    fn new(pace: Pace) -> Self {
        Self { pace, timer: None, since: None, waited: Duration::ZERO, bytes: 0 }
    }

    fn came(&mut self, bytes: usize) {
        if let Some(since) = self.since.take() {
            self.waited += since.elapsed();
        }
        self.bytes += bytes as u64;
    }

    /// Ready when the body is given up.
    fn wait(&mut self, cx: &mut Context<'_>) -> Poll<Cut> {
        loop {
            let since = *self.since.get_or_insert_with(Instant::now);
            let idle_ends = since + self.pace.idle;
            let window_ends = since + self.pace.window.saturating_sub(self.waited);
            let due = idle_ends.min(window_ends);
            let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
            if timer.deadline() > due {
                timer.as_mut().reset(due);
            }
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            let now = Instant::now();
            if now >= idle_ends {
                return Poll::Ready(Cut("no more of the body came in time"));
            }
            if now >= window_ends {
                if self.bytes < self.pace.least {
                    return Poll::Ready(Cut("the body came too slowly"));
                }
                (self.waited, self.bytes, self.since) = (Duration::ZERO, 0, Some(now));
            }
            // The timer may have run for an earlier wait; once more with the right end.
            self.timer = None;
        }
    }
}

type Boxed = Pin<Box<dyn Body<Data = Bytes, Error = BodyError>>>;

/// What the sender knows of a request body while hyper holds it.
pub(super) struct UploadState {
    body: RefCell<Option<Boxed>>,
    watch: RefCell<Watch>,
    touched: Cell<bool>,
    ended: Cell<Option<Instant>>,
    failed: RefCell<Option<Fault>>,
}

/// A request body. Bodies without bytes cost no allocation.
pub(super) struct Upload {
    state: Option<Rc<UploadState>>,
}

impl Upload {
    pub(super) fn new<B>(body: B, pace: Pace) -> Self
    where
        B: Body<Data = Bytes> + 'static,
        B::Error: Into<BodyError>,
    {
        let state = (!body.is_end_stream()).then(|| {
            let body: Boxed = Box::pin(body.map_err(Into::into));
            Rc::new(UploadState {
                body: RefCell::new(Some(body)),
                watch: RefCell::new(Watch::new(pace)),
                touched: Cell::new(false),
                ended: Cell::new(None),
                failed: RefCell::new(None),
            })
        });
        Self { state }
    }

    pub(super) fn progress(&self) -> Progress {
        Progress(self.state.clone())
    }
}

/// How far a request body is.
pub(super) struct Progress(Option<Rc<UploadState>>);

impl Progress {
    /// The same body for another try; only sensible while it is untouched.
    pub(super) fn again(self) -> Upload {
        Upload { state: self.0 }
    }

    /// Whether any of it was read.
    pub(super) fn touched(&self) -> bool {
        self.0.as_ref().is_some_and(|state| state.touched.get())
    }

    /// Whether it was sent whole.
    pub(super) fn is_over(&self) -> bool {
        self.0.as_ref().is_none_or(|state| state.ended.get().is_some())
    }

    /// When it ended, where it took time at all.
    pub(super) fn ended_at(&self) -> Option<Instant> {
        self.0.as_ref().and_then(|state| state.ended.get())
    }

    /// Why it broke.
    pub(super) fn failed(&self) -> Option<Fault> {
        self.0.as_ref().and_then(|state| state.failed.borrow().clone())
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Some(state) = &self.state else { return Poll::Ready(None) };
        state.touched.set(true);
        let mut slot = state.body.borrow_mut();
        let Some(body) = slot.as_mut() else { return Poll::Ready(None) };
        match body.as_mut().poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                state.watch.borrow_mut().came(frame.data_ref().map_or(0, Bytes::len));
                if body.is_end_stream() {
                    state.ended.set(Some(Instant::now()));
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(None) => {
                state.ended.set(Some(Instant::now()));
                *slot = None;
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(error))) => {
                state.failed.replace(Some(Fault::Broken(error.to_string())));
                Poll::Ready(Some(Err(error)))
            }
            Poll::Pending => match state.watch.borrow_mut().wait(cx) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(cut) => {
                    state.failed.replace(Some(Fault::Late(cut.clone())));
                    Poll::Ready(Some(Err(cut.into())))
                }
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        let Some(state) = &self.state else { return true };
        state.body.borrow().as_ref().is_none_or(|body| body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        let Some(state) = &self.state else { return SizeHint::with_exact(0) };
        state.body.borrow().as_ref().map_or_else(|| SizeHint::with_exact(0), |body| body.size_hint())
    }
}

/// A vendor's body on its way to the client. Read to its end, its connection serves the next request; dropped before,
/// the connection is closed.
pub struct PassthroughBody {
    incoming: Incoming,
    lease: Option<Lease>,
    watch: Watch,
    took: Duration,
}

impl PassthroughBody {
    pub(super) fn new(incoming: Incoming, lease: Lease, pace: Pace, took: Duration) -> Self {
        let mut body = Self { incoming, lease: Some(lease), watch: Watch::new(pace), took };
        body.finish_if_over();
        body
    }

    /// How long the vendor took until the head of the answer.
    pub fn took(&self) -> Duration {
        self.took
    }

    fn finish_if_over(&mut self) {
        if self.incoming.is_end_stream()
            && let Some(lease) = self.lease.take()
        {
            lease.give_back();
        }
    }
}

impl Body for PassthroughBody {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let this = &mut *self;
        match Pin::new(&mut this.incoming).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                this.watch.came(frame.data_ref().map_or(0, Bytes::len));
                this.finish_if_over();
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(None) => {
                if let Some(lease) = this.lease.take() {
                    lease.give_back();
                }
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(_))) => {
                this.lease = None;
                Poll::Ready(Some(Err(Cut("the vendor's answer ended early"))))
            }
            Poll::Pending => match this.watch.wait(cx) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(cut) => {
                    this.lease = None;
                    Poll::Ready(Some(Err(cut)))
                }
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
