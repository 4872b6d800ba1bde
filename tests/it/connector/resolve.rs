//! From what a customer pastes to an account's address: kinds, groups, hosts, and everything that must be refused.

use std::{collections::BTreeMap, fs};

use proptest::prelude::*;
use rollcall::connector::{Catalog, FieldProblem, LinkMethod, Resolved, check};
use url::Url;

use super::{connectors, copy_dir};

/// A connector with every kind of field.
const HEAD: &str = r#"
connector: acme
format: 1
title: Acme
category: directory
level: draft
link:
  - method: url
    fields:
      - { name: url, title: Address, kind: origin, hosts: [acme.example] }
      - { name: tenant, title: Tenant, kind: uuid }
      - { name: number, title: Number, kind: integer, required: false, default: "12" }
      - { name: header, title: Header, kind: header_name, required: false }
      - { name: key, title: Key, kind: secret, length: 16 }
      - { name: note, title: Note, kind: text, required: false }
    hosts: { api: "{url}", login: "https://login.acme.example" }
    base: "{url}/t/{tenant}/{number}"
    auth: { headers: { headers: { "{header}": "{key}", X-Note: "{note}" } } }
    test: { request: GET /me }
  - method: either
    fields:
      - { name: scim, title: Address, kind: base_url }
      - { name: region, title: Region, kind: choice, values: { EU: eu.acme.example, US: us.acme.example } }
      - { name: node, title: Node, kind: integer }
      - { name: token, title: Token, kind: secret }
    one_of: [[scim], [region, node]]
    hosts: { scim: "{scim}", region: "https://{region}" }
    base: ["{scim}", "https://{region}/scim/{node}"]
    auth: { bearer: { token: "{token}" } }
    test: { request: GET /me }
  - method: ours
    fields:
      - { name: login, title: Login, kind: endpoint, hosts: [acme.example] }
      - { name: api, title: Address, kind: origin, hosts: [acme.example] }
    hosts: { api: "{api}", login: "{login}" }
    base: "{api}"
    token: { grant: authorization_code, url: "{login}", authorize: { url: "{api}/authorize" } }
    auth: { bearer: { token: "{access_token}" } }
    test: { request: GET /me }
  - method: named
    fields:
      - { name: name, title: Name, kind: text }
    hosts: { named: "https://{name}.acme.example" }
    base: "https://{name}.acme.example/v1/{name}"
    test: { request: GET /me }
"#;

fn method(name: &str) -> std::sync::Arc<LinkMethod> {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("acme");
    copy_dir(&connectors().join("_template"), &folder);
    fs::write(folder.join("connector.yaml"), HEAD).unwrap();
    let catalog = Catalog::load_dir(dir.path());
    assert!(catalog.problems().is_empty(), "{}", check::report(catalog.problems(), false));
    catalog.get("acme").unwrap().method(name).unwrap().clone()
}

fn given(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn strict(_: &Url) -> bool {
    false
}

const TENANT: &str = "4f2c0d2e-8a53-4d0e-9d61-7e0c0a11c0de";
const KEY: &str = "0123456789abcdef";

fn url_fields<'a>(change: &[(&'a str, &'a str)]) -> BTreeMap<String, String> {
    let mut fields =
        given(&[("url", "https://eu.acme.example"), ("tenant", TENANT), ("key", KEY), ("header", "X-Key"), ("note", "n")]);
    fields.extend(given(change));
    fields
}

/// What the operator allows is let past `hosts`, but not to where their OAuth app is shown.
#[test]
fn the_operators_app_stays_where_the_connector_says() {
    let (ours, at_home) = (method("ours"), [("login", "https://login.acme.example/token"), ("api", "https://api.acme.example")]);
    let problems = |change: (&'static str, &'static str)| {
        let mut fields = given(&at_home);
        fields.extend(given(&[change]));
        ours.resolve(&fields, &|_| true).err().unwrap_or_default().into_iter().map(|problem| problem.field).collect::<Vec<_>>()
    };
    assert_eq!(problems(("login", "https://login.acme.example/token")), Vec::<String>::new());
    assert_eq!(problems(("api", "http://10.0.0.5:8900")), Vec::<String>::new());
    for elsewhere in ["https://10.0.0.5:8900/token", "http://evil.example/token", "https://acme.example.evil.example/token"] {
        assert_eq!(problems(("login", elsewhere)), ["login"], "{elsewhere}");
    }
    assert_eq!(problems(("login", "http://login.acme.example/token")), Vec::<String>::new(), "http is the operator's to allow");
}

fn resolve(name: &str, fields: &BTreeMap<String, String>) -> Result<Resolved, Vec<FieldProblem>> {
    method(name).resolve(fields, &strict)
}

fn only_problem(name: &str, fields: &BTreeMap<String, String>) -> FieldProblem {
    let mut problems = resolve(name, fields).unwrap_err();
    assert_eq!(problems.len(), 1, "{problems:?}");
    problems.remove(0)
}

#[test]
fn fields_are_normalised() {
    let fields = url_fields(&[
        ("url", " HTTPS://EU.Acme.Example:443/ "),
        ("tenant", "{4F2C0D2E-8A53-4D0E-9D61-7E0C0A11C0DE}"),
        ("number", " 007 "),
        ("key", "0123456789abcdef\r\n"),
        ("header", "X-Api-Key"),
    ]);
    let resolved = resolve("url", &fields).unwrap();
    assert_eq!(resolved.fields["url"], "https://eu.acme.example");
    assert_eq!(resolved.fields["tenant"], TENANT);
    assert_eq!(resolved.fields["number"], "7");
    assert_eq!(resolved.fields["header"], "x-api-key");
    assert_eq!(resolved.secrets["key"].expose(), KEY);
    assert!(!resolved.fields.contains_key("key"));
    assert_eq!(resolved.base.as_str(), format!("https://eu.acme.example/t/{TENANT}/7"));
    assert_eq!(
        resolved.origins,
        [
            "https://eu.acme.example".to_owned(),
            "https://login.acme.example".to_owned(),
            format!("https://eu.acme.example/t/{TENANT}/7")
        ]
    );
}

#[test]
fn defaults_hold_and_every_problem_comes_at_once() {
    assert_eq!(resolve("url", &url_fields(&[])).unwrap().fields["number"], "12");
    let fields =
        given(&[("url", "ftp://x"), ("tenant", "no"), ("number", "-1"), ("key", "short"), ("header", "Host"), ("extra", "1")]);
    let problems = resolve("url", &fields).unwrap_err();
    let names: Vec<&str> = problems.iter().map(|p| p.field.as_str()).collect();
    assert_eq!(names, ["extra", "url", "tenant", "number", "header", "key"]);
    assert!(problems[0].message.contains("url, tenant, number"), "{}", problems[0].message);
    assert!(problems[5].message.contains("exactly 16 characters, not 5"), "{}", problems[5].message);
    let missing = resolve("url", &BTreeMap::new()).unwrap_err();
    assert_eq!(missing.iter().map(|p| p.field.as_str()).collect::<Vec<_>>(), ["url", "tenant", "key"]);
    assert!(missing.iter().all(|p| p.message == "is missing"));
}

#[test]
fn addresses_that_two_parsers_could_read_differently_are_refused() {
    for odd in [
        "acme.example",
        "https://",
        "https:///x",
        "http://eu.acme.example",
        "https://u:p@eu.acme.example",
        "https://u@eu.acme.example",
        "https://eu.acme.example?x",
        "https://eu.acme.example#x",
        "https://eu.acme.example/x",
        "https://eu.acme.example\\@evil.test",
        "https://evil.test\\.acme.example",
        "https://eu.acme.example./",
        "https://eu.acme.example:0",
        "https://eu.acme.example:99999",
        "https://eu.acme.exa mple",
        "https://eu.acme.example\nHost: x",
        "https://evil.test",
        "https://acme.example.evil.test",
        "https://notacme.example",
        "https://10.0.0.1",
        "https://[::1]",
        "javascript://eu.acme.example/%0a",
        "https://eu.acme.example/..",
    ] {
        let problem = only_problem("url", &url_fields(&[("url", odd)]));
        assert_eq!(problem.field, "url", "{odd}");
        assert!(problem.message.starts_with("takes "), "{odd}: {}", problem.message);
    }
    for good in ["https://acme.example", "https://a.b.acme.example:8443"] {
        assert_eq!(resolve("url", &url_fields(&[("url", good)])).unwrap().fields["url"], good);
    }
}

#[test]
fn the_operator_may_allow_other_hosts_and_plain_http() {
    let loose = |url: &Url| url.host_str() == Some("127.0.0.1") && url.port() == Some(8900);
    let method = method("url");
    let resolved = method.resolve(&url_fields(&[("url", "http://127.0.0.1:8900")]), &loose).unwrap();
    assert_eq!(resolved.base.as_str(), format!("http://127.0.0.1:8900/t/{TENANT}/12"));
    let refused = method.resolve(&url_fields(&[("url", "http://127.0.0.1:8901")]), &loose).unwrap_err();
    assert!(refused[0].message.contains("ROLLCALL_EGRESS_ALLOW"), "{}", refused[0].message);
}

#[test]
fn paths_of_base_addresses_are_plain() {
    let fields = |scim: &str| given(&[("scim", scim), ("token", "t")]);
    assert_eq!(resolve("either", &fields("https://x.example/scim/v2/")).unwrap().base.as_str(), "https://x.example/scim/v2");
    assert_eq!(resolve("either", &fields("https://x.example:443")).unwrap().origins, ["https://x.example", "https://x.example"]);
    for odd in ["/a/../b", "/./a", "/a//b", "/%2e%2e/a", "/a%2Fb", "/a%5cb", "/a?b=c", "/a\\b", "//a"] {
        assert_eq!(only_problem("either", &fields(&format!("https://x.example{odd}"))).field, "scim", "{odd}");
    }
}

#[test]
fn exactly_one_group_is_given_whole() {
    let ask = |pairs: &[(&str, &str)]| {
        let mut fields = given(pairs);
        fields.insert("token".into(), "t".into());
        fields
    };
    let resolved = resolve("either", &ask(&[("region", "eu"), ("node", "17")])).unwrap();
    assert_eq!(resolved.base.as_str(), "https://eu.acme.example/scim/17");
    assert_eq!(resolved.fields["region"], "eu.acme.example");
    assert_eq!(resolved.hosts.len(), 1);
    let mut stored = resolved.fields.clone();
    stored.insert("token".into(), "t".into());
    assert_eq!(resolve("either", &stored).unwrap().fields, resolved.fields, "what is stored resolves to itself");
    assert_eq!(only_problem("either", &ask(&[])).field, "scim");
    assert_eq!(only_problem("either", &ask(&[("region", "EU")])).field, "node");
    assert_eq!(only_problem("either", &ask(&[("region", "EU"), ("node", "")])).field, "node");
    let both = only_problem("either", &ask(&[("scim", "https://x.example"), ("region", "EU"), ("node", "1")]));
    assert_eq!((both.field.as_str(), both.message.as_str()), ("region", "is too much: give scim, or region and node, not both"));
    assert_eq!(only_problem("either", &ask(&[("region", "XX"), ("node", "1")])).message, "takes one of EU, US");
}

#[test]
fn secrets_lose_a_trailing_line_break_and_nothing_else() {
    let token = |token: &str| resolve("either", &given(&[("scim", "https://x.example"), ("token", token)]));
    for (pasted, kept) in [("abc\n", "abc"), ("abc\r\n", "abc"), ("a b", "a b"), ("ä", "ä")] {
        assert_eq!(token(pasted).unwrap().secrets["token"].expose(), kept);
    }
    for odd in ["a\nb", "\nabc", " abc", "abc ", "abc\n\n", "a\0b", "a\tb", "abc \n"] {
        let problem = token(odd).unwrap_err().remove(0);
        assert_eq!(problem.field, "token");
        assert!(!problem.message.contains("abc"), "a secret is never repeated: {}", problem.message);
    }
    assert_eq!(token("").unwrap_err()[0].message, "is missing");
    assert_eq!(token("\n").unwrap_err()[0].message, "is missing");
}

#[test]
fn header_names_that_belong_to_the_connection_are_refused() {
    for odd in [
        "Host",
        "content-length",
        "Transfer-Encoding",
        "Connection",
        "Cookie",
        "Proxy-Authorization",
        "X-Forwarded-For",
        "a b",
        "a:",
        "ü",
        "Rollcall-Account",
    ] {
        assert_eq!(only_problem("url", &url_fields(&[("header", odd)])).field, "header", "{odd}");
    }
    assert!(resolve("url", &url_fields(&[("header", "Authorization")])).is_ok());
}

#[test]
fn a_value_within_a_host_or_a_path_cannot_leave_it() {
    let named = |name: &str| resolve("named", &given(&[("name", name)]));
    assert_eq!(named("north").unwrap().base.as_str(), "https://north.acme.example/v1/north");
    for odd in [
        "evil.test/",
        "evil.test#",
        "evil.test?",
        "a@evil.test",
        "evil.test:443",
        "a\\b",
        "..",
        ".",
        "-a",
        "a..b",
        "a b",
        "ä",
        "%2e",
    ] {
        assert_eq!(named(odd).unwrap_err()[0].field, "name", "{odd}");
    }
}

#[test]
fn fields_that_decide_the_destination_are_known() {
    let url = method("url");
    let deciding: Vec<&str> = url.fields.iter().map(|f| f.name.as_str()).filter(|name| url.decides_destination(name)).collect();
    assert_eq!(deciding, ["url", "tenant", "number", "ca_certificate", "certificate_sha256"]);
    assert!(!url.decides_destination("nobody"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if crate::support::long() { 4096 } else { 96 }, ..ProptestConfig::default() })]

    #[test]
    fn anything_resolves_or_is_refused(url in any::<String>(), tenant in any::<String>(), number in any::<String>(), key in any::<String>(), header in any::<String>()) {
        thread_local!(static METHOD: std::sync::Arc<LinkMethod> = method("url"));
        let fields = given(&[("url", &url), ("tenant", &tenant), ("number", &number), ("key", &key), ("header", &header)]);
        METHOD.with(|method| {
            for problem in method.resolve(&fields, &|_| true).err().into_iter().flatten() {
                assert!(!problem.message.is_empty() && method.field(&problem.field).is_some());
            }
        });
    }

    #[test]
    fn an_accepted_address_stays_what_it_is(host in "[a-zA-Z0-9._%@:\\\\/?#-]{0,24}", path in "[a-zA-Z0-9._%@:\\\\/?#;~-]{0,24}") {
        thread_local!(static METHOD: std::sync::Arc<LinkMethod> = method("either"));
        METHOD.with(|method| {
            let fields = given(&[("scim", &format!("https://{host}/{path}")), ("token", "t")]);
            let Ok(first) = method.resolve(&fields, &strict) else { return };
            assert_eq!(first.base.scheme(), "https");
            assert!(first.base.query().is_none() && first.base.fragment().is_none() && first.base.username().is_empty());
            assert!(first.hosts.iter().any(|h| h.origin() == first.base.origin()));
            let mut again = first.fields.clone();
            again.insert("token".into(), "t".into());
            let second = method.resolve(&again, &strict).unwrap();
            assert_eq!((second.fields, second.origins, second.base), (first.fields, first.origins, first.base));
        });
    }
}
