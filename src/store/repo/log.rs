//! The log of requests: opaque pieces in a slot of each environment, named by the time they are of, the newest first.
//!
//! A piece is written again, longer, while its time goes on, so that few names are many lines.

use std::{fmt, str::FromStr, sync::Arc, time::Duration};

use bytes::Bytes;

use super::batch;
use crate::{
    model::EnvironmentId,
    store::{Expect, Slot, Store, StoreError, Write},
};

/// Names looked at when ended ones are tidied away.
const TIDIED: usize = 256;

/// The log of all environments.
#[derive(Clone)]
pub struct Log {
    store: Arc<dyn Store>,
}

/// Where a piece lies: of which time, by which run of which node, and which one of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PieceName {
    /// Counts lengths of time; later ones are larger.
    pub window: u32,
    /// Who wrote it.
    pub node: u32,
    /// Tells the pieces of one writer apart.
    pub part: u32,
}

impl fmt::Display for PieceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}{:08x}{:08x}", !self.window, self.node, self.part)
    }
}

impl FromStr for PieceName {
    type Err = StoreError;
    fn from_str(text: &str) -> Result<Self, StoreError> {
        let number = |from: usize| text.get(from..from + 8).and_then(|part| u32::from_str_radix(part, 16).ok());
        match (text.len(), number(0), number(8), number(16)) {
            (24, Some(window), Some(node), Some(part)) => Ok(Self { window: !window, node, part }),
            _ => Err(StoreError::Damaged("a piece of the log has an odd name".into())),
        }
    }
}

fn slot(environment: EnvironmentId) -> Slot {
    Slot::new(format!("log:{environment}"))
}

/// Sorts before every piece of this time and after all later ones.
fn before(window: u32) -> String {
    format!("{:08x}", !window)
}

impl Log {
    /// Over any backend.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store }
    }

    /// Writes pieces, new or longer than they were.
    pub async fn put(
        &self,
        environment: EnvironmentId,
        pieces: Vec<(PieceName, Bytes)>,
        life: Duration,
    ) -> Result<(), StoreError> {
        let write = |(name, value): (PieceName, Bytes)| Write::Put {
            name: name.to_string(),
            value,
            ttl: Some(life),
            expect: Expect::Any,
        };
        self.store.commit(batch(slot(environment), pieces.into_iter().map(write).collect())).await.map(|_| ())
    }

    /// Up to `limit` pieces of this time and before it, the newest first, or those after one of them.
    pub async fn read(
        &self,
        environment: EnvironmentId,
        window: u32,
        after: Option<PieceName>,
        limit: usize,
    ) -> Result<Vec<(PieceName, Bytes)>, StoreError> {
        let after = after.map_or_else(|| before(window), |name| name.to_string());
        let found = self.store.scan(&slot(environment), "", Some(&after), limit).await?;
        found.into_iter().map(|(name, entry)| Ok((name.parse()?, entry.value))).collect()
    }

    /// Looks at what is older than this time, so that a backend that forgets names only when they are met forgets them.
    pub async fn tidy(&self, environment: EnvironmentId, window: u32) -> Result<(), StoreError> {
        self.store.scan(&slot(environment), "", Some(&before(window)), TIDIED).await.map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_again_and_the_newest_sorts_first() {
        let name = |window, node, part| PieceName { window, node, part };
        let all = [name(9, 1, 0), name(9, 1, 1), name(9, u32::MAX, 0), name(8, 0, 7), name(0, 0, 0)];
        let texts = all.map(|name| name.to_string());
        assert!(texts.is_sorted(), "{texts:?}");
        assert!(before(9) < texts[0] && texts[2] < before(8) && before(8) < texts[3]);
        for (name, text) in all.iter().zip(&texts) {
            assert_eq!(text.parse::<PieceName>().unwrap(), *name);
        }
        for odd in ["", "x", "zzzzzzzz0000000000000000", "ffffffff00000000000000000"] {
            assert!(odd.parse::<PieceName>().is_err(), "{odd}");
        }
    }
}
