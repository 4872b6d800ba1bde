//! What is done without a caller: the daily look, and the end of credentials announced in time.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use rollcall::{
    app::Core,
    model::{AccountId, AccountStatus, EventKind},
    service::{Care, ChangeAccount, ListEvents},
};
use serde_json::json;

use super::*;
use crate::e2e::rotating::{Mood as Answering, Rotating, Rotation};

/// Everything that is due is done.
pub(super) async fn pass(core: &Core, account: AccountId) -> Vec<String> {
    told(core, account).await;
    while core.services.care.visit(core.environment).await.unwrap() > 0 {}
    told(core, account).await
}

async fn status(core: &Core, account: AccountId) -> AccountStatus {
    core.services.accounts.get(core.environment, &account.to_string()).await.unwrap().status
}

#[tokio::test]
async fn a_revoked_key_is_found_within_one_look_and_a_mended_one_too() {
    let vendor = Vendor::start();
    let (_folder, clock, core) = inside(&vendor).await;
    let id = link(&core, &vendor).await.account.id;
    assert_eq!(pass(&core, id).await.len(), 2);
    let asked = vendor.asked();
    clock.advance(19 * DAY / 24);
    pass(&core, id).await;
    assert_eq!(vendor.asked(), asked, "it was looked at a moment ago");
    vendor.set(Mood::Unauthorized);
    clock.advance(5 * DAY / 24);
    assert_eq!(pass(&core, id).await[2..], ["authentication_error"]);
    assert_eq!(status(&core, id).await, AccountStatus::NeedsReauth);
    clock.advance(DAY);
    assert_eq!(pass(&core, id).await.len(), 3, "told once");
    vendor.set(Mood::Good);
    clock.advance(DAY);
    assert_eq!(pass(&core, id).await[3..], ["reactivated"]);
    let account = core.services.accounts.get(core.environment, &id.to_string()).await.unwrap();
    assert_eq!((account.status, account.checked_at), (AccountStatus::Active, Some(clock.now())));
    let next = core.services.care.next_look(&account).unwrap();
    assert_eq!(next.duration_since(clock.now()).as_hours(), 24);
}

#[tokio::test]
async fn every_account_is_looked_at_within_a_day_and_not_all_at_once() {
    let vendor = Vendor::start();
    let (_folder, clock, core) = inside(&vendor).await;
    let mut accounts = Vec::new();
    for _ in 0..12 {
        accounts.push(link(&core, &vendor).await.account.id);
    }
    told(&core, accounts[0]).await;
    let linked = clock.now();
    let mut steps_with_looks = 0;
    for _ in 0..48 {
        clock.advance(DAY / 48);
        let mut looked = 0;
        loop {
            match core.services.care.visit(core.environment).await.unwrap() {
                0 => break,
                some => looked += some,
            }
        }
        steps_with_looks += usize::from(looked > 0);
    }
    for id in &accounts {
        let account = core.services.accounts.get(core.environment, &id.to_string()).await.unwrap();
        assert!(account.checked_at.unwrap() > linked, "an account was not looked at");
    }
    assert!(steps_with_looks > 1, "all of them were looked at at once");
}

#[tokio::test]
async fn an_account_whose_calls_are_stopped_is_left_alone() {
    let vendor = Vendor::start();
    let (_folder, clock, core) = inside(&vendor).await;
    let id = link(&core, &vendor).await.account.id;
    let text = id.to_string();
    let change = ChangeAccount { is_enabled: Some(false), ..ChangeAccount::default() };
    core.services.accounts.change(core.environment, &text, change).await.unwrap();
    let asked = vendor.asked();
    for _ in 0..3 {
        clock.advance(DAY);
        pass(&core, id).await;
    }
    let accounts = &core.services.accounts;
    for refused in [
        accounts.open(core.environment, &text).await.map(|_| ()),
        accounts.test(core.environment, &text).await.map(|_| ()),
        accounts.refresh(core.environment, &text).await.map(|_| ()),
    ] {
        assert_eq!(refused.map_err(|error| error.code()), Err(Code::AccountDisabled));
    }
    assert_eq!(vendor.asked(), asked, "its vendor was asked");
    assert_eq!(core.services.care.next_look(&accounts.get(core.environment, &text).await.unwrap()), None);
    let change = ChangeAccount { is_enabled: Some(true), ..ChangeAccount::default() };
    accounts.change(core.environment, &text, change).await.unwrap();
    assert_eq!(told(&core, id).await, ["created", "active", "disabled", "enabled"]);
    assert!(vendor.asked() > asked, "once calls go through again, it is looked at");
}

/// When `expiring` was told, in days before the end, and what it said.
pub(super) async fn notices(core: &Core) -> Vec<(i64, i64)> {
    let wanted = ListEvents { kind: Some(EventKind::Expiring), ..ListEvents::default() };
    let (events, _) = core.services.events.list(core.environment, &wanted, 100, None).await.unwrap();
    let notice = |event: &rollcall::model::Event| {
        let end: jiff::Timestamp = event.data["expires_at"].as_str().unwrap().parse().unwrap();
        let hours = end.duration_since(event.occurred_at).as_hours();
        ((hours + 3) / 24, event.data["days"].as_i64().unwrap())
    };
    events.iter().rev().map(notice).collect()
}

pub(super) async fn ends_in(core: &Core, clock: &ManualClock, account: AccountId, days: i64) {
    let end = clock.now() + jiff::SignedDuration::from_hours(24 * days);
    let change = ChangeAccount { expires_at: Some(Some(end)), ..ChangeAccount::default() };
    core.services.accounts.change(core.environment, &account.to_string(), change).await.unwrap();
}

#[tokio::test]
async fn the_end_of_a_credential_is_announced_14_3_and_1_days_before() {
    let vendor = Vendor::start();
    let (_folder, clock, core) = inside(&vendor).await;
    let id = link(&core, &vendor).await.account.id;
    ends_in(&core, &clock, id, 20).await;
    for _ in 0..21 * 12 {
        pass(&core, id).await;
        clock.advance(DAY / 12);
    }
    assert_eq!(notices(&core).await, [(14, 14), (3, 3), (1, 1)], "each in time, each once");
    // After a pause the nearest one only.
    ends_in(&core, &clock, id, 30).await;
    pass(&core, id).await;
    clock.advance(28 * DAY);
    pass(&core, id).await;
    assert_eq!(notices(&core).await[3..], [(2, 3)]);
    clock.advance(DAY);
    pass(&core, id).await;
    assert_eq!(notices(&core).await[4..], [(1, 1)]);
    // One that is entered late is announced at once.
    ends_in(&core, &clock, id, 10).await;
    assert_eq!(pass(&core, id).await.last().unwrap(), "expiring");
    assert_eq!(notices(&core).await[5..], [(10, 14)]);
    // One that is taken back is not.
    let change = ChangeAccount { expires_at: Some(None), ..ChangeAccount::default() };
    core.services.accounts.change(core.environment, &id.to_string(), change).await.unwrap();
    for _ in 0..12 {
        clock.advance(DAY);
        pass(&core, id).await;
    }
    assert_eq!(notices(&core).await.len(), 6);
}

#[tokio::test]
async fn an_account_of_before_is_taken_up_by_the_sweep() {
    let vendor = Vendor::start();
    let (_folder, clock, core) = inside(&vendor).await;
    let id = link(&core, &vendor).await.account.id;
    // As if it had been linked by a release without queues: its events were never announced.
    assert!(core.tasks.wait(Duration::from_secs(10)).await);
    let queues = repo::Queues::new(core.services.store.clone());
    for item in queues.claim(core.environment, repo::Queue::Outbox, DAY, 10).await.unwrap() {
        queues.settle(core.environment, repo::Queue::Outbox, &item, rollcall::store::Settle::Done).await.unwrap();
    }
    vendor.set(Mood::Unauthorized);
    clock.advance(2 * DAY);
    assert_eq!(core.services.care.visit(core.environment).await.unwrap(), 0, "nobody knows of it");
    assert!(core.services.care.find_forgotten(core.environment).await.unwrap());
    clock.advance(DAY);
    assert_eq!(pass(&core, id).await, ["created", "active", "authentication_error"]);
}

#[tokio::test]
async fn one_node_sweeps_at_a_time() {
    let vendor = Vendor::start();
    let (_folder, _clock, core) = inside(&vendor).await;
    let queues = repo::Queues::new(core.services.store.clone());
    let hold = queues.hold(core.environment, "care", Duration::from_secs(60)).await.unwrap().unwrap();
    assert!(!core.services.care.find_forgotten(core.environment).await.unwrap(), "two at once");
    queues.release(&hold).await.unwrap();
    assert!(core.services.care.find_forgotten(core.environment).await.unwrap());
}

#[tokio::test]
async fn two_nodes_never_look_at_one_account_at_the_same_time() {
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (at_once, peak) = (now.clone(), most.clone());
    let vendor = Replay::start(move |seen| {
        peak.fetch_max(at_once.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(30));
        at_once.fetch_sub(1, Ordering::SeqCst);
        match seen.path.ends_with("/Users") {
            true => Reply::json(200, r#"{"totalResults": 0, "Resources": []}"#),
            false => Reply::json(404, "{}"),
        }
    });
    let (_folder, clock, core) = inside_of(format!("127.0.0.1:{}", vendor.port)).await;
    let new = new_account("bearer", json!({"base_url": format!("http://127.0.0.1:{}", vendor.port), "token": SECRET}));
    let (account, _) = core.services.accounts.import(core.environment, new).await.unwrap();
    told(&core, account.id).await;
    clock.advance(DAY);
    let before = vendor.seen().len();
    // Two loops of two nodes, as far as the queue is concerned.
    let care = &core.services.care;
    let visits = tokio::join!(care.visit(core.environment), care.visit(core.environment), care.visit(core.environment));
    assert_eq!([visits.0.unwrap(), visits.1.unwrap(), visits.2.unwrap()].iter().sum::<usize>(), 1);
    assert_eq!(vendor.seen().len() - before, 2, "one look");
    assert_eq!(most.load(Ordering::SeqCst), 1);
}

/// An account whose tokens the vendor rotates; each lives for an hour.
pub(super) async fn consented(core: &Core, vendor: &Rotating) -> AccountId {
    let new = new_account("oauth2", vendor.grant(0, 3600));
    core.services.accounts.import(core.environment, new).await.unwrap().0.id
}

/// A window opens in the last tenth of the hour, give or take a fifth of that.
pub(super) const BEFORE: Duration = Duration::from_secs(3_100);
pub(super) const WITHIN: Duration = Duration::from_secs(220);

#[tokio::test]
async fn a_token_nobody_uses_is_renewed_once_in_each_window() {
    let vendor = Rotating::start(Rotation::Strict, 0..1);
    let (_folder, clock, core) = inside_of(vendor.vendor.authority()).await;
    let id = consented(&core, &vendor).await;
    for window in 1..=6 {
        pass(&core, id).await;
        clock.advance(BEFORE);
        pass(&core, id).await;
        assert_eq!(vendor.of(0).shown.len(), window - 1, "before its time");
        clock.advance(WITHIN);
        for _ in 0..3 {
            pass(&core, id).await;
        }
        assert_eq!(vendor.of(0).shown, (1..=window as u64).collect::<Vec<_>>(), "once in window {window}");
    }
    assert_eq!((status(&core, id).await, vendor.of(0).revoked), (AccountStatus::Active, false));
}

#[tokio::test]
async fn a_token_of_an_account_that_is_stopped_broken_or_not_to_be_asked_about_is_left_alone() {
    let vendor = Rotating::start(Rotation::Strict, 0..1);
    let (_folder, clock, core) = inside_of(vendor.vendor.authority()).await;
    let id = consented(&core, &vendor).await;
    let set = async |is_enabled: bool| {
        let change = ChangeAccount { is_enabled: Some(is_enabled), ..ChangeAccount::default() };
        core.services.accounts.change(core.environment, &id.to_string(), change).await.unwrap();
    };
    pass(&core, id).await;
    set(false).await;
    clock.advance(BEFORE + WITHIN);
    pass(&core, id).await;
    assert!(vendor.of(0).shown.is_empty(), "calls are stopped");
    set(true).await;
    pass(&core, id).await;
    assert_eq!(vendor.of(0).shown, [1], "calls may go through again");

    // An endpoint that is down is asked again after a while.
    let down = crate::e2e::bar_vendor::answer(503, &[], b"{}");
    vendor.set_mood(Some(Answering::Answer(down)));
    clock.advance(BEFORE + WITHIN);
    for _ in 0..3 {
        pass(&core, id).await;
    }
    assert_eq!(vendor.of(0).shown, [1, 2], "not at once");
    vendor.set_mood(None);
    clock.advance(Duration::from_secs(301));
    tokio::time::sleep(Duration::from_secs(4)).await;
    pass(&core, id).await;
    assert_eq!(vendor.of(0).shown, [1, 2, 2]);

    // Where no vendor is asked without a caller, none is.
    let store = core.services.store.clone();
    let records = (repo::Installation::new(store.clone()), repo::Queues::new(store));
    let (accounts, events) = (core.services.accounts.clone(), core.services.events.clone());
    let logs = (events, core.services.audit.clone());
    let quiet = Care::new(accounts, logs, records, clock.clone(), None);
    clock.advance(BEFORE + WITHIN);
    while quiet.visit(core.environment).await.unwrap() > 0 {}
    assert_eq!(vendor.of(0).shown, [1, 2, 2]);

    // What the vendor ended is over: nobody asks for more of it. The daily look finds the account again.
    clock.advance(DAY);
    pass(&core, id).await;
    let before = vendor.of(0).shown.len();
    vendor.end_grants();
    clock.advance(BEFORE + WITHIN);
    pass(&core, id).await;
    let ended = vendor.of(0).shown.len();
    assert!(ended > before, "the daily look began it anew");
    assert_eq!(status(&core, id).await, AccountStatus::NeedsReauth);
    for _ in 0..3 {
        clock.advance(BEFORE + WITHIN);
        pass(&core, id).await;
    }
    assert_eq!(vendor.of(0).shown.len(), ended);
}

/// Whoever wanted a look may leave before it ends: what was found then is not told as what is so now.
#[tokio::test]
async fn a_look_that_nobody_waited_for_grows_old_all_the_same() {
    let vendor = Vendor::start();
    let (_folder, clock, core) = inside(&vendor).await;
    let (accounts, id) = (&core.services.accounts, link(&core, &vendor).await.account.id.to_string());
    let look = async |with_counts: bool| match with_counts {
        true => accounts.test(core.environment, &id).await.map(drop),
        false => accounts.refresh(core.environment, &id).await.map(drop),
    };
    for with_counts in [false, true] {
        clock.advance(Duration::from_secs(4));
        vendor.set(Mood::Slow);
        assert!(tokio::time::timeout(Duration::from_millis(50), look(with_counts)).await.is_err(), "it waits for the vendor");
        assert!(core.tasks.wait(Duration::from_secs(20)).await, "the look goes on for ever");
        vendor.set(Mood::Unauthorized);
        clock.advance(Duration::from_secs(4));
        assert_eq!(look(with_counts).await.unwrap_err().code(), Code::ReauthRequired);
    }
}
