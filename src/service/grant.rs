//! What a customer granted elsewhere: a code that the browser brought back, or tokens that a caller has from before.

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{accounts::Accounts, credential::field_problems, verify::refused};
use crate::{
    connector::{FieldProblem, LinkMethod},
    error::{Code, Error, Result},
    model::Secret,
    upstream::{Access, CodeGrant, Token, is_token},
};

/// The member of `context` that holds tokens, as Truto has it.
const OAUTH: &str = "oauth";

/// What first tokens come of. Holds secrets, therefore no `Debug`.
pub enum Granted {
    /// The customer agreed at the vendor a moment ago.
    Code(CodeGrant),
    /// A caller has tokens of another system's link.
    Tokens(Tokens),
    /// The account's own, while its other fields change.
    Kept(Token),
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

    fn ends(&self, now: Timestamp) -> Option<Timestamp> {
        let life = self.expires_in.filter(|seconds| seconds.is_finite()).map(|seconds| SignedDuration::from_secs(seconds as i64));
        self.expires_at.or_else(|| life.and_then(|life| now.checked_add(life).ok()))
    }
}

impl Accounts {
    /// The tokens of a grant. Tokens from elsewhere are used as they are while they are good: a refresh would end them there.
    pub(super) async fn granted(&self, access: &Access, grant: Granted, now: Timestamp) -> Result<Token> {
        let tokens = match grant {
            Granted::Code(code) => return self.upstream.token_for(access, &code, now).await.map_err(refused),
            Granted::Kept(token) => return Ok(token),
            Granted::Tokens(tokens) => tokens,
        };
        let expires_at = tokens.ends(now);
        let is_good = expires_at.is_none_or(|end| end > now);
        match (tokens.access_token, tokens.refresh_token) {
            (Some(secret), refresh) if is_good || refresh.is_none() => {
                Ok(Token { secret, refresh, issued_at: now, expires_at, version: 0, ended: false, unproven: false })
            }
            (_, Some(refresh)) => {
                let token = self.upstream.refresh(access, &refresh, now).await.map_err(refused)?;
                Ok(Token { refresh: token.refresh.or(Some(refresh)), ..token })
            }
            (_, None) => Err(invalid("takes `access_token`, `refresh_token` or both")),
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
