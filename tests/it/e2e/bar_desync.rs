//! G-01: no desync. Raw payloads that two parsers could frame differently, straight to the gateway and behind nginx with kept
//! connections; the request behind each carries another key for another account.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::json;

use super::bar_vendor::{Act, Asked, Vendor, answer, scim};
use crate::support::{
    gateway::{Gateway, Kept},
    redis::{free_port, until},
};

/// What may become of a payload's first request.
#[derive(Clone, Copy, PartialEq)]
enum Frame {
    /// Two parsers could differ: nothing of it, nor of what follows, may reach the vendor.
    Unclear,
    /// Every parser reads the same, or what differs cannot move the end of the request.
    Clear,
}

struct Payload {
    name: String,
    frame: Frame,
    /// From the request line to the end of the first request, as its sender sees it.
    bytes: Vec<u8>,
}

/// The places and keys of two callers.
struct Callers {
    first: String,
    second: String,
    keys: [String; 2],
}

impl Callers {
    fn head(&self, line: &str, lines: &str) -> String {
        let line = line.replace("{place}", &self.first);
        format!("{line}\r\nHost: gateway\r\nAuthorization: Bearer {}\r\nX-First: 1\r\n{lines}\r\n", self.keys[0])
    }

    fn next(&self, name: &str) -> String {
        format!("GET {}/{name} HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer {}\r\n\r\n", self.second, self.keys[1])
    }
}

fn payloads(callers: &Callers) -> Vec<Payload> {
    use Frame::{Clear, Unclear};
    let mut all = Vec::new();
    let post = "POST {place}/first HTTP/1.1";
    let mut add = |name: String, frame: Frame, line: &str, lines: &str, body: &str| {
        let bytes = [callers.head(line, lines).as_bytes(), body.as_bytes()].concat();
        all.push(Payload { name, frame, bytes });
    };
    // Codings beside a length, and alone.
    let codings = [
        "chunked",
        "Chunked",
        "xchunked",
        "chunked, identity",
        "identity, chunked",
        "gzip, chunked",
        "chunked, chunked",
        "\"chunked\"",
        "chunked;q=1",
        "identity",
        "cow",
        "\u{b}chunked",
        "chunk",
        "chunked,",
        ",chunked",
        "chunked chunked",
        "[chunked]",
    ];
    for coding in codings {
        for (place, lines) in [
            ("before a length", format!("Transfer-Encoding: {coding}\r\nContent-Length: 5\r\n")),
            ("behind a length", format!("Content-Length: 5\r\nTransfer-Encoding: {coding}\r\n")),
            (
                "twice beside a length",
                format!("Transfer-Encoding: {coding}\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n"),
            ),
        ] {
            add(format!("coding {coding:?} {place}"), Unclear, post, &lines, "0\r\n\r\n");
        }
        let frame = if coding.eq_ignore_ascii_case("chunked") { Clear } else { Unclear };
        add(
            format!("coding {coding:?} alone"),
            frame,
            post,
            &format!("Transfer-Encoding: {coding}\r\n"),
            "5\r\nhello\r\n0\r\n\r\n",
        );
    }
    // Names of the coding that some parsers take for it.
    for line in [
        "Transfer-Encoding : chunked",
        "Transfer-Encoding\t: chunked",
        " Transfer-Encoding: chunked",
        "X: y\r\n Transfer-Encoding: chunked",
        "X: y\r\n\tTransfer-Encoding: chunked",
        "Transfer-Encoding:\r\n chunked",
        "X: a\rTransfer-Encoding: chunked",
        "\0Transfer-Encoding: chunked",
        "Transfer-Encoding\0: chunked",
        "Transfer\u{b}Encoding: chunked",
        "Transfer-Encoding: chunked\rX: y",
        "Transfer-Encoding: \0chunked",
        "Transfer Encoding: chunked",
        ": chunked",
        "Transfer-Encoding",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
    ] {
        add(format!("name {line:?}"), Unclear, post, &format!("{line}\r\nContent-Length: 5\r\n"), "0\r\n\r\n");
    }
    // Underscores are dropped on the way, so the length is the only word.
    add("name with an underscore".into(), Clear, post, "Transfer_Encoding: chunked\r\nContent-Length: 5\r\n", "0\r\n\r\n");
    // Lengths.
    for length in [
        "5\r\nContent-Length: 6",
        "5\r\nContent-Length: 5",
        "5, 5",
        "5,6",
        "+5",
        "-5",
        "0x5",
        "5a",
        "",
        "1e1",
        "99999999999999999999",
        "5;",
        "5 5",
        "5\r\n 0",
        "\"5\"",
        "5.0",
        "18446744073709551621",
        "0\r\nContent-Length: 5",
    ] {
        add(format!("length {length:?}"), Unclear, post, &format!("Content-Length: {length}\r\n"), "hello");
    }
    for length in [" 5", "5 ", "\t5", "05"] {
        add(format!("length {length:?}"), Clear, post, &format!("Content-Length:{length}\r\n"), "hello");
    }
    // Chunks.
    let second = callers.next("second");
    for (size, body) in [
        ("5 x", "hello"),
        ("0x5", "hello"),
        ("+5", "hello"),
        ("-5", "hello"),
        ("FFFFFFFFFFFFFFFF1", "hello"),
        ("", "hello"),
        ("g", "hello"),
        ("5,", "hello"),
        ("5\0", "hello"),
        ("5", "helloXX"),
        ("5", "hell"),
        ("5\r5", "hello"),
    ] {
        add(
            format!("chunk {size:?} {body:?}"),
            Unclear,
            post,
            "Transfer-Encoding: chunked\r\n",
            &format!("{size}\r\n{body}\r\n0\r\n\r\n"),
        );
    }
    for size in ["5;ext=1", "5;ext=\"a;b\"", "05", "000000005"] {
        add(format!("chunk {size:?}"), Clear, post, "Transfer-Encoding: chunked\r\n", &format!("{size}\r\nhello\r\n0\r\n\r\n"));
    }
    add("a bare line feed ends a size".into(), Unclear, post, "Transfer-Encoding: chunked\r\n", "5\nhello\r\n0\r\n\r\n");
    add(
        "a bare line feed in an extension".into(),
        Unclear,
        post,
        "Transfer-Encoding: chunked\r\n",
        "5;a\nbc\r\nhello\r\n0\r\n\r\n",
    );
    add("a bare line feed ends a chunk".into(), Unclear, post, "Transfer-Encoding: chunked\r\n", "5\r\nhello\n0\r\n\r\n");
    add("trailers".into(), Clear, post, "Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\nX-Trailer: 1\r\n\r\n");
    add(
        "a request as a trailer".into(),
        Clear,
        post,
        "Transfer-Encoding: chunked\r\n",
        &format!("0\r\n{}\r\n\r\n", second.trim_end()),
    );
    // Upgrades.
    for upgrade in ["websocket", "h2c", "TLS/1.0", ""] {
        for connection in ["", "Connection: Upgrade\r\n", "Connection: keep-alive\r\n", "Connection: Upgrade, HTTP2-Settings\r\n"]
        {
            let lines = format!("Upgrade: {upgrade}\r\n{connection}Content-Length: {}\r\n", second.len());
            add(format!("upgrade {upgrade:?} {connection:?}"), Unclear, post, &lines, &second);
        }
    }
    // Expectations, hosts, request lines.
    for expect in ["100-continue", "100-Continue", "200-ok", "100-continue, x"] {
        add(format!("expect {expect:?}"), Clear, post, &format!("Expect: {expect}\r\nContent-Length: 5\r\n"), "hello");
    }
    add("two hosts".into(), Unclear, "GET {place}/first HTTP/1.1", "Host: other\r\n", "");
    for line in [
        "GET http://gateway{place}/first HTTP/1.1",
        "GET {place}/first HTTP/1.1 HTTP/1.1",
        "GET {place}/first HTTP/2.0",
        "GET {place}/first HTTP/0.9",
        "GET {place}/first",
        "GET {place}/first HTTP/1.1\0",
        "CONNECT {place}/first HTTP/1.1",
        "TRACE {place}/first HTTP/1.1",
        "GET {place}/first\u{b}HTTP/1.1",
        "GET //{place}/first HTTP/1.1",
        "GET {place}//first HTTP/1.1",
    ] {
        add(format!("line {line:?}"), Unclear, line, "", "");
    }
    // Refused for their paths; where they end is no question.
    for line in ["GET {place}/../first HTTP/1.1", "GET {place}\\first HTTP/1.1"] {
        add(format!("line {line:?}"), Clear, line, "", "");
    }
    let coded = "Transfer-Encoding: chunked\r\n";
    add("a coding in HTTP/1.0".into(), Unclear, "POST {place}/first HTTP/1.0", coded, "5\r\nhello\r\n0\r\n\r\n");
    add("a body of a GET".into(), Clear, "GET {place}/first HTTP/1.1", "Content-Length: 5\r\n", "hello");
    add("a chunked body of a DELETE".into(), Clear, "DELETE {place}/first HTTP/1.1", coded, "5\r\nhello\r\n0\r\n\r\n");
    add("a length of a connection".into(), Clear, post, "Connection: Content-Length\r\nContent-Length: 5\r\n", "hello");
    all
}

/// Sends bytes and reads until the server closes or says nothing for a while; what came and how long the server kept it open.
fn exchange(port: u16, bytes: &[u8]) -> (String, Option<Duration>) {
    exchange_within(port, bytes, Duration::from_millis(250))
}

fn exchange_within(port: u16, bytes: &[u8], silence: Duration) -> (String, Option<Duration>) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(silence)).unwrap();
    let begun = Instant::now();
    let _ = stream.write_all(bytes);
    let (mut all, mut buffer) = (Vec::new(), [0; 16 * 1024]);
    loop {
        match stream.read(&mut buffer) {
            Ok(count) if count > 0 => all.extend_from_slice(&buffer[..count]),
            Err(why) if matches!(why.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {
                return (String::from_utf8_lossy(&all).into_owned(), None);
            }
            _ => return (String::from_utf8_lossy(&all).into_owned(), Some(begun.elapsed())),
        }
    }
}

const SECRETS: [&str; 2] = ["secret-of-the-first", "secret-of-the-second"];

struct Stand {
    vendor: Vendor,
    gateway: Gateway,
    callers: Callers,
}

impl Stand {
    async fn start() -> Stand {
        let vendor = Vendor::start(|asked| match asked.path() {
            path if path.ends_with("/Users") || path.ends_with("/ServiceProviderConfig") => scim(asked, 1),
            path => Act::Send(answer(200, &[("content-type", "text/plain")], format!("answer to {path}").as_bytes())),
        });
        let gateway = Gateway::start(&Kept::embedded(), &vendor.authority());
        let mut places = Vec::new();
        for secret in SECRETS {
            let context = json!({"base_url": vendor.at("/v2"), "token": secret});
            places.push(format!("/passthrough/{}", gateway.link("scim", "bearer", context).await));
        }
        let keys = [gateway.token(&["proxy:read", "proxy:write"]).await, gateway.token(&["proxy:read", "proxy:write"]).await];
        let [first, second] = <[String; 2]>::try_from(places).unwrap();
        Stand { vendor, gateway, callers: Callers { first, second, keys } }
    }

    fn port(&self) -> u16 {
        self.gateway.base.rsplit(':').next().unwrap().parse().unwrap()
    }

    /// What is wrong with what the vendor saw of one payload.
    fn judge(&self, asked: &[Asked], frame: Frame, direct: bool) -> Option<String> {
        for one in asked {
            let text = format!("{one:?}");
            let foreign = self.callers.keys.iter().any(|key| text.contains(&key[4..30]));
            let path = one.path().strip_prefix("/v2/")?;
            let right = match path {
                "first" => {
                    one.header("authorization") == format!("Bearer {}", SECRETS[0])
                        && !text.contains("second")
                        && one.header("x-first") == "1"
                }
                "second" | "other" => {
                    one.method == "GET"
                        && one.header("authorization") == format!("Bearer {}", SECRETS[1])
                        && one.length == 0
                        && one.header("x-first").is_empty()
                }
                _ => false,
            };
            if foreign || !right || one.target.contains(char::is_whitespace) {
                return Some(format!("the vendor saw {text}"));
            }
        }
        // nginx ends what is unclear itself, or makes it clear; then what follows is a request of its own.
        let any = asked.iter().any(|one| !one.path().ends_with("/other"));
        (direct && frame == Frame::Unclear && any).then(|| format!("it reached the vendor: {asked:?}"))
    }

    fn run(&self, port: u16, direct: bool) -> Vec<String> {
        let payloads = payloads(&self.callers);
        assert!(payloads.len() >= 120, "{}", payloads.len());
        let mut wrong = Vec::new();
        for payload in &payloads {
            let before = self.vendor.count();
            let second = self.callers.next("second").replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
            let both = [&payload.bytes[..], second.as_bytes()].concat();
            let (text, closed) = match payload.frame {
                // The connection ends with the second answer, so that only a machine that is busy lets the end wait.
                Frame::Clear => exchange_within(port, &both, Duration::from_secs(10)),
                // nginx waits for the rest of some bodies; the gateway closes, in one of three tries before anybody notices.
                Frame::Unclear => {
                    let tries = if direct { 3 } else { 1 };
                    let mut tried = (0..tries).map(|_| exchange(port, &both));
                    let first = tried.next().unwrap();
                    if first.1.is_some() { first } else { tried.find(|(_, closed)| closed.is_some()).unwrap_or(first) }
                }
            };
            let other = self.callers.next("other").replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
            // Its answer ends with the connection, so that only a machine that is busy lets it wait.
            let (other, _) = exchange_within(port, other.as_bytes(), Duration::from_secs(10));
            let asked = &self.vendor.asked()[before..];
            let mut found = self.judge(asked, payload.frame, direct);
            if !(other.starts_with("HTTP/1.1 200") && other.ends_with("answer to /v2/other")) {
                found = Some(format!("another client got {other}"));
            }
            if direct && payload.frame == Frame::Unclear && (text.contains("HTTP/1.1 2") || closed.is_none()) {
                found = Some(format!("it was not refused and closed: {closed:?} {text}"));
            }
            if let Some(found) = found {
                wrong.push(format!("{}: {found}", payload.name));
            }
        }
        wrong
    }
}

#[tokio::test]
async fn g_01_no_desync_direct() {
    let stand = Stand::start().await;
    let wrong = stand.run(stand.port(), true);
    assert!(wrong.is_empty(), "{} payloads:\n{}", wrong.len(), wrong.join("\n"));
    // Every `Upgrade` is refused and closed within 100 ms; the fastest of some tries, because this machine is shared.
    for payload in payloads(&stand.callers).iter().filter(|payload| payload.name.starts_with("upgrade")) {
        let times = (0..5).filter_map(|_| exchange(stand.port(), &payload.bytes).1);
        assert!(times.min().is_some_and(|time| time < Duration::from_millis(100)), "{}", payload.name);
    }
}

/// nginx before the gateway, keeping its connections to it.
struct Nginx(Child, u16, tempfile::TempDir);

impl Nginx {
    fn before(port: u16) -> Nginx {
        let (folder, own) = (tempfile::tempdir().unwrap(), free_port());
        let dir = folder.path().display();
        let temporary: String =
            ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(|name| format!("{name}_temp_path {dir}/{name};\n")).concat();
        let config = format!(
            "daemon off;\nmaster_process off;\npid {dir}/pid;\nerror_log {dir}/error.log;\nevents {{}}\nhttp {{\n{temporary}access_log off;\n\
             upstream gateway {{ server 127.0.0.1:{port}; keepalive 4; }}\n\
             server {{ listen 127.0.0.1:{own}; underscores_in_headers on; location / {{ proxy_pass http://gateway; proxy_http_version 1.1; \
             proxy_set_header Connection \"\"; proxy_request_buffering off; proxy_buffering off; }} }}\n}}\n"
        );
        let file = folder.path().join("nginx.conf");
        fs::write(&file, config).unwrap();
        let binary = if std::path::Path::new("/usr/sbin/nginx").is_file() { "/usr/sbin/nginx" } else { "nginx" };
        let mut command = Command::new(binary);
        command.arg("-c").arg(&file).arg("-p").arg(folder.path()).arg("-e").arg(folder.path().join("error.log"));
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("nginx is needed: run ./tests/run once");
        until("nginx listens", 10, || TcpStream::connect(("127.0.0.1", own)).is_ok());
        Nginx(child, own, folder)
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
        let _ = &self.2;
    }
}

#[tokio::test]
async fn g_01_no_desync_behind_nginx() {
    let stand = Stand::start().await;
    let nginx = Nginx::before(stand.port());
    let wrong = stand.run(nginx.1, false);
    assert!(wrong.is_empty(), "{} payloads:\n{}", wrong.len(), wrong.join("\n"));
}
