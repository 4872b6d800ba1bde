//! `{name}` over declared names only. A missing value is an error; values are encoded by their position.

use std::{borrow::Cow, fmt::Write as _};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// Where a template's values will stand, which decides how they are encoded.
///
/// Whatever the position, a name directly between double quotes (`userName eq "{value}"`) is escaped as the inside of a
/// JSON string, and one directly between single quotes (`mail eq '{value}'`) has its single quotes doubled: a value never
/// ends the quotes around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// One path segment. Only values are encoded; `.` and `..` are refused, also between slashes of the value.
    PathSegment,
    /// A query value, ready for the wire: the template's own text is percent-encoded too.
    Query,
    /// A header value or plain text: not encoded, but CR, LF and NUL are refused.
    Text,
}

/// A parsed template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(String),
    Name { name: String, quotes: Quotes },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Quotes {
    None,
    Single,
    Double,
}

/// Why a template does not parse or render.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// A brace without its partner, or an empty name.
    #[error("`{0}`: a `{{` needs a name and a `}}`")]
    Syntax(String),
    /// No value of this name.
    #[error("`{0}` has no value")]
    Missing(String),
    /// A value holds a character that may not stand there.
    #[error("the value of `{0}` holds a character that may not stand there")]
    Character(String),
}

/// RFC 3986 `unreserved` stays; everything else is encoded.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// How often a server might decode a segment.
const DECODED: usize = 3;

impl Template {
    /// Reads a template. A name is `[a-z_][a-z0-9_.]*`.
    pub fn parse(text: &str) -> Result<Template, TemplateError> {
        let syntax = || TemplateError::Syntax(text.to_owned());
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(open) = rest.find(['{', '}']) {
            let (literal, tail) = rest.split_at(open);
            let Some(tail) = tail.strip_prefix('{') else { return Err(syntax()) };
            let (name, after) = tail.split_once('}').ok_or_else(syntax)?;
            if !is_name(name) {
                return Err(syntax());
            }
            if !literal.is_empty() {
                parts.push(Part::Literal(literal.to_owned()));
            }
            parts.push(Part::Name { name: name.to_owned(), quotes: quotes_around(literal, after) });
            rest = after;
        }
        if rest.contains('}') {
            return Err(syntax());
        }
        if !rest.is_empty() {
            parts.push(Part::Literal(rest.to_owned()));
        }
        Ok(Template { parts })
    }

    /// Names used, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|p| match p {
            Part::Name { name, .. } => Some(name.as_str()),
            Part::Literal(_) => None,
        })
    }

    /// The text with every name replaced.
    pub fn render<'v>(&self, position: Position, value: impl Fn(&str) -> Option<&'v str>) -> Result<String, TemplateError> {
        let mut out = String::new();
        for part in &self.parts {
            match part {
                Part::Literal(text) if position == Position::Query => out.extend(utf8_percent_encode(text, RESERVED)),
                Part::Literal(text) => out.push_str(text),
                Part::Name { name, quotes } => {
                    let value = value(name).ok_or_else(|| TemplateError::Missing(name.clone()))?;
                    if !may_stand(value, position) {
                        return Err(TemplateError::Character(name.clone()));
                    }
                    let value = quotes.escape(value);
                    match position {
                        Position::Text => out.push_str(&value),
                        Position::Query | Position::PathSegment => out.extend(utf8_percent_encode(&value, RESERVED)),
                    }
                }
            }
        }
        Ok(out)
    }

    /// The text as it was written.
    pub fn text(&self) -> String {
        self.parts
            .iter()
            .map(|part| match part {
                Part::Literal(text) => Cow::Borrowed(text.as_str()),
                Part::Name { name, .. } => Cow::Owned(format!("{{{name}}}")),
            })
            .collect()
    }

    /// The text with every name replaced as `value` says; for addresses, whose parts are encoded differently.
    pub(super) fn render_raw(
        &self,
        mut value: impl FnMut(&str, &str) -> Result<String, TemplateError>,
    ) -> Result<String, TemplateError> {
        let mut out = String::new();
        for part in &self.parts {
            match part {
                Part::Literal(text) => out.push_str(text),
                Part::Name { name, .. } => {
                    let text = value(name, &out)?;
                    out.push_str(&text);
                }
            }
        }
        Ok(out)
    }
}

impl Quotes {
    fn escape(self, value: &str) -> Cow<'_, str> {
        match self {
            Quotes::None => Cow::Borrowed(value),
            Quotes::Single => Cow::Owned(value.replace('\'', "''")),
            Quotes::Double => Cow::Owned(json_inside(value)),
        }
    }
}

/// The value as it stands between the quotes of a JSON string, which is what RFC 7644 filters hold.
fn json_inside(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for c in value.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if (c as u32) < 0x20 => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out
}

fn may_stand(value: &str, position: Position) -> bool {
    match position {
        Position::Text | Position::Query => !value.contains(['\r', '\n', '\0']),
        Position::PathSegment => !value.is_empty() && may_stand_in_path(value),
    }
}

/// Also for servers that decode what they have decoded.
fn may_stand_in_path(value: &str) -> bool {
    let mut value = Cow::Borrowed(value);
    for _ in 0..DECODED {
        let is_dots = |segment: &str| matches!(segment, "." | "..");
        if value.contains(char::is_control) || value.split(['/', '\\']).any(is_dots) {
            return false;
        }
        if !value.contains('%') {
            break;
        }
        value = percent_decode_str(&value).decode_utf8_lossy().into_owned().into();
    }
    true
}

fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '.'))
}

fn quotes_around(before: &str, after: &str) -> Quotes {
    match (before.chars().next_back(), after.chars().next()) {
        (Some('"'), Some('"')) => Quotes::Double,
        (Some('\''), Some('\'')) => Quotes::Single,
        _ => Quotes::None,
    }
}
