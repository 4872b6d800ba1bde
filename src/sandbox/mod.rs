//! Stateful stand-ins for vendors nobody ships, for `demo` and tests. They speak the vendor's wire, faults included, and
//! are held against the real code by tests. Loopback only.

pub mod keeper_commander;
pub mod scim;
pub mod scim_write;

use std::net::SocketAddr;

use actix_web::dev::{Server, ServerHandle};

/// A running stand-in. Its [`Server`] is a future for whoever starts tasks; without being driven it answers nothing.
pub struct Sandbox {
    /// Where it listens.
    pub addr: SocketAddr,
    /// Its base address, path included.
    pub base: String,
    /// The credential it takes: an API key or a bearer token, invented and worth nothing elsewhere.
    pub token: String,
    handle: ServerHandle,
}

impl Sandbox {
    /// Ends it at once.
    pub async fn stop(&self) {
        self.handle.stop(false).await;
    }
}

/// The stand-ins there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Keeper Commander Service Mode: an MSP with two companies and one without users.
    KeeperCommander,
    /// A SCIM 2.0 server with index paging.
    Scim,
}

impl Kind {
    /// Every kind, in the order the demo links them.
    pub const ALL: &'static [Kind] = &[Kind::KeeperCommander, Kind::Scim];

    /// The connector, the link method and the label of the customer the demo links it with.
    pub const fn link(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Kind::KeeperCommander => ("keeper", "service_mode", "acme-msp"),
            Kind::Scim => ("scim", "bearer", "northwind"),
        }
    }

    /// The fields of that link method.
    pub fn fields(self, sandbox: &Sandbox) -> [(&'static str, String); 2] {
        let (address, credential) = match self {
            Kind::KeeperCommander => ("service_url", "api_key"),
            Kind::Scim => ("base_url", "token"),
        };
        [(address, sandbox.base.clone()), (credential, sandbox.token.clone())]
    }
}

/// Starts a stand-in on a free port, without faults and with enough users for several pages. Commands run at once, without
/// the queue: what is queued is looked at after a third of a second at the earliest, and a walk runs dozens of commands.
pub fn start(kind: Kind) -> std::io::Result<(Sandbox, Server)> {
    match kind {
        Kind::KeeperCommander => {
            let faults = keeper_commander::Faults { queue: false, ..keeper_commander::Faults::default() };
            keeper_commander::start(faults).map(|(sandbox, _, server)| (sandbox, server))
        }
        Kind::Scim => scim::start(scim::Faults::default()),
    }
}
