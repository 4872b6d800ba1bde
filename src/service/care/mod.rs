//! What is done for accounts without a caller: their events are moved to the log, each is looked at daily, the end of its
//! credential is announced in time, and an access token that comes with a refresh token is renewed before it ends.
//!
//! Nodes share the work by queues: what one has claimed no other gets. Looks and tokens have a queue each, and a vendor gives only so
//! many turns at once, so that one which takes its time holds up nobody's tokens and no other vendor's looks. An account that was
//! forgotten, because a node ended between two steps or made the account before there were queues, is found by whoever reads the
//! whole list.

mod turns;

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt, TryStreamExt, future::join_all, stream};
use jiff::{SignedDuration, Timestamp};

use turns::Turns;

use super::{
    Audit, Events, Linked,
    accounts::{Accounts, expiry},
};
use crate::{
    connector::Connector,
    error::{Code, Error, Result},
    model::{Account, AccountId, AccountStatus, Clock, EnvironmentId, Event, EventKind},
    store::{
        Claimed, Settle,
        repo::{self, EndedEnvironment, Queue, Queues},
    },
};

/// Accounts worked on at once.
const TOGETHER: usize = 16;
/// Of them at one vendor.
const AT_ONE_VENDOR: usize = 8;
/// How long one waits for its turn at its vendor before it gives its place to another.
const PATIENCE: Duration = Duration::from_secs(1);
/// When that one is taken up again.
const NEXT_TURN: Duration = Duration::from_secs(20);
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
/// After a token that could not be renewed.
const RENEW_AGAIN: Duration = Duration::from_secs(300);
/// A token is renewed without a caller at most this often.
const RENEW_APART: Duration = Duration::from_secs(20);
/// After a failure to move events.
const MOVE_AGAIN: Duration = Duration::from_secs(5);
/// What only a later release understands is left to its nodes for this long.
const FOR_ANOTHER: Duration = Duration::from_secs(30);
/// How long one node may read the whole list for all.
const SWEEP_LEASE: Duration = Duration::from_secs(1800);
/// What stands between an account and its credential's generation in an item for its token.
const TOKEN: &str = "token/";
/// Accounts of one page of the list.
const PAGE: usize = 500;
/// The time between two looks while the daily one is off: only ends of credentials are watched.
const DAY: Duration = Duration::from_secs(24 * 3600);

/// What an item of the queues is for. Items that another release has put there are of the kinds that it knew.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// `<account>`: everything, again and again.
    Look,
    /// `<account>/token/<generation>`: the token of this credential, as long as it has one that is kept warm.
    Token(u64),
    /// `<account>/<time>`: something of the end of its credential is to be said then.
    End(Timestamp),
}

impl Purpose {
    /// Of an item, with the account.
    fn of(item: &str) -> Option<(AccountId, Purpose)> {
        let (account, rest) = item.split_once('/').map_or((item, None), |(account, rest)| (account, Some(rest)));
        let purpose = match rest.map(|rest| rest.strip_prefix(TOKEN).map(str::parse)) {
            None => Purpose::Look,
            Some(None) => Purpose::End(Timestamp::from_millisecond(rest?.parse().ok()?).ok()?),
            Some(Some(generation)) => Purpose::Token(generation.ok()?),
        };
        Some((account.parse().ok()?, purpose))
    }
}

/// Takes care of the accounts of all environments.
pub struct Care {
    accounts: Arc<Accounts>,
    events: Arc<Events>,
    audit: Arc<Audit>,
    installation: repo::Installation,
    queues: Queues,
    clock: Arc<dyn Clock>,
    every: Option<Duration>,
    looking: Turns,
    renewing: Turns,
}

impl Care {
    /// Over its tools. Each account is looked at once within `every`; none looks at no vendor.
    pub fn new(
        accounts: Arc<Accounts>,
        (events, audit): (Arc<Events>, Arc<Audit>),
        (installation, queues): (repo::Installation, Queues),
        clock: Arc<dyn Clock>,
        every: Option<Duration>,
    ) -> Self {
        let turns = || Turns::new(AT_ONE_VENDOR, PATIENCE);
        Self { accounts, events, audit, installation, queues, clock, every, looking: turns(), renewing: turns() }
    }

    /// Every environment, in id order.
    pub async fn environments(&self) -> Result<Vec<EnvironmentId>> {
        Ok(self.installation.environment_ids().await?)
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
            Some(account) => self.move_all_out(environment, account).await,
            None => Ok(false),
        };
        let outcome = match told {
            Ok(true) => Settle::Done,
            Ok(false) => Settle::Retry(FOR_ANOTHER),
            Err(_) => Settle::Retry(MOVE_AGAIN),
        };
        self.queues.settle(environment, Queue::Outbox, item, outcome).await?;
        told.map(|_| ())
    }

    /// Whether nothing is left. What this release cannot read waits for a node of the one that wrote it.
    async fn move_all_out(&self, environment: EnvironmentId, account: AccountId) -> Result<bool> {
        self.move_out(environment, account).await?;
        Ok(!self.events.has_some(account).await?)
    }

    /// Moves an account's events, and begins to look after one that is new or whose credential is. An event leaves its account when
    /// what follows from it is in the queues: until then all of it is done once more, and makes nothing twice.
    async fn move_out(&self, environment: EnvironmentId, account: AccountId) -> Result<()> {
        let mut after = None;
        loop {
            let logged = self.events.log(account, after.as_deref()).await?;
            match self.take_up(environment, account, &logged.events).await {
                Err(error) if will_pass(&error) => return Err(error),
                Err(error) => tracing::error!(%account, %error, "an account is not looked after before its next look"),
                Ok(()) => {}
            }
            self.events.let_go(account, &logged).await?;
            after = logged.next;
            if after.is_none() {
                return Ok(());
            }
        }
    }

    /// Does what follows from an account's events.
    async fn take_up(&self, environment: EnvironmentId, account: AccountId, events: &[Event]) -> Result<()> {
        let begins = |kind| matches!(kind, EventKind::Created | EventKind::Updated | EventKind::Active);
        let goes_on = |kind| matches!(kind, EventKind::Enabled | EventKind::Reactivated);
        let is_new = events.iter().any(|event| begins(event.kind));
        if is_new {
            self.queues.push(environment, Queue::Care, &account.to_string(), self.interval()).await?;
        }
        if (is_new || events.iter().any(|event| goes_on(event.kind)))
            && let Some((record, _)) = self.accounts.records.get(account).await?
        {
            let record = self.watch_end(record).await?;
            self.watch_token(&record).await?;
        }
        Ok(())
    }

    /// Does what is due for some accounts, looks and tokens; how much that was.
    pub async fn visit(&self, environment: EnvironmentId) -> Result<usize> {
        let (looks, tokens) = (Queue::Care, Queue::Tokens);
        let (looked, renewed) = tokio::join!(self.visit_some(environment, looks), self.visit_some(environment, tokens));
        Ok(looked? + renewed?)
    }

    async fn visit_some(&self, environment: EnvironmentId, queue: Queue) -> Result<usize> {
        let items = self.claim(environment, queue, TOGETHER).await?;
        let visits = items.iter().map(|item| self.visit_one(environment, queue, item));
        join_all(visits).await.into_iter().collect::<Result<Vec<()>>>()?;
        Ok(items.len())
    }

    /// Takes up to `limit` of what is due in a queue of looks or tokens.
    pub async fn claim(&self, environment: EnvironmentId, queue: Queue, limit: usize) -> Result<Vec<Claimed>> {
        Ok(self.queues.claim(environment, queue, LOOK_LEASE, limit).await?)
    }

    /// Does what one item of such a queue is for, and says when it is due again, if ever.
    pub async fn visit_one(&self, environment: EnvironmentId, queue: Queue, item: &Claimed) -> Result<()> {
        let Some((id, purpose)) = Purpose::of(&item.id) else {
            // Whatever it asks for, a node of the release that wrote it knows it.
            self.queues.settle(environment, queue, item, Settle::Retry(FOR_ANOTHER)).await?;
            return Ok(());
        };
        let again = match purpose {
            // Put there by a release that knew one queue for both.
            Purpose::Token(_) if queue == Queue::Care => self.to_the_tokens(environment, &item.id).await,
            Purpose::Token(generation) => self.keep_warm(environment, id, generation).await,
            Purpose::Look => self.look_after(environment, id, true).await,
            // The queue's clock is ahead of this node's.
            Purpose::End(time) if time > self.clock.now() => Ok(Some(self.until(time))),
            Purpose::End(_) => self.look_after(environment, id, false).await.map(|_| None),
        };
        let visited = match again {
            Err(error) if error.code() == Code::LaterRelease => Ok(Some(match purpose {
                Purpose::Look => self.interval().min(AGAIN),
                Purpose::Token(_) | Purpose::End(_) => FOR_ANOTHER,
            })),
            again => again,
        };
        let outcome = match &visited {
            Ok(Some(again)) => Settle::Retry(*again),
            Ok(None) => Settle::Done,
            Err(_) if queue == Queue::Tokens => Settle::Retry(RENEW_AGAIN),
            Err(_) => Settle::Retry(self.interval().min(AGAIN)),
        };
        self.queues.settle(environment, queue, item, outcome).await?;
        if outcome == Settle::Done {
            self.begin_anew(environment, id, purpose).await?;
        }
        visited.map(|_| ())
    }

    /// What was to begin again while its item was worked on found that item there still, and it is gone since.
    async fn begin_anew(&self, environment: EnvironmentId, id: AccountId, purpose: Purpose) -> Result<()> {
        let found = self.accounts.records.get(id).await?.filter(|(account, _)| account.environment == environment);
        match (purpose, found) {
            (Purpose::Token(_), Some((account, _))) => self.watch_token(&account).await,
            (Purpose::Look, Some(_)) => Ok(self.queues.push(environment, Queue::Care, &id.to_string(), self.interval()).await?),
            (Purpose::End(_), _) | (_, None) => Ok(()),
        }
    }

    async fn to_the_tokens(&self, environment: EnvironmentId, item: &str) -> Result<Option<Duration>> {
        self.queues.push(environment, Queue::Tokens, item, Duration::ZERO).await?;
        Ok(None)
    }

    /// Everything that is to be done for one account; when it is to be done again, unless the account is gone.
    async fn look_after(&self, environment: EnvironmentId, id: AccountId, is_look: bool) -> Result<Option<Duration>> {
        if self.events.has_some(id).await? {
            self.move_out(environment, id).await?;
        }
        // Somebody else's may have the id of one that is gone.
        let found = self.accounts.records.get(id).await?.filter(|(account, _)| account.environment == environment);
        let Some((account, _)) = found else { return Ok(None) };
        let account = self.watch_end(account).await?;
        let is_alive = matches!(account.status, AccountStatus::Active | AccountStatus::NeedsReauth);
        if !(is_look && is_alive && account.is_enabled && self.every.is_some()) {
            return Ok(Some(self.interval()));
        }
        let looked = tokio::time::timeout(LOOK_TIME, self.look(&account)).await;
        self.watch_token(&account).await?;
        Ok(Some(looked.unwrap_or_else(|_| self.interval().min(AGAIN))))
    }

    /// Sees to it that a token which is to be kept warm is renewed when its time comes. That goes on by itself for as long as the
    /// credential is the same; a token that comes earlier and ends sooner than the one before is found at the next look.
    async fn watch_token(&self, account: &Account) -> Result<()> {
        let Some(linked) = self.warm(account).await? else { return Ok(()) };
        // What is opened may be a moment old; of the newer credential another node is told.
        if linked.account.generation != account.generation {
            return Ok(());
        }
        let Some(time) = linked.access.kept_warm_from() else { return Ok(()) };
        let item = format!("{}/{TOKEN}{}", account.id, linked.account.generation);
        Ok(self.queues.push(account.environment, Queue::Tokens, &item, self.until(time)).await?)
    }

    /// The account as it is opened, if its way to link has refresh tokens and its vendor may be asked without a caller.
    async fn warm(&self, account: &Account) -> Result<Option<Arc<Linked>>> {
        let may_be_asked = self.every.is_some() && account.is_enabled && account.status == AccountStatus::Active;
        let connector = self.accounts.connector_of(account).ok().filter(|_| may_be_asked);
        let is_consent =
            |connector: Arc<Connector>| connector.method(&account.method).is_some_and(|method| method.needs_browser());
        if !connector.is_some_and(is_consent) {
            return Ok(None);
        }
        match self.accounts.open_enabled(account.environment, &account.id.to_string()).await {
            Ok(opened) => Ok(Some(opened).filter(|opened| opened.account.status == AccountStatus::Active)),
            Err(error) if error.code().row().retryable => Err(error),
            Err(_) => Ok(None),
        }
    }

    /// Renews a credential's token if its time has come; when that is to be looked at again, if ever.
    async fn keep_warm(&self, environment: EnvironmentId, id: AccountId, generation: u64) -> Result<Option<Duration>> {
        let is_meant = |account: &Account| account.environment == environment && account.generation == generation;
        let Some((account, _)) = self.accounts.records.get(id).await?.filter(|(account, _)| is_meant(account)) else {
            return Ok(None);
        };
        let linked = match self.warm(&account).await {
            Ok(linked) => linked,
            Err(_) => return Ok(Some(RENEW_AGAIN)),
        };
        let Some(linked) = linked else { return Ok(None) };
        let Some(time) = linked.access.kept_warm_from() else { return Ok(None) };
        if time > self.clock.now() {
            return Ok(Some(self.until(time)));
        }
        let Some(_turn) = self.renewing.at(&linked.access).await else { return Ok(Some(NEXT_TURN)) };
        let next = |linked: &Linked| linked.access.kept_warm_from().map(|time| self.until(time).max(RENEW_APART));
        match tokio::time::timeout(LOOK_TIME, self.accounts.renew_ahead(&linked)).await {
            Ok(Ok(renewed)) => Ok(next(&renewed)),
            // One that is over for good is not found again.
            Ok(Err(_)) | Err(_) => Ok(Some(RENEW_AGAIN)),
        }
    }

    fn until(&self, time: Timestamp) -> Duration {
        Duration::try_from(time.duration_since(self.clock.now())).unwrap_or_default()
    }

    /// Asks the vendor whether the credential works; when it is to be asked again.
    async fn look(&self, account: &Account) -> Duration {
        match self.ask(account).await {
            Ok(true) => self.interval(),
            Ok(false) => NEXT_TURN,
            Err(error) => {
                tracing::debug!(account = %account.id, %error, "a look at the vendor found no good answer");
                match error.code() {
                    Code::ReauthRequired | Code::AccountDisabled | Code::CredentialUnreadable => self.interval(),
                    // It said nothing about that.
                    _ => self.interval().min(AGAIN),
                }
            }
        }
    }

    /// Whether there was a turn for that.
    async fn ask(&self, account: &Account) -> Result<bool> {
        let linked = self.accounts.open_enabled(account.environment, &account.id.to_string()).await?;
        let Some(_turn) = self.looking.at(&linked.access).await else { return Ok(false) };
        self.accounts.check(linked).await.map(|_| true)
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
            self.queues.push(account.environment, Queue::Care, &item, self.until(time)).await?;
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

    /// Removes what is left of environments that were ended, each thing when its time has come. One node does it at a time. One
    /// environment's trouble is not the others'.
    /// Whether each was looked through; what failed, or is under way on another node, is tried again soon.
    pub async fn clear_ended(&self) -> Result<bool> {
        let mut all = true;
        for ended in self.installation.ended().await? {
            match self.clear_held(&ended).await {
                Ok(cleared) => all &= cleared,
                Err(error) => {
                    tracing::error!(environment = %ended.id, %error, "what is left of an ended environment stays for now");
                    all = false;
                }
            }
        }
        Ok(all)
    }

    /// Whether this node looked it through.
    async fn clear_held(&self, ended: &EndedEnvironment) -> Result<bool> {
        let Some(hold) = self.queues.hold(ended.id, "care", SWEEP_LEASE).await? else { return Ok(false) };
        let cleared = self.clear_one(ended).await;
        self.queues.release(&hold).await?;
        if cleared? {
            self.installation.forget_ended(ended.id).await?;
        }
        Ok(true)
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
        // Accounts that were found together are not looked at together. A look that is due much later, since a clock was wrong when
        // that was said, is due then; others come sooner.
        let spread = self.every.unwrap_or(DAY).mul_f64(1.0 - (account.0.as_u128() % 1000) as f64 / 24_000.0);
        Ok(self.queues.push(environment, Queue::Care, &account.to_string(), spread).await?)
    }

    /// The time to the next look: a little less than the longest, and not the same for accounts that were linked together.
    fn interval(&self) -> Duration {
        // The last bits of such an id are random.
        let chance = uuid::Uuid::now_v7().as_u128() % 1000;
        self.every.unwrap_or(DAY).mul_f64(1.0 - chance as f64 / 6000.0)
    }
}

/// Whether what follows from an event can be done in a while. Of a record that nobody can read nothing follows; its events are told
/// all the same.
fn will_pass(error: &Error) -> bool {
    matches!(error.code(), Code::StoreUnavailable | Code::Busy | Code::Conflict)
}
