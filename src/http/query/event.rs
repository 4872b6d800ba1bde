//! What a call for events asks for.

use super::{Pairs, PlatformList, Query};
use crate::{error::Result, model::EventKind, service::ListEvents};

/// The list of events.
#[derive(Debug)]
pub struct EventList {
    /// Paging.
    pub page: PlatformList,
    /// Which events; none can be of an account whose id is none.
    pub wanted: Option<ListEvents>,
}

impl Query for EventList {
    const NAMES: &'static [&'static str] = &["event", "integrated_account_id", "limit", "next_cursor", "since", "tenant_id"];

    fn take(pairs: &mut Pairs) -> Result<Self> {
        let page = PlatformList::take(pairs)?;
        let kinds: Vec<_> = EventKind::ALL.iter().map(|kind| (kind.as_str(), *kind)).collect();
        let kind = pairs.take_choice("event", &kinds)?;
        let tenant_id = pairs.take_text("tenant_id")?;
        let since = pairs.take_time("since")?;
        // A malformed id finds what a foreign one does: nothing.
        let account = pairs.take_text("integrated_account_id")?.map(|id| id.parse().ok());
        let wanted = match account {
            Some(None) => None,
            account => Some(ListEvents { kind, account: account.flatten(), tenant_id, since }),
        };
        Ok(Self { page, wanted })
    }
}
