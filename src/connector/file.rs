//! The connector files as they are written. The JSON Schemas under `connectors/_schema/` are generated from these types.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

pub use super::{
    resource_file::{CompleteFile, FilterFile, FromList, GetFile, Having, ListFile, PageFile, Per, ResourceFile},
    token_file::{AssertionFile, AuthorizeFile, BodyForm, ClientAuth, Grant, LoginFile, SignedBy, TokenAnswerFile, TokenFile},
};
use crate::{
    mapping::OneOrMany,
    model::{Resource, Slug},
};

/// `connector.yaml`: who the vendor is and how to connect. Keys of [`Access`] at the top are the default for every link
/// method; a link entry replaces them whole key by whole key.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConnectorFile {
    /// The slug; equal to the folder's name.
    pub connector: Slug,
    /// The version of this format; 1.
    pub format: u32,
    /// The vendor's name for people.
    pub title: String,
    /// For example `security`.
    pub category: String,
    /// Product names people search for.
    #[serde(default)]
    pub products: Vec<String>,
    /// The vendor's site.
    pub homepage: Option<String>,
    /// Where customers get help.
    pub support_url: Option<String>,
    /// Where customers sign in.
    pub portal_url: Option<String>,
    /// The API's documentation.
    pub docs_url: Option<String>,
    /// How far it can be trusted; default of the link methods.
    pub level: Level,
    /// Ways to connect.
    pub link: Vec<LinkFile>,
    /// Defaults for all of them.
    #[serde(flatten)]
    pub access: Access,
}

/// How far a connector can be trusted; each level has machine-checked rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, serde::Serialize, JsonSchema, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Loads.
    Draft,
    /// Every mapping is hit by a fixture.
    Beta,
    /// Fixtures were recorded from the vendor.
    Stable,
}

/// One way to connect.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LinkFile {
    /// The `authentication_method` of accounts linked this way.
    pub method: String,
    /// Its name for people.
    pub title: Option<String>,
    /// What it needs and gives, in a sentence.
    pub description: Option<String>,
    /// Overrides the connector's level.
    pub level: Option<Level>,
    /// What the customer fills in.
    pub fields: Vec<FieldFile>,
    /// Exactly one of these groups of fields must be given whole.
    #[serde(default)]
    pub one_of: Vec<Vec<String>>,
    /// Take the resource files of another connector; own files merge into them per target field.
    pub like: Option<Slug>,
    /// Resources this method offers; all when left out.
    pub resources: Option<Vec<Resource>>,
    /// Replaces top-level keys.
    #[serde(flatten)]
    pub access: Access,
}

/// Where and how requests are sent. All optional: the link entry's key wins over the top's.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
pub struct Access {
    /// The protocol.
    pub transport: Option<Transport>,
    /// Every origin that is ever called, by name; templates over the fields.
    pub hosts: Option<BTreeMap<String, String>>,
    /// The base address. The first template whose fields are all given is used.
    pub base: Option<OneOrMany<String>>,
    /// Headers of every request.
    pub headers: Option<BTreeMap<String, String>>,
    /// Where the credential goes.
    pub auth: Option<AuthFile>,
    /// Who gives the access token that `auth` sends as `{access_token}`.
    pub token: Option<TokenFile>,
    /// Time, size and rate.
    pub limits: Option<LimitsFile>,
    /// What the vendor's errors mean; first match wins; looked at for every answer, 2xx too.
    pub errors: Option<Vec<ErrorRule>>,
    /// What passes through the proxies.
    pub proxy: Option<ProxyFile>,
    /// How a credential is verified.
    pub test: Option<TestFile>,
}

/// The protocols; what a declaration cannot say is a transport with a module of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    /// Plain HTTP with JSON.
    Rest,
    /// HTTP with SCIM's ServiceProviderConfig, paging and errors.
    Scim,
    /// Keeper Commander Service Mode: a queue of commands.
    KeeperCommander,
}

impl Transport {
    /// Fields its module reads by name, beyond what templates use.
    pub const fn reads(self) -> &'static [&'static str] {
        match self {
            Transport::Rest | Transport::Scim => &[],
            Transport::KeeperCommander => &["encryption_key", "company_id"],
        }
    }
}

/// A field of the link form.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FieldFile {
    /// Its name in `context` and in templates.
    pub name: String,
    /// Its label.
    pub title: String,
    /// What it takes.
    pub kind: FieldKind,
    /// Whether it must be given (a field of `one_of` need not).
    #[serde(default = "yes")]
    pub required: bool,
    /// For `choice`: the word the customer picks and what templates see.
    #[serde(default)]
    pub values: BTreeMap<String, String>,
    /// For addresses: only these hosts and their sub-domains (and what the operator allows, but not where their OAuth app is
    /// shown).
    #[serde(default)]
    pub hosts: Vec<String>,
    /// Used when nothing is given.
    pub default: Option<String>,
    /// A sentence below the field.
    pub help: Option<String>,
    /// Exact number of characters, for keys of fixed length.
    pub length: Option<usize>,
}

fn yes() -> bool {
    true
}

/// Kinds normalise and validate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, serde::Serialize, JsonSchema, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FieldKind {
    /// Text that is not secret.
    Text,
    /// Text that is: sealed, never shown again.
    Secret,
    /// A private key in PEM, over several lines or with `\\n` between them: sealed like a secret.
    PrivateKey,
    /// `https://host[:port]`, nothing behind it.
    Origin,
    /// `https://host[:port]/path`, without query.
    BaseUrl,
    /// `https://host[:port]/path`, a query too, exactly as given: an address that is called as a whole.
    Endpoint,
    /// A whole number.
    Integer,
    /// A UUID.
    Uuid,
    /// One of `values`.
    Choice,
    /// The name of an HTTP header.
    HeaderName,
    /// X.509 certificates in PEM; only of a field the loader adds.
    #[schemars(skip)]
    Certificates,
    /// The SHA-256 fingerprint of a certificate; only of a field the loader adds.
    #[schemars(skip)]
    Fingerprint,
}

impl FieldKind {
    /// Whether its value is sealed and never shown.
    pub const fn is_secret(self) -> bool {
        matches!(self, FieldKind::Secret | FieldKind::PrivateKey)
    }

    /// Whether it takes an address.
    pub const fn is_address(self) -> bool {
        matches!(self, FieldKind::Origin | FieldKind::BaseUrl | FieldKind::Endpoint)
    }
}

/// Where the credential goes; templates over the fields.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum AuthFile {
    /// Nowhere.
    None {},
    /// `Authorization: Bearer …`.
    Bearer {
        /// The token.
        token: String,
    },
    /// `Authorization: Basic …`.
    Basic {
        /// The user name.
        username: String,
        /// The password.
        password: String,
    },
    /// Headers of the vendor's own.
    Headers {
        /// Name (may be a template) and value.
        headers: BTreeMap<String, String>,
    },
    /// Query parameters.
    Query {
        /// Name and value.
        query: BTreeMap<String, String>,
    },
}

/// Time, size and rate.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LimitsFile {
    /// Requests in flight per account; default 8.
    pub concurrency: Option<u32>,
    /// One whole request, for example `120s`; default 120 s.
    pub timeout: Option<String>,
    /// The largest decoded answer of unified calls, for example `16MiB`; default 16 MiB.
    pub max_body: Option<String>,
    /// When to try again.
    pub retry: Option<RetryFile>,
    /// How the vendor speaks of its own limit, where the common headers (`RateLimit`, `X-RateLimit-…`, `Retry-After`) do not
    /// say it or their units cannot be guessed.
    pub rate: Option<super::rate::RateFile>,
}

/// When to try again; only requests that are safe to repeat.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RetryFile {
    /// Statuses.
    pub on: Vec<u16>,
    /// Headers that say how long to wait.
    #[serde(default)]
    pub wait: Vec<String>,
    /// Tries in all; at most 3.
    pub tries: u32,
}

/// One line of `errors`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ErrorRule {
    /// All parts must hold.
    pub when: Condition,
    /// What it is.
    pub is: Meaning,
    /// How long to wait, for `not_ready` and `rate_limited`, for example `60s`.
    pub wait: Option<String>,
    /// A sentence for the caller.
    pub message: Option<String>,
}

/// What to look at. Parts that are left out hold always.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Condition {
    /// The HTTP status, or one of several.
    pub status: Option<OneOrMany<u16>>,
    /// A path into the JSON answer.
    pub path: Option<String>,
    /// Its text is exactly this.
    pub equals: Option<String>,
    /// Its text starts with this.
    pub starts: Option<String>,
    /// Its text contains this, whatever the case.
    pub contains: Option<String>,
}

/// What an error means to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Meaning {
    /// The credential is no longer accepted.
    Reauth,
    /// The credential may not do this.
    Denied,
    /// No such record.
    Missing,
    /// Slow down.
    RateLimited,
    /// Come back later.
    NotReady,
    /// Any other failure.
    Failed,
    /// Not an error after all.
    Fine,
}

/// What passes through `/proxy`, `/custom` and `/passthrough`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProxyFile {
    /// Methods that pass; all when left out.
    pub methods: Option<Vec<String>>,
    /// Path patterns (`*` is one segment, a last `**` any number) that pass; all when left out.
    pub allow: Option<Vec<String>>,
    /// What is refused although allowed.
    #[serde(default)]
    pub deny: Vec<DenyRule>,
    /// The word read from a JSON body, and which words pass; anything else is 403 `outside_directory_layer`.
    pub words: Option<WordsRule>,
    /// Whether `%2F` may stand in a path.
    #[serde(default)]
    pub encoded_slashes: bool,
    /// Where JSON answers hold absolute links that clients follow, for example `'"@odata.nextLink"'`, `next` or
    /// `items[*].href`; links to the vendor are rewritten to the passthrough. Answers are asked for uncompressed then.
    #[serde(default)]
    pub links: Vec<String>,
    /// Other hosts that redirects and links may lead to, by https: `files.example.com[:port]`, or `*.example.com` for all
    /// below. For downloads whose address carries its own right; clients go there without us.
    #[serde(default)]
    pub downloads: Vec<String>,
    /// Hold the account's exclusive service lock around each call that carries a body.
    #[serde(default)]
    pub exclusive: bool,
}

/// One refusal: a path pattern, or a path pattern and a condition on the body.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum DenyRule {
    /// A path pattern.
    Path(String),
    /// With a look at the JSON body.
    Body {
        /// The path pattern.
        path: String,
        /// Member of the body → what its text starts with.
        body: BTreeMap<String, StartsRule>,
        /// Why, for the caller.
        because: Option<String>,
    },
}

/// A text and how it starts.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StartsRule {
    /// Its beginning.
    pub starts: String,
}

/// The first word of a member of a JSON body decides.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WordsRule {
    /// Paths whose bodies are read.
    pub paths: Vec<String>,
    /// The member of the body.
    pub member: String,
    /// First words that pass.
    pub allow: Vec<String>,
    /// Options that never pass behind an allowed word, `--output` or `-o`: 403 `denied_by_connector`, in every spelling that
    /// a command line's parser could take for one (`--output=x`, every beginning such as `--out`, `-ox`, the letter among
    /// others behind one dash). With such a list an option must be written plainly up to its `=`, and what a shell or an HTML
    /// reader would replace is refused; quotes stay possible around values.
    #[serde(default)]
    pub deny_arguments: Vec<String>,
    /// The largest body that is read, for example `64KiB`.
    pub max_body: String,
}

/// How a credential is verified.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TestFile {
    /// `GET /path`; transports with a test of their own leave it out.
    pub request: Option<String>,
    /// Query of it.
    #[serde(default)]
    pub query: BTreeMap<String, String>,
    /// Paths the answer must have.
    #[serde(default)]
    pub expect: Vec<String>,
    /// What must be in the answer before the credential counts as linked: a key that is taken, but shows nothing, is refused.
    pub visible: Option<VisibleFile>,
}

/// At least one record, or a sentence for whoever links.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VisibleFile {
    /// The path to a list in the answer, for example `data[*]`.
    pub path: String,
    /// What is wrong when it is empty, and what to do.
    #[serde(rename = "else")]
    pub otherwise: String,
}
