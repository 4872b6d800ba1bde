//! The compiled table.

use std::{borrow::Cow, collections::BTreeMap, ops::Range};

use super::{
    RuleFile,
    compile::Compiler,
    plan::Member,
    text::{depth_within, text_of},
    trie::{Cell, Scope},
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

/// What was written beside the bytes.
#[derive(Debug, Default)]
pub struct Mapped {
    /// The record's `id`.
    pub id: String,
    /// Where in the output the record stands.
    pub at: Range<usize>,
    /// Words outside `values`, lost conversions.
    pub warnings: Vec<Warning>,
}

/// Room for one record's values, used again for the next; `$account`, `$company` and `$page` are read into it once.
struct Page<'a> {
    cells: Vec<Cell<'a>>,
    roots: [usize; 3],
    /// Where the record's own cells begin.
    record: usize,
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

    /// Appends the unified record to `out`. On an error `out` is as it was.
    pub fn apply(&self, record: &[u8], roots: Roots<'_>, options: Options<'_>, out: &mut Vec<u8>) -> Result<Mapped, MapError> {
        let record = std::str::from_utf8(record).map_err(|e| MapError::NotJson(e.to_string()))?;
        let mut page = self.page(roots)?;
        self.write(record, &mut page, options, out)
    }

    /// Appends the unified records of one answer to `out`, with commas between them; `records` are the ranges that
    /// `Path::elements` found. Faster than record by record. On an error `out` is as it was.
    pub fn apply_page(
        &self,
        body: &[u8],
        records: &[Range<usize>],
        roots: Roots<'_>,
        options: Options<'_>,
        out: &mut Vec<u8>,
    ) -> Result<Vec<Mapped>, MapError> {
        let body = std::str::from_utf8(body).map_err(|e| MapError::NotJson(e.to_string()))?;
        let (start, mut page, mut mapped) = (out.len(), self.page(roots)?, Vec::with_capacity(records.len()));
        for (at, range) in records.iter().enumerate() {
            if at > 0 {
                out.push(b',');
            }
            let record = body.get(range.clone()).ok_or_else(|| MapError::Shape("the record lies outside the answer".to_owned()));
            match record.and_then(|record| self.write(record, &mut page, options, out)) {
                Ok(one) => mapped.push(one),
                Err(error) => {
                    out.truncate(start);
                    return Err(error);
                }
            }
        }
        Ok(mapped)
    }

    fn page<'a>(&self, roots: Roots<'a>) -> Result<Page<'a>, MapError> {
        let mut cells = Vec::new();
        let mut bases = [0; 3];
        for ((scope, text), base) in self.roots.iter().zip([roots.account, roots.company, roots.page]).zip(&mut bases) {
            *base = scope.open(&mut cells);
            if let Some(text) = text.filter(|_| !scope.is_empty()) {
                scope.read(text, *base, &mut cells).map_err(|e| MapError::NotJson(e.to_string()))?;
            }
        }
        let record = cells.len();
        Ok(Page { cells, roots: bases, record })
    }

    fn write<'a>(
        &self,
        record: &'a str,
        page: &mut Page<'a>,
        options: Options<'_>,
        out: &mut Vec<u8>,
    ) -> Result<Mapped, MapError> {
        let record = record.trim_matches([' ', '\t', '\r', '\n']);
        if !record.starts_with('{') && !self.record.keeps_whole() {
            serde_json::from_str::<serde::de::IgnoredAny>(record).map_err(|e| MapError::NotJson(e.to_string()))?;
            return Err(MapError::Shape("the record is not an object".to_owned()));
        }
        if !depth_within(record.as_bytes()) {
            return Err(MapError::NotJson("nested too deeply".to_owned()));
        }
        page.cells.truncate(page.record);
        let base = self.record.open(&mut page.cells);
        self.record.read(record, base, &mut page.cells).map_err(|e| MapError::NotJson(e.to_string()))?;

        let start = out.len();
        let (mut mapped, mut missing) = (Mapped::default(), None);
        out.push(b'{');
        let mut writer =
            Writer { cells: &page.cells, base, roots: page.roots, out, warnings: &mut mapped.warnings, missing: &mut missing };
        for member in &self.members {
            let before = writer.out.len();
            if before > start + 1 {
                writer.out.push(b',');
            }
            let written = writer.out.len() + member.label.len();
            writer.member(member);
            if member.name == "id" {
                mapped.id = id_text(&writer.out[written..]);
            }
            if options.exclude.iter().any(|name| name == member.name) {
                writer.out.truncate(before);
            }
        }
        if mapped.id.is_empty() && self.members.iter().any(|member| member.name == "id" && member.required) {
            missing.get_or_insert_with(|| "id".to_owned());
        }
        if let Some(target) = missing {
            out.truncate(start);
            return Err(MapError::Missing(target));
        }
        if options.remote_data && !options.exclude.iter().any(|name| name == "remote_data") {
            out.extend_from_slice(if out.len() > start + 1 { b",\"remote_data\":" } else { b"\"remote_data\":" });
            out.extend_from_slice(record.as_bytes());
        }
        out.push(b'}');
        mapped.at = start..out.len();
        Ok(mapped)
    }
}

/// The id as text; empty when there is none.
fn id_text(json: &[u8]) -> String {
    std::str::from_utf8(json).ok().and_then(text_of).map(Cow::into_owned).unwrap_or_default()
}
