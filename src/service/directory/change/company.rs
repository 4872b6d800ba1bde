//! In which company a write is done, at vendors that serve many: everything that names one must name the same.

use super::{ChangeAsk, Work};
use crate::{
    connector::{Per, ResourceDef},
    error::{Code, Error, Result},
    model::Resource,
    service::{
        COMPANY_HEADER, Linked,
        directory::{Directory, no_record},
        passthrough::COMPANY,
    },
};

impl Work<'_> {
    /// The company, or none where the vendor has no such thing. `named` are the record's own fields that name it.
    pub(super) fn company(&self, named: &[(String, String)]) -> Result<Option<String>> {
        Asking { directory: self.directory, linked: self.linked, def: self.def, ask: &self.ask }.company(named)
    }

    pub(super) fn company_of(&self, id: &str) -> Option<String> {
        self.directory.upstream.company_of(&self.linked.access, id)
    }
}

/// What tells the company of a write.
pub(super) struct Asking<'a> {
    pub(super) directory: &'a Directory,
    pub(super) linked: &'a Linked,
    pub(super) def: &'a ResourceDef,
    pub(super) ask: &'a ChangeAsk,
}

impl Asking<'_> {
    /// The company, or none where the vendor has no such thing. `named` are fields that name it.
    pub(super) fn company(&self, named: &[(String, String)]) -> Result<Option<String>> {
        if self.def.per != Some(Per::Company) {
            return Ok(None);
        }
        let parent = match self.def.resource {
            Resource::GroupMember => self.ask.group.as_deref(),
            _ => self.ask.id.as_deref(),
        };
        let of_id = match parent {
            Some(id) => Some(self.company_of(id).ok_or_else(|| no_record(self.def))?),
            None => None,
        };
        let own = self.linked.access.fields.get(COMPANY).filter(|id| !id.is_empty()).cloned();
        if let (Some(of_id), Some(own)) = (&of_id, &own)
            && of_id != own
        {
            return Err(no_record(self.def));
        }
        let asked = self.ask.company.clone().map(|id| (COMPANY_HEADER.to_owned(), id));
        let mut all: Vec<(String, String)> = asked.into_iter().chain(named.iter().cloned()).collect();
        all.extend(of_id.map(|id| ("id".to_owned(), id)));
        all.extend(own.map(|id| (COMPANY.to_owned(), id)));
        let Some((_, company)) = all.last().cloned() else { return self.only_company().map(Some) };
        match all.iter().find(|(_, other)| *other != company) {
            None => Ok(Some(company)),
            Some((field, other)) => {
                let detail = format!("`{field}` names the company {other}, but the write is for the company {company}.");
                Err(Error::new(Code::InvalidParameter, detail).field(field))
            }
        }
    }

    fn company_of(&self, id: &str) -> Option<String> {
        self.directory.upstream.company_of(&self.linked.access, id)
    }

    /// The own enterprise, when it manages nobody.
    fn only_company(&self) -> Result<String> {
        let facts = &self.linked.account.facts;
        let own = facts.get("enterprise_id").and_then(serde_json::Value::as_str);
        let is_alone = facts.get("managed_companies").and_then(serde_json::Value::as_u64) == Some(0);
        own.filter(|_| is_alone).map(str::to_owned).ok_or_else(|| {
            let writes = self.def.writes.as_ref();
            let field =
                if writes.is_some() && self.def.map.contains_key("organization") { "organization" } else { "organizations" };
            let detail =
                format!("This account sees several companies: say which with `{field}` or the header `{COMPANY_HEADER}`.");
            Error::new(Code::FieldMissing, detail).field(field)
        })
    }
}
