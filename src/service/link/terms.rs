//! What a link is for, as the caller asked for it and as it is kept.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use url::{Host, Url};
use uuid::Uuid;

use crate::{
    error::{Code, Error, Result},
    model::{AccountId, EnvironmentId, Later, LinkId, Slug, TokenId},
};

/// How long a link can be used when nothing is said, seconds.
pub const DEFAULT_LIFE: i64 = 30 * 60;
/// The longest, seconds.
pub const LONGEST_LIFE: i64 = 24 * 60 * 60;
/// Longest `redirect_uri`.
const LONGEST_ADDRESS: usize = 2000;
/// Most origins, connectors or scopes of one link.
const MOST: usize = 50;

/// What a new link token shall be for. May hold secrets, therefore no `Debug`.
#[derive(Default)]
pub struct NewLink {
    /// The caller's label of the end customer; for a new account.
    pub tenant_id: Option<String>,
    /// The account that is linked anew, and keeps its id.
    pub integrated_account_id: Option<String>,
    /// The connectors that may be linked; all when left out.
    pub integrations: Option<Vec<String>>,
    /// In place of the connector's own scopes.
    pub scopes: Option<Vec<String>>,
    /// Fields and context that win over what is filled in.
    pub context: Map<String, Value>,
    /// Where the browser goes at the end.
    pub redirect_uri: Option<String>,
    /// Who may frame the page and is told how it ended.
    pub origins: Vec<String>,
    /// Whether the context the account has stays; yes when left out.
    pub persist_previous_context: Option<bool>,
    /// Whether the account is one to rehearse with.
    pub is_sandbox: Option<bool>,
    /// Seconds.
    pub expires_in: Option<i64>,
    /// The API token it is made with, and when that ends; none where an administrator makes it.
    pub maker: Option<(TokenId, Option<Timestamp>)>,
}

/// A link as it is kept. May hold secrets, therefore no `Debug`.
#[derive(Clone, Serialize, Deserialize)]
pub struct Link {
    /// The name its record is found by.
    pub id: LinkId,
    /// Base64 of the keyed hash of its text.
    pub hash: String,
    /// The wall.
    pub environment: EnvironmentId,
    /// The label of a new account.
    pub tenant_id: String,
    /// The account that is linked anew.
    #[serde(default)]
    pub relinks: Option<AccountId>,
    /// The connectors that may be linked; all when there are none.
    #[serde(default)]
    pub integrations: Option<Vec<Slug>>,
    /// In place of the connector's own scopes.
    #[serde(default)]
    pub scopes: Option<Vec<String>>,
    /// Wins over what is filled in.
    #[serde(default)]
    pub context: Map<String, Value>,
    /// Where the browser goes at the end.
    #[serde(default)]
    pub redirect_uri: Option<String>,
    /// Who may frame the page and is told how it ended.
    #[serde(default)]
    pub origins: Vec<String>,
    /// Whether the context the account has stays.
    pub keeps_context: bool,
    /// Whether the account is one to rehearse with; what it was, or not, when nothing is said.
    #[serde(default)]
    pub is_sandbox: Option<bool>,
    /// When it ends by itself.
    pub expires_at: Timestamp,
    /// The API token it was made with, and ends with; links of an earlier release do not say.
    #[serde(default)]
    pub made_with: Option<TokenId>,
    /// The last ways to a vendor that its browser went, by the names under which they are kept.
    #[serde(default)]
    pub ways: Vec<String>,
    /// Its account is being stored at this moment, by whoever has the right to use it.
    #[serde(default)]
    pub is_storing: bool,
    /// Where in its life it is.
    pub state: LinkState,
    /// Members that a later release wrote.
    #[serde(flatten)]
    pub later: Later,
}

/// The life of a link: one account comes of it, or none.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkState {
    /// Nobody has filled in anything.
    Open,
    /// One browser uses it.
    Bound(Bound),
    /// The account was linked.
    Used {
        /// By whom, and which.
        by: Bound,
        /// The connector.
        integration: Slug,
    },
    /// The caller took it back.
    Cancelled,
}

/// The one browser that may use the link, and the account that comes of it, chosen before the first try so that no second one
/// can come.
#[derive(Clone, Serialize, Deserialize)]
pub struct Bound {
    /// The browser's session.
    pub session: Uuid,
    /// The account to be.
    pub account: AccountId,
}

/// One opening of the page: sealed, in a cookie and in the page's forms.
#[derive(Clone, Serialize, Deserialize)]
pub struct Session {
    /// The link.
    pub link: LinkId,
    /// Tells it from every other opening of the link.
    pub id: Uuid,
    /// How the page was asked for.
    pub view: View,
    /// When it ends.
    pub until: Timestamp,
}

/// How the page was asked for. It narrows what the link allows, and never widens it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    /// It stands in a frame.
    #[serde(default)]
    pub frame: bool,
    /// The connector to begin with.
    #[serde(default)]
    pub integration: Option<String>,
    /// The connectors to choose from; all that the link allows when empty.
    #[serde(default)]
    pub integrations: Vec<String>,
    /// The way to link to begin with.
    #[serde(default)]
    pub auth_format: Option<String>,
    /// No way back to the other connectors.
    #[serde(default)]
    pub no_back: bool,
}

impl Link {
    /// Whether the connector may be linked by it.
    pub fn allows(&self, slug: &Slug) -> bool {
        self.integrations.as_ref().is_none_or(|allowed| allowed.contains(slug))
    }

    /// Whether an account can still come of it.
    pub fn is_live(&self, now: Timestamp) -> bool {
        now < self.expires_at && matches!(self.state, LinkState::Open | LinkState::Bound(_))
    }

    /// Whether its account may be on its way into the store.
    pub(super) fn is_being_stored(&self) -> bool {
        self.is_storing && matches!(self.state, LinkState::Bound(_))
    }

    /// The session that has it, if one has.
    pub fn bound(&self) -> Option<&Bound> {
        match &self.state {
            LinkState::Bound(by) | LinkState::Used { by, .. } => Some(by),
            LinkState::Open | LinkState::Cancelled => None,
        }
    }

    /// The account and connector that this session linked by it.
    pub fn used_by(&self, session: Uuid) -> Option<(AccountId, &Slug)> {
        match &self.state {
            LinkState::Used { by, integration } if by.session == session => Some((by.account, integration)),
            _ => None,
        }
    }
}

impl NewLink {
    /// Everything about it that can be wrong without a look at connectors and accounts.
    pub(super) fn check(&self) -> Result<()> {
        let many = [("integrations", self.integrations.as_deref()), ("scopes", self.scopes.as_deref())];
        for (name, list) in many.into_iter().chain([("origins", Some(self.origins.as_slice()))]) {
            if list.is_some_and(|list| list.len() > MOST) {
                return Err(wrong(name, &format!("takes at most {MOST}")));
            }
        }
        if self.integrations.as_ref().is_some_and(Vec::is_empty) {
            return Err(wrong("integrations", "names at least one connector; leave it out to allow all"));
        }
        if self.scopes.iter().flatten().any(|scope| !is_scope(scope)) {
            return Err(wrong("scopes", "takes words of printable ASCII without blanks, quotes and backslashes"));
        }
        self.redirect_uri.as_deref().map_or(Ok(()), check_redirect)?;
        self.origins.iter().try_for_each(|origin| check_origin(origin))
    }

    /// When it ends by itself: not after what it was made with.
    pub(super) fn end(&self, now: Timestamp) -> Result<Timestamp> {
        let seconds = self.expires_in.unwrap_or(DEFAULT_LIFE);
        if !(1..=LONGEST_LIFE).contains(&seconds) {
            return Err(wrong("expires_in", &format!("takes seconds, from 1 to {LONGEST_LIFE}")));
        }
        let end = now + SignedDuration::from_secs(seconds);
        Ok(self.maker.and_then(|(_, ends)| ends).map_or(end, |ends| ends.min(end)))
    }
}

pub(super) fn wrong(field: &str, what: &str) -> Error {
    Error::new(Code::InvalidBody, format!("`{field}` {what}.")).field(field)
}

/// RFC 6749's scope-token.
fn is_scope(text: &str) -> bool {
    !text.is_empty() && text.len() <= 500 && text.bytes().all(|byte| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e))
}

/// An address that means the same to everybody, browsers included: it is written as a parser writes it.
fn check_redirect(text: &str) -> Result<()> {
    let url = Url::parse(text).ok().filter(|url| text.len() <= LONGEST_ADDRESS && is_as_written(url, text));
    let Some(url) = url.filter(is_safe) else {
        return Err(wrong(
            "redirect_uri",
            "takes one address written plainly, https or http on this machine (localhost, 127.0.0.1, [::1]), without user name and \
             fragment",
        ));
    };
    match url.fragment() {
        None => Ok(()),
        Some(_) => Err(wrong("redirect_uri", "takes no fragment")),
    }
}

/// `scheme://host[:port]` and nothing else; it goes into a header that tells browsers who may frame the page.
fn check_origin(text: &str) -> Result<()> {
    let url = Url::parse(text).ok().filter(is_safe);
    match url.is_some_and(|url| url.origin().ascii_serialization() == text) {
        true => Ok(()),
        false => Err(wrong(
            "origins",
            "takes origins as browsers write them, `https://app.example.com[:port]`, or http on this machine: scheme, host and port \
             without a slash behind them",
        )),
    }
}

fn is_as_written(url: &Url, text: &str) -> bool {
    let bare = url.as_str().strip_suffix('/').filter(|_| url.path() == "/" && url.query().is_none());
    url.as_str() == text || bare == Some(text)
}

fn is_safe(url: &Url) -> bool {
    let plain = |host: &str| host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'));
    let (named, here) = match url.host() {
        Some(Host::Domain(host)) => (plain(host) && !host.ends_with('.'), host == "localhost"),
        Some(Host::Ipv4(address)) => (true, address.is_loopback()),
        Some(Host::Ipv6(address)) => (true, address.is_loopback()),
        None => (false, false),
    };
    let bare = url.username().is_empty() && url.password().is_none() && url.port() != Some(0);
    named && bare && (url.scheme() == "https" || (url.scheme() == "http" && here))
}
