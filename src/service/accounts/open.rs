//! Opening accounts for calls, and what calls teach about an account's state.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::{SignedDuration, Timestamp};
use metrics::Unit;
use moka::{Expiry, future::Cache};

use super::{
    Accounts, Linked,
    check::Checks,
    credential::{build_access, open_fields, unreadable},
    expiry, method_as_laid,
    renew::Renewals,
    state::transition,
};
use crate::{
    connector::Connector,
    error::{Code, Error, Result},
    model::{Account, AccountId, AccountStatus, EnvironmentId, Event, EventKind, Forbidden, Tasks},
    service::{audit::Audit, fresh::Fresh},
    store::StoreError,
    upstream::{Failure, renewal::Renewal},
};

/// A cut-off node goes on using a credential it has confirmed for this long.
const KEPT: Duration = Duration::from_secs(60);
/// A broken account's vendor is asked again at most this often, by all nodes together.
const PROBE_EVERY: Duration = Duration::from_secs(60);
/// A node that finds that another one has asked looks again after this long.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// What a vendor denies again and again is noted at most this often, seconds.
const DENIED_EVERY: i64 = 60;
/// A look that found nothing new is noted at most this often, seconds.
const CHECKED_EVERY: i64 = 5;
/// How often a note begins again because the record was changed meanwhile.
const TRIES: usize = 3;
/// How often it is tried to say that there is something to tell, and how long between two tries.
const ANNOUNCED: usize = 5;
const BREATH: Duration = Duration::from_secs(1);

/// Shown on an account that does not open.
const UNREADABLE: &str = "The stored credential does not open: the record was moved or changed, or its key is gone.";
/// Shown on one that may open on other nodes.
const NO_ROOT_KEY: &str = "The stored credential is under a root key that a node's key ring does not have: give every node the \
    same key ring, or the record was changed.";
/// How long it is shown at the least.
const FLAGGED: SignedDuration = SignedDuration::from_secs(60);

const LOSSES: &str = "rollcall_store_lost_writes_total";

/// Each entry says how long it lives.
struct AsSaid;

impl Expiry<AccountId, Duration> for AsSaid {
    fn expire_after_create(&self, _: &AccountId, life: &Duration, _: Instant) -> Option<Duration> {
        Some(*life)
    }
}

/// Opened accounts in memory.
pub struct Opened {
    known: Fresh<(EnvironmentId, AccountId), Linked>,
    /// Accounts whose vendor was asked in the background, and for how long this node need not look whether it may be asked again.
    probed: Cache<AccountId, Duration>,
    pub(super) checks: Checks,
    pub(super) renewals: Renewals,
    pub(in crate::service) tasks: Tasks,
    pub(in crate::service) audit: Arc<Audit>,
}

impl Opened {
    /// Empty; `tasks` runs background tests, `audit` is told what the gateway does to accounts of its own accord.
    pub fn new(tasks: Tasks, audit: Arc<Audit>) -> Self {
        metrics::describe_counter!(LOSSES, Unit::Count, "Records that the store had in a newer version before.");
        metrics::counter!(LOSSES).increment(0);
        let probed = Cache::builder().max_capacity(100_000).expire_after(AsSaid).build();
        super::refresh::describe();
        let known = Fresh::new("credential", 10_000, KEPT);
        Self { known, probed, checks: Checks::default(), renewals: Renewals::default(), tasks, audit }
    }

    pub(super) async fn forget(&self, environment: EnvironmentId, id: AccountId) {
        self.known.forget(&(environment, id)).await;
    }

    /// Lets go of what has ended: an idle cache would keep it.
    pub(super) async fn evict(&self) {
        self.known.evict().await;
        self.renewals.evict().await;
    }
}

impl Accounts {
    /// Opens an account for calls; cached at most a second. `account_disabled` when its owner stopped its calls, and
    /// `reauth_required` when the vendor no longer accepts it: then the vendor is not touched, but asked in the background at
    /// most once a minute.
    pub async fn open(self: &Arc<Self>, environment: EnvironmentId, id: &str) -> Result<Arc<Linked>> {
        let linked = self.open_enabled(environment, id).await?;
        if linked.account.status != AccountStatus::NeedsReauth {
            return match linked.access.renewal {
                None => Ok(linked),
                Some(_) => Box::pin(self.with_token(linked)).await,
            };
        }
        self.probe(environment, linked.account.id);
        Err(reauth(&linked.account))
    }

    /// The same, whatever the vendor thinks of it.
    pub(in crate::service) async fn open_enabled(self: &Arc<Self>, environment: EnvironmentId, id: &str) -> Result<Arc<Linked>> {
        let linked = self.open_any(environment, id).await?;
        match linked.account.is_enabled {
            true => Ok(linked),
            false => Err(disabled()),
        }
    }

    /// From now on calls open their accounts with the connectors as they are now.
    pub fn reopen(&self) {
        self.opened.known.refresh();
    }

    pub(super) async fn open_any(self: &Arc<Self>, environment: EnvironmentId, id: &str) -> Result<Arc<Linked>> {
        let key = (environment, id.parse().map_err(|_| Error::not_found())?);
        self.opened.known.get(&key, |kept| self.load(environment, id, kept)).await
    }

    pub(super) async fn load(&self, environment: EnvironmentId, id: &str, kept: Option<Arc<Linked>>) -> Result<Arc<Linked>> {
        let (account, version) = self.find(environment, id).await?;
        if let Some(kept) = kept.as_ref().filter(|kept| kept.version > version) {
            report_loss(&account, kept.version, version);
        }
        let connector = self.installs.connector_in_use(environment, &account.connector).await?;
        let is_same = |kept: &Arc<Linked>| kept.version == version && Arc::ptr_eq(&connector, &kept.access.connector);
        if let Some(kept) = kept.filter(is_same)
            && self.has_the_kept_token(&kept).await?
        {
            return Ok(kept);
        }
        let decoded = self.decode(account.clone(), version, Arc::clone(&connector)).await;
        let (account, version, decoded) = match decoded {
            Err(error) if error.code() == Code::CredentialUnreadable => {
                self.decode_anew((account, version), connector, error).await?
            }
            decoded => (account, version, decoded),
        };
        match &decoded {
            Err(error) if error.code() == Code::CredentialUnreadable => {
                let why = if self.lacks_root_key(&account).await { NO_ROOT_KEY } else { UNREADABLE };
                self.note_reading(account, version, Some(why)).await;
            }
            Ok(_) if was_unreadable(&account, self.clock.now()) => self.note_reading(account, version, None).await,
            _ => {}
        }
        decoded.map(Arc::new)
    }

    /// A record that was linked anew between the reads of its parts does not open; what is there now does.
    async fn decode_anew(
        &self,
        (before, version): (Account, u64),
        connector: Arc<Connector>,
        error: Error,
    ) -> Result<(Account, u64, Result<Linked>)> {
        let (now, newer) = self.find(before.environment, &before.id.to_string()).await?;
        if (newer, &now.connector) == (version, &before.connector) {
            return Ok((before, version, Err(error)));
        }
        let connector = match now.connector == before.connector {
            true => connector,
            false => self.installs.connector_in_use(now.environment, &now.connector).await?,
        };
        let decoded = self.decode(now.clone(), newer, connector).await;
        Ok((now, newer, decoded))
    }

    pub(super) async fn decode(&self, account: Account, version: u64, connector: Arc<Connector>) -> Result<Linked> {
        let method = method_as_laid(&connector, &account)?;
        if method.fields.iter().any(|field| field.kind.is_secret() && account.fields.contains_key(&field.name)) {
            return Err(unreadable().because("a secret field stands in the clear"));
        }
        let data_key = self.data_key(&account).await?;
        let secrets = open_fields(&account, &data_key)?;
        let mut given: BTreeMap<String, String> = account.fields.clone();
        given.extend(secrets.iter().map(|(name, secret)| (name.clone(), secret.expose().to_owned())));
        // The stored fields were validated when they were linked; what the operator allows may have changed since, and the
        // guard decides about that at every call.
        let resolved = method.resolve(&given, &|_| true).map_err(|_| unreadable().because("stored fields no longer resolve"))?;
        if resolved.origins != account.origins {
            return Err(unreadable().because("the addresses are not the ones the secrets were sealed for"));
        }
        let access = self.with_its_app(&account, build_access(&account, connector, method, resolved)?).await?;
        let access = self.kept_token(&account, &data_key, access).await?;
        Ok(Linked { account, version, access: Arc::new(access), data_key })
    }

    /// Shows on the account why it does not open, or that it does again; best effort.
    async fn note_reading(&self, account: Account, version: u64, why: Option<&str>) {
        if account.last_error.as_deref() != why {
            let noted = Account { last_error: why.map(str::to_owned), ..account.clone() };
            if let Err(error) = self.keep((&account, version), noted).await {
                tracing::warn!(account = %account.id, %error, "could not flag the account");
            }
        }
    }

    /// What a failed call means for the account's state; returns the error for the caller. A credential whose token can be
    /// renewed ends by the token endpoint's word; a refusal by the API casts doubt on it only.
    pub async fn note_failure(&self, linked: &Linked, resource: &str, method: &str, failure: Failure) -> Error {
        let is_final = linked.access.renewal.is_none() || matches!(failure, Failure::NotRenewed(_));
        let code = failure.code();
        let error = Error::from(failure);
        match code {
            Code::ReauthRequired if is_final => drop(self.mark_refused(linked, &error).await),
            Code::ReauthRequired => self.doubt(linked),
            Code::VendorDenied if !is_noted(&linked.account, resource, method, self.clock.now()) => {
                let forbidden = Forbidden {
                    resource: resource.to_owned(),
                    method: method.to_owned(),
                    missing_scopes: error
                        .vendor_answer()
                        .and_then(|said| said.missing_scopes.as_deref().cloned())
                        .unwrap_or_default(),
                    occurred_at: self.clock.now(),
                };
                self.update(linked, move |account| account.last_forbidden = Some(forbidden.clone())).await;
            }
            _ => {}
        }
        error
    }

    /// A good call: what the vendor denied it before, it denies no more.
    pub(in crate::service) async fn note_success(&self, linked: &Linked, resource: &str, method: &str) {
        let is_of_this = |denied: &Forbidden| denied.resource == resource && denied.method == method;
        if linked.account.last_forbidden.as_ref().is_some_and(is_of_this) {
            let clear = |account: &mut Account| drop(account.last_forbidden.take_if(|denied| is_of_this(denied)));
            self.update(linked, clear).await;
        }
    }

    /// Of many callers whom one refusal reached, the first notes it.
    pub(super) async fn mark_refused(&self, linked: &Linked, error: &Error) -> Option<Account> {
        let said = error.detail().to_owned();
        let mark = move |account: &mut Account| {
            account.status = AccountStatus::NeedsReauth;
            account.last_error = Some(said.clone());
        };
        self.update(linked, mark).await
    }

    /// A 401 that may have other reasons marks the account only if the connector's own test is refused too.
    pub fn doubt(&self, linked: &Linked) {
        self.probe(linked.access.environment, linked.account.id);
    }

    fn probe(&self, environment: EnvironmentId, id: AccountId) {
        let Some(accounts) = self.me.upgrade() else { return };
        self.opened.tasks.spawn(async move {
            if accounts.begins_probe(id).await
                && let Ok(linked) = accounts.open_enabled(environment, &id.to_string()).await
            {
                // What it found is noted; nobody waits for it.
                let _ = accounts.check(linked).await;
            }
        });
    }

    /// Whether this call is the one of all nodes' that has the vendor asked. A node asks the store seldom, however many call.
    async fn begins_probe(&self, id: AccountId) -> bool {
        let ask = async {
            let is_ours = self.records.begin_probe(id, PROBE_EVERY).await?;
            Ok::<_, StoreError>(if is_ours { PROBE_EVERY } else { LOOK_AGAIN })
        };
        match self.opened.probed.entry(id).or_try_insert_with(ask).await {
            Ok(entry) => entry.is_fresh() && entry.into_value() == PROBE_EVERY,
            Err(error) => {
                tracing::debug!(account = %id, %error, "a broken account's vendor is not asked");
                false
            }
        }
    }

    /// Changes the stored record if it is still of the credential this call used; a newer credential wins. A change that
    /// changes nothing writes nothing. Gives the record as it is then.
    pub(super) async fn update(&self, linked: &Linked, change: impl Fn(&mut Account)) -> Option<Account> {
        let kept = self.try_update(linked, change).await;
        self.opened.forget(linked.account.environment, linked.account.id).await;
        kept
    }

    async fn try_update(&self, linked: &Linked, change: impl Fn(&mut Account)) -> Option<Account> {
        let id = linked.account.id;
        for _ in 0..TRIES {
            let (before, version) = self.records.get(id).await.ok().flatten()?;
            if before.generation != linked.account.generation {
                return None;
            }
            let mut after = before.clone();
            change(&mut after);
            // What is left of a token may work for a while after its grant has ended: that brings nobody back.
            if is_known(&before, &after) || (comes_back(&before, &after) && self.has_ended(linked).await.ok()?) {
                return Some(before);
            }
            match self.keep((&before, version), after).await {
                Ok(kept) => return Some(kept),
                Err(StoreError::Conflict(_)) => {}
                Err(error) => {
                    tracing::warn!(account = %id, %error, "could not note the account's state");
                    return None;
                }
            }
        }
        None
    }

    /// Whether the grant has ended, as the store has it now: with its end, which is read after the record, that is another one.
    async fn has_ended(&self, linked: &Linked) -> Result<bool> {
        if linked.access.renewal.is_none() {
            return Ok(false);
        }
        let now = Box::pin(self.load(linked.account.environment, &linked.account.id.to_string(), None)).await?;
        Ok(now.access.renewal.as_ref().is_some_and(Renewal::is_ended))
    }

    /// Stores a record over the one it was made of, with the events of the change. The one way states change.
    pub(super) async fn keep(&self, (before, version): (&Account, u64), mut after: Account) -> Result<Account, StoreError> {
        let now = self.clock.now();
        if !is_only_looked_at(before, &after) {
            after.updated_at = now;
        }
        if before.facts != after.facts {
            after.data_version += 1;
        }
        let events = transition(Some((before, version)), Some(&after), now);
        self.records.update(&after, version, &events).await?;
        self.announce(&events);
        Ok(after)
    }

    /// Announces the end of a credential, unless somebody did; gives the account as it is then.
    pub(in crate::service) async fn announce_end(&self, mut account: Account) -> Result<Account> {
        for _ in 0..TRIES {
            let Some((before, version)) = self.records.get(account.id).await? else { return Ok(account) };
            let Some(notice) = expiry::due(&before, self.clock.now()) else { return Ok(before) };
            let after = Account { expiry_notice: Some(notice), ..before.clone() };
            match self.keep((&before, version), after).await {
                Err(StoreError::Conflict(_)) => account = before,
                kept => return Ok(kept?),
            }
        }
        Ok(account)
    }

    /// Says that there is something to tell, beside the call that did it. If it cannot be said, whoever looks after the account
    /// finds it.
    pub(super) fn announce(&self, events: &[Event]) {
        let Some(&Event { id, environment, account, .. }) = events.first() else { return };
        if events.iter().any(|event| event.kind == EventKind::Enabled) {
            self.probe(environment, account);
        }
        let queues = self.records.queues();
        self.opened.tasks.spawn(async move {
            for _ in 0..ANNOUNCED {
                match queues.announce(environment, account, id).await {
                    Ok(()) => return,
                    Err(error) => tracing::debug!(%account, %error, "events are announced once more"),
                }
                tokio::time::sleep(BREATH).await;
            }
        });
    }
}

/// Whether nothing is news but that somebody looked, and somebody did a moment ago.
fn is_known(before: &Account, after: &Account) -> bool {
    let is_recent = match (before.checked_at, after.checked_at) {
        (Some(last), Some(now)) => now.duration_since(last) < SignedDuration::from_secs(CHECKED_EVERY),
        (last, now) => last == now,
    };
    is_recent && is_only_looked_at(before, after)
}

/// Whether the records differ at most in when the other side was looked at.
fn is_only_looked_at(before: &Account, after: &Account) -> bool {
    Account { checked_at: after.checked_at, ..before.clone() } == *after
}

/// Whether an account that its vendor had refused is active again.
fn comes_back(before: &Account, after: &Account) -> bool {
    (before.status, after.status) == (AccountStatus::NeedsReauth, AccountStatus::Active)
}

/// The store has an older record than it had: a fail-over lost writes that it had acknowledged.
fn report_loss(account: &Account, had: u64, has: u64) {
    metrics::counter!(LOSSES).increment(1);
    let (account, generation) = (account.id, account.generation);
    tracing::error!(%account, generation, had, has, "the store lost an acknowledged write of this account; look at its replication");
}

/// Whether the account still shows, after a while, that it does not open. Nodes that differ about it must not take turns.
fn was_unreadable(account: &Account, now: Timestamp) -> bool {
    let is_flagged = account.last_error.as_deref().is_some_and(|said| [NO_ROOT_KEY, UNREADABLE].contains(&said));
    is_flagged && now.duration_since(account.updated_at) > FLAGGED
}

fn disabled() -> Error {
    Error::new(Code::AccountDisabled, "Calls of this account are stopped (`is_enabled` is false); its vendor is not asked.")
}

pub(super) fn reauth(account: &Account) -> Error {
    let detail =
        account.last_error.clone().unwrap_or_else(|| "The vendor no longer accepts this account's credential.".to_owned());
    Error::new(Code::ReauthRequired, detail)
}

/// Whether the account shows already that the vendor denies this: each note is a durable write, and callers go on asking.
fn is_noted(account: &Account, resource: &str, method: &str, now: Timestamp) -> bool {
    account.last_forbidden.as_ref().is_some_and(|last| {
        let age = now.duration_since(last.occurred_at);
        last.resource == resource && last.method == method && age < SignedDuration::from_secs(DENIED_EVERY)
    })
}
