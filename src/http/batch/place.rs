//! Placeholders: `{{args.path}}` and `{{resources.<name>.path}}` within the texts of an entry.

use std::{borrow::Cow, cell::Cell};

use serde_json::Value;

/// Where a placeholder points to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Where the path begins.
    pub root: Root,
    /// The way from there.
    pub path: Vec<Step>,
}

/// Where a path begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Root {
    /// The request's own `args`.
    Args,
    /// What the entry at this place found.
    Entry(usize),
}

/// One step of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A member of an object.
    Member(String),
    /// An element of a list.
    Element(usize),
}

impl Place {
    /// Reads what stands between the braces; `names` are those of the entries. The error is a sentence.
    pub fn parse(text: &str, names: &[String]) -> Result<Self, String> {
        let text = text.trim();
        let starts = |rest: &str| rest.is_empty() || rest.starts_with(['.', '[']);
        if let Some(rest) = text.strip_prefix("args").filter(|rest| starts(rest)) {
            return Ok(Self { root: Root::Args, path: steps(rest, text)? });
        }
        let Some(rest) = text.strip_prefix("resources.") else {
            return Err(format!("`{{{{{}}}}}` begins with neither `args` nor `resources`", shorten(text)));
        };
        let named = names.iter().enumerate().filter_map(|(index, name)| {
            let after = rest.strip_prefix(name.as_str()).or_else(|| rest.strip_prefix(name.replace('/', ".").as_str()));
            after.filter(|after| starts(after)).map(|after| (index, after))
        });
        match named.min_by_key(|(_, after)| after.len()) {
            Some((index, after)) => Ok(Self { root: Root::Entry(index), path: steps(after, text)? }),
            None => Err(format!("`{{{{{}}}}}` names no entry of this batch", shorten(text))),
        }
    }

    /// Whether it means one record that it names itself.
    pub fn picks(&self) -> bool {
        matches!(self.path.first(), Some(Step::Element(_)))
    }
}

fn steps(mut rest: &str, text: &str) -> Result<Vec<Step>, String> {
    let odd = || format!("`{{{{{}}}}}` is not a path like `a.b[0].c`", shorten(text));
    let mut steps = Vec::new();
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix('[') {
            let (number, after) = after.split_once(']').ok_or_else(odd)?;
            steps.push(Step::Element(number.parse().map_err(|_| odd())?));
            rest = after;
        } else {
            let after = rest.strip_prefix('.').ok_or_else(odd)?;
            let end = after.find(['.', '[']).unwrap_or(after.len());
            let (member, after) = after.split_at(end);
            if member.is_empty() {
                return Err(odd());
            }
            steps.push(Step::Member(member.to_owned()));
            rest = after;
        }
    }
    Ok(steps)
}

/// What a path leads to.
pub fn follow<'v>(value: &'v Value, path: &[Step]) -> Option<&'v Value> {
    path.iter().try_fold(value, |value, step| match step {
        Step::Member(name) => value.get(name),
        Step::Element(index) => value.get(index),
    })
}

/// A text as its plain parts and its placeholders.
fn parts(text: &str) -> Result<Vec<(&str, Option<&str>)>, String> {
    let (mut parts, mut rest) = (Vec::new(), text);
    while let Some((plain, after)) = rest.split_once("{{") {
        let (inside, after) =
            after.split_once("}}").ok_or_else(|| format!("`{}` has braces that do not close", shorten(text)))?;
        parts.push((plain, Some(inside)));
        rest = after;
    }
    parts.push((rest, None));
    Ok(parts)
}

/// The segments of a path whose slashes within placeholders belong to those.
pub fn segments(text: &str) -> Vec<&str> {
    let (mut segments, mut begin, mut depth) = (Vec::new(), 0, 0_usize);
    for (at, _) in text.match_indices(['{', '}', '/']) {
        match &text[at..=at] {
            "{" => depth += 1,
            "}" => depth = depth.saturating_sub(1),
            _ if depth == 0 => {
                segments.push(&text[begin..at]);
                begin = at + 1;
            }
            _ => {}
        }
    }
    segments.push(&text[begin..]);
    segments
}

/// Every placeholder within a value.
pub fn all_in(value: &Value, names: &[String], found: &mut Vec<Place>) -> Result<(), String> {
    match value {
        Value::String(text) => {
            for inside in parts(text)?.into_iter().filter_map(|(_, inside)| inside) {
                found.push(Place::parse(inside, names)?);
            }
            Ok(())
        }
        Value::Array(items) => items.iter().try_for_each(|item| all_in(item, names, found)),
        Value::Object(members) => members.values().try_for_each(|member| all_in(member, names, found)),
        _ => Ok(()),
    }
}

/// What placeholders mean, and how much may still be put in their places.
pub struct Filling<'l> {
    look: &'l dyn Fn(&str) -> Result<Value, String>,
    room: Cell<usize>,
}

impl<'l> Filling<'l> {
    /// With room for so many bytes.
    pub fn new(look: &'l dyn Fn(&str) -> Result<Value, String>, room: usize) -> Self {
        Self { look, room: Cell::new(room) }
    }

    /// The value with every placeholder replaced. A text that is nothing but a placeholder becomes what that means, whatever it is.
    pub fn fill(&self, value: &Value) -> Result<Value, String> {
        Ok(match value {
            Value::String(text) => match parts(text)?.as_slice() {
                [(plain, None)] => Value::String((*plain).to_owned()),
                [("", Some(inside)), ("", None)] => self.found(inside)?,
                parts => {
                    let mut filled = String::new();
                    for (plain, inside) in parts {
                        filled.push_str(plain);
                        if let Some(inside) = inside {
                            filled.push_str(&text_of(&self.found(inside)?)?);
                        }
                    }
                    Value::String(filled)
                }
            },
            Value::Array(items) => Value::Array(items.iter().map(|item| self.fill(item)).collect::<Result<_, _>>()?),
            Value::Object(members) => {
                let filled = members.iter().map(|(name, member)| Ok((name.clone(), self.fill(member)?)));
                Value::Object(filled.collect::<Result<_, String>>()?)
            }
            other => other.clone(),
        })
    }

    fn found(&self, inside: &str) -> Result<Value, String> {
        let found = (self.look)(inside)?;
        let left = self.room.get().checked_sub(weight(&found));
        self.room.set(left.ok_or_else(|| "the values in the places of placeholders are too large together".to_owned())?);
        Ok(found)
    }
}

/// About how many bytes a value takes.
fn weight(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len() + 2,
        Value::Array(items) => items.iter().map(weight).sum::<usize>() + 2,
        Value::Object(members) => members.iter().map(|(name, member)| name.len() + 4 + weight(member)).sum::<usize>() + 2,
        _ => 8,
    }
}

/// A value within a text or an address.
pub fn text_of(value: &Value) -> Result<Cow<'_, str>, String> {
    match value {
        Value::String(text) => Ok(Cow::Borrowed(text)),
        Value::Number(number) => Ok(Cow::Owned(number.to_string())),
        Value::Bool(flag) => Ok(Cow::Owned(flag.to_string())),
        Value::Null => Err("null cannot stand within a text".to_owned()),
        Value::Array(_) | Value::Object(_) => Err("a list or an object cannot stand within a text".to_owned()),
    }
}

fn shorten(text: &str) -> String {
    text.chars().take(64).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn names() -> Vec<String> {
        ["users", "user-directory/users", "user-directory/users.more"].map(str::to_owned).into()
    }

    #[test]
    fn a_place_is_the_longest_name_and_a_path() {
        let place = |text: &str| Place::parse(text, &names());
        let member = |name: &str| Step::Member(name.to_owned());
        let of = |root, path: &[Step]| Ok(Place { root, path: path.to_vec() });
        assert_eq!(place(" args.a[1] "), of(Root::Args, &[member("a"), Step::Element(1)]));
        assert_eq!(place("resources.users.id"), of(Root::Entry(0), &[member("id")]));
        assert_eq!(place("resources.user-directory.users[0].emails[1].email").unwrap().root, Root::Entry(1));
        assert_eq!(place("resources.user-directory/users.more.id"), of(Root::Entry(2), &[member("id")]));
        assert_eq!(place("resources.users"), of(Root::Entry(0), &[]));
        for odd in ["", "users.id", "resources.nobody.id", "resources.usersx", "args..a", "args[x]", "args[1", "args.a.", "argsx"]
        {
            assert!(place(odd).is_err(), "{odd}");
        }
    }

    #[test]
    fn slashes_within_placeholders_do_not_split() {
        assert_eq!(segments("users"), ["users"]);
        assert_eq!(segments("a/{{resources.a/b.id}}/c"), ["a", "{{resources.a/b.id}}", "c"]);
        assert_eq!(segments("a//b"), ["a", "", "b"]);
    }

    #[test]
    fn placeholders_become_what_they_mean() {
        let look = |inside: &str| match inside.trim() {
            "n" => Ok(json!(7)),
            "o" => Ok(json!({"a": 1})),
            other => Err(other.to_owned()),
        };
        let filled = Filling::new(&look, 100).fill(&json!({"a": "{{n}}", "b": ["x-{{ n }}-y", "{{o}}", 3, null]})).unwrap();
        assert_eq!(filled, json!({"a": 7, "b": ["x-7-y", {"a": 1}, 3, null]}));
        assert!(Filling::new(&look, 100).fill(&json!("x{{o}}")).is_err());
        assert!(Filling::new(&look, 100).fill(&json!("{{missing}}")).is_err());
        let many = json!(vec!["{{n}}-"; 13]);
        assert!(Filling::new(&look, 104).fill(&many).is_ok());
        assert!(Filling::new(&look, 103).fill(&many).unwrap_err().contains("too large"));
        assert!(Filling::new(&look, 100).fill(&json!("{{n")).is_err());
        assert_eq!(Filling::new(&look, 100).fill(&json!("}} plain {")).unwrap(), json!("}} plain {"));
    }
}
