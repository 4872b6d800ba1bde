//! A vendor is data: the files of `connectors/<slug>/`, checked and compiled once. Pure: no network, no clock.

mod access;
pub mod catalog;
pub mod check;
mod compile;
pub mod file;
pub mod fixture;
mod folder;
mod kind;
pub mod method;
mod overlay;
mod overrides;
pub mod rate;
pub mod report;
pub mod resolve;
mod resource;
mod resource_file;
pub mod schema;
pub mod template;
mod token;
mod token_file;
pub mod trust;
mod units;
pub mod write;
mod yaml;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use uuid::Uuid;

pub use catalog::{Catalog, Problem};
pub use file::{BodyForm, ClientAuth, FieldFile, FieldKind, Grant, Level, Meaning, Per, SignedBy, Transport};
pub use method::{Method, Methods};
pub use overlay::Overlay;
pub use overrides::{MapProblem, Maps};
pub use rate::{RateUnit, RateWords};
pub use report::{Needs, Report};
pub use resolve::{FieldProblem, Resolved, TokenUrls};
pub use template::{Position, Template, TemplateError};
pub use token::{ACCESS_TOKEN, APP_ID, APP_SECRET, Assertion, Login, TokenAnswer, TokenRequest};
pub use write::{BodyTemplate, WriteBy, WriteForm, WriteMethod, Writes};

use crate::{
    mapping::{Path, Table},
    model::{Field, Resource, Slug},
};

/// A connector, compiled.
#[derive(Clone, Debug)]
pub struct Connector {
    /// Its folder's name.
    pub slug: Slug,
    /// Its UUIDv5.
    pub id: Uuid,
    /// The head file as written: titles, addresses, category.
    pub file: file::ConnectorFile,
    /// Ways to connect, defaults already merged in.
    pub methods: Vec<Arc<LinkMethod>>,
    /// Markdown for whoever links.
    pub guide: String,
    /// SVG.
    pub icon: Option<Bytes>,
}

impl Connector {
    /// The way to connect of this name.
    pub fn method(&self, name: &str) -> Option<&Arc<LinkMethod>> {
        self.methods.iter().find(|m| m.name == name)
    }

    /// Whether a way to connect uses an OAuth app that the operator registered with the vendor.
    pub fn uses_app(&self) -> bool {
        self.methods.iter().any(|method| method.needs_oauth_app())
    }
}

/// One way to connect, with everything a request needs.
#[derive(Clone, Debug)]
pub struct LinkMethod {
    /// The `authentication_method` of its accounts.
    pub name: String,
    /// Its name for people.
    pub title: String,
    /// What it needs and gives.
    pub description: Option<String>,
    /// How far it can be trusted.
    pub level: Level,
    /// The protocol.
    pub transport: Transport,
    /// What the customer fills in; beside an address, whom its server is trusted by.
    pub fields: Vec<FieldFile>,
    /// Exactly one group must be whole.
    pub one_of: Vec<Vec<String>>,
    /// Origins by name.
    pub hosts: BTreeMap<String, Template>,
    /// Base addresses in order of preference.
    pub base: Vec<Template>,
    /// Headers of every request.
    pub headers: Vec<(http::HeaderName, Template)>,
    /// Where the credential goes.
    pub auth: Auth,
    /// Who gives the access token in it, where it holds one.
    pub token: Option<TokenRequest>,
    /// Time, size and rate.
    pub limits: Limits,
    /// What errors mean, in order.
    pub errors: Vec<ErrorRule>,
    /// What passes through the proxies.
    pub proxy: Proxy,
    /// How a credential is verified.
    pub test: Option<TestRequest>,
    /// What it offers.
    pub resources: BTreeMap<Resource, ResourceDef>,
}

impl LinkMethod {
    /// The field of this name.
    pub fn field(&self, name: &str) -> Option<&FieldFile> {
        self.fields.iter().find(|f| f.name == name)
    }

    /// The resource `/proxy/{name}` means, by the vendor's own name or ours.
    pub fn proxy_resource(&self, name: &str) -> Option<&ResourceDef> {
        self.resources.values().find(|r| r.proxy_name == name)
    }
}

/// Where the credential goes.
#[derive(Clone, Debug)]
pub enum Auth {
    /// Nowhere.
    None,
    /// `Authorization: Bearer …`.
    Bearer(Template),
    /// `Authorization: Basic …`.
    Basic {
        /// The user name.
        username: Template,
        /// The password.
        password: Template,
    },
    /// Headers; names may be templates.
    Headers(Vec<(Template, Template)>),
    /// Query parameters.
    Query(Vec<(String, Template)>),
}

/// Time, size and rate of one account's requests.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Requests in flight per account.
    pub concurrency: usize,
    /// One whole request.
    pub timeout: Duration,
    /// Largest decoded answer of unified calls, bytes.
    pub max_body: usize,
    /// Statuses after which a repeatable request is tried again.
    pub retry_on: Vec<u16>,
    /// Headers that say how long to wait.
    pub retry_wait: Vec<http::HeaderName>,
    /// Tries in all.
    pub tries: u32,
    /// How the vendor speaks of its own limit.
    pub rate: RateWords,
}

/// One line of `errors`, compiled.
#[derive(Clone, Debug)]
pub struct ErrorRule {
    /// Statuses; any when empty.
    pub status: Vec<u16>,
    /// Where to look in the answer.
    pub path: Option<Path>,
    /// How the text must be; ignored without `path`.
    pub text: TextTest,
    /// What it means.
    pub meaning: Meaning,
    /// How long to wait.
    pub wait: Option<Duration>,
    /// A sentence for the caller.
    pub message: Option<String>,
}

/// A test of a text.
#[derive(Clone, Debug)]
pub enum TextTest {
    /// Present at all.
    Present,
    /// Exactly.
    Equals(String),
    /// At its beginning.
    Starts(String),
    /// Anywhere, whatever the case.
    Contains(String),
}

/// What passes through the proxies, compiled.
#[derive(Clone, Debug)]
pub struct Proxy {
    /// Methods that pass; all when `None`.
    pub methods: Option<Vec<http::Method>>,
    /// Patterns that pass; all when `None`.
    pub allow: Option<Vec<PathPattern>>,
    /// Patterns that do not.
    pub deny: Vec<Deny>,
    /// The word rule.
    pub words: Option<Words>,
    /// Whether `%2F` may stand in a path.
    pub encoded_slashes: bool,
    /// Where JSON answers hold links that clients follow.
    pub links: Vec<LinkPath>,
    /// Other hosts that redirects and links may lead to.
    pub downloads: Vec<DownloadHost>,
    /// Hold the service lock around calls with a body.
    pub exclusive: bool,
}

/// The most places of links; a set of them is one machine word.
pub const MAX_LINKS: usize = 64;

/// A place in a JSON document, in a form that can be followed while the document streams by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkPath(pub Vec<LinkStep>);

/// One step of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkStep {
    /// Into a member.
    Member(String),
    /// Into one element of a list.
    Element(usize),
    /// Into every element.
    Elements,
}

/// A host that clients may be sent to, by https.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DownloadHost {
    /// Its name in lower case.
    pub name: String,
    /// Hosts below it are meant, not itself.
    pub below: bool,
    /// Its port.
    pub port: u16,
}

impl DownloadHost {
    /// Whether an address is at it.
    pub fn matches(&self, url: &url::Url) -> bool {
        let Some(host) = url.domain() else { return false };
        let named = match self.below {
            true => host.strip_suffix(self.name.as_str()).is_some_and(|front| front.len() > 1 && front.ends_with('.')),
            false => host == self.name,
        };
        named && url.port_or_known_default() == Some(self.port)
    }
}

/// A pattern over the segments behind the base path.
#[derive(Clone, Debug)]
pub struct PathPattern(pub Vec<String>);

/// A refusal.
#[derive(Clone, Debug)]
pub struct Deny {
    /// Where.
    pub path: PathPattern,
    /// Member of the JSON body and what it starts with; refuses every body when empty.
    pub body: Vec<(String, String)>,
    /// Why.
    pub because: Option<String>,
}

/// See [`file::WordsRule`].
#[derive(Clone, Debug)]
pub struct Words {
    /// Paths whose bodies are read.
    pub paths: Vec<PathPattern>,
    /// The member of the body.
    pub member: String,
    /// First words that pass.
    pub allow: Vec<String>,
    /// Options that do not.
    pub deny_arguments: Vec<Argument>,
    /// Largest body read, bytes.
    pub max_body: usize,
}

/// An option of a command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Argument {
    /// `--name`, without the dashes.
    Long(String),
    /// `-n`.
    Short(char),
}

/// How a credential is verified.
#[derive(Clone, Debug)]
pub struct TestRequest {
    /// The request, when the transport has no test of its own.
    pub request: Option<Request>,
    /// Paths the answer must have.
    pub expect: Vec<Path>,
    /// A list that must not be empty, and the sentence for when it is.
    pub visible: Option<(Path, String)>,
}

/// A request of a connector file.
#[derive(Clone, Debug)]
pub struct Request {
    /// The method.
    pub method: http::Method,
    /// Path below the base, with a leading slash; placeholders are encoded as path segments.
    pub path: Template,
    /// Query parameters; placeholders are encoded as query values.
    pub query: Vec<(String, Template)>,
}

/// One resource of one link method.
#[derive(Clone, Debug)]
pub struct ResourceDef {
    /// Which.
    pub resource: Resource,
    /// The name `/proxy/{name}` knows.
    pub proxy_name: String,
    /// Read once per company.
    pub per: Option<Per>,
    /// Why the vendor has none; nothing else is set then.
    pub none: Option<String>,
    /// What the customer's plan must have for it.
    pub needs: Option<Needs>,
    /// How to list.
    pub list: Option<List>,
    /// How to get one.
    pub get: Option<Get>,
    /// Filters the vendor evaluates, by unified name.
    pub filters: BTreeMap<String, VendorFilter>,
    /// List records lack fields that `get` has.
    pub partial: bool,
    /// How it is written.
    pub writes: Option<Writes>,
    /// Methods of the vendor's own.
    pub methods: Methods,
    /// The map.
    pub table: Arc<Table>,
    /// The map as written, for capabilities and meta routes.
    pub map: BTreeMap<String, crate::mapping::RuleFile>,
    /// Source paths that need not occur in fixtures.
    pub optional: Vec<String>,
    /// Source paths taken over by `like`; the connector they come from has the fixtures.
    pub taken: Vec<String>,
    /// An environment or an account laid rules over the map.
    pub overridden: bool,
}

impl ResourceDef {
    /// Why a method is not offered, where the connector says so.
    pub fn reason(&self, method: &str) -> Option<&str> {
        let written = || self.writes.as_ref().and_then(|writes| writes.none.get(method));
        self.none.as_ref().or_else(written).or_else(|| self.methods.none.get(method)).map(String::as_str)
    }

    /// The fields of the unified record that the map fills, in the record's order.
    pub fn filled(&self) -> impl Iterator<Item = &'static Field> {
        let targets: BTreeSet<&str> = self.map.keys().filter_map(|target| target.split(['.', '[']).next()).collect();
        self.resource.shape().fields.iter().filter(move |field| targets.contains(field.name))
    }
}

/// How to list.
#[derive(Clone, Debug)]
pub struct List {
    /// From where.
    pub source: ListSource,
    /// Where the records are.
    pub records: Path,
    /// How the next page is found.
    pub page: PageStyle,
    /// How a command's report is read by time.
    pub report: Option<Report>,
    /// An empty list means something went wrong.
    pub not_if_empty: bool,
    /// No list at `records` means there are none.
    pub absent_is_empty: bool,
}

/// From where a list comes.
#[derive(Clone, Debug)]
pub enum ListSource {
    /// A request.
    Request(Request),
    /// A command and its arguments.
    Command(Vec<String>),
    /// Another resource's records that have a text at one of the paths.
    Of {
        /// The other resource.
        resource: Resource,
        /// Looked at in order.
        paths: Vec<Path>,
        /// The text.
        is: Template,
    },
}

/// How the next page is found, with defaults filled in; see [`file::PageFile`].
#[derive(Clone, Debug)]
pub enum PageStyle {
    /// Everything at once.
    None,
    /// SCIM index paging or RFC 9865 cursors.
    Scim {
        /// Largest `count`.
        max: usize,
    },
    /// A cursor in the answer.
    Cursor {
        /// Where.
        next: Path,
        /// Its parameter.
        param: String,
        /// Page-size parameter.
        limit: Option<String>,
        /// Largest page size.
        max: usize,
        /// A boolean that says whether there is more.
        more: Option<Path>,
    },
    /// The next address in the answer.
    NextUrl {
        /// Where.
        next: Path,
        /// Page-size parameter.
        limit: Option<String>,
        /// Largest page size.
        max: usize,
    },
    /// The next address in the `Link` header.
    LinkHeader {
        /// Page-size parameter.
        limit: Option<String>,
        /// Largest page size.
        max: usize,
    },
    /// Page numbers.
    Page {
        /// Its parameter.
        param: String,
        /// The first page's number.
        first: u64,
        /// Page-size parameter.
        limit: String,
        /// Largest page size.
        max: usize,
        /// Number of pages in the answer.
        pages: Option<Path>,
        /// Number of records in the answer.
        total: Option<Path>,
    },
    /// Offsets.
    Offset {
        /// Its parameter.
        param: String,
        /// Page-size parameter.
        limit: String,
        /// Largest page size.
        max: usize,
        /// Number of records in the answer.
        total: Option<Path>,
    },
}

/// How to get one.
#[derive(Clone, Debug)]
pub enum Get {
    /// A request with `{id}`.
    Request {
        /// The request.
        request: Request,
        /// Where the record is.
        record: Path,
    },
    /// Find the id in the list.
    FromList,
}

/// A filter the vendor evaluates.
#[derive(Clone, Debug)]
pub struct VendorFilter {
    /// Query parameters, of a report options; `{value}` is the caller's value.
    pub query: Vec<(String, Template)>,
    /// The vendor's words for a unified one; any other is sent as it is.
    pub words: BTreeMap<String, Vec<String>>,
    /// Operators it takes.
    pub ops: Vec<String>,
    /// A fact of the account that must be true.
    pub needs: Option<String>,
}
