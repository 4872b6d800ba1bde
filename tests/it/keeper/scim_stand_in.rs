//! The SCIM stand-in through the real transport: honest it is read whole, and no lie loses or repeats a record unsaid.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use rollcall::{
    connector::Catalog,
    model::{AccountId, EnvironmentId, Resource},
    sandbox::scim::{self, Faults, Lie, Paging},
    upstream::{Access, Failure, ListAsk, Upstream},
};
use serde_json::{Map, Value};

use super::bench::Bench;

fn access(base: &str, token: &str, facts: Map<String, Value>) -> Access {
    let catalog = Catalog::load(None).unwrap_or_else(|problems| panic!("{problems:#?}"));
    let connector = catalog.get("scim").unwrap().clone();
    let method = connector.method("bearer").unwrap().clone();
    let given = BTreeMap::from([("base_url".to_owned(), base.to_owned()), ("token".to_owned(), token.to_owned())]);
    let resolved = method.resolve(&given, &|_| true).unwrap_or_else(|problems| panic!("{problems:#?}"));
    let access = Access::new(AccountId::generate(), EnvironmentId::generate(), connector, method, 1, resolved, facts);
    access.unwrap_or_else(|problem| panic!("{problem:?}"))
}

/// Every user id in the order they came.
async fn walk(upstream: &Arc<Upstream>, access: &Access) -> Result<Vec<String>, Failure> {
    let resource = &access.method.resources[&Resource::User];
    let (mut ids, mut ask) = (Vec::new(), ListAsk { limit: 100, ..ListAsk::default() });
    for _ in 0..50 {
        let page = upstream.list(access, resource, &ask).await?;
        for range in &page.records.ranges {
            let record: Value = serde_json::from_slice(&page.body[range.clone()]).unwrap();
            ids.push(record["id"].as_str().unwrap().to_owned());
        }
        match page.next {
            Some(next) => ask.next = Some(next),
            None => return Ok(ids),
        }
    }
    panic!("a walk of 250 users did not end after 50 pages")
}

#[allow(clippy::disallowed_methods)]
async fn read(faults: Faults) -> Result<Vec<String>, Failure> {
    let (sandbox, server) = scim::start(faults).unwrap();
    tokio::spawn(server);
    let root = format!("http://{}", sandbox.addr);
    let bench = Bench::new(&root);
    let tested = bench.upstream.test(&access(&sandbox.base, &sandbox.token, Map::new())).await?;
    walk(&bench.upstream, &access(&sandbox.base, &sandbox.token, tested.facts)).await
}

#[tokio::test]
async fn an_honest_server_is_read_whole() {
    for faults in [
        Faults::default(),
        Faults { paging: Paging::Cursor, ..Faults::default() },
        Faults { has_config: false, ..Faults::default() },
        Faults { lie: Some(Lie::SlowDownTwice), ..Faults::default() },
    ] {
        let ids = read(faults.clone()).await.unwrap_or_else(|failure| panic!("{faults:?}: {failure:?}"));
        assert_eq!((ids.len(), ids.iter().collect::<BTreeSet<_>>().len()), (250, 250), "{faults:?}");
    }
}

#[tokio::test]
async fn no_lie_loses_or_repeats_a_record_unsaid() {
    for lie in [
        Lie::PageIgnored,
        Lie::FirstPageOnly,
        Lie::ItemsPerPageEchoed,
        Lie::FirstPageRepeated,
        Lie::HtmlPage,
        Lie::CutJson,
        Lie::EmptyPage,
    ] {
        for paging in [Paging::Index, Paging::Cursor] {
            match read(Faults { lie: Some(lie), paging, ..Faults::default() }).await {
                Ok(ids) => assert_eq!((ids.len(), ids.iter().collect::<BTreeSet<_>>().len()), (250, 250), "{lie:?} {paging:?}"),
                Err(Failure::PagingBroken(_) | Failure::BadAnswer(_)) => {}
                Err(failure) => panic!("{lie:?} {paging:?}: {failure:?}"),
            }
        }
    }
    let looped = read(Faults { lie: Some(Lie::CursorLoop), paging: Paging::Cursor, ..Faults::default() }).await;
    assert!(matches!(looped, Err(Failure::PagingBroken(_))), "{looped:?}");
}

#[tokio::test]
async fn a_wrong_token_is_refused() {
    let (sandbox, server) = scim::start(Faults::default()).unwrap();
    #[allow(clippy::disallowed_methods)]
    tokio::spawn(server);
    let bench = Bench::new(&format!("http://{}", sandbox.addr));
    let failure = bench.upstream.test(&access(&sandbox.base, "wrong", Map::new())).await.err().expect("a failure");
    assert!(rollcall::error::Error::from(failure).to_string().contains("reauth_required"));
}
