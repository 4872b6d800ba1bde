//! Unified writes against real SCIM servers and against a stand-in that lies.

use rollcall::sandbox::{
    Sandbox,
    scim::{self, Faults},
    scim_write::WriteLie,
};
use serde_json::{Value, json};

use super::vendor::{names, problem};
use crate::support::{
    gateway::{ADMIN, Answer, Kept, client},
    house::House,
    peers,
};

const USERS: &str = "/unified/user-directory/users";
const GROUPS: &str = "/unified/user-directory/groups";

/// Starts the stand-in; it ends with the test's runtime.
#[allow(clippy::disallowed_methods)]
fn stand_in(faults: Faults) -> Sandbox {
    let (sandbox, server) = scim::start(faults).unwrap();
    tokio::spawn(server);
    sandbox
}

async fn lying(lie: WriteLie) -> (Sandbox, House) {
    let sandbox = stand_in(Faults { users: 3, groups: 1, write_lie: Some(lie), ..Faults::default() });
    let house = House::scim(&sandbox.base, &sandbox.token, Kept::embedded()).await;
    (sandbox, house)
}

fn warning(answer: &Answer) -> Option<&str> {
    answer.header("rollcall-warning")
}

/// A user's whole life, a group's, and a membership. A server that is not `extended` keeps no extension, and answers 204 to
/// the deletion of what it does not have.
async fn a_whole_life(house: &House, ada: &str, extended: bool) {
    let organizations = if extended { json!([{"name": "Northwind"}]) } else { json!([]) };
    let made = house
        .good(
            "POST",
            USERS,
            Some(json!({
                "username": ada, "first_name": "Ada", "last_name": "Byron", "name": "Ada Byron", "external_id": "e-1", "title": "Engineer",
                "emails": [{"email": ada, "type": "work", "is_primary": true}], "status": "active",
                "organizations": organizations, "remote_data": {"nickName": "A"},
            })),
            201,
        )
        .await;
    let id = made["id"].as_str().unwrap().to_owned();
    assert_eq!(
        (&made["username"], &made["first_name"], &made["status"]),
        (&json!(ada), &json!("Ada"), &json!("active")),
        "{made}"
    );
    assert_eq!(made["remote_data"]["nickName"], "A", "{made}");
    assert_eq!(made["organizations"], organizations, "{made}");
    let one = format!("{USERS}/{id}");
    assert_eq!(house.good("GET", &one, None, 200).await["title"], "Engineer");

    let body = json!({"title": null, "last_name": "Lovelace", "name": "Ada Lovelace", "status": "inactive", "phones": [{"number": "+1 555 0100", "type": "work"}]});
    let changed = house.good("PATCH", &one, Some(body), 200).await;
    assert_eq!((&changed["last_name"], &changed["first_name"]), (&json!("Lovelace"), &json!("Ada")), "{changed}");
    assert_eq!((&changed["status"], changed["title"].is_null()), (&json!("inactive"), true), "{changed}");
    let same = house.call("PATCH", &one, Some(json!({"last_name": "Lovelace"}))).await;
    assert_eq!((same.status, warning(&same)), (200, None), "{}", same.text());

    let group = house.good("POST", GROUPS, Some(json!({"name": "Analysts", "group_type": "group"})), 201).await;
    let group_id = group["id"].as_str().unwrap().to_owned();
    let group_path = format!("{GROUPS}/{group_id}");
    assert_eq!(house.good("PATCH", &group_path, Some(json!({"name": "Engines"})), 200).await["name"], "Engines");
    let members = format!("{group_path}/members");
    let member = house.good("POST", &members, Some(json!({"id": id})), 201).await;
    assert_eq!((&member["id"], &member["type"]), (&json!(id), &json!("user")), "{member}");
    house.good("POST", &members, Some(json!({"id": id})), 201).await;
    assert_eq!(house.good("GET", &members, None, 200).await["result_count"], 1);
    house.good("DELETE", &format!("{members}/{id}"), None, 200).await;
    assert_eq!(house.good("GET", &members, None, 200).await["result_count"], 0);
    problem(&house.call("DELETE", &format!("{members}/{id}"), None).await, 404, "not_found", "gateway");
    let of = json!({"group_id": group_id, "user_id": id});
    assert_eq!(house.good("POST", &format!("{GROUPS}/add-user"), Some(of.clone()), 200).await, json!({"result": of}));
    assert_eq!(house.good("GET", &members, None, 200).await["result_count"], 1);
    assert_eq!(house.good("POST", &format!("{GROUPS}/remove-user"), Some(of.clone()), 200).await, json!({"result": of}));
    house.good("POST", &members, Some(json!({"id": id})), 201).await;
    house.good("DELETE", &format!("{one}?remove_from=group&remove_from_id={group_id}"), None, 200).await;
    assert_eq!(house.good("GET", &members, None, 200).await["result_count"], 0);
    house.good("GET", &one, None, 200).await;

    assert_eq!(house.good("DELETE", &group_path, None, 200).await, json!({"id": group_id}));
    problem(&house.call("GET", &group_path, None).await, 404, "not_found", "gateway");
    assert_eq!(house.good("DELETE", &one, None, 200).await, json!({"id": id}));
    problem(&house.call("GET", &one, None).await, 404, "not_found", "gateway");
    if extended {
        problem(&house.call("DELETE", &one, None).await, 404, "not_found", "gateway");
    }
    problem(&house.call("PATCH", &one, Some(json!({"title": "x"}))).await, 404, "not_found", "gateway");
}

#[tokio::test]
async fn a_real_scim_server_is_written_and_read_again_on_both_stores() {
    for kept in Kept::each() {
        let peer = peers::scim2_server(&["--users", "3"]);
        a_whole_life(&House::scim(peer.base(), peer.told("token"), kept).await, "ada@scim2.example", true).await;
    }
}

#[tokio::test]
async fn scimmy_is_written_and_read_again() {
    let peer = peers::scimmy(4, 3);
    a_whole_life(&House::scim(peer.base(), peer.told("token"), Kept::embedded()).await, "ada@scimmy.example", false).await;
}

#[tokio::test]
async fn servers_without_patch_get_the_whole_record_and_those_with_etags_the_condition() {
    for faults in [Faults { patch: false, ..Faults::default() }, Faults { etag: false, ..Faults::default() }, Faults::default()] {
        let sandbox = stand_in(Faults { users: 3, groups: 1, ..faults });
        a_whole_life(&House::scim(&sandbox.base, &sandbox.token, Kept::embedded()).await, "ada@sandbox.example", true).await;
    }
}

#[tokio::test]
async fn bad_bodies_are_refused_by_name_before_anything_is_sent() {
    let sandbox = stand_in(Faults { users: 3, groups: 1, ..Faults::default() });
    let house = House::scim(&sandbox.base, &sandbox.token, Kept::embedded()).await;
    let one = format!("{USERS}/u00001");
    for (method, path, body, status, code, field) in [
        ("POST", USERS, json!({"usernmae": "x"}), 400, "invalid_body", "usernmae"),
        ("POST", USERS, json!({"name": 5}), 400, "invalid_body", "name"),
        ("POST", USERS, json!({"emails": [{"emial": "x"}]}), 400, "invalid_body", "emails[0].emial"),
        ("POST", USERS, json!({"username": "x", "remote_data": 5}), 400, "invalid_body", "remote_data"),
        ("POST", USERS, json!({"name": "x"}), 422, "field_missing", "username"),
        ("POST", USERS, json!({"username": ""}), 422, "field_missing", "username"),
        ("POST", USERS, json!({"username": "x", "status": "invited"}), 422, "field_not_writable", "status"),
        ("POST", USERS, json!({"username": "x", "bio": "x"}), 422, "field_not_writable", "bio"),
        ("PATCH", &one, json!({"id": "2"}), 422, "field_not_writable", "id"),
        ("PATCH", &one, json!({"groups": [{"id": "g001"}]}), 422, "field_not_writable", "groups"),
        ("PATCH", &one, json!({"created_at": "2026-01-01T00:00:00Z"}), 422, "field_not_writable", "created_at"),
        ("POST", GROUPS, json!({"group_type": "team", "name": "x"}), 422, "field_not_writable", "group_type"),
        ("POST", GROUPS, json!({}), 422, "field_missing", "name"),
        ("POST", &format!("{GROUPS}/g001/members"), json!({}), 422, "field_missing", "id"),
        ("POST", &format!("{GROUPS}/g001/members"), json!({"id": "u00001", "name": "x"}), 422, "field_not_writable", "name"),
    ] {
        let refused = names(&house.call(method, path, Some(body)).await, status, code, field);
        assert!(refused["detail"].as_str().is_some_and(|detail| detail.len() > 15), "{refused}");
    }
    let unnamed = house.call("POST", USERS, Some(json!({"name": "x"}))).await.json();
    assert_eq!(unnamed["truto_error_insight"]["missing_required_body_fields"]["value"], json!(["username"]), "{unnamed}");
    // More digits than a number keeps: the vendor would be told another one.
    for (body, field) in [
        (r#"{"username": "x", "remote_data": {"a": {"big": 12345678901234567890123}}}"#, "remote_data.a.big"),
        (r#"{"username": "x", "remote_data": {"list": [1.5, 0.12345678901234567891]}}"#, "remote_data.list"),
    ] {
        let request = client().post(format!("{}{}", house.gateway.base, house.path(USERS))).bearer_auth(ADMIN);
        let refused = Answer::read(request.header("content-type", "application/json").body(body).send().await.unwrap()).await;
        names(&refused, 400, "invalid_body", field);
    }
    let typo = house.call("POST", USERS, Some(json!({"usernmae": "x"}))).await.json();
    assert!(typo["detail"].as_str().unwrap().contains("Did you mean `username`?"), "{typo}");
    let exists = house.call("POST", USERS, Some(json!({"username": "user00001@scim.example"}))).await;
    problem(&exists, 422, "already_exists", "vendor");
    for path in [
        format!("{one}?remove_from=group"),
        format!("{one}?remove_from_id=1"),
        format!("{one}?remove_from=organization&remove_from_id=1"),
    ] {
        assert_eq!(house.call("DELETE", &path, None).await.status, 400, "{path}");
    }
    for path in [format!("{USERS}/..%2F..%2FGroups"), format!("{USERS}/%2E%2E")] {
        let answer = house.call("DELETE", &path, None).await;
        assert!(matches!(answer.status, 400 | 404), "{path}: {}", answer.text());
    }
    let count = house.good("GET", USERS, None, 200).await["result_count"].clone();
    assert_eq!(count, 3, "nothing was written");
}

#[tokio::test]
async fn capabilities_and_refusals_agree_about_writes() {
    let sandbox = stand_in(Faults { users: 3, groups: 1, ..Faults::default() });
    let house = House::scim(&sandbox.base, &sandbox.token, Kept::embedded()).await;
    let document = house.gateway.get(&format!("/integrated-account/{}/capabilities", house.account)).await.json();
    for resource in document["unified"].as_array().unwrap() {
        let (name, methods) = (resource["resource"].as_str().unwrap(), resource["methods"].as_array().unwrap());
        let has = |method: &str| methods.iter().any(|known| known == method);
        let path =
            if name == "group_members" { format!("{GROUPS}/g001/members") } else { format!("/unified/user-directory/{name}") };
        for (method, verb, path) in [
            ("POST", "create", path.clone()),
            ("PATCH", "update", format!("{path}/nobody")),
            ("DELETE", "delete", format!("{path}/nobody")),
        ] {
            let body = (verb != "delete").then(|| json!({}));
            let answer = house.call(method, &path, body).await;
            assert_eq!(has(verb), answer.status != 405, "{method} {path}: {}", answer.text());
        }
        for field in resource["writable"]["update"].as_array().into_iter().flatten() {
            assert!(resource["fields"].as_array().unwrap().contains(field), "{resource}");
        }
    }
    let meta = house.good("GET", &format!("{USERS}/meta/update"), None, 200).await;
    let properties = meta["request_body_schema"]["properties"].as_object().unwrap();
    assert!(
        properties.contains_key("status") && properties.contains_key("remote_data") && !properties.contains_key("groups"),
        "{meta}"
    );
    let refused = house.call("POST", "/unified/user-directory/roles", Some(json!({}))).await;
    assert_eq!(refused.status, 404, "{}", refused.text());
    let token =
        house.gateway.call("POST", "/api-token", Some(&json!({"name": "reader", "scopes": ["directory:read"]}))).await.json();
    let reader = token["token"].as_str().unwrap();
    let answer = house.gateway.call_as(Some(reader), "POST", &house.path(USERS), Some(&json!({"username": "x"}))).await;
    problem(&answer, 403, "scope_missing", "gateway");
}

#[tokio::test]
async fn a_false_success_is_an_error_that_says_what_is_there() {
    let (_sandbox, house) = lying(WriteLie::SaysDone).await;
    let refused =
        problem(&house.call("POST", USERS, Some(json!({"username": "new@x.example"}))).await, 502, "write_not_taken", "vendor");
    assert!(refused["detail"].as_str().unwrap().contains("answered 201"), "{refused}");
    assert_eq!(
        (&refused["retryable"], &refused["raw_response"]["userName"]),
        (&json!(false), &json!("new@x.example")),
        "{refused}"
    );
    let one = format!("{USERS}/u00001");
    let refused = problem(&house.call("PATCH", &one, Some(json!({"title": "x"}))).await, 502, "write_not_taken", "vendor");
    assert_eq!(refused["field"], "title");
    assert!(refused["detail"].as_str().unwrap().contains("nothing changed"), "{refused}");
    // What stood there before says nothing of this write.
    let with_old = json!({"title": "x", "username": "user00001@scim.example", "status": "active"});
    problem(&house.call("PATCH", &one, Some(with_old)).await, 502, "write_not_taken", "vendor");
    problem(&house.call("DELETE", &one, None).await, 502, "write_not_taken", "vendor");
    let members = format!("{GROUPS}/g001/members");
    problem(&house.call("POST", &members, Some(json!({"id": "u00001"}))).await, 502, "write_not_taken", "vendor");
    assert_eq!(house.good("GET", &one, None, 200).await["title"], Value::Null);
}

#[tokio::test]
async fn a_false_failure_is_the_record_with_a_warning() {
    for (lie, code) in [(WriteLie::SaysFailed, "vendor_reported_failure"), (WriteLie::Lost, "vendor_did_not_confirm")] {
        let (_sandbox, house) = lying(lie).await;
        let made = house.call("POST", USERS, Some(json!({"username": "new@x.example", "title": "t"}))).await;
        assert_eq!((made.status, warning(&made)), (201, Some(code)), "{}", made.text());
        let id = made.json()["id"].as_str().unwrap().to_owned();
        let one = format!("{USERS}/{id}");
        let changed = house.call("PATCH", &format!("{one}?envelope=true"), Some(json!({"title": "u"}))).await;
        assert_eq!((changed.status, warning(&changed)), (200, Some(code)), "{}", changed.text());
        assert_eq!((&changed.json()["result"]["title"], &changed.json()["warnings"][0]["code"]), (&json!("u"), &json!(code)));
        let gone = house.call("DELETE", &one, None).await;
        assert_eq!((gone.status, warning(&gone)), (200, Some(code)), "{}", gone.text());
        problem(&house.call("GET", &one, None).await, 404, "not_found", "gateway");
    }
}

/// Groups and memberships, whatever the vendor says of them.
#[tokio::test]
async fn lies_about_groups_and_members_are_found_out() {
    for (lie, told) in [
        (WriteLie::SaysDone, Err((502, "write_not_taken"))),
        (WriteLie::Fails, Err((500, "vendor_error"))),
        (WriteLie::SaysFailed, Ok("vendor_reported_failure")),
        (WriteLie::Lost, Ok("vendor_did_not_confirm")),
    ] {
        let (_sandbox, house) = lying(lie).await;
        let (group, members) = (format!("{GROUPS}/g001"), format!("{GROUPS}/g001/members"));
        let inside = house.walk(&members).await;
        let inside: Vec<&str> = inside.iter().map(|member| member["id"].as_str().unwrap()).collect();
        let outside = ["u00001", "u00002", "u00003"].into_iter().find(|id| !inside.contains(id)).unwrap_or("u00001");
        let first = inside.first().copied().unwrap_or("u00001").to_owned();
        for (method, path, body) in [
            ("POST", GROUPS.to_owned(), Some(json!({"name": "Night shift"}))),
            ("PATCH", group.clone(), Some(json!({"name": "Day shift"}))),
            ("DELETE", format!("{members}/{first}"), None),
            ("POST", members.clone(), Some(json!({"id": if inside.contains(&outside) { first.as_str() } else { outside }}))),
            ("DELETE", group.clone(), None),
        ] {
            let answer = house.call(method, &path, body).await;
            match told {
                // Names of groups are not one's own: which of them was made, if any, nobody can tell.
                Ok(_) if path == GROUPS => drop(problem(&answer, 502, "write_unconfirmed", "vendor")),
                Ok(code) => {
                    assert!((200..300).contains(&answer.status), "{lie:?} {method} {path}: {}", answer.text());
                    assert_eq!(warning(&answer), Some(code), "{lie:?} {method} {path}: {}", answer.text());
                }
                Err((status, code)) => drop(problem(&answer, status, code, "vendor")),
            }
        }
        let left: Vec<_> = house.walk(GROUPS).await.iter().map(|group| group["name"].clone()).collect();
        assert_eq!(left == [json!("Night shift")], told.is_ok(), "{lie:?}: {left:?}");
    }
}

#[tokio::test]
async fn a_true_failure_is_the_vendors_own() {
    let (_sandbox, house) = lying(WriteLie::Fails).await;
    for (method, path, body) in [
        ("POST", USERS.to_owned(), Some(json!({"username": "new@x.example"}))),
        ("PATCH", format!("{USERS}/u00001"), Some(json!({"title": "x"}))),
        ("PATCH", format!("{USERS}/u00001"), Some(json!({"title": "x", "username": "user00001@scim.example"}))),
        ("PATCH", format!("{USERS}/u00001"), Some(json!({"remote_data": {"nickName": "x"}}))),
        ("DELETE", format!("{USERS}/u00001"), None),
    ] {
        let answer = house.call(method, &path, body).await;
        let said = problem(&answer, 500, "vendor_error", "vendor");
        assert_eq!(said["raw_response"]["detail"], "an unexpected error", "{said}");
    }
}

#[tokio::test]
async fn what_the_vendor_drops_is_named() {
    let (_sandbox, house) = lying(WriteLie::DropsTitle).await;
    let made =
        house.call("POST", &format!("{USERS}?envelope=true"), Some(json!({"username": "new@x.example", "title": "t"}))).await;
    assert_eq!((made.status, warning(&made)), (201, Some("field_not_taken")), "{}", made.text());
    assert_eq!(made.json()["warnings"][0]["field"], "title");
    assert!(made.json()["result"].get("title").is_none_or(Value::is_null), "{}", made.text());
}

#[tokio::test]
async fn answers_are_written_as_the_caller_wants_them_and_repeated_under_a_key() {
    let sandbox = stand_in(Faults { users: 3, groups: 1, ..Faults::default() });
    let house = House::scim(&sandbox.base, &sandbox.token, Kept::embedded()).await;
    let path = house.path(&format!("{USERS}?truto_ignore_remote_data=true&truto_exclude_fields=emails"));
    let body = json!({"username": "k@x.example", "emails": [{"email": "k@x.example"}]});
    let send = async || house.gateway.call_with(ADMIN, &[("Idempotency-Key", "k1")], "POST", &path, Some(&body)).await;
    let first = send().await;
    assert_eq!(first.status, 201, "{}", first.text());
    assert!(first.json().get("remote_data").is_none() && first.json().get("emails").is_none(), "{}", first.text());
    let again = send().await;
    assert_eq!((again.status, again.text(), again.header("idempotent-replayed")), (201, first.text(), Some("true")));
    let raw = house.good("PATCH", &format!("{USERS}/u00001?truto_response_format=raw"), Some(json!({"title": "x"})), 200).await;
    assert_eq!((&raw["title"], &raw["userName"]), (&json!("x"), &json!("user00001@scim.example")));
    let debug =
        house.good("PATCH", &format!("{USERS}/u00001?truto_response_format=debug"), Some(json!({"title": "y"})), 200).await;
    assert_eq!((&debug["result"]["title"], &debug["debug"]["resource"]), (&json!("y"), &json!("users")), "{debug}");
    let other = json!({"username": "other"});
    let reused = house.gateway.call_with(ADMIN, &[("Idempotency-Key", "k1")], "POST", &path, Some(&other)).await;
    assert_eq!(reused.code(), "idempotency_key_reused");
    let users = house.good("GET", USERS, None, 200).await;
    assert_eq!(users["result_count"], 4, "made once");
}

/// The vendor's own members are not among the fields that are read again.
#[tokio::test]
async fn what_became_of_remote_data_is_not_guessed() {
    let (_sandbox, house) = lying(WriteLie::Lost).await;
    let one = format!("{USERS}/u00001");
    let title = house.good("GET", &one, None, 200).await["title"].clone();
    for body in [json!({"remote_data": {"nickName": "x"}}), json!({"title": title, "remote_data": {"nickName": "y"}})] {
        let said = problem(&house.call("PATCH", &one, Some(body)).await, 502, "write_unconfirmed", "vendor");
        assert_eq!(said["field"], "remote_data", "{said}");
    }
}
