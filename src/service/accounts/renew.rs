//! Access tokens: got once however many callers need one, on all nodes, and kept sealed before anybody uses them.
//!
//! A token is a record of its own in the account's slot, so that a new one disturbs nothing else of the account. Getting one
//! is a task that ends although its callers leave; within a node they share it, between nodes a lock keeps them apart, and
//! whoever gets the lock reads first what is kept.

use std::{
    borrow::Cow,
    pin::pin,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::{
    FutureExt,
    future::{BoxFuture, Shared, ready},
};
use jiff::Timestamp;
use moka::{Expiry, future::Cache};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use zeroize::Zeroizing;

use super::{
    Accounts, Linked,
    credential::{field_problems, place},
    grant::{Granted, needs_browser},
    refresh::HELD,
    verify::refused,
};
use crate::{
    connector::ACCESS_TOKEN,
    error::{Code, Error, Result},
    model::{Account, AccountId, EnvironmentId, Secret},
    service::cut_short,
    store::{Hold, StoreError, repo::TOKEN_LEASE},
    upstream::{Access, Age, CallOf, Failure, Renew, Token},
    vault::DataKey,
};

/// How long callers wait while another node gets a token: as long as a token endpoint may take, and a little more.
const PATIENCE: Duration = Duration::from_secs(25);
/// When the right to a token is prolonged, and again: late, so that it ends soon after a node that dies early, but with time for
/// another try.
const PROLONGED_AFTER: Duration = Duration::from_secs(TOKEN_LEASE.as_secs() * 2 / 3);
/// How long the right to a token is prolonged.
const LONGEST_HOLD: Duration = Duration::from_secs(90);
/// How often they look.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(100);
/// A flight is known at most this long, however it goes.
const KNOWN: Duration = Duration::from_secs(60);
/// After a failure nobody asks the endpoint again for this long, doubled with each further one.
const BACK_OFF: Duration = Duration::from_secs(3);
/// But for this long at most.
const LONGEST_BACK_OFF: Duration = Duration::from_secs(60);
/// An endpoint that asks for a longer pause gets this one.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);
/// After the endpoint's own no; less than a minute, after which a broken account is tested.
const REFUSED: Duration = Duration::from_secs(50);
/// After a failure of our own, which the endpoint has no part in.
const BREATH: Duration = Duration::from_secs(1);
/// Accounts that are remembered for any of this.
const MOST: u64 = 100_000;
/// How long a refusal of a token that was just got says that tokens are not the reason.
const IN_VAIN: Duration = Duration::from_secs(60);
/// Tries to keep a token while other things of the account are noted.
const TRIES: usize = 10;

/// The token that is no good any more: account, generation of its credential, version it is kept under.
type Stale = (AccountId, u64, u64);

/// The outcome of getting a token, for everybody who waits for it.
#[derive(Clone)]
struct Flight {
    outcome: Shared<BoxFuture<'static, Result<Arc<Linked>>>>,
    known_for: Duration,
}

impl Flight {
    fn of(outcome: impl Future<Output = Result<Arc<Linked>>> + Send + 'static, known_for: Duration) -> Self {
        Self { outcome: outcome.boxed().shared(), known_for }
    }
}

/// What this node knows of getting tokens.
pub(super) struct Renewals {
    /// Under way, or failed a moment ago.
    flights: Cache<Stale, Flight>,
    /// Failures in a row.
    failures: Cache<AccountId, u32>,
    /// Accounts whose vendor refused a token that was just got, by the credential's generation and kind of call.
    in_vain: Cache<(AccountId, u64, CallOf), ()>,
    /// Tries with a refresh token that came to nothing, by account and right, of which the store has not taken that yet.
    pub(super) unsettled: Cache<(AccountId, u64), ()>,
}

impl Default for Renewals {
    fn default() -> Self {
        Self {
            flights: Cache::builder().max_capacity(MOST).expire_after(Lifetimes).build(),
            failures: Cache::builder().max_capacity(MOST).time_to_live(LONGEST_BACK_OFF * 2).build(),
            in_vain: Cache::builder().max_capacity(MOST).time_to_live(IN_VAIN).build(),
            unsettled: Cache::builder().max_capacity(MOST).time_to_live(HELD * 2).build(),
        }
    }
}

struct Lifetimes;

impl Expiry<Stale, Flight> for Lifetimes {
    fn expire_after_create(&self, _: &Stale, flight: &Flight, _: Instant) -> Option<Duration> {
        Some(flight.known_for)
    }
    fn expire_after_update(&self, _: &Stale, flight: &Flight, _: Instant, _: Option<Duration>) -> Option<Duration> {
        Some(flight.known_for)
    }
}

impl Renewals {
    /// Lets go of flights that have landed: they hold what came of them.
    pub(super) async fn evict(&self) {
        self.flights.run_pending_tasks().await;
    }

    /// Whether a new token was in vain for the connector's own requests a moment ago.
    pub(super) fn was_in_vain(&self, access: &Access) -> bool {
        self.in_vain.contains_key(&(access.account, access.generation, CallOf::Connector))
    }

    /// Forgets that it was.
    pub(super) async fn give_another_chance(&self, access: &Access) {
        self.in_vain.invalidate(&(access.account, access.generation, CallOf::Connector)).await;
    }

    /// Forgets that the endpoint said no: whoever asks for a look may have mended what that was for.
    pub(super) async fn forget_refusal(&self, access: &Access) {
        let stale = stale_of(access);
        let Some(flight) = self.flights.get(&stale).await else { return };
        if flight.outcome.now_or_never().is_some_and(|outcome| outcome.is_err_and(|error| error.code() == Code::ReauthRequired)) {
            self.flights.invalidate(&stale).await;
        }
    }

    /// A failure is what everybody gets for a while; with a success the next caller looks for himself.
    async fn land(&self, stale: Stale, outcome: &Result<Arc<Linked>>) {
        let Err(error) = outcome else {
            self.failures.invalidate(&stale.0).await;
            return self.flights.invalidate(&stale).await;
        };
        tracing::warn!(account = %stale.0, %error, "no new access token");
        let known_for = match error.code() {
            Code::StoreUnavailable | Code::Busy => BREATH,
            Code::ReauthRequired => REFUSED,
            _ => {
                let failures = self.failures.get(&stale.0).await.unwrap_or_default();
                self.failures.insert(stale.0, failures + 1).await;
                back_off(failures, error.wait_seconds(), stale.0)
            }
        };
        self.flights.insert(stale, Flight::of(ready(outcome.clone()), known_for)).await;
    }
}

/// Each time twice as long, a little different for each account, and no shorter than the endpoint asked for.
fn back_off(failures: u32, asked: Option<u64>, account: AccountId) -> Duration {
    let grown = BACK_OFF * 2_u32.pow(failures.min(5));
    let spread = grown * (account.0.as_u128() % 25) as u32 / 100;
    let asked = asked.map_or(Duration::ZERO, Duration::from_secs);
    (grown + spread).min(LONGEST_BACK_OFF).max(asked.min(LONGEST_WAIT))
}

/// The token that a credential begins with.
pub(super) struct FirstToken {
    pub(super) sealed: Bytes,
    /// Where the account's own goes on.
    pub(super) over: Option<Over>,
}

/// The version that an account's own token is kept under, and the right to it.
pub(super) type Over = (u64, Hold);

/// A token as it is sealed.
#[derive(Serialize, Deserialize)]
struct Kept<'a> {
    #[serde(borrow)]
    access_token: Cow<'a, str>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    refresh_token: Option<Cow<'a, str>>,
    issued_at: Timestamp,
    expires_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    ended: bool,
}

impl Renew for Accounts {
    fn renew(
        self: Arc<Self>,
        stale: &Access,
        of: CallOf,
    ) -> BoxFuture<'static, std::result::Result<Option<Arc<Access>>, Failure>> {
        let (environment, in_vain, stale) = (stale.environment, (stale.account, stale.generation, of), stale_of(stale));
        async move {
            if self.opened.renewals.in_vain.contains_key(&in_vain) {
                return Ok(None);
            }
            let renewed = self.other_token(environment, stale).await;
            renewed.map(|linked| Some(Arc::clone(&linked.access))).map_err(|error| Failure::NotRenewed(Box::new(error)))
        }
        .boxed()
    }

    fn proved(self: Arc<Self>, access: &Access) {
        let (account, version) = (access.account, stale_of(access).2);
        let tasks = self.opened.tasks.clone();
        tasks.spawn(async move {
            if let Err(error) = self.records.drop_previous(account, version).await {
                tracing::debug!(%account, %error, "the refresh token before the last stays for now");
            }
        });
    }

    fn refused_anew(self: Arc<Self>, access: &Access, of: CallOf) -> BoxFuture<'static, ()> {
        let in_vain = (access.account, access.generation, of);
        async move { self.opened.renewals.in_vain.insert(in_vain, ()).await }.boxed()
    }
}

impl Accounts {
    /// The account with a token that can be used; one that is about to end is renewed beside the call.
    pub(super) async fn with_token(self: &Arc<Self>, linked: Arc<Linked>) -> Result<Arc<Linked>> {
        match linked.access.age(self.clock.now()) {
            Age::Good => Ok(linked),
            Age::Ending if !linked.access.can_renew() => Ok(linked),
            Age::Ending => {
                drop(self.flight(linked.access.environment, stale_of(&linked.access)).await);
                Ok(linked)
            }
            Age::Over => match self.token_for(&linked).await {
                Ok(ready) => Ok(ready),
                Err(failure) => Err(self.note_failure(&linked, "token", "token", failure).await),
            },
        }
    }

    /// The same for a test, which waits for its token and judges for itself what a failure means.
    pub(super) async fn token_for(self: &Arc<Self>, linked: &Arc<Linked>) -> std::result::Result<Arc<Linked>, Failure> {
        if linked.access.age(self.clock.now()) != Age::Over {
            return Ok(Arc::clone(linked));
        }
        let ready = self.other_token(linked.access.environment, stale_of(&linked.access)).await;
        ready.map_err(|error| Failure::NotRenewed(Box::new(error)))
    }

    /// The same with another token than the present one, though that may be good for a while: nothing is said of the account where
    /// that fails, unless the vendor ended the grant.
    pub(in crate::service) async fn renew_ahead(self: &Arc<Self>, linked: &Arc<Linked>) -> Result<Arc<Linked>> {
        self.other_token(linked.access.environment, stale_of(&linked.access)).await
    }

    /// The same at once, for somebody who wants to know.
    pub(super) async fn renew_now(self: &Arc<Self>, linked: &Arc<Linked>) -> Result<Arc<Linked>> {
        match self.renew_ahead(linked).await {
            Ok(renewed) => Ok(renewed),
            Err(error) => Err(self.note_failure(linked, "token", "token", Failure::NotRenewed(Box::new(error))).await),
        }
    }

    /// The first token of a credential that is being verified, and the same sealed.
    pub(super) async fn first_token(
        &self,
        account: &Account,
        key: &DataKey,
        access: Access,
        grant: Option<Granted>,
    ) -> Result<(Access, Option<FirstToken>)> {
        if access.renewal.is_none() {
            return Ok((access, None));
        }
        let now = self.clock.now();
        let (token, over) = match grant {
            Some(grant) => Box::pin(self.granted(&access, grant, now)).await?,
            None if access.method.needs_browser() => return Err(needs_browser(&access.method)),
            None => (Box::pin(self.upstream.token(&access, now)).await.map_err(refused)?, None),
        };
        let sealed = seal(account, key, &token)?;
        // Nobody renews what is not linked yet.
        let access = access.with_token(token, Weak::<Accounts>::new()).map_err(|problem| field_problems(vec![problem]))?;
        Ok((access, Some(FirstToken { sealed, over })))
    }

    /// The credential with the token that is kept. One that does not open is of an earlier credential, and is as good as none.
    pub(super) async fn kept_token(&self, account: &Account, key: &DataKey, access: Access) -> Result<Access> {
        if access.renewal.is_none() {
            return Ok(access);
        }
        let Some(token) = self.token_of(account, key).await? else { return Ok(access) };
        access.with_token(token, self.me.clone()).map_err(|problem| field_problems(vec![problem]))
    }

    /// The token that is kept, and whether it has worked yet.
    pub(super) async fn token_of(&self, account: &Account, key: &DataKey) -> Result<Option<Token>> {
        let Some((sealed, version)) = self.records.token(account.id).await? else { return Ok(None) };
        let Some(token) = open(account, key, &sealed, version) else { return Ok(None) };
        let unproven = token.refresh.is_some() && self.records.previous_token(account.id).await?.is_some();
        Ok(Some(Token { unproven, ..token }))
    }

    /// Whether the token of an opened account is still the one that is kept.
    pub(super) async fn has_the_kept_token(&self, linked: &Linked) -> Result<bool> {
        let Some(renewal) = &linked.access.renewal else { return Ok(true) };
        let kept = self.records.token(linked.account.id).await?;
        Ok(kept.map(|(_, version)| version) == renewal.version())
    }

    async fn other_token(self: &Arc<Self>, environment: EnvironmentId, stale: Stale) -> Result<Arc<Linked>> {
        self.flight(environment, stale).await.outcome.await
    }

    /// The one flight of this node for a token that is no good any more, begun if there is none.
    async fn flight(self: &Arc<Self>, environment: EnvironmentId, stale: Stale) -> Flight {
        self.opened.renewals.flights.get_with(stale, async { self.begin(environment, stale) }).await
    }

    fn begin(self: &Arc<Self>, environment: EnvironmentId, stale: Stale) -> Flight {
        let accounts = Arc::clone(self);
        let (tell, told) = oneshot::channel();
        self.opened.tasks.spawn(async move {
            let outcome = accounts.get_token(environment, stale).await;
            accounts.opened.renewals.land(stale, &outcome).await;
            // Whoever waited may have left.
            let _ = tell.send(outcome);
        });
        Flight::of(async move { told.await.unwrap_or_else(|_| Err(cut_short())) }, KNOWN)
    }

    async fn get_token(self: &Arc<Self>, environment: EnvironmentId, stale: Stale) -> Result<Arc<Linked>> {
        let hold = match self.hold_token_or_newer(stale).await? {
            Some(hold) => hold,
            None => {
                let linked = self.read_anew(environment, stale.0).await?;
                match linked.access.age(self.clock.now()) {
                    Age::Over => self.hold_token(stale.0).await?,
                    Age::Good | Age::Ending => return Ok(linked),
                }
            }
        };
        let outcome = self.while_held(&hold, self.get_token_under(&hold, environment, stale)).await;
        self.let_go(stale.0, &hold).await;
        outcome
    }

    /// Gives the right to a token back.
    pub(super) async fn let_go(&self, account: AccountId, hold: &Hold) {
        if let Err(error) = self.records.release_token(hold).await {
            tracing::warn!(%account, %error, "the right to get a token was not given back; it ends by itself");
        }
    }

    /// Prolongs the right to a token while it is used, but not for ever.
    pub(super) async fn while_held<T>(&self, hold: &Hold, work: impl Future<Output = T>) -> T {
        let (begun, mut work) = (Instant::now(), pin!(work));
        loop {
            match tokio::time::timeout(PROLONGED_AFTER, &mut work).await {
                Ok(done) => return done,
                Err(_) if begun.elapsed() < LONGEST_HOLD => drop(self.records.keep_hold(hold).await),
                Err(_) => {}
            }
        }
    }

    /// The right to an account's tokens, once nobody else has it.
    pub(super) async fn hold_token(&self, account: AccountId) -> Result<Hold> {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(hold) = self.hold_token_now(account, until).await? {
                return Ok(hold);
            }
        }
    }

    /// The same for a new token; none when there is one. Who has the right may be gone, and the token be kept all the same.
    async fn hold_token_or_newer(&self, (account, _, stale): Stale) -> Result<Option<Hold>> {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(hold) = self.hold_token_now(account, until).await? {
                return Ok(Some(hold));
            }
            if self.records.token(account).await?.is_some_and(|(_, kept)| kept != stale) {
                return Ok(None);
            }
        }
    }

    /// One try, and a moment's rest after one in vain.
    async fn hold_token_now(&self, account: AccountId, until: Instant) -> Result<Option<Hold>> {
        if let Some(hold) = self.records.hold_token(account).await? {
            return Ok(Some(hold));
        }
        if Instant::now() >= until {
            let detail = "Another node has been getting an access token for this account all the time. Send the request again.";
            return Err(Error::new(Code::Busy, detail).retry_after(1));
        }
        tokio::time::sleep(LOOK_EVERY).await;
        Ok(None)
    }

    async fn get_token_under(self: &Arc<Self>, hold: &Hold, environment: EnvironmentId, stale: Stale) -> Result<Arc<Linked>> {
        let linked = self.read_anew(environment, stale.0).await?;
        if stale_of(&linked.access) != stale && linked.access.age(self.clock.now()) != Age::Over {
            return Ok(linked);
        }
        self.check_app(&linked).await?;
        if linked.access.method.needs_browser() {
            Box::pin(self.use_refresh_token(&linked, hold)).await?;
            return self.read_anew(environment, stale.0).await;
        }
        let token = self.upstream.token(&linked.access, self.clock.now()).await?;
        self.keep_token(&linked, &token, hold).await?;
        self.read_anew(environment, stale.0).await
    }

    /// What the store has, whatever this node reads for others at the same time; they read it anew, too.
    async fn read_anew(&self, environment: EnvironmentId, account: AccountId) -> Result<Arc<Linked>> {
        let read = self.load(environment, &account.to_string(), None).await;
        self.opened.forget(environment, account).await;
        read
    }

    /// Keeps the token unless the account was deleted or linked anew meanwhile.
    async fn keep_token(&self, linked: &Linked, token: &Token, hold: &Hold) -> Result<()> {
        let (id, mut version) = (linked.account.id, linked.version);
        let sealed = seal(&linked.account, &linked.data_key, token)?;
        for _ in 0..TRIES {
            match self.records.put_token(id, sealed.clone(), version, hold).await {
                Err(StoreError::Conflict(_)) => match self.records.get(id).await? {
                    Some((now, newer)) if now.generation == linked.account.generation => version = newer,
                    Some(_) => return Ok(()),
                    None => {
                        self.give_back(Arc::clone(&linked.access), token.secret.clone());
                        return Err(Error::not_found());
                    }
                },
                // Another node had the right in the end, and keeps a token of its own.
                Err(StoreError::Fenced) => return Ok(()),
                done => return Ok(done?),
            }
        }
        Err(Error::new(Code::Busy, "The state of this account changes all the time. Send the request again."))
    }
}

pub(super) fn stale_of(access: &Access) -> Stale {
    let version = access.renewal.as_ref().and_then(|renewal| renewal.version());
    (access.account, access.generation, version.unwrap_or_default())
}

pub(super) fn seal(account: &Account, key: &DataKey, token: &Token) -> Result<Bytes> {
    let text = token.secret.expose();
    let refresh_token = token.refresh.as_ref().map(Secret::expose);
    let length = text.len() + refresh_token.map_or(0, str::len);
    let kept = Kept {
        access_token: text.into(),
        refresh_token: refresh_token.map(Cow::from),
        issued_at: token.issued_at,
        expires_at: token.expires_at,
        ended: token.ended,
    };
    let mut plain = Zeroizing::new(Vec::with_capacity(length * 2 + 256));
    serde_json::to_writer(&mut *plain, &kept).map_err(Error::internal)?;
    Ok(key.seal(place(account, ACCESS_TOKEN), &plain).into())
}

/// Whether a token that was kept opens with this key.
pub(in crate::service) fn opens(account: &Account, key: &DataKey, sealed: &[u8]) -> bool {
    key.open(place(account, ACCESS_TOKEN), sealed).is_ok()
}

fn open(account: &Account, key: &DataKey, sealed: &[u8], version: u64) -> Option<Token> {
    let plain = key.open(place(account, ACCESS_TOKEN), sealed).ok()?;
    let Kept { access_token, refresh_token, issued_at, expires_at, ended } = serde_json::from_slice(&plain).ok()?;
    let refresh = refresh_token.map(|text| Secret::new(text.into_owned()));
    Some(Token {
        secret: Secret::new(access_token.into_owned()),
        refresh,
        issued_at,
        expires_at,
        version,
        ended,
        unproven: false,
    })
}
