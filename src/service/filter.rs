//! Filters: none is ever ignored.

/// How a value is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FilterOp {
    /// Equal.
    Eq,
    /// One of a list.
    In,
    /// Greater.
    Gt,
    /// Greater or equal.
    Gte,
    /// Less.
    Lt,
    /// Less or equal.
    Lte,
}

/// One filter of a caller, as parsed from the query: `status=active`, `filters[status]=active`, `emails[email]=…`,
/// `created_at[gte]=…`. The field is the unified name, nested parts in brackets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// For example `status`, `emails[email]`.
    pub field: String,
    /// How.
    pub op: FilterOp,
    /// One value, or several for `In`.
    pub values: Vec<String>,
}
