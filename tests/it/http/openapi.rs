use std::{collections::BTreeSet, path::Path};

use rollcall::http::openapi;
use serde_json::Value;

fn document() -> Value {
    serde_json::to_value(openapi::document()).unwrap()
}

fn operations(document: &Value) -> Vec<(String, String, &Value)> {
    let mut all = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            all.push((method.to_uppercase(), path.clone(), operation));
        }
    }
    all
}

#[test]
fn the_committed_document_is_the_one_of_the_code() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi/rollcall.json");
    let text = openapi::document_text();
    if std::env::var_os("ROLLCALL_UPDATE").is_some() {
        std::fs::write(&file, &text).unwrap();
    }
    let kept = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(kept == text, "openapi/rollcall.json is not what the code says; run this test with ROLLCALL_UPDATE=1");
}

#[test]
fn every_operation_is_described_in_full() {
    let document = document();
    assert_eq!(document["openapi"], "3.1.0");
    assert!(document["info"]["license"].is_object() && document["info"].get("contact").is_none());
    let tags: BTreeSet<_> = document["tags"].as_array().unwrap().iter().map(|t| t["name"].as_str().unwrap()).collect();
    assert!(document["tags"].as_array().unwrap().iter().all(|t| t["description"].as_str().is_some_and(|d| d.ends_with('.'))));
    let mut ids = BTreeSet::new();
    for (method, path, operation) in operations(&document) {
        let id = operation["operationId"].as_str().unwrap();
        assert!(ids.insert(id.to_owned()), "{id} twice");
        assert!(operation["summary"].as_str().is_some_and(|s| !s.is_empty()), "{method} {path}");
        assert!(operation["tags"].as_array().unwrap().iter().all(|t| tags.contains(t.as_str().unwrap())), "{method} {path}");
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            assert!(parameter["description"].as_str().is_some_and(|d| !d.is_empty()), "{method} {path} {parameter}");
        }
        for (status, response) in operation["responses"].as_object().unwrap() {
            assert!(response["description"].as_str().is_some_and(|d| !d.is_empty()), "{method} {path} {status}");
            let is_problem = response["content"]["application/problem+json"]["schema"]["$ref"] == "#/components/schemas/Problem";
            let wants_problem = status.as_str() >= "400" && !(path == "/readyz" && status == "503");
            assert_eq!(is_problem, wants_problem, "{method} {path} {status}");
        }
    }
}

#[test]
fn records_carry_the_vendors_own_and_require_only_what_every_connector_maps() {
    let document = document();
    let schemas = &document["components"]["schemas"];
    for name in ["User", "Group", "Member", "Role", "Organization", "Workspace"] {
        assert!(schemas[name]["properties"]["remote_data"].is_object(), "{name}");
    }
    assert_eq!(schemas["User"]["required"], serde_json::json!(["id", "status"]));
    assert!(schemas["Email"].get("required").is_none());
}

/// What the contract leaves to text, and nothing else: a route that is served but not described fails here.
#[test]
fn only_the_named_routes_are_described_in_text_alone() {
    let about = document()["info"]["description"].as_str().unwrap().to_owned();
    for named in [
        "/passthrough/{account_id}/{path}",
        "/custom/{path}",
        "/unified/{model}/{resource}/{method}",
        "`truto_key_by`",
        "`truto_response_format`",
        "application/x-ndjson",
        "/connect-account",
        "/connect/{integration}/callback",
        "/rollcall-link.js",
        "/rollcall-link.d.ts",
    ] {
        assert!(about.contains(named), "{named}");
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/http/routes");
    let mut undocumented = BTreeSet::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        for opening in [".route(\"", "web::scope(\""] {
            for (at, _) in text.match_indices(opening) {
                undocumented.insert(text[at + opening.len()..].split('"').next().unwrap().to_owned());
            }
        }
        let registered = text.matches("#[get(").count()
            + text.matches("#[post(").count()
            + text.matches("#[patch(").count()
            + text.matches("#[delete(").count();
        assert_eq!(registered, text.matches("#[utoipa::path(").count());
    }
    let known = [
        "/",
        "/connect-account",
        "/connect-account/icon/{slug}",
        "/connect-account/{file}",
        "/connect/{integration}/callback",
        "/custom/{path:.*}",
        "/docs",
        "/docs/{file:.*}",
        "/passthrough",
        "/proxy/{resource}",
        "/proxy/{resource}/{rest:.+}",
        "/unified/meta/{rest:.+}",
        "/rollcall-link.d.ts",
        "/rollcall-link.js",
        "/unified/{model}/{resource}",
        "/unified/{model}/{resource}/{integration}/meta/{method}",
        "/unified/{model}/{resource}/{method}",
        "/unified/{model}/{resource}/{rest:.+}",
    ];
    assert_eq!(undocumented, known.iter().map(|k| (*k).to_owned()).collect());
}

/// Generators make maps of pointers from `{}`, and refuse what they do not know.
#[test]
fn objects_of_any_form_are_said_so_that_generators_understand() {
    let text = document().to_string();
    assert!(!text.contains("\"additionalProperties\":{}") && !text.contains("propertyNames"));
    assert!(text.contains("\"additionalProperties\":true"));
    for (method, path, operation) in operations(&document()) {
        for parameter in operation["parameters"].as_array().into_iter().flatten().filter(|p| p["style"] == "deepObject") {
            assert_eq!(parameter["schema"]["additionalProperties"], true, "{method} {path} {parameter}");
        }
    }
}

#[test]
fn nothing_of_the_build_machine_is_in_the_document() {
    let text = openapi::document_text();
    for word in ["localhost", "127.0.0.1", "/root/", "/work/", "/home/"] {
        assert!(!text.contains(word), "{word}");
    }
    assert_eq!(document()["servers"], serde_json::json!([{"url": "/"}]));
}

/// Typed clients refuse a word they do not know.
#[test]
fn words_in_the_document_are_the_words_on_the_wire() {
    use rollcall::model::{Kind, Resource, Scope};
    let document = document();
    let schemas = &document["components"]["schemas"];
    let scopes: Vec<_> = Scope::ALL.iter().map(|s| s.as_str()).collect();
    assert_eq!(schemas["Scope"]["enum"], serde_json::json!(scopes));
    for resource in Resource::ALL {
        let shape = resource.shape();
        for field in shape.fields {
            let Kind::Enum(words) = field.kind else { continue };
            let property = schemas[shape.name]["properties"][field.name].to_string();
            let name = property.split("#/components/schemas/").nth(1).and_then(|rest| rest.split('"').next());
            let name = name.unwrap_or_else(|| panic!("{}.{}: {property}", shape.name, field.name));
            assert_eq!(schemas[name]["enum"], serde_json::json!(words), "{}.{}", shape.name, field.name);
        }
    }
}
