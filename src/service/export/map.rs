//! The data map: a row for every repository of the store. A new one fails a test until it has its row, which says by which kind of
//! line its records are exported, or why they are not.

pub(super) const ACCOUNT: &str = "account";
pub(super) const SNAPSHOT: &str = "snapshot";
pub(super) const REQUEST: &str = "request";
pub(super) const ENTRY: &str = "audit_entry";
pub(super) const EVENT: &str = "event";

/// A kind of record that is kept.
#[derive(Debug)]
pub struct Kept {
    /// The repository, by its file in `store/repo`.
    pub repo: &'static str,
    /// What it holds.
    pub what: &'static str,
    /// For how long.
    pub life: &'static str,
    /// The kind of its lines in an export; none where it holds nothing of a customer that could be shown.
    pub kind: Option<&'static str>,
    /// Why it is not exported, or what of it is not.
    pub why: &'static str,
}

/// What is kept, where, how long, and what of it is exported.
pub const MAP: &[Kept] = &[
    Kept {
        repo: "accounts",
        what: "linked accounts: label, context, link fields, state; sealed secrets, access and refresh token",
        life: "until the account is deleted",
        kind: Some(ACCOUNT),
        why: "without credentials",
    },
    Kept {
        repo: "events",
        what: "what happened to accounts: label, connector, status",
        life: "30 days",
        kind: Some(EVENT),
        why: "of the customer's accounts and label",
    },
    Kept {
        repo: "data_keys",
        what: "the wrapped data key of each account, those before it, and how much each has sealed",
        life: "until the account is deleted",
        kind: None,
        why: "keys of credentials",
    },
    Kept {
        repo: "links",
        what: "what a link token is for, sealed: label, context, addresses",
        life: "until an hour after its end, a day at most before that",
        kind: None,
        why: "it may hold secrets; what comes of it is an account",
    },
    Kept {
        repo: "authorizations",
        what: "what a customer filled in before agreeing at a vendor, sealed",
        life: "10 minutes",
        kind: None,
        why: "it holds secrets; what comes of it is an account",
    },
    Kept {
        repo: "installs",
        what: "connectors of an environment: switches, overrides, sealed OAuth app",
        life: "until the environment is deleted",
        kind: None,
        why: "they are the operator's, of no customer",
    },
    Kept {
        repo: "queues",
        what: "ids of accounts that something is to be done for",
        life: "until it is done",
        kind: None,
        why: "what they name is exported",
    },
    Kept {
        repo: "snapshots",
        what: "what a vendor without paging said in one visit, sealed",
        life: "1 hour after its last use",
        kind: Some(SNAPSHOT),
        why: "that it is there, and since when; its records are the vendor's, read them by their lists",
    },
    Kept {
        repo: "log",
        what: "a line for each request, sealed: token name, label, account, route, statuses, durations",
        life: "14 days",
        kind: Some(REQUEST),
        why: "of the customer's accounts and label",
    },
    Kept {
        repo: "audit",
        what: "an entry for each action: token name, account, ids of ours, other ids and labels as keyed hashes",
        life: "for ever, or `ROLLCALL_AUDIT_DAYS`",
        kind: Some(ENTRY),
        why: "of the customer's accounts and label",
    },
    Kept {
        repo: "blobs",
        what: "where a long walk of a list goes on, sealed",
        life: "24 hours",
        kind: None,
        why: "opaque to us",
    },
    Kept {
        repo: "idempotency",
        what: "replies of writes, sealed to the token that asked; their keys as keyed hashes",
        life: "24 hours",
        kind: None,
        why: "they may show a new secret, and open only to the request they answer",
    },
    Kept {
        repo: "quotas",
        what: "what a vendor said of its rate limit",
        life: "until the limit's window ends",
        kind: None,
        why: "counts of calls, nothing of people",
    },
    Kept {
        repo: "buckets",
        what: "calls of each token and account, where the operator limits them",
        life: "the limit's time",
        kind: None,
        why: "counts of calls, nothing of people",
    },
    Kept {
        repo: "tokens",
        what: "API tokens: name, scopes, keyed hash",
        life: "until revoked",
        kind: None,
        why: "they are the operator's, of no customer",
    },
    Kept {
        repo: "installation",
        what: "environments, those that ended and of which something is left, sealed system keys, ids of root keys",
        life: "for ever",
        kind: None,
        why: "they are the operator's, of no customer",
    },
    Kept {
        repo: "index",
        what: "the ids of accounts and tokens of an environment",
        life: "as long as what they name",
        kind: None,
        why: "what they name is exported",
    },
];
