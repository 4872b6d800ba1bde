//! V-09 from the inside: one row by many callers, and changes that are found.

use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::future::join_all;
use rollcall::{
    app::Core,
    error::{Code, Error},
    model::{AccountId, EnvironmentId},
    service::{
        Act, Audit,
        audit::{AuditEntry, AuditOutcome, AuditProblem, Ended, VerifyPlace, WantedEntries},
    },
    store::{
        Batch, Expect, Key, Slot, Store, Write,
        redis::Redis,
        repo::{self, Installation},
    },
    vault::SystemKeys,
};
use tokio::sync::oneshot;

use super::{
    DAY, inside_of,
    refusing::{NOTHING, Refusing},
};
use crate::support::{long, redis::Server, stores::Through};

fn act(environment: EnvironmentId, number: usize) -> Act {
    let request_id = Some(format!("request-{number}"));
    Act { actor: "a person".to_owned(), request_id, ..Act::of_gateway(environment, "thing.change") }
}

async fn must_not_run() -> Result<(), Error> {
    panic!("nothing may run")
}

pub(super) async fn keys_of(core: &Core) -> Arc<SystemKeys> {
    let sealed = Installation::new(core.services.store.clone()).system_keys().await.unwrap().unwrap().value;
    Arc::new(SystemKeys::open(&core.ring.load(), &sealed).unwrap())
}

/// Another node's log over this store.
pub(super) async fn audit_over(
    core: &Core,
    store: Arc<dyn Store>,
    clock: Arc<dyn rollcall::model::Clock>,
    life: Option<Duration>,
) -> Audit {
    Audit::new(repo::Audit::new(store), keys_of(core).await, clock, core.tasks.clone(), (life, false))
}

pub(super) async fn entries(audit: &Audit, environment: EnvironmentId) -> Vec<AuditEntry> {
    let page = audit.list(environment, WantedEntries::default(), 5000, None).await.unwrap();
    assert_eq!((page.next, page.lost), (None, 0));
    page.entries
}

/// Everything that is wrong, read in pieces.
pub(super) async fn problems(audit: &Audit, environment: EnvironmentId) -> Vec<AuditProblem> {
    let (mut all, mut from) = (Vec::new(), None::<VerifyPlace>);
    loop {
        let piece = audit.verify(environment, from).await.unwrap();
        all.extend(piece.problems);
        from = piece.next.map(|next| next.to_string().parse().unwrap());
        if from.is_none() {
            return all;
        }
    }
}

#[tokio::test]
async fn many_callers_of_two_nodes_make_one_row_without_gaps() {
    let (_folder, clock, core) = inside_of(String::new()).await;
    let environment = core.environment;
    let other = audit_over(&core, core.services.store.clone(), clock.clone(), None).await;
    let nodes = [&*core.services.audit, &other];
    let count = if long() { 2_000 } else { 200 };
    let work = |number: usize| async move {
        let (audit, act) = (nodes[number % 2], act(environment, number));
        match number % 10 {
            0 => audit.note(act, Ended::DONE),
            1 => assert!(audit.around(act, true, async { Err::<(), _>(Error::not_found()) }).await.is_err()),
            _ => audit.around(act, true, async { Ok(()) }).await.unwrap(),
        }
    };
    join_all((0..count).map(work)).await;
    entries(&other, environment).await;
    let found = entries(&core.services.audit, environment).await;
    assert_eq!(found.len(), count);
    assert!(found.iter().map(|entry| entry.number).eq((1..=count as u64).rev()), "the newest first, without gaps");
    let mut seen: Vec<&str> = found.iter().map(|entry| entry.request_id.as_deref().unwrap()).collect();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), count, "an action twice");
    let failed = found.iter().filter(|entry| entry.outcome == AuditOutcome::Failed);
    assert_eq!(failed.filter(|entry| entry.code.as_deref() == Some("not_found")).count(), count / 10);
    for (later, earlier) in found.iter().zip(&found[1..]) {
        assert_eq!(later.previous, earlier.hash);
    }
    assert_eq!(problems(&other, environment).await, Vec::new());
}

/// Two nodes write all the time, and a third learns late of what they did: it has its turn all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_node_among_busy_ones_has_its_turn() {
    let server = Server::start();
    let (_folder, clock, core) = inside_of(String::new()).await;
    let environment = core.environment;
    let mut nodes = Vec::new();
    for late in [0, 0, 60] {
        let inner: Arc<dyn Store> = Arc::new(Redis::connect(&server.url(), None).await.unwrap());
        let store = Through(Refusing::over(inner, NOTHING).late_by(Duration::from_millis(late)));
        nodes.push(Arc::new(audit_over(&core, Arc::new(store), clock.clone(), None).await));
    }
    let stop = Arc::new(AtomicBool::new(false));
    let busy = (0..16).map(|caller| {
        let (audit, stop) = (nodes[caller % 2].clone(), stop.clone());
        tokio::spawn(async move {
            let mut count = 0;
            while !stop.load(Ordering::SeqCst) {
                audit.around(act(environment, caller), true, async { Ok(()) }).await.unwrap();
                count += 1;
            }
            count
        })
    });
    let busy: Vec<_> = busy.collect();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let mut took = Vec::new();
    for number in 0..5 {
        let begun = Instant::now();
        nodes[2].around(act(environment, 100 + number), true, async { Ok(()) }).await.unwrap();
        took.push(begun.elapsed());
    }
    stop.store(true, Ordering::SeqCst);
    let others: usize = join_all(busy).await.into_iter().map(Result::unwrap).sum();
    assert!(took.iter().all(|took| *took < Duration::from_secs(8)), "{took:?}");
    assert!(others > 50, "the others were busy, and are not kept from writing: {others}");
    let found = entries(&nodes[0], environment).await;
    assert_eq!(found.len(), others + 5, "every action once");
    assert_eq!(problems(&nodes[1], environment).await, Vec::new());
}

/// Whoever can write the store.
pub(super) struct Intruder<'c> {
    store: &'c Arc<dyn Store>,
    slot: Slot,
}

impl Intruder<'_> {
    pub(super) fn at(core: &Core) -> Intruder<'_> {
        Intruder { store: &core.services.store, slot: Slot::new(format!("audit:{}", core.environment)) }
    }

    pub(super) async fn read(&self, name: &str) -> Bytes {
        self.store.get(&Key { slot: self.slot.clone(), name: name.to_owned() }).await.unwrap().unwrap().value
    }

    pub(super) async fn put(&self, name: &str, value: impl Into<Bytes>) {
        let write = Write::Put { name: name.to_owned(), value: value.into(), ttl: None, expect: Expect::Any };
        self.store.commit(Batch { slot: self.slot.clone(), fence: None, writes: vec![write] }).await.unwrap();
    }

    pub(super) async fn drop(&self, name: &str) {
        let write = Write::Delete { name: name.to_owned(), expect: Expect::Any };
        self.store.commit(Batch { slot: self.slot.clone(), fence: None, writes: vec![write] }).await.unwrap();
    }

    pub(super) async fn edit(&self, name: &str, from: &str, to: &str) {
        let bytes = self.read(name).await;
        let text = std::str::from_utf8(&bytes[32..]).unwrap();
        assert!(text.contains(from), "{text}");
        self.put(name, [&bytes[..32], text.replace(from, to).as_bytes()].concat()).await;
    }
}

pub(super) fn name(number: u64) -> String {
    format!("entry/{number:016}")
}

fn said(problems: &[AuditProblem]) -> Vec<(u64, u64, &str)> {
    problems.iter().map(|problem| (problem.number, problem.last, problem.what.as_str())).collect()
}

#[tokio::test]
async fn v_09_entries_that_were_edited_dropped_or_moved_are_found() {
    let (_folder, _clock, core) = inside_of(String::new()).await;
    let (environment, audit) = (core.environment, &core.services.audit);
    let intruder = Intruder::at(&core);
    let mut heads = Vec::new();
    for number in 0..12 {
        audit.around(act(environment, number), true, async { Ok(()) }).await.unwrap();
        heads.push(intruder.read("head").await);
    }
    let found = async || problems(audit, environment).await;
    assert_eq!(found().await, Vec::new());

    let kept = intruder.read(&name(3)).await;
    for (from, to) in
        [("a person", "nobody"), ("\"done\"", "\"failed\""), ("request-2", "request-9"), ("\"number\":3", "\"number\":4")]
    {
        intruder.edit(&name(3), from, to).await;
        assert_eq!(said(&found().await), [(3, 3, "changed")], "{from}");
        assert!(found().await[0].detail.contains("Entry 3 was changed"));
        intruder.put(&name(3), kept.clone()).await;
    }
    for at in [0, 31, 32, kept.len() - 1] {
        let mut bytes = kept.to_vec();
        bytes[at] ^= 1;
        intruder.put(&name(3), bytes).await;
        let problems = found().await;
        assert_eq!(said(&problems), [(3, 3, "changed")], "byte {at}");
    }
    let lossy = audit.list(environment, WantedEntries::default(), 100, None).await.unwrap();
    assert_eq!((lossy.entries.len(), lossy.lost), (11, 1), "what was changed is not shown, and missed");
    intruder.put(&name(3), kept.clone()).await;

    intruder.drop(&name(5)).await;
    assert_eq!(said(&found().await), [(5, 5, "missing")]);
    let (sixth, kept_sixth) = (name(6), intruder.read(&name(6)).await);
    intruder.drop(&sixth).await;
    assert_eq!(said(&found().await), [(5, 6, "missing")]);
    intruder.put(&sixth, kept_sixth.clone()).await;
    assert_eq!(said(&found().await), [(5, 5, "missing")]);
    intruder.put(&name(5), kept_sixth.clone()).await;
    assert_eq!(said(&found().await), [(5, 5, "moved")], "a copy of the next in its place");
    intruder.put(&name(5), kept.clone()).await;
    assert_eq!(said(&found().await), [(5, 5, "moved")], "a copy of an earlier one in its place");
    intruder.drop(&name(5)).await;
    assert_eq!(said(&found().await), [(5, 5, "missing")]);
}

#[tokio::test]
async fn v_09_swapped_entries_a_cut_end_and_another_head_are_found() {
    let (_folder, _clock, core) = inside_of(String::new()).await;
    let (environment, audit) = (core.environment, &core.services.audit);
    let intruder = Intruder::at(&core);
    let mut heads = Vec::new();
    for number in 0..12 {
        audit.around(act(environment, number), true, async { Ok(()) }).await.unwrap();
        heads.push(intruder.read("head").await);
    }
    let found = async || problems(audit, environment).await;
    let (four, seven) = (intruder.read(&name(4)).await, intruder.read(&name(7)).await);
    intruder.put(&name(4), seven.clone()).await;
    intruder.put(&name(7), four.clone()).await;
    assert_eq!(said(&found().await), [(4, 4, "moved"), (7, 7, "moved")]);
    intruder.put(&name(4), four).await;
    intruder.put(&name(7), seven).await;
    assert_eq!(found().await, Vec::new());

    // The end is cut, and the head is set back to what it once was, or edited, or taken away.
    let last = intruder.read(&name(12)).await;
    intruder.drop(&name(12)).await;
    assert_eq!(said(&found().await), [(12, 12, "missing")]);
    intruder.put(&name(12), last).await;
    intruder.put("head", heads[8].clone()).await;
    assert_eq!(said(&found().await), [(10, 12, "beyond_head")]);
    intruder.put("head", heads[11].clone()).await;
    intruder.edit("head", "\"number\":12", "\"number\":11").await;
    assert_eq!(said(&found().await), [(0, 0, "head_changed")]);
    let ran = audit.around(act(environment, 99), true, must_not_run()).await;
    assert_eq!(ran.unwrap_err().code(), Code::Internal);
    intruder.drop("head").await;
    assert_eq!(said(&found().await), [(0, 0, "head_missing")]);
    let ran = audit.around(act(environment, 99), true, must_not_run()).await;
    assert!(ran.unwrap_err().detail().contains("rollcall audit verify"));
    intruder.put("head", heads[11].clone()).await;
    assert_eq!(found().await, Vec::new());

    // An entry or a head of another environment is none of this one.
    let foreign = EnvironmentId::generate();
    audit.around(act(foreign, 0), true, async { Ok(()) }).await.unwrap();
    let theirs = Intruder { slot: Slot::new(format!("audit:{foreign}")), ..Intruder::at(&core) };
    let kept = intruder.read(&name(1)).await;
    intruder.put(&name(1), theirs.read(&name(1)).await).await;
    assert_eq!(said(&found().await), [(1, 1, "changed")]);
    intruder.put(&name(1), kept).await;
    intruder.put("head", theirs.read("head").await).await;
    assert_eq!(said(&found().await), [(0, 0, "head_changed")]);
}

#[tokio::test]
async fn a_long_log_is_read_and_looked_at_in_pieces() {
    let (_folder, clock, core) = inside_of(String::new()).await;
    let (environment, audit) = (core.environment, &core.services.audit);
    let account = AccountId::generate();
    for number in 0..2_100 {
        if number == 2_000 {
            entries(audit, environment).await;
            clock.advance(DAY);
        }
        let one = Act { account: (number % 700 == 5).then_some(account), ..act(environment, number) };
        audit.note(one, Ended::DONE);
    }
    let all = entries(audit, environment).await;
    assert_eq!(all.len(), 2_100);
    let (mut before, mut walked) = (None, Vec::new());
    loop {
        let page = audit.list(environment, WantedEntries::default(), 333, before).await.unwrap();
        assert!(!page.entries.is_empty());
        walked.extend(page.entries);
        before = page.next;
        if before.is_none() {
            break;
        }
    }
    assert_eq!(walked, all);
    let find = async |wanted: WantedEntries| audit.list(environment, wanted, 5000, None).await.unwrap().entries;
    let mine = find(WantedEntries { account: Some(account), ..WantedEntries::default() }).await;
    assert!(mine.len() == 3 && mine.iter().all(|entry| entry.integrated_account_id == Some(account)));
    let since = Some(all[0].created_at);
    assert_eq!(find(WantedEntries { since, ..WantedEntries::default() }).await, all[..100]);
    assert_eq!(find(WantedEntries { until: Some(all[100].created_at), ..WantedEntries::default() }).await, all[100..]);
    assert!(find(WantedEntries { actor: Some("nobody".into()), ..WantedEntries::default() }).await.is_empty());
    assert_eq!(find(WantedEntries { action: Some("thing.change".into()), ..WantedEntries::default() }).await.len(), 2_100);

    assert_eq!(problems(audit, environment).await, Vec::new());
    let intruder = Intruder::at(&core);
    intruder.edit(&name(1_001), "a person", "nobody").await;
    intruder.drop(&name(2_001)).await;
    assert_eq!(said(&problems(audit, environment).await), [(1_001, 1_001, "changed"), (2_001, 2_001, "missing")]);
}

/// A node that is lost in the midst of what it does.
async fn begin_and_die(audit: &Audit, act: Act) {
    let (begun, begins) = oneshot::channel();
    let work = async {
        begun.send(()).unwrap();
        pending::<Result<(), Error>>().await
    };
    tokio::select! {
        ended = audit.around(act, true, work) => panic!("it ended: {ended:?}"),
        begins = begins => begins.unwrap(),
    }
}

#[tokio::test]
async fn what_a_lost_node_began_becomes_unknown_once() {
    let (_folder, clock, core) = inside_of(String::new()).await;
    let environment = core.environment;
    let other = audit_over(&core, core.services.store.clone(), clock.clone(), None).await;
    begin_and_die(&core.services.audit, act(environment, 1)).await;
    let (audit, (begun, begins), (end, ends)) = (core.services.audit.clone(), oneshot::channel(), oneshot::channel::<()>());
    let work = async {
        begun.send(()).unwrap();
        ends.await.map_err(Error::internal)
    };
    let late = tokio::spawn(async move { audit.around(act(environment, 2), true, work).await });
    begins.await.unwrap();
    clock.advance(Duration::from_secs(14 * 60));
    assert!(entries(&other, environment).await.is_empty(), "it may still be under way");
    clock.advance(Duration::from_secs(2 * 60));
    let (one, two) = tokio::join!(entries(&other, environment), entries(&core.services.audit, environment));
    let found = if one.len() > two.len() { one } else { two };
    let unknown = |entry: &AuditEntry| (entry.outcome, entry.code.clone()) == (AuditOutcome::Unknown, None);
    assert!(found.len() == 2 && found.iter().all(unknown), "{found:?}");
    assert_eq!(entries(&other, environment).await, found, "and not again");
    let slot = Slot::new(format!("audit:{environment}"));
    assert!(core.services.store.scan(&slot, "open/", None, 10).await.unwrap().is_empty());

    // One that did end, very late, says so under the same id.
    end.send(()).unwrap();
    late.await.unwrap().unwrap();
    let found = entries(&other, environment).await;
    let same: Vec<_> = found.iter().filter(|entry| entry.request_id.as_deref() == Some("request-2")).collect();
    assert_eq!(same.iter().map(|entry| entry.outcome).collect::<Vec<_>>(), [AuditOutcome::Done, AuditOutcome::Unknown]);
    assert_eq!((same[0].id, found.len()), (same[1].id, 3));
    assert_eq!(problems(&other, environment).await, Vec::new());
}

#[tokio::test]
async fn a_beginning_that_was_changed_is_found_and_never_becomes_an_entry() {
    let (_folder, clock, core) = inside_of(String::new()).await;
    let (environment, audit) = (core.environment, &core.services.audit);
    begin_and_die(audit, act(environment, 1)).await;
    let intruder = Intruder::at(&core);
    let open = core.services.store.scan(&intruder.slot, "open/", None, 10).await.unwrap()[0].0.clone();
    intruder.edit(&open, "a person", "somebody else").await;
    clock.advance(DAY);
    assert!(entries(audit, environment).await.is_empty());
    assert_eq!(said(&problems(audit, environment).await), [(0, 0, "open_changed")]);
}

#[tokio::test]
async fn names_of_customers_and_of_people_stand_only_as_hashes() {
    let (_folder, _clock, core) = inside_of(String::new()).await;
    let (environment, audit) = (core.environment, &core.services.audit);
    let id = uuid::Uuid::now_v7();
    for target in ["ada@acme.example".to_owned(), id.to_string(), id.simple().to_string()] {
        let act = Act { target_id: Some(target), tenant: Some("acme-label".into()), ..act(environment, 1) };
        audit.around(act, true, async { Ok(()) }).await.unwrap();
    }
    let found = entries(audit, environment).await;
    assert_eq!(found[1].target_id, Some(id.to_string()));
    for hashed in [&found[0].target_id, &found[2].target_id, &found[0].tenant] {
        let text = hashed.as_deref().unwrap();
        assert!(text.starts_with("hmac:") && text.len() == 5 + 32, "{text}");
    }
    for wanted in ["ada@acme.example".to_owned(), found[2].target_id.clone().unwrap()] {
        let wanted = WantedEntries { target_id: Some(wanted), ..WantedEntries::default() };
        let page = audit.list(environment, wanted, 10, None).await.unwrap();
        assert_eq!(page.entries, found[2..], "it is found by the name, and by its hash");
    }
    let slot = Slot::new(format!("audit:{environment}"));
    for (name, entry) in core.services.store.scan(&slot, "", None, 100).await.unwrap() {
        let text = String::from_utf8_lossy(&entry.value);
        assert!(!text.contains("ada@") && !text.contains("acme-label"), "{name}: {text}");
    }
}

#[tokio::test]
async fn old_entries_go_and_what_stays_can_still_be_verified() {
    let (_folder, clock, core) = inside_of(String::new()).await;
    let environment = core.environment;
    let audit = audit_over(&core, core.services.store.clone(), clock.clone(), Some(DAY * 30)).await;
    for number in 0..5 {
        audit.around(act(environment, number), true, async { Ok(()) }).await.unwrap();
    }
    clock.advance(DAY * 30);
    audit.around(act(environment, 5), true, async { Ok(()) }).await.unwrap();
    assert_eq!(entries(&audit, environment).await.len(), 6, "old ones gather for an hour");
    clock.advance(Duration::from_secs(3_700));
    entries(&audit, environment).await;
    let found = entries(&audit, environment).await;
    let told: Vec<_> = found.iter().map(|entry| (entry.number, entry.action.as_str())).collect();
    assert_eq!(told, [(7, "audit.expire"), (6, "thing.change")]);
    assert_eq!((found[0].target_id.as_deref(), found[0].actor.as_str()), (Some("5"), "rollcall"));
    let verified = audit.verify(environment, None).await.unwrap();
    let head = verified.head.unwrap();
    assert_eq!((head.first, head.number, verified.entries, verified.problems), (6, 7, 2, Vec::new()));
    Intruder::at(&core).drop(&name(6)).await;
    assert_eq!(said(&problems(&audit, environment).await), [(6, 6, "missing")]);
}
