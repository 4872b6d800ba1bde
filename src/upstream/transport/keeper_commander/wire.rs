//! One answer of the service: decrypted where needed, taken apart, and what it means. The HTTP status is the command's
//! own; `completed` says nothing about success.

use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use bytes::Bytes;
use http::{HeaderValue, header};
use serde::Deserialize;
use serde_json::{Value, value::RawValue};

use super::Reply;
use crate::{
    connector::Meaning,
    error::VendorAnswer,
    model::Secret,
    upstream::{Access, Failure, HttpAnswer, decode, headers::means_json, redact::Redaction},
};

/// The most of the vendor's words that is kept beside an error.
const KEPT: usize = 64 * 1024;

/// The most of the service's words that becomes part of a sentence of ours.
const SENTENCE: usize = 300;

/// The longest wait that is taken from the vendor's words, seconds.
const LONGEST_WAIT: u64 = 300;

/// An executed command, or the reason why it was not executed.
pub(super) struct Done {
    /// The command's own status.
    pub status: u16,
    /// The JSON, decrypted.
    pub body: Bytes,
    /// Whether it came encrypted.
    pub encrypted: bool,
    envelope: Envelope,
    redaction: Arc<Redaction>,
}

#[derive(Deserialize)]
struct Envelope {
    #[serde(default)]
    status: Option<Value>,
    #[serde(default)]
    message: Option<Value>,
    #[serde(default)]
    error: Option<Value>,
    #[serde(default)]
    result_code: Option<Value>,
    #[serde(default)]
    request_id: Option<String>,
    #[serde(default)]
    data: Option<Box<RawValue>>,
}

/// What an answer means to whoever sent the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The command did its work.
    Fine,
    /// The service's own limiter: nothing was executed. How long its window is, and a good time to wait.
    RateLimited { window: u64, wait: u64 },
    /// Keeper's cloud slowed the command down; seconds to wait.
    Throttled(u64),
    /// A hundred commands wait.
    QueueFull,
    /// Waited too long in the service's queue; not executed.
    Expired,
    /// The service's Keeper session ended; the next command signs in again.
    SessionExpired,
    /// The key is refused, or the service cannot sign in without a person.
    Reauth,
    /// The command is not in the key's list.
    NotPermitted,
    /// An MSP command outside the MSP's own enterprise.
    NotMsp,
    /// The service has no enterprise in memory: its account is no administrator, or loading it was cut short.
    NoEnterprise,
    /// `switch-to-msp` without need.
    AlreadyMsp,
    /// The service lost the request.
    Lost,
    /// Any other refusal.
    Refused,
    /// Any other failure.
    Failed,
}

/// Texts with which Commander asks for a person.
const NEEDS_PERSON: &[&str] = &[
    "persistent login is not working",
    "not logged in",
    "please log in",
    "device approval",
    "device needs approval",
    "device_needs_approval",
    "two-factor",
    "two factor",
    "2fa required",
    "master password",
    "invalid_credentials",
    "auth_failed",
    "eof when reading a line",
];

impl Done {
    /// Takes an answer to the account apart. An answer that is neither JSON nor an encrypted result is an error.
    pub fn read(reply: Reply, access: &Access, redaction: &Arc<Redaction>) -> Result<Done, Failure> {
        let redaction = Arc::clone(redaction);
        if let Some(envelope) = parse(&reply.body) {
            return Ok(Done { status: reply.status, body: reply.body, encrypted: false, envelope, redaction });
        }
        if is_html(&reply) {
            return Err(Failure::BadAnswer(format!(
                "HTTP {} with an HTML page instead of Commander's JSON; is `service_url` the address of a Commander service?",
                reply.status
            )));
        }
        if reply.content_type.as_deref().is_some_and(means_json) || reply.body.len() <= NONCE_LEN {
            return Err(Failure::BadAnswer(format!("HTTP {} with a body that is not JSON, or cut off", reply.status)));
        }
        let Some(key) = access.secrets.get("encryption_key") else {
            return Err(refused_key(
                reply.status,
                "The service encrypts its answers: fill in `encryption_key`, the 32 characters given to the service at its creation.",
            ));
        };
        let Some(body) = decrypt(&reply.body, key) else {
            return Err(refused_key(
                reply.status,
                "The service's answer does not open with `encryption_key`: give the 32 characters the service was created with.",
            ));
        };
        decode::check_values(&body)?;
        match parse(&body) {
            Some(envelope) => Ok(Done { status: reply.status, body: body.into(), encrypted: true, envelope, redaction }),
            None => Err(Failure::BadAnswer("a decrypted answer that is not Commander's JSON".into())),
        }
    }

    /// The beginning of the service's words, without the account's credential.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.redaction.start(self.words().as_bytes(), SENTENCE)).into_owned()
    }

    /// The service's words: the error, else the message; lines joined.
    fn words(&self) -> String {
        let words = |value: &Option<Value>| match value {
            Some(Value::String(text)) => Some(text.clone()),
            Some(Value::Array(lines)) => Some(lines.iter().filter_map(Value::as_str).collect::<Vec<_>>().join("\n")),
            _ => None,
        };
        words(&self.envelope.error).or_else(|| words(&self.envelope.message)).unwrap_or_default()
    }

    /// The records or the object a command gave.
    pub fn data(&self) -> Option<&RawValue> {
        self.envelope.data.as_deref().filter(|data| data.get() != "null")
    }

    /// The id under which a command was queued.
    pub fn request_id(&self) -> Option<&str> {
        self.envelope.request_id.as_deref()
    }

    /// What the answer means.
    pub fn verdict(&self) -> Verdict {
        let low = self.words().to_lowercase();
        let status = self.envelope.status.as_ref().and_then(Value::as_str).unwrap_or_default();
        if self.status < 400 && status != "error" {
            return Verdict::Fine;
        }
        if low.contains("session_token_expired") || low.contains("session token expired") {
            return Verdict::SessionExpired;
        }
        if self.status == 429 {
            return self.slow_down(&low);
        }
        if self.status == 401 || NEEDS_PERSON.iter().any(|words| low.contains(words)) {
            return Verdict::Reauth;
        }
        match self.status {
            403 if low.contains("not permitted to perform this function") => Verdict::NotPermitted,
            _ if low.contains("restricted to keeper msp administrators") => Verdict::NotMsp,
            _ if low.contains("only available for administrators") => Verdict::NoEnterprise,
            _ if low.contains("already msp") => Verdict::AlreadyMsp,
            404 if low.contains("request not found") => Verdict::Lost,
            503 if low.contains("queue is full") || low.contains("temporarily busy") => Verdict::QueueFull,
            504 => Verdict::Expired,
            403 => Verdict::Refused,
            _ => Verdict::Failed,
        }
    }

    /// Whether a command failed because what it names is not there.
    pub fn names_nobody(&self) -> bool {
        self.words().to_lowercase().contains("no such")
    }

    fn slow_down(&self, low: &str) -> Verdict {
        if self.envelope.result_code.as_ref().and_then(Value::as_str) == Some("rate_limited") {
            let (window, wait) = limiter(low).unwrap_or((60, 5));
            return Verdict::RateLimited { window, wait };
        }
        Verdict::Throttled(asked_wait(low).unwrap_or(30).clamp(1, LONGEST_WAIT))
    }

    /// The failure this answer is, in the words given or the vendor's own.
    pub fn failure(&self, meaning: Meaning, message: Option<String>) -> Failure {
        self.failure_after(meaning, message, None)
    }

    /// The same, with the seconds to wait.
    pub fn failure_after(&self, meaning: Meaning, message: Option<String>, wait: Option<u64>) -> Failure {
        let message =
            message.or_else(|| Some(self.text()).filter(|text| !text.is_empty()).map(|text| format!("Commander: {text}")));
        Failure::Answered { meaning, answer: self.answer(), wait, message }
    }

    /// The vendor's words as they are shown to callers.
    pub fn answer(&self) -> VendorAnswer {
        let body = self.redaction.start(&self.body, KEPT).into();
        VendorAnswer { status: Some(self.status), body, ..VendorAnswer::default() }
    }
}

/// The answer to a caller's own call, in the clear where it came encrypted and the account has the key.
pub fn opened(access: &Access, mut answer: HttpAnswer) -> Result<HttpAnswer, Failure> {
    let Some(key) = access.secrets.get("encryption_key").filter(|_| !answer.is_json()) else { return Ok(answer) };
    let Some(body) = decrypt(&answer.body, key) else { return Ok(answer) };
    decode::check_values(&body)?;
    answer.body = body.into();
    answer.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(answer)
}

/// Whether the service has no such route: an HTML 404.
pub(super) fn is_missing_route(reply: &Reply) -> bool {
    reply.status == 404 && is_html(reply)
}

fn parse(body: &[u8]) -> Option<Envelope> {
    serde_json::from_slice::<Envelope>(body).ok()
}

fn is_html(reply: &Reply) -> bool {
    let start = reply.body.trim_ascii_start();
    let start = start[..start.len().min(15)].to_ascii_lowercase();
    start.starts_with(b"<!doctype") || start.starts_with(b"<html")
}

fn refused_key(status: u16, message: &str) -> Failure {
    let answer = VendorAnswer { status: Some(status), ..VendorAnswer::default() };
    Failure::Answered { meaning: Meaning::Reauth, answer, wait: None, message: Some(message.into()) }
}

/// AES-256-GCM: the key is the 32 ASCII characters themselves, the body nonce, ciphertext, tag.
fn decrypt(body: &[u8], key: &Secret) -> Option<Vec<u8>> {
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key.expose().as_bytes()).ok()?);
    let (nonce, sealed) = body.split_at_checked(NONCE_LEN)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
    let mut sealed = sealed.to_vec();
    let length = key.open_in_place(nonce, Aad::empty(), &mut sealed).ok()?.len();
    sealed.truncate(length);
    Some(sealed)
}

/// `… N per M minute` → the window in seconds and a time after which another try makes sense.
fn limiter(text: &str) -> Option<(u64, u64)> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let at = words.iter().position(|word| *word == "per")?;
    let count: u64 = words.get(at.checked_sub(1)?)?.parse().ok()?;
    let (many, unit) = match words.get(at + 1)?.parse::<u64>() {
        Ok(many) => (many, *words.get(at + 2)?),
        Err(_) => (1, *words.get(at + 1)?),
    };
    let window = many.checked_mul(unit_seconds(unit)?)?;
    Some((window, window.div_ceil(count.max(1)).clamp(1, 15)))
}

fn unit_seconds(unit: &str) -> Option<u64> {
    [("second", 1), ("minute", 60), ("hour", 3600), ("day", 86_400)]
        .into_iter()
        .find(|(name, _)| unit.starts_with(name))
        .map(|(_, seconds)| seconds)
}

/// `try again in 2 minutes` → 120.
fn asked_wait(text: &str) -> Option<u64> {
    ["second", "minute"]
        .into_iter()
        .filter_map(|unit| {
            let before = text[..text.find(unit)?].trim_end();
            let digits = before.len() - before.bytes().rev().take_while(u8::is_ascii_digit).count();
            before[digits..].parse::<u64>().ok()?.checked_mul(unit_seconds(unit)?)
        })
        .next()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn done(status: u16, body: &str) -> Done {
        let body = Bytes::from(body.to_owned());
        let envelope = parse(&body).unwrap();
        Done { status, body, encrypted: false, envelope, redaction: Arc::new(Redaction::none()) }
    }

    #[test]
    fn the_kinds_of_429_are_told_apart() {
        let limited = done(
            429,
            r#"{"error":"Service rate limit exceeded: 60 per 1 minute","result_code":"rate_limited","status":"error"}"#,
        );
        assert_eq!(limited.verdict(), Verdict::RateLimited { window: 60, wait: 1 });
        let throttled = done(
            429,
            r#"{"error":"Your request has been throttled. Try again in 2 minutes.","result_code":"throttled","status":"error"}"#,
        );
        assert_eq!(throttled.verdict(), Verdict::Throttled(120));
        let edge = done(429, r#"{"error":"Too Many Requests","result_code":"429","status":"error"}"#);
        assert_eq!(edge.verdict(), Verdict::Throttled(30));
        let long = done(429, r#"{"error":"throttled, try again in 90 minutes","result_code":"throttled","status":"error"}"#);
        assert_eq!(long.verdict(), Verdict::Throttled(300));
        assert_eq!(limiter("2 per 1 hour"), Some((3600, 15)));
        assert_eq!(limiter("20 per 5 second"), Some((5, 1)));
    }

    #[test]
    fn refusals_are_told_apart() {
        let verdict = |status, text: &str| done(status, &format!(r#"{{"status":"error","error":"{text}"}}"#)).verdict();
        assert_eq!(verdict(403, "Not permitted to perform this function"), Verdict::NotPermitted);
        assert_eq!(verdict(403, "This command is restricted to Keeper MSP administrators logged in"), Verdict::NotMsp);
        assert_eq!(verdict(403, "IP is not allowed to call API service"), Verdict::Refused);
        assert_eq!(verdict(401, "API key has expired"), Verdict::Reauth);
        assert_eq!(verdict(500, "Unexpected error: switch-to-msp: Already MSP"), Verdict::AlreadyMsp);
        assert_eq!(verdict(500, "Unexpected error: session_token_expired: x"), Verdict::SessionExpired);
        assert_eq!(verdict(500, "Persistent login is not working in this environment"), Verdict::Reauth);
        assert_eq!(verdict(503, "Error: Request queue is full. Please try again later."), Verdict::QueueFull);
        assert_eq!(verdict(504, "expired"), Verdict::Expired);
        assert_eq!(verdict(500, "anything"), Verdict::Failed);
        assert_eq!(verdict(200, "a read that says error with 200"), Verdict::Failed);
    }

    #[test]
    fn lines_are_joined_and_null_is_no_data() {
        let done = done(200, r#"{"status":"success","message":["a","b"],"data":null}"#);
        assert_eq!(done.text(), "a\nb");
        assert!(done.data().is_none());
        assert_eq!(done.verdict(), Verdict::Fine);
    }
}
