//! Tests of the service side: the whole inside of the gateway, under a clock that can be moved.

mod account_token;
mod audit;
mod authorize;
mod backup;
mod care;
mod care_faults;
mod ended;
mod events;
mod export;
mod idempotency;
mod keys;
mod link;
mod oauth_apps;
mod refusing;
mod relink;
mod renew;
mod request_log;
mod spent;
mod state;
mod unnoted;

use std::{sync::Arc, time::Duration};

use rollcall::{
    app::{Core, StartError},
    config::{Environment, GlobalArgs, Purpose, Settings},
    connector::Meaning,
    error::{Code, Error, VendorAnswer},
    model::{AccountId, AccountStatus, Clock, Resource, Scope, Scopes, Secret, Warning},
    service::{
        Accounts, ChangeAccount, Filter, FilterOp, IfThere, Linked, ListEvents, ListQuery, NewAccount, NewToken, Opened,
        cursor::{Cursor, Cursors, Position},
    },
    store::{
        Batch, Expect, Key, Slot, Store, StoreError, Write,
        repo::{self, account_slot},
    },
    upstream::{Failure, Upstream},
    vault::{KeyRing, SystemKeys, Vault},
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    connector::replay::{Replay, Reply},
    e2e::vendor::{Mood, SECRET, Vendor},
    support::clock::ManualClock,
};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// The inside of a gateway on an embedded store in front of a vendor.
async fn inside(vendor: &Vendor) -> (TempDir, Arc<ManualClock>, Core) {
    inside_of(vendor.authority()).await
}

async fn inside_of(authority: String) -> (TempDir, Arc<ManualClock>, Core) {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new());
    let core = open(&folder, &clock, authority).await;
    (folder, clock, core)
}

/// The inside on a store that may have been used before.
async fn open(folder: &TempDir, clock: &Arc<ManualClock>, authority: String) -> Core {
    let global = GlobalArgs {
        store: Some(Secret::new(format!("embedded:{}", folder.path().join("store").display()))),
        egress_allow: Some(authority),
        ..GlobalArgs::default()
    };
    let settings = Settings::load(&global, &Environment::new(&|_| None, Vec::new()), Purpose::Tool).unwrap();
    loop {
        match Core::open(&settings, clock.clone(), None, &[]).await {
            // What was there before is just being let go.
            Err(StartError::Store(StoreError::InUse(_))) => tokio::time::sleep(Duration::from_millis(20)).await,
            opened => return opened.unwrap_or_else(|why| panic!("{why}")),
        }
    }
}

/// The accounts as another node has them, over a store that may be another.
fn accounts_over(core: &Core, store: Arc<dyn Store>, clock: &Arc<ManualClock>) -> Arc<Accounts> {
    let opened = Opened::new(core.tasks.clone(), core.services.audit.clone());
    let upstream = Arc::new(Upstream::new(core.guard.clone(), core.services.store.clone()));
    let (vault, installs) = (Arc::new(Vault::new(core.ring.clone())), core.services.installs.clone());
    Accounts::new(repo::Accounts::new(store), installs, vault, upstream, core.guard.clone(), clock.clone(), opened)
}

/// What a caller wants linked.
fn new_account(method: &str, context: Value) -> NewAccount {
    let Value::Object(context) = context else { panic!("{context} is no context") };
    NewAccount {
        tenant_id: "acme".to_owned(),
        integration: "scim".to_owned(),
        authentication_method: method.to_owned(),
        context,
        is_sandbox: false,
        id: None,
        grant: None,
        if_there: IfThere::LinkedAnew,
    }
}

/// An account at the vendor, opened.
async fn link(core: &Core, vendor: &Vendor) -> Arc<Linked> {
    let new = new_account("bearer", vendor.context());
    let (account, _) = core.services.accounts.import(core.environment, new).await.unwrap();
    core.services.accounts.open(core.environment, &account.id.to_string()).await.unwrap()
}

/// Everything that is to be told is in the log; the kinds of an account's events, the oldest first.
async fn told(core: &Core, account: AccountId) -> Vec<String> {
    loop {
        assert!(core.tasks.wait(Duration::from_secs(10)).await, "something goes on for ever");
        if core.services.care.tell(core.environment).await.unwrap() == 0 {
            break;
        }
    }
    let wanted = ListEvents { account: Some(account), ..ListEvents::default() };
    let (events, next) = core.services.events.list(core.environment, &wanted, 5_000, None).await.unwrap();
    assert!(next.is_none());
    events.iter().rev().map(|event| event.kind.as_str().trim_start_matches("integrated_account:").to_owned()).collect()
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
        let change = ChangeAccount { tenant_id: Some(format!("tenant-{round}")), context, ..ChangeAccount::default() };
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
    records.update(&account, version, &[]).await.unwrap();
    let error = Error::from(records.update(&account, version, &[]).await.unwrap_err());
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

/// A SCIM vendor with two pages of everything and cursors that are too long for one of ours.
fn long_cursors() -> Replay {
    Replay::start(|seen| {
        let resource = seen.path.trim_start_matches('/').to_owned();
        if resource == "ServiceProviderConfig" {
            return Reply::json(200, r#"{"pagination":{"cursor":true}}"#);
        }
        let goes_on = seen.query.iter().any(|(name, value)| name == "cursor" && !value.is_empty());
        let cursor = (!goes_on).then(|| format!("{resource}-{}", "x".repeat(2_000)));
        let record = json!({"id": format!("{resource}{goes_on}"), "userName": "u", "displayName": "g"});
        Reply::json(200, json!({"nextCursor": cursor, "Resources": [record]}).to_string())
    })
}

#[tokio::test]
async fn v_03_what_a_cursor_keeps_in_the_store_is_bound_to_that_cursor() {
    let vendor = long_cursors();
    let (_folder, _clock, core) = inside_of(format!("127.0.0.1:{}", vendor.port)).await;
    let (accounts, directory) = (&core.services.accounts, &core.services.directory);
    let new = new_account("bearer", json!({"base_url": format!("http://127.0.0.1:{}", vendor.port), "token": SECRET}));
    let (account, _) = accounts.import(core.environment, new).await.unwrap();
    let linked = accounts.open(core.environment, &account.id.to_string()).await.unwrap();
    let ask = |resource: Resource, cursor: Option<String>| {
        let query = ListQuery { limit: Some(1), cursor, ..ListQuery::default() };
        directory.list(&linked, resource, None, query)
    };
    let users = ask(Resource::User, None).await.unwrap().next_cursor;
    ask(Resource::Group, None).await.unwrap();
    assert!(ask(Resource::User, users.clone()).await.is_ok(), "as it was kept");
    // Whoever holds the store puts what the groups' cursor keeps where the users' is.
    let (store, slot) = (&core.services.store, account_slot(account.id));
    let blobs = store.scan(&slot, "blob/", None, 10).await.unwrap();
    let writes = [(0, 1), (1, 0)].map(|(to, from)| Write::Put {
        name: blobs[to].0.clone(),
        value: blobs[from].1.value.clone(),
        ttl: None,
        expect: Expect::Any,
    });
    store.commit(Batch { slot, fence: None, writes: writes.into() }).await.unwrap();
    let moved = ask(Resource::User, users).await.map(|page| page.count).map_err(|error| error.code());
    assert_eq!(moved, Err(Code::InvalidCursor));
}

#[tokio::test]
async fn v_03_rights_written_into_the_store_are_not_believed() {
    let (_folder, clock, core) = inside_of("127.0.0.1:9".to_owned()).await;
    let tokens = &core.services.tokens;
    let weak = NewToken { name: "reader".to_owned(), scopes: Scopes([Scope::DirectoryRead].into()), expires_at: None };
    let (weak, text) = tokens.create(core.environment, weak).await.unwrap();
    let before = tokens.authenticate(text.expose()).await.unwrap();
    assert!(before.require(Scope::DirectoryRead).is_ok());
    // Whoever holds the store makes an administrator of the reader.
    let (store, slot) = (&core.services.store, Slot::new(format!("token:{}", weak.id)));
    let key = Key { slot: slot.clone(), name: "token".to_owned() };
    let stored = store.get(&key).await.unwrap().unwrap();
    let raised = String::from_utf8(stored.value.to_vec()).unwrap().replace("directory:read", "admin");
    assert!(raised.contains("admin"));
    let put = Write::Put { name: key.name, value: raised.into_bytes().into(), ttl: None, expect: Expect::Any };
    store.commit(Batch { slot, fence: None, writes: vec![put] }).await.unwrap();
    clock.advance(DAY);
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let after = tokens.authenticate(text.expose()).await.map(|_| ()).map_err(|error| error.code());
    assert_eq!(after, Err(Code::InvalidToken));
}

#[tokio::test]
async fn v_03_a_field_changed_in_the_store_makes_the_credential_unreadable() {
    let vendor = Vendor::start();
    let (_folder, _clock, core) = inside(&vendor).await;
    let accounts = &core.services.accounts;
    let new = new_account(
        "header",
        json!({"base_url": vendor.base(), "header_name": "Authorization", "header_value": format!("Bearer {SECRET}")}),
    );
    let (account, _) = accounts.import(core.environment, new).await.unwrap();
    let (id, records) = (account.id.to_string(), repo::Accounts::new(core.services.store.clone()));
    assert!(accounts.open(core.environment, &id).await.is_ok());
    let (mut changed, version) = records.get(account.id).await.unwrap().unwrap();
    changed.fields.insert("header_name".to_owned(), "x-shown-in-the-vendors-log".to_owned());
    records.update(&changed, version, &[]).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let opened = accounts.open(core.environment, &id).await.map(|_| ()).map_err(|error| error.code());
    assert_eq!(opened, Err(Code::CredentialUnreadable));
}

#[tokio::test]
async fn a_walk_that_lost_many_companies_has_a_cursor_that_fits_a_url() {
    let vendor = Vendor::start();
    let (folder, _clock, core) = inside(&vendor).await;
    let new = new_account("bearer", vendor.context());
    let (account, _) = core.services.accounts.import(core.environment, new).await.unwrap();
    let linked = core.services.accounts.open(core.environment, &account.id.to_string()).await.unwrap();
    let ring = KeyRing::create(&folder.path().join("other.keys"), "2026-01-01T00:00:00Z".parse().unwrap()).unwrap();
    let (keys, _) = SystemKeys::generate(&ring);
    let cursors = Cursors::new(&keys, &linked, "users", 0, "2026-01-01T00:00:00Z".parse().unwrap());
    let warning = |n| Warning { code: "company_refused".into(), message: format!("{n}{}", "w".repeat(400)), field: None };
    let lost = (0..500).map(warning).collect();
    let text = cursors.seal(Cursor { at: Position::Start, seen: 0, first: None, previous: None, lost }).unwrap();
    assert!(text.len() < 8 << 10, "{} bytes", text.len());
    assert!(!cursors.open(&text).unwrap().lost.is_empty(), "the walk is still known to be incomplete");
}

/// A token that was verified is compared by its text while the node knows it: near texts, its end and its revocation hold all
/// the same.
#[tokio::test]
async fn g_07_a_token_at_hand_is_still_checked_whole() {
    let vendor = Vendor::start();
    let (_folder, clock, core) = inside(&vendor).await;
    let tokens = &core.services.tokens;
    let make = |name: &str, end: Option<jiff::Timestamp>| {
        let new = NewToken { name: name.to_owned(), scopes: Scopes([Scope::AccountsRead].into()), expires_at: end };
        async move { tokens.create(core.environment, new).await.unwrap() }
    };
    let (token, text) = make("first", None).await;
    let (_, other) = make("other", None).await;
    let (text, other) = (text.expose(), other.expose());
    let refused = async |text: &str| tokens.authenticate(text).await.unwrap_err().code() == Code::InvalidToken;

    for _ in 0..3 {
        assert_eq!(tokens.authenticate(text).await.unwrap().token, token.id);
    }
    let foreign_secret = format!("{}{}", &text[..27], &other[27..]);
    let cut = &text[..text.len() - 1];
    let longer = format!("{text}0");
    for near in [&foreign_secret, cut, &longer, &text.to_lowercase(), &text[4..]] {
        assert!(refused(near).await, "{near}");
    }
    assert_eq!(tokens.authenticate(text).await.unwrap().token, token.id);
    tokens.revoke(core.environment, &token.id.to_string()).await.unwrap();
    assert!(refused(text).await, "revoked, and forgotten at once on the node that revoked it");

    let end = clock.now() + jiff::SignedDuration::from_secs(60);
    let (_, ending) = make("ending", Some(end)).await;
    assert!(tokens.authenticate(ending.expose()).await.is_ok());
    clock.advance(Duration::from_secs(61));
    assert!(refused(ending.expose()).await, "its end counts, though it is at hand");
}
