//! The forms of `ROLLCALL_STORE` that mean Redis.

use std::{fmt, str::FromStr};

use percent_encoding::percent_decode_str;

use crate::model::Secret;

/// How the servers are arranged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Single,
    Sentinel { master: String },
    Cluster,
}

/// Host and port of one server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Address {
    pub host: String,
    pub port: u16,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl Address {
    /// `host`, `host:port`, `[v6]`, `[v6]:port`, or an unbracketed v6 address with a port, as Redis Cluster writes it.
    pub fn parse(text: &str, default_port: u16) -> Option<Self> {
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, rest) = rest.split_once(']')?;
                (host, rest.strip_prefix(':').map(str::to_owned).or_else(|| rest.is_empty().then(String::new))?)
            }
            None => text.rsplit_once(':').map_or((text, String::new()), |(host, port)| (host, port.to_owned())),
        };
        let port = if port.is_empty() { default_port } else { u16::from_str(&port).ok()? };
        (!host.is_empty() && port != 0 && !host.contains(['/', '@', ' '])).then(|| Self { host: host.to_owned(), port })
    }
}

/// A parsed Redis address. Neither `Debug` nor `Display` shows the password.
#[derive(Clone)]
pub struct RedisUrl {
    pub(super) form: Form,
    pub(super) tls: bool,
    pub(super) hosts: Vec<Address>,
    pub(super) username: Option<String>,
    pub(super) password: Option<Secret>,
    pub(super) database: i64,
}

impl RedisUrl {
    /// Parses one of `redis[s]://`, `redis[s]+sentinel://`, `redis[s]+cluster://`; the error is a sentence that does not
    /// repeat the text, because the text holds a password.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (scheme, rest) = text.split_once("://").ok_or("A Redis address starts with `redis://` or one of its variants.")?;
        if rest.contains(['?', '#']) {
            return Err("A Redis address has no query and no fragment.".into());
        }
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, hosts) = match authority.rsplit_once('@') {
            Some((user, hosts)) => (Some(user), hosts),
            None => (None, authority),
        };
        let (tls, kind) = match scheme.strip_prefix("rediss") {
            Some(kind) => (true, kind),
            None => (false, scheme.strip_prefix("redis").ok_or("The scheme is not one of Redis.")?),
        };
        let (form, database) = form_of(kind, path)?;
        let port = if matches!(form, Form::Sentinel { .. }) { 26379 } else { 6379 };
        let hosts: Option<Vec<_>> = hosts.split(',').map(|host| Address::parse(host, port)).collect();
        let hosts = hosts.ok_or("A host of the Redis address is missing or malformed.")?;
        if form == Form::Single && hosts.len() > 1 {
            return Err("`redis://` takes one host; use `redis+sentinel://` or `redis+cluster://` for several.".into());
        }
        let (username, password) = user.map_or(Ok((None, None)), credentials)?;
        Ok(Self { form, tls, hosts, username, password, database })
    }
}

fn form_of(kind: &str, path: &str) -> Result<(Form, i64), String> {
    let number = |text: &str| match text {
        "" => Ok(0),
        digits => digits.parse::<u16>().map(i64::from).map_err(|_| "The database of a Redis address is a number.".to_owned()),
    };
    match kind {
        "" => Ok((Form::Single, number(path)?)),
        "+sentinel" => {
            let (master, database) = path.split_once('/').unwrap_or((path, ""));
            let master = decode(master)?;
            if master.is_empty() {
                return Err("A Sentinel address names the master: `redis+sentinel://host:26379/mymaster`.".into());
            }
            Ok((Form::Sentinel { master }, number(database)?))
        }
        "+cluster" if matches!(path, "" | "0") => Ok((Form::Cluster, 0)),
        "+cluster" => Err("Redis Cluster has only database 0.".into()),
        _ => Err("The scheme is not one of `redis`, `redis+sentinel`, `redis+cluster` (with `rediss` for TLS).".into()),
    }
}

fn credentials(text: &str) -> Result<(Option<String>, Option<Secret>), String> {
    let (name, password) = text.split_once(':').ok_or("Write the Redis password as `user:password@` or `:password@`.")?;
    let name = decode(name)?;
    Ok(((!name.is_empty()).then_some(name), Some(Secret::new(decode(password)?))))
}

fn decode(text: &str) -> Result<String, String> {
    percent_decode_str(text).decode_utf8().map(Into::into).map_err(|_| "The Redis address is not UTF-8.".into())
}

impl FromStr for RedisUrl {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        Self::parse(text)
    }
}

impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, path) = match &self.form {
            Form::Single => ("", format!("/{}", self.database)),
            Form::Sentinel { master } => ("+sentinel", format!("/{master}/{}", self.database)),
            Form::Cluster => ("+cluster", String::new()),
        };
        let hosts: Vec<_> = self.hosts.iter().map(ToString::to_string).collect();
        let secret = if self.password.is_some() { "…@" } else { "" };
        write!(f, "redis{}{kind}://{secret}{}{path}", if self.tls { "s" } else { "" }, hosts.join(","))
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RedisUrl({self})")
    }
}
