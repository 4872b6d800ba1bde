//! V-01: planted secrets leave the process towards their vendor and nowhere else, however the vendor, the caller and the
//! store misbehave.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use serde_json::{Value, json};

use super::{
    bar_canaries::{Canaries, Canary, files},
    bar_vendor::{Act, Asked, Vendor, answer, scim},
};
use crate::support::{
    gateway::{ADMIN, Answer, Gateway, Kept},
    redis::free_port,
};

// Characters that are written differently in JSON, in an address and in base64, so that each form is a text of its own.
const BEARER: &str = "cnry-bearer/7Hq+2\"x\\Zk=9";
const PASSWORD: &str = "cnry-password:4Vb/\"+mK\\2w=q";
const HEADER: &str = "cnry-header+9Tz/\"Lc\\5f=R";
const SCIM_TOKEN: &str = "cnry-scim-token/3Xw+8\"Pn\\v=6";
const ANSWER_KEY: &str = "cnryKeyOfAnswers0123456789abcdef";
const REFUSED: &str = "cnry-refused/1Jd+6\"Uy\\Gs=0";

/// How the vendor misbehaves; 0 is not at all.
const MODES: usize = 30;

/// Everything the vendor was sent in headers, written back in several spellings.
fn echo(asked: &Asked) -> String {
    use base64::{Engine, prelude::BASE64_STANDARD};
    let mut text = String::new();
    for name in ["authorization", "x-api-key"] {
        let value = asked.header(name);
        let secret = value.split_once(' ').map_or(value, |(_, secret)| secret);
        let pair = BASE64_STANDARD.decode(secret).ok().and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default();
        let password = pair.split_once(':').map_or("", |(_, password)| password);
        text.push_str(&format!(
            "{value} {secret} {password} {} ",
            url::form_urlencoded::byte_serialize(secret.as_bytes()).collect::<String>()
        ));
    }
    text
}

fn misbehave(mode: usize, asked: &Asked) -> Act {
    let echo = echo(asked);
    let error = json!({"detail": format!("the key {echo} is wrong"), "message": echo, "error": {"message": echo}}).to_string();
    let headers = |kind: &'static str| {
        [
            ("content-type", kind),
            ("x-request-id", echo.trim()),
            ("www-authenticate", echo.trim()),
            ("x-ratelimit-limit", echo.trim()),
        ]
    };
    let json = |status: u16| Act::Send(answer(status, &headers("application/json"), error.as_bytes()));
    let html = |status: u16| Act::Send(answer(status, &headers("text/html"), format!("<html><b>{echo}</b></html>").as_bytes()));
    let moved = |status: u16, place: &str| {
        Act::Send(answer(
            status,
            &[("location", &format!("{place}?key={}", echo.trim())), ("content-type", "text/plain")],
            echo.as_bytes(),
        ))
    };
    match mode {
        1..=9 => json([400, 401, 403, 404, 409, 422, 429, 500, 503][mode - 1]),
        10..=13 => html([401, 403, 500, 502][mode - 10]),
        14 => html(200),
        15 => Act::End(answer(200, &headers("application/json"), error.as_bytes())[..60].to_vec()),
        16 => Act::End(
            [&b"HTTP/1.1 200 OK\r\ncontent-length: 9999\r\ncontent-type: application/json\r\n\r\n"[..], error.as_bytes()]
                .concat(),
        ),
        17 => Act::Send(answer(
            200,
            &headers("application/json"),
            format!("{{\"totalResults\": 1, \"Resources\": [{{\"id\": {echo}").as_bytes(),
        )),
        18 => Act::Send(answer(200, &headers("application/json"), b"")),
        19 => moved(302, "http://other.example/"),
        20 => moved(307, "//other.example/"),
        21 => moved(308, "/elsewhere"),
        22 => Act::End(format!("{echo}\r\n\r\n").into_bytes()),
        23 => Act::End(Vec::new()),
        24 => Act::Send(answer(200, &[("content-type", "application/json"), ("content-encoding", "gzip")], error.as_bytes())),
        25 => Act::End(format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", echo.repeat(20_000)).into_bytes()),
        26 => Act::End(format!("HTTP/1.1 abc {echo}\r\n\r\n").into_bytes()),
        27 => Act::Send(answer(200, &headers("application/json"), format!("[\"{}\"]", "x".repeat(10)).as_bytes())),
        28 => Act::Send(answer(200, &headers("text/plain"), echo.as_bytes())),
        29 => Act::End(format!("HTTP/1.1 500 {echo}\r\ncontent-length: 2\r\n\r\n{{}}").into_bytes()),
        _ => scim(asked, 30),
    }
}

/// Everything callers were told.
#[derive(Default)]
pub(super) struct Told(pub(super) Vec<(String, Vec<u8>)>);

impl Told {
    pub(super) fn keep(&mut self, what: &str, reply: &Answer) -> u16 {
        let mut bytes = format!("{}\n", reply.status).into_bytes();
        for (name, value) in &reply.headers {
            bytes.extend_from_slice(name.as_str().as_bytes());
            bytes.extend_from_slice(b": ");
            bytes.extend_from_slice(value.as_bytes());
            bytes.push(b'\n');
        }
        bytes.extend_from_slice(&reply.body);
        self.0.push((what.to_owned(), bytes));
        reply.status
    }
}

/// A passthrough answer as far as it came: some of these vendors break off.
async fn pass(gateway: &Gateway, account: &str) -> Vec<u8> {
    let address = format!("{}/passthrough/{account}/Users", gateway.base);
    let mut response = crate::support::gateway::client().get(address).bearer_auth(ADMIN).send().await.unwrap();
    let mut bytes = format!("{:?}", response.headers()).into_bytes();
    while let Ok(Some(chunk)) = response.chunk().await {
        bytes.extend_from_slice(&chunk);
    }
    bytes
}

fn import(integration: &str, method: &str, context: &Value) -> Value {
    json!({"tenant_id": "acme", "integration": integration, "authentication_method": method, "context": context})
}

/// Every route of the document for one account; what would end the account is left out.
async fn drive(gateway: &Gateway, told: &mut Told, account: &str, label: &str) {
    let document = gateway.get("/openapi.json").await.json();
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys().filter(|method| matches!(method.as_str(), "get" | "patch")) {
            let id = if path.starts_with("/unified") || path.starts_with("/proxy") { "u1" } else { account };
            let path = path.replace("{id}", id).replace("{resource}", "Users").replace("{model}", "user-directory");
            let path = path.replace("{method}", "list").replace("{slug_or_id}", "scim").replace("{code}", "not_found");
            let query = if id == "u1" { format!("?integrated_account_id={account}") } else { String::new() };
            let body = json!({"tenant_id": "acme"});
            let reply =
                gateway.call(&method.to_uppercase(), &format!("{path}{query}"), (method == "patch").then_some(&body)).await;
            told.keep(&format!("{label} {method} {path}"), &reply);
        }
    }
}

/// Callers who put secrets where they do not belong.
async fn fumble(gateway: &Gateway, told: &mut Told, account: &str, base: &str) -> usize {
    let bodies = [
        import("scim", "bearer", &json!({"base_url": base, "token": {"value": REFUSED}})),
        import("scim", "bearer", &json!({"base_url": base, "token": [REFUSED]})),
        import("scim", "bearer", &json!({"base_url": base, "token": format!("{REFUSED}\nmore")})),
        import("scim", "bearer", &json!({"base_url": base, "token": format!("{REFUSED}\u{e9}")})),
        import("scim", "bearer", &json!({"token": REFUSED})),
        import("scim", "bearer", &json!({"base_url": "not an address", "token": REFUSED})),
        import("scim", "bearer", &json!({"base_url": "http://169.254.169.254/", "token": REFUSED})),
        import("scim", "bearer", &json!({"base_url": "https://no-such-host.invalid/scim", "token": REFUSED})),
        import("scim", "bearer", &json!({"base_url": base.replace("http:", "https:"), "token": REFUSED})),
        import("scim", "basic", &json!({"base_url": base, "username": "a:b", "password": REFUSED})),
        import("scim", "header", &json!({"base_url": base, "header_name": "Host", "header_value": REFUSED})),
        import("scim", "header", &json!({"base_url": base, "header_name": "bad name", "header_value": REFUSED})),
        import("keeper", "service_mode", &json!({"service_url": base, "api_key": REFUSED})),
        import("keeper", "service_mode", &json!({"service_url": base, "api_key": "k", "encryption_key": REFUSED})),
        import("keeper", "scim", &json!({"region": "US", "token": REFUSED})),
        import("keeper", "scim", &json!({"scim_url": "https://keeper.example/scim", "token": REFUSED})),
        json!({"tenant_id": "acme", "integration": "scim", "authentication_method": "none", "context": {"token": REFUSED}}),
        json!({"tenant_id": 5, "integration": "scim", "authentication_method": "bearer", "context": {"token": REFUSED}}),
        json!({"context": {"token": REFUSED}, "surplus": REFUSED}),
        json!([REFUSED]),
        json!(REFUSED),
    ];
    for (number, body) in bodies.iter().enumerate() {
        let reply = gateway.call("POST", "/integrated-account", Some(body)).await;
        assert!((400..600).contains(&told.keep(&format!("fumble {number}"), &reply)), "fumble {number}: {}", reply.text());
    }
    for (number, body) in [
        json!({"context": {"token": format!("{REFUSED}\nmore")}}),
        json!({"context": {"base_url": "https://elsewhere.example/scim"}}),
        json!({"context": {"base_url": format!("https://user:{REFUSED}@elsewhere.example/scim"), "token": REFUSED}}),
    ]
    .iter()
    .enumerate()
    {
        let reply = gateway.call("PATCH", &format!("/integrated-account/{account}"), Some(body)).await;
        assert!((400..600).contains(&told.keep(&format!("patch {number}"), &reply)), "patch {number}: {}", reply.text());
    }
    let client = crate::support::gateway::client();
    let cut = format!("{{\"tenant_id\": \"acme\", \"context\": {{\"token\": {}", serde_json::to_string(REFUSED).unwrap());
    let reply = client.post(format!("{}/integrated-account", gateway.base)).bearer_auth(ADMIN).body(cut).send().await.unwrap();
    told.0.push(("a cut body".into(), reply.bytes().await.unwrap().to_vec()));
    bodies.len() + 4
}

struct House {
    vendor: Vendor,
    mode: Arc<AtomicUsize>,
    accounts: Vec<(&'static str, String)>,
}

impl House {
    async fn link(&mut self, gateway: &Gateway, told: &mut Told, service: &str, api_key: &str) {
        let base = self.vendor.at("/scim");
        let links = [
            ("scim", "bearer", json!({"base_url": base, "token": BEARER})),
            ("scim", "basic", json!({"base_url": base, "username": "somebody", "password": PASSWORD})),
            ("scim", "header", json!({"base_url": base, "header_name": "X-Api-Key", "header_value": HEADER})),
            ("keeper", "service_mode", json!({"service_url": service, "api_key": api_key, "encryption_key": ANSWER_KEY})),
            ("keeper", "scim", json!({"scim_url": base, "token": SCIM_TOKEN})),
        ];
        for (integration, method, context) in links {
            let reply = gateway.call("POST", "/integrated-account", Some(&import(integration, method, &context))).await;
            assert_eq!(told.keep(&format!("link {method}"), &reply), 201, "{}", reply.text());
            self.accounts.push((method, reply.json()["id"].as_str().unwrap().to_owned()));
        }
    }

    /// Each failure of the vendor, through each way to it. Answers how many failures were seen.
    async fn fail(&self, gateway: &Gateway, told: &mut Told, transparent: &mut Told) -> usize {
        let mut failures = 0;
        for mode in 1..MODES {
            self.mode.store(mode, Ordering::SeqCst);
            let (method, account) = &self.accounts[mode % 3];
            for path in [
                "/unified/user-directory/users",
                "/unified/user-directory/users/u1",
                "/unified/user-directory/groups",
                "/proxy/Users",
            ] {
                let reply = gateway.get(&format!("{path}?integrated_account_id={account}")).await;
                failures += usize::from(told.keep(&format!("mode {mode} {method} {path}"), &reply) >= 400);
            }
            transparent.0.push((format!("mode {mode} passthrough"), pass(gateway, account).await));
            told.keep(&format!("mode {mode} account"), &gateway.get(&format!("/integrated-account/{account}")).await);
            let context = json!({"base_url": self.vendor.at("/scim"), "token": REFUSED});
            let reply = gateway.call("POST", "/integrated-account", Some(&import("scim", "bearer", &context))).await;
            failures += usize::from(told.keep(&format!("mode {mode} link"), &reply) >= 400);
            let context =
                json!({"service_url": self.vendor.at("/commander"), "api_key": SCIM_TOKEN, "encryption_key": ANSWER_KEY});
            let reply = gateway.call("POST", "/integrated-account", Some(&import("keeper", "service_mode", &context))).await;
            failures += usize::from(told.keep(&format!("mode {mode} service"), &reply) >= 400);
            self.revive(gateway, told).await;
        }
        failures
    }

    /// A vendor that said 401 made accounts inactive; a new credential of the same text brings them back.
    async fn revive(&self, gateway: &Gateway, told: &mut Told) {
        self.mode.store(0, Ordering::SeqCst);
        for ((method, account), (field, secret)) in
            self.accounts.iter().zip([("token", BEARER), ("password", PASSWORD), ("header_value", HEADER)])
        {
            let shown = gateway.get(&format!("/integrated-account/{account}")).await;
            if shown.json()["status"] != "active" {
                let body = json!({"context": {field: secret}});
                let reply = gateway.call("PATCH", &format!("/integrated-account/{account}"), Some(&body)).await;
                assert_eq!(told.keep(&format!("revive {method}"), &reply), 200, "{}", reply.text());
            }
        }
    }
}

fn ring_key(kept: &Kept) -> String {
    let path = match kept {
        Kept::Embedded(folder) => folder.path().join("store.keys"),
        Kept::Redis(_, folder) => folder.path().join("keys.json"),
    };
    let ring: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    ring["keys"][0]["key"].as_str().unwrap().to_owned()
}

async fn run(mut kept: Kept) {
    use rollcall::sandbox::keeper_commander::{API_KEY, Faults, start};
    let mode = Arc::new(AtomicUsize::new(0));
    let now = mode.clone();
    let vendor = Vendor::start(move |asked| misbehave(now.load(Ordering::SeqCst), asked));
    let (sandbox, _, running) =
        start(Faults { users: 5, queue: false, encryption_key: Some(ANSWER_KEY.into()), ..Faults::default() }).unwrap();
    tokio::spawn(running);
    let nobody = free_port();
    let allow = format!("{},{},127.0.0.1:{nobody}", vendor.authority(), sandbox.addr);
    let gateway = Gateway::start_with(&kept, &allow, &[("ROLLCALL_LOG", "trace")]);
    let (mut told, mut transparent) = (Told::default(), Told::default());
    let mut house = House { vendor, mode, accounts: Vec::new() };
    house.link(&gateway, &mut told, &sandbox.base, API_KEY).await;
    let api_token = gateway.token(&["admin"]).await;
    for (method, account) in &house.accounts {
        drive(&gateway, &mut told, account, method).await;
    }
    let mut failures = house.fail(&gateway, &mut told, &mut transparent).await;
    failures += fumble(&gateway, &mut told, &house.accounts[0].1, &house.vendor.at("/scim")).await;
    let gone = import("scim", "bearer", &json!({"base_url": format!("http://127.0.0.1:{nobody}/scim"), "token": REFUSED}));
    assert!(told.keep("a refused connection", &gateway.call("POST", "/integrated-account", Some(&gone)).await) >= 400);
    for token in [None, Some(&*api_token), Some(&api_token[..api_token.len() - 1])] {
        for path in [
            format!("/unified/user-directory/users?next_cursor=nonsense&api_key={api_token}"),
            format!("/nowhere?token={api_token}"),
            "/integrated-account".into(),
        ] {
            told.keep("a token in odd places", &gateway.call_as(token, "GET", &path, None).await);
        }
    }
    if let Kept::Redis(server, _) = &mut kept {
        let mut connection = server.connection();
        let _: () = redis::cmd("SAVE").query(&mut connection).unwrap();
        drop(connection);
        server.kill();
        tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
        for (method, account) in &house.accounts {
            for path in [
                format!("/integrated-account/{account}"),
                format!("/unified/user-directory/users?integrated_account_id={account}"),
                "/readyz".into(),
            ] {
                let reply = gateway.get(&path).await;
                failures += usize::from(told.keep(&format!("store down {method} {path}"), &reply) >= 400);
            }
        }
        server.restart();
    }
    told.keep("metrics", &gateway.get("/metrics").await);
    assert!(failures >= 40, "only {failures} failures were seen");
    assert!(
        house.vendor.asked().iter().any(|asked| asked.header("authorization").contains(BEARER)),
        "the vendor itself gets its key"
    );
    let redacted = told
        .0
        .iter()
        .filter(|(_, bytes)| [&b"***"[..], b" is wrong"].iter().all(|part| super::bar_canaries::occurs(bytes, part)))
        .count();
    assert!(redacted > 5, "what vendors wrote back was shown, without the secrets: {redacted}");
    let said = gateway.said();
    assert!(said.lines().count() > 100, "trace says little");
    sandbox.stop().await;
    // What the process itself is told is a secret of ours; what a vendor is told is one of the account's.
    let ours = || {
        vec![
            Canary::new("administrator", ADMIN),
            Canary::new("API token", api_token.clone()),
            Canary::new("root key", ring_key(&kept)),
        ]
    };
    let mut all = ours();
    for (name, text) in [
        ("bearer", BEARER),
        ("password", PASSWORD),
        ("header", HEADER),
        ("SCIM token", SCIM_TOKEN),
        ("answer key", ANSWER_KEY),
        ("API key", API_KEY),
        ("refused", REFUSED),
    ] {
        all.push(Canary::new(name, text));
    }
    let (all, ours) = (Canaries::new(all), Canaries::new(ours()));
    let mut hits = all.hits("stderr", said.as_bytes());
    told.0.iter().for_each(|(what, bytes)| hits.extend(all.hits(what, bytes)));
    // A passthrough answer is the vendor's to the byte, so only what is ours must not be in it.
    transparent.0.iter().for_each(|(what, bytes)| hits.extend(ours.hits(what, bytes)));
    let places = match &kept {
        Kept::Embedded(folder) => files(&folder.path().join("store")),
        Kept::Redis(server, _) => files(server.folder()),
    };
    assert!(!places.is_empty());
    // The run's own way in for the command line is another token, in a file of mode 0600.
    places.iter().for_each(|(name, bytes)| hits.extend(all.hits(name, bytes)));
    assert!(hits.is_empty(), "{} hits:\n{}", hits.len(), hits.iter().take(40).cloned().collect::<Vec<_>>().join("\n"));
}

#[tokio::test]
async fn v_01_no_secret_leaves_the_process_embedded() {
    run(Kept::embedded()).await;
}

#[tokio::test]
async fn v_01_no_secret_leaves_the_process_redis() {
    run(Kept::redis()).await;
}
