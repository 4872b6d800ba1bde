//! How a resource is written: its map turned round, and what carries the result to the vendor.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{
    Request, Template, Transport,
    compile::Scope,
    resource::{check_reason, path, request},
    template::{Position, TemplateError},
    yaml::Place,
};
use crate::{
    mapping::{Reverse, ReverseRules, RuleFile},
    model::{Kind, Resource},
};

/// How a resource is written. Every target of the map that can be turned round can be written, but for those of `read_only`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WriteFile {
    /// Targets of the map that the vendor sets itself.
    #[serde(default)]
    pub read_only: Vec<String>,
    /// Target → unified word → what is written, where several words of the vendor mean the same or it takes no text.
    #[serde(default)]
    pub values: BTreeMap<String, BTreeMap<String, Value>>,
    /// How one is made; for members of a group, how one is added.
    pub create: Option<WriteMethodFile>,
    /// How one is changed.
    pub update: Option<WriteMethodFile>,
    /// How one is taken away.
    pub delete: Option<WriteMethodFile>,
}

/// One way to write: exactly one of `request`, `command` and `none`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WriteMethodFile {
    /// `POST /path`.
    pub request: Option<String>,
    /// Query parameters.
    #[serde(default)]
    pub query: BTreeMap<String, String>,
    /// Members of the body beside the record's; texts are templates.
    pub body: Option<Value>,
    /// How the record stands in the body.
    #[serde(default)]
    pub form: WriteForm,
    /// A command and its arguments, for command transports; words may hold `{id}` and paths of the vendor's record.
    pub command: Option<Vec<String>>,
    /// Path of the vendor's record → the option that sets it.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
    /// Path of the vendor's record → its text → the option that stands for it.
    #[serde(default)]
    pub flags: BTreeMap<String, BTreeMap<String, String>>,
    /// Paths of the vendor's record without which nothing is sent.
    #[serde(default)]
    pub required: Vec<String>,
    /// The unified field by which a record is found whose id the vendor did not tell.
    pub find: Option<String>,
    /// Several records may have the same text there: one of that name does not keep another from being made.
    #[serde(default)]
    pub many: bool,
    /// For `delete`: how the record is found afterwards where the vendor keeps it, by unified field.
    #[serde(default)]
    pub leaves: BTreeMap<String, String>,
    /// The vendor does not offer it: why, with a source.
    pub none: Option<String>,
}

/// How a record stands in the body of a write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WriteForm {
    /// Its members; of a change those that change.
    #[default]
    Json,
    /// SCIM: the whole of a new record; changes as a PatchOp, or as the whole record where the server has no PATCH.
    Scim,
}

/// How a resource is written, compiled.
#[derive(Clone, Debug)]
pub struct Writes {
    /// The map, turned round.
    pub reverse: Reverse,
    /// How one is made.
    pub create: Option<WriteMethod>,
    /// How one is changed.
    pub update: Option<WriteMethod>,
    /// How one is taken away.
    pub delete: Option<WriteMethod>,
    /// Why the vendor does not offer a method, by its name.
    pub none: BTreeMap<&'static str, String>,
    /// Targets that the vendor sets itself, as written.
    pub(super) read_only: Vec<String>,
    /// Target → unified word → what is written, as written.
    pub(super) values: BTreeMap<String, BTreeMap<String, Value>>,
}

/// One way to write, compiled.
#[derive(Clone, Debug)]
pub struct WriteMethod {
    /// What carries it.
    pub by: WriteBy,
    /// Paths of the vendor's record without which nothing is sent.
    pub required: Vec<String>,
    /// The unified field by which a record is found.
    pub find: Option<String>,
    /// Several records may have the same text there.
    pub many: bool,
    /// How a deleted record is found afterwards.
    pub leaves: BTreeMap<String, String>,
}

/// What carries a write.
#[derive(Clone, Debug)]
pub enum WriteBy {
    /// A request.
    Request {
        /// The request.
        request: Request,
        /// Members of the body beside the record's.
        body: Option<BodyTemplate>,
        /// How the record stands in it.
        form: WriteForm,
    },
    /// A command.
    Command {
        /// The command and its arguments.
        words: Vec<Template>,
        /// Path → option.
        options: BTreeMap<String, String>,
        /// Path → text → option.
        flags: BTreeMap<String, BTreeMap<String, String>>,
    },
}

/// JSON whose texts are templates.
#[derive(Clone, Debug)]
pub enum BodyTemplate {
    /// A text.
    Text(Template),
    /// A list.
    List(Vec<BodyTemplate>),
    /// An object.
    Object(Vec<(String, BodyTemplate)>),
    /// Anything else.
    Plain(Value),
}

impl BodyTemplate {
    /// The JSON with every name replaced.
    pub fn render<'v>(&self, value: &impl Fn(&str) -> Option<&'v str>) -> Result<Value, TemplateError> {
        Ok(match self {
            BodyTemplate::Text(text) => Value::String(text.render(Position::Text, value)?),
            BodyTemplate::List(list) => Value::Array(list.iter().map(|item| item.render(value)).collect::<Result<_, _>>()?),
            BodyTemplate::Object(members) => {
                let pairs = members.iter().map(|(name, inner)| Ok((name.clone(), inner.render(value)?)));
                Value::Object(pairs.collect::<Result<Map<_, _>, TemplateError>>()?)
            }
            BodyTemplate::Plain(value) => value.clone(),
        })
    }

    fn names(&self, into: &mut BTreeSet<String>) {
        match self {
            BodyTemplate::Text(text) => into.extend(text.names().map(str::to_owned)),
            BodyTemplate::List(list) => list.iter().for_each(|item| item.names(into)),
            BodyTemplate::Object(members) => members.iter().for_each(|(_, inner)| inner.names(into)),
            BodyTemplate::Plain(_) => {}
        }
    }
}

impl Writes {
    /// The way to do this: `create`, `update`, `delete`.
    pub fn method(&self, name: &str) -> Option<&WriteMethod> {
        match name {
            "create" => self.create.as_ref(),
            "update" => self.update.as_ref(),
            "delete" => self.delete.as_ref(),
            _ => None,
        }
    }

    /// The ways there are.
    pub fn offered(&self) -> impl Iterator<Item = &'static str> {
        ["create", "update", "delete"].into_iter().filter(|name| self.method(name).is_some())
    }

    /// The top-level unified fields that this method of the resource writes, in the order of their targets. A member is not made
    /// but named.
    pub fn fields(&self, resource: Resource, method: &str) -> Vec<String> {
        if resource == Resource::GroupMember {
            return vec!["id".to_owned()];
        }
        let Some(by) = self.method(method).map(|method| &method.by) else { return Vec::new() };
        let mut fields = Vec::new();
        let carried = self.reverse.sources().filter(|(target, source)| by.carries(source) || by.has_word(target));
        // The company says where a record is made.
        let companies = self.reverse.company_targets().filter(|_| method == "create");
        for target in carried.map(|(target, _)| target).chain(companies) {
            let head = target.split(['.', '[']).next().unwrap_or(target).to_owned();
            if !fields.contains(&head) {
                fields.push(head);
            }
        }
        fields
    }
}

impl WriteBy {
    /// Every name that stands in it.
    pub fn names(&self) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        match self {
            WriteBy::Request { request, body, .. } => {
                names.extend(request.path.names().map(str::to_owned));
                names.extend(request.query.iter().flat_map(|(_, value)| value.names()).map(str::to_owned));
                body.iter().for_each(|body| body.names(&mut names));
            }
            WriteBy::Command { words, .. } => names.extend(words.iter().flat_map(|word| word.names()).map(str::to_owned)),
        }
        names
    }

    /// Whether a word of a command is this field of the unified record.
    fn has_word(&self, target: &str) -> bool {
        let WriteBy::Command { words, .. } = self else { return false };
        target != "id" && words.iter().any(|word| word.names().any(|name| name == target))
    }

    /// Whether a path of the vendor's record reaches the vendor.
    pub fn carries(&self, path: &str) -> bool {
        match self {
            WriteBy::Request { .. } => true,
            WriteBy::Command { words, options, flags } => {
                options.contains_key(path)
                    || flags.contains_key(path)
                    || words.iter().any(|word| word.names().any(|name| name == path))
            }
        }
    }
}

/// Own methods win; what the vendor sets itself and the words are put together.
pub(super) fn merge(own: Option<&WriteFile>, base: Option<&WriteFile>) -> Option<WriteFile> {
    let (Some(own), Some(base)) = (own, base) else { return own.or(base).cloned() };
    let mut merged = base.clone();
    merged.read_only.extend(own.read_only.iter().filter(|target| !base.read_only.contains(target)).cloned());
    merged.values.extend(own.values.clone());
    merged.create = own.create.clone().or(merged.create);
    merged.update = own.update.clone().or(merged.update);
    merged.delete = own.delete.clone().or(merged.delete);
    Some(merged)
}

/// Compiles what a file says about writing. Mistakes go to the scope; `extra` are names of paths beside `{id}`.
pub(super) fn compile(
    scope: &mut Scope<'_>,
    place: Place<'_>,
    file: &WriteFile,
    map: &BTreeMap<String, RuleFile>,
    resource: Resource,
    extra: &[&str],
) -> Option<Writes> {
    let rules = ReverseRules { read_only: &file.read_only, values: &file.values };
    let reverse = match Reverse::compile(map, resource.shape(), rules) {
        Ok(reverse) => reverse,
        Err(errors) => {
            let problem =
                |error: crate::mapping::RuleError| place.problem(format!("`{}` {}", error.target, error.message), error.hint);
            scope.problems.extend(errors.into_iter().map(problem));
            return None;
        }
    };
    let sources: BTreeSet<String> = reverse.sources().map(|(_, source)| source.to_owned()).collect();
    let mut none = BTreeMap::new();
    let mut one = |name: &'static str, file: &Option<WriteMethodFile>| {
        let (file, place) = (file.as_ref()?, place.key(name));
        if let Some(reason) = &file.none {
            check_reason(scope, place, reason);
            none.insert(name, reason.clone());
            return None;
        }
        Compiling { scope, place, file, resource, sources: &sources, extra, with_id: name != "create" }.method()
    };
    let (create, update, delete) = (one("create", &file.create), one("update", &file.update), one("delete", &file.delete));
    let (read_only, values) = (file.read_only.clone(), file.values.clone());
    Some(Writes { reverse, create, update, delete, none, read_only, values })
}

struct Compiling<'a, 'l> {
    scope: &'a mut Scope<'l>,
    place: Place<'a>,
    file: &'a WriteMethodFile,
    resource: Resource,
    sources: &'a BTreeSet<String>,
    extra: &'a [&'a str],
    with_id: bool,
}

impl Compiling<'_, '_> {
    fn method(mut self) -> Option<WriteMethod> {
        let by = match (&self.file.request, &self.file.command) {
            (Some(text), None) => self.request(text),
            (None, Some(words)) => self.command(words),
            _ => {
                let hint = "`request: POST /path`, `command: [...]`, or why there is `none`".to_owned();
                self.problem(self.place, "a way to write takes exactly one of `request`, `command` and `none`", hint);
                None
            }
        };
        self.check_paths();
        self.check_fields();
        let file = self.file;
        Some(WriteMethod {
            by: by?,
            required: file.required.clone(),
            find: file.find.clone(),
            many: file.many,
            leaves: file.leaves.clone(),
        })
    }

    fn problem(&mut self, place: Place<'_>, message: impl Into<String>, hint: impl Into<Option<String>>) {
        self.scope.problems.push(place.problem(message, hint));
    }

    fn names(&self) -> Vec<&'static str> {
        let mut names = Vec::new();
        if self.with_id || self.resource == Resource::GroupMember {
            names.push("id");
        }
        if self.resource == Resource::RoleAssignment {
            names.extend(["user_id", "role_id"]);
        }
        names
    }

    fn request(&mut self, text: &str) -> Option<WriteBy> {
        let place = self.place;
        if self.scope.transport == Transport::KeeperCommander {
            self.problem(place.key("request"), "this transport runs commands", "write `command: [...]`".to_owned());
        }
        if !self.file.options.is_empty() || !self.file.flags.is_empty() {
            self.problem(place, "`options` and `flags` belong to a `command`", None);
        }
        if self.file.form == WriteForm::Scim && self.scope.transport != Transport::Scim {
            self.problem(place.key("form"), "`form: scim` needs `transport: scim`", None);
        }
        let names: Vec<&str> = self.names().into_iter().chain(self.extra.iter().copied()).collect();
        let request = request(self.scope, place, text, &self.file.query, &names);
        let body = match &self.file.body {
            Some(body) => Some(template(self.scope, place.key("body"), body, &names)?),
            None => None,
        };
        Some(WriteBy::Request { request: request?, body, form: self.file.form })
    }

    fn command(&mut self, words: &[String]) -> Option<WriteBy> {
        let place = self.place;
        if self.scope.transport != Transport::KeeperCommander {
            self.problem(place.key("command"), "this transport sends requests", "write `request: POST /path`".to_owned());
        }
        if !self.file.query.is_empty() || self.file.body.is_some() {
            self.problem(place, "`query` and `body` belong to a `request`", None);
        }
        if words.first().is_none_or(|word| word.contains('{')) {
            self.problem(place.key("command"), "a command begins with its name", None);
        }
        let options = self.file.options.values().chain(self.file.flags.values().flat_map(BTreeMap::values));
        let odd: Vec<String> = options.filter(|option| !is_option(option)).cloned().collect();
        for option in odd {
            self.problem(place, format!("`{option}` is not an option"), "for example `--name`".to_owned());
        }
        let names: Vec<&str> =
            self.names().into_iter().chain(self.extra.iter().copied()).chain(self.sources.iter().map(String::as_str)).collect();
        let mut compiled = Vec::new();
        for (at, word) in words.iter().enumerate() {
            compiled.push(self.scope.template(place.key("command").index(at), word, &names, false)?);
        }
        Some(WriteBy::Command { words: compiled, options: self.file.options.clone(), flags: self.file.flags.clone() })
    }

    /// Paths that no rule of the map writes would never have a value.
    fn check_paths(&mut self) {
        let named = self.file.options.keys().chain(self.file.flags.keys()).chain(&self.file.required);
        let unknown: Vec<String> = named.filter(|path| !self.sources.contains(*path)).cloned().collect();
        for text in unknown {
            path(self.scope, self.place, &text);
            let known: Vec<&str> = self.sources.iter().map(String::as_str).collect();
            let hint = super::schema::suggest(&text, &known, "paths that are written");
            self.problem(self.place, format!("`{text}` is no path that the map, turned round, writes"), hint);
        }
    }

    fn check_fields(&mut self) {
        let shape = self.resource.shape();
        let named = self.file.find.iter().chain(self.file.leaves.keys());
        let is_plain = |name: &String| shape.field(name).is_some_and(|field| matches!(field.kind, Kind::Text | Kind::Enum(_)));
        let odd: Vec<String> = named.filter(|name| !is_plain(name)).cloned().collect();
        for name in odd {
            let known: Vec<&str> = shape.fields.iter().map(|field| field.name).collect();
            let hint = super::schema::suggest(&name, &known, "fields");
            self.problem(self.place, format!("`{name}` is no field of one value"), hint);
        }
    }
}

pub(super) fn is_option(text: &str) -> bool {
    let name = text.strip_prefix("--").unwrap_or_default();
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

pub(super) fn template(scope: &mut Scope<'_>, place: Place<'_>, value: &Value, names: &[&str]) -> Option<BodyTemplate> {
    Some(match value {
        Value::String(text) => BodyTemplate::Text(scope.template(place, text, names, false)?),
        Value::Array(items) => {
            let items = items.iter().enumerate().map(|(at, item)| template(scope, place.index(at), item, names));
            BodyTemplate::List(items.collect::<Option<_>>()?)
        }
        Value::Object(members) => {
            let pairs = members.iter().map(|(name, inner)| Some((name.clone(), template(scope, place.key(name), inner, names)?)));
            BodyTemplate::Object(pairs.collect::<Option<_>>()?)
        }
        plain => BodyTemplate::Plain(plain.clone()),
    })
}
