//! Linked accounts: imported, verified, sealed, shown without secrets, and opened for calls.

use std::{collections::BTreeMap, sync::Arc};

use arc_swap::ArcSwap;
use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Map, Value};

use super::{context::check_labels, open::Opened};
use crate::{
    connector::{Catalog, Connector, FieldKind, FieldProblem, LinkMethod, Resolved},
    error::{Code, Error, Result},
    model::{Account, AccountId, AccountStatus, Clock, EnvironmentId, Secret, Slug, Warning, environment_integration_id},
    store::{StoreError, repo},
    upstream::{Access, Failure, Guard, Tested, Upstream},
    vault::{DataKey, Place, Vault},
};

/// `POST /integrated-account`. May hold secrets, therefore no `Debug`.
pub struct NewAccount {
    /// The caller's label of the end customer.
    pub tenant_id: String,
    /// The connector's slug, its id or its `environment_integration_id`.
    pub integration: String,
    /// The link method.
    pub authentication_method: String,
    /// The method's fields and any context of the caller.
    pub context: Map<String, Value>,
    /// A stand-in vendor of this gateway.
    pub is_sandbox: bool,
    /// Re-link this account, keeping its id, instead of making a new one.
    pub id: Option<AccountId>,
}

/// `PATCH /integrated-account/{id}`: what is left out stays. May hold secrets, therefore no `Debug`.
#[derive(Default)]
pub struct ChangeAccount {
    /// A new label.
    pub tenant_id: Option<String>,
    /// Fields and context, merged at the top level; `null` removes.
    pub context: Option<Map<String, Value>>,
}

/// Filters of the account list.
#[derive(Debug, Default)]
pub struct ListAccounts {
    /// Only this label.
    pub tenant_id: Option<String>,
    /// Only this connector.
    pub integration: Option<String>,
    /// Only this status.
    pub status: Option<AccountStatus>,
    /// Only sandboxes, or only real ones.
    pub is_sandbox: Option<bool>,
    /// At most so many.
    pub limit: usize,
    /// Continues a list.
    pub after: Option<String>,
}

/// An account opened for calls: its record and its decoded credential.
pub struct Linked {
    /// The record.
    pub account: Account,
    /// The version it was read at.
    pub version: u64,
    /// The credential.
    pub access: Arc<Access>,
    /// The account's data key, for snapshots and cursors.
    pub data_key: DataKey,
}

/// Linked accounts.
pub struct Accounts {
    pub(super) records: repo::Accounts,
    pub(super) catalog: Arc<ArcSwap<Catalog>>,
    pub(super) vault: Arc<Vault>,
    pub(super) upstream: Arc<Upstream>,
    pub(super) guard: Arc<Guard>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) opened: Opened,
}

/// A credential that was verified and is ready to be stored.
struct Verified {
    account: Account,
    wrapped_key: Vec<u8>,
    warnings: Vec<Warning>,
}

impl Accounts {
    /// Over its tools.
    pub fn new(
        records: repo::Accounts,
        catalog: Arc<ArcSwap<Catalog>>,
        vault: Arc<Vault>,
        upstream: Arc<Upstream>,
        guard: Arc<Guard>,
        clock: Arc<dyn Clock>,
        opened: Opened,
    ) -> Self {
        Self { records, catalog, vault, upstream, guard, clock, opened }
    }

    /// Verifies the credential at the vendor, then stores it; nothing is stored when it is refused.
    pub async fn import(&self, environment: EnvironmentId, new: NewAccount) -> Result<(Account, Vec<Warning>)> {
        check_tenant(&new.tenant_id)?;
        let connector = self.connector(environment, &new.integration)?;
        let method = find_method(&connector, &new.authentication_method)?;
        let (fields, context) = split_context(&method, new.context)?;
        let now = self.clock.now();
        let kept = match new.id {
            Some(id) => self.records.get(id).await?.filter(|(kept, _)| kept.environment == environment),
            None => None,
        };
        let account = Account {
            id: new.id.unwrap_or_else(AccountId::generate),
            environment,
            tenant_id: new.tenant_id,
            connector: connector.slug.clone(),
            method: method.name.clone(),
            status: AccountStatus::Active,
            last_error: None,
            last_forbidden: None,
            generation: kept.as_ref().map_or(1, |(kept, _)| kept.generation + 1),
            origins: Vec::new(),
            fields: BTreeMap::new(),
            sealed: BTreeMap::new(),
            context,
            facts: Map::new(),
            is_sandbox: new.is_sandbox,
            created_at: kept.as_ref().map_or(now, |(kept, _)| kept.created_at),
            updated_at: now,
        };
        let verified = self.verify(account, connector, method, &fields).await?;
        match kept {
            Some((_, version)) => self.records.replace_credential(&verified.account, &verified.wrapped_key, version).await?,
            None => self.records.create(&verified.account, &verified.wrapped_key).await?,
        };
        self.opened.forget(environment, verified.account.id).await;
        Ok((verified.account, verified.warnings))
    }

    /// One account.
    pub async fn get(&self, environment: EnvironmentId, id: &str) -> Result<Account> {
        Ok(self.find(environment, id).await?.0)
    }

    /// Accounts in id order; the second value continues the list.
    pub async fn list(&self, environment: EnvironmentId, query: ListAccounts) -> Result<(Vec<Account>, Option<String>)> {
        let mut after = parse_after(query.after.as_deref())?;
        let mut found = Vec::new();
        loop {
            let page = self.records.list(environment, after, 500).await?;
            let last_page = page.len() < 500;
            for account in page {
                after = Some(account.id);
                if query.matches(&account) {
                    if found.len() == query.limit {
                        let next = found.last().map(|last: &Account| last.id.to_string());
                        return Ok((found, next));
                    }
                    found.push(account);
                }
            }
            if last_page {
                return Ok((found, None));
            }
        }
    }

    /// Changes label, context or credential; a changed credential is verified first.
    pub async fn change(&self, environment: EnvironmentId, id: &str, change: ChangeAccount) -> Result<(Account, Vec<Warning>)> {
        let (mut account, version) = self.find(environment, id).await?;
        let before = account.clone();
        if let Some(tenant_id) = change.tenant_id {
            check_tenant(&tenant_id)?;
            account.tenant_id = tenant_id;
        }
        account.updated_at = self.clock.now();
        let connector =
            self.catalog.load().get(account.connector.as_str()).cloned().ok_or_else(|| missing_connector(&account.connector))?;
        let method = find_method(&connector, &account.method)?;
        let context = change.context.unwrap_or_default();
        check_labels(&method, &context).map_err(field_problems)?;
        let mut fields_changed = BTreeMap::new();
        for (name, value) in context {
            if method.field(&name).is_some() {
                fields_changed.insert(name.clone(), field_text(&name, value)?);
            } else if value.is_null() {
                account.context.remove(&name);
            } else {
                account.context.insert(name, value);
            }
        }
        if fields_changed.is_empty() {
            self.records.update(&account, version).await?;
            self.opened.forget(environment, account.id).await;
            return Ok((account, Vec::new()));
        }
        let fields = self.merge_fields(&account, &method, fields_changed).await?;
        account.generation += 1;
        account.status = AccountStatus::Active;
        account.last_error = None;
        let verified = self.verify(account, connector, method, &fields).await?;
        self.replace(&before, version, &verified).await?;
        self.opened.forget(environment, verified.account.id).await;
        Ok((verified.account, verified.warnings))
    }

    /// Stores a new credential over the old one. What calls and background tests note about the old one's state meanwhile is
    /// no conflict: it ends with it.
    async fn replace(&self, before: &Account, mut version: u64, verified: &Verified) -> Result<()> {
        loop {
            match self.records.replace_credential(&verified.account, &verified.wrapped_key, version).await {
                Err(StoreError::Conflict(why)) => match self.records.get(before.id).await? {
                    Some((now, newer)) if newer != version && is_same_but_for_state(before, &now) => version = newer,
                    _ => return Err(StoreError::Conflict(why).into()),
                },
                done => return Ok(done.map(|_| ())?),
            }
        }
    }

    /// Destroys the data key, then everything else of the account.
    pub async fn delete(&self, environment: EnvironmentId, id: &str) -> Result<()> {
        let (account, _) = self.find(environment, id).await?;
        self.records.delete(account.id, environment).await?;
        self.opened.forget(environment, account.id).await;
        Ok(())
    }

    /// The account and its version, if it stands behind this wall.
    pub(super) async fn find(&self, environment: EnvironmentId, id: &str) -> Result<(Account, u64)> {
        let id: AccountId = id.parse().map_err(|_| Error::not_found())?;
        if !self.records.listed(environment, id).await? {
            return Err(Error::not_found());
        }
        let (account, version) =
            self.records.get(id).await?.filter(|(account, _)| account.environment == environment).ok_or_else(Error::not_found)?;
        match account.id == id {
            true => Ok((account, version)),
            false => Err(unreadable().because("the record names another account")),
        }
    }

    /// A connector by slug or by either of its ids.
    pub fn connector(&self, environment: EnvironmentId, name: &str) -> Result<Arc<Connector>> {
        let catalog = self.catalog.load();
        if let Some(connector) = catalog.get(name) {
            return Ok(connector.clone());
        }
        let by_id = uuid::Uuid::try_parse(name)
            .ok()
            .and_then(|id| catalog.all().find(|c| c.id == id || environment_integration_id(environment, &c.slug) == id).cloned());
        by_id.ok_or_else(|| {
            let known: Vec<&str> = catalog.all().map(|c| c.slug.as_str()).collect();
            let detail = format!("No connector is called `{}`. There are: {}.", shorten(name), known.join(", "));
            Error::new(Code::InvalidBody, detail).field("integration")
        })
    }

    /// Resolves the fields, asks the vendor, seals the secrets.
    async fn verify(
        &self,
        mut account: Account,
        connector: Arc<Connector>,
        method: Arc<LinkMethod>,
        given: &BTreeMap<String, String>,
    ) -> Result<Verified> {
        let resolved = method.resolve(given, &|url| self.guard.names(url)).map_err(field_problems)?;
        for url in resolved.hosts.iter().chain([&resolved.base]) {
            self.guard.check(url).map_err(|why| Error::new(Code::EgressRefused, why))?;
        }
        account.fields = resolved.fields.clone();
        account.origins = resolved.origins.clone();
        let (key, wrapped_key) = self.vault.new_data_key(account.environment, account.id);
        account.sealed = seal_fields(&account, &key, &resolved);
        let access = build_access(&account, connector, method, resolved)?;
        let Tested { facts, warnings } = self.upstream.test(&access).await.map_err(refused)?;
        account.facts = facts;
        Ok(Verified { account, wrapped_key, warnings })
    }

    /// The stored fields with the changed ones laid over; all secrets must come along when the destination changes.
    async fn merge_fields(
        &self,
        account: &Account,
        method: &LinkMethod,
        changed: BTreeMap<String, Option<String>>,
    ) -> Result<BTreeMap<String, String>> {
        let secrets: Vec<&str> = method.fields.iter().filter(|f| f.kind == FieldKind::Secret).map(|f| f.name.as_str()).collect();
        let moved = changed.iter().any(|(name, value)| {
            method.decides_destination(name) && value.as_deref() != account.fields.get(name).map(String::as_str)
        });
        let absent: Vec<&str> =
            secrets.iter().copied().filter(|name| account.sealed.contains_key(*name) && !changed.contains_key(*name)).collect();
        if moved && !absent.is_empty() {
            let detail = format!("A change of the address needs all secrets again; missing: {}.", absent.join(", "));
            return Err(Error::new(Code::SecretsRequired, detail).field(absent[0]));
        }
        let mut fields = account.fields.clone();
        if !absent.is_empty() {
            for (name, secret) in self.unseal(account).await? {
                fields.insert(name, secret.expose().to_owned());
            }
        }
        for (name, value) in changed {
            match value {
                Some(value) => fields.insert(name, value),
                None => fields.remove(&name),
            };
        }
        Ok(fields)
    }

    /// The account's data key.
    pub(super) async fn data_key(&self, account: &Account) -> Result<DataKey> {
        let wrapped = self.records.data_key(account.id).await?.ok_or_else(unreadable)?;
        self.vault.data_key(account.environment, account.id, &wrapped).map_err(|why| unreadable().because(why))
    }

    /// The secret fields.
    pub(super) async fn unseal(&self, account: &Account) -> Result<BTreeMap<String, Secret>> {
        let key = self.data_key(account).await?;
        open_fields(account, &key)
    }
}

fn is_same_but_for_state(before: &Account, now: &Account) -> bool {
    let Account { status, updated_at, .. } = *before;
    let (last_error, last_forbidden) = (before.last_error.clone(), before.last_forbidden.clone());
    Account { status, updated_at, last_error, last_forbidden, ..now.clone() } == *before
}

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

fn seal_fields(account: &Account, key: &DataKey, resolved: &Resolved) -> BTreeMap<String, String> {
    let seal = |(name, secret): (&String, &Secret)| {
        (name.clone(), BASE64_STANDARD.encode(key.seal(place(account, name), secret.expose().as_bytes())))
    };
    resolved.secrets.iter().map(seal).collect()
}

/// The place of one field of an account.
pub(super) fn place<'a>(account: &'a Account, field: &'a str) -> Place<'a> {
    Place {
        environment: account.environment,
        account: account.id,
        connector: &account.connector,
        method: &account.method,
        field,
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

impl ListAccounts {
    fn matches(&self, account: &Account) -> bool {
        self.tenant_id.as_ref().is_none_or(|t| *t == account.tenant_id)
            && self.integration.as_ref().is_none_or(|i| i == account.connector.as_str())
            && self.status.is_none_or(|s| s == account.status)
            && self.is_sandbox.is_none_or(|s| s == account.is_sandbox)
    }
}

fn find_method(connector: &Connector, name: &str) -> Result<Arc<LinkMethod>> {
    connector.method(name).cloned().ok_or_else(|| {
        let known: Vec<&str> = connector.methods.iter().map(|m| m.name.as_str()).collect();
        let detail = format!("`{}` is not a way to link {}. There are: {}.", shorten(name), connector.slug, known.join(", "));
        Error::new(Code::InvalidBody, detail).field("authentication_method")
    })
}

fn split_context(method: &LinkMethod, context: Map<String, Value>) -> Result<(BTreeMap<String, String>, Map<String, Value>)> {
    check_labels(method, &context).map_err(field_problems)?;
    let mut fields = BTreeMap::new();
    let mut free = Map::new();
    for (name, value) in context {
        if method.field(&name).is_none() {
            free.insert(name, value);
        } else if let Some(text) = field_text(&name, value)? {
            fields.insert(name, text);
        }
    }
    Ok((fields, free))
}

fn field_text(name: &str, value: Value) -> Result<Option<String>> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text)),
        Value::Number(number) => Ok(Some(number.to_string())),
        Value::Bool(flag) => Ok(Some(flag.to_string())),
        Value::Array(_) | Value::Object(_) => {
            Err(Error::new(Code::InvalidField, format!("`{name}` takes a text.")).field(format!("context.{name}")))
        }
    }
}

fn check_tenant(tenant_id: &str) -> Result<()> {
    if tenant_id.is_empty() || tenant_id.len() > 200 || tenant_id.chars().any(char::is_control) {
        let detail = "`tenant_id` is your own label of the end customer: 1 to 200 bytes, no control characters.";
        return Err(Error::new(Code::InvalidBody, detail).field("tenant_id"));
    }
    Ok(())
}

fn field_problems(problems: Vec<FieldProblem>) -> Error {
    let detail = problems.iter().map(|p| format!("{}: {}", p.field, p.message)).collect::<Vec<_>>().join(" ");
    let first = problems.into_iter().next().map(|p| p.field).unwrap_or_default();
    Error::new(Code::InvalidField, detail).field(format!("context.{first}"))
}

/// A credential that does not verify is the caller's to mend: 422 with what the vendor said; silence stays 502/504.
fn refused(failure: Failure) -> Error {
    match failure {
        Failure::Answered { answer, message, wait, meaning } if !is_passing(meaning) => {
            let said = message.unwrap_or_else(|| format!("The vendor answered {}.", answer.status.unwrap_or_default()));
            let error = Error::new(Code::CredentialRefused, said).vendor(answer);
            wait.into_iter().fold(error, Error::retry_after)
        }
        other => other.into(),
    }
}

fn is_passing(meaning: crate::connector::Meaning) -> bool {
    matches!(meaning, crate::connector::Meaning::RateLimited | crate::connector::Meaning::NotReady)
}

pub(super) fn unreadable() -> Error {
    Error::new(Code::CredentialUnreadable, "The stored credential of this account does not open.")
}

pub(super) fn missing_connector(slug: &Slug) -> Error {
    Error::new(Code::ResourceNotSupported, format!("The connector `{slug}` of this account is not installed on this node."))
}

fn parse_after(after: Option<&str>) -> Result<Option<AccountId>> {
    let invalid = || Error::new(Code::InvalidCursor, "`next_cursor` is not one this list gave out.").field("next_cursor");
    after.map(|text| text.parse().map_err(|_| invalid())).transpose()
}

fn shorten(text: &str) -> String {
    text.chars().take(64).collect()
}
