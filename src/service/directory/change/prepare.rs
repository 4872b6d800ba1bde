//! From the caller's record to what goes into the vendor's.

use serde_json::{Map, Value};

use super::{Found, Seen, Work};
use crate::{
    error::{Code, Error, Result},
    mapping::{BodyError, Change, Path, check_body},
    model::{Resource, Shape},
    service::{FilterOp, directory::filter::vendor_filter},
};

/// A checked record.
#[derive(Debug, Default)]
pub(super) struct Prepared {
    /// What goes into the vendor's record.
    pub changes: Vec<Change>,
    /// What must be shown afterwards.
    pub wanted: Map<String, Value>,
    /// The company it is for.
    pub company: Option<String>,
    /// The field and text by which the record is found.
    pub find: Option<(String, String)>,
    /// Where that text stands in the vendor's record.
    pub unique: Option<(Path, String)>,
}

impl Work<'_> {
    pub(super) fn prepare(&self) -> Result<Prepared> {
        let body = &self.ask.body;
        check(self.def.resource.shape(), body)?;
        let is_new = self.ask.id.is_none();
        // Of a record that is made, a null says as much as nothing.
        let given = body.iter().filter(|(name, value)| *name != "remote_data" && !(is_new && value.is_null()));
        let wanted: Map<String, Value> = given.map(|(name, value)| (name.clone(), value.clone())).collect();
        let Some(writes) = &self.def.writes else { return Ok(Prepared::default()) };
        let mut changes = writes.reverse.changes(&wanted).map_err(refused)?;
        if is_new {
            changes.retain(|change| !change.value.is_null());
        }
        self.check_carried(&changes)?;
        if is_new {
            self.check_required(&changes)?;
        }
        let mut companies = writes.reverse.companies(&wanted);
        let nodes = changes.iter().filter(|change| change.field.starts_with("workspaces"));
        companies.extend(nodes.filter_map(|change| Some((change.field.clone(), self.company_of(change.value.as_str()?)?))));
        let company = self.company(&companies)?;
        let find = self.find(&wanted, &changes);
        let unique =
            find.as_ref().filter(|_| !self.method.many).and_then(|(name, text)| Some((self.source_of(name)?, text.clone())));
        Ok(Prepared { changes, wanted, company, find, unique })
    }

    fn check_carried(&self, changes: &[Change]) -> Result<()> {
        let stray = changes.iter().find(|change| !self.method.by.carries(change.path.as_str()));
        stray.map_or(Ok(()), |change| {
            let why = format!("the vendor takes it at no `{}`", if self.ask.id.is_none() { "create" } else { "update" });
            Err(refused(BodyError::NotWritable { field: change.field.clone(), why }))
        })
    }

    fn check_required(&self, changes: &[Change]) -> Result<()> {
        let own = self.ask.body.get("remote_data");
        let has = |path: &String| {
            changes.iter().any(|change| change.path.as_str() == path && change.value != "")
                || own.is_some_and(|own| own.get(path).is_some())
        };
        let Some(path) = self.method.required.iter().find(|path| !has(path)) else { return Ok(()) };
        let sources = self.def.writes.iter().flat_map(|writes| writes.reverse.sources());
        let targets: Vec<&str> = sources.filter(|(_, source)| *source == path).map(|(target, _)| target).collect();
        let names: Vec<String> = targets.iter().map(|target| format!("`{target}`")).collect();
        let plural = self.def.resource.plural();
        let detail = format!("The vendor makes no {plural} without {}.", names.join(" or "));
        Err(Error::new(Code::FieldMissing, detail).field(targets.first().copied().unwrap_or(path)))
    }

    /// The text that names the record, given by its own field or by another that is the same at the vendor.
    fn find(&self, wanted: &Map<String, Value>, changes: &[Change]) -> Option<(String, String)> {
        let name = self.method.find.as_ref()?;
        let given = wanted.get(name).and_then(Value::as_str).map(str::to_owned);
        let path = self.source_of(name);
        let same = || changes.iter().find(|change| Some(&change.path) == path.as_ref())?.value.as_str().map(str::to_owned);
        Some((name.clone(), given.or_else(same)?))
    }

    fn source_of(&self, name: &str) -> Option<Path> {
        let writes = self.def.writes.as_ref()?;
        writes.reverse.sources().find(|(target, _)| *target == name).and_then(|(_, source)| Path::parse(source).ok())
    }

    /// Whether the vendor itself can be asked for the one record of this name, so that a new one is known to be new.
    pub(super) fn is_looked_up(&self, prepared: &Prepared) -> bool {
        !self.method.many && self.can_ask(prepared)
    }

    fn can_ask(&self, prepared: &Prepared) -> bool {
        let by = |name: &str| vendor_filter(self.def, self.linked, name, FilterOp::Eq).is_some();
        prepared.find.as_ref().is_some_and(|(name, _)| by(name))
    }

    /// The record of this name before one is made: where the vendor can be asked for it, or where a run before this one may
    /// have made it. Commands look for themselves.
    pub(super) async fn there_before(&self, prepared: &Prepared) -> Result<Option<Seen>> {
        if !self.is_looked_up(prepared) && !self.ask.again {
            return Ok(None);
        }
        if self.ask.again && prepared.find.is_none() {
            return Err(self.maybe_there());
        }
        match self.of_this_name(prepared, self.def.per.is_some()).await? {
            Found::One(_) if self.method.many => Err(self.maybe_there()),
            Found::Several if self.ask.again => Err(self.maybe_there()),
            found => Ok(found.one()),
        }
    }

    pub(super) async fn look_up(&self, prepared: &Prepared, in_company: bool) -> Result<Option<Seen>> {
        Ok(self.of_this_name(prepared, in_company).await?.one())
    }

    async fn of_this_name(&self, prepared: &Prepared, in_company: bool) -> Result<Found> {
        let Some((name, text)) = &prepared.find else { return Ok(Found::Nobody) };
        let lower = text.to_lowercase();
        let both: Vec<&str> = vec![text, &lower];
        let texts = if self.can_ask(prepared) || lower == *text { both[..1].to_vec() } else { both };
        let work = Work { ask: super::ChangeAsk { company: prepared.company.clone(), ..self.ask.clone() }, ..*self };
        work.search(name, &texts, in_company).await
    }
}

pub(super) fn check(shape: &'static Shape, body: &Map<String, Value>) -> Result<()> {
    if body.get("remote_data").is_some_and(|own| !own.is_object()) {
        return Err(Error::new(Code::InvalidBody, "`remote_data` takes an object.").field("remote_data"));
    }
    check_body(shape, body).map_err(refused)
}

pub(super) fn refused(error: BodyError) -> Error {
    let detail = format!("{error}.");
    match error {
        BodyError::Unknown { field, hint } => {
            let hint = hint.map(|hint| format!(" {}{}", hint[..1].to_uppercase(), &hint[1..])).unwrap_or_default();
            let stop = if hint.is_empty() || hint.ends_with('?') { "" } else { "." };
            Error::new(Code::InvalidBody, format!("There is no field `{field}`.{hint}{stop}")).field(field)
        }
        BodyError::Wrong { field, .. } => Error::new(Code::InvalidBody, detail).field(field),
        BodyError::NotWritable { field, .. } | BodyError::Conflict { field, .. } => {
            Error::new(Code::FieldNotWritable, detail).field(field)
        }
    }
}

/// A member's id, and what must be shown of it afterwards.
pub(super) fn member_body(body: &Map<String, Value>) -> Result<(String, Map<String, Value>)> {
    check(Resource::GroupMember.shape(), body)?;
    if let Some(name) = body.keys().find(|name| !matches!(name.as_str(), "id" | "type" | "remote_data")) {
        let why = "a member is named by its `id`".to_owned();
        return Err(refused(BodyError::NotWritable { field: name.clone(), why }));
    }
    let id = body.get("id").and_then(Value::as_str).filter(|id| !matches!(*id, "" | "." | ".."));
    let id = id.ok_or_else(|| Error::new(Code::FieldMissing, "`id` names the member.").field("id"))?;
    let wanted = body.iter().filter(|(name, value)| *name == "type" && !value.is_null());
    Ok((id.to_owned(), wanted.map(|(name, value)| (name.clone(), value.clone())).collect()))
}
