//! A YAML file as a tree that remembers where everything stands, so that every mistake can be shown in its place.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Number, Value};
use serde_saphyr::Spanned;

use super::Problem;

/// A value and where it begins.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) line: u64,
    pub(super) column: u64,
    pub(super) content: Content,
}

/// What a node is.
#[derive(Clone, Debug)]
pub(super) enum Content {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// A key with its value.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) line: u64,
    pub(super) column: u64,
    pub(super) value: Node,
}

/// Reads one document.
pub(super) fn parse(file: &str, text: &str) -> Result<Node, Problem> {
    let budget = serde_saphyr::budget! { max_nodes: 5_000, max_events: 20_000, max_depth: 32 };
    let options = serde_saphyr::options! { strict_booleans: true, with_snippet: false, budget: budget };
    match serde_saphyr::from_str_with_options::<Spanned<Content>>(text, options) {
        Ok(root) => Ok(node(root)),
        Err(error) => {
            let (line, column) = error.location().map_or((1, 1), |at| (at.line(), at.column()));
            let said = error.without_snippet().to_string();
            if said.starts_with("budget breached") {
                let message = "the file is larger or more nested than any connector's".to_owned();
                return Err(Problem { file: file.to_owned(), line, column, message, hint: None });
            }
            let message = said.strip_suffix(&format!(" at line {line}, column {column}")).unwrap_or(&said);
            let message = message.strip_suffix(", set DuplicateKeyPolicy in Options if acceptable").unwrap_or(message);
            Err(Problem { file: file.to_owned(), line, column, message: message.to_owned(), hint: None })
        }
    }
}

fn node(spanned: Spanned<Content>) -> Node {
    Node { line: spanned.referenced.line(), column: spanned.referenced.column(), content: spanned.value }
}

impl Node {
    /// The value of a key.
    pub(super) fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|entry| &entry.value)
    }

    /// A key with its place.
    pub(super) fn entry(&self, key: &str) -> Option<&Entry> {
        match &self.content {
            Content::Map(entries) => entries.iter().find(|entry| entry.key == key),
            _ => None,
        }
    }

    /// An element of a list.
    pub(super) fn element(&self, index: usize) -> Option<&Node> {
        match &self.content {
            Content::List(list) => list.get(index),
            _ => None,
        }
    }

    /// The tree without its places.
    pub(super) fn to_json(&self) -> Value {
        match &self.content {
            Content::Null => Value::Null,
            Content::Bool(b) => Value::Bool(*b),
            Content::Number(n) => Value::Number(n.clone()),
            Content::Text(t) => Value::String(t.clone()),
            Content::List(list) => Value::Array(list.iter().map(Node::to_json).collect()),
            Content::Map(entries) => {
                Value::Object(entries.iter().map(|e| (e.key.clone(), e.value.to_json())).collect::<Map<_, _>>())
            }
        }
    }
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ContentVisitor)
    }
}

struct ContentVisitor;

impl<'de> Visitor<'de> for ContentVisitor {
    type Value = Content;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("YAML")
    }
    fn visit_unit<E>(self) -> Result<Content, E> {
        Ok(Content::Null)
    }
    fn visit_none<E>(self) -> Result<Content, E> {
        Ok(Content::Null)
    }
    fn visit_bool<E>(self, value: bool) -> Result<Content, E> {
        Ok(Content::Bool(value))
    }
    fn visit_u64<E>(self, value: u64) -> Result<Content, E> {
        Ok(Content::Number(value.into()))
    }
    fn visit_i64<E>(self, value: i64) -> Result<Content, E> {
        Ok(Content::Number(value.into()))
    }
    fn visit_f64<E>(self, value: f64) -> Result<Content, E> {
        Ok(Number::from_f64(value).map_or(Content::Null, Content::Number))
    }
    fn visit_str<E>(self, value: &str) -> Result<Content, E> {
        Ok(Content::Text(value.to_owned()))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Content, A::Error> {
        let mut nodes = Vec::new();
        while let Some(element) = list.next_element::<Spanned<Content>>()? {
            nodes.push(node(element));
        }
        Ok(Content::List(nodes))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Content, A::Error> {
        let mut entries = Vec::new();
        while let Some((key, value)) = map.next_entry::<Spanned<String>, Spanned<Content>>()? {
            let (line, column) = (key.referenced.line(), key.referenced.column());
            entries.push(Entry { key: key.value, line, column, value: node(value) });
        }
        Ok(Content::Map(entries))
    }
}

/// A place in a file that problems are reported at. Steps that do not exist stay where they are.
#[derive(Clone, Copy)]
pub(super) struct Place<'t> {
    pub(super) file: &'t str,
    node: Option<&'t Node>,
    line: u64,
    column: u64,
}

impl<'t> Place<'t> {
    /// The top of a file.
    pub(super) fn top(file: &'t str, root: &'t Node) -> Self {
        Place { file, node: Some(root), line: root.line, column: root.column }
    }

    /// The whole folder.
    pub(super) fn folder(file: &'t str) -> Self {
        Place { file, node: None, line: 0, column: 1 }
    }

    /// The value of a key.
    pub(super) fn key(self, key: &str) -> Self {
        match self.node.and_then(|node| node.get(key)) {
            Some(node) => Place { node: Some(node), line: node.line, column: node.column, ..self },
            None => Place { node: None, ..self },
        }
    }

    /// The key itself.
    pub(super) fn name(self, key: &str) -> Self {
        match self.node.and_then(|node| node.entry(key)) {
            Some(entry) => Place { node: Some(&entry.value), line: entry.line, column: entry.column, ..self },
            None => Place { node: None, ..self },
        }
    }

    /// An element of a list; the value itself where one element may stand without its list.
    pub(super) fn index(self, index: usize) -> Self {
        match self.node {
            Some(Node { content: Content::List(_), .. }) => match self.node.and_then(|node| node.element(index)) {
                Some(node) => Place { node: Some(node), line: node.line, column: node.column, ..self },
                None => Place { node: None, ..self },
            },
            _ => self,
        }
    }

    /// Whether there is something here.
    pub(super) fn has(self, key: &str) -> bool {
        self.node.is_some_and(|node| node.get(key).is_some())
    }

    /// A mistake here.
    pub(super) fn problem(self, message: impl Into<String>, hint: impl Into<Option<String>>) -> Problem {
        Problem { file: self.file.to_owned(), line: self.line, column: self.column, message: message.into(), hint: hint.into() }
    }
}
