//! The arguments of a command line that somebody else's parser will read, as strictly as all such parsers agree.

use crate::connector::Argument;

/// An option that is written with quotes or backslashes.
pub struct NotPlain;

/// One argument: as it is written, and as every quote and backslash gone leaves it.
#[derive(Default)]
pub struct Written {
    /// As it is written.
    pub raw: String,
    /// Without quotes and backslashes.
    pub bare: String,
}

/// The arguments of a POSIX command line. `None` where parsers part: an open quote; a backslash before a quote, a blank or the
/// end, which some take for an escape and some for itself; `${` and HTML's `&name;` and `&#45;`, which some replace.
pub fn split(text: &str) -> Option<Vec<Written>> {
    let replaced = text.match_indices('&').any(|(at, _)| text[at + 1..].starts_with(|c: char| c == '#' || c.is_alphabetic()));
    if replaced || text.contains("${") {
        return None;
    }
    let (mut all, mut now, mut quote) = (Vec::new(), Written::default(), None);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            ' ' if quote.is_none() => {
                all.push(std::mem::take(&mut now));
                continue;
            }
            '\'' | '"' if quote.is_none() => quote = Some(c),
            '\'' | '"' if quote == Some(c) => quote = None,
            '\\' if chars.peek().is_none_or(|next| matches!(next, '\'' | '"' | ' ')) => return None,
            '\\' => {}
            _ => now.bare.push(c),
        }
        now.raw.push(c);
    }
    all.push(now);
    quote.is_none().then_some(all)
}

impl Written {
    /// The option's name with its dashes, up to `=`; `None` for a value.
    pub fn option(&self) -> Result<Option<&str>, NotPlain> {
        if !self.bare.starts_with('-') {
            return Ok(None);
        }
        let name = self.bare.split('=').next().unwrap_or_default();
        if self.raw.starts_with(name) { Ok(Some(name)) } else { Err(NotPlain) }
    }
}

impl Argument {
    /// Whether a parser could take this option for the argument: long ones are known by their beginning, short ones stand
    /// together or before their value.
    pub fn is_meant_by(&self, option: &str) -> bool {
        match (self, option.strip_prefix("--")) {
            (Argument::Long(name), Some(given)) => name.starts_with(given),
            (Argument::Short(letter), None) => option.contains(*letter),
            (Argument::Long(_), None) | (Argument::Short(_), Some(_)) => false,
        }
    }
}
