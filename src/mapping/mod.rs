//! From a vendor's record to a unified one: a table, compiled once, that reads the vendor's bytes in one pass. Pure and
//! synchronous; no loops, no I/O, cost at most rules × record.

mod path;
mod rule;
mod table;

pub use path::{Path, PathError};
pub use rule::{OneOrMany, RuleFile, SourceFile, WhenFile};
pub use table::{MapError, Mapped, Options, Roots, RuleError, Table};
