//! A client that sends what it is told, for callers' own commands and for comparing services.

use std::{
    io::{Read, Write},
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
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n").expect("a whole head");
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let kind =
        head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-type: ").map(str::to_owned)).unwrap_or_default();
    assert!(!head.to_lowercase().contains("transfer-encoding"), "the reader here knows lengths only");
    Answer { status, kind, body: answer[end + 4..].to_vec() }
}

/// A command on either route; the JSON that came back.
pub fn command(base: &str, key: &str, path: &str, command: &str) -> (u16, Value) {
    let body = json!({ "command": command }).to_string();
    let answer = send(base, "POST", path, &[("Content-Type", "application/json"), ("api-key", key)], Some(body.as_bytes()));
    (answer.status, serde_json::from_slice(&answer.body).unwrap_or_default())
}
