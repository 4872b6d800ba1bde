//! V-10, and the vault's part of V-04: changes of the ring's file, wrapping anew, and data keys that take each other's place.

use std::{
    collections::{BTreeMap, HashSet},
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
    sync::Arc,
    thread,
};

use arc_swap::ArcSwap;
use jiff::Timestamp;
use rollcall::{
    model::{AccountId, EnvironmentId, Slug},
    vault::{DataKey, KeyRing, OpenError, Place, SystemKeys, SystemKeysError, Vault, wrapping_key_id},
};
use tempfile::TempDir;

use super::ring::{key, text, write};
use crate::support::long;

const NOW: &str = "2026-11-21T10:20:30.5Z";

fn place_of_ring() -> (TempDir, PathBuf) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("rollcall-data.keys");
    KeyRing::create(&path, Timestamp::UNIX_EPOCH).unwrap();
    (folder, path)
}

fn now() -> Timestamp {
    NOW.parse().unwrap()
}

fn ids(path: &Path) -> Vec<String> {
    KeyRing::load(path).unwrap().ids().map(str::to_owned).collect()
}

#[track_caller]
fn refused<T>(outcome: Result<T, impl std::fmt::Display>, part: &str) {
    let message = outcome.err().map(|error| error.to_string()).unwrap_or_else(|| panic!("taken: {part}"));
    assert!(message.contains(part), "`{message}` does not say `{part}`");
}

#[test]
fn v_04_keys_come_and_go() {
    let (folder, path) = place_of_ring();
    assert_eq!(KeyRing::add_key(&path, None, now()).unwrap(), "k2");
    assert_eq!(ids(&path), ["k1", "k2"], "a new key only reads");
    let ring = KeyRing::load(&path).unwrap();
    assert_eq!(ring.created_at("k1"), Some(Timestamp::UNIX_EPOCH));
    assert_eq!(ring.created_at("k2"), Some("2026-11-21T10:20:30Z".parse().unwrap()));
    assert_eq!(ring.created_at("k3"), None);
    KeyRing::promote_key(&path, "k2").unwrap();
    assert_eq!(ids(&path), ["k2", "k1"]);
    refused(KeyRing::retire_key(&path, "k2"), "has `k2` as its primary key, which is never retired");
    KeyRing::retire_key(&path, "k1").unwrap();
    assert_eq!(ids(&path), ["k2"]);
    assert_eq!(KeyRing::add_key(&path, None, now()).unwrap(), "k3", "no number comes again");
    assert_eq!(KeyRing::add_key(&path, Some("spring-2027"), now()).unwrap(), "spring-2027");
    for (id, part) in [("k3", "has a key `k3` already"), ("", "takes as a key's id"), ("a b", "takes as a key's id")] {
        refused(KeyRing::add_key(&path, Some(id), now()), part);
    }
    refused(KeyRing::promote_key(&path, "k9"), "has no key `k9`; its keys are: k2, k3, spring-2027");
    refused(KeyRing::retire_key(&path, "k9"), "has no key `k9`");
    let about = fs::metadata(&path).unwrap();
    assert_eq!(about.permissions().mode() & 0o777, 0o600);
    let left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["rollcall-data.keys"], "nothing is left behind");
}

#[test]
fn v_04_a_change_keeps_every_key_and_the_files_mode_and_owner() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("ring");
    let many: Vec<(String, [u8; 32])> = (1..=20).map(|number| (format!("k{number}"), key(number))).collect();
    let named: Vec<(&str, [u8; 32])> = many.iter().map(|(id, key)| (id.as_str(), *key)).collect();
    write(&path, text("k7", &named));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
    let before = fs::metadata(&path).unwrap();
    let keys = |path: &Path| -> BTreeMap<String, String> {
        let file: serde_json::Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
        let keys = file["keys"].as_array().unwrap().iter();
        keys.map(|key| (key["id"].as_str().unwrap().to_owned(), key["key"].as_str().unwrap().to_owned())).collect()
    };
    let had = keys(&path);
    assert_eq!(KeyRing::add_key(&path, None, now()).unwrap(), "k21");
    KeyRing::promote_key(&path, "k21").unwrap();
    let mut has = keys(&path);
    assert_eq!((has.len(), has.remove("k21").map(|key| key.len())), (21, Some(44)));
    assert_eq!(has, had);
    let after = fs::metadata(&path).unwrap();
    assert_eq!((after.mode(), after.uid(), after.gid()), (before.mode(), before.uid(), before.gid()));
}

#[test]
fn v_04_what_is_no_safe_ring_is_not_changed() {
    let (folder, path) = place_of_ring();
    let whole = fs::read(&path).unwrap();
    let link = folder.path().join("link");
    symlink(&path, &link).unwrap();
    refused(KeyRing::add_key(&link, None, now()), "is a symbolic link");
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    refused(KeyRing::add_key(&folder.path().join("missing"), None, now()), "does not exist");
    refused(KeyRing::add_key(folder.path(), None, now()), "is not a regular file");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    refused(KeyRing::add_key(&path, None, now()), "chmod 600");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(fs::read(&path).unwrap(), whole);
    // What a command that was cut off left is not in the way, and is not followed either.
    let other = folder.path().join("other");
    fs::write(&other, "of somebody else").unwrap();
    symlink(&other, folder.path().join(".rollcall-data.keys.new")).unwrap();
    KeyRing::add_key(&path, None, now()).unwrap();
    assert_eq!((ids(&path).len(), fs::read_to_string(&other).unwrap()), (2, "of somebody else".to_owned()));
    write(&path, "half a fi");
    refused(KeyRing::add_key(&path, None, now()), "is not JSON");
    assert_eq!(fs::read_to_string(&path).unwrap(), "half a fi");
}

#[test]
fn v_04_a_ring_grows_no_larger_than_what_is_read() {
    let (_folder, path) = place_of_ring();
    let keys: Vec<_> =
        (2..3000).map(|number| (format!("a-rather-long-name-of-a-key-{number:020}"), key((number % 250) as u8))).collect();
    let named: Vec<(&str, [u8; 32])> = keys.iter().map(|(id, key)| (id.as_str(), *key)).collect();
    let length = |count: usize| text(named[0].0, &named[..count]).len();
    let each = length(2) - length(1);
    let most = (256 * 1024 - 100 - length(1)) / each;
    write(&path, text(named[0].0, &named[..most]));
    refused(KeyRing::add_key(&path, None, now()), "would be larger than 262144 bytes");
    assert_eq!(ids(&path).len(), most);
}

#[test]
fn v_04_changes_at_the_same_time_lose_nothing() {
    let (_folder, path) = place_of_ring();
    let threads: Vec<_> = (0..6)
        .map(|thread| {
            let path = path.clone();
            thread::spawn(move || {
                for number in 0..5 {
                    KeyRing::add_key(&path, Some(&format!("t{thread}-{number}")), now()).unwrap();
                    assert!(KeyRing::load(&path).is_ok(), "a reader never finds half a ring");
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(ids(&path).len(), 31);
}

struct Stand {
    ring: Arc<ArcSwap<KeyRing>>,
    vault: Vault,
    path: PathBuf,
    _folder: TempDir,
}

impl Stand {
    fn new() -> Stand {
        let (folder, path) = place_of_ring();
        let ring = Arc::new(ArcSwap::from_pointee(KeyRing::load(&path).unwrap()));
        Stand { vault: Vault::new(ring.clone()), ring, path, _folder: folder }
    }

    fn read(&self) {
        self.ring.store(Arc::new(KeyRing::load(&self.path).unwrap()));
    }
}

fn seal(key: &DataKey, (environment, account): (EnvironmentId, AccountId), plain: &[u8]) -> Vec<u8> {
    at(environment, account, |place| key.seal(place, plain))
}

fn open(key: &DataKey, (environment, account): (EnvironmentId, AccountId), sealed: &[u8]) -> Result<Vec<u8>, OpenError> {
    at(environment, account, |place| key.open(place, sealed)).map(|plain| plain.to_vec())
}

fn at<T>(environment: EnvironmentId, account: AccountId, work: impl FnOnce(Place<'_>) -> T) -> T {
    let connector: Slug = "vendor".parse().unwrap();
    let (fields, origins) = (BTreeMap::new(), Vec::new());
    let (connector, fields, origins) = (&connector, &fields, &origins);
    work(Place { environment, account, connector, method: "m", field: "f", fields, origins, generation: 1 })
}

#[test]
fn v_04_a_data_key_is_wrapped_anew_and_stays_itself() {
    let stand = Stand::new();
    let place = (EnvironmentId::generate(), AccountId::generate());
    let (key, wrapped) = stand.vault.new_data_key(place.0, place.1);
    let sealed = seal(&key, place, b"secret");
    assert_eq!(stand.vault.rewrap(place.0, place.1, &wrapped), Ok(None), "it is under the primary already");
    KeyRing::add_key(&stand.path, None, now()).unwrap();
    stand.read();
    assert_eq!(stand.vault.rewrap(place.0, place.1, &wrapped), Ok(None), "a key that only reads wraps nothing");
    KeyRing::promote_key(&stand.path, "k2").unwrap();
    stand.read();
    let anew = stand.vault.rewrap(place.0, place.1, &wrapped).unwrap().unwrap();
    assert_eq!((wrapping_key_id(&wrapped), wrapping_key_id(&anew)), (Some("k1"), Some("k2")));
    assert_eq!(stand.vault.rewrap(place.0, AccountId::generate(), &wrapped), Err(OpenError::Refused), "bound to its account");
    assert_eq!(stand.vault.rewrap(place.0, place.1, &wrapped[..20]), Err(OpenError::Damaged));
    KeyRing::retire_key(&stand.path, "k1").unwrap();
    stand.read();
    let key = stand.vault.data_key(place.0, place.1, &anew).unwrap();
    assert_eq!(open(&key, place, &sealed), Ok(b"secret".to_vec()));
    assert_eq!(stand.vault.rewrap(place.0, place.1, &wrapped), Err(OpenError::UnknownKey("k1".into())));
    assert_eq!(stand.vault.ring().primary_id(), "k2");
}

#[test]
fn v_04_system_keys_are_sealed_anew_whatever_they_hold() {
    let stand = Stand::new();
    let (keys, sealed) = SystemKeys::generate(&stand.ring.load());
    assert_eq!(SystemKeys::reseal(&stand.ring.load(), &sealed), Ok(None));
    KeyRing::add_key(&stand.path, None, now()).unwrap();
    KeyRing::promote_key(&stand.path, "k2").unwrap();
    stand.read();
    let anew = SystemKeys::reseal(&stand.ring.load(), &sealed).unwrap().unwrap();
    assert_eq!((SystemKeys::sealed_by(&anew), anew.len()), (Some("k2"), sealed.len()));
    KeyRing::retire_key(&stand.path, "k1").unwrap();
    stand.read();
    let opened = SystemKeys::open(&stand.ring.load(), &anew).unwrap();
    assert_eq!(opened.token_hash(b"t"), keys.token_hash(b"t"));
    let lost = SystemKeys::reseal(&stand.ring.load(), &sealed);
    assert_eq!(lost, Err(SystemKeysError::WrongRing(OpenError::UnknownKey("k1".into()))));
    assert_eq!(SystemKeys::reseal(&stand.ring.load(), &[]), Err(SystemKeysError::Damaged));
}

#[test]
fn a_new_data_key_opens_what_those_before_it_sealed() {
    let stand = Stand::new();
    let place = (EnvironmentId::generate(), AccountId::generate());
    let (first, _) = stand.vault.new_data_key(place.0, place.1);
    let mut sealed = vec![seal(&first, place, b"0")];
    let (mut key, mut stored) = (first, None);
    for number in 1..=5 {
        let new = stand.vault.replace_data_key(place.0, place.1, &key);
        assert!(open(&key, place, &seal(&new.key, place, b"new")).is_err(), "the old key does not open what the new one seals");
        key = new.key;
        sealed.push(seal(&key, place, format!("{number}").as_bytes()));
        stored = Some((new.wrapped, new.former));
    }
    let (wrapped, former) = stored.unwrap();
    let read = stand.vault.data_key_with(place.0, place.1, &wrapped, Some(&former)).unwrap();
    for key in [&key, &read] {
        let opened: Vec<bool> = sealed.iter().map(|sealed| open(key, place, sealed).is_ok()).collect();
        assert_eq!(opened, [false, true, true, true, true, true], "four before the present one");
    }
    assert_eq!(open(&read, place, &sealed[2]), Ok(b"2".to_vec()));
    assert_eq!(open(&read, (place.0, AccountId::generate()), &sealed[2]), Err(OpenError::Refused), "bound to its place");
    let mut cut = former.clone();
    cut[20] ^= 1;
    for former in [None, Some(&cut[..]), Some(&[][..])] {
        let alone = stand.vault.data_key_with(place.0, place.1, &wrapped, former).unwrap();
        assert!(open(&alone, place, &sealed[5]).is_ok() && open(&alone, place, &sealed[4]).is_err());
    }
    // The keys before belong to their account.
    let other = AccountId::generate();
    let (_, theirs) = stand.vault.new_data_key(place.0, other);
    let foreign = stand.vault.data_key_with(place.0, other, &theirs, Some(&former)).unwrap();
    assert!(open(&foreign, place, &sealed[4]).is_err());
}

#[test]
fn v_10_what_is_sealed_is_counted_for_each_account() {
    let stand = Stand::new();
    let (one, two) = ((EnvironmentId::generate(), AccountId::generate()), (EnvironmentId::generate(), AccountId::generate()));
    let (key, wrapped) = stand.vault.new_data_key(one.0, one.1);
    let copy = stand.vault.data_key(one.0, one.1, &wrapped).unwrap();
    let (other, _) = stand.vault.new_data_key(two.0, two.1);
    assert!(stand.vault.take_seals(0).is_empty());
    for _ in 0..3 {
        seal(&key, one, b"x");
    }
    seal(&copy, one, b"x");
    seal(&other, two, b"x");
    let sealed = seal(&key, one, b"x");
    open(&key, one, &sealed).unwrap();
    assert!(stand.vault.take_seals(6).is_empty());
    assert_eq!(stand.vault.take_seals(5), [(one.0, one.1, 5)]);
    assert!(stand.vault.take_seals(5).is_empty(), "each is taken once");
    drop(other);
    assert_eq!(stand.vault.take_seals(5), [(two.0, two.1, 1)], "what is gone from memory is taken however small");
    seal(&copy, one, b"x");
    drop((key, copy));
    assert_eq!(stand.vault.take_seals(5), [(one.0, one.1, 1)]);
    assert!(stand.vault.take_seals(0).is_empty());
}

#[test]
fn v_10_no_nonce_comes_again() {
    let stand = Stand::new();
    let place = (EnvironmentId::generate(), AccountId::generate());
    let (key, _) = stand.vault.new_data_key(place.0, place.1);
    let many = if long() { 1_000_000 } else { 100_000 };
    let mut nonces: HashSet<[u8; 12]> = HashSet::with_capacity(many);
    at(place.0, place.1, |place| {
        for _ in 0..many {
            let sealed = key.seal(place, b"x");
            assert!(nonces.insert(sealed[1..13].try_into().unwrap()), "a nonce for the second time");
        }
    });
    assert_eq!((nonces.len(), stand.vault.take_seals(0)), (many, vec![(place.0, place.1, many as u64)]));
}
