//! A query string in the making: names once, values encoded once.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::Failure;
use crate::model::Secret;

const VALUE: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// The same, but an escape that is already there stays.
const ESCAPED: &AsciiSet = &VALUE.remove(b'%');

/// Parameters in the order they were added.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Adds a parameter as people write it.
    pub fn add(&mut self, name: &str, value: &str) {
        self.0.push((encode(name), encode(value)));
    }

    /// Adds a parameter whose value came out of a template: its placeholders are encoded, the text around them may not be.
    pub fn add_rendered(&mut self, name: &str, value: &str) {
        self.0.push((encode(name), complete(value)));
    }

    /// Sets a parameter as people write it, replacing one of that name.
    pub fn set(&mut self, name: &str, value: &str) {
        let name = encode(name);
        self.0.retain(|(n, _)| *n != name);
        self.0.push((name, encode(value)));
    }

    /// Adds a caller's own parameters, all of a name that it gives several times. One that is there already is refused: of two
    /// the vendor would take either.
    pub fn add_own(&mut self, own: &[(String, String)]) -> Result<(), Failure> {
        let declared = self.0.len();
        for (name, value) in own {
            let encoded = encode(name);
            if self.0[..declared].iter().any(|(there, _)| *there == encoded) {
                let reason = "the connector sets it itself; pages are asked for with `limit` and `next_cursor`".to_owned();
                return Err(Failure::Unsendable { field: name.clone(), reason });
            }
            self.0.push((encoded, encode(value)));
        }
        Ok(())
    }

    /// The text behind the `?`.
    pub fn text(&self) -> String {
        self.with(std::iter::empty())
    }

    /// The text behind the `?`, with the credential's parameters in the place of any of their names.
    pub(super) fn with<'a>(&self, injected: impl Iterator<Item = (&'a str, &'a Secret)> + Clone) -> String {
        let mut text = String::new();
        let mut push = |name: &str, value: &str| {
            if !text.is_empty() {
                text.push('&');
            }
            text.push_str(name);
            text.push('=');
            text.push_str(value);
        };
        let taken: Vec<String> = injected.clone().map(|(name, _)| encode(name)).collect();
        for (name, value) in self.0.iter().filter(|(name, _)| !taken.contains(name)) {
            push(name, value);
        }
        for (name, value) in injected {
            push(&encode(name), value.expose());
        }
        text
    }
}

/// Encodes everything that is not unreserved.
pub(super) fn encode(text: &str) -> String {
    utf8_percent_encode(text, VALUE).to_string()
}

/// Encodes what is left to encode in a text whose escapes stay.
fn complete(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        out.extend(utf8_percent_encode(&rest[..at], ESCAPED));
        let escape = rest.as_bytes().get(at + 1..at + 3).is_some_and(|pair| pair.iter().all(u8::is_ascii_hexdigit));
        out.push_str(if escape { "%" } else { "%25" });
        rest = &rest[at + 1..];
    }
    out.extend(utf8_percent_encode(rest, ESCAPED));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn own_parameters_are_sent_as_often_as_they_are_given_and_never_beside_declared_ones() {
        let mut query = Query::default();
        query.add("count", "100");
        query.add_own(&own(&[("ids[]", "1"), ("ids[]", "2"), ("q", "a b")])).unwrap();
        assert_eq!(query.text(), "count=100&ids%5B%5D=1&ids%5B%5D=2&q=a%20b");
        let refused = query.add_own(&own(&[("count", "1")])).unwrap_err();
        assert!(matches!(refused, Failure::Unsendable { ref field, .. } if field == "count"));
    }
}
