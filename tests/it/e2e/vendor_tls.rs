//! Vendors over https: who is trusted, on both clients, and that nothing is said to anybody else.

use serde_json::{Value, json};

use super::vendor::{SECRET, Vendor, is_sound, problem};
use crate::support::{
    gateway::{Gateway, Kept},
    redis::Certificates,
    tls_front::TlsFront,
};

const USERS: &str = "/unified/user-directory/users";

/// A vendor behind TLS.
pub struct Https {
    pub vendor: Vendor,
    front: TlsFront,
}

impl Https {
    pub fn start(certificates: &Certificates) -> Https {
        let vendor = Vendor::start();
        let front = TlsFront::before(vendor.authority().parse().unwrap(), certificates);
        Https { vendor, front }
    }

    /// The same vendor with another certificate.
    pub fn restart(self, certificates: &Certificates) -> Https {
        let front = self.front.replaced(self.vendor.authority().parse().unwrap(), certificates);
        Https { front, ..self }
    }

    /// Where it speaks TLS.
    pub fn port(&self) -> u16 {
        self.front.port
    }

    /// What links it at this name.
    pub fn context(&self, host: &str) -> Value {
        json!({"base_url": format!("https://{host}:{}/scim", self.front.port), "token": SECRET})
    }

    /// What the operator allows for it.
    pub fn allow(&self) -> String {
        let port = self.front.port;
        format!("127.0.0.1:{port},localhost:{port},127.0.0.0/8,::1/128")
    }

    /// A gateway that may reach it and trusts the authorities of a file, or the machine's.
    pub fn gateway(&self, kept: &Kept, trust: Option<&Certificates>) -> Gateway {
        let file = trust.map(Certificates::ca);
        let file = file.as_ref().map_or("", |path| path.to_str().unwrap());
        Gateway::start_with(kept, &self.allow(), &[("SSL_CERT_FILE", file), ("SSL_CERT_DIR", "")])
    }
}

/// A page of users through the transparent way.
pub async fn passed_through(gateway: &Gateway, account: &str) -> crate::support::gateway::Answer {
    gateway.get(&format!("/passthrough/{account}/Users?startIndex=1&count=5")).await
}

#[tokio::test]
async fn a_vendor_of_a_private_authority_is_reached_by_address_and_by_name() {
    let (kept, certificates) = (Kept::embedded(), Certificates::make());
    let https = Https::start(&certificates);
    let gateway = https.gateway(&kept, Some(&certificates));
    for host in ["127.0.0.1", "localhost"] {
        let account = gateway.link("scim", "bearer", https.context(host)).await;
        assert_eq!(gateway.walk(&format!("{USERS}?integrated_account_id={account}&limit=2")).await.len(), 5);
        for _ in 0..3 {
            let answer = passed_through(&gateway, &account).await;
            assert_eq!((answer.status, answer.header("rollcall-error")), (200, None), "{}", answer.text());
            assert_eq!(answer.json()["Resources"].as_array().unwrap().len(), 5);
        }
    }
    is_sound(&gateway);
}

/// Fails as unreachable on every way, and the vendor hears nothing.
async fn is_not_spoken_to(gateway: &Gateway, https: &Https, linked: &str) {
    let asked = https.vendor.asked();
    let import = json!({"tenant_id": "acme", "integration": "scim", "authentication_method": "bearer",
        "context": https.context("127.0.0.1")});
    problem(&gateway.call("POST", "/integrated-account", Some(&import)).await, 502, "vendor_unreachable", "vendor");
    let list = gateway.get(&format!("{USERS}?integrated_account_id={linked}")).await;
    problem(&list, 502, "vendor_unreachable", "vendor");
    problem(&passed_through(gateway, linked).await, 502, "vendor_unreachable", "vendor");
    assert_eq!(https.vendor.asked(), asked, "a vendor nobody vouches for was spoken to");
    is_sound(gateway);
}

#[tokio::test]
async fn a_vendor_of_an_unknown_authority_is_not_spoken_to() {
    let (kept, certificates) = (Kept::embedded(), Certificates::make());
    let https = Https::start(&certificates);
    let gateway = https.gateway(&kept, Some(&certificates));
    let linked = gateway.link("scim", "bearer", https.context("127.0.0.1")).await;
    assert!(gateway.stop());
    for trust in [None, Some(&Certificates::make())] {
        let gateway = https.gateway(&kept, trust);
        is_not_spoken_to(&gateway, &https, &linked).await;
        assert!(gateway.stop());
    }
}

#[tokio::test]
async fn a_vendor_with_a_certificate_of_another_name_is_not_spoken_to() {
    let (kept, certificates) = (Kept::embedded(), Certificates::of("DNS:localhost"));
    let https = Https::start(&certificates);
    let gateway = https.gateway(&kept, Some(&certificates));
    let linked = gateway.link("scim", "bearer", https.context("localhost")).await;
    let change = json!({"context": https.context("127.0.0.1")});
    let answer = gateway.call("PATCH", &format!("/integrated-account/{linked}"), Some(&change)).await;
    problem(&answer, 502, "vendor_unreachable", "vendor");
    assert_eq!(passed_through(&gateway, &linked).await.status, 200, "the name it is of still works");
    is_sound(&gateway);
}
