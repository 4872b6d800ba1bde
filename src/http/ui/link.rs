//! The pages of a link: choose what to connect, choose how, fill in, see that it works.

use std::{collections::BTreeMap, sync::Arc};

use actix_web::{HttpResponse, http::StatusCode};
use serde_json::Value;
use url::{Url, form_urlencoded};

use super::{Page, escape, markdown, words};
use crate::{
    connector::{Connector, FieldFile, FieldKind, FieldProblem, LinkMethod},
    model::{Account, LinkId, Warning},
    service::link::{Link, Session},
};

/// Drawn beside what went well.
const GOOD: &str = "<svg class=\"good\" viewBox=\"0 0 48 48\" width=\"48\" height=\"48\" aria-hidden=\"true\">\
    <circle cx=\"24\" cy=\"24\" r=\"22\"/><path d=\"M14 25l7 7 13-15\"/></svg>";

/// Drawn beside what did not.
const BAD: &str = "<svg class=\"good bad\" viewBox=\"0 0 48 48\" width=\"48\" height=\"48\" aria-hidden=\"true\">\
    <circle cx=\"24\" cy=\"24\" r=\"22\"/><path d=\"M24 13v14m0 7v.5\"/></svg>";

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
    /// Where the vendor sends browsers back to.
    pub redirect_url: Option<Url>,
    /// Why an account is linked anew.
    pub reason: Option<String>,
}

/// How a link ended, for whoever opened it: what is told, and to whom.
#[derive(Default)]
pub struct Ending<'a> {
    /// Truto's message, or the word `closed`.
    pub message: Value,
    /// The registered origins.
    pub origins: &'a [String],
    /// The page stands in a frame.
    pub frame: bool,
    /// The browser was at the vendor in a window of its own; the page that opened it looks for itself, and tells.
    pub relayed: bool,
    /// The link whose page stands in the address when a vendor sent the browser here, in place of what it sent along.
    pub place: Option<LinkId>,
}

impl Opening<'_> {
    fn page<'p>(&'p self, status: StatusCode, title: &'p str, body: &str) -> Page<'p> {
        let (frame, origins) = (self.session.view.frame, escape(&self.link.origins.join(" ")));
        let marks = format!("{} data-origins=\"{origins}\"", if frame { " data-frame" } else { "" });
        let mut page = Page::new(status, title, format!("<main{marks}>{body}</main>"));
        if frame {
            page.framed_by = &self.link.origins;
        }
        page.has_forms = true;
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
        format!("<a class=\"{class}\" href=\"{}\">{content}</a>", self.place(to))
    }

    /// The address of another page of the link, escaped.
    fn place(&self, (integration, method): (&str, Option<&str>)) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair("link", &self.link.id.to_string()).append_pair("integration", integration);
        method.map(|method| query.append_pair("method", method));
        escape(&format!("{PLACE}?{}", query.finish()))
    }

    /// A look whether what began in another window came to its end.
    fn look(&self, word: &str) -> String {
        format!(
            "<form method=\"post\" action=\"{PLACE}\" id=\"look\">{}<button class=\"quiet\">{word}</button></form>",
            self.hidden("look")
        )
    }

    /// Nothing came of it as yet.
    pub fn waiting(&self) -> HttpResponse {
        let title = "Not connected yet";
        let preset = self.session.view.integration.as_deref().unwrap_or_default();
        let body = format!(
            "<nav>{}</nav><h1>{title}</h1><p>Go on in the other window, where you sign in and agree. When that is done, look \
             again here.</p><div class=\"acts\">{}{}</div>",
            self.way("back", (preset, None), "← Begin again"),
            self.look("Look again"),
            self.cancel()
        );
        self.page(StatusCode::ACCEPTED, title, &body).answer()
    }

    fn cancel(&self) -> String {
        format!(
            "<form method=\"post\" action=\"{PLACE}\">{}<button class=\"quiet\">Cancel</button></form>",
            self.hidden("cancel")
        )
    }

    fn title(&self, connector: &Connector) -> String {
        let what = if self.link.relinks.is_some() { "Connect again:" } else { "Connect" };
        format!("{what} {}", connector.file.title)
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
            "{}<div class=\"search\" hidden><label for=\"search\">Search</label>\
             <input id=\"search\" type=\"search\" autocomplete=\"off\"></div>\
             <p id=\"found\" class=\"unseen\" role=\"status\"></p><p id=\"none\" hidden><button type=\"button\" class=\"back\">Show \
             all</button></p><ul class=\"cards\">{cards}</ul><div class=\"acts\">{}</div>",
            head(None, "Choose what to connect"),
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
        let title = self.title(connector);
        let body = format!(
            "{}{}<p>Choose the way that fits.</p><ul class=\"cards\">{cards}</ul><div class=\"acts\">{}</div>",
            self.back(among_others),
            head(Some(connector), &title),
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
        let title = self.title(connector);
        let nav = match connector.methods.len() {
            1 => self.back(among_others),
            _ => format!("<nav>{}</nav>", self.way("back", (connector.slug.as_str(), Some("")), "← Other ways to connect")),
        };
        let about = method.description.as_deref().map_or_else(String::new, |text| format!("<p>{}</p>", escape(text)));
        let way =
            if connector.methods.len() > 1 { format!("<p class=\"way\">{}</p>", escape(&method.title)) } else { String::new() };
        let reason = given.reason.as_deref().filter(|_| !given.again).map_or_else(String::new, |reason| {
            format!("<div class=\"note\"><p>This connection has stopped working. {}</p></div>", escape(&words::sentence(reason)))
        });
        let frame = self.session.view.frame;
        let target = if method.needs_browser() && frame { " target=\"_blank\" rel=\"opener\"" } else { "" };
        let word = match (method.needs_browser(), given.again) {
            (true, _) => "Continue",
            (false, true) => "Check again",
            (false, false) => "Connect",
        };
        let body = format!(
            "{nav}{head}{way}{reason}{about}<a class=\"jump\" href=\"#guide\">Where to find this</a><div class=\"sides\"><div><form method=\"post\" action=\"{PLACE}\" class=\"fields\" \
             id=\"fields\"{target}>{alert}{hidden}{registration}{fields}</form><div class=\"acts\"><button class=\"main\" \
             form=\"fields\" data-busy=\"Checking…\">{word}</button>{cancel}</div>{away}<p class=\"safe\">{kept}</p></div>\
             <aside id=\"guide\" aria-label=\"Where to find this\">{guide}</aside></div>",
            head = head(Some(connector), &title),
            alert = alert(self.link, method, given),
            hidden = [
                self.hidden("submit"),
                hidden_field("integration", connector.slug.as_str()),
                hidden_field("method", &method.name)
            ]
            .concat(),
            registration = registration(self.link, method, given.redirect_url.as_ref()),
            fields = fields(self.link, method, given),
            cancel = self.cancel(),
            away = if method.needs_browser() { self.away() } else { String::new() },
            kept = "Secrets are kept encrypted and never shown again.",
            guide = markdown::html(&guide_of(connector, method)),
        );
        let mut page = self.page(status, &title, &body);
        page.place = Some(self.place((connector.slug.as_str(), Some(&method.name))));
        page.answer()
    }

    /// What stands here while the vendor's pages are open in another window; scripts look by themselves.
    fn away(&self) -> String {
        let said = "Go on in the window that opened. This page goes on by itself when you have agreed there.";
        let hidden = if self.session.view.frame { "" } else { " hidden" };
        format!(
            "<p class=\"note\" id=\"away\" role=\"status\" data-said=\"{said}\"></p><div id=\"looking\"{hidden}>{}</div>",
            self.look("I have agreed in the other window")
        )
    }
}

/// What is said to somebody who registers a client of their own with the vendor: where it sends browsers back to, and scopes.
fn registration(link: &Link, method: &LinkMethod, redirect_url: Option<&Url>) -> String {
    let Some(url) = redirect_url.filter(|_| method.needs_browser() && !method.needs_oauth_app()) else { return String::new() };
    let scope = method.token.as_ref().and_then(|token| token.scope.as_ref());
    let filled_in = scope.and_then(|scope| method.field(scope.names().next()?));
    let scopes = match (&link.scopes, scope, filled_in) {
        (Some(scopes), _, _) => format!("<code>{}</code>", escape(&scopes.join(" "))),
        (None, _, Some(field)) => format!("those you fill in below as “{}”", escape(&field.title)),
        (None, Some(scope), None) => format!("<code>{}</code>", escape(&scope.text())),
        (None, None, None) => "none".to_owned(),
    };
    format!(
        "<div class=\"note\"><p>First register an OAuth client with the vendor:</p><dl><div><dt>Redirect address, exactly</dt>\
         <dd><code>{}</code></dd></div><div><dt>Scopes</dt><dd>{scopes}</dd></div></dl></div>",
        escape(url.as_str())
    )
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
    let facts = if facts.is_empty() { facts } else { format!("<dl>{facts}</dl>") };
    let told: String = warnings.iter().map(|warning| format!("<li>{}</li>", escape(&warning.message))).collect();
    let told = if told.is_empty() { told } else { format!("<h2>Good to know</h2><ul class=\"warnings\">{told}</ul>") };
    let body = format!("{GOOD}{}{sees}{facts}{told}<p>You can close this window.</p>", head(Some(connector), &title));
    ended(StatusCode::OK, ending, &title, &body, !warnings.is_empty())
}

/// The customer went away without connecting anything.
pub fn cancelled(ending: &Ending<'_>) -> HttpResponse {
    let title = "Nothing was connected";
    let again = ending
        .place
        .map_or_else(String::new, |link| format!("<p><a class=\"quiet\" href=\"{PLACE}?link={link}\">Begin again</a></p>"));
    let body = format!("<h1>{title}</h1><p>You can close this window. The link still works.</p>{again}");
    ended(StatusCode::OK, ending, title, &body, false)
}

/// The link cannot be used, or not so.
pub fn refused(status: StatusCode, ending: &Ending<'_>, why: &str) -> HttpResponse {
    let title = if status == StatusCode::GONE { "This link has ended" } else { "This does not work" };
    let body = format!("{BAD}<h1>{title}</h1><p role=\"alert\">{}</p>", escape(&words::sentence(why)));
    ended(status, ending, title, &body, false)
}

/// The try at the vendor's pages failed; another can be made where the link's page is.
pub fn not_returned(status: StatusCode, relayed: bool, why: &str) -> HttpResponse {
    let why = escape(&words::sentence(why));
    let body = format!("{BAD}<h1>Nothing was connected</h1><p role=\"alert\">{why}</p><p>Try again where you began.</p>");
    let failed = if relayed { format!(" id=\"failed\" data-why=\"{why}\"") } else { " class=\"short\"".to_owned() };
    let close = "<button class=\"main\" id=\"close\" hidden>Close this window</button>";
    let mut page = Page::new(status, "Nothing was connected", format!("<main{failed}>{body}{close}</main>"));
    page.place = Some(PLACE.to_owned());
    page.answer()
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
    page.place = ending.place.map(|link| format!("{PLACE}?link={link}"));
    page.answer()
}

/// A page that leads on to another address: a redirect after a form would be held against the policies of all pages on its
/// way, the vendor's too.
pub fn leading_on(title: &str, address: &str) -> HttpResponse {
    let (shown, address) = (escape(title), escape(address));
    let mut page = Page::new(
        StatusCode::OK,
        title,
        format!(
            "<main class=\"short\"><h1>{shown}</h1><p>One moment, please.</p><p><a class=\"main\" href=\"{address}\">Continue</a></p>\
             </main>"
        ),
    );
    page.head = format!("<meta http-equiv=\"refresh\" content=\"0; url={address}\">");
    page.answer()
}

fn origin_of(address: &str) -> Option<String> {
    url::Url::parse(address).ok().map(|url| url.origin().ascii_serialization())
}

/// The guide without the parts that are about other ways to link: those under their titles.
fn guide_of(connector: &Connector, method: &LinkMethod) -> String {
    let others: Vec<_> =
        connector.methods.iter().map(|other| other.title.as_str()).filter(|title| *title != method.title).collect();
    let (mut is_left_out, mut in_code, mut guide) = (false, false, String::new());
    for line in connector.guide.split_inclusive('\n') {
        in_code ^= line.trim_start().starts_with("```");
        if let Some(title) = line.strip_prefix("## ").filter(|_| !in_code) {
            is_left_out = others.contains(&title.trim());
        }
        guide.push_str(if is_left_out { "" } else { line });
    }
    guide
}

/// The heading of a page, and whose it is.
fn head(connector: Option<&Connector>, title: &str) -> String {
    format!("<h1>{}{}</h1>", connector.map_or_else(String::new, icon), escape(title))
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
fn alert(link: &Link, method: &LinkMethod, given: &Given<'_>) -> String {
    if !given.again {
        return String::new();
    }
    let of_link = of_link(link, method, given.problems);
    let is_theirs = of_link.is_none();
    let why = of_link.or_else(|| given.failure.map(words::sentence));
    let why = why.map_or_else(|| "Look at the marked fields.".to_owned(), |why| escape(&why));
    let secrets = method.fields.iter().any(|field| field.kind.is_secret());
    let again = if secrets && is_theirs { " What is secret is not kept on this page: fill it in again." } else { "" };
    format!("<div class=\"alert\" role=\"alert\" tabindex=\"-1\"><p><b>Nothing was connected.</b> {why}</p><p>{again}</p></div>")
}

/// What is wrong with the whole or with fields, for a window in which they do not stand.
pub fn sentences(link: &Link, method: &LinkMethod, problems: &[FieldProblem], failure: Option<&str>) -> String {
    let sentence = |wrong: &FieldProblem| format!("{} {}.", title(method, &wrong.field), wrong.message.trim_end_matches('.'));
    let all = || problems.iter().map(sentence).collect::<Vec<_>>().join(" ");
    of_link(link, method, problems).or_else(|| failure.map(words::sentence)).unwrap_or_else(all)
}

fn title(method: &LinkMethod, name: &str) -> String {
    method.field(name).map_or_else(|| name.to_owned(), |field| field.title.clone())
}

/// What stands in the link is not the customer's to mend.
fn of_link(link: &Link, method: &LinkMethod, problems: &[FieldProblem]) -> Option<String> {
    let wrong = problems.iter().filter(|problem| link.context.contains_key(&problem.field));
    let names: Vec<_> = wrong.map(|problem| format!("“{}”", title(method, &problem.field))).collect();
    let names = names.join(" and ");
    (!names.is_empty())
        .then(|| format!("This link was made with a wrong value for {names}. Ask for a new link where you got this one."))
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
