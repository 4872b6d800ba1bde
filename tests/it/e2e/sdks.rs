//! Vendors' own SDKs as clients of the passthrough: only the address and the key are changed, and our token never reaches the
//! vendor.

use std::{
    collections::BTreeMap,
    io::Write,
    process::Command,
    sync::{Arc, Mutex},
};

use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};

use super::{
    bar_vendor::{Act, Asked, Vendor, answer, scim},
    cli::run,
    vendor::overlay,
};
use crate::support::{
    gateway::{Gateway, Kept},
    peers,
    redis::Certificates,
};

const SECRET: &str = "the-vendors-own-secret";

fn said(command: &mut Command) -> Value {
    let (code, out, err) = run(command);
    assert_eq!(code, Some(0), "{out}{err}");
    serde_json::from_str(&out).unwrap_or_else(|why| panic!("{why}: {out}{err}"))
}

fn reply(status: u16, headers: &[(&str, &str)], body: &Value) -> Act {
    let headers: Vec<_> = [("content-type", "application/json; charset=utf-8")].iter().chain(headers).copied().collect();
    Act::Send(answer(status, &headers, body.to_string().as_bytes()))
}

/// A vendor whose answers may name its own address.
fn vendor(script: impl Fn(&Asked, &str) -> Act + Send + Sync + 'static) -> Vendor {
    let base = Arc::new(Mutex::new(String::new()));
    let own = base.clone();
    let vendor = Vendor::start(move |asked| match asked.path() {
        "/Users" | "/ServiceProviderConfig" => scim(asked, 1),
        _ => script(asked, &own.lock().unwrap()),
    });
    *base.lock().unwrap() = vendor.at("");
    vendor
}

/// Everything came with the vendor's own credential, and nothing with ours.
fn is_clean(vendor: &Vendor, token: &str) {
    for asked in vendor.asked() {
        assert_eq!(asked.header("authorization"), format!("Bearer {SECRET}"), "{asked:?}");
        assert!(!format!("{asked:?}").contains(&token[..30]), "{asked:?}");
    }
}

fn asked(vendor: &Vendor, path: &str) -> usize {
    vendor.asked().iter().filter(|asked| asked.path().starts_with(path)).count()
}

fn body(asked: &Asked) -> Value {
    serde_json::from_slice(&asked.body).unwrap_or_default()
}

#[tokio::test]
async fn oktas_sdk_follows_every_page_through_us() {
    let vendor = vendor(|asked, own| match (asked.method.as_str(), asked.path()) {
        ("GET", "/api/v1/users") => {
            let after = asked.number("after", 0);
            let users: Vec<Value> = (after..(after + 2).min(5)).map(|n| json!({"id": format!("u{n}"), "profile": {}})).collect();
            let own_link = format!("<{own}{}>; rel=\"self\"", asked.target);
            let next = format!("<{own}/api/v1/users?after={}&limit=2>; rel=\"next\"", after + 2);
            let links: &[(&str, &str)] = &[("link", &own_link), ("link", &next)];
            reply(200, if after + 2 < 5 { links } else { &links[..1] }, &json!(users))
        }
        ("POST", "/api/v1/users") => reply(200, &[], &json!({"id": "new", "profile": body(asked)["profile"]})),
        ("GET", "/api/v1/users/u%201%2Bx%40vendor.example") => reply(200, &[], &json!({"id": "odd"})),
        _ => reply(404, &[], &json!({"errorCode": "E0000007", "errorSummary": "Not found", "errorCauses": []})),
    });
    let gateway =
        Gateway::start_with(&Kept::embedded(), &vendor.authority(), &[("ROLLCALL_PUBLIC_URL", "http://127.0.0.1:{port}")]);
    let account = gateway.link("scim", "bearer", json!({"base_url": vendor.at(""), "token": SECRET})).await;
    let token = gateway.token(&["proxy:read", "proxy:write"]).await;
    let place = format!("{}/passthrough/{account}", gateway.base);
    let said = said(peers::node("sdks").arg("okta").args([&place, &token]));
    assert_eq!(said["users"], json!(["u0", "u1", "u2", "u3", "u4"]), "{said}");
    assert_eq!((&said["got"], &said["created"]), (&json!("odd"), &json!("Grüße")), "{said}");
    assert_eq!(said["missing"], json!([404, "E0000007"]));
    assert_eq!(asked(&vendor, "/api/v1/users"), 6);
    is_clean(&vendor, &token);
}

#[tokio::test]
async fn microsofts_sdk_follows_links_of_bodies_over_tls() {
    let certificates = Certificates::make();
    let vendor = vendor(|asked, own| match (asked.method.as_str(), asked.path()) {
        ("GET", "/v1.0/users") => {
            let skip = asked.number("$skiptoken", 0);
            let users: Vec<Value> = (skip..(skip + 2).min(5)).map(|n| json!({"id": format!("u{n}")})).collect();
            let link = if skip + 2 < 5 { "@odata.nextLink" } else { "@odata.deltaLink" };
            let mut page = BTreeMap::from([("value", json!(users)), ("@odata.context", json!(format!("{own}/v1.0/$metadata")))]);
            page.insert(link, json!(format!("{own}/v1.0/users?$top=2&$skiptoken={}", skip + 2)));
            reply(200, &[], &json!(page))
        }
        ("POST", "/v1.0/users") => reply(201, &[("location", &format!("{own}/v1.0/users/new"))], &body(asked)),
        ("GET", "/v1.0/me/photo/$value") => Act::Send(answer(200, &[("content-type", "image/jpeg")], &[0xff, 0xd8, 0, 1])),
        _ => reply(404, &[], &json!({"error": {"code": "Request_ResourceNotFound", "message": "No."}})),
    });
    let kept = Kept::embedded();
    let folder = kept.folder().join("connectors");
    overlay(&folder, |name, text| match name {
        "connector.yaml" => {
            let links = r#"proxy: { links: ['"@odata.nextLink"', '"@odata.deltaLink"'] }"#;
            text.replace("level: beta\n", &format!("level: beta\n{links}\n"))
        }
        _ => text,
    });
    let [certificate, key] = certificates.pair();
    let settings = [
        ("ROLLCALL_PUBLIC_URL", "https://localhost:{port}"),
        ("ROLLCALL_TLS_CERT_FILE", certificate.to_str().unwrap()),
        ("ROLLCALL_TLS_KEY_FILE", key.to_str().unwrap()),
        ("ROLLCALL_CONNECTORS_DIR", folder.to_str().unwrap()),
    ];
    let gateway = Gateway::start_with(&kept, &vendor.authority(), &settings);
    let account = gateway.link("scim", "bearer", json!({"base_url": vendor.at(""), "token": SECRET})).await;
    let token = gateway.token(&["proxy:read", "proxy:write"]).await;
    let place = format!("{}/passthrough/{account}/", gateway.base);
    let mut sdk = peers::node("sdks");
    let said = said(sdk.arg("graph").args([&place, &token]).env("NODE_EXTRA_CA_CERTS", certificates.ca()));
    assert_eq!(said["users"], json!(["u0", "u1", "u2", "u3", "u4"]), "{said}");
    assert_eq!(said["delta"], format!("{place}v1.0/users?$top=2&$skiptoken=6"));
    assert_eq!((&said["created"], &said["photo"]), (&json!("Grüße"), &json!([255, 216, 0, 1])));
    assert_eq!(said["missing"], json!([404, "Request_ResourceNotFound"]));
    assert_eq!(asked(&vendor, "/v1.0/users"), 5);
    assert!(vendor.asked().iter().any(|asked| asked.header("consistencylevel") == "eventual"));
    is_clean(&vendor, &token);
}

#[tokio::test]
async fn googles_client_pages_and_writes_through_us() {
    let vendor = vendor(|asked, _| match (asked.method.as_str(), asked.path()) {
        ("GET", "/admin/directory/v1/users") => {
            let page = asked.number("pageToken", 0);
            let users: Vec<Value> = (page..(page + 2).min(5)).map(|n| json!({"id": format!("u{n}")})).collect();
            let mut body = json!({"users": users});
            if page + 2 < 5 {
                body["nextPageToken"] = json!((page + 2).to_string());
            }
            assert!(asked.header("accept-encoding").contains("gzip"), "{asked:?}");
            let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
            packed.write_all(body.to_string().as_bytes()).unwrap();
            let headers = [("content-type", "application/json"), ("content-encoding", "gzip"), ("vary", "accept-encoding")];
            Act::Send(answer(200, &headers, &packed.finish().unwrap()))
        }
        ("POST", "/admin/directory/v1/users") => reply(200, &[], &body(asked)),
        ("DELETE", "/admin/directory/v1/users/a%20b%2Bc%40vendor.example") => Act::Send(answer(204, &[], b"")),
        _ => reply(404, &[], &json!({"error": {"code": 404, "message": "Resource Not Found: userKey"}})),
    });
    let gateway = Gateway::start(&Kept::embedded(), &vendor.authority());
    let account = gateway.link("scim", "bearer", json!({"base_url": vendor.at(""), "token": SECRET})).await;
    let token = gateway.token(&["proxy:read", "proxy:write"]).await;
    let place = format!("{}/passthrough/{account}/", gateway.base);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers/google_client.py");
    let said = said(Command::new(peers::python()).arg(script).args([&place, &token]));
    assert_eq!(said["users"], json!(["u0", "u1", "u2", "u3", "u4"]), "{said}");
    assert_eq!((&said["created"], &said["deleted"]), (&json!("Grüße"), &json!("")), "{said}");
    assert_eq!(said["missing"], json!([404, "Resource Not Found: userKey"]));
    is_clean(&vendor, &token);
}
