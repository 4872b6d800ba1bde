//! Unified writes through Commander: the real command code, and the stand-in where a lie is to be told on purpose.

use rollcall::sandbox::keeper_commander::WriteLie;
use serde_json::json;

use super::bench::sandboxed;
use crate::{
    e2e::vendor::{names, problem},
    support::{gateway::Answer, house::House, peers},
};

const USERS: &str = "/unified/user-directory/users";
const GROUPS: &str = "/unified/user-directory/groups";
const NORTHWIND: u64 = 3861;
const BEN: u64 = (NORTHWIND << 32) + 202;
const CAT: u64 = (NORTHWIND << 32) + 203;

impl House {
    /// The address of every user in the company.
    async fn emails(&self) -> Vec<String> {
        let users = self.walk(&format!("{USERS}?limit=100")).await;
        let own = users.iter().filter(|user| user["organizations"][0]["id"] == "3861");
        own.map(|user| user["username"].as_str().unwrap().to_owned()).collect()
    }
}

fn warning(answer: &Answer) -> Option<&str> {
    answer.header("rollcall-warning")
}

/// Users, teams and memberships in a managed company, each shown by the next list.
async fn a_whole_life(house: &House) {
    assert!(!house.emails().await.contains(&"zoe@northwind.example".to_owned()));
    let body = json!({"username": "Zoe@northwind.example", "name": "Zoe O'Neil \"Z\"", "title": "--lock", "organizations": [{"id": "3861"}]});
    let made = house.good("POST", USERS, Some(body), 201).await;
    let id = made["id"].as_str().unwrap().to_owned();
    assert_eq!(id.parse::<u64>().unwrap() >> 32, NORTHWIND);
    assert_eq!(
        (&made["username"], &made["status"], &made["title"]),
        (&json!("zoe@northwind.example"), &json!("invited"), &json!("--lock"))
    );
    assert!(house.emails().await.contains(&"zoe@northwind.example".to_owned()), "the list shows it at once");
    let again =
        house.call("POST", USERS, Some(json!({"username": "zoe@northwind.example", "organizations": [{"id": "3861"}]}))).await;
    problem(&again, 422, "already_exists", "vendor");

    let ben = format!("{USERS}/{BEN}");
    let changed =
        house.good("PATCH", &ben, Some(json!({"status": "inactive", "title": "Dentist", "name": "Ben Ünïcode II"})), 200).await;
    assert_eq!(
        (&changed["status"], &changed["title"], &changed["status_reason"]),
        (&json!("inactive"), &json!("Dentist"), &json!("admin")),
        "{changed}"
    );
    assert_eq!(house.good("GET", &ben, None, 200).await["name"], "Ben Ünïcode II");
    assert_eq!(house.good("PATCH", &ben, Some(json!({"status": "active"})), 200).await["status"], "active");
    let node = json!({"workspaces": [{"id": ((NORTHWIND << 32) + 21).to_string()}]});
    assert_eq!(house.good("PATCH", &ben, Some(node), 200).await["workspaces"][0]["id"], ((NORTHWIND << 32) + 21).to_string());

    // Invited users cannot be locked; Commander says success and prints their profile.
    let locked = house.call("PATCH", &format!("{USERS}/{CAT}"), Some(json!({"status": "inactive"}))).await;
    let locked = problem(&locked, 502, "write_not_taken", "vendor");
    assert_eq!(locked["field"], "status", "{locked}");
    assert_eq!(house.good("GET", &format!("{USERS}/{CAT}"), None, 200).await["status"], "invited");

    let team = house.good("POST", GROUPS, Some(json!({"name": "Night Shift", "organization": "3861"})), 201).await;
    let team_id = team["id"].as_str().unwrap().to_owned();
    assert!(team_id.starts_with("3861:"), "{team}");
    let path = format!("{GROUPS}/{}", team_id.replace(':', "%3A"));
    assert_eq!(house.good("PATCH", &path, Some(json!({"name": "Day Shift"})), 200).await["name"], "Day Shift");
    let members = format!("{path}/members");
    let member = house.good("POST", &members, Some(json!({"id": BEN.to_string()})), 201).await;
    assert_eq!((&member["id"], &member["type"]), (&json!(BEN.to_string()), &json!("user")), "{member}");
    assert_eq!(house.good("GET", &members, None, 200).await["result_count"], 1);
    house.good("DELETE", &format!("{members}/{BEN}"), None, 200).await;
    assert_eq!(house.good("GET", &members, None, 200).await["result_count"], 0);
    // Who has not joined yet is only queued, though Commander says "added".
    problem(&house.call("POST", &members, Some(json!({"id": CAT.to_string()}))).await, 502, "write_not_taken", "vendor");
    assert_eq!(house.good("DELETE", &path, None, 200).await, json!({"id": team_id}));
    problem(&house.call("GET", &path, None).await, 404, "not_found", "gateway");
    problem(&house.call("DELETE", &path, None).await, 404, "not_found", "gateway");

    assert_eq!(house.good("DELETE", &format!("{USERS}/{id}"), None, 200).await, json!({"id": id}));
    assert!(!house.emails().await.contains(&"zoe@northwind.example".to_owned()), "the list shows it at once");
    for (method, body) in [("PATCH", Some(json!({"title": "x"}))), ("DELETE", None)] {
        problem(&house.call(method, &format!("{USERS}/{id}"), body).await, 404, "not_found", "gateway");
    }
}

/// Commander takes the word "error" in an address for a failure, although it invited whoever has it.
async fn a_false_failure(house: &House) {
    let body = json!({"username": "terror@northwind.example", "organizations": [{"id": "3861"}]});
    let made = house.call("POST", &format!("{USERS}?envelope=true"), Some(body)).await;
    assert_eq!((made.status, warning(&made)), (201, Some("vendor_reported_failure")), "{}", made.text());
    assert_eq!(made.json()["result"]["status"], "invited");
    assert!(made.json()["warnings"][0]["message"].as_str().unwrap().contains("terror@northwind.example"), "{}", made.text());
}

#[tokio::test]
async fn the_real_commander_is_written_and_read_again() {
    let peer = peers::commander(&["--queue", "n"]);
    let house = House::keeper(peer.base(), peer.told("api_key"), json!({})).await;
    a_whole_life(&house).await;
    a_false_failure(&house).await;
}

#[tokio::test]
async fn the_stand_in_is_written_and_lies_like_the_real_one() {
    let (house, _sandbox, _control) = sandboxed(None, |_| {}).await;
    a_whole_life(&house).await;
    a_false_failure(&house).await;
}

#[tokio::test]
async fn through_the_queue_it_is_the_same() {
    let peer = peers::commander(&[]);
    let house = House::keeper(peer.base(), peer.told("api_key"), json!({"company_id": "3861"})).await;
    let made = house.good("POST", USERS, Some(json!({"username": "yan@northwind.example"})), 201).await;
    assert_eq!(made["organizations"][0]["id"], "3861");
    house.good("DELETE", &format!("{USERS}/{}", made["id"].as_str().unwrap()), None, 200).await;
}

#[tokio::test]
async fn lies_told_on_purpose_are_found_out() {
    let (house, _sandbox, control) = sandboxed(None, |_| {}).await;
    let ben = format!("{USERS}/{BEN}");
    let both = || Some(json!({"name": "Ben III", "title": "Surgeon"}));
    control.lie(Some(WriteLie::SaysDone));
    let refused = problem(&house.call("PATCH", &ben, both()).await, 502, "write_not_taken", "vendor");
    assert!(
        refused["detail"].as_str().unwrap().contains("answered 200") && refused["raw_response"]["data"].is_array(),
        "{refused}"
    );
    let body = json!({"username": "new@northwind.example", "organizations": [{"id": "3861"}]});
    problem(&house.call("POST", USERS, Some(body.clone())).await, 502, "write_not_taken", "vendor");
    problem(&house.call("DELETE", &ben, None).await, 502, "write_not_taken", "vendor");
    // What stood there before says nothing of this write.
    let with_old = || Some(json!({"title": "Surgeon", "organizations": [{"id": "3861"}]}));
    let refused = problem(&house.call("PATCH", &ben, with_old()).await, 502, "write_not_taken", "vendor");
    assert_eq!(refused["field"], "title", "{refused}");
    control.lie(Some(WriteLie::OnlyName));
    problem(&house.call("PATCH", &ben, with_old()).await, 500, "vendor_error", "vendor");

    let partial = problem(&house.call("PATCH", &ben, both()).await, 502, "write_partial", "vendor");
    let detail = partial["detail"].as_str().unwrap();
    assert!(detail.contains("Taken: `name`") && detail.contains("Not taken: `title`"), "{partial}");
    assert_eq!((&partial["field"], &partial["retryable"]), (&json!("title"), &json!(false)), "{partial}");
    assert_eq!(house.good("GET", &ben, None, 200).await["name"], "Ben III");

    for lie in [WriteLie::SaysFailed, WriteLie::Throttled] {
        control.lie(Some(lie));
        let title = json!({"title": format!("{lie:?}")});
        let changed = house.call("PATCH", &ben, Some(title.clone())).await;
        assert_eq!((changed.status, warning(&changed)), (200, Some("vendor_reported_failure")), "{}", changed.text());
        assert_eq!(changed.json()["title"], title["title"]);
    }
    control.lie(Some(WriteLie::SaysFailed));
    let gone = house.call("DELETE", &ben, None).await;
    assert_eq!((gone.status, warning(&gone)), (200, Some("vendor_reported_failure")), "{}", gone.text());
    let made = house.call("POST", USERS, Some(body)).await;
    assert_eq!((made.status, warning(&made)), (201, Some("vendor_reported_failure")), "{}", made.text());
}

#[tokio::test]
async fn lies_about_teams_and_their_members_are_found_out() {
    let (house, _sandbox, control) = sandboxed(None, |_| {}).await;
    let team = house.good("POST", GROUPS, Some(json!({"name": "Night Shift", "organization": "3861"})), 201).await;
    let path = format!("{GROUPS}/{}", team["id"].as_str().unwrap().replace(':', "%3A"));
    let members = format!("{path}/members");
    let new = |name: &str| Some(json!({"name": name, "organization": "3861"}));
    control.lie(Some(WriteLie::SaysDone));
    for (method, path, body) in [
        ("POST", GROUPS, new("Nobody's")),
        ("PATCH", &path, Some(json!({"name": "Day Shift"}))),
        ("POST", &members, Some(json!({"id": BEN.to_string()}))),
        ("DELETE", &path, None),
    ] {
        problem(&house.call(method, path, body).await, 502, "write_not_taken", "vendor");
    }
    let there = house.good("GET", &path, None, 200).await;
    assert_eq!(there["name"], "Night Shift", "{there}");
    control.lie(Some(WriteLie::SaysFailed));
    let one = format!("{members}/{BEN}");
    for (method, path, body, status) in [
        ("POST", GROUPS, new("Early Shift"), 201),
        ("PATCH", &path, Some(json!({"name": "Day Shift"})), 200),
        ("POST", &members, Some(json!({"id": BEN.to_string()})), 201),
        ("DELETE", &one, None, 200),
        ("DELETE", &path, None, 200),
    ] {
        let answer = house.call(method, path, body).await;
        assert_eq!((answer.status, warning(&answer)), (status, Some("vendor_reported_failure")), "{method}: {}", answer.text());
    }
    problem(&house.call("GET", &path, None).await, 404, "not_found", "gateway");
}

#[tokio::test]
async fn a_write_is_not_repeated_when_keepers_session_ends_behind_it() {
    let (house, _sandbox, control) = sandboxed(None, |_| {}).await;
    control.lie(Some(WriteLie::SessionEnds));
    let body = json!({"username": "once@northwind.example", "organizations": [{"id": "3861"}]});
    let made = house.call("POST", USERS, Some(body)).await;
    assert_eq!((made.status, warning(&made), control.writes()), (201, Some("vendor_did_not_confirm"), 1), "{}", made.text());
    let made = house.call_in(Some("3861"), "POST", "/proxy/users", Some(json!({"email": "twice@northwind.example"}))).await;
    assert_eq!((made.code().as_str(), control.writes()), ("write_unconfirmed", 2), "{}", made.text());
}

/// Through the proxy nothing is read again: what may have been done is not said to have failed.
#[tokio::test]
async fn what_a_limiter_keeps_back_is_unconfirmed() {
    let (house, _sandbox, control) = sandboxed(None, |_| {}).await;
    for lie in [WriteLie::Throttled, WriteLie::Limited] {
        let email = format!("{lie:?}@northwind.example").to_lowercase();
        control.lie(Some(lie));
        let made = house.call_in(Some("3861"), "POST", "/proxy/users", Some(json!({"email": email}))).await;
        assert_eq!(
            (made.code().as_str(), made.json()["origin"].as_str()),
            ("write_unconfirmed", Some("vendor")),
            "{}",
            made.text()
        );
        control.lie(None);
        assert!(house.emails().await.contains(&email), "{lie:?}");
    }
}

#[tokio::test]
async fn no_value_becomes_an_option_another_command_or_a_wildcard() {
    let (house, _sandbox, control) = sandboxed(None, |_| {}).await;
    let runs = control.runs();
    let ben = format!("{USERS}/{BEN}");
    for value in ["a\nb", "a\rb", "${HOME}", "--", "@all"] {
        let refused =
            problem(&house.call("PATCH", &ben, Some(json!({"name": value}))).await, 422, "field_not_writable", "gateway");
        assert_eq!(refused["field"], "name", "{refused}");
    }
    for email in ["--delete", "-h", "@all", "a\nb@x.example"] {
        let body = json!({"username": email, "organizations": [{"id": "3861"}]});
        let refused = problem(&house.call("POST", USERS, Some(body)).await, 422, "field_not_writable", "gateway");
        assert_eq!(refused["field"], "username", "{refused}");
    }
    for (body, field) in [
        (json!({"title": null}), "title"),
        (json!({"title": ""}), "title"),
        (json!({"username": "new@x.example"}), "username"),
        (json!({"aliases": ["x@x.example"]}), "aliases"),
        (json!({"roles": []}), "roles"),
        (json!({"is_2fa_enabled": true}), "is_2fa_enabled"),
        (json!({"remote_data": {"delete": "1"}}), "remote_data.delete"),
    ] {
        let refused = problem(&house.call("PATCH", &ben, Some(body)).await, 422, "field_not_writable", "gateway");
        assert_eq!(refused["field"], field, "{refused}");
    }
    assert_eq!(control.runs(), runs, "nothing was sent");
    let own = house.good("PATCH", &ben, Some(json!({"remote_data": {"job_title": "Own"}})), 200).await;
    assert_eq!(own["title"], "Own");
    let quoted = r#"O'Neil "x" \ $HOME; rm -rf / `id` -f --delete"#;
    assert_eq!(house.good("PATCH", &ben, Some(json!({"name": quoted})), 200).await["name"], quoted);
}

/// Commander raises where it finds nobody; an id of the right form that nobody has is a missing record all the same.
#[tokio::test]
async fn nobody_of_that_id_is_not_found_at_the_proxy_either() {
    let (house, _sandbox, _) = sandboxed(None, |_| {}).await;
    let peer = peers::commander(&["--queue", "n"]);
    let real = House::keeper(peer.base(), peer.told("api_key"), json!({})).await;
    let nobody = format!("/proxy/users/{}", (3861_u64 << 32) + 9_999);
    for house in [house, real] {
        for (method, body) in [("DELETE", None), ("PATCH", Some(json!({"name": "Nobody"})))] {
            let missing = house.call(method, &nobody, body).await;
            let shown = problem(&missing, 404, "not_found", "gateway");
            assert!(shown["raw_response"].to_string().contains("No such user"), "{method}: {shown}");
        }
    }
}

#[tokio::test]
async fn everything_that_names_a_company_must_name_the_same() {
    let (house, sandbox, _control) = sandboxed(None, |_| {}).await;
    let body = || Some(json!({"username": "new@x.example"}));
    let refused = problem(&house.call("POST", USERS, body()).await, 422, "field_missing", "gateway");
    assert_eq!(refused["field"], "organizations", "{refused}");
    let made = house.call_in(Some("3862"), "POST", USERS, body()).await;
    assert_eq!((made.status, &made.json()["organizations"][0]["id"]), (201, &json!("3862")), "{}", made.text());
    for (company, method, path, body) in [
        (Some("3861"), "POST", USERS.to_owned(), Some(json!({"username": "a@x.example", "organizations": [{"id": "3862"}]}))),
        (Some("3862"), "PATCH", format!("{USERS}/{BEN}"), Some(json!({"title": "x"}))),
        (Some("3862"), "DELETE", format!("{GROUPS}/3861%3Ax"), None),
        (Some("acme"), "POST", USERS.to_owned(), Some(json!({"username": "a@x.example"}))),
    ] {
        let answer = house.call_in(company, method, &path, body).await;
        problem(&answer, 400, "invalid_parameter", "gateway");
    }
    for path in [format!("{USERS}/nobody"), format!("{USERS}/5"), format!("{USERS}/{}", (9999_u64 << 32) + 1)] {
        let answer = house.call("PATCH", &path, Some(json!({"title": "x"}))).await;
        assert!(matches!(answer.status, 404 | 503), "{path}: {}", answer.text());
    }
    let only = House::keeper(&sandbox.base, &sandbox.token, json!({"company_id": "3862"})).await;
    let made = only.good("POST", USERS, Some(json!({"username": "only@x.example"})), 201).await;
    assert_eq!(made["organizations"][0]["id"], "3862");
    problem(&only.call("PATCH", &format!("{USERS}/{BEN}"), Some(json!({"title": "x"}))).await, 404, "not_found", "gateway");
}

#[tokio::test]
async fn a_key_that_may_not_write_says_which_command_it_lacks() {
    let (house, _sandbox, _control) = sandboxed(None, |faults| faults.commands.retain(|word| word != "enterprise-user")).await;
    let refused = problem(
        &house.call("PATCH", &format!("{USERS}/{BEN}"), Some(json!({"title": "x"}))).await,
        403,
        "vendor_denied",
        "vendor",
    );
    assert!(refused["detail"].as_str().unwrap().contains("may not run enterprise-user"), "{refused}");
}

#[tokio::test]
async fn commands_have_no_query_and_capabilities_name_what_says_the_company() {
    let (house, _sandbox, _control) = sandboxed(None, |_| {}).await;
    for (method, path, field) in [
        ("GET", "/proxy/users?status=x".to_owned(), "status"),
        ("GET", format!("{USERS}?remote_query[x]=1"), "x"),
        ("GET", format!("{USERS}/{BEN}?remote_query[x]=1"), "x"),
        ("PATCH", format!("{USERS}/{BEN}?remote_query[x]=1"), "x"),
    ] {
        let body = (method == "PATCH").then(|| json!({"name": "Ben"}));
        names(&house.call(method, &path, body).await, 400, "invalid_parameter", field);
    }
    let capabilities = house.gateway.get(&format!("/integrated-account/{}/capabilities", house.account)).await.json();
    let unified = capabilities["unified"].as_array().unwrap();
    let creates = |name: &str| {
        let resource = unified.iter().find(|one| one["resource"] == name).unwrap();
        resource["writable"]["create"].as_array().unwrap().clone()
    };
    assert!(creates("users").contains(&json!("organizations")) && creates("groups").contains(&json!("organization")));
    assert_eq!(creates("group_members"), [json!("id")]);
    for (method, path, word) in [
        ("POST", "/unified/user-directory/roles".to_owned(), "enterprise-role"),
        ("DELETE", format!("/unified/user-directory/workspaces/{BEN}"), "enterprise-node"),
    ] {
        let refused = house.call(method, &path, (method == "POST").then(|| json!({"name": "x"}))).await;
        let detail = refused.json()["detail"].as_str().unwrap().to_owned();
        assert_eq!(refused.status, 405, "{method} {path}: {detail}");
        assert!(detail.contains(word) && detail.contains("https://"), "{method} {path}: {detail}");
    }
}

/// Commander takes addresses and names where it takes ids, and options where it takes members.
#[tokio::test]
async fn nobody_is_meant_but_by_an_id_of_the_path() {
    let (house, _sandbox, _control) = sandboxed(None, |_| {}).await;
    let users = house.walk(USERS).await;
    let teams = house.walk(GROUPS).await;
    let name = users.iter().find(|user| user["id"] == *CAT.to_string()).unwrap()["username"].as_str().unwrap().to_owned();
    let team =
        teams.iter().find(|team| team["organization"] == *NORTHWIND.to_string()).unwrap()["name"].as_str().unwrap().to_owned();
    for (method, path, body) in [
        ("DELETE", format!("{USERS}/{NORTHWIND}:{name}"), None),
        ("PATCH", format!("{USERS}/{NORTHWIND}:{name}"), Some(json!({"title": "x"}))),
        ("DELETE", format!("{GROUPS}/{NORTHWIND}:{team}"), None),
        ("PATCH", format!("{GROUPS}/{NORTHWIND}:{team}"), Some(json!({"name": "x"}))),
        ("DELETE", format!("{GROUPS}/{NORTHWIND}:{team}/members/{BEN}"), None),
        ("DELETE", format!("/proxy/users/{NORTHWIND}:{name}"), None),
        ("POST", "/proxy/users/lock".to_owned(), Some(json!({"id": format!("{NORTHWIND}:{name}")}))),
        (
            "POST",
            "/proxy/users/add_team".to_owned(),
            Some(json!({"id": BEN.to_string(), "team_id": format!("{NORTHWIND}:{team}")})),
        ),
    ] {
        let answer = house.call(method, &path, body).await;
        assert_eq!(answer.status, 404, "{method} {path}: {}", answer.text());
    }
    let other = json!({"title": "x", "remote_data": {"id": CAT.to_string()}});
    names(&house.call("PATCH", &format!("{USERS}/{BEN}"), Some(other)).await, 422, "field_not_writable", "remote_data.id");
    let other = json!({"id": CAT.to_string(), "job_title": "x"});
    names(&house.call("PATCH", &format!("/proxy/users/{BEN}"), Some(other)).await, 422, "field_not_writable", "id");
    assert_eq!((house.walk(USERS).await, house.walk(GROUPS).await), (users, teams), "nothing was changed");
}
