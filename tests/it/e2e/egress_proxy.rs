//! Everything that leaves through one proxy: both clients, what the guard refuses, and a proxy that does not do its part.

use serde_json::{Value, json};

use super::{
    vendor::{SECRET, Vendor, is_sound, problem},
    vendor_tls::{Https, passed_through},
};
use crate::support::{
    connect_proxy::{ConnectProxy, Manner},
    gateway::{Gateway, Kept},
    redis::{Certificates, free_port},
};

const USERS: &str = "/unified/user-directory/users";
const PASSWORD: &str = "pa55:word%of-the-proxy";
/// `operator` and the password in base64.
const LOGIN: &str = "Basic b3BlcmF0b3I6cGE1NTp3b3JkJW9mLXRoZS1wcm94eQ==";

/// The proxy's address with its login, written as a URL wants it.
fn address(port: u16) -> String {
    format!("http://operator:pa55%3Aword%25of-the-proxy@127.0.0.1:{port}")
}

fn is_quiet(gateway: &Gateway) {
    let said = gateway.said();
    assert!(
        !said.contains(PASSWORD) && !said.contains("pa55") && !said.contains(LOGIN),
        "the proxy's login is in the log:\n{said}"
    );
    is_sound(gateway);
}

#[tokio::test]
async fn every_call_goes_through_the_proxy() {
    let (kept, certificates) = (Kept::embedded(), Certificates::make());
    let (https, plain, proxy) = (Https::start(&certificates), Vendor::start(), ConnectProxy::start(Some(LOGIN)));
    let file = kept.folder().join("proxy");
    std::fs::write(&file, format!("{}\n", address(proxy.port))).unwrap();
    let allow = format!("{},{}", https.allow(), plain.authority());
    let gateway = Gateway::start_with(&kept, &allow, &[("ROLLCALL_EGRESS_PROXY_FILE", file.to_str().unwrap())]);
    for host in ["127.0.0.1", "localhost"] {
        let mut context = https.context(host);
        context["ca_certificate"] = json!(certificates.ca_pem());
        let connect = format!("CONNECT {host}:{} HTTP/1.1", https.port());
        reads(&gateway, context, &proxy, &connect).await;
    }
    let connect = format!("CONNECT {} HTTP/1.1", plain.authority());
    reads(&gateway, plain.context(), &proxy, &connect).await;
    assert!(proxy.asked().iter().all(|line| !line.contains(SECRET)));
    is_quiet(&gateway);
}

/// Links, lists and passes through; each way asks the proxy.
async fn reads(gateway: &Gateway, context: Value, proxy: &ConnectProxy, connect: &str) {
    let before = proxy.asked().len();
    let id = gateway.link("scim", "bearer", context).await;
    let linked = proxy.asked().len();
    assert!(linked > before, "the test of the credential passed the proxy by");
    assert_eq!(gateway.walk(&format!("{USERS}?integrated_account_id={id}&limit=2")).await.len(), 5);
    let listed = proxy.asked().len();
    assert!(listed > linked, "the list passed the proxy by");
    let answer = passed_through(gateway, &id).await;
    assert_eq!((answer.status, answer.header("rollcall-error")), (200, None), "{}", answer.text());
    let asked = proxy.asked();
    assert_eq!(&asked[listed..], [connect], "{asked:?}");
}

#[tokio::test]
async fn what_the_guard_refuses_the_proxy_never_hears_of() {
    let (kept, proxy) = (Kept::embedded(), ConnectProxy::start(None));
    let settings = [("ROLLCALL_EGRESS_PROXY", format!("http://127.0.0.1:{}", proxy.port))];
    let settings = settings.each_ref().map(|(name, value)| (*name, value.as_str()));
    let gateway = Gateway::start_with(&kept, "localhost:8443", &settings);
    for host in ["https://169.254.169.254", "https://10.0.0.1", "https://[::1]", "https://localhost:8443", "https://localhost"] {
        let context = json!({"base_url": host, "token": SECRET});
        let body = json!({"tenant_id": "acme", "integration": "scim", "authentication_method": "bearer", "context": context});
        problem(&gateway.call("POST", "/integrated-account", Some(&body)).await, 422, "egress_refused", "gateway");
    }
    // The proxy itself may be private without a word in the list, but is no vendor.
    let context = json!({"base_url": format!("https://127.0.0.1:{}", proxy.port), "token": SECRET});
    let body = json!({"tenant_id": "acme", "integration": "scim", "authentication_method": "bearer", "context": context});
    problem(&gateway.call("POST", "/integrated-account", Some(&body)).await, 422, "egress_refused", "gateway");
    assert_eq!(proxy.asked(), Vec::<String>::new());
    is_sound(&gateway);
}

#[tokio::test]
async fn a_proxy_that_does_not_do_its_part_is_said_so() {
    let (kept, certificates) = (Kept::embedded(), Certificates::make());
    let (https, proxy) = (Https::start(&certificates), ConnectProxy::start(Some(LOGIN)));
    let start = |proxy: &str| Gateway::start_with(&kept, &https.allow(), &[("ROLLCALL_EGRESS_PROXY", proxy)]);
    let gateway = start(&address(proxy.port));
    let mut context = https.context("127.0.0.1");
    context["ca_certificate"] = json!(certificates.ca_pem());
    let id = gateway.link("scim", "bearer", context).await;
    for (manner, says) in [
        (Manner::Refuse, "the egress proxy did not open a connection"),
        (Manner::HangUp, "the egress proxy closed the connection"),
        (Manner::Babble, "the egress proxy did not open a connection"),
    ] {
        proxy.set(manner);
        is_told(&gateway, &id, says).await;
    }
    proxy.set(Manner::Open);
    assert_eq!(passed_through(&gateway, &id).await.status, 200);
    is_quiet(&gateway);
    assert!(gateway.stop());
    let asked = https.vendor.asked();
    for (address, says) in [
        (format!("http://operator:wrong@127.0.0.1:{}", proxy.port), "does not accept the login"),
        (format!("http://127.0.0.1:{}", proxy.port), "does not accept the login"),
        (format!("http://127.0.0.1:{}", free_port()), "refused"),
        ("http://proxy.invalid:3128".to_owned(), "the egress proxy"),
    ] {
        let gateway = start(&address);
        is_told(&gateway, &id, says).await;
        is_quiet(&gateway);
        assert!(gateway.stop());
    }
    assert_eq!(https.vendor.asked(), asked, "a vendor was reached without the proxy");
}

async fn is_told(gateway: &Gateway, id: &str, says: &str) {
    for answer in [gateway.get(&format!("{USERS}?integrated_account_id={id}")).await, passed_through(gateway, id).await] {
        let said = problem(&answer, 502, "vendor_unreachable", "vendor");
        assert!(said["detail"].as_str().unwrap().contains(says), "{says}: {said}");
    }
}
