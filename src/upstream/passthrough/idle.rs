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
use crate::upstream::{Access, Failure, load::Permit};

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
#[derive(Clone, Copy)]
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
    plain: RefCell<ByAuthority>,
    public: RefCell<ByAuthority>,
    own: RefCell<HashMap<[u8; 32], ByAuthority>>,
    sweeping: Cell<bool>,
}

impl Hosts {
    fn of(&self, side: Side) -> RefMut<'_, ByAuthority> {
        match side {
            Side::Plain => self.plain.borrow_mut(),
            Side::Public => self.public.borrow_mut(),
            Side::Own(trust) => RefMut::map(self.own.borrow_mut(), |own| own.entry(trust).or_default()),
        }
    }

    /// The `Host` header of an authority, made once.
    pub(super) fn host_header(&self, side: Side, authority: &str) -> Result<HeaderValue, Failure> {
        if let Some(host) = self.of(side).get(authority) {
            return Ok(host.header.clone());
        }
        let bad = |_| Failure::Egress("the host cannot stand in a header".into());
        let header = HeaderValue::from_str(authority).map_err(bad)?;
        // Nobody looks after hosts of which nothing waits, such as those that never answered.
        if !self.sweeping.get() {
            self.keep_hosts(|_| false);
        }
        self.of(side).insert(authority.into(), Host { header: header.clone(), idle: Vec::new() });
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
        self.keep_hosts(|host| {
            host.idle.retain(|connection| !connection.sender.is_closed() && connection.since.elapsed() < IDLE);
            !host.idle.is_empty()
        });
        let left = !(self.plain.borrow().is_empty() && self.public.borrow().is_empty() && self.own.borrow().is_empty());
        self.sweeping.set(left);
        left
    }

    fn keep_hosts(&self, mut keep: impl FnMut(&mut Host) -> bool) {
        self.plain.borrow_mut().retain(|_, host| keep(host));
        self.public.borrow_mut().retain(|_, host| keep(host));
        self.own.borrow_mut().retain(|_, hosts| {
            hosts.retain(|_, host| keep(host));
            !hosts.is_empty()
        });
    }
}

/// A connection in use. Given back it waits for the next request; dropped it is closed.
pub(super) struct Lease {
    connection: Option<Connection>,
    hosts: Rc<Hosts>,
    side: Side,
    authority: HeaderValue,
    upload: Progress,
    /// The account's place among its calls in flight, until the last byte.
    _permit: Permit,
}

impl Lease {
    pub(super) fn new(
        connection: Connection,
        hosts: Rc<Hosts>,
        side: Side,
        authority: HeaderValue,
        upload: Progress,
        permit: Permit,
    ) -> Self {
        Self { connection: Some(connection), hosts, side, authority, upload, _permit: permit }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_that_never_answer_are_forgotten() {
        let hosts = Hosts::default();
        for n in 0..100 {
            let side = [Side::Plain, Side::Public, Side::Own([n; 32])][usize::from(n % 3)];
            assert!(hosts.take(side, "host.example").is_none());
            hosts.host_header(side, &format!("host-{n}.example")).unwrap();
        }
        let of_trusts = hosts.own.borrow().values().map(|hosts| hosts.len().max(1)).sum::<usize>();
        let kept = hosts.plain.borrow().len() + hosts.public.borrow().len() + of_trusts;
        assert!(kept <= 2, "{kept} hosts are kept");
    }
}
