use std::collections::BTreeMap;

use rollcall::{
    mapping::{MapError, Options, Page, Path, Records, Roots, Table},
    model::Resource,
};

fn path(text: &str) -> Path {
    Path::parse(text).unwrap_or_else(|e| panic!("{e}"))
}

fn text(at: &str, json: &str) -> Option<String> {
    path(at).text(json.as_bytes())
}

fn elements(at: &str, json: &str) -> Result<Vec<String>, MapError> {
    let ranges = path(at).elements(json.as_bytes())?;
    Ok(ranges.into_iter().map(|r| json[r].to_owned()).collect())
}

#[test]
fn every_form_of_a_path_reads() {
    let json = r#"{"a":{"b":"ab"},"l":[{"t":"home","v":1},{"t":"work","v":2},{"t":"work","v":3}],"odd.key":"odd",
        "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User":{"department":"D"},"q\"k":"quote","$ref":"ref","n":null,
        "m":[[1,2],[3]],"big":12345678901234567890123,"dec":1.10,"yes":true}"#;
    let cases = [
        ("a.b", Some("ab")),
        ("l[0].v", Some("1")),
        ("l[2].v", Some("3")),
        ("l[3].v", None),
        ("l[*].v", Some("1")),
        ("l[?t=work].v", Some("2")),
        ("l[?\"t\"=\"work\"].v", Some("2")),
        ("l[?t=none].v", None),
        ("m[1][0]", Some("3")),
        ("\"odd.key\"", Some("odd")),
        ("\"urn:ietf:params:scim:schemas:extension:enterprise:2.0:User\".department", Some("D")),
        ("\"q\\\"k\"", Some("quote")),
        ("\"$ref\"", Some("ref")),
        ("n", None),
        ("a", None),
        ("missing.deep", None),
        ("a.b.c", None),
        ("big", Some("12345678901234567890123")),
        ("dec", Some("1.10")),
        ("yes", Some("true")),
    ];
    for (at, wanted) in cases {
        assert_eq!(text(at, json).as_deref(), wanted, "{at}");
    }
    assert_eq!(text(".", "\"self\"").as_deref(), Some("self"));
    assert_eq!(text("[0].displayName", r#"[{"displayName":"Failed"}]"#).as_deref(), Some("Failed"));
    assert_eq!(path("l[*].v").texts(json.as_bytes()), ["1", "2", "3"]);
    assert_eq!(path("l[?t=work].v").texts(json.as_bytes()), ["2", "3"]);
    assert!(path("a.b").reads_record() && !path("$company.id").reads_record());
    assert_eq!(path("a[0].b").to_string(), "a[0].b");
}

#[test]
fn a_mistake_in_a_path_has_a_place() {
    let cases = [
        ("", 1, "a name"),
        ("a.", 3, "a name"),
        (".a", 1, "a name"),
        ("a..b", 3, "a name"),
        ("a[", 3, "an index"),
        ("a[x]", 3, "an index"),
        ("a[0", 4, "`]`"),
        ("a[0]b", 5, "`.` or `[`"),
        ("a[?t]", 5, "`=`"),
        ("é.b c", 4, "double quotes"),
        ("\"open", 6, "closing"),
        ("a[99999999999999999999999]", 26, "too large"),
        ("$tenant.id", 1, "$account"),
        ("a*", 2, "double quotes"),
    ];
    for (text, at, reason) in cases {
        let error = Path::parse(text).expect_err(text);
        assert_eq!(error.at, at, "{error}");
        assert!(error.reason.contains(reason), "{error}");
        assert!(error.to_string().contains(text), "{error}");
    }
}

#[test]
fn elements_are_ranges_of_the_document() {
    let page = r#"{"totalResults":2,"Resources":[ {"id":1} , {"id":[2,"]"]} ],"x":{}}"#;
    let both = vec![r#"{"id":1}"#.to_owned(), r#"{"id":[2,"]"]}"#.to_owned()];
    assert_eq!(elements("Resources[*]", page).unwrap(), both);
    assert_eq!(elements("Resources", page).unwrap(), both);
    assert_eq!(elements("[*]", " [1, \"a\",null ] ").unwrap(), ["1", "\"a\"", "null"]);
    assert_eq!(elements(".", "[{},{}]").unwrap(), ["{}", "{}"]);
    assert_eq!(elements(".", " {\"a\":1} ").unwrap(), ["{\"a\":1}"]);
    assert_eq!(elements("data", r#"{"data":{"id":1}}"#).unwrap(), [r#"{"id":1}"#]);
    assert_eq!(elements("a[*].b[*]", r#"{"a":[{"b":[1]},{"b":[2,3]}]}"#).unwrap(), ["1", "2", "3"]);
    assert_eq!(elements("a[?t=x]", r#"{"a":[{"t":"x"},{"t":"y"}]}"#).unwrap(), [r#"{"t":"x"}"#]);
    assert_eq!(elements("Resources[*]", r#"{"Resources":[]}"#).unwrap(), Vec::<String>::new());
    assert_eq!(elements("r[*]", r#"{"r":[1,2],"r":[3]}"#).unwrap(), ["3"], "the last of equal names wins");
}

#[test]
fn elements_of_something_else_are_an_error() {
    for json in [r#"{"Resources":null}"#, r#"{"Resources":{"a":1}}"#, r#"{"Resources":"x"}"#, "{}", "[]", "\"text\"", "1"] {
        assert!(matches!(elements("Resources[*]", json), Err(MapError::Shape(_))), "{json}");
    }
    for json in
        ["", "<html>", r#"{"Resources":[1,2"#, r#"{"Resources":[1]} x"#, r#"{"Resources":[1,]}"#, r#"{"Resources":["\x"]}"#]
    {
        assert!(matches!(elements("Resources[*]", json), Err(MapError::NotJson(_))), "{json}");
    }
    assert!(matches!(path("[*]").elements(b"[\"\xff\"]"), Err(MapError::NotJson(_))));
    let deep = format!("[{}{}]", "[".repeat(100_000), "]".repeat(100_000));
    assert!(matches!(elements("[*]", &deep), Err(MapError::NotJson(_))));
}

#[test]
fn a_text_is_found_without_reading_the_rest() {
    assert_eq!(text("next", r#"{"next":"n1","broken":"#).as_deref(), Some("n1"));
    assert_eq!(text("next", "<html>"), None);
    assert_eq!(text("a[*].b", r#"{"a":[{"b":null},{"b":"second"}]}"#).as_deref(), Some("second"));
    let deep = "[".repeat(100_000);
    assert_eq!(text("a", &deep), None);
    assert_eq!(path("a").texts(br#"{"a":1"#), Vec::<String>::new());
}

#[test]
fn a_path_can_be_shared_between_threads() {
    fn shared<T: Send + Sync + Clone + 'static>() {}
    shared::<Path>();
    fn sent<T: Send + Sync + 'static>() {}
    sent::<rollcall::mapping::Table>();
}

#[test]
fn records_read_in_one_pass_are_those_of_the_path() {
    let rule = |text: &str| serde_json::from_value(serde_json::json!(text)).unwrap();
    let map = BTreeMap::from([("id".to_owned(), rule("id")), ("name".to_owned(), rule("x.name"))]);
    let table = Table::compile(&map, Resource::Role.shape()).unwrap();
    let deep = format!(r#"{{"Resources":[{{"id":{}{}}}]}}"#, "[".repeat(125), "]".repeat(125));
    let deeper = format!(r#"{{"Resources":[{}{}]}}"#, "[".repeat(100_000), "]".repeat(100_000));
    let many = format!(r#"{{"Resources":[{}]}}"#, vec![r#"{"id":1,"x":{"name":"n"}}"#; 70_000].join(","));
    for json in [
        r#"{"totalResults":2,"Resources":[ {"id":1} , {"id":2,"x":{"name":"]\"}"}} ],"next":"n"}"#,
        " {\n\t\"Resources\" : [\r\n{ \"id\" : \"\\u0041\" }\n]\n}\n",
        r#"{"Resources":[{"id":1,"id":2}],"Resources":[{"id":3}]}"#,
        r#"{"a":{"Resources":[{"id":9}]},"Resources":[]}"#,
        r#"{"Res\u006furces":[{"id":1}]}"#,
        r#"{"Resources":[{"id":1},null,7]}"#,
        r#"{"Resources":[{"id":1}],}"#,
        r#"{"Resources":[{"id":1},]}"#,
        r#"{"Resources":[{"id":1}] "x":1}"#,
        r#"{"Resources":[{"id":1}]} {}"#,
        r#"{"Resources":[{"id":1}"#,
        r#"{"Resources":[{"id":1]}"#,
        r#"{"Resources" [{"id":1}]}"#,
        r#"{"Resources":{"id":1}}"#,
        r#"{"Resources":null}"#,
        r#"{1:2,"Resources":[]}"#,
        r#"[{"id":1},{"id":2,"x":{"name":[1,2]}}]"#,
        r#"{"id":1}"#,
        "[]",
        "{}",
        "1",
        "",
        &deep,
        &deeper,
        &many,
    ] {
        for at in ["Resources[*]", "Resources", "[*]", ".", "Resources[?id=2]", "a.Resources[*]", "[0].x.name[*]"].map(path) {
            let (one, two) = (table.records(&at, json.as_bytes()), at.elements(json.as_bytes()));
            let said = format!("{at} {}", &json[..json.len().min(200)]);
            match (one, two) {
                (Ok(found), Ok(elements)) => {
                    assert_eq!(found.ranges, elements, "{said}");
                    same_records(&table, json, &found, &said);
                }
                (Err(one), Err(two)) => assert_eq!(one.to_string(), two.to_string(), "{said}"),
                (one, two) => panic!("{said}: {one:?} {two:?}"),
            }
        }
    }
    assert!(matches!(table.records(&path("[*]"), b"[\"\xff\"]"), Err(MapError::NotJson(_))));
}

/// Each record of the page is mapped as it is by itself.
fn same_records(table: &Table, json: &str, found: &Records, said: &str) {
    let mut mapping = table.begin(Roots::default()).unwrap();
    let options = Options { remote_data: true, exclude: &[] };
    for (at, range) in found.ranges.iter().enumerate() {
        let (mut one, mut two) = (Vec::new(), Vec::new());
        let of_page = mapping.apply_to(Page { text: json, records: found }, at, options, &mut one);
        let alone = table.apply(&json.as_bytes()[range.clone()], Roots::default(), options, &mut two);
        assert_eq!(one, two, "{said}");
        assert_eq!(format!("{of_page:?}"), format!("{alone:?}"), "{said}");
    }
}
