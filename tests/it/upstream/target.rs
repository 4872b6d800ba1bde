//! G-02: a path cannot leave the base address.

use std::collections::BTreeSet;

use proptest::prelude::*;
use rollcall::{
    model::Secret,
    upstream::passthrough_target::{PathError, build_target},
};
use url::Url;

const BASES: [&str; 3] = ["https://api.vendor.example", "https://api.vendor.example/scim/v2", "https://vendor.example:8443/a/b"];

fn build(base: &str, path: &str, query: Option<&str>) -> Result<http::Uri, PathError> {
    build_target(&Url::parse(base).unwrap(), path, query, &[], false)
}

/// What must hold of everything that is handed on, judged without the code under test.
fn assert_stays(base: &str, path: &str, query: Option<&str>, uri: &http::Uri) {
    let bound = Url::parse(base).unwrap();
    let prefix = bound.path().trim_end_matches('/');
    assert_eq!(uri.scheme_str(), Some("https"), "{path:?}");
    assert_eq!(uri.authority().unwrap().as_str(), bound.authority(), "{path:?}");
    let whole = if prefix.is_empty() && path.is_empty() { "/".to_owned() } else { format!("{prefix}{path}") };
    assert_eq!(uri.path(), whole, "the path was changed");
    assert_eq!(uri.query(), query, "the query was changed");
    let mut now = whole;
    for _ in 0..4 {
        assert!(depth_stays(&now, prefix), "{path:?} leaves {prefix:?} as {now:?}");
        let parsed = Url::parse(&format!("{}{now}", bound.origin().ascii_serialization())).unwrap();
        assert_eq!(parsed.origin(), bound.origin(), "{path:?} changes the host as {now:?}");
        now = percent_encoding::percent_decode_str(&now).decode_utf8_lossy().into_owned();
    }
}

/// Walks the segments as a server would and looks whether it ever stands above the prefix.
fn depth_stays(path: &str, prefix: &str) -> bool {
    let floor = prefix.split('/').filter(|s| !s.is_empty()).count();
    let mut depth = 0usize;
    for segment in path.split(['/', '\\']).filter(|s| !s.is_empty()) {
        match segment.split(';').next().unwrap() {
            "." => {}
            ".." if depth <= floor => return false,
            ".." => depth -= 1,
            _ => depth += 1,
        }
    }
    true
}

fn hostile() -> BTreeSet<String> {
    let dots = [
        ".",
        "..",
        "%2e%2e",
        "%2E.",
        ".%2e",
        "%252e%252e",
        "%25252e%25252e",
        "..;",
        "..;a=b",
        ".;",
        "%2e%2e;x",
        "..%20",
        "%20..",
        "%c0%ae%c0%ae",
        "%25c0%25ae",
        "\u{ff0e}\u{ff0e}",
        "%ef%bc%8e%ef%bc%8e",
        "%e2%80%a5",
        "%ef%b8%b0",
        "%e2%80%a4%e2%80%a4",
        "..%00",
        "..%0d",
        "..%09",
    ];
    let mut all = BTreeSet::new();
    for dot in dots {
        for around in ["/#", "/#/", "/#/#/x", "/users/#", "/users/#/secrets", "/a/b/c/#/#/#/#/#/x", "/users/x%2f#", "/x\\#\\y"] {
            all.insert(around.replace('#', dot));
        }
    }
    for slash in ["%2f", "%2F", "%5c", "%5C", "\\"] {
        for around in ["/a#b", "/a#..#b", "/#evil.example", "/a/#", "/#", "/##evil.example/x", "/a#..#..#..#etc", "/@#x"] {
            all.insert(around.replace('#', slash));
        }
    }
    for start in
        ["//evil.example", "//evil.example/x", "///x", "//", "//@evil.example", "//\\evil.example", "/\\evil.example", "\\\\evil"]
    {
        all.insert(start.to_owned());
    }
    for no_slash in
        ["evil.example", "@evil.example/x", ":443@evil.example", ".evil.example/", "https://evil.example/", "?x", "#x", "*"]
    {
        all.insert(no_slash.to_owned());
    }
    for control in (0u8..=0x20).chain([0x7f]) {
        all.insert(format!("/users/a{}b", control as char));
        all.insert(format!("/users/a%{control:02x}b").replace("%20", "%1f"));
        all.insert(format!("/users/a%25{control:02x}b").replace("%2520", "%251f"));
    }
    for broken in ["%", "%2", "%zz", "%u002e", "%-1", "100%", "%%32%65"] {
        all.insert(format!("/users/{broken}"));
    }
    for other in ["/a#b", "/a?b", "/\u{ff0e}\u{ff0e}\u{ff0f}x", "/%ff", "/%80abc", "/%ed%a0%80", "/a b", "/<script>", "/`x`"] {
        all.insert(other.to_owned());
    }
    all.insert(format!("/{}", "a".repeat(9000)));
    all
}

#[test]
fn g_02_path_cannot_escape() {
    let hostile = hostile();
    assert!(hostile.len() >= 300, "{}", hostile.len());
    for path in &hostile {
        for base in BASES {
            let built = build(base, path, None);
            assert!(built.is_err(), "{path:?} went through as {:?}", built.unwrap());
        }
    }
}

#[test]
fn g_02_honest_paths_pass_byte_for_byte() {
    let paths = [
        "",
        "/",
        "/users",
        "/users/",
        "/users/a%20b",
        "/users/a+b",
        "/users/a:b",
        "/users/a@b.example",
        "/users/%40x",
        "/a//b",
        "/users('x')",
        "/users/a,b;v=1",
        "/users/~me/.well-known",
        "/x/...",
        "/users/%E2%9C%93",
        "/%70roxy/x",
        "/users/$count",
        "/users/a%2Bb",
        "/users/!*'()",
        "/users/a=b&c",
        "/users/%25",
        "/users/50%2525",
        "/a.b/c..d/..e",
        "/users/é",
    ];
    for path in paths {
        for base in BASES {
            for query in [None, Some(""), Some("a=b&c"), Some("q=%2e%2e%2f&x=a+b&y=%zz&u=https://x/?\\")] {
                let uri = build(base, path, query).unwrap_or_else(|e| panic!("{path:?} {query:?}: {e}"));
                assert_stays(base, path, query, &uri);
            }
        }
    }
}

#[test]
fn g_02_encoded_slashes_only_where_declared() {
    let base = Url::parse(BASES[1]).unwrap();
    assert!(build_target(&base, "/groups/a%2Fb", None, &[], false).is_err());
    assert_eq!(build_target(&base, "/groups/a%2Fb", None, &[], true).unwrap().path(), "/scim/v2/groups/a%2Fb");
    for still in ["/a%2f..%2f..%2fb", "/%2e%2e%2fx", "/a%5cb", "/a%2f%2e%2e"] {
        assert!(build_target(&base, still, None, &[], true).is_err(), "{still}");
    }
}

#[test]
fn injected_parameters_take_the_place_of_the_callers() {
    let base = Url::parse(BASES[0]).unwrap();
    let inject = [("api_key".to_owned(), Secret::new("s%2B1".to_owned()))];
    let query = |raw: Option<&str>| build_target(&base, "/x", raw, &inject, false).unwrap().query().unwrap().to_owned();
    assert_eq!(query(None), "api_key=s%2B1");
    assert_eq!(query(Some("a=%20&b")), "a=%20&b&api_key=s%2B1");
    assert_eq!(query(Some("api_key=mine&a=1&API_KEY=x&api%5fkey=y&api_key")), "a=1&api_key=s%2B1");
    assert_eq!(query(Some("my_api_key=1")), "my_api_key=1&api_key=s%2B1");
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if crate::support::long() { 200_000 } else { 4_000 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn g_02_random_paths_stay(pieces in prop::collection::vec(prop::sample::select(vec![
        "/", "//", ".", "..", "%2e", "%2E", "%252e", "%2f", "%5c", "%25", "\\", ";", "@", ":", "?", "#", "a", "users", "%00", "%0a",
        "%20", "+", "\u{ff0e}", "%c0%ae", "é", "%", "%zz", " ", "evil.example", "https:", "$", "*", "%ff", "\t",
    ]), 0..12), base in 0usize..3, encoded: bool) {
        let path = format!("/{}", pieces.concat());
        let bound = Url::parse(BASES[base]).unwrap();
        if let Ok(uri) = build_target(&bound, &path, None, &[], encoded) {
            assert_stays(BASES[base], &path, None, &uri);
        }
    }
}

/// Which rule refuses: a later one would too, so only the reason shows that the earlier one is there.
#[test]
fn g_02_a_refusal_says_why() {
    let plain = "the path or query holds a control character, a space, `#` or a backslash";
    for (path, query, why) in [
        ("/a#b", None, plain),
        ("/a b", None, plain),
        ("/a\u{1}b", None, plain),
        ("/a\u{7f}b", None, plain),
        ("/a\\b", None, plain),
        ("/a?b", None, plain),
        ("/a", Some("b#c"), plain),
        ("/a", Some("b c"), plain),
        ("/a", Some("b\u{7f}c"), plain),
        ("a", None, "the path does not begin with a slash"),
        ("//a", None, "the path begins with an empty segment"),
        ("/a/./b", None, "the path holds a dot segment"),
        ("/a/..", None, "the path holds a dot segment"),
        ("/a/%2e%2E;x/b", None, "the path holds a dot segment"),
        ("/a%00", None, "the path holds a control character when decoded"),
        ("/a%7F", None, "the path holds a control character when decoded"),
        ("/a%257f", None, "the path holds a control character when decoded"),
        ("/a%ff", None, "the path is not UTF-8 when decoded"),
        ("/a%25c0%25ae", None, "the path is not UTF-8 when decoded"),
        ("/a%", None, "the path holds a `%` that is not an escape"),
        ("/a%2", None, "the path holds a `%` that is not an escape"),
        ("/a%2x", None, "the path holds a `%` that is not an escape"),
        ("/a%2Fb", None, "the path holds an encoded slash or backslash"),
        ("/a%5cb", None, "the path holds an encoded slash or backslash"),
        ("/<", None, "the path holds a character that may not stand there"),
    ] {
        assert_eq!(build(BASES[1], path, query).map_err(|e| e.to_string()), Err(why.to_owned()), "{path:?} {query:?}");
    }
    let refused = build(BASES[1], "a", None).unwrap_err();
    assert_eq!(refused.code(), rollcall::error::Code::InvalidPath);
    let error = rollcall::error::Error::from(refused);
    assert_eq!((error.code(), error.detail()), (rollcall::error::Code::InvalidPath, "the path does not begin with a slash."));
}

#[test]
fn g_02_path_and_query_hold_8_kib_together() {
    let path = |length: usize| format!("/{}", "a".repeat(length - 1));
    for (in_path, in_query, passes) in
        [(8192, None, true), (8193, None, false), (4096, Some(4096), true), (4097, Some(4096), false), (1, Some(8191), true)]
    {
        let query = in_query.map(|length| "q".repeat(length));
        assert_eq!(build(BASES[0], &path(in_path), query.as_deref()).is_ok(), passes, "{in_path} {in_query:?}");
    }
}

#[test]
fn injected_names_are_known_however_they_are_written() {
    let base = Url::parse(BASES[0]).unwrap();
    let inject = ["api key", "b"].map(|name| (name.to_owned(), Secret::new("s".to_owned())));
    let query = |raw: &str| build_target(&base, "/x", Some(raw), &inject, false).unwrap().query().unwrap().to_owned();
    assert_eq!(query("api+key=1&a=1&Api%20Key=2&B&b=3&%62"), "a=1&api%20key=s&b=s");
    assert_eq!(query("apikey=1&ab=1&=b"), "apikey=1&ab=1&=b&api%20key=s&b=s");
}
