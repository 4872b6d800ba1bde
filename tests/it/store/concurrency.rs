//! The verbs under several callers at once.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use bytes::Bytes;
use rollcall::store::{Batch, Expect, Store, StoreError};
use tokio::task::JoinSet;

use super::fixture::{Case, Fixture, cases, put_if};

const LONG: Duration = Duration::from_secs(60);

fn nodes(f: &Fixture, count: usize) -> impl Iterator<Item = Arc<dyn Store>> {
    let pair = [f.store.clone(), f.other.clone()];
    (0..count).map(move |n| pair[n % 2].clone())
}

cases! {
    async fn no_increment_is_lost(f) {
        f.put("n", "0").await;
        let mut running = JoinSet::new();
        for store in nodes(&f, 8) {
            let key = f.key("n");
            running.spawn(async move {
                let mut done = 0;
                while done < 10 {
                    let entry = store.get(&key).await.unwrap().unwrap();
                    let next = std::str::from_utf8(&entry.value).unwrap().parse::<u32>().unwrap() + 1;
                    let writes = vec![put_if("n", &next.to_string(), Expect::Version(entry.version))];
                    match store.commit(Batch { slot: key.slot.clone(), fence: None, writes }).await {
                        Ok(_) => done += 1,
                        Err(StoreError::Conflict(_)) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
            });
        }
        running.join_all().await;
        assert_eq!(f.text("n").await.as_deref(), Some("80"));
    }
    async fn one_of_many_creates(f) {
        let mut running = JoinSet::new();
        for (n, store) in nodes(&f, 10).enumerate() {
            let batch = Batch { slot: f.slot.clone(), fence: None, writes: vec![put_if("a", &n.to_string(), Expect::Absent)] };
            running.spawn(async move { store.commit(batch).await.is_ok() });
        }
        assert_eq!(running.join_all().await.into_iter().filter(|won| *won).count(), 1);
    }
    async fn one_of_many_holds(f) {
        let mut running = JoinSet::new();
        for store in nodes(&f, 10) {
            let key = f.key("l");
            running.spawn(async move { store.hold(&key, LONG).await.unwrap().is_some() });
        }
        assert_eq!(running.join_all().await.into_iter().filter(|won| *won).count(), 1);
    }
    async fn every_item_is_claimed_once(f) {
        for n in 0..40 {
            f.store.push(&f.key("q"), &n.to_string(), Bytes::new(), Duration::ZERO).await.unwrap();
        }
        let mut running = JoinSet::new();
        for store in nodes(&f, 6) {
            let key = f.key("q");
            running.spawn(async move {
                let mut mine = Vec::new();
                loop {
                    let items = store.claim(&key, LONG, 3).await.unwrap();
                    if items.is_empty() {
                        return mine;
                    }
                    mine.extend(items.into_iter().map(|item| item.id));
                }
            });
        }
        let all: Vec<String> = running.join_all().await.into_iter().flatten().collect();
        assert_eq!((all.len(), all.iter().collect::<BTreeSet<_>>().len()), (40, 40));
    }
    async fn no_token_is_spent_twice(f) {
        let mut running = JoinSet::new();
        for store in nodes(&f, 20) {
            let key = f.key("b");
            running.spawn(async move { store.spend(&key, 7, Duration::from_secs(600)).await.unwrap().allowed });
        }
        assert_eq!(running.join_all().await.into_iter().filter(|allowed| *allowed).count(), 7);
    }
}
