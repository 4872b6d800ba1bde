//! A person's request for a page: its query, its cookies, its form, and whether the form is one of ours.

use std::{collections::BTreeMap, time::Duration};

use actix_web::http::header::{CONTENT_TYPE, COOKIE, HOST, HeaderMap, ORIGIN};
use url::form_urlencoded;

use crate::{
    error::{Code, Error, Result},
    model::LinkId,
    service::link::View,
};

/// Longest value of the query that goes into the session.
const LONGEST: usize = 64;
/// Most connectors the page is narrowed to.
const MOST: usize = 20;
/// The largest form: every field of a way to link filled to its end, certificates too.
pub const MOST_FORM: usize = 128 * 1024;
/// Most names and values of a form.
const MOST_PAIRS: usize = 64;
/// How names of cookies that hold the session of a link's page begin.
const LINK: &str = "rollcall-link-";
/// How names of cookies that bind a way to a vendor begin.
const WAY: &str = "rollcall-authorize-";
/// Most of either that one browser has; all of them go into one header.
const MOST_COOKIES: usize = 8;

/// Names and values of a query or a form, in order.
pub struct Pairs(Vec<(String, String)>);

impl Pairs {
    /// Reads them, whatever they are.
    pub fn read(text: &[u8]) -> Self {
        Self(form_urlencoded::parse(text).into_owned().collect())
    }

    /// Reads a form, unless it is of more than any page of ours.
    pub fn of_form(text: &[u8]) -> Result<Self> {
        match text.iter().filter(|byte| **byte == b'&').count() < MOST_PAIRS {
            true => Ok(Self::read(text)),
            false => Err(Error::new(Code::InvalidBody, format!("A form has at most {MOST_PAIRS} names and values."))),
        }
    }

    /// The first value of this name.
    pub fn one(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(given, _)| given == name).map(|(_, value)| value.as_str())
    }

    /// All of them.
    pub fn into_inner(self) -> Vec<(String, String)> {
        self.0
    }

    /// How the page is asked for, by the names that Truto's link SDK uses.
    pub fn view(&self) -> View {
        let short = |name: &str| self.one(name).filter(|value| !value.is_empty() && value.len() <= LONGEST).map(str::to_owned);
        let is = |name: &str| self.one(name) == Some("true");
        let integrations = self.one("integrations").unwrap_or_default().split(',').map(str::trim);
        let integrations = integrations.filter(|name| !name.is_empty() && name.len() <= LONGEST).take(MOST);
        View {
            frame: is("iframe"),
            integration: short("integration"),
            integrations: integrations.map(str::to_owned).collect(),
            auth_format: short("auth_format"),
            no_back: is("no_back"),
        }
    }

    /// The fields of a link method that stand in it, by name.
    pub fn into_fields(self) -> BTreeMap<String, String> {
        let field = |(name, value): (String, String)| Some((name.strip_prefix("f.")?.to_owned(), value));
        self.0.into_iter().filter_map(field).collect()
    }
}

/// A cookie of ours. Over https, and in a frame, its name keeps others from setting it; http has no such names everywhere.
pub struct Cookie {
    name: String,
    frame: bool,
    secure: bool,
}

impl Cookie {
    /// The session of a link's page.
    pub fn of_link(link: LinkId, origin: &str, frame: bool) -> Self {
        Self::named(&format!("{LINK}{link}"), origin, frame)
    }

    /// Those of a browser's other links that are too many beside this one.
    pub fn of_too_many_links(link: LinkId, headers: &HeaderMap, origin: &str, frame: bool) -> Vec<Self> {
        let of = |mark: &str| Self::named(&format!("{LINK}{mark}"), origin, frame);
        too_many(headers, &of(""), &link.to_string()).map(of).collect()
    }

    /// What binds a browser that is on its way to a vendor; each of its ways has its own.
    pub fn of_way(mark: &str, origin: &str) -> Self {
        Self::named(&format!("{WAY}{mark}"), origin, false)
    }

    /// Those of a browser's other ways that are too many beside one more.
    pub fn of_too_many_ways(headers: &HeaderMap, origin: &str) -> Vec<Self> {
        too_many(headers, &Self::of_way("", origin), "").map(|mark| Self::of_way(mark, origin)).collect()
    }

    fn named(name: &str, origin: &str, frame: bool) -> Self {
        let secure = frame || origin.starts_with("https://");
        let name = if secure { format!("__Host-{name}") } else { name.to_owned() };
        Self { name, frame, secure }
    }

    /// Its value in a request.
    pub fn value<'r>(&self, headers: &'r HeaderMap) -> Option<&'r str> {
        cookies(headers).find(|(name, _)| *name == self.name).map(|(_, value)| value)
    }

    /// The header that sets it for so long, or takes it away.
    pub fn set(&self, value: &str, life: Duration) -> String {
        let site = match (self.frame, self.secure) {
            (true, _) => "; SameSite=None; Secure; Partitioned",
            (false, true) => "; SameSite=Lax; Secure",
            (false, false) => "; SameSite=Lax",
        };
        format!("{}={value}; Path=/; Max-Age={}; HttpOnly{site}", self.name, life.as_secs())
    }
}

/// The ends of names of those cookies of a kind that are too many beside one, of which there may be an older value. Browsers send
/// the oldest first (RFC 6265 §5.4).
fn too_many<'r>(headers: &'r HeaderMap, kind: &Cookie, beside: &str) -> impl Iterator<Item = &'r str> {
    let is_mark = |mark: &&str| !mark.is_empty() && mark.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    let kept = cookies(headers).filter(|(_, value)| !value.is_empty());
    let marks = kept.filter_map(|(name, _)| name.strip_prefix(kind.name.as_str()));
    let marks: Vec<_> = marks.filter(|mark| is_mark(mark) && *mark != beside).collect();
    let ended = marks.len().saturating_sub(MOST_COOKIES - 1);
    marks.into_iter().take(ended)
}

fn cookies(headers: &HeaderMap) -> impl Iterator<Item = (&str, &str)> {
    let all = headers.get_all(COOKIE).filter_map(|value| value.to_str().ok()).flat_map(|text| text.split(';'));
    all.filter_map(|pair| pair.trim().split_once('='))
}

/// Refuses a form that another site sent. Browsers say where a form is from in a header of their own, but not over plain http and
/// not the older ones: there its origin must be ours, and `null` is nobody's. What says neither is no browser.
pub fn check_origin(headers: &HeaderMap, public_origin: Option<&str>) -> Result<()> {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let site = text("sec-fetch-site");
    let ours = match (text(ORIGIN.as_str()), public_origin) {
        (None, _) => true,
        (Some("null"), _) => site.is_some(),
        (Some(origin), Some(public)) => origin == public,
        (Some(origin), None) => origin.split_once("://").map(|(_, authority)| authority) == text(HOST.as_str()),
    };
    match ours && site.is_none_or(|site| site == "same-origin") {
        true => Ok(()),
        false => Err(Error::new(Code::InvalidHeader, "This form was not sent by a page of this gateway.").status(403)),
    }
}

/// Refuses a body that is no form.
pub fn check_form(headers: &HeaderMap) -> Result<()> {
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    match kind.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        true => Ok(()),
        false => Err(Error::new(Code::InvalidHeader, "The page's form is sent as `application/x-www-form-urlencoded`.")),
    }
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::{HeaderName, HeaderValue};

    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(HeaderName::try_from(*name).unwrap(), HeaderValue::from_str(value).unwrap());
        }
        map
    }

    #[test]
    fn only_our_own_forms_are_taken() {
        let public = Some("https://rollcall.example.com");
        for (sent, named, taken) in [
            (&[("sec-fetch-site", "same-origin"), ("origin", "null")][..], public, true),
            (&[("origin", "https://rollcall.example.com")], public, true),
            (&[], public, true),
            (&[("origin", "null")], public, false),
            (&[("origin", "null")], None, false),
            (&[("origin", "https://evil.example")], public, false),
            (&[("origin", "https://rollcall.example.com.evil.example")], public, false),
            (&[("sec-fetch-site", "cross-site"), ("origin", "null")], public, false),
            (&[("sec-fetch-site", "same-site")], public, false),
            (&[("sec-fetch-site", "none")], public, false),
            (&[("origin", "http://127.0.0.1:8080"), ("host", "127.0.0.1:8080")], None, true),
            (&[("origin", "http://evil.example"), ("host", "127.0.0.1:8080")], None, false),
        ] {
            assert_eq!(check_origin(&headers(sent), named).is_ok(), taken, "{sent:?} {named:?}");
        }
    }

    #[test]
    fn cookies_have_their_flags() {
        let link = LinkId::generate();
        let life = Duration::from_secs(60);
        let safe = Cookie::of_link(link, "https://a.example", false).set("v", life);
        assert_eq!(safe, format!("__Host-rollcall-link-{link}=v; Path=/; Max-Age=60; HttpOnly; SameSite=Lax; Secure"));
        let framed = Cookie::of_link(link, "http://localhost:5173", true).set("v", life);
        assert!(framed.starts_with("__Host-") && framed.ends_with("HttpOnly; SameSite=None; Secure; Partitioned"), "{framed}");
        let cookie = Cookie::of_link(link, "http://127.0.0.1:8080", false);
        let sent = headers(&[("cookie", &format!("a=b; rollcall-link-{link}=mine; c=d"))]);
        assert_eq!(cookie.value(&sent), Some("mine"));
        assert_eq!(Cookie::of_link(LinkId::generate(), "http://127.0.0.1:8080", false).value(&sent), None);
    }

    #[test]
    fn of_many_ways_the_oldest_end() {
        let origin = "https://a.example";
        let sent = |count: usize| {
            let ways: Vec<_> = (0..count).map(|way| format!("__Host-rollcall-authorize-{way:04}=b{way}; x{way}=y")).collect();
            headers(&[("cookie", &format!("__Host-rollcall-authorize-gone=; rollcall-authorize-0=b; {}", ways.join("; ")))])
        };
        let names =
            |count| Cookie::of_too_many_ways(&sent(count), origin).into_iter().map(|cookie| cookie.name).collect::<Vec<_>>();
        assert!(names(0).is_empty() && names(MOST_COOKIES - 1).is_empty());
        let oldest = ["__Host-rollcall-authorize-0000", "__Host-rollcall-authorize-0001"];
        assert_eq!(
            (names(MOST_COOKIES).as_slice(), names(MOST_COOKIES + 1).as_slice()),
            (&oldest.map(str::to_owned)[..1], &oldest.map(str::to_owned)[..])
        );
        let ended = Cookie::of_too_many_ways(&sent(MOST_COOKIES), origin)[0].set("", Duration::ZERO);
        assert_eq!(ended, "__Host-rollcall-authorize-0000=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax; Secure");
    }

    #[test]
    fn of_many_links_the_oldest_end() {
        let (origin, link) = ("http://127.0.0.1:8080", LinkId::generate());
        let others: Vec<_> = (0..MOST_COOKIES).map(|_| LinkId::generate()).collect();
        let sent = |links: &[LinkId]| {
            let cookies: Vec<_> = links.iter().map(|link| format!("rollcall-link-{link}=v")).collect();
            headers(&[("cookie", &format!("a=b; {}; rollcall-authorize-0=b", cookies.join("; ")))])
        };
        let ended = |links: &[LinkId]| {
            let ended = Cookie::of_too_many_links(link, &sent(links), origin, false);
            ended.into_iter().map(|cookie| cookie.name).collect::<Vec<_>>()
        };
        assert_eq!(ended(&others), [format!("rollcall-link-{}", others[0])]);
        assert_eq!(ended(&others[1..]), Vec::<String>::new());
        assert_eq!(ended(&[&[link], &others[1..]].concat()), Vec::<String>::new(), "its own is no other");
        let framed = Cookie::of_too_many_links(link, &sent(&others), origin, true);
        assert!(framed.is_empty(), "cookies of pages stay where a frame is");
    }

    #[test]
    fn a_form_is_of_so_many_pairs() {
        let form = |pairs: usize| vec!["f.a=b"; pairs].join("&");
        assert_eq!(Pairs::of_form(form(MOST_PAIRS).as_bytes()).unwrap().0.len(), MOST_PAIRS);
        let refused = Pairs::of_form(form(MOST_PAIRS + 1).as_bytes()).err().unwrap();
        assert_eq!((refused.code(), refused.http_status()), (Code::InvalidBody, 400));
    }

    #[test]
    fn a_view_is_read_by_trutos_names() {
        let pairs = Pairs::read(
            b"integration=scim&integrations=a,%20b,,c&no_back=true&auth_format=api_key&skip_rapid_form=true&iframe=true",
        );
        let view = pairs.view();
        assert_eq!((view.integration.as_deref(), view.auth_format.as_deref()), (Some("scim"), Some("api_key")));
        assert_eq!((view.integrations, view.frame, view.no_back), (vec!["a".to_owned(), "b".into(), "c".into()], true, true));
        assert_eq!(Pairs::read(b"iframe=1&integration=").view(), View::default());
    }
}
