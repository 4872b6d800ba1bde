//! A mistake in the settings, and where it stands.

use std::fmt;

/// Where a setting was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A line of the settings file.
    File {
        /// The file.
        path: String,
        /// Its line, from 1; `None` for the file as a whole.
        line: Option<usize>,
        /// The key there.
        key: Option<String>,
    },
    /// A variable of the environment.
    Variable(String),
    /// A flag.
    Flag(&'static str),
    /// Nowhere, although it is needed: the variable that would give it.
    Missing(&'static str),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::File { path, line, key } => {
                f.write_str(path)?;
                line.map_or(Ok(()), |line| write!(f, ":{line}"))?;
                key.as_ref().map_or(Ok(()), |key| write!(f, " `{key}`"))
            }
            Source::Variable(name) => write!(f, "variable {name}"),
            Source::Flag(name) => write!(f, "flag {name}"),
            Source::Missing(name) => write!(f, "{name} is not set"),
        }
    }
}

/// One thing to mend; holds no value that could be a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Where.
    pub source: Source,
    /// What is wrong and what to do.
    pub text: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.source, self.text)
    }
}

/// Every mistake of the settings; the program ends with its text.
#[derive(Debug)]
pub struct ConfigError {
    /// What must be mended.
    pub mistakes: Vec<Mistake>,
    /// What has no effect, which may be why something is missing.
    pub warnings: Vec<String>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.mistakes.len() {
            1 => f.write_str("the settings have a mistake:")?,
            count => write!(f, "the settings have {count} mistakes:")?,
        }
        self.mistakes.iter().try_for_each(|mistake| write!(f, "\n  - {mistake}"))?;
        self.warnings.iter().try_for_each(|warning| write!(f, "\n  besides: {warning}"))
    }
}

impl std::error::Error for ConfigError {}
