//! Everything that is kept of one customer.

use actix_web::{HttpRequest, get, web::Data};
use bytes::Bytes;
use serde_json::value::RawValue;
use utoipa::IntoParams;

use crate::{
    error::Result,
    http::{
        Answer, State, act,
        extract::{Admin, Caller},
        pieces::{self, Pieces},
        query::ExportQuery,
    },
    service::{Services, export::Walk},
};

/// Whose data is wanted.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "for the document only; `query` reads what callers send")]
pub struct ExportParams {
    /// The customer's label, as it was given when the accounts were linked.
    #[param(min_length = 1)]
    tenant_id: String,
}

impl Pieces for Walk {
    type Right = Admin;

    async fn next(&mut self, services: &Services) -> Result<Option<Bytes>> {
        services.export.next(self).await
    }

    async fn end(&mut self, _: &Services, problem: Option<&RawValue>) -> Bytes {
        Walk::end(self, problem)
    }
}

/// Everything that is kept of one customer but credentials, as lines of JSON, `{"kind": …, "data": …}`: first `export`, which names
/// the kinds, then accounts, snapshots, events, requests and audit entries, at last `end`, which counts them and says whether that is
/// everything. The call itself stands in the audit log.
#[utoipa::path(tag = "audit", security(("bearer" = ["admin"])), params(ExportParams), responses(
    (status = 200, description = "Lines of JSON (`application/x-ndjson`).")
))]
#[get("/export")]
pub async fn export_tenant(caller: Caller<Admin, ExportQuery>, request: HttpRequest, state: Data<State>) -> Answer {
    let (services, tenant) = (&state.services, &caller.query.tenant);
    let act = act::of_export(&request, &caller, tenant);
    services.audit.around(act, true, async { Ok(()) }).await?;
    pieces::answer(services.export.walk(caller.environment, tenant), request).await
}
