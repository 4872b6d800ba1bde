//! Rules that an environment, or one account, lays over the maps of a connector. They touch maps only: where requests go, what
//! they carry and what passes the proxies stays the connector's.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use serde_json::{Map, Value};

use super::{Connector, LinkMethod, ResourceDef, WriteBy, WriteMethod, Writes, schema::suggest};
use crate::{
    mapping::{Reverse, ReverseRules, RuleError, RuleFile, Table, merge},
    model::Resource,
};

/// Rules by target.
type Rules = BTreeMap<String, RuleFile>;

/// Rules by resource, `users`, or by resource and link method, `users.scim`; the latter win.
#[derive(Clone, Debug, Default)]
pub struct Maps(BTreeMap<Resource, Vec<(Option<String>, Rules)>>);

/// One mistake in an override.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MapProblem {
    /// Where: `users.map.status`.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
}

impl fmt::Display for MapProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`: {}", self.path, self.message)?;
        self.hint.iter().try_for_each(|hint| write!(f, " ({hint})"))
    }
}

impl MapProblem {
    fn new(path: impl Into<String>, message: impl Into<String>, hint: impl Into<Option<String>>) -> Self {
        Self { path: path.into(), message: message.into(), hint: hint.into() }
    }
}

impl Maps {
    /// Reads `{"users": {"map": {"<target>": <rule>}}}`; every mistake at once. A rule that cannot be read stays as one that fits
    /// nothing.
    pub fn read(document: &Map<String, Value>) -> (Maps, Vec<MapProblem>) {
        let (mut maps, mut problems) = (Maps::default(), Vec::new());
        for (key, value) in document {
            let (name, method) = key.split_once('.').map_or((key.as_str(), None), |(name, method)| (name, Some(method)));
            let Some(resource) = Resource::ALL.iter().find(|resource| resource.plural() == name) else {
                let known: Vec<&str> = Resource::ALL.iter().map(|resource| resource.plural()).collect();
                problems.push(MapProblem::new(key, "is no resource", suggest(name, &known, "resources")));
                continue;
            };
            let rules = rules_of(key, value, &mut problems);
            maps.0.entry(*resource).or_default().push((method.map(str::to_owned), rules));
        }
        // What is said of one link method is laid over what is said of all.
        maps.0.values_mut().for_each(|layers| layers.sort_by(|a, b| a.0.cmp(&b.0)));
        (maps, problems)
    }

    /// Whether nothing is laid over anything.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The rules for a resource of one link method.
    fn of(&self, resource: Resource, method: &str) -> Rules {
        let layers = self.0.get(&resource).into_iter().flatten();
        let meant = layers.filter(|(only, _)| only.as_deref().is_none_or(|only| only == method));
        meant.fold(Rules::new(), |below, (_, rules)| merge(&below, rules))
    }

    /// Names that the connector does not have.
    fn unknown(&self, connector: &Connector) -> Vec<MapProblem> {
        let methods: Vec<&str> = connector.methods.iter().map(|method| method.name.as_str()).collect();
        let has = |method: &LinkMethod, resource: &Resource| method.resources.get(resource).is_some_and(|def| def.none.is_none());
        let mut problems = Vec::new();
        for (resource, only) in self.0.iter().flat_map(|(resource, layers)| layers.iter().map(move |(only, _)| (resource, only)))
        {
            let path = key_of(*resource, only.as_deref());
            let meant = connector.methods.iter().filter(|method| only.as_ref().is_none_or(|only| *only == method.name));
            if let Some(only) = only.as_deref().filter(|only| !methods.contains(only)) {
                let message = format!("`{only}` is no way to link {}", connector.slug);
                problems.push(MapProblem::new(path, message, suggest(only, &methods, "methods")));
            } else if !meant.into_iter().any(|method| has(method, resource)) {
                problems.push(MapProblem::new(path, format!("{} has no {} here", connector.slug, resource.plural()), None));
            }
        }
        problems
    }
}

fn key_of(resource: Resource, method: Option<&str>) -> String {
    method.map_or_else(|| resource.plural().to_owned(), |method| format!("{}.{method}", resource.plural()))
}

fn rules_of(key: &str, value: &Value, problems: &mut Vec<MapProblem>) -> Rules {
    let form = || "for example `{\"map\": {\"title\": {\"from\": \"jobTitle\"}}}`".to_owned();
    let Some(members) = value.as_object() else {
        problems.push(MapProblem::new(key, "is no object with a `map`", form()));
        return Rules::new();
    };
    let others = members.keys().filter(|name| *name != "map");
    problems.extend(others.map(|name| {
        let hint = "requests, paging, filters and writes stay the connector's".to_owned();
        MapProblem::new(format!("{key}.{name}"), "an override of a resource has a `map` and nothing else", hint)
    }));
    let map = match members.get("map") {
        None => return Rules::new(),
        Some(Value::Object(map)) => map,
        Some(_) => {
            problems.push(MapProblem::new(format!("{key}.map"), "is no object of targets and rules", form()));
            return Rules::new();
        }
    };
    let mut rules = Rules::new();
    for (target, rule) in map {
        let rule = serde_json::from_value(rule.clone()).unwrap_or_else(|error| {
            problems.push(MapProblem::new(format!("{key}.map.{target}"), error.to_string(), None));
            RuleFile::First(Vec::new())
        });
        rules.insert(target.clone(), rule);
    }
    rules
}

impl Connector {
    /// Every mistake of an override that is to be laid over all link methods.
    pub fn check_maps(&self, maps: &Maps) -> Vec<MapProblem> {
        let mut problems: BTreeSet<MapProblem> = self.methods.iter().flat_map(|method| method.with_maps(maps).1).collect();
        problems.extend(maps.unknown(self));
        problems.into_iter().collect()
    }

    /// The connector with the maps laid over those of every link method.
    pub fn with_maps(&self, maps: &Maps) -> (Connector, Vec<MapProblem>) {
        let (methods, problems): (Vec<_>, Vec<_>) = self.methods.iter().map(|method| method.with_maps(maps)).unzip();
        let methods = methods.into_iter().map(Arc::new).collect();
        (Connector { methods, ..self.clone() }, problems.into_iter().flatten().collect())
    }

    /// The connector with one link method in place of that of the same name.
    pub fn with_method(&self, method: &Arc<LinkMethod>) -> Connector {
        let methods = self.methods.iter().map(|known| if known.name == method.name { method } else { known });
        Connector { methods: methods.cloned().collect(), ..self.clone() }
    }
}

impl LinkMethod {
    /// Every mistake of an override that is to be laid over this way to link alone.
    pub fn check_maps(&self, maps: &Maps) -> Vec<MapProblem> {
        let mut problems = self.with_maps(maps).1;
        for (resource, layers) in &maps.0 {
            if self.resources.get(resource).is_none_or(|def| def.none.is_some()) {
                let message = format!("`{}` has no {} here", self.name, resource.plural());
                problems.push(MapProblem::new(resource.plural(), message, None));
            }
            for other in layers.iter().filter_map(|(only, _)| only.as_deref()).filter(|only| *only != self.name) {
                let hint = format!("write `{}`", resource.plural());
                problems.push(MapProblem::new(
                    key_of(*resource, Some(other)),
                    format!("the account is linked by `{}`", self.name),
                    hint,
                ));
            }
        }
        problems
    }

    /// The way to link with maps laid over its own. A resource whose rules do not fit is not offered, and says so: neither the
    /// connector's map nor half of an override may stand in for what was asked.
    pub fn with_maps(&self, maps: &Maps) -> (LinkMethod, Vec<MapProblem>) {
        let (mut method, mut problems) = (self.clone(), Vec::new());
        for resource in maps.0.keys() {
            let rules = maps.of(*resource, &self.name);
            let Some(def) = method.resources.get_mut(resource).filter(|def| def.none.is_none() && !rules.is_empty()) else {
                continue;
            };
            match def.with_rules(&rules) {
                Ok(laid) => *def = laid,
                Err(errors) => {
                    let path = |target: &str| format!("{}.map.{target}", resource.plural());
                    problems.extend(errors.into_iter().map(|e| MapProblem::new(path(&e.target), e.message, e.hint)));
                    let reason = "The rules that this environment or account lays over the connector's map no longer fit it.";
                    def.none = Some(reason.to_owned());
                }
            }
        }
        (method, problems)
    }
}

impl ResourceDef {
    fn with_rules(&self, rules: &Rules) -> Result<ResourceDef, Vec<RuleError>> {
        let mut errors = self.fixed(rules);
        let map = merge(&self.map, rules);
        let table = Table::compile(&map, self.resource.shape()).map_err(|found| errors.extend(found)).ok();
        let writes = self.writes.as_ref().map(|writes| writes.with_map(&map, rules, self.resource)).transpose();
        let writes = writes.map_err(|found| errors.extend(found)).ok();
        let (Some(table), Some(writes), true) = (table, writes, errors.is_empty()) else { return Err(errors) };
        // The vendor evaluates a filter on its own field, which may be another one now: the gateway does it, on what is mapped.
        let stays = |filter: &str| !rules.keys().any(|target| head(target) == head(filter));
        let filters = self.filters.iter().filter(|(name, _)| stays(name)).map(|(name, filter)| (name.clone(), filter.clone()));
        Ok(ResourceDef { filters: filters.collect(), map, table: Arc::new(table), writes, overridden: true, ..self.clone() })
    }

    /// Rules for targets by which records are found.
    fn fixed(&self, rules: &Rules) -> Vec<RuleError> {
        let report = self.list.as_ref().and_then(|list| list.report.as_ref()).map(|report| head(&report.field));
        let hint = || Some("leave it out".to_owned());
        let found = |target: &&String| head(target) == "id" || Some(head(target)) == report;
        let message = "stays the connector's: records are found and told apart by it".to_owned();
        rules.keys().filter(found).map(|t| RuleError { target: t.clone(), message: message.clone(), hint: hint() }).collect()
    }
}

/// The top-level field of a target or of a filter.
fn head(name: &str) -> &str {
    name.split(['.', '[']).next().unwrap_or(name)
}

impl Writes {
    /// The same with another map turned round. The words that stood beside a rule go with it.
    fn with_map(&self, map: &Rules, over: &Rules, resource: Resource) -> Result<Writes, Vec<RuleError>> {
        let is_set_by_vendor = |target: &&String| self.read_only.iter().any(|known| head(known) == head(target));
        let known = self.read_only.iter().filter(|target| map.contains_key(*target) && !over.contains_key(*target));
        let read_only: Vec<String> = known.chain(over.keys().filter(is_set_by_vendor)).cloned().collect();
        let stays = |target: &String| map.contains_key(target) && !over.contains_key(target);
        let values =
            self.values.iter().filter(|(target, _)| stays(target)).map(|(t, words)| (t.clone(), words.clone())).collect();
        let reverse = Reverse::compile(map, resource.shape(), ReverseRules { read_only: &read_only, values: &values })?;
        let lost = self.lost(&reverse);
        if !lost.is_empty() {
            return Err(lost);
        }
        Ok(Writes { reverse, read_only, values, ..self.clone() })
    }

    /// Paths of the vendor's record that a write cannot do without, and that nothing would fill any more.
    fn lost(&self, reverse: &Reverse) -> Vec<RuleError> {
        let kept: BTreeSet<&str> = reverse.sources().map(|(_, path)| path).collect();
        let mut lost = Vec::new();
        for name in self.offered() {
            let Some(method) = self.method(name) else { continue };
            for (target, path) in self.reverse.sources().filter(|(_, path)| method.names(path) && !kept.contains(path)) {
                let message = format!("`{name}` needs the vendor's `{path}`, which is filled by this target alone");
                lost.push(RuleError { target: target.to_owned(), message, hint: Some("leave it out".to_owned()) });
            }
        }
        lost
    }
}

impl WriteMethod {
    /// Whether nothing can be sent without this path of the vendor's record.
    fn names(&self, path: &str) -> bool {
        let is_word = || matches!(self.by, WriteBy::Command { .. }) && self.by.names().contains(path);
        self.required.iter().any(|required| required == path) || is_word()
    }
}
