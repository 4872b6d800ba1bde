//! The one egress guard: every outgoing socket of every client passes it.
//!
//! An address is judged twice: by its form before a request is made (scheme, userinfo, port, literal), and by what its
//! name resolves to when the socket is opened. The socket goes to an address that was judged, never to a second lookup.

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use tokio::net::TcpStream;
use url::{Host, Url};

use super::{egress_proxy::EgressProxy, load::Load, ranges};

/// How long opening a connection may take, all addresses of a name together.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Ports that need no word of the operator; anything else is a `host:port` of [`Allow`].
const OPEN_PORTS: [u16; 2] = [443, 8443];

/// What the operator allows beyond the public internet: `host:port` entries and CIDRs, both needed for a private address;
/// an IP literal counts as both.
#[derive(Clone, Debug, Default)]
pub struct Allow {
    hosts: Vec<(String, u16)>,
    cidrs: Vec<ipnet::IpNet>,
}

impl Allow {
    /// Reads the comma list of `ROLLCALL_EGRESS_ALLOW`; the error names every entry that is wrong.
    pub fn parse(text: &str) -> Result<Allow, String> {
        let (mut allow, mut wrong) = (Allow::default(), Vec::new());
        for entry in text.split(',').map(str::trim).filter(|e| !e.is_empty()) {
            let read = match entry.contains('/') {
                true => cidr_entry(entry).map(|cidr| allow.cidrs.push(cidr)),
                false => host_entry(entry).map(|host| allow.hosts.push(host)),
            };
            wrong.extend(read.err());
        }
        if wrong.is_empty() { Ok(allow) } else { Err(wrong.join("; ")) }
    }

    /// Allows what another list allows too.
    pub fn extend(&mut self, other: Allow) {
        self.hosts.extend(other.hosts);
        self.cidrs.extend(other.cidrs);
    }

    /// Whether nothing private can be called.
    pub fn is_empty(&self) -> bool {
        self.hosts.is_empty() && self.cidrs.is_empty()
    }

    fn names(&self, host: &str, port: u16) -> bool {
        self.hosts.iter().any(|(h, p)| *p == port && h == host)
    }

    fn holds(&self, ip: IpAddr) -> bool {
        self.cidrs.iter().any(|net| net.contains(&ip))
    }
}

/// The list as it can be parsed again.
impl fmt::Display for Allow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hosts = self.hosts.iter().map(|(host, port)| format!("{host}:{port}"));
        let entries: Vec<_> = hosts.chain(self.cidrs.iter().map(ToString::to_string)).collect();
        f.write_str(&entries.join(","))
    }
}

fn cidr_entry(entry: &str) -> Result<ipnet::IpNet, String> {
    if entry.contains("://") {
        return Err(format!("`{entry}`: leave out the scheme and the path, for example `vendor.internal:8443`"));
    }
    entry
        .parse::<ipnet::IpNet>()
        .map(|net| net.trunc())
        .map_err(|_| format!("`{entry}` is not a CIDR such as `10.0.0.0/8` or `fd00::/8`"))
}

fn host_entry(entry: &str) -> Result<(String, u16), String> {
    if entry.parse::<IpAddr>().is_ok() {
        return Err(format!("`{entry}` needs a port (`{entry}:443`, IPv6 in brackets) or a prefix length (`{entry}/32`)"));
    }
    let bad = |why: &str| format!("`{entry}`: {why}; a host entry is `host:port`, for example `vendor.internal:8443`");
    let (host, port) = entry.rsplit_once(':').ok_or_else(|| bad("the port is missing"))?;
    let port: u16 = port.parse().ok().filter(|p| *p != 0).ok_or_else(|| bad("the port is not a number from 1 to 65535"))?;
    if host.is_empty() || host.contains(['@', '\\', '?', '#', '*', ' ']) {
        return Err(bad("the host is not a plain name or address"));
    }
    let url = Url::parse(&format!("https://{host}:{port}/")).map_err(|_| bad("the host is not a name or an address"))?;
    match url.host_str() {
        Some(host) if !host.ends_with('.') => Ok((host.to_owned(), port)),
        _ => Err(bad("the host is not a name or an address")),
    }
}

/// Why no socket was opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DialError {
    /// The guard refuses the address.
    #[error("{0}")]
    Refused(String),
    /// The name does not resolve or nobody answers there.
    #[error("{0}")]
    Unreachable(String),
}

/// Turns a name into addresses; replaced in tests of rebinding.
#[async_trait]
pub trait Resolve: Send + Sync {
    /// Every address of the name, at this moment.
    async fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>>;
}

/// Opens sockets; replaced in tests by one that records.
#[async_trait]
pub trait Dial: Send + Sync {
    /// The last word before a client that opens its sockets itself is given this address.
    fn admits(&self, _address: SocketAddr) -> bool {
        true
    }

    /// Opens a socket.
    async fn dial(&self, address: SocketAddr) -> io::Result<TcpStream>;
}

/// The machine's own resolver and sockets.
pub struct System;

#[async_trait]
impl Resolve for System {
    async fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        Ok(tokio::net::lookup_host((host, 0)).await?.map(|address| address.ip()).collect())
    }
}

#[async_trait]
impl Dial for System {
    async fn dial(&self, address: SocketAddr) -> io::Result<TcpStream> {
        TcpStream::connect(address).await
    }
}

/// Decides which addresses may be dialled.
pub struct Guard {
    allow: Allow,
    resolver: Arc<dyn Resolve>,
    dialler: Arc<dyn Dial>,
    proxy: Option<EgressProxy>,
    /// Hosts of this process itself, which no proxy could reach.
    own: Allow,
    /// What those who are called can bear.
    pub(super) load: Load,
}

impl Guard {
    /// A guard with the operator's exceptions.
    pub fn new(allow: Allow) -> Self {
        Self::over(allow, Arc::new(System), Arc::new(System))
    }

    /// A guard over another resolver and other sockets.
    pub fn over(allow: Allow, resolver: Arc<dyn Resolve>, dialler: Arc<dyn Dial>) -> Self {
        Self { allow, resolver, dialler, proxy: None, own: Allow::default(), load: Load::default() }
    }

    /// Sends every call through a proxy, but for those to `own`: stand-ins that this process itself serves. What may be
    /// called stays the same, and is decided here before the proxy hears of it.
    pub fn through(self, proxy: Option<EgressProxy>, own: Allow) -> Self {
        Self { proxy, own, ..self }
    }

    /// From now on accounts that are opened have so many calls of the transparent proxy in flight at most.
    pub fn pass_at_most(&self, in_flight: usize) {
        self.load.pass_at_most(in_flight);
    }

    /// The proxy that stands before this host.
    pub(super) fn proxy_before(&self, host: &str, port: u16) -> Option<&EgressProxy> {
        self.proxy.as_ref().filter(|_| !self.own.names(host, port))
    }

    /// Refuses an address by its form: scheme, userinfo, literal in a blocked range, port. `http` only to allowed hosts.
    pub fn check(&self, url: &Url) -> Result<(), String> {
        let named = self.names(url);
        match url.scheme() {
            "https" => {}
            "http" if named => {}
            "http" => return Err("http is only for hosts the operator lists in `ROLLCALL_EGRESS_ALLOW`; use https".into()),
            other => return Err(format!("the scheme `{other}` is not https")),
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("the address holds a user name or password".into());
        }
        let port = url.port_or_known_default().unwrap_or(0);
        match url.host() {
            None => return Err("the address has no host".into()),
            Some(Host::Domain(name)) => check_name(name)?,
            Some(Host::Ipv4(ip)) => self.check_literal(ip.into(), named)?,
            Some(Host::Ipv6(ip)) => self.check_literal(ip.into(), named)?,
        }
        if !named && !OPEN_PORTS.contains(&port) {
            return Err(format!("port {port} is only open to hosts the operator lists with it in `ROLLCALL_EGRESS_ALLOW`"));
        }
        Ok(())
    }

    fn check_literal(&self, ip: IpAddr, named: bool) -> Result<(), String> {
        match ranges::blocked(ip) {
            _ if named => Ok(()),
            Some(range) => Err(format!("{ip} is {range}; the operator can list it in `ROLLCALL_EGRESS_ALLOW`")),
            None if self.allow.holds(ip) => Ok(()),
            None => Err("an address must be a name, unless the operator lists it in `ROLLCALL_EGRESS_ALLOW`".into()),
        }
    }

    /// Whether the operator named this host and port.
    pub fn names(&self, url: &Url) -> bool {
        match (url.host_str(), url.port_or_known_default()) {
            (Some(host), Some(port)) => self.allow.names(host, port),
            _ => false,
        }
    }

    /// [`Guard::check`], and the dialler's last word on a literal: what a client that opens its own sockets asks before
    /// each request, because literals never reach a resolver hook.
    pub fn clear(&self, url: &Url) -> Result<(), DialError> {
        self.check(url).map_err(DialError::Refused)?;
        let ip: IpAddr = match url.host() {
            Some(Host::Ipv4(ip)) => ip.into(),
            Some(Host::Ipv6(ip)) => ip.into(),
            _ => return Ok(()),
        };
        match self.dialler.admits(SocketAddr::new(ip, url.port_or_known_default().unwrap_or(0))) {
            true => Ok(()),
            false => Err(DialError::Unreachable("the dialler does not open this address".into())),
        }
    }

    /// Resolves once, classifies every address (one blocked address refuses the name), returns what may be dialled.
    pub async fn resolve(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, DialError> {
        let named = self.allow.names(host, port);
        if let Some(ip) = literal(host) {
            self.check_literal(ip, named).map_err(DialError::Refused)?;
            return Ok(vec![SocketAddr::new(ip, port)]);
        }
        let addresses = self.addresses(host, named).await?;
        Ok(addresses.into_iter().map(|ip| SocketAddr::new(ip, port)).collect())
    }

    async fn addresses(&self, host: &str, named: bool) -> Result<Vec<IpAddr>, DialError> {
        check_name(host).map_err(DialError::Refused)?;
        let unknown = || DialError::Unreachable(format!("{UNKNOWN}{host} does not resolve"));
        let found = self.look_up(host).await.ok_or_else(unknown)?;
        for ip in &found {
            if let Some(range) = ranges::blocked(*ip)
                && !(named && self.allow.holds(*ip))
            {
                return Err(DialError::Refused(format!(
                    "{host} resolves to {ip}, which is {range}; `ROLLCALL_EGRESS_ALLOW` would need both the host with its port and the CIDR"
                )));
            }
        }
        Ok(found)
    }

    /// Every address of a name, at least one.
    async fn look_up(&self, name: &str) -> Option<Vec<IpAddr>> {
        let lookup = tokio::time::timeout(CONNECT_TIMEOUT, self.resolver.resolve(name));
        lookup.await.ok()?.ok().filter(|found| !found.is_empty())
    }

    /// Opens a connection to a host that passed [`Guard::check`], without Nagle's delay. With a proxy before it, the host's
    /// own addresses must pass all the same.
    pub async fn dial(&self, host: &str, port: u16) -> Result<TcpStream, DialError> {
        let attempt = async {
            let addresses = self.resolve(host, port).await?;
            match self.proxy_before(host, port) {
                None => self.dial_one_of(host, addresses).await,
                Some(proxy) => {
                    let stream = self.dial_one_of(PROXY, self.proxy_addresses(proxy).await?).await?;
                    proxy.connect(stream, host, port).await
                }
            }
        };
        match tokio::time::timeout(CONNECT_TIMEOUT, attempt).await {
            Ok(outcome) => outcome,
            Err(_) => Err(DialError::Unreachable(format!("{host}: no connection within {} s", CONNECT_TIMEOUT.as_secs()))),
        }
    }

    async fn dial_one_of(&self, whom: &str, addresses: Vec<SocketAddr>) -> Result<TcpStream, DialError> {
        let share = CONNECT_TIMEOUT / addresses.len().clamp(1, 3) as u32;
        let mut last = DialError::Unreachable(format!("{whom} has no address"));
        for address in addresses {
            match tokio::time::timeout(share, self.dialler.dial(address)).await {
                Ok(Ok(stream)) => {
                    let _ = stream.set_nodelay(true);
                    return Ok(stream);
                }
                Ok(Err(error)) => last = DialError::Unreachable(format!("{whom}: {}", error.kind())),
                Err(_) => last = DialError::Unreachable(format!("{whom}: no connection in time")),
            }
        }
        Err(last)
    }

    /// Where the proxy is: the operator's word, so any address will do.
    async fn proxy_addresses(&self, proxy: &EgressProxy) -> Result<Vec<SocketAddr>, DialError> {
        let found = match literal(proxy.host()) {
            Some(ip) => Some(vec![ip]),
            None => self.look_up(proxy.host()).await,
        };
        let found = found.ok_or_else(|| DialError::Unreachable(format!("the name of {PROXY} does not resolve")))?;
        Ok(found.into_iter().map(|ip| SocketAddr::new(ip, proxy.port())).collect())
    }
}

/// How the sentence about a name without an address begins.
const UNKNOWN: &str = "the name ";

/// The name without an address that a sentence is about.
pub fn unknown_name(said: &str) -> Option<&str> {
    let (_, said) = said.split_once(UNKNOWN)?;
    said.split_once(" does not resolve").map(|(name, _)| name).filter(|name| !name.contains(' '))
}

/// What the proxy is called in front of callers, who need not know where it is.
const PROXY: &str = "the egress proxy";

/// Names that are looked up the same by every resolver.
fn check_name(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("the address has no host".into());
    }
    if name.ends_with('.') {
        return Err("the host ends with a dot".into());
    }
    Ok(())
}

/// An address written as a host, IPv6 with or without brackets.
fn literal(host: &str) -> Option<IpAddr> {
    host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host).parse().ok()
}

/// The guard as reqwest's resolver. The hook is not told the port, so clients for hosts the operator named (judged with
/// their port before each request) and for all others are two, and share no connections.
pub(super) struct Names {
    pub(super) guard: Arc<Guard>,
    pub(super) way: Way,
}

/// Which names a client of reqwest's may look up.
#[derive(Clone, Copy)]
pub(super) enum Way {
    /// Hosts; whether the operator named them.
    Direct { named: bool },
    /// The egress proxy's and no other.
    Proxied,
}

impl Names {
    async fn find(guard: &Guard, way: Way, name: &str) -> Result<Vec<SocketAddr>, DialError> {
        match way {
            Way::Direct { named } => {
                let found = guard.addresses(name, named).await?.into_iter();
                Ok(found.map(|ip| SocketAddr::new(ip, 0)).collect())
            }
            Way::Proxied => match guard.proxy.as_ref().filter(|proxy| proxy.host() == name) {
                Some(proxy) => guard.proxy_addresses(proxy).await,
                None => Err(DialError::Refused(format!("{name} may only be called through the egress proxy"))),
            },
        }
    }
}

impl reqwest::dns::Resolve for Names {
    fn resolve(&self, name: reqwest::dns::Name) -> reqwest::dns::Resolving {
        let (guard, way) = (self.guard.clone(), self.way);
        Box::pin(async move {
            let found = Self::find(&guard, way, name.as_str()).await?;
            let admitted: Vec<SocketAddr> = found.into_iter().filter(|address| guard.dialler.admits(*address)).collect();
            if admitted.is_empty() {
                return Err(DialError::Unreachable("the dialler opens none of the addresses".into()).into());
            }
            Ok(Box::new(admitted.into_iter()) as reqwest::dns::Addrs)
        })
    }
}
