//! Changes of a linked account: its labels, and its credential in the place of the one before.
//!
//! A method that needs a browser keeps what the customer agreed to while its other fields change. That goes on under the right
//! to the account's tokens, from the moment its token is read until it is kept again: a refresh token that another node uses
//! meanwhile would come back spent.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    Accounts, Labels, TRIES, busy, find_method,
    grant::{Granted, Tokens, needs_browser},
    open::reauth,
    refresh::{Begun, Outcome},
    split_change,
    state::transition,
    verify::{Verified, refused},
};
use crate::{
    connector::{Connector, LinkMethod},
    error::{Code, Error, Result},
    model::{Account, AccountStatus, EnvironmentId, Event, Warning},
    service::{ChangeAccount, Linked},
    store::{Hold, StoreError, repo::Carried},
    upstream::{Access, Age, Token},
};

/// What an account's customer agreed to, with the right to its tokens. Holds secrets, therefore no `Debug`.
pub struct KeptGrant {
    /// The account as it is, with its token.
    linked: Arc<Linked>,
    hold: Hold,
}

/// A change of a credential.
struct Change {
    connector: Arc<Connector>,
    method: Arc<LinkMethod>,
    labels: Labels,
    fields: BTreeMap<String, Option<String>>,
    tokens: Option<Tokens>,
}

impl Accounts {
    /// Changes label, context or credential; a changed credential is verified first.
    pub async fn change(
        self: &Arc<Self>,
        environment: EnvironmentId,
        id: &str,
        change: ChangeAccount,
    ) -> Result<(Account, Vec<Warning>)> {
        let (account, version) = self.find(environment, id).await?;
        let connector = self.connector_of(&account)?;
        let method = find_method(&connector, &account.method)?;
        let mut change = change;
        let tokens = change.context.as_mut().map_or(Ok(None), |context| Tokens::take(&method, context))?;
        let (mut labels, fields) = split_change(&method, change, self.clock.now())?;
        if let Some((_, over)) = &mut labels.maps {
            let connector = self.installs.connector(environment, &account.connector).await?;
            *over = find_method(&connector, &account.method)?;
        }
        if fields.is_empty() && tokens.is_none() {
            return Ok((self.relabel(account, version, &labels).await?, Vec::new()));
        }
        self.installs.connector_in_use(environment, &account.connector).await?;
        let change = Change { connector, method, labels, fields, tokens };
        if !change.method.needs_browser() {
            return Box::pin(self.change_credential((account, version), change, None)).await;
        }
        let this = Arc::clone(self);
        self.never_cut_short(async move { this.change_grant((account, version), change).await }).await
    }

    async fn change_grant(&self, record: (Account, u64), mut change: Change) -> Result<(Account, Vec<Warning>)> {
        match change.tokens.take() {
            Some(tokens) => self.change_credential(record, change, Some(Granted::Tokens(tokens))).await,
            None => self.change_around_grant(&record.0, change).await,
        }
    }

    /// What the customer agreed to goes on, unless it would go to another server.
    async fn change_around_grant(&self, account: &Account, change: Change) -> Result<(Account, Vec<Warning>)> {
        if let Some(name) = change.fields.keys().find(|name| change.method.decides_destination(name)) {
            let detail = "A change of the address needs the customer's agreement again: link the account anew.";
            return Err(Error::new(Code::SecretsRequired, detail).field(format!("context.{name}")));
        }
        let hold = self.hold_token(account.id).await?;
        let changed = self.while_held(&hold, Box::pin(self.change_under(&hold, account, change))).await;
        self.let_go(account.id, &hold).await;
        changed
    }

    async fn change_under(&self, hold: &Hold, before: &Account, change: Change) -> Result<(Account, Vec<Warning>)> {
        let linked = self.load_with_token(before, hold).await?;
        let record = (linked.account.clone(), linked.version);
        let grant = Granted::Kept(Box::new(KeptGrant { linked, hold: hold.clone() }));
        self.change_credential(record, change, Some(grant)).await
    }

    /// The account as it is kept now, with a token that is surely its own: a refresh whose end nobody knows is settled first.
    async fn load_with_token(&self, before: &Account, hold: &Hold) -> Result<Arc<Linked>> {
        let linked = self.load_same(before).await?;
        let (id, version) = (linked.account.id, linked.access.renewal.as_ref().and_then(|renewal| renewal.version()));
        let intent = self.records.token_intent(id).await?.filter(|(intent, _)| Some(intent.version) == version);
        if intent.is_none() {
            return Ok(linked);
        }
        self.use_refresh_token(&linked, hold).await?;
        self.load_same(before).await
    }

    async fn load_same(&self, before: &Account) -> Result<Arc<Linked>> {
        let linked = self.load(before.environment, &before.id.to_string(), None).await?;
        let renewal = linked.access.renewal.as_ref();
        match renewal {
            _ if linked.account.generation != before.generation => {
                Err(Error::new(Code::Conflict, "The account was linked anew meanwhile; nothing of this request was written."))
            }
            Some(renewal) if renewal.is_ended() => Err(reauth(&linked.account)),
            Some(renewal) if renewal.version().is_some() => Ok(linked),
            _ => Err(needs_browser(&linked.access.method)),
        }
    }

    async fn change_credential(
        &self,
        (account, version): (Account, u64),
        change: Change,
        grant: Option<Granted>,
    ) -> Result<(Account, Vec<Warning>)> {
        let Change { connector, method, labels, fields, .. } = change;
        let is_secret = |name: &String| method.field(name).is_some_and(|field| field.kind.is_secret());
        let has_new_secret = matches!(grant, Some(Granted::Tokens(_))) || fields.keys().any(is_secret);
        let fields = self.merge_fields(&account, &method, fields).await?;
        let mut next = labels.lay_over(account.clone(), self.clock.now())?;
        if has_new_secret {
            // The end of the old one says nothing of the new one's.
            next.expires_at = labels.expires_at.flatten();
        }
        next.generation += 1;
        next.status = AccountStatus::Active;
        next.last_error = None;
        let mut verified = Box::pin(self.verify(next, connector, method, &fields, grant)).await?;
        self.replace(&account, version, &mut verified).await?;
        self.opened.forget(verified.account.environment, verified.account.id).await;
        Ok((verified.account, verified.warnings))
    }

    /// Stores a new credential over the old one. What calls and background tests note about the old one's state meanwhile is
    /// no conflict: it ends with it. Nor is what its owner calls it meanwhile: that stays, for the credential may have cost what
    /// nobody gives twice.
    pub(super) async fn replace(&self, before: &Account, mut version: u64, verified: &mut Verified) -> Result<()> {
        let (mut now, ours) = (before.clone(), verified.account.clone());
        for _ in 0..TRIES {
            let events = transition(Some((&now, version)), Some(&verified.account), verified.account.updated_at);
            match self.put_credential(verified, version, &events).await? {
                Err(StoreError::Conflict(why)) => {
                    let is_same = |now: &Account| now.generation == before.generation && now.environment == before.environment;
                    (now, version) = self.newer(before.id, version, is_same, why).await?;
                    verified.account = over_newer_labels(ours.clone(), before, &now);
                }
                done => {
                    done?;
                    self.announce(&events);
                    return Ok(());
                }
            }
        }
        Err(busy())
    }

    async fn put_credential(
        &self,
        verified: &Verified,
        version: u64,
        events: &[Event],
    ) -> Result<std::result::Result<u64, StoreError>> {
        let Verified { account, wrapped_key, token, .. } = verified;
        let wrapped_key = self.wrapped_now(account, wrapped_key)?;
        let sealed = token.as_ref().map(|token| token.sealed.clone());
        let over = token.as_ref().and_then(|token| token.over.as_ref());
        Ok(match (sealed, over) {
            (Some(token), Some((read_at, hold))) => {
                let carried = Carried { token, version: *read_at, hold };
                self.records.replace_around_token(account, &wrapped_key, carried, version, events).await
            }
            (token, _) => self.records.replace_credential(account, &wrapped_key, token, version, events).await,
        })
    }

    /// The token of a kept grant, good for a while: one that is over, or that the vendor does not take, is renewed with the changed
    /// fields, and kept with those before, so that it is not lost if they are not taken. Gives the right to it along.
    pub(super) async fn good_for(&self, access: &Access, kept: KeptGrant) -> Result<(Token, Hold)> {
        let KeptGrant { linked, hold } = kept;
        if linked.access.age(self.clock.now()) == Age::Over || linked.account.status == AccountStatus::NeedsReauth {
            self.renew_with(access, &linked, &hold).await?;
        }
        let token = self.token_of(&linked.account, &linked.data_key).await?;
        Ok((token.ok_or_else(|| needs_browser(&access.method))?, hold))
    }

    async fn renew_with(&self, access: &Access, linked: &Linked, hold: &Hold) -> Result<()> {
        let Some(refresh) = linked.access.refresh_token() else { return Err(reauth(&linked.account)) };
        let Begun::Now(mine) = self.begin_try(linked, hold).await? else { return Err(busy()) };
        match Outcome::of(self.upstream.refresh(access, refresh, self.clock.now()).await) {
            Outcome::Token(token) => self.keep_renewed(linked, *token, refresh, &mine).await,
            // A refusal may be for what was changed: it ends nothing.
            Outcome::Ended(failure) => {
                self.leave(linked, &mine, true).await;
                Err(refused(failure))
            }
            Outcome::Nothing { failure, is_good } => {
                self.leave(linked, &mine, is_good).await;
                Err(refused(failure))
            }
        }
    }
}

/// A new credential with its account's labels as they are now, but for those that come with it.
fn over_newer_labels(mut ours: Account, before: &Account, now: &Account) -> Account {
    if ours.tenant_id == before.tenant_id {
        ours.tenant_id.clone_from(&now.tenant_id);
    }
    if ours.maps == before.maps {
        ours.maps.clone_from(&now.maps);
    }
    if ours.is_enabled == before.is_enabled {
        ours.is_enabled = now.is_enabled;
    }
    if ours.expires_at == before.expires_at {
        ours.expires_at = now.expires_at;
    }
    let mut context = now.context.clone();
    context.retain(|name, _| ours.context.contains_key(name) || !before.context.contains_key(name));
    context.extend(ours.context.into_iter().filter(|(name, value)| before.context.get(name) != Some(value)));
    let data_version = ours.data_version.max(now.data_version + 1);
    Account { context, data_version, ..ours }
}
