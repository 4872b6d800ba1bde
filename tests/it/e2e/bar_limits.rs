//! G-09: bodies and headers of any size, in both directions: streamed or refused, never collected.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use flate2::{Compression, write::GzEncoder};
use serde_json::json;

use super::bar_vendor::{Act, Vendor, answer, scim};
use crate::support::{
    gateway::{ADMIN, Gateway, Kept},
    long,
};

const MIB: u64 = 1024 * 1024;

fn connect(gateway: &Gateway) -> TcpStream {
    let stream = TcpStream::connect(gateway.base.strip_prefix("http://").unwrap()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(60))).unwrap();
    stream
}

fn head(stream: &mut TcpStream) -> String {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|count| count == 1) {
        head.push(byte[0]);
    }
    String::from_utf8_lossy(&head).to_lowercase()
}

#[tokio::test]
async fn g_09_limits_bodies_stream() {
    let size = if long() { 1024 * MIB } else { 64 * MIB };
    let vendor = Vendor::start(move |asked| match asked.path() {
        "/scim/download" => Act::Stream(size),
        "/scim/upload" => Act::Send(answer(200, &[("content-type", "text/plain")], asked.length.to_string().as_bytes())),
        _ => scim(asked, 3),
    });
    let gateway = Gateway::start(&Kept::embedded(), &vendor.authority());
    let account = gateway.link("scim", "bearer", json!({"base_url": vendor.at("/scim"), "token": "streamed-token"})).await;
    assert_eq!(gateway.get(&format!("/passthrough/{account}/Users")).await.status, 200);
    let before = gateway.resident();
    let mut most = before;
    let mut stream = connect(&gateway);
    let key = format!("Host: gateway\r\nAuthorization: Bearer {ADMIN}\r\n");
    stream.write_all(format!("GET /passthrough/{account}/download HTTP/1.1\r\n{key}\r\n").as_bytes()).unwrap();
    let text = head(&mut stream);
    assert!(text.starts_with("http/1.1 200"), "{text}");
    // A reader that stops: what the vendor sends meanwhile must not pile up.
    std::thread::sleep(Duration::from_millis(500));
    most = most.max(gateway.resident());
    let (mut buffer, mut got, mut chunks) = (vec![0; 256 * 1024], 0, 0);
    while got < size {
        let count = stream.read(&mut buffer).unwrap();
        assert!(count > 0, "cut after {got} bytes");
        got += count as u64;
        chunks += 1;
        if chunks % 256 == 0 {
            most = most.max(gateway.resident());
        }
    }
    assert_eq!(got, size);
    for chunked in [false, true] {
        let mut stream = connect(&gateway);
        let framing = if chunked { "Transfer-Encoding: chunked".to_owned() } else { format!("Content-Length: {size}") };
        stream.write_all(format!("POST /passthrough/{account}/upload HTTP/1.1\r\n{key}{framing}\r\n\r\n").as_bytes()).unwrap();
        let block = vec![b'x'; 256 * 1024];
        for number in 0..size / block.len() as u64 {
            if chunked {
                stream.write_all(format!("{:x}\r\n", block.len()).as_bytes()).unwrap();
            }
            stream.write_all(&block).unwrap();
            if chunked {
                stream.write_all(b"\r\n").unwrap();
            }
            if number % 64 == 0 {
                most = most.max(gateway.resident());
            }
        }
        if chunked {
            stream.write_all(b"0\r\n\r\n").unwrap();
        }
        let text = head(&mut stream);
        assert!(text.starts_with("http/1.1 200"), "{text}");
        let mut body = vec![0; size.to_string().len()];
        stream.read_exact(&mut body).unwrap();
        assert_eq!(String::from_utf8_lossy(&body), size.to_string(), "the vendor got every byte");
    }
    most = most.max(gateway.resident());
    assert!(most - before <= 32 * MIB, "grew by {} KiB", (most - before) / 1024);
}

fn gzip(length: usize) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    let block = vec![b' '; MIB as usize];
    encoder.write_all(b"[").unwrap();
    for _ in 0..length / block.len() {
        encoder.write_all(&block).unwrap();
    }
    encoder.finish().unwrap()
}

/// 128 MiB of spaces in 102 bytes of brotli.
const BROTLI_BOMB: &str = "z///fwAkQOKxQHLv//n//w+ABEAcFoDu/T////8BkACIwwLQvf/n//8/ABIAcVgAuvf//P//B0ACIA4LQPf+n////wBIAMRhAeje\
    //P//x8ACYA4LADd+//8//8HIAEQhwWge/8P";

#[tokio::test]
async fn g_09_limits_a_vendors_bombs_are_typed_errors() {
    let bomb = gzip(if long() { 1024 * MIB as usize } else { 128 * MIB as usize });
    let vendor = Vendor::start(move |asked| {
        let many = |count: usize, length: usize| {
            let mut bytes = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n".to_vec();
            (0..count).for_each(|n| bytes.extend_from_slice(format!("x-{n}: {}\r\n", "y".repeat(length)).as_bytes()));
            bytes.extend_from_slice(b"\r\n{}");
            Act::End(bytes)
        };
        let coded = |coding: &str, body: &[u8]| {
            Act::Send(answer(200, &[("content-type", "application/json"), ("content-encoding", coding)], body))
        };
        let nested = |open: &str, close: &str| {
            let text = format!("{{\"totalResults\":1,\"Resources\":[{}1{}]}}", open.repeat(100_000), close.repeat(100_000));
            Act::Send(answer(200, &[("content-type", "application/json")], text.as_bytes()))
        };
        // The link test asks for one user; it must go well.
        let is_test = !asked.path().ends_with("/Users") || asked.number("count", 100) == 1;
        match asked.header("authorization").rsplit(' ').next().unwrap_or_default() {
            _ if is_test => scim(asked, 3),
            "gzip-bomb" => coded("gzip", &bomb),
            "gzip-twice" => coded("gzip, gzip", &bomb),
            "gzip-cut" => coded("gzip", &bomb[..bomb.len() / 2]),
            "brotli-bomb" => coded("br", &BASE64_STANDARD.decode(BROTLI_BOMB).unwrap()),
            "brotli-cut" => coded("br", &BASE64_STANDARD.decode(BROTLI_BOMB).unwrap()[..50]),
            "coding-unknown" => coded("zstd", b"anything"),
            "nested-arrays" => nested("[", "]"),
            "nested-objects" => nested("{\"a\":", "}"),
            "many-headers" => many(10_000, 8),
            "large-header" => many(1, MIB as usize),
            "large-length" => {
                Act::End(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 99999999999\r\n\r\n{".to_vec())
            }
            "endless" => Act::Stream(80 * MIB),
            "endless-head" => Act::End([b"HTTP/1.1 200 OK\r\nx: ".to_vec(), vec![b'y'; 4 * MIB as usize]].concat()),
            _ => scim(asked, 3),
        }
    });
    let gateway = Gateway::start(&Kept::embedded(), &vendor.authority());
    let mut wrong = Vec::new();
    let mut before = 0;
    for key in [
        "harmless-key",
        "gzip-bomb",
        "gzip-twice",
        "gzip-cut",
        "brotli-bomb",
        "brotli-cut",
        "coding-unknown",
        "nested-arrays",
        "nested-objects",
        "many-headers",
        "large-header",
        "large-length",
        "endless",
        "endless-head",
    ] {
        let account = gateway.link("scim", "bearer", json!({"base_url": vendor.at("/scim"), "token": key})).await;
        let reply = gateway.get(&format!("/unified/user-directory/users?integrated_account_id={account}&limit=50")).await;
        if key == "harmless-key" {
            assert_eq!(reply.status, 200, "{}", reply.text());
            before = gateway.resident();
            continue;
        }
        let fine = reply.status == 502 && matches!(reply.code().as_str(), "vendor_bad_answer" | "vendor_unreachable");
        if !fine {
            wrong.push(format!("{key}: {} {}", reply.status, reply.text().chars().take(300).collect::<String>()));
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
    let grown = gateway.resident().saturating_sub(before);
    assert!(grown <= 64 * MIB, "grew by {} KiB", grown / 1024);
    assert_eq!(gateway.get("/healthz").await.status, 200);
}

#[tokio::test]
async fn g_09_limits_a_clients_excess_is_refused() {
    let vendor = Vendor::start(|asked| scim(asked, 3));
    let gateway = Gateway::start(&Kept::embedded(), &vendor.authority());
    let account = gateway.link("scim", "bearer", json!({"base_url": vendor.at("/scim"), "token": "refused-token"})).await;
    let (before, asked) = (gateway.resident(), vendor.count());
    let key = format!("Host: gateway\r\nAuthorization: Bearer {ADMIN}\r\n");
    let many: String = (0..10_000).map(|n| format!("x-{n}: y\r\n")).collect();
    let large = format!("x-large: {}\r\n", "y".repeat(MIB as usize));
    let long_target = "y".repeat(100_000);
    let body = format!("{{\"tenant_id\": \"{}\"}}", "y".repeat(10 * MIB as usize));
    let deep = format!("{{\"context\": {}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
    let post = |path: &str, body: &str| {
        format!("POST {path} HTTP/1.1\r\n{key}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    };
    let cases = [
        ("many headers", format!("GET /passthrough/{account}/Users HTTP/1.1\r\n{key}{many}\r\n"), &["400", "431"][..]),
        ("many headers of our own routes", format!("GET /integrated-account HTTP/1.1\r\n{key}{many}\r\n"), &["400", "431"]),
        ("a large header", format!("GET /passthrough/{account}/Users HTTP/1.1\r\n{key}{large}\r\n"), &["400", "431"]),
        ("a long target", format!("GET /passthrough/{account}/{long_target} HTTP/1.1\r\n{key}\r\n"), &["400", "414", "431"]),
        ("a large body", post("/integrated-account", &body), &["413"]),
        ("a deep body", post("/integrated-account", &deep), &["400"]),
    ];
    let mut wrong = Vec::new();
    for (name, bytes, allowed) in &cases {
        let mut stream = connect(&gateway);
        let mut writer = stream.try_clone().unwrap();
        let sent = bytes.clone();
        // The gateway may answer and close before everything was sent.
        let sender = std::thread::spawn(move || {
            let _ = writer.write_all(sent.as_bytes());
        });
        let text = head(&mut stream);
        let status = text.get(9..12).unwrap_or_default().to_owned();
        if !allowed.contains(&status.as_str()) {
            wrong.push(format!("{name}: {text}"));
        }
        drop(stream);
        let _ = sender.join();
    }
    assert_eq!(wrong, Vec::<String>::new());
    assert_eq!(vendor.count(), asked, "the vendor was asked");
    let grown = gateway.resident().saturating_sub(before);
    assert!(grown <= 32 * MIB, "grew by {} KiB", grown / 1024);
    assert_eq!(gateway.get("/healthz").await.status, 200);
}
