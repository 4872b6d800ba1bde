//! System keys: the ring they belong to, hashes of tokens, cursors, and G-07's comparison.

use std::{hint::black_box, path::Path, time::Instant};

use base64::{Engine, engine::general_purpose::STANDARD};
use proptest::prelude::*;
use rollcall::{
    model::{AccountId, EnvironmentId, Scopes},
    vault::{AccountPass, AuditMark, KeyRing, OpenError, RequestMark, SealMark, SystemKeys, SystemKeysError, same_secret},
};
use uuid::Uuid;

use super::ring::{key, text, write};

fn ring_of(folder: &Path, primary: &str, keys: &[(&str, [u8; 32])]) -> KeyRing {
    let path = folder.join("ring");
    write(&path, text(primary, keys));
    KeyRing::load(&path).unwrap()
}

#[test]
fn v_06_a_wrong_ring_is_told_from_a_damaged_store() {
    let folder = tempfile::TempDir::new().unwrap();
    let right = ring_of(folder.path(), "k1", &[("k1", key(1))]);
    let (_, sealed) = SystemKeys::generate(&right);
    assert!(SystemKeys::open(&right, &sealed).is_ok());

    let other = ring_of(folder.path(), "k1", &[("k1", key(2))]);
    let error = SystemKeys::open(&other, &sealed).err().unwrap();
    assert_eq!(error, SystemKeysError::WrongRing(OpenError::Refused));
    assert!(error.to_string().contains("give the ring the store was made with"), "{error}");
    let without = ring_of(folder.path(), "k2", &[("k2", key(1))]);
    assert_eq!(SystemKeys::open(&without, &sealed).err(), Some(SystemKeysError::WrongRing(OpenError::UnknownKey("k1".into()))));

    let mut damaged = sealed.clone();
    *damaged.last_mut().unwrap() ^= 1;
    assert_eq!(SystemKeys::open(&right, &damaged).err(), Some(SystemKeysError::Damaged));
    for at in 0..sealed.len() {
        let mut damaged = sealed.clone();
        damaged[at] ^= 1;
        assert!(SystemKeys::open(&right, &damaged).is_err(), "byte {at}");
        assert!(SystemKeys::open(&right, &sealed[..at]).is_err(), "cut at {at}");
    }
}

#[test]
fn system_keys_outlive_a_rotation() {
    let folder = tempfile::TempDir::new().unwrap();
    let old = ring_of(folder.path(), "k1", &[("k1", key(1))]);
    let (keys, sealed) = SystemKeys::generate(&old);
    let both = ring_of(folder.path(), "k2", &[("k1", key(1)), ("k2", key(2))]);
    let opened = SystemKeys::open(&both, &sealed).unwrap();
    let again = opened.seal(&both);
    assert_eq!((SystemKeys::sealed_by(&sealed), SystemKeys::sealed_by(&again)), (Some("k1"), Some("k2")));
    let new = ring_of(folder.path(), "k2", &[("k2", key(2))]);
    let last = SystemKeys::open(&new, &again).unwrap();
    assert_eq!(last.token_hash(b"secret"), keys.token_hash(b"secret"));
    assert_eq!(
        last.open_for(SealMark::Cursor, &[b"b"], &keys.seal_for(SealMark::Cursor, &[b"b"], b"page 2")),
        Ok(b"page 2".to_vec().into())
    );
}

/// A record of a release that knew no account tokens, made in another language: the key that is missing is made, the others stay.
#[test]
fn system_keys_of_an_earlier_release_open_and_are_completed() {
    let folder = tempfile::TempDir::new().unwrap();
    let ring = ring_of(folder.path(), "k1", &[("k1", key(1))]);
    let mut keys = SystemKeys::open(&ring, &STANDARD.decode(OF_TWO_KEYS).unwrap()).unwrap();
    assert_eq!(keys.token_hash(b"secret")[..8], [0xdd, 0x97, 0x74, 0xf1, 0x07, 0x70, 0x0f, 0x91]);
    let issued_at = "2027-01-15T08:00:00Z".parse().unwrap();
    let pass = AccountPass {
        account: AccountId(Uuid::from_u128(1)),
        made_at: None,
        environment: EnvironmentId(Uuid::from_u128(2)),
        made_with: Uuid::from_u128(3),
        scopes: Scopes::default(),
        issued_at,
        expires_at: "2027-01-15T08:15:00Z".parse().unwrap(),
    };
    assert!(keys.sign_account_token(&pass).is_err(), "nothing is signed by a key that is not stored");
    assert!(keys.complete(), "a key was missing");
    let token = keys.sign_account_token(&pass).unwrap();
    let mut again = SystemKeys::open(&ring, &keys.seal(&ring)).unwrap();
    assert!(!again.complete(), "none is missing any more");
    assert_eq!(again.open_account_token(token.expose(), issued_at), Some(pass));
    assert_eq!(again.token_hash(b"secret"), keys.token_hash(b"secret"));
    assert_eq!(
        again.open_for(SealMark::Cursor, &[b"b"], &keys.seal_for(SealMark::Cursor, &[b"b"], b"page 2")),
        Ok(b"page 2".to_vec().into())
    );
    assert!(!SystemKeys::generate(&ring).0.complete(), "a new installation has all");
}
pub(super) const OF_TWO_KEYS: &str = "AToB2zCW4f1ssnBEGHNEaccBAmsxAAECAwQFBgcICQoLsTT3rtl1pWgzFICUBAMSNSmhlbI5khxHI9Fm3O5oTNANgW7wD7P0vqnoq8STVpxAm0fF0\
    OYX8WJNVRCIY838ZNrjNSAYwFx67qfH2gpxkEE=";

#[test]
fn g_07_hashes_are_keyed() {
    let (ring, _folder) = super::ring();
    let ((one, _), (two, _)) = (SystemKeys::generate(&ring), SystemKeys::generate(&ring));
    assert_eq!(one.token_hash(b"secret"), one.token_hash(b"secret"));
    assert_ne!(one.token_hash(b"secret"), one.token_hash(b"secres"));
    assert_ne!(one.token_hash(b"secret"), two.token_hash(b"secret"), "another installation, another hash");
    assert_ne!(one.token_hash(b"secret"), rollcall::vault::fingerprint(b"secret"));
    assert!(same_secret(b"abc", b"abc") && !same_secret(b"abc", b"abd") && !same_secret(b"abc", b"ab") && same_secret(b"", b""));
}

#[test]
fn cursors_open_only_where_they_were_made() {
    let (ring, _folder) = super::ring();
    let ((keys, _), (others, _)) = (SystemKeys::generate(&ring), SystemKeys::generate(&ring));
    let sealed = keys.seal_for(SealMark::Cursor, &[b"account 1"], b"page 2");
    assert_eq!(keys.open_for(SealMark::Cursor, &[b"account 1"], &sealed), Ok(b"page 2".to_vec().into()));
    assert_eq!(keys.open_for(SealMark::Cursor, &[b"account 2"], &sealed), Err(OpenError::Refused));
    assert_eq!(others.open_for(SealMark::Cursor, &[b"account 1"], &sealed), Err(OpenError::Refused));
    assert_ne!(sealed, keys.seal_for(SealMark::Cursor, &[b"account 1"], b"page 2"));
    for at in 0..sealed.len() {
        let mut damaged = sealed.clone();
        damaged[at] ^= 0x20;
        assert!(keys.open_for(SealMark::Cursor, &[b"account 1"], &damaged).is_err(), "byte {at}");
        assert!(keys.open_for(SealMark::Cursor, &[b"account 1"], &sealed[..at]).is_err(), "cut at {at}");
    }
}

#[test]
fn replies_open_only_for_the_request_they_answer() {
    let (ring, _folder) = super::ring();
    let ((keys, _), (others, _)) = (SystemKeys::generate(&ring), SystemKeys::generate(&ring));
    let place: [&[u8]; 3] = [b"environment", b"key", b"/route"];
    let sealed = keys.seal_for(SealMark::Reply, &place, b"a new token");
    assert_eq!(keys.open_for(SealMark::Reply, &place, &sealed).unwrap().as_slice(), b"a new token");
    assert!(!sealed.windows(5).any(|window| window == b"token"));
    let moved: [[&[u8]; 3]; 4] = [
        [b"environmenu", b"key", b"/route"],
        [b"environment", b"kez", b"/route"],
        [b"environment", b"key", b"/other"],
        [b"environmentk", b"ey", b"/route"],
    ];
    for place in &moved {
        assert_eq!(keys.open_for(SealMark::Reply, place, &sealed).err(), Some(OpenError::Refused));
    }
    assert_eq!(others.open_for(SealMark::Reply, &place, &sealed).err(), Some(OpenError::Refused));
    assert_eq!(
        keys.open_for(SealMark::Cursor, &[b"environment"], &keys.seal_for(SealMark::Reply, &[b"environment"], b"x")).err(),
        Some(OpenError::Refused)
    );
    assert_eq!(
        keys.open_for(SealMark::Reply, &[b"a"], &keys.seal_for(SealMark::Cursor, &[b"a"], b"x")).err(),
        Some(OpenError::Refused)
    );
    for at in 0..sealed.len() {
        let mut damaged = sealed.clone();
        damaged[at] ^= 1;
        assert!(keys.open_for(SealMark::Reply, &place, &damaged).is_err(), "byte {at}");
        assert!(keys.open_for(SealMark::Reply, &place, &sealed[..at]).is_err(), "cut at {at}");
    }
}

#[test]
fn marks_of_requests_are_keyed_and_never_agree_by_chance() {
    let (ring, _folder) = super::ring();
    let ((keys, _), (others, _)) = (SystemKeys::generate(&ring), SystemKeys::generate(&ring));
    let parts: [&[u8]; 2] = [b"ab", b"c"];
    let mark = keys.request_mark(RequestMark::Fingerprint, &parts);
    assert_eq!(mark, keys.request_mark(RequestMark::Fingerprint, &parts));
    assert_ne!(mark, keys.request_mark(RequestMark::Name, &parts));
    assert_ne!(mark, keys.request_mark(RequestMark::Fingerprint, &[b"a", b"bc"]));
    assert_ne!(mark, others.request_mark(RequestMark::Fingerprint, &parts), "another installation, another mark");
}

#[test]
fn marks_of_the_audit_log_are_of_one_purpose_and_one_installation() {
    let (ring, _folder) = super::ring();
    let ((keys, sealed), (others, _)) = (SystemKeys::generate(&ring), SystemKeys::generate(&ring));
    let parts: [&[u8]; 2] = [b"environment", b"entry"];
    let mark = keys.audit_mark(AuditMark::Entry, &parts);
    assert_eq!(mark, SystemKeys::open(&ring, &sealed).unwrap().audit_mark(AuditMark::Entry, &parts), "the same on every node");
    for other in [AuditMark::Head, AuditMark::Open, AuditMark::Name] {
        assert_ne!(mark, keys.audit_mark(other, &parts), "{other:?}");
    }
    assert_ne!(mark, keys.audit_mark(AuditMark::Entry, &[b"environmente", b"ntry"]));
    assert_ne!(mark, keys.audit_mark(AuditMark::Entry, &[b"other", b"entry"]));
    assert_ne!(mark, others.audit_mark(AuditMark::Entry, &parts));
}

#[test]
fn pieces_of_the_log_open_only_where_they_lie() {
    let (ring, _folder) = super::ring();
    let ((keys, _), (others, _)) = (SystemKeys::generate(&ring), SystemKeys::generate(&ring));
    let place: [&[u8]; 2] = [b"environment", b"minute"];
    let mut sealed = keys.seal_for(SealMark::Log, &place, b"lines");
    assert_eq!(keys.open_for(SealMark::Log, &place, &sealed).unwrap().as_slice(), b"lines");
    assert_eq!(keys.open_for(SealMark::Log, &[b"environment", b"other"], &sealed).err(), Some(OpenError::Refused));
    assert_eq!(keys.open_for(SealMark::Log, &[b"environmentm", b"inute"], &sealed).err(), Some(OpenError::Refused));
    assert_eq!(others.open_for(SealMark::Log, &place, &sealed).err(), Some(OpenError::Refused));
    assert_eq!(keys.open_for(SealMark::Reply, &place, &sealed).err(), Some(OpenError::Refused));
    assert_eq!(
        keys.open_for(SealMark::Log, &place, &keys.seal_for(SealMark::Reply, &place, b"x")).err(),
        Some(OpenError::Refused)
    );
    sealed[0] = 2;
    assert_eq!(keys.open_for(SealMark::Log, &place, &sealed).err(), Some(OpenError::Damaged));
    assert_eq!(keys.open_for(SealMark::Reply, &place, &sealed).err(), Some(OpenError::Damaged));
    assert_eq!(keys.open_for(SealMark::Cursor, &[b""], &sealed).err(), Some(OpenError::Damaged));
}

#[test]
fn records_of_tokens_are_marked_with_a_key() {
    let (ring, _folder) = super::ring();
    let ((keys, _), (others, _)) = (SystemKeys::generate(&ring), SystemKeys::generate(&ring));
    let mark = keys.token_mark(b"record");
    assert_eq!(mark, keys.token_mark(b"record"));
    assert_ne!(mark, keys.token_mark(b"recorc"));
    assert_ne!(mark, keys.token_hash(b"record"));
    assert_ne!(mark, others.token_mark(b"record"));
}

proptest! {
    #[test]
    fn decoding_system_keys_and_cursors_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        static SHARED: std::sync::OnceLock<(KeyRing, SystemKeys)> = std::sync::OnceLock::new();
        let (ring, keys) = SHARED.get_or_init(|| {
            let ring = super::ring().0;
            let keys = SystemKeys::generate(&ring).0;
            (ring, keys)
        });
        prop_assert!(SystemKeys::open(ring, &bytes).is_err());
        prop_assert!(SystemKeys::open(ring, &[&[1], &bytes[..]].concat()).is_err());
        prop_assert!(keys.open_for(SealMark::Cursor, &[b""], &bytes).is_err());
        let _ = SystemKeys::sealed_by(&bytes);
    }
}

/// How time goes with the number of matching first bytes: the t value of the correlation over wrong secrets.
/// Above 2.58 is p < 0.01.
fn correlation(samples: usize, compare: impl Fn(&[u8; 32], &[u8; 32]) -> bool) -> f64 {
    let right = key(5);
    let mut points = Vec::with_capacity(samples);
    for n in 0..samples {
        // Lengths in an order that does not go with time.
        let matching = (n * 13) % 32;
        let mut wrong = right;
        wrong[matching] ^= 1 + (n % 255) as u8;
        let started = Instant::now();
        for _ in 0..40 {
            assert!(!compare(black_box(&wrong), black_box(&right)));
        }
        points.push((matching as f64, started.elapsed().as_nanos() as f64));
    }
    // Ranks instead of times: one interruption must not decide.
    let mut order: Vec<usize> = (0..points.len()).collect();
    order.sort_by(|a, b| points[*a].1.total_cmp(&points[*b].1));
    for (rank, at) in order.into_iter().enumerate() {
        points[at].1 = rank as f64;
    }
    let n = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / n;
    let (mx, my) = (mean(|p| p.0), mean(|p| p.1));
    let sum = |of: &dyn Fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>();
    let covariance = sum(&|p| (p.0 - mx) * (p.1 - my));
    let r = covariance / (sum(&|p| (p.0 - mx).powi(2)) * sum(&|p| (p.1 - my).powi(2))).sqrt();
    r.abs() * ((n - 2.0) / (1.0 - r * r)).sqrt()
}

/// 10,000 wrong secrets. One run in a hundred shows a correlation by chance, so a leak is what all of three runs show.
#[test]
fn g_07_comparing_takes_no_time_by_matching_prefix() {
    let samples = if crate::support::long() { 100_000 } else { 10_000 };
    let leaks = |compare: &dyn Fn(&[u8; 32], &[u8; 32]) -> bool| (0..3).all(|_| correlation(samples, compare) > 2.58);
    let plain = |a: &[u8; 32], b: &[u8; 32]| a.iter().zip(b).all(|(x, y)| black_box(x == y));
    assert!(leaks(&plain), "the measurement must see a comparison that stops early");
    assert!(!leaks(&|a, b| same_secret(a, b)), "comparing hashes");
    let (ring, _folder) = super::ring();
    let (keys, _) = SystemKeys::generate(&ring);
    let stored = keys.token_hash(&key(5));
    assert!(!leaks(&|wrong, _| same_secret(&keys.token_hash(wrong), &stored)), "hashing and comparing");
}

#[test]
fn v_03_an_own_apps_secret_is_bound_to_environment_connector_and_client() {
    let (ring, _folder) = super::ring();
    let (keys, _) = SystemKeys::generate(&ring);
    let bound: [&[u8]; 3] = [b"environment", b"scim", b"client"];
    let sealed = keys.seal_for(SealMark::App, &bound, b"secret");
    assert_eq!(keys.open_for(SealMark::App, &bound, &sealed).unwrap().as_slice(), b"secret");
    let others: [[&[u8]; 3]; 4] = [
        [b"another", b"scim", b"client"],
        [b"environment", b"other", b"client"],
        [b"environment", b"scim", b"clienx"],
        [b"environment", b"sci", b"mclient"],
    ];
    for other in others {
        assert_eq!(keys.open_for(SealMark::App, &other, &sealed).err(), Some(OpenError::Refused));
    }
    let unknown = [&[sealed[0] ^ 0xff], &sealed[1..]].concat();
    assert_eq!(keys.open_for(SealMark::App, &bound, &unknown).err(), Some(OpenError::Damaged));
    assert!(keys.open_for(SealMark::Reply, &bound, &sealed).is_err(), "a seal of one purpose opens for another");
}
