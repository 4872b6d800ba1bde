//! Between actix' types and those of `http` 1: bodies of the passthrough in both directions, never collected.

use std::{
    cell::RefCell,
    mem,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, ready},
};

use actix_web::{
    body::{BodySize, MessageBody},
    http::{
        Method, StatusCode,
        header::{CONTENT_LENGTH, HeaderMap, TRANSFER_ENCODING},
    },
    web::Payload,
};
use bytes::{Bytes, BytesMut};
use futures_util::Stream;
use http::HeaderName;
use http_body::{Body, Frame, SizeHint};

use super::{
    body::BodyError,
    token,
    turn::{MAX_TRAILER_BYTES, Turn},
};
use crate::{
    error::{Code, Error, Result},
    upstream::{
        Access,
        headers::response_trailers,
        json_links::{JsonLinks, forget_bytes},
    },
};

/// The most fields behind a body.
const MAX_FIELDS: usize = 64;

/// How much of a body is kept for a second time.
const COPIED: usize = 64 * 1024;

/// A client's body on its way to the vendor. Its pace is watched by whoever sends it.
pub struct RequestBody {
    source: Source,
    length: Option<u64>,
    trailing: Option<Box<Trailing>>,
    copy: Option<Rc<RefCell<Copied>>>,
}

/// What went out of a body, for a vendor that may want it a second time.
#[derive(Default)]
pub struct Copied {
    bytes: BytesMut,
    trailers: Option<http::HeaderMap>,
    is_over: bool,
    is_too_long: bool,
}

/// Where the fields behind a body come from, and which of them pass.
pub struct Trailing {
    /// The client's connection.
    pub turn: Turn,
    /// The names of those that pass.
    pub names: Vec<HeaderName>,
}

enum Source {
    Whole(Option<Bytes>),
    Stream(Payload),
    Copied(Copied),
}

impl RequestBody {
    /// Streams what the client sends; framed for the vendor as the client framed it.
    pub fn stream(headers: &HeaderMap, payload: Payload) -> Self {
        let declared = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        match (declared, headers.contains_key(TRANSFER_ENCODING)) {
            (None, false) => Self::whole(Bytes::new()),
            (length, _) => Self { source: Source::Stream(payload), length, trailing: None, copy: None },
        }
    }

    /// The same body with these fields behind it.
    pub fn followed_by(self, trailing: Option<Trailing>) -> Self {
        Self { trailing: trailing.map(Box::new), ..self }
    }

    /// A body that was read.
    pub fn whole(body: Bytes) -> Self {
        let length = Some(body.len() as u64);
        Self { source: Source::Whole(Some(body).filter(|b| !b.is_empty())), length, trailing: None, copy: None }
    }

    /// The same body, of which a copy is made as it goes out.
    pub fn copied(self) -> (Self, BodyCopy) {
        let copied = Rc::default();
        let copy = BodyCopy { length: self.length, copied: Rc::clone(&copied) };
        (Self { copy: Some(copied), ..self }, copy)
    }

    fn poll_source(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let payload = match &mut self.source {
            Source::Whole(whole) => return Poll::Ready(whole.take().map(|bytes| Ok(Frame::data(bytes)))),
            Source::Copied(copied) => return Poll::Ready(copied.next().map(Ok)),
            Source::Stream(payload) => payload,
        };
        if let Some(chunk) = ready!(Pin::new(payload).poll_next(cx)) {
            return Poll::Ready(Some(chunk.map(Frame::data).map_err(|error| BodyError::Broken(error.to_string()))));
        }
        self.source = Source::Whole(None);
        let trailers = self.trailing.take().and_then(|trailing| trailing.read().transpose());
        Poll::Ready(trailers.map(|trailers| trailers.map(Frame::trailers)))
    }
}

/// The copy of a body that goes out.
pub struct BodyCopy {
    length: Option<u64>,
    copied: Rc<RefCell<Copied>>,
}

impl BodyCopy {
    /// The body for a second time; none when it was too long for a copy, or did not go out to its end.
    pub fn again(self) -> Option<RequestBody> {
        let copied = self.copied.take();
        let is_whole = copied.is_over || self.length == Some(copied.bytes.len() as u64);
        let again = |copied| RequestBody { source: Source::Copied(copied), length: self.length, trailing: None, copy: None };
        (is_whole && !copied.is_too_long).then_some(copied).map(again)
    }
}

impl Copied {
    fn note(&mut self, frame: Option<&Frame<Bytes>>) {
        let Some(frame) = frame else {
            self.is_over = true;
            return;
        };
        if let Some(data) = frame.data_ref() {
            self.is_too_long |= self.bytes.len() + data.len() > COPIED;
            match self.is_too_long {
                true => self.bytes = BytesMut::new(),
                false => self.bytes.extend_from_slice(data),
            }
        }
        if let Some(trailers) = frame.trailers_ref() {
            self.trailers = Some(trailers.clone());
            self.is_over = true;
        }
    }

    fn next(&mut self) -> Option<Frame<Bytes>> {
        let data = Some(mem::take(&mut self.bytes).freeze()).filter(|data| !data.is_empty()).map(Frame::data);
        data.or_else(|| self.trailers.take().map(Frame::trailers))
    }
}

impl Trailing {
    /// What came behind the body and may pass; nothing where that is nothing.
    fn read(&self) -> std::result::Result<Option<http::HeaderMap>, BodyError> {
        let broken = || {
            let why = format!("what stands behind it is no list of at most {MAX_FIELDS} fields and {MAX_TRAILER_BYTES} bytes");
            BodyError::Broken(why)
        };
        let lines = self.turn.trailers().ok_or_else(broken)?;
        let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
        let Ok(httparse::Status::Complete((_, fields))) = httparse::parse_headers(&lines, &mut fields) else {
            return Err(broken());
        };
        let mut passed = http::HeaderMap::new();
        for field in fields {
            let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| broken())?;
            let holds_token = std::str::from_utf8(field.value).is_ok_and(token::stands_in);
            if self.names.contains(&name) && !holds_token {
                passed.append(name, http::HeaderValue::from_bytes(field.value).map_err(|_| broken())?);
            }
        }
        Ok(Some(passed).filter(|passed| !passed.is_empty()))
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let next = ready!(this.poll_source(cx));
        if let Some(copy) = &this.copy {
            match &next {
                None => copy.borrow_mut().note(None),
                Some(Ok(frame)) => copy.borrow_mut().note(Some(frame)),
                Some(Err(_)) => {}
            }
        }
        Poll::Ready(next)
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.source, Source::Whole(None)) || self.length == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        self.length.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

/// A vendor's body on its way to the client.
pub struct ReplyBody<B> {
    body: B,
    size: BodySize,
    links: Option<Box<JsonLinks>>,
    chunks: Option<Box<Chunks>>,
}

impl<B> ReplyBody<B> {
    /// The length comes from the vendor's head: what a body says after its first chunk is what is left. Links are rewritten
    /// where somebody is given for it.
    pub fn new(body: B, headers: &http::HeaderMap, is_head: bool, status: StatusCode, links: Option<Box<JsonLinks>>) -> Self {
        let declared = headers.get(http::header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        let bodiless = matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        let size = match declared {
            _ if bodiless => BodySize::None,
            Some(length) => BodySize::Sized(length),
            None if is_head => BodySize::None,
            None => BodySize::Stream,
        };
        Self { body, size, links, chunks: None }
    }

    /// Frames the body here and says so, where it is of no known length: the web server's library writes no trailers.
    pub fn chunked(&mut self, access: &Arc<Access>) -> bool {
        let is_chunked = self.size == BodySize::Stream;
        self.chunks = is_chunked.then(|| Box::new(Chunks::new(Arc::clone(access), self.links.is_some())));
        is_chunked
    }

    fn pass(&mut self, data: Bytes) -> Result<Bytes, Box<dyn std::error::Error>> {
        match &mut self.links {
            Some(links) => Ok(links.push(data)?),
            None => Ok(data),
        }
    }
}

impl<B> MessageBody for ReplyBody<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error>>,
{
    type Error = Box<dyn std::error::Error>;

    fn size(&self) -> BodySize {
        self.size
    }

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        let this = self.get_mut();
        match this.chunks.as_mut().map(|chunks| chunks.next()) {
            None => this.poll_data(cx),
            Some(Next::Held(bytes)) => Poll::Ready(Some(Ok(bytes))),
            Some(Next::Over) => Poll::Ready(None),
            Some(Next::Body) => {
                let data = ready!(this.poll_data(cx)).transpose()?;
                Poll::Ready(this.chunks.as_mut().map(|chunks| Ok(chunks.frame(data))))
            }
        }
    }
}

impl<B> ReplyBody<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error>>,
{
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Box<dyn std::error::Error>>>> {
        loop {
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                None => {
                    let rest = self.links.take().map(|mut links| links.end()).filter(|rest| !rest.is_empty());
                    return Poll::Ready(rest.map(Ok));
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => match self.pass(data) {
                        Ok(data) if data.is_empty() => {}
                        passed => return Poll::Ready(Some(passed)),
                    },
                    Err(frame) => {
                        if let (Some(chunks), Ok(trailers)) = (&mut self.chunks, frame.into_trailers()) {
                            chunks.trailers = trailers;
                        }
                    }
                },
            }
        }
    }
}

/// A body in chunks, with what the vendor wrote behind it (RFC 9112 §7.1).
struct Chunks {
    access: Arc<Access>,
    /// The bytes are not the vendor's.
    changed: bool,
    trailers: http::HeaderMap,
    state: Framing,
}

enum Framing {
    /// Nothing was sent.
    Start,
    /// A chunk whose size was sent.
    Sized(Bytes),
    /// A chunk was sent, but for the end of its line.
    Sent,
    /// The last chunk was sent.
    Over,
}

/// What comes next of a body in chunks.
enum Next {
    Held(Bytes),
    Body,
    Over,
}

impl Chunks {
    fn new(access: Arc<Access>, changed: bool) -> Self {
        Self { access, changed, trailers: http::HeaderMap::new(), state: Framing::Start }
    }

    fn next(&mut self) -> Next {
        match &mut self.state {
            Framing::Start | Framing::Sent => Next::Body,
            Framing::Over => Next::Over,
            Framing::Sized(data) => {
                let data = mem::take(data);
                self.state = Framing::Sent;
                Next::Held(data)
            }
        }
    }

    /// The size of this chunk, which follows, or the end.
    fn frame(&mut self, data: Option<Bytes>) -> Bytes {
        let before = if matches!(self.state, Framing::Start) { "" } else { "\r\n" };
        match data {
            Some(data) => {
                let size = format!("{before}{:x}\r\n", data.len());
                self.state = Framing::Sized(data);
                size.into()
            }
            None => {
                self.state = Framing::Over;
                self.end(before)
            }
        }
    }

    fn end(&mut self, before: &str) -> Bytes {
        let mut trailers = response_trailers(mem::take(&mut self.trailers), &self.access);
        if self.changed {
            forget_bytes(&mut trailers);
        }
        let mut end = format!("{before}0\r\n").into_bytes();
        for (name, value) in &trailers {
            end.extend_from_slice(name.as_str().as_bytes());
            end.extend_from_slice(b": ");
            end.extend_from_slice(value.as_bytes());
            end.extend_from_slice(b"\r\n");
        }
        end.extend_from_slice(b"\r\n");
        end.into()
    }
}

/// The method in `http` 1.
pub fn method_of(method: &Method) -> Result<http::Method> {
    http::Method::from_bytes(method.as_str().as_bytes()).map_err(|_| Error::new(Code::InvalidRequest, "The method is not one."))
}

/// The vendor's status in actix' type. What only announces an answer, or another protocol, is none.
pub fn status_of(status: http::StatusCode) -> Result<StatusCode> {
    if status.is_informational() {
        let detail = format!("The vendor answered {} where an answer was expected.", status.as_u16());
        return Err(Error::new(Code::VendorBadAnswer, detail));
    }
    StatusCode::from_u16(status.as_u16()).map_err(Error::internal)
}
