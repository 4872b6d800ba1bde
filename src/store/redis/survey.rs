//! Looking at everything: which slots there are, on every primary, and what lasts in one.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::{
    LASTING, Redis, key,
    link::{Kind, Link, deadline},
    parse, read_entry,
    url::Address,
};
use crate::store::{LOOKED_AT, Lasting, Slot, StoreError};

/// Keys that a server looks at before it answers.
const COUNT: usize = 1_000;
const BEGINS: &str = "rollcall:{";
const ENDS: &str = "}#index";

/// Every slot has an index as soon as it has an entry. A slot that moves to another primary meanwhile may be missed.
pub(super) async fn slots(link: &Link) -> Result<Vec<Slot>, StoreError> {
    let mut found = BTreeSet::new();
    for address in link.primaries(deadline()).await? {
        let mut cursor = 0;
        loop {
            let (next, keys) = page(link, &address, cursor).await?;
            // A value's own name may end like an index; its slot would then hold a brace, which no slot does.
            let names = keys.iter().filter_map(|key| key.strip_prefix(BEGINS)?.strip_suffix(ENDS));
            found.extend(names.filter(|name| !name.contains(['{', '}'])).map(str::to_owned));
            cursor = next;
            if cursor == 0 {
                break;
            }
        }
    }
    Ok(found.into_iter().map(Slot::new).collect())
}

async fn page(link: &Link, address: &Address, cursor: u64) -> Result<(u64, Vec<String>), StoreError> {
    let mut command = redis::cmd("SCAN");
    command.arg(cursor).arg("MATCH").arg(format!("{BEGINS}*{ENDS}")).arg("COUNT").arg(COUNT);
    parse(link.ask(address, &command, deadline()).await?, "SCAN")
}

impl Redis {
    /// One script, and so one moment.
    pub(super) async fn lasting_of(&self, slot: &Slot, after: Option<&str>) -> Result<Lasting, StoreError> {
        let (values, limit) = (key(slot, "/", ""), LOOKED_AT.to_string());
        let from = after.map_or_else(|| "[".to_owned(), |after| format!("({after}"));
        let args: [&[u8]; 3] = [values.as_bytes(), from.as_bytes(), limit.as_bytes()];
        let how = (Kind::Read, deadline());
        let answer = self.run(slot.as_str(), &LASTING, &[key(slot, "#index", "")], &args, how).await?;
        let (last, looked, found): (String, usize, Vec<(String, Vec<u8>)>) = parse(answer, "what lasts")?;
        let entry = |(name, stored): (String, Vec<u8>)| Ok((name, read_entry(&stored)?.value));
        let entries: Vec<(String, Bytes)> = found.into_iter().map(entry).collect::<Result<_, StoreError>>()?;
        Ok(Lasting { entries, next: (looked == LOOKED_AT).then_some(last) })
    }
}
