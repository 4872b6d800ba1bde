//! `/custom`: a caller's own request, under the transparent proxy's checks, with the answer judged and wrapped.

use std::net::SocketAddr;

use serde_json::{Value, json};

use super::{
    bar_vendor::{Act, Asked, Vendor},
    vendor::{names, problem},
};
use crate::{
    http::wire::request,
    support::gateway::{ADMIN, Answer, Gateway, Kept},
};

const TOKEN: &str = "vendors-own-token-2f81c4";

fn send(status: u16, kind: &str, body: &[u8]) -> Act {
    let head = format!("HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nETag: \"7\"\r\nContent-Length: {}\r\n\r\n", body.len());
    Act::Send([head.as_bytes(), body].concat())
}

fn json_reply(status: u16, body: &Value) -> Act {
    send(status, "application/json", body.to_string().as_bytes())
}

/// Answers with what it was asked, but for some paths.
fn echo(asked: &Asked) -> Act {
    match asked.path() {
        "/v2/binary" => send(200, "application/octet-stream", &[0, 159, 146, 150, 255]),
        "/v2/empty" => Act::Send(b"HTTP/1.1 204 X\r\n\r\n".to_vec()),
        "/v2/html" => send(200, "text/html", b"<p>x</p>"),
        "/v2/cut" => send(200, "application/json", b"{\"a\":"),
        "/v2/large" => Act::Stream(24 << 20),
        "/v2/refused" => json_reply(422, &json!({"errors": [{"detail": "email is invalid"}]})),
        "/v2/missing" => json_reply(404, &json!({"message": "no such thing"})),
        "/v2/broken" => json_reply(500, &json!({"message": "it broke"})),
        "/v2/away" => Act::Send(b"HTTP/1.1 302 X\r\nLocation: https://evil.example/\r\nContent-Length: 0\r\n\r\n".to_vec()),
        "/v2/gone" => Act::End(Vec::new()),
        "/v2/ServiceProviderConfig" => json_reply(404, &json!({})),
        "/v2/Users" if asked.method == "GET" && asked.target.contains("count=1") => {
            json_reply(200, &json!({"totalResults": 0, "startIndex": 1, "itemsPerPage": 0, "Resources": []}))
        }
        _ => {
            let body = String::from_utf8_lossy(&asked.body).into_owned();
            json_reply(200, &json!({"method": asked.method, "target": asked.target, "body": body, "list": [{"n": 1}, {"n": 2}]}))
        }
    }
}

struct House {
    vendor: Vendor,
    gateway: Gateway,
    account: String,
    _kept: Kept,
}

impl House {
    async fn new(kept: Kept) -> House {
        let vendor = Vendor::start(echo);
        let gateway = Gateway::start(&kept, &vendor.authority());
        let account = gateway.link("scim", "bearer", json!({"base_url": vendor.at("/v2"), "token": TOKEN})).await;
        House { vendor, gateway, account, _kept: kept }
    }

    fn path(&self, path: &str) -> String {
        let join = if path.contains('?') { '&' } else { '?' };
        format!("/custom{path}{join}integrated_account_id={}", self.account)
    }

    async fn call(&self, method: &str, path: &str, body: Option<Value>) -> Answer {
        self.gateway.call(method, &self.path(path), body.as_ref()).await
    }

    async fn keyed(&self, key: &str, path: &str, body: Value) -> Answer {
        self.gateway.call_with(ADMIN, &[("Idempotency-Key", key)], "POST", &self.path(path), Some(&body)).await
    }

    fn last(&self) -> Asked {
        self.vendor.asked().pop().unwrap()
    }

    fn addr(&self) -> SocketAddr {
        self.gateway.base.trim_start_matches("http://").parse().unwrap()
    }
}

#[tokio::test]
async fn any_verb_goes_with_its_path_query_and_body_and_comes_back_wrapped() {
    let house = House::new(Kept::embedded()).await;
    for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] {
        let body = json!({"n": 1}).to_string();
        let sent = (method != "GET").then(|| json!({"n": 1}));
        let answer = house.call(method, "/a%20b/c:d?x[]=1&y=%2F", sent.clone()).await;
        assert_eq!(answer.status, 200, "{method}: {}", answer.text());
        let said = answer.json();
        assert_eq!((&said["next_cursor"], &said["prev_cursor"]), (&Value::Null, &Value::Null));
        let wanted = json!({"method": method, "target": "/v2/a%20b/c:d?x[]=1&y=%2F", "body": sent.map_or("", |_| &body), "list": [{"n": 1}, {"n": 2}]});
        assert_eq!(said["result"], wanted);
        assert_eq!(answer.header("etag"), Some("\"7\""), "{method}");
        assert_eq!(house.last().header("authorization"), format!("Bearer {TOKEN}"));
    }
    // As odd as vendors write them.
    for odd in ["a[b=1", "a]=%zz&&=", "a[b][c][d][e][f][g]=1", "%ff=%00", "integrated_account=1", "q=truto_x"] {
        let answer = house.call("GET", &format!("/x?{odd}"), None).await;
        assert_eq!(answer.json()["result"]["target"], format!("/v2/x?{odd}"), "{}", answer.text());
    }
    let flagged = house.call("POST", "/x?truto_body_passthrough=true", Some(json!({}))).await;
    assert_eq!(flagged.json()["result"]["target"], "/v2/x");
    let before = house.vendor.count();
    names(&house.call("GET", "/x?truto_nonsense=1", None).await, 400, "invalid_parameter", "truto_nonsense");
    names(&house.call("GET", "/x?%74ruto_nonsense=1", None).await, 400, "invalid_parameter", "truto_nonsense");
    let foreign = house.gateway.get("/custom/x").await;
    names(&foreign, 400, "invalid_parameter", "integrated_account_id");
    assert_eq!(house.vendor.count(), before);
}

#[tokio::test]
async fn no_header_of_the_callers_stands_in_for_ours_or_the_credentials() {
    let house = House::new(Kept::embedded()).await;
    let headers = [
        ("Cookie", "a=b"),
        ("X-Forwarded-For", "10.0.0.1"),
        ("Forwarded", "for=10.0.0.1"),
        ("Via", "1.1 x"),
        ("X_Under", "1"),
        ("Rollcall-Company", "17"),
        ("Proxy-Authorization", "Basic eDp5"),
        ("Idempotency-Key", "k-1"),
        ("X-Own", "kept"),
        ("Accept-Encoding", "gzip"),
    ];
    let answer = house.gateway.call_with(ADMIN, &headers, "POST", &house.path("/x"), Some(&json!({}))).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let asked = house.last();
    for (name, _) in &headers[..8] {
        assert_eq!(asked.header(&name.to_lowercase()), "", "{name}");
    }
    assert_eq!((asked.header("x-own"), asked.header("accept-encoding")), ("kept", "identity"));
    assert_eq!(asked.header("authorization"), format!("Bearer {TOKEN}"));
    assert!(!format!("{:?}", asked.headers).contains(ADMIN));
    let smuggled = format!("Bearer {ADMIN}");
    let headers = [("authorization", smuggled.as_str()), ("connection", "authorization, x-own"), ("x-own", "dropped")];
    let reply = request(house.addr(), "GET", &house.path("/y"), &headers, None);
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(house.last().header("authorization"), format!("Bearer {TOKEN}"), "it cannot be stripped");
    assert_eq!(house.last().header("x-own"), "");
}

#[tokio::test]
async fn hostile_paths_never_leave_the_base() {
    let house = House::new(Kept::embedded()).await;
    let bearer = format!("Bearer {ADMIN}");
    let ask = |target: &str| request(house.addr(), "GET", &house.path(target), &[("authorization", &bearer)], None);
    let before = house.vendor.count();
    for target in [
        "/../admin",
        "/a/../../admin",
        "/%2e%2e/admin",
        "/%252e%252e/admin",
        "/a/..%2fadmin",
        "/a%5c..%5cadmin",
        "/a/..;/admin",
        "/a%00b",
        "/a%0d%0ab",
        "/a/%c0%ae%c0%ae/b",
    ] {
        let reply = ask(target);
        assert_eq!((reply.status, reply.code().as_str()), (400, "invalid_path"), "{target}: {}", reply.text());
    }
    assert_eq!(house.vendor.count(), before, "nothing was sent");
    for (target, seen) in [("//evil.example/x", "/v2/evil.example/x"), ("/https://evil.example/x", "/v2/https://evil.example/x")]
    {
        let reply = ask(target);
        assert_eq!(reply.status, 200, "{target}: {}", reply.text());
        assert_eq!(house.last().target, seen, "below the vendor's own base");
    }
}

#[tokio::test]
async fn what_is_no_json_passes_as_it_is() {
    let house = House::new(Kept::embedded()).await;
    for method in ["GET", "POST"] {
        let answer = house.call(method, "/binary", None).await;
        assert_eq!((answer.status, answer.body.as_slice()), (200, &[0, 159, 146, 150, 255][..]), "{method}");
        assert_eq!(answer.header("content-type"), Some("application/octet-stream"));
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        let empty = house.call(method, "/empty", None).await;
        assert_eq!((empty.status, empty.body.len()), (204, 0), "{method}: {}", empty.text());
        assert_eq!(house.call(method, "/html", None).await.header("content-security-policy"), Some("sandbox"), "{method}");
    }
    let large = house.call("GET", "/large", None).await;
    assert_eq!((large.status, large.body.len()), (200, 24 << 20));
    problem(&house.call("GET", "/cut", None).await, 502, "vendor_bad_answer", "vendor");
    problem(&house.call("GET", "/away", None).await, 502, "vendor_error", "vendor");
}

#[tokio::test]
async fn a_vendors_errors_are_problems_with_its_words() {
    let house = House::new(Kept::embedded()).await;
    for method in ["GET", "PUT"] {
        let said = problem(&house.call(method, "/refused", None).await, 422, "vendor_error", "vendor");
        assert_eq!((&said["truto_is_remote_error"], &said["message"]), (&json!(true), &json!("email is invalid")), "{said}");
        assert_eq!(said["raw_response"], json!({"errors": [{"detail": "email is invalid"}]}));
        let said = problem(&house.call(method, "/missing", None).await, 404, "not_found", "gateway");
        assert_eq!((&said["truto_is_remote_error"], &said["raw_response"]["message"]), (&json!(true), &json!("no such thing")));
    }
    problem(&house.call("GET", "/broken", None).await, 500, "vendor_error", "vendor");
    let said = problem(&house.call("POST", "/broken", None).await, 500, "write_unconfirmed", "vendor");
    assert_eq!(said["raw_response"]["message"], "it broke", "{said}");
    let said = problem(&house.call("POST", "/gone", None).await, 502, "write_unconfirmed", "vendor");
    assert_eq!(said["truto_is_remote_error"], false, "{said}");
    let large = json!({"text": "x".repeat(1 << 20)});
    assert_eq!(house.call("POST", "/x", Some(large)).await.code(), "body_too_large");
}

#[tokio::test]
async fn a_write_takes_effect_once_under_its_key_on_both_stores() {
    for kept in Kept::each() {
        let house = House::new(kept).await;
        for (path, body) in [("/x", json!({"a": 1})), ("/binary", json!({"b": 1})), ("/gone", json!({"c": 1}))] {
            let before = house.vendor.count();
            let key = format!("key{}", path.replace('/', "-"));
            let first = house.keyed(&key, path, body.clone()).await;
            let again = house.keyed(&key, path, body.clone()).await;
            assert_eq!(house.vendor.count(), before + 1, "{path}: {}", again.text());
            assert_eq!((again.status, again.header("idempotent-replayed")), (first.status, Some("true")), "{path}");
            assert_eq!(
                (again.header("content-type"), again.header("etag")),
                (first.header("content-type"), first.header("etag"))
            );
            if path != "/gone" {
                assert_eq!(again.body, first.body, "{path}");
            }
            assert_eq!(house.keyed(&key, path, json!({"d": 1})).await.code(), "idempotency_key_reused", "{path}");
        }
        let overridden = async |method: &str| {
            let headers = [("Idempotency-Key", "overridden"), ("X-HTTP-Method-Override", method)];
            house.gateway.call_with(ADMIN, &headers, "POST", &house.path("/x"), Some(&json!({}))).await
        };
        assert_eq!(overridden("PATCH").await.status, 200);
        assert_eq!(overridden("DELETE").await.code(), "idempotency_key_reused", "another method is another call");
        let large = house.keyed("large", "/large", json!({})).await;
        problem(&large, 502, "write_unconfirmed", "vendor");
    }
}

#[tokio::test]
async fn method_config_passes_the_same_checks_or_is_refused_by_name() {
    let house = House::new(Kept::embedded()).await;
    let config = |config: Value| json!({"kept": 1, "methodConfig": config});
    let ask = config(json!({"method": "PUT", "path": "/other", "query": {"q": "a b"}, "response_path": "list[*].n"}));
    let answer = house.call("POST", "/x", Some(ask)).await;
    assert_eq!(answer.json()["result"], json!([1, 2]), "{}", answer.text());
    let asked = house.last();
    assert_eq!(
        (asked.method.as_str(), asked.target.as_str(), asked.body.as_slice()),
        ("PUT", "/v2/other?q=a%20b", &b"{\"kept\":1}"[..])
    );
    let before = house.vendor.count();
    let up = house.call("POST", "/x", Some(config(json!({"path": "/../admin"})))).await;
    problem(&up, 400, "invalid_path", "gateway");
    for odd in [
        json!({"base_url": "https://evil.example"}),
        json!({"headers": {"authorization": "x"}}),
        json!({"no_auth": true}),
        json!({"path": "https://evil.example/"}),
        json!({"path": "/users/{{id}}"}),
        json!(1),
    ] {
        names(&house.call("POST", "/x", Some(config(odd))).await, 400, "invalid_body", "methodConfig");
    }
    // A right to read is no right to choose another method.
    let reader = house.gateway.token(&["proxy:read"]).await;
    let sly = config(json!({"method": "DELETE"}));
    let refused = house.gateway.call_as(Some(&reader), "GET", &house.path("/x"), Some(&sly)).await;
    names(&refused, 400, "invalid_body", "methodConfig");
    for method in ["POST", "PUT", "PATCH", "DELETE"] {
        let refused = house.gateway.call_as(Some(&reader), method, &house.path("/x"), Some(&json!({}))).await;
        assert_eq!((refused.status, refused.code().as_str()), (403, "scope_missing"), "{method}");
    }
    assert_eq!(house.vendor.count(), before, "nothing was sent");
}

#[tokio::test]
async fn another_environments_account_is_a_missing_one() {
    let house = House::new(Kept::embedded()).await;
    let before = house.vendor.count();
    for id in ["0198f0c2-a1b0-7c1e-9a51-d2b53c1f0e77", "nonsense"] {
        for method in ["GET", "POST", "DELETE"] {
            let answer = house.gateway.call(method, &format!("/custom/x?integrated_account_id={id}"), None).await;
            problem(&answer, 404, "not_found", "gateway");
        }
    }
    assert_eq!(house.vendor.count(), before);
}

#[tokio::test]
async fn no_token_of_ours_reaches_the_vendor_and_no_reader_makes_it_write() {
    let house = House::new(Kept::embedded()).await;
    let reader = house.gateway.token(&["proxy:read"]).await;
    let path = house.path(&format!("/x?k={reader}&y=1"));
    let answer = house.gateway.call_with(&reader, &[("X-Api-Key", &reader)], "GET", &path, None).await;
    assert_eq!(answer.json()["result"]["target"], "/v2/x?y=1", "{}", answer.text());
    assert!(house.last().headers.iter().all(|(_, value)| !value.contains("rck_")));
    for path in [house.path("/x"), format!("/passthrough/{}/x", house.account)] {
        let refused = house.gateway.call_with(&reader, &[("X-HTTP-Method-Override", "DELETE")], "GET", &path, None).await;
        assert_eq!((refused.status, refused.code().as_str()), (403, "scope_missing"), "{path}");
    }
    assert_eq!(request(house.addr(), &"Y".repeat(33), "/x", &[], None).status, 400);
    let body = json!({"username": {"$serde_json::private::RawValue": "\"x\""}});
    let users = format!("/unified/user-directory/users?integrated_account_id={}", house.account);
    problem(&house.gateway.call("POST", &users, Some(&body)).await, 400, "invalid_body", "gateway");
}
