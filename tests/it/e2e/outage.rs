//! U-07: what each part does while Redis is away, in the three ways it can be; and U-09: a primary that is lost.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::json;

use super::{
    bar_vendor::{Vendor, json_answer, scim},
    vendor::{is_sound, problem},
};
use crate::support::{
    fault_proxy::{Fault, FaultProxy},
    gateway::{ADMIN, Answer, Gateway, Kept, write_ring},
    long,
    redis::{SentinelSet, Server},
};

const USERS: &str = "/unified/user-directory/users";
/// No request takes longer, whatever the store does, and some time for this machine.
const LIMIT: Duration = Duration::from_millis(2_000);
const RECOVERY: Duration = Duration::from_secs(5);
/// What a token may ask where that is looked at, and the quarter of it that a node gives out while it is cut off. In an hour so
/// few come back that none does meanwhile.
const SMALL: &str = "40/1h";
const SHARE: usize = 10;

/// How the store goes away.
#[derive(Clone, Copy, Debug)]
enum Away {
    Killed,
    Paused,
    Blackholed,
}

struct Stand {
    gateway: Gateway,
    server: Server,
    proxy: FaultProxy,
    _folder: tempfile::TempDir,
    /// Seen before the store goes away.
    token: String,
    /// Never seen by this node.
    unseen: String,
    account: String,
    cold: String,
}

impl Stand {
    /// `limit` is what each token may ask.
    async fn start(vendor: &Vendor, limit: &'static str) -> Stand {
        let folder = tempfile::tempdir().unwrap();
        let ring = folder.path().join("keys.json");
        write_ring(&ring);
        let server = Server::with(&["--appendonly", "yes", "--dir", "{dir}"]);
        let proxy = FaultProxy::before(server.port);
        let (direct, through) = (server.port, proxy.port);
        let start = |port: u16, limits: &[(&'static str, &'static str)]| {
            let kept = Kept::Embedded(tempfile::tempdir().unwrap());
            let store = format!("redis://127.0.0.1:{port}");
            let mut settings = vec![("ROLLCALL_STORE", store.as_str()), ("ROLLCALL_KEYS_FILE", ring.to_str().unwrap())];
            settings.extend_from_slice(limits);
            Gateway::start_with(&kept, &vendor.authority(), &settings)
        };
        // What is made through another node is not known to the one that is cut off.
        let other = start(direct, &[]);
        let link =
            async |token: &str| other.link("scim", "bearer", json!({"base_url": vendor.at("/scim"), "token": token})).await;
        let (account, cold) = (link("warm-token").await, link("cold-token").await);
        let scopes = ["directory:read", "proxy:read", "accounts:write", "accounts:read"];
        let (token, unseen) = (other.token(&scopes).await, other.token(&scopes).await);
        assert!(other.stop());
        let gateway = start(through, &[("ROLLCALL_TOKEN_LIMIT", limit)]);
        Stand { gateway, server, proxy, _folder: folder, token, unseen, account, cold }
    }

    fn go(&mut self, away: Away) {
        match away {
            Away::Killed => self.server.kill(),
            Away::Paused => self.server.pause(),
            Away::Blackholed => self.proxy.set(Fault::Stall),
        }
    }

    fn come_back(&mut self, away: Away) {
        match away {
            Away::Killed => self.server.restart(),
            Away::Paused => self.server.resume(),
            Away::Blackholed => self.proxy.set(Fault::None),
        }
    }

    /// The store is there again; everything works soon.
    async fn recovers(&mut self, away: Away) {
        self.come_back(away);
        let (back, list) = (Instant::now(), self.list());
        loop {
            let ready = self.gateway.call_as(None, "GET", "/readyz", None).await.status;
            let works = self.gateway.call_as(Some(&self.unseen), "GET", &list, None).await.status;
            if (ready, works) == (200, 200) {
                return;
            }
            assert!(back.elapsed() < RECOVERY, "{away:?}: no recovery: /readyz {ready}, call {works}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// A call, which never hangs.
    async fn call(&self, token: Option<&str>, method: &str, path: &str, body: Option<serde_json::Value>) -> Answer {
        let begun = Instant::now();
        let answer = self.gateway.call_as(token, method, path, body.as_ref()).await;
        assert!(begun.elapsed() <= LIMIT, "{method} {path} took {:?}", begun.elapsed());
        answer
    }

    /// Every row of the table, once.
    async fn rows(&self, vendor: &Vendor, what: &str) {
        let token = Some(self.token.as_str());
        let raw = format!("/passthrough/{}/Users", self.account);
        for path in [&raw, &self.list()] {
            let answer = self.call(token, "GET", path, None).await;
            assert_eq!(answer.status, 200, "{what}: a cached credential serves: {}", answer.text());
        }
        let asked = vendor.count();
        problem(&self.call(Some(&self.unseen), "GET", &raw, None).await, 503, "store_unavailable", "gateway");
        let unknown = "rck_0000000000000000000000000000000000000000000000000000000000000000000000000000";
        let unknown = self.call(Some(unknown), "GET", &raw, None).await;
        assert!(matches!(unknown.status, 401 | 503), "a text that is no token needs no store: {}", unknown.text());
        let cold = format!("/passthrough/{}/Users", self.cold);
        let refused = self.call(token, "GET", &cold, None).await;
        problem(&refused, 503, "store_unavailable", "gateway");
        assert!(refused.header("retry-after").is_some(), "{what}");
        let import = json!({"tenant_id": "acme", "integration": "scim", "authentication_method": "bearer",
            "context": {"base_url": vendor.at("/scim"), "token": "new-token"}});
        let account = format!("/integrated-account/{}", self.account);
        for (method, path, body) in [
            ("POST", "/integrated-account", Some(import)),
            ("PATCH", account.as_str(), Some(json!({"tenant_id": "other"}))),
            ("DELETE", account.as_str(), None),
        ] {
            let begun = Instant::now();
            let answer = self.gateway.call_as(Some(ADMIN), method, path, body.as_ref()).await;
            problem(&answer, 503, "store_unavailable", "gateway");
            assert!(begun.elapsed() <= LIMIT, "{what}: {method} {path} took {:?}", begun.elapsed());
        }
        assert!(vendor.count() <= asked + 2, "the vendor hears of refused calls: {}", vendor.count() - asked);
        assert_eq!(self.call(None, "GET", "/healthz", None).await.status, 200, "{what}");
        assert_eq!(self.call(None, "GET", "/readyz", None).await.status, 503, "{what}");
    }

    fn list(&self) -> String {
        format!("{USERS}?integrated_account_id={}&limit=3", self.account)
    }
}

async fn is_away(away: Away) {
    let vendor = Vendor::start(|asked| scim(asked, 3));
    let mut stand = Stand::start(&vendor, "4000/1h").await;
    let (token, list) = (stand.token.clone(), stand.list());
    assert_eq!(stand.gateway.call_as(Some(&token), "GET", &list, None).await.status, 200);
    let begun = Instant::now();
    stand.go(away);
    let lasts = Duration::from_secs(if long() { 120 } else { 6 });
    stand.rows(&vendor, &format!("{away:?}, at first")).await;
    // Bounded in time: 30 s for the token, 60 s for the credential.
    while begun.elapsed() < lasts {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let kept = begun.elapsed();
        let answer = stand.call(Some(&token), "GET", &list, None).await;
        match answer.status {
            200 => assert!(kept < Duration::from_secs(33), "{away:?}: served {kept:?} after the last confirmed read"),
            503 => assert!(kept > Duration::from_secs(25), "{away:?}: refused after {kept:?}: {}", answer.text()),
            _ => panic!("{away:?}: {}", answer.text()),
        }
    }
    if !long() {
        stand.rows(&vendor, &format!("{away:?}, later")).await;
    }
    stand.recovers(away).await;
    let path = format!("/integrated-account/{}", stand.account);
    assert_eq!(stand.gateway.call("PATCH", &path, Some(&json!({"tenant_id": "b"}))).await.status, 200);
    is_sound(&stand.gateway);
}

#[tokio::test]
async fn u_07_a_store_that_was_killed() {
    is_away(Away::Killed).await;
}

#[tokio::test]
async fn u_07_a_store_that_is_stopped() {
    is_away(Away::Paused).await;
}

#[tokio::test]
async fn u_07_a_store_behind_a_black_hole() {
    is_away(Away::Blackholed).await;
}

/// A token that ends while the store is away is not renewed: what could not be kept would be got again by every node.
#[tokio::test]
async fn u_07_no_access_token_is_got_that_cannot_be_kept() {
    for away in [Away::Killed, Away::Paused, Away::Blackholed] {
        let vendor = Vendor::start(|asked| match asked.path() {
            "/token" => json_answer(200, &json!({"access_token": "short", "expires_in": 3})),
            _ => scim(asked, 3),
        });
        let mut stand = Stand::start(&vendor, "4000/1h").await;
        let context =
            json!({"base_url": vendor.at("/scim"), "token_url": vendor.at("/token"), "client_id": "c", "client_secret": "s"});
        stand.account = stand.gateway.link("scim", "oauth2_client_credentials", context).await;
        let (token, list) = (stand.token.clone(), stand.list());
        assert_eq!(stand.gateway.call_as(Some(&token), "GET", &list, None).await.status, 200, "{away:?}");
        stand.go(away);
        tokio::time::sleep(Duration::from_millis(3_200)).await;
        let asked = vendor.count();
        for path in [list.clone(), format!("/passthrough/{}/Users", stand.account)] {
            let refused = stand.call(Some(&token), "GET", &path, None).await;
            problem(&refused, 503, "store_unavailable", "gateway");
            assert!(refused.header("retry-after").is_some(), "{away:?}: {}", refused.text());
        }
        assert_eq!(vendor.count(), asked, "{away:?}: neither the endpoint nor the vendor hears of it");
        stand.recovers(away).await;
    }
}

/// What a node that is cut off lives off: its share of a token's limit, and each credential for a minute.
async fn lives_on(away: Away, stand: &mut Stand) {
    let (token, list) = (stand.token.clone(), stand.list());
    let other = stand.gateway.token(&["directory:read"]).await;
    for known in [token.as_str(), other.as_str(), ADMIN] {
        assert_eq!(stand.gateway.call_as(Some(known), "GET", &list, None).await.status, 200);
    }
    let begun = Instant::now();
    stand.go(away);
    for n in 1..=SHARE + 5 {
        let answer = stand.call(Some(&token), "GET", &list, None).await;
        if n <= SHARE {
            assert_eq!(answer.status, 200, "{away:?}: call {n} is within the share: {}", answer.text());
            continue;
        }
        problem(&answer, 429, "rate_limited", "gateway");
        let wait = answer.header("retry-after").and_then(|seconds| seconds.parse::<u64>().ok());
        assert!(wait.is_some_and(|seconds| (1..=3_600).contains(&seconds)), "{away:?}: {wait:?}");
    }
    for unhindered in [other.as_str(), ADMIN] {
        let answer = stand.call(Some(unhindered), "GET", &list, None).await;
        assert_eq!(answer.status, 200, "{away:?}: another's limit is not used up: {}", answer.text());
    }
    // The administrator's token is not in the store: what ends is the credential.
    loop {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let kept = begun.elapsed();
        let answer = stand.call(Some(ADMIN), "GET", &list, None).await;
        if answer.status != 200 {
            problem(&answer, 503, "store_unavailable", "gateway");
            assert!(kept > Duration::from_secs(55), "{away:?}: refused after {kept:?}: {}", answer.text());
            break;
        }
        assert!(kept < Duration::from_secs(63), "{away:?}: served {kept:?} after the last confirmed read");
    }
    stand.recovers(away).await;
    is_sound(&stand.gateway);
}

#[tokio::test]
async fn u_07_a_node_that_is_cut_off_has_its_share_of_a_limit_and_a_credential_for_a_minute() {
    let vendor = Vendor::start(|asked| scim(asked, 3));
    let mut stands = Vec::new();
    for away in [Away::Killed, Away::Paused, Away::Blackholed] {
        stands.push((away, Stand::start(&vendor, SMALL).await));
    }
    // Side by side: nearly all of it is waiting.
    join_all(stands.iter_mut().map(|(away, stand)| lives_on(*away, stand))).await;
}

/// Whether a server says of itself that it is a primary.
fn is_primary(role: &::redis::Value) -> bool {
    let words: Option<(String, i64, ::redis::Value)> = ::redis::from_redis_value(role.clone()).ok();
    words.is_some_and(|(word, ..)| word == "master")
}

/// One fail-over: writes that were acknowledged are there afterwards, or their loss is reported. Where a replica must have them
/// (`waits`) none is acknowledged that it lacks.
async fn fails_over(lags: bool, waits: bool) {
    let vendor = Vendor::start(|asked| scim(asked, 3));
    let mut set = SentinelSet::start();
    let folder = tempfile::tempdir().unwrap();
    let ring = folder.path().join("ring.json");
    write_ring(&ring);
    let (kept, store) = (Kept::Embedded(folder), set.address());
    let settings = [("ROLLCALL_STORE", store.as_str()), ("ROLLCALL_KEYS_FILE", ring.to_str().unwrap())];
    let settings = [&settings[..], if waits { &[("ROLLCALL_REDIS_REPLICAS", "1")] } else { &[] }].concat();
    let gateway = Gateway::start_with(&kept, &vendor.authority(), &settings);
    let account = gateway.link("scim", "bearer", json!({"base_url": vendor.at("/scim"), "token": "the-first-token"})).await;
    let (path, list) = (format!("/integrated-account/{account}"), format!("{USERS}?integrated_account_id={account}&limit=3"));
    assert_eq!(gateway.get(&list).await.status, 200);
    let replicated = |set: &SentinelSet| {
        let mut primary = set.primary.connection();
        ::redis::cmd("SET").arg("mark").arg("1").exec(&mut primary).unwrap();
        ::redis::cmd("WAIT").arg(1).arg(10_000).query::<i64>(&mut primary).unwrap()
    };
    assert_eq!(replicated(&set), 1);
    if lags {
        set.replica.pause();
    }
    // A new credential, acknowledged and used.
    let changed = gateway.call("PATCH", &path, Some(&json!({"context": {"token": "the-second-token"}}))).await;
    assert_eq!(changed.status, if lags && waits { 503 } else { 200 }, "{}", changed.text());
    let raw = format!("/passthrough/{account}/Users");
    assert_eq!(gateway.get(&raw).await.status, 200);
    if !lags && !waits {
        assert_eq!(replicated(&set), 1);
    }
    set.primary.kill();
    if lags {
        set.replica.resume();
    }
    let begun = Instant::now();
    // The new primary has no replica, so that no write is acknowledged that needs one.
    let goes_on = async || match waits {
        true => ::redis::cmd("ROLE").query::<::redis::Value>(&mut set.replica.connection()).is_ok_and(|role| is_primary(&role)),
        false => gateway.call("PATCH", &path, Some(&json!({"tenant_id": "after"}))).await.status == 200,
    };
    while !goes_on().await {
        assert!(begun.elapsed() < Duration::from_secs(20), "no recovery:\n{}", gateway.said());
        let asked = Instant::now();
        // What is known goes on meanwhile.
        assert_eq!(gateway.get(&raw).await.status, 200);
        assert!(asked.elapsed() < LIMIT * 2, "{:?}", asked.elapsed());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    tokio::time::sleep(Duration::from_secs(if waits { 3 } else { 1 })).await;
    if waits {
        let changed = gateway.call("PATCH", &path, Some(&json!({"tenant_id": "after"}))).await;
        assert!(changed.status == 503, "{}", changed.text());
    }
    assert_eq!(gateway.get(&raw).await.status, 200);
    let last = vendor.asked().pop().unwrap().header("authorization").to_owned();
    let reported = gateway.said().contains("the store lost an acknowledged write");
    let is_lost = last != "Bearer the-second-token";
    assert!(!is_lost || reported, "an acknowledged credential was lost without a word:\n{}", gateway.said());
    assert!(lags || !is_lost, "lost although the replica had it");
}

#[tokio::test]
async fn u_09_a_lost_primary_loses_nothing_unnoticed() {
    for round in 0..if long() { 50 } else { 4 } {
        fails_over(round % 2 == 1, round % 4 >= 2).await;
    }
}
