//! The JSON Schemas of the connector files, generated from the types that load them, and the check against them. One
//! source: what an editor underlines is what `rollcall check` says.

use std::sync::LazyLock;

use schemars::{JsonSchema, generate::SchemaSettings};
use serde_json::{Map, Value};

use super::{
    Problem,
    file::{ConnectorFile, ResourceFile},
    fixture::Fixture,
    yaml::{Content, Node, Place},
};
use crate::model::{Slug, distance};

static CONNECTOR: LazyLock<Value> = LazyLock::new(|| generate::<ConnectorFile>("A connector's head file, `connector.yaml`."));
static RESOURCE: LazyLock<Value> = LazyLock::new(|| generate::<ResourceFile>("One resource of a connector, `<plural>.yaml`."));
static FIXTURE: LazyLock<Value> = LazyLock::new(|| generate::<Fixture>("Exchanges with a vendor, `fixtures/*.json`."));

/// The only pattern in the schemas; [`Slug`] reads the same.
const SLUG: &str = "^[a-z][a-z0-9-]{0,62}$";

/// The schema of `connector.yaml`.
pub fn connector() -> &'static Value {
    &CONNECTOR
}

/// The schema of `<plural>.yaml`.
pub fn resource() -> &'static Value {
    &RESOURCE
}

/// The schema of `fixtures/*.json`.
pub fn fixture() -> &'static Value {
    &FIXTURE
}

/// A schema as the text of its file under `connectors/_schema/`.
pub fn text(schema: &Value) -> String {
    let mut text = serde_json::to_string_pretty(schema).unwrap_or_default();
    text.push('\n');
    text
}

fn generate<T: JsonSchema>(title: &str) -> Value {
    let schema = SchemaSettings::draft07().into_generator().into_root_schema_for::<T>();
    let mut value = schema.to_value();
    if let Some(object) = value.as_object_mut() {
        object.insert("title".into(), title.into());
    }
    if let Some(slug) = value.pointer_mut("/definitions/Slug").and_then(Value::as_object_mut) {
        slug.insert("pattern".into(), SLUG.into());
    }
    value
}

/// Every mistake of form: unknown keys, wrong types, unknown words, missing keys.
pub(super) fn check(schema: &Value, file: &str, root: &Node) -> Vec<Problem> {
    let mut checker = Checker { root: schema, problems: Vec::new() };
    checker.check(schema, root, Place::top(file, root), "the file");
    checker.problems
}

struct Checker<'s> {
    root: &'s Value,
    problems: Vec<Problem>,
}

type Schema = Map<String, Value>;

impl<'s> Checker<'s> {
    fn check(&mut self, schema: &'s Value, node: &Node, place: Place<'_>, what: &str) {
        if let Some(schema) = self.resolve(schema) {
            self.check_resolved(schema, node, place, what);
        }
    }

    fn check_resolved(&mut self, schema: &'s Schema, node: &Node, place: Place<'_>, what: &str) {
        if let Some(options) = alternatives(schema) {
            return self.check_one_of(options, node, place, what);
        }
        if types_of(schema).is_some_and(|types| !types.iter().any(|t| is_type(node, t))) {
            let message = format!("{what} must be {}, not {}", takes([schema]), name_of(node));
            return self.problems.push(place.problem(message, hint_for(schema, node)));
        }
        match &node.content {
            Content::Map(entries) => {
                self.check_required(schema, node, place, what);
                for entry in entries {
                    self.check_entry(schema, &entry.key, &entry.value, place);
                }
            }
            Content::List(list) => {
                if let Some(items) = schema.get("items") {
                    for (i, element) in list.iter().enumerate() {
                        self.check(items, element, place.index(i), &format!("an element of {what}"));
                    }
                }
            }
            Content::Text(text) if schema.contains_key("pattern") => {
                if let Err(takes) = text.parse::<Slug>() {
                    self.problems.push(place.problem(format!("`{text}` is not a connector's name"), takes));
                }
            }
            Content::Number(number) => self.check_range(schema, number.as_f64(), place, what),
            _ => {}
        }
    }

    fn check_required(&mut self, schema: &'s Schema, node: &Node, place: Place<'_>, what: &str) {
        for key in schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
            if node.get(key).is_none() {
                let hint = property(schema, key).and_then(describe);
                self.problems.push(place.problem(format!("{what} needs the key `{key}`"), hint));
            }
        }
    }

    fn check_entry(&mut self, schema: &'s Schema, key: &str, value: &Node, place: Place<'_>) {
        if let Some(property) = property(schema, key) {
            return self.check(property, value, place.key(key), &format!("`{key}`"));
        }
        match schema.get("additionalProperties") {
            Some(Value::Bool(false)) => {
                let known: Vec<&str> = schema
                    .get("properties")
                    .and_then(Value::as_object)
                    .into_iter()
                    .flat_map(Map::keys)
                    .map(String::as_str)
                    .collect();
                let hint = suggest(key, &known, "known keys");
                self.problems.push(place.name(key).problem(format!("unknown key `{key}`"), hint));
            }
            Some(values) => self.check(values, value, place.key(key), &format!("`{key}`")),
            None => {}
        }
    }

    fn check_range(&mut self, schema: &Schema, number: Option<f64>, place: Place<'_>, what: &str) {
        let bound = |name: &str| schema.get(name).and_then(Value::as_f64);
        let (low, high) = (bound("minimum"), bound("maximum"));
        if number.is_some_and(|n| low.is_some_and(|low| n < low) || high.is_some_and(|high| n > high)) {
            let hint = match (low, high) {
                (Some(low), Some(high)) => format!("from {low} to {high}"),
                (Some(low), None) => format!("{low} or more"),
                (None, high) => format!("at most {}", high.unwrap_or_default()),
            };
            self.problems.push(place.problem(format!("{what} is out of range"), hint));
        }
    }

    /// Of several forms the one meant is chosen by its word, tag, key or type, so that the message is about that one.
    fn check_one_of(&mut self, options: &'s [Value], node: &Node, place: Place<'_>, what: &str) {
        let words: Vec<&str> = options.iter().filter_map(|o| o.get("const")?.as_str()).collect();
        if words.len() == options.len() {
            return self.check_word(&words, node, place, what);
        }
        let forms: Vec<&Schema> = options.iter().filter_map(|o| self.resolve(o)).filter(|o| !is_null(o)).collect();
        if forms.len() < options.len() && matches!(node.content, Content::Null) {
            return;
        }
        if let [only] = forms.as_slice() {
            return self.check_resolved(only, node, place, what);
        }
        if let Some(words) = forms.iter().map(|form| tag_word(form)).collect::<Option<Vec<_>>>() {
            return self.check_tagged(&forms, &words, node, place, what);
        }
        if let Some(keys) = forms.iter().map(|form| only_key(form)).collect::<Option<Vec<_>>>() {
            return self.check_keyed(&forms, &keys, node, place, what);
        }
        match forms.iter().find(|form| types_of(form).is_some_and(|types| types.iter().any(|t| is_type(node, t)))) {
            Some(form) => self.check_resolved(form, node, place, what),
            None => {
                let message = format!("{what} must be {}, not {}", takes(forms.iter().copied()), name_of(node));
                let hint = forms.iter().find_map(|form| hint_for(form, node));
                self.problems.push(place.problem(message, hint));
            }
        }
    }

    fn check_word(&mut self, words: &[&str], node: &Node, place: Place<'_>, what: &str) {
        match &node.content {
            Content::Text(word) if words.contains(&word.as_str()) => {}
            Content::Text(word) => {
                let message = format!("{what} does not know the word `{word}`");
                self.problems.push(place.problem(message, suggest(word, words, "words")));
            }
            _ => {
                let message = format!("{what} must be a word, not {}", name_of(node));
                self.problems.push(place.problem(message, format!("words: {}", words.join(", "))));
            }
        }
    }

    fn check_tagged(&mut self, forms: &[&'s Schema], words: &[&str], node: &Node, place: Place<'_>, what: &str) {
        let hint = format!("for example `{{ {TAG}: {} }}`", words.first().unwrap_or(&""));
        if !matches!(node.content, Content::Map(_)) {
            return self.problems.push(place.problem(format!("{what} must be a map, not {}", name_of(node)), hint));
        }
        let Some(tag) = node.get(TAG) else {
            return self.problems.push(place.problem(format!("{what} needs the key `{TAG}`"), hint));
        };
        let form = match &tag.content {
            Content::Text(text) => words.iter().position(|word| word == text),
            _ => None,
        };
        match form {
            Some(at) => self.check_resolved(forms[at], node, place, what),
            None => self.check_word(words, tag, place.key(TAG), &format!("`{TAG}`")),
        }
    }

    fn check_keyed(&mut self, forms: &[&'s Schema], keys: &[&str], node: &Node, place: Place<'_>, what: &str) {
        let hint = format!("one of: {}", keys.join(", "));
        let Content::Map(entries) = &node.content else {
            return self.problems.push(place.problem(format!("{what} must be a map, not {}", name_of(node)), hint));
        };
        let [entry] = entries.as_slice() else {
            return self.problems.push(place.problem(format!("{what} takes exactly one key"), hint));
        };
        match keys.iter().position(|key| *key == entry.key) {
            Some(at) => self.check_resolved(forms[at], node, place, what),
            None => {
                let hint = suggest(&entry.key, keys, "known keys");
                self.problems.push(place.name(&entry.key).problem(format!("unknown key `{}`", entry.key), hint));
            }
        }
    }

    fn resolve(&self, schema: &'s Value) -> Option<&'s Schema> {
        let mut schema = schema;
        loop {
            if let Some(name) = schema.get("$ref").and_then(Value::as_str) {
                schema = self.root.get("definitions")?.get(name.strip_prefix("#/definitions/")?)?;
            } else if let Some([one]) = schema.get("allOf").and_then(Value::as_array).map(Vec::as_slice) {
                schema = one;
            } else {
                return schema.as_object();
            }
        }
    }
}

/// The only tag our tagged forms use ([`super::file::PageFile`]).
const TAG: &str = "style";

fn alternatives(schema: &Schema) -> Option<&[Value]> {
    schema.get("anyOf").or_else(|| schema.get("oneOf"))?.as_array().map(Vec::as_slice)
}

fn property<'s>(schema: &'s Schema, key: &str) -> Option<&'s Value> {
    schema.get("properties")?.get(key)
}

fn describe(schema: &Value) -> Option<String> {
    Some(schema.get("description")?.as_str()?.replace('\n', " "))
}

fn tag_word(schema: &Schema) -> Option<&str> {
    property(schema, TAG)?.get("const")?.as_str()
}

fn only_key(schema: &Schema) -> Option<&str> {
    match schema.get("required")?.as_array()?.as_slice() {
        [key] if schema.get("properties")?.as_object()?.len() == 1 => key.as_str(),
        _ => None,
    }
}

fn is_null(schema: &Schema) -> bool {
    schema.get("type").and_then(Value::as_str) == Some("null")
}

fn types_of(schema: &Schema) -> Option<Vec<&str>> {
    match schema.get("type")? {
        Value::String(one) => Some(vec![one]),
        Value::Array(many) => Some(many.iter().filter_map(Value::as_str).collect()),
        _ => None,
    }
}

fn is_type(node: &Node, name: &str) -> bool {
    match &node.content {
        Content::Null => name == "null",
        Content::Bool(_) => name == "boolean",
        Content::Number(number) => name == "number" || (name == "integer" && !number.is_f64()),
        Content::Text(_) => name == "string",
        Content::List(_) => name == "array",
        Content::Map(_) => name == "object",
    }
}

fn name_of(node: &Node) -> &'static str {
    match &node.content {
        Content::Null => "empty",
        Content::Bool(_) => "a boolean",
        Content::Number(_) => "a number",
        Content::Text(_) => "a text",
        Content::List(_) => "a list",
        Content::Map(_) => "a map",
    }
}

fn takes<'s>(schemas: impl IntoIterator<Item = &'s Schema>) -> String {
    let names = schemas.into_iter().filter_map(types_of).flatten().filter(|name| *name != "null");
    let names: Vec<&str> = names
        .map(|name| match name {
            "string" => "a text",
            "array" => "a list",
            "object" => "a map",
            "boolean" => "true or false",
            "integer" => "a whole number",
            other => other,
        })
        .collect();
    names.join(" or ")
}

/// A number where a text belongs lacks its unit if the key's own words show one, else its quotes.
fn hint_for(schema: &Schema, node: &Node) -> Option<String> {
    let text = types_of(schema)?.contains(&"string");
    if !text || !matches!(node.content, Content::Bool(_) | Content::Number(_)) {
        return None;
    }
    let example = schema.get("description").and_then(Value::as_str).filter(|words| words.contains("for example `"));
    Some(example.map_or_else(|| "put it in quotes".to_owned(), |words| words.replace('\n', " ")))
}

/// The nearest known word, or all of them.
pub(super) fn suggest(given: &str, known: &[&str], label: &str) -> String {
    let near = known.iter().map(|word| (distance(given, word), *word)).min();
    match near {
        Some((far, word)) if far <= 1 + given.len() / 4 => format!("did you mean `{word}`?"),
        Some(_) => format!("{label}: {}", known.join(", ")),
        None => "nothing may stand here".to_owned(),
    }
}
