//! What the lock file may hold.

use std::{fs, path::Path};

use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Policy {
    floor: Vec<Floor>,
    banned: Vec<Banned>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Floor {
    #[serde(rename = "crate")]
    name: String,
    min: String,
    #[serde(default)]
    required: bool,
    why: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Banned {
    #[serde(rename = "crate")]
    name: String,
    why: String,
}

#[derive(Deserialize)]
struct Lock {
    package: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    source: Option<String>,
}

const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// Numbers of a version; what stands behind `-` or `+` makes a pre-release smaller or nothing, and none is expected here.
fn version(text: &str) -> Vec<u64> {
    let plain = text.split('+').next().unwrap();
    assert!(!plain.contains('-'), "a pre-release is not to be shipped: {text}");
    plain.split('.').map(|part| part.parse().unwrap()).collect()
}

fn check(lock: &str, policy: &str) -> Vec<String> {
    let lock: Lock = toml::from_str(lock).expect("Cargo.lock is TOML");
    let policy: Policy = toml::from_str(policy).expect("floors.toml has its form");
    let mut found = Vec::new();
    for floor in &policy.floor {
        let copies: Vec<_> = lock.package.iter().filter(|p| p.name == floor.name).collect();
        if floor.required && copies.is_empty() {
            found.push(format!("{} is not in Cargo.lock; its floor checks nothing", floor.name));
        }
        for copy in copies.iter().filter(|p| version(&p.version) < version(&floor.min)) {
            found.push(format!("{} {} is below {}: {}", copy.name, copy.version, floor.min, floor.why));
        }
    }
    for banned in &policy.banned {
        if lock.package.iter().any(|p| p.name == banned.name) {
            found.push(format!("{} must not be there: {}", banned.name, banned.why));
        }
    }
    for package in lock.package.iter().filter(|p| p.source.as_deref().is_some_and(|source| source != CRATES_IO)) {
        found.push(format!("{} comes from {}", package.name, package.source.as_deref().unwrap_or_default()));
    }
    found
}

#[test]
fn a_01_supply_chain() {
    let found = check(&read("Cargo.lock"), &read("tests/it/architecture/floors.toml"));
    assert!(found.is_empty(), "{}", found.join("\n"));

    let manifest: toml::Table = read("Cargo.toml").parse().unwrap();
    assert_eq!(manifest["lints"]["rust"]["unsafe_code"].as_str(), Some("forbid"));
    let web = &manifest["dependencies"]["actix-web"];
    assert_eq!(web["default-features"].as_bool(), Some(false), "its `http2` feature brings h2 0.3");
    let client = &manifest["dependencies"]["reqwest"];
    assert_eq!(client["default-features"].as_bool(), Some(false), "its defaults decompress and follow the system's proxy");

    let deny: toml::Table = read("deny.toml").parse().unwrap();
    let policy: Policy = toml::from_str(&read("tests/it/architecture/floors.toml")).unwrap();
    let denied: Vec<_> = deny["bans"]["deny"].as_array().unwrap().iter().filter_map(|entry| entry["crate"].as_str()).collect();
    for name in ["openssl", "native-tls", "rsa"] {
        assert!(denied.contains(&name) && policy.banned.iter().any(|b| b.name == name), "{name} is not banned in both places");
    }
}

/// `ring` stands in the lock file as somebody's unused option, so the graph that is built decides.
#[test]
fn a_01_one_cryptography_backend() {
    let built = |name: &str| {
        let mut cargo = std::process::Command::new(env!("CARGO"));
        cargo.current_dir(env!("CARGO_MANIFEST_DIR"));
        cargo.args(["tree", "--locked", "--target", "all", "--edges", "normal,build", "--prefix", "none", "--invert", name]);
        let output = cargo.output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() || errors.contains("did not match any packages"), "cargo tree: {errors}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert!(built("aws-lc-rs").contains("rollcall"), "the look-up itself must find what is there");
    for name in ["ring", "openssl-sys"] {
        assert_eq!(built(name), "", "{name} is built");
    }
}

#[test]
fn the_lock_file_check_can_fail() {
    let policy = read("tests/it/architecture/floors.toml");
    let lock = read("Cargo.lock");
    let with = |name: &str, version: &str, source: &str| {
        format!("{lock}\n[[package]]\nname = \"{name}\"\nversion = \"{version}\"\nsource = \"{source}\"\n")
    };
    for (name, version, text) in [
        ("h2", "0.3.27", "below 0.4.16"),
        ("actix-http", "3.19.9", "below 3.20.0"),
        ("jsonwebtoken", "9.3.1", "below 10.3.0"),
        ("native-tls", "0.2.14", "must not be there"),
        ("rsa", "0.9.8", "must not be there"),
    ] {
        let found = check(&with(name, version, CRATES_IO), &policy);
        assert!(found.len() == 1 && found[0].contains(text), "{name}: {found:?}");
    }
    let found = check(&with("left-pad", "1.0.0", "git+https://example.com/left-pad"), &policy);
    assert!(found.len() == 1 && found[0].contains("comes from"), "{found:?}");
    assert!(!check(&lock.replace("\"actix-http\"", "\"actix-htpp\""), &policy).is_empty(), "a required crate that is gone");
}
