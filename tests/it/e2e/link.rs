//! The link page as browsers see it, without one: what is asked, answered, refused, and what comes of it. Bars R-13 and R-14,
//! and the link page's part of G-12.

use std::{collections::BTreeMap, path::PathBuf};

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::{
    cli::run,
    link_addresses::LEADING_ELSEWHERE,
    vendor::{Mood, SECRET, Vendor, accounts, is_sound, names, problem},
};
use crate::{
    connector::{
        copy_dir,
        replay::{Replay, Reply},
    },
    support::{
        gateway::{ADMIN, Answer, Gateway, Kept, client, command},
        long,
    },
};

pub(super) const PAGE: &str = "/connect-account";
pub(super) const APP: &str = "https://app.example.com";

/// A person's browser: it keeps cookies and follows nothing by itself.
pub(super) struct Browser<'g> {
    gateway: &'g Gateway,
    client: reqwest::Client,
    pub(super) cookies: BTreeMap<String, String>,
    pub(super) headers: Vec<(&'static str, String)>,
}

impl<'g> Browser<'g> {
    pub(super) fn new(gateway: &'g Gateway) -> Self {
        Self { gateway, client: client(), cookies: BTreeMap::new(), headers: Vec::new() }
    }

    async fn send(&mut self, mut request: reqwest::RequestBuilder) -> Answer {
        if !self.cookies.is_empty() {
            let all: Vec<_> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
            request = request.header("cookie", all.join("; "));
        }
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        let answer = Answer::read(request.send().await.unwrap()).await;
        for set in answer.headers.get_all("set-cookie") {
            let (name, value) = set.to_str().unwrap().split(';').next().unwrap().split_once('=').unwrap();
            self.cookies.insert(name.to_owned(), value.to_owned());
        }
        answer
    }

    pub(super) async fn get(&mut self, target: &str) -> Answer {
        self.send(self.client.get(format!("{}{target}", self.gateway.base))).await
    }

    pub(super) async fn post(&mut self, form: &[(&str, &str)]) -> Answer {
        let mut body = url::form_urlencoded::Serializer::new(String::new());
        body.extend_pairs(form);
        let request = self.client.post(format!("{}{PAGE}", self.gateway.base));
        self.send(request.header("content-type", "application/x-www-form-urlencoded").body(body.finish())).await
    }

    /// Opens a link and gives its first page.
    pub(super) async fn open(&mut self, token: &str, more: &str) -> Answer {
        let answer = self.get(&format!("{PAGE}?link_token={token}{more}")).await;
        if answer.status != 303 {
            return answer;
        }
        let place = answer.header("location").unwrap().to_owned();
        assert!(place.starts_with(&format!("{PAGE}?link=")) && !place.contains(token), "{place}");
        self.get(&place).await
    }

    /// Fills in the SCIM connector's bearer form.
    pub(super) async fn fill(&mut self, page: &Answer, base: &str, secret: &str) -> Answer {
        let session = hidden(page, "session");
        let form = [
            ("session", session.as_str()),
            ("step", "submit"),
            ("integration", "scim"),
            ("method", "bearer"),
            ("f.base_url", base),
            ("f.token", secret),
        ];
        self.post(&form).await
    }
}

/// The value of a hidden field of a page.
pub fn hidden(page: &Answer, name: &str) -> String {
    let text = page.text();
    let rest = text.split(&format!("name=\"{name}\" value=\"")).nth(1).unwrap_or_else(|| panic!("no `{name}` in {text}"));
    rest.split('"').next().unwrap().to_owned()
}

/// What the page's script tells whoever opened it.
pub(super) fn message(page: &Answer) -> Value {
    let text = page.text();
    let rest = text.split("data-message=\"").nth(1).unwrap_or_else(|| panic!("no message in {text}"));
    serde_json::from_str(&rest.split('"').next().unwrap().replace("&quot;", "\"").replace("&#39;", "'")).unwrap()
}

/// Where a page leads on to.
pub fn leads_to(page: &Answer) -> url::Url {
    let text = page.text();
    let rest = text.split("http-equiv=\"refresh\" content=\"").nth(1).unwrap_or_else(|| panic!("leads nowhere: {text}"));
    let place = rest.split('"').next().unwrap().split_once("url=").unwrap().1.replace("&amp;", "&");
    url::Url::parse(&place).unwrap()
}

pub(super) async fn make(gateway: &Gateway, body: Value) -> Value {
    let made = gateway.call("POST", "/link-token", Some(&body)).await;
    assert_eq!(made.status, 201, "{}", made.text());
    made.json()
}

pub(super) fn token(made: &Value) -> &str {
    made["link_token"].as_str().unwrap()
}

pub(super) struct Stand {
    kept: Kept,
    pub(super) vendor: Vendor,
    pub(super) gateway: Gateway,
}

impl Stand {
    pub(super) fn start() -> Stand {
        Stand::on(Kept::embedded(), &[])
    }

    fn on(kept: Kept, settings: &[(&str, &str)]) -> Stand {
        let vendor = Vendor::start();
        let gateway = Gateway::start_with(&kept, &vendor.authority(), settings);
        Stand { kept, vendor, gateway }
    }
}

#[tokio::test]
async fn a_customer_links_on_the_page_and_the_token_is_used_up() {
    let Stand { vendor, gateway, .. } = &Stand::start();
    let redirect = format!("{APP}/linked?step=2");
    let made = make(gateway, json!({"tenant_id": "acme", "redirect_uri": redirect, "context": {"plan": "gold"}})).await;
    let link_url = made["link_url"].as_str().unwrap();
    assert_eq!(link_url, format!("{}{PAGE}?link_token={}", gateway.base, token(&made)));
    assert!(token(&made).starts_with("lnk_") && token(&made).len() > 40, "{made}");
    // A scanner of mail follows the link, with HEAD and GET, and claims nothing.
    for _ in 0..3 {
        assert_eq!(Browser::new(gateway).open(token(&made), "").await.status, 200);
    }
    let mut browser = Browser::new(gateway);
    let picker = browser.open(token(&made), "").await;
    assert!(picker.text().contains("Choose what to connect") && picker.text().contains("integration=scim"), "{}", picker.text());
    let place = format!("{PAGE}?link={}", made["id"].as_str().unwrap());
    let ways = browser.get(&format!("{place}&integration=scim")).await;
    assert!(ways.text().contains("User name and password"), "{}", ways.text());
    let form = browser.get(&format!("{place}&integration=scim&method=bearer")).await;
    assert!(form.text().contains("type=\"password\"") && form.text().contains("Which rights"), "{}", form.text());

    let before = vendor.asked();
    let wrong = browser.fill(&form, "nonsense", SECRET).await;
    assert_eq!((wrong.status, vendor.asked()), (422, before), "{}", wrong.text());
    let text = wrong.text();
    assert!(
        text.contains("value=\"nonsense\"") && text.contains("aria-invalid=\"true\" autofocus") && !text.contains(SECRET),
        "{text}"
    );
    let wrong = browser.fill(&form, &vendor.base(), "a-typo").await;
    assert_eq!(wrong.status, 422, "{}", wrong.text());
    assert!(wrong.text().contains("Check again") && !wrong.text().contains("a-typo"), "{}", wrong.text());
    assert_eq!(accounts(gateway).await, Vec::<String>::new());

    let done = browser.fill(&wrong, &vendor.base(), SECRET).await;
    assert_eq!(done.status, 303, "{}", done.text());
    let all = accounts(gateway).await;
    let expected = format!("{redirect}&result=success&integration=scim&integrated_account_id={}", all[0]);
    assert_eq!((done.header("location"), all.len()), (Some(expected.as_str()), 1));
    let account = gateway.get(&format!("/integrated-account/{}", all[0])).await.json();
    assert_eq!((&account["tenant_id"], &account["context"]["plan"]), (&json!("acme"), &json!("gold")), "{account}");

    assert_eq!(browser.fill(&wrong, &vendor.base(), SECRET).await.status, 410);
    assert_eq!(Browser::new(gateway).open(token(&made), "").await.status, 410);
    let again = browser.get(&place).await;
    assert_eq!((again.status, message(&again)["integrated_account_id"].as_str()), (200, Some(all[0].as_str())));
    assert_eq!(accounts(gateway).await.len(), 1);
    is_sound(gateway);
}

#[tokio::test]
async fn r_13_of_a_hundred_racers_one_has_success() {
    for kept in Kept::each() {
        let Stand { vendor, gateway, .. } = &Stand::on(kept, &[]);
        vendor.set(Mood::Slow);
        for round in 0..if long() { 10 } else { 2 } {
            let made = make(gateway, json!({"tenant_id": format!("round-{round}")})).await;
            // Half of them are one browser that sends its form again and again, half are browsers of their own.
            let mut one = Browser::new(gateway);
            let page = one.open(token(&made), "&integration=scim&auth_format=bearer").await;
            // Made before they race: a client takes longer to make than a connection may be silent.
            let browsers: Vec<_> = (0..100).map(|_| Browser::new(gateway)).collect();
            let tries = browsers.into_iter().enumerate().map(|(number, mut browser)| {
                let (cookies, page, made, base) = (one.cookies.clone(), &page, &made, vendor.base());
                async move {
                    if number % 2 == 0 {
                        browser.cookies = cookies;
                        return browser.fill(page, &base, SECRET).await.status;
                    }
                    let page = browser.open(token(made), "&integration=scim&auth_format=bearer").await;
                    match page.status {
                        200 => browser.fill(&page, &base, SECRET).await.status,
                        refused => refused,
                    }
                }
            });
            let ended = join_all(tries).await;
            let count = |status: u16| ended.iter().filter(|ended| **ended == status).count();
            assert_eq!((count(200), count(200) + count(409) + count(410)), (1, 100), "{ended:?}");
            assert_eq!(accounts(gateway).await.len(), round + 1);
        }
        is_sound(gateway);
    }
}

#[tokio::test]
async fn r_13_expired_cancelled_foreign_and_other_tokens_are_refused() {
    let Stand { vendor, gateway, .. } = &Stand::start();
    let first = make(gateway, json!({"tenant_id": "acme", "integrations": ["scim"]})).await;
    let second = make(gateway, json!({"tenant_id": "other"})).await;
    let mut browser = Browser::new(gateway);
    let page = browser.open(token(&first), "&auth_format=bearer").await;
    let mut stranger = Browser::new(gateway);
    let theirs = stranger.open(token(&second), "&integration=scim&auth_format=bearer").await;
    // A form without its cookie, or with another link's, is worth nothing.
    let mut naked = Browser::new(gateway);
    assert_eq!(naked.fill(&page, &vendor.base(), SECRET).await.status, 403);
    assert_eq!(stranger.fill(&page, &vendor.base(), SECRET).await.status, 403);
    assert_eq!(browser.fill(&theirs, &vendor.base(), SECRET).await.status, 403);
    // A connector that the token does not allow, whatever the page was asked for.
    let session = hidden(&page, "session");
    let form = [("session", session.as_str()), ("step", "submit"), ("integration", "keeper"), ("method", "service_mode")];
    let other = browser.post(&form).await;
    assert_eq!((other.status, message(&other)["error_type"].as_str()), (400, Some("invalid_integration")), "{}", other.text());
    let asked = Browser::new(gateway).open(token(&first), "&integration=keeper&integrations=keeper").await;
    assert_eq!((asked.status, message(&asked)["error_type"].as_str()), (400, Some("invalid_integration")));

    let id = first["id"].as_str().unwrap();
    let gone = gateway.call("DELETE", &format!("/link-token/{id}"), None).await;
    assert_eq!((gone.status, gone.json()["id"].as_str()), (200, Some(id)));
    let dead = browser.fill(&page, &vendor.base(), SECRET).await;
    assert_eq!((dead.status, message(&dead)["error_type"].as_str()), (410, Some("invalid_token")), "{}", dead.text());
    problem(&gateway.call("DELETE", "/link-token/nonsense", None).await, 404, "not_found", "gateway");

    let short = make(gateway, json!({"tenant_id": "acme", "expires_in": 2})).await;
    let mut late = Browser::new(gateway);
    let page = late.open(token(&short), "&integration=scim&auth_format=bearer").await;
    assert_eq!(page.status, 200);
    let end: jiff::Timestamp = short["expires_at"].as_str().unwrap().parse().unwrap();
    while jiff::Timestamp::now() <= end {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(late.fill(&page, &vendor.base(), SECRET).await.status, 410);
    for wrong in [token(&short), "lnk_", "", "rck_x", ADMIN, &token(&second).to_lowercase(), &token(&second)[..40]] {
        let refused = Browser::new(gateway).open(wrong, "").await;
        assert_eq!(refused.status, 410, "{wrong}");
        assert_eq!(refused.header("content-type"), Some("text/html; charset=utf-8"));
    }
    assert_eq!(accounts(gateway).await, Vec::<String>::new());
}

#[tokio::test]
async fn r_13_the_token_is_in_no_log_and_in_no_address_that_goes_on() {
    let Stand { vendor, gateway, .. } =
        &Stand::on(Kept::embedded(), &[("ROLLCALL_LOG", "trace"), ("ROLLCALL_LOG_FORMAT", "json")]);
    let made = make(gateway, json!({"tenant_id": "acme"})).await;
    let mut browser = Browser::new(gateway);
    let opened = browser.get(&format!("{PAGE}?link_token={}", token(&made))).await;
    assert_eq!((opened.status, opened.header("referrer-policy")), (303, Some("no-referrer")));
    let page = browser.open(token(&made), "&integration=scim&auth_format=bearer").await;
    // Its forms say scheme, host and port, and nothing else of an address.
    assert_eq!(page.header("referrer-policy"), Some("strict-origin"));
    assert!(!page.text().contains(token(&made)), "{}", page.text());
    browser.fill(&page, &vendor.base(), "wrong").await;
    browser.fill(&page, &vendor.base(), SECRET).await;
    Browser::new(gateway).open(token(&made), "").await;
    let log = gateway.get("/log?limit=1000").await.text();
    let secret = token(&made).trim_start_matches("lnk_");
    assert!(!log.contains(secret) && !log.contains(&hidden(&page, "session")), "{log}");
    let said = gateway.said();
    assert!(said.contains("/connect-account") && !said.contains(secret), "{said}");
    is_sound(gateway);
}

#[tokio::test]
async fn r_14_no_address_leads_elsewhere() {
    let Stand { vendor, gateway, .. } = &Stand::start();
    assert!(LEADING_ELSEWHERE.len() >= 60);
    for address in LEADING_ELSEWHERE {
        let body = json!({"tenant_id": "acme", "redirect_uri": address});
        names(&gateway.call("POST", "/link-token", Some(&body)).await, 400, "invalid_body", "redirect_uri");
        let body = json!({"tenant_id": "acme", "origins": [APP, address]});
        names(&gateway.call("POST", "/link-token", Some(&body)).await, 400, "invalid_body", "origins");
    }
    for origin in ["https://app.example.com/", "https://app.example.com/x", "null", "*", "https://app.example.com; script-src *"]
    {
        let body = json!({"tenant_id": "acme", "origins": [origin]});
        names(&gateway.call("POST", "/link-token", Some(&body)).await, 400, "invalid_body", "origins");
    }
    for address in [APP, "https://app.example.com/a?b=c&d", "http://localhost:3000/x", "http://127.0.0.1/", "http://[::1]:99/"] {
        make(gateway, json!({"tenant_id": "acme", "redirect_uri": address})).await;
    }
    // None of them leads anywhere when the page is asked to return there.
    let made = make(gateway, json!({"tenant_id": "acme", "redirect_uri": format!("{APP}/linked")})).await;
    for address in LEADING_ELSEWHERE.iter().chain(&["https://evil.example/", "https://app.example.com/linkedX", APP]) {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.append_pair("redirect_uri", address);
        let answer = Browser::new(gateway).get(&format!("{PAGE}?link_token={}&{}", token(&made), query.finish())).await;
        assert_eq!((answer.status, answer.header("location")), (400, None), "{address}");
    }
    let mut browser = Browser::new(gateway);
    let page = browser.open(token(&made), "&integration=scim&auth_format=bearer").await;
    let session = hidden(&page, "session");
    let form = [("session", session.as_str()), ("step", "cancel"), ("redirect_uri", "https://evil.example/")];
    let cancelled = browser.post(&form).await;
    let place = cancelled.header("location").unwrap();
    assert!(place.starts_with(&format!("{APP}/linked?result=error&")) && place.ends_with("error_type=closed"), "{place}");
    let done = browser.fill(&page, &vendor.base(), SECRET).await;
    assert!(done.header("location").unwrap().starts_with(&format!("{APP}/linked?result=success&")), "a cancelled try is no end");
}

#[tokio::test]
async fn g_12_pages_are_framed_and_sent_by_those_alone_who_may() {
    let public = "https://rollcall.example.com";
    let Stand { vendor, gateway, .. } = &Stand::on(Kept::embedded(), &[("ROLLCALL_PUBLIC_URL", public)]);
    let visit = |headers: &[(&'static str, &str)]| {
        let mut browser = Browser::new(gateway);
        browser.headers = vec![("host", "rollcall.example.com".to_owned())];
        browser.headers.extend(headers.iter().map(|(name, value)| (*name, (*value).to_owned())));
        browser
    };
    let body = json!({"tenant_id": "acme", "origins": [APP, "http://localhost:5173"]});
    let made = gateway.call_with(ADMIN, &[("host", "rollcall.example.com")], "POST", "/link-token", Some(&body)).await.json();
    assert!(made["link_url"].as_str().unwrap().starts_with(&format!("{public}{PAGE}?")), "{made}");
    let mut browser = visit(&[]);
    let opened = browser.get(&format!("{PAGE}?link_token={}&integration=scim&auth_format=bearer", token(&made))).await;
    let cookie = opened.header("set-cookie").unwrap().to_owned();
    let name = format!("__Host-rollcall-link-{}=", made["id"].as_str().unwrap());
    assert!(cookie.starts_with(&name) && cookie.contains("; Path=/; ") && !cookie.contains("Domain"), "{cookie}");
    assert!(cookie.ends_with("; HttpOnly; SameSite=Lax; Secure"), "{cookie}");
    let page = browser.get(opened.header("location").unwrap()).await;
    let framed =
        visit(&[]).get(&format!("{PAGE}?link_token={}&iframe=true&integration=scim&auth_format=bearer", token(&made))).await;
    let cookie = framed.header("set-cookie").unwrap().to_owned();
    assert!(cookie.ends_with("; HttpOnly; SameSite=None; Secure; Partitioned"), "{cookie}");
    for (answer, ancestors) in [(&page, "'none'"), (&framed, "https://app.example.com http://localhost:5173")] {
        assert_eq!(answer.status, 200, "{}", answer.text());
        let policy = answer.header("content-security-policy").unwrap();
        let expected = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
            form-action 'self'; base-uri 'none'; frame-ancestors ";
        assert_eq!(policy, format!("{expected}{ancestors}"));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(answer.header("referrer-policy"), Some("strict-origin"), "no path and no query, not even to ourselves");
        let text = answer.text();
        assert!(
            !text.contains("<style") && !text.contains(" style=") && !text.contains("<script>") && !text.contains(" onclick")
        );
        assert!(!text.contains("//evil") && !text.contains("src=\"http"), "{text}");
    }
    // A form of another site is not taken, with the right cookie and session in it.
    for (name, value) in [
        ("origin", "https://evil.example"),
        ("origin", "http://rollcall.example.com"),
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
    ] {
        let mut other = visit(&[(name, value)]);
        other.cookies = browser.cookies.clone();
        assert_eq!(other.fill(&page, &vendor.base(), SECRET).await.status, 403, "{name}: {value}");
    }
    // A cookie that somebody else chose is no session.
    let mut fixed = visit(&[]);
    fixed.cookies = browser.cookies.keys().map(|name| (name.clone(), "chosen".to_owned())).collect();
    assert_eq!(fixed.fill(&page, &vendor.base(), SECRET).await.status, 403);
    assert_eq!(accounts_of(gateway).await, 0);
    // In a frame the form carries the session where cookies are blocked.
    let mut blocked = visit(&[("sec-fetch-site", "same-origin"), ("origin", "null")]);
    let done = blocked.fill(&framed, &vendor.base(), SECRET).await;
    assert_eq!(done.status, 200, "{}", done.text());
    let told = message(&done);
    assert_eq!((&told["result"], &told["is_truto"], &told["integration"]), (&json!("success"), &json!(true), &json!("scim")));
    assert!(done.text().contains("data-origins=\"https://app.example.com http://localhost:5173\" data-frame"), "{}", done.text());
    assert!(!done.text().contains(SECRET));
}

async fn accounts_of(gateway: &Gateway) -> usize {
    let host = [("host", "rollcall.example.com")];
    let list = gateway.call_with(ADMIN, &host, "GET", "/integrated-account", None).await.json();
    list["result"].as_array().unwrap().len()
}

#[tokio::test]
async fn an_account_is_linked_anew_and_keeps_its_id() {
    let Stand { vendor, gateway, .. } = &Stand::start();
    let mut import = vendor.import();
    import["context"]["crm"] = json!("kept");
    let id = gateway.call("POST", "/integrated-account", Some(&import)).await.json()["id"].as_str().unwrap().to_owned();
    for (keeps, expected) in [(Some(true), json!("kept")), (None, json!("kept")), (Some(false), Value::Null)] {
        let mut body = json!({"integrated_account_id": id, "context": {"round": 1}});
        keeps.into_iter().for_each(|keeps| body["persist_previous_context"] = json!(keeps));
        let made = make(gateway, body).await;
        let mut browser = Browser::new(gateway);
        let page = browser.open(token(&made), "&auth_format=bearer").await;
        assert_eq!(page.text().contains(&vendor.base()), keeps != Some(false), "what is not secret stands in the form");
        let done = browser.fill(&page, &vendor.base(), SECRET).await;
        assert_eq!(message(&done)["integrated_account_id"], json!(id), "{}", done.text());
        let account = gateway.get(&format!("/integrated-account/{id}")).await.json();
        assert_eq!((&account["context"]["crm"], &account["context"]["round"]), (&expected, &json!(1)), "{account}");
        assert_eq!((&account["tenant_id"], &account["status"]), (&json!("acme"), &json!("active")));
    }
    assert_eq!(accounts(gateway).await, [id.clone()]);
    let body = json!({"integrated_account_id": id, "integrations": ["keeper"]});
    names(&gateway.call("POST", "/link-token", Some(&body)).await, 400, "invalid_body", "integrations");
    let made = make(gateway, json!({"integrated_account_id": id})).await;
    let other = Browser::new(gateway).open(token(&made), "&integration=keeper").await;
    assert_eq!((other.status, message(&other)["error_type"].as_str()), (400, Some("invalid_integration")));
    // What was deleted stays deleted.
    let mut browser = Browser::new(gateway);
    let page = browser.open(token(&made), "&auth_format=bearer").await;
    assert_eq!(gateway.call("DELETE", &format!("/integrated-account/{id}"), None).await.status, 200);
    assert_eq!(browser.fill(&page, &vendor.base(), SECRET).await.status, 410);
    assert_eq!(accounts(gateway).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_link_token_is_asked_for_in_one_way() {
    let Stand { vendor, gateway, .. } = &Stand::start();
    let account = gateway.link("scim", "bearer", vendor.context()).await;
    for (body, field) in [
        (json!({}), "tenant_id"),
        (json!({"tenant_id": "a", "integrated_account_id": account}), "tenant_id"),
        (json!({"tenant_id": ""}), "tenant_id"),
        (json!({"tenant_id": "a", "integrations": []}), "integrations"),
        (json!({"tenant_id": "a", "integrations": ["nobody"]}), "integrations"),
        (json!({"tenant_id": "a", "integrations": "scim"}), "integrations"),
        (json!({"tenant_id": "a", "scopes": ["a b"]}), "scopes"),
        (json!({"tenant_id": "a", "expires_in": 0}), "expires_in"),
        (json!({"tenant_id": "a", "expires_in": 86401}), "expires_in"),
        (json!({"tenant_id": "a", "expires_in": "60"}), "expires_in"),
        (json!({"tenant_id": "a", "region": "mars"}), "region"),
        (json!({"tenant_id": "a", "is_sandbox": "yes"}), "is_sandbox"),
        (json!({"tenant_id": "a", "truto_static_gate_id": "x"}), "truto_static_gate_id"),
        (json!({"tenant_id": "a", "environment_unified_model_id": 1}), "environment_unified_model_id"),
        (json!({"tenant_id": "a", "environment_unified_model_id": [1]}), "environment_unified_model_id"),
        (json!({"tenant_id": "a", "unified_model_id": [1]}), "unified_model_id"),
        (json!({"tenant_id": "a", "origin": "x"}), "origin"),
        (json!({"tenant_id": "a", "context": []}), "context"),
    ] {
        names(&gateway.call("POST", "/link-token", Some(&body)).await, 400, "invalid_body", field);
    }
    let missing = json!({"integrated_account_id": "0190a1b2-0000-7000-8000-000000000000"});
    problem(&gateway.call("POST", "/link-token", Some(&missing)).await, 404, "not_found", "gateway");
    make(
        gateway,
        json!({"tenant_id": "a", "region": "eu", "is_sandbox": true, "environment_unified_model_id": ["x"], "unified_model_id": [],
            "truto_static_gate_id": "0190a1b2-0000-7000-8000-000000000000", "persist_previous_context": false, "scopes": ["a:b"]}),
    )
    .await;
    make(gateway, json!({"tenant_id": "a", "environment_unified_model_id": "x"})).await;
    let weak = gateway.token(&["accounts:write"]).await;
    let refused = gateway.call_as(Some(&weak), "POST", "/link-token", Some(&json!({"tenant_id": "a"}))).await;
    problem(&refused, 403, "scope_missing", "gateway");
}

/// A sandbox is what the link says; an account that is linked anew stays what it was unless the link says otherwise.
#[tokio::test]
async fn is_sandbox_of_a_link_is_the_accounts() {
    let Stand { vendor, gateway, .. } = &Stand::start();
    let mut ids = Vec::new();
    for (said, expected) in [(Some(true), true), (Some(false), false), (None, false)] {
        let mut body = json!({"tenant_id": "acme"});
        said.into_iter().for_each(|said| body["is_sandbox"] = json!(said));
        ids.push((link_by(gateway, vendor, body).await, expected));
    }
    let first = ids[0].0.clone();
    for (said, expected) in [(None, true), (Some(false), false), (None, false), (Some(true), true)] {
        for (id, expected) in &ids {
            let account = gateway.get(&format!("/integrated-account/{id}")).await.json();
            assert_eq!(account["is_sandbox"], json!(expected), "{account}");
        }
        let listed = gateway.get("/integrated-account?is_sandbox=true").await.json();
        assert_eq!(listed["result"].as_array().unwrap().len(), ids.iter().filter(|(_, expected)| *expected).count(), "{listed}");
        let mut body = json!({"integrated_account_id": first});
        said.into_iter().for_each(|said| body["is_sandbox"] = json!(said));
        assert_eq!(link_by(gateway, vendor, body).await, first);
        ids[0].1 = expected;
    }
    let account = gateway.get(&format!("/integrated-account/{first}")).await.json();
    assert_eq!(account["is_sandbox"], json!(true), "{account}");
}

/// Links by a link token that is asked for so; the account's id.
async fn link_by(gateway: &Gateway, vendor: &Vendor, body: Value) -> String {
    let made = make(gateway, body).await;
    let mut browser = Browser::new(gateway);
    let page = browser.open(token(&made), "&integration=scim&auth_format=bearer").await;
    let done = browser.fill(&page, &vendor.base(), SECRET).await;
    message(&done)["integrated_account_id"].as_str().unwrap().to_owned()
}

/// What the link says wins over what the page says, and is not asked for.
#[tokio::test]
async fn what_the_link_says_is_not_the_customers_to_change() {
    let Stand { vendor, gateway, .. } = &Stand::start();
    let context = json!({"base_url": vendor.base(), "plan": "gold"});
    let made = make(gateway, json!({"tenant_id": "acme", "integrations": ["scim"], "context": context})).await;
    let mut browser = Browser::new(gateway);
    let page = browser.open(token(&made), "&auth_format=bearer").await;
    assert!(!page.text().contains("f.base_url") && page.text().contains("f.token"), "{}", page.text());
    let done = browser.fill(&page, "https://evil.example/scim", SECRET).await;
    assert_eq!(done.status, 200, "{}", done.text());
    let account = gateway.get(&format!("/integrated-account/{}", accounts(gateway).await[0])).await.json();
    assert_eq!((&account["context"]["base_url"], &account["context"]["plan"]), (&json!(vendor.base()), &json!("gold")));
}

#[tokio::test]
async fn a_vendor_that_fails_leaves_the_link_as_it_was() {
    let Stand { vendor, gateway, .. } = &Stand::start();
    let made = make(gateway, json!({"tenant_id": "acme"})).await;
    let mut browser = Browser::new(gateway);
    let page = browser.open(token(&made), "&integration=scim&auth_format=bearer").await;
    for (mood, status) in [(Mood::Html, 502), (Mood::CutJson, 502), (Mood::Unauthorized, 422), (Mood::Good, 200)] {
        vendor.set(mood);
        let answer = browser.fill(&page, &vendor.base(), SECRET).await;
        assert_eq!(answer.status, status, "{mood:?}: {}", answer.text());
        assert_eq!(accounts(gateway).await.len(), usize::from(mood == Mood::Good), "{mood:?}");
        assert!(!answer.text().contains(SECRET), "{mood:?}");
    }
    is_sound(gateway);
}

/// A folder of connectors with one whose credentials must show something, else they are refused with the sentence.
pub(super) fn with_a_test_of_what_is_visible(kept: &Kept, sentence: &str) -> PathBuf {
    let dir = kept.folder().join("connectors");
    copy_dir(&crate::connector::connectors().join("_template"), &dir.join("my-vendor"));
    let file = dir.join("my-vendor/connector.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    let test = format!("test: {{ request: GET /me, expect: [id], visible: {{ path: \"data[*]\", else: \"{sentence}\" }} }}");
    std::fs::write(&file, text.replace("test: { request: GET /me, expect: [id] }", &test)).unwrap();
    dir
}

/// A credential that is taken but shows nothing is not linked, by the page and by the API, until it shows something.
#[tokio::test]
async fn a_credential_that_shows_nothing_is_not_linked() {
    let sentence = "0 customers visible: grant Customer Access, then make a new key.";
    let vendor = Replay::start(|seen| match seen.header("authorization") {
        Some("Bearer sees") => Reply::json(200, r#"{"id": 1, "data": [{"id": 1}]}"#),
        _ => Reply::json(200, r#"{"id": 1, "data": []}"#),
    });
    let kept = Kept::embedded();
    let dir = with_a_test_of_what_is_visible(&kept, sentence);
    let authority = format!("127.0.0.1:{}", vendor.port);
    let gateway = &Gateway::start_with(&kept, &authority, &[("ROLLCALL_CONNECTORS_DIR", dir.to_str().unwrap())]);
    let url = format!("http://{authority}");
    let import = json!({"tenant_id": "acme", "integration": "my-vendor", "authentication_method": "api_key",
        "context": {"url": url, "api_key": "blind"}});
    let refused = gateway.call("POST", "/integrated-account", Some(&import)).await;
    assert_eq!(problem(&refused, 422, "credential_refused", "vendor")["detail"], sentence);

    let made = make(gateway, json!({"tenant_id": "acme", "integrations": ["my-vendor"]})).await;
    let mut browser = Browser::new(gateway);
    let page = browser.open(token(&made), "").await;
    let session = hidden(&page, "session");
    for (key, status) in [("blind", 422), ("sees", 200)] {
        let form = [
            ("session", session.as_str()),
            ("step", "submit"),
            ("integration", "my-vendor"),
            ("method", "api_key"),
            ("f.url", url.as_str()),
            ("f.api_key", key),
        ];
        let answer = browser.post(&form).await;
        assert_eq!(answer.status, status, "{}", answer.text());
        let said = answer.text().contains(sentence) && answer.text().contains("Check again");
        assert_eq!((said, accounts(gateway).await.len()), (key == "blind", usize::from(key == "sees")));
    }
}

#[tokio::test]
async fn a_guide_and_names_of_an_overlay_are_only_text() {
    let kept = Kept::embedded();
    let folder = kept.folder().join("connectors").join("my-vendor");
    copy_dir(&crate::connector::connectors().join("_template"), &folder);
    let file = folder.join("connector.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("title: My vendor ", "title: \"<b>'My' & \\\"vendor\\\"</b>\" ")).unwrap();
    std::fs::write(folder.join("guide.md"), "# Hi\n\n<script src=//evil.example></script>\n\n![x](https://evil.example/x.png)\n")
        .unwrap();
    let dir = kept.folder().join("connectors");
    let gateway = &Gateway::start_with(&kept, "", &[("ROLLCALL_CONNECTORS_DIR", dir.to_str().unwrap())]);
    let made = make(gateway, json!({"tenant_id": "acme", "integrations": ["my-vendor"]})).await;
    let text = Browser::new(gateway).open(token(&made), "").await.text();
    assert!(text.contains("&lt;b&gt;&#39;My&#39; &amp; &quot;vendor&quot;&lt;/b&gt;"), "{text}");
    assert!(!text.contains("<script src=//") && !text.contains("<img src=\"https") && text.contains("&lt;script"), "{text}");
}

#[tokio::test]
async fn files_of_the_page_are_small_and_our_own() {
    let Stand { gateway, .. } = &Stand::start();
    let made = make(gateway, json!({"tenant_id": "acme"})).await;
    let mut browser = Browser::new(gateway);
    let mut sum = 0;
    let form = browser.open(token(&made), "&integration=keeper&auth_format=service_mode").await;
    for path in [&format!("{PAGE}/link.css"), &format!("{PAGE}/link.js"), &format!("{PAGE}/icon/keeper")] {
        let file = browser.get(path).await;
        assert_eq!((file.status, file.header("x-content-type-options")), (200, Some("nosniff")), "{path}");
        sum += file.body.len();
    }
    assert!(sum + form.body.len() < 60_000, "{sum} and {}", form.body.len());
    let icon = browser.get(&format!("{PAGE}/icon/scim")).await;
    assert!(icon.header("content-security-policy").unwrap().contains("sandbox"));
    for path in ["/rollcall-link.js", "/rollcall-link.d.ts"] {
        let file = browser.get(path).await;
        assert_eq!((file.status, file.header("access-control-allow-origin")), (200, Some("*")), "{path}");
    }
    for path in [format!("{PAGE}/link.ts"), format!("{PAGE}/icon/nobody"), "/connect/nobody/callback".to_owned()] {
        assert_eq!(browser.get(&path).await.status, 404, "{path}");
    }
    let refused = gateway.call("DELETE", PAGE, None).await;
    assert_eq!((refused.status, refused.header("allow")), (405, Some("GET, HEAD, POST")));
    let back = browser.get("/connect/scim/callback?code=x&state=y").await;
    assert!(back.status >= 400 && back.header("content-type") == Some("text/html; charset=utf-8"), "{}", back.text());
}

#[tokio::test]
async fn the_command_prints_the_address_of_a_gateway_that_runs() {
    let stand = Stand::start();
    // What tells commands where it runs is written when it serves.
    while !stand.kept.folder().join("store/serve.json").exists() {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let link = |args: &[&str]| {
        let all: Vec<&str> = ["link"].iter().chain(args).copied().collect();
        let mut command = command(&all);
        command.envs(stand.kept.settings()).current_dir(stand.kept.folder());
        command
    };
    let (code, out, err) = run(&mut link(&["--tenant", "acme", "--integration", "scim", "--origin", APP]));
    assert_eq!(code, Some(0), "{err}");
    let place = out.trim().strip_prefix(&stand.gateway.base).unwrap_or_else(|| panic!("{out}"));
    let page = Browser::new(&stand.gateway).open(place.split("link_token=").nth(1).unwrap(), "").await;
    assert!(page.status == 200 && page.text().contains("SCIM 2.0"), "{}", page.text());
    let (code, out, _) = run(&mut link(&["--tenant", "acme", "--json", "--expires-in", "60"]));
    let made: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, made["link_url"].as_str().is_some_and(|url| url.contains(token(&made)))), (Some(0), true));
    for (args, code, told) in [
        (&["--json"][..], 2, "--tenant"),
        (&["--tenant", "a", "--relink", "b"], 2, "cannot be used with"),
        (&["--relink", "nonsense"], 1, "not_found"),
        (&["--tenant", "a", "--origin", "https://app.example.com/"], 1, "origins"),
    ] {
        let (ended, _, err) = run(&mut link(args));
        assert!(ended == Some(code) && err.contains(told), "{args:?}: {err}");
    }
    let Stand { kept, gateway, .. } = stand;
    assert!(gateway.stop());
    let mut alone = command(&["link", "--tenant", "acme"]);
    let (code, _, err) = run(alone.envs(kept.settings()).current_dir(kept.folder()));
    assert!(code == Some(1) && err.contains("rollcall serve"), "{err}");
}
