//! Writes the unified record from the cells, straight into the answer's bytes.

use std::borrow::Cow;

use super::{
    convert::time,
    path::Root,
    plan::{Condition, Member, Out, Read, Rule, Source},
    text::{text_of, write_text},
    trie::{Hop, Sheet},
};
use crate::model::{Kind, Warning};

/// What was written for a target.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Wrote {
    /// Null or an empty list.
    Nothing,
    /// A value that stands in the connector's file.
    Fixed,
    /// A value of the record.
    Value,
}

/// One record being written.
pub(super) struct Writer<'t, 'a> {
    pub record: Sheet<'t, 'a>,
    /// Where the cells of the record, or of the current element, begin.
    pub base: usize,
    /// `$account`, `$company` and `$page`.
    pub roots: [Sheet<'t, 'a>; 3],
    pub out: &'t mut Vec<u8>,
    pub warnings: &'t mut Vec<Warning>,
    /// A required target without a value.
    pub missing: &'t mut Option<String>,
}

impl<'a> Writer<'_, 'a> {
    /// Writes a record; a list element without any value of the vendor's is taken back by the caller.
    fn object(&mut self, members: &[Member]) -> Wrote {
        let mut wrote = Wrote::Nothing;
        self.out.push(b'{');
        for (at, member) in members.iter().enumerate() {
            if at > 0 {
                self.out.push(b',');
            }
            if self.member(member) == Wrote::Value {
                wrote = Wrote::Value;
            }
        }
        self.out.push(b'}');
        wrote
    }

    /// Writes a member with its label.
    pub(super) fn member(&mut self, member: &Member) -> Wrote {
        self.out.extend_from_slice(member.label.as_bytes());
        let start = self.out.len();
        let wrote = match &member.out {
            Out::Rule(rule) => self.rule(rule),
            Out::Object(inner) => {
                let wrote = self.object(inner);
                if wrote != Wrote::Value {
                    self.out.truncate(start);
                    self.out.extend_from_slice(b"null");
                }
                wrote
            }
            Out::Items(items) => self.items(items),
        };
        if member.required && wrote == Wrote::Nothing {
            self.missing.get_or_insert_with(|| member.name.to_owned());
        }
        wrote
    }

    /// Elements mapped one by one; those the vendor has nothing for are left out.
    fn items(&mut self, items: &[Out]) -> Wrote {
        let mut wrote = Wrote::Nothing;
        self.out.push(b'[');
        for item in items {
            let start = self.out.len();
            if wrote == Wrote::Value {
                self.out.push(b',');
            }
            let got = match item {
                Out::Rule(rule) => self.rule(rule),
                Out::Object(members) => self.object(members),
                Out::Items(inner) => self.items(inner),
            };
            if got == Wrote::Value {
                wrote = Wrote::Value;
            } else {
                self.out.truncate(start);
            }
        }
        self.out.push(b']');
        wrote
    }

    fn rule(&mut self, rule: &Rule) -> Wrote {
        if rule.when.as_ref().is_some_and(|when| !self.holds(when)) {
            return self.left_out(rule);
        }
        match &rule.read {
            Read::Const(json) => {
                self.out.extend_from_slice(json);
                if json == b"null" || json == b"[]" { Wrote::Nothing } else { Wrote::Fixed }
            }
            Read::Present(source) => {
                let present = self.values(source, &mut |_| true);
                self.out.extend_from_slice(if present { b"true" } else { b"false" });
                if present { Wrote::Value } else { Wrote::Fixed }
            }
            Read::First(sources) if matches!(rule.kind, Kind::List(_)) => self.list(rule, sources),
            Read::First(sources) if rule.steps.join.is_some() => self.joined_list(rule, sources),
            Read::First(sources) => self.first(rule, sources),
            Read::Joined(sources, with) => self.joined(rule, sources, with),
            Read::Each(hops, members) => self.each(rule, hops, members),
        }
    }

    fn sheet(&self, root: Root) -> (Sheet<'_, 'a>, usize) {
        match root {
            Root::Record => (self.record, self.base),
            Root::Account => (self.roots[0], 0),
            Root::Company => (self.roots[1], 0),
            Root::Page => (self.roots[2], 0),
        }
    }

    /// Calls `hit` with every value of the source that is not null, until it says stop.
    fn values(&self, source: &Source, hit: &mut dyn FnMut(&'a str) -> bool) -> bool {
        let (sheet, base) = self.sheet(source.root);
        let slot = source.slot as usize;
        if source.hops.is_empty() {
            return sheet.value(base + slot).is_some_and(hit);
        }
        sheet.each_row(base, &source.hops, &mut |row| sheet.value(row + slot).is_some_and(&mut *hit))
    }

    fn holds(&self, when: &Condition) -> bool {
        let mut text = None;
        self.values(&when.source, &mut |raw| {
            text = text_of(raw);
            text.is_some()
        });
        let among = |words: &Vec<String>| text.as_deref().is_some_and(|text| words.iter().any(|word| word == text));
        when.is.as_ref().is_none_or(among) && !when.is_not.as_ref().is_some_and(among)
    }

    /// The first value that is a plain one.
    fn first(&mut self, rule: &Rule, sources: &[Source]) -> Wrote {
        let (mut found, mut other) = (None, false);
        for source in sources {
            let hit = self.values(source, &mut |raw| {
                if raw.starts_with(['{', '[']) {
                    other = true;
                    return false;
                }
                if !rule.steps.null_if.is_empty() && nothing(rule, raw) {
                    return false;
                }
                found = Some(raw);
                true
            });
            if hit {
                break;
            }
        }
        match found {
            Some(raw) => self.value(rule, rule.kind, raw),
            None => {
                if other && !matches!(rule.kind, Kind::Enum(_)) {
                    self.lost(rule);
                }
                self.otherwise(rule, None)
            }
        }
    }

    /// Writes a plain value as the kind wants it.
    fn value(&mut self, rule: &Rule, kind: Kind, raw: &str) -> Wrote {
        if rule.plain && matches!(kind, Kind::Text) {
            match raw.starts_with('"') {
                true if raw.as_bytes().contains(&b'\\') => write_text(self.out, &text_of(raw).unwrap_or_default()),
                true => self.out.extend_from_slice(raw.as_bytes()),
                false => write_text(self.out, raw),
            }
            return Wrote::Value;
        }
        match text_of(raw) {
            Some(text) => self.text(rule, kind, text),
            None => self.otherwise(rule, None),
        }
    }

    /// Takes a text through the rule's steps.
    fn text(&mut self, rule: &Rule, kind: Kind, text: Cow<'_, str>) -> Wrote {
        let text = match rule.steps.function {
            None => text,
            Some(function) => match function(&text) {
                Some(made) => Cow::Owned(made),
                None => {
                    self.lost(rule);
                    return self.otherwise(rule, None);
                }
            },
        };
        if !rule.steps.values.is_empty() {
            return match rule.steps.values.iter().find(|(word, _)| *word == *text) {
                Some((_, json)) => {
                    self.out.extend_from_slice(json);
                    if json == b"null" { Wrote::Nothing } else { Wrote::Value }
                }
                None if rule.steps.keep_others => {
                    write_text(self.out, &text);
                    Wrote::Value
                }
                None => self.otherwise(rule, Some(&text)),
            };
        }
        let converted = match (&rule.steps.read_as, kind) {
            (_, Kind::Enum(words)) if !words.contains(&&*text) => return self.otherwise(rule, Some(&text)),
            (Some(read_as), Kind::Time) => read_as.time(&text),
            (Some(read_as), _) => read_as.read(&text),
            (None, Kind::Time) => time(&text),
            (None, Kind::Bool) => bool_word(&text),
            (None, Kind::Number) => number(&text),
            (None, _) => Some(Cow::Borrowed(&*text)),
        };
        match (converted, kind) {
            (Some(word), Kind::Bool | Kind::Number) => self.out.extend_from_slice(word.as_bytes()),
            (Some(text), _) => write_text(self.out, &text),
            (None, _) => {
                self.lost(rule);
                return self.otherwise(rule, None);
            }
        }
        Wrote::Value
    }

    /// What is written when `when` does not hold: nothing; of an enum what stands for "not known".
    fn left_out(&mut self, rule: &Rule) -> Wrote {
        match rule.kind {
            Kind::Enum(_) => return self.otherwise(rule, None),
            Kind::List(_) => self.out.extend_from_slice(b"[]"),
            _ => self.out.extend_from_slice(b"null"),
        }
        Wrote::Nothing
    }

    /// What is written when there is no value, or one nobody knows.
    fn otherwise(&mut self, rule: &Rule, word: Option<&str>) -> Wrote {
        let fallback: &[u8] = match (&rule.otherwise, rule.kind) {
            (Some(json), _) => json,
            (None, Kind::Enum(words)) if words.contains(&"unknown") => b"\"unknown\"",
            (None, Kind::List(_)) => b"[]",
            (None, _) => b"null",
        };
        let unknown = fallback == b"\"unknown\"" || (fallback == b"null" && word.is_some() && rule.otherwise.is_none());
        if matches!(rule.kind, Kind::Enum(_)) && unknown {
            self.unknown(rule, word);
        }
        self.out.extend_from_slice(fallback);
        if fallback == b"null" || fallback == b"[]" { Wrote::Nothing } else { Wrote::Fixed }
    }

    /// A list of texts.
    fn list(&mut self, rule: &Rule, sources: &[Source]) -> Wrote {
        let Kind::List(item) = rule.kind else { return self.otherwise(rule, None) };
        let texts = self.collect(rule, sources);
        if texts.is_empty() {
            return self.otherwise(rule, None);
        }
        self.out.push(b'[');
        let mut wrote = Wrote::Nothing;
        for raw in texts {
            let pieces: Vec<Cow<'_, str>> = match (&rule.steps.split, text_of(raw)) {
                (Some(at), Some(text)) => text.split(at.as_str()).map(|piece| piece.trim().to_owned().into()).collect(),
                _ => vec![Cow::Borrowed(raw)],
            };
            for piece in pieces.iter().filter(|piece| !piece.is_empty()) {
                let start = self.out.len();
                if wrote == Wrote::Value {
                    self.out.push(b',');
                }
                let got = match rule.steps.split {
                    Some(_) if rule.steps.null_if.iter().any(|word| *word == **piece) => Wrote::Nothing,
                    Some(_) => self.text(rule, *item, Cow::Borrowed(piece)),
                    None => self.value(rule, *item, piece),
                };
                if got == Wrote::Value {
                    wrote = Wrote::Value;
                } else {
                    self.out.truncate(start);
                }
            }
        }
        self.out.push(b']');
        wrote
    }

    /// The plain values of the first source that has any; a list at the path gives its elements.
    fn collect(&mut self, rule: &Rule, sources: &[Source]) -> Vec<&'a str> {
        let (mut found, mut other) = (Vec::new(), false);
        for source in sources {
            self.values(source, &mut |raw| {
                let elements = match raw.starts_with('[') {
                    true => super::find::elements(raw, &[]).unwrap_or_default(),
                    false => vec![raw],
                };
                for element in elements.into_iter().filter(|element| *element != "null") {
                    other |= element.starts_with(['{', '[']);
                    if !element.starts_with(['{', '[']) && !nothing(rule, element) {
                        found.push(element);
                    }
                }
                false
            });
            if !found.is_empty() {
                break;
            }
        }
        if other {
            self.lost(rule);
        }
        found
    }

    fn joined_list(&mut self, rule: &Rule, sources: &[Source]) -> Wrote {
        let texts = self.collect(rule, sources);
        if texts.is_empty() {
            return self.otherwise(rule, None);
        }
        let texts: Vec<_> = texts.into_iter().filter_map(text_of).collect();
        self.text(rule, rule.kind, Cow::Owned(texts.join(rule.steps.join.as_deref().unwrap_or_default())))
    }

    /// Texts of several paths as one; nothing when one is missing.
    fn joined(&mut self, rule: &Rule, sources: &[Source], with: &str) -> Wrote {
        let mut joined = String::new();
        for (at, source) in sources.iter().enumerate() {
            let mut text = None;
            self.values(source, &mut |raw| {
                text = text_of(raw).filter(|_| !nothing(rule, raw));
                text.is_some()
            });
            let Some(text) = text else { return self.otherwise(rule, None) };
            if at > 0 {
                joined.push_str(with);
            }
            joined.push_str(&text);
        }
        self.text(rule, rule.kind, Cow::Owned(joined))
    }

    /// A record for each row.
    fn each(&mut self, rule: &Rule, hops: &[Hop], members: &[Member]) -> Wrote {
        if self.record.no_list(self.base, hops) {
            self.lost(rule);
        }
        let (record, outer) = (self.record, self.base);
        let mut wrote = Wrote::Nothing;
        self.out.push(b'[');
        record.each_row(outer, hops, &mut |row| {
            let start = self.out.len();
            if wrote == Wrote::Value {
                self.out.push(b',');
            }
            self.base = row;
            if self.object(members) == Wrote::Value {
                wrote = Wrote::Value;
            } else {
                self.out.truncate(start);
            }
            false
        });
        self.base = outer;
        self.out.push(b']');
        wrote
    }

    fn unknown(&mut self, rule: &Rule, word: Option<&str>) {
        let said = match word {
            Some(word) => {
                let short: String = word.chars().take(60).collect();
                format!("The vendor's value \"{short}\" is not known to this connector.")
            }
            None => "The vendor gave no value that this connector can read.".to_owned(),
        };
        self.warn("unknown_value", rule, said);
    }

    fn lost(&mut self, rule: &Rule) {
        let wanted = match rule.kind {
            Kind::Text => "a text",
            Kind::Bool => "a boolean",
            Kind::Number => "a number",
            Kind::Time => "a date-time",
            Kind::Enum(_) => "a word",
            Kind::Object(_) => "a record",
            Kind::List(_) => "a list",
        };
        self.warn("lost_conversion", rule, format!("The vendor's value could not be read as {wanted} and was left out."));
    }

    fn warn(&mut self, code: &str, rule: &Rule, message: String) {
        let warning = Warning { code: code.to_owned(), message, field: Some(rule.target.clone()) };
        if !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }
}

/// The words of a boolean, whatever their case.
fn bool_word(text: &str) -> Option<Cow<'static, str>> {
    ["true", "false"].into_iter().find(|word| text.eq_ignore_ascii_case(word)).map(Cow::Borrowed)
}

/// A text that is a number of JSON; its digits stay as they are.
fn number(text: &str) -> Option<Cow<'static, str>> {
    let text = text.trim();
    serde_json::from_str::<serde_json::Number>(text).ok().map(|_| Cow::Owned(text.to_owned()))
}

/// Whether `null_if` takes the value for nothing.
fn nothing(rule: &Rule, raw: &str) -> bool {
    !rule.steps.null_if.is_empty() && text_of(raw).is_some_and(|text| rule.steps.null_if.iter().any(|word| *word == *text))
}
