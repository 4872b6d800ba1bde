//! Query strings: qs grammar in all its forms, and a type for each kind of call. Nothing in a query is ever ignored.

mod audit;
mod data;
mod event;
mod grammar;
mod log;
mod platform;
mod vendor;

pub use audit::{AuditList, AuditPlace, ExportQuery};
pub use data::{DataDelete, DataList, DataOne, ProxyList, ProxyOne};
pub use event::EventList;
pub use grammar::{MAX_DEPTH, MAX_PAIRS, Pair, Pairs, cut, decode_loosely};
pub use log::LogList;
pub use platform::{
    AccountList, AnyQuery, CapabilityQuery, IntegrationList, KeyQuery, MOST_DAYS, NoQuery, PlatformList, TokenList, ToolQuery,
    Uninstall,
};
pub use vendor::{ProxyWrite, VendorQuery};

use crate::error::Result;

/// What a call may ask for in its query string.
pub trait Query: Sized + 'static {
    /// Every name it understands, for suggestions.
    const NAMES: &'static [&'static str];

    /// Reads the raw query.
    fn read(raw: &str) -> Result<Pairs> {
        Pairs::parse(raw)
    }

    /// Takes its parameters out of the pairs; what nobody takes is an error.
    fn take(pairs: &mut Pairs) -> Result<Self>;
}
