//! Tests of the service side: the whole inside of the gateway, under a clock that can be moved.

use std::{sync::Arc, time::Duration};

use rollcall::{
    app::Core,
    config::{Environment, GlobalArgs, Purpose, Settings},
    connector::Meaning,
    error::{Code, Error, VendorAnswer},
    model::{AccountStatus, Resource, Scope, Scopes, Secret},
    service::{ChangeAccount, Filter, FilterOp, Linked, ListQuery, NewAccount, NewToken},
    store::repo,
    upstream::Failure,
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    e2e::vendor::{Mood, SECRET, Vendor},
    support::clock::ManualClock,
};

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

/// An account at the vendor, opened.
async fn link(core: &Core, vendor: &Vendor) -> Arc<Linked> {
    let new = NewAccount {
        tenant_id: "acme".to_owned(),
        integration: "scim".to_owned(),
        authentication_method: "bearer".to_owned(),
        context: vendor.context().as_object().unwrap().clone(),
        is_sandbox: false,
        id: None,
    };
    let (account, _) = core.services.accounts.import(core.environment, new).await.unwrap();
    core.services.accounts.open(core.environment, &account.id.to_string()).await.unwrap()
}

fn answered(meaning: Meaning, status: u16) -> Failure {
    let answer = VendorAnswer { status: Some(status), ..VendorAnswer::default() };
    Failure::Answered { meaning, answer, wait: None, message: None }
}

#[tokio::test]
async fn a_cursor_is_good_for_a_day() {
    let vendor = Vendor::start();
    let (_folder, clock, core) = inside(&vendor).await;
    let directory = &core.services.directory;
    let linked = link(&core, &vendor).await;
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

#[tokio::test]
async fn a_new_credential_is_not_refused_because_calls_note_the_old_ones_end_meanwhile() {
    let vendor = Vendor::start();
    let (_folder, _clock, core) = inside(&vendor).await;
    let accounts = &core.services.accounts;
    let linked = link(&core, &vendor).await;
    let id = linked.account.id.to_string();
    vendor.set(Mood::Slow);
    let change = || {
        let context = json!({"token": SECRET}).as_object().cloned();
        accounts.change(core.environment, &id, ChangeAccount { context, ..ChangeAccount::default() })
    };
    // The vendor is asked while the new credential is verified; a call of before fails just then.
    let note = async {
        while vendor.asked() < 3 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        accounts.note_failure(&linked, "users", "list", answered(Meaning::Reauth, 401)).await
    };
    let (changed, noted) = tokio::join!(change(), note);
    assert_eq!(noted.code(), Code::ReauthRequired);
    assert_eq!(changed.unwrap().0.status, AccountStatus::Active);
    assert_eq!(accounts.get(core.environment, &id).await.unwrap().status, AccountStatus::Active);
}

#[tokio::test]
async fn a_new_label_is_not_refused_because_calls_note_the_accounts_state_meanwhile() {
    let vendor = Vendor::start();
    let (_folder, _clock, core) = inside(&vendor).await;
    let accounts = &core.services.accounts;
    let linked = link(&core, &vendor).await;
    let id = linked.account.id.to_string();
    for round in 0..20 {
        let context = json!({"round": round, "old": null}).as_object().cloned();
        let change = ChangeAccount { tenant_id: Some(format!("tenant-{round}")), context };
        let resource = format!("resource-{round}");
        // The note reads first and writes first: the change then stands on a version that is gone.
        let note = accounts.note_failure(&linked, &resource, "list", answered(Meaning::Denied, 403));
        let (noted, changed) = tokio::join!(note, accounts.change(core.environment, &id, change));
        assert_eq!(noted.code(), Code::VendorDenied);
        changed.unwrap();
        let now = accounts.get(core.environment, &id).await.unwrap();
        assert_eq!((now.tenant_id, &now.context["round"]), (format!("tenant-{round}"), &json!(round)));
        assert_eq!(now.last_forbidden.unwrap().resource, resource, "the note is kept");
    }
}

#[tokio::test]
async fn a_conflict_says_what_was_changed_and_what_to_do() {
    let vendor = Vendor::start();
    let (_folder, _clock, core) = inside(&vendor).await;
    let id = link(&core, &vendor).await.account.id;
    let records = repo::Accounts::new(core.services.store.clone());
    let (account, version) = records.get(id).await.unwrap().unwrap();
    records.update(&account, version).await.unwrap();
    let error = Error::from(records.update(&account, version).await.unwrap_err());
    assert_eq!(error.code(), Code::Conflict);
    for part in ["The account was changed", "nothing of this request was written", "Read it again"] {
        assert!(error.detail().contains(part), "{error}");
    }
}

#[tokio::test]
async fn a_filtered_record_is_written_as_an_unfiltered_one() {
    let vendor = Vendor::start();
    let (_folder, _clock, core) = inside(&vendor).await;
    let linked = link(&core, &vendor).await;
    let ask = async |query: ListQuery| -> Vec<Value> {
        let page = core.services.directory.list(&linked, Resource::User, None, query).await.unwrap();
        serde_json::from_slice(&page.result).unwrap()
    };
    let one = |field: &str, value: &str| vec![Filter { field: field.into(), op: FilterOp::Eq, values: vec![value.into()] }];
    for ignore_remote_data in [false, true] {
        for exclude in [&[][..], &["emails", "status"], &["remote_data"], &["id", "remote_data"]] {
            let exclude: Vec<String> = exclude.iter().map(|name| (*name).to_owned()).collect();
            let query = ListQuery { exclude: exclude.clone(), ignore_remote_data, ..ListQuery::default() };
            let all = ask(query.clone()).await;
            let active = ask(ListQuery { filters: one("status", "active"), ..query.clone() }).await;
            assert_eq!(active, all[..4], "{exclude:?}");
            let third = ask(ListQuery { filters: one("emails[email]", "user3@vendor.example"), ..query }).await;
            assert_eq!(third, all[2..3], "{exclude:?}");
            let shows = !ignore_remote_data && !exclude.iter().any(|name| name == "remote_data");
            assert!(active.iter().all(|user| user.get("remote_data").is_some() == shows), "{exclude:?}");
            assert!(active.iter().all(|user| exclude.iter().all(|name| user.get(name).is_none())), "{exclude:?}");
        }
    }
}
