//! What others left: beginnings whose node is gone, and entries that are old enough to go.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::oneshot;
use uuid::Uuid;

use super::{
    Audit, GATEWAY,
    chain::{Chain, Cut, Item},
    entry::{AuditEntry, Begun, Ended, Head, opened},
};
use crate::{
    error::{Code, Result},
    model::EnvironmentId,
    store::repo::EndedEnvironment,
    vault::{AuditMark, hex},
};

/// After this time an action that has not ended is taken for one whose node is gone. None takes so long.
const LEFT: SignedDuration = SignedDuration::from_mins(15);
/// Between two looks while entries are written.
const LOOK: Duration = Duration::from_secs(60);
/// Beginnings looked at at once.
const LOOKED: usize = 256;
/// Entries that go at once.
const EXPIRED: usize = 256;
/// How long old entries gather before they go together, so that the entries that say so are few.
const GATHER: SignedDuration = SignedDuration::from_hours(1);
/// What was under way when an environment was ended has its entries by then.
const UNDER_WAY: SignedDuration = SignedDuration::from_hours(24);
/// What is written when entries go.
const EXPIRE: &str = "audit.expire";

impl Audit {
    /// Looks for what others left, in the background, when it is time to.
    pub(super) fn tidy_sometimes(&self, environment: EnvironmentId) {
        if self.chain.is_time_to_look(environment, LOOK) {
            let (chain, life) = (self.chain.clone(), self.life);
            self.tasks.spawn(async move {
                if let Err(error) = chain.tidy(environment, life).await {
                    tracing::warn!(cause = %error, "the audit log cannot be tidied; it is tried again");
                }
            });
        }
    }

    /// Of an environment that was ended, what is old enough goes, and in the end the log itself; whether it has. A log that lives for
    /// ever stays.
    pub(in crate::service) async fn tidy_ended(&self, ended: &EndedEnvironment) -> Result<bool> {
        let Some(life) = self.life else { return Ok(self.chain.records.head(ended.id).await?.is_none()) };
        let kept_for = SignedDuration::try_from(life).ok().and_then(|life| life.checked_add(UNDER_WAY));
        if kept_for.is_none_or(|kept_for| self.chain.clock.now().duration_since(ended.ended_at) < kept_for) {
            self.chain.tidy(ended.id, Some(life)).await?;
            return Ok(false);
        }
        Ok(self.chain.records.clear(ended.id).await.map(|()| true)?)
    }

    /// Looks for what others left.
    pub(super) async fn tidy(&self, environment: EnvironmentId) -> Result<()> {
        self.chain.tidy(environment, self.life).await
    }
}

impl Chain {
    async fn tidy(self: &Arc<Self>, environment: EnvironmentId, life: Option<Duration>) -> Result<()> {
        self.end_left(environment).await?;
        match life {
            Some(life) => self.expire(environment, life).await,
            None => Ok(()),
        }
    }

    /// Writes an entry of unknown outcome for each action that nobody will end.
    async fn end_left(self: &Arc<Self>, environment: EnvironmentId) -> Result<()> {
        let oldest = self.clock.now() - LEFT;
        let mut ends = Vec::new();
        for (id, entry) in self.records.opened(environment, LOOKED).await? {
            let begun = opened::<Begun>(&self.keys, AuditMark::Open, environment, &entry.value).map(|(begun, _)| begun);
            let Some(begun) = begun.filter(|begun| begun.id == id) else { continue };
            if begun.began_at < oldest {
                let (tell, told) = oneshot::channel();
                let (ended, open) = (Ended::UNKNOWN, Some(entry.version));
                self.push(environment, Item { begun, ended, open, is_left: true, tell: Some(tell), since: None });
                ends.push(told);
            }
        }
        for ended in join_all(ends).await {
            ended.unwrap_or(Ok(()))?;
        }
        Ok(())
    }

    /// Lets the oldest entries go. The head keeps the hash of the last that went, and an entry says that they did.
    async fn expire(&self, environment: EnvironmentId, life: Duration) -> Result<()> {
        let life = SignedDuration::try_from(life).unwrap_or(SignedDuration::MAX);
        let Ok(oldest) = self.clock.now().checked_sub(life) else { return Ok(()) };
        loop {
            let (head, version) = self.head(environment).await?;
            let Some((cut, is_all)) = self.cut(environment, &head, oldest).await? else { return Ok(()) };
            let item = expiry(self.clock.now(), cut.first - 1);
            let append = self.append_of(environment, (head, version), &[item], Some(cut))?;
            match self.records.append(environment, append).await {
                Ok(()) if is_all => return Ok(()),
                Ok(()) => {}
                // Somebody else writes at this moment: the next look does it.
                Err(error) if error.code() == Code::Conflict => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Where the log shall begin, and whether all that is old is before that. What was changed never goes: it is evidence.
    async fn cut(&self, environment: EnvironmentId, head: &Head, oldest: Timestamp) -> Result<Option<(Cut, bool)>> {
        let page = self.records.entries(environment, head.first - 1, EXPIRED).await?;
        let (mut cut, mut is_all) = (None, page.len() < EXPIRED);
        for ((number, bytes), expected) in page.into_iter().zip(head.first..) {
            let entry = opened::<AuditEntry>(&self.keys, AuditMark::Entry, environment, &bytes);
            let Some((entry, mark)) = entry.filter(|(entry, _)| entry.number == number && number == expected) else {
                is_all = true;
                break;
            };
            let limit = if cut.is_none() { oldest - GATHER } else { oldest };
            if entry.created_at >= limit {
                is_all = true;
                break;
            }
            cut = Some(Cut { first: number + 1, before: hex(&mark) });
        }
        Ok(cut.map(|cut| (cut, is_all)))
    }
}

fn expiry(now: Timestamp, last: u64) -> Item {
    let begun = Begun {
        id: Uuid::now_v7(),
        began_at: now,
        actor: GATEWAY.to_owned(),
        token_id: None,
        action: EXPIRE.to_owned(),
        target_kind: Some("audit_entry".to_owned()),
        target_id: Some(last.to_string()),
        account: None,
        tenant: None,
        request_id: None,
    };
    Item { begun, ended: Ended::DONE, open: None, is_left: false, tell: None, since: None }
}
