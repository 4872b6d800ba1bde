//! What a map compiles to: the output as a tree, each leaf with its rule.

use super::{convert::ReadAs, function::Function, path::Root, trie::Hop};
use crate::model::Kind;

/// A part of the output.
#[derive(Debug)]
pub(super) enum Out {
    /// A value made by a rule.
    Rule(Box<Rule>),
    /// A record, its members in the order of the shape.
    Object(Vec<Member>),
    /// A list whose elements are mapped one by one.
    Items(Vec<Out>),
}

/// A member of a record.
#[derive(Debug)]
pub(super) struct Member {
    /// Its name.
    pub name: &'static str,
    /// The name as it is written: in quotes, with the colon.
    pub label: String,
    /// Whether the record is nothing without it.
    pub required: bool,
    /// Its place in the shape.
    pub place: usize,
    /// What is written.
    pub out: Out,
}

/// How one value is made.
#[derive(Debug)]
pub(super) struct Rule {
    /// The target path, for warnings.
    pub target: String,
    /// What the target holds.
    pub kind: Kind,
    /// A condition on the record.
    pub when: Option<Condition>,
    /// Where the value comes from.
    pub read: Read,
    /// What is done with it.
    pub steps: Steps,
    /// Whether `steps` do nothing, so that the value can be written as it stands.
    pub plain: bool,
    /// JSON text for everything else.
    pub otherwise: Option<Vec<u8>>,
}

/// Where a value comes from.
#[derive(Debug)]
pub(super) enum Read {
    /// JSON text.
    Const(Vec<u8>),
    /// Whether there is a value.
    Present(Source),
    /// The first of these that has a value.
    First(Vec<Source>),
    /// Texts put together; nothing when one is missing.
    Joined(Vec<Source>, String),
    /// A record for each row of a list in the record.
    Each(Vec<Hop>, Vec<Member>),
}

/// What is done with a text.
#[derive(Debug, Default)]
pub(super) struct Steps {
    pub null_if: Vec<String>,
    pub function: Option<Function>,
    /// Word → JSON text; empty when not given.
    pub values: Vec<(String, Vec<u8>)>,
    /// Whether a word outside `values` stays as it is.
    pub keep_others: bool,
    pub read_as: Option<ReadAs>,
    pub split: Option<String>,
    pub join: Option<String>,
}

/// A value somewhere in the cells.
#[derive(Debug)]
pub(super) struct Source {
    pub root: Root,
    pub hops: Vec<Hop>,
    pub slot: u32,
}

/// `when`.
#[derive(Debug)]
pub(super) struct Condition {
    pub source: Source,
    pub is: Option<Vec<String>>,
    pub is_not: Option<Vec<String>>,
}
