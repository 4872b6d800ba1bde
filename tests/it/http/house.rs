//! The real binary on either store, with two environments and a small SCIM vendor. The interface can make one environment
//! only, so both are laid out in the store before the gateway starts.

use std::{
    collections::BTreeMap,
    net::{SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread::JoinHandle,
    time::Duration,
};

use actix_web::{HttpRequest, HttpResponse, dev::ServerHandle, web};
use rollcall::{
    app::Core,
    config::{Environment, GlobalArgs, Purpose, Settings},
    http::server,
    model::{EnvironmentId, Scope, Scopes, SystemClock, environment_integration_id},
    service::{IfThere, ListEvents, NewAccount, NewToken, Services, link::NewLink},
    store::{Batch, Expect, Slot, Write, repo},
};
use serde_json::{Value, json};

use super::matrix::{
    Fixture, check_account_tokens, check_account_tokens_elsewhere, check_lists, check_passthrough, check_rights, check_timing,
    check_walls, foreign_side,
};
use crate::support::{
    gateway::{Gateway, Kept},
    long,
};

/// A running gateway and its fixture.
pub struct House {
    pub fixture: Fixture,
    vendor: Vendor,
    gateway: Gateway,
    _kept: Kept,
}

impl House {
    pub fn open(kept: Kept) -> House {
        let vendor = Vendor::start();
        let seeded = actix_web::rt::System::new().block_on(seed(&kept, vendor.addr));
        let gateway = Gateway::start(&kept, &vendor.addr.to_string());
        let addr = gateway.base.trim_start_matches("http://").parse().unwrap();
        House { fixture: Fixture { addr, ..seeded }, vendor, gateway, _kept: kept }
    }
}

/// Lays out both environments in the store, and leaves it.
async fn seed(kept: &Kept, vendor: SocketAddr) -> Fixture {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let given = kept.settings();
    let get = |name: &str| given.iter().find(|(known, _)| *known == name).map(|(_, value)| value.clone());
    let environment = Environment::new(&get, given.iter().map(|(name, _)| (*name).to_owned()).collect());
    let settings = Settings::load(&GlobalArgs::default(), &environment, Purpose::Tool).unwrap_or_else(|_| panic!("settings"));
    let core = Core::open(&settings, Arc::new(SystemClock), None, &[vendor.to_string()]).await.unwrap();
    let fixture = fixture(&core.services, core.environment, vendor).await;
    assert!(core.tasks.wait(Duration::from_secs(10)).await);
    fixture
}

async fn token(services: &Services, environment: EnvironmentId, scope: Scope) -> (String, String) {
    let new = NewToken { name: scope.to_string(), scopes: Scopes([scope].into()), expires_at: None };
    let (token, text) = services.tokens.create(environment, new).await.unwrap();
    (text.expose().to_owned(), token.id.to_string())
}

async fn link(services: &Services, environment: EnvironmentId) -> String {
    let new = NewLink { tenant_id: Some("acme".into()), expires_in: Some(86_400), ..NewLink::default() };
    services.links.create(environment, new).await.unwrap().id.to_string()
}

async fn fixture(services: &Services, own: EnvironmentId, vendor: SocketAddr) -> Fixture {
    let other = EnvironmentId::generate();
    let made = repo::Environment {
        id: other,
        name: "other".into(),
        created_at: jiff::Timestamp::now(),
        updated_at: None,
        later: Default::default(),
    };
    repo::Installation::new(services.store.clone()).create_environment(&made).await.unwrap();
    let mut scoped = BTreeMap::new();
    for scope in Scope::ALL {
        scoped.insert(*scope, token(services, own, *scope).await.0);
    }
    let (revoked, revoked_id) = token(services, own, Scope::Admin).await;
    services.tokens.revoke(own, &revoked_id).await.unwrap();
    let soon = jiff::Timestamp::now() + jiff::SignedDuration::from_millis(1500);
    let new = NewToken { name: "short".into(), scopes: Scopes([Scope::Admin].into()), expires_at: Some(soon) };
    let expired = services.tokens.create(own, new).await.unwrap().1.expose().to_owned();
    let (stranger, foreign_token) = token(services, other, Scope::Admin).await;
    let slug = "scim".parse().unwrap();
    let account = import(services, own, vendor, VENDOR_KEY).await;
    let other_account = import(services, own, vendor, VENDOR_KEY).await;
    let foreign_account = import(services, other, vendor, FOREIGN_KEY).await;
    // The administrators of the first environment would see it; what stands in it is foreign to them all the same.
    let names = [format!("environment/{other}"), "environment-name/other".to_owned()];
    let writes = names.map(|name| Write::Delete { name, expect: Expect::Any });
    services.store.commit(Batch { slot: Slot::new("rollcall"), fence: None, writes: writes.into() }).await.unwrap();
    let admin = services.tokens.authenticate(&scoped[&Scope::Admin]).await.unwrap();
    let account_token =
        services.tokens.make_for_account(&admin, &services.accounts.get(own, &account).await.unwrap(), None).await.unwrap();
    actix_web::rt::time::sleep(Duration::from_millis(1700)).await;
    Fixture {
        addr: vendor,
        admin: scoped[&Scope::Admin].clone(),
        stranger,
        token: token(services, own, Scope::EventsRead).await.1,
        scoped,
        revoked,
        expired,
        account,
        other_account,
        account_token: account_token.text.expose().to_owned(),
        user: "u1".into(),
        foreign_account,
        foreign_token,
        link: link(services, own).await,
        foreign_link: link(services, other).await,
        event: event(services, own).await,
        foreign_event: event(services, other).await,
        install: environment_integration_id(own, &slug).to_string(),
        foreign_install: environment_integration_id(other, &slug).to_string(),
        environment: own.to_string(),
        foreign_environment: other.to_string(),
    }
}

/// The newest event of an environment, once it is in the log.
async fn event(services: &Services, environment: EnvironmentId) -> String {
    loop {
        services.care.tell(environment).await.unwrap();
        let (found, _) = services.events.list(environment, &ListEvents::default(), 1, None).await.unwrap();
        if let Some(event) = found.first() {
            return event.id.to_string();
        }
        actix_web::rt::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn import(services: &Services, environment: EnvironmentId, vendor: SocketAddr, key: &str) -> String {
    let context = json!({"base_url": format!("http://{vendor}/scim"), "token": key});
    let Value::Object(context) = context else { unreachable!() };
    let new = NewAccount {
        tenant_id: "acme".into(),
        integration: "scim".into(),
        authentication_method: "bearer".into(),
        context,
        is_sandbox: false,
        id: None,
        grant: None,
        if_there: IfThere::LinkedAnew,
    };
    services.accounts.import(environment, new).await.unwrap().0.id.to_string()
}

/// What the vendor wants to see of the own account.
const VENDOR_KEY: &str = "canary-key-of-the-vendor";
/// And of the other environment's.
const FOREIGN_KEY: &str = "canary-key-of-the-other-environment";

/// The vendor of both, which counts how often it was asked with the foreign key.
struct Vendor {
    addr: SocketAddr,
    foreign: Arc<AtomicUsize>,
    handle: ServerHandle,
    thread: Option<JoinHandle<()>>,
}

impl Vendor {
    fn start() -> Vendor {
        let (tell, told) = mpsc::channel();
        let foreign = Arc::new(AtomicUsize::new(0));
        let count = foreign.clone();
        let thread = std::thread::spawn(move || {
            actix_web::rt::System::new().block_on(async move {
                let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
                let addr = listener.local_addr().unwrap();
                let routes = move |config: &mut web::ServiceConfig| {
                    config.app_data(web::Data::from(count.clone())).default_service(web::to(scim));
                };
                let server = server::run(listener, None, 1, None, routes).unwrap();
                tell.send((addr, server.handle())).unwrap();
                server.await.unwrap();
            });
        });
        let (addr, handle) = told.recv_timeout(Duration::from_secs(20)).unwrap();
        Vendor { addr, foreign, handle, thread: Some(thread) }
    }

    fn asked_for_foreign(&self) -> usize {
        self.foreign.load(Ordering::SeqCst)
    }
}

impl Drop for Vendor {
    fn drop(&mut self) {
        drop(self.handle.stop(false));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn scim(request: HttpRequest, foreign: web::Data<AtomicUsize>) -> HttpResponse {
    let key = request.headers().get("authorization").and_then(|v| v.to_str().ok()).and_then(|v| v.strip_prefix("Bearer "));
    match key {
        Some(VENDOR_KEY) => {}
        Some(FOREIGN_KEY) => {
            foreign.fetch_add(1, Ordering::SeqCst);
        }
        _ => return HttpResponse::Unauthorized().finish(),
    }
    let query: BTreeMap<String, String> = url::form_urlencoded::parse(request.query_string().as_bytes()).into_owned().collect();
    let number = |name: &str, otherwise: usize| query.get(name).and_then(|v| v.parse().ok()).unwrap_or(otherwise);
    match request.path() {
        "/scim/Users" => list(&USERS.map(user), number("startIndex", 1), number("count", 100)),
        "/scim/Groups" => list(&[json!({"id": "g1", "displayName": "One"})], number("startIndex", 1), number("count", 100)),
        "/scim/echo" => HttpResponse::Ok().json(seen(&request)),
        path => match path.strip_prefix("/scim/Users/").filter(|id| USERS.contains(id)) {
            Some(id) => HttpResponse::Ok().json(user(id)),
            None => HttpResponse::NotFound()
                .json(json!({"schemas": ["urn:ietf:params:scim:api:messages:2.0:Error"], "status": "404"})),
        },
    }
}

const USERS: [&str; 3] = ["u1", "u2", "u3"];

fn user(id: &str) -> Value {
    json!({"id": id, "userName": format!("{id}@example.com"), "active": true, "emails": [{"value": format!("{id}@example.com"), "primary": true}]})
}

fn list(all: &[Value], start: usize, count: usize) -> HttpResponse {
    let page: Vec<_> = all.iter().skip(start.max(1) - 1).take(count).collect();
    HttpResponse::Ok().json(json!({
        "schemas": ["urn:ietf:params:scim:api:messages:2.0:ListResponse"],
        "totalResults": all.len(), "startIndex": start, "itemsPerPage": page.len(), "Resources": page
    }))
}

fn seen(request: &HttpRequest) -> Value {
    let headers: Vec<_> =
        request.headers().iter().map(|(n, v)| format!("{n}: {}", String::from_utf8_lossy(v.as_bytes()))).collect();
    json!({"method": request.method().as_str(), "target": request.uri().to_string(), "headers": headers})
}

#[test]
fn g_06_tenants_are_isolated_and_rights_are_kept() {
    for kept in Kept::each() {
        let house = House::open(kept);
        let (foreign, asked) = (foreign_side(&house.fixture), house.vendor.asked_for_foreign());
        check_rights(&house.fixture);
        check_walls(&house.fixture);
        check_passthrough(&house.fixture);
        assert_eq!(foreign_side(&house.fixture), foreign, "something was changed on the other side of the wall");
        assert_eq!(house.vendor.asked_for_foreign(), asked, "the foreign account's vendor was asked");
        let said = house.gateway.said();
        assert!(!said.contains(VENDOR_KEY) && !said.contains(FOREIGN_KEY) && !said.contains("panicked"), "{said}");
    }
}

#[test]
fn g_13_account_tokens_reach_their_account_and_no_route_that_is_not_theirs() {
    for kept in Kept::each() {
        let house = House::open(kept);
        let (foreign, asked) = (foreign_side(&house.fixture), house.vendor.asked_for_foreign());
        check_account_tokens(&house.fixture);
        check_account_tokens_elsewhere(&house.fixture);
        assert_eq!(foreign_side(&house.fixture), foreign, "something was changed on the other side of the wall");
        assert_eq!(house.vendor.asked_for_foreign(), asked, "the foreign account's vendor was asked");
        let said = house.gateway.said();
        assert!(!said.contains(&house.fixture.account_token[8..]) && !said.contains("panicked"), "{said}");
    }
}

#[test]
fn the_log_stands_behind_the_same_walls() {
    let house = House::open(Kept::embedded());
    let ask = |token: &str, path: &str| {
        let bearer = format!("Bearer {token}");
        super::wire::request(house.fixture.addr, "GET", path, &[("authorization", &bearer)], None)
    };
    let Fixture { admin, stranger, account, foreign_account, .. } = &house.fixture;
    for (token, account) in [(admin, account), (stranger, foreign_account)] {
        assert_eq!(ask(token, &format!("/passthrough/{account}/Users")).status, 200);
    }
    let own = ask(admin, &format!("/log?integrated_account_id={account}"));
    assert_eq!((own.status, own.json()["result"].as_array().unwrap().len()), (200, 1), "{}", own.text());
    let foreign = ask(admin, &format!("/log?integrated_account_id={foreign_account}"));
    assert_eq!(foreign.json()["result"], json!([]));
    let theirs = ask(stranger, "/log");
    assert_eq!(theirs.status, 200);
    assert!(theirs.text().contains(foreign_account) && !theirs.text().contains(account), "{}", theirs.text());
    assert_eq!(theirs.json()["result"].as_array().unwrap().len(), 1, "a line of another environment: {}", theirs.text());
}

#[test]
fn g_06_foreign_and_missing_take_the_same_time() {
    for kept in if long() { Kept::each() } else { vec![Kept::embedded()] } {
        check_timing(&House::open(kept).fixture);
    }
}

#[test]
fn lists_have_their_rules_in_common() {
    check_lists(&House::open(Kept::embedded()).fixture);
}
