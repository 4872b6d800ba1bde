//! What a change of an account's record means for others: the one place that makes events of states.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::model::{Account, AccountStatus, Event, EventKind, environment_integration_id, integration_id};

/// The events of a change, in the order they are told: from the record before, with its version, to the one after.
/// Whoever stores the change stores them with it, under that version, so that each is told once however many reach it at once.
pub(super) fn transition(before: Option<(&Account, u64)>, after: Option<&Account>, now: Timestamp) -> Vec<Event> {
    let Some(account) = after.or(before.map(|(before, _)| before)) else { return Vec::new() };
    let version = before.map_or(0, |(_, version)| version);
    let kinds = kinds(before.map(|(before, _)| before), after);
    kinds.into_iter().map(|kind| Event::of(account, version, kind, now, payload(account, kind))).collect()
}

fn kinds(before: Option<&Account>, after: Option<&Account>) -> Vec<EventKind> {
    match (before, after) {
        (None, None) => Vec::new(),
        (None, Some(after)) => [EventKind::Created].into_iter().chain(reached(after.status)).collect(),
        (Some(_), None) => vec![EventKind::Deleted],
        (Some(before), Some(after)) => changed(before, after),
    }
}

fn changed(before: &Account, after: &Account) -> Vec<EventKind> {
    let is_relinked = before.generation != after.generation;
    let mut kinds = Vec::new();
    if is_relinked || is_relabelled(before, after) {
        kinds.push(EventKind::Updated);
    }
    match (before.status, after.status) {
        (_, status) if is_relinked => kinds.extend(reached(status)),
        (was, is) if was == is => {}
        (AccountStatus::NeedsReauth, AccountStatus::Active) => kinds.push(EventKind::Reactivated),
        (_, status) => kinds.extend(reached(status)),
    }
    match (before.is_enabled, after.is_enabled) {
        (true, false) => kinds.push(EventKind::Disabled),
        (false, true) => kinds.push(EventKind::Enabled),
        _ => {}
    }
    if after.expiry_notice.is_some() && after.expiry_notice != before.expiry_notice {
        kinds.push(EventKind::Expiring);
    }
    kinds
}

/// Whether its owner changed something that is neither credential nor switch.
fn is_relabelled(before: &Account, after: &Account) -> bool {
    before.tenant_id != after.tenant_id || before.context != after.context || before.expires_at != after.expires_at
}

fn reached(status: AccountStatus) -> Option<EventKind> {
    match status {
        AccountStatus::Connecting => None,
        AccountStatus::Active => Some(EventKind::Active),
        AccountStatus::PostInstallError => Some(EventKind::PostInstallError),
        AccountStatus::ValidationError => Some(EventKind::ValidationError),
        AccountStatus::NeedsReauth => Some(EventKind::AuthenticationError),
    }
}

/// The account as others may know it. The caller's context stays out: it may hold what is nobody else's.
fn payload(account: &Account, kind: EventKind) -> Map<String, Value> {
    let mut shown = Map::from_iter([("id".to_owned(), json!(account.id))]);
    if kind == EventKind::Deleted {
        return shown;
    }
    let slug = &account.connector;
    let more = [
        ("tenant_id", json!(account.tenant_id)),
        ("environment_id", json!(account.environment)),
        ("environment_integration_id", json!(environment_integration_id(account.environment, slug))),
        ("integration", json!({"id": integration_id(slug), "name": slug})),
        ("authentication_method", json!(account.method)),
        ("status", json!(account.status)),
        ("last_error", json!(account.last_error)),
        ("is_sandbox", json!(account.is_sandbox)),
        ("is_enabled", json!(account.is_enabled)),
        ("expires_at", json!(account.expires_at)),
        ("created_at", json!(account.created_at)),
        ("updated_at", json!(account.updated_at)),
    ];
    shown.extend(more.map(|(name, value)| (name.to_owned(), value)));
    if let (EventKind::Expiring, Some(notice)) = (kind, account.expiry_notice) {
        shown.insert("days".to_owned(), json!(notice.days));
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{EnvironmentId, ExpiryNotice};

    type Change = fn(&mut Account);

    fn now() -> Timestamp {
        Timestamp::from_second(1_800_000_000).unwrap()
    }

    fn account() -> Account {
        Account::draft(EnvironmentId::generate(), "scim".parse().unwrap(), "bearer".to_owned(), now())
    }

    fn of(status: AccountStatus) -> Account {
        Account { status, ..account() }
    }

    fn words(events: &[Event]) -> Vec<&str> {
        events.iter().map(|event| event.kind.as_str().trim_start_matches("integrated_account:")).collect()
    }

    #[test]
    fn each_transition_has_its_events() {
        use AccountStatus::{Active, Connecting, NeedsReauth, PostInstallError, ValidationError};
        let table: [(AccountStatus, Change, &[&str]); 19] = [
            (Active, |_| {}, &[]),
            (Active, |a| a.status = NeedsReauth, &["authentication_error"]),
            (NeedsReauth, |a| a.last_error = Some("other words".to_owned()), &[]),
            (NeedsReauth, |a| a.status = Active, &["reactivated"]),
            (NeedsReauth, |a| (a.status, a.generation) = (Active, 2), &["updated", "active"]),
            (Active, |a| a.generation = 2, &["updated", "active"]),
            (Active, |a| (a.status, a.generation) = (NeedsReauth, 2), &["updated", "authentication_error"]),
            (Connecting, |a| a.status = Active, &["active"]),
            (Connecting, |a| a.status = PostInstallError, &["post_install_error"]),
            (Connecting, |a| a.status = ValidationError, &["validation_error"]),
            (ValidationError, |a| a.status = Active, &["active"]),
            (Active, |a| a.tenant_id = "other".to_owned(), &["updated"]),
            (Active, |a| a.expires_at = Some(now()), &["updated"]),
            (Active, |a| a.is_enabled = false, &["disabled"]),
            (NeedsReauth, |a| (a.is_enabled, a.status) = (false, Active), &["reactivated", "disabled"]),
            (Active, |a| a.expiry_notice = Some(ExpiryNotice { expires_at: now(), days: 3 }), &["expiring"]),
            (Active, |a| a.checked_at = Some(now()), &[]),
            (Active, |a| (a.data_version, a.updated_at) = (7, Timestamp::UNIX_EPOCH), &[]),
            (Active, |a| drop(a.facts.insert("page".to_owned(), "index".into())), &[]),
        ];
        for (at, (status, change, expected)) in table.into_iter().enumerate() {
            let before = of(status);
            let mut after = before.clone();
            change(&mut after);
            assert_eq!(words(&transition(Some((&before, 5)), Some(&after), now())), expected, "line {at}");
        }
    }

    #[test]
    fn accounts_come_and_go() {
        let one = account();
        assert_eq!(words(&transition(None, Some(&one), now())), ["created", "active"]);
        assert_eq!(words(&transition(None, Some(&of(AccountStatus::Connecting)), now())), ["created"]);
        let gone = transition(Some((&one, 5)), None, now());
        assert_eq!((words(&gone), &gone[0].data), (vec!["deleted"], &Map::from_iter([("id".to_owned(), json!(one.id))])));
        let off = Account { is_enabled: false, ..one.clone() };
        assert_eq!(words(&transition(Some((&off, 5)), Some(&one), now())), ["enabled"]);
        assert!(transition(None, None, now()).is_empty());
    }

    #[test]
    fn the_id_of_an_event_is_that_of_one_transition() {
        let before = account();
        let after = Account { status: AccountStatus::NeedsReauth, ..before.clone() };
        let id = |version, before: &Account, after: &Account| transition(Some((before, version)), Some(after), now())[0].id;
        assert_eq!(id(5, &before, &after), id(5, &before, &after));
        assert_ne!(id(5, &before, &after), id(6, &before, &after), "the next time it is another");
        assert_ne!(id(5, &before, &after), id(5, &after, &before));
        let other = Account { id: crate::model::AccountId::generate(), ..after.clone() };
        assert_ne!(id(5, &before, &after), id(5, &before, &other));
    }

    #[test]
    fn what_is_told_holds_neither_context_nor_credential() {
        let mut one = account();
        one.context.insert("note".to_owned(), "a-canary".into());
        one.fields.insert("base_url".to_owned(), "a-canary".to_owned());
        one.sealed.insert("token".to_owned(), "a-canary".to_owned());
        one.facts.insert("fact".to_owned(), "a-canary".into());
        let told = serde_json::to_string(&transition(None, Some(&one), now())).unwrap();
        assert!(!told.contains("a-canary"), "{told}");
    }
}
