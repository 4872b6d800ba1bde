//! What a call about the log of requests asks for: everything that is not paging is a filter.

use super::{Pairs, PlatformList, Query, data::filters, grammar::unknown};
use crate::{
    error::Result,
    service::{cursor::digest, request_log::Wanted},
};

/// The log of requests.
#[derive(Debug)]
pub struct LogList {
    /// Paging.
    pub page: PlatformList,
    /// Which lines.
    pub wanted: Wanted,
    /// Tells the cursors of other filters from those of these.
    pub digest: u64,
}

impl Query for LogList {
    const NAMES: &'static [&'static str] = &["limit", "next_cursor"];

    fn take(pairs: &mut Pairs) -> Result<Self> {
        let page = PlatformList::take(pairs)?;
        let rest = pairs.take_rest();
        let fields = Wanted::fields();
        if let Some(pair) = rest.iter().find(|pair| !fields.contains(&pair.name.as_str())) {
            return Err(unknown(&pair.key, fields.into_iter().chain(Self::NAMES.iter().copied())));
        }
        let filters = filters(rest)?;
        let digest = digest([format!("{filters:?}").as_str()]);
        Ok(Self { page, wanted: Wanted::new(filters)?, digest })
    }
}
