use serde_json::json;

use super::{apply, field, users};
use rollcall::mapping::{MapError, Options, Roots};

#[test]
fn from_takes_the_first_that_is_present_and_not_null() {
    let rule = "username: [mail, userPrincipalName, '.', other]";
    assert_eq!(field(rule, r#"{"id":1,"mail":"m","userPrincipalName":"u"}"#, "username"), "m");
    assert_eq!(field(rule, r#"{"id":1,"mail":null,"userPrincipalName":"u"}"#, "username"), "u");
    assert_eq!(field(rule, r#"{"id":1,"mail":{},"userPrincipalName":[],"other":"o"}"#, "username"), "o");
    assert_eq!(field(rule, r#"{"id":1}"#, "username"), json!(null));
    assert_eq!(field("username: name.user", r#"{"id":1,"name":{"user":"x"}}"#, "username"), "x");
    assert_eq!(field("username: name.user", r#"{"id":1,"name":"x"}"#, "username"), json!(null));
}

#[test]
fn a_value_may_be_text_or_record() {
    let rule = "roles: { each: roles, map: { name: [role_name, '.'], id: role_id } }";
    let record = r#"{"id":1,"roles":["Admin",{"role_name":"Keeper","role_id":7},null,{},[]]}"#;
    assert_eq!(field(rule, record, "roles"), json!([{"id":null,"name":"Admin"},{"id":"7","name":"Keeper"}]));
}

#[test]
fn texts_keep_numbers_as_written() {
    for number in ["9007199254740993", "18446744073709551615", "0.10", "1e400", "-0", "123456789012345678901234567890.5"] {
        let record = format!(r#"{{"id":{number},"title":{number}}}"#);
        let (out, mapped) = apply(&users("title: title"), &record).unwrap();
        assert_eq!((out["id"].as_str(), out["title"].as_str()), (Some(number), Some(number)));
        assert_eq!(mapped.id, number);
    }
    assert_eq!(field("title: t", r#"{"id":1,"t":true}"#, "title"), "true");
    let bytes = br#"{"id":"a","amount":1.10,"big":9007199254740993}"#;
    let mut out = Vec::new();
    let options = Options { remote_data: true, exclude: &[] };
    users("{}").apply(bytes, Roots::default(), options, &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    assert_eq!(text, format!(r#"{{"id":"a","status":"active","remote_data":{}}}"#, std::str::from_utf8(bytes).unwrap()));
}

#[test]
fn booleans_take_words() {
    for (value, wanted) in
        [("true", json!(true)), ("\"False\"", json!(false)), ("null", json!(null)), ("1", json!(null)), ("{}", json!(null))]
    {
        let record = format!(r#"{{"id":1,"v":{value}}}"#);
        let (out, mapped) = apply(&users("is_2fa_enabled: v"), &record).unwrap();
        assert_eq!(out["is_2fa_enabled"], wanted, "{value}");
        assert_eq!(mapped.warnings.len(), usize::from(value == "1" || value == "{}"), "{value}");
    }
}

#[test]
fn times_become_rfc_3339_in_utc() {
    let cases = [
        ("created_at: t", r#""2025-01-02T05:04:05+02:00""#, json!("2025-01-02T03:04:05Z")),
        ("created_at: t", r#""2025-01-02T03:04:05.000Z""#, json!("2025-01-02T03:04:05.000Z")),
        ("created_at: t", "1735787045", json!(null)),
        ("created_at: { from: t, as: epoch_s }", "1735787045", json!("2025-01-02T03:04:05Z")),
        ("created_at: { from: t, as: epoch_ms }", "\"1735787045000\"", json!("2025-01-02T03:04:05Z")),
        (
            "created_at: { from: t, as: datetime, format: '%d.%m.%Y %H:%M' }",
            "\"02.01.2025 03:04\"",
            json!("2025-01-02T03:04:00Z"),
        ),
        ("created_at: { from: t, as: datetime }", "\"2025-01-02 03:04:05\"", json!("2025-01-02T03:04:05Z")),
        ("created_at: { from: t, as: date }", "\"2025-01-02\"", json!("2025-01-02T00:00:00Z")),
        ("created_at: { from: t, null_if: [N/A, '> 365 DAYS AGO'] }", "\"N/A\"", json!(null)),
        ("title: { from: t, as: date, format: '%d.%m.%Y' }", "\"02.01.2025\"", json!("2025-01-02")),
        ("title: { from: t, as: epoch_s }", "0", json!("1970-01-01T00:00:00Z")),
        ("title: { from: t, as: integer }", "\"12.00\"", json!("12")),
        ("title: { from: t, as: integer }", "\"12.5\"", json!(null)),
        ("title: { from: t, as: text }", "1.50", json!("1.50")),
    ];
    for (rule, value, wanted) in cases {
        let name = rule.split(':').next().unwrap();
        assert_eq!(field(rule, &format!(r#"{{"id":1,"t":{value}}}"#), name), wanted, "{rule} {value}");
    }
}

#[test]
fn a_lost_conversion_is_said_and_null_if_is_not() {
    let (_, mapped) = apply(&users("created_at: t"), r#"{"id":1,"t":"soon"}"#).unwrap();
    assert_eq!((mapped.warnings[0].code.as_str(), mapped.warnings[0].field.as_deref()), ("lost_conversion", Some("created_at")));
    assert!(!mapped.warnings[0].message.contains("soon"));
    let (_, mapped) = apply(&users("created_at: { from: t, null_if: soon }"), r#"{"id":1,"t":"soon"}"#).unwrap();
    assert!(mapped.warnings.is_empty());
    let rule = "title: { from: [a, b], null_if: '-' }";
    assert_eq!(field(rule, r#"{"id":1,"a":"-","b":"x"}"#, "title"), "x");
}

#[test]
fn values_compare_exactly_and_else_takes_the_rest() {
    let rule = "status: { from: s, values: { Active: active, Locked: inactive, true: active, 7: deleted }, else: unknown }";
    let table = users(rule);
    for (value, wanted, warned) in [
        ("\"Active\"", "active", false),
        ("\"Locked\"", "inactive", false),
        ("true", "active", false),
        ("7", "deleted", false),
        ("\"active\"", "unknown", true),
        ("\"Active \"", "unknown", true),
        ("null", "unknown", true),
        ("{\"Active\":true}", "unknown", true),
        ("[\"Active\"]", "unknown", true),
        ("1", "unknown", true),
        ("7.0", "unknown", true),
    ] {
        let (out, mapped) = apply(&table, &format!(r#"{{"id":1,"s":{value}}}"#)).unwrap();
        assert_eq!(out["status"], wanted, "{value}");
        assert_eq!(mapped.warnings.iter().any(|w| w.code == "unknown_value"), warned, "{value}");
    }
    assert_eq!(apply(&table, r#"{"id":1}"#).unwrap().0["status"], "unknown");
    let reason = "status_reason: { from: s, values: { Locked: admin, 'Locked by IdP': idp } }";
    assert_eq!(field(reason, r#"{"id":1,"s":"Locked by IdP"}"#, "status_reason"), "idp");
    let (out, mapped) = apply(&users(reason), r#"{"id":1,"s":"Active"}"#).unwrap();
    assert_eq!((out["status_reason"].clone(), mapped.warnings.len()), (json!(null), 0));
    let other = "type: { from: s, values: { 1: admin }, else: user }";
    assert_eq!(field(other, r#"{"id":1,"s":1}"#, "type"), "admin");
    assert_eq!(field(other, r#"{"id":1,"s":2}"#, "type"), "user");
    assert_eq!(
        field("is_2fa_enabled: { from: s, values: { on: true, off: false } }", r#"{"id":1,"s":"off"}"#, "is_2fa_enabled"),
        json!(false)
    );
}

#[test]
fn a_word_outside_the_enum_is_never_written() {
    let (out, mapped) = apply(&users("status: { from: s, else: unknown }"), r#"{"id":1,"s":"Sleeping"}"#).unwrap();
    assert_eq!(out["status"], "unknown");
    assert!(mapped.warnings[0].message.contains("\"Sleeping\""));
    let groups = super::map("{ id: id, group_type: kind }");
    let table = rollcall::mapping::Table::compile(&groups, &rollcall::model::Group::SHAPE).unwrap();
    assert_eq!(apply(&table, r#"{"id":1,"kind":"team"}"#).unwrap().0["group_type"], "team");
    let (out, mapped) = apply(&table, r#"{"id":1,"kind":"Squad"}"#).unwrap();
    assert_eq!((out["group_type"].clone(), mapped.warnings[0].code.as_str()), (json!(null), "unknown_value"));
}

#[test]
fn split_and_join() {
    assert_eq!(field("aliases: { from: a, split: ',' }", r#"{"id":1,"a":"x, y,,z "}"#, "aliases"), json!(["x", "y", "z"]));
    assert_eq!(field("aliases: { from: a, split: ',' }", r#"{"id":1}"#, "aliases"), json!([]));
    assert_eq!(field("aliases: { from: a, split: ',', null_if: none }", r#"{"id":1,"a":"none"}"#, "aliases"), json!([]));
    assert_eq!(field("aliases: a", r#"{"id":1,"a":["x",null,7]}"#, "aliases"), json!(["x", "7"]));
    assert_eq!(field("languages: { from: l, else: [en] }", r#"{"id":1,"l":[]}"#, "languages"), json!(["en"]));
    assert_eq!(field("aliases: a", r#"{"id":1,"a":"x"}"#, "aliases"), json!(["x"]));
    assert_eq!(field("aliases: ['a[*].v']", r#"{"id":1,"a":[{"v":"x"},{},{"v":"y"}]}"#, "aliases"), json!(["x", "y"]));
    assert_eq!(field("name: { from: a, join: ' ' }", r#"{"id":1,"a":["Ada","Byron"]}"#, "name"), "Ada Byron");
    assert_eq!(field("name: { from: 'a[*].n', join: '-' }", r#"{"id":1,"a":[{"n":"p"},{"n":"q"}]}"#, "name"), "p-q");
    let rule = "external_id: { join_paths: [company, team], join: ':' }";
    assert_eq!(field(rule, r#"{"id":1,"company":8192,"team":"t1"}"#, "external_id"), "8192:t1");
    assert_eq!(field(rule, r#"{"id":1,"company":8192}"#, "external_id"), json!(null));
}

#[test]
fn each_makes_records_and_nests() {
    let rule = "licenses: { each: assignedLicenses, map: { id: skuId, name: { const: seat }, organization: $company.id } }";
    let mut out = Vec::new();
    let record = br#"{"id":1,"assignedLicenses":[{"skuId":"a"},{"other":1},{"skuId":null},{"skuId":2}]}"#;
    let roots = Roots { company: Some(r#"{"id":8192}"#), ..Roots::default() };
    users(rule).apply(record, roots, Options::default(), &mut out).unwrap();
    let out: serde_json::Value = serde_json::from_slice(&out).unwrap();
    let seat = |id: serde_json::Value| json!({"id": id, "name": "seat", "organization": "8192"});
    assert_eq!(out["licenses"], json!([seat(json!("a")), seat(json!(null)), seat(json!(null)), seat(json!("2"))]));

    let nested = "groups: { each: 'orgs[*].teams', map: { id: id, name: 'labels[0]' } }";
    let record = r#"{"id":1,"orgs":[{"teams":[{"id":1,"labels":["x","y"]}]},{"teams":null},{"teams":[{"id":2}]}]}"#;
    assert_eq!(field(nested, record, "groups"), json!([{"id":"1","name":"x"},{"id":"2","name":null}]));
    let chosen = "groups: { each: 'm[?type=direct]', map: { id: value } }";
    assert_eq!(
        field(chosen, r#"{"id":1,"m":[{"type":"direct","value":1},{"type":"x","value":2}]}"#, "groups"),
        json!([{"id":"1"}])
    );
}

#[test]
fn a_retyped_list_is_empty_and_said() {
    let table = users("licenses: { each: l, map: { id: id } }");
    for (value, warned) in
        [("null", false), ("{\"id\":1}", true), ("\"x\"", true), ("3", true), ("[]", false), ("[1,\"x\",[]]", false)]
    {
        let (out, mapped) = apply(&table, &format!(r#"{{"id":1,"l":{value}}}"#)).unwrap();
        assert_eq!((out["licenses"].clone(), !mapped.warnings.is_empty()), (json!([]), warned), "{value}");
    }
}

#[test]
fn indexed_targets_leave_out_elements_without_a_value() {
    let rule = "{ 'emails[0].email': mail, 'emails[0].is_primary': { const: true }, 'emails[1].email': other, 'aliases[0]': a }";
    assert_eq!(
        field(rule, r#"{"id":1,"mail":"m","other":"o"}"#, "emails"),
        json!([{"email":"m","is_primary":true},{"email":"o"}])
    );
    assert_eq!(field(rule, r#"{"id":1,"other":"o"}"#, "emails"), json!([{"email":"o"}]));
    assert_eq!(field(rule, r#"{"id":1}"#, "emails"), json!([]));
    assert_eq!(field(rule, r#"{"id":1,"a":"x"}"#, "aliases"), json!(["x"]));
}

#[test]
fn when_present_const_and_fn() {
    let rule = "title: { from: t, when: { path: kind, is: [staff, 1] } }";
    assert_eq!(field(rule, r#"{"id":1,"t":"x","kind":"staff"}"#, "title"), "x");
    assert_eq!(field(rule, r#"{"id":1,"t":"x","kind":1}"#, "title"), "x");
    assert_eq!(field(rule, r#"{"id":1,"t":"x","kind":"guest"}"#, "title"), json!(null));
    assert_eq!(field(rule, r#"{"id":1,"t":"x"}"#, "title"), json!(null));
    let rule = "title: { from: t, when: { path: kind, is_not: guest } }";
    assert_eq!(field(rule, r#"{"id":1,"t":"x"}"#, "title"), "x");
    assert_eq!(field(rule, r#"{"id":1,"t":"x","kind":"guest"}"#, "title"), json!(null));
    let reason = "status_reason: { from: why, else: admin, when: { path: s, is: Locked } }";
    assert_eq!(field(reason, r#"{"id":1,"s":"Locked"}"#, "status_reason"), "admin");
    assert_eq!(field(reason, r#"{"id":1,"s":"Active"}"#, "status_reason"), json!(null));
    let status = "status: { const: active, when: { path: on, is: true } }";
    assert_eq!(field(status, r#"{"id":1,"on":true}"#, "status"), "active");
    assert_eq!(field(status, r#"{"id":1,"on":"yes"}"#, "status"), "unknown");

    assert_eq!(field("is_2fa_enabled: { present: m }", r#"{"id":1,"m":false}"#, "is_2fa_enabled"), json!(true));
    assert_eq!(field("is_2fa_enabled: { present: m }", r#"{"id":1,"m":null}"#, "is_2fa_enabled"), json!(false));
    assert_eq!(field("languages: { const: [en, de] }", r#"{"id":1}"#, "languages"), json!(["en", "de"]));
    assert_eq!(field("organizations: { const: [{ id: 1 }] }", r#"{"id":1}"#, "organizations"), json!([{"id":"1"}]));
    assert_eq!(field("title: { const: null }", r#"{"id":1}"#, "title"), json!(null));

    let rule = "'organizations[0].id': { from: id, fn: high_32_bits }";
    assert_eq!(field(rule, r#"{"id":35184372088835}"#, "organizations"), json!([{"id":"8192"}]));
    assert_eq!(field(rule, r#"{"id":"not a number"}"#, "organizations"), json!([]));
}

#[test]
fn roots_are_read_beside_the_record() {
    let table = users("{ title: $account.tenant, bio: $page.number, name: $company.name, username: '$company.tags[1]' }");
    let roots = Roots { account: Some(r#"{"tenant":"t1"}"#), company: Some(r#"{"name":"C","tags":["a","b"]}"#), page: None };
    let mut out = Vec::new();
    let mut mapping = table.begin(roots).unwrap();
    for (record, id) in [(br#"{"id":1}"#, "1"), (br#"{"id":2}"#, "2")] {
        out.clear();
        mapping.apply(record, Options::default(), &mut out).unwrap();
        let record: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(record, json!({"id":id,"name":"C","username":"b","title":"t1","status":"active","bio":null}));
    }
    let bad = Roots { account: Some("{"), ..Roots::default() };
    assert!(matches!(table.apply(b"{\"id\":1}", bad, Options::default(), &mut out), Err(MapError::NotJson(_))));
}

#[test]
fn mapped_fields_come_in_the_order_of_the_shape() {
    let table = users("{ title: t, emails: { each: e, map: { type: t, email: v } }, name: n1 }");
    let mut out = Vec::new();
    table.apply(br#"{"n1":"N","id":"i","e":[{"t":"work","v":"a@b"}]}"#, Roots::default(), Options::default(), &mut out).unwrap();
    let wanted = r#"{"id":"i","name":"N","title":null,"emails":[{"email":"a@b","type":"work"}],"status":"active"}"#;
    assert_eq!(std::str::from_utf8(&out).unwrap(), wanted);
    let exclude = ["id".to_owned(), "emails".to_owned(), "status".to_owned()];
    let options = Options { remote_data: true, exclude: &exclude };
    out.clear();
    let mapped = table.apply(br#" {"n1":"N","id":"i"} "#, Roots::default(), options, &mut out).unwrap();
    assert_eq!(mapped.id, "i");
    assert_eq!(std::str::from_utf8(&out).unwrap(), r#"{"name":"N","title":null,"remote_data":{"n1":"N","id":"i"}}"#);
    let all = ["id".to_owned(), "name".to_owned(), "title".to_owned(), "emails".to_owned(), "status".to_owned()];
    out.clear();
    table.apply(br#"{"id":"i"}"#, Roots::default(), Options { remote_data: true, exclude: &all }, &mut out).unwrap();
    assert_eq!(std::str::from_utf8(&out).unwrap(), r#"{"remote_data":{"id":"i"}}"#);
}
