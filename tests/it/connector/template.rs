//! Templates: names, encoding by position, and values that try to leave their place.

use proptest::prelude::*;
use rollcall::connector::{Position, Template, TemplateError};

fn render(text: &str, position: Position, value: &str) -> Result<String, TemplateError> {
    Template::parse(text).unwrap().render(position, |name| (name == "value").then_some(value))
}

#[test]
fn names_and_syntax() {
    let template = Template::parse("/a/{id}/b/{company.id}").unwrap();
    assert_eq!(template.names().collect::<Vec<_>>(), ["id", "company.id"]);
    assert_eq!(template.text(), "/a/{id}/b/{company.id}");
    for bad in ["{", "}", "{}", "{a", "a}", "{A}", "{a b}", "{{a}}", "{1a}", "{a}}", "{.a}", "{a-b}"] {
        assert_eq!(Template::parse(bad), Err(TemplateError::Syntax(bad.to_owned())), "{bad}");
    }
    assert_eq!(Template::parse("").unwrap().names().count(), 0);
}

#[test]
fn a_missing_value_is_an_error() {
    let template = Template::parse("{value}-{other}").unwrap();
    let rendered = template.render(Position::Text, |name| (name == "value").then_some("x"));
    assert_eq!(rendered, Err(TemplateError::Missing("other".into())));
}

#[test]
fn values_are_encoded_by_their_position() {
    let odd = "a/b c?d=e&f#g%h+ü";
    assert_eq!(render("/u/{value}", Position::PathSegment, odd).unwrap(), "/u/a%2Fb%20c%3Fd%3De%26f%23g%25h%2B%C3%BC");
    assert_eq!(render("x y={value}", Position::Query, odd).unwrap(), "x%20y%3Da%2Fb%20c%3Fd%3De%26f%23g%25h%2B%C3%BC");
    assert_eq!(render("Token {value}", Position::Text, odd).unwrap(), format!("Token {odd}"));
}

#[test]
fn line_breaks_and_dot_segments_are_refused() {
    for odd in ["a\r\nX: y", "a\nb", "a\0b"] {
        for position in [Position::Text, Position::Query, Position::PathSegment] {
            assert_eq!(render("{value}", position, odd), Err(TemplateError::Character("value".into())), "{odd:?}");
        }
    }
    for odd in ["", ".", "..", "../x", "a/../b", "a\\..\\b", "a/.", "%2e%2e", "%252e.%255cx", "a%2f..", "a%0d%0ab"] {
        assert_eq!(render("/u/{value}", Position::PathSegment, odd), Err(TemplateError::Character("value".into())), "{odd:?}");
    }
    assert_eq!(render("/u/{value}", Position::PathSegment, "...").unwrap(), "/u/...");
    assert_eq!(render("/u/{value}", Position::PathSegment, "100%2e5%").unwrap(), "/u/100%252e5%25");
}

/// The filter a server reads, decoded from the wire.
fn decoded(text: &str) -> String {
    percent_encoding::percent_decode_str(text).decode_utf8().unwrap().into_owned()
}

#[test]
fn a_value_never_ends_the_scim_string_it_stands_in() {
    let attack = r#"x" or userName pr or userName eq "\"#;
    let sent = render(r#"userName eq "{value}""#, Position::Query, attack).unwrap();
    assert_eq!(decoded(&sent), r#"userName eq "x\" or userName pr or userName eq \"\\""#);
    let text = render(r#"userName eq "{value}""#, Position::Text, attack).unwrap();
    assert_eq!(text, decoded(&sent), "the position does not decide whether quotes hold");
}

#[test]
fn a_value_never_ends_single_quotes() {
    let sent = render("mail eq '{value}'", Position::Query, "x' or 1 eq '1").unwrap();
    assert_eq!(decoded(&sent), "mail eq 'x'' or 1 eq ''1'");
}

proptest! {
    #[test]
    fn the_scim_string_always_reads_back_as_the_value(value in "[^\r\n\0]*") {
        let sent = render(r#"userName eq "{value}""#, Position::Query, &value).unwrap();
        prop_assert!(sent.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~%".contains(&b)));
        let filter = decoded(&sent);
        let string = filter.strip_prefix("userName eq ").unwrap();
        prop_assert_eq!(serde_json::from_str::<String>(string).unwrap(), value);
    }

    #[test]
    fn a_path_value_stays_one_segment(value in any::<String>()) {
        if let Ok(path) = render("/u/{value}/x", Position::PathSegment, &value) {
            prop_assert_eq!(path.split('/').count(), 4);
            let url = url::Url::parse(&format!("https://host.example/base{path}")).unwrap();
            prop_assert_eq!(url.path(), format!("/base{path}"), "no parser changes it");
            prop_assert!(url.query().is_none() && url.fragment().is_none());
        }
    }

    #[test]
    fn any_text_parses_or_is_refused(text in any::<String>(), value in any::<String>()) {
        if let Ok(template) = Template::parse(&text) {
            let _ = template.render(Position::Query, |_| Some(&value));
            prop_assert_eq!(template.text(), text);
        }
    }
}
