//! V-03 at the vault: what is sealed opens in its own place only, and only unchanged.

use std::collections::BTreeMap;

use proptest::prelude::*;
use rollcall::{
    model::{AccountId, EnvironmentId, Slug},
    vault::{DataKey, OpenError, Place, Vault, wrapping_key_id},
};
use uuid::Uuid;

fn environment(n: u128) -> EnvironmentId {
    EnvironmentId(Uuid::from_u128(n))
}

fn account(n: u128) -> AccountId {
    AccountId(Uuid::from_u128(n))
}

fn slug(text: &str) -> Slug {
    text.parse().unwrap()
}

/// The owned form of a place, so that tests can change one part of it.
#[derive(Clone)]
struct Spot {
    environment: EnvironmentId,
    account: AccountId,
    connector: Slug,
    method: String,
    field: String,
    fields: BTreeMap<String, String>,
    origins: Vec<String>,
    generation: u64,
}

impl Spot {
    fn new() -> Self {
        Spot {
            environment: environment(1),
            account: account(2),
            connector: slug("vendor"),
            method: "service_mode".into(),
            field: "api_key".into(),
            fields: [("company_id".to_owned(), "3861".to_owned()), ("header_name".to_owned(), "x-key".to_owned())].into(),
            origins: vec!["https://a.example".into(), "https://b.example/base".into()],
            generation: 7,
        }
    }

    fn place(&self) -> Place<'_> {
        Place {
            environment: self.environment,
            account: self.account,
            connector: &self.connector,
            method: &self.method,
            field: &self.field,
            fields: &self.fields,
            origins: &self.origins,
            generation: self.generation,
        }
    }

    fn with(&self, change: impl FnOnce(&mut Spot)) -> Spot {
        let mut other = self.clone();
        change(&mut other);
        other
    }

    /// Every other place a stored value could be moved to, one part changed at a time, and parts that only run together alike.
    fn elsewhere(&self) -> Vec<(&'static str, Spot)> {
        vec![
            ("environment", self.with(|s| s.environment = environment(9))),
            ("account", self.with(|s| s.account = account(9))),
            ("ids exchanged", self.with(|s| (s.environment, s.account) = (environment(2), account(1)))),
            ("connector", self.with(|s| s.connector = slug("other"))),
            ("method", self.with(|s| s.method = "scim".into())),
            ("field", self.with(|s| s.field = "encryption_key".into())),
            ("method and field run together", self.with(|s| (s.method, s.field) = ("service_modea".into(), "pi_key".into()))),
            (
                "connector and method run together",
                self.with(|s| (s.connector, s.method) = (slug("vendors"), "ervice_mode".into())),
            ),
            ("a field's value", self.with(|s| s.fields.insert("company_id".into(), "3862".into()).map_or((), drop))),
            ("a field's name", self.with(|s| s.fields = s.fields.iter().map(|(n, v)| (format!("{n}_"), v.clone())).collect())),
            ("a field less", self.with(|s| s.fields.remove("company_id").map_or((), drop))),
            ("a field more", self.with(|s| s.fields.insert("a".into(), String::new()).map_or((), drop))),
            (
                "fields and origins exchanged",
                self.with(|s| s.origins = s.fields.clone().into_iter().flat_map(|(n, v)| [n, v]).collect()),
            ),
            ("origin", self.with(|s| s.origins[0] = "https://evil.example".into())),
            ("origin added", self.with(|s| s.origins.push("https://evil.example".into()))),
            ("origin removed", self.with(|s| s.origins.truncate(1))),
            ("no origin", self.with(|s| s.origins.clear())),
            ("origins exchanged", self.with(|s| s.origins.reverse())),
            ("origins run together", self.with(|s| s.origins = vec![s.origins.concat()])),
            ("older generation", self.with(|s| s.generation -= 1)),
            ("newer generation", self.with(|s| s.generation += 1)),
        ]
    }
}

fn open(key: &DataKey, spot: &Spot, sealed: &[u8]) -> Result<Vec<u8>, OpenError> {
    key.open(spot.place(), sealed).map(|plain| plain.to_vec())
}

#[test]
fn v_03_ciphertext_is_bound_to_its_place() {
    let vault = super::vault();
    let spot = Spot::new();
    let (key, _) = vault.new_data_key(spot.environment, spot.account);
    let sealed = key.seal(spot.place(), b"secret");
    assert_eq!(open(&key, &spot, &sealed), Ok(b"secret".to_vec()));
    for (what, other) in spot.elsewhere() {
        assert_eq!(open(&key, &other, &sealed), Err(OpenError::Refused), "{what}");
        let moved = key.seal(other.place(), b"theirs");
        assert_eq!(open(&key, &spot, &moved), Err(OpenError::Refused), "{what}, the other way");
    }
}

#[test]
fn v_03_data_keys_are_bound_to_their_account() {
    let vault = super::vault();
    let (_, wrapped) = vault.new_data_key(environment(1), account(2));
    assert!(vault.data_key(environment(1), account(2), &wrapped).is_ok());
    for (e, a) in [(1, 3), (3, 2), (2, 1)] {
        assert_eq!(vault.data_key(environment(e), account(a), &wrapped).err(), Some(OpenError::Refused));
    }
    // A whole record of another account: its key does not unwrap here, and under our key its fields do not open.
    let spot = Spot::new();
    let other = spot.with(|s| s.account = account(3));
    let (ours, _) = vault.new_data_key(spot.environment, spot.account);
    let (theirs, _) = vault.new_data_key(other.environment, other.account);
    assert_eq!(open(&ours, &spot, &theirs.seal(other.place(), b"x")), Err(OpenError::Refused));
    assert_eq!(open(&ours, &spot, &theirs.seal(spot.place(), b"x")), Err(OpenError::Refused));
    // Neither form passes for the other.
    assert!(open(&ours, &spot, &wrapped).is_err());
    assert!(vault.data_key(spot.environment, spot.account, &ours.seal(spot.place(), &[7; 32])).is_err());
}

/// Every change of one byte (all 255 of them in the long form) and every cut of a value, refused by `check`.
fn damage(value: &[u8], check: impl Fn(&[u8]) -> bool) -> usize {
    let changes: &[u8] = if crate::support::long() { &[1, 2, 4, 8, 16, 32, 64, 128, 255] } else { &[1, 128] };
    let mut tried = 0;
    for at in 0..value.len() {
        for change in changes {
            let mut damaged = value.to_vec();
            damaged[at] ^= change;
            assert!(check(&damaged), "byte {at} xor {change} was taken");
            tried += 1;
        }
        assert!(check(&value[..at]), "the first {at} bytes were taken");
        assert!(check(&value[at + 1..]), "the bytes after {at} were taken");
        tried += 2;
    }
    assert!(check(&[value, b"\0"].concat()), "a longer value was taken");
    tried + 1
}

#[test]
fn v_03_every_flipped_byte_and_cut_is_refused() {
    let vault = super::vault();
    let mut tried = 0;
    for n in 0..200u128 {
        let spot = Spot::new().with(|s| (s.account, s.generation) = (account(n), n as u64));
        let (key, wrapped) = vault.new_data_key(spot.environment, spot.account);
        let plain = vec![n as u8; (n % 40) as usize];
        let sealed = key.seal(spot.place(), &plain);
        assert_eq!(open(&key, &spot, &sealed), Ok(plain));
        tried += damage(&sealed, |damaged| key.open(spot.place(), damaged).is_err());
        tried += damage(&wrapped, |damaged| vault.data_key(spot.environment, spot.account, damaged).is_err());
    }
    assert!(tried > 50_000, "{tried}");
}

#[test]
fn v_03_sealing_twice_shows_nothing() {
    let vault = super::vault();
    let spot = Spot::new();
    let (key, wrapped) = vault.new_data_key(spot.environment, spot.account);
    let (first, second) = (key.seal(spot.place(), &[0x41; 64]), key.seal(spot.place(), &[0x41; 64]));
    assert_ne!(first, second);
    assert!(!first.windows(4).any(|w| w == [0x41; 4]));
    assert_eq!(first.len(), 1 + 12 + 64 + 16);
    assert_eq!((wrapped[0], wrapped[1], &wrapped[2..4]), (1, 2, b"k1".as_slice()));
    assert_eq!(wrapping_key_id(&wrapped), Some("k1"));
}

#[test]
fn an_unknown_version_or_key_is_said_so() {
    let vault = super::vault();
    let (key, mut wrapped) = vault.new_data_key(environment(1), account(2));
    wrapped[3] = b'9';
    assert_eq!(vault.data_key(environment(1), account(2), &wrapped).err(), Some(OpenError::UnknownKey("k9".into())));
    wrapped[0] = 2;
    assert_eq!(vault.data_key(environment(1), account(2), &wrapped).err(), Some(OpenError::Damaged));
    let spot = Spot::new();
    let mut sealed = key.seal(spot.place(), b"x");
    sealed[0] = 2;
    assert_eq!(open(&key, &spot, &sealed), Err(OpenError::Damaged));
}

#[test]
fn the_key_of_a_wrapped_value_is_read_only_where_one_can_be() {
    let (_, wrapped) = super::vault().new_data_key(environment(1), account(2));
    let head = 2 + "k1".len();
    // A nonce and a tag are the least that can follow.
    assert_eq!(wrapping_key_id(&wrapped[..head + 28]), Some("k1"));
    assert_eq!(wrapping_key_id(&wrapped[..head + 27]), None);
    let mut misnamed = wrapped;
    misnamed[3] = b'/';
    assert_eq!(wrapping_key_id(&misnamed), None);
}

/// One vault and key for all cases of a property: making a ring means writing a file.
fn shared() -> &'static (Vault, DataKey) {
    static SHARED: std::sync::OnceLock<(Vault, DataKey)> = std::sync::OnceLock::new();
    SHARED.get_or_init(|| {
        let vault = super::vault();
        let (key, _) = vault.new_data_key(environment(1), account(2));
        (vault, key)
    })
}

proptest! {
    #[test]
    fn decoding_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let (vault, key) = shared();
        prop_assert!(vault.data_key(environment(1), account(2), &bytes).is_err());
        prop_assert!(open(key, &Spot::new(), &bytes).is_err());
        let _ = wrapping_key_id(&bytes);
    }

    #[test]
    fn decoding_never_panics_behind_a_good_start(length in 0u8..70, bytes in prop::collection::vec(any::<u8>(), 0..120)) {
        let (vault, key) = shared();
        let wrapped = [&[1, length][..], b"k1", &bytes].concat();
        prop_assert!(vault.data_key(environment(1), account(2), &wrapped).is_err());
        prop_assert!(open(key, &Spot::new(), &[&[1][..], &bytes].concat()).is_err());
    }

    #[test]
    fn what_is_sealed_opens(plain in prop::collection::vec(any::<u8>(), 0..2000), generation in any::<u64>(), field in "\\PC{0,40}") {
        let (_, key) = shared();
        let spot = Spot::new().with(|s| (s.generation, s.field) = (generation, field));
        prop_assert_eq!(open(key, &spot, &key.seal(spot.place(), &plain)), Ok(plain));
    }

    #[test]
    fn two_places_are_never_one(a in "[a-c]{0,3}", b in "[a-c]{0,3}", c in "[a-c]{0,3}", d in "[a-c]{0,3}",
                                o in prop::collection::vec("[a-c]{0,2}", 0..3), p in prop::collection::vec("[a-c]{0,2}", 0..3)) {
        let (_, key) = shared();
        let one = Spot::new().with(|s| (s.method, s.field, s.origins) = (a.clone(), b.clone(), o.clone()));
        let two = Spot::new().with(|s| (s.method, s.field, s.origins) = (c.clone(), d.clone(), p.clone()));
        let same = (a, b, o) == (c, d, p);
        prop_assert_eq!(open(key, &two, &key.seal(one.place(), b"x")).is_ok(), same);
    }
}
