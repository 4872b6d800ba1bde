//! R-12 and the end of a consent: whatever a browser, a token endpoint or a crash does between the customer's yes and the
//! account, there is the account or there is none, and the customer reads which.
//!
//! What needs another clock or the certified provider's own checks stands beside it: an answer that comes too late, codes and
//! verifiers in `service::authorize`, links that were taken back in `e2e::link`.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use futures_util::future::{join, join_all};
use serde_json::{Value, json};
use url::Url;

use super::{
    bar_vendor::{Act, Asked, Vendor, answer, json_answer, scim},
    link::{Browser, PAGE, hidden, leads_to, make, message, token},
    vendor::{accounts, is_sound, overlay},
};
use crate::support::{
    gateway::{Answer, Gateway, Kept, client},
    long,
};

const CLIENT_SECRET: &str = "synthetic-consent-secret-5d21";

/// Codes that the token endpoint answers otherwise than with a token.
const HOSTILE: &[&str] = &[
    "html",
    "html-500",
    "500",
    "502",
    "429",
    "301",
    "302",
    "303",
    "307",
    "308",
    "nothing",
    "cut",
    "no-token",
    "no-object",
    "no-header",
    "200-error",
    "invalid_grant",
    "invalid_client",
    "empty",
    "echo",
];

/// The vendor's answer to a code by its name; `held` keeps `hold-…` waiting.
fn exchange(code: &str, elsewhere: u16, held: &AtomicBool) -> Act {
    let token = json!({"access_token": format!("of-{code}"), "refresh_token": format!("refresh-{code}"), "expires_in": 3600});
    let wait = || {
        let end = Instant::now() + Duration::from_secs(60);
        while held.load(Ordering::SeqCst) && Instant::now() < end {
            thread::sleep(Duration::from_millis(5));
        }
    };
    let moved = |status: u16| {
        let place = format!("http://127.0.0.1:{elsewhere}/token");
        Act::Send(answer(status, &[("location", &place), ("refresh", &format!("0; url={place}"))], b"moved"))
    };
    match code {
        "html" => Act::Send(answer(200, &[("content-type", "text/html")], b"<html><script>alert(1)</script></html>")),
        "html-500" => Act::Send(answer(500, &[("content-type", "text/html")], b"<html>oops</html>")),
        "500" => json_answer(500, &json!({"error": "server_error"})),
        "502" => Act::Send(answer(502, &[], b"")),
        "429" => Act::Send(answer(429, &[("retry-after", "1")], b"{}")),
        "301" | "302" | "303" | "307" | "308" => moved(code.parse().unwrap()),
        "nothing" => Act::End(Vec::new()),
        "cut" => Act::End(b"HTTP/1.1 200 X\r\ncontent-length: 900\r\n\r\n{\"access_token\": \"half".to_vec()),
        "no-token" => json_answer(200, &json!({"refresh_token": "alone"})),
        "no-object" => json_answer(200, &json!(["access_token"])),
        "no-header" => json_answer(200, &json!({"access_token": "two\nlines"})),
        "200-error" => json_answer(200, &json!({"error": "bad_verification_code"})),
        "invalid_grant" | "invalid_client" => json_answer(400, &json!({"error": code})),
        "empty" => Act::Send(answer(200, &[], b"")),
        "echo" => {
            let said = format!("no {CLIENT_SECRET}: {code}");
            json_answer(400, &json!({"error": "invalid_grant", "error_description": said}))
        }
        "slow" => {
            thread::sleep(Duration::from_secs(19));
            json_answer(200, &token)
        }
        "never" => {
            thread::sleep(Duration::from_secs(45));
            Act::End(Vec::new())
        }
        code => {
            if code.starts_with("hold") {
                wait();
            }
            if code.starts_with("soon") {
                thread::sleep(Duration::from_millis(u64::from(uuid::Uuid::new_v4().as_bytes()[0]) / 4));
            }
            json_answer(200, &token)
        }
    }
}

/// A gateway, a vendor whose token endpoint does what the code says, and a server nobody has any business with.
struct Stand {
    kept: Kept,
    vendor: Vendor,
    elsewhere: Vendor,
    held: Arc<AtomicBool>,
    gateway: Gateway,
}

impl Stand {
    fn start() -> Stand {
        Self::on(Kept::embedded(), &[])
    }

    fn on(kept: Kept, settings: &[(&str, &str)]) -> Stand {
        let elsewhere = Vendor::start(|_| json_answer(200, &json!({"access_token": "stolen"})));
        let held = Arc::new(AtomicBool::new(true));
        let (port, holds) = (elsewhere.port, held.clone());
        let vendor = Vendor::start(move |asked| match asked.path() {
            "/token" => exchange(&asked.form()["code"], port, &holds),
            "/revoke" => Act::Send(answer(200, &[], b"")),
            _ => match asked.header("authorization").strip_prefix("Bearer of-") {
                Some(code) if code.starts_with("refused") => Act::Send(answer(403, &[], b"{}")),
                Some(code) => {
                    let end = Instant::now() + Duration::from_secs(60);
                    while code.starts_with("look") && holds.load(Ordering::SeqCst) && Instant::now() < end {
                        thread::sleep(Duration::from_millis(5));
                    }
                    scim(asked, 3)
                }
                None => Act::Send(answer(401, &[], b"{}")),
            },
        });
        let allow = format!("{},{}", vendor.authority(), elsewhere.authority());
        let gateway = Gateway::start_with(&kept, &allow, settings);
        Stand { kept, vendor, elsewhere, held, gateway }
    }

    fn context(&self) -> Value {
        json!({"base_url": self.vendor.at("/scim"), "authorize_url": self.vendor.at("/auth"), "token_url": self.vendor.at("/token"),
            "revoke_url": self.vendor.at("/revoke"), "client_id": "consent", "client_secret": CLIENT_SECRET})
    }

    async fn made(&self, tenant: &str) -> Value {
        make(&self.gateway, json!({"tenant_id": tenant, "context": self.context()})).await
    }

    /// How often the token endpoint saw a code.
    fn exchanged(&self, code: &str) -> usize {
        self.vendor.asked().iter().filter(|asked| asked.path() == "/token" && asked.form()["code"] == code).count()
    }

    /// The tokens that were given back, in order.
    fn given_back(&self) -> Vec<String> {
        let asked = self.vendor.asked().into_iter().filter(|asked| asked.path() == "/revoke");
        asked.map(|asked| asked.form()["token"].clone()).collect()
    }

    async fn until_asked(&self, is_it: impl Fn(&Asked) -> bool) {
        let end = Instant::now() + Duration::from_secs(20);
        while !self.vendor.asked().iter().any(&is_it) {
            assert!(Instant::now() < end, "the vendor is not asked\n{}", self.gateway.said());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Sends the customer to the vendor; gives the `state` that goes along.
async fn leave(browser: &mut Browser<'_>, link: &str) -> String {
    let end = Instant::now() + Duration::from_secs(25);
    loop {
        let page = browser.open(link, "&integration=scim&auth_format=oauth2").await;
        assert_eq!(page.status, 200, "{}", page.text());
        let session = hidden(&page, "session");
        let fields = [("session", session.as_str()), ("step", "submit"), ("integration", "scim"), ("method", "oauth2")];
        let left = browser.post(&fields).await;
        if left.status == 409 && Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(200)).await;
            continue;
        }
        assert_eq!(left.status, 200, "{}", left.text());
        let url: Url = leads_to(&left);
        let of = |name: &str| url.query_pairs().find(|(given, _)| given == name).map(|(_, value)| value.into_owned());
        assert_eq!(of("code_challenge_method").as_deref(), Some("S256"), "{url}");
        return of("state").unwrap();
    }
}

fn back(query: &[(&str, &str)]) -> String {
    let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(query).finish();
    format!("/connect/scim/callback?{query}")
}

async fn come_back(browser: &mut Browser<'_>, state: &str, code: &str) -> Answer {
    browser.get(&back(&[("state", state), ("code", code)])).await
}

/// A page that says that nothing was connected, and shows nothing of what it was about.
fn nothing_was_connected(page: &Answer, what: &str) {
    let text = page.text();
    assert!((400..600).contains(&page.status), "{what}: {} {text}", page.status);
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"), "{what}: {text}");
    assert!(text.contains("role=\"alert\"") && !text.contains("<script>"), "{what}: {text}");
    assert!(!text.contains(CLIENT_SECRET) && page.header("location").is_none(), "{what}: {text}");
}

async fn events(gateway: &Gateway, kind: &str) -> Vec<String> {
    let all = gateway.walk("/event?limit=1000").await;
    let all = all.iter().filter(|event| event["event"].as_str().is_some_and(|event| event.ends_with(kind)));
    all.map(|event| event["payload"]["id"].to_string()).collect()
}

/// Waits until so many events of a kind are told; they are told beside the call.
async fn until_told(gateway: &Gateway, kind: &str, count: usize) {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        let told = events(gateway, kind).await.len();
        if told == count {
            return;
        }
        assert!(told < count && Instant::now() < end, "{told} of {count} {kind}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn r_12_hostile_token_endpoints_link_nothing_and_the_link_stays_good() {
    let stand = Stand::start();
    let gateway = &stand.gateway;
    for (before, code) in HOSTILE.iter().enumerate() {
        let made = stand.made("acme").await;
        let mut browser = Browser::new(gateway);
        let state = leave(&mut browser, token(&made)).await;
        let page = come_back(&mut browser, &state, code).await;
        nothing_was_connected(&page, code);
        assert!(page.text().contains("id=\"fields\""), "{code}: the form is there to try again: {}", page.text());
        assert_eq!((stand.exchanged(code), stand.elsewhere.count()), (1, 0), "{code}: a code is shown once, and there alone");
        assert_eq!(accounts(gateway).await.len(), before, "{code}");
        // The same answer once more: it was used up.
        nothing_was_connected(&come_back(&mut browser, &state, "good").await, code);
        // The customer tries again on the same link.
        let state = leave(&mut browser, token(&made)).await;
        let page = come_back(&mut browser, &state, &format!("good-{before}")).await;
        assert_eq!((page.status, message(&page)["result"].as_str()), (200, Some("success")), "{code}: {}", page.text());
        assert_eq!(accounts(gateway).await.len(), before + 1, "{code}");
    }
    until_told(gateway, ":created", HOSTILE.len()).await;
    assert_eq!(
        events(gateway, "").await.len(),
        2 * HOSTILE.len(),
        "`created` and `active` of each account, and nothing of a try"
    );
    let said = gateway.said();
    assert!(!said.contains(CLIENT_SECRET) && !said.contains("of-good"), "{said}");
    is_sound(gateway);
}

#[tokio::test]
async fn r_12_a_slow_token_endpoint_is_waited_for_and_one_that_hangs_is_not() {
    let stand = Stand::start();
    let gateway = &stand.gateway;
    let (slow, never) = (stand.made("slow").await, stand.made("never").await);
    let (mut patient, mut hanging) = (Browser::new(gateway), Browser::new(gateway));
    let states = (leave(&mut patient, token(&slow)).await, leave(&mut hanging, token(&never)).await);
    let begun = Instant::now();
    let (linked, given_up) = join(come_back(&mut patient, &states.0, "slow"), come_back(&mut hanging, &states.1, "never")).await;
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    assert_eq!((linked.status, message(&linked)["result"].as_str()), (200, Some("success")), "{}", linked.text());
    nothing_was_connected(&given_up, "never");
    assert_eq!((accounts(gateway).await.len(), stand.exchanged("never")), (1, 1));
    let state = leave(&mut hanging, token(&never)).await;
    assert_eq!(come_back(&mut hanging, &state, "good").await.status, 200);
    assert_eq!(accounts(gateway).await.len(), 2);
    is_sound(gateway);
}

/// RFC 9207: a server that declares its issuer names it in every answer, to the letter.
#[tokio::test]
async fn r_12_an_issuer_that_is_declared_is_in_every_answer() {
    let kept = Kept::embedded();
    let folder = kept.folder().join("connectors");
    overlay(&folder, |name, text| match name {
        "connector.yaml" => {
            let declared = "authorize: { url: \"{authorize_url}\", issuer: \"https://login.example.com/of/them\" }";
            text.replace("authorize: { url: \"{authorize_url}\" }", declared)
        }
        _ => text,
    });
    let stand = Stand::on(kept, &[("ROLLCALL_CONNECTORS_DIR", folder.to_str().unwrap())]);
    let made = stand.made("acme").await;
    let mut browser = Browser::new(&stand.gateway);
    for iss in [None, Some(""), Some("https://login.example.com"), Some("https://login.example.com/of/them/")] {
        for (name, value) in [("code", "good"), ("error", "access_denied")] {
            let state = leave(&mut browser, token(&made)).await;
            let mut query = vec![(name, value), ("state", state.as_str())];
            query.extend(iss.map(|iss| ("iss", iss)));
            let page = browser.get(&back(&query)).await;
            nothing_was_connected(&page, name);
            assert!(page.text().contains("did not come from the server"), "{iss:?}: {}", page.text());
        }
    }
    assert_eq!(stand.vendor.count(), 0, "no code was shown to anybody");
    let state = leave(&mut browser, token(&made)).await;
    let query = [("code", "good"), ("state", state.as_str()), ("iss", "https://login.example.com/of/them")];
    let linked = browser.get(&back(&query)).await;
    assert_eq!((linked.status, accounts(&stand.gateway).await.len()), (200, 1), "{}", linked.text());
}

#[tokio::test]
async fn r_12_a_way_back_that_is_not_the_one_that_was_gone_asks_no_vendor() {
    let stand = Stand::start();
    let gateway = &stand.gateway;
    let (first, second) = (stand.made("acme").await, stand.made("other").await);
    let mut browser = Browser::new(gateway);
    let state = leave(&mut browser, token(&first)).await;
    // One browser with links of two customers: each has a cookie of its own, which counts for that alone.
    let other = leave(&mut browser, token(&second)).await;
    let mut swapped = Browser::new(gateway);
    let ways = browser.cookies.iter().filter(|(name, _)| name.contains("rollcall-authorize-"));
    let (names, values): (Vec<_>, Vec<_>) = ways.map(|(name, value)| (name.clone(), value.clone())).unzip();
    swapped.cookies.extend(names.into_iter().zip(values.into_iter().rev()));
    assert_eq!(swapped.cookies.len(), 2);
    nothing_was_connected(&come_back(&mut swapped, &state, "good").await, "another tenant's");
    let mut stranger = Browser::new(gateway);
    for (what, query) in [
        ("no state", vec![("code", "good")]),
        ("an empty state", vec![("code", "good"), ("state", "")]),
        ("two states", vec![("code", "good"), ("state", other.as_str()), ("state", other.as_str())]),
        ("another state", vec![("code", "good"), ("state", "x".repeat(43).leak())]),
        ("two codes", vec![("code", "good"), ("code", "better"), ("state", other.as_str())]),
    ] {
        nothing_was_connected(&browser.get(&back(&query)).await, what);
    }
    nothing_was_connected(&come_back(&mut stranger, &other, "good").await, "another browser");
    for (what, more) in [
        ("an empty issuer", ("iss", "")),
        ("another issuer", ("iss", "https://login.attacker.example")),
        ("an issuer that is no address", ("iss", "attacker")),
        ("a refusal beside a code", ("error", "access_denied")),
        ("two issuers", ("iss", "a")),
    ] {
        let state = leave(&mut browser, token(&second)).await;
        let mut query = vec![("code", "good"), ("state", state.as_str()), more];
        if what == "two issuers" {
            query.push(("iss", "b"));
        }
        nothing_was_connected(&browser.get(&back(&query)).await, what);
    }
    let state = leave(&mut browser, token(&second)).await;
    let elsewhere = back(&[("code", "good"), ("state", &state)]).replace("/scim/", "/keeper/");
    nothing_was_connected(&browser.get(&elsewhere).await, "another connector");
    assert_eq!((stand.vendor.count(), accounts(gateway).await.len(), events(gateway, "").await.len()), (0, 0, 0));

    let state = leave(&mut browser, token(&second)).await;
    let all = join_all((0..20).map(|_| {
        let (mut browser, state, cookies) = (Browser::new(gateway), &state, browser.cookies.clone());
        browser.cookies = cookies;
        async move { come_back(&mut browser, state, "good").await.status }
    }));
    let ended = all.await;
    assert_eq!(ended.iter().filter(|status| **status == 200).count(), 1, "{ended:?}");
    let one = accounts(gateway).await;
    assert_eq!((one.len(), stand.exchanged("good"), stand.elsewhere.count()), (1, 1, 0), "{ended:?}");
    assert_eq!(gateway.get(&format!("/integrated-account/{}", one[0])).await.json()["tenant_id"], "other");
    is_sound(gateway);
}

/// A deletion wins over a link of the same account, whenever it comes.
#[tokio::test]
async fn r_11_an_account_that_is_deleted_while_it_is_linked_anew_stays_deleted() {
    let stand = Stand::start();
    let gateway = &stand.gateway;
    let linked = async || {
        let mut context = stand.context();
        context["oauth"] = json!({"token": {"access_token": "of-before", "refresh_token": "refresh-before"}});
        gateway.link("scim", "oauth2", context).await
    };
    let gone = async |id: &str| {
        assert_eq!(gateway.call("DELETE", &format!("/integrated-account/{id}"), None).await.status, 200);
    };
    // While the customer is at the vendor; while the vendor thinks about the code; while the new tokens are looked at.
    for (number, code) in ["away", "hold-1", "look-1"].into_iter().enumerate() {
        stand.held.store(true, Ordering::SeqCst);
        let id = linked().await;
        let made = make(gateway, json!({"integrated_account_id": id, "context": stand.context()})).await;
        let mut browser = Browser::new(gateway);
        let state = leave(&mut browser, token(&made)).await;
        let deleting = async {
            match code {
                "away" => {}
                "hold-1" => stand.until_asked(|asked| asked.path() == "/token" && asked.form()["code"] == code).await,
                _ => stand.until_asked(|asked| asked.header("authorization") == format!("Bearer of-{code}")).await,
            }
            gone(&id).await;
            stand.held.store(false, Ordering::SeqCst);
        };
        let page = match code {
            "away" => {
                deleting.await;
                come_back(&mut browser, &state, code).await
            }
            _ => join(come_back(&mut browser, &state, code), deleting).await.0,
        };
        nothing_was_connected(&page, code);
        assert_eq!(page.status, 410, "{code}: {}", page.text());
        assert_eq!(stand.exchanged(code), usize::from(code != "away"), "{code}");
        assert_eq!(accounts(gateway).await, Vec::<String>::new(), "{code}");
        assert_eq!(gateway.get(&format!("/integrated-account/{id}")).await.status, 404, "{code}");
        until_told(gateway, ":deleted", number + 1).await;
        until_told(gateway, ":created", number + 1).await;
        assert_eq!(browser.open(token(&made), "").await.status, 410, "{code}: the link is over");
        if code != "away" {
            // What the vendor gave meanwhile, nobody could use any more.
            let given = format!("refresh-{code}");
            stand.until_asked(|asked| asked.path() == "/revoke" && asked.form()["token"] == given).await;
        }
    }
    // The same for a way without a browser.
    stand.held.store(true, Ordering::SeqCst);
    let id = linked().await;
    let made = make(gateway, json!({"integrated_account_id": id, "persist_previous_context": false})).await;
    let mut browser = Browser::new(gateway);
    let page = browser.open(token(&made), "&integration=scim&auth_format=bearer").await;
    let deleting = async {
        stand.until_asked(|asked| asked.header("authorization") == "Bearer of-look-2").await;
        gone(&id).await;
        stand.held.store(false, Ordering::SeqCst);
    };
    let session = hidden(&page, "session");
    let base = stand.vendor.at("/scim");
    let fields = [
        ("session", session.as_str()),
        ("step", "submit"),
        ("integration", "scim"),
        ("method", "bearer"),
        ("f.base_url", base.as_str()),
        ("f.token", "of-look-2"),
    ];
    let (page, ()) = join(browser.post(&fields), deleting).await;
    assert_eq!((page.status, accounts(gateway).await.len()), (410, 0), "{}", page.text());
    is_sound(gateway);
}

/// A grant whose account shows nothing is nobody's: it goes back to the vendor. One beside which an account works stays, because
/// many vendors would end that account's with it.
#[tokio::test]
async fn a_grant_that_links_nothing_goes_back_to_the_vendor() {
    let stand = Stand::start();
    let gateway = &stand.gateway;
    let made = stand.made("acme").await;
    let mut browser = Browser::new(gateway);
    for number in 0..2 {
        let state = leave(&mut browser, token(&made)).await;
        let code = format!("refused-{number}");
        nothing_was_connected(&come_back(&mut browser, &state, &code).await, &code);
        let given = format!("refresh-{code}");
        stand.until_asked(|asked| asked.path() == "/revoke" && asked.form()["token"] == given).await;
    }
    let state = leave(&mut browser, token(&made)).await;
    let page = come_back(&mut browser, &state, "good").await;
    assert_eq!(page.status, 200, "{}", page.text());
    let id = message(&page)["integrated_account_id"].as_str().unwrap().to_owned();

    let again = make(gateway, json!({"integrated_account_id": id, "context": stand.context()})).await;
    let mut browser = Browser::new(gateway);
    let state = leave(&mut browser, token(&again)).await;
    nothing_was_connected(&come_back(&mut browser, &state, "refused-beside").await, "an account that works");
    // Tokens that a caller brings are in use where they come from.
    let mut context = stand.context();
    context["oauth"] = json!({"token": {"access_token": "of-refused-elsewhere", "refresh_token": "refresh-elsewhere"}});
    let body = json!({"tenant_id": "acme", "integration": "scim", "authentication_method": "oauth2", "context": context});
    let brought = gateway.call("POST", "/integrated-account", Some(&body)).await;
    assert_eq!((brought.status, brought.code().as_str()), (422, "credential_refused"), "{}", brought.text());
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(stand.given_back(), ["refresh-refused-0", "refresh-refused-1"]);
    let users = gateway.get(&format!("/unified/user-directory/users?integrated_account_id={id}")).await;
    assert_eq!(users.status, 200, "{}", users.text());
    let said = gateway.said();
    assert!(!said.contains("refresh-refused") && !said.contains("of-refused"), "{said}");
    is_sound(gateway);
}

/// A customer whose gateway dies under him.
struct Customer {
    made: Value,
    code: String,
    state: String,
    cookies: BTreeMap<String, String>,
}

impl Customer {
    async fn gone(stand: &Stand, code: String) -> Customer {
        let made = stand.made(&code).await;
        let mut browser = Browser::new(&stand.gateway);
        let state = leave(&mut browser, token(&made)).await;
        Customer { made, code, state, cookies: browser.cookies }
    }

    /// Comes back to a gateway that may not answer any more.
    fn comes_back(&self, base: &str) -> impl Future<Output = Option<u16>> + 'static {
        let all: Vec<_> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let url = format!("{base}{}", back(&[("state", &self.state), ("code", &self.code)]));
        let asked = client().get(url).header("cookie", all.join("; ")).send();
        async move { asked.await.ok().map(|reply| reply.status().as_u16()) }
    }

    /// What he sees on the gateway's next life, and does; gives the account he is told of.
    async fn goes_on(&self, gateway: &Gateway) -> String {
        let mut browser = Browser::new(gateway);
        browser.cookies.clone_from(&self.cookies);
        let page = come_back(&mut browser, &self.state, &self.code).await;
        if page.status != 200 {
            nothing_was_connected(&page, &self.code);
        }
        let place = format!("{PAGE}?link={}", self.made["id"].as_str().unwrap());
        let mut page = browser.get(&place).await;
        assert_eq!(page.status, 200, "{}: {}", self.code, page.text());
        if !page.text().contains("data-message") {
            let state = leave(&mut browser, token(&self.made)).await;
            page = come_back(&mut browser, &state, &format!("again-{}", self.code)).await;
        }
        let told = message(&page);
        assert_eq!((page.status, &told["result"]), (200, &json!("success")), "{}: {}", self.code, page.text());
        assert_eq!(Browser::new(gateway).open(token(&self.made), "").await.status, 410, "{}: it is used up", self.code);
        told["integrated_account_id"].as_str().unwrap().to_owned()
    }
}

/// Before the way back, while the code is exchanged, while the tokens are tried, and at points of their own around the commit.
#[tokio::test]
async fn r_12_a_crash_on_the_way_makes_one_account_or_none_and_the_link_tells() {
    for round in 0..if long() { 30 } else { 2 } {
        let stand = Stand::start();
        let mut customers = Vec::new();
        for code in
            ["away".to_owned(), "hold".to_owned(), "look".to_owned()].into_iter().chain((0..12).map(|n| format!("soon-{n}")))
        {
            customers.push(Customer::gone(&stand, code).await);
        }
        let back: Vec<_> = customers[1..].iter().map(|customer| customer.comes_back(&stand.gateway.base)).collect();
        let back = tokio::spawn(join_all(back));
        stand.until_asked(|asked| asked.header("authorization") == "Bearer of-look").await;
        stand.until_asked(|asked| asked.path() == "/token" && asked.form()["code"] == "hold").await;
        stand.until_asked(|asked| asked.header("authorization").starts_with("Bearer of-soon")).await;
        tokio::time::sleep(Duration::from_millis(7 * (round % 10))).await;
        let Stand { kept, vendor, elsewhere, held, gateway } = stand;
        gateway.kill();
        let answered = back.await.unwrap();
        assert_eq!(answered[..2], [None, None], "they were in the midst of it");
        held.store(false, Ordering::SeqCst);

        let gateway = Gateway::start(&kept, &vendor.authority());
        let before = accounts(&gateway).await;
        let told = join_all(customers.iter().map(|customer| customer.goes_on(&gateway))).await;
        let mut all = accounts(&gateway).await;
        println!(
            "round {round}: {} of {} were answered, {} stood after the crash",
            answered.iter().flatten().count(),
            customers.len(),
            before.len()
        );
        assert!(before.iter().all(|account| told.contains(account)), "an account that nobody knows of");
        let mut expected = told.clone();
        expected.sort();
        all.sort();
        assert_eq!(all, expected, "one account each");
        for account in &all {
            let users = gateway.get(&format!("/unified/user-directory/users?integrated_account_id={account}")).await;
            assert_eq!((users.status, users.json()["result"].as_array().map(Vec::len)), (200, Some(3)), "{}", users.text());
        }
        until_told(&gateway, ":created", all.len()).await;
        let mut created = events(&gateway, ":created").await;
        created.sort();
        assert_eq!(created, all.iter().map(|id| json!(id).to_string()).collect::<Vec<_>>(), "each is told of once");
        assert_eq!(elsewhere.count(), 0);
        is_sound(&gateway);
    }
}
