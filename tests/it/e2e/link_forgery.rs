//! The link page's part of G-12 that concerns forms and sessions: what another site sends, what somebody else began, and what is
//! over, changes nothing.

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
