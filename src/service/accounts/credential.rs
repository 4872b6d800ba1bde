//! An account's credential between its sealed record and the decoded form calls are made with.

use std::{collections::BTreeMap, sync::Arc};

use base64::{
    Engine,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use jiff::Timestamp;
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::{
    connector::{Connector, FieldProblem, LinkMethod, Resolved},
    error::{Code, Error, Result},
    model::{Account, Secret},
    upstream::Access,
    vault::{DataKey, Place},
};

/// Opens every sealed field under its place.
pub(in crate::service) fn open_fields(account: &Account, key: &DataKey) -> Result<BTreeMap<String, Secret>> {
    let mut secrets = BTreeMap::new();
    for (name, sealed) in &account.sealed {
        let bytes = BASE64_STANDARD.decode(sealed).map_err(|why| unreadable().because(why))?;
        let plain = key.open(place(account, name), &bytes).map_err(|why| unreadable().because(why))?;
        let text = std::str::from_utf8(&plain).map_err(|why| unreadable().because(why))?;
        secrets.insert(name.clone(), Secret::new(text.to_owned()));
    }
    Ok(secrets)
}

/// Seals every secret field in its place.
pub(super) fn seal_fields(account: &Account, key: &DataKey, resolved: &Resolved) -> BTreeMap<String, String> {
    let seal = |(name, secret): (&String, &Secret)| {
        (name.clone(), BASE64_STANDARD.encode(key.seal(place(account, name), secret.expose().as_bytes())))
    };
    resolved.secrets.iter().map(seal).collect()
}

/// The sealed fields under another data key.
pub(super) fn reseal_fields(account: &Account, old: &DataKey, new: &DataKey) -> Result<BTreeMap<String, String>> {
    let reseal = |(name, sealed): (&String, &String)| {
        let bytes = BASE64_STANDARD.decode(sealed).map_err(|why| unreadable().because(why))?;
        let plain = old.open(place(account, name), &bytes).map_err(|why| unreadable().because(why))?;
        Ok((name.clone(), BASE64_STANDARD.encode(new.seal(place(account, name), &plain))))
    };
    account.sealed.iter().map(reseal).collect()
}

/// When the first of these secrets ends by its own word: many keys are signed tokens that say so. What lies in the past is the
/// vendor's to judge.
pub(super) fn known_expiry(resolved: &Resolved, now: Timestamp) -> Option<Timestamp> {
    resolved.secrets.values().filter_map(|secret| end_of(secret.expose())).filter(|end| *end > now).min()
}

fn end_of(text: &str) -> Option<Timestamp> {
    #[derive(Deserialize)]
    struct Claims {
        exp: i64,
    }
    let mut parts = text.split('.');
    let (Some(_), Some(claims), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else { return None };
    let claims = Zeroizing::new(BASE64_URL_SAFE_NO_PAD.decode(claims).ok()?);
    let Claims { exp } = serde_json::from_slice(&claims).ok()?;
    Timestamp::from_second(exp).ok()
}

/// The place of one field of an account.
pub(in crate::service) fn place<'a>(account: &'a Account, field: &'a str) -> Place<'a> {
    Place {
        environment: account.environment,
        account: account.id,
        connector: &account.connector,
        method: &account.method,
        field,
        fields: &account.fields,
        origins: &account.origins,
        generation: account.generation,
    }
}

/// The decoded credential of a record whose fields are resolved.
pub(super) fn build_access(
    account: &Account,
    connector: Arc<Connector>,
    method: Arc<LinkMethod>,
    resolved: Resolved,
) -> Result<Access> {
    let facts = account.facts.clone();
    Access::new(account.id, account.environment, connector, method, account.generation, resolved, facts)
        .map_err(|problem| field_problems(vec![problem]))
}

/// What is wrong with the fields of a link method, as one error that names the first of them.
pub(super) fn field_problems(problems: Vec<FieldProblem>) -> Error {
    let detail = problems.iter().map(|p| format!("{}: {}", p.field, p.message)).collect::<Vec<_>>().join("; ");
    let first = problems.into_iter().next().map(|p| p.field).unwrap_or_default();
    Error::new(Code::InvalidField, detail).field(format!("context.{first}"))
}

/// The error for a record that was moved or changed, or whose key is gone.
pub(super) fn unreadable() -> Error {
    Error::new(Code::CredentialUnreadable, "The stored credential of this account does not open.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signed_token_says_when_it_ends() {
        let token = |claims: &str| format!("eyJhbGciOiJSUzI1NiJ9.{}.c2lnbmF0dXJl", BASE64_URL_SAFE_NO_PAD.encode(claims));
        let end = Timestamp::from_second(1_900_000_000).ok();
        assert_eq!(end_of(&token(r#"{"sub": "x", "exp": 1900000000}"#)), end);
        let odd = [token("{}"), token("no"), token(r#"{"exp": "soon"}"#), token(r#"{"exp": 1e300}"#)];
        let more = ["", "a.b", "a.b.c.d", "a-plain-key", "..", "a.%%.c"].map(str::to_owned);
        for text in odd.iter().chain(&more) {
            assert_eq!(end_of(text), None, "{text}");
        }
    }
}
