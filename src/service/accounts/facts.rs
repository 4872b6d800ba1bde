//! What calls teach about an account beyond its state: facts that linking learned first and that change later.

use serde_json::Value;

use super::Accounts;
use crate::service::Linked;

impl Accounts {
    /// Keeps a fact with the account if it is news; best effort, and never over a newer credential.
    pub(in crate::service) async fn note_fact(&self, linked: &Linked, name: &str, value: &Value) {
        if linked.account.facts.get(name) != Some(value) {
            self.update(linked, |account| drop(account.facts.insert(name.to_owned(), value.clone()))).await;
        }
    }
}
