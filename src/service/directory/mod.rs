//! Lists and single records in one schema over all vendors, and the vendor's own records for `/proxy/{resource}`.

mod change;
pub mod filter;
mod order;
pub mod snapshot;
pub(super) mod source;
pub(super) mod walk;
pub(super) mod write;

use std::{collections::BTreeMap, sync::Arc};

use serde_json::Value;

pub use self::{
    change::{ChangeAsk, Doing, VendorSaid, VendorWrite},
    filter::{Filter, FilterOp},
    order::Order,
    snapshot::Snapshots,
};
use self::{
    source::Source,
    walk::Walk,
    write::{Writer, Writing, account_root, write_one},
};
use super::{Linked, accounts::Accounts, cut_short, meters::ReadMeters};
use crate::{
    connector::{Get, LinkMethod, ResourceDef},
    error::{Code, Error, Result},
    mapping::Roots,
    model::{Clock, FilterReport, Resource, Warning},
    store::repo,
    upstream::{Failure, ListAsk, Upstream},
    vault::SystemKeys,
};

/// `limit` when the caller gives none.
pub const DEFAULT_LIMIT: usize = 100;
/// The largest `limit`.
pub const MAX_LIMIT: usize = 1_000;
/// Records of one answer with `truto_ignore_limit`.
pub const IGNORED_LIMIT: usize = 10_000;

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
    /// Unified; a list as lines, all of it.
    Stream,
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
    /// The order of the whole list; the vendor's own when left out.
    pub order: Option<Order>,
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
    /// For `debug`: JSON object text.
    pub debug: Option<Vec<u8>>,
}

/// The unified directory.
pub struct Directory {
    pub(super) accounts: Arc<Accounts>,
    pub(super) upstream: Arc<Upstream>,
    pub(super) snapshots: Snapshots,
    pub(super) blobs: repo::Blobs,
    pub(super) keys: Arc<SystemKeys>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) meters: ReadMeters,
}

impl Directory {
    /// Over its tools.
    pub fn new(
        accounts: Arc<Accounts>,
        upstream: Arc<Upstream>,
        snapshots: Snapshots,
        blobs: repo::Blobs,
        keys: Arc<SystemKeys>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { accounts, upstream, snapshots, blobs, keys, clock, meters: ReadMeters::default() }
    }

    /// One page of a resource. `parent` is the group of `groups/{id}/members`.
    pub async fn list(&self, linked: &Linked, resource: Resource, parent: Option<&str>, query: ListQuery) -> Result<ListPage> {
        let def = offered(linked, resource)?;
        let writing = Writing::unified(&query, def)?;
        let source = Source::new(self, linked, def, parent, resource.plural())?;
        let page = Walk::new(source, query, writing)?.run().await?;
        Ok(self.count(linked, def, page))
    }

    /// One record by its id.
    pub async fn get(&self, linked: &Linked, resource: Resource, id: &str, query: OneQuery) -> Result<OneRecord> {
        let def = offered(linked, resource)?;
        match &def.get {
            None => Err(without(def, "get")),
            Some(Get::FromList) => self.find(linked, def, id, &query).await,
            Some(Get::Request { .. }) => {
                let record = self.fetch(linked, def, id, &query).await?;
                let account = account_root(linked);
                let roots = Roots { account: Some(&account), ..Roots::default() };
                write_one(def, &record, roots, &query)
            }
        }
    }

    /// One page of a vendor's own resource (`/proxy/{name}`), unmapped.
    pub async fn proxy_list(&self, linked: &Linked, name: &str, mut query: ListQuery) -> Result<ListPage> {
        let def = offered_by_vendor_name(linked, name)?;
        if let Some(filter) = query.filters.first() {
            let detail = format!("`{}` is not a parameter here; send the vendor's own as `remote_query[…]`.", filter.field);
            return Err(Error::new(Code::InvalidParameter, detail).field(&filter.field));
        }
        let group = take_group(def, &mut query.remote_query)?;
        let source = Source::new(self, linked, def, group.as_deref(), &def.proxy_name)?;
        let page = Walk::new(source, query, Writing::vendor())?.run().await?;
        Ok(self.count(linked, def, page))
    }

    /// Does a write to its end even if its caller leaves: it may hold a service's lock, and half of it helps nobody. What lists
    /// were read from a moment ago is shown to nobody any more, from before the write until after it.
    pub async fn write_to_end<T: Send + 'static>(
        &self,
        linked: &Linked,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T> {
        let work = Box::pin(self.spoiling(linked, Box::pin(work)).await?);
        self.accounts.opened.tasks.finish(work).await.ok_or_else(cut_short)
    }

    /// The same for work that somebody else brings to its end.
    pub async fn spoiling<T>(
        &self,
        linked: &Linked,
        work: impl Future<Output = T> + 'static,
    ) -> Result<impl Future<Output = T> + 'static> {
        self.snapshots.spoil(linked).await?;
        let spoil = self.snapshots.spoil(linked);
        Ok(async move {
            let done = work.await;
            // What the vendor did is told all the same.
            if let Err(error) = spoil.await {
                tracing::warn!(cause = %error, "lists read before a write may be shown for a minute");
            }
            done
        })
    }

    pub(super) fn walk_ended(&self, linked: &Linked, def: &ResourceDef, complete: bool) {
        self.meters.walk_ended(&linked.access.connector.slug, def.resource, complete);
    }

    fn count(&self, linked: &Linked, def: &ResourceDef, page: ListPage) -> ListPage {
        if page.next_cursor.is_none() {
            self.walk_ended(linked, def, page.complete);
        }
        page
    }

    /// One of the vendor's own records, byte for byte.
    pub async fn proxy_get(&self, linked: &Linked, name: &str, id: &str, query: OneQuery) -> Result<OneRecord> {
        let def = offered_by_vendor_name(linked, name)?;
        match &def.get {
            None => Err(without(def, "get")),
            Some(Get::FromList) => {
                let raw = OneQuery { format: ResponseFormat::Raw, ..query };
                self.find(linked, def, id, &raw).await
            }
            Some(Get::Request { .. }) => {
                let body = self.fetch(linked, def, id, &query).await?.to_vec();
                Ok(OneRecord { body, warnings: Vec::new(), debug: None })
            }
        }
    }

    async fn fetch(&self, linked: &Linked, def: &ResourceDef, id: &str, query: &OneQuery) -> Result<bytes::Bytes> {
        let ask = ListAsk {
            remote_query: query.remote_query.clone(),
            values: BTreeMap::from([("id".to_owned(), id.to_owned())]),
            ..ListAsk::default()
        };
        let answer = self.upstream.get(&linked.access, def, &ask).await;
        if answer.is_ok() {
            self.accounts.note_success(linked, def.resource.plural(), "get").await;
        }
        match answer {
            Ok(Some(record)) => Ok(record),
            Ok(None) => Err(no_record(def)),
            Err(failure) => match unsent(&failure) {
                Some(error) => Err(error),
                None => Err(self.accounts.note_failure(linked, def.resource.plural(), "get", failure).await),
            },
        }
    }

    /// Finds one record in the list: the whole walk, filtered by id, until it is met.
    async fn find(&self, linked: &Linked, def: &ResourceDef, id: &str, query: &OneQuery) -> Result<OneRecord> {
        let filters = vec![Filter { field: "id".to_owned(), op: FilterOp::Eq, values: vec![id.to_owned()] }];
        let list = ListQuery {
            limit: Some(1),
            filters,
            format: query.format,
            exclude: query.exclude.clone(),
            ignore_remote_data: query.ignore_remote_data,
            remote_query: query.remote_query.clone(),
            ..ListQuery::default()
        };
        let mut source = Source::new(self, linked, def, None, def.resource.plural())?;
        if source.is_visited() && def.per.is_some() {
            source.limit_to(self.upstream.company_of(&linked.access, id).ok_or_else(|| no_record(def))?);
        }
        let writing = Writing::unified(&list, def)?;
        let page = Box::pin(Walk::new(source, list, writing)?.run()).await?;
        if page.count == 0 {
            let lost = page.warnings.iter().find(|_| !page.complete);
            return Err(lost.map_or_else(|| no_record(def), |warning| Error::new(Code::VendorDenied, &warning.message)));
        }
        let body = Writer::only_record(page.result);
        Ok(OneRecord { body, warnings: page.warnings, debug: page.debug })
    }
}

/// The resource of this account's link method, or why it has none.
pub fn offered(linked: &Linked, resource: Resource) -> Result<&ResourceDef> {
    let def = linked.access.method.resources.get(&resource);
    let has_it = |method: &LinkMethod| method.resources.get(&resource).is_some_and(|def| def.none.is_none());
    there(def).map_err(|reason| not_offered(linked, resource.plural(), &reason, has_it))
}

/// The resource the vendor calls by this name, or what there is instead.
pub fn offered_by_vendor_name<'l>(linked: &'l Linked, name: &str) -> Result<&'l ResourceDef> {
    let method = &linked.access.method;
    let has_it = |method: &LinkMethod| method.proxy_resource(name).is_some_and(|def| def.none.is_none());
    let Some(def) = method.proxy_resource(name) else {
        let known = method.resources.values().filter(|def| def.none.is_none());
        let known: Vec<_> = known.map(|def| format!("`{}`", def.proxy_name)).collect();
        return Err(not_offered(linked, name, &format!("; it has {}.", known.join(", ")), has_it));
    };
    there(Some(def)).map_err(|reason| not_offered(linked, name, &reason, has_it))
}

/// The definition, unless it only says why there is none.
fn there(def: Option<&ResourceDef>) -> Result<&ResourceDef, String> {
    match def {
        Some(ResourceDef { none: Some(reason), .. }) => Err(format!(": {reason}")),
        Some(def) => Ok(def),
        None => Err(".".to_owned()),
    }
}

fn not_offered(linked: &Linked, name: &str, reason: &str, has_it: impl Fn(&LinkMethod) -> bool) -> Error {
    let (connector, method) = (&linked.access.connector, &linked.access.method);
    let name: String = name.chars().take(64).collect();
    let mut detail = format!("{}, linked by `{}`, has no `{name}`{reason}", connector.file.title, method.name);
    if let Some(other) = connector.methods.iter().find(|other| other.name != method.name && has_it(other)) {
        detail.push_str(&format!(" Linking by `{}` offers it.", other.name));
    }
    Error::new(Code::ResourceNotSupported, detail)
}

/// Members are listed of one group; the caller names it beside the vendor's own parameters.
fn take_group(def: &ResourceDef, given: &mut Vec<(String, String)>) -> Result<Option<String>> {
    if def.resource != Resource::GroupMember {
        return Ok(None);
    }
    match given.iter().position(|(name, value)| name == "group_id" && !value.is_empty()) {
        Some(at) => Ok(Some(given.remove(at).1)),
        None => {
            let detail = format!("`{}` are those of one group: name it with `group_id`.", def.proxy_name);
            Err(Error::new(Code::InvalidParameter, detail).field("group_id"))
        }
    }
}

/// Refuses parameters for a vendor that takes commands, because commands have no query.
pub(super) fn refuse_query(remote_query: &[(String, String)]) -> Result<()> {
    remote_query.first().map_or(Ok(()), |(name, _)| {
        let detail = format!("`{name}` cannot be sent: this vendor takes commands, which have no query.");
        Err(Error::new(Code::InvalidParameter, detail).field(name))
    })
}

/// The error for a vendor's parameter that cannot be sent.
pub(super) fn unsent(failure: &Failure) -> Option<Error> {
    let Failure::Unsendable { field, reason } = failure else { return None };
    Some(Error::new(Code::InvalidParameter, format!("`{field}` cannot be sent: {reason}.")).field(field))
}

/// The error for a method the vendor lacks.
pub fn without(def: &ResourceDef, method: &str) -> Error {
    let detail = format!("`{}` has no `{method}` here.", def.resource.plural());
    Error::new(Code::MethodNotSupported, detail)
}

pub(super) fn no_record(def: &ResourceDef) -> Error {
    Error::new(Code::NotFound, format!("The vendor has no record with this id among its {}.", def.resource.plural()))
}

/// Parses a mapped record; our own output, therefore an internal error when it fails.
pub(super) fn parse_mapped(bytes: &[u8]) -> Result<Value> {
    serde_json::from_slice(bytes).map_err(Error::internal)
}
