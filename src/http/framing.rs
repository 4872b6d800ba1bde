//! What a request must look like before anybody reads it. Pure checks; `gate` applies them.

use actix_web::http::{
    Method, Uri, Version,
    header::{self, HeaderMap},
};

use crate::error::{Code, Error};

/// Where the transparent proxy begins; the only routes whose raw target is handed on.
pub const PASSTHROUGH: &str = "/passthrough/";

/// The longest request target that is read.
pub const MAX_TARGET: usize = 16 * 1024;
/// The longest method: it stands in every log.
const MAX_METHOD: usize = 32;

/// The most header bytes that are read; actix refuses a head beyond its own 128 KiB buffer before we see it.
pub const MAX_HEADERS: usize = 64 * 1024;

/// Whether the path is one that operators' probes and scrapers ask: answered under any load and by any name.
pub fn is_probe(path: &str) -> bool {
    ANY_HOST.contains(&path)
}

/// Whether the path is one by which operators find out who asks too much, and stop it.
pub fn is_operators(path: &str) -> bool {
    matches!(path, "/log" | "/api-token") || path.starts_with("/api-token/")
}

/// Paths that answer whatever the `Host`, because probes and scrapers call by address.
const ANY_HOST: &[&str] = &["/healthz", "/readyz", "/metrics", "/ping"];

/// Refuses a request whose framing, target or host is not safe to act on. The connection must be closed after a refusal.
pub fn check(method: &Method, uri: &Uri, version: Version, headers: &HeaderMap, public_host: Option<&str>) -> Result<(), Error> {
    if headers.contains_key(header::UPGRADE) {
        return Err(refuse("`Upgrade` is not accepted: it would change how the body is framed.", header::UPGRADE.as_str()));
    }
    if method.as_str().len() > MAX_METHOD {
        return Err(Error::new(Code::InvalidRequest, format!("The method is longer than {MAX_METHOD} bytes.")));
    }
    if matches!(*method, Method::CONNECT | Method::TRACE) {
        return Err(Error::new(Code::MethodNotAllowed, format!("{method} is never answered."))
            .allow("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"));
    }
    if uri.scheme().is_some() || uri.authority().is_some() || !uri.path().starts_with('/') {
        return Err(Error::new(Code::InvalidRequest, "The request target must be a path, not an absolute address."));
    }
    if uri.path_and_query().map_or(0, |t| t.as_str().len()) > MAX_TARGET {
        return Err(Error::new(Code::InvalidRequest, format!("The request target is longer than {MAX_TARGET} bytes.")));
    }
    if headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum::<usize>() > MAX_HEADERS {
        return Err(Error::new(Code::InvalidRequest, format!("The headers are larger than {MAX_HEADERS} bytes.")).status(431));
    }
    check_lengths(version, headers)?;
    check_path(uri.path())?;
    check_host(uri.path(), headers, public_host)
}

fn check_lengths(version: Version, headers: &HeaderMap) -> Result<(), Error> {
    let coded = headers.contains_key(header::TRANSFER_ENCODING);
    if coded && (headers.contains_key(header::CONTENT_LENGTH) || version < Version::HTTP_11) {
        return Err(refuse("A body has one length.", header::TRANSFER_ENCODING.as_str()));
    }
    if headers.get_all(header::CONTENT_LENGTH).count() > 1 {
        return Err(refuse("A body has one length.", header::CONTENT_LENGTH.as_str()));
    }
    Ok(())
}

fn check_path(path: &str) -> Result<(), Error> {
    let collapsed = collapse(path).unwrap_or(path);
    let leads_out = path != collapsed && collapsed.starts_with(PASSTHROUGH);
    let behind_account = path.strip_prefix(PASSTHROUGH).and_then(|rest| rest.split_once('/'));
    if leads_out || behind_account.is_some_and(|(account, rest)| account.is_empty() || rest.starts_with('/')) {
        return Err(Error::new(Code::InvalidPath, "A double slash at the front of a path names another host to some vendors."));
    }
    Ok(())
}

fn check_host(path: &str, headers: &HeaderMap, public_host: Option<&str>) -> Result<(), Error> {
    let mut hosts = headers.get_all(header::HOST);
    let (host, second) = (hosts.next(), hosts.next());
    if second.is_some() {
        return Err(refuse("There must be one `Host`.", header::HOST.as_str()));
    }
    let Some(wanted) = public_host.filter(|_| !ANY_HOST.contains(&collapse(path).unwrap_or(path))) else {
        return Ok(());
    };
    match host.and_then(|h| h.to_str().ok()) {
        Some(host) if host.eq_ignore_ascii_case(wanted) => Ok(()),
        _ => Err(Error::new(Code::UnknownHost, "The `Host` header is not the public address of this gateway.")),
    }
}

fn refuse(why: &str, field: &str) -> Error {
    Error::new(Code::InvalidRequest, why).field(field)
}

/// The path with one leading slash, when it has more.
pub fn collapse(path: &str) -> Option<&str> {
    let extra = path.bytes().take_while(|b| *b == b'/').count().saturating_sub(1);
    (extra > 0).then(|| &path[extra..])
}

/// A request id of the caller that is safe to log and to echo.
pub fn sane_id(headers: &HeaderMap) -> Option<&str> {
    let id = headers.get("x-request-id")?.to_str().ok()?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    (!id.is_empty() && id.len() <= 128 && id.bytes().all(plain)).then_some(id)
}
