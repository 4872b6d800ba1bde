//! G-10: what a hostile vendor's answers may do on our origin: nothing. G-14: what a caller says about the host it calls is used
//! nowhere.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::json;

use super::bar_vendor::{Act, Vendor, answer, scim};
use crate::support::gateway::{ADMIN, Gateway, Kept};

/// Stands in the page once its script has run.
const RAN: &str = "the-script-has-run";

/// What no answer of ours carries, whatever the vendor sent.
const HOSTILE: &[(&str, &str)] = &[
    ("set-cookie", "session=hostile; Path=/"),
    ("set-cookie2", "session=hostile"),
    ("access-control-allow-origin", "*"),
    ("access-control-allow-credentials", "true"),
    ("access-control-expose-headers", "*"),
    ("strict-transport-security", "max-age=31536000; includeSubDomains; preload"),
    ("alt-svc", "h3=\":443\"; ma=86400"),
    ("clear-site-data", "\"*\""),
    ("refresh", "0; url=https://evil.example/"),
    ("connection", "x-hop, keep-alive"),
    ("x-hop", "named by Connection"),
    ("keep-alive", "timeout=86400"),
    ("proxy-authenticate", "Basic realm=\"hostile\""),
    ("trailer", "set-cookie"),
    ("upgrade", "h2c"),
];

const PAGES: &[(&str, &str)] = &[
    ("/page.html", "text/html; charset=utf-8"),
    ("/page.xhtml", "application/xhtml+xml"),
    ("/page.svg", "image/svg+xml"),
    ("/page.xml", "text/xml"),
    ("/page.txt", "text/plain"),
    ("/page.json", "application/json"),
    ("/page.none", ""),
];

/// A page of each type whose script marks the page and tells the vendor.
fn page(path: &str, told: &str) -> String {
    let script =
        format!("document.documentElement.setAttribute('class', ['the','script','has','run'].join('-')); fetch('{told}');");
    match path.rsplit('.').next() {
        Some("svg") => format!("<svg xmlns=\"http://www.w3.org/2000/svg\" onload=\"{script}\"><script>{script}</script></svg>"),
        Some("xhtml") => format!(
            "<html xmlns=\"http://www.w3.org/1999/xhtml\"><head><title>x</title></head><body onload=\"{script}\"><script>{script}</script></body></html>"
        ),
        Some("xml") => format!("<a xmlns:h=\"http://www.w3.org/1999/xhtml\"><h:script>{script}</h:script></a>"),
        _ => format!(
            "<!doctype html><html><body onload=\"{script}\"><script>{script}</script><img src=x onerror=\"{script}\"><svg onload=\"{script}\"></svg></body></html>"
        ),
    }
}

fn vendor() -> Vendor {
    Vendor::start(|asked| match asked.path() {
        "/hostile" => Act::Send(answer(200, HOSTILE, b"hostile")),
        "/split" => {
            Act::Send(b"HTTP/1.1 200 OK\r\nx-split: a\rset-cookie: b=c\r\nx-fine: 1\r\nContent-Length: 2\r\n\r\nok".to_vec())
        }
        "/folded" => Act::Send(b"HTTP/1.1 200 OK\r\nx-fold: a\r\n set-cookie: b=c\r\nContent-Length: 2\r\n\r\nok".to_vec()),
        "/nul" => Act::Send(b"HTTP/1.1 200 OK\r\nx-nul: a\0b\r\nset-cookie: b=c\r\nContent-Length: 2\r\n\r\nok".to_vec()),
        path => match PAGES.iter().find(|(known, _)| *known == path) {
            Some((_, "")) => Act::Send(answer(200, &[], page(path, "/told").as_bytes())),
            Some((_, media)) => Act::Send(answer(200, &[("content-type", media)], page(path, "/told").as_bytes())),
            None => scim(asked, 1),
        },
    })
}

async fn stand(settings: &[(&str, &str)]) -> (Vendor, Gateway, String) {
    let vendor = vendor();
    let gateway = Gateway::start_with(&Kept::embedded(), &vendor.authority(), settings);
    let account = gateway.link("scim", "bearer", json!({"base_url": vendor.at(""), "token": "a-token"})).await;
    (vendor, gateway, account)
}

#[tokio::test]
async fn g_10_no_hostile_header_of_a_vendor_gets_through() {
    let (_vendor, gateway, account) = stand(&[]).await;
    let got = gateway.get(&format!("/passthrough/{account}/hostile")).await;
    assert_eq!((got.status, got.text().as_str()), (200, "hostile"));
    for (name, value) in HOSTILE {
        let values: Vec<_> = got.headers.get_all(*name).iter().map(|v| v.to_str().unwrap_or_default().to_owned()).collect();
        assert!(!values.iter().any(|v| v == value), "{name}: {values:?}");
    }
    for path in ["split", "folded", "nul"] {
        let got = gateway.get(&format!("/passthrough/{account}/{path}")).await;
        assert!(got.header("set-cookie").is_none(), "{path}: {:?}", got.headers);
        assert!(got.status == 502 || got.status == 200, "{path}: {}", got.status);
    }
    for (path, media) in PAGES {
        let got = gateway.get(&format!("/passthrough/{account}{path}")).await;
        assert_eq!((got.status, got.header("x-content-type-options")), (200, Some("nosniff")), "{path}");
        let is_page = ["html", "svg", "xml"].iter().any(|word| media.contains(word));
        assert_eq!(got.header("content-security-policy").is_some_and(|p| p.contains("sandbox")), is_page, "{path}");
    }
}

/// What Chromium makes of an address, as text.
fn dom(address: &str) -> String {
    let home = tempfile::tempdir().unwrap();
    let mut command = Command::new("chromium");
    command.args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-sync"]);
    command.args(["--disable-background-networking", "--disable-component-update", "--no-proxy-server"]);
    command.arg(format!("--user-data-dir={}", home.path().display())).args(["--virtual-time-budget=3000", "--dump-dom", address]);
    let file = home.path().join("dom");
    command.env("HOME", home.path()).stdin(Stdio::null()).stderr(Stdio::null()).stdout(std::fs::File::create(&file).unwrap());
    let mut child = command.spawn().expect("Chromium, which ./tests/run installs");
    let end = Instant::now() + Duration::from_secs(90);
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break Some(status);
        }
        if Instant::now() > end {
            let _ = child.kill();
            let _ = child.wait();
            break None;
        }
        thread::sleep(Duration::from_millis(20));
    };
    assert!(status.is_some_and(|s| s.success()), "Chromium: {status:?}");
    String::from_utf8_lossy(&std::fs::read(file).unwrap()).into_owned()
}

/// A door to the gateway that shows a token for a browser, which cannot: every request head gets it, one request per connection.
fn door(gateway: &Gateway) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (port, to) = (listener.local_addr().unwrap().port(), gateway.base.strip_prefix("http://").unwrap().to_owned());
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let to = to.clone();
            thread::spawn(move || hand_on(client, &to));
        }
    });
    port
}

fn hand_on(mut client: TcpStream, to: &str) -> Option<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte).ok()?;
        head.extend_from_slice(&byte);
    }
    let text = String::from_utf8_lossy(&head).into_owned();
    let (first, rest) = text.split_once("\r\n")?;
    let rest: String = rest
        .lines()
        .filter(|l| !l.to_lowercase().starts_with("connection:") && !l.is_empty())
        .map(|l| format!("{l}\r\n"))
        .collect();
    let mut gateway = TcpStream::connect(to).ok()?;
    write!(gateway, "{first}\r\nConnection: close\r\nAuthorization: Bearer {ADMIN}\r\n{rest}\r\n").ok()?;
    std::io::copy(&mut gateway, &mut client).ok()?;
    Some(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g_10_a_vendors_script_does_not_run_in_chromium_on_our_origin() {
    let (vendor, gateway, account) = stand(&[]).await;
    let port = door(&gateway);
    let told = || vendor.asked().iter().filter(|asked| asked.path() == "/told").count();
    for (path, media) in PAGES {
        let seen = dom(&format!("http://127.0.0.1:{port}/passthrough/{account}{path}"));
        assert!(!seen.contains(&format!("class=\"{RAN}\"")), "{path} ({media}):\n{seen}");
        assert!(vendor.asked().iter().any(|asked| asked.path() == *path), "{path} was not asked for");
        assert_eq!(told(), 0, "{path}: the script called home");
    }
    for (path, _) in PAGES.iter().filter(|(path, _)| path.ends_with("html") || path.ends_with("svg")) {
        let before = told();
        let seen = dom(&vendor.at(path));
        assert!(seen.contains(&format!("class=\"{RAN}\"")) && told() > before, "{path} does run at the vendor itself:\n{seen}");
    }
}

/// One request, byte for byte, and everything that comes back.
fn raw(gateway: &Gateway, bytes: &str) -> String {
    let mut stream = TcpStream::connect(gateway.base.strip_prefix("http://").unwrap()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let _ = stream.write_all(bytes.as_bytes());
    let mut all = Vec::new();
    let _ = stream.read_to_end(&mut all);
    String::from_utf8_lossy(&all).into_owned()
}

const EVIL: &str = "evil.example";

/// Forty ways to say that we are somewhere else: a request line's target before the path, the `Host` (none: the gateway's), and
/// more headers.
fn spoofs() -> Vec<(String, Option<String>, String)> {
    let mut all = Vec::new();
    for host in [
        EVIL.to_owned(),
        format!("{EVIL}:80"),
        format!("{EVIL}:443"),
        format!("{{host}}.{EVIL}"),
        format!("{EVIL}/{{host}}"),
        format!("{EVIL}?{{host}}"),
        format!("{EVIL}#{{host}}"),
        format!("{{host}}@{EVIL}"),
        format!("{EVIL}@{{host}}"),
        format!("{EVIL}, {{host}}"),
        format!("{{host}}, {EVIL}"),
        format!("{{host}} {EVIL}"),
        format!("[::1].{EVIL}"),
        format!("{EVIL}\\{{host}}"),
        format!("xn--{EVIL}"),
        format!("EVIL.{EVIL}"),
    ] {
        all.push((String::new(), Some(host), String::new()));
    }
    for header in [
        format!("X-Forwarded-Host: {EVIL}"),
        format!("X-Forwarded-Host: {{host}}, {EVIL}"),
        format!("X-Forwarded-Host: {EVIL}, {{host}}"),
        format!("X-Forwarded-Server: {EVIL}"),
        format!("X-Forwarded-For: {EVIL}"),
        "X-Forwarded-Proto: evil.example".to_owned(),
        format!("X-Forwarded-Port: 443\r\nX-Forwarded-Host: {EVIL}"),
        format!("X-Forwarded-Prefix: //{EVIL}"),
        format!("X-Original-Host: {EVIL}"),
        format!("X-Original-URL: http://{EVIL}/"),
        format!("X-Rewrite-URL: http://{EVIL}/"),
        format!("X-Host: {EVIL}"),
        format!("X-HTTP-Host-Override: {EVIL}"),
        format!("X-Real-IP: {EVIL}"),
        format!("Forwarded: host={EVIL};proto=https"),
        format!("Forwarded: for=1.2.3.4;host=\"{EVIL}\""),
        format!("Forwarded: host={{host}}, host={EVIL}"),
        format!("Via: 1.1 {EVIL}"),
        format!("Origin: https://{EVIL}"),
        format!("Referer: https://{EVIL}/"),
    ] {
        all.push((String::new(), None, format!("{header}\r\n")));
    }
    for target in
        [format!("http://{EVIL}"), format!("https://{EVIL}"), format!("http://{{host}}@{EVIL}"), format!("http://{EVIL}:80")]
    {
        all.push((target.clone(), None, String::new()));
        all.push((target, Some(EVIL.to_owned()), String::new()));
    }
    all
}

#[tokio::test]
async fn g_14_no_answer_says_where_a_caller_claims_we_are() {
    for public in [true, false] {
        let settings: &[(&str, &str)] = if public { &[("ROLLCALL_PUBLIC_URL", "http://127.0.0.1:{port}")] } else { &[] };
        let (_vendor, gateway, account) = stand(settings).await;
        let own = gateway.base.strip_prefix("http://").unwrap().to_owned();
        let spoofs = spoofs();
        assert!(spoofs.len() >= 40, "{}", spoofs.len());
        let mut refused = 0;
        for (target, host, headers) in &spoofs {
            for path in [
                "/integration",
                "/docs/",
                "/openapi.json",
                "/errors/not_found",
                "/nowhere",
                &format!("/integrated-account/{account}"),
                &format!("/unified/user-directory/users?integrated_account_id={account}"),
                &format!("/passthrough/{account}/Users"),
            ] {
                let host = host.as_deref().unwrap_or("{host}").replace("{host}", &own);
                let (target, headers) = (target.replace("{host}", &own), headers.replace("{host}", &own));
                let said = raw(
                    &gateway,
                    &format!(
                        "GET {target}{path} HTTP/1.1\r\nHost: {host}\r\n{headers}Authorization: Bearer {ADMIN}\r\nConnection: close\r\n\r\n"
                    ),
                );
                assert!(!said.to_lowercase().contains(EVIL), "{target}{path} at {host}, {headers}: {said}");
                let status = said.get(9..12).unwrap_or_else(|| panic!("no answer: {target}{path} at {host}: {said}"));
                let is_elsewhere = !target.is_empty() || host != own;
                if public && is_elsewhere {
                    assert_eq!(status, "400", "{target}{path} at {host}: {said}");
                    refused += 1;
                } else {
                    assert!(["200", "400", "404"].contains(&status), "{target}{path} at {host}, {headers}: {said}");
                }
            }
        }
        assert!(!public || refused > 100, "{refused}");
    }
}
