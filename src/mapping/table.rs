//! The compiled table.

use std::collections::BTreeMap;

use super::RuleFile;
use crate::model::{Shape, Warning};

/// A map, compiled.
#[derive(Debug)]
pub struct Table {}

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
    /// Words outside `values`, lost conversions.
    pub warnings: Vec<Warning>,
}

impl Table {
    /// Compiles a map for records of this shape; every mistake at once.
    pub fn compile(_map: &BTreeMap<String, RuleFile>, _shape: &'static Shape) -> Result<Table, Vec<RuleError>> {
        todo!()
    }

    /// Every source path the table reads, as written, for the contract suite.
    pub fn sources(&self) -> Vec<String> {
        todo!()
    }

    /// Appends the unified record to `out`.
    pub fn apply(&self, _record: &[u8], _roots: Roots<'_>, _options: Options<'_>, _out: &mut Vec<u8>) -> Result<Mapped, MapError> {
        todo!()
    }
}
