//! `Link: <…>; rel="next"` (RFC 8288): read for paging, rewritten by the passthrough.

use std::ops::Range;

use http::{HeaderMap, header};

/// One link of a value.
pub struct Link<'t> {
    /// Where its target stands, between the brackets.
    pub target: Range<usize>,
    /// What stands behind the bracket, up to the comma or the end.
    pub parameters: &'t str,
}

/// The links of one value, up to the first that cannot be read.
pub fn links(text: &str) -> impl Iterator<Item = Link<'_>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let start = at + text[at..].find('<')? + 1;
        let end = start + text[start..].find('>')?;
        let tail = &text[end + 1..];
        // Parameters end at a comma that is not within quotes.
        let length = unquoted(tail, ',').unwrap_or(tail.len());
        at = end + 1 + length;
        Some(Link { target: start..end, parameters: &tail[..length] })
    })
}

/// The target of the first link whose relations hold `next`.
pub fn next(headers: &HeaderMap) -> Option<String> {
    let values = headers.get_all(header::LINK).iter().filter_map(|value| value.to_str().ok());
    let mut found = values.flat_map(|text| links(text).map(move |link| (text, link)));
    found.find(|(_, link)| link.has_relation(&["next"])).map(|(text, link)| text[link.target].trim().to_owned())
}

impl Link<'_> {
    /// Whether it is in one of these relations.
    pub fn has_relation(&self, wanted: &[&str]) -> bool {
        let mut rest = Some(self.parameters);
        while let Some(parameters) = rest {
            let at = unquoted(parameters, ';');
            let parameter = &parameters[..at.unwrap_or(parameters.len())];
            if names_relation(parameter, wanted) {
                return true;
            }
            rest = at.map(|at| &parameters[at + 1..]);
        }
        false
    }
}

/// Whether a text behind a link could name one of these relations to some client: many know neither quotes nor where a link ends.
pub(super) fn mentions(text: &str, wanted: &[&str]) -> bool {
    text.split([';', ',', '<', '>']).any(|parameter| names_relation(parameter, wanted))
}

fn names_relation(parameter: &str, wanted: &[&str]) -> bool {
    let Some((name, value)) = parameter.split_once('=') else { return false };
    let mut relations = value.trim().trim_matches('"').split_ascii_whitespace();
    name.trim().eq_ignore_ascii_case("rel") && relations.any(|rel| wanted.iter().any(|wanted| rel.eq_ignore_ascii_case(wanted)))
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
