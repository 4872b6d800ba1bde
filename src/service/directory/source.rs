//! Where the records of a walk come from: vendor pages, a vendor that says everything at once, visits of companies, or the
//! records of another resource.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use uuid::Uuid;

use super::{
    Directory, MAX_LIMIT, offered,
    snapshot::{Manifest, Mark, ended, records_of},
    unsent, without,
    write::account_root,
};
use crate::{
    connector::{List, ListSource, PageStyle, ResourceDef, Template},
    error::{Code, Error, Result},
    mapping::{Path, Records},
    model::{Resource, Slug, Warning},
    service::{
        Linked,
        accounts::credential::place,
        cursor::{MAX_INLINE, Position},
        cut_short,
    },
    upstream::{Company, Failure, ListAsk, Pick, RawPage, ReportAsk, Visit},
};

/// Some records in a row.
pub struct Batch {
    /// The bytes they are in.
    pub body: Bytes,
    /// Where each is, and what the table wants of them.
    pub records: Records,
    /// How many are given out already.
    pub skip: usize,
    /// The first record's place, `skip` not counted.
    pub here: Position,
    /// What comes after; `None` at the end.
    pub after: Option<Position>,
    /// The company they belong to, as JSON.
    pub company: Option<String>,
    /// A page of the vendor's own, whose ids tell whether paging makes progress.
    pub is_vendor_page: bool,
    /// What was lost on the way here.
    pub lost: Vec<Warning>,
}

/// Records of another resource that satisfy a condition.
struct Having<'a> {
    paths: &'a [Path],
    is: String,
}

/// The records of one list.
pub struct Source<'a> {
    pub(super) directory: &'a Directory,
    pub(super) linked: &'a Linked,
    /// The resource that is written.
    pub(super) def: &'a ResourceDef,
    /// The resource that is read; another one for `of`.
    read: &'a ResourceDef,
    list: &'a List,
    values: BTreeMap<String, String>,
    having: Option<Having<'a>>,
    company: Option<String>,
    /// The group whose members are listed.
    group: Option<String>,
    /// What `$account` reads.
    pub(super) account: String,
    /// Names the list in cursors.
    pub(super) name: String,
    /// Query parameters of pushed filters.
    pub(super) pushed: Vec<(String, String)>,
    /// The first and the last second that are asked for, of lists that are reported by time.
    seconds: (Option<i64>, Option<i64>),
    /// Whether few of the records read may be wanted.
    is_sparse: bool,
    /// The caller's own parameters.
    pub(super) remote_query: Vec<(String, String)>,
    /// Whether the records read are mapped by their own table.
    mapped: bool,
}

impl<'a> Source<'a> {
    /// The source of a resource; `parent` is the group of its members.
    pub fn new(
        directory: &'a Directory,
        linked: &'a Linked,
        def: &'a ResourceDef,
        parent: Option<&str>,
        name: &str,
    ) -> Result<Self> {
        let list = def.list.as_ref().ok_or_else(|| without(def, "list"))?;
        let mut values = BTreeMap::new();
        let mut company = None;
        if let Some(group) = parent {
            company = directory.upstream.company_of(&linked.access, group);
            // Within a company a group goes by its own id.
            let local = company.as_ref().and_then(|c| group.strip_prefix(c.as_str())?.strip_prefix(':')).unwrap_or(group);
            values.insert("group_id".to_owned(), local.to_owned());
        }
        let (read, list, having) = match &list.source {
            ListSource::Of { resource, paths, is } => {
                let read = offered(linked, *resource)?;
                let read_list = read.list.as_ref().ok_or_else(|| without(read, "list"))?;
                (read, read_list, Some(Having { paths, is: render(is, &values)? }))
            }
            ListSource::Request(_) | ListSource::Command(_) => (def, list, None),
        };
        Ok(Self {
            directory,
            linked,
            def,
            read,
            list,
            values,
            having,
            company,
            account: account_root(linked),
            name: parent.map_or_else(|| name.to_owned(), |parent| format!("{name}/{parent}")),
            group: parent.map(str::to_owned),
            pushed: Vec::new(),
            seconds: (None, None),
            is_sparse: false,
            remote_query: Vec::new(),
            mapped: false,
        })
    }

    /// The records will be mapped.
    pub fn for_mapping(&mut self) {
        self.mapped = self.having.is_none();
    }

    /// Whether companies are visited, one after another.
    pub fn is_visited(&self) -> bool {
        self.is_commanded() && self.list.report.is_none()
    }

    /// Whether a command asks for them, which has no query.
    pub fn is_commanded(&self) -> bool {
        matches!(self.list.source, ListSource::Command(_))
    }

    /// The field by whose time the list is read, where it is.
    pub fn time_field(&self) -> Option<&'a str> {
        self.list.report.as_ref().map(|report| report.field.as_str())
    }

    /// Reads only these seconds, and much at once where the gateway will leave out some of it.
    pub fn limit_to_seconds(&mut self, seconds: (Option<i64>, Option<i64>), is_sparse: bool) {
        (self.seconds, self.is_sparse) = (seconds, is_sparse);
    }

    /// Whether each company has records of its own.
    pub fn is_per_company(&self) -> bool {
        (self.is_visited() || self.list.report.is_some()) && self.read.per.is_some()
    }

    /// Reads only this company.
    pub fn limit_to(&mut self, company: String) {
        self.company = Some(company);
    }

    /// Whether a record counts for this list.
    pub fn counts(&self, record: &[u8]) -> bool {
        self.having.as_ref().is_none_or(|having| having.paths.iter().any(|path| path.texts(record).contains(&having.is)))
    }

    /// An empty list means that something went wrong at the vendor.
    pub fn must_not_be_empty(&self) -> bool {
        self.list.not_if_empty
    }

    /// The records at a position.
    pub async fn read(&self, at: &Position, limit: usize) -> Result<Batch> {
        match at {
            Position::Start if self.is_visited() => self.begin_visits().await,
            Position::Start => self.page(None, 0, limit).await,
            Position::Page { next, skip } => self.page(next.clone(), *skip, limit).await,
            Position::Kept { blob, skip } => {
                let next = self.kept_next(*blob).await?;
                self.page(Some(next), *skip, limit).await
            }
            Position::Snapshot { id, offset } => {
                let manifest = self.directory.snapshots.manifest(self.linked, *id).await?.ok_or_else(ended)?;
                self.piece(manifest, *offset).await
            }
            Position::After(company) => {
                let name = format!("after/{}", company.id);
                let manifest = self.visit(Pick::After(company.id.clone()), &name).await?;
                self.piece(manifest, 0).await
            }
        }
    }

    /// Makes a position small enough for a cursor.
    pub async fn shrink(&self, at: Position) -> Result<Position> {
        match at {
            Position::Page { next: Some(next), skip } if next.len() > MAX_INLINE => {
                let blob = Uuid::now_v7();
                let name = blob_name(blob);
                let sealed = self.linked.data_key.seal(place(&self.linked.account, &name), next.as_bytes());
                self.directory.blobs.put(self.linked.account.id, &blob.to_string(), sealed.into()).await?;
                Ok(Position::Kept { blob, skip })
            }
            other => Ok(other),
        }
    }

    async fn kept_next(&self, blob: Uuid) -> Result<String> {
        let gone = || Error::new(Code::InvalidCursor, "`next_cursor` has expired; start again.").field("next_cursor");
        let sealed = self.directory.blobs.get(self.linked.account.id, &blob.to_string()).await?.ok_or_else(gone)?;
        let name = blob_name(blob);
        let plain = self.linked.data_key.open(place(&self.linked.account, &name), &sealed).map_err(|_| gone())?;
        String::from_utf8(plain.to_vec()).map_err(|_| gone())
    }

    fn connector(&self) -> &Slug {
        &self.linked.access.connector.slug
    }

    async fn note(&self, failure: Failure) -> Error {
        self.directory.accounts.note_failure(self.linked, self.read.resource.plural(), "list", failure).await
    }

    async fn note_good(&self) {
        self.directory.accounts.note_success(self.linked, self.read.resource.plural(), "list").await;
    }

    async fn page(&self, next: Option<String>, skip: usize, limit: usize) -> Result<Batch> {
        if self.list.report.is_some() {
            return Box::pin(self.report(next, skip, limit)).await;
        }
        let ask = ListAsk {
            next: next.clone(),
            limit,
            filters: self.pushed.clone(),
            remote_query: self.remote_query.clone(),
            values: self.values.clone(),
            mapped: self.mapped,
        };
        let page = match self.directory.upstream.list(&self.linked.access, self.read, &ask).await {
            Ok(page) => page,
            Err(failure) => match unsent(&failure) {
                Some(error) => return Err(error),
                None => return Err(self.note(failure).await),
            },
        };
        self.note_good().await;
        self.directory.meters.page(self.connector(), self.read.resource, page.records.ranges.len());
        if matches!(self.list.page, PageStyle::None) && page.records.ranges.len() > limit && self.having.is_none() {
            return self.keep_whole(page).await;
        }
        Ok(Batch {
            body: page.body,
            records: page.records,
            skip,
            here: Position::Page { next, skip: 0 },
            after: page.next.map(|next| Position::Page { next: Some(next), skip: 0 }),
            company: None,
            is_vendor_page: true,
            lost: Vec::new(),
        })
    }

    /// A page of a company's report. It is read to its end even if its caller leaves, because it holds the service's lock.
    async fn report(&self, next: Option<String>, skip: usize, limit: usize) -> Result<Batch> {
        let (from, to) = self.seconds;
        let limit = if self.is_sparse { MAX_LIMIT } else { limit };
        let (options, company) = (self.pushed.clone(), self.company.clone());
        let ask = ReportAsk { next: next.clone(), limit, options, from, to, company };
        let (upstream, access) = (Arc::clone(&self.directory.upstream), Arc::clone(&self.linked.access));
        let resource = self.read.resource;
        let work = async move {
            let def = access.method.resources.get(&resource);
            let def = def.ok_or_else(|| Failure::BadAnswer("the connector reads it no more".into()))?;
            upstream.report(&access, def, &ask).await
        };
        let page = match self.directory.accounts.opened.tasks.finish(work).await.ok_or_else(cut_short)? {
            Ok(page) => page,
            Err(failure) => {
                if let Failure::Unsendable { reason, .. } = &failure {
                    let detail = format!("The value of a filter cannot be sent to the vendor: {reason}.");
                    return Err(Error::new(Code::InvalidFilter, detail));
                }
                if let Failure::Lacking { fact: Some(fact), .. } = &failure {
                    self.directory.accounts.note_fact(self.linked, fact, &false.into()).await;
                }
                return Err(self.note(failure).await);
            }
        };
        self.note_good().await;
        for (name, value) in &page.facts {
            self.directory.accounts.note_fact(self.linked, name, value).await;
        }
        let records = if page.body.is_empty() { Vec::new() } else { records_of(&page.body)? };
        self.directory.meters.page(self.connector(), resource, records.len());
        Ok(Batch {
            body: page.body,
            records: records.into(),
            skip,
            here: Position::Page { next: page.here.or(next), skip: 0 },
            after: page.next.map(|next| Position::Page { next: Some(next), skip: 0 }),
            company: company_root(page.company.as_ref()),
            is_vendor_page: true,
            lost: page.lost.into_iter().filter(|_| skip == 0).collect(),
        })
    }

    /// A vendor that says everything at once is read once per walk: the rest comes from a snapshot.
    async fn keep_whole(&self, page: RawPage) -> Result<Batch> {
        let mut list = Vec::with_capacity(page.body.len() + 2);
        list.push(b'[');
        for (index, range) in page.records.ranges.iter().enumerate() {
            if index > 0 {
                list.push(b',');
            }
            list.extend_from_slice(&page.body[range.clone()]);
        }
        list.push(b']');
        let records = BTreeMap::from([(self.read.resource, Bytes::from(list))]);
        let visit = Visit { company: None, records, rest: Vec::new(), refused: None };
        let manifest = self.directory.snapshots.keep(self.linked, visit, &[], &Mark::default()).await?;
        self.piece(manifest, 0).await
    }

    async fn begin_visits(&self) -> Result<Batch> {
        let manifest = match &self.company {
            Some(company) if self.read.per.is_some() => {
                self.visit(Pick::Exactly(company.clone()), &format!("company/{company}")).await?
            }
            _ => self.visit(Pick::First, "first").await?,
        };
        self.check_group(&manifest).await?;
        self.piece(manifest, 0).await
    }

    /// The visit of the last minute, or a new one.
    async fn visit(&self, pick: Pick, name: &str) -> Result<Manifest> {
        if let Some(recent) = self.directory.snapshots.recent(self.linked, name).await? {
            return Ok(recent);
        }
        let mark = self.directory.snapshots.mark(self.linked).await?;
        // A visit is finished even if its caller leaves, because it holds the service's lock and must give it back.
        let (upstream, access) = (Arc::clone(&self.directory.upstream), Arc::clone(&self.linked.access));
        let visited = self.directory.accounts.opened.tasks.finish(async move { upstream.visit(&access, &pick).await }).await;
        let visit = match visited.ok_or_else(cut_short)? {
            Ok(visit) => visit,
            Err(failure) => return Err(self.note(failure).await),
        };
        self.note_good().await;
        let by_company = visit.company.as_ref().map(|company| format!("company/{}", company.id));
        let names: Vec<&str> = [Some(name), by_company.as_deref()].into_iter().flatten().collect();
        let manifest = self.directory.snapshots.keep(self.linked, visit, &names, &mark).await?;
        for (resource, part) in &manifest.parts {
            self.directory.meters.page(self.connector(), *resource, part.total());
        }
        Ok(manifest)
    }

    /// Members of a group that does not exist are not an empty list.
    async fn check_group(&self, manifest: &Manifest) -> Result<()> {
        let (Some(group), Some(_)) = (&self.group, &self.having) else { return Ok(()) };
        let groups = offered(self.linked, Resource::Group)?;
        let company = company_root(manifest.company.as_ref());
        let roots = crate::mapping::Roots { account: Some(&self.account), company: company.as_deref(), page: None };
        let part = manifest.parts.get(&Resource::Group).cloned().unwrap_or_default();
        for index in part.first..part.first + part.counts.len() {
            let piece = self.directory.snapshots.piece(self.linked, manifest, index).await?;
            for range in records_of(&piece)? {
                let mapped = groups.table.apply(&piece[range], roots, crate::mapping::Options::default(), &mut Vec::new());
                if mapped.is_ok_and(|mapped| mapped.id == *group) {
                    return Ok(());
                }
            }
        }
        Err(Error::new(Code::NotFound, "The vendor has no group with this id."))
    }

    /// The piece of a snapshot that holds the record at `offset`.
    async fn piece(&self, manifest: Manifest, offset: usize) -> Result<Batch> {
        let part = manifest.parts.get(&self.read.resource).cloned().unwrap_or_default();
        let next_company = self.next_company(&manifest);
        let lost: Vec<Warning> = manifest.refused.iter().filter(|_| offset == 0).cloned().collect();
        let company = company_root(manifest.company.as_ref());
        let Some((index, skip)) = part.locate(offset) else {
            let here = Position::Snapshot { id: manifest.id, offset };
            let (body, records) = (Bytes::new(), Records::default());
            return Ok(Batch { body, records, skip: 0, here, after: next_company, company, is_vendor_page: false, lost });
        };
        let body = self.directory.snapshots.piece(self.linked, &manifest, index).await?;
        let records: Records = records_of(&body)?.into();
        let end = offset - skip + records.ranges.len();
        let after = if end < part.total() { Some(Position::Snapshot { id: manifest.id, offset: end }) } else { next_company };
        let here = Position::Snapshot { id: manifest.id, offset: offset - skip };
        Ok(Batch { body, records, skip, here, after, company, is_vendor_page: false, lost })
    }

    fn next_company(&self, manifest: &Manifest) -> Option<Position> {
        let goes_on = self.is_per_company() && self.company.is_none() && !manifest.rest.is_empty();
        goes_on.then(|| manifest.company.clone().map(Position::After)).flatten()
    }
}

/// What kept bytes of a cursor are bound to.
fn blob_name(blob: Uuid) -> String {
    format!("cursor/{blob}")
}

/// What `$company` reads.
fn company_root(company: Option<&Company>) -> Option<String> {
    company.and_then(|company| serde_json::to_string(company).ok())
}

fn render(template: &Template, values: &BTreeMap<String, String>) -> Result<String> {
    template
        .render(crate::connector::Position::Text, |name| values.get(name).map(String::as_str))
        .map_err(|why| Error::new(Code::InvalidParameter, format!("The id cannot be used: {why}.")).field("id"))
}
