//! Links of JSON bodies: declared ones lead to us, every other byte passes as it came, however the body is cut.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use proptest::prelude::*;
use rollcall::{
    connector::{DownloadHost, LinkPath, LinkStep},
    upstream::{
        Access,
        json_links::{JsonLinks, rewriter},
        links::Place,
    },
};

use super::support::{access, change, place, with_query};

const BASE: &str = "https://api.vendor.example/v2";

fn member(name: &str) -> LinkStep {
    LinkStep::Member(name.to_owned())
}

/// Paths: `next`, `"@odata.nextLink"`, `items[*].link.href`, `[*].self`, `pair[1]`.
fn linked() -> Arc<Access> {
    let links = vec![
        LinkPath(vec![member("next")]),
        LinkPath(vec![member("@odata.nextLink")]),
        LinkPath(vec![member("items"), LinkStep::Elements, member("link"), member("href")]),
        LinkPath(vec![LinkStep::Elements, member("self")]),
        LinkPath(vec![member("pair"), LinkStep::Element(1)]),
    ];
    let downloads = vec![DownloadHost { name: "files.example".into(), below: true, port: 443 }];
    Arc::new(change(access(BASE), |method| {
        method.proxy.links = links;
        method.proxy.downloads = downloads;
    }))
}

/// The body after the rewriter, in pieces of this size.
fn pass(access: &Arc<Access>, body: &[u8], size: usize) -> Vec<u8> {
    let mut links = JsonLinks::new(&place(access, ""));
    let mut all: Vec<u8> = body.chunks(size).flat_map(|piece| links.push(Bytes::copy_from_slice(piece)).unwrap()).collect();
    all.extend_from_slice(&links.end());
    all
}

/// In pieces of every size up to 12, and whole; all must be the same.
fn passed(access: &Arc<Access>, body: &str) -> String {
    let whole = pass(access, body.as_bytes(), body.len().max(1));
    for size in 1..12 {
        assert_eq!(pass(access, body.as_bytes(), size), whole, "{size}: {body}");
    }
    String::from_utf8(whole).unwrap()
}

#[test]
fn declared_links_to_the_vendor_lead_to_us() {
    let access = linked();
    let ours = format!("/passthrough/{}", access.account);
    for (from, to) in [
        (r#"{"next":"https://api.vendor.example/v2/users?page=2"}"#, format!(r#"{{"next":"{ours}/users?page=2"}}"#)),
        (r#"{ "next" : "https:\/\/api.vendor.example\/v2\/a\u0062" }"#, format!(r#"{{ "next" : "{ours}/ab" }}"#)),
        (r#"{"ne\u0078t":"HTTPS://api.vendor.example:443/v2/x"}"#, format!(r#"{{"ne\u0078t":"{ours}/x"}}"#)),
        (r#"{"@odata.nextLink":"//api.vendor.example/v2/x"}"#, format!(r#"{{"@odata.nextLink":"{ours}/x"}}"#)),
        (
            r#"{"items":[{"link":{"href":"https://api.vendor.example/v2"}},{"link":{"href":"https://api.vendor.example/v2/{id}","x":"https://api.vendor.example/v2/x"}}],"n":1e400}"#,
            format!(
                r#"{{"items":[{{"link":{{"href":"{ours}"}}}},{{"link":{{"href":"{ours}/{{id}}","x":"https://api.vendor.example/v2/x"}}}}],"n":1e400}}"#
            ),
        ),
        (
            r#"[[],{"self":"https://api.vendor.example/v2/a"},"self",{"self":"https://api.vendor.example/v2/b"}]"#,
            format!(r#"[[],{{"self":"{ours}/a"}},"self",{{"self":"{ours}/b"}}]"#),
        ),
        (
            r#"{"pair":["https://api.vendor.example/v2/a","https://api.vendor.example/v2/b","https://api.vendor.example/v2/c"]}"#,
            format!(r#"{{"pair":["https://api.vendor.example/v2/a","{ours}/b","https://api.vendor.example/v2/c"]}}"#),
        ),
        (
            r#"{"next":"https://api.vendor.example/v2/a","next":"https://api.vendor.example/v2/b"}"#,
            format!(r#"{{"next":"{ours}/a","next":"{ours}/b"}}"#),
        ),
    ] {
        assert_eq!(passed(&access, from), to);
    }
    let origin = "https://rollcall.example".into();
    let public = Place { origin: Some(&origin), ..place(&access, "") };
    let mut links = JsonLinks::new(&public);
    let sent = links.push(Bytes::from_static(br#"{"next":"https://api.vendor.example/v2/x"}"#)).unwrap();
    assert_eq!(sent, format!(r#"{{"next":"https://rollcall.example{ours}/x"}}"#));
}

#[test]
fn every_other_byte_passes() {
    let access = linked();
    for body in [
        r#"{"next":null}"#,
        r#"{"next":"/v2/users?page=2"}"#,
        r#"{"next":"opaque-token"}"#,
        r#"{"next":"mailto:a@vendor.example"}"#,
        r#"{"next":"https://a.files.example/report?sig=1"}"#,
        r#"{"other":"https://api.vendor.example/v2/x"}"#,
        r#"{"deep":{"next":"https://api.vendor.example/v2/x"}}"#,
        r#"{"next":{"next":"https://api.vendor.example/v2/x"}}"#,
        r#"{"next":["https://api.vendor.example/v2/x"]}"#,
        r#"{"items":{"link":{"href":"https://api.vendor.example/v2/x"}}}"#,
        r#"{"a":"next","b":"\"next\":\"https://api.vendor.example/v2/x"}"#,
        r#"{"a":[{"b":[{"c":{}}]}],"z":"next" , "y" : 12345678901234567890.10 }"#,
        r#""https://api.vendor.example/v2/x""#,
        "",
        "no JSON at all: {\"next",
        r#"{"next":"https://api.vendor.exa"#,
        "}}}]]],,,:::",
    ] {
        assert_eq!(passed(&access, body), body);
    }
    let nested = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(pass(&access, nested.as_bytes(), 4096), nested.as_bytes());
}

#[test]
fn declared_links_to_elsewhere_lead_nowhere() {
    let access = linked();
    let nowhere = format!("/passthrough/{}//withheld", access.account);
    for away in [
        "https://evil.example/v2/x",
        "http://api.vendor.example/v2/x",
        "https://api.vendor.example:444/v2/x",
        "https://api.vendor.example/other",
        "https://api.vendor.example/v2/../x",
        "https://api.vendor.example/v2/%2e%2e/x",
        "https://user@api.vendor.example/v2/x",
        "https://api.vendor.example\\\\@evil.example/v2",
        "//evil.example/x",
        " https://evil.example/x",
        "http://a.files.example/not-by-https",
        "https://files.example.evil.example/x",
        "https://evil.example/\\ud800",
    ] {
        let body = format!(r#"{{"next":"{away}","n":1}}"#);
        assert_eq!(passed(&access, &body), format!(r#"{{"next":"{nowhere}","n":1}}"#), "{away}");
    }
}

#[test]
fn a_credential_in_a_link_is_taken_out() {
    let mut access = with_query(access(BASE), "api_key");
    access.method = linked().method.clone();
    let access = Arc::new(access);
    let ours = format!("/passthrough/{}", access.account);
    let body = r#"{"next":"https://api.vendor.example/v2/x?API_KEY=canary&page=2#f"}"#;
    assert_eq!(passed(&access, body), format!(r#"{{"next":"{ours}/x?page=2#f"}}"#));
}

#[test]
fn a_link_without_an_end_is_not_collected() {
    let mut links = JsonLinks::new(&place(&linked(), ""));
    let start = links.push(Bytes::from_static(b"{\"next\":\"https://")).unwrap();
    assert_eq!(start, "{\"next\":");
    let piece = Bytes::from(vec![b'x'; 4096]);
    assert!((0..20).any(|_| links.push(piece.clone()).is_err()));
}

#[test]
fn only_whole_plain_json_is_rewritten() {
    let access = linked();
    let asked = |status: u16, headers: &[(&str, &str)], access: &Arc<Access>| {
        let headers =
            headers.iter().map(|(n, v)| (HeaderName::from_bytes(n.as_bytes()).unwrap(), HeaderValue::from_str(v).unwrap()));
        let mut headers = HeaderMap::from_iter(headers);
        headers.insert("content-length", HeaderValue::from(7));
        headers.insert("content-digest", HeaderValue::from_static("sha-256=:x:"));
        let rewrites = rewriter(&place(access, "/x"), StatusCode::from_u16(status).unwrap(), &mut headers);
        rewrites
            .map(|rewrites| (rewrites.is_some(), headers.contains_key("content-length"), headers.contains_key("content-digest")))
    };
    let json = ("content-type", "application/json; charset=utf-8");
    for kind in ["application/json", "Application/SCIM+JSON; x=y", "text/json", "text/plain; charset=utf-8"] {
        assert_eq!(asked(200, &[("content-type", kind)], &access).unwrap(), (true, false, false), "{kind}");
    }
    assert_eq!(asked(200, &[], &access).unwrap(), (true, false, false), "clients read what does not say what it is");
    assert_eq!(asked(404, &[json, ("content-encoding", "identity")], &access).unwrap(), (true, false, false));
    for (status, headers) in [
        (200, &[("content-type", "application/octet-stream")][..]),
        (200, &[("content-type", "application/x-ndjson")]),
        (200, &[("content-type", "application/pdf"), ("content-encoding", "gzip")]),
        (206, &[json]),
        (204, &[json]),
        (304, &[json]),
    ] {
        assert_eq!(asked(status, headers, &access).unwrap(), (false, true, true), "{status} {headers:?}");
    }
    assert!(asked(200, &[json, ("content-encoding", "gzip")], &access).is_err(), "links nobody can read would lead past us");
    let plain = Arc::new(super::support::access(BASE));
    assert_eq!(asked(200, &[json, ("content-encoding", "gzip")], &plain).unwrap(), (false, true, true));
}

/// JSON with names and texts that matter.
fn json() -> impl Strategy<Value = serde_json::Value> {
    let text = prop_oneof![
        "[a-z\"\\\\/é]{0,8}",
        Just("https://api.vendor.example/v2/x".to_owned()),
        Just("https://api.vendor.example/v2/ü?q=\"".to_owned()),
    ];
    let leaf = prop_oneof![Just(serde_json::Value::Null), any::<i64>().prop_map(Into::into), text.prop_map(Into::into)];
    leaf.prop_recursive(5, 64, 5, |inner| {
        let name =
            prop_oneof![Just("next"), Just("items"), Just("link"), Just("href"), Just("self"), Just("pair"), Just("\"o\\")];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Into::into),
            prop::collection::btree_map(name.prop_map(str::to_owned), inner, 0..5)
                .prop_map(|members| serde_json::Value::Object(members.into_iter().collect())),
        ]
    })
}

/// What the rewriter must make of a document, by another way.
fn expected(access: &Arc<Access>, value: &mut serde_json::Value, at: &mut Vec<LinkStep>) {
    use serde_json::Value;
    match value {
        Value::Array(elements) => {
            for (index, element) in elements.iter_mut().enumerate() {
                at.push(LinkStep::Element(index));
                expected(access, element, at);
                at.pop();
            }
        }
        Value::Object(members) => {
            for (name, member) in members.iter_mut() {
                at.push(LinkStep::Member(name.clone()));
                expected(access, member, at);
                at.pop();
            }
        }
        Value::String(text) => {
            let fits = |path: &LinkPath| {
                path.0.len() == at.len()
                    && path.0.iter().zip(at.iter()).all(|(wanted, step)| match (wanted, step) {
                        (LinkStep::Elements, LinkStep::Element(_)) => true,
                        (wanted, step) => wanted == step,
                    })
            };
            if access.method.proxy.links.iter().any(fits) {
                let ours = format!("/passthrough/{}", access.account);
                match text.strip_prefix(BASE) {
                    Some(below) => *text = format!("{ours}{below}"),
                    // A host without a scheme, to some client.
                    None if text.find(|c| !matches!(c, '/' | '\\')).unwrap_or(text.len()) >= 2 => {
                        *text = format!("{ours}//withheld")
                    }
                    None => {}
                }
            }
        }
        _ => {}
    }
}

proptest! {
    #[test]
    fn any_document_in_any_pieces(document in json(), size in 1..40usize, pretty in any::<bool>()) {
        let access = linked();
        let body = if pretty { serde_json::to_vec_pretty(&document) } else { serde_json::to_vec(&document) }.unwrap();
        let mut wanted = document;
        expected(&access, &mut wanted, &mut Vec::new());
        let sent = pass(&access, &body, size);
        prop_assert_eq!(serde_json::from_slice::<serde_json::Value>(&sent).unwrap(), wanted);
    }

    #[test]
    fn any_bytes_in_any_pieces(body in prop::collection::vec(prop_oneof![any::<u8>(), prop::sample::select(&b"{}[]\",:\\ next"[..])], 0..200), size in 1..20usize) {
        // No declared link is absolute here, so nothing may change.
        prop_assert_eq!(pass(&linked(), &body, size), body);
    }
}
