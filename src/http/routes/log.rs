//! The log of requests: why did this call fail?

use actix_web::{get, web::Data};
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};

use crate::{
    http::{
        Answer, State, envelope,
        extract::{Admin, Caller},
        query::LogList,
        schema::{PageParams, Problem},
    },
    model::Warning,
    service::request_log::{LogLine, Place},
};

/// A page of the log.
#[derive(Serialize, ToSchema)]
pub struct LogLinePage {
    /// The lines, the newest first.
    pub result: Vec<LogLine>,
    /// Where to go on; null at the end.
    #[schema(required = true)]
    pub next_cursor: Option<String>,
    /// The most lines of a page.
    pub limit: usize,
    /// Whether no line of the time that was looked at is missing.
    pub complete: bool,
    /// What is missing, where something is.
    pub warnings: Vec<Warning>,
}

/// Filters of the log. Texts take `eq`, `in` and `contains`, numbers and times `gt`, `gte`, `lt` and `lte`, in brackets behind the
/// name: `status[gte]=500`.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "for the document only; `query` reads what callers send")]
pub struct LogParams {
    /// Only the request with this id: the `x-request-id` or `rollcall-request-id` of an answer, the `request_id` of a problem.
    request_id: Option<String>,
    /// Only requests by tokens of this name.
    actor: Option<String>,
    /// Only requests about accounts with this label.
    tenant_id: Option<String>,
    /// Only requests about this account.
    integrated_account_id: Option<String>,
    /// Only requests about accounts of this connector, by slug.
    integration: Option<String>,
    /// Only this route, by its template: `/proxy/{resource}`, `/passthrough/{account_id}/{path}`.
    route: Option<String>,
    /// Only this HTTP method.
    method: Option<String>,
    /// Only answers with this code of an error.
    code: Option<String>,
    /// Only answers with this status; `status[gte]=400` for all that failed.
    #[param(minimum = 0)]
    status: Option<u64>,
    /// Only requests for which the vendor answered last with this status.
    #[param(minimum = 0)]
    vendor_status: Option<u64>,
    /// Only requests that took so many milliseconds; `duration_ms[gt]=1000` for the slow ones.
    #[param(minimum = 0)]
    duration_ms: Option<u64>,
    /// Only requests for which the vendor took so many milliseconds.
    #[param(minimum = 0)]
    vendor_duration_ms: Option<u64>,
    /// Only requests for which so many pages of the vendor were read.
    #[param(minimum = 0)]
    pages: Option<u64>,
    /// Only answers of so many bytes.
    #[param(minimum = 0)]
    bytes: Option<u64>,
    /// Only requests that had ended at this time; `created_at[gte]=…&created_at[lte]=…` for a span.
    created_at: Option<jiff::Timestamp>,
}

/// The requests of this environment in the last 14 days, the newest first: who, when, where, how it ended and how long it took;
/// never a body, a header or a query. A line is there within a second of the request's end.
#[utoipa::path(tag = "log", security(("bearer" = ["admin"])), params(PageParams, LogParams), responses(
    (status = 200, description = "A page of lines.", body = LogLinePage),
    (status = 422, description = "No line was found in the time one call may take; say when the request was.", body = Problem,
        content_type = "application/problem+json")
))]
#[get("/log")]
pub async fn list_log(caller: Caller<Admin, LogList>, state: Data<State>) -> Answer {
    let (services, environment) = (&state.services, caller.environment);
    let LogList { page, wanted, digest } = &caller.query;
    let list = format!("log|{digest:x}");
    let after = page.cursor.as_deref().map(|text| services.cursors.open::<Place>(environment, &list, text)).transpose()?;
    let found = services.log.list(environment, wanted, page.limit, after).await?;
    envelope::object(&LogLinePage {
        result: found.lines,
        next_cursor: found.next.map(|next| services.cursors.seal(environment, &list, next)),
        limit: page.limit,
        complete: found.lost == 0,
        warnings: lost(found.lost).into_iter().collect(),
    })
}

fn lost(lines: u64) -> Option<Warning> {
    (lines > 0).then(|| Warning {
        code: "lines_lost".to_owned(),
        message: format!(
            "At least {lines} lines of this time are missing: more came than could be written, or the store did not answer. Some \
             may be of other environments."
        ),
        field: None,
    })
}
