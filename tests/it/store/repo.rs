//! The typed repositories, on the embedded store and on Redis.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use jiff::Timestamp;
use rollcall::{
    model::{Account, AccountId, AccountStatus, ApiToken, EnvironmentId, Install, Later, Scope, Scopes, TokenId},
    store::{
        Batch, Expect, Hold, Slot, Store, StoreError, Write,
        embedded::Embedded,
        redis::Redis,
        repo::{
            Accounts, Blobs, CHUNK, EndedEnvironment, Environment, Installation, Installs, Renewed, Snapshots, TokenIntent,
            TokenRecord, Tokens, account_slot, environment_slot,
        },
    },
};

use super::fixture::put;
use crate::support::{
    clock::ManualClock,
    meddled::{Meddled, Point},
    redis::Server,
};

fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

fn account(environment: EnvironmentId) -> Account {
    Account {
        tenant_id: "acme".into(),
        origins: vec!["https://example.com".into()],
        sealed: BTreeMap::from([("token".into(), "c2VhbGVk".into())]),
        ..Account::draft(environment, "keeper".parse().unwrap(), "scim".into(), now())
    }
}

fn token(environment_id: EnvironmentId) -> TokenRecord {
    let scopes = Scopes([Scope::DirectoryRead].into());
    let token =
        ApiToken { id: TokenId::generate(), name: "ci".into(), environment_id, scopes, expires_at: None, created_at: now() };
    TokenRecord { token, hash: "aGFzaA==".into(), mark: "bWFyaw==".into(), created_by: None }
}

/// The store, and a way to let time pass where that is possible.
struct Stand {
    store: Arc<dyn Store>,
    clock: Option<Arc<ManualClock>>,
    _redis: Option<Server>,
    _folder: Option<tempfile::TempDir>,
}

async fn stands() -> Vec<Stand> {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new());
    let store: Arc<dyn Store> = Arc::new(Embedded::open(folder.path(), clock.clone()).unwrap());
    let embedded = Stand { store, clock: Some(clock), _redis: None, _folder: Some(folder) };
    let server = Server::start();
    let store: Arc<dyn Store> = Arc::new(Redis::connect(&server.url(), None).await.unwrap());
    vec![embedded, Stand { store, clock: None, _redis: Some(server), _folder: None }]
}

async fn names(store: &dyn Store, slot: Slot) -> Vec<String> {
    store.scan(&slot, "", None, 1000).await.unwrap().into_iter().map(|(name, _)| name).collect()
}

#[tokio::test]
async fn accounts_are_made_changed_and_read() {
    for stand in stands().await {
        let (accounts, environment) = (Accounts::new(stand.store.clone()), EnvironmentId::generate());
        let mut one = account(environment);
        let version = accounts.create(&one, b"wrapped", None, &[]).await.unwrap();
        assert_eq!(accounts.get(one.id).await.unwrap(), Some((one.clone(), version)));
        assert_eq!(accounts.data_keys().get(one.id).await.unwrap().unwrap().0, Bytes::from("wrapped"));
        assert!(matches!(accounts.create(&one, b"other", None, &[]).await, Err(StoreError::Conflict(_))));
        one.status = AccountStatus::NeedsReauth;
        let next = accounts.update(&one, version, &[]).await.unwrap();
        assert!(next > version);
        assert_eq!(accounts.version_of(one.id).await.unwrap(), Some(next));
        assert!(matches!(accounts.update(&one, version, &[]).await, Err(StoreError::Conflict(_))));
        one.generation = 2;
        assert!(matches!(accounts.replace_credential(&one, b"new", None, version, &[]).await, Err(StoreError::Conflict(_))));
        assert_eq!(accounts.data_keys().get(one.id).await.unwrap().unwrap().0, Bytes::from("wrapped"), "all or nothing");
        accounts.replace_credential(&one, b"new", None, next, &[]).await.unwrap();
        assert_eq!(accounts.data_keys().get(one.id).await.unwrap().unwrap().0, Bytes::from("new"));
        assert_eq!(accounts.get(AccountId::generate()).await.unwrap(), None);
    }
}

#[tokio::test]
async fn accounts_are_listed_per_environment_in_id_order() {
    for stand in stands().await {
        let (accounts, environment) = (Accounts::new(stand.store.clone()), EnvironmentId::generate());
        let mut expected = Vec::new();
        for _ in 0..7 {
            let one = account(environment);
            accounts.create(&one, b"k", None, &[]).await.unwrap();
            expected.push(one.id);
        }
        accounts.create(&account(EnvironmentId::generate()), b"k", None, &[]).await.unwrap();
        expected.sort();
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let page = accounts.list(environment, after, 3).await.unwrap();
            let Some(last) = page.last() else { break };
            after = Some(last.id);
            found.extend(page.iter().map(|account| account.id));
        }
        assert_eq!(found, expected);
    }
}

#[tokio::test]
async fn dangling_entries_are_passed_over_and_swept_and_no_account_hides() {
    for stand in stands().await {
        let (accounts, environment) = (Accounts::new(stand.store.clone()), EnvironmentId::generate());
        let (dangling, real) = (account(environment), account(environment));
        let entry = put(&format!("account/{}", dangling.id), "");
        stand.store.commit(Batch { slot: environment_slot(environment), fence: None, writes: vec![entry] }).await.unwrap();
        accounts.create(&real, b"k", None, &[]).await.unwrap();
        assert_eq!(accounts.list(environment, None, 1).await.unwrap(), std::slice::from_ref(&real));
        assert_eq!(accounts.sweep_index(environment).await.unwrap(), 1);
        assert_eq!(accounts.sweep_index(environment).await.unwrap(), 0);
        assert_eq!(names(&*stand.store, environment_slot(environment)).await, [format!("account/{}", real.id)]);
        // A create whose entry was swept must not end as an account that no list shows, nor be refused: it is tried once more.
        accounts.create(&dangling, b"k", None, &[]).await.unwrap();
        let listed = accounts.list(environment, None, 10).await.unwrap();
        assert_eq!(listed.iter().filter(|account| account.id == dangling.id).count(), 1);
        assert_eq!((listed.len(), accounts.sweep_index(environment).await.unwrap()), (2, 0));
        assert!(matches!(accounts.create(&dangling, b"k", None, &[]).await, Err(StoreError::Conflict(_))));
        // Nothing of the sweep stays behind.
        assert!(accounts.delete(dangling.id, environment, None, &[]).await.unwrap());
        assert_eq!(names(&*stand.store, account_slot(dangling.id)).await, Vec::<String>::new());
    }
}

#[tokio::test]
async fn a_deleted_account_leaves_nothing() {
    for stand in stands().await {
        let (accounts, environment) = (Accounts::new(stand.store.clone()), EnvironmentId::generate());
        let one = account(environment);
        accounts.create(&one, b"k", None, &[]).await.unwrap();
        let chunks = vec![Bytes::from(vec![7; 1000]); 40];
        let hour = Duration::from_secs(3600);
        Snapshots::new(stand.store.clone()).put(one.id, "s", b"m", chunks, hour).await.unwrap();
        Blobs::new(stand.store.clone()).put(one.id, "c", Bytes::from("x")).await.unwrap();
        assert!(accounts.delete(one.id, environment, None, &[]).await.unwrap());
        assert_eq!(names(&*stand.store, account_slot(one.id)).await, Vec::<String>::new());
        assert_eq!(names(&*stand.store, environment_slot(environment)).await, Vec::<String>::new());
        assert!(!accounts.delete(one.id, environment, None, &[]).await.unwrap());
    }
}

/// The id of an account that is being deleted, or whose entry is being swept, is used anew just then.
#[tokio::test]
async fn an_account_that_has_its_id_anew_loses_nothing_to_what_is_cleared_behind_the_one_before() {
    for stand in stands().await {
        let store = &stand.store;
        let (accounts, environment) = (Accounts::new(store.clone()), EnvironmentId::generate());
        for (number, point) in ["scanned", "unlisted", "swept", "swept and scanned"].into_iter().enumerate() {
            let one = Account { generation: 7, ..account(environment) };
            let (anew, maker) = (Account { generation: 8, ..one.clone() }, accounts.clone());
            let is_deleted = number < 2;
            if is_deleted {
                accounts.create(&one, b"old", Some(Bytes::from("old")), &[]).await.unwrap();
            } else {
                // A deletion that was cut off left an entry, and something of the account.
                let entry = put(&format!("account/{}", one.id), "");
                store.commit(Batch { slot: environment_slot(environment), fence: None, writes: vec![entry] }).await.unwrap();
            }
            Blobs::new(store.clone()).put(one.id, "c", Bytes::from("x")).await.unwrap();
            let make = async move {
                maker.create(&anew, b"new", Some(Bytes::from("new")), &[]).await.unwrap();
            };
            let point_of = match point {
                "unlisted" => Point::Removing("account/"),
                "swept" => Point::Written("swept"),
                _ => Point::Scanned(account_slot(one.id)),
            };
            let meddled = Meddled::at(store.clone(), point_of, make);
            match is_deleted {
                true => assert!(Accounts::new(meddled.clone()).delete(one.id, environment, None, &[]).await.unwrap()),
                false => drop(Accounts::new(meddled.clone()).sweep_index(environment).await.unwrap()),
            }
            assert!(meddled.is_done(), "{point}: nobody was faster");
            assert_eq!(accounts.get(one.id).await.unwrap().unwrap().0.generation, 8, "{point}");
            let key = accounts.data_keys().get(one.id).await.unwrap();
            assert_eq!(key.map(|(key, _)| key), Some(Bytes::from("new")), "{point}: its data key");
            assert_eq!(accounts.token(one.id).await.unwrap().map(|(token, _)| token), Some(Bytes::from("new")), "{point}");
            assert!(accounts.listed(environment, one.id).await.unwrap(), "{point}: it is in its list");
            assert!(accounts.delete(one.id, environment, None, &[]).await.unwrap());
        }
    }
}

#[tokio::test]
async fn the_last_use_of_a_token_is_noted_beside_it_and_goes_with_it() {
    for stand in stands().await {
        let (tokens, environment) = (Tokens::new(stand.store.clone()), EnvironmentId::generate());
        let (one, other) = (token(environment), token(environment));
        let ids = [one.token.id, other.token.id];
        for record in [&one, &other] {
            tokens.create(record).await.unwrap();
        }
        assert_eq!(tokens.last_uses(&ids).await.unwrap(), [None, None]);
        tokens.note_use(ids[0], now()).await.unwrap();
        let later = now() + jiff::SignedDuration::from_mins(1);
        tokens.note_use(ids[0], later).await.unwrap();
        assert_eq!(tokens.last_uses(&ids).await.unwrap(), [Some(later), None]);
        assert!(tokens.get(ids[0]).await.unwrap() == Some(one), "the record is as it was");
        assert!(tokens.revoke(ids[0], environment).await.unwrap());
        tokens.note_use(ids[0], later).await.unwrap();
        assert_eq!(tokens.last_uses(&ids).await.unwrap(), [None, None], "nothing is noted of a token that is gone");
    }
}

#[tokio::test]
async fn tokens_are_found_by_id_listed_and_revoked_in_their_environment() {
    for stand in stands().await {
        let (tokens, environment) = (Tokens::new(stand.store.clone()), EnvironmentId::generate());
        let mut ids = Vec::new();
        for _ in 0..3 {
            let one = token(environment);
            tokens.create(&one).await.unwrap();
            assert!(tokens.get(one.token.id).await.unwrap() == Some(one.clone()));
            assert!(matches!(tokens.create(&one).await, Err(StoreError::Conflict(_))));
            ids.push(one.token.id);
        }
        ids.sort();
        let listed = tokens.list(environment, Some(ids[0]), 10).await.unwrap();
        assert_eq!(listed.iter().map(|record| record.token.id).collect::<Vec<_>>(), ids[1..]);
        assert!(!tokens.revoke(ids[0], EnvironmentId::generate()).await.unwrap(), "a foreign environment must not reach it");
        assert!(tokens.get(ids[0]).await.unwrap().is_some());
        assert!(tokens.revoke(ids[0], environment).await.unwrap());
        assert!(tokens.get(ids[0]).await.unwrap().is_none());
        assert!(!tokens.revoke(ids[0], environment).await.unwrap());
        assert_eq!(tokens.list(environment, None, 10).await.unwrap().len(), 2);
    }
}

#[tokio::test]
async fn the_installation_starts_empty_and_agrees_on_one_default() {
    for stand in stands().await {
        let installation = Installation::new(stand.store.clone());
        assert!(installation.is_empty().await.unwrap());
        assert_eq!(installation.system_keys().await.unwrap(), None);
        let (one, two) = tokio::join!(installation.default_environment(now()), installation.default_environment(now()));
        assert_eq!(one.as_ref().unwrap(), two.as_ref().unwrap());
        let one = one.unwrap();
        assert_eq!((one.name.as_str(), installation.environment(one.id).await.unwrap()), ("default", Some(one.clone())));
        let twin = Environment { id: EnvironmentId::generate(), ..one.clone() };
        assert!(matches!(installation.create_environment(&twin).await, Err(StoreError::Conflict(_))));
        assert_eq!(installation.environments().await.unwrap(), [one]);
        assert!(!installation.is_empty().await.unwrap());
        installation.put_system_keys(b"sealed").await.unwrap();
        assert!(matches!(installation.put_system_keys(b"other").await, Err(StoreError::Conflict(_))));
        let stored = installation.system_keys().await.unwrap().unwrap();
        assert_eq!(stored.value, Bytes::from("sealed"));
        installation.replace_system_keys(b"again", stored.version).await.unwrap();
        assert!(matches!(installation.replace_system_keys(b"late", stored.version).await, Err(StoreError::Conflict(_))));
    }
}

#[tokio::test]
async fn environments_are_renamed_and_removed_with_their_names() {
    for stand in stands().await {
        let installation = Installation::new(stand.store.clone());
        let named = |name: &str| Environment {
            id: EnvironmentId::generate(),
            name: name.into(),
            created_at: now(),
            updated_at: None,
            later: Later::default(),
        };
        let (one, two) = (named("one"), named("two"));
        installation.create_environment(&one).await.unwrap();
        installation.create_environment(&two).await.unwrap();
        let version = installation.environment_versioned(one.id).await.unwrap().unwrap().1;
        let taken = Environment { name: "two".into(), ..one.clone() };
        assert!(matches!(installation.rename_environment(&one, &taken, version).await, Err(StoreError::Conflict(_))));
        let renamed = Environment { name: "three".into(), updated_at: Some(now()), ..one.clone() };
        installation.rename_environment(&one, &renamed, version).await.unwrap();
        assert!(matches!(installation.rename_environment(&one, &renamed, version).await, Err(StoreError::Conflict(_))));
        assert_eq!(installation.environment_named("one").await.unwrap(), None);
        assert_eq!(installation.environment_named("three").await.unwrap(), Some(renamed.clone()));
        assert!(matches!(installation.delete_environment(&renamed, version, now()).await, Err(StoreError::Conflict(_))));
        let version = installation.environment_versioned(one.id).await.unwrap().unwrap().1;
        installation.delete_environment(&renamed, version, now()).await.unwrap();
        assert_eq!(installation.environment_named("three").await.unwrap(), None);
        assert_eq!(installation.environments().await.unwrap(), [two]);
        // It is known as long as something of it may be left, and nothing takes its id meanwhile.
        assert_eq!(installation.ended().await.unwrap(), [EndedEnvironment { id: one.id, ended_at: now() }]);
        assert!(matches!(installation.create_environment(&one).await, Err(StoreError::Conflict(_))));
        installation.forget_ended(one.id).await.unwrap();
        assert_eq!(installation.ended().await.unwrap(), []);
    }
}

#[tokio::test]
async fn installed_connectors_stand_behind_their_walls_and_change_from_a_version() {
    for stand in stands().await {
        let (installs, environment) = (Installs::new(stand.store.clone()), EnvironmentId::generate());
        let mut one = Install::unsaid(environment, "scim".parse().unwrap(), now());
        assert_eq!(installs.get(environment, &one.connector).await.unwrap(), None);
        let version = installs.put(&one, None).await.unwrap();
        assert!(matches!(installs.put(&one, None).await, Err(StoreError::Conflict(_))));
        one.is_enabled = false;
        let next = installs.put(&one, Some(version)).await.unwrap();
        assert!(matches!(installs.put(&one, Some(version)).await, Err(StoreError::Conflict(_))));
        assert_eq!(installs.get(environment, &one.connector).await.unwrap(), Some((one.clone(), next)));
        let other = Install::unsaid(environment, "another".parse().unwrap(), now());
        installs.put(&other, None).await.unwrap();
        assert_eq!(installs.readable(environment).await.unwrap(), [other, one].map(|one| (one.connector.clone(), Some(one))));
        assert_eq!(installs.readable(EnvironmentId::generate()).await.unwrap(), []);
        installs.clear(environment).await.unwrap();
        assert_eq!(installs.readable(environment).await.unwrap(), []);
    }
}

/// A record of before there was anything to say of maps.
#[test]
fn an_account_stored_before_it_could_have_rules_still_loads() {
    let one = account(EnvironmentId::generate());
    let stored = serde_json::to_value(&one).unwrap();
    assert!(stored.get("maps").is_none(), "{stored}");
    assert_eq!(serde_json::from_value::<Account>(stored).unwrap(), one);
}

#[tokio::test]
async fn snapshots_live_from_their_last_use() {
    let hour = Duration::from_secs(3600);
    for stand in stands().await {
        let (snapshots, id) = (Snapshots::new(stand.store.clone()), AccountId::generate());
        let chunks: Vec<Bytes> = (0..11_u8).map(|n| Bytes::from(vec![n; 3])).collect();
        snapshots.put(id, "s", b"manifest", chunks.clone(), hour).await.unwrap();
        assert_eq!(snapshots.manifest(id, "s").await.unwrap().unwrap(), Bytes::from("manifest"));
        assert_eq!(snapshots.get_chunk(id, "s", 10).await.unwrap().unwrap(), chunks[10]);
        assert_eq!(snapshots.get_chunk(id, "s", 11).await.unwrap(), None);
        let large = vec![Bytes::from(vec![0; CHUNK + 1])];
        assert!(matches!(snapshots.put(id, "large", b"", large, hour).await, Err(StoreError::Refused(_))));
        snapshots.put_recent(id, "visit", Bytes::from("s"), Duration::from_secs(60)).await.unwrap();
        assert_eq!(snapshots.recent(id, "visit").await.unwrap().unwrap(), Bytes::from("s"));
        assert!(snapshots.touch(id, "s", hour).await.unwrap());
        assert!(!snapshots.touch(id, "none", hour).await.unwrap());
        let Some(clock) = &stand.clock else { continue };
        clock.advance(Duration::from_secs(61));
        assert_eq!(snapshots.recent(id, "visit").await.unwrap(), None);
        for _ in 0..6 {
            clock.advance(Duration::from_secs(3_599));
            assert!(snapshots.touch(id, "s", hour).await.unwrap(), "used within the hour");
            assert_eq!(snapshots.get_chunk(id, "s", 0).await.unwrap().unwrap(), chunks[0]);
        }
        clock.advance(Duration::from_secs(4_600));
        assert_eq!(snapshots.get_chunk(id, "s", 0).await.unwrap(), None);
        assert_eq!(snapshots.manifest(id, "s").await.unwrap(), None);
        assert!(!snapshots.touch(id, "s", hour).await.unwrap());
    }
}

#[tokio::test]
async fn blobs_live_a_day() {
    for stand in stands().await {
        let (blobs, id) = (Blobs::new(stand.store.clone()), AccountId::generate());
        blobs.put(id, "c", Bytes::from("cursor")).await.unwrap();
        assert_eq!(blobs.get(id, "c").await.unwrap().unwrap(), Bytes::from("cursor"));
        assert_eq!(blobs.get(AccountId::generate(), "c").await.unwrap(), None);
        if let Some(clock) = &stand.clock {
            clock.advance(Duration::from_secs(86_401));
            assert_eq!(blobs.get(id, "c").await.unwrap(), None);
        }
    }
}

#[tokio::test]
async fn a_damaged_record_is_damaged_and_its_content_not_told() {
    let stand = stands().await.remove(0);
    let id = AccountId::generate();
    let write =
        Write::Put { name: "account".into(), value: Bytes::from("{\"secret\": \"canary"), ttl: None, expect: Expect::Any };
    stand.store.commit(Batch { slot: account_slot(id), fence: None, writes: vec![write] }).await.unwrap();
    match Accounts::new(stand.store.clone()).get(id).await {
        Err(StoreError::Damaged(text)) => assert!(!text.contains("canary"), "{text}"),
        other => panic!("{other:?}"),
    }
}

/// Whoever used a refresh token keeps what came, although its right to that is over, until somebody else goes on.
#[tokio::test]
async fn a_renewed_token_is_kept_while_the_intent_is_its_own() {
    for stand in stands().await {
        let (accounts, one) = (Accounts::new(stand.store.clone()), account(EnvironmentId::generate()));
        let id = one.id;
        let record = accounts.create(&one, b"wrapped", Some(Bytes::from("first")), &[]).await.unwrap();
        let in_force = async || accounts.token(id).await.unwrap().unwrap();
        let intent = |version: u64, hold: &Hold| TokenIntent {
            version,
            fence: hold.fence,
            begun_at: now(),
            recovering: false,
            unanswered: false,
        };
        let renewed = |token: &'static str, before: u64| Renewed { token: Bytes::from(token), previous: None, before };

        let (before, first) = (in_force().await.1, accounts.hold_token(id).await.unwrap().unwrap());
        let at = accounts.put_intent(id, &intent(before, &first), None, record, &first).await.unwrap();
        assert_eq!(accounts.token_intent(id).await.unwrap(), Some((intent(before, &first), at)));
        accounts.release_token(&first).await.unwrap();
        let second = accounts.hold_token(id).await.unwrap().unwrap();
        let late = accounts.put_intent(id, &intent(before, &first), Some(at), record, &first).await;
        assert!(matches!(late, Err(StoreError::Fenced)), "nobody begins without the right");
        let blind = accounts.put_intent(id, &intent(before, &second), None, record, &second).await;
        assert!(matches!(blind, Err(StoreError::Conflict(_))), "nobody goes on without having seen what was begun");
        accounts.put_renewed(id, &renewed("second", before), record, at).await.unwrap();
        assert_eq!((&in_force().await.0[..], accounts.token_intent(id).await.unwrap()), (&b"second"[..], None));
        for seen in [Some(at), None] {
            let over = accounts.put_intent(id, &intent(before, &second), seen, record, &second).await;
            assert!(matches!(over, Err(StoreError::Conflict(_))), "there is another token");
        }

        let before = in_force().await.1;
        let at = accounts.put_intent(id, &intent(before, &second), None, record, &second).await.unwrap();
        accounts.release_token(&second).await.unwrap();
        let third = accounts.hold_token(id).await.unwrap().unwrap();
        let later = accounts.put_intent(id, &intent(before, &third), Some(at), record, &third).await.unwrap();
        for late in [
            accounts.put_renewed(id, &renewed("late", before), record, at).await,
            accounts.put_ended(&one, None, record, &[], at).await,
            accounts.leave_intent(id, &intent(before, &second), at).await,
            accounts.drop_intent(id, at).await,
        ] {
            assert!(matches!(late, Err(StoreError::Conflict(_))), "somebody else has gone on: {late:?}");
        }
        accounts.put_renewed(id, &renewed("third", before), record, later).await.unwrap();
        assert_eq!(&in_force().await.0[..], b"third");
    }
}
