//! Data keys: another one in the place of the account's, by order and at the limit, while callers, re-links and walks go on.

use std::sync::Arc;

use bytes::Bytes;
use jiff::SignedDuration;
use rollcall::{
    app::Core,
    error::Code,
    model::{AccountId, AccountStatus, Resource},
    service::{
        ChangeAccount, ListQuery, MOST_SEALS, Order, Rotate,
        audit::{AuditOutcome, WantedEntries},
    },
    store::repo::{self, DataKeys},
    vault::{KeyRing, wrapping_key_id},
};
use serde_json::json;

use super::{DAY, inside, link, new_account};
use crate::{
    e2e::vendor::{Mood, SECRET, Vendor},
    support::clock::ManualClock,
};

fn stored(core: &Core) -> DataKeys {
    DataKeys::new(core.services.store.clone())
}

async fn wrapped(core: &Core, account: AccountId) -> Bytes {
    stored(core).get(account).await.unwrap().unwrap().0
}

fn every(data_keys: bool) -> Rotate {
    Rotate { data_keys, older_than: None, limit: 5000, after: None }
}

/// Opened anew from what is stored, it lists its people.
async fn is_readable(core: &Core, account: AccountId) {
    core.services.accounts.reopen();
    let linked = core.services.accounts.open(core.environment, &account.to_string()).await.unwrap();
    let page = core.services.directory.list(&linked, Resource::User, None, ListQuery::default()).await.unwrap();
    assert_eq!(page.count, 5);
}

#[tokio::test]
async fn v_10_a_data_key_that_has_sealed_enough_is_followed_by_another() {
    let vendor = Vendor::start();
    let (_folder, clock, core) = inside(&vendor).await;
    let accounts = &core.services.accounts;
    let account = link(&core, &vendor).await.account.clone();
    let first = wrapped(&core, account.id).await;
    let used = stored(&core).usage(account.id).await.unwrap();
    assert_eq!((used.made_at, used.seals), (Some(account.updated_at), 0));
    clock.advance(DAY);

    // What this process has sealed comes to what was kept before; it is in memory until then.
    accounts.keep_all_counts().await;
    let counted = stored(&core).usage(account.id).await.unwrap().seals;
    assert!((1..=5).contains(&counted), "the secret field, and what the first call sealed: {counted}");
    accounts.keep_count(core.environment, account.id, MOST_SEALS - counted - 1).await.unwrap();
    let used = stored(&core).usage(account.id).await.unwrap();
    assert_eq!((used.made_at, used.seals), (Some(account.updated_at), MOST_SEALS - 1));
    assert_eq!(wrapped(&core, account.id).await, first, "below the limit it stays");

    let log = async || core.services.audit.list(core.environment, WantedEntries::default(), 10, None).await.unwrap().entries;
    assert!(log().await.is_empty());
    accounts.keep_count(core.environment, account.id, 1).await.unwrap();
    assert_ne!(wrapped(&core, account.id).await, first, "at the limit there is another");
    let told = log().await;
    let [entry] = &told[..] else { panic!("{told:?}") };
    assert_eq!(
        (entry.actor.as_str(), entry.action.as_str(), entry.outcome),
        ("rollcall", "data_key.replace", AuditOutcome::Done)
    );
    assert_eq!((entry.integrated_account_id, entry.target_id.clone()), (Some(account.id), Some(account.id.to_string())));
    let used = stored(&core).usage(account.id).await.unwrap();
    assert_eq!(
        (used.made_at.map(|made| made.duration_since(account.updated_at)), used.seals),
        (Some(SignedDuration::from_hours(24)), 0)
    );
    let now = accounts.get(core.environment, &account.id.to_string()).await.unwrap();
    assert_ne!(now.sealed, account.sealed);
    assert_eq!(rollcall::model::Account { sealed: account.sealed.clone(), ..now }, account, "nothing else of it has changed");
    is_readable(&core, account.id).await;

    // What is counted for an account that is gone brings nothing of it back.
    accounts.delete(core.environment, &account.id.to_string()).await.unwrap();
    accounts.keep_count(core.environment, account.id, MOST_SEALS).await.unwrap();
    assert_eq!(stored(&core).get(account.id).await.unwrap(), None);
    assert_eq!(stored(&core).former(account.id).await.unwrap(), None);
    assert_eq!(stored(&core).usage(account.id).await.unwrap(), repo::KeyUse::default());
}

#[tokio::test]
async fn a_new_data_key_breaks_no_walk_and_a_new_credential_forgets_the_old_ones() {
    let vendor = Vendor::start();
    let (_folder, clock, core) = inside(&vendor).await;
    let linked = link(&core, &vendor).await;
    let (id, text) = (linked.account.id, linked.account.id.to_string());
    let order = Some(Order { field: "name".to_owned(), descending: false });
    let ask = |cursor: Option<String>| ListQuery { limit: Some(2), cursor, order: order.clone(), ..ListQuery::default() };
    let open = || core.services.accounts.open(core.environment, &text);
    let first = core.services.directory.list(&linked, Resource::User, None, ask(None)).await.unwrap();
    let asked = vendor.asked();
    // Twice, with a restart's look at what is stored.
    for _ in 0..2 {
        let done = core.services.keys.rotate_account(id).await.unwrap();
        assert_eq!((done.rotated, done.left, done.next), (1, 0, None));
        core.services.accounts.reopen();
    }
    let now = open().await.unwrap();
    let second = core.services.directory.list(&now, Resource::User, None, ask(first.next_cursor.clone())).await.unwrap();
    assert_eq!((second.count, vendor.asked()), (2, asked), "the sorted list comes from its snapshot");
    // Whoever still holds what was opened before goes on, too.
    let before = core.services.directory.list(&linked, Resource::User, None, ask(first.next_cursor.clone())).await.unwrap();
    assert_eq!(before.result, second.result);

    assert!(stored(&core).former(id).await.unwrap().is_some());
    let context = json!({"token": SECRET}).as_object().cloned();
    let change = ChangeAccount { context, ..ChangeAccount::default() };
    core.services.accounts.change(core.environment, &text, change).await.unwrap();
    assert_eq!(stored(&core).former(id).await.unwrap(), None);
    let error = core.services.directory.list(&open().await.unwrap(), Resource::User, None, ask(first.next_cursor)).await;
    assert_eq!(error.unwrap_err().code(), Code::InvalidCursor);

    // The keys before are kept as long as anything they sealed.
    core.services.keys.rotate_account(id).await.unwrap();
    clock.advance(DAY);
    assert!(stored(&core).former(id).await.unwrap().is_some());
    clock.advance(DAY);
    assert_eq!(stored(&core).former(id).await.unwrap(), None);
    is_readable(&core, id).await;
}

#[tokio::test]
async fn a_new_label_and_a_new_credential_are_not_refused_because_of_a_new_data_key() {
    let vendor = Vendor::start();
    let (_folder, _clock, core) = inside(&vendor).await;
    let linked = link(&core, &vendor).await;
    let (id, text) = (linked.account.id, linked.account.id.to_string());
    let accounts = &core.services.accounts;
    let renaming = async {
        for number in 0..30 {
            let change = ChangeAccount { tenant_id: Some(format!("acme {number}")), ..ChangeAccount::default() };
            accounts.change(core.environment, &text, change).await.unwrap();
        }
    };
    let rotating = async {
        for _ in 0..30 {
            core.services.keys.rotate_account(id).await.unwrap();
        }
    };
    tokio::join!(renaming, rotating);
    vendor.set(Mood::Slow);
    let context = json!({"token": SECRET}).as_object().cloned();
    let change = ChangeAccount { context, ..ChangeAccount::default() };
    let relinking = accounts.change(core.environment, &text, change);
    let rotating = async {
        for _ in 0..10 {
            core.services.keys.rotate_account(id).await.unwrap();
            tokio::time::sleep(std::time::Duration::from_millis(60)).await;
        }
    };
    let (relinked, ()) = tokio::join!(relinking, rotating);
    vendor.set(Mood::Good);
    let relinked = relinked.unwrap().0;
    assert_eq!((relinked.status, relinked.generation), (AccountStatus::Active, linked.account.generation + 1));
    let kept = accounts.get(core.environment, &text).await.unwrap();
    assert_eq!((kept.generation, kept.tenant_id.as_str()), (relinked.generation, "acme 29"), "the new credential wins");
    is_readable(&core, id).await;
}

async fn many(core: &Core, vendor: &Vendor, count: usize) -> Vec<AccountId> {
    let mut ids = Vec::new();
    for _ in 0..count {
        let new = new_account("bearer", vendor.context());
        ids.push(core.services.accounts.import(core.environment, new).await.unwrap().0.id);
    }
    ids
}

#[tokio::test]
async fn pieces_of_a_rotation_go_on_where_the_one_before_ended() {
    let vendor = Vendor::start();
    let (folder, clock, mut core): (_, Arc<ManualClock>, _) = inside(&vendor).await;
    let file = folder.path().join("store.keys");
    let ids = many(&core, &vendor, 7).await;
    let before = core.services.accounts.open(core.environment, &ids[0].to_string()).await.unwrap();
    KeyRing::add_key(&file, None, jiff::Timestamp::UNIX_EPOCH).unwrap();
    KeyRing::promote_key(&file, "k2").unwrap();
    core.refresh_ring().unwrap();
    let status = core.services.keys.status(Some(SignedDuration::from_hours(1))).await.unwrap();
    let counts: Vec<_> =
        status.keys.iter().map(|key| (key.id.as_str(), key.is_primary, key.data_keys, key.has_system_keys)).collect();
    assert_eq!(counts, [("k1", false, 7, true), ("k2", true, 0, false)]);
    assert_eq!((status.data_keys, status.older_data_keys), (Some(7), Some(0)));
    let (mut after, mut pieces) = (None, Vec::new());
    loop {
        let piece = core.services.keys.rotate(Rotate { limit: 3, after, ..every(false) }).await.unwrap();
        assert_eq!((piece.primary.as_str(), piece.left), ("k2", 0));
        pieces.push(piece.rotated);
        // A position is a text between two pieces.
        after = piece.next.map(|next| next.to_string().parse().unwrap());
        if after.is_none() {
            break;
        }
    }
    assert_eq!(pieces, [3, 3, 1]);
    assert_eq!(core.services.keys.rotate(every(false)).await.unwrap().rotated, 0, "again does no harm");
    let status = core.services.keys.status(Some(SignedDuration::ZERO)).await.unwrap();
    let counts: Vec<_> = status.keys.iter().map(|key| (key.id.as_str(), key.data_keys, key.has_system_keys)).collect();
    assert_eq!(counts, [("k1", 0, false), ("k2", 7, true)]);
    // The record is as it was, so that nobody opens the account anew.
    core.services.accounts.reopen();
    let now = core.services.accounts.open(core.environment, &ids[0].to_string()).await.unwrap();
    assert!(Arc::ptr_eq(&before, &now));
    KeyRing::retire_key(&file, "k1").unwrap();
    core.refresh_ring().unwrap();
    for id in &ids {
        assert_eq!(wrapping_key_id(&wrapped(&core, *id).await), Some("k2"));
        is_readable(&core, *id).await;
    }

    // New data keys, but for those that are young.
    core.services.keys.rotate_account(ids[3]).await.unwrap();
    clock.advance(DAY);
    core.services.keys.rotate_account(ids[5]).await.unwrap();
    let old = SignedDuration::from_hours(12);
    assert_eq!(core.services.keys.status(Some(old)).await.unwrap().older_data_keys, Some(6));
    let done = core.services.keys.rotate(Rotate { older_than: Some(old), ..every(true) }).await.unwrap();
    assert_eq!((done.rotated, done.left), (6, 0));
    assert_eq!(core.services.keys.status(Some(old)).await.unwrap().older_data_keys, Some(0));
    let missing = core.services.keys.rotate_account(AccountId::generate()).await.unwrap_err();
    assert_eq!(missing.code(), Code::NotFound);
}

#[tokio::test]
async fn an_account_under_a_key_that_this_node_lacks_says_so_until_it_opens_again() {
    let vendor = Vendor::start();
    let (folder, clock, mut core) = inside(&vendor).await;
    let file = folder.path().join("store.keys");
    let ids = many(&core, &vendor, 2).await;
    let ring = std::fs::read(&file).unwrap();
    KeyRing::add_key(&file, None, jiff::Timestamp::UNIX_EPOCH).unwrap();
    KeyRing::promote_key(&file, "k2").unwrap();
    core.refresh_ring().unwrap();
    assert_eq!(core.services.keys.rotate(Rotate { limit: 1, ..every(false) }).await.unwrap().rotated, 1);
    // A node that never got the new key.
    let whole_ring = std::fs::read(&file).unwrap();
    std::fs::write(&file, &ring).unwrap();
    core.refresh_ring().unwrap();
    core.services.accounts.reopen();
    let text = ids[0].to_string();
    let opened = core.services.accounts.open(core.environment, &text).await;
    assert_eq!(opened.err().map(|error| error.code()), Some(Code::CredentialUnreadable));
    let said = core.services.accounts.get(core.environment, &text).await.unwrap().last_error.unwrap();
    assert!(said.contains("give every node the same key ring"), "{said}");
    let done = core.services.keys.rotate(every(false)).await.unwrap();
    assert_eq!((done.primary.as_str(), done.rotated, done.left), ("k1", 0, 1));
    assert_eq!(core.services.keys.rotate_account(ids[0]).await.unwrap().left, 1);
    let status = core.services.keys.status(Some(SignedDuration::ZERO)).await.unwrap();
    let counts: Vec<_> = status.keys.iter().map(|key| (key.id.as_str(), key.is_in_ring, key.data_keys)).collect();
    assert_eq!(counts, [("k1", true, 1), ("k2", false, 1)]);
    std::fs::write(&file, &whole_ring).unwrap();
    core.refresh_ring().unwrap();
    clock.advance(std::time::Duration::from_secs(61));
    is_readable(&core, ids[0]).await;
    assert_eq!(core.services.accounts.get(core.environment, &text).await.unwrap().last_error, None);
}
