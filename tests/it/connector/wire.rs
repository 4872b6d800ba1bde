//! The contract suite on the wire: every fixture through the real upstream and mapping code against a loopback server.

use std::{collections::BTreeMap, sync::Arc};

use rollcall::{
    connector::{Get, LinkMethod, ListSource, PageStyle, ResourceDef, Transport, fixture},
    error::{Code, Error},
    model::{AccountId, EnvironmentId},
    upstream::{Access, Allow, Failure, Guard, ListAsk, RawPage, Upstream},
};
use serde_json::Value;

use super::{
    contract::{Case, cases, expected, map},
    replay::{Replay, Reply, Seen},
};
use crate::support::stores::NoStore;

/// Stands for every secret; must be seen nowhere but in the request.
const CANARY: &str = "canary-7f3a91c2e5d84b60";

fn upstream(port: u16) -> Upstream {
    let allow = Allow::parse(&format!("127.0.0.1:{port}")).unwrap();
    Upstream::new(Arc::new(Guard::new(allow)), Arc::new(NoStore))
}

/// The fixture's account, its addresses led to the loopback server; and the base's path.
fn access(
    case: &Case,
    method: &Arc<LinkMethod>,
    fields: &BTreeMap<String, String>,
    facts: serde_json::Map<String, Value>,
    port: u16,
) -> (Access, String) {
    let mut fields = fields.clone();
    for field in method.fields.iter().filter(|field| field.kind.is_secret() && field.required) {
        let length = field.length.unwrap_or(CANARY.len());
        fields.insert(field.name.clone(), CANARY.chars().cycle().take(length).collect());
    }
    let mut resolved = method.resolve(&fields, &|_| false).unwrap_or_else(|problems| panic!("{problems:?}"));
    resolved.base = url::Url::parse(&format!("http://127.0.0.1:{port}{}", resolved.base.path())).unwrap();
    resolved.hosts = vec![url::Url::parse(&format!("http://127.0.0.1:{port}")).unwrap()];
    let base = resolved.base.path().trim_end_matches('/').to_owned();
    let (account, environment) = (AccountId::generate(), EnvironmentId::generate());
    let access = Access::new(account, environment, case.connector.clone(), method.clone(), 1, resolved, facts).unwrap();
    (access, base)
}

/// Answers each request with the exchange that was recorded for it.
fn scripted(fixture: &fixture::Fixture, base: String) -> impl Fn(&Seen) -> Reply + Send + Sync + 'static {
    let exchanges = fixture.exchanges.clone();
    move |seen| {
        let fits = |asked: &fixture::Asked| {
            let parameters = asked.query.iter().all(|(name, value)| seen.query.contains(&(name.clone(), value.clone())));
            let extra = seen.query.iter().filter(|(name, _)| !asked.query.contains_key(name)).count();
            (asked.method == seen.method && format!("{base}{}", asked.path) == seen.path && parameters).then_some(extra)
        };
        let best =
            exchanges.iter().filter_map(|exchange| Some((fits(&exchange.request)?, exchange))).min_by_key(|(extra, _)| *extra);
        match best {
            Some((_, exchange)) => Reply {
                status: exchange.response.status,
                headers: exchange.response.headers.clone().into_iter().collect(),
                body: exchange.response.bytes(),
                cut: None,
            },
            None => Reply::json(599, "{\"unexpected\":true}"),
        }
    }
}

fn on_the_wire(method: &LinkMethod, def: &ResourceDef, operation: fixture::Operation) -> bool {
    let requests = match operation {
        fixture::Operation::List => def.list.as_ref().is_some_and(|list| matches!(list.source, ListSource::Request(_))),
        fixture::Operation::Get => matches!(def.get, Some(Get::Request { .. })),
    };
    requests && matches!(method.transport, Transport::Rest | Transport::Scim)
}

fn ask(fixture: &fixture::Fixture, next: Option<String>) -> ListAsk {
    ListAsk { next, limit: fixture.limit.unwrap_or(100), values: fixture.values.clone(), ..ListAsk::default() }
}

/// All pages from `next` on.
async fn walk(
    upstream: &Upstream,
    access: &Access,
    def: &ResourceDef,
    fixture: &fixture::Fixture,
    mut next: Option<String>,
) -> Result<Vec<RawPage>, Failure> {
    let mut pages = Vec::new();
    for _ in 0..20 {
        let page = upstream.list(access, def, &ask(fixture, next.clone())).await?;
        next = page.next.clone();
        pages.push(page);
        if next.is_none() {
            return Ok(pages);
        }
    }
    panic!("paging does not end");
}

fn mapped(pages: &[RawPage], def: &ResourceDef, named: &fixture::Named) -> Vec<Value> {
    let records = pages.iter().flat_map(|page| page.records.ranges.iter().map(|range| &page.body[range.clone()]));
    records.map(|record| map(def, named, record).unwrap().0).collect()
}

#[tokio::test]
async fn every_fixture_replays_through_upstream_and_mapping() {
    let mut replayed = 0;
    for case in cases() {
        for (named, method, def) in case.each().filter(|(n, m, d)| on_the_wire(m, d, n.fixture.operation)) {
            let fixture = &named.fixture;
            let (_, base) = access(&case, method, &fixture.fields, Default::default(), 1);
            let server = Replay::start(scripted(fixture, base.clone()));
            let (access, _) = access(&case, method, &fixture.fields, fixture.facts.clone(), server.port);
            let upstream = upstream(server.port);
            let records = match fixture.operation {
                fixture::Operation::List => {
                    walk(&upstream, &access, def, fixture, None).await.map(|pages| mapped(&pages, def, named))
                }
                fixture::Operation::Get => {
                    let got = upstream.get(&access, def, &ask(fixture, None)).await;
                    got.map(|record| record.iter().map(|record| map(def, named, record).unwrap().0).collect())
                }
            };
            let name = format!("{}/{}", case.connector.slug, named.name);
            let wanted = fixture.expect.as_ref();
            match (records, wanted.and_then(|expect| expect.error.as_deref())) {
                (Err(failure), Some(code)) => assert_eq!(failure.code().row().name, code, "{name}"),
                (Ok(records), None) if wanted.is_some_and(|expect| expect.missing) => assert!(records.is_empty(), "{name}"),
                (Ok(records), None) => assert_eq!(records, expected(method, def, named), "{name}"),
                (Ok(_), Some(code)) => panic!("{name}: {code} was expected"),
                (Err(failure), None) => panic!("{name}: {failure}; asked {:?}", server.seen()),
            }
            for seen in server.seen() {
                assert!(seen.path.starts_with(&base), "{name}: {} leaves {base}", seen.path);
                assert_eq!(seen.header("host"), Some(format!("127.0.0.1:{}", server.port).as_str()), "{name}");
            }
            replayed += 1;
        }
    }
    assert!(replayed >= 10, "only {replayed} fixtures were replayed");
}

#[tokio::test]
async fn a_walk_resumes_from_any_cursor_and_a_repeated_page_is_broken_paging() {
    let mut walked = 0;
    for case in cases() {
        let long = |named: &fixture::Named| named.fixture.exchanges.len() > 1 && named.fixture.expect.is_none();
        for (named, method, def) in case.each().filter(|(n, m, d)| long(n) && on_the_wire(m, d, fixture::Operation::List)) {
            let fixture = &named.fixture;
            let (_, base) = access(&case, method, &fixture.fields, Default::default(), 1);
            let server = Replay::start(scripted(fixture, base));
            let (first_access, _) = access(&case, method, &fixture.fields, fixture.facts.clone(), server.port);
            let pages = walk(&upstream(server.port), &first_access, def, fixture, None).await.unwrap();
            assert!(pages.len() > 1, "{}", named.name);
            for at in 0..pages.len() - 1 {
                let again = upstream(server.port);
                let rest = walk(&again, &first_access, def, fixture, pages[at].next.clone()).await.unwrap();
                assert_eq!(
                    mapped(&rest, def, named),
                    mapped(&pages[at + 1..], def, named),
                    "{} from page {}",
                    named.name,
                    at + 1
                );
            }
            let first = fixture.exchanges[0].response.bytes();
            let stuck = Replay::start(move |_| Reply::json(200, first.clone()));
            let (stuck_access, _) = access(&case, method, &fixture.fields, fixture.facts.clone(), stuck.port);
            let style = &def.list.as_ref().unwrap().page;
            if matches!(style, PageStyle::Scim { .. } | PageStyle::Cursor { .. } | PageStyle::NextUrl { .. }) {
                let failure = walk(&upstream(stuck.port), &stuck_access, def, fixture, None).await.unwrap_err();
                assert_eq!(failure.code(), Code::VendorPagingBroken, "{}: {failure}", named.name);
            }
            walked += 1;
        }
    }
    assert!(walked >= 2, "only {walked} walks");
}

/// An answer, the code it becomes, and whether the vendor's words are kept.
fn common() -> Vec<(&'static str, Reply, Code)> {
    let slow_down = Reply { headers: vec![("retry-after".into(), "3600".into())], ..Reply::json(429, "{}") };
    let html = Reply {
        headers: vec![("content-type".into(), "text/html".into())],
        ..Reply::json(200, "<html><body>Sign in</body></html>")
    };
    let cut = Reply { cut: Some(9), ..Reply::json(200, "{\"Resources\": [{\"id\": 1}]}") };
    vec![
        ("401", Reply::json(401, "{}"), Code::ReauthRequired),
        ("403", Reply::json(403, "{}"), Code::VendorDenied),
        ("429", slow_down, Code::VendorRateLimited),
        ("500", Reply::json(500, "{}"), Code::VendorError),
        ("html", html, Code::VendorBadAnswer),
        ("half", Reply::json(200, "{\"Resources\": [{\"id\""), Code::VendorBadAnswer),
        ("cut", cut, Code::VendorUnreachable),
    ]
}

#[tokio::test]
async fn common_answers_mean_the_same_for_every_connector() {
    for case in cases() {
        for (named, method, def) in listed(&case) {
            for (what, reply, code) in common() {
                let Reply { status, headers, body, cut } = reply;
                let server = Replay::start(move |_| Reply { status, headers: headers.clone(), body: body.clone(), cut });
                let (access, _) = access(&case, method, &named.fixture.fields, Default::default(), server.port);
                let failure = upstream(server.port).list(&access, def, &ask(&named.fixture, None)).await.unwrap_err();
                let also = (what == "cut").then_some(Code::VendorBadAnswer);
                let name = format!("{}/{} {what}", case.connector.slug, def.resource.plural());
                assert!(failure.code() == code || Some(failure.code()) == also, "{name}: {failure} is {:?}", failure.code());
                if what == "429" {
                    assert_eq!(Error::from(failure).wait_seconds(), Some(3600), "{name}");
                }
            }
        }
    }
}

/// One fixture for each resource that is listed by a request.
fn listed(case: &Case) -> Vec<(&fixture::Named, &Arc<LinkMethod>, &ResourceDef)> {
    let mut seen = Vec::new();
    let first = |def: &ResourceDef, method: &LinkMethod| {
        let key = (method.name.clone(), def.resource);
        let new = !seen.contains(&key);
        seen.push(key);
        new
    };
    let mut first = first;
    case.each().filter(|(_, method, def)| on_the_wire(method, def, fixture::Operation::List) && first(def, method)).collect()
}

#[tokio::test]
async fn a_canary_secret_appears_nowhere_though_the_vendor_repeats_it() {
    let mut sent = 0;
    for case in cases() {
        for (named, method, def) in listed(&case) {
            for status in [200, 400, 401, 500] {
                let server =
                    Replay::start(move |seen| Reply::json(status, serde_json::json!({ "you": format!("{seen:?}") }).to_string()));
                let (access, _) = access(&case, method, &named.fixture.fields, Default::default(), server.port);
                let failure = match upstream(server.port).list(&access, def, &ask(&named.fixture, None)).await {
                    Err(failure) => failure,
                    // A list that may be left out: nothing of the answer is handed on.
                    Ok(page) => {
                        assert!(page.records.ranges.is_empty(), "{}", named.name);
                        continue;
                    }
                };
                let mut said = format!("{failure} {failure:?}");
                let error = Error::from(failure);
                said.push_str(&format!("{error} {error:?} {:?}", error.cause()));
                if let Some(answer) = error.vendor_answer() {
                    said.push_str(&String::from_utf8_lossy(&answer.body));
                    said.push_str(&format!("{:?}", answer.headers));
                }
                assert!(!said.contains(&CANARY[..12]), "{}: {said}", named.name);
                sent += usize::from(format!("{:?}", server.seen()).contains(&CANARY[..12]));
            }
        }
    }
    assert!(sent > 0, "the canary never flew");
}

#[tokio::test]
async fn every_scim_method_sends_its_credential_and_accepts_a_server_without_configuration() {
    let case = cases().into_iter().find(|case| case.connector.slug.as_str() == "scim").unwrap();
    for (name, header, wanted) in [
        ("bearer", "authorization", format!("Bearer {CANARY}")),
        ("basic", "authorization", format!("Basic {}", base64_of(&format!("admin:{CANARY}")))),
        ("header", "x-api-key", CANARY.to_owned()),
    ] {
        let server = Replay::start(|seen| match seen.path.as_str() {
            "/scim/v2/Users" => {
                Reply::json(200, r#"{"schemas":["urn:ietf:params:scim:api:messages:2.0:ListResponse"],"totalResults":0}"#)
            }
            _ => Reply::json(404, "{}"),
        });
        let method = case.connector.method(name).unwrap();
        let all = [("base_url", "https://scim.example.com/scim/v2/"), ("username", "admin"), ("header_name", "X-Api-Key")];
        let fields = all
            .iter()
            .filter(|(field, _)| method.field(field).is_some())
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        let (access, _) = access(&case, method, &fields, Default::default(), server.port);
        let tested = upstream(server.port).test(&access).await.unwrap();
        assert_eq!(tested.facts["filter"], false, "{name}");
        assert_eq!(tested.warnings[0].code, "no_service_provider_config");
        let seen = server.seen();
        assert_eq!(seen.len(), 2);
        assert!(seen.iter().all(|seen| seen.header(header) == Some(wanted.as_str())), "{name}: {seen:?}");
        assert!(seen.iter().all(|seen| seen.header("accept").unwrap().starts_with("application/scim+json")), "{name}: {seen:?}");
    }
}

fn base64_of(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}
