//! The proxy through which an operator may send every call to a vendor.

use std::{
    future::{Ready, ready},
    io,
    task::{Context, Poll},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderValue, Uri};
use hyper_util::{client::legacy::connect::proxy::Tunnel, rt::TokioIo};
use percent_encoding::percent_decode_str;
use tokio::net::TcpStream;
use tower_service::Service;
use url::Url;

use super::egress::DialError;

const FORM: &str = "write `http://host:port` or `http://user:password@host:port`; the proxy is asked to CONNECT to each vendor";

/// An HTTP proxy and its login. May hold a secret, therefore no `Debug`.
#[derive(Clone)]
pub struct EgressProxy {
    host: String,
    port: u16,
    login: Option<HeaderValue>,
}

impl EgressProxy {
    /// Reads `ROLLCALL_EGRESS_PROXY`; the error never quotes it.
    pub fn parse(text: &str) -> Result<EgressProxy, String> {
        let url = Url::parse(text).map_err(|error| format!("is not an address ({error}); {FORM}"))?;
        if url.scheme() != "http" {
            return Err(format!("must start with `http://`; {FORM}"));
        }
        if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
            return Err(format!("has more than a host and a port; {FORM}"));
        }
        let host = url.host_str().filter(|host| !host.ends_with('.')).ok_or_else(|| format!("has no host; {FORM}"))?;
        let port = url.port_or_known_default().filter(|port| *port != 0).ok_or_else(|| format!("has no port; {FORM}"))?;
        let has_login = !url.username().is_empty() || url.password().is_some();
        let login = has_login.then(|| login(&url)).transpose()?;
        Ok(EgressProxy { host: host.to_owned(), port, login })
    }

    /// Its host: a name, or an address with IPv6 in brackets.
    pub(super) fn host(&self) -> &str {
        &self.host
    }

    /// Its port.
    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// The same proxy for reqwest.
    pub(super) fn for_reqwest(&self) -> reqwest::Result<reqwest::Proxy> {
        let proxy = reqwest::Proxy::all(format!("http://{}:{}", self.host, self.port))?;
        Ok(match &self.login {
            Some(login) => proxy.custom_http_auth(login.clone()),
            None => proxy,
        })
    }

    /// Asks the proxy, on a connection to it, for one to a vendor.
    pub(super) async fn connect(&self, stream: TcpStream, host: &str, port: u16) -> Result<TcpStream, DialError> {
        let unfit = |_| DialError::Refused("the host cannot be asked for at the egress proxy".to_owned());
        let vendor = Uri::try_from(format!("http://{host}:{port}")).map_err(unfit)?;
        let mut tunnel = Tunnel::new(Uri::default(), Opened(Some(TokioIo::new(stream))));
        if let Some(login) = &self.login {
            tunnel = tunnel.with_auth(login.clone());
        }
        let opened = tunnel.call(vendor).await;
        opened.map(TokioIo::into_inner).map_err(|error| DialError::Unreachable(words(&error).unwrap_or(BROKEN).to_owned()))
    }
}

const BROKEN: &str = "the connection through the egress proxy failed";

/// What the tunnel's error says in our words; `None` for other errors. Its type has no name outside its crate.
pub(super) fn words(error: &(dyn std::error::Error + 'static)) -> Option<&'static str> {
    match error.to_string().strip_prefix("tunnel error: ")? {
        "proxy authorization required" => Some("the egress proxy does not accept the login of `ROLLCALL_EGRESS_PROXY`"),
        "unsuccessful" => Some("the egress proxy did not open a connection to this host"),
        "unexpected end of file" => Some("the egress proxy closed the connection instead of opening one to this host"),
        "proxy response headers too long" => Some("the egress proxy's answer is too long"),
        _ => None,
    }
}

fn login(url: &Url) -> Result<HeaderValue, String> {
    let plain = |text: &str| percent_decode_str(text).collect::<Vec<u8>>();
    let user = plain(url.username());
    if user.contains(&b':') {
        return Err("has a colon in the user name, which no proxy can read".to_owned());
    }
    let pair = [user, plain(url.password().unwrap_or_default())].join(&b':');
    let header = HeaderValue::from_str(&format!("Basic {}", STANDARD.encode(pair)));
    let mut header = header.map_err(|_| format!("has a login that cannot be sent; {FORM}"))?;
    header.set_sensitive(true);
    Ok(header)
}

/// A connection that is there already, for a tunnel that would open one.
struct Opened(Option<TokioIo<TcpStream>>);

impl Service<Uri> for Opened {
    type Response = TokioIo<TcpStream>;
    type Error = io::Error;
    type Future = Ready<io::Result<TokioIo<TcpStream>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        ready(self.0.take().ok_or_else(|| io::ErrorKind::NotConnected.into()))
    }
}
