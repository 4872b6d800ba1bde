//! Looking at everything: which slots there are, and what lasts in one.

use bytes::Bytes;

use super::{Shared, tables};
use crate::store::{LOOKED_AT, Lasting, Slot, StoreError};

/// Goes from slot to slot without reading what is in them.
pub(super) fn slots(shared: &Shared) -> Result<Vec<Slot>, StoreError> {
    shared.read(|transaction| {
        let entries = transaction.open_table(tables::ENTRIES)?;
        let (mut found, mut from) = (Vec::new(), String::new());
        loop {
            let Some(first) = entries.range((from.as_str(), "")..)?.next().transpose()? else { break };
            let slot = first.0.value().0.to_owned();
            // No slot's name holds a NUL: this sorts after every name of the slot and before the next slot.
            from = format!("{slot}\0");
            found.push(Slot::new(slot));
        }
        Ok(found)
    })
}

/// One transaction, and so one moment.
pub(super) fn lasting(shared: &Shared, slot: &Slot, after: Option<&str>) -> Result<Lasting, StoreError> {
    shared.read(|transaction| {
        let entries = transaction.open_table(tables::ENTRIES)?;
        let mut found = Lasting::default();
        let mut looked = 0;
        for entry in entries.range((slot.as_str(), after.unwrap_or_default())..)? {
            let (key, stored) = entry?;
            let (here, name) = key.value();
            if here != slot.as_str() {
                break;
            }
            if after == Some(name) {
                continue;
            }
            let (_, expiry, value) = stored.value();
            if expiry == tables::NEVER {
                found.entries.push((name.to_owned(), Bytes::copy_from_slice(value)));
            }
            looked += 1;
            if looked == LOOKED_AT {
                found.next = Some(name.to_owned());
                break;
            }
        }
        Ok(found)
    })
}
