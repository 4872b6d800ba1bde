//! A-02, short form: every kept seed and thousands of changed ones through every fuzz target. `tests/fuzz/run` is the long form.

#[path = "../fuzz/targets/mod.rs"]
mod targets;

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use proptest::{
    prelude::*,
    sample::Index,
    test_runner::{Config, TestRunner},
};

/// How long one input may take.
const LONGEST: Duration = Duration::from_secs(1);

/// The seeds of a target, by name.
fn seeds(name: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(name);
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.into_iter().map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

/// One step from an input to the next.
#[derive(Clone, Debug)]
enum Step {
    Flip(Index, u8),
    Set(Index, u8),
    Insert(Index, Vec<u8>),
    Remove(Index, Index),
    Repeat(Index, Index),
    Splice(Index, Index),
}

/// Bytes that mean something to one of the targets.
const TELLING: &[u8] = b"/.%\\?#&=;:,<>\"'[]{}|$@*+- \t\n\0\x7f\xff09azAZ";

fn step() -> impl Strategy<Value = Step> {
    let telling = || prop_oneof![prop::sample::select(TELLING), any::<u8>()];
    let at = any::<Index>;
    prop_oneof![
        (at(), any::<u8>()).prop_map(|(at, mask)| Step::Flip(at, mask)),
        (at(), telling()).prop_map(|(at, byte)| Step::Set(at, byte)),
        (at(), prop::collection::vec(telling(), 1..6)).prop_map(|(at, bytes)| Step::Insert(at, bytes)),
        (at(), at()).prop_map(|(from, to)| Step::Remove(from, to)),
        (at(), at()).prop_map(|(from, to)| Step::Repeat(from, to)),
        (at(), at()).prop_map(|(seed, at)| Step::Splice(seed, at)),
    ]
}

fn changed(seeds: &[(PathBuf, Vec<u8>)], seed: &Index, steps: &[Step]) -> Vec<u8> {
    let mut data = seed.get(seeds).1.clone();
    for step in steps {
        let spot = |at: &Index, data: &[u8]| at.index(data.len() + 1);
        let span = |from: &Index, to: &Index, data: &[u8]| {
            let (from, to) = (spot(from, data), spot(to, data));
            from.min(to)..from.max(to)
        };
        match step {
            Step::Flip(at, mask) if !data.is_empty() => *at.get_mut(&mut data) ^= mask,
            Step::Set(at, byte) if !data.is_empty() => *at.get_mut(&mut data) = *byte,
            Step::Flip(..) | Step::Set(..) => {}
            Step::Insert(at, bytes) => {
                let at = spot(at, &data);
                data.splice(at..at, bytes.iter().copied());
            }
            Step::Remove(from, to) => drop(data.drain(span(from, to, &data))),
            Step::Repeat(from, to) => {
                let span = span(from, to, &data);
                let part = data[span.clone()].to_vec();
                data.splice(span.end..span.end, part);
            }
            Step::Splice(seed, at) => {
                let from = &seed.get(seeds).1;
                let start = spot(at, &data);
                data.truncate(start);
                data.extend(from.iter().skip(start));
            }
        }
    }
    data
}

fn in_time(name: &str, target: targets::Target, data: &[u8]) -> bool {
    let begun = Instant::now();
    let came_through = target(data);
    if begun.elapsed() >= LONGEST {
        // A busy machine stands still now and then; an input that hangs does so again.
        let again = Instant::now();
        target(data);
        assert!(again.elapsed() < LONGEST, "{name} took {:?} for {:?}", again.elapsed(), String::from_utf8_lossy(data));
    }
    came_through
}

fn drive(name: &str, cases: u32) {
    let (_, target) = targets::ALL.into_iter().find(|(known, _)| *known == name).unwrap();
    // What is made once (keys, a connector) is made before the clock of the first input runs.
    target(&[]);
    let seeds = seeds(name);
    let came_through = seeds.iter().filter(|(_, data)| in_time(name, target, data)).count();
    assert!(seeds.len() >= 10 && came_through >= 2 && came_through < seeds.len(), "{name}: {came_through} of {}", seeds.len());

    let cases = if crate::support::long() { cases * 20 } else { cases };
    let config = Config { cases, failure_persistence: None, max_shrink_time: 20_000, ..Config::default() };
    let input = prop_oneof![
        9 => (any::<Index>(), prop::collection::vec(step(), 1..8)).prop_map(|(seed, steps)| changed(&seeds, &seed, &steps)),
        1 => prop::collection::vec(any::<u8>(), 0..200),
    ];
    let reached = std::cell::Cell::new(0_u32);
    let outcome = TestRunner::new(config).run(&input, |data| {
        reached.set(reached.get() + u32::from(in_time(name, target, &data)));
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{name}: {error}"));
    assert!(reached.get() > 0, "{name}: no changed seed came through");
}

/// A test for each target, so that they run beside each other and none is left out.
macro_rules! driven {
    ($($test:ident: $name:literal, $cases:literal;)*) => {
        $(
            #[test]
            fn $test() {
                drive($name, $cases);
            }
        )*

        #[test]
        fn a_02_every_target_is_driven() {
            let driven = [$($name),*];
            assert!(driven.iter().copied().eq(targets::ALL.iter().map(|(name, _)| *name)));
        }
    };
}

driven! {
    a_02_arguments: "arguments", 8_000;
    a_02_connector: "connector", 300;
    a_02_cursor: "cursor", 4_000;
    a_02_envelope: "envelope", 4_000;
    a_02_link: "link", 8_000;
    a_02_path: "path", 8_000;
    a_02_query: "query", 8_000;
    a_02_rate: "rate", 8_000;
}
