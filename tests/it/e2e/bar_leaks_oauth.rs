//! V-01 for what OAuth adds: codes, verifiers, tokens, client secrets, signed assertions and link tokens leave the process
//! towards their vendor and nowhere else, however its token endpoint misbehaves and whatever it writes back.

use std::{
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

use super::{
    bar_canaries::{Canaries, Canary, files, occurs},
    bar_leaks::Told,
    bar_vendor::{Act, Asked, Vendor, answer, json_answer, scim},
    link::{Browser, hidden, leads_to, make, token},
    vendor::overlay,
};
use crate::support::gateway::{ADMIN, Gateway, Kept};

const CODE: &str = "cnry-code/7Hq+2~Zk=9_Vw";
const ACCESS: &str = "cnry-access/4Vb+mK~2w=q_";
const REFRESH: &str = "cnry-refresh/9Tz+Lc~5f=R_";
const CLIENT: &str = "cnry-client/3Xw+8\"Pn\\v=6";

/// A client that signs what it shows, beside the connector's own ways.
pub const SIGNING: &str = r#"
  - method: signing
    fields:
      - { name: base_url, title: SCIM address, kind: base_url }
      - { name: token_url, title: Token endpoint, kind: endpoint }
      - { name: client_id, title: Client, kind: text }
      - { name: private_key, title: Private key, kind: private_key }
    hosts: { api: "{base_url}", login: "{token_url}" }
    token: { url: "{token_url}", client: assertion, assertion: { key: "{private_key}" } }
    auth: { bearer: { token: "{access_token}" } }
"#;

/// How the token endpoint misbehaves; 0 is not at all.
const MODES: usize = 15;

fn form(asked: &Asked) -> Vec<(String, String)> {
    url::form_urlencoded::parse(&asked.body).into_owned().collect()
}

/// Everything the endpoint was shown, written back in several spellings.
fn echo(asked: &Asked) -> String {
    let authorization = asked.header("authorization");
    let shown = authorization.split_once(' ').map_or(authorization, |(_, shown)| shown);
    let pair = BASE64_STANDARD.decode(shown).ok().and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default();
    let mut text = format!("{authorization} {pair} {}", String::from_utf8_lossy(&asked.body));
    form(asked).iter().for_each(|(_, value)| text.push_str(&format!(" {value} {}", BASE64_STANDARD.encode(value))));
    text
}

fn misbehave(mode: usize, asked: &Asked) -> Act {
    let echo = echo(asked);
    let header = echo.replace(['\r', '\n'], " ");
    let headers = |kind: &'static str| [("content-type", kind), ("x-request-id", header.trim()), ("www-authenticate", &header)];
    let refusal = |status: u16, word: &str| {
        let body = json!({"error": word, "error_description": format!("{echo} is wrong"), "detail": echo}).to_string();
        Act::Send(answer(status, &headers("application/json"), body.as_bytes()))
    };
    let html = |status: u16| Act::Send(answer(status, &headers("text/html"), format!("<html><b>{echo}</b>").as_bytes()));
    match mode {
        1 => refusal(400, "invalid_grant"),
        2 => refusal(400, "try_it_tomorrow"),
        3 => refusal(401, "invalid_client"),
        4 => refusal(403, "access_denied"),
        5 => refusal(429, "slow_down"),
        6 => refusal(500, "server_error"),
        7 => refusal(400, &format!("odd {echo}")),
        8 => refusal(200, "invalid_grant"),
        9 => html(502),
        10 => html(200),
        11 => {
            let place = format!("http://elsewhere.example/?{}", String::from_utf8_lossy(&asked.body));
            Act::Send(answer(302, &[("location", &place)], echo.as_bytes()))
        }
        12 => Act::End(format!("HTTP/1.1 200 OK\r\ncontent-length: 9999\r\n\r\n{{\"access_token\": \"{echo}").into_bytes()),
        13 => Act::End(format!("HTTP/1.1 abc {header}\r\n\r\n").into_bytes()),
        14 => json_answer(200, &json!({"access_token": format!("{echo} \u{e9}"), "refresh_token": echo})),
        _ => json_answer(200, &json!({"access_token": ACCESS, "refresh_token": REFRESH, "expires_in": 3600})),
    }
}

/// A vendor whose endpoint is in this mode, and whose API takes tokens while that is 0.
fn vendor(mode: &Arc<AtomicUsize>) -> Vendor {
    let mode = mode.clone();
    Vendor::start(move |asked| match (asked.path(), mode.load(Ordering::SeqCst)) {
        ("/token" | "/revoke", mode) => misbehave(mode, asked),
        (_, 0) => scim(asked, 3),
        _ => Act::Send(answer(401, &[("www-authenticate", asked.header("authorization"))], echo(asked).as_bytes())),
    })
}

struct House {
    vendor: Vendor,
    mode: Arc<AtomicUsize>,
    gateway: Gateway,
    key: String,
    /// Texts that were not chosen here.
    made: Vec<(&'static str, String)>,
}

impl House {
    fn start(kept: &Kept) -> House {
        let mode = Arc::new(AtomicUsize::new(0));
        let vendor = vendor(&mode);
        let folder = kept.folder().join("connectors");
        overlay(&folder, |name, text| if name == "connector.yaml" { text + SIGNING } else { text });
        let settings = [("ROLLCALL_LOG", "trace"), ("ROLLCALL_CONNECTORS_DIR", folder.to_str().unwrap())];
        let gateway = Gateway::start_with(kept, &vendor.authority(), &settings);
        let key = Command::new("openssl").args(["genpkey", "-algorithm", "RSA"]).output().unwrap();
        let key = String::from_utf8(key.stdout).unwrap();
        let made = vec![("private key", key.lines().nth(5).unwrap().to_owned())];
        House { vendor, mode, gateway, key, made }
    }

    fn set(&self, mode: usize) {
        self.mode.store(mode, Ordering::SeqCst);
    }

    fn context(&self) -> Value {
        json!({"base_url": self.vendor.at("/scim"), "authorize_url": self.vendor.at("/auth"), "token_url": self.vendor.at("/token"),
            "revoke_url": self.vendor.at("/revoke"), "client_id": "the-client", "client_secret": CLIENT})
    }

    /// A customer agrees and comes back with a code, which the endpoint answers in this mode.
    async fn agree(&mut self, told: &mut Told, mode: usize) {
        let link = make(&self.gateway, json!({"tenant_id": "acme"})).await;
        let context = self.context();
        let mut browser = Browser::new(&self.gateway);
        let page = browser.open(token(&link), "&integration=scim&auth_format=oauth2").await;
        let session = hidden(&page, "session");
        let mut fields = vec![("session", session.as_str()), ("step", "submit"), ("integration", "scim"), ("method", "oauth2")];
        let names: Vec<_> = context.as_object().unwrap().keys().map(|name| (format!("f.{name}"), &context[name])).collect();
        fields.extend(names.iter().map(|(name, value)| (name.as_str(), value.as_str().unwrap())));
        let left = browser.post(&fields).await;
        assert_eq!(told.keep("on the way to the vendor", &left), 200, "{}", left.text());
        let state = leads_to(&left).query_pairs().find(|(name, _)| name == "state").unwrap().1.into_owned();
        let query =
            url::form_urlencoded::Serializer::new(String::new()).extend_pairs([("state", &*state), ("code", CODE)]).finish();
        self.set(mode);
        let came = browser.get(&format!("/connect/scim/callback?{query}")).await;
        told.keep(&format!("mode {mode} came back"), &came);
        // Somebody else's try with the same, and the same once more.
        for client in [&mut Browser::new(&self.gateway), &mut browser] {
            told.keep("once more", &client.get(&format!("/connect/scim/callback?{query}&iss=x")).await);
        }
        self.set(0);
        self.made.push(("link token", token(&link).trim_start_matches("lnk_").to_owned()));
    }

    /// An account with tokens from before loses its access token, and the endpoint answers in this mode.
    async fn refresh(&self, told: &mut Told, mode: usize) -> usize {
        let mut context = self.context();
        context["oauth"] = json!({"token": {"access_token": format!("{ACCESS}old"), "refresh_token": REFRESH}});
        let linked = self.import(told, "oauth2", &context).await;
        self.set(mode);
        let mut failures = 0;
        for path in ["/unified/user-directory/users", "/proxy/Users", "/custom/Users"] {
            let reply = self.gateway.get(&format!("{path}?integrated_account_id={linked}")).await;
            failures += usize::from(told.keep(&format!("mode {mode} {path}"), &reply) >= 400);
        }
        let path = format!("/integrated-account/{linked}");
        for (method, path) in [("POST", format!("{path}/test")), ("GET", path.clone()), ("DELETE", path)] {
            told.keep(&format!("mode {mode} {method} {path}"), &self.gateway.call(method, &path, None).await);
        }
        // Tokens whose first use is a refresh, and a client that signs.
        context["oauth"]["token"] = json!({"refresh_token": REFRESH});
        let signing = json!({"base_url": self.vendor.at("/scim"), "token_url": self.vendor.at("/token"), "client_id": "the-client",
            "private_key": self.key});
        for (method, context) in [("oauth2", context), ("signing", signing)] {
            let body = json!({"tenant_id": "acme", "integration": "scim", "authentication_method": method, "context": context});
            let reply = self.gateway.call("POST", "/integrated-account", Some(&body)).await;
            failures += usize::from(told.keep(&format!("mode {mode} import by {method}"), &reply) >= 400);
        }
        self.set(0);
        failures
    }

    async fn import(&self, told: &mut Told, method: &str, context: &Value) -> String {
        let body = json!({"tenant_id": "acme", "integration": "scim", "authentication_method": method, "context": context});
        let reply = self.gateway.call("POST", "/integrated-account", Some(&body)).await;
        assert_eq!(told.keep("import", &reply), 201, "{}", reply.text());
        reply.json()["id"].as_str().unwrap().to_owned()
    }

    /// What the vendor was shown under these names.
    fn shown(&self, name: &'static str) -> Vec<(&'static str, String)> {
        let forms = self.vendor.asked().iter().flat_map(form).collect::<Vec<_>>();
        let mut shown: Vec<_> = forms.into_iter().filter(|(given, _)| given == name).map(|(_, text)| (name, text)).collect();
        shown.dedup();
        shown
    }
}

async fn run(kept: Kept) {
    let (mut house, mut told, mut failures) = (House::start(&kept), Told::default(), 0);
    for mode in (1..MODES).chain([0]) {
        house.agree(&mut told, mode).await;
        failures += house.refresh(&mut told, mode).await;
    }
    assert!(failures > 3 * MODES, "only {failures} failures were seen");
    for path in
        ["/log?limit=1000", "/audit?limit=1000", "/event?limit=1000", "/export?tenant_id=acme", "/integrated-account", "/metrics"]
    {
        assert_eq!(told.keep(path, &house.gateway.get(path).await), 200, "{path}");
    }
    let is_redacted = |bytes: &Vec<u8>| occurs(bytes, b"***") && occurs(bytes, b" is wrong");
    assert!(told.0.iter().any(|(_, bytes)| is_redacted(bytes)), "nothing of what the endpoint said was shown");
    let (verifiers, assertions) = (house.shown("code_verifier"), house.shown("client_assertion"));
    assert!(verifiers.len() >= MODES && assertions.len() >= MODES, "{} {}", verifiers.len(), assertions.len());
    assert!(house.shown("code").iter().all(|(_, code)| code == CODE) && !house.shown("refresh_token").is_empty());
    let chosen =
        [("code", CODE), ("access token", ACCESS), ("refresh token", REFRESH), ("client secret", CLIENT), ("admin", ADMIN)];
    let mut all: Vec<_> = chosen.iter().map(|(name, text)| Canary::new(name, *text)).collect();
    // Of an assertion the signature alone: its claims are known to everybody, and to the second.
    let signatures = assertions.iter().map(|(name, text)| (*name, text.rsplit('.').next().unwrap().to_owned()));
    let made = house.made.iter().cloned().chain(verifiers).chain(signatures);
    all.extend(made.map(|(name, text)| Canary::new(name, text)));
    let canaries = Canaries::new(all);
    let said = house.gateway.said();
    assert!(said.lines().count() > 100, "trace says little");
    let mut hits = canaries.hits("stderr", said.as_bytes());
    told.0.iter().for_each(|(what, bytes)| hits.extend(canaries.hits(what, bytes)));
    let places = match &kept {
        Kept::Embedded(folder) => files(&folder.path().join("store")),
        Kept::Redis(server, _) => {
            let _: () = redis::cmd("SAVE").query(&mut server.connection()).unwrap();
            files(server.folder())
        }
    };
    assert!(!places.is_empty());
    places.iter().for_each(|(name, bytes)| hits.extend(canaries.hits(name, bytes)));
    assert!(hits.is_empty(), "{} hits:\n{}", hits.len(), hits.iter().take(40).cloned().collect::<Vec<_>>().join("\n"));
}

#[tokio::test]
async fn v_01_nothing_of_a_consent_leaves_the_process_embedded() {
    run(Kept::embedded()).await;
}

#[tokio::test]
async fn v_01_nothing_of_a_consent_leaves_the_process_redis() {
    run(Kept::redis()).await;
}
