//! The whole gateway in this process, over an embedded store, with two environments and a small SCIM vendor.

use std::{
    collections::BTreeMap,
    net::{SocketAddr, TcpListener},
    sync::{Arc, mpsc},
    thread::JoinHandle,
    time::Duration,
};

use actix_web::{HttpRequest, HttpResponse, dev::ServerHandle, web};
use rollcall::{
    app::Core,
    config::{Environment, GlobalArgs, Purpose, Settings},
    http::{Readiness, State, server},
    model::{EnvironmentId, Scope, Scopes, SystemClock, environment_integration_id},
    service::{NewAccount, NewToken, Services},
};
use serde_json::{Value, json};

use super::matrix::{Fixture, check_lists, check_passthrough, check_rights, check_timing, check_walls};

/// A running gateway and its fixture.
pub struct House {
    pub fixture: Fixture,
    handles: Vec<ServerHandle>,
    thread: Option<JoinHandle<()>>,
    _folder: tempfile::TempDir,
}

impl House {
    pub fn open() -> House {
        let folder = tempfile::tempdir().unwrap();
        let store = format!("embedded:{}", folder.path().join("store").display());
        let (tell, told) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
            actix_web::rt::System::new().block_on(async move {
                let (vendor, vendor_addr) = vendor();
                let get = move |name: &str| (name == "ROLLCALL_STORE").then(|| store.clone());
                let environment = Environment::new(&get, vec!["ROLLCALL_STORE".to_owned()]);
                let settings =
                    Settings::load(&GlobalArgs::default(), &environment, Purpose::Tool).unwrap_or_else(|_| panic!("settings"));
                let core = Core::open(&settings, Arc::new(SystemClock), None, &[vendor_addr.to_string()]).await.unwrap();
                let state = State {
                    services: core.services.clone(),
                    guard: core.guard.clone(),
                    public_host: None,
                    metrics: server::metrics_recorder(),
                    metrics_open: true,
                    readiness: Arc::new(Readiness::default()),
                };
                let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
                let addr = listener.local_addr().unwrap();
                let gateway = server::serve(listener, Arc::new(state), 1).unwrap();
                let handles = vec![gateway.handle(), vendor.handle()];
                actix_web::rt::spawn(vendor);
                let running = actix_web::rt::spawn(gateway);
                let fixture = fixture(&core.services, core.environment, addr, vendor_addr).await;
                tell.send((fixture, handles)).unwrap();
                running.await.unwrap().unwrap();
            });
        });
        let (fixture, handles) = told.recv_timeout(Duration::from_secs(60)).expect("the gateway did not start");
        House { fixture, handles, thread: Some(thread), _folder: folder }
    }
}

impl Drop for House {
    fn drop(&mut self) {
        for handle in self.handles.drain(..) {
            drop(handle.stop(false));
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn token(services: &Services, environment: EnvironmentId, scope: Scope) -> (String, String) {
    let new = NewToken { name: scope.to_string(), scopes: Scopes([scope].into()), expires_at: None };
    let (token, text) = services.tokens.create(environment, new).await.unwrap();
    (text.expose().to_owned(), token.id.to_string())
}

async fn fixture(services: &Services, own: EnvironmentId, addr: SocketAddr, vendor: SocketAddr) -> Fixture {
    let other = EnvironmentId::generate();
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
    let account = import(services, own, vendor).await;
    let foreign_account = import(services, other, vendor).await;
    actix_web::rt::time::sleep(Duration::from_millis(1700)).await;
    Fixture {
        addr,
        admin: scoped[&Scope::Admin].clone(),
        stranger,
        token: token(services, own, Scope::EventsRead).await.1,
        scoped,
        revoked,
        expired,
        account,
        user: "u1".into(),
        foreign_account,
        foreign_token,
        install: environment_integration_id(own, &slug).to_string(),
        foreign_install: environment_integration_id(other, &slug).to_string(),
    }
}

async fn import(services: &Services, environment: EnvironmentId, vendor: SocketAddr) -> String {
    let context = json!({"base_url": format!("http://{vendor}/scim"), "token": VENDOR_KEY});
    let Value::Object(context) = context else { unreachable!() };
    let new = NewAccount {
        tenant_id: "acme".into(),
        integration: "scim".into(),
        authentication_method: "bearer".into(),
        context,
        is_sandbox: false,
        id: None,
    };
    services.accounts.import(environment, new).await.unwrap().0.id.to_string()
}

/// What the vendor wants to see; must never leave the gateway in any other direction.
pub const VENDOR_KEY: &str = "canary-key-of-the-vendor";

fn vendor() -> (actix_web::dev::Server, SocketAddr) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let addr = listener.local_addr().unwrap();
    let routes = |config: &mut web::ServiceConfig| {
        config.default_service(web::to(scim));
    };
    (server::run(listener, 1, None, routes).unwrap(), addr)
}

async fn scim(request: HttpRequest) -> HttpResponse {
    let key = request.headers().get("authorization").and_then(|v| v.to_str().ok());
    if key != Some(&format!("Bearer {VENDOR_KEY}")) {
        return HttpResponse::Unauthorized().finish();
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
    let house = House::open();
    check_rights(&house.fixture);
    check_walls(&house.fixture);
    check_passthrough(&house.fixture);
    check_timing(&house.fixture);
}

#[test]
fn lists_have_their_rules_in_common() {
    check_lists(&House::open().fixture);
}
