//! The closed vocabulary of a rule, as it is written in a connector file.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

/// A value or a list of them.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum OneOrMany<T> {
    /// One.
    One(T),
    /// Several, in order of preference.
    Many(Vec<T>),
}

impl<T> OneOrMany<T> {
    /// All of them, in order.
    pub fn as_slice(&self) -> &[T] {
        match self {
            OneOrMany::One(one) => std::slice::from_ref(one),
            OneOrMany::Many(many) => many,
        }
    }
}

/// What a target gets: a path, a list of paths (the first that is present), or the full form.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum RuleFile {
    /// One path.
    Path(String),
    /// The first that is present and not null.
    First(Vec<String>),
    /// The full form.
    Full(Box<SourceFile>),
}

/// The full form of a rule. At least one of `from`, `const`, `each`, `join_paths`, `present` is given.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SourceFile {
    /// Where the value comes from: a path or several, the first that is present and not null.
    pub from: Option<OneOrMany<String>>,
    /// Read the text as: `epoch_s`, `epoch_ms`, `datetime`, `date`, `integer`, `text`.
    #[serde(rename = "as")]
    pub read_as: Option<String>,
    /// For `as: datetime`: a `strptime` pattern; RFC 3339 when left out.
    pub format: Option<String>,
    /// Word → word; compared exactly.
    pub values: Option<BTreeMap<String, serde_json::Value>>,
    /// What a word outside `values` becomes (with a warning when it is `unknown`).
    #[serde(rename = "else")]
    pub otherwise: Option<serde_json::Value>,
    /// Texts that mean "nothing".
    pub null_if: Option<OneOrMany<String>>,
    /// Cut a text into a list at this.
    pub split: Option<String>,
    /// Put a list of texts together with this.
    pub join: Option<String>,
    /// Put the texts at these paths together with `join`; nothing when one is missing.
    pub join_paths: Option<Vec<String>>,
    /// One record per element of the list at this path.
    pub each: Option<String>,
    /// For `each`: target → rule, relative to the element (`.` is the element).
    pub map: Option<BTreeMap<String, RuleFile>>,
    /// The rule holds only when the text at `path` is this; otherwise the target is left out.
    pub when: Option<WhenFile>,
    /// True when the path is present and not null, else false.
    pub present: Option<String>,
    /// A fixed value.
    #[serde(rename = "const")]
    pub constant: Option<serde_json::Value>,
    /// A named function of the mapping room, for what the vocabulary cannot say.
    #[serde(rename = "fn")]
    pub function: Option<String>,
}

/// A condition on the record.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WhenFile {
    /// The path.
    pub path: String,
    /// Its text is one of these.
    pub is: Option<OneOrMany<String>>,
    /// Its text is none of these.
    pub is_not: Option<OneOrMany<String>>,
}
