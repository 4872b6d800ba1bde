//! SCIM vendors: real servers behind the real binary.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::vendor::{is_sound, names, problem};
use crate::support::{
    gateway::{Answer, Gateway, Kept},
    house::authority,
    peers::{self, Peer},
};

const USERS: &str = "/unified/user-directory/users";

/// A gateway in front of a peer, linked.
async fn linked(kept: &Kept, peer: &Peer) -> (Gateway, String) {
    let gateway = Gateway::start(kept, &authority(peer.base()));
    let account = gateway.link("scim", "bearer", json!({"base_url": peer.base(), "token": peer.told("token")})).await;
    (gateway, account)
}

fn ids(users: &[Value]) -> BTreeSet<&str> {
    users.iter().map(|user| user["id"].as_str().unwrap()).collect()
}

fn result(answer: &Answer) -> Vec<Value> {
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["result"].as_array().unwrap_or_else(|| panic!("no list: {}", answer.text())).clone()
}

/// Asks the peer itself.
async fn direct(peer: &Peer, path: &str) -> Vec<u8> {
    let request = crate::support::gateway::client().get(format!("{}{path}", peer.base())).bearer_auth(peer.told("token"));
    request.send().await.unwrap().bytes().await.unwrap().to_vec()
}

#[tokio::test]
async fn every_user_is_listed_across_pages_on_both_stores() {
    for kept in Kept::each() {
        for cursor in [&["--users", "25"][..], &["--users", "25", "--cursor"]] {
            let peer = peers::scim2_server(cursor);
            let (gateway, account) = linked(&kept, &peer).await;
            for limit in [1, 7, 25, 100] {
                let users = gateway.walk(&format!("{USERS}?integrated_account_id={account}&limit={limit}")).await;
                assert_eq!((users.len(), ids(&users).len()), (25, 25), "{cursor:?}, limit {limit}");
            }
            is_sound(&gateway);
        }
    }
}

#[tokio::test]
async fn the_parameters_of_a_list_do_what_the_contract_says() {
    let peer = peers::scim2_server(&["--users", "12"]);
    for kept in Kept::each() {
        let (gateway, account) = linked(&kept, &peer).await;
        let list = format!("{USERS}?integrated_account_id={account}");
        let page = gateway.get(&format!("{list}&limit=5&next_cursor=")).await.json();
        assert_eq!(
            (&page["result_count"], &page["complete"], &page["is_partial_response"]),
            (&json!(5), &json!(true), &json!(false))
        );
        assert_eq!((&page["prev_cursor"], &page["warnings"]), (&Value::Null, &json!([])), "{page}");
        assert_eq!(page["filters"], json!({"vendor": [], "gateway": []}));
        assert!(page["next_cursor"].is_string());
        let first = &page["result"][0];
        let (id, name) = (first["id"].as_str().unwrap(), first["username"].as_str().unwrap());
        assert_eq!(first["remote_data"]["userName"], name);
        assert_eq!(first["emails"][0], json!({"email": name, "type": "work", "is_primary": true}), "{first}");

        let bare = result(&gateway.get(&format!("{list}&limit=5&truto_ignore_remote_data=true")).await);
        assert!(bare.iter().all(|user| user.get("remote_data").is_none() && user["id"].is_string()));
        let less = result(&gateway.get(&format!("{list}&truto_exclude_fields=emails,name")).await);
        assert!(
            less.iter().all(|user| user.get("emails").is_none() && user.get("name").is_none() && user["username"].is_string())
        );
        let keyed = gateway.get(&format!("{list}&limit=5&truto_key_by=username")).await.json();
        assert_eq!(keyed["result"][name]["id"], id, "{keyed}");
        assert_eq!(keyed["result"].as_object().unwrap().len(), 5);
        let all = gateway.get(&format!("{list}&limit=5&truto_ignore_limit=true")).await.json();
        assert_eq!((&all["result_count"], &all["next_cursor"]), (&json!(12), &Value::Null));

        let raw = result(&gateway.get(&format!("{list}&limit=5&truto_response_format=raw")).await);
        assert_eq!(raw[0], first["remote_data"]);
        let normalized = result(&gateway.get(&format!("{list}&limit=5&truto_response_format=normalized")).await);
        assert!(normalized[0].get("remote_data").is_none());
        assert_eq!(normalized[0]["id"], id);
        let debug = gateway.get(&format!("{list}&limit=5&truto_response_format=debug")).await.json();
        assert_eq!((&debug["debug"]["resultCount"], &debug["debug"]["isLooping"]), (&json!(5), &json!(false)), "{debug}");
        assert_eq!(debug["result"][0]["id"], id);
        is_sound(&gateway);
    }
}

#[tokio::test]
async fn one_user_comes_bare_or_in_an_envelope() {
    let peer = peers::scim2_server(&["--users", "3"]);
    for kept in Kept::each() {
        let (gateway, account) = linked(&kept, &peer).await;
        let users = result(&gateway.get(&format!("{USERS}?integrated_account_id={account}")).await);
        let path = format!("{USERS}/{}?integrated_account_id={account}", users[1]["id"].as_str().unwrap());
        assert_eq!(gateway.get(&path).await.json(), users[1]);
        let wrapped = gateway.get(&format!("{path}&envelope=true")).await.json();
        assert_eq!(wrapped, json!({"result": users[1], "warnings": []}));
        let less = gateway.get(&format!("{path}&truto_ignore_remote_data=true&truto_exclude_fields[]=emails")).await.json();
        assert!(less.get("remote_data").is_none() && less.get("emails").is_none() && less["id"] == users[1]["id"], "{less}");
        let raw = gateway.get(&format!("{path}&truto_response_format=raw")).await.json();
        assert_eq!(raw, users[1]["remote_data"]);
        let missing = gateway.get(&format!("{USERS}/nobody?integrated_account_id={account}")).await;
        assert_eq!((missing.status, missing.json()["code"].as_str().is_some()), (404, true), "{}", missing.text());
    }
}

#[tokio::test]
async fn filters_are_pushed_or_evaluated_and_the_answer_says_which() {
    let peer = peers::scim2_server(&["--users", "15"]);
    for kept in Kept::each() {
        let (gateway, account) = linked(&kept, &peer).await;
        let list = format!("{USERS}?integrated_account_id={account}");
        for form in [
            "emails[email]=user00003@scim2.example",
            "emails%5Bemail%5D=user00003%40scim2.example",
            "filters[emails][email]=user00003@scim2.example",
            "filters%5Bemails%5D%5Bemail%5D=USER00003@scim2.example",
        ] {
            let page = gateway.get(&format!("{list}&{form}")).await;
            assert_eq!(page.status, 200, "{form}: {}", page.text());
            let page = page.json();
            assert_eq!((&page["result_count"], &page["next_cursor"]), (&json!(1), &Value::Null), "{form}: {page}");
            assert_eq!(page["result"][0]["username"], "user00003@scim2.example");
            assert_eq!(page["filters"], json!({"vendor": ["emails[email]"], "gateway": []}), "{form}");
        }
        for form in ["status=inactive", "filters[status]=inactive", "status[]=inactive", "status[in]=inactive,deleted"] {
            let users = gateway.walk(&format!("{list}&limit=2&{form}")).await;
            let wanted = BTreeSet::from(["user00007@scim2.example", "user00014@scim2.example"]);
            assert_eq!(users.iter().map(|user| user["username"].as_str().unwrap()).collect::<BTreeSet<_>>(), wanted, "{form}");
        }
        let page = gateway.get(&format!("{list}&filters[status]=inactive")).await.json();
        assert_eq!(page["filters"], json!({"vendor": [], "gateway": ["status"]}));
        let none = gateway.get(&format!("{list}&status=invited")).await.json();
        assert_eq!((&none["result"], &none["next_cursor"]), (&json!([]), &Value::Null));
    }
}

#[tokio::test]
async fn groups_members_and_what_scim_lacks() {
    let peer = peers::scim2_server(&["--users", "6"]);
    for kept in Kept::each() {
        let (gateway, account) = linked(&kept, &peer).await;
        let query = format!("integrated_account_id={account}");
        let groups = result(&gateway.get(&format!("/unified/user-directory/groups?{query}")).await);
        assert_eq!((groups.len(), &groups[0]["name"]), (1, &json!("Everybody")));
        let id = groups[0]["id"].as_str().unwrap();
        assert_eq!(gateway.get(&format!("/unified/user-directory/groups/{id}?{query}")).await.json()["name"], "Everybody");
        let members = gateway.walk(&format!("/unified/user-directory/groups/{id}/members?{query}&limit=2")).await;
        assert_eq!((members.len(), ids(&members).len()), (5, 5));
        assert_eq!((&members[0]["type"], &members[0]["name"]), (&json!("user"), &json!("User 1")), "{}", members[0]);
        let missing = gateway.get(&format!("/unified/user-directory/groups/nothing/members?{query}")).await;
        assert_eq!(missing.status, 404, "{}", missing.text());

        let capabilities = gateway.get(&format!("/integrated-account/{account}/capabilities")).await.json();
        for resource in ["roles", "organizations", "workspaces", "me", "role_assignments", "licenses", "activities"] {
            let refused = problem(
                &gateway.get(&format!("/unified/user-directory/{resource}?{query}")).await,
                404,
                "resource_not_supported",
                "gateway",
            );
            let listed = capabilities["not_supported"].as_array().unwrap().iter().find(|r| r["resource"] == resource);
            let reason = listed.unwrap_or_else(|| panic!("{resource} is not in {capabilities}"))["reason"].as_str().unwrap();
            assert!(refused["detail"].as_str().unwrap().contains(reason), "{refused}");
        }
        let offered: BTreeSet<&str> =
            capabilities["unified"].as_array().unwrap().iter().map(|r| r["resource"].as_str().unwrap()).collect();
        assert!(offered.contains("users") && offered.contains("groups"), "{capabilities}");
        let body = json!({"name": "x"});
        let refused = gateway.call("PATCH", &format!("{USERS}?{query}"), Some(&body)).await;
        problem(&refused, 405, "method_not_supported", "gateway");
        assert!(refused.header("allow").is_some_and(|allow| allow.contains("GET")));
        let meta = gateway.get(&format!("{USERS}/meta/list?{query}")).await.json();
        assert_eq!(meta["method"], "list");
        assert!(meta["query_schema"]["properties"]["emails[email]"].is_object(), "{meta}");
        assert!(meta["response_mapping"]["username"].is_object() || meta["response_mapping"]["username"].is_string(), "{meta}");
        problem(
            &gateway.get(&format!("/unified/user-directory/roles/meta/list?{query}")).await,
            404,
            "resource_not_supported",
            "gateway",
        );
        let discovered = gateway.get("/integration").await.json();
        let slugs: BTreeSet<&str> =
            discovered["result"].as_array().unwrap().iter().map(|i| i["name"].as_str().unwrap()).collect();
        assert!(slugs.contains("scim") && slugs.contains("keeper"), "{discovered}");
        let general = gateway.get("/integration/scim/capabilities").await.json();
        for part in ["unified", "not_supported"] {
            let names =
                |document: &Value| -> Vec<Value> { document.as_array().unwrap().iter().map(|r| r["resource"].clone()).collect() };
            assert_eq!(names(&general[part]), names(&capabilities[part]), "{part}");
        }
    }
}

#[tokio::test]
async fn the_vendors_own_resources_are_reachable_by_proxy_and_passthrough() {
    let peer = peers::scim2_server(&["--users", "8"]);
    for kept in Kept::each() {
        let (gateway, account) = linked(&kept, &peer).await;
        let users = gateway.walk(&format!("/proxy/Users?integrated_account_id={account}&limit=3")).await;
        assert_eq!((users.len(), ids(&users).len()), (8, 8));
        assert!(users[0]["userName"].is_string() && users[0].get("username").is_none());
        let id = users[0]["id"].as_str().unwrap();
        let one = gateway.get(&format!("/proxy/Users/{id}?integrated_account_id={account}")).await;
        assert_eq!(one.text(), String::from_utf8(direct(&peer, &format!("/Users/{id}")).await).unwrap());
        problem(
            &gateway.get(&format!("/proxy/Machines?integrated_account_id={account}")).await,
            404,
            "resource_not_supported",
            "gateway",
        );
        names(
            &gateway.get(&format!("/proxy/Users?integrated_account_id={account}&truto_x=1")).await,
            400,
            "invalid_parameter",
            "truto_x",
        );

        for (path, raw) in [
            ("Users?count=3&startIndex=2", "/Users?count=3&startIndex=2"),
            (
                "Users?filter=userName%20eq%20%22user00002@scim2.example%22",
                "/Users?filter=userName%20eq%20%22user00002@scim2.example%22",
            ),
            ("ServiceProviderConfig", "/ServiceProviderConfig"),
        ] {
            let through = gateway.get(&format!("/passthrough/{account}/{path}")).await;
            assert_eq!(through.status, 200, "{}", through.text());
            assert_eq!(through.body, direct(&peer, raw).await, "{path}");
        }
        let through = gateway.get(&format!("/passthrough/-/Users?count=3&integrated_account_id={account}&startIndex=2")).await;
        assert_eq!(through.body, direct(&peer, "/Users?count=3&startIndex=2").await);
        let missing = gateway.get(&format!("/passthrough/{account}/Users/nobody")).await;
        assert_eq!((missing.status, missing.header("rollcall-error")), (404, None), "the vendor's own errors are handed on");
        assert_eq!(missing.body, direct(&peer, "/Users/nobody").await);
        problem(&gateway.get(&format!("/passthrough/{account}//Users")).await, 400, "invalid_path", "gateway");
    }
}

#[tokio::test]
async fn scimmy_on_express_4_gives_every_user_once() {
    for kept in Kept::each() {
        let peer = peers::scimmy(4, 45);
        let (gateway, account) = linked(&kept, &peer).await;
        for limit in [7, 20, 100] {
            let users = gateway.walk(&format!("{USERS}?integrated_account_id={account}&limit={limit}")).await;
            assert_eq!((users.len(), ids(&users).len()), (45, 45), "limit {limit}");
        }
        let groups = result(&gateway.get(&format!("/unified/user-directory/groups?integrated_account_id={account}")).await);
        assert_eq!(groups[0]["name"], "Everybody");
        let members =
            gateway.walk(&format!("/unified/user-directory/groups/g1/members?integrated_account_id={account}&limit=2")).await;
        assert_eq!(members.len(), 5);
    }
}

/// On Express 5 scimmy-routers loses the query and always answers the first page of 20.
#[tokio::test]
async fn scimmy_on_express_5_ignores_paging_and_the_walk_ends_in_an_error() {
    for kept in Kept::each() {
        let peer = peers::scimmy(5, 45);
        let (gateway, account) = linked(&kept, &peer).await;
        for limit in [7, 20, 100] {
            let (mut cursor, mut seen, mut ended) = (String::new(), Vec::new(), None);
            for _ in 0..5 {
                let path = format!("{USERS}?integrated_account_id={account}&limit={limit}&next_cursor={cursor}");
                let answer = gateway.get(&path).await;
                if answer.status != 200 {
                    ended = Some(answer);
                    break;
                }
                let page = answer.json();
                seen.extend(page["result"].as_array().unwrap().iter().map(|user| user["id"].as_str().unwrap().to_owned()));
                page["next_cursor"].as_str().expect("45 users are not all said").clone_into(&mut cursor);
            }
            let ended = ended.unwrap_or_else(|| panic!("limit {limit}: the walk goes on after {}", seen.len()));
            let document = problem(&ended, 502, "vendor_paging_broken", "vendor");
            assert_eq!(document["retryable"], false);
            assert_eq!(seen.iter().collect::<BTreeSet<_>>().len(), seen.len(), "no record was given out twice");
        }
        is_sound(&gateway);
    }
}
