//! What a token endpoint answers: a token, or why there is none.

use std::time::Duration;

use oauth2::{
    AccessToken, EndpointNotSet, EndpointSet, HttpResponse, RefreshToken, RequestTokenError, Scope, StandardRevocableToken,
    TokenResponse,
    basic::{
        BasicErrorResponse, BasicErrorResponseType as Word, BasicRevocationErrorResponse, BasicTokenIntrospectionResponse,
        BasicTokenType,
    },
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    connector::{Meaning, TokenAnswer},
    error::VendorAnswer,
    mapping::Path,
    upstream::{Access, Failure, HttpAnswer, classify, redact::Redaction, token::NoToken},
};

/// How much of an endpoint's own sentence is shown.
const SHOWN: usize = 300;
/// Longer lives are not believed, and would not fit a calendar.
const LONGEST_LIFE: u64 = 366 * 24 * 3600;

/// Why there is no token, as the library says it.
pub(super) type Refused = RequestTokenError<Failure, BasicErrorResponse>;

/// The library's client, for answers as vendors give them.
pub(super) type Client<HasTokenUrl = EndpointSet> = oauth2::Client<
    BasicErrorResponse,
    Given,
    BasicTokenIntrospectionResponse,
    StandardRevocableToken,
    BasicRevocationErrorResponse,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    HasTokenUrl,
>;

/// An endpoint's answer. Vendors leave out the type, and write numbers as texts; neither is a reason to refuse a token.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Given {
    access_token: AccessToken,
    #[serde(skip, default = "bearer")]
    token_type: BasicTokenType,
    refresh_token: Option<RefreshToken>,
    expires_in: Option<Value>,
}

fn bearer() -> BasicTokenType {
    BasicTokenType::Bearer
}

impl Given {
    pub(super) fn access_token(&self) -> &str {
        self.access_token.secret()
    }

    /// None, too, where it is empty.
    pub(super) fn refresh_token(&self) -> Option<&str> {
        self.refresh_token.as_ref().map(|token| token.secret().as_str()).filter(|text| !text.is_empty())
    }

    /// Zero, less and what is no number say nothing.
    pub(super) fn life(&self) -> Option<Duration> {
        let seconds = match self.expires_in.as_ref()? {
            Value::String(text) => text.trim().parse().ok()?,
            number => number.as_f64()?,
        };
        (seconds >= 1.0).then(|| Duration::from_secs((seconds as u64).min(LONGEST_LIFE)))
    }
}

impl TokenResponse for Given {
    type TokenType = BasicTokenType;

    fn access_token(&self) -> &AccessToken {
        &self.access_token
    }
    fn token_type(&self) -> &BasicTokenType {
        &self.token_type
    }
    fn expires_in(&self) -> Option<Duration> {
        self.life()
    }
    fn refresh_token(&self) -> Option<&RefreshToken> {
        self.refresh_token.as_ref()
    }
    fn scopes(&self) -> Option<&Vec<Scope>> {
        None
    }
}

/// The answer for the library, which takes 200 alone for success, and the standard's members alone.
pub(super) fn plain(access: &Access, answer: &HttpAnswer) -> HttpResponse {
    let own = access.method.token.as_ref().map(|request| &request.answer).filter(|own| own.is_own());
    let (status, body) = match (answer.status, own) {
        (200..300, Some(own)) => standard(own, &answer.body),
        (200..300, None) => (200, answer.body.to_vec()),
        (status, _) => (status, answer.body.to_vec()),
    };
    let mut reply = HttpResponse::new(body);
    *reply.status_mut() = http::StatusCode::from_u16(status).unwrap_or(http::StatusCode::BAD_GATEWAY);
    reply
}

/// A vendor's own members as the standard has them.
fn standard(own: &TokenAnswer, body: &[u8]) -> (u16, Vec<u8>) {
    let text = |path: &Option<Path>, usual: &str| match path {
        Some(path) => path.text(body),
        None => Path::parse(usual).ok().and_then(|path| path.text(body)),
    };
    match (text(&own.access_token, "access_token"), text(&own.error, "error")) {
        (None, Some(word)) => (400, json!({"error": word}).to_string().into_bytes()),
        (token, _) => {
            let (refresh, life) = (text(&own.refresh_token, "refresh_token"), text(&own.expires_in, "expires_in"));
            (200, json!({"access_token": token, "refresh_token": refresh, "expires_in": life}).to_string().into_bytes())
        }
    }
}

/// What the library makes of an answer.
pub(super) fn read(reply: &HttpResponse) -> Result<Given, Refused> {
    let unreadable = |_| RequestTokenError::Other("the answer cannot be read".to_owned());
    match reply.status().as_u16() {
        200 => serde_json::from_slice(reply.body()).map_err(unreadable),
        _ => Err(RequestTokenError::ServerResponse(serde_json::from_slice(reply.body()).map_err(unreadable)?)),
    }
}

/// Only the endpoint's own word that there may be no token ends a credential; everything else passes.
pub(super) fn refused(access: &Access, error: Refused, seen: Option<(HttpAnswer, Redaction)>) -> NoToken {
    let error = match error {
        RequestTokenError::Request(failure) => return NoToken::Failed(failure),
        RequestTokenError::ServerResponse(error) => Some(error),
        RequestTokenError::Parse(..) | RequestTokenError::Other(_) => None,
    };
    let Some((answer, redaction)) = seen else {
        return NoToken::Failed(Failure::BadAnswer("the token endpoint gave no answer".into()));
    };
    let failure = failure(access, &answer, error.as_ref(), &redaction);
    let is_over = matches!(failure, Failure::Answered { meaning: Meaning::Reauth, .. });
    match (answer.status, error) {
        (_, Some(error)) if is_over && ends_grant(access, error.error()) => NoToken::Over(failure),
        // A server that refuses a request has done nothing of it, whatever word it has for that.
        (400..=407 | 409..500, _) => NoToken::Refused(failure),
        (200..300, Some(_)) if has_own_error(access) => NoToken::Refused(failure),
        _ => NoToken::Failed(failure),
    }
}

fn failure(access: &Access, answer: &HttpAnswer, error: Option<&BasicErrorResponse>, redaction: &Redaction) -> Failure {
    let meaning = match (answer.status, error) {
        (400..429, Some(error)) if is_final(access, error.error()) => Meaning::Reauth,
        (200..300, Some(error)) if has_own_error(access) && is_final(access, error.error()) => Meaning::Reauth,
        (200..300, _) => return Failure::BadAnswer("the token endpoint's answer holds no access token".into()),
        (429, _) => Meaning::RateLimited,
        (500..600, _) => Meaning::NotReady,
        _ => Meaning::Failed,
    };
    let said = match error {
        Some(error) if meaning == Meaning::Reauth || is_of_app(access, error.error()) => refusal(access, error, redaction),
        _ => format!("The token endpoint answered {}.", answer.status),
    };
    let failure = classify::answered(access, answer, meaning, None, Some(said));
    match failure {
        // A caller would take this status for one of the API's.
        Failure::Answered { meaning: Meaning::Failed | Meaning::NotReady, mut answer, wait, message } => {
            answer.status = None;
            Failure::Answered { meaning, answer, wait, message }
        }
        failure => failure,
    }
}

/// The failure that ends a credential without an answer.
pub(super) fn ended(said: &str) -> Failure {
    let answer = VendorAnswer::default();
    Failure::Answered { meaning: Meaning::Reauth, answer, wait: None, message: Some(said.to_owned()) }
}

/// The endpoint's words, without what it writes back.
fn refusal(access: &Access, error: &BasicErrorResponse, redaction: &Redaction) -> String {
    let word = error.error().as_ref();
    let why = error.error_description().map(|why| redaction.start(why.as_bytes(), SHOWN));
    let why = why.map(|why| format!(" ({})", String::from_utf8_lossy(&why))).unwrap_or_default();
    let whom = if is_of_app(access, error.error()) { "the OAuth app registered for this connector" } else { "this client" };
    format!("The token endpoint gives {whom} no access token: {word}{why}.")
}

/// Whether it speaks of the app that all accounts of a connector share: none of them can mend that by linking again.
fn is_of_app(access: &Access, word: &Word) -> bool {
    let shared = access.method.token.as_ref().is_some_and(|request| request.needs_app());
    shared && matches!(word, Word::InvalidClient | Word::UnauthorizedClient | Word::UnsupportedGrantType)
}

/// Whether the vendor has a place of its own for what was wrong, in answers that are good by their status.
fn has_own_error(access: &Access) -> bool {
    access.method.token.as_ref().is_some_and(|request| request.answer.error.is_some())
}

fn is_final(access: &Access, word: &Word) -> bool {
    if is_of_app(access, word) {
        return false;
    }
    let ends = access.method.token.as_ref().map(|request| request.ends.as_slice()).unwrap_or_default();
    match word {
        Word::InvalidClient | Word::InvalidGrant | Word::InvalidScope => true,
        Word::UnauthorizedClient | Word::UnsupportedGrantType => true,
        Word::Extension(word) => word == "access_denied" || ends.contains(word),
        Word::InvalidRequest => ends.iter().any(|end| end == "invalid_request"),
    }
}

/// Whether such a word speaks of the grant, and not of the client or of what it asks for, which can be mended without the
/// customer.
fn ends_grant(access: &Access, word: &Word) -> bool {
    let ends = access.method.token.as_ref().map(|request| request.ends.as_slice()).unwrap_or_default();
    *word == Word::InvalidGrant || ends.iter().any(|end| end == word.as_ref())
}
