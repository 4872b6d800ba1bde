//! Link tokens from the inside: what is stored cannot be changed or moved, a lost node frees its link, and whatever is repeated
//! makes one account.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use rollcall::{
    app::Core,
    error::Code,
    model::{LinkId, Scope, Scopes},
    service::{
        Links, ListAccounts, NewToken,
        audit::AuditOutcome,
        link::{Attempt, Filled, NewLink, Session, View},
    },
    store::{Batch, Expect, Key, Slot, Write, repo},
    vault::SealMark,
};

use super::{
    audit::{entries, keys_of},
    inside, link as linked,
};
use crate::{
    e2e::vendor::{Mood, SECRET, Vendor},
    support::meddled::{Meddled, Point},
};

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
    send_to(&core.services.links, session, vendor, secret).await
}

async fn send_to(links: &Links, session: &Session, vendor: &Vendor, secret: &str) -> Result<String, Code> {
    let fields = [("base_url", vendor.base()), ("token", secret.to_owned())];
    let fields: BTreeMap<String, String> = fields.map(|(name, value)| (name.to_owned(), value)).into();
    let filled = Filled { integration: "scim".to_owned(), method: "bearer".to_owned(), fields, apart: false };
    match links.submit(session.clone(), filled).await {
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

/// A link to the account that stands, opened.
async fn relink(core: &Core, account: &str) -> (LinkId, Session) {
    let new = NewLink { integrated_account_id: Some(account.to_owned()), ..NewLink::default() };
    let made = core.services.links.create(core.environment, new).await.unwrap();
    (made.id, session(core, made.text.expose()).await)
}

/// How the last try to link ended, in the audit log.
async fn noted(core: &Core) -> (AuditOutcome, Option<String>) {
    assert!(core.tasks.wait(Duration::from_secs(10)).await);
    let all = entries(&core.services.audit, core.environment).await;
    let last = all.into_iter().find(|entry| entry.action == "integrated_account.link").unwrap();
    (last.outcome, last.code)
}

#[tokio::test]
async fn a_link_that_is_taken_back_while_the_vendor_thinks_stores_nothing() {
    let vendor = Vendor::start();
    let (_folder, _clock, core) = inside(&vendor).await;
    let (links, before) = (&core.services.links, linked(&core, &vendor).await.account.clone());
    let id = before.id.to_string();
    let (again, its) = relink(&core, &id).await;
    let (new, text) = make(&core).await;
    for (link, session) in [(again, its), (new, session(&core, &text).await)] {
        let asked = vendor.asked();
        vendor.set(Mood::Slow);
        let taken_back = async {
            while vendor.asked() == asked {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            links.cancel(core.environment, &link.to_string()).await
        };
        let (sent, taken_back) = tokio::join!(send(&core, &session, &vendor, SECRET), taken_back);
        assert_eq!((sent, taken_back.is_ok()), (Err(Code::InvalidToken), true));
        assert_eq!(noted(&core).await, (AuditOutcome::Failed, Some("invalid_token".to_owned())));
        assert_eq!(core.services.accounts.get(core.environment, &id).await.unwrap().generation, before.generation);
        assert_eq!(accounts(&core).await, 1);
    }
}

#[tokio::test]
async fn a_link_is_not_taken_back_while_its_account_is_stored() {
    let vendor = Vendor::start();
    let (_folder, clock, core) = inside(&vendor).await;
    let before = linked(&core, &vendor).await.account.clone();
    let id = before.id.to_string();
    let (link, its) = relink(&core, &id).await;
    assert_eq!(send(&core, &its, &vendor, "a-typo").await, Err(Code::CredentialRefused), "it is this browser's now");
    let (tell, told) = tokio::sync::oneshot::channel();
    let (theirs, environment) = (core.services.links.clone(), core.environment);
    let take_back = async move {
        let taken = theirs.cancel(environment, &link.to_string()).await.map_err(|error| error.code());
        tell.send(taken).unwrap();
    };
    // The first that is written of the link now is that its account is being stored.
    let store = Meddled::at(core.services.store.clone(), Point::Written("link"), take_back);
    let services = &core.services;
    let links = Links::new(
        repo::Links::new(store.clone()),
        keys_of(&core).await,
        (services.accounts.clone(), services.tokens.clone()),
        services.authorizations.clone(),
        (services.installs.clone(), services.audit.clone()),
        (core.tasks.clone(), clock.clone()),
    );
    assert_eq!(send_to(&links, &its, &vendor, SECRET).await, Ok(id.clone()));
    assert_eq!((store.0.is_done(), told.await.unwrap()), (true, Err(Code::Conflict)));
    assert_eq!(noted(&core).await, (AuditOutcome::Done, None));
    assert_eq!(services.accounts.get(environment, &id).await.unwrap().generation, before.generation + 1);

    // A node that is lost while it stores has the link in its hands for a while only.
    let (link, its) = relink(&core, &id).await;
    assert_eq!(send(&core, &its, &vendor, "a-typo").await, Err(Code::CredentialRefused));
    let sealed = services.links.seal_session(&its).unwrap();
    let (mut record, _) = services.links.resume(&sealed).await.unwrap_or_else(|error| panic!("{error}"));
    record.is_storing = true;
    let plain = serde_json::to_vec(&record).unwrap();
    put(&core, link, keys_of(&core).await.seal_for(SealMark::Link, &[b"record", link.0.as_bytes()], &plain).into()).await;
    let records = repo::Links::new(services.store.clone());
    assert!(records.hold(link, Duration::from_secs(15)).await.unwrap().is_some());
    let cancel = async || services.links.cancel(environment, &link.to_string()).await.map_err(|error| error.code());
    assert_eq!(cancel().await, Err(Code::Conflict));
    clock.advance(Duration::from_secs(16));
    assert_eq!(cancel().await, Ok(()));
    assert_eq!(send(&core, &its, &vendor, SECRET).await, Err(Code::InvalidToken));
}

#[tokio::test]
async fn a_link_ends_with_the_token_it_was_made_with() {
    let vendor = Vendor::start();
    let (_folder, clock, core) = inside(&vendor).await;
    let (tokens, links) = (&core.services.tokens, &core.services.links);
    let made_by = async |expires_at| {
        let new = NewToken { name: "maker".to_owned(), scopes: Scopes([Scope::LinksWrite].into()), expires_at };
        let (token, text) = tokens.create(core.environment, new).await.unwrap();
        let caller = tokens.authenticate(text.expose()).await.unwrap();
        let maker = tokens.shown_by(&caller).await.unwrap();
        let new = NewLink { tenant_id: Some("acme".to_owned()), maker, ..NewLink::default() };
        (token, links.create(core.environment, new).await.unwrap())
    };
    let (token, made) = made_by(None).await;
    let its = session(&core, made.text.expose()).await;
    assert_eq!(send(&core, &its, &vendor, "a-typo").await, Err(Code::CredentialRefused));
    let asked = vendor.asked();
    tokens.revoke(core.environment, &token.id.to_string()).await.unwrap();
    assert_eq!((send(&core, &its, &vendor, SECRET).await, vendor.asked()), (Err(Code::InvalidToken), asked));
    let (link, its) = links.open(made.text.expose(), View::default()).await.unwrap_or_else(|error| panic!("{error}"));
    assert!(links.why_over(&link, &its).await.unwrap().is_some(), "who opens it is told so");

    let end = clock_end(&clock, 600);
    let (_, made) = made_by(Some(end)).await;
    assert_eq!(made.expires_at, end, "it does not outlive it");
    let its = session(&core, made.text.expose()).await;
    clock.advance(Duration::from_secs(600));
    assert_eq!((send(&core, &its, &vendor, SECRET).await, accounts(&core).await), (Err(Code::InvalidToken), 0));
}

fn clock_end(clock: &crate::support::clock::ManualClock, seconds: i64) -> jiff::Timestamp {
    rollcall::model::Clock::now(clock) + jiff::SignedDuration::from_secs(seconds)
}

#[tokio::test]
async fn of_many_ways_to_a_vendor_the_oldest_end() {
    let vendor = Vendor::start();
    let (_folder, _clock, core) = inside(&vendor).await;
    core.services.authorizations.reached_at("http://127.0.0.1:9999");
    let (_, text) = make(&core).await;
    let its = session(&core, &text).await;
    let at = |path: &str| format!("http://{}{path}", vendor.authority());
    let fields = [
        ("base_url", vendor.base()),
        ("authorize_url", at("/auth")),
        ("token_url", at("/token")),
        ("client_id", "me".to_owned()),
        ("client_secret", "synthetic-secret".to_owned()),
    ];
    let fields: BTreeMap<_, _> = fields.map(|(name, value)| (name.to_owned(), value)).into();
    let mut ways = Vec::new();
    for _ in 0..10 {
        let filled = Filled { integration: "scim".to_owned(), method: "oauth2".to_owned(), fields: fields.clone(), apart: false };
        let Ok(Attempt::Elsewhere(begun)) = core.services.links.submit(its.clone(), filled).await else {
            panic!("not sent there")
        };
        ways.push(begun);
    }
    let mut waiting = Vec::new();
    for begun in &ways {
        let state = begun.url.query_pairs().find(|(name, _)| name == "state").unwrap().1.into_owned();
        let query = vec![("state".to_owned(), state), ("code".to_owned(), "the-code".to_owned())];
        waiting.push(core.services.authorizations.take_back("scim", query, Some(begun.binding.expose())).await.is_ok());
    }
    assert_eq!(waiting, [[false; 2].as_slice(), &[true; 8]].concat());
}
