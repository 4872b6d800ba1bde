//! What calls teach about an account beyond its state: facts that linking learned first and that change later.

use serde_json::Value;

use super::{Linked, accounts::Accounts};
use crate::store::StoreError;

/// How often a note begins again because the account was changed meanwhile.
const TRIES: usize = 3;

impl Accounts {
    /// Keeps a fact with the account if it is news; best effort, and never over a newer credential.
    pub(super) async fn note_fact(&self, linked: &Linked, name: &str, value: &Value) {
        if linked.account.facts.get(name) == Some(value) {
            return;
        }
        let id = linked.account.id;
        for _ in 0..TRIES {
            let Ok(Some((mut account, version))) = self.records.get(id).await else { return };
            if account.generation != linked.account.generation || account.facts.get(name) == Some(value) {
                break;
            }
            account.facts.insert(name.to_owned(), value.clone());
            account.updated_at = self.clock.now();
            match self.records.update(&account, version).await {
                Ok(_) => break,
                Err(StoreError::Conflict(_)) => {}
                Err(error) => {
                    tracing::warn!(account = %id, %error, "could not note what was learned about the account");
                    break;
                }
            }
        }
        self.opened.forget(linked.account.environment, id).await;
    }
}
