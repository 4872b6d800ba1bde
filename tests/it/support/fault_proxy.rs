//! A TCP proxy on loopback that can cut, stall or swallow what passes.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    thread,
    time::Duration,
};

/// What happens to bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Fault {
    /// They pass.
    None = 0,
    /// They wait, new connections too; nothing is lost.
    Stall = 1,
    /// Connections are closed, new ones at once.
    Cut = 2,
    /// Requests pass, answers are thrown away, and whatever comes after them on that connection: a stream has no holes.
    Swallow = 3,
    /// The proxy is over.
    End = 4,
    /// Requests that say `CONFIG` are thrown away, and whatever comes after them on that connection.
    LoseConfig = 5,
}

/// Forwards to one server until dropped.
pub struct FaultProxy {
    pub port: u16,
    fault: Arc<AtomicU8>,
}

const STEP: Duration = Duration::from_millis(5);

impl FaultProxy {
    pub fn before(target: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let fault = Arc::new(AtomicU8::new(0));
        let shared = fault.clone();
        thread::spawn(move || accept(&listener, target, &shared));
        Self { port, fault }
    }

    pub fn set(&self, fault: Fault) {
        self.fault.store(fault as u8, Ordering::SeqCst);
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.set(Fault::End);
    }
}

fn now(fault: &AtomicU8) -> Fault {
    match fault.load(Ordering::SeqCst) {
        1 => Fault::Stall,
        2 => Fault::Cut,
        3 => Fault::Swallow,
        4 => Fault::End,
        5 => Fault::LoseConfig,
        _ => Fault::None,
    }
}

fn accept(listener: &TcpListener, target: u16, fault: &Arc<AtomicU8>) {
    loop {
        match (now(fault), listener.accept()) {
            (Fault::End, _) => return,
            (Fault::Cut, Ok(_)) => {}
            (_, Ok((client, _))) => {
                let Ok(server) = TcpStream::connect(("127.0.0.1", target)) else { continue };
                for stream in [&client, &server] {
                    stream.set_nonblocking(false).unwrap();
                    stream.set_nodelay(true).unwrap();
                    stream.set_read_timeout(Some(STEP)).unwrap();
                }
                let (client_too, server_too) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                let (one, two) = (fault.clone(), fault.clone());
                thread::spawn(move || pump(client, server, &one, false));
                thread::spawn(move || pump(server_too, client_too, &two, true));
            }
            (_, Err(_)) => thread::sleep(STEP),
        }
    }
}

fn pump(mut from: TcpStream, mut to: TcpStream, fault: &AtomicU8, answers: bool) {
    let mut buffer = vec![0; 64 * 1024];
    let mut silent = false;
    loop {
        let mode = now(fault);
        if matches!(mode, Fault::Cut | Fault::End) {
            break;
        }
        if mode == Fault::Stall {
            thread::sleep(STEP);
            continue;
        }
        match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => {
                while now(fault) == Fault::Stall {
                    thread::sleep(STEP);
                }
                if now(fault) == Fault::Cut {
                    break;
                }
                silent |= match now(fault) {
                    Fault::Swallow => answers,
                    Fault::LoseConfig => !answers && buffer[..count].windows(6).any(|word| word == b"CONFIG"),
                    _ => false,
                };
                if !silent && to.write_all(&buffer[..count]).is_err() {
                    break;
                }
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => break,
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
