//! Command lines that say the same to Commander as they say to us. The service tokenises with POSIX rules after doubling
//! backslashes, so a backslash is literal and only single quotes are safe.

/// The longest command the service takes, in characters.
const LONGEST: usize = 4096;

/// Why a value cannot be sent to Commander at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsendable {
    /// The service refuses line breaks and NUL anywhere.
    #[error("a value holds a line break or NUL, which Commander cannot take")]
    Control,
    /// The service refuses environment-variable syntax anywhere.
    #[error("a value holds `${{`, which Commander does not take")]
    Variable,
    /// A token `--` ends the options.
    #[error("a value is `--`, which Commander does not take")]
    Separator,
    /// `@all` and its like are wildcards of some commands.
    #[error("a value begins with `@`, which Commander may read as a wildcard")]
    Wildcard,
    /// A positional value that begins with a dash is read as an option.
    #[error("a value begins with a dash, which Commander reads as an option")]
    Option,
    /// Longer than the service reads.
    #[error("the command has more than 4096 characters")]
    TooLong,
}

/// A command line in the making.
#[derive(Clone, Debug)]
pub struct Command {
    text: String,
}

impl Command {
    /// Begins with the command's own word.
    pub fn new(word: &str) -> Self {
        Self { text: word.to_owned() }
    }

    /// A line from the words of a connector file; words are data there, so they are quoted like any other value.
    pub fn from_words(words: &[String]) -> Result<String, Unsendable> {
        let mut text = String::new();
        for word in words {
            check(word)?;
            if !text.is_empty() {
                text.push(' ');
            }
            if !word.is_empty() && word.chars().all(is_plain) { text.push_str(word) } else { text.push_str(&quote(word)) }
        }
        Self { text }.finish()
    }

    /// Adds an option without a value.
    pub fn flag(mut self, name: &str) -> Self {
        self.text.push(' ');
        self.text.push_str(name);
        self
    }

    /// Adds `--name='value'`: a value that begins with a dash is not read as an option.
    pub fn option(mut self, name: &str, value: &str) -> Result<Self, Unsendable> {
        check(value)?;
        self.text.push(' ');
        self.text.push_str(name);
        self.text.push('=');
        self.text.push_str(&quote(value));
        Ok(self)
    }

    /// Adds a positional value.
    pub fn value(mut self, value: &str) -> Result<Self, Unsendable> {
        check(value)?;
        if value.starts_with('-') {
            return Err(Unsendable::Option);
        }
        self.text.push(' ');
        self.text.push_str(&quote(value));
        Ok(self)
    }

    /// The line as it is sent.
    pub fn finish(self) -> Result<String, Unsendable> {
        if self.text.chars().count() > LONGEST { Err(Unsendable::TooLong) } else { Ok(self.text) }
    }
}

fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-_./:=,+%".contains(c)
}

fn quote(value: &str) -> String {
    format!("'{}'", value.replace('\'', r#"'"'"'"#))
}

fn check(value: &str) -> Result<(), Unsendable> {
    if value.contains(['\r', '\n', '\0']) {
        Err(Unsendable::Control)
    } else if value.contains("${") {
        Err(Unsendable::Variable)
    } else if value == "--" {
        Err(Unsendable::Separator)
    } else if value.starts_with('@') {
        Err(Unsendable::Wildcard)
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_single_quoted() {
        let line = Command::new("enterprise-info").flag("--users").value(r#"O'Neil "x" \ $HOME"#).unwrap().finish().unwrap();
        assert_eq!(line, r#"enterprise-info --users 'O'"'"'Neil "x" \ $HOME'"#);
        let line = Command::new("x").option("--name", "-rf").unwrap().finish().unwrap();
        assert_eq!(line, "x --name='-rf'");
    }

    #[test]
    fn what_commander_cannot_take_is_refused() {
        for (value, why) in [
            ("a\nb", Unsendable::Control),
            ("a\rb", Unsendable::Control),
            ("a\0b", Unsendable::Control),
            ("${HOME}", Unsendable::Variable),
            ("--", Unsendable::Separator),
            ("@all", Unsendable::Wildcard),
        ] {
            assert_eq!(Command::new("x").value(value).unwrap_err(), why, "{value:?}");
            assert_eq!(Command::new("x").option("--y", value).unwrap_err(), why, "{value:?}");
        }
        assert_eq!(Command::new("x").value("-h").unwrap_err(), Unsendable::Option);
        assert_eq!(Command::new("x").value(&"é".repeat(4091)).unwrap().finish().unwrap().chars().count(), 4095);
        assert_eq!(Command::new("x").value(&"é".repeat(4096)).unwrap().finish().unwrap_err(), Unsendable::TooLong);
    }

    #[test]
    fn words_of_a_file_keep_their_borders() {
        let words = ["msp-info", "-v", "--format=json", "a b", ""].map(String::from);
        assert_eq!(Command::from_words(&words).unwrap(), "msp-info -v --format=json 'a b' ''");
    }
}
