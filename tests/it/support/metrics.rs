//! `/metrics` as the reference parser of Prometheus reads it.

use std::{
    collections::BTreeMap,
    io::Write,
    process::{Command, Stdio},
};

use serde::Deserialize;

use super::{gateway::Gateway, peers};

/// One family of an exposition.
#[derive(Debug, Deserialize)]
pub struct Family {
    /// Without `_total`.
    pub name: String,
    /// `counter`, `gauge` or `histogram`.
    #[serde(rename = "type")]
    pub kind: String,
    /// For people.
    pub help: String,
    /// Name, labels and value of each sample.
    pub samples: Vec<(String, BTreeMap<String, String>, f64)>,
}

/// An exposition.
pub struct Scrape {
    /// As it came.
    pub text: String,
    /// As it was read.
    pub families: Vec<Family>,
}

impl Scrape {
    /// What the gateway shows now; a text that the parser does not take fails the test.
    pub async fn of(gateway: &Gateway) -> Scrape {
        let answer = gateway.call_as(None, "GET", "/metrics", None).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let text = answer.text();
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers/metrics.py");
        let mut parser = Command::new(peers::python()).arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        parser.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        let read = parser.wait_with_output().unwrap();
        assert!(read.status.success(), "not an exposition:\n{text}");
        Scrape { families: serde_json::from_slice(&read.stdout).unwrap(), text }
    }

    /// The sum of the samples of this name that have these labels.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let all = self.families.iter().flat_map(|family| &family.samples);
        let has =
            |found: &BTreeMap<String, String>| labels.iter().all(|(name, value)| found.get(*name).is_some_and(|f| f == value));
        all.filter(|(sample, found, _)| sample == name && has(found)).map(|(_, _, value)| value).sum()
    }

    /// By how much that sum has grown since another scrape.
    pub fn grown(&self, since: &Scrape, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.sum(name, labels) - since.sum(name, labels)
    }
}
