//! `/metrics`: every family is there, moves by what was done, and holds nothing that a caller wrote.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
    time::{Duration, Instant},
};

use rollcall::{
    model::Resource,
    sandbox::{
        Sandbox,
        keeper_commander::{self, Faults},
        scim,
    },
};
use serde_json::json;

use super::vendor::overlay;
use crate::{
    connector::replay::{Replay, Reply},
    support::{
        gateway::{ADMIN, Gateway, Kept},
        metrics::Scrape,
    },
};

const VENDOR: &str = "rollcall_vendor_request_duration_seconds_count";
const PAGES: &str = "rollcall_vendor_pages_total";
const RECORDS: &str = "rollcall_vendor_records_total";
const WALKS: &str = "rollcall_walks_total";
const LOOKUPS: &str = "rollcall_cache_lookups_total";
const STORE: &str = "rollcall_store_operation_duration_seconds_count";
const LOG: &str = "rollcall_log_lines_total";
const ROUTES: &str = "http_server_request_duration_seconds_count";

/// Every family, its kind, and the only labels it may have beside `le`.
const FAMILIES: [(&str, &str, &[&str]); 17] = [
    ("rollcall_http_requests", "counter", &["method", "route", "status_class"]),
    ("http_server_request_duration_seconds", "histogram", &["http_request_method", "http_route", "status_class"]),
    ("rollcall_vendor_request_duration_seconds", "histogram", &["connector", "outcome", "way"]),
    ("rollcall_vendor_circuit_changes", "counter", &["connector", "of", "to"]),
    ("rollcall_vendor_circuits_open", "gauge", &["connector", "of"]),
    ("rollcall_vendor_pages", "counter", &["connector", "resource"]),
    ("rollcall_vendor_records", "counter", &["connector", "resource"]),
    ("rollcall_walks", "counter", &["connector", "outcome", "resource"]),
    ("rollcall_cache_lookups", "counter", &["cache", "outcome"]),
    ("rollcall_store_operation_duration_seconds", "histogram", &["backend", "operation", "outcome"]),
    ("rollcall_store_lost_writes", "counter", &[]),
    ("rollcall_http_requests_in_flight", "gauge", &[]),
    ("rollcall_http_requests_shed", "counter", &[]),
    ("rollcall_log_lines", "counter", &["outcome"]),
    ("rollcall_connectors", "gauge", &[]),
    ("rollcall_connector_mistakes", "gauge", &[]),
    ("rollcall_connector_reloads", "counter", &["outcome"]),
];

/// Every word a label of ours may be.
const WORDS: &str = "scim keeper passthrough unified 2xx 3xx 4xx 5xx 429 timeout unreachable bad_answer refused given_up \
    complete incomplete token credential snapshot hit miss embedded redis get scan commit hold renew release push claim settle \
    spend slots lasting health ok conflict unavailable damaged applied written lost account host open closed \
    GET HEAD POST PUT PATCH DELETE OPTIONS other";

fn users(account: &str) -> String {
    format!("/unified/user-directory/users?integrated_account_id={account}")
}

fn keeper(refused: Vec<u64>) -> Sandbox {
    let (sandbox, _, server) = keeper_commander::start(Faults { users: 10, queue: false, refused, ..Faults::default() }).unwrap();
    tokio::spawn(server);
    sandbox
}

async fn link_keeper(gateway: &Gateway, sandbox: &Sandbox) -> String {
    gateway.link("keeper", "service_mode", json!({"service_url": sandbox.base, "api_key": sandbox.token})).await
}

/// The access log and the route's metrics are written when the last byte is gone, a moment after the caller has it.
async fn until(gateway: &Gateway, holds: impl Fn(&Scrape) -> bool) -> Scrape {
    let end = Instant::now() + Duration::from_secs(5);
    loop {
        let scrape = Scrape::of(gateway).await;
        if holds(&scrape) {
            return scrape;
        }
        assert!(Instant::now() < end, "{}", scrape.text);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// What there is when the lines of all that was done are written.
async fn quiet(gateway: &Gateway, commits: &[(&str, &str)]) -> Scrape {
    let mut before = Scrape::of(gateway).await;
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_millis(600)).await;
        let now = Scrape::of(gateway).await;
        if now.grown(&before, STORE, commits) == 0.0 {
            return now;
        }
        before = now;
    }
    panic!("something is written all the time");
}

#[tokio::test]
async fn every_family_is_there_and_moves_by_what_was_done() {
    let kept = Kept::embedded();
    let (scim, server) = scim::start(scim::Faults::default()).unwrap();
    tokio::spawn(server);
    let (whole, lossy) = (keeper(Vec::new()), keeper(vec![3861]));
    let gateway = Gateway::start(&kept, &format!("{},{},{}", scim.addr, whole.addr, lossy.addr));
    let account = gateway.link("scim", "bearer", json!({"base_url": scim.base, "token": scim.token})).await;
    let (company, lossy_company) = (link_keeper(&gateway, &whole).await, link_keeper(&gateway, &lossy).await);
    assert_eq!(gateway.get("/canary-path/x?canary-query=1").await.status, 404);
    let start = Scrape::of(&gateway).await;

    // Three pages of a vendor that pages.
    assert_eq!(gateway.walk(&format!("{}&limit=100", users(&account))).await.len(), 250);
    let listed = [("http_route", "/unified/user-directory/users"), ("http_request_method", "GET"), ("status_class", "2xx")];
    let walked = until(&gateway, |scrape| scrape.grown(&start, ROUTES, &listed) >= 3.0).await;
    let scim_users = [("connector", "scim"), ("resource", "users")];
    let unified = [("connector", "scim"), ("way", "unified"), ("outcome", "2xx")];
    assert_eq!(walked.grown(&start, ROUTES, &listed), 3.0);
    assert_eq!(walked.grown(&start, PAGES, &scim_users), 3.0);
    assert_eq!(walked.grown(&start, RECORDS, &scim_users), 250.0);
    assert_eq!(walked.grown(&start, VENDOR, &unified), 3.0);
    assert_eq!(walked.grown(&start, VENDOR, &[]), 3.0, "nothing else was asked");
    assert_eq!(walked.grown(&start, WALKS, &[]), 1.0);
    assert_eq!(walked.grown(&start, WALKS, &[("connector", "scim"), ("resource", "users"), ("outcome", "complete")]), 1.0);
    assert_eq!(walked.grown(&start, LOOKUPS, &[("cache", "credential")]), 3.0);
    assert_eq!(walked.grown(&start, LOOKUPS, &[("cache", "token")]), 0.0, "the administrator is not in the store");

    // Four companies, each read once and kept; another list of the same minute asks nobody.
    assert_eq!(gateway.walk(&users(&company)).await.len(), 22);
    let visited = Scrape::of(&gateway).await;
    assert_eq!(visited.grown(&walked, PAGES, &[("connector", "keeper"), ("resource", "users")]), 4.0);
    assert_eq!(visited.grown(&walked, RECORDS, &[("connector", "keeper"), ("resource", "users")]), 22.0);
    assert_eq!(visited.grown(&walked, LOOKUPS, &[("cache", "snapshot"), ("outcome", "miss")]), 4.0);
    assert!(visited.grown(&walked, VENDOR, &[("connector", "keeper"), ("way", "unified"), ("outcome", "2xx")]) >= 4.0);
    let groups = gateway.walk(&format!("/unified/user-directory/groups?integrated_account_id={company}")).await;
    let reused = Scrape::of(&gateway).await;
    assert!(!groups.is_empty());
    assert_eq!(reused.grown(&visited, LOOKUPS, &[("cache", "snapshot"), ("outcome", "hit")]), 4.0);
    assert_eq!(reused.grown(&visited, LOOKUPS, &[("cache", "snapshot"), ("outcome", "miss")]), 0.0);
    assert_eq!(reused.grown(&visited, VENDOR, &[]), 0.0);
    assert_eq!(reused.grown(&visited, PAGES, &[]), 0.0);

    // A company that refuses.
    assert_eq!(gateway.walk(&users(&lossy_company)).await.len(), 6);
    let lost = Scrape::of(&gateway).await;
    assert_eq!(lost.grown(&reused, WALKS, &[]), 1.0);
    assert_eq!(lost.grown(&reused, WALKS, &[("connector", "keeper"), ("resource", "users"), ("outcome", "incomplete")]), 1.0);

    // The vendor's own API.
    for (path, status) in [("Users?count=2", 200), ("canary-passthrough", 404)] {
        assert_eq!(gateway.get(&format!("/passthrough/{account}/{path}")).await.status, status);
    }
    let passed = Scrape::of(&gateway).await;
    for outcome in ["2xx", "4xx"] {
        let labels = [("connector", "scim"), ("way", "passthrough"), ("outcome", outcome)];
        assert_eq!(passed.grown(&lost, VENDOR, &labels), 1.0, "{outcome}");
    }
    assert_eq!(passed.grown(&lost, VENDOR, &[]), 2.0);
    assert_eq!(passed.grown(&lost, PAGES, &[]), 0.0);

    // A token of the store, and what making it, with its line in the log, and a probe cost.
    let embedded = |operation| [("backend", "embedded"), ("operation", operation), ("outcome", "ok")];
    let logged = quiet(&gateway, &embedded("commit")).await;
    let token = gateway.token(&["directory:read"]).await;
    let made = until(&gateway, |scrape| scrape.grown(&logged, LOG, &[("outcome", "written")]) >= 1.0).await;
    assert_eq!(made.grown(&logged, STORE, &embedded("commit")), 5.0, "two of the token, two of its action, one of the line");
    assert_eq!(made.grown(&logged, LOG, &[("outcome", "written")]), 1.0);
    assert_eq!(gateway.get("/readyz").await.status, 200);
    for _ in 0..3 {
        assert_eq!(gateway.call_as(Some(&token), "GET", &format!("{}&limit=1", users(&account)), None).await.status, 200);
    }
    let called = Scrape::of(&gateway).await;
    assert_eq!(called.grown(&made, STORE, &embedded("health")), 1.0);
    assert_eq!(called.grown(&made, LOOKUPS, &[("cache", "token")]), 3.0);
    assert!(called.grown(&made, LOOKUPS, &[("cache", "token"), ("outcome", "hit")]) >= 1.0);
    assert!(called.grown(&made, LOOKUPS, &[("cache", "token"), ("outcome", "miss")]) >= 1.0);
    assert_eq!(called.grown(&made, WALKS, &[]), 0.0, "a list with a cursor has not ended");

    // A method and a path of the caller's own.
    let others = [("http_route", "other"), ("http_request_method", "other")];
    assert_eq!(gateway.call("CANARYMETHOD", "/canary-path/canary", None).await.status / 100, 4);
    let strange = until(&gateway, |scrape| scrape.grown(&called, ROUTES, &others) >= 1.0).await;
    assert_eq!(strange.grown(&called, ROUTES, &others), 1.0);

    is_described(&strange);
    for foreign in [&account, &company, &token, ADMIN, "canary", "CANARY", "acme", "127.0.0.1", scim.token.as_str()] {
        assert!(!strange.text.contains(foreign), "{foreign} is shown:\n{}", strange.text);
    }
}

/// Every family has its kind, a sentence, and labels of the closed lists only.
fn is_described(scrape: &Scrape) {
    let shown: Vec<&str> = scrape.families.iter().map(|family| family.name.as_str()).collect();
    assert_eq!(shown.len(), FAMILIES.len(), "{shown:?}");
    for (name, kind, labels) in FAMILIES {
        let family = scrape.families.iter().find(|family| family.name == name).unwrap_or_else(|| panic!("{name}: {shown:?}"));
        assert_eq!(family.kind, kind, "{name}");
        assert!(family.help.len() > 20, "{name}: {}", family.help);
        assert!(!family.samples.is_empty(), "{name}");
        for (_, found, _) in &family.samples {
            let names: Vec<&str> = found.keys().map(String::as_str).filter(|label| *label != "le").collect();
            assert_eq!(names, *labels, "{name}");
            for (label, value) in found {
                let is_known = match label.as_str() {
                    "le" => value == "+Inf" || value.parse::<f64>().is_ok(),
                    "resource" => Resource::ALL.iter().any(|resource| resource.plural() == value),
                    "route" | "http_route" if value != "other" => is_pattern(value),
                    _ => WORDS.split(' ').any(|word| word == value),
                };
                assert!(is_known, "{name}: {label}={value}");
            }
        }
    }
    let fine = scrape.families.iter().flat_map(|family| &family.samples);
    let mut fine = fine.filter(|(name, labels, _)| {
        name == "rollcall_store_operation_duration_seconds_bucket" && labels.get("le").is_some_and(|le| le == "0.0001")
    });
    assert!(fine.next().is_some(), "the store's operations have bounds of their own");
}

/// A route as the documents write it.
fn is_pattern(route: &str) -> bool {
    let documents = ["/passthrough/{account_id}/{path}", "/metrics", "/readyz"];
    let document: serde_json::Value = rollcall::http::openapi::document_text().parse().unwrap();
    documents.contains(&route) || document["paths"].get(route).is_some()
}

/// Not statuses, but what the vendor is told to do instead: say nothing, or end in the middle of the body.
const SILENT: u16 = 0;
const CUT: u16 = 1;

/// A vendor whose users answer with the status it is told; below `/status/` the path says which.
fn moody() -> (Replay, Arc<AtomicU16>) {
    let now = Arc::new(AtomicU16::new(200));
    let told = now.clone();
    let replay = Replay::start(move |seen| {
        let status = match seen.path.rsplit_once("/status/") {
            Some((_, status)) => status.parse().unwrap(),
            None if seen.path.ends_with("/Users") => told.load(Ordering::SeqCst),
            None => 404,
        };
        match status {
            SILENT => {
                std::thread::sleep(Duration::from_secs(4));
                Reply::json(200, "{}")
            }
            200 => Reply::json(200, r#"{"schemas":["urn:ietf:params:scim:api:messages:2.0:ListResponse"],"totalResults":0}"#),
            CUT => Reply { cut: Some(3), ..Reply::json(200, r#"{"totalResults": 0}"#) },
            _ => Reply::json(status, "{}"),
        }
    });
    (replay, now)
}

#[tokio::test]
async fn every_way_a_request_to_a_vendor_ends_has_its_word() {
    let kept = Kept::embedded();
    let (vendor, now) = moody();
    let folder = kept.folder().join("connectors");
    overlay(&folder, |_, text| text.replace("timeout: 120s", "timeout: 1s"));
    let address = format!("127.0.0.1:{}", vendor.port);
    let gateway = Gateway::start_with(&kept, &address, &[("ROLLCALL_CONNECTORS_DIR", folder.to_str().unwrap())]);
    let account = gateway.link("scim", "bearer", json!({"base_url": format!("http://{address}"), "token": "t".repeat(20)})).await;
    let mut before = Scrape::of(&gateway).await;
    // A body that is cut is the caller's to see when it is passed through: the answer's head was there.
    let ends = [(204, "2xx"), (302, "3xx"), (404, "4xx"), (429, "429"), (503, "5xx"), (SILENT, "timeout"), (CUT, "bad_answer")];
    for (way, (status, outcome)) in ["passthrough", "unified"].into_iter().flat_map(|way| ends.map(|end| (way, end))) {
        if (way, status) == ("passthrough", CUT) {
            continue;
        }
        let asked = vendor.seen().len();
        now.store(status, Ordering::SeqCst);
        let path = if way == "unified" { users(&account) } else { format!("/passthrough/{account}/status/{status}") };
        gateway.get(&path).await;
        let after = Scrape::of(&gateway).await;
        let asked = (vendor.seen().len() - asked) as f64;
        assert!(asked >= 1.0, "{way} {status}");
        let labels = [("connector", "scim"), ("way", way), ("outcome", outcome)];
        assert_eq!(after.grown(&before, VENDOR, &labels), asked, "{way} {status}");
        assert_eq!(after.grown(&before, VENDOR, &[]), asked, "{way} {status}");
        before = after;
    }
    drop(vendor);
    for (way, path) in [("passthrough", format!("/passthrough/{account}/status/204")), ("unified", users(&account))] {
        assert_eq!(gateway.get(&path).await.code(), "vendor_unreachable");
        let after = Scrape::of(&gateway).await;
        assert_eq!(after.grown(&before, VENDOR, &[("connector", "scim"), ("way", way), ("outcome", "unreachable")]), 1.0);
        assert_eq!(after.grown(&before, VENDOR, &[]), 1.0, "{way}");
        before = after;
    }
    assert_eq!(before.sum(PAGES, &[]), 0.0, "no page was read of a vendor that only fails");
}

#[tokio::test]
async fn the_store_is_measured_whichever_it_is() {
    for (kept, backend) in Kept::each().into_iter().zip(["embedded", "redis"]) {
        let gateway = Gateway::start(&kept, "");
        let before = Scrape::of(&gateway).await;
        gateway.token(&["directory:read"]).await;
        assert_eq!(gateway.get("/readyz").await.status, 200);
        let after = Scrape::of(&gateway).await;
        for (operation, times) in [("commit", 4.0), ("health", 1.0)] {
            let labels = [("backend", backend), ("operation", operation), ("outcome", "ok")];
            assert_eq!(after.grown(&before, STORE, &labels), times, "{backend} {operation}");
        }
    }
}
