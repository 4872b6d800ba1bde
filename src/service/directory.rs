//! Lists and single records in one schema over all vendors, and the vendor's own records for `/proxy/{resource}`.

use super::{Filter, Linked};
use crate::{
    error::Result,
    model::{FilterReport, Resource, Warning},
};

/// `truto_response_format`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ResponseFormat {
    /// Mapped, with `remote_data`.
    #[default]
    Unified,
    /// The vendor's records as they are.
    Raw,
    /// Mapped, without `remote_data`.
    Normalized,
    /// Unified, and how it came about.
    Debug,
}

/// What a list call asks for, validated as far as the query string goes.
#[derive(Clone, Debug, Default)]
pub struct ListQuery {
    /// 1 to 1,000; 100 when left out.
    pub limit: Option<usize>,
    /// Where to go on; an empty one was removed.
    pub cursor: Option<String>,
    /// All must hold.
    pub filters: Vec<Filter>,
    /// How records are written.
    pub format: ResponseFormat,
    /// Make `result` an object keyed by this field.
    pub key_by: Option<String>,
    /// Top-level fields to leave out.
    pub exclude: Vec<String>,
    /// Up to 10,000 records at once.
    pub ignore_limit: bool,
    /// Leave `remote_data` out.
    pub ignore_remote_data: bool,
    /// Sent to the vendor as it is.
    pub remote_query: Vec<(String, String)>,
}

/// What a call for one record asks for.
#[derive(Clone, Debug, Default)]
pub struct OneQuery {
    /// How the record is written.
    pub format: ResponseFormat,
    /// Top-level fields to leave out.
    pub exclude: Vec<String>,
    /// Leave `remote_data` out.
    pub ignore_remote_data: bool,
    /// Sent to the vendor as it is.
    pub remote_query: Vec<(String, String)>,
}

/// One page of a list.
#[derive(Debug)]
pub struct ListPage {
    /// JSON text: an array, or an object for `key_by`.
    pub result: Vec<u8>,
    /// Records in it.
    pub count: usize,
    /// Where to go on.
    pub next_cursor: Option<String>,
    /// Records lack fields that `get` has.
    pub is_partial: bool,
    /// Everything up to here was read without known loss.
    pub complete: bool,
    /// What a caller should know.
    pub warnings: Vec<Warning>,
    /// Who evaluated which filter.
    pub filters: FilterReport,
    /// For `debug`: JSON object text.
    pub debug: Option<Vec<u8>>,
}

/// One record.
#[derive(Debug)]
pub struct OneRecord {
    /// JSON text.
    pub body: Vec<u8>,
    /// What a caller should know.
    pub warnings: Vec<Warning>,
}

/// The unified directory.
pub struct Directory {}

impl Directory {
    /// One page of a resource. `parent` is the group of `groups/{id}/members`.
    pub async fn list(&self, _linked: &Linked, _resource: Resource, _parent: Option<&str>, _query: ListQuery) -> Result<ListPage> {
        todo!()
    }

    /// One record by its id.
    pub async fn get(&self, _linked: &Linked, _resource: Resource, _id: &str, _query: OneQuery) -> Result<OneRecord> {
        todo!()
    }

    /// One page of a vendor's own resource (`/proxy/{name}`), unmapped.
    pub async fn proxy_list(&self, _linked: &Linked, _name: &str, _query: ListQuery) -> Result<ListPage> {
        todo!()
    }

    /// One of the vendor's own records, byte for byte.
    pub async fn proxy_get(&self, _linked: &Linked, _name: &str, _id: &str, _query: OneQuery) -> Result<OneRecord> {
        todo!()
    }
}
