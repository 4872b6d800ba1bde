//! Where a caller's token may stand: as a bearer token on our own routes; on the passthrough wherever a vendor's SDK puts a key.

use std::borrow::Cow;

use actix_web::http::header::{AUTHORIZATION, HeaderMap, HeaderName};
use base64::{Engine, engine::general_purpose::STANDARD};

use crate::{
    error::{Code, Error},
    vault::{TokenText, is_like_account_token},
};

/// How every token we make begins, up to its kind: `rck_` an API token, `rca_` an account token.
const PREFIX: &str = "rc";

/// The bearer token of a request to our own routes.
pub fn bearer(headers: &HeaderMap) -> Result<&str, Error> {
    let mut values = headers.get_all(AUTHORIZATION);
    let (value, second) = (values.next(), values.next());
    if second.is_some() {
        return Err(Error::new(Code::InvalidToken, "There must be one `Authorization` header."));
    }
    let value = value.ok_or_else(|| Error::new(Code::InvalidToken, "There is no `Authorization` header."))?;
    value
        .to_str()
        .ok()
        .and_then(|text| scheme(text, "bearer"))
        .ok_or_else(|| Error::new(Code::InvalidToken, "The `Authorization` header is not `Bearer <token>`."))
}

fn scheme<'t>(value: &'t str, name: &str) -> Option<&'t str> {
    let (scheme, rest) = value.split_once(' ')?;
    (scheme.eq_ignore_ascii_case(name) && !rest.trim().is_empty()).then(|| rest.trim())
}

/// A token found on a passthrough request, and what must not go on to the vendor because it holds it.
pub struct Found<'r> {
    /// The token.
    pub token: Cow<'r, str>,
    /// Headers that hold a token of ours.
    pub headers: Vec<HeaderName>,
    /// Query keys that hold a token of ours.
    pub query: Vec<String>,
}

/// Looks for the token where SDKs put keys: bearer, `SSWS`, basic password or user, any other header, any query value. One of
/// our making, checksum included, comes before whatever else stands as a bearer.
pub fn anywhere<'r>(headers: &'r HeaderMap, raw_query: Option<&str>) -> Result<Found<'r>, Error> {
    let authorization = headers.get(AUTHORIZATION).and_then(|v| v.to_str().ok());
    let given = authorization.and_then(authorized);
    let (mut token, other) = match given {
        Some(given) if !begins_as_ours(&given) => (None, Some(given)),
        given => (given, None),
    };
    let may_be_it = |text: &str| other.is_none() || TokenText::parse(text).is_some() || is_like_account_token(text);
    let mut found_headers = Vec::new();
    for (name, value) in headers.iter().filter(|(name, _)| *name != AUTHORIZATION) {
        let Some(text) = value.to_str().ok().and_then(ours) else { continue };
        if may_be_it(text) {
            token.get_or_insert(Cow::Borrowed(text));
        }
        found_headers.push(name.clone());
    }
    let mut query = Vec::new();
    for (key, value) in raw_query.iter().flat_map(|q| url::form_urlencoded::parse(q.as_bytes())) {
        let Some(text) = ours(&value) else { continue };
        if may_be_it(text) {
            token.get_or_insert_with(|| Cow::Owned(text.to_owned()));
        }
        query.push(key.into_owned());
    }
    match token.or(other) {
        Some(token) => Ok(Found { token, headers: found_headers, query }),
        None => Err(Error::new(Code::InvalidToken, "No token of this gateway stands where a key is expected.")),
    }
}

/// Whether a token of ours stands in a text, also as a part of what `Basic` encodes.
pub fn stands_in(text: &str) -> bool {
    ours(text).is_some() || authorized(text).is_some_and(|token| ours(&token).is_some())
}

/// A token of ours within a text, whatever stands around it: `GenieKey rck_…`, `Token token="rck_…"`.
fn ours(text: &str) -> Option<&str> {
    let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    let begins = |at: &usize| begins_as_ours(&text[*at..]) && !text.as_bytes()[..*at].last().is_some_and(is_word);
    let start = text.match_indices(PREFIX).map(|(at, _)| at).find(begins)?;
    let token = &text[start..];
    // An account token is three parts with dots between them, in an alphabet that has the dash.
    let is_part = |byte: &u8| is_word(byte) || (token.starts_with("rca_") && matches!(byte, b'-' | b'.'));
    Some(&token[..token.bytes().position(|byte| !is_part(&byte)).unwrap_or(token.len())])
}

fn begins_as_ours(text: &str) -> bool {
    text.starts_with("rck_") || text.starts_with("rca_")
}

fn authorized(value: &str) -> Option<Cow<'_, str>> {
    if let Some(token) = scheme(value, "bearer").or_else(|| scheme(value, "ssws")).or_else(|| scheme(value, "token")) {
        return Some(ours(token).unwrap_or(token).into());
    }
    let Some(basic) = scheme(value, "basic") else { return ours(value).map(Cow::from) };
    let pair = String::from_utf8(STANDARD.decode(basic).ok()?).ok()?;
    let (user, password) = pair.split_once(':').unwrap_or((&pair, ""));
    let token = if password.is_empty() || begins_as_ours(user) { user } else { password };
    Some(token.to_owned().into())
}
