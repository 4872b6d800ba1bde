//! Tests of the service side: the whole inside of the gateway, under a clock that can be moved.

use std::{sync::Arc, time::Duration};

use rollcall::{
    app::Core,
    config::{Environment, GlobalArgs, Purpose, Settings},
    error::Code,
    model::{Resource, Scope, Scopes, Secret},
    service::{ListQuery, NewAccount, NewToken},
};
use serde_json::json;
use tempfile::TempDir;

use crate::{e2e::vendor::Vendor, support::clock::ManualClock};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// The inside of a gateway on an embedded store in front of a vendor.
async fn inside(vendor: &Vendor) -> (TempDir, Arc<ManualClock>, Core) {
    let folder = tempfile::tempdir().unwrap();
    let global = GlobalArgs {
        store: Some(Secret::new(format!("embedded:{}", folder.path().join("store").display()))),
        egress_allow: Some(vendor.authority()),
        ..GlobalArgs::default()
    };
    let settings = Settings::load(&global, &Environment::new(&|_| None, Vec::new()), Purpose::Tool).unwrap();
    let clock = Arc::new(ManualClock::new());
    let core = Core::open(&settings, clock.clone(), None, &[]).await.unwrap();
    (folder, clock, core)
}

#[tokio::test]
async fn a_cursor_is_good_for_a_day() {
    let vendor = Vendor::start();
    let (_folder, clock, core) = inside(&vendor).await;
    let (accounts, directory) = (&core.services.accounts, &core.services.directory);
    let new = NewAccount {
        tenant_id: "acme".to_owned(),
        integration: "scim".to_owned(),
        authentication_method: "bearer".to_owned(),
        context: vendor.context().as_object().unwrap().clone(),
        is_sandbox: false,
        id: None,
    };
    let (account, _) = accounts.import(core.environment, new).await.unwrap();
    let linked = accounts.open(core.environment, &account.id.to_string()).await.unwrap();
    let ask = |cursor: Option<String>| {
        let query = ListQuery { limit: Some(2), cursor, ..ListQuery::default() };
        directory.list(&linked, Resource::User, None, query)
    };
    let cursor = ask(None).await.unwrap().next_cursor;
    assert!(cursor.is_some());
    clock.advance(DAY - Duration::from_secs(1));
    assert_eq!(ask(cursor.clone()).await.unwrap().count, 2);
    assert_eq!(ask(cursor.clone()).await.unwrap().count, 2, "it can be used again");
    clock.advance(Duration::from_secs(1));
    let error = ask(cursor).await.unwrap_err();
    assert_eq!((error.code(), error.field_name()), (Code::InvalidCursor, Some("next_cursor")));
    assert!(error.detail().contains("24 hours"), "{error}");
}

#[tokio::test]
async fn a_token_ends_at_its_time() {
    let vendor = Vendor::start();
    let (_folder, clock, core) = inside(&vendor).await;
    let tokens = &core.services.tokens;
    let new = |expires_at: &str| NewToken {
        name: "night shift".to_owned(),
        scopes: Scopes([Scope::DirectoryRead].into()),
        expires_at: Some(expires_at.parse().unwrap()),
    };
    // The clock starts at 2027-01-15T08:00:00Z.
    let error = tokens.create(core.environment, new("2027-01-15T08:00:00Z")).await.unwrap_err();
    assert_eq!((error.code(), error.field_name()), (Code::InvalidBody, Some("expires_at")), "{}", json!(error.detail()));
    let (_, text) = tokens.create(core.environment, new("2027-01-15T09:00:00Z")).await.unwrap();
    clock.advance(Duration::from_secs(3599));
    assert_eq!(tokens.authenticate(text.expose()).await.unwrap().actor, "night shift");
    clock.advance(Duration::from_secs(1));
    assert_eq!(tokens.authenticate(text.expose()).await.unwrap_err().code(), Code::InvalidToken);
}
