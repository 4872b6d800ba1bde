//! U-04: what vendors say about their limits, in one shape.

use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;
use rollcall::{
    connector::{RateUnit, RateWords},
    upstream::rate::{Reading, Source, read},
};

const DATE: (&str, &str) = ("date", "Sat, 21 Nov 2026 10:00:00 GMT");
/// That moment, in seconds since 1970.
const NOW: u64 = 1_795_255_200;

fn headers(lines: &[(&str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in lines.iter().chain([&DATE]) {
        map.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap());
    }
    map
}

/// Limit, remaining, seconds until the reset, seconds to wait.
type Said = (Option<u64>, Option<u64>, Option<u64>, Option<u64>);

fn said(reading: Reading) -> Said {
    (reading.limit, reading.remaining, reading.reset_after, reading.retry_after)
}

/// Status, lines, what they say.
type Set = (u16, Vec<(&'static str, &'static str)>, Said);

#[rustfmt::skip]
fn sets() -> Vec<Set> {
    let nothing = (None, None, None, None);
    vec![
        (200, vec![], nothing),
        // `Retry-After`.
        (429, vec![("retry-after", "30")], (None, None, None, Some(30))),
        (503, vec![("retry-after", "5")], (None, None, None, Some(5))),
        (200, vec![("retry-after", "30")], nothing),
        (301, vec![("retry-after", "30")], nothing),
        (429, vec![("retry-after", "Sat, 21 Nov 2026 10:02:00 GMT")], (None, None, None, Some(120))),
        (429, vec![("retry-after", "Sat, 21 Nov 2026 09:59:00 GMT")], (None, None, None, Some(0))),
        (429, vec![("retry-after", "0")], (None, None, None, Some(0))),
        (429, vec![("retry-after", "2.4")], (None, None, None, Some(3))),
        (429, vec![("retry-after", " 7 ")], (None, None, None, Some(7))),
        (429, vec![("retry-after", "soon")], nothing),
        (429, vec![("retry-after", "")], nothing),
        (429, vec![("retry-after", "-1")], nothing),
        (429, vec![("retry-after", "NaN")], nothing),
        (429, vec![("retry-after", "inf")], nothing),
        (429, vec![("retry-after", "99999999")], nothing),
        (429, vec![("retry-after", "3"), ("retry-after", "9")], (None, None, None, Some(9))),
        (429, vec![("retry-after", "soon"), ("retry-after", "9")], (None, None, None, Some(9))),
        // Older names, epoch in seconds, in milliseconds, a number of seconds, a date.
        (200, vec![("x-ratelimit-limit", "60"), ("x-ratelimit-remaining", "59"), ("x-ratelimit-reset", "1795255245")], (Some(60), Some(59), Some(45), None)),
        (200, vec![("x-ratelimit-limit", "60"), ("x-ratelimit-remaining", "59"), ("x-ratelimit-reset", "1795255245000")], (Some(60), Some(59), Some(45), None)),
        (200, vec![("x-ratelimit-reset", "1795255245500")], (None, None, Some(46), None)),
        (200, vec![("x-ratelimit-reset", "1795255245.25")], (None, None, Some(46), None)),
        (200, vec![("x-ratelimit-limit", "600"), ("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "45")], (Some(600), Some(0), Some(45), None)),
        (200, vec![("x-ratelimit-reset", "0")], (None, None, Some(0), None)),
        (200, vec![("x-ratelimit-reset", "Sat, 21 Nov 2026 10:00:12 GMT")], (None, None, Some(12), None)),
        (200, vec![("x-ratelimit-reset", "1795255100")], (None, None, Some(0), None)),
        (200, vec![("x-ratelimit-reset-after", "1.5")], (None, None, Some(2), None)),
        (200, vec![("x-ratelimit-reset-after", "1795255245")], nothing),
        (200, vec![("x-rate-limit-limit", "1200"), ("x-rate-limit-remaining", "1199"), ("x-rate-limit-reset", "1795255260")], (Some(1200), Some(1199), Some(60), None)),
        (200, vec![("x-ratelimit-limit-requests", "100"), ("x-ratelimit-remaining-requests", "98"), ("x-ratelimit-reset-requests", "6")], (Some(100), Some(98), Some(6), None)),
        (200, vec![("X-RateLimit-Limit", "60"), ("X-RateLimit-Remaining", "3")], (Some(60), Some(3), None, None)),
        (429, vec![("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "45"), ("retry-after", "3")], (None, Some(0), Some(45), Some(3))),
        // Malformed parts are passed over, the others stay.
        (200, vec![("x-ratelimit-limit", "many"), ("x-ratelimit-remaining", "3")], (None, Some(3), None, None)),
        (200, vec![("x-ratelimit-remaining", "-3")], nothing),
        (200, vec![("x-ratelimit-remaining", "3.5")], nothing),
        (200, vec![("x-ratelimit-remaining", "99999999999999999999999")], nothing),
        (200, vec![("x-ratelimit-limit", ""), ("x-ratelimit-reset", "later")], nothing),
        (200, vec![("x-ratelimit-reset", "1e400")], nothing),
        (200, vec![("x-ratelimit-reset", "9999999999999")], nothing),
        // Twice: the smaller number, the later time.
        (200, vec![("x-ratelimit-remaining", "7"), ("x-ratelimit-remaining", "3")], (None, Some(3), None, None)),
        (200, vec![("x-ratelimit-reset", "7"), ("x-ratelimit-reset", "30")], (None, None, Some(30), None)),
        // Drafts 05 and 06.
        (200, vec![("ratelimit-limit", "100"), ("ratelimit-remaining", "50"), ("ratelimit-reset", "50")], (Some(100), Some(50), Some(50), None)),
        (200, vec![("ratelimit-limit", "100, 100;w=60, 5000;w=3600"), ("ratelimit-remaining", "50"), ("ratelimit-reset", "5")], (Some(100), Some(50), Some(5), None)),
        (200, vec![("ratelimit-limit", "100;w=60"), ("ratelimit-remaining", "1")], (Some(100), Some(1), None, None)),
        (200, vec![("ratelimit-limit", "10"), ("ratelimit-policy", "10;w=1, 50;w=60"), ("ratelimit-remaining", "9"), ("ratelimit-reset", "1")], (Some(10), Some(9), Some(1), None)),
        (429, vec![("ratelimit-remaining", "0"), ("ratelimit-reset", "8"), ("retry-after", "20")], (None, Some(0), Some(8), Some(20))),
        // Draft 07.
        (200, vec![("ratelimit", "limit=100, remaining=50, reset=5")], (Some(100), Some(50), Some(5), None)),
        (200, vec![("ratelimit", "limit=100,remaining=0,reset=5"), ("ratelimit-policy", "100;w=10")], (Some(100), Some(0), Some(5), None)),
        (200, vec![("ratelimit", "limit=100, remaining=x")], nothing),
        // Drafts 08 to 11.
        (200, vec![("ratelimit", "\"default\";r=50;t=30")], (None, Some(50), Some(30), None)),
        (200, vec![("ratelimit", "\"default\";r=50;t=30"), ("ratelimit-policy", "\"default\";q=100;w=60")], (Some(100), Some(50), Some(30), None)),
        (200, vec![("ratelimit", "\"day\";r=900;t=40000, \"burst\";r=2;t=7"), ("ratelimit-policy", "\"burst\";q=10;w=10,\"day\";q=1000;w=86400")], (Some(10), Some(2), Some(7), None)),
        (200, vec![("ratelimit", "\"burst\";r=0;t=7"), ("ratelimit", "\"day\";r=0;t=400")], (None, Some(0), Some(400), None)),
        (200, vec![("ratelimit", "\"peruser\";r=999;pk=:sdfjLJUOUH==:")], (None, Some(999), None, None)),
        (200, vec![("ratelimit", "default;r=50;t=30")], nothing),
        (200, vec![("ratelimit", "\"default\";t=30")], nothing),
        (200, vec![("ratelimit", "\"default\";r=-1;t=30")], nothing),
        (200, vec![("ratelimit", "\"default\";r=5;t=Sat")], (None, Some(5), None, None)),
        (200, vec![("ratelimit", ";;;,,=\"")], nothing),
        (200, vec![("ratelimit-policy", "\"default\";q=100;w=60")], nothing),
        // The newer form wins over the older where both speak.
        (200, vec![("ratelimit", "\"default\";r=5;t=30"), ("x-ratelimit-remaining", "7"), ("x-ratelimit-limit", "70")], (Some(70), Some(5), Some(30), None)),
        (429, vec![("ratelimit", "\"default\";r=0;t=30"), ("retry-after", "Sat, 21 Nov 2026 10:01:00 GMT")], (None, Some(0), Some(30), Some(60))),
    ]
}

#[test]
fn u_04_every_form_is_read_as_meant() {
    let sets = sets();
    assert!(sets.len() >= 60, "{}", sets.len());
    let wrong: Vec<String> = sets
        .into_iter()
        .filter_map(|(status, lines, wanted)| {
            let found = said(read(status, &headers(&lines), &RateWords::default()));
            (found != wanted).then(|| format!("{status} {lines:?}: {found:?}, not {wanted:?}"))
        })
        .collect();
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn windows_and_sources_are_told() {
    let of = |lines: &[(&str, &str)]| read(429, &headers(lines), &RateWords::default());
    for (lines, window, source) in [
        (vec![("ratelimit", "\"a\";r=1"), ("ratelimit-policy", "\"a\";q=9;w=60")], Some(60), Source::Structured),
        (vec![("ratelimit", "\"a\";r=1"), ("ratelimit-policy", "\"b\";q=9;w=60")], None, Source::Structured),
        (vec![("ratelimit-limit", "100, 100;w=60")], Some(60), Source::Plain),
        (vec![("x-ratelimit-remaining", "1")], None, Source::Plain),
        (vec![("retry-after", "1")], None, Source::RetryAfter),
        (vec![("retry-after", "soon")], None, Source::Nothing),
    ] {
        let reading = of(&lines);
        assert_eq!((reading.window, reading.source), (window, source), "{lines:?}");
    }
    assert!(of(&[]).is_empty());
    let now = "2026-11-21T10:00:00Z".parse().unwrap();
    let at = |lines: &[(&str, &str)]| of(lines).reset_at(now).map(|time| time.to_string());
    assert_eq!(at(&[("x-ratelimit-reset", "45")]).as_deref(), Some("2026-11-21T10:00:45Z"));
    assert_eq!(at(&[("x-ratelimit-reset", "45"), ("retry-after", "3")]).as_deref(), Some("2026-11-21T10:00:03Z"));
    assert_eq!(at(&[]), None);
}

#[test]
fn a_declared_unit_is_not_guessed() {
    let epoch = NOW + 45;
    for (unit, text, seconds) in [
        (RateUnit::DeltaS, "45", Some(45)),
        (RateUnit::DeltaMs, "45000", Some(45)),
        (RateUnit::DeltaMs, "1", Some(1)),
        (RateUnit::EpochS, &epoch.to_string(), Some(45)),
        (RateUnit::EpochMs, &format!("{epoch}000"), Some(45)),
        (RateUnit::HttpDate, "Sat, 21 Nov 2026 10:00:45 GMT", Some(45)),
        (RateUnit::HttpDate, "45", None),
        (RateUnit::DeltaS, "Sat, 21 Nov 2026 10:00:45 GMT", None),
        (RateUnit::DeltaS, &epoch.to_string(), None),
        (RateUnit::EpochS, "45", Some(0)),
    ] {
        let own = RateWords { reset: Some("x-again".parse().unwrap()), unit: Some(unit), ..RateWords::default() };
        let reading = read(200, &headers(&[("x-again", text)]), &own);
        assert_eq!(reading.reset_after, seconds, "{unit:?} {text}");
        let common = RateWords { unit: Some(unit), ..RateWords::default() };
        assert_eq!(read(200, &headers(&[("x-ratelimit-reset", text)]), &common).reset_after, seconds, "{unit:?} {text}");
    }
    let words = RateWords {
        limit: Some("x-calls".parse().unwrap()),
        remaining: Some("x-calls-left".parse().unwrap()),
        ..RateWords::default()
    };
    let lines = [("x-calls", "10"), ("x-calls-left", "2"), ("x-ratelimit-limit", "99"), ("x-ratelimit-reset", "5")];
    let reading = read(200, &headers(&lines), &words);
    assert_eq!((said(reading), reading.source), ((Some(10), Some(2), Some(5), None), Source::Connector));
}

proptest! {
    #[test]
    fn no_header_is_believed_beyond_a_week_or_breaks_the_reader(
        lines in prop::collection::vec((0_usize..11, "[ -~]{0,40}"), 0..8), status in 200_u16..600,
    ) {
        const NAMES: [&str; 11] = ["retry-after", "ratelimit", "ratelimit-policy", "ratelimit-limit", "ratelimit-remaining",
            "ratelimit-reset", "x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset", "x-rate-limit-reset", "date"];
        let mut map = HeaderMap::new();
        for (name, value) in &lines {
            map.append(NAMES[*name], HeaderValue::from_str(value).unwrap());
        }
        let reading = read(status, &map, &RateWords::default());
        for wait in [reading.reset_after, reading.retry_after].into_iter().flatten() {
            prop_assert!(wait <= 7 * 86_400);
        }
    }
}
