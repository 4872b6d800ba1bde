//! The life of an access token: when it is to be renewed, and what replaced it.

use std::{
    sync::{Arc, Mutex, OnceLock, PoisonError, Weak},
    time::{Duration, Instant},
};

use futures_util::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};

use super::{Access, Failure, token::Token};

/// A token that may be used for less than this is renewed, where a tenth of its life is not more.
const AHEAD: SignedDuration = SignedDuration::from_secs(60);
/// What a request may take on its way; a token that ends sooner is not sent.
const ON_THE_WAY: SignedDuration = SignedDuration::from_secs(5);
/// How long a refusal of a token that was just got says that tokens are not the reason.
const IN_VAIN: Duration = Duration::from_secs(60);

/// Gets new access tokens and keeps them.
pub trait Renew: Send + Sync {
    /// The account's credential with another token than this one's, got by this call or, meanwhile, by somebody else.
    fn renew(self: Arc<Self>, stale: &Access) -> BoxFuture<'static, Result<Arc<Access>, Failure>>;
}

/// How old a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Age {
    /// Good, or the method has none.
    Good,
    /// Good, but not for long.
    Ending,
    /// Over, or none was got yet.
    Over,
}

/// The life of one access token.
#[derive(Default)]
pub struct Renewal {
    token: Option<Life>,
    next: OnceLock<Arc<Access>>,
    refused: Mutex<Option<Instant>>,
}

struct Life {
    version: u64,
    ends: Option<Ends>,
    by: Weak<dyn Renew>,
}

struct Ends {
    renewed_from: Timestamp,
    at: Timestamp,
}

impl Renewal {
    /// Of a token that `by` renews.
    pub(super) fn of(token: &Token, by: Weak<dyn Renew>) -> Self {
        let ends = token.expires_at.map(|at| Ends::of(token.issued_at, at));
        Self { token: Some(Life { version: token.version, ends, by }), ..Self::default() }
    }

    /// The version the token was kept under; none when there is no token yet.
    pub fn version(&self) -> Option<u64> {
        self.token.as_ref().map(|token| token.version)
    }

    fn age(&self, now: Timestamp) -> Age {
        match self.token.as_ref().map(|token| &token.ends) {
            None => Age::Over,
            Some(None) => Age::Good,
            Some(Some(ends)) if now >= ends.at => Age::Over,
            Some(Some(ends)) if now >= ends.renewed_from => Age::Ending,
            Some(Some(_)) => Age::Good,
        }
    }

    fn is_in_vain(&self) -> bool {
        let refused = *self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.is_some_and(|at| at.elapsed() < IN_VAIN)
    }
}

impl Ends {
    /// Renewed before the last minute or tenth of its life, whichever is longer, but not before its half.
    fn of(issued: Timestamp, at: Timestamp) -> Self {
        let life = at.duration_since(issued);
        let ahead = AHEAD.max(life / 10).min(life / 2);
        let on_the_way = ON_THE_WAY.min(life / 10);
        let before = |span: SignedDuration| at.checked_sub(span).unwrap_or(at);
        Self { renewed_from: before(ahead), at: before(on_the_way) }
    }
}

impl Access {
    /// How old its token is.
    pub fn age(&self, now: Timestamp) -> Age {
        self.renewal.as_ref().map_or(Age::Good, |renewal| renewal.age(now))
    }

    /// What this credential was renewed to while a call held it.
    pub(super) fn latest(&self) -> &Access {
        let mut latest = self;
        while let Some(next) = latest.renewal.as_ref().and_then(|renewal| renewal.next.get()) {
            latest = next;
        }
        latest
    }

    /// After a refusal: the credential with another token; none where that would not help.
    pub async fn renewed(&self) -> Result<Option<Arc<Access>>, Failure> {
        let Some(renewal) = self.renewal.as_ref().filter(|renewal| !renewal.is_in_vain()) else { return Ok(None) };
        let Some(by) = renewal.token.as_ref().and_then(|token| token.by.upgrade()) else { return Ok(None) };
        let next = by.renew(self).await?;
        let _ = renewal.next.set(Arc::clone(&next));
        Ok(Some(next))
    }

    /// The vendor refused this token although it was just got: for a while a refusal is not answered with a new one.
    pub fn refused_anew(&self) {
        if let Some(renewal) = &self.renewal {
            *renewal.refused.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_token_is_renewed_in_its_last_minute_or_tenth_and_not_sent_in_its_last_seconds() {
        for (life, renewed_from, over) in [(3600, 3240, 3595), (600, 540, 595), (100, 50, 95), (10, 5, 9)] {
            let ends = Ends::of(at(0), at(life));
            assert_eq!((ends.renewed_from, ends.at), (at(renewed_from), at(over)), "{life} s");
        }
    }
}
