//! Writes that can be repeated: under one key a write takes effect once, and every repetition is answered with its first reply.
//!
//! The rules. A key belongs to an environment and a token, an account token's to its account too, and for 24 hours to the first
//! request made with it. While that runs, repetitions are refused; another request with the key is refused always. Replies are kept sealed, but for failures that a
//! repetition may cure: after those, and after a node was lost with a call, the next repetition runs again, makes its object
//! under the id that was chosen at the first start, and says so. No reply leaves before it is kept.

use std::sync::Arc;

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    Caller,
    lease::{LEASE, keep_holding},
};
use crate::{
    error::{Code, Error, Result, VendorAnswer},
    model::{AccountId, EnvironmentId, Tasks, TokenId},
    store::{Hold, StoreError, repo},
    vault::{RequestMark, SealMark, SystemKeys, hex},
};

/// The header a key stands in, and the field problems name.
pub const KEY_HEADER: &str = "Idempotency-Key";
/// The longest key.
const MAX_KEY: usize = 255;

/// What a caller calls one write, however often it is sent. Not shown in logs: callers may make it of anything.
#[derive(Clone)]
pub struct IdempotencyKey(String);

impl IdempotencyKey {
    /// Takes 1 to 255 printable ASCII characters.
    pub fn parse(value: &[u8]) -> Result<Self> {
        let printable = value.iter().all(|byte| matches!(byte, b' '..=b'~'));
        match std::str::from_utf8(value) {
            Ok(text) if printable && (1..=MAX_KEY).contains(&text.len()) => Ok(Self(text.to_owned())),
            _ => {
                Err(Error::new(Code::InvalidHeader, "`Idempotency-Key` takes 1 to 255 printable ASCII characters.")
                    .field(KEY_HEADER))
            }
        }
    }
}

/// A write as it was asked for. May hold secrets, therefore no `Debug`.
pub struct Asked {
    environment: EnvironmentId,
    token: TokenId,
    /// What alone the caller reaches: its request need not name it.
    account: Option<AccountId>,
    key: IdempotencyKey,
    method: String,
    target: String,
    headers: Vec<u8>,
    body: Bytes,
}

impl Asked {
    /// By this caller; `target` is path and query as they were sent, `headers` those that make it another request.
    pub fn by(caller: &Caller, key: IdempotencyKey, method: &str, target: &str, headers: Vec<u8>, body: Bytes) -> Self {
        let Caller { environment, token, bound, .. } = *caller;
        let account = bound.map(|bound| bound.account);
        Self { environment, token, account, key, method: method.to_owned(), target: target.to_owned(), headers, body }
    }

    fn whose(&self) -> Vec<&[u8]> {
        let mut whose: Vec<&[u8]> = vec![self.environment.0.as_bytes(), self.token.0.as_bytes(), self.key.0.as_bytes()];
        whose.extend(self.account.iter().map(|account| account.0.as_bytes().as_slice()));
        whose
    }
}

/// What a write that went well answers: a status and a body, JSON unless the headers say otherwise. May show a secret,
/// therefore no `Debug`.
#[derive(Default)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// The body.
    pub body: Vec<u8>,
    /// Names of warnings, for the header.
    pub warnings: Vec<String>,
    /// Headers of the vendor's that are handed on.
    pub headers: Vec<(String, String)>,
}

/// One run of a write.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    /// The id of the object it makes, if it makes one; the same in every run of one key.
    pub id: Uuid,
    /// A run before this one was cut off or failed in passing; it may have taken effect.
    pub again: bool,
    /// It was cut off: nothing says whether it took effect.
    pub unsure: bool,
}

impl Run {
    /// A write that is not to be repeated.
    pub fn only() -> Self {
        Self { id: Uuid::now_v7(), again: false, unsure: false }
    }

    /// When the first run of the key began: its id says so. Where it does not, nothing can have been made since.
    pub fn begun_at(&self) -> Timestamp {
        let begun = self.id.get_timestamp().map(|begun| begun.to_unix());
        let begun = begun.and_then(|(seconds, nanos)| Timestamp::new(seconds.try_into().ok()?, nanos.try_into().ok()?).ok());
        begun.unwrap_or(Timestamp::MAX)
    }

    /// Refuses a write that must not be made twice, and of which nothing can be read again, after a run that may have made it.
    pub fn only_if_sure(&self) -> Result<()> {
        if !self.unsure {
            return Ok(());
        }
        let detail = "The call under this `Idempotency-Key` was cut off once: whether it took effect at the vendor is not known. \
                      Look there; to make it all the same use another key.";
        Err(Error::new(Code::WriteUnconfirmed, detail).field(KEY_HEADER))
    }
}

/// How an answer came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// By the only run there was.
    First,
    /// By a run after one that was cut off or failed in passing.
    Restarted,
    /// It is the kept reply.
    Replayed,
}

/// Repeatable writes.
#[derive(Clone)]
pub struct Idempotency {
    records: repo::Idempotency,
    keys: Arc<SystemKeys>,
    tasks: Tasks,
}

/// A request and where it is kept.
struct Place {
    asked: Asked,
    name: String,
    fingerprint: [u8; 32],
}

/// A run that holds its key.
struct Held {
    hold: Hold,
    started: u64,
    run: Run,
}

enum Begun {
    Held(Held),
    Ended(Result<Reply>),
}

#[derive(Serialize, Deserialize)]
struct Start {
    id: Uuid,
    /// The run failed and left nothing behind.
    #[serde(default)]
    failed: bool,
}

impl Idempotency {
    /// Over the records; runs are started among `tasks`, so that they end although whoever asked goes away. One that is cut
    /// short there, because it would have gone on too long for nobody, frees its key as that of a lost node does.
    pub fn new(records: repo::Idempotency, keys: Arc<SystemKeys>, tasks: Tasks) -> Self {
        Self { records, keys, tasks }
    }

    /// Runs `work` unless it has run under this key before; its answer, and how it came to be. The outer error is this
    /// gate's: nothing ran, or nothing can be said of what ran.
    pub async fn once<W, F>(&self, asked: Asked, work: W) -> Result<(Result<Reply>, Told)>
    where
        W: FnOnce(Run) -> F + Send + 'static,
        F: Future<Output = Result<Reply>> + Send + 'static,
    {
        let this = self.clone();
        let ended = self.tasks.finish(async move { this.run(asked, work).await }).await;
        ended.unwrap_or_else(|| Err(Error::internal("a write under an idempotency key panicked")))
    }

    async fn run<W, F>(&self, asked: Asked, work: W) -> Result<(Result<Reply>, Told)>
    where
        W: FnOnce(Run) -> F,
        F: Future<Output = Result<Reply>>,
    {
        let place = self.place(asked);
        let held = match self.begin(&place).await? {
            Begun::Ended(reply) => return Ok((reply, Told::Replayed)),
            Begun::Held(held) => held,
        };
        let outcome = keep_holding(|| self.records.renew(&held.hold, LEASE), work(held.run)).await;
        let kept = self.keep(&place, &held, &outcome).await;
        self.give_back(held.hold).await;
        kept?;
        Ok((outcome, if held.run.again { Told::Restarted } else { Told::First }))
    }

    fn place(&self, asked: Asked) -> Place {
        let Asked { headers, body, method, target, .. } = &asked;
        let whose = asked.whose();
        let name = hex(&self.keys.request_mark(RequestMark::Name, &whose));
        let whole = [&whose[..], &[method.as_bytes(), target.as_bytes(), headers, body]].concat();
        let fingerprint = self.keys.request_mark(RequestMark::Fingerprint, &whole);
        Place { asked, name, fingerprint }
    }

    async fn begin(&self, place: &Place) -> Result<Begun> {
        let (environment, name) = (place.asked.environment, &place.name);
        if let Some(kept) = self.records.reply(environment, name).await? {
            return Ok(Begun::Ended(self.open_reply(place, &kept)?));
        }
        let Some(hold) = self.records.hold(environment, name, LEASE).await? else {
            return self.while_running(place).await.map(Begun::Ended);
        };
        match self.start(place, &hold).await {
            Ok(Begun::Held(held)) => Ok(Begun::Held(held)),
            ended => {
                self.give_back(hold).await;
                ended
            }
        }
    }

    /// Somebody has the key: it may have ended just now, it may be of another request, else it runs.
    async fn while_running(&self, place: &Place) -> Result<Result<Reply>> {
        let (environment, name) = (place.asked.environment, &place.name);
        let started = self.records.started(environment, name).await?;
        if let Some(kept) = self.records.reply(environment, name).await? {
            return self.open_reply(place, &kept);
        }
        if let Some(started) = started {
            place.same_request(&started.value)?;
        }
        Err(in_progress("The first request with this `Idempotency-Key` is still running."))
    }

    async fn start(&self, place: &Place, hold: &Hold) -> Result<Begun> {
        let (environment, name) = (place.asked.environment, &place.name);
        if let Some(kept) = self.records.reply(environment, name).await? {
            return Ok(Begun::Ended(self.open_reply(place, &kept)?));
        }
        let before = self.records.started(environment, name).await?;
        let run = match &before {
            Some(entry) => {
                let Start { id, failed } = self.open(place, &entry.value)?;
                Run { id, again: true, unsure: !failed }
            }
            None => Run::only(),
        };
        let value = self.seal(place, &Start { id: run.id, failed: false })?;
        let started = self.records.start(hold, value, before.map(|entry| entry.version)).await.map_err(overtaken)?;
        if run.again {
            tracing::warn!(
                method = place.asked.method,
                "a write that was cut off or failed runs again under its idempotency key"
            );
        }
        Ok(Begun::Held(Held { hold: hold.clone(), started, run }))
    }

    async fn keep(&self, place: &Place, held: &Held, outcome: &Result<Reply>) -> Result<()> {
        if let Some(error) = outcome.as_ref().err().filter(|error| may_be_cured(error)) {
            // A panic, or a task that was cut short, may have left anything.
            if error.code() != Code::Internal {
                // What this run did not find out, the next one has to.
                let value = self.seal(place, &Start { id: held.run.id, failed: !held.run.unsure })?;
                // Where that cannot be kept, the next run is unsure.
                let _ = self.records.start(&held.hold, value, Some(held.started)).await;
            }
            return Ok(());
        }
        let value = self.seal(place, &Kept::of(outcome)?)?;
        self.records.finish(&held.hold, value, held.started).await.map_err(|error| match error {
            StoreError::Conflict(_) | StoreError::Fenced => overtaken(error),
            error => {
                let detail = "The store could not keep the reply. Send the same request again: it takes effect once.";
                Error::new(error.code(), detail).because(error)
            }
        })
    }

    async fn give_back(&self, hold: Hold) {
        if let Err(error) = self.records.release(&hold).await {
            tracing::debug!(cause = %error, "the lease of an idempotency key ends by itself");
            return;
        }
        let records = self.records.clone();
        self.tasks.spawn(async move {
            // What is left is tidied by the next.
            let _ = records.tidy(&hold).await;
        });
    }

    fn open_reply(&self, place: &Place, value: &[u8]) -> Result<Result<Reply>> {
        self.open::<Kept>(place, value)?.outcome()
    }

    fn seal<T: Serialize>(&self, place: &Place, value: &T) -> Result<Bytes> {
        let plain = zeroize::Zeroizing::new(serde_json::to_vec(value).map_err(Error::internal)?);
        let sealed = self.keys.seal_for(SealMark::Reply, &place.bound(), &plain);
        Ok([&place.fingerprint[..], &sealed].concat().into())
    }

    fn open<T: for<'de> Deserialize<'de>>(&self, place: &Place, value: &[u8]) -> Result<T> {
        let sealed = place.same_request(value)?;
        let plain = self
            .keys
            .open_for(SealMark::Reply, &place.bound(), sealed)
            .map_err(|why| Error::internal(format!("a kept reply: {why}")))?;
        serde_json::from_slice(&plain).map_err(|error| {
            Error::internal(format!("a kept reply is not one of this version (line {}, column {})", error.line(), error.column()))
        })
    }
}

impl Place {
    fn bound(&self) -> Vec<&[u8]> {
        let mut bound = self.asked.whose();
        bound.extend([self.asked.method.as_bytes(), self.asked.target.as_bytes()]);
        bound
    }

    /// What is sealed behind the fingerprint, if that is this request's.
    fn same_request<'v>(&self, value: &'v [u8]) -> Result<&'v [u8]> {
        match value.split_first_chunk::<32>() {
            Some((fingerprint, sealed)) if *fingerprint == self.fingerprint => Ok(sealed),
            Some(_) => {
                let detail = "This `Idempotency-Key` was used with another method, path or body in the last 24 hours.";
                Err(Error::new(Code::IdempotencyKeyReused, detail).field(KEY_HEADER))
            }
            None => Err(Error::internal("a kept reply is damaged")),
        }
    }
}

/// A failure that says nothing of what the same request would meet later. What may have taken effect is not run again.
fn may_be_cured(error: &Error) -> bool {
    if matches!(error.code(), Code::WriteUnconfirmed | Code::WritePartial) {
        return false;
    }
    error.http_status() >= 500 || error.http_status() == 429 || error.code().row().retryable
}

fn overtaken(error: StoreError) -> Error {
    match error {
        StoreError::Conflict(_) | StoreError::Fenced => {
            in_progress("Another call has taken over this `Idempotency-Key`.").because(error)
        }
        error => error.into(),
    }
}

fn in_progress(why: &str) -> Error {
    Error::new(Code::IdempotencyInProgress, format!("{why} Send the same request again after a moment.")).field(KEY_HEADER)
}

/// A reply as it is sealed.
#[derive(Serialize, Deserialize)]
enum Kept {
    Done {
        status: u16,
        body: String,
        /// Base64 of a body that is no text.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        bytes: Option<String>,
        #[serde(default)]
        warnings: Vec<String>,
        #[serde(default)]
        headers: Vec<(String, String)>,
    },
    Failed(Box<Failed>),
}

#[derive(Serialize, Deserialize)]
struct Failed {
    code: String,
    status: u16,
    detail: String,
    field: Option<String>,
    allow: Option<String>,
    vendor: Option<Vendor>,
}

#[derive(Serialize, Deserialize)]
struct Vendor {
    status: Option<u16>,
    headers: Vec<(String, Vec<u8>)>,
    /// Base64, because it may be anything.
    body: String,
}

impl Kept {
    fn of(outcome: &Result<Reply>) -> Result<Self> {
        Ok(match outcome {
            Ok(Reply { status, body, warnings, headers }) => {
                let (body, bytes) = match String::from_utf8(body.clone()) {
                    Ok(text) => (text, None),
                    Err(odd) => (String::new(), Some(BASE64_STANDARD.encode(odd.as_bytes()))),
                };
                Kept::Done { status: *status, body, bytes, warnings: warnings.clone(), headers: headers.clone() }
            }
            Err(error) => Kept::Failed(Box::new(Failed::of(error))),
        })
    }

    fn outcome(self) -> Result<Result<Reply>> {
        match self {
            Kept::Done { status, body, bytes, warnings, headers } => {
                let bytes = bytes.map(|bytes| BASE64_STANDARD.decode(bytes)).transpose().map_err(Error::internal)?;
                Ok(Ok(Reply { status, body: bytes.unwrap_or_else(|| body.into_bytes()), warnings, headers }))
            }
            Kept::Failed(failed) => failed.error().map(Err),
        }
    }
}

impl Failed {
    fn of(error: &Error) -> Self {
        let vendor = error.vendor_answer().map(|VendorAnswer { status, headers, body, .. }| Vendor {
            status: *status,
            headers: headers.clone(),
            body: BASE64_STANDARD.encode(body),
        });
        Self {
            code: error.code().row().name.to_owned(),
            status: error.http_status(),
            detail: error.detail().to_owned(),
            field: error.field_name().map(str::to_owned),
            allow: error.allowed().map(str::to_owned),
            vendor,
        }
    }

    fn error(self) -> Result<Error> {
        let code = Code::ALL.iter().find(|code| code.row().name == self.code);
        let code =
            *code.ok_or_else(|| Error::from(StoreError::Later("a kept reply has a code of another version".to_owned())))?;
        let mut error = Error::new(code, self.detail);
        if let Some(Vendor { status, headers, body }) = self.vendor {
            let body = BASE64_STANDARD.decode(body).map_err(Error::internal)?;
            error = error.vendor(VendorAnswer { status, headers, body: body.into(), ..VendorAnswer::default() });
        }
        error = error.status(self.status);
        error = self.field.into_iter().fold(error, Error::field);
        Ok(self.allow.into_iter().fold(error, Error::allow))
    }
}
