//! Link tokens from the inside: what is stored cannot be changed or moved, a lost node frees its link, and whatever is repeated
//! makes one account.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use rollcall::{
    app::Core,
    error::Code,
    model::LinkId,
    service::{
        ListAccounts,
        link::{Attempt, Filled, NewLink, Session, View},
    },
    store::{Batch, Expect, Key, Slot, Write, repo},
};

use super::inside;
use crate::e2e::vendor::{Mood, SECRET, Vendor};

fn key(link: LinkId) -> Key {
    Key { slot: Slot::new(format!("link:{link}")), name: "link".to_owned() }
}

async fn bytes(core: &Core, link: LinkId) -> Bytes {
    core.services.store.get(&key(link)).await.unwrap().unwrap().value
}

async fn put(core: &Core, link: LinkId, value: Bytes) {
    let Key { slot, name } = key(link);
    let writes = vec![Write::Put { name, value, ttl: Some(Duration::from_secs(3600)), expect: Expect::Any }];
    core.services.store.commit(Batch { slot, fence: None, writes }).await.unwrap();
}

async fn make(core: &Core) -> (LinkId, String) {
    let new = NewLink { tenant_id: Some("acme".to_owned()), ..NewLink::default() };
    let made = core.services.links.create(core.environment, new).await.unwrap();
    (made.id, made.text.expose().to_owned())
}

async fn session(core: &Core, text: &str) -> Session {
    core.services.links.open(text, View::default()).await.unwrap_or_else(|error| panic!("{error}")).1
}

/// Sends the form; the id of the account, or why there is none.
async fn send(core: &Core, session: &Session, vendor: &Vendor, secret: &str) -> Result<String, Code> {
    let fields = [("base_url", vendor.base()), ("token", secret.to_owned())];
    let fields: BTreeMap<String, String> = fields.map(|(name, value)| (name.to_owned(), value)).into();
    let filled = Filled { integration: "scim".to_owned(), method: "bearer".to_owned(), fields, apart: false };
    match core.services.links.submit(session.clone(), filled).await {
        Ok(Attempt::Linked(account, _)) => Ok(account.id.to_string()),
        Ok(Attempt::Fields(problems)) => panic!("{problems:?}"),
        Ok(Attempt::Elsewhere(_)) => panic!("no browser is needed"),
        Err(error) => Err(error.code()),
    }
}

async fn accounts(core: &Core) -> usize {
    let all = ListAccounts { limit: 10, ..ListAccounts::default() };
    core.services.accounts.list(core.environment, all).await.unwrap().0.len()
}

#[tokio::test]
async fn r_13_a_stored_link_cannot_be_changed_or_moved() {
    let vendor = Vendor::start();
    let (_folder, _clock, core) = inside(&vendor).await;
    let ((first, text), (second, _)) = (make(&core).await, make(&core).await);
    let kept = bytes(&core, first).await;
    assert!(!kept.windows(4).any(|part| part == b"acme"), "what a link is for is readable in the store");
    let open = async || core.services.links.open(&text, View::default()).await.err().map(|error| error.code());
    put(&core, first, bytes(&core, second).await).await;
    assert_eq!(open().await, Some(Code::InvalidToken), "another link's record");
    for at in [0, 1, kept.len() / 2, kept.len() - 1] {
        let mut changed = kept.to_vec();
        changed[at] ^= 1;
        put(&core, first, changed.into()).await;
        assert_eq!(open().await, Some(Code::InvalidToken), "byte {at}");
    }
    put(&core, first, kept).await;
    assert_eq!(open().await, None);
}

#[tokio::test]
async fn r_13_a_link_ends_at_its_time_and_its_page_with_it() {
    let vendor = Vendor::start();
    let (_folder, clock, core) = inside(&vendor).await;
    let links = &core.services.links;
    let (_, text) = make(&core).await;
    let (link, session) = links.open(&text, View::default()).await.unwrap_or_else(|error| panic!("{error}"));
    let sealed = links.seal_session(&session).unwrap();
    clock.advance(Duration::from_secs(1799));
    assert!(links.check(&link, Some(&session)).await.is_ok() && links.resume(&sealed).await.is_ok());
    clock.advance(Duration::from_secs(1));
    assert_eq!(send(&core, &session, &vendor, SECRET).await, Err(Code::InvalidToken));
    assert_eq!(links.resume(&sealed).await.err().map(|error| error.code()), Some(Code::InvalidToken));
    let (link, _) = links.open(&text, View::default()).await.unwrap_or_else(|_| panic!("who opened it late is told so"));
    assert_eq!(links.check(&link, None).await.err().map(|error| error.code()), Some(Code::InvalidToken));
    assert_eq!((accounts(&core).await, vendor.asked()), (0, 0));
    clock.advance(Duration::from_secs(3601));
    assert!(links.open(&text, View::default()).await.is_err());
}

#[tokio::test]
async fn r_13_a_lost_node_frees_its_link_and_a_repeated_end_makes_no_second_account() {
    let vendor = Vendor::start();
    let (_folder, clock, core) = inside(&vendor).await;
    let (id, text) = make(&core).await;
    let session = session(&core, &text).await;
    // A node that was lost with the link in its hands.
    let records = repo::Links::new(core.services.store.clone());
    assert!(records.hold(id, Duration::from_secs(15)).await.unwrap().is_some());
    assert_eq!(send(&core, &session, &vendor, SECRET).await, Err(Code::Conflict));
    clock.advance(Duration::from_secs(16));
    assert_eq!(send(&core, &session, &vendor, "a-typo").await, Err(Code::CredentialRefused));
    let bound = bytes(&core, id).await;
    let linked = send(&core, &session, &vendor, SECRET).await.unwrap();
    assert_eq!(send(&core, &session, &vendor, SECRET).await, Err(Code::InvalidToken));
    // A node that was lost between the account and the end of the link.
    put(&core, id, bound).await;
    assert_eq!(send(&core, &session, &vendor, SECRET).await, Ok(linked));
    assert_eq!(accounts(&core).await, 1);
}

/// The id of a link's account is chosen before the first try. A node that was lost halfway must not cost the customer that id.
#[tokio::test]
async fn r_13_a_try_that_was_lost_halfway_is_swept_and_the_link_goes_on() {
    let vendor = Vendor::start();
    let (_folder, _clock, core) = inside(&vendor).await;
    let (_, text) = make(&core).await;
    let session = session(&core, &text).await;
    assert_eq!(send(&core, &session, &vendor, "a-typo").await, Err(Code::CredentialRefused));
    let (link, _) = core.services.links.open(&text, View::default()).await.unwrap_or_else(|error| panic!("{error}"));
    let account = link.bound().unwrap().account;
    // Listed, but without a record: there the node was lost.
    let entry = Write::Put { name: format!("account/{account}"), value: Bytes::new(), ttl: None, expect: Expect::Any };
    let slot = Slot::new(format!("env:{}", core.environment));
    core.services.store.commit(Batch { slot, fence: None, writes: vec![entry] }).await.unwrap();
    let records = repo::Accounts::new(core.services.store.clone());
    assert_eq!(records.sweep_index(core.environment).await.unwrap(), 1);
    assert_eq!(send(&core, &session, &vendor, SECRET).await, Ok(account.to_string()));
    assert_eq!(accounts(&core).await, 1);
}

#[tokio::test]
async fn r_13_the_first_browser_that_sends_the_form_has_the_link() {
    let vendor = Vendor::start();
    let (_folder, _clock, core) = inside(&vendor).await;
    let (id, text) = make(&core).await;
    let (first, second) = (session(&core, &text).await, session(&core, &text).await);
    assert_eq!(send(&core, &first, &vendor, "a-typo").await, Err(Code::CredentialRefused));
    assert_eq!(send(&core, &second, &vendor, SECRET).await, Err(Code::InvalidToken));
    // The same browser opens the link once more.
    let links = &core.services.links;
    let sealed = links.seal_session(&first).unwrap();
    let mut again = session(&core, &text).await;
    links.go_on(&mut again, Some(&sealed));
    assert!(links.is_of(&again, Some(&sealed)) && !links.is_of(&second, Some(&sealed)));
    assert!(send(&core, &again, &vendor, SECRET).await.is_ok());
    // What was used stays used when it is taken back.
    links.cancel(core.environment, &id.to_string()).await.unwrap();
    let (link, _) = links.open(&text, View::default()).await.unwrap_or_else(|error| panic!("{error}"));
    assert!(link.used_by(first.id).is_some());
    let (_, other) = make(&core).await;
    let mut stranger = session(&core, &other).await;
    let own = stranger.id;
    links.go_on(&mut stranger, Some(&sealed));
    assert_eq!(stranger.id, own, "a cookie of another link");
}

/// The entry in the audit log cannot be written when the account is there: that is said, and the link is used up.
#[tokio::test]
async fn a_link_is_used_up_although_its_entry_cannot_be_written() {
    let vendor = Vendor::start();
    let (_folder, _clock, core) = inside(&vendor).await;
    let (_, text) = make(&core).await;
    let session = session(&core, &text).await;
    vendor.set(Mood::Slow);
    let spoiled = async {
        while vendor.asked() == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let slot = Slot::new(format!("audit:{}", core.environment));
        let write = Write::Put { name: "head".to_owned(), value: Bytes::from("nonsense"), ttl: None, expect: Expect::Any };
        core.services.store.commit(Batch { slot, fence: None, writes: vec![write] }).await.unwrap();
    };
    let (sent, ()) = tokio::join!(send(&core, &session, &vendor, SECRET), spoiled);
    assert_eq!((sent, accounts(&core).await), (Err(Code::StoreUnavailable), 1), "it was done");
    vendor.set(Mood::Good);
    assert_eq!(send(&core, &session, &vendor, SECRET).await, Err(Code::InvalidToken), "it is used up");
    assert_eq!(accounts(&core).await, 1);
}
