//! Accounts made by hand and a raw server that records bytes and misbehaves on demand.

use std::{
    collections::BTreeMap,
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, uri::PathAndQuery};
use rollcall::{
    connector::{
        Auth, Connector, ErrorRule, Level, Limits, LinkMethod, List, ListSource, PageStyle, Proxy, Request, ResourceDef,
        Template, Transport,
    },
    mapping::{Path, Table},
    model::{AccountId, EnvironmentId, Resource, Secret, integration_id},
    upstream::{Access, Allow, Guard, Upstream, links::Place},
};
use url::Url;

pub use crate::support::stores::NoStore;

/// What the tests plant as a credential.
pub const CANARY: &str = "canary-5e9f2c71d0b84a36";

/// A request of the transparent client.
pub fn http_request<B>(method: Method, target: PathAndQuery, headers: HeaderMap, body: B) -> http::Request<B> {
    let mut request = http::Request::new(body);
    *request.method_mut() = method;
    *request.uri_mut() = Uri::from(target);
    *request.headers_mut() = headers;
    request
}

/// An account with a bearer token at this base.
pub fn access(base: &str) -> Access {
    let mut authorization = HeaderValue::from_str(&format!("Bearer {CANARY}")).unwrap();
    authorization.set_sensitive(true);
    let base = Url::parse(base).unwrap();
    Access {
        account: AccountId::generate(),
        environment: EnvironmentId::generate(),
        connector: Arc::new(connector()),
        method: Arc::new(method()),
        generation: 1,
        hosts: vec![base.clone()],
        base,
        headers: vec![(http::header::AUTHORIZATION, authorization)],
        query: Vec::new(),
        fields: BTreeMap::new(),
        trust: None,
        secrets: BTreeMap::from([("token".to_owned(), Secret::new(CANARY.to_owned()))]),
        facts: serde_json::Map::new(),
        load: Default::default(),
        token_urls: None,
        renewal: None,
    }
}

/// Where an account's passthrough stands, without a public address, and what of the base was asked.
pub fn place<'p>(access: &'p Arc<Access>, path: &'p str) -> Place<'p> {
    Place { origin: None, access, path }
}

/// The same with a header of the vendor's own.
pub fn with_header(mut access: Access, name: &'static str) -> Access {
    let mut value = HeaderValue::from_static(CANARY);
    value.set_sensitive(true);
    access.headers = vec![(HeaderName::from_static(name), value)];
    access
}

/// The same with a query parameter.
pub fn with_query(mut access: Access, name: &str) -> Access {
    access.headers.clear();
    access.query = vec![(name.to_owned(), Secret::new(CANARY.to_owned()))];
    access
}

/// Changes the link method before it is used.
pub fn change(mut access: Access, change: impl FnOnce(&mut LinkMethod)) -> Access {
    let mut method = method();
    change(&mut method);
    access.method = Arc::new(method);
    access
}

fn connector() -> Connector {
    let file = serde_json::json!({
        "connector": "sample", "format": 1, "title": "Sample", "category": "test", "level": "draft", "link": []
    });
    let slug = "sample".parse().unwrap();
    Connector {
        id: integration_id(&slug),
        slug,
        file: serde_json::from_value(file).unwrap(),
        methods: Vec::new(),
        guide: String::new(),
        icon: None,
    }
}

fn method() -> LinkMethod {
    LinkMethod {
        name: "bearer".to_owned(),
        title: "Bearer".to_owned(),
        description: None,
        level: Level::Draft,
        transport: Transport::Rest,
        fields: Vec::new(),
        one_of: Vec::new(),
        hosts: BTreeMap::new(),
        base: Vec::new(),
        headers: Vec::new(),
        auth: Auth::None,
        token: None,
        limits: Limits {
            concurrency: 8,
            timeout: Duration::from_secs(5),
            max_body: 16 << 20,
            retry_on: vec![502, 503, 504],
            retry_wait: Vec::new(),
            tries: 3,
            rate: Default::default(),
        },
        errors: Vec::<ErrorRule>::new(),
        proxy: Proxy {
            methods: None,
            allow: None,
            deny: Vec::new(),
            words: None,
            encoded_slashes: false,
            links: Vec::new(),
            downloads: Vec::new(),
            exclusive: false,
        },
        test: None,
        resources: BTreeMap::new(),
    }
}

/// A declared request.
pub fn request(path: &str) -> Request {
    Request { method: http::Method::GET, path: Template::parse(path).unwrap(), query: Vec::new() }
}

/// A resource that is listed at `/users`.
pub fn users(records: &str, page: PageStyle) -> ResourceDef {
    ResourceDef {
        resource: Resource::User,
        proxy_name: "users".to_owned(),
        per: None,
        none: None,
        needs: None,
        list: Some(List {
            source: ListSource::Request(request("/users")),
            records: Path::parse(records).unwrap(),
            page,
            report: None,
            not_if_empty: false,
            absent_is_empty: false,
        }),
        get: None,
        filters: BTreeMap::new(),
        partial: false,
        writes: None,
        methods: Default::default(),
        table: Arc::new(table()),
        map: BTreeMap::new(),
        optional: Vec::new(),
        taken: Default::default(),
        overridden: false,
    }
}

fn table() -> Table {
    let map = BTreeMap::from([("id".to_owned(), rollcall::mapping::RuleFile::Path("id".to_owned()))]);
    Table::compile(&map, Resource::GroupMember.shape()).or_else(|_| Table::compile(&map, Resource::Role.shape())).unwrap()
}

/// A guard that lets loopback through at this port only.
pub fn guard_for(base: &str) -> Arc<Guard> {
    let url = Url::parse(base).unwrap();
    let allow = format!("{}:{}", url.host_str().unwrap(), url.port_or_known_default().unwrap());
    Arc::new(Guard::new(Allow::parse(&allow).unwrap()))
}

/// The unified client in front of one server.
pub fn upstream_for(base: &str) -> Upstream {
    Upstream::new(guard_for(base), Arc::new(NoStore))
}

/// Resident memory of this process in bytes.
pub fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}

/// Runs a test that measures this process's memory in a process of its own; false in the outer one, which only waits.
pub fn is_alone(test: &str) -> bool {
    if std::env::var_os("ROLLCALL_TEST_ALONE").is_some() {
        return true;
    }
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    let outcome = command.args(["--exact", test, "--test-threads", "1"]).env("ROLLCALL_TEST_ALONE", "1").output().unwrap();
    let said = String::from_utf8_lossy(&outcome.stdout);
    assert!(outcome.status.success() && said.contains("1 passed"), "{said}{}", String::from_utf8_lossy(&outcome.stderr));
    false
}

// ---------------------------------------------------------------------------------------------------------------- server

/// One request as it came over the wire.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Request line and headers, as sent.
    pub head: String,
    /// The body, unchunked.
    pub body: Vec<u8>,
    /// Which connection, from 0.
    pub connection: usize,
}

impl Seen {
    /// Method.
    pub fn method(&self) -> &str {
        self.head.split(' ').next().unwrap()
    }

    /// Request target.
    pub fn target(&self) -> &str {
        self.head.split(' ').nth(1).unwrap()
    }

    /// Every value of a header.
    pub fn values(&self, name: &str) -> Vec<String> {
        let lines = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        lines.filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.trim().to_owned()).collect()
    }

    /// A query parameter, undecoded.
    pub fn parameter(&self, name: &str) -> Option<String> {
        let (_, query) = self.target().split_once('?')?;
        query.split('&').filter_map(|pair| pair.split_once('=')).find(|(n, _)| *n == name).map(|(_, v)| v.to_owned())
    }
}

/// What the server does after a request.
pub enum Act {
    /// Writes bytes.
    Write(Vec<u8>),
    /// Waits.
    Pause(Duration),
    /// Writes this many bytes of body in large pieces.
    Fill(usize),
    /// Closes the connection.
    Close,
}

/// A whole answer with a length.
pub fn answer(status: u16, headers: &[(&str, &str)], body: &[u8]) -> Vec<Act> {
    let mut text = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n", body.len());
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("\r\n");
    let mut bytes = text.into_bytes();
    bytes.extend_from_slice(body);
    vec![Act::Write(bytes)]
}

/// A JSON answer.
pub fn json(value: serde_json::Value) -> Vec<Act> {
    answer(200, &[("content-type", "application/json")], value.to_string().as_bytes())
}

type Script = dyn Fn(&Seen, usize) -> Vec<Act> + Send + Sync;

/// A server on a free port, one thread per connection.
pub struct Server {
    /// `http://127.0.0.1:port`.
    pub base: String,
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    accepted: Arc<AtomicUsize>,
    closed: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
}

impl Server {
    /// `script` gets each request and its number, from 0.
    pub fn start(script: impl Fn(&Seen, usize) -> Vec<Act> + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = Server {
            base: format!("http://{address}"),
            address,
            seen: Arc::default(),
            accepted: Arc::default(),
            closed: Arc::default(),
            stop: Arc::default(),
        };
        let (seen, accepted, closed, stop) =
            (server.seen.clone(), server.accepted.clone(), server.closed.clone(), server.stop.clone());
        let script: Arc<Script> = Arc::new(script);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stop.load(Ordering::SeqCst) {
                    break;
                }
                let Ok(stream) = stream else { continue };
                let connection = accepted.fetch_add(1, Ordering::SeqCst);
                let (seen, script, closed) = (seen.clone(), script.clone(), closed.clone());
                std::thread::spawn(move || {
                    let _ = serve(stream, connection, &seen, &*script);
                    closed.fetch_add(1, Ordering::SeqCst);
                });
            }
        });
        server
    }

    /// Requests so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// Connections so far.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    /// Connections that ended.
    pub fn closed(&self) -> usize {
        self.closed.load(Ordering::SeqCst)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
    }
}

fn serve(stream: TcpStream, connection: usize, seen: &Mutex<Vec<Seen>>, script: &Script) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    while let Some(request) = read_request(&mut reader, connection)? {
        let number = {
            let mut seen = seen.lock().unwrap();
            seen.push(request.clone());
            seen.len() - 1
        };
        for act in script(&request, number) {
            match act {
                Act::Write(bytes) => writer.write_all(&bytes)?,
                Act::Pause(pause) => std::thread::sleep(pause),
                Act::Fill(size) => {
                    let piece = vec![b'x'; 256 * 1024];
                    let mut left = size;
                    while left > 0 {
                        let n = left.min(piece.len());
                        writer.write_all(&piece[..n])?;
                        left -= n;
                    }
                }
                Act::Close => {
                    writer.shutdown(std::net::Shutdown::Both)?;
                    return Ok(());
                }
            }
        }
    }
    Ok(())
}

fn read_request(reader: &mut BufReader<TcpStream>, connection: usize) -> io::Result<Option<Seen>> {
    let mut head = String::new();
    loop {
        let before = head.len();
        if reader.read_line(&mut head)? == 0 {
            return Ok(None);
        }
        if head[before..].trim_end().is_empty() {
            break;
        }
    }
    let mut seen = Seen { head, body: Vec::new(), connection };
    if seen.values("transfer-encoding").iter().any(|v| v.contains("chunked")) {
        read_chunks(reader, &mut seen.body)?;
    } else if let Some(length) = seen.values("content-length").first() {
        seen.body = vec![0; length.parse().unwrap()];
        reader.read_exact(&mut seen.body)?;
    }
    Ok(Some(seen))
}

fn read_chunks(reader: &mut BufReader<TcpStream>, body: &mut Vec<u8>) -> io::Result<()> {
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let size = usize::from_str_radix(line.trim(), 16).unwrap_or(0);
        if size == 0 {
            while line.trim_end() != "" {
                line.clear();
                if reader.read_line(&mut line)? == 0 {
                    break;
                }
            }
            return Ok(());
        }
        let start = body.len();
        body.resize(start + size, 0);
        reader.read_exact(&mut body[start..])?;
        line.clear();
        reader.read_line(&mut line)?;
    }
}

// ------------------------------------------------------------------------------------------------------- names and sockets
