//! Maps turned round: what can be written, what cannot and why, and that what was written is read back the same.

use std::collections::BTreeMap;

use proptest::{prelude::*, test_runner::TestRunner};
use rollcall::{
    connector::fixture,
    mapping::{BodyError, Change, Reverse, ReverseRules, check_body, not_shown},
    model::{Group, User},
};
use serde_json::{Map, Value, json};

use super::map;
use crate::connector::contract::{cases, map as mapped};

fn reverse(yaml: &str, read_only: &[&str], values: Value) -> Reverse {
    let read_only: Vec<String> = read_only.iter().map(|name| (*name).to_owned()).collect();
    let values: BTreeMap<String, BTreeMap<String, Value>> = serde_json::from_value(values).unwrap();
    Reverse::compile(&map(yaml), &User::SHAPE, ReverseRules { read_only: &read_only, values: &values })
        .unwrap_or_else(|errors| panic!("{errors:?}"))
}

fn object(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

fn written(reverse: &Reverse, body: Value) -> Result<Value, BodyError> {
    let mut record = json!({});
    reverse.changes(&object(body))?.iter().for_each(|change: &Change| change.apply(&mut record));
    Ok(record)
}

const MAP: &str = r#"
id: id
external_id: externalId
name: [displayName, name.formatted]
first_name: name.givenName
username: mail
emails[0].email: mail
emails[0].is_primary: { const: true }
phones: { each: phones, map: { number: value, type: type } }
status: { from: active, values: { "true": active, "True": active, "false": inactive }, else: unknown }
avatar: ["photos[?type=photo].value", "photos[0].value"]
languages: { from: locale, split: "," }
organizations[0].name: '"urn:x:User".organization'
organizations[0].id: $company.id
title: { from: title, when: { path: kind, is: x } }
is_2fa_enabled: { present: mfa }
created_at: { from: created, as: epoch_s }
type: { from: kind, null_if: none }
bio: bio
"#;

#[test]
fn every_kind_of_rule_is_turned_round_or_says_why_not() {
    let reverse = reverse(MAP, &["bio"], json!({"status": {"active": true, "inactive": false}}));
    let body = json!({
        "external_id": "e", "name": "Ada B", "first_name": "Ada", "username": "Ada@x.example", "emails": [{"email": "ada@x.example", "is_primary": true, "type": null}],
        "phones": [{"number": "1", "type": "work"}, {"number": "2"}], "status": "inactive", "avatar": "https://p", "languages": ["de", "en"],
        "organizations": [{"name": "O", "id": "7"}], "created_at": "1970-01-01T00:01:00Z", "type": "y",
    });
    assert_eq!(
        written(&reverse, body.clone()).unwrap(),
        json!({
            "externalId": "e", "displayName": "Ada B", "name": {"givenName": "Ada"}, "mail": "ada@x.example",
            "phones": [{"value": "1", "type": "work"}, {"value": "2"}], "active": false, "photos": [{"type": "photo", "value": "https://p"}],
            "locale": "de,en", "urn:x:User": {"organization": "O"}, "created": 60, "kind": "y",
        })
    );
    assert_eq!(reverse.companies(&object(body)), [("organizations[0].id".to_owned(), "7".to_owned())]);
    for (body, field, why) in [
        (json!({"id": "1"}), "id", "gives it"),
        (json!({"bio": "x"}), "bio", "sets it itself"),
        (json!({"title": "x"}), "title", "another field"),
        (json!({"is_2fa_enabled": true}), "is_2fa_enabled", "no form"),
        (json!({"aliases": ["x"]}), "aliases", "no such field"),
        (json!({"emails": [{"email": "a", "is_primary": false}]}), "emails[0].is_primary", "always true"),
        (json!({"emails": [{"email": "a"}, {"email": "b"}]}), "emails[1].email", "no such part"),
        (json!({"status": "invited"}), "status", "\"active\", \"inactive\" only"),
        (json!({"languages": ["a,b"]}), "languages", "between"),
        (json!({"type": "none"}), "type", "for none"),
        (json!({"phones": [{"extension": "1"}]}), "phones[0].extension", "no such part"),
    ] {
        match written(&reverse, body.clone()).unwrap_err() {
            BodyError::NotWritable { field: named, why: said } => {
                assert_eq!(named, field, "{body}");
                assert!(said.contains(why), "{body}: {said}");
            }
            other => panic!("{body}: {other}"),
        }
    }
    let conflict = written(&reverse, json!({"username": "a", "emails": [{"email": "b"}]})).unwrap_err();
    assert!(matches!(conflict, BodyError::Conflict { .. }), "{conflict}");
}

#[test]
fn null_and_an_empty_list_take_away_what_was_there() {
    let reverse = reverse(MAP, &[], json!({"status": {"active": true}}));
    let mut record = json!({"displayName": "x", "name": {"givenName": "A", "familyName": "B"}, "phones": [1], "mail": "m", "photos": [{"type": "photo", "value": "p"}, {"type": "thumb"}]});
    let body = json!({"name": null, "first_name": null, "phones": [], "emails": [], "avatar": null});
    reverse.changes(&object(body)).unwrap().iter().for_each(|change| change.apply(&mut record));
    assert_eq!(record, json!({"name": {"familyName": "B"}, "photos": [{"type": "thumb"}]}));
}

#[test]
fn ambiguous_words_need_a_choice_and_choices_are_checked() {
    let one = reverse("status: { from: s, values: { A: active, L: inactive, D: inactive }, else: unknown }", &[], json!({}));
    assert_eq!(written(&one, json!({"status": "active"})).unwrap(), json!({"s": "A"}));
    assert!(written(&one, json!({"status": "inactive"})).is_err());
    let all = map("status: { from: s, values: { A: active, B: active }, else: unknown }");
    let none = Reverse::compile(&all, &User::SHAPE, ReverseRules { read_only: &[], values: &BTreeMap::new() }).unwrap();
    assert!(written(&none, json!({"status": "active"})).unwrap_err().to_string().contains("does not say which"));
    for (read_only, values, message) in [
        (vec!["naem".to_owned()], json!({}), "naem"),
        (vec![], json!({"status": {"active": "C"}}), "`C` is not read as `active`"),
        (vec![], json!({"name": {"x": "y"}}), "no target"),
    ] {
        let values = serde_json::from_value(values).unwrap();
        let errors = Reverse::compile(&all, &User::SHAPE, ReverseRules { read_only: &read_only, values: &values }).unwrap_err();
        assert!(errors[0].to_string().contains(message), "{errors:?}");
    }
}

#[test]
fn bodies_of_another_form_are_refused_by_name() {
    for (body, field, text) in [
        (json!({"frist_name": "x"}), "frist_name", "did you mean `first_name`?"),
        (json!({"emails": [{"emial": "x"}]}), "emails[0].emial", "did you mean `email`?"),
        (json!({"name": 1}), "name", "a text"),
        (json!({"emails": {}}), "emails", "a list"),
        (json!({"emails": ["x"]}), "emails[0]", "an object"),
        (json!({"emails": [null]}), "emails", "without nulls"),
        (json!({"emails": [{"is_primary": "yes"}]}), "emails[0].is_primary", "`true` or `false`"),
        (json!({"status": "on"}), "status", "one of active, inactive"),
        (json!({"created_at": "yesterday"}), "created_at", "RFC 3339"),
    ] {
        let (named, said) = match check_body(&User::SHAPE, &object(body.clone())).unwrap_err() {
            BodyError::Unknown { field, hint } => (field, hint.unwrap_or_default()),
            BodyError::Wrong { field, takes } => (field, takes),
            other => panic!("{body}: {other}"),
        };
        assert_eq!(named, field, "{body}");
        assert!(said.contains(text), "{body}: {said}");
    }
    assert!(check_body(&Group::SHAPE, &object(json!({"name": null, "remote_data": {"any": [1]}}))).is_ok());
}

#[test]
fn what_a_record_shows_is_compared_as_vendors_write_it() {
    let shown = json!({
        "username": "ada@x.example", "created_at": "2026-01-01T00:00:00Z", "emails": [{"email": "ada@x.example", "type": "work", "is_primary": true}], "name": "Ada",
    });
    let missing = |wanted: Value| not_shown(&object(wanted), &shown).into_iter().map(str::to_owned).collect::<Vec<_>>();
    assert!(missing(json!({
        "username": "Ada@X.example", "created_at": "2026-01-01T01:00:00+01:00", "emails": [{"email": "Ada@x.example"}], "name": " Ada", "title": null, "phones": [],
        "remote_data": {"x": 1},
    }))
    .is_empty());
    assert_eq!(
        missing(json!({"name": "ada", "emails": [], "title": "x", "username": null})),
        ["name", "emails", "title", "username"]
    );
}

/// Map, turn round, map again: of every fixture of every connector the fields that can be written come back the same.
#[test]
fn every_connectors_records_survive_the_way_there_and_back() {
    let mut tried = 0;
    for case in cases() {
        for (named, method, def) in case.each() {
            let Some(writes) = &def.writes else { continue };
            for bytes in fixture::records(method, def, &named.fixture) {
                let Ok((unified, _)) = mapped(def, named, &bytes) else { continue };
                let body = writable(&writes.reverse, &unified);
                let changes = writes.reverse.changes(&body).unwrap_or_else(|error| panic!("{}: {error} in {body:?}", named.name));
                let mut record: Value = serde_json::from_slice(&bytes).unwrap();
                // What the vendor had is taken out first, so that only what is written can come back.
                changes.iter().for_each(|change| Change { value: Value::Null, ..change.clone() }.apply(&mut record));
                changes.iter().for_each(|change| change.apply(&mut record));
                let (again, _) = mapped(def, named, record.to_string().as_bytes()).unwrap();
                let slug = &case.connector.slug;
                assert_eq!(not_shown(&body, &again), Vec::<&str>::new(), "{slug}/{}: {unified} became {again}", named.name);
                tried += body.len();
            }
        }
    }
    assert!(tried > 60, "only {tried} fields were tried");
}

/// The fields of a record that can be written as they stand.
fn writable(reverse: &Reverse, unified: &Value) -> Map<String, Value> {
    let alone = |name: &str, value: &Value| reverse.changes(&[(name.to_owned(), value.clone())].into_iter().collect());
    let fields = unified.as_object().unwrap().iter();
    fields
        .filter(|(name, value)| alone(name, value).is_ok_and(|changes| !changes.is_empty()))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

/// The same with made-up values, whatever characters they hold.
#[test]
fn made_up_values_survive_the_way_there_and_back() {
    let all = cases();
    let text = "[^\\x00]{1,12}".prop_filter("vendors cut blanks", |text| text.trim() == text && !text.contains('@'));
    let strategy = (text.clone(), text.clone(), proptest::collection::vec((text.clone(), any::<bool>()), 1..4), any::<bool>());
    let rounds = if crate::support::long() { 2000 } else { 64 };
    let mut runner = TestRunner::new(ProptestConfig { cases: rounds, failure_persistence: None, ..ProptestConfig::default() });
    let outcome = runner.run(&strategy, |(name, title, phones, active)| {
        for case in &all {
            for (named, _, def) in case.each() {
                let Some(writes) = &def.writes else { continue };
                let phones: Vec<Value> = phones.iter().map(|(number, _)| json!({"number": number, "type": "work"})).collect();
                let whole = json!({
                    "name": name, "title": title, "first_name": title, "external_id": name, "phones": phones,
                    "status": if active { "active" } else { "inactive" },
                });
                let body = writable(&writes.reverse, &whole);
                let shape = def.resource.shape();
                let body: Map<_, _> = body.into_iter().filter(|(name, _)| shape.field(name).is_some()).collect();
                let mut record = json!({"id": "1", "user_id": 1, "team_uid": "t", "value": "v"});
                writes.reverse.changes(&body).unwrap().iter().for_each(|change| change.apply(&mut record));
                let Ok((again, _)) = mapped(def, named, record.to_string().as_bytes()) else { continue };
                prop_assert_eq!(not_shown(&body, &again), Vec::<&str>::new(), "{} became {}", json!(body), again);
            }
        }
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
}
