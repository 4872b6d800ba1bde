//! What a call for events asks for.

use jiff::Timestamp;

use super::{Pairs, PlatformList, Query, grammar::wrong};
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
        let tenant_id = pairs.take_one("tenant_id")?;
        let since = pairs.take_one("since")?.map(|text| time(&text)).transpose()?;
        // A malformed id finds what a foreign one does: nothing.
        let account = pairs.take_one("integrated_account_id")?.map(|id| id.parse().ok());
        let wanted = match account {
            Some(None) => None,
            account => Some(ListEvents { kind, account: account.flatten(), tenant_id, since }),
        };
        Ok(Self { page, wanted })
    }
}

fn time(text: &str) -> Result<Timestamp> {
    text.parse().map_err(|_| wrong("since", "takes a time such as `2026-01-31T12:00:00Z`"))
}
