//! `/proxy` writes and methods of the vendor's own, in the vendor's own words: real SCIM servers, and what is refused.

use rollcall::sandbox::{Sandbox, scim};
use serde_json::{Value, json};

use super::vendor::{names, problem};
use crate::support::{
    gateway::{ADMIN, Kept},
    house::House,
    peers,
};

const USER: &str = "urn:ietf:params:scim:schemas:core:2.0:User";
const GROUP: &str = "urn:ietf:params:scim:schemas:core:2.0:Group";
const PATCH: &str = "urn:ietf:params:scim:api:messages:2.0:PatchOp";
const SEARCH: &str = "urn:ietf:params:scim:api:messages:2.0:SearchRequest";

impl House {
    /// A call with this status, whose answer may be nothing.
    async fn done(&self, method: &str, path: &str, body: Option<Value>, status: u16) -> Value {
        let answer = self.right(method, path, body, status).await;
        if answer.body.is_empty() { Value::Null } else { answer.json() }
    }

    /// A change, which SCIM servers answer with the record or with nothing.
    async fn patched(&self, path: &str, body: Value) {
        let answer = self.call("PATCH", path, Some(body)).await;
        assert!(matches!(answer.status, 200 | 204), "{path}: {}", answer.text());
    }
}

/// Starts the stand-in; it ends with the test's runtime.
#[allow(clippy::disallowed_methods)]
fn stand_in() -> Sandbox {
    let (sandbox, server) = scim::start(scim::Faults { users: 3, groups: 1, ..scim::Faults::default() }).unwrap();
    tokio::spawn(server);
    sandbox
}

/// A user's and a group's life in SCIM's own words, by `/proxy` and by `/custom`. A server that is not `strict` takes a name
/// twice.
async fn a_whole_life(house: &House, name: &str, strict: bool) {
    let body = json!({"schemas": [USER], "userName": name, "title": "Engineer", "nickName": "A"});
    let made = house.done("POST", "/proxy/Users", Some(body), 201).await;
    let id = made["id"].as_str().unwrap().to_owned();
    assert_eq!((&made["userName"], &made["nickName"]), (&json!(name), &json!("A")), "{made}");
    let one = format!("/proxy/Users/{id}");
    house.patched(&one, json!({"schemas": [PATCH], "Operations": [{"op": "replace", "path": "title", "value": "Chief"}]})).await;
    assert_eq!(house.done("GET", &one, None, 200).await["title"], "Chief");
    let record = json!({"schemas": [USER], "id": id, "userName": name, "title": "Replaced"});
    let replaced = house.done("POST", "/proxy/Users/replace", Some(record), 200).await;
    assert_eq!(replaced["result"]["title"], "Replaced", "{replaced}");

    let group = house.done("POST", "/proxy/Groups", Some(json!({"schemas": [GROUP], "displayName": "Analysts"})), 201).await;
    let group = format!("/proxy/Groups/{}", group["id"].as_str().unwrap());
    let add = json!({"schemas": [PATCH], "Operations": [{"op": "add", "path": "members", "value": [{"value": id}]}]});
    house.patched(&group, add).await;
    let members = house.done("GET", &group.replace("/proxy", "/custom"), None, 200).await;
    assert_eq!(members["result"]["members"][0]["value"], json!(id), "{members}");
    let gone = group.rsplit_once('/').unwrap().1;
    assert_eq!(house.done("DELETE", &group, None, 200).await, json!({"id": gone}));

    let by_custom = json!({"schemas": [USER], "userName": format!("custom.{name}")});
    let made = house.done("POST", "/custom/Users", Some(by_custom), 201).await;
    let other = format!("/custom/Users/{}", made["result"]["id"].as_str().unwrap());
    assert_eq!(
        house.done("GET", &format!("{other}?attributes=userName"), None, 200).await["result"]["userName"],
        format!("custom.{name}")
    );
    assert_eq!(house.call("DELETE", &other, None).await.status, 204);
    let missing = problem(&house.call("GET", &other, None).await, 404, "not_found", "gateway");
    assert_eq!((&missing["truto_is_remote_error"], missing["raw_response"].is_object()), (&json!(true), true), "{missing}");

    let twice = house.call("POST", "/proxy/Users", Some(json!({"schemas": [USER], "userName": name}))).await;
    if strict {
        let same = problem(&twice, 409, "vendor_error", "vendor");
        assert_eq!(
            (&same["truto_is_remote_error"], &same["raw_response"]["scimType"]),
            (&json!(true), &json!("uniqueness")),
            "{same}"
        );
    } else {
        assert_eq!(twice.status, 201, "{}", twice.text());
    }
    assert_eq!(house.done("DELETE", &one, None, 200).await, json!({"id": id}));
    let change = json!({"schemas": [PATCH], "Operations": [{"op": "replace", "path": "title", "value": "x"}]});
    problem(&house.call("PATCH", &one, Some(change)).await, 404, "not_found", "gateway");
}

#[tokio::test]
async fn a_real_scim_server_is_written_in_its_own_words_on_both_stores() {
    for kept in Kept::each() {
        let peer = peers::scim2_server(&["--users", "3"]);
        let house = House::scim(peer.base(), peer.told("token"), kept).await;
        a_whole_life(&house, "ada@scim2.example", true).await;
        let ask = json!({"schemas": [SEARCH], "filter": "userName eq \"user00001@scim2.example\""});
        for path in ["/proxy/Users/search", "/proxy/users/search", "/unified/user-directory/users/search"] {
            if path == "/proxy/users/search" {
                problem(&house.call("POST", path, Some(ask.clone())).await, 404, "resource_not_supported", "gateway");
                continue;
            }
            let found = house.done("POST", path, Some(ask.clone()), 200).await;
            assert_eq!(found["result"]["totalResults"], 1, "{path}: {found}");
            assert_eq!(found["result"]["Resources"][0]["userName"], "user00001@scim2.example");
        }
    }
}

#[tokio::test]
async fn scimmy_is_written_in_its_own_words() {
    let peer = peers::scimmy(4, 3);
    a_whole_life(&House::scim(peer.base(), peer.told("token"), Kept::embedded()).await, "ada@scimmy.example", false).await;
}

#[tokio::test]
async fn what_cannot_be_done_is_refused_as_capabilities_say() {
    let sandbox = stand_in();
    let house = House::scim(&sandbox.base, &sandbox.token, Kept::embedded()).await;
    for (method, path, allow) in [
        ("PUT", "/proxy/Users", "GET, HEAD, POST"),
        ("PUT", "/proxy/Users/u00001", "GET, HEAD, PATCH, DELETE"),
        ("PUT", "/proxy/Users/search", "GET, HEAD, PATCH, DELETE, POST"),
        ("POST", "/proxy/Users/promote", "GET, HEAD, PATCH, DELETE"),
        ("POST", "/unified/user-directory/users/promote", "GET, HEAD, PATCH, DELETE"),
        ("POST", "/proxy/group_members", "GET, HEAD"),
        ("DELETE", "/proxy/group_members/u1", ""),
    ] {
        let answer = house.call(method, path, Some(json!({}))).await;
        problem(&answer, 405, "method_not_supported", "gateway");
        assert_eq!(answer.header("allow"), Some(allow), "{method} {path}: {}", answer.text());
    }
    let reason = house.call("POST", "/proxy/Users/promote", Some(json!({}))).await;
    assert!(reason.text().contains("`replace`, `search`"), "{}", reason.text());
    problem(&house.call("POST", "/proxy/Nothing", Some(json!({}))).await, 404, "resource_not_supported", "gateway");
    let several = problem(&house.call("POST", "/proxy/_/search", Some(json!({}))).await, 405, "method_not_supported", "gateway");
    assert!(several["detail"].as_str().unwrap().contains("/proxy/Groups/search"), "{several}");
    names(&house.call("POST", "/proxy/Users/replace", Some(json!({"userName": "x"}))).await, 422, "field_missing", "id");
    names(&house.call("POST", "/proxy/Users/replace", Some(json!({"id": [1]}))).await, 400, "invalid_body", "id");
    for body in [json!([]), json!("text")] {
        problem(&house.call("POST", "/proxy/Users", Some(body)).await, 400, "invalid_body", "gateway");
    }
    names(
        &house.call("POST", "/proxy/Users?truto_nonsense=1", Some(json!({}))).await,
        400,
        "invalid_parameter",
        "truto_nonsense",
    );
    let reader = house.gateway.token(&["proxy:read", "directory:read"]).await;
    for (method, path) in [
        ("POST", "/proxy/Users"),
        ("PATCH", "/proxy/Users/u00001"),
        ("DELETE", "/proxy/Users/u00001"),
        ("POST", "/proxy/Users/search"),
        ("POST", "/unified/user-directory/users/search"),
    ] {
        let refused = house.gateway.call_as(Some(&reader), method, &house.path(path), Some(&json!({}))).await;
        assert_eq!((refused.status, refused.code().as_str()), (403, "scope_missing"), "{method} {path}");
    }

    let capabilities = house.gateway.get(&format!("/integrated-account/{}/capabilities", house.account)).await.json();
    let users = capabilities["proxy"].as_array().unwrap().iter().find(|one| one["resource"] == "Users").unwrap();
    let methods: Vec<&str> = users["methods"].as_array().unwrap().iter().map(|one| one["method"].as_str().unwrap()).collect();
    assert_eq!(methods, ["list", "get", "create", "update", "delete", "replace", "search"]);
    let tools = house.gateway.get(&format!("/integrated-account/{}/tools?methods=custom,create", house.account)).await.json();
    let tools = tools["result"].as_array().unwrap();
    let replace = tools.iter().find(|tool| tool["name"] == "scim_users_replace").unwrap_or_else(|| panic!("{tools:?}"));
    assert_eq!(replace["body_schema"]["required"], json!(["id"]), "{replace}");
    assert!(tools.iter().any(|tool| tool["name"] == "create_a_scim_user") && tools.iter().all(|tool| tool["method"] != "list"));
}

#[tokio::test]
async fn parameters_are_sent_or_refused_and_never_left_out() {
    let sandbox = stand_in();
    let house = House::scim(&sandbox.base, &sandbox.token, Kept::embedded()).await;
    for (path, field) in [
        ("/proxy/Users?count=1", "count"),
        ("/proxy/Users?startIndex=5", "startIndex"),
        ("/proxy/Users?remote_query[count]=1", "count"),
        ("/unified/user-directory/users?remote_query[count]=1", "count"),
    ] {
        names(&house.call("GET", path, None).await, 400, "invalid_parameter", field);
    }
    let found = house.good("GET", "/proxy/Users?filter=userName%20eq%20%22user00002@scim.example%22", None, 200).await;
    assert_eq!(found["result"].as_array().unwrap().len(), 1, "{found}");
    let bare = house.good("GET", "/proxy/Users/u00001", None, 200).await;
    assert_eq!(house.good("GET", "/proxy/Users/u00001?envelope=true", None, 200).await["result"], bare);
    let search =
        json!({"schemas": [SEARCH], "filter": "userName eq \"user00002@scim.example\"", "excludedAttributes": ["members"]});
    let found = house.good("POST", "/proxy/Users/search", Some(search), 200).await;
    assert_eq!(found["result"]["Resources"][0]["id"], "u00002", "{found}");
    let in_group = house.good("GET", "/unified/user-directory/users?group_id=g001", None, 200).await;
    let members = house.good("GET", "/unified/user-directory/groups/g001/members", None, 200).await;
    let ids = |list: &Value| -> Vec<Value> { list["result"].as_array().unwrap().iter().map(|one| one["id"].clone()).collect() };
    assert!(!ids(&members).is_empty() && ids(&in_group) == ids(&members), "{in_group} {members}");
    names(
        &house.gateway.get("/unified/user-directory/users?integrated_account_id=nope").await,
        404,
        "not_found",
        "integrated_account_id",
    );
}

#[tokio::test]
async fn a_proxy_write_takes_effect_once_under_its_key() {
    let sandbox = stand_in();
    let house = House::scim(&sandbox.base, &sandbox.token, Kept::embedded()).await;
    let body = json!({"schemas": [USER], "userName": "once@x.example"});
    let path = house.path("/proxy/Users");
    let send = async || house.gateway.call_with(ADMIN, &[("Idempotency-Key", "p1")], "POST", &path, Some(&body)).await;
    let (first, again) = (send().await, send().await);
    assert_eq!(first.status, 201, "{}", first.text());
    assert_eq!((again.status, again.text(), again.header("idempotent-replayed")), (201, first.text(), Some("true")));
    assert_eq!(house.done("GET", "/proxy/Users", None, 200).await["result_count"], 4, "made once");
}
