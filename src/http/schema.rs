//! The shapes of the wire that have no type of their own below: views, pages and parameters, as the OpenAPI document shows them.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::schema_install::{Environment, EnvironmentIntegration, written};
use super::schema_link::Region;
use super::schema_token::ApiToken;
use crate::{
    error::Origin,
    model::{
        Account, AccountId, AccountStatus, Activity, DirectoryLicense, EnvironmentId, FilterReport, Forbidden, Group, Member,
        Organization, Role, RoleAssignment, User, Warning, Workspace, environment_integration_id, integration_id,
    },
};

macro_rules! data_pages {
    ($($(#[$doc:meta])* $name:ident of $record:ty;)*) => {$(
        $(#[$doc])*
        #[derive(ToSchema)]
        pub struct $name {
            /// The records of this page.
            pub result: Vec<$record>,
            /// Where to go on; null at the end.
            #[schema(required = true)]
            pub next_cursor: Option<String>,
            /// Always null: lists are read forwards.
            #[schema(required = true)]
            pub prev_cursor: Option<String>,
            /// Records on this page.
            pub result_count: usize,
            /// Records lack fields that `get` has.
            pub is_partial_response: bool,
            /// Everything up to and including this page was read without known loss.
            pub complete: bool,
            /// What a caller should know.
            pub warnings: Vec<Warning>,
            /// Who evaluated which filter.
            pub filters: FilterReport,
        }
    )*};
}

data_pages! {
    /// A page of users.
    UserPage of User;
    /// A page of groups.
    GroupPage of Group;
    /// A page of a group's members.
    MemberPage of Member;
    /// A page of roles.
    RolePage of Role;
    /// A page of organizations.
    OrganizationPage of Organization;
    /// A page of workspaces.
    WorkspacePage of Workspace;
    /// A page of role assignments.
    RoleAssignmentPage of RoleAssignment;
    /// A page of licences.
    LicensePage of DirectoryLicense;
    /// A page of activities.
    ActivityPage of Activity;
    /// A page of a vendor's own records.
    ProxyPage of Map<String, Value>;
}

macro_rules! platform_pages {
    ($($(#[$doc:meta])* $name:ident of $record:ty;)*) => {$(
        $(#[$doc])*
        #[derive(ToSchema)]
        pub struct $name {
            /// The objects of this page.
            pub result: Vec<$record>,
            /// Where to go on; null at the end.
            #[schema(required = true)]
            pub next_cursor: Option<String>,
            /// The most objects this page could hold.
            pub limit: usize,
        }
    )*};
}

platform_pages! {
    /// A page of API tokens.
    ApiTokenPage of ApiToken;
    /// A page of linked accounts.
    IntegratedAccountPage of IntegratedAccount;
    /// A page of connectors.
    IntegrationPage of Integration;
    /// A page of connectors within this environment.
    EnvironmentIntegrationPage of EnvironmentIntegration;
    /// A page of environments.
    EnvironmentPage of Environment;
}

/// What a delete answers.
#[derive(ToSchema)]
pub struct Deleted {
    /// The id that is gone.
    pub id: String,
}

/// `POST /integrated-account`: one of `integration` and `environment_integration_id` names the connector.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "tenant_id": "acme-1", "integration": "scim", "authentication_method": "bearer",
    "context": {"base_url": "https://directory.example.com/scim/v2", "token": "the-token-of-the-directory"}
}))]
pub struct ImportIntegratedAccount {
    /// The id it shall have, for who moves in with accounts that have one: any UUID that no account has; one is made when left out.
    #[schema(format = Uuid)]
    #[serde(default)]
    pub id: Option<String>,
    /// The caller's own label of the end customer; at most 200 bytes, no control characters.
    #[schema(min_length = 1, max_length = 200)]
    pub tenant_id: String,
    /// The connector's slug or id.
    #[serde(default)]
    pub integration: Option<String>,
    /// The connector's id within this environment.
    #[serde(default)]
    pub environment_integration_id: Option<String>,
    /// The link method.
    pub authentication_method: String,
    /// The method's fields, and any context of the caller's own.
    #[serde(default)]
    pub context: Map<String, Value>,
    /// Whether the account is one to rehearse with; no when left out.
    #[serde(default)]
    pub is_sandbox: Option<bool>,
    /// Accepted for Truto's clients; data stays where the gateway runs.
    #[serde(default)]
    pub region: Option<Region>,
}

/// `PATCH /integrated-account/{id}`: what is left out stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeIntegratedAccount {
    /// A new label; at most 200 bytes, no control characters.
    #[schema(min_length = 1, max_length = 200)]
    #[serde(default)]
    pub tenant_id: Option<String>,
    /// Fields and context, merged at the top level; null removes. Changing a field that decides where secrets are sent needs all
    /// secrets of the method.
    #[serde(default)]
    pub context: Option<Map<String, Value>>,
    /// Rules for this account alone, laid over the connector's maps and those of its environment:
    /// `{"user-directory": {"users": {"map": {"<target>": <rule>}}}}`. Merged key by key; null removes.
    #[serde(default, deserialize_with = "written")]
    #[schema(value_type = Option<Map<String, Value>>)]
    pub unified_model_override: Option<Value>,
    /// False stops all calls, runs and pushes of the account (403 `account_disabled`) on every node within a second; credential
    /// and mappings are kept. True lets them through again without asking the vendor, who is then looked at.
    #[serde(default)]
    pub is_enabled: Option<bool>,
    /// When the credential ends; `integrated_account:expiring` tells it 14, 3 and 1 days before. Null forgets it.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<Timestamp>)]
    pub expires_at: Option<Option<Timestamp>>,
    /// Only `needs_reauth`, and alone: the vendor is asked now, and the status is what it says.
    #[serde(default, deserialize_with = "asked_about")]
    pub status: Option<AccountStatus>,
}

/// The vendor decides about a status, not the caller: one word is taken.
fn asked_about<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<AccountStatus>, D::Error> {
    match Option::<String>::deserialize(deserializer)?.as_deref() {
        None => Ok(None),
        Some("needs_reauth") => Ok(Some(AccountStatus::NeedsReauth)),
        Some(_) => Err(serde::de::Error::custom(
            "takes `needs_reauth`, upon which the vendor is asked and the status is what it says; `is_enabled` stops and allows calls",
        )),
    }
}

/// Tells null from what is left out.
fn given<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Option<Timestamp>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// What stands in `context` in place of a secret.
pub const REDACTED: &str = crate::service::REDACTED;

/// A linked account, without its secrets.
#[derive(Serialize, ToSchema)]
pub struct IntegratedAccount {
    /// Stable over re-links.
    pub id: AccountId,
    /// The caller's own label of the end customer.
    pub tenant_id: String,
    /// The environment it stands in.
    pub environment_id: EnvironmentId,
    /// The connector's id within this environment.
    pub environment_integration_id: Uuid,
    /// Where in its life it is.
    pub status: AccountStatus,
    /// Why it is not active.
    #[schema(required = true)]
    pub last_error: Option<String>,
    /// The last time the vendor said 403.
    #[schema(required = true)]
    pub last_forbidden_error: Option<Forbidden>,
    /// The link method.
    pub authentication_method: String,
    /// Whether the account is one to rehearse with.
    pub is_sandbox: bool,
    /// Whether calls go to the vendor; false is its owner's own switch.
    pub is_enabled: bool,
    /// When the credential ends, where it says so itself or somebody entered it.
    #[schema(required = true)]
    pub expires_at: Option<Timestamp>,
    /// Changes read at the vendor that wait to be taken over. Nothing is collected by itself yet: always 0.
    pub pending_changes: u64,
    /// When the gateway last looked at the other side by itself (link, test, daily look, status refresh) and was answered.
    #[schema(required = true)]
    pub last_synced_at: Option<Timestamp>,
    /// When it looks again, at the latest; in the past while the vendor does not answer, null while it does not look at all.
    #[schema(required = true)]
    pub next_sync_at: Option<Timestamp>,
    /// Grows whenever such a look, or a call, learned something new of the other side.
    pub data_version: u64,
    /// Fields and context; secrets show as `***`.
    pub context: Map<String, Value>,
    /// Rules laid over the connector's maps for this account alone.
    pub unified_model_override: Map<String, Value>,
    /// The connector.
    pub integration: IntegrationRef,
    /// The connector within this environment.
    pub environment_integration: EnvironmentIntegrationRef,
    /// What linking found, shown once.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub warnings: Vec<Warning>,
    /// When it was first linked.
    pub created_at: Timestamp,
    /// When anything of it last changed.
    pub updated_at: Timestamp,
}

/// A connector, in short.
#[derive(Clone, Serialize, ToSchema)]
pub struct IntegrationRef {
    /// Its id.
    pub id: Uuid,
    /// Its slug.
    pub name: String,
    /// For example `security`.
    pub category: String,
    /// What Truto's clients show.
    pub config: IntegrationLabel,
}

/// A connector's name for people.
#[derive(Clone, Serialize, ToSchema)]
pub struct IntegrationLabel {
    /// The name.
    pub label: String,
}

/// A connector within an environment, in short.
#[derive(Clone, Serialize, ToSchema)]
pub struct EnvironmentIntegrationRef {
    /// Its id.
    pub id: Uuid,
    /// Whether its accounts can be called.
    pub is_enabled: bool,
}

impl IntegratedAccount {
    /// The public view of a stored account, at which the gateway looks next at this time. A connector that is gone leaves its
    /// slug as label.
    pub fn view(
        account: Account,
        connector: Option<&crate::connector::Connector>,
        warnings: Vec<Warning>,
        next_sync_at: Option<Timestamp>,
    ) -> Self {
        let mut context = account.context;
        context.extend(account.fields.into_iter().map(|(name, value)| (name, Value::String(value))));
        context.extend(account.sealed.into_keys().map(|name| (name, Value::String(REDACTED.into()))));
        let slug = account.connector;
        let in_environment = environment_integration_id(account.environment, &slug);
        Self {
            id: account.id,
            tenant_id: account.tenant_id,
            environment_id: account.environment,
            environment_integration_id: in_environment,
            status: account.status,
            last_error: account.last_error,
            last_forbidden_error: account.last_forbidden,
            authentication_method: account.method,
            is_sandbox: account.is_sandbox,
            is_enabled: account.is_enabled,
            expires_at: account.expires_at,
            pending_changes: 0,
            last_synced_at: account.checked_at,
            next_sync_at,
            data_version: account.data_version,
            context,
            unified_model_override: match account.maps.is_empty() {
                true => Map::new(),
                false => Map::from_iter([("user-directory".to_owned(), Value::Object(account.maps))]),
            },
            integration: IntegrationRef {
                id: integration_id(&slug),
                category: connector.map(|c| c.file.category.clone()).unwrap_or_default(),
                config: IntegrationLabel { label: connector.map_or_else(|| slug.to_string(), |c| c.file.title.clone()) },
                name: slug.into(),
            },
            environment_integration: EnvironmentIntegrationRef { id: in_environment, is_enabled: true },
            warnings,
            created_at: account.created_at,
            updated_at: account.updated_at,
        }
    }

    /// The same, saying whether the connector is enabled in the environment.
    pub fn within(mut self, is_enabled: bool) -> Self {
        self.environment_integration.is_enabled = is_enabled;
        self
    }
}

/// A connector.
#[derive(Serialize, ToSchema)]
pub struct Integration {
    /// Its id.
    pub id: Uuid,
    /// Its slug.
    pub name: String,
    /// For example `security`.
    pub category: String,
    /// Its level is not `stable`.
    pub is_beta: bool,
    /// How far it can be trusted.
    pub level: crate::connector::Level,
    /// Whether it is installed in this environment.
    pub is_installed: bool,
    /// Whether accounts can be linked and called in this environment.
    pub is_enabled: bool,
    /// Product names people search for.
    pub products: Vec<String>,
    /// What Truto's clients show.
    pub config: IntegrationLabel,
    /// The link methods.
    pub authentication_methods: Vec<String>,
    /// The vendor's site.
    #[schema(required = true)]
    pub homepage: Option<String>,
    /// The API's documentation.
    #[schema(required = true)]
    pub docs_url: Option<String>,
}

/// Every error, as `application/problem+json`.
#[derive(ToSchema)]
#[schema(example = json!({
    "type": "/errors/invalid_parameter", "title": "A query parameter is unknown or has a value that is not allowed", "status": 400,
    "detail": "`limit` takes a whole number from 1 to 1000.", "code": "invalid_parameter", "origin": "gateway", "retryable": false,
    "request_id": "0198f0c2a1b07c1e9a51d2b53c1f0e77", "statusCode": 400, "error": "Bad Request",
    "message": "`limit` takes a whole number from 1 to 1000.", "field": "limit", "truto_is_remote_error": false
}))]
#[allow(non_snake_case, reason = "Truto's members are written so")]
pub struct Problem {
    /// A page about this kind of error, relative to the gateway.
    pub r#type: String,
    /// The same words for every error of this kind.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What was wrong this time.
    pub detail: String,
    /// The stable name to switch on.
    pub code: String,
    /// Who caused it.
    pub origin: Origin,
    /// The same request may succeed later.
    pub retryable: bool,
    /// Names the request in the operator's log.
    pub request_id: String,
    /// As `status`, for Truto's clients.
    pub statusCode: u16,
    /// The status in words.
    pub error: String,
    /// The vendor's sentence, else `detail`.
    pub message: String,
    /// The parameter or field at fault.
    #[schema(nullable = false)]
    pub field: Option<String>,
    /// The vendor answered, and its answer is the cause.
    pub truto_is_remote_error: bool,
    /// The vendor's answer: its JSON, else its text.
    #[schema(value_type = Option<Value>, nullable = false)]
    pub raw_response: Option<Value>,
    /// What Truto's clients look at.
    #[schema(nullable = false)]
    pub truto_error_insight: Option<Map<String, Value>>,
}

/// `truto_response_format`.
#[derive(ToSchema, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ResponseFormatWord {
    /// Mapped, with `remote_data`.
    Unified,
    /// The vendor's records as they are.
    Raw,
    /// Mapped, without `remote_data`.
    Normalized,
    /// Unified, and how it came about.
    Debug,
    /// As `unified`; a list as lines, like `Accept: application/x-ndjson`.
    Stream,
}

macro_rules! parameters {
    ($($(#[$doc:meta])* $name:ident { $($(#[$about:meta])* $parameter:ident: $kind:ty,)* })*) => {$(
        $(#[$doc])*
        #[derive(IntoParams)]
        #[into_params(parameter_in = Query)]
        #[allow(dead_code, reason = "for the document only; `query` reads what callers send")]
        pub struct $name {
            $($(#[$about])* pub $parameter: $kind,)*
        }
    )*};
}

parameters! {
    /// Parameters of every data call.
    CallParams {
        /// The linked account.
        integrated_account_id: Uuid,
        /// Query parameters for the vendor, sent as they are: `remote_query[name]=value`. A name that the connector sets itself, and
        /// any at a vendor that takes commands, is refused.
        #[param(style = DeepObject, explode, value_type = Option<HashMap<String, Value>>)]
        remote_query: Option<Map<String, Value>>,
    }

    /// More of them for records of the unified model.
    DataParams {
        /// How records are written.
        #[param(inline)]
        truto_response_format: Option<ResponseFormatWord>,
        /// Top-level fields to leave out, comma-separated or repeated as `truto_exclude_fields[]=`.
        truto_exclude_fields: Option<String>,
        /// Leaves `remote_data` out.
        truto_ignore_remote_data: Option<bool>,
    }

    /// More of them for lists.
    PagingParams {
        /// The most records on one page; a page may be shorter.
        #[param(minimum = 1, maximum = 1000, default = 100)]
        limit: Option<usize>,
        /// `next_cursor` of the page before; account, filters, order and limit must stay the same. Empty means the first page.
        next_cursor: Option<String>,
        /// Up to 10,000 records at once.
        truto_ignore_limit: Option<bool>,
    }

    /// More of them for lists of a vendor's own records.
    ProxyListParams {
        /// Of a list of groups' members: the group. Members want it; other resources take it for a parameter of the vendor's.
        group_id: Option<String>,
        /// The vendor's records are raw in any case; `debug` adds how the page came about.
        #[param(pattern = "^(raw|debug)$")]
        truto_response_format: Option<String>,
    }

    /// More of them for one of a vendor's own records.
    ProxyOneParams {
        /// Wraps the record as `{"result": …}`.
        envelope: Option<bool>,
        /// The vendor's record is raw in any case.
        #[param(pattern = "^raw$")]
        truto_response_format: Option<String>,
    }

    /// More of them for lists of the unified model.
    ListParams {
        /// Makes `result` an object keyed by this field. (This document describes the form without it.)
        truto_key_by: Option<String>,
        /// Sorts the whole list by this field, without regard to case; records that lack it come last. Of a list the main element
        /// counts, else the first, by its address, name or id. Also `sort_by[field]=desc`. The gateway sorts lists of up to 10,000
        /// records; a longer one is refused, naming this parameter.
        sort_by: Option<String>,
        /// The direction of `sort_by`, ascending when left out; not allowed without it.
        #[param(pattern = "^(asc|desc)$")]
        sort_direction: Option<String>,
        /// Filters by unified field, `filters[field]=value` or `field=value`; `field[in]=a,b` for one of several, `field[contains]=a`
        /// for a part in any case, `field[gte]=…` and the like for times. What is asked of the members of a list, one element
        /// satisfies together. `/capabilities` lists the filters. None is ever ignored.
        #[param(style = DeepObject, explode, value_type = Option<HashMap<String, Value>>)]
        filters: Option<Map<String, Value>>,
    }

    /// More of them for one record of the unified model.
    EnvelopeParams {
        /// Answers `{"result": …}` in place of the bare record.
        envelope: Option<bool>,
    }

    /// Parameters of every platform list.
    PageParams {
        /// The most objects on one page.
        #[param(minimum = 1, maximum = 5000, default = 100)]
        limit: Option<usize>,
        /// `next_cursor` of the page before. Empty means the first page.
        next_cursor: Option<String>,
    }

    /// Filters of the list of tokens.
    TokenParams {
        /// Only tokens of this name.
        name: Option<String>,
        /// Only tokens of this environment; a token sees those of its own.
        environment_id: Option<String>,
    }

    /// Filters of the list of accounts.
    AccountParams {
        /// Only accounts with this label.
        tenant_id: Option<String>,
        /// Only accounts with this status.
        #[param(inline)]
        status: Option<AccountStatus>,
        /// Only accounts of this connector, by slug.
        #[param(rename = "integration.name")]
        integration_name: Option<String>,
        /// Only sandboxes, or only real ones.
        is_sandbox: Option<bool>,
        /// Only accounts of this environment; a token sees those of its own.
        environment_id: Option<String>,
        /// Only accounts that were first linked then: `created_at[gte]=2026-01-31T12:00:00Z`, and so with `gt`, `lt`, `lte` and `eq`; a
        /// day is its beginning in UTC. All comparisons hold; `created_at=…` is `created_at[eq]=…`.
        #[param(style = DeepObject, explode, value_type = Option<HashMap<String, Value>>)]
        created_at: Option<Map<String, Value>>,
        /// Only accounts of which anything last changed then, in the same forms.
        #[param(style = DeepObject, explode, value_type = Option<HashMap<String, Value>>)]
        updated_at: Option<Map<String, Value>>,
        /// Accepted for Truto's clients: only accounts whose data is copied for searches to this region. No account's is.
        #[param(rename = "features.super_query", inline)]
        super_query: Option<Region>,
    }

    /// Filters of the list of connectors.
    IntegrationParams {
        /// Only the connector with this slug.
        name: Option<String>,
        /// With `connected`: look at this customer's accounts.
        tenant_id: Option<String>,
        /// Only connectors that have, or have not, a linked account.
        connected: Option<bool>,
        /// Only connectors that are installed in this environment, those that are not shown in the catalog too. Nothing is
        /// installed in an environment that is not the token's.
        environment_id: Option<String>,
    }

    /// What of the capabilities is wanted.
    CapabilityParams {
        /// `unified`, `proxy` or `all`.
        #[param(pattern = "^(all|proxy|unified)$")]
        r#type: Option<String>,
        /// Only these methods, comma-separated.
        methods: Option<String>,
        /// Only this resource.
        resource: Option<String>,
        /// False leaves out what has a description; everything has one.
        has_description: Option<bool>,
    }
}
