//! I-01 from the inside: leases, fences and the day a key lives, under a clock that can be moved.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use rollcall::{
    app::Core,
    error::{Code, Error},
    model::{EnvironmentId, Scopes, TokenId},
    service::{Asked, Caller, IdempotencyKey, Reply, Run, Told},
    store::{Batch, Expect, Key, Slot, Write},
};
use tokio::sync::Notify;
use uuid::Uuid;

use super::{DAY, inside};
use crate::e2e::vendor::Vendor;

/// Longer than a lost node keeps a key.
const LEASE: Duration = Duration::from_secs(15);

struct Desk {
    core: Core,
    ran: Arc<AtomicUsize>,
    ids: Arc<std::sync::Mutex<Vec<Uuid>>>,
}

type Outcome = Result<(Result<String, Error>, Told), Error>;

impl Desk {
    fn new(core: Core) -> Desk {
        Desk { core, ran: Arc::default(), ids: Arc::default() }
    }

    fn caller(&self, environment: EnvironmentId) -> Caller {
        Caller { environment, token: TokenId(Uuid::nil()), actor: "test".to_owned(), scopes: Scopes::default(), bound: None }
    }

    fn asked(&self, caller: &Caller, key: &str, body: &str) -> Asked {
        Asked::by(
            caller,
            IdempotencyKey::parse(key.as_bytes()).unwrap(),
            "POST",
            "/thing",
            Vec::new(),
            Bytes::from(body.to_owned()),
        )
    }

    async fn send(&self, key: &str, result: Result<&'static str, Error>) -> Outcome {
        self.send_from(&self.caller(self.core.environment), key, "{}", None, result).await
    }

    async fn send_from(
        &self,
        caller: &Caller,
        key: &str,
        body: &str,
        wait: Option<(Arc<Notify>, Arc<Notify>)>,
        result: Result<&'static str, Error>,
    ) -> Outcome {
        let (ran, ids) = (self.ran.clone(), self.ids.clone());
        let work = move |run: Run| async move {
            ran.fetch_add(1, Ordering::SeqCst);
            ids.lock().unwrap().push(run.id);
            if let Some((begun, go)) = wait {
                begun.notify_one();
                go.notified().await;
            }
            result.map(|body| Reply { status: 201, body: body.into(), ..Reply::default() })
        };
        let (outcome, told) = self.core.services.idempotency.once(self.asked(caller, key, body), work).await?;
        Ok((outcome.map(|reply| String::from_utf8(reply.body).unwrap()), told))
    }

    fn ran(&self) -> usize {
        self.ran.load(Ordering::SeqCst)
    }
}

fn said(outcome: Outcome) -> (String, Told) {
    let (reply, told) = outcome.unwrap();
    (reply.unwrap(), told)
}

#[tokio::test]
async fn a_key_is_good_for_a_day() {
    let vendor = Vendor::start();
    let (_folder, clock, core) = inside(&vendor).await;
    let desk = Desk::new(core);
    assert_eq!(said(desk.send("k", Ok("\"first\"")).await), ("\"first\"".to_owned(), Told::First));
    clock.advance(DAY - Duration::from_secs(1));
    assert_eq!(said(desk.send("k", Ok("\"second\"")).await), ("\"first\"".to_owned(), Told::Replayed));
    clock.advance(Duration::from_secs(1));
    assert_eq!(said(desk.send("k", Ok("\"third\"")).await), ("\"third\"".to_owned(), Told::First));
    let ids = desk.ids.lock().unwrap().clone();
    assert!(desk.ran() == 2 && ids[0] != ids[1]);
}

#[tokio::test]
async fn keys_of_another_environment_or_token_are_other_keys() {
    let vendor = Vendor::start();
    let (_folder, _clock, core) = inside(&vendor).await;
    let desk = Desk::new(core);
    let own = desk.caller(desk.core.environment);
    let callers = [own.clone(), desk.caller(EnvironmentId::generate()), Caller { token: TokenId::generate(), ..own.clone() }];
    for caller in &callers {
        let outcome = desk.send_from(caller, "k", "{}", None, Ok("1")).await;
        assert_eq!(said(outcome).1, Told::First);
    }
    assert_eq!(desk.ran(), 3);
    let other = desk.send_from(&own, "k", "{ }", None, Ok("1")).await.unwrap_err();
    assert_eq!((other.code(), other.field_name()), (Code::IdempotencyKeyReused, Some("Idempotency-Key")));
    assert_eq!(desk.ran(), 3);
}

/// A node that stands still for longer than its lease: another runs, and the late one's reply is neither kept nor given.
#[tokio::test]
async fn a_run_that_lost_its_lease_is_fenced_off() {
    let vendor = Vendor::start();
    let (_folder, clock, core) = inside(&vendor).await;
    let desk = Desk::new(core);
    let caller = desk.caller(desk.core.environment);
    let (begun, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let late = desk.send_from(&caller, "k", "{}", Some((begun.clone(), go.clone())), Ok("\"late\""));
    let others = async {
        begun.notified().await;
        let while_running = desk.send("k", Ok("\"next\"")).await.unwrap_err();
        assert_eq!((while_running.code(), while_running.code().row().retryable), (Code::IdempotencyInProgress, true));
        clock.advance(LEASE);
        let taken = said(desk.send("k", Ok("\"next\"")).await);
        go.notify_one();
        taken
    };
    let (late, next) = tokio::join!(late, others);
    assert_eq!(next, ("\"next\"".to_owned(), Told::Restarted));
    assert_eq!(late.unwrap_err().code(), Code::IdempotencyInProgress);
    assert_eq!(said(desk.send("k", Ok("\"more\"")).await), ("\"next\"".to_owned(), Told::Replayed));
    let ids = desk.ids.lock().unwrap().clone();
    assert!(desk.ran() == 2 && ids[0] == ids[1], "both runs speak of the same object");
}

#[tokio::test]
async fn what_may_be_cured_is_not_kept_and_what_may_not_is() {
    let vendor = Vendor::start();
    let (_folder, _clock, core) = inside(&vendor).await;
    let desk = Desk::new(core);
    for (n, code) in Code::ALL.iter().enumerate() {
        let key = format!("key {n}");
        let row = code.row();
        let failure = || Error::new(*code, "It went wrong.").field("name").allow("GET");
        let (first, told) = desk.send(&key, Err(failure())).await.unwrap();
        assert_eq!((first.unwrap_err().code(), told), (*code, Told::First));
        let (again, told) = desk.send(&key, Ok("1")).await.unwrap();
        // What may have taken effect at a vendor is not run again.
        let is_unsure = matches!(code, Code::WriteUnconfirmed | Code::WritePartial);
        if !is_unsure && (row.status >= 500 || row.status == 429 || row.retryable) {
            assert_eq!((again.unwrap(), told), ("1".to_owned(), Told::Restarted), "{}", row.name);
        } else {
            let error = again.unwrap_err();
            assert_eq!((error.code(), error.http_status(), told), (*code, row.status, Told::Replayed));
            assert_eq!((error.detail(), error.field_name(), error.allowed()), ("It went wrong.", Some("name"), Some("GET")));
        }
    }
}

/// A run whose asker goes away comes to its end, and its reply is there for whoever asks next.
#[tokio::test]
async fn a_run_outlives_whoever_asked() {
    let vendor = Vendor::start();
    let (_folder, _clock, core) = inside(&vendor).await;
    let desk = Desk::new(core);
    let caller = desk.caller(desk.core.environment);
    let (begun, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    {
        let call = desk.send_from(&caller, "k", "{}", Some((begun.clone(), go.clone())), Ok("\"first\""));
        tokio::select! { _ = call => panic!("it answered"), () = begun.notified() => {} }
    }
    go.notify_one();
    assert!(desk.core.tasks.wait(Duration::from_secs(10)).await);
    assert_eq!(said(desk.send("k", Ok("\"second\"")).await), ("\"first\"".to_owned(), Told::Replayed));
}

/// Whoever writes the store can neither read a reply nor give one to another key.
#[tokio::test]
async fn a_reply_that_was_moved_does_not_open() {
    let vendor = Vendor::start();
    let (_folder, _clock, core) = inside(&vendor).await;
    let desk = Desk::new(core);
    assert_eq!(said(desk.send("one", Ok("\"a canary\"")).await).1, Told::First);
    assert_eq!(said(desk.send("two", Ok("2")).await).1, Told::First);
    assert!(desk.core.tasks.wait(Duration::from_secs(10)).await);
    let store = &desk.core.services.store;
    let slot = Slot::new(format!("idempotency:{}", desk.core.environment));
    let replies = store.scan(&slot, "", None, 10).await.unwrap();
    assert!(replies.len() == 2 && replies.iter().all(|(name, _)| name.starts_with("reply/")), "{replies:?}");
    for (name, entry) in &replies {
        assert!(!name.contains("one") && !name.contains("two"));
        assert!(!entry.value.windows(8).any(|window| window == b"a canary"));
    }
    let put = |name: &str, value: Bytes| Batch {
        slot: slot.clone(),
        fence: None,
        writes: vec![Write::Put { name: name.to_owned(), value, ttl: None, expect: Expect::Any }],
    };
    // The sealed part of one behind the fingerprint of the other, both ways.
    for (n, other) in [(0, 1), (1, 0)] {
        let ((name, mine), (_, theirs)) = (&replies[n], &replies[other]);
        let moved = [&mine.value[..32], &theirs.value[32..]].concat();
        store.commit(put(name, moved.into())).await.unwrap();
        assert!(store.get(&Key { slot: slot.clone(), name: name.clone() }).await.unwrap().is_some());
    }
    for key in ["one", "two"] {
        assert_eq!(desk.send(key, Ok("3")).await.unwrap_err().code(), Code::Internal);
    }
    assert_eq!(desk.ran(), 2, "and nothing ran");
}

#[test]
fn a_run_says_when_it_began() {
    let before = jiff::Timestamp::now() - jiff::SignedDuration::from_millis(1);
    let run = Run::only();
    assert!(before < run.begun_at() && run.begun_at() <= jiff::Timestamp::now(), "{}", run.begun_at());
    let odd = Run { id: Uuid::from_u128(7), ..run };
    assert_eq!(odd.begun_at(), jiff::Timestamp::MAX, "nothing can have been made since");
}
