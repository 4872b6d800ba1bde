//! What a backup takes of a store: everything that lives for ever, whichever repository it belongs to, in an order in which no
//! record can be missing from its list; which of it is a key; and how it is put into another store.

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
};

use bytes::Bytes;

use super::{account_slot, accounts, batch, events::log_slot, installation, installs, put, tokens};
use crate::{
    model::AccountId,
    store::{Expect, Slot, Store, StoreError},
};

/// Slots in which everything ends by itself: there is nothing to be read, and much to be passed.
const ENDING: [&str; 4] = ["log:", "idempotency:", "link:", "authorization:"];
const LISTS: &str = "env:";
const TOKEN: &str = "token:";

/// A walk over everything that lives for ever. What one account holds is of one moment.
///
/// Which slots there are is read first, then the lists, then what they list: a record that is made meanwhile is left out as a
/// whole, and one that is deleted meanwhile leaves an entry that readers pass over. The logs that events are moved to come
/// last, whether they are there yet or not: what was moved before its account was read is in the log, and what stands in both
/// is moved into the same place again.
pub struct Survey {
    store: Arc<dyn Store>,
    left: VecDeque<Slot>,
    at: Option<(Slot, String)>,
    listed: HashSet<String>,
}

impl Survey {
    /// Finds out which slots there are.
    pub async fn begin(store: Arc<dyn Store>) -> Result<Self, StoreError> {
        let mut slots = store.slots().await?;
        slots.retain(|slot| !ENDING.iter().any(|kind| slot.as_str().starts_with(kind)));
        let logs: Vec<Slot> =
            slots.iter().filter_map(|slot| Some(log_slot(slot.as_str().strip_prefix(LISTS)?.parse().ok()?))).collect();
        slots.retain(|slot| !logs.contains(slot));
        slots.sort_by_key(|slot| (!slot.as_str().starts_with(LISTS), slot.clone()));
        slots.extend(logs);
        Ok(Self { store, left: slots.into(), at: None, listed: HashSet::new() })
    }

    /// The next entries, all of one slot; none at the end.
    pub async fn next(&mut self) -> Result<Option<(Slot, Vec<(String, Bytes)>)>, StoreError> {
        loop {
            let (slot, after) = match self.at.take() {
                Some((slot, after)) => (slot, Some(after)),
                None => match self.left.pop_front() {
                    Some(slot) => (slot, None),
                    None => return Ok(None),
                },
            };
            if !self.is_listed(&slot) {
                continue;
            }
            let found = self.store.lasting(&slot, after.as_deref()).await?;
            if after.is_none() && is_remnant(&slot, &found.entries) {
                continue;
            }
            self.at = found.next.map(|next| (slot.clone(), next));
            if slot.as_str().starts_with(LISTS) {
                self.listed.extend(found.entries.iter().map(|(name, _)| name.clone()));
            }
            if !found.entries.is_empty() {
                return Ok(Some((slot, found.entries)));
            }
        }
    }

    /// An account or token that came again after its list was read would be one that no list shows.
    fn is_listed(&self, slot: &Slot) -> bool {
        let entry = match (account_of(slot.as_str()), slot.as_str().strip_prefix(TOKEN)) {
            (Some(account), _) => format!("{}{account}", accounts::KIND),
            (_, Some(token)) => format!("{}{token}", tokens::KIND),
            _ => return true,
        };
        self.listed.contains(&entry)
    }
}

/// What a deletion has not come to yet, once the record is gone.
fn is_remnant(slot: &Slot, entries: &[(String, Bytes)]) -> bool {
    account_of(slot.as_str()).is_some() && !entries.iter().any(|(name, _)| name == accounts::RECORD)
}

/// The account whose slot this is.
pub fn account_of(slot: &str) -> Option<AccountId> {
    slot.parse().ok().filter(|id: &AccountId| id.to_string() == slot)
}

/// The account that an entry of a list names.
pub fn account_listed(slot: &str, name: &str) -> Option<AccountId> {
    name.strip_prefix(accounts::KIND).filter(|_| slot.starts_with(LISTS))?.parse().ok()
}

/// Whether the entry is the account's record.
pub fn is_account_record(slot: &str, name: &str) -> bool {
    name == accounts::RECORD && account_of(slot).is_some()
}

/// Whether the entry is a token of an account's, sealed under its key.
pub fn is_token(slot: &str, name: &str) -> bool {
    (name == accounts::TOKEN && account_of(slot).is_some()) || is_previous_token(slot, name)
}

/// Whether it is the refresh token before the one in force.
pub fn is_previous_token(slot: &str, name: &str) -> bool {
    name == accounts::PREVIOUS && account_of(slot).is_some()
}

/// Whether the entry says something of a connector within an environment.
pub fn is_install(slot: &str, name: &str) -> bool {
    name.starts_with(installs::KIND) && slot.starts_with(LISTS)
}

/// Whether the entry is a key that the ring wraps. Keys are kept apart from what they open, and not as long.
pub fn is_key(slot: &str, name: &str) -> bool {
    name == accounts::DATA_KEY || is_system_keys(slot, name)
}

/// Slot and name of an account's data key.
pub fn data_key_of(account: AccountId) -> (String, String) {
    (account_slot(account).as_str().to_owned(), accounts::DATA_KEY.to_owned())
}

/// Whether the entry is the installation's own set of keys.
pub fn is_system_keys(slot: &str, name: &str) -> bool {
    slot == installation::SLOT && name == installation::SYSTEM_KEYS
}

/// A slot that holds something already; none in a store that was never used, or in which only a restore was begun.
pub async fn first_used(store: &dyn Store) -> Result<Option<Slot>, StoreError> {
    for slot in store.slots().await? {
        let found = store.scan(&slot, "", None, 2).await?;
        if found.iter().any(|(name, _)| slot.as_str() != installation::SLOT || name != installation::RESTORING) {
            return Ok(Some(slot));
        }
    }
    Ok(None)
}

/// Puts entries back into their slot, whatever is there.
pub async fn put_back(store: &dyn Store, slot: &str, entries: Vec<(String, Bytes)>) -> Result<(), StoreError> {
    let writes = entries.into_iter().map(|(name, value)| put(name, value, Expect::Any)).collect();
    store.commit(batch(Slot::new(slot), writes)).await.map(|_| ())
}
