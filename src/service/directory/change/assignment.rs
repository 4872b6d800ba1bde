//! Roles given to users and taken from them: an assignment is made of the two and has no record of its own to be changed.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{
    Work,
    prepare::{Prepared, check, refused},
    show::Seen,
    truth::Told,
};
use crate::{
    connector::{Per, Transport},
    error::{Code, Error, Result},
    mapping::{BodyError, not_shown},
    model::{Resource, Warning},
    service::{
        Filter, FilterOp, ListQuery, OneRecord,
        directory::{
            no_record,
            source::Source,
            walk::Walk,
            write::{Writer, Writing},
        },
    },
    upstream::WriteVerb,
};

/// What an assignment is made of, as it is named in requests and commands.
const PARTS: [&str; 2] = ["user_id", "role_id"];

impl Work<'_> {
    /// Gives the role; one who holds it already keeps it.
    pub(super) async fn assign(mut self) -> Result<OneRecord> {
        let wanted = assignment_body(&self.ask.body)?;
        let text = |name: &str| wanted.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        self.ask.parts = PARTS.into_iter().map(|name| (name.to_owned(), text(name))).collect();
        let company = self.company_of_parts()?;
        let prepared = Prepared { company, wanted, ..Prepared::default() };
        let told = Told::of(self.send(WriteVerb::Create, &prepared).await?.said);
        let mut seen = self.find_parts(prepared.company.as_deref()).await;
        for pause in self.looks() {
            if matches!(&seen, Ok(None))
                || matches!(&seen, Ok(Some(seen)) if !not_shown(&prepared.wanted, &seen.value).is_empty())
            {
                tokio::time::sleep(*pause).await;
                seen = self.find_parts(prepared.company.as_deref()).await;
            }
        }
        match seen {
            Ok(Some(seen)) => self.shown(seen, &prepared.wanted, &told),
            Ok(None) => Err(told.nothing_there(self.def)),
            Err(error) => Err(told.unconfirmed(Some(&error))),
        }
    }

    /// Takes the role away.
    pub(super) async fn unassign(mut self) -> Result<Vec<Warning>> {
        let id = self.ask.id.clone().unwrap_or_default();
        let company = self.company(&[])?;
        let held = self.read(&id).await?.ok_or_else(|| no_record(self.def))?;
        let part = |name: &str| Some((name.to_owned(), held.value.get(name)?.as_str()?.to_owned()));
        let parts: BTreeMap<String, String> = PARTS.into_iter().filter_map(part).collect();
        if parts.len() < PARTS.len() {
            let detail = "The role is held by a group, not by a user; roles are taken from users here. Change it at the vendor.";
            return Err(Error::new(Code::FieldNotWritable, detail).field("id"));
        }
        self.ask.parts = parts;
        let told = Told::of(self.send(WriteVerb::Delete, &Prepared { company, ..Prepared::default() }).await?.said);
        let mut seen = self.read(&id).await;
        for pause in self.looks() {
            if told.is_done() && matches!(&seen, Ok(Some(_))) {
                tokio::time::sleep(*pause).await;
                seen = self.read(&id).await;
            }
        }
        match seen {
            Err(error) => Err(told.unconfirmed(Some(&error))),
            Ok(None) => Ok(told.warnings()),
            Ok(Some(_)) => Err(told.still_there(self.def)),
        }
    }

    /// The one company of user and role. An id that tells none could mean somebody else at a vendor that also takes names.
    fn company_of_parts(&self) -> Result<Option<String>> {
        if self.def.per != Some(Per::Company) || self.linked.access.method.transport != Transport::KeeperCommander {
            return self.company(&[]);
        }
        let mut named = Vec::new();
        for (name, id) in &self.ask.parts {
            let why = "it is not an id of this vendor's".to_owned();
            let company = self.company_of(id).filter(|_| id.bytes().all(|byte| byte.is_ascii_digit()));
            let company = company.ok_or_else(|| refused(BodyError::NotWritable { field: name.clone(), why }))?;
            named.push((name.clone(), company));
        }
        self.company(&named)
    }

    /// The assignment as it is now.
    async fn find_parts(&self, company: Option<&str>) -> Result<Option<Seen>> {
        let filter = |(name, id): (&String, &String)| Filter { field: name.clone(), op: FilterOp::Eq, values: vec![id.clone()] };
        let filters = self.ask.parts.iter().map(filter).collect();
        let list = ListQuery { limit: Some(1), filters, ..ListQuery::default() };
        let mut source = Source::new(self.directory, self.linked, self.def, None, self.def.resource.plural())?;
        if let Some(company) = company {
            source.limit_to(company.to_owned());
        }
        let writing = Writing::unified(&list, self.def)?;
        let page = Walk::new(source, list, writing)?.run().await?;
        if page.count == 0 {
            let lost = page.warnings.first().filter(|_| !page.complete);
            return lost.map_or(Ok(None), |lost| Err(Error::new(Code::VendorDenied, &lost.message)));
        }
        Seen::read(OneRecord { body: Writer::only_record(page.result), warnings: page.warnings, debug: None }).map(Some)
    }
}

/// The two ids, and nothing else that could not be written.
fn assignment_body(body: &Map<String, Value>) -> Result<Map<String, Value>> {
    check(Resource::RoleAssignment.shape(), body)?;
    if let Some(name) = body.keys().find(|name| !PARTS.contains(&name.as_str()) && *name != "remote_data") {
        let why = "an assignment is named by its `user_id` and `role_id`".to_owned();
        return Err(refused(BodyError::NotWritable { field: name.clone(), why }));
    }
    for name in PARTS {
        let is_given = body.get(name).and_then(Value::as_str).is_some_and(|id| !matches!(id, "" | "." | ".."));
        if !is_given {
            return Err(Error::new(Code::FieldMissing, format!("`{name}` says which {}.", &name[..4])).field(name));
        }
    }
    Ok(body.iter().filter(|(name, _)| *name != "remote_data").map(|(name, value)| (name.clone(), value.clone())).collect())
}
