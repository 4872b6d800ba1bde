//! G-07: API tokens are not in the store, tell nothing by time, and end on every node within a second.

use std::time::{Duration, Instant};

use serde_json::json;

use super::bar_canaries::{Canaries, Canary, files};
use crate::support::{
    gateway::{ADMIN, Gateway, Kept},
    long,
};

/// Everything Redis holds: its files and its values.
fn store(kept: &Kept) -> Vec<(String, Vec<u8>)> {
    let Kept::Redis(server, _) = kept else { unreachable!() };
    let mut connection = server.connection();
    let _: () = redis::cmd("SAVE").query(&mut connection).unwrap();
    let mut all = files(server.folder());
    let keys: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut connection).unwrap();
    for key in keys {
        let value = redis::cmd("GET").arg(&key).query::<Vec<u8>>(&mut connection).unwrap_or_default();
        all.push((key, value));
    }
    all
}

#[tokio::test]
async fn g_07_keys_are_hashed_and_end_everywhere_at_once() {
    let kept = Kept::redis();
    let (one, two) = (Gateway::start(&kept, ""), Gateway::start(&kept, ""));
    let mut clear = vec![Canary::new("administrator", ADMIN)];
    let mut slowest = Duration::ZERO;
    for _ in 0..if long() { 20 } else { 4 } {
        let made = one.call("POST", "/api-token", Some(&json!({"name": "short-lived", "scopes": ["accounts:read"]}))).await.json();
        let (id, token) = (made["id"].as_str().unwrap(), made["token"].as_str().unwrap().to_owned());
        clear.push(Canary::new("token", token.clone()));
        // The secret alone: the id in front of it is stored, and so may be.
        clear.push(Canary::new("secret", &token[27..]));
        for node in [&one, &two] {
            assert_eq!(node.call_as(Some(&token), "GET", "/integrated-account", None).await.status, 200);
        }
        // Both nodes know it now; the last use before the end makes the other node's memory as fresh as can be.
        assert_eq!(one.call("DELETE", &format!("/api-token/{id}"), None).await.status, 200);
        let ended = Instant::now();
        assert_eq!(one.call_as(Some(&token), "GET", "/integrated-account", None).await.status, 401, "the node that ended it");
        while two.call_as(Some(&token), "GET", "/integrated-account", None).await.status != 401 {
            assert!(ended.elapsed() < Duration::from_secs(5), "the other node goes on");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        slowest = slowest.max(ended.elapsed());
        assert_eq!(two.call_as(Some(&token), "GET", "/integrated-account", None).await.code(), "invalid_token");
    }
    // A call under way when the second is over is not a use after it; half a second is for a busy machine.
    assert!(slowest <= Duration::from_millis(if long() { 1000 } else { 1500 }), "{slowest:?}");
    let alive = one.token(&["accounts:read"]).await;
    clear.push(Canary::new("a living token", alive.clone()));
    clear.push(Canary::new("a living secret", &alive[27..]));
    let canaries = Canaries::new(clear);
    let store = store(&kept);
    assert!(store.iter().any(|(name, _)| name.contains("token:")), "the tokens are in the store");
    let hits: Vec<String> = store.iter().flat_map(|(name, bytes)| canaries.hits(name, bytes)).collect();
    assert_eq!(hits, Vec::<String>::new());
}

/// Ranks, ties shared.
fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*a].total_cmp(&values[*b]));
    let mut ranks = vec![0.0; values.len()];
    let mut at = 0;
    while at < order.len() {
        let end = (at..order.len()).take_while(|i| values[order[*i]] == values[order[at]]).count() + at;
        order[at..end].iter().for_each(|i| ranks[*i] = (at + end - 1) as f64 / 2.0);
        at = end;
    }
    ranks
}

/// Spearman's rank correlation.
fn correlation(a: &[f64], b: &[f64]) -> f64 {
    let (a, b) = (ranks(a), ranks(b));
    let mean = |v: &[f64]| v.iter().sum::<f64>() / v.len() as f64;
    let (ma, mb) = (mean(&a), mean(&b));
    let product: f64 = a.iter().zip(&b).map(|(x, y)| (x - ma) * (y - mb)).sum();
    let spread = |v: &[f64], m: f64| v.iter().map(|x| (x - m).powi(2)).sum::<f64>();
    product / (spread(&a, ma) * spread(&b, mb)).sqrt()
}

#[tokio::test]
async fn g_07_keys_wrong_ones_take_the_same_time_whatever_they_share_with_the_right_one() {
    let gateway = Gateway::start(&Kept::embedded(), "");
    let right = ADMIN.as_bytes();
    let tries = if long() { 10_000 } else { 600 };
    let (mut shared, mut took) = (Vec::new(), Vec::new());
    // A fixed, well-mixed order of prefix lengths, so that drift of the machine is no trend.
    for number in 0..tries {
        let prefix = number * 17 % right.len();
        let mut wrong = right.to_vec();
        wrong[prefix..].iter_mut().for_each(|byte| *byte = if *byte == b'x' { b'y' } else { b'x' });
        let wrong = String::from_utf8(wrong).unwrap();
        let begun = Instant::now();
        let answer = gateway.call_as(Some(&wrong), "GET", "/integrated-account", None).await;
        took.push(begun.elapsed().as_secs_f64());
        assert_eq!(answer.status, 401);
        shared.push(prefix as f64);
    }
    let found = correlation(&shared, &took);
    // For p > 0.01 two-sided: 2.58 standard errors; the short form allows four, since other tests share the machine.
    let bound = if long() { 2.58 } else { 4.0 } / (tries as f64 - 1.0).sqrt();
    assert!(found.abs() <= bound, "correlation {found}, bound {bound}");
    assert!(correlation(&shared, &shared) > 0.99, "the measure finds a correlation that is there");
}
