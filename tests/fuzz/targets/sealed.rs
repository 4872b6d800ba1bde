//! Sealed bytes: cursors and envelopes. The keys are made anew in each process, so nothing in a corpus was sealed by them.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, Mutex, OnceLock},
};

use arc_swap::ArcSwap;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use rollcall::{
    connector::Catalog,
    model::{Account, AccountId, EnvironmentId},
    service::{
        Linked, PlatformCursors,
        cursor::{Cursor, Cursors, MAX_LOST, Position},
    },
    upstream::Access,
    vault::{DataKey, KeyRing, Place, SealMark, SystemKeys, Vault, wrapping_key_id},
};
use uuid::Uuid;

/// One account with its keys.
pub struct Stand {
    pub linked: Linked,
    keys: Arc<SystemKeys>,
    platform: PlatformCursors,
    vault: Vault,
    wrapped: Vec<u8>,
}

const ENVIRONMENT: EnvironmentId = EnvironmentId(Uuid::from_u128(1));
const ACCOUNT: AccountId = AccountId(Uuid::from_u128(2));

/// The files of a connector that is in order.
pub fn starter() -> BTreeMap<String, Vec<u8>> {
    macro_rules! files {
        ($($name:literal),*) => { [$(($name, &include_bytes!(concat!("../../../connectors/_template/", $name))[..])),*] };
    }
    let files = files!["connector.yaml", "groups.yaml", "guide.md", "icon.svg", "users.yaml"];
    files.into_iter().map(|(name, bytes)| (name.to_owned(), bytes.to_vec())).collect()
}

/// Made once: a ring is a file.
pub fn stand() -> &'static Stand {
    static STAND: OnceLock<Stand> = OnceLock::new();
    STAND.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a folder");
        let ring = KeyRing::create(&folder.path().join("ring.keys"), jiff::Timestamp::UNIX_EPOCH).expect("a ring");
        let (keys, _) = SystemKeys::generate(&ring);
        let keys = Arc::new(keys);
        let vault = Vault::new(Arc::new(ArcSwap::from_pointee(ring)));
        let (data_key, wrapped) = vault.new_data_key(ENVIRONMENT, ACCOUNT);
        let platform = PlatformCursors::new(Arc::clone(&keys));
        Stand { linked: linked(data_key), keys, platform, vault, wrapped }
    })
}

fn linked(data_key: DataKey) -> Linked {
    let catalog = Catalog::of_files("my-vendor", starter());
    let connector = Arc::clone(catalog.get("my-vendor").expect("the starter folder is in order"));
    let method = Arc::clone(connector.method("api_key").expect("its way to connect"));
    let given =
        [("url", "https://vendor.example"), ("api_key", "secret")].map(|(name, value)| (name.to_owned(), value.to_owned()));
    let resolved = method.resolve(&given.into(), &|_| false).expect("fields in order");
    let begun = jiff::Timestamp::UNIX_EPOCH;
    let account = Account {
        id: ACCOUNT,
        tenant_id: "acme".to_owned(),
        origins: resolved.origins.clone(),
        fields: resolved.fields.clone(),
        ..Account::draft(ENVIRONMENT, connector.slug.clone(), method.name.clone(), begun)
    };
    let access = Access::new(ACCOUNT, ENVIRONMENT, connector, method, 1, resolved, Default::default());
    let access = Arc::new(access.unwrap_or_else(|problem| panic!("{}", problem.message)));
    Linked { account, version: 1, access, data_key }
}

/// 0: a cursor's text as it comes, 1: what is sealed in one, 2: where a list of our own goes on, 3: a good cursor that is
/// changed (place, change).
pub fn cursor(data: &[u8]) -> bool {
    let stand = stand();
    let (way, rest) = super::split(data);
    match way % 4 {
        0 => {
            let Ok(text) = std::str::from_utf8(rest) else { return false };
            assert!(cursors("users", 7).open(text).is_err(), "{text:?} was never sealed");
            assert!(stand.platform.open::<String>(ENVIRONMENT, "accounts", text).is_err(), "{text:?} was never sealed");
            false
        }
        1 => sealed_cursor(rest),
        2 => {
            let Ok(after) = std::str::from_utf8(rest) else { return false };
            let text = stand.platform.seal(ENVIRONMENT, "accounts", after);
            let open = |environment, list| stand.platform.open::<String>(environment, list, &text).ok();
            assert_eq!(open(ENVIRONMENT, "accounts").as_deref(), Some(after));
            assert_eq!((open(ENVIRONMENT, "tokens"), open(EnvironmentId(Uuid::nil()), "accounts")), (None, None));
            assert!(cursors("users", 7).open(&text).is_err(), "taken for a cursor of records");
            true
        }
        _ => {
            let start = Cursor { at: Position::Start, seen: 1, first: None, previous: None, lost: vec![] };
            let text = cursors("users", 7).seal(start.clone()).expect("a cursor");
            let changed = change(text.as_bytes(), rest);
            let opened = std::str::from_utf8(&changed).ok().and_then(|changed| cursors("users", 7).open(changed).ok());
            assert_eq!(opened, (changed == text.as_bytes()).then_some(start));
            changed == text.as_bytes()
        }
    }
}

fn cursors(list: &str, query: u64) -> Cursors<'static> {
    Cursors::new(&stand().keys, &stand().linked, list, query, "2026-11-21T10:00:00Z".parse().expect("a moment"))
}

/// What another version of the gateway may have sealed under the same key.
fn sealed_cursor(plain: &[u8]) -> bool {
    let bound = format!("{ENVIRONMENT}|{ACCOUNT}|users");
    let text = BASE64_URL_SAFE_NO_PAD.encode(stand().keys.seal_for(SealMark::Cursor, &[bound.as_bytes()], plain));
    assert!(cursors("groups", 7).open(&text).is_err(), "opened by another list");
    let Ok(cursor) = cursors("users", 7).open(&text) else { return false };
    assert!(cursors("users", 8).open(&text).is_err(), "opened by another query");
    let again =
        cursors("users", 7).seal(cursor.clone()).and_then(|text| cursors("users", 7).open(&text)).expect("it opened before");
    let lost = cursor.lost.iter().take(MAX_LOST).cloned().collect();
    assert_eq!(again, Cursor { lost, ..cursor });
    true
}

/// 0: a wrapped data key, 1: a sealed field, 2: what is sealed, 3: a good field that is changed (place, change), 4: a good
/// wrapped key that is changed, 5: two places, split at the first line's end, by method, field and addresses.
pub fn envelope(data: &[u8]) -> bool {
    let stand = stand();
    let (way, rest) = super::split(data);
    let (key, fields) = (&stand.linked.data_key, BTreeMap::new());
    let place = |method, field, origins| Place {
        environment: ENVIRONMENT,
        account: ACCOUNT,
        connector: &stand.linked.account.connector,
        method,
        field,
        fields: &fields,
        origins,
        generation: 1,
    };
    let here = place("api_key", "token", &[]);
    match way % 6 {
        0 => {
            let opened = stand.vault.data_key(ENVIRONMENT, ACCOUNT, rest).is_ok();
            // A fuzzer that watches comparisons can come back with the one that was.
            assert_eq!(opened, rest == stand.wrapped, "a key that was never wrapped");
            let id = wrapping_key_id(rest);
            assert!(id.is_none_or(|id| rest[0] == 1 && usize::from(rest[1]) == id.len() && rest[2..].starts_with(id.as_bytes())));
            id.is_some()
        }
        1 => {
            let opened = key.open(here, rest).is_ok();
            assert!(!opened || sealed_here(|all| all.contains(rest)), "a field that was never sealed");
            opened
        }
        2 => {
            let sealed = key.seal(here, rest);
            assert_eq!(key.open(here, &sealed).as_ref().map(|plain| &plain[..]), Ok(rest));
            assert!(key.open(place("api_key", "other", &[]), &sealed).is_err());
            true
        }
        3 => {
            let sealed = key.seal(here, b"secret");
            sealed_here(|all| all.insert(sealed.clone()));
            let changed = change(&sealed, rest);
            assert_eq!(key.open(here, &changed).is_ok(), changed == sealed);
            changed == sealed
        }
        4 => {
            let changed = change(&stand.wrapped, rest);
            let opened = stand.vault.data_key(ENVIRONMENT, ACCOUNT, &changed);
            assert_eq!(opened.is_ok(), changed == stand.wrapped);
            opened.is_ok_and(|opened| opened.open(here, &key.seal(here, b"x")).is_ok())
        }
        _ => {
            let Ok(text) = std::str::from_utf8(rest) else { return false };
            let (one, two) = text.split_once('\n').unwrap_or((text, ""));
            let parts = |text: &str| text.split('|').map(str::to_owned).collect::<Vec<String>>();
            let (one, two) = (parts(one), parts(two));
            let part = |parts: &[String], at: usize| parts.get(at).cloned().unwrap_or_default();
            let [(m, f), (n, g)] = [&one, &two].map(|parts| (part(parts, 0), part(parts, 1)));
            let [o, p] = [&one, &two].map(|parts| parts.get(2..).unwrap_or_default());
            let opened = key.open(place(&n, &g, p), &key.seal(place(&m, &f, o), b"x"));
            assert_eq!(opened.is_ok(), (m, f, o) == (n, g, p), "{text:?}");
            opened.is_ok()
        }
    }
}

/// What was sealed in this run: a fuzzer that watches comparisons can come back with it.
fn sealed_here<T>(look: impl FnOnce(&mut HashSet<Vec<u8>>) -> T) -> T {
    static ALL: Mutex<Option<HashSet<Vec<u8>>>> = Mutex::new(None);
    look(ALL.lock().expect("nobody panics with it").get_or_insert_default())
}

/// Pairs of a place and a change, done to a good value one after another; a place behind the end cuts or lengthens it.
fn change(good: &[u8], changes: &[u8]) -> Vec<u8> {
    let mut changed = good.to_vec();
    for pair in changes.chunks_exact(2).take(64) {
        match changed.get_mut(usize::from(pair[0])) {
            Some(byte) => *byte ^= pair[1],
            None if pair[0] % 2 == 0 => changed.truncate(usize::from(pair[1])),
            None => changed.push(pair[1]),
        }
    }
    changed
}
