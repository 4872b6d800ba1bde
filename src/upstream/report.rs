//! What a list that a command reports by time asks for, and one page of it.

use bytes::Bytes;
use serde_json::{Map, Value};

use super::Company;
use crate::model::Warning;

/// What one page of a report asks for.
#[derive(Clone, Debug, Default)]
pub struct ReportAsk {
    /// `ReportPage::next` or `ReportPage::here` of an earlier page.
    pub next: Option<String>,
    /// Events wanted.
    pub limit: usize,
    /// Options of pushed filters.
    pub options: Vec<(String, String)>,
    /// The earliest second wanted.
    pub from: Option<i64>,
    /// The last second wanted.
    pub to: Option<i64>,
    /// The only company wanted.
    pub company: Option<String>,
}

/// Some events of one company, newest first; a second is never cut in two.
#[derive(Debug, Default)]
pub struct ReportPage {
    /// The company; `None` when there is none to be read.
    pub company: Option<Company>,
    /// A JSON array of events.
    pub body: Bytes,
    /// Finds this page again.
    pub here: Option<String>,
    /// Finds the next one; `None` at the end.
    pub next: Option<String>,
    /// Why the company could not be read.
    pub lost: Option<Warning>,
    /// What was learned about the account.
    pub facts: Map<String, Value>,
}
