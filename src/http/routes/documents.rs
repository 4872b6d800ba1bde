//! Documents the gateway carries: OpenAPI, the reference page, and a page for each kind of error. All of them work offline.

use std::sync::{Arc, LazyLock};

use actix_web::{
    HttpResponse, get,
    http::header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, LOCATION, X_CONTENT_TYPE_OPTIONS},
    web::{self, Path},
};
use utoipa_swagger_ui::Config;

use crate::{
    error::{Code, Error, Origin, Row},
    http::{Answer, openapi},
};

static OPENAPI: LazyLock<String> = LazyLock::new(openapi::document_text);
static VIEWER: LazyLock<Arc<Config<'static>>> = LazyLock::new(|| Arc::new(Config::from("/openapi.json")));

/// The viewer's own files and nothing else; its styles are set from script.
const DOCS_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
    connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Nothing at all.
const PLAIN_POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// This document.
#[utoipa::path(tag = "documents", responses((status = 200, description = "OpenAPI 3.1.", body = Object)))]
#[get("/openapi.json")]
pub async fn get_openapi() -> HttpResponse {
    HttpResponse::Ok().content_type("application/json").insert_header((CACHE_CONTROL, "no-cache")).body(OPENAPI.as_str())
}

/// What a kind of error means and what to do about it.
#[utoipa::path(tag = "documents", params(("code" = String, Path, description = "The problem's `code`.")),
    responses((status = 200, description = "A page for people.", body = String, content_type = "text/html")))]
#[get("/errors/{code}")]
pub async fn get_error_page(code: Path<String>) -> Answer {
    let row = Code::ALL.iter().map(|c| c.row()).find(|row| row.name == *code).ok_or_else(Error::not_found)?;
    Ok(HttpResponse::Ok()
        .content_type("text/html; charset=utf-8")
        .insert_header((CONTENT_SECURITY_POLICY, PLAIN_POLICY))
        .insert_header((X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .body(error_page(row)))
}

fn error_page(row: Row) -> String {
    let (name, title, status) = (row.name, escape(row.title), row.status);
    let origin = match row.origin {
        Origin::Gateway => "the gateway or its caller",
        Origin::Vendor => "the vendor",
    };
    let again = if row.retryable { "The same request may succeed later." } else { "The same request will fail again." };
    let advice = code_spans(&escape(row.advice));
    format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>{name}</title>\
         <meta name=\"viewport\" content=\"width=device-width\"><style>body{{font:16px/1.5 system-ui;max-width:40rem;margin:3rem auto;\
         padding:0 1rem}}code{{background:#8882;padding:.1em .3em}}</style><h1><code>{name}</code></h1><p>{title}.</p>\
         <p>Status {status}. Caused by {origin}. {again}</p><p>{advice}</p></html>"
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn code_spans(text: &str) -> String {
    text.split('`')
        .enumerate()
        .map(|(i, part)| if i % 2 == 1 { format!("<code>{part}</code>") } else { part.to_owned() })
        .collect()
}

/// The reference page.
pub fn configure(config: &mut web::ServiceConfig) {
    config.route("/docs", web::get().to(|| async { HttpResponse::Found().insert_header((LOCATION, "/docs/")).finish() }));
    config.route("/docs/{file:.*}", web::get().to(viewer_file));
}

async fn viewer_file(file: Path<String>) -> Answer {
    let found = utoipa_swagger_ui::serve(&file, Arc::clone(&VIEWER)).map_err(Error::internal)?;
    let file = found.ok_or_else(|| Error::new(Code::RouteNotFound, "There is no such file."))?;
    let mut response = HttpResponse::Ok();
    response.insert_header((CONTENT_SECURITY_POLICY, DOCS_POLICY)).insert_header((X_CONTENT_TYPE_OPTIONS, "nosniff"));
    if file.gzpipped {
        response.insert_header((CONTENT_ENCODING, "gzip"));
    }
    Ok(response.content_type(file.content_type).body(file.bytes.into_owned()))
}
