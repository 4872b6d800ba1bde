//! Link tokens: one customer, one try to link, on a page of ours. The text is shown once and kept as a keyed hash; what the
//! link is for is kept sealed, so that whoever writes the store can neither read nor change it.

mod attempt;
mod terms;

use std::{sync::Arc, time::Duration};

use base64::{
    Engine,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use url::Url;
use uuid::Uuid;

pub use self::{
    attempt::{Attempt, Filled, Returned},
    terms::{Bound, DEFAULT_LIFE, LONGEST_LIFE, Link, LinkState, NewLink, Session, View},
};
use super::{
    Accounts, Audit, Installed, Installs, Tokens,
    accounts::context::check_preset,
    authorize::{Authorizations, Begun},
    installs::disabled,
    lease::LEASE,
};
use crate::{
    connector::Connector,
    error::{Code, Error, Result},
    model::{Account, Clock, EnvironmentId, Later, LinkId, Slug, Tasks},
    store::{Hold, StoreError, repo},
    vault::{LinkText, SealMark, SystemKeys, same_secret},
};

/// How long a link is known after its end: whoever opened it late is told so where it was opened from.
const REMEMBERED: SignedDuration = SignedDuration::from_hours(1);
/// The longest life of one opening of the page.
const OPENED_FOR: SignedDuration = SignedDuration::from_hours(2);
/// How often a change begins again because the link was used meanwhile.
const TRIES: usize = 5;
/// Most ways to a vendor that wait for their browser at once.
const MOST_WAYS: usize = 8;

/// A link token that was just made.
#[derive(Debug)]
pub struct MadeLink {
    /// By which it is cancelled.
    pub id: LinkId,
    /// Its text, never shown again.
    pub text: LinkText,
    /// When it ends by itself.
    pub expires_at: Timestamp,
}

/// Link tokens.
#[derive(Clone)]
pub struct Links {
    records: repo::Links,
    keys: Arc<SystemKeys>,
    accounts: Arc<Accounts>,
    tokens: Arc<Tokens>,
    authorizations: Arc<Authorizations>,
    installs: Arc<Installs>,
    audit: Arc<Audit>,
    tasks: Tasks,
    clock: Arc<dyn Clock>,
}

impl Links {
    /// Over the records, what links accounts, and what links are made with.
    pub fn new(
        records: repo::Links,
        keys: Arc<SystemKeys>,
        (accounts, tokens): (Arc<Accounts>, Arc<Tokens>),
        authorizations: Arc<Authorizations>,
        (installs, audit): (Arc<Installs>, Arc<Audit>),
        (tasks, clock): (Tasks, Arc<dyn Clock>),
    ) -> Self {
        Self { records, keys, accounts, tokens, authorizations, installs, audit, tasks, clock }
    }

    /// Makes a link token.
    pub async fn create(&self, environment: EnvironmentId, new: NewLink) -> Result<MadeLink> {
        new.check()?;
        let now = self.clock.now();
        let expires_at = new.end(now)?;
        let (tenant_id, relinked) = self.whom(environment, &new).await?;
        let integrations = self.integrations(&new, relinked.as_ref())?;
        let usable = self.usable(environment, integrations.as_deref()).await?;
        if integrations.is_some() {
            self.check_context(&usable, &new)?;
        }
        let (text, secret) = LinkText::generate();
        let (id, hash) = self.named(&*secret);
        let link = Link {
            id,
            hash: BASE64_STANDARD.encode(hash),
            environment,
            tenant_id,
            relinks: relinked.map(|account| account.id),
            integrations,
            scopes: new.scopes,
            context: new.context,
            redirect_uri: new.redirect_uri,
            origins: new.origins,
            keeps_context: new.persist_previous_context.unwrap_or(true),
            is_sandbox: new.is_sandbox,
            expires_at,
            made_with: new.maker.map(|(id, _)| id),
            ways: Vec::new(),
            is_storing: false,
            state: LinkState::Open,
            later: Later::default(),
        };
        self.records.create(id, environment, self.seal(&link)?, self.remaining(&link)).await?;
        Ok(MadeLink { id, text, expires_at })
    }

    /// The label of the account to be, or the account that is there.
    async fn whom(&self, environment: EnvironmentId, new: &NewLink) -> Result<(String, Option<Account>)> {
        match (&new.tenant_id, &new.integrated_account_id) {
            (Some(tenant_id), None) => {
                super::accounts::check_tenant(tenant_id)?;
                Ok((tenant_id.clone(), None))
            }
            (None, Some(id)) => {
                let account = self.accounts.get(environment, id).await.map_err(|error| match error.code() {
                    Code::NotFound => error.field("integrated_account_id"),
                    _ => error,
                })?;
                Ok((account.tenant_id.clone(), Some(account)))
            }
            _ => Err(terms::wrong(
                "tenant_id",
                "stands alone for a new account, `integrated_account_id` alone for one that is linked anew: exactly one of both",
            )),
        }
    }

    fn integrations(&self, new: &NewLink, relinked: Option<&Account>) -> Result<Option<Vec<Slug>>> {
        let catalog = self.installs.catalog().load();
        let mut slugs = Vec::new();
        for name in new.integrations.iter().flatten() {
            let Some(connector) = catalog.get(name) else {
                let known: Vec<&str> = catalog.all().map(|connector| connector.slug.as_str()).collect();
                let name: String = name.chars().take(64).collect();
                return Err(terms::wrong("integrations", &format!("names `{name}`; there are: {}", known.join(", "))));
            };
            slugs.push(connector.slug.clone());
        }
        let Some(account) = relinked else { return Ok(new.integrations.is_some().then_some(slugs)) };
        if !slugs.is_empty() && !slugs.contains(&account.connector) {
            let what = format!("leaves out `{}`, which this account is of", account.connector);
            return Err(terms::wrong("integrations", &what));
        }
        Ok(Some(vec![account.connector.clone()]))
    }

    /// The connectors in use of those that are allowed; a link by which nothing can be linked is none.
    async fn usable(&self, environment: EnvironmentId, allowed: Option<&[Slug]>) -> Result<Vec<Arc<Connector>>> {
        let is_usable = |installed: &Installed| {
            installed.install.is_in_use() && allowed.is_none_or(|allowed| allowed.contains(&installed.connector.slug))
        };
        let installed = self.installs.list(environment).await?.records.into_iter().filter(is_usable);
        let usable: Vec<_> = installed.map(|installed| installed.connector).collect();
        if usable.is_empty() {
            let only = allowed.and_then(|allowed| self.connector(allowed.first().filter(|_| allowed.len() == 1)?.as_str()));
            let none =
                || Error::new(Code::IntegrationDisabled, "All that this link could connect is switched off in this environment.");
            return Err(only.map_or_else(none, |only| disabled(&only)).field("integrations"));
        }
        Ok(usable)
    }

    /// Refuses fields and labels that no customer could mend on the page.
    fn check_context(&self, usable: &[Arc<Connector>], new: &NewLink) -> Result<()> {
        let methods: Vec<_> = usable.iter().flat_map(|connector| &connector.methods).map(|method| &**method).collect();
        let checked = check_preset(&methods, &new.context, &|url| self.accounts.guard.names(url));
        checked.map_err(|error| {
            let field = error.field_name().unwrap_or("context").to_owned();
            Error::new(Code::InvalidBody, error.detail().to_owned()).field(field)
        })
    }

    /// Takes a link back: nobody can use it any more, and a try that runs stores nothing. One that was used stays used; of one
    /// whose account is just being stored that is said.
    pub async fn cancel(&self, environment: EnvironmentId, id: &str) -> Result<()> {
        let id: LinkId = id.parse().map_err(|_| Error::not_found())?;
        if !self.records.listed(environment, id).await? {
            return Err(Error::not_found());
        }
        for _ in 0..TRIES {
            let found = self.load(id).await?.filter(|(link, _)| link.environment == environment);
            let (mut link, version) = found.ok_or_else(Error::not_found)?;
            // A node that was lost while it stored has the link in its hands no more.
            let idle = match link.is_being_stored() {
                true => Some(self.records.hold(id, LEASE).await?.ok_or_else(being_stored)?),
                false => None,
            };
            if idle.is_none() && !link.is_live(self.clock.now()) {
                return Ok(());
            }
            link.state = LinkState::Cancelled;
            let ended = self.records.end(id, (self.seal(&link)?, version), self.remaining(&link), idle.as_ref()).await;
            if let Some(hold) = &idle {
                // A lock that cannot be given back ends by itself.
                let _ = self.records.release(hold).await;
            }
            match ended {
                Err(StoreError::Conflict(_)) => {}
                done => return Ok(done?),
            }
        }
        Err(Error::new(Code::Busy, "The link is being used all the time; nothing was written. Send the request again."))
    }

    /// The link of a token's text, used up or not, and a new opening of its page. It claims nothing: scanners of mail follow
    /// links too.
    pub async fn open(&self, text: &str, view: View) -> Result<(Link, Session)> {
        let secret = LinkText::parse(text).ok_or_else(invalid)?;
        let (id, hash) = self.named(&*secret);
        let (link, _) = self.load(id).await?.ok_or_else(invalid)?;
        let kept = BASE64_STANDARD.decode(&link.hash).unwrap_or_default();
        if !same_secret(&kept, &hash) {
            return Err(invalid());
        }
        let until = link.expires_at.min(self.clock.now() + OPENED_FOR);
        Ok((link, Session { link: id, id: Uuid::now_v7(), view, until }))
    }

    /// The link of an opening, used up or not.
    pub async fn resume(&self, sealed: &str) -> Result<(Link, Session)> {
        let session = self.open_session(sealed).filter(|session| self.clock.now() < session.until).ok_or_else(invalid)?;
        let (link, _) = self.load(session.link).await?.ok_or_else(invalid)?;
        Ok((link, session))
    }

    /// The same browser opens the page once more: it stays the same session.
    pub fn go_on(&self, session: &mut Session, shown: Option<&str>) {
        if let Some(before) = shown.and_then(|sealed| self.open_session(sealed)).filter(|before| before.link == session.link) {
            session.id = before.id;
        }
    }

    /// Whether a cookie is of this session.
    pub fn is_of(&self, session: &Session, shown: Option<&str>) -> bool {
        let shown = shown.and_then(|sealed| self.open_session(sealed));
        shown.is_some_and(|shown| shown.link == session.link && shown.id == session.id)
    }

    /// Refuses a link of which no account can come any more, or not in this browser.
    pub async fn check(&self, link: &Link, session: Option<&Session>) -> Result<()> {
        let elsewhere = session.zip(link.bound()).is_some_and(|(session, by)| session.id != by.session);
        match link.is_live(self.clock.now()) && !elsewhere {
            true => self.check_maker(link).await,
            false => Err(invalid()),
        }
    }

    /// Refuses a link whose environment has ended, or the API token it was made with.
    async fn check_maker(&self, link: &Link) -> Result<()> {
        if !self.accounts.stands(link.environment).await? {
            return Err(invalid());
        }
        let Some(made_with) = link.made_with else { return Ok(()) };
        match self.tokens.live(made_with).await {
            Ok(token) if token.caller.environment == link.environment => Ok(()),
            Ok(_) => Err(invalid()),
            Err(error) if error.code() == Code::InvalidToken => Err(invalid().because(error)),
            Err(error) => Err(error),
        }
    }

    /// Why no account can come of a link any more in this browser, if none can; the account that it links anew may be gone, too.
    pub async fn why_over(&self, link: &Link, session: &Session) -> Result<Option<Error>> {
        match self.check(link, Some(session)).await {
            Err(error) if error.code() == Code::InvalidToken => return Ok(Some(error)),
            checked => checked?,
        }
        match self.relinked(link).await {
            Err(error) if error.code() == Code::InvalidToken => Ok(Some(error)),
            found => found.map(|_| None),
        }
    }

    /// The text of an opening for its cookie and its forms.
    pub fn seal_session(&self, session: &Session) -> Result<String> {
        let plain = serde_json::to_vec(session).map_err(Error::internal)?;
        Ok(BASE64_URL_SAFE_NO_PAD.encode(self.keys.seal_for(SealMark::Link, &[b"session"], &plain)))
    }

    fn open_session(&self, sealed: &str) -> Option<Session> {
        let sealed = BASE64_URL_SAFE_NO_PAD.decode(sealed).ok()?;
        let plain = self.keys.open_for(SealMark::Link, &[b"session"], &sealed).ok()?;
        serde_json::from_slice(&plain).ok()
    }

    /// The seconds an opening goes on.
    pub fn left(&self, session: &Session) -> i64 {
        (session.until - self.clock.now()).get_seconds().max(1)
    }

    /// The connectors to choose from, by title: those in use, and of those that the catalog hides the ones asked for by name.
    pub async fn offered(&self, link: &Link, view: &View) -> Result<Vec<Arc<Connector>>> {
        let wanted = |Installed { connector, install, .. }: &Installed| {
            let slug = connector.slug.as_str();
            let narrowed = view.integrations.is_empty() || view.integrations.iter().any(|name| name == slug);
            let is_named =
                link.integrations.is_some() || view.integration.as_deref() == Some(slug) || !view.integrations.is_empty();
            link.allows(&connector.slug) && narrowed && install.is_in_use() && (install.show_in_catalog || is_named)
        };
        let installed = self.installs.list(link.environment).await?.records;
        let mut offered: Vec<_> = installed.into_iter().filter(wanted).map(|installed| installed.connector).collect();
        offered.sort_by_key(|connector| connector.file.title.to_lowercase());
        Ok(offered)
    }

    /// Where the connector's vendor sends browsers back to, to be registered there.
    pub fn redirect_url(&self, connector: &Connector) -> Result<Url> {
        self.authorizations.redirect_url(connector.slug.as_str())
    }

    /// A connector that is loaded, whether or not a link allows it.
    pub fn connector(&self, slug: &str) -> Option<Arc<Connector>> {
        self.installs.catalog().load().get(slug).cloned()
    }

    /// The account that is linked anew.
    pub async fn relinked(&self, link: &Link) -> Result<Option<Account>> {
        let Some(id) = link.relinks else { return Ok(None) };
        match self.accounts.get(link.environment, &id.to_string()).await {
            Ok(account) => Ok(Some(account)),
            Err(error) if error.code() == Code::NotFound => Err(invalid().because("the account was deleted")),
            Err(error) => Err(error),
        }
    }

    /// Keeps a changed link, under the right to use it.
    async fn keep(&self, link: &Link, version: u64, hold: &Hold) -> Result<u64> {
        match self.records.update(link.id, (self.seal(link)?, version), self.remaining(link), hold).await {
            Err(error @ (StoreError::Conflict(_) | StoreError::Fenced)) => match self.load(link.id).await? {
                Some((now, _)) if matches!(now.state, LinkState::Cancelled) => Err(invalid()),
                _ => Err(attempt::in_use().because(error)),
            },
            kept => Ok(kept?),
        }
    }

    /// Keeps that a browser is on its way to a vendor; of too many ways the oldest end.
    async fn keep_way(&self, (mut link, version): (Link, u64), hold: &Hold, begun: &Begun) -> Result<()> {
        link.ways.push(begun.name.clone());
        let too_many = link.ways.len().saturating_sub(MOST_WAYS);
        for name in link.ways.drain(..too_many) {
            self.authorizations.forget(&name).await?;
        }
        self.keep(&link, version, hold).await.map(drop)
    }

    fn named(&self, secret: &[u8]) -> (LinkId, [u8; 32]) {
        let hash = self.keys.link_hash(secret);
        let mut id = [0; 16];
        id.copy_from_slice(&hash[..16]);
        (LinkId(Uuid::from_bytes(id)), hash)
    }

    async fn load(&self, id: LinkId) -> Result<Option<(Link, u64)>> {
        let Some(entry) = self.records.get(id).await? else { return Ok(None) };
        let opened = self.keys.open_for(SealMark::Link, &[b"record", id.0.as_bytes()], &entry.value);
        let plain = opened.map_err(|why| {
            tracing::error!(link = %id, "the stored record of a link was moved or changed; the link is refused");
            invalid().because(why)
        })?;
        let link = serde_json::from_slice(&plain).map_err(|error| {
            let why = format!("a link is not a record of this version (line {}, column {})", error.line(), error.column());
            Error::from(StoreError::Later(why))
        })?;
        Ok(Some((link, entry.version)))
    }

    fn seal(&self, link: &Link) -> Result<Bytes> {
        let plain = zeroize::Zeroizing::new(serde_json::to_vec(link).map_err(Error::internal)?);
        Ok(self.keys.seal_for(SealMark::Link, &[b"record", link.id.0.as_bytes()], &plain).into())
    }

    /// How long the record is kept from now on.
    fn remaining(&self, link: &Link) -> Duration {
        let end = link.expires_at + REMEMBERED;
        let left = end.duration_since(self.clock.now()).as_secs().max(1);
        Duration::from_secs(left.unsigned_abs())
    }
}

/// It is too late to take a link back.
fn being_stored() -> Error {
    Error::new(
        Code::Conflict,
        "The account of this link is being stored at this moment; the link was not taken back. Look whether the account is there.",
    )
}

/// The one answer for links that are unknown, used up, taken back, or another browser's.
fn invalid() -> Error {
    Error::new(
        Code::InvalidToken,
        "This link cannot be used: it has expired, was used already, is open in another browser, or is not whole. Ask for a new one \
         where you got it.",
    )
    .status(410)
}
