//! What calls about the audit log and about what is kept of a customer ask for.

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
        let wanted = WantedEntries {
            actor: pairs.take_text("actor")?,
            action: pairs.take_text("action")?,
            target_id: pairs.take_text("target_id")?,
            account: pairs.take_account()?,
            since: pairs.take_time("since")?,
            until: pairs.take_time("until")?,
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
