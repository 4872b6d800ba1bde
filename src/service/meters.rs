//! What operators see of reading: caches, vendors' pages, the ends of walks. Labels are ours and the connectors' words only.

use std::sync::OnceLock;

use metrics::{Counter, Unit};

use crate::{
    model::{Resource, Slug, Trace},
    upstream::ByConnector,
};

const LOOKUPS: &str = "rollcall_cache_lookups_total";
const PAGES: &str = "rollcall_vendor_pages_total";
const RECORDS: &str = "rollcall_vendor_records_total";
const WALKS: &str = "rollcall_walks_total";

/// How often one cache had what it was asked for.
pub struct CacheMeter {
    hits: Counter,
    misses: Counter,
}

impl CacheMeter {
    /// For the cache of this name.
    pub fn new(cache: &'static str) -> Self {
        metrics::describe_counter!(
            LOOKUPS,
            Unit::Count,
            "What was found in a cache (`hit`), and what had to be fetched (`miss`)."
        );
        let counter = |outcome: &'static str| metrics::counter!(LOOKUPS, "cache" => cache, "outcome" => outcome);
        Self { hits: counter("hit"), misses: counter("miss") }
    }

    /// Counts one lookup and hands its result on.
    pub fn count<T>(&self, found: Option<T>) -> Option<T> {
        if found.is_some() {
            self.hits.increment(1)
        } else {
            self.misses.increment(1)
        }
        found
    }
}

/// The counters of one resource of one connector.
struct Reading {
    pages: Counter,
    records: Counter,
    complete: Counter,
    incomplete: Counter,
}

impl Reading {
    fn new(connector: &Slug, resource: Resource) -> Self {
        let (connector, resource) = (connector.to_string(), resource.plural());
        let counter = |name: &'static str| metrics::counter!(name, "connector" => connector.clone(), "resource" => resource);
        let walks = |outcome: &'static str| metrics::counter!(WALKS, "connector" => connector.clone(), "resource" => resource, "outcome" => outcome);
        Self { pages: counter(PAGES), records: counter(RECORDS), complete: walks("complete"), incomplete: walks("incomplete") }
    }
}

/// Counts what is read of vendors' lists.
pub struct ReadMeters(ByConnector<[OnceLock<Reading>; Resource::ALL.len()]>);

impl Default for ReadMeters {
    fn default() -> Self {
        metrics::describe_counter!(PAGES, Unit::Count, "Pages of vendors' lists that were read, a company's visit being one.");
        metrics::describe_counter!(RECORDS, Unit::Count, "Records on the pages that were read of vendors' lists.");
        metrics::describe_counter!(WALKS, Unit::Count, "Lists that callers read to their end, with and without known loss.");
        Self(ByConnector::default())
    }
}

impl ReadMeters {
    /// A page of a vendor's list with this many records.
    pub fn page(&self, connector: &Slug, resource: Resource, records: usize) {
        Trace::page();
        self.with(connector, resource, |reading| {
            reading.pages.increment(1);
            reading.records.increment(records as u64);
        });
    }

    /// A caller's list came to its end.
    pub fn walk_ended(&self, connector: &Slug, resource: Resource, complete: bool) {
        self.with(connector, resource, |reading| match complete {
            true => reading.complete.increment(1),
            false => reading.incomplete.increment(1),
        });
    }

    fn with(&self, connector: &Slug, resource: Resource, count: impl FnOnce(&Reading)) {
        let resources = self.0.get(connector, || [const { OnceLock::new() }; Resource::ALL.len()]);
        count(resources[resource as usize].get_or_init(|| Reading::new(connector, resource)));
    }
}
