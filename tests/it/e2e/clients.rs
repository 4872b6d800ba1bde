//! Clients written by others: Truto's Python SDK with its base URL changed, and a client generated from our document.

use std::{collections::BTreeSet, path::Path, process::Command};

use serde_json::{Value, json};

use super::{cli::run, vendor::is_sound};
use crate::support::{
    gateway::{ADMIN, Gateway, Kept},
    house::authority,
    peers::{self, python},
};

/// The users the peer made inactive, in no order.
const INACTIVE: [&str; 3] = ["user00007@scim2.example", "user00014@scim2.example", "user00021@scim2.example"];

fn peer_script(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers").join(name)
}

/// Runs a Python program of the peers and reads the JSON it prints.
fn answer(command: &mut Command) -> Value {
    let (code, out, err) = run(command);
    assert_eq!(code, Some(0), "{out}{err}");
    serde_json::from_str(&out).unwrap_or_else(|why| panic!("{why}: {out}{err}"))
}

fn texts(value: &Value) -> BTreeSet<&str> {
    value.as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect()
}

/// What Truto's SDK calls and Rollcall does not have; each is answered as a route that there is not.
const NOT_OFFERED: &[(&str, &[&str])] = &[
    ("alarms", &["create", "delete", "get", "list", "update"]),
    ("categories", &["list"]),
    ("daemon_job_cron_triggers", &["create", "delete", "get", "list", "schedule", "update"]),
    ("daemon_job_runs", &["create", "delete", "get", "list", "update"]),
    ("daemon_jobs", &["create", "delete", "get", "list", "update"]),
    ("daemons", &["create", "delete", "get", "list", "update"]),
    ("datastores", &["create", "delete", "get", "list", "test", "update"]),
    ("documentations", &["create", "delete", "get", "list", "update"]),
    ("environment_integration_webhooks", &["process"]),
    ("environment_unified_models", &["get", "list", "update"]),
    ("integrated_account_webhooks", &["process"]),
    // Connectors are files.
    ("integrations", &["create", "delete", "update"]),
    ("mcp", &["call", "call_tool", "initialize", "list_tools"]),
    ("sandbox_integrated_accounts", &["create", "delete", "get", "list"]),
    ("static_gates", &["create", "delete", "get", "list", "update"]),
    ("sync_job_cron_triggers", &["create", "delete", "get", "list", "schedule", "update"]),
    ("sync_job_runs", &["create", "delete", "get", "list", "update"]),
    ("sync_jobs", &["create", "delete", "get", "list", "update"]),
    ("teams", &["get", "list"]),
    ("unified_models", &["create", "delete", "get", "install", "list", "uninstall", "update"]),
    ("users", &["get", "list"]),
    ("webhooks", &["create", "delete", "get", "list", "test", "update"]),
    ("workflow_runs", &["create", "delete", "get", "list", "update"]),
    ("workflows", &["create", "delete", "get", "list", "update"]),
];

/// What the SDK cannot call itself: it gives an argument twice. The routes are called beside it.
const BROKEN: &[&str] = &["proxy_api.custom_method", "unified_api.custom_method"];

/// Every method of the SDK is driven, or stands in one of the lists above.
fn check_methods(said: &Value) {
    let not_offered = NOT_OFFERED.iter().flat_map(|(resource, names)| names.iter().map(move |name| format!("{resource}.{name}")));
    let expected: BTreeSet<String> = not_offered.chain(BROKEN.iter().map(|name| (*name).to_owned())).collect();
    let others = said["others"].as_object().unwrap();
    assert_eq!(others.keys().cloned().collect::<BTreeSet<_>>(), expected, "a method is neither driven nor listed, or both");
    for (name, answer) in others {
        let is_so = if BROKEN.contains(&name.as_str()) { answer == "TypeError" } else { answer == 404 || answer == 405 };
        assert!(is_so, "{name}: {answer}");
    }
    assert!(texts(&said["driven"]).len() >= 38, "{}", said["driven"]);
}

#[tokio::test]
async fn the_truto_python_sdk_finds_every_method_that_is_offered() {
    for kept in Kept::each() {
        let peer = peers::scim2_server(&["--users", "23"]);
        let gateway = Gateway::start(&kept, &authority(peer.base()));
        let context = json!({"base_url": peer.base(), "token": peer.told("token")});
        let account = gateway.link("scim", "bearer", context.clone()).await;
        let scopes = ["directory:read", "directory:write", "proxy:read", "proxy:write", "accounts:read", "accounts:write"];
        let token = gateway.token(&scopes).await;
        let said = answer(
            Command::new(python())
                .arg(peer_script("truto_client.py"))
                .args([gateway.base.as_str(), &token, ADMIN, &account])
                .arg(context.to_string()),
        );
        assert_eq!(texts(&said["users"]).len(), 23, "{said}");
        assert_eq!(said["count"], 23);
        assert_eq!(said["first"], said["got"]);
        assert_eq!(said["proxied"], 23);
        assert_eq!(said["filtered"], json!(["user00004@scim2.example"]));
        assert_eq!(texts(&said["inactive"]), BTreeSet::from(INACTIVE), "{said}");
        assert_eq!(said["batch"]["result"]["some"].as_array().map(Vec::len), Some(3), "{said}");
        assert_eq!((&said["altered"], &said["searched"]), (&json!("T"), &json!(true)), "{said}");
        assert_eq!((&said["custom"], &said["custom_search"]), (&json!("proxied@scim2.example"), &json!(1)), "{said}");
        assert_eq!(said["paging"], json!([null, null]));
        assert_eq!((&said["custom_writes"], &said["custom_deleted"]), (&json!("UV"), &json!(404)), "{said}");
        assert_eq!((&said["gone"], &said["custom_missing"]), (&json!(true), &json!(404)), "{said}");
        assert_eq!(said["unified"], json!(["unified@scim2.example", "Una Ficada", true]), "{said}");

        assert_eq!((&said["accounts"], &said["found"]), (&json!([account]), &json!([account])), "{said}");
        assert_eq!(said["not_found"], json!([[], [], [], []]), "{said}");
        assert_eq!((&said["label"], &said["done"]), (&json!("renamed"), &json!(true)), "{said}");
        assert_eq!(said["by_account_token"], 2, "{said}");
        assert_eq!(said["refused"], 404, "an unknown account raises the SDK's error");

        assert_eq!((&said["link_tokens"], &said["token"]), (&json!(2), &json!("test")), "{said}");
        assert_eq!((&said["environment"], &said["integration"]), (&json!("default"), &json!("keeper")), "{said}");
        assert_eq!(
            (&said["uninstalled"], &said["installed"]),
            (&json!(["keeper"]), &json!(true)),
            "by the connector's own id: {said}"
        );
        assert_eq!((&said["shown"], &said["uninstalled_again"]), (&json!(false), &json!(true)), "{said}");
        assert_eq!(said["logged"], 1, "{said}");
        check_methods(&said);
        is_sound(&gateway);
    }
}

#[tokio::test]
async fn a_generated_client_lists_every_user_and_reads_a_problem() {
    let peer = peers::scim2_server(&["--users", "23"]);
    let folder = tempfile::tempdir().unwrap();
    let package = folder.path().join("rollcall_client");
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi/rollcall.json");
    let mut generate = Command::new(python().with_file_name("openapi-python-client"));
    generate.arg("generate").arg("--path").arg(document).arg("--output-path").arg(&package).args([
        "--meta",
        "none",
        "--fail-on-warning",
    ]);
    let folders = [python().parent().unwrap().to_owned()];
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths(folders.into_iter().chain(std::env::split_paths(&path))).unwrap();
    let (code, out, err) = run(generate.env("PATH", path));
    assert_eq!(code, Some(0), "the document cannot be turned into a client: {out}{err}");
    for kept in Kept::each() {
        let gateway = Gateway::start(&kept, &authority(peer.base()));
        let account = gateway.link("scim", "bearer", json!({"base_url": peer.base(), "token": peer.told("token")})).await;
        let token = gateway.token(&["directory:read", "accounts:read"]).await;
        let mut client = Command::new(python());
        client.arg(peer_script("generated_client.py")).args([&gateway.base, &token, &account]).env("PYTHONPATH", folder.path());
        let said = answer(&mut client);
        assert_eq!((texts(&said["users"]).len(), &said["count"]), (23, &json!(23)), "{said}");
        assert_eq!(texts(&said["inactive"]), BTreeSet::from(INACTIVE), "{said}");
        assert_eq!(said["problem"], json!({"code": "not_found", "status": 404, "origin": "gateway", "retryable": false}));
        assert_eq!(said["limit"], json!({"code": "invalid_parameter", "field": "limit"}));
        assert_eq!(said["account"], account);
        is_sound(&gateway);
    }
}
