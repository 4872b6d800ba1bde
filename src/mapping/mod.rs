//! From a vendor's record to a unified one: a table, compiled once, that reads the vendor's bytes in one pass. Pure and
//! synchronous; no loops, no I/O, cost at most rules × record.

mod body;
mod compile;
mod convert;
mod exact;
mod find;
mod fixed;
mod function;
mod near;
mod path;
mod plan;
mod records;
mod reverse;
mod rule;
mod table;
mod text;
mod trie;
mod write;

pub use body::{check_body, not_shown};
pub use exact::inexact_number;
pub use path::{Path, PathError, PlainStep};
pub use records::Records;
pub use reverse::{BodyError, Change, Reverse, ReverseRules};
pub use rule::{OneOrMany, RuleFile, SourceFile, WhenFile, merge};
pub use table::{MapError, Mapped, Mapping, Options, Page, Roots, RuleError, Table, append_remote_data};
