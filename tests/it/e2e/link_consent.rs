//! The way of a customer's browser to a vendor's consent pages and back, without a browser; npm's `oidc-provider` is the vendor.

use std::collections::BTreeMap;

use serde_json::json;

use super::{
    link::{APP, Browser, PAGE, hidden, leads_to, make, message, token},
    vendor::accounts,
};
use crate::support::{
    gateway::{Answer, Gateway, Kept},
    peers::{self, Peer},
};

/// The real npm `oidc-provider` stands for the vendor.
struct Consent {
    peer: Peer,
    gateway: Gateway,
    _kept: Kept,
}

impl Consent {
    fn start() -> Consent {
        let peer = peers::oidc(600);
        let authority = peer.authority();
        let kept = Kept::embedded();
        let gateway = Gateway::start(&kept, &authority);
        Consent { peer, gateway, _kept: kept }
    }

    /// Fills in what is needed to go to the vendor; gives where the browser is sent.
    async fn leave(&self, browser: &mut Browser<'_>, link_token: &str) -> url::Url {
        let page = browser.open(link_token, "&integration=scim&auth_format=oauth2").await;
        let left = self.submit(browser, &page).await;
        assert_eq!(left.status, 200, "{}", left.text());
        leads_to(&left)
    }

    /// Sends the form of a page.
    async fn submit(&self, browser: &mut Browser<'_>, page: &Answer) -> Answer {
        let (session, client) = (hidden(page, "session"), &self.peer.ready["browser"]);
        browser
            .post(&[
                ("session", session.as_str()),
                ("step", "submit"),
                ("integration", "scim"),
                ("method", "oauth2"),
                ("f.base_url", self.peer.base()),
                ("f.authorize_url", self.peer.told("authorize_url")),
                ("f.token_url", self.peer.told("token_url")),
                ("f.client_id", client["id"].as_str().unwrap()),
                ("f.client_secret", client["secret"].as_str().unwrap()),
                ("f.scope", "openid scim.read"),
            ])
            .await
    }

    /// Somebody agrees there; gives the target the browser comes back to.
    fn agree(&mut self, at: &url::Url) -> String {
        let said = self.peer.order(&json!({"agree": at.as_str()}));
        let came = said["came"].as_str().unwrap();
        came.strip_prefix(&self.gateway.base).unwrap_or_else(|| panic!("{came} is not the gateway's")).to_owned()
    }
}

#[tokio::test]
async fn a_customer_agrees_at_the_vendor_and_comes_back() {
    let mut consent = Consent::start();
    let redirect = format!("{APP}/linked");
    let made = make(&consent.gateway, json!({"tenant_id": "acme", "redirect_uri": redirect, "context": {"plan": "gold"}})).await;
    let link_token = token(&made).to_owned();
    let (left, cookies) = {
        let mut browser = Browser::new(&consent.gateway);
        let left = consent.leave(&mut browser, &link_token).await;
        (left, browser.cookies)
    };
    assert!(!left.as_str().contains(&link_token));
    let came = consent.agree(&left);
    assert!(came.starts_with("/connect/scim/callback?"), "{came}");
    // Whoever sees the address without being that browser gets nothing, and uses nothing up that the browser needs.
    let mut browser = Browser::new(&consent.gateway);
    browser.cookies = cookies;
    let back = browser.get(&came).await;
    assert_eq!(back.status, 200, "{}", back.text());
    let place = leads_to(&back);
    let told: BTreeMap<_, _> = place.query_pairs().into_owned().collect();
    assert!(place.as_str().starts_with(&redirect), "{place}");
    assert_eq!((told["result"].as_str(), told["integration"].as_str()), ("success", "scim"), "{told:?}");
    let id = &told["integrated_account_id"];
    let account = consent.gateway.get(&format!("/integrated-account/{id}")).await.json();
    assert_eq!(
        (&account["status"], &account["tenant_id"], &account["context"]["plan"]),
        (&json!("active"), &json!("acme"), &json!("gold"))
    );
    let users = consent.gateway.get(&format!("/unified/user-directory/users?integrated_account_id={id}")).await;
    assert_eq!(users.json()["result"].as_array().map(Vec::len), Some(3), "{}", users.text());
    // Once more, by the same browser: nothing comes of it.
    let again = browser.get(&came).await;
    assert!(again.status >= 400, "{}", again.text());
    let closed = browser.open(&link_token, "").await;
    assert_eq!(closed.status, 410, "the link is used up");
    assert_eq!(accounts(&consent.gateway).await.len(), 1);
    let noted = consent.gateway.get("/audit?action=integrated_account.link").await.json();
    assert_eq!(noted["result"].as_array().map(Vec::len), Some(1), "{noted}");
    assert_eq!((&noted["result"][0]["outcome"], &noted["result"][0]["target_id"]), (&json!("done"), &json!(id)), "{noted}");
    let said = consent.gateway.said();
    for secret in [link_token.as_str(), "code=", "synthetic-browser-secret"] {
        assert!(!said.contains(secret), "{secret} is logged");
    }
}

#[tokio::test]
async fn r_12_a_way_back_of_another_browser_or_link_makes_no_account() {
    let mut consent = Consent::start();
    let mut tokens = Vec::new();
    for _ in 0..3 {
        tokens.push(make(&consent.gateway, json!({"tenant_id": "acme"})).await);
    }
    let mut ways = Vec::new();
    for made in &tokens {
        let mut browser = Browser::new(&consent.gateway);
        let left = consent.leave(&mut browser, token(made)).await;
        ways.push((left, browser.cookies));
    }
    let came: Vec<String> = ways.iter().map(|(left, _)| consent.agree(left)).collect();
    let with = async |cookies: BTreeMap<String, String>, target: &str| {
        let mut browser = Browser::new(&consent.gateway);
        browser.cookies = cookies;
        browser.get(target).await
    };
    assert!(with(BTreeMap::new(), &came[0]).await.status >= 400, "no cookie");
    assert!(with(ways[2].1.clone(), &came[1]).await.status >= 400, "another link's browser");
    assert!(
        with(ways[2].1.clone(), &came[2].replace("/connect/scim/", "/connect/keeper/")).await.status >= 400,
        "another connector"
    );
    assert!(with(ways[2].1.clone(), &came[2].replace("iss=http", "iss=https")).await.status >= 400, "another server");
    assert_eq!(accounts(&consent.gateway).await.len(), 0);
    // A link that was taken back while its customer was at the vendor.
    let made = make(&consent.gateway, json!({"tenant_id": "acme"})).await;
    let mut browser = Browser::new(&consent.gateway);
    let left = consent.leave(&mut browser, token(&made)).await;
    let cookies = browser.cookies;
    let came = consent.agree(&left);
    let path = format!("/link-token/{}", made["id"].as_str().unwrap());
    assert_eq!(consent.gateway.call("DELETE", &path, None).await.status, 200);
    let mut browser = Browser::new(&consent.gateway);
    browser.cookies = cookies;
    assert!(browser.get(&came).await.status >= 400);
    assert_eq!(accounts(&consent.gateway).await.len(), 0);
}

/// Two links for one product, open in one browser at the same time: each way back is its own.
#[tokio::test]
async fn two_consents_at_one_vendor_in_one_browser_both_count() {
    let mut consent = Consent::start();
    let mut tokens = Vec::new();
    for tenant in ["acme", "globex"] {
        tokens.push(token(&make(&consent.gateway, json!({"tenant_id": tenant, "origins": [APP]})).await).to_owned());
    }
    let (ways, cookies) = {
        let mut browser = Browser::new(&consent.gateway);
        let ways = [consent.leave(&mut browser, &tokens[0]).await, consent.leave(&mut browser, &tokens[1]).await];
        (ways, browser.cookies)
    };
    let came: Vec<String> = ways.iter().map(|left| consent.agree(left)).collect();
    let mut browser = Browser::new(&consent.gateway);
    browser.cookies = cookies;
    for (left, came) in ways.iter().zip(&came) {
        let state = left.query_pairs().find(|(name, _)| name == "state").unwrap().1.into_owned();
        assert!(browser.cookies.iter().all(|(name, value)| !name.contains(&state) && !value.contains(&state)));
        let back = browser.get(came).await;
        assert_eq!(message(&back)["result"], json!("success"), "{}", back.text());
    }
    let linked = consent.gateway.walk("/integrated-account").await;
    let mut tenants: Vec<_> = linked.iter().map(|account| account["tenant_id"].as_str().unwrap()).collect();
    tenants.sort_unstable();
    assert_eq!(tenants, ["acme", "globex"]);
    let ways = |browser: &Browser<'_>| {
        let ways = browser.cookies.iter().filter(|(name, value)| name.contains("authorize") && !value.is_empty());
        ways.count()
    };
    assert_eq!(ways(&browser), 0, "a way that has ended leaves no cookie");
    // Ways that nobody comes back from do not gather.
    let link_token = token(&make(&consent.gateway, json!({"tenant_id": "acme"})).await).to_owned();
    for _ in 0..10 {
        consent.leave(&mut browser, &link_token).await;
    }
    assert_eq!(ways(&browser), 8);
}

/// Whoever declines stands before the form again, with what is not secret in it; the link still works, in the same browser.
#[tokio::test]
async fn a_customer_who_declines_can_begin_again() {
    let mut consent = Consent::start();
    let made = make(&consent.gateway, json!({"tenant_id": "acme", "origins": [APP]})).await;
    let link_token = token(&made).to_owned();
    let (left, cookies) = {
        let mut browser = Browser::new(&consent.gateway);
        let left = consent.leave(&mut browser, &link_token).await;
        let state = left.query_pairs().find(|(name, _)| name == "state").unwrap().1.into_owned();
        let words = "error=access_denied&error_description=The%20person%20said%20%3Cno%3E.";
        let page = browser.get(&format!("/connect/scim/callback?state={state}&{words}")).await;
        let text = page.text();
        let sentence = "Access was declined on the vendor&#39;s page (The person said &lt;no&gt;).";
        assert!(text.contains(sentence) && text.contains("<b>Nothing was connected.</b>"), "{text}");
        assert!(text.contains(consent.peer.told("token_url")) && !text.contains("synthetic-browser-secret"), "{text}");
        let id = made["id"].as_str().unwrap();
        assert!(text.contains(&format!("data-place=\"{PAGE}?link={id}&amp;integration=scim&amp;method=oauth2\"")), "{text}");
        assert_eq!(accounts(&consent.gateway).await.len(), 0);
        let again = consent.submit(&mut browser, &page).await;
        (leads_to(&again), browser.cookies)
    };
    let came = consent.agree(&left);
    let mut browser = Browser::new(&consent.gateway);
    browser.cookies = cookies;
    let back = browser.get(&came).await;
    assert_eq!(message(&back)["result"], json!("success"), "{}", back.text());
    assert_eq!(accounts(&consent.gateway).await.len(), 1);
}

/// Where the vendor stands in a window of its own, the page that opened it looks how it ended: once it is over, it tells.
#[tokio::test]
async fn a_page_looks_how_the_vendors_window_ended() {
    let mut consent = Consent::start();
    let made = make(&consent.gateway, json!({"tenant_id": "acme", "origins": [APP], "is_sandbox": true})).await;
    let mut look = Browser::new(&consent.gateway);
    let page = look.open(token(&made), "&iframe=true&integration=scim&auth_format=oauth2").await;
    let redirect = format!("<code>{}/connect/scim/callback</code>", consent.gateway.base);
    assert!(page.text().contains(&redirect) && page.text().contains("those you fill in below as “Scopes”"), "{}", page.text());
    assert!(page.text().contains("target=\"_blank\" rel=\"opener\""), "{}", page.text());
    let session = hidden(&page, "session");
    let form = [("session", session.as_str()), ("step", "look")];
    assert_eq!(look.post(&form).await.status, 202);
    let cookies = look.cookies.clone();
    let left = {
        let mut browser = Browser::new(&consent.gateway);
        browser.cookies = cookies;
        let left = consent.submit(&mut browser, &page).await;
        (leads_to(&left), browser.cookies)
    };
    let came = consent.agree(&left.0);
    let mut look = Browser::new(&consent.gateway);
    look.cookies = left.1;
    assert_eq!(look.post(&form).await.status, 202, "nobody has come back");
    let back = look.get(&came).await;
    assert!(back.status == 200 && back.text().contains(" data-relayed"), "{}", back.text());
    let done = look.post(&form).await;
    assert_eq!(done.status, 200, "{}", done.text());
    let told = message(&done);
    let id = accounts(&consent.gateway).await.remove(0);
    assert_eq!((&told["result"], &told["integrated_account_id"]), (&json!("success"), &json!(id)));
    assert!(!done.text().contains(" data-relayed") && done.text().contains(&format!("data-origins=\"{APP}\" data-frame")));
    let account = consent.gateway.get(&format!("/integrated-account/{id}")).await.json();
    assert_eq!(account["is_sandbox"], json!(true), "{account}");
    // Somebody else's browser sees nothing of it.
    let mut other = Browser::new(&consent.gateway);
    let theirs = other.open(token(&made), "&iframe=true").await;
    assert_eq!(theirs.status, 410, "{}", theirs.text());
}
