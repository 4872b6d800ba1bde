//! The examples of CONTRIBUTING.md are connector files.

use std::{collections::BTreeSet, fs, path::Path};

use rollcall::connector::{Catalog, Grant, LinkMethod, check};

use super::{connectors, copy_dir};

/// What stands around an example: everything but the way to connect.
const HEAD: &str = r#"connector: acme
format: 1
title: Acme
category: directory
level: draft
hosts: { api: "https://api.vendor.example", login: "https://login.vendor.example" }
base: "https://api.vendor.example"
auth: { bearer: { token: "{access_token}" } }
test: { request: GET /me }
link:
"#;

/// The examples of the section on access tokens.
fn examples() -> Vec<String> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("CONTRIBUTING.md")).unwrap();
    let section = text.split("### Access tokens\n").nth(1).expect("CONTRIBUTING.md speaks of access tokens");
    let section = section.split("\n## ").next().unwrap();
    section.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
}

fn compiled(example: &str) -> Result<std::sync::Arc<LinkMethod>, String> {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("acme");
    copy_dir(&connectors().join("_template"), &folder);
    fs::write(folder.join("connector.yaml"), format!("{HEAD}{example}")).unwrap();
    let catalog = Catalog::load_dir(dir.path());
    match catalog.get("acme") {
        Some(connector) => Ok(connector.methods[0].clone()),
        None => Err(check::report(catalog.problems(), false)),
    }
}

#[test]
fn examples_of_access_tokens_compile() {
    let mut grants = BTreeSet::new();
    for example in examples() {
        let method = compiled(&example).unwrap_or_else(|report| panic!("{example}{report}"));
        let token = method.token.as_ref().unwrap_or_else(|| panic!("{example} has no `token`"));
        assert_eq!(token.needs_app(), token.grant == Grant::AuthorizationCode, "{example}");
        grants.insert(format!("{:?}", token.grant));
        let misspelt = example.replacen("url:", "urll:", 1);
        assert!(compiled(&misspelt).is_err(), "anything compiles: {misspelt}");
    }
    let all = ["AuthorizationCode", "ClientCredentials", "JwtBearer", "Login"];
    assert_eq!(grants.iter().map(String::as_str).collect::<Vec<_>>(), all, "one example of each");
}
