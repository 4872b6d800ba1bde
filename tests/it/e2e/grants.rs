//! Ways to a token that no shipped connector has yet: signed assertions and logins of a vendor's own, as files declare them.

use std::{fs, path::Path, process::Command};

use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde_json::{Value, json};

use super::{
    bar_canaries::{Canaries, Canary},
    bar_vendor::{Act, Asked, Vendor, answer, json_answer, scim},
    vendor::{names, overlay},
};
use crate::support::{
    gateway::{Answer, Gateway, Kept},
    peers,
};

const LINKS: &str = r#"link:
  - method: service_account
    fields:
      - { name: base_url, title: SCIM address, kind: base_url }
      - { name: token_url, title: Token endpoint, kind: endpoint }
      - { name: client_email, title: Service account, kind: text }
      - { name: private_key, title: Private key, kind: private_key }
      - { name: admin, title: Acts for, kind: text, required: false }
    hosts: { api: "{base_url}", login: "{token_url}" }
    token:
      grant: jwt_bearer
      url: "{token_url}"
      assertion: { key: "{private_key}", issuer: "{client_email}", claims: { scope: users.read, act: "{admin}" } }
    auth: { bearer: { token: "{access_token}" } }
  - method: certificate
    fields:
      - { name: base_url, title: SCIM address, kind: base_url }
      - { name: token_url, title: Token endpoint, kind: endpoint }
      - { name: client_id, title: Client, kind: text }
      - { name: key_id, title: Key, kind: text, required: false }
      - { name: private_key, title: Private key, kind: private_key }
      - { name: thumbprint, title: Fingerprint, kind: text, default: "00112233445566778899aabbccddeeff00112233" }
    hosts: { api: "{base_url}", login: "{token_url}" }
    token:
      url: "{token_url}"
      scope: scim.read
      client: assertion
      assertion: { key: "{private_key}", key_id: "{key_id}", thumbprint: "{thumbprint}" }
    auth: { bearer: { token: "{access_token}" } }
  - method: session
    fields:
      - { name: base_url, title: SCIM address, kind: base_url }
      - { name: token_url, title: Login, kind: endpoint }
      - { name: username, title: User, kind: text }
      - { name: password, title: Password, kind: secret }
    hosts: { api: "{base_url}", login: "{token_url}" }
    token:
      grant: login
      url: "{token_url}"
      login: { body: { user: "{username}", pass: "{password}" }, headers: { x-client: rollcall } }
      answer: { access_token: data.session, expires_in: data.ttl, error: fault }
      ends: [bad_login]
    auth: { headers: { headers: { x-session: "{access_token}" } } }
  - method: key_in_query
    fields:
      - { name: base_url, title: SCIM address, kind: base_url }
      - { name: api_key, title: Key, kind: secret }
    auth: { query: { query: { api_key: "{api_key}" } } }
  - method: open
    fields: [{ name: base_url, title: SCIM address, kind: base_url }]
    auth: { none: {} }
proxy: { links: [next] }
"#;

/// A gateway whose connector `scim` has these ways.
pub(super) fn gateway(kept: &Kept, allow: &str) -> Gateway {
    let folder = kept.folder().join("connectors");
    overlay(&folder, |name, text| match name {
        "connector.yaml" => {
            let head = text.split("link:\n").next().unwrap();
            format!("{head}{LINKS}")
        }
        _ => text,
    });
    Gateway::start_with(kept, allow, &[("ROLLCALL_CONNECTORS_DIR", folder.to_str().unwrap())])
}

/// A new RSA key: private and public PEM.
pub(super) fn key(folder: &Path) -> (String, Vec<u8>) {
    let openssl = |args: &str| {
        assert!(Command::new("openssl").args(args.split(' ')).current_dir(folder).output().unwrap().status.success())
    };
    openssl("genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out key.pem");
    openssl("pkey -in key.pem -pubout -out public.pem");
    (fs::read_to_string(folder.join("key.pem")).unwrap(), fs::read(folder.join("public.pem")).unwrap())
}

pub(super) async fn link(gateway: &Gateway, method: &str, context: &Value) -> Answer {
    let body = json!({"tenant_id": "acme", "integration": "scim", "authentication_method": method, "context": context});
    gateway.call("POST", "/integrated-account", Some(&body)).await
}

pub(super) async fn lists(gateway: &Gateway, linked: &Answer) {
    assert_eq!(linked.status, 201, "{}", linked.text());
    let id = linked.json()["id"].as_str().unwrap().to_owned();
    let users = gateway.get(&format!("/unified/user-directory/users?integrated_account_id={id}")).await;
    assert_eq!((users.status, users.json()["result"].as_array().map(Vec::len)), (200, Some(3)), "{}", users.text());
    assert!(!gateway.get(&format!("/integrated-account/{id}")).await.text().contains("PRIVATE KEY"));
}

#[tokio::test]
async fn a_service_accounts_signed_assertion_is_its_grant() {
    let kept = Kept::embedded();
    let (private, public) = key(kept.folder());
    let vendor = Vendor::start(move |asked| match asked.path() {
        "/token" => {
            let form = asked.form();
            assert_eq!(form["grant_type"], "urn:ietf:params:oauth:grant-type:jwt-bearer");
            let mut validation = Validation::new(Algorithm::RS256);
            validation.set_audience(&[form.get("audience").map_or(asked_audience(asked), String::clone)]);
            let key = DecodingKey::from_rsa_pem(&public).unwrap();
            match decode::<Value>(&form["assertion"], &key, &validation) {
                Ok(token) if token.claims["iss"] == "robot@vendor.example" && token.claims["scope"] == "users.read" => {
                    assert_eq!((&token.claims["sub"], token.claims.get("act")), (&json!("robot@vendor.example"), None));
                    json_answer(200, &json!({"access_token": "by-assertion", "expires_in": 3600}))
                }
                _ => json_answer(400, &json!({"error": "invalid_grant", "error_description": "the assertion is not good"})),
            }
        }
        _ if asked.header("authorization") == "Bearer by-assertion" => scim(asked, 3),
        _ => Act::Send(answer(401, &[], b"{}")),
    });
    let gateway = gateway(&kept, &vendor.authority());
    let context = |email: &str, key: &str| json!({"base_url": vendor.at("/scim"), "token_url": vendor.at("/token"), "client_email": email, "private_key": key});
    lists(&gateway, &link(&gateway, "service_account", &context("robot@vendor.example", &private)).await).await;
    // As the key file of a vendor has it.
    let one_line = private.trim().replace('\n', "\\n");
    lists(&gateway, &link(&gateway, "service_account", &context("robot@vendor.example", &one_line)).await).await;
    let refused = link(&gateway, "service_account", &context("somebody@vendor.example", &private)).await;
    assert_eq!((refused.status, refused.code().as_str()), (422, "credential_refused"), "{}", refused.text());
    for bad in [
        "no key",
        "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----",
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nA\n-----END ENCRYPTED PRIVATE KEY-----",
    ] {
        let refused = link(&gateway, "service_account", &context("robot@vendor.example", bad)).await;
        assert_eq!(refused.status, 422, "{bad}: {}", refused.text());
        assert!(refused.json()["field"].as_str().unwrap().ends_with("private_key"), "{}", refused.text());
    }
    assert!(!gateway.said().contains("BEGIN"), "a key is logged");
}

/// The endpoint's own address.
fn asked_audience(asked: &Asked) -> String {
    format!("http://{}/token", asked.header("host"))
}

/// The real provider checks issuer, subject, audience, life and signature, and that an assertion is used once.
#[tokio::test]
async fn a_client_shows_a_signed_assertion_instead_of_a_secret() {
    let peer = peers::oidc(600);
    let kept = Kept::embedded();
    let authority = peer.authority();
    let gateway = gateway(&kept, &authority);
    let signer = &peer.ready["signer"];
    let context = json!({"base_url": peer.base(), "token_url": peer.told("token_url"), "client_id": signer["id"],
        "key_id": "k1", "private_key": signer["key"]});
    lists(&gateway, &link(&gateway, "certificate", &context).await).await;
    let (other, _) = key(kept.folder());
    let mut stranger = context.clone();
    stranger["private_key"] = json!(other);
    let refused = link(&gateway, "certificate", &stranger).await;
    assert_eq!((refused.status, refused.code().as_str()), (422, "credential_refused"), "{}", refused.text());
    let mut odd = context;
    odd["thumbprint"] = json!("not hexadecimal");
    names(&link(&gateway, "certificate", &odd).await, 422, "field_not_writable", "thumbprint");
}

#[tokio::test]
async fn a_certificates_fingerprint_stands_in_the_assertions_header() {
    let kept = Kept::embedded();
    let (private, _) = key(kept.folder());
    let vendor = Vendor::start(move |asked| match asked.path() {
        "/token" => {
            let header = decode_header(&asked.form()["client_assertion"]).unwrap();
            let shown = header.x5t.or(header.x5t_s256).unwrap_or_default();
            json_answer(200, &json!({"access_token": format!("shown-{shown}"), "expires_in": "3600"}))
        }
        _ => match asked.header("authorization") {
            "Bearer shown-ABEiM0RVZneImaq7zN3u_wARIjM" => scim(asked, 3),
            _ => Act::Send(answer(401, &[], b"{}")),
        },
    });
    let gateway = gateway(&kept, &vendor.authority());
    let context = json!({"base_url": vendor.at("/scim"), "token_url": vendor.at("/token"), "client_id": "c", "private_key": private,
        "thumbprint": "00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:00:11:22:33"});
    lists(&gateway, &link(&gateway, "certificate", &context).await).await;
}

#[tokio::test]
async fn a_login_of_the_vendors_own_gives_a_session() {
    let vendor = Vendor::start(|asked| match asked.path() {
        "/login" => {
            let body: Value = serde_json::from_slice(&asked.body).unwrap();
            assert_eq!((asked.header("x-client"), asked.header("content-type")), ("rollcall", "application/json"));
            match (body["user"].as_str(), body["pass"].as_str()) {
                (Some("ada"), Some("synthetic pass\"word")) => {
                    json_answer(200, &json!({"data": {"session": "s-1", "ttl": "900"}}))
                }
                _ => json_answer(200, &json!({"fault": "bad_login"})),
            }
        }
        _ if asked.header("x-session") == "s-1" => scim(asked, 3),
        _ => Act::Send(answer(401, &[], b"{}")),
    });
    let kept = Kept::embedded();
    let gateway = gateway(&kept, &vendor.authority());
    let context = |password: &str| json!({"base_url": vendor.at("/scim"), "token_url": vendor.at("/login"), "username": "ada", "password": password});
    lists(&gateway, &link(&gateway, "session", &context("synthetic pass\"word")).await).await;
    let refused = link(&gateway, "session", &context("wrong")).await;
    assert_eq!((refused.status, refused.code().as_str()), (422, "credential_refused"), "{}", refused.text());
    assert!(refused.text().contains("bad_login"), "{}", refused.text());
}

/// A key that the vendor wants in the address, with letters that an address must not hold.
const KEY: &str = "synthetic key/of+the&query=5b0e";

/// A vendor that takes [`KEY`] in the query; it shows the key it got in its own links and refusals, as some do.
fn wants_key() -> Vendor {
    Vendor::start(|asked| {
        let query = asked.target.split_once('?').map_or("", |(_, query)| query);
        let shown = url::form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "api_key");
        let address = format!("http://{}{}", asked.header("host"), asked.target);
        let shown = shown.as_ref().map(|(_, key)| &**key);
        let said = json!({"detail": format!("no access to {address}"), "key": shown});
        match shown {
            Some(KEY) if asked.path().ends_with("/Groups") => json_answer(500, &said),
            Some(KEY) if asked.path().ends_with("/Things") => {
                let link = format!("<{address}&page=2>; rel=\"next\"");
                let headers = [("content-type", "application/json"), ("link", link.as_str()), ("location", address.as_str())];
                Act::Send(answer(200, &headers, json!({"things": [1], "next": address}).to_string().as_bytes()))
            }
            Some(KEY) => scim(asked, 3),
            _ => json_answer(401, &said),
        }
    })
}

/// A key in the query goes to the vendor with every kind of call, and nowhere else: not into a record, a cursor, a link on to the
/// next page, a refusal, the log or a metric, though the vendor shows it itself. What a caller gets byte for byte, the bodies of
/// `/passthrough` and `/custom`, is the vendor's own word but for its links.
#[tokio::test]
async fn a_key_in_the_query_goes_to_the_vendor_alone() {
    let vendor = wants_key();
    let kept = Kept::embedded();
    let gateway = gateway(&kept, &vendor.authority());
    let context = |key: &str| json!({"base_url": vendor.at("/scim"), "api_key": key});
    let linked = link(&gateway, "key_in_query", &context(KEY)).await;
    lists(&gateway, &linked).await;
    let id = linked.json()["id"].as_str().unwrap().to_owned();
    let mut told = vec![linked];
    let account = format!("integrated_account_id={id}");
    let users = format!("/unified/user-directory/users?{account}&limit=1");
    let first = gateway.get(&users).await;
    let (page, cursor) = (first.json(), first.json()["next_cursor"].as_str().unwrap().to_owned());
    assert_eq!(page["result"].as_array().map(Vec::len), Some(1), "{page}");
    told.push(first);
    let second = gateway.get(&format!("{users}&next_cursor={cursor}")).await;
    assert_eq!((second.status, second.json()["result"].as_array().map(Vec::len)), (200, Some(1)), "{}", second.text());
    told.push(second);
    for (path, is_good) in [
        (format!("/unified/user-directory/users/u1?{account}"), true),
        (format!("/proxy/Users?{account}"), true),
        (format!("/custom/Users?{account}"), true),
        (format!("/unified/user-directory/groups?{account}"), false),
        (format!("/proxy/Groups?{account}"), false),
        (format!("/passthrough/{id}/Users?count=1"), true),
        (format!("/passthrough/{id}/Things"), true),
        (format!("/integrated-account/{id}"), true),
        ("/log?limit=1000".to_owned(), true),
        ("/audit?limit=1000".to_owned(), true),
        ("/metrics".to_owned(), true),
    ] {
        let answer = gateway.get(&path).await;
        assert_eq!(answer.status < 300, is_good, "{path}: {} {}", answer.status, answer.text());
        if path.ends_with("/Things") {
            let next = answer.json()["next"].as_str().unwrap().to_owned();
            let ours = format!("/passthrough/{id}/Things");
            assert!(next.ends_with(&ours), "led to us, and without the key: {next}");
            let link = answer.header("link").unwrap();
            assert!(link.contains(&format!("{ours}?page=2>")), "{link}");
        }
        told.push(answer);
    }
    // The other key, wrong, is of this gateway too.
    let wrong = "another synthetic key/that&is=wrong-77";
    let refused = link(&gateway, "key_in_query", &context(wrong)).await;
    assert_eq!((refused.status, refused.code().as_str()), (422, "credential_refused"), "{}", refused.text());
    told.push(refused);
    let asked = vendor.asked();
    let encoded = "api_key=synthetic%20key%2Fof%2Bthe%26query%3D5b0e";
    let with_key = asked.iter().filter(|asked| asked.target.contains(encoded)).count();
    assert!(with_key >= 10 && asked.iter().all(|asked| asked.target.contains("api_key=")), "each request carries it: {with_key}");
    assert!(asked.iter().all(|asked| asked.header("authorization").is_empty()));
    let canaries = Canaries::new(vec![Canary::new("the key", KEY), Canary::new("the wrong key", wrong)]);
    let shown: Vec<String> = told
        .iter()
        .flat_map(|answer| {
            let headers: Vec<u8> = answer.headers.values().flat_map(|value| [value.as_bytes(), b"\n"].concat()).collect();
            [canaries.hits("a body", &answer.body), canaries.hits("headers", &headers)].concat()
        })
        .collect();
    assert_eq!(shown, Vec::<String>::new());
    assert_eq!(canaries.hits("the log", gateway.said().as_bytes()), Vec::<String>::new());
}

/// A vendor inside one's own walls may want nothing.
#[tokio::test]
async fn an_open_vendor_gets_no_credential() {
    let vendor = Vendor::start(|asked| scim(asked, 3));
    let kept = Kept::embedded();
    let gateway = gateway(&kept, &vendor.authority());
    let linked = link(&gateway, "open", &json!({"base_url": vendor.at("/scim")})).await;
    lists(&gateway, &linked).await;
    let id = linked.json()["id"].as_str().unwrap().to_owned();
    let passed = gateway.get(&format!("/passthrough/{id}/Users?count=1")).await;
    assert_eq!(passed.status, 200, "{}", passed.text());
    let asked = vendor.asked();
    let credentials = ["authorization", "proxy-authorization", "cookie", "x-api-key"];
    assert!(asked.len() >= 3);
    for asked in asked {
        assert!(credentials.iter().all(|name| asked.header(name).is_empty()), "{asked:?}");
    }
    let odd = link(&gateway, "open", &json!({"base_url": vendor.at("/scim"), "api_key": "of-another-way"})).await;
    assert!(odd.status == 201 || odd.status == 422, "{}", odd.text());
}

/// What makes a process's clock wrong by so much.
fn faked(shift: &str) -> [(&'static str, String); 3] {
    let folders = fs::read_dir("/usr/lib").unwrap().flatten();
    let library = folders.map(|folder| folder.path().join("faketime/libfaketimeMT.so.1")).find(|file| file.exists());
    let library = library.expect("faketime is installed by tests/run").display().to_string();
    [("LD_PRELOAD", library), ("FAKETIME", shift.to_owned()), ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned())]
}

/// An assertion says when it was made: whose clock is a day off gets no token, reads that, does not ask in circles, and goes on
/// once the clock is right.
#[tokio::test]
async fn r_09_assertions_of_a_clock_a_day_off_are_refused_without_a_loop() {
    let mut peer = peers::oidc(600);
    let kept = Kept::embedded();
    let authority = peer.authority();
    let signer = peer.ready["signer"].clone();
    let context = json!({"base_url": peer.base(), "token_url": peer.told("token_url"), "client_id": signer["id"],
        "key_id": "k1", "private_key": signer["key"]});
    let right = gateway(&kept, &authority);
    let linked = link(&right, "certificate", &context).await;
    lists(&right, &linked).await;
    assert!(right.stop());
    let id = linked.json()["id"].as_str().unwrap().to_owned();
    let users = format!("/unified/user-directory/users?integrated_account_id={id}");
    let folder = kept.folder().join("connectors");
    for shift in ["+24h", "-24h"] {
        let faked = faked(shift);
        let mut settings: Vec<_> = faked.iter().map(|(name, value)| (*name, value.as_str())).collect();
        settings.extend([("ROLLCALL_CONNECTORS_DIR", folder.to_str().unwrap()), ("ROLLCALL_PROBE_EVERY", "0")]);
        let wrong = Gateway::start_with(&kept, &authority, &settings);
        let before = peer.order(&json!({"revoke": true}))["asked"].as_u64().unwrap();
        let refused = link(&wrong, "certificate", &context).await;
        assert_eq!((refused.status, refused.code().as_str()), (422, "credential_refused"), "{shift}: {}", refused.text());
        assert!(refused.text().contains("invalid_client"), "{shift}: {}", refused.text());
        for _ in 0..30 {
            assert_eq!(wrong.get(&users).await.status, 401, "{shift}");
        }
        let asked = peer.order(&json!({}))["asked"].as_u64().unwrap() - before;
        assert!(asked <= 4, "{shift}: {asked} token calls");
        assert!(wrong.stop());
    }
    let right = gateway(&kept, &authority);
    let tested = right.call("POST", &format!("/integrated-account/{id}/test"), None).await;
    assert_eq!(tested.status, 200, "{}", tested.text());
    assert_eq!(right.get(&users).await.status, 200);
    assert_eq!(right.get("/integrated-account").await.json()["result"].as_array().map(Vec::len), Some(1));
}

/// What an endpoint says of the time decides nothing: a token lives as long from now as it says.
#[tokio::test]
async fn r_09_token_answers_dated_a_day_off_are_as_good_as_others() {
    for date in ["Thu, 01 Jan 1970 00:00:00 GMT", "Fri, 31 Dec 2100 23:59:59 GMT", "yesterday"] {
        let vendor = Vendor::start(move |asked| match asked.path() {
            "/login" => {
                let body = br#"{"data": {"session": "s-1", "ttl": 900}}"#;
                let headers = [("content-type", "application/json"), ("date", date), ("expires", date), ("age", "86400")];
                Act::Send(answer(200, &headers, body))
            }
            _ if asked.header("x-session") == "s-1" => scim(asked, 3),
            _ => Act::Send(answer(401, &[("date", date)], b"{}")),
        });
        let kept = Kept::embedded();
        let gateway = gateway(&kept, &vendor.authority());
        let context =
            json!({"base_url": vendor.at("/scim"), "token_url": vendor.at("/login"), "username": "ada", "password": "x"});
        let linked = link(&gateway, "session", &context).await;
        for _ in 0..10 {
            lists(&gateway, &linked).await;
        }
        assert_eq!(vendor.asked().iter().filter(|asked| asked.path() == "/login").count(), 1, "{date}");
    }
}
