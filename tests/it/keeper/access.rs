//! Role assignments, licences and events: at the real Commander, and at the stand-in where time or a plan must be played.

use std::collections::BTreeSet;

use rollcall::sandbox::keeper_commander::WriteLie;
use serde_json::{Value, json};

use super::bench::sandboxed;
use crate::{
    e2e::vendor::problem,
    support::{house::House, peers},
};

const ASSIGNMENTS: &str = "/unified/user-directory/role_assignments";
const LICENSES: &str = "/unified/user-directory/licenses";
const ACTIVITIES: &str = "/unified/user-directory/activities";
const NORTHWIND: u64 = 3861 << 32;

impl House {
    async fn capabilities(&self) -> Value {
        self.gateway.get(&format!("/integrated-account/{}/capabilities", self.account)).await.json()
    }
}

fn id(number: u64) -> String {
    (NORTHWIND + number).to_string()
}

fn one(path: &str, id: &str) -> String {
    format!("{path}/{}", id.replace(':', "%3A"))
}

/// Who holds which role in Northwind, read, given and taken. The numbers of the roles differ between the two tenants.
async fn role_assignments_live(house: &House, clinic_users: &str, administrator: &str) {
    let all = house.walk(&format!("{ASSIGNMENTS}?limit=2")).await;
    let own: Vec<&Value> = all.iter().filter(|one| one["organization"] == "3861").collect();
    let ids: BTreeSet<&str> = own.iter().map(|one| one["id"].as_str().unwrap()).collect();
    assert_eq!((own.len(), ids.len()), (3, 3), "{own:?}");
    let team = own.iter().find(|one| one["group_id"].is_string()).unwrap();
    assert_eq!(
        (&team["group_id"], &team["group_type"], &team["role_id"], &team["user_id"]),
        (&json!("3861:18opBFrGJyh6FbsK1-WwAQ"), &json!("team"), &json!(clinic_users), &Value::Null),
        "a role that comes through a team is that team's"
    );
    let of_ada = house.good("GET", &format!("{ASSIGNMENTS}?user_id={}", id(201)), None, 200).await;
    assert_eq!((&of_ada["result"][0]["role_id"], &of_ada["result_count"]), (&json!(administrator), &json!(1)), "{of_ada}");
    let held = of_ada["result"][0]["id"].as_str().unwrap();
    assert_eq!(house.good("GET", &one(ASSIGNMENTS, held), None, 200).await["user_id"], id(201));
    assert!(all.iter().any(|one| one["organization"] == "8560") && all.iter().any(|one| one["organization"] == "3862"));

    let body = json!({"user_id": id(206), "role_id": clinic_users});
    let given = house.good("POST", ASSIGNMENTS, Some(body.clone()), 201).await;
    assert_eq!((&given["user_id"], &given["role_id"]), (&json!(id(206)), &json!(clinic_users)), "{given}");
    let made = given["id"].as_str().unwrap().to_owned();
    assert_eq!(house.good("POST", ASSIGNMENTS, Some(body), 201).await["id"], made, "one who holds it keeps it");
    let fay = house.good("GET", &format!("/unified/user-directory/users/{}", id(206)), None, 200).await;
    assert_eq!(fay["roles"][0]["id"], clinic_users);
    assert_eq!(house.good("DELETE", &one(ASSIGNMENTS, &made), None, 200).await, json!({"id": made}));
    problem(&house.call("GET", &one(ASSIGNMENTS, &made), None).await, 404, "not_found", "gateway");
    problem(&house.call("DELETE", &one(ASSIGNMENTS, &made), None).await, 404, "not_found", "gateway");

    let team = team["id"].as_str().unwrap();
    problem(&house.call("DELETE", &one(ASSIGNMENTS, team), None).await, 422, "field_not_writable", "gateway");
    for (body, status, code, field) in [
        (json!({"role_id": clinic_users}), 422, "field_missing", "user_id"),
        (json!({"user_id": id(206)}), 422, "field_missing", "role_id"),
        (json!({"user_id": "fay@northwind.example", "role_id": clinic_users}), 422, "field_not_writable", "user_id"),
        (json!({"user_id": id(206), "role_id": "Clinic Users"}), 422, "field_not_writable", "role_id"),
        (json!({"user_id": id(206), "role_id": (3862_u64 << 32 | 401).to_string()}), 400, "invalid_parameter", "role_id"),
        (json!({"user_id": id(206), "role_id": clinic_users, "group_id": "x"}), 422, "field_not_writable", "group_id"),
        (json!({"user_id": 5, "role_id": clinic_users}), 400, "invalid_body", "user_id"),
    ] {
        let refused = problem(&house.call("POST", ASSIGNMENTS, Some(body.clone())).await, status, code, "gateway");
        assert_eq!(refused["field"], field, "{body}: {refused}");
    }
    for (user, role) in [(id(999), clinic_users.to_owned()), (id(206), id(999))] {
        let refused = house.call("POST", ASSIGNMENTS, Some(json!({"user_id": user, "role_id": role}))).await;
        assert!(refused.status >= 400, "{}", refused.text());
    }
}

#[tokio::test]
async fn the_real_commander_tells_who_holds_which_role_and_changes_it() {
    let peer = peers::commander(&["--queue", "n"]);
    let house = House::keeper(peer.base(), peer.told("api_key"), json!({})).await;
    role_assignments_live(&house, &id(402), &id(401)).await;
}

#[tokio::test]
async fn the_stand_in_does_the_same() {
    let (house, _sandbox, _) = sandboxed(None, |_| {}).await;
    role_assignments_live(&house, &id(402), &id(401)).await;
}

#[tokio::test]
async fn lies_about_roles_are_found_out() {
    let (house, _sandbox, control) = sandboxed(None, |_| {}).await;
    let body = || Some(json!({"user_id": id(206), "role_id": id(402)}));
    control.lie(Some(WriteLie::SaysDone));
    problem(&house.call("POST", ASSIGNMENTS, body()).await, 502, "write_not_taken", "vendor");
    control.lie(Some(WriteLie::SaysFailed));
    let given = house.call("POST", ASSIGNMENTS, body()).await;
    assert_eq!((given.status, given.header("rollcall-warning")), (201, Some("vendor_reported_failure")), "{}", given.text());
    let id = given.json()["id"].as_str().unwrap().to_owned();
    control.lie(Some(WriteLie::SaysDone));
    problem(&house.call("DELETE", &one(ASSIGNMENTS, &id), None).await, 502, "write_not_taken", "vendor");
}

async fn licenses_live(house: &House) {
    let all = house.walk(&format!("{LICENSES}?limit=3")).await;
    let find = |id: &str| all.iter().find(|one| one["id"] == id).unwrap_or_else(|| panic!("{id} in {all:#?}"));
    let plan = find("3862:enterprise");
    assert_eq!((&plan["available_quantity"], &plan["assigned_quantity"]), (&json!(25), &json!(3)));
    assert_eq!((&plan["organization"], &plan["description"]), (&json!("3862"), &json!("plan")));
    assert_eq!(find("3862:connection_manager")["available_quantity"], 5);
    assert_eq!(find("3861:businessPlus")["available_quantity"], Value::Null, "no limit");
    let own: Vec<&Value> = all.iter().filter(|one| one["organization"] == "8560").collect();
    assert_eq!((&own[0]["available_quantity"], &own[0]["assigned_quantity"]), (&json!(100), &json!(3)), "{own:#?}");
    assert_eq!(house.good("GET", &one(LICENSES, "3862:enterprise"), None, 200).await["name"], "enterprise");
    problem(&house.call("GET", &one(LICENSES, "3862:nothing"), None).await, 404, "not_found", "gateway");
    let large = house.good("GET", &format!("{LICENSES}?available_quantity[gte]=25"), None, 200).await;
    assert_eq!(large["result_count"], 2, "{large}");
    let sorted = house.good("GET", &format!("{LICENSES}?sort_by=available_quantity&sort_direction=desc"), None, 200).await;
    assert_eq!(sorted["result"][0]["available_quantity"], 100, "{sorted}");
}

#[tokio::test]
async fn licences_are_those_that_commander_tells() {
    let peer = peers::commander(&["--queue", "n"]);
    licenses_live(&House::keeper(peer.base(), peer.told("api_key"), json!({})).await).await;
    let (house, _sandbox, _) = sandboxed(None, |_| {}).await;
    licenses_live(&house).await;
    let (house, _sandbox, _) = sandboxed(Some("3862"), |_| {}).await;
    let own = house.walk(LICENSES).await;
    assert!(own.len() >= 2 && own.iter().all(|one| one["organization"] == "3862"), "{own:?}");
}

fn times(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["created_at"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn the_real_commander_reports_events_in_pages_by_time() {
    let peer = peers::commander(&["--queue", "n"]);
    let house = House::keeper(peer.base(), peer.told("api_key"), json!({"company_id": "3861"})).await;
    let all = house.walk(ACTIVITIES).await;
    assert_eq!(all.len(), 7, "{all:#?}");
    assert!(times(&all).is_sorted_by(|a, b| a >= b));
    assert_eq!((&all[0]["action"], &all[0]["entity"]), (&json!("user_deleted"), &json!("old@northwind.example")));
    assert_eq!(all[0]["actor"], json!({"type": "user", "user": {"email": "ada@northwind.example"}}));
    assert_eq!((&all[0]["created_at"], &all[0]["organization"]), (&json!("2026-09-09T23:26:40Z"), &json!("3861")));
    assert_eq!(all[0]["context"], json!({"ip_address": "203.0.113.7", "user_agent": "EMConsole.17.4.0"}));
    let small = house.walk(&format!("{ACTIVITIES}?limit=2")).await;
    assert_eq!(small, all, "page by page it is the same list");
    let ids: BTreeSet<&str> = all.iter().map(|event| event["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), 7);

    for (filter, count, vendor) in [
        ("created_at[gte]=2026-09-09T21:26:40Z", 3, "created_at"),
        ("created_at[gt]=2026-09-09T21:26:40Z", 2, "created_at"),
        ("created_at[gte]=2026-09-09T19:00:00Z&created_at[lt]=2026-09-09T22:26:40Z", 3, "created_at"),
        ("created_at[lte]=2026-09-09T18:26:40Z", 2, "created_at"),
        ("created_at[gte]=2027-01-01", 0, "created_at"),
        ("action=user_invited", 1, "action"),
        ("action=login", 1, "action"),
        ("actor[user][email]=ben@northwind.example", 2, "actor[user][email]"),
        ("actor[user][email]=nobody@northwind.example", 0, "actor[user][email]"),
    ] {
        let found = house.good("GET", &format!("{ACTIVITIES}?{filter}"), None, 200).await;
        assert_eq!(found["result_count"], count, "{filter}: {found}");
        assert!(found["filters"]["vendor"].as_array().unwrap().contains(&json!(vendor)), "{filter}: {found}");
        assert_eq!((&found["complete"], &found["next_cursor"]), (&json!(true), &Value::Null), "{filter}");
    }
    let gateway = house.good("GET", &format!("{ACTIVITIES}?entity=dan@northwind.example"), None, 200).await;
    assert_eq!((&gateway["result_count"], &gateway["filters"]["gateway"]), (&json!(1), &json!(["entity"])), "{gateway}");
}

#[tokio::test]
async fn events_of_every_company_follow_one_another_and_none_is_lost_or_told_twice() {
    let events = if crate::support::long() { 5000 } else { 230 };
    let (house, _sandbox, _) = sandboxed(None, |faults| faults.events = events).await;
    for limit in ["limit=100", "limit=7&organization=3861", "limit=1000"] {
        let all = house.walk(&format!("{ACTIVITIES}?{limit}")).await;
        let companies: Vec<&str> = all.iter().map(|event| event["organization"].as_str().unwrap()).collect();
        let wanted: &[&str] = if limit.contains("3861") { &["3861"] } else { &["8560", "3861", "3862"] };
        assert_eq!(companies.chunk_by(|a, b| a == b).map(|chunk| chunk[0]).collect::<Vec<_>>(), wanted, "{limit}");
        let ids: BTreeSet<&str> = all.iter().map(|event| event["id"].as_str().unwrap()).collect();
        assert_eq!((all.len(), ids.len()), ((events + 7) * wanted.len(), (events + 7) * wanted.len()), "{limit}");
        assert!(all.chunk_by(|a, b| a["organization"] == b["organization"]).all(|own| times(own).is_sorted_by(|a, b| a >= b)));
    }
    let failed = house.walk(&format!("{ACTIVITIES}?action=login_failed&organization_id=3862")).await;
    assert_eq!(failed.len(), events.div_ceil(3));
    let raw = house.good("GET", "/proxy/events?limit=3", None, 200).await;
    assert_eq!(raw["result"][0]["audit_event_type"], "delete_user");
}

#[tokio::test]
async fn a_missing_add_on_is_said_and_never_an_empty_list() {
    let (house, _sandbox, control) = sandboxed(Some("3862"), |faults| faults.without_reporting = vec![3862]).await;
    let refused = problem(&house.call("GET", ACTIVITIES, None).await, 403, "addon_missing", "vendor");
    assert!(refused["detail"].as_str().unwrap().contains("Advanced Reporting and Alerts Module"), "{refused}");
    let shown = house.capabilities().await;
    let missing = |shown: &Value| shown["not_supported"].as_array().unwrap().iter().any(|one| one["resource"] == "activities");
    let offered = |shown: &Value| shown["unified"].as_array().unwrap().iter().any(|one| one["resource"] == "activities");
    assert!(missing(&shown) && !offered(&shown), "{shown}");
    let general = house.gateway.get("/integration/keeper/capabilities").await.json();
    let general = general["unified"].as_array().unwrap().iter().find(|one| one["resource"] == "activities").unwrap().clone();
    assert!(general["needs"].as_str().unwrap().contains("ARAM"), "{general}");

    control.without_reporting(Vec::new());
    assert_eq!(house.good("GET", ACTIVITIES, None, 200).await["result_count"], 7, "bought since: the next call finds it");
    let shown = house.capabilities().await;
    assert!(!missing(&shown) && offered(&shown), "{shown}");

    let (house, _sandbox, control) = sandboxed(None, |faults| faults.without_reporting = vec![8560, 3862]).await;
    assert!(missing(&house.capabilities().await), "linking asks for it");
    let page = house.good("GET", &format!("{ACTIVITIES}?truto_ignore_limit=true"), None, 200).await;
    assert_eq!((&page["result_count"], &page["complete"]), (&json!(7), &json!(false)), "{page}");
    let warned: Vec<&str> = page["warnings"].as_array().unwrap().iter().map(|one| one["code"].as_str().unwrap()).collect();
    assert_eq!(warned, ["addon_missing", "addon_missing"], "{page}");
    problem(&house.call("GET", &format!("{ACTIVITIES}?organization=3862"), None).await, 403, "addon_missing", "vendor");
    control.without_reporting(vec![8560, 3861, 3862, 3863]);
    problem(&house.call("GET", &format!("{ACTIVITIES}?truto_ignore_limit=true"), None).await, 403, "addon_missing", "vendor");
}

#[tokio::test]
async fn events_come_through_the_queue_and_without_a_permitted_command_the_key_is_told() {
    let peer = peers::commander(&[]);
    let house = House::keeper(peer.base(), peer.told("api_key"), json!({"company_id": "3861"})).await;
    assert_eq!(house.walk(&format!("{ACTIVITIES}?limit=5")).await.len(), 7);
    let (house, _sandbox, _) = sandboxed(None, |faults| faults.commands.retain(|word| word != "audit-report")).await;
    let refused = problem(&house.call("GET", ACTIVITIES, None).await, 403, "vendor_denied", "vendor");
    assert!(refused["detail"].as_str().unwrap().contains("audit-report"), "{refused}");
}
