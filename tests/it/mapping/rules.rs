use rollcall::mapping::{RuleFile, Table, merge};
use rollcall::model::{Kind, Resource, Workspace};

use super::{map, mistakes, shape, users};

fn one(yaml: &str) -> (String, String, String) {
    let mut all = mistakes(yaml);
    assert_eq!(all.len(), 1, "{yaml}: {all:?}");
    let error = all.remove(0);
    (error.target, error.message, error.hint.unwrap_or_default())
}

#[test]
fn every_mistake_is_named_at_once_with_a_hint() {
    let cases = [
        ("frist_name: a", "frist_name", "no field", "first_name"),
        ("'emails[0].adress': a", "emails[0].adress", "no field", "email"),
        ("'emails.email': a", "emails.email", "list", "emails[0].email"),
        ("'emails[1].email': a", "emails[1].email", "before", "without gaps"),
        ("'emails[*].email': a", "emails[*].email", "`[*]`", "each"),
        ("'name.x': a", "name.x", "plain value", ""),
        ("emails: a", "emails", "list of records", "each"),
        (
            "{ emails: { each: e, map: { email: v } }, 'emails[0].email': a }",
            "emails[0].email",
            "rule of its own",
            "whole or its parts",
        ),
        ("{ name: a.. }", "name", "at character 3", ""),
        ("name: []", "name", "no path", ""),
        ("name: { from: a, fn: high_32_bit }", "name", "no function", "high_32_bits"),
        ("created_at: { from: a, as: epoch }", "created_at", "epoch", "epoch_s"),
        ("created_at: { from: a, as: integer }", "created_at", "does not make", ""),
        ("created_at: { from: a, format: '%Y' }", "created_at", "`format` needs `as`", ""),
        ("name: { from: a, const: b }", "name", "exactly one", ""),
        ("name: { values: { a: b } }", "name", "exactly one", ""),
        ("name: { const: a, split: ',' }", "name", "`split`", ""),
        ("name: { from: a, split: ',' }", "name", "list", ""),
        ("name: { from: a, map: { id: b } }", "name", "`map` needs `each`", ""),
        ("name: { each: a, map: { id: b } }", "name", "list", ""),
        ("name: { present: a }", "name", "boolean", ""),
        ("name: { join_paths: [a, b] }", "name", "`join`", ""),
        ("name: { from: a, when: { path: b } }", "name", "compares nothing", "is_not"),
        ("licenses: { each: $company.l, map: { id: id } }", "licenses", "record only", ""),
        ("licenses: { each: l, map: { idd: id } }", "licenses[].idd", "no field", "`id`"),
        ("status: s", "status", "`else`", "else: unknown"),
        ("status: { from: s, values: { a: aktive }, else: unknown }", "status", "aktive", "active"),
        ("status: { const: Active }", "status", "Active", "active"),
        ("created_at: { const: yesterday }", "created_at", "date-time", ""),
        ("is_2fa_enabled: { const: 'yes' }", "is_2fa_enabled", "kind", ""),
        ("organizations: { const: [{ idd: 1 }] }", "organizations", "no field", "id"),
        ("$account.x: a", "$account.x", "not a target", ""),
    ];
    for (yaml, target, message, hint) in cases {
        let (t, m, h) = one(yaml);
        assert_eq!(t, target, "{yaml}");
        assert!(m.contains(message), "{yaml}: {m}");
        assert!(h.contains(hint), "{yaml}: {h}");
    }
    let all = mistakes("{ frist_name: a, name: 'b..', created_at: { from: a, as: epoch } }");
    assert_eq!(all.iter().map(|e| e.target.as_str()).collect::<Vec<_>>(), ["created_at", "frist_name", "name"]);
}

#[test]
fn required_fields_need_a_rule() {
    let errors = Table::compile(&map("{ name: n1 }"), shape()).expect_err("no id");
    assert_eq!(errors.iter().map(|e| e.target.as_str()).collect::<Vec<_>>(), ["id", "status"]);
    let workspace = map("{ id: id, 'organization.id': org }");
    let table = Table::compile(&workspace, &Workspace::SHAPE).unwrap();
    assert_eq!(super::apply(&table, r#"{"id":1,"org":2}"#).unwrap().0["organization"], serde_json::json!({"id":"2"}));
    assert_eq!(super::apply(&table, r#"{"id":1}"#).unwrap().0["organization"], serde_json::json!(null));
    let whole = Table::compile(&map("{ id: id, organization: org }"), &Workspace::SHAPE).expect_err("a record");
    assert!(whole[0].hint.as_deref().unwrap().contains("organization.id"));
}

#[test]
fn sources_are_paths_that_can_be_read_alone() {
    let yaml = "{ name: [a, b.c], licenses: { each: l, map: { id: '.', name: x.y, organization: $company.id } },
        groups: { each: 'g[*].h', map: { id: 'ids[0]' } }, title: { from: t, when: { path: k, is: v } },
        status: { from: s, else: unknown } }";
    let mut sources = users(yaml).sources();
    sources.sort();
    let wanted = ["$company.id", "a", "b.c", "g[*].h[*]", "g[*].h[*].ids[0]", "id", "k", "l[*]", "l[*].x.y", "s", "t"];
    assert_eq!(sources, wanted);
    for source in sources {
        rollcall::mapping::Path::parse(&source).unwrap();
    }
}

#[test]
fn a_mistake_inside_a_rule_keeps_its_own_message() {
    let error =
        serde_saphyr::from_str::<super::Map>("name:\n  from: a\n  valeus: { a: b }\n").expect_err("unknown word").to_string();
    assert!(error.contains("valeus") && error.contains("values"), "{error}");
    let error = serde_saphyr::from_str::<super::Map>("name: 7\n").expect_err("a number").to_string();
    assert!(error.contains("a path, a list of paths, or a rule"), "{error}");
    let null = map("{ a: { const: null }, b: { from: x, else: null }, c: { from: x } }");
    let full = |name: &str| match &null[name] {
        RuleFile::Full(full) => (full.constant.is_some(), full.otherwise.is_some()),
        other => panic!("{other:?}"),
    };
    assert_eq!((full("a"), full("b"), full("c")), ((true, false), (false, true), (false, false)));
}

#[test]
fn an_override_replaces_target_by_target() {
    let base = map("{ id: id, name: n1, 'emails[0].email': mail, 'emails[0].type': t, licenses: { each: l, map: { id: i } } }");
    let over = map("{ name: full, emails: { each: e, map: { email: v } }, 'licenses[0].id': x }");
    let merged = merge(&base, &over);
    assert_eq!(merged.keys().map(String::as_str).collect::<Vec<_>>(), ["emails", "id", "licenses[0].id", "name"]);
    assert!(matches!(&merged["name"], RuleFile::Path(path) if path == "full"));
    assert_eq!(merge(&base, &map("{}")).len(), base.len());
    let part = merge(&base, &map("{ 'emails[0].type': { const: work } }"));
    assert_eq!(part.len(), base.len(), "other parts of the same element stay");
}

#[test]
fn every_resource_compiles_with_its_required_fields_alone() {
    for resource in Resource::ALL {
        let rules = resource.shape().fields.iter().filter(|field| field.required).map(|field| match field.kind {
            Kind::Enum(words) => (field.name.to_owned(), map(&format!("x: {{ const: {} }}", words[0]))["x"].clone()),
            _ => (field.name.to_owned(), RuleFile::Path(field.name.to_owned())),
        });
        Table::compile(&rules.collect(), resource.shape()).unwrap_or_else(|e| panic!("{resource:?}: {e:?}"));
    }
}

#[test]
fn the_json_schema_takes_the_three_forms() {
    let schema = schemars::schema_for!(RuleFile).to_value();
    let forms = schema["anyOf"].as_array().expect("three forms");
    assert_eq!(forms.len(), 3);
    assert_eq!((forms[0]["type"].as_str(), forms[1]["type"].as_str()), (Some("string"), Some("array")));
    let full = &schema["$defs"]["SourceFile"];
    for word in [
        "from",
        "as",
        "format",
        "values",
        "else",
        "null_if",
        "split",
        "join",
        "join_paths",
        "each",
        "map",
        "when",
        "present",
        "const",
        "fn",
    ] {
        assert!(full["properties"].get(word).is_some(), "{word}: {schema:#}");
    }
    assert!(full.get("required").is_none(), "every word is optional");
    assert!(schema["$defs"].to_string().contains("anyOf"), "`from` takes one path or several");
}

#[test]
fn a_rule_is_shown_as_the_file_has_it() {
    let rules = map("
        title: a.b
        name: [x, y]
        status: { from: s, values: { on: active }, else: unknown, when: { path: p, is: 1 } }
        bio: { from: [a, b], null_if: none, else: null }
        emails: { each: mails, map: { email: m, type: { const: null } } }
    ");
    let shown = serde_json::json!({
        "title": "a.b",
        "name": ["x", "y"],
        "status": {"from": ["s"], "values": {"on": "active"}, "else": "unknown", "when": {"path": "p", "is": ["1"]}},
        "bio": {"from": ["a", "b"], "else": null, "null_if": ["none"]},
        "emails": {"each": "mails", "map": {"email": "m", "type": {"const": null}}},
    });
    assert_eq!(serde_json::json!(rules), shown);
}
