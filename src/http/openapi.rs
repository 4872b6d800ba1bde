//! The OpenAPI 3.1 document, made from the routes. `openapi/rollcall.json` is the same text, held so by a test.

use std::sync::LazyLock;

use serde_json::{Map, Value};
use utoipa::{
    ToSchema,
    openapi::{
        self, Content, License, Ref, RefOr, Required, ResponseBuilder, Schema, Server, Tag,
        header::{Header, HeaderBuilder},
        info::InfoBuilder,
        path::{Operation, ParameterBuilder, ParameterIn},
        schema::{ObjectBuilder, SchemaType, Type},
        security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme},
        tag::TagBuilder,
    },
};
use utoipa_actix_web::AppExt;

use super::{plain::plain, problem::MEDIA_TYPE, routes, schema, write};
use crate::{
    error::Code,
    model::{Resource, Scope, Shape},
    service::KEY_HEADER,
};

const ABOUT: &str = "Rollcall links customers' accounts at many vendors and answers for all of them in one schema.\n\n\
    **Four ways to a vendor.** `/unified/user-directory/…` is one schema over all vendors. `/proxy/{resource}` is the \
    connector's own named resources, read and written in the vendor's own words. `ANY /custom/{path}` is a call of the caller's \
    own below the account's base address (below). `ANY /passthrough/{account_id}/{path}` is transparent: method, raw path, raw query, \
    end-to-end headers and body go to the vendor with its credential put in, and the answer comes back as it is, so that a \
    vendor's own SDK works with this address as its base and a token of this gateway as its key (as a bearer token, `SSWS`, \
    basic password, or the vendor's own key header or query parameter). `/passthrough/-/{path}` takes the account from the \
    header `rollcall-account` or the query parameter `integrated_account_id`, which are removed, or from an account token. GET, HEAD and OPTIONS need \
    the scope `proxy:read`, other methods `proxy:write`. It is not part of the paths below, because its bodies are the \
    vendors'. Links to the vendor in `Link`, `Location`, `Content-Location` and in body fields the connector names lead to this \
    gateway; what leads elsewhere is withheld and `rollcall-location-withheld` or `rollcall-link-withheld` says so, unless the \
    connector names its host for downloads. Its own errors carry the header `rollcall-error`.\n\n\
    **Account tokens.** `POST /integrated-account/token` makes a token for one account, for a browser or another service: it \
    lives for 15 minutes, has rights of the token it is made with, and ends with that. `/unified/…`, `/proxy/…`, `/custom/…`, \
    `/passthrough/…` and `/integrated-account/me` take it wherever they take a token, and `integrated_account_id` may then be left \
    out; another account's id answers as a missing one. Every other route answers 403 `token_kind`.\n\n\
    **Lists.** `limit` is a maximum; `next_cursor` is null at the end, and a page with a cursor is never empty. No filter is \
    ever ignored: `filters` in the answer says whether the vendor or the gateway evaluated it, and one on a field that the \
    account's connector never fills is refused. This document describes unified answers: `truto_key_by` makes `result` an \
    object, and `truto_response_format` other than `unified` changes its records (`debug` answers \
    `{\"result\", \"debug\", …}`); `envelope=true` wraps one record. A list of the gateway's own objects that lacks some which a \
    later release wrote, while both run, says `rollcall-warning: later_release`.\n\n\
    **Whole lists.** With `Accept: application/x-ndjson` or `truto_response_format=stream` a list of the unified model is \
    given out whole, one record per line, as fast as it is read. The last line, and no other, is about the list: \
    `{\"complete\", \"result_count\", \"next_cursor\", \"is_partial_response\", \"warnings\", \"filters\"}`. What goes wrong before the \
    first line is an error like any other; later it ends the list with `\"complete\": false` and the error as `problem`, and \
    `next_cursor`, where there is one, goes on with the same parameters. Without a last line the list was cut.\n\n**HEAD** answers like GET, without a body.\n\n\
    **Writes to a vendor** take the unified schema too, by the same map turned round. What the vendor cannot be told is 422 \
    `field_not_writable`, never left out silently; `remote_data` goes to the vendor as it is. After each write the record is read \
    again, and the answer is what is there: a vendor that says it is done when it is not is 502 `write_not_taken`, one that says it \
    failed when it did not is a success with `rollcall-warning: vendor_reported_failure`, and where nothing can be known it is 502 \
    `write_unconfirmed`, which is never sent again by itself.\n\n\
    **In the vendor's own words.** `/proxy` writes and methods send the body as it is and hand the vendor's answer on as it is; \
    nothing is read again, so that a success of a command, which such vendors only guess, carries `rollcall-warning: \
    vendor_says`. What may have taken effect although no good answer came is `write_unconfirmed` with the vendor's words. \
    `POST /unified/{model}/{resource}/{method}` calls the same methods with `directory:write` and answers `{\"result\": …}`.\n\n\
    **`ANY /custom/{path}?integrated_account_id=…`** sends the path, the other parameters, the headers that may pass and the \
    body (at most 1 MiB) with the account's credential, under the same rules as the passthrough. JSON comes back as \
    `{\"result\", \"next_cursor\": null, \"prev_cursor\": null}`, anything else as it is; paging is the vendor's own. An error of \
    the vendor's is a problem with its status and `raw_response`; redirects are not followed. GET, HEAD and OPTIONS need \
    `proxy:read`, other methods `proxy:write`. `Idempotency-Key` is ours here and does not reach the vendor; an answer of more \
    than 1 MiB cannot be kept under one. A `methodConfig` in a JSON body of a writing call may say another `method`, `path`, \
    `query`, `body` and `response_path`, which pass the same checks; anything else in it is refused.\n\n\
    **The link page.** `POST /link-token` gives the address of a page, `GET /connect-account`, on which a customer chooses a \
    connector and a way to connect, fills in the credential and sees that it works. The page ends at `redirect_uri`, with \
    `result`, `integration` and `integrated_account_id` (or `error` and `error_type`) in its query, or tells the same to the \
    window that opened or frames it, if that is of one of the registered `origins`. `/rollcall-link.js` is a module for browsers \
    that opens it, `/rollcall-link.d.ts` its types; Truto's link SDK opens it too. `/connect/{integration}/callback` is where \
    vendors send browsers back.\n\n\
    **Clients written for Truto** find its routes, parameters and answers here, with these differences. A filter or parameter that \
    there is not is 400, never ignored. A link token lives for 30 minutes unless `expires_in` says more, not for 7 days, and \
    `persist_previous_context` is true when left out: an account that is linked anew keeps its context. A platform list has 100 \
    objects a page when `limit` is left out. `region`, `features.super_query` and the ids of unified models are understood and \
    change nothing: data stays where the gateway runs and no copy is made of it. An account has no actions after its \
    installation but the check of its credential, which `run-post-install-actions` makes. A credential is tried at the vendor \
    before it replaces another.\n\n\
    **Every write** takes `Idempotency-Key`, 1 to 255 printable ASCII characters of the caller's choice. \
    While the first call runs, repetitions are 409 `idempotency_in_progress`; another method, path or body under the key is 422 \
    `idempotency_key_reused`; else the first reply is given again, with `idempotent-replayed: true`. Replies that a repetition may \
    better are not kept (429, 5xx, and whatever is `retryable`): the next call runs again, as it does when the gateway was lost in \
    the middle, at most 15 s later, and says `idempotent-restarted: true`. What it makes has the id that was chosen at first, so \
    that nothing is made twice; a delete whose first run took effect is then 404. Bodies that are no JSON of the right form use \
    up no key.\n\n**Errors** are RFC 9457 problems, the same shape everywhere; [`/errors`](/errors) explains each `code`. A vendor that fails again and again is left alone for \
    some seconds (503 `vendor_held`); limits a vendor announces are kept to, so that its 429 is rare and ours names the time.";

const TAGS: &[(&str, &str)] = &[
    (
        "directory",
        "Users, groups, roles and who holds them, organizations, workspaces, licences and activities of every vendor in one schema.",
    ),
    ("proxy", "A vendor's own named resources."),
    ("accounts", "Customers' accounts at vendors: linked, listed, changed, deleted."),
    ("events", "What happened to linked accounts in the last 30 days."),
    ("links", "Link tokens: customers link their accounts themselves, on a page of the gateway."),
    ("integrations", "Connectors, and what each offers; installed, enabled, shown and overridden in an environment."),
    ("environments", "The walls between tenants."),
    ("batch", "Several calls in one request."),
    ("log", "Every request of the last 14 days, for the question why a call failed."),
    ("audit", "Who did what, and what is kept of a customer."),
    ("backup", "Everything that is kept, for the operator."),
    ("tokens", "API tokens of this environment."),
    ("keys", "The keys that everything stored is sealed by, and their rotation."),
    ("documents", "This document, and a page for each kind of error."),
    ("health", "Probes and metrics."),
];

/// Stands where any valid token will do.
const ANY_SCOPE: &str = "any";

/// The problems a call can end in, by the kind of route.
const COMMON: &[(u16, &str)] =
    &[(400, "The request is not one this route takes."), (500, "Something went wrong inside the gateway.")];
const GUARDED: &[(u16, &str)] = &[
    (401, "The token is missing or not valid."),
    (403, "The token lacks a scope (`scope_missing`), or is of a kind that the route does not take (`token_kind`)."),
    (408, "The request did not arrive in time."),
    (429, "The operator's limit for the token is used up (`rate_limited`); `RateLimit-Policy` and `RateLimit` say which."),
    (503, "The store does not answer, too much is waiting, or the node takes no more (`overloaded`)."),
];
const NAMED: &[(u16, &str)] = &[(404, "No such object in this environment.")];
/// Paths whose body names the object.
const NAMED_IN_BODY: &[&str] = &[
    "/integrated-account/bulk-delete",
    "/integrated-account/refresh-credentials",
    "/integrated-account/run-post-install-actions",
    "/integrated-account/token",
    "/key/rewrap",
];
const WITH_BODY: &[(u16, &str)] = &[
    (413, "The body is too large."),
    (422, "A field is not as it must be, the vendor refused it, or the idempotency key belongs to another request."),
];
const WRITING: &[(u16, &str)] = &[
    (409, "A call with this idempotency key is still running, or somebody else changed the object at the same time."),
    (422, "The idempotency key belongs to another request."),
];
const AT_VENDOR: &[(u16, &str)] = &[
    (
        401,
        "The token is not valid (`invalid_token`), or the vendor no longer accepts the account's credential (`reauth_required`).",
    ),
    (403, "The token lacks a scope, or the vendor or its connector denies the call."),
    (404, "No such account or record, or the connector has no such resource."),
    (405, "The connector has the resource but not this method."),
    (422, "A filter needs more reading than one call may do."),
    (429, "The vendor asks to slow down, or the operator's limit for the token or account is used up."),
    (502, "The vendor did not answer, or not in a way that can be used."),
    (504, "The vendor did not answer in time."),
];

/// Routes without a body that ask a vendor.
const ASKING: [&str; 2] = ["/test", "/status-refresh"];

const WRITING_AT_VENDOR: &[(u16, &str)] = &[
    (409, "A call with this idempotency key is still running, or the record changed at the vendor at the same time."),
    (
        422,
        "The vendor does not take a field (`field_not_writable`) or needs one (`field_missing`), has such a record already \
         (`already_exists`), or the idempotency key belongs to another request.",
    ),
];

const REPEATING: &str = "Makes the write safe to send again: under one key it takes effect once. The key belongs to the token \
    that sent it and, for 24 hours, to the first request it came with. That request's reply is given again to every repetition.";

/// What says how a reply to a write with a key came to be.
const MARKS: &[(&str, &str)] = &[
    (write::REPLAYED, "`true` on the kept reply of an earlier call with the same idempotency key."),
    (
        write::RESTARTED,
        "`true` when an earlier call with the same idempotency key was cut off or failed, and the write ran again.",
    ),
];

/// The whole document.
pub fn document() -> openapi::OpenApi {
    let (_, mut document) = actix_web::App::new().into_utoipa_app().configure(routes::documented).split_for_parts();
    document.info = InfoBuilder::new()
        .title("Rollcall")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(ABOUT))
        .license(Some(License::builder().name("Apache-2.0").identifier(Some("Apache-2.0")).build()))
        .build();
    document.servers = Some(vec![Server::new("/")]);
    document.tags = Some(TAGS.iter().map(|(name, text)| tag(name, text)).collect());
    complete_components(&mut document);
    for (path, item) in &mut document.paths.paths {
        item.get.iter_mut().for_each(|operation| complete_operation(path, false, operation));
        for operation in [&mut item.post, &mut item.put, &mut item.patch, &mut item.delete].into_iter().flatten() {
            complete_operation(path, true, operation);
        }
    }
    plain(&mut document);
    document
}

/// The text of `openapi/rollcall.json`.
pub fn document_text() -> String {
    let mut text = document().to_pretty_json().unwrap_or_default();
    text.push('\n');
    text
}

/// Documented route templates and their methods, for 405.
pub static ROUTES: LazyLock<Vec<(String, Vec<&'static str>)>> = LazyLock::new(|| {
    let methods = |item: &openapi::PathItem| {
        let all = [("GET", &item.get), ("POST", &item.post), ("PATCH", &item.patch), ("DELETE", &item.delete)];
        all.into_iter().filter(|(_, operation)| operation.is_some()).map(|(name, _)| name).collect()
    };
    document().paths.paths.iter().map(|(path, item)| (path.clone(), methods(item))).collect()
});

/// JSON Schema of a resource's records, nested schemas included.
pub fn record_schema(resource: Resource) -> Map<String, Value> {
    static SCHEMAS: LazyLock<Value> =
        LazyLock::new(|| serde_json::to_value(document()).map(|d| d["components"]["schemas"].clone()).unwrap_or_default());
    let mut schema = SCHEMAS[resource.shape().name].clone();
    inline(&mut schema, &SCHEMAS);
    match schema {
        Value::Object(schema) => schema,
        _ => Map::new(),
    }
}

fn inline(value: &mut Value, schemas: &Value) {
    let target = value.get("$ref").and_then(Value::as_str).and_then(|r| r.rsplit('/').next()).map(str::to_owned);
    if let Some(name) = target {
        *value = schemas[&name].clone();
    }
    match value {
        Value::Object(members) => members.values_mut().for_each(|v| inline(v, schemas)),
        Value::Array(items) => items.iter_mut().for_each(|v| inline(v, schemas)),
        _ => {}
    }
}

fn tag(name: &str, text: &str) -> Tag {
    TagBuilder::new().name(name).description(Some(text)).build()
}

fn complete_components(document: &mut openapi::OpenApi) {
    let components = document.components.get_or_insert_default();
    let mut schemas = Vec::new();
    schema::Problem::schemas(&mut schemas);
    schemas.push((schema::Problem::name().into_owned(), <schema::Problem as utoipa::PartialSchema>::schema()));
    components.schemas.extend(schemas);
    for resource in Resource::ALL {
        complete_record(components, resource.shape(), true);
    }
    let scopes: Vec<_> = Scope::ALL.iter().map(|s| format!("`{s}`")).collect();
    let about = format!(
        "A token made by `POST /api-token` or `rollcall token create`, or for one account by `POST /integrated-account/token`. Scopes: {}.",
        scopes.join(", ")
    );
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("rck_…, rca_…").description(Some(about)).build();
    components.add_security_scheme("bearer", SecurityScheme::Http(bearer));
    if let Some(RefOr::T(Schema::Object(problem))) = components.schemas.get_mut("Problem")
        && let Some(RefOr::T(Schema::Object(code))) = problem.properties.get_mut("code")
    {
        code.enum_values = Some(Code::ALL.iter().map(|c| c.row().name.into()).collect());
    }
}

/// Only mapped fields are written, so that only what every connector must map is required; records carry `remote_data`.
fn complete_record(components: &mut openapi::Components, shape: &Shape, is_record: bool) {
    let Some(RefOr::T(Schema::Object(object))) = components.schemas.get_mut(shape.name) else { return };
    object.required = shape.fields.iter().filter(|f| f.required).map(|f| f.name.to_owned()).collect();
    if is_record {
        let remote = ObjectBuilder::new()
            .schema_type(SchemaType::new(Type::Object))
            .description(Some("The vendor's own record, byte for byte; absent with `truto_ignore_remote_data=true`."))
            .additional_properties(Some(openapi::schema::AdditionalProperties::FreeForm(true)))
            .build();
        object.properties.insert("remote_data".into(), RefOr::T(Schema::Object(remote)));
    }
    for field in shape.fields {
        let mut kind = &field.kind;
        while let crate::model::Kind::List(inner) = kind {
            kind = inner;
        }
        if let crate::model::Kind::Object(inner) = kind {
            complete_record(components, inner, false);
        }
    }
}

fn complete_operation(path: &str, is_write: bool, operation: &mut Operation) {
    let scope = take_scope(operation);
    let guarded = scope.is_some();
    let about = match &scope {
        Some(scope) if scope == ANY_SCOPE => "Needs a valid token; what it does asks for scopes of its own.".to_owned(),
        Some(scope) if path == "/metrics" => format!("Needs the scope `{scope}`, unless the gateway listens on loopback only."),
        Some(scope) => format!("Needs the scope `{scope}`."),
        None => "Needs no token.".to_owned(),
    };
    operation.description =
        Some(operation.description.as_ref().map_or_else(|| about.clone(), |text| format!("{text}\n\n{about}")));
    let at_vendor = path.starts_with("/unified/") || path.starts_with("/proxy/");
    let mut problems: Vec<&(u16, &str)> = COMMON.iter().collect();
    if guarded {
        problems.extend(GUARDED);
    }
    if path.contains("{") || NAMED_IN_BODY.contains(&path) {
        problems.extend(NAMED);
    }
    if operation.request_body.is_none() && ASKING.iter().any(|end| path.ends_with(end)) {
        problems.extend(AT_VENDOR.iter().filter(|(status, _)| *status >= 500));
    }
    if operation.request_body.is_some() {
        problems.extend(WITH_BODY.iter().chain(AT_VENDOR.iter().filter(|(status, _)| *status >= 500)));
    }
    if is_write {
        problems.extend(WRITING);
        make_repeatable(operation);
    }
    if at_vendor {
        problems.extend(AT_VENDOR);
    }
    if at_vendor && is_write {
        problems.extend(WRITING_AT_VENDOR);
    }
    for (status, description) in problems {
        let known = operation.responses.responses.get(&status.to_string());
        if known.is_none() || (at_vendor && *status < 500) {
            operation.responses.responses.insert(status.to_string(), RefOr::T(problem(*status, description)));
        }
    }
}

/// Every write takes a key under which it can be sent again.
fn make_repeatable(operation: &mut Operation) {
    let text = ObjectBuilder::new().schema_type(SchemaType::new(Type::String)).min_length(Some(1));
    let key = ParameterBuilder::new()
        .name(KEY_HEADER)
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some(REPEATING))
        .schema(Some(text.max_length(Some(255)).pattern(Some("^[!-~]([ -~]*[!-~])?$")).build()));
    operation.parameters.get_or_insert_default().push(key.build().into());
    for (status, response) in &mut operation.responses.responses {
        if let (true, RefOr::T(response)) = (status.starts_with('2'), response) {
            for (name, text) in MARKS {
                response.headers.insert((*name).to_owned(), header(Type::String, text).into());
            }
        }
    }
}

/// The scope moves from the security requirement, where many tools allow scopes of OAuth only, to an extension.
fn take_scope(operation: &mut Operation) -> Option<String> {
    let ways = serde_json::to_value(operation.security.take()).unwrap_or_default();
    let ways = ways.as_array().map(Vec::as_slice).unwrap_or_default();
    let any = || ways.iter().find(|way| way["bearer"].is_array()).map(|_| ANY_SCOPE.to_owned());
    let scope = ways.iter().find_map(|way| way["bearer"][0].as_str().map(str::to_owned)).or_else(any);
    let is_optional = scope.is_none() || ways.iter().any(|way| way.as_object().is_some_and(Map::is_empty));
    let bearer = scope.as_ref().map(|_| SecurityRequirement::new("bearer", [] as [&str; 0]));
    operation.security = Some(is_optional.then(SecurityRequirement::default).into_iter().chain(bearer).collect());
    if let Some(scope) = &scope {
        operation.extensions.get_or_insert_default().insert("x-rollcall-scope".into(), scope.as_str().into());
    }
    scope
}

fn header(kind: Type, text: &str) -> Header {
    let schema = ObjectBuilder::new().schema_type(SchemaType::new(kind)).build();
    HeaderBuilder::new().schema(Some(schema)).description(Some(text)).build()
}

fn problem(status: u16, description: &str) -> openapi::Response {
    let content = Content::new(Some(RefOr::Ref(Ref::from_schema_name("Problem"))));
    let response = ResponseBuilder::new().description(description).content(MEDIA_TYPE, content);
    match status {
        429 | 503 => response.header("Retry-After", header(Type::Integer, "Seconds to wait, at least 1.")).build(),
        405 => response.header("Allow", header(Type::String, "Methods that are answered.")).build(),
        _ => response.build(),
    }
}
