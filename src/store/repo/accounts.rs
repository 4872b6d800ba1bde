//! Linked accounts: the record and its wrapped data key, in the account's own slot.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    Installation, Listed, Queues, Tokens, account_slot, batch,
    data_keys::{DataKeys, FORMER, KeyUse, USE},
    decode, delete, encode,
    events::{OUTBOX, beside},
    index, key, put, single,
};
use crate::{
    model::{Account, AccountId, EnvironmentId, Event},
    store::{Batch, Expect, Hold, Store, StoreError, Write},
};

pub(super) const RECORD: &str = "account";
pub(super) const DATA_KEY: &str = "data-key";
/// Says that a sweep took this id out of its list; an interrupted `create` must not finish after that.
pub(super) const SWEPT: &str = "swept";
/// The access token in force, and the lock under which another one is got.
pub(super) const TOKEN: &str = "token";
/// Says that another one is being got with a refresh token, before the vendor is asked.
pub(super) const INTENT: &str = "token-intent";
/// The refresh token before the one in force, until that one's access token has worked.
pub(super) const PREVIOUS: &str = "token-previous";
/// Says that the vendor was asked in the background a moment ago.
const PROBED: &str = "probed";
/// How long the right to get a token outlives the node that has it: longer than a token endpoint may take. Vendors that are
/// patient with a used refresh token are so for half a minute: another node must try it again before that.
pub const TOKEN_LEASE: Duration = Duration::from_secs(22);
const SWEPT_FOR: Duration = Duration::from_secs(300);
/// How often a `create` begins again because a sweep took its id out of the list.
const TRIES: usize = 5;
pub(super) const KIND: &str = "account/";
/// Values removed at once; each may be a snapshot chunk.
const ERASE: usize = 16;

/// A refresh token is about to be used, or was and nobody knows how it ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenIntent {
    /// The version of the token it is used for.
    pub version: u64,
    /// Under which right, for people who look into the store.
    pub fence: u64,
    /// When.
    pub begun_at: Timestamp,
    /// The process of a try before ended in the midst of it: this one is the last.
    pub recovering: bool,
    /// The vendor gave no answer that settles it: whoever needs a token tries again.
    pub unanswered: bool,
}

/// What is kept when a refresh token was used.
pub struct Renewed {
    /// The token, sealed.
    pub token: Bytes,
    /// The refresh token before it, sealed; none when it is of no more use.
    pub previous: Option<Bytes>,
    /// The version of the token it takes the place of.
    pub before: u64,
}

/// A token that goes over to its account's new credential, sealed for that.
pub struct Carried<'h> {
    /// The token.
    pub token: Bytes,
    /// The version it was read at: one that was renewed meanwhile is another.
    pub version: u64,
    /// The right to the account's tokens.
    pub hold: &'h Hold,
}

/// The linked accounts of all environments.
#[derive(Clone)]
pub struct Accounts {
    store: Arc<dyn Store>,
}

impl Accounts {
    /// Over any backend.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store }
    }

    /// Queues of work, in the same store.
    pub fn queues(&self) -> Queues {
        Queues::new(self.store.clone())
    }

    /// The environments, in the same store.
    pub fn installation(&self) -> Installation {
        Installation::new(self.store.clone())
    }

    /// The API tokens, in the same store.
    pub fn tokens(&self) -> Tokens {
        Tokens::new(self.store.clone())
    }

    /// Stores a new account with its wrapped data key and its access token, if it has one, and what is to be told of it; an id
    /// that exists is `Conflict`. Answers the record's version.
    pub async fn create(
        &self,
        account: &Account,
        wrapped_key: &[u8],
        token: Option<Bytes>,
        events: &[Event],
    ) -> Result<u64, StoreError> {
        let token = token.map_or_else(|| delete(TOKEN), |token| put(TOKEN, token, Expect::Any));
        let mut writes = vec![
            put(RECORD, encode(account)?, Expect::Absent),
            put(DATA_KEY, Bytes::copy_from_slice(wrapped_key), Expect::Absent),
            put(USE, encode(&unused(account))?, Expect::Any),
            token,
            // Of an account that had this id before, and whose deletion was cut off.
            delete(INTENT),
            delete(PREVIOUS),
        ];
        writes.extend(beside(events, 0)?);
        let (owner, slot, entry) = (account.environment, account_slot(account.id), entry(account.id));
        match self.put_listed(owner, &entry, batch(slot, writes)).await {
            // An id that is taken in another environment must not stay in this one's list.
            Err(StoreError::Conflict(name)) => {
                if self.get(account.id).await?.is_some_and(|(there, _)| there.environment != owner) {
                    index::remove(&*self.store, owner, entry).await?;
                }
                Err(StoreError::Conflict(name))
            }
            written => {
                let version = written?;
                // A deletion of the account that had this id before may have taken it out of the list just now. That is rare: where it
                // cannot be seen, the account counts all the same.
                if !index::has(&*self.store, owner, entry.clone()).await.unwrap_or(true) {
                    index::add(&*self.store, owner, entry).await?;
                }
                Ok(version)
            }
        }
    }

    /// Writes a new record whose entry is in the list: after a sweep took that out, it is put in again before the sweep's mark goes.
    /// A sweep that comes between the two leaves another mark.
    async fn put_listed(&self, owner: EnvironmentId, entry: &str, batch: Batch) -> Result<u64, StoreError> {
        let (mut swept, mut tries) = (None, 0);
        loop {
            index::add(&*self.store, owner, entry.to_owned()).await?;
            let mut batch = batch.clone();
            batch.writes.push(match swept {
                None => Write::Check { name: SWEPT.into(), expect: Expect::Absent },
                Some(mark) => Write::Delete { name: SWEPT.into(), expect: Expect::Version(mark) },
            });
            let slot = batch.slot.clone();
            match self.store.commit(batch).await {
                Err(StoreError::Conflict(name)) if name == SWEPT && tries < TRIES => {
                    swept = self.store.get(&key(slot, SWEPT)).await?.map(|mark| mark.version);
                    tries += 1;
                }
                written => return Ok(single(&written?)),
            }
        }
    }

    /// The account and its version.
    pub async fn get(&self, account: AccountId) -> Result<Option<(Account, u64)>, StoreError> {
        let found = self.store.get(&key(account_slot(account), RECORD)).await?;
        found.map(|entry| Ok((decode(&entry.value, "an account")?, entry.version))).transpose()
    }

    /// The version alone; none when the account does not exist.
    pub async fn version_of(&self, account: AccountId) -> Result<Option<u64>, StoreError> {
        Ok(self.store.get(&key(account_slot(account), RECORD)).await?.map(|entry| entry.version))
    }

    /// Whether the account stands behind this wall, to be asked first.
    pub async fn listed(&self, environment: EnvironmentId, account: AccountId) -> Result<bool, StoreError> {
        index::has(&*self.store, environment, entry(account)).await
    }

    /// The same accounts' data keys.
    pub fn data_keys(&self) -> DataKeys {
        DataKeys::new(self.store.clone())
    }

    /// Replaces the record if it still has this version, together with what is to be told of the change; `Conflict` when
    /// somebody was faster. Answers the new version.
    pub async fn update(&self, account: &Account, expected: u64, events: &[Event]) -> Result<u64, StoreError> {
        let mut writes = vec![put(RECORD, encode(account)?, Expect::Version(expected))];
        writes.extend(beside(events, expected)?);
        Ok(single(&self.store.commit(batch(account_slot(account.id), writes)).await?))
    }

    /// Replaces record, data key and access token together, for a new credential, with what is to be told of it.
    pub async fn replace_credential(
        &self,
        account: &Account,
        wrapped_key: &[u8],
        token: Option<Bytes>,
        expected: u64,
        events: &[Event],
    ) -> Result<u64, StoreError> {
        let token = token.map_or_else(|| delete(TOKEN), |token| put(TOKEN, token, Expect::Any));
        let writes = new_credential(account, wrapped_key, token, expected, events)?;
        Ok(single(&self.store.commit(batch(account_slot(account.id), writes)).await?))
    }

    /// The same for a credential that keeps its access token: `Conflict`, too, when there is another token by now, and `Fenced`
    /// when the right to it was lost.
    pub async fn replace_around_token(
        &self,
        account: &Account,
        wrapped_key: &[u8],
        carried: Carried<'_>,
        expected: u64,
        events: &[Event],
    ) -> Result<u64, StoreError> {
        let token = put(TOKEN, carried.token, Expect::Version(carried.version));
        let writes = new_credential(account, wrapped_key, token, expected, events)?;
        let batch = Batch { fence: Some(carried.hold.clone()), ..batch(account_slot(account.id), writes) };
        Ok(single(&self.store.commit(batch).await?))
    }

    /// The sealed access token and its version.
    pub async fn token(&self, account: AccountId) -> Result<Option<(Bytes, u64)>, StoreError> {
        Ok(self.store.get(&key(account_slot(account), TOKEN)).await?.map(|entry| (entry.value, entry.version)))
    }

    /// The right to get another token for the account, unless somebody else has it.
    pub async fn hold_token(&self, account: AccountId) -> Result<Option<Hold>, StoreError> {
        self.store.hold(&key(account_slot(account), TOKEN), TOKEN_LEASE).await
    }

    /// Gives that right back.
    pub async fn release_token(&self, hold: &Hold) -> Result<(), StoreError> {
        self.store.release(hold).await
    }

    /// Keeps a sealed token under the right to it, if the record still has this version: what was deleted stays deleted.
    pub async fn put_token(&self, account: AccountId, token: Bytes, record: u64, hold: &Hold) -> Result<(), StoreError> {
        let check = Write::Check { name: RECORD.into(), expect: Expect::Version(record) };
        self.commit_under(hold, account, vec![check, put(TOKEN, token, Expect::Any)]).await
    }

    /// Keeps the right to a token for as long again; false when it has ended.
    pub async fn keep_hold(&self, hold: &Hold) -> Result<bool, StoreError> {
        self.store.renew(hold, TOKEN_LEASE).await
    }

    /// The intent that no outcome has followed yet, and its version.
    pub async fn token_intent(&self, account: AccountId) -> Result<Option<(TokenIntent, u64)>, StoreError> {
        let found = self.store.get(&key(account_slot(account), INTENT)).await?;
        found.map(|entry| Ok((decode(&entry.value, "an intent")?, entry.version))).transpose()
    }

    /// The version of that intent alone, whatever release wrote it.
    pub async fn intent_version(&self, account: AccountId) -> Result<Option<u64>, StoreError> {
        Ok(self.store.get(&key(account_slot(account), INTENT)).await?.map(|entry| entry.version))
    }

    /// Notes an intent under the right to a token, over the one that was `seen` and no other, if the record still has this
    /// version and the token is still the one it is meant for. Answers the intent's version: whoever has that may end it.
    pub async fn put_intent(
        &self,
        account: AccountId,
        intent: &TokenIntent,
        seen: Option<u64>,
        record: u64,
        hold: &Hold,
    ) -> Result<u64, StoreError> {
        let writes = vec![
            put(INTENT, encode(intent)?, seen.map_or(Expect::Absent, Expect::Version)),
            Write::Check { name: RECORD.into(), expect: Expect::Version(record) },
            Write::Check { name: TOKEN.into(), expect: Expect::Version(intent.version) },
        ];
        let batch = Batch { fence: Some(hold.clone()), ..batch(account_slot(account), writes) };
        Ok(single(&self.store.commit(batch).await?))
    }

    /// The vendor gave no answer that settles it. `Conflict` when the intent is not in this version any more.
    pub async fn leave_intent(&self, account: AccountId, intent: &TokenIntent, at: u64) -> Result<(), StoreError> {
        let left = TokenIntent { unanswered: true, ..intent.clone() };
        let writes = vec![put(INTENT, encode(&left)?, Expect::Version(at))];
        self.store.commit(batch(account_slot(account), writes)).await.map(|_| ())
    }

    /// The vendor surely did nothing. `Conflict` when the intent is not in this version any more.
    pub async fn drop_intent(&self, account: AccountId, at: u64) -> Result<(), StoreError> {
        self.store.commit(batch(account_slot(account), vec![end_intent(at)])).await.map(|_| ())
    }

    /// Keeps a renewed token in the place of the one before, and ends its intent: all of it or nothing, if the intent still has
    /// this version and the record that one. The right to the token may have ended meanwhile: whoever has it by now must note an
    /// intent of his own before he does anything, and then this one is over.
    pub async fn put_renewed(&self, account: AccountId, new: &Renewed, record: u64, intent: u64) -> Result<(), StoreError> {
        let writes = vec![
            Write::Check { name: RECORD.into(), expect: Expect::Version(record) },
            put(TOKEN, new.token.clone(), Expect::Version(new.before)),
            new.previous.as_ref().map_or_else(|| delete(PREVIOUS), |previous| put(PREVIOUS, previous.clone(), Expect::Any)),
            end_intent(intent),
        ];
        self.store.commit(batch(account_slot(account), writes)).await.map(|_| ())
    }

    /// Keeps what is left of a token that the vendor ended, and the account that shows it, with what is to be told of that: all
    /// of it or nothing, if the intent still has this version and the account that one.
    pub async fn put_ended(
        &self,
        account: &Account,
        last: Option<(&Bytes, u64)>,
        expected: u64,
        events: &[Event],
        intent: u64,
    ) -> Result<(), StoreError> {
        let mut writes = vec![put(RECORD, encode(account)?, Expect::Version(expected)), delete(PREVIOUS), end_intent(intent)];
        writes.extend(last.map(|(token, before)| put(TOKEN, token.clone(), Expect::Version(before))));
        writes.extend(beside(events, expected)?);
        self.store.commit(batch(account_slot(account.id), writes)).await.map(|_| ())
    }

    /// Writes the token that stands once more, which the store then confirms with all that was written before it. Where somebody
    /// has put another one in its place, that one is confirmed.
    pub async fn confirm_token(&self, account: AccountId, token: Bytes, at: u64) -> Result<(), StoreError> {
        match self.store.commit(batch(account_slot(account), vec![put(TOKEN, token, Expect::Version(at))])).await {
            Err(StoreError::Conflict(_)) => Ok(()),
            done => done.map(|_| ()),
        }
    }

    /// The refresh token before the one in force, sealed, while the new access token has not worked yet.
    pub async fn previous_token(&self, account: AccountId) -> Result<Option<Bytes>, StoreError> {
        Ok(self.store.get(&key(account_slot(account), PREVIOUS)).await?.map(|entry| entry.value))
    }

    /// It is of no more use, unless there is another token in force by now.
    pub async fn drop_previous(&self, account: AccountId, token: u64) -> Result<(), StoreError> {
        let check = Write::Check { name: TOKEN.into(), expect: Expect::Version(token) };
        self.store.commit(batch(account_slot(account), vec![check, delete(PREVIOUS)])).await.map(|_| ())
    }

    /// Whether the account's vendor may be asked in the background: once within `life`, whichever node asks first.
    pub async fn begin_probe(&self, account: AccountId, life: Duration) -> Result<bool, StoreError> {
        let Some(record) = self.version_of(account).await? else { return Ok(false) };
        let writes = vec![
            Write::Check { name: RECORD.into(), expect: Expect::Version(record) },
            Write::Put { name: PROBED.into(), value: Bytes::new(), ttl: Some(life), expect: Expect::Absent },
        ];
        match self.store.commit(batch(account_slot(account), writes)).await {
            Err(StoreError::Conflict(name)) if name == PROBED => Ok(false),
            begun => begun.map(|_| true),
        }
    }

    async fn commit_under(&self, hold: &Hold, account: AccountId, writes: Vec<Write>) -> Result<(), StoreError> {
        let batch = Batch { fence: Some(hold.clone()), ..batch(account_slot(account), writes) };
        self.store.commit(batch).await.map(|_| ())
    }

    /// Destroys record and data key in one step, after which nothing sealed for the account can be read: that is the deletion.
    /// Then everything else of it goes but what is to be told of that, then its entry in the list; what cannot be done of this
    /// now is done by `sweep_index`, which finds it by that entry. With `expected` the record must have that version. False when
    /// there was no such account; what an interrupted call left is removed all the same.
    pub async fn delete(
        &self,
        account: AccountId,
        environment: EnvironmentId,
        expected: Option<u64>,
        events: &[Event],
    ) -> Result<bool, StoreError> {
        let listed = index::version(&*self.store, environment, entry(account)).await?;
        let existed = self.version_of(account).await?.is_some();
        let record = Write::Delete { name: RECORD.into(), expect: expected.map_or(Expect::Any, Expect::Version) };
        let mut writes = vec![record, delete(DATA_KEY), delete(FORMER)];
        writes.extend(beside(events, expected.unwrap_or_default())?);
        self.store.commit(batch(account_slot(account), writes)).await?;
        if let Err(error) = self.clear_away(account, (environment, listed), events).await {
            tracing::warn!(%account, %error, "what is left of a deleted account is removed later; nothing of it can be read");
        }
        Ok(existed)
    }

    /// Whoever has no record any more is found by its entry in the list only: that goes last. An account that has the id anew
    /// keeps what it has and stays in the list.
    async fn clear_away(
        &self,
        account: AccountId,
        (environment, listed): (EnvironmentId, Option<u64>),
        events: &[Event],
    ) -> Result<(), StoreError> {
        for event in events {
            self.queues().announce(environment, account, event.id).await?;
        }
        let (Some(listed), true) = (listed, self.erase(account).await?) else { return Ok(()) };
        if index::remove_known(&*self.store, environment, entry(account), listed).await?
            && self.version_of(account).await?.is_some()
        {
            index::add(&*self.store, environment, entry(account)).await?;
        }
        Ok(())
    }

    /// Removes what a deleted account holds, but for what is to be told and the mark that it was swept; false, and nothing more
    /// goes, once there is an account of this id again.
    async fn erase(&self, account: AccountId) -> Result<bool, StoreError> {
        let (slot, mut after) = (account_slot(account), None::<String>);
        loop {
            let found = self.store.scan(&slot, "", after.as_deref(), ERASE).await?;
            let Some(last) = found.last().map(|(name, _)| name.clone()) else { return Ok(true) };
            let ours = found.into_iter().filter(|(name, _)| !name.starts_with(OUTBOX) && name != SWEPT);
            let mut writes: Vec<Write> = ours.map(|(name, _)| delete(name)).collect();
            if writes.is_empty() {
                after = Some(last);
                continue;
            }
            writes.push(Write::Check { name: RECORD.into(), expect: Expect::Absent });
            match self.store.commit(batch(slot.clone(), writes)).await {
                Err(StoreError::Conflict(_)) => return Ok(false),
                erased => drop(erased?),
            }
        }
    }

    /// Ids in the list of the environment after one of them, whether there is an account or not; the second value goes on.
    pub async fn ids(
        &self,
        environment: EnvironmentId,
        after: Option<String>,
        limit: usize,
    ) -> Result<(Vec<AccountId>, Option<String>), StoreError> {
        index::ids::<AccountId>(&*self.store, environment, KIND, after, limit).await
    }

    /// Up to `limit` accounts of the environment after one of them, in id order.
    pub async fn list(
        &self,
        environment: EnvironmentId,
        after: Option<AccountId>,
        limit: usize,
    ) -> Result<Vec<Account>, StoreError> {
        self.readable(environment, after, limit).await?.whole()
    }

    /// The same of those that this release can read. An account of another environment, whose id stands in this one's list since
    /// somebody tried to make it here, is none of this one's.
    pub async fn readable(
        &self,
        environment: EnvironmentId,
        after: Option<AccountId>,
        limit: usize,
    ) -> Result<Listed<Account>, StoreError> {
        let after = after.map(|id| id.to_string());
        let is_of_this = |account: &Account| account.environment == environment;
        let read = |id: AccountId| async move { Ok(self.get(id).await?.map(|(account, _)| account).filter(is_of_this)) };
        index::records(&*self.store, (environment, KIND), after, limit, read).await
    }

    /// Removes list entries without an account, and what a deletion that was cut off left behind them; says how many. What has
    /// something to tell stays in the list until that is told. A `create` that was interrupted between entry and record and goes
    /// on after this is `Conflict`, so that no account is ever missing from its list.
    pub async fn sweep_index(&self, environment: EnvironmentId) -> Result<usize, StoreError> {
        let (mut after, mut swept) = (None, 0);
        loop {
            let (page, more) = index::ids::<AccountId>(&*self.store, environment, KIND, after, 500).await?;
            for account in page {
                if self.version_of(account).await?.is_none() && self.sweep_entry(environment, account).await? {
                    swept += 1;
                }
            }
            after = more;
            if after.is_none() {
                return Ok(swept);
            }
        }
    }

    /// Takes the entry out that stood there before the mark was set: a `create` that goes on after the mark puts in another.
    async fn sweep_entry(&self, environment: EnvironmentId, account: AccountId) -> Result<bool, StoreError> {
        let listed = index::version(&*self.store, environment, entry(account)).await?;
        let (Some(listed), true) = (listed, self.bar(account).await?) else { return Ok(false) };
        if !self.erase(account).await? || !self.store.scan(&account_slot(account), OUTBOX, None, 1).await?.is_empty() {
            return Ok(false);
        }
        index::remove_known(&*self.store, environment, entry(account), listed).await
    }

    /// Keeps an account that does not exist from coming into being for a while; false when it came in the meantime.
    async fn bar(&self, account: AccountId) -> Result<bool, StoreError> {
        let writes = vec![
            Write::Check { name: RECORD.into(), expect: Expect::Absent },
            Write::Put { name: SWEPT.into(), value: Bytes::new(), ttl: Some(SWEPT_FOR), expect: Expect::Any },
        ];
        match self.store.commit(batch(account_slot(account), writes)).await {
            Ok(_) => Ok(true),
            Err(StoreError::Conflict(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// The account in the list of its environment.
fn entry(account: AccountId) -> String {
    format!("{KIND}{account}")
}

/// Record, data key and token of a new credential, with what is to be told of it; nothing of the one before stays.
fn new_credential(
    account: &Account,
    wrapped_key: &[u8],
    token: Write,
    expected: u64,
    events: &[Event],
) -> Result<Vec<Write>, StoreError> {
    let mut writes = vec![
        put(RECORD, encode(account)?, Expect::Version(expected)),
        put(DATA_KEY, Bytes::copy_from_slice(wrapped_key), Expect::Any),
        put(USE, encode(&unused(account))?, Expect::Any),
        delete(FORMER),
        token,
        delete(INTENT),
        delete(PREVIOUS),
    ];
    writes.extend(beside(events, expected)?);
    Ok(writes)
}

fn end_intent(at: u64) -> Write {
    Write::Delete { name: INTENT.into(), expect: Expect::Version(at) }
}

/// Of the data key that comes with a new credential.
fn unused(account: &Account) -> KeyUse {
    KeyUse { made_at: Some(account.updated_at), ..KeyUse::default() }
}
