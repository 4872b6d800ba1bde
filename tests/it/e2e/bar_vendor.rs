//! A vendor on loopback for the bars: keeps connections, reads whole requests, remembers them, and answers by a script.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use serde_json::{Value, json};

/// What of a body is remembered.
const KEPT: usize = 64 * 1024;

/// A request as it came.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    pub method: String,
    /// The raw target, query included.
    pub target: String,
    /// Names in lower case, values as they came.
    pub headers: Vec<(String, String)>,
    /// The first 64 KiB of the body.
    pub body: Vec<u8>,
    /// All bytes of the body.
    pub length: u64,
    /// The lines behind it.
    pub trailers: Vec<String>,
}

impl Asked {
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(n, _)| n == name).map_or("", |(_, value)| value)
    }

    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// What a form sent.
    pub fn form(&self) -> BTreeMap<String, String> {
        url::form_urlencoded::parse(&self.body).into_owned().collect()
    }

    /// A number of the query.
    pub fn number(&self, name: &str, otherwise: usize) -> usize {
        let query = self.target.split_once('?').map_or("", |(_, query)| query);
        let mut pairs = url::form_urlencoded::parse(query.as_bytes());
        pairs.find(|(n, _)| n == name).and_then(|(_, v)| v.parse().ok()).unwrap_or(otherwise)
    }
}

/// What the vendor does.
pub enum Act {
    /// These bytes, and the connection stays.
    Send(Vec<u8>),
    /// These bytes, then the end of the connection.
    End(Vec<u8>),
    /// These bytes, with a pause behind each piece.
    Pieces(Vec<Vec<u8>>, Duration),
    /// A body of so many zero bytes.
    Stream(u64),
}

type Script = dyn Fn(&Asked) -> Act + Send + Sync;

/// The server; ends when dropped.
pub struct Vendor {
    pub port: u16,
    asked: Arc<Mutex<Vec<Asked>>>,
    stop: Arc<AtomicBool>,
}

impl Vendor {
    pub fn start(script: impl Fn(&Asked) -> Act + Send + Sync + 'static) -> Vendor {
        Self::on(TcpListener::bind("127.0.0.1:0").unwrap(), script)
    }

    /// At an address of the test's own.
    pub fn on(listener: TcpListener, script: impl Fn(&Asked) -> Act + Send + Sync + 'static) -> Vendor {
        let port = listener.local_addr().unwrap().port();
        let (asked, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (script, log, ended): (Arc<Script>, _, _) = (Arc::new(script), asked.clone(), stop.clone());
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if ended.load(Ordering::SeqCst) {
                    return;
                }
                let (script, log) = (script.clone(), log.clone());
                thread::spawn(move || serve(stream, &*script, &log));
            }
        });
        Vendor { port, asked, stop }
    }

    /// `http://127.0.0.1:<port><path>`.
    pub fn at(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// `127.0.0.1:<port>`, for `ROLLCALL_EGRESS_ALLOW`.
    pub fn authority(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// What was asked so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// How often it was asked.
    pub fn count(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

impl Drop for Vendor {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn serve(stream: TcpStream, script: &Script, log: &Mutex<Vec<Asked>>) {
    let _ = stream.set_read_timeout(Some(Duration::from_secs(60)));
    let _ = stream.set_nodelay(true);
    let mut reader = BufReader::with_capacity(256 * 1024, stream.try_clone().unwrap());
    let mut writer = stream;
    while let Some(asked) = read(&mut reader) {
        log.lock().unwrap().push(asked.clone());
        let sent = match script(&asked) {
            Act::Send(bytes) => writer.write_all(&bytes),
            Act::End(bytes) => {
                let _ = writer.write_all(&bytes);
                return;
            }
            Act::Pieces(pieces, pause) => pieces.iter().try_for_each(|piece| {
                let sent = writer.write_all(piece);
                thread::sleep(pause);
                sent
            }),
            Act::Stream(length) => stream_zeros(&mut writer, length),
        };
        if sent.is_err() {
            return;
        }
    }
}

fn stream_zeros(writer: &mut TcpStream, length: u64) -> std::io::Result<()> {
    writer.write_all(
        format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\ncontent-type: application/octet-stream\r\n\r\n").as_bytes(),
    )?;
    let block = vec![0; 256 * 1024];
    let mut left = length;
    while left > 0 {
        let now = left.min(block.len() as u64);
        writer.write_all(&block[..now as usize])?;
        left -= now;
    }
    Ok(())
}

fn read(reader: &mut impl BufRead) -> Option<Asked> {
    let first = line(reader)?;
    let mut words = first.split(' ');
    let mut asked = Asked { method: words.next()?.to_owned(), target: words.next()?.to_owned(), ..Asked::default() };
    loop {
        let line = line(reader)?;
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':')?;
        asked.headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    if asked.header("transfer-encoding") == "chunked" {
        loop {
            let size = u64::from_str_radix(line(reader)?.trim(), 16).ok()?;
            if size == 0 {
                asked.trailers = std::iter::from_fn(|| line(reader).filter(|line| !line.is_empty())).collect();
                return Some(asked);
            }
            take(reader, size, &mut asked)?;
            line(reader)?;
        }
    }
    let length = asked.header("content-length").parse().unwrap_or(0);
    take(reader, length, &mut asked)?;
    Some(asked)
}

pub fn line(reader: &mut impl BufRead) -> Option<String> {
    let mut bytes = Vec::new();
    reader.read_until(b'\n', &mut bytes).ok().filter(|count| *count > 0)?;
    while bytes.last().is_some_and(|b| matches!(b, b'\r' | b'\n')) {
        bytes.pop();
    }
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

fn take(reader: &mut impl BufRead, length: u64, asked: &mut Asked) -> Option<()> {
    let mut part = reader.take(length);
    let mut buffer = vec![0; 256 * 1024];
    let mut read = 0;
    while read < length {
        let count = part.read(&mut buffer).ok().filter(|count| *count > 0)?;
        let room = KEPT.saturating_sub(asked.body.len()).min(count);
        asked.body.extend_from_slice(&buffer[..room]);
        read += count as u64;
    }
    asked.length += length;
    Some(())
}

/// A whole answer; its length is declared.
pub fn answer(status: u16, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n", body.len()).into_bytes();
    for (name, value) in headers {
        bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(body);
    bytes
}

/// A JSON answer.
pub fn json_answer(status: u16, body: &Value) -> Act {
    Act::Send(answer(status, &[("content-type", "application/scim+json")], body.to_string().as_bytes()))
}

/// The e-mail address of one user of [`scim`].
pub fn address_of(number: usize) -> String {
    format!("person-{number}@listed-people.example")
}

fn user(number: usize) -> Value {
    let address = address_of(number);
    json!({"id": format!("u{number}"), "userName": address, "displayName": format!("Person Number {number}"), "active": true,
        "emails": [{"value": address, "primary": true}]})
}

/// A small, correct SCIM server with so many users, whatever stands before `/Users`.
pub fn scim(asked: &Asked, users: usize) -> Act {
    let path = asked.path();
    let page = |all: Vec<Value>| {
        let (start, count) = (asked.number("startIndex", 1).max(1), asked.number("count", 100));
        let records: Vec<&Value> = all.iter().skip(start - 1).take(count).collect();
        json_answer(
            200,
            &json!({"schemas": ["urn:ietf:params:scim:api:messages:2.0:ListResponse"], "totalResults": all.len(),
            "startIndex": start, "itemsPerPage": records.len(), "Resources": records}),
        )
    };
    if path.ends_with("/Users") {
        return page((1..=users).map(user).collect());
    }
    if path.ends_with("/Groups") {
        return page(vec![json!({"id": "g1", "displayName": "Everybody", "members": [{"value": "u1"}]})]);
    }
    let known = path.rsplit_once("/Users/u").and_then(|(_, number)| number.parse().ok()).filter(|n| (1..=users).contains(n));
    match known {
        Some(number) => json_answer(200, &user(number)),
        None => json_answer(404, &json!({"schemas": ["urn:ietf:params:scim:api:messages:2.0:Error"], "status": "404"})),
    }
}
