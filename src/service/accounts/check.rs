//! Looking whether a credential works, and what it can see: asked for by its owner, by doubt, or by the daily look.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use futures_util::{
    FutureExt,
    future::{BoxFuture, Shared, join_all},
};
use jiff::{SignedDuration, Timestamp};
use moka::future::Cache;
use serde::Serialize;
use serde_json::{Map, Value};

use super::{
    Accounts, Linked, find_method,
    grant::{Granted, Tokens},
    open::reauth,
    split_context,
};
use crate::{
    connector::{ListSource, ResourceDef},
    error::{Code, Error, Result},
    model::{Account, AccountId, AccountStatus, Clock, EnvironmentId, Resource, Tasks, Warning},
    service::{NewAccount, cut_short},
    upstream::{Access, Failure, ListAsk, Tested, Upstream, renewal::Renewal},
};

/// What one look found is what everybody gets for this long.
const SHARED_FOR: SignedDuration = SignedDuration::from_secs(3);
/// What is counted, where the vendor lists it by a plain request.
const COUNTED: [Resource; 3] = [Resource::User, Resource::Group, Resource::Organization];
/// Records asked for to count them.
const COUNTED_TO: usize = 100;
/// How long counting may take.
const COUNT_TIME: Duration = Duration::from_secs(10);

/// A look is known at most this long, however it goes.
const KNOWN: Duration = Duration::from_secs(600);

/// An account, and the generation of its credential.
type Looked = (AccountId, u64);

/// A look for everybody who waits for it.
#[derive(Clone)]
struct Look<T> {
    outcome: Shared<BoxFuture<'static, Result<T>>>,
    ended: Arc<OnceLock<Timestamp>>,
}

/// Notes when a look ended, however it did and whether anybody still waits for it.
struct Ends {
    at: Arc<OnceLock<Timestamp>>,
    clock: Arc<dyn Clock>,
}

impl Drop for Ends {
    fn drop(&mut self) {
        let _ = self.at.set(self.clock.now());
    }
}

/// Looks under way, or ended a moment ago.
struct Looks<T>(Cache<Looked, Look<T>>);

impl<T: Clone + Send + Sync + 'static> Looks<T> {
    fn new() -> Self {
        Self(Cache::builder().max_capacity(100_000).time_to_live(KNOWN).build())
    }

    /// What the look finds that is under way, or ended a moment ago; another one is begun with this work, and ends although
    /// whoever wanted it leaves.
    async fn share(
        &self,
        looked: Looked,
        (clock, tasks): (&Arc<dyn Clock>, &Tasks),
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        let now = clock.now();
        let is_over = |look: &Look<T>| look.ended.get().is_some_and(|ended| now.duration_since(*ended).abs() > SHARED_FOR);
        let begin = async {
            let ended = Arc::new(OnceLock::new());
            let ends = Ends { at: Arc::clone(&ended), clock: Arc::clone(clock) };
            let work = async move {
                let _ends = ends;
                work.await
            };
            Look { outcome: to_its_end(tasks, work).shared(), ended }
        };
        let look = self.0.entry(looked).or_insert_with_if(begin, is_over).await.into_value();
        look.outcome.await
    }
}

/// What this node knows of looks: whether credentials work, and what they can see.
pub(super) struct Checks {
    tested: Looks<(Account, Tested)>,
    seen: Looks<Seen>,
}

impl Default for Checks {
    fn default() -> Self {
        Self { tested: Looks::new(), seen: Looks::new() }
    }
}

/// What a credential can see.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct Seen {
    /// What was learned about the vendor: paging style, kind of enterprise …
    pub facts: Map<String, Value>,
    /// How many records there are on the first page of what can be counted at little cost.
    pub counts: Vec<SeenCount>,
    /// What whoever links should know.
    pub warnings: Vec<Warning>,
}

/// How many records of a resource a credential sees.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct SeenCount {
    /// The resource.
    pub resource: &'static str,
    /// Records on the first page.
    pub count: usize,
    /// There are more pages.
    pub at_least: bool,
}

impl Accounts {
    /// Tries a credential that nobody links; nothing is stored.
    pub async fn try_out(&self, environment: EnvironmentId, new: NewAccount) -> Result<Seen> {
        let connector = self.connector(environment, &new.integration)?;
        self.installs.connector_in_use(environment, &connector.slug).await?;
        let method = find_method(&connector, &new.authentication_method)?;
        let mut context = new.context;
        let tokens = Tokens::take(&method, &mut context)?;
        let grant = tokens.map(|tokens| tokens.for_trial(self.clock.now())).transpose()?.map(Granted::Tokens);
        let (fields, _) = split_context(&method, context)?;
        let draft = Account::draft(environment, connector.slug.clone(), method.name.clone(), self.clock.now());
        let verified = Box::pin(self.verify(draft, connector, method, &fields, grant)).await?;
        let tested = Tested { facts: verified.account.facts, warnings: verified.warnings };
        Ok(self.see(&verified.access, tested).await)
    }

    /// Tries the credential of an account, whatever its status, and notes what that means for it. Callers within seconds share
    /// one look.
    pub async fn test(self: &Arc<Self>, environment: EnvironmentId, id: &str) -> Result<Seen> {
        let linked = self.open_enabled(environment, id).await?;
        let (looked, accounts) = (looked(&linked), Arc::clone(self));
        let work = async move {
            accounts.opened.renewals.forget_refusal(&linked.access).await;
            let (_, tested) = accounts.check(Arc::clone(&linked)).await?;
            Ok(accounts.see(&linked.access, tested).await)
        };
        self.opened.checks.seen.share(looked, (&self.clock, &self.opened.tasks), work).await
    }

    /// Looks at the other side now; gives the account as it is then.
    pub async fn refresh(self: &Arc<Self>, environment: EnvironmentId, id: &str) -> Result<Account> {
        let linked = self.open_enabled(environment, id).await?;
        Ok(self.check(linked).await?.0)
    }

    /// The account as it is once its vendor was asked; what the vendor said is in its status. One whose calls are stopped is not
    /// asked about.
    pub async fn ask_about(self: &Arc<Self>, environment: EnvironmentId, id: &str) -> Result<Account> {
        match self.refresh(environment, id).await {
            Err(error) if error.code() != Code::AccountDisabled => self.get(environment, id).await,
            answer => answer,
        }
    }

    /// One look for all who want one at the same time.
    pub(in crate::service) async fn check(self: &Arc<Self>, linked: Arc<Linked>) -> Result<(Account, Tested)> {
        let (looked, accounts) = (looked(&linked), Arc::clone(self));
        let work = async move { accounts.check_now(linked).await };
        self.opened.checks.tested.share(looked, (&self.clock, &self.opened.tasks), work).await
    }

    /// A look of one's own, whatever others saw a moment ago.
    pub(super) async fn check_anew(self: &Arc<Self>, linked: Arc<Linked>) -> Result<(Account, Tested)> {
        let accounts = Arc::clone(self);
        to_its_end(&self.opened.tasks, async move { accounts.check_now(linked).await }).await
    }

    async fn check_now(self: Arc<Self>, linked: Arc<Linked>) -> Result<(Account, Tested)> {
        // What is left of its token may work for a while; nothing would follow it.
        if linked.access.renewal.as_ref().is_some_and(Renewal::is_ended) {
            return Err(reauth(&linked.account));
        }
        // Where it was not, the test gets a new token by itself, and one refused says enough.
        let was_in_vain = self.opened.renewals.was_in_vain(&linked.access);
        let mut tested = self.ask(&linked).await;
        let is_refused = |tested: &std::result::Result<Tested, Failure>| {
            tested.as_ref().is_err_and(|failure| failure.code() == Code::ReauthRequired)
        };
        if was_in_vain && is_refused(&tested) {
            self.opened.renewals.give_another_chance(&linked.access).await;
            tested = self.ask(&linked).await;
        }
        match tested {
            Ok(tested) => match self.note_good(&linked, &tested).await {
                // Its grant ended while the vendor was asked.
                Some(now) if now.status == AccountStatus::NeedsReauth => Err(reauth(&now)),
                now => Ok((now.unwrap_or_else(|| linked.account.clone()), tested)),
            },
            Err(failure) => {
                let was_active = linked.account.status == AccountStatus::Active;
                let (is_refused, error) = (failure.code() == Code::ReauthRequired, Error::from(failure));
                if is_refused && was_active {
                    self.mark_refused(&linked, &error).await;
                }
                Err(error)
            }
        }
    }

    /// The vendor accepts the credential: an account that it had refused comes back, and what was learned is kept.
    async fn note_good(&self, linked: &Linked, tested: &Tested) -> Option<Account> {
        let (now, facts) = (self.clock.now(), &tested.facts);
        let note = |account: &mut Account| {
            if account.status == AccountStatus::NeedsReauth {
                account.status = AccountStatus::Active;
                account.last_error = None;
            }
            account.facts.extend(facts.clone());
            account.checked_at = Some(now);
        };
        self.update(linked, note).await
    }

    async fn ask(self: &Arc<Self>, linked: &Arc<Linked>) -> std::result::Result<Tested, Failure> {
        let ready = self.token_for(linked).await?;
        self.upstream.test(&ready.access).await
    }

    /// What was learned, and how much of what can be counted there is. Counting fails nothing.
    async fn see(&self, access: &Arc<Access>, tested: Tested) -> Seen {
        let Tested { facts, mut warnings } = tested;
        let method = &access.method;
        let counted = COUNTED.into_iter().filter(|resource| method.resources.get(resource).is_some_and(is_countable));
        let counting = counted.map(|resource| count(&self.upstream, access, resource));
        let counting = join_all(counting);
        let mut counts = Vec::new();
        for counted in tokio::time::timeout(COUNT_TIME, counting).await.unwrap_or_default() {
            match counted {
                Ok(count) => counts.push(count),
                Err(warning) => warnings.push(warning),
            }
        }
        Seen { facts, counts, warnings }
    }
}

/// A look ends although whoever wanted it leaves, because what it finds is noted.
fn to_its_end<T: Send + 'static>(
    tasks: &Tasks,
    work: impl Future<Output = Result<T>> + Send + 'static,
) -> BoxFuture<'static, Result<T>> {
    let (tasks, work) = (tasks.clone(), work.boxed());
    async move { tasks.finish(work).await.unwrap_or_else(|| Err(cut_short())) }.boxed()
}

fn looked(linked: &Linked) -> Looked {
    (linked.account.id, linked.account.generation)
}

/// Whether one plain request shows the first records.
fn is_countable(def: &ResourceDef) -> bool {
    let by_request = def.list.as_ref().is_some_and(|list| matches!(list.source, ListSource::Request(_)));
    def.none.is_none() && def.per.is_none() && by_request
}

async fn count(upstream: &Upstream, access: &Arc<Access>, resource: Resource) -> std::result::Result<SeenCount, Warning> {
    let name = resource.plural();
    let cannot = |why: String| Warning {
        code: "cannot_list".to_owned(),
        message: format!("The credential works, but {name} could not be listed: {why}."),
        field: Some(name.to_owned()),
    };
    let def = access.method.resources.get(&resource).ok_or_else(|| cannot("the connector has none".to_owned()))?;
    let ask = ListAsk { limit: COUNTED_TO, ..ListAsk::default() };
    match upstream.list(access, def, &ask).await {
        Ok(page) => Ok(SeenCount { resource: name, count: page.records.ranges.len(), at_least: page.next.is_some() }),
        Err(failure) => Err(cannot(failure.to_string())),
    }
}
