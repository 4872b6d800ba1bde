//! Methods of a vendor's own beside list, get, create, update and delete: `POST /proxy/{resource}/{method}`.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::{
    Transport, WriteBy, WriteForm,
    compile::{Scope, is_word},
    resource::{check_reason, path, request},
    write::{is_option, template},
    yaml::Place,
};
use crate::mapping::Path;

/// Names that mean something else in the place of a method's.
const TAKEN: &[&str] = &["list", "get", "create", "update", "delete", "meta", "members", "custom"];

/// One method: exactly one of `request`, `command` and `none`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MethodFile {
    /// What it does, in a sentence; shown to callers.
    pub about: Option<String>,
    /// `POST /path`; names in braces are those of `takes`.
    pub request: Option<String>,
    /// Query parameters.
    #[serde(default)]
    pub query: BTreeMap<String, String>,
    /// The body; texts are templates. Left out, it is what the caller sends, but for what `takes` names.
    pub body: Option<Value>,
    /// A command and its arguments, for command transports; words may hold names of `takes`.
    pub command: Option<Vec<String>>,
    /// Member of the caller's body → the option that sets it, for command transports.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
    /// Member that the caller's body must have, a text → what it is.
    #[serde(default)]
    pub takes: BTreeMap<String, String>,
    /// Where the result is in the answer; the answer itself when left out.
    pub result: Option<String>,
    /// The vendor has it, and it is not offered: why, with a source.
    pub none: Option<String>,
}

/// One method, compiled.
#[derive(Clone, Debug)]
pub struct Method {
    /// What it does.
    pub about: String,
    /// What carries it.
    pub by: WriteBy,
    /// Texts that the caller's body must have, and what they are.
    pub takes: BTreeMap<String, String>,
    /// Members that the caller's body may have; any when `None`.
    pub may_have: Option<Vec<String>>,
    /// Where the result is in the answer.
    pub result: Option<Path>,
}

/// The methods of a resource.
#[derive(Clone, Debug, Default)]
pub struct Methods {
    /// By name.
    pub offered: BTreeMap<String, Method>,
    /// Why others are not offered, `get` among them.
    pub none: BTreeMap<String, String>,
}

/// Compiles the methods of a file. Mistakes go to the scope.
pub(super) fn compile(scope: &mut Scope<'_>, place: Place<'_>, files: &BTreeMap<String, MethodFile>) -> Methods {
    let mut methods = Methods::default();
    for (name, file) in files {
        let place = place.key(name);
        if !is_word(name) || TAKEN.contains(&name.as_str()) {
            let hint = "lower-case letters, digits and `_`, a letter first, and none of the standard methods".to_owned();
            scope.problems.push(place.problem(format!("`{name}` is not a name for a method of the vendor's own"), hint));
        }
        if let Some(reason) = &file.none {
            check_none(scope, place, file, reason);
            methods.none.insert(name.clone(), reason.clone());
            continue;
        }
        methods.offered.extend(one(scope, place, file).map(|method| (name.clone(), method)));
    }
    methods
}

fn check_none(scope: &mut Scope<'_>, place: Place<'_>, file: &MethodFile, reason: &str) {
    check_reason(scope, place, reason);
    if file.request.is_some() || file.command.is_some() {
        scope.problems.push(place.key("none").problem("`none` stands beside a way to call it", None));
    }
}

fn one(scope: &mut Scope<'_>, place: Place<'_>, file: &MethodFile) -> Option<Method> {
    let before = scope.problems.len();
    if file.about.as_deref().is_none_or(|about| about.trim().len() < 10) {
        let hint = "`about` is a sentence: it is shown to callers".to_owned();
        scope.problems.push(place.problem("a method says what it does", hint));
    }
    for name in file.takes.keys().filter(|name| !is_word(name)) {
        scope.problems.push(place.key("takes").problem(format!("`{name}` is not a name"), "for example `team_id`".to_owned()));
    }
    for name in file.takes.keys().filter(|name| scope.link.fields.iter().any(|field| field.name == **name)) {
        let message = format!("`{name}` is a field of the link method `{}`", scope.link.method);
        scope.problems.push(place.key("takes").problem(message, "choose another name".to_owned()));
    }
    let names: Vec<&str> = file.takes.keys().map(String::as_str).collect();
    let by = match (&file.request, &file.command) {
        (Some(text), None) => by_request(scope, place, file, text, &names),
        (None, Some(words)) => by_command(scope, place, file, words, &names),
        _ => {
            let hint = "`request: POST /path`, `command: [...]`, or why there is `none`".to_owned();
            scope.problems.push(place.problem("a method takes exactly one of `request`, `command` and `none`", hint));
            None
        }
    };
    let result = file.result.as_ref().and_then(|text| path(scope, place.key("result"), text));
    if let Some(by) = &by {
        check_used(scope, place, by, &names);
    }
    if scope.problems.len() > before {
        return None;
    }
    let by = by?;
    let may_have = match &by {
        WriteBy::Request { body: None, .. } => None,
        _ => Some(file.takes.keys().chain(file.options.keys()).cloned().collect()),
    };
    Some(Method { about: file.about.clone().unwrap_or_default(), by, takes: file.takes.clone(), may_have, result })
}

fn by_request(scope: &mut Scope<'_>, place: Place<'_>, file: &MethodFile, text: &str, names: &[&str]) -> Option<WriteBy> {
    if scope.transport == Transport::KeeperCommander {
        let hint = "write `command: [...]`".to_owned();
        scope.problems.push(place.key("request").problem("this transport runs commands", hint));
    }
    if !file.options.is_empty() {
        scope.problems.push(place.key("options").problem("`options` belong to a `command`", None));
    }
    let request = request(scope, place, text, &file.query, names);
    let body = match &file.body {
        Some(body) => Some(template(scope, place.key("body"), body, names)?),
        None => None,
    };
    Some(WriteBy::Request { request: request?, body, form: WriteForm::Json })
}

fn by_command(scope: &mut Scope<'_>, place: Place<'_>, file: &MethodFile, words: &[String], names: &[&str]) -> Option<WriteBy> {
    if scope.transport != Transport::KeeperCommander {
        let hint = "write `request: POST /path`".to_owned();
        scope.problems.push(place.key("command").problem("this transport sends requests", hint));
    }
    if !file.query.is_empty() || file.body.is_some() {
        scope.problems.push(place.problem("`query` and `body` belong to a `request`", None));
    }
    if words.first().is_none_or(|word| word.contains('{')) {
        scope.problems.push(place.key("command").problem("a command begins with its name", None));
    }
    for option in file.options.values().filter(|option| !is_option(option)) {
        let hint = "for example `--name`".to_owned();
        scope.problems.push(place.key("options").problem(format!("`{option}` is not an option"), hint));
    }
    for name in file.options.keys().filter(|name| names.contains(&name.as_str())) {
        scope.problems.push(place.key("options").problem(format!("`{name}` stands in `takes` too"), None));
    }
    for name in file.options.keys() {
        path(scope, place.key("options"), name);
    }
    let words = words.iter().enumerate().map(|(at, word)| scope.template(place.key("command").index(at), word, names, false));
    let words = words.collect::<Option<Vec<_>>>()?;
    Some(WriteBy::Command { words, options: file.options.clone(), flags: BTreeMap::new() })
}

/// What is asked for and goes nowhere would be lost without a word.
fn check_used(scope: &mut Scope<'_>, place: Place<'_>, by: &WriteBy, names: &[&str]) {
    let used: BTreeSet<String> = by.names();
    for name in names.iter().filter(|name| !used.contains(**name)) {
        let hint = format!("use `{{{name}}}`, or leave it out");
        scope.problems.push(place.key("takes").problem(format!("`{name}` is taken and never used"), hint));
    }
}
