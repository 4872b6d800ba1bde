//! The life of an access token: when it is to be renewed, and what replaced it.

use std::sync::{
    Arc, OnceLock, Weak,
    atomic::{AtomicBool, Ordering},
};

use futures_util::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};

use super::{Access, Failure, token::Token};
use crate::model::AccountId;

/// A token that may be used for less than this is renewed, where a tenth of its life is not more.
const AHEAD: SignedDuration = SignedDuration::from_secs(60);
/// A token that lives shorter is left to its callers.
const KEPT_WARM: SignedDuration = SignedDuration::from_secs(60);
/// What a request may take on its way; a token that ends sooner is not sent.
const ON_THE_WAY: SignedDuration = SignedDuration::from_secs(5);

/// Gets new access tokens and keeps them.
pub trait Renew: Send + Sync {
    /// The account's credential as it is kept after a new token was got, by this call or meanwhile by somebody else: of another
    /// generation, when the account was linked anew. None where a new token would not help.
    fn renew(self: Arc<Self>, stale: &Access, of: CallOf) -> BoxFuture<'static, Result<Option<Arc<Access>>, Failure>>;

    /// The vendor took a token that was not proven yet.
    fn proved(self: Arc<Self>, access: &Access);

    /// The vendor refused this token although it was just got: for a while a refusal is not answered with a new one.
    fn refused_anew(self: Arc<Self>, access: &Access, of: CallOf) -> BoxFuture<'static, ()>;
}

/// Whose request was refused. A caller's own may be refused for reasons that are no other request's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CallOf {
    /// The connector's: lists, writes, tests.
    Connector,
    /// A caller's, through the passthrough or `/custom`.
    Caller,
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
}

struct Life {
    version: u64,
    ends: Option<Ends>,
    ended: bool,
    unproven: AtomicBool,
    by: Weak<dyn Renew>,
}

struct Ends {
    life: SignedDuration,
    renewed_from: Timestamp,
    at: Timestamp,
}

impl Renewal {
    /// Of a token that `by` renews.
    pub(super) fn of(token: &Token, account: AccountId, by: Weak<dyn Renew>) -> Self {
        let ends = token.expires_at.map(|at| Ends::of(token.issued_at, at, spread(account)));
        let unproven = AtomicBool::new(token.unproven);
        Self { token: Some(Life { version: token.version, ends, ended: token.ended, unproven, by }), ..Self::default() }
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

    /// From when on the token is renewed; none where it has no known end, or one that comes so soon after it was got that keeping
    /// it at hand would mean asking for another all the time.
    fn renewed_from(&self) -> Option<Timestamp> {
        let ends = self.token.as_ref()?.ends.as_ref()?;
        (ends.life >= KEPT_WARM).then_some(ends.renewed_from)
    }

    /// Whether the vendor ended the grant this token came by.
    pub fn is_ended(&self) -> bool {
        self.token.as_ref().is_some_and(|token| token.ended)
    }

    fn succeeds(&self, before: &Renewal) -> bool {
        self.version() > before.version()
    }

    fn by(&self) -> Option<Arc<dyn Renew>> {
        self.token.as_ref()?.by.upgrade()
    }
}

impl Ends {
    /// Renewed before the last minute or tenth of its life, whichever is longer, but not before its half; `spread` times that
    /// in hundredths.
    fn of(issued: Timestamp, at: Timestamp, spread: i32) -> Self {
        let life = at.duration_since(issued);
        let ahead = (AHEAD.max(life / 10) * spread / 100).min(life / 2);
        let on_the_way = ON_THE_WAY.min(life / 10);
        let before = |span: SignedDuration| at.checked_sub(span).unwrap_or(at);
        Self { life, renewed_from: before(ahead), at: before(on_the_way) }
    }
}

/// Accounts that were linked together do not renew together: from 80 to 120.
fn spread(account: AccountId) -> i32 {
    80 + (account.0.as_u128() % 41) as i32
}

impl Access {
    /// How old its token is.
    pub fn age(&self, now: Timestamp) -> Age {
        self.renewal.as_ref().map_or(Age::Good, |renewal| renewal.age(now))
    }

    /// When its token is due to be renewed although nobody calls: one that came with a refresh token, which some vendors end when it
    /// is not used. Any other is got anew by whoever calls next, as quickly as it would be renewed.
    pub fn kept_warm_from(&self) -> Option<Timestamp> {
        let renewal = self.renewal.as_ref().filter(|_| self.method.needs_browser() && self.refresh_token().is_some())?;
        renewal.renewed_from()
    }

    /// The vendor took the credential.
    fn worked(&self) {
        let Some(token) = self.renewal.as_ref().and_then(|renewal| renewal.token.as_ref()) else { return };
        if token.unproven.load(Ordering::Relaxed)
            && token.unproven.swap(false, Ordering::Relaxed)
            && let Some(by) = token.by.upgrade()
        {
            by.proved(self);
        }
    }

    /// This credential and what it was renewed to while a call held it; each has a newer token than the one before.
    pub(super) fn successors(&self) -> impl Iterator<Item = &Access> {
        fn next<'a>(access: &&'a Access) -> Option<&'a Access> {
            access.renewal.as_ref()?.next.get().map(Arc::as_ref)
        }
        std::iter::successors(Some(self), next)
    }

    /// The last of them.
    pub(super) fn latest(&self) -> &Access {
        self.successors().last().unwrap_or(self)
    }

    /// Makes a call by `first`, and once more by `again` with another token where the vendor `refuses` this one: then nothing of
    /// the call was done. The first answer stands where another token would not help, or the call cannot be made again.
    pub async fn exchange<A, F: Future<Output = Result<A, Failure>>>(
        &self,
        of: CallOf,
        refuses: impl Fn(&Access, &A) -> bool,
        first: impl Future<Output = Result<A, Failure>>,
        again: impl FnOnce(Arc<Access>) -> Option<F>,
    ) -> Result<A, Failure> {
        let answer = first.await?;
        if !refuses(self, &answer) {
            self.worked();
            return Ok(answer);
        }
        let Some(renewed) = self.renewed(of).await? else { return Ok(answer) };
        let Some(second) = again(Arc::clone(&renewed)) else { return Ok(answer) };
        // It may hold one of the account's places.
        drop(answer);
        let answer = second.await?;
        match refuses(&renewed, &answer) {
            true => renewed.refused_anew(of).await,
            false => renewed.worked(),
        }
        Ok(answer)
    }

    /// After a refusal: the same credential with a newer token; none where that would not help, or where the account was linked
    /// anew meanwhile: what was made for one server must not go to another, nor with another's credential.
    async fn renewed(&self, of: CallOf) -> Result<Option<Arc<Access>>, Failure> {
        let Some((renewal, by)) = self.renewal.as_ref().and_then(|renewal| Some((renewal, renewal.by()?))) else {
            return Ok(None);
        };
        let succeeds = |next: &Access| {
            next.generation == self.generation && next.renewal.as_ref().is_some_and(|next| next.succeeds(renewal))
        };
        let next = by.renew(self, of).await?.filter(|next| succeeds(next));
        if let Some(next) = &next {
            let _ = renewal.next.set(Arc::clone(next));
        }
        Ok(next)
    }

    /// The vendor refused this token although it was just got.
    async fn refused_anew(&self, of: CallOf) {
        if let Some(by) = self.renewal.as_ref().and_then(Renewal::by) {
            by.refused_anew(self, of).await;
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
            let ends = Ends::of(at(0), at(life), 100);
            assert_eq!((ends.renewed_from, ends.at), (at(renewed_from), at(over)), "{life} s");
        }
    }

    #[test]
    fn a_token_that_lives_for_seconds_is_left_to_its_callers() {
        let of = |life: Option<i64>| {
            let ends = life.map(|life| Ends::of(at(0), at(life), 100));
            let token = Life { version: 1, ends, ended: false, unproven: AtomicBool::new(false), by: Weak::<Nobody>::new() };
            Renewal { token: Some(token), ..Renewal::default() }.renewed_from()
        };
        assert_eq!([of(Some(3600)), of(Some(60)), of(Some(59)), of(None)], [Some(at(3240)), Some(at(30)), None, None]);
    }

    struct Nobody;

    impl Renew for Nobody {
        fn renew(self: Arc<Self>, _: &Access, _: CallOf) -> BoxFuture<'static, Result<Option<Arc<Access>>, Failure>> {
            unreachable!("nobody calls")
        }
        fn proved(self: Arc<Self>, _: &Access) {}
        fn refused_anew(self: Arc<Self>, _: &Access, _: CallOf) -> BoxFuture<'static, ()> {
            unreachable!("nobody calls")
        }
    }
}
