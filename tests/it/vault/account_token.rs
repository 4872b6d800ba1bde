//! G-13: account tokens. Whatever is not exactly what this installation makes is refused, also where the right key signed it.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::Timestamp;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use proptest::prelude::*;
use rollcall::{
    model::{AccountId, EnvironmentId, Scope, Scopes},
    vault::{AccountPass, AccountTokenKeys, SystemKeys, is_like_account_token},
};
use serde_json::{Value, json};
use uuid::Uuid;

use super::ring::key;

const ISSUER: &str = "rollcall:0123456789abcdef";
/// 2027-01-15T08:00:00Z.
const NOW: i64 = 1_800_000_000;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn keys(numbers: &[u8]) -> AccountTokenKeys {
    AccountTokenKeys::read(ISSUER.to_owned(), &numbers.iter().flat_map(|number| key(*number)).collect::<Vec<_>>()).unwrap()
}

fn pass() -> AccountPass {
    AccountPass {
        account: AccountId(Uuid::from_u128(1)),
        made_at: Some("2027-01-15T07:59:59.123456789Z".parse().unwrap()),
        environment: EnvironmentId(Uuid::from_u128(2)),
        made_with: Uuid::from_u128(3),
        scopes: Scopes([Scope::DirectoryRead, Scope::ProxyWrite].into()),
        issued_at: at(NOW),
        expires_at: at(NOW + 900),
    }
}

fn signed(keys: &AccountTokenKeys) -> String {
    keys.sign(&pass()).unwrap().expose().to_owned()
}

/// The claims of a good token.
fn claims() -> Value {
    let token = signed(&keys(&[1]));
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap()).unwrap()
}

/// Any claims under any header, signed by HMAC with the right key.
fn forged(algorithm: Algorithm, claims: &Value) -> String {
    format!("rca_{}", encode(&Header::new(algorithm), claims, &EncodingKey::from_secret(&key(1))).unwrap())
}

#[test]
fn a_token_of_an_earlier_release_does_not_say_when_its_account_was_made() {
    let mut claims = claims();
    assert_eq!(claims.as_object_mut().unwrap().remove("of"), Some(json!("2027-01-15T07:59:59.123456789Z")));
    let opened = keys(&[1]).open(&forged(Algorithm::HS256, &claims), at(NOW)).unwrap();
    assert_eq!(opened, AccountPass { made_at: None, ..pass() });
}

/// Any header and claims with any signature.
fn assembled(header: &Value, claims: &Value, signature: &[u8]) -> String {
    let part = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    format!("rca_{}.{}.{}", part(header.to_string().as_bytes()), part(claims.to_string().as_bytes()), part(signature))
}

#[track_caller]
fn refused(what: &str, text: &str) {
    assert_eq!(keys(&[1]).open(text, at(NOW)), None, "{what}: {text}");
}

#[test]
fn g_13_a_token_says_what_it_was_made_for_until_it_ends() {
    let (keys, token) = (keys(&[1]), signed(&keys(&[1])));
    assert!(is_like_account_token(&token) && token.len() < 1024, "{token}");
    assert_eq!(keys.open(&token, at(NOW)), Some(pass()));
    assert_eq!(keys.open(&token, at(NOW + 899)), Some(pass()));
    assert_eq!(keys.open(&token, at(NOW + 900)), None, "no second longer");
    assert_eq!(keys.open(&token, at(NOW + 10_000_000)), None);
    // A node whose clock is a little behind takes it at once, none takes it long before.
    assert_eq!(keys.open(&token, at(NOW - 5)), Some(pass()));
    assert_eq!(keys.open(&token, at(NOW - 6)), None);
    assert_eq!(keys.open(&token, Timestamp::MIN), None);
    assert_eq!(forged(Algorithm::HS256, &claims()), token, "the forgeries below differ by what they say they do");
}

#[test]
fn g_13_claims_are_all_there_and_of_their_kind() {
    for name in ["iss", "aud", "sub", "iat", "nbf", "exp", "env", "by", "scopes"] {
        for wrong in [None, Some(Value::Null), Some(json!({})), Some(json!([])), Some(json!(true)), Some(json!(""))] {
            if name == "scopes" && wrong == Some(json!([])) {
                continue;
            }
            let mut claims = claims();
            let members = claims.as_object_mut().unwrap();
            match &wrong {
                Some(value) => members.insert(name.to_owned(), value.clone()),
                None => members.remove(name),
            };
            refused(&format!("`{name}` is {wrong:?}"), &forged(Algorithm::HS256, &claims));
        }
    }
    let later = NOW + 900;
    for (name, wrong) in [
        ("exp", json!(later.to_string())),
        ("exp", json!(later as f64 + 0.5)),
        ("exp", json!([later])),
        ("exp", json!(NOW)),
        ("exp", json!(NOW - 1)),
        ("exp", json!(0)),
        ("exp", json!(-later)),
        ("exp", json!(u64::MAX)),
        ("nbf", json!(NOW.to_string())),
        ("nbf", json!(NOW as f64 + 0.5)),
        ("nbf", json!(NOW + 6)),
        ("nbf", json!(i64::MAX)),
        ("iat", json!(NOW.to_string())),
        ("iat", json!(NOW + 6)),
        ("iat", json!(i64::MAX)),
        ("aud", json!("truto")),
        ("aud", json!("Rollcall")),
        ("aud", json!(["rollcall"])),
        ("aud", json!(["rollcall", "other"])),
        ("iss", json!("rollcall")),
        ("iss", json!([ISSUER])),
        ("iss", json!("rollcall:0123456789abcdee")),
        ("sub", json!("nobody")),
        ("sub", json!(1)),
        ("env", json!("default")),
        ("by", json!("administrator")),
        ("scopes", json!("directory:read")),
        ("scopes", json!(["directory:all"])),
    ] {
        let mut claims = claims();
        claims[name] = wrong.clone();
        refused(&format!("`{name}` is {wrong}"), &forged(Algorithm::HS256, &claims));
    }
    for odd in [json!([]), json!("claims"), json!(1), Value::Null] {
        refused("claims that are no object", &forged(Algorithm::HS256, &odd));
    }
    // Written by hand: no serializer writes a name twice.
    let twice = claims().to_string().replacen('{', &format!("{{\"exp\":{},", NOW + 10_000), 1);
    let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(r#"{"typ":"JWT","alg":"HS256"}"#), URL_SAFE_NO_PAD.encode(twice));
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &EncodingKey::from_secret(&key(1)), Algorithm::HS256).unwrap();
    refused("`exp` twice", &format!("rca_{message}.{signature}"));
}

#[test]
fn g_13_the_algorithm_is_not_the_tokens_to_choose() {
    for algorithm in [Algorithm::HS384, Algorithm::HS512] {
        refused("another HMAC with the right key", &forged(algorithm, &claims()));
    }
    let good = signed(&keys(&[1]));
    let signature = URL_SAFE_NO_PAD.decode(good.rsplit('.').next().unwrap()).unwrap();
    for name in
        ["none", "None", "NONE", "", "HS256 ", "hs256", "RS256", "RS512", "PS256", "ES256", "ES384", "EdDSA", "HS384", "HS512"]
    {
        let header = json!({"typ": "JWT", "alg": name});
        refused(name, &assembled(&header, &claims(), &signature));
        refused(name, &assembled(&header, &claims(), &[]));
        // What a library that confuses keys would take: an HMAC over the very message, with the key for whatever is named.
        let message = assembled(&header, &claims(), &[]);
        let message = message.trim_start_matches("rca_").trim_end_matches('.');
        let mac = jsonwebtoken::crypto::sign(message.as_bytes(), &EncodingKey::from_secret(&key(1)), Algorithm::HS256).unwrap();
        refused(name, &format!("rca_{message}.{mac}"));
    }
    for header in [
        json!({}),
        json!({"alg": null}),
        json!({"alg": ["HS256"]}),
        json!({"alg": 256}),
        json!({"typ": "JWT"}),
        json!({"alg": "HS256", "jwk": {"kty": "oct", "k": URL_SAFE_NO_PAD.encode(key(9))}}),
        json!([]),
        json!("HS256"),
    ] {
        refused("an odd header", &assembled(&header, &claims(), &signature));
        refused("an odd header", &assembled(&header, &claims(), &key(9)));
    }
}

#[test]
fn g_13_another_key_issuer_or_installation_makes_no_token() {
    refused("another key", &signed(&keys(&[2])));
    let other = AccountTokenKeys::read("rollcall:ffffffffffffffff".to_owned(), &key(1)).unwrap();
    refused("another issuer with the same key", &signed(&other));
    let (ring, _folder) = super::ring();
    let ((one, _), (two, _)) = (SystemKeys::generate(&ring), SystemKeys::generate(&ring));
    let token = one.sign_account_token(&pass()).unwrap();
    assert_eq!(one.open_account_token(token.expose(), at(NOW)), Some(pass()));
    assert_eq!(two.open_account_token(token.expose(), at(NOW)), None);
}

/// A key is followed by another: the new one signs, and what the old one signed is good until it is taken away.
#[test]
fn keys_of_account_tokens_follow_each_other() {
    let (before, both, after) = (keys(&[1]), keys(&[2, 1]), keys(&[2]));
    let (old, new) = (signed(&before), signed(&both));
    assert_ne!(old, new);
    assert_eq!((both.open(&old, at(NOW)), both.open(&new, at(NOW))), (Some(pass()), Some(pass())));
    assert_eq!((before.open(&new, at(NOW)), after.open(&old, at(NOW))), (None, None));
    assert_eq!(after.open(&new, at(NOW)), Some(pass()));
    let none = keys(&[]);
    assert!(none.sign(&pass()).is_err() && none.open(&old, at(NOW)).is_none());
    assert!(AccountTokenKeys::read(ISSUER.to_owned(), &key(1)[..31]).is_none(), "a key that is cut");
    assert!(AccountTokenKeys::read(ISSUER.to_owned(), &[key(1), key(2)].concat()[..40]).is_none());
}

#[test]
fn g_13_every_changed_character_is_refused() {
    let (keys, token) = (keys(&[1]), signed(&keys(&[1])));
    for at_byte in 0..token.len() {
        for other in ['A', 'B', 'z', '0', '-', '_', '.', '=', '+', ' ', '\0', 'é'] {
            let mut changed: Vec<char> = token.chars().collect();
            if changed[at_byte] == other {
                continue;
            }
            changed[at_byte] = other;
            let changed: String = changed.into_iter().collect();
            assert_eq!(keys.open(&changed, at(NOW)), None, "{at_byte} {other:?}");
        }
        assert_eq!(keys.open(&token[..at_byte], at(NOW)), None, "cut at {at_byte}");
    }
    let inner = token.trim_start_matches("rca_");
    for other in [
        inner.to_owned(),
        format!("rck_{inner}"),
        format!(" {token}"),
        format!("{token} "),
        format!("{token}\n"),
        format!("{token}."),
        format!("{token}.{}", inner.split('.').next().unwrap()),
        format!("{token}=="),
        format!("rca_rca_{inner}"),
        format!("rca_.{inner}"),
        token.to_uppercase(),
        "rca_".to_owned(),
        "rca_..".to_owned(),
        "rca_....".to_owned(),
        String::new(),
    ] {
        assert_eq!(keys.open(&other, at(NOW)), None, "{other:?}");
    }
}

/// A text of any length costs no more than a look at its length, whatever signed it.
#[test]
fn g_13_long_texts_are_refused_unread() {
    let mut claims = claims();
    claims["more"] = json!("x".repeat(4 << 10));
    let long = forged(Algorithm::HS256, &claims);
    refused("a good signature under too much", &long);
    assert!(!is_like_account_token(&long));
    refused("a megabyte", &format!("rca_{}", "a".repeat(1 << 20)));
    claims["more"] = json!("x".repeat(64));
    assert!(keys(&[1]).open(&forged(Algorithm::HS256, &claims), at(NOW)).is_some(), "what a later release may add is no harm");
}

#[test]
fn the_form_of_an_account_token_is_told_from_other_texts() {
    let token = signed(&keys(&[1]));
    assert!(is_like_account_token(&token) && is_like_account_token("rca_a.b.c") && is_like_account_token("rca_a-_.b.c"));
    for other in [
        "",
        "rca_",
        "rca_a.b",
        "rca_a.b.c.d",
        "rca_a..c",
        "rca_.b.c",
        "rca_a.b.",
        "rca_a.b.c=",
        "rca_a b.c.d",
        "rck_a.b.c",
        "a.b.c",
    ] {
        assert!(!is_like_account_token(other), "{other}");
    }
    assert!(!is_like_account_token(&format!(" {token}")));
}

proptest! {
    #[test]
    fn opening_never_panics(text in "(rca_)?[a-zA-Z0-9_.=-]{0,80}", odd in "\\PC*") {
        let keys = keys(&[1]);
        prop_assert!(keys.open(&text, at(NOW)).is_none());
        prop_assert!(keys.open(&odd, at(NOW)).is_none());
        let prefixed = format!("rca_{odd}");
        prop_assert!(keys.open(&prefixed, at(NOW)).is_none());
    }
}
