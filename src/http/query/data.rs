//! What data calls ask for: `/unified/…` and `/proxy/…`.

use super::{
    Pair, Pairs, Query,
    grammar::{field, is_list, nearest, unknown, wrong},
};
use crate::{
    error::{Code, Error, Result},
    service::{Filter, FilterOp, ListQuery, OneQuery, Order, ResponseFormat, directory::MAX_LIMIT},
};

/// The most filters in one call.
const MAX_FILTERS: usize = 32;

const FORMATS: &[(&str, ResponseFormat)] = &[
    ("unified", ResponseFormat::Unified),
    ("raw", ResponseFormat::Raw),
    ("normalized", ResponseFormat::Normalized),
    ("debug", ResponseFormat::Debug),
    ("stream", ResponseFormat::Stream),
];

/// How a vendor's own records can be written: as they are.
const PROXY_FORMATS: &[(&str, ResponseFormat)] = &[("raw", ResponseFormat::Raw), ("debug", ResponseFormat::Debug)];

const DIRECTIONS: &[(&str, bool)] = &[("asc", false), ("desc", true)];

/// A list of the unified model: everything that is not a parameter is a filter.
#[derive(Debug)]
pub struct DataList(pub ListQuery);

impl Query for DataList {
    const NAMES: &'static [&'static str] = &[
        "limit",
        "next_cursor",
        "remote_query",
        "sort_by",
        "sort_direction",
        "truto_exclude_fields",
        "truto_ignore_limit",
        "truto_ignore_remote_data",
        "truto_key_by",
        "truto_response_format",
    ];

    fn take(pairs: &mut Pairs) -> Result<Self> {
        let OneQuery { format, exclude, ignore_remote_data, .. } = take_one_query(pairs)?;
        let key_by = pairs.take_one("truto_key_by")?.filter(|name| !name.is_empty());
        let mut query = ListQuery { key_by, format, exclude, ignore_remote_data, ..take_paging(pairs)? };
        query.remote_query = pairs.take_tree("remote_query")?;
        query.order = take_order(pairs)?;
        if let Some(pair) = pairs.rest().iter().find(|pair| mistyped(pair, Self::NAMES)) {
            return Err(unknown(&pair.key, Self::NAMES.iter().copied()));
        }
        query.filters = filters(pairs.take_rest())?;
        Ok(Self(query))
    }
}

/// One record of the unified model.
#[derive(Debug)]
pub struct DataOne {
    /// For the service.
    pub query: OneQuery,
    /// Wrap it as `{"result": …}`.
    pub envelope: bool,
}

impl Query for DataOne {
    const NAMES: &'static [&'static str] =
        &["envelope", "remote_query", "truto_exclude_fields", "truto_ignore_remote_data", "truto_response_format"];

    fn take(pairs: &mut Pairs) -> Result<Self> {
        let mut query = take_one_query(pairs)?;
        query.remote_query = pairs.take_tree("remote_query")?;
        Ok(Self { query, envelope: pairs.take_bool("envelope")? })
    }
}

/// What is taken away, and from what.
#[derive(Debug)]
pub struct DataDelete {
    /// For the service.
    pub query: OneQuery,
    /// The group that a user is taken out of, without being deleted.
    pub group: Option<String>,
}

impl Query for DataDelete {
    const NAMES: &'static [&'static str] = &["remote_query", "remove_from", "remove_from_id"];

    fn take(pairs: &mut Pairs) -> Result<Self> {
        let query = OneQuery { remote_query: pairs.take_tree("remote_query")?, ..OneQuery::default() };
        let from = pairs.take_choice("remove_from", &[("group", ())])?;
        let id = pairs.take_one("remove_from_id")?.filter(|id| !id.is_empty());
        match (from, id) {
            (Some(()), None) => Err(wrong("remove_from_id", "is missing: it names the group")),
            (None, Some(_)) => Err(wrong("remove_from", "is missing: it takes `group`")),
            (_, group) => Ok(Self { query, group }),
        }
    }
}

impl DataDelete {
    /// Refuses `remove_from` where nothing but the named object is taken away.
    pub fn only_users(&self) -> Result<()> {
        self.group.as_ref().map_or(Ok(()), |_| Err(wrong("remove_from", "is for users")))
    }
}

/// A list of a vendor's own resource: what is not a parameter goes to the vendor.
#[derive(Debug)]
pub struct ProxyList(pub ListQuery);

impl Query for ProxyList {
    const NAMES: &'static [&'static str] =
        &["limit", "next_cursor", "remote_query", "truto_ignore_limit", "truto_response_format"];

    fn take(pairs: &mut Pairs) -> Result<Self> {
        let format = pairs.take_choice("truto_response_format", PROXY_FORMATS)?.unwrap_or(ResponseFormat::Raw);
        let mut query = ListQuery { format, ..take_paging(pairs)? };
        query.remote_query = take_remote(pairs, Self::NAMES)?;
        Ok(Self(query))
    }
}

/// One of a vendor's own records: what is not a parameter goes to the vendor.
#[derive(Debug)]
pub struct ProxyOne {
    /// For the service.
    pub query: OneQuery,
    /// Wrap it as `{"result": …}`.
    pub envelope: bool,
}

impl Query for ProxyOne {
    const NAMES: &'static [&'static str] = &["envelope", "remote_query", "truto_response_format"];

    fn take(pairs: &mut Pairs) -> Result<Self> {
        let format = pairs.take_choice("truto_response_format", &PROXY_FORMATS[..1])?.unwrap_or(ResponseFormat::Raw);
        let envelope = pairs.take_bool("envelope")?;
        let remote_query = take_remote(pairs, Self::NAMES)?;
        Ok(Self { query: OneQuery { format, remote_query, ..OneQuery::default() }, envelope })
    }
}

fn take_paging(pairs: &mut Pairs) -> Result<ListQuery> {
    Ok(ListQuery {
        limit: pairs.take_limit(MAX_LIMIT)?,
        cursor: pairs.take_one("next_cursor")?.filter(|cursor| !cursor.is_empty()),
        ignore_limit: pairs.take_bool("truto_ignore_limit")?,
        ..ListQuery::default()
    })
}

/// `sort_by=name`, with `sort_direction=desc` where it is wanted, or `sort_by[name]=desc`.
fn take_order(pairs: &mut Pairs) -> Result<Option<Order>> {
    let direction = pairs.take_choice("sort_direction", DIRECTIONS)?;
    if pairs.rest().iter().any(|pair| pair.name == "sort_by" && !pair.path.is_empty()) {
        let mut fields = pairs.take_tree("sort_by")?;
        let (Some((field, word)), true) = (fields.pop(), fields.is_empty()) else {
            return Err(wrong("sort_by", "takes one field"));
        };
        return match DIRECTIONS.iter().find(|(known, _)| *known == word) {
            Some(_) if direction.is_some() => Err(wrong("sort_direction", "is said by `sort_by[…]` already")),
            Some((_, descending)) => Ok(Some(Order { field, descending: *descending })),
            None => Err(wrong("sort_by", "takes `asc` or `desc` when the field stands in brackets")),
        };
    }
    match (pairs.take_one("sort_by")?.filter(|field| !field.is_empty()), direction) {
        (Some(field), direction) => Ok(Some(Order { field, descending: direction.unwrap_or_default() })),
        (None, Some(_)) => Err(wrong("sort_direction", "needs `sort_by`")),
        (None, None) => Ok(None),
    }
}

fn take_one_query(pairs: &mut Pairs) -> Result<OneQuery> {
    Ok(OneQuery {
        format: pairs.take_choice("truto_response_format", FORMATS)?.unwrap_or_default(),
        exclude: pairs.take_list("truto_exclude_fields")?,
        ignore_remote_data: pairs.take_bool("truto_ignore_remote_data")?,
        remote_query: Vec::new(),
    })
}

pub(super) fn take_remote(pairs: &mut Pairs, names: &[&str]) -> Result<Vec<(String, String)>> {
    let mut remote = pairs.take_tree("remote_query")?;
    for pair in pairs.take_rest() {
        if pair.name.starts_with("truto_") {
            return Err(unknown(&pair.key, names.iter().copied()));
        }
        remote.push((pair.key, pair.value));
    }
    Ok(remote)
}

/// A parameter of ours with a slip of the pen would otherwise be taken for a filter.
fn mistyped(pair: &Pair, names: &[&str]) -> bool {
    pair.name.starts_with("truto_") || (pair.path.is_empty() && nearest(&pair.name, names.iter().copied()).is_some())
}

/// What is asked of records, field by field.
pub(super) fn filters(pairs: Vec<Pair>) -> Result<Vec<Filter>> {
    let mut filters: Vec<Filter> = Vec::new();
    for pair in pairs {
        let Filter { field, op, values } = filter(pair)?;
        match filters.iter().position(|f| f.field == field && same_kind(f.op, op)) {
            Some(earlier) if matches!(op, FilterOp::Eq | FilterOp::In) => {
                filters[earlier].op = FilterOp::In;
                filters[earlier].values.extend(values);
            }
            Some(_) => return Err(wrong(&field, "is compared twice the same way")),
            None if filters.len() == MAX_FILTERS => {
                return Err(
                    Error::new(Code::InvalidFilter, format!("One call takes at most {MAX_FILTERS} filters.")).field(field)
                );
            }
            None => filters.push(Filter { field, op, values }),
        }
    }
    Ok(filters)
}

/// Equal and one-of are one kind: `status=a&status=b` means one of both.
fn same_kind(a: FilterOp, b: FilterOp) -> bool {
    let kind = |op| if op == FilterOp::In { FilterOp::Eq } else { op };
    kind(a) == kind(b)
}

fn filter(pair: Pair) -> Result<Filter> {
    let Pair { name, mut path, value, .. } = pair;
    let mut in_list = false;
    if path.last().is_some_and(|last| is_list(std::slice::from_ref(last))) {
        path.pop();
        in_list = true;
    }
    let op = path.last().and_then(|last| FilterOp::parse(last));
    if op.is_some() {
        path.pop();
    }
    let field = field(&name, &path);
    if path.iter().any(String::is_empty) {
        return Err(
            Error::new(Code::InvalidFilter, format!("`{field}` has an empty pair of brackets in its middle.")).field(field)
        );
    }
    match op {
        Some(FilterOp::In) if in_list => Ok(Filter { field, op: FilterOp::In, values: vec![value] }),
        Some(FilterOp::In) => Ok(Filter { field, op: FilterOp::In, values: value.split(',').map(str::to_owned).collect() }),
        None | Some(FilterOp::Eq) if in_list => Ok(Filter { field, op: FilterOp::In, values: vec![value] }),
        Some(_) if in_list => {
            Err(Error::new(Code::InvalidFilter, format!("`{field}` takes one value for this operator.")).field(field))
        }
        op => Ok(Filter { field, op: op.unwrap_or(FilterOp::Eq), values: vec![value] }),
    }
}
