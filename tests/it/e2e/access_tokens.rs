//! Access tokens: got once for everybody, kept sealed, renewed when the vendor refuses them, and one replay for the call.
//! The real token endpoint is npm `oidc-provider`; endpoints that misbehave are our own.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::{
    bar_vendor::{Act, Asked, Vendor, answer, json_answer, scim},
    vendor::{accounts, names, problem},
};
use crate::support::{
    gateway::{ADMIN, Gateway, Kept, client},
    peers::{self, Peer},
};

const METHOD: &str = "oauth2_client_credentials";

fn context(peer: &Peer) -> Value {
    let client = &peer.ready["client"];
    json!({"base_url": peer.base(), "token_url": peer.told("token_url"), "client_id": client["id"],
        "client_secret": client["secret"], "scope": "scim.read scim.write"})
}

/// How often the token endpoint was asked.
fn asked(peer: &mut Peer) -> u64 {
    peer.order(&json!({}))["asked"].as_u64().unwrap()
}

/// Every token given so far is taken back.
fn revoke(peer: &mut Peer) {
    peer.order(&json!({"revoke": true}));
}

#[tokio::test]
async fn one_token_serves_all_calls_and_each_way_in_is_cured_by_a_new_one() {
    for kept in Kept::each() {
        let mut peer = peers::oidc(600);
        let gateway = Gateway::start(&kept, &peer.authority());
        let account = gateway.link("scim", METHOD, context(&peer)).await;
        for _ in 0..5 {
            let list = gateway.users(&account).await;
            assert_eq!((list.status, list.json()["result"].as_array().map(Vec::len)), (200, Some(3)), "{}", list.text());
        }
        assert_eq!(asked(&mut peer), 1);
        let below = |prefix: &str, path: &str| format!("{prefix}/{path}integrated_account_id={account}");
        let ways: [(&str, String, Option<Value>, u16); 7] = [
            ("GET", below("/unified", "user-directory/users?"), None, 200),
            ("GET", below("/unified", "user-directory/users/2?"), None, 200),
            ("GET", below("/proxy", "Users?"), None, 200),
            ("GET", below("/custom", "Users?"), None, 200),
            ("POST", below("/custom", "echo?"), Some(json!({"by": "custom"})), 201),
            ("GET", format!("/passthrough/{account}/Users"), None, 200),
            ("POST", format!("/passthrough/{account}/echo"), Some(json!({"by": "passthrough"})), 201),
        ];
        for (turn, (method, path, body, status)) in ways.into_iter().enumerate() {
            revoke(&mut peer);
            let reply = gateway.call(method, &path, body.as_ref()).await;
            assert_eq!(reply.status, status, "{method} {path}: {}", reply.text());
            let said = peer.order(&json!({}));
            assert_eq!(said["asked"], turn + 2, "{method} {path}");
            assert_eq!(said["refused"], json!([method]), "{method} {path}: one refusal, one replay");
            if path.starts_with("/passthrough") && method == "POST" {
                assert_eq!((reply.json(), reply.header("x-scope")), (json!({"by": "passthrough"}), Some("scim.read scim.write")));
            }
        }
        assert_eq!(gateway.get(&format!("/integrated-account/{account}")).await.json()["status"], "active");
    }
}

#[tokio::test]
async fn many_callers_on_two_nodes_get_one_token_together() {
    let mut peer = peers::oidc(600);
    let kept = Kept::redis();
    let nodes = [Gateway::start(&kept, &peer.authority()), Gateway::start(&kept, &peer.authority())];
    let account = nodes[0].link("scim", METHOD, context(&peer)).await;
    assert_eq!(nodes[1].users(&account).await.status, 200, "the other node reads the token that is kept");
    assert_eq!(asked(&mut peer), 1);
    for turn in 0..3 {
        revoke(&mut peer);
        let calls = (0..40).map(|number| {
            let (node, account) = (&nodes[number % 2], account.as_str());
            async move {
                match number % 4 {
                    0 | 1 => node.users(account).await,
                    _ => node.get(&format!("/passthrough/{account}/Users")).await,
                }
            }
        });
        for reply in join_all(calls).await {
            assert_eq!(reply.status, 200, "{}", reply.text());
        }
        assert_eq!(asked(&mut peer), turn + 2, "one token for forty callers");
    }
}

#[tokio::test]
async fn tokens_that_end_are_renewed_before_the_vendor_refuses_them() {
    // The provider rounds down: a token lives for seven to eight seconds.
    let mut peer = peers::oidc(8);
    let gateway = Gateway::start(&Kept::embedded(), &peer.authority());
    let account = gateway.link("scim", METHOD, context(&peer)).await;
    let end = tokio::time::Instant::now() + Duration::from_secs(13);
    while tokio::time::Instant::now() < end {
        let reply = gateway.get(&format!("/passthrough/{account}/Users")).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    tokio::time::sleep(Duration::from_secs(9)).await;
    assert_eq!(gateway.users(&account).await.status, 200, "after a pause longer than a token's life");
    let said = peer.order(&json!({}));
    assert_eq!(said["refused"], json!([]), "no token was sent that had ended");
    let asked = said["asked"].as_u64().unwrap();
    assert!((3..=8).contains(&asked), "{asked} tokens in 22 s");
}

#[tokio::test]
async fn a_client_that_is_refused_is_not_linked_and_later_needs_reauthorisation() {
    let mut peer = peers::oidc(600);
    let gateway = Gateway::start(&Kept::embedded(), &peer.authority());
    let mut wrong = context(&peer);
    wrong["client_secret"] = json!("wrong-synthetic-secret");
    let import = json!({"tenant_id": "acme", "integration": "scim", "authentication_method": METHOD, "context": wrong});
    let refused = gateway.call("POST", "/integrated-account", Some(&import)).await;
    let document = problem(&refused, 422, "credential_refused", "vendor");
    assert!(document["detail"].as_str().unwrap().contains("invalid_client (client authentication failed)"), "{document}");
    assert!(!refused.text().contains("wrong-synthetic-secret"), "{}", refused.text());
    assert_eq!(accounts(&gateway).await, Vec::<String>::new());

    let account = gateway.link("scim", METHOD, context(&peer)).await;
    let before = asked(&mut peer);
    peer.order(&json!({"revoke": true, "forget": true}));
    problem(&gateway.users(&account).await, 401, "reauth_required", "vendor");
    let shown = gateway.get(&format!("/integrated-account/{account}")).await.json();
    assert_eq!(shown["status"], "needs_reauth", "{shown}");
    for _ in 0..10 {
        problem(&gateway.users(&account).await, 401, "reauth_required", "vendor");
    }
    // The first call, and the test that is made once a minute behind those that follow.
    assert!(asked(&mut peer) <= before + 2, "a broken account asks for tokens");
}

/// A vendor whose token endpoint does what the test says; it numbers its tokens, and takes the newest alone.
struct Endpoint {
    vendor: Vendor,
    given: Arc<AtomicUsize>,
    mood: Arc<Mutex<Mood>>,
}

/// What the token endpoint does.
#[derive(Clone)]
enum Mood {
    Give(Value),
    Answer(u16, &'static str, &'static str),
    Hang(Duration),
}

impl Endpoint {
    /// `takes` says whether a request with the token of this number is let through.
    fn start(takes: impl Fn(&Asked, usize, usize) -> bool + Send + Sync + 'static) -> Self {
        let (given, mood) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Mood::Give(json!({})))));
        let (count, now) = (given.clone(), mood.clone());
        let vendor = Vendor::start(move |asked| match asked.path() {
            "/token" => token(&count, &now.lock().unwrap().clone()),
            _ => {
                let number = asked.header("authorization").strip_prefix("Bearer numbered-token-").unwrap_or_default();
                match takes(asked, number.parse().unwrap_or_default(), count.load(Ordering::SeqCst)) {
                    true if asked.method != "GET" => Act::Send(answer(200, &[("x-length", &asked.length.to_string())], b"")),
                    true => scim(asked, 3),
                    false => Act::Send(answer(401, &[("x-vendor", "says no")], b"not this one")),
                }
            }
        });
        Self { vendor, given, mood }
    }

    fn set(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    fn given(&self) -> usize {
        self.given.load(Ordering::SeqCst)
    }

    fn context(&self) -> Value {
        json!({"base_url": self.vendor.at("/scim"), "token_url": self.vendor.at("/token"), "client_id": "client",
            "client_secret": "synthetic-client-secret"})
    }

    /// How often other paths than the endpoint's were asked.
    fn called(&self) -> usize {
        self.vendor.asked().iter().filter(|asked| asked.path() != "/token").count()
    }
}

fn token(given: &AtomicUsize, mood: &Mood) -> Act {
    match mood {
        Mood::Answer(status, kind, body) => Act::Send(answer(*status, &[("content-type", kind)], body.as_bytes())),
        Mood::Hang(time) => {
            std::thread::sleep(*time);
            Act::End(Vec::new())
        }
        Mood::Give(more) => {
            let number = given.fetch_add(1, Ordering::SeqCst) + 1;
            let mut reply = json!({"access_token": format!("numbered-token-{number}"), "token_type": "bearer"});
            reply.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            json_answer(200, &reply)
        }
    }
}

#[tokio::test]
async fn a_vendor_that_refuses_every_token_is_asked_for_few() {
    let endpoint = Endpoint::start(|asked, _, _| !asked.path().ends_with("/forbidden"));
    let gateway = Gateway::start(&Kept::embedded(), &endpoint.vendor.authority());
    let account = gateway.link("scim", METHOD, endpoint.context()).await;
    let (given, called) = (endpoint.given(), endpoint.called());
    let path = format!("/passthrough/{account}/forbidden");
    let reply = gateway.get(&path).await;
    assert_eq!((reply.status, reply.text().as_str(), reply.header("x-vendor")), (401, "not this one", Some("says no")));
    assert_eq!(endpoint.given(), given + 1);
    let passed = endpoint.vendor.asked().into_iter().filter(|asked| asked.path().ends_with("/forbidden")).count();
    assert_eq!(passed, 2, "the call and one replay");
    for _ in 0..20 {
        assert_eq!(gateway.get(&path).await.status, 401);
    }
    assert_eq!(endpoint.given(), given + 1, "refusals that are not the token's make no tokens");
    // Each further call goes once; the doubt they cast on the account is tested once a minute.
    assert!(endpoint.called() - called <= 22 + 2, "{}", endpoint.called() - called);
    assert_eq!(gateway.users(&account).await.status, 200, "the account is as good as before");
}

/// Two nodes and two kinds of calls, each refused for reasons of its own, make no tokens for each other to doubt.
#[tokio::test]
async fn refusals_everywhere_make_few_tokens() {
    let endpoint = Endpoint::start(|asked, _, _| !(asked.path().ends_with("/forbidden") || asked.path().ends_with("/Groups")));
    let kept = Kept::redis();
    let nodes = [Gateway::start(&kept, &endpoint.vendor.authority()), Gateway::start(&kept, &endpoint.vendor.authority())];
    let account = nodes[0].link("scim", METHOD, endpoint.context()).await;
    let given = endpoint.given();
    for _ in 0..6 {
        for node in &nodes {
            assert_eq!(node.get(&format!("/passthrough/{account}/forbidden")).await.status, 401);
            let groups = format!("/unified/user-directory/groups?integrated_account_id={account}");
            assert_eq!(node.get(&groups).await.status, 401);
            assert_eq!(node.users(&account).await.status, 200);
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    // For each node and kind of call one, and one more for the test that each node's doubt starts.
    assert!(endpoint.given() - given <= 6, "{} tokens", endpoint.given() - given);
}

/// What the endpoint or the vendor writes back of the client, the form or the token, in the forms it was sent in.
#[tokio::test]
async fn nothing_that_is_written_back_is_shown() {
    let echoes = Arc::new(AtomicBool::new(false));
    let (echo, said) = (echoes.clone(), Arc::new(Mutex::new(Vec::<String>::new())));
    let told = said.clone();
    let vendor = Vendor::start(move |asked| {
        let (authorization, form) = (asked.header("authorization").to_owned(), String::from_utf8_lossy(&asked.body).into_owned());
        if !echo.load(Ordering::SeqCst) {
            return match asked.path() {
                "/token" => json_answer(200, &json!({"access_token": "canary-access-token-1", "expires_in": 1})),
                _ => scim(asked, 3),
            };
        }
        told.lock()
            .unwrap()
            .extend([authorization.clone(), form.clone()].map(|text| text.replace("Basic ", "").replace("Bearer ", "")));
        let body = json!({"error": "server_error", "was": authorization, "form": form, "plain": "canary secret/+%"});
        Act::Send(answer(500, &[("content-type", "application/json")], body.to_string().as_bytes()))
    });
    let gateway = Gateway::start(&Kept::embedded(), &vendor.authority());
    let context = json!({"base_url": vendor.at("/scim"), "token_url": vendor.at("/token"), "client_id": "canary-client",
        "client_secret": "canary secret/+%"});
    let account = gateway.link("scim", METHOD, context).await;
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    echoes.store(true, Ordering::SeqCst);
    let refused = gateway.users(&account).await;
    let (text, log) = (refused.text(), gateway.said());
    problem(&refused, 503, "vendor_not_ready", "vendor");
    let sent = said.lock().unwrap().clone();
    assert!(sent.iter().any(|pair| pair.len() > 20), "{sent:?}");
    for secret in sent
        .iter()
        .filter(|text| text.len() > 20 && !text.starts_with("grant_type"))
        .map(String::as_str)
        .chain(["canary secret", "canary+secret"])
    {
        assert!(!text.contains(secret), "{secret} is shown: {text}");
        assert!(!log.contains(secret), "{secret} is logged");
    }
}

#[tokio::test]
async fn a_body_too_long_for_a_copy_gets_the_refusal_and_the_next_call_the_new_token() {
    let endpoint = Endpoint::start(|_, number, given| number == given);
    let gateway = Gateway::start(&Kept::embedded(), &endpoint.vendor.authority());
    let account = gateway.link("scim", METHOD, endpoint.context()).await;
    let url = format!("{}/passthrough/{account}/upload", gateway.base);
    let put = |body: reqwest::Body| client().put(&url).bearer_auth(ADMIN).body(body).send();
    let streamed = |pieces: usize| {
        let pieces = (0..pieces).map(|_| Ok::<_, std::io::Error>(vec![7_u8; 1000]));
        reqwest::Body::wrap_stream(futures_util::stream::iter(pieces))
    };
    for (body, length, expected) in [
        (vec![7; 64 * 1024].into(), "65536", 200),
        (streamed(64), "64000", 200),
        (reqwest::Body::from(Vec::new()), "0", 200),
        (vec![7; 64 * 1024 + 1].into(), "65537", 401),
        (streamed(70), "70000", 401),
    ] {
        endpoint.given.fetch_add(1, Ordering::SeqCst);
        let reply = put(body).await.unwrap();
        assert_eq!(reply.status().as_u16(), expected, "{length}");
        if expected == 200 {
            assert_eq!(reply.headers()["x-length"], length);
        }
        assert_eq!(put(vec![7; 3].into()).await.unwrap().status().as_u16(), 200, "after {length}");
    }
}

/// What the vendor refused was not done: unified and proxy writes are sent once more, and done once.
#[tokio::test]
async fn a_refused_write_is_sent_once_more_and_done_once() {
    let done = Arc::new(Mutex::new(Vec::new()));
    let log = done.clone();
    let endpoint = Endpoint::start(move |asked, number, given| {
        let takes = number == given;
        if takes && asked.method != "GET" {
            log.lock().unwrap().push(format!("{} {}", asked.method, asked.path()));
        }
        takes
    });
    let gateway = Gateway::start(&Kept::embedded(), &endpoint.vendor.authority());
    let account = gateway.link("scim", METHOD, endpoint.context()).await;
    let path = |path: &str| format!("{path}?integrated_account_id={account}");
    for (method, path, body, seen) in [
        ("POST", path("/unified/user-directory/users"), json!({"username": "new@x.example"}), "POST /scim/Users"),
        ("PATCH", path("/unified/user-directory/users/u1"), json!({"title": "x"}), "PATCH /scim/Users/u1"),
        ("POST", path("/proxy/Users"), json!({"userName": "new@x.example"}), "POST /scim/Users"),
        ("PATCH", path("/proxy/Users/u1"), json!({"title": "x"}), "PATCH /scim/Users/u1"),
        ("DELETE", path("/proxy/Users/u1"), json!(null), "DELETE /scim/Users/u1"),
    ] {
        endpoint.given.fetch_add(1, Ordering::SeqCst);
        done.lock().unwrap().clear();
        let body = Some(body).filter(|body| !body.is_null());
        let answer = gateway.call(method, &path, body.as_ref()).await;
        // The stand-in keeps nothing, which a unified write finds out.
        assert!(!matches!(answer.status, 401 | 403), "{method} {path}: {}", answer.text());
        assert_eq!(*done.lock().unwrap(), [seen], "{method} {path}: {}", answer.text());
    }
}

#[tokio::test]
async fn an_endpoint_that_hangs_is_given_up() {
    let endpoint = Endpoint::start(|_, number, given| number == given);
    let gateway = Gateway::start(&Kept::embedded(), &endpoint.vendor.authority());
    let account = gateway.link("scim", METHOD, endpoint.context()).await;
    endpoint.given.fetch_add(1, Ordering::SeqCst);
    endpoint.set(Mood::Hang(Duration::from_secs(60)));
    let begun = std::time::Instant::now();
    problem(&gateway.users(&account).await, 504, "vendor_unreachable", "vendor");
    assert!((19..40).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
    let begun = std::time::Instant::now();
    assert_eq!(gateway.users(&account).await.status, 504);
    assert!(begun.elapsed() < Duration::from_secs(2), "whoever comes next waits again: {:?}", begun.elapsed());
}

#[tokio::test]
async fn an_endpoint_that_fails_for_a_while_breaks_no_account() {
    let endpoint = Endpoint::start(|_, number, given| number == given);
    let gateway = Gateway::start(&Kept::embedded(), &endpoint.vendor.authority());
    let account = gateway.link("scim", METHOD, endpoint.context()).await;
    let html = "<html>log in</html>";
    let moods: [(Mood, u16, &str); 10] = [
        (Mood::Answer(500, "text/html", html), 503, "vendor_not_ready"),
        (Mood::Answer(200, "text/html", html), 502, "vendor_bad_answer"),
        (Mood::Answer(200, "application/json", ""), 502, "vendor_bad_answer"),
        (Mood::Answer(200, "application/json", r#"{"access_token":7}"#), 502, "vendor_bad_answer"),
        (Mood::Answer(200, "application/json", r#"{"access_token":"not\none"}"#), 502, "vendor_bad_answer"),
        (Mood::Answer(429, "application/json", "{}"), 429, "vendor_rate_limited"),
        (Mood::Answer(302, "text/html", html), 502, "vendor_error"),
        (Mood::Answer(401, "text/html", html), 502, "vendor_error"),
        (Mood::Answer(400, "application/json", r#"{"error":"temporarily_unavailable"}"#), 502, "vendor_error"),
        (Mood::Hang(Duration::from_millis(50)), 502, "vendor_bad_answer"),
    ];
    for (mood, status, code) in moods {
        let shown = match &mood {
            Mood::Answer(status, kind, body) => format!("{status} {kind} {body}"),
            _ => "the connection ends".to_owned(),
        };
        // What is in force ends: the vendor takes only what was given later.
        endpoint.given.fetch_add(1, Ordering::SeqCst);
        endpoint.set(mood);
        let reply = gateway.users(&account).await;
        assert_eq!((reply.status, reply.code().as_str()), (status, code), "{shown}: {}", reply.text());
        assert!(!reply.text().contains("synthetic-client-secret"), "{shown}");
        let refused = gateway.get(&format!("/passthrough/{account}/Users")).await;
        assert_eq!((refused.status, refused.code().as_str()), (status, code), "{shown}: no client takes it for its own fault");
        assert_eq!(gateway.get(&format!("/integrated-account/{account}")).await.json()["status"], "active", "{shown}");
        endpoint.set(Mood::Give(json!({"expires_in": "3600"})));
        let end = tokio::time::Instant::now() + Duration::from_secs(10);
        while gateway.users(&account).await.status != 200 {
            assert!(tokio::time::Instant::now() < end, "{shown}: the endpoint is not asked again");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

#[tokio::test]
async fn odd_lives_are_no_reason_to_refuse_a_token() {
    let endpoint = Endpoint::start(|_, number, given| number == given);
    let gateway = Gateway::start(&Kept::embedded(), &endpoint.vendor.authority());
    for life in
        [json!(null), json!(0), json!(-5), json!("soon"), json!("3600"), json!(3599.5), json!(1e300), json!([1]), json!({})]
    {
        endpoint.set(Mood::Give(json!({"expires_in": life, "token_type": null})));
        let account = gateway.link("scim", METHOD, endpoint.context()).await;
        let given = endpoint.given();
        for _ in 0..3 {
            assert_eq!(gateway.users(&account).await.status, 200, "{life}");
        }
        assert_eq!(endpoint.given(), given, "{life}: used until it is refused");
    }
    for token in ["a token\r\nwith: lines", "", "a blank", "t\u{f6}ken"] {
        endpoint.set(Mood::Give(json!({"access_token": token})));
        let context = endpoint.context();
        let import = json!({"tenant_id": "acme", "integration": "scim", "authentication_method": METHOD, "context": context});
        problem(&gateway.call("POST", "/integrated-account", Some(&import)).await, 502, "vendor_bad_answer", "vendor");
    }
}

#[tokio::test]
async fn the_endpoint_is_part_of_what_secrets_are_bound_to() {
    let endpoint = Endpoint::start(|_, number, given| number == given);
    let gateway = Gateway::start(&Kept::embedded(), &endpoint.vendor.authority());
    let account = gateway.link("scim", METHOD, endpoint.context()).await;
    let path = format!("/integrated-account/{account}");
    let elsewhere = json!({"context": {"token_url": endpoint.vendor.at("/elsewhere")}});
    let before = endpoint.vendor.count();
    names(&gateway.call("PATCH", &path, Some(&elsewhere)).await, 422, "secrets_required", "context.client_secret");
    assert_eq!(endpoint.vendor.count(), before, "the secret went nowhere");
    let outside = json!({"context": {"token_url": "http://10.0.0.1/token", "client_secret": "s"}});
    let refused = gateway.call("PATCH", &path, Some(&outside)).await;
    assert_eq!(refused.status, 422, "{}", refused.text());
    assert_eq!(gateway.users(&account).await.status, 200);
}

#[tokio::test]
async fn an_account_linked_anew_meanwhile_takes_no_call_of_the_old_link() {
    let (held, waiting) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let (hold, count) = (held.clone(), waiting.clone());
    let old = Endpoint::start(move |asked, number, given| {
        if hold.load(Ordering::SeqCst) && asked.target.contains("only=old") {
            count.fetch_add(1, Ordering::SeqCst);
            while hold.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(10));
            }
            return false;
        }
        number == given
    });
    let new = Endpoint::start(|_, number, given| number == given);
    let allow = format!("{},{}", old.vendor.authority(), new.vendor.authority());
    let kept = Kept::redis();
    let here = Gateway::start(&kept, &allow);
    let account = here.link("scim", METHOD, old.context()).await;
    let ways = [
        format!("/passthrough/{account}/Users?only=old"),
        format!("/custom/Users?only=old&integrated_account_id={account}"),
        format!("/unified/user-directory/users?remote_query[only]=old&integrated_account_id={account}"),
    ];
    // Each node knows the old link, and has not heard of the new one when its next call begins.
    let nodes: Vec<Gateway> = ways.iter().map(|_| Gateway::start(&kept, &allow)).collect();
    for (node, way) in nodes.iter().zip(&ways) {
        assert_eq!(node.get(way).await.status, 200, "{way}");
    }
    // The old vendor holds these calls until the account is linked anew, and then refuses them.
    held.store(true, Ordering::SeqCst);
    let calls = join_all(nodes.iter().zip(&ways).map(|(node, way)| node.get(way)));
    let relink = async {
        while waiting.load(Ordering::SeqCst) < nodes.len() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let change = json!({"context": new.context()});
        let relinked = here.call("PATCH", &format!("/integrated-account/{account}"), Some(&change)).await;
        assert_eq!(relinked.status, 200, "{}", relinked.text());
        old.given.fetch_add(1, Ordering::SeqCst);
        held.store(false, Ordering::SeqCst);
        new.given()
    };
    let (_, given) = tokio::join!(calls, relink);
    let tokens = |vendor: &Vendor| {
        let asked = vendor.asked().into_iter().filter(|asked| asked.path() != "/token");
        asked.map(|asked| asked.header("authorization").to_owned()).collect::<Vec<_>>()
    };
    assert!(tokens(&old.vendor).iter().all(|token| token == "Bearer numbered-token-1"), "{:?}", tokens(&old.vendor));
    assert_eq!(new.given(), given, "the new link has its token");
    let strays = new.vendor.asked().iter().filter(|asked| asked.target.contains("only=old")).count();
    assert_eq!(strays, 0, "a call of the old link reached the new vendor");
    for (node, way) in nodes.iter().zip(&ways) {
        let end = tokio::time::Instant::now() + Duration::from_secs(5);
        while node.get(way).await.status != 200 {
            assert!(tokio::time::Instant::now() < end, "{way}: the node never hears of the new link");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

#[tokio::test]
async fn a_refusal_of_a_callers_own_call_ends_no_credential_and_holds_up_no_renewal() {
    let endpoint = Endpoint::start(|asked, number, given| !asked.path().ends_with("/forbidden") && number == given);
    let gateway = Gateway::start(&Kept::embedded(), &endpoint.vendor.authority());
    let account = gateway.link("scim", METHOD, endpoint.context()).await;
    let forbidden = format!("/passthrough/{account}/forbidden");
    assert_eq!(gateway.get(&forbidden).await.status, 401, "its token is held to be good from here on");
    endpoint.given.fetch_add(1, Ordering::SeqCst);
    assert_eq!(gateway.get(&forbidden).await.status, 401);
    assert_eq!(gateway.users(&account).await.status, 200, "another kind of call gets its new token all the same");
    // Once when it was linked, and once more for the doubt.
    let tests = || endpoint.vendor.asked().iter().filter(|asked| asked.path().ends_with("/ServiceProviderConfig")).count();
    let end = tokio::time::Instant::now() + Duration::from_secs(10);
    while tests() < 2 {
        assert!(tokio::time::Instant::now() < end, "the doubt is never tested");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(gateway.get(&format!("/integrated-account/{account}")).await.json()["status"], "active");
}

#[tokio::test]
async fn an_api_that_refuses_every_new_token_needs_reauthorisation() {
    let open = Arc::new(AtomicBool::new(true));
    let door = open.clone();
    let endpoint = Endpoint::start(move |_, number, given| door.load(Ordering::SeqCst) && number == given);
    let gateway = Gateway::start(&Kept::embedded(), &endpoint.vendor.authority());
    let account = gateway.link("scim", METHOD, endpoint.context()).await;
    open.store(false, Ordering::SeqCst);
    let given = endpoint.given();
    problem(&gateway.users(&account).await, 401, "reauth_required", "vendor");
    let status = async || gateway.get(&format!("/integrated-account/{account}")).await.json()["status"].clone();
    let end = tokio::time::Instant::now() + Duration::from_secs(10);
    while status().await != "needs_reauth" {
        assert!(tokio::time::Instant::now() < end, "the test behind it does not mark the account");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for _ in 0..10 {
        problem(&gateway.users(&account).await, 401, "reauth_required", "vendor");
    }
    assert!(endpoint.given() - given <= 2, "{} tokens", endpoint.given() - given);
}

#[tokio::test]
async fn the_endpoints_address_is_called_exactly_as_it_was_given() {
    let vendor = Vendor::start(|asked| match asked.target.as_str() {
        "/o/token/" | "/o/token?p=policy&x=%2F" => json_answer(200, &json!({"access_token": "exact", "expires_in": 60})),
        target if target.starts_with("/scim/") => scim(asked, 3),
        _ => Act::Send(answer(301, &[("location", "/elsewhere")], b"")),
    });
    let gateway = Gateway::start(&Kept::embedded(), &vendor.authority());
    let context = |path: &str| json!({"base_url": vendor.at("/scim"), "token_url": vendor.at(path), "client_id": "c", "client_secret": "synthetic-secret"});
    for path in ["/o/token/", "/o/token?p=policy&x=%2F"] {
        let account = gateway.link("scim", METHOD, context(path)).await;
        assert_eq!(gateway.users(&account).await.status, 200, "{path}");
    }
    for path in ["/o/token#x", "/o/../token", "/o/token?a b", "/o/token?\u{e4}", "//token"] {
        let import =
            json!({"tenant_id": "acme", "integration": "scim", "authentication_method": METHOD, "context": context(path)});
        names(&gateway.call("POST", "/integrated-account", Some(&import)).await, 422, "invalid_field", "context.token_url");
    }
}
