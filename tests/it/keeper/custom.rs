//! `/custom` and `/proxy` writes onto the real Commander: the same words and arguments as by the transparent proxy, under the
//! service's lock, and what it says handed on.

use serde_json::{Value, json};

use crate::{
    e2e::vendor::{names, problem},
    support::{house::House, peers},
};

const USERS: &str = "/unified/user-directory/users";
const V1: &str = "/custom/api/v1/executecommand";
const V2: &str = "/custom/api/v2/executecommand-async";
const NORTHWIND: u64 = 3861;
const BEN: u64 = (NORTHWIND << 32) + 202;
const CAT: u64 = (NORTHWIND << 32) + 203;

impl House {
    /// A method that Commander says it did.
    async fn said(&self, path: &str, body: Value) -> Value {
        let answer = self.call("POST", path, Some(body)).await;
        assert_eq!((answer.status, answer.header("rollcall-warning")), (200, Some("vendor_says")), "{path}: {}", answer.text());
        answer.json()
    }

    async fn user(&self, id: u64) -> Value {
        let answer = self.call("GET", &format!("{USERS}/{id}"), None).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    }
}

fn command(line: &str) -> Option<Value> {
    Some(json!({ "command": line }))
}

#[tokio::test]
async fn callers_own_commands_are_wrapped_and_those_that_do_not_pass_are_refused() {
    let peer = peers::commander(&["--queue", "n"]);
    let house = House::keeper(peer.base(), peer.told("api_key"), json!({})).await;
    let who = house.call("POST", V1, command("whoami")).await;
    assert_eq!(who.status, 200, "{}", who.text());
    assert_eq!(who.json()["result"]["data"]["user"], "msp.admin@acme-msp.example", "{}", who.text());
    let inside = house.call_in(Some("3861"), "POST", V1, command("enterprise-info --nodes --format json")).await;
    let node = inside.json()["result"]["data"][0]["node_id"].as_u64().unwrap();
    assert_eq!(node >> 32, NORTHWIND, "the command ran in the company that was named");
    for (line, code) in [
        ("get abc", "outside_directory_layer"),
        ("whoami\nget abc", "outside_directory_layer"),
        ("switch-to-mc 3861", "denied_by_connector"),
        ("enterprise-info --users --output /tmp/x", "denied_by_connector"),
        ("enterprise-info --users --outp=/tmp/x", "denied_by_connector"),
        ("whoami ${HOME}", "denied_by_connector"),
    ] {
        let refused = house.call("POST", V1, command(line)).await;
        assert_eq!((refused.status, refused.code().as_str()), (403, code), "{line}: {}", refused.text());
    }
    assert_eq!(house.call("POST", "/custom/api/v9/other", command("whoami")).await.code(), "outside_directory_layer");
    assert_eq!(house.call("PUT", V1, command("whoami")).await.code(), "denied_by_connector");
    // What takes the place of the call's own words is looked at in the same way.
    for config in [
        json!({"body": {"command": "get abc"}}),
        json!({"path": "/api/v1/executecommand", "body": {"command": "get abc"}}),
        json!({"path": "/api/%76%31/executecommand"}),
    ] {
        let sly = house.call("POST", V1, Some(json!({"command": "whoami", "methodConfig": config}))).await;
        assert_eq!((sly.status, sly.code().as_str()), (403, "outside_directory_layer"), "{config}: {}", sly.text());
    }
    let verb = house.call("POST", V1, Some(json!({"command": "whoami", "methodConfig": {"method": "DELETE"}}))).await;
    assert_eq!(verb.code(), "denied_by_connector", "{}", verb.text());
}

/// Whether the service encrypts what commands answer is nothing that callers of `/custom` see.
#[tokio::test]
async fn a_queued_command_and_its_result_go_the_same_way() {
    let key = "0123456789abcdef0123456789abcdef";
    for (args, context) in [(&[][..], json!({})), (&["--encryption-key", key][..], json!({"encryption_key": key}))] {
        let peer = peers::commander(args);
        queued(&House::keeper(peer.base(), peer.told("api_key"), context).await).await;
    }
}

async fn queued(house: &House) {
    let queued = house.call("POST", V2, command("whoami")).await;
    assert_eq!(queued.status, 202, "{}", queued.text());
    let id = queued.json()["result"]["request_id"].as_str().unwrap().to_owned();
    let result = format!("/custom/api/v2/result/{id}");
    for _ in 0..100 {
        let answer = house.call("GET", &result, None).await;
        if answer.status == 200 && answer.json()["result"]["data"]["user"].is_string() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    panic!("the result never came");
}

#[tokio::test]
async fn records_are_written_in_commanders_own_words() {
    let peer = peers::commander(&[]);
    let house = House::keeper(peer.base(), peer.told("api_key"), json!({})).await;
    let body = json!({"email": "pia@northwind.example", "name": "Pia O'Neil; get abc", "job_title": "--delete"});
    names(&house.call("POST", "/proxy/users", Some(body.clone())).await, 422, "field_missing", "rollcall-company");
    let made = house.call_in(Some("3861"), "POST", "/proxy/users", Some(body)).await;
    assert_eq!((made.status, made.header("rollcall-warning")), (200, Some("vendor_says")), "{}", made.text());
    assert!(made.text().contains("pia@northwind.example"), "Commander's own words: {}", made.text());
    let users = house.walk(&format!("{USERS}?limit=100")).await;
    let pia = users.iter().find(|user| user["username"] == "pia@northwind.example").expect("she is there");
    assert_eq!(
        (&pia["name"], &pia["title"], &pia["status"]),
        (&json!("Pia O'Neil; get abc"), &json!("--delete"), &json!("invited"))
    );
    let one = format!("/proxy/users/{}", pia["id"].as_str().unwrap());
    let changed = house.call("PATCH", &one, Some(json!({"job_title": "Dentist"}))).await;
    assert_eq!(changed.status, 200, "{}", changed.text());
    assert_eq!(house.call("GET", &one, None).await.json()["job_title"], "Dentist");
    let gone = house.call("DELETE", &one, None).await;
    assert_eq!((gone.status, &gone.json()["id"]), (200, &pia["id"]), "{}", gone.text());
    assert!(gone.json()["raw_response"].is_object(), "what Commander said: {}", gone.text());
    problem(&house.call("GET", &one, None).await, 404, "not_found", "gateway");
    for (body, field) in [
        (json!({"name": "x"}), "email"),
        (json!({"email": "--delete"}), "email"),
        (json!({"email": "a@b.example", "vault": 1}), "vault"),
    ] {
        let refused = house.call_in(Some("3861"), "POST", "/proxy/users", Some(body)).await;
        assert_eq!((refused.status, refused.json()["field"].as_str()), (422, Some(field)), "{}", refused.text());
    }
    names(&house.call("PATCH", &format!("/proxy/users/{BEN}"), Some(json!({}))).await, 422, "field_not_writable", "body");
    names(
        &house.call_in(Some("3862"), "PATCH", &format!("/proxy/users/{BEN}"), Some(json!({"name": "x"}))).await,
        400,
        "invalid_parameter",
        "rollcall-company",
    );
}

#[tokio::test]
async fn methods_of_its_own_are_called_and_denied_ones_say_why() {
    let peer = peers::commander(&[]);
    let house = House::keeper(peer.base(), peer.told("api_key"), json!({})).await;
    let ben = json!({"id": BEN.to_string()});
    for (path, status) in [
        ("/proxy/users/lock", "inactive"),
        ("/unified/user-directory/users/unlock", "active"),
        ("/proxy/_/lock", "inactive"),
        ("/proxy/users/unlock", "active"),
    ] {
        let said = house.said(path, ben.clone()).await;
        assert!(said["result"].is_object(), "{said}");
        assert_eq!(house.user(BEN).await["status"], status, "{path}");
    }
    let groups = house.walk("/unified/user-directory/groups").await;
    let team = groups.iter().find(|group| group["name"] == "Front Desk" && group["organization"] == "3861").expect("a team");
    let joins = json!({"id": BEN.to_string(), "team_id": team["id"]});
    let is_in =
        |user: &Value| user["groups"].as_array().is_some_and(|groups| groups.iter().any(|group| group["id"] == team["id"]));
    house.said("/proxy/users/add_team", joins.clone()).await;
    assert!(is_in(&house.user(BEN).await));
    house.said("/proxy/users/remove_team", joins).await;
    assert!(!is_in(&house.user(BEN).await));
    let elsewhere = json!({"id": BEN.to_string(), "team_id": "3862:18opBFrGJyh6FbsK1-WwAQ"});
    names(&house.call("POST", "/proxy/users/add_team", Some(elsewhere)).await, 400, "invalid_parameter", "team_id");
    // Invited users cannot be locked; Commander says success, and nothing is read again here.
    house.said("/proxy/users/lock", json!({"id": CAT.to_string()})).await;
    assert_eq!(house.user(CAT).await["status"], "invited");
    for (name, word) in [("expire", "master password"), ("transfer", "vault")] {
        for path in [format!("/proxy/users/{name}"), format!("{USERS}/{name}")] {
            let refused = house.call("POST", &path, Some(ben.clone())).await;
            let said = problem(&refused, 405, "method_not_supported", "gateway");
            assert!(said["detail"].as_str().unwrap().contains(word), "{said}");
            assert_eq!(refused.header("allow"), Some("GET, HEAD, PATCH, DELETE"));
        }
    }
    for (body, status, code, field) in [
        (json!({}), 422, "field_missing", "id"),
        (json!({"id": BEN.to_string(), "force": true}), 400, "invalid_body", "force"),
        (json!({"id": format!("{NORTHWIND}:-h")}), 404, "not_found", ""),
    ] {
        let refused = house.call("POST", "/proxy/users/lock", Some(body)).await;
        let said = (refused.status, refused.code());
        assert_eq!(
            (said.0, said.1.as_str(), refused.json()["field"].as_str().unwrap_or_default()),
            (status, code, field),
            "{}",
            refused.text()
        );
    }
    // The key's list of commands is the service's to say.
    let approve = house.call_in(Some("3861"), "POST", "/proxy/teams/approve", None).await;
    assert!(matches!(approve.status, 200 | 403), "{}", approve.text());
}
