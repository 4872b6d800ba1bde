//! What paging needs of an answer, in one pass over it: the records and the few texts beside them.

use std::{borrow::Cow, ops::Range};

use super::{
    MapError, Path,
    path::Step,
    text::{depth_within, text_of},
    trie::{Cell, Hop, Scope, each_row, is_list},
};

/// A reader of list answers, made once from the paths of a resource file.
#[derive(Debug)]
pub struct AnswerReader {
    scope: Scope,
    records: (Vec<Hop>, u32),
    texts: Vec<(Vec<Hop>, u32)>,
    path: Path,
}

/// What a reader found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Where the records are in the document.
    pub records: Vec<Range<usize>>,
    /// The first text at each of the other paths, in their order.
    pub texts: Vec<Option<String>>,
}

impl AnswerReader {
    /// For the records at a path (see [`Path::elements`]) and the texts at others (see [`Path::text`]).
    pub fn new(records: &Path, texts: &[&Path]) -> AnswerReader {
        let mut scope = Scope::default();
        let mut steps = records.steps().to_vec();
        if !matches!(steps.last(), Some(Step::All | Step::Where { .. })) {
            steps.push(Step::All);
        }
        let slot = |steps: &[Step], scope: &mut Scope| {
            let (hops, scope, names) = scope.rows(steps);
            (hops, scope.keep(names))
        };
        let (hops, at) = slot(&steps, &mut scope);
        let texts = texts.iter().map(|path| slot(path.steps(), &mut scope)).collect();
        scope.seal();
        AnswerReader { scope, records: (hops, at), texts, path: records.clone() }
    }

    /// Reads an answer: the records as [`Path::elements`] gives them, its errors too, and the texts.
    pub fn read(&self, json: &[u8]) -> Result<Answer, MapError> {
        let text = std::str::from_utf8(json).map_err(|e| MapError::NotJson(e.to_string()))?;
        let mut cells = Vec::new();
        let base = self.scope.open(&mut cells);
        self.scope.read(text, base, &mut cells).map_err(|e| MapError::NotJson(e.to_string()))?;
        let (hops, slot) = &self.records;
        let records = if hops.len() == 1 && is_list(&cells, base, hops) {
            let mut ranges = Vec::new();
            each_value(&cells, base, hops, *slot, &mut |raw| {
                let from = raw.as_ptr() as usize - text.as_ptr() as usize;
                ranges.push(from..from + raw.len());
                false
            });
            ranges
        } else {
            self.path.elements(json)?
        };
        if !records.iter().all(|range| depth_within(&json[range.clone()])) {
            return Err(MapError::NotJson("nested too deeply".to_owned()));
        }
        let texts = self.texts.iter().map(|(hops, slot)| {
            let mut found = None;
            each_value(&cells, base, hops, *slot, &mut |raw| {
                found = text_of(raw).map(Cow::into_owned);
                found.is_some()
            });
            found
        });
        Ok(Answer { records, texts: texts.collect() })
    }
}

fn each_value<'a>(cells: &[Cell<'a>], base: usize, hops: &[Hop], slot: u32, hit: &mut dyn FnMut(&'a str) -> bool) {
    each_row(cells, base, hops, &mut |row| match cells[row + slot as usize] {
        Cell::Raw(raw) => hit(raw),
        _ => false,
    });
}
