//! What is done for accounts without a caller: their events are moved to the log, each is looked at daily, and the end of its
//! credential is announced in time.
//!
//! Nodes share the work by queues: what one has claimed no other gets. An account that was forgotten, because a node ended
//! between two steps or made the account before there were queues, is found by whoever reads the whole list.

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt, TryStreamExt, future::join_all, stream};
use jiff::{SignedDuration, Timestamp};

use super::{Audit, Events, Linked, accounts::Accounts, expiry};
use crate::{
    error::{Code, Result},
    model::{Account, AccountId, AccountStatus, Clock, EnvironmentId, EventKind},
    store::{
        Claimed, Settle,
        repo::{self, EndedEnvironment, Queue, Queues},
    },
};

/// Accounts worked on at once.
const TOGETHER: usize = 16;
/// Accounts whose events are moved in one turn.
const MOVED: usize = 32;
/// How long a node may take to move an account's events.
const MOVE_LEASE: Duration = Duration::from_secs(60);
/// How long a look may take.
const LOOK_LEASE: Duration = Duration::from_secs(300);
/// A look that takes longer is given up, so that it ends before its lease.
const LOOK_TIME: Duration = Duration::from_secs(120);
/// After a failure of our own, or of a vendor that did not answer.
const AGAIN: Duration = Duration::from_secs(3600);
/// After a failure to move events.
const MOVE_AGAIN: Duration = Duration::from_secs(5);
/// How long one node may read the whole list for all.
const SWEEP_LEASE: Duration = Duration::from_secs(1800);
/// Accounts of one page of the list.
const PAGE: usize = 500;
/// The time between two looks while the daily one is off: only ends of credentials are watched.
const DAY: Duration = Duration::from_secs(24 * 3600);

/// Takes care of the accounts of all environments.
pub struct Care {
    accounts: Arc<Accounts>,
    events: Arc<Events>,
    audit: Arc<Audit>,
    installation: repo::Installation,
    queues: Queues,
    clock: Arc<dyn Clock>,
    every: Option<Duration>,
}

impl Care {
    /// Over its tools. Each account is looked at once within `every`; none looks at no vendor.
    pub fn new(
        accounts: Arc<Accounts>,
        (events, audit): (Arc<Events>, Arc<Audit>),
        installation: repo::Installation,
        clock: Arc<dyn Clock>,
        every: Option<Duration>,
    ) -> Self {
        let queues = accounts.records.queues();
        Self { accounts, events, audit, installation, queues, clock, every }
    }

    /// Every environment, in id order.
    pub async fn environments(&self) -> Result<Vec<EnvironmentId>> {
        Ok(self.installation.environments().await?.into_iter().map(|environment| environment.id).collect())
    }

    /// When the other side of an account is looked at next, at the latest; none where it is not.
    pub fn next_look(&self, account: &Account) -> Option<Timestamp> {
        let every = SignedDuration::try_from(self.every?).ok()?;
        let last = account.checked_at.unwrap_or(account.created_at);
        account.is_enabled.then(|| last.checked_add(every).ok()).flatten()
    }

    /// Moves the events of some accounts that have some into the log; how many accounts that were.
    pub async fn tell(&self, environment: EnvironmentId) -> Result<usize> {
        let items = self.queues.claim(environment, Queue::Outbox, MOVE_LEASE, MOVED).await?;
        let telling = items.iter().map(|item| self.tell_one(environment, item));
        join_all(telling).await.into_iter().collect::<Result<Vec<()>>>()?;
        Ok(items.len())
    }

    async fn tell_one(&self, environment: EnvironmentId, item: &Claimed) -> Result<()> {
        let account = std::str::from_utf8(&item.value).ok().and_then(|id| id.parse().ok());
        let told = match account {
            Some(account) => self.move_out(environment, account).await,
            None => Ok(()),
        };
        let outcome = told.as_ref().map_or(Settle::Retry(MOVE_AGAIN), |()| Settle::Done);
        self.queues.settle(environment, Queue::Outbox, item, outcome).await?;
        told
    }

    /// Moves an account's events, and begins to look after one that is new or whose credential is.
    async fn move_out(&self, environment: EnvironmentId, account: AccountId) -> Result<()> {
        let begins = |kind| matches!(kind, EventKind::Created | EventKind::Updated | EventKind::Active);
        if self.events.move_out(account).await?.iter().any(|event| begins(event.kind)) {
            self.queues.push(environment, Queue::Care, &account.to_string(), self.interval()).await?;
            if let Some((record, _)) = self.accounts.records.get(account).await? {
                self.watch_end(record).await?;
            }
        }
        Ok(())
    }

    /// Looks at some accounts whose time has come; how many that were.
    pub async fn visit(&self, environment: EnvironmentId) -> Result<usize> {
        let items = self.queues.claim(environment, Queue::Care, LOOK_LEASE, TOGETHER).await?;
        let visits = items.iter().map(|item| self.visit_one(environment, item));
        join_all(visits).await.into_iter().collect::<Result<Vec<()>>>()?;
        Ok(items.len())
    }

    /// An item is an account's id, or its id and the time at which something of the end of its credential is to be said.
    async fn visit_one(&self, environment: EnvironmentId, item: &Claimed) -> Result<()> {
        let (id, is_look) = item.id.split_once('/').map_or((item.id.as_str(), true), |(id, _)| (id, false));
        let visited = match id.parse() {
            Ok(id) => self.look_after(environment, id, is_look).await,
            Err(_) => Ok(None),
        };
        let outcome = match &visited {
            Ok(Some(again)) if is_look => Settle::Retry(*again),
            Ok(_) => Settle::Done,
            Err(_) => Settle::Retry(self.interval().min(AGAIN)),
        };
        self.queues.settle(environment, Queue::Care, item, outcome).await?;
        visited.map(|_| ())
    }

    /// Everything that is to be done for one account; when it is to be done again, unless the account is gone.
    async fn look_after(&self, environment: EnvironmentId, id: AccountId, is_look: bool) -> Result<Option<Duration>> {
        if self.events.has_some(id).await? {
            self.move_out(environment, id).await?;
        }
        let Some((account, _)) = self.accounts.records.get(id).await? else { return Ok(None) };
        let account = self.watch_end(account).await?;
        let is_alive = matches!(account.status, AccountStatus::Active | AccountStatus::NeedsReauth);
        if !(is_look && is_alive && account.is_enabled && self.every.is_some()) {
            return Ok(Some(self.interval()));
        }
        match tokio::time::timeout(LOOK_TIME, self.look(&account)).await {
            Ok(true) => Ok(Some(self.interval())),
            Ok(false) | Err(_) => Ok(Some(self.interval().min(AGAIN))),
        }
    }

    /// Asks the vendor whether the credential works; whether it said anything about that.
    async fn look(&self, account: &Account) -> bool {
        let linked: Result<Arc<Linked>> = self.accounts.open_enabled(account.environment, &account.id.to_string()).await;
        let looked = match linked {
            Ok(linked) => self.accounts.check(linked).await.map(|_| ()),
            Err(error) => Err(error),
        };
        match looked {
            Ok(()) => true,
            Err(error) => {
                tracing::debug!(account = %account.id, %error, "a look at the vendor found no good answer");
                matches!(error.code(), Code::ReauthRequired | Code::AccountDisabled | Code::CredentialUnreadable)
            }
        }
    }

    /// Announces the end of a credential if that is due, and sees to it that the next announcement will be made in time.
    async fn watch_end(&self, account: Account) -> Result<Account> {
        let now = self.clock.now();
        let account = match expiry::due(&account, now) {
            Some(_) => self.accounts.announce_end(account).await?,
            None => account,
        };
        if let Some(time) = expiry::next(&account, now) {
            let item = format!("{}/{}", account.id, time.as_millisecond());
            let delay = Duration::try_from(time.duration_since(now)).unwrap_or_default();
            self.queues.push(account.environment, Queue::Care, &item, delay).await?;
        }
        Ok(account)
    }

    /// Reads the whole list for what was forgotten: events of accounts, also of those that are gone, and accounts that nobody
    /// looks after. One node does it at a time; false when another is at it.
    pub async fn find_forgotten(&self, environment: EnvironmentId) -> Result<bool> {
        let Some(hold) = self.queues.hold(environment, "care", SWEEP_LEASE).await? else { return Ok(false) };
        let swept = self.sweep(environment).await;
        self.queues.release(&hold).await?;
        swept.map(|()| true)
    }

    async fn sweep(&self, environment: EnvironmentId) -> Result<()> {
        let records = &self.accounts.records;
        let mut after = None;
        loop {
            let (page, more) = records.ids(environment, after, PAGE).await?;
            let found = stream::iter(page.into_iter().map(|account| self.find_one(environment, account)));
            found.buffer_unordered(TOGETHER).try_collect::<Vec<()>>().await?;
            after = more;
            if after.is_none() {
                break;
            }
        }
        self.events.trim(environment).await?;
        records.sweep_index(environment).await?;
        Ok(())
    }

    /// Removes what is left of environments that were ended, each thing when its time has come. One node does it at a time.
    pub async fn clear_ended(&self) -> Result<()> {
        for ended in self.installation.ended().await? {
            let Some(hold) = self.queues.hold(ended.id, "care", SWEEP_LEASE).await? else { continue };
            let cleared = self.clear_one(&ended).await;
            self.queues.release(&hold).await?;
            match cleared {
                Ok(true) => self.installation.forget_ended(ended.id).await?,
                Ok(false) => {}
                Err(error) => {
                    tracing::error!(environment = %ended.id, %error, "what is left of an ended environment stays for now");
                }
            }
        }
        Ok(())
    }

    /// Whether nothing is left.
    async fn clear_one(&self, ended: &EndedEnvironment) -> Result<bool> {
        let (environment, records) = (ended.id, &self.accounts.records);
        if self.accounts.stands(environment).await? {
            return Ok(true);
        }
        self.accounts.clear(environment).await?;
        let mut after = None;
        loop {
            let (page, more) = records.ids(environment, after, PAGE).await?;
            for account in page {
                self.events.move_out(account).await?;
            }
            after = more;
            if after.is_none() {
                break;
            }
        }
        // What is to be done for accounts that are gone is nothing; it only has to leave the queues.
        while self.tell(environment).await? + self.visit(environment).await? > 0 {}
        self.events.trim(environment).await?;
        records.sweep_index(environment).await?;
        Ok(self.audit.tidy_ended(ended).await? && self.events.is_empty(environment).await?)
    }

    async fn find_one(&self, environment: EnvironmentId, account: AccountId) -> Result<()> {
        if self.events.has_some(account).await?
            && let Err(error) = self.move_out(environment, account).await
        {
            tracing::error!(%account, %error, "events of an account cannot be told; the others' are");
        }
        // Accounts that were found together are not looked at together.
        let spread = self.every.unwrap_or(DAY).mul_f64((1 + account.0.as_u128() % 24) as f64 / 24.0);
        Ok(self.queues.push(environment, Queue::Care, &account.to_string(), spread).await?)
    }

    /// The time to the next look: a little less than the longest, and not the same for accounts that were linked together.
    fn interval(&self) -> Duration {
        // The last bits of such an id are random.
        let chance = uuid::Uuid::now_v7().as_u128() % 1000;
        self.every.unwrap_or(DAY).mul_f64(1.0 - chance as f64 / 6000.0)
    }
}
