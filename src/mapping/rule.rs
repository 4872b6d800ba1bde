//! The closed vocabulary of a rule, as it is written in a connector file.

use std::{collections::BTreeMap, marker::PhantomData};

use schemars::JsonSchema;
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{
        self, IntoDeserializer as _,
        value::{MapAccessDeserializer, SeqAccessDeserializer},
    },
};

/// A value or a list of them.
#[derive(Clone, Debug, JsonSchema)]
#[schemars(untagged)]
pub enum OneOrMany<T> {
    /// One.
    One(T),
    /// Several, in order of preference.
    Many(Vec<T>),
}

/// By hand, so that `is: true` and `is: 1` are texts where texts are wanted.
impl<'de, T: Deserialize<'de>> Deserialize<'de> for OneOrMany<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Form<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> de::Visitor<'de> for Form<T> {
            type Value = OneOrMany<T>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a value or a list of values; a number with a fraction in quotes")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<OneOrMany<T>, E> {
                T::deserialize(text.into_deserializer()).map(OneOrMany::One)
            }
            fn visit_bool<E: de::Error>(self, word: bool) -> Result<OneOrMany<T>, E> {
                self.visit_str(if word { "true" } else { "false" })
            }
            fn visit_u64<E: de::Error>(self, number: u64) -> Result<OneOrMany<T>, E> {
                let read: Result<T, E> = T::deserialize(number.into_deserializer());
                read.map(OneOrMany::One).or_else(|_| self.visit_str(&number.to_string()))
            }
            fn visit_i64<E: de::Error>(self, number: i64) -> Result<OneOrMany<T>, E> {
                let read: Result<T, E> = T::deserialize(number.into_deserializer());
                read.map(OneOrMany::One).or_else(|_| self.visit_str(&number.to_string()))
            }
            fn visit_seq<A: de::SeqAccess<'de>>(self, list: A) -> Result<OneOrMany<T>, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(list)).map(OneOrMany::Many)
            }
        }
        deserializer.deserialize_any(Form(PhantomData))
    }
}

impl<T: Serialize> Serialize for OneOrMany<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.as_slice().serialize(serializer)
    }
}

impl<T> OneOrMany<T> {
    /// All of them, in order.
    pub fn as_slice(&self) -> &[T] {
        match self {
            OneOrMany::One(one) => std::slice::from_ref(one),
            OneOrMany::Many(many) => many,
        }
    }
}

/// What a target gets: a path, a list of paths (the first that is present), or the full form.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum RuleFile {
    /// One path.
    Path(String),
    /// The first that is present and not null.
    First(Vec<String>),
    /// The full form.
    Full(Box<SourceFile>),
}

/// By hand, not `untagged`: a mistake inside the full form then keeps its own message and place, and `true:` stays a word.
impl<'de> Deserialize<'de> for RuleFile {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Form;
        impl<'de> de::Visitor<'de> for Form {
            type Value = RuleFile;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a path, a list of paths, or a rule such as `{ from: path }`")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<RuleFile, E> {
                Ok(RuleFile::Path(text.to_owned()))
            }
            fn visit_seq<A: de::SeqAccess<'de>>(self, list: A) -> Result<RuleFile, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(list)).map(RuleFile::First)
            }
            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<RuleFile, A::Error> {
                SourceFile::deserialize(MapAccessDeserializer::new(map)).map(|full| RuleFile::Full(Box::new(full)))
            }
        }
        deserializer.deserialize_any(Form)
    }
}

/// Tells a written `null` from a missing key.
fn written<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<serde_json::Value>, D::Error> {
    serde_json::Value::deserialize(deserializer).map(Some)
}

/// The full form of a rule. Exactly one of `from`, `const`, `each`, `join_paths`, `present` is given.
/// Order: `when`, the value, `null_if`, `fn`, `values`, `as`, the target's own kind; `else` takes whatever is left over.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SourceFile {
    /// Where the value comes from: a path or several, the first that is present and not null.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<OneOrMany<String>>,
    /// Read the text as: `epoch_s`, `epoch_ms`, `datetime`, `date`, `integer`, `text`.
    #[serde(rename = "as", skip_serializing_if = "Option::is_none")]
    pub read_as: Option<String>,
    /// For `as: datetime`: a `strptime` pattern; RFC 3339 when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
    /// Word → word; compared exactly.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub values: Option<BTreeMap<String, serde_json::Value>>,
    /// For `values`: a word outside them stays as the vendor wrote it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub keep_others: bool,
    /// What everything else becomes: a word outside `values`, and a value that is missing, null or of another type.
    /// With a warning when it is the enum word `unknown`.
    #[serde(rename = "else", default, deserialize_with = "written", skip_serializing_if = "Option::is_none")]
    pub otherwise: Option<serde_json::Value>,
    /// Texts that mean "nothing".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub null_if: Option<OneOrMany<String>>,
    /// Cut a text into a list at this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub split: Option<String>,
    /// Put a list of texts together with this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub join: Option<String>,
    /// Put the texts at these paths together with `join`; nothing when one is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub join_paths: Option<Vec<String>>,
    /// One record per element of the list at this path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub each: Option<String>,
    /// For `each`: target → rule, relative to the element (`.` is the element).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub map: Option<BTreeMap<String, RuleFile>>,
    /// The rule holds only when the text at `path` is this; otherwise the target is left out, an enum takes its `else`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub when: Option<WhenFile>,
    /// True when the path is present and not null, else false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub present: Option<String>,
    /// A fixed value.
    #[serde(rename = "const", default, deserialize_with = "written", skip_serializing_if = "Option::is_none")]
    pub constant: Option<serde_json::Value>,
    /// A named function of the mapping room, for what the vocabulary cannot say.
    #[serde(rename = "fn", skip_serializing_if = "Option::is_none")]
    pub function: Option<String>,
}

/// A condition on the record.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WhenFile {
    /// The path.
    pub path: String,
    /// Its text is one of these.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub is: Option<OneOrMany<String>>,
    /// Its text is none of these.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub is_not: Option<OneOrMany<String>>,
}

/// Lays an override over a map, target by target. A rule for `emails` also replaces `emails[0].email` and the other way
/// round, so that the two never stand side by side.
pub fn merge(base: &BTreeMap<String, RuleFile>, over: &BTreeMap<String, RuleFile>) -> BTreeMap<String, RuleFile> {
    let mut merged: BTreeMap<_, _> = base
        .iter()
        .filter(|(target, _)| !over.keys().any(|o| o != *target && (holds(o, target) || holds(target, o))))
        .map(|(target, rule)| (target.clone(), rule.clone()))
        .collect();
    merged.extend(over.iter().map(|(target, rule)| (target.clone(), rule.clone())));
    merged
}

/// Whether target `inner` lies within target `outer`.
pub(super) fn holds(outer: &str, inner: &str) -> bool {
    inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with(['.', '[']))
}
