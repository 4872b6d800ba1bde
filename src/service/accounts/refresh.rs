//! Refresh tokens: used once however many nodes need a new access token, and never lost between the vendor's answer and the
//! store, as far as that can be helped.
//!
//! Before the vendor is asked, the intent is kept; with the answer, the new tokens take the old ones' place and the intent goes,
//! in one commit that holds only while the intent is the one that was kept. So the right to a token may end in between, as when
//! the store is away: whoever has it next cannot do anything without an intent of his own in the place of this one, and until
//! then the tokens that came can be kept.
//!
//! An intent without an outcome means that a process ended in between, or that it is cut off from the store. It has a while to
//! keep what it got; then the old refresh token is tried once more, which helps where the vendor does not rotate it or is patient
//! for a while.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use metrics::Unit;

use super::{
    Accounts,
    credential::place,
    open::reauth,
    renew::{LOOK_EVERY, seal, stale_of},
    state::transition,
    verify::refused,
};
use crate::{
    error::{Code, Error, Result},
    model::{Account, AccountId, AccountStatus, Secret},
    service::Linked,
    store::{
        Hold, StoreError,
        repo::{self, Renewed, TOKEN_LEASE, TokenIntent},
    },
    upstream::{Access, Failure, NoToken, Said, Token, judge, token},
    vault::DataKey,
};

/// What an earlier refresh token is bound to.
pub(super) const PREVIOUS_REFRESH_TOKEN: &str = "oauth.previous_refresh_token";
/// Why an account must be linked again although nobody revoked anything.
pub const OUTCOME_UNKNOWN: &str = "refresh_outcome_unknown";
/// How long a token that the store does not take is held in memory, or what is to be noted of one.
pub(super) const HELD: Duration = Duration::from_secs(600);
/// The pauses between tries to keep it.
pub(super) const PAUSE: Duration = Duration::from_millis(100);
pub(super) const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// How long an intent without an outcome is left to whoever noted it, from the moment somebody else has the right to go on: more
/// than the longest pause and a try that the store does not answer.
const LEFT_ALONE: Duration = Duration::from_secs(4);
/// How long vendors that are patient take a used refresh token once more.
const GRACE: Duration = Duration::from_secs(30);
const _: () = assert!(TOKEN_LEASE.as_secs() > token::DEADLINE.as_secs());
const _: () = assert!(TOKEN_LEASE.as_secs() + LEFT_ALONE.as_secs() < GRACE.as_secs());
/// Tries to note something while other things of the account are noted.
const TRIES: usize = 10;

const WINDOW: &str = "rollcall_token_save_duration_seconds";

/// What a try with a refresh token leaves to be kept.
enum Kept<'k> {
    /// New tokens.
    Renewed(&'k Renewed),
    /// The end of the grant: what is left of the token, with the version it takes the place of, and why.
    Ended { last: Option<(Bytes, u64)>, why: &'k str },
}

impl Kept<'_> {
    fn before(&self) -> Option<u64> {
        match self {
            Kept::Renewed(new) => Some(new.before),
            Kept::Ended { last, .. } => last.as_ref().map(|(_, before)| *before),
        }
    }

    fn token(&self) -> Option<&Bytes> {
        match self {
            Kept::Renewed(new) => Some(&new.token),
            Kept::Ended { last, .. } => last.as_ref().map(|(token, _)| token),
        }
    }
}

/// How keeping it ended.
enum Persisted {
    /// It is kept.
    Done,
    /// There is another token, or another credential, by now.
    Overtaken,
    /// There is no such account any more.
    Gone,
}

/// A try with a refresh token, as it was noted.
struct Try {
    intent: TokenIntent,
    /// The version of the note. While it is that, nobody else has gone on.
    at: u64,
    /// There was a try before, and nobody knows how it ended.
    in_doubt: bool,
}

/// That nothing came of a try, to be noted.
struct Left {
    account: AccountId,
    intent: TokenIntent,
    note: Note,
    /// The refresh token is surely as good as before: of the try nothing needs to be known any more.
    is_good: bool,
}

/// The note that a try was begun with.
enum Note {
    /// It stands, in this version.
    At(u64),
    /// The store did not say whether it took it, in the place of what was there in this version.
    Unconfirmed { over: Option<u64> },
}

impl Left {
    /// Notes it, unless somebody else has gone on; false while the note of the beginning may still come to stand.
    async fn keep(&self, records: &repo::Accounts) -> std::result::Result<bool, StoreError> {
        let at = match self.note {
            Note::At(at) => at,
            Note::Unconfirmed { over } => match records.token_intent(self.account).await {
                Ok(Some((there, at))) if there == self.intent => at,
                Ok(other) => return Ok(other.map(|(_, at)| at) != over),
                // A later release has gone on.
                Err(StoreError::Later(_)) => return Ok(true),
                Err(error) => return Err(error),
            },
        };
        let kept = match self.is_good {
            true => records.drop_intent(self.account, at).await,
            false => records.leave_intent(self.account, &self.intent, at).await,
        };
        match kept {
            Ok(()) | Err(StoreError::Conflict(_)) => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// The same as soon as the store takes it. What was on its way to a store that was cut off may arrive a moment after it is
    /// back.
    async fn keep_at_last(self, records: repo::Accounts) {
        let (begun, mut cut_off, mut pause) = (Instant::now(), Instant::now(), PAUSE);
        loop {
            match self.keep(&records).await {
                Ok(true) => return,
                Ok(false) if cut_off.elapsed() >= LEFT_ALONE => return,
                Ok(false) => {}
                Err(error) if begun.elapsed() > HELD => {
                    let account = self.account;
                    return tracing::warn!(%account, %error, "it could not be noted that nothing came of a token's renewal");
                }
                Err(_) => cut_off = Instant::now(),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

/// What can be done after a commit that failed.
enum Chance {
    /// Another try, with the record in this version.
    At(u64),
    /// Nothing.
    Over(Persisted),
}

/// How a try with a refresh token ended.
pub(super) enum Outcome {
    /// There are new tokens.
    Token(Box<Token>),
    /// The vendor ended the grant.
    Ended(Failure),
    /// Nothing for now.
    Nothing {
        /// Why.
        failure: Failure,
        /// Whether the refresh token is surely as good as before.
        is_good: bool,
    },
}

impl Outcome {
    pub(super) fn of(asked: std::result::Result<Token, NoToken>) -> Self {
        match asked {
            Ok(token) => Outcome::Token(Box::new(token)),
            Err(NoToken::Over(failure)) => Outcome::Ended(failure),
            Err(NoToken::Refused(failure)) => Outcome::Nothing { failure, is_good: true },
            Err(NoToken::Failed(failure)) => match judge(failure) {
                Err(failure) => Outcome::Nothing { failure, is_good: true },
                Ok(Said::Failed(failure) | Said::Unknown(failure)) => Outcome::Nothing { failure, is_good: false },
                Ok(Said::Done(_) | Said::Unasked) => {
                    Outcome::Nothing { failure: Failure::BadAnswer("no answer".into()), is_good: true }
                }
            },
        }
    }
}

/// Names what this room measures, so that it is shown before the first refresh.
pub(super) fn describe() {
    metrics::describe_histogram!(WINDOW, Unit::Seconds, "From a token endpoint's last byte until its tokens are kept.");
}

impl Accounts {
    /// Gets new tokens with the refresh token, under the right to do so, and keeps them before anybody uses them. Where somebody
    /// else did so meanwhile, that is as good.
    pub(super) async fn use_refresh_token(&self, linked: &Linked, hold: &Hold) -> Result<()> {
        let Some(refresh) = linked.access.refresh_token() else { return Err(token::over().into()) };
        let Some(mine) = self.begin_try(linked, hold).await? else { return Ok(()) };
        match Outcome::of(self.upstream.refresh(&linked.access, refresh, self.clock.now()).await) {
            Outcome::Token(token) => self.keep_renewed(linked, *token, refresh, &mine).await,
            Outcome::Ended(failure) => self.ended(&linked.access, linked, failure, &mine).await,
            Outcome::Nothing { failure, is_good } => {
                self.leave(linked, &mine, is_good).await;
                Err(failure.into())
            }
        }
    }

    /// The same with changed fields, which may be what renewals failed for. Their refusal may be for the change, and ends nothing; but
    /// where the fields name the same client, and nobody knows how the try before ended, it is the refresh token that is over.
    pub(super) async fn renew_with(&self, access: &Access, linked: &Linked, hold: &Hold, same_client: bool) -> Result<()> {
        let Some(refresh) = linked.access.refresh_token() else { return Err(reauth(&linked.account)) };
        let Some(mine) = self.begin_try(linked, hold).await? else { return Ok(()) };
        match Outcome::of(self.upstream.refresh(access, refresh, self.clock.now()).await) {
            Outcome::Token(token) => self.keep_renewed(linked, *token, refresh, &mine).await,
            Outcome::Ended(failure) if mine.in_doubt && same_client => self.ended(access, linked, failure, &mine).await,
            Outcome::Ended(failure) => {
                self.leave(linked, &mine, true).await;
                Err(refused(failure))
            }
            Outcome::Nothing { failure, is_good } => {
                self.leave(linked, &mine, is_good).await;
                Err(refused(failure))
            }
        }
    }

    /// The right to show the refresh token to the vendor, noted; what another process has begun is left to it for a while. None
    /// when there is another token by then. Where two processes ended in the midst of it, the grant ends: it may be shown no more.
    async fn begin_try(&self, linked: &Linked, hold: &Hold) -> Result<Option<Try>> {
        let version = stale_of(&linked.access).2;
        for _ in 0..TRIES {
            let Some(seen) = self.outlast(linked).await? else { return Ok(None) };
            let at = seen.as_ref().map(|(_, at)| *at);
            let before = seen.map(|(before, _)| before).filter(|before| before.version == version);
            if let (Some(at), Some(TokenIntent { recovering: true, unanswered: false, .. })) = (at, &before) {
                let error = unknown(None);
                return Err(told(self.end(linked, at, &error).await?, error));
            }
            let recovering = before.as_ref().is_some_and(|before| before.recovering || !before.unanswered);
            let intent = TokenIntent { version, fence: hold.fence, begun_at: self.clock.now(), recovering, unanswered: false };
            if let Some(at) = self.note_intent(linked, &intent, at, hold).await? {
                return Ok(Some(Try { intent, at, in_doubt: before.is_some() }));
            }
        }
        Err(always_changing())
    }

    /// The intent there is, once it is no living process's any more, as far as can be known: one that was cut off from the store
    /// can keep what it got, now that the store is there, and has a while for that. None when there is another token by then. This
    /// process's own says nothing of an end in the midst of it.
    async fn outlast(&self, linked: &Linked) -> Result<Option<Option<(TokenIntent, u64)>>> {
        let (id, _, version) = stale_of(&linked.access);
        let (begun, unsettled) = (Instant::now(), &self.opened.renewals.unsettled);
        loop {
            let seen = self.records.token_intent(id).await?;
            if self.records.token(id).await?.is_none_or(|(_, in_force)| in_force != version) {
                return Ok(None);
            }
            let is_open = seen.as_ref().is_some_and(|(intent, _)| intent.version == version && !intent.unanswered);
            if !is_open {
                return Ok(Some(seen));
            }
            if begun.elapsed() >= LEFT_ALONE {
                let is_own = |(intent, _): &(TokenIntent, u64)| unsettled.contains_key(&(id, intent.fence));
                return if seen.as_ref().is_some_and(is_own) { Err(untaken()) } else { Ok(Some(seen)) };
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Nothing came of it. Whether the refresh token is as good as before is noted, unless somebody else has gone on. Where the
    /// store does not take that, its caller need not wait until it does: but it must be noted, or else it looks as if this process
    /// had ended in the midst of it.
    async fn leave(&self, linked: &Linked, mine: &Try, is_good: bool) {
        let (account, intent, is_good) = (linked.account.id, mine.intent.clone(), is_good && !mine.in_doubt);
        let left = Left { account, intent, note: Note::At(mine.at), is_good };
        if let Err(error) = left.keep(&self.records).await {
            tracing::warn!(%account, %error, "that nothing came of a token's renewal is noted once the store takes it");
            self.keep_at_last(left).await;
        }
    }

    /// Keeps it beside its caller, and knows meanwhile that the try is not another process's.
    async fn keep_at_last(&self, left: Left) {
        let (owed, records, unsettled) =
            ((left.account, left.intent.fence), self.records.clone(), self.opened.renewals.unsettled.clone());
        unsettled.insert(owed, ()).await;
        self.opened.tasks.spawn(async move {
            left.keep_at_last(records).await;
            unsettled.invalidate(&owed).await;
        });
    }

    /// The refresh token is over. The one before it is tried where the last access token has never worked: until it is refused,
    /// too, the grant may be good.
    async fn ended(&self, access: &Access, linked: &Linked, failure: Failure, mine: &Try) -> Result<()> {
        let previous = match self.previous(linked).await {
            Ok(previous) => previous,
            Err(error) => {
                self.leave(linked, mine, true).await;
                return Err(error);
            }
        };
        if let Some(previous) = previous {
            match Outcome::of(self.upstream.refresh(access, &previous, self.clock.now()).await) {
                Outcome::Token(token) => return self.keep_renewed(linked, *token, &previous, mine).await,
                Outcome::Ended(_) => {}
                Outcome::Nothing { failure, is_good } => {
                    self.leave(linked, mine, is_good).await;
                    return Err(failure.into());
                }
            }
        }
        let error = if mine.in_doubt { unknown(Some(failure)) } else { failure.into() };
        let ended = self.end(linked, mine.at, &error).await;
        if ended.is_err() {
            // The vendor says the same to whoever asks next.
            self.leave(linked, mine, true).await;
        }
        Err(told(ended?, error))
    }

    /// From now on only a new link helps: what is left of the token is kept without its refresh token, and with it the account
    /// that shows why.
    async fn end(&self, linked: &Linked, intent: u64, error: &Error) -> Result<Persisted> {
        let last = match self.token_of(&linked.account, &linked.data_key).await? {
            Some(token) => {
                let token = Token { refresh: None, ended: true, ..token };
                Some((seal(&linked.account, &linked.data_key, &token)?, token.version))
            }
            None => None,
        };
        self.persist(linked, intent, Kept::Ended { last, why: error.detail() }).await
    }

    /// Keeps a token that was got with this refresh token, whatever the store does meanwhile: it may be the only one that is good.
    /// One that somebody else replaced, or whose account was linked anew, is dropped; that of an account which is gone goes back
    /// to the vendor.
    async fn keep_renewed(&self, linked: &Linked, token: Token, used: &Secret, mine: &Try) -> Result<()> {
        let begun = Instant::now();
        let is_new = token.refresh.as_ref().is_some_and(|new| new.expose() != used.expose());
        let previous = is_new.then(|| seal_previous(&linked.account, &linked.data_key, used));
        let token = Token { refresh: token.refresh.or_else(|| Some(used.clone())), ..token };
        let sealed = seal(&linked.account, &linked.data_key, &token)?;
        let new = Renewed { token: sealed, previous, before: mine.intent.version };
        match self.persist(linked, mine.at, Kept::Renewed(&new)).await? {
            Persisted::Done => metrics::histogram!(WINDOW).record(begun.elapsed()),
            Persisted::Overtaken => {}
            Persisted::Gone => {
                let newest = token.refresh.as_ref().unwrap_or(&token.secret);
                self.give_back(Arc::clone(&linked.access), newest.clone());
            }
        }
        Ok(())
    }

    async fn persist(&self, linked: &Linked, intent: u64, kept: Kept<'_>) -> Result<Persisted> {
        let (id, begun) = (linked.account.id, Instant::now());
        let (mut record, mut pause, mut may_stand) = (linked.version, PAUSE, false);
        loop {
            let chance = match self.put(linked, &kept, record, intent).await {
                Ok(()) => return Ok(Persisted::Done),
                Err(StoreError::Conflict(_)) => self.may_still_keep(linked, &kept, (intent, may_stand)).await,
                // Nobody writes over an account that he cannot read.
                Err(error @ StoreError::Later(_)) => return Err(error.into()),
                Err(error) => {
                    may_stand = true;
                    Err(error.into())
                }
            };
            match chance {
                Ok(Chance::At(version)) => record = version,
                Ok(Chance::Over(how)) => return Ok(how),
                Err(error) if begun.elapsed() > HELD => return Err(error),
                Err(error) => {
                    tracing::error!(account = %id, %error, "a new token is held in memory until the store takes it");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    async fn put(&self, linked: &Linked, kept: &Kept<'_>, record: u64, intent: u64) -> std::result::Result<(), StoreError> {
        let (last, why) = match kept {
            Kept::Renewed(new) => return self.records.put_renewed(linked.account.id, new, record, intent).await,
            Kept::Ended { last, why } => (last, *why),
        };
        let is_ours = |now: &(Account, u64)| now.0.generation == linked.account.generation;
        let conflict = || StoreError::Conflict("account".to_owned());
        let (before, version) = self.records.get(linked.account.id).await?.filter(is_ours).ok_or_else(conflict)?;
        let now = self.clock.now();
        let (status, last_error) = (AccountStatus::NeedsReauth, Some(why.to_owned()));
        let after = Account { status, last_error, updated_at: now, ..before.clone() };
        let events = transition(Some((&before, version)), Some(&after), now);
        let last = last.as_ref().map(|(token, before)| (token, *before));
        let ended = self.records.put_ended(&after, last, version, &events, intent).await;
        // What the store did not confirm may stand all the same.
        if !matches!(ended, Err(StoreError::Conflict(_))) {
            self.announce(&events);
            self.opened.forget(after.environment, after.id).await;
        }
        ended
    }

    /// After a commit that met something else than it expected: the record's version to try with, or why there is nothing more
    /// to keep. A record that a later release wrote is in nobody's way: with a new credential the intent goes, too.
    async fn may_still_keep(&self, linked: &Linked, kept: &Kept<'_>, (intent, may_stand): (u64, bool)) -> Result<Chance> {
        let id = linked.account.id;
        let now = match self.records.get(id).await {
            Ok(now) => now.map(|(now, version)| (version, now.generation != linked.account.generation)),
            Err(StoreError::Later(_)) => self.records.version_of(id).await?.map(|version| (version, false)),
            Err(error) => return Err(error.into()),
        };
        let Some((version, is_anew)) = now else { return Ok(Chance::Over(Persisted::Gone)) };
        let is_ours = self.records.intent_version(id).await? == Some(intent);
        let there = self.records.token(id).await?;
        if let Some((token, at)) = there.as_ref().filter(|(token, _)| may_stand && kept.token() == Some(token)) {
            // A try before this one took effect; it counts once the store confirms it.
            self.records.confirm_token(id, token.clone(), *at).await?;
            return Ok(Chance::Over(Persisted::Done));
        }
        let in_force = there.map(|(_, version)| version);
        let is_replaced = kept.before().is_some_and(|before| in_force != Some(before));
        match is_anew || !is_ours || is_replaced {
            true => Ok(Chance::Over(Persisted::Overtaken)),
            false => Ok(Chance::At(version)),
        }
    }

    /// Notes an intent in the place of the one that was seen, unless the account was deleted or linked anew meanwhile. None when
    /// there is another intent, or another token, by now.
    async fn note_intent(&self, linked: &Linked, intent: &TokenIntent, seen: Option<u64>, hold: &Hold) -> Result<Option<u64>> {
        let (id, mut version) = (linked.account.id, linked.version);
        for _ in 0..TRIES {
            match self.records.put_intent(id, intent, seen, version, hold).await {
                Err(StoreError::Conflict(_)) => match self.records.get(id).await? {
                    Some((_, same)) if same == version => return Ok(None),
                    Some((now, newer)) if now.generation == linked.account.generation => version = newer,
                    Some(_) => return Err(Error::new(Code::Conflict, "The account was linked anew meanwhile.")),
                    None => return Err(Error::not_found()),
                },
                Err(error) => {
                    self.withdraw(id, intent, seen).await;
                    return Err(error.into());
                }
                Ok(at) => return Ok(Some(at)),
            }
        }
        Err(always_changing())
    }

    /// A note that the store did not confirm may stand all the same; the vendor was not asked, and so it must not look as if a
    /// process had ended in the midst of it. Nobody waits for that.
    async fn withdraw(&self, account: AccountId, intent: &TokenIntent, over: Option<u64>) {
        let left = Left { account, intent: intent.clone(), note: Note::Unconfirmed { over }, is_good: over.is_none() };
        self.keep_at_last(left).await;
    }

    async fn previous(&self, linked: &Linked) -> Result<Option<Secret>> {
        let Some(sealed) = self.records.previous_token(linked.account.id).await? else { return Ok(None) };
        let opened = linked.data_key.open(place(&linked.account, PREVIOUS_REFRESH_TOKEN), &sealed).ok();
        Ok(opened.and_then(|plain| std::str::from_utf8(&plain).ok().map(|text| Secret::new(text.to_owned()))))
    }
}

/// Whether an earlier refresh token that was kept opens with this key.
pub(in crate::service) fn previous_opens(account: &Account, key: &DataKey, sealed: &[u8]) -> bool {
    key.open(place(account, PREVIOUS_REFRESH_TOKEN), sealed).is_ok()
}

fn seal_previous(account: &Account, key: &DataKey, refresh: &Secret) -> Bytes {
    key.seal(place(account, PREVIOUS_REFRESH_TOKEN), refresh.expose().as_bytes()).into()
}

fn unknown(failure: Option<Failure>) -> Error {
    let said = failure.map(|failure| Error::from(failure).detail().to_owned());
    let said = said.map(|said| format!(" {said}")).unwrap_or_default();
    let detail = format!(
        "{OUTCOME_UNKNOWN}: the vendor may have given new tokens that were never received, and the old ones are over; the account \
         must be linked again.{said}"
    );
    Error::new(Code::ReauthRequired, detail)
}

/// What its caller is told of the end of a grant, once it is kept.
fn told(how: Persisted, error: Error) -> Error {
    match how {
        Persisted::Overtaken => Error::new(Code::Busy, "The account was given new tokens meanwhile.").retry_after(1),
        Persisted::Done | Persisted::Gone => error,
    }
}

fn untaken() -> Error {
    StoreError::Unavailable("it has not taken the note yet that nothing came of the try before".to_owned()).into()
}

fn always_changing() -> Error {
    Error::new(Code::Busy, "The state of this account changes all the time. Send the request again.")
}
