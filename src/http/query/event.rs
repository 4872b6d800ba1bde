//! What a call for events asks for.

use super::{Pairs, PlatformList, Query};
use crate::{error::Result, model::EventKind, service::ListEvents};

/// The list of events.
#[derive(Debug)]
pub struct EventList {
    /// Paging.
    pub page: PlatformList,
    /// Which events.
    pub wanted: ListEvents,
}

impl Query for EventList {
    const NAMES: &'static [&'static str] = &["event", "integrated_account_id", "limit", "next_cursor", "since", "tenant_id"];

    fn take(pairs: &mut Pairs) -> Result<Self> {
        let page = PlatformList::take(pairs)?;
        let kinds: Vec<_> = EventKind::ALL.iter().map(|kind| (kind.as_str(), *kind)).collect();
        let kind = pairs.take_choice("event", &kinds)?;
        let tenant_id = pairs.take_text("tenant_id")?;
        let since = pairs.take_time("since")?;
        let account = pairs.take_account()?;
        Ok(Self { page, wanted: ListEvents { kind, account, tenant_id, since } })
    }
}
