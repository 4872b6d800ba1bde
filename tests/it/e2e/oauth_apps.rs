//! OAuth apps end to end: the operator's for all environments and an environment's own, on the customer's way to the certified
//! provider, at its token endpoint, and over the whole life of the accounts that come of it.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use serde_json::{Value, json};
use url::Url;

use super::{
    link::{Browser, hidden, leads_to, make, message, token},
    vendor::{accounts, is_sound, overlay, problem},
};
use crate::support::{
    gateway::{ADMIN, Answer, Gateway, Kept},
    long,
    peers::{self, Peer},
};

/// A way to link whose client no customer fills in; where it is shown, the file says.
const LINKS: &str = r#"link:
  - method: consent
    fields:
      - { name: base_url, title: SCIM address, kind: base_url }
      - { name: authorize_url, title: Authorization endpoint, kind: endpoint }
    hosts: { api: "{base_url}", login: "{token_url}", consent: "{authorize_url}" }
    token: { grant: authorization_code, url: "{token_url}", authorize: { url: "{authorize_url}" }, scope: "openid scim.read" }
    auth: { bearer: { token: "{access_token}" } }
"#;

struct Stand {
    kept: Kept,
    peer: Peer,
    authority: String,
    folder: PathBuf,
    apps: PathBuf,
    gateway: Gateway,
}

impl Stand {
    /// With the operator's app, or without any.
    fn start(has_app: bool) -> Stand {
        let peer = peers::oidc(600);
        let authority = peer.authority();
        let kept = Kept::embedded();
        let (folder, apps) = (kept.folder().join("connectors"), kept.folder().join("apps.json"));
        overlay(&folder, |name, text| match name {
            "connector.yaml" => {
                let links = LINKS.replace("{token_url}", peer.told("token_url"));
                format!("{}{links}", text.split("link:\n").next().unwrap())
            }
            _ => text,
        });
        let app = if has_app { json!({"scim": app(&peer, "browser")}) } else { json!({}) };
        write(&apps, &app);
        let gateway = serve(&kept, &authority, &folder, &apps);
        Stand { kept, peer, authority, folder, apps, gateway }
    }

    fn restarted(self) -> Stand {
        let Stand { kept, peer, authority, folder, apps, gateway } = self;
        assert!(gateway.stop());
        let gateway = serve(&kept, &authority, &folder, &apps);
        Stand { kept, peer, authority, folder, apps, gateway }
    }

    fn context(&self) -> Value {
        json!({"base_url": self.peer.base(), "authorize_url": self.peer.told("authorize_url")})
    }

    /// A link of this environment, its page's form sent.
    async fn send<'g>(&self, gateway: &'g Gateway, by: &str, more: &Value) -> (Browser<'g>, String, Answer) {
        let mut body = json!({"tenant_id": "acme", "integrations": ["scim"], "context": self.context()});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let made = gateway.call_as(Some(by), "POST", "/link-token", Some(&body)).await;
        assert_eq!(made.status, 201, "{}", made.text());
        let link = token(&made.json()).to_owned();
        let mut browser = Browser::new(gateway);
        let page = post(&mut browser, &link).await;
        (browser, link, page)
    }
}

async fn post(browser: &mut Browser<'_>, link: &str) -> Answer {
    let page = browser.open(link, "").await;
    let session = hidden(&page, "session");
    browser.post(&[("session", &session), ("step", "submit"), ("integration", "scim"), ("method", "consent")]).await
}

fn serve(kept: &Kept, authority: &str, folder: &std::path::Path, apps: &std::path::Path) -> Gateway {
    let settings = [
        ("ROLLCALL_CONNECTORS_DIR", folder.to_str().unwrap()),
        ("ROLLCALL_OAUTH_APPS_FILE", apps.to_str().unwrap()),
        ("ROLLCALL_PROBE_EVERY", "0"),
    ];
    Gateway::start_with(kept, authority, &settings)
}

fn app(peer: &Peer, name: &str) -> Value {
    json!({"client_id": peer.ready[name]["id"], "client_secret": peer.ready[name]["secret"]})
}

fn write(path: &std::path::Path, apps: &Value) {
    fs::write(path, apps.to_string()).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

/// Agrees at the provider; gives the target the browser is sent back to, and what browsers came with.
fn agree(peer: &mut Peer, gateway: &Gateway, at: &Url) -> (String, Value) {
    let said = peer.order(&json!({"agree": at.as_str()}));
    let came = said["came"].as_str().unwrap();
    (came.strip_prefix(&gateway.base).unwrap_or_else(|| panic!("{said}")).to_owned(), said["sent"].clone())
}

/// Links an account all the way; gives its id, and the client and the scopes its customer was sent with.
async fn link(stand: &mut Stand, by: &str, more: &Value) -> (String, Value) {
    let (mut browser, _, page) = stand.send(&stand.gateway, by, more).await;
    assert_eq!(page.status, 200, "{}", page.text());
    let (target, sent) = agree(&mut stand.peer, &stand.gateway, &leads_to(&page));
    let done = browser.get(&target).await;
    assert_eq!(done.status, 200, "{}", done.text());
    let id = message(&done)["integrated_account_id"].as_str().unwrap().to_owned();
    (id, sent[0].clone())
}

pub(super) async fn users(gateway: &Gateway, by: &str, account: &str) -> Answer {
    let path = format!("/unified/user-directory/users?integrated_account_id={account}");
    gateway.call_as(Some(by), "GET", &path, None).await
}

/// Ends every access token, calls, and gives what grants the provider saw since the last look.
async fn refreshed(stand: &mut Stand, by: &str, account: &str) -> (u16, Vec<String>) {
    stand.peer.order(&json!({"revoke": true}));
    let reply = users(&stand.gateway, by, account).await;
    (reply.status, used(&mut stand.peer))
}

fn used(peer: &mut Peer) -> Vec<String> {
    let said = peer.order(&json!({}));
    said["used"].as_array().unwrap().iter().map(|used| used.as_str().unwrap().to_owned()).collect()
}

/// Lays an app over the connector in an environment, or takes it away.
async fn lay(gateway: &Gateway, by: &str, app: Value) {
    let list = gateway.call_as(Some(by), "GET", "/environment-integration", None).await.json();
    let found = list["result"].as_array().unwrap().iter().find(|found| found["integration"]["name"] == "scim").unwrap().clone();
    let place = format!("/environment-integration/{}", found["id"].as_str().unwrap());
    let laid = gateway.call_as(Some(by), "PATCH", &place, Some(&json!({"override": {"credentials": {"oauth2": app}}}))).await;
    assert_eq!(laid.status, 200, "{}", laid.text());
}

/// How often it was told that an account's credential is no good.
async fn ends(gateway: &Gateway, account: &str) -> usize {
    let events = gateway.walk(&format!("/event?integrated_account_id={account}")).await;
    events.iter().filter(|event| event["event"] == "integrated_account:authentication_error").count()
}

async fn environment(gateway: &Gateway) -> String {
    let made = gateway.call("POST", "/environment", Some(&json!({"name": "of-its-own"}))).await;
    assert_eq!(made.status, 201, "{}", made.text());
    made.json()["api_token"]["token"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn the_operators_app_serves_every_environment_and_an_own_one_its_own() {
    let mut stand = Stand::start(true);
    let (operators, own) = (app(&stand.peer, "browser"), app(&stand.peer, "other"));
    let (first, sent) = link(&mut stand, ADMIN, &json!({})).await;
    assert_eq!(sent, json!({"client": operators["client_id"], "scope": "openid scim.read"}));
    assert_eq!(used(&mut stand.peer), ["given authorization_code rollcall-browser"]);
    assert_eq!(refreshed(&mut stand, ADMIN, &first).await, (200, vec!["given refresh_token rollcall-browser".to_owned()]));

    let other = environment(&stand.gateway).await;
    let (before, sent) = link(&mut stand, &other, &json!({})).await;
    assert_eq!(sent["client"], operators["client_id"], "an environment without an app of its own");
    used(&mut stand.peer);
    lay(&stand.gateway, &other, own.clone()).await;
    let (after, sent) = link(&mut stand, &other, &json!({})).await;
    assert_eq!(sent["client"], own["client_id"]);
    assert_eq!(used(&mut stand.peer), ["given authorization_code rollcall-other-app"]);
    assert_eq!(refreshed(&mut stand, &other, &after).await, (200, vec!["given refresh_token rollcall-other-app".to_owned()]));
    // What was linked with the operator's app goes on with it, on either side of the wall.
    for (by, account) in [(other.as_str(), &before), (ADMIN, &first)] {
        assert_eq!(refreshed(&mut stand, by, account).await, (200, vec!["given refresh_token rollcall-browser".to_owned()]));
    }
    let (_, sent) = link(&mut stand, ADMIN, &json!({})).await;
    assert_eq!(sent["client"], operators["client_id"], "the other environment's app is its own");
    // So does everything after a restart.
    used(&mut stand.peer);
    stand = stand.restarted();
    assert_eq!(refreshed(&mut stand, &other, &after).await, (200, vec!["given refresh_token rollcall-other-app".to_owned()]));
    assert_eq!(refreshed(&mut stand, &other, &before).await, (200, vec!["given refresh_token rollcall-browser".to_owned()]));
    is_sound(&stand.gateway);
    assert!(!stand.gateway.said().contains("synthetic-other-app-secret"));
}

#[tokio::test]
async fn an_account_whose_app_is_gone_says_so_and_goes_on_when_it_is_back() {
    let mut stand = Stand::start(true);
    let own = app(&stand.peer, "other");
    lay(&stand.gateway, ADMIN, own.clone()).await;
    let (account, _) = link(&mut stand, ADMIN, &json!({})).await;
    lay(&stand.gateway, ADMIN, Value::Null).await;
    used(&mut stand.peer);
    assert_eq!(users(&stand.gateway, ADMIN, &account).await.status, 200, "its access token is good as long as it lives");
    assert_eq!(refreshed(&mut stand, ADMIN, &account).await, (401, Vec::new()), "no other app shows its refresh token");
    let refused = users(&stand.gateway, ADMIN, &account).await;
    let detail = problem(&refused, 401, "reauth_required", "vendor")["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains("rollcall-other-app") && detail.contains("register that app again"), "{detail}");
    let shown = stand.gateway.get(&format!("/integrated-account/{account}")).await.json();
    assert_eq!((&shown["status"], shown["last_error"].as_str()), (&json!("needs_reauth"), Some(detail.as_str())));
    let end = Instant::now() + Duration::from_secs(20);
    while ends(&stand.gateway, &account).await == 0 && Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    lay(&stand.gateway, ADMIN, own).await;
    stand = stand.restarted();
    let tested = stand.gateway.call("POST", &format!("/integrated-account/{account}/test"), None).await;
    assert_eq!(tested.status, 200, "{}", tested.text());
    assert_eq!(used(&mut stand.peer), ["given refresh_token rollcall-other-app"]);
    assert_eq!(users(&stand.gateway, ADMIN, &account).await.status, 200);
    assert_eq!(stand.gateway.get(&format!("/integrated-account/{account}")).await.json()["status"], "active");
    assert_eq!(ends(&stand.gateway, &account).await, 1);
    // Linked anew it is of the app that links use now.
    lay(&stand.gateway, ADMIN, Value::Null).await;
    let body = json!({"integrated_account_id": account, "context": stand.context()});
    let made = make(&stand.gateway, body).await;
    let (target, cookies) = {
        let mut browser = Browser::new(&stand.gateway);
        let left = leads_to(&post(&mut browser, token(&made)).await);
        (agree(&mut stand.peer, &stand.gateway, &left).0, browser.cookies)
    };
    let mut browser = Browser::new(&stand.gateway);
    browser.cookies = cookies;
    let done = browser.get(&target).await;
    assert_eq!((done.status, message(&done)["integrated_account_id"].as_str()), (200, Some(account.as_str())), "{}", done.text());
    used(&mut stand.peer);
    assert_eq!(refreshed(&mut stand, ADMIN, &account).await, (200, vec!["given refresh_token rollcall-browser".to_owned()]));
    is_sound(&stand.gateway);
}

#[tokio::test]
async fn an_app_that_is_taken_away_while_the_customer_is_at_the_vendor_links_nothing() {
    let mut stand = Stand::start(true);
    lay(&stand.gateway, ADMIN, app(&stand.peer, "other")).await;
    let (link, left, cookies) = {
        let (browser, link, page) = stand.send(&stand.gateway, ADMIN, &json!({})).await;
        (link, leads_to(&page), browser.cookies)
    };
    let (target, _) = agree(&mut stand.peer, &stand.gateway, &left);
    lay(&stand.gateway, ADMIN, Value::Null).await;
    let mut browser = Browser::new(&stand.gateway);
    browser.cookies = cookies;
    let refused = browser.get(&target).await;
    assert!(refused.status == 422 && refused.text().contains("OAuth app was taken away"), "{}", refused.text());
    assert_eq!((accounts(&stand.gateway).await.len(), used(&mut stand.peer)), (0, Vec::new()), "the code went nowhere");
    let left = leads_to(&post(&mut browser, &link).await);
    assert_eq!(browser.get(&agree(&mut stand.peer, &stand.gateway, &left).0).await.status, 200);
    assert_eq!(accounts(&stand.gateway).await.len(), 1);
}

#[tokio::test]
async fn without_an_app_nobody_is_sent_anywhere_until_the_operator_has_one() {
    let mut stand = Stand::start(false);
    let (_, _, page) = stand.send(&stand.gateway, ADMIN, &json!({})).await;
    assert_eq!(page.status, 422, "{}", page.text());
    assert!(page.text().contains("needs an OAuth app") && page.text().contains("ROLLCALL_OAUTH_APPS_FILE"), "{}", page.text());
    let mut context = stand.context();
    context["oauth"] = json!({"token": {"refresh_token": "of-before"}});
    let body = json!({"tenant_id": "acme", "integration": "scim", "authentication_method": "consent", "context": context});
    problem(&stand.gateway.call("POST", "/integrated-account", Some(&body)).await, 422, "oauth_app_missing", "gateway");
    let offer = stand.gateway.get("/integration/scim/capabilities").await.json();
    assert!(offer.to_string().contains("\"needs_oauth_app\":true"), "{offer}");
    assert_eq!(accounts(&stand.gateway).await.len(), 0);

    write(&stand.apps, &json!({"scim": app(&stand.peer, "browser")}));
    let end = Instant::now() + Duration::from_secs(20);
    while stand.send(&stand.gateway, ADMIN, &json!({})).await.2.status != 200 {
        assert!(Instant::now() < end, "the file is not read again\n{}", stand.gateway.said());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let (account, _) = link(&mut stand, ADMIN, &json!({})).await;
    assert_eq!(users(&stand.gateway, ADMIN, &account).await.status, 200);
    // The app goes: the state of its accounts is not to blame, and a new link would not help.
    write(&stand.apps, &json!({}));
    stand = stand.restarted();
    stand.peer.order(&json!({"revoke": true}));
    problem(&users(&stand.gateway, ADMIN, &account).await, 422, "oauth_app_missing", "gateway");
    assert_eq!(stand.gateway.get(&format!("/integrated-account/{account}")).await.json()["status"], "active");
    write(&stand.apps, &json!({"scim": app(&stand.peer, "browser")}));
    stand = stand.restarted();
    assert_eq!(users(&stand.gateway, ADMIN, &account).await.status, 200);
}

#[tokio::test]
async fn a_links_scopes_are_asked_for_in_place_of_the_connectors() {
    let mut stand = Stand::start(true);
    for (scopes, expected) in [
        (json!(["openid", "scim.read", "scim.write"]), "openid scim.read scim.write"),
        (json!(["openid", "scim.read"]), "openid scim.read"),
        (Value::Null, "openid scim.read"),
    ] {
        let (account, sent) = link(&mut stand, ADMIN, &json!({"scopes": scopes})).await;
        assert_eq!(sent["scope"], expected);
        // What was agreed to is what the account's token may do.
        let told = stand.gateway.call("POST", &format!("/passthrough/{account}/echo"), Some(&json!({}))).await;
        assert_eq!(
            told.header("x-scope").map(|scope| scope.contains("scim.write")),
            Some(expected.contains("write")),
            "{expected}"
        );
    }
}

/// The certified provider gives tokens of five seconds and rotates what they are renewed with.
#[tokio::test]
async fn an_account_lives_on_tokens_of_five_seconds() {
    let mut peer = peers::oidc(5);
    let authority = peer.authority();
    let (gateway, account) = linked(&mut peer, &Kept::embedded(), &authority).await;
    let (begun, length) = (Instant::now(), Duration::from_secs(if long() { 60 } else { 12 }));
    let callers = (0..3).map(async |_| {
        let mut calls = 0;
        while begun.elapsed() < length {
            let reply = users(&gateway, ADMIN, &account).await;
            assert_eq!(reply.status, 200, "after {:?}: {}", begun.elapsed(), reply.text());
            calls += 1;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        calls
    });
    let calls: usize = join_all(callers).await.into_iter().sum();
    let said = peer.order(&json!({}));
    let used: Vec<_> = said["used"].as_array().unwrap().iter().map(|used| used.as_str().unwrap()).collect();
    println!("{calls} calls, {} refreshes", used.len() - 1);
    assert!(used[1..].iter().all(|used| *used == "given refresh_token rollcall-browser"), "{used:?}");
    assert!(used.len() as u64 > length.as_secs() / 5 && said["ended"] == 0 && said["refused"] == json!([]), "{said}");
    is_sound(&gateway);
}

#[tokio::test]
async fn r_02_twenty_refreshes_in_a_row_at_the_certified_provider() {
    let mut peer = peers::oidc(600);
    let authority = peer.authority();
    let kept = Kept::embedded();
    let (mut gateway, account) = linked(&mut peer, &kept, &authority).await;
    assert_eq!(used(&mut peer), ["given authorization_code rollcall-browser"]);
    for turn in 1..=20 {
        peer.order(&json!({"revoke": true}));
        let reply = users(&gateway, ADMIN, &account).await;
        assert_eq!(reply.status, 200, "refresh {turn}: {}", reply.text());
        assert_eq!(used(&mut peer), ["given refresh_token rollcall-browser"], "refresh {turn}");
        if turn % 5 == 0 {
            assert!(gateway.stop());
            gateway = Gateway::start(&kept, &authority);
        }
    }
    assert_eq!(peer.order(&json!({}))["ended"], 0, "no grant was revoked");
}

/// An account whose customer agreed at the provider, by a client of his own.
pub(super) async fn linked(peer: &mut Peer, kept: &Kept, authority: &str) -> (Gateway, String) {
    let gateway = Gateway::start(kept, authority);
    let client = &peer.ready["browser"];
    let mut context = json!({"base_url": peer.base(), "authorize_url": peer.told("authorize_url"), "token_url": peer.told("token_url"),
        "client_id": client["id"], "client_secret": client["secret"], "scope": "openid scim.read"});
    if let Some(url) = peer.ready["revoke_url"].as_str() {
        context["revoke_url"] = url.into();
    }
    let made = make(&gateway, json!({"tenant_id": "acme", "integrations": ["scim"], "context": context})).await;
    let (left, cookies) = {
        let mut browser = Browser::new(&gateway);
        let page = browser.open(token(&made), "&auth_format=oauth2").await;
        let session = hidden(&page, "session");
        let left =
            browser.post(&[("session", &session), ("step", "submit"), ("integration", "scim"), ("method", "oauth2")]).await;
        (leads_to(&left), browser.cookies)
    };
    let (target, _) = agree(peer, &gateway, &left);
    let done = {
        let mut browser = Browser::new(&gateway);
        browser.cookies = cookies;
        browser.get(&target).await
    };
    let account = message(&done)["integrated_account_id"].as_str().unwrap_or_else(|| panic!("{}", done.text())).to_owned();
    (gateway, account)
}
