//! Changes of the key ring in the audit log. Commands change the ring's file on their machine, where no gateway need run: nodes note
//! what they take up, the first of them for all.

use jiff::Timestamp;

use super::Keys;
use crate::{
    error::{Code, Error, Result},
    service::audit::{Act, Audit, ROOT_KEY},
    store::{StoreError, repo::KnownRing},
    vault::KeyRing,
};

/// What of a ring has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RingChange {
    /// A key that was not there, made at this time.
    Added(String, Timestamp),
    /// Another key writes.
    Promoted(String),
    /// A key is there no more.
    Retired(String),
}

impl RingChange {
    /// What makes one ring of another, in the order in which operators do it.
    fn between(before: &KnownRing, after: &KnownRing) -> Vec<RingChange> {
        let added = after.keys.iter().filter(|(id, _)| !before.keys.contains_key(*id));
        let added = added.map(|(id, made)| RingChange::Added(id.clone(), *made));
        let promoted = (before.primary != after.primary).then(|| RingChange::Promoted(after.primary.clone()));
        let retired = before.keys.keys().filter(|id| !after.keys.contains_key(*id)).cloned().map(RingChange::Retired);
        added.chain(promoted).chain(retired).collect()
    }

    /// The same of rings that a node has had.
    pub fn of_rings(before: &KeyRing, after: &KeyRing) -> Vec<RingChange> {
        Self::between(&view(before), &view(after))
    }

    /// The ring with this change; none where it has it already.
    fn of(&self, ring: &KnownRing) -> Option<KnownRing> {
        let mut after = ring.clone();
        match self {
            RingChange::Added(id, made) => drop(after.keys.entry(id.clone()).or_insert(*made)),
            RingChange::Promoted(id) => after.primary.clone_from(id),
            RingChange::Retired(id) => drop(after.keys.remove(id)),
        }
        (after != *ring).then_some(after)
    }

    fn act(&self) -> (&'static str, &str) {
        match self {
            RingChange::Added(id, _) => ("key.add", id),
            RingChange::Promoted(id) => ("key.promote", id),
            RingChange::Retired(id) => ("key.retire", id),
        }
    }
}

/// Which keys a ring has.
fn view(ring: &KeyRing) -> KnownRing {
    let keys = ring.ids().map(|id| (id.to_owned(), ring.created_at(id).unwrap_or_default()));
    KnownRing { primary: ring.primary_id().to_owned(), keys: keys.collect() }
}

/// Whether a ring is a copy from before its newest key was made, which says nothing of what was retired.
fn is_old_copy(ring: &KnownRing, known: &KnownRing) -> bool {
    let newest = known.keys.iter().max_by_key(|(_, made)| **made);
    newest.is_some_and(|(id, _)| !ring.keys.contains_key(id))
}

impl Keys {
    /// Notes what has become of the ring while no node ran. A ring that no node knew of before is no change.
    pub async fn note_ring(&self, audit: &Audit) -> Result<()> {
        let ring = view(&self.vault.ring());
        match self.installation.known_ring().await? {
            None => self.know(&ring).await,
            Some((known, _)) if is_old_copy(&ring, &known) => Ok(()),
            Some((known, _)) => self.note_changes(audit, &RingChange::between(&known, &ring)).await,
        }
    }

    /// Notes changes that a node has taken up; each stands in the log once, whichever nodes take it up.
    pub async fn note_changes(&self, audit: &Audit, changes: &[RingChange]) -> Result<()> {
        if changes.is_empty() {
            return Ok(());
        }
        let busy = || Error::new(Code::Busy, "Another node notes what has become of the key ring.").retry_after(1);
        let hold = self.installation.hold_ring().await?.ok_or_else(busy)?;
        let noted = self.note_each(audit, changes).await;
        self.installation.release(&hold).await?;
        noted
    }

    async fn note_each(&self, audit: &Audit, changes: &[RingChange]) -> Result<()> {
        for change in changes {
            self.note_change(audit, change).await?;
        }
        Ok(())
    }

    async fn know(&self, ring: &KnownRing) -> Result<()> {
        match self.installation.put_known_ring(ring, None).await {
            // Another node was faster.
            Err(StoreError::Conflict(_)) => Ok(()),
            known => Ok(known?),
        }
    }

    async fn note_change(&self, audit: &Audit, change: &RingChange) -> Result<()> {
        let Some((known, version)) = self.installation.known_ring().await? else {
            return self.know(&view(&self.vault.ring())).await;
        };
        let Some(after) = change.of(&known) else { return Ok(()) };
        let (action, id) = change.act();
        let target = (Some(ROOT_KEY.to_owned()), Some(id.to_owned()));
        let act = Act { target_kind: target.0, target_id: target.1, ..Act::of_gateway(self.own, action) };
        let known = async { Ok(self.installation.put_known_ring(&after, Some(version)).await?) };
        audit.around(act, true, known).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(primary: &str, keys: &[(&str, i64)]) -> KnownRing {
        let keys = keys.iter().map(|(id, made)| ((*id).to_owned(), Timestamp::from_second(*made).unwrap()));
        KnownRing { primary: primary.to_owned(), keys: keys.collect() }
    }

    #[test]
    fn a_change_is_one_until_it_is_known() {
        let (before, after) = (ring("k1", &[("k1", 1)]), ring("k2", &[("k2", 2)]));
        let changes = RingChange::between(&before, &after);
        let acts: Vec<_> = changes.iter().map(RingChange::act).collect();
        assert_eq!(acts, [("key.add", "k2"), ("key.promote", "k2"), ("key.retire", "k1")]);
        let mut known = before;
        for change in &changes {
            known = change.of(&known).unwrap();
            assert_eq!(change.of(&known), None, "{change:?}");
        }
        assert_eq!((&known, RingChange::between(&known, &after)), (&after, Vec::new()));
    }

    #[test]
    fn a_copy_from_before_the_newest_key_retires_nothing() {
        let known = ring("k2", &[("k1", 1), ("k2", 2)]);
        assert!(is_old_copy(&ring("k1", &[("k1", 1)]), &known));
        assert!(!is_old_copy(&ring("k2", &[("k2", 2)]), &known));
        assert!(!is_old_copy(&ring("k2", &[("k2", 2), ("k3", 3)]), &known));
    }
}
