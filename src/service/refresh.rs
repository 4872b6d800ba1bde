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
};
use crate::{
    connector::Meaning,
    error::{Code, Error, Result},
    model::{Account, Secret},
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

/// How a try with a refresh token ended.
enum Outcome {
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
    fn of(asked: std::result::Result<Token, Failure>) -> Self {
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
    pub(super) async fn use_refresh_token(self: &Arc<Self>, linked: &Linked, hold: &mut Hold) -> Result<()> {
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
    async fn ended(self: &Arc<Self>, linked: &Linked, hold: &mut Hold, failure: Failure, in_doubt: bool) -> Result<()> {
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

    /// From now on only a new link helps: what is left of the token is kept without its refresh token, and the account shows why.
    async fn end(self: &Arc<Self>, linked: &Linked, hold: &mut Hold, error: Error) -> Result<()> {
        if let Some(token) = self.token_of(&linked.account, &linked.data_key).await? {
            let last = Token { refresh: None, ended: true, ..token };
            self.keep_pair(linked, &last, None, hold).await?;
        }
        self.mark_refused(linked, &error).await;
        Err(error)
    }

    async fn keep_renewed(self: &Arc<Self>, linked: &Linked, token: Token, hold: &mut Hold) -> Result<()> {
        let old = linked.access.refresh_token();
        let is_new = token.refresh.as_ref().is_some_and(|new| old.is_none_or(|old| old.expose() != new.expose()));
        let previous = old.filter(|_| is_new).map(|old| seal_previous(&linked.account, &linked.data_key, old));
        let token = Token { refresh: token.refresh.or_else(|| old.cloned()), ..token };
        self.keep_pair(linked, &token, previous, hold).await
    }

    /// Keeps a token whatever the store does meanwhile: it may be the only one that is good. One that somebody else replaced, or
    /// whose account was deleted or linked anew, is dropped.
    async fn keep_pair(&self, linked: &Linked, token: &Token, previous: Option<Bytes>, hold: &mut Hold) -> Result<()> {
        let (id, begun) = (linked.account.id, Instant::now());
        let (_, _, before) = stale_of(&linked.access);
        let new = Renewed { token: seal(&linked.account, &linked.data_key, token)?, previous, before };
        let (mut record, mut pause) = (linked.version, PAUSE);
        loop {
            let failed = match self.records.put_renewed(id, &new, record, hold).await {
                Ok(()) => {
                    metrics::histogram!(WINDOW).record(begun.elapsed());
                    return Ok(());
                }
                Err(failed) => failed,
            };
            match self.may_still_keep(linked, before, hold, &failed).await {
                Ok(Some(version)) => record = version,
                Ok(None) => return Ok(()),
                Err(error) if begun.elapsed() > HELD => return Err(error),
                Err(error) => {
                    tracing::error!(account = %id, %error, "a new token is held in memory until the store takes it");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    /// After a commit that failed: the record's version to try with, or none where there is nothing more to keep.
    async fn may_still_keep(&self, linked: &Linked, before: u64, hold: &mut Hold, failed: &StoreError) -> Result<Option<u64>> {
        let id = linked.account.id;
        let Some((now, version)) = self.records.get(id).await?.filter(|(now, _)| now.generation == linked.account.generation)
        else {
            return Ok(None);
        };
        let is_ours = self.records.token_intent(id).await?.is_some_and(|intent| intent.fence == hold.fence);
        let in_force = self.records.token(now.id).await?.map(|(_, version)| version);
        if !is_ours || in_force != Some(before) {
            return Ok(None);
        }
        if matches!(failed, StoreError::Fenced) || !self.records.keep_hold(hold).await? {
            self.hold_again(linked, hold).await?;
        }
        Ok(Some(version))
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
    async fn note_intent(&self, linked: &Linked, intent: &TokenIntent, hold: &Hold) -> Result<()> {
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
