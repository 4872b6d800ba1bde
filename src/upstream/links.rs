//! Links of a vendor's answer: those that lead below the account's base are rewritten to our address, so that a client that
//! follows them stays with us and sends our token to nobody else.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, header};
use url::Url;

use super::{
    Access, link_header,
    passthrough_target::{check, is_named},
};

/// Set where a vendor's `Location` led neither below the base nor to a download host and was removed.
pub const LOCATION_WITHHELD: HeaderName = HeaderName::from_static("rollcall-location-withheld");
/// The same for `Content-Location`.
pub const CONTENT_LOCATION_WITHHELD: HeaderName = HeaderName::from_static("rollcall-content-location-withheld");
/// Set where a `Link` that clients would follow with our token led elsewhere; following what stands there now is refused.
pub const LINK_WITHHELD: HeaderName = HeaderName::from_static("rollcall-link-withheld");

const ONE: HeaderValue = HeaderValue::from_static("1");
/// Below an account's place, where nothing is ever forwarded: a client that follows it gets an error instead of an early end.
const NOWHERE: &str = "//withheld";
/// Relations that clients follow by themselves.
const PAGES: [&str; 5] = ["next", "prev", "previous", "first", "last"];

/// Where an account's passthrough stands, and where in it an answer comes from.
pub struct Place<'p> {
    /// Scheme, host and port of our public address; links are path-absolute without it, because no address is made from
    /// `Host`.
    pub origin: Option<&'p Arc<str>>,
    /// The account.
    pub access: &'p Arc<Access>,
    /// The request's path below the base, raw: what relative links stand beside.
    pub path: &'p str,
}

/// Where a link leads.
enum Target {
    /// Below the base: path and query there, raw.
    Below(String),
    /// To another place; `own` when it is one of the vendor's hosts.
    Away { url: Url, own: bool },
    /// To no place on the web, or nobody can tell where.
    Unclear,
}

impl Place<'_> {
    /// Our address of a path below the base.
    fn ours(&self, below: &str) -> String {
        let origin = self.origin.map_or("", |origin| &**origin);
        format!("{origin}/passthrough/{}{below}", self.access.account)
    }

    /// An address whose requests are refused.
    pub(super) fn nowhere(&self) -> String {
        self.ours(NOWHERE)
    }

    /// What stands for an absolute link of a body; `None` where it stays as it is: texts that are no absolute links, and
    /// downloads.
    pub fn body_link(&self, text: &str) -> Option<String> {
        let link = text.trim();
        if !is_absolute(link) {
            return None;
        }
        match self.target(link) {
            Target::Below(below) => Some(self.ours(&below)),
            Target::Away { url, .. } if self.is_download(&url) => None,
            Target::Away { .. } | Target::Unclear => Some(self.nowhere()),
        }
    }

    /// Rewrites `Location`, `Content-Location` and `Link`.
    pub(super) fn move_headers(&self, headers: &mut HeaderMap) {
        self.move_location(headers, header::LOCATION, LOCATION_WITHHELD);
        self.move_location(headers, header::CONTENT_LOCATION, CONTENT_LOCATION_WITHHELD);
        if headers.contains_key(header::LINK) {
            self.move_links(headers);
        }
    }

    fn move_location(&self, headers: &mut HeaderMap, name: HeaderName, withheld: HeaderName) {
        let Some(location) = headers.get(&name) else { return };
        let moved = match location.to_str().map(|text| self.target(text)) {
            Ok(Target::Below(below)) => HeaderValue::from_str(&self.ours(&below)).ok(),
            Ok(Target::Away { url, .. }) if self.is_download(&url) => return,
            _ => None,
        };
        match moved {
            Some(value) => headers.insert(name, value),
            None => {
                headers.remove(name);
                headers.insert(withheld, ONE)
            }
        };
    }

    fn move_links(&self, headers: &mut HeaderMap) {
        let header::Entry::Occupied(entry) = headers.entry(header::LINK) else { return };
        let (_, values) = entry.remove_entry_mult();
        let (mut moved, mut withheld) = (Vec::new(), false);
        for value in values {
            // A value that is no text cannot be rewritten, and clients that read it all the same must not follow it.
            let Ok(text) = value.to_str() else {
                withheld = true;
                continue;
            };
            match HeaderValue::from_str(&self.move_link(text, &mut withheld)) {
                Ok(value) => moved.push(value),
                Err(_) => withheld = true,
            }
        }
        for value in moved {
            headers.append(header::LINK, value);
        }
        if withheld {
            headers.insert(LINK_WITHHELD, ONE);
        }
    }

    fn move_link(&self, text: &str, withheld: &mut bool) -> String {
        let mut moved = String::with_capacity(text.len() + 64);
        let mut at = 0;
        let mut links = link_header::links(text).peekable();
        while let Some(link) = links.next() {
            let (start, end) = (link.target.start, link.target.end);
            let behind = &text[end + 1..links.peek().map_or(text.len(), |next| next.target.start - 1)];
            let is_followed = link.has_relation(&PAGES) || link_header::mentions(behind, &PAGES);
            let target = text[start..end].trim();
            let instead = match self.target(target) {
                // No address has one, and a client could begin to read there.
                _ if target.contains('<') => Some(self.nowhere()),
                Target::Below(below) => Some(self.ours(&below)),
                Target::Away { url, .. } if self.is_download(&url) => None,
                Target::Away { own, .. } if own || is_followed => Some(self.nowhere()),
                Target::Unclear if hides_host(target) => Some(self.nowhere()),
                Target::Away { .. } | Target::Unclear => None,
            };
            moved.push_str(&text[at..start]);
            *withheld |= instead.as_ref().is_some_and(|instead| instead.ends_with(NOWHERE));
            moved.push_str(instead.as_deref().unwrap_or(&text[start..end]));
            moved.push('>');
            // Clients that do not know quotes would find a link in there.
            match link.parameters.split('<').skip(1).any(hides_host) {
                true => moved.push_str(&link.parameters.replace('<', "(")),
                false => moved.push_str(link.parameters),
            }
            at = end + 1 + link.parameters.len();
        }
        // What stands behind a bracket without an end is no link, though some client may read one.
        let rest = &text[at..];
        match rest.find('<') {
            Some(open) => {
                *withheld = true;
                moved.push_str(rest[..open].trim_end_matches([' ', ',']));
            }
            None => moved.push_str(rest),
        }
        moved
    }

    fn is_download(&self, url: &Url) -> bool {
        let plain = url.scheme() == "https" && url.username().is_empty() && url.password().is_none();
        plain && self.access.method.proxy.downloads.iter().any(|host| host.matches(url))
    }

    fn target(&self, link: &str) -> Target {
        let base = &self.access.base;
        if link.contains('\\') || link.bytes().any(|byte| byte <= 0x20 || byte == 0x7f) {
            return Target::Unclear;
        }
        let scheme = link.find([':', '/', '?', '#']).filter(|at| link.as_bytes()[*at] == b':').map(|at| link.split_at(at));
        match scheme {
            Some((scheme, rest)) => match rest.strip_prefix("://") {
                Some(rest) if is_web(scheme) => self.absolute(scheme, rest),
                _ => Target::Unclear,
            },
            None => match link.strip_prefix("//") {
                Some(rest) => self.absolute(base.scheme(), rest),
                None => self.relative(link),
            },
        }
    }

    fn absolute(&self, scheme: &str, rest: &str) -> Target {
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        let Ok(mut url) = Url::parse(&format!("{scheme}://{authority}")) else { return Target::Unclear };
        let bare = url.username().is_empty() && url.password().is_none();
        if bare
            && url.origin() == self.access.base.origin()
            && let Some(below) = self.below(path)
        {
            return Target::Below(below);
        }
        let own = url.origin() == self.access.base.origin() || self.access.hosts.iter().any(|host| host.origin() == url.origin());
        url.set_path(path);
        Target::Away { url, own }
    }

    /// A link without a host, beside the request's own path.
    fn relative(&self, link: &str) -> Target {
        let below = match link.as_bytes().first() {
            None | Some(b'#') => None,
            Some(b'/') => self.below(link),
            Some(b'?') => self.plain(&format!("{}{link}", self.path)),
            Some(_) => {
                let folder = self.path.rfind('/').map(|at| &self.path[..=at]);
                folder.and_then(|folder| self.plain(&format!("{folder}{link}")))
            }
        };
        let away = || Target::Away { url: self.access.base.clone(), own: true };
        below.map_or_else(away, Target::Below)
    }

    /// What stands behind the base's own path.
    fn below(&self, path: &str) -> Option<String> {
        let below = path.strip_prefix(self.access.base.path().trim_end_matches('/'))?;
        if below.is_empty() || below.starts_with(['/', '?', '#']) { self.plain(below) } else { None }
    }

    /// The same bytes, if a request for them would be forwarded, without the parameters the credential stands in.
    fn plain(&self, below: &str) -> Option<String> {
        let (address, fragment) = below.split_at(below.find('#').unwrap_or(below.len()));
        let (path, query) = address.split_once('?').map_or((address, None), |(path, query)| (path, Some(query)));
        check(path, query, self.access.method.proxy.encoded_slashes).ok()?;
        let secret = |pair: &&str| self.access.query.iter().any(|(name, _)| is_named(pair, name));
        let kept: Vec<&str> = query.iter().flat_map(|query| query.split('&')).filter(|pair| !secret(pair)).collect();
        let query = if kept.is_empty() { String::new() } else { format!("?{}", kept.join("&")) };
        Some(format!("{path}{query}{fragment}"))
    }
}

fn is_web(scheme: &str) -> bool {
    scheme.eq_ignore_ascii_case("https") || scheme.eq_ignore_ascii_case("http")
}

/// Whether a text is a whole address of the web, or one without its scheme, to any client: browsers pass over tabs and line
/// ends, take backslashes for slashes, and need none behind `https:`.
fn is_absolute(text: &str) -> bool {
    let text = text.trim_start_matches(|c| c <= ' ').chars().filter(|c| !matches!(c, '\t' | '\n' | '\r'));
    let begins = |with: &str| text.clone().map(|c| c.to_ascii_lowercase()).take(with.len()).eq(with.chars());
    let host_only = text.clone().take_while(|c| matches!(c, '/' | '\\')).nth(1).is_some();
    host_only || begins("http:") || begins("https:")
}

/// Whether some client could find a host in a text that is no link to us.
fn hides_host(text: &str) -> bool {
    is_absolute(text) || text.contains("//") || text.contains('\\')
}
