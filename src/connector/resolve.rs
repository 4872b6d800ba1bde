//! From what a customer filled in to what requests need: fields validated and normalised, base and hosts resolved.

use std::collections::BTreeMap;

use url::Url;

use super::{
    LinkMethod, Position, Template, TokenRequest,
    file::FieldFile,
    kind::{Loose, normalize, whole_url},
    template::TemplateError,
    trust,
};
use crate::model::Secret;

/// One field that is not as the link method wants it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldProblem {
    /// The field.
    pub field: String,
    /// What it takes and what was wrong; never the value of a secret.
    pub message: String,
}

/// The fields of one account, ready for use.
#[derive(Debug)]
pub struct Resolved {
    /// Fields that are not secret, normalised, as stored. Resolving them again changes nothing.
    pub fields: BTreeMap<String, String>,
    /// Secret fields.
    pub secrets: BTreeMap<String, Secret>,
    /// The base address: scheme, host, port and path, no trailing slash, no query.
    pub base: Url,
    /// Every origin that may be called.
    pub hosts: Vec<Url>,
    /// Where access tokens are got, for methods that need one.
    pub token_urls: Option<TokenUrls>,
    /// `hosts`, base and token addresses as text in a fixed order: what secrets are bound to.
    pub origins: Vec<String>,
}

/// The addresses of an authorization server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenUrls {
    /// Gives tokens.
    pub token: Url,
    /// Where a customer's browser is sent.
    pub authorize: Option<Url>,
    /// Takes tokens back.
    pub revoke: Option<Url>,
}

impl TokenUrls {
    /// All of them, the token endpoint first.
    pub fn all(&self) -> impl Iterator<Item = &Url> {
        [&self.token].into_iter().chain(&self.authorize).chain(&self.revoke)
    }
}

type Fields = BTreeMap<String, String>;

impl LinkMethod {
    /// Validates and normalises; every problem at once. `loose_hosts` says whether an address the connector does not name
    /// may be used all the same, because the operator allows it (`ROLLCALL_EGRESS_ALLOW`).
    pub fn resolve(
        &self,
        given: &BTreeMap<String, String>,
        loose_hosts: &dyn Fn(&Url) -> bool,
    ) -> Result<Resolved, Vec<FieldProblem>> {
        let mut problems = self.unknown_fields(given);
        let mut fields = Fields::new();
        let mut secrets = BTreeMap::new();
        for field in &self.fields {
            match self.value_of(field, given, loose_hosts) {
                Ok(Some(value)) if field.kind.is_secret() => {
                    secrets.insert(field.name.clone(), Secret::new(value));
                }
                Ok(Some(value)) => {
                    fields.insert(field.name.clone(), value);
                }
                Ok(None) => {}
                Err(message) => problems.push(FieldProblem { field: field.name.clone(), message }),
            }
        }
        problems.extend(self.one_of_problem(given));
        problems.extend(trust::too_much(&fields));
        if !problems.is_empty() {
            return Err(problems);
        }
        let base = self.resolve_base(&fields, loose_hosts).map_err(|problem| vec![problem])?;
        let hosts = self.resolve_hosts(&fields, loose_hosts).map_err(|problem| vec![problem])?;
        let token_urls = self.token_urls(&fields, loose_hosts).map_err(|problem| vec![problem])?;
        let token_addresses = token_urls.iter().flat_map(TokenUrls::all);
        if [&base].into_iter().chain(token_addresses).any(|url| !hosts.iter().any(|host| host.origin() == url.origin())) {
            let message = "gives an address outside the connector's hosts".to_owned();
            return Err(vec![FieldProblem { field: self.destination_field(), message }]);
        }
        if let Some(problem) = trust::without_tls(&fields, &base) {
            return Err(vec![problem]);
        }
        let origins = origins(&hosts, &base, token_urls.as_ref());
        Ok(Resolved { fields, secrets, base, hosts, token_urls, origins })
    }

    /// What is wrong with the value of one field, whatever the others are.
    pub fn check_field(&self, name: &str, value: &str, loose_hosts: &dyn Fn(&Url) -> bool) -> Option<FieldProblem> {
        let field = self.field(name).filter(|_| !value.trim().is_empty())?;
        let message = normalize(field, value, loose_hosts, self.is_bound(field)).err()?;
        Some(FieldProblem { field: field.name.clone(), message })
    }

    fn token_urls(&self, fields: &Fields, loose: Loose<'_>) -> Result<Option<TokenUrls>, FieldProblem> {
        let Some(token) = &self.token else { return Ok(None) };
        let address = |template: &Template| self.address(template, fields, loose);
        let is_given = |template: &&Template| template.names().all(|name| fields.contains_key(name));
        Ok(Some(TokenUrls {
            token: address(&token.url)?,
            authorize: token.authorize.as_ref().map(|authorize| address(&authorize.url)).transpose()?,
            // A customer may leave out where tokens are taken back.
            revoke: token.revoke.as_ref().filter(|revoke| is_given(revoke)).map(address).transpose()?,
        }))
    }

    /// Whether a change of this field changes who gets the secrets: where requests go (hosts, base, token address), or which
    /// server is believed to be there.
    pub fn decides_destination(&self, field: &str) -> bool {
        trust::is_field(field) || self.feeds_address(field)
    }

    /// The one field that says where calls go, if it is one: with a wrong address in it, nothing answers as the vendor does.
    pub fn address_field(&self, given: &BTreeMap<String, String>) -> Option<&FieldFile> {
        let base = self.base.iter().find(|template| template.names().all(|name| given.contains_key(name)))?;
        let mut fields = base.names().filter_map(|name| self.field(name)).filter(|field| field.kind.is_address());
        fields.next().filter(|_| fields.next().is_none())
    }

    fn feeds_address(&self, field: &str) -> bool {
        let token_urls = self.token.iter().flat_map(TokenRequest::addresses);
        self.hosts.values().chain(&self.base).chain(token_urls).any(|template| template.names().any(|name| name == field))
    }

    fn unknown_fields(&self, given: &Fields) -> Vec<FieldProblem> {
        let known = self.fields.iter().map(|f| f.name.as_str()).collect::<Vec<_>>().join(", ");
        let unknown = given.keys().filter(|name| self.field(name).is_none());
        unknown
            .map(|name| FieldProblem {
                field: name.clone(),
                message: format!("is not a field of `{}`; its fields are {known}", self.name),
            })
            .collect()
    }

    /// Whether the operator's app goes where this field says.
    fn is_bound(&self, field: &FieldFile) -> bool {
        self.token.as_ref().is_some_and(|token| token.leads_app(&field.name))
    }

    fn value_of(&self, field: &FieldFile, given: &Fields, loose: Loose<'_>) -> Result<Option<String>, String> {
        let value = given.get(&field.name).filter(|text| !text.trim().is_empty());
        let bound = self.is_bound(field);
        let value = value.map(|text| normalize(field, text, loose, bound)).transpose()?;
        let grouped = self.one_of.iter().flatten().any(|name| *name == field.name);
        match (value, &field.default) {
            (Some(value), _) => Ok(Some(value)),
            (None, Some(default)) if !grouped => normalize(field, default, loose, bound).map(Some),
            (None, _) if field.required && !grouped => Err("is missing".to_owned()),
            (None, _) => Ok(None),
        }
    }

    /// Exactly one group is given, and given whole.
    fn one_of_problem(&self, given: &Fields) -> Option<FieldProblem> {
        if self.one_of.is_empty() {
            return None;
        }
        let has = |name: &String| given.get(name).is_some_and(|text| !text.trim().is_empty());
        let begun: Vec<&Vec<String>> = self.one_of.iter().filter(|group| group.iter().any(has)).collect();
        let groups = self.one_of.iter().map(|group| group.join(" and ")).collect::<Vec<_>>().join(", or ");
        let missing = begun.first().and_then(|group| group.iter().find(|name| !has(name)));
        let (field, message) = match begun.as_slice() {
            [] => (self.one_of.first()?.first()?, format!("is missing: give {groups}")),
            [_] => (missing?, format!("is missing: give {groups}")),
            [_, second, ..] => (second.iter().find(|name| has(name))?, format!("is too much: give {groups}, not both")),
        };
        Some(FieldProblem { field: field.clone(), message })
    }

    fn resolve_base(&self, fields: &Fields, loose: Loose<'_>) -> Result<Url, FieldProblem> {
        let whole = self.base.iter().find(|template| template.names().all(|name| fields.contains_key(name)));
        let Some(template) = whole else {
            let message = "is missing: no base address can be made without it".to_owned();
            return Err(FieldProblem { field: self.destination_field(), message });
        };
        let mut url = self.address(template, fields, loose)?;
        if url.query().is_some() {
            let message = "gives no address: requests stand below it, so that it has no `?`".to_owned();
            return Err(FieldProblem { field: self.destination_field(), message });
        }
        let path = url.path().trim_end_matches('/').to_owned();
        url.set_path(&path);
        Ok(url)
    }

    /// The origins whose fields are all given, each once, in a fixed order.
    fn resolve_hosts(&self, fields: &Fields, loose: Loose<'_>) -> Result<Vec<Url>, FieldProblem> {
        let mut hosts = Vec::new();
        for template in self.hosts.values().filter(|t| t.names().all(|name| fields.contains_key(name))) {
            let mut url = self.address(template, fields, loose)?;
            url.set_path("");
            url.set_query(None);
            hosts.push(url);
        }
        hosts.sort();
        hosts.dedup();
        Ok(hosts)
    }

    /// Address fields stand as they are, values within the host must be host names, values within the path are encoded.
    fn address(&self, template: &Template, fields: &Fields, loose: Loose<'_>) -> Result<Url, FieldProblem> {
        let mut at = None;
        let text = template.render_raw(|name, before| {
            at = Some(name.to_owned());
            let value = fields.get(name).ok_or_else(|| TemplateError::Missing(name.to_owned()))?;
            let is_address = self.field(name).is_some_and(|f| f.kind.is_address());
            match before.split_once("://") {
                None if is_address => Ok(value.clone()),
                Some((_, rest)) if !rest.contains('/') && is_host(value) => Ok(value.clone()),
                Some((_, rest)) if rest.contains('/') => segment(name, value),
                _ => Err(TemplateError::Character(name.to_owned())),
            }
        });
        let field = at.unwrap_or_else(|| self.destination_field());
        let text = text.map_err(|error| FieldProblem { field: field.clone(), message: error.to_string() })?;
        whole_url(&text, loose).map_err(|reason| FieldProblem { field, message: format!("gives no address: {reason}") })
    }

    /// The first field that says where requests go, for problems with the whole address.
    fn destination_field(&self) -> String {
        let fields = self.one_of.iter().flatten().chain(self.fields.iter().map(|f| &f.name));
        fields.into_iter().find(|name| self.feeds_address(name)).cloned().unwrap_or_else(|| "base".to_owned())
    }
}

fn segment(name: &str, value: &str) -> Result<String, TemplateError> {
    let one = Template::parse(&format!("{{{name}}}"))?;
    one.render(Position::PathSegment, |_| Some(value))
}

/// A host name or a part of one, with an optional port: nothing that could end the host early.
fn is_host(value: &str) -> bool {
    let plain = value.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-'));
    plain && !value.is_empty() && !value.starts_with(['.', '-']) && !value.ends_with(['.', '-']) && !value.contains("..")
}

/// Names of hosts may change in a connector file, addresses may not: so sorted by address, then what is called below them.
fn origins(hosts: &[Url], base: &Url, token_urls: Option<&TokenUrls>) -> Vec<String> {
    let hosts = hosts.iter().map(|host| host.origin().ascii_serialization());
    let base = base.as_str().trim_end_matches('/').to_owned();
    let token_urls = token_urls.into_iter().flat_map(TokenUrls::all).map(|url| url.as_str().to_owned());
    hosts.chain([base]).chain(token_urls).collect()
}
