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

/// What is left of a limit of the operator's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// What it is a limit of: `token` or `account`.
    pub policy: &'static str,
    /// Requests of a window.
    pub limit: u32,
    /// Seconds of a window.
    pub window: u64,
    /// Requests that are left.
    pub remaining: u32,
    /// Seconds until the limit is whole again; of one that is used up, until there is room for a request.
    pub reset: u64,
}

/// What a vendor said of a limit of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VendorLimit {
    /// Requests of a window.
    pub limit: Option<u64>,
    /// Requests that are left.
    pub remaining: Option<u64>,
    /// Seconds until the vendor counts anew.
    pub reset: Option<u64>,
}
