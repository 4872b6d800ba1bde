//! Changes of a linked account: its labels, and its credential in the place of the one before.
//!
//! A method that needs a browser keeps what the customer agreed to while its other fields change. That goes on under the right
//! to the account's tokens, from the moment its token is read until it is kept again: a refresh token that another node uses
//! meanwhile would come back spent.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    Accounts, Labels, TRIES, busy, find_method,
    grant::{Granted, Tokens, needs_browser},
    import::no_refresh_token,
    is_secret,
    open::reauth,
    split_change,
    state::transition,
    verify::Verified,
};
use crate::{
    connector::{Connector, LinkMethod, Template},
    error::{Code, Error, Result},
    model::{Account, AccountStatus, EnvironmentId, Event, Warning},
    service::{ChangeAccount, Linked, idempotency::Run},
    store::{Hold, StoreError, repo::Carried},
    upstream::{Access, Age, Token},
};

/// What an account's customer agreed to, with the right to its tokens. Holds secrets, therefore no `Debug`.
pub struct KeptGrant {
    /// The account as it is, with its token.
    linked: Arc<Linked>,
    hold: Hold,
    /// The access token is not to be gone on with.
    is_over: bool,
    /// The changed fields leave the client as it is, which the grant is good for.
    same_client: bool,
}

/// Tokens that a caller brings, a refresh token among them. Holds secrets, therefore no `Debug`.
struct Brought {
    tokens: Tokens,
    /// The refresh token was the account's own already, when the right to it was asked for.
    is_own: bool,
}

/// A change of a credential.
struct Change {
    connector: Arc<Connector>,
    method: Arc<LinkMethod>,
    labels: Labels,
    fields: BTreeMap<String, Option<String>>,
    tokens: Option<Tokens>,
    run: Option<Run>,
}

impl Change {
    /// Whether an earlier run of the same write made the credential that the account has.
    fn is_made(&self, account: &Account) -> bool {
        self.run.is_some_and(|run| run.again && account.made_in == Some(run.id))
    }

    /// A changed field that says where the credential goes.
    fn moves(&self) -> Option<&str> {
        self.fields.keys().find(|name| self.method.decides_destination(name)).map(String::as_str)
    }

    /// Whether the client that the grant is good for stays.
    fn keeps_client(&self) -> bool {
        let id = self.method.token.iter().flat_map(|token| &token.client_id);
        let of_client: Vec<&str> = id.flat_map(Template::names).collect();
        self.fields.keys().all(|name| is_secret(&self.method, name) && !of_client.contains(&name.as_str()))
    }
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
        let (run, mut change) = (change.run, change);
        let tokens = change.context.as_mut().map_or(Ok(None), |context| Tokens::take(&method, context))?;
        let (mut labels, fields) = split_change(&method, change, self.clock.now())?;
        if let Some((_, over)) = &mut labels.maps {
            let connector = self.installs.connector(environment, &account.connector).await?;
            *over = find_method(&connector, &account.method)?;
        }
        if fields.is_empty() && tokens.is_none() {
            return Ok((self.relabel(account, version, &labels).await?, Vec::new()));
        }
        let change = Change { connector, method, labels, fields, tokens, run };
        if change.is_made(&account) {
            return Ok((account, Vec::new()));
        }
        self.installs.connector_in_use(environment, &account.connector).await?;
        if !change.method.needs_browser() {
            return Box::pin(self.change_credential((account, version), change, None)).await;
        }
        let this = Arc::clone(self);
        self.never_cut_short(async move { this.change_grant((account, version), change).await }).await
    }

    async fn change_grant(&self, record: (Account, u64), mut change: Change) -> Result<(Account, Vec<Warning>)> {
        match change.tokens.take() {
            Some(tokens) if tokens.have_refresh() => {
                let is_own = self.is_own(&record.0, &tokens).await?;
                self.change_held(&record.0, change, Some(Brought { tokens, is_own })).await
            }
            Some(tokens) => self.change_credential(record, change, Some(Granted::Tokens(tokens))).await,
            None => self.change_around_grant(&record.0, change).await,
        }
    }

    /// What the customer agreed to goes on, unless it would go to another server.
    async fn change_around_grant(&self, account: &Account, change: Change) -> Result<(Account, Vec<Warning>)> {
        if let Some(name) = change.moves() {
            let detail = "A change of the address needs the customer's agreement again: link the account anew.";
            return Err(Error::new(Code::SecretsRequired, detail).field(format!("context.{name}")));
        }
        self.change_held(account, change, None).await
    }

    /// Whether a caller brings the refresh token that the account has already. What does not open is none.
    async fn is_own(&self, account: &Account, tokens: &Tokens) -> Result<bool> {
        let key = match self.data_key(account).await {
            Err(error) if error.code() == Code::CredentialUnreadable => return Ok(false),
            key => key?,
        };
        let own = self.token_of(account, &key).await?.and_then(|token| token.refresh);
        Ok(own.is_some_and(|own| tokens.bring(&own)))
    }

    /// Changes the account under the right to its tokens: of all who would use a refresh token up, one does.
    async fn change_held(&self, before: &Account, change: Change, brought: Option<Brought>) -> Result<(Account, Vec<Warning>)> {
        let hold = self.hold_token(before.id).await?;
        let changed = self.while_held(&hold, Box::pin(self.change_under(&hold, before, change, brought))).await;
        self.let_go(before.id, &hold).await;
        changed
    }

    async fn change_under(
        &self,
        hold: &Hold,
        before: &Account,
        change: Change,
        brought: Option<Brought>,
    ) -> Result<(Account, Vec<Warning>)> {
        let record = self.find(before.environment, &before.id.to_string()).await?;
        if record.0.generation != before.generation {
            return if change.is_made(&record.0) { Ok((record.0, Vec::new())) } else { Err(linked_anew()) };
        }
        let (record, grant) = match brought {
            Some(Brought { tokens, is_own: false }) => (record, Granted::Tokens(tokens)),
            own => self.own_grant(hold, before, &change, own.map(|own| own.tokens)).await?,
        };
        self.change_credential(record, change, Some(grant)).await
    }

    /// What the account goes on with: its own grant, which a caller may have brought.
    async fn own_grant(
        &self,
        hold: &Hold,
        before: &Account,
        change: &Change,
        brought: Option<Tokens>,
    ) -> Result<((Account, u64), Granted)> {
        let linked = self.load_same(before).await?;
        let record = (linked.account.clone(), linked.version);
        let version = linked.access.renewal.as_ref().and_then(|renewal| renewal.version()).unwrap_or_default();
        let was_brought = brought.is_some();
        let in_force = brought.filter(|tokens| linked.access.refresh_token().is_some_and(|kept| tokens.bring(kept)));
        if was_brought && in_force.is_none() && change.moves().is_some() {
            let detail = "The account's refresh token was renewed meanwhile; nothing of this request was written.";
            return Err(Error::new(Code::Conflict, detail));
        }
        // A try whose end nobody knows is settled with the changed fields, which may be what it failed for.
        let in_doubt = self.is_in_doubt(&linked, version).await?;
        let is_over = match in_force {
            Some(tokens) if !in_doubt && !tokens.must_refresh(self.clock.now()) => {
                return Ok((record, Granted::Own(tokens, (version, hold.clone()))));
            }
            in_force => in_force.is_some() || in_doubt,
        };
        let kept = KeptGrant { linked, hold: hold.clone(), is_over, same_client: change.keeps_client() };
        Ok((record, Granted::Kept(Box::new(kept))))
    }

    /// Whether the refresh token may have been used without anybody knowing what came of it.
    async fn is_in_doubt(&self, linked: &Linked, version: u64) -> Result<bool> {
        let intent = self.records.token_intent(linked.account.id).await?;
        Ok(intent.is_some_and(|(intent, _)| intent.version == version))
    }

    async fn load_same(&self, before: &Account) -> Result<Arc<Linked>> {
        let linked = self.load(before.environment, &before.id.to_string(), None).await?;
        let renewal = linked.access.renewal.as_ref();
        match renewal {
            _ if linked.account.generation != before.generation => Err(linked_anew()),
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
        let has_tokens = matches!(grant, Some(Granted::Tokens(_) | Granted::Own(..)));
        let has_new_secret = has_tokens || change.fields.keys().any(|name| is_secret(&change.method, name));
        let Change { connector, method, labels, fields, run, .. } = change;
        let fields = self.merge_fields(&account, &method, fields).await?;
        let mut next = labels.lay_over(account.clone(), self.clock.now())?;
        if has_new_secret {
            // The end of the old one says nothing of the new one's.
            next.expires_at = labels.expires_at.flatten();
        }
        next.generation += 1;
        next.made_in = run.map(|run| run.id);
        next.status = AccountStatus::Active;
        next.last_error = None;
        let mut verified = Box::pin(self.verify(next, connector, method, &fields, grant)).await?;
        if has_tokens && verified.access.refresh_token().is_none() {
            verified.warnings.push(no_refresh_token());
        }
        self.store(Some(&(account, version)), &mut verified).await?;
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
                    // What the store did not confirm may stand all the same.
                    if !matches!(done, Err(StoreError::Fenced)) {
                        self.announce(&events);
                    }
                    return Ok(done.map(|_| ())?);
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
        let KeptGrant { linked, hold, is_over, same_client } = kept;
        if is_over || linked.access.age(self.clock.now()) == Age::Over || linked.account.status == AccountStatus::NeedsReauth {
            self.renew_with(access, &linked, &hold, same_client).await?;
        }
        let token = self.token_of(&linked.account, &linked.data_key).await?;
        Ok((token.ok_or_else(busy)?, hold))
    }
}

fn linked_anew() -> Error {
    Error::new(Code::Conflict, "The account was linked anew meanwhile; nothing of this request was written.")
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
