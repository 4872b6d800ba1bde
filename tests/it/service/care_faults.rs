//! What is done without a caller while vendors do not answer, parts of the store are away, nodes end and clocks differ.

use std::sync::atomic::{AtomicBool, Ordering};

use rollcall::{
    app::Core,
    jobs::{Job, Jobs, Outbox, Sweep, Visits},
    model::AccountId,
    service::{Care, ChangeAccount, Events},
    store::{
        Settle, Store,
        repo::{Queue, Queues, environment_slot},
    },
};
use tokio::{sync::watch, time::timeout};

use super::{
    care::{BEFORE, WITHIN, consented, ends_in, notices, pass},
    ended::side,
    refusing::{FEEDS, NOTHING, OUTBOXES, QUEUES, Refusing, WithoutQueues},
    *,
};
use crate::{
    e2e::rotating::{Mood as Answering, Rotating, Rotation},
    support::{
        meddled::{Meddled, Point},
        stores::Through,
    },
};

/// What cares for the same accounts, with queues and events in front of which something stands.
fn care_over(core: &Core, store: Arc<dyn Store>, clock: Arc<ManualClock>) -> Care {
    let services = &core.services;
    let events = Arc::new(Events::new(repo::Events::new(store.clone()), clock.clone()));
    let records = (repo::Installation::new(services.store.clone()), Queues::new(store));
    Care::new(services.accounts.clone(), (events, services.audit.clone()), records, clock, Some(DAY))
}

/// As long as jobs may take for what is due at once.
async fn soon(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let waits = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    assert!(timeout(Duration::from_secs(12), waits).await.is_ok(), "{what}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vendor_that_does_not_answer_holds_up_no_token_and_no_other_vendors_looks() {
    let hangs = Arc::new(AtomicBool::new(false));
    let now = hangs.clone();
    let slow = Replay::start(move |seen| {
        if now.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_secs(25));
        }
        match seen.path.ends_with("/Users") {
            true => Reply::json(200, r#"{"totalResults": 0, "Resources": []}"#),
            false => Reply::json(404, "{}"),
        }
    });
    let (good, rotating) = (Vendor::start(), Rotating::start(Rotation::Strict, 0..1));
    let reached = format!("127.0.0.1:{},{},{}", slow.port, good.authority(), rotating.vendor.authority());
    let (_folder, clock, core) = inside_of(reached).await;
    for _ in 0..40 {
        let context = json!({"base_url": format!("http://127.0.0.1:{}", slow.port), "token": SECRET});
        let new = new_account("bearer", context);
        core.services.accounts.import(core.environment, new).await.unwrap();
    }
    told(&core, AccountId::generate()).await;
    let mut others = Vec::new();
    for _ in 0..3 {
        others.push(link(&core, &good).await.account.id);
    }
    told(&core, others[0]).await;
    clock.advance(DAY - BEFORE - WITHIN);
    let warm = consented(&core, &rotating).await;
    told(&core, warm).await;
    clock.advance(BEFORE + WITHIN);
    hangs.store(true, Ordering::SeqCst);

    let jobs = Jobs::start(&core.services, &core.tasks);
    soon("a token waits for others' vendors", async || rotating.of(0).shown == [1]).await;
    let get = async |id: &AccountId| core.services.accounts.get(core.environment, &id.to_string()).await.unwrap();
    soon("looks wait for others' vendors", async || {
        let mut looked = 0;
        for id in &others {
            looked += usize::from(get(id).await.checked_at == Some(clock.now()));
        }
        looked == others.len()
    })
    .await;
    // Whoever calls when the token before would have ended does not wait for another.
    rotating.set_mood(Some(Answering::Late(Duration::from_secs(25))));
    clock.advance(Duration::from_secs(400));
    let opened = timeout(Duration::from_secs(5), core.services.accounts.open(core.environment, &warm.to_string())).await;
    assert!(opened.expect("the call waits for a token").is_ok());
    assert_eq!(rotating.of(0).shown, [1]);
    jobs.stop();
}

#[tokio::test]
async fn what_follows_from_an_event_outlives_a_store_that_does_not_take_it_at_once() {
    let vendor = Vendor::start();
    let (_folder, clock, core) = inside(&vendor).await;
    let refusing = Arc::new(Through(Refusing::over(core.services.store.clone(), NOTHING)));
    let care = care_over(&core, refusing.clone(), clock.clone());
    for refused in [QUEUES, FEEDS, OUTBOXES] {
        let id = link(&core, &vendor).await.account.id;
        assert!(core.tasks.wait(Duration::from_secs(10)).await);
        refusing.refuses.store(refused, Ordering::SeqCst);
        for _ in 0..3 {
            let error = care.tell(core.environment).await.unwrap_err();
            assert_eq!(error.code(), Code::StoreUnavailable, "{refused}");
            clock.advance(Duration::from_secs(6));
        }
        refusing.refuses.store(NOTHING, Ordering::SeqCst);
        assert_eq!(care.tell(core.environment).await.unwrap(), 1, "{refused}");
        assert_eq!(told(&core, id).await, ["created", "active"], "{refused}");
        clock.advance(DAY);
        pass(&core, id).await;
        let account = core.services.accounts.get(core.environment, &id.to_string()).await.unwrap();
        assert_eq!(account.checked_at, Some(clock.now()), "{refused}: nobody looks after it");
    }
}

#[tokio::test]
async fn an_end_is_announced_by_a_node_whose_clock_is_behind_the_queues() {
    let vendor = Vendor::start();
    let (_folder, clock, core) = inside(&vendor).await;
    let id = link(&core, &vendor).await.account.id;
    ends_in(&core, &clock, id, 20).await;
    pass(&core, id).await;
    let behind = Arc::new(ManualClock::new());
    let care = care_over(&core, core.services.store.clone(), behind.clone());
    clock.advance(6 * DAY);
    behind.advance(6 * DAY - Duration::from_secs(60));
    while care.visit(core.environment).await.unwrap() > 0 {}
    told(&core, id).await;
    assert_eq!(notices(&core).await, [], "it is not time yet");
    for clock in [&clock, &behind] {
        clock.advance(Duration::from_secs(120));
    }
    while care.visit(core.environment).await.unwrap() > 0 {}
    told(&core, id).await;
    assert_eq!(notices(&core).await, [(14, 14)]);
}

#[tokio::test]
async fn a_token_is_kept_warm_although_its_account_came_back_just_when_it_was_left() {
    let vendor = Rotating::start(Rotation::Strict, 0..1);
    let (_folder, clock, core) = inside_of(vendor.vendor.authority()).await;
    let core = Arc::new(core);
    let id = consented(&core, &vendor).await;
    let set = async |core: &Core, is_enabled: bool| {
        let change = ChangeAccount { is_enabled: Some(is_enabled), ..ChangeAccount::default() };
        core.services.accounts.change(core.environment, &id.to_string(), change).await.unwrap();
    };
    pass(&core, id).await;
    set(&core, false).await;
    clock.advance(BEFORE + WITHIN);
    let inside = core.clone();
    let comes_back = async move {
        let change = ChangeAccount { is_enabled: Some(true), ..ChangeAccount::default() };
        inside.services.accounts.change(inside.environment, &id.to_string(), change).await.unwrap();
        told(&inside, id).await;
    };
    let meddled = Meddled::at(core.services.store.clone(), Point::Settling, comes_back);
    let care = care_over(&core, meddled.clone(), clock.clone());
    while care.visit(core.environment).await.unwrap() > 0 {}
    assert!(meddled.is_done() && core.tasks.wait(Duration::from_secs(10)).await);
    assert_eq!(vendor.of(0).shown, [1]);
}

#[tokio::test]
async fn a_token_that_an_earlier_release_put_among_the_looks_is_renewed() {
    let vendor = Rotating::start(Rotation::Strict, 0..1);
    let (_folder, clock, core) = inside_of(vendor.vendor.authority()).await;
    let id = consented(&core, &vendor).await;
    pass(&core, id).await;
    let queues = Queues::new(core.services.store.clone());
    clock.advance(BEFORE + WITHIN);
    for item in queues.claim(core.environment, Queue::Tokens, DAY, 10).await.unwrap() {
        assert!(queues.settle(core.environment, Queue::Tokens, &item, Settle::Done).await.unwrap());
        queues.push(core.environment, Queue::Care, &item.id, Duration::ZERO).await.unwrap();
    }
    pass(&core, id).await;
    assert_eq!(vendor.of(0).shown, [1]);
    clock.advance(BEFORE + WITHIN);
    pass(&core, id).await;
    assert_eq!(vendor.of(0).shown, [1, 2], "and once more in its next window");
}

#[tokio::test]
async fn an_environment_that_cannot_be_reached_keeps_nobody_from_anothers_accounts() {
    let vendor = Vendor::start();
    let (_folder, clock, core) = inside(&vendor).await;
    let other = side(&core, &clock).await.id;
    assert!(core.environment < other, "the one that is away is the first");
    let new = new_account("bearer", vendor.context());
    let id = core.services.accounts.import(other, new).await.unwrap().0.id.to_string();
    assert!(core.tasks.wait(Duration::from_secs(10)).await);
    let (inner, slot) = (core.services.store.clone(), environment_slot(core.environment));
    let care = Arc::new(care_over(&core, Arc::new(Through(WithoutQueues { inner, slot })), clock.clone()));
    let unreached = |run: rollcall::error::Result<bool>| assert_eq!(run.unwrap_err().code(), Code::StoreUnavailable);
    // A pause is for whoever has nothing else to do.
    let outbox = Outbox(care.clone());
    assert!(outbox.run_once().await.unwrap());
    unreached(outbox.run_once().await);
    let events = core.services.events.list(other, &ListEvents::default(), 10, None).await.unwrap().0;
    assert_eq!(events.len(), 2);
    clock.advance(DAY);
    let (_ends, told) = watch::channel(false);
    let visits = Visits::new(care, core.tasks.clone(), told);
    assert!(visits.run_once().await.unwrap());
    unreached(visits.run_once().await);
    assert!(core.tasks.wait(Duration::from_secs(10)).await);
    assert_eq!(core.services.accounts.get(other, &id).await.unwrap().checked_at, Some(clock.now()));
}

/// A node ended before it could say that there is something to tell.
async fn forget(core: &Core) {
    assert!(core.tasks.wait(Duration::from_secs(10)).await);
    let queues = Queues::new(core.services.store.clone());
    for item in queues.claim(core.environment, Queue::Outbox, DAY, 10).await.unwrap() {
        assert!(queues.settle(core.environment, Queue::Outbox, &item, Settle::Done).await.unwrap());
    }
}

#[tokio::test]
async fn what_a_node_was_reading_when_it_ended_is_read_by_another_soon() {
    let vendor = Vendor::start();
    let (_folder, clock, core) = inside(&vendor).await;
    let id = link(&core, &vendor).await.account.id;
    forget(&core).await;
    let queues = Queues::new(core.services.store.clone());
    let lost = queues.hold(core.environment, "care", Duration::from_secs(1_800)).await.unwrap();
    assert!(lost.is_some());
    let (sweep, mut waited) = (Sweep::new(core.services.care.clone()), Duration::ZERO);
    while waited < Duration::from_secs(3_600) {
        sweep.run_once().await.unwrap();
        clock.advance(Sweep::PAUSE);
        waited += Sweep::PAUSE;
    }
    assert_eq!(told(&core, id).await, ["created", "active"]);
    // What was read to its end is not read again before a day has passed.
    let change = ChangeAccount { is_enabled: Some(false), ..ChangeAccount::default() };
    core.services.accounts.change(core.environment, &id.to_string(), change).await.unwrap();
    forget(&core).await;
    sweep.run_once().await.unwrap();
    assert_eq!(told(&core, id).await, ["created", "active"]);
}

#[tokio::test]
async fn looks_and_tokens_that_a_wrong_clock_put_off_for_years_come_in_time() {
    let vendor = Rotating::start(Rotation::Strict, 0..1);
    let (_folder, clock, core) = inside_of(vendor.vendor.authority()).await;
    let id = consented(&core, &vendor).await;
    told(&core, id).await;
    let queues = Queues::new(core.services.store.clone());
    clock.advance(DAY);
    for queue in [Queue::Care, Queue::Tokens] {
        for item in queues.claim(core.environment, queue, DAY, 10).await.unwrap() {
            assert!(queues.settle(core.environment, queue, &item, Settle::Retry(1_000 * DAY)).await.unwrap());
        }
    }
    assert_eq!(core.services.care.visit(core.environment).await.unwrap(), 0);
    assert!(core.services.care.find_forgotten(core.environment).await.unwrap());
    clock.advance(DAY);
    pass(&core, id).await;
    let account = core.services.accounts.get(core.environment, &id.to_string()).await.unwrap();
    assert_eq!(account.checked_at, Some(clock.now()), "nobody looks at it");
    let shown = vendor.of(0).shown.len();
    for _ in 0..2 {
        clock.advance(BEFORE + WITHIN);
        pass(&core, id).await;
    }
    assert_eq!(vendor.of(0).shown.len(), shown + 2, "its token is not kept warm");
}
