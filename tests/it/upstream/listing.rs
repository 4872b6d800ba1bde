//! Requests of the unified side: what is asked, how often, and how many at once.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use http::{HeaderValue, Method, header};
use rollcall::{
    connector::{Get, Meaning, PageStyle, Request, ResourceDef, Template, TestRequest, Transport},
    mapping::Path,
    model::AccountId,
    upstream::{Access, Context, Failure, HttpCall, ListAsk, Query},
};
use serde_json::json;

use super::support::{
    Act, CANARY, NoStore, Server, access, answer, change, guard_for, json as reply, request, upstream_for, users, with_query,
};

fn one(path: &str, record: &str) -> ResourceDef {
    let mut resource = users("[*]", PageStyle::None);
    resource.get = Some(Get::Request { request: request(path), record: Path::parse(record).unwrap() });
    resource
}

fn id(id: &str) -> ListAsk {
    ListAsk { values: [("id".to_owned(), id.to_owned())].into(), ..ListAsk::default() }
}

async fn list(server: &Server, access: &Access) -> Result<usize, Failure> {
    let page = upstream_for(&server.base).list(access, &users("[*]", PageStyle::None), &ListAsk::default()).await?;
    Ok(page.records.ranges.len())
}

#[tokio::test]
async fn a_list_is_asked_with_filters_and_the_callers_query() {
    let server = Server::start(|_, _| reply(json!([{"id": 1}])));
    let mut access = with_query(access(&format!("{}/v2", server.base)), "api_key");
    access.fields.insert("tenant".into(), "a b/c".into());
    let mut users = users("[*]", PageStyle::Offset { param: "skip".into(), limit: "top".into(), max: 50, total: None });
    let Some(list) = users.list.as_mut() else { unreachable!() };
    list.source = rollcall::connector::ListSource::Request(Request {
        query: vec![("fields".into(), Template::parse("a,b").unwrap())],
        ..request("/t/{tenant}/users")
    });
    let ask = ListAsk {
        limit: 500,
        filters: vec![("filter".into(), "mail eq %22x%26y%22".into())],
        remote_query: vec![("extra".into(), "ü &=+".into()), ("api_key".into(), "mine".into())],
        ..ListAsk::default()
    };
    for declared in ["top", "skip", "fields", "filter"] {
        let ask = ListAsk { remote_query: vec![(declared.into(), "9999".into())], ..ask.clone() };
        let refused = upstream_for(&server.base).list(&access, &users, &ask).await.unwrap_err();
        assert!(matches!(refused, Failure::Unsendable { ref field, .. } if field == declared), "{refused:?}");
    }
    upstream_for(&server.base).list(&access, &users, &ask).await.unwrap();
    let seen = server.seen().remove(0);
    let wanted =
        "/v2/t/a%20b%2Fc/users?fields=a%2Cb&filter=mail%20eq%20%22x%26y%22&skip=0&top=50&extra=%C3%BC%20%26%3D%2B&api_key=";
    assert_eq!(seen.target(), format!("{wanted}{CANARY}"));
    assert_eq!(seen.values("accept-encoding"), ["gzip, br"]);
    for gone in ["referer", "cookie", "x-forwarded-for"] {
        assert!(seen.values(gone).is_empty());
    }
}

#[tokio::test]
async fn one_record_by_id() {
    let server = Server::start(|seen, _| match seen.target() {
        "/users/a%20b%2F%3F" => reply(json!({"data": {"id": "a b/?"}})),
        "/users/gone" => answer(404, &[], b"{}"),
        _ => answer(500, &[], b"{}"),
    });
    let (upstream, access) = (upstream_for(&server.base), access(&server.base));
    let users = one("/users/{id}", "data");
    assert_eq!(upstream.get(&access, &users, &id("a b/?")).await.unwrap().unwrap(), r#"{"id":"a b/?"}"#);
    assert_eq!(upstream.get(&access, &users, &id("gone")).await.unwrap(), None);
    for odd in ["", ".", ".."] {
        assert_eq!(upstream.get(&access, &users, &id(odd)).await.unwrap(), None, "{odd}");
    }
    assert!(upstream.get(&access, &users, &id("broken")).await.is_err());
    assert_eq!(server.seen().len(), 3);
}

#[tokio::test]
async fn repeatable_requests_are_tried_again_and_no_others() {
    for status in [502, 503, 504] {
        let server = Server::start(move |_, n| if n < 2 { answer(status, &[], b"{}") } else { reply(json!([{"id": 1}])) });
        assert_eq!(list(&server, &access(&server.base)).await.unwrap(), 1);
        assert_eq!(server.seen().len(), 3);
    }
    for (status, headers, wanted) in [
        (503, vec![], 3),
        (500, vec![], 1),
        (400, vec![], 1),
        (401, vec![], 1),
        (429, vec![], 1),
        (429, vec![("retry-after", "1")], 3),
        (429, vec![("retry-after", "11")], 1),
        (503, vec![("retry-after", "11")], 1),
    ] {
        let headers: Vec<(&'static str, &'static str)> = headers;
        let sent = headers.clone();
        let server = Server::start(move |_, _| answer(status, &sent, b"{}"));
        assert!(list(&server, &access(&server.base)).await.is_err());
        assert_eq!(server.seen().len(), wanted, "{status} {headers:?}");
    }
    let cut = Server::start(|_, n| match n {
        0 => vec![Act::Write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n[".to_vec()), Act::Close],
        _ => reply(json!([{"id": 1}])),
    });
    assert_eq!(list(&cut, &access(&cut.base)).await.unwrap(), 1);
}

#[tokio::test]
async fn u_01_a_post_is_never_sent_twice() {
    for broken in [
        answer(503, &[], b"{}"),
        answer(429, &[("retry-after", "0")], b"{}"),
        vec![Act::Close],
        vec![Act::Write(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n[".to_vec()), Act::Close],
    ] {
        let broken = std::sync::Mutex::new(Some(broken));
        let server = Server::start(move |_, _| broken.lock().unwrap().take().unwrap_or_else(|| reply(json!([]))));
        let access = access(&server.base);
        let mut users = users("[*]", PageStyle::None);
        let Some(list) = users.list.as_mut() else { unreachable!() };
        list.source = rollcall::connector::ListSource::Request(Request { method: Method::POST, ..request("/search") });
        assert!(upstream_for(&server.base).list(&access, &users, &ListAsk::default()).await.is_err());
        assert_eq!(server.seen().len(), 1);

        let context = Context::new(guard_for(&server.base), Arc::new(NoStore));
        let call = HttpCall { method: Method::POST, body: Some("{}".into()), ..HttpCall::get("/x") };
        context.send(&access, call).await.unwrap();
        assert_eq!(server.seen().len(), 2);
    }
}

#[tokio::test]
async fn retries_are_a_small_part_of_an_outage() {
    // An answer now and then, so that the vendor is not held to be down.
    let server = Server::start(|_, n| if n % 16 == 15 { reply(json!([])) } else { answer(503, &[], b"{}") });
    let access = change(access(&server.base), |method| method.limits.tries = 2);
    let upstream = upstream_for(&server.base);
    let users = users("[*]", PageStyle::None);
    for _ in 0..60 {
        let _ = upstream.list(&access, &users, &ListAsk::default()).await;
    }
    let retries = server.seen().len() - 60;
    // Ten are saved up; after that one in ten.
    assert!((10..=16).contains(&retries), "{retries}");
}

#[tokio::test]
async fn an_account_has_a_bounded_number_in_flight() {
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (inside, peak) = (now.clone(), most.clone());
    let server = Server::start(move |_, _| {
        peak.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(30));
        inside.fetch_sub(1, Ordering::SeqCst);
        reply(json!([]))
    });
    let upstream = upstream_for(&server.base);
    let users = users("[*]", PageStyle::None);
    let account = AccountId::generate();
    // The connector's file may say another number while the gateway runs.
    for room in [3, 5, 2] {
        let mut access = change(access(&server.base), |method| method.limits.concurrency = room);
        access.account = account;
        most.store(0, Ordering::SeqCst);
        let calls = (0..20).map(|_| async { upstream.list(&access, &users, &ListAsk::default()).await.map(|_| ()) });
        futures_util::future::join_all(calls).await.into_iter().for_each(|outcome| outcome.unwrap());
        assert_eq!(most.load(Ordering::SeqCst), room);
    }
}

#[tokio::test]
async fn a_vendor_that_never_answers_is_given_up() {
    let server = Server::start(|seen, _| match seen.target() {
        "/users" => vec![Act::Pause(Duration::from_secs(3))],
        _ => {
            let mut acts = vec![Act::Write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n[".to_vec())];
            acts.extend((0..30).flat_map(|_| [Act::Write(b" ".to_vec()), Act::Pause(Duration::from_millis(100))]));
            acts
        }
    });
    let access = change(access(&server.base), |method| method.limits.timeout = Duration::from_millis(300));
    let started = Instant::now();
    assert!(matches!(list(&server, &access).await, Err(Failure::TimedOut(_))));
    let context = Context::new(guard_for(&server.base), Arc::new(NoStore));
    assert!(matches!(context.send(&access, HttpCall::get("/drip")).await, Err(Failure::TimedOut(_))));
    assert!(started.elapsed() < Duration::from_secs(2));
    let quick = HttpCall { timeout: Some(Duration::from_millis(50)), ..HttpCall::get("/users") };
    assert!(matches!(context.send(&access, quick).await, Err(Failure::TimedOut(_))));
}

#[tokio::test]
async fn what_cannot_be_reached_is_named_without_its_query() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("http://{}", free.local_addr().unwrap());
    drop(free);
    let refused = list_at(&base, &with_query(access(&base), "key")).await.unwrap_err();
    assert!(matches!(refused, Failure::Unreachable(ref text) if text.contains("refused")), "{refused:?}");
    let server = Server::start(|_, _| vec![Act::Write(b"SSH-2.0-x\r\n\r\n".to_vec()), Act::Close]);
    let odd = list(&server, &with_query(access(&server.base), "key")).await.unwrap_err();
    assert!(matches!(odd, Failure::BadAnswer(_)), "{odd:?}");
    let https = server.base.replace("http:", "https:");
    let tls = list_at(&https, &access(&https)).await.unwrap_err();
    assert!(matches!(tls, Failure::Unreachable(ref text) if text.starts_with("TLS")), "{tls:?}");
    for failure in [refused, odd, tls] {
        assert!(!failure.to_string().contains(CANARY) && !failure.to_string().contains('?'), "{failure}");
    }
}

async fn list_at(base: &str, access: &Access) -> Result<usize, Failure> {
    let page = upstream_for(base).list(access, &users("[*]", PageStyle::None), &ListAsk::default()).await?;
    Ok(page.records.ranges.len())
}

#[tokio::test]
async fn the_context_gives_raw_answers_and_keeps_the_credential() {
    let server = Server::start(|seen, _| answer(418, &[("x-back", "1")], &seen.body));
    let context = Context::new(guard_for(&server.base), Arc::new(NoStore));
    let access = access(&format!("{}/base", server.base));
    let mut query = Query::default();
    query.add("a b", "c&d");
    let call = HttpCall {
        method: Method::POST,
        path: "/x%20y".into(),
        query,
        headers: vec![
            (header::CONTENT_TYPE, HeaderValue::from_static("text/x")),
            (header::AUTHORIZATION, HeaderValue::from_static("Bearer mine")),
        ],
        body: Some("hello".into()),
        timeout: None,
    };
    let raw = context.send(&access, call).await.unwrap();
    assert_eq!((raw.status, &raw.body[..], &raw.headers["x-back"]), (418, &b"hello"[..], &HeaderValue::from_static("1")));
    let seen = server.seen().remove(0);
    assert_eq!(seen.target(), "/base/x%20y?a%20b=c%26d");
    assert_eq!(seen.values("authorization"), [format!("Bearer {CANARY}")]);
    assert_eq!(seen.values("content-type"), ["text/x"]);
    for away in ["x", "/../x", "/a/../../x", "//evil", "/a#b", "/a?b=c", "/a\\b", "@evil.example/x"] {
        let outcome = context.send(&access, HttpCall::get(away)).await;
        let stayed = server.seen().iter().all(|seen| seen.target().starts_with("/base/"));
        assert!(stayed && (outcome.is_err() || away == "//evil"), "{away}");
    }
}

fn scim(base: &str) -> Access {
    change(access(base), |method| method.transport = Transport::Scim)
}

#[tokio::test]
async fn scim_is_learned_from_its_own_description() {
    let list = || {
        reply(
            json!({"schemas": ["urn:ietf:params:scim:api:messages:2.0:ListResponse"], "totalResults": 9, "Resources": [{"id": "1"}]}),
        )
    };
    let described = json!({"filter": {"supported": true, "maxResults": 200}, "pagination": {"cursor": true, "index": true, "maxPageSize": 50}});
    let server = Server::start(move |seen, _| match seen.target() {
        "/ServiceProviderConfig" => reply(described.clone()),
        "/Users?cursor=&count=1" => list(),
        other => panic!("{other}"),
    });
    let tested = upstream_for(&server.base).test(&scim(&server.base)).await.unwrap();
    assert_eq!(serde_json::Value::from(tested.facts), json!({"page": "cursor", "filter": true, "max": 50}));
    for missing in [answer(404, &[], b"x"), answer(401, &[], b"{}"), answer(501, &[], b""), answer(200, &[], b"<html>")] {
        let missing = std::sync::Mutex::new(Some(missing));
        let server = Server::start(move |seen, _| match seen.target() {
            "/ServiceProviderConfig" => missing.lock().unwrap().take().unwrap(),
            "/Users?count=1" => list(),
            other => panic!("{other}"),
        });
        let tested = upstream_for(&server.base).test(&scim(&server.base)).await.unwrap();
        assert_eq!(serde_json::Value::from(tested.facts), json!({"page": "index", "filter": false}));
        assert_eq!(tested.warnings.len(), 1);
    }
    for (users, reauth) in [
        (answer(401, &[], b"{}"), true),
        (reply(json!([{"id": 1}])), false),
        (reply(json!({"schemas": ["urn:ietf:params:scim:api:messages:2.0:Error"], "totalResults": 1})), false),
        (reply(json!({"message": "welcome"})), false),
        (answer(200, &[("content-type", "text/html")], b"<!doctype html>"), false),
    ] {
        let users = std::sync::Mutex::new(Some(users));
        let server = Server::start(move |seen, _| match seen.target() {
            "/ServiceProviderConfig" => answer(404, &[], b""),
            _ => users.lock().unwrap().take().unwrap(),
        });
        let failure = upstream_for(&server.base).test(&scim(&server.base)).await.unwrap_err();
        assert_eq!(matches!(failure, Failure::Answered { .. }), reauth, "{failure}");
    }
    let down = Server::start(|_, _| answer(500, &[], b"{}"));
    assert!(upstream_for(&down.base).test(&scim(&down.base)).await.is_err());
}

#[tokio::test]
async fn rest_is_tested_by_the_connectors_own_request() {
    let server = Server::start(|seen, _| match seen.target() {
        "/me" => reply(json!({"id": 7, "roles": [1]})),
        _ => answer(401, &[], b"{}"),
    });
    for (path, expect, good) in [("/me", "id", true), ("/me", "roles[*]", true), ("/me", "email", false), ("/other", "id", false)]
    {
        let access = change(access(&server.base), |method| {
            method.test =
                Some(TestRequest { request: Some(request(path)), expect: vec![Path::parse(expect).unwrap()], visible: None });
        });
        assert_eq!(upstream_for(&server.base).test(&access).await.is_ok(), good, "{path} {expect}");
    }
}

#[tokio::test]
async fn a_credential_that_shows_nothing_is_refused_with_the_connectors_sentence() {
    let sentence = "0 customers visible: grant Customer Access, then make a new key.";
    for (answer, good) in
        [(json!({"data": [{"id": 1}]}), true), (json!({"data": []}), false), (json!({"data": null}), false), (json!({}), false)]
    {
        let server = Server::start(move |_, _| reply(answer.clone()));
        let access = change(access(&server.base), |method| {
            let visible = Some((Path::parse("data[*]").unwrap(), sentence.to_owned()));
            method.test = Some(TestRequest { request: Some(request("/customers")), expect: Vec::new(), visible });
        });
        match upstream_for(&server.base).test(&access).await {
            Ok(_) => assert!(good),
            Err(Failure::Answered { meaning: Meaning::Denied, message, .. }) => {
                assert_eq!((good, message.as_deref()), (false, Some(sentence)));
            }
            Err(other) => panic!("{other}"),
        }
    }
}
