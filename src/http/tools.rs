//! The connector's own resources as tools: names, descriptions and JSON Schemas for whoever hands them to a language model. Made
//! from the same files as `/capabilities`, under the same names.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::{capability, query::CapabilityQuery};
use crate::{connector::Connector, model::EnvironmentId, service::directory::MAX_LIMIT};

/// Every tool of a connector or an account.
#[derive(Serialize, ToSchema)]
pub struct Tools {
    /// The tools.
    pub result: Vec<Tool>,
}

/// One method of one of the connector's own resources, called as `/proxy/{resource}`, `/proxy/{resource}/{id}` or, when it is one
/// of the vendor's own, `POST /proxy/{resource}/{method}`.
#[derive(Serialize, ToSchema)]
pub struct Tool {
    /// The resource.
    pub resource: String,
    /// `list`, `get`, `create`, `update`, `delete` or the name of one of the vendor's own.
    pub method: String,
    /// The tool's name.
    pub name: String,
    /// What it does.
    pub description: String,
    /// JSON Schema of what it takes, the id included.
    pub query_schema: Map<String, Value>,
    /// JSON Schema of the body; null where nothing is sent.
    #[schema(required = true)]
    pub body_schema: Option<Map<String, Value>>,
    /// What must be given.
    pub required: Vec<String>,
    /// JSON Schema of the answer.
    pub response_schema: Map<String, Value>,
}

/// The tools of a connector, or of the accounts linked by one method.
pub fn document(
    connector: &Connector,
    environment: EnvironmentId,
    account: Option<capability::AccountCapability>,
    methods: Vec<String>,
) -> Tools {
    let query = CapabilityQuery { proxy: true, unified: false, methods, resource: None };
    let offered = capability::document(connector, environment, account, &query).proxy;
    let tools = offered.into_iter().flat_map(|resource| {
        let name = resource.resource;
        resource.methods.into_iter().map(move |method| tool(name.clone(), method))
    });
    Tools { result: tools.collect() }
}

fn tool(resource: String, method: capability::ProxyMethod) -> Tool {
    let capability::ProxyMethod { method, name, description, takes, of_group, .. } = method;
    let remote = remote_query();
    let id = || json!({"type": "string", "description": "The vendor's id."});
    let any = || json!({"type": "object"});
    let with_id = || vec!["id".to_owned()];
    let (mut properties, mut required, body, response) = match method.as_str() {
        "list" => (
            json!({
                "limit": {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "description": "The most records on one page."},
                "next_cursor": {"type": "string", "description": "`next_cursor` of the page before."},
                "remote_query": remote,
            }),
            Vec::new(),
            None,
            json!({"type": "object", "required": ["result", "next_cursor"], "properties": {
                "result": {"type": "array", "items": {"type": "object"}},
                "next_cursor": {"type": ["string", "null"]},
            }}),
        ),
        "get" => (json!({"id": id(), "remote_query": remote}), with_id(), None, any()),
        "create" => (json!({"remote_query": remote}), Vec::new(), Some(any()), any()),
        "update" => (json!({"id": id(), "remote_query": remote}), with_id(), Some(any()), any()),
        "delete" => {
            let gone = json!({"type": "object", "required": ["id"], "properties": {"id": {"type": "string"}}});
            (json!({"id": id(), "remote_query": remote}), with_id(), None, gone)
        }
        _ => (json!({"remote_query": remote}), Vec::new(), Some(body_of(&takes)), result_schema()),
    };
    if of_group {
        properties["group_id"] = json!({"type": "string", "description": "The vendor's id of the group whose members they are."});
        required.push("group_id".to_owned());
    }
    let query = json!({"type": "object", "properties": properties, "required": required});
    Tool {
        resource,
        method,
        name,
        description,
        query_schema: members(query),
        body_schema: body.map(members),
        required,
        response_schema: members(response),
    }
}

/// JSON Schema of the parameters that go to the vendor.
pub fn remote_query() -> Value {
    json!({"type": "object", "description": "Query parameters for the vendor, sent as they are."})
}

/// JSON Schema of the answer of a method of the vendor's own.
pub fn result_schema() -> Value {
    json!({"type": "object", "required": ["result"], "properties": {"result": {}}})
}

/// JSON Schema of the body of a method of the vendor's own.
pub fn body_of(takes: &BTreeMap<String, String>) -> Value {
    let text = |about: &String| json!({"type": "string", "description": about});
    let properties: Map<String, Value> = takes.iter().map(|(name, about)| (name.clone(), text(about))).collect();
    json!({"type": "object", "properties": properties, "required": takes.keys().collect::<Vec<_>>()})
}

/// The members of a schema, for a field that is an object.
pub fn members(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}
