//! Compiles resource files: own ones, those taken by `like`, and the two merged.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    Get, List, ListSource, PageStyle, Problem, Request, ResourceDef, Transport, VendorFilter,
    compile::{Resources, Scope, is_word},
    file::{FilterFile, GetFile, ListFile, PageFile, ResourceFile},
    folder::{Parsed, ResourceSource},
    method,
    schema::suggest,
    units, write,
    yaml::Place,
};
use crate::{
    mapping::{Path, RuleError, RuleFile, SourceFile, Table},
    model::{Kind, Resource, Shape},
};

/// Operators of filters.
const OPS: &[&str] = &["eq", "in", "gt", "gte", "lt", "lte", "contains"];
/// Filters that are not fields of the record itself.
const OTHER_FILTERS: &[&str] = &["group_id", "organization_id", "workspace_id", "role_id"];
/// Page size asked for where a file does not say how many a vendor gives.
const DEFAULT_PAGE: usize = 100;

/// Where the keys of a merged file were written.
#[derive(Clone, Copy)]
struct Layers<'p> {
    own: Option<Place<'p>>,
    base: Option<Place<'p>>,
}

impl<'p> Layers<'p> {
    fn top(self) -> Place<'p> {
        self.own.or(self.base).unwrap_or(Place::folder(""))
    }
    fn key(self, key: &str) -> Place<'p> {
        self.writer(|place| place.has(key)).key(key)
    }
    fn target(self, target: &str) -> Place<'p> {
        self.writer(|place| place.key("map").has(target)).key("map").name(target)
    }
    fn writer(self, has: impl Fn(Place<'p>) -> bool) -> Place<'p> {
        [self.own, self.base].into_iter().flatten().find(|place| has(*place)).unwrap_or(self.top())
    }
}

/// Every resource the method offers.
pub(super) fn compile_all(
    scope: &mut Scope<'_>,
    parsed: &Parsed,
    link: Place<'_>,
    like: &dyn Fn(&str) -> Option<Arc<Parsed>>,
) -> Resources {
    let base = scope.link.like.as_ref().and_then(|slug| {
        let found = like(slug.as_str()).filter(|_| slug.as_str() != parsed.name);
        if found.is_none() {
            let hint = "another connector whose resource files are taken, for example `scim`".to_owned();
            scope.problems.push(link.key("like").problem(format!("there is no connector `{slug}` to be like"), hint));
        }
        found
    });
    let wanted = |resource: Resource| scope.link.resources.as_ref().is_none_or(|list| list.contains(&resource));
    let mut compiled = Resources::new();
    for resource in Resource::ALL.iter().copied().filter(|r| wanted(*r)).collect::<Vec<_>>() {
        let own = own_file(parsed, scope, resource);
        let base = base.as_ref().and_then(|base| plain_file(base, resource));
        let layers = Layers { own: own.map(|o| o.source.top()), base: base.map(|b| b.source.top()) };
        let file = match (own, base) {
            (Some(own), Some(base)) => merge(&own.source.file, &base.source.file),
            (Some(one), None) | (None, Some(one)) => one.source.file.clone(),
            (None, None) => continue,
        };
        let taken = base.map(|b| b.source.file.map.clone()).unwrap_or_default();
        let taken = Table::compile(&taken, resource.shape()).map(|table| table.sources()).unwrap_or_default();
        compiled.extend(compile(scope, layers, &file).map(|def| (resource, ResourceDef { taken, ..def })));
    }
    check_names(scope, link, &compiled);
    compiled
}

/// `<plural>.<method>.yaml`, else `<plural>.yaml`. A plain file holds for the methods without `like`; when every method has
/// it, the plain file merges into what is taken.
fn own_file<'p>(parsed: &'p Parsed, scope: &Scope<'_>, resource: Resource) -> Option<&'p ResourceSource> {
    let own = parsed.resources.iter().find(|r| r.resource == resource && r.method.as_deref() == Some(&scope.link.method));
    let all_like = parsed.head.as_ref().is_some_and(|head| head.file.link.iter().all(|link| link.like.is_some()));
    let plain = scope.link.like.is_none() || all_like;
    own.or_else(|| plain_file(parsed, resource).filter(|_| plain))
}

fn plain_file(parsed: &Parsed, resource: Resource) -> Option<&ResourceSource> {
    parsed.resources.iter().find(|r| r.resource == resource && r.method.is_none())
}

/// Own keys win; the map, the filters and the optional paths are put together.
fn merge(own: &ResourceFile, base: &ResourceFile) -> ResourceFile {
    if own.none.is_some() {
        return own.clone();
    }
    let mut merged = base.clone();
    merged.none = None;
    merged.proxy = own.proxy.clone().or(merged.proxy);
    merged.per = own.per.or(merged.per);
    merged.needs = own.needs.clone().or(merged.needs);
    merged.list = own.list.clone().or(merged.list);
    merged.get = own.get.clone().or(merged.get);
    merged.partial |= own.partial;
    merged.filters.extend(own.filters.clone());
    merged.map.extend(own.map.clone());
    merged.optional.extend(own.optional.clone());
    merged.methods.extend(own.methods.clone());
    merged.write = write::merge(own.write.as_ref(), base.write.as_ref());
    merged
}

fn check_names(scope: &mut Scope<'_>, link: Place<'_>, compiled: &Resources) {
    for resource in scope.link.resources.iter().flatten().filter(|r| !compiled.contains_key(r)) {
        let message = format!("`resources` names {}, which no file describes", resource.plural());
        scope.problems.push(link.key("resources").problem(message, format!("add `{}.yaml`", resource.plural())));
    }
    let mut names = BTreeSet::new();
    for def in compiled.values().filter(|def| !names.insert(def.proxy_name.as_str())) {
        let message = format!("two resources are called `{}` at the proxy", def.proxy_name);
        scope.problems.push(link.problem(message, "give one of them another `proxy` name".to_owned()));
    }
}

fn compile(scope: &mut Scope<'_>, layers: Layers<'_>, file: &ResourceFile) -> Option<ResourceDef> {
    let before = scope.problems.len();
    let proxy_name = file.proxy.clone().unwrap_or_else(|| file.resource.plural().to_owned());
    if !proxy_name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_')) || proxy_name.is_empty() {
        scope.problems.push(layers.key("proxy").problem(format!("`{proxy_name}` cannot stand in a path"), None));
    }
    let shape = file.resource.shape();
    if file.none.is_some() {
        check_none(scope, layers, file);
    } else if file.list.is_none() && file.get.as_ref().is_none_or(|get| get.none.is_some()) {
        let hint = "say how to `list` or `get`, or why there is `none`".to_owned();
        scope.problems.push(layers.top().problem("the resource says neither how to read it nor that there is none", hint));
    }
    let extra = extra_names(file, false);
    let list = file.list.as_ref().and_then(|list| compile_list(scope, layers.key("list"), list, &extra, shape));
    let needs = super::report::needs(scope, layers.key("needs"), file.needs.as_ref());
    let get = file.get.as_ref().and_then(|get| compile_get(scope, layers.key("get"), get, &extra_names(file, true)));
    let filters = compile_filters(scope, layers, file, shape);
    let writes =
        file.write.as_ref().and_then(|w| write::compile(scope, layers.key("write"), w, &file.map, file.resource, &extra));
    let mut methods = method::compile(scope, layers.key("methods"), &file.methods);
    methods.none.extend(file.get.as_ref().and_then(|get| Some(("get".to_owned(), get.none.clone()?))));
    let table = if file.none.is_some() { blank_table(shape) } else { compile_table(scope, layers, file, shape) };
    for (i, text) in file.optional.iter().enumerate() {
        path(scope, layers.key("optional").index(i), text);
    }
    if scope.problems.len() > before {
        return None;
    }
    Some(ResourceDef {
        resource: file.resource,
        proxy_name,
        per: file.per,
        none: file.none.clone(),
        needs,
        list,
        get,
        filters,
        partial: file.partial,
        writes,
        methods,
        table: Arc::new(table?),
        map: file.map.clone(),
        optional: file.optional.clone(),
        taken: Vec::new(),
        overridden: false,
    })
}

fn check_none(scope: &mut Scope<'_>, layers: Layers<'_>, file: &ResourceFile) {
    let reads = file.list.is_some() || file.get.is_some() || !file.map.is_empty() || !file.filters.is_empty();
    let more = reads || file.write.is_some() || !file.methods.is_empty();
    if more {
        let hint = "`none` says the vendor has no such thing, so nothing else is given".to_owned();
        scope.problems.push(layers.key("none").problem("`none` stands beside a way to read", hint));
    }
    if file.none.as_deref().is_some_and(|reason| reason.trim().len() < 20) {
        let hint = "a sentence with its source: it is shown to callers and in the documents".to_owned();
        scope.problems.push(layers.key("none").problem("`none` needs a reason", hint));
    }
}

/// The reason why one method is not offered.
pub(super) fn check_reason(scope: &mut Scope<'_>, place: Place<'_>, reason: &str) {
    if reason.trim().len() < 20 {
        scope.problems.push(place.key("none").problem("`none` needs a reason", "a sentence with its source".to_owned()));
    }
}

fn extra_names(file: &ResourceFile, get: bool) -> Vec<&'static str> {
    let mut names = Vec::new();
    if get {
        names.push("id");
    }
    if file.resource == Resource::GroupMember {
        names.push("group_id");
    }
    if file.per.is_some() {
        names.extend(["company.id", "company.name"]);
    }
    names
}

fn compile_list(scope: &mut Scope<'_>, place: Place<'_>, list: &ListFile, extra: &[&str], shape: &'static Shape) -> Option<List> {
    let given = [list.request.is_some(), list.command.is_some(), list.of.is_some()].iter().filter(|given| **given).count();
    if given != 1 || list.having.is_some() != list.of.is_some() {
        let hint = "`request: GET /path`, `command: [...]`, or `of` with `having`".to_owned();
        scope.problems.push(place.problem("`list` takes exactly one source", hint));
        return None;
    }
    let source = list_source(scope, place, list, extra);
    let records = list.records.as_deref().unwrap_or(".");
    let records = path(scope, place.key("records"), records);
    let page = page_style(scope, place.key("page"), &list.page);
    let report = super::report::compile(scope, place, list, shape);
    if list.request.is_none() && !matches!(list.page, PageFile::None) {
        scope.problems.push(place.key("page").problem("only a `request` has pages", None));
    }
    Some(List {
        source: source?,
        records: records?,
        page: page?,
        report,
        not_if_empty: list.complete.not_if_empty,
        absent_is_empty: list.complete.absent_is_empty,
    })
}

fn list_source(scope: &mut Scope<'_>, place: Place<'_>, list: &ListFile, extra: &[&str]) -> Option<ListSource> {
    let commands = scope.transport == Transport::KeeperCommander;
    if let Some(text) = &list.request {
        if commands {
            scope
                .problems
                .push(place.key("request").problem("this transport runs commands", "write `command: [...]`".to_owned()));
        }
        return request(scope, place, text, &list.query, extra).map(ListSource::Request);
    }
    if let Some(command) = &list.command {
        if !commands {
            let hint = "write `request: GET /path`".to_owned();
            scope.problems.push(place.key("command").problem("this transport sends requests", hint));
        }
        if command.is_empty() {
            scope.problems.push(place.key("command").problem("a command has at least its name", None));
        }
        return Some(ListSource::Command(command.clone()));
    }
    let (resource, having) = (list.of?, list.having.as_ref()?);
    let place = place.key("having");
    let paths = having.path.as_slice().iter().enumerate();
    let paths = paths.filter_map(|(i, text)| path(scope, place.key("path").index(i), text)).collect();
    let is = scope.template(place.key("is"), &having.is, extra, false)?;
    Some(ListSource::Of { resource, paths, is })
}

fn compile_get(scope: &mut Scope<'_>, place: Place<'_>, get: &GetFile, extra: &[&str]) -> Option<Get> {
    if let Some(reason) = &get.none {
        check_reason(scope, place, reason);
        if get.request.is_some() || get.from.is_some() {
            scope.problems.push(place.key("none").problem("`none` stands beside a way to get one", None));
        }
        return None;
    }
    match (&get.request, get.from) {
        (None, Some(_)) => Some(Get::FromList),
        (Some(text), None) => {
            let request = request(scope, place, text, &get.query, extra)?;
            let names = request.path.names().chain(request.query.iter().flat_map(|(_, value)| value.names()));
            if !names.into_iter().any(|name| name == "id") {
                scope.problems.push(place.key("request").problem("`get` never says which record", "use `{id}`".to_owned()));
            }
            let record = path(scope, place.key("record"), get.record.as_deref().unwrap_or("."))?;
            Some(Get::Request { request, record })
        }
        _ => {
            let hint = "`request: GET /path/{id}`, `from: list`, or why there is `none`".to_owned();
            scope.problems.push(place.problem("`get` takes exactly one of `request`, `from` and `none`", hint));
            None
        }
    }
}

fn compile_filters(
    scope: &mut Scope<'_>,
    layers: Layers<'_>,
    file: &ResourceFile,
    shape: &'static Shape,
) -> BTreeMap<String, VendorFilter> {
    let mut filters = BTreeMap::new();
    for (name, filter) in &file.filters {
        let place = layers.key("filters");
        if !is_filter(name, shape) {
            let known: Vec<&str> = shape.fields.iter().map(|f| f.name).chain(OTHER_FILTERS.iter().copied()).collect();
            let head = name.split('[').next().unwrap_or(name);
            let message = format!("`{name}` is not a filter of {}", file.resource.plural());
            scope.problems.push(place.name(name).problem(message, suggest(head, &known, "filters")));
        }
        let query = compile_filter(scope, place.key(name), filter);
        let words = filter.words.clone().unwrap_or_default();
        filters.insert(name.clone(), VendorFilter { query, words, ops: filter.ops.clone(), needs: filter.needs.clone() });
    }
    filters
}

fn compile_filter(scope: &mut Scope<'_>, place: Place<'_>, filter: &FilterFile) -> Vec<(String, super::Template)> {
    for (i, op) in filter.ops.iter().enumerate().filter(|(_, op)| !OPS.contains(&op.as_str())) {
        let message = format!("`{op}` is not an operator");
        scope.problems.push(place.key("ops").index(i).problem(message, format!("operators: {}", OPS.join(", "))));
    }
    if filter.needs.as_deref().is_some_and(|needs| !is_word(needs)) {
        scope.problems.push(place.key("needs").problem("`needs` is the name of a fact", "for example `filter`".to_owned()));
    }
    let query = query(scope, place.key("query"), &filter.query, &["value"]);
    if !query.iter().any(|(_, template)| template.names().any(|name| name == "value")) {
        scope.problems.push(place.key("query").problem("the filter never says the value", "use `{value}`".to_owned()));
    }
    query
}

/// `status`, `emails[email]`: a field of the shape, or a member of its records.
fn is_filter(name: &str, shape: &'static Shape) -> bool {
    let Some((head, members)) = name.split_once('[') else {
        return shape.field(name).is_some() || OTHER_FILTERS.contains(&name);
    };
    let Some(members) = members.strip_suffix(']') else { return false };
    let within = |kind: Option<Kind>, member: &str| match kind? {
        Kind::Object(inner) | Kind::List(&Kind::Object(inner)) => inner.field(member).map(|field| field.kind),
        _ => None,
    };
    members.split("][").fold(shape.field(head).map(|field| field.kind), within).is_some()
}

fn compile_table(scope: &mut Scope<'_>, layers: Layers<'_>, file: &ResourceFile, shape: &'static Shape) -> Option<Table> {
    match Table::compile(&file.map, shape) {
        Ok(table) => Some(table),
        Err(errors) => {
            let problem = |error: RuleError| {
                let place = match written(&file.map, &error) {
                    Some(key) => layers.target(key),
                    None => layers.writer(|place| place.has("map")).name("map"),
                };
                rule_problem(place, error)
            };
            scope.problems.extend(errors.into_iter().map(problem));
            None
        }
    }
}

/// Mistakes in the rules of a map whose connector cannot be compiled for another reason. Whether a rule is missing is not
/// asked: another file may give it.
pub(super) fn check_rules(top: Place<'_>, map: &BTreeMap<String, RuleFile>, resource: Resource) -> Vec<Problem> {
    let errors = Table::compile(map, resource.shape()).err().unwrap_or_default();
    let place = |error: &RuleError| written(map, error).map(|key| top.key("map").name(key));
    errors.into_iter().filter_map(|error| place(&error).map(|place| rule_problem(place, error))).collect()
}

/// The key of the map that an error is about.
fn written<'m>(map: &'m BTreeMap<String, RuleFile>, error: &RuleError) -> Option<&'m str> {
    map.keys().map(String::as_str).filter(|key| error.target.starts_with(key)).max_by_key(|key| key.len())
}

fn rule_problem(place: Place<'_>, error: RuleError) -> Problem {
    place.problem(format!("{}: {}", error.target, error.message), error.hint)
}

/// The table of a resource the vendor does not have; never applied.
fn blank_table(shape: &'static Shape) -> Option<Table> {
    let required = shape.fields.iter().filter(|field| field.required);
    let rule = |kind: Kind| {
        let word = match kind {
            Kind::Enum(words) => words.last().copied().unwrap_or_default(),
            _ => "none",
        };
        RuleFile::Full(Box::new(SourceFile { constant: Some(word.into()), ..Default::default() }))
    };
    let map: BTreeMap<String, RuleFile> = required.map(|field| (field.name.to_owned(), rule(field.kind))).collect();
    Table::compile(&map, shape).ok()
}

/// `GET /path` with its query.
pub(super) fn request(
    scope: &mut Scope<'_>,
    place: Place<'_>,
    text: &str,
    parameters: &BTreeMap<String, String>,
    extra: &[&str],
) -> Option<Request> {
    let query = query(scope, place.key("query"), parameters, extra);
    match units::request(text) {
        Ok((method, path)) => {
            let path = scope.template(place.key("request"), path, extra, false)?;
            Some(Request { method, path, query })
        }
        Err(message) => {
            scope.problems.push(place.key("request").problem(format!("`{text}` is not a request"), message));
            None
        }
    }
}

fn query(
    scope: &mut Scope<'_>,
    place: Place<'_>,
    parameters: &BTreeMap<String, String>,
    extra: &[&str],
) -> Vec<(String, super::Template)> {
    let pair = |(name, text): (&String, &String)| Some((name.clone(), scope.template(place.key(name), text, extra, false)?));
    parameters.iter().filter_map(pair).collect()
}

/// A path into vendor records.
pub(super) fn path(scope: &mut Scope<'_>, place: Place<'_>, text: &str) -> Option<Path> {
    match Path::parse(text) {
        Ok(path) => Some(path),
        Err(error) => {
            let hint = "paths: `a.b`, `a[0]`, `a[*].b`, `a[?type=work].b`, `\"odd.key\"`, `.`".to_owned();
            scope.problems.push(place.problem(error.to_string(), hint));
            None
        }
    }
}

fn page_style(scope: &mut Scope<'_>, place: Place<'_>, page: &PageFile) -> Option<PageStyle> {
    let size = |max: &Option<u32>| max.map_or(DEFAULT_PAGE, |max| max as usize);
    let mut at = |key: &str, text: &Option<String>| match text {
        Some(text) => path(scope, place.key(key), text).map(Some),
        None => Some(None),
    };
    let style = match page {
        PageFile::None => PageStyle::None,
        PageFile::Scim { max } => PageStyle::Scim { max: size(max) },
        PageFile::Cursor { next, param, limit, max, more } => {
            let next = at("next", &Some(next.clone()))??;
            PageStyle::Cursor { next, param: param.clone(), limit: limit.clone(), max: size(max), more: at("more", more)? }
        }
        PageFile::NextUrl { next, limit, max } => {
            PageStyle::NextUrl { next: at("next", &Some(next.clone()))??, limit: limit.clone(), max: size(max) }
        }
        PageFile::LinkHeader { limit, max } => PageStyle::LinkHeader { limit: limit.clone(), max: size(max) },
        PageFile::Page { param, first, limit, max, pages, total } => PageStyle::Page {
            param: param.clone(),
            first: first.unwrap_or(1),
            limit: limit.clone(),
            max: *max as usize,
            pages: at("pages", pages)?,
            total: at("total", total)?,
        },
        PageFile::Offset { param, limit, max, total } => {
            PageStyle::Offset { param: param.clone(), limit: limit.clone(), max: *max as usize, total: at("total", total)? }
        }
    };
    if page_max(&style).is_some_and(|max| !(1..=10_000).contains(&max)) {
        scope.problems.push(place.key("max").problem("`max` is out of range", "from 1 to 10000".to_owned()));
    }
    Some(style)
}

fn page_max(style: &PageStyle) -> Option<usize> {
    match style {
        PageStyle::None => None,
        PageStyle::Scim { max }
        | PageStyle::Cursor { max, .. }
        | PageStyle::NextUrl { max, .. }
        | PageStyle::LinkHeader { max, .. }
        | PageStyle::Page { max, .. }
        | PageStyle::Offset { max, .. } => Some(*max),
    }
}
