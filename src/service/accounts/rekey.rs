//! What becomes of an account's data key while it is in use: another one in its place, and how much each has sealed.
//!
//! Another data key comes with everything sealed under it in one step, so that a reader finds all of the one or all of the
//! other. What is not sealed anew (snapshots, the vendor's part of a cursor) opens with the key before it as long as it lives.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt, stream};

use super::{
    Accounts, busy,
    credential::{place, reseal_fields, unreadable},
    refresh::PREVIOUS_REFRESH_TOKEN,
};
use crate::{
    connector::ACCESS_TOKEN,
    error::Result,
    model::{Account, AccountId, EnvironmentId},
    service::audit::Act,
    store::{Hold, StoreError, repo::NewKey},
    vault::{DataKey, OpenError},
};

/// What one data key may seal: the bound for random nonces, less what may be counted late.
pub const MOST_SEALS: u64 = (1 << 32) - (1 << 20);
/// Counts are kept when they have grown so far, and when their key leaves memory.
const BLOCK: u64 = 1 << 16;
/// Tries while others change the account.
const TRIES: usize = 5;
/// Counts kept at the same time.
const TOGETHER: usize = 16;
/// How long the end of the process waits for counts to be kept.
const AT_THE_END: Duration = Duration::from_secs(1);

/// What a rotation made of one account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It has what it shall have now.
    Done,
    /// It had it already, or is gone.
    Nothing,
    /// It still has the old: it is being changed all the time, or does not open.
    Left,
}

impl Accounts {
    /// Called twice a second: lets go of credentials that nobody uses, and keeps what was counted.
    pub async fn upkeep(self: &Arc<Self>) {
        self.opened.evict().await;
        let due = self.vault.take_seals(BLOCK);
        if !due.is_empty() {
            let accounts = Arc::clone(self);
            self.opened.tasks.spawn(async move { accounts.keep_counts(due).await });
        }
    }

    /// Keeps what was counted until now; for the end of the process, which does not wait long for it.
    pub async fn keep_all_counts(&self) {
        let due = self.vault.take_seals(0);
        let _ = tokio::time::timeout(AT_THE_END, self.keep_counts(due)).await;
    }

    async fn keep_counts(&self, due: Vec<(EnvironmentId, AccountId, u64)>) {
        let keep = |(environment, account, sealed)| async move {
            if let Err(error) = self.keep_count(environment, account, sealed).await {
                tracing::warn!(%account, %error, "could not keep how much was sealed under a data key");
            }
        };
        stream::iter(due).for_each_concurrent(TOGETHER, keep).await;
    }

    /// Adds to what an account's data key has sealed, and puts another in its place when that is enough.
    pub async fn keep_count(&self, environment: EnvironmentId, account: AccountId, sealed: u64) -> Result<()> {
        let mut tries = 0;
        let sum = loop {
            tries += 1;
            match self.records.data_keys().add_seals(account, sealed).await {
                Err(StoreError::Conflict(_)) if tries < TRIES => {}
                sum => break sum?,
            }
        };
        match sum.is_some_and(|sum| sum >= MOST_SEALS) {
            true => self.replace_used_up(environment, account).await,
            false => Ok(()),
        }
    }

    /// Nobody has asked for it: the audit log tells that the gateway did.
    async fn replace_used_up(&self, environment: EnvironmentId, id: AccountId) -> Result<()> {
        let Some((account, _)) = self.records.get(id).await? else { return Ok(()) };
        let act = Act {
            target_kind: Some("integrated_account".to_owned()),
            target_id: Some(id.to_string()),
            account: Some(id),
            tenant: Some(account.tenant_id),
            ..Act::of_gateway(environment, "data_key.replace")
        };
        let replacing = async {
            match self.rekey(environment, id).await? {
                Outcome::Left => Err(busy()),
                outcome => Ok(outcome),
            }
        };
        let outcome = self.opened.audit.around(act, true, replacing).await?;
        tracing::info!(account = %id, ?outcome, "a data key has sealed as much as it may; another takes its place");
        Ok(())
    }

    /// Puts another data key in the place of the account's. Whoever changes the credential meanwhile wins.
    pub(in crate::service) async fn rekey(&self, environment: EnvironmentId, account: AccountId) -> Result<Outcome> {
        // Nobody gets an access token meanwhile, who would keep it under the old key.
        let Some(hold) = self.records.hold_token(account).await? else { return Ok(Outcome::Left) };
        let outcome = self.rekey_under(&hold, environment, account).await;
        if let Err(error) = self.records.release_token(&hold).await {
            tracing::warn!(%account, %error, "the right to get a token was not given back; it ends by itself");
        }
        self.opened.forget(environment, account).await;
        outcome
    }

    async fn rekey_under(&self, hold: &Hold, environment: EnvironmentId, id: AccountId) -> Result<Outcome> {
        let data_keys = self.records.data_keys();
        for _ in 0..TRIES {
            let found = match self.records.get(id).await {
                Err(StoreError::Later(_)) => return Ok(left(id, "a later release wrote it")),
                found => found?.filter(|(account, _)| (account.environment, account.id) == (environment, id)),
            };
            let (Some((account, version)), Some((wrapped, wrapped_at))) = (found, data_keys.get(id).await?) else {
                return Ok(Outcome::Nothing);
            };
            let former = data_keys.former(id).await?;
            let Ok(old) = self.vault.data_key_with(environment, id, &wrapped, former.as_deref()) else {
                return Ok(left(id, "its data key does not open"));
            };
            let new = self.vault.replace_data_key(environment, id, &old);
            let Ok(sealed) = reseal_fields(&account, &old, &new.key) else {
                return Ok(left(id, "its fields do not open"));
            };
            // Whoever goes on after a crash must find what was begun as it was.
            if self.records.token_intent(id).await?.is_some() {
                return Ok(left(id, "a refresh token of it was used, and how that ended is not known yet"));
            }
            let anew = |field, sealed: &Bytes| reseal(&account, field, (&old, &new.key), sealed);
            let token = self.records.token(id).await?;
            let token = token.map(|(sealed, version)| (anew(ACCESS_TOKEN, &sealed), version));
            let previous = self.records.previous_token(id).await?.map(|sealed| anew(PREVIOUS_REFRESH_TOKEN, &sealed));
            let account = Account { sealed, ..account };
            let new = NewKey {
                account: (&account, version),
                wrapped: (&new.wrapped, wrapped_at),
                former: &new.former,
                token,
                previous,
                now: self.clock.now(),
            };
            match data_keys.replace(new, hold).await {
                Err(StoreError::Conflict(_)) => {}
                Err(StoreError::Fenced) => return Ok(Outcome::Left),
                done => return Ok(done.map(|()| Outcome::Done)?),
            }
        }
        Ok(left(id, "it changes all the time"))
    }

    /// Wraps the account's data key under the primary key; the key itself stays, and so does the record.
    pub(in crate::service) async fn rewrap(&self, environment: EnvironmentId, id: AccountId) -> Result<Outcome> {
        let data_keys = self.records.data_keys();
        for _ in 0..TRIES {
            let Some((wrapped, version)) = data_keys.get(id).await? else { return Ok(Outcome::Nothing) };
            let anew = match self.vault.rewrap(environment, id, &wrapped) {
                Ok(Some(anew)) => anew,
                Ok(None) => return Ok(Outcome::Nothing),
                Err(why) => return Ok(left(id, &why.to_string())),
            };
            match data_keys.rewrap(id, &anew, version).await {
                Err(StoreError::Conflict(_)) => {}
                done => return Ok(done.map(|()| Outcome::Done)?),
            }
        }
        Ok(left(id, "it changes all the time"))
    }

    /// A data key that was wrapped a while ago, as it is to be stored: another key may be primary by now.
    pub(super) fn wrapped_now(&self, account: &Account, wrapped: &[u8]) -> Result<Vec<u8>> {
        let anew = self.vault.rewrap(account.environment, account.id, wrapped).map_err(|why| unreadable().because(why))?;
        Ok(anew.unwrap_or_else(|| wrapped.to_vec()))
    }

    /// Whether this node lacks the root key that the account's data key is wrapped by.
    pub(super) async fn lacks_root_key(&self, account: &Account) -> bool {
        let found = self.records.data_keys().get(account.id).await.ok().flatten();
        let opened = found.map(|(wrapped, _)| self.vault.data_key(account.environment, account.id, &wrapped));
        matches!(opened, Some(Err(OpenError::UnknownKey(_))))
    }
}

fn left(account: AccountId, why: &str) -> Outcome {
    tracing::warn!(%account, why, "the key of an account was not changed");
    Outcome::Left
}

/// A token that does not open is of an earlier credential, and as good as none: it stays what it is.
fn reseal(account: &Account, field: &str, (old, new): (&DataKey, &DataKey), sealed: &Bytes) -> Bytes {
    match old.open(place(account, field), sealed) {
        Ok(plain) => new.seal(place(account, field), &plain).into(),
        Err(_) => sealed.clone(),
    }
}
