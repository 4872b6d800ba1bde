//! A limit on requests.

use std::time::Duration;

/// So many requests in so much time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// The requests.
    pub requests: u32,
    /// The time; they come back evenly over it.
    pub period: Duration,
}
