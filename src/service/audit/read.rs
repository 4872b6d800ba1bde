//! Reading the log, the newest entries first.

use std::{collections::BTreeSet, time::Duration};

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use super::{
    Audit,
    entry::{AuditEntry, hashed, opened, wanted_id},
};
use crate::{
    error::{Code, Error, Result},
    model::{AccountId, EnvironmentId},
    vault::{AuditMark, hex},
};

/// How long one call looks for entries.
const TIME: Duration = Duration::from_secs(20);
/// Entries read at once.
const PAGE: u64 = 500;
/// How far the clocks of two nodes may be apart, where entries stand in the order in which they were written.
const SKEW: SignedDuration = SignedDuration::from_hours(1);

/// Which entries are wanted; all that is said must hold.
#[derive(Clone, Debug, Default)]
pub struct WantedEntries {
    /// By tokens of this name.
    pub actor: Option<String>,
    /// Of this action.
    pub action: Option<String>,
    /// About the object of this id, or one whose hash this is.
    pub target_id: Option<String>,
    /// Through or to this account.
    pub account: Option<AccountId>,
    /// Written then or later.
    pub since: Option<Timestamp>,
    /// Written then or earlier.
    pub until: Option<Timestamp>,
}

/// Entries of the log, the newest first.
#[derive(Debug, Default)]
pub struct AuditPage {
    /// The entries.
    pub entries: Vec<AuditEntry>,
    /// The number of the entry that the next page goes on from.
    pub next: Option<u64>,
    /// Entries of what was looked at that are missing or were changed.
    pub lost: u64,
}

impl WantedEntries {
    /// Whether an entry is wanted whose target is asked for by this id.
    fn holds(&self, entry: &AuditEntry, target_id: Option<&str>) -> bool {
        self.actor.as_ref().is_none_or(|actor| *actor == entry.actor)
            && self.action.as_ref().is_none_or(|action| *action == entry.action)
            && self.target_id.as_deref().is_none_or(|id| Some(id) == target_id)
            && self.account.is_none_or(|account| Some(account) == entry.integrated_account_id)
            && self.since.is_none_or(|since| entry.created_at >= since)
            && self.until.is_none_or(|until| entry.created_at <= until)
    }
}

impl Audit {
    /// A page of entries before this number, those among them that this node is about to write.
    pub async fn list(
        &self,
        environment: EnvironmentId,
        wanted: WantedEntries,
        limit: usize,
        before: Option<u64>,
    ) -> Result<AuditPage> {
        self.chain.settle(environment).await;
        if let Err(error) = self.tidy(environment).await {
            tracing::warn!(cause = %error, "the audit log cannot be tidied before it is read");
        }
        let target_id = wanted.target_id.as_deref().map(|id| wanted_id(&self.chain.keys, environment, id));
        let wanted = WantedEntries { target_id, ..wanted };
        let (head, _) = self.chain.head(environment).await?;
        let (mut page, begun) = (AuditPage::default(), Instant::now());
        let mut before = before.unwrap_or(u64::MAX).min(head.number + 1);
        while before > head.first {
            let after = before.saturating_sub(PAGE + 1).max(head.first - 1);
            let is_last = self.read_before(environment, &wanted, (after, before), &mut page).await?;
            before = after + 1;
            if page.entries.len() > limit {
                page.entries.truncate(limit);
                page.next = page.entries.last().map(|last| last.number);
                return Ok(page);
            }
            if is_last {
                break;
            }
            if begun.elapsed() > TIME && before > head.first {
                return late(page, before);
            }
        }
        Ok(page)
    }

    /// Entries between two numbers, the newest first; whether all before them are older than what is wanted.
    async fn read_before(
        &self,
        environment: EnvironmentId,
        wanted: &WantedEntries,
        (after, before): (u64, u64),
        page: &mut AuditPage,
    ) -> Result<bool> {
        let count = before - after - 1;
        let limit = usize::try_from(count).unwrap_or(usize::MAX);
        let found = self.chain.records.entries(environment, after, limit).await?;
        let mut genuine = 0;
        let mut is_last = false;
        for (number, bytes) in found.into_iter().rev().filter(|(number, _)| *number < before) {
            let entry = opened::<AuditEntry>(&self.chain.keys, AuditMark::Entry, environment, &bytes);
            let Some((entry, mark)) = entry.filter(|(entry, _)| entry.number == number) else { continue };
            genuine += 1;
            is_last |= wanted.since.is_some_and(|since| entry.created_at < since.saturating_sub(SKEW).unwrap_or(Timestamp::MIN));
            let target_id = entry.target_id.as_deref().filter(|_| wanted.target_id.is_some());
            let target_id = target_id.map(|id| wanted_id(&self.chain.keys, environment, id));
            if wanted.holds(&entry, target_id.as_deref()) {
                page.entries.push(AuditEntry { hash: hex(&mark), ..entry });
            }
        }
        page.lost += count - genuine;
        Ok(is_last)
    }

    /// Every entry about one of these accounts, or about a customer of this label, the oldest first, a piece at a time. Whom a
    /// lost entry was about is not known, so that each counts.
    pub async fn about(
        &self,
        environment: EnvironmentId,
        (accounts, tenant): (&[AccountId], &str),
        after: u64,
    ) -> Result<AuditPage> {
        let tenant = hashed(&self.chain.keys, environment, tenant);
        let is_about = |entry: &AuditEntry| {
            entry.tenant.as_ref() == Some(&tenant)
                || entry.integrated_account_id.is_some_and(|account| accounts.contains(&account))
        };
        let limit = usize::try_from(PAGE).unwrap_or(usize::MAX);
        let (before, _) = self.chain.head(environment).await?;
        let found = self.chain.records.entries(environment, after, limit).await?;
        // Read second: what was old enough to go meanwhile is not lost.
        let (now, _) = self.chain.head(environment).await?;
        let next = found.last().map(|(number, _)| *number).filter(|_| found.len() == limit);
        let (first, last) = (now.first.max(after + 1), next.unwrap_or(before.number));
        let (mut genuine, mut entries) = (BTreeSet::new(), Vec::new());
        for (number, bytes) in found {
            let entry = opened::<AuditEntry>(&self.chain.keys, AuditMark::Entry, environment, &bytes);
            let Some((entry, mark)) = entry.filter(|(entry, _)| entry.number == number) else { continue };
            if genuine.insert(number) && is_about(&entry) {
                entries.push(AuditEntry { hash: hex(&mark), ..entry });
            }
        }
        let lost = (last + 1).saturating_sub(first) - genuine.range(first..=last.max(first)).count() as u64;
        Ok(AuditPage { entries, next, lost })
    }
}

/// Gives out what was found; where that is nothing, the search was too wide.
fn late(page: AuditPage, before: u64) -> Result<AuditPage> {
    if page.entries.is_empty() {
        let detail = "No entry was found in the time one call may take. Say when it was: `since=…` and `until=…`.";
        return Err(Error::new(Code::FilterTooBroad, detail).field("until"));
    }
    Ok(AuditPage { next: Some(before), ..page })
}
