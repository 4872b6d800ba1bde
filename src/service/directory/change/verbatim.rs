//! Writes in the vendor's own words: `/proxy` create, update and delete, and methods of the vendor's own. The body goes as it
//! is and the vendor's answer comes back as it is; nothing is read again, so that what a vendor says is all there is to say.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use serde_json::{Map, Value};

use super::{ChangeAsk, company::Asking};
use crate::{
    connector::{Method, ResourceDef, WriteBy},
    error::{Code, Error, Result},
    mapping::inexact_number,
    model::Resource,
    service::{
        COMPANY_HEADER, Linked,
        directory::{Directory, no_record, offered, refuse_query, without},
        passthrough::{not_confirmed, raw_without, taken},
    },
    upstream::{Access, Failure, Said, Upstream, VerbatimAsk, WriteAsk, WriteVerb, judge},
};

/// What is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Doing {
    /// A record is made, changed or taken away.
    Write(WriteVerb),
    /// A method of the vendor's own.
    Method(String),
}

/// A write in the vendor's own words.
#[derive(Clone, Debug, Default)]
pub struct VendorWrite {
    /// The record's id; none when one is made.
    pub id: Option<String>,
    /// The body: an object, or nothing.
    pub body: Bytes,
    /// The company the caller names.
    pub company: Option<String>,
    /// Query parameters for the vendor.
    pub remote_query: Vec<(String, String)>,
}

/// What the vendor said to it.
#[derive(Debug)]
pub struct VendorSaid {
    /// Its status.
    pub status: u16,
    /// Its words: JSON, or nothing.
    pub body: Bytes,
    /// It was a command, whose success Commander only guesses.
    pub by_command: bool,
}

/// What is sent, once everything the vendor does not have to be asked for is known.
struct Sending {
    values: BTreeMap<String, String>,
    own: Map<String, Value>,
    body: Option<Bytes>,
    remote_query: Vec<(String, String)>,
    company: Option<String>,
}

impl Directory {
    /// Does it, to its end even if the caller leaves.
    pub async fn write_verbatim(
        &self,
        linked: &Arc<Linked>,
        resource: Resource,
        doing: Doing,
        ask: VendorWrite,
    ) -> Result<VendorSaid> {
        let def = offered(linked, resource)?;
        let by = way(def, &doing).ok_or_else(|| without(def, doing.word()))?;
        let sending = self.sending(linked, def, by, &doing, ask)?;
        let (upstream, access) = (Arc::clone(&self.upstream), Arc::clone(&linked.access));
        let doing_there = doing.clone();
        let work = async move { send(&upstream, &access, resource, &doing_there, sending).await };
        match self.write_to_end(linked, work).await? {
            Ok(said) => {
                self.accounts.note_success(linked, def.resource.plural(), doing.word()).await;
                Ok(said)
            }
            Err(NoAnswer::Unconfirmed(failure)) => Err(not_confirmed(failure)),
            Err(NoAnswer::Failed(failure)) => Err(self.not_written(linked, def, &doing, failure).await),
        }
    }

    fn sending(&self, linked: &Linked, def: &ResourceDef, by: &WriteBy, doing: &Doing, ask: VendorWrite) -> Result<Sending> {
        let VendorWrite { id, body, company, remote_query } = ask;
        if matches!(id.as_deref(), Some("" | "." | "..")) {
            return Err(no_record(def));
        }
        let own = members(&body)?;
        // A command line is written anew of what was read; a request's body goes as it is.
        if let (WriteBy::Command { .. }, Some(field)) = (by, inexact_number(&body)) {
            return Err(Error::inexact(field));
        }
        let mut values: BTreeMap<String, String> = id.into_iter().map(|id| ("id".to_owned(), id)).collect();
        let mut sent = Some(body).filter(|body| !body.is_empty());
        let mut rest = own;
        if let Doing::Method(name) = doing
            && let Some(method) = def.methods.offered.get(name)
        {
            values = take(method, &mut rest)?;
            let names: Vec<&str> = method.takes.keys().map(String::as_str).collect();
            sent = sent.map(|body| raw_without(&body, &names)).transpose()?.filter(|body| !body.is_empty());
        }
        match by {
            WriteBy::Command { .. } => refuse_query(&remote_query)?,
            WriteBy::Request { body: Some(template), .. } if matches!(doing, Doing::Method(_)) => {
                let value = |name: &str| values.get(name).map(String::as_str);
                let body = template.render(&value).map_err(Error::internal)?;
                sent = Some(Bytes::from(body.to_string()));
            }
            WriteBy::Request { .. } => {}
        }
        if let (WriteBy::Command { .. }, Doing::Write(verb)) = (by, doing) {
            check_given(def, *verb, &rest)?;
        }
        let company = self.company_for(linked, def, &values, company)?;
        Ok(Sending { values, own: rest, body: sent, remote_query, company })
    }

    /// The company of a command: every id that tells one must tell the same.
    fn company_for(
        &self,
        linked: &Linked,
        def: &ResourceDef,
        values: &BTreeMap<String, String>,
        asked: Option<String>,
    ) -> Result<Option<String>> {
        let ask = ChangeAsk { id: values.get("id").cloned(), company: asked, ..ChangeAsk::default() };
        let named = values.iter().filter(|(name, _)| name.ends_with("_id"));
        let of = |id: &str| self.upstream.company_of(&linked.access, id);
        let named: Vec<_> = named.filter_map(|(name, id)| Some((name.clone(), of(id)?))).collect();
        let company = Asking { directory: self, linked, def, ask: &ask }.company(&named);
        company.map_err(|error| match error.code() {
            Code::FieldMissing => {
                let detail = format!("This account sees several companies: say which with the header `{COMPANY_HEADER}`.");
                Error::new(Code::FieldMissing, detail).field(COMPANY_HEADER)
            }
            _ => error,
        })
    }

    /// The error for a write without a good answer. What may have taken effect all the same is said to be unconfirmed.
    async fn not_written(&self, linked: &Linked, def: &ResourceDef, doing: &Doing, failure: Failure) -> Error {
        let failure = match judge(failure) {
            Ok(Said::Failed(failure) | Said::Unknown(failure)) => return not_confirmed(failure),
            Ok(Said::Done(_) | Said::Unasked) => return Error::internal("a failure that is none"),
            Err(failure) => failure,
        };
        match failure {
            Failure::Unaddressable(_) => no_record(def),
            Failure::Unsendable { field, reason } => {
                let field = field.strip_prefix("remote_data.").unwrap_or(&field).to_owned();
                Failure::Unsendable { field, reason }.into()
            }
            Failure::Answered { meaning: crate::connector::Meaning::Missing, .. }
                if *doing != Doing::Write(WriteVerb::Create) =>
            {
                let error = Error::from(failure);
                let vendor = error.vendor_answer().cloned();
                vendor.into_iter().fold(no_record(def), Error::vendor)
            }
            failure => self.accounts.note_failure(linked, def.resource.plural(), doing.word(), failure).await,
        }
    }
}

impl Doing {
    /// Its name in documents.
    pub fn word(&self) -> &str {
        match self {
            Doing::Write(verb) => verb.word(),
            Doing::Method(name) => name,
        }
    }
}

fn is_slowed(failure: &Failure) -> bool {
    matches!(failure, Failure::Answered { answer, .. } if answer.status == Some(429))
}

/// Why there is no good answer.
enum NoAnswer {
    /// What the failure means is still to be judged.
    Failed(Failure),
    /// It was sent, and may have taken effect whatever the failure is.
    Unconfirmed(Failure),
}

impl From<Failure> for NoAnswer {
    fn from(failure: Failure) -> Self {
        NoAnswer::Failed(failure)
    }
}

/// What carries it.
fn way<'d>(def: &'d ResourceDef, doing: &Doing) -> Option<&'d WriteBy> {
    match doing {
        Doing::Write(verb) => Some(&def.writes.as_ref()?.method(verb.word())?.by),
        Doing::Method(name) => def.methods.offered.get(name).map(|method| &method.by),
    }
}

async fn send(
    upstream: &Upstream,
    access: &Access,
    resource: Resource,
    doing: &Doing,
    sending: Sending,
) -> Result<VendorSaid, NoAnswer> {
    let Sending { values, own, body, remote_query, company } = sending;
    let found = access.method.resources.get(&resource).and_then(|def| Some((def, way(def, doing)?)));
    let (def, by) = found.ok_or_else(|| Failure::BadAnswer("the connector has it no more".into()))?;
    let said = match by {
        WriteBy::Request { request, .. } => {
            let answer = upstream.verbatim(access, request, &VerbatimAsk { values, body, remote_query }).await?;
            VendorSaid { status: answer.status, body: answer.body, by_command: false }
        }
        WriteBy::Command { .. } => {
            let verb = if let Doing::Write(verb) = doing { *verb } else { WriteVerb::Method };
            let changes = Vec::new();
            let ask = WriteAsk { verb, values, changes, remote_data: own, remote_query, company, unique: None };
            let answer = match upstream.command(access, def, by, &ask).await?.said {
                Said::Done(answer) => answer,
                // A command may be slowed down behind its work.
                Said::Failed(failure) if is_slowed(&failure) => {
                    return Err(NoAnswer::Unconfirmed(failure));
                }
                Said::Failed(failure) => return Err(failure.into()),
                Said::Unknown(failure) => return Err(NoAnswer::Unconfirmed(failure)),
                Said::Unasked => {
                    let reason = "it changes nothing that this vendor's command can set".to_owned();
                    return Err(Failure::Unsendable { field: "body".into(), reason }.into());
                }
            };
            VendorSaid { status: answer.status.unwrap_or(200), body: answer.body, by_command: true }
        }
    };
    match doing {
        Doing::Method(name) => Ok(cut(def.methods.offered.get(name), said)?),
        Doing::Write(_) => Ok(said),
    }
}

/// What of the answer is the result.
fn cut(method: Option<&Method>, said: VendorSaid) -> Result<VendorSaid, Failure> {
    match method.and_then(|method| method.result.as_ref()) {
        Some(path) if !said.body.is_empty() => Ok(VendorSaid { body: Bytes::from(taken(&said.body, path)?), ..said }),
        _ => Ok(said),
    }
}

fn members(body: &Bytes) -> Result<Map<String, Value>> {
    if body.is_empty() {
        return Ok(Map::new());
    }
    serde_json::from_slice(body).map_err(|_| Error::new(Code::InvalidBody, "The body must be one JSON object."))
}

/// The texts a method takes, out of the body.
fn take(method: &Method, body: &mut Map<String, Value>) -> Result<BTreeMap<String, String>> {
    let mut values = BTreeMap::new();
    for (name, about) in &method.takes {
        let text = match body.shift_remove(name) {
            Some(Value::String(text)) => text,
            Some(Value::Number(number)) => number.to_string(),
            Some(_) => return Err(Error::new(Code::InvalidBody, format!("`{name}` takes a text.")).field(name)),
            None => return Err(Error::new(Code::FieldMissing, format!("`{name}` is missing: {about}")).field(name)),
        };
        if matches!(text.as_str(), "" | "." | "..") {
            return Err(Error::new(Code::InvalidBody, format!("`{name}` names nothing.")).field(name));
        }
        values.insert(name.clone(), text);
    }
    let is_known = |name: &&String| method.may_have.as_ref().is_none_or(|known| known.contains(name));
    match body.keys().find(|name| !is_known(name)) {
        Some(name) => Err(Error::new(Code::InvalidBody, format!("This method takes no `{name}`.")).field(name)),
        None => Ok(values),
    }
}

/// Refuses a new record without what its command cannot do without.
fn check_given(def: &ResourceDef, verb: WriteVerb, body: &Map<String, Value>) -> Result<()> {
    let method = def.writes.as_ref().and_then(|writes| writes.method(verb.word()));
    let missing = method.into_iter().flat_map(|method| &method.required).find(|path| !body.contains_key(*path));
    missing.filter(|_| verb == WriteVerb::Create).map_or(Ok(()), |path| {
        let detail = format!("The vendor makes no {} without `{path}`.", def.resource.plural());
        Err(Error::new(Code::FieldMissing, detail).field(path))
    })
}
