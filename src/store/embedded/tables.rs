//! The layout of the database file and the few reads both sides need.

use redb::{ReadableTable, Table, TableDefinition, WriteTransaction};

/// Marks an entry that lives for ever.
pub(super) const NEVER: u64 = u64::MAX;

/// `(slot, name)` → `(version, expiry in µs, value)`.
pub(super) const ENTRIES: TableDefinition<(&str, &str), StoredEntry<'_>> = TableDefinition::new("entries");
/// `(expiry in µs, slot, name)`, for the sweep.
pub(super) const EXPIRIES: TableDefinition<(u64, &str, &str), ()> = TableDefinition::new("expiries");
/// `(slot, queue, id)` → `(due in µs, attempts, lease or "", value)`.
pub(super) const ITEMS: TableDefinition<ItemKey<'_>, StoredItem<'_>> = TableDefinition::new("items");
/// `(slot, queue, due in µs, id)`, for `claim`.
pub(super) const DUE: TableDefinition<(&str, &str, u64, &str), ()> = TableDefinition::new("due");
/// Counters of the whole file: `version` (last one given), `epoch` (times opened), `format`.
pub(super) const COUNTERS: TableDefinition<&str, u64> = TableDefinition::new("counters");

/// An entry, an item and the key of an item as the tables hold them.
type StoredEntry<'a> = (u64, u64, &'a [u8]);
type ItemKey<'a> = (&'a str, &'a str, &'a str);
type StoredItem<'a> = (u64, u32, &'a str, &'a [u8]);

/// The layout's number; a file with another one is refused.
pub(super) const FORMAT: u64 = 1;

/// Every table, open for writing within one transaction.
pub(super) struct Tables<'t> {
    pub entries: Table<'t, (&'static str, &'static str), StoredEntry<'static>>,
    pub expiries: Table<'t, (u64, &'static str, &'static str), ()>,
    pub items: Table<'t, ItemKey<'static>, StoredItem<'static>>,
    pub due: Table<'t, (&'static str, &'static str, u64, &'static str), ()>,
    pub counters: Table<'t, &'static str, u64>,
}

impl<'t> Tables<'t> {
    pub fn open(transaction: &'t WriteTransaction) -> Result<Self, redb::Error> {
        Ok(Self {
            entries: transaction.open_table(ENTRIES)?,
            expiries: transaction.open_table(EXPIRIES)?,
            items: transaction.open_table(ITEMS)?,
            due: transaction.open_table(DUE)?,
            counters: transaction.open_table(COUNTERS)?,
        })
    }

    pub fn counter(&self, name: &str) -> Result<u64, redb::Error> {
        Ok(self.counters.get(name)?.map_or(0, |found| found.value()))
    }

    /// Version and expiry of an entry, dead or alive.
    pub fn stamp(&self, slot: &str, name: &str) -> Result<Option<(u64, u64)>, redb::Error> {
        Ok(self.entries.get((slot, name))?.map(|found| {
            let (version, expiry, _) = found.value();
            (version, expiry)
        }))
    }

    pub fn put(&mut self, place: (&str, &str), version: u64, expiry: u64, value: &[u8]) -> Result<(), redb::Error> {
        self.forget_expiry(place)?;
        self.entries.insert(place, (version, expiry, value))?;
        if expiry != NEVER {
            self.expiries.insert((expiry, place.0, place.1), ())?;
        }
        Ok(())
    }

    pub fn delete(&mut self, place: (&str, &str)) -> Result<(), redb::Error> {
        self.forget_expiry(place)?;
        self.entries.remove(place)?;
        Ok(())
    }

    fn forget_expiry(&mut self, (slot, name): (&str, &str)) -> Result<(), redb::Error> {
        if let Some((_, expiry)) = self.stamp(slot, name)?
            && expiry != NEVER
        {
            self.expiries.remove((expiry, slot, name))?;
        }
        Ok(())
    }

    /// Removes up to `limit` entries whose time is over; says how many.
    pub fn sweep(&mut self, now: u64, limit: usize) -> Result<usize, redb::Error> {
        let mut dead = Vec::new();
        for found in self.expiries.range(..=(now, "", ""))?.take(limit) {
            let (key, _) = found?;
            let (expiry, slot, name) = key.value();
            dead.push((expiry, slot.to_owned(), name.to_owned()));
        }
        for (expiry, slot, name) in &dead {
            self.expiries.remove((*expiry, slot.as_str(), name.as_str()))?;
            self.entries.remove((slot.as_str(), name.as_str()))?;
        }
        Ok(dead.len())
    }
}
