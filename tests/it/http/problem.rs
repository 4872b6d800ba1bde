use actix_web::{ResponseError, body::to_bytes, http::header::HeaderMap};
use bytes::Bytes;
use rollcall::{
    error::{Code, Error, VendorAnswer},
    http::Problem,
};
use serde_json::{Value, json};

fn answer(error: Error) -> (u16, HeaderMap, Value) {
    actix_web::rt::System::new().block_on(async move {
        let response = Problem::from(error).for_request("the-id".into()).error_response();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = to_bytes(response.into_body()).await.unwrap();
        (status, headers, serde_json::from_slice(&body).unwrap())
    })
}

fn vendor(status: u16, body: &str) -> VendorAnswer {
    VendorAnswer { status: Some(status), body: Bytes::copy_from_slice(body.as_bytes()), ..VendorAnswer::default() }
}

#[test]
fn every_code_makes_the_document_of_the_contract() {
    for code in Code::ALL {
        let row = code.row();
        let (status, headers, body) = answer(Error::new(*code, "What happened.").because("only for the log"));
        assert_eq!(status, row.status);
        assert_eq!(headers.get("content-type").unwrap(), "application/problem+json");
        assert_eq!(headers.get("rollcall-error").unwrap(), row.name);
        assert_eq!(headers.get("x-request-id").unwrap(), "the-id");
        for (member, value) in [
            ("type", json!(format!("/errors/{}", row.name))),
            ("title", json!(row.title)),
            ("status", json!(status)),
            ("statusCode", json!(status)),
            ("detail", json!("What happened.")),
            ("message", json!("What happened.")),
            ("code", json!(row.name)),
            ("origin", serde_json::to_value(row.origin).unwrap()),
            ("retryable", json!(row.retryable)),
            ("request_id", json!("the-id")),
            ("truto_is_remote_error", json!(false)),
        ] {
            assert_eq!(body[member], value, "{} {member}", row.name);
        }
        assert!(body["error"].as_str().is_some_and(|e| !e.is_empty()));
        assert!(body.get("raw_response").is_none() && body.get("field").is_none());
        assert!(!body.to_string().contains("only for the log"));
        let waits = matches!(status, 429 | 503);
        let wait = headers.get("retry-after").map(|w| w.to_str().unwrap().parse::<u64>().unwrap());
        assert_eq!(wait.is_some_and(|w| w >= 1), waits, "{}", row.name);
        assert_eq!(headers.contains_key("www-authenticate"), *code == Code::InvalidToken, "{}", row.name);
        assert_eq!(headers.contains_key("allow"), status == 405, "{}", row.name);
    }
}

#[test]
fn waits_are_whole_seconds_of_at_least_one() {
    let wait = |error| answer(error).1.get("retry-after").unwrap().to_str().unwrap().to_owned();
    assert_eq!(wait(Error::new(Code::VendorRateLimited, "").retry_after(0)), "1");
    assert_eq!(wait(Error::new(Code::VendorRateLimited, "").retry_after(77)), "77");
    assert_eq!(wait(Error::new(Code::VendorError, "").vendor(vendor(429, ""))), "1");
}

#[test]
fn what_the_vendor_said_is_kept() {
    let said = r#"{"errors":[{"detail":"email is invalid"}],"n":12345678901234567890.123456789}"#;
    let mut given = vendor(422, said);
    given.headers = vec![
        ("X-Vendor-Trace".into(), b"t-1".to_vec()),
        ("Retry-After".into(), b"Wed, 21 Oct 2026 07:28:00 GMT".to_vec()),
        ("Set-Cookie".into(), b"a=b".to_vec()),
        ("WWW-Authenticate".into(), b"Basic".to_vec()),
        ("Content-Length".into(), b"5".to_vec()),
        ("Access-Control-Allow-Origin".into(), b"*".to_vec()),
    ];
    let (status, headers, body) = answer(Error::new(Code::VendorError, "The vendor answered 422.").vendor(given));
    assert_eq!(status, 422);
    assert_eq!(body["truto_is_remote_error"], true);
    assert_eq!(body["message"], "email is invalid");
    assert_eq!(body["detail"], "The vendor answered 422.");
    assert_eq!(body["error"], "Unprocessable Entity");
    assert!(body["truto_error_insight"]["remote_error"].is_object());
    assert_eq!(headers.get("x-vendor-trace").unwrap(), "t-1");
    for absent in ["retry-after", "set-cookie", "www-authenticate", "content-length", "access-control-allow-origin"] {
        assert!(!headers.contains_key(absent), "{absent}");
    }
}

#[test]
fn the_vendors_numbers_are_not_rounded() {
    let number = "12345678901234567890.123456789";
    let error = Error::new(Code::VendorError, "").vendor(vendor(400, &format!(r#"{{"n":{number}}}"#)));
    let body = actix_web::rt::System::new()
        .block_on(async move { to_bytes(Problem::from(error).error_response().into_body()).await.unwrap() });
    assert!(String::from_utf8_lossy(&body).contains(number));
}

#[test]
fn a_body_that_is_not_json_is_shown_as_text_and_cut() {
    let html = format!("<html>{}</html>", "x".repeat(200_000));
    let (_, _, body) = answer(Error::new(Code::VendorBadAnswer, "Not JSON.").vendor(vendor(200, &html)));
    let raw = body["raw_response"].as_str().unwrap();
    assert!(raw.starts_with("<html>") && raw.len() <= 64 * 1024);
    assert_eq!(body["message"], "Not JSON.");
    let broken = VendorAnswer { body: Bytes::from_static(b"{\"a\": \xff"), ..VendorAnswer::default() };
    assert!(answer(Error::new(Code::VendorError, "").vendor(broken)).2["raw_response"].is_string());
}

#[test]
fn insights_say_what_trutos_clients_look_for() {
    let denied = answer(Error::new(Code::VendorDenied, "No right.").vendor(vendor(403, "{}"))).2;
    assert!(denied["truto_error_insight"]["forbidden_error"]["value"]["missing_scopes"].is_array());
    let limited = answer(Error::new(Code::VendorRateLimited, "Slow.").vendor(vendor(429, "{}"))).2;
    assert!(limited["truto_error_insight"]["rate_limit_error"].is_object());
}
