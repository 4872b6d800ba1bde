//! Whether a Redis server keeps what it is given: what is refused, what is warned about.

use std::collections::HashMap;

use redis::Value;

use tokio::time::Instant;

use super::{
    link::{Link, deadline},
    node::Failure,
    url::Address,
};
use crate::store::{Health, StoreError};

/// What was found, and whether commits can wait for the append-only file.
pub(super) struct Found {
    pub health: Health,
    pub confirms: bool,
}

/// Asks every primary.
pub(super) async fn examine(link: &Link) -> Result<Found, StoreError> {
    let mut health = Health { description: String::new(), warnings: Vec::new() };
    let mut confirms = true;
    let mut names = Vec::new();
    let end = deadline();
    for address in link.primaries(end).await? {
        let info = read_info(link, &address, end).await?;
        let server = Server::new(&info);
        server.refuse(&address)?;
        let policy = read_policy(link, &address, end).await?;
        health.warnings.extend(server.warn(&address, policy.as_ref()));
        confirms &= server.can_confirm()
            && policy.as_ref().is_some_and(|policy| policy.get("appendfsync").is_some_and(|when| when == "everysec"));
        names.push(server.name());
    }
    names.dedup();
    health.description = names.join(", ");
    Ok(Found { health, confirms })
}

type Info = HashMap<String, String>;

async fn read_info(link: &Link, address: &Address, deadline: Instant) -> Result<Info, StoreError> {
    let answer = link.ask(address, &redis::cmd("INFO"), deadline).await?;
    let text: String = redis::from_redis_value(answer)
        .map_err(|_| StoreError::Unavailable(format!("{address} does not answer INFO with text")))?;
    Ok(text.lines().filter_map(|line| line.split_once(':')).map(|(name, value)| (name.into(), value.trim().into())).collect())
}

/// `save` and `appendfsync`; none where `CONFIG` is forbidden, as on hosted servers. No answer is an error, not a "none":
/// commits would no longer wait for the disk.
async fn read_policy(link: &Link, address: &Address, deadline: Instant) -> Result<Option<Info>, StoreError> {
    let mut both = Info::new();
    for name in ["save", "appendfsync"] {
        let mut question = redis::cmd("CONFIG");
        question.arg("GET").arg(name);
        let answer: Value = match link.ask(address, &question, deadline).await {
            Ok(answer) => answer,
            Err(Failure::Said(_)) => return Ok(None),
            Err(failure) => return Err(failure.into()),
        };
        match redis::from_redis_value::<Info>(answer) {
            Ok(setting) => both.extend(setting),
            Err(_) => return Ok(None),
        }
    }
    Ok(Some(both))
}

struct Server<'a> {
    info: &'a Info,
    version: (u32, u32),
}

impl<'a> Server<'a> {
    fn new(info: &'a Info) -> Self {
        let mut parts = info.get("redis_version").map_or("", String::as_str).split('.');
        let mut next = || parts.next().and_then(|part| part.parse().ok()).unwrap_or(0);
        Self { info, version: (next(), next()) }
    }

    fn get(&self, name: &str) -> &str {
        self.info.get(name).map_or("", String::as_str)
    }

    fn name(&self) -> String {
        match self.get("valkey_version") {
            "" => format!("Redis {}", self.get("redis_version")),
            version => format!("Valkey {version}"),
        }
    }

    fn appends(&self) -> bool {
        self.get("aof_enabled") == "1"
    }

    /// `WAITAOF` came with 7.2; every Valkey has it. It helps with `everysec`; with `always` the answer itself confirms.
    fn can_confirm(&self) -> bool {
        self.appends() && self.version >= (7, 2)
    }

    fn refuse(&self, address: &Address) -> Result<(), StoreError> {
        let policy = self.get("maxmemory_policy");
        if self.version < (7, 0) {
            let version = self.get("redis_version");
            return Err(StoreError::Refused(format!(
                "Redis at {address} is version {version}; 7.0 or later is needed, or Valkey."
            )));
        }
        if self.get("role") != "master" {
            return Err(StoreError::Refused(format!(
                "Redis at {address} is a read-only replica; name the primary, or the Sentinels."
            )));
        }
        if !policy.is_empty() && policy != "noeviction" {
            return Err(StoreError::Refused(format!(
                "Redis at {address} may evict data (`maxmemory-policy {policy}`), which would lose linked accounts. Set \
                 `maxmemory-policy noeviction`, or use another server."
            )));
        }
        Ok(())
    }

    fn warn(&self, address: &Address, policy: Option<&Info>) -> Vec<String> {
        let mut warnings = Vec::new();
        let setting = |name: &str| policy.and_then(|policy| policy.get(name)).map(String::as_str);
        match (self.appends(), setting("save"), setting("appendfsync")) {
            (false, Some(""), _) => warnings.push(format!(
                "Redis at {address} keeps data in memory only: a restart loses every linked account. Set `appendonly yes`."
            )),
            (false, Some(_), _) => warnings.push(format!(
                "Redis at {address} only takes snapshots: a crash loses what was written since the last one. Set `appendonly yes`."
            )),
            (false, None, _) => warnings.push(format!(
                "Redis at {address} has no append-only file, and `CONFIG` does not say whether it takes snapshots. Set \
                 `appendonly yes`."
            )),
            (true, _, Some("always")) => {}
            (true, _, Some("everysec")) if self.can_confirm() => {}
            (true, _, Some("everysec")) => warnings.push(format!(
                "Redis at {address} may lose the last second in a crash. Use version 7.2 or later, or set `appendfsync always`."
            )),
            (true, _, Some(_)) => warnings.push(format!(
                "Redis at {address} leaves writing to the operating system: a crash loses up to 30 seconds. Set `appendfsync \
                 everysec` or `always`."
            )),
            (true, _, None) => warnings.push(format!(
                "Redis at {address} has an append-only file, but `CONFIG` does not say when it is written; a crash may lose the \
                 last second."
            )),
        }
        if self.appends() && self.get("aof_last_write_status") == "err" {
            warnings.push(format!("Redis at {address} could not write its append-only file; look at its disk."));
        }
        warnings
    }
}
