//! What is fuzzed: library functions that read what strangers write. A target panics when a promise is broken, and says whether
//! the input came through. Of each input the first byte (its low half, so that a digit will do) says how the rest is read.

mod addresses;
mod sealed;
mod texts;

/// One target.
pub type Target = fn(&[u8]) -> bool;

/// Every target, by its name and its corpus' folder.
pub const ALL: [(&str, Target); 8] = [
    ("arguments", texts::arguments),
    ("connector", texts::connector),
    ("cursor", sealed::cursor),
    ("envelope", sealed::envelope),
    ("link", addresses::link),
    ("path", addresses::path),
    ("query", texts::query),
    ("rate", texts::rate),
];

/// How the rest is read, and the rest.
fn split(data: &[u8]) -> (usize, &[u8]) {
    data.split_first().map_or((0, data), |(first, rest)| (usize::from(first & 0x0f), rest))
}
