//! The same requests to a vendor, direct and through the passthrough: what both sides see must be the same, but for what the
//! passthrough says it changes.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use serde_json::json;

use super::bar_vendor::{Act, Asked, Vendor, answer, line, scim};
use crate::support::gateway::{ADMIN, Gateway, Kept};

const SECRET: &str = "differential-token";
const DATE: (&str, &str) = ("date", "Sun, 22 Nov 2026 06:00:00 GMT");

/// One request as a client would send it, without host and key.
struct Case {
    method: &'static str,
    target: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    /// Sent in chunks of these sizes instead of with a length.
    chunks: Vec<usize>,
    /// Lines behind the chunks.
    trailers: Vec<String>,
}

impl Case {
    fn new(method: &'static str, target: &str) -> Case {
        Case {
            method,
            target: target.to_owned(),
            headers: Vec::new(),
            body: Vec::new(),
            chunks: Vec::new(),
            trailers: Vec::new(),
        }
    }

    fn header(mut self, name: &str, value: &str) -> Case {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    fn body(mut self, body: &[u8]) -> Case {
        self.body = body.to_vec();
        self
    }

    fn chunked(mut self, sizes: &[usize]) -> Case {
        self.chunks = sizes.to_vec();
        self
    }

    fn trailer(mut self, name: &str, value: &str) -> Case {
        self.trailers.push(format!("{name}: {value}\r\n"));
        self
    }

    fn bytes(&self, prefix: &str, host: &str, key: &str) -> Vec<u8> {
        let mut text =
            format!("{} {prefix}{} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {key}\r\n", self.method, self.target);
        for (name, value) in &self.headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        let mut bytes = text.into_bytes();
        if self.chunks.is_empty() {
            if !self.body.is_empty() || matches!(self.method, "POST" | "PUT" | "PATCH") {
                bytes.extend_from_slice(format!("Content-Length: {}\r\n", self.body.len()).as_bytes());
            }
            bytes.extend_from_slice(b"\r\n");
            bytes.extend_from_slice(&self.body);
            return bytes;
        }
        bytes.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
        let mut rest = &self.body[..];
        for size in self.chunks.iter().chain([&usize::MAX]) {
            let (now, later) = rest.split_at(rest.len().min(*size));
            if !now.is_empty() {
                bytes.extend_from_slice(format!("{:x}\r\n", now.len()).as_bytes());
                bytes.extend_from_slice(now);
                bytes.extend_from_slice(b"\r\n");
            }
            rest = later;
        }
        bytes.extend_from_slice(format!("0\r\n{}\r\n", self.trailers.concat()).as_bytes());
        bytes
    }
}

/// Every request, some hundreds.
fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for method in ["GET", "HEAD", "OPTIONS", "DELETE", "POST", "PUT", "PATCH", "PROPFIND", "QUERY"] {
        for status in [200, 201, 202, 204, 206, 301, 304, 400, 401, 403, 404, 409, 410, 412, 416, 422, 429, 500, 501, 503] {
            let case = Case::new(method, &format!("/status/{status}"));
            cases.push(if matches!(method, "POST" | "PUT" | "PATCH" | "QUERY") { case.body(b"{\"a\": 1.10}") } else { case });
        }
    }
    for target in [
        "",
        "/",
        "/a/b/",
        "/a//b",
        "/a%20b",
        "/a+b",
        "/a%2Bb",
        "/~a",
        "/a:b@c",
        "/a;v=1/b",
        "/%C3%A9",
        "/a,b",
        "/$metadata",
        "/Users('x')",
        "/a?",
        "/a?b",
        "/a?b=",
        "/a?b=1&b=2",
        "/a?b%5B%5D=1&c[d]=2",
        "/a?q=a%20b+c",
        "/a?filter=userName%20eq%20%22x%22",
        "/a?x=%2F..%2F",
        "/a?u=https://b.example/c?d=e",
        "/a?x='|{}^`",
        "/a?%00=%zz",
        "/a?&&=&",
    ] {
        cases.push(Case::new("GET", target));
    }
    for (name, value) in [
        ("Accept", "text/csv;q=0.5, */*"),
        ("Accept-Encoding", "gzip, br, zstd;q=0.1"),
        ("Accept-Encoding", "identity"),
        ("Accept-Language", "de"),
        ("User-Agent", "some-sdk/1.2 (x)"),
        ("If-None-Match", "W/\"1\", \"2\""),
        ("If-Match", "\"1\""),
        ("If-Modified-Since", DATE.1),
        ("If-Unmodified-Since", DATE.1),
        ("If-Range", "\"1\""),
        ("Range", "bytes=0-9"),
        ("Range", "bytes=5-"),
        ("Range", "bytes=-3"),
        ("Range", "bytes=0-1,4-5"),
        ("X-Request-Id", "vendors-own-1"),
        ("Idempotency-Key", "\"k\""),
        ("Prefer", "return=minimal"),
        ("ConsistencyLevel", "eventual"),
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        ("X-Empty", ""),
        ("X-Odd", "a\tb  c, \"d\""),
        ("X-Latin", "caf\u{e9}"),
        ("Origin", "https://app.example"),
        ("Referer", "https://app.example/x"),
        ("Access-Control-Request-Method", "POST"),
        ("Cache-Control", "no-cache"),
        ("DPoP", "x"),
        ("Content-Language", "en"),
        ("Max-Forwards", "3"),
    ] {
        cases.push(Case::new("GET", "/echo").header(name, value));
        cases.push(Case::new("GET", "/echo").header(&name.to_lowercase(), value).header(name, value));
    }
    for size in [0, 1, 7, 1_000, 4_096, 65_536, 300_000] {
        let body: Vec<u8> = (0..size).map(|n: usize| (n * 31 % 251) as u8).collect();
        for kind in ["application/octet-stream", "application/json", "multipart/form-data; boundary=x"] {
            cases.push(Case::new("POST", "/echo").header("Content-Type", kind).body(&body));
            cases.push(Case::new("PUT", "/echo").header("Content-Type", kind).body(&body).chunked(&[1, 10, 5_000]));
        }
        cases.push(Case::new("POST", "/echo").header("Content-Encoding", "gzip").body(&body));
        let summed = Case::new("POST", "/echo").header("Trailer", "x-sum, x-other").body(&body).chunked(&[1, 10, 5_000]);
        cases.push(summed.trailer("x-sum", "7").trailer("x-other", "8"));
        cases.push(Case::new("POST", "/echo").header("Trailer", "x-sum").body(&body).chunked(&[3]));
        for method in ["GET", "HEAD", "OPTIONS", "DELETE"] {
            let odd = Case::new(method, "/echo").header("Trailer", "x-sum").body(&body).chunked(&[2]);
            cases.push(odd.trailer("x-sum", "9"));
        }
        cases.push(Case::new("GET", &format!("/sized/{size}")));
        cases.push(Case::new("GET", &format!("/chunks/{size}")));
        cases.push(Case::new("POST", &format!("/chunks/{size}")).header("TE", "trailers").header("Connection", "te").body(b"x"));
        cases.push(Case::new("GET", &format!("/announced/{size}")));
        cases.push(Case::new("GET", &format!("/till-the-end/{size}")));
        cases.push(Case::new("HEAD", &format!("/sized/{size}")));
        cases.push(Case::new("HEAD", &format!("/chunks/{size}")));
    }
    for kind in ["gzip", "br", "zstd", "deflate", "odd"] {
        cases.push(Case::new("GET", &format!("/coded/{kind}")).header("Accept-Encoding", kind));
    }
    for name in ["sse", "headers", "html", "no-type", "informed", "challenge", "ratelimit"] {
        cases.push(Case::new("GET", &format!("/{name}")));
    }
    cases
}

/// What the vendor answers; depends on nothing but the request.
fn vendor(asked: &Asked) -> Act {
    let path = asked.path().strip_prefix("/v2").unwrap_or(asked.path());
    let (first, rest) = path.trim_start_matches('/').split_once('/').unwrap_or((path.trim_start_matches('/'), ""));
    let size = rest.parse::<usize>().unwrap_or(0);
    let body: Vec<u8> = (0..size).map(|n| (n * 17 % 253) as u8).collect();
    let plain = ("content-type", "application/octet-stream");
    let is_head = asked.method == "HEAD";
    match first {
        "status" => status(size as u16, is_head),
        "sized" => whole(200, &[DATE, plain, ("ETag", "\"1\""), ("accept-ranges", "bytes")], &body, is_head),
        "chunks" => Act::Send(chunked(&[DATE, plain], &body, is_head)),
        "announced" => Act::Send(chunked(&[DATE, plain, ("Trailer", "x-trailer")], &body, is_head)),
        "till-the-end" => {
            let head = "HTTP/1.1 200 X\r\ncontent-type: application/octet-stream\r\ndate: Sun, 22 Nov 2026 06:00:00 GMT\r\nconnection: close\r\n\r\n";
            Act::End([head.as_bytes(), &body].concat())
        }
        "coded" => whole(
            200,
            &[DATE, ("content-type", "application/json"), ("content-encoding", rest), ("vary", "accept-encoding")],
            b"\x1f\x8b\x00not really",
            is_head,
        ),
        "sse" => Act::Send(chunked(
            &[DATE, ("content-type", "text/event-stream"), ("cache-control", "no-cache")],
            b"event: a\ndata: 1\n\ndata: 2\n\n: end\n\n",
            false,
        )),
        "headers" => whole(
            200,
            &[
                DATE,
                plain,
                ("X-Many", "1"),
                ("x-many", "2"),
                ("x-empty", ""),
                ("x-odd", "a\tb, \"c\""),
                ("x-latin", "caf\u{e9}"),
                ("warning", "199 - x"),
                ("age", "3"),
                ("vary", "*"),
                ("last-modified", DATE.1),
            ],
            b"x",
            is_head,
        ),
        "html" => whole(200, &[DATE, ("content-type", "text/html")], b"<p>", is_head),
        "no-type" => whole(200, &[DATE], b"{\"next\": \"https://x.example\"}", is_head),
        "informed" => {
            let hints = b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n".to_vec();
            Act::Send([hints, answer(200, &[DATE, plain], b"x")].concat())
        }
        "challenge" => whole(401, &[DATE, ("www-authenticate", "Bearer realm=\"x\"")], b"no", is_head),
        "ratelimit" => whole(
            429,
            &[DATE, ("retry-after", "7"), ("ratelimit-limit", "5"), ("ratelimit-remaining", "0"), ("ratelimit-reset", "7")],
            b"slow",
            is_head,
        ),
        "echo" => {
            let digest = format!(
                "{} {}",
                asked.length,
                asked.body.iter().fold(7_u64, |sum, byte| sum.wrapping_mul(31) + u64::from(*byte))
            );
            whole(200, &[DATE, ("content-type", "text/plain")], digest.as_bytes(), is_head)
        }
        "Users" | "ServiceProviderConfig" => scim(asked, 1),
        _ => whole(200, &[DATE, ("content-type", "text/plain")], asked.target.as_bytes(), is_head),
    }
}

fn status(code: u16, is_head: bool) -> Act {
    match code {
        204 | 304 => Act::Send(format!("HTTP/1.1 {code} X\r\ndate: {}\r\netag: \"1\"\r\n\r\n", DATE.1).into_bytes()),
        206 => whole(206, &[DATE, ("content-type", "text/plain"), ("content-range", "bytes 0-3/10")], b"0123", is_head),
        _ => whole(
            code,
            &[DATE, ("content-type", "application/json"), ("x-own", "kept")],
            format!("{{ \"status\":{code} }}\n").as_bytes(),
            is_head,
        ),
    }
}

fn whole(code: u16, headers: &[(&str, &str)], body: &[u8], is_head: bool) -> Act {
    let mut bytes = answer(code, headers, body);
    if is_head {
        bytes.truncate(bytes.len() - body.len());
    }
    Act::Send(bytes)
}

fn chunked(headers: &[(&str, &str)], body: &[u8], is_head: bool) -> Vec<u8> {
    let mut bytes = b"HTTP/1.1 200 X\r\ntransfer-encoding: chunked\r\n".to_vec();
    for (name, value) in headers {
        bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    bytes.extend_from_slice(b"\r\n");
    if is_head {
        return bytes;
    }
    for piece in body.chunks(10_000) {
        bytes.extend_from_slice(format!("{:X};ext=1\r\n", piece.len()).as_bytes());
        bytes.extend_from_slice(piece);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"0\r\nx-trailer: 1\r\n\r\n");
    bytes
}

/// What came back: status, headers without those of the framing, body.
#[derive(PartialEq, Debug)]
pub struct Came {
    pub status: String,
    headers: BTreeMap<String, Vec<String>>,
    length: Option<String>,
    pub body: Vec<u8>,
    trailers: Vec<String>,
}

fn send(authority: &str, bytes: &[u8], is_head: bool) -> Came {
    let mut stream = TcpStream::connect(authority).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.write_all(bytes).unwrap();
    come(&mut BufReader::new(stream), is_head)
}

/// Reads the next answer.
pub fn come(reader: &mut impl BufRead, is_head: bool) -> Came {
    loop {
        let first = line(reader).unwrap();
        let status = first.split(' ').nth(1).unwrap().to_owned();
        let mut headers: BTreeMap<String, Vec<String>> = BTreeMap::new();
        while let Some(line) = line(reader).filter(|line| !line.is_empty()) {
            let (name, value) = line.split_once(':').unwrap();
            headers.entry(name.to_ascii_lowercase()).or_default().push(value.trim().to_owned());
        }
        // What only announces an answer is one hop's own.
        if !status.starts_with('1') {
            let (body, trailers) = body(reader, &status, &headers, is_head);
            let length = headers.remove("content-length").map(|values| values.join(", "));
            for own in ["transfer-encoding", "connection"] {
                headers.remove(own);
            }
            return Came { status, headers, length, body, trailers };
        }
    }
}

/// The body and the lines behind it.
fn body(
    reader: &mut impl BufRead,
    status: &str,
    headers: &BTreeMap<String, Vec<String>>,
    is_head: bool,
) -> (Vec<u8>, Vec<String>) {
    let mut body = Vec::new();
    if is_head || status == "204" || status == "304" {
        return (body, Vec::new());
    }
    if headers.contains_key("transfer-encoding") {
        loop {
            let size = line(reader).unwrap();
            let size = usize::from_str_radix(size.split(';').next().unwrap(), 16).unwrap();
            if size == 0 {
                let trailers = std::iter::from_fn(|| line(reader).filter(|line| !line.is_empty())).collect();
                return (body, trailers);
            }
            let start = body.len();
            body.resize(start + size, 0);
            reader.read_exact(&mut body[start..]).unwrap();
            line(reader);
        }
    }
    match headers.get("content-length") {
        Some(length) => {
            body.resize(length[0].parse().unwrap(), 0);
            reader.read_exact(&mut body).unwrap();
        }
        None => {
            reader.read_to_end(&mut body).unwrap();
        }
    }
    (body, Vec::new())
}

/// What the vendor saw, without those headers that are one hop's own.
#[derive(Clone, PartialEq, Debug)]
struct Saw {
    line: String,
    headers: BTreeMap<String, Vec<String>>,
    is_chunked: bool,
    length: u64,
    body: Vec<u8>,
    trailers: Vec<String>,
}

fn seen(asked: &Asked) -> Saw {
    let mut headers: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in &asked.headers {
        headers.entry(name.clone()).or_default().push(value.clone());
    }
    let is_chunked = headers.remove("transfer-encoding").is_some();
    headers.remove("host");
    // No body and a body without bytes are one.
    if asked.length == 0 {
        headers.remove("content-length");
    }
    let is_chunked = is_chunked && asked.length > 0;
    Saw {
        line: format!("{} {}", asked.method, asked.target),
        headers,
        is_chunked,
        length: asked.length,
        body: asked.body.clone(),
        trailers: asked.trailers.clone(),
    }
}

#[tokio::test]
async fn a_vendor_is_the_same_direct_and_through_us() {
    let vendor = Vendor::start(vendor);
    let gateway = Gateway::start(&Kept::embedded(), &vendor.authority());
    let account = gateway.link("scim", "bearer", json!({"base_url": vendor.at("/v2"), "token": SECRET})).await;
    let ours = gateway.base.strip_prefix("http://").unwrap().to_owned();
    let cases = cases();
    assert!(cases.len() > 350, "{}", cases.len());
    let mut wrong = Vec::new();
    for (number, case) in cases.iter().enumerate() {
        let is_head = case.method == "HEAD";
        let before = vendor.count();
        let direct = send(&vendor.authority(), &case.bytes("/v2", &vendor.authority(), SECRET), is_head);
        let passed = send(&ours, &case.bytes(&format!("/passthrough/{account}"), &ours, ADMIN), is_head);
        let asked: Vec<_> = vendor.asked()[before..]
            .iter()
            .filter(|asked| !asked.target.contains("/Users?") && !asked.target.contains("ServiceProvider"))
            .map(seen)
            .collect();
        let name = format!("{number}: {} {} {:?} {} {:?}", case.method, case.target, case.headers, case.body.len(), case.chunks);
        let [one, two] = asked.as_slice() else {
            wrong.push(format!(
                "{name}: the vendor saw {} requests; {} {:?}",
                asked.len(),
                passed.status,
                String::from_utf8_lossy(&passed.body)
            ));
            continue;
        };
        let mut two = two.clone();
        add_defaults(&one.headers, &mut two.headers);
        if *one != two {
            let shown = |saw: &Saw| format!("{} {:?} {} {}", saw.line, saw.headers, saw.is_chunked, saw.length);
            wrong.push(format!("{name}: the vendor saw\n  {}\n  {}", shown(one), shown(&two)));
        }
        let passed = without_ours(passed, &direct);
        if direct != passed {
            let shown = |came: &Came| format!("{} {:?} {:?} {} bytes", came.status, came.headers, came.length, came.body.len());
            wrong.push(format!("{name}: the client saw\n  {}\n  {}", shown(&direct), shown(&passed)));
        }
    }
    assert!(wrong.is_empty(), "{} of {} differ:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

/// The connector's own headers stand where the client sent none.
fn add_defaults(direct: &BTreeMap<String, Vec<String>>, passed: &mut BTreeMap<String, Vec<String>>) {
    if !direct.contains_key("accept") {
        assert_eq!(passed.remove("accept").unwrap(), ["application/scim+json, application/json;q=0.9"]);
    }
}

/// The answer without what the passthrough says it adds; each must be as it is said.
fn without_ours(mut came: Came, direct: &Came) -> Came {
    assert_eq!(came.headers.remove("x-content-type-options").unwrap(), ["nosniff"]);
    assert_eq!(came.headers.remove("rollcall-request-id").unwrap().len(), 1);
    if direct.headers.get("content-type").is_some_and(|kind| kind[0].contains("html")) {
        assert_eq!(came.headers.remove("content-security-policy").unwrap(), ["sandbox"]);
    }
    came
}

#[tokio::test]
async fn events_arrive_while_the_vendor_goes_on() {
    let pause = Duration::from_secs(3);
    let vendor = Vendor::start(move |asked| match asked.path() {
        "/v2/events" => {
            let head = b"HTTP/1.1 200 X\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
            let event = |text: &str| format!("{:x}\r\n{text}\r\n", text.len()).into_bytes();
            Act::Pieces(
                vec![[head, event("data: 1\n\n")].concat(), [event("data: 2\n\n"), b"0\r\n\r\n".to_vec()].concat()],
                pause,
            )
        }
        _ => scim(asked, 1),
    });
    let gateway = Gateway::start(&Kept::embedded(), &vendor.authority());
    let account = gateway.link("scim", "bearer", json!({"base_url": vendor.at("/v2"), "token": SECRET})).await;
    let ours = gateway.base.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(ours).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(&Case::new("GET", "/events").bytes(&format!("/passthrough/{account}"), ours, ADMIN)).unwrap();
    let (begun, mut came, mut buffer) = (Instant::now(), Vec::new(), [0; 4096]);
    let mut first = None;
    while !came.ends_with(b"0\r\n\r\n") {
        let count = stream.read(&mut buffer).unwrap();
        assert!(count > 0, "{}", String::from_utf8_lossy(&came));
        came.extend_from_slice(&buffer[..count]);
        if came.windows(7).any(|part| part == b"data: 1") {
            first.get_or_insert_with(|| begun.elapsed());
        }
    }
    assert!(first.is_some_and(|first| first < pause - Duration::from_secs(1)), "{first:?}");
    assert!(came.windows(7).any(|part| part == b"data: 2"));
}

#[tokio::test]
async fn trailers_pass_but_those_that_act_on_us() {
    let vendor = Vendor::start(|asked| match asked.path() {
        "/v2/summed" => {
            let fields = "x-sum: 7\r\nx-sum: 8\r\nset-cookie: a=b\r\nlocation: https://x.example/\r\nrollcall-error: no\r\n\
                          content-length: 1\r\ntransfer-encoding: gzip\r\naccess-control-allow-origin: *\r\nx-accel-redirect: /\r\n";
            let head = "HTTP/1.1 200 X\r\ntransfer-encoding: chunked\r\ntrailer: x-sum, set-cookie\r\n\r\n";
            Act::Send(format!("{head}3\r\nabc\r\n0\r\n{fields}\r\n").into_bytes())
        }
        "/v2/cut" => Act::End(b"HTTP/1.1 200 X\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n".to_vec()),
        _ => scim(asked, 1),
    });
    let gateway = Gateway::start(&Kept::embedded(), &vendor.authority());
    let account = gateway.link("scim", "bearer", json!({"base_url": vendor.at("/v2"), "token": SECRET})).await;
    let ours = gateway.base.strip_prefix("http://").unwrap().to_owned();
    let place = format!("/passthrough/{account}");
    let case = Case::new("GET", "/summed");
    let came = send(&ours, &case.bytes(&place, &ours, ADMIN), false);
    assert_eq!((&*came.body, &*came.trailers), (&b"abc"[..], &["x-sum: 7".to_owned(), "x-sum: 8".to_owned()][..]));
    assert_eq!(came.headers["trailer"], ["x-sum"]);

    // The connection serves on, a client of HTTP/1.0 gets the bytes alone, and what breaks off has no end.
    let mut stream = TcpStream::connect(&ours).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    for _ in 0..3 {
        stream.write_all(&case.bytes(&place, &ours, ADMIN)).unwrap();
        assert!(line(&mut reader).unwrap().contains(" 200 "));
        let rest: Vec<String> = std::iter::from_fn(|| line(&mut reader)).take_while(|line| !line.contains("x-sum: 8")).collect();
        assert!(rest.contains(&"abc".to_owned()), "{rest:?}");
        assert_eq!(line(&mut reader).unwrap(), "");
    }
    let old = |case: &Case, place: &str| {
        let bytes =
            String::from_utf8(case.bytes(place, &ours, ADMIN)).unwrap().replace("HTTP/1.1", "HTTP/1.0\r\nConnection: keep-alive");
        whole_of(&ours, bytes.as_bytes())
    };
    let all = old(&case, &place);
    assert!(all.ends_with("\r\n\r\nabc") && !all.to_lowercase().contains("chunked"), "{all}");
    let users = format!("/unified/user-directory/users?integrated_account_id={account}&truto_response_format=stream");
    let all = old(&Case::new("GET", &users), "");
    assert!(
        all.trim_end().ends_with('}') && all.contains("\"complete\":true") && !all.to_lowercase().contains("chunked"),
        "{all}"
    );
    let cut = whole_of(&ours, &Case::new("GET", "/cut").bytes(&place, &ours, ADMIN));
    assert!(cut.contains("3\r\nabc") && !cut.contains("0\r\n\r\n"), "{cut}");
}

/// All that comes until the connection ends.
fn whole_of(authority: &str, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(authority).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(bytes).unwrap();
    let mut all = Vec::new();
    stream.read_to_end(&mut all).unwrap();
    String::from_utf8_lossy(&all).into_owned()
}

#[tokio::test]
async fn trailers_of_a_request_pass_but_those_that_would_steer() {
    let vendor = Vendor::start(|asked| match asked.path() {
        "/v2/summed" => Act::Send(answer(200, &[("content-type", "text/plain")], b"taken")),
        _ => scim(asked, 1),
    });
    let gateway = Gateway::start(&Kept::embedded(), &vendor.authority());
    let account = gateway.link("scim", "bearer", json!({"base_url": vendor.at("/v2"), "token": SECRET})).await;
    let ours = gateway.base.strip_prefix("http://").unwrap().to_owned();
    let place = format!("/passthrough/{account}");
    let summed = |announced: &str| Case::new("POST", "/summed").header("Trailer", announced).body(b"abc").chunked(&[1]);
    let saw = || vendor.asked().into_iter().rfind(|asked| asked.path() == "/v2/summed").unwrap();

    let steering = "authorization, cookie, host, content-length, x-forwarded-for, rollcall-company, x_sum, expect, if-match, \
                    x-http-method-override, x-hop, x-key";
    let all = summed(&format!("{steering}, x-sum")).header("Connection", "x-hop");
    let all = steering.split(", ").filter(|name| *name != "x-key").fold(all, |case, name| case.trailer(name, "7"));
    let all = all.trailer("x-key", "rck_0a1b2c").trailer("x-key", "Bearer rck_0a1b2c").trailer("x-key", "Basic cmNrXzBhMWIyYzp4");
    let all = all.trailer("x-sum", "7").trailer("X-Sum", "8").trailer("unannounced", "9");
    assert_eq!(send(&ours, &all.bytes(&place, &ours, ADMIN), false).status, "200");
    assert_eq!((saw().header("trailer"), &*saw().body), ("x-key, x-sum", &b"abc"[..]));
    assert_eq!(saw().trailers, ["x-sum: 7", "x-sum: 8"]);
    assert_eq!(saw().header("authorization"), format!("Bearer {SECRET}"));

    // Announced and not sent, sent and not announced, and nothing that passes: the body ends as it should.
    for case in [summed("x-sum"), summed("cookie").trailer("cookie", "a=b"), summed("x-sum").trailer("y", "1")] {
        assert_eq!(send(&ours, &case.bytes(&place, &ours, ADMIN), false).status, "200");
        assert_eq!((&*saw().body, saw().trailers.len()), (&b"abc"[..], 0));
    }

    // What is no list of fields, or too long a one, breaks the request: it has no end for the vendor.
    let before = vendor.count();
    for case in [
        summed("x-sum").trailer("x-sum", &"y".repeat(9_000)),
        summed("x-sum").trailer("x sum", "7"),
        (0..70).fold(summed("x-sum"), |case, n| case.trailer("x-sum", &n.to_string())),
    ] {
        let answer = send(&ours, &case.bytes(&place, &ours, ADMIN), false);
        assert_eq!(answer.status, "400", "{:?}", case.trailers);
        let said = String::from_utf8_lossy(&answer.body);
        assert!(said.contains("invalid_request") && said.contains("no list of at most 64 fields"), "{said}");
    }
    assert_eq!(vendor.count(), before);

    // Of requests sent together each has its own.
    let together: Vec<u8> = (0..5)
        .flat_map(|n| match n {
            3 => summed("x-sum").bytes(&place, &ours, ADMIN),
            n => summed("x-sum").trailer("x-sum", &n.to_string()).bytes(&place, &ours, ADMIN),
        })
        .collect();
    let mut stream = TcpStream::connect(&ours).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream.write_all(&together).unwrap();
    let mut reader = BufReader::new(stream);
    assert!((0..5).all(|_| come(&mut reader, false).status == "200"));
    let each: Vec<Vec<String>> = vendor.asked()[before..].iter().map(|asked| asked.trailers.clone()).collect();
    assert_eq!(
        each,
        ["x-sum: 0", "x-sum: 1", "x-sum: 2", "", "x-sum: 4"]
            .map(|line| Vec::from_iter((!line.is_empty()).then(|| line.to_owned())))
    );
}
