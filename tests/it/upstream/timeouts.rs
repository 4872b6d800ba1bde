//! Each step towards a vendor ends in time when nothing comes back: name, connection, TLS.

use std::{
    future::pending,
    io,
    net::{IpAddr, SocketAddr, TcpListener},
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use http::{HeaderMap, Method, uri::PathAndQuery};
use http_body_util::Empty;
use rollcall::{
    store::Store,
    upstream::{
        Access, Allow, Context, Failure, Guard, HttpCall,
        egress::{Dial, Resolve},
        passthrough::Pool,
    },
};

use super::support::{NoStore, change, guard_for, http_request};

/// The longest a step may take, and some time for this machine.
const STEP: Duration = Duration::from_secs(5);
const SLACK: Duration = Duration::from_secs(4);

/// An account whose whole requests may take longer than a step, so that it is the step that ends in time.
fn access(base: &str) -> Access {
    change(super::support::access(base), |method| method.limits.timeout = STEP * 6)
}

/// A resolver that never answers, or one whose only address nobody listens at.
struct Resolver(Option<IpAddr>);

#[async_trait]
impl Resolve for Resolver {
    async fn resolve(&self, _: &str) -> io::Result<Vec<IpAddr>> {
        match self.0 {
            Some(address) => Ok(vec![address]),
            None => pending().await,
        }
    }
}

/// A network in which every packet is lost.
struct Lost;

#[async_trait]
impl Dial for Lost {
    fn admits(&self, _: SocketAddr) -> bool {
        true
    }

    async fn dial(&self, _: SocketAddr) -> io::Result<tokio::net::TcpStream> {
        pending().await
    }
}

/// What the passthrough and the unified side say, and that neither takes longer than one step.
async fn fails_in_time(what: &str, guard: Arc<Guard>, access: &Access) -> [String; 2] {
    let begun = Instant::now();
    let pool = Pool::new(Arc::clone(&guard));
    let request = http_request(Method::GET, PathAndQuery::from_static("/x"), HeaderMap::new(), Empty::new());
    let tasks = tokio::task::LocalSet::new();
    let passed = tasks.run_until(pool.send(access, request)).await.err().unwrap_or_else(|| panic!("{what}: an answer"));
    assert!(begun.elapsed() < STEP + SLACK, "{what}: {:?}", begun.elapsed());
    let begun = Instant::now();
    let store: Arc<dyn Store> = Arc::new(NoStore);
    let context = Context::new(guard, store);
    let asked = context.send(access, HttpCall::get("/x")).await.err().unwrap_or_else(|| panic!("{what}: an answer"));
    assert!(begun.elapsed() < STEP + SLACK, "{what}: {:?}", begun.elapsed());
    [passed, asked].map(|failure| {
        assert!(matches!(failure, Failure::Unreachable(_)), "{what}: {failure:?}");
        failure.to_string()
    })
}

#[tokio::test]
async fn a_name_that_is_never_resolved() {
    let guard = Guard::over(Allow::default(), Arc::new(Resolver(None)), Arc::new(Lost));
    fails_in_time("a resolver that is silent", Arc::new(guard), &access("https://silent.example")).await;
}

#[tokio::test]
async fn a_connection_that_is_never_made() {
    let address = "93.184.215.14".parse().ok();
    let guard = Guard::over(Allow::default(), Arc::new(Resolver(address)), Arc::new(Lost));
    let access = access("https://lost.example");
    let begun = Instant::now();
    let pool = Pool::new(Arc::new(guard));
    let request = http_request(Method::GET, PathAndQuery::from_static("/x"), HeaderMap::new(), Empty::new());
    let failure = tokio::task::LocalSet::new().run_until(pool.send(&access, request)).await.err().expect("no answer");
    assert!(matches!(failure, Failure::Unreachable(_)), "{failure:?}");
    assert!(begun.elapsed() < STEP + SLACK, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_handshake_that_is_never_answered() {
    // Connections are taken by the system, and nobody reads them.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("https://127.0.0.1:{}", listener.local_addr().unwrap().port());
    let [passed, _] = fails_in_time("a server that is silent", guard_for(&base), &access(&base)).await;
    assert!(passed.contains("no handshake within 5 s"), "{passed}");
}
