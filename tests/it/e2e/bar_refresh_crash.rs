//! a node dies in the midst of refreshes, between the request and the save, at points spread by chance.

use std::time::{Duration, Instant};

use futures_util::{StreamExt, future::join_all, stream};

use super::{
    bar_refresh::{ends_told, link_all, settled},
    rotating::{Rotating, Rotation},
};
use crate::support::{
    gateway::{ADMIN, Gateway, Kept, client},
    long,
};

/// Nodes that live and die at the same time, each with a store of its own.
const TOGETHER: usize = 6;
/// What the vendor takes at most for an answer, ms.
const LATENCY: u64 = 400;

/// When a node dies: so long after so many of its refresh tokens were shown to the vendor.
#[derive(Clone, Copy, Debug)]
struct Point {
    shown: usize,
    after: Duration,
}

impl Point {
    fn by_chance(accounts: usize) -> Point {
        let (one, other) = uuid::Uuid::new_v4().as_u64_pair();
        let shown = 1 + usize::try_from(one % accounts as u64).unwrap();
        Point { shown, after: Duration::from_micros(other % (LATENCY * 1_200)) }
    }
}

/// What became of the accounts whose refresh tokens the vendor had got when the node died.
#[derive(Debug, Default)]
struct Fate {
    /// Their new tokens were kept.
    kept: usize,
    /// They were not, and the old ones brought others.
    again: usize,
    /// The same, and the vendor ended the grant.
    lost: usize,
}

/// A node dies in the midst of the refreshes of many accounts, each at another point of its own; the next one goes on.
async fn crash(kept: Kept, rotation: Rotation, accounts: usize) -> Fate {
    let vendor = Rotating::start(rotation, 20..LATENCY);
    let gateway = Gateway::start(&kept, &vendor.vendor.authority());
    let linked = link_all(&gateway, &vendor, accounts as u64, 3600).await;
    vendor.end_access();
    let (base, paths) = (gateway.base.clone(), linked.clone());
    let calls = tokio::spawn(async move {
        let call = |account: &String| {
            let url = format!("{base}/unified/user-directory/users?integrated_account_id={account}");
            async move { client().get(url).bearer_auth(ADMIN).send().await.map(|reply| reply.status().as_u16()).ok() }
        };
        join_all(paths.iter().map(call)).await
    });
    let point = Point::by_chance(accounts);
    let shown = || vendor.all().iter().filter(|grant| !grant.shown.is_empty()).count();
    while shown() < point.shown {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    tokio::time::sleep(point.after).await;
    gateway.kill();
    calls.await.unwrap();
    // What had left the node before it died arrives all the same, and is answered.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let asked = || vendor.vendor.asked().iter().filter(|asked| asked.path() == "/token").count();
    while vendor.all().iter().map(|grant| grant.shown.len()).sum::<usize>() < asked() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let begun: Vec<bool> = vendor.all().iter().map(|grant| !grant.shown.is_empty()).collect();
    vendor.set_latency(0..20);
    let gateway = Gateway::start(&kept, &vendor.vendor.authority());
    let end = Instant::now() + Duration::from_secs(60);
    let settled = join_all(linked.iter().map(|account| settled(&gateway, account, end))).await;
    let mut fate = Fate::default();
    for (number, grant) in vendor.all().into_iter().enumerate() {
        let (account, is_lost) = (&linked[number], settled[number]);
        let old = grant.shown.iter().filter(|shown| **shown == 1).count();
        assert!(rotation == Rotation::Never || old <= 2, "the old refresh token is tried once more at most: {grant:?}");
        // Whoever was killed after the save has the token that came; the old one is shown again where it was before.
        assert!(!is_lost || grant.shown == [1, 1], "lost although its token was kept: {grant:?}");
        match (begun[number], old) {
            (false, _) => assert!(!is_lost, "lost although the vendor was not asked: {grant:?}"),
            (true, 1) => fate.kept += 1,
            (true, _) if is_lost => fate.lost += 1,
            (true, _) => fate.again += 1,
        }
        let told = ends_told(&gateway, account, usize::from(is_lost)).await;
        assert_eq!(told, usize::from(is_lost), "{rotation:?}: each loss is told once, and nothing else");
    }
    println!("{rotation:?}, killed {:?} after {} of {accounts}: {fate:?}", point.after, point.shown);
    assert!(rotation == Rotation::Strict || fate.lost == 0, "{rotation:?}: {point:?}: {fate:?}");
    fate
}

/// Three hundred kills over the three kinds of vendors; every fifth on a Redis, whose locks outlive the node.
async fn crashes(rotation: Rotation) {
    let (kills, accounts) = if long() { (100, 6) } else { (5, 10) };
    let one = |number: usize| {
        let kept = if number.is_multiple_of(5) { Kept::redis() } else { Kept::embedded() };
        async move { tokio::spawn(crash(kept, rotation, accounts)).await.unwrap() }
    };
    let fates: Vec<Fate> = stream::iter((0..kills).map(one)).buffer_unordered(TOGETHER).collect().await;
    let sum = |count: fn(&Fate) -> usize| fates.iter().map(count).sum::<usize>();
    let (kept, again, lost) = (sum(|fate| fate.kept), sum(|fate| fate.again), sum(|fate| fate.lost));
    println!("{rotation:?}, {kills} kills: {kept} kept, {again} once more, {lost} lost");
    assert!(kept > 0, "nobody died after a save");
    assert!(if rotation == Rotation::Strict { lost } else { again } > 0, "nobody died before a save");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 6)]
async fn r_03_a_crash_loses_nothing_where_the_vendor_does_not_rotate() {
    crashes(Rotation::Never).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 6)]
async fn r_03_a_crash_loses_nothing_where_the_vendor_is_patient() {
    crashes(Rotation::Grace).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 6)]
async fn r_03_a_crash_costs_what_a_strict_vendor_had_rotated_and_no_more() {
    crashes(Rotation::Strict).await;
}
