//! An HTTP proxy on loopback that asks for a login, remembers whom it was asked for, and refuses on demand.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU8, Ordering},
    },
    thread,
};

/// How it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Manner {
    /// As it should.
    Open,
    /// 403 to everything.
    Refuse,
    /// Hangs up.
    HangUp,
    /// An answer that is not HTTP.
    Babble,
}

const MANNERS: [Manner; 4] = [Manner::Open, Manner::Refuse, Manner::HangUp, Manner::Babble];

/// Forwards until the process ends.
pub struct ConnectProxy {
    pub port: u16,
    manner: Arc<AtomicU8>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl ConnectProxy {
    /// Wants this `Proxy-Authorization`, or none.
    pub fn start(login: Option<&str>) -> ConnectProxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (manner, asked) = (Arc::new(AtomicU8::new(0)), Arc::new(Mutex::new(Vec::new())));
        let (now, log, login) = (manner.clone(), asked.clone(), login.map(str::to_owned));
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (manner, log, login) = (MANNERS[usize::from(now.load(Ordering::SeqCst))], log.clone(), login.clone());
                thread::spawn(move || serve(client, manner, &log, login.as_deref()));
            }
        });
        ConnectProxy { port, manner, asked }
    }

    pub fn set(&self, manner: Manner) {
        self.manner.store(manner as u8, Ordering::SeqCst);
    }

    /// The first lines of all requests so far.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn serve(mut client: TcpStream, manner: Manner, log: &Mutex<Vec<String>>, login: Option<&str>) -> Option<()> {
    let head = head(&mut client)?;
    let first = head.lines().next()?.to_owned();
    log.lock().unwrap().push(first.clone());
    let given =
        head.lines().filter_map(|line| line.split_once(": ")).find(|(n, _)| n.eq_ignore_ascii_case("proxy-authorization"));
    match manner {
        _ if given.map(|(_, value)| value) != login => return reply(&mut client, "407 Proxy Authentication Required"),
        Manner::Open => {}
        Manner::Refuse => return reply(&mut client, "403 Forbidden"),
        Manner::HangUp => return None,
        Manner::Babble => return client.write_all(b"SSH-2.0-none\r\n\r\n").ok(),
    }
    let mut words = first.split(' ');
    let (method, target) = (words.next()?, words.next()?);
    let server = match method {
        "CONNECT" => {
            let server = TcpStream::connect(target).ok()?;
            client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").ok()?;
            server
        }
        _ => {
            let (authority, path) = target.strip_prefix("http://")?.split_once('/')?;
            let mut server = TcpStream::connect(authority).ok()?;
            let kept = head.replacen(target, &format!("/{path}"), 1);
            let kept: String = kept.split_inclusive("\r\n").filter(|l| !l.to_ascii_lowercase().starts_with("proxy-")).collect();
            server.write_all(kept.as_bytes()).ok()?;
            server
        }
    };
    let (from, to) = (client.try_clone().ok()?, server.try_clone().ok()?);
    let other = thread::spawn(move || pump(from, to));
    pump(server, client);
    other.join().ok()
}

fn reply(client: &mut TcpStream, status: &str) -> Option<()> {
    client.write_all(format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").as_bytes()).ok()
}

/// One byte after the other, so that nothing behind the head is taken.
fn head(client: &mut TcpStream) -> Option<String> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") && head.len() < 64 * 1024 {
        client.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    String::from_utf8(head).ok()
}

fn pump(mut from: TcpStream, mut to: TcpStream) {
    let _ = std::io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
}
