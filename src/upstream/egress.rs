//! The one egress guard: every outgoing socket of every client passes it.

use std::net::SocketAddr;

/// What the operator allows beyond the public internet: `host:port` entries and CIDRs, both needed for a private address;
/// an IP literal counts as both.
#[derive(Clone, Debug, Default)]
pub struct Allow {
    _hosts: Vec<(String, u16)>,
    _cidrs: Vec<ipnet::IpNet>,
}

impl Allow {
    /// Reads the comma list of `ROLLCALL_EGRESS_ALLOW`.
    pub fn parse(_text: &str) -> Result<Allow, String> {
        todo!()
    }
}

/// Decides which addresses may be dialled.
pub struct Guard {
    _allow: Allow,
}

impl Guard {
    /// A guard with the operator's exceptions.
    pub fn new(allow: Allow) -> Self {
        Self { _allow: allow }
    }

    /// Refuses an address by its form: scheme, userinfo, literal in a blocked range, port. `http` only to allowed hosts.
    pub fn check(&self, _url: &url::Url) -> Result<(), String> {
        todo!()
    }

    /// Whether the operator named this host and port.
    pub fn names(&self, _url: &url::Url) -> bool {
        todo!()
    }

    /// Resolves once, classifies every address (one blocked address refuses the name), returns what may be dialled.
    pub async fn resolve(&self, _host: &str, _port: u16) -> Result<Vec<SocketAddr>, String> {
        todo!()
    }
}
