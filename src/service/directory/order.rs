//! `sort_by`: the order of a whole list. Where the vendor gives pages in an order of its own, only reading all of them tells
//! which record is first: the list is read whole, within bounds, and given out from a snapshot.

use std::cmp::Ordering;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{
    connector::ResourceDef,
    error::{Code, Error, Result},
    model::{Kind, Warning},
    service::members::{Members, Seen},
};

/// The parameter, for problems and reports.
pub const SORT_BY: &str = "sort_by";
/// A list that is longer is not sorted.
pub const MAX_RECORDS: usize = 10_000;
/// Neither is one whose records, mapped and as the vendor sent them, are larger together.
pub const MAX_BYTES: usize = 32 * 1024 * 1024;
/// Nor one that takes longer to read.
pub const MAX_SECONDS: u64 = 60;

/// What a list is sorted by. Records that lack the field come last, either way round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// A field of the unified record.
    pub field: String,
    /// From the greatest to the least.
    pub descending: bool,
}

/// A record that waits for its place: what the snapshot of a sorted list is made of.
#[derive(Debug, Serialize, Deserialize)]
pub struct Placed<'a> {
    /// The unified record, without `remote_data`.
    #[serde(borrow)]
    pub unified: &'a RawValue,
    /// The vendor's record.
    #[serde(borrow)]
    pub record: &'a RawValue,
    /// What mapping it had to say.
    pub warnings: Vec<Warning>,
}

/// What decides a record's place.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// False before true.
    Flag(bool),
    /// The smaller first; see [`place_of`].
    Number(u64),
    /// The earlier first.
    Time(Timestamp),
    /// Without regard to case, then with it.
    Text(String, String),
}

impl Order {
    /// Refuses a field that records of this connector do not have.
    pub fn check(&self, def: &ResourceDef) -> Result<()> {
        let names: Vec<_> = def.filled().map(|field| field.name).collect();
        if names.contains(&self.field.as_str()) {
            return Ok(());
        }
        let field: String = self.field.chars().take(64).collect();
        let detail = format!("`{SORT_BY}` takes a field that these {} have, not `{field}`: ", def.resource.plural());
        Err(Error::new(Code::InvalidParameter, format!("{detail}{}.", names.join(", "))).field(SORT_BY))
    }

    /// The key of a mapped record.
    pub fn key(&self, def: &ResourceDef, record: &Members<'_>) -> Option<Key> {
        let kind = def.resource.shape().field(&self.field)?.kind;
        key(kind, record.get(&self.field)?)
    }

    /// Which of two records comes first; neither, when they are equal in this.
    pub fn compare(&self, a: Option<&Key>, b: Option<&Key>) -> Ordering {
        match (a, b) {
            (Some(a), Some(b)) if self.descending => b.cmp(a),
            (Some(a), Some(b)) => a.cmp(b),
            (a, b) => a.is_none().cmp(&b.is_none()),
        }
    }
}

/// Of a list, its main element counts, else its first; of an object, its address, name or id.
fn key(kind: Kind, value: &RawValue) -> Option<Key> {
    match (kind, Seen::of(value)) {
        (Kind::List(inner), Seen::List(items)) => {
            let main = items.iter().find(|item| matches!(part(Seen::of(item), "is_primary"), Some(Seen::Flag(true))));
            key(*inner, main.or(items.first())?)
        }
        (Kind::Object(_), Seen::Object(object)) => ["email", "name", "number", "id"].iter().find_map(|name| {
            let Seen::Text(word) = Seen::of(object.get(name)?) else { return None };
            Some(text(&word))
        }),
        (Kind::Time, Seen::Text(time)) => time.parse().ok().map(Key::Time),
        (Kind::Number, Seen::Number(number)) => Some(Key::Number(place_of(number))),
        (Kind::Bool, Seen::Flag(flag)) => Some(Key::Flag(flag)),
        (_, Seen::Text(word)) => Some(text(&word)),
        _ => None,
    }
}

fn part<'a>(value: Seen<'a>, name: &str) -> Option<Seen<'a>> {
    let Seen::Object(members) = value else { return None };
    members.get(name).map(Seen::of)
}

/// The bits of a number, so that the greater number has the greater bits.
fn place_of(number: f64) -> u64 {
    let bits = number.to_bits();
    if bits >> 63 == 1 { !bits } else { bits | 1 << 63 }
}

fn text(word: &str) -> Key {
    Key::Text(word.to_lowercase(), word.to_owned())
}

/// The error for a list that cannot be sorted here.
pub fn too_long(why: &str) -> Error {
    let detail = format!(
        "The vendor does not sort this list, and it is too long for the gateway to ({why}). Filter it, or leave `{SORT_BY}` out."
    );
    Error::new(Code::InvalidParameter, detail).field(SORT_BY)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::model::{Resource, User};

    fn place(kind_of: &str, value: Value) -> Option<Key> {
        key(User::SHAPE.field(kind_of).unwrap().kind, &serde_json::value::to_raw_value(&value).unwrap())
    }

    #[test]
    fn every_kind_of_field_has_its_order() {
        assert!(place("name", json!("ada")) < place("name", json!("Bob")), "case does not decide");
        assert!(place("name", json!("Ada")) < place("name", json!("ada")), "unless nothing else does");
        let (whole, half) = (json!("2026-01-02T03:04:05Z"), json!("2026-01-02T03:04:05.5Z"));
        assert!(place("created_at", whole) < place("created_at", half), "times are not compared as texts");
        assert!(place("is_2fa_enabled", json!(false)) < place("is_2fa_enabled", json!(true)));
        let emails = json!([{"email": "a@x.example"}, {"email": "z@x.example", "is_primary": true}]);
        assert_eq!(place("emails", emails), Some(text("z@x.example")), "the main address counts");
        assert_eq!(place("groups", json!([{"id": "1", "name": "Staff"}])), Some(text("Staff")));
        assert_eq!(place("languages", json!(["de", "en"])), Some(text("de")));
        assert_eq!(place("groups", json!([])), None);
        assert_eq!(place("name", Value::Null), None);
        assert!(Resource::User.shape().fields.iter().all(|field| place(field.name, json!({})).is_none()));
    }

    #[test]
    fn numbers_are_ordered_by_their_size() {
        let numbers = [-10.5, -2.0, 0.0, 0.5, 2.0, 10.0, 1e9];
        assert!(numbers.windows(2).all(|pair| place_of(pair[0]) < place_of(pair[1])));
    }

    #[test]
    fn what_lacks_the_field_comes_last_either_way_round() {
        for descending in [false, true] {
            let order = Order { field: "name".into(), descending };
            let (a, b) = (text("a"), text("b"));
            assert_eq!(order.compare(None, Some(&a)), Ordering::Greater);
            assert_eq!(order.compare(Some(&a), None), Ordering::Less);
            assert_eq!(order.compare(None, None), Ordering::Equal);
            assert_eq!(order.compare(Some(&a), Some(&b)).is_lt(), !descending);
        }
    }
}
