//! Follows one path through a document: for error rules, paging and the list of records. The table has its own walk.

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{MapError, path::Step, text::text_of};

/// The values at a path, as they stand in the document.
#[derive(Default)]
struct Found<'a> {
    values: Vec<&'a str>,
    /// Stop at the first value that has a text.
    first_text: bool,
    /// Whether the last step met a list.
    list: bool,
}

/// The first value at the path that has a text; what follows it is not read.
pub(super) fn first<'a>(json: &'a str, steps: &[Step]) -> Option<&'a str> {
    let mut found = Found { first_text: true, ..Found::default() };
    // A stop at the hit is an error to the reader, so only what was found counts.
    let _ = follow(json, steps, &mut found);
    found.values.pop().filter(|raw| text_of(raw).is_some())
}

/// Every value at the path.
pub(super) fn all<'a>(json: &'a str, steps: &[Step]) -> Option<Vec<&'a str>> {
    let mut found = Found::default();
    follow(json, steps, &mut found).ok().map(|()| found.values)
}

/// Every element of the list at the path; of a path that does not end in `[*]`, the object itself when it is one.
pub(super) fn elements<'a>(json: &'a str, steps: &[Step]) -> Result<Vec<&'a str>, MapError> {
    let mut found = Found::default();
    let not_json = |e: serde_json::Error| MapError::NotJson(e.to_string());
    let no_list = || MapError::Shape("there is no list where the records should be".to_owned());
    if steps.is_empty() && json.trim_start().starts_with('[') {
        follow(json, &[Step::All], &mut found).map_err(not_json)?;
        return Ok(found.values);
    }
    follow(json, steps, &mut found).map_err(not_json)?;
    if matches!(steps.last(), Some(Step::All | Step::Where { .. })) {
        return if found.list { Ok(found.values) } else { Err(no_list()) };
    }
    match found.values.first() {
        Some(value) if value.starts_with('{') => Ok(vec![value]),
        Some(value) if value.starts_with('[') => elements(value, &[]),
        _ => Err(no_list()),
    }
}

fn follow<'a>(json: &'a str, steps: &[Step], found: &mut Found<'a>) -> Result<(), serde_json::Error> {
    let mut reader = serde_json::Deserializer::from_str(json);
    Follow { steps, found }.deserialize(&mut reader)?;
    reader.end()
}

struct Follow<'p, 'f, 'a> {
    steps: &'p [Step],
    found: &'f mut Found<'a>,
}

impl<'de> DeserializeSeed<'de> for Follow<'_, '_, 'de> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        if !self.steps.is_empty() {
            return reader.deserialize_any(self);
        }
        let raw = <&RawValue>::deserialize(reader)?.get();
        self.found.values.push(raw);
        if self.found.first_text && text_of(raw).is_some() { Err(D::Error::custom("found")) } else { Ok(()) }
    }
}

impl<'de> Visitor<'de> for Follow<'_, '_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let before = self.found.values.len();
        while let Some(wanted) = map.next_key_seed(IsKey(self.steps.first()))? {
            if wanted {
                // The last of equal names wins.
                self.found.values.truncate(before);
                map.next_value_seed(Follow { steps: &self.steps[1..], found: self.found })?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let Some((step, rest)) = self.steps.split_first() else { return Ok(()) };
        self.found.list |= rest.is_empty();
        let mut at = 0;
        loop {
            let read = match step {
                Step::All => list.next_element_seed(Follow { steps: rest, found: self.found })?.is_some(),
                Step::Index(n) if *n == at => list.next_element_seed(Follow { steps: rest, found: self.found })?.is_some(),
                Step::Where { key, is } => match list.next_element::<&RawValue>()? {
                    Some(element) => {
                        if has(element.get(), key, is) {
                            follow(element.get(), rest, self.found).map_err(A::Error::custom)?;
                        }
                        true
                    }
                    None => false,
                },
                Step::Key(_) | Step::Index(_) => list.next_element::<IgnoredAny>()?.is_some(),
            };
            if !read {
                return Ok(());
            }
            at += 1;
        }
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }
    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }
    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }
    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }
    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }
}

/// Whether the element's member `key` has the text `is`.
fn has(element: &str, key: &str, is: &str) -> bool {
    first(element, &[Step::Key(key.to_owned())]).and_then(text_of).is_some_and(|text| text == is)
}

/// Whether a member's name is the one the step asks for.
struct IsKey<'p>(Option<&'p Step>);

impl<'de> DeserializeSeed<'de> for IsKey<'_> {
    type Value = bool;
    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<bool, D::Error> {
        reader.deserialize_str(self)
    }
}

impl Visitor<'_> for IsKey<'_> {
    type Value = bool;
    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a name")
    }
    fn visit_str<E>(self, name: &str) -> Result<bool, E> {
        Ok(matches!(self.0, Some(Step::Key(key)) if key == name))
    }
}
