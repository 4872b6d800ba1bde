//! Everything that may come in wrong, from callers, vendors and operators: each a problem that names what was wrong, with
//! the right origin; nothing stored, no panic, no secret shown.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use rollcall::model::Scope;
use serde_json::{Value, json};

use super::{
    cli::run,
    vendor::{Mood, SECRET, Vendor, accounts, is_sound, names, overlay, problem},
};
use crate::support::gateway::{Answer, Gateway, Kept, command};

const USERS: &str = "/unified/user-directory/users";

/// A gateway whose `scim` connector waits for one second only.
fn impatient(kept: &Kept, vendor: &Vendor) -> Gateway {
    let folder = kept.folder().join("connectors");
    overlay(&folder, |_, text| text.replace("timeout: 120s", "timeout: 1s"));
    Gateway::start_with(kept, &vendor.authority(), &[("ROLLCALL_CONNECTORS_DIR", folder.to_str().unwrap())])
}

async fn linked(kept: &Kept) -> (Vendor, Gateway, String) {
    let vendor = Vendor::start();
    let gateway = impatient(kept, &vendor);
    let account = gateway.link("scim", "bearer", vendor.context()).await;
    (vendor, gateway, account)
}

/// The problem without what differs from request to request.
fn shape(answer: &Answer) -> Value {
    let mut document = answer.json();
    assert!(document.as_object_mut().unwrap().remove("request_id").is_some());
    document
}

#[tokio::test]
async fn an_unknown_account_answers_the_same_whatever_its_id_looks_like() {
    for kept in Kept::each() {
        let (vendor, gateway, account) = linked(&kept).await;
        let gone = gateway.link("scim", "bearer", vendor.context()).await;
        assert_eq!(gateway.call("DELETE", &format!("/integrated-account/{gone}"), None).await.status, 200);
        let asked = vendor.asked();
        let strange = ["nonsense", "0198c0de-0000-7000-8000-000000000000", gone.as_str(), "%00", "..%2F..", "💥", "a b"];
        for path in [
            "/integrated-account/ID",
            "/integrated-account/ID/capabilities",
            "/unified/user-directory/users?integrated_account_id=ID",
            "/unified/user-directory/groups/g1/members?integrated_account_id=ID",
            "/proxy/Users?integrated_account_id=ID",
        ] {
            let reference = gateway.get(&path.replace("ID", strange[1])).await;
            problem(&reference, 404, "not_found", "gateway");
            for id in strange.iter().filter(|id| !(id.contains("%00") && path.contains('?'))) {
                let answer = gateway.get(&path.replace("ID", id)).await;
                assert_eq!((answer.status, shape(&answer)), (404, shape(&reference)), "{path} {id}");
            }
        }
        for id in &strange[..3] {
            problem(&gateway.get(&format!("/passthrough/{id}/Users")).await, 404, "not_found", "gateway");
            problem(&gateway.call("DELETE", &format!("/integrated-account/{id}"), None).await, 404, "not_found", "gateway");
            let change = json!({"tenant_id": "other"});
            problem(
                &gateway.call("PATCH", &format!("/integrated-account/{id}"), Some(&change)).await,
                404,
                "not_found",
                "gateway",
            );
        }
        names(&gateway.get(USERS).await, 400, "invalid_parameter", "integrated_account_id");
        assert_eq!(vendor.asked(), asked, "the vendor is not asked");
        assert_eq!(accounts(&gateway).await, [account]);
        is_sound(&gateway);
    }
}

#[tokio::test]
async fn a_token_that_is_not_live_is_refused() {
    for kept in Kept::each() {
        let (vendor, gateway, account) = linked(&kept).await;
        let token = gateway.token(&["directory:read"]).await;
        let list = format!("{USERS}?integrated_account_id={account}");
        assert_eq!(gateway.call_as(Some(&token), "GET", &list, None).await.status, 200);
        let tokens = gateway.get("/api-token").await.json();
        let id =
            tokens["result"].as_array().unwrap().iter().find(|t| t["name"] == "test").unwrap()["id"].as_str().unwrap().to_owned();
        assert!(!tokens.to_string().contains(&token), "a token is shown once");
        assert_eq!(gateway.call("DELETE", &format!("/api-token/{id}"), None).await.status, 200);
        let asked = vendor.asked();
        let damaged = format!("{}x", &token[..token.len() - 1]);
        for bad in [Some(token.as_str()), Some(&damaged), Some("rck_"), Some("nonsense"), None] {
            for path in
                [list.as_str(), "/integrated-account", "/api-token", &format!("/passthrough/{account}/Users"), "/proxy/Users"]
            {
                let answer = gateway.call_as(bad, "GET", path, None).await;
                problem(&answer, 401, "invalid_token", "gateway");
                assert!(answer.header("www-authenticate").is_some_and(|text| text.starts_with("Bearer")));
                assert!(bad.is_none_or(|bad| bad.len() < 8 || !answer.text().contains(bad)), "a token is echoed");
            }
        }
        assert_eq!(vendor.asked(), asked);
        assert!(!gateway.said().contains(&token));
        is_sound(&gateway);
    }
}

#[tokio::test]
async fn a_missing_scope_is_named_and_nothing_happens() {
    let kept = Kept::embedded();
    let (vendor, gateway, account) = linked(&kept).await;
    let reader = gateway.token(&["directory:read"]).await;
    let clerk = gateway.token(&["accounts:read"]).await;
    let asked = vendor.asked();
    let import = vendor.import();
    for (token, method, path, body, scope) in [
        (&reader, "POST", "/integrated-account".to_owned(), Some(&import), "accounts:write"),
        (&reader, "GET", "/integrated-account".to_owned(), None, "accounts:read"),
        (&reader, "DELETE", format!("/integrated-account/{account}"), None, "accounts:write"),
        (&reader, "GET", format!("/proxy/Users?integrated_account_id={account}"), None, "proxy:read"),
        (&reader, "GET", format!("/passthrough/{account}/Users"), None, "proxy:read"),
        (&reader, "GET", "/api-token".to_owned(), None, "admin"),
        (&clerk, "GET", format!("{USERS}?integrated_account_id={account}"), None, "directory:read"),
        (&clerk, "POST", format!("/passthrough/{account}/Users"), None, "proxy:write"),
        (&clerk, "DELETE", format!("/integrated-account/{account}"), None, "accounts:write"),
        (&clerk, "GET", format!("/unified/user-directory/users/1/more?integrated_account_id={account}"), None, "directory:read"),
        (&clerk, "GET", format!("/unified/nonsense/users?integrated_account_id={account}"), None, "directory:read"),
        (&reader, "POST", format!("{USERS}?integrated_account_id={account}"), None, "directory:write"),
        (&clerk, "DELETE", format!("{USERS}/1?integrated_account_id={account}"), None, "directory:write"),
        (&reader, "GET", format!("/proxy/Users/1/more?integrated_account_id={account}"), None, "proxy:read"),
        (&reader, "POST", format!("/proxy/Users?integrated_account_id={account}"), None, "proxy:write"),
    ] {
        let document = problem(&gateway.call_as(Some(token), method, &path, body).await, 403, "scope_missing", "gateway");
        assert!(document["detail"].as_str().unwrap().contains(scope), "{method} {path}: {document}");
    }
    for path in [&format!("{USERS}/1/more"), "/proxy/Users/1/more"] {
        let head = gateway.call_as(Some(&clerk), "HEAD", &format!("{path}?integrated_account_id={account}"), None).await;
        assert_eq!((head.status, head.header("rollcall-error")), (403, Some("scope_missing")), "{path}");
    }
    let more = gateway.call_as(Some(&reader), "GET", &format!("{USERS}/1/more?integrated_account_id={account}"), None).await;
    problem(&more, 404, "route_not_found", "gateway");
    assert_eq!(vendor.asked(), asked);
    assert_eq!(accounts(&gateway).await, [account]);
}

#[tokio::test]
async fn a_token_without_the_directory_does_not_learn_an_accounts_state() {
    let kept = Kept::embedded();
    let (vendor, gateway, account) = linked(&kept).await;
    vendor.set(Mood::Unauthorized);
    let list = format!("{USERS}?integrated_account_id={account}");
    problem(&gateway.get(&list).await, 401, "reauth_required", "vendor");
    for (scope, status, code, origin) in [
        ("accounts:read", 403, "scope_missing", "gateway"),
        ("directory:read", 403, "scope_missing", "gateway"),
        ("directory:write", 401, "reauth_required", "vendor"),
    ] {
        let token = gateway.token(&[scope]).await;
        problem(&gateway.call_as(Some(&token), "DELETE", &list, None).await, status, code, origin);
    }
}

#[tokio::test]
async fn what_only_unified_records_have_is_refused_on_a_vendors_own() {
    let kept = Kept::embedded();
    let (vendor, gateway, account) = linked(&kept).await;
    let asked = vendor.asked();
    for (query, field) in [
        ("truto_key_by=id", "truto_key_by"),
        ("truto_exclude_fields=emails", "truto_exclude_fields"),
        ("truto_exclude_fields[]=emails", "truto_exclude_fields[]"),
        ("truto_ignore_remote_data=true", "truto_ignore_remote_data"),
        ("truto_response_format=unified", "truto_response_format"),
        ("truto_response_format=normalized", "truto_response_format"),
    ] {
        for path in ["/proxy/Users", "/proxy/Users/1"] {
            names(
                &gateway.get(&format!("{path}?integrated_account_id={account}&{query}")).await,
                400,
                "invalid_parameter",
                field,
            );
        }
    }
    let debug = format!("/proxy/Users/1?integrated_account_id={account}&truto_response_format=debug");
    names(&gateway.get(&debug).await, 400, "invalid_parameter", "truto_response_format");
    assert_eq!(vendor.asked(), asked);
    let list = format!("/proxy/Users?integrated_account_id={account}");
    let whole = gateway.get(&format!("{list}&truto_response_format=debug&truto_ignore_limit=true")).await.json();
    assert_eq!((&whole["result_count"], whole["debug"].is_object()), (&json!(5), true), "{whole}");
    let raw = gateway.get(&format!("{list}&truto_response_format=raw")).await.json();
    assert_eq!(raw["result"], whole["result"]);
}

#[tokio::test]
async fn a_bad_cursor_is_refused_before_the_vendor_is_asked() {
    for kept in Kept::each() {
        let (vendor, gateway, account) = linked(&kept).await;
        let other = gateway.link("scim", "bearer", vendor.context()).await;
        let list = format!("{USERS}?integrated_account_id={account}");
        let page = gateway.get(&format!("{list}&limit=2")).await.json();
        let cursor = page["next_cursor"].as_str().unwrap();
        assert!(cursor.len() <= 2_000, "{}", cursor.len());
        let asked = vendor.asked();
        let middle = cursor.len() / 2;
        let swapped = if &cursor[middle..=middle] == "A" { "B" } else { "A" };
        let tampered = format!("{}{swapped}{}", &cursor[..middle], &cursor[middle + 1..]);
        for path in [
            format!("{list}&limit=2&next_cursor={tampered}"),
            format!("{list}&limit=2&next_cursor={}", &cursor[..cursor.len() - 2]),
            format!("{list}&limit=2&next_cursor={cursor}{cursor}"),
            format!("{list}&limit=2&next_cursor=nonsense"),
            format!("{list}&limit=2&next_cursor=%F0%9F%92%A5"),
            format!("{list}&limit=3&next_cursor={cursor}"),
            format!("{list}&next_cursor={cursor}"),
            format!("{list}&limit=2&status=active&next_cursor={cursor}"),
            format!("{list}&limit=2&remote_query[x]=1&next_cursor={cursor}"),
            format!("{USERS}?integrated_account_id={other}&limit=2&next_cursor={cursor}"),
            format!("/unified/user-directory/groups?integrated_account_id={account}&limit=2&next_cursor={cursor}"),
            format!("/proxy/Users?integrated_account_id={account}&limit=2&next_cursor={cursor}"),
        ] {
            names(&gateway.get(&path).await, 400, "invalid_cursor", "next_cursor");
        }
        assert_eq!(vendor.asked(), asked);
        let next = gateway.get(&format!("{list}&limit=2&next_cursor={cursor}")).await.json();
        assert_eq!((&next["result_count"], &next["result"][0]["id"]), (&json!(2), &json!("3")), "the cursor itself goes on");
        is_sound(&gateway);
    }
}

#[tokio::test]
async fn a_cursor_of_a_platform_list_goes_on_in_that_list_alone() {
    const LISTS: [&str; 4] = ["/api-token", "/integrated-account", "/integration", "/environment-integration"];
    for kept in Kept::each() {
        let (vendor, gateway, account) = linked(&kept).await;
        gateway.link("scim", "bearer", vendor.context()).await;
        let token = gateway.token(&["directory:read"]).await;
        assert_ne!(token, gateway.token(&["directory:read"]).await);
        let directory = gateway.get(&format!("{USERS}?integrated_account_id={account}&limit=2")).await.json();
        let mut cursors = Vec::new();
        for list in LISTS {
            let page = gateway.get(&format!("{list}?limit=1")).await.json();
            assert_eq!((page["result"].as_array().unwrap().len(), &page["limit"]), (1, &json!(1)), "{list}");
            cursors.push(page["next_cursor"].as_str().unwrap_or_else(|| panic!("{list}: {page}")).to_owned());
            let next = gateway.get(&format!("{list}?limit=1&next_cursor={}", cursors.last().unwrap())).await.json();
            assert!(next["result"][0]["id"].is_string() && next["result"] != page["result"], "{list}: {next}");
        }
        for (place, list) in LISTS.iter().enumerate() {
            let own = &cursors[place];
            let mut wrong = vec!["nonsense", "scim", account.as_str(), "%F0%9F%92%A5", &own[..own.len() - 2]];
            wrong.extend(cursors.iter().enumerate().filter(|(of, _)| *of != place).map(|(_, cursor)| cursor.as_str()));
            wrong.push(directory["next_cursor"].as_str().unwrap());
            for cursor in wrong {
                names(&gateway.get(&format!("{list}?next_cursor={cursor}")).await, 400, "invalid_cursor", "next_cursor");
            }
        }
        is_sound(&gateway);
    }
}

#[tokio::test]
async fn an_unknown_filter_or_parameter_is_named() {
    let kept = Kept::embedded();
    let (vendor, gateway, account) = linked(&kept).await;
    let asked = vendor.asked();
    for (query, code, field) in [
        ("shoe_size=44", "invalid_filter", "shoe_size"),
        ("filters[shoe_size]=44", "invalid_filter", "shoe_size"),
        ("filters%5Bemails%5D%5Bshoe%5D=44", "invalid_filter", "emails[shoe]"),
        ("status=asleep", "invalid_filter", "status"),
        ("status[gt]=active", "invalid_filter", "status"),
        ("status[like]=act", "invalid_filter", "status[like]"),
        ("created_at[gte]=yesterday", "invalid_filter", "created_at"),
        ("is_2fa_enabled=maybe", "invalid_filter", "is_2fa_enabled"),
        ("truto_unheard_of=1", "invalid_parameter", "truto_unheard_of"),
        ("truto_response_format=xml", "invalid_parameter", "truto_response_format"),
        ("truto_ignore_limit=perhaps", "invalid_parameter", "truto_ignore_limit"),
        ("limitt=5", "invalid_parameter", "limitt"),
        ("limit=5&limit=6", "invalid_parameter", "limit"),
        ("truto_key_by=shoe_size", "invalid_parameter", "truto_key_by"),
        ("truto_exclude_fields=shoe_size", "invalid_parameter", "truto_exclude_fields"),
    ] {
        let answer = gateway.get(&format!("{USERS}?integrated_account_id={account}&{query}")).await;
        let document = names(&answer, 400, code, field);
        assert!(document["detail"].as_str().unwrap().contains(field.split('[').next().unwrap()), "{query}: {document}");
    }
    for query in ["a[b=1", "a[[b]]=1", "[x]=1", "a[b][c][d][e][f][g]=1", "%FF=1", "x=%FF"] {
        problem(
            &gateway.get(&format!("{USERS}?integrated_account_id={account}&{query}")).await,
            400,
            "invalid_parameter",
            "gateway",
        );
    }
    assert_eq!(vendor.asked(), asked);
    is_sound(&gateway);
}

#[tokio::test]
async fn a_limit_outside_its_range_is_refused() {
    let kept = Kept::embedded();
    let (vendor, gateway, account) = linked(&kept).await;
    let asked = vendor.asked();
    let never = ["-1", "0", "abc", "", "1.5", "%2B5", "1e3", "0x10", "99999999999999999999999999", "١٠"];
    for limit in never.into_iter().chain(["1001"]) {
        for path in [USERS, "/proxy/Users"] {
            let answer = gateway.get(&format!("{path}?integrated_account_id={account}&limit={limit}")).await;
            let document = names(&answer, 400, "invalid_parameter", "limit");
            assert!(document["detail"].as_str().unwrap().contains("1000"), "{document}");
        }
    }
    for limit in never.into_iter().chain(["5001"]) {
        for path in ["/integrated-account", "/api-token"] {
            names(&gateway.get(&format!("{path}?limit={limit}")).await, 400, "invalid_parameter", "limit");
        }
    }
    assert_eq!(vendor.asked(), asked);
    for limit in ["1", "1000"] {
        assert_eq!(gateway.get(&format!("{USERS}?integrated_account_id={account}&limit={limit}")).await.status, 200);
    }
}

#[tokio::test]
async fn a_page_for_people_or_cut_json_is_the_vendors_fault() {
    for kept in Kept::each() {
        let (vendor, gateway, account) = linked(&kept).await;
        for mood in [Mood::Html, Mood::CutJson, Mood::CutBody] {
            vendor.set(mood);
            for path in [
                format!("{USERS}?integrated_account_id={account}"),
                format!("/proxy/Users?integrated_account_id={account}"),
                format!("{USERS}/1?integrated_account_id={account}"),
                format!("/unified/user-directory/groups?integrated_account_id={account}"),
            ] {
                let answer = gateway.get(&path).await;
                let document = problem(&answer, 502, "vendor_bad_answer", "vendor");
                assert_eq!(document["retryable"], false, "{mood:?} {path}");
            }
            let refused = gateway.call("POST", "/integrated-account", Some(&vendor.import())).await;
            problem(&refused, 502, "vendor_bad_answer", "vendor");
            assert_eq!(accounts(&gateway).await, [account.clone()], "{mood:?}: nothing is stored");
        }
        vendor.set(Mood::Good);
        assert_eq!(gateway.walk(&format!("{USERS}?integrated_account_id={account}")).await.len(), 5, "the account still works");
        is_sound(&gateway);
    }
}

#[tokio::test]
async fn a_vendor_that_never_answers_costs_a_bounded_time() {
    for kept in Kept::each() {
        let (vendor, gateway, account) = linked(&kept).await;
        vendor.set(Mood::Silent);
        let started = Instant::now();
        let answer = gateway.get(&format!("{USERS}?integrated_account_id={account}")).await;
        let document = problem(&answer, 504, "vendor_unreachable", "vendor");
        assert_eq!(document["retryable"], true);
        let refused = gateway.call("POST", "/integrated-account", Some(&vendor.import())).await;
        problem(&refused, 504, "vendor_unreachable", "vendor");
        assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
        assert_eq!(accounts(&gateway).await, [account.clone()]);
        assert_eq!(gateway.get("/healthz").await.status, 200);
        vendor.set(Mood::Good);
        assert_eq!(gateway.walk(&format!("{USERS}?integrated_account_id={account}")).await.len(), 5);
        is_sound(&gateway);
    }
}

#[tokio::test]
async fn a_vendor_that_is_not_there_is_said_to_be_unreachable() {
    let kept = Kept::embedded();
    let (vendor, gateway, account) = linked(&kept).await;
    let import = vendor.import();
    drop(vendor);
    let answer = gateway.get(&format!("{USERS}?integrated_account_id={account}")).await;
    problem(&answer, 502, "vendor_unreachable", "vendor");
    problem(&gateway.call("POST", "/integrated-account", Some(&import)).await, 502, "vendor_unreachable", "vendor");
    assert_eq!(accounts(&gateway).await, [account]);
    is_sound(&gateway);
}

#[tokio::test]
async fn a_paging_loop_ends_and_loses_nothing_silently() {
    for kept in Kept::each() {
        let (vendor, gateway, account) = linked(&kept).await;
        for mood in [Mood::Loop, Mood::Hole] {
            vendor.set(mood);
            let asked = vendor.asked();
            let list = format!("{USERS}?integrated_account_id={account}&limit=2");
            let first = gateway.get(&list).await.json();
            let cursor = first["next_cursor"].as_str().unwrap_or_else(|| panic!("{mood:?}: {first}"));
            let document =
                problem(&gateway.get(&format!("{list}&next_cursor={cursor}")).await, 502, "vendor_paging_broken", "vendor");
            assert_eq!(document["retryable"], false);
            let all = gateway.get(&format!("{list}&truto_ignore_limit=true")).await;
            match mood {
                Mood::Loop => drop(problem(&all, 502, "vendor_paging_broken", "vendor")),
                _ => assert_eq!(all.json()["result_count"], 5, "all five stand on one page"),
            }
            let filtered = gateway.get(&format!("{list}&status=invited")).await;
            problem(&filtered, 502, "vendor_paging_broken", "vendor");
            assert!(vendor.asked() - asked < 20, "{mood:?}: the vendor was asked {} times", vendor.asked() - asked);
        }
        is_sound(&gateway);
    }
}

#[tokio::test]
async fn a_refused_credential_is_not_stored_and_a_dead_one_asks_for_a_new_link() {
    for kept in Kept::each() {
        let (vendor, gateway, account) = linked(&kept).await;
        let mut wrong = vendor.import();
        wrong["context"]["token"] = json!("another-secret-nobody-may-see");
        let refused = gateway.call("POST", "/integrated-account", Some(&wrong)).await;
        problem(&refused, 422, "credential_refused", "vendor");
        assert!(!refused.text().contains("another-secret"));
        assert_eq!(accounts(&gateway).await, [account.clone()]);
        vendor.set(Mood::Unauthorized);
        let list = format!("{USERS}?integrated_account_id={account}");
        for _ in 0..3 {
            let answer = gateway.get(&list).await;
            problem(&answer, 401, "reauth_required", "vendor");
            assert_eq!(answer.header("www-authenticate"), None);
        }
        let shown = gateway.get(&format!("/integrated-account/{account}")).await;
        assert_eq!(shown.json()["status"], "needs_reauth", "{}", shown.text());
        assert!(!shown.text().contains(SECRET));
        vendor.set(Mood::Good);
        let again =
            gateway.call("PATCH", &format!("/integrated-account/{account}"), Some(&json!({"context": {"token": SECRET}}))).await;
        assert_eq!((again.status, &again.json()["status"]), (200, &json!("active")), "{}", again.text());
        assert_eq!(gateway.walk(&list).await.len(), 5);
        is_sound(&gateway);
    }
}

#[tokio::test]
async fn a_body_that_is_wrong_says_where() {
    let kept = Kept::embedded();
    let (vendor, gateway, account) = linked(&kept).await;
    let asked = vendor.asked();
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut body = vendor.import();
        change(&mut body);
        body
    };
    for (body, status, code, field) in [
        (changed(&|b| b["integration"] = json!("nonsense")), 400, "invalid_body", Some("integration")),
        (changed(&|b| b["authentication_method"] = json!("telepathy")), 400, "invalid_body", Some("authentication_method")),
        (changed(&|b| b["tenant_id"] = json!("")), 400, "invalid_body", Some("tenant_id")),
        (changed(&|b| drop(b["context"].as_object_mut().unwrap().remove("token"))), 422, "invalid_field", Some("context.token")),
        (changed(&|b| b["context"]["base_url"] = json!("not an address")), 422, "invalid_field", Some("context.base_url")),
        (changed(&|b| b["context"]["base_url"] = json!("https://10.1.2.3/scim")), 422, "egress_refused", None),
        (changed(&|b| b["context"]["base_url"] = json!("http://169.254.169.254/latest")), 422, "", None),
        (changed(&|b| b["context"]["token"] = json!("***")), 422, "invalid_field", Some("context.token")),
        (changed(&|b| b["context"]["token"] = json!(5)), 422, "invalid_field", Some("context.token")),
        (changed(&|b| b["context"]["token"] = json!(true)), 422, "invalid_field", Some("context.token")),
        (changed(&|b| b["surprise"] = json!(1)), 400, "invalid_body", Some("surprise")),
        (changed(&|b| b["tenant_id"] = json!(5)), 400, "invalid_body", Some("tenant_id")),
        (changed(&|b| b["context"] = json!(["x"])), 400, "invalid_body", Some("context")),
        (json!([]), 400, "invalid_body", None),
        (json!(["acme", "scim", null, "bearer", {}]), 400, "invalid_body", None),
        (json!("text"), 400, "invalid_body", None),
    ] {
        let answer = gateway.call("POST", "/integrated-account", Some(&body)).await;
        assert!(!answer.text().contains("struct"), "{}", answer.text());
        let code = if code.is_empty() { answer.code() } else { code.to_owned() };
        let document = problem(&answer, status, &code, "gateway");
        assert!(field.is_none_or(|field| document["field"] == field), "{document}");
    }
    let token = json!({"name": "x", "scopes": ["directory:read"], "expires_at": "tomorrow"});
    names(&gateway.call("POST", "/api-token", Some(&token)).await, 400, "invalid_body", "expires_at");
    assert_eq!(vendor.asked(), asked);
    assert_eq!(accounts(&gateway).await, [account]);
    is_sound(&gateway);
}

#[tokio::test]
async fn a_scope_that_does_not_exist_is_answered_with_those_that_do() {
    let gateway = Gateway::start(&Kept::embedded(), "");
    for scopes in [json!(["directory:read", "directory:raed"]), json!(["ADMIN"]), json!([""])] {
        let answer = gateway.call("POST", "/api-token", Some(&json!({"name": "n", "scopes": scopes}))).await;
        let document = names(&answer, 400, "invalid_body", "scopes");
        let detail = document["detail"].as_str().unwrap();
        assert!(Scope::ALL.iter().all(|scope| detail.contains(&format!("`{scope}`"))), "{detail}");
    }
    for (body, field) in [
        (json!({"name": "n", "scopes": []}), "scopes"),
        (json!({"name": "n", "scopes": "admin"}), "scopes"),
        (json!({"name": "", "scopes": ["admin"]}), "name"),
        (json!({"name": "n\n", "scopes": ["admin"]}), "name"),
        (json!({"name": "n", "scopes": ["admin"], "expires_at": "soon"}), "expires_at"),
    ] {
        names(&gateway.call("POST", "/api-token", Some(&body)).await, 400, "invalid_body", field);
    }
    assert_eq!(gateway.get("/api-token").await.json()["result"], json!([]), "nothing was made");
    is_sound(&gateway);
}

/// What is no field of the link method is the caller's own and kept readable: nothing that may be a slip or a secret.
#[tokio::test]
async fn a_misspelt_field_or_a_secret_is_not_kept_as_a_label() {
    let kept = Kept::embedded();
    let (vendor, gateway, account) = linked(&kept).await;
    let asked = vendor.asked();
    let path = format!("/integrated-account/{account}");
    for (context, field, hint) in [
        (json!({"baseUrl": SECRET}), "context.baseUrl", "`base_url`"),
        (json!({"base-url": SECRET}), "context.base-url", "`base_url`"),
        (json!({"base_ulr": SECRET}), "context.base_ulr", "`base_url`"),
        (json!({"Token": SECRET}), "context.Token", "`token`"),
        (json!({"tokne": SECRET}), "context.tokne", "`token`"),
        (json!({"apikey": SECRET}), "context.apikey", "base_url, token"),
        (json!({"webhook_secret": SECRET}), "context.webhook_secret", "base_url, token"),
        (json!({"crm": {"logins": [{"password": SECRET}]}}), "context.crm.logins.password", "base_url, token"),
    ] {
        let mut import = vendor.import();
        import["context"].as_object_mut().unwrap().extend(context.as_object().unwrap().clone());
        for answer in [
            gateway.call("POST", "/integrated-account", Some(&import)).await,
            gateway.call("PATCH", &path, Some(&json!({"context": context}))).await,
        ] {
            let document = names(&answer, 422, "invalid_field", field);
            assert!(document["detail"].as_str().unwrap().contains(hint), "{document}");
        }
    }
    assert_eq!(vendor.asked(), asked);
    assert_eq!(accounts(&gateway).await, std::slice::from_ref(&account));

    let labels = json!({"crm_id": "c-1", "plan": {"tier": "gold", "seats": 5}, "shipping": "north", "tokne": null});
    let answer = gateway.call("PATCH", &path, Some(&json!({"context": labels}))).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let context = gateway.get(&path).await.json()["context"].clone();
    assert_eq!(
        (&context["crm_id"], &context["plan"]["tier"], &context["shipping"]),
        (&json!("c-1"), &json!("gold"), &json!("north"))
    );
    assert_eq!(context["tokne"], Value::Null);
    is_sound(&gateway);
}

#[tokio::test]
async fn what_the_vendor_calls_otherwise_is_answered_with_its_names() {
    let kept = Kept::embedded();
    let (_vendor, gateway, account) = linked(&kept).await;
    for (path, own) in [("/proxy/users", "users"), ("/proxy/users/1", "users"), ("/proxy/nonsense", "nonsense")] {
        let answer = gateway.get(&format!("{path}?integrated_account_id={account}")).await;
        let document = problem(&answer, 404, "resource_not_supported", "gateway");
        let expected = format!("SCIM 2.0, linked by `bearer`, has no `{own}`; it has `Users`, `Groups`, `group_members`.");
        assert_eq!(document["detail"], expected);
    }
    let answer = gateway.get(&format!("/proxy/roles?integrated_account_id={account}")).await;
    let document = problem(&answer, 404, "resource_not_supported", "gateway");
    assert!(document["detail"].as_str().unwrap().starts_with("SCIM 2.0, linked by `bearer`, has no `roles`: "), "{document}");
}

#[tokio::test]
async fn a_path_that_is_no_route_is_not_found_and_a_route_names_its_methods() {
    let kept = Kept::embedded();
    let (vendor, gateway, account) = linked(&kept).await;
    let asked = vendor.asked();
    let directory = "/unified/user-directory";
    for with_account in [true, false] {
        let query = if with_account { format!("?integrated_account_id={account}") } else { String::new() };
        for path in ["groups//members", "users/1/groups", "roles/r/members", "users/1/meta/list"] {
            for method in ["GET", "POST", "DELETE"] {
                let answer = gateway.call(method, &format!("{directory}/{path}{query}"), None).await;
                problem(&answer, 404, "route_not_found", "gateway");
            }
        }
        for (method, path, allow) in [
            ("PUT", "users", "GET, HEAD, POST"),
            ("PUT", "users/1", "DELETE, GET, HEAD, PATCH"),
            ("PUT", "groups/1", "DELETE, GET, HEAD, PATCH"),
            ("GET", "groups/x/members/y", "DELETE"),
        ] {
            let answer = gateway.call(method, &format!("{directory}/{path}{query}"), None).await;
            problem(&answer, 405, "method_not_supported", "gateway");
            assert_eq!(answer.header("allow"), Some(allow), "{method} {path}");
        }
    }
    assert_eq!(vendor.asked(), asked);
}

fn mistaken(folder: &Path) {
    overlay(folder, |name, text| match name {
        "users.yaml" => text.replace("page: { style: scim, max: 100 }", "page: { style: telepathy, max: 100 }"),
        _ => text,
    });
}

#[tokio::test]
async fn a_broken_connector_folder_is_shown_and_the_built_in_one_keeps_working() {
    for kept in Kept::each() {
        let vendor = Vendor::start();
        let folder = kept.folder().join("connectors");
        mistaken(&folder);
        let dir = folder.to_str().unwrap();
        let gateway = Gateway::start_with(&kept, &vendor.authority(), &[("ROLLCALL_CONNECTORS_DIR", dir)]);
        let ready = gateway.get("/readyz").await;
        assert_eq!(ready.status, 200, "{}", ready.text());
        let warnings = ready.json()["connectors"]["warnings"].to_string();
        assert!(warnings.contains("scim/users.yaml:7:") && warnings.contains("telepathy"), "{warnings}");
        let account = gateway.link("scim", "bearer", vendor.context()).await;
        assert_eq!(gateway.walk(&format!("{USERS}?integrated_account_id={account}")).await.len(), 5);
        assert!(gateway.stop());

        let (code, said, _) = run(command(&["doctor"]).envs(kept.settings()).env("ROLLCALL_CONNECTORS_DIR", dir));
        assert!(code == Some(1) && said.contains("BAD") && said.contains("scim/users.yaml:7:"), "{code:?} {said}");
        let (code, said, _) = run(&mut command(&["check", dir]));
        assert!(code == Some(1) && said.contains("scim/users.yaml:7:") && said.contains("hint:"), "{code:?} {said}");
    }
}
