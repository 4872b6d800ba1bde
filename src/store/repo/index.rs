//! Lists of an environment: entries `<kind>/<id>` without content, in the environment's slot.

use std::{future::Future, str::FromStr};

use bytes::Bytes;
use futures_util::{StreamExt, stream};

use super::{Listed, batch, delete, environment_slot, key, put};
use crate::{
    model::EnvironmentId,
    store::{Expect, Store, StoreError, Write},
};

/// Records read at the same time.
const TOGETHER: usize = 32;
const PAGE: usize = 500;

pub(super) async fn add(store: &dyn Store, environment: EnvironmentId, name: String) -> Result<(), StoreError> {
    store.commit(batch(environment_slot(environment), vec![put(name, Bytes::new(), Expect::Any)])).await.map(|_| ())
}

pub(super) async fn remove(store: &dyn Store, environment: EnvironmentId, name: String) -> Result<(), StoreError> {
    store.commit(batch(environment_slot(environment), vec![delete(name)])).await.map(|_| ())
}

/// Removes the entry if it still has this version; false when it was put in anew, or is gone.
pub(super) async fn remove_known(
    store: &dyn Store,
    environment: EnvironmentId,
    name: String,
    version: u64,
) -> Result<bool, StoreError> {
    let known = Write::Delete { name, expect: Expect::Version(version) };
    match store.commit(batch(environment_slot(environment), vec![known])).await {
        Err(StoreError::Conflict(_)) => Ok(false),
        removed => removed.map(|_| true),
    }
}

/// The version of an entry; it is another one each time the entry is put in.
pub(super) async fn version(store: &dyn Store, environment: EnvironmentId, name: String) -> Result<Option<u64>, StoreError> {
    Ok(store.get(&key(environment_slot(environment), name)).await?.map(|entry| entry.version))
}

/// Whether the environment has such an entry; one small read that costs the same for missing and foreign ids.
pub(super) async fn has(store: &dyn Store, environment: EnvironmentId, name: String) -> Result<bool, StoreError> {
    Ok(store.get(&key(environment_slot(environment), name)).await?.is_some())
}

/// Ids of one kind after one of them, in order; and whether there may be more.
pub(super) async fn ids<I: FromStr>(
    store: &dyn Store,
    environment: EnvironmentId,
    kind: &str,
    after: Option<String>,
    limit: usize,
) -> Result<(Vec<I>, Option<String>), StoreError> {
    let after = after.map(|id| format!("{kind}{id}"));
    let entries = store.scan(&environment_slot(environment), kind, after.as_deref(), limit).await?;
    let more = (entries.len() == limit).then(|| entries.last().map(|(name, _)| name[kind.len()..].to_owned())).flatten();
    Ok((entries.iter().filter_map(|(name, _)| name[kind.len()..].parse().ok()).collect(), more))
}

/// Up to `limit` records behind the entries of one kind; entries without a record are passed over, and those that this release
/// cannot read are counted.
pub(super) async fn records<I, T, F>(
    store: &dyn Store,
    (environment, kind): (EnvironmentId, &str),
    mut after: Option<String>,
    limit: usize,
    read: impl Fn(I) -> F,
) -> Result<Listed<T>, StoreError>
where
    I: FromStr,
    F: Future<Output = Result<Option<T>, StoreError>>,
{
    let mut found = Listed { records: Vec::new(), unreadable: 0 };
    while found.records.len() < limit {
        let (page, more) = ids::<I>(store, environment, kind, after, (limit - found.records.len()).min(PAGE)).await?;
        let records: Vec<_> = stream::iter(page.into_iter().map(&read)).buffered(TOGETHER).collect().await;
        let page = Listed::of(records.into_iter().filter_map(Result::transpose))?;
        found.records.extend(page.records);
        found.unreadable += page.unreadable;
        after = more;
        if after.is_none() {
            break;
        }
    }
    Ok(found)
}
