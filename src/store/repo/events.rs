//! Events: committed in their account's slot together with what they tell, then moved to the log of the environment, which
//! has a slot of its own. Their names say when they happened, so that moving one twice writes it in the same place.

use std::{collections::BTreeMap, fmt, str::FromStr, sync::Arc};

use bytes::Bytes;
use uuid::Uuid;

use super::{Listed, account_slot, batch, decode, delete, encode, key, put};
use crate::{
    model::{AccountId, EnvironmentId, Event, EventId},
    store::{Entry, Expect, Slot, Store, StoreError, Write},
};

/// Events of an account that nobody has moved yet.
pub(super) const OUTBOX: &str = "outbox/";
const LOG: &str = "event/";
/// Finds the place of an event by its id.
const BY_ID: &str = "event-id/";
/// Events moved or removed at once.
const TOGETHER: usize = 64;

/// Where an event stands in the log: the newest sorts first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EventPlace {
    /// When it happened, milliseconds.
    pub millis: u64,
    /// The version its account's record had before.
    pub version: u64,
    /// Tells events of one change apart.
    pub part: u8,
    /// Its id.
    pub id: EventId,
}

impl fmt::Display for EventPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}{:016x}{:02x}{}", !self.millis, !self.version, !self.part, self.id.0.simple())
    }
}

impl FromStr for EventPlace {
    type Err = StoreError;
    fn from_str(text: &str) -> Result<Self, StoreError> {
        let number = |from: usize, to: usize| text.get(from..to).and_then(|part| u64::from_str_radix(part, 16).ok());
        let id = text.get(34..).and_then(|id| Uuid::try_parse(id).ok());
        match (text.len(), number(0, 16), number(16, 32), number(32, 34), id) {
            (66, Some(millis), Some(version), Some(part), Some(id)) => {
                Ok(Self { millis: !millis, version: !version, part: !(part as u8), id: EventId(id) })
            }
            _ => Err(StoreError::Damaged("an event has an odd name".into())),
        }
    }
}

/// Events of an account that are in the log and still wait beside it.
#[derive(Default)]
pub struct Logged {
    /// What is told.
    pub events: Vec<Event>,
    /// What to go on after; none at the end.
    pub next: Option<String>,
    names: Vec<String>,
}

/// The events of all environments.
#[derive(Clone)]
pub struct Events {
    store: Arc<dyn Store>,
}

fn slot(environment: EnvironmentId) -> Slot {
    Slot::new(format!("events:{environment}"))
}

/// The writes that put events beside the change they tell, of a record that had this version.
pub(super) fn beside(events: &[Event], version: u64) -> Result<Vec<Write>, StoreError> {
    let write = |(part, event): (usize, &Event)| {
        let millis = u64::try_from(event.occurred_at.as_millisecond()).unwrap_or_default();
        let place = EventPlace { millis, version, part: u8::try_from(part).unwrap_or(u8::MAX), id: event.id };
        Ok(put(format!("{OUTBOX}{place}"), encode(event)?, Expect::Any))
    };
    events.iter().enumerate().map(write).collect()
}

/// What waits under this name: its place in the log, and the event.
fn waiting_event(name: &str, value: &[u8]) -> Result<(String, Event), StoreError> {
    let place: EventPlace = name.get(OUTBOX.len()..).unwrap_or_default().parse()?;
    Ok((place.to_string(), decode(value, "an event")?))
}

/// The slot that an account's events are moved to. A copy of the store is taken of it last, so that none is missed on its way.
pub(super) fn log_slot(environment: EnvironmentId) -> Slot {
    slot(environment)
}

impl Events {
    /// Over any backend.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store }
    }

    /// Writes the next of what an account has to tell into the log. It waits beside the account as well until it is let go; cut off
    /// at any point this can be done again. What is no event of this version stays where it is, and the others are written all the
    /// same.
    pub async fn log(&self, account: AccountId, after: Option<&str>) -> Result<Logged, StoreError> {
        let waiting = self.store.scan(&account_slot(account), OUTBOX, after, TOGETHER).await?;
        let is_last = waiting.len() < TOGETHER;
        let mut logged = Logged { next: waiting.last().map(|(name, _)| name.clone()).filter(|_| !is_last), ..Logged::default() };
        let mut writes: BTreeMap<EnvironmentId, Vec<Write>> = BTreeMap::new();
        for (name, entry) in waiting {
            match waiting_event(&name, &entry.value) {
                Ok((place, event)) => {
                    let writes = writes.entry(event.environment).or_default();
                    writes.push(put(format!("{LOG}{place}"), entry.value, Expect::Any));
                    writes.push(put(format!("{BY_ID}{}", event.id), Bytes::from(place), Expect::Any));
                    logged.names.push(name);
                    logged.events.push(event);
                }
                Err(error) => tracing::error!(%account, %error, "something that is to be told cannot be read; it stays"),
            }
        }
        for (environment, writes) in writes {
            self.store.commit(batch(slot(environment), writes)).await?;
        }
        Ok(logged)
    }

    /// Lets go of what is in the log.
    pub async fn let_go(&self, account: AccountId, logged: &Logged) -> Result<(), StoreError> {
        if logged.names.is_empty() {
            return Ok(());
        }
        let gone = logged.names.iter().map(delete).collect();
        self.store.commit(batch(account_slot(account), gone)).await.map(|_| ())
    }

    /// Moves what an account has to tell into the log; gives what was moved.
    pub async fn move_out(&self, account: AccountId) -> Result<Vec<Event>, StoreError> {
        let (mut moved, mut after) = (Vec::new(), None::<String>);
        loop {
            let logged = self.log(account, after.as_deref()).await?;
            self.let_go(account, &logged).await?;
            moved.extend(logged.events);
            after = logged.next;
            if after.is_none() {
                return Ok(moved);
            }
        }
    }

    /// Whether an account has something to tell.
    pub async fn has_some(&self, account: AccountId) -> Result<bool, StoreError> {
        Ok(!self.store.scan(&account_slot(account), OUTBOX, None, 1).await?.is_empty())
    }

    /// Up to `limit` events, the newest first, or those before one of them; none where this release cannot read it.
    pub async fn list(
        &self,
        environment: EnvironmentId,
        after: Option<EventPlace>,
        limit: usize,
    ) -> Result<Vec<(EventPlace, Option<Event>)>, StoreError> {
        let after = after.map(|place| format!("{LOG}{place}"));
        let found = self.store.scan(&slot(environment), LOG, after.as_deref(), limit).await?;
        let read = |(name, entry): (String, Entry)| {
            let event = Listed::of(std::iter::once(decode(&entry.value, "an event")))?.records.pop();
            Ok((name[LOG.len()..].parse()?, event))
        };
        found.into_iter().map(read).collect()
    }

    /// The event of this id.
    pub async fn get(&self, environment: EnvironmentId, id: EventId) -> Result<Option<Event>, StoreError> {
        let Some(place) = self.store.get(&key(slot(environment), format!("{BY_ID}{id}"))).await? else { return Ok(None) };
        let place = String::from_utf8_lossy(&place.value).into_owned();
        let found = self.store.get(&key(slot(environment), format!("{LOG}{place}"))).await?;
        found.map(|entry| decode(&entry.value, "an event")).transpose()
    }

    /// Removes what happened before this time; how many that were.
    pub async fn trim(&self, environment: EnvironmentId, millis: u64) -> Result<usize, StoreError> {
        let (mut removed, before) = (0, format!("{LOG}{:016x}", !millis));
        loop {
            let old = self.store.scan(&slot(environment), LOG, Some(&before), TOGETHER).await?;
            if old.is_empty() {
                return Ok(removed);
            }
            removed += old.len();
            let mut gone = Vec::new();
            for (name, _) in old {
                let place: EventPlace = name[LOG.len()..].parse()?;
                gone.push(delete(format!("{BY_ID}{}", place.id)));
                gone.push(delete(name));
            }
            self.store.commit(batch(slot(environment), gone)).await?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_again_and_the_newest_sorts_first() {
        let id = EventId(Uuid::from_u128(7));
        let place = |millis, version, part| EventPlace { millis, version, part, id };
        let all = [place(9, 1, 0), place(8, 5, 1), place(8, 5, 0), place(8, 4, 0), place(0, 0, 0)];
        let texts = all.map(|place| place.to_string());
        assert!(texts.is_sorted(), "{texts:?}");
        for (place, text) in all.iter().zip(&texts) {
            assert_eq!(text.parse::<EventPlace>().unwrap(), *place);
        }
        // What is trimmed before a time: everything older, nothing of that time.
        let before = format!("{:016x}", !8_u64);
        assert!(texts[0] < before && before < texts[1], "what happened at that very time goes with the older");
        for odd in ["", "x", &"g".repeat(66), &"0".repeat(65)] {
            assert!(odd.parse::<EventPlace>().is_err(), "{odd}");
        }
    }
}
