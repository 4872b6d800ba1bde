//! How long vendors take, for operators: by connector, way and outcome. Nothing that a caller wrote becomes a label.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock, PoisonError, RwLock},
    time::{Duration, Instant},
};

use metrics::{Histogram, Unit};

use super::{Access, Failure};
use crate::model::{Slug, Trace};

const DURATION: &str = "rollcall_vendor_request_duration_seconds";

/// Metric handles of each connector, so that counting costs no label allocation.
pub struct ByConnector<T>(RwLock<HashMap<Slug, Arc<T>>>);

impl<T> Default for ByConnector<T> {
    fn default() -> Self {
        Self(RwLock::default())
    }
}

impl<T> ByConnector<T> {
    /// The connector's handles, made when it is first met.
    pub fn get(&self, connector: &Slug, make: impl FnOnce() -> T) -> Arc<T> {
        if let Some(known) = self.0.read().unwrap_or_else(PoisonError::into_inner).get(connector) {
            return known.clone();
        }
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        all.entry(connector.clone()).or_insert_with(|| Arc::new(make())).clone()
    }
}

/// How a request to a vendor ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Success,
    Redirect,
    ClientError,
    Throttled,
    ServerError,
    TimedOut,
    Unreachable,
    BadAnswer,
    Refused,
    GivenUp,
}

impl Outcome {
    const WORDS: [&str; 10] = ["2xx", "3xx", "4xx", "429", "5xx", "timeout", "unreachable", "bad_answer", "refused", "given_up"];

    fn of_status(status: u16) -> Self {
        match status {
            200..=299 => Self::Success,
            300..=399 => Self::Redirect,
            429 => Self::Throttled,
            400..=499 => Self::ClientError,
            500..=599 => Self::ServerError,
            _ => Self::BadAnswer,
        }
    }

    fn of_failure(failure: &Failure) -> Self {
        match failure {
            Failure::TimedOut(_) => Self::TimedOut,
            Failure::Unreachable(_) | Failure::Broken(_) | Failure::Distrusted { .. } => Self::Unreachable,
            Failure::Egress(_) => Self::Refused,
            Failure::Upload(_) | Failure::UploadBroken(_) => Self::GivenUp,
            _ => Self::BadAnswer,
        }
    }
}

/// One way to call vendors.
pub(super) struct Meters {
    way: &'static str,
    known: ByConnector<Row>,
}

/// The histograms of one connector, each made when it is first needed.
struct Row {
    way: &'static str,
    connector: Slug,
    outcomes: [OnceLock<Histogram>; Outcome::WORDS.len()],
}

impl Row {
    fn histogram(&self, outcome: Outcome) -> &Histogram {
        self.outcomes[outcome as usize].get_or_init(|| {
            let (connector, outcome) = (self.connector.to_string(), Outcome::WORDS[outcome as usize]);
            metrics::histogram!(DURATION, "connector" => connector, "way" => self.way, "outcome" => outcome)
        })
    }
}

impl Meters {
    /// `way` is the label that tells this client's requests from the other's.
    pub(super) fn new(way: &'static str) -> Self {
        let text = "Requests to vendors: for `passthrough` until the head of the answer, for `unified` until its end.";
        metrics::describe_histogram!(DURATION, Unit::Seconds, text);
        Self { way, known: ByConnector::default() }
    }

    /// Begins to measure a request.
    pub(super) fn start(&self, access: &Access) -> Timed {
        let connector = &access.connector.slug;
        let outcomes = || [const { OnceLock::new() }; Outcome::WORDS.len()];
        let row = self.known.get(connector, || Row { way: self.way, connector: connector.clone(), outcomes: outcomes() });
        Timed { row, started: Instant::now(), outcome: Outcome::GivenUp, answered: None }
    }
}

/// A request under way. It is counted when this is dropped, so that one nobody waited for to its end is counted too.
pub(super) struct Timed {
    row: Arc<Row>,
    started: Instant,
    outcome: Outcome,
    answered: Option<(u16, Duration)>,
}

impl Timed {
    /// The vendor answered with this status; how long that took.
    pub(super) fn answered(&mut self, status: u16) -> Duration {
        let took = self.started.elapsed();
        self.outcome = Outcome::of_status(status);
        self.answered = Some((status, took));
        took
    }

    /// There was no usable answer.
    pub(super) fn failed(&mut self, failure: &Failure) {
        self.outcome = Outcome::of_failure(failure);
    }
}

impl Drop for Timed {
    fn drop(&mut self) {
        let (status, took) = match self.answered {
            Some((status, took)) => (Some(status), took),
            None => (None, self.started.elapsed()),
        };
        self.row.histogram(self.outcome).record(took);
        Trace::vendor(status, took);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_end_has_its_word() {
        let status = |status| Outcome::WORDS[Outcome::of_status(status) as usize];
        assert_eq!([204, 301, 404, 429, 503, 101].map(status), ["2xx", "3xx", "4xx", "429", "5xx", "bad_answer"]);
        let failure = |failure: Failure| Outcome::WORDS[Outcome::of_failure(&failure) as usize];
        assert_eq!(failure(Failure::TimedOut(1)), "timeout");
        assert_eq!(failure(Failure::Unreachable(String::new())), "unreachable");
        assert_eq!(failure(Failure::Distrusted { field: "ca_certificate", reason: String::new() }), "unreachable");
        assert_eq!(failure(Failure::BadAnswer(String::new())), "bad_answer");
        assert_eq!(failure(Failure::Egress(String::new())), "refused");
        assert_eq!(failure(Failure::Upload(String::new())), "given_up");
    }

    #[test]
    fn a_connector_is_made_once() {
        let all = ByConnector::default();
        let (one, other): (Slug, Slug) = ("one".parse().unwrap(), "other".parse().unwrap());
        assert_eq!((*all.get(&one, || 1), *all.get(&one, || 2), *all.get(&other, || 3)), (1, 1, 3));
    }
}
