//! Filters: none is ever ignored. Each goes to the vendor where the connector declares it, and is evaluated on the mapped
//! records in any case.

mod values;

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

use serde_json::value::RawValue;

use self::values::Values;

pub use self::values::parse_time;
pub(in crate::service) use self::values::stands;
use crate::{
    connector::{Position, ResourceDef, VendorFilter},
    error::{Code, Error, Result},
    mapping::RuleFile,
    model::{FilterReport, Kind, Resource, Shape, Warning},
    service::Linked,
    service::members::{Members, Seen},
};

/// How a value is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FilterOp {
    /// Equal.
    Eq,
    /// One of a list.
    In,
    /// Greater.
    Gt,
    /// Greater or equal.
    Gte,
    /// Less.
    Lt,
    /// Less or equal.
    Lte,
    /// A part of the text, in any case.
    Contains,
}

impl FilterOp {
    /// The word in queries and connector files.
    pub const fn as_str(self) -> &'static str {
        match self {
            FilterOp::Eq => "eq",
            FilterOp::In => "in",
            FilterOp::Gt => "gt",
            FilterOp::Gte => "gte",
            FilterOp::Lt => "lt",
            FilterOp::Lte => "lte",
            FilterOp::Contains => "contains",
        }
    }

    /// The operator of this word.
    pub fn parse(word: &str) -> Option<FilterOp> {
        use FilterOp::{Contains, Eq, Gt, Gte, In, Lt, Lte};
        [Eq, In, Gt, Gte, Lt, Lte, Contains].into_iter().find(|op| op.as_str() == word)
    }
}

/// One filter of a caller, as parsed from the query: `status=active`, `filters[status]=active`, `emails[email]=…`,
/// `created_at[gte]=…`. The field is the unified name, nested parts in brackets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// For example `status`, `emails[email]`.
    pub field: String,
    /// How.
    pub op: FilterOp,
    /// One value, or several for `In`.
    pub values: Vec<String>,
}

/// Short names callers use, and the field they mean.
const ALIASES: &[(Resource, &str, &str)] = &[
    (Resource::User, "emails", "emails[email]"),
    (Resource::User, "email", "emails[email]"),
    (Resource::User, "group_id", "groups[id]"),
    (Resource::User, "role_id", "roles[id]"),
    (Resource::User, "organization_id", "organizations[id]"),
    (Resource::User, "workspace_id", "workspaces[id]"),
    (Resource::User, "workspace", "workspaces[id]"),
    (Resource::Group, "organization_id", "organization"),
    (Resource::Role, "organization_id", "organization"),
    (Resource::Workspace, "organization_id", "organization[id]"),
    (Resource::Organization, "organization_id", "id"),
    (Resource::RoleAssignment, "organization_id", "organization"),
    (Resource::License, "organization_id", "organization"),
    (Resource::Activity, "organization_id", "organization"),
    (Resource::Activity, "actor", "actor[user][id]"),
];

/// What others call the place in a list.
const PAGING: &[&str] =
    &["page", "page_size", "per_page", "pagesize", "offset", "skip", "start", "startIndex", "count", "cursor", "after"];

const NUMBER: &[&str] = &["eq", "in", "gt", "gte", "lt", "lte"];
const TIME: &[&str] = &["eq", "in", "gt", "gte", "lt", "lte"];
const TEXT: &[&str] = &["eq", "in", "contains"];
const WORD: &[&str] = &["eq", "in"];
const BOOL: &[&str] = &["eq"];

/// Filters made ready for one list.
#[derive(Debug, Default)]
pub struct Plan {
    tests: Vec<Test>,
    /// Query parameters for the vendor.
    pub pushed: Vec<(String, String)>,
    /// Who does what.
    pub report: FilterReport,
}

/// The unified field a filter means.
struct Target {
    name: String,
    path: Vec<String>,
    kind: Kind,
}

#[derive(Debug)]
struct Test {
    name: String,
    path: Vec<String>,
    op: FilterOp,
    values: Values,
}

/// The fields that filters ask for and none of the records looked at says. A vendor may leave them out of its lists, and then
/// "nobody" is not what it says.
#[derive(Debug, Default)]
pub struct Unsaid(Option<BTreeSet<String>>);

impl Unsaid {
    /// Looks at one more record.
    pub fn look(&mut self, plan: &Plan, record: &Members<'_>) {
        let is_unsaid = |member: &str| match record.get(member).map(Seen::of) {
            None | Some(Seen::Null) => true,
            Some(Seen::List(elements)) => elements.is_empty(),
            Some(_) => false,
        };
        match &mut self.0 {
            Some(members) => members.retain(|member| is_unsaid(member)),
            None => {
                let asked = plan.tests.iter().filter_map(|test| test.path.first());
                self.0 = Some(asked.filter(|member| is_unsaid(member)).cloned().collect());
            }
        }
    }

    /// What was found of more records.
    pub fn and(&mut self, more: Unsaid) {
        match (&mut self.0, more.0) {
            (Some(members), Some(more)) => members.retain(|member| more.contains(member)),
            (known, more) => *known = known.take().or(more),
        }
    }

    /// What a caller should know who got nothing.
    pub fn warnings(&self, resource: Resource) -> impl Iterator<Item = Warning> {
        self.0.iter().flatten().map(move |member| Warning {
            code: "field_never_said".to_owned(),
            message: format!(
                "Of the {} none says `{member}`: where the vendor leaves it out of lists, a filter of it finds nothing.",
                resource.plural()
            ),
            field: Some(member.clone()),
        })
    }
}

impl Plan {
    /// Checks every filter against the resource and decides who evaluates it.
    pub fn new(filters: &[Filter], def: &ResourceDef, linked: &Linked) -> Result<Plan> {
        let mut plan = Plan::default();
        for filter in filters {
            let target = Target::of(filter, def)?;
            if !is_filled(&def.map, &target.path) {
                return Err(never_filled(filter, def, linked));
            }
            let vendor = vendor_filter(def, linked, &target.name, filter.op);
            plan.tests.push(Test::new(target, filter)?);
            match vendor.filter(|vendor| !plan.asks(vendor)) {
                Some(vendor) => {
                    plan.pushed.extend(render(vendor, filter, position_of(def))?);
                    plan.report.vendor.push(filter.field.clone());
                }
                None => plan.report.gateway.push(filter.field.clone()),
            }
        }
        plan.tests.sort_by(|a, b| a.path.first().cmp(&b.path.first()));
        Ok(plan)
    }

    /// Whether a parameter of this vendor filter is taken already: sent twice, it would mean something else or nothing.
    fn asks(&self, vendor: &VendorFilter) -> bool {
        vendor.query.iter().any(|(name, _)| self.pushed.iter().any(|(taken, _)| taken == name))
    }

    /// Whether nothing is filtered.
    pub fn is_empty(&self) -> bool {
        self.tests.is_empty()
    }

    /// The names, for messages.
    pub fn names(&self) -> String {
        self.tests.iter().map(|t| t.name.as_str()).collect::<Vec<_>>().join(", ")
    }

    /// Whether a mapped record satisfies all. What is asked of members of one list, one element of it must satisfy together.
    pub fn holds(&self, record: &Members<'_>) -> bool {
        let of_one_list = |a: &Test, b: &Test| a.path.len() > 1 && b.path.len() > 1 && a.path[0] == b.path[0];
        self.tests.chunk_by(of_one_list).all(|tests| hold_together(tests, record))
    }

    /// The one company this plan is limited to, when a filter names exactly one.
    pub fn company(&self) -> Option<&str> {
        self.tests.iter().find_map(|test| match (&test.values, test.op) {
            (Values::Texts(texts), FilterOp::Eq | FilterOp::In)
                if texts.len() == 1
                    && matches!(test.name.as_str(), "organizations[id]" | "organization" | "organization[id]") =>
            {
                texts.first().map(String::as_str)
            }
            _ => None,
        })
    }

    /// The first and the last second that filters of this field leave, which a vendor is then asked for; the filters themselves
    /// hold more exactly.
    pub fn seconds(&mut self, field: &str) -> (Option<i64>, Option<i64>) {
        let (mut from, mut to): (Option<i64>, Option<i64>) = (None, None);
        for test in self.tests.iter().filter(|test| test.name == field) {
            let Values::Times(times) = &test.values else { continue };
            let (first, last) = (times.iter().min().map(|t| t.as_second()), times.iter().max().map(|t| t.as_second()));
            let is_from = !matches!(test.op, FilterOp::Lt | FilterOp::Lte);
            let is_to = !matches!(test.op, FilterOp::Gt | FilterOp::Gte);
            from = from.max(first.filter(|_| is_from));
            to = [to, last.filter(|_| is_to)].into_iter().flatten().min();
        }
        let (pushed, rest) = std::mem::take(&mut self.report.gateway).into_iter().partition(|name| name == field);
        self.report.gateway = rest;
        self.report.vendor.extend::<Vec<String>>(pushed);
        (from, to)
    }

    /// Moves the company filter from the gateway's column to the vendor's, because only that company is read.
    pub fn company_is_pushed(&mut self) {
        let is_company = |field: &String| field.starts_with("organization");
        let (pushed, rest) = std::mem::take(&mut self.report.gateway).into_iter().partition(is_company);
        self.report.gateway = rest;
        self.report.vendor.extend::<Vec<String>>(pushed);
    }
}

/// A field that can be filtered, as documents and messages name it.
pub struct Filterable {
    /// The unified name, or a short one.
    pub name: String,
    /// What it can be compared by.
    pub operators: &'static [&'static str],
    /// Those of them that the vendor evaluates; the gateway does the others.
    pub vendor: Vec<&'static str>,
}

impl Filterable {
    /// `vendor` where that evaluates any operator, else `gateway`.
    pub fn evaluated_by(&self) -> &'static str {
        if self.vendor.is_empty() { "gateway" } else { "vendor" }
    }
}

/// Every field that can be filtered because the connector fills it.
pub fn filterable(def: &ResourceDef) -> Vec<Filterable> {
    let mut found = leaves(def.resource.shape());
    found.extend(aliases(def.resource).map(|(_, alias, _)| ((*alias).to_owned(), TEXT)));
    found.retain(|(name, _)| is_filled(&def.map, &steps(&canonical(def.resource, name))));
    let offer = |(name, operators): (String, &'static [&'static str])| {
        let pushed = def.filters.get(&*canonical(def.resource, &name));
        let does = |word: &&&str| pushed.is_some_and(|filter| filter.ops.iter().any(|op| op == **word));
        Filterable { operators, vendor: operators.iter().filter(does).copied().collect(), name }
    };
    found.into_iter().map(offer).collect()
}

fn leaves(shape: &Shape) -> Vec<(String, &'static [&'static str])> {
    let mut found = Vec::new();
    for field in shape.fields {
        match field.kind {
            Kind::List(&Kind::Object(inner)) | Kind::Object(inner) => {
                found.extend(leaves(inner).into_iter().map(|(name, operators)| (within(field.name, &name), operators)));
            }
            Kind::List(&kind) | kind => found.push((field.name.to_owned(), operators(kind))),
        }
    }
    found.retain(|(_, operators)| !operators.is_empty());
    found
}

/// `actor` and `user[id]` are `actor[user][id]`.
fn within(outer: &str, inner: &str) -> String {
    let (head, rest) = inner.split_at(inner.find('[').unwrap_or(inner.len()));
    format!("{outer}[{head}]{rest}")
}

/// What a field of this kind can be compared by.
fn operators(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Text => TEXT,
        Kind::Enum(_) => WORD,
        Kind::Number => NUMBER,
        Kind::Time => TIME,
        Kind::Bool => BOOL,
        Kind::Object(_) | Kind::List(_) => &[],
    }
}

fn aliases(resource: Resource) -> impl Iterator<Item = &'static (Resource, &'static str, &'static str)> {
    ALIASES.iter().filter(move |(r, ..)| *r == resource || (resource == Resource::Me && *r == Resource::User))
}

fn canonical(resource: Resource, field: &str) -> Cow<'_, str> {
    let alias = aliases(resource).find(|(_, alias, _)| *alias == field);
    alias.map_or(Cow::Borrowed(field), |(_, _, target)| Cow::Borrowed(*target))
}

/// The members a filter's name leads through.
fn steps(name: &str) -> Vec<String> {
    name.split(['[', ']']).filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

/// Whether a rule of the map writes this field: `emails[0].email` and `emails` with an inner `email` both write
/// `emails[email]`.
fn is_filled(map: &BTreeMap<String, RuleFile>, path: &[String]) -> bool {
    map.iter().any(|(target, rule)| {
        let members = target.split('.').map(|step| step.split('[').next().unwrap_or_default());
        let written: Vec<&str> = members.collect();
        let is_above = written.len() <= path.len() && written.iter().zip(path).all(|(member, step)| member == step);
        let rest = path.get(written.len()..).unwrap_or_default();
        is_above
            && match rule {
                RuleFile::Full(full) if !rest.is_empty() => full.map.as_ref().is_none_or(|inner| is_filled(inner, rest)),
                _ => true,
            }
    })
}

pub(super) fn vendor_filter<'d>(def: &'d ResourceDef, linked: &Linked, name: &str, op: FilterOp) -> Option<&'d VendorFilter> {
    let filter = def.filters.get(name)?;
    let trusted = filter.needs.as_ref().is_none_or(|fact| linked.account.facts.get(fact) == Some(&serde_json::Value::Bool(true)));
    (trusted && filter.ops.iter().any(|word| word == op.as_str())).then_some(filter)
}

/// How a value stands in what is sent: in a query encoded, in a command as it is.
fn position_of(def: &ResourceDef) -> Position {
    let is_report = def.list.as_ref().is_some_and(|list| list.report.is_some());
    if is_report { Position::Text } else { Position::Query }
}

fn render(vendor: &VendorFilter, filter: &Filter, position: Position) -> Result<Vec<(String, String)>> {
    let value = filter.values.join(",");
    let own = vendor.words.get(&value);
    let values: Vec<&str> = own.map_or_else(|| vec![value.as_str()], |words| words.iter().map(String::as_str).collect());
    let mut parameters = Vec::new();
    for (name, template) in &vendor.query {
        for value in &values {
            let text = template.render(position, |wanted| (wanted == "value").then_some(*value)).map_err(|_| {
                Error::new(Code::InvalidFilter, format!("The value of `{}` holds a control character.", filter.field))
                    .field(&filter.field)
            })?;
            parameters.push((name.clone(), text));
        }
    }
    Ok(parameters)
}

impl Target {
    fn of(filter: &Filter, def: &ResourceDef) -> Result<Target> {
        let name = canonical(def.resource, &filter.field).into_owned();
        let path = steps(&name);
        let kind = leaf(def.resource.shape(), &path).ok_or_else(|| unknown(filter, def))?;
        Ok(Target { name, path, kind })
    }
}

impl Test {
    fn new(target: Target, filter: &Filter) -> Result<Test> {
        let values = Values::new(target.kind, &target.path, filter)?;
        Ok(Test { name: target.name, path: target.path, op: filter.op, values })
    }

    /// Whether an element of the list that the path begins with satisfies this.
    fn holds(&self, element: &RawValue) -> bool {
        any_leaf(element, &self.path[1..], &|leaf| self.values.compare(leaf, self.op))
    }
}

/// Tests whose paths begin with the same member.
fn hold_together(tests: &[Test], record: &Members<'_>) -> bool {
    let first = tests.first().and_then(|test| test.path.first());
    let Some(value) = first.and_then(|member| record.get(member)) else { return false };
    match Seen::of(value) {
        Seen::List(elements) => elements.iter().any(|element| tests.iter().all(|test| test.holds(element))),
        _ => tests.iter().all(|test| test.holds(value)),
    }
}

fn leaf(shape: &'static Shape, path: &[String]) -> Option<Kind> {
    let (first, rest) = path.split_first()?;
    match (shape.field(first)?.kind, rest) {
        (Kind::List(&Kind::Object(inner)) | Kind::Object(inner), [_, ..]) => leaf(inner, rest),
        (Kind::Object(_) | Kind::List(&Kind::Object(_)), []) => None,
        (Kind::List(element), []) => Some(*element),
        (kind, []) => Some(kind),
        _ => None,
    }
}

fn any_leaf(value: &RawValue, path: &[String], test: &dyn Fn(&Seen<'_>) -> bool) -> bool {
    match (Seen::of(value), path) {
        (Seen::List(items), _) => items.iter().any(|item| any_leaf(item, path, test)),
        (Seen::Object(members), [first, rest @ ..]) => members.get(first).is_some_and(|inner| any_leaf(inner, rest, test)),
        (leaf, []) => test(&leaf),
        _ => false,
    }
}

fn unknown(filter: &Filter, def: &ResourceDef) -> Error {
    let hint = match PAGING.contains(&filter.field.as_str()) {
        true => "Pages are asked for with `limit` and `next_cursor`.".to_owned(),
        false => filters_of(def),
    };
    let detail = format!("`{}` is not a filter or parameter here. {hint}", filter.field);
    Error::new(Code::InvalidFilter, detail).field(&filter.field)
}

/// A field no record can have would answer "nobody", which is not what the vendor says.
fn never_filled(filter: &Filter, def: &ResourceDef, linked: &Linked) -> Error {
    let (title, method) = (&linked.access.connector.file.title, &linked.access.method.name);
    let (field, plural) = (&filter.field, def.resource.plural());
    let detail = format!("{title}, linked by `{method}`, does not say the `{field}` of its {plural}. {}", filters_of(def));
    Error::new(Code::InvalidFilter, detail).field(field)
}

fn filters_of(def: &ResourceDef) -> String {
    let names: Vec<String> = filterable(def).into_iter().map(|filter| filter.name).collect();
    format!("Filters: {}.", names.join(", "))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::connector::Catalog;

    fn with<T>(record: &Value, look: impl FnOnce(&Members<'_>) -> T) -> T {
        look(&serde_json::from_str(&record.to_string()).unwrap())
    }

    fn test_of(field: &str, op: FilterOp, values: &[&str]) -> Result<Test> {
        let filter = Filter { field: field.into(), op, values: values.iter().map(|v| (*v).to_owned()).collect() };
        let catalog = Catalog::load(None).unwrap();
        let def = &catalog.get("scim").unwrap().method("bearer").unwrap().resources[&Resource::User];
        Test::new(Target::of(&filter, def)?, &filter)
    }

    #[test]
    fn nested_fields_and_aliases_reach_their_leaves() {
        let user = json!({"id": "1", "emails": [{"email": "Ada@x.example"}], "groups": [{"id": "g1"}], "is_2fa_enabled": true, "username": "Lovelace",
            "created_at": "2026-01-02T03:04:05Z", "status": "active"});
        let holds = |field, op, values: &[&str]| with(&user, |user| hold_together(&[test_of(field, op, values).unwrap()], user));
        assert!(holds("emails[email]", FilterOp::Eq, &["ada@X.example"]));
        assert!(holds("group_id", FilterOp::In, &["g0", "g1"]));
        assert!(!holds("group_id", FilterOp::Eq, &["G1"]));
        assert!(holds("is_2fa_enabled", FilterOp::Eq, &["true"]));
        assert!(holds("created_at", FilterOp::Gte, &["2026-01-02"]));
        assert!(!holds("created_at", FilterOp::Lt, &["2026-01-02T03:04:05Z"]));
        assert!(holds("created_at", FilterOp::In, &["2025-01-01", "2026-01-02T04:04:05+01:00"]));
        assert!(!holds("status", FilterOp::Eq, &["inactive"]));
        assert!(holds("username", FilterOp::Contains, &["LOVE"]));
        assert!(holds("group_id", FilterOp::Contains, &["G"]));
        assert!(!holds("username", FilterOp::Contains, &["lace."]));
    }

    #[test]
    fn what_is_asked_of_a_list_one_element_satisfies() {
        let tests = [("emails[email]", "ada@x.example"), ("emails[is_primary]", "true"), ("status", "active")];
        let tests = tests.map(|(field, value)| test_of(field, FilterOp::Eq, &[value]).unwrap());
        let plan = Plan { tests: tests.into(), ..Plan::default() };
        let user = |main: bool| {
            json!({"status": "active", "emails": [{"email": "ada@x.example", "is_primary": main},
                {"email": "other@x.example", "is_primary": !main}]})
        };
        assert!(with(&user(true), |user| plan.holds(user)));
        assert!(!with(&user(false), |user| plan.holds(user)), "the address is not the main one");
    }

    #[test]
    fn fields_that_no_record_says_are_known() {
        let tests = ["group_id", "title"].map(|field| test_of(field, FilterOp::Eq, &["x"]).unwrap());
        let plan = Plan { tests: tests.into(), ..Plan::default() };
        let never = |records: &[Value]| {
            let mut unsaid = Unsaid::default();
            records.iter().for_each(|record| with(record, |record| unsaid.look(&plan, record)));
            unsaid.warnings(Resource::User).filter_map(|warning| warning.field).collect::<Vec<_>>()
        };
        let (without, empty, with) = (json!({"id": "1"}), json!({"groups": [], "title": null}), json!({"groups": [{"id": "g"}]}));
        assert_eq!(never(&[]), [""; 0]);
        assert_eq!(never(&[without.clone(), empty.clone()]), ["groups", "title"]);
        assert_eq!(never(&[without, with, empty]), ["title"]);
        let mut both = Unsaid(Some(["groups".to_owned(), "title".to_owned()].into()));
        both.and(Unsaid::default());
        both.and(Unsaid(Some(["title".to_owned()].into())));
        assert_eq!(both.warnings(Resource::User).count(), 1);
    }

    #[test]
    fn another_apis_page_is_told_of_ours() {
        let error = test_of("page", FilterOp::Eq, &["2"]).unwrap_err();
        assert_eq!((error.field_name(), error.detail().contains("`next_cursor`")), (Some("page"), true));
    }

    #[test]
    fn what_cannot_be_evaluated_is_named() {
        for (field, op, value) in [
            ("shoe_size", FilterOp::Eq, "44"),
            ("emails[shoe]", FilterOp::Eq, "x"),
            ("status", FilterOp::Eq, "asleep"),
            ("status", FilterOp::Gt, "active"),
            ("is_2fa_enabled", FilterOp::Eq, "maybe"),
            ("created_at", FilterOp::Gt, "yesterday"),
            ("created_at", FilterOp::Contains, "2026-01-01"),
            ("status", FilterOp::Contains, "act"),
            ("name", FilterOp::Contains, ""),
        ] {
            let error = test_of(field, op, &[value]).unwrap_err();
            assert_eq!(error.code(), Code::InvalidFilter);
            assert_eq!(error.field_name(), Some(field));
        }
    }

    #[test]
    fn a_field_is_filled_when_a_rule_writes_it_at_any_depth() {
        let map: BTreeMap<String, RuleFile> = serde_json::from_value(json!({
            "id": "id", "aliases": "alias", "emails[0].email": "mail", "phones": {"each": "tel", "map": {"number": "."}},
            "organizations[0].name": "org"
        }))
        .unwrap();
        for (field, filled) in [
            ("id", true),
            ("aliases", true),
            ("emails[email]", true),
            ("emails[type]", false),
            ("phones[number]", true),
            ("phones[type]", false),
            ("organizations[name]", true),
            ("organizations[id]", false),
            ("timezone", false),
        ] {
            assert_eq!(is_filled(&map, &steps(field)), filled, "{field}");
        }
    }
}
