//! V-06 at the vault: a ring that is wrong, missing, short or a sample is refused with a sentence that says what to do.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use rollcall::{
    model::{AccountId, EnvironmentId},
    vault::{FileStamp, KeyRing, Vault},
};
use tempfile::TempDir;

const GOOD: [u8; 32] = [
    0x8f, 0x02, 0xd1, 0x6e, 0x33, 0xa9, 0x47, 0xfc, 0x10, 0xbb, 0x5c, 0xe8, 0x74, 0x29, 0x96, 0x0d, 0xc3, 0x5a, 0xf1, 0x68, 0x1e,
    0x87, 0xde, 0x42, 0xb0, 0x3d, 0x99, 0x7b, 0x04, 0xea, 0x56, 0xcc,
];

/// A key of its own for each number.
pub(super) fn key(number: u8) -> [u8; 32] {
    GOOD.map(|b| b.wrapping_mul(number.wrapping_mul(2) + 1).wrapping_add(number))
}

pub(super) fn write(path: &Path, text: impl AsRef<[u8]>) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

pub(super) fn text(primary: &str, keys: &[(&str, [u8; 32])]) -> String {
    let keys: Vec<_> = keys.iter().map(|(id, key)| entry(id, &STANDARD.encode(key))).collect();
    format!(r#"{{"version": 1, "primary": "{primary}", "keys": [{}]}}"#, keys.join(", "))
}

fn entry(id: &str, key: &str) -> String {
    format!(r#"{{"id": "{id}", "created_at": "2026-11-21T00:00:00Z", "key": "{key}"}}"#)
}

fn place() -> (TempDir, PathBuf) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("rollcall-data.keys");
    (folder, path)
}

#[track_caller]
fn refused(path: &Path, part: &str) {
    let message = KeyRing::load(path).err().map(|e| e.to_string()).unwrap_or_else(|| panic!("taken: {part}"));
    assert!(message.contains(part), "`{message}` does not say `{part}`");
    assert!(message.contains(&path.display().to_string()), "`{message}` does not name the file");
}

#[test]
fn v_06_forms_that_are_not_a_ring() {
    let (_folder, path) = place();
    refused(&path, "does not exist");
    let good = STANDARD.encode(GOOD);
    let one = |key: &str| format!(r#"{{"version": 1, "primary": "k1", "keys": [{}]}}"#, entry("k1", key));
    let cases = [
        (String::new(), "is empty"),
        ("not json".into(), "is not JSON"),
        (text("k1", &[("k1", GOOD)])[..60].into(), "is not JSON"),
        ("[]".into(), "is JSON, but not a key ring"),
        (r#"{"version": 1, "primary": "k1"}"#.into(), "is JSON, but not a key ring"),
        (text("k1", &[("k1", GOOD)]).replacen('{', r#"{"primry": "k1", "#, 1), "is JSON, but not a key ring"),
        (text("k1", &[("k1", GOOD)]).replace("2026-11-21T00:00:00Z", "yesterday"), "is JSON, but not a key ring"),
        (text("k1", &[("k1", GOOD)]).replace(r#""version": 1"#, r#""version": 2"#), "has version 2"),
        (text("k1", &[]), "has no keys"),
        (text("k1", &[("k1", GOOD), ("k2", key(2)), ("k1", key(3))]), "`k1` twice"),
        (text("k2", &[("k1", GOOD)]), "names a primary key it does not have; its keys are: k1"),
        (text("k 1", &[("k 1", GOOD)]), "whose id is not 1 to 64"),
        (text("", &[("", GOOD)]), "whose id is not 1 to 64"),
        (one("!!!"), "`k1` that is not base64"),
        (one(""), "of 0 bytes; a key has 32"),
        (one(&STANDARD.encode(&GOOD[..31])), "of 31 bytes; a key has 32"),
        (one(&STANDARD.encode([&GOOD[..], &[1]].concat())), "of 33 bytes; a key has 32"),
        (one(&good.replace('=', "")), "that is not base64"),
    ];
    for (content, part) in cases {
        write(&path, &content);
        refused(&path, part);
    }
    write(&path, [0xff, 0xfe]);
    refused(&path, "is not JSON");
    write(&path, vec![b' '; 300_000]);
    refused(&path, "is larger than");
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    refused(&path, "is not a regular file");
}

#[test]
fn v_06_sample_keys() {
    let (_folder, path) = place();
    let decoded = |text: &str| -> [u8; 32] { STANDARD.decode(text).unwrap().try_into().unwrap() };
    let counting: Vec<u8> = (0..32).collect();
    let samples: Vec<([u8; 32], &str)> = vec![
        ([0; 32], "is the same byte over and over"),
        ([0xff; 32], "is the same byte over and over"),
        ([b'a'; 32], "is the same byte over and over"),
        (counting.clone().try_into().unwrap(), "counts up or down"),
        (counting.iter().rev().copied().collect::<Vec<_>>().try_into().unwrap(), "counts up or down"),
        (*b"0123456789abcdef0123456789abcdef", "is text"),
        (*b"change me change me change me 12", "is text"),
        (*b"correct horse battery staple !!!", "is text"),
        ([0xde, 0xad, 0xbe, 0xef].repeat(8).try_into().unwrap(), "repeats itself"),
        (decoded("CHANGEMECHANGEMEchangemeXyZqRtUvWpLkJhGfDsA="), "is a well-known sample key"),
        (decoded("thisIsJustAnExampleKeyXyZqRtUvWpLkJhGfDsAQ8="), "is a well-known sample key"),
    ];
    for (sample, part) in samples {
        write(&path, text("k1", &[("k1", sample)]));
        refused(&path, part);
        // Also where it only reads.
        write(&path, text("k1", &[("k1", GOOD), ("old", sample)]));
        refused(&path, "has a key `old`");
    }
}

#[test]
fn v_06_no_message_shows_a_key() {
    let (_folder, path) = place();
    let good = STANDARD.encode(GOOD);
    let whole = text("k1", &[("k1", GOOD)]);
    for content in [
        whole.replace("\"k1\", \"keys\"", "\"k2\", \"keys\""),
        whole.replace("\"key\"", "\"kee\""),
        whole.replace("\"version\": 1", &format!("\"version\": \"{good}\"")),
        whole.replace("\"primary\": \"k1\"", &format!("\"primary\": \"{good}\"")),
        whole.replace("\"created_at\"", &format!("\"{good}\"")),
        whole.replace("\"id\": \"k1\"", &format!("\"id\": \"{good}\"")),
        whole.replace(&good, &format!("{good}{good}")),
        whole.replace(&good, &format!("{good}!")),
        whole.replace('}', ""),
    ] {
        write(&path, &content);
        let message = KeyRing::load(&path).expect_err("refused").to_string();
        assert!(!message.contains(&good[..12]), "{message}");
    }
}

#[test]
fn v_06_a_file_others_can_use() {
    let (_folder, path) = place();
    write(&path, text("k1", &[("k1", GOOD)]));
    assert!(KeyRing::load(&path).is_ok());
    for mode in [0o640, 0o604, 0o660, 0o644, 0o610, 0o602, 0o777] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        refused(&path, &format!("run `chmod 600 {}`", path.display()));
    }
    fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
    assert!(KeyRing::load(&path).is_ok());
}

#[test]
fn a_new_ring_is_private_and_never_replaces_one() {
    let (folder, path) = place();
    let ring = KeyRing::create(&path, "2026-11-21T10:20:30.5Z".parse().unwrap()).unwrap();
    assert_eq!(ring.ids().collect::<Vec<_>>(), ["k1"]);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let written = fs::read_to_string(&path).unwrap();
    let file: serde_json::Value = serde_json::from_str(&written).unwrap();
    assert_eq!((&file["version"], &file["primary"], &file["keys"][0]["id"]), (&1.into(), &"k1".into(), &"k1".into()));
    assert_eq!(file["keys"][0]["created_at"], "2026-11-21T10:20:30Z");
    assert_eq!(STANDARD.decode(file["keys"][0]["key"].as_str().unwrap()).unwrap().len(), 32);

    let again = KeyRing::create(&path, jiff::Timestamp::UNIX_EPOCH).err().unwrap().to_string();
    assert!(again.contains("never overwritten"), "{again}");
    assert_eq!(fs::read_to_string(&path).unwrap(), written);
    let nowhere = KeyRing::create(&folder.path().join("missing/ring"), jiff::Timestamp::UNIX_EPOCH).err().unwrap();
    assert!(nowhere.to_string().contains("cannot be written"), "{nowhere}");

    // The file is the ring: what the one sealed, the other opens.
    let (environment, account) = (EnvironmentId::generate(), AccountId::generate());
    let vault = |ring| Vault::new(std::sync::Arc::new(arc_swap::ArcSwap::from_pointee(ring)));
    let (_, wrapped) = vault(ring).new_data_key(environment, account);
    assert!(vault(KeyRing::load(&path).unwrap()).data_key(environment, account, &wrapped).is_ok());
}

#[test]
fn the_primary_writes_and_all_read() {
    let (_folder, path) = place();
    let (environment, account) = (EnvironmentId::generate(), AccountId::generate());
    write(&path, text("k1", &[("k1", key(1))]));
    let shared = std::sync::Arc::new(arc_swap::ArcSwap::from_pointee(KeyRing::load(&path).unwrap()));
    let vault = Vault::new(shared.clone());
    let (_, old) = vault.new_data_key(environment, account);
    // Replaced while the vault runs.
    write(&path, text("k2", &[("k1", key(1)), ("k2", key(2))]));
    shared.store(std::sync::Arc::new(KeyRing::load(&path).unwrap()));
    let (_, new) = vault.new_data_key(environment, account);
    assert_eq!((rollcall::vault::wrapping_key_id(&old), rollcall::vault::wrapping_key_id(&new)), (Some("k1"), Some("k2")));
    assert!(vault.data_key(environment, account, &old).is_ok());
    assert!(vault.data_key(environment, account, &new).is_ok());
    write(&path, text("k2", &[("k2", key(2))]));
    shared.store(std::sync::Arc::new(KeyRing::load(&path).unwrap()));
    assert_eq!(vault.data_key(environment, account, &old).err().unwrap().to_string(), "the key ring has no key `k1`");
    // Another key under the same id is not the key.
    write(&path, text("k1", &[("k1", key(3))]));
    shared.store(std::sync::Arc::new(KeyRing::load(&path).unwrap()));
    assert_eq!(vault.data_key(environment, account, &old).err(), Some(rollcall::vault::OpenError::Refused));
}

#[test]
fn a_changed_file_is_seen_once() {
    let (_folder, path) = place();
    let mut stamp = FileStamp::default();
    assert!(KeyRing::reload_if_changed(&path, &mut stamp).is_err());
    assert!(KeyRing::reload_if_changed(&path, &mut stamp).unwrap().is_none(), "said once");
    write(&path, text("k1", &[("k1", key(1))]));
    let modified = fs::metadata(&path).unwrap().modified().unwrap();
    assert_eq!(KeyRing::reload_if_changed(&path, &mut stamp).unwrap().unwrap().primary_id(), "k1");
    assert!(KeyRing::reload_if_changed(&path, &mut stamp).unwrap().is_none());
    // The same length and the same time stamp, and still another ring.
    write(&path, text("k2", &[("k2", key(2))]));
    fs::File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
    assert_eq!(KeyRing::reload_if_changed(&path, &mut stamp).unwrap().unwrap().primary_id(), "k2");
    // A bad file is said once; making it good again is a change.
    write(&path, "half a fi");
    assert!(KeyRing::reload_if_changed(&path, &mut stamp).err().unwrap().to_string().contains("is not JSON"));
    assert!(KeyRing::reload_if_changed(&path, &mut stamp).unwrap().is_none());
    write(&path, text("k2", &[("k2", key(2))]));
    assert_eq!(KeyRing::reload_if_changed(&path, &mut stamp).unwrap().unwrap().primary_id(), "k2");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(KeyRing::reload_if_changed(&path, &mut stamp).err().unwrap().to_string().contains("chmod 600"));
}

#[test]
fn a_file_may_be_as_large_as_it_says() {
    let (_folder, path) = place();
    // The padding comes first, so that a byte too few would be one of the ring's own.
    let ring = text("k1", &(1..20).map(|n| (if n == 1 { "k1" } else { NAMES[n] }, key(n as u8))).collect::<Vec<_>>());
    let padded = |length: usize| format!("{}{ring}", " ".repeat(length - ring.len()));
    assert!(ring.len() > 1_500);
    write(&path, padded(256 * 1024));
    assert_eq!(KeyRing::load(&path).unwrap().ids().count(), 19);
    write(&path, padded(256 * 1024 + 1));
    refused(&path, "is larger than 262144 bytes");
}

const NAMES: [&str; 20] = [
    "", "", "k2", "k3", "k4", "k5", "k6", "k7", "k8", "k9", "k10", "k11", "k12", "k13", "k14", "k15", "k16", "k17", "k18", "k19",
];

/// Fourteen bytes that differ are what a random key has at the very least.
#[test]
fn v_06_a_key_that_repeats_itself_is_told_by_its_bytes() {
    let (_folder, path) = place();
    let of = |different: usize| -> [u8; 32] { std::array::from_fn(|at| GOOD[at % different]) };
    write(&path, text("k1", &[("k1", of(14))]));
    assert!(KeyRing::load(&path).is_ok());
    write(&path, text("k1", &[("k1", of(13))]));
    refused(&path, "repeats itself");
}

/// A key file beside the program has no folder in its name. Tried in a child, because it is about the working folder.
#[test]
fn a_new_ring_may_lie_in_the_working_folder() {
    const CHILD: &str = "ROLLCALL_TEST_RING_CHILD";
    if std::env::var_os(CHILD).is_some() {
        KeyRing::create(Path::new("bare.keys"), jiff::Timestamp::UNIX_EPOCH).unwrap();
        return;
    }
    let folder = TempDir::new().unwrap();
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "vault::ring::a_new_ring_may_lie_in_the_working_folder"])
        .current_dir(folder.path())
        .env(CHILD, "1")
        .output()
        .unwrap();
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stderr));
    assert!(KeyRing::load(&folder.path().join("bare.keys")).is_ok());
}
