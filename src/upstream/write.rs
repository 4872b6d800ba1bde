//! What a write asks of a vendor, and what the vendor said to it. Whether it took effect is for the re-reader to find out.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::{Map, Value};

use super::Failure;
use crate::{
    connector::Meaning,
    error::VendorAnswer,
    mapping::{Change, Path},
};

/// What is done with a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteVerb {
    /// It is made; a member is added.
    Create,
    /// It is changed.
    Update,
    /// It is taken away; a member is removed.
    Delete,
    /// A method of the vendor's own.
    Method,
}

impl WriteVerb {
    /// Its name in connector files and documents.
    pub const fn word(self) -> &'static str {
        match self {
            WriteVerb::Create => "create",
            WriteVerb::Update => "update",
            WriteVerb::Delete => "delete",
            WriteVerb::Method => "call",
        }
    }
}

/// One write.
#[derive(Clone, Debug)]
pub struct WriteAsk {
    /// What is done.
    pub verb: WriteVerb,
    /// Values for `{…}`: `id`, `group_id`, `user_id`, `role_id`.
    pub values: BTreeMap<String, String>,
    /// What goes into the vendor's record.
    pub changes: Vec<Change>,
    /// The caller's own members of the vendor's body.
    pub remote_data: Map<String, Value>,
    /// The caller's own query parameters.
    pub remote_query: Vec<(String, String)>,
    /// The company it is for, at vendors that serve many.
    pub company: Option<String>,
    /// A text that only one record has, and where.
    pub unique: Option<(Path, String)>,
}

/// One request with a body of the caller's own.
#[derive(Clone, Debug, Default)]
pub struct VerbatimAsk {
    /// Values for `{…}`.
    pub values: BTreeMap<String, String>,
    /// The body, as it is.
    pub body: Option<Bytes>,
    /// The caller's own query parameters.
    pub remote_query: Vec<(String, String)>,
}

/// What the vendor said.
#[derive(Debug)]
pub enum Said {
    /// That it is done.
    Done(VendorAnswer),
    /// Nothing, because everything is as asked already and nothing was sent.
    Unasked,
    /// That it failed.
    Failed(Failure),
    /// Nothing that can be read: it may have taken effect or may yet.
    Unknown(Failure),
}

/// A write that reached the vendor, or did not need to.
#[derive(Debug)]
pub struct Written {
    /// What the vendor said.
    pub said: Said,
    /// The record, where the answer holds one.
    pub record: Option<Bytes>,
    /// The raw records there were before, where the transport read them.
    pub before: Option<Bytes>,
}

impl Written {
    /// Only words.
    pub(super) fn said(said: Said) -> Self {
        Self { said, record: None, before: None }
    }
}

/// What a failed exchange says about a write: an error when it surely had no effect.
pub fn judge(failure: Failure) -> Result<Said, Failure> {
    match &failure {
        Failure::Unsendable { .. } | Failure::Unaddressable(_) => Err(failure),
        Failure::Exists(_) | Failure::Absent(_) => Err(failure),
        Failure::Egress(_) | Failure::Unreachable(_) | Failure::Distrusted { .. } => Err(failure),
        Failure::Upload(_) | Failure::UploadBroken(_) | Failure::NotRenewed(_) => Err(failure),
        Failure::Busy(_) | Failure::Held { .. } | Failure::Throttled { .. } | Failure::Store(_) => Err(failure),
        Failure::Answered { answer, meaning, .. } => match (answer.status.unwrap_or_default(), meaning) {
            (408 | 502 | 504, _) => Ok(Said::Unknown(failure)),
            (400..500, _) => Err(failure),
            (_, Meaning::Reauth | Meaning::Denied | Meaning::RateLimited | Meaning::Missing) => Err(failure),
            _ => Ok(Said::Failed(failure)),
        },
        _ => Ok(Said::Unknown(failure)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(status: u16, meaning: Meaning) -> Failure {
        let answer = VendorAnswer { status: Some(status), ..VendorAnswer::default() };
        Failure::Answered { meaning, answer, wait: None, message: None }
    }

    #[test]
    fn only_what_surely_had_no_effect_is_an_error() {
        assert!(judge(Failure::Unreachable("the connection failed: connection refused".into())).is_err());
        assert!(judge(Failure::Unreachable("no connection within 5 s".into())).is_err());
        assert!(judge(Failure::Held { why: String::new(), wait: 1 }).is_err());
        assert!(judge(Failure::Throttled { wait: 1 }).is_err());
        assert!(judge(answered(400, Meaning::Failed)).is_err());
        assert!(judge(answered(429, Meaning::RateLimited)).is_err());
        assert!(judge(answered(500, Meaning::Missing)).is_err(), "what is not there was not changed");
        assert!(matches!(judge(answered(500, Meaning::Failed)), Ok(Said::Failed(_))));
        for failure in [
            Failure::Broken("the connection failed: connection reset".into()),
            Failure::Cut,
            Failure::TimedOut(1),
            Failure::BadAnswer("cut".into()),
            answered(502, Meaning::Failed),
            answered(504, Meaning::Failed),
        ] {
            assert!(matches!(judge(failure), Ok(Said::Unknown(_))));
        }
    }
}
