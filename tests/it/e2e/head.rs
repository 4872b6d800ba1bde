//! `HEAD` answers as `GET` does, without a body, on every route of our own.

use std::net::SocketAddr;

use super::vendor::{Vendor, is_sound};
use crate::{
    http::wire::{Reply, connect, read_reply, request},
    support::gateway::{ADMIN, Gateway, Kept},
};

/// Status and headers that two answers to the same question have in common.
fn comparable(reply: &Reply) -> (u16, Vec<(String, String)>) {
    let mut headers = reply.headers.clone();
    headers.retain(|(name, _)| name != "date");
    headers.sort();
    (reply.status, headers)
}

#[tokio::test]
async fn head_is_get_without_a_body() {
    let kept = Kept::embedded();
    let vendor = Vendor::start();
    let gateway = Gateway::start(&kept, &vendor.authority());
    let account = gateway.link("scim", "bearer", vendor.context()).await;
    let addr: SocketAddr = gateway.base.strip_prefix("http://").unwrap().parse().unwrap();
    let bearer = format!("Bearer {ADMIN}");
    let headers = [("authorization", bearer.as_str()), ("x-request-id", "same")];
    let ask = |method: &str, path: &str| request(addr, method, path, &headers, None);
    for path in [
        "/ping",
        "/healthz",
        "/readyz",
        "//ping",
        "/openapi.json",
        "/docs/",
        "/errors/not_found",
        "/api-token",
        "/integration",
        "/integration/scim/capabilities",
        "/environment-integration",
        "/integrated-account",
        &format!("/integrated-account/{account}"),
        &format!("/unified/user-directory/users?integrated_account_id={account}&limit=5"),
        &format!("/unified/user-directory/users/1?integrated_account_id={account}"),
        &format!("/proxy/Users?integrated_account_id={account}"),
        "/nowhere",
        "/integrated-account/nonsense",
        "/unified/user-directory/users",
        &format!("/unified/user-directory/roles?integrated_account_id={account}"),
    ] {
        let (get, head) = (ask("GET", path), ask("HEAD", path));
        assert_eq!(comparable(&head), comparable(&get), "{path}");
        assert!(head.body.is_empty() && !get.body.is_empty(), "{path}");
    }
    let metrics = ask("HEAD", "/metrics");
    assert_eq!((metrics.status, metrics.body.len()), (200, 0));
    let refused = ask("PUT", "/integration");
    assert_eq!((refused.status, refused.header("allow")), (405, Some("GET, HEAD")));
    let nobody = request(addr, "HEAD", "/integrated-account", &[], None);
    assert_eq!(nobody.status, 401);
    is_sound(&gateway);
}

#[tokio::test]
async fn nothing_of_a_body_is_left_on_the_connection() {
    let kept = Kept::embedded();
    let gateway = Gateway::start(&kept, "");
    let mut stream = connect(gateway.base.strip_prefix("http://").unwrap().parse().unwrap());
    for method in ["HEAD", "GET", "HEAD", "GET"] {
        std::io::Write::write_all(&mut stream, format!("{method} /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).unwrap();
        let reply = read_reply(&mut stream, method == "HEAD");
        assert_eq!((reply.status, reply.body.is_empty()), (200, method == "HEAD"), "{method}");
    }
    is_sound(&gateway);
}
