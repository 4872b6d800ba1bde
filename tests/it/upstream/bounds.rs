//! G-09: bombs and oversized answers end in a typed error, not in memory.

use std::io::Write;

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use http::{HeaderMap, Method, uri::PathAndQuery};
use http_body_util::Empty;
use rollcall::{
    connector::PageStyle,
    error::Code,
    upstream::{Failure, ListAsk, passthrough::Pool},
};

use super::support::{Act, Server, access, answer, change, guard_for, http_request, is_alone, resident, upstream_for, users};

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// `[` and then spaces: JSON-like, and as small as a coding can make it.
fn gzip_bomb(decoded: usize) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(b"[").unwrap();
    let piece = vec![b' '; 1 << 20];
    for _ in 0..decoded >> 20 {
        encoder.write_all(&piece).unwrap();
    }
    encoder.finish().unwrap()
}

/// A brotli stream of uncompressed blocks: honest, and without need of an encoder.
fn brotli_of(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut bits = Bits::default();
    bits.put(0, 1);
    for piece in text.chunks(1 << 16) {
        bits.put(0, 1);
        bits.put(0, 2);
        bits.put(piece.len() as u32 - 1, 16);
        bits.put(1, 1);
        bits.align();
        out.append(&mut bits.bytes);
        out.extend_from_slice(piece);
    }
    bits.put(3, 2);
    bits.align();
    out.append(&mut bits.bytes);
    out
}

/// 64 MiB of `[` and spaces in 55 bytes, made once with an encoder of another language.
const BROTLI_BOMB: &str = "z///f/ilQLbiskAA9/4//v//wy8BEIcFALr3//z//4dfAiAOiwB07//z//8fvwRAHBYA6N7/Aw==";

#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    current: u32,
    filled: u32,
}

impl Bits {
    fn put(&mut self, value: u32, count: u32) {
        for bit in 0..count {
            self.current |= (value >> bit & 1) << self.filled;
            self.filled += 1;
            if self.filled == 8 {
                self.align();
            }
        }
    }

    fn align(&mut self) {
        if self.filled > 0 {
            self.bytes.push(self.current as u8);
            (self.current, self.filled) = (0, 0);
        }
    }
}

async fn list(headers: &'static [(&'static str, &'static str)], body: Vec<u8>) -> Result<usize, Failure> {
    let server = Server::start(move |_, _| answer(200, headers, &body));
    let access = access(&server.base);
    let page = upstream_for(&server.base).list(&access, &users("[*]", PageStyle::None), &ListAsk::default()).await?;
    Ok(page.records.ranges.len())
}

fn refused(outcome: Result<usize, Failure>, word: &str) {
    match outcome {
        Err(failure @ Failure::BadAnswer(_)) => {
            assert_eq!(failure.code(), Code::VendorBadAnswer);
            assert!(failure.to_string().contains(word), "{failure}");
        }
        other => panic!("{word}: {other:?}"),
    }
}

const GZIP: &[(&str, &str)] = &[("content-encoding", "gzip")];
const BROTLI: &[(&str, &str)] = &[("content-encoding", "br")];

#[tokio::test]
async fn honest_codings_are_read() {
    let text = br#"[{"id": 1}, {"id": 2}]"#;
    assert_eq!(list(&[], text.to_vec()).await.unwrap(), 2);
    assert_eq!(list(GZIP, gzip(text)).await.unwrap(), 2);
    assert_eq!(list(BROTLI, brotli_of(text)).await.unwrap(), 2);
    assert_eq!(list(&[("content-encoding", "identity")], text.to_vec()).await.unwrap(), 2);
    let many = format!("[{}]", vec![r#"{"id": 1}"#; 50_000].join(","));
    assert_eq!(list(BROTLI, brotli_of(many.as_bytes())).await.unwrap(), 50_000);
}

#[tokio::test]
async fn g_09_bombs_end_early() {
    if !is_alone("upstream::bounds::g_09_bombs_end_early") {
        return;
    }
    let before = resident();
    let size = if crate::support::long() { 1 << 30 } else { 64 << 20 };
    let bomb = gzip_bomb(size);
    assert!(bomb.len() < size / 900);
    refused(list(GZIP, bomb).await, if size > 1 << 29 { "larger than" } else { "times" });
    refused(list(BROTLI, BASE64.decode(BROTLI_BOMB).unwrap()).await, "times");
    refused(list(GZIP, gzip(&[b' '; 100])[..20].to_vec()).await, "damaged");
    refused(list(GZIP, b"not gzip at all".to_vec()).await, "damaged");
    refused(list(BROTLI, b"\xff\xff\xff\xff".to_vec()).await, "damaged");
    refused(list(&[("content-encoding", "zstd")], b"x".to_vec()).await, "not asked");
    refused(list(&[("content-encoding", "gzip"), ("content-encoding", "br")], b"x".to_vec()).await, "more than once");
    refused(list(&[("content-encoding", "gzip, gzip")], b"x".to_vec()).await, "not asked");
    assert!(resident().saturating_sub(before) <= 64 << 20);
}

#[tokio::test]
async fn g_09_answers_of_millions_of_values_are_refused() {
    // Two bytes of text become seventy of memory when they are a value of their own.
    let dense = |piece: &str, times: usize| format!("[{}0]", piece.repeat(times)).into_bytes();
    refused(list(&[], dense("0,", 5_000_000)).await, "values");
    refused(list(&[], dense("{},", 3_000_000)).await, "values");
    assert_eq!(list(&[], dense("0,", 1_000_000)).await.unwrap(), 1_000_001);
}

#[tokio::test]
async fn g_09_long_answers_are_cut_off() {
    for framing in ["content-length: 1000000000", "transfer-encoding: chunked", "connection: close"] {
        let server = Server::start(move |_, _| {
            let mut acts = vec![Act::Write(format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n").into_bytes())];
            match framing.starts_with("transfer") {
                true => acts.extend(
                    (0..40).flat_map(|_| [Act::Write(b"100000\r\n".to_vec()), Act::Fill(1 << 20), Act::Write(b"\r\n".to_vec())]),
                ),
                false => acts.push(Act::Fill(40 << 20)),
            }
            acts
        });
        let access = access(&server.base);
        let outcome = upstream_for(&server.base).list(&access, &users("[*]", PageStyle::None), &ListAsk::default()).await;
        refused(outcome.map(|page| page.records.ranges.len()), "larger than");
    }
    let small = change(access("http://127.0.0.1:1"), |method| method.limits.max_body = 1000);
    let server = Server::start(|_, _| answer(200, &[], format!("[{}]", " ".repeat(2000)).as_bytes()));
    let server_of =
        |coding: &'static [(&'static str, &'static str)], body: Vec<u8>| Server::start(move |_, _| answer(200, coding, &body));
    let spread: Vec<u8> = (0..3000u32).map(|i| b'a' + (i.wrapping_mul(2_654_435_761) >> 27) as u8 % 26).collect();
    let text = format!("[\"{}\"]", String::from_utf8(spread).unwrap());
    for server in [server_of(GZIP, gzip(text.as_bytes())), server_of(BROTLI, brotli_of(text.as_bytes()))] {
        let small = change(access(&server.base), |method| method.limits.max_body = 2900);
        let outcome = upstream_for(&server.base).list(&small, &users("[*]", PageStyle::None), &ListAsk::default()).await;
        refused(outcome.map(|page| page.records.ranges.len()), "2900");
    }
    let small = rollcall::upstream::Access { base: server.base.parse().unwrap(), ..small };
    let outcome = upstream_for(&server.base).list(&small, &users("[*]", PageStyle::None), &ListAsk::default()).await;
    refused(outcome.map(|page| page.records.ranges.len()), "1000");
}

#[tokio::test]
async fn g_09_nested_json_is_refused() {
    for depth in [200, 100_000] {
        let body = format!("[{}1{}]", r#"{"a":["#.repeat(depth), "]}".repeat(depth));
        let outcome = list(&[], body.into_bytes()).await;
        assert!(matches!(outcome, Err(Failure::BadAnswer(_))), "{depth}: {outcome:?}");
    }
}

#[tokio::test]
async fn g_09_header_floods_are_refused_by_both_clients() {
    let many = (0..10_000).map(|n| format!("x-{n}: 1\r\n")).collect::<String>();
    let long = format!("x-long: {}\r\n", "y".repeat(1 << 20));
    for flood in [many, long] {
        let head = format!("HTTP/1.1 200 OK\r\n{flood}content-length: 2\r\n\r\n[]").into_bytes();
        let server = Server::start(move |_, _| vec![Act::Write(head.clone())]);
        let access = access(&server.base);
        let unified = upstream_for(&server.base).list(&access, &users("[*]", PageStyle::None), &ListAsk::default()).await;
        refused(unified.map(|page| page.records.ranges.len()), "headers");
        let passed = tokio::task::LocalSet::new()
            .run_until(async {
                let pool = Pool::new(guard_for(&server.base));
                pool.send(&access, http_request(Method::GET, PathAndQuery::from_static("/"), HeaderMap::new(), Empty::new()))
                    .await
                    .map(|_| 0)
            })
            .await;
        refused(passed, "headers");
    }
}
