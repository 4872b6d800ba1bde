//! Refresh tokens: used once however many nodes need a new access token, and never lost between the vendor's answer and the
//! store, as far as that can be helped.
//!
//! Before the vendor is asked, the intent is kept; with the answer, the new tokens take the old ones' place and the intent goes,
//! in one commit under the lock's fence. An intent without an outcome means that a process ended in between: the old refresh
//! token is then tried once more, which helps where the vendor does not rotate it or is patient for a while.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use metrics::Unit;

use super::{
    Linked,
    accounts::Accounts,
    credential::place,
    renew::{seal, stale_of},
    state::transition,
};
use crate::{
    connector::Meaning,
    error::{Code, Error, Result},
    model::{Account, AccountStatus, Secret},
    store::{
        Hold, StoreError,
        repo::{Renewed, TokenIntent},
    },
    upstream::{Failure, Said, Token, judge, token},
    vault::DataKey,
};

/// What an earlier refresh token is bound to.
pub(super) const PREVIOUS_REFRESH_TOKEN: &str = "oauth.previous_refresh_token";
/// Why an account must be linked again although nobody revoked anything.
pub const OUTCOME_UNKNOWN: &str = "refresh_outcome_unknown";
/// How long a token that the store does not take is held in memory.
const HELD: Duration = Duration::from_secs(600);
/// The pauses between tries to keep it.
const PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
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
    /// Nothing for now, and the refresh token is as good as before.
    Nothing(Failure),
    /// Nobody knows whether the refresh token is still good.
    Unknown(Failure),
}

impl Outcome {
    pub(super) fn of(asked: std::result::Result<Token, Failure>) -> Self {
        match asked {
            Ok(token) => Outcome::Token(Box::new(token)),
            Err(failure @ Failure::Answered { meaning: Meaning::Reauth, .. }) => Outcome::Ended(failure),
            Err(failure) => match judge(failure) {
                Err(failure) => Outcome::Nothing(failure),
                Ok(Said::Failed(failure) | Said::Unknown(failure)) => Outcome::Unknown(failure),
                Ok(Said::Done(_) | Said::Unasked) => Outcome::Nothing(Failure::BadAnswer("no answer".into())),
            },
        }
    }
}

/// Names what this room measures, so that it is shown before the first refresh.
pub(super) fn describe() {
    metrics::describe_histogram!(WINDOW, Unit::Seconds, "From a token endpoint's last byte until its tokens are kept.");
}

impl Accounts {
    /// Gets new tokens with the refresh token, under the right to do so, and keeps them before anybody uses them.
    pub(super) async fn use_refresh_token(&self, linked: &Linked, hold: &mut Hold) -> Result<()> {
        let Some(refresh) = linked.access.refresh_token() else { return Err(token::over().into()) };
        let id = linked.account.id;
        let (_, _, version) = stale_of(&linked.access);
        let before = self.records.token_intent(id).await?.filter(|intent| intent.version == version);
        if before.as_ref().is_some_and(|before| before.recovering && !before.unanswered) {
            return self.end(linked, hold, unknown(None)).await;
        }
        let recovering = before.as_ref().is_some_and(|before| before.recovering || !before.unanswered);
        let intent = TokenIntent { version, fence: hold.fence, begun_at: self.clock.now(), recovering, unanswered: false };
        self.note_intent(linked, &intent, hold).await?;
        match Outcome::of(self.upstream.refresh(&linked.access, refresh, self.clock.now()).await) {
            Outcome::Token(token) => self.keep_renewed(linked, *token, hold).await,
            Outcome::Ended(failure) => self.ended(linked, hold, failure, before.is_some()).await,
            Outcome::Nothing(failure) if before.is_none() => {
                self.records.drop_intent(id, hold).await?;
                Err(failure.into())
            }
            Outcome::Nothing(failure) | Outcome::Unknown(failure) => {
                self.note_intent(linked, &TokenIntent { unanswered: true, ..intent }, hold).await?;
                Err(failure.into())
            }
        }
    }

    /// The refresh token is over. The one before it is tried once where the last access token has never worked.
    async fn ended(&self, linked: &Linked, hold: &mut Hold, failure: Failure, in_doubt: bool) -> Result<()> {
        let id = linked.account.id;
        if let Some(previous) = self.previous(linked).await? {
            self.records.drop_previous(id, stale_of(&linked.access).2).await?;
            if let Ok(token) = self.upstream.refresh(&linked.access, &previous, self.clock.now()).await {
                let token = Token { refresh: token.refresh.or(Some(previous)), ..token };
                return self.keep_renewed(linked, token, hold).await;
            }
        }
        let error = if in_doubt { unknown(Some(failure)) } else { failure.into() };
        self.end(linked, hold, error).await
    }

    /// From now on only a new link helps: what is left of the token is kept without its refresh token, and with it the account
    /// that shows why.
    async fn end(&self, linked: &Linked, hold: &mut Hold, error: Error) -> Result<()> {
        let last = match self.token_of(&linked.account, &linked.data_key).await? {
            Some(token) => {
                let token = Token { refresh: None, ended: true, ..token };
                Some((seal(&linked.account, &linked.data_key, &token)?, token.version))
            }
            None => None,
        };
        match self.persist(linked, hold, Kept::Ended { last, why: error.detail() }).await? {
            Persisted::Overtaken => Err(Error::new(Code::Busy, "The account was given new tokens meanwhile.").retry_after(1)),
            Persisted::Done | Persisted::Gone => Err(error),
        }
    }

    pub(super) async fn keep_renewed(&self, linked: &Linked, token: Token, hold: &mut Hold) -> Result<()> {
        let old = linked.access.refresh_token();
        let is_new = token.refresh.as_ref().is_some_and(|new| old.is_none_or(|old| old.expose() != new.expose()));
        let previous = old.filter(|_| is_new).map(|old| seal_previous(&linked.account, &linked.data_key, old));
        let token = Token { refresh: token.refresh.or_else(|| old.cloned()), ..token };
        self.keep_pair(linked, &token, previous, hold).await
    }

    /// Keeps a token whatever the store does meanwhile: it may be the only one that is good. One that somebody else replaced, or
    /// whose account was linked anew, is dropped; that of an account which is gone goes back to the vendor.
    async fn keep_pair(&self, linked: &Linked, token: &Token, previous: Option<Bytes>, hold: &mut Hold) -> Result<()> {
        let begun = Instant::now();
        let new =
            Renewed { token: seal(&linked.account, &linked.data_key, token)?, previous, before: stale_of(&linked.access).2 };
        match self.persist(linked, hold, Kept::Renewed(&new)).await? {
            Persisted::Done => metrics::histogram!(WINDOW).record(begun.elapsed()),
            Persisted::Overtaken => {}
            Persisted::Gone => {
                let newest = token.refresh.as_ref().unwrap_or(&token.secret);
                self.give_back(Arc::clone(&linked.access), newest.clone());
            }
        }
        Ok(())
    }

    async fn persist(&self, linked: &Linked, hold: &mut Hold, kept: Kept<'_>) -> Result<Persisted> {
        let (id, begun) = (linked.account.id, Instant::now());
        let (mut record, mut pause) = (linked.version, PAUSE);
        loop {
            let failed = match self.put(linked, &kept, record, hold).await {
                Ok(()) => return Ok(Persisted::Done),
                Err(failed) => failed,
            };
            match self.may_still_keep(linked, &kept, hold, &failed).await {
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

    async fn put(&self, linked: &Linked, kept: &Kept<'_>, record: u64, hold: &Hold) -> std::result::Result<(), StoreError> {
        let (last, why) = match kept {
            Kept::Renewed(new) => return self.records.put_renewed(linked.account.id, new, record, hold).await,
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
        self.records.put_ended(&after, last, version, &events, hold).await?;
        self.announce(&events);
        self.opened.forget(after.environment, after.id).await;
        Ok(())
    }

    /// After a commit that failed: the record's version to try with, or why there is nothing more to keep.
    async fn may_still_keep(&self, linked: &Linked, kept: &Kept<'_>, hold: &mut Hold, failed: &StoreError) -> Result<Chance> {
        let id = linked.account.id;
        let Some((now, version)) = self.records.get(id).await? else { return Ok(Chance::Over(Persisted::Gone)) };
        let is_fenced = matches!(failed, StoreError::Fenced);
        let is_ours = match kept {
            // Without a try of one's own there is no intent of one's own.
            Kept::Ended { .. } if !is_fenced => true,
            _ => self.records.token_intent(id).await?.is_some_and(|intent| intent.fence == hold.fence),
        };
        let in_force = self.records.token(id).await?.map(|(_, version)| version);
        let is_replaced = kept.before().is_some_and(|before| in_force != Some(before));
        if now.generation != linked.account.generation || !is_ours || is_replaced {
            return Ok(Chance::Over(Persisted::Overtaken));
        }
        if is_fenced || !self.records.keep_hold(hold).await? {
            self.hold_again(linked, hold).await?;
        }
        Ok(Chance::At(version))
    }

    /// The right was lost while the store was away: it is taken again, and the intent with it, unless another node has it.
    async fn hold_again(&self, linked: &Linked, hold: &mut Hold) -> Result<()> {
        let id = linked.account.id;
        let again =
            self.records.hold_token(id).await?.ok_or_else(|| {
                Error::new(Code::Busy, "Another node has the right to get tokens for this account.").retry_after(1)
            })?;
        if let Some(intent) = self.records.token_intent(id).await?.filter(|intent| intent.fence == hold.fence) {
            self.note_intent(linked, &TokenIntent { fence: again.fence, ..intent }, &again).await?;
        }
        *hold = again;
        Ok(())
    }

    /// Keeps an intent unless the account was deleted or linked anew meanwhile.
    pub(super) async fn note_intent(&self, linked: &Linked, intent: &TokenIntent, hold: &Hold) -> Result<()> {
        let (id, mut version) = (linked.account.id, linked.version);
        for _ in 0..TRIES {
            match self.records.put_intent(id, intent, version, hold).await {
                Err(StoreError::Conflict(_)) => match self.records.get(id).await? {
                    Some((now, newer)) if now.generation == linked.account.generation => version = newer,
                    Some(_) => return Err(Error::new(Code::Conflict, "The account was linked anew meanwhile.")),
                    None => return Err(Error::not_found()),
                },
                done => return Ok(done?),
            }
        }
        Err(Error::new(Code::Busy, "The state of this account changes all the time. Send the request again."))
    }

    async fn previous(&self, linked: &Linked) -> Result<Option<Secret>> {
        let Some(sealed) = self.records.previous_token(linked.account.id).await? else { return Ok(None) };
        let opened = linked.data_key.open(place(&linked.account, PREVIOUS_REFRESH_TOKEN), &sealed).ok();
        Ok(opened.and_then(|plain| std::str::from_utf8(&plain).ok().map(|text| Secret::new(text.to_owned()))))
    }
}

/// Whether an earlier refresh token that was kept opens with this key.
pub(super) fn previous_opens(account: &Account, key: &DataKey, sealed: &[u8]) -> bool {
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
