//! A map turned round: which fields of a unified record can be written, and where in the vendor's record each stands.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::{
    Path, RuleError, RuleFile, SourceFile,
    convert::ReadAs,
    near::hint,
    path::{Root, Step},
    rule::OneOrMany,
};
use crate::model::{Kind, Shape};

/// The most elements of a list that a target or a path of a map may name.
const MOST_ITEMS: usize = 16;

/// What a resource file says about writing beside its map.
#[derive(Clone, Copy, Debug)]
pub struct ReverseRules<'f> {
    /// Targets the vendor sets itself.
    pub read_only: &'f [String],
    /// Target → unified word → the vendor's value.
    pub values: &'f BTreeMap<String, BTreeMap<String, Value>>,
}

/// A map, turned round.
#[derive(Clone, Debug)]
pub struct Reverse {
    fields: Vec<Field>,
}

/// One target of the map.
#[derive(Clone, Debug)]
struct Field {
    target: String,
    steps: Vec<Step>,
    /// How it is written, or why it cannot be.
    how: Result<How, String>,
}

#[derive(Clone, Debug)]
enum How {
    /// Always this value.
    Fixed(Value),
    /// At a path of the vendor's record.
    Set(Path, Form),
    /// A list of records at a path.
    Each(Path, Vec<Field>),
    /// The id of the company it is written in.
    Company,
}

/// From the unified value to the vendor's.
#[derive(Clone, Debug, Default)]
struct Form {
    words: Option<Vec<(Value, Value)>>,
    read_as: Option<ReadAs>,
    joined_with: Option<String>,
    nothing: Vec<String>,
}

/// A value that goes into the vendor's record.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The unified field it was made of, for messages.
    pub field: String,
    /// Where it goes.
    pub path: Path,
    /// The value; null takes the old one away.
    pub value: Value,
}

/// What is wrong with a record that shall be written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// The unified record has no such field.
    #[error("there is no field `{field}`")]
    Unknown {
        /// As it was given.
        field: String,
        /// The nearest that exists, or all.
        hint: Option<String>,
    },
    /// The value is not of the field's kind.
    #[error("`{field}` takes {takes}")]
    Wrong {
        /// The field.
        field: String,
        /// What it takes.
        takes: String,
    },
    /// The vendor cannot be told.
    #[error("`{field}` cannot be written: {why}")]
    NotWritable {
        /// The field.
        field: String,
        /// Why.
        why: String,
    },
    /// Two fields are one at the vendor.
    #[error("`{field}` and `{other}` are the same at the vendor and must be equal")]
    Conflict {
        /// The one.
        field: String,
        /// The other.
        other: String,
    },
}

impl Reverse {
    /// Turns a map round. The map itself was compiled before, so that only what is said about writing can be wrong.
    pub fn compile(
        map: &BTreeMap<String, RuleFile>,
        shape: &'static Shape,
        rules: ReverseRules<'_>,
    ) -> Result<Reverse, Vec<RuleError>> {
        let mut errors = Vec::new();
        let fields = fields(map, shape, rules, &mut errors);
        let known = |target: &str| map.contains_key(target);
        for target in rules.read_only.iter().chain(rules.values.keys()).filter(|target| !known(target)) {
            let message = "is no target of the map".to_owned();
            errors.push(RuleError { target: target.clone(), message, hint: hint(target, map.keys().map(String::as_str)) });
        }
        if errors.is_empty() { Ok(Reverse { fields }) } else { Err(errors) }
    }

    /// Targets that can be written, as the map names them.
    pub fn writable(&self) -> impl Iterator<Item = &str> {
        self.fields
            .iter()
            .filter(|field| matches!(field.how, Ok(How::Set(..) | How::Each(..))))
            .map(|field| field.target.as_str())
    }

    /// Where in the vendor's record a writable target goes.
    pub fn sources(&self) -> impl Iterator<Item = (&str, &str)> {
        self.fields.iter().filter_map(|field| match &field.how {
            Ok(How::Set(path, _) | How::Each(path, _)) => Some((field.target.as_str(), path.as_str())),
            _ => None,
        })
    }

    /// The targets that name the company a record belongs to.
    pub fn company_targets(&self) -> impl Iterator<Item = &str> {
        self.fields.iter().filter(|field| matches!(field.how, Ok(How::Company))).map(|field| field.target.as_str())
    }

    /// The vendor's values of a unified record whose form was checked. `null` and an empty list take away what was there.
    pub fn changes(&self, body: &Map<String, Value>) -> Result<Vec<Change>, BodyError> {
        let mut changes: Vec<Change> = Vec::new();
        for (name, value) in body {
            let from = changes.len();
            self.field(name, value, &mut changes)?;
            for at in from..changes.len() {
                let same = changes[..at].iter().find(|other| other.path == changes[at].path);
                if let Some(other) = same.filter(|other| !is_equal(&other.value, &changes[at].value)) {
                    return Err(BodyError::Conflict { field: changes[at].field.clone(), other: other.field.clone() });
                }
            }
        }
        Ok(changes)
    }

    /// The companies a record names as its own, with the field of each.
    pub fn companies(&self, body: &Map<String, Value>) -> Vec<(String, String)> {
        let mut leaves = Vec::new();
        for (name, value) in body {
            collect(value, name.clone(), vec![Step::Key(name.clone())], &mut leaves);
        }
        let is_company =
            |steps: &Vec<Step>| self.fields.iter().any(|field| field.steps == *steps && matches!(field.how, Ok(How::Company)));
        let named = leaves.into_iter().filter(|(_, steps, _)| is_company(steps));
        named.filter_map(|(field, _, value)| Some((field, value.as_str()?.to_owned()))).collect()
    }

    fn field(&self, name: &str, value: &Value, changes: &mut Vec<Change>) -> Result<(), BodyError> {
        let parts: Vec<&Field> =
            self.fields.iter().filter(|field| matches!(field.steps.first(), Some(Step::Key(key)) if key == name)).collect();
        match parts.as_slice() {
            [] => Err(not_writable(name, "the vendor has no such field, as far as this connector knows")),
            [whole] if whole.steps.len() == 1 => whole.write(name, value, changes),
            _ if is_nothing(value) => take_away(name, &parts, changes),
            _ => {
                let mut leaves = Vec::new();
                collect(value, name.to_owned(), vec![Step::Key(name.to_owned())], &mut leaves);
                for (field, steps, value) in leaves {
                    let part = parts.iter().find(|part| part.steps == steps);
                    let part = part.ok_or_else(|| not_writable(&field, "the vendor takes no such part of it"))?;
                    part.write(&field, value, changes)?;
                }
                Ok(())
            }
        }
    }
}

fn not_writable(field: &str, why: impl Into<String>) -> BodyError {
    BodyError::NotWritable { field: field.to_owned(), why: why.into() }
}

fn is_nothing(value: &Value) -> bool {
    value.is_null() || value.as_array().is_some_and(Vec::is_empty)
}

/// Texts of addresses differ in case only, because vendors write them their own way.
fn is_equal(one: &Value, other: &Value) -> bool {
    match (one.as_str(), other.as_str()) {
        (Some(one), Some(other)) if one.contains('@') => one.eq_ignore_ascii_case(other),
        _ => one == other,
    }
}

fn take_away(name: &str, parts: &[&Field], changes: &mut Vec<Change>) -> Result<(), BodyError> {
    let before = changes.len();
    for part in parts {
        if let Ok(How::Set(path, _) | How::Each(path, _)) = &part.how {
            changes.push(Change { field: name.to_owned(), path: path.clone(), value: Value::Null });
        }
    }
    match parts.iter().find_map(|part| part.how.as_ref().err()) {
        Some(why) if changes.len() == before => Err(not_writable(name, why)),
        _ => Ok(()),
    }
}

/// Every plain value within a record or list, with the target that leads to it; nulls within say nothing.
fn collect<'v>(value: &'v Value, field: String, steps: Vec<Step>, out: &mut Vec<(String, Vec<Step>, &'v Value)>) {
    let with = |step: Step| [&steps[..], &[step]].concat();
    match value {
        Value::Null => {}
        Value::Object(members) => {
            members.iter().for_each(|(name, inner)| collect(inner, format!("{field}.{name}"), with(Step::Key(name.clone())), out))
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(at, inner)| collect(inner, format!("{field}[{at}]"), with(Step::Index(at)), out))
        }
        plain => out.push((field, steps, plain)),
    }
}

impl Field {
    fn write(&self, field: &str, value: &Value, changes: &mut Vec<Change>) -> Result<(), BodyError> {
        let (path, value) = match &self.how {
            Err(why) => return Err(not_writable(field, why)),
            Ok(How::Company) => return Ok(()),
            Ok(How::Fixed(fixed)) if fixed == value => return Ok(()),
            Ok(How::Fixed(fixed)) => return Err(not_writable(field, format!("it is always {fixed}"))),
            Ok(How::Set(path, _) | How::Each(path, _)) if is_nothing(value) => (path, Value::Null),
            Ok(How::Set(path, form)) => (path, form.write(field, value)?),
            Ok(How::Each(path, members)) => (path, each(field, value, members)?),
        };
        changes.push(Change { field: field.to_owned(), path: path.clone(), value });
        Ok(())
    }
}

fn each(field: &str, value: &Value, members: &[Field]) -> Result<Value, BodyError> {
    let mut written = Vec::new();
    for (at, item) in value.as_array().into_iter().flatten().enumerate() {
        let mut element = Value::Null;
        for (name, value) in item.as_object().into_iter().flatten().filter(|(_, value)| !is_nothing(value)) {
            let full = format!("{field}[{at}].{name}");
            let member = members.iter().find(|member| member.target == *name);
            let mut changes = Vec::new();
            member.ok_or_else(|| not_writable(&full, "the vendor takes no such part of it"))?.write(
                &full,
                value,
                &mut changes,
            )?;
            changes.iter().for_each(|change| change.apply(&mut element));
        }
        if !element.is_null() {
            written.push(element);
        }
    }
    Ok(Value::Array(written))
}

impl Form {
    fn write(&self, field: &str, value: &Value) -> Result<Value, BodyError> {
        if let Some(words) = &self.words {
            let found = words.iter().find(|(word, _)| word == value);
            return found.map(|(_, theirs)| theirs.clone()).ok_or_else(|| {
                let known: Vec<String> = words.iter().map(|(word, _)| word.to_string()).collect();
                not_writable(field, format!("the vendor can be told {} only", known.join(", ")))
            });
        }
        if let Some(with) = &self.joined_with {
            return joined(field, value, with);
        }
        if value.as_str().is_some_and(|text| self.nothing.iter().any(|word| word == text)) {
            return Err(not_writable(field, "the vendor takes this text for none"));
        }
        let time = |value: &Value| value.as_str().and_then(|text| text.parse::<Timestamp>().ok());
        let written = match &self.read_as {
            None | Some(ReadAs::Text | ReadAs::Date(_) | ReadAs::DateTime(_)) => Some(value.clone()),
            Some(ReadAs::EpochSeconds) => time(value).map(|at| at.as_second().into()),
            Some(ReadAs::EpochMillis) => time(value).map(|at| at.as_millisecond().into()),
            Some(ReadAs::Integer) => value.as_str().and_then(|text| text.parse::<i64>().ok()).map(Value::from),
        };
        written.ok_or_else(|| not_writable(field, "the vendor keeps it as a number, which this is not"))
    }
}

fn joined(field: &str, value: &Value, with: &str) -> Result<Value, BodyError> {
    let texts: Vec<&str> = value.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if texts.iter().any(|text| text.contains(with) || text.trim() != *text || text.is_empty()) {
        return Err(not_writable(field, format!("the vendor keeps one text with `{with}` between, which no part may hold")));
    }
    Ok(Value::String(texts.join(with)))
}

fn fields(
    map: &BTreeMap<String, RuleFile>,
    shape: &'static Shape,
    rules: ReverseRules<'_>,
    errors: &mut Vec<RuleError>,
) -> Vec<Field> {
    let mut fields = Vec::new();
    for (target, file) in map {
        let Ok(path) = Path::parse(target) else { continue };
        let steps = path.steps().to_vec();
        let words = rules.values.get(target);
        let how = match () {
            _ if target == "id" => Err("the vendor gives it".to_owned()),
            _ if rules.read_only.contains(target) => Err("the vendor sets it itself".to_owned()),
            () => how(file, kind_at(Kind::Object(shape), &steps), words),
        };
        if let (Some(words), Err(why)) = (words, &how) {
            let message = format!("`values` of {} words beside a rule that cannot be turned round: {why}", words.len());
            errors.push(RuleError { target: target.clone(), message, hint: None });
        }
        fields.push(Field { target: target.clone(), steps, how });
    }
    fields
}

fn kind_at(kind: Kind, steps: &[Step]) -> Kind {
    steps.iter().fold(kind, |kind, step| match (kind, step) {
        (Kind::Object(shape), Step::Key(name)) => shape.field(name).map_or(Kind::Text, |field| field.kind),
        (Kind::List(item), Step::Index(_)) => *item,
        (kind, _) => kind,
    })
}

fn how(file: &RuleFile, kind: Kind, words: Option<&BTreeMap<String, Value>>) -> Result<How, String> {
    let full = match file {
        RuleFile::Path(path) => from(std::slice::from_ref(path)),
        RuleFile::First(paths) => from(paths),
        RuleFile::Full(full) => (**full).clone(),
    };
    if full.when.is_some() {
        return Err("it depends on another field of the vendor's".to_owned());
    }
    if let Some(fixed) = full.constant {
        return Ok(How::Fixed(fixed));
    }
    if full.present.is_some() || full.join_paths.is_some() || full.function.is_some() || full.join.is_some() {
        return Err("the vendor's record holds it in no form that can be written".to_owned());
    }
    if let (Some(text), Some(map)) = (&full.each, &full.map) {
        let Kind::List(Kind::Object(shape)) = kind else { return Err("it is no list of records".to_owned()) };
        let text = text.strip_suffix("[*]").unwrap_or(text);
        let none = ReverseRules { read_only: &[], values: &BTreeMap::new() };
        return Ok(How::Each(place(text)?, members(map, shape, none)));
    }
    let text = full.from.as_ref().and_then(|from| from.as_slice().first()).ok_or("there is no path")?;
    if text == "$company.id" {
        return Ok(How::Company);
    }
    Ok(How::Set(place(text)?, form(&full, words)?))
}

/// The members of a list's records, of which `id` is one like the others.
fn members(map: &BTreeMap<String, RuleFile>, shape: &'static Shape, rules: ReverseRules<'_>) -> Vec<Field> {
    let one = |(target, file): (&String, &RuleFile)| {
        let steps = Path::parse(target).ok()?.steps().to_vec();
        let how = how(file, kind_at(Kind::Object(shape), &steps), rules.values.get(target));
        Some(Field { target: target.clone(), steps, how })
    };
    map.iter().filter_map(one).collect()
}

fn from(paths: &[String]) -> SourceFile {
    SourceFile { from: Some(OneOrMany::Many(paths.to_vec())), ..SourceFile::default() }
}

/// A path that a value can be put at.
fn place(text: &str) -> Result<Path, String> {
    let path = Path::parse(text).map_err(|error| error.to_string())?;
    if path.root() != Root::Record {
        return Err("it is no part of the vendor's record".to_owned());
    }
    let deep = |step: &Step| matches!(step, Step::All) || matches!(step, Step::Index(at) if *at >= MOST_ITEMS);
    if path.steps().iter().any(deep) {
        return Err("it stands in many places of the vendor's record".to_owned());
    }
    Ok(path)
}

fn form(full: &SourceFile, words: Option<&BTreeMap<String, Value>>) -> Result<Form, String> {
    let mut form = Form {
        joined_with: full.split.clone(),
        nothing: full.null_if.as_ref().map(|texts| texts.as_slice().to_vec()).unwrap_or_default(),
        ..Form::default()
    };
    if let Some(word) = &full.read_as {
        let formatted = full.format.is_some();
        form.read_as = ReadAs::named(word, full.format.clone());
        if formatted {
            return Err("the vendor's own form of dates is only read".to_owned());
        }
    }
    form.words = match (&full.values, words) {
        (Some(values), Some(words)) => Some(given(values, words)?),
        (Some(values), None) => Some(unique(values)?),
        (None, Some(_)) => return Err("the map has no `values` for it".to_owned()),
        (None, None) => None,
    };
    Ok(form)
}

/// The words of the file, each of which must be read as what it was written for.
fn given(values: &BTreeMap<String, Value>, words: &BTreeMap<String, Value>) -> Result<Vec<(Value, Value)>, String> {
    let checked = words.iter().map(|(word, theirs)| {
        let text = theirs.as_str().map_or_else(|| theirs.to_string(), str::to_owned);
        match values.get(&text).and_then(Value::as_str) == Some(word) {
            true => Ok((Value::String(word.clone()), theirs.clone())),
            false => Err(format!("`{text}` is not read as `{word}`")),
        }
    });
    checked.collect()
}

/// The words that only one word of the vendor stands for.
fn unique(values: &BTreeMap<String, Value>) -> Result<Vec<(Value, Value)>, String> {
    let alone = |word: &Value| values.values().filter(|other| *other == word).count() == 1;
    let words: Vec<_> = values.iter().filter(|(_, word)| alone(word)).collect();
    match words.is_empty() {
        true => Err("several words of the vendor stand for each, and the connector does not say which to write".to_owned()),
        false => Ok(words.into_iter().map(|(theirs, word)| (word.clone(), Value::String(theirs.clone()))).collect()),
    }
}

impl Change {
    /// Puts the value into the vendor's record.
    pub fn apply(&self, record: &mut Value) {
        match self.value {
            Value::Null => clear(record, self.path.steps()),
            _ => set(record, self.path.steps(), &self.value),
        }
    }

    /// The same, with `null` written out where a value is taken away.
    pub fn put(&self, record: &mut Value) {
        set(record, self.path.steps(), &self.value);
    }
}

fn set(at: &mut Value, steps: &[Step], value: &Value) {
    let Some((step, rest)) = steps.split_first() else {
        *at = value.clone();
        return;
    };
    match step {
        Step::Key(key) => {
            if !at.is_object() {
                *at = Value::Object(Map::new());
            }
            if let Some(members) = at.as_object_mut() {
                set(members.entry(key.clone()).or_insert(Value::Null), rest, value);
            }
        }
        Step::Index(index) => {
            let items = list(at);
            while items.len() <= *index {
                items.push(Value::Null);
            }
            set(&mut items[*index], rest, value);
        }
        Step::Where { key, is } => {
            let items = list(at);
            let known = items.iter().position(|item| item.get(key).and_then(Value::as_str) == Some(is));
            let index = known.unwrap_or_else(|| {
                items.push(Value::Object([(key.clone(), Value::String(is.clone()))].into_iter().collect()));
                items.len() - 1
            });
            set(&mut items[index], rest, value);
        }
        // No path that is written has this step.
        Step::All => {}
    }
}

fn list(at: &mut Value) -> &mut Vec<Value> {
    if !at.is_array() {
        *at = Value::Array(Vec::new());
    }
    match at {
        Value::Array(items) => items,
        // It was made a list just now; an empty one of nobody's satisfies the compiler.
        other => {
            *other = Value::Array(Vec::new());
            list(other)
        }
    }
}

fn clear(at: &mut Value, steps: &[Step]) {
    match steps {
        [] => *at = Value::Null,
        [Step::Key(key)] => drop(at.as_object_mut().and_then(|members| members.shift_remove(key))),
        [Step::Key(key), rest @ ..] => at.get_mut(key).into_iter().for_each(|inner| clear(inner, rest)),
        [Step::Index(index), rest @ ..] => {
            if let Some(items) = at.as_array_mut().filter(|items| *index < items.len()) {
                match rest {
                    [] => drop(items.remove(*index)),
                    rest => clear(&mut items[*index], rest),
                }
            }
        }
        [Step::Where { key, is }, ..] => {
            if let Some(items) = at.as_array_mut() {
                items.retain(|item| item.get(key).and_then(Value::as_str) != Some(is));
            }
        }
        [Step::All, ..] => {}
    }
}
