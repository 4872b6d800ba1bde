//! Lists that a command reports by time, and what a customer's plan must have for a resource.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    compile::{Scope, is_word},
    file::{ListFile, PageFile},
    resource::path,
    write::is_option,
    yaml::Place,
};
use crate::{
    mapping::Path,
    model::{Kind, Shape},
};

/// A part of the customer's plan at the vendor without which a resource holds nothing that can be trusted.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NeedsFile {
    /// The fact of the account that is true when the plan has it.
    pub fact: String,
    /// What is missing when it is not, with a source.
    pub because: String,
}

/// How a report is read: newest first, page by page, up to a moment.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReportFile {
    /// Where the time of an event stands in its record; whole seconds.
    pub at: String,
    /// The unified field of that time, whose filters bound the report.
    pub field: String,
    /// The option that takes a range of times.
    pub range: String,
    /// The option that takes the most events of one answer.
    pub limit: String,
    /// The most it takes.
    pub max: u32,
    /// Members of a record that tell one event from another, where the vendor says no id.
    pub identity: Vec<String>,
}

/// See [`ReportFile`].
#[derive(Clone, Debug)]
pub struct Report {
    /// Where the time of an event stands.
    pub at: Path,
    /// The unified field of that time.
    pub field: String,
    /// The option that takes a range of times.
    pub range: String,
    /// The option that takes the most events.
    pub limit: String,
    /// The most it takes.
    pub max: usize,
    /// Members that tell one event from another.
    pub identity: Vec<String>,
}

/// See [`NeedsFile`].
#[derive(Clone, Debug)]
pub struct Needs {
    /// The fact of the account.
    pub fact: String,
    /// What is missing when it is not true.
    pub because: String,
}

/// Compiles `report`. Mistakes go to the scope.
pub(super) fn compile(scope: &mut Scope<'_>, place: Place<'_>, list: &ListFile, shape: &'static Shape) -> Option<Report> {
    let file = list.report.as_ref()?;
    let place = place.key("report");
    if list.command.is_none() || !matches!(list.page, PageFile::None) {
        scope.problems.push(place.problem("a report is a `command` without `page`", None));
    }
    for (key, option) in [("range", &file.range), ("limit", &file.limit)] {
        if !is_option(option) {
            let hint = "for example `--limit`".to_owned();
            scope.problems.push(place.key(key).problem(format!("`{option}` is not an option"), hint));
        }
    }
    if !matches!(shape.field(&file.field).map(|field| field.kind), Some(Kind::Time)) {
        let message = format!("`{}` is no field of a time", file.field);
        scope.problems.push(place.key("field").problem(message, "for example `created_at`".to_owned()));
    }
    if !(2..=10_000).contains(&file.max) {
        scope.problems.push(place.key("max").problem("`max` is out of range", "from 2 to 10000".to_owned()));
    }
    if file.identity.is_empty() {
        scope.problems.push(place.key("identity").problem("nothing tells one event from another", None));
    }
    Some(Report {
        at: path(scope, place.key("at"), &file.at)?,
        field: file.field.clone(),
        range: file.range.clone(),
        limit: file.limit.clone(),
        max: file.max as usize,
        identity: file.identity.clone(),
    })
}

/// Compiles `needs`. Mistakes go to the scope.
pub(super) fn needs(scope: &mut Scope<'_>, place: Place<'_>, file: Option<&NeedsFile>) -> Option<Needs> {
    let file = file?;
    if !is_word(&file.fact) {
        scope.problems.push(place.key("fact").problem("`fact` is the name of a fact", "for example `audit`".to_owned()));
    }
    if file.because.trim().len() < 20 {
        let hint = "a sentence with its source: it is shown to callers and in the documents".to_owned();
        scope.problems.push(place.key("because").problem("`needs` needs a reason", hint));
    }
    Some(Needs { fact: file.fact.clone(), because: file.because.clone() })
}
