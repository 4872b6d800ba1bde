//! Accounts that are linked: verified first, stored only then, and over an account that has the id already only where that is
//! meant.
//!
//! What a customer granted counts once. From its use until what came of it is kept, nobody's leaving cuts the work short; what
//! cannot be kept is given back.

use std::{sync::Arc, time::Instant};

use futures_util::future::BoxFuture;
use jiff::Timestamp;
use serde_json::{Map, Value};

use super::{
    Accounts, check_context, check_tenant, find_method,
    grant::{Granted, Tokens},
    refresh::{HELD, LONGEST_PAUSE, PAUSE},
    split_context,
    state::transition,
    verify::Verified,
};
use crate::{
    connector::{Connector, LinkMethod},
    error::{Code, Error, Result},
    model::{Account, AccountId, EnvironmentId, Warning},
    service::cut_short,
    store::StoreError,
};

/// `POST /integrated-account`. May hold secrets, therefore no `Debug`.
pub struct NewAccount {
    /// The caller's label of the end customer.
    pub tenant_id: String,
    /// The connector's slug, its id or its `environment_integration_id`.
    pub integration: String,
    /// The link method.
    pub authentication_method: String,
    /// The method's fields and any context of the caller.
    pub context: Map<String, Value>,
    /// A stand-in vendor of this gateway.
    pub is_sandbox: bool,
    /// The id it shall have; one is made when left out.
    pub id: Option<AccountId>,
    /// What the customer agreed to at the vendor, for methods that need a browser.
    pub grant: Option<Granted>,
    /// What becomes of an account that has that id already.
    pub if_there: IfThere,
}

/// What becomes of an account that has the id of a new one. One of another environment stays, whatever is said here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IfThere {
    /// It stays.
    Stays,
    /// It stays, unless a run of the same import that began then can have made it: that one is linked anew.
    StaysIfNotOf(Timestamp),
    /// It is linked anew.
    LinkedAnew,
    /// It is linked anew, and what its context says then goes on beneath the new one's.
    Continued,
}

impl IfThere {
    /// The context of the account to be, from that of the new one.
    fn context(self, there: Option<&Account>, method: &LinkMethod, new: Map<String, Value>) -> Map<String, Value> {
        let Some(there) = there.filter(|_| self == IfThere::Continued) else { return new };
        let labels = there.context.iter().filter(|(name, _)| method.field(name).is_none());
        let mut context: Map<_, _> = labels.map(|(name, value)| (name.clone(), value.clone())).collect();
        context.extend(new);
        context
    }
}

/// Asked once, when the vendor has said yes and directly before the account is stored: an error stops it there.
pub type Leave = BoxFuture<'static, Result<()>>;

/// On which terms an account is stored.
#[derive(Default)]
struct Terms {
    /// Over one that stands, or not at all.
    must_exist: bool,
    leave: Option<Leave>,
}

impl Accounts {
    /// Verifies the credential at the vendor, then stores it; nothing is stored when it is refused.
    pub async fn import(self: &Arc<Self>, environment: EnvironmentId, new: NewAccount) -> Result<(Account, Vec<Warning>)> {
        self.import_on(environment, new, Terms::default()).await
    }

    /// The same by a link, which may be over when the vendor has said yes. With `relinks` the account stands already: what was
    /// deleted stays deleted, before the vendor is asked and meanwhile.
    pub async fn link_by(
        self: &Arc<Self>,
        environment: EnvironmentId,
        new: NewAccount,
        (relinks, leave): (bool, Leave),
    ) -> Result<(Account, Vec<Warning>)> {
        self.import_on(environment, new, Terms { must_exist: relinks, leave: Some(leave) }).await
    }

    async fn import_on(
        self: &Arc<Self>,
        environment: EnvironmentId,
        mut new: NewAccount,
        terms: Terms,
    ) -> Result<(Account, Vec<Warning>)> {
        check_tenant(&new.tenant_id)?;
        let connector = self.connector(environment, &new.integration)?;
        self.installs.connector_in_use(environment, &connector.slug).await?;
        let method = find_method(&connector, &new.authentication_method)?;
        if new.grant.is_none() {
            new.grant = Tokens::take(&method, &mut new.context)?.map(Granted::Tokens);
        }
        let id = *new.id.get_or_insert_with(AccountId::generate);
        let way = (connector, method);
        if new.grant.is_none() {
            return self.import_by(environment, new, way, terms).await;
        }
        let this = Arc::clone(self);
        self.never_cut_short(async move { this.import_granted(environment, (id, new), way, terms).await }).await
    }

    /// Of imports under one id, one uses a refresh token up; the next finds its account.
    async fn import_granted(
        self: &Arc<Self>,
        environment: EnvironmentId,
        (id, new): (AccountId, NewAccount),
        way: (Arc<Connector>, Arc<LinkMethod>),
        terms: Terms,
    ) -> Result<(Account, Vec<Warning>)> {
        if !spends(&new, self.clock.now()) {
            return self.import_by(environment, new, way, terms).await;
        }
        self.kept(environment, &new, (&way.0, &way.1)).await?;
        let hold = self.hold_token(id).await?;
        let imported = self.while_held(&hold, Box::pin(self.import_by(environment, new, way, terms))).await;
        self.let_go(id, &hold).await;
        imported
    }

    /// Work that uses up what a customer granted, and keeps what comes of it: it goes on although its caller leaves, for as long as
    /// vendor and store take.
    pub(super) async fn never_cut_short<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        self.opened.tasks.complete(Box::pin(work)).await.unwrap_or_else(|| Err(cut_short()))
    }

    async fn import_by(
        self: &Arc<Self>,
        environment: EnvironmentId,
        new: NewAccount,
        (connector, method): (Arc<Connector>, Arc<LinkMethod>),
        Terms { must_exist, leave }: Terms,
    ) -> Result<(Account, Vec<Warning>)> {
        let kept = self.kept(environment, &new, (&connector, &method)).await?;
        if must_exist && kept.is_none() {
            return Err(Error::not_found());
        }
        if let Some((account, _)) = kept.as_ref().filter(|_| spends(&new, self.clock.now())) {
            // A run before this one linked it, and used the refresh token that this one brings.
            return Ok((account.clone(), Vec::new()));
        }
        let (fields, context) = split_context(&method, new.context)?;
        let context = new.if_there.context(kept.as_ref().map(|(account, _)| account), &method, context);
        check_context(&context)?;
        let is_agreed = matches!(new.grant, Some(Granted::Code(_)));
        let is_brought = matches!(new.grant, Some(Granted::Tokens(_)));
        // A label that was changed while the customer was at the vendor stays.
        let standing = kept.as_ref().filter(|_| must_exist).map(|(account, _)| account.tenant_id.clone());
        let (tenant_id, is_sandbox) = (standing.unwrap_or(new.tenant_id), new.is_sandbox);
        let draft = Account::draft(environment, connector.slug.clone(), method.name.clone(), self.clock.now());
        let draft = Account { id: new.id.unwrap_or(draft.id), tenant_id, context, is_sandbox, ..draft };
        let account = succeeding(draft, kept.as_ref().map(|(kept, _)| kept));
        let mut verified = Box::pin(self.verify(account, connector, method, &fields, new.grant)).await?;
        if is_brought && verified.access.refresh_token().is_none() {
            verified.warnings.push(no_refresh_token());
        }
        let left = match leave {
            Some(leave) => leave.await,
            None => Ok(()),
        };
        let stored = match left {
            Ok(()) => self.store(kept.as_ref(), &mut verified).await,
            Err(error) => Err(error),
        };
        if stored.is_err() && is_agreed {
            self.give_back_unless_kept(&verified);
        }
        stored?;
        self.opened.forget(environment, verified.account.id).await;
        self.refuse_late(&verified).await?;
        Ok((verified.account, verified.warnings))
    }

    /// The context of a new account, with that of the account it continues as it is now.
    pub(in crate::service) async fn whole_context(&self, new: &NewAccount, method: &LinkMethod) -> Result<Map<String, Value>> {
        let there = match new.id.filter(|_| new.if_there == IfThere::Continued) {
            Some(id) => self.records.get(id).await?,
            None => None,
        };
        Ok(new.if_there.context(there.as_ref().map(|(account, _)| account), method, new.context.clone()))
    }

    /// Stores what was verified. What a refresh token was used up for is held in memory until the store takes it, as a renewed
    /// token is.
    pub(super) async fn store(&self, before: Option<&(Account, u64)>, verified: &mut Verified) -> Result<()> {
        let (ours, begun, mut pause, mut may_stand) = (verified.account.clone(), Instant::now(), PAUSE, false);
        loop {
            let stored = match before {
                Some((before, version)) => self.replace(before, *version, verified).await,
                None => self.create(verified).await,
            };
            let stored = match stored {
                Err(error) if may_stand && error.code() == Code::Conflict => self.unless_it_stands(verified, error).await,
                stored => stored,
            };
            match stored {
                Err(error) if verified.is_spent && error.code() == Code::StoreUnavailable && begun.elapsed() <= HELD => {
                    tracing::error!(account = %ours.id, %error, "a new credential is held in memory until the store takes it");
                    tokio::time::sleep(pause).await;
                    (pause, may_stand) = ((pause * 2).min(LONGEST_PAUSE), true);
                    verified.account.clone_from(&ours);
                }
                done => return done,
            }
        }
    }

    /// A try before this one may have taken effect; it counts once the store confirms it.
    async fn unless_it_stands(&self, verified: &mut Verified, conflict: Error) -> Result<()> {
        let id = verified.account.id;
        let ours = verified.token.as_ref().map(|token| &token.sealed);
        let there = self.records.token(id).await?.filter(|(token, _)| Some(token) == ours);
        let (Some((token, at)), Some((account, _))) = (there, self.records.get(id).await?) else { return Err(conflict) };
        self.records.confirm_token(id, token, at).await?;
        verified.account = account;
        Ok(())
    }

    async fn create(&self, verified: &Verified) -> Result<()> {
        let Verified { account, wrapped_key, token, .. } = verified;
        let wrapped_key = self.wrapped_now(account, wrapped_key)?;
        let token = token.as_ref().map(|token| token.sealed.clone());
        let events = transition(None, Some(account), self.clock.now());
        let created = self.records.create(account, &wrapped_key, token, &events).await;
        // What the store did not confirm may stand all the same.
        if !matches!(created, Err(StoreError::Conflict(_))) {
            self.announce(&events);
        }
        Ok(created.map(|_| ())?)
    }

    /// The account to be linked anew, if one has the new one's id. What stands in another environment looks like one that may
    /// not be.
    async fn kept(
        &self,
        environment: EnvironmentId,
        new: &NewAccount,
        (connector, method): (&Connector, &LinkMethod),
    ) -> Result<Option<(Account, u64)>> {
        let Some(id) = new.id else { return Ok(None) };
        let Some((there, version)) = self.records.get(id).await? else { return Ok(None) };
        let is_alike = (&there.tenant_id, &there.connector, &there.method) == (&new.tenant_id, &connector.slug, &method.name);
        let gives_way = match new.if_there {
            IfThere::Stays => false,
            IfThere::StaysIfNotOf(begun) => is_alike && there.created_at >= begun,
            IfThere::LinkedAnew | IfThere::Continued => true,
        };
        if gives_way && there.environment == environment { Ok(Some((there, version))) } else { Err(id_taken()) }
    }
}

/// A new account, or the next credential of one that is kept; its rules stay while its connector does.
fn succeeding(new: Account, kept: Option<&Account>) -> Account {
    let Some(kept) = kept else { return Account { generation: first_generation(new.created_at), ..new } };
    Account {
        generation: kept.generation + 1,
        maps: if kept.connector == new.connector { kept.maps.clone() } else { Map::new() },
        is_enabled: kept.is_enabled,
        data_version: kept.data_version,
        created_at: kept.created_at,
        later: kept.later.clone(),
        ..new
    }
}

/// Whether to link the account uses up a refresh token that its caller brings.
fn spends(new: &NewAccount, now: Timestamp) -> bool {
    matches!(&new.grant, Some(Granted::Tokens(tokens)) if tokens.must_refresh(now))
}

/// An account that was deleted and has its id again is not mistaken for the one before, by whoever still works with that.
fn first_generation(now: Timestamp) -> u64 {
    now.as_millisecond().unsigned_abs()
}

/// Warns that nothing can follow an access token that came alone.
pub(super) fn no_refresh_token() -> Warning {
    let message = "The access token came without a refresh token: the account will have to be linked again when it ends.";
    Warning {
        code: "no_refresh_token".to_owned(),
        message: message.to_owned(),
        field: Some("context.oauth.token.refresh_token".to_owned()),
    }
}

fn id_taken() -> Error {
    Error::new(Code::IdTaken, "An account with this `id` exists already; nothing was changed.").field("id")
}
