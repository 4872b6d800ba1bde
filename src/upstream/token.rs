//! Access tokens of OAuth 2 token endpoints (RFC 6749 §4.4): asked for once, without redirects, within a hard limit.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{FutureExt, TryFutureExt, future::BoxFuture};
use jiff::{SignedDuration, Timestamp};
use oauth2::{
    AccessToken, AsyncHttpClient, AuthType, ClientId, ClientSecret, EndpointNotSet, EndpointSet, HttpRequest, HttpResponse,
    RefreshToken, RequestTokenError, Scope, StandardRevocableToken, TokenResponse, TokenUrl,
    basic::{
        BasicErrorResponse, BasicErrorResponseType as Refusal, BasicRevocationErrorResponse, BasicTokenIntrospectionResponse,
        BasicTokenType,
    },
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Access, Failure, HttpAnswer, Upstream, classify, redact::Redaction, send::Sender};
use crate::{
    connector::{ClientAuth, FieldProblem, Meaning, TokenRequest},
    model::Secret,
};

/// The whole exchange with a token endpoint.
const DEADLINE: Duration = Duration::from_secs(20);
/// How much of an endpoint's own sentence is shown.
const SHOWN: usize = 300;
/// Longer tokens do not fit into a request.
const LONGEST: usize = 16 * 1024;
/// Longer lives are not believed, and would not fit a calendar.
const LONGEST_LIFE: u64 = 366 * 24 * 3600;

/// An access token as it was given. Holds a secret, therefore no `Debug`.
pub struct Token {
    /// What is sent.
    pub secret: Secret,
    /// When it was asked for.
    pub issued_at: Timestamp,
    /// When it ends, where the endpoint says so.
    pub expires_at: Option<Timestamp>,
    /// The version it is kept under; zero while it is not kept.
    pub version: u64,
}

/// An endpoint's answer. Vendors leave out the type, and write numbers as texts; neither is a reason to refuse a token.
#[derive(Clone, Debug, Deserialize, Serialize)]
struct Given {
    access_token: AccessToken,
    #[serde(skip, default = "bearer")]
    token_type: BasicTokenType,
    expires_in: Option<Value>,
}

fn bearer() -> BasicTokenType {
    BasicTokenType::Bearer
}

impl TokenResponse for Given {
    type TokenType = BasicTokenType;

    fn access_token(&self) -> &AccessToken {
        &self.access_token
    }
    fn token_type(&self) -> &BasicTokenType {
        &self.token_type
    }
    /// Zero, less and what is no number say nothing: the token is used until it is refused.
    fn expires_in(&self) -> Option<Duration> {
        let seconds = match self.expires_in.as_ref()? {
            Value::String(text) => text.trim().parse().ok()?,
            number => number.as_f64()?,
        };
        (seconds >= 1.0).then(|| Duration::from_secs((seconds as u64).min(LONGEST_LIFE)))
    }
    fn refresh_token(&self) -> Option<&RefreshToken> {
        None
    }
    fn scopes(&self) -> Option<&Vec<Scope>> {
        None
    }
}

type Client<HasTokenUrl = EndpointSet> = oauth2::Client<
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

/// A token endpoint as the library calls it; what it answered is kept for the caller's error.
struct Endpoint<'e> {
    sender: &'e Sender,
    access: &'e Access,
    url: &'e url::Url,
    seen: Mutex<Option<HttpAnswer>>,
}

impl<'c> AsyncHttpClient<'c> for Endpoint<'_> {
    type Error = Failure;
    type Future = BoxFuture<'c, Result<HttpResponse, Failure>>;

    fn call(&'c self, asked: HttpRequest) -> Self::Future {
        let (parts, body) = asked.into_parts();
        let asking = self.sender.token(self.access, self.url.clone(), parts.headers, Bytes::from(body), DEADLINE);
        asking
            .map_ok(|answer| {
                let reply = plain(&answer);
                *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
                reply
            })
            .boxed()
    }
}

impl Upstream {
    /// Asks for an access token. `now` is when, by our clock: a vendor's own is never asked.
    pub async fn token(&self, access: &Access, now: Timestamp) -> Result<Token, Failure> {
        let (Some(request), Some(url)) = (&access.method.token, &access.token_url) else {
            return Err(Failure::BadAnswer("this way to connect has no token endpoint".into()));
        };
        let endpoint = Endpoint { sender: &self.context.sender, access, url, seen: Mutex::new(None) };
        let client = client(access, request, url).map_err(unusable)?;
        let mut ask = client.exchange_client_credentials();
        for scope in scopes(access, request).split_whitespace() {
            ask = ask.add_scope(Scope::new(scope.to_owned()));
        }
        let given = ask.request_async(&endpoint).boxed().await;
        let seen = endpoint.seen.into_inner().unwrap_or_else(PoisonError::into_inner);
        let given = given.map_err(|error| refused(access, error, seen))?;
        let text = given.access_token.secret();
        if text.is_empty() || text.len() > LONGEST || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Failure::BadAnswer("the token endpoint's access token is not one that a header can carry".into()));
        }
        let secret = Secret::new(text.to_owned());
        let life = given.expires_in().and_then(|life| SignedDuration::try_from(life).ok());
        let expires_at = life.and_then(|life| now.checked_add(life).ok());
        Ok(Token { secret, issued_at: now, expires_at, version: 0 })
    }
}

fn client(access: &Access, request: &TokenRequest, url: &url::Url) -> Result<Client, FieldProblem> {
    let (id, secret) = access.client(request)?;
    let auth = match request.client {
        ClientAuth::Basic => AuthType::BasicAuth,
        ClientAuth::Body => AuthType::RequestBody,
    };
    let client = Client::<EndpointNotSet>::new(ClientId::new(id.expose().to_owned()));
    let client = client.set_client_secret(ClientSecret::new(secret.expose().to_owned())).set_auth_type(auth);
    Ok(client.set_token_uri(TokenUrl::from_url(url.clone())))
}

/// None where a field of it was not given.
fn scopes(access: &Access, request: &TokenRequest) -> String {
    let scope = request.scope.as_ref().and_then(|scope| access.text(scope).ok());
    scope.map(|scope| scope.expose().to_owned()).unwrap_or_default()
}

fn unusable(problem: FieldProblem) -> Failure {
    Failure::Unsendable { field: problem.field, reason: problem.message }
}

/// The answer for the library, which takes 200 alone for success.
fn plain(answer: &HttpAnswer) -> HttpResponse {
    let mut reply = HttpResponse::new(answer.body.to_vec());
    let status = if (200..300).contains(&answer.status) { 200 } else { answer.status };
    *reply.status_mut() = http::StatusCode::from_u16(status).unwrap_or(http::StatusCode::BAD_GATEWAY);
    reply
}

/// Only the endpoint's own word that this client may have no token ends a credential; everything else passes.
fn refused(access: &Access, error: RequestTokenError<Failure, BasicErrorResponse>, answer: Option<HttpAnswer>) -> Failure {
    let error = match error {
        RequestTokenError::Request(failure) => return failure,
        RequestTokenError::ServerResponse(error) => Some(error),
        RequestTokenError::Parse(..) | RequestTokenError::Other(_) => None,
    };
    let Some(answer) = answer else { return Failure::BadAnswer("the token endpoint gave no answer".into()) };
    let meaning = match (answer.status, &error) {
        (200..300, _) => return Failure::BadAnswer("the token endpoint's answer holds no access token".into()),
        (400..429, Some(error)) if is_final(error.error()) => Meaning::Reauth,
        (429, _) => Meaning::RateLimited,
        (500..600, _) => Meaning::NotReady,
        _ => Meaning::Failed,
    };
    let said = match error.as_ref().filter(|_| meaning == Meaning::Reauth) {
        Some(error) => refusal(access, error),
        None => format!("The token endpoint answered {}.", answer.status),
    };
    let failure = classify::answered(access, &answer, meaning, None, Some(said));
    match failure {
        // A caller would take this status for one of the API's.
        Failure::Answered { meaning: Meaning::Failed | Meaning::NotReady, mut answer, wait, message } => {
            answer.status = None;
            Failure::Answered { meaning, answer, wait, message }
        }
        failure => failure,
    }
}

/// The endpoint's words, without what it writes back.
fn refusal(access: &Access, error: &BasicErrorResponse) -> String {
    let word = error.error().as_ref();
    let why = error.error_description().map(|why| Redaction::of(access).start(why.as_bytes(), SHOWN));
    let why = why.map(|why| format!(" ({})", String::from_utf8_lossy(&why))).unwrap_or_default();
    format!("The token endpoint gives this client no access token: {word}{why}.")
}

fn is_final(error: &Refusal) -> bool {
    match error {
        Refusal::InvalidClient | Refusal::InvalidGrant | Refusal::InvalidScope => true,
        Refusal::UnauthorizedClient | Refusal::UnsupportedGrantType => true,
        Refusal::Extension(word) => word == "access_denied",
        Refusal::InvalidRequest => false,
    }
}
