//! Where the table's paths meet the record: a trie of names, walked once while the bytes are read, that leaves the values
//! of interest as slices of the vendor's own bytes in numbered cells.

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{path::Step, text::text_of};

/// List elements times the values kept of each that one record may have.
const MOST_CELLS: usize = 1 << 20;
const NONE: u32 = u32::MAX;

/// What was found for one slot.
#[derive(Clone, Copy, Debug)]
pub(super) enum Cell {
    /// Nothing.
    Absent,
    /// A value: where in the document it begins and ends.
    Raw(u32, u32),
    /// The first row of a list.
    Rows(u32),
    /// Something that should have been a list.
    NoList,
    /// The head of a row: where the next one is.
    Next(u32),
}

/// Cells and the document they were read from.
#[derive(Clone, Copy)]
pub(super) struct Sheet<'c, 'a> {
    pub cells: &'c [Cell],
    pub text: &'a str,
}

/// The slots of a record, or of one element of a list.
#[derive(Debug, Default)]
pub(super) struct Scope {
    root: Node,
    width: u32,
}

#[derive(Debug, Default)]
struct Node {
    keep: Option<u32>,
    keys: Vec<(Box<str>, Node)>,
    list: Option<Box<List>>,
    /// Every slot below, so that the last of equal names wins whole.
    below: Vec<u32>,
}

#[derive(Debug)]
struct List {
    slot: u32,
    row: Scope,
}

/// From a list to some of its elements.
#[derive(Debug, Clone)]
pub(super) struct Hop {
    list: u32,
    select: Select,
}

#[derive(Debug, Clone)]
enum Select {
    All,
    Index(usize),
    Where { slot: u32, is: String },
}

impl Scope {
    /// Follows the steps to the last list on the way: the hops, the scope of its elements, the names behind it.
    pub(super) fn rows<'s, 'p>(&'s mut self, steps: &'p [Step]) -> (Vec<Hop>, &'s mut Scope, &'p [Step]) {
        let Some(at) = steps.iter().position(|step| !matches!(step, Step::Key(_))) else {
            return (Vec::new(), self, steps);
        };
        let Scope { root, width } = self;
        let node = root.at(&steps[..at]);
        let list = node.list.get_or_insert_with(|| Box::new(List { slot: next(width), row: Scope::default() }));
        let select = match &steps[at] {
            Step::Index(n) => Select::Index(*n),
            Step::Where { key, is } => {
                let slot = list.row.keep(&[Step::Key(key.clone())]);
                Select::Where { slot, is: is.clone() }
            }
            Step::All | Step::Key(_) => Select::All,
        };
        let hop = Hop { list: list.slot, select };
        let (mut hops, scope, rest) = list.row.rows(&steps[at + 1..]);
        hops.insert(0, hop);
        (hops, scope, rest)
    }

    /// The slot of the value at these names.
    pub(super) fn keep(&mut self, names: &[Step]) -> u32 {
        let Scope { root, width } = self;
        *root.at(names).keep.get_or_insert_with(|| next(width))
    }

    /// To be called once all slots are given.
    pub(super) fn seal(&mut self) {
        self.root.seal();
    }

    /// Whether nothing is read.
    pub(super) fn is_empty(&self) -> bool {
        self.width == 0
    }

    /// Whether the value itself is read, whatever it is.
    pub(super) fn keeps_whole(&self) -> bool {
        self.root.keep.is_some()
    }

    /// Cells for one record or row, empty, at the end of `cells`.
    pub(super) fn open(&self, cells: &mut Vec<Cell>) -> usize {
        let base = cells.len();
        cells.resize(base + self.width as usize, Cell::Absent);
        base
    }

    /// Reads a document into the cells that `open` made.
    pub(super) fn read(&self, json: &str, base: usize, cells: &mut Vec<Cell>) -> Result<(), serde_json::Error> {
        let mut reader = serde_json::Deserializer::from_str(json);
        self.walk(json, base, cells).deserialize(&mut reader)?;
        reader.end()
    }

    /// Reads one value of a document into the cells that `open` made.
    pub(super) fn walk<'c>(&'c self, document: &str, base: usize, cells: &'c mut Vec<Cell>) -> Walk<'c, 'c> {
        Walk { node: &self.root, base, start: document.as_ptr() as usize, cells }
    }
}

fn next(width: &mut u32) -> u32 {
    *width += 1;
    *width - 1
}

impl Node {
    fn at(&mut self, names: &[Step]) -> &mut Node {
        let Some((Step::Key(name), rest)) = names.split_first() else { return self };
        let at = self.keys.iter().position(|(key, _)| **key == **name).unwrap_or_else(|| {
            self.keys.push((name.as_str().into(), Node::default()));
            self.keys.len() - 1
        });
        self.keys[at].1.at(rest)
    }

    fn seal(&mut self) {
        self.below = self.keep.into_iter().chain(self.list.as_ref().map(|list| list.slot)).collect();
        for (_, node) in &mut self.keys {
            node.seal();
            self.below.extend(&node.below);
        }
        if let Some(list) = &mut self.list {
            list.row.seal();
        }
    }

    fn is_leaf(&self) -> bool {
        self.keys.is_empty() && self.list.is_none()
    }
}

/// A walk along the trie.
pub(super) struct Walk<'t, 'c> {
    node: &'t Node,
    base: usize,
    /// Where the document begins in memory: values are told by their distance from it.
    start: usize,
    cells: &'c mut Vec<Cell>,
}

impl<'de> DeserializeSeed<'de> for Walk<'_, '_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(mut self, reader: D) -> Result<(), D::Error> {
        if self.node.is_leaf()
            && let Some(slot) = self.node.keep
        {
            let raw = <&RawValue>::deserialize(reader)?.get();
            return self.keep(slot, raw);
        }
        for slot in &self.node.below {
            self.cells[self.base + *slot as usize] = Cell::Absent;
        }
        let Some(slot) = self.node.keep else { return reader.deserialize_any(self) };
        // Both the whole and parts of it are read: this value is read twice.
        let raw = <&RawValue>::deserialize(reader)?.get();
        self.keep(slot, raw)?;
        serde_json::Deserializer::from_str(raw).deserialize_any(self).map_err(D::Error::custom)
    }
}

impl Walk<'_, '_> {
    fn keep<E: serde::de::Error>(&mut self, slot: u32, raw: &str) -> Result<(), E> {
        let from = raw.as_ptr() as usize - self.start;
        let place = |at: usize| u32::try_from(at).map_err(E::custom);
        self.cells[self.base + slot as usize] = Cell::Raw(place(from)?, place(from + raw.len())?);
        Ok(())
    }

    /// A value where an object or list was expected.
    fn other<E>(self) -> Result<(), E> {
        if let Some(list) = &self.node.list {
            self.cells[self.base + list.slot as usize] = Cell::NoList;
        }
        Ok(())
    }
}

impl<'de> Visitor<'de> for Walk<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Walk { node, base, start, cells } = self;
        let mut after = 0;
        while let Some(found) = map.next_key_seed(Name { node, after })? {
            match found.and_then(|at| node.keys.get(at)) {
                Some((_, node)) => map.next_value_seed(Walk { node, base, start, cells: &mut *cells })?,
                None => drop(map.next_value::<IgnoredAny>()?),
            }
            after = found.map_or(after, |at| at + 1);
        }
        Walk { node, base, start, cells }.other()
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let Some(list) = &self.node.list else {
            while seq.next_element::<IgnoredAny>()?.is_some() {}
            return Ok(());
        };
        let slot = self.base + list.slot as usize;
        self.cells[slot] = Cell::Rows(NONE);
        let mut last = slot;
        loop {
            let row = self.cells.len();
            if row > MOST_CELLS {
                return Err(A::Error::custom("a record has too many list elements"));
            }
            self.cells.push(Cell::Next(NONE));
            let base = list.row.open(self.cells);
            let (start, cells) = (self.start, &mut *self.cells);
            if seq.next_element_seed(Walk { node: &list.row.root, base, start, cells })?.is_none() {
                self.cells.truncate(row);
                return Ok(());
            }
            let link = u32::try_from(row).map_err(A::Error::custom)?;
            self.cells[last] = if last == slot { Cell::Rows(link) } else { Cell::Next(link) };
            last = row;
        }
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        self.other()
    }
    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        self.other()
    }
    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        self.other()
    }
    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        self.other()
    }
    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        self.other()
    }
}

/// Which member of the node a name is; members mostly come in the same order, so the search starts behind the last.
struct Name<'t> {
    node: &'t Node,
    after: usize,
}

impl<'de> DeserializeSeed<'de> for Name<'_> {
    type Value = Option<usize>;
    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Option<usize>, D::Error> {
        reader.deserialize_str(self)
    }
}

impl Visitor<'_> for Name<'_> {
    type Value = Option<usize>;
    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a name")
    }
    fn visit_str<E>(self, name: &str) -> Result<Option<usize>, E> {
        let (before, behind) = self.node.keys.split_at(self.after.min(self.node.keys.len()));
        let is = |(key, _): &(Box<str>, Node)| **key == *name;
        Ok(behind.iter().position(is).map(|at| before.len() + at).or_else(|| before.iter().position(is)))
    }
}

impl<'a> Sheet<'_, 'a> {
    /// The value in a cell, unless it is null.
    pub(super) fn value(&self, at: usize) -> Option<&'a str> {
        match self.cells[at] {
            Cell::Raw(from, to) => Some(&self.text[from as usize..to as usize]).filter(|raw| *raw != "null"),
            _ => None,
        }
    }

    /// Calls `hit` with the base of each row the hops lead to, until it says stop.
    pub(super) fn each_row(&self, base: usize, hops: &[Hop], hit: &mut dyn FnMut(usize) -> bool) -> bool {
        let Some((hop, rest)) = hops.split_first() else { return hit(base) };
        let mut row = match self.cells[base + hop.list as usize] {
            Cell::Rows(first) => first,
            _ => NONE,
        };
        let mut at = 0;
        while row != NONE {
            let inner = row as usize + 1;
            let wanted = match &hop.select {
                Select::All => true,
                Select::Index(n) => *n == at,
                Select::Where { slot, is } => self.text_at(inner + *slot as usize).is_some_and(|text| text == *is),
            };
            if wanted && self.each_row(inner, rest, hit) {
                return true;
            }
            row = if let Cell::Next(next) = self.cells[row as usize] { next } else { NONE };
            at += 1;
        }
        false
    }

    /// Whether something else stands where the first hop expects its list.
    pub(super) fn no_list(&self, base: usize, hops: &[Hop]) -> bool {
        hops.first().is_some_and(|hop| matches!(self.cells[base + hop.list as usize], Cell::NoList))
    }

    fn text_at(&self, at: usize) -> Option<std::borrow::Cow<'a, str>> {
        self.value(at).and_then(text_of)
    }
}
