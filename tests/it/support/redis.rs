//! Real Redis servers on free loopback ports, in temporary folders, ended with the value that started them.

use std::{
    ffi::{OsStr, OsString},
    fs,
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rollcall::store::redis::RedisUrl;
use tempfile::TempDir;

/// A port nobody listens on at the moment.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// One running server.
pub struct Server {
    pub port: u16,
    folder: TempDir,
    binary: OsString,
    args: Vec<String>,
    child: Child,
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
        let mut server = Self { port, folder, binary, args, child };
        server.wait();
        server
    }

    pub fn url(&self) -> RedisUrl {
        RedisUrl::parse(&format!("redis://127.0.0.1:{}", self.port)).unwrap()
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

    /// Starts it again on the same port and folder.
    pub fn restart(&mut self) {
        self.child = spawn(&self.binary, &self.args, self.port, self.folder.path());
        self.wait();
    }

    /// A plain connection beside the store, for setting things up.
    pub fn connection(&self) -> redis::Connection {
        redis::Client::open(format!("redis://127.0.0.1:{}", self.port)).unwrap().get_connection().unwrap()
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
        let primary = Server::start();
        let follow = primary.port.to_string();
        let replica = Server::with(&["--save", "", "--repl-diskless-sync-delay", "0", "--replicaof", "127.0.0.1", &follow]);
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
        let sentinel = Server::with(&[conf.to_str().unwrap(), "--sentinel"]);
        until("the Sentinel knows the replica", 15, || {
            let known: redis::RedisResult<Vec<redis::Value>> =
                redis::cmd("SENTINEL").arg("replicas").arg("mymaster").query(&mut sentinel.connection());
            known.is_ok_and(|replicas| !replicas.is_empty())
        });
        drop(folder);
        Self { primary, replica, sentinel }
    }

    pub fn url(&self) -> RedisUrl {
        RedisUrl::parse(&format!("redis+sentinel://127.0.0.1:{}/mymaster", self.sentinel.port)).unwrap()
    }
}

/// Three primaries that share the slots.
pub struct Cluster {
    pub nodes: Vec<Server>,
}

impl Cluster {
    pub fn start() -> Self {
        let started: Vec<(Server, u16)> = (0..3)
            .map(|_| {
                let bus = free_port();
                let text = bus.to_string();
                let args = ["--save", "", "--cluster-enabled", "yes", "--cluster-port", &text, "--cluster-node-timeout", "2000"];
                (Server::with(&args), bus)
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
        let hosts: Vec<_> = self.nodes.iter().map(|node| format!("127.0.0.1:{}", node.port)).collect();
        RedisUrl::parse(&format!("redis+cluster://{}", hosts.join(","))).unwrap()
    }
}

/// A certificate authority and a certificate for 127.0.0.1, made by the openssl tool.
pub struct Certificates {
    pub folder: TempDir,
}

impl Certificates {
    pub fn make() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("ext"), "subjectAltName=IP:127.0.0.1,DNS:localhost\n").unwrap();
        let steps = [
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=test-ca -keyout ca.key -out ca.crt",
            "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=localhost -keyout server.key -out server.csr",
            "x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile ext -out server.crt",
        ];
        for step in steps {
            let made =
                Command::new("openssl").args(step.split(' ')).current_dir(folder.path()).output().expect("openssl is needed");
            assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        }
        Self { folder }
    }

    pub fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.crt")
    }

    /// A server that speaks TLS only.
    pub fn server(&self) -> Server {
        let file = |name: &str| self.folder.path().join(name).to_str().unwrap().to_owned();
        let (cert, key, ca) = (file("server.crt"), file("server.key"), file("ca.crt"));
        Server::with(&[
            "--port",
            "0",
            "--tls-port",
            "{port}",
            "--save",
            "",
            "--tls-cert-file",
            &cert,
            "--tls-key-file",
            &key,
            "--tls-ca-cert-file",
            &ca,
            "--tls-auth-clients",
            "no",
        ])
    }
}
