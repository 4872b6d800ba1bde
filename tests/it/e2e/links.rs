//! Links of a vendor, through the real binary: a client that follows them stays here, or is told why it cannot.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::{
    bar_vendor::{Act, Vendor, answer, scim},
    vendor::overlay,
};
use crate::support::gateway::{Answer, Gateway, Kept};

const LINKS: &str = r#"proxy: { links: [next, "items[*].href"], downloads: ["*.files.example"] }"#;

/// A vendor whose answers name these links, `{own}` being its own address.
struct Stand {
    vendor: Vendor,
    gateway: Gateway,
    account: String,
}

impl Stand {
    async fn start(links: Value, public: bool) -> Stand {
        let own = Arc::new(Mutex::new(String::new()));
        let base = own.clone();
        let vendor = Vendor::start(move |asked| {
            let own = base.lock().unwrap().clone();
            let link = |name: &str| links[name].as_str().unwrap_or_default().replace("{own}", &own);
            match asked.path() {
                "/v2/linked" => {
                    let headers = [("content-type", "application/json"), ("link", &*link("link")), ("etag", "\"1\"")];
                    let body = json!({"next": link("next"), "items": [{"href": link("item"), "other": link("item")}]});
                    Act::Send(answer(200, &headers, body.to_string().as_bytes()))
                }
                "/v2/moved" => Act::Send(answer(302, &[("location", &link("location"))], b"")),
                "/v2/page" => Act::Send(answer(200, &[("content-type", "text/plain")], asked.target.as_bytes())),
                _ => scim(asked, 1),
            }
        });
        *own.lock().unwrap() = vendor.at("");
        let kept = Kept::embedded();
        let folder = kept.folder().join("connectors");
        overlay(&folder, |name, text| match name {
            "connector.yaml" => text.replace("level: beta\n", &format!("level: beta\n{LINKS}\n")),
            _ => text,
        });
        let mut settings = vec![("ROLLCALL_CONNECTORS_DIR", folder.to_str().unwrap())];
        if public {
            settings.push(("ROLLCALL_PUBLIC_URL", "http://127.0.0.1:{port}"));
        }
        let gateway = Gateway::start_with(&kept, &vendor.authority(), &settings);
        let account = gateway.link("scim", "bearer", json!({"base_url": vendor.at("/v2"), "token": "linked-token"})).await;
        Stand { vendor, gateway, account }
    }

    async fn linked(&self) -> Answer {
        let answer = self.gateway.get(&format!("/passthrough/-/linked?integrated_account_id={}", self.account)).await;
        assert_eq!((answer.status, answer.header("etag")), (200, Some("\"1\"")), "{}", answer.text());
        answer
    }

    /// Follows a link as a client would that resolves it against our address.
    async fn follow(&self, link: &str) -> Answer {
        let path = link.strip_prefix(&self.gateway.base).unwrap_or(link);
        assert!(path.starts_with("/passthrough/"), "{link} leads away");
        self.gateway.get(path).await
    }
}

fn target(answer: &Answer) -> String {
    let link = answer.header("link").unwrap();
    link[1..link.find('>').unwrap()].to_owned()
}

#[tokio::test]
async fn links_to_the_vendor_are_followed_here() {
    let links = json!({"link": "<{own}/v2/page?n=1>; rel=\"next\"", "next": "{own}/v2/page?n=2", "item": "{own}/v2/page?n=3",
        "location": "{own}/v2/page?n=4"});
    for public in [false, true] {
        let stand = Stand::start(links.clone(), public).await;
        let answer = stand.linked().await;
        let body = answer.json();
        let moved = stand.gateway.get(&format!("/passthrough/{}/moved", stand.account)).await;
        let found =
            [target(&answer), text(&body["next"]), text(&body["items"][0]["href"]), moved.header("location").unwrap().to_owned()];
        let begins = if public { format!("{}/passthrough/", stand.gateway.base) } else { "/passthrough/".to_owned() };
        for (number, link) in (1..).zip(found) {
            assert!(link.starts_with(&begins), "{link}");
            let page = stand.follow(&link).await;
            assert_eq!((page.status, page.text()), (200, format!("/v2/page?n={number}")), "{link}");
        }
        assert_eq!(body["items"][0]["other"], format!("{}/page?n=3", stand.vendor.at("/v2")), "a member nobody declared changed");
        assert!(answer.headers.keys().all(|name| !name.as_str().ends_with("withheld")));
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

#[tokio::test]
async fn links_to_elsewhere_are_refused_here_and_said() {
    let links = json!({"link": "<https://evil.example/next>; rel=\"next\"", "next": "https://evil.example/next", "item": "{own}/other",
        "location": "https://evil.example/file"});
    let stand = Stand::start(links, true).await;
    let answer = stand.linked().await;
    assert_eq!(answer.header("rollcall-link-withheld"), Some("1"));
    let body = answer.json();
    let before = stand.vendor.count();
    for link in [target(&answer), text(&body["next"]), text(&body["items"][0]["href"])] {
        let refused = stand.follow(&link).await;
        assert_eq!((refused.status, refused.code()), (400, "invalid_path".to_owned()), "{link}");
    }
    assert_eq!(stand.vendor.count(), before, "a withheld link reached the vendor");
    let moved = stand.gateway.get(&format!("/passthrough/{}/moved", stand.account)).await;
    assert_eq!((moved.header("location"), moved.header("rollcall-location-withheld")), (None, Some("1")));
}

#[tokio::test]
async fn downloads_stay_where_they_are() {
    let file = "https://eu.files.example/r.csv?sig=a%2Fb";
    let links = json!({"link": format!("<{file}>; rel=\"next\""), "next": file, "item": "/relative", "location": file});
    let stand = Stand::start(links, true).await;
    let answer = stand.linked().await;
    assert_eq!((target(&answer).as_str(), &answer.json()["next"]), (file, &json!(file)));
    assert_eq!(answer.json()["items"][0]["href"], "/relative");
    let moved = stand.gateway.get(&format!("/passthrough/{}/moved", stand.account)).await;
    assert_eq!((moved.status, moved.header("location"), moved.header("rollcall-location-withheld")), (302, Some(file), None));
}
