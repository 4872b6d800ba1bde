//! The contract suite: one run over every folder, `_template` included. What holds for one connector holds for all.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use rollcall::{
    connector::{Catalog, Connector, LinkMethod, ResourceDef, TextTest, check, fixture},
    mapping::{OneOrMany, Options, Roots, RuleFile},
    model::{Activity, DirectoryLicense, Group, Kind, Member, Organization, Resource, Role, RoleAssignment, User, Workspace},
};
use serde_json::{Map, Value, json};

use super::{assert_file, connectors, copy_dir};

/// A connector with its folder's fixtures.
pub struct Case {
    pub connector: Arc<Connector>,
    pub folder: PathBuf,
    pub fixtures: Vec<fixture::Named>,
}

/// Every folder. `_template` is loaded from a copy of the name its head file says; snapshots stay in the repository.
pub fn cases() -> Vec<Case> {
    let dir = tempfile::tempdir().unwrap();
    let mut folders = BTreeMap::new();
    for path in fs::read_dir(connectors()).unwrap().map(|e| e.unwrap().path()).filter(|p| p.join("connector.yaml").is_file()) {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let slug = if name == "_template" { "my-vendor".to_owned() } else { name };
        copy_dir(&path, &dir.path().join(&slug));
        folders.insert(slug, path);
    }
    let catalog = Catalog::load_dir(dir.path());
    assert!(catalog.problems().is_empty(), "{}", check::report(catalog.problems(), false));
    assert!(folders.len() >= 2);
    let load = |(slug, folder): (String, PathBuf)| {
        let fixtures = fixture::read(&folder, &slug).unwrap_or_else(|problems| panic!("{}", check::report(&problems, false)));
        Case { connector: catalog.get(&slug).unwrap().clone(), folder, fixtures }
    };
    folders.into_iter().map(load).collect()
}

impl Case {
    /// The fixtures with what they are about.
    pub fn each(&self) -> impl Iterator<Item = (&fixture::Named, &Arc<LinkMethod>, &ResourceDef)> {
        self.fixtures.iter().map(|named| {
            let method = self.connector.method(&named.fixture.method).unwrap();
            (named, method, &method.resources[&named.fixture.resource])
        })
    }
}

/// A record as the gateway gives it, and its warnings.
pub fn map(def: &ResourceDef, named: &fixture::Named, record: &[u8]) -> Result<(Value, Vec<Value>), String> {
    let company = named.fixture.company.as_ref().map(Value::to_string);
    let roots = Roots { company: company.as_deref(), ..Roots::default() };
    let mut out = Vec::new();
    let mapped = def.table.apply(record, roots, Options::default(), &mut out).map_err(|error| error.to_string())?;
    let warnings = mapped.warnings.iter().map(|warning| json!(warning)).collect();
    Ok((serde_json::from_slice(&out).unwrap(), warnings))
}

/// The snapshot's text of a fixture's records.
fn snapshot(method: &LinkMethod, def: &ResourceDef, named: &fixture::Named) -> Value {
    let (mut records, mut warnings) = (Vec::new(), Vec::new());
    for record in fixture::records(method, def, &named.fixture) {
        let (record, told) = map(def, named, &record).unwrap_or_else(|error| panic!("{}: {error}", named.name));
        records.push(record);
        warnings.extend(told);
    }
    json!({ "records": records, "warnings": warnings })
}

#[test]
fn every_fixture_maps_to_its_snapshot() {
    for case in cases() {
        for (named, method, def) in case.each().filter(|(named, ..)| named.fixture.expect.is_none()) {
            let text = serde_json::to_string_pretty(&snapshot(method, def, named)).unwrap() + "\n";
            let file = named.name.replace(".json", ".mapped.json");
            assert_file(&case.folder.join("fixtures").join(file), &text);
        }
    }
}

#[test]
fn every_snapshot_belongs_to_a_fixture() {
    for case in cases() {
        for path in fs::read_dir(case.folder.join("fixtures")).into_iter().flatten().map(|e| e.unwrap().path()) {
            let name = path.file_name().unwrap().to_str().unwrap();
            if let Some(stem) = name.strip_suffix(".mapped.json") {
                assert!(case.fixtures.iter().any(|named| named.name == format!("{stem}.json")), "{}", path.display());
            }
        }
    }
}

#[test]
fn mapped_records_are_those_of_the_unified_model() {
    for case in cases() {
        for (named, method, def) in case.each() {
            for record in snapshot(method, def, named)["records"].as_array().unwrap() {
                let mut record = record.clone();
                // What a connector does not map is left out of a record.
                for field in def.resource.shape().fields.iter().filter(|field| matches!(field.kind, Kind::List(_))) {
                    record.as_object_mut().unwrap().entry(field.name).or_insert(json!([]));
                }
                let read = match def.resource {
                    Resource::User | Resource::Me => serde_json::from_value::<User>(record.clone()).map(drop),
                    Resource::Group => serde_json::from_value::<Group>(record.clone()).map(drop),
                    Resource::GroupMember => serde_json::from_value::<Member>(record.clone()).map(drop),
                    Resource::Role => serde_json::from_value::<Role>(record.clone()).map(drop),
                    Resource::Organization => serde_json::from_value::<Organization>(record.clone()).map(drop),
                    Resource::Workspace => serde_json::from_value::<Workspace>(record.clone()).map(drop),
                    Resource::RoleAssignment => serde_json::from_value::<RoleAssignment>(record.clone()).map(drop),
                    Resource::License => serde_json::from_value::<DirectoryLicense>(record.clone()).map(drop),
                    Resource::Activity => serde_json::from_value::<Activity>(record.clone()).map(drop),
                };
                assert!(read.is_ok(), "{}/{}: {} in {record}", case.connector.slug, named.name, read.unwrap_err());
            }
        }
    }
}

/// The first step of every path a status is read from.
fn status_heads(def: &ResourceDef) -> Vec<String> {
    let Some(rule) = def.map.get("status") else { return Vec::new() };
    let mut paths: Vec<String> = Vec::new();
    match rule {
        RuleFile::Path(path) => paths.push(path.clone()),
        RuleFile::First(list) => paths.extend(list.clone()),
        RuleFile::Full(full) => {
            paths.extend(full.from.as_ref().map(OneOrMany::as_slice).unwrap_or_default().iter().cloned());
            paths.extend(full.present.clone());
            paths.extend(full.when.as_ref().map(|when| when.path.clone()));
        }
    }
    paths.iter().map(|path| path.split(['.', '[']).next().unwrap().trim_matches('"').to_owned()).collect()
}

/// Every place of a record, as JSON pointers.
fn pointers(value: &Value, at: String, out: &mut Vec<String>) {
    match value {
        Value::Object(map) => map.iter().for_each(|(key, inner)| {
            let at = format!("{at}/{}", key.replace('~', "~0").replace('/', "~1"));
            out.push(at.clone());
            pointers(inner, at, out);
        }),
        Value::Array(list) => list.iter().enumerate().for_each(|(i, inner)| {
            let at = format!("{at}/{i}");
            out.push(at.clone());
            pointers(inner, at, out);
        }),
        _ => {}
    }
}

fn without(record: &Value, pointer: &str) -> Value {
    let mut changed = record.clone();
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    match changed.pointer_mut(parent).unwrap() {
        Value::Object(map) => drop(map.shift_remove(&key.replace("~1", "/").replace("~0", "~"))),
        Value::Array(list) => drop(list.remove(key.parse().unwrap())),
        _ => {}
    }
    changed
}

#[test]
fn no_missing_null_or_odd_field_panics_or_makes_a_user_active() {
    let odd =
        [json!(null), json!(1), json!(-1.5), json!("odd"), json!(""), json!([]), json!({}), json!([[1]]), json!({ "a": [null] })];
    let mut tried = 0;
    for case in cases() {
        for (named, method, def) in case.each() {
            let heads = status_heads(def);
            for bytes in fixture::records(method, def, &named.fixture) {
                let Ok(record) = serde_json::from_slice::<Value>(&bytes) else { continue };
                let before = map(def, named, &bytes).map(|(user, _)| user["status"].clone()).unwrap_or_default();
                let mut places = Vec::new();
                pointers(&record, String::new(), &mut places);
                for place in places {
                    let replaced = odd.iter().map(|value| {
                        let mut changed = record.clone();
                        *changed.pointer_mut(&place).unwrap() = value.clone();
                        changed
                    });
                    for changed in replaced.chain([without(&record, &place)]) {
                        tried += 1;
                        let Ok((user, _)) = map(def, named, changed.to_string().as_bytes()) else { continue };
                        let decides = heads.iter().any(|head| place[1..].split('/').next() == Some(head));
                        let active = user["status"] == "active";
                        assert!(!active || (!decides && before == "active"), "{}: {place} in {changed}", named.name);
                    }
                }
            }
        }
    }
    assert!(tried > 1_000, "only {tried} records tried");
}

#[test]
fn records_that_are_not_objects_are_refused() {
    for case in cases() {
        for (named, _, def) in case.each() {
            for odd in ["", "{", "[]", "null", "1", "\"x\"", "{}", "{\"id\":null}", "\u{feff}{}", "{\"id\":1}x", "<html></html>"]
            {
                let status = map(def, named, odd.as_bytes()).map(|(user, _)| user["status"].clone());
                assert!(status.as_ref().is_ok_and(|status| status != "active") || status.is_err(), "{}: {odd}", named.name);
            }
        }
    }
}

/// An error rule that no fixture meets may be misspelt.
#[test]
fn every_error_rule_is_met_by_a_fixture() {
    for case in cases() {
        for method in &case.connector.methods {
            let answers: Vec<_> = case
                .fixtures
                .iter()
                .filter(|named| named.fixture.method == method.name)
                .flat_map(|n| &n.fixture.exchanges)
                .collect();
            for (i, rule) in method.errors.iter().enumerate() {
                let meets = |answer: &fixture::Answered| {
                    let text = rule.path.as_ref().and_then(|path| path.text(&answer.bytes()));
                    let said = match (&rule.path, &rule.text) {
                        (None, _) => true,
                        (_, TextTest::Present) => text.is_some(),
                        (_, TextTest::Equals(wanted)) => text.as_ref() == Some(wanted),
                        (_, TextTest::Starts(wanted)) => text.is_some_and(|text| text.starts_with(wanted)),
                        (_, TextTest::Contains(wanted)) => {
                            text.is_some_and(|text| text.to_lowercase().contains(&wanted.to_lowercase()))
                        }
                    };
                    said && (rule.status.is_empty() || rule.status.contains(&answer.status))
                };
                let met = answers.iter().any(|exchange| meets(&exchange.response));
                assert!(met, "{}: no fixture of `{}` meets error rule {}", case.connector.slug, method.name, i + 1);
            }
        }
    }
}

#[test]
fn fixtures_hold_no_secret_and_no_private_address() {
    for case in cases() {
        for (named, method, _) in case.each() {
            for field in named.fixture.fields.keys() {
                let kind = method.field(field).unwrap_or_else(|| panic!("{}: {field} is not a field", named.name)).kind;
                assert_ne!(kind, rollcall::connector::FieldKind::Secret, "{}: {field}", named.name);
            }
        }
        for path in files(&case.folder.join("fixtures")) {
            let text = fs::read_to_string(&path).unwrap().to_lowercase();
            for word in ["bearer ", "127.0.0.1", "localhost", "\"authorization\"", "set-cookie"] {
                assert!(!text.contains(word), "{}: {word}", path.display());
            }
        }
    }
}

fn files(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir).into_iter().flatten().map(|entry| entry.unwrap().path()).collect()
}

/// What `map` gives for the records of a fixture, for the replay to compare with.
pub fn expected(method: &LinkMethod, def: &ResourceDef, named: &fixture::Named) -> Vec<Value> {
    let Value::Object(map) = snapshot(method, def, named) else { return Vec::new() };
    let map: Map<String, Value> = map;
    map["records"].as_array().unwrap().clone()
}
