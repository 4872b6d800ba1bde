//! G-03: header hygiene, and what replies lose.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};
use rollcall::{
    connector::{DownloadHost, LinkPath, LinkStep},
    upstream::{
        Access,
        headers::{request_headers, response_headers},
        links::Place,
    },
};

use super::support::{CANARY, access, change, place, with_header, with_query};

const OUR_KEY: &str = "rck_our-own-token";

fn filtered(client: &[(&str, &str)], access: &Access) -> HeaderMap {
    request_headers(client.iter().map(|(n, v)| (*n, v.as_bytes())), access)
}

/// Every way to disturb the credential, for a credential header of this name.
fn cases(injected: &str) -> Vec<Vec<(String, String)>> {
    let upper = injected.to_ascii_uppercase();
    let under = injected.replace('-', "_");
    let pair = |n: &str, v: &str| (n.to_owned(), v.to_owned());
    let mut cases = vec![
        vec![pair("connection", injected)],
        vec![pair("Connection", &upper)],
        vec![pair("connection", &format!("keep-alive, {injected}"))],
        vec![pair("connection", &format!("close,{injected} , x-other")), pair("x-other", "dropped")],
        vec![pair("connection", "keep-alive"), pair("connection", injected)],
        vec![pair(injected, "mine")],
        vec![pair(&upper, "mine")],
        vec![pair(injected, "mine"), pair(injected, "again")],
        vec![pair(&under, "mine")],
        vec![pair(injected, "mine"), pair("connection", injected)],
        vec![pair("authorization", &format!("Bearer {OUR_KEY}"))],
        vec![pair("Authorization", &format!("SSWS {OUR_KEY}"))],
        vec![pair("authorization", "Basic eA=="), pair("authorization", OUR_KEY)],
        vec![pair("proxy-authorization", OUR_KEY)],
        vec![pair("cookie", OUR_KEY)],
        vec![pair("cookie2", OUR_KEY)],
        vec![pair("rollcall-account", OUR_KEY)],
        vec![pair("rollcall-anything", OUR_KEY)],
        vec![pair("x-under_score", OUR_KEY)],
        vec![pair("te", "gzip;q=0.5, Trailers"), pair("trailer", "x-sum"), pair("upgrade", "websocket")],
        vec![pair("te", "trailers"), pair("te", &format!("trailers, {OUR_KEY}")), pair("connection", &format!("te, {injected}"))],
    ];
    for reserved in [
        "host",
        "via",
        "forwarded",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-proto",
        "x-real-ip",
        "keep-alive",
        "transfer-encoding",
        "content-length",
        "proxy-connection",
        "http2-settings",
        "proxy-authenticate",
    ] {
        cases.push(vec![pair(reserved, OUR_KEY)]);
        cases.push(vec![pair(&reserved.to_ascii_uppercase(), OUR_KEY), pair("connection", reserved)]);
    }
    for value in ["a\r\nx-evil: 1", "a\nx-evil: 1", "a\0b"] {
        cases.push(vec![pair("x-split", value)]);
    }
    cases
}

#[test]
fn g_03_the_credential_arrives_once_and_ours_never() {
    let mut count = 0;
    for (access, name, wanted) in [
        (access("https://api.vendor.example"), "authorization", format!("Bearer {CANARY}")),
        (with_header(access("https://api.vendor.example"), "x-api-key"), "x-api-key", CANARY.to_owned()),
    ] {
        for case in cases(name) {
            count += 1;
            let mut client: Vec<(&str, &str)> = case.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
            client.push(("x-kept", "yes"));
            let sent = filtered(&client, &access);
            let credential: Vec<_> = sent.get_all(name).iter().collect();
            assert_eq!(credential, [wanted.as_str()], "{case:?}");
            assert_eq!(sent.get_all("x-kept").iter().count(), 1, "{case:?}");
            for (n, v) in &sent {
                assert!(!v.as_bytes().windows(OUR_KEY.len()).any(|w| w == OUR_KEY.as_bytes()), "{case:?}: {n}");
                assert!(!n.as_str().contains('_') && n != "x-evil" && n != "x-other", "{case:?}: {n}");
            }
            // Our own, of this connection: a client that takes trailers gets them.
            let takes_trailers = client.iter().any(|(name, _)| *name == "te");
            assert_eq!(sent.get_all("te").iter().collect::<Vec<_>>(), Vec::from_iter(takes_trailers.then_some("trailers")));
            for gone in ["connection", "keep-alive", "trailer", "upgrade", "transfer-encoding", "content-length", "host"] {
                assert!(!sent.contains_key(gone), "{case:?}: {gone}");
            }
        }
    }
    assert!(count >= 80, "{count}");
}

#[test]
fn end_to_end_headers_pass_unchanged() {
    let client = [
        ("accept", "text/csv"),
        ("accept-encoding", "zstd"),
        ("content-type", "multipart/form-data; boundary=x"),
        ("user-agent", "sdk/1"),
        ("if-none-match", "W/\"1\""),
        ("range", "bytes=0-9"),
        ("x-many", "1"),
        ("x-many", "2"),
        ("idempotency-key", "k"),
        ("expect", "100-continue"),
    ];
    let mut access = access("https://api.vendor.example");
    access.headers.push((http::header::ACCEPT, HeaderValue::from_static("application/scim+json")));
    let sent = filtered(&client, &access);
    assert_eq!(sent.len(), client.len() + 1);
    for (name, value) in client {
        assert!(sent.get_all(name).iter().any(|v| v == value), "{name}");
    }
    assert_eq!(filtered(&[], &access)[http::header::ACCEPT], "application/scim+json", "the connector's default");
}

fn reply(headers: &[(&str, &str)], access: &Arc<Access>) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap());
    }
    response_headers(map, &place(access, "/users"))
}

#[test]
fn replies_lose_what_would_act_on_our_origin() {
    let access = Arc::new(access("https://api.vendor.example/v2"));
    let sent = reply(
        &[
            ("set-cookie", "a=b"),
            ("set-cookie", "c=d"),
            ("access-control-allow-origin", "*"),
            ("access-control-max-age", "1"),
            ("strict-transport-security", "max-age=1"),
            ("alt-svc", "h3"),
            ("clear-site-data", "\"*\""),
            ("refresh", "0;url=//evil"),
            ("x-accel-redirect", "/internal"),
            ("x-sendfile", "/etc/passwd"),
            ("nel", "{}"),
            ("report-to", "{}"),
            ("speculation-rules", "\"x\""),
            ("idempotent-replayed", "true"),
            ("connection", "x-hop, close"),
            ("x-hop", "1"),
            ("keep-alive", "timeout=5"),
            ("rollcall-error", "invalid_token"),
            ("rollcall-request-id", "theirs"),
            ("etag", "\"1\""),
            ("link", "<x>; rel=next"),
            ("rollcall-link-withheld", "1"),
            ("www-authenticate", "Bearer"),
            ("content-length", "12"),
        ],
        &access,
    );
    let mut names: Vec<_> = sent.keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["content-length", "etag", "link", "www-authenticate", "x-content-type-options"]);
    let chunked = reply(&[("transfer-encoding", "chunked"), ("content-length", "12"), ("etag", "\"1\"")], &access);
    let mut names: Vec<_> = chunked.keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["etag", "x-content-type-options"], "of two lengths the chunks' is the true one");
}

#[test]
fn active_content_is_sandboxed_and_nothing_else() {
    let access = Arc::new(access("https://api.vendor.example"));
    for active in
        ["text/html", "TEXT/HTML; charset=utf-8", "image/svg+xml", "application/xhtml+xml", "text/xml", "application/atom+xml"]
    {
        let sent = reply(&[("content-type", active), ("content-security-policy", "default-src *")], &access);
        assert!(sent.get_all("content-security-policy").iter().any(|v| v == "sandbox"), "{active}");
        assert_eq!(sent["x-content-type-options"], "nosniff");
    }
    for plain in ["application/json", "application/scim+json", "application/pdf", "text/csv"] {
        assert!(!reply(&[("content-type", plain)], &access).contains_key("content-security-policy"), "{plain}");
    }
}

#[test]
fn locations_stay_below_the_base_or_are_withheld() {
    let access = Arc::new(access("https://api.vendor.example/v2"));
    for (from, to) in [
        ("https://api.vendor.example/v2/users/1", "/users/1"),
        ("https://api.vendor.example:443/v2/users?x=%20y", "/users?x=%20y"),
        ("HTTPS://API.vendor.example/v2/users/a%7Eb?q={x}|'", "/users/a%7Eb?q={x}|'"),
        ("https://api.vendor.example/v2", ""),
        ("https://api.vendor.example/v2?x=1", "?x=1"),
        ("/v2/users/1#f", "/users/1#f"),
        ("//api.vendor.example/v2/x", "/x"),
        ("relative", "/relative"),
        ("7/keys?x=1", "/7/keys?x=1"),
        ("?page=2", "/users?page=2"),
    ] {
        let to = format!("/passthrough/{}{to}", access.account);
        let sent = reply(&[("location", from), ("content-location", from)], &access);
        assert_eq!([&sent["location"], &sent["content-location"]], [&*to, &*to], "{from}");
        assert!(sent.keys().all(|name| !name.as_str().ends_with("withheld")));
        let origin = "https://rollcall.example".into();
        let public = Place { origin: Some(&origin), ..place(&access, "/users") };
        let sent = response_headers(HeaderMap::from_iter([(http::header::LOCATION, from.parse().unwrap())]), &public);
        assert_eq!(sent["location"], format!("https://rollcall.example{to}"), "{from}");
    }
    for away in [
        "https://evil.example/v2/x",
        "http://api.vendor.example/v2/x",
        "https://api.vendor.example:444/v2/x",
        "//evil.example/v2",
        "https://sub.api.vendor.example/v2",
        "https://u@api.vendor.example/v2/x",
        "/other",
        "/v22/x",
        "\\\\evil.example",
        "javascript:alert(1)",
        "https://api.vendor.example/v2/../x",
        "https://api.vendor.example/v2/a/%2e%2e/%2e%2e/x",
        "https://api.vendor.example/v2//evil.example",
        "https://api.vendor.example@evil.example/v2/x",
        "https:api.vendor.example/v2/x",
        "../relative",
        "relative/../../x",
        " https://api.vendor.example/v2/x",
        "#f",
        "",
    ] {
        let sent = reply(&[("location", away), ("content-location", away)], &access);
        assert!(!sent.contains_key("location") && !sent.contains_key("content-location"), "{away}");
        assert_eq!(sent["rollcall-location-withheld"], "1", "{away}");
        assert_eq!(sent["rollcall-content-location-withheld"], "1", "{away}");
    }
}

#[test]
fn a_key_written_into_links_is_taken_out() {
    let access = Arc::new(with_query(access("https://api.vendor.example"), "api_key"));
    let link = format!("<https://api.vendor.example/x?api_key={CANARY}&page=2>; rel=\"next\"");
    let sent = reply(&[("link", &link), ("location", &format!("/y?api_key={CANARY}"))], &access);
    assert!(sent.values().all(|v| !v.to_str().unwrap().contains(CANARY)));
    assert_eq!(sent["link"], format!("</passthrough/{}/x?page=2>; rel=\"next\"", access.account));
}

#[test]
fn rate_limits_are_announced_in_one_form() {
    let access = Arc::new(access("https://api.vendor.example"));
    let now = ("date", "Sat, 21 Nov 2026 10:00:00 GMT");
    for (name, value, wanted) in [
        ("x-ratelimit-reset", "30", "30"),
        ("x-ratelimit-reset", "1795255230", "30"),
        ("x-ratelimit-reset", "1795255230000", "30"),
        ("x-rate-limit-reset", "Sat, 21 Nov 2026 10:00:30 GMT", "30"),
    ] {
        let sent = reply(&[now, (name, value), ("x-ratelimit-limit", "100"), ("x-ratelimit-remaining", "7")], &access);
        assert_eq!(sent["ratelimit-reset"], wanted, "{value}");
        assert_eq!((&sent["ratelimit-limit"], &sent["ratelimit-remaining"]), (&HeaderValue::from(100), &HeaderValue::from(7)));
    }
    let kept = reply(&[("ratelimit-reset", "5"), ("x-ratelimit-reset", "30")], &access);
    assert_eq!(kept["ratelimit-reset"], "5");
    assert!(!reply(&[("etag", "1")], &access).contains_key("ratelimit-limit"));
}

#[test]
fn links_lead_to_us_or_nowhere() {
    let mut account = change(access("https://api.vendor.example/v2"), |method| {
        method.proxy.downloads = vec![DownloadHost { name: "files.example".into(), below: false, port: 443 }];
    });
    account.hosts.push("https://login.vendor.example".parse().unwrap());
    let access = Arc::new(account);
    let ours = format!("/passthrough/{}", access.account);
    let nowhere = format!("{ours}//withheld");
    for (from, to, withheld) in [
        (
            r#"<https://api.vendor.example/v2/users?after=a,b&limit=2>; rel="next""#,
            format!(r#"<{ours}/users?after=a,b&limit=2>; rel="next""#),
            false,
        ),
        (
            r#"<https://api.vendor.example/v2/a>; rel=self, <https://api.vendor.example/v2/b>; title="x, <y>; z"; rel="next last""#,
            format!(r#"<{ours}/a>; rel=self, <{ours}/b>; title="x, <y>; z"; rel="next last""#),
            false,
        ),
        (r#"</v2/x>; rel=next, <?page=2>; rel=prev"#, format!("<{ours}/x>; rel=next, <{ours}/users?page=2>; rel=prev"), false),
        (r#"<https://docs.vendor.example/x>; rel="help""#, r#"<https://docs.vendor.example/x>; rel="help""#.into(), false),
        (r#"<https://files.example/x?sig=1>; rel="next""#, r#"<https://files.example/x?sig=1>; rel="next""#.into(), false),
        (
            r#"<https://api.vendor.example/v2/a>; title="x, <https://evil.example>; rel=next""#,
            format!(r#"<{ours}/a>; title="x, (https://evil.example>; rel=next""#),
            false,
        ),
        ("<mailto:a@b.example>; rel=author", "<mailto:a@b.example>; rel=author".into(), false),
        (r#"<https://evil.example/x>; rel="next""#, format!(r#"<{nowhere}>; rel="next""#), true),
        (r#"<https://evil.example/x>; REL="self Prev""#, format!(r#"<{nowhere}>; REL="self Prev""#), true),
        (r#"<https://api.vendor.example/v1/x>; rel="self""#, format!(r#"<{nowhere}>; rel="self""#), true),
        (r#"<https://login.vendor.example/v2/x>; rel="help""#, format!(r#"<{nowhere}>; rel="help""#), true),
        (r#"<//evil.example/x>; rel=next"#, format!("<{nowhere}>; rel=next"), true),
        (r#"<https:\\evil.example\x>; rel=help"#, format!("<{nowhere}>; rel=help"), true),
        (r#"<https://api.vendor.example/v2/x>; rel=a, <https://evil.example/x; rel=next"#, format!("<{ours}/x>; rel=a"), true),
    ] {
        let sent = reply(&[("link", from)], &access);
        assert_eq!(sent["link"], to, "{from}");
        assert_eq!(sent.contains_key("rollcall-link-withheld"), withheld, "{from}");
    }
    let sent = reply(&[("link", "</v2/a>; rel=next"), ("link", "</v2/b>; rel=prev")], &access);
    let links: Vec<_> = sent.get_all("link").iter().collect();
    assert_eq!(links, [&*format!("<{ours}/a>; rel=next"), &*format!("<{ours}/b>; rel=prev")]);
}

#[test]
fn a_redirect_to_a_download_host_passes() {
    let host = |name: &str, below, port| DownloadHost { name: name.into(), below, port };
    let access = Arc::new(change(access("https://api.vendor.example/v2"), |method| {
        method.proxy.downloads = vec![host("files.example", false, 443), host("store.example", true, 8443)];
    }));
    for passes in [
        "https://files.example/r?sig=a%2Fb",
        "https://FILES.example:443/r",
        "https://a.b.store.example:8443/r",
        "//files.example/r",
    ] {
        let sent = reply(&[("location", passes)], &access);
        assert_eq!(sent["location"], passes);
        assert!(!sent.contains_key("rollcall-location-withheld"));
    }
    for withheld in [
        "http://files.example/r",
        "https://files.example:8443/r",
        "https://a.files.example/r",
        "https://store.example:8443/r",
        "https://.store.example:8443/r",
        "https://evilstore.example:8443/r",
        "https://u@files.example/r",
        "https://files.example.evil.example/r",
        "https://files.example\\@evil.example/r",
    ] {
        let sent = reply(&[("location", withheld)], &access);
        assert!(!sent.contains_key("location"), "{withheld}");
        assert_eq!(sent["rollcall-location-withheld"], "1", "{withheld}");
    }
}

#[test]
fn a_vendor_whose_links_are_read_is_asked_for_plain_bodies() {
    let links = vec![LinkPath(vec![LinkStep::Member("next".into())])];
    let reading = change(access("https://api.vendor.example"), |method| method.proxy.links = links);
    assert_eq!(filtered(&[("accept-encoding", "gzip, br")], &reading)["accept-encoding"], "identity");
    assert_eq!(
        filtered(&[("accept-encoding", "gzip, br")], &access("https://api.vendor.example"))["accept-encoding"],
        "gzip, br"
    );
}
