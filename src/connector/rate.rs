//! How a vendor speaks of its own limit: as it is written, and compiled.

use http::HeaderName;
use schemars::JsonSchema;
use serde::Deserialize;

/// How the vendor speaks of its own limit. Calls wait for room in it, on all nodes together.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RateFile {
    /// The header with the requests of a whole window.
    pub limit: Option<String>,
    /// The header with the requests that are left.
    pub remaining: Option<String>,
    /// The header that says when the vendor counts anew.
    pub reset: Option<String>,
    /// What that header, or `X-RateLimit-Reset`, is measured in; guessed from the number when left out.
    pub unit: Option<RateUnit>,
    /// Whether calls of the transparent proxy wait for room too, instead of being handed on at once.
    #[serde(default)]
    pub hold_passthrough: bool,
}

/// What the end of a window is measured in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RateUnit {
    /// Seconds since 1970.
    EpochS,
    /// Milliseconds since 1970.
    EpochMs,
    /// Seconds from now.
    DeltaS,
    /// Milliseconds from now.
    DeltaMs,
    /// `Sat, 21 Nov 2026 10:00:00 GMT`.
    HttpDate,
}

/// How a vendor speaks of its own limit, beyond the common headers.
#[derive(Clone, Debug, Default)]
pub struct RateWords {
    /// The header with the requests of a window.
    pub limit: Option<HeaderName>,
    /// The header with the requests that are left.
    pub remaining: Option<HeaderName>,
    /// The header with the end of the window.
    pub reset: Option<HeaderName>,
    /// What that is measured in.
    pub unit: Option<RateUnit>,
    /// Whether calls of the transparent proxy wait for room too.
    pub hold: bool,
}

impl RateWords {
    /// Whether a header of this name speaks of the limit.
    pub fn names(&self, name: &HeaderName) -> bool {
        [&self.limit, &self.remaining, &self.reset].into_iter().flatten().any(|own| own == name)
    }
}
