//! A page of 100 SCIM users to unified users, bytes to bytes, finding the records included: the compiled table against
//! structs written by hand. The ratio is taken in interleaved rounds, so that a busy machine slows both alike.
//!
//! `cargo bench --bench mapping` prints Criterion's figures and a line for each ratio and fails above the bound;
//! `-- --quick` prints the ratios alone.

#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../it/mapping/scim_page.rs"]
mod scim_page;

use std::{hint::black_box, time::Instant};

use criterion::Criterion;
use rollcall::mapping::Table;

const USERS: u64 = 100;
const BOUND: f64 = 1.2;
const ROUNDS: usize = 31;
const PAGES_A_ROUND: u32 = 60;

fn main() {
    let given = |flag: &str| std::env::args().any(|arg| arg == flag);
    let (table, body) = (scim_page::table(), scim_page::page(USERS, 42));
    if !given("--quick") && !given("--test") {
        figures(&table, &body);
    }
    let rounds = if given("--test") { 1 } else { ROUNDS };
    let ratios = [false, true].map(|remote_data| ratio(&table, &body, remote_data, rounds));
    if !given("--test") && ratios.iter().any(|ratio| *ratio > BOUND) {
        std::process::exit(1);
    }
}

fn figures(table: &Table, body: &[u8]) {
    let mut criterion = Criterion::default().configure_from_args();
    for (name, remote_data) in [("remote_data off", false), ("remote_data on", true)] {
        let mut group = criterion.benchmark_group(format!("{USERS} SCIM users, {name}"));
        let mut out = Vec::new();
        group.bench_function("table", |bench| bench.iter(|| by_table(table, body, remote_data, &mut out)));
        group.bench_function("by hand", |bench| bench.iter(|| by_hand(body, remote_data, &mut out)));
        group.finish();
    }
    criterion.final_summary();
}

fn by_table(table: &Table, body: &[u8], remote_data: bool, out: &mut Vec<u8>) {
    out.clear();
    scim_page::with_table(table, black_box(body), remote_data, out);
    black_box(out);
}

fn by_hand(body: &[u8], remote_data: bool, out: &mut Vec<u8>) {
    out.clear();
    scim_page::by_hand(black_box(body), remote_data, out);
    black_box(out);
}

/// The median over interleaved rounds of the table's time in units of the hand-written structs' time.
fn ratio(table: &Table, body: &[u8], remote_data: bool, rounds: usize) -> f64 {
    let mut out = Vec::new();
    let (mut ratios, mut tables, mut hands) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds {
        let mut hand = 0.0;
        if round % 2 == 0 {
            hand = seconds(|| by_hand(body, remote_data, &mut out));
        }
        let table = seconds(|| by_table(table, body, remote_data, &mut out));
        if round % 2 == 1 {
            hand = seconds(|| by_hand(body, remote_data, &mut out));
        }
        ratios.push(table / hand);
        tables.push(table);
        hands.push(hand);
    }
    let ratio = median(ratios);
    let micros = |times| median(times) * 1e6 / f64::from(PAGES_A_ROUND) / USERS as f64;
    println!(
        "mapping {USERS} SCIM users, remote_data {}: {ratio:.2} of hand-written (bound {BOUND:.2}); µs a record: table {:.2}, by hand {:.2}",
        if remote_data { "on" } else { "off" },
        micros(tables),
        micros(hands)
    );
    ratio
}

fn seconds(mut page: impl FnMut()) -> f64 {
    let start = Instant::now();
    for _ in 0..PAGES_A_ROUND {
        page();
    }
    start.elapsed().as_secs_f64()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
