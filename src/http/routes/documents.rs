//! Documents the gateway carries: OpenAPI, the reference page, and a page for each kind of error. All of them work offline.

use std::sync::{Arc, LazyLock};

use actix_web::{
    HttpResponse, get,
    http::header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, LOCATION, X_CONTENT_TYPE_OPTIONS},
    web::{self, Path},
};
use utoipa_swagger_ui as viewer;

use crate::{
    error::{Code, Error, Origin, Row},
    http::{Answer, openapi, ui::escape},
};

static OPENAPI: LazyLock<String> = LazyLock::new(openapi::document_text);
/// The reference page's own files; what draws it is taken from the viewer's package.
const DOCS_PAGE: &str = include_str!("../docs/index.html");
const DOCS_STYLE: &str = include_str!("../docs/docs.css");
const DOCS_SCRIPT: &str = include_str!("../docs/docs.js");
const VIEWER_FILES: [&str; 2] = ["swagger-ui.css", "swagger-ui-bundle.js"];

/// The page's own files and nothing else; its styles are set from script.
const DOCS_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Nothing at all.
const PLAIN_POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// This document.
#[utoipa::path(tag = "documents", responses((status = 200, description = "OpenAPI 3.1.", body = Object)))]
#[get("/openapi.json")]
pub async fn get_openapi() -> HttpResponse {
    HttpResponse::Ok().content_type("application/json").insert_header((CACHE_CONTROL, "no-cache")).body(OPENAPI.as_str())
}

/// Every kind of error, with its status and what it means.
#[utoipa::path(tag = "documents",
    responses((status = 200, description = "A page for people.", body = String, content_type = "text/html")))]
#[get("/errors")]
pub async fn list_error_pages() -> HttpResponse {
    let entry = |row: Row| {
        let (name, title, status) = (row.name, code_spans(&escape(row.title)), row.status);
        format!("<dt><a href=\"/errors/{name}\"><code>{name}</code></a> {status}<dd>{title}")
    };
    let entries: String = Code::ALL.iter().map(|code| entry(code.row())).collect();
    let about = "The <code>code</code> of every problem this gateway answers, and its status.";
    plain_page("Errors", &format!("<h1>Errors</h1><p>{about}</p><dl>{entries}</dl>"))
}

/// What a kind of error means and what to do about it.
#[utoipa::path(tag = "documents", params(("code" = String, Path, description = "The problem's `code`.")),
    responses((status = 200, description = "A page for people.", body = String, content_type = "text/html")))]
#[get("/errors/{code}")]
pub async fn get_error_page(code: Path<String>) -> Answer {
    let row = Code::ALL.iter().map(|c| c.row()).find(|row| row.name == *code).ok_or_else(Error::not_found)?;
    Ok(plain_page(row.name, &error_text(row)))
}

fn error_text(row: Row) -> String {
    let (name, title, status) = (row.name, code_spans(&escape(row.title)), row.status);
    let origin = match row.origin {
        Origin::Gateway => "the gateway or its caller",
        Origin::Vendor => "the vendor",
    };
    let again = if row.retryable { "The same request may succeed later." } else { "The same request will fail again." };
    let advice = code_spans(&escape(row.advice));
    format!(
        "<h1><code>{name}</code></h1><p>{title}.</p><p>Status {status}. Caused by {origin}. {again}</p><p>{advice}</p>\
         <p><a href=\"/errors\">All errors</a></p>"
    )
}

/// A page without script.
fn plain_page(title: &str, body: &str) -> HttpResponse {
    let page = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>{title} · Rollcall API</title>\
         <meta name=\"viewport\" content=\"width=device-width\"><style>:root{{color-scheme:light dark}}\
         body{{font:16px/1.5 system-ui;max-width:48rem;margin:3rem auto;padding:0 1rem}}\
         code{{background:#8882;padding:.1em .3em;overflow-wrap:anywhere}}dt{{margin-top:1em}}dd{{margin:0}}</style>{body}</html>"
    );
    HttpResponse::Ok()
        .content_type("text/html; charset=utf-8")
        .insert_header((CONTENT_SECURITY_POLICY, PLAIN_POLICY))
        .insert_header((X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .body(page)
}

fn code_spans(text: &str) -> String {
    text.split('`')
        .enumerate()
        .map(|(i, part)| if i % 2 == 1 { format!("<code>{part}</code>") } else { part.to_owned() })
        .collect()
}

/// The reference page, and the way to it.
pub fn configure(config: &mut web::ServiceConfig) {
    config.route("/", web::get().to(to_docs)).route("/docs", web::get().to(to_docs));
    config.route("/docs/{file:.*}", web::get().to(docs_file));
}

async fn to_docs() -> HttpResponse {
    HttpResponse::Found().insert_header((LOCATION, "/docs/")).finish()
}

async fn docs_file(file: Path<String>) -> Answer {
    let mut response = HttpResponse::Ok();
    response.insert_header((CONTENT_SECURITY_POLICY, DOCS_POLICY)).insert_header((X_CONTENT_TYPE_OPTIONS, "nosniff"));
    match file.as_str() {
        "" => return Ok(response.content_type("text/html; charset=utf-8").body(DOCS_PAGE)),
        "docs.css" => return Ok(response.content_type("text/css; charset=utf-8").body(DOCS_STYLE)),
        "docs.js" => return Ok(response.content_type("text/javascript; charset=utf-8").body(DOCS_SCRIPT)),
        _ => {}
    }
    let ours = VIEWER_FILES.contains(&file.as_str());
    let found = if ours { viewer::serve(&file, Arc::new(viewer::Config::default())).map_err(Error::internal)? } else { None };
    let file = found.ok_or_else(|| Error::new(Code::RouteNotFound, "There is no such file."))?;
    if file.gzpipped {
        response.insert_header((CONTENT_ENCODING, "gzip"));
    }
    Ok(response.content_type(file.content_type).body(file.bytes.into_owned()))
}
