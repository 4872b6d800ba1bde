//! The compiled table.

use std::{borrow::Cow, collections::BTreeMap, fmt::Display};

use super::{
    Records, RuleFile,
    compile::Compiler,
    plan::Member,
    text::{depth_within, text_of},
    trie::{Cell, Scope, Sheet},
    write::Writer,
};
use crate::model::{Shape, Warning};

/// A map, compiled.
#[derive(Debug)]
pub struct Table {
    record: Scope,
    roots: [Scope; 3],
    members: Vec<Member>,
    sources: Vec<String>,
}

/// Why a map does not compile.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{target}: {message}")]
pub struct RuleError {
    /// The target path whose rule is wrong.
    pub target: String,
    /// What is wrong with it.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
}

/// Why a record does not map.
#[derive(Debug, thiserror::Error)]
pub enum MapError {
    /// The bytes are not JSON.
    #[error("not JSON: {0}")]
    NotJson(String),
    /// The bytes are JSON of another shape.
    #[error("unexpected shape: {0}")]
    Shape(String),
    /// A required target got no value.
    #[error("the record has no {0}")]
    Missing(String),
}

/// What paths beginning with `$` read: `$account.…`, `$company.…`, `$page.…`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Roots<'a> {
    /// JSON object text.
    pub account: Option<&'a str>,
    /// JSON object text.
    pub company: Option<&'a str>,
    /// JSON object text.
    pub page: Option<&'a str>,
}

/// How a record is written.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options<'a> {
    /// Append the vendor's own record as `remote_data`, byte for byte.
    pub remote_data: bool,
    /// Top-level fields to leave out.
    pub exclude: &'a [String],
}

/// A page whose records are read.
#[derive(Clone, Copy)]
pub struct Page<'p> {
    /// The page.
    pub text: &'p str,
    /// Its records.
    pub records: &'p Records,
}

/// What was written beside the bytes.
#[derive(Debug, Default)]
pub struct Mapped {
    /// The record's `id`.
    pub id: String,
    /// Words outside `values`, lost conversions.
    pub warnings: Vec<Warning>,
}

/// A table at work on the records of one answer: `$account`, `$company` and `$page` are read once for all of them.
pub struct Mapping<'a> {
    table: &'a Table,
    roots: [(Vec<Cell>, &'a str); 3],
    /// Room for one record's values; used again for the next.
    cells: Vec<Cell>,
}

impl Table {
    /// Compiles a map for records of this shape; every mistake at once.
    pub fn compile(map: &BTreeMap<String, RuleFile>, shape: &'static Shape) -> Result<Table, Vec<RuleError>> {
        let (mut compiler, mut record) = (Compiler::default(), Scope::default());
        let members = compiler.members(map, shape, &mut record, ("", ""));
        if !compiler.errors.is_empty() {
            return Err(compiler.errors);
        }
        let Compiler { mut roots, sources, .. } = compiler;
        roots.iter_mut().for_each(Scope::seal);
        record.seal();
        Ok(Table { record, roots, members, sources })
    }

    /// Every source path the table reads, in full (within `each`: `licenses[*].id`), for the contract suite.
    pub fn sources(&self) -> Vec<String> {
        self.sources.clone()
    }

    /// Begins with the records of one answer.
    pub fn begin<'a>(&'a self, roots: Roots<'a>) -> Result<Mapping<'a>, MapError> {
        let mut read = [roots.account, roots.company, roots.page].map(|text| (Vec::new(), text.unwrap_or_default()));
        for (scope, (cells, text)) in self.roots.iter().zip(&mut read) {
            let base = scope.open(cells);
            if !text.is_empty() && !scope.is_empty() {
                scope.read(text, base, cells).map_err(not_json)?;
            }
        }
        Ok(Mapping { table: self, roots: read, cells: Vec::new() })
    }

    /// Where the paths of the map meet a record.
    pub(super) fn record_scope(&self) -> &Scope {
        &self.record
    }

    /// Appends the unified form of a single record to `out`. On an error `out` is as it was.
    pub fn apply(&self, record: &[u8], roots: Roots<'_>, options: Options<'_>, out: &mut Vec<u8>) -> Result<Mapped, MapError> {
        self.begin(roots)?.apply(record, options, out)
    }
}

impl<'a> Mapping<'a> {
    /// Appends the unified record to `out`. On an error `out` is as it was.
    pub fn apply(&mut self, record: &[u8], options: Options<'_>, out: &mut Vec<u8>) -> Result<Mapped, MapError> {
        let record = std::str::from_utf8(record).map_err(not_json)?.trim_matches([' ', '\t', '\r', '\n']);
        let base = self.read(record)?;
        self.write(Sheet { cells: &self.cells, text: record }, base, record.as_bytes(), options, out)
    }

    /// The same for a record of a page, which [`Table::records`] has read.
    pub fn apply_to(&mut self, page: Page<'_>, at: usize, options: Options<'_>, out: &mut Vec<u8>) -> Result<Mapped, MapError> {
        let record = &page.text.as_bytes()[page.records.ranges[at].clone()];
        match page.records.bases.get(at) {
            Some(base) => self.write(Sheet { cells: &page.records.cells, text: page.text }, *base, record, options, out),
            None => self.apply(record, options, out),
        }
    }

    /// Reads the record into the cells; where they begin.
    fn read(&mut self, record: &str) -> Result<usize, MapError> {
        let scope = &self.table.record;
        if !record.starts_with('{') && !scope.keeps_whole() {
            serde_json::from_str::<serde::de::IgnoredAny>(record).map_err(not_json)?;
            return Err(MapError::Shape("the record is not an object".to_owned()));
        }
        if !depth_within(record.as_bytes()) {
            return Err(MapError::NotJson("nested too deeply".to_owned()));
        }
        self.cells.clear();
        let base = scope.open(&mut self.cells);
        scope.read(record, base, &mut self.cells).map_err(not_json)?;
        Ok(base)
    }

    fn write(
        &self,
        sheet: Sheet<'_, '_>,
        base: usize,
        record: &[u8],
        options: Options<'_>,
        out: &mut Vec<u8>,
    ) -> Result<Mapped, MapError> {
        let (start, mut mapped) = (out.len(), Mapped::default());
        if let Err(missing) = self.members(sheet, base, options.exclude, out, &mut mapped) {
            out.truncate(start);
            return Err(missing);
        }
        if options.remote_data {
            append_remote_data(record, out);
        }
        Ok(mapped)
    }

    fn members(
        &self,
        record: Sheet<'_, '_>,
        base: usize,
        exclude: &[String],
        out: &mut Vec<u8>,
        mapped: &mut Mapped,
    ) -> Result<(), MapError> {
        let (start, mut missing) = (out.len(), None);
        out.push(b'{');
        let roots = std::array::from_fn(|at| Sheet { cells: &self.roots[at].0, text: self.roots[at].1 });
        let mut writer = Writer { record, base, roots, out, warnings: &mut mapped.warnings, missing: &mut missing };
        for member in &self.table.members {
            let before = writer.out.len();
            if before > start + 1 {
                writer.out.push(b',');
            }
            let written = writer.out.len() + member.label.len();
            writer.member(member);
            if member.name == "id" {
                mapped.id = id_text(&writer.out[written..]);
            }
            if exclude.iter().any(|name| name == member.name) {
                writer.out.truncate(before);
            }
        }
        out.push(b'}');
        if mapped.id.is_empty() && self.table.members.iter().any(|member| member.name == "id" && member.required) {
            missing.get_or_insert_with(|| "id".to_owned());
        }
        missing.map_or(Ok(()), |target| Err(MapError::Missing(target)))
    }
}

/// Adds the vendor's own record, byte for byte, to the unified one that `out` ends with.
pub fn append_remote_data(record: &[u8], out: &mut Vec<u8>) {
    out.pop();
    out.extend_from_slice(if out.ends_with(b"{") { b"\"remote_data\":" } else { b",\"remote_data\":" });
    out.extend_from_slice(record);
    out.push(b'}');
}

fn not_json(why: impl Display) -> MapError {
    MapError::NotJson(why.to_string())
}

/// The id as text; empty when there is none.
fn id_text(json: &[u8]) -> String {
    std::str::from_utf8(json).ok().and_then(text_of).map(Cow::into_owned).unwrap_or_default()
}
