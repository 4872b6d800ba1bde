//! Everything that is kept of one customer, but for credentials, as lines: for whoever asks what we know of them.

mod map;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serde_json::{Value, json, value::RawValue};
use uuid::Uuid;

use map::{ACCOUNT, ENTRY, EVENT, REQUEST, SNAPSHOT};
pub use map::{Kept, MAP};

use super::{
    Accounts, Audit, Events, Filter, FilterOp, ListAccounts, ListEvents, RequestLog,
    request_log::{self, LogLine, Place, Wanted},
};
use crate::{
    error::Result,
    model::{Account, AccountId, Clock, EnvironmentId, Later},
    store::repo::{self, EventPlace},
};

/// What stands in records only sealed.
const SEALED: &str = "sealed";
/// Records read for one piece.
const PAGE: usize = 200;
/// Lines of the log that are looked through at once.
const SPAN: Duration = Duration::from_secs(24 * 3600);

/// Exports of customers.
pub struct Export {
    accounts: Arc<Accounts>,
    snapshots: repo::Snapshots,
    log: Arc<RequestLog>,
    audit: Arc<Audit>,
    events: Arc<Events>,
    clock: Arc<dyn Clock>,
}

/// An export on its way, in pieces.
pub struct Walk {
    environment: EnvironmentId,
    tenant: String,
    step: Step,
    accounts: Vec<AccountId>,
    counts: BTreeMap<&'static str, u64>,
    is_complete: bool,
}

/// What the next piece is of. What is kept besides has its place here, between accounts and the end.
enum Step {
    Begin,
    Accounts(Option<AccountId>),
    Snapshots(usize),
    Events(Option<EventPlace>),
    Requests(Search),
    Entries(u64),
    End,
}

/// Where in the log of requests an export is: lines are looked for a day at a time, by account, then by label.
#[derive(Clone, Default)]
struct Search {
    by_label: bool,
    day: u32,
    after: Option<Place>,
}

/// One line.
#[derive(Serialize)]
struct Line<'l, T> {
    kind: &'l str,
    data: T,
}

impl Export {
    /// Over what is kept.
    pub fn new(
        accounts: Arc<Accounts>,
        snapshots: repo::Snapshots,
        log: Arc<RequestLog>,
        (audit, events): (Arc<Audit>, Arc<Events>),
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { accounts, snapshots, log, audit, events, clock }
    }

    /// Begins with the customer of this label.
    pub fn walk(&self, environment: EnvironmentId, tenant: &str) -> Walk {
        let counts = MAP.iter().filter_map(|kept| Some((kept.kind?, 0))).collect();
        let (tenant, accounts) = (tenant.to_owned(), Vec::new());
        Walk { environment, tenant, step: Step::Begin, accounts, counts, is_complete: true }
    }

    /// The next piece, which may be empty; none at the end.
    pub async fn next(&self, walk: &mut Walk) -> Result<Option<Bytes>> {
        let mut lines = Vec::new();
        walk.step = match std::mem::replace(&mut walk.step, Step::End) {
            Step::Begin => {
                let data = json!({"tenant_id": walk.tenant, "environment_id": walk.environment, "created_at": self.clock.now(),
                    "kinds": walk.counts.keys().collect::<Vec<_>>()});
                put(&mut lines, "export", &data);
                Step::Accounts(None)
            }
            Step::Accounts(after) => self.put_accounts(walk, after, &mut lines).await?,
            Step::Snapshots(at) => self.put_snapshots(walk, at, &mut lines).await?,
            Step::Events(after) => self.put_events(walk, after, &mut lines).await?,
            Step::Requests(search) => self.put_requests(walk, search, &mut lines).await?,
            Step::Entries(after) => self.put_entries(walk, after, &mut lines).await?,
            Step::End => return Ok(None),
        };
        Ok(Some(lines.into()))
    }

    async fn put_accounts(&self, walk: &mut Walk, after: Option<AccountId>, lines: &mut Vec<u8>) -> Result<Step> {
        let tenant_id = Some(walk.tenant.clone());
        let wanted = ListAccounts { tenant_id, limit: PAGE, after, ..ListAccounts::default() };
        let (accounts, next) = self.accounts.readable(walk.environment, wanted).await?;
        walk.is_complete &= accounts.unreadable == 0;
        for account in accounts.records {
            walk.accounts.push(account.id);
            let has_access_token = self.accounts.records.token(account.id).await?.is_some();
            walk.put(lines, ACCOUNT, &of_account(&account, has_access_token)?);
        }
        Ok(next.map_or(Step::Snapshots(0), |next| Step::Accounts(Some(next))))
    }

    async fn put_snapshots(&self, walk: &mut Walk, at: usize, lines: &mut Vec<u8>) -> Result<Step> {
        let Some(account) = walk.accounts.get(at).copied() else { return Ok(Step::Events(None)) };
        let mut after = None::<String>;
        loop {
            let names = self.snapshots.names(account, after.as_deref(), PAGE).await?;
            for name in &names {
                let data = json!({"id": name, "integrated_account_id": account, "created_at": made_at(name)});
                walk.put(lines, SNAPSHOT, &data);
            }
            after = names.last().cloned();
            if names.len() < PAGE {
                return Ok(Step::Snapshots(at + 1));
            }
        }
    }

    /// Those told of its accounts, under whatever label, and those told under its label of accounts that are gone.
    async fn put_events(&self, walk: &mut Walk, after: Option<EventPlace>, lines: &mut Vec<u8>) -> Result<Step> {
        let (events, next) = self.events.readable(walk.environment, &ListEvents::default(), PAGE, after).await?;
        walk.is_complete &= events.unreadable == 0;
        for event in events.records {
            if event.tenant_id == walk.tenant || walk.accounts.contains(&event.account) {
                walk.put(lines, EVENT, &event);
            }
        }
        Ok(next.map_or_else(|| Step::Requests(Search::default()), |next| Step::Events(Some(next))))
    }

    async fn put_requests(&self, walk: &mut Walk, search: Search, lines: &mut Vec<u8>) -> Result<Step> {
        let days = u32::try_from(request_log::LIFE.as_secs() / SPAN.as_secs()).unwrap_or(u32::MAX);
        if search.day > days || (!search.by_label && walk.accounts.is_empty()) {
            let next = Step::Requests(Search { by_label: true, ..Search::default() });
            return Ok(if search.by_label { Step::Entries(0) } else { next });
        }
        let wanted = self.lines_of(walk, &search)?;
        let page = self.log.list(walk.environment, &wanted, PAGE, search.after).await?;
        walk.is_complete &= page.lost == 0;
        let is_new = |line: &&LogLine| {
            let account = line.integrated_account_id.as_ref().and_then(|id| id.parse().ok());
            !(search.by_label && account.is_some_and(|account| walk.accounts.contains(&account)))
        };
        let found: Vec<_> = page.lines.iter().filter(is_new).collect();
        for line in found {
            walk.put(lines, REQUEST, line);
        }
        let day = if page.next.is_some() { search.day } else { search.day + 1 };
        Ok(Step::Requests(Search { day, after: page.next, ..search }))
    }

    /// The lines of one day of these accounts, or of this label.
    fn lines_of(&self, walk: &Walk, search: &Search) -> Result<Wanted> {
        let filter = |field: &str, op, values| Filter { field: field.to_owned(), op, values };
        let back = |days: u32| {
            let ago = SignedDuration::try_from(SPAN * days).unwrap_or(SignedDuration::MAX);
            self.clock.now().checked_sub(ago).unwrap_or(Timestamp::MIN).to_string()
        };
        let whose = match search.by_label {
            true => filter("tenant_id", FilterOp::Eq, vec![walk.tenant.clone()]),
            false => filter("integrated_account_id", FilterOp::In, walk.accounts.iter().map(ToString::to_string).collect()),
        };
        let mut filters = vec![whose, filter("created_at", FilterOp::Gte, vec![back(search.day + 1)])];
        if search.day > 0 {
            filters.push(filter("created_at", FilterOp::Lt, vec![back(search.day)]));
        }
        Wanted::new(filters)
    }

    async fn put_entries(&self, walk: &mut Walk, after: u64, lines: &mut Vec<u8>) -> Result<Step> {
        let page = self.audit.about(walk.environment, (&walk.accounts, &walk.tenant), after).await?;
        walk.is_complete &= page.lost == 0;
        for entry in page.entries {
            walk.put(lines, ENTRY, &entry);
        }
        Ok(page.next.map_or(Step::End, Step::Entries))
    }
}

impl Walk {
    fn put<T: Serialize>(&mut self, lines: &mut Vec<u8>, kind: &'static str, data: &T) {
        *self.counts.entry(kind).or_default() += 1;
        put(lines, kind, data);
    }

    /// The last line: how many there were of each kind, and whether that is everything.
    pub fn end(&self, problem: Option<&RawValue>) -> Bytes {
        let complete = self.is_complete && problem.is_none();
        let mut lines = Vec::new();
        put(&mut lines, "end", &json!({"complete": complete, "counts": self.counts, "problem": problem}));
        lines.into()
    }
}

fn put<T: Serialize>(lines: &mut Vec<u8>, kind: &str, data: &T) {
    let begin = lines.len();
    match serde_json::to_writer(&mut *lines, &Line { kind, data }) {
        Ok(()) => lines.push(b'\n'),
        Err(_) => lines.truncate(begin),
    }
}

/// Everything of the record that is no credential; of those, which there are.
fn of_account(account: &Account, has_access_token: bool) -> Result<Value> {
    // What a later release wrote into it may be sealed.
    let known = Account { later: Later::default(), ..account.clone() };
    let mut record = serde_json::to_value(known).map_err(crate::error::Error::internal)?;
    if let Value::Object(members) = &mut record {
        members.remove(SEALED);
        members.insert("secret_fields".to_owned(), json!(account.sealed.keys().collect::<Vec<_>>()));
        members.insert("has_access_token".to_owned(), json!(has_access_token));
    }
    Ok(record)
}

/// Snapshots are named by ids that tell their time.
fn made_at(name: &str) -> Option<Timestamp> {
    let (seconds, nanos) = Uuid::try_parse(name).ok()?.get_timestamp()?.to_unix();
    Timestamp::new(i64::try_from(seconds).ok()?, i32::try_from(nanos).ok()?).ok()
}
