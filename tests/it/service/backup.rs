//! Who may have a backup, a restore that is cut short, and ids that are taken on the other side of the wall.

use std::{
    io::{self, BufReader, Read},
    sync::Arc,
};

use rollcall::{
    app::Core,
    error::Code,
    model::{AccountId, Clock, EnvironmentId, Resource, Scope, Scopes, SystemClock, TokenId, environment_integration_id},
    service::{
        Act, Caller, ChangeInstall, Deleter, IfThere, ListAccounts, ListQuery, NewAccount, Order,
        audit::WantedEntries,
        backup::{BackupError, Checked, Line, Part, PartWriter},
    },
    store::{
        Batch, Expect, Store, StoreError, Write,
        embedded::Embedded,
        repo::{self, account_slot},
    },
    vault::{KeyRing, Place},
};
use serde_json::Value;
use tempfile::TempDir;

use super::inside;
use crate::e2e::vendor::{Mood, Vendor};

fn administrator(environment: EnvironmentId) -> Caller {
    Caller {
        environment,
        token: TokenId::generate(),
        actor: "operator".to_owned(),
        scopes: Scopes([Scope::Admin].into()),
        bound: None,
    }
}

fn wanted(vendor: &Vendor, id: Option<AccountId>) -> NewAccount {
    NewAccount {
        tenant_id: "acme".to_owned(),
        integration: "scim".to_owned(),
        authentication_method: "bearer".to_owned(),
        context: vendor.context().as_object().unwrap().clone(),
        is_sandbox: false,
        id,
        grant: None,
        if_there: if id.is_some() { IfThere::Stays } else { IfThere::LinkedAnew },
    }
}

/// Both files of a backup.
async fn files(core: &Core) -> [Vec<u8>; 2] {
    let mut dump = core.services.backups.begin(&administrator(core.environment)).await.unwrap();
    let mut text = Vec::new();
    while let Some(lines) = dump.read().await.unwrap() {
        text.extend_from_slice(&lines);
    }
    text.extend_from_slice(&dump.end(None));
    let mut lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let Line::Backup(header) = serde_json::from_slice(lines.next().unwrap()).unwrap() else { panic!("no header") };
    let mut data = PartWriter::begin(Vec::new(), Part::Data, &header).unwrap();
    let mut keys = PartWriter::begin(Vec::new(), Part::DataKeys, &header).unwrap();
    for line in lines {
        match serde_json::from_slice(line).unwrap() {
            Line::Entry(entry) => data.put(&entry).unwrap(),
            Line::Key(entry) => keys.put(&entry).unwrap(),
            Line::End { entries, keys } => assert!(entries > 2 && keys > 1, "{entries} {keys}"),
            _ => panic!("an odd line"),
        }
    }
    [data.end().unwrap().0, keys.end().unwrap().0]
}

fn checked([data, keys]: &[Vec<u8>; 2], folder: &TempDir) -> Checked {
    let ring = KeyRing::load(&folder.path().join("store.keys")).unwrap();
    Checked::read(data.as_slice(), keys.as_slice(), Arc::new(ring)).unwrap()
}

#[tokio::test]
async fn only_administrators_of_the_first_environment_have_everything() {
    let vendor = Vendor::start();
    let (_folder, _clock, core) = inside(&vendor).await;
    let backups = &core.services.backups;
    assert!(backups.begin(&administrator(core.environment)).await.is_ok());
    let refused = backups.begin(&administrator(EnvironmentId::generate())).await.err().unwrap();
    assert_eq!((refused.code(), refused.field_name()), (Code::ScopeMissing, Some("admin")));
}

#[tokio::test]
async fn what_is_deleted_or_made_while_a_backup_is_read_leaves_nothing_odd() {
    let vendor = Vendor::start();
    let (folder, _clock, core) = inside(&vendor).await;
    let accounts = &core.services.accounts;
    let mut made = Vec::new();
    for _ in 0..3 {
        made.push(accounts.import(core.environment, wanted(&vendor, None)).await.unwrap().0.id);
    }
    let mut survey = repo::backup::Survey::begin(core.services.store.clone()).await.unwrap();
    let late = accounts.import(core.environment, wanted(&vendor, None)).await.unwrap().0.id;
    accounts.delete(core.environment, &made[0].to_string()).await.unwrap();
    let mut slots = Vec::new();
    while let Some((slot, entries)) = survey.next().await.unwrap() {
        if slot.as_str().starts_with("env:") {
            // One goes, and one that had gone comes again under its id, after their list was read.
            accounts.delete(core.environment, &made[1].to_string()).await.unwrap();
            accounts.import(core.environment, wanted(&vendor, Some(made[0]))).await.unwrap();
            assert!(entries.iter().any(|(name, _)| name.ends_with(&made[1].to_string())));
        }
        slots.push(slot);
    }
    assert!(slots[0].as_str().starts_with("env:"), "lists first: {slots:?}");
    let has = |id: AccountId| slots.contains(&account_slot(id));
    assert_eq!((has(made[0]), has(made[1]), has(made[2]), has(late)), (false, false, true, false));
    drop(folder);
}

/// A file that cannot be read any further.
struct Breaks<'t>(&'t [u8]);

impl Read for Breaks<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buffer)? {
            0 => Err(io::Error::other("the disk is gone")),
            length => Ok(length),
        }
    }
}

#[tokio::test]
async fn a_restore_that_was_cut_short_is_finished_by_the_same_one_alone() {
    let vendor = Vendor::start();
    let (folder, _clock, core) = inside(&vendor).await;
    for _ in 0..200 {
        core.services.accounts.import(core.environment, wanted(&vendor, None)).await.unwrap();
    }
    let first = files(&core).await;
    core.services.accounts.import(core.environment, wanted(&vendor, None)).await.unwrap();
    let second = files(&core).await;
    let to = tempfile::tempdir().unwrap();
    let store: Arc<dyn Store> = Arc::new(Embedded::open(to.path(), Arc::new(SystemClock)).unwrap());
    let half = &first[0][..first[0].len() * 2 / 3];
    let cut = checked(&first, &folder).write(store.clone(), BufReader::new(Breaks(half))).await;
    assert!(matches!(cut, Err(BackupError::File(ref text)) if text.contains("the disk is gone")), "{cut:?}");
    let installation = repo::Installation::new(store.clone());
    assert!(store.slots().await.unwrap().len() > 2, "a part is there");
    assert!(matches!(installation.check().await, Err(StoreError::Refused(_))), "and cannot be served");
    let other = checked(&second, &folder).write(store.clone(), second[0].as_slice()).await;
    assert!(matches!(other, Err(BackupError::File(ref text)) if text.contains("Another restore")), "{other:?}");
    let whole = checked(&first, &folder).write(store.clone(), first[0].as_slice()).await.unwrap();
    assert_eq!((whole.accounts, whole.left_out.len(), whole.unreadable.len()), (200, 0, 0));
    installation.check().await.unwrap();
    let records = repo::Accounts::new(store);
    assert_eq!(records.list(core.environment, None, 500).await.unwrap().len(), 200);
}

#[tokio::test]
async fn an_id_that_is_taken_looks_the_same_on_both_sides_of_the_wall() {
    let vendor = Vendor::start();
    let (_folder, clock, core) = inside(&vendor).await;
    let (accounts, elsewhere) = (&core.services.accounts, EnvironmentId::generate());
    let other = repo::Environment {
        id: elsewhere,
        name: "elsewhere".to_owned(),
        created_at: clock.now(),
        updated_at: None,
        later: Default::default(),
    };
    repo::Installation::new(core.services.store.clone()).create_environment(&other).await.unwrap();
    let own = accounts.import(core.environment, wanted(&vendor, None)).await.unwrap().0.id;
    let foreign = accounts.import(elsewhere, wanted(&vendor, None)).await.unwrap().0.id;
    let asked = vendor.asked();
    for if_there in [IfThere::Stays, IfThere::LinkedAnew] {
        let refused = async |id: AccountId, environment: EnvironmentId| {
            let new = NewAccount { if_there, ..wanted(&vendor, Some(id)) };
            let error = accounts.import(environment, new).await.err().unwrap();
            (error.code(), error.detail().to_owned(), error.field_name().map(str::to_owned))
        };
        let on_the_other_side = refused(foreign, core.environment).await;
        assert_eq!((on_the_other_side.0, on_the_other_side.2.as_deref()), (Code::IdTaken, Some("id")));
        if if_there == IfThere::Stays {
            assert_eq!(refused(own, core.environment).await, on_the_other_side);
        }
    }
    assert_eq!(vendor.asked(), asked, "no vendor was asked");
    // Nor does a race leave the id in this side's list.
    let records = repo::Accounts::new(core.services.store.clone());
    let mut record = records.get(foreign).await.unwrap().unwrap().0;
    record.environment = core.environment;
    assert!(matches!(records.create(&record, b"key", None, &[]).await, Err(StoreError::Conflict(_))));
    assert!(!records.listed(core.environment, foreign).await.unwrap());
    assert!(records.listed(elsewhere, foreign).await.unwrap());
}

#[tokio::test]
async fn a_record_with_members_of_a_later_release_loads() {
    let vendor = Vendor::start();
    let (_folder, _clock, core) = inside(&vendor).await;
    let id = core.services.accounts.import(core.environment, wanted(&vendor, None)).await.unwrap().0.id;
    let (store, slot) = (&core.services.store, account_slot(id));
    let found = store.scan(&slot, "account", None, 1).await.unwrap().remove(0).1;
    let mut record: Value = serde_json::from_slice(&found.value).unwrap();
    record["of_a_later_release"] = serde_json::json!({"a": [1, 2]});
    let value = record.to_string().into_bytes().into();
    let put = Write::Put { name: "account".into(), value, ttl: None, expect: Expect::Version(found.version) };
    store.commit(Batch { slot, fence: None, writes: vec![put] }).await.unwrap();
    assert_eq!(core.services.accounts.get(core.environment, &id.to_string()).await.unwrap().id, id);
    let installation = repo::Installation::new(store.clone());
    installation.check().await.unwrap();
}

/// A snapshot that a node of a later release made goes on here, or begins anew where it holds what is not known here.
#[tokio::test]
async fn a_snapshot_of_a_later_release_is_read_or_none() {
    let vendor = Vendor::start();
    let (_folder, _clock, core) = inside(&vendor).await;
    let id = core.services.accounts.import(core.environment, wanted(&vendor, None)).await.unwrap().0.id;
    let linked = core.services.accounts.open(core.environment, &id.to_string()).await.unwrap();
    let order = Some(Order { field: "name".to_owned(), descending: false });
    let ask = async |cursor: Option<String>| {
        let query = ListQuery { limit: Some(2), cursor, order: order.clone(), ..ListQuery::default() };
        core.services.directory.list(&linked, Resource::User, None, query).await
    };
    let cursor = ask(None).await.unwrap().next_cursor;
    let (store, slot) = (&core.services.store, account_slot(id));
    let all = store.scan(&slot, "snapshot/", None, 100).await.unwrap();
    let (name, entry) = all.into_iter().find(|(name, _)| name.ends_with("/manifest")).unwrap();
    let field = name.strip_suffix("/manifest").unwrap().to_owned();
    let account = &linked.account;
    let place = || Place {
        environment: account.environment,
        account: account.id,
        connector: &account.connector,
        method: &account.method,
        field: &field,
        fields: &account.fields,
        origins: &account.origins,
        generation: account.generation,
    };
    let plain = linked.data_key.open(place(), &entry.value[4..]).unwrap();
    let mut manifest: Value = serde_json::from_slice(&plain).unwrap();
    for (pointer, key, outcome) in [("", "later", Ok(2)), ("/parts", "dreams", Err(Code::InvalidCursor))] {
        let part = manifest["parts"].as_object().unwrap().values().next().unwrap().clone();
        manifest.pointer_mut(pointer).unwrap()[key] = part;
        let sealed = linked.data_key.seal(place(), manifest.to_string().as_bytes());
        let value = [&entry.value[..4], &sealed].concat().into();
        let put = Write::Put { name: name.clone(), value, ttl: None, expect: Expect::Any };
        store.commit(Batch { slot: slot.clone(), fence: None, writes: vec![put] }).await.unwrap();
        let page = ask(cursor.clone()).await.map(|page| page.count).map_err(|error| error.code());
        assert_eq!(page, outcome, "{key}");
    }
    assert_eq!(ask(None).await.unwrap().count, 2, "begun anew");
}

/// Events on their way from their account to the log while a backup is read are in it, also in the first log there ever was.
#[tokio::test]
async fn events_that_are_moved_while_a_backup_is_read_are_in_it() {
    let vendor = Vendor::start();
    let (_folder, _clock, core) = inside(&vendor).await;
    let id: AccountId = "ffffffff-0000-4000-8000-000000000001".parse().unwrap();
    core.services.accounts.import(core.environment, wanted(&vendor, Some(id))).await.unwrap();
    let mut survey = repo::backup::Survey::begin(core.services.store.clone()).await.unwrap();
    let (mut slots, mut events) = (Vec::new(), 0);
    while let Some((slot, entries)) = survey.next().await.unwrap() {
        if slot.as_str().starts_with("audit:") || slots.is_empty() {
            core.services.events.move_out(id).await.unwrap();
        }
        events += entries.iter().filter(|(name, _)| name.starts_with("event/")).count();
        slots.push(slot.to_string());
    }
    assert_eq!(events, 2, "created and active: {slots:?}");
    assert!(slots.last().unwrap().starts_with("events:"), "{slots:?}");
}

#[tokio::test]
async fn everything_sealed_is_tried_before_anything_is_written() {
    let vendor = Vendor::start();
    let (folder, _clock, core) = inside(&vendor).await;
    let good = core.services.accounts.import(core.environment, wanted(&vendor, None)).await.unwrap().0.id;
    let slug = "scim".parse().unwrap();
    let install = environment_integration_id(core.environment, &slug).to_string();
    let app = serde_json::json!({"credentials": {"oauth2": {"client_id": "mine", "client_secret": "of-the-environment"}}});
    let change = ChangeInstall { overrides: Some(app), ..ChangeInstall::default() };
    core.services.installs.change(core.environment, &install, change).await.unwrap();
    let tried = async |core: &Core| {
        let saved = files(core).await;
        let to = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(Embedded::open(to.path(), Arc::new(SystemClock)).unwrap());
        checked(&saved, &folder).write(store, saved[0].as_slice()).await.unwrap()
    };
    let whole = tried(&core).await;
    assert_eq!((whole.accounts, whole.unreadable, whole.unreadable_apps), (1, Vec::new(), Vec::new()));
    let (store, list) = (&core.services.store, repo::environment_slot(core.environment));
    let put = |slot, name: &str, value: Vec<u8>| {
        let write = Write::Put { name: name.to_owned(), value: value.into(), ttl: None, expect: Expect::Any };
        store.commit(Batch { slot, fence: None, writes: vec![write] })
    };
    let said = store.scan(&list, "install/scim", None, 1).await.unwrap().remove(0).1;
    let text = String::from_utf8(said.value.to_vec()).unwrap().replace("\"mine\"", "\"theirs\"");
    put(list, "install/scim", text.into_bytes()).await.unwrap();
    for name in ["token", "token-previous"] {
        put(account_slot(good), name, vec![7; 80]).await.unwrap();
        let told = tried(&core).await;
        assert_eq!((told.accounts, told.unreadable, told.unreadable_apps), (1, vec![good], vec![slug.clone()]), "{name}");
        let gone = Write::Delete { name: name.to_owned(), expect: Expect::Any };
        store.commit(Batch { slot: account_slot(good), fence: None, writes: vec![gone] }).await.unwrap();
    }
}

/// An account that was on its way when its connector was taken away does not stay.
#[tokio::test]
async fn nothing_is_linked_by_a_connector_that_is_taken_away_meanwhile() {
    let vendor = Vendor::start();
    let (_folder, _clock, core) = inside(&vendor).await;
    let accounts = &core.services.accounts;
    accounts.import(core.environment, wanted(&vendor, None)).await.unwrap();
    let install = environment_integration_id(core.environment, &"scim".parse().unwrap()).to_string();
    let by = Deleter { audit: core.services.audit.clone(), act: Act::of_gateway(core.environment, "a.test") };
    let asked = vendor.asked();
    vendor.set(Mood::Slow);
    let taken_away = async {
        while vendor.asked() == asked {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        let refused = accounts.uninstall(core.environment, &install, None).await.unwrap_err();
        assert_eq!(refused.code(), Code::StillInUse);
        accounts.uninstall(core.environment, &install, Some(by)).await.unwrap();
    };
    let (late, ()) = tokio::join!(accounts.import(core.environment, wanted(&vendor, None)), taken_away);
    assert_eq!(late.err().map(|error| error.code()), Some(Code::IntegrationDisabled));
    let left = accounts.list(core.environment, ListAccounts { limit: 10, ..ListAccounts::default() }).await.unwrap().0;
    assert!(left.is_empty(), "{left:?}");
    let page = core.services.audit.list(core.environment, WantedEntries::default(), 10, None).await.unwrap();
    let deleted: Vec<_> = page.entries.iter().map(|entry| (entry.action.as_str(), entry.target_id.is_some())).collect();
    assert_eq!(deleted, [("integrated_account.delete", true); 2], "the account that was there, and the late one: each its own");
    assert_ne!(page.entries[0].target_id, page.entries[1].target_id);
}
