//! Fixtures: exchanges with a vendor, recorded or written from its documents, that the contract suite replays; and the
//! rules a level sets for them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path as FilePath,
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    Catalog, Connector, Get, Level, LinkMethod, List, ListSource, Position, Problem, ResourceDef, compile::tidy, folder::HEAD,
};
use crate::{mapping::Path, model::Resource};

/// One file of `fixtures/`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Fixture {
    /// Where the exchanges come from.
    pub source: FixtureSource,
    /// Which server, which page of its documents.
    pub note: Option<String>,
    /// The link method it was made with.
    pub method: String,
    /// Fields that are not secret; secrets are never in a fixture.
    #[serde(default)]
    pub fields: BTreeMap<String, String>,
    /// The resource read.
    pub resource: Resource,
    /// What is done.
    pub operation: Operation,
    /// Values for `{id}`, `{group_id}` …
    #[serde(default)]
    pub values: BTreeMap<String, String>,
    /// What the link test had learned.
    #[serde(default)]
    pub facts: serde_json::Map<String, Value>,
    /// What `$company` reads, for vendors that serve many.
    pub company: Option<Value>,
    /// Records asked for per page.
    pub limit: Option<usize>,
    /// What the vendor is asked and answers, in order.
    pub exchanges: Vec<Exchange>,
    /// What comes of it; records when left out.
    pub expect: Option<Expect>,
}

/// Where exchanges come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FixtureSource {
    /// Seen on the wire.
    Recorded,
    /// From the vendor's or a client's source code.
    CodeReading,
    /// From documents.
    Docs,
}

/// What a fixture does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// Reads a list to its end.
    List,
    /// Reads one record.
    Get,
}

/// One request and its answer.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Exchange {
    /// What is asked.
    pub request: Asked,
    /// What is answered.
    pub response: Answered,
}

/// What is asked: a request below the base, or a command.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    /// The HTTP method.
    #[serde(default)]
    pub method: String,
    /// The path below the base.
    #[serde(default)]
    pub path: String,
    /// Parameters the request must have.
    #[serde(default)]
    pub query: BTreeMap<String, String>,
    /// The command, for command transports.
    #[serde(default)]
    pub command: Vec<String>,
}

/// What is answered.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Answered {
    /// The status.
    pub status: u16,
    /// Headers.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// JSON, or a text sent as it is.
    pub body: Value,
}

impl Answered {
    /// The body's bytes.
    pub fn bytes(&self) -> Vec<u8> {
        match &self.body {
            Value::String(text) => text.clone().into_bytes(),
            json => serde_json::to_vec(json).unwrap_or_default(),
        }
    }
}

/// What comes of a fixture that gives no records.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// The code of the error table.
    pub error: Option<String>,
    /// There is no such record.
    #[serde(default)]
    pub missing: bool,
}

/// A fixture with its file's name.
#[derive(Clone, Debug)]
pub struct Named {
    /// `users.list.json`.
    pub name: String,
    /// The fixture.
    pub fixture: Fixture,
}

/// The fixtures of one connector's folder, by name. Snapshots (`*.mapped.json`) stand beside them and are not fixtures.
pub fn read(folder: &FilePath, connector: &str) -> Result<Vec<Named>, Vec<Problem>> {
    let Ok(entries) = fs::read_dir(folder.join("fixtures")) else { return Ok(Vec::new()) };
    let (mut fixtures, mut problems) = (Vec::new(), Vec::new());
    for path in entries.flatten().map(|entry| entry.path()) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !name.ends_with(".json") || name.ends_with(".mapped.json") {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap_or_default();
        match serde_json::from_str::<Fixture>(&text) {
            Ok(fixture) => fixtures.push(Named { name, fixture }),
            Err(error) => problems.push(Problem {
                file: format!("{connector}/fixtures/{name}"),
                line: error.line() as u64,
                column: error.column().max(1) as u64,
                message: error.to_string(),
                hint: Some(
                    "keys: source, note, method, fields, resource, operation, values, facts, company, limit, exchanges, expect"
                        .to_owned(),
                ),
            }),
        }
    }
    fixtures.sort_by(|a, b| a.name.cmp(&b.name));
    if problems.is_empty() { Ok(fixtures) } else { Err(problems) }
}

/// Loads a folder of connectors and checks it whole: files, and fixtures against the levels.
pub fn check_dir(dir: &FilePath) -> (Catalog, Vec<Problem>) {
    let catalog = Catalog::load_dir(dir);
    let single = dir.join(HEAD).is_file();
    let mut problems = catalog.problems().to_vec();
    for connector in catalog.all() {
        let folder = if single { dir.to_owned() } else { dir.join(connector.slug.as_str()) };
        match read(&folder, connector.slug.as_str()) {
            Ok(fixtures) => problems.extend(level_problems(connector, &fixtures)),
            Err(found) => problems.extend(found),
        }
    }
    (catalog, tidy(problems))
}

/// What keeps the connector from its level.
pub fn level_problems(connector: &Connector, fixtures: &[Named]) -> Vec<Problem> {
    let slug = connector.slug.as_str();
    let mut problems: Vec<Problem> = fixtures.iter().filter_map(|named| stray(connector, named)).collect();
    for method in connector.methods.iter().filter(|method| method.level > Level::Draft) {
        for def in method.resources.values().filter(|def| def.none.is_none()) {
            let missing = unhit(connector, method, def, fixtures);
            if !missing.is_empty() {
                problems.push(Problem {
                    file: format!("{slug}/{}.yaml", def.resource.plural()),
                    line: 0,
                    column: 1,
                    message: format!("no fixture of `{}` hits {}", method.name, missing.join(", ")),
                    hint: Some("add a fixture, name the path under `optional`, or set `level: draft`".to_owned()),
                });
            }
        }
        let unseen = |named: &&Named| named.fixture.method == method.name && named.fixture.source != FixtureSource::Recorded;
        if method.level == Level::Stable
            && let Some(named) = fixtures.iter().find(unseen)
        {
            problems.push(Problem {
                file: format!("{slug}/fixtures/{}", named.name),
                line: 0,
                column: 1,
                message: format!("the method `{}` is stable, but this fixture was not recorded", method.name),
                hint: Some("record it, or set `level: beta`".to_owned()),
            });
        }
    }
    problems
}

/// A fixture of a method or a resource the connector does not have tests nothing.
fn stray(connector: &Connector, named: &Named) -> Option<Problem> {
    let def = connector.method(&named.fixture.method).and_then(|method| method.resources.get(&named.fixture.resource));
    let there = def.is_some_and(|def| def.none.is_none());
    (!there).then(|| Problem {
        file: format!("{}/fixtures/{}", connector.slug, named.name),
        line: 0,
        column: 1,
        message: format!("the connector has no {} by `{}`", named.fixture.resource.plural(), named.fixture.method),
        hint: Some("the fixture tests nothing; remove it or correct it".to_owned()),
    })
}

/// Source paths no record of a fixture has. Methods that read the same paths share fixtures, and what `like` took over is
/// covered by the connector it came from.
fn unhit(connector: &Connector, method: &LinkMethod, def: &ResourceDef, fixtures: &[Named]) -> Vec<String> {
    let sources = def.table.sources();
    let same = |name: &str| {
        connector.method(name).and_then(|m| m.resources.get(&def.resource)).is_some_and(|other| other.table.sources() == sources)
    };
    let records: Vec<Vec<u8>> = fixtures
        .iter()
        .filter(|named| named.fixture.resource == def.resource && same(&named.fixture.method))
        .flat_map(|named| records(method, def, &named.fixture))
        .collect();
    let optional: BTreeSet<&str> = def.optional.iter().map(String::as_str).chain(def.taken.iter().map(String::as_str)).collect();
    let hit = |source: &str| Path::parse(source).is_ok_and(|path| !path.reads_record() || records.iter().any(|r| has(&path, r)));
    sources.into_iter().filter(|source| !optional.contains(source.as_str()) && !hit(source)).collect()
}

fn has(path: &Path, record: &[u8]) -> bool {
    !path.texts(record).is_empty() || path.elements(record).is_ok_and(|elements| !elements.is_empty())
}

/// The vendor's records in a fixture's answers, unmapped.
pub fn records(method: &LinkMethod, def: &ResourceDef, fixture: &Fixture) -> Vec<Vec<u8>> {
    let good = fixture.exchanges.iter().filter(|exchange| (200..300).contains(&exchange.response.status));
    good.flat_map(|exchange| records_of(method, def, fixture, &exchange.response.bytes())).collect()
}

fn records_of(method: &LinkMethod, def: &ResourceDef, fixture: &Fixture, body: &[u8]) -> Vec<Vec<u8>> {
    let (path, having) = match (fixture.operation, &def.get, &def.list) {
        (Operation::Get, Some(Get::Request { record, .. }), _) => (record, None),
        (_, _, Some(List { source: ListSource::Of { resource, paths, is }, .. })) => {
            let Some(List { records, .. }) = method.resources.get(resource).and_then(|other| other.list.as_ref()) else {
                return Vec::new();
            };
            (records, Some((paths, is.render(Position::Text, |name| fixture.values.get(name).map(String::as_str)))))
        }
        (_, _, Some(List { records, .. })) => (records, None),
        _ => return Vec::new(),
    };
    let elements = path.elements(body).unwrap_or_default();
    let records = elements.into_iter().filter_map(|range| body.get(range).map(<[u8]>::to_vec));
    match having {
        None => records.collect(),
        Some((paths, is)) => {
            let is = is.unwrap_or_default();
            records.filter(|record| paths.iter().any(|path| path.texts(record).contains(&is))).collect()
        }
    }
}
