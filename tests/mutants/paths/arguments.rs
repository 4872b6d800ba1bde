//! The reading of command lines; in the suite the proxy's rules are tested with it.

use rollcall::{
    connector::Argument,
    service::passthrough::arguments::{NotPlain, split},
};

/// The options of a line, or why it is not read.
fn options(line: &str) -> Option<Result<Vec<String>, ()>> {
    let all = split(line)?;
    Some(all.iter().filter_map(|one| one.option().map(|name| name.map(str::to_owned)).transpose()).collect::<Result<_, NotPlain>>().map_err(drop))
}

#[test]
fn lines_are_split_as_every_parser_would() {
    for (line, bare) in [
        ("", vec![""]),
        ("a  b", vec!["a", "", "b"]),
        ("'a b' \"c d\"", vec!["a b", "c d"]),
        ("'a\"b' \"it's\"", vec!["a\"b", "it's"]),
        ("'O'\"'\"'Neil'", vec!["O'Neil"]),
        ("R & D && 1&2", vec!["R", "&", "D", "&&", "1&2"]),
        ("Root\\Sub 'x\\y'", vec!["RootSub", "xy"]),
        ("$x {y}", vec!["$x", "{y}"]),
    ] {
        let all = split(line).unwrap_or_else(|| panic!("{line}"));
        assert_eq!(all.iter().map(|one| one.bare.as_str()).collect::<Vec<_>>(), bare, "{line}");
        assert_eq!(all.iter().map(|one| one.raw.as_str()).collect::<Vec<_>>().join(" "), line);
    }
    for line in ["'a", "a\"", "'a\" b", "a\\", "a\\ b", "a\\'b'", "\"a\\\"b\"", "${x}", "&#45;", "a&amp", "1&x"] {
        assert!(split(line).is_none(), "{line}");
    }
}

#[test]
fn options_are_known_by_their_names() {
    let some = |names: &[&str]| Some(Ok(names.iter().map(|name| name.to_string()).collect()));
    assert_eq!(options("a --b=c -d e=-f '-g h'=x - -1"), None.or(Some(Err(()))));
    assert_eq!(options("a --b=c -d e=-f - -1"), some(&["--b", "-d", "-", "-1"]));
    assert_eq!(options("--name='Jane -o Doe'"), some(&["--name"]));
    for line in ["'--a'", "--a\"b\"", "--a'b'=c", "\\--a", "-\\o", "''-o"] {
        assert_eq!(options(line), Some(Err(())), "{line}");
    }
}

#[test]
fn an_option_is_what_some_parser_could_take_it_for() {
    let (long, short) = (Argument::Long("output".to_owned()), Argument::Short('o'));
    for (option, as_long, as_short) in [
        ("--output", true, false),
        ("--o", true, false),
        ("--", true, false),
        ("--outputs", false, false),
        ("--input", false, false),
        ("-o", false, true),
        ("-vo", false, true),
        ("-v", false, false),
    ] {
        assert_eq!((long.is_meant_by(option), short.is_meant_by(option)), (as_long, as_short), "{option}");
    }
}
