//! Pages for people: one way to escape, one frame around every page, and the headers each is sent with. They work without
//! script, take nothing from elsewhere, and are kept nowhere.

pub mod link;
mod markdown;
pub mod visit;
mod words;

use std::sync::LazyLock;

use actix_web::{
    HttpResponse,
    http::{
        StatusCode,
        header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS},
    },
};

use crate::vault::{fingerprint, hex};

/// The style of our pages.
pub const STYLE: &str = include_str!("link.css");
/// What a page gains where scripts run.
pub const SCRIPT: &str = include_str!("link.js");
/// Our SDK for browsers.
pub const SDK: &str = include_str!("rollcall-link.js");
/// Its types.
pub const SDK_TYPES: &str = include_str!("rollcall-link.d.ts");

/// Without any referrer the origin of a form would be `null`. This policy sends scheme, host and port, and never the rest of an
/// address, not even to ourselves: a link's token, or what a vendor sent along, may stand in it.
const ORIGIN_ALONE: &str = "strict-origin";

/// Changes with the files, so that a browser never shows a page with those of another version.
static VERSION: LazyLock<String> = LazyLock::new(|| {
    let hash = fingerprint([STYLE, SCRIPT].concat().as_bytes());
    hex(&hash[..6])
});

/// A text within HTML, between tags or within quotes.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

/// One page.
pub struct Page<'a> {
    /// Its status.
    pub status: StatusCode,
    /// Its title.
    pub title: &'a str,
    /// What stands in the body, escaped.
    pub body: String,
    /// Who may frame it; nobody when there are none.
    pub framed_by: &'a [String],
    /// Where its forms may lead beside this gateway.
    pub leads_to: Option<String>,
    /// What goes into the head beside the rest, escaped.
    pub head: String,
    /// What stands in the address in place of what a vendor sent a browser here with, escaped.
    pub place: Option<String>,
    /// Its forms say which origin they are from.
    pub has_forms: bool,
}

impl<'a> Page<'a> {
    /// A page nobody may frame.
    pub fn new(status: StatusCode, title: &'a str, body: String) -> Self {
        Self { status, title, body, framed_by: &[], leads_to: None, head: String::new(), place: None, has_forms: false }
    }

    /// The answer that shows it.
    pub fn answer(self) -> HttpResponse {
        let Self { status, title, body, head, place, .. } = &self;
        let place = place.as_ref().map_or_else(String::new, |place| format!(" data-place=\"{place}\""));
        let (title, version) = (escape(title), &*VERSION);
        let text = format!(
            "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title>\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><meta name=\"robots\" content=\"noindex\">\
             <link rel=\"icon\" href=\"data:,\"><link rel=\"stylesheet\" href=\"/connect-account/link.css?v={version}\">\
             <script defer src=\"/connect-account/link.js?v={version}\"></script>{head}</head><body{place}>{body}</body></html>"
        );
        let mut answer = HttpResponse::build(*status);
        answer.insert_header((CONTENT_SECURITY_POLICY, self.policy()));
        plain_headers(&mut answer);
        if self.has_forms {
            answer.insert_header((REFERRER_POLICY, ORIGIN_ALONE));
        }
        answer.content_type("text/html; charset=utf-8").body(text)
    }

    fn policy(&self) -> String {
        let framed_by = if self.framed_by.is_empty() { "'none'".to_owned() } else { self.framed_by.join(" ") };
        let leads_to = self.leads_to.as_ref().map_or_else(String::new, |origin| format!(" {origin}"));
        format!(
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
             form-action 'self'{leads_to}; base-uri 'none'; frame-ancestors {framed_by}"
        )
    }
}

/// What every answer to a person's browser says, pages and redirects.
pub fn plain_headers(answer: &mut actix_web::HttpResponseBuilder) {
    answer
        .insert_header((CACHE_CONTROL, "no-store"))
        .insert_header((REFERRER_POLICY, "no-referrer"))
        .insert_header((X_CONTENT_TYPE_OPTIONS, "nosniff"));
}
