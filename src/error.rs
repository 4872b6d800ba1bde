//! The one table of everything that can go wrong in front of a caller, and the one error type that carries it.
//!
//! Nothing here knows HTTP beyond a status number; `http::problem` is the only place that makes an answer of it.

use std::fmt;

use bytes::Bytes;
use serde::Serialize;
use serde_json::Value;

use crate::model::Allowance;

/// Who caused the error: the gateway (or its caller) or the vendor behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// Rollcall, its store or the caller's own request.
    Gateway,
    /// The vendor's answer, or the lack of one.
    Vendor,
}

/// One row of the error table.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The stable name callers switch on.
    pub name: &'static str,
    /// The HTTP status used unless the vendor's own status is kept.
    pub status: u16,
    /// Who caused it.
    pub origin: Origin,
    /// Whether the same request may succeed later without a change.
    pub retryable: bool,
    /// Short, constant title.
    pub title: &'static str,
    /// What the caller can do about it.
    pub advice: &'static str,
}

macro_rules! error_table {
    ($($variant:ident $name:literal $status:literal $origin:ident $retry:literal $title:literal $advice:literal;)*) => {
        /// The name of one row of the error table.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Code { $(#[doc = $title] $variant),* }

        impl Code {
            /// Every code, in the order of the table; documents are made from it.
            pub const ALL: &'static [Code] = &[$(Code::$variant),*];

            /// The row of this code.
            pub const fn row(self) -> Row {
                match self {
                    $(Code::$variant => Row {
                        name: $name, status: $status, origin: Origin::$origin, retryable: $retry,
                        title: $title, advice: $advice,
                    }),*
                }
            }
        }
    };
}

error_table! {
    InvalidToken "invalid_token" 401 Gateway false "The token is missing, unknown, expired or revoked"
        "Send `Authorization: Bearer <token>` with a token made by `POST /api-token` or `rollcall token create`.";
    ScopeMissing "scope_missing" 403 Gateway false "The token lacks a scope this call needs"
        "Make a token that has the scope named in `detail`.";
    TokenKind "token_kind" 403 Gateway false "The route does not take this kind of token"
        "An account token reaches `/unified/`, `/proxy/`, `/custom/`, `/passthrough/` and `/integrated-account/me`; everything else takes an API token.";
    NotFound "not_found" 404 Gateway false "No such object"
        "Check the id. Objects of another environment look exactly like missing ones.";
    RouteNotFound "route_not_found" 404 Gateway false "No such route"
        "See `/openapi.json` for every route.";
    MethodNotAllowed "method_not_allowed" 405 Gateway false "The route does not answer this method"
        "Use a method named in the `Allow` header.";
    ResourceNotSupported "resource_not_supported" 404 Gateway false "The connector has no such resource"
        "See `/integrated-account/{id}/capabilities` for what this account offers.";
    MethodNotSupported "method_not_supported" 405 Gateway false "The connector has the resource, but not this method"
        "See `/integrated-account/{id}/capabilities`; `detail` names the way to link that could do it, if there is one.";
    InvalidParameter "invalid_parameter" 400 Gateway false "A query parameter is unknown or has a value that is not allowed"
        "`detail` and `field` name the parameter and what it takes.";
    InvalidFilter "invalid_filter" 400 Gateway false "A filter names an unknown field, operator or value"
        "`detail` and `field` name it; `/capabilities` lists the filters.";
    FilterTooBroad "filter_too_broad" 422 Gateway false "No match was found in the time one call may take"
        "Filter by a field the vendor can evaluate (see `/capabilities`), or read the list unfiltered page by page.";
    InvalidCursor "invalid_cursor" 400 Gateway false "The cursor is damaged, expired or belongs to another list"
        "Start again without `next_cursor`; keep account, filters, order and limit the same while paging.";
    InvalidBody "invalid_body" 400 Gateway false "The request body is not what this route takes"
        "`detail` and `field` say where.";
    InvalidPath "invalid_path" 400 Gateway false "The path could leave the vendor's base address"
        "Remove dot segments, backslashes, encoded slashes and leading double slashes.";
    InvalidRequest "invalid_request" 400 Gateway false "The request is framed in a way that is not safe to forward"
        "Send one plain HTTP/1.1 request: origin-form target, one `Host`, no `Upgrade`.";
    InvalidHeader "invalid_header" 400 Gateway false "A header has a value that is not allowed"
        "`detail` and `field` name the header and what it takes.";
    UnknownHost "unknown_host" 400 Gateway false "The `Host` header is not the public address"
        "Call the address in `ROLLCALL_PUBLIC_URL`.";
    BodyTooLarge "body_too_large" 413 Gateway false "The request body is larger than this route takes"
        "Send less; passthrough bodies have no limit.";
    RequestTimeout "request_timeout" 408 Gateway true "The request body did not arrive in time"
        "Send the request again.";
    Conflict "conflict" 409 Gateway true "Somebody else changed the object at the same time"
        "Read it again and repeat the change.";
    IdTaken "id_taken" 422 Gateway false "An object with this id exists already"
        "Ids of other environments count too. Use another id, or leave it out and one is made; to link an account of yours anew, change it.";
    IdempotencyInProgress "idempotency_in_progress" 409 Gateway true "A call with this idempotency key is still running"
        "Send the same request again after a moment; it is answered with the reply of the call that runs.";
    IdempotencyKeyReused "idempotency_key_reused" 422 Gateway false "The idempotency key belongs to another request"
        "Use a new key for every new request; repeat a key only with the same method, path and body.";
    DependencyFailed "dependency_failed" 424 Gateway false "An entry of the batch that this one needs has failed"
        "See the error of the entry named in `detail`; this one was not called.";
    ReauthRequired "reauth_required" 401 Vendor false "The vendor no longer accepts this account's credential"
        "Let the customer link the account again; its id stays. It is also tested once a minute, and comes back when the vendor accepts it.";
    AccountDisabled "account_disabled" 403 Gateway false "Calls of this account are stopped"
        "`PATCH /integrated-account/{id}` with `{\"is_enabled\": true}` lets them through again; credential and mappings are kept.";
    CredentialRefused "credential_refused" 422 Vendor false "The vendor refused the new credential"
        "`detail` and `raw_response` hold what the vendor said. Nothing was stored.";
    SecretsRequired "secrets_required" 422 Gateway false "A field that decides where secrets are sent was changed without them"
        "Send all secrets of the link method in the same request.";
    InvalidField "invalid_field" 422 Gateway false "A field of the link method is missing or has a value that is not allowed"
        "`detail` and `field` name it and what it takes.";
    FieldNotWritable "field_not_writable" 422 Gateway false "A field of the record cannot be written at this vendor"
        "`field` names it and `detail` says why; `/capabilities` lists the fields that can. Leave it out, or send the vendor's own in `remote_data`.";
    FieldMissing "field_missing" 422 Gateway false "The vendor needs a field that is not in the record"
        "`field` names it; send it.";
    AlreadyExists "already_exists" 422 Vendor false "The vendor has such a record already"
        "Read it, and change it instead.";
    WriteNotTaken "write_not_taken" 502 Vendor false "The vendor said it was done, but it was not"
        "`detail` says what the vendor answered and what is really there. What a vendor keeps for later, such as a member who has not joined yet, does not show.";
    WritePartial "write_partial" 502 Vendor false "The vendor took a part of the write and reported a failure"
        "`detail` names what was taken and what was not; read the record before going on.";
    WriteUnconfirmed "write_unconfirmed" 502 Vendor false "Whether the write took effect is not known"
        "Read the record before sending anything again: it may have changed, or may still.";
    AuthorizationRefused "authorization_refused" 422 Gateway false "The customer's way to the vendor and back did not end in an agreement"
        "`detail` says why. Nothing was stored; open the link again.";
    OauthAppMissing "oauth_app_missing" 422 Gateway false "The way to link needs an OAuth app, and none is registered"
        "Register one with the vendor, with the redirect address whose path `/integration/{slug}/capabilities` shows, and name it in `ROLLCALL_OAUTH_APPS_FILE`.";
    NameTaken "name_taken" 422 Gateway false "Another object has this name already"
        "`field` holds the name; choose another one.";
    StillInUse "still_in_use" 422 Gateway false "Something else depends on the object"
        "`detail` says what is left and how many of it; take that away first, or ask for it to be taken away along.";
    IntegrationDisabled "integration_disabled" 403 Gateway false "The connector is switched off in this environment"
        "Nothing can be linked or called by it; the vendor was not asked. An administrator can enable it: `PATCH /environment-integration/{id}`.";
    EgressRefused "egress_refused" 422 Gateway false "The address is not one this gateway may call"
        "Use the vendor's public https address, or let the operator list it in `ROLLCALL_EGRESS_ALLOW`.";
    OutsideDirectoryLayer "outside_directory_layer" 403 Gateway false "The call reaches beyond directory and billing data"
        "Only the directory and billing commands of the connector pass; vault data stays with the customer.";
    DeniedByConnector "denied_by_connector" 403 Gateway false "The connector does not let this call through its proxy"
        "See `detail` for what is allowed.";
    VendorUnreachable "vendor_unreachable" 502 Vendor true "The vendor did not answer"
        "Try again later; `detail` says whether name, connection, TLS or time was the reason.";
    VendorError "vendor_error" 502 Vendor false "The vendor answered with an error"
        "`raw_response` holds the vendor's own words; its status is kept.";
    VendorRateLimited "vendor_rate_limited" 429 Vendor true "The vendor asks to slow down"
        "Wait for `Retry-After` seconds.";
    VendorHeld "vendor_held" 503 Vendor true "The vendor keeps failing, so calls to it are held back"
        "Wait for `Retry-After` seconds; the vendor is asked again about every 5 s, and calls pass as soon as it answers.";
    VendorDenied "vendor_denied" 403 Vendor false "The vendor does not allow this credential to do that"
        "Grant the right named in `raw_response`, then call again.";
    AddonMissing "addon_missing" 403 Vendor false "The customer's plan at the vendor lacks what this needs"
        "`detail` names the add-on; `/integrated-account/{id}/capabilities` shows it. Once it is bought, the next call finds it.";
    VendorNotReady "vendor_not_ready" 503 Vendor true "The vendor cannot answer yet"
        "Wait for `Retry-After` seconds.";
    VendorBadAnswer "vendor_bad_answer" 502 Vendor false "The vendor's answer could not be read"
        "`detail` says what was wrong with it: not JSON, cut off, too large, or not of the promised shape.";
    VendorPagingBroken "vendor_paging_broken" 502 Vendor false "The vendor's paging does not make progress"
        "Records would be lost or repeated, so the list was ended. Report it to the vendor; `detail` names the sign.";
    VendorContextChanged "vendor_context_changed" 503 Vendor true "Another client switched the vendor's session to another company"
        "Nothing was returned from the wrong company. Try again; keep other clients off this service.";
    CredentialUnreadable "credential_unreadable" 500 Gateway false "The stored credential does not open"
        "The record was moved or changed, or its key is gone. Link the account again; its id stays.";
    StoreUnavailable "store_unavailable" 503 Gateway true "The store does not answer"
        "Try again after `Retry-After` seconds.";
    LaterRelease "later_release" 503 Gateway true "A later release wrote the record, and this node cannot read it"
        "Send the request again: nodes of that release answer it. Where there is none, the record was changed from outside; restore it from a backup.";
    Busy "busy" 503 Gateway true "Too much is waiting for the same account"
        "Try again after `Retry-After` seconds.";
    Overloaded "overloaded" 503 Gateway true "As many requests are under way as this node takes at once"
        "Nothing was done. Send the request again after `Retry-After` seconds, or to another node.";
    RateLimited "rate_limited" 429 Gateway true "The operator's own limit for this token or account is used up"
        "Wait for `Retry-After` seconds; `RateLimit-Policy` names the limit.";
    ShuttingDown "shutting_down" 503 Gateway true "The gateway is being stopped"
        "Send the request again; a list that was given out as lines goes on with the `next_cursor` of its last line.";
    Internal "internal" 500 Gateway false "Something went wrong inside the gateway"
        "Report the `request_id` to the operator.";
}

/// What the vendor said, kept beside an error so that a caller sees the cause.
#[derive(Clone, Debug, Default)]
pub struct VendorAnswer {
    /// The vendor's status, kept as the answer's status when it was an error.
    pub status: Option<u16>,
    /// The vendor's useful headers, already free of hop-by-hop and credential headers.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The vendor's body, at most 64 KiB of it.
    pub body: Bytes,
    /// Rights the credential lacks, where the vendor names them; boxed, because errors stay small.
    pub missing_scopes: Option<Box<Vec<String>>>,
}

/// Where vendors put the sentence for people, in the order in which it is looked for.
const MESSAGE_MEMBERS: &[&str] =
    &["message", "msg", "errorMessage", "description", "detail", "summary", "error_description", "error", "title"];
/// Longer texts are no sentences.
const LONGEST_WORDS: usize = 2048;
/// How much of it becomes part of a sentence of ours.
const SHOWN: usize = 300;

impl VendorAnswer {
    /// The vendor's sentence for people, looked for at the top and one level below.
    pub fn words(&self) -> Option<String> {
        let value: Value = serde_json::from_slice(&self.body).ok()?;
        let inner =
            |v: &Value| MESSAGE_MEMBERS.iter().find_map(|m| v.get(m)?.as_str().filter(|s| !s.is_empty()).map(str::to_owned));
        inner(&value).or_else(|| match &value {
            Value::Object(members) => members.values().find_map(|v| inner(v).or_else(|| inner(v.get(0)?))),
            Value::Array(items) => items.first().and_then(inner),
            _ => None,
        })
    }

    /// The same for a sentence of ours: short, and as it stands in the answer, because what is written otherwise there was not
    /// looked through for what the vendor writes back of a credential.
    pub fn plain_words(&self) -> Option<String> {
        let words = self.words().filter(|words| words.len() <= LONGEST_WORDS)?;
        let stands = self.body.windows(words.len()).any(|part| part == words.as_bytes());
        stands.then(|| words.chars().filter(|c| !c.is_control()).take(SHOWN).collect())
    }
}

/// The one error of everything above floor 1.
#[derive(Clone)]
pub struct Error(Box<Inner>);

#[derive(Clone)]
struct Inner {
    code: Code,
    status: u16,
    detail: String,
    field: Option<String>,
    retry_after: Option<u64>,
    allow: Option<String>,
    vendor: Option<VendorAnswer>,
    refused: Option<Allowance>,
    cause: Option<String>,
}

/// The result of everything above floor 1.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of this code; `detail` is shown to the caller and must hold no secret and no URL with a query.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            code,
            status: code.row().status,
            detail: detail.into(),
            field: None,
            retry_after: code.row().retryable.then_some(1),
            allow: None,
            vendor: None,
            refused: None,
            cause: None,
        }))
    }

    /// The one answer for ids that are missing, malformed or somebody else's.
    pub fn not_found() -> Self {
        Self::new(Code::NotFound, "No object with this id exists in this environment.")
    }

    /// A number that would go on as another one.
    pub fn inexact(field: String) -> Self {
        let detail = format!("`{field}` has a number of more digits than 64 bits hold; it would not go on as it was sent.");
        Self::new(Code::InvalidBody, detail).field(field)
    }

    /// An error of the gateway's own making; `cause` goes to the log only.
    pub fn internal(cause: impl fmt::Display) -> Self {
        Self::new(Code::Internal, "The gateway could not finish this request.").because(cause)
    }

    /// Names the request field or parameter at fault.
    pub fn field(mut self, field: impl Into<String>) -> Self {
        self.0.field = Some(field.into());
        self
    }

    /// Sets the seconds to wait; never below 1.
    pub fn retry_after(mut self, seconds: u64) -> Self {
        self.0.retry_after = Some(seconds.max(1));
        self
    }

    /// Names the methods the route or resource does answer.
    pub fn allow(mut self, methods: impl Into<String>) -> Self {
        self.0.allow = Some(methods.into());
        self
    }

    /// Replaces the table's status, for vendor errors and 502/504.
    pub fn status(mut self, status: u16) -> Self {
        self.0.status = status;
        self
    }

    /// Keeps the vendor's answer; an error status of the vendor becomes ours.
    pub fn vendor(mut self, answer: VendorAnswer) -> Self {
        if self.0.code == Code::VendorError
            && let Some(status) = answer.status.filter(|s| (400..600).contains(s))
        {
            self.0.status = status;
        }
        self.0.vendor = Some(answer);
        self
    }

    /// Names the limit of the operator's that is used up.
    pub fn refused(mut self, by: Allowance) -> Self {
        self.0.refused = Some(by);
        self
    }

    /// Says one more sentence to the caller.
    pub fn more(mut self, sentence: &str) -> Self {
        self.0.detail = format!("{} {sentence}", self.0.detail);
        self
    }

    /// Adds what only the operator's log may say.
    pub fn because(mut self, cause: impl fmt::Display) -> Self {
        self.0.cause = Some(cause.to_string());
        self
    }

    /// The row's name.
    pub fn code(&self) -> Code {
        self.0.code
    }
    /// The HTTP status to answer with.
    pub fn http_status(&self) -> u16 {
        self.0.status
    }
    /// The sentence for the caller.
    pub fn detail(&self) -> &str {
        &self.0.detail
    }
    /// The field at fault.
    pub fn field_name(&self) -> Option<&str> {
        self.0.field.as_deref()
    }
    /// Seconds to wait before another try, where that makes sense.
    pub fn wait_seconds(&self) -> Option<u64> {
        self.0.retry_after
    }
    /// The value of the `Allow` header.
    pub fn allowed(&self) -> Option<&str> {
        self.0.allow.as_deref()
    }
    /// The vendor's answer, where there is one.
    pub fn vendor_answer(&self) -> Option<&VendorAnswer> {
        self.0.vendor.as_ref()
    }
    /// The limit of the operator's that is used up.
    pub fn refused_by(&self) -> Option<Allowance> {
        self.0.refused
    }
    /// What the log says beyond the detail.
    pub fn cause(&self) -> Option<&str> {
        self.0.cause.as_deref()
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("code", &self.0.code.row().name)
            .field("status", &self.0.status)
            .field("detail", &self.0.detail)
            .field("field", &self.0.field)
            .field("cause", &self.0.cause)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.code.row().name, self.0.detail)
    }
}

impl std::error::Error for Error {}
