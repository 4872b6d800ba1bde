//! `{name}` over declared names only. A missing value is an error; values are encoded by their position.

/// Where a template's values will stand, which decides how they are encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// One path segment.
    PathSegment,
    /// A query value.
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
    Name(String),
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

impl Template {
    /// Reads a template. A name is `[a-z_][a-z0-9_.]*`.
    pub fn parse(_text: &str) -> Result<Template, TemplateError> {
        todo!()
    }

    /// Names used, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|p| match p {
            Part::Name(name) => Some(name.as_str()),
            Part::Literal(_) => None,
        })
    }

    /// The text with every name replaced.
    pub fn render<'v>(&self, _position: Position, _value: impl Fn(&str) -> Option<&'v str>) -> Result<String, TemplateError> {
        todo!()
    }
}
