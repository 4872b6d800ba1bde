//! Cursors: everything needed to go on, sealed, so that any node can, also after a restart.

use std::{fmt::Display, str::FromStr, sync::Arc};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Linked;
use crate::{
    error::{Code, Error, Result},
    model::{EnvironmentId, Warning},
    upstream::Company,
    vault::{SealMark, SystemKeys},
};

/// A cursor is good for a day.
const LIFE_SECONDS: i64 = 24 * 3600;
/// Above this the vendor's part is kept in the store.
pub const MAX_INLINE: usize = 1_000;

/// Losses that a cursor remembers, so that it stays short enough for a URL; each page names its own.
pub const MAX_LOST: usize = 10;

/// Where a walk stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cursor {
    /// The place within the source.
    pub at: Position,
    /// Records given out so far.
    pub seen: u64,
    /// Digest of the first page's ids.
    pub first: Option<u64>,
    /// Digest of the page before.
    pub previous: Option<u64>,
    /// What this walk has lost so far.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lost: Vec<Warning>,
}

/// The place within the source.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Position {
    /// The very beginning.
    Start,
    /// A vendor page, and how many of its records are given out already.
    Page {
        /// What finds it; `None` is the first page.
        next: Option<String>,
        /// Records to skip.
        skip: usize,
    },
    /// A vendor page whose `next` is too long for a cursor and lies in the store.
    Kept {
        /// The blob.
        blob: Uuid,
        /// Records to skip.
        skip: usize,
    },
    /// A snapshot.
    Snapshot {
        /// Which.
        id: Uuid,
        /// Records to skip.
        offset: usize,
    },
    /// The company after this one, not yet visited.
    After(Company),
}

#[derive(Serialize, Deserialize)]
struct Sealed {
    version: u8,
    query: u64,
    expires: i64,
    cursor: Cursor,
}

/// Seals and opens cursors of one list: one account, one resource, one set of filters.
pub struct Cursors<'a> {
    keys: &'a SystemKeys,
    bound: String,
    query: u64,
    now: i64,
}

impl<'a> Cursors<'a> {
    /// `list` names resource and parent; `query` is a digest of filters and limit.
    pub fn new(keys: &'a SystemKeys, linked: &Linked, list: &str, query: u64, now: jiff::Timestamp) -> Self {
        let bound = format!("{}|{}|{list}", linked.account.environment, linked.account.id);
        Self { keys, bound, query, now: now.as_second() }
    }

    /// The text a caller gets.
    pub fn seal(&self, mut cursor: Cursor) -> Result<String> {
        cursor.lost.truncate(MAX_LOST);
        let sealed = Sealed { version: 1, query: self.query, expires: self.now + LIFE_SECONDS, cursor };
        let plain = serde_json::to_vec(&sealed).map_err(Error::internal)?;
        Ok(BASE64_URL_SAFE_NO_PAD.encode(self.keys.seal_for(SealMark::Cursor, &[self.bound.as_bytes()], &plain)))
    }

    /// Where a caller wants to go on.
    pub fn open(&self, text: &str) -> Result<Cursor> {
        let invalid = |why: &str| Error::new(Code::InvalidCursor, why).field("next_cursor");
        let foreign = "`next_cursor` is damaged or belongs to another list or account.";
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).map_err(|_| invalid(foreign))?;
        let plain = self.keys.open_for(SealMark::Cursor, &[self.bound.as_bytes()], &bytes).map_err(|_| invalid(foreign))?;
        let sealed: Sealed = serde_json::from_slice(&plain).map_err(|_| invalid(foreign))?;
        if sealed.version != 1 || sealed.expires <= self.now {
            return Err(invalid("`next_cursor` is older than 24 hours."));
        }
        if sealed.query != self.query {
            return Err(invalid(
                "`next_cursor` was made with other filters, another order or limit; keep them the same while paging.",
            ));
        }
        Ok(sealed.cursor)
    }
}

/// Cursors of the lists of the gateway's own objects: sealed, so that one that is made up, or of another list or environment,
/// is told from one this list gave out.
pub struct PlatformCursors {
    keys: Arc<SystemKeys>,
}

impl PlatformCursors {
    /// Under the installation's cursor key.
    pub fn new(keys: Arc<SystemKeys>) -> Self {
        Self { keys }
    }

    /// The text that goes on after an object.
    pub fn seal(&self, environment: EnvironmentId, list: &str, after: impl Display) -> String {
        let sealed =
            self.keys.seal_for(SealMark::Cursor, &[platform_bound(environment, list).as_bytes()], after.to_string().as_bytes());
        BASE64_URL_SAFE_NO_PAD.encode(sealed)
    }

    /// The object to go on after.
    pub fn open<T: FromStr>(&self, environment: EnvironmentId, list: &str, text: &str) -> Result<T> {
        let bound = platform_bound(environment, list);
        let sealed = BASE64_URL_SAFE_NO_PAD.decode(text).ok();
        let plain = sealed.and_then(|sealed| self.keys.open_for(SealMark::Cursor, &[bound.as_bytes()], &sealed).ok());
        let after = plain.and_then(|plain| std::str::from_utf8(&plain).ok()?.parse().ok());
        let detail = "`next_cursor` is not one this list gave out.";
        after.ok_or_else(|| Error::new(Code::InvalidCursor, detail).field("next_cursor"))
    }
}

/// No cursor of the data plane is bound to a text of this form: theirs begin with the environment.
fn platform_bound(environment: EnvironmentId, list: &str) -> String {
    format!("platform|{environment}|{list}")
}

/// A digest that is the same on every node and in every version.
pub fn digest<'t>(parts: impl IntoIterator<Item = &'t str>) -> u64 {
    // FNV-1a; loop detection and query comparison only, nothing secret rests on it.
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for part in parts {
        for byte in part.as_bytes().iter().chain(&[0xff]) {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
    hash
}
