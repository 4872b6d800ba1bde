//! Rotation of root keys and data keys, for whoever runs the gateway: what is under which key, and the work piece by piece.
//!
//! The ring itself is a file that only commands of its machine change; what it wraps is changed here, while calls go on.

mod ring;

use std::{collections::BTreeMap, fmt, str::FromStr, sync::Arc};

use futures_util::{StreamExt, TryStreamExt, stream};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

pub use self::ring::RingChange;
use super::{
    Caller,
    accounts::{Accounts, rekey::Outcome},
};
use crate::{
    error::{Code, Error, Result},
    model::{AccountId, Clock, EnvironmentId},
    store::{StoreError, repo},
    vault::{SystemKeys, Vault, wrapping_key_id},
};

/// Accounts that are looked at together.
const LOOKED_AT: usize = 4;
/// Accounts whose keys change together: few, because callers go first.
const CHANGED: usize = 2;
/// Entries of a list that are read at once.
const PAGE: usize = 100;
/// Stands for the id in a wrapped key that is not of our form.
const DAMAGED: &str = "?";
/// Tries to seal the system keys while another node does.
const TRIES: usize = 3;

/// What one root key has under it.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct RootKey {
    /// Its id; the key itself is shown nowhere.
    pub id: String,
    /// Whether it wraps what is new.
    pub is_primary: bool,
    /// Whether the ring of this node has it. What is under one it does not have cannot be read here.
    pub is_in_ring: bool,
    /// When it was made.
    #[schema(required = true)]
    pub created_at: Option<Timestamp>,
    /// Accounts whose data key is wrapped by it.
    pub data_keys: u64,
    /// Whether the installation's own keys are sealed by it.
    pub has_system_keys: bool,
}

/// What is under which key.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct KeyStatus {
    /// The id of the root key that wraps what is new.
    pub primary: String,
    /// Every root key of the ring, and every other one that something is under.
    pub keys: Vec<RootKey>,
    /// Data keys in all; null when they were not counted.
    #[schema(required = true)]
    pub data_keys: Option<u64>,
    /// Data keys that are older than was asked for, or older than their age is known.
    #[schema(required = true)]
    pub older_data_keys: Option<u64>,
}

/// A piece of a rotation.
#[derive(Debug)]
pub struct Rotate {
    /// New data keys, rather than the same ones under another root key.
    pub data_keys: bool,
    /// Of new data keys: only in the place of those older than this.
    pub older_than: Option<SignedDuration>,
    /// How many accounts are looked at.
    pub limit: usize,
    /// The account to begin after.
    pub after: Option<Position>,
}

/// How a piece of a rotation ended.
#[derive(Debug)]
pub struct Rotated {
    /// The root key that wraps what is new.
    pub primary: String,
    /// Accounts that have another key now.
    pub rotated: u64,
    /// Accounts of this piece that still have the old one.
    pub left: u64,
    /// Where the next piece begins; none when there is no more.
    pub next: Option<Position>,
}

/// An account in the order of all environments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position(EnvironmentId, Option<AccountId>);

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/", self.0)?;
        self.1.map_or(Ok(()), |account| account.fmt(f))
    }
}

impl FromStr for Position {
    type Err = uuid::Error;
    fn from_str(text: &str) -> Result<Self, uuid::Error> {
        let (environment, account) = text.split_once('/').unwrap_or((text, ""));
        let account = if account.is_empty() { None } else { Some(account.parse()?) };
        Ok(Self(environment.parse()?, account))
    }
}

/// The keys of the installation.
pub struct Keys {
    installation: repo::Installation,
    data_keys: repo::DataKeys,
    accounts: Arc<Accounts>,
    vault: Arc<Vault>,
    clock: Arc<dyn Clock>,
    /// The environment whose administrators look after them.
    own: EnvironmentId,
}

impl Keys {
    /// Over what they are in; administrators of `own` look after them.
    pub fn new(
        installation: repo::Installation,
        data_keys: repo::DataKeys,
        accounts: Arc<Accounts>,
        vault: Arc<Vault>,
        clock: Arc<dyn Clock>,
        own: EnvironmentId,
    ) -> Self {
        Self { installation, data_keys, accounts, vault, clock, own }
    }

    /// Refuses callers of other environments: keys are the whole installation's.
    pub fn admit(&self, caller: &Caller) -> Result<()> {
        if caller.environment == self.own {
            return Ok(());
        }
        let detail = "Keys belong to the whole installation: a token of the environment `default` looks after them.";
        Err(Error::new(Code::ScopeMissing, detail))
    }

    /// The ring's keys; with `older_than`, too, what is under each, and how many data keys are older. Nothing is opened for it.
    pub async fn status(&self, older_than: Option<SignedDuration>) -> Result<KeyStatus> {
        let ring = self.vault.ring();
        let system = self.installation.system_keys().await?;
        let system = system.as_ref().and_then(|entry| SystemKeys::sealed_by(&entry.value));
        let mut counts: BTreeMap<String, u64> = ring.ids().chain(system).map(|id| (id.to_owned(), 0)).collect();
        let (mut all, mut older) = (0, 0);
        if let Some(life) = older_than {
            let mut at = None;
            loop {
                let (accounts, next) = self.accounts_after(at, PAGE).await?;
                let looks = accounts.into_iter().map(|(_, account)| self.look(account));
                let looked: Vec<_> = stream::iter(looks).buffer_unordered(LOOKED_AT).try_collect().await?;
                for (id, made_at) in looked.into_iter().flatten() {
                    all += 1;
                    older += u64::from(self.is_older(made_at, life));
                    *counts.entry(id).or_default() += 1;
                }
                at = next;
                if at.is_none() {
                    break;
                }
            }
        }
        let primary = ring.primary_id();
        let keys = counts.into_iter().map(|(id, data_keys)| RootKey {
            is_primary: id == primary,
            is_in_ring: ring.ids().any(|known| known == id),
            created_at: ring.created_at(&id),
            data_keys,
            has_system_keys: system == Some(&id),
            id,
        });
        let counted = |count: u64| older_than.map(|_| count);
        Ok(KeyStatus {
            primary: primary.to_owned(),
            keys: keys.collect(),
            data_keys: counted(all),
            older_data_keys: counted(older),
        })
    }

    /// Which key an account's data key is under, and when it was made.
    async fn look(&self, account: AccountId) -> Result<Option<(String, Option<Timestamp>)>> {
        let (found, used) = tokio::try_join!(self.data_keys.get(account), self.data_keys.usage(account))?;
        give_way().await;
        Ok(found.map(|(wrapped, _)| (wrapping_key_id(&wrapped).unwrap_or(DAMAGED).to_owned(), used.made_at)))
    }

    fn is_older(&self, made_at: Option<Timestamp>, life: SignedDuration) -> bool {
        made_at.is_none_or(|made| self.clock.now().duration_since(made) > life)
    }

    /// One piece of a rotation. After the last piece of one of root keys the installation's own keys are under the primary too.
    pub async fn rotate(&self, ask: Rotate) -> Result<Rotated> {
        let primary = self.vault.ring().primary_id().to_owned();
        let (accounts, next) = self.accounts_after(ask.after, ask.limit).await?;
        let work = accounts.into_iter().map(|(environment, account)| self.rotate_one(environment, account, &ask));
        let outcomes: Vec<Outcome> = stream::iter(work).buffer_unordered(CHANGED).try_collect().await?;
        if next.is_none() && !ask.data_keys {
            self.seal_system_keys().await?;
        }
        let count = |wanted| outcomes.iter().filter(|outcome| **outcome == wanted).count() as u64;
        Ok(Rotated { primary, rotated: count(Outcome::Done), left: count(Outcome::Left), next })
    }

    /// A new data key for one account, whichever environment it is in.
    pub async fn rotate_account(&self, account: AccountId) -> Result<Rotated> {
        let found = self.accounts.records.get(account).await?;
        let (found, _) = found.ok_or_else(|| Error::not_found().field("account"))?;
        let outcome = self.accounts.rekey(found.environment, account).await?;
        let primary = self.vault.ring().primary_id().to_owned();
        Ok(Rotated {
            primary,
            rotated: u64::from(outcome == Outcome::Done),
            left: u64::from(outcome == Outcome::Left),
            next: None,
        })
    }

    async fn rotate_one(&self, environment: EnvironmentId, account: AccountId, ask: &Rotate) -> Result<Outcome> {
        give_way().await;
        if !ask.data_keys {
            return self.accounts.rewrap(environment, account).await;
        }
        if let Some(life) = ask.older_than
            && !self.is_older(self.data_keys.usage(account).await?.made_at, life)
        {
            return Ok(Outcome::Nothing);
        }
        self.accounts.rekey(environment, account).await
    }

    async fn seal_system_keys(&self) -> Result<()> {
        for _ in 0..TRIES {
            let stored = self.installation.system_keys().await?.ok_or_else(|| Error::internal("there are no system keys"))?;
            let Some(sealed) = SystemKeys::reseal(&self.vault.ring(), &stored.value).map_err(Error::internal)? else {
                return Ok(());
            };
            match self.installation.replace_system_keys(&sealed, stored.version).await {
                Err(StoreError::Conflict(_)) => {}
                done => return Ok(done.map(|_| ())?),
            }
        }
        Err(Error::new(Code::Busy, "Other nodes seal the installation's keys at the same time. Send the request again.")
            .retry_after(1))
    }

    /// Up to `limit` accounts of all environments, and where to go on.
    async fn accounts_after(
        &self,
        at: Option<Position>,
        limit: usize,
    ) -> Result<(Vec<(EnvironmentId, AccountId)>, Option<Position>)> {
        let mut found = Vec::new();
        let environments = self.installation.environment_ids().await?.into_iter();
        for environment in environments.filter(|environment| at.is_none_or(|at| *environment >= at.0)) {
            let mut after = at.filter(|at| at.0 == environment).and_then(|at| at.1);
            loop {
                let (ids, more) = self.data_keys.accounts(environment, after, (limit - found.len()).min(PAGE)).await?;
                found.extend(ids.into_iter().map(|account| (environment, account)));
                if found.len() >= limit {
                    return Ok((found, Some(Position(environment, more))));
                }
                after = more;
                if after.is_none() {
                    break;
                }
            }
        }
        Ok((found, None))
    }
}

/// An embedded store answers at once, on the thread that serves callers: after each account they have their turn.
async fn give_way() {
    tokio::task::yield_now().await;
}
