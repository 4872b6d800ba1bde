//! Probes and metrics: no token, no secret, no tenant.

use actix_web::{HttpRequest, HttpResponse, get, http::StatusCode, web::Data};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    error::{Code, Error},
    http::{
        Answer, State,
        extract::{Admin, require, state},
        token,
    },
};

/// Whether the process answers.
#[derive(Serialize, ToSchema)]
pub struct Alive {
    /// Always `ok`.
    pub status: &'static str,
}

/// Whether calls would go through, and which part would not.
#[derive(Serialize, ToSchema)]
pub struct Ready {
    /// `ready` or `not_ready`.
    pub status: &'static str,
    /// The store.
    pub store: Part,
    /// The key ring.
    pub keys: Part,
    /// The connectors.
    pub connectors: Part,
}

/// How one part is.
#[derive(Serialize, ToSchema)]
pub struct Part {
    /// Whether it works.
    pub ok: bool,
    /// What it is, or what is wrong with it.
    pub detail: String,
    /// What the operator should mend, although it works.
    pub warnings: Vec<String>,
}

/// Answers without looking at anything.
#[utoipa::path(tag = "health", responses((status = 200, description = "The gateway answers.", body = Alive)))]
#[get("/ping")]
pub async fn ping() -> HttpResponse {
    HttpResponse::Ok().json(Alive { status: "ok" })
}

/// Whether the process is alive.
#[utoipa::path(tag = "health", responses((status = 200, description = "The process is alive.", body = Alive)))]
#[get("/healthz")]
pub async fn healthz() -> HttpResponse {
    HttpResponse::Ok().json(Alive { status: "ok" })
}

/// Whether calls would go through: store, keys and connectors.
#[utoipa::path(tag = "health", responses(
    (status = 200, description = "Calls go through.", body = Ready),
    (status = 503, description = "Something is missing, or the process is about to end.", body = Ready)
))]
#[get("/readyz")]
pub async fn readyz(state: Data<State>) -> HttpResponse {
    let (store, keys, connectors) = (store_part(&state).await, keys_part(&state), connectors_part(&state));
    let ready = store.ok && keys.ok && connectors.ok && !state.readiness.is_draining();
    let (code, status) = if ready { (StatusCode::OK, "ready") } else { (StatusCode::SERVICE_UNAVAILABLE, "not_ready") };
    let mut response = HttpResponse::build(code);
    if !ready {
        response.insert_header(("retry-after", "1"));
    }
    response.json(Ready { status, store, keys, connectors })
}

async fn store_part(state: &State) -> Part {
    match state.services.store.health().await {
        Ok(health) => Part { ok: true, detail: health.description, warnings: health.warnings },
        Err(error) => {
            tracing::warn!(%error, "the store is not ready");
            Part { ok: false, detail: "The store does not answer.".into(), warnings: Vec::new() }
        }
    }
}

fn keys_part(state: &State) -> Part {
    match state.readiness.keys_problem() {
        None => Part { ok: true, detail: "The key ring is loaded.".into(), warnings: Vec::new() },
        Some(problem) => Part { ok: false, detail: problem.to_string(), warnings: Vec::new() },
    }
}

fn connectors_part(state: &State) -> Part {
    let catalog = state.services.catalog.load();
    let count = catalog.all().count();
    let refused = state.readiness.connectors_refused();
    let stay = if refused.is_some() { " A change of the overlay has mistakes; the connectors before it stay." } else { "" };
    let problems = refused.as_ref().map_or(catalog.problems(), |problems| problems);
    let warnings = problems.iter().map(ToString::to_string).collect();
    Part { ok: count > 0, detail: format!("{count} connectors are loaded.{stay}"), warnings }
}

/// Metrics in Prometheus text; for a token with `admin`, unless the gateway listens on loopback only.
#[utoipa::path(tag = "health", security((), ("bearer" = ["admin"])), responses(
    (status = 200, description = "Prometheus text.", body = String, content_type = "text/plain")
))]
#[get("/metrics")]
pub async fn metrics(request: HttpRequest) -> Answer {
    let state = state(&request)?;
    if !state.metrics_open {
        let caller = state.services.tokens.authenticate(token::bearer(request.headers())?).await?;
        require::<Admin>(&caller)?;
    }
    let Some(metrics) = &state.metrics else {
        return Err(Error::new(Code::RouteNotFound, "Metrics are not recorded by this process.").into());
    };
    Ok(HttpResponse::Ok().content_type("text/plain; version=0.0.4; charset=utf-8").body(metrics.render()))
}
