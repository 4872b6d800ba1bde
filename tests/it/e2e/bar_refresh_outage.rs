//! R-01 where the store is away in the midst of a refresh: whoever is cut off from it keeps what it got as soon as it can, and
//! nobody else shows the vendor a refresh token that was used.

use std::time::{Duration, Instant};

use rollcall::store::repo::TOKEN_LEASE;
use tokio::task::JoinHandle;

use super::{
    bar_refresh::{METHOD, status},
    rotating::{Rotating, Rotation},
};
use crate::support::{
    fault_proxy::{Fault, FaultProxy},
    gateway::{ADMIN, Gateway, Kept, client},
    long,
    redis::{Server, until},
};

/// The right to the account's tokens, as the store has it.
fn right_to(server: &Server, account: &str) -> Option<String> {
    ::redis::cmd("GET").arg(format!("rollcall:{{{account}}}#lock/token")).query(&mut server.connection()).unwrap()
}

/// A call beside the test.
fn called(node: &Gateway, account: &str) -> JoinHandle<Option<u16>> {
    let url = format!("{}/unified/user-directory/users?integrated_account_id={account}", node.base);
    tokio::spawn(async move { client().get(url).bearer_auth(ADMIN).send().await.ok().map(|reply| reply.status().as_u16()) })
}

/// An account whose access token the vendor ends, on two nodes that know it.
async fn linked(nodes: &[Gateway; 2], vendor: &Rotating) -> String {
    let account = nodes[1].link("scim", METHOD, vendor.grant(0, 3600)).await;
    for node in nodes {
        assert_eq!(node.users(&account).await.status, 200);
    }
    vendor.end_access();
    account
}

/// The store is away for so long. The node is called all the time, and nothing else than the store is in its way.
async fn away(server: &Server, node: &Gateway, account: &str, length: Duration) {
    server.pause();
    let begun = Instant::now();
    let calls = async {
        while begun.elapsed() < length {
            let reply = node.users(account).await;
            let is_meanwhile = begun.elapsed() < length;
            assert!(!is_meanwhile || (reply.status, &*reply.code()) == (503, "store_unavailable"), "{}", reply.text());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let back = async {
        tokio::time::sleep(length).await;
        server.resume();
    };
    tokio::join!(calls, back);
}

/// Both nodes work soon, and the vendor was shown the refresh token once.
async fn used_once(nodes: &[Gateway], vendor: &Rotating, account: &str) {
    let end = Instant::now() + Duration::from_secs(40);
    let works = nodes.iter().map(|node| async move {
        loop {
            let reply = node.users(account).await;
            if reply.status == 200 {
                return;
            }
            assert!(Instant::now() < end, "it does not come back: {}", reply.text());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    futures_util::future::join_all(works).await;
    for node in nodes {
        assert_eq!(node.users(account).await.status, 200);
        assert_eq!(status(node, account).await["status"], "active");
    }
    let grant = vendor.of(0);
    assert_eq!((grant.shown.as_slice(), grant.revoked), (&[1][..], false), "the token that came was not lost");
}

/// The store goes away between the vendor's answer and the save, for longer than the right to get a token lasts: the new token
/// is held until it is back.
#[tokio::test]
async fn a_token_outlives_an_outage_of_the_store() {
    let vendor = Rotating::start(Rotation::Strict, 1_500..1_501);
    let kept = Kept::redis();
    let Kept::Redis(server, _) = &kept else { unreachable!() };
    let nodes = [(); 2].map(|()| Gateway::start(&kept, &vendor.vendor.authority()));
    let account = linked(&nodes, &vendor).await;
    let call = called(&nodes[0], &account);
    while vendor.of(0).shown.is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    away(server, &nodes[1], &account, TOKEN_LEASE + Duration::from_secs(if long() { 20 } else { 4 })).await;
    used_once(&nodes, &vendor, &account).await;
    assert_eq!(call.await.unwrap(), Some(200), "whoever waited for it gets it");
}

/// One node alone is cut off, and is back when the other one has the right to go on already.
#[tokio::test]
async fn a_node_that_was_cut_off_has_a_while_to_keep_what_it_got() {
    let vendor = Rotating::start(Rotation::Strict, 1_500..1_501);
    let kept = Kept::redis();
    let Kept::Redis(server, _) = &kept else { unreachable!() };
    let proxy = FaultProxy::before(server.port);
    let through = format!("redis://127.0.0.1:{}", proxy.port);
    let nodes = [
        Gateway::start_with(&kept, &vendor.vendor.authority(), &[("ROLLCALL_STORE", through.as_str())]),
        Gateway::start(&kept, &vendor.vendor.authority()),
    ];
    let account = linked(&nodes, &vendor).await;
    let call = called(&nodes[0], &account);
    while vendor.of(0).shown.is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    proxy.set(Fault::Cut);
    let first = right_to(server, &account).expect("one has the right");
    let other = called(&nodes[1], &account);
    let end = Instant::now() + TOKEN_LEASE + Duration::from_secs(10);
    while right_to(server, &account).is_none_or(|now| now == first) {
        assert!(Instant::now() < end, "nobody goes on");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    proxy.set(Fault::None);
    used_once(&nodes, &vendor, &account).await;
    assert_eq!((call.await.unwrap(), other.await.unwrap()), (Some(200), Some(200)));
}

/// The vendor takes nearly as long as it may, and the right to get a token cannot be prolonged meanwhile.
#[tokio::test]
async fn the_right_to_get_a_token_lasts_as_long_as_a_token_endpoint_may_take() {
    let vendor = Rotating::start(Rotation::Strict, 17_000..17_001);
    let kept = Kept::redis();
    let Kept::Redis(server, _) = &kept else { unreachable!() };
    let nodes = [(); 2].map(|()| Gateway::start(&kept, &vendor.vendor.authority()));
    let account = linked(&nodes, &vendor).await;
    let call = called(&nodes[0], &account);
    let end = Instant::now() + Duration::from_secs(10);
    while right_to(server, &account).is_none() {
        assert!(Instant::now() < end, "no refresh begins");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    tokio::time::sleep(Duration::from_millis(1_000)).await;
    away(server, &nodes[1], &account, Duration::from_millis(14_500)).await;
    used_once(&nodes, &vendor, &account).await;
    assert_eq!(call.await.unwrap(), Some(200));
}

/// A node whose notes a replica must have, and that replica.
async fn replicated(kept: &Kept, vendor: &Rotating) -> (Gateway, Server, String) {
    let Kept::Redis(server, _) = kept else { unreachable!() };
    let replica = Server::with(&["--replicaof", "127.0.0.1", &server.port.to_string()]);
    until("the replica follows", 20, || {
        let said: String = ::redis::cmd("INFO").arg("replication").query(&mut replica.connection()).unwrap();
        said.contains("master_link_status:up")
    });
    let node = Gateway::start_with(kept, &vendor.vendor.authority(), &[("ROLLCALL_REDIS_REPLICAS", "1")]);
    let account = node.link("scim", METHOD, vendor.grant(0, 3600)).await;
    assert_eq!(node.users(&account).await.status, 200);
    vendor.end_access();
    (node, replica, account)
}

/// A token counts as kept once the replica has it, although the store itself took it at once.
#[tokio::test]
async fn a_token_that_no_replica_confirms_is_not_given_out() {
    let vendor = Rotating::start(Rotation::Strict, 1_000..1_001);
    let kept = Kept::redis();
    let (node, replica, account) = replicated(&kept, &vendor).await;
    let call = called(&node, &account);
    while vendor.of(0).shown.is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    replica.pause();
    tokio::time::sleep(Duration::from_secs(7)).await;
    assert!(!call.is_finished(), "nobody confirmed it");
    replica.resume();
    used_once(std::slice::from_ref(&node), &vendor, &account).await;
    assert_eq!(call.await.unwrap(), Some(200));
}

/// What is noted before the vendor is asked stands, although the replica that must have it does not answer: the call fails, and no
/// later one takes that for a process that ended while the vendor was asked.
#[tokio::test]
async fn notes_that_no_replica_confirms_end_no_grant() {
    let vendor = Rotating::start(Rotation::Strict, 0..1);
    let kept = Kept::redis();
    let (node, replica, account) = replicated(&kept, &vendor).await;
    replica.pause();
    let (begun, mut refused) = (Instant::now(), 0);
    while refused < 4 || begun.elapsed() < Duration::from_secs(15) {
        let reply = node.users(&account).await;
        assert_eq!(reply.status, 503, "{}", reply.text());
        refused += usize::from(&*reply.code() == "store_unavailable");
        tokio::time::sleep(Duration::from_millis(400)).await;
        assert!(begun.elapsed() < Duration::from_secs(60), "{refused} tries");
    }
    assert!(vendor.of(0).shown.is_empty(), "the vendor is not asked for what could not be noted");
    replica.resume();
    used_once(std::slice::from_ref(&node), &vendor, &account).await;
}
