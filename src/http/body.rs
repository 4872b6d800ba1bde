//! Request bodies under a pace: how long a client may be silent, how slow it may be, how much it may send.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use actix_web::{FromRequest, HttpRequest, dev, web};
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt, future::LocalBoxFuture};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error as _, IgnoredAny},
};
use serde_json::Number;
use serde_path_to_error::{Path, Segment};
use tokio::time::{Instant, Sleep, sleep_until};

use super::Problem;
use crate::{
    error::{Code, Error},
    mapping::inexact_number,
};

/// The largest body of our own routes.
pub const MAX_BODY: usize = 1024 * 1024;
/// How names begin by which serde_json hands values to itself.
const PRIVATE: &[u8] = b"$serde_json::private::";

/// What a client must keep up with while it sends a body.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Longest silence.
    pub idle: Duration,
    /// Bytes in a second of waiting, on average, once `grace` is over.
    pub rate: u64,
    /// Waiting that is not judged by `rate`.
    pub grace: Duration,
    /// Longest time of the whole body.
    pub total: Option<Duration>,
}

impl Pace {
    /// For the JSON bodies of our own routes.
    pub const OWN: Pace =
        Pace { idle: Duration::from_secs(10), rate: 256, grace: Duration::from_secs(10), total: Some(Duration::from_secs(60)) };
}

/// Why a body ended early.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// Silent or slow for too long.
    #[error("the request body did not arrive in time")]
    Late,
    /// The connection broke or the framing is wrong.
    #[error("the request body broke off: {0}")]
    Broken(String),
}

impl From<BodyError> for Error {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::Late => Error::new(Code::RequestTimeout, "The request body did not arrive in time."),
            BodyError::Broken(cause) => Error::new(Code::InvalidRequest, "The request body broke off.").because(cause),
        }
    }
}

/// A body that ends with an error when its sender does not keep the pace. Time in which nobody asks for more is not counted.
pub struct Paced<S> {
    source: S,
    pace: Pace,
    until: Option<Instant>,
    timer: Pin<Box<Sleep>>,
    asked: Option<Instant>,
    waited: Duration,
    received: u64,
}

impl<S> Paced<S> {
    /// The clock starts with the first wait.
    pub fn new(source: S, pace: Pace) -> Self {
        let now = Instant::now();
        let until = pace.total.map(|total| now + total);
        Self {
            source,
            pace,
            until,
            timer: Box::pin(sleep_until(now + pace.idle)),
            asked: None,
            waited: Duration::ZERO,
            received: 0,
        }
    }

    fn arrived(&mut self, bytes: usize) -> Result<(), BodyError> {
        if let Some(asked) = self.asked.take() {
            self.waited += asked.elapsed();
        }
        self.received += bytes as u64;
        let judged = self.waited.saturating_sub(self.pace.grace).as_secs();
        if self.received < judged.saturating_mul(self.pace.rate) { Err(BodyError::Late) } else { Ok(()) }
    }
}

impl<S, E> Stream for Paced<S>
where
    S: Stream<Item = Result<Bytes, E>> + Unpin,
    E: std::fmt::Display,
{
    type Item = Result<Bytes, BodyError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        match Pin::new(&mut this.source).poll_next(cx) {
            Poll::Ready(Some(Ok(chunk))) => Poll::Ready(Some(this.arrived(chunk.len()).map(|()| chunk))),
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(BodyError::Broken(error.to_string())))),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => {
                if this.asked.is_none() {
                    let now = Instant::now();
                    this.asked = Some(now);
                    let idle = now + this.pace.idle;
                    this.timer.as_mut().reset(this.until.map_or(idle, |until| until.min(idle)));
                }
                this.timer.as_mut().poll(cx).map(|()| Some(Err(BodyError::Late)))
            }
        }
    }
}

/// The whole body, at most `limit` bytes of it.
pub async fn read_whole(payload: web::Payload, limit: usize, pace: Pace) -> Result<Bytes, Error> {
    let mut body = Paced::new(payload, pace);
    let mut whole = BytesMut::new();
    while let Some(chunk) = body.next().await {
        let chunk = chunk?;
        if whole.len() + chunk.len() > limit {
            return Err(Error::new(Code::BodyTooLarge, format!("The body is larger than {limit} bytes.")));
        }
        whole.extend_from_slice(&chunk);
    }
    Ok(whole.freeze())
}

/// A JSON body of our own routes, read and as it was sent. Unknown members are refused where `T` says so.
pub struct JsonBody<T>(pub T, pub Bytes);

impl<T: DeserializeOwned + 'static> FromRequest for JsonBody<T> {
    type Error = Problem;
    type Future = LocalBoxFuture<'static, Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, payload: &mut dev::Payload) -> Self::Future {
        let read = <RawBody>::from_request(request, payload);
        Box::pin(async move {
            let RawBody(whole) = read.await?;
            let read = parse(&whole)?;
            match inexact_number(&whole) {
                Some(field) => Err(Error::inexact(field).into()),
                None => Ok(JsonBody(read, whole)),
            }
        })
    }
}

/// A body of our own routes as it was sent.
pub struct RawBody<const MOST: usize = MAX_BODY>(pub Bytes);

impl<const MOST: usize> FromRequest for RawBody<MOST> {
    type Error = Problem;
    type Future = LocalBoxFuture<'static, Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, payload: &mut dev::Payload) -> Self::Future {
        let pace = request.app_data::<Pace>().copied().unwrap_or(Pace::OWN);
        let declared = request.headers().get("content-length").and_then(|l| l.to_str().ok()?.parse::<usize>().ok());
        let payload = web::Payload::from_request(request, payload);
        Box::pin(async move {
            if declared.is_some_and(|length| length > MOST) {
                let detail = format!("The body is larger than {MOST} bytes.");
                return Err(Error::new(Code::BodyTooLarge, detail).into());
            }
            let payload = payload.await.map_err(Error::internal)?;
            Ok(Self(read_whole(payload, MOST, pace).await?))
        })
    }
}

/// Reads a JSON object; the error names the member and what it takes, never a value, because values may be secrets.
pub fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Error> {
    match body.trim_ascii_start().first() {
        Some(b'{') => {}
        Some(_) => return Err(Error::new(Code::InvalidBody, "The body is not a JSON object.")),
        None => return Err(Error::new(Code::InvalidBody, "The body is empty; a JSON object is expected.")),
    }
    // The parser would take such a member for a value of its own making.
    if body.windows(PRIVATE.len()).any(|part| part == PRIVATE) {
        return Err(Error::new(Code::InvalidBody, "No member's name may begin with `$serde_json::private::`."));
    }
    let mut reader = serde_json::Deserializer::from_slice(body);
    let read = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let within = field(error.path());
        match within {
            // The parser calls it no JSON when a word is wanted and another kind of value stands there.
            Some(field) if error.inner().is_syntax() && is_json(body) => {
                Error::new(Code::InvalidBody, format!("`{field}` takes another kind of value.")).field(field)
            }
            within => refused(error.inner(), within),
        }
    })?;
    reader.end().map_err(|error| refused(&error, None))?;
    Ok(read)
}

/// A whole number, also one that a client writes as `60.0`.
pub fn whole<'de, D: Deserializer<'de>, T: TryFrom<i64>>(deserializer: D) -> Result<Option<T>, D::Error> {
    let Some(number) = Option::<Number>::deserialize(deserializer)? else { return Ok(None) };
    let same = number.as_f64().map(|float| float as i64).filter(|whole| Some(*whole as f64) == number.as_f64());
    let whole = number.as_i64().or(same).and_then(|whole| T::try_from(whole).ok());
    whole.map(Some).ok_or_else(|| D::Error::custom("takes a whole number within its bounds"))
}

fn is_json(body: &[u8]) -> bool {
    serde_json::from_slice::<IgnoredAny>(body).is_ok()
}

/// `within` is where the reader stood, which says something only when it did not like what it read.
fn refused(error: &serde_json::Error, within: Option<String>) -> Error {
    let text = error.to_string();
    let text = text.rsplit_once(" at line ").map_or(text.as_str(), |(text, _)| text);
    let within = within.filter(|_| error.is_data());
    if let Some(name) = member(text) {
        let field = whole_path(within, name);
        return Error::new(Code::InvalidBody, about_member(text, name, &field)).field(field);
    }
    let detail = match &within {
        Some(field) => format!("`{field}` takes {}.", taken(text)),
        None => without_values(text),
    };
    let field = within;
    field.into_iter().fold(Error::new(Code::InvalidBody, detail), Error::field)
}

/// The members on the way to a value, down to the first list.
fn field(path: &Path) -> Option<String> {
    let keys = path.iter().map_while(|segment| if let Segment::Map { key } = segment { Some(key.as_str()) } else { None });
    let names: Vec<_> = keys.collect();
    (!names.is_empty()).then(|| names.join("."))
}

fn member(text: &str) -> Option<&str> {
    let named = ["missing field `", "unknown field `", "duplicate field `"].iter().find_map(|p| text.strip_prefix(p))?;
    named.split('`').next()
}

/// The name of a member with those above it.
fn whole_path(within: Option<String>, name: &str) -> String {
    match within {
        Some(within) if within == name || within.ends_with(&format!(".{name}")) => within,
        Some(within) => format!("{within}.{name}"),
        None => name.to_owned(),
    }
}

/// What is wrong with a member as such.
fn about_member(text: &str, name: &str, field: &str) -> String {
    let known = text.rsplit_once("`, expected ").map(|(_, known)| known.strip_prefix("one of ").unwrap_or(known));
    match text.split(' ').next() {
        Some("missing") => format!("`{field}` is missing."),
        Some("duplicate") => format!("`{field}` is given twice."),
        _ => match known {
            Some(known) => format!("There is no `{}` here; there is: {known}.", shown(name)),
            None => format!("There is no `{}` here.", shown(name)),
        },
    }
}

/// At most so much of a caller's own words stands in an error.
fn shown(name: &str) -> String {
    name.chars().take(64).collect()
}

/// What a value is to be, in our words: the parser's are of its own world, and may quote a value.
fn taken(text: &str) -> &str {
    if let Some(ours) = text.strip_prefix("takes ") {
        return ours;
    }
    if let Some(words) = text.strip_prefix("unknown variant `").and_then(|rest| rest.rsplit_once("`, expected ")) {
        return words.1;
    }
    let expected = text.strip_prefix("invalid ").and_then(|rest| rest.rsplit_once(", expected ")).map(|(_, expected)| expected);
    let is_of = |words: &[&str]| words.iter().any(|word| expected.unwrap_or(text).contains(word));
    match expected {
        _ if is_of(&["UUID"]) => "a UUID",
        _ if is_of(&["timestamp", "date", "year"]) => "a date-time such as `2026-01-31T12:00:00Z`",
        Some("a boolean") => "`true` or `false`",
        Some("f64" | "a JSON number") => "a number",
        Some("u8" | "u16" | "u32" | "u64" | "usize" | "i32" | "i64") => "a whole number",
        Some(_) if is_of(&["string"]) => "a text",
        Some(_) if is_of(&["a sequence", "an array", "tuple"]) => "a list",
        Some(_) if is_of(&["a map", "struct "]) => "an object",
        _ => "another kind of value",
    }
}

fn without_values(text: &str) -> String {
    let mut plain = text.to_owned();
    for quote in ['"', '`'] {
        if let (Some(first), Some(last)) = (plain.find(quote), plain.rfind(quote))
            && first < last
        {
            plain.replace_range(first + 1..last, "…");
        }
    }
    plain
}
