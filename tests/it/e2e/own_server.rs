//! A customer's own server: trusted by the customer's word in place of the public authorities, and checked all the same.

use serde_json::{Value, json};

use super::{
    vendor::{SECRET, is_sound, names, problem},
    vendor_tls::{Https, passed_through},
};
use crate::support::{
    gateway::{Answer, Gateway, Kept},
    redis::Certificates,
};

const USERS: &str = "/unified/user-directory/users";

fn with(https: &Https, host: &str, more: Value) -> Value {
    let mut context = https.context(host);
    context.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    context
}

async fn import(gateway: &Gateway, context: &Value) -> Answer {
    let body = json!({"tenant_id": "acme", "integration": "scim", "authentication_method": "bearer", "context": context});
    gateway.call("POST", "/integrated-account", Some(&body)).await
}

/// Links by both names and reads on both ways.
async fn works(gateway: &Gateway, https: &Https, trust: Value) -> String {
    let mut last = String::new();
    for host in ["127.0.0.1", "localhost"] {
        last = gateway.link("scim", "bearer", with(https, host, trust.clone())).await;
        assert_eq!(gateway.walk(&format!("{USERS}?integrated_account_id={last}&limit=2")).await.len(), 5);
        let answer = passed_through(gateway, &last).await;
        assert_eq!((answer.status, answer.header("rollcall-error")), (200, None), "{}", answer.text());
    }
    last
}

#[tokio::test]
async fn an_authority_of_the_customers_own_is_trusted_for_his_account_alone() {
    let (kept, certificates) = (Kept::embedded(), Certificates::make());
    let https = Https::start(&certificates);
    let gateway = https.gateway(&kept, None);
    problem(&import(&gateway, &https.context("127.0.0.1")).await, 502, "vendor_unreachable", "vendor");
    assert_eq!(https.vendor.asked(), 0, "a vendor nobody vouches for was spoken to");
    let other = Certificates::make();
    let several = format!("subject=CN = other\r\n{}{}", other.ca_pem(), certificates.ca_pem()).replace('\n', "\r\n");
    for pem in [certificates.ca_pem(), several] {
        let id = works(&gateway, &https, json!({"ca_certificate": pem})).await;
        let shown = gateway.get(&format!("/integrated-account/{id}")).await.text();
        assert!(!shown.contains(SECRET), "{shown}");
    }
    problem(&import(&gateway, &https.context("127.0.0.1")).await, 502, "vendor_unreachable", "vendor");
    is_sound(&gateway);
}

#[tokio::test]
async fn a_server_that_signed_itself_is_trusted_by_its_own_certificate_or_fingerprint() {
    let (kept, certificates) = (Kept::embedded(), Certificates::self_signed("IP:127.0.0.1,DNS:localhost"));
    let https = Https::start(&certificates);
    let gateway = https.gateway(&kept, None);
    works(&gateway, &https, json!({"ca_certificate": certificates.ca_pem()})).await;
    let printed = certificates.fingerprint();
    let digits = printed.split_once('=').unwrap().1.trim().replace(':', "").to_lowercase();
    for pin in [printed, digits] {
        works(&gateway, &https, json!({"certificate_sha256": pin})).await;
    }
    is_sound(&gateway);
}

#[tokio::test]
async fn a_server_that_may_not_be_trusted_is_not_spoken_to_and_the_field_is_named() {
    let good = Certificates::make();
    let (ended, ended_authority) = (Certificates::expired(true), Certificates::expired(false));
    let (elsewhere, elsewhere_signed) =
        (Certificates::self_signed("DNS:elsewhere.example"), Certificates::of("DNS:elsewhere.example"));
    let own = Certificates::self_signed("IP:127.0.0.1,DNS:localhost");
    let ca = |c: &Certificates| json!({"ca_certificate": c.ca_pem()});
    let pin = |c: &Certificates| json!({"certificate_sha256": c.fingerprint()});
    for (server, trust, says) in [
        (&good, ca(&own), "neither this one nor signed by it"),
        (&own, ca(&good), "neither this one nor signed by it"),
        (&good, pin(&own), "another certificate"),
        (&elsewhere, ca(&elsewhere), "not for this host"),
        (&elsewhere, pin(&elsewhere), "not for this host"),
        (&elsewhere_signed, ca(&elsewhere_signed), "not for this host"),
        (&ended, ca(&ended), "expired"),
        (&ended, pin(&ended), "expired on Jan  2 00:00:00 2020"),
        (&ended_authority, ca(&ended_authority), "the authority's certificate has expired"),
    ] {
        let kept = Kept::embedded();
        let https = Https::start(server);
        let gateway = https.gateway(&kept, None);
        let field = trust.as_object().unwrap().keys().next().unwrap();
        let said = names(
            &import(&gateway, &with(&https, "127.0.0.1", trust.clone())).await,
            422,
            "invalid_field",
            &format!("context.{field}"),
        );
        let detail = said["detail"].as_str().unwrap();
        assert!(detail.contains(says) && detail.contains(&format!("`{field}`")), "{trust}: {detail}");
        assert_eq!(https.vendor.asked(), 0, "{says}: it was spoken to");
        is_sound(&gateway);
    }
}

#[tokio::test]
async fn a_server_that_shows_another_certificate_later_hears_nothing_more() {
    let kept = Kept::embedded();
    let (before, after) = (Certificates::make(), Certificates::make());
    let https = Https::start(&before);
    let gateway = https.gateway(&kept, Some(&after));
    let ids = [
        (
            "ca_certificate",
            gateway.link("scim", "bearer", with(&https, "127.0.0.1", json!({"ca_certificate": before.ca_pem()}))).await,
        ),
        (
            "certificate_sha256",
            gateway.link("scim", "bearer", with(&https, "localhost", json!({"certificate_sha256": before.fingerprint()}))).await,
        ),
    ];
    let https = https.restart(&after);
    let asked = https.vendor.asked();
    for (field, id) in ids {
        for answer in [gateway.get(&format!("{USERS}?integrated_account_id={id}")).await, passed_through(&gateway, &id).await] {
            let said = problem(&answer, 502, "vendor_unreachable", "vendor");
            assert!(said["detail"].as_str().unwrap().contains(field), "{said}");
        }
    }
    assert_eq!(https.vendor.asked(), asked, "the new server is trusted by the machine alone, and was spoken to");
    is_sound(&gateway);
}

#[tokio::test]
async fn whom_a_server_is_trusted_by_is_changed_with_all_secrets_only() {
    let (kept, certificates) = (Kept::embedded(), Certificates::self_signed("IP:127.0.0.1,DNS:localhost"));
    let https = Https::start(&certificates);
    let gateway = https.gateway(&kept, None);
    let id = gateway.link("scim", "bearer", with(&https, "127.0.0.1", json!({"ca_certificate": certificates.ca_pem()}))).await;
    let path = format!("/integrated-account/{id}");
    let pin = json!({"ca_certificate": null, "certificate_sha256": certificates.fingerprint()});
    for change in [pin.clone(), json!({"ca_certificate": null}), json!({"ca_certificate": Certificates::make().ca_pem()})] {
        let answer = gateway.call("PATCH", &path, Some(&json!({"context": change}))).await;
        names(&answer, 422, "secrets_required", "context.token");
    }
    let mut whole = pin;
    whole["token"] = json!(SECRET);
    let answer = gateway.call("PATCH", &path, Some(&json!({"context": whole}))).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(passed_through(&gateway, &id).await.status, 200);
    let answer = gateway.call("PATCH", &path, Some(&json!({"context": {"certificate_sha256": null, "token": SECRET}}))).await;
    problem(&answer, 502, "vendor_unreachable", "vendor");
    assert_eq!(passed_through(&gateway, &id).await.status, 200, "a change that does not verify changes nothing");
    is_sound(&gateway);
}

#[tokio::test]
async fn a_trust_that_cannot_be_read_is_refused_by_its_field() {
    let (kept, certificates) = (Kept::embedded(), Certificates::make());
    let https = Https::start(&certificates);
    let gateway = https.gateway(&kept, None);
    let pem = certificates.ca_pem();
    let key = std::fs::read_to_string(&certificates.pair()[1]).unwrap();
    let cut = pem.replacen("MII", "MI", 1);
    let request = pem.replace("CERTIFICATE", "CERTIFICATE REQUEST");
    let hello = "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n";
    let (mut many, mut long) = (pem.repeat(17), "x".repeat(32 * 1024));
    many.truncate(32 * 1024);
    long.push('x');
    let fingerprint = certificates.fingerprint();
    for (trust, field, says) in [
        (json!({"ca_certificate": "hello"}), "ca_certificate", "BEGIN CERTIFICATE"),
        (json!({"ca_certificate": cut}), "ca_certificate", ""),
        (json!({"ca_certificate": pem.replace("-----END", "")}), "ca_certificate", "damaged"),
        (json!({"ca_certificate": request}), "ca_certificate", "something else"),
        (json!({"ca_certificate": hello}), "ca_certificate", "X.509"),
        (json!({"ca_certificate": format!("{pem}{key}")}), "ca_certificate", "private key"),
        (json!({"ca_certificate": many}), "ca_certificate", "at most 16"),
        (json!({"ca_certificate": long}), "ca_certificate", "at most 32768 bytes"),
        (json!({"ca_certificate": [pem]}), "ca_certificate", "text"),
        (json!({"certificate_sha256": "12:34"}), "certificate_sha256", "64 hexadecimal digits"),
        (json!({"certificate_sha256": "g".repeat(64)}), "certificate_sha256", "64 hexadecimal digits"),
        (json!({"certificate_sha256": "a".repeat(40)}), "certificate_sha256", "SHA-1"),
        (json!({"ca_certificate": pem, "certificate_sha256": fingerprint}), "certificate_sha256", "not both"),
    ] {
        let answer = import(&gateway, &with(&https, "127.0.0.1", trust)).await;
        let said = names(&answer, 422, "invalid_field", &format!("context.{field}"));
        assert!(said["detail"].as_str().unwrap().contains(says), "{said}");
        assert!(!answer.text().contains("PRIVATE"), "{said}");
    }
    let plain = json!({"base_url": https.vendor.base(), "token": SECRET, "ca_certificate": pem});
    let allowed = Gateway::start(&Kept::embedded(), &https.vendor.authority());
    let said = names(&import(&allowed, &plain).await, 422, "invalid_field", "context.ca_certificate");
    assert!(said["detail"].as_str().unwrap().contains("http"), "{said}");
    assert_eq!(https.vendor.asked(), 0);
    is_sound(&gateway);
}
