//! The real binary as a process of its own, on either store, and a small client for it.

use std::{
    io::{BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use rustls::pki_types::{CertificateDer, pem::PemObject};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::redis::{Server, free_port};

/// The administrator's token of every gateway under test.
pub const ADMIN: &str = "administrator-of-the-end-to-end-tests-0123456789";

/// Where a gateway under test keeps everything.
pub enum Kept {
    /// In a folder that goes with the value.
    Embedded(TempDir),
    /// In a Redis of its own; the folder only holds the key ring.
    Redis(Server, TempDir),
}

impl Kept {
    /// A new embedded store.
    pub fn embedded() -> Kept {
        Kept::Embedded(tempfile::tempdir().unwrap())
    }

    /// A new Redis with its key ring, append-only so that nothing is lost.
    pub fn redis() -> Kept {
        let folder = tempfile::tempdir().unwrap();
        write_ring(&folder.path().join("keys.json"));
        Kept::Redis(Server::with(&["--appendonly", "yes", "--dir", "{dir}"]), folder)
    }

    /// One of each, for suites that run on both.
    pub fn each() -> Vec<Kept> {
        vec![Kept::embedded(), Kept::redis()]
    }

    /// The folder of the store or of the key ring.
    pub fn folder(&self) -> &Path {
        match self {
            Kept::Embedded(folder) | Kept::Redis(_, folder) => folder.path(),
        }
    }

    /// The settings that name it.
    pub fn settings(&self) -> Vec<(&'static str, String)> {
        match self {
            Kept::Embedded(folder) => vec![("ROLLCALL_STORE", format!("embedded:{}", folder.path().join("store").display()))],
            Kept::Redis(server, folder) => vec![
                ("ROLLCALL_STORE", format!("redis://127.0.0.1:{}", server.port)),
                ("ROLLCALL_KEYS_FILE", folder.path().join("keys.json").display().to_string()),
            ],
        }
    }
}

/// Writes a key ring with one random key, mode 0600.
pub fn write_ring(path: &Path) {
    let _ = std::fs::remove_file(path);
    rollcall::vault::KeyRing::create(path, "2026-01-01T00:00:00Z".parse().unwrap()).unwrap();
}

/// The binary under test.
pub fn binary() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_rollcall"))
}

/// The binary with an environment that holds nothing of ours, not even that this run was started by `nohup`.
pub fn command(args: &[&str]) -> Command {
    let mut command = Command::new("env");
    command.arg("--default-signal=HUP").arg(binary()).args(args).stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if name.starts_with("ROLLCALL_") || name == "PORT" {
            command.env_remove(name);
        }
    }
    command
}

/// A running gateway; killed when dropped.
pub struct Gateway {
    /// `http://127.0.0.1:<port>`, or the public address when that leads here.
    pub base: String,
    /// Its process id.
    pub pid: u32,
    child: Child,
    said: Arc<Mutex<Vec<String>>>,
    client: reqwest::Client,
}

impl Gateway {
    /// Serves on the store; `allow` is `ROLLCALL_EGRESS_ALLOW`.
    pub fn start(kept: &Kept, allow: &str) -> Gateway {
        Self::start_with(kept, allow, &[])
    }

    /// The same with more settings; an empty one takes a setting away, `{port}` in one is the port. Beside a certificate
    /// stands the `ca.crt` that vouches for it.
    pub fn start_with(kept: &Kept, allow: &str, settings: &[(&str, &str)]) -> Gateway {
        let mut command = command(&["serve"]);
        let port = free_port();
        command.envs(kept.settings()).env("ROLLCALL_LISTEN", format!("127.0.0.1:{port}"));
        command.env("ROLLCALL_ADMIN_TOKEN", ADMIN).env("ROLLCALL_EGRESS_ALLOW", allow);
        for (name, value) in settings {
            if value.is_empty() {
                command.env_remove(name)
            } else {
                command.env(name, value.replace("{port}", &port.to_string()))
            };
        }
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let said = Arc::new(Mutex::new(Vec::new()));
        let (lines, stderr) = (said.clone(), child.stderr.take().unwrap());
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                lines.lock().unwrap().push(line);
            }
        });
        let setting = |wanted: &str| settings.iter().find(|(name, _)| *name == wanted).map(|(_, value)| *value);
        let scheme = setting("ROLLCALL_TLS_CERT_FILE").map_or("http", |_| "https");
        let base = match setting("ROLLCALL_PUBLIC_URL").filter(|public| public.contains("{port}")) {
            Some(public) => public.replace("{port}", &port.to_string()),
            None => format!("{scheme}://127.0.0.1:{port}"),
        };
        let client = match setting("ROLLCALL_TLS_CERT_FILE") {
            Some(certificate) => client_trusting(&Path::new(certificate).with_file_name("ca.crt")),
            None => client(),
        };
        let mut gateway = Gateway { pid: child.id(), base, child, said, client };
        gateway.wait_until_it_listens(port);
        gateway
    }

    /// The process's resident memory, bytes.
    pub fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }

    fn wait_until_it_listens(&mut self, port: u16) {
        let end = Instant::now() + Duration::from_secs(30);
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none() && Instant::now() < end, "the gateway did not come up ({ended:?}):\n{}", self.said());
            thread::sleep(Duration::from_millis(20));
        }
        // It listens a moment before it answers: store, key ring and connectors are opened in between. One that ends meanwhile,
        // or waits for its store, says so itself.
        while self.base.starts_with("http://") && !answers(port) && Instant::now() < end {
            if self.child.try_wait().unwrap().is_some() || self.said().contains("waiting for it") {
                break;
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Everything it wrote to the standard error.
    pub fn said(&self) -> String {
        self.said.lock().unwrap().join("\n")
    }

    /// A call with the administrator's token.
    pub async fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        self.call_as(Some(ADMIN), method, path, body).await
    }

    /// `GET` with the administrator's token.
    pub async fn get(&self, path: &str) -> Answer {
        self.call("GET", path, None).await
    }

    /// The users of an account.
    pub async fn users(&self, account: &str) -> Answer {
        self.get(&format!("/unified/user-directory/users?integrated_account_id={account}")).await
    }

    /// A call with any token, or none.
    pub async fn call_as(&self, token: Option<&str>, method: &str, path: &str, body: Option<&Value>) -> Answer {
        Answer::read(self.request(token, method, path, body).send().await.unwrap()).await
    }

    /// A call with more headers.
    pub async fn call_with(
        &self,
        token: &str,
        headers: &[(&str, &str)],
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Answer {
        self.try_call_with(token, headers, method, path, body).await.unwrap()
    }

    /// The same; nothing when the connection ends before the whole answer is there.
    pub async fn try_call_with(
        &self,
        token: &str,
        headers: &[(&str, &str)],
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Option<Answer> {
        let mut request = self.request(Some(token), method, path, body);
        for (name, value) in headers {
            request = request.header(*name, reqwest::header::HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        let response = request.send().await.ok()?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Some(Answer { status, headers, body: response.bytes().await.ok()?.to_vec() })
    }

    fn request(&self, token: Option<&str>, method: &str, path: &str, body: Option<&Value>) -> reqwest::RequestBuilder {
        let mut request = self.client.request(method.parse().unwrap(), format!("{}{path}", self.base));
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        match body {
            Some(body) => request.header("content-type", "application/json").body(body.to_string()),
            None => request,
        }
    }

    /// Ends it as a crash does.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Links an account and gives its id; anything but 201 fails the test.
    pub async fn link(&self, integration: &str, method: &str, context: Value) -> String {
        let body = json!({"tenant_id": "acme", "integration": integration, "authentication_method": method, "context": context});
        let answer = self.call("POST", "/integrated-account", Some(&body)).await;
        assert_eq!(answer.status, 201, "{}", answer.text());
        answer.json()["id"].as_str().unwrap().to_owned()
    }

    /// A token with these scopes.
    pub async fn token(&self, scopes: &[&str]) -> String {
        let answer = self.call("POST", "/api-token", Some(&json!({"name": "test", "scopes": scopes}))).await;
        assert_eq!(answer.status, 201, "{}", answer.text());
        answer.json()["token"].as_str().unwrap().to_owned()
    }

    /// Every record of a list, page by page; also checks that no page is empty with a cursor.
    pub async fn walk(&self, path: &str) -> Vec<Value> {
        let (mut all, mut cursor) = (Vec::new(), String::new());
        for _ in 0..10_000 {
            let join = if path.contains('?') { '&' } else { '?' };
            let answer = self.get(&format!("{path}{join}next_cursor={cursor}")).await;
            assert_eq!(answer.status, 200, "{}", answer.text());
            let page = answer.json();
            let records = page["result"].as_array().unwrap();
            all.extend(records.iter().cloned());
            match page["next_cursor"].as_str() {
                Some(next) => {
                    assert!(!records.is_empty(), "an empty page with a cursor");
                    next.clone_into(&mut cursor);
                }
                None => return all,
            }
        }
        panic!("the walk of {path} does not end");
    }

    /// Asks it to end and waits; whether it ended well.
    pub fn stop(mut self) -> bool {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), rustix::process::Signal::TERM).unwrap();
        let end = Instant::now() + Duration::from_secs(35);
        while Instant::now() < end {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.success();
            }
            thread::sleep(Duration::from_millis(20));
        }
        false
    }
}

/// Whether it answers within two seconds.
fn answers(port: u16) -> bool {
    let asked = std::net::TcpStream::connect(("127.0.0.1", port)).and_then(|mut stream| {
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n")?;
        stream.read(&mut [0])
    });
    asked.is_ok_and(|read| read > 0)
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What came back.
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: reqwest::header::HeaderMap,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// Of a request that was made by other means.
    pub async fn read(response: reqwest::Response) -> Answer {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Answer { status, headers, body: response.bytes().await.unwrap().to_vec() }
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|why| panic!("{why}: {}", self.text()))
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The problem's code.
    pub fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }

    /// A header as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// The same for https, with one authority.
pub fn client_trusting(ca: &Path) -> reqwest::Client {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(roots).with_no_client_auth();
    let client = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none());
    client.tls_backend_preconfigured(config).pool_max_idle_per_host(0).build().unwrap()
}

/// A plain client for loopback: no redirects, no proxy.
pub fn client() -> reqwest::Client {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap()
}
