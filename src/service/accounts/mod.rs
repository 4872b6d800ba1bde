//! Linked accounts: imported, verified, sealed, shown without secrets, and opened for calls.

mod check;
mod client;
pub(super) mod context;
pub(super) mod credential;
pub(super) mod expiry;
mod facts;
mod give_back;
mod grant;
mod import;
mod list;
pub mod open;
mod own;
pub(super) mod refresh;
pub(super) mod rekey;
pub(super) mod renew;
mod replace;
mod state;
mod token;
mod uninstall;
pub(super) mod verify;
mod work;

use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
};

use arc_swap::ArcSwap;
use jiff::Timestamp;
use serde_json::{Map, Value};

pub use self::{
    check::{Seen, SeenCount},
    grant::{Granted, Tokens as GrantedTokens},
    import::{IfThere, Leave, NewAccount},
    list::ListAccounts,
    open::Opened,
    refresh::OUTCOME_UNKNOWN,
    rekey::MOST_SEALS,
    token::MadeAccountToken,
    work::{DeleteAccounts, Deleter},
};
use self::{
    context::check_labels,
    credential::{field_problems, open_fields, unreadable},
    state::transition,
};
use super::{
    REDACTED,
    idempotency::Run,
    installs::{
        Installs, missing_connector,
        rules::{changed_maps, check_maps, members},
    },
};
use crate::{
    connector::{Catalog, Connector, FieldProblem, LinkMethod, Maps},
    error::{Code, Error, Result},
    model::{Account, AccountId, Clock, EnvironmentId, Secret},
    store::{StoreError, repo},
    upstream::{Access, Guard, Upstream},
    vault::{DataKey, Vault},
};

/// The largest free context of an account.
const MAX_CONTEXT: usize = 64 * 1024;
/// What a caller knows an account's rules by.
const OVERRIDE: &str = "unified_model_override";
const MODEL: &str = "user-directory";
const MAPS: &str = "unified_model_override.user-directory";
/// How often a write begins again because an account's state was noted meanwhile.
pub(super) const TRIES: usize = 10;

/// `PATCH /integrated-account/{id}`: what is left out stays. May hold secrets, therefore no `Debug`.
#[derive(Default)]
pub struct ChangeAccount {
    /// A new label.
    pub tenant_id: Option<String>,
    /// Fields and context, merged at the top level; `null` removes.
    pub context: Option<Map<String, Value>>,
    /// Rules over the connector's maps, `{"user-directory": {"users": {"map": {…}}}}`, merged key by key.
    pub overrides: Option<Value>,
    /// Whether calls go through.
    pub is_enabled: Option<bool>,
    /// When the credential ends; none forgets it.
    pub expires_at: Option<Option<Timestamp>>,
    /// The run of a write that can be repeated.
    pub run: Option<Run>,
}

impl ChangeAccount {
    /// Whether everything stays.
    pub fn is_empty(&self) -> bool {
        let switches = self.is_enabled.is_none() && self.expires_at.is_none();
        switches && self.tenant_id.is_none() && self.context.is_none() && self.overrides.is_none()
    }
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
    pub(super) installs: Arc<Installs>,
    pub(super) vault: Arc<Vault>,
    pub(super) upstream: Arc<Upstream>,
    pub(super) guard: Arc<Guard>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) opened: Opened,
    pub(super) me: Weak<Accounts>,
}

/// What an account is called by its owner: changed without a look at the credential.
pub(super) struct Labels {
    tenant_id: Option<String>,
    /// Merged at the top level; null removes.
    context: Map<String, Value>,
    /// Merged key by key, and what it must fit.
    pub(super) maps: Option<(Value, Arc<LinkMethod>)>,
    is_enabled: Option<bool>,
    pub(super) expires_at: Option<Option<Timestamp>>,
}

impl Accounts {
    /// Over its tools.
    pub fn new(
        records: repo::Accounts,
        installs: Arc<Installs>,
        vault: Arc<Vault>,
        upstream: Arc<Upstream>,
        guard: Arc<Guard>,
        clock: Arc<dyn Clock>,
        opened: Opened,
    ) -> Arc<Self> {
        let catalog = Arc::clone(installs.catalog());
        Arc::new_cyclic(|me| Self { records, catalog, installs, vault, upstream, guard, clock, opened, me: me.clone() })
    }

    /// One account.
    pub async fn get(&self, environment: EnvironmentId, id: &str) -> Result<Account> {
        Ok(self.find(environment, id).await?.0)
    }

    /// Stores new labels, whatever calls and background tests note about the account's state meanwhile.
    pub(super) async fn relabel(&self, before: Account, mut version: u64, labels: &Labels) -> Result<Account> {
        let mut now = before.clone();
        for _ in 0..TRIES {
            let account = labels.lay_over(now.clone(), self.clock.now())?;
            let events = transition(Some((&now, version)), Some(&account), account.updated_at);
            match self.records.update(&account, version, &events).await {
                Err(StoreError::Conflict(why)) => {
                    let is_same = |now: &Account| is_same_but_for_state(&before, now);
                    (now, version) = self.newer(before.id, version, is_same, why).await?;
                }
                done => {
                    done?;
                    self.opened.forget(account.environment, account.id).await;
                    self.announce(&events);
                    return Ok(account);
                }
            }
        }
        Err(busy())
    }

    /// After a conflict: the record as it is now, if that is still what is to be written over.
    pub(super) async fn newer(
        &self,
        id: AccountId,
        version: u64,
        is_same: impl Fn(&Account) -> bool,
        conflict: String,
    ) -> Result<(Account, u64)> {
        match self.records.get(id).await? {
            Some((now, newer)) if newer != version && is_same(&now) => Ok((now, newer)),
            _ => Err(StoreError::Conflict(conflict).into()),
        }
    }

    /// Destroys the data key, then everything else of the account; what the vendor granted is given back to it.
    pub async fn delete(&self, environment: EnvironmentId, id: &str) -> Result<()> {
        self.delete_granted(environment, id, None).await
    }

    /// The same where it is known what was granted.
    pub(super) async fn delete_granted(&self, environment: EnvironmentId, id: &str, known: Option<&Arc<Access>>) -> Result<()> {
        for _ in 0..TRIES {
            let (account, version) = self.find(environment, id).await?;
            let events = transition(Some((&account, version)), None, self.clock.now());
            let granted = match known {
                Some(known) => Some(Arc::clone(known)),
                None => self.granted_by_vendor(&account, version).await,
            };
            match self.records.delete(account.id, environment, Some(version), &events).await {
                Err(StoreError::Conflict(_)) => {}
                done => {
                    self.opened.forget(environment, account.id).await;
                    if let (Ok(_), Some(granted)) = (&done, granted) {
                        self.give_all_back(granted);
                    }
                    return Ok(done.map(|_| ())?);
                }
            }
        }
        Err(busy())
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
        self.installs.resolve(environment, name)
    }

    /// The connector an account was linked by.
    pub fn connector_of(&self, account: &Account) -> Result<Arc<Connector>> {
        let connector = self.catalog.load().get(account.connector.as_str()).cloned();
        connector.ok_or_else(|| missing_connector(&account.connector))
    }

    /// The connector of an account with the rules of its environment and its own laid over it, for documents about it.
    pub async fn connector_as_laid(&self, account: &Account) -> Result<Arc<Connector>> {
        let connector = self.installs.connector(account.environment, &account.connector).await?;
        if account.maps.is_empty() {
            return Ok(connector);
        }
        let method = method_as_laid(&connector, account)?;
        Ok(Arc::new(connector.with_method(&method)))
    }

    /// The account's data key.
    pub(super) async fn data_key(&self, account: &Account) -> Result<DataKey> {
        let data_keys = self.records.data_keys();
        let (wrapped, _) = data_keys.get(account.id).await?.ok_or_else(unreadable)?;
        // Read second: a record that was read before another data key came opens with the key before it.
        let former = data_keys.former(account.id).await?;
        let key = self.vault.data_key_with(account.environment, account.id, &wrapped, former.as_deref());
        key.map_err(|why| unreadable().because(why))
    }

    /// The secret fields.
    pub(super) async fn unseal(&self, account: &Account) -> Result<BTreeMap<String, Secret>> {
        let key = self.data_key(account).await?;
        open_fields(account, &key)
    }
}

impl Labels {
    pub(super) fn lay_over(&self, mut account: Account, now: Timestamp) -> Result<Account> {
        if let Some(tenant_id) = &self.tenant_id {
            account.tenant_id.clone_from(tenant_id);
        }
        for (name, value) in &self.context {
            match value {
                Value::Null => drop(account.context.remove(name)),
                value => drop(account.context.insert(name.clone(), value.clone())),
            }
        }
        check_context(&account.context)?;
        if let Some((change, over)) = &self.maps {
            account.maps = changed_maps(&account.maps, change, MAPS)?;
            check_maps(&account.maps, MAPS, |maps| over.check_maps(maps))?;
        }
        account.is_enabled = self.is_enabled.unwrap_or(account.is_enabled);
        account.expires_at = self.expires_at.unwrap_or(account.expires_at);
        account.updated_at = now;
        Ok(account)
    }
}

/// State is what calls and looks note; its owner's own words and switches are not. Fields of one generation are the same,
/// whichever data key they are sealed under.
fn is_same_but_for_state(before: &Account, now: &Account) -> bool {
    let Account { status, updated_at, checked_at, data_version, expiry_notice, .. } = *before;
    let (last_error, last_forbidden) = (before.last_error.clone(), before.last_forbidden.clone());
    let (facts, sealed) = (before.facts.clone(), before.sealed.clone());
    let state = Account { status, updated_at, checked_at, data_version, expiry_notice, ..now.clone() };
    Account { last_error, last_forbidden, facts, sealed, ..state } == *before
}

/// A way to link by its name.
pub(super) fn find_method(connector: &Connector, name: &str) -> Result<Arc<LinkMethod>> {
    connector.method(name).cloned().ok_or_else(|| {
        let known: Vec<&str> = connector.methods.iter().map(|m| m.name.as_str()).collect();
        let detail = format!("`{}` is not a way to link {}. There are: {}.", shorten(name), connector.slug, known.join(", "));
        Error::new(Code::InvalidBody, detail).field("authentication_method")
    })
}

pub(super) fn split_context(
    method: &LinkMethod,
    context: Map<String, Value>,
) -> Result<(BTreeMap<String, String>, Map<String, Value>)> {
    check_labels(method, &context).map_err(field_problems)?;
    let mut fields = BTreeMap::new();
    let mut free = Map::new();
    for (name, value) in context {
        if method.field(&name).is_none() {
            free.insert(name, value);
        } else if let Some(text) = text_of(method, &name, value)? {
            if is_placeholder(method, &name, &text) {
                return Err(field_problems(vec![stands_for_secret(&name)]));
            }
            fields.insert(name, text);
        }
    }
    Ok((fields, free))
}

/// The labels, and the link method's fields; a field that is null is to be removed, and a secret that is sent as it is shown
/// stays.
pub(super) fn split_change(
    method: &Arc<LinkMethod>,
    change: ChangeAccount,
    now: Timestamp,
) -> Result<(Labels, BTreeMap<String, Option<String>>)> {
    if change.expires_at.flatten().is_some_and(|end| end <= now) {
        let detail = "`expires_at` lies in the past: it is the time to come at which the credential ends, or null.";
        return Err(Error::new(Code::InvalidBody, detail).field("expires_at"));
    }
    change.tenant_id.as_deref().map_or(Ok(()), check_tenant)?;
    let context = change.context.unwrap_or_default();
    check_labels(method, &context).map_err(field_problems)?;
    let (fields, context): (Map<_, _>, Map<_, _>) = context.into_iter().partition(|(name, _)| method.field(name).is_some());
    let text = |(name, value): (String, Value)| Ok((name.clone(), text_of(method, &name, value)?));
    let mut fields: BTreeMap<String, Option<String>> = fields.into_iter().map(text).collect::<Result<_>>()?;
    // What was read is sent back: the secret stays.
    fields.retain(|name, text| !text.as_deref().is_some_and(|text| is_placeholder(method, name, text)));
    let maps = change.overrides.as_ref().map(directory_maps).transpose()?.flatten();
    let maps = maps.map(|maps| (maps, Arc::clone(method)));
    let ChangeAccount { tenant_id, is_enabled, expires_at, .. } = change;
    Ok((Labels { tenant_id, context, maps, is_enabled, expires_at }, fields))
}

/// The part of an account's override that is about the user directory, the one model there is.
fn directory_maps(overrides: &Value) -> Result<Option<Value>> {
    match overrides {
        Value::Null => Ok(Some(Value::Null)),
        overrides => Ok(members(overrides, OVERRIDE, &[MODEL])?.get(MODEL).cloned()),
    }
}

/// A field of a link method as a text; none when it is null. A secret is never anything else.
fn text_of(method: &LinkMethod, name: &str, value: Value) -> Result<Option<String>> {
    match value {
        Value::Number(_) | Value::Bool(_) if is_secret(method, name) => Err(takes_a_text(name)),
        value => field_text(name, value),
    }
}

fn is_secret(method: &LinkMethod, name: &str) -> bool {
    method.field(name).is_some_and(|field| field.kind.is_secret())
}

/// Whether this is how a secret is shown, and not the secret.
fn is_placeholder(method: &LinkMethod, name: &str, text: &str) -> bool {
    text == REDACTED && is_secret(method, name)
}

/// The problem of a secret that is sent as it is shown where none is kept.
pub(super) fn stands_for_secret(name: &str) -> FieldProblem {
    let message = format!("`{REDACTED}` stands for a secret that is kept; give the secret itself");
    FieldProblem { field: name.to_owned(), message }
}

/// A field as a text; none when it is null.
pub(super) fn field_text(name: &str, value: Value) -> Result<Option<String>> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text)),
        Value::Number(number) => Ok(Some(number.to_string())),
        Value::Bool(flag) => Ok(Some(flag.to_string())),
        Value::Array(_) | Value::Object(_) => Err(takes_a_text(name)),
    }
}

fn takes_a_text(name: &str) -> Error {
    Error::new(Code::InvalidField, format!("`{name}` takes a text.")).field(format!("context.{name}"))
}

/// A context grows with every change; the record that holds it is read at every call.
pub(super) fn check_context(context: &Map<String, Value>) -> Result<()> {
    let length = serde_json::to_string(context).map_or(usize::MAX, |text| text.len());
    if length > MAX_CONTEXT {
        let detail = format!("`context` holds at most {MAX_CONTEXT} bytes of JSON beside the link fields, not {length}.");
        return Err(Error::new(Code::InvalidBody, detail).field("context"));
    }
    Ok(())
}

/// Refuses a label that could not be shown or stored.
pub(super) fn check_tenant(tenant_id: &str) -> Result<()> {
    if tenant_id.is_empty() || tenant_id.len() > 200 || tenant_id.chars().any(char::is_control) {
        let detail = "`tenant_id` is your own label of the end customer: 1 to 200 bytes, no control characters.";
        return Err(Error::new(Code::InvalidBody, detail).field("tenant_id"));
    }
    Ok(())
}

/// The way an account is linked, with its own rules laid over those of its environment.
pub(super) fn method_as_laid(connector: &Connector, account: &Account) -> Result<Arc<LinkMethod>> {
    let method = connector.method(&account.method).ok_or_else(|| missing_connector(&account.connector))?;
    if account.maps.is_empty() {
        return Ok(Arc::clone(method));
    }
    let (maps, mut problems) = Maps::read(&account.maps);
    let (laid, unfit) = method.with_maps(&maps);
    problems.extend(unfit);
    for problem in &problems {
        tracing::error!(account = %account.id, "a rule laid over a map does not fit; its resource is not offered: {problem}");
    }
    Ok(Arc::new(laid))
}

pub(super) fn busy() -> Error {
    Error::new(Code::Busy, "The state of this account changes all the time; nothing was written. Send the request again.")
}

fn shorten(text: &str) -> String {
    text.chars().take(64).collect()
}
