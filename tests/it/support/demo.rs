//! `rollcall demo` as a process of its own: the gateway with its sandbox vendors.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Stdio},
    sync::{Arc, Mutex, mpsc::channel},
    thread,
    time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;

use super::gateway::command;

/// A running demo; killed when dropped.
pub struct Demo {
    /// What its one line says: base address, token, accounts.
    pub ready: Value,
    child: Child,
    said: Arc<Mutex<Vec<String>>>,
    _folder: TempDir,
}

impl Demo {
    /// Starts it on a free port, with a folder of its own.
    pub fn start() -> Demo {
        let folder = tempfile::tempdir().unwrap();
        let mut command = command(&["demo", "--json", "--port", "0"]);
        command.env("TMPDIR", folder.path()).current_dir(folder.path()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (out, err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let said = Arc::new(Mutex::new(Vec::new()));
        let lines = said.clone();
        thread::spawn(move || BufReader::new(err).lines().map_while(Result::ok).for_each(|l| lines.lock().unwrap().push(l)));
        let (send, ready) = channel();
        thread::spawn(move || BufReader::new(out).lines().map_while(Result::ok).try_for_each(|line| send.send(line)));
        let line = ready.recv_timeout(Duration::from_secs(90)).expect("the demo says something in time");
        Demo { ready: serde_json::from_str(&line).unwrap(), child, said, _folder: folder }
    }

    /// Its base address.
    pub fn base(&self) -> &str {
        self.ready["base_url"].as_str().unwrap()
    }

    /// Its administrator's token.
    pub fn token(&self) -> &str {
        self.ready["token"].as_str().unwrap()
    }

    /// Its account at this connector.
    pub fn account(&self, integration: &str) -> &str {
        let accounts = self.ready["accounts"].as_array().unwrap();
        accounts.iter().find(|account| account["integration"] == integration).unwrap()["id"].as_str().unwrap()
    }

    /// Everything it wrote to the standard error.
    pub fn said(&self) -> String {
        self.said.lock().unwrap().join("\n")
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
