//! Numbers that a value of this program cannot hold: what is read, changed and sent on must not lose digits on the way.

use super::body::shown;

/// The most names of a way that are told.
const NAMES: usize = 8;

/// The names on the way to the first number that would lose digits (`""` beside no name), down to the first list. The text is
/// known to be JSON.
pub fn inexact_number(json: &[u8]) -> Option<String> {
    let mut within: Vec<Option<&[u8]>> = Vec::new();
    let (mut last, mut name) = (None, None);
    let mut at = 0;
    while let Some(&byte) = json.get(at) {
        let mut length = 1;
        match byte {
            b'"' => {
                length = text(&json[at..]);
                last = json.get(at + 1..at + length - 1);
            }
            b':' => name = last,
            b',' => name = None,
            b'{' | b'[' => within.push(name.take()),
            b'}' | b']' => drop(within.pop()),
            b'-' | b'0'..=b'9' => {
                length = json[at..].iter().take_while(|byte| is_of_number(**byte)).count();
                if !is_exact(&json[at..at + length]) {
                    // What is outermost has no name.
                    let names = within.into_iter().chain([name]).skip(1).map_while(|name| name);
                    let names = names.take(NAMES).map(|name| shown(&String::from_utf8_lossy(name)));
                    return Some(names.collect::<Vec<_>>().join("."));
                }
            }
            _ => {}
        }
        at += length;
    }
    None
}

/// How long the text is that begins here, with its quotes.
fn text(json: &[u8]) -> usize {
    let mut at = 1;
    while at < json.len() && json[at] != b'"' {
        at += if json[at] == b'\\' { 2 } else { 1 };
    }
    json.len().min(at + 1)
}

fn is_of_number(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E')
}

/// Whether 64 bits hold the number: as an integer, or as a fraction whose shortest form has the same digits.
fn is_exact(number: &[u8]) -> bool {
    let Ok(number) = std::str::from_utf8(number) else { return false };
    if number.parse::<i64>().is_ok() || number.parse::<u64>().is_ok() {
        return true;
    }
    number.parse::<f64>().is_ok_and(|held| held.is_finite() && parts(number) == parts(&format!("{held:e}")))
}

/// The digits that count, and the power of ten they are times of when they stand behind a point.
fn parts(number: &str) -> (String, i64) {
    let number = number.trim_start_matches('-');
    let (mantissa, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let leading = digits.len() - digits.trim_start_matches('0').len();
    let digits = digits.trim_matches('0');
    if digits.is_empty() {
        return (String::new(), 0);
    }
    let power = exponent.parse::<i64>().unwrap_or(i64::MAX / 2);
    (digits.to_owned(), power + whole.len() as i64 - leading as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_exact_when_it_comes_back_with_the_same_digits() {
        for exact in [
            "0",
            "-0",
            "-0.0",
            "1",
            "-1",
            "1.10",
            "0.1",
            "1e3",
            "100E-2",
            "1.5e+3",
            "18446744073709551615",
            "-9223372036854775808",
            "100000000000000000000",
            "1e308",
            "5e-324",
            "0.1234567890123456",
            "12.088995980580641",
            "9.109e-31",
            "0e99",
            "1234567890.25",
        ] {
            assert!(is_exact(exact.as_bytes()), "{exact}");
            let read: serde_json::Value = serde_json::from_str(exact).unwrap();
            assert_eq!(parts(&read.to_string()), parts(exact), "{exact} is read and written as {read}");
        }
        for lost in [
            "18446744073709551616",
            "-9223372036854775809",
            "12345678901234567890123",
            "0.12345678901234567891",
            "1e400",
            "1e-400",
            "1e99999999999999999999",
            "9007199254740993.5",
            "123456789012345678901234567890e-10",
        ] {
            assert!(!is_exact(lost.as_bytes()), "{lost}");
        }
    }

    #[test]
    fn the_field_is_named_down_to_the_first_list() {
        let named = |json: &str| inexact_number(json.as_bytes());
        let big = "12345678901234567890123";
        assert_eq!(named(&format!(r#"{{"a":1,"b":{{"c":2,"d":{big}}}}}"#)).as_deref(), Some("b.d"));
        assert_eq!(named(&format!(r#"{{"a":{{"x":1}},"b":[1,{{"c":{big}}}]}}"#)).as_deref(), Some("b"));
        assert_eq!(named(&format!(r#"{{"a":["x",{big}],"b":1}}"#)).as_deref(), Some("a"));
        assert_eq!(named(&format!(r#"{{"a":[],"b" : {big}}}"#)).as_deref(), Some("b"));
        assert_eq!(named(&format!("[{big}]")).as_deref(), Some(""));
        assert_eq!(named(big).as_deref(), Some(""));
        assert_eq!(named(&format!(r#"{{"a":"{big}","b\"{big}":"\\","c":[true,null,-1.5e3]}}"#)), None);
        assert_eq!(named(r#"{"a":"\"#), None);
    }
}
