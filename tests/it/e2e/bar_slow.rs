//! G-08: slow clients in three modes, made by slowhttptest, beside fifty good ones.

use std::{
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use crate::support::{
    gateway::{ADMIN, Gateway, Kept, client},
    long,
};

const GOOD: usize = 50;

/// What a bad connection may live.
const CUT: Duration = Duration::from_secs(15);

/// What a bad connection may keep of the node's memory, bytes: a quarter of what the slow readers do not take.
const HELD: u64 = 144 * 1024;

/// A latency below this is as good as none: on two shared cores it is the scheduler's.
const FLOOR: Duration = Duration::from_millis(10);

/// Fifty clients with a connection of their own ask ten times a second, until told to stop; all latencies, and what went wrong.
async fn good_clients(gateway: &Gateway, stop: Arc<AtomicBool>) -> (Vec<Duration>, Vec<String>) {
    let one = |number: usize| {
        let (base, stop) = (gateway.base.clone(), stop.clone());
        tokio::spawn(async move {
            let (client, mut took, mut wrong) = (client(), Vec::new(), Vec::new());
            tokio::time::sleep(Duration::from_millis(2 * number as u64)).await;
            while !stop.load(Ordering::Relaxed) {
                let begun = Instant::now();
                match client.get(format!("{base}/integrated-account?limit=1")).bearer_auth(ADMIN).send().await {
                    Ok(answer) => match (answer.status().as_u16(), answer.bytes().await) {
                        (200, Ok(_)) => took.push(begun.elapsed()),
                        (status, body) => wrong.push(format!("{status}, {:?}", body.map(|b| b.len()))),
                    },
                    Err(why) => wrong.push(why.to_string()),
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            (took, wrong)
        })
    };
    let tasks: Vec<_> = (0..GOOD).map(one).collect();
    let (mut took, mut wrong) = (Vec::new(), Vec::new());
    for task in tasks {
        let (t, w) = task.await.unwrap();
        took.extend(t);
        wrong.extend(w);
    }
    (took, wrong)
}

fn p99(took: &mut [Duration]) -> Duration {
    took.sort();
    took[took.len() * 99 / 100]
}

async fn baseline(gateway: &Gateway) -> Duration {
    let stop = Arc::new(AtomicBool::new(false));
    let end = stop.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(4)).await;
        end.store(true, Ordering::Relaxed);
    });
    let (mut took, wrong) = good_clients(gateway, stop).await;
    assert!(wrong.is_empty(), "{wrong:?}");
    p99(&mut took)
}

/// The connections that are open at the gateway: slowhttptest itself sees the end of one only when it has read all before it.
fn open_at(gateway: &Gateway) -> usize {
    let port = gateway.base.rsplit(':').next().unwrap().parse::<u16>().unwrap();
    let (local, established) = (format!(":{port:04X}"), "01");
    let is_ours = |line: &&str| {
        let mut words = line.split_whitespace().skip(1);
        words.next().is_some_and(|address| address.ends_with(&local)) && words.nth(1) == Some(established)
    };
    std::fs::read_to_string("/proc/net/tcp").unwrap().lines().filter(is_ours).count()
}

/// Runs slowhttptest until the gateway has cut its connections; how many there were at once, how long it took, and the most
/// memory meanwhile.
async fn attack(gateway: &Gateway, mode: &[&str], connections: usize) -> (usize, Duration, u64) {
    let folder = tempfile::tempdir().unwrap();
    let number = connections.to_string();
    let mut command = Command::new("slowhttptest");
    command.current_dir(folder.path()).args(["-c", &number, "-r", &number, "-l", "40", "-v", "0"]);
    let accept = format!("application/json\r\nAuthorization: Bearer {ADMIN}");
    command.args(mode).args(["-m", &accept, "-f", "application/json"]);
    let path = if mode.contains(&"-X") { "/openapi.json" } else { "/api-token" };
    command.args(["-u", &format!("{}{path}", gateway.base)]);
    command.stdin(Stdio::null()).stderr(Stdio::null()).stdout(Stdio::null());
    let mut child = command.spawn().expect("slowhttptest, which ./tests/run installs");
    let (begun, mut most, mut lasted, mut resident) = (Instant::now(), 0, Duration::MAX, 0);
    while begun.elapsed() < Duration::from_secs(40) {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let bad = open_at(gateway).saturating_sub(GOOD);
        most = most.max(bad);
        resident = resident.max(gateway.resident());
        if most > connections / 2 && bad <= connections / 100 {
            lasted = begun.elapsed();
            break;
        }
    }
    let _ = child.kill();
    let _ = child.wait();
    (most, lasted, resident)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g_08_slow_clients_are_cut_and_good_ones_do_not_notice() {
    let gateway = Gateway::start(&Kept::embedded(), "");
    let connections = if long() { 1000 } else { 200 };
    let modes: &[(&str, &[&str])] = &[
        ("slow head", &["-H", "-i", "2"]),
        ("slow body", &["-B", "-i", "1", "-s", "8192", "-x", "8", "-t", "POST"]),
        ("slow read", &["-X", "-w", "1", "-y", "512", "-n", "1", "-z", "5", "-k", "3"]),
    ];
    for (name, mode) in modes {
        let mut tried = Vec::new();
        // What else runs on the machine may disturb a round: one of three must be quiet. What is counted holds in each.
        let is_quiet = loop {
            let before = baseline(&gateway).await;
            let resident = gateway.resident();
            let stop = Arc::new(AtomicBool::new(false));
            let (good, bad) = tokio::join!(good_clients(&gateway, stop.clone()), async {
                let ended = attack(&gateway, mode, connections).await;
                stop.store(true, Ordering::Relaxed);
                ended
            });
            let ((mut took, wrong), (most, lasted, highest)) = (good, bad);
            assert!(wrong.is_empty(), "{name}: {} good calls failed: {:?}", wrong.len(), &wrong[..wrong.len().min(3)]);
            assert!(most > connections * 9 / 10, "{name}: only {most} slow connections at once");
            let held = highest.saturating_sub(resident) / connections as u64;
            assert!(held <= HELD, "{name}: {held} bytes are kept for a slow connection");
            // It takes slowhttptest a second to make them.
            let are_cut = lasted <= CUT + Duration::from_secs(1);
            let (after, allowed) = (p99(&mut took), 3 * before.max(FLOOR));
            tried.push((before, after, lasted));
            if (after <= allowed && are_cut) || tried.len() == 3 {
                break after <= allowed && are_cut;
            }
        };
        assert!(is_quiet, "{name}: p99 before and during, and when the last was cut: {tried:?}");
    }
    let said = gateway.said();
    assert!(!said.contains("panicked"), "{said}");
}
