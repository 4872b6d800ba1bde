//! JSON objects whose values stay the text they are: what is asked of a record is looked at, the rest is never read.

use std::borrow::Cow;

use serde::{
    Deserialize, Serialize, Serializer,
    de::{Deserializer, MapAccess, Visitor},
};
use serde_json::value::RawValue;

/// The members of an object, in their order.
pub struct Members<'a>(pub Vec<(Cow<'a, str>, &'a RawValue)>);

/// One value, and of lists and objects what stands directly in them.
pub enum Seen<'a> {
    /// `null`.
    Null,
    /// `true` or `false`.
    Flag(bool),
    /// As near as a float comes.
    Number(f64),
    /// A text.
    Text(Cow<'a, str>),
    /// The elements of a list.
    List(Vec<&'a RawValue>),
    /// The members of an object.
    Object(Members<'a>),
}

/// A text that is borrowed where it has no escapes.
#[derive(Deserialize)]
struct Borrowed<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'a> Members<'a> {
    /// The same object without these members.
    pub fn without(&self, names: &[impl AsRef<str>]) -> Members<'a> {
        let kept = self.0.iter().filter(|(known, _)| !names.iter().any(|name| name.as_ref() == known));
        Members(kept.cloned().collect())
    }

    /// The value of this name; of several the last, as JSON readers take it.
    pub fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.0.iter().rev().find(|(known, _)| known == name).map(|(_, value)| *value)
    }
}

impl<'a> Seen<'a> {
    /// Looks at a value.
    pub fn of(value: &'a RawValue) -> Seen<'a> {
        let text = value.get();
        let seen = match text.as_bytes().first() {
            Some(b'{') => serde_json::from_str(text).map(Seen::Object),
            Some(b'[') => serde_json::from_str(text).map(Seen::List),
            Some(b'"') => serde_json::from_str(text).map(|Borrowed(text)| Seen::Text(text)),
            Some(b't' | b'f') => serde_json::from_str(text).map(Seen::Flag),
            Some(b'n') | None => Ok(Seen::Null),
            Some(_) => serde_json::from_str(text).map(Seen::Number),
        };
        // What a raw value holds was read once; only a number may be out of a float's range.
        seen.unwrap_or(Seen::Null)
    }
}

impl Serialize for Members<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reads;
        impl<'de> Visitor<'de> for Reads {
            type Value = Members<'de>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a JSON object")
            }
            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Members<'de>, M::Error> {
                let mut members = Vec::new();
                while let Some((Borrowed(name), value)) = map.next_entry()? {
                    members.push((name, value));
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Reads)
    }
}
