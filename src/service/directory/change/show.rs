//! A record that was read again, and how it is given to the caller.

use serde_json::{Value, value::RawValue};

use crate::{
    error::{Error, Result},
    model::{Resource, Warning},
    service::{
        OneQuery, OneRecord, ResponseFormat,
        directory::{parse_mapped, walk::debug_of},
    },
};

/// A unified record, whole, and the vendor's own beside it.
pub(super) struct Seen {
    body: Vec<u8>,
    /// The same, read.
    pub value: Value,
    warnings: Vec<Warning>,
}

impl Seen {
    pub(super) fn read(record: OneRecord) -> Result<Seen> {
        let value = parse_mapped(&record.body)?;
        Ok(Seen { body: record.body, value, warnings: record.warnings })
    }
}

/// The record as the caller wants it, without reading its values: they stay as the vendor wrote them.
pub(super) fn show(seen: Seen, resource: Resource, query: &OneQuery, mut warnings: Vec<Warning>) -> Result<OneRecord> {
    warnings.extend(seen.warnings);
    let members: Vec<(String, &RawValue)> = Members::read(&seen.body)?;
    let is_hidden = |name: &str| {
        let without = query.ignore_remote_data || query.format == ResponseFormat::Normalized;
        query.exclude.iter().any(|other| other == name) || (name == "remote_data" && without)
    };
    if query.format == ResponseFormat::Raw {
        let raw = members.iter().find(|(name, _)| name == "remote_data").map(|(_, raw)| raw.get()).unwrap_or("{}");
        return Ok(OneRecord { body: raw.as_bytes().to_vec(), warnings, debug: None });
    }
    let mut body = vec![b'{'];
    for (name, value) in members.iter().filter(|(name, _)| !is_hidden(name)) {
        if body.len() > 1 {
            body.push(b',');
        }
        serde_json::to_writer(&mut body, name).map_err(Error::internal)?;
        body.push(b':');
        body.extend_from_slice(value.get().as_bytes());
    }
    body.push(b'}');
    let debug = (query.format == ResponseFormat::Debug).then(|| debug_of(resource, None, 1, None));
    Ok(OneRecord { body, warnings, debug })
}

/// The members of an object in their order.
struct Members;

impl Members {
    fn read(body: &[u8]) -> Result<Vec<(String, &RawValue)>> {
        struct Visit;
        impl<'de> serde::de::Visitor<'de> for Visit {
            type Value = Vec<(String, &'de RawValue)>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(members)
            }
        }
        let mut reader = serde_json::Deserializer::from_slice(body);
        serde::Deserializer::deserialize_map(&mut reader, Visit).map_err(Error::internal)
    }
}
