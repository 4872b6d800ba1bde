//! Tests of the connector side.

mod bad;
mod catalog;
mod cells;
mod consent;
pub mod contract;
mod contributing;
mod overlay;
mod overrides;
pub mod replay;
mod resolve;
mod schema;
mod template;
mod wire;

use std::path::{Path, PathBuf};

/// The folder of connectors of the repository.
pub fn connectors() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("connectors")
}

/// Whether generated files are written instead of compared (`ROLLCALL_UPDATE=1`).
pub fn update() -> bool {
    std::env::var_os("ROLLCALL_UPDATE").is_some()
}

/// Compares a generated file with what is in the repository, or writes it.
pub fn assert_file(path: &Path, text: &str) {
    if update() {
        std::fs::write(path, text).unwrap();
    }
    let there = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        there == text,
        "{} is not what the code gives; run with ROLLCALL_UPDATE=1 and look at the change.\n--- there\n{there}\n--- now\n{text}",
        path.display()
    );
}

/// Copies a folder and everything in it.
pub fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() { copy_dir(&path, &target) } else { std::fs::copy(&path, &target).map(drop).unwrap() }
    }
}
