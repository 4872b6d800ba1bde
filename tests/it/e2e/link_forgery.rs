//! The link page's part of G-12 that concerns forms and sessions: what another site sends, what somebody else began, and what is
//! over, changes nothing.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{
    link::{APP, Browser, Stand, hidden, make, token},
    vendor::{SECRET, accounts},
};
use crate::support::gateway::Answer;

const OPEN: &str = "&integration=scim&auth_format=bearer";

/// Sends each form of the page, filled in well, and gives the statuses.
async fn each_form(browser: &mut Browser<'_>, page: &Answer, vendor: &str) -> Vec<(&'static str, u16)> {
    let session = hidden(page, "session");
    let mut statuses = Vec::new();
    for step in ["submit", "cancel", "look", "open"] {
        let form = [
            ("session", session.as_str()),
            ("step", step),
            ("integration", "scim"),
            ("method", "bearer"),
            ("f.base_url", vendor),
            ("f.token", SECRET),
        ];
        statuses.push((step, browser.post(&form).await.status));
    }
    statuses
}

#[tokio::test]
async fn g_12_no_form_of_another_site_changes_anything() {
    let Stand { vendor, gateway, .. } = &Stand::start();
    for (linked, more) in [OPEN.to_owned(), format!("{OPEN}&iframe=true")].into_iter().enumerate() {
        let before = vendor.asked();
        let made = make(gateway, json!({"tenant_id": "acme", "origins": [APP]})).await;
        let mut browser = Browser::new(gateway);
        let page = browser.open(token(&made), &more).await;
        for header in [
            ("origin", "https://evil.example"),
            ("origin", APP),
            ("origin", "null"),
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
            ("sec-fetch-site", "none"),
        ] {
            browser.headers = vec![(header.0, header.1.to_owned())];
            let statuses = each_form(&mut browser, &page, &vendor.base()).await;
            assert!(statuses.iter().all(|(_, status)| *status == 403), "{more} {header:?}: {statuses:?}");
        }
        browser.headers = Vec::new();
        assert_eq!((accounts(gateway).await.len(), vendor.asked()), (linked, before), "{more}");
        // The customer's own form is taken afterwards: nothing was bound, ended or used up.
        let done = browser.fill(&page, &vendor.base(), SECRET).await;
        assert_eq!((done.status, accounts(gateway).await.len()), (200, linked + 1), "{more}: {}", done.text());
    }
}

#[tokio::test]
async fn g_12_a_session_is_the_browsers_own() {
    let Stand { vendor, gateway, .. } = &Stand::start();
    let made = make(gateway, json!({"tenant_id": "acme"})).await;
    let mut first = Browser::new(gateway);
    let mine = first.open(token(&made), OPEN).await;
    let mut second = Browser::new(gateway);
    let theirs = second.open(token(&made), OPEN).await;
    assert_ne!(hidden(&mine, "session"), hidden(&theirs, "session"));
    // With the cookie of one and the form of the other, or a cookie that somebody chose, nothing is taken.
    let (own, chosen) = (first.cookies.clone(), first.cookies.keys().map(|name| (name.clone(), "chosen".to_owned())).collect());
    for cookies in [second.cookies.clone(), chosen, Default::default()] {
        first.cookies = cookies;
        let statuses = each_form(&mut first, &mine, &vendor.base()).await;
        assert!(statuses.iter().all(|(_, status)| *status == 403), "{statuses:?}");
    }
    assert_eq!(accounts(gateway).await.len(), 0);
    first.cookies = own;
    assert_eq!(first.fill(&mine, &vendor.base(), SECRET).await.status, 200);
    // Who opened it too learns nothing of what came of it.
    for (step, status) in each_form(&mut second, &theirs, &vendor.base()).await {
        assert!(status == 410 || step == "cancel", "{step}: {status}");
    }
    let id = accounts(gateway).await.remove(0);
    let look = [("session", hidden(&theirs, "session")), ("step", "look".to_owned())];
    let look: Vec<_> = look.iter().map(|(name, value)| (*name, value.as_str())).collect();
    assert!(!second.post(&look).await.text().contains(&id));
}

#[tokio::test]
async fn g_12_an_opening_ends_with_its_link() {
    let Stand { vendor, gateway, .. } = &Stand::start();
    let made = make(gateway, json!({"tenant_id": "acme", "expires_in": 3})).await;
    let mut browser = Browser::new(gateway);
    let opened = browser.get(&format!("/connect-account?link_token={}{OPEN}", token(&made))).await;
    let cookie = opened.header("set-cookie").unwrap().to_owned();
    let life: u64 = cookie.split("Max-Age=").nth(1).unwrap().split(';').next().unwrap().parse().unwrap();
    assert!((1..=3).contains(&life), "{cookie}");
    let page = browser.get(opened.header("location").unwrap()).await;
    let end: jiff::Timestamp = Value::as_str(&made["expires_at"]).unwrap().parse().unwrap();
    while jiff::Timestamp::now() <= end {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let statuses = each_form(&mut browser, &page, &vendor.base()).await;
    assert!(statuses.iter().all(|(_, status)| *status == 410), "{statuses:?}");
    assert_eq!(browser.get(opened.header("location").unwrap()).await.status, 410);
    assert_eq!(accounts(gateway).await.len(), 0);
}

#[tokio::test]
async fn g_12_a_page_is_framed_and_does_without_its_cookie_only_where_the_link_has_origins() {
    let Stand { vendor, gateway, .. } = &Stand::start();
    for (origins, status) in [(json!([]), 403), (json!([APP]), 200)] {
        let made = make(gateway, json!({"tenant_id": "acme", "origins": origins})).await;
        let mut browser = Browser::new(gateway);
        let page = browser.open(token(&made), &format!("{OPEN}&iframe=true")).await;
        let framed_by = page.header("content-security-policy").unwrap().split("frame-ancestors ").nth(1).unwrap().to_owned();
        assert_eq!(framed_by, if status == 200 { APP } else { "'none'" });
        browser.cookies = BTreeMap::new();
        assert_eq!(browser.fill(&page, &vendor.base(), SECRET).await.status, status, "{origins}");
    }
    assert_eq!(accounts(gateway).await.len(), 1);
}

#[tokio::test]
async fn a_forms_size_and_its_number_of_values_are_bounded() {
    let Stand { vendor, gateway, .. } = &Stand::start();
    let made = make(gateway, json!({"tenant_id": "acme"})).await;
    let mut browser = Browser::new(gateway);
    let page = browser.open(token(&made), OPEN).await;
    let session = hidden(&page, "session");
    let base = vendor.base();
    let form = [
        ("session", session.as_str()),
        ("step", "submit"),
        ("integration", "scim"),
        ("method", "bearer"),
        ("f.base_url", &base),
        ("f.token", SECRET),
    ];
    let with = |more: &[(&'static str, &'static str)]| [&form[..], more].concat();
    let large = browser.post(&with(&[("x", "+".repeat(43 * 1024).leak())])).await;
    assert_eq!((large.status, large.header("content-type")), (413, Some("text/html; charset=utf-8")), "{}", large.text());
    let many = browser.post(&with(&[("x", ""); 59])).await;
    assert_eq!((many.status, many.header("content-type")), (400, Some("text/html; charset=utf-8")), "{}", many.text());
    assert_eq!(accounts(gateway).await.len(), 0);
    // What fields hold at most fits: certificates of 32 KiB as a browser writes them, and a key.
    let line = format!("{}\r\n", "abc+".repeat(16));
    let pem = format!("-----BEGIN CERTIFICATE-----\r\n{}-----END CERTIFICATE-----", line.repeat(480)).leak();
    let fits = browser.post(&with(&[("f.ca_certificate", pem), ("x", "+".repeat(8192).leak())])).await;
    assert_eq!(fits.status, 422, "{}", fits.text());
    assert_eq!(browser.post(&with(&[("x", ""); 58])).await.status, 200);
    assert_eq!(accounts(gateway).await.len(), 1);
}

#[tokio::test]
async fn whoever_links_learns_nothing_of_the_operators_network() {
    let Stand { gateway, .. } = &Stand::start();
    let elsewhere = "This address cannot be used here: check it, or ask whoever sent you this link.";
    for (address, said) in [
        ("https://localhost:8443/scim", elsewhere),
        ("https://10.1.2.3/scim", elsewhere),
        ("https://vendor.example:9443/scim", elsewhere),
        ("http://vendor.example/scim", "takes an address that begins with https://"),
        ("https://nope.invalid/scim", "No server is called nope.invalid: check the address."),
    ] {
        let made = make(gateway, json!({"tenant_id": "acme"})).await;
        let mut browser = Browser::new(gateway);
        let page = browser.open(token(&made), OPEN).await;
        let text = browser.fill(&page, address, SECRET).await.text();
        assert!(text.contains(said), "{address}: {text}");
        assert!(!text.contains("EGRESS_ALLOW") && !text.contains("127.0.0.1") && !text.contains(" resolve"), "{address}: {text}");
    }
    // Callers of the API hear the operator's words.
    let context = json!({"base_url": "https://localhost:8443/scim", "token": SECRET});
    let body = json!({"tenant_id": "acme", "integration": "scim", "authentication_method": "bearer", "context": context});
    let told = gateway.call("POST", "/integrated-account", Some(&body)).await;
    assert!(told.status == 422 && told.text().contains("ROLLCALL_EGRESS_ALLOW"), "{}", told.text());
}

#[tokio::test]
async fn a_browser_keeps_the_cookies_of_few_links() {
    let Stand { gateway, .. } = &Stand::start();
    let mut browser = Browser::new(gateway);
    let mut kept = Vec::new();
    for round in 0..12 {
        let made = make(gateway, json!({"tenant_id": "acme", "integrations": ["scim"]})).await;
        let at = format!("/connect-account?link_token={}&integrations=keeper,scim,{}", token(&made), "x".repeat(60));
        let opened = browser.get(&at).await;
        let set: Vec<_> = opened.headers.get_all("set-cookie").iter().map(|set| set.to_str().unwrap().to_owned()).collect();
        let ended = set.iter().filter(|set| set.contains("=; ") && set.contains("Max-Age=0")).count();
        assert_eq!((set.len(), ended), (1 + usize::from(round >= 8), usize::from(round >= 8)), "{set:?}");
        browser.cookies.retain(|_, value| !value.is_empty());
        kept.push(opened.header("location").unwrap().to_owned());
    }
    assert_eq!(browser.cookies.len(), 8);
    assert_eq!(browser.get(kept.last().unwrap()).await.status, 200);
    // The session says nothing of connectors that its link does not allow.
    let lengths = |more: String| {
        let mut browser = Browser::new(gateway);
        async move {
            let made = make(gateway, json!({"tenant_id": "acme", "integrations": ["scim"]})).await;
            browser.get(&format!("/connect-account?link_token={}&integrations=scim{more}", token(&made))).await;
            browser.cookies.values().next().unwrap().len()
        }
    };
    let (plain, asked) = (lengths(String::new()).await, lengths(format!(",{}", "y".repeat(64)).repeat(19)).await);
    assert!(plain.abs_diff(asked) < 64, "{plain} {asked}");
}

#[tokio::test]
async fn answers_with_a_token_are_kept_by_nobody() {
    let Stand { vendor, gateway, .. } = &Stand::start();
    let account = gateway.call("POST", "/integrated-account", Some(&vendor.import())).await.json()["id"].clone();
    for (place, body) in [
        ("/link-token", json!({"tenant_id": "acme"})),
        ("/api-token", json!({"name": "t", "scopes": ["accounts:read"]})),
        ("/integrated-account/token", json!({"integrated_account_id": account})),
    ] {
        let answer = gateway.call("POST", place, Some(&body)).await;
        assert!((200..300).contains(&answer.status), "{place}: {}", answer.text());
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{place}");
    }
}
