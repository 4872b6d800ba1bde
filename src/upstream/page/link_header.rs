//! `Link: <…>; rel="next"` (RFC 8288).

use http::{HeaderMap, header};

/// The target of the first link whose relations hold `next`.
pub(super) fn next(headers: &HeaderMap) -> Option<String> {
    headers.get_all(header::LINK).iter().filter_map(|value| value.to_str().ok()).find_map(next_of)
}

fn next_of(mut rest: &str) -> Option<String> {
    while let Some(open) = rest.find('<') {
        let (target, tail) = rest[open + 1..].split_once('>')?;
        let (parameters, behind) = split_link(tail);
        if is_next(parameters) {
            return Some(target.trim().to_owned());
        }
        rest = behind;
    }
    None
}

/// Parameters end at a comma that is not within quotes.
fn split_link(text: &str) -> (&str, &str) {
    match unquoted(text, ',') {
        Some(at) => (&text[..at], &text[at + 1..]),
        None => (text, ""),
    }
}

/// Where a character first stands outside of quotes.
fn unquoted(text: &str, wanted: char) -> Option<usize> {
    let (mut quoted, mut escaped) = (false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            c if c == wanted && !quoted => return Some(at),
            _ => {}
        }
    }
    None
}

fn is_next(mut parameters: &str) -> bool {
    loop {
        let (parameter, rest) = match unquoted(parameters, ';') {
            Some(at) => (&parameters[..at], Some(&parameters[at + 1..])),
            None => (parameters, None),
        };
        if let Some((name, value)) = parameter.split_once('=')
            && name.trim().eq_ignore_ascii_case("rel")
            && value.trim().trim_matches('"').split_ascii_whitespace().any(|rel| rel.eq_ignore_ascii_case("next"))
        {
            return true;
        }
        match rest {
            Some(rest) => parameters = rest,
            None => return false,
        }
    }
}
