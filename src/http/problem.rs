//! The only place that makes an HTTP answer of an error: RFC 9457 with Truto's members beside it.

use std::{fmt, rc::Rc};

use actix_web::{
    HttpResponse, HttpResponseBuilder, ResponseError,
    http::{
        StatusCode,
        header::{ALLOW, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE},
    },
};
use serde::Serialize;
use serde_json::{Value, json, value::RawValue};

use super::{limits, write};
use crate::{
    error::{Code, Error, Origin, VendorAnswer},
    service::{COMPANY_HEADER, Told},
};

/// The result of every handler.
pub type Answer<T = HttpResponse> = Result<T, Problem>;

/// The media type of every error.
pub const MEDIA_TYPE: &str = "application/problem+json";

/// Names the code, so that a client of the passthrough can tell our errors from the vendor's.
pub const ERROR_HEADER: &str = "rollcall-error";

/// `Allow` of what can only be read.
pub const READ_ONLY: &str = "GET, HEAD";

/// The most of a vendor's body that is shown.
const RAW_RESPONSE_CAP: usize = 64 * 1024;

/// Vendor headers that would change how our own answer is read.
const NOT_FORWARDED: &[&str] = &[
    "connection",
    "content-encoding",
    "content-language",
    "content-length",
    "content-security-policy",
    "content-type",
    "date",
    "etag",
    "keep-alive",
    "last-modified",
    "location",
    "proxy-authenticate",
    "proxy-connection",
    "retry-after",
    "rollcall-error",
    "server",
    "set-cookie",
    "strict-transport-security",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "www-authenticate",
    "x-content-type-options",
    "x-request-id",
];

/// An error on its way out. The gate adds the request id and logs it.
pub struct Problem {
    error: Error,
    request_id: Option<Rc<str>>,
    close: bool,
    told: Told,
}

impl Problem {
    /// The error inside.
    pub fn error(&self) -> &Error {
        &self.error
    }

    /// The same problem, telling the id of the request.
    pub fn for_request(&self, id: Rc<str>) -> Self {
        Self { error: self.error.clone(), request_id: Some(id), close: self.close, told: self.told }
    }

    /// Says how a write that can be repeated came to this.
    pub fn told(mut self, how: Told) -> Self {
        self.told = how;
        self
    }

    /// Ends the connection after the answer, because what follows on it cannot be trusted or is not wanted.
    pub fn closing(mut self) -> Self {
        self.close = true;
        self
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let close = matches!(error.code(), Code::BodyTooLarge | Code::RequestTimeout);
        Self { error, request_id: None, close, told: Told::First }
    }
}

impl fmt::Debug for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.error.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    fn error_response(&self) -> HttpResponse {
        let status = self.status_code();
        let mut response = HttpResponse::build(status);
        put_headers(&mut response, &self.error, status);
        if let Some(id) = &self.request_id {
            response.insert_header(("x-request-id", &**id));
        }
        if let Some(header) = write::mark(self.told) {
            response.insert_header(header);
        }
        if self.close {
            response.force_close();
        }
        response.content_type(MEDIA_TYPE).body(document(&self.error, status, self.request_id.as_deref()))
    }
}

fn put_headers(response: &mut HttpResponseBuilder, error: &Error, status: StatusCode) {
    for (name, value) in error.vendor_answer().iter().flat_map(|v| &v.headers) {
        let lower = name.to_ascii_lowercase();
        let forwarded = !NOT_FORWARDED.contains(&lower.as_str()) && !lower.starts_with("access-control-");
        if let (true, Ok(name), Ok(value)) = (forwarded, HeaderName::try_from(lower.as_str()), HeaderValue::from_bytes(value)) {
            response.append_header((name, value));
        }
    }
    response.insert_header((ERROR_HEADER, error.code().row().name));
    if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
        response.insert_header((RETRY_AFTER, error.wait_seconds().unwrap_or(1).max(1)));
    }
    for field in error.refused_by().iter().flat_map(limits::fields) {
        response.insert_header(field);
    }
    if error.code() == Code::InvalidToken {
        response.insert_header((WWW_AUTHENTICATE, r#"Bearer realm="rollcall", error="invalid_token""#));
    }
    if status == StatusCode::METHOD_NOT_ALLOWED {
        response.insert_header((ALLOW, error.allowed().unwrap_or_default()));
    }
}

#[derive(Serialize)]
#[allow(non_snake_case, reason = "Truto's members are written so")]
struct Document<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    detail: &'a str,
    code: &'a str,
    origin: Origin,
    retryable: bool,
    request_id: Option<&'a str>,
    statusCode: u16,
    error: &'a str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'a str>,
    truto_is_remote_error: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    raw_response: Option<Raw<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    truto_error_insight: Option<Value>,
}

/// What the vendor said: its own JSON, byte for byte, else its text.
#[derive(Serialize)]
#[serde(untagged)]
enum Raw<'a> {
    Json(&'a RawValue),
    Text(std::borrow::Cow<'a, str>),
}

/// The problem as JSON, for an answer that has begun already.
pub fn text(error: &Error, request_id: Option<&str>) -> Vec<u8> {
    let status = StatusCode::from_u16(error.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    document(error, status, request_id)
}

fn document(error: &Error, status: StatusCode, request_id: Option<&str>) -> Vec<u8> {
    let row = error.code().row();
    let vendor = error.vendor_answer();
    let raw = vendor.filter(|v| !v.body.is_empty()).map(raw_response);
    let said = vendor.and_then(VendorAnswer::words);
    let document = Document {
        r#type: format!("/errors/{}", row.name),
        title: row.title,
        status: status.as_u16(),
        detail: error.detail(),
        code: row.name,
        origin: row.origin,
        retryable: row.retryable,
        request_id,
        statusCode: status.as_u16(),
        error: status.canonical_reason().unwrap_or("Error"),
        message: said.as_deref().unwrap_or(error.detail()),
        field: error.field_name(),
        truto_is_remote_error: vendor.is_some(),
        raw_response: raw,
        truto_error_insight: insight(error),
    };
    serde_json::to_vec(&document).unwrap_or_else(|_| b"{}".to_vec())
}

fn raw_response(vendor: &VendorAnswer) -> Raw<'_> {
    let body = &vendor.body[..vendor.body.len().min(RAW_RESPONSE_CAP)];
    match serde_json::from_slice::<&RawValue>(body) {
        Ok(json) => Raw::Json(json),
        Err(_) => Raw::Text(String::from_utf8_lossy(body)),
    }
}

fn insight(error: &Error) -> Option<Value> {
    let code = error.code();
    match code {
        Code::VendorRateLimited => Some(json!({"rate_limit_error": {"description": error.detail()}})),
        Code::VendorDenied => Some(json!({"forbidden_error": {"description": error.detail(), "value": {"missing_scopes": []}}})),
        Code::InvalidParameter if error.field_name() == Some("integrated_account_id") => Some(
            json!({"missing_required_query_parameters": {"description": error.detail(), "value": ["integrated_account_id"]}}),
        ),
        Code::FieldMissing if error.field_name() != Some(COMPANY_HEADER) => Some(json!({
            "missing_required_body_fields": {"description": error.detail(), "value": error.field_name().as_slice()},
        })),
        _ if error.vendor_answer().is_some() => Some(json!({"remote_error": {"description": error.detail()}})),
        _ => None,
    }
}

/// The row for an error that actix made, not we.
pub fn foreign(error: &actix_web::Error, status: StatusCode) -> Error {
    let text = error.to_string();
    match status {
        StatusCode::NOT_FOUND => Error::new(Code::RouteNotFound, "There is no such route."),
        StatusCode::METHOD_NOT_ALLOWED => Error::new(Code::MethodNotAllowed, "The route does not answer this method."),
        StatusCode::PAYLOAD_TOO_LARGE => Error::new(Code::BodyTooLarge, "The request body is too large for this route."),
        StatusCode::REQUEST_TIMEOUT => Error::new(Code::RequestTimeout, "The request body did not arrive in time."),
        status if status.is_client_error() => Error::new(Code::InvalidRequest, "The request could not be read.").because(text),
        _ => Error::internal(text),
    }
}
