//! V-09 from the outside: what cannot be noted in the audit log is not done, whoever asks for it.

use std::{
    net::TcpListener,
    sync::{Arc, atomic::Ordering},
};

use rollcall::{
    app::Core,
    http::{Readiness, State, flow::Flows, server},
    model::{EnvironmentId, Scope, Scopes},
    service::{Links, ListTokens, NewToken, Services, audit::AuditOutcome},
    store::repo,
};
use serde_json::{Value, json};

use super::{
    audit::{audit_over, entries, keys_of, problems},
    inside, link,
    refusing::{ENTRIES, EVERYTHING, NOTHING, Refusing},
};
use crate::support::stores::Through;
use crate::{
    e2e::{
        link::{hidden, leads_to},
        vendor::{SECRET, Vendor},
    },
    support::gateway::{Answer, client},
};

/// A gateway whose audit log can be made unwritable.
struct Desk {
    services: Arc<Services>,
    environment: EnvironmentId,
    refusing: Arc<Through<Refusing>>,
    base: String,
    token: String,
    account: String,
    _folder: tempfile::TempDir,
}

impl Desk {
    async fn new(vendor: &Vendor) -> Desk {
        let (folder, clock, core) = inside(vendor).await;
        let account = link(&core, vendor).await.account.id.to_string();
        let new = NewToken { name: "operator".to_owned(), scopes: Scopes([Scope::Admin].into()), expires_at: None };
        let token = core.services.tokens.create(core.environment, new).await.unwrap().1.expose().to_owned();
        let refusing = Arc::new(Through(Refusing::over(core.services.store.clone(), NOTHING)));
        let audit = Arc::new(audit_over(&core, refusing.clone(), clock.clone(), None).await);
        let (keys, tasks) = (keys_of(&core).await, core.tasks.clone());
        let Core { services, guard, environment, .. } = core;
        let services = Arc::into_inner(services).expect("nobody else has them");
        let around = (services.installs.clone(), audit.clone());
        let (accounts, authorizations) = ((services.accounts.clone(), services.tokens.clone()), services.authorizations.clone());
        authorizations.reached_at("http://127.0.0.1:1");
        let links = Links::new(repo::Links::new(services.store.clone()), keys, accounts, authorizations, around, (tasks, clock));
        let services = Arc::new(Services { audit, links, ..services });
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let state = State {
            services: services.clone(),
            guard,
            public_origin: None,
            own_origin: base.as_str().into(),
            public_host: None,
            metrics: None,
            metrics_open: false,
            readiness: Arc::new(Readiness::default()),
            flows: Arc::new(Flows::bounded(100, 1)),
        };
        tokio::spawn(server::serve(listener, None, Arc::new(state), 1).unwrap());
        Desk { services, environment, refusing, base, token, account, _folder: folder }
    }

    fn refuse(&self, what: u8) {
        self.refusing.refuses.store(what, Ordering::SeqCst);
    }

    async fn call(&self, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        let mut request = client().request(method.parse().unwrap(), format!("{}{path}", self.base)).bearer_auth(&self.token);
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        (status, serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap_or_default())
    }

    /// A request of a person's browser; its answer, whose cookies come along.
    async fn browse(&self, cookies: &mut String, method: &str, target: &str, form: Option<&[(&str, &str)]>) -> Answer {
        let mut request = client().request(method.parse().unwrap(), format!("{}{target}", self.base)).header("cookie", &*cookies);
        if let Some(form) = form {
            let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
            request = request.header("content-type", "application/x-www-form-urlencoded").body(body);
        }
        let answer = Answer::read(request.send().await.unwrap()).await;
        for set in answer.headers.get_all("set-cookie") {
            let pair = set.to_str().unwrap().split(';').next().unwrap();
            *cookies = format!("{cookies}{}{pair}", if cookies.is_empty() { "" } else { "; " });
        }
        answer
    }

    /// A customer before a form of the link page: cookies, and the session of the form.
    async fn before_form(&self, text: &str, method: &str) -> (String, String) {
        let mut cookies = String::new();
        let target = format!("/connect-account?link_token={text}&integration=scim&auth_format={method}");
        let opened = self.browse(&mut cookies, "GET", &target, None).await;
        assert_eq!(opened.status, 303, "{}", opened.text());
        let place = opened.header("location").unwrap().to_owned();
        let page = self.browse(&mut cookies, "GET", &place, None).await;
        assert_eq!(page.status, 200, "{}", page.text());
        (cookies, hidden(&page, "session"))
    }

    async fn accounts(&self) -> usize {
        let (_, page) = self.call("GET", "/integrated-account?limit=1000", None).await;
        page["result"].as_array().unwrap().len()
    }

    async fn tokens(&self) -> usize {
        self.services.tokens.list(self.environment, ListTokens { limit: 100, ..ListTokens::default() }).await.unwrap().0.len()
    }
}

#[tokio::test]
async fn v_09_nothing_is_done_that_cannot_be_noted() {
    let vendor = Vendor::start();
    let desk = Desk::new(&vendor).await;
    let (tokens, asked) = (desk.tokens().await, vendor.asked());
    let account = format!("/integrated-account/{}", desk.account);
    let users = format!("/unified/user-directory/users?integrated_account_id={}", desk.account);
    let spare = desk.services.tokens.list(desk.environment, ListTokens { limit: 1, ..ListTokens::default() }).await.unwrap().0[0]
        .token
        .id;
    let (_, link) = desk.call("POST", "/link-token", Some(json!({"tenant_id": "acme"}))).await;
    let link = format!("/link-token/{}", link["id"].as_str().unwrap());
    let (_, other) = desk.call("POST", "/environment", Some(json!({"name": "spare"}))).await;
    let other = format!("/environment/{}", other["id"].as_str().unwrap());
    let (_, installed) = desk.call("GET", "/environment-integration", None).await;
    let of_scim = |installed: &&Value| installed["integration"]["name"] == "scim" || installed["integration"] == "scim";
    let installed = installed["result"].as_array().unwrap().iter().find(of_scim).unwrap_or_else(|| panic!("{installed}")).clone();
    let installed = format!("/environment-integration/{}", installed["id"].as_str().unwrap());
    let noted = entries(&desk.services.audit, desk.environment).await.len();
    desk.refuse(EVERYTHING);
    for (method, path, body) in [
        ("POST", "/api-token", Some(json!({"name": "x", "scopes": ["accounts:read"]}))),
        ("DELETE", &*format!("/api-token/{spare}"), None),
        ("POST", "/integrated-account", Some(vendor.import())),
        ("PATCH", &*account, Some(json!({"tenant_id": "other"}))),
        ("DELETE", &*account, None),
        ("POST", &*users, Some(json!({"username": "ada@acme.example"}))),
        ("GET", "/export?tenant_id=acme", None),
        ("GET", "/backup", None),
        ("POST", "/link-token", Some(json!({"tenant_id": "acme"}))),
        ("POST", "/environment", Some(json!({"name": "another"}))),
        ("POST", "/environment-integration", Some(json!({"integration": "scim"}))),
        ("POST", "/key/rewrap", Some(json!({}))),
        ("POST", "/integrated-account/bulk-delete", Some(json!({"tenant_id": "acme"}))),
        ("POST", "/integrated-account/token", Some(json!({"integrated_account_id": desk.account}))),
        ("POST", &*format!("{account}/test"), None),
        ("DELETE", &*link, None),
        ("PATCH", &*other, Some(json!({"name": "renamed"}))),
        ("DELETE", &*other, None),
        ("PATCH", &*installed, Some(json!({"is_enabled": false}))),
        ("DELETE", &*format!("{installed}?delete_accounts=true"), None),
        ("POST", "/integrated-account/refresh-credentials", Some(json!({"id": desk.account}))),
    ] {
        let (status, problem) = desk.call(method, path, body).await;
        assert_eq!((status, &problem["code"]), (503, &json!("store_unavailable")), "{method} {path}: {problem}");
        assert_eq!(problem["retryable"], true);
        assert!(problem["detail"].as_str().unwrap().contains("audit log cannot be written, so nothing was done"), "{problem}");
    }
    assert_eq!((desk.tokens().await, vendor.asked()), (tokens, asked), "something was done");
    let (status, shown) = desk.call("GET", &account, None).await;
    assert_eq!((status, &shown["tenant_id"]), (200, &json!("acme")), "reading goes on: {shown}");
    assert_eq!(desk.call("GET", &users, None).await.0, 200);

    desk.refuse(NOTHING);
    assert_eq!(entries(&desk.services.audit, desk.environment).await.len(), noted);
    for path in [&link, &other, &installed] {
        assert_eq!(desk.call("GET", path, None).await.0, if *path == link { 405 } else { 200 }, "{path}");
    }
    assert_eq!(desk.call("PATCH", &account, Some(json!({"tenant_id": "other"}))).await.0, 200);
    let found = entries(&desk.services.audit, desk.environment).await;
    assert_eq!((found.len(), found[0].action.as_str()), (noted + 1, "integrated_account.change"));
}

/// The same of what a customer does: a form that is sent, and the way back from a vendor.
#[tokio::test]
async fn v_09_no_customer_links_what_cannot_be_noted() {
    let vendor = Vendor::start();
    let desk = Desk::new(&vendor).await;
    let links = async |context: Value| {
        let (status, made) = desk.call("POST", "/link-token", Some(json!({"tenant_id": "acme", "context": context}))).await;
        assert_eq!(status, 201, "{made}");
        made["link_token"].as_str().unwrap().to_owned()
    };
    let (fixed, base) = (links(json!({})).await, vendor.base());
    let (mut cookies, session) = desk.before_form(&fixed, "bearer").await;
    let form = [
        ("session", session.as_str()),
        ("step", "submit"),
        ("integration", "scim"),
        ("method", "bearer"),
        ("f.base_url", base.as_str()),
        ("f.token", SECRET),
    ];
    let at = |path: &str| format!("{}{path}", base.trim_end_matches("/scim"));
    let agreed = links(json!({"base_url": base, "authorize_url": at("/auth"), "token_url": at("/token"), "client_id": "c",
        "client_secret": "synthetic-client-secret"}))
    .await;
    let (mut away, session) = desk.before_form(&agreed, "oauth2").await;
    let leave = [("session", session.as_str()), ("step", "submit"), ("integration", "scim"), ("method", "oauth2")];
    let left = desk.browse(&mut away, "POST", "/connect-account", Some(&leave)).await;
    assert_eq!(left.status, 200, "{}", left.text());
    let state = leads_to(&left).query_pairs().find(|(name, _)| name == "state").unwrap().1.into_owned();

    let (asked, noted) = (vendor.asked(), entries(&desk.services.audit, desk.environment).await.len());
    desk.refuse(EVERYTHING);
    let sent = desk.browse(&mut cookies, "POST", "/connect-account", Some(&form)).await;
    let back = desk.browse(&mut away, "GET", &format!("/connect/scim/callback?code=good&state={state}"), None).await;
    for page in [&sent, &back] {
        assert_eq!(page.status, 503, "{}", page.text());
        assert!(page.text().contains("audit log cannot be written, so nothing was done"), "{}", page.text());
    }
    assert_eq!((desk.accounts().await, vendor.asked()), (1, asked), "something was done");
    desk.refuse(NOTHING);
    assert_eq!(entries(&desk.services.audit, desk.environment).await.len(), noted);
    let sent = desk.browse(&mut cookies, "POST", "/connect-account", Some(&form)).await;
    assert_eq!((sent.status, desk.accounts().await), (200, 2), "the link is as good as before: {}", sent.text());
    let found = entries(&desk.services.audit, desk.environment).await;
    assert_eq!((found.len(), found[0].action.as_str()), (noted + 1, "integrated_account.link"));
}

#[tokio::test]
async fn v_09_what_was_done_but_could_not_be_entered_is_said_and_entered_later() {
    let vendor = Vendor::start();
    let desk = Desk::new(&vendor).await;
    let (_, made) = desk.call("POST", "/api-token", Some(json!({"name": "x", "scopes": ["accounts:read"]}))).await;
    let path = format!("/api-token/{}", made["id"].as_str().unwrap());
    desk.refuse(ENTRIES);
    let (status, problem) = desk.call("DELETE", &path, None).await;
    assert_eq!((status, &problem["code"]), (503, &json!("store_unavailable")), "{problem}");
    assert!(problem["detail"].as_str().unwrap().starts_with("It was done"), "{problem}");
    desk.refuse(NOTHING);
    assert_eq!(desk.call("GET", &path, None).await.0, 404);
    assert_eq!(desk.call("DELETE", &path, None).await.0, 404);
    let found = entries(&desk.services.audit, desk.environment).await;
    let told: Vec<_> = found.iter().map(|entry| (entry.action.as_str(), entry.outcome)).collect();
    let revoked = ("api_token.revoke", AuditOutcome::Done);
    assert_eq!(told.len(), 3, "{told:?}");
    assert_eq!(told.iter().filter(|told| **told == revoked).count(), 1, "{told:?}");
    assert!(told.contains(&("api_token.revoke", AuditOutcome::Failed)) && told[2] == ("api_token.create", AuditOutcome::Done));
    assert_eq!(problems(&desk.services.audit, desk.environment).await, Vec::new());
}
