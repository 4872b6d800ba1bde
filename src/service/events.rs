//! The log of events of an environment: what happened to its accounts, for 30 days.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;

use super::cursor::digest;
use crate::{
    error::{Code, Error, Result},
    model::{AccountId, Clock, EnvironmentId, Event, EventKind},
    store::repo::{self, EventPlace, Listed, Logged},
};

/// How long events are kept.
const LIFE: Duration = Duration::from_secs(30 * 24 * 3600);
/// Events read at once.
const PAGE: usize = 500;
/// How long one call looks for events that are asked for.
const LOOK_TIME: Duration = Duration::from_secs(20);

/// Which events are asked for; all must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListEvents {
    /// Only of this kind.
    pub kind: Option<EventKind>,
    /// Only of this account.
    pub account: Option<AccountId>,
    /// Only of accounts that had this label.
    pub tenant_id: Option<String>,
    /// Only what happened then or later.
    pub since: Option<Timestamp>,
}

impl ListEvents {
    /// Tells the cursors of other filters from those of these.
    pub fn digest(&self) -> u64 {
        digest([format!("{self:?}").as_str()])
    }

    fn matches(&self, event: &Event) -> bool {
        self.kind.is_none_or(|kind| kind == event.kind)
            && self.account.is_none_or(|account| account == event.account)
            && self.tenant_id.as_ref().is_none_or(|tenant| *tenant == event.tenant_id)
    }

    fn is_before(&self, event: &Event) -> bool {
        self.since.is_some_and(|since| event.occurred_at < since)
    }
}

/// The events of all environments.
pub struct Events {
    records: repo::Events,
    clock: Arc<dyn Clock>,
}

impl Events {
    /// Over the records.
    pub fn new(records: repo::Events, clock: Arc<dyn Clock>) -> Self {
        Self { records, clock }
    }

    /// Up to `limit` events, the newest first; the second value continues the list. For whoever must not miss one.
    pub async fn list(
        &self,
        environment: EnvironmentId,
        wanted: &ListEvents,
        limit: usize,
        after: Option<EventPlace>,
    ) -> Result<(Vec<Event>, Option<EventPlace>)> {
        let (listed, next) = self.readable(environment, wanted, limit, after).await?;
        Ok((listed.whole()?, next))
    }

    /// The same of those that this release can read.
    pub async fn readable(
        &self,
        environment: EnvironmentId,
        wanted: &ListEvents,
        limit: usize,
        mut after: Option<EventPlace>,
    ) -> Result<(Listed<Event>, Option<EventPlace>)> {
        let (mut found, mut unreadable, mut last, begun) = (Vec::new(), 0, None, Instant::now());
        loop {
            let page = self.records.list(environment, after, PAGE).await?;
            let is_end = page.len() < PAGE;
            for (place, event) in page {
                after = Some(place);
                let Some(event) = event else {
                    unreadable += 1;
                    continue;
                };
                if wanted.is_before(&event) {
                    return Ok((Listed { records: found, unreadable }, None));
                }
                if wanted.matches(&event) {
                    if found.len() == limit {
                        return Ok((Listed { records: found, unreadable }, last));
                    }
                    last = Some(place);
                    found.push(event);
                }
            }
            if is_end {
                return Ok((Listed { records: found, unreadable }, None));
            }
            if begun.elapsed() > LOOK_TIME {
                let detail = "The events asked for are far apart: say with `since` how far back to look.";
                return Err(Error::new(Code::FilterTooBroad, detail).field("since"));
            }
        }
    }

    /// One event.
    pub async fn get(&self, environment: EnvironmentId, id: &str) -> Result<Event> {
        let id = id.parse().map_err(|_| Error::not_found())?;
        self.records.get(environment, id).await?.ok_or_else(Error::not_found)
    }

    /// Moves what an account has to tell into the log; gives what was moved.
    pub async fn move_out(&self, account: AccountId) -> Result<Vec<Event>> {
        Ok(self.records.move_out(account).await?)
    }

    /// Writes the next of what an account has to tell into the log.
    pub(super) async fn log(&self, account: AccountId, after: Option<&str>) -> Result<Logged> {
        Ok(self.records.log(account, after).await?)
    }

    /// Lets go of what is in the log.
    pub(super) async fn let_go(&self, account: AccountId, logged: &Logged) -> Result<()> {
        Ok(self.records.let_go(account, logged).await?)
    }

    /// Whether an account has something to tell.
    pub(super) async fn has_some(&self, account: AccountId) -> Result<bool> {
        Ok(self.records.has_some(account).await?)
    }

    /// Whether the log holds nothing.
    pub(super) async fn is_empty(&self, environment: EnvironmentId) -> Result<bool> {
        Ok(self.records.list(environment, None, 1).await?.is_empty())
    }

    /// Removes what is older than the log's life.
    pub async fn trim(&self, environment: EnvironmentId) -> Result<usize> {
        let life = i64::try_from(LIFE.as_millis()).unwrap_or(i64::MAX);
        let before = self.clock.now().as_millisecond().saturating_sub(life);
        Ok(self.records.trim(environment, u64::try_from(before).unwrap_or_default()).await?)
    }
}
