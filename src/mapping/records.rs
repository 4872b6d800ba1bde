//! The records of a page, found and read in one pass. What is not as expected is left to [`Path::elements`], which knows
//! every shape and says what is wrong.

use std::{borrow::Cow, marker::PhantomData, ops::Range};

use serde::de::{DeserializeSeed, IgnoredAny};

use super::{
    MapError, Path, Table,
    path::Step,
    text::depth_within,
    trie::{Cell, Scope},
};

/// Values kept of one page, twelve bytes each; the records behind them are read when they are mapped.
const MOST_CELLS: usize = 1 << 17;

/// The records of a page, and what a table wants of them.
#[derive(Debug, Default)]
pub struct Records {
    /// Where each record is.
    pub ranges: Vec<Range<usize>>,
    /// The values of the first of them, one record after another.
    pub(super) cells: Vec<Cell>,
    /// Where the values of each begin.
    pub(super) bases: Vec<usize>,
}

impl From<Vec<Range<usize>>> for Records {
    fn from(ranges: Vec<Range<usize>>) -> Self {
        Self { ranges, ..Self::default() }
    }
}

impl Table {
    /// The records at a path, as [`Path::elements`] gives them and with its errors, read for [`super::Mapping::apply_to`].
    pub fn records(&self, path: &Path, json: &[u8]) -> Result<Records, MapError> {
        let text = std::str::from_utf8(json).map_err(|e| MapError::NotJson(e.to_string()))?;
        let steps = path.steps();
        let names = steps.strip_suffix(&[Step::All]).unwrap_or(steps);
        let mut reader = Reader { text, at: 0, scope: self.record_scope(), found: Records::default(), met: false };
        let is_plain = path.reads_record() && names.iter().all(|step| matches!(step, Step::Key(_)));
        match is_plain.then(|| reader.page(names)).flatten() {
            Some(()) => Ok(reader.found),
            None => Ok(path.elements(json)?.into()),
        }
    }
}

/// Reads the objects and the list around the records itself, and leaves every value to `serde_json`. `None`: not as expected.
struct Reader<'t, 'a> {
    text: &'a str,
    at: usize,
    scope: &'t Scope,
    found: Records,
    /// Whether the list was there.
    met: bool,
}

impl<'a> Reader<'_, 'a> {
    fn page(&mut self, names: &[Step]) -> Option<()> {
        self.skip_space();
        self.follow(names)?;
        self.skip_space();
        (self.met && self.at == self.text.len()).then_some(())
    }

    fn follow(&mut self, names: &[Step]) -> Option<()> {
        let Some((Step::Key(name), rest)) = names.split_first() else { return self.list() };
        self.eat(b'{')?;
        self.skip_space();
        loop {
            let key = self.value(PhantomData::<Cow<'a, str>>)?;
            self.skip_space();
            self.eat(b':')?;
            self.skip_space();
            match key == name.as_str() {
                // Of equal names the last counts; that is rare enough to be read again.
                true if self.met => return None,
                true => self.follow(rest)?,
                false => drop(self.value(PhantomData::<IgnoredAny>)?),
            }
            self.skip_space();
            if self.eat(b',').is_none() {
                return self.eat(b'}');
            }
            self.skip_space();
        }
    }

    fn list(&mut self) -> Option<()> {
        self.eat(b'[')?;
        self.met = true;
        self.skip_space();
        if self.eat(b']').is_some() {
            return Some(());
        }
        loop {
            self.record()?;
            self.skip_space();
            if self.eat(b',').is_none() {
                return self.eat(b']');
            }
            self.skip_space();
        }
    }

    fn record(&mut self) -> Option<()> {
        let from = self.at;
        if self.found.cells.len() < MOST_CELLS && self.text[from..].starts_with('{') {
            let mut cells = std::mem::take(&mut self.found.cells);
            let base = self.scope.open(&mut cells);
            self.found.bases.push(base);
            self.value(self.scope.walk(self.text, base, &mut cells))?;
            self.found.cells = cells;
        } else {
            self.value(PhantomData::<IgnoredAny>)?;
        }
        self.found.ranges.push(from..self.at);
        depth_within(&self.text.as_bytes()[from..self.at]).then_some(())
    }

    /// A value of JSON, read by `seed`.
    fn value<S: DeserializeSeed<'a>>(&mut self, seed: S) -> Option<S::Value> {
        let mut reader = serde_json::Deserializer::from_str(&self.text[self.at..]);
        let value = seed.deserialize(&mut reader).ok()?;
        self.at += reader.into_iter::<IgnoredAny>().byte_offset();
        Some(value)
    }

    fn skip_space(&mut self) {
        let rest = &self.text.as_bytes()[self.at..];
        self.at += rest.iter().position(|byte| !matches!(byte, b' ' | b'\t' | b'\r' | b'\n')).unwrap_or(rest.len());
    }

    fn eat(&mut self, byte: u8) -> Option<()> {
        let is_next = self.text.as_bytes().get(self.at) == Some(&byte);
        self.at += usize::from(is_next);
        is_next.then_some(())
    }
}
