//! API tokens: made, shown once, stored as keyed hashes, revoked everywhere within a second.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use jiff::Timestamp;
use zeroize::Zeroizing;

use super::{Caller, Run, fresh::Fresh};
use crate::{
    error::{Code, Error, Result},
    model::{ApiToken, Clock, EnvironmentId, Scopes, Secret, TokenId},
    store::repo::{self, TokenRecord},
    vault::{SystemKeys, TokenText, same_secret},
};

/// A cut-off node goes on accepting a token it has confirmed for this long.
const KEPT: Duration = Duration::from_secs(30);

/// What a new token shall be.
#[derive(Debug)]
pub struct NewToken {
    /// The person's or service's name.
    pub name: String,
    /// Its rights.
    pub scopes: Scopes,
    /// When it ends by itself.
    pub expires_at: Option<Timestamp>,
}

/// API tokens.
pub struct Tokens {
    records: repo::Tokens,
    keys: Arc<SystemKeys>,
    clock: Arc<dyn Clock>,
    known: Fresh<TokenId, Known>,
    administrators: Vec<Administrator>,
}

/// A token as the hot path needs it: decoded once, shared by every request that shows it.
struct Known {
    caller: Arc<Caller>,
    hash: [u8; 32],
    expires_at: Option<Timestamp>,
    /// The text that was found to have this hash. While a node knows the token, comparing takes the place of hashing.
    shown: OnceLock<Secret>,
}

impl Known {
    fn is_shown(&self, text: &str) -> bool {
        self.shown.get().is_some_and(|shown| same_secret(shown.expose().as_bytes(), text.as_bytes()))
    }
}

/// An administrator that is not in the store: the configuration's, or the one of this run. Kept as a hash only.
pub struct Administrator {
    hash: [u8; 32],
    caller: Arc<Caller>,
}

impl Administrator {
    /// Hashes the configured text.
    pub fn new(keys: &SystemKeys, text: &Secret, environment: EnvironmentId) -> Self {
        let caller = Caller {
            environment,
            token: TokenId(uuid::Uuid::nil()),
            actor: "administrator".to_owned(),
            scopes: Scopes([crate::model::Scope::Admin].into()),
        };
        Self { hash: keys.token_hash(text.expose().as_bytes()), caller: Arc::new(caller) }
    }
}

impl Tokens {
    /// Over the token records; administrators come from the configuration and the run itself, never from the store.
    pub fn new(records: repo::Tokens, keys: Arc<SystemKeys>, clock: Arc<dyn Clock>, administrators: Vec<Administrator>) -> Self {
        Self { records, keys, clock, known: Fresh::new("token", 100_000, KEPT), administrators }
    }

    /// Who this token belongs to; `invalid_token` for everything that is not a live token.
    pub async fn authenticate(&self, token: &str) -> Result<Arc<Caller>> {
        let at_hand = TokenText::named_id(token).and_then(|id| self.known.at_hand(&id));
        let known = match at_hand.filter(|known| known.is_shown(token)) {
            Some(known) => known,
            None => match TokenText::parse(token) {
                Some((id, secret)) => Box::pin(self.verify(token, id, secret)).await?,
                None => return self.authenticate_administrator(token),
            },
        };
        let live = known.expires_at.is_none_or(|end| self.clock.now() < end);
        if live { Ok(Arc::clone(&known.caller)) } else { Err(invalid()) }
    }

    async fn verify(&self, text: &str, id: TokenId, secret: Zeroizing<[u8; 32]>) -> Result<Arc<Known>> {
        let known = self.known.get(&id, |_| self.load(id)).await?;
        if !same_secret(&self.keys.token_hash(&*secret), &known.hash) {
            return Err(invalid());
        }
        known.shown.get_or_init(|| Secret::new(text.to_owned()));
        Ok(known)
    }

    fn authenticate_administrator(&self, token: &str) -> Result<Arc<Caller>> {
        let hash = self.keys.token_hash(token.as_bytes());
        let administrator = self.administrators.iter().find(|known| same_secret(&hash, &known.hash)).ok_or_else(invalid)?;
        Ok(Arc::clone(&administrator.caller))
    }

    async fn load(&self, id: TokenId) -> Result<Arc<Known>> {
        let record = self.records.get(id).await?.ok_or_else(invalid)?;
        if record.token.id != id || !same_secret(self.mark(&record.token, &record.hash)?.as_bytes(), record.mark.as_bytes()) {
            tracing::error!(token = %id, "the stored record of a token was moved or changed; the token is refused");
            return Err(invalid());
        }
        let TokenRecord { token, hash, .. } = record;
        let hash = BASE64_STANDARD.decode(hash).ok().and_then(|hash| hash.try_into().ok());
        let hash = hash.ok_or_else(|| Error::internal("a token's stored hash is damaged"))?;
        let caller = Caller { environment: token.environment_id, token: id, actor: token.name, scopes: token.scopes };
        Ok(Arc::new(Known { caller: Arc::new(caller), hash, expires_at: token.expires_at, shown: OnceLock::new() }))
    }

    /// Makes a token; its text is never shown again.
    pub async fn create(&self, environment: EnvironmentId, new: NewToken) -> Result<(ApiToken, TokenText)> {
        self.create_as(TokenId::generate(), environment, new).await
    }

    /// Makes the token of a write that can be repeated. What a run before may have left, whose text nobody has seen, is
    /// replaced.
    pub async fn create_in(&self, run: Run, environment: EnvironmentId, new: NewToken) -> Result<(ApiToken, TokenText)> {
        let id = TokenId(run.id);
        if run.again {
            self.records.revoke(id, environment).await?;
            self.known.forget(&id).await;
        }
        self.create_as(id, environment, new).await
    }

    async fn create_as(&self, id: TokenId, environment: EnvironmentId, new: NewToken) -> Result<(ApiToken, TokenText)> {
        check_new(&new, self.clock.now())?;
        let text = TokenText::generate_for(id);
        let (_, secret) = TokenText::parse(text.expose()).ok_or_else(|| Error::internal("a new token does not parse"))?;
        let token = ApiToken {
            id,
            name: new.name,
            environment_id: environment,
            scopes: new.scopes,
            expires_at: new.expires_at,
            created_at: self.clock.now(),
        };
        let hash = BASE64_STANDARD.encode(self.keys.token_hash(&*secret));
        let mark = self.mark(&token, &hash)?;
        let record = TokenRecord { token: token.clone(), hash, mark };
        self.records.create(&record).await?;
        Ok((token, text))
    }

    fn mark(&self, token: &ApiToken, hash: &str) -> Result<String> {
        let record = serde_json::to_vec(&(token, hash)).map_err(Error::internal)?;
        Ok(BASE64_STANDARD.encode(self.keys.token_mark(&record)))
    }

    /// Tokens of the environment in id order; the second value continues the list.
    pub async fn list(
        &self,
        environment: EnvironmentId,
        limit: usize,
        after: Option<&str>,
    ) -> Result<(Vec<ApiToken>, Option<String>)> {
        let after = parse_after(after)?;
        let records = self.records.list(environment, after, limit + 1).await?;
        let mut tokens: Vec<ApiToken> = records.into_iter().map(|record| record.token).collect();
        let more = tokens.len() > limit;
        tokens.truncate(limit);
        let next = tokens.last().filter(|_| more).map(|last| last.id.to_string());
        Ok((tokens, next))
    }

    /// One token.
    pub async fn get(&self, environment: EnvironmentId, id: &str) -> Result<ApiToken> {
        let id: TokenId = id.parse().map_err(|_| Error::not_found())?;
        if !self.records.listed(environment, id).await? {
            return Err(Error::not_found());
        }
        let record = self.records.get(id).await?.filter(|r| r.token.environment_id == environment);
        record.map(|r| r.token).ok_or_else(Error::not_found)
    }

    /// Ends a token.
    pub async fn revoke(&self, environment: EnvironmentId, id: &str) -> Result<()> {
        let token = self.get(environment, id).await?;
        self.records.revoke(token.id, environment).await?;
        self.known.forget(&token.id).await;
        Ok(())
    }
}

fn invalid() -> Error {
    Error::new(Code::InvalidToken, "The token is missing, unknown, expired or revoked.")
}

fn parse_after<T: std::str::FromStr>(after: Option<&str>) -> Result<Option<T>> {
    after
        .map(|text| {
            text.parse()
                .map_err(|_| Error::new(Code::InvalidCursor, "`next_cursor` is not one this list gave out.").field("next_cursor"))
        })
        .transpose()
}

fn check_new(new: &NewToken, now: Timestamp) -> Result<()> {
    let invalid = |field: &str, detail: &str| Err(Error::new(Code::InvalidBody, detail).field(field));
    let name = new.name.trim();
    if name.is_empty() || new.name.chars().count() > 200 || new.name.chars().any(char::is_control) {
        return invalid("name", "`name` is 1 to 200 characters: the person's or service's name.");
    }
    if new.scopes.0.is_empty() {
        return invalid("scopes", "`scopes` names at least one scope.");
    }
    if new.expires_at.is_some_and(|end| end <= now) {
        return invalid("expires_at", "`expires_at` lies in the past.");
    }
    Ok(())
}
