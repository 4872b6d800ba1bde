//! G-05: a vendor's redirect is never followed, by none of the clients in the process.

use std::sync::{
    Arc,
    atomic::{AtomicU16, AtomicUsize, Ordering},
};

use serde_json::json;

use super::bar_vendor::{Act, Vendor, answer, scim};
use crate::support::gateway::{Gateway, Kept};

#[tokio::test]
async fn g_05_redirects_do_not_leak() {
    let second = Vendor::start(|asked| scim(asked, 3));
    let (status, form) = (Arc::new(AtomicU16::new(0)), Arc::new(AtomicUsize::new(0)));
    let port = second.port;
    let targets = move |own: &str| {
        [
            format!("http://127.0.0.1:{port}/stolen"),
            format!("http://localhost:{port}/stolen"),
            format!("https://127.0.0.1:{port}/stolen"),
            format!("//127.0.0.1:{port}/stolen"),
            format!("http://{own}@127.0.0.1:{port}/stolen"),
            "/moved/Users".to_owned(),
        ]
    };
    let (now, which, places) = (status.clone(), form.clone(), targets);
    let vendor = Vendor::start(move |asked| match now.load(Ordering::SeqCst) {
        0 => scim(asked, 3),
        status => {
            let place = &places("a.example")[which.load(Ordering::SeqCst)];
            Act::Send(answer(status, &[("location", place), ("refresh", &format!("0; url={place}"))], b"moved"))
        }
    });
    let gateway =
        Gateway::start(&Kept::embedded(), &format!("{},{},localhost:{port},127.0.0.0/8", vendor.authority(), second.authority()));
    let contexts = [
        ("bearer", json!({"base_url": vendor.at("/scim"), "token": "redirected-token"})),
        ("basic", json!({"base_url": vendor.at("/scim"), "username": "somebody", "password": "redirected-password"})),
        ("header", json!({"base_url": vendor.at("/scim"), "header_name": "X-Api-Key", "header_value": "redirected-value"})),
    ];
    let mut accounts = Vec::new();
    for (method, context) in &contexts {
        accounts.push(gateway.link("scim", method, context.clone()).await);
    }
    for (number, place) in targets("a.example").iter().enumerate() {
        form.store(number, Ordering::SeqCst);
        for code in [301, 302, 303, 307, 308] {
            status.store(code, Ordering::SeqCst);
            let (account, (method, context)) = (&accounts[number % 3], &contexts[number % 3]);
            for path in [
                format!("/unified/user-directory/users?integrated_account_id={account}"),
                format!("/unified/user-directory/users/u1?integrated_account_id={account}"),
                format!("/proxy/Users?integrated_account_id={account}"),
            ] {
                let reply = gateway.get(&path).await;
                assert!(reply.status >= 300 && reply.header("location").is_none(), "{code} {place} {path}: {}", reply.text());
                assert!(reply.header("rollcall-error").is_some(), "{path}");
            }
            for verb in ["GET", "POST"] {
                let reply = gateway.call(verb, &format!("/passthrough/{account}/Users"), None).await;
                assert_eq!(reply.status, code, "{place}: {}", reply.text());
                let location = reply.header("location").unwrap_or_default();
                assert!(!location.contains(&port.to_string()), "{place}: {location}");
                assert_eq!(reply.header("refresh"), None);
            }
            let body = json!({"tenant_id": "acme", "integration": "scim", "authentication_method": method, "context": context});
            let reply = gateway.call("POST", "/integrated-account", Some(&body)).await;
            assert!((400..600).contains(&reply.status), "{code} {place}: {}", reply.text());
        }
    }
    assert_eq!(second.count(), 0, "{:?}", second.asked());
    assert!(vendor.asked().iter().all(|asked| !asked.target.starts_with("/moved")), "a redirect to the same host was followed");
}
