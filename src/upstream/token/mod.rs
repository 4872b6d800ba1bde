//! Access tokens of OAuth 2 token endpoints: asked for once, without redirects, within a hard limit.

mod answer;
mod assertion;
mod authorize;
mod endpoint;

use std::borrow::Cow;

use bytes::Bytes;
use futures_util::FutureExt;
use http::{HeaderMap, HeaderValue, header};
use jiff::{SignedDuration, Timestamp};
use oauth2::{AuthType, AuthorizationCode, ClientId, ClientSecret, PkceCodeVerifier, RedirectUrl, RefreshToken, Scope, TokenUrl};
use serde_json::{Map, Value};

pub use authorize::{Authorization, Way};
pub use endpoint::DEADLINE;

use self::{
    answer::{Client, Given, refused},
    endpoint::Endpoint,
};
use super::{Access, Failure, Upstream};
use crate::{
    connector::{BodyForm, ClientAuth, FieldProblem, Grant, Template, TokenRequest},
    model::Secret,
};

/// Longer tokens do not fit into a request.
const LONGEST: usize = 16 * 1024;
/// How a client shows a signed assertion (RFC 7523 §2.2).
const BY_JWT: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// How an assertion is a grant (RFC 7523 §2.1).
const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

/// An access token as it was given. Holds secrets, therefore no `Debug`.
pub struct Token {
    /// What is sent.
    pub secret: Secret,
    /// What the next one is got with, where the endpoint gives such a thing.
    pub refresh: Option<Secret>,
    /// When it was asked for.
    pub issued_at: Timestamp,
    /// When it ends, where the endpoint says so.
    pub expires_at: Option<Timestamp>,
    /// The version it is kept under; zero while it is not kept.
    pub version: u64,
    /// The vendor ended the grant: what is left of this token is the last.
    pub ended: bool,
    /// The refresh token before this one is still kept, because this token has not worked yet.
    pub unproven: bool,
}

/// Why there is no token.
pub enum NoToken {
    /// The endpoint ended the grant: its own word for that, or the connector's.
    Over(Failure),
    /// It refused the request for another reason: what the request showed is as good as before.
    Refused(Failure),
    /// Something else; what the endpoint did is the failure's to say.
    Failed(Failure),
}

impl From<Failure> for NoToken {
    fn from(failure: Failure) -> Self {
        NoToken::Failed(failure)
    }
}

impl From<NoToken> for Failure {
    fn from(why: NoToken) -> Self {
        match why {
            NoToken::Over(failure) | NoToken::Refused(failure) | NoToken::Failed(failure) => failure,
        }
    }
}

/// What a customer's browser brought back. Holds secrets, therefore no `Debug`.
pub struct CodeGrant {
    /// The code.
    pub code: Secret,
    /// The other half of the PKCE challenge.
    pub verifier: Secret,
    /// The address it came to.
    pub redirect_url: url::Url,
    /// The OAuth app that was agreed to, where it is one that is shared.
    pub app: Option<String>,
}

impl Upstream {
    /// Asks for an access token with what the account keeps. `now` is when, by our clock: a vendor's own is never asked.
    pub async fn token(&self, access: &Access, now: Timestamp) -> Result<Token, Failure> {
        let (endpoint, request) = self.endpoint(access)?;
        let given = match request.grant {
            Grant::ClientCredentials => {
                let client = client(access, request, endpoint.url).map_err(unusable)?;
                let mut ask = client.exchange_client_credentials();
                for scope in scopes(access, request).split_whitespace() {
                    ask = ask.add_scope(Scope::new(scope.to_owned()));
                }
                for (name, value) in proof(access, request, now)? {
                    ask = ask.add_extra_param(name, value);
                }
                ask.request_async(&endpoint).boxed().await
            }
            Grant::JwtBearer => endpoint.ask(by_assertion(access, request, now)?).boxed().await,
            Grant::Login => endpoint.ask(login(access, request)?).boxed().await,
            Grant::AuthorizationCode => return Err(over()),
        };
        Ok(taken(endpoint, given, now)?)
    }

    /// Exchanges a code for the first tokens.
    pub async fn token_for(&self, access: &Access, code: &CodeGrant, now: Timestamp) -> Result<Token, Failure> {
        let (endpoint, request) = self.endpoint(access)?;
        let client = client(access, request, endpoint.url).map_err(unusable)?;
        let redirect_url = Cow::Owned(RedirectUrl::from_url(code.redirect_url.clone()));
        let mut ask = client.exchange_code(AuthorizationCode::new(code.code.expose().to_owned()));
        ask = ask.set_pkce_verifier(PkceCodeVerifier::new(code.verifier.expose().to_owned())).set_redirect_uri(redirect_url);
        for (name, value) in proof(access, request, now)? {
            ask = ask.add_extra_param(name, value);
        }
        let given = ask.request_async(&endpoint).boxed().await;
        Ok(taken(endpoint, given, now)?)
    }

    /// Exchanges a refresh token. Whoever gets no answer does not know whether the old one is still good.
    pub async fn refresh(&self, access: &Access, refresh: &Secret, now: Timestamp) -> Result<Token, NoToken> {
        let (endpoint, request) = self.endpoint(access)?;
        let client = client(access, request, endpoint.url).map_err(unusable)?;
        let refresh = RefreshToken::new(refresh.expose().to_owned());
        let mut ask = client.exchange_refresh_token(&refresh);
        for (name, value) in proof(access, request, now)? {
            ask = ask.add_extra_param(name, value);
        }
        let given = ask.request_async(&endpoint).boxed().await;
        taken(endpoint, given, now)
    }

    /// Takes a token back (RFC 7009), where the vendor offers it. An endpoint that does not know it has nothing to take; one that
    /// cannot take it at the moment is as good as out of reach.
    pub async fn revoke(&self, access: &Access, token: &Secret, now: Timestamp) -> Result<(), Failure> {
        let (endpoint, request) = self.endpoint(access)?;
        let Some(url) = access.token_urls.as_ref().and_then(|urls| urls.revoke.as_ref()) else { return Ok(()) };
        let endpoint = Endpoint::new(&self.context.sender, endpoint.access, url);
        let mut form = vec![("token".to_owned(), token.clone())];
        let mut headers = form_headers();
        show_client(access, request, now, &mut headers, &mut form)?;
        let answer = endpoint.send(headers, written(&form)).await?;
        match answer.status {
            200..300 => Ok(()),
            status @ (408 | 429 | 500..) => Err(Failure::Unreachable(format!("the revocation endpoint answered {status}"))),
            status => Err(Failure::BadAnswer(format!("the revocation endpoint answered {status}"))),
        }
    }

    fn endpoint<'e>(&'e self, access: &'e Access) -> Result<(Endpoint<'e>, &'e TokenRequest), Failure> {
        let (Some(request), Some(urls)) = (&access.method.token, &access.token_urls) else {
            return Err(Failure::BadAnswer("this way to connect has no token endpoint".into()));
        };
        Ok((Endpoint::new(&self.context.sender, access, &urls.token), request))
    }
}

/// The failure of an account whose tokens are over and cannot be renewed.
pub fn over() -> Failure {
    answer::ended("The vendor gave no refresh token, or it is over; the account must be linked again.")
}

/// What the endpoint gave, if it is a token.
fn taken(endpoint: Endpoint<'_>, given: Result<Given, answer::Refused>, now: Timestamp) -> Result<Token, NoToken> {
    let access = endpoint.access;
    let given = given.map_err(|error| refused(access, error, endpoint.seen()))?;
    let text = given.access_token();
    if !is_token(text) || given.refresh_token().is_some_and(|text| !is_token(text)) {
        return Err(Failure::BadAnswer("the token endpoint's access token is not one that a header can carry".into()).into());
    }
    let life = given.life().or_else(|| access.method.token.as_ref()?.life).and_then(|life| SignedDuration::try_from(life).ok());
    Ok(Token {
        secret: Secret::new(text.to_owned()),
        refresh: given.refresh_token().map(|text| Secret::new(text.to_owned())),
        issued_at: now,
        expires_at: life.and_then(|life| now.checked_add(life).ok()),
        version: 0,
        ended: false,
        unproven: false,
    })
}

/// Whether a header can carry a token.
pub fn is_token(text: &str) -> bool {
    !text.is_empty() && text.len() <= LONGEST && text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn client(access: &Access, request: &TokenRequest, url: &url::Url) -> Result<Client, FieldProblem> {
    let (id, secret) = access.client(request)?;
    let auth = match request.client {
        ClientAuth::Basic => AuthType::BasicAuth,
        ClientAuth::Body | ClientAuth::None | ClientAuth::Assertion => AuthType::RequestBody,
    };
    let mut client = Client::new(ClientId::new(id.expose().to_owned())).set_auth_type(auth);
    if let Some(secret) = secret {
        client = client.set_client_secret(ClientSecret::new(secret.expose().to_owned()));
    }
    Ok(client.set_token_uri(TokenUrl::from_url(url.clone())))
}

/// The assertion that shows who the client is, where it has one.
fn proof(access: &Access, request: &TokenRequest, now: Timestamp) -> Result<Vec<(&'static str, String)>, Failure> {
    if request.client != ClientAuth::Assertion {
        return Ok(Vec::new());
    }
    let signed = assertion::sign(access, request, now)?;
    Ok(vec![("client_assertion_type", BY_JWT.to_owned()), ("client_assertion", signed.expose().to_owned())])
}

/// The same for a request that the library does not make.
fn show_client(
    access: &Access,
    request: &TokenRequest,
    now: Timestamp,
    headers: &mut HeaderMap,
    form: &mut Vec<(String, Secret)>,
) -> Result<(), Failure> {
    let (id, secret) = access.client(request).map_err(unusable)?;
    let plain = |text: &str| Secret::new(text.to_owned());
    match (request.client, secret) {
        (ClientAuth::Basic, Some(secret)) => {
            headers.insert(header::AUTHORIZATION, basic(&id, &secret).ok_or_else(unsendable)?);
        }
        (ClientAuth::Body, Some(secret)) => form.extend([("client_id".to_owned(), id), ("client_secret".to_owned(), secret)]),
        _ if id.expose().is_empty() => {}
        _ => form.push(("client_id".to_owned(), id)),
    }
    for (name, value) in proof(access, request, now)? {
        form.push((name.to_owned(), plain(&value)));
    }
    Ok(())
}

/// RFC 6749 §2.3.1: each half form-encoded.
fn basic(id: &Secret, secret: &Secret) -> Option<HeaderValue> {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let encoded = |text: &Secret| url::form_urlencoded::byte_serialize(text.expose().as_bytes()).collect::<String>();
    let pair = Secret::new(format!("{}:{}", encoded(id), encoded(secret)));
    HeaderValue::try_from(format!("Basic {}", STANDARD.encode(pair.expose()))).ok()
}

fn by_assertion(access: &Access, request: &TokenRequest, now: Timestamp) -> Result<(HeaderMap, Bytes), Failure> {
    let plain = |text: &str| Secret::new(text.to_owned());
    let mut form = vec![("grant_type".to_owned(), plain(JWT_BEARER))];
    form.push(("assertion".to_owned(), assertion::sign(access, request, now)?));
    let scope = scopes(access, request);
    if !scope.is_empty() {
        form.push(("scope".to_owned(), plain(&scope)));
    }
    let mut headers = form_headers();
    show_client(access, request, now, &mut headers, &mut form)?;
    Ok((headers, written(&form)))
}

fn login(access: &Access, request: &TokenRequest) -> Result<(HeaderMap, Bytes), Failure> {
    let login = request.login.as_ref().ok_or_else(unsendable)?;
    let member = |(name, template): &(String, Template)| access.text(template).map(|text| (name.clone(), text)).map_err(unusable);
    let members = login.body.iter().map(member).collect::<Result<Vec<_>, _>>()?;
    let (mut headers, body) = match login.form {
        BodyForm::Form => (form_headers(), written(&members)),
        BodyForm::Json => {
            let object: Map<String, Value> = members.iter().map(|(name, text)| (name.clone(), text.expose().into())).collect();
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
            (headers, Bytes::from(Value::Object(object).to_string()))
        }
    };
    for (name, template) in &login.headers {
        let text = access.text(template).map_err(unusable)?;
        headers.insert(name.clone(), HeaderValue::try_from(text.expose()).map_err(|_| unsendable())?);
    }
    Ok((headers, body))
}

fn form_headers() -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
    headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
    headers
}

fn written(form: &[(String, Secret)]) -> Bytes {
    let pairs = form.iter().map(|(name, value)| (name.as_str(), value.expose()));
    Bytes::from(url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish())
}

/// None where a field of it was not given.
fn scopes(access: &Access, request: &TokenRequest) -> String {
    let scope = request.scope.as_ref().and_then(|scope| access.text(scope).ok());
    scope.map(|scope| scope.expose().to_owned()).unwrap_or_default()
}

fn unusable(problem: FieldProblem) -> Failure {
    Failure::Unsendable { field: problem.field, reason: problem.message }
}

fn unsendable() -> Failure {
    Failure::Unsendable { field: "client_id".to_owned(), reason: "a header cannot carry it".to_owned() }
}
