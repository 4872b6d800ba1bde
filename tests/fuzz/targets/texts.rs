//! Texts with a grammar: command lines, connector files, query strings, headers about limits.

use std::collections::BTreeMap;

use http::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use rollcall::{
    connector::{Catalog, RateUnit, RateWords},
    http::{
        capability::document,
        query::{
            AccountList, CapabilityQuery, DataDelete, DataList, DataOne, MAX_DEPTH, MAX_PAIRS, Pairs, ProxyList, ProxyOne, Query,
            ToolQuery,
        },
    },
    mapping::{Options, Roots},
    model::EnvironmentId,
    service::passthrough::arguments,
    upstream::rate,
};

/// 0: a command line as it comes, 1: words, one a line, that are quoted first. Holds the reading against a POSIX shell's.
pub fn arguments(data: &[u8]) -> bool {
    let (way, rest) = super::split(data);
    let Ok(text) = std::str::from_utf8(rest) else { return false };
    if way % 2 == 0 { line(text) } else { words(text) }
}

fn line(text: &str) -> bool {
    // A line with control characters is refused before its arguments are read.
    if text.chars().any(char::is_control) {
        return false;
    }
    let Some(all) = arguments::split(text) else { return false };
    let raw: Vec<&str> = all.iter().map(|written| written.raw.as_str()).collect();
    assert_eq!(raw.join(" "), text, "something was lost");
    let read = posix(text).expect("a line that a shell cannot read");
    let written: Vec<_> = all.iter().filter(|written| !written.raw.is_empty()).collect();
    assert_eq!(written.len(), read.len(), "{text:?} is {read:?} to a shell");
    for (written, word) in written.iter().zip(&read) {
        assert_eq!(written.bare, word.replace('\\', ""), "{text:?}");
        match written.option() {
            Ok(Some(name)) => assert!(word.starts_with(name), "{text:?}: {name:?} is not the option of {word:?}"),
            Ok(None) => assert!(!word.starts_with('-'), "{text:?}: the option {word:?} was overlooked"),
            Err(arguments::NotPlain) => assert!(written.bare.starts_with('-')),
        }
    }
    true
}

fn words(text: &str) -> bool {
    let parted = |word: &str| word.contains(['\\', '&', '$']) || word.chars().any(char::is_control);
    let words: Vec<&str> = text.split('\n').filter(|word| !parted(word)).collect();
    let quoted: Vec<String> = words.iter().map(|word| format!("'{}'", word.replace('\'', "'\"'\"'"))).collect();
    let line = quoted.join(" ");
    let all = arguments::split(&line).unwrap_or_else(|| panic!("{line:?} was refused"));
    let bare: Vec<&str> = all.iter().map(|written| written.bare.as_str()).collect();
    assert!(bare == words || words.is_empty(), "{line:?}: {bare:?}");
    for (written, word) in all.iter().zip(&words) {
        assert!(written.option().is_ok_and(|option| option.is_none()) != word.starts_with('-'), "{line:?}");
    }
    !words.is_empty()
}

/// The words a POSIX shell makes of a line that needs no expansion; `None` where a quote or a backslash has no end.
fn posix(text: &str) -> Option<Vec<String>> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match (c, quote) {
            (' ', None) => words.extend(word.take()),
            ('\'' | '"', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (_, Some(open)) if c == open => quote = None,
            ('\\', None) => word.get_or_insert_default().push(chars.next()?),
            ('\\', Some('"')) if matches!(chars.peek(), Some('"' | '\\')) => word.get_or_insert_default().extend(chars.next()),
            _ => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    quote.is_none().then_some(words)
}

/// The starter folder with one file replaced, 0: the head, 1: users, 2: groups, 3: users of one way to connect.
pub fn connector(data: &[u8]) -> bool {
    const FILES: [&str; 4] = ["connector.yaml", "users.yaml", "groups.yaml", "users.api_key.yaml"];
    let (way, rest) = super::split(data);
    let (name, lines) = (FILES[way % 4], rest.iter().filter(|byte| matches!(byte, b'\n' | b'\r')).count() as u64 + 2);
    let mut files = super::sealed::starter();
    files.insert(name.to_owned(), rest.to_vec());
    let catalog = Catalog::of_files("my-vendor", files);
    for problem in catalog.problems() {
        assert!(problem.file.starts_with("my-vendor") && !problem.message.is_empty(), "{problem}");
        assert!(!problem.file.ends_with(name) || problem.line <= lines, "{problem}: the file has {lines} lines");
    }
    let Some(connector) = catalog.get("my-vendor") else {
        assert!(!catalog.problems().is_empty(), "no connector, and nobody says why");
        return false;
    };
    assert!(catalog.problems().is_empty());
    let query = CapabilityQuery { proxy: true, unified: true, ..CapabilityQuery::default() };
    document(connector, EnvironmentId::generate(), None, &query);
    let given = BTreeMap::from([("url", "https://vendor.example"), ("api_key", "k")].map(|(n, v)| (n.to_owned(), v.to_owned())));
    for method in &connector.methods {
        if let Ok(resolved) = method.resolve(&given, &|_| false) {
            let origin = resolved.base.origin();
            assert!(resolved.hosts.iter().any(|host| host.origin() == origin), "a base outside the hosts");
        }
        let record = br#"{"id":"1","login":"a","display_name":null,"email":["x"],"state":"enabled","created_at":1e400}"#;
        for def in method.resources.values() {
            let mut out = Vec::new();
            if def.table.apply(record, Roots::default(), Options::default(), &mut out).is_ok() {
                assert!(serde_json::from_slice::<serde_json::Value>(&out).is_ok(), "a record that is not JSON");
            }
        }
    }
    true
}

/// A raw query; the way says which call asks.
pub fn query(data: &[u8]) -> bool {
    let (way, rest) = super::split(data);
    let Ok(raw) = std::str::from_utf8(rest) else { return false };
    let Ok(mut pairs) = Pairs::parse(raw) else { return false };
    assert!(pairs.rest().len() <= MAX_PAIRS);
    let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    for pair in pairs.rest() {
        assert!(!pair.name.is_empty() && pair.path.len() <= MAX_DEPTH, "{pair:?}");
        assert!(!pair.name.contains(['[', ']']) && !pair.path.iter().any(|part| part.contains(['[', ']'])), "{pair:?}");
        assert!(![&pair.key, &pair.value].into_iter().any(|text| text.contains(['\0', '\r', '\n'])), "{pair:?}");
        assert!(pair.key.ends_with(&pair.field()) || pair.key.starts_with("filters["), "{pair:?}");
    }
    let again: Vec<String> = pairs.rest().iter().map(|pair| format!("{}={}", encode(&pair.key), encode(&pair.value))).collect();
    let again = Pairs::parse(&again.join("&")).expect("written anew it is no query");
    assert_eq!(again.rest(), pairs.rest());
    match way % 7 {
        0 => taken::<DataList>(&mut pairs),
        1 => taken::<DataOne>(&mut pairs),
        2 => taken::<DataDelete>(&mut pairs),
        3 => taken::<ProxyList>(&mut pairs),
        4 => taken::<ProxyOne>(&mut pairs),
        5 => taken::<AccountList>(&mut pairs),
        _ => taken::<ToolQuery>(&mut pairs),
    }
}

fn taken<Q: Query>(pairs: &mut Pairs) -> bool {
    Q::take(pairs).is_ok() && std::mem::take(pairs).finish(&[Q::NAMES]).is_ok()
}

/// Lines of headers; each begins with a letter that says which. The way says the status, and what the connector declares.
pub fn rate(data: &[u8]) -> bool {
    const NAMES: [&str; 16] = [
        "retry-after",
        "ratelimit",
        "ratelimit-policy",
        "ratelimit-limit",
        "ratelimit-remaining",
        "ratelimit-reset",
        "x-ratelimit-limit",
        "x-ratelimit-remaining",
        "x-ratelimit-reset",
        "x-ratelimit-reset-after",
        "x-rate-limit-limit",
        "x-rate-limit-reset",
        "x-own-limit",
        "x-own-left",
        "x-own-reset",
        "date",
    ];
    const UNITS: [Option<RateUnit>; 6] = [
        None,
        Some(RateUnit::EpochS),
        Some(RateUnit::EpochMs),
        Some(RateUnit::DeltaS),
        Some(RateUnit::DeltaMs),
        Some(RateUnit::HttpDate),
    ];
    let (way, rest) = super::split(data);
    let own = |name: &'static str| (way >= 6).then(|| HeaderName::from_static(name));
    let (limit, remaining, reset) = (own("x-own-limit"), own("x-own-left"), own("x-own-reset"));
    let words = RateWords { limit, remaining, reset, unit: UNITS[way % 6], hold: false };
    let mut headers = HeaderMap::new();
    for line in rest.split(|byte| *byte == b'\n').take(32) {
        let Some((first, value)) = line.split_first() else { continue };
        if let Ok(value) = HeaderValue::from_bytes(value) {
            headers.append(NAMES[usize::from(first.wrapping_sub(b'a')) % NAMES.len()], value);
        }
    }
    let reading = rate::read(if way % 2 == 0 { 429 } else { 200 }, &headers, &words);
    for seconds in [reading.reset_after, reading.retry_after, reading.window].into_iter().flatten() {
        assert!(seconds <= 7 * 86_400, "{seconds} s were believed");
    }
    assert!(reading.is_empty() || rate::speaks(&headers, &words), "something was read where nothing speaks: {reading:?}");
    assert_eq!(
        reading.source == rate::Source::Nothing,
        reading == rate::Reading { window: reading.window, ..Default::default() }
    );
    assert!(!reading.is_scarce() || reading.remaining.is_some());
    let now = "2026-11-21T10:00:00Z".parse().expect("a moment");
    assert!(reading.reset_at(now).is_none_or(|then| then >= now));
    !reading.is_empty()
}
