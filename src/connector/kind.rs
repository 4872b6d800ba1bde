//! What each kind of field takes: one spelling is kept of everything a customer may paste.

use url::{Host, Url};
use uuid::Uuid;

use super::{
    file::{FieldFile, FieldKind},
    trust,
};

/// Whether an address the connector does not name may be used all the same.
pub(super) type Loose<'a> = &'a dyn Fn(&Url) -> bool;

/// Longest value of a field.
const LONGEST: usize = 8_192;

/// Headers a customer's field may not name: they belong to the connection or to the gateway.
const NOT_HEADERS: &[&str] = &[
    "host",
    "content-length",
    "content-type",
    "content-encoding",
    "transfer-encoding",
    "connection",
    "keep-alive",
    "upgrade",
    "te",
    "trailer",
    "expect",
    "cookie",
    "set-cookie",
    "accept",
    "accept-encoding",
    "forwarded",
    "via",
    "date",
];
const NOT_HEADER_PREFIXES: &[&str] = &["proxy-", "sec-", "x-forwarded-", "rollcall-"];

/// The value as it is kept, or what the field takes. Where it is `bound`, `hosts` of the field holds for addresses that are
/// allowed otherwise, too.
pub(super) fn normalize(field: &FieldFile, given: &str, loose: Loose<'_>, bound: bool) -> Result<String, String> {
    let longest = if field.kind == FieldKind::Certificates { trust::LONGEST } else { LONGEST };
    if given.len() > longest {
        return Err(format!("takes at most {longest} bytes"));
    }
    let at_home = |url: Url| {
        let past_hosts = !bound && loose(&url);
        at_home(field, url, past_hosts)
    };
    let value = match field.kind {
        FieldKind::Secret => secret(given)?,
        FieldKind::PrivateKey => private_key(given)?,
        FieldKind::Text => text(given)?,
        FieldKind::Origin | FieldKind::BaseUrl => {
            at_home(address(field, given, loose)?)?.as_str().trim_end_matches('/').to_owned()
        }
        // Servers tell `/token` from `/token/`, and some want a query: nothing is taken away.
        FieldKind::Endpoint => at_home(endpoint(given, loose)?)?.into(),
        FieldKind::Integer => integer(given)?,
        FieldKind::Uuid => uuid(given)?,
        FieldKind::Choice => choice(field, given)?,
        FieldKind::HeaderName => header_name(given)?,
        FieldKind::Certificates => trust::certificates(given)?,
        FieldKind::Fingerprint => trust::fingerprint(given)?,
    };
    match field.length {
        Some(length) if value.chars().count() != length => {
            Err(format!("takes exactly {length} characters, not {}", value.chars().count()))
        }
        _ => Ok(value),
    }
}

/// Whether a field of a customer may name this header. Lower case.
pub(super) fn may_set(name: &str) -> bool {
    !NOT_HEADERS.contains(&name) && !NOT_HEADER_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// A key pasted from a terminal or a file ends with a line break: that one goes, everything else odd is refused.
fn secret(given: &str) -> Result<String, String> {
    let value = given.strip_suffix('\n').unwrap_or(given);
    let value = value.strip_suffix('\r').unwrap_or(value);
    if value.trim() != value {
        return Err("begins or ends with a blank or a line break; paste the key alone".into());
    }
    if value.contains(|c: char| c.is_control()) {
        return Err("holds a line break or another control character; paste the key alone, on one line".into());
    }
    Ok(value.to_owned())
}

/// One line, with `\n` for each line break, as JSON key files of vendors have it.
fn private_key(given: &str) -> Result<String, String> {
    let lines = given.trim().replace("\\n", "\n").replace('\r', "");
    let is_whole = lines.starts_with("-----BEGIN ") && lines.trim_end().ends_with("-----") && lines.contains("PRIVATE KEY-----");
    if !is_whole || lines.contains("ENCRYPTED") || lines.contains(|c: char| c.is_control() && c != '\n') {
        return Err("takes a private key in PEM without a passphrase, from `-----BEGIN` to the last `-----`".into());
    }
    Ok(lines.trim().replace('\n', "\\n"))
}

fn text(given: &str) -> Result<String, String> {
    let value = given.trim();
    if value.contains(|c: char| c.is_control()) {
        return Err("holds a line break or another control character".into());
    }
    Ok(value.to_owned())
}

fn integer(given: &str) -> Result<String, String> {
    let value = given.trim();
    let digits = !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit());
    match value.parse::<u64>() {
        Ok(number) if digits => Ok(number.to_string()),
        _ => Err("takes a whole number, digits only".into()),
    }
}

fn uuid(given: &str) -> Result<String, String> {
    let id = Uuid::try_parse(given.trim()).map_err(|_| "takes a UUID, for example 4f2c0d2e-8a53-4d0e-9d61-7e0c0a11c0de")?;
    Ok(id.hyphenated().to_string())
}

/// The word the customer picks, whatever the case, or what it stands for.
fn choice(field: &FieldFile, given: &str) -> Result<String, String> {
    let value = given.trim();
    let by_word = field.values.iter().find(|(word, _)| word.eq_ignore_ascii_case(value));
    let meant = by_word.or_else(|| field.values.iter().find(|(_, meaning)| *meaning == value));
    match meant {
        Some((_, meaning)) => Ok(meaning.clone()),
        None => Err(format!("takes one of {}", field.values.keys().map(String::as_str).collect::<Vec<_>>().join(", "))),
    }
}

fn header_name(given: &str) -> Result<String, String> {
    let name = http::HeaderName::from_bytes(given.trim().as_bytes())
        .map_err(|_| "takes the name of an HTTP header, for example X-Api-Key".to_owned())?;
    if may_set(name.as_str()) { Ok(name.as_str().to_owned()) } else { Err(format!("`{name}` may not be set")) }
}

fn address(field: &FieldFile, given: &str, loose: Loose<'_>) -> Result<Url, String> {
    let with_path = field.kind == FieldKind::BaseUrl;
    let form = if with_path { "https://host[:port]/path" } else { "https://host[:port]" };
    let url = plain_url(given.trim(), loose).map_err(|reason| format!("takes {form}: {reason}"))?;
    match with_path || url.path() == "/" {
        true => Ok(url),
        false => Err(format!("takes {form}: nothing may stand behind the host")),
    }
}

fn endpoint(given: &str, loose: Loose<'_>) -> Result<Url, String> {
    whole_url(given.trim(), loose).map_err(|reason| format!("takes https://host[:port]/path: {reason}"))
}

fn at_home(field: &FieldFile, url: Url, past_hosts: bool) -> Result<Url, String> {
    match past_hosts || within(&url, &field.hosts) {
        true => Ok(url),
        false => Err(format!("takes an address at {}", field.hosts.join(" or "))),
    }
}

/// An address with its query, if it has one.
pub(super) fn whole_url(text: &str, loose: Loose<'_>) -> Result<Url, String> {
    let Some((address, query)) = text.split_once('?') else { return plain_url(text, loose) };
    if !query.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'#' | b'"' | b'<' | b'>' | b'\\')) {
        return Err("the query is not written plainly".into());
    }
    let mut url = plain_url(address, loose)?;
    url.set_query(Some(query));
    Ok(url)
}

/// Reads an address that means the same to everybody: what parsers repair or read differently is refused.
pub(super) fn plain_url(text: &str, loose: Loose<'_>) -> Result<Url, String> {
    let scheme = text.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
    if !matches!(scheme.as_deref(), Some("https" | "http")) {
        return Err("it begins with https://".into());
    }
    if text.contains(|c: char| c.is_control() || c.is_whitespace()) || text.contains('\\') {
        return Err("no blanks, control characters or backslashes".into());
    }
    if text.contains(['?', '#']) {
        return Err("no `?` and no `#`".into());
    }
    let (_, rest) = text.split_once("://").unwrap_or_default();
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    if authority.contains('@') {
        return Err("no user name or password in the address".into());
    }
    plain_segments(path)?;
    let url = Url::parse(text).map_err(|_| "this is not an address".to_owned())?;
    match url.host() {
        Some(Host::Domain(host)) if host.ends_with('.') => return Err("the host does not end with a dot".into()),
        Some(_) => {}
        None => return Err("it has no host".into()),
    }
    if url.port() == Some(0) {
        return Err("port 0 is not a port".into());
    }
    if url.scheme() == "http" && !loose(&url) {
        return Err("http is only for addresses the operator lists in `ROLLCALL_EGRESS_ALLOW`; use https".into());
    }
    Ok(url)
}

fn plain_segments(path: &str) -> Result<(), String> {
    let lower = path.to_ascii_lowercase();
    if ["%2e", "%2f", "%5c", "%00"].iter().any(|coded| lower.contains(coded)) {
        return Err("no encoded dots, slashes or backslashes in the path".into());
    }
    let path = path.strip_suffix('/').unwrap_or(path);
    if path.split('/').any(|segment| segment == "." || segment == "..") {
        return Err("no dot segments in the path".into());
    }
    if !path.is_empty() && path.split('/').any(str::is_empty) {
        return Err("no empty segments in the path".into());
    }
    Ok(())
}

/// Whether the host is one of these or below one of them; every host when there are none.
fn within(url: &Url, hosts: &[String]) -> bool {
    let Some(Host::Domain(host)) = url.host() else { return hosts.is_empty() };
    let below = |parent: &String| host.strip_suffix(parent.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    hosts.is_empty() || hosts.iter().any(below)
}
