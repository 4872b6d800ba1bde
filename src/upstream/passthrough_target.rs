//! Where a transparent call goes: the bound scheme, authority and base path, and behind them the caller's own path and
//! query, byte for byte. Nothing is decoded, encoded or normalised on the way; what could leave the base is refused.

use std::borrow::Cow;

use http::{
    Uri,
    uri::{Authority, PathAndQuery},
};
use percent_encoding::percent_decode_str;
use url::Url;

use super::query;
use crate::{
    error::{Code, Error},
    model::Secret,
};

/// Longest path and query together.
const LONGEST: usize = 8 * 1024;
/// How often a server behind a server might decode a path.
const ROUNDS: usize = 3;

/// Why a path is not handed on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the path {0}")]
pub struct PathError(&'static str);

impl PathError {
    /// The row of the error table it becomes.
    pub fn code(&self) -> Code {
        Code::InvalidPath
    }
}

impl From<PathError> for Error {
    fn from(error: PathError) -> Self {
        Error::new(error.code(), format!("{error}."))
    }
}

/// The whole target of a transparent call. `raw_path` is empty or begins with a slash and stands below the base's path;
/// `inject` are the credential's parameters (values encoded), which take the place of the caller's of the same names.
pub fn build_target(
    base: &Url,
    raw_path: &str,
    raw_query: Option<&str>,
    inject: &[(String, Secret)],
    encoded_slashes: bool,
) -> Result<Uri, PathError> {
    check(raw_path, raw_query, encoded_slashes)?;
    let prefix = base.path().trim_end_matches('/');
    let mut text = String::with_capacity(prefix.len() + raw_path.len() + raw_query.map_or(0, str::len) + 2);
    text.push_str(prefix);
    text.push_str(raw_path);
    if text.is_empty() {
        text.push('/');
    }
    let path_ends = text.len();
    push_query(&mut text, raw_query, inject);

    let refused = |_| PathError("holds a character that may not stand there");
    let target = PathAndQuery::try_from(text.as_str()).map_err(refused)?;
    let authority = Authority::try_from(base.authority()).map_err(|_| PathError("has no host to go to"))?;
    let built = Uri::builder().scheme(base.scheme()).authority(authority).path_and_query(target).build();
    let uri = built.map_err(|_| PathError("has no address to go to"))?;

    // Whatever the parsers made of it: same origin, same prefix, same bytes.
    let same_origin = uri.scheme_str() == Some(base.scheme()) && uri.authority().is_some_and(|a| a.as_str() == base.authority());
    let below = uri.path().strip_prefix(prefix).is_some_and(|rest| rest == raw_path || (raw_path.is_empty() && rest == "/"));
    let query_kept = uri.query() == text.get(path_ends + 1..);
    match same_origin && below && uri.path() == &text[..path_ends] && query_kept {
        true => Ok(uri),
        false => Err(PathError("could leave the vendor's base address")),
    }
}

fn push_query(text: &mut String, raw_query: Option<&str>, inject: &[(String, Secret)]) {
    let mut separator = '?';
    let own = raw_query.into_iter().flat_map(|raw| raw.split('&'));
    for pair in own.filter(|pair| !inject.iter().any(|(name, _)| is_named(pair, name))) {
        text.push(separator);
        text.push_str(pair);
        separator = '&';
    }
    for (name, value) in inject {
        text.push(separator);
        text.push_str(&query::encode(name));
        text.push('=');
        text.push_str(value.expose());
        separator = '&';
    }
}

/// Whether a raw `name=value` pair has this name, however it is written.
pub(super) fn is_named(pair: &str, name: &str) -> bool {
    let raw = pair.split_once('=').map_or(pair, |(name, _)| name);
    let raw = if raw.contains('+') { Cow::Owned(raw.replace('+', " ")) } else { Cow::Borrowed(raw) };
    percent_decode_str(&raw).decode_utf8_lossy().eq_ignore_ascii_case(name)
}

/// Whether a path and a query, as they are written, may be handed on.
pub(super) fn check(path: &str, query: Option<&str>, encoded_slashes: bool) -> Result<(), PathError> {
    if path.len() + query.map_or(0, str::len) > LONGEST {
        return Err(PathError("and query are longer than 8 KiB"));
    }
    if !path.is_empty() && !path.starts_with('/') {
        return Err(PathError("does not begin with a slash"));
    }
    if path.starts_with("//") {
        return Err(PathError("begins with an empty segment"));
    }
    let bad = |byte: u8| byte <= 0x20 || byte == 0x7f || byte == b'#';
    if path.bytes().any(|byte| bad(byte) || byte == b'\\' || byte == b'?') || query.is_some_and(|q| q.bytes().any(bad)) {
        return Err(PathError("or query holds a control character, a space, `#` or a backslash"));
    }
    check_round(path.as_bytes())?;
    match path.contains('%') {
        true => check_escapes(path, encoded_slashes),
        false => Ok(()),
    }
}

/// What the path would be to servers that decode it once, twice or three times.
fn check_escapes(path: &str, encoded_slashes: bool) -> Result<(), PathError> {
    let bytes = path.as_bytes();
    for at in (0..bytes.len()).filter(|at| bytes[*at] == b'%') {
        let escape = bytes.get(at + 1..at + 3).filter(|pair| pair.iter().all(u8::is_ascii_hexdigit));
        let escape = escape.ok_or(PathError("holds a `%` that is not an escape"))?;
        let slash = escape.eq_ignore_ascii_case(b"2f") && !encoded_slashes;
        if slash || escape.eq_ignore_ascii_case(b"5c") {
            return Err(PathError("holds an encoded slash or backslash"));
        }
    }
    let mut now = percent_decode_str(path).collect::<Vec<u8>>();
    if std::str::from_utf8(&now).is_err() {
        return Err(PathError("is not UTF-8 when decoded"));
    }
    for _ in 0..ROUNDS {
        check_round(&now)?;
        let next: Vec<u8> = percent_encoding::percent_decode(&now).collect();
        if next == now {
            break;
        }
        now = next;
    }
    Ok(())
}

fn check_round(path: &[u8]) -> Result<(), PathError> {
    if path.iter().any(|byte| *byte < 0x20 || *byte == 0x7f) {
        return Err(PathError("holds a control character when decoded"));
    }
    if path.iter().any(|byte| matches!(byte, 0xc0 | 0xc1)) {
        return Err(PathError("is not UTF-8 when decoded"));
    }
    let text = match path.is_ascii() {
        true => String::from_utf8_lossy(path),
        // Look-alikes that some servers fold into dots and slashes.
        false => String::from_utf8_lossy(path)
            .replace(['\u{ff0e}', '\u{2024}', '\u{fe52}', '\u{3002}'], ".")
            .replace(['\u{2025}', '\u{fe30}'], "..")
            .replace(['\u{ff0f}', '\u{2215}', '\u{2044}', '\u{ff3c}'], "/")
            .into(),
    };
    for segment in text.split(['/', '\\']) {
        let name = segment.split(';').next().unwrap_or(segment).trim();
        if name == "." || name == ".." {
            return Err(PathError("holds a dot segment"));
        }
    }
    Ok(())
}
