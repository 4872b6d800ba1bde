//! Clients written by others: Truto's Python SDK with its base URL changed, and a client generated from our document.

use std::{collections::BTreeSet, path::Path, process::Command};

use serde_json::{Value, json};

use super::{cli::run, vendor::is_sound};
use crate::support::{
    gateway::{Gateway, Kept},
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

#[tokio::test]
async fn the_truto_python_sdk_lists_every_user() {
    for kept in Kept::each() {
        let peer = peers::scim2_server(&["--users", "23"]);
        let gateway = Gateway::start(&kept, &authority(peer.base()));
        let context = json!({"base_url": peer.base(), "token": peer.told("token")});
        let account = gateway.link("scim", "bearer", context.clone()).await;
        let scopes = ["directory:read", "proxy:read", "proxy:write", "accounts:read", "accounts:write"];
        let token = gateway.token(&scopes).await;
        let said = answer(
            Command::new(python())
                .arg(peer_script("truto_client.py"))
                .args([&gateway.base, &token, &account])
                .arg(context.to_string()),
        );
        assert_eq!(texts(&said["users"]).len(), 23, "{said}");
        assert_eq!(said["count"], 23);
        assert_eq!(said["first"], said["got"]);
        assert_eq!(said["proxied"], 23);
        assert_eq!(said["filtered"], json!(["user00004@scim2.example"]));
        assert_eq!(texts(&said["inactive"]), BTreeSet::from(INACTIVE), "{said}");
        assert_eq!(said["accounts"], json!([account]));
        assert_eq!(said["label"], "renamed");
        assert_eq!((&said["altered"], &said["searched"]), (&json!("T"), &json!(true)), "{said}");
        assert_eq!((&said["custom"], &said["custom_search"]), (&json!("proxied@scim2.example"), &json!(1)), "{said}");
        assert_eq!(said["paging"], json!([null, null]));
        assert_eq!((&said["gone"], &said["custom_missing"]), (&json!(true), &json!(404)), "{said}");
        assert_eq!(said["refused"], 404, "an unknown account raises the SDK's error");
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
