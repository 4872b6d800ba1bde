//! Account tokens: what a caller hands out for one account is no more than it has itself, and ends with what it was made with.

use std::{collections::BTreeSet, sync::Arc};

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use crate::{
    error::{Code, Error, Result},
    model::{Account, Scope, Scopes, Secret, TokenId},
    service::{
        Bound, Caller,
        tokens::{Tokens, invalid},
    },
    vault::AccountPass,
};

/// How long a token is good.
const LIFE: SignedDuration = SignedDuration::from_mins(15);

/// The rights that can be had over one account. Those over accounts mean this one: to see it, and to change its labels.
const CARRIED: [Scope; 8] = [
    Scope::DirectoryRead,
    Scope::DirectoryWrite,
    Scope::ProxyRead,
    Scope::ProxyWrite,
    Scope::UsageRead,
    Scope::UsageWrite,
    Scope::AccountsRead,
    Scope::AccountsWrite,
];

/// A new account token.
#[derive(Debug)]
pub struct MadeAccountToken {
    /// Its text.
    pub text: Secret,
    /// Seconds until it ends.
    pub expires_in: i64,
    /// When it ends.
    pub expires_at: Timestamp,
}

impl Tokens {
    /// Makes a token for an account of the caller's environment, with the caller's rights or those of them that are wanted.
    pub async fn make_for_account(
        &self,
        caller: &Arc<Caller>,
        account: &Account,
        wanted: Option<BTreeSet<Scope>>,
    ) -> Result<MadeAccountToken> {
        let scopes = match wanted {
            Some(wanted) => narrowed(caller, wanted)?,
            None => CARRIED.into_iter().filter(|scope| caller.scopes.allow(*scope)).collect(),
        };
        let issued_at = whole_seconds(self.clock.now())?;
        let (made_with, ends) = self.maker_of(caller).await?;
        let end = issued_at.checked_add(LIFE).map_err(Error::internal)?;
        let expires_at = whole_seconds(ends.map_or(end, |maker_ends| maker_ends.min(end)))?;
        let environment = caller.environment;
        let (id, made_at) = (account.id, Some(account.created_at));
        let scopes = Scopes(scopes);
        let pass = AccountPass { account: id, made_at, environment, made_with, scopes, issued_at, expires_at };
        let text = self.keys.sign_account_token(&pass)?;
        Ok(MadeAccountToken { text, expires_in: expires_at.as_second() - issued_at.as_second(), expires_at })
    }

    /// What a token of this caller's names as its maker, and when that ends.
    async fn maker_of(&self, caller: &Arc<Caller>) -> Result<(Uuid, Option<Timestamp>)> {
        match self.administrators.iter().find(|known| Arc::ptr_eq(&known.caller, caller)) {
            Some(administrator) => Ok((administrator.mark, None)),
            None => Ok((caller.token.0, self.live(caller.token).await?.expires_at)),
        }
    }

    async fn maker(&self, made_with: Uuid) -> Result<Arc<Caller>> {
        match self.administrators.iter().find(|known| known.mark == made_with) {
            Some(administrator) => Ok(Arc::clone(&administrator.caller)),
            None => Ok(Arc::clone(&self.live(TokenId(made_with)).await?.caller)),
        }
    }

    /// Who an account token speaks for: whoever made it, bound to the account.
    pub(in crate::service) async fn authenticate_for_account(&self, text: &str) -> Result<Arc<Caller>> {
        let pass = self.keys.open_account_token(text, self.clock.now()).ok_or_else(invalid)?;
        let maker = self.maker(pass.made_with).await?;
        if maker.environment != pass.environment {
            return Err(invalid());
        }
        let held = |scope: &Scope| CARRIED.contains(scope) && maker.scopes.allow(*scope);
        Ok(Arc::new(Caller {
            environment: pass.environment,
            token: maker.token,
            actor: maker.actor.clone(),
            scopes: Scopes(pass.scopes.0.into_iter().filter(held).collect()),
            bound: Some(Bound { account: pass.account, since: pass.issued_at, made_at: pass.made_at }),
        }))
    }
}

/// The rights that are wanted, each of which the caller must hold.
fn narrowed(caller: &Caller, wanted: BTreeSet<Scope>) -> Result<BTreeSet<Scope>> {
    let strange = wanted.iter().find(|scope| !CARRIED.contains(scope));
    if wanted.is_empty() || strange.is_some() {
        let known = CARRIED.map(|scope| format!("`{scope}`")).join(", ");
        let detail = format!("`scopes` names at least one of {known}: an account token carries no others.");
        return Err(Error::new(Code::InvalidBody, detail).field("scopes"));
    }
    wanted.iter().try_for_each(|scope| caller.require(*scope))?;
    Ok(wanted)
}

/// Tokens tell time in seconds.
fn whole_seconds(at: Timestamp) -> Result<Timestamp> {
    Timestamp::from_second(at.as_second()).map_err(Error::internal)
}
