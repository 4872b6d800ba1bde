//! A client that sends what it is told, for callers' own commands and for comparing services.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    time::Duration,
};

use serde_json::{Value, json};

pub const V1: &str = "/api/v1/executecommand";
pub const V2: &str = "/api/v2/executecommand-async";

/// What came back.
pub struct Answer {
    pub status: u16,
    pub kind: String,
    pub body: Vec<u8>,
}

/// One request on a connection of its own.
pub fn send(base: &str, method: &str, path: &str, headers: &[(&str, &str)], body: Option<&[u8]>) -> Answer {
    let host = base.trim_start_matches("http://");
    let mut stream = TcpStream::connect(host).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let mut text = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n");
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    if let Some(body) = body {
        text.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    text.push_str("\r\n");
    stream.write_all(text.as_bytes()).unwrap();
    stream.write_all(body.unwrap_or_default()).unwrap();
    let (head, body) = read_answer(&mut stream);
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let kind =
        head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-type: ").map(str::to_owned)).unwrap_or_default();
    assert!(!head.to_lowercase().contains("transfer-encoding"), "the reader here knows lengths only");
    Answer { status, kind, body }
}

/// Head and body, by the length the head tells: Commander's server may wait for the client's end before it closes, when it
/// refused a request without reading its body.
fn read_answer(stream: &mut TcpStream) -> (String, Vec<u8>) {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(reader.read_line(&mut head).unwrap() > 0, "a whole head, not {head:?}");
    }
    let lower = head.to_lowercase();
    let length = lower.lines().find_map(|line| line.strip_prefix("content-length: ")).map(|length| length.parse().unwrap());
    let mut body = Vec::new();
    match length {
        Some(length) => reader.take(length).read_to_end(&mut body).unwrap(),
        None => reader.read_to_end(&mut body).unwrap(),
    };
    assert_eq!(body.len() as u64, length.unwrap_or(body.len() as u64), "a whole body");
    (head, body)
}

/// A command on either route; the JSON that came back.
pub fn command(base: &str, key: &str, path: &str, command: &str) -> (u16, Value) {
    let body = json!({ "command": command }).to_string();
    let answer = send(base, "POST", path, &[("Content-Type", "application/json"), ("api-key", key)], Some(body.as_bytes()));
    (answer.status, serde_json::from_slice(&answer.body).unwrap_or_default())
}
