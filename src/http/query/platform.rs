//! What calls about the gateway's own objects ask for.

use jiff::{SignedDuration, Timestamp};

use super::{
    Pair, Pairs, Query,
    grammar::{is_list, shown, wrong},
};
use crate::{
    error::Result,
    model::AccountStatus,
    service::{FilterOp, ListAccounts, ListTokens, directory::filter::parse_time},
};

/// The page of a platform list when none is asked for.
pub const DEFAULT_LIMIT: usize = 100;

/// The largest page of a platform list.
pub const MAX_LIMIT: usize = 5000;

/// The oldest data key anybody asks for, days.
pub const MOST_DAYS: u32 = 36_500;

/// A call without parameters.
#[derive(Debug, Default)]
pub struct NoQuery;

impl Query for NoQuery {
    const NAMES: &'static [&'static str] = &[];

    fn take(_: &mut Pairs) -> Result<Self> {
        Ok(Self)
    }
}

/// A platform list.
#[derive(Debug)]
pub struct PlatformList {
    /// From 1 to 5,000.
    pub limit: usize,
    /// Where to go on.
    pub cursor: Option<String>,
}

impl Query for PlatformList {
    const NAMES: &'static [&'static str] = &["limit", "next_cursor"];

    fn take(pairs: &mut Pairs) -> Result<Self> {
        Ok(Self {
            limit: pairs.take_limit(MAX_LIMIT)?.unwrap_or(DEFAULT_LIMIT),
            cursor: pairs.take_one("next_cursor")?.filter(|cursor| !cursor.is_empty()),
        })
    }
}

/// The list of API tokens.
#[derive(Debug)]
pub struct TokenList {
    /// Paging.
    pub page: PlatformList,
    /// Which tokens.
    pub wanted: ListTokens,
}

impl Query for TokenList {
    const NAMES: &'static [&'static str] = &["environment_id", "limit", "name", "next_cursor"];

    fn take(pairs: &mut Pairs) -> Result<Self> {
        let page = PlatformList::take(pairs)?;
        let wanted = ListTokens {
            name: pairs.take_one("name")?,
            environment: pairs.take_one("environment_id")?,
            limit: page.limit,
            after: None,
        };
        Ok(Self { page, wanted })
    }
}

/// The list of linked accounts.
#[derive(Debug)]
pub struct AccountList {
    /// Paging.
    pub page: PlatformList,
    /// Which accounts.
    pub wanted: ListAccounts,
}

const STATUSES: &[(&str, AccountStatus)] = &[
    ("connecting", AccountStatus::Connecting),
    ("active", AccountStatus::Active),
    ("post_install_error", AccountStatus::PostInstallError),
    ("validation_error", AccountStatus::ValidationError),
    ("needs_reauth", AccountStatus::NeedsReauth),
];

/// Where Truto keeps the copies that its SuperQuery searches.
const REGIONS: &[&str] = &["wnam", "enam", "apac", "eu"];

impl Query for AccountList {
    const NAMES: &'static [&'static str] = &[
        "created_at",
        "environment_id",
        "features.super_query",
        "integration.name",
        "is_sandbox",
        "limit",
        "next_cursor",
        "status",
        "tenant_id",
        "updated_at",
    ];

    fn take(pairs: &mut Pairs) -> Result<Self> {
        let page = PlatformList::take(pairs)?;
        let wanted = ListAccounts {
            tenant_id: pairs.take_one("tenant_id")?,
            integration: take_dotted(pairs, "integration", "name")?,
            status: pairs.take_choice("status", STATUSES)?,
            is_sandbox: pairs.take_choice("is_sandbox", &[("true", true), ("false", false)])?,
            environment: pairs.take_one("environment_id")?,
            created_at: take_times(pairs, "created_at")?,
            updated_at: take_times(pairs, "updated_at")?,
            has_super_query: take_super_query(pairs)?,
            limit: page.limit,
            after: None,
        };
        Ok(Self { page, wanted })
    }
}

/// `integration.name=` as Truto writes it; `integration[name]=` as its SDKs encode it.
fn take_dotted(pairs: &mut Pairs, outer: &str, inner: &str) -> Result<Option<String>> {
    let name = format!("{outer}.{inner}");
    let dotted = pairs.take_one(&name)?;
    if let Some(plain) = pairs.rest().iter().find(|pair| pair.name == outer && pair.path.is_empty()) {
        return Err(wrong(outer, &format!("is no parameter by itself: write `{name}={}`", shown(&plain.value))));
    }
    let mut tree = pairs.take_tree(outer)?;
    let nested = match tree.pop() {
        Some((branch, value)) if branch == inner && tree.is_empty() => Some(value),
        None => None,
        Some(_) => return Err(wrong(outer, &format!("takes `{name}=…` once"))),
    };
    if dotted.is_some() && nested.is_some() {
        return Err(wrong(&name, "is given more than once"));
    }
    Ok(dotted.or(nested))
}

/// `features.super_query=`, whose word is judged although no account here has that feature.
fn take_super_query(pairs: &mut Pairs) -> Result<bool> {
    let Some(region) = take_dotted(pairs, "features", "super_query")? else { return Ok(false) };
    match REGIONS.contains(&region.as_str()) {
        true => Ok(true),
        false => Err(wrong("features.super_query", &format!("takes `{}`", REGIONS.join("`, `")))),
    }
}

/// `created_at=…`, `created_at[gte]=…` and the like; each operator once, and all of them hold.
fn take_times(pairs: &mut Pairs, name: &str) -> Result<Vec<(FilterOp, Timestamp)>> {
    let mut times: Vec<(FilterOp, Timestamp)> = Vec::new();
    for Pair { path, value, .. } in pairs.take(name) {
        let op = match path.as_slice() {
            [] => Some(FilterOp::Eq),
            [word] if !is_list(&path) => FilterOp::parse(word).filter(|op| !matches!(op, FilterOp::In | FilterOp::Contains)),
            _ => None,
        };
        let op = op.ok_or_else(|| wrong(name, "is compared by `eq`, `gt`, `gte`, `lt` or `lte`, in brackets"))?;
        if times.iter().any(|(known, _)| *known == op) {
            return Err(wrong(name, "is compared twice the same way"));
        }
        let time = parse_time(&value).ok_or_else(|| wrong(name, "takes a time such as `2026-01-31T12:00:00Z`, or a day"))?;
        times.push((op, time));
    }
    Ok(times)
}

/// What of the keys is wanted.
#[derive(Debug)]
pub struct KeyQuery {
    /// Data keys older than this are counted; none when nothing is to be counted.
    pub older_than: Option<SignedDuration>,
}

/// Older data keys are counted from here when nothing else is asked for.
const OLD_DAYS: u32 = 365;

impl Query for KeyQuery {
    const NAMES: &'static [&'static str] = &["count", "older_than_days"];

    fn take(pairs: &mut Pairs) -> Result<Self> {
        let count = pairs.take_choice("count", &[("true", true), ("false", false)])?.unwrap_or(true);
        let days = pairs.take_one("older_than_days")?.map(|text| days("older_than_days", &text)).transpose()?;
        let older_than = days.unwrap_or(SignedDuration::from_hours(i64::from(OLD_DAYS) * 24));
        Ok(Self { older_than: count.then_some(older_than) })
    }
}

fn days(name: &str, text: &str) -> Result<SignedDuration> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse::<u32>() {
        Ok(days) if digits && days <= MOST_DAYS => Ok(SignedDuration::from_hours(i64::from(days) * 24)),
        _ => Err(wrong(name, &format!("takes a whole number of days from 0 to {MOST_DAYS}"))),
    }
}

/// The list of connectors.
#[derive(Debug)]
pub struct IntegrationList {
    /// Paging.
    pub page: PlatformList,
    /// Only this slug.
    pub name: Option<String>,
    /// Look at this customer's accounts.
    pub tenant_id: Option<String>,
    /// Only connectors with, or without, an account (of `tenant_id`, when given).
    pub connected: Option<bool>,
    /// Only those installed in this environment.
    pub environment_id: Option<String>,
}

impl Query for IntegrationList {
    const NAMES: &'static [&'static str] = &["connected", "environment_id", "limit", "name", "next_cursor", "tenant_id"];

    fn take(pairs: &mut Pairs) -> Result<Self> {
        Ok(Self {
            page: PlatformList::take(pairs)?,
            name: pairs.take_one("name")?,
            tenant_id: pairs.take_one("tenant_id")?,
            connected: pairs.take_choice("connected", &[("true", true), ("false", false)])?,
            environment_id: pairs.take_one("environment_id")?,
        })
    }
}

/// What goes with a connector that is taken away.
#[derive(Debug, Default)]
pub struct Uninstall {
    /// The accounts that are linked by it.
    pub delete_accounts: bool,
}

impl Query for Uninstall {
    const NAMES: &'static [&'static str] = &["delete_accounts"];

    fn take(pairs: &mut Pairs) -> Result<Self> {
        Ok(Self { delete_accounts: pairs.take_bool("delete_accounts")? })
    }
}

/// What of the capabilities is wanted.
#[derive(Debug, Default)]
pub struct CapabilityQuery {
    /// `unified`, `proxy` or both.
    pub proxy: bool,
    /// See `proxy`.
    pub unified: bool,
    /// Only these methods; all when empty.
    pub methods: Vec<String>,
    /// Only this resource, by our name or the vendor's.
    pub resource: Option<String>,
}

impl Query for CapabilityQuery {
    const NAMES: &'static [&'static str] = &["has_description", "methods", "resource", "type"];

    fn take(pairs: &mut Pairs) -> Result<Self> {
        let kinds = [("all", (true, true)), ("proxy", (true, false)), ("unified", (false, true))];
        let (proxy, unified) = pairs.take_choice("type", &kinds)?.unwrap_or((true, true));
        // Every method has a description here, so that both values of Truto's parameter give the same answer or none.
        let described = pairs.take_choice("has_description", &[("true", true), ("false", false)])?.unwrap_or(true);
        let methods = take_methods(pairs)?;
        let resource = pairs.take_one("resource")?;
        Ok(Self { proxy: proxy && described, unified, methods, resource })
    }
}

/// Words for methods; `custom` means those of the vendor's own.
const METHODS: &[&str] = &["list", "get", "create", "update", "delete", "custom"];

fn take_methods(pairs: &mut Pairs) -> Result<Vec<String>> {
    let methods = pairs.take_list("methods")?;
    let known = |method: &&String| METHODS.contains(&method.as_str());
    match methods.iter().find(|method| !known(method)) {
        Some(method) => {
            let method: String = method.chars().take(32).collect();
            Err(wrong("methods", &format!("takes `{}`, not `{method}`", METHODS.join("`, `"))))
        }
        None => Ok(methods),
    }
}

/// Which tools are wanted.
#[derive(Debug, Default)]
pub struct ToolQuery {
    /// Only these methods; all when empty.
    pub methods: Vec<String>,
}

impl Query for ToolQuery {
    const NAMES: &'static [&'static str] = &["methods"];

    fn take(pairs: &mut Pairs) -> Result<Self> {
        Ok(Self { methods: take_methods(pairs)? })
    }
}

/// Whatever is asked, of a route that says no: only `integrated_account_id` is looked at.
#[derive(Debug)]
pub struct AnyQuery(Vec<Pair>);

impl AnyQuery {
    /// The value of a plain parameter that is not empty.
    pub fn one(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|p| p.name == name && p.path.is_empty() && !p.value.is_empty()).map(|p| p.value.as_str())
    }
}

impl Query for AnyQuery {
    const NAMES: &'static [&'static str] = &[];

    fn take(pairs: &mut Pairs) -> Result<Self> {
        Ok(Self(pairs.take_rest()))
    }
}
