//! Rules laid over a connector's maps: what is refused, and what a resource is afterwards.

use rollcall::{
    connector::{Catalog, Connector, Maps, ResourceDef},
    mapping::{Options, Roots},
    model::Resource,
};
use serde_json::{Value, json};

fn connector(slug: &str) -> std::sync::Arc<Connector> {
    Catalog::load(None).unwrap().get(slug).unwrap().clone()
}

fn maps(document: Value) -> Maps {
    let (maps, problems) = Maps::read(document.as_object().unwrap());
    assert_eq!(problems, []);
    maps
}

/// Every mistake, as a caller sees it.
fn mistakes(slug: &str, document: Value) -> Vec<String> {
    let (maps, mut problems) = Maps::read(document.as_object().unwrap());
    if problems.is_empty() {
        problems = connector(slug).check_maps(&maps);
    }
    problems.iter().map(ToString::to_string).collect()
}

#[track_caller]
fn mistake(slug: &str, document: Value, parts: &[&str]) {
    let found = mistakes(slug, document);
    assert!(!found.is_empty(), "it is taken");
    assert!(parts.iter().all(|part| found.iter().any(|text| text.contains(part))), "{found:?} lacks one of {parts:?}");
}

fn users(rules: Value) -> Value {
    json!({"users": {"map": rules}})
}

/// The unified form of a record.
fn applied(def: &ResourceDef, record: Value) -> Value {
    let mut out = Vec::new();
    def.table.apply(record.to_string().as_bytes(), Roots::default(), Options::default(), &mut out).unwrap();
    serde_json::from_slice(&out).unwrap()
}

#[test]
fn mistakes_name_their_place_and_what_to_do() {
    mistake("scim", json!({"usres": {"map": {}}}), &["`usres`", "is no resource", "did you mean `users`"]);
    mistake("scim", json!({"users": 7}), &["`users`", "is no object with a `map`"]);
    mistake("scim", json!({"users": {"map": []}}), &["`users.map`", "is no object of targets and rules"]);
    mistake("scim", json!({"users": {"list": {"request": "GET /elsewhere"}}}), &["`users.list`", "has a `map` and nothing else"]);
    mistake("scim", json!({"users": {"map": {}, "proxy": "x"}}), &["`users.proxy`"]);
    mistake("scim", users(json!({"titel": "x"})), &["`users.map.titel`", "has no field `titel`", "did you mean `title`"]);
    mistake("scim", users(json!({"title": 7})), &["`users.map.title`", "a path, a list of paths"]);
    mistake("scim", users(json!({"title": {"form": "x"}})), &["`users.map.title`", "unknown field `form`"]);
    mistake("scim", users(json!({"title": {"from": "a", "const": "b"}})), &["exactly one of `from`, `const`"]);
    mistake("scim", users(json!({"title": "a["})), &["`users.map.title`"]);
    mistake("scim", users(json!({"status": {"from": "a", "values": {"1": "active"}}})), &["an enum needs `else`"]);
    mistake("scim", users(json!({"status": {"from": "a", "values": {"1": "alive"}, "else": "unknown"}})), &["alive"]);
    mistake("scim", users(json!({"title": {"from": "a", "fn": "shell"}})), &["there is no function `shell`"]);
    mistake("scim", users(json!({"emails[3].email": "a"})), &["not every one before it"]);
    mistake("scim", json!({"users.bearre": {"map": {"title": "x"}}}), &["`users.bearre`", "did you mean `bearer`"]);
    mistake("scim", json!({"licenses": {"map": {"name": "x"}}}), &["`licenses`", "scim has no licenses here"]);
}

#[test]
fn several_mistakes_are_told_at_once_and_each_once() {
    let found = mistakes("scim", json!({"users": {"map": {"titel": "x", "nmae": "y"}}, "groups": {"map": {"nonsense": "z"}}}));
    assert_eq!(found.len(), 3, "{found:?}");
}

#[test]
fn what_records_are_found_by_stays() {
    mistake("scim", users(json!({"id": "externalId"})), &["`users.map.id`", "stays the connector's"]);
    mistake("scim", users(json!({"username": "externalId"})), &["`create` needs the vendor's `userName`"]);
    mistake("keeper", json!({"activities": {"map": {"created_at": {"from": "x", "as": "epoch_s"}}}}), &["stays the connector's"]);
    // Another target that fills the path will do.
    assert_eq!(mistakes("scim", users(json!({"username": "externalId", "bio": "userName"}))), Vec::<String>::new());
}

#[test]
fn rules_replace_target_by_target_and_the_rest_stays() {
    let over = maps(users(json!({"title": "extension.role", "emails": {"each": "mails", "map": {"email": "v"}}})));
    let (laid, problems) = connector("scim").with_maps(&over);
    assert_eq!(problems, []);
    let def = &laid.method("bearer").unwrap().resources[&Resource::User];
    assert!(def.overridden);
    let record = json!({"id": "1", "userName": "ada", "title": "old", "extension": {"role": "new"}, "active": true,
        "emails": [{"value": "a@old.example"}], "mails": [{"v": "a@new.example"}]});
    let user = applied(def, record);
    assert_eq!((&user["title"], &user["username"], &user["status"]), (&json!("new"), &json!("ada"), &json!("active")));
    assert_eq!(user["emails"], json!([{"email": "a@new.example"}]));
    let plain = connector("scim");
    assert!(!plain.method("bearer").unwrap().resources[&Resource::User].overridden, "the connector itself is not touched");
    assert!(!laid.method("bearer").unwrap().resources[&Resource::Group].overridden);
}

#[test]
fn what_the_vendor_evaluates_is_evaluated_by_the_gateway_once_its_field_is_another() {
    let filters = |rules: Value| -> Vec<String> {
        let (laid, _) = connector("scim").with_maps(&maps(users(rules)));
        laid.method("bearer").unwrap().resources[&Resource::User].filters.keys().cloned().collect()
    };
    let all = filters(json!({"bio": "x"}));
    assert!(all.contains(&"external_id".to_owned()) && all.contains(&"emails[email]".to_owned()), "{all:?}");
    let left = filters(json!({"external_id": "x", "emails": {"each": "m", "map": {"email": "v"}}}));
    assert!(!left.contains(&"external_id".to_owned()) && !left.contains(&"emails[email]".to_owned()), "{left:?}");
    assert!(left.contains(&"username".to_owned()), "{left:?}");
}

#[test]
fn writes_turn_the_rules_round_with_the_rest() {
    let over = maps(users(json!({"title": "extension.role", "groups[0].name": "team", "status": {"const": "active"}})));
    let (laid, problems) = connector("scim").with_maps(&over);
    assert_eq!(problems, []);
    let writes = laid.method("bearer").unwrap().resources[&Resource::User].writes.as_ref().unwrap();
    let written: Vec<(&str, &str)> = writes.reverse.sources().collect();
    assert!(written.contains(&("title", "extension.role")) && written.contains(&("username", "userName")), "{written:?}");
    assert!(!written.iter().any(|(_, path)| *path == "title" || *path == "active"), "{written:?}");
    let writable: Vec<&str> = writes.reverse.writable().collect();
    assert!(!writable.contains(&"groups[0].name"), "what the vendor sets itself is not written under another target");
}

#[test]
fn layers_are_laid_one_over_the_other_and_a_methods_own_over_all() {
    let below = maps(json!({
        "users": {"map": {"title": "one", "bio": "one", "avatar": "one"}},
        "users.bearer": {"map": {"bio": "two"}},
    }));
    let (laid, problems) = connector("scim").with_maps(&below);
    assert_eq!(problems, []);
    let (method, problems) = laid.method("bearer").unwrap().with_maps(&maps(users(json!({"avatar": "three"}))));
    assert_eq!(problems, []);
    let record = json!({"id": "1", "userName": "ada", "one": "1", "two": "2", "three": "3"});
    let user = applied(&method.resources[&Resource::User], record.clone());
    assert_eq!((&user["title"], &user["bio"], &user["avatar"]), (&json!("1"), &json!("2"), &json!("3")));
    let other = applied(&laid.method("basic").unwrap().resources[&Resource::User], record);
    assert_eq!((&other["bio"], &other["avatar"]), (&json!("1"), &json!("1")));
}

#[test]
fn rules_that_no_longer_fit_take_their_resource_away_and_nothing_else() {
    let document = json!({"users": {"map": {"title": "x", "bio": {"from": "y", "gone": true}}}});
    let (read, problems) = Maps::read(document.as_object().unwrap());
    assert_eq!(problems.len(), 1);
    let (laid, problems) = connector("scim").with_maps(&read);
    assert!(!problems.is_empty());
    let method = laid.method("bearer").unwrap();
    assert!(method.resources[&Resource::User].reason("list").unwrap().contains("no longer fit"));
    assert!(method.resources[&Resource::Group].reason("list").is_none());
    // Where requests go and what they carry is the connector's in every case.
    assert_eq!(method.proxy.deny.len(), connector("scim").method("bearer").unwrap().proxy.deny.len());
}

#[test]
fn an_accounts_rules_speak_of_its_own_way_to_link() {
    let connector = connector("scim");
    let method = connector.method("bearer").unwrap();
    assert_eq!(method.check_maps(&maps(users(json!({"bio": "x"})))), []);
    let found = method.check_maps(&maps(json!({"users.basic": {"map": {"bio": "x"}}})));
    assert!(found.len() == 1 && found[0].to_string().contains("linked by `bearer`"), "{found:?}");
    let found = method.check_maps(&maps(json!({"licenses": {"map": {"name": "x"}}})));
    assert!(found.iter().any(|problem| problem.to_string().contains("has no licenses")), "{found:?}");
}
