//! Paths into vendor records: `a.b`, `a[0]`, `a[*].b`, `a[?type=work].b`, `"odd.key"`, `.`; roots `$account`, `$company`, `$page`.

/// A parsed path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path(pub(super) Vec<Step>);

/// One step of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A member.
    Key(String),
}

/// A path that cannot be read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{path}`: {reason} at character {at}")]
pub struct PathError {
    /// The path.
    pub path: String,
    /// Why.
    pub reason: &'static str,
    /// Where, from 1.
    pub at: usize,
}

impl Path {
    /// Reads a path.
    pub fn parse(_text: &str) -> Result<Path, PathError> {
        todo!()
    }

    /// The first text at this path in a JSON document (numbers and booleans as written), for error rules and paging.
    pub fn text(&self, _json: &[u8]) -> Option<String> {
        todo!()
    }

    /// The byte ranges of the array elements at this path (`a.b[*]`, `[*]`, or `.` for a top-level array or one object),
    /// in one pass over the document; an error when the document is not JSON or the path does not hold a list.
    pub fn elements(&self, _json: &[u8]) -> Result<Vec<std::ops::Range<usize>>, super::MapError> {
        todo!()
    }
}
