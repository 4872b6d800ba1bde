//! What a vendor's answer means: the connector's rules first, then what every vendor means by its status.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, header};

use super::{Access, Failure, HttpAnswer, limits, redact::Redaction, scopes};
use crate::{
    connector::{ErrorRule, Meaning, TextTest},
    error::VendorAnswer,
};

/// How much of a vendor's error body is kept.
pub(super) const KEPT: usize = 64 * 1024;
/// Longer headers say nothing that anybody waits for; they are dropped.
pub(super) const LONGEST_HEADER: usize = 4096;
/// Vendor headers worth forwarding beside an error.
const USEFUL: [&str; 12] = [
    "content-type",
    "retry-after",
    "ratelimit",
    "ratelimit-policy",
    "ratelimit-limit",
    "ratelimit-remaining",
    "ratelimit-reset",
    "x-request-id",
    "request-id",
    "x-correlation-id",
    "x-amzn-requestid",
    "cf-ray",
];

/// An answer with records in it, or the failure it is.
pub fn classify(access: &Access, answer: &HttpAnswer) -> Result<(), Failure> {
    for rule in &access.method.errors {
        if matches(rule, answer) {
            return match rule.meaning {
                Meaning::Fine => Ok(()),
                meaning => Err(answered(access, answer, meaning, rule.wait, rule.message.clone())),
            };
        }
    }
    let meaning = match answer.status {
        200..=299 => return is_json(answer),
        300..=399 => {
            let message = "The vendor answered with a redirect, which is not followed.".to_owned();
            return Err(answered(access, answer, Meaning::Failed, None, Some(message)));
        }
        401 => Meaning::Reauth,
        403 => Meaning::Denied,
        404 => Meaning::Missing,
        429 => Meaning::RateLimited,
        503 if answer.headers.contains_key(header::RETRY_AFTER) => Meaning::NotReady,
        _ => Meaning::Failed,
    };
    Err(answered(access, answer, meaning, None, None))
}

/// Whether it means that the credential is not accepted.
pub(super) fn refuses_credential(access: &Access, answer: &HttpAnswer) -> bool {
    let meaning = access.method.errors.iter().find(|rule| matches(rule, answer)).map(|rule| rule.meaning);
    meaning.map_or(answer.status == 401, |meaning| meaning == Meaning::Reauth)
}

fn matches(rule: &ErrorRule, answer: &HttpAnswer) -> bool {
    if !rule.status.is_empty() && !rule.status.contains(&answer.status) {
        return false;
    }
    let Some(path) = &rule.path else { return true };
    let Some(text) = path.text(&answer.body) else { return false };
    match &rule.text {
        TextTest::Present => true,
        TextTest::Equals(wanted) => text == *wanted,
        TextTest::Starts(wanted) => text.starts_with(wanted.as_str()),
        TextTest::Contains(wanted) => text.to_lowercase().contains(&wanted.to_lowercase()),
    }
}

/// The failure of an answer that means this.
pub(super) fn answered(
    access: &Access,
    answer: &HttpAnswer,
    meaning: Meaning,
    wait: Option<Duration>,
    message: Option<String>,
) -> Failure {
    let wait = match meaning {
        Meaning::RateLimited | Meaning::NotReady => wait
            .map(|duration| duration.as_secs().max(1))
            .or_else(|| limits::wait(&answer.headers, &access.method.limits.retry_wait, &access.method.limits.rate))
            .or_else(|| limits::wait_in_text(&answer.body)),
        _ => None,
    };
    let mut kept = vendor_answer(access, answer);
    if meaning == Meaning::Denied {
        kept.missing_scopes = Some(missing_scopes(access, answer)).filter(|found| !found.is_empty()).map(Box::new);
    }
    Failure::Answered { meaning, answer: kept, wait, message }
}

/// The rights a refusal names, but for what the vendor wrote back of the credential.
fn missing_scopes(access: &Access, answer: &HttpAnswer) -> Vec<String> {
    let mut found = scopes::missing(&answer.headers, &answer.body);
    if !found.is_empty() {
        let redaction = Redaction::of(access);
        found.retain(|scope| redaction.start(scope.as_bytes(), scope.len()) == scope.as_bytes());
    }
    found
}

/// What is kept of an answer beside an error: no secret of the account, even if the vendor wrote it back.
pub(super) fn vendor_answer(access: &Access, answer: &HttpAnswer) -> VendorAnswer {
    let redaction = Redaction::of(access);
    let body = redaction.start(&answer.body, KEPT);
    let mut headers = useful(&answer.headers);
    headers.iter_mut().for_each(|(_, value)| *value = redaction.start(value, value.len()));
    VendorAnswer { status: Some(answer.status), headers, body: Bytes::from(body), missing_scopes: None }
}

fn useful(headers: &HeaderMap) -> Vec<(String, Vec<u8>)> {
    let keep = |name: &str| USEFUL.contains(&name) || name.starts_with("x-ratelimit-") || name.starts_with("x-rate-limit-");
    let kept = headers.iter().filter(|(name, value)| keep(name.as_str()) && value.len() <= LONGEST_HEADER);
    kept.map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec())).collect()
}

/// A good status with something else than JSON in it is not a good answer.
fn is_json(answer: &HttpAnswer) -> Result<(), Failure> {
    let content_type = answer.headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("").to_ascii_lowercase();
    let start = answer.body.iter().find(|byte| !byte.is_ascii_whitespace());
    match start {
        None if answer.status == 204 => Ok(()),
        None => Err(Failure::BadAnswer("the vendor answered with an empty body where JSON was expected".into())),
        Some(b'<') => Err(Failure::BadAnswer("the vendor answered with an HTML page where JSON was expected".into())),
        Some(_) if content_type.starts_with("text/html") => {
            Err(Failure::BadAnswer("the vendor answered with an HTML page where JSON was expected".into()))
        }
        Some(b'{' | b'[' | b'"' | b'-' | b'0'..=b'9' | b't' | b'f' | b'n') => Ok(()),
        Some(_) => Err(Failure::BadAnswer("the vendor's answer is not JSON".into())),
    }
}
