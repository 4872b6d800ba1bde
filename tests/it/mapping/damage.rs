//! What hostile and broken records do: an error or a correct record, never a panic, never `active` by accident.

use proptest::prelude::*;
use rollcall::{
    mapping::{MapError, Options, Roots, Table},
    model::{Kind, Shape},
};
use serde_json::{Value, json};

use super::{apply, field, scim_page, shape, users};

fn sample() -> Value {
    let page: Value = serde_json::from_slice(&scim_page::page(1, 7)).unwrap();
    page["Resources"][0].clone()
}

/// Whether a value is what the shape promises; only required fields may not be null.
fn fits(kind: Kind, value: &Value) -> bool {
    match (kind, value) {
        (Kind::Text, Value::String(_)) | (Kind::Bool, Value::Bool(_)) => true,
        (Kind::Time, Value::String(at)) => at.ends_with('Z') && at.parse::<jiff::Timestamp>().is_ok(),
        (Kind::Enum(words), Value::String(word)) => words.contains(&word.as_str()),
        (Kind::List(item), Value::Array(items)) => items.iter().all(|value| fits(*item, value)),
        (Kind::Object(shape), Value::Object(_)) => record_fits(shape, value),
        _ => false,
    }
}

fn record_fits(shape: &Shape, value: &Value) -> bool {
    value.as_object().is_some_and(|members| {
        members.iter().all(|(name, value)| {
            shape.field(name).is_some_and(|field| {
                fits(field.kind, value) || value.is_null() && !field.required && !matches!(field.kind, Kind::List(_))
            })
        })
    })
}

/// Every place of a document, as a JSON pointer.
fn places(value: &Value, at: &str, all: &mut Vec<String>) {
    all.push(at.to_owned());
    match value {
        Value::Object(members) => members.iter().for_each(|(name, value)| {
            places(value, &format!("{at}/{}", name.replace('~', "~0").replace('/', "~1")), all);
        }),
        Value::Array(items) => items.iter().enumerate().for_each(|(n, value)| places(value, &format!("{at}/{n}"), all)),
        _ => {}
    }
}

fn drop_at(value: &mut Value, at: &str) {
    let Some((parent, name)) = at.rsplit_once('/') else { return };
    match value.pointer_mut(parent) {
        Some(Value::Object(members)) => drop(members.remove(&name.replace("~1", "/").replace("~0", "~"))),
        Some(Value::Array(items)) => {
            name.parse::<usize>().ok().filter(|n| *n < items.len()).into_iter().for_each(|n| drop(items.remove(n)))
        }
        _ => {}
    }
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".*".prop_map(Value::from),
        Just(json!("active")),
        Just(json!("true")),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::vec(("value|type|display|created|.{0,3}", inner), 0..3)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

#[derive(Clone, Debug)]
enum Damage {
    Drop,
    Retype(Value),
}

fn check(table: &Table, record: &Value) {
    match apply(table, &record.to_string()) {
        Ok((out, mapped)) => {
            assert!(record_fits(shape(), &out), "{out}");
            assert_eq!(out["id"], json!(mapped.id));
            let active = matches!(&record["active"], Value::Bool(true)) || record["active"] == "true";
            assert_eq!(out["status"] == "active", active, "{}", record["active"]);
            let warned = mapped.warnings.iter().any(|w| w.code == "unknown_value" && w.field.as_deref() == Some("status"));
            assert_eq!(out["status"] == "unknown", warned, "{out}");
        }
        Err(MapError::Missing(field)) => assert_eq!(field, "id"),
        Err(MapError::Shape(_)) => assert!(!record.is_object()),
        Err(MapError::NotJson(why)) => panic!("{why}: {record}"),
    }
}

#[test]
fn every_field_dropped_nulled_or_retyped_alone() {
    let (table, whole) = (scim_page::table(), sample());
    let mut all = Vec::new();
    places(&whole, "", &mut all);
    assert!(all.len() > 40);
    check(&table, &whole);
    for place in all {
        let mut record = whole.clone();
        drop_at(&mut record, &place);
        check(&table, &record);
        for value in [
            json!(null),
            json!(true),
            json!(7),
            json!(-1.5),
            json!("x"),
            json!(""),
            json!([]),
            json!([[{}]]),
            json!({}),
            json!({"value": 1}),
        ] {
            let mut record = whole.clone();
            *record.pointer_mut(&place).unwrap() = value;
            check(&table, &record);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if crate::support::long() { 20_000 } else { 400 }, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damaged_records_map_or_fail_cleanly(
        damages in prop::collection::vec((any::<prop::sample::Index>(), prop_oneof![Just(Damage::Drop), any_value().prop_map(Damage::Retype)]), 1..6)
    ) {
        let mut record = sample();
        for (index, damage) in damages {
            let mut all = Vec::new();
            places(&record, "", &mut all);
            let place = index.get(&all).clone();
            match damage {
                Damage::Drop => drop_at(&mut record, &place),
                Damage::Retype(value) => *record.pointer_mut(&place).unwrap() = value,
            }
        }
        check(&scim_page::table(), &record);
    }

    #[test]
    fn damaged_bytes_never_make_broken_output(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3u8), 1..4)
    ) {
        let mut record = sample().to_string().into_bytes();
        for (index, byte, how) in changes {
            let at = index.index(record.len());
            match how {
                0 => record[at] = byte,
                1 => record.insert(at, byte),
                _ => record.truncate(at.max(1)),
            }
        }
        let mut out = b"before".to_vec();
        let done = scim_page::table().apply(&record, Roots::default(), Options { remote_data: true, exclude: &[] }, &mut out);
        let valid = std::str::from_utf8(&record).is_ok_and(|text| serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok());
        match done {
            Ok(_) => {
                prop_assert!(valid);
                prop_assert!(serde_json::from_slice::<serde::de::IgnoredAny>(&out[b"before".len()..]).is_ok());
                prop_assert!(std::str::from_utf8(&out).is_ok());
            }
            Err(_) => prop_assert_eq!(&out, b"before"),
        }
    }
}

#[test]
fn the_shape_of_the_record_is_checked() {
    let table = users("title: t");
    for record in ["[]", "1", "\"x\"", "null", "true"] {
        assert!(matches!(apply(&table, record), Err(MapError::Shape(_))), "{record}");
    }
    for record in [
        "",
        "<html>",
        "{",
        "{\"id\":1",
        "{\"id\":1}}",
        "{\"id\":01}",
        "{\"id\":1,}",
        "{\"id\":\"\\x\"}",
        "{\"id\":\"\\ud8\"}",
        "{\"a\":nul,\"id\":1}",
        "{\"id\":\"a\nb\"}",
    ] {
        assert!(matches!(apply(&table, record), Err(MapError::NotJson(_))), "{record}");
    }
    let mut out = Vec::new();
    let bytes = table.apply(b"{\"id\":\"\xff\"}", Roots::default(), Options::default(), &mut out);
    assert!(matches!(bytes, Err(MapError::NotJson(_))) && out.is_empty());
    for record in ["{}", "{\"id\":null}", "{\"id\":\"\"}", "{\"id\":{}}", "{\"id\":[1]}"] {
        assert!(matches!(apply(&table, record), Err(MapError::Missing(field)) if field == "id"), "{record}");
    }
    let plain = Table::compile(&super::map("{ id: '.', status: { const: active } }"), shape()).unwrap();
    assert_eq!(apply(&plain, "\"ada@x\"").unwrap().1.id, "ada@x");
}

#[test]
fn deep_nesting_is_an_error_and_not_a_crash() {
    let table = users("{ title: t, name: a.b, licenses: { each: l, map: { id: 'x[0].y' } }, bio: '[0]' }");
    let nest = |open: &str, close: &str, n: usize| format!("{}1{}", open.repeat(n), close.repeat(n));
    for deep in [nest("[", "]", 100_000), nest("{\"a\":", "}", 100_000), nest("{\"l\":[", "]}", 100_000)] {
        for name in ["t", "a", "l", "id", "other"] {
            let record = format!(r#"{{"id":1,"{name}":{deep}}}"#);
            assert!(matches!(apply(&table, &record), Err(MapError::NotJson(_))), "{name}");
        }
    }
    assert!(matches!(apply(&table, &"[".repeat(100_000)), Err(MapError::NotJson(_) | MapError::Shape(_))));
    let fine = nest("[", "]", 100);
    assert!(apply(&table, &format!(r#"{{"id":1,"other":{fine}}}"#)).is_ok());
    let brackets_in_text = format!(r#"{{"id":1,"t":"{}\"{}"}}"#, "[".repeat(500), "{".repeat(500));
    assert!(apply(&table, &brackets_in_text).is_ok());
    let wide = format!(r#"{{"id":1,"other":[{}{{}}]}}"#, "[],".repeat(500));
    assert!(apply(&table, &wide).is_ok());
}

#[test]
fn huge_values_are_carried() {
    let long = "é\\n".repeat(200_000);
    let record = format!(r#"{{"id":1,"t":"{long}"}}"#);
    let title = field("title: t", &record, "title");
    assert_eq!(title.as_str().unwrap().chars().count(), 400_000);
    let many = format!(r#"{{"id":1,"l":[{}{{"id":"last"}}]}}"#, r#"{"id":"x"},"#.repeat(20_000));
    assert_eq!(field("licenses: { each: l, map: { id: id } }", &many, "licenses").as_array().unwrap().len(), 20_001);
    let bomb = format!(r#"{{"id":1,"l":[{}1]}}"#, "1,".repeat(600_000));
    assert!(matches!(apply(&users("licenses: { each: l, map: { id: id } }"), &bomb), Err(MapError::NotJson(_))));
}

#[test]
fn the_last_of_equal_names_wins() {
    let table = users("{ title: t, name: a.b, first_name: a.c, licenses: { each: l, map: { id: id } } }");
    let record = r#"{"id":1,"id":2,"t":"x","t":null,"a":{"b":"old","c":"old"},"a":{"c":"new"},"l":[{"id":1},{"id":2}],"l":[{"id":3,"id":4}]}"#;
    let (out, mapped) = apply(&table, record).unwrap();
    assert_eq!(mapped.id, "2");
    assert_eq!(out, json!({"id":"2","first_name":"new","name":null,"title":null,"status":"active","licenses":[{"id":"4"}]}));
    let (out, _) = apply(&table, r#"{"id":1,"a":{"b":"x"},"a":7,"l":[{"id":1}],"l":null}"#).unwrap();
    assert_eq!((out["name"].clone(), out["licenses"].clone()), (json!(null), json!([])));
}

#[test]
fn escapes_are_read_and_half_pairs_replaced() {
    let cases = [
        (r#""caf\u00e9""#, "café"),
        (r#""\ud83d\ude00""#, "\u{1F600}"),
        (r#""a\"b\\c\/d\n\u0000""#, "a\"b\\c/d\n\0"),
        (r#""\ud83d""#, "\u{FFFD}"),
        (r#""x\ude00y\ud83dz""#, "x\u{FFFD}y\u{FFFD}z"),
    ];
    for (raw, wanted) in cases {
        let record = format!(r#"{{"\u0069d":{raw},"t":{raw}}}"#);
        let (out, mapped) = apply(&users("{ title: t }"), &record).unwrap();
        assert_eq!((out["title"].as_str(), mapped.id.as_str()), (Some(wanted), wanted), "{raw}");
    }
    let status = "status: { from: s, values: { 'ü': inactive }, else: unknown }";
    assert_eq!(field(status, r#"{"id":1,"s":"\u00fc"}"#, "status"), "inactive");
}
