//! Page styles: honest vendors are read to their end, lying ones end in an error, none in a loop.

use std::collections::BTreeSet;

use rollcall::{
    connector::{PageStyle, ResourceDef},
    error::Code,
    mapping::Path,
    upstream::{Access, Failure, ListAsk, Upstream},
};
use serde_json::{Value, json};

use super::support::{Act, CANARY, Seen, Server, access, answer, json as reply, upstream_for, users, with_query};

fn path(text: &str) -> Path {
    Path::parse(text).unwrap()
}

/// Reads to the end; the service room's guard against repeated ids stands here as a set.
async fn walk(upstream: &Upstream, access: &Access, users: &ResourceDef, limit: usize) -> Result<Vec<u64>, Failure> {
    let (mut ids, mut known) = (Vec::new(), BTreeSet::new());
    let mut ask = ListAsk { limit, ..ListAsk::default() };
    for _ in 0..200 {
        let page = upstream.list(access, users, &ask).await?;
        assert!(page.records.ranges.len() <= limit.max(20) && !(page.records.ranges.is_empty() && page.next.is_some()));
        for range in &page.records.ranges {
            let record: Value = serde_json::from_slice(&page.body[range.clone()]).unwrap();
            let id = record["id"].as_u64().unwrap();
            if !known.insert(id) {
                return Err(Failure::PagingBroken(format!("id {id} came twice")));
            }
            ids.push(id);
        }
        match page.next {
            None => return Ok(ids),
            Some(next) => {
                assert!(!next.contains(CANARY), "a secret in a cursor");
                ask.next = Some(next);
            }
        }
    }
    panic!("the walk does not end");
}

fn slice(total: u64, from: u64, count: u64) -> Vec<Value> {
    (from..(from + count).min(total)).map(|id| json!({"id": id, "name": "x"})).collect()
}

fn number(seen: &Seen, name: &str) -> Option<u64> {
    seen.parameter(name).and_then(|text| text.parse().ok())
}

async fn all(server: &Server, style: PageStyle, limit: usize) -> Result<Vec<u64>, Failure> {
    let records = if matches!(style, PageStyle::Scim { .. }) { "Resources[*]" } else { "items[*]" };
    walk(&upstream_for(&server.base), &access(&server.base), &users(records, style), limit).await
}

fn broken(outcome: Result<Vec<u64>, Failure>, word: &str) {
    match outcome {
        Err(failure) => {
            assert_eq!(failure.code(), Code::VendorPagingBroken, "{failure}");
            assert!(failure.to_string().contains(word), "wanted {word}: {failure}");
        }
        Ok(ids) => panic!("wanted {word}, got {} records", ids.len()),
    }
}

// ------------------------------------------------------------------------------------------------------------------- scim

fn scim_page(total: u64, start: u64, records: Vec<Value>, per_page: u64) -> Vec<Act> {
    reply(json!({"schemas": ["urn:ietf:params:scim:api:messages:2.0:ListResponse"], "totalResults": total, "startIndex": start,
        "itemsPerPage": per_page, "Resources": records}))
}

const SCIM: PageStyle = PageStyle::Scim { max: 100 };

#[tokio::test]
async fn scim_index_paging_reads_everything() {
    for total in [0, 1, 9, 10, 11, 20, 105] {
        for vendor_max in [3, 10, 1000] {
            let server = Server::start(move |seen, _| {
                let (start, count) = (number(seen, "startIndex").unwrap(), number(seen, "count").unwrap());
                scim_page(total, start, slice(total, start - 1, count.min(vendor_max)), count)
            });
            assert_eq!(all(&server, SCIM, 10).await.unwrap(), (0..total).collect::<Vec<_>>(), "{total} {vendor_max}");
            let pages = total.div_ceil(vendor_max.min(10)).max(1);
            assert_eq!(server.seen().len() as u64, pages, "one request for each page");
        }
    }
}

#[tokio::test]
async fn scim_lists_may_leave_out_what_is_optional() {
    let server = Server::start(|_, _| reply(json!({"totalResults": 0})));
    let access = super::support::change(access(&server.base), |m| m.transport = rollcall::connector::Transport::Scim);
    let empty = walk(&upstream_for(&server.base), &access, &users("Resources[*]", SCIM), 10).await;
    assert_eq!(empty.unwrap(), Vec::<u64>::new());
    let server = Server::start(|seen, _| {
        let start = number(seen, "startIndex").unwrap();
        reply(json!({"totalResults": "25", "Resources": slice(25, start - 1, 10)}))
    });
    assert_eq!(all(&server, SCIM, 10).await.unwrap().len(), 25);
    let everything = Server::start(|_, _| scim_page(15, 1, slice(15, 0, 15), 15));
    assert_eq!(all(&everything, SCIM, 10).await.unwrap().len(), 15, "all at once is no lie");
}

#[tokio::test]
async fn scim_servers_that_lie_are_found_out() {
    let ignored = Server::start(|_, _| scim_page(50, 1, slice(50, 0, 20), 20));
    broken(all(&ignored, SCIM, 20).await, "startIndex 21 was asked for, 1 was answered");
    let echoes = Server::start(|seen, _| scim_page(50, number(seen, "startIndex").unwrap(), slice(50, 0, 20), 20));
    broken(all(&echoes, SCIM, 20).await, "came twice");
    let too_many = Server::start(|_, _| scim_page(50, 1, slice(50, 0, 30), 20));
    broken(all(&too_many, SCIM, 20).await, "30 records were answered where 20 were asked for");
    let beyond = Server::start(|seen, _| {
        let start = number(seen, "startIndex").unwrap();
        scim_page(25, start, slice(100, start - 1, 20), 20)
    });
    broken(all(&beyond, SCIM, 20).await, "said to be 25 in all");
    let runs_dry = Server::start(|seen, _| {
        let start = number(seen, "startIndex").unwrap();
        scim_page(50, start, slice(20, start - 1, 20), 20)
    });
    broken(all(&runs_dry, SCIM, 20).await, "empty, although totalResults is 50");
    let past_end = Server::start(|seen, _| match number(seen, "startIndex").unwrap() {
        1 => scim_page(40, 1, slice(40, 0, 20), 20),
        start => scim_page(40, start, slice(40, 0, 20), 20),
    });
    broken(all(&past_end, SCIM, 20).await, "came twice");
}

fn cursors(total: u64, promised: u64, at_end: fn(u64) -> Option<String>) -> Server {
    Server::start(move |seen, _| {
        assert!(seen.parameter("startIndex").is_none());
        let from = seen.parameter("cursor").unwrap();
        let from: u64 = if from.is_empty() { 0 } else { from.trim_start_matches('c').parse().unwrap() };
        let count = number(seen, "count").unwrap();
        let next = from + count;
        let mut page = json!({"totalResults": promised, "Resources": slice(total, from, count)});
        let cursor = if next < total { Some(format!("c{next}")) } else { at_end(next) };
        if let Some(cursor) = cursor {
            page["nextCursor"] = cursor.into();
        }
        reply(page)
    })
}

async fn all_by_cursor(server: &Server, max: Option<u64>) -> Result<Vec<u64>, Failure> {
    let mut access = access(&server.base);
    access.facts.insert("page".into(), "cursor".into());
    if let Some(max) = max {
        access.facts.insert("max".into(), max.into());
    }
    walk(&upstream_for(&server.base), &access, &users("Resources[*]", SCIM), 10).await
}

#[tokio::test]
async fn scim_cursors_are_followed_with_one_count() {
    for total in [0, 1, 10, 11, 35] {
        let server = cursors(total, total, |_| None);
        assert_eq!(all_by_cursor(&server, None).await.unwrap().len() as u64, total);
        let server = cursors(total, total, |_| Some(String::new()));
        assert_eq!(all_by_cursor(&server, Some(3)).await.unwrap().len() as u64, total);
        assert!(server.seen().iter().all(|seen| number(seen, "count") == Some(3)));
    }
}

#[tokio::test]
async fn scim_cursors_that_lie_are_found_out() {
    broken(all_by_cursor(&cursors(20, 50, |_| None), None).await, "ends after 20 records, although there are said to be 50");
    broken(all_by_cursor(&cursors(20, 20, |n| Some(format!("c{n}"))), None).await, "empty but names a next");
    let same = Server::start(|seen, n| {
        let _ = seen;
        reply(json!({"totalResults": 50, "Resources": slice(50, n as u64 * 10, 10), "nextCursor": "same"}))
    });
    broken(all_by_cursor(&same, None).await, "same cursor");
}

#[tokio::test]
async fn an_expired_cursor_says_so() {
    let server = Server::start(|seen, _| match seen.parameter("cursor").as_deref() {
        Some("") => reply(json!({"totalResults": 20, "Resources": slice(20, 0, 10), "nextCursor": "c10"})),
        _ => answer(
            400,
            &[],
            br#"{"schemas":["urn:ietf:params:scim:api:messages:2.0:Error"],"scimType":"expiredCursor","status":"400"}"#,
        ),
    });
    let mut access = super::support::change(access(&server.base), |m| m.transport = rollcall::connector::Transport::Scim);
    access.facts.insert("page".into(), "cursor".into());
    let failure = walk(&upstream_for(&server.base), &access, &users("Resources[*]", SCIM), 10).await.unwrap_err();
    let Failure::Answered { message: Some(message), .. } = &failure else { panic!("{failure:?}") };
    assert!(message.contains("start again"), "{message}");
    assert_eq!(failure.code(), Code::VendorError);
}

// ------------------------------------------------------------------------------------------------------------ other styles

fn cursor_style(more: Option<&str>) -> PageStyle {
    PageStyle::Cursor { next: path("next"), param: "after".into(), limit: Some("limit".into()), max: 100, more: more.map(path) }
}

#[tokio::test]
async fn cursors_in_the_answer() {
    for end in [json!(null), json!("")] {
        let server = Server::start(move |seen, _| {
            let (from, count) = (number(seen, "after").unwrap_or(0), number(seen, "limit").unwrap());
            let next = if from + count < 35 { json!(from + count) } else { end.clone() };
            reply(json!({"items": slice(35, from, count), "next": next}))
        });
        assert_eq!(all(&server, cursor_style(None), 10).await.unwrap().len(), 35);
    }
    let flagged = Server::start(|seen, _| {
        let (from, count) = (number(seen, "after").unwrap_or(0), number(seen, "limit").unwrap());
        reply(json!({"items": slice(20, from, count), "next": from + count, "more": from + count < 20}))
    });
    assert_eq!(all(&flagged, cursor_style(Some("more")), 10).await.unwrap().len(), 20);
    let same = Server::start(|_, n| reply(json!({"items": slice(99, n as u64 * 10, 10), "next": "x"})));
    broken(all(&same, cursor_style(None), 10).await, "same cursor");
    let empty = Server::start(|_, n| reply(json!({"items": [], "next": n + 1})));
    broken(all(&empty, cursor_style(None), 10).await, "empty");
    let blind = Server::start(|_, _| reply(json!({"items": slice(9, 0, 5), "more": true})));
    broken(all(&blind, cursor_style(Some("more")), 10).await, "no cursor");
    let ignored = Server::start(|_, n| reply(json!({"items": slice(99, 0, 50), "next": n})));
    broken(all(&ignored, cursor_style(None), 10).await, "where 10 were asked for");
}

#[tokio::test]
async fn next_addresses_in_the_answer_and_in_links() {
    for form in 0..3 {
        for link in [false, true] {
            let server = Server::start(move |seen, _| {
                let from = number(seen, "from").unwrap_or(0);
                let host = format!("http://{}", seen.values("host")[0]);
                let next = match form {
                    0 => format!("{host}/v2/users?from={}&key={CANARY}#x", from + 10),
                    1 => format!("/v2/users?key={CANARY}&from={}", from + 10),
                    _ => format!("?from={}", from + 10),
                };
                let mut body = json!({"items": slice(35, from, 10)});
                let mut headers = vec![("x-a", "1".to_owned())];
                if from + 10 < 35 {
                    match link {
                        true => headers.push((
                            "link",
                            format!("<{host}/v2/a,b>; rel=\"prev\"; title=\"a, <b>; rel=next\", <{next}>; REL=\"last next\""),
                        )),
                        false => body["next"] = next.into(),
                    }
                }
                let headers: Vec<(&str, &str)> = headers.iter().map(|(n, v)| (*n, v.as_str())).collect();
                answer(200, &headers, body.to_string().as_bytes())
            });
            let style = match link {
                true => PageStyle::LinkHeader { limit: Some("size".into()), max: 10 },
                false => PageStyle::NextUrl { next: path("next"), limit: Some("size".into()), max: 10 },
            };
            let access = with_query(access(&format!("{}/v2", server.base)), "key");
            let ids = walk(&upstream_for(&server.base), &access, &users("items[*]", style), 10).await.unwrap();
            assert_eq!(ids.len(), 35, "{form} {link}");
            let seen = server.seen();
            assert!(seen.iter().all(|s| s.target().matches(CANARY).count() == 1 && s.target().starts_with("/v2/users?")));
            assert_eq!(number(&seen[0], "size"), Some(10));
        }
    }
    let same = Server::start(|seen, n| {
        let next = format!("http://{}/users?page=2", seen.values("host")[0]);
        reply(json!({"items": slice(99, n as u64 * 10, 10), "next": next}))
    });
    broken(all(&same, PageStyle::NextUrl { next: path("next"), limit: None, max: 10 }, 10).await, "just asked");
    for away in [
        "https://127.0.0.1/users",
        "http://127.0.0.1:1/users",
        "/other/users",
        "http://u@HOST/v2/users",
        "/v2evil",
        "/v2/../users",
    ] {
        let server = Server::start(move |seen, _| {
            reply(json!({"items": slice(9, 0, 5), "next": away.replace("HOST", &seen.values("host")[0])}))
        });
        let access = access(&format!("{}/v2", server.base));
        let style = PageStyle::NextUrl { next: path("next"), limit: None, max: 10 };
        let failure = walk(&upstream_for(&server.base), &access, &users("items[*]", style), 10).await.unwrap_err();
        assert!(matches!(failure, Failure::Egress(_)), "{away}: {failure}");
        assert_eq!(server.seen().len(), 1);
    }
}

#[tokio::test]
async fn page_numbers_and_offsets() {
    for total in [0u64, 1, 10, 11, 35] {
        for known in ["total", "pages", "nothing"] {
            let server = Server::start(move |seen, _| {
                let (page, size) = (number(seen, "page").unwrap(), number(seen, "size").unwrap());
                reply(json!({"items": slice(total, (page - 1) * size, size), "total": total, "pages": total.div_ceil(size)}))
            });
            let style = PageStyle::Page {
                param: "page".into(),
                first: 1,
                limit: "size".into(),
                max: 10,
                pages: (known == "pages").then(|| path("pages")),
                total: (known == "total").then(|| path("total")),
            };
            assert_eq!(all(&server, style, 100).await.unwrap().len() as u64, total, "{known}");
        }
        for known in [true, false] {
            for vendor_max in [4, 100] {
                let server = Server::start(move |seen, _| {
                    let (from, size) = (number(seen, "skip").unwrap(), number(seen, "top").unwrap());
                    reply(json!({"items": slice(total, from, size.min(vendor_max)), "total": total}))
                });
                let style =
                    PageStyle::Offset { param: "skip".into(), limit: "top".into(), max: 10, total: known.then(|| path("total")) };
                assert_eq!(all(&server, style, 100).await.unwrap().len() as u64, total);
            }
        }
    }
}

fn pages(total: Option<&str>, pages: Option<&str>) -> PageStyle {
    PageStyle::Page {
        param: "page".into(),
        first: 1,
        limit: "size".into(),
        max: 10,
        pages: pages.map(path),
        total: total.map(path),
    }
}

#[tokio::test]
async fn page_numbers_and_offsets_that_lie_are_found_out() {
    let ignored = Server::start(|_, _| reply(json!({"items": slice(99, 0, 10), "total": 99})));
    broken(all(&ignored, pages(Some("total"), None), 10).await, "came twice");
    broken(all(&ignored, pages(None, None), 10).await, "came twice");
    let hole = Server::start(|seen, _| {
        let page = number(seen, "page").unwrap();
        reply(json!({"items": if page == 2 { vec![] } else { slice(99, page * 10, 10) }, "total": 30, "pages": 3}))
    });
    broken(all(&hole, pages(Some("total"), None), 10).await, "empty");
    broken(all(&hole, pages(None, Some("pages")), 10).await, "empty");
    let short = Server::start(|seen, _| {
        reply(json!({"items": slice(99, number(seen, "page").unwrap() * 10, 5), "total": 30, "pages": 2}))
    });
    broken(all(&short, pages(Some("total"), Some("pages")), 10).await, "ends after 10 records");
    let flood = Server::start(|_, _| reply(json!({"items": slice(99, 0, 50)})));
    broken(all(&flood, pages(None, None), 10).await, "where 10 were asked for");
    let offset = |total: bool| PageStyle::Offset {
        param: "skip".into(),
        limit: "top".into(),
        max: 10,
        total: total.then(|| path("total")),
    };
    let dry = Server::start(|seen, _| reply(json!({"items": slice(20, number(seen, "skip").unwrap(), 10), "total": 30})));
    broken(all(&dry, offset(true), 10).await, "empty");
    broken(all(&ignored, offset(false), 10).await, "came twice");
}

#[tokio::test]
async fn a_cursor_of_another_list_is_refused() {
    let server = Server::start(|_, _| reply(json!({"items": []})));
    let access = access(&server.base);
    for token in ["", "x", "i:1", "c:10:0::0", "p:a:b:c:d:e", "u:10:0::9:/x", "u:10:0::0:x", "o:1:2", "s:::::"] {
        let ask = ListAsk { limit: 10, next: Some(token.to_owned()), ..ListAsk::default() };
        for style in [PageStyle::None, pages(None, None), PageStyle::NextUrl { next: path("next"), limit: None, max: 10 }] {
            let failure = upstream_for(&server.base).list(&access, &users("items[*]", style), &ask).await.unwrap_err();
            assert!(matches!(failure, Failure::PagingBroken(_)), "{token}: {failure}");
        }
    }
    assert_eq!(server.seen().len(), 0);
}
