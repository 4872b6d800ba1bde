//! What the vendor said, held against what is there.

use crate::{
    connector::ResourceDef,
    error::{Code, Error, VendorAnswer},
    model::Warning,
    service::directory::no_record,
    upstream::{Said, WriteVerb},
};

/// The most of the vendor's words in a sentence of ours.
const SENTENCE: usize = 300;

/// What the vendor said.
pub(super) enum Told {
    /// That it is done.
    Done(VendorAnswer),
    /// Nothing was sent, because nothing differed.
    Unasked,
    /// That it failed; as the error it would be.
    Failed(Error),
    /// Nothing that can be read.
    Unknown(Error),
}

impl Told {
    pub(super) fn of(said: Said) -> Told {
        match said {
            Said::Done(answer) => Told::Done(answer),
            Said::Unasked => Told::Unasked,
            // Some vendors say with a 500 that there is no such record.
            Said::Failed(failure) => match Error::from(failure) {
                error if error.code() == Code::NotFound => Told::Failed(error.status(Code::NotFound.row().status)),
                error => Told::Failed(error),
            },
            Said::Unknown(failure) => Told::Unknown(failure.into()),
        }
    }

    pub(super) fn is_done(&self) -> bool {
        matches!(self, Told::Done(_) | Told::Unasked)
    }

    /// What the caller of a write that took effect should know.
    pub(super) fn warnings(&self) -> Vec<Warning> {
        let (code, message) = match self {
            Told::Done(_) | Told::Unasked => return Vec::new(),
            Told::Failed(error) => (
                "vendor_reported_failure",
                format!("The vendor reported a failure, but it is done. It said: {}", words(error.detail())),
            ),
            Told::Unknown(error) => {
                ("vendor_did_not_confirm", format!("The vendor did not confirm it, but it is done: {}", words(error.detail())))
            }
        };
        vec![Warning { code: code.into(), message, field: None }]
    }

    fn answer(&self) -> Option<&VendorAnswer> {
        match self {
            Told::Done(answer) => Some(answer),
            Told::Unasked => None,
            Told::Failed(error) | Told::Unknown(error) => error.vendor_answer(),
        }
    }

    /// What the vendor said, as part of a sentence.
    fn said(&self) -> String {
        match self {
            Told::Done(answer) => format!("The vendor answered {}", answer.status.unwrap_or(200)),
            Told::Unasked => "Nothing was sent".to_owned(),
            Told::Failed(error) => format!("The vendor reported a failure ({})", words(error.detail())),
            Told::Unknown(error) => format!("The vendor gave no usable answer ({})", words(error.detail())),
        }
    }

    fn error(&self, code: Code, detail: String) -> Error {
        let status = code.row().status;
        let error = Error::new(code, detail);
        match self.answer() {
            Some(answer) => error.vendor(answer.clone()).status(status),
            None => error,
        }
    }

    /// Nothing says whether it took effect.
    pub(super) fn unconfirmed(&self, why: Option<&Error>) -> Error {
        let why = match why {
            Some(error) => format!(", and the record could not be read again: {}", words(error.detail())),
            None => ". The record as it is now does not show it, but it may still come".to_owned(),
        };
        self.error(Code::WriteUnconfirmed, format!("{}{why}.", self.said()))
    }

    /// The record is as wanted as far as it can be seen, which members of the vendor's own cannot.
    pub(super) fn own_unconfirmed(&self) -> Error {
        let detail = format!("{}. Whether it took `remote_data` is not known.", self.said());
        self.error(Code::WriteUnconfirmed, detail).field("remote_data")
    }

    /// What was to be made is not there.
    pub(super) fn nothing_there(&self, def: &ResourceDef) -> Error {
        match self {
            Told::Done(_) | Told::Unasked => {
                let detail = format!("{}, but among its {} there is no such record.", self.said(), def.resource.plural());
                self.error(Code::WriteNotTaken, detail)
            }
            Told::Failed(error) => error.clone(),
            Told::Unknown(_) => self.unconfirmed(None),
        }
    }

    /// Nothing of a change is there.
    pub(super) fn not_taken(&self, def: &ResourceDef, missing: &[&str]) -> Error {
        let detail = format!("{}, but of the {} nothing changed: {}.", self.said(), def.resource.plural(), list(missing));
        self.error(Code::WriteNotTaken, detail).field(missing.first().copied().unwrap_or_default())
    }

    /// A part of a change is there.
    pub(super) fn partial(&self, touched: &[&str], missing: &[&str]) -> Error {
        let taken: Vec<&str> = touched.iter().copied().filter(|name| !missing.contains(name)).collect();
        let detail = format!("{}. Taken: {}. Not taken: {}.", self.said(), list(&taken), list(missing));
        self.error(Code::WritePartial, detail).field(missing.first().copied().unwrap_or_default())
    }

    /// What was to be taken away is there.
    pub(super) fn still_there(&self, def: &ResourceDef) -> Error {
        match self {
            Told::Done(_) | Told::Unasked => {
                let detail = format!("{}, but the record is still among its {}.", self.said(), def.resource.plural());
                self.error(Code::WriteNotTaken, detail)
            }
            Told::Failed(error) => error.clone(),
            Told::Unknown(_) => self.unconfirmed(None),
        }
    }
}

/// The error for a refused write. A vendor's 409 of a record that exists would be tried again by clients for nothing.
pub(super) fn told_error(def: &ResourceDef, verb: WriteVerb, status: Option<u16>, error: Error) -> Error {
    let answer = || error.vendor_answer().cloned().unwrap_or_default();
    match (verb, status) {
        (WriteVerb::Create, Some(409)) => {
            let detail = format!("The vendor has such a record among its {} already.", def.resource.plural());
            Error::new(Code::AlreadyExists, detail).vendor(answer()).status(Code::AlreadyExists.row().status)
        }
        (_, Some(412)) => {
            let detail = "The record changed at the vendor while it was written; nothing was written.";
            Error::new(Code::Conflict, detail).vendor(answer()).status(Code::Conflict.row().status)
        }
        (_, Some(404)) if error.code() == Code::NotFound => no_record(def),
        _ => error,
    }
}

fn list(names: &[&str]) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
}

fn words(text: &str) -> String {
    let text: String = text.chars().take(SENTENCE).collect();
    text.trim_end_matches('.').to_owned()
}
