//! Events: one for each transition, however many reach it at once and wherever a node is lost.

use std::sync::Arc;

use futures_util::future::join_all;
use rollcall::{
    app::Core,
    connector::Meaning,
    model::{AccountId, Clock, Event, EventKind},
    service::{ChangeAccount, ListEvents},
    store::{
        Batch, Entry, Expect, Settle, Slot, Write,
        repo::{self, Queue, Queues, account_slot, environment_slot},
    },
};
use serde_json::json;

use super::{
    refusing::{QUEUES, Refusing},
    *,
};
use crate::support::stores::Through;

async fn outbox(core: &Core, account: AccountId) -> Vec<(String, Entry)> {
    core.services.store.scan(&account_slot(account), "outbox/", None, 100).await.unwrap()
}

async fn put(core: &Core, slot: Slot, name: &str, entry: Option<&Entry>) {
    let value = entry.map(|entry| entry.value.clone()).unwrap_or_default();
    let write = Write::Put { name: name.to_owned(), value, ttl: None, expect: Expect::Any };
    core.services.store.commit(Batch { slot, fence: None, writes: vec![write] }).await.unwrap();
}

/// A node was lost before it could say that there is something to tell.
async fn lose_announcements(core: &Core) -> usize {
    assert!(core.tasks.wait(Duration::from_secs(10)).await);
    let queues = Queues::new(core.services.store.clone());
    let items = queues.claim(core.environment, Queue::Outbox, DAY, 100).await.unwrap();
    for item in &items {
        assert!(queues.settle(core.environment, Queue::Outbox, item, Settle::Done).await.unwrap());
    }
    items.len()
}

async fn change(core: &Core, id: AccountId, change: ChangeAccount) {
    core.services.accounts.change(core.environment, &id.to_string(), change).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn r_08_five_hundred_callers_who_are_refused_make_one_event() {
    let vendor = Vendor::start();
    let (_folder, clock, core) = inside(&vendor).await;
    let linked = link(&core, &vendor).await;
    let id = linked.account.id;
    let refuse = async || {
        let callers = (0..500).map(|_| {
            let (accounts, linked) = (core.services.accounts.clone(), Arc::clone(&linked));
            tokio::spawn(
                async move { accounts.note_failure(&linked, "users", "list", answered(Meaning::Reauth, 401)).await.code() },
            )
        });
        assert!(join_all(callers).await.into_iter().all(|code| code.unwrap() == Code::ReauthRequired));
    };
    refuse().await;
    assert_eq!(told(&core, id).await, ["created", "active", "authentication_error"]);
    refuse().await;
    assert_eq!(told(&core, id).await.len(), 3, "it is told once until it ends");
    let tries = (0..500).map(|_| {
        let (accounts, environment) = (core.services.accounts.clone(), core.environment);
        tokio::spawn(async move { accounts.test(environment, &id.to_string()).await.is_ok() })
    });
    let asked = vendor.asked();
    assert!(join_all(tries).await.into_iter().all(|ok| ok.unwrap()));
    // One look at the vendor is two requests; users and groups are counted, too.
    assert_eq!(vendor.asked() - asked, 4, "one look for all");
    assert_eq!(told(&core, id).await[3..], ["reactivated"]);
    clock.advance(Duration::from_secs(60));
    refuse().await;
    assert_eq!(told(&core, id).await[4..], ["authentication_error"], "the next time it is another");
}

#[tokio::test]
async fn a_life_is_told_in_its_order_and_its_end_outlives_it() {
    let vendor = Vendor::start();
    let (_folder, clock, core) = inside(&vendor).await;
    let id = link(&core, &vendor).await.account.id;
    let context = |value: Value| value.as_object().cloned();
    for step in [
        ChangeAccount { tenant_id: Some("other".to_owned()), ..ChangeAccount::default() },
        ChangeAccount { context: context(json!({"token": SECRET})), ..ChangeAccount::default() },
        ChangeAccount { is_enabled: Some(false), ..ChangeAccount::default() },
        ChangeAccount { is_enabled: Some(false), ..ChangeAccount::default() },
        ChangeAccount { is_enabled: Some(true), ..ChangeAccount::default() },
    ] {
        clock.advance(Duration::from_secs(1));
        change(&core, id, step).await;
    }
    clock.advance(Duration::from_secs(1));
    core.services.accounts.delete(core.environment, &id.to_string()).await.unwrap();
    let life = ["created", "active", "updated", "updated", "active", "disabled", "enabled", "deleted"];
    assert_eq!(told(&core, id).await, life);
    assert!(core.services.store.scan(&account_slot(id), "", None, 10).await.unwrap().is_empty(), "nothing of it is left");

    let events = &core.services.events;
    let list = async |wanted: ListEvents| events.list(core.environment, &wanted, 100, None).await.unwrap().0;
    let of_kind = list(ListEvents { kind: Some(EventKind::Disabled), ..ListEvents::default() }).await;
    assert_eq!((of_kind.len(), of_kind[0].tenant_id.as_str()), (1, "other"));
    assert_eq!(list(ListEvents { tenant_id: Some("acme".to_owned()), ..ListEvents::default() }).await.len(), 2);
    let since = Some(of_kind[0].occurred_at);
    assert_eq!(list(ListEvents { since, ..ListEvents::default() }).await.len(), 3, "disabled, enabled, deleted");
    assert_eq!(events.get(core.environment, &of_kind[0].id.to_string()).await.unwrap(), of_kind[0]);
    let all = list(ListEvents::default()).await;
    assert!(!serde_json::to_string(&all).unwrap().contains(SECRET));
    assert_eq!(all[0].data, *json!({"id": id}).as_object().unwrap(), "of what is gone the id alone");

    // Page by page it is the same list.
    let (mut paged, mut after) = (Vec::new(), None);
    loop {
        let (page, next) = events.list(core.environment, &ListEvents::default(), 3, after).await.unwrap();
        paged.extend(page);
        after = next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(paged, all);
}

#[tokio::test]
async fn what_was_committed_is_told_once_wherever_the_node_was_lost() {
    let vendor = Vendor::start();
    let (folder, clock, core) = inside(&vendor).await;
    let linked = link(&core, &vendor).await;
    let id = linked.account.id;
    drop(linked);
    assert_eq!(lose_announcements(&core).await, 1);
    // Killed after the commit, before anything was moved.
    drop(core);
    let core = open(&folder, &clock, vendor.authority()).await;
    let kept = outbox(&core, id).await;
    assert_eq!(kept.len(), 2);
    assert!(core.services.care.find_forgotten(core.environment).await.unwrap());
    assert_eq!(told(&core, id).await, ["created", "active"]);
    assert!(outbox(&core, id).await.is_empty());
    // Killed between the log and the outbox: they are moved once more, to the same place.
    for (name, entry) in &kept {
        put(&core, account_slot(id), name, Some(entry)).await;
    }
    drop(core);
    let core = open(&folder, &clock, vendor.authority()).await;
    for _ in 0..2 {
        assert!(core.services.care.find_forgotten(core.environment).await.unwrap());
        assert_eq!(told(&core, id).await, ["created", "active"], "told twice");
    }
    // Killed in the midst of a deletion: the record is gone, its entry in the list is not.
    core.services.accounts.delete(core.environment, &id.to_string()).await.unwrap();
    assert_eq!(lose_announcements(&core).await, 1);
    let entry = format!("account/{id}");
    put(&core, environment_slot(core.environment), &entry, None).await;
    assert!(core.services.care.find_forgotten(core.environment).await.unwrap());
    assert_eq!(told(&core, id).await, ["created", "active", "deleted"]);
    let listed = core.services.store.scan(&environment_slot(core.environment), "account/", None, 10).await.unwrap();
    assert!(listed.is_empty(), "a list entry of nothing");
}

#[tokio::test]
async fn an_event_that_comes_while_others_are_moved_is_not_lost() {
    let vendor = Vendor::start();
    let (_folder, _clock, core) = inside(&vendor).await;
    let id = link(&core, &vendor).await.account.id;
    assert!(core.tasks.wait(Duration::from_secs(10)).await);
    let queues = Queues::new(core.services.store.clone());
    let lease = Duration::from_secs(60);
    let under_way = queues.claim(core.environment, Queue::Outbox, lease, 10).await.unwrap();
    assert_eq!(core.services.events.move_out(id).await.unwrap().len(), 2);
    change(&core, id, ChangeAccount { is_enabled: Some(false), ..ChangeAccount::default() }).await;
    assert!(core.tasks.wait(Duration::from_secs(10)).await);
    for item in &under_way {
        queues.settle(core.environment, Queue::Outbox, item, Settle::Done).await.unwrap();
    }
    assert_eq!(told(&core, id).await, ["created", "active", "disabled"]);
}

#[tokio::test]
async fn one_deletion_of_many_at_once_is_told() {
    let vendor = Vendor::start();
    let (_folder, _clock, core) = inside(&vendor).await;
    let id = link(&core, &vendor).await.account.id;
    let text = id.to_string();
    let deletions = (0..20).map(|_| core.services.accounts.delete(core.environment, &text));
    let outcomes = join_all(deletions).await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    assert!(outcomes.iter().filter_map(|outcome| outcome.as_ref().err()).all(|error| error.code() == Code::NotFound));
    assert_eq!(told(&core, id).await, ["created", "active", "deleted"]);
}

#[tokio::test]
async fn events_are_kept_for_thirty_days() {
    let vendor = Vendor::start();
    let (_folder, clock, core) = inside(&vendor).await;
    let id = link(&core, &vendor).await.account.id;
    assert_eq!(told(&core, id).await.len(), 2);
    clock.advance(29 * DAY);
    change(&core, id, ChangeAccount { is_enabled: Some(false), ..ChangeAccount::default() }).await;
    assert_eq!(told(&core, id).await.len(), 3);
    assert_eq!(core.services.events.trim(core.environment).await.unwrap(), 0);
    clock.advance(DAY + Duration::from_secs(1));
    assert_eq!(core.services.events.trim(core.environment).await.unwrap(), 2);
    assert_eq!(told(&core, id).await, ["disabled"]);
}

/// The store takes the deletion and not what is to be done after it: the account is gone, and the rest follows.
#[tokio::test]
async fn a_deletion_counts_although_what_follows_it_cannot_be_done_at_once() {
    let vendor = Vendor::start();
    let (_folder, clock, core) = inside(&vendor).await;
    let id = link(&core, &vendor).await.account.id;
    assert_eq!(told(&core, id).await, ["created", "active"]);
    let (account, version) = repo::Accounts::new(core.services.store.clone()).get(id).await.unwrap().unwrap();
    let refusing = Arc::new(Through(Refusing::over(core.services.store.clone(), QUEUES)));
    let records = repo::Accounts::new(refusing);
    let event = Event::of(&account, version, EventKind::Deleted, clock.now(), serde_json::Map::new());
    assert!(records.delete(id, core.environment, Some(version), &[event]).await.unwrap(), "it is deleted");
    assert!(records.get(id).await.unwrap().is_none());
    assert!(records.listed(core.environment, id).await.unwrap(), "what is left is found by its entry");
    assert!(core.services.care.find_forgotten(core.environment).await.unwrap());
    assert!(!records.listed(core.environment, id).await.unwrap());
    let left = core.services.store.scan(&account_slot(id), "", None, 100).await.unwrap();
    assert_eq!(left.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["swept"]);
    assert_eq!(told(&core, id).await, ["created", "active", "deleted"]);
}

#[tokio::test]
async fn what_cannot_be_read_keeps_nothing_else_from_being_told() {
    let vendor = Vendor::start();
    let (_folder, _clock, core) = inside(&vendor).await;
    let (bad, good) = (link(&core, &vendor).await.account.id, link(&core, &vendor).await.account.id);
    lose_announcements(&core).await;
    let odd = format!("outbox/{}", "0".repeat(66));
    for name in [odd.as_str(), "outbox/nonsense"] {
        put(&core, account_slot(bad), name, None).await;
    }
    assert!(core.services.care.find_forgotten(core.environment).await.unwrap());
    for id in [bad, good] {
        assert_eq!(told(&core, id).await, ["created", "active"], "{id}");
    }
    let left: Vec<String> = outbox(&core, bad).await.into_iter().map(|(name, _)| name).collect();
    assert_eq!(left, [odd.as_str(), "outbox/nonsense"], "it stays for whoever can read it");
}
