//! V-08: types that hold secrets do not have the traits by which secrets leave.

use std::{
    cmp::Reverse,
    collections::BTreeSet,
    fmt::{Debug, Display},
    marker::PhantomData,
    path::{Path, PathBuf},
    process::Command,
};

use rollcall::{
    config::{GlobalArgs, Settings, StoreSetting},
    model::Secret,
    vault::{AccountTokenKeys, DataKey, KeyRing, LinkText, NewDataKey, SystemKeys, TokenText, Vault},
};
use serde_json::Value;

/// Asks whether a type has a trait: the inherent constant exists only when it has, and wins over the trait's.
macro_rules! has {
    ($type:ty: $($bound:tt)+) => {{
        struct Ask<T>(PhantomData<T>);
        #[allow(dead_code)]
        trait Otherwise { const ANSWER: bool = false; }
        impl<T> Otherwise for Ask<T> {}
        #[allow(dead_code)]
        impl<T: $($bound)+> Ask<T> { const ANSWER: bool = true; }
        <Ask<$type>>::ANSWER
    }};
}

/// Display, Serialize, Debug, Clone.
macro_rules! traits {
    ($type:ty) => {
        [has!($type: Display), has!($type: serde::Serialize), has!($type: Debug), has!($type: Clone)]
    };
}

#[test]
fn v_08_secret_types_cannot_be_printed_or_serialised() {
    assert_eq!(traits!(String), [true; 4], "the question itself finds what is there");
    assert_eq!(traits!(DataKey), [false; 4]);
    assert_eq!(traits!(NewDataKey), [false; 4]);
    assert_eq!(traits!(SystemKeys), [false; 4]);
    assert_eq!(traits!(AccountTokenKeys), [false; 4]);
    assert_eq!(traits!(Settings), [false; 4]);
    // These have a Debug that says nothing of the content; see below.
    assert_eq!(traits!(KeyRing), [false, false, true, false]);
    assert_eq!(traits!(Vault), [false, false, true, false]);
    assert_eq!(traits!(TokenText), [false, false, true, false]);
    assert_eq!(traits!(LinkText), [false, false, true, false]);
    assert_eq!(traits!(Secret), [false, false, true, true]);
    assert_eq!(traits!(GlobalArgs), [false, false, false, true]);
    // Its Display leaves out user and password.
    assert_eq!(traits!(StoreSetting), [true, false, true, true]);
}

/// What the compiler says to a crate that tries, line by line.
#[test]
fn v_08_compile_fail() {
    let marked: BTreeSet<(u64, String)> =
        (1..).zip(TRIES.lines()).filter_map(|(number, line)| Some((number, line.split_once(" //~ ")?.1.to_owned()))).collect();
    assert!(marked.len() > 30);
    // Of a library that was built more than once, the wrong one refuses everything.
    let told: Vec<_> = built("serde").iter().map(|serde| refusals(serde)).collect();
    assert!(told.contains(&marked), "{told:#?}");
}

const TRIES: &str = include_str!("../../ui/closed_types.rs");

/// The compiled libraries of this name beside this test, newest first.
fn built(name: &str) -> Vec<PathBuf> {
    let start = format!("lib{name}-");
    let beside = std::env::current_exe().unwrap();
    let entries = std::fs::read_dir(beside.parent().unwrap()).unwrap().map(|entry| entry.unwrap().path());
    let named = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().starts_with(&start);
    let mut found: Vec<PathBuf> = entries.filter(|path| named(path) && path.extension().is_some_and(|e| e == "rlib")).collect();
    found.sort_by_key(|path| Reverse(path.metadata().unwrap().modified().unwrap()));
    found
}

/// Lines and codes of the errors.
fn refusals(serde: &Path) -> BTreeSet<(u64, String)> {
    let folder = tempfile::tempdir().unwrap();
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let rollcall = built("rollcall").remove(0);
    let said = Command::new(rustc)
        .args(["--edition=2024", "--emit=metadata", "--error-format=json", "tests/ui/closed_types.rs", "--out-dir"])
        .arg(folder.path())
        .arg(format!("-Ldependency={}", rollcall.parent().unwrap().display()))
        .arg(format!("--extern=rollcall={}", rollcall.display()))
        .arg(format!("--extern=serde={}", serde.display()))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let said = String::from_utf8(said.stderr).unwrap();
    let messages = said.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    messages
        .filter(|message| message["level"] == "error" && !message["spans"].as_array().unwrap().is_empty())
        .map(|message| {
            (message["spans"][0]["line_start"].as_u64().unwrap(), message["code"]["code"].as_str().unwrap().to_owned())
        })
        .collect()
}
