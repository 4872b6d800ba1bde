//! What a connector offers, as plain data: made from its files, so that documents, meta routes and answers agree.

use serde::Serialize;
use utoipa::ToSchema;

use super::{Connector, FieldKind, Level, LinkMethod, ResourceDef};
use crate::model::{Kind, Resource};

/// What a connector offers.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Capabilities {
    /// The connector's slug.
    pub connector: String,
    /// The vendor's name.
    pub title: String,
    /// By way to connect.
    pub methods: Vec<MethodCapabilities>,
}

/// What one way to connect offers.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct MethodCapabilities {
    /// The `authentication_method`.
    pub method: String,
    /// Its name for people.
    pub title: String,
    /// What it needs and gives.
    pub description: Option<String>,
    /// How far it can be trusted.
    pub level: Level,
    /// What the customer fills in.
    pub fields: Vec<FieldCapabilities>,
    /// Exactly one of these groups of fields is given.
    pub one_of: Vec<Vec<String>>,
    /// Every resource of the unified model the connector speaks of.
    pub resources: Vec<ResourceCapabilities>,
}

/// One field of the link form.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct FieldCapabilities {
    /// Its name in `context`.
    pub name: String,
    /// Its label.
    pub title: String,
    /// What it takes.
    pub kind: FieldKind,
    /// Whether it must be given.
    pub required: bool,
    /// The words of a choice.
    pub values: Vec<String>,
    /// Used when nothing is given.
    pub default: Option<String>,
    /// A sentence below the field.
    pub help: Option<String>,
}

/// One resource of one way to connect.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct ResourceCapabilities {
    /// The resource's name in paths.
    pub resource: String,
    /// The name at `/proxy/{name}`; absent when the vendor has no such thing.
    pub proxy: Option<String>,
    /// `list`, `get`, `create`, `update` and `delete`, as far as there are.
    pub methods: Vec<String>,
    /// Why the vendor has none.
    pub none: Option<String>,
    /// What the customer's plan at the vendor must have.
    pub needs: Option<String>,
    /// Whether list records lack fields that `get` has.
    pub partial: bool,
    /// Filters and who evaluates them.
    pub filters: Vec<FilterCapability>,
    /// Unified fields that are filled.
    pub fields: Vec<String>,
}

/// A filter and who evaluates it.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct FilterCapability {
    /// Its name.
    pub name: String,
    /// Operators.
    pub ops: Vec<String>,
    /// `vendor` or `gateway`.
    pub evaluated_by: String,
    /// A fact of the account without which the gateway evaluates it.
    pub needs: Option<String>,
}

/// The connector's offer.
pub fn capabilities(connector: &Connector) -> Capabilities {
    Capabilities {
        connector: connector.slug.to_string(),
        title: connector.file.title.clone(),
        methods: connector.methods.iter().map(|method| method_capabilities(method)).collect(),
    }
}

fn method_capabilities(method: &LinkMethod) -> MethodCapabilities {
    let grouped = |name: &String| method.one_of.iter().flatten().any(|other| other == name);
    let fields = method.fields.iter().map(|field| FieldCapabilities {
        name: field.name.clone(),
        title: field.title.clone(),
        kind: field.kind,
        required: field.required && field.default.is_none() && !grouped(&field.name),
        values: field.values.keys().cloned().collect(),
        default: field.default.clone(),
        help: field.help.clone(),
    });
    MethodCapabilities {
        method: method.name.clone(),
        title: method.title.clone(),
        description: method.description.clone(),
        level: method.level,
        fields: fields.collect(),
        one_of: method.one_of.clone(),
        resources: method.resources.values().map(resource_capabilities).collect(),
    }
}

fn resource_capabilities(def: &ResourceDef) -> ResourceCapabilities {
    let there = def.none.is_none();
    let reads = [("list", def.list.is_some()), ("get", def.get.is_some() && def.resource != Resource::GroupMember)];
    let writes = def.writes.iter().flat_map(|writes| writes.offered()).map(|name| (name, true));
    let methods = reads.into_iter().chain(writes);
    let fields: Vec<String> = def.filled().map(|field| field.name.to_owned()).collect();
    ResourceCapabilities {
        resource: def.resource.plural().to_owned(),
        proxy: there.then(|| def.proxy_name.clone()),
        methods: methods.filter(|(_, has)| *has).map(|(name, _)| name.to_owned()).collect(),
        none: def.none.clone(),
        needs: def.needs.as_ref().map(|needs| needs.because.clone()),
        partial: def.partial,
        filters: if there { filters(def, &fields) } else { Vec::new() },
        fields,
    }
}

fn filters(def: &ResourceDef, fields: &[String]) -> Vec<FilterCapability> {
    let vendor = def.filters.iter().map(|(name, filter)| FilterCapability {
        name: name.clone(),
        ops: filter.ops.clone(),
        evaluated_by: "vendor".to_owned(),
        needs: filter.needs.clone(),
    });
    let shape = def.resource.shape();
    let own = shape.fields.iter().filter(|field| fields.iter().any(|name| name == field.name));
    let gateway = own.flat_map(|field| gateway_filters(field.name, field.kind)).filter(|f| !def.filters.contains_key(&f.name));
    vendor.chain(gateway).collect()
}

/// What the gateway can compare on mapped records: single values, and the members of lists of records.
fn gateway_filters(name: &str, kind: Kind) -> Vec<FilterCapability> {
    let filter = |name: String, ops: &[&str]| FilterCapability {
        name,
        ops: ops.iter().map(|op| (*op).to_owned()).collect(),
        evaluated_by: "gateway".to_owned(),
        needs: None,
    };
    match kind {
        Kind::Text | Kind::Bool | Kind::Enum(_) => vec![filter(name.to_owned(), &["eq", "in"])],
        Kind::Time | Kind::Number => vec![filter(name.to_owned(), &["eq", "gt", "gte", "lt", "lte"])],
        Kind::Object(shape) | Kind::List(&Kind::Object(shape)) => {
            let members = shape.fields.iter().filter(|member| matches!(member.kind, Kind::Text | Kind::Bool | Kind::Enum(_)));
            members.map(|member| filter(format!("{name}[{}]", member.name), &["eq", "in"])).collect()
        }
        Kind::List(_) => vec![filter(name.to_owned(), &["eq", "in"])],
    }
}
