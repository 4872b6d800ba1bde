//! A resource's file as it is written.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::{
    mapping::{OneOrMany, RuleFile},
    model::Resource,
};

/// `<plural>.yaml` (or `<plural>.<method>.yaml` for one link method): one resource.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ResourceFile {
    /// Which resource of the unified model.
    pub resource: Resource,
    /// The vendor's own name of it, used by `/proxy/{name}`; the plural when left out.
    pub proxy: Option<String>,
    /// Read once for each company the account sees.
    pub per: Option<Per>,
    /// The vendor has no such thing: why, with a source. Nothing else is given then.
    pub none: Option<String>,
    /// What the customer's plan must have for it.
    pub needs: Option<super::report::NeedsFile>,
    /// How to list.
    pub list: Option<ListFile>,
    /// How to get one.
    pub get: Option<GetFile>,
    /// Filters the vendor evaluates, by unified name (`emails[email]`, `status`).
    #[serde(default)]
    pub filters: BTreeMap<String, FilterFile>,
    /// Objects of the list lack fields that `get` has.
    #[serde(default)]
    pub partial: bool,
    /// Target path → rule.
    #[serde(default)]
    pub map: BTreeMap<String, RuleFile>,
    /// How it is written; left out, it is only read.
    pub write: Option<super::write::WriteFile>,
    /// Methods of the vendor's own, by name.
    #[serde(default)]
    pub methods: BTreeMap<String, super::method::MethodFile>,
    /// Source paths that need not occur in any fixture.
    #[serde(default)]
    pub optional: Vec<String>,
}

/// What a list is repeated over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Per {
    /// The account's own enterprise and every managed company.
    Company,
}

/// How to list: exactly one of `request`, `command`, `of`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListFile {
    /// `GET /path`.
    pub request: Option<String>,
    /// A command and its arguments, for command transports.
    pub command: Option<Vec<String>>,
    /// Records of another resource of this connector that satisfy `having`.
    pub of: Option<Resource>,
    /// For `of`: the record's texts at these paths contain the value (a template; `{group_id}` for members).
    pub having: Option<Having>,
    /// Query parameters.
    #[serde(default)]
    pub query: BTreeMap<String, String>,
    /// Where the records are in the answer, for example `Resources[*]`; the answer's top when left out.
    pub records: Option<String>,
    /// How the next page is found; `none` when left out.
    #[serde(default)]
    pub page: PageFile,
    /// For a `command` that reports what happened, newest first, and is read by time.
    pub report: Option<super::report::ReportFile>,
    /// When an answer is not to be believed.
    #[serde(default)]
    pub complete: CompleteFile,
}

/// A condition on the records of another resource.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Having {
    /// Source paths, looked at in order.
    pub path: OneOrMany<String>,
    /// The text to be found.
    pub is: String,
}

/// When a list is not to be believed.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CompleteFile {
    /// An empty list means something went wrong at the vendor.
    #[serde(default)]
    pub not_if_empty: bool,
    /// The vendor leaves the list out when there are no records; without this a missing list is a broken answer.
    #[serde(default)]
    pub absent_is_empty: bool,
}

/// How the next page is found.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(tag = "style", rename_all = "snake_case", deny_unknown_fields)]
pub enum PageFile {
    /// Everything comes at once.
    #[default]
    None,
    /// SCIM: index paging or RFC 9865 cursors, as ServiceProviderConfig says.
    Scim {
        /// Largest `count` asked for; default 100.
        #[serde(default)]
        max: Option<u32>,
    },
    /// A cursor in the answer goes into a parameter.
    Cursor {
        /// Where the cursor is in the answer.
        next: String,
        /// The parameter it goes into.
        param: String,
        /// The parameter of the page size.
        #[serde(default)]
        limit: Option<String>,
        /// Largest page size.
        #[serde(default)]
        max: Option<u32>,
        /// Path of a boolean that says whether there is more; a cursor alone is enough when left out.
        #[serde(default)]
        more: Option<String>,
    },
    /// The answer holds the next address.
    NextUrl {
        /// Where.
        next: String,
        /// The parameter of the page size, first request only.
        #[serde(default)]
        limit: Option<String>,
        /// Largest page size.
        #[serde(default)]
        max: Option<u32>,
    },
    /// `Link: <…>; rel="next"`.
    LinkHeader {
        /// The parameter of the page size, first request only.
        #[serde(default)]
        limit: Option<String>,
        /// Largest page size.
        #[serde(default)]
        max: Option<u32>,
    },
    /// Page numbers.
    Page {
        /// The parameter of the page number.
        param: String,
        /// The first page's number; default 1.
        #[serde(default)]
        first: Option<u64>,
        /// The parameter of the page size.
        limit: String,
        /// Largest page size.
        max: u32,
        /// Where the number of pages is in the answer.
        #[serde(default)]
        pages: Option<String>,
        /// Where the number of records is in the answer.
        #[serde(default)]
        total: Option<String>,
    },
    /// Offsets.
    Offset {
        /// The parameter of the offset.
        param: String,
        /// The parameter of the page size.
        limit: String,
        /// Largest page size.
        max: u32,
        /// Where the number of records is in the answer.
        #[serde(default)]
        total: Option<String>,
    },
}

/// How to get one: exactly one of `request`, `from` and `none`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GetFile {
    /// `GET /path/{id}`.
    pub request: Option<String>,
    /// `list`: find the id in the list.
    pub from: Option<FromList>,
    /// Query parameters.
    #[serde(default)]
    pub query: BTreeMap<String, String>,
    /// Where the record is in the answer; the answer itself when left out.
    pub record: Option<String>,
    /// The vendor shows no single one: why, with a source.
    pub none: Option<String>,
}

/// See [`GetFile::from`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FromList {
    /// Find the id in the list.
    List,
}

/// A filter the vendor evaluates.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FilterFile {
    /// Query parameters, of a report options; `{value}` is the caller's value.
    pub query: BTreeMap<String, String>,
    /// The vendor's words for a unified one, where it has others: each is sent.
    pub words: Option<BTreeMap<String, Vec<String>>>,
    /// Operators it takes: `eq`, `in`, `gt`, `gte`, `lt`, `lte`, `contains` (in any case).
    pub ops: Vec<String>,
    /// A fact of the account (`facts.<name>`) that must be true for the vendor to be trusted with it.
    pub needs: Option<String>,
}
