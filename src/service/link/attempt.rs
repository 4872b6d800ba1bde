//! One try to link by a link token. However many there are, one account comes of it: its id is chosen before the first try, a
//! try runs under a lock with a fence, and its end is a compare-and-set.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{Link, LinkState, Links, Session, invalid, terms::Bound};
use crate::{
    connector::{Connector, FieldProblem, LinkMethod},
    error::{Code, Error, Result},
    model::{Account, AccountId, LinkId, Slug, Warning},
    service::{
        IfThere, Leave, NewAccount,
        accounts::field_text,
        audit::Act,
        authorize::{AuthorizeAsk, Begun, CameBack},
        cut_short,
        lease::{LEASE, keep_holding},
    },
    store::{Hold, StoreError},
};

/// Who links, in the audit log.
const LINKED_BY: &str = "a customer's link";

/// What the customer filled in. May hold secrets, therefore no `Debug`.
pub struct Filled {
    /// The connector.
    pub integration: String,
    /// The way to link.
    pub method: String,
    /// The fields, as they were typed.
    pub fields: BTreeMap<String, String>,
    /// The vendor's pages are shown in a window of their own, beside the link's page.
    pub apart: bool,
}

/// How a try ended, when nothing failed.
pub enum Attempt {
    /// The account is linked, and the link used up.
    Linked(Box<Account>, Vec<Warning>),
    /// Fields are not as they must be; nothing was sent.
    Fields(Vec<FieldProblem>),
    /// The rest happens on the vendor's own pages.
    Elsewhere(Begun),
}

/// A browser that came back from a vendor. May hold secrets, therefore no `Debug`.
pub struct Returned {
    /// The link it went with.
    pub link: Link,
    /// The window is the vendor's own; the link's page stands in another.
    pub apart: bool,
    /// The way to link.
    pub method: String,
    /// What was filled in before, secrets too.
    pub filled: BTreeMap<String, String>,
    /// The account, or why there is none.
    pub outcome: Result<(Account, Vec<Warning>)>,
}

impl Links {
    /// Tries to link what was filled in, to the end even if the browser goes away.
    pub async fn submit(&self, session: Session, filled: Filled) -> Result<Attempt> {
        let this = self.clone();
        let ended = self.tasks.complete(async move { this.attempt(&session, filled).await }).await;
        ended.unwrap_or_else(|| Err(cut_short()))
    }

    async fn attempt(&self, session: &Session, filled: Filled) -> Result<Attempt> {
        let Some(hold) = self.records.hold(session.link, LEASE).await? else { return Err(in_use()) };
        let ended = self.attempt_under(&hold, session, filled).await;
        // A lock that cannot be given back ends by itself.
        let _ = self.records.release(&hold).await;
        ended
    }

    async fn attempt_under(&self, hold: &Hold, session: &Session, filled: Filled) -> Result<Attempt> {
        let (link, version) = self.bind(hold, session).await?;
        let connector = self.allowed(&link, &filled.integration)?;
        let Some(method) = connector.method(&filled.method).cloned() else { return Err(no_such_way(&connector)) };
        let before = self.relinked(&link).await?;
        let given = given(&link, &method, filled.fields)?;
        if let Err(problems) = method.resolve(&given, &|url| self.accounts.guard.names(url)) {
            return Ok(Attempt::Fields(problems));
        }
        let new = new_account(&link, before, &connector, &method, given)?;
        if method.needs_browser() {
            let (environment, scopes) = (link.environment, link.scopes.clone());
            let apart = filled.apart || session.view.frame;
            let ask = AuthorizeAsk { environment, link: link.id.to_string(), apart, new, scopes };
            let begun = self.authorizations.begin(ask).await?;
            if let Err(error) = self.keep_way((link, version), hold, &begun).await {
                self.authorizations.forget(&begun.name).await?;
                return Err(error);
            }
            return Ok(Attempt::Elsewhere(begun));
        }
        let act = act_of(&link);
        // The link is used up before its entry is waited for: where that cannot be written, it is used up all the same.
        let import = Box::pin(async {
            let terms = (link.relinks.is_some(), self.leave(link.id, hold));
            let linked = Box::pin(self.accounts.link_by(link.environment, new, terms)).await;
            let (account, warnings) = self.unless_deleted(&link, linked).await?;
            self.settle(link.id, hold, &account).await?;
            Ok((account, warnings))
        });
        let (account, warnings) = keep_holding(|| self.records.renew(hold, LEASE), self.audit.around(act, true, import)).await?;
        Ok(Attempt::Linked(Box::new(account), warnings))
    }

    /// A link to an account that was deleted meanwhile is over, whatever the try says.
    async fn unless_deleted<T>(&self, link: &Link, linked: Result<T>) -> Result<T> {
        if linked.is_err() {
            self.relinked(link).await?;
        }
        linked
    }

    /// Takes the link for this session; it stays with it, whatever comes of the try.
    async fn bind(&self, hold: &Hold, session: &Session) -> Result<(Link, u64)> {
        let (mut link, version) = self.load(session.link).await?.ok_or_else(invalid)?;
        self.check(&link, Some(session)).await?;
        let is_bound = matches!(link.state, LinkState::Bound(_));
        if is_bound && !link.is_storing {
            return Ok((link, version));
        }
        if !is_bound {
            let account = link.relinks.unwrap_or_else(AccountId::generate);
            link.state = LinkState::Bound(Bound { session: session.id, account });
        }
        link.is_storing = false;
        let version = self.keep(&link, version, hold).await?;
        Ok((link, version))
    }

    /// The vendor takes its time. Whoever takes the link back meanwhile is heard before anything is stored; after that it is too
    /// late.
    fn leave(&self, id: LinkId, hold: &Hold) -> Leave {
        let (this, hold) = (self.clone(), hold.clone());
        Box::pin(async move {
            let (mut link, version) = this.load(id).await?.ok_or_else(invalid)?;
            if !matches!(link.state, LinkState::Bound(_)) {
                return Err(invalid());
            }
            this.check_maker(&link).await?;
            link.is_storing = true;
            this.keep(&link, version, &hold).await.map(drop)
        })
    }

    fn allowed(&self, link: &Link, name: &str) -> Result<std::sync::Arc<Connector>> {
        let found = self.connector(name).filter(|connector| link.allows(&connector.slug));
        found.ok_or_else(|| Error::new(Code::InvalidBody, "This product cannot be connected by this link.").field("integration"))
    }

    /// Uses the link up.
    async fn settle(&self, id: LinkId, hold: &Hold, account: &Account) -> Result<Link> {
        let (mut link, version) = self.load(id).await?.ok_or_else(invalid)?;
        let LinkState::Bound(by) = link.state.clone() else { return self.after_conflict(link, account).await };
        link.state = LinkState::Used { by, integration: account.connector.clone() };
        link.is_storing = false;
        let kept = (self.seal(&link)?, version);
        match self.records.end(id, kept, self.remaining(&link), Some(hold)).await {
            Err(StoreError::Conflict(_) | StoreError::Fenced) => {
                let (now, _) = self.load(id).await?.ok_or_else(invalid)?;
                self.after_conflict(now, account).await
            }
            done => Ok(done.map(|()| link)?),
        }
    }

    /// This try lost the right to the link while it stored the account, and somebody was faster: another try with the same
    /// account, whose word counts, or the caller who took the link back. Then a new account goes again. One that stood before
    /// has its new credential, whoever was faster: that is what is said.
    async fn after_conflict(&self, link: Link, account: &Account) -> Result<Link> {
        if link.relinks.is_some() {
            return Ok(link);
        }
        if matches!(link.state, LinkState::Cancelled) {
            self.accounts.delete(link.environment, &account.id.to_string()).await?;
        }
        Err(invalid())
    }

    /// Takes a browser back from a vendor's pages, and links what was agreed to there, to the end even if the browser goes away.
    pub async fn finish(&self, connector: &str, query: Vec<(String, String)>, binding: Option<&str>) -> Result<Returned> {
        let came_back = self.authorizations.take_back(connector, query, binding).await?;
        let id: LinkId = came_back.link().parse().map_err(|_| invalid())?;
        let this = self.clone();
        let ended = self.tasks.complete(async move { this.finish_once(id, came_back).await }).await;
        ended.unwrap_or_else(|| Err(cut_short()))
    }

    async fn finish_once(&self, id: LinkId, came_back: CameBack) -> Result<Returned> {
        let Some(hold) = self.records.hold(id, LEASE).await? else { return Err(in_use()) };
        let ended = self.finish_under(&hold, id, came_back).await;
        // A lock that cannot be given back ends by itself.
        let _ = self.records.release(&hold).await;
        ended
    }

    async fn finish_under(&self, hold: &Hold, id: LinkId, came_back: CameBack) -> Result<Returned> {
        let (mut link, version) = self.load(id).await?.ok_or_else(invalid)?;
        self.check(&link, None).await?;
        if std::mem::take(&mut link.is_storing) {
            self.keep(&link, version, hold).await?;
        }
        self.relinked(&link).await?;
        let (apart, method, filled) = (came_back.is_apart(), came_back.method().to_owned(), came_back.filled());
        let mut used = None;
        let linking = Box::pin(async {
            let linked = self.authorizations.link(came_back, (link.relinks.is_some(), self.leave(id, hold))).await;
            let (account, warnings) = self.unless_deleted(&link, linked).await?;
            used = Some(self.settle(id, hold, &account).await?);
            Ok((account, warnings))
        });
        let outcome = keep_holding(|| self.records.renew(hold, LEASE), self.audit.around(act_of(&link), true, linking)).await;
        Ok(Returned { link: used.unwrap_or(link), apart, method, filled, outcome })
    }
}

/// In the audit log the customer, whom no token names, stands as the link.
fn act_of(link: &Link) -> Act {
    let account = link.bound().map(|by| by.account);
    Act {
        actor: LINKED_BY.to_owned(),
        target_kind: Some("integrated_account".to_owned()),
        target_id: account.map(|id| id.to_string()),
        account,
        tenant: Some(link.tenant_id.clone()),
        ..Act::of_gateway(link.environment, "integrated_account.link")
    }
}

/// The method's fields: what was filled in, and what the link says over it.
fn given(link: &Link, method: &LinkMethod, mut fields: BTreeMap<String, String>) -> Result<BTreeMap<String, String>> {
    fields.retain(|name, value| method.field(name).is_some() && !value.trim().is_empty());
    for (name, value) in link.context.iter().filter(|(name, _)| method.field(name).is_some()) {
        match field_text(name, value.clone())? {
            Some(text) => fields.insert(name.clone(), text),
            None => fields.remove(name),
        };
    }
    Ok(fields)
}

/// The account to be; one that is linked anew keeps id, label and, where it shall, the context that it has when that is stored.
fn new_account(
    link: &Link,
    before: Option<Account>,
    connector: &Connector,
    method: &LinkMethod,
    given: BTreeMap<String, String>,
) -> Result<NewAccount> {
    let by = link.bound().ok_or_else(invalid)?;
    let goes_on = before.is_some() && link.keeps_context;
    let (tenant_id, is_sandbox) = match before {
        Some(account) => (account.tenant_id, link.is_sandbox.unwrap_or(account.is_sandbox)),
        None => (link.tenant_id.clone(), link.is_sandbox.unwrap_or_default()),
    };
    let mut context: Map<String, Value> = link.context.clone();
    context.extend(given.into_iter().map(|(name, text)| (name, Value::String(text))));
    Ok(NewAccount {
        tenant_id,
        integration: Slug::to_string(&connector.slug),
        authentication_method: method.name.clone(),
        context,
        is_sandbox,
        id: Some(by.account),
        if_there: if goes_on { IfThere::Continued } else { IfThere::LinkedAnew },
        grant: None,
    })
}

fn no_such_way(connector: &Connector) -> Error {
    let known: Vec<&str> = connector.methods.iter().map(|method| method.name.as_str()).collect();
    let detail = format!("This is not a way to connect {}. There are: {}.", connector.file.title, known.join(", "));
    Error::new(Code::InvalidBody, detail).field("method")
}

pub(super) fn in_use() -> Error {
    Error::new(
        Code::Conflict,
        "This link is being used at this moment. Wait until that is done, then look whether it is connected.",
    )
}
