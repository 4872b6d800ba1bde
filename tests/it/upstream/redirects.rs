//! G-05: no redirect is followed, by any client, so no credential reaches a second host.

use std::sync::Arc;

use http::{HeaderMap, Method, uri::PathAndQuery};
use http_body_util::Empty;
use rollcall::{
    connector::PageStyle,
    upstream::{Context, Failure, HttpCall, ListAsk, headers::response_headers, passthrough::Pool},
};

use super::support::{Server, access, answer, guard_for, http_request, place, upstream_for, users, with_header, with_query};

#[tokio::test]
async fn g_05_redirects_are_not_followed() {
    let second = Server::start(|_, _| answer(200, &[], b"[]"));
    for status in [301, 302, 303, 307, 308] {
        for location in [
            format!("{}/stolen", second.base),
            second.base.replace("http://127.0.0.1", "http://localhost"),
            second.base.replace("http://", "//"),
            format!("{}?x=1", second.base.replace("http", "https")),
            "/other".to_owned(),
        ] {
            let to = location.clone();
            let first =
                Server::start(move |_, _| answer(status, &[("location", &to), ("refresh", &format!("0;url={to}"))], b"{}"));
            let plain = access(&first.base);
            for access in [plain, with_header(access(&first.base), "x-api-key"), with_query(access(&first.base), "api_key")] {
                let access = Arc::new(access);
                let refused = upstream_for(&first.base).list(&access, &users("[*]", PageStyle::None), &ListAsk::default()).await;
                let Err(Failure::Answered { message: Some(message), .. }) = refused else { panic!("{status} {location}") };
                assert!(message.contains("redirect"), "{message}");

                let raw = context_for(&first.base).send(&access, HttpCall::get("/x")).await.unwrap();
                assert_eq!(raw.status, status);

                let local = tokio::task::LocalSet::new();
                let answer = local
                    .run_until(async {
                        let pool = Pool::new(guard_for(&first.base));
                        let target = PathAndQuery::from_static("/x");
                        pool.send(&access, http_request(Method::GET, target, HeaderMap::new(), Empty::new())).await.unwrap()
                    })
                    .await;
                assert_eq!(answer.status(), status);
                let (head, _) = answer.into_parts();
                let kept = response_headers(head.headers, &place(&access, "/x"));
                match location.as_str() {
                    "/other" => assert_eq!(kept["location"], format!("/passthrough/{}/other", access.account)),
                    _ => assert!(!kept.contains_key("location") && !kept.contains_key("refresh")),
                }
            }
            assert_eq!(first.seen().len(), 9);
        }
    }
    assert_eq!(second.seen().len(), 0);
    assert_eq!(second.accepted(), 0);
}

fn context_for(base: &str) -> Context {
    Context::new(guard_for(base), Arc::new(super::support::NoStore))
}
