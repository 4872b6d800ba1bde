//! API tokens: made, shown once, stored as keyed hashes, revoked everywhere within a second.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use jiff::Timestamp;
use moka::future::Cache;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{Caller, Run, fresh::Fresh};
use crate::{
    error::{Code, Error, Result},
    model::{ApiToken, Clock, EnvironmentId, Scopes, Secret, Tasks, TokenId},
    store::repo::{self, Listed, TokenRecord},
    vault::{SystemKeys, TokenText, same_secret},
};

/// A cut-off node goes on accepting a token it has confirmed for this long.
const KEPT: Duration = Duration::from_secs(30);
/// Records read at once.
const PAGE: usize = 500;
/// A node notes a token's use at most this often.
const NOTED_EVERY: Duration = Duration::from_secs(60);

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

/// Filters of the list of tokens.
#[derive(Debug, Default)]
pub struct ListTokens {
    /// Only tokens of this name.
    pub name: Option<String>,
    /// Only tokens of this environment, which is the caller's or has none to show.
    pub environment: Option<String>,
    /// At most so many.
    pub limit: usize,
    /// Only those after it, in id order.
    pub after: Option<TokenId>,
}

/// A token as it is shown.
#[derive(Debug)]
pub struct ShownToken {
    /// The token.
    pub token: ApiToken,
    /// The name of the token it was made with; none of one that the gateway made itself.
    pub created_by: Option<String>,
    /// When it was used last, to a minute or so.
    pub last_used_at: Option<Timestamp>,
}

/// API tokens.
pub struct Tokens {
    records: repo::Tokens,
    pub(super) keys: Arc<SystemKeys>,
    pub(super) clock: Arc<dyn Clock>,
    tasks: Tasks,
    known: Fresh<TokenId, Known>,
    /// Tokens whose use was noted a moment ago.
    noted: Cache<TokenId, ()>,
    pub(super) administrators: Vec<Administrator>,
}

/// A token as the hot path needs it: decoded once, shared by every request that shows it.
pub(super) struct Known {
    pub(super) caller: Arc<Caller>,
    hash: [u8; 32],
    pub(super) expires_at: Option<Timestamp>,
    /// The text that was found to have this hash. While a node knows the token, comparing takes the place of hashing.
    shown: OnceLock<Secret>,
}

impl Known {
    fn is_live(&self, now: Timestamp) -> bool {
        self.expires_at.is_none_or(|end| now < end)
    }

    fn is_shown(&self, text: &str) -> bool {
        self.shown.get().is_some_and(|shown| same_secret(shown.expose().as_bytes(), text.as_bytes()))
    }
}

/// An administrator that is not in the store: the configuration's, or the one of this run. Kept as a hash only.
pub struct Administrator {
    hash: [u8; 32],
    /// What its account tokens name: they end when the configuration has another text.
    pub(super) mark: Uuid,
    pub(super) caller: Arc<Caller>,
}

impl Administrator {
    /// Hashes the configured text.
    pub fn new(keys: &SystemKeys, text: &Secret, environment: EnvironmentId) -> Self {
        let caller = Caller {
            environment,
            token: TokenId(uuid::Uuid::nil()),
            actor: "administrator".to_owned(),
            scopes: Scopes([crate::model::Scope::Admin].into()),
            bound: None,
        };
        let hash = keys.token_hash(text.expose().as_bytes());
        let mark = Uuid::new_v5(&environment.0, &keys.token_hash(&hash));
        Self { hash, mark, caller: Arc::new(caller) }
    }
}

impl Tokens {
    /// Over the token records; administrators come from the configuration and the run itself, never from the store.
    pub fn new(
        records: repo::Tokens,
        keys: Arc<SystemKeys>,
        clock: Arc<dyn Clock>,
        tasks: Tasks,
        administrators: Vec<Administrator>,
    ) -> Self {
        let noted = Cache::builder().max_capacity(100_000).time_to_live(NOTED_EVERY).build();
        Self { records, keys, clock, tasks, known: Fresh::new("token", 100_000, KEPT), noted, administrators }
    }

    /// Who this token belongs to; `invalid_token` for everything that is not a live token. The caller of an account token is
    /// bound to its account.
    pub async fn authenticate(&self, token: &str) -> Result<Arc<Caller>> {
        let at_hand = TokenText::named_id(token).and_then(|id| self.known.at_hand(&id));
        let known = match at_hand.filter(|known| known.is_shown(token)) {
            Some(known) => known,
            None => match TokenText::parse(token) {
                Some((id, secret)) => Box::pin(self.verify(token, id, secret)).await?,
                None => return self.authenticate_another(token).await,
            },
        };
        if known.is_live(self.clock.now()) { Ok(Arc::clone(&known.caller)) } else { Err(invalid()) }
    }

    async fn authenticate_another(&self, token: &str) -> Result<Arc<Caller>> {
        let hash = self.keys.token_hash(token.as_bytes());
        match self.administrators.iter().find(|known| same_secret(&hash, &known.hash)) {
            Some(administrator) => Ok(Arc::clone(&administrator.caller)),
            None => Box::pin(self.authenticate_for_account(token)).await,
        }
    }

    async fn verify(&self, text: &str, id: TokenId, secret: Zeroizing<[u8; 32]>) -> Result<Arc<Known>> {
        let known = self.known.get(&id, |_| self.load(id)).await?;
        if !same_secret(&self.keys.token_hash(&*secret), &known.hash) {
            return Err(invalid());
        }
        known.shown.get_or_init(|| Secret::new(text.to_owned()));
        if known.is_live(self.clock.now()) {
            self.note_use(id).await;
        }
        Ok(known)
    }

    /// Notes a use beside the call, which does not wait for it. What is not noted is lost.
    async fn note_use(&self, id: TokenId) {
        if !self.noted.entry(id).or_insert(()).await.is_fresh() {
            return;
        }
        let (records, now) = (self.records.clone(), self.clock.now());
        self.tasks.spawn(async move {
            if let Err(error) = records.note_use(id, now).await {
                tracing::debug!(token = %id, %error, "the use of a token was not noted");
            }
        });
    }

    /// A live token of this id, at most a second old.
    pub(super) async fn live(&self, id: TokenId) -> Result<Arc<Known>> {
        let known = self.known.get(&id, |_| self.load(id)).await?;
        if known.is_live(self.clock.now()) { Ok(known) } else { Err(invalid()) }
    }

    /// The API token that somebody shows, and when it ends. An administrator that is not in the store shows none, and may be
    /// known to one node alone.
    pub async fn shown_by(&self, caller: &Caller) -> Result<Option<(TokenId, Option<Timestamp>)>> {
        if caller.token.0.is_nil() {
            return Ok(None);
        }
        Ok(Some((caller.token, self.live(caller.token).await?.expires_at)))
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
        let caller =
            Caller { environment: token.environment_id, token: id, actor: token.name, scopes: token.scopes, bound: None };
        Ok(Arc::new(Known { caller: Arc::new(caller), hash, expires_at: token.expires_at, shown: OnceLock::new() }))
    }

    /// Makes a token; its text is never shown again.
    pub async fn create(&self, environment: EnvironmentId, new: NewToken) -> Result<(ApiToken, TokenText)> {
        self.create_as(TokenId::generate(), environment, new, None).await
    }

    /// Makes the token of a caller's write that can be repeated. What a run before may have left, whose text nobody has seen, is
    /// replaced.
    pub async fn create_in(&self, run: Run, by: &Caller, new: NewToken) -> Result<(ApiToken, TokenText)> {
        let id = TokenId(run.id);
        if run.again {
            self.records.revoke(id, by.environment).await?;
            self.known.forget(&id).await;
        }
        self.create_as(id, by.environment, new, Some(by.actor.clone())).await
    }

    async fn create_as(
        &self,
        id: TokenId,
        environment: EnvironmentId,
        new: NewToken,
        created_by: Option<String>,
    ) -> Result<(ApiToken, TokenText)> {
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
        let record = TokenRecord { token: token.clone(), hash, mark, created_by };
        self.records.create(&record).await?;
        self.refuse_late(&token).await?;
        Ok((token, text))
    }

    /// Takes a token back that was made while its environment ended: one that is seen neither here nor there, where the list of
    /// tokens is read after the environment is gone, does not come about. Nobody has seen its text.
    async fn refuse_late(&self, token: &ApiToken) -> Result<()> {
        let stands = self.records.installation().has_environment(token.environment_id).await;
        if matches!(stands, Ok(true)) {
            return Ok(());
        }
        let revoked = self.records.revoke(token.id, token.environment_id).await;
        self.known.forget(&token.id).await;
        stands?;
        revoked?;
        Err(Error::new(Code::NotFound, "The environment was ended meanwhile; no token was made."))
    }

    fn mark(&self, token: &ApiToken, hash: &str) -> Result<String> {
        let record = serde_json::to_vec(&(token, hash)).map_err(Error::internal)?;
        Ok(BASE64_STANDARD.encode(self.keys.token_mark(&record)))
    }

    /// Tokens of the environment in id order; the second value continues the list.
    pub async fn list(&self, environment: EnvironmentId, query: ListTokens) -> Result<(Vec<ShownToken>, Option<TokenId>)> {
        let (listed, next) = self.readable(environment, query).await?;
        Ok((listed.whole()?, next))
    }

    /// The same of those that this release can read.
    pub async fn readable(&self, environment: EnvironmentId, query: ListTokens) -> Result<(Listed<ShownToken>, Option<TokenId>)> {
        if query.environment.as_ref().is_some_and(|wanted| wanted.parse() != Ok(environment)) {
            return Ok((Listed { records: Vec::new(), unreadable: 0 }, None));
        }
        let at_once = if query.name.is_some() { PAGE } else { PAGE.min(query.limit + 1) };
        let (mut found, mut unreadable, mut after, mut is_last) = (Vec::new(), 0, query.after, false);
        while !is_last && found.len() <= query.limit {
            let Listed { records: page, unreadable: more } = self.records.readable(environment, after, at_once).await?;
            unreadable += more;
            is_last = page.len() < at_once;
            after = page.last().map(|record| record.token.id);
            let is_wanted = |record: &TokenRecord| query.name.as_ref().is_none_or(|name| *name == record.token.name);
            found.extend(page.into_iter().filter(is_wanted));
        }
        let more = found.len() > query.limit;
        found.truncate(query.limit);
        let next = found.last().filter(|_| more).map(|last| last.token.id);
        Ok((Listed { records: self.show(found).await?, unreadable }, next))
    }

    async fn show(&self, records: Vec<TokenRecord>) -> Result<Vec<ShownToken>> {
        let ids: Vec<_> = records.iter().map(|record| record.token.id).collect();
        let used = self.records.last_uses(&ids).await?;
        let shown = |(record, last_used_at): (TokenRecord, _)| {
            let TokenRecord { token, created_by, .. } = record;
            ShownToken { token, created_by, last_used_at }
        };
        Ok(records.into_iter().zip(used).map(shown).collect())
    }

    /// One token, as it is shown.
    pub async fn get(&self, environment: EnvironmentId, id: &str) -> Result<ShownToken> {
        let record = self.find(environment, id).await?;
        self.show(vec![record]).await?.pop().ok_or_else(Error::not_found)
    }

    async fn find(&self, environment: EnvironmentId, id: &str) -> Result<TokenRecord> {
        let id: TokenId = id.parse().map_err(|_| Error::not_found())?;
        if !self.records.listed(environment, id).await? {
            return Err(Error::not_found());
        }
        self.records.get(id).await?.filter(|r| r.token.environment_id == environment).ok_or_else(Error::not_found)
    }

    /// Ends a token.
    pub async fn revoke(&self, environment: EnvironmentId, id: &str) -> Result<()> {
        let token = self.find(environment, id).await?.token;
        self.records.revoke(token.id, environment).await?;
        self.known.forget(&token.id).await;
        Ok(())
    }
}

/// The one answer for whatever is no live token.
pub(super) fn invalid() -> Error {
    Error::new(Code::InvalidToken, "The token is missing, unknown, expired or revoked.")
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
