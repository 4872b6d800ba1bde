//! What a connector offers, read from its files: the capability documents, and the refusals that agree with them.

mod refusal;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;
use uuid::Uuid;

pub use refusal::{allowed_at, allowed_at_proxy, require, require_method, require_proxy, require_unified_method};

use super::query::CapabilityQuery;
use crate::{
    connector::{Connector, FieldKind, Level, LinkMethod, Method, ResourceDef, Template, file::FieldFile},
    model::{Account, AccountId, AccountStatus, EnvironmentId, Field, Resource},
    service::directory::filter::filterable,
};

/// What is asked of a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// A page of it.
    List,
    /// One of it.
    Get,
    /// Anything else; its name is shown.
    Other(&'static str),
}

impl Verb {
    /// Its name in documents.
    pub const fn word(self) -> &'static str {
        match self {
            Verb::List => "list",
            Verb::Get => "get",
            Verb::Other(name) => name,
        }
    }
}

/// Every capability of a connector or an account.
#[derive(Serialize, ToSchema)]
pub struct Capabilities {
    /// The connector.
    pub integration: CapabilityIntegration,
    /// The environment asked from.
    pub environment_id: EnvironmentId,
    /// The connector's own resources, for `/proxy/{resource}`.
    pub proxy: Vec<ProxyCapability>,
    /// Resources of the unified model.
    pub unified: Vec<UnifiedCapability>,
    /// Resources of the unified model that the vendor does not have.
    pub not_supported: Vec<NotSupported>,
    /// What a customer fills in.
    pub auth: AuthCapability,
    /// Every way to link, with what it offers.
    pub link_methods: Vec<LinkCapability>,
    /// The account, when one was asked about.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub account: Option<AccountCapability>,
}

/// The connector.
#[derive(Serialize, ToSchema)]
pub struct CapabilityIntegration {
    /// Its id.
    pub id: Uuid,
    /// Its slug.
    pub name: String,
    /// Its name for people.
    pub label: String,
    /// For example `security`.
    pub category: String,
}

/// One of the connector's own resources.
#[derive(Serialize, ToSchema)]
pub struct ProxyCapability {
    /// Its name in `/proxy/{resource}`.
    pub resource: String,
    /// What can be done with it.
    pub methods: Vec<ProxyMethod>,
    /// The link methods that offer it.
    pub link_methods: Vec<String>,
}

/// One method of a connector's own resource.
#[derive(Serialize, ToSchema)]
pub struct ProxyMethod {
    /// `list`, `get`, `create`, `update`, `delete` or the name of a method of the vendor's own.
    pub method: String,
    /// Its name as a tool.
    pub name: String,
    /// What it does.
    pub description: String,
    /// Always.
    pub has_description: bool,
    /// Texts that the body of a method of the vendor's own must have, and what they are.
    #[serde(skip)]
    pub takes: BTreeMap<String, String>,
    /// It is asked about one group.
    #[serde(skip)]
    pub of_group: bool,
}

/// A resource of the unified model.
#[derive(Serialize, ToSchema)]
pub struct UnifiedCapability {
    /// The model.
    pub model: String,
    /// Its name for people.
    pub model_label: String,
    /// Its name in paths.
    pub resource: String,
    /// What can be done with it.
    pub methods: Vec<String>,
    /// The link methods that offer it.
    pub link_methods: Vec<String>,
    /// Fields the connector fills; the others are absent.
    pub fields: Vec<String>,
    /// Fields that can be written, by method.
    pub writable: BTreeMap<String, Vec<String>>,
    /// Filters, and who evaluates them.
    pub filters: Vec<FilterCapability>,
    /// List records lack fields that `get` has.
    pub is_partial_response: bool,
    /// What the customer's plan at the vendor must have; an account whose plan lacks it shows the resource as not supported.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub needs: Option<String>,
    /// Rules of the environment or of the account are laid over its map.
    pub env_overridden: bool,
}

/// A filter.
#[derive(Serialize, ToSchema)]
pub struct FilterCapability {
    /// The unified field.
    pub field: String,
    /// What it can be compared with.
    pub operators: Vec<String>,
    /// `vendor` where that evaluates any of them, else `gateway`, which reads pages until a match.
    pub evaluated_by: String,
    /// The operators that the vendor evaluates; the gateway does the others.
    pub vendor_operators: Vec<String>,
}

/// A resource that the vendor does not have.
#[derive(Serialize, ToSchema)]
pub struct NotSupported {
    /// Its name in paths.
    pub resource: String,
    /// Why.
    pub reason: String,
}

/// What a customer fills in.
#[derive(Serialize, ToSchema)]
pub struct AuthCapability {
    /// The link methods.
    pub formats: Vec<String>,
    /// Their fields; of the account's own method alone, when an account was asked about.
    pub fields: Vec<FieldCapability>,
    /// The API's documentation.
    #[schema(required = true)]
    pub documentation_link: Option<String>,
}

/// One field of a link form.
#[derive(Clone, Serialize, ToSchema)]
pub struct FieldCapability {
    /// The link method it is of.
    pub method: String,
    /// Its name in `context`.
    pub name: String,
    /// Its label.
    pub label: String,
    /// What it takes.
    pub r#type: FieldKind,
    /// Whether it must be given; fields of `one_of` need not each.
    pub required: bool,
    /// Words of a choice.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub values: Vec<String>,
    /// A sentence below it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub help: Option<String>,
}

/// One way to link.
#[derive(Serialize, ToSchema)]
pub struct LinkCapability {
    /// The `authentication_method` of its accounts.
    pub method: String,
    /// Its name for people.
    pub title: String,
    /// What it needs and gives.
    #[schema(required = true)]
    pub description: Option<String>,
    /// How far it can be trusted.
    pub level: Level,
    /// What is filled in.
    pub fields: Vec<FieldCapability>,
    /// Exactly one of these groups of fields must be whole.
    pub one_of: Vec<Vec<String>>,
    /// Unified resources it offers.
    pub resources: Vec<String>,
    /// The customer agrees to it in the browser; what must be registered with the vendor for that.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub consent: Option<ConsentCapability>,
}

/// What a way to link by consent needs at the vendor.
#[derive(Serialize, ToSchema)]
pub struct ConsentCapability {
    /// The redirect address to be registered: the gateway's public address, and this path.
    pub redirect_path: String,
    /// The operator must have registered an OAuth app; else the customer fills in one of his own.
    pub needs_oauth_app: bool,
    /// The scopes asked for, where a link token names no others; names in braces are fields.
    #[schema(required = true)]
    pub scopes: Option<String>,
}

/// The account that was asked about.
#[derive(Serialize, ToSchema)]
pub struct AccountCapability {
    /// Its id.
    pub id: AccountId,
    /// Where in its life it is.
    pub status: AccountStatus,
    /// Its link method.
    pub authentication_method: String,
    /// Its calls are stopped (`is_enabled` of the account is false).
    pub is_blocked: bool,
    /// What is known of the account at the vendor.
    #[serde(skip)]
    #[schema(ignore)]
    pub facts: Map<String, Value>,
}

impl AccountCapability {
    /// Of a stored account.
    pub fn of(account: Account) -> Self {
        let Account { id, status, method, facts, is_enabled, .. } = account;
        Self { id, status, authentication_method: method, is_blocked: !is_enabled, facts }
    }

    /// Why the account's plan at the vendor does not offer a resource that its link method could read.
    fn lacks(&self, method: &LinkMethod, resource: Resource) -> Option<String> {
        let needs = method.resources.get(&resource)?.needs.as_ref()?;
        (self.facts.get(&needs.fact) == Some(&Value::Bool(false))).then(|| needs.because.clone())
    }
}

/// The document of a connector, or of one account when `account` is given.
pub fn document(
    connector: &Connector,
    environment: EnvironmentId,
    account: Option<AccountCapability>,
    query: &CapabilityQuery,
) -> Capabilities {
    let mine = |m: &&LinkMethod| account.as_ref().is_none_or(|a| a.authentication_method == m.name);
    let methods: Vec<&LinkMethod> = connector.methods.iter().map(AsRef::as_ref).filter(mine).collect();
    let lacks = |resource: Resource| account.as_ref().and_then(|a| methods.iter().find_map(|m| a.lacks(m, resource)));
    let offered = Offered { methods: &methods, lacking: Resource::ALL.iter().filter_map(|r| Some((*r, lacks(*r)?))).collect() };
    Capabilities {
        integration: CapabilityIntegration {
            id: connector.id,
            name: connector.slug.to_string(),
            label: connector.file.title.clone(),
            category: connector.file.category.clone(),
        },
        environment_id: environment,
        proxy: if query.proxy { proxy(connector, &offered, query) } else { Vec::new() },
        unified: if query.unified { unified(&offered, query) } else { Vec::new() },
        not_supported: not_supported(&offered),
        auth: AuthCapability {
            formats: methods.iter().map(|m| m.name.clone()).collect(),
            fields: methods.iter().flat_map(|m| fields(m)).collect(),
            documentation_link: connector.file.docs_url.clone(),
        },
        link_methods: connector.methods.iter().map(|m| link(connector, m)).collect(),
        account,
    }
}

/// What is spoken of: link methods, and what the account's plan lacks of them.
struct Offered<'a> {
    methods: &'a [&'a LinkMethod],
    lacking: BTreeMap<Resource, String>,
}

fn link(connector: &Connector, method: &LinkMethod) -> LinkCapability {
    LinkCapability {
        method: method.name.clone(),
        title: method.title.clone(),
        description: method.description.clone(),
        level: method.level,
        fields: fields(method).collect(),
        one_of: method.one_of.clone(),
        resources: Resource::ALL.iter().filter(|r| !verbs(method, **r).is_empty()).map(|r| r.plural().to_owned()).collect(),
        consent: method.needs_browser().then(|| ConsentCapability {
            redirect_path: format!("/connect/{}/callback", connector.slug),
            needs_oauth_app: method.needs_oauth_app(),
            scopes: method.token.as_ref().and_then(|token| token.scope.as_ref()).map(Template::text),
        }),
    }
}

fn fields(method: &LinkMethod) -> impl Iterator<Item = FieldCapability> {
    method.fields.iter().map(|file| field(method, file))
}

fn field(method: &LinkMethod, file: &FieldFile) -> FieldCapability {
    FieldCapability {
        method: method.name.clone(),
        name: file.name.clone(),
        label: file.title.clone(),
        r#type: file.kind,
        required: file.required,
        values: file.values.keys().cloned().collect(),
        help: file.help.clone(),
    }
}

/// What a link method can do with a resource.
pub fn verbs(method: &LinkMethod, resource: Resource) -> Vec<Verb> {
    let Some(def) = method.resources.get(&resource).filter(|def| def.none.is_none()) else { return Vec::new() };
    let list = def.list.is_some().then_some(Verb::List);
    let get = (def.get.is_some() && resource != Resource::GroupMember).then_some(Verb::Get);
    let writes = def.writes.iter().flat_map(|writes| writes.offered()).map(Verb::Other);
    list.into_iter().chain(get).chain(writes).collect()
}

/// What a link method can do with a resource in the vendor's own words. Members of a group are changed on the group.
fn proxy_verbs(method: &LinkMethod, resource: Resource) -> Vec<Verb> {
    let is_member = resource == Resource::GroupMember;
    let keeps = |verb: &Verb| !is_member || matches!(verb, Verb::List | Verb::Get);
    verbs(method, resource).into_iter().filter(keeps).collect()
}

fn wanted(query: &CapabilityQuery, verbs: Vec<Verb>) -> Vec<Verb> {
    let asked = |verb: &Verb| query.methods.is_empty() || query.methods.iter().any(|m| m == verb.word());
    verbs.into_iter().filter(asked).collect()
}

fn unified(offered: &Offered<'_>, query: &CapabilityQuery) -> Vec<UnifiedCapability> {
    let asked = |r: &Resource| query.resource.as_deref().is_none_or(|name| name == r.plural());
    let wanted = Resource::ALL.iter().copied().filter(|r| asked(r) && !offered.lacking.contains_key(r));
    wanted.filter_map(|resource| one_unified(offered.methods, resource, query)).collect()
}

fn one_unified(methods: &[&LinkMethod], resource: Resource, query: &CapabilityQuery) -> Option<UnifiedCapability> {
    let offering: Vec<_> = methods.iter().filter(|m| !wanted(query, verbs(m, resource)).is_empty()).collect();
    let defs: Vec<_> = offering.iter().filter_map(|m| m.resources.get(&resource)).collect();
    let mut words: BTreeSet<_> = offering.iter().flat_map(|m| wanted(query, verbs(m, resource))).map(Verb::word).collect();
    words.extend(defs.iter().flat_map(|def| own_methods(query, def)).map(|(name, _)| name));
    let mapped: BTreeSet<&str> = defs.iter().flat_map(|def| def.filled()).map(|field| field.name).collect();
    let fields: Vec<&Field> = resource.shape().fields.iter().filter(|f| mapped.contains(f.name)).collect();
    let mut filters: Vec<FilterCapability> = Vec::new();
    for filter in defs.iter().flat_map(|def| filterable(def)) {
        if filters.iter().all(|known| known.field != filter.name) {
            let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
            filters.push(FilterCapability {
                operators: words(filter.operators),
                evaluated_by: filter.evaluated_by().into(),
                vendor_operators: words(&filter.vendor),
                field: filter.name,
            });
        }
    }
    (!offering.is_empty()).then(|| UnifiedCapability {
        model: "user-directory".into(),
        model_label: "Unified User Directory".into(),
        resource: resource.plural().into(),
        methods: words.into_iter().map(str::to_owned).collect(),
        link_methods: offering.iter().map(|m| m.name.clone()).collect(),
        fields: fields.iter().map(|f| f.name.to_owned()).collect(),
        writable: writable(&defs),
        filters,
        is_partial_response: defs.iter().any(|d| d.partial),
        needs: defs.iter().find_map(|def| def.needs.as_ref()).map(|needs| needs.because.clone()),
        env_overridden: defs.iter().any(|def| def.overridden),
    })
}

/// What any of the link methods takes; `GET …/meta/{method}` of an account says what that account's takes.
fn writable(defs: &[&ResourceDef]) -> BTreeMap<String, Vec<String>> {
    let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (def, writes) in defs.iter().filter_map(|def| Some((def, def.writes.as_ref()?))) {
        for method in writes.offered().filter(|method| *method != "delete") {
            let known = all.entry(method.to_owned()).or_default();
            let fields = writes.fields(def.resource, method).into_iter();
            known.extend(fields.filter(|field| !known.contains(field)).collect::<Vec<_>>());
        }
    }
    all
}

fn proxy(connector: &Connector, offered: &Offered<'_>, query: &CapabilityQuery) -> Vec<ProxyCapability> {
    let mut found: Vec<ProxyCapability> = Vec::new();
    let all = offered.methods.iter().flat_map(|m| m.resources.values().map(move |def| (m, def)));
    for (method, def) in all.filter(|(_, def)| !offered.lacking.contains_key(&def.resource)) {
        let (name, plural) = (&def.proxy_name, def.resource.plural());
        let verbs = wanted(query, proxy_verbs(method, def.resource));
        let own = own_methods(query, def);
        if query.resource.as_deref().is_some_and(|r| r != name && r != plural) || (verbs.is_empty() && own.is_empty()) {
            continue;
        }
        let stem = tool_stem(connector, name);
        let standard = verbs.into_iter().map(|verb| proxy_method(connector, name, &stem, verb));
        let own = own.into_iter().map(|(word, own)| own_method(&stem, word, own));
        let of_group = def.resource == Resource::GroupMember;
        let mut offered: Vec<_> = standard.chain(own).map(|method| ProxyMethod { of_group, ..method }).collect();
        match found.iter_mut().find(|known| known.resource == *name) {
            Some(known) => {
                known.link_methods.push(method.name.clone());
                offered.retain(|tool| known.methods.iter().all(|other| other.method != tool.method));
                known.methods.append(&mut offered);
            }
            None => {
                found.push(ProxyCapability { resource: name.clone(), methods: offered, link_methods: vec![method.name.clone()] })
            }
        }
    }
    found
}

/// The methods of the vendor's own that are asked for.
fn own_methods<'d>(query: &CapabilityQuery, def: &'d ResourceDef) -> Vec<(&'d str, &'d Method)> {
    let asked = query.methods.is_empty() || query.methods.iter().any(|m| m == "custom");
    let own = def.methods.offered.iter().filter(|_| asked);
    own.map(|(name, method)| (name.as_str(), method)).collect()
}

/// What the names of a resource's tools are made of: connector and resource, and the link method where an earlier one has
/// another resource of that name but for case. Made from the whole connector, so that every document gives the same names.
fn tool_stem(connector: &Connector, resource: &str) -> (String, String) {
    let lower = resource.to_lowercase();
    let offered = connector.methods.iter().flat_map(|m| m.resources.values().map(move |def| (m, def)));
    let alike = offered.filter(|(_, def)| def.none.is_none() && def.proxy_name.to_lowercase() == lower);
    let first = alike.clone().next().filter(|(_, def)| def.proxy_name != resource);
    let own = first.and_then(|_| alike.clone().find(|(_, def)| def.proxy_name == resource));
    let owner = own.map_or_else(|| connector.slug.to_string(), |(method, _)| format!("{}_{}", connector.slug, method.name));
    (owner.replace('-', "_"), lower.replace('-', "_"))
}

fn proxy_method(connector: &Connector, resource: &str, (owner, plural): &(String, String), verb: Verb) -> ProxyMethod {
    let title = &connector.file.title;
    let (name, description) = match verb {
        Verb::List => (format!("list_all_{owner}_{plural}"), format!("One page of `{resource}` as {title} sends it.")),
        Verb::Get => {
            (format!("get_single_{owner}_{}_by_id", singular(plural)), format!("One of `{resource}` as {title} sends it."))
        }
        Verb::Other("create") => (
            format!("create_a_{owner}_{}", singular(plural)),
            format!("Makes one of `{resource}`; the body and the answer are {title}'s own."),
        ),
        Verb::Other(word) => {
            let does = if word == "delete" { "Takes away" } else { "Changes" };
            let about = format!("{does} one of `{resource}`, as {title} takes and says it.");
            (format!("{word}_a_{owner}_{}_by_id", singular(plural)), about)
        }
    };
    ProxyMethod { method: verb.word().into(), name, description, has_description: true, takes: BTreeMap::new(), of_group: false }
}

fn own_method((owner, plural): &(String, String), word: &str, own: &Method) -> ProxyMethod {
    let name = format!("{owner}_{plural}_{word}");
    let (description, takes) = (own.about.clone(), own.takes.clone());
    ProxyMethod { method: word.into(), name, description, has_description: true, takes, of_group: false }
}

/// Of an English plural in lower case.
fn singular(plural: &str) -> String {
    let sibilant = ["sses", "xes", "ches", "shes"].iter().any(|end| plural.ends_with(end));
    match (plural.strip_suffix("ies"), plural.strip_suffix("es"), plural.strip_suffix('s')) {
        (Some(stem), ..) => format!("{stem}y"),
        (_, Some(stem), _) if sibilant => stem.to_owned(),
        (.., Some(stem)) if !plural.ends_with("ss") => stem.to_owned(),
        _ => plural.to_owned(),
    }
}

fn not_supported(offered: &Offered<'_>) -> Vec<NotSupported> {
    let methods = offered.methods;
    let is_missing = |resource: Resource| methods.iter().all(|m| verbs(m, resource).is_empty());
    let why = |resource: Resource| match offered.lacking.get(&resource) {
        Some(because) => Some(because.clone()),
        None if is_missing(resource) => {
            let reason = methods.iter().find_map(|m| reason(m, resource));
            Some(reason.unwrap_or_else(|| "The connector does not read it.".into()))
        }
        None => None,
    };
    let all = Resource::ALL.iter();
    all.filter_map(|r| Some(NotSupported { resource: r.plural().into(), reason: why(*r)? })).collect()
}

fn reason(method: &LinkMethod, resource: Resource) -> Option<String> {
    method.resources.get(&resource)?.none.clone()
}

#[cfg(test)]
mod tests {
    use super::singular;

    #[test]
    fn one_of_many_is_called_as_in_english() {
        for (plural, one) in [
            ("users", "user"),
            ("companies", "company"),
            ("group_members", "group_member"),
            ("addresses", "address"),
            ("mailboxes", "mailbox"),
            ("branches", "branch"),
            ("roles", "role"),
            ("access", "access"),
            ("staff", "staff"),
        ] {
            assert_eq!(singular(plural), one);
        }
    }
}
