//! The way of a customer's browser to a vendor and back (RFC 6749 §4.1, RFC 9700): what comes back is bound to what was asked, to
//! the browser, to the connector and to the server it was sent to, and counts once.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, OnceLock},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use url::Url;

use super::{Granted, IfThere, Leave, NewAccount, accounts::Accounts};
use crate::{
    error::{Code, Error, Result},
    model::{Account, AccountId, Clock, EnvironmentId, Secret, Warning},
    store::repo,
    upstream::{Authorization, CodeGrant, Way},
    vault::{SealMark, SystemKeys, fingerprint, hex, random_text, same_secret},
};

/// How long a customer may take at the vendor.
const LIFE: Duration = Duration::from_secs(600);
/// Digits of a way's mark.
const MARK: usize = 16;
/// How much of a vendor's sentence is shown.
const SHOWN: usize = 300;

/// What a browser is sent to a vendor for. Holds secrets, therefore no `Debug`.
pub struct AuthorizeAsk {
    /// Behind which wall.
    pub environment: EnvironmentId,
    /// The link session it belongs to, handed back.
    pub link: String,
    /// The browser opens a window of its own for the vendor; handed back.
    pub apart: bool,
    /// Fields, context, and the id for a re-link.
    pub new: NewAccount,
    /// Scopes instead of the connector's.
    pub scopes: Option<Vec<String>>,
}

/// Where the browser goes.
pub struct Begun {
    /// The vendor's page.
    pub url: Url,
    /// What tells this way from others of the same browser: part of its cookie's name.
    pub mark: String,
    /// What is kept of the way is found by it.
    pub name: String,
    /// What binds the browser: a cookie of its own.
    pub binding: Secret,
}

/// What tells a way to a vendor from others of the same browser, without showing the `state` that comes back.
pub fn mark_of(state: &str) -> String {
    mark_in(name_of(state))
}

/// A browser that came back as it was sent. Holds secrets, therefore no `Debug`.
pub struct CameBack {
    pending: Pending,
    answer: VendorsAnswer,
}

impl CameBack {
    /// The link session it belongs to.
    pub fn link(&self) -> &str {
        &self.pending.link
    }

    /// Whether it is in a window of its own.
    pub fn is_apart(&self) -> bool {
        self.pending.apart
    }

    /// The link method it went by.
    pub fn method(&self) -> &str {
        &self.pending.method
    }

    /// What was filled in before it went, secrets too.
    pub fn filled(&self) -> BTreeMap<String, String> {
        let texts = self.pending.context.iter().filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())));
        texts.collect()
    }
}

/// Customers that are agreeing at a vendor just now.
pub struct Authorizations {
    accounts: Arc<Accounts>,
    records: repo::Authorizations,
    keys: Arc<SystemKeys>,
    clock: Arc<dyn Clock>,
    public_url: OnceLock<Url>,
}

/// What is kept meanwhile, sealed to its `state`. Holds secrets, therefore no `Debug`.
#[derive(Serialize, Deserialize)]
struct Pending {
    environment: EnvironmentId,
    link: String,
    #[serde(default)]
    apart: bool,
    tenant_id: String,
    connector: String,
    method: String,
    context: Map<String, Value>,
    /// What of the context is new, where an account keeps its own beside that.
    #[serde(default)]
    says: Option<BTreeSet<String>>,
    is_sandbox: bool,
    id: Option<AccountId>,
    #[serde(default)]
    app: Option<String>,
    verifier: String,
    binding: [u8; 32],
    ends_at: Timestamp,
}

impl Authorizations {
    /// Over the accounts; `public_url` is where browsers reach this gateway, where the operator says so.
    pub fn new(
        accounts: Arc<Accounts>,
        records: repo::Authorizations,
        keys: Arc<SystemKeys>,
        clock: Arc<dyn Clock>,
        public_url: Option<Url>,
    ) -> Self {
        let known = OnceLock::new();
        public_url.map(|url| known.set(url));
        Self { accounts, records, keys, clock, public_url: known }
    }

    /// Where this gateway listens, which browsers use while nobody named a public address.
    pub fn reached_at(&self, address: &str) {
        if let Ok(url) = Url::parse(address) {
            let _ = self.public_url.set(url);
        }
    }

    /// Where vendors send browsers back to, to be registered with them.
    pub fn redirect_url(&self, connector: &str) -> Result<Url> {
        let base = self.public_url.get().map_or("http://localhost", Url::as_str).trim_end_matches('/');
        Url::parse(&format!("{base}/connect/{connector}/callback")).map_err(Error::internal)
    }

    /// Checks the fields and sends the browser on its way.
    pub async fn begin(&self, ask: AuthorizeAsk) -> Result<Begun> {
        let AuthorizeAsk { environment, link, apart, new, scopes } = ask;
        let access = self.accounts.unlinked(environment, &new).await?;
        let (state, verifier, binding) = (random_text(), random_text(), random_text());
        let redirect_url = self.redirect_url(access.connector.slug.as_str())?;
        let way = Way { state: &state, verifier: &verifier, redirect_url: &redirect_url, scopes: scopes.as_deref() };
        let url = Authorization::of(&access)?.url(&way)?;
        let ends_at = self.clock.now().checked_add(SignedDuration::try_from(LIFE).unwrap_or_default());
        let says = (new.if_there == IfThere::Continued).then(|| new.context.keys().cloned().collect());
        let context = self.accounts.whole_context(&new, &access.method).await?;
        let pending = Pending {
            environment,
            link,
            apart,
            tenant_id: new.tenant_id,
            connector: access.connector.slug.to_string(),
            method: new.authentication_method,
            context,
            says,
            is_sandbox: new.is_sandbox,
            id: new.id,
            app: access.app_id().map(str::to_owned),
            verifier: verifier.expose().to_owned(),
            binding: fingerprint(binding.expose().as_bytes()),
            ends_at: ends_at.map_err(Error::internal)?,
        };
        let plain = zeroize::Zeroizing::new(serde_json::to_vec(&pending).map_err(Error::internal)?);
        let sealed = self.keys.seal_for(SealMark::Authorization, &[state.expose().as_bytes()], &plain);
        let name = name_of(state.expose());
        self.records.put(&name, sealed.into(), LIFE).await?;
        Ok(Begun { url, mark: mark_in(name.clone()), name, binding })
    }

    /// Ends a way to a vendor: whoever comes back by it is nobody.
    pub async fn forget(&self, name: &str) -> Result<()> {
        self.records.take(name).await?;
        Ok(())
    }

    /// Takes a browser back, once. An error is one that belongs to no link session: `state` unknown, used, of another browser or
    /// connector.
    pub async fn take_back(&self, connector: &str, query: Vec<(String, String)>, binding: Option<&str>) -> Result<CameBack> {
        let answer = VendorsAnswer::read(query)?;
        let sealed = self.records.take(&name_of(answer.state.expose())).await?.ok_or_else(stray)?;
        let plain = self
            .keys
            .open_for(SealMark::Authorization, &[answer.state.expose().as_bytes()], &sealed)
            .map_err(|why| stray().because(why))?;
        let pending: Pending = serde_json::from_slice(&plain).map_err(|why| stray().because(why))?;
        let is_its_browser = binding.is_some_and(|binding| same_secret(&fingerprint(binding.as_bytes()), &pending.binding));
        if !is_its_browser || pending.connector != connector || self.clock.now() >= pending.ends_at {
            return Err(stray());
        }
        Ok(CameBack { pending, answer })
    }

    /// Links what the customer agreed to, if there is leave to when the vendor has said yes; with `relinks` an account that stands
    /// already, or none.
    pub async fn link(&self, came_back: CameBack, (relinks, leave): (bool, Leave)) -> Result<(Account, Vec<Warning>)> {
        let CameBack { mut pending, answer } = came_back;
        if let Some(says) = &pending.says {
            pending.context.retain(|name, _| says.contains(name));
        }
        let redirect_url = self.redirect_url(&pending.connector)?;
        let mut new = NewAccount {
            tenant_id: pending.tenant_id,
            integration: pending.connector,
            authentication_method: pending.method,
            context: pending.context,
            is_sandbox: pending.is_sandbox,
            id: pending.id,
            if_there: if pending.says.is_some() { IfThere::Continued } else { IfThere::LinkedAnew },
            grant: None,
        };
        let access = self.accounts.unlinked(pending.environment, &new).await?;
        if !Authorization::of(&access)?.is_answer_of(answer.issuer.as_deref()) {
            return Err(refused("The answer did not come from the server the customer was sent to, or does not say so."));
        }
        let code = answer.code?;
        let verifier = Secret::new(pending.verifier);
        new.grant = Some(Granted::Code(CodeGrant { code, verifier, redirect_url, app: pending.app }));
        Box::pin(self.accounts.link_by(pending.environment, new, (relinks, leave))).await
    }
}

/// What the vendor gave the browser to bring back. Holds secrets, therefore no `Debug`.
struct VendorsAnswer {
    state: Secret,
    issuer: Option<String>,
    code: Result<Secret>,
}

impl VendorsAnswer {
    fn read(query: Vec<(String, String)>) -> Result<Self> {
        let one = |name: &str| {
            let mut values = query.iter().filter(|(given, _)| given == name).map(|(_, value)| value.as_str());
            let first = values.next();
            if values.next().is_none() { Ok(first) } else { Err(stray()) }
        };
        // An empty `iss` is no server's, and not as good as none.
        let issuer = one("iss")?.map(str::to_owned);
        let one = |name: &str| one(name).map(|first| first.filter(|text| !text.is_empty()));
        let state = one("state")?.ok_or_else(stray)?;
        let (code, error, said) = (one("code")?, one("error")?, one("error_description")?);
        let code = match (code, error) {
            (Some(code), None) => Ok(Secret::new(code.to_owned())),
            (_, Some("access_denied")) => Err(refused(&format!("Access was declined on the vendor's page{}.", in_words(said)))),
            (_, Some(word)) => Err(refused(&format!("The vendor says: {}{}.", plain(word), in_words(said)))),
            (None, None) => Err(refused("The vendor sent the browser back without a code.")),
        };
        Ok(Self { state: Secret::new(state.to_owned()), issuer, code })
    }
}

fn plain(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(SHOWN).collect()
}

/// The vendor's own words behind a sentence of ours.
fn in_words(said: Option<&str>) -> String {
    said.map_or_else(String::new, |said| format!(" ({})", plain(said).trim_end_matches('.')))
}

fn name_of(state: &str) -> String {
    hex(&fingerprint(state.as_bytes()))
}

fn mark_in(mut name: String) -> String {
    name.truncate(MARK);
    name
}

fn stray() -> Error {
    let detail =
        "The way back from the vendor was used already, took too long, or belongs to another browser; open the link again.";
    Error::new(Code::AuthorizationRefused, detail).field("state")
}

fn refused(detail: &str) -> Error {
    Error::new(Code::AuthorizationRefused, detail)
}
