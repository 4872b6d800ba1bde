//! Which headers cross the transparent client, in which order they are dropped and added.
//!
//! Requests: what `Connection` names goes first, so that a client cannot strip the credential; reserved names next; the
//! credential goes in last. Replies lose what would act on our own origin.

use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::{Access, limits, links::Place, rate};

const NOSNIFF: HeaderValue = HeaderValue::from_static("nosniff");
const IDENTITY: HeaderValue = HeaderValue::from_static("identity");
const SANDBOX: HeaderValue = HeaderValue::from_static("sandbox");
const TRAILERS: HeaderValue = HeaderValue::from_static("trailers");

/// Names that belong to one connection, in both directions; lengths and codings are set anew by each side.
fn hop_by_hop(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "keep-alive"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
            | "http2-settings"
            | "proxy-connection"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "proxy-authentication-info"
    )
}

/// Names of a client's request that never reach a vendor.
fn reserved(name: &str) -> bool {
    matches!(
        name,
        "host"
            | "content-length"
            | "cookie"
            | "cookie2"
            | "authorization"
            | "forwarded"
            | "x-real-ip"
            | "via"
            | "integrated-account-id"
    ) || name.starts_with("x-forwarded-")
        || name.starts_with("proxy-")
        || name.starts_with("rollcall-")
        || name.contains('_')
}

/// Whether the body is JSON, as its `Content-Type` says.
pub fn says_json(headers: &HeaderMap) -> bool {
    kind(headers).is_some_and(means_json)
}

/// Whether clients read the body as JSON when they expect it: some vendors do not say what it is.
pub fn may_be_json(headers: &HeaderMap) -> bool {
    let is_plain = |kind: &str| kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("text/plain"));
    !headers.contains_key(header::CONTENT_TYPE) || says_json(headers) || kind(headers).is_some_and(is_plain)
}

fn kind(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::CONTENT_TYPE)?.to_str().ok()
}

/// Whether a `Content-Type` means JSON; by its suffix as well (RFC 6839 §3.1).
pub fn means_json(content_type: &str) -> bool {
    let kind = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    kind == "application/json" || kind == "text/json" || kind.ends_with("+json")
}

/// Headers that describe the message rather than carry the credential: the connector's are only a default.
fn is_default(name: &HeaderName) -> bool {
    matches!(name.as_str(), "accept" | "accept-encoding" | "accept-language" | "content-type" | "user-agent")
}

/// Whether a credential may travel in a header of this name.
pub(super) fn may_inject(name: &HeaderName) -> bool {
    let text = name.as_str();
    text == "authorization" || !(hop_by_hop(text) || reserved(text) || is_default(name))
}

/// Puts the credential in for that of an earlier token: tokens stand in headers alone.
pub fn replace_credential(headers: &mut HeaderMap, access: &Access) {
    for (name, value) in access.headers.iter().filter(|(_, value)| value.is_sensitive()) {
        headers.insert(name.clone(), value.clone());
    }
}

/// The headers of the vendor's request, from those of the client in any order.
pub fn request_headers<'a>(client: impl Iterator<Item = (&'a str, &'a [u8])>, access: &Access) -> HeaderMap {
    let mut named = Vec::new();
    let mut takes_trailers = false;
    let mut headers = HeaderMap::with_capacity(client.size_hint().1.unwrap_or(8) + access.headers.len() + 1);
    for (name, value) in client {
        let Ok(name) = HeaderName::from_bytes(name.as_bytes()) else { continue };
        let text = name.as_str();
        if text == "connection" {
            collect_tokens(value, &mut named);
        } else if text == "te" {
            takes_trailers |= value.split(|byte| *byte == b',').any(|word| word.trim_ascii().eq_ignore_ascii_case(b"trailers"));
        }
        if hop_by_hop(text) || reserved(text) {
            continue;
        }
        if let Ok(value) = HeaderValue::from_bytes(value) {
            headers.append(name, value);
        }
    }
    for name in named {
        headers.remove(&name);
    }
    // Of the codings a hop takes this is the one that we hand on.
    if takes_trailers {
        headers.insert(header::TE, TRAILERS);
    }
    // Bodies whose links are rewritten must be readable.
    if !access.method.proxy.links.is_empty() {
        headers.insert(header::ACCEPT_ENCODING, IDENTITY);
    }
    for (name, value) in &access.headers {
        if !(is_default(name) && headers.contains_key(name)) {
            headers.insert(name.clone(), value.clone());
        }
    }
    headers
}

/// Lower-case names listed in `Connection`, without the two words that are no headers.
fn collect_tokens(value: &[u8], named: &mut Vec<String>) {
    for token in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
        if !token.is_empty() && !token.eq_ignore_ascii_case(b"keep-alive") && !token.eq_ignore_ascii_case(b"close") {
            named.push(String::from_utf8_lossy(token).to_ascii_lowercase());
        }
    }
}

/// The headers of our reply, from those of the vendor; links lead to `place`. `Content-Length` stays: whoever frames the
/// reply decides.
pub fn response_headers(mut headers: HeaderMap, place: &Place<'_>) -> HeaderMap {
    let mut named = Vec::new();
    for value in headers.get_all(header::CONNECTION) {
        collect_tokens(value.as_bytes(), &mut named);
    }
    // Of two lengths the chunks' is the true one (RFC 9112 §6.3).
    let is_chunked = headers.contains_key(header::TRANSFER_ENCODING);
    let drops = |name: &HeaderName| {
        let text = name.as_str();
        hop_by_hop(text)
            || acts_here(text)
            || steers(text)
            || (is_chunked && text == "content-length")
            || named.iter().any(|n| n == text)
    };
    let dropped: Vec<HeaderName> = headers.keys().filter(|name| drops(name)).cloned().collect();
    for name in dropped {
        headers.remove(name);
    }
    place.move_headers(&mut headers);
    redact(&mut headers, place.access);
    let words = &place.access.method.limits.rate;
    if rate::speaks(&headers, words) {
        let reading = rate::read(0, &headers, words);
        limits::announce(&mut headers, &reading);
    }
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, NOSNIFF);
    if headers.get_all(header::CONTENT_TYPE).iter().any(is_active) {
        headers.append(header::CONTENT_SECURITY_POLICY, SANDBOX);
    }
    headers
}

/// The fields that stand behind our body, from those behind the vendor's: none that a client would need before the body to
/// frame, route or understand the answer, or that would act on our origin (RFC 9110 §6.5.1).
pub fn response_trailers(mut trailers: HeaderMap, access: &Access) -> HeaderMap {
    let dropped: Vec<HeaderName> = trailers.keys().filter(|name| !may_trail(name)).cloned().collect();
    for name in dropped {
        trailers.remove(name);
    }
    redact(&mut trailers, access);
    trailers
}

/// The names a `Trailer` announces, without those that do not pass.
pub fn announced_trailers(headers: &HeaderMap) -> Vec<HeaderName> {
    trailing_names(headers.get_all(header::TRAILER).iter().map(HeaderValue::as_bytes)).collect()
}

/// The names of the fields that a client announces behind its body, without those that do not pass: what would not pass before
/// the body, and what would change there what the request does.
pub fn request_trailers<'a>(client: impl Iterator<Item = (&'a str, &'a [u8])>, access: &Access) -> Vec<HeaderName> {
    let (mut named, mut announced) = (Vec::new(), Vec::new());
    for (name, value) in client {
        match name {
            "connection" => collect_tokens(value, &mut named),
            "trailer" => announced.extend(trailing_names(std::iter::once(value))),
            _ => {}
        }
    }
    announced.retain(|name| {
        let text = name.as_str();
        let is_injected = access.headers.iter().any(|(injected, _)| injected == name);
        !(is_injected || reserved(text) || modifies(text) || named.iter().any(|other| other == text))
    });
    announced
}

/// Headers by which a client asks its vendor to take its method for another.
pub const METHOD_OVERRIDES: [&str; 3] = ["x-http-method-override", "x-http-method", "x-method-override"];

/// Headers that change what a request does (RFC 9110 §6.5.1).
pub fn modifies(name: &str) -> bool {
    name.starts_with("if-") || matches!(name, "expect" | "range" | "max-forwards") || METHOD_OVERRIDES.contains(&name)
}

fn trailing_names<'a>(announced: impl Iterator<Item = &'a [u8]>) -> impl Iterator<Item = HeaderName> {
    let words = announced.flat_map(|value| value.split(|byte| *byte == b','));
    words.filter_map(|word| HeaderName::from_bytes(word.trim_ascii()).ok()).filter(may_trail)
}

fn may_trail(name: &HeaderName) -> bool {
    let text = name.as_str();
    let describes = matches!(
        text,
        "content-length"
            | "content-type"
            | "content-encoding"
            | "content-range"
            | "content-location"
            | "content-disposition"
            | "content-security-policy"
            | "content-security-policy-report-only"
            | "x-content-type-options"
            | "location"
            | "link"
            | "host"
            | "age"
            | "cache-control"
            | "date"
            | "expires"
            | "pragma"
            | "vary"
            | "retry-after"
            | "www-authenticate"
            | "authorization"
            | "x-request-id"
    );
    !(describes || hop_by_hop(text) || acts_here(text) || steers(text))
}

/// Headers that a browser would take for our own origin's.
fn acts_here(name: &str) -> bool {
    matches!(name, "set-cookie" | "set-cookie2" | "strict-transport-security" | "alt-svc" | "clear-site-data" | "refresh")
}

/// Headers by which a vendor would steer a server before us, what a browser does on our origin, or what our own answers say.
fn steers(name: &str) -> bool {
    let starts = ["access-control-", "rollcall-", "idempotent-", "x-accel-"];
    starts.iter().any(|start| name.starts_with(start))
        || matches!(
            name,
            "x-sendfile"
                | "x-lighttpd-send-file"
                | "x-reproxy-url"
                | "nel"
                | "report-to"
                | "reporting-endpoints"
                | "speculation-rules"
        )
}

/// Content a browser would run as ours: HTML, SVG and every other XML.
fn is_active(content_type: &HeaderValue) -> bool {
    let text = content_type.as_bytes();
    let holds = |word: &[u8]| text.windows(word.len()).any(|part| part.eq_ignore_ascii_case(word));
    holds(b"html") || holds(b"xml")
}

/// A vendor that takes its key as a query parameter may write it into links.
fn redact(headers: &mut HeaderMap, access: &Access) {
    if access.query.is_empty() {
        return;
    }
    for value in headers.values_mut() {
        let Ok(text) = value.to_str() else { continue };
        if let Some((_, secret)) = access.query.iter().find(|(_, secret)| text.contains(secret.expose()))
            && let Ok(clean) = HeaderValue::from_str(&text.replace(secret.expose(), "***"))
        {
            *value = clean;
        }
    }
}
