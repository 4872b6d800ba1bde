//! The link page: shown, filled in, ended; and where vendors send browsers back. Every answer is a page, errors too.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc, time::Duration};

use actix_web::{
    HttpMessage, HttpRequest, HttpResponse,
    http::{
        StatusCode,
        header::{
            ACCESS_CONTROL_ALLOW_ORIGIN, CACHE_CONTROL, CONTENT_SECURITY_POLICY, LOCATION, SET_COOKIE, X_CONTENT_TYPE_OPTIONS,
        },
    },
    web::{self, Data, Path},
};
use bytes::Bytes;
use serde_json::{Value, json};
use url::Url;

use super::unmatched;
use crate::{
    connector::{Connector, FieldProblem, LinkMethod},
    error::{Code, Error, Result},
    http::{
        Answer, Problem, State,
        body::RawBody,
        gate::{self, RequestId},
        ui::{
            self,
            link::{self as pages, Ending, Given, Opening, PLACE},
            visit::{self, Cookie, MOST_FORM, Pairs},
        },
    },
    model::{Account, AccountStatus, Slug, Warning},
    service::{
        OUTCOME_UNKNOWN,
        authorize::mark_of,
        link::{Attempt, Filled, Link, Links, Returned, Session},
    },
    upstream::egress,
};

/// What whoever links is told of an address that may not be called.
const NOT_HERE: &str = "This address cannot be used here: check it, or ask whoever sent you this link.";
/// The setting that says which may.
const ALLOWED: &str = "ROLLCALL_EGRESS_ALLOW";
/// How long a browser may be at a vendor's pages.
const AWAY: Duration = Duration::from_secs(600);
/// An SVG that is opened by itself runs nothing.
const ICON_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; sandbox";
/// How long browsers keep files of ours.
const KEPT: &str = "public, max-age=3600";

/// Paths and methods of this file, for 405.
pub const ROUTES: &[(&str, &[&str])] = &[
    (PLACE, &["GET", "POST"]),
    ("/connect-account/{file}", &["GET"]),
    ("/connect-account/icon/{slug}", &["GET"]),
    ("/connect/{integration}/callback", &["GET"]),
    ("/rollcall-link.js", &["GET"]),
    ("/rollcall-link.d.ts", &["GET"]),
];

/// The page, its files, and our SDK.
pub fn configure(config: &mut web::ServiceConfig) {
    config.route("/connect-account", web::get().to(show)).route("/connect-account", web::post().to(act));
    config.route("/connect-account/{file}", web::get().to(file)).route("/connect-account/icon/{slug}", web::get().to(icon));
    config.route("/connect/{integration}/callback", web::get().to(come_back));
    config.route("/rollcall-link.js", web::get().to(sdk)).route("/rollcall-link.d.ts", web::get().to(sdk_types));
}

async fn show(request: HttpRequest, state: Data<State>) -> HttpResponse {
    page(&request, shown(&request, &state).await)
}

async fn act(request: HttpRequest, state: Data<State>, body: Result<RawBody<MOST_FORM>, Problem>) -> HttpResponse {
    let acted = match body {
        Ok(RawBody(body)) => acted(&request, &state, body).await,
        Err(problem) => Err(problem.error().clone()),
    };
    page(&request, acted)
}

async fn come_back(request: HttpRequest, state: Data<State>, integration: Path<String>) -> HttpResponse {
    page(&request, came_back(&request, &state, &integration).await)
}

/// An error is a page too.
fn page(request: &HttpRequest, outcome: Result<HttpResponse>) -> HttpResponse {
    outcome.unwrap_or_else(|error| {
        log(request, &error);
        pages::refused(status(&error), &Ending::default(), &words(&error))
    })
}

fn log(request: &HttpRequest, error: &Error) {
    let id = request.extensions().get::<RequestId>().map(|id| id.0.to_string());
    gate::log(error, id.as_deref().unwrap_or_default());
}

fn status(error: &Error) -> StatusCode {
    StatusCode::from_u16(error.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// With the token the page is opened: the token goes out of the address, and a session into a cookie. Nothing is claimed.
async fn shown(request: &HttpRequest, state: &State) -> Result<HttpResponse> {
    let asked = Pairs::read(request.query_string().as_bytes());
    let Some(text) = asked.one("link_token") else { return shown_again(request, state, &asked).await };
    let links = &state.services.links;
    let (link, mut session) = links.open(text, asked.view()).await?;
    // Nobody frames the page of a link without origins; nor is a form taken without a cookie there.
    session.view.frame &= !link.origins.is_empty();
    narrow(&mut session.view.integrations, |name| links.connector(name).is_some_and(|found| link.allows(&found.slug)));
    let cookie = Cookie::of_link(link.id, &state.own_origin, session.view.frame);
    links.go_on(&mut session, cookie.value(request.headers()));
    if let Some(error) = links.why_over(&link, &session).await? {
        return Ok(dead(&link, &session, &error));
    }
    if asked.one("redirect_uri").is_some_and(|wanted| link.redirect_uri.as_deref() != Some(wanted)) {
        return Err(Error::new(Code::InvalidParameter, "The address to return to is not the one this link was made with."));
    }
    let sealed = links.seal_session(&session)?;
    let mut answer = match session.view.frame {
        true => step(state, &Opening { link: &link, session: &session, sealed: &sealed }, &asked).await?,
        false => {
            let mut answer = HttpResponse::SeeOther();
            ui::plain_headers(&mut answer);
            answer.insert_header((LOCATION, format!("{PLACE}?link={}", link.id))).finish()
        }
    };
    let ended = Cookie::of_too_many_links(link.id, request.headers(), &state.own_origin, session.view.frame);
    set_cookies(&mut answer, &ended, cookie.set(&sealed, Duration::from_secs(links.left(&session).unsigned_abs())))?;
    Ok(answer)
}

/// Of the connectors that were asked for, those that may be linked; where none may, one of them stays, so that none is offered.
fn narrow(asked: &mut Vec<String>, may: impl Fn(&str) -> bool) {
    match asked.iter().any(|name| may(name)) {
        true => asked.retain(|name| may(name)),
        false => asked.truncate(1),
    }
}

/// Ends cookies and sets one.
fn set_cookies(answer: &mut HttpResponse, ended: &[Cookie], set: String) -> Result<()> {
    for cookie in ended.iter().map(|cookie| cookie.set("", Duration::ZERO)).chain([set]) {
        answer.headers_mut().append(SET_COOKIE, cookie.parse().map_err(Error::internal)?);
    }
    Ok(())
}

/// Without the token the cookie says which link it is.
async fn shown_again(request: &HttpRequest, state: &State, asked: &Pairs) -> Result<HttpResponse> {
    let links = &state.services.links;
    let id = asked.one("link").and_then(|id| id.parse().ok());
    let id = id.ok_or_else(|| Error::new(Code::InvalidParameter, "Open the whole link that you were given."))?;
    let sealed = Cookie::of_link(id, &state.own_origin, false).value(request.headers()).ok_or_else(no_cookie)?;
    let (link, session) = links.resume(sealed).await?;
    if link.id != id {
        return Err(no_cookie());
    }
    if let Some((message, connector)) = linked_by(links, &link, &session) {
        let ending = Ending { message, origins: &link.origins, ..Ending::default() };
        return Ok(pages::done(&ending, (&connector, None), None, &[]));
    }
    if let Some(error) = links.why_over(&link, &session).await? {
        return Ok(dead(&link, &session, &error));
    }
    step(state, &Opening { link: &link, session: &session, sealed }, asked).await
}

/// What this session linked already.
fn linked_by(links: &Links, link: &Link, session: &Session) -> Option<(Value, Arc<Connector>)> {
    let (account, slug) = link.used_by(session.id)?;
    Some((success(slug, &account.to_string()), links.connector(slug.as_str())?))
}

/// Whether what began in a window of the vendor's has come to its end.
async fn looked(links: &Links, opening: &Opening<'_>) -> HttpResponse {
    let Opening { link, session, .. } = opening;
    let Some((message, connector)) = linked_by(links, link, session) else {
        return match links.check(link, Some(session)).await {
            Ok(()) => opening.waiting(),
            Err(error) => dead(link, session, &error),
        };
    };
    let frame = session.view.frame;
    sent_back(link, frame, &message).unwrap_or_else(|| {
        let ending = Ending { message, origins: &link.origins, frame, ..Ending::default() };
        pages::done(&ending, (&connector, None), None, &[])
    })
}

/// The page that what was chosen leads to.
async fn step(state: &State, opening: &Opening<'_>, asked: &Pairs) -> Result<HttpResponse> {
    let (links, view) = (&state.services.links, &opening.session.view);
    let offered = links.offered(opening.link, view).await?;
    let wanted = asked.one("integration").or(view.integration.as_deref()).filter(|wanted| !wanted.is_empty());
    let connector = match (wanted, offered.as_slice()) {
        (Some(wanted), _) => match offered.iter().find(|connector| connector.slug.as_str() == wanted) {
            Some(connector) => connector,
            None => return Ok(not_allowed(opening.link, opening.session, wanted)),
        },
        (None, [only]) => only,
        (None, []) => return Ok(not_allowed(opening.link, opening.session, "")),
        (None, _) => return Ok(opening.picker(&offered)),
    };
    let among_others = offered.len() > 1 && !view.no_back;
    let before = links.relinked(opening.link).await?;
    let own = before.as_ref().filter(|account| account.connector == connector.slug).map(|account| account.method.as_str());
    let method = match (asked.one("method"), connector.methods.as_slice()) {
        (_, [only]) => Some(only),
        (Some(name), _) => connector.method(name),
        (None, _) => view.auth_format.as_deref().or(own).and_then(|name| connector.method(name)),
    };
    let Some(method) = method else { return Ok(opening.ways(connector, among_others)) };
    let is_over = |account: &&Account| account.status == AccountStatus::NeedsReauth;
    let reason = before.as_ref().filter(is_over).and_then(|account| account.last_error.as_deref().map(plain));
    let before = before.filter(|account| account.method == method.name && opening.link.keeps_context);
    let values = before.map(|account| account.fields).unwrap_or_default();
    let given = Given { values, reason, redirect_url: Some(links.redirect_url(connector)?), ..Given::default() };
    Ok(opening.form(StatusCode::OK, (connector, method), &given, among_others))
}

/// Why an account ended, without the word for programs.
fn plain(why: &str) -> String {
    why.strip_prefix(OUTCOME_UNKNOWN).map_or(why, |rest| rest.trim_start_matches([':', ' '])).to_owned()
}

/// A form of one of the pages.
async fn acted(request: &HttpRequest, state: &State, body: Bytes) -> Result<HttpResponse> {
    let headers = request.headers();
    visit::check_origin(headers, state.public_origin.as_deref())?;
    visit::check_form(headers)?;
    let asked = Pairs::of_form(&body)?;
    drop(body);
    let links = &state.services.links;
    let sealed = &asked.one("session").unwrap_or_default().to_owned();
    let (link, session) = links.resume(sealed).await?;
    let cookie = Cookie::of_link(link.id, &state.own_origin, session.view.frame);
    let shown = cookie.value(headers);
    // In a frame the browser may keep cookies away; elsewhere the form is worth nothing without its cookie.
    let may_lack_cookie = session.view.frame && shown.is_none();
    if !may_lack_cookie && !links.is_of(&session, shown) {
        return Err(no_cookie());
    }
    let opening = Opening { link: &link, session: &session, sealed };
    match asked.one("step") {
        Some("cancel") => return Ok(cancelled(&opening)),
        Some("look") => return Ok(looked(links, &opening).await),
        _ => {}
    }
    if let Some(error) = links.why_over(&link, &session).await? {
        return Ok(dead(&link, &session, &error));
    }
    match asked.one("step") {
        Some("submit") => submitted(request, state, &opening, asked).await,
        _ => step(state, &opening, &asked).await,
    }
}

/// What was filled in is tried. Of the form nothing else is kept meanwhile: vendors take their time.
async fn submitted(request: &HttpRequest, state: &State, opening: &Opening<'_>, asked: Pairs) -> Result<HttpResponse> {
    let (links, session) = (&state.services.links, opening.session);
    let text = |name: &str| asked.one(name).unwrap_or_default().to_owned();
    let (integration, method, apart) = (text("integration"), text("method"), asked.one("apart").is_some());
    let offered = links.offered(opening.link, &session.view).await?;
    let connector = offered.iter().find(|connector| connector.slug.as_str() == integration);
    let Some(connector) = connector else { return Ok(not_allowed(opening.link, session, &integration)) };
    let Some(method) = connector.method(&method) else { return step(state, opening, &asked).await };
    let filled = Filled { integration, method: method.name.clone(), fields: asked.into_fields(), apart };
    let apart = method.needs_browser() && (filled.apart || session.view.frame);
    let (values, redirect_url) = (shown_values(method, &filled.fields), Some(links.redirect_url(connector)?));
    let again = |status, problems: &[FieldProblem], failure: Option<&str>| {
        if apart {
            return pages::not_returned(status, true, &pages::sentences(opening.link, method, problems, failure));
        }
        let given = Given { values, problems, failure, again: true, redirect_url, reason: None };
        opening.form(status, (connector, method), &given, offered.len() > 1 && !session.view.no_back)
    };
    match links.submit(session.clone(), filled).await {
        Ok(Attempt::Linked(account, warnings)) => Ok(linked(opening, (connector, method), &account, &warnings)),
        Ok(Attempt::Fields(problems)) => Ok(again(StatusCode::UNPROCESSABLE_ENTITY, &shown_problems(problems), None)),
        Ok(Attempt::Elsewhere(begun)) => {
            let mut answer = pages::leading_on(&format!("On to {}", connector.file.title), begun.url.as_str());
            let ended = Cookie::of_too_many_ways(request.headers(), &state.own_origin);
            set_cookies(&mut answer, &ended, Cookie::of_way(&begun.mark, &state.own_origin).set(begun.binding.expose(), AWAY))?;
            Ok(answer)
        }
        Err(error) if error.code() == Code::InvalidToken => Ok(dead(opening.link, session, &error)),
        Err(error) => {
            log(request, &error);
            Ok(again(status(&error), &problem_of(opening.link, method, &error), Some(&words(&error))))
        }
    }
}

/// What may be shown of what was filled in.
fn shown_values(method: &LinkMethod, filled: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let shown = filled.iter().filter(|(name, _)| method.field(name).is_some_and(|field| !field.kind.is_secret()));
    shown.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// What is said of an error to whoever links. What the operator may call, and what names mean within their network, is theirs to
/// know: it goes to the log and to callers of the API.
fn words(error: &Error) -> Cow<'_, str> {
    match (error.code(), egress::unknown_name(error.detail())) {
        (Code::EgressRefused, _) => NOT_HERE.into(),
        (_, Some(name)) => format!("No server is called {name}: check the address.").into(),
        (_, None) if error.detail().contains(ALLOWED) => NOT_HERE.into(),
        (_, None) => error.detail().into(),
    }
}

/// The same of what is wrong with a field: only its form is said.
fn shown_problems(mut problems: Vec<FieldProblem>) -> Vec<FieldProblem> {
    for problem in problems.iter_mut().filter(|problem| problem.message.contains(ALLOWED)) {
        "takes an address that begins with https://".clone_into(&mut problem.message);
    }
    problems
}

/// The field that an error names, or what else stands in the link.
fn problem_of(link: &Link, method: &LinkMethod, error: &Error) -> Vec<FieldProblem> {
    let is_known = |name: &&str| method.field(name).is_some() || link.context.contains_key(*name);
    let named = error.field_name().and_then(|name| name.strip_prefix("context.")).filter(is_known);
    let problem = |name: &str| FieldProblem { field: name.to_owned(), message: "is not accepted".to_owned() };
    named.map(problem).into_iter().collect()
}

async fn came_back(request: &HttpRequest, state: &State, integration: &str) -> Result<HttpResponse> {
    let links = &state.services.links;
    let connector = links.connector(integration).ok_or_else(unmatched::no_route)?;
    let query = Pairs::read(request.query_string().as_bytes());
    let cookie = Cookie::of_way(&mark_of(query.one("state").unwrap_or_default()), &state.own_origin);
    let back = links.finish(integration, query.into_inner(), cookie.value(request.headers())).await?;
    let mut answer = match &back.outcome {
        Ok((account, warnings)) => returned(&back, &connector, account, warnings),
        Err(error) => {
            log(request, error);
            not_returned(request, state, &back, (&connector, error)).await?
        }
    };
    answer.headers_mut().insert(SET_COOKIE, cookie.set("", Duration::ZERO).parse().map_err(Error::internal)?);
    Ok(answer)
}

/// The end of a way through a vendor's pages.
fn returned(back: &Returned, connector: &Connector, account: &Account, warnings: &[Warning]) -> HttpResponse {
    let (link, relayed) = (&back.link, back.apart);
    let message = success(&account.connector, &account.id.to_string());
    match link.redirect_uri.as_deref().filter(|_| !relayed).and_then(|uri| with_result(uri, &message)) {
        Some(url) => pages::leading_on(&format!("{} is connected", connector.file.title), url.as_str()),
        None => {
            let ending = Ending { message, origins: &link.origins, relayed, place: Some(link.id), ..Ending::default() };
            let method = connector.method(&account.method).map(|method| &**method);
            pages::done(&ending, (connector, method), Some(account), warnings)
        }
    }
}

/// The try at the vendor's pages failed: in the window of the link's page the form stands again, with what was filled in.
async fn not_returned(
    request: &HttpRequest,
    state: &State,
    back: &Returned,
    (connector, error): (&Connector, &Error),
) -> Result<HttpResponse> {
    let (links, why) = (&state.services.links, &*words(error));
    let cookie = Cookie::of_link(back.link.id, &state.own_origin, false);
    let sealed = cookie.value(request.headers()).filter(|_| !back.apart);
    let resumed = match sealed {
        Some(sealed) => links.resume(sealed).await.ok().map(|(link, session)| (link, session, sealed)),
        None => None,
    };
    let resumed = match resumed.filter(|(link, ..)| link.id == back.link.id) {
        Some(resumed) if links.check(&resumed.0, Some(&resumed.1)).await.is_ok() => Some(resumed),
        _ => None,
    };
    let (Some((link, session, sealed)), Some(method)) = (resumed, connector.method(&back.method)) else {
        return Ok(pages::not_returned(status(error), back.apart, why));
    };
    let opening = Opening { link: &link, session: &session, sealed };
    let among_others = links.offered(&link, &session.view).await?.len() > 1 && !session.view.no_back;
    let (values, redirect_url) = (shown_values(method, &back.filled), Some(links.redirect_url(connector)?));
    let given = Given { values, failure: Some(why), again: true, redirect_url, ..Given::default() };
    Ok(opening.form(status(error), (connector, method), &given, among_others))
}

fn linked(
    opening: &Opening<'_>,
    (connector, method): (&Connector, &LinkMethod),
    account: &Account,
    warnings: &[Warning],
) -> HttpResponse {
    let (link, frame) = (opening.link, opening.session.view.frame);
    let message = success(&connector.slug, &account.id.to_string());
    if let Some(answer) = sent_back(link, frame, &message) {
        return answer;
    }
    let ending = Ending { message, origins: &link.origins, frame, ..Ending::default() };
    pages::done(&ending, (connector, Some(method)), Some(account), warnings)
}

fn cancelled(opening: &Opening<'_>) -> HttpResponse {
    let (link, frame) = (opening.link, opening.session.view.frame);
    let message = failure("closed", "Nothing was connected: the person went away.", None);
    if let Some(answer) = sent_back(link, frame, &message) {
        return answer;
    }
    let place = (!frame).then_some(link.id);
    pages::cancelled(&Ending { message: json!("closed"), origins: &link.origins, frame, place, ..Ending::default() })
}

fn dead(link: &Link, session: &Session, error: &Error) -> HttpResponse {
    let message = failure("invalid_token", error.detail(), None);
    let ending = Ending { message, origins: &link.origins, frame: session.view.frame, ..Ending::default() };
    pages::refused(status(error), &ending, error.detail())
}

fn not_allowed(link: &Link, session: &Session, integration: &str) -> HttpResponse {
    let why = "This product cannot be connected by this link.";
    let message = failure("invalid_integration", why, Some(integration));
    let ending = Ending { message, origins: &link.origins, frame: session.view.frame, ..Ending::default() };
    pages::refused(StatusCode::BAD_REQUEST, &ending, why)
}

fn no_cookie() -> Error {
    let detail = "This page needs a cookie of its own. Allow cookies here, and open the link that you were given once more.";
    Error::new(Code::InvalidHeader, detail).status(403)
}

fn success(connector: &Slug, account: &str) -> Value {
    json!({"result": "success", "integration": connector, "integrated_account_id": account, "is_truto": true})
}

fn failure(kind: &str, why: &str, integration: Option<&str>) -> Value {
    json!({"result": "error", "error": why, "error_type": kind, "integration": integration, "is_truto": true})
}

/// The way back to the caller's page, where it gave one. Frames stay where they are: their page hears of it.
fn sent_back(link: &Link, frame: bool, message: &Value) -> Option<HttpResponse> {
    let url = with_result(link.redirect_uri.as_deref().filter(|_| !frame)?, message)?;
    let mut answer = HttpResponse::SeeOther();
    ui::plain_headers(&mut answer);
    Some(answer.insert_header((LOCATION, url.as_str())).finish())
}

/// The registered address, to the letter, with the result behind it.
fn with_result(address: &str, message: &Value) -> Option<Url> {
    let mut url = Url::parse(address).ok()?;
    for name in ["result", "integration", "integrated_account_id", "error", "error_type"] {
        if let Some(value) = message[name].as_str() {
            url.query_pairs_mut().append_pair(name, value);
        }
    }
    Some(url)
}

async fn file(file: Path<String>) -> Answer {
    let (kind, text) = match file.as_str() {
        "link.css" => ("text/css; charset=utf-8", ui::STYLE),
        "link.js" => ("text/javascript; charset=utf-8", ui::SCRIPT),
        _ => return Err(unmatched::no_route().into()),
    };
    Ok(ours(kind).body(text))
}

async fn icon(slug: Path<String>, state: Data<State>) -> Answer {
    let icon = state.services.links.connector(&slug).and_then(|connector| connector.icon.clone());
    let icon = icon.ok_or_else(unmatched::no_route)?;
    Ok(ours("image/svg+xml").insert_header((CONTENT_SECURITY_POLICY, ICON_POLICY)).body(icon))
}

async fn sdk() -> HttpResponse {
    for_all("text/javascript; charset=utf-8").body(ui::SDK)
}

async fn sdk_types() -> HttpResponse {
    for_all("text/plain; charset=utf-8").body(ui::SDK_TYPES)
}

fn ours(kind: &str) -> actix_web::HttpResponseBuilder {
    let mut answer = HttpResponse::Ok();
    answer.content_type(kind).insert_header((CACHE_CONTROL, KEPT)).insert_header((X_CONTENT_TYPE_OPTIONS, "nosniff"));
    answer
}

/// Pages of any site load it.
fn for_all(kind: &str) -> actix_web::HttpResponseBuilder {
    let mut answer = ours(kind);
    answer.insert_header((ACCESS_CONTROL_ALLOW_ORIGIN, "*")).insert_header(("cross-origin-resource-policy", "cross-origin"));
    answer
}
