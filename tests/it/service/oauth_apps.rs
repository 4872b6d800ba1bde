//! OAuth apps: the environment's own before the operator's, and the operator's file while it changes.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, sync::Arc};

use rollcall::{
    app::{Core, StartError},
    config::{Environment, GlobalArgs, Purpose, Settings},
    error::Code,
    model::{EnvironmentId, Secret, Slug, environment_integration_id},
    service::{ChangeInstall, NewInstall},
};
use serde_json::{Value, json};

use crate::support::clock::ManualClock;

const OWN: &str = "the-environments-own-secret-81fa";
const OPERATORS: &str = "the-operators-secret-27bc";

fn write(path: &Path, text: &str, mode: u32) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn apps(id: &str) -> String {
    json!({"scim": {"client_id": id, "client_secret": OPERATORS}}).to_string()
}

/// The inside of a gateway with this file of apps.
async fn open(folder: &Path, file: &Path) -> Result<Core, StartError> {
    let file = file.to_str().unwrap().to_owned();
    let get = |name: &str| (name == "ROLLCALL_OAUTH_APPS_FILE").then(|| file.clone());
    let global =
        GlobalArgs { store: Some(Secret::new(format!("embedded:{}", folder.join("store").display()))), ..GlobalArgs::default() };
    let environment = Environment::new(&get, vec!["ROLLCALL_OAUTH_APPS_FILE".to_owned()]);
    let settings = Settings::load(&global, &environment, Purpose::Tool).unwrap_or_else(|error| panic!("{error}"));
    Core::open(&settings, Arc::new(ManualClock::new()), None, &[]).await
}

async fn app(core: &Core, environment: EnvironmentId) -> Option<(String, String, bool)> {
    let slug: Slug = "scim".parse().unwrap();
    let found = core.services.installs.oauth_app(environment, &slug).await.unwrap();
    found.map(|app| (app.client_id, app.client_secret.expose().to_owned(), app.own))
}

async fn lay(core: &Core, environment: EnvironmentId, overrides: Value) -> Result<(), (Code, Option<String>)> {
    let slug: Slug = "scim".parse().unwrap();
    let id = environment_integration_id(environment, &slug).to_string();
    let change = ChangeInstall { overrides: Some(overrides), ..ChangeInstall::default() };
    let changed = core.services.installs.change(environment, &id, change).await;
    changed.map(drop).map_err(|error| (error.code(), error.field_name().map(str::to_owned)))
}

fn own(id: &str, secret: &str) -> Value {
    json!({"credentials": {"oauth2": {"client_id": id, "client_secret": secret}}})
}

#[tokio::test]
async fn an_own_app_goes_before_the_operators_and_is_known_to_its_environment_alone() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("apps.json");
    write(&file, &apps("operators"), 0o600);
    let core = open(folder.path(), &file).await.unwrap();
    let (here, there) = (core.environment, EnvironmentId::generate());
    let operators = Some(("operators".to_owned(), OPERATORS.to_owned(), false));
    assert_eq!(app(&core, here).await, operators);

    lay(&core, here, own("mine", OWN)).await.unwrap();
    assert_eq!(app(&core, here).await, Some(("mine".to_owned(), OWN.to_owned(), true)));
    assert_eq!(app(&core, there).await, operators, "of another environment");

    // A new secret alone, and the word that stands for the kept one.
    lay(&core, here, json!({"credentials": {"oauth2": {"client_secret": "rotated-secret"}}})).await.unwrap();
    lay(&core, here, own("mine", "***")).await.unwrap();
    assert_eq!(app(&core, here).await, Some(("mine".to_owned(), "rotated-secret".to_owned(), true)));
    let field = |name: &str| Some(format!("override.credentials.oauth2.{name}"));
    let other = json!({"credentials": {"oauth2": {"client_id": "another"}}});
    assert_eq!(lay(&core, here, other).await, Err((Code::SecretsRequired, field("client_secret"))));
    let half = json!({"credentials": {"oauth2": {"client_secret": null}}});
    assert_eq!(lay(&core, here, half).await, Err((Code::InvalidBody, field("client_secret"))));
    assert_eq!(lay(&core, there, own("theirs", "***")).await, Err((Code::InvalidBody, field("client_secret"))));
    assert_eq!(app(&core, here).await.unwrap().0, "mine", "nothing of a refused change is kept");

    lay(&core, here, json!({"credentials": {"oauth2": null}})).await.unwrap();
    assert_eq!(app(&core, here).await, operators);
}

#[tokio::test]
async fn an_own_app_that_was_moved_in_the_store_does_not_open() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("apps.json");
    write(&file, "{}", 0o600);
    let core = open(folder.path(), &file).await.unwrap();
    let (here, there) = (core.environment, EnvironmentId::generate());
    lay(&core, here, own("mine", OWN)).await.unwrap();
    let records = rollcall::store::repo::Installs::new(core.services.store.clone());
    let slug: Slug = "scim".parse().unwrap();
    let (mut moved, _) = records.get(here, &slug).await.unwrap().unwrap();
    moved.environment = there;
    records.put(&moved, None).await.unwrap();
    let error = core.services.installs.oauth_app(there, &slug).await.err().unwrap();
    assert_eq!(error.code(), Code::CredentialUnreadable);
    assert!(!error.to_string().contains(OWN));
}

#[tokio::test]
async fn the_operators_file_is_read_again_and_a_bad_one_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("apps.json");
    write(&file, &apps("first"), 0o600);
    let mut core = open(folder.path(), &file).await.unwrap();
    let here = core.environment;
    assert!(!core.refresh_oauth_apps().unwrap(), "nothing has changed");
    write(&file, &apps("second"), 0o600);
    assert!(core.refresh_oauth_apps().unwrap());
    assert_eq!(app(&core, here).await.unwrap().0, "second");
    write(&file, "{", 0o600);
    let said = core.refresh_oauth_apps().unwrap_err().to_string();
    assert!(said.contains("is not JSON"), "{said}");
    assert!(!core.refresh_oauth_apps().unwrap(), "told once");
    assert_eq!(app(&core, here).await.unwrap().0, "second");
    write(&file, "{}", 0o600);
    assert!(core.refresh_oauth_apps().unwrap());
    assert_eq!(app(&core, here).await, None);
}

#[tokio::test]
async fn a_start_with_a_bad_file_is_refused_in_a_sentence_without_its_secrets() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("apps.json");
    let with = |slug: &str, members: Value| json!({slug: members}).to_string();
    let good = json!({"client_id": "id", "client_secret": OPERATORS});
    let cases = [
        (apps("id"), 0o644, "chmod 600"),
        (with("scmi", good.clone()), 0o600, "names the connector `scmi`, which there is not"),
        (with("scim", json!({"client_id": "id", "client_secret": OPERATORS, "tenant": 1})), 0o600, "a member that is not known"),
        (with("scim", json!({"client_id": "id"})), 0o600, "not of its form"),
        (with("scim", json!({"client_id": "", "client_secret": OPERATORS})), 0o600, "`client_id` for `scim`"),
        (
            with("scim", json!({"client_id": "id", "client_secret": format!("{OPERATORS}\n")})),
            0o600,
            "`client_secret` for `scim`",
        ),
        (format!("{{\"{OPERATORS}"), 0o600, "is not JSON"),
        (String::new(), 0o600, "is not JSON"),
        ("[]".to_owned(), 0o600, "not of its form"),
    ];
    for (content, mode, part) in cases {
        write(&file, &content, mode);
        let said = open(folder.path(), &file).await.err().expect("a refusal").to_string();
        assert!(said.contains(part) && said.contains("apps.json"), "{said} lacks {part}");
        assert!(!said.contains(OPERATORS), "{said}");
    }
}

#[tokio::test]
async fn a_connector_that_was_taken_away_comes_back_without_what_was_laid_over_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("apps.json");
    write(&file, "{}", 0o600);
    let core = open(folder.path(), &file).await.unwrap();
    let (here, slug) = (core.environment, "scim".parse::<Slug>().unwrap());
    lay(&core, here, own("mine", OWN)).await.unwrap();
    let id = environment_integration_id(here, &slug).to_string();
    core.services.accounts.uninstall(here, &id, None).await.unwrap();
    assert_eq!(app(&core, here).await, None);
    let gone = core.services.accounts.uninstall(here, &id, None).await.unwrap_err();
    assert_eq!(gone.code(), Code::NotFound);
    let new = NewInstall { integration: "scim".to_owned(), wanted: ChangeInstall::default() };
    core.services.installs.install(here, new).await.unwrap();
    assert_eq!(app(&core, here).await, None);
    assert!(core.services.installs.get(here, &id).await.unwrap().install.is_enabled);
}
