//! Connections that wait for the next request, and the lease that brings them back.

use std::{
    cell::{Cell, RefCell, RefMut},
    collections::HashMap,
    rc::Rc,
    time::Duration,
};

use http::HeaderValue;
use hyper::client::conn::http1::SendRequest;
use tokio::{task::AbortHandle, time::Instant};

use super::body::{Progress, Upload};
use crate::upstream::{Access, Failure};

/// Connections kept per host and worker.
const MAX_IDLE: usize = 256;
/// How long a connection may wait.
const IDLE: Duration = Duration::from_secs(60);
/// How often those that waited too long are looked for.
const SWEEP: Duration = Duration::from_secs(15);

/// One open connection.
pub(super) struct Connection {
    pub(super) sender: SendRequest<Upload>,
    pub(super) task: AbortHandle,
    pub(super) since: Instant,
}

impl Connection {
    /// Closes the socket now, whatever is on its way.
    pub(super) fn close(&self) {
        self.task.abort();
    }
}

struct Host {
    header: HeaderValue,
    idle: Vec<Connection>,
}

/// Whose connections a request may use: those whose server was trusted as it would be.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Side {
    /// http.
    Plain,
    /// https by the public authorities.
    Public,
    /// https by an account's own trust.
    Own([u8; 32]),
}

impl Side {
    pub(super) fn of(access: &Access) -> Side {
        match (access.base.scheme(), &access.trust) {
            ("https", Some(trust)) => Side::Own(trust.id),
            ("https", None) => Side::Public,
            _ => Side::Plain,
        }
    }
}

type ByAuthority = HashMap<Box<str>, Host>;

/// Idle connections by side and authority.
#[derive(Default)]
pub(super) struct Hosts {
    sides: RefCell<HashMap<Side, ByAuthority>>,
    sweeping: Cell<bool>,
}

impl Hosts {
    fn of(&self, side: Side) -> RefMut<'_, ByAuthority> {
        RefMut::map(self.sides.borrow_mut(), |sides| sides.entry(side).or_default())
    }

    /// The `Host` header of an authority, made once.
    pub(super) fn host_header(&self, side: Side, authority: &str) -> Result<HeaderValue, Failure> {
        let mut hosts = self.of(side);
        if let Some(host) = hosts.get(authority) {
            return Ok(host.header.clone());
        }
        let bad = |_| Failure::Egress("the host cannot stand in a header".into());
        let header = HeaderValue::from_str(authority).map_err(bad)?;
        hosts.insert(authority.into(), Host { header: header.clone(), idle: Vec::new() });
        Ok(header)
    }

    /// The connection that waited least and is still open.
    pub(super) fn take(&self, side: Side, authority: &str) -> Option<Connection> {
        let mut hosts = self.of(side);
        let idle = &mut hosts.get_mut(authority)?.idle;
        while let Some(connection) = idle.pop() {
            if !connection.sender.is_closed() && connection.since.elapsed() < IDLE {
                return Some(connection);
            }
        }
        None
    }

    fn put(self: &Rc<Self>, side: Side, header: &HeaderValue, mut connection: Connection) {
        connection.since = Instant::now();
        let Ok(authority) = header.to_str() else { return };
        let mut hosts = self.of(side);
        match hosts.get_mut(authority) {
            Some(host) if host.idle.len() >= MAX_IDLE => {}
            Some(host) => host.idle.push(connection),
            None => {
                hosts.insert(authority.into(), Host { header: header.clone(), idle: vec![connection] });
            }
        }
        if !self.sweeping.replace(true) {
            let hosts = Rc::downgrade(self);
            tokio::task::spawn_local(async move {
                loop {
                    tokio::time::sleep(SWEEP).await;
                    match hosts.upgrade() {
                        Some(hosts) if hosts.sweep() => {}
                        _ => break,
                    }
                }
            });
        }
    }

    /// Drops what waited too long; false when nothing is left to look after.
    fn sweep(&self) -> bool {
        let mut sides = self.sides.borrow_mut();
        sides.retain(|_, hosts| {
            hosts.retain(|_, host| {
                host.idle.retain(|connection| !connection.sender.is_closed() && connection.since.elapsed() < IDLE);
                !host.idle.is_empty()
            });
            !hosts.is_empty()
        });
        let left = !sides.is_empty();
        self.sweeping.set(left);
        left
    }
}

/// A connection in use. Given back it waits for the next request; dropped it is closed.
pub(super) struct Lease {
    connection: Option<Connection>,
    hosts: Rc<Hosts>,
    side: Side,
    authority: HeaderValue,
    upload: Progress,
}

impl Lease {
    pub(super) fn new(connection: Connection, hosts: Rc<Hosts>, side: Side, authority: HeaderValue, upload: Progress) -> Self {
        Self { connection: Some(connection), hosts, side, authority, upload }
    }

    /// Back to the pool, unless the request is still being sent.
    pub(super) fn give_back(mut self) {
        if self.upload.is_over()
            && let Some(connection) = self.connection.take()
        {
            self.hosts.put(self.side, &self.authority, connection);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(connection) = &self.connection {
            connection.close();
        }
    }
}
