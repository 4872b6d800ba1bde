//! One window of a vendor's rate limit: so many requests until then.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::upstream::rate::Reading;

/// Resets this close together are one window: vendors round to seconds.
const SAME: i64 = 2_000;
/// What is left is taken in parts of this many, so that other nodes find some too.
const PARTS: u64 = 16;
/// Beyond a reset, because clocks differ.
const MARGIN: i64 = 50;
/// How long a record outlives its window, so that the limit of the next one is known.
const MEMORY: Duration = Duration::from_secs(600);

/// What is known of a vendor's limit for one account. Times are milliseconds since 1970.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Window {
    /// When the vendor counts anew.
    pub reset_at: i64,
    /// How long it counts.
    pub length: i64,
    /// Requests of a whole window.
    pub limit: Option<u64>,
    /// Requests nobody has taken yet.
    pub left: u64,
    /// No request before this.
    pub blocked_until: i64,
    /// Requests taken in this window that nothing was heard of yet.
    pub open: u64,
    /// The same of the window before: the vendor may count them in this one.
    pub late: u64,
}

/// What a request may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// So many requests may be made.
    Go(u64),
    /// None before this.
    Wait(i64),
}

impl Window {
    /// Takes up to so many requests.
    pub fn take(&mut self, most: u64, now: i64) -> Turn {
        if self.blocked_until > now {
            return Turn::Wait(self.blocked_until);
        }
        if self.is_unlimited() {
            return Turn::Go(1);
        }
        if self.reset_at <= now {
            self.begin_anew(now);
        }
        match most.min(self.left.div_ceil(PARTS)) {
            0 => Turn::Wait(self.reset_at + MARGIN),
            taken => {
                self.left -= taken;
                self.open += taken;
                Turn::Go(taken)
            }
        }
    }

    /// Whether nothing was ever said of a limit: a lone `Retry-After` is a pause, and no window.
    fn is_unlimited(&self) -> bool {
        self.reset_at == 0 && self.limit.is_none()
    }

    /// Whether there is nothing to keep to.
    pub fn is_silent(&self, now: i64) -> bool {
        self.is_unlimited() && self.blocked_until <= now
    }

    /// A new window: as the last one, or one request to find out.
    pub fn begin_anew(&mut self, now: i64) {
        if self.is_unlimited() {
            return;
        }
        (self.late, self.open) = (self.open, 0);
        self.left = self.limit.map_or(1, |limit| limit.saturating_sub(self.late).max(1));
        self.reset_at = now + self.length.max(1_000);
    }

    /// So many requests were answered, or were given up.
    pub fn settle(&mut self, requests: u64) {
        let late = self.late.min(requests);
        self.late -= late;
        self.open = self.open.saturating_sub(requests - late);
    }

    /// Takes up what an answer said, while `more` requests than were taken here are under way; whether it changed anything.
    pub fn learn(&mut self, reading: &Reading, more: u64, now: i64) -> bool {
        let (before, held) = (self.clone(), self.open + self.late + more);
        if let Some(seconds) = reading.retry_after {
            self.blocked_until = self.blocked_until.max(now + millis(seconds));
        }
        self.limit = reading.limit.filter(|limit| *limit > 0).or(self.limit);
        self.length = self.length.max(reading.window.map_or(0, millis));
        if let Some(remaining) = reading.remaining {
            self.count(remaining, held, reading.reset_after.map(|seconds| now + millis(seconds)), now);
            if remaining == 0 && reading.retry_after.is_none() && reading.reset_after.is_some() {
                self.blocked_until = self.blocked_until.max(self.reset_at);
            }
        }
        *self != before
    }

    fn count(&mut self, remaining: u64, held: u64, reset_at: Option<i64>, now: i64) {
        let free = remaining.saturating_sub(held);
        let reset = reset_at.unwrap_or(self.reset_at);
        self.length = self.length.max(reset - now);
        if self.reset_at > now && (reset - self.reset_at).abs() <= self.tolerance() {
            (self.left, self.reset_at) = (self.left.min(free), self.reset_at.max(reset));
        } else if reset > now {
            (self.left, self.reset_at) = (free, reset);
        }
    }

    fn tolerance(&self) -> i64 {
        (self.length / 2).clamp(1_000, SAME)
    }

    /// What another knows beyond this.
    pub fn merge(&mut self, other: &Window) {
        self.blocked_until = self.blocked_until.max(other.blocked_until);
        self.limit = other.limit.or(self.limit);
        self.length = self.length.max(other.length);
        if (self.reset_at - other.reset_at).abs() <= self.tolerance() {
            (self.left, self.reset_at) = (self.left.min(other.left), self.reset_at.max(other.reset_at));
        } else if other.reset_at > self.reset_at {
            (self.left, self.reset_at) = (other.left, other.reset_at);
        }
    }

    /// How long the record is of use.
    pub fn life(&self, now: i64) -> Duration {
        let end = self.reset_at.max(self.blocked_until) - now;
        Duration::from_millis(u64::try_from(end).unwrap_or(0)) + MEMORY
    }
}

fn millis(seconds: u64) -> i64 {
    i64::try_from(seconds.saturating_mul(1_000)).unwrap_or(i64::MAX / 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_795_000_000_000;

    fn said(limit: u64, remaining: u64, reset: u64) -> Reading {
        Reading { limit: Some(limit), remaining: Some(remaining), reset_after: Some(reset), ..Reading::default() }
    }

    fn take_all(window: &mut Window, now: i64) -> u64 {
        let mut taken = 0;
        while let Turn::Go(part) = window.take(32, now) {
            taken += part;
        }
        taken
    }

    #[test]
    fn no_more_is_given_than_the_vendor_has_left() {
        let mut window = Window::default();
        assert!(window.learn(&said(100, 60, 30), 4, NOW));
        assert_eq!(take_all(&mut window, NOW), 56);
        window.settle(56);
        assert_eq!(window.take(1, NOW + 29_000), Turn::Wait(NOW + 30_000 + MARGIN));
        // The answers of those requests say nothing new; somebody else's use of the limit does.
        assert!(!window.learn(&said(100, 3, 30), 0, NOW));
        assert_eq!(take_all(&mut window, NOW + 30_001), 100, "a new window");
        window.learn(&said(100, 90, 30), 0, NOW + 30_100);
        assert_eq!(take_all(&mut window, NOW + 30_200), 0, "the answer belongs to what was taken already");
    }

    #[test]
    fn no_request_is_made_before_the_reset() {
        let mut window = Window::default();
        window.learn(&said(10, 0, 7), 0, NOW);
        assert_eq!(window.take(1, NOW + 6_999), Turn::Wait(NOW + 7_000));
        assert_eq!(window.take(1, NOW + 7_000), Turn::Go(1));
        let asked = Reading { retry_after: Some(20), remaining: Some(0), reset_after: Some(3), ..Reading::default() };
        window.learn(&asked, 0, NOW + 8_000);
        assert_eq!(window.take(1, NOW + 12_000), Turn::Wait(NOW + 28_000), "Retry-After wins");
    }

    #[test]
    fn a_lone_retry_after_is_a_pause_and_no_limit() {
        let mut window = Window::default();
        assert!(window.learn(&Reading { retry_after: Some(2), ..Reading::default() }, 0, NOW));
        assert_eq!(window.take(32, NOW + 1_999), Turn::Wait(NOW + 2_000));
        assert!(!window.is_silent(NOW + 1_999));
        for n in 0..100 {
            assert_eq!(window.take(32, NOW + 2_000 + n / 10), Turn::Go(1));
        }
        assert!(window.is_silent(NOW + 2_000) && window.open == 0);
    }

    #[test]
    fn without_a_limit_one_request_finds_out() {
        let mut window = Window::default();
        let told = Reading { remaining: Some(2), reset_after: Some(5), ..Reading::default() };
        window.learn(&told, 0, NOW);
        assert_eq!(take_all(&mut window, NOW), 2);
        assert_eq!(take_all(&mut window, NOW + 5_000), 1);
    }

    #[test]
    fn requests_under_way_at_a_reset_count_in_the_new_window() {
        let mut window = Window::default();
        window.learn(&said(10, 10, 5), 0, NOW);
        assert_eq!(take_all(&mut window, NOW), 10);
        window.settle(6);
        assert_eq!(take_all(&mut window, NOW + 5_001), 6, "four may arrive late");
        window.settle(4);
        assert_eq!((window.late, window.open), (0, 6));
        // A node that ended with what it took is forgotten in the end.
        assert_eq!(take_all(&mut window, NOW + 10_002), 4);
        assert_eq!(take_all(&mut window, NOW + 15_003), 6);
    }

    #[test]
    fn rounding_never_begins_a_window_too_early() {
        let mut window = Window::default();
        window.learn(&said(10, 9, 5), 0, NOW);
        window.learn(&said(10, 8, 5), 0, NOW + 900);
        assert_eq!(window.reset_at, NOW + 5_900);
        let mut other = Window::default();
        other.learn(&said(10, 4, 5), 0, NOW);
        window.merge(&other);
        assert_eq!((window.left, window.reset_at), (4, NOW + 5_900));
    }
}
