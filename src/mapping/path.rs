//! Paths into vendor records: `a.b`, `a[0]`, `a[*].b`, `a[?type=work].b`, `"odd.key"`, `.`; roots `$account`, `$company`, `$page`.

use std::{borrow::Cow, fmt, iter::Peekable, ops::Range, str::CharIndices};

use super::{
    MapError, find,
    text::{depth_within, text_of},
};

/// A parsed path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    text: String,
    root: Root,
    steps: Vec<Step>,
}

/// What a path starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Root {
    /// The record, or the element within `each`.
    Record,
    /// `$account`.
    Account,
    /// `$company`.
    Company,
    /// `$page`.
    Page,
}

/// One step of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A member.
    Key(String),
    /// One element of a list, from 0.
    Index(usize),
    /// Every element of a list.
    All,
    /// The elements whose member has this text.
    Where { key: String, is: String },
}

/// One step of a path without conditions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlainStep<'p> {
    /// Into a member.
    Member(&'p str),
    /// Into one element of a list, from 0.
    Element(usize),
    /// Into every element.
    Elements,
}

/// A path that cannot be read.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
#[error("`{path}`: {reason} at character {at}")]
pub struct PathError {
    /// The path.
    pub path: String,
    /// Why.
    pub reason: &'static str,
    /// Where, from 1.
    pub at: usize,
}

impl Path {
    /// Reads a path.
    pub fn parse(text: &str) -> Result<Path, PathError> {
        let mut reader = Reader { text, rest: text.char_indices().peekable() };
        let (root, steps) = reader.path().map_err(|reason| PathError {
            path: text.to_owned(),
            reason,
            at: text.get(..reader.at()).map_or(0, |read| read.chars().count()) + 1,
        })?;
        Ok(Path { text: text.to_owned(), root, steps })
    }

    /// The path as written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether the path reads the record itself, not `$account`, `$company` or `$page`.
    pub fn reads_record(&self) -> bool {
        self.root == Root::Record
    }

    /// Its steps into the record, for whoever follows them elsewhere; `None` when it has a condition or another root.
    pub fn plain_steps(&self) -> Option<impl Iterator<Item = PlainStep<'_>>> {
        let is_plain = self.reads_record() && !self.steps.iter().any(|step| matches!(step, Step::Where { .. }));
        is_plain.then(|| {
            self.steps.iter().filter_map(|step| match step {
                Step::Key(name) => Some(PlainStep::Member(name)),
                Step::Index(index) => Some(PlainStep::Element(*index)),
                Step::All => Some(PlainStep::Elements),
                Step::Where { .. } => None,
            })
        })
    }

    pub(super) fn root(&self) -> Root {
        self.root
    }

    pub(super) fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// The first text at this path in a JSON document (numbers and booleans as written), for error rules and paging.
    /// Reads no further than the first hit.
    pub fn text(&self, json: &[u8]) -> Option<String> {
        let raw = find::first(std::str::from_utf8(json).ok()?, &self.steps)?;
        text_of(raw).map(Cow::into_owned)
    }

    /// Every text at this path in a JSON document, for conditions that ask whether a list holds a value; none when the
    /// document is not JSON.
    pub fn texts(&self, json: &[u8]) -> Vec<String> {
        let values = std::str::from_utf8(json).ok().and_then(|json| find::all(json, &self.steps)).unwrap_or_default();
        values.into_iter().filter_map(text_of).map(Cow::into_owned).collect()
    }

    /// Every value at this path in a JSON document, as written; `None` when the document is not JSON.
    pub fn values<'j>(&self, json: &'j [u8]) -> Option<Vec<&'j str>> {
        find::all(std::str::from_utf8(json).ok()?, &self.steps)
    }

    /// The byte ranges of the array elements at this path (`a.b[*]`, `[*]`, or `.` for a top-level array or one object),
    /// in one pass over the document; an error when the document is not JSON or the path does not hold a list.
    pub fn elements(&self, json: &[u8]) -> Result<Vec<Range<usize>>, MapError> {
        let text = std::str::from_utf8(json).map_err(|e| MapError::NotJson(e.to_string()))?;
        let elements = find::elements(text, &self.steps)?;
        if !elements.iter().all(|element| depth_within(element.as_bytes())) {
            return Err(MapError::NotJson("nested too deeply".to_owned()));
        }
        let start = text.as_ptr() as usize;
        let range = |element: &str| (element.as_ptr() as usize - start)..(element.as_ptr() as usize - start + element.len());
        Ok(elements.into_iter().map(range).collect())
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

struct Reader<'a> {
    text: &'a str,
    rest: Peekable<CharIndices<'a>>,
}

type Read<T> = Result<T, &'static str>;

impl Reader<'_> {
    fn at(&mut self) -> usize {
        self.rest.peek().map_or(self.text.len(), |(at, _)| *at)
    }

    fn peek(&mut self) -> Option<char> {
        self.rest.peek().map(|(_, c)| *c)
    }

    fn eat(&mut self, wanted: char) -> bool {
        self.rest.next_if(|(_, c)| *c == wanted).is_some()
    }

    fn path(&mut self) -> Read<(Root, Vec<Step>)> {
        if self.text == "." {
            return Ok((Root::Record, Vec::new()));
        }
        let (mut root, mut steps) = (Root::Record, Vec::new());
        if self.peek() == Some('$') {
            root = self.root()?;
        } else if self.peek() != Some('[') {
            steps.push(self.key()?);
        }
        while let Some(next) = self.peek() {
            match next {
                '.' => {
                    self.rest.next();
                    steps.push(self.key()?);
                }
                '[' => {
                    self.rest.next();
                    steps.push(self.bracket()?);
                }
                _ => return Err("`.` or `[` is expected"),
            }
        }
        Ok((root, steps))
    }

    fn root(&mut self) -> Read<Root> {
        for (name, root) in [("$account", Root::Account), ("$company", Root::Company), ("$page", Root::Page)] {
            if self.text.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '['])) {
                self.rest.by_ref().take(name.len()).for_each(|_| ());
                return Ok(root);
            }
        }
        Err("only `$account`, `$company` and `$page` start with `$`; put a member of such a name in quotes")
    }

    fn key(&mut self) -> Read<Step> {
        if self.peek() == Some('"') { self.quoted() } else { self.bare(".[") }.map(Step::Key)
    }

    /// A word that ends before one of `ends`.
    fn bare(&mut self, ends: &str) -> Read<String> {
        let mut word = String::new();
        while let Some(c) = self.peek().filter(|c| !ends.contains(*c)) {
            if c.is_whitespace() || c.is_control() || matches!(c, '"' | '[' | ']' | '?' | '*') {
                return Err("a name with this character must stand in double quotes");
            }
            word.push(c);
            self.rest.next();
        }
        if word.is_empty() { Err("a name is expected") } else { Ok(word) }
    }

    fn quoted(&mut self) -> Read<String> {
        self.rest.next();
        let mut word = String::new();
        while let Some((_, c)) = self.rest.next() {
            match c {
                '"' => return Ok(word),
                '\\' => match self.rest.next() {
                    Some((_, c @ ('"' | '\\'))) => word.push(c),
                    _ => return Err("only `\\\"` and `\\\\` are escapes"),
                },
                c => word.push(c),
            }
        }
        Err("the closing double quote is missing")
    }

    fn bracket(&mut self) -> Read<Step> {
        let step = match self.peek() {
            Some('*') => {
                self.rest.next();
                Step::All
            }
            Some('?') => {
                self.rest.next();
                let key = if self.peek() == Some('"') { self.quoted()? } else { self.bare("=]")? };
                if !self.eat('=') {
                    return Err("`=` is expected");
                }
                let is = if self.peek() == Some('"') { self.quoted()? } else { self.bare("]")? };
                Step::Where { key, is }
            }
            Some('0'..='9') => {
                let mut digits = String::new();
                while let Some((_, digit)) = self.rest.next_if(|(_, c)| c.is_ascii_digit()) {
                    digits.push(digit);
                }
                Step::Index(digits.parse().map_err(|_| "the index is too large")?)
            }
            _ => return Err("an index, `*` or `?name=text` is expected"),
        };
        if self.eat(']') { Ok(step) } else { Err("`]` is expected") }
    }
}
