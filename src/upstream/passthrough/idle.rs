//! Connections that wait for the next request, and the lease that brings them back.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    rc::Rc,
    time::Duration,
};

use http::HeaderValue;
use hyper::client::conn::http1::SendRequest;
use tokio::{task::AbortHandle, time::Instant};

use super::body::{Progress, Upload};
use crate::upstream::Failure;

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

/// Idle connections by authority; http and https apart.
#[derive(Default)]
pub(super) struct Hosts {
    plain: RefCell<HashMap<Box<str>, Host>>,
    tls: RefCell<HashMap<Box<str>, Host>>,
    sweeping: Cell<bool>,
}

impl Hosts {
    fn of(&self, https: bool) -> &RefCell<HashMap<Box<str>, Host>> {
        if https { &self.tls } else { &self.plain }
    }

    /// The `Host` header of an authority, made once.
    pub(super) fn host_header(&self, https: bool, authority: &str) -> Result<HeaderValue, Failure> {
        let mut hosts = self.of(https).borrow_mut();
        if let Some(host) = hosts.get(authority) {
            return Ok(host.header.clone());
        }
        let bad = |_| Failure::Egress("the host cannot stand in a header".into());
        let header = HeaderValue::from_str(authority).map_err(bad)?;
        // Nobody looks after hosts of which nothing waits, such as those that never answered.
        if !self.sweeping.get() {
            hosts.clear();
        }
        hosts.insert(authority.into(), Host { header: header.clone(), idle: Vec::new() });
        Ok(header)
    }

    /// The connection that waited least and is still open.
    pub(super) fn take(&self, https: bool, authority: &str) -> Option<Connection> {
        let mut hosts = self.of(https).borrow_mut();
        let idle = &mut hosts.get_mut(authority)?.idle;
        while let Some(connection) = idle.pop() {
            if !connection.sender.is_closed() && connection.since.elapsed() < IDLE {
                return Some(connection);
            }
        }
        None
    }

    fn put(self: &Rc<Self>, https: bool, header: &HeaderValue, mut connection: Connection) {
        connection.since = Instant::now();
        let Ok(authority) = header.to_str() else { return };
        let mut hosts = self.of(https).borrow_mut();
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
        for hosts in [&self.plain, &self.tls] {
            hosts.borrow_mut().retain(|_, host| {
                host.idle.retain(|connection| !connection.sender.is_closed() && connection.since.elapsed() < IDLE);
                !host.idle.is_empty()
            });
        }
        let left = !(self.plain.borrow().is_empty() && self.tls.borrow().is_empty());
        self.sweeping.set(left);
        left
    }
}

/// A connection in use. Given back it waits for the next request; dropped it is closed.
pub(super) struct Lease {
    connection: Option<Connection>,
    hosts: Rc<Hosts>,
    https: bool,
    authority: HeaderValue,
    upload: Progress,
}

impl Lease {
    pub(super) fn new(connection: Connection, hosts: Rc<Hosts>, https: bool, authority: HeaderValue, upload: Progress) -> Self {
        Self { connection: Some(connection), hosts, https, authority, upload }
    }

    /// Back to the pool, unless the request is still being sent.
    pub(super) fn give_back(mut self) {
        if self.upload.is_over()
            && let Some(connection) = self.connection.take()
        {
            self.hosts.put(self.https, &self.authority, connection);
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
            hosts.host_header(n % 2 == 0, &format!("host-{n}.example")).unwrap();
        }
        let kept = hosts.plain.borrow().len() + hosts.tls.borrow().len();
        assert!(kept <= 2, "{kept} hosts are kept");
    }
}
