//! What the unified model says about itself, and what it says no to.

use actix_web::{
    HttpRequest, get,
    http::Method,
    web::{self, Data, Path},
};
use serde::Serialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::{proxy_write::run_method, unmatched};
use crate::{
    connector::ResourceDef,
    error::{Code, Error, Result},
    http::{
        Answer, State,
        capability::{self, Verb},
        envelope,
        extract::{Caller, Later, LinkedAccount, OrAccount, ReadDirectory, Right, WriteDirectory, open},
        openapi,
        query::{AnyQuery, NoQuery, ProxyWrite},
        tools::{self, members},
        write::{JsonText, Write},
    },
    model::Resource,
    service::{
        Linked,
        directory::{
            filter::{Filterable, filterable},
            offered,
        },
    },
};

/// The only model of this version.
const MODEL: &str = "user-directory";

/// How a unified method works for one account.
#[derive(Serialize, ToSchema)]
pub struct MethodMeta {
    /// The method.
    pub method: String,
    /// JSON Schema of a record.
    pub schema: Map<String, Value>,
    /// JSON Schema of a record.
    pub response_schema: Map<String, Value>,
    /// Unified field to rule, as the connector's file has it.
    pub response_mapping: Map<String, Value>,
    /// JSON Schema of the filters of a list: their operators and who evaluates them, `vendor` or `gateway`; of `get` its id.
    pub query_schema: Map<String, Value>,
    /// JSON Schema of the body of `create` and `update`; null where nothing is sent.
    #[schema(required = true)]
    pub request_body_schema: Option<Map<String, Value>>,
    /// Empty: nothing is added.
    pub default_query: Map<String, Value>,
    /// Null: nothing is sent.
    #[schema(required = true)]
    pub default_body: Option<Map<String, Value>>,
    /// The vendor's API documentation.
    #[schema(required = true)]
    pub documentation_link: Option<String>,
}

/// How a method of a resource works for this account: schema, mapping and filters.
#[utoipa::path(tag = "directory", security(("bearer" = ["directory:read"])), params(
    ("model" = String, Path, description = "`user-directory`."),
    ("resource" = String, Path, description = "For example `users`; `group_members` for what stands below a group."),
    ("method" = String, Path, description = "`list`, `get`, `create`, `update`, `delete` or the name of a method of the vendor's own."),
    ("integrated_account_id" = uuid::Uuid, Query, description = "The linked account.")
), responses((status = 200, description = "How the method works.", body = MethodMeta)))]
#[get("/unified/{model}/{resource}/meta/{method}")]
pub async fn get_meta(call: LinkedAccount<ReadDirectory, NoQuery>, path: Path<(String, String, String)>) -> Answer {
    let (model, name, method) = path.into_inner();
    let member = Resource::GroupMember;
    let resource = if model == MODEL && name == member.plural() { member } else { known(&model, &name)? };
    let verb = match method.as_str() {
        "list" => Verb::List,
        "get" => Verb::Get,
        "create" => Verb::Other("create"),
        "update" => Verb::Other("update"),
        "delete" => Verb::Other("delete"),
        _ => return envelope::object(&own_meta(&call.linked, resource, method)?),
    };
    capability::require(&call.linked, resource, verb)?;
    envelope::object(&meta(&call.linked, resource, method))
}

fn meta(linked: &Linked, resource: Resource, method: String) -> MethodMeta {
    let def = linked.access.method.resources.get(&resource);
    let mapping = def.iter().flat_map(|d| &d.map).map(|(target, rule)| (target.clone(), json!(rule))).collect();
    let schema = openapi::record_schema(resource);
    let body = def.and_then(|def| Some((def.writes.as_ref()?, def.writes.as_ref()?.method(&method)?)));
    let request_body_schema =
        body.filter(|_| method != "delete").map(|(writes, _)| body_schema(&schema, resource, &writes.fields(resource, &method)));
    let query_schema = query_schema(def, resource, &method);
    MethodMeta {
        method,
        schema: schema.clone(),
        response_schema: schema,
        response_mapping: mapping,
        query_schema,
        request_body_schema,
        default_query: Map::new(),
        default_body: None,
        documentation_link: linked.access.connector.file.docs_url.clone(),
    }
}

/// How a method of the vendor's own works: called at `POST /unified/{model}/{resource}/{method}`, its answer is the vendor's.
fn own_meta(linked: &Linked, resource: Resource, method: String) -> Result<MethodMeta> {
    let def = linked.access.method.resources.get(&resource);
    if def.is_some_and(|def| def.reason(&method).is_some()) {
        capability::require_unified_method(linked, resource, &method)?;
    }
    let own = def.and_then(|def| def.methods.offered.get(&method)).ok_or_else(|| {
        let known = def.into_iter().flat_map(|def| def.methods.offered.keys()).map(|name| format!(", `{name}`"));
        let known: String = known.collect();
        Error::new(Code::NotFound, format!("The methods are `list`, `get`, `create`, `update`, `delete`{known}."))
    })?;
    let schema = members(tools::result_schema());
    Ok(MethodMeta {
        method,
        schema: schema.clone(),
        response_schema: schema,
        response_mapping: Map::new(),
        query_schema: members(json!({"type": "object", "properties": {"remote_query": tools::remote_query()}, "required": []})),
        request_body_schema: Some(members(tools::body_of(&own.takes))),
        default_query: Map::new(),
        default_body: None,
        documentation_link: linked.access.connector.file.docs_url.clone(),
    })
}

/// JSON Schema of the parameters: a list takes filters, what concerns one record its id, what stands below a group the group's.
fn query_schema(def: Option<&ResourceDef>, resource: Resource, method: &str) -> Map<String, Value> {
    let (mut properties, mut required) = match method {
        "list" => (def.map(filters_of).unwrap_or_default(), Vec::new()),
        "create" => (Map::new(), Vec::new()),
        _ => (Map::from_iter([("id".to_owned(), json!({"type": "string"}))]), vec!["id"]),
    };
    if resource == Resource::GroupMember {
        properties.insert("group_id".to_owned(), json!({"type": "string"}));
        required.push("group_id");
    }
    members(json!({"type": "object", "properties": properties, "required": required}))
}

/// The filters that a list takes, as `/capabilities` names them.
fn filters_of(def: &ResourceDef) -> Map<String, Value> {
    let schema = |filter: Filterable| {
        let schema = json!({"type": "string", "x-operators": filter.operators, "x-evaluated-by": filter.evaluated_by(),
            "x-vendor-operators": filter.vendor});
        (filter.name, schema)
    };
    filterable(def).into_iter().map(schema).collect()
}

/// JSON Schema of what can be sent: the fields that this account's way of linking writes.
fn body_schema(record: &Map<String, Value>, resource: Resource, fields: &[String]) -> Map<String, Value> {
    // Which of the two it is may be said of a member, not chosen.
    let is_member = resource == Resource::GroupMember;
    let known = record.get("properties").and_then(Value::as_object);
    let mut properties: Map<String, Value> = known
        .into_iter()
        .flatten()
        .filter(|(name, _)| fields.contains(name) || (is_member && *name == "type"))
        .map(|(name, schema)| (name.clone(), schema.clone()))
        .collect();
    properties.insert("remote_data".to_owned(), json!({ "type": "object" }));
    let required: &[&str] = if is_member { &["id"] } else { &[] };
    members(json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false}))
}

/// Everything else below `/unified/`: says why not, and agrees with `/capabilities`. What would tell of the model and not of an
/// account is no account token's to ask.
pub fn configure(config: &mut web::ServiceConfig) {
    config.route("/unified/meta/{rest:.+}", web::get().to(refuse::<ReadDirectory>));
    config.route("/unified/{model}/{resource}/{integration}/meta/{method}", web::get().to(refuse::<ReadDirectory>));
    config.route("/unified/{model}/{resource}", web::get().to(refuse::<OrAccount<ReadDirectory>>));
    config.route("/unified/{model}/{resource}", web::to(refuse::<OrAccount<WriteDirectory>>));
    config.route("/unified/{model}/{resource}/{method}", web::post().to(run_unified_method));
    config.route("/unified/{model}/{resource}/{rest:.+}", web::get().to(refuse::<OrAccount<ReadDirectory>>));
    config.route("/unified/{model}/{resource}/{rest:.+}", web::to(refuse::<OrAccount<WriteDirectory>>));
}

/// `POST` with one more segment is a method of the vendor's own: it answers `{"result": …}`, or why there is none.
async fn run_unified_method(
    call: Later<LinkedAccount<OrAccount<WriteDirectory>, ProxyWrite>>,
    path: Path<(String, String, String)>,
    request: HttpRequest,
    write: Write<JsonText<true>>,
    state: Data<State>,
) -> Answer {
    let (model, name, method) = path.into_inner();
    let resource = known(&model, &name)?;
    let call = call.0?;
    capability::require_unified_method(&call.linked, resource, &method)?;
    run_method(call, resource, method, &request, write, &state).await
}

/// Asks for the right the call would need: it opens the account and tells what it is like.
async fn refuse<R: Right>(request: HttpRequest, caller: Caller<R, AnyQuery>) -> Answer {
    let (model, name) = (request.match_info().query("model"), request.match_info().query("resource"));
    let resource = known(model, name)?;
    let mut methods = unmatched::methods_of(request.path());
    if methods.is_empty() {
        return Err(unmatched::no_route().into());
    }
    let item = request.match_info().get("rest");
    let linked = match caller.account() {
        Some(id) => Some(open(&request, &caller, &id).await?),
        None => None,
    };
    let verb = match (request.method(), item) {
        (&Method::GET, None) => Some(Verb::List),
        (&Method::GET, Some(_)) => Some(Verb::Get),
        (&Method::POST, None) => Some(Verb::Other("create")),
        (&Method::PATCH, Some(_)) => Some(Verb::Other("update")),
        (&Method::DELETE, Some(_)) => Some(Verb::Other("delete")),
        _ => None,
    };
    if let Some(linked) = &linked {
        offered(linked, resource)?;
        verb.map_or(Ok(()), |verb| capability::require(linked, resource, verb))?;
        if item.is_none_or(|rest| !rest.contains('/')) {
            let allowed = capability::allowed_at(linked, resource, item.is_none());
            methods.retain(|method| allowed.split(", ").any(|word| word == *method));
        }
    }
    let detail = format!("No connector of this gateway answers {} here.", request.method());
    let allow: Vec<_> = methods.into_iter().collect();
    Err(Error::new(Code::MethodNotSupported, detail).allow(allow.join(", ")).into())
}

fn known(model: &str, resource: &str) -> Result<Resource> {
    if model != MODEL {
        return Err(Error::new(Code::RouteNotFound, "The unified models of this gateway are: `user-directory`."));
    }
    let listed = Resource::ALL.iter().copied().filter(|r| *r != Resource::GroupMember);
    listed.clone().find(|r| r.plural() == resource).ok_or_else(|| {
        let names: Vec<_> = listed.map(|r| format!("`{}`", r.plural())).collect();
        Error::new(Code::ResourceNotSupported, format!("The user directory of this gateway has {}.", names.join(", ")))
    })
}
