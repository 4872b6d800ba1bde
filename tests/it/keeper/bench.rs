//! What the tests of this module work with: an account at a Commander, and the upstream room over it.

use std::{collections::BTreeMap, fs, path::Path, sync::Arc, time::Duration};

use rollcall::{
    connector::Catalog,
    model::{AccountId, EnvironmentId, Resource, SystemClock, Warning},
    sandbox::{
        Sandbox,
        keeper_commander::{self, Control, Faults},
    },
    store::{Store, embedded::Embedded},
    upstream::{Access, Allow, Company, Failure, Guard, Pick, Upstream, Visit},
};
use serde_json::{Map, Value, json};

use crate::support::house::House;

/// An upstream room over an embedded store, allowed to reach loopback.
pub struct Bench {
    pub upstream: Arc<Upstream>,
    _folder: tempfile::TempDir,
}

/// What an account is linked with.
#[derive(Clone, Default)]
pub struct Link {
    pub base: String,
    pub api_key: String,
    pub encryption_key: Option<String>,
    pub company_id: Option<String>,
    /// The link method's time-out, where the test needs a short one.
    pub timeout: Option<Duration>,
}

impl Link {
    pub fn new(base: &str, api_key: &str) -> Self {
        Self { base: base.into(), api_key: api_key.into(), ..Self::default() }
    }

    pub fn company(mut self, id: &str) -> Self {
        self.company_id = Some(id.into());
        self
    }

    pub fn key(mut self, key: &str) -> Self {
        self.encryption_key = Some(key.into());
        self
    }

    pub fn timeout(mut self, seconds: u64) -> Self {
        self.timeout = Some(Duration::from_secs(seconds));
        self
    }

    /// The account's access, with these facts.
    pub fn access(&self, facts: Map<String, Value>) -> Arc<Access> {
        let catalog = catalog(self.timeout);
        let connector = catalog.get("keeper").unwrap().clone();
        let method = connector.method("service_mode").unwrap().clone();
        let mut given =
            BTreeMap::from([("service_url".to_owned(), self.base.clone()), ("api_key".to_owned(), self.api_key.clone())]);
        given.extend(self.encryption_key.clone().map(|key| ("encryption_key".to_owned(), key)));
        given.extend(self.company_id.clone().map(|id| ("company_id".to_owned(), id)));
        let resolved = method.resolve(&given, &|_| true).unwrap_or_else(|problems| panic!("{problems:#?}"));
        let access = Access::new(AccountId::generate(), EnvironmentId::generate(), connector, method, 1, resolved, facts);
        Arc::new(access.unwrap_or_else(|problem| panic!("{problem:?}")))
    }
}

/// The compiled-in connectors, with another time-out where one is wanted.
fn catalog(timeout: Option<Duration>) -> Catalog {
    let Some(timeout) = timeout else {
        return Catalog::load(None).unwrap_or_else(|problems| panic!("{problems:#?}"));
    };
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (Path::new(env!("CARGO_MANIFEST_DIR")).join("connectors/keeper"), folder.path().join("keeper"));
    fs::create_dir(&to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(|entry| entry.unwrap()).filter(|entry| entry.path().is_file()) {
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
    let head = to.join("connector.yaml");
    let text = fs::read_to_string(&head).unwrap();
    assert!(text.contains("timeout: 300s"));
    fs::write(&head, text.replace("timeout: 300s", &format!("timeout: {}s", timeout.as_secs()))).unwrap();
    let catalog = Catalog::load(Some(folder.path())).unwrap_or_else(|problems| panic!("{problems:#?}"));
    assert!(catalog.problems().is_empty(), "{:#?}", catalog.problems());
    catalog
}

impl Bench {
    /// One that may reach this address.
    pub fn new(base: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(Embedded::open(folder.path(), Arc::new(SystemClock)).unwrap());
        let guard =
            Arc::new(Guard::new(Allow::parse(base.trim_start_matches("http://")).unwrap_or_else(|error| panic!("{error}"))));
        let upstream = Arc::new(Upstream::new(guard, store));
        Self { upstream, _folder: folder }
    }

    /// An access whose facts the link test learned.
    pub async fn linked(&self, link: &Link) -> Arc<Access> {
        let tested = self.upstream.test(&link.access(Map::new())).await.unwrap_or_else(|failure| panic!("{failure:?}"));
        link.access(tested.facts)
    }

    pub async fn refusal(&self, link: &Link) -> String {
        match self.upstream.test(&link.access(Map::new())).await {
            Ok(_) => panic!("the credential was accepted"),
            Err(failure) => rollcall::error::Error::from(failure).to_string(),
        }
    }

    pub async fn warnings(&self, link: &Link) -> Vec<Warning> {
        self.upstream.test(&link.access(Map::new())).await.unwrap_or_else(|failure| panic!("{failure:?}")).warnings
    }

    pub async fn visit(&self, access: &Access, pick: Pick) -> Visit {
        self.upstream.visit(access, &pick).await.unwrap_or_else(|failure| panic!("{failure:?}"))
    }

    /// Every company in order, as a walk reads them.
    pub async fn walk(&self, access: &Access) -> Vec<Visit> {
        let mut visits = vec![self.visit(access, Pick::First).await];
        while let Some(Company { id, .. }) =
            visits.last().and_then(|last| if last.rest.is_empty() { None } else { last.company.clone() })
        {
            visits.push(self.visit(access, Pick::After(id)).await);
        }
        visits
    }
}

/// The raw records of a visit.
pub fn records(visit: &Visit, resource: Resource) -> Vec<Value> {
    serde_json::from_slice(&visit.records[&resource]).unwrap()
}

/// The records as callers see them.
pub fn mapped(access: &Access, visit: &Visit, resource: Resource, of: Resource) -> Vec<(Value, Vec<Warning>)> {
    let table = &access.method.resources[&resource].table;
    let company = serde_json::to_string(&visit.company).unwrap();
    let roots = rollcall::mapping::Roots { company: Some(&company), ..Default::default() };
    let raw: Vec<Box<serde_json::value::RawValue>> = serde_json::from_slice(&visit.records[&of]).unwrap();
    raw.iter()
        .map(|record| {
            let mut out = Vec::new();
            let done = table.apply(record.get().as_bytes(), roots, Default::default(), &mut out).unwrap();
            (serde_json::from_slice(&out).unwrap(), done.warnings)
        })
        .collect()
}

/// The mapped users by e-mail address.
pub fn users(access: &Access, visit: &Visit) -> BTreeMap<String, Value> {
    let users = mapped(access, visit, Resource::User, Resource::User);
    users.into_iter().map(|(user, _)| (user["username"].as_str().unwrap().to_owned(), user)).collect()
}

pub fn is_context_changed(failure: &Failure) -> bool {
    matches!(failure, Failure::ContextChanged(_))
}

/// Starts the stand-in; it ends with the test's runtime.
#[allow(clippy::disallowed_methods)]
pub fn stand_in(faults: Faults) -> (Sandbox, Arc<Control>) {
    let (sandbox, control, server) = keeper_commander::start(faults).unwrap();
    tokio::spawn(server);
    (sandbox, control)
}

/// An account at the stand-in, limited to a company where one is named.
pub async fn sandboxed(company: Option<&str>, change: impl FnOnce(&mut Faults)) -> (House, Sandbox, Arc<Control>) {
    let mut faults = Faults { users: 2, queue: false, events: 0, ..Faults::default() };
    change(&mut faults);
    let (sandbox, control) = stand_in(faults);
    let more = company.map_or_else(|| json!({}), |company| json!({"company_id": company}));
    (House::keeper(&sandbox.base, &sandbox.token, more).await, sandbox, control)
}

/// A bench and a link at the stand-in.
pub fn at(sandbox: &Sandbox) -> (Bench, Link) {
    (Bench::new(&sandbox.base), Link::new(&sandbox.base, &sandbox.token))
}
