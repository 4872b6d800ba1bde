use std::{
    io::{Read, Write},
    time::{Duration, Instant},
};

use super::{
    stand::Stand,
    wire::{connect, get, read_reply, request, until_closed},
};

const SECOND: &str = "GET /echo?second HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer second-callers-key\r\n\r\n";

fn refused_and_closed(stand: &Stand, head: &str, status: u16, code: &str) {
    let bytes = format!("{head}{SECOND}");
    let (answer, took) = until_closed(stand.addr, bytes.as_bytes());
    let text = String::from_utf8_lossy(&answer);
    assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "{head:?}\n{text}");
    assert!(!text.contains("HTTP/1.1 200") && !text.contains("x-path"), "the second request was served: {head:?}\n{text}");
    assert!(!text.contains("second-callers-key"), "the second request reached the first one's handler: {head:?}\n{text}");
    assert!(text.contains(code), "{head:?}\n{text}");
    assert!(took < Duration::from_secs(4), "closed only after {took:?}: {head:?}");
}

#[test]
fn g_01_upgrade_is_refused_and_closed_whatever_stands_beside_it() {
    let stand = Stand::start(None);
    for (upgrade, connection, path) in [
        ("websocket", "", "/echo"),
        ("websocket", "Connection: upgrade\r\n", "/echo"),
        ("websocket", "Connection: keep-alive\r\n", "/deaf"),
        ("WebSocket", "Connection: close\r\n", "/echo"),
        ("h2c", "Connection: Upgrade, HTTP2-Settings\r\n", "/echo"),
        ("TLS/1.0", "Connection: Upgrade\r\n", "/deaf"),
        ("", "", "/echo"),
    ] {
        for body in ["Content-Length: 3\r\n\r\nabc", "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", "\r\n"] {
            let head = format!("POST {path} HTTP/1.1\r\nHost: x\r\nUpgrade: {upgrade}\r\n{connection}{body}");
            refused_and_closed(&stand, &head, 400, "invalid_request");
        }
    }
}

#[test]
fn g_01_requests_that_two_parsers_could_frame_differently_are_refused() {
    let stand = Stand::start(None);
    for lines in [
        "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
        "Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        "Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
        "Content-Length: 3, 3\r\n\r\nabc",
        "Content-Length: +3\r\n\r\nabc",
        "Content-Length: 0x3\r\n\r\nabc",
        "Content-Length : 3\r\n\r\nabc",
        "Transfer-Encoding: xchunked\r\n\r\n",
        "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "X: a\r\n b\r\n\r\n",
        "X: a\rb\r\n\r\n",
        "X: a\0b\r\n\r\n",
        "Host: y\r\n\r\n",
    ] {
        let (answer, _) = until_closed(stand.addr, format!("POST /echo HTTP/1.1\r\nHost: x\r\n{lines}").as_bytes());
        let text = String::from_utf8_lossy(&answer);
        assert!(text.starts_with("HTTP/1.1 400 "), "{lines:?}\n{text}");
        assert_eq!(text.matches("HTTP/1.1 ").count(), 1, "{lines:?}\n{text}");
    }
}

#[test]
fn targets_that_are_no_paths_and_methods_that_open_tunnels_are_refused() {
    let stand = Stand::start(None);
    for (line, status, code) in [
        ("GET http://other.example/echo HTTP/1.1", 400, "invalid_request"),
        ("GET https://other.example/ HTTP/1.1", 400, "invalid_request"),
        ("CONNECT other.example:443 HTTP/1.1", 405, "method_not_allowed"),
        ("TRACE /echo HTTP/1.1", 405, "method_not_allowed"),
        ("OPTIONS * HTTP/1.1", 400, "invalid_request"),
        ("GET //passthrough/a/users HTTP/1.1", 400, "invalid_path"),
        ("GET ///passthrough/a/users HTTP/1.1", 400, "invalid_path"),
        ("GET /passthrough//users HTTP/1.1", 400, "invalid_path"),
        ("GET /passthrough/a//users HTTP/1.1", 400, "invalid_path"),
        ("GET /passthrough/a//evil.example/x HTTP/1.1", 400, "invalid_path"),
        ("GET /%70assthrough/a/users HTTP/1.1", 404, "route_not_found"),
        ("GET /%65cho HTTP/1.1", 404, "route_not_found"),
    ] {
        refused_and_closed(&stand, &format!("{line}\r\nHost: x\r\n\r\n"), status, code);
    }
}

#[test]
fn double_slashes_before_our_own_routes_are_one() {
    let stand = Stand::start(None);
    for target in ["//echo?a=b", "///echo?a=b", "/echo?a=b"] {
        let reply = get(stand.addr, target);
        assert_eq!((reply.status, reply.header("x-path")), (200, Some("/echo?a=b")), "{target}");
    }
    assert_eq!(get(stand.addr, "/passthrough/a/x/%2e?q=//b&c=%20+").text(), "/passthrough/a/x/%2e?q=//b&c=%20+");
}

#[test]
fn g_14_unknown_hosts_are_refused_only_when_a_public_address_is_set_and_never_for_probes() {
    let open = Stand::start(None);
    assert_eq!(request_with_host(&open, "/deaf", "anything.example"), 200);
    let bound = Stand::start(Some("gateway.example"));
    assert_eq!(request_with_host(&bound, "/deaf", "gateway.example"), 200);
    assert_eq!(request_with_host(&bound, "/deaf", "GATEWAY.example"), 200);
    for host in [
        "other.example",
        "gateway.example.evil.example",
        "gateway.example:81",
        "127.0.0.1",
        "gateway.example@evil",
        "a b@c/d",
        "",
    ] {
        assert_eq!(request_with_host(&bound, "/deaf", host), 400, "{host}");
        assert_eq!(request_with_host(&bound, "/healthz", host), 200, "{host}");
    }
    let reply = get(bound.addr, "/deaf");
    assert_eq!((reply.code().as_str(), reply.header("connection")), ("unknown_host", Some("close")));
}

fn request_with_host(stand: &Stand, path: &str, host: &str) -> u16 {
    let mut stream = connect(stand.addr);
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nX-Forwarded-Host: gateway.example\r\n\r\n").unwrap();
    read_reply(&mut stream, false).status
}

#[test]
fn request_ids_are_taken_when_sane_and_made_when_not() {
    let stand = Stand::start(None);
    let id = |sent: &str| {
        let reply = request(stand.addr, "GET", "/deaf", &[("x-request-id", sent)], None);
        reply.header("x-request-id").unwrap().to_owned()
    };
    assert_eq!(id("Trace-1.a_b"), "Trace-1.a_b");
    let long = "a".repeat(129);
    for odd in ["", "a b", "a\"b", "a{b}", long.as_str()] {
        let made = id(odd);
        assert!(made.len() == 32 && made.bytes().all(|b| b.is_ascii_hexdigit()), "{odd:?} gave {made:?}");
    }
    let reply = request(stand.addr, "GET", "/passthrough/a/b", &[("x-request-id", "mine")], None);
    assert_eq!(reply.header("rollcall-request-id"), Some("mine"));
    assert_eq!(reply.header("x-request-id"), Some("the-vendors-own"));
    let reply = request(stand.addr, "GET", "/nowhere", &[("x-request-id", "mine")], None);
    assert_eq!((reply.header("x-request-id"), reply.json()["request_id"].as_str()), (Some("mine"), Some("mine")));
}

#[test]
fn a_panic_is_a_500_problem_and_the_connection_lives_on() {
    let stand = Stand::start(None);
    let mut stream = connect(stand.addr);
    for _ in 0..3 {
        write!(stream, "GET /panic HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let reply = read_reply(&mut stream, false);
        assert_eq!((reply.status, reply.code().as_str()), (500, "internal"));
        assert!(!reply.text().contains("canary"), "{}", reply.text());
        assert_eq!(reply.header("content-type"), Some("application/problem+json"));
        write!(stream, "GET /deaf HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        assert_eq!(read_reply(&mut stream, false).text(), "deaf");
    }
}

#[test]
fn g_09_bodies_and_heads_beyond_the_limit_are_typed_errors() {
    let stand = Stand::start(None);
    let big = vec![b' '; 1024 * 1024 + 1];
    let declared = request(stand.addr, "POST", "/json", &[], Some(&big));
    assert_eq!((declared.status, declared.code().as_str()), (413, "body_too_large"));
    assert_eq!(declared.header("connection"), Some("close"));
    // Not declared: 2 MiB in chunks; the answer comes after the first MiB.
    let mut stream = connect(stand.addr);
    write!(stream, "POST /json HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
    let chunk = [b"10000\r\n".as_slice(), &vec![b' '; 0x10000], b"\r\n"].concat();
    for _ in 0..32 {
        if stream.write_all(&chunk).is_err() {
            break;
        }
    }
    let streamed = read_reply(&mut stream, false);
    assert_eq!((streamed.status, streamed.code().as_str()), (413, "body_too_large"));
    let header = "h".repeat(70 * 1024);
    let head = request(stand.addr, "GET", "/deaf", &[("x-long", &header)], None);
    assert_eq!(head.status, 431);
    let target = get(stand.addr, &format!("/deaf?{}", "q".repeat(20 * 1024)));
    assert!(matches!(target.status, 400 | 414), "{}", target.status);
    let (huge, _) =
        until_closed(stand.addr, format!("GET /deaf HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "h".repeat(1024 * 1024)).as_bytes());
    assert!(!String::from_utf8_lossy(&huge).contains(" 200 "));
    let deep = "[".repeat(100_000);
    let reply = request(stand.addr, "POST", "/json", &[], Some(deep.as_bytes()));
    assert_eq!((reply.status, reply.code().as_str()), (400, "invalid_body"));
}

#[test]
fn g_08_bodies_that_stand_still_or_drip_are_cut() {
    let stand = Stand::start(None);
    // Silent.
    let mut silent = connect(stand.addr);
    write!(silent, "POST /json HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{{").unwrap();
    let begun = Instant::now();
    let reply = read_reply(&mut silent, false);
    assert_eq!((reply.status, reply.code().as_str()), (408, "request_timeout"));
    assert!(begun.elapsed() < Duration::from_secs(5));
    let mut rest = Vec::new();
    let _ = silent.read_to_end(&mut rest);
    assert!(rest.is_empty());
    // A byte now and then: never silent, but far below the rate.
    let mut drip = connect(stand.addr);
    write!(drip, "POST /json HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n").unwrap();
    let begun = Instant::now();
    drip.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let mut answer = Vec::new();
    let mut chunk = [0; 1024];
    while answer.is_empty() && begun.elapsed() < Duration::from_secs(15) {
        let _ = drip.write_all(b" ");
        if let Ok(n) = drip.read(&mut chunk) {
            answer.extend_from_slice(&chunk[..n]);
        }
    }
    assert!(answer.starts_with(b"HTTP/1.1 408 "), "{:?}", String::from_utf8_lossy(&answer));
}

#[test]
fn json_bodies_say_where_they_are_wrong_and_never_what_they_hold() {
    let stand = Stand::start(None);
    let post = |body: &str| request(stand.addr, "POST", "/json", &[], Some(body.as_bytes()));
    assert_eq!(post(r#" {"name": "n", "count": 2, "scopes": ["admin"]}"#).text(), "n 2 1");
    for (body, field) in [
        (r#"{"count": 1}"#, Some("name")),
        (r#"{"name": "n", "nmae": 1}"#, Some("nmae")),
        (r#"{"name": 1, "count": 2}"#, Some("name")),
        ("{\n\"name\": \"n\",\n\"scopes\": \"admin\",\n\"count\": 2}", Some("scopes")),
        (r#"{"name": "n", "name": "m"}"#, Some("name")),
        ("", None),
        ("{", None),
        (r#"["n", 2, []]"#, None),
    ] {
        let reply = post(body);
        assert_eq!((reply.status, reply.code().as_str()), (400, "invalid_body"), "{body}");
        assert_eq!(reply.json()["field"].as_str(), field, "{body}");
    }
    for body in [
        r#"{"name": "n", "count": "canary-secret"}"#,
        r#""canary-secret""#,
        r#"{"name": "n", "count": 12345678901234567}"#,
        r#"{"name": "n", "scopes": ["canary-secret`, expected one of `admin"]}"#,
    ] {
        let reply = post(body);
        assert_eq!(reply.status, 400);
        assert!(!reply.text().contains("canary") && !reply.text().contains("12345678901234567"), "{}", reply.text());
    }
}

#[test]
fn what_actix_says_itself_is_a_problem_too() {
    let stand = Stand::start(None);
    for (target, status, code) in [("/query?name=a&count=x", 400, "invalid_request"), ("/nowhere", 404, "route_not_found")] {
        let reply = get(stand.addr, target);
        assert_eq!((reply.status, reply.code().as_str()), (status, code));
        assert_eq!(reply.header("content-type"), Some("application/problem+json"));
        assert_eq!(reply.header("rollcall-error"), Some(code));
    }
    let reply = request(stand.addr, "PUT", "/api-token", &[], None);
    assert_eq!(
        (reply.status, reply.code().as_str(), reply.header("allow")),
        (405, "method_not_allowed", Some("GET, HEAD, POST"))
    );
}

#[test]
fn streamed_answers_have_no_forty_millisecond_step() {
    let stand = Stand::start(None);
    let mut stream = connect(stand.addr);
    let begun = Instant::now();
    for _ in 0..25 {
        stream.write_all(b"GET /twice HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        assert_eq!(read_reply(&mut stream, false).text(), "onetwo");
    }
    assert!(begun.elapsed() < Duration::from_millis(25 * 30), "{:?} for 25 answers", begun.elapsed());
}
