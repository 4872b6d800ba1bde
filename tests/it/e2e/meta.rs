//! What is said about every cell, and what a call of that cell answers: `/capabilities`, `/meta`, `/tools`, the call itself.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Stdio},
};

use serde_json::{Value, json};

use super::vendor::{Vendor, names};
use crate::support::gateway::{Gateway, Kept, client, command};

struct Demo {
    child: Child,
    base: String,
    token: String,
    accounts: Vec<(String, String)>,
}

impl Demo {
    fn start(folder: &std::path::Path) -> Demo {
        let mut command = command(&["demo", "--port", "0", "--json"]);
        let mut child =
            command.env("TMPDIR", folder).current_dir(folder).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let said: Value = serde_json::from_str(&line).unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let accounts = said["accounts"].as_array().unwrap().iter().map(|a| (text(&a["id"]), text(&a["integration"]))).collect();
        Demo { child, base: text(&said["base_url"]), token: text(&said["token"]), accounts }
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        let answer = client().get(format!("{}{path}", self.base)).bearer_auth(&self.token).send().await.unwrap();
        let status = answer.status().as_u16();
        let body = answer.bytes().await.unwrap();
        (status, serde_json::from_slice(&body).unwrap_or_else(|why| panic!("{path}: {why}")))
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const RESOURCES: [&str; 9] =
    ["users", "groups", "roles", "organizations", "workspaces", "me", "role_assignments", "licenses", "activities"];

fn offers(capabilities: &Value, part: &str, resource: &str, method: &str) -> bool {
    let listed = capabilities[part].as_array().unwrap().iter().find(|entry| entry["resource"] == resource);
    let methods = listed.map(|entry| entry["methods"].as_array().unwrap().clone()).unwrap_or_default();
    methods.iter().any(|known| known == method || known["method"] == method)
}

#[tokio::test]
async fn what_is_said_of_each_cell_is_what_its_call_answers() {
    let folder = tempfile::tempdir().unwrap();
    let demo = Demo::start(folder.path());
    assert!(demo.accounts.len() >= 2);
    for (account, integration) in &demo.accounts {
        let (_, capabilities) = demo.get(&format!("/integrated-account/{account}/capabilities")).await;
        let (mut offered, mut refused) = (0, 0);
        for resource in RESOURCES {
            let list = format!("/unified/user-directory/{resource}?integrated_account_id={account}&limit=1");
            let (status, page) = demo.get(&list).await;
            let meta = |method: &str| format!("/unified/user-directory/{resource}/meta/{method}?integrated_account_id={account}");
            let (known, described) = demo.get(&meta("list")).await;
            assert_eq!(status, known, "{integration} {resource} list: {page} {described}");
            assert_eq!(
                status == 200,
                offers(&capabilities, "unified", resource, "list"),
                "{integration} {resource} list: {page}"
            );
            let id = page["result"][0]["id"].as_str().unwrap_or("nobody").to_owned();
            let id = url::form_urlencoded::byte_serialize(id.as_bytes()).collect::<String>().replace('+', "%20");
            let one = format!("/unified/user-directory/{resource}/{id}?integrated_account_id={account}");
            let (got, record) = demo.get(&one).await;
            let (known_one, described_one) = demo.get(&meta("get")).await;
            let can_get = offers(&capabilities, "unified", resource, "get");
            assert_eq!(known_one == 200, can_get, "{integration} {resource} get: {described_one}");
            assert_eq!(got == 200, can_get, "{integration} {resource} get: {record}");
            // `/me` is one, so that there is no path for one of them.
            if status == 200 && !can_get && resource != "me" {
                assert_eq!(record["code"], described_one["code"], "{integration} {resource} get: {record}");
                assert!(record["detail"].as_str().is_some_and(|why| why.contains("https://")), "{integration}: {record}");
            }
            if resource == "users" {
                let (refused, lesser) = demo.get(&meta("downgrade")).await;
                assert_eq!((refused, &lesser["code"]), (405, &json!("method_not_supported")), "{integration}: {lesser}");
                assert!(lesser["detail"].as_str().is_some_and(|why| why.contains("https://")), "{integration}: {lesser}");
            }
            if status == 200 {
                offered += 1;
                check_filters(&demo, &list, &described, &capabilities, resource).await;
            } else {
                refused += 1;
                assert_eq!(page["code"], described["code"], "{integration} {resource}");
            }
        }
        println!("{integration}: {offered} lists, {refused} refusals");
        assert!(offered >= 2, "{integration}");
        check_tools(&demo, account, &capabilities).await;
        check_members(&demo, account, &capabilities).await;
    }
}

/// What stands below a group is described like everything else that `/capabilities` lists.
async fn check_members(demo: &Demo, account: &str, capabilities: &Value) {
    for method in ["list", "get", "create", "update", "delete"] {
        let path = format!("/unified/user-directory/group_members/meta/{method}?integrated_account_id={account}");
        let (status, described) = demo.get(&path).await;
        assert_eq!(status == 200, offers(capabilities, "unified", "group_members", method), "{method}: {described}");
        if status == 200 {
            assert!(described["query_schema"]["required"].as_array().unwrap().contains(&json!("group_id")), "{described}");
        }
        if status == 200 && method == "create" {
            let body = &described["request_body_schema"];
            let takes: Vec<&str> = body["properties"].as_object().unwrap().keys().map(String::as_str).collect();
            assert_eq!((takes, &body["required"]), (vec!["id", "type", "remote_data"], &json!(["id"])), "{described}");
        }
    }
}

/// Every filter that `meta` names is one that `/capabilities` names, and is taken.
async fn check_filters(demo: &Demo, list: &str, described: &Value, capabilities: &Value, resource: &str) {
    let filters = described["query_schema"]["properties"].as_object().unwrap();
    let listed = capabilities["unified"].as_array().unwrap().iter().find(|entry| entry["resource"] == resource).unwrap();
    let named: Vec<_> = listed["filters"].as_array().unwrap().iter().map(|filter| filter["field"].as_str().unwrap()).collect();
    assert!(named.len() == filters.len() && named.iter().all(|name| filters.contains_key(*name)), "{resource}: {named:?}");
    for filter in listed["filters"].as_array().unwrap() {
        let field = filter["field"].as_str().unwrap();
        assert_eq!(filters[field]["x-operators"], filter["operators"], "{resource} {field}");
        assert_eq!(filters[field]["x-evaluated-by"], filter["evaluated_by"], "{resource} {field}");
        assert_eq!(filters[field]["x-vendor-operators"], filter["vendor_operators"], "{resource} {field}");
        let has = |op: &str| filter["operators"].as_array().unwrap().contains(&json!(op));
        let value = if has("gte") {
            "2020-01-01T00:00:00Z"
        } else if has("in") {
            "active"
        } else {
            "true"
        };
        // Whom an event is not found for, every company is asked; one is enough here.
        let few = if resource == "activities" && !field.starts_with("organization") { "&organization=8560" } else { "" };
        let (status, answer) = demo.get(&format!("{list}&{field}={value}{few}")).await;
        let unknown_word = answer["field"] == field && answer["detail"].as_str().is_some_and(|detail| detail.contains("takes"));
        assert!(status == 200 || unknown_word, "{resource} {field}={value}: {answer}");
    }
}

/// Every tool is a method of `/capabilities` under the same name, takes what it says and can be called.
async fn check_tools(demo: &Demo, account: &str, capabilities: &Value) {
    let (status, tools) = demo.get(&format!("/integrated-account/{account}/tools")).await;
    assert_eq!(status, 200, "{tools}");
    let tools = tools["result"].as_array().unwrap();
    let methods: usize =
        capabilities["proxy"].as_array().unwrap().iter().map(|entry| entry["methods"].as_array().unwrap().len()).sum();
    assert!(tools.len() == methods && methods >= 4, "{tools:?}");
    let mut names: Vec<_> = tools.iter().map(|tool| tool["name"].as_str().unwrap()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), tools.len(), "two tools of one name");
    for tool in tools {
        let (resource, method) = (tool["resource"].as_str().unwrap(), tool["method"].as_str().unwrap());
        assert!(capabilities["proxy"].to_string().contains(tool["name"].as_str().unwrap()), "{tool}");
        assert!(tool["description"].as_str().is_some_and(|text| !text.is_empty()), "{tool}");
        assert_eq!(tool["body_schema"].is_null(), matches!(method, "list" | "get" | "delete"), "{tool}");
        assert!(tool["query_schema"]["type"] == "object" && tool["response_schema"]["type"] == "object", "{tool}");
        let list = format!("/proxy/{resource}?integrated_account_id={account}&limit=1");
        let needs_group = tool["required"] == json!(["group_id"]);
        assert_eq!(needs_group, resource.contains("ember"), "{tool}");
        let needs_id = tool["required"] == json!(["id"]);
        assert_eq!(needs_id, matches!(method, "get" | "update" | "delete"), "{tool}");
        if method == "list" {
            let (status, answer) = demo.get(&list).await;
            assert!(status == 200 || resource.contains("ember"), "{tool}: {answer}");
        }
    }
    let (_, lists) = demo.get(&format!("/integrated-account/{account}/tools?methods=list")).await;
    assert!(lists["result"].as_array().unwrap().iter().all(|tool| tool["method"] == "list"));
}

#[tokio::test]
async fn bad_questions_about_tools_and_connectors_name_their_field() {
    let (kept, vendor) = (Kept::embedded(), Vendor::start());
    let gateway = Gateway::start(&kept, &vendor.authority());
    let account = gateway.link("scim", "bearer", vendor.context()).await;
    for path in ["/integration/scim/tools".to_owned(), format!("/integrated-account/{account}/tools")] {
        assert_eq!(gateway.get(&path).await.status, 200);
        names(&gateway.get(&format!("{path}?methods=destroy")).await, 400, "invalid_parameter", "methods");
        names(&gateway.get(&format!("{path}?tags=a")).await, 400, "invalid_parameter", "tags");
    }
    assert_eq!(gateway.get("/integration/nobody/tools").await.code(), "not_found");
    let connected = async |query: &str| {
        let answer = gateway.get(&format!("/integration?{query}")).await.json();
        answer["result"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(connected("connected=true").await, ["scim"]);
    assert_eq!(connected("tenant_id=acme&connected=true").await, ["scim"]);
    assert!(connected("tenant_id=nobody&connected=true").await.is_empty());
    assert!(!connected("connected=false").await.contains(&"scim".to_owned()));
    names(&gateway.get("/integration?connected=perhaps").await, 400, "invalid_parameter", "connected");
}

/// `/capabilities` and `/tools` show what was asked for, and say what cannot be asked.
#[tokio::test]
async fn capabilities_and_tools_are_narrowed_by_their_filters() {
    let folder = tempfile::tempdir().unwrap();
    let demo = Demo::start(folder.path());
    let (account, _) = demo.accounts.iter().find(|(_, integration)| integration == "keeper").unwrap();
    let ask = async |query: &str| demo.get(&format!("/integrated-account/{account}/capabilities{query}")).await.1;
    let names = |document: &Value, part: &str, key: &str| -> Vec<String> {
        document[part].as_array().unwrap().iter().map(|entry| entry[key].as_str().unwrap().to_owned()).collect()
    };
    let all = ask("").await;
    let (proxy, unified) = (names(&all, "proxy", "resource"), names(&all, "unified", "resource"));
    assert!(proxy.len() > 3 && unified.len() > 5, "{all}");
    let only = ask("?type=proxy").await;
    assert_eq!((names(&only, "proxy", "resource"), &only["unified"]), (proxy.clone(), &json!([])));
    let only = ask("?type=unified").await;
    assert_eq!((names(&only, "unified", "resource"), &only["proxy"]), (unified.clone(), &json!([])));
    let only = ask("?resource=users").await;
    assert_eq!(names(&only, "unified", "resource"), ["users"]);
    assert!(names(&only, "proxy", "resource").len() <= 1, "{only}");
    let none = ask("?has_description=false").await;
    assert_eq!(none["proxy"], json!([]), "every method is described");
    assert_eq!(names(&ask("?has_description=true").await, "proxy", "resource"), proxy);
    let creating = ask("?methods=create").await;
    let methods = |part: &Value| {
        part.as_array().unwrap().iter().flat_map(|entry| entry["methods"].as_array().unwrap().clone()).collect::<Vec<_>>()
    };
    let made = methods(&creating["unified"]);
    assert!(!made.is_empty() && made.iter().all(|method| method == "create"), "{creating}");
    assert!(methods(&creating["proxy"]).iter().all(|method| method["method"] == "create"), "{creating}");
    for (query, field) in [("?type=both", "type"), ("?has_description=maybe", "has_description"), ("?colour=red", "colour")] {
        let (status, refused) = demo.get(&format!("/integrated-account/{account}/capabilities{query}")).await;
        assert_eq!((status, &refused["field"]), (400, &json!(field)), "{refused}");
    }
}
