//! What a batch asks for, read and put in order before anything is called.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::place::{self, Place, Root};
use crate::{
    error::{Code, Error, Result},
    http::body::parse,
};

/// The most entries of one batch.
pub const MAX_ENTRIES: usize = 50;

/// `POST /batch-request`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "integrated_account_id": "0198f0c2-a1b0-7c1e-9a51-d2b53c1f0e77",
    "resources": [
        {"resource": "user-directory/groups", "method": "list", "query": {"name": "Staff"}},
        {"name": "members", "resource": "user-directory/groups/{{resources.user-directory.groups.id}}/members", "method": "list",
            "depends_on": ["user-directory/groups"]}
    ]
}))]
pub struct BatchRequest {
    /// The linked account of every entry.
    pub integrated_account_id: String,
    /// Values for placeholders, `{{args.name}}`.
    #[serde(default)]
    pub args: Map<String, Value>,
    /// The calls, 1 to 50, in any order.
    #[schema(value_type = Vec<BatchEntry>, min_items = 1, max_items = 50)]
    pub resources: Vec<Value>,
}

/// One call of a batch. Texts may hold placeholders: `{{args.path}}` and `{{resources.<name>.path}}`, where a name's slashes may be
/// written as dots. A placeholder without an index means each record of that entry in turn: the call is made once for each.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BatchEntry {
    /// What the answer and other entries call it; its `resource` when left out.
    #[serde(default)]
    pub name: Option<String>,
    /// `user-directory/users`; without a slash the vendor's own, as in `/proxy/{resource}`.
    #[schema(pattern = "^[^/?#]+(/[^/?#]+)*$")]
    pub resource: String,
    /// `list`, `get`, `create`, `update`, `delete`, or a method of the resource's own.
    #[schema(pattern = "^[A-Za-z0-9_-]+$")]
    pub method: String,
    /// The record, where the method is about one.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub id: Option<Value>,
    /// Query parameters of the call.
    #[serde(default)]
    pub query: Map<String, Value>,
    /// The body of a write.
    #[serde(default)]
    pub body: Option<Map<String, Value>>,
    /// Entries that must have gone well before, one name or several. Those that placeholders name need not be repeated.
    #[serde(default)]
    #[schema(value_type = Option<Vec<String>>)]
    pub depends_on: Option<Value>,
    /// Whether its records stand in the answer; true unless it is a resource of the vendor's own.
    #[serde(default)]
    pub persist: Option<bool>,
    /// How unified records are written: `unified`, `raw` or `normalized`.
    #[serde(default)]
    pub response_format: Option<String>,
}

impl BatchEntry {
    /// Whether it is of the unified model, by the slash in its name.
    pub fn is_unified(&self) -> bool {
        place::segments(&self.resource).len() > 1
    }
}

/// Members of Truto's that would change what an entry means, and are not offered.
const NOT_OFFERED: [&str; 5] = ["type", "loop_on", "recurse", "delete_tracking", "config"];

/// An entry that can be called.
pub struct Node {
    /// What the answer calls it.
    pub name: String,
    /// As it was asked for.
    pub entry: BatchEntry,
    /// Those that must have gone well before.
    pub needs: BTreeSet<usize>,
    /// The one whose records it is called for.
    pub each: Option<usize>,
}

impl Node {
    /// Whether its records stand in the answer.
    pub fn is_shown(&self) -> bool {
        self.entry.persist.unwrap_or(self.entry.is_unified())
    }
}

/// A batch in the order in which it can be called.
pub struct Plan {
    /// The account of every entry.
    pub account: String,
    /// For placeholders.
    pub args: Value,
    /// The entries as they were given.
    pub nodes: Vec<Node>,
    /// Their names.
    pub names: Vec<String>,
    /// The order.
    pub order: Vec<usize>,
}

impl Plan {
    /// Checks the whole before anything is called; an error names the entry.
    pub fn new(request: BatchRequest) -> Result<Self> {
        let BatchRequest { integrated_account_id: account, args, resources } = request;
        if !(1..=MAX_ENTRIES).contains(&resources.len()) {
            let detail = format!("`resources` takes 1 to {MAX_ENTRIES} entries.");
            return Err(Error::new(Code::InvalidBody, detail).field("resources"));
        }
        let entries = resources.iter().enumerate().map(|(index, value)| read(index, value)).collect::<Result<Vec<_>>>()?;
        let names: Vec<String> =
            entries.iter().map(|entry| entry.name.clone().unwrap_or_else(|| entry.resource.clone())).collect();
        if let Some(index) = (1..names.len()).find(|index| names[..*index].contains(&names[*index])) {
            return Err(wrong(index, "name", "is that of an earlier entry; give each one a name of its own"));
        }
        let mut nodes = Vec::new();
        for (index, entry) in entries.into_iter().enumerate() {
            let (needs, each) = needs(index, &entry, &names)?;
            nodes.push(Node { name: names[index].clone(), entry, needs, each });
        }
        let order = order(&nodes)?;
        Ok(Self { account, args: Value::Object(args), nodes, names, order })
    }
}

fn read(index: usize, value: &Value) -> Result<BatchEntry> {
    if let Some(name) = NOT_OFFERED.iter().find(|name| value.get(**name).is_some()) {
        return Err(wrong(
            index,
            name,
            "is not offered by this gateway; a placeholder without an index calls an entry for each record",
        ));
    }
    let text = serde_json::to_vec(value).map_err(Error::internal)?;
    let entry: BatchEntry = parse(&text).map_err(|error| {
        let field = error.field_name().map_or_else(|| format!("resources[{index}]"), |name| format!("resources[{index}].{name}"));
        Error::new(Code::InvalidBody, error.detail()).field(field)
    })?;
    if place::segments(&entry.resource).into_iter().any(str::is_empty) || entry.resource.contains(['?', '#']) {
        return Err(wrong(index, "resource", "is not the name of a resource"));
    }
    let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if entry.method.is_empty() || !entry.method.chars().all(word) {
        return Err(wrong(index, "method", "is not the name of a method"));
    }
    if matches!(entry.method.as_str(), "get" | "update" | "delete") != entry.id.is_some() {
        return Err(wrong(index, "id", "is needed by `get`, `update` and `delete`, and by no other method"));
    }
    if entry.body.is_some() && matches!(entry.method.as_str(), "list" | "get" | "delete") {
        return Err(wrong(index, "body", "is taken by writes only"));
    }
    if !matches!(entry.response_format.as_deref(), None | Some("unified" | "raw" | "normalized")) {
        return Err(wrong(index, "response_format", "takes `unified`, `raw` or `normalized`"));
    }
    if let Some(name) = ["integrated_account_id", "next_cursor", "truto_key_by", "truto_response_format", "envelope"]
        .into_iter()
        .find(|name| entry.query.contains_key(*name))
    {
        return Err(wrong(index, &format!("query.{name}"), "is not for an entry to say"));
    }
    Ok(entry)
}

fn needs(index: usize, entry: &BatchEntry, names: &[String]) -> Result<(BTreeSet<usize>, Option<usize>)> {
    let mut needs = BTreeSet::new();
    let listed = match &entry.depends_on {
        None | Some(Value::Null) => &[][..],
        Some(Value::Array(names)) => names,
        Some(one) => std::slice::from_ref(one),
    };
    for name in listed {
        let place = name.as_str().and_then(|name| names.iter().position(|known| known == name));
        let unknown = || wrong(index, "depends_on", "names an entry that is not in this batch");
        needs.insert(place.ok_or_else(unknown)?);
    }
    let mut places: Vec<Place> = Vec::new();
    for (member, value) in texts(entry) {
        place::all_in(&value, names, &mut places).map_err(|why| wrong(index, member, &format!("cannot be read: {why}")))?;
    }
    let mut each = BTreeSet::new();
    for place in &places {
        let Root::Entry(other) = place.root else { continue };
        needs.insert(other);
        if !place.picks() {
            each.insert(other);
        }
    }
    if each.len() > 1 {
        let detail = format!(
            "`resources[{index}]` goes over the records of several entries; pick one record of all but one of them: \
             `{{{{resources.name[0].id}}}}`."
        );
        return Err(Error::new(Code::InvalidBody, detail).status(422).field(format!("resources[{index}]")));
    }
    Ok((needs, each.into_iter().next()))
}

/// The members that may hold placeholders.
fn texts(entry: &BatchEntry) -> Vec<(&'static str, Value)> {
    let body = entry.body.clone().map_or(Value::Null, Value::Object);
    vec![
        ("resource", Value::String(entry.resource.clone())),
        ("id", entry.id.clone().unwrap_or_default()),
        ("query", Value::Object(entry.query.clone())),
        ("body", body),
    ]
}

/// As given, but each after those it needs.
fn order(nodes: &[Node]) -> Result<Vec<usize>> {
    let mut order = Vec::new();
    while order.len() < nodes.len() {
        let ready = |(index, node): &(usize, &Node)| !order.contains(index) && node.needs.iter().all(|need| order.contains(need));
        match nodes.iter().enumerate().find(ready) {
            Some((index, _)) => order.push(index),
            None => {
                let first = (0..nodes.len()).find(|index| on_cycle(nodes, *index)).unwrap_or_default();
                return Err(wrong(first, "depends_on", "leads back to this entry"));
            }
        }
    }
    Ok(order)
}

/// Whether an entry needs itself, over however many others.
fn on_cycle(nodes: &[Node], start: usize) -> bool {
    let (mut met, mut next) = (BTreeSet::new(), vec![start]);
    while let Some(index) = next.pop() {
        for need in &nodes[index].needs {
            if *need == start {
                return true;
            }
            if met.insert(*need) {
                next.push(*need);
            }
        }
    }
    false
}

fn wrong(index: usize, member: &str, what: &str) -> Error {
    let field = format!("resources[{index}].{member}");
    Error::new(Code::InvalidBody, format!("`{field}` {what}.")).status(422).field(field)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn plan(resources: Value) -> Result<Plan> {
        Plan::new(parse(json!({"integrated_account_id": "a", "resources": resources}).to_string().as_bytes())?)
    }

    #[test]
    fn entries_are_called_after_those_they_need() {
        let plan = plan(json!([
            {"name": "c", "resource": "x", "method": "get", "id": "{{resources.b.id}}", "depends_on": "a"},
            {"name": "b", "resource": "x", "method": "list", "query": {"q": ["{{resources.a[0].id}}"]}},
            {"name": "a", "resource": "m/x", "method": "list"},
        ]))
        .map_err(|error| error.detail().to_owned())
        .unwrap_or_else(|why| panic!("{why}"));
        assert_eq!(plan.order, [2, 1, 0]);
        assert_eq!((plan.nodes[0].each, plan.nodes[1].each), (Some(1), None));
        assert_eq!(plan.nodes.iter().map(Node::is_shown).collect::<Vec<_>>(), [false, false, true]);
    }

    #[test]
    fn what_cannot_be_called_is_named() {
        let entry = |more: Value| {
            let mut entry = json!({"name": "a", "resource": "x", "method": "list"});
            entry.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            entry
        };
        let other = json!({"name": "b", "resource": "x", "method": "list"});
        for (resources, field) in [
            (json!([]), "resources"),
            (json!(vec![other.clone(); 51]), "resources"),
            (json!(["x"]), "resources[0]"),
            (json!([other, entry(json!({"nonsense": 1}))]), "resources[1].nonsense"),
            (json!([{"resource": "x"}]), "resources[0].method"),
            (json!([entry(json!({"method": "a/b"}))]), "resources[0].method"),
            (json!([entry(json!({"resource": "a//b"}))]), "resources[0].resource"),
            (json!([entry(json!({"resource": "a?b"}))]), "resources[0].resource"),
            (json!([entry(json!({"loop_on": "b"}))]), "resources[0].loop_on"),
            (json!([entry(json!({"type": "transform"}))]), "resources[0].type"),
            (json!([entry(json!({"method": "get"}))]), "resources[0].id"),
            (json!([entry(json!({"body": {}}))]), "resources[0].body"),
            (json!([entry(json!({"response_format": "debug"}))]), "resources[0].response_format"),
            (json!([entry(json!({"query": {"next_cursor": ""}}))]), "resources[0].query.next_cursor"),
            (json!([entry(json!({"name": "b"})), other]), "resources[1].name"),
            (json!([entry(json!({"depends_on": ["nobody"]}))]), "resources[0].depends_on"),
            (json!([entry(json!({"depends_on": 7}))]), "resources[0].depends_on"),
            (json!([entry(json!({"depends_on": "a"}))]), "resources[0].depends_on"),
            (json!([other, entry(json!({"query": {"q": "{{resources.a.id}}"}}))]), "resources[1].depends_on"),
            (json!([entry(json!({"query": {"q": "{{resources.c.id}}"}}))]), "resources[0].query"),
            (json!([entry(json!({"query": {"q": "{{x"}}))]), "resources[0].query"),
            (
                json!([other, {"name": "c", "resource": "x", "method": "list"}, entry(json!({"query":
                    {"q": "{{resources.b.id}}{{resources.c.id}}"}}))]),
                "resources[2]",
            ),
        ] {
            let error = plan(resources.clone()).err().unwrap_or_else(|| panic!("{resources} is taken"));
            assert_eq!((error.code(), error.field_name()), (Code::InvalidBody, Some(field)), "{resources}");
        }
        let three = json!([
            {"name": "a", "resource": "x", "method": "list", "depends_on": ["b"]},
            {"name": "b", "resource": "x", "method": "list", "depends_on": ["c"]},
            {"name": "c", "resource": "x", "method": "list", "depends_on": ["b"]},
        ]);
        let error = plan(three).err().map(|error| error.field_name().map(str::to_owned));
        assert_eq!(error, Some(Some("resources[1].depends_on".to_owned())), "the first one of the circle");
    }
}
