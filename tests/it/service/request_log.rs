//! The log of requests from within: how long lines stay, whose they are, what is said of those that are lost.

use std::{
    borrow::Cow,
    sync::Arc,
    time::{Duration, Instant},
};

use rollcall::{
    app::Core,
    model::{EnvironmentId, Scopes, TokenId},
    service::{
        Caller, Filter, FilterOp,
        request_log::{Buffer, Line, LogLine, LogPage, RequestId, Wanted},
    },
    store::{Batch, Slot, Write},
};

use super::{DAY, inside_of};

fn caller(environment: EnvironmentId) -> Option<Arc<Caller>> {
    let (token, actor) = (TokenId::generate(), "a person".to_owned());
    Some(Arc::new(Caller { environment, token, actor, scopes: Scopes::default(), bound: None }))
}

fn line(caller: Option<Arc<Caller>>, request: &str, status: u16) -> Line {
    Line {
        ended: Instant::now(),
        request_id: RequestId::of(request),
        caller,
        about: None,
        route: Cow::Borrowed("/ping"),
        method: Cow::Borrowed("GET"),
        status,
        code: None,
        vendor_status: None,
        took: Duration::from_millis(3),
        vendor_took: None,
        pages: 0,
        bytes: 0,
        cut: false,
    }
}

async fn all(core: &Core, environment: EnvironmentId) -> LogPage {
    core.services.log.list(environment, &Wanted::new(Vec::new()).unwrap(), 5000, None).await.unwrap()
}

fn requests(page: &LogPage) -> Vec<&str> {
    page.lines.iter().map(|line: &LogLine| line.request_id.as_str()).collect()
}

#[tokio::test]
async fn lines_stay_for_14_days_and_are_of_one_environment() {
    let (_folder, clock, core) = inside_of(String::new()).await;
    let (own, other) = (core.environment, EnvironmentId::generate());
    let buffer = core.services.log.buffer();
    buffer.push(line(caller(own), "one", 200));
    buffer.push(line(caller(other), "foreign", 200));
    buffer.push(line(None, "nobody", 401));
    assert_eq!(all(&core, other).await.lines.len(), 1);
    clock.advance(DAY);
    buffer.push(line(caller(own), "two", 200));
    let page = all(&core, own).await;
    assert_eq!(requests(&page)[0], "two", "the newest first");
    let mut both = requests(&page)[1..].to_vec();
    both.sort_unstable();
    assert_eq!((both, page.next, page.lost), (vec!["nobody", "one"], None, 0));
    clock.advance(DAY * 13 - Duration::from_secs(1));
    assert_eq!(all(&core, own).await.lines.len(), 3);
    clock.advance(Duration::from_secs(2));
    assert_eq!(requests(&all(&core, own).await), ["two"]);
    clock.advance(DAY);
    assert_eq!(all(&core, own).await.lines.len(), 0);
}

#[tokio::test]
async fn lost_lines_are_said_and_strangers_cannot_fill_the_store() {
    let (_folder, clock, core) = inside_of(String::new()).await;
    let (own, other) = (core.environment, EnvironmentId::generate());
    let (buffer, mine) = (core.services.log.buffer(), caller(own));
    (0..10_000).for_each(|n| buffer.push(line(mine.clone(), &n.to_string(), 200)));
    let page = all(&core, own).await;
    assert_eq!((page.lines.len(), page.lost), (5000, 10_000 - 8192), "{:?}", page.next);
    let rest = core.services.log.list(own, &Wanted::new(Vec::new()).unwrap(), 5000, page.next).await.unwrap();
    assert_eq!((rest.lines.len(), rest.next), (8192 - 5000, None));
    let mut seen: Vec<_> = page.lines.iter().chain(&rest.lines).map(|line| line.id.clone()).collect();
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 8192, "a line twice");

    clock.advance(Duration::from_secs(600));
    buffer.push(line(caller(other), "theirs", 200));
    (0..1000).for_each(|n| buffer.push(line(None, &format!("stranger-{n}"), 401)));
    let since = |time: jiff::Timestamp| {
        Wanted::new(vec![Filter { field: "created_at".into(), op: FilterOp::Gte, values: vec![time.to_string()] }]).unwrap()
    };
    let lately = since(jiff::Timestamp::from_second(1_800_000_000 + 300).unwrap());
    let page = core.services.log.list(own, &lately, 5000, None).await.unwrap();
    assert_eq!((page.lines.len(), page.lost), (32, 1000 - 32));
    let theirs = all(&core, other).await;
    assert_eq!((requests(&theirs), theirs.lost), (vec!["theirs"], 0), "others lose nothing by strangers");
}

#[tokio::test]
async fn a_piece_that_was_moved_or_changed_is_missed_and_not_shown() {
    let (_folder, _clock, core) = inside_of(String::new()).await;
    let (own, other) = (core.environment, EnvironmentId::generate());
    let buffer: Arc<Buffer> = core.services.log.buffer();
    buffer.push(line(caller(other), "foreign", 200));
    core.services.log.flush().await;
    let store = &core.services.store;
    let pieces = store.scan(&Slot::new(format!("log:{other}")), "", None, 10).await.unwrap();
    let (name, entry) = pieces.into_iter().next().expect("a piece");
    assert!(!String::from_utf8_lossy(&entry.value).contains("foreign"), "it lies in the clear");
    let put = |name: String| Write::Put { name, value: entry.value.clone(), ttl: None, expect: rollcall::store::Expect::Any };
    let batch = |environment, name| Batch { slot: Slot::new(format!("log:{environment}")), fence: None, writes: vec![put(name)] };
    store.commit(batch(own, name.clone())).await.unwrap();
    let page = all(&core, own).await;
    assert_eq!((page.lines.len(), page.lost), (0, 1), "shown behind another wall");
    let (same, end) = name.split_at(name.len() - 1);
    store.commit(batch(other, format!("{same}{}", if end == "9" { '8' } else { '9' }))).await.unwrap();
    let page = all(&core, other).await;
    assert_eq!((requests(&page), page.lost), (vec!["foreign"], 1), "shown twice");
}

#[tokio::test]
async fn pages_meet_and_what_comes_meanwhile_does_not_move_them() {
    let (_folder, clock, core) = inside_of(String::new()).await;
    let (own, buffer) = (core.environment, core.services.log.buffer());
    let mine = caller(own);
    for minute in 0..5 {
        (0..40).for_each(|n| buffer.push(line(mine.clone(), &format!("{minute}-{n}"), if n % 2 == 0 { 200 } else { 500 })));
        core.services.log.flush().await;
        clock.advance(Duration::from_secs(60));
    }
    let failed = || {
        let filter = Filter { field: "status".into(), op: FilterOp::Gte, values: vec!["500".into()] };
        Wanted::new(vec![filter]).unwrap()
    };
    let (mut after, mut seen) = (None, Vec::new());
    loop {
        let page = core.services.log.list(own, &failed(), 7, after).await.unwrap();
        assert!(!page.lines.is_empty() && page.lines.iter().all(|line| line.status == 500));
        seen.extend(page.lines.iter().map(|line| (line.created_at, line.request_id.clone())));
        after = page.next;
        if after.is_none() {
            break;
        }
        buffer.push(line(mine.clone(), "meanwhile", 500));
    }
    assert_eq!(seen.len(), 100);
    assert!(seen.is_sorted_by(|a, b| a.0 >= b.0), "not the newest first");
    seen.sort_by(|a, b| a.1.cmp(&b.1));
    seen.dedup_by(|a, b| a.1 == b.1);
    assert_eq!(seen.len(), 100, "a line twice");
}
