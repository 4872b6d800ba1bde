//! Real Redis servers on free loopback ports, in temporary folders, ended with the value that started them.

use std::{
    ffi::{OsStr, OsString},
    fs,
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use rollcall::store::redis::RedisUrl;
use tempfile::TempDir;

/// A port nobody listens on, and nobody else is given: not by this process, nor by the system to whoever asks it for any.
pub fn free_port() -> u16 {
    // Below the ports that Linux gives away.
    const PORTS: std::ops::Range<u16> = 10_000..32_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let among = u32::from(PORTS.end - PORTS.start);
    // Another process of tests begins elsewhere.
    let first = std::process::id().wrapping_mul(997);
    loop {
        let number = first.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % among;
        let port = PORTS.start + u16::try_from(number).unwrap();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// One running server.
pub struct Server {
    pub port: u16,
    folder: TempDir,
    binary: OsString,
    args: Vec<String>,
    child: Child,
    /// The authority of its certificate, if it speaks TLS.
    ca: Option<PathBuf>,
}

impl Server {
    /// A server without persistence.
    pub fn start() -> Self {
        Self::with(&["--save", "", "--appendonly", "no"])
    }

    /// A server with more arguments; `{dir}` in them is its folder.
    pub fn with(args: &[&str]) -> Self {
        Self::launch(args, free_port())
    }

    fn launch(args: &[&str], port: u16) -> Self {
        let binary = std::env::var_os("REDIS_SERVER").unwrap_or_else(|| "redis-server".into());
        Self::of(binary, args, port)
    }

    /// Another server of the same family, for example Valkey.
    pub fn of(binary: OsString, args: &[&str], port: u16) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().to_str().unwrap().to_owned();
        let args: Vec<String> = args.iter().map(|arg| arg.replace("{dir}", &dir)).collect();
        let child = spawn(&binary, &args, port, folder.path());
        let ca = args.iter().position(|arg| arg == "--tls-ca-cert-file").map(|at| args[at + 1].clone().into());
        let mut server = Self { port, folder, binary, args, child, ca };
        server.wait();
        server
    }

    pub fn url(&self) -> RedisUrl {
        RedisUrl::parse(&format!("{}://127.0.0.1:{}", self.scheme(), self.port)).unwrap()
    }

    fn scheme(&self) -> &'static str {
        if self.ca.is_some() { "rediss" } else { "redis" }
    }

    /// Where it keeps its files.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Kills the process, as a crash would.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Stops it in the middle: connections stay, nothing answers.
    pub fn pause(&self) {
        self.signal(rustix::process::Signal::STOP);
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.signal(rustix::process::Signal::CONT);
    }

    fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), signal).unwrap();
    }

    /// Starts it again on the same port and folder.
    pub fn restart(&mut self) {
        self.child = spawn(&self.binary, &self.args, self.port, self.folder.path());
        self.wait();
    }

    /// A plain connection beside the store, for setting things up.
    pub fn connection(&self) -> redis::Connection {
        let url = format!("{}://127.0.0.1:{}", self.scheme(), self.port);
        let client = match &self.ca {
            Some(ca) => {
                let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
                let root_cert = Some(fs::read(ca).unwrap());
                redis::Client::build_with_tls(url, redis::TlsCertificates { client_tls: None, root_cert })
            }
            None => redis::Client::open(url),
        };
        client.unwrap().get_connection().unwrap()
    }

    fn wait(&mut self) {
        let end = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none() && Instant::now() < end, "redis-server on port {} did not come up ({ended:?})", self.port);
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(binary: &OsStr, args: &[String], port: u16, folder: &Path) -> Child {
    let mut command = Command::new(binary);
    let tls = args.iter().any(|arg| arg == "--tls-port");
    let conf = args.first().filter(|arg| !arg.starts_with("--"));
    if let Some(conf) = conf {
        command.arg(conf);
    }
    if !tls {
        command.arg("--port").arg(port.to_string());
    }
    command.args(["--bind", "127.0.0.1", "--loglevel", "warning", "--dir"]).arg(folder);
    let rest = if conf.is_some() { &args[1..] } else { args };
    for arg in rest {
        command.arg(arg.replace("{port}", &port.to_string()));
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("redis-server is needed: `apt-get install redis-server`")
}

/// A Valkey, which `tests/run` fetches.
pub fn valkey(args: &[&str]) -> Server {
    let server = Path::new(env!("CARGO_MANIFEST_DIR")).join(".peers/bin/valkey-server");
    assert!(server.is_file(), "there is no {}: run ./tests/run once, it installs the peers", server.display());
    Server::of(server.into_os_string(), args, free_port())
}

/// Waits until a condition holds.
pub fn until(what: &str, seconds: u64, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(seconds);
    while !holds() {
        assert!(Instant::now() < end, "not within {seconds} s: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// One primary, one replica, one Sentinel.
pub struct SentinelSet {
    pub primary: Server,
    pub replica: Server,
    pub sentinel: Server,
}

impl SentinelSet {
    pub fn start() -> Self {
        Self::with(&[])
    }

    /// All three with more arguments.
    pub fn with(more: &[&str]) -> Self {
        let primary = Server::with(&[&["--save", ""], more].concat());
        let follow = primary.port.to_string();
        let following = ["--save", "", "--repl-diskless-sync-delay", "0", "--replicaof", "127.0.0.1", &follow];
        let replica = Server::with(&[&following, more].concat());
        until("the replica follows", 10, || {
            let info: String = redis::cmd("INFO").arg("replication").query(&mut replica.connection()).unwrap();
            info.contains("master_link_status:up")
        });
        let folder = tempfile::tempdir().unwrap();
        let conf = folder.path().join("sentinel.conf");
        let text = format!(
            "sentinel monitor mymaster 127.0.0.1 {follow} 1\nsentinel down-after-milliseconds mymaster 500\n\
             sentinel failover-timeout mymaster 3000\n"
        );
        fs::write(&conf, text).unwrap();
        let sentinel = Server::with(&[&[conf.to_str().unwrap(), "--sentinel"], more].concat());
        until("the Sentinel knows the replica", 15, || {
            let known: redis::RedisResult<Vec<redis::Value>> =
                redis::cmd("SENTINEL").arg("replicas").arg("mymaster").query(&mut sentinel.connection());
            known.is_ok_and(|replicas| !replicas.is_empty())
        });
        drop(folder);
        Self { primary, replica, sentinel }
    }

    pub fn url(&self) -> RedisUrl {
        RedisUrl::parse(&self.address()).unwrap()
    }

    /// The same as text.
    pub fn address(&self) -> String {
        format!("{}+sentinel://127.0.0.1:{}/mymaster", self.sentinel.scheme(), self.sentinel.port)
    }
}

/// Three primaries that share the slots.
pub struct Cluster {
    pub nodes: Vec<Server>,
}

impl Cluster {
    pub fn start() -> Self {
        Self::with(&[])
    }

    /// All three with more arguments.
    pub fn with(more: &[&str]) -> Self {
        let started: Vec<(Server, u16)> = (0..3)
            .map(|_| {
                let bus = free_port();
                let text = bus.to_string();
                let args = ["--save", "", "--cluster-enabled", "yes", "--cluster-port", &text, "--cluster-node-timeout", "2000"];
                (Server::with(&[&args, more].concat()), bus)
            })
            .collect();
        for (number, (node, _)) in started.iter().enumerate() {
            let mut connection = node.connection();
            let (first, last) = [(0, 5460), (5461, 10922), (10923, 16383)][number];
            let _: () = redis::cmd("CLUSTER").arg("ADDSLOTSRANGE").arg(first).arg(last).query(&mut connection).unwrap();
            let _: () = redis::cmd("CLUSTER").arg("SET-CONFIG-EPOCH").arg(number + 1).query(&mut connection).unwrap();
            let (seed, bus) = (&started[0].0, started[0].1);
            if number > 0 {
                let mut meet = redis::cmd("CLUSTER");
                let _: () = meet.arg("MEET").arg("127.0.0.1").arg(seed.port).arg(bus).query(&mut connection).unwrap();
            }
        }
        for (node, _) in &started {
            until("the cluster is whole", 20, || {
                let info: String = redis::cmd("CLUSTER").arg("INFO").query(&mut node.connection()).unwrap();
                info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:3")
            });
        }
        Self { nodes: started.into_iter().map(|(node, _)| node).collect() }
    }

    pub fn url(&self) -> RedisUrl {
        RedisUrl::parse(&self.address()).unwrap()
    }

    /// The same as text.
    pub fn address(&self) -> String {
        let hosts: Vec<_> = self.nodes.iter().map(|node| format!("127.0.0.1:{}", node.port)).collect();
        format!("{}+cluster://{}", self.nodes[0].scheme(), hosts.join(","))
    }
}

/// A certificate authority and a certificate for 127.0.0.1, made by the openssl tool.
pub struct Certificates {
    folder: TempDir,
    args: Vec<String>,
}

impl Certificates {
    pub fn make() -> Self {
        Self::of("IP:127.0.0.1,DNS:localhost")
    }

    /// For other names than those of this machine.
    pub fn of(names: &str) -> Self {
        Self::by(
            names,
            &[
                "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=test-ca -keyout ca.key -out ca.crt",
                "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=localhost -keyout server.key -out server.csr",
                "x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile ext -out server.crt",
            ],
        )
    }

    /// One that signed itself, as `openssl req -x509` makes it for a server of one's own; it is its own authority.
    pub fn self_signed(names: &str) -> Self {
        let subject = format!("-subj /CN=own -addext subjectAltName={names}");
        let made = format!(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 {subject} -keyout server.key -out ca.crt"
        );
        Self::by(names, &[&made, "x509 -in ca.crt -out server.crt"])
    }

    /// One of the authority that ended years ago; or, for an authority that did, one that holds.
    pub fn expired(server: bool) -> Self {
        const LONG_AGO: &str = "-startdate 200101000000Z -enddate 200102000000Z";
        let (authority, leaf) = if server { ("-days 2", LONG_AGO) } else { (LONG_AGO, "-days 2") };
        let request = "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
        let signs = "ca -batch -notext -config ca.cnf";
        Self::by(
            "IP:127.0.0.1,DNS:localhost",
            &[
                &format!("{request} -subj /CN=test-ca -keyout ca.key -out ca.csr"),
                &format!("{signs} -selfsign -keyfile ca.key -in ca.csr -extensions authority {authority} -out ca.crt"),
                &format!("{request} -subj /CN=localhost -keyout server.key -out server.csr"),
                &format!("{signs} -cert ca.crt -keyfile ca.key -in server.csr -extfile ext {leaf} -out server.crt"),
            ],
        )
    }

    fn by(names: &str, steps: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        write("ext", &format!("subjectAltName={names}\n"));
        write("index.txt", "");
        write("serial", "01\n");
        write(
            "ca.cnf",
            "[ca]\ndefault_ca=d\n[d]\nnew_certs_dir=.\ndatabase=index.txt\nserial=serial\ndefault_md=sha256\npolicy=p\n\
             [p]\ncommonName=supplied\n[authority]\nbasicConstraints=critical,CA:TRUE\n",
        );
        for step in steps {
            let made =
                Command::new("openssl").args(step.split(' ')).current_dir(folder.path()).output().expect("openssl is needed");
            assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        }
        Self { args: tls_args(folder.path()), folder }
    }

    pub fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.crt")
    }

    /// The authority as a customer pastes it.
    pub fn ca_pem(&self) -> String {
        fs::read_to_string(self.ca()).unwrap()
    }

    /// The server's fingerprint as `openssl` prints it.
    pub fn fingerprint(&self) -> String {
        let args = ["x509", "-noout", "-fingerprint", "-sha256", "-in", "server.crt"];
        let printed = Command::new("openssl").args(args).current_dir(self.folder.path()).output().unwrap();
        String::from_utf8(printed.stdout).unwrap()
    }

    /// The server's certificate and its key, PEM.
    pub fn pair(&self) -> [PathBuf; 2] {
        ["server.crt", "server.key"].map(|name| self.folder.path().join(name))
    }

    /// Arguments of servers that speak TLS only, with their clients and with each other.
    pub fn args(&self) -> Vec<&str> {
        self.args.iter().map(String::as_str).collect()
    }
}

fn tls_args(folder: &Path) -> Vec<String> {
    let file = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let fixed = "--port 0 --tls-port {port} --tls-auth-clients no --tls-replication yes --tls-cluster yes";
    let mut args: Vec<String> = fixed.split(' ').map(str::to_owned).collect();
    for (option, name) in [("cert", "server.crt"), ("key", "server.key"), ("ca-cert", "ca.crt")] {
        args.extend([format!("--tls-{option}-file"), file(name)]);
    }
    args
}
