//! The pages of a link: choose what to connect, choose how, fill in, see that it works.

use std::{collections::BTreeMap, sync::Arc};

use actix_web::{HttpResponse, http::StatusCode};
use serde_json::Value;
use url::form_urlencoded;

use super::{Page, escape, markdown, words};
use crate::{
    connector::{Connector, FieldFile, FieldKind, FieldProblem, LinkMethod},
    model::{Account, Warning},
    service::link::{Link, Session},
};

/// Where the pages are.
pub const PLACE: &str = "/connect-account";

/// One opening of the page.
pub struct Opening<'a> {
    /// The link.
    pub link: &'a Link,
    /// Whose browser.
    pub session: &'a Session,
    /// The session as forms carry it.
    pub sealed: &'a str,
}

/// What stands in a form, the first time or after a try. Secrets do not come back.
#[derive(Default)]
pub struct Given<'a> {
    /// Fields that are not secret, as they were typed.
    pub values: BTreeMap<String, String>,
    /// What is wrong with which field.
    pub problems: &'a [FieldProblem],
    /// What is wrong with the whole.
    pub failure: Option<&'a str>,
    /// It was tried.
    pub again: bool,
}

/// How a link ended, for whoever opened it: what is told, and to whom.
pub struct Ending<'a> {
    /// Truto's message, or the word `closed`.
    pub message: Value,
    /// The registered origins.
    pub origins: &'a [String],
    /// The page stands in a frame.
    pub frame: bool,
    /// The browser was in a window of its own, opened by a frame of ours, which hands the message on.
    pub relayed: bool,
}

impl Opening<'_> {
    fn page<'p>(&'p self, status: StatusCode, title: &'p str, body: &str) -> Page<'p> {
        let (frame, origins) = (self.session.view.frame, escape(&self.link.origins.join(" ")));
        let marks = if frame { format!(" data-frame data-origins=\"{origins}\"") } else { String::new() };
        let mut page = Page::new(status, title, format!("<main{marks}>{body}</main>"));
        if frame {
            page.framed_by = &self.link.origins;
        }
        page.leads_to = self.link.redirect_uri.as_deref().and_then(origin_of).filter(|_| !frame);
        page
    }

    fn hidden(&self, step: &str) -> String {
        format!(
            "<input type=\"hidden\" name=\"session\" value=\"{}\"><input type=\"hidden\" name=\"step\" value=\"{step}\">",
            escape(self.sealed)
        )
    }

    /// A way to another page of the link. In a frame, where cookies may be blocked, a form carries the session.
    fn way(&self, class: &str, to: (&str, Option<&str>), content: &str) -> String {
        let (integration, method) = to;
        if self.session.view.frame {
            let method = method.map_or_else(String::new, |method| hidden_field("method", method));
            return format!(
                "<form method=\"post\" action=\"{PLACE}\">{}{}{method}<button class=\"{class}\">{content}</button></form>",
                self.hidden("open"),
                hidden_field("integration", integration)
            );
        }
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair("link", &self.link.id.to_string()).append_pair("integration", integration);
        method.map(|method| query.append_pair("method", method));
        format!("<a class=\"{class}\" href=\"{PLACE}?{}\">{content}</a>", escape(&query.finish()))
    }

    fn cancel(&self) -> String {
        format!(
            "<form method=\"post\" action=\"{PLACE}\">{}<button class=\"quiet\">Cancel</button></form>",
            self.hidden("cancel")
        )
    }

    /// Choose what to connect.
    pub fn picker(&self, offered: &[Arc<Connector>]) -> HttpResponse {
        let mut cards = String::new();
        for connector in offered {
            let file = &connector.file;
            let found_by = [&file.title, &file.category].into_iter().chain(&file.products);
            let found_by = found_by.cloned().collect::<Vec<_>>().join(" ").to_lowercase();
            let text = format!(
                "{}<span><b>{}</b> <small>{}</small></span>",
                icon(connector),
                escape(&file.title),
                escape(&file.category)
            );
            let way = self.way("card", (connector.slug.as_str(), None), &text);
            cards.push_str(&format!("<li data-words=\"{}\">{way}</li>", escape(&found_by)));
        }
        let body = format!(
            "<h1>Choose what to connect</h1><div class=\"search\" hidden><label for=\"search\">Search</label>\
             <input id=\"search\" type=\"search\" autocomplete=\"off\"></div>\
             <p id=\"found\" class=\"unseen\" role=\"status\"></p><ul class=\"cards\">{cards}</ul>{}",
            self.cancel()
        );
        self.page(StatusCode::OK, "Choose what to connect", &body).answer()
    }

    /// Choose how to connect it.
    pub fn ways(&self, connector: &Connector, among_others: bool) -> HttpResponse {
        let mut cards = String::new();
        for method in &connector.methods {
            let about = method.description.as_deref().unwrap_or_default();
            let text = format!("<span><b>{}</b> <small>{}</small></span>", escape(&method.title), escape(about));
            let way = self.way("card", (connector.slug.as_str(), Some(&method.name)), &text);
            cards.push_str(&format!("<li>{way}</li>"));
        }
        let title = format!("Connect {}", connector.file.title);
        let body = format!(
            "{}<h1>{}{}</h1><p>Choose the way that fits.</p><ul class=\"cards\">{cards}</ul>{}",
            self.back(among_others),
            icon(connector),
            escape(&title),
            self.cancel()
        );
        self.page(StatusCode::OK, &title, &body).answer()
    }

    fn back(&self, among_others: bool) -> String {
        match among_others {
            true => format!("<nav>{}</nav>", self.way("back", ("", None), "← All products")),
            false => String::new(),
        }
    }

    /// Fill in.
    pub fn form(
        &self,
        status: StatusCode,
        (connector, method): (&Connector, &LinkMethod),
        given: &Given<'_>,
        among_others: bool,
    ) -> HttpResponse {
        let title = format!("Connect {}", connector.file.title);
        let nav = match connector.methods.len() {
            1 => self.back(among_others),
            _ => format!("<nav>{}</nav>", self.way("back", (connector.slug.as_str(), Some("")), "← Other ways to connect")),
        };
        let about = method.description.as_deref().map_or_else(String::new, |text| format!("<p>{}</p>", escape(text)));
        let way =
            if connector.methods.len() > 1 { format!("<p class=\"way\">{}</p>", escape(&method.title)) } else { String::new() };
        let elsewhere = method.needs_browser() && self.session.view.frame;
        let (target, word) = match (elsewhere, given.again) {
            (true, _) => (" target=\"_blank\" rel=\"opener\"", "Continue"),
            (false, true) => ("", "Check again"),
            (false, false) => ("", if method.needs_browser() { "Continue" } else { "Connect" }),
        };
        let body = format!(
            "{nav}<h1>{icon}{title}</h1>{way}{about}<div class=\"sides\"><div><form method=\"post\" action=\"{PLACE}\" \
             class=\"fields\"{target}>{alert}{hidden}{fields}<button class=\"main\" data-busy=\"Checking…\">{word}</button></form>\
             {cancel}</div><aside aria-label=\"Where to find this\">{guide}</aside></div>",
            icon = icon(connector),
            title = escape(&title),
            alert = alert(method, given),
            hidden = [
                self.hidden("submit"),
                hidden_field("integration", connector.slug.as_str()),
                hidden_field("method", &method.name)
            ]
            .concat(),
            fields = fields(self.link, method, given),
            cancel = self.cancel(),
            guide = markdown::html(&connector.guide),
        );
        self.page(status, &title, &body).answer()
    }
}

/// It works: what was connected, and what it shows.
pub fn done(
    ending: &Ending<'_>,
    (connector, method): (&Connector, Option<&LinkMethod>),
    account: Option<&Account>,
    warnings: &[Warning],
) -> HttpResponse {
    let title = format!("{} is connected", connector.file.title);
    let sees = method.map(words::resources).filter(|names| !names.is_empty());
    let sees = sees.map_or_else(String::new, |names| format!("<p>It can see: {}.</p>", names.join(", ")));
    let facts: String = method
        .zip(account)
        .into_iter()
        .flat_map(|(method, account)| method.fields.iter().filter_map(|field| Some((field, account.fields.get(&field.name)?))))
        .filter(|(field, _)| !words::is_about_trust(field))
        .map(|(field, value)| format!("<div><dt>{}</dt><dd>{}</dd></div>", escape(&field.title), escape(value)))
        .collect();
    let told: String = warnings.iter().map(|warning| format!("<li>{}</li>", escape(&warning.message))).collect();
    let told = if told.is_empty() { told } else { format!("<h2>Good to know</h2><ul class=\"warnings\">{told}</ul>") };
    let body =
        format!("<h1>{}{}</h1>{sees}<dl>{facts}</dl>{told}<p>You can close this window.</p>", icon(connector), escape(&title));
    ended(StatusCode::OK, ending, &title, &body, !warnings.is_empty())
}

/// The customer went away without connecting anything.
pub fn cancelled(ending: &Ending<'_>) -> HttpResponse {
    let body = "<h1>Nothing was connected</h1><p>You can close this window. The link still works.</p>";
    ended(StatusCode::OK, ending, "Nothing was connected", body, false)
}

/// The link cannot be used, or not so.
pub fn refused(status: StatusCode, ending: &Ending<'_>, why: &str) -> HttpResponse {
    let body = format!("<h1>This does not work</h1><p role=\"alert\">{}</p>", escape(why));
    ended(status, ending, "This does not work", &body, false)
}

/// The try at the vendor's pages failed; another can be made, from here where this window has the link's page.
pub fn not_returned(status: StatusCode, link: Option<&Link>, why: &str) -> HttpResponse {
    let again = match link {
        Some(link) => format!("<p><a class=\"main\" href=\"{PLACE}?link={}\">Try again</a></p>", link.id),
        None => "<p>Close this window, and try again where you began.</p>".to_owned(),
    };
    let body = format!("<main><h1>Nothing was connected</h1><p role=\"alert\">{}</p>{again}</main>", escape(why));
    Page::new(status, "Nothing was connected", body).answer()
}

fn ended(status: StatusCode, ending: &Ending<'_>, title: &str, body: &str, waits: bool) -> HttpResponse {
    let marks = [("frame", ending.frame), ("relayed", ending.relayed), ("waits", waits)];
    let marks: String = marks.iter().filter(|(_, set)| *set).map(|(name, _)| format!(" data-{name}")).collect();
    let body = format!(
        "<main id=\"ended\" data-message=\"{}\" data-origins=\"{}\"{marks}>{body}<button class=\"main\" id=\"close\" hidden>Done\
         </button></main>",
        escape(&ending.message.to_string()),
        escape(&ending.origins.join(" "))
    );
    let mut page = Page::new(status, title, body);
    if ending.frame {
        page.framed_by = ending.origins;
    }
    page.answer()
}

/// A page that leads on to another address: a redirect after a form would be held against the policies of all pages on its
/// way, the vendor's too.
pub fn leading_on(title: &str, address: &str) -> HttpResponse {
    let (shown, address) = (escape(title), escape(address));
    let mut page = Page::new(
        StatusCode::OK,
        title,
        format!("<main><h1>{shown}</h1><p><a class=\"main\" href=\"{address}\">Continue</a></p></main>"),
    );
    page.head = format!("<meta http-equiv=\"refresh\" content=\"0; url={address}\">");
    page.answer()
}

fn origin_of(address: &str) -> Option<String> {
    url::Url::parse(address).ok().map(|url| url.origin().ascii_serialization())
}

fn icon(connector: &Connector) -> String {
    match &connector.icon {
        Some(_) => format!("<img src=\"{PLACE}/icon/{}\" alt=\"\" width=\"40\" height=\"40\">", connector.slug),
        None => String::new(),
    }
}

fn hidden_field(name: &str, value: &str) -> String {
    format!("<input type=\"hidden\" name=\"{name}\" value=\"{}\">", escape(value))
}

/// What is wrong with the whole, or that something is.
fn alert(method: &LinkMethod, given: &Given<'_>) -> String {
    if !given.again {
        return String::new();
    }
    let why = given.failure.map_or_else(|| "Look at the marked fields.".to_owned(), escape);
    let secrets = method.fields.iter().any(|field| field.kind.is_secret());
    let again = if secrets { " What is secret is not kept on this page: fill it in again." } else { "" };
    format!("<div class=\"alert\" role=\"alert\" tabindex=\"-1\"><p><b>Nothing was connected.</b> {why}</p><p>{again}</p></div>")
}

/// The fields that the link leaves open: those of which one group is needed together, those that few need in a fold.
fn fields(link: &Link, method: &LinkMethod, given: &Given<'_>) -> String {
    let fixed = |name: &str| link.context.contains_key(name);
    let chosen = method.one_of.iter().any(|group| group.iter().all(|name| fixed(name)));
    let grouped = |name: &str| method.one_of.iter().flatten().any(|one| one == name);
    let settled = |name: &str| fixed(name) || (chosen && grouped(name));
    let open = |field: &&FieldFile| !settled(&field.name);
    let (mut plain, mut folded, mut group_is_shown) = (String::new(), String::new(), false);
    for field in method.fields.iter().filter(open) {
        if words::is_about_trust(field) {
            folded.push_str(&row(field, given, false));
        } else if !grouped(&field.name) {
            plain.push_str(&row(field, given, field.required));
        } else if !std::mem::replace(&mut group_is_shown, true) {
            let groups = method.one_of.iter().map(|group| {
                let fields = group.iter().filter_map(|name| method.field(name)).filter(|field| !fixed(&field.name));
                fields.map(|field| row(field, given, false)).collect::<String>()
            });
            let groups = groups.collect::<Vec<_>>().join("<p class=\"or\">or</p>");
            plain.push_str(&format!("<fieldset><legend>One of these</legend>{groups}</fieldset>"));
        }
    }
    if folded.is_empty() {
        return plain;
    }
    let opened = given.problems.iter().any(|problem| method.field(&problem.field).is_some_and(words::is_about_trust));
    let opened = if opened { " open" } else { "" };
    format!("{plain}<details{opened}><summary>A server of your own</summary>{folded}</details>")
}

/// Label, help, input and what is wrong with it.
fn row(field: &FieldFile, given: &Given<'_>, required: bool) -> String {
    let (name, title) = (escape(&field.name), escape(&field.title));
    let wrong = given.problems.iter().find(|problem| problem.field == field.name);
    let is_first = wrong.is_some_and(|wrong| given.problems.first() == Some(wrong));
    let mistake = wrong.map_or_else(String::new, |wrong| format!("{title} {}.", escape(wrong.message.trim_end_matches('.'))));
    let help =
        field.help.as_deref().map_or_else(String::new, |help| format!("<p class=\"help\" id=\"h-{name}\">{}</p>", escape(help)));
    let described = if field.help.is_some() { format!("h-{name} e-{name}") } else { format!("e-{name}") };
    let mut attributes = format!(" id=\"f-{name}\" name=\"f.{name}\" aria-describedby=\"{described}\"");
    for (set, text) in [(required, " required"), (wrong.is_some(), " aria-invalid=\"true\""), (is_first, " autofocus")] {
        attributes.push_str(if set { text } else { "" });
    }
    let optional = if required { "" } else { " <small>optional</small>" };
    let value = given.values.get(&field.name).or(field.default.as_ref()).map_or("", String::as_str);
    let input = input(field, &attributes, value);
    format!(
        "<div class=\"field\"><label for=\"f-{name}\">{title}{optional}</label>{help}{input}<p class=\"mistake\" id=\"e-{name}\">\
         {mistake}</p></div>"
    )
}

fn input(field: &FieldFile, attributes: &str, value: &str) -> String {
    match field.kind {
        FieldKind::Choice => {
            let chosen = |word: &str, meaning: &str| if value == word || value == meaning { " selected" } else { "" };
            let options = field.values.iter().map(|(word, meaning)| {
                let shown = escape(word);
                format!("<option value=\"{shown}\"{}>{shown}</option>", chosen(word, meaning))
            });
            format!("<select{attributes}><option value=\"\">Choose</option>{}</select>", options.collect::<String>())
        }
        FieldKind::Certificates => {
            format!("<textarea{attributes} rows=\"4\" spellcheck=\"false\" autocomplete=\"off\">{}</textarea>", escape(value))
        }
        FieldKind::PrivateKey => {
            format!("<textarea{attributes} rows=\"6\" spellcheck=\"false\" autocomplete=\"off\"></textarea>")
        }
        FieldKind::Secret => format!("<input{attributes}{}>", words::attributes(field)),
        _ => format!("<input{attributes}{} value=\"{}\">", words::attributes(field), escape(value)),
    }
}
