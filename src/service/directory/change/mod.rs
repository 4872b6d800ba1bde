//! Unified writes: a record in the unified schema goes to the vendor by the map turned round, is read again, and the answer
//! is what is really there.

mod assignment;
mod company;
mod prepare;
mod show;
mod truth;
mod verbatim;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde_json::{Map, Value};

pub use self::verbatim::{Doing, VendorSaid, VendorWrite};
use self::{
    prepare::{Prepared, member_body},
    show::{Seen, show},
    truth::{Told, told_error},
};
use super::{
    Directory, ListQuery, OneRecord, no_record, offered, refuse_query,
    source::Source,
    walk::Walk,
    without,
    write::{Writer, Writing, account_root, check_fields},
};
use crate::{
    connector::{Get, ResourceDef, Transport, WriteBy, WriteMethod},
    error::{Code, Error, Result},
    mapping::{Options, Roots, not_shown},
    model::{Resource, Warning},
    service::{Filter, FilterOp, Linked, OneQuery},
    upstream::{Failure, Said, WriteAsk, WriteVerb, Written},
};

/// A vendor that answers a read from a copy may need this long to show what it has just taken.
const LOOKS: [Duration; 2] = [Duration::from_millis(250), Duration::from_millis(1000)];

/// What a caller wants written.
#[derive(Clone, Debug, Default)]
pub struct ChangeAsk {
    /// The record's id; none when one is made.
    pub id: Option<String>,
    /// The group of a member.
    pub group: Option<String>,
    /// The record in the unified schema, with the vendor's own members under `remote_data`.
    pub body: Map<String, Value>,
    /// How the answer is written.
    pub query: OneQuery,
    /// The company the caller names.
    pub company: Option<String>,
    /// What the record is made of, where it has no id of its own at the vendor: `user_id`, `role_id`.
    pub parts: BTreeMap<String, String>,
    /// A run before this one was cut off: it may have taken effect.
    pub again: bool,
}

/// A write on its way.
struct Work<'a> {
    directory: &'a Directory,
    linked: &'a Linked,
    def: &'a ResourceDef,
    method: &'a WriteMethod,
    ask: ChangeAsk,
}

/// What a search found.
enum Found {
    Nobody,
    One(Seen),
    /// Nothing says which of them is meant.
    Several,
}

impl Found {
    fn one(self) -> Option<Seen> {
        match self {
            Found::One(seen) => Some(seen),
            Found::Nobody | Found::Several => None,
        }
    }
}

impl Directory {
    /// Makes a record, or adds a member to a group.
    pub async fn create(&self, linked: &Linked, resource: Resource, ask: ChangeAsk) -> Result<OneRecord> {
        Box::pin(self.work(linked, resource, WriteVerb::Create, ask)?.create()).await
    }

    /// Changes a record.
    pub async fn update(&self, linked: &Linked, resource: Resource, ask: ChangeAsk) -> Result<OneRecord> {
        Box::pin(self.work(linked, resource, WriteVerb::Update, ask)?.update()).await
    }

    /// Takes a record away, or a member out of a group.
    pub async fn delete(&self, linked: &Linked, resource: Resource, ask: ChangeAsk) -> Result<Vec<Warning>> {
        Box::pin(self.work(linked, resource, WriteVerb::Delete, ask)?.delete()).await
    }

    fn work<'a>(&'a self, linked: &'a Linked, resource: Resource, verb: WriteVerb, ask: ChangeAsk) -> Result<Work<'a>> {
        let def = offered(linked, resource)?;
        check_fields(def, &ask.query.exclude, None)?;
        let method = def.writes.as_ref().and_then(|writes| writes.method(verb.word()));
        let method = method.ok_or_else(|| without(def, verb.word()))?;
        if matches!(method.by, WriteBy::Command { .. }) {
            refuse_query(&ask.query.remote_query)?;
        }
        // Such ids would change a path, so no vendor has a record of that name.
        let is_odd = |id: &Option<String>| id.as_deref().is_some_and(|id| matches!(id, "" | "." | ".."));
        if is_odd(&ask.id) || is_odd(&ask.group) {
            return Err(no_record(def));
        }
        Ok(Work { directory: self, linked, def, method, ask })
    }
}

impl Work<'_> {
    async fn create(mut self) -> Result<OneRecord> {
        if self.def.resource == Resource::GroupMember {
            let (id, wanted) = member_body(&self.ask.body)?;
            self.ask.id = Some(id);
            return self.add(wanted).await;
        }
        if self.def.resource == Resource::RoleAssignment {
            return Box::pin(self.assign()).await;
        }
        let prepared = self.prepare()?;
        let there = self.there_before(&prepared).await?;
        if let Some(seen) = there {
            return self.already_there(seen);
        }
        let Written { said, record, before } = self.send(WriteVerb::Create, &prepared).await?;
        let (told, is_new) = (Told::of(said), before.is_some() || self.is_looked_up(&prepared));
        let seen = match record.and_then(|record| self.id_of(&record)) {
            Some(id) => self.read_until(&id, &prepared.wanted).await,
            None => self.look_up(&prepared, true).await,
        };
        let seen = match seen {
            Ok(seen) => seen,
            Err(error) => return Err(told.unconfirmed(Some(&error))),
        };
        match seen {
            Some(seen) if told.is_done() || is_new => self.shown(seen, &prepared.wanted, &told),
            Some(_) => Err(told.unconfirmed(None)),
            None => Err(told.nothing_there(self.def)),
        }
    }

    async fn update(self) -> Result<OneRecord> {
        let prepared = self.prepare()?;
        let id = self.ask.id.clone().unwrap_or_default();
        let read_before = match self.linked.access.method.transport {
            Transport::Rest => Some(self.read(&id).await?.ok_or_else(|| no_record(self.def))?.value),
            // These read for themselves what they change.
            Transport::Scim | Transport::KeeperCommander => None,
        };
        let Written { said, before, .. } = self.send(WriteVerb::Update, &prepared).await?;
        let told = Told::of(said);
        let seen = match self.read_until(&id, &prepared.wanted).await {
            Ok(seen) => seen,
            Err(error) if matches!(told, Told::Unasked) => return Err(error),
            Err(error) => return Err(told.unconfirmed(Some(&error))),
        };
        let seen = seen.ok_or_else(|| no_record(self.def))?;
        let missing = not_shown(&prepared.wanted, &seen.value);
        let before = before.and_then(|before| self.one_of(&before, &id, prepared.company.as_deref())).or(read_before);
        let touched = touched(&prepared.wanted, before.as_ref(), &seen.value);
        // What became of the vendor's own members cannot be seen in a record of ours.
        let is_unseen = self.ask.body.contains_key("remote_data") && missing.is_empty();
        match &told {
            Told::Failed(error) if is_unseen && touched.is_empty() => Err(error.clone()),
            Told::Failed(_) | Told::Unknown(_) if is_unseen => Err(told.own_unconfirmed()),
            _ if missing.is_empty() => self.shown(seen, &prepared.wanted, &told),
            Told::Done(_) if touched.is_empty() => Err(told.not_taken(self.def, &missing)),
            Told::Done(_) | Told::Unasked => self.shown(seen, &prepared.wanted, &told),
            Told::Failed(error) if touched.is_empty() => Err(error.clone()),
            Told::Failed(_) => Err(told.partial(&touched, &missing)),
            Told::Unknown(_) => Err(told.unconfirmed(None)),
        }
    }

    async fn delete(self) -> Result<Vec<Warning>> {
        if self.def.resource == Resource::RoleAssignment {
            return Box::pin(self.unassign()).await;
        }
        let id = self.ask.id.clone().unwrap_or_default();
        let is_member = self.def.resource == Resource::GroupMember;
        if is_member && self.linked.access.method.transport != Transport::KeeperCommander && self.read(&id).await?.is_none() {
            return Err(no_record(self.def));
        }
        let prepared = Prepared { company: self.company(&[])?, ..Prepared::default() };
        let Written { said, before, .. } = self.send(WriteVerb::Delete, &prepared).await?;
        if before.as_ref().is_some_and(|before| self.one_of(before, &id, prepared.company.as_deref()).is_none()) {
            return Err(no_record(self.def));
        }
        let told = Told::of(said);
        let mut seen = self.read(&id).await;
        for pause in self.looks() {
            if told.is_done() && matches!(&seen, Ok(Some(seen)) if !self.is_left(seen)) {
                tokio::time::sleep(*pause).await;
                seen = self.read(&id).await;
            }
        }
        match seen {
            // A group that is gone has no members either; what is asked is about the member.
            Err(error) if is_member && error.code() == Code::NotFound => Err(error),
            Err(error) => Err(told.unconfirmed(Some(&error))),
            Ok(None) => Ok(told.warnings()),
            Ok(Some(seen)) if self.is_left(&seen) && told.is_done() => Ok(vec![self.kept(&seen)]),
            Ok(Some(_)) => Err(told.still_there(self.def)),
        }
    }

    /// Adds a member; one that is in the group already stays, and some servers would list it twice.
    async fn add(self, wanted: Map<String, Value>) -> Result<OneRecord> {
        let prepared = Prepared { company: self.company(&[])?, wanted, ..Prepared::default() };
        let id = self.ask.id.clone().unwrap_or_default();
        if self.linked.access.method.transport != Transport::KeeperCommander
            && let Some(seen) = self.read(&id).await?
        {
            return self.shown(seen, &prepared.wanted, &Told::Unasked);
        }
        let told = Told::of(self.send(WriteVerb::Create, &prepared).await?.said);
        match self.read_until(&id, &prepared.wanted).await {
            Ok(Some(seen)) => self.shown(seen, &prepared.wanted, &told),
            Ok(None) => Err(told.nothing_there(self.def)),
            Err(error) if error.code() == Code::NotFound => Err(error),
            Err(error) => Err(told.unconfirmed(Some(&error))),
        }
    }

    /// Sends the write.
    async fn send(&self, verb: WriteVerb, prepared: &Prepared) -> Result<Written> {
        let values = [("id", &self.ask.id), ("group_id", &self.ask.group)];
        let values = values.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value.clone()?)));
        let remote_data = self.ask.body.get("remote_data").and_then(Value::as_object).cloned().unwrap_or_default();
        let ask = WriteAsk {
            verb,
            values: values.chain(self.ask.parts.clone()).collect(),
            changes: prepared.changes.clone(),
            remote_data,
            remote_query: self.ask.query.remote_query.clone(),
            company: prepared.company.clone(),
            unique: prepared.unique.clone(),
        };
        let (upstream, access) = (Arc::clone(&self.directory.upstream), Arc::clone(&self.linked.access));
        let resource = self.def.resource;
        let work = async move {
            let def = access.method.resources.get(&resource);
            let method = def.and_then(|def| def.writes.as_ref()?.method(verb.word()).map(|method| (def, method)));
            match method {
                Some((def, method)) => Box::pin(upstream.write(&access, def, method, &ask)).await,
                None => Err(Failure::BadAnswer("the connector writes it no more".into())),
            }
        };
        match self.directory.write_to_end(self.linked, work).await? {
            Ok(written) => {
                if matches!(written.said, Said::Done(_)) {
                    self.directory.accounts.note_success(self.linked, self.def.resource.plural(), verb.word()).await;
                }
                Ok(written)
            }
            Err(failure) => Err(self.refused(verb, failure).await),
        }
    }

    /// The error for a write that had no effect.
    async fn refused(&self, verb: WriteVerb, failure: Failure) -> Error {
        if matches!(failure, Failure::Unaddressable(_)) {
            return no_record(self.def);
        }
        let status = match &failure {
            Failure::Answered { answer, .. } => answer.status,
            _ => None,
        };
        let error = self.directory.accounts.note_failure(self.linked, self.def.resource.plural(), verb.word(), failure).await;
        told_error(self.def, verb, status, error)
    }

    /// The record as it is now, whole.
    async fn read(&self, id: &str) -> Result<Option<Seen>> {
        let found = match (&self.def.get, &self.ask.group) {
            (Some(Get::Request { .. }), None) => {
                self.directory.get(self.linked, self.def.resource, id, OneQuery::default()).await
            }
            _ => return Ok(self.search("id", &[id], false).await?.one()),
        };
        match found {
            Ok(record) => Seen::read(record).map(Some),
            Err(error) if error.code() == Code::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The same, looked at again for a moment while it is not as wanted.
    async fn read_until(&self, id: &str, wanted: &Map<String, Value>) -> Result<Option<Seen>> {
        let mut seen = self.read(id).await;
        for pause in self.looks() {
            let is_as_wanted = match &seen {
                Ok(Some(seen)) => not_shown(wanted, &seen.value).is_empty(),
                Ok(None) => false,
                Err(_) => true,
            };
            if is_as_wanted {
                break;
            }
            tokio::time::sleep(*pause).await;
            seen = self.read(id).await;
        }
        seen
    }

    /// Commands are read back from the service that executed them; it has no copies.
    fn looks(&self) -> &'static [Duration] {
        match self.linked.access.method.transport {
            Transport::KeeperCommander => &[],
            Transport::Rest | Transport::Scim => &LOOKS,
        }
    }

    /// The records whose field has one of these texts.
    async fn search(&self, field: &str, texts: &[&str], in_company: bool) -> Result<Found> {
        let values: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
        let op = if values.len() == 1 { FilterOp::Eq } else { FilterOp::In };
        let filters = vec![Filter { field: field.to_owned(), op, values }];
        // An id means one record, however often a vendor lists it.
        let limit = if field == "id" { 1 } else { 2 };
        let list = ListQuery { limit: Some(limit), filters, ..ListQuery::default() };
        let (def, group) = (self.def, self.ask.group.as_deref());
        let mut source = Source::new(self.directory, self.linked, def, group, def.resource.plural())?;
        if source.is_visited() && def.per.is_some() {
            let company = match in_company {
                true => self.company(&[])?,
                false => self.directory.upstream.company_of(&self.linked.access, group.unwrap_or(texts[0])),
            };
            match company {
                Some(company) => source.limit_to(company),
                None => return Ok(Found::Nobody),
            }
        }
        let writing = Writing::unified(&list, def)?;
        let page = Box::pin(Walk::new(source, list, writing)?.run()).await?;
        if page.count == 0 && !page.complete {
            let lost = page.warnings.first().map(|warning| warning.message.clone()).unwrap_or_default();
            return Err(Error::new(Code::VendorDenied, lost));
        }
        match page.count {
            0 if page.next_cursor.is_none() => Ok(Found::Nobody),
            1 if page.next_cursor.is_none() || field == "id" => {
                let record = OneRecord { body: Writer::only_record(page.result), warnings: page.warnings, debug: None };
                Seen::read(record).map(Found::One)
            }
            _ => Ok(Found::Several),
        }
    }

    /// The one of this id among raw records, in the unified schema.
    fn one_of(&self, records: &bytes::Bytes, id: &str, company: Option<&str>) -> Option<Value> {
        let company = serde_json::json!({ "id": company }).to_string();
        let account = account_root(self.linked);
        let roots = Roots { account: Some(&account), company: Some(&company), page: None };
        let ranges = super::snapshot::records_of(records).unwrap_or_default();
        ranges.into_iter().find_map(|range| {
            let mut record = Vec::new();
            let mapped = self.def.table.apply(&records[range], roots, Options::default(), &mut record).ok()?;
            serde_json::from_slice(&record).ok().filter(|_| mapped.id == id)
        })
    }

    /// The id in the vendor's answer to a write.
    fn id_of(&self, record: &[u8]) -> Option<String> {
        let account = account_root(self.linked);
        let roots = Roots { account: Some(&account), ..Roots::default() };
        self.def.table.apply(record, roots, Options::default(), &mut Vec::new()).ok().map(|mapped| mapped.id)
    }

    /// The answer: the record as it is, with what a caller must know.
    fn shown(&self, seen: Seen, wanted: &Map<String, Value>, told: &Told) -> Result<OneRecord> {
        let mut warnings = told.warnings();
        for name in not_shown(wanted, &seen.value) {
            warnings.push(Warning {
                code: "field_not_taken".into(),
                message: format!("The vendor did not take `{name}` as it was sent; the record shows what is there."),
                field: Some(name.to_owned()),
            });
        }
        show(seen, self.def.resource, &self.ask.query, warnings)
    }

    /// Whether the record is as the vendor leaves deleted ones.
    fn is_left(&self, seen: &Seen) -> bool {
        let leaves = &self.method.leaves;
        !leaves.is_empty() && leaves.iter().all(|(name, word)| seen.value.get(name).and_then(Value::as_str) == Some(word))
    }

    fn kept(&self, seen: &Seen) -> Warning {
        let states: BTreeMap<_, _> = self.method.leaves.keys().map(|name| (name, &seen.value[name])).collect();
        let states: Vec<String> = states.into_iter().map(|(name, value)| format!("`{name}` is {value}")).collect();
        let message = format!("The vendor keeps the record; {}.", states.join(", "));
        Warning { code: "kept_by_vendor".into(), message, field: None }
    }

    /// A run before this one was cut off, and names tell nothing of who made what.
    fn maybe_there(&self) -> Error {
        let plural = self.def.resource.plural();
        let detail = format!(
            "A call with this idempotency key that was cut off may have made it, and nothing tells it from the vendor's other {plural}."
        );
        Error::new(Code::WriteUnconfirmed, detail)
    }

    fn already_there(&self, seen: Seen) -> Result<OneRecord> {
        if !self.ask.again {
            let id = seen.value["id"].as_str().unwrap_or_default();
            let detail = format!("Among the vendor's {} there is one of this name: `{id}`.", self.def.resource.plural());
            return Err(Error::new(Code::AlreadyExists, detail));
        }
        let message = "A call with this idempotency key that was cut off may have made it; it was there already.".to_owned();
        let warning = Warning { code: "already_there".into(), message, field: None };
        show(seen, self.def.resource, &self.ask.query, vec![warning])
    }
}

/// The wanted fields that are not as they were. What stood there before says nothing of what a write did, and what the vendor
/// keeps in a form of its own was taken all the same.
fn touched<'w>(wanted: &'w Map<String, Value>, before: Option<&Value>, after: &Value) -> Vec<&'w str> {
    let Some(before) = before else {
        let missing = not_shown(wanted, after);
        return wanted.keys().map(String::as_str).filter(|name| !missing.contains(name)).collect();
    };
    let known = |name: &String| (name.clone(), before.get(name).cloned().unwrap_or_default());
    let before: Map<String, Value> = wanted.keys().map(known).collect();
    let changed = not_shown(&before, after);
    wanted.keys().map(String::as_str).filter(|name| changed.contains(name)).collect()
}
