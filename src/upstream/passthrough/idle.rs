//! Connections that wait for the next request, and the lease that brings them back.

use std::{
    cell::{Cell, RefCell, RefMut},
    collections::HashMap,
    pin::Pin,
    rc::Rc,
    time::Duration,
};

use http::HeaderValue;
use hyper::client::conn::http1::SendRequest;
use tokio::{
    task::AbortHandle,
    time::{Instant, Sleep},
};

use super::body::{Progress, Upload};
use crate::upstream::{Access, Failure, load::Permit};

/// Connections kept per host and worker.
const MAX_IDLE: usize = 256;
/// How long a connection may wait. Its buffers hold the credential it sent last, which a minute without calls must not outlast.
const IDLE: Duration = Duration::from_secs(40);
/// How often those that waited too long are looked for.
const SWEEP: Duration = Duration::from_secs(15);

/// One open connection.
pub(super) struct Connection {
    pub(super) sender: SendRequest<Upload>,
    pub(super) task: AbortHandle,
    pub(super) since: Instant,
    /// For the vendor's time. It goes on with the connection, because to put it off is cheap and to make one is not.
    pub(super) timer: Pin<Box<Sleep>>,
}

impl Connection {
    /// Closes the socket now, whatever is on its way.
    pub(super) fn close(&self) {
        self.task.abort();
    }
}

/// Where connections lead to.
pub(super) struct Host {
    side: Side,
    /// The `Host` header, which is the authority.
    pub(super) header: HeaderValue,
}

/// A host, and what waits there.
struct Known {
    host: Rc<Host>,
    idle: Vec<Connection>,
}

/// Whose connections a request may use: those whose server was trusted as it would be.
#[derive(Clone, Copy)]
enum Side {
    /// http.
    Plain,
    /// https by the public authorities.
    Public,
    /// https by an account's own trust.
    Own([u8; 32]),
}

impl Side {
    fn of(access: &Access) -> Side {
        match (access.base.scheme(), &access.trust) {
            ("https", Some(trust)) => Side::Own(trust.id),
            ("https", None) => Side::Public,
            _ => Side::Plain,
        }
    }
}

type ByAuthority = HashMap<Box<str>, Known>;

impl Host {
    fn authority(&self) -> Option<&str> {
        self.header.to_str().ok()
    }
}

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

    /// The host of an account.
    pub(super) fn host(&self, access: &Access) -> Result<Rc<Host>, Failure> {
        self.host_at(Side::of(access), access.base.authority())
    }

    fn host_at(&self, side: Side, authority: &str) -> Result<Rc<Host>, Failure> {
        if let Some(known) = self.of(side).get(authority) {
            return Ok(Rc::clone(&known.host));
        }
        let bad = |_| Failure::Egress("the host cannot stand in a header".into());
        let host = Rc::new(Host { side, header: HeaderValue::from_str(authority).map_err(bad)? });
        // Nobody looks after hosts of which nothing waits, such as those that never answered.
        if !self.sweeping.get() {
            self.keep_hosts(|_| false);
        }
        self.of(side).insert(authority.into(), Known { host: Rc::clone(&host), idle: Vec::new() });
        Ok(host)
    }

    /// The connection that waited least and is still open.
    pub(super) fn take(&self, host: &Host) -> Option<Connection> {
        let mut hosts = self.of(host.side);
        let idle = &mut hosts.get_mut(host.authority()?)?.idle;
        while let Some(connection) = idle.pop() {
            if !connection.sender.is_closed() && connection.since.elapsed() < IDLE {
                return Some(connection);
            }
        }
        None
    }

    fn put(self: &Rc<Self>, host: &Rc<Host>, mut connection: Connection) {
        connection.since = Instant::now();
        let Some(authority) = host.authority() else { return };
        let mut hosts = self.of(host.side);
        match hosts.get_mut(authority) {
            Some(known) if known.idle.len() >= MAX_IDLE => {}
            Some(known) => known.idle.push(connection),
            None => {
                hosts.insert(authority.into(), Known { host: Rc::clone(host), idle: vec![connection] });
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
        self.keep_hosts(|known| {
            known.idle.retain(|connection| !connection.sender.is_closed() && connection.since.elapsed() < IDLE);
            !known.idle.is_empty()
        });
        let left = !(self.plain.borrow().is_empty() && self.public.borrow().is_empty() && self.own.borrow().is_empty());
        self.sweeping.set(left);
        left
    }

    fn keep_hosts(&self, mut keep: impl FnMut(&mut Known) -> bool) {
        self.plain.borrow_mut().retain(|_, known| keep(known));
        self.public.borrow_mut().retain(|_, known| keep(known));
        self.own.borrow_mut().retain(|_, hosts| {
            hosts.retain(|_, known| keep(known));
            !hosts.is_empty()
        });
    }
}

/// A connection in use. Given back it waits for the next request; dropped it is closed.
pub(super) struct Lease {
    connection: Option<Connection>,
    hosts: Rc<Hosts>,
    host: Rc<Host>,
    upload: Progress,
    /// The account's place among its calls in flight, until the last byte.
    _permit: Permit,
}

impl Lease {
    pub(super) fn new(connection: Connection, hosts: Rc<Hosts>, host: Rc<Host>, upload: Progress, permit: Permit) -> Self {
        Self { connection: Some(connection), hosts, host, upload, _permit: permit }
    }

    /// Back to the pool, unless the request is still being sent.
    pub(super) fn give_back(mut self) {
        if self.upload.is_over()
            && let Some(connection) = self.connection.take()
        {
            self.hosts.put(&self.host, connection);
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
            let host = hosts.host_at(side, &format!("host-{n}.example")).unwrap();
            assert!(hosts.take(&host).is_none());
        }
        let of_trusts = hosts.own.borrow().values().map(|hosts| hosts.len().max(1)).sum::<usize>();
        let kept = hosts.plain.borrow().len() + hosts.public.borrow().len() + of_trusts;
        assert!(kept <= 2, "{kept} hosts are kept");
    }
}
