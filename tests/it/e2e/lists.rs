//! Filters, order and lines of lists, on both stores: against a SCIM vendor whose people are made up as they are asked for.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};

use super::{
    bar_vendor::{Act, Asked, Vendor, answer, json_answer},
    vendor::{names, overlay},
};
use crate::support::{
    gateway::{ADMIN, Answer, Gateway, Kept, client},
    long,
};

const USERS: &str = "/unified/user-directory/users";
const LINES: &str = "application/x-ndjson";

/// What the vendor answers in place of a page.
type Fault = fn() -> Act;

/// What the vendor has and how it behaves.
#[derive(Default)]
struct People {
    count: usize,
    /// Bytes by which each record is longer.
    padding: usize,
    /// Evaluates filters, as its ServiceProviderConfig then says.
    filters: bool,
    /// Leaves `groups` out of its lists, as many do.
    without_groups: bool,
    /// Writes its JSON over many lines.
    pretty: bool,
    /// The index from which on pages are as `fault` says; 0 for never.
    fault_from: AtomicUsize,
    fault: Option<Fault>,
    /// Pages from 201 on wait until this is true.
    held: AtomicBool,
}

impl People {
    fn of(count: usize) -> People {
        People { count, ..People::default() }
    }
}

fn person(number: usize, padding: usize) -> Value {
    let address = |n: usize| format!("person{n}@people.example");
    let mut person = json!({
        "id": number.to_string(), "userName": address(number), "active": !number.is_multiple_of(5),
        "name": {"familyName": format!("Family-{:03}", (number * 37) % 101)},
        "emails": [{"value": address(number), "primary": number.is_multiple_of(2)}, {"value": address(number + 1), "primary": false}],
        "groups": [{"value": format!("g{}", number % 3), "display": "Staff"}],
        "meta": {"created": format!("2026-01-{:02}T00:00:00Z", number % 28 + 1), "note": "x".repeat(padding)},
    });
    if !number.is_multiple_of(4) {
        person["displayName"] = json!(format!("{} {number}", ["Ada", "bob", "Cleo"][number % 3]));
    }
    person
}

fn reply(people: &People, asked: &Asked) -> Act {
    if asked.path().ends_with("/ServiceProviderConfig") {
        let status = if people.filters { 200 } else { 404 };
        return json_answer(status, &json!({"filter": {"supported": people.filters, "maxResults": 200}}));
    }
    if !asked.path().ends_with("/Users") {
        let number = asked.path().rsplit_once("/Users/").and_then(|(_, id)| id.parse().ok());
        return match number.filter(|number| (1..=people.count).contains(number)) {
            Some(number) => json_answer(200, &person(number, 0)),
            None => json_answer(404, &json!({})),
        };
    }
    let (start, count) = (asked.number("startIndex", 1).max(1), asked.number("count", 100));
    let fault_from = people.fault_from.load(Ordering::SeqCst);
    if let (Some(fault), true) = (people.fault, fault_from > 0 && start >= fault_from) {
        return fault();
    }
    let mut waited = 0;
    while start > 200 && people.held.load(Ordering::SeqCst) && waited < 10_000 {
        std::thread::sleep(Duration::from_millis(10));
        waited += 10;
    }
    let mut records: Vec<Value> = (start..=people.count).take(count).map(|number| person(number, people.padding)).collect();
    if people.without_groups {
        records.iter_mut().for_each(|person| drop(person.as_object_mut().unwrap().remove("groups")));
    }
    let list = json!({"totalResults": people.count, "startIndex": start, "itemsPerPage": records.len(), "Resources": records});
    let text = if people.pretty { serde_json::to_string_pretty(&list).unwrap() } else { list.to_string() };
    Act::Send(answer(200, &[("content-type", "application/scim+json")], text.as_bytes()))
}

/// A gateway in front of these people, and the path of their list.
async fn before(kept: &Kept, people: Arc<People>) -> (Vendor, Gateway, String) {
    let vendor = Vendor::start(move |asked| reply(&people, asked));
    let gateway = Gateway::start(kept, &vendor.authority());
    let account = gateway.link("scim", "bearer", json!({"base_url": vendor.at("/scim"), "token": "a-token-of-people"})).await;
    (vendor, gateway, format!("{USERS}?integrated_account_id={account}"))
}

fn ids(records: &[Value]) -> Vec<usize> {
    records.iter().map(|record| record["id"].as_str().unwrap().parse().unwrap()).collect()
}

async fn stream(gateway: &Gateway, token: &str, path: &str, accept: &str) -> reqwest::Response {
    let request = client().get(format!("{}{path}", gateway.base)).bearer_auth(token).header("accept", accept);
    request.send().await.unwrap()
}

/// All lines, the last one apart.
fn parted(text: &str) -> (Vec<Value>, Value) {
    assert!(text.ends_with('\n'), "the last line ends: {}", &text[text.len().saturating_sub(200)..]);
    let mut lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let last = lines.pop().unwrap();
    (lines, last)
}

async fn lines(gateway: &Gateway, path: &str) -> (Vec<Value>, Value) {
    let response = stream(gateway, ADMIN, path, LINES).await;
    assert_eq!((response.status().as_u16(), response.headers()["content-type"].to_str().unwrap()), (200, LINES));
    parted(&response.text().await.unwrap())
}

#[tokio::test]
async fn every_filter_gives_exactly_what_satisfies_it_and_says_who_looked() {
    for kept in Kept::each() {
        let (_vendor, gateway, list) = before(&kept, Arc::new(People::of(250))).await;
        type Holds = fn(usize) -> bool;
        let cases: [(&str, &str, Holds); 16] = [
            ("status=inactive", "status", |n| n % 5 == 0),
            ("status[in]=active,inactive", "status", |_| true),
            ("filters[id][in]=7,9,300", "id", |n| n == 7 || n == 9),
            ("name[contains]=ADA", "name", |n| n % 3 == 0 && n % 4 != 0),
            ("username[contains]=Person24", "username", |n| n == 24 || (240..250).contains(&n)),
            ("last_name=Family-037", "last_name", |n| (n * 37) % 101 == 37),
            ("group_id=g1", "group_id", |n| n % 3 == 1),
            ("groups[id][]=g1&groups[id][]=g2", "groups[id]", |n| n % 3 != 0),
            ("emails=PERSON6@people.example", "emails", |n| n == 6 || n == 5),
            ("emails[email]=person6@people.example&emails[is_primary]=true", "emails[email]", |n| n == 6),
            ("emails[email]=person7@people.example&emails[is_primary]=true", "emails[email]", |_| false),
            ("created_at[gte]=2026-01-20T00:00:00Z", "created_at", |n| n % 28 + 1 >= 20),
            ("created_at[gt]=2026-01-20", "created_at", |n| n % 28 + 1 > 20),
            ("created_at[lt]=2026-01-03&created_at[gte]=2026-01-02", "created_at", |n| n % 28 + 1 == 2),
            ("created_at[lte]=2026-01-01T00:00:00%2B01:00", "created_at", |_| false),
            ("created_at[in]=2026-01-01,2026-01-28", "created_at", |n| n % 28 == 0 || n % 28 == 27),
        ];
        for (query, field, holds) in cases {
            let found = gateway.walk(&format!("{list}&{query}&limit=40")).await;
            assert_eq!(ids(&found), (1..=250).filter(|n| holds(*n)).collect::<Vec<_>>(), "{query}");
            let page = gateway.get(&format!("{list}&{query}")).await.json();
            assert_eq!((&page["filters"]["vendor"], &page["filters"]["gateway"][0]), (&json!([]), &json!(field)), "{query}");
            assert_eq!(ids(&lines(&gateway, &format!("{list}&{query}")).await.0), ids(&found), "{query}");
        }
    }
}

#[tokio::test]
async fn a_vendor_that_takes_one_filter_is_asked_one_and_what_it_ignores_is_not() {
    let people = Arc::new(People { filters: true, ..People::of(250) });
    let (vendor, gateway, list) = before(&Kept::embedded(), people).await;
    let query = "username=person8@people.example&emails[email]=person8@people.example&name[contains]=bob";
    // This vendor says that it filters and does not.
    let page = gateway.get(&format!("{list}&{query}")).await.json();
    let asked = vendor.asked().pop().unwrap().target;
    assert_eq!(asked.matches("filter=").count(), 1, "{asked}");
    assert_eq!(page["filters"], json!({"vendor": ["username"], "gateway": ["emails[email]", "name"]}));
    assert_eq!(gateway.walk(&format!("{list}&{query}")).await.len(), 0, "the name of 8 is absent");
    let page = gateway.walk(&format!("{list}&username=person8@people.example&emails[is_primary]=true")).await;
    assert_eq!(ids(&page), [8]);
}

#[tokio::test]
async fn nobody_found_by_what_the_vendor_never_says_comes_with_a_warning() {
    let said = |page: &Value| -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        page["warnings"].as_array().unwrap().iter().map(|one| (text(&one["code"]), text(&one["field"]))).collect()
    };
    let people = Arc::new(People { without_groups: true, ..People::of(250) });
    let (_vendor, gateway, list) = before(&Kept::embedded(), people).await;
    let warned = [("field_never_said".to_owned(), "groups".to_owned())];
    for query in ["group_id=g1", "group_id=g1&sort_by=name", "group_id=g1&status=active"] {
        let page = gateway.get(&format!("{list}&{query}")).await.json();
        assert_eq!((page["result_count"].as_u64(), said(&page)), (Some(0), warned.to_vec()), "{query}");
        let (found, end) = lines(&gateway, &format!("{list}&{query}")).await;
        assert_eq!((found.len(), said(&end)), (0, warned.to_vec()), "{query}");
    }
    for query in ["", "&status=active", "&name=nobody"] {
        let page = gateway.get(&format!("{list}{query}")).await.json();
        assert_eq!(said(&page), [], "{query}");
    }
    let (_vendor, gateway, list) = before(&Kept::embedded(), Arc::new(People::of(250))).await;
    let page = gateway.get(&format!("{list}&group_id=g7")).await.json();
    assert_eq!((page["result_count"].as_u64(), said(&page)), (Some(0), vec![]), "the vendor says groups");
}

/// What a field of these people sorts by, written so that texts compare as the gateway compares them.
fn sort_key(field: &str, number: usize) -> Option<String> {
    let person = person(number, 0);
    match field {
        "name" => person["displayName"].as_str().map(str::to_lowercase),
        "last_name" => person["name"]["familyName"].as_str().map(str::to_owned),
        "created_at" => person["meta"]["created"].as_str().map(str::to_owned),
        "status" => Some(if number.is_multiple_of(5) { "inactive" } else { "active" }.to_owned()),
        "groups" => Some("staff".to_owned()),
        "emails" | "username" => person["userName"].as_str().map(str::to_owned),
        _ => Some(number.to_string()),
    }
}

fn in_order(field: &str, descending: bool, numbers: impl Iterator<Item = usize>) -> Vec<usize> {
    let mut sorted: Vec<usize> = numbers.collect();
    sorted.sort_by(|a, b| match (sort_key(field, *a), sort_key(field, *b)) {
        (Some(a), Some(b)) if descending => b.cmp(&a),
        (Some(a), Some(b)) => a.cmp(&b),
        (a, b) => a.is_none().cmp(&b.is_none()),
    });
    sorted
}

#[tokio::test]
async fn a_list_is_sorted_as_a_whole_and_paged_from_what_was_read() {
    for kept in Kept::each() {
        let (vendor, gateway, list) = before(&kept, Arc::new(People::of(250))).await;
        for field in ["id", "name", "last_name", "created_at", "status", "groups", "emails", "username"] {
            for descending in [false, true] {
                let word = if descending { "desc" } else { "asc" };
                let expected = in_order(field, descending, 1..=250);
                let found = gateway.walk(&format!("{list}&sort_by={field}&sort_direction={word}&limit=60")).await;
                assert_eq!(ids(&found), expected, "{field} {word}");
                let (streamed, last) = lines(&gateway, &format!("{list}&sort_by[{field}]={word}")).await;
                assert_eq!((ids(&streamed), &last["complete"]), (expected, &json!(true)), "{field} {word}");
            }
        }
        let path = format!("{list}&sort_by=name&limit=60");
        let first = gateway.get(&path).await.json();
        assert_eq!(first["filters"], json!({"vendor": [], "gateway": ["sort_by"]}));
        assert!(first["result"][0]["remote_data"]["id"].is_string(), "{}", first["result"][0]);
        let cursor = first["next_cursor"].as_str().unwrap();
        let asked = vendor.count();
        let shown = "truto_ignore_remote_data=true&truto_exclude_fields=emails&truto_key_by=username";
        let next = gateway.get(&format!("{path}&next_cursor={cursor}&{shown}")).await.json();
        let expected = in_order("name", false, 1..=250)[60..120].to_vec();
        let (keys, records): (Vec<_>, Vec<_>) = next["result"].as_object().unwrap().clone().into_iter().unzip();
        assert_eq!(ids(&records), expected);
        assert_eq!(keys[0], format!("person{}@people.example", expected[0]));
        assert!(records.iter().all(|r| r.get("remote_data").is_none() && r.get("emails").is_none()), "{}", records[0]);
        let raw = gateway.get(&format!("{path}&next_cursor={cursor}&truto_response_format=raw")).await.json();
        assert_eq!(raw["result"][0], person(expected[0], 0), "the vendor's own");
        assert_eq!(vendor.count(), asked, "the rest comes from what was read");
        if matches!(kept, Kept::Redis(..)) {
            let other = Gateway::start(&kept, &vendor.authority());
            let page = other.get(&format!("{path}&next_cursor={cursor}")).await.json();
            assert_eq!(ids(page["result"].as_array().unwrap()), expected);
            assert_eq!(vendor.count(), asked, "on any node");
        }
        let filtered = gateway.walk(&format!("{list}&sort_by=name&sort_direction=desc&status=inactive&limit=7")).await;
        assert_eq!(ids(&filtered), in_order("name", true, (1..=250).filter(|n| n % 5 == 0)));
        let whole = gateway.get(&format!("{list}&sort_by=name&truto_ignore_limit=true")).await.json();
        assert_eq!((&whole["result_count"], &whole["next_cursor"]), (&json!(250), &Value::Null));
        for (query, pages) in [(format!("{list}&sort_by=name&limit=60"), 3), (format!("{path}&next_cursor={cursor}"), 0)] {
            let page = gateway.get(&format!("{query}&truto_response_format=debug")).await.json();
            assert_eq!(page["debug"]["vendorPages"], pages);
        }
        for other in ["sort_by=last_name", "sort_by=name&sort_direction=desc", "status=active&sort_by=name", "limit=60"] {
            let other = format!("{list}&limit=60&next_cursor={cursor}&{}", other.trim_start_matches("limit=60"));
            names(&gateway.get(&other).await, 400, "invalid_cursor", "next_cursor");
        }
    }
}

#[tokio::test]
async fn a_list_that_is_too_long_to_sort_is_refused_by_name() {
    let (_vendor, gateway, list) = before(&Kept::embedded(), Arc::new(People::of(10_001))).await;
    for accept in ["application/json", LINES] {
        let response = stream(&gateway, ADMIN, &format!("{list}&sort_by=name"), accept).await;
        assert_eq!(response.status().as_u16(), 400);
        let document: Value = serde_json::from_str(&response.text().await.unwrap()).unwrap();
        assert_eq!((&document["code"], &document["field"]), (&json!("invalid_parameter"), &json!("sort_by")), "{document}");
        assert!(document["detail"].as_str().unwrap().contains("10000"), "{document}");
    }
    let few = gateway.walk(&format!("{list}&sort_by=id&sort_direction=desc&id[in]=10001,5")).await;
    assert_eq!(ids(&few), [5, 10_001], "as texts");
    let large = Arc::new(People { padding: 20_000, ..People::of(2_000) });
    let (_vendor, gateway, list) = before(&Kept::embedded(), large).await;
    let document = names(&gateway.get(&format!("{list}&sort_by=name")).await, 400, "invalid_parameter", "sort_by");
    assert!(document["detail"].as_str().unwrap().contains("32 MiB"), "{document}");
}

#[tokio::test]
async fn what_cannot_be_filtered_sorted_or_streamed_is_named() {
    let (vendor, gateway, list) = before(&Kept::embedded(), Arc::new(People::of(5))).await;
    let asked = vendor.count();
    for (query, accept, code, field) in [
        ("sort_by=shoe_size", "*/*", "invalid_parameter", "sort_by"),
        ("sort_by=is_2fa_enabled", "*/*", "invalid_parameter", "sort_by"),
        ("sort_by=remote_data", "*/*", "invalid_parameter", "sort_by"),
        ("sort_by=name&sort_by=id", "*/*", "invalid_parameter", "sort_by"),
        ("sort_by[name]=up", "*/*", "invalid_parameter", "sort_by"),
        ("sort_by[name]=asc&sort_by[id]=asc", "*/*", "invalid_parameter", "sort_by"),
        ("sort_by[name]=asc&sort_direction=asc", "*/*", "invalid_parameter", "sort_direction"),
        ("sort_by=name&sort_direction=down", "*/*", "invalid_parameter", "sort_direction"),
        ("sort_direction=desc", "*/*", "invalid_parameter", "sort_direction"),
        ("sort_bye=name", "*/*", "invalid_parameter", "sort_bye"),
        ("status[contains]=act", "*/*", "invalid_filter", "status"),
        ("created_at[contains]=2026", "*/*", "invalid_filter", "created_at"),
        ("name[contains]=", "*/*", "invalid_filter", "name"),
        ("name[contains]=a&name[contains]=b", "*/*", "invalid_parameter", "name"),
        ("created_at[in]=2026-01-01,soon", "*/*", "invalid_filter", "created_at"),
        ("is_2fa_enabled=true", "*/*", "invalid_filter", "is_2fa_enabled"),
        ("truto_key_by=id", LINES, "invalid_parameter", "truto_key_by"),
        ("truto_response_format=debug", LINES, "invalid_parameter", "truto_response_format"),
        ("truto_response_format=stream&truto_key_by=id", "*/*", "invalid_parameter", "truto_key_by"),
        ("limit=0", LINES, "invalid_parameter", "limit"),
        ("next_cursor=nonsense", LINES, "invalid_cursor", "next_cursor"),
        ("shoe_size=44", LINES, "invalid_filter", "shoe_size"),
    ] {
        let response = stream(&gateway, ADMIN, &format!("{list}&{query}"), accept).await;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let answer = Answer { status, headers, body: response.bytes().await.unwrap().to_vec() };
        names(&answer, 400, code, field);
    }
    assert_eq!(vendor.count(), asked, "the vendor is not asked");
}

#[tokio::test]
async fn lines_are_the_whole_list_and_a_last_line_says_so() {
    for kept in Kept::each() {
        let (_vendor, gateway, list) = before(&kept, Arc::new(People { pretty: true, ..People::of(250) })).await;
        let walked = gateway.walk(&list).await;
        let (streamed, last) = lines(&gateway, &list).await;
        assert_eq!(streamed, walked, "records and their remote_data");
        let end = json!({"complete": true, "result_count": 250, "next_cursor": null, "is_partial_response": false,
            "warnings": [], "filters": {"vendor": [], "gateway": []}});
        assert_eq!(last, end);
        let slim = format!("{list}&truto_ignore_remote_data=true&truto_exclude_fields=emails,groups&limit=7");
        assert_eq!(lines(&gateway, &slim).await.0, gateway.walk(&slim).await);
        let (raw, _) = lines(&gateway, &format!("{list}&truto_response_format=raw")).await;
        assert_eq!(raw, (1..=250).map(|n| person(n, 0)).collect::<Vec<_>>());
        let by_format = stream(&gateway, ADMIN, &format!("{list}&truto_response_format=stream"), "*/*").await;
        assert_eq!(parted(&by_format.text().await.unwrap()), (walked.clone(), end));
        let (none, last) = lines(&gateway, &format!("{list}&id=nobody")).await;
        assert_eq!((none.len(), &last["complete"], &last["filters"]["gateway"]), (0, &json!(true), &json!(["id"])));
        let page = gateway.get(&format!("{list}&limit=30")).await.json();
        let rest = format!("{list}&limit=30&next_cursor={}", page["next_cursor"].as_str().unwrap());
        assert_eq!(lines(&gateway, &rest).await.0, walked[30..], "from a page's cursor on");
        for (accept, is_page) in [
            ("application/json, application/x-ndjson", true),
            ("application/x-ndjson;q=0.5, */*", true),
            ("text/html", true),
            ("application/x-ndjson, */*;q=0.1", false),
        ] {
            let response = stream(&gateway, ADMIN, &list, accept).await;
            assert_eq!(response.headers()["content-type"] == "application/json", is_page, "{accept}");
        }
    }
}

#[tokio::test]
async fn debug_tells_how_an_answer_came_about() {
    let (_vendor, gateway, list) = before(&Kept::embedded(), Arc::new(People::of(5))).await;
    let page = gateway.get(&format!("{list}&truto_response_format=debug")).await.json();
    assert_eq!((&page["debug"]["vendorPages"], &page["debug"]["resultCount"]), (&json!(1), &json!(5)));
    let one = list.replace("users?", "users/3?");
    let debug = gateway.get(&format!("{one}&truto_response_format=debug")).await.json();
    assert_eq!(debug["result"], gateway.get(&one).await.json());
    assert_eq!((&debug["debug"]["resource"], &debug["debug"]["resultCount"]), (&json!("users"), &json!(1)));
    for (format, shows) in [("unified", true), ("stream", true), ("normalized", false)] {
        let user = gateway.get(&format!("{one}&truto_response_format={format}")).await.json();
        assert_eq!((&user["id"], user.get("remote_data").is_some()), (&json!("3"), shows), "{format}");
    }
    assert_eq!(gateway.get(&format!("{one}&truto_response_format=raw")).await.json(), person(3, 0));
}

fn broken_pages() -> [(&'static str, Fault); 6] {
    [
        ("vendor_error", || json_answer(400, &json!({"detail": "no more"}))),
        ("reauth_required", || json_answer(401, &json!({"detail": "the token has ended"}))),
        ("vendor_denied", || json_answer(403, &json!({"detail": "not these"}))),
        ("vendor_bad_answer", || Act::Send(answer(200, &[("content-type", "text/html")], b"<html>sign in</html>"))),
        ("vendor_paging_broken", || json_answer(200, &json!({"totalResults": 1000, "startIndex": 201, "Resources": []}))),
        ("vendor_bad_answer", || Act::End(b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{\"Resources\": [".to_vec())),
    ]
}

#[tokio::test]
async fn what_breaks_midway_is_the_last_line_and_can_be_gone_on_from() {
    for kept in Kept::each() {
        for (code, fault) in broken_pages() {
            let people = Arc::new(People { fault: Some(fault), fault_from: AtomicUsize::new(201), ..People::of(450) });
            let (_vendor, gateway, list) = before(&kept, people.clone()).await;
            let (streamed, last) = lines(&gateway, &list).await;
            assert_eq!(ids(&streamed), (1..=200).collect::<Vec<_>>(), "{code}: what was read is given out");
            assert_eq!((&last["complete"], &last["result_count"]), (&json!(false), &json!(200)), "{last}");
            assert_eq!(last["problem"]["code"], code, "{last}");
            assert_eq!(last["problem"]["type"], format!("/errors/{code}"), "{last}");
            assert!(last["problem"]["request_id"].is_string() && !last.to_string().contains("a-token-of-people"), "{last}");
            people.fault_from.store(0, Ordering::SeqCst);
            if code == "reauth_required" {
                continue;
            }
            let cursor = last["next_cursor"].as_str().unwrap();
            let (rest, last) = lines(&gateway, &format!("{list}&next_cursor={cursor}")).await;
            assert_eq!((ids(&rest), &last["complete"]), ((201..=450).collect(), &json!(true)), "{code}");
            people.fault_from.store(1, Ordering::SeqCst);
            let response = stream(&gateway, ADMIN, &list, LINES).await;
            assert!(!response.status().is_success(), "nothing was given out yet: a problem like any other");
            assert_eq!(response.headers()["content-type"], "application/problem+json");
        }
    }
}

#[tokio::test]
async fn a_revoked_token_ends_a_list_that_is_being_given_out() {
    let people = Arc::new(People { held: AtomicBool::new(true), ..People::of(1_000) });
    let (_vendor, gateway, list) = before(&Kept::embedded(), people.clone()).await;
    let token = gateway.token(&["directory:read"]).await;
    let mut response = stream(&gateway, &token, &list, LINES).await;
    let mut text = response.chunk().await.unwrap().unwrap().to_vec();
    let tokens = gateway.get("/api-token").await.json();
    let id = tokens["result"].as_array().unwrap().iter().find(|t| t["name"] == "test").unwrap()["id"].clone();
    assert_eq!(gateway.call("DELETE", &format!("/api-token/{}", id.as_str().unwrap()), None).await.status, 200);
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    people.held.store(false, Ordering::SeqCst);
    while let Some(chunk) = response.chunk().await.unwrap() {
        text.extend_from_slice(&chunk);
    }
    let (streamed, last) = parted(&String::from_utf8(text).unwrap());
    assert!(streamed.len() < 1_000, "{}", streamed.len());
    assert_eq!((&last["complete"], &last["problem"]["code"]), (&json!(false), &json!("invalid_token")), "{last}");
}

#[tokio::test]
async fn a_gateway_that_is_stopped_ends_its_lists_with_a_line() {
    let people = Arc::new(People { held: AtomicBool::new(true), ..People::of(1_000) });
    let (_vendor, gateway, list) = before(&Kept::embedded(), people.clone()).await;
    let mut response = stream(&gateway, ADMIN, &list, LINES).await;
    let mut text = response.chunk().await.unwrap().unwrap().to_vec();
    let stopped = tokio::task::spawn_blocking(move || gateway.stop());
    tokio::time::sleep(Duration::from_millis(500)).await;
    people.held.store(false, Ordering::SeqCst);
    while let Some(chunk) = response.chunk().await.unwrap() {
        text.extend_from_slice(&chunk);
    }
    let (streamed, last) = parted(&String::from_utf8(text).unwrap());
    assert!(streamed.len() < 1_000, "{}", streamed.len());
    assert_eq!(last["problem"]["code"], "shutting_down", "{last}");
    assert!(last["next_cursor"].is_string(), "{last}");
    assert!(stopped.await.unwrap(), "it ends well");
}

#[tokio::test]
async fn a_hundred_thousand_records_take_no_more_room_than_a_page() {
    let count = 100_000;
    let people = Arc::new(People::of(count));
    let kept = if long() { Kept::redis() } else { Kept::embedded() };
    let vendor = Vendor::start(move |asked| reply(&people, asked));
    let folder = kept.folder().join("connectors");
    overlay(&folder, |_, text| text.replace("max: 100", "max: 1000"));
    let settings = [("ROLLCALL_CONNECTORS_DIR", folder.to_str().unwrap())];
    let gateway = Gateway::start_with(&kept, &vendor.authority(), &settings);
    let account = gateway.link("scim", "bearer", json!({"base_url": vendor.at("/scim"), "token": "a-token-of-people"})).await;
    let list = format!("{USERS}?integrated_account_id={account}&limit=1000");
    for _ in 0..3 {
        assert_eq!(gateway.get(&list).await.status, 200);
    }
    let before = gateway.resident();
    let mut response = stream(&gateway, ADMIN, &list, LINES).await;
    let (mut seen, mut tail, mut most, mut chunks) = (0, Vec::new(), before, 0);
    while let Some(chunk) = response.chunk().await.unwrap() {
        seen += chunk.iter().filter(|byte| **byte == b'\n').count();
        tail.extend_from_slice(&chunk);
        let keep = tail.len().saturating_sub(4_096);
        tail.drain(..keep);
        chunks += 1;
        if chunks % 64 == 0 {
            most = most.max(gateway.resident());
        }
    }
    let text = String::from_utf8_lossy(&tail).into_owned();
    let last: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!((seen, &last["complete"], &last["result_count"]), (count + 1, &json!(true), &json!(count)));
    let grown = most.max(gateway.resident()) - before;
    assert!(grown <= 16 << 20, "grew by {} KiB", grown / 1024);
}

/// Waits until the vendor has not been asked for a while; how often it was.
async fn settled(vendor: &Vendor) -> usize {
    for _ in 0..100 {
        let before = vendor.count();
        tokio::time::sleep(Duration::from_millis(700)).await;
        if vendor.count() == before {
            return before;
        }
    }
    panic!("the vendor is asked on and on");
}

#[tokio::test]
async fn the_vendor_is_asked_at_the_clients_pace_and_not_for_one_who_left() {
    let people = Arc::new(People { padding: 4_000, ..People::of(100_000) });
    let (vendor, gateway, list) = before(&Kept::embedded(), people).await;
    let mut response = stream(&gateway, ADMIN, &list, LINES).await;
    response.chunk().await.unwrap().unwrap();
    let paused = settled(&vendor).await;
    assert!(paused < 100, "{paused} of 1000 pages were asked for while nobody read");
    let mut taken = 0;
    while taken < 20 << 20 {
        taken += response.chunk().await.unwrap().unwrap().len();
    }
    let resumed = settled(&vendor).await;
    assert!(resumed > paused && resumed < 200, "{paused}, then {resumed}");
    drop(response);
    let left = settled(&vendor).await;
    assert!(left <= resumed + 2, "{resumed}, and {left} after the client left");
    assert_eq!(gateway.get("/healthz").await.status, 200);
}

#[tokio::test]
async fn a_client_that_leaves_while_the_vendor_is_silent_ends_the_walk() {
    let people = Arc::new(People { held: AtomicBool::new(true), ..People::of(10_000) });
    let (vendor, gateway, list) = before(&Kept::embedded(), people.clone()).await;
    let mut response = stream(&gateway, ADMIN, &list, LINES).await;
    response.chunk().await.unwrap().unwrap();
    let asked = settled(&vendor).await;
    drop(response);
    tokio::time::sleep(Duration::from_millis(300)).await;
    people.held.store(false, Ordering::SeqCst);
    let after = settled(&vendor).await;
    assert!(after <= asked + 2, "{asked}, and {after} after the client left");
    assert_eq!(gateway.get("/healthz").await.status, 200);
}
