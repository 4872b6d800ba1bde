//! `a=`, `a[b]=`, `a[]=`, `a[0]=`, repeated and percent-encoded, as Truto's clients in several languages write them.

use std::{borrow::Cow, fmt::Write};

use jiff::Timestamp;
use percent_encoding::percent_decode_str;

use crate::{
    error::{Code, Error, Result},
    model::{AccountId, distance},
};

/// The most parameters in one query.
pub const MAX_PAIRS: usize = 256;

/// The most brackets behind one name.
pub const MAX_DEPTH: usize = 5;

/// One parameter, decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The name before the first bracket; `filters[x]` counts as `x`.
    pub name: String,
    /// What stands in the brackets, in order; empty for `[]`.
    pub path: Vec<String>,
    /// The value.
    pub value: String,
    /// The whole key, decoded, as it was written.
    pub key: String,
}

impl Pair {
    /// The name with its brackets, without `filters[…]`.
    pub fn field(&self) -> String {
        field(&self.name, &self.path)
    }
}

/// A name and its brackets as one text.
pub fn field(name: &str, path: &[String]) -> String {
    path.iter().fold(name.to_owned(), |mut text, part| {
        let _ = write!(text, "[{part}]");
        text
    })
}

/// The parameters of one query that nobody has taken yet.
#[derive(Debug, Default)]
pub struct Pairs(Vec<Pair>);

impl Pairs {
    /// Reads a raw query; a bare `?` is an empty one.
    pub fn parse(raw: &str) -> Result<Self> {
        let mut pairs = Vec::new();
        for part in raw.split('&').filter(|part| !part.is_empty()) {
            if pairs.len() == MAX_PAIRS {
                return Err(Error::new(Code::InvalidParameter, format!("A query holds at most {MAX_PAIRS} parameters.")));
            }
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            let key = decode(key, "A parameter's name")?;
            let value = decode(value, &format!("The value of `{key}`")).map_err(|e| e.field(key.as_str()))?;
            let (name, path) = split_key(&key)?;
            pairs.push(Pair { name, path, value, key });
        }
        Ok(Self(pairs))
    }

    /// The one value of a plain parameter.
    pub fn take_one(&mut self, name: &str) -> Result<Option<String>> {
        let mut taken = self.take(name);
        if taken.len() > 1 {
            return Err(wrong(name, "is given more than once"));
        }
        match taken.pop() {
            Some(pair) if !pair.path.is_empty() => Err(wrong(name, "takes one value, without brackets")),
            pair => Ok(pair.map(|pair| pair.value)),
        }
    }

    /// A text that is not empty: an empty one would ask for nothing, or for everything.
    pub fn take_text(&mut self, name: &str) -> Result<Option<String>> {
        match self.take_one(name)? {
            Some(text) if text.is_empty() => Err(wrong(name, "takes a text that is not empty")),
            text => Ok(text),
        }
    }

    /// `integrated_account_id` of a list that keeps to one account, also one that is gone.
    pub fn take_account(&mut self) -> Result<Option<AccountId>> {
        const NAME: &str = "integrated_account_id";
        self.take_text(NAME)?.map(|id| id.parse().map_err(|_| wrong(NAME, "takes the id of an account"))).transpose()
    }

    /// A point in time.
    pub fn take_time(&mut self, name: &str) -> Result<Option<Timestamp>> {
        let parse = |text: String| text.parse().map_err(|_| wrong(name, "takes a time such as `2026-01-31T12:00:00Z`"));
        self.take_one(name)?.map(parse).transpose()
    }

    /// A boolean parameter; false when left out.
    pub fn take_bool(&mut self, name: &str) -> Result<bool> {
        Ok(self.take_choice(name, &[("true", true), ("false", false)])?.unwrap_or_default())
    }

    /// A parameter that takes one of some words.
    pub fn take_choice<T: Copy>(&mut self, name: &str, words: &[(&str, T)]) -> Result<Option<T>> {
        let Some(value) = self.take_one(name)? else { return Ok(None) };
        if let Some((_, choice)) = words.iter().find(|(word, _)| *word == value) {
            return Ok(Some(*choice));
        }
        let known: Vec<_> = words.iter().map(|(word, _)| format!("`{word}`")).collect();
        Err(wrong(name, &format!("takes {}", known.join(", "))))
    }

    /// `limit`, from 1 to `max`.
    pub fn take_limit(&mut self, max: usize) -> Result<Option<usize>> {
        let Some(value) = self.take_one("limit")? else { return Ok(None) };
        let digits = !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit());
        match value.parse::<usize>() {
            Ok(limit) if digits && (1..=max).contains(&limit) => Ok(Some(limit)),
            _ => Err(wrong("limit", &format!("takes a whole number from 1 to {max}"))),
        }
    }

    /// A list, in any of its forms: repeated, `name[]=`, `name[0]=`, comma-separated.
    pub fn take_list(&mut self, name: &str) -> Result<Vec<String>> {
        let mut list = Vec::new();
        for pair in self.take(name) {
            if !is_list(&pair.path) {
                return Err(wrong(name, "takes a list"));
            }
            list.extend(pair.value.split(',').filter(|v| !v.is_empty()).map(str::to_owned));
        }
        Ok(list)
    }

    /// `name[a]=…`, `name[a][b]=…` as (`a`, …), (`a[b]`, …).
    pub fn take_tree(&mut self, name: &str) -> Result<Vec<(String, String)>> {
        let branch = |pair: Pair| match pair.path.split_first() {
            Some((first, rest)) if !first.is_empty() => Ok((field(first, rest), pair.value)),
            _ => Err(wrong(name, &format!("is written `{name}[…]=…`"))),
        };
        self.take(name).into_iter().map(branch).collect()
    }

    /// Everything that is left.
    pub fn take_rest(&mut self) -> Vec<Pair> {
        std::mem::take(&mut self.0)
    }

    /// What is left, to look at.
    pub fn rest(&self) -> &[Pair] {
        &self.0
    }

    /// Refuses what nobody took, with the nearest name that exists.
    pub fn finish(self, names: &[&[&str]]) -> Result<()> {
        match self.0.first() {
            Some(pair) => Err(unknown(&pair.key, names.iter().copied().flatten().copied())),
            None => Ok(()),
        }
    }

    /// Every pair of this name.
    pub fn take(&mut self, name: &str) -> Vec<Pair> {
        self.0.extract_if(.., |pair| pair.name == name).collect()
    }
}

/// Whether the brackets mean "one element of a list".
pub fn is_list(path: &[String]) -> bool {
    match path {
        [] => true,
        [one] => one.is_empty() || one.bytes().all(|b| b.is_ascii_digit()),
        _ => false,
    }
}

/// A parameter that nobody knows, with the one that is meant or those that there are.
pub fn unknown<'n>(key: &str, names: impl Iterator<Item = &'n str>) -> Error {
    let names: Vec<&str> = names.collect();
    let detail = match nearest(key, names.iter().copied()) {
        Some(name) => format!("There is no parameter `{}`; did you mean `{name}`?", shown(key)),
        None if names.is_empty() => format!("There is no parameter `{}`: this route takes none.", shown(key)),
        None => {
            let names: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
            format!("There is no parameter `{}` on this route; it takes {}.", shown(key), names.join(", "))
        }
    };
    Error::new(Code::InvalidParameter, detail).field(shown(key))
}

/// A parameter with a value it does not take.
pub fn wrong(name: &str, what: &str) -> Error {
    Error::new(Code::InvalidParameter, format!("`{name}` {what}.")).field(name)
}

/// At most so much of a caller's own words stands in an error.
pub(super) fn shown(key: &str) -> String {
    key.chars().take(64).collect()
}

/// The name that is at most two slips away.
pub fn nearest<'n>(key: &str, names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let key: String = key.chars().take(64).collect();
    names
        .map(|name| (distance(&key, name), name))
        .filter(|(slips, name)| *slips <= 2 && *slips < name.len() / 2)
        .min()
        .map(|(_, name)| name)
}

/// A raw name or value for comparison only; what is not UTF-8 equals nothing of ours.
pub fn decode_loosely(text: &str) -> String {
    percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned()
}

/// The key of a raw pair, decoded loosely.
pub(super) fn key_of(pair: &str) -> String {
    decode_loosely(pair.split_once('=').map_or(pair, |(key, _)| key))
}

/// The raw query without the pairs of these names, ours and those that hold a token; the others stay as they were written.
pub fn cut<'r>(raw: Option<&'r str>, own: &[&str], tokens: &[String]) -> Option<Cow<'r, str>> {
    let raw = raw?;
    if own.is_empty() && tokens.is_empty() {
        return Some(raw.into());
    }
    let goes = |pair: &&str| {
        let name = key_of(pair);
        own.contains(&name.as_str()) || tokens.contains(&name)
    };
    let kept: Vec<&str> = raw.split('&').filter(|pair| !goes(pair)).collect();
    if kept.is_empty() { None } else { Some(kept.join("&").into()) }
}

fn decode(text: &str, what: &str) -> Result<String> {
    let spaced = text.replace('+', " ");
    let decoded = percent_decode_str(&spaced).decode_utf8();
    let decoded = decoded.map_err(|_| Error::new(Code::InvalidParameter, format!("{what} is not UTF-8.")))?;
    if decoded.contains(['\0', '\r', '\n']) {
        return Err(Error::new(Code::InvalidParameter, format!("{what} holds a control character.")));
    }
    Ok(decoded.into_owned())
}

fn split_key(key: &str) -> Result<(String, Vec<String>)> {
    let malformed = |why: &str| Error::new(Code::InvalidParameter, format!("`{}` {why}.", shown(key))).field(shown(key));
    let (name, mut brackets) = match key.find('[') {
        Some(at) => key.split_at(at),
        None => (key, ""),
    };
    if name.is_empty() || name.contains(']') {
        return Err(malformed("is not a parameter's name"));
    }
    let mut path = Vec::new();
    while !brackets.is_empty() {
        let inner = brackets.strip_prefix('[').and_then(|rest| rest.split_once(']'));
        let (part, rest) = inner.filter(|(part, _)| !part.contains('[')).ok_or_else(|| malformed("has unbalanced brackets"))?;
        if path.len() == MAX_DEPTH {
            return Err(malformed("is nested too deeply"));
        }
        path.push(part.to_owned());
        brackets = rest;
    }
    if name == "filters" && path.first().is_some_and(|first| !first.is_empty()) {
        return Ok((path.remove(0), path));
    }
    Ok((name.to_owned(), path))
}
