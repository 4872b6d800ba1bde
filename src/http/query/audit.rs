//! What calls about the audit log and about what is kept of a customer ask for.

use jiff::Timestamp;

use super::{Pairs, PlatformList, Query, grammar::wrong};
use crate::{
    error::Result,
    service::{audit::WantedEntries, cursor::digest},
};

/// The audit log.
#[derive(Debug)]
pub struct AuditList {
    /// Paging.
    pub page: PlatformList,
    /// Which entries.
    pub wanted: WantedEntries,
    /// Tells the cursors of other filters from those of these.
    pub digest: u64,
}

impl Query for AuditList {
    const NAMES: &'static [&'static str] =
        &["action", "actor", "integrated_account_id", "limit", "next_cursor", "since", "target_id", "until"];

    fn take(pairs: &mut Pairs) -> Result<Self> {
        let page = PlatformList::take(pairs)?;
        let account = take_text(pairs, "integrated_account_id")?;
        let account = account.map(|id| id.parse().map_err(|_| wrong("integrated_account_id", "takes the id of an account")));
        let wanted = WantedEntries {
            actor: take_text(pairs, "actor")?,
            action: take_text(pairs, "action")?,
            target_id: take_text(pairs, "target_id")?,
            account: account.transpose()?,
            since: take_time(pairs, "since")?,
            until: take_time(pairs, "until")?,
        };
        let digest = digest([format!("{wanted:?}").as_str()]);
        Ok(Self { page, wanted, digest })
    }
}

/// How far the audit log was looked at.
#[derive(Debug)]
pub struct AuditPlace(pub Option<String>);

impl Query for AuditPlace {
    const NAMES: &'static [&'static str] = &["next_cursor"];

    fn take(pairs: &mut Pairs) -> Result<Self> {
        Ok(Self(pairs.take_one("next_cursor")?.filter(|cursor| !cursor.is_empty())))
    }
}

/// Whose data is wanted.
#[derive(Debug)]
pub struct ExportQuery {
    /// The customer's label.
    pub tenant: String,
}

impl Query for ExportQuery {
    const NAMES: &'static [&'static str] = &["tenant_id"];

    fn take(pairs: &mut Pairs) -> Result<Self> {
        let tenant = pairs.take_one("tenant_id")?.filter(|tenant| !tenant.is_empty());
        Ok(Self { tenant: tenant.ok_or_else(|| wrong("tenant_id", "is missing: it names whose data is wanted"))? })
    }
}

fn take_text(pairs: &mut Pairs, name: &str) -> Result<Option<String>> {
    match pairs.take_one(name)? {
        Some(text) if text.is_empty() => Err(wrong(name, "takes a text that is not empty")),
        text => Ok(text),
    }
}

fn take_time(pairs: &mut Pairs, name: &str) -> Result<Option<Timestamp>> {
    let time = pairs.take_one(name)?;
    let parse = |text: String| text.parse().map_err(|_| wrong(name, "takes a time like `2026-01-31T12:00:00Z`"));
    time.map(parse).transpose()
}
