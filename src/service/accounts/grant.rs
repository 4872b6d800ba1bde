//! What a customer granted elsewhere: a code that the browser brought back, or tokens that a caller has from before.

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{Accounts, credential::field_problems, renew::Over, replace::KeptGrant, verify::refused};
use crate::{
    connector::{FieldProblem, LinkMethod},
    error::{Code, Error, Result},
    model::Secret,
    upstream::{Access, CodeGrant, Token, is_token},
    vault::same_secret,
};

/// The member of `context` that holds tokens, as Truto has it.
pub(super) const OAUTH: &str = "oauth";

/// What first tokens come of. Holds secrets, therefore no `Debug`.
pub enum Granted {
    /// The customer agreed at the vendor a moment ago.
    Code(CodeGrant),
    /// A caller has tokens of another system's link.
    Tokens(Tokens),
    /// A caller has the account's own refresh token, with an access token that is good; it takes the place of the kept one, if that
    /// is still the one it is held against.
    Own(Tokens, Over),
    /// The account's own, while its other fields change.
    Kept(Box<KeptGrant>),
}

/// `context.oauth.token`. Holds secrets, therefore no `Debug`.
#[derive(Deserialize)]
pub struct Tokens {
    access_token: Option<Secret>,
    refresh_token: Option<Secret>,
    /// Seconds from now.
    expires_in: Option<f64>,
    expires_at: Option<Timestamp>,
}

#[derive(Deserialize)]
struct OAuth {
    token: Tokens,
}

impl Tokens {
    /// Takes the tokens out of a context. Methods that need no browser have none.
    pub(super) fn take(method: &LinkMethod, context: &mut Map<String, Value>) -> Result<Option<Tokens>> {
        if !method.needs_browser() {
            return Ok(None);
        }
        let Some(value) = context.remove(OAUTH) else { return Ok(None) };
        let OAuth { token } = serde_json::from_value(value).map_err(|_| {
            invalid(
                "takes `{\"token\": {\"access_token\", \"refresh_token\", \"expires_in\"}}`, all but one of the tokens optional",
            )
        })?;
        let given: Vec<&Secret> = token.access_token.iter().chain(&token.refresh_token).collect();
        if given.is_empty() {
            return Err(invalid("takes `access_token`, `refresh_token` or both"));
        }
        match given.iter().all(|text| is_token(text.expose())) {
            true => Ok(Some(token)),
            false => Err(invalid("holds a token that no header can carry")),
        }
    }

    /// The tokens, if the access token among them can be tried as it is. Nothing is stored of a trial: the refresh token, which
    /// most vendors take once, would be spent for nothing, and stays where it is.
    pub(super) fn for_trial(self, now: Timestamp) -> Result<Tokens> {
        match self.is_good(now) {
            true => Ok(Tokens { refresh_token: None, ..self }),
            false => Err(invalid(
                "holds no access token that is still good; to try the refresh token would spend it and keep nothing of what comes \
                 of it: link the account by it",
            )),
        }
    }

    /// Whether linking by them uses the refresh token up.
    pub(super) fn must_refresh(&self, now: Timestamp) -> bool {
        self.refresh_token.is_some() && !self.is_good(now)
    }

    /// Whether there is a refresh token among them.
    pub(super) fn have_refresh(&self) -> bool {
        self.refresh_token.is_some()
    }

    /// Whether this is the refresh token among them.
    pub(super) fn bring(&self, refresh: &Secret) -> bool {
        let brought = self.refresh_token.as_ref();
        brought.is_some_and(|brought| same_secret(brought.expose().as_bytes(), refresh.expose().as_bytes()))
    }

    /// Whether there is an access token that says nothing of an end, or of one to come.
    fn is_good(&self, now: Timestamp) -> bool {
        self.access_token.is_some() && self.ends(now).is_none_or(|end| end > now)
    }

    fn ends(&self, now: Timestamp) -> Option<Timestamp> {
        let life = self.expires_in.filter(|seconds| seconds.is_finite()).map(|seconds| SignedDuration::from_secs(seconds as i64));
        self.expires_at.or_else(|| life.and_then(|life| now.checked_add(life).ok()))
    }
}

impl Accounts {
    /// The token of a grant. Tokens from elsewhere are used as they are while they are good: a refresh would end them there.
    pub(super) async fn granted(&self, access: &Access, grant: Granted, now: Timestamp) -> Result<(Token, Option<Over>)> {
        match grant {
            Granted::Code(code) => Ok((self.upstream.token_for(access, &code, now).await.map_err(refused)?, None)),
            Granted::Tokens(tokens) => Ok((self.brought(access, tokens, now).await?, None)),
            Granted::Own(tokens, over) => Ok((self.brought(access, tokens, now).await?, Some(over))),
            Granted::Kept(kept) => {
                let (token, hold) = self.good_for(access, *kept).await?;
                let over = (token.version, hold);
                Ok((token, Some(over)))
            }
        }
    }

    async fn brought(&self, access: &Access, tokens: Tokens, now: Timestamp) -> Result<Token> {
        let (expires_at, must_refresh) = (tokens.ends(now), tokens.must_refresh(now));
        match (tokens.access_token, tokens.refresh_token) {
            (_, Some(refresh)) if must_refresh => {
                let token = self.upstream.refresh(access, &refresh, now).await.map_err(|why| refused(why.into()))?;
                Ok(Token { refresh: token.refresh.or(Some(refresh)), ..token })
            }
            (Some(_), None) if expires_at.is_some_and(|end| end <= now) => {
                Err(invalid("holds an access token that has ended, and no refresh token"))
            }
            (Some(secret), refresh) => {
                Ok(Token { secret, refresh, issued_at: now, expires_at, version: 0, ended: false, unproven: false })
            }
            (None, _) => Err(invalid("takes `access_token`, `refresh_token` or both")),
        }
    }
}

/// The error for a way to link that only a browser can go.
pub(super) fn needs_browser(method: &LinkMethod) -> Error {
    let detail = format!(
        "`{}` is agreed to at the vendor: make a link token (`POST /link-token`) for the customer's browser, or give the tokens \
         you have as `context.oauth.token`.",
        method.name
    );
    Error::new(Code::InvalidBody, detail).field("context.oauth.token")
}

fn invalid(message: &str) -> Error {
    field_problems(vec![FieldProblem { field: "oauth.token".to_owned(), message: message.to_owned() }])
}
