//! What a later release wrote into a record that this one changes.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The members of a record that this release does not know, carried along whenever the record is written. Nobody here reads or
/// shows them.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Later(Map<String, Value>);

impl fmt::Debug for Later {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Serialize, Deserialize)]
    struct Record {
        known: u64,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        maybe: Option<String>,
        #[serde(flatten)]
        later: Later,
    }

    #[test]
    fn what_is_not_known_is_written_again_and_not_told() {
        let text = r#"{"known":18446744073709551615,"far":{"a":[1,2.5,null]},"sealed":"canary"}"#;
        let record: Record = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&record).unwrap(), text);
        assert!(!format!("{record:?}").contains("canary"), "{record:?}");
        let plain: Record = serde_json::from_str(r#"{"known":1,"maybe":"x"}"#).unwrap();
        assert_eq!(plain.later, Later::default());
    }
}
