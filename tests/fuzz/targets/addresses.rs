//! Addresses: the path and query of a transparent call, and the links of its answer.

use http::{HeaderMap, HeaderValue, header};
use percent_encoding::percent_decode_str;
use rollcall::{
    model::Secret,
    upstream::{headers::response_headers, link_header, links::Place, passthrough_target::build_target},
};
use url::Url;

use super::sealed::stand;

const BASES: [&str; 3] = ["https://api.vendor.example", "https://api.vendor.example/scim/v2", "https://vendor.example:8443/a/b"];

/// A path and, behind the first `?`, a query. The way says below which base; 4 allows encoded slashes, 8 injects a parameter.
pub fn path(data: &[u8]) -> bool {
    let (way, rest) = super::split(data);
    let Ok(text) = std::str::from_utf8(rest) else { return false };
    let (path, query) = text.split_once('?').map_or((text, None), |(path, query)| (path, Some(query)));
    let base = Url::parse(BASES[way % 3]).expect("an address");
    let inject = match way & 8 {
        0 => Vec::new(),
        _ => vec![("api_key".to_owned(), Secret::new("s%2B1".to_owned()))],
    };
    let Ok(uri) = build_target(&base, path, query, &inject, way & 4 != 0) else { return false };

    let prefix = base.path().trim_end_matches('/');
    let whole = if prefix.is_empty() && path.is_empty() { "/".to_owned() } else { format!("{prefix}{path}") };
    assert_eq!(uri.scheme_str(), Some(base.scheme()));
    assert_eq!(uri.authority().map(|authority| authority.as_str()), Some(base.authority()));
    assert_eq!(uri.path(), whole, "the path was changed");
    match inject.is_empty() {
        true => assert_eq!(uri.query(), query, "the query was changed"),
        false => assert_injected(query, uri.query()),
    }
    let mut now = whole;
    for _ in 0..4 {
        assert!(stays_below(&now, prefix), "{path:?} leaves {prefix:?} as {now:?}");
        let parsed = Url::parse(&format!("{}{now}", base.origin().ascii_serialization())).expect("an address");
        assert_eq!(parsed.origin(), base.origin(), "{path:?} changes the host as {now:?}");
        now = percent_decode_str(&now).decode_utf8_lossy().into_owned();
    }
    true
}

/// The credential stands there once and last, and everything else that was asked before it.
fn assert_injected(asked: Option<&str>, sent: Option<&str>) {
    let rest = sent.and_then(|sent| sent.strip_suffix("api_key=s%2B1")).expect("the credential is missing");
    let kept: Vec<&str> = rest.strip_suffix('&').unwrap_or(rest).split('&').collect();
    let own = |pair: &&str| {
        let name = pair.split('=').next().unwrap_or_default();
        percent_decode_str(name).decode_utf8_lossy().eq_ignore_ascii_case("api_key")
    };
    assert!(!kept.iter().any(own), "the caller's own `api_key` was sent: {sent:?}");
    let honest: Vec<&str> = asked.unwrap_or_default().split('&').filter(|pair| !own(pair)).collect();
    assert!(kept == honest || honest.is_empty(), "{asked:?} became {sent:?}");
}

/// Walks the segments as a server would and looks whether it ever stands above the prefix.
fn stays_below(path: &str, prefix: &str) -> bool {
    let floor = prefix.split('/').filter(|segment| !segment.is_empty()).count();
    let mut depth = 0_usize;
    for segment in path.split(['/', '\\']).filter(|segment| !segment.is_empty()) {
        match segment.split(';').next() {
            Some(".") => {}
            Some("..") if depth <= floor => return false,
            Some("..") => depth -= 1,
            _ => depth += 1,
        }
    }
    true
}

/// Values of a header, one a line, 0: `Link`, 1: `Location`, 2: `Content-Location`; 3: a link of a body. 4 gives the gateway a
/// public address.
pub fn link(data: &[u8]) -> bool {
    let (way, rest) = super::split(data);
    let origin = "https://gateway.example".into();
    let access = &stand().linked.access;
    let place = Place { origin: (way & 4 != 0).then_some(&origin), access, path: "/users/1" };
    if way % 4 == 3 {
        return std::str::from_utf8(rest).is_ok_and(|text| body_link(&place, text));
    }
    let name = [header::LINK, header::LOCATION, header::CONTENT_LOCATION][way % 4].clone();
    let mut headers = HeaderMap::new();
    for value in rest.split(|byte| *byte == b'\n').take(8) {
        if let Ok(value) = HeaderValue::from_bytes(value) {
            headers.append(&name, value);
        }
    }
    read(&headers);
    let moved = response_headers(headers, &place);
    let mut came_through = false;
    for value in moved.get_all(&name) {
        let text = value.to_str().expect("a value that is no text was handed on");
        if name == header::LINK {
            came_through |= assert_links(&place, text);
        } else {
            assert!(is_ours(&place, text), "{name}: {text:?} leads elsewhere");
            came_through = true;
        }
    }
    came_through
}

/// The reader gives parts of what stands there, in order.
fn read(headers: &HeaderMap) {
    let texts: Vec<&str> = headers.get_all(header::LINK).iter().filter_map(|value| value.to_str().ok()).collect();
    for text in &texts {
        let mut at = 0;
        for link in link_header::links(text) {
            assert!(at < link.target.start && link.target.start <= link.target.end);
            assert_eq!((&text[link.target.start - 1..link.target.start], &text[link.target.end..=link.target.end]), ("<", ">"));
            at = link.target.end + 1;
            assert!(text[at..].starts_with(link.parameters));
            at += link.parameters.len();
        }
    }
    let next = link_header::next(headers);
    assert!(next.is_none_or(|next| texts.iter().any(|text| text.contains(&next))));
}

/// Whatever a client takes for a link: one to the vendor's own hosts never stands there, and one that clients follow by
/// themselves leads to us. Says whether one leads to a path below the base.
fn assert_links(place: &Place<'_>, text: &str) -> bool {
    let mut came_through = false;
    for (at, _) in text.match_indices('<') {
        let Some((target, tail)) = text[at + 1..].split_once('>') else { continue };
        let tail = tail.split('<').next().unwrap_or_default();
        for url in led(place, target) {
            assert!(url.origin() != place.access.base.origin(), "{text:?} leads to {url}");
            assert!(is_gateway(&url) || !is_followed(tail), "{text:?} leads to {url}");
        }
        came_through |= is_ours(place, target.trim()) && !target.contains("//withheld");
    }
    came_through
}

/// Whether a client follows the link by itself, read without regard for quotes.
fn is_followed(parameters: &str) -> bool {
    parameters.split([';', ',']).filter_map(|parameter| parameter.split_once('=')).any(|(name, value)| {
        let mut relations = value.trim().trim_matches('"').split_ascii_whitespace();
        name.trim().eq_ignore_ascii_case("rel")
            && relations
                .any(|rel| ["next", "prev", "previous", "first", "last"].iter().any(|page| rel.eq_ignore_ascii_case(page)))
    })
}

/// A link of a body that a client would follow to another host must not stay as it is.
fn body_link(place: &Place<'_>, text: &str) -> bool {
    match place.body_link(text) {
        Some(moved) => {
            assert!(is_ours(place, &moved), "{text:?} became {moved:?}");
            !moved.contains("//withheld")
        }
        None => {
            assert!(led(place, text).iter().all(is_gateway), "{text:?} was left as it is");
            false
        }
    }
}

/// Where a browser would go from our own page, had by http and by https.
fn led(place: &Place<'_>, target: &str) -> Vec<Url> {
    let page = |scheme: &str| format!("{scheme}://gateway.example/passthrough/{}/users/1", place.access.account);
    let pages = ["http", "https"].map(|scheme| Url::parse(&page(scheme)).expect("an address"));
    let led = pages.iter().filter_map(|page| Url::options().base_url(Some(page)).parse(target).ok());
    led.filter(|url| ["http", "https"].contains(&url.scheme())).collect()
}

fn is_gateway(url: &Url) -> bool {
    url.host_str() == Some("gateway.example")
}

fn is_ours(place: &Place<'_>, address: &str) -> bool {
    let origin = place.origin.map_or("", |origin| &**origin);
    let below = address.strip_prefix(&format!("{origin}/passthrough/{}", place.access.account));
    below.is_some_and(|below| below.is_empty() || below.starts_with(['/', '?', '#']))
        && led(place, address).iter().all(is_gateway)
}
