//! An account's credential between its sealed record and the decoded form calls are made with.

use std::{collections::BTreeMap, sync::Arc};

use base64::{Engine, prelude::BASE64_STANDARD};

use crate::{
    connector::{Connector, FieldProblem, LinkMethod, Resolved},
    error::{Code, Error, Result},
    model::{Account, Secret},
    upstream::Access,
    vault::{DataKey, Place},
};

/// Opens every sealed field under its place.
pub(super) fn open_fields(account: &Account, key: &DataKey) -> Result<BTreeMap<String, Secret>> {
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

/// The place of one field of an account.
pub(super) fn place<'a>(account: &'a Account, field: &'a str) -> Place<'a> {
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
