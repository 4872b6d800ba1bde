//! From files to what requests need: every template parsed, every name declared, every word checked.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    ACCESS_TOKEN, APP_ID, APP_SECRET, Connector, LinkMethod, Problem, Template, Transport,
    access::{Access, AccessCompiler},
    file::{FieldFile, FieldKind, LinkFile},
    folder::Parsed,
    kind, resource,
    schema::suggest,
    trust,
    yaml::Place,
};
use crate::model::integration_id;

/// Names that templates use for other things than fields.
const TAKEN: &[&str] =
    &["id", "value", "group_id", "oauth", ACCESS_TOKEN, APP_ID, APP_SECRET, trust::CA_CERTIFICATE, trust::CERTIFICATE_SHA256];

/// What one link method's files may refer to, and what they did.
pub(super) struct Scope<'a> {
    pub(super) link: &'a LinkFile,
    pub(super) transport: Transport,
    pub(super) used: BTreeSet<String>,
    pub(super) problems: Vec<Problem>,
}

impl Scope<'_> {
    /// Parses a template whose names are fields of the method or one of `extra`.
    pub(super) fn template(&mut self, place: Place<'_>, text: &str, extra: &[&str], secrets: bool) -> Option<Template> {
        let template = match Template::parse(text) {
            Ok(template) => template,
            Err(error) => {
                let hint = "a name is lower-case letters, digits, `_` and `.`".to_owned();
                self.problems.push(place.problem(error.to_string(), hint));
                return None;
            }
        };
        for name in template.names() {
            match self.link.fields.iter().find(|field| field.name == name) {
                Some(field) => {
                    self.used.insert(name.to_owned());
                    if field.kind.is_secret() && !secrets {
                        let message = format!("the secret `{name}` may not stand in an address or a request");
                        self.problems.push(place.problem(message, "secrets go through `auth` or `headers`".to_owned()));
                    }
                }
                None if extra.contains(&name) => {}
                None => {
                    let known: Vec<&str> =
                        self.link.fields.iter().map(|f| f.name.as_str()).chain(extra.iter().copied()).collect();
                    let message = format!("`{{{name}}}` is not declared by the method `{}`", self.link.method);
                    self.problems.push(place.problem(message, suggest(name, &known, "names here")));
                }
            }
        }
        Some(template)
    }
}

/// Compiles a parsed folder. `like` finds the folders that others lean on.
pub(super) fn compile(parsed: &Parsed, like: &dyn Fn(&str) -> Option<Arc<Parsed>>) -> Result<Connector, Vec<Problem>> {
    let mut problems = parsed.problems.clone();
    let Some(head) = &parsed.head else {
        let files = parsed.resources.iter();
        problems.extend(files.flat_map(|r| resource::check_rules(r.source.top(), &r.source.file.map, r.resource)));
        return Err(tidy(problems));
    };
    let mut methods = Vec::new();
    let mut names = BTreeSet::new();
    for (i, link) in head.file.link.iter().enumerate() {
        let place = head.top().key("link").index(i);
        if !is_word(&link.method) {
            let hint = "lower-case letters, digits and `_`, a letter first".to_owned();
            problems.push(place.key("method").problem(format!("`{}` is not a method's name", link.method), hint));
        }
        if !names.insert(link.method.as_str()) {
            problems.push(place.key("method").problem(format!("the method `{}` stands here twice", link.method), None));
        }
        let (method, found) = compile_method(parsed, link, place, like);
        problems.extend(found);
        methods.extend(method.map(Arc::new));
    }
    if !problems.is_empty() {
        return Err(tidy(problems));
    }
    let slug = head.file.connector.clone();
    Ok(Connector {
        id: integration_id(&slug),
        slug,
        file: head.file.clone(),
        methods,
        guide: parsed.guide.clone(),
        icon: parsed.icon.clone().map(Into::into),
    })
}

fn compile_method(
    parsed: &Parsed,
    link: &LinkFile,
    place: Place<'_>,
    like: &dyn Fn(&str) -> Option<Arc<Parsed>>,
) -> (Option<LinkMethod>, Vec<Problem>) {
    let Some(head) = &parsed.head else { return (None, Vec::new()) };
    let (top, defaults) = (head.top(), &head.file.access);
    let transport = link.access.transport.or(defaults.transport).unwrap_or(Transport::Rest);
    let mut scope = Scope { link, transport, used: BTreeSet::new(), problems: Vec::new() };
    check_fields(&mut scope, place);
    let access = AccessCompiler { scope: &mut scope, link: place, top }.compile(&link.access, defaults);
    let resources = resource::compile_all(&mut scope, parsed, place, like);
    check_used(&mut scope, place);
    let Some(Access { hosts, base, headers, auth, token, limits, errors, proxy, test }) = access else {
        return (None, scope.problems);
    };
    let method = LinkMethod {
        name: link.method.clone(),
        title: link.title.clone().unwrap_or_else(|| link.method.clone()),
        description: link.description.clone(),
        level: link.level.unwrap_or(head.file.level),
        transport,
        fields: link.fields.iter().cloned().chain(trust::fields(&link.fields)).collect(),
        one_of: link.one_of.clone(),
        hosts,
        base,
        headers,
        auth,
        token,
        limits,
        errors,
        proxy,
        test,
        resources,
    };
    (Some(method), scope.problems)
}

fn check_fields(scope: &mut Scope<'_>, place: Place<'_>) {
    let link = scope.link;
    let mut seen = BTreeSet::new();
    for (i, field) in link.fields.iter().enumerate() {
        let place = place.key("fields").index(i);
        if !is_word(&field.name) || TAKEN.contains(&field.name.as_str()) {
            let hint = format!("lower-case letters, digits and `_`, a letter first; not {}", TAKEN.join(", "));
            scope.problems.push(place.key("name").problem(format!("`{}` is not a field's name", field.name), hint));
        }
        if !seen.insert(field.name.as_str()) {
            scope.problems.push(place.key("name").problem(format!("the field `{}` stands here twice", field.name), None));
        }
        scope.problems.extend(field_problem(field, place));
    }
    for (i, group) in link.one_of.iter().enumerate() {
        let place = place.key("one_of").index(i);
        if group.is_empty() {
            scope.problems.push(place.problem("a group of `one_of` names at least one field", None));
        }
        for (j, name) in group.iter().enumerate() {
            if !seen.contains(name.as_str()) {
                let known: Vec<&str> = seen.iter().copied().collect();
                scope.problems.push(place.index(j).problem(format!("`{name}` is not a field"), suggest(name, &known, "fields")));
            }
        }
    }
}

fn field_problem(field: &FieldFile, place: Place<'_>) -> Option<Problem> {
    let address = field.kind.is_address();
    let choice = field.kind == FieldKind::Choice;
    if choice == field.values.is_empty() {
        let message = if choice { "a choice needs `values`" } else { "`values` belongs to `kind: choice`" };
        return Some(
            place.name("values").problem(message, "`values: { word the customer picks: what templates see }`".to_owned()),
        );
    }
    if field
        .values
        .iter()
        .any(|(word, meaning)| field.values.get(meaning).is_some_and(|other| other != meaning) && word != meaning)
    {
        return Some(place.key("values").problem("what one word stands for is another word", None));
    }
    if !field.hosts.is_empty() && !address {
        return Some(place.name("hosts").problem("`hosts` belongs to `kind: origin` and `kind: base_url`", None));
    }
    if let Some(host) = field.hosts.iter().find(|host| !is_host(host)) {
        return Some(place.key("hosts").problem(format!("`{host}` is not a host name"), "for example `example.com`".to_owned()));
    }
    let default = field.default.as_deref()?;
    if field.kind.is_secret() {
        return Some(place.name("default").problem("a secret has no default", None));
    }
    let reason = kind::normalize(field, default, &|_| false, true).err()?;
    Some(place.key("default").problem("the default is not a value of the field", reason))
}

/// A field nobody reads misleads whoever fills in the form. Not asked while something that could read it is broken.
fn check_used(scope: &mut Scope<'_>, place: Place<'_>) {
    if !scope.problems.is_empty() {
        return;
    }
    let by_transport = scope.transport.reads();
    let unused: Vec<usize> = (0..scope.link.fields.len())
        .filter(|i| {
            let name = &scope.link.fields[*i].name;
            !scope.used.contains(name) && !by_transport.contains(&name.as_str())
        })
        .collect();
    for i in unused {
        let name = &scope.link.fields[i].name;
        let place = place.key("fields").index(i);
        let hint = "use it in an address, in `auth`, in a request, or remove it".to_owned();
        scope.problems.push(place.problem(format!("the field `{name}` is never used"), hint));
    }
}

pub(super) fn is_word(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

pub(super) fn is_host(text: &str) -> bool {
    let labels = || text.split('.');
    text.contains('.')
        && labels().all(|label| {
            let plain = label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
            plain && !label.is_empty() && !label.starts_with('-') && !label.ends_with('-')
        })
}

/// In the order of the files, each mistake once.
pub(super) fn tidy(mut problems: Vec<Problem>) -> Vec<Problem> {
    problems.sort_by(|a, b| (&a.file, a.line, a.column, &a.message).cmp(&(&b.file, b.line, b.column, &b.message)));
    problems.dedup();
    problems
}

/// By resource, for the compiled method.
pub(super) type Resources = BTreeMap<crate::model::Resource, super::ResourceDef>;
