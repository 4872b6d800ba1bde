//! Writing records into an answer: mapped or raw, as a list or keyed, and which of them.

use std::collections::BTreeSet;

use bytes::Bytes;
use serde_json::{Value, value::RawValue};

use super::{
    ListQuery, OneRecord, ResponseFormat,
    filter::{Plan, Unsaid},
    order::{Key, Order, Placed},
    walk::debug_of,
};
use crate::{
    connector::ResourceDef,
    error::{Code, Error, Result},
    mapping::{MapError, Mapping, Options, Page, Roots, append_remote_data},
    model::{Kind, Warning},
    service::members::{Members, Seen},
    service::{Linked, OneQuery},
};

/// Warnings of one answer; more of a kind say nothing new.
pub(in crate::service) const MAX_WARNINGS: usize = 50;

/// What stands around the records of an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Form {
    /// A JSON array.
    #[default]
    Array,
    /// A JSON object keyed by this field.
    KeyedBy(String),
    /// One record per line.
    Lines,
}

/// Room made at once for an answer; a larger one grows into it.
const MAX_ROOM: usize = 4 << 20;

/// How records are written.
#[derive(Clone, Debug, Default)]
pub struct Writing {
    mapped: bool,
    raw: bool,
    remote_data: bool,
    exclude: Vec<String>,
    form: Form,
}

impl Writing {
    /// The unified schema, as the caller wants it; names of fields are checked.
    pub fn unified(query: &ListQuery, def: &ResourceDef) -> Result<Writing> {
        check_fields(def, &query.exclude, query.key_by.as_deref())?;
        Ok(Writing {
            mapped: true,
            raw: query.format == ResponseFormat::Raw,
            remote_data: shows_remote_data(query.format, query.ignore_remote_data, &query.exclude),
            exclude: query.exclude.clone(),
            form: query.key_by.clone().map_or(Form::Array, Form::KeyedBy),
        })
    }

    /// The same, one record per line.
    pub fn lines(query: &ListQuery, def: &ResourceDef) -> Result<Writing> {
        Ok(Writing { form: Form::Lines, ..Writing::unified(query, def)? })
    }

    /// Whether records are mapped.
    pub fn is_mapped(&self) -> bool {
        self.mapped
    }

    /// The vendor's own records.
    pub fn vendor() -> Writing {
        Writing { raw: true, ..Writing::default() }
    }
}

fn shows_remote_data(format: ResponseFormat, ignored: bool, exclude: &[String]) -> bool {
    let wanted = !matches!(format, ResponseFormat::Raw | ResponseFormat::Normalized);
    wanted && !ignored && !exclude.iter().any(|name| name == "remote_data")
}

pub(super) fn check_fields(def: &ResourceDef, exclude: &[String], key_by: Option<&str>) -> Result<()> {
    let shape = def.resource.shape();
    for name in exclude {
        if shape.field(name).is_none() && name != "remote_data" {
            let detail = format!("`truto_exclude_fields` names `{name}`, which {} do not have.", def.resource.plural());
            return Err(Error::new(Code::InvalidParameter, detail).field("truto_exclude_fields"));
        }
    }
    let Some(name) = key_by else { return Ok(()) };
    match shape.field(name).map(|field| field.kind) {
        Some(Kind::Text | Kind::Enum(_) | Kind::Bool | Kind::Time) if !exclude.iter().any(|e| e == name) => Ok(()),
        _ => {
            let detail = format!("`truto_key_by` takes a field of one value that is not excluded, not `{name}`.");
            Err(Error::new(Code::InvalidParameter, detail).field("truto_key_by"))
        }
    }
}

/// Records that wait for their order.
struct Places {
    order: Order,
    records: Vec<(Option<Key>, Vec<u8>)>,
    bytes: usize,
}

/// Collects the records of one answer.
pub struct Writer<'a> {
    def: &'a ResourceDef,
    writing: Writing,
    plan: &'a Plan,
    out: Vec<u8>,
    scratch: Vec<u8>,
    keys: BTreeSet<String>,
    places: Option<Places>,
    /// Records written.
    pub count: usize,
    /// What a caller should know.
    pub warnings: Vec<Warning>,
    /// Fields that filters ask for and no record said.
    pub unsaid: Unsaid,
}

impl<'a> Writer<'a> {
    /// An empty answer.
    pub fn new(def: &'a ResourceDef, writing: Writing, plan: &'a Plan) -> Self {
        let out = match writing.form {
            Form::Array => vec![b'['],
            Form::KeyedBy(_) => vec![b'{'],
            Form::Lines => Vec::new(),
        };
        let (scratch, keys, warnings, unsaid) = (Vec::new(), BTreeSet::new(), Vec::new(), Unsaid::default());
        Self { def, writing, plan, out, scratch, keys, places: None, count: 0, warnings, unsaid }
    }

    /// Writes nothing yet, but keeps the records until their order is known.
    pub fn placing(def: &'a ResourceDef, plan: &'a Plan, order: Order) -> Self {
        let writing = Writing { mapped: true, ..Writing::default() };
        let places = Some(Places { order, records: Vec::new(), bytes: 0 });
        Self { places, ..Self::new(def, writing, plan) }
    }

    /// The size of what is kept.
    pub fn kept_bytes(&self) -> usize {
        self.places.as_ref().map_or(0, |places| places.bytes)
    }

    /// What was kept, in order, as a JSON array for [`Writer::take_placed`].
    pub fn in_order(self) -> Bytes {
        let Some(Places { order, mut records, bytes }) = self.places else { return Bytes::from_static(b"[]") };
        records.sort_by(|(a, _), (b, _)| order.compare(a.as_ref(), b.as_ref()));
        let mut list = Vec::with_capacity(bytes + records.len() + 2);
        list.push(b'[');
        for (index, (_, record)) in records.into_iter().enumerate() {
            if index > 0 {
                list.push(b',');
            }
            list.extend_from_slice(&record);
        }
        list.push(b']');
        list.into()
    }

    /// Begins with the records of one batch.
    pub fn begin<'r>(&self, roots: Roots<'r>) -> Result<Mapping<'r>>
    where
        'a: 'r,
    {
        self.def.table.begin(roots).map_err(|why| bad_record(self.def, &why))
    }

    /// Makes room for the records of a page of this size: mapped and with the vendor's own form they are about twice as large.
    pub fn expect(&mut self, bytes: usize) {
        if self.plan.is_empty() && self.places.is_none() {
            self.out.reserve((bytes * 5 / 2).min(MAX_ROOM));
        }
    }

    /// Maps a record, and writes it if it is `wanted` and satisfies the filters. Returns the record's id (or, unmapped, its
    /// text) for loop detection.
    pub fn take(&mut self, mapping: &mut Mapping<'_>, page: Page<'_>, index: usize, wanted: bool) -> Result<String> {
        let record = &page.text.as_bytes()[page.records.ranges[index].clone()];
        if !self.writing.mapped {
            if wanted {
                let start = self.separate();
                self.out.extend_from_slice(record);
                self.end(start);
            }
            return Ok(String::from_utf8_lossy(record).into_owned());
        }
        if wanted && self.writes_unread() {
            return self.write_mapped(mapping, page, index);
        }
        self.scratch.clear();
        let mapped = mapping.apply_to(page, index, Options::default(), &mut self.scratch);
        let mapped = mapped.map_err(|why| bad_record(self.def, &why))?;
        if wanted {
            let scratch = std::mem::take(&mut self.scratch);
            let judged = self.judge(record, &scratch, mapped.warnings);
            self.scratch = scratch;
            judged?;
        }
        Ok(mapped.id)
    }

    /// Writes or keeps the record, whose unified form is `mapped`, if it satisfies the filters.
    fn judge(&mut self, record: &[u8], mapped: &[u8], warnings: Vec<Warning>) -> Result<()> {
        let members: Members<'_> = serde_json::from_slice(mapped).map_err(Error::internal)?;
        self.unsaid.look(self.plan, &members);
        if !self.plan.holds(&members) {
            return Ok(());
        }
        match self.places.is_some() {
            true => self.place(record, mapped, &members, warnings),
            false => self.write_judged(record, mapped, &members, warnings),
        }
    }

    /// Keeps a record until its place is known.
    fn place(&mut self, record: &[u8], mapped: &[u8], members: &Members<'_>, warnings: Vec<Warning>) -> Result<()> {
        let Some(places) = &mut self.places else { return Ok(()) };
        let unified: &RawValue = serde_json::from_slice(mapped).map_err(Error::internal)?;
        let record: &RawValue = serde_json::from_slice(record).map_err(Error::internal)?;
        let placed = serde_json::to_vec(&Placed { unified, record, warnings }).map_err(Error::internal)?;
        places.bytes += placed.len();
        places.records.push((places.order.key(self.def, members), placed));
        self.count += 1;
        Ok(())
    }

    /// Writes a record that was put in its place before.
    pub fn take_placed(&mut self, bytes: &[u8]) -> Result<()> {
        let placed: Placed<'_> = serde_json::from_slice(bytes).map_err(Error::internal)?;
        let members: Members<'_> = serde_json::from_str(placed.unified.get()).map_err(Error::internal)?;
        self.write_judged(placed.record.get().as_bytes(), placed.unified.get().as_bytes(), &members, placed.warnings)
    }

    fn writes_unread(&self) -> bool {
        let keyed = matches!(self.writing.form, Form::KeyedBy(_));
        self.plan.is_empty() && self.places.is_none() && !keyed && !self.writing.raw
    }

    /// Nothing has to be looked at: the record is mapped straight into the answer.
    fn write_mapped(&mut self, mapping: &mut Mapping<'_>, page: Page<'_>, index: usize) -> Result<String> {
        let start = self.separate();
        let options = Options { remote_data: self.writing.remote_data, exclude: &self.writing.exclude };
        let mapped = mapping.apply_to(page, index, options, &mut self.out).map_err(|why| bad_record(self.def, &why))?;
        self.end(start);
        mapped.warnings.into_iter().for_each(|warning| self.warn(warning));
        Ok(mapped.id)
    }

    /// Writes the record, whose unified form is `mapped`, as the caller wants it, without mapping it again.
    fn write_judged(&mut self, record: &[u8], mapped: &[u8], members: &Members<'_>, warnings: Vec<Warning>) -> Result<()> {
        warnings.into_iter().for_each(|warning| self.warn(warning));
        let start = self.separate();
        if let Form::KeyedBy(field) = self.writing.form.clone() {
            self.write_key(&field, members)?;
        }
        match (self.writing.raw, self.writing.exclude.as_slice()) {
            (true, _) => self.out.extend_from_slice(record),
            (false, []) => self.out.extend_from_slice(mapped),
            (false, exclude) => {
                serde_json::to_writer(&mut self.out, &members.without(exclude)).map_err(Error::internal)?;
            }
        }
        if self.writing.remote_data {
            append_remote_data(record, &mut self.out);
        }
        self.end(start);
        Ok(())
    }

    /// A key that is missing or taken falls back to the record's id, so that no record is lost.
    fn write_key(&mut self, field: &str, members: &Members<'_>) -> Result<()> {
        let text = |value: &RawValue| match Seen::of(value) {
            Seen::Text(text) => Some(text.into_owned()),
            Seen::Null => None,
            _ => Some(value.get().to_owned()),
        };
        let wanted = members.get(field).and_then(text);
        let key = match wanted.filter(|key| !self.keys.contains(key)) {
            Some(key) => key,
            None => {
                self.warn(Warning {
                    code: "key_not_unique".to_owned(),
                    message: format!("Some records have no `{field}` of their own; they are keyed by `id`."),
                    field: Some(field.to_owned()),
                });
                let id = members.get("id").and_then(text).unwrap_or_default();
                if self.keys.contains(&id) { format!("{id}#{}", self.count) } else { id }
            }
        };
        serde_json::to_writer(&mut self.out, &key).map_err(Error::internal)?;
        self.out.push(b':');
        self.keys.insert(key);
        Ok(())
    }

    /// Where the next record begins.
    fn separate(&mut self) -> usize {
        if self.count > 0 && self.writing.form != Form::Lines {
            self.out.push(b',');
        }
        self.out.len()
    }

    /// Counts the record that began there. A line breaks nowhere but at its end: within JSON, breaks are white space.
    fn end(&mut self, start: usize) {
        self.count += 1;
        if self.writing.form == Form::Lines {
            self.out[start..].iter_mut().filter(|byte| matches!(byte, b'\n' | b'\r')).for_each(|byte| *byte = b' ');
            self.out.push(b'\n');
        }
    }

    /// Adds a warning unless it was said already.
    pub fn warn(&mut self, warning: Warning) {
        if self.warnings.len() < MAX_WARNINGS && !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }

    /// The finished text and the warnings.
    pub fn finish(mut self) -> (Vec<u8>, Vec<Warning>) {
        match self.writing.form {
            Form::Array => self.out.push(b']'),
            Form::KeyedBy(_) => self.out.push(b'}'),
            Form::Lines => {}
        }
        (self.out, self.warnings)
    }

    /// The record of a list of one.
    pub fn only_record(mut list: Vec<u8>) -> Vec<u8> {
        list.pop();
        list.remove(0);
        list
    }
}

/// Writes a single record as the caller wants it.
pub fn write_one(def: &ResourceDef, record: &[u8], roots: Roots<'_>, query: &OneQuery) -> Result<OneRecord> {
    check_fields(def, &query.exclude, None)?;
    let remote_data = shows_remote_data(query.format, query.ignore_remote_data, &query.exclude);
    let mut body = Vec::with_capacity(record.len() * 2);
    let mapped = def.table.apply(record, roots, Options { remote_data, exclude: &query.exclude }, &mut body);
    let mapped = mapped.map_err(|why| bad_record(def, &why))?;
    if query.format == ResponseFormat::Raw {
        body = record.to_vec();
    }
    let debug = (query.format == ResponseFormat::Debug).then(|| debug_of(def.resource, Some(1), 1, None));
    Ok(OneRecord { body, warnings: mapped.warnings, debug })
}

/// What `$account` reads: the account's facts and its own label.
pub fn account_root(linked: &Linked) -> String {
    let mut root = linked.account.facts.clone();
    root.insert("id".to_owned(), Value::String(linked.account.id.to_string()));
    root.insert("tenant_id".to_owned(), Value::String(linked.account.tenant_id.clone()));
    Value::Object(root).to_string()
}

fn bad_record(def: &ResourceDef, why: &MapError) -> Error {
    Error::new(Code::VendorBadAnswer, format!("A record of the vendor's {} cannot be mapped: {why}.", def.resource.plural()))
}
