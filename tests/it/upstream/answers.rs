//! What a vendor's answer means, and what of it may be shown.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use http::HeaderMap;
use rollcall::{
    connector::{ErrorRule, Meaning, PageStyle, Resolved, Template, TextTest},
    error::{Code, Error},
    mapping::Path,
    model::{AccountId, EnvironmentId, Secret},
    upstream::{Access, Failure, HttpAnswer, ListAsk, classify::classify},
};

use super::support::{CANARY, Server, access, answer, change, upstream_for, users};

fn given(status: u16, headers: &[(&'static str, &str)], body: &str) -> HttpAnswer {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(*name, value.parse().unwrap());
    }
    HttpAnswer { status, headers: map, body: body.to_owned().into() }
}

fn meaning(access: &Access, answer: HttpAnswer) -> (Code, Option<u64>) {
    let failure = classify(access, &answer).unwrap_err();
    let wait = match &failure {
        Failure::Answered { wait, .. } => *wait,
        _ => None,
    };
    (failure.code(), wait)
}

#[test]
fn statuses_mean_the_same_for_every_vendor() {
    let access = access("https://api.vendor.example");
    for (status, code) in [
        (401, Code::ReauthRequired),
        (403, Code::VendorDenied),
        (404, Code::NotFound),
        (429, Code::VendorRateLimited),
        (400, Code::VendorError),
        (409, Code::VendorError),
        (500, Code::VendorError),
        (503, Code::VendorError),
        (302, Code::VendorError),
        (304, Code::VendorError),
    ] {
        assert_eq!(meaning(&access, given(status, &[], "{}")).0, code, "{status}");
    }
    assert_eq!(meaning(&access, given(503, &[("retry-after", "7")], "")), (Code::VendorNotReady, Some(7)));
    for bad in ["<html>", "  <!doctype html>", "", "hello", "Internal error"] {
        assert_eq!(meaning(&access, given(200, &[], bad)).0, Code::VendorBadAnswer, "{bad:?}");
    }
    assert_eq!(meaning(&access, given(200, &[("content-type", "text/html; charset=utf-8")], "{}")).0, Code::VendorBadAnswer);
    for good in ["{}", " []", "\"x\"", "1", "null"] {
        assert!(classify(&access, &given(200, &[], good)).is_ok());
    }
}

#[test]
fn waits_are_read_in_every_form() {
    let access = access("https://api.vendor.example");
    let date = ("date", "Sat, 21 Nov 2026 10:00:00 GMT");
    for (headers, body, wait) in [
        (vec![("retry-after", "30")], "", Some(30)),
        (vec![("retry-after", "Sat, 21 Nov 2026 10:01:00 GMT")], "", Some(60)),
        (vec![("retry-after", "Sat, 21 Nov 2026 09:00:00 GMT")], "", Some(0)),
        (vec![("x-ratelimit-reset", "1795255245")], "", Some(45)),
        (vec![("x-ratelimit-reset", "1795255245000")], "", Some(45)),
        (vec![("x-rate-limit-reset", "12")], "", Some(12)),
        (vec![("x-ratelimit-reset", "1795255245"), ("retry-after", "3")], "", Some(3)),
        (vec![("ratelimit", "\"default\";r=0;t=9")], "", Some(9)),
        (vec![("retry-after", "soon")], "", None),
        (vec![("retry-after", "-1")], "", None),
        (vec![("retry-after", "99999999")], "", None),
        (vec![], "Rate limit exceeded. Please try again in 20 seconds.", Some(20)),
        (vec![], "Too many attempts, try again in 2 minutes", Some(120)),
        (vec![], "try again in 1 hour", Some(3600)),
        (vec![], "try again in a while", None),
    ] {
        let mut headers = headers;
        headers.push(date);
        assert_eq!(meaning(&access, given(429, &headers, body)), (Code::VendorRateLimited, wait), "{headers:?} {body}");
    }
    let error: Error = classify(&access, &given(429, &[], "")).unwrap_err().into();
    assert_eq!((error.http_status(), error.wait_seconds()), (429, Some(1)));
}

#[test]
fn the_connectors_rules_come_first() {
    let rule = |status: &[u16], path: Option<&str>, text: TextTest, meaning: Meaning, wait: Option<u64>| ErrorRule {
        status: status.to_vec(),
        path: path.map(|path| Path::parse(path).unwrap()),
        text,
        meaning,
        wait: wait.map(Duration::from_secs),
        message: Some("said by the rule".to_owned()),
    };
    let access = change(access("https://api.vendor.example"), |method| {
        method.errors = vec![
            rule(&[418], None, TextTest::Present, Meaning::Fine, None),
            rule(&[400], Some("error"), TextTest::Equals("expired".into()), Meaning::Reauth, None),
            rule(&[], Some("[0].name"), TextTest::Starts("Failed".into()), Meaning::Denied, None),
            rule(&[200], Some("[0].state"), TextTest::Contains("LOADING".into()), Meaning::NotReady, Some(60)),
            rule(&[200], Some("fault"), TextTest::Present, Meaning::Failed, None),
        ];
    });
    assert!(classify(&access, &given(418, &[], "teapot")).is_ok());
    assert_eq!(meaning(&access, given(400, &[], r#"{"error":"expired"}"#)).0, Code::ReauthRequired);
    assert_eq!(meaning(&access, given(400, &[], r#"{"error":"expired!"}"#)).0, Code::VendorError);
    assert_eq!(meaning(&access, given(200, &[], r#"[{"name":"Failed to x"}]"#)).0, Code::VendorDenied);
    assert_eq!(meaning(&access, given(200, &[], r#"[{"state":"still loading data"}]"#)), (Code::VendorNotReady, Some(60)));
    let failure = classify(&access, &given(200, &[], r#"{"fault":1}"#)).unwrap_err();
    assert_eq!(Error::from(failure).detail(), "said by the rule");
    assert!(classify(&access, &given(200, &[], r#"[{"name":"fine"}]"#)).is_ok());
}

#[test]
fn v_01_a_secret_the_vendor_writes_back_is_not_shown() {
    let secret = "p@ss/w\"ord+1&x";
    let mut access = access("https://api.vendor.example");
    access.secrets.insert("password".into(), Secret::new(secret.to_owned()));
    let encoded = "p%40ss%2Fw%22ord%2B1%26x";
    let forms = [
        secret.to_owned(),
        secret.replace('"', "\\\""),
        encoded.to_owned(),
        STANDARD.encode(secret),
        format!("Bearer {CANARY}"),
        CANARY.to_owned(),
    ];
    for form in &forms {
        let body = format!("you sent {form}, twice: {form}{}{form}", "x".repeat(64 * 1024 - 3 * form.len()));
        let (id, long) = (format!("id-{CANARY}"), CANARY.repeat(1000));
        let headers =
            [("x-request-id", id.as_str()), ("set-cookie", "a"), ("x-ratelimit-note", &long), ("content-type", "text/plain")];
        let answer = given(400, &headers, &body);
        let Failure::Answered { answer, .. } = classify(&access, &answer).unwrap_err() else { panic!() };
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        assert!(text.starts_with("you sent ") && text.contains("***") && answer.body.len() <= 64 * 1024);
        for needle in [secret, encoded, CANARY, &STANDARD.encode(secret)] {
            assert!(!text.contains(needle), "{form}");
        }
        let names: Vec<&str> = answer.headers.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["x-request-id", "content-type"]);
        assert_eq!(answer.headers[0].1, b"id-***");
        assert!(!text.ends_with("p@ss"), "cut in the middle of a secret");
    }
}

#[test]
fn v_01_what_the_cuts_leave_of_a_secret_is_not_shown() {
    // Each *** is shorter than what it stands for, so text from beyond the kept part moves up into it.
    let mut access = access("https://api.vendor.example");
    let secret = "a/secret/of/forty/characters/0123456789ab";
    access.secrets = [("token".to_owned(), Secret::new(secret.to_owned()))].into();
    for shift in 0..64 {
        let front = secret.repeat(20);
        let body = format!("{front}{}{secret}", ".".repeat(64 * 1024 + shift - front.len()));
        let Failure::Answered { answer, .. } = classify(&access, &given(400, &[], &body)).unwrap_err() else { panic!() };
        assert!(!answer.body.windows(8).any(|part| part == &secret.as_bytes()[..8]), "{shift}");
    }
    let escaped = format!(r#"{{"message":"not {}"}}"#, secret.replace('/', "\\/"));
    let Failure::Answered { answer, .. } = classify(&access, &given(400, &[], &escaped)).unwrap_err() else { panic!() };
    assert_eq!(&answer.body[..], br#"{"message":"not ***"}"#);
}

#[test]
fn a_vendors_clock_may_say_anything() {
    for date in ["Mon, 01 Jan 1900 00:00:00 GMT", "Fri, 31 Dec 9999 23:59:59 GMT"] {
        for reset in ["1e300", "9223372036854775807", "-1", "2000000000", "NaN"] {
            let answer = given(429, &[("date", date), ("x-ratelimit-reset", reset)], "{}");
            assert_eq!(meaning(&access("https://api.vendor.example"), answer).0, Code::VendorRateLimited);
        }
    }
}

#[tokio::test]
async fn an_error_keeps_the_vendors_status_and_words() {
    let server = Server::start(|_, _| answer(422, &[("x-request-id", "r1")], br#"{"message":"no such field"}"#));
    let outcome =
        upstream_for(&server.base).list(&access(&server.base), &users("[*]", PageStyle::None), &ListAsk::default()).await;
    let error: Error = outcome.map(|_| ()).unwrap_err().into();
    assert_eq!((error.code(), error.http_status()), (Code::VendorError, 422));
    assert_eq!(&error.vendor_answer().unwrap().body[..], br#"{"message":"no such field"}"#);
    for body in ["[{\"id\":1}", "{\"id\":", "[1,2", "{\"items\": 5}", "7"] {
        let server = Server::start(move |_, _| answer(200, &[], body.as_bytes()));
        let outcome =
            upstream_for(&server.base).list(&access(&server.base), &users("[*]", PageStyle::None), &ListAsk::default()).await;
        assert!(matches!(outcome, Err(Failure::BadAnswer(_))), "{body}");
    }
    let access = change(access(&server.base), |_| {});
    let mut users = users("items[*]", PageStyle::None);
    let server = Server::start(|_, _| answer(200, &[], br#"{"items": []}"#));
    let access = Access { base: server.base.parse().unwrap(), ..access };
    assert!(upstream_for(&server.base).list(&access, &users, &ListAsk::default()).await.unwrap().records.ranges.is_empty());
    if let Some(list) = users.list.as_mut() {
        list.not_if_empty = true;
    }
    assert!(upstream_for(&server.base).list(&access, &users, &ListAsk::default()).await.is_err());
}

fn built(auth: rollcall::connector::Auth, secret: &str) -> Result<Access, rollcall::connector::FieldProblem> {
    let sample = access("https://api.vendor.example");
    let sample = change(sample, |method| {
        method.auth = auth;
        method.headers =
            vec![(http::header::ACCEPT, template("application/scim+json")), ("x-tenant".parse().unwrap(), template("{tenant}"))];
    });
    let resolved = Resolved {
        fields: [("tenant", "t1"), ("name", "ada"), ("header", "X-Api-Key"), ("bad_header", "Transfer-Encoding")]
            .map(|(n, v)| (n.to_owned(), v.to_owned()))
            .into(),
        secrets: [("token".to_owned(), Secret::new(secret.to_owned()))].into(),
        base: sample.base.clone(),
        hosts: sample.hosts.clone(),
        token_urls: None,
        origins: Vec::new(),
    };
    let facts = serde_json::Map::new();
    Access::new(AccountId::generate(), EnvironmentId::generate(), sample.connector, sample.method, 1, resolved, facts)
}

fn template(text: &str) -> Template {
    Template::parse(text).unwrap()
}

#[test]
fn credentials_become_headers_and_parameters() {
    use rollcall::connector::Auth;
    let value = |access: &Access, name: &str| {
        let found = access.headers.iter().find(|(n, _)| n == name).unwrap();
        (found.1.to_str().unwrap().to_owned(), found.1.is_sensitive())
    };
    let bearer = built(Auth::Bearer(template("{token}")), "s3cret").unwrap();
    assert_eq!(value(&bearer, "authorization"), ("Bearer s3cret".to_owned(), true));
    assert_eq!(value(&bearer, "x-tenant"), ("t1".to_owned(), false));
    let basic = built(Auth::Basic { username: template("{name}"), password: template("{token}") }, "pä:ss").unwrap();
    assert_eq!(value(&basic, "authorization"), (format!("Basic {}", STANDARD.encode("ada:pä:ss")), true));
    let own = built(Auth::Headers(vec![(template("{header}"), template("key {token}"))]), "s3cret").unwrap();
    assert_eq!(value(&own, "x-api-key"), ("key s3cret".to_owned(), true));
    let query = built(Auth::Query(vec![("k".to_owned(), template("{token}"))]), "a b&c").unwrap();
    assert_eq!(query.query[0].1.expose(), "a%20b%26c");
    for bad in ["a\r\nx: 1", "a\nb", "a\0b", "ä", "a "] {
        assert!(built(Auth::Bearer(template("{token}")), bad).is_err(), "{bad:?}");
    }
    let refused = built(Auth::Headers(vec![(template("{bad_header}"), template("{token}"))]), "x").err().unwrap();
    assert!(refused.message.contains("cannot carry"), "{refused:?}");
    assert!(built(Auth::Headers(vec![(template("bad name"), template("{token}"))]), "x").is_err());
}
