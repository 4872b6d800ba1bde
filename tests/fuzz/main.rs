//! libFuzzer over every target; `ROLLCALL_FUZZ_TARGET` says which.

#![no_main]

use std::sync::OnceLock;

mod targets;

static TARGET: OnceLock<targets::Target> = OnceLock::new();

fn named() -> targets::Target {
    let name = std::env::var("ROLLCALL_FUZZ_TARGET").unwrap_or_default();
    let found = targets::ALL.iter().find(|(known, _)| *known == name);
    found.unwrap_or_else(|| panic!("ROLLCALL_FUZZ_TARGET: there is no target `{name}`")).1
}

// What is made once (keys, a connector) is made before the clock of the first input runs.
libfuzzer_sys::fuzz_target!(
    init: {
        TARGET.get_or_init(named)(&[]);
    },
    |data: &[u8]| {
        TARGET.get_or_init(named)(data);
    }
);
